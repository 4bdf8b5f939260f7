//! How one label's score depends on the embedding: what a class activation map needs to know of a head.
//!
//! The score is the value before the sigmoid (or softmax): a sum of evidence, whose gradient does not vanish where the
//! network is sure. For one Dense layer, a trained head or a linear probe the gradient is a row of weights, the same
//! for every image; for several Dense layers it is the chain rule at this image's embedding.
//!
//! Every explained score carries a description, so that no picture leaves without saying what it explains.

use std::sync::Arc;

use chestnut_forest::LinearProbe;
use chestnut_train::TrainedHead;
use chestnut_zoo::{Activation, Head, Weights};

use super::ExplainError;

/// A score that can be explained.
#[derive(Clone, Debug)]
pub struct ExplainedHead {
    description: String,
    score: Score,
}

/// How the score follows from the embedding.
#[derive(Clone, Debug)]
enum Score {
    /// bias + weights . embedding.
    Linear { weights: Vec<f64>, bias: f64 },
    /// Output `output` of the last layer, before its activation.
    Layers { layers: Arc<[Dense]>, output: usize },
}

/// A Dense layer with its weights.
#[derive(Clone, Debug)]
struct Dense {
    units: usize,
    activation: Activation,
    /// `[input][unit]`.
    kernel: Vec<f32>,
    /// `[unit]`.
    bias: Vec<f32>,
}

impl ExplainedHead {
    /// bias + weights . embedding; `description` names it, such as `logistic regression on xception, Edema`.
    #[must_use]
    pub fn linear(description: impl Into<String>, weights: Vec<f64>, bias: f64) -> Self {
        Self { description: description.into(), score: Score::Linear { weights, bias } }
    }

    /// Label number `output` (called `label`) of a head that was trained on frozen embeddings.
    ///
    /// # Errors
    /// [`ExplainError::Output`] if the head has no such output.
    pub fn trained(head: &TrainedHead, output: usize, label: &str) -> Result<Self, ExplainError> {
        let count = head.bias.len();
        let bias =
            *head.bias.get(output).ok_or(ExplainError::Output { what: "the fine-tuned head", found: output, count })?;
        ExplainError::check_length("the fine-tuned head's kernel", head.kernel.len(), head.width * count)?;
        let weights = head.kernel.iter().skip(output).step_by(count).copied().collect();
        Ok(Self::linear(format!("fine-tuned head, {label}"), weights, bias))
    }

    /// Label number `output` (called `label`) of a logistic regression on the embedding of `network`. The probe's
    /// weights are those for features as they are: its standardisation is folded into them already.
    ///
    /// # Errors
    /// [`ExplainError`] if the probe has no such output or does not hold together.
    pub fn probe(probe: &LinearProbe, output: usize, network: &str, label: &str) -> Result<Self, ExplainError> {
        let what = "the logistic regression";
        ExplainError::check_length(what, probe.weights.len(), probe.width * probe.outputs)?;
        let bias = *probe.intercepts.get(output).filter(|_| output < probe.outputs).ok_or(ExplainError::Output {
            what,
            found: output,
            count: probe.outputs,
        })?;
        let weights = probe.weights[output * probe.width..][..probe.width].to_vec();
        Ok(Self::linear(format!("logistic regression on {network}, {label}"), weights, bias))
    }

    /// What is explained, in words for captions and reports.
    #[must_use]
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// Width of the embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        match &self.score {
            Score::Linear { weights, .. } => weights.len(),
            Score::Layers { layers, .. } => inputs(layers),
        }
    }

    /// The score: a logit, before the sigmoid or softmax.
    ///
    /// # Errors
    /// [`ExplainError::Length`] for an embedding of another width.
    pub fn score(&self, embedding: &[f32]) -> Result<f64, ExplainError> {
        ExplainError::check_length("the embedding", embedding.len(), self.width())?;
        Ok(match &self.score {
            Score::Linear { weights, bias } => {
                bias + weights.iter().zip(embedding).map(|(w, &x)| w * f64::from(x)).sum::<f64>()
            }
            Score::Layers { layers, output } => sums(layers, embedding).last().map_or(0.0, |z| z[*output]),
        })
    }

    /// Derivative of the score by each feature of the embedding, at this embedding. A ReLU at exactly 0 passes nothing
    /// on, as in Keras.
    ///
    /// # Errors
    /// [`ExplainError::Length`] for an embedding of another width.
    pub fn gradient(&self, embedding: &[f32]) -> Result<Vec<f64>, ExplainError> {
        ExplainError::check_length("the embedding", embedding.len(), self.width())?;
        let (layers, output) = match &self.score {
            Score::Linear { weights, .. } => return Ok(weights.clone()),
            Score::Layers { layers, output } => (layers, *output),
        };
        let sums = sums(layers, embedding);
        let mut gradient = vec![0.0; layers.last().map_or(0, |l| l.units)];
        gradient[output] = 1.0;
        for (i, layer) in layers.iter().enumerate().rev() {
            // From the layer's sums to its inputs, then through the activation that made those inputs.
            gradient = layer
                .kernel
                .chunks_exact(layer.units)
                .map(|row| row.iter().zip(&gradient).map(|(&k, g)| f64::from(k) * g).sum())
                .collect();
            if i > 0 {
                through_activation(layers[i - 1].activation, &sums[i - 1], &mut gradient);
            }
        }
        Ok(gradient)
    }
}

/// The head that a network came with, ready to be explained.
#[derive(Clone, Debug)]
pub struct SourceHead {
    layers: Arc<[Dense]>,
    labels: Vec<String>,
}

impl SourceHead {
    /// Takes the head's kernels and biases (`head.0.kernel`, `head.0.bias`, ...) out of a network's weights. `width` is
    /// that of the embedding. An engine uses weights up, so this comes first.
    ///
    /// # Errors
    /// [`ExplainError::Head`] without a head or with tensors that do not fit it.
    pub fn new(head: &Head, weights: &Weights, width: usize) -> Result<Self, ExplainError> {
        if head.layers.is_empty() {
            return Err(ExplainError::Head(
                "it has none; fine-tune one on your own labels and explain that, or add weights with a head".to_owned(),
            ));
        }
        let mut inputs = width;
        let mut layers = Vec::with_capacity(head.layers.len());
        for (i, layer) in head.layers.iter().enumerate() {
            let tensor = |kind: &str, shape: &[usize]| {
                let name = format!("head.{i}.{kind}");
                match weights.get(&name) {
                    None => Err(ExplainError::Head(format!("tensor {name} is missing"))),
                    Some(t) if t.shape != shape || t.data.len() != shape.iter().product::<usize>() => {
                        Err(ExplainError::Head(format!("tensor {name} is {:?}, needed {shape:?}", t.shape)))
                    }
                    Some(t) => Ok(t.data.clone()),
                }
            };
            if layer.units == 0 {
                return Err(ExplainError::Head(format!("layer head.{i} has no outputs")));
            }
            let kernel = tensor("kernel", &[inputs, layer.units])?;
            let bias = tensor("bias", &[layer.units])?;
            layers.push(Dense { units: layer.units, activation: layer.activation, kernel, bias });
            inputs = layer.units;
        }
        Ok(Self { layers: layers.into(), labels: head.output_names() })
    }

    /// The labels of the outputs, in order.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The score of output number `output`.
    ///
    /// # Errors
    /// [`ExplainError::Output`] if there is none with this number.
    pub fn label(&self, output: usize) -> Result<ExplainedHead, ExplainError> {
        let name = self.name(output)?;
        Ok(self.explained(output, format!("source head, {name}")))
    }

    /// The score behind a local label that is the maximum over a group of source labels (the paper's Table 3): that of
    /// the group's member with the largest probability for this image; the first of equals.
    ///
    /// `group` holds numbers of outputs, `local` is the local label's name. `probabilities` has one value per output:
    /// this network's own, or the mean over the networks where one finding is to be explained by all of them.
    ///
    /// # Errors
    /// [`ExplainError`] if the group is empty or names outputs that do not exist, or a probability is not a number.
    pub fn through_map(
        &self,
        local: &str,
        group: &[usize],
        probabilities: &[f32],
    ) -> Result<ExplainedHead, ExplainError> {
        ExplainError::check_length("the probabilities of the source head", probabilities.len(), self.labels.len())?;
        let mut largest: Option<(usize, f32)> = None;
        for &member in group {
            self.name(member)?;
            let p = probabilities[member];
            if p.is_nan() {
                return Err(ExplainError::NotFinite { what: "the probabilities of the source head", at: member });
            }
            if largest.is_none_or(|(_, top)| p > top) {
                largest = Some((member, p));
            }
        }
        let (output, _) = largest.ok_or_else(|| {
            ExplainError::Head(format!("no source label is mapped to {local}; complete the label map"))
        })?;
        let name = self.name(output)?;
        let description = match group {
            [_] => format!("source head, {name} (for {local})"),
            _ => format!("source head, {name} (largest of {local} group)"),
        };
        Ok(self.explained(output, description))
    }

    fn name(&self, output: usize) -> Result<&str, ExplainError> {
        let count = self.labels.len();
        self.labels.get(output).map(String::as_str).ok_or(ExplainError::Output {
            what: "the source head",
            found: output,
            count,
        })
    }

    /// One layer is a row of weights; more stay layers.
    fn explained(&self, output: usize, description: String) -> ExplainedHead {
        let score = match &*self.layers {
            [only] => Score::Linear {
                weights: only.kernel.iter().skip(output).step_by(only.units).map(|&k| f64::from(k)).collect(),
                bias: f64::from(only.bias[output]),
            },
            _ => Score::Layers { layers: Arc::clone(&self.layers), output },
        };
        ExplainedHead { description, score }
    }
}

/// Width that the first layer reads.
fn inputs(layers: &[Dense]) -> usize {
    layers.first().map_or(0, |l| l.kernel.len() / l.units)
}

/// Sums of every layer, before its activation.
fn sums(layers: &[Dense], embedding: &[f32]) -> Vec<Vec<f64>> {
    let mut all: Vec<Vec<f64>> = Vec::with_capacity(layers.len());
    let mut x: Vec<f64> = embedding.iter().map(|&v| f64::from(v)).collect();
    for layer in layers {
        let mut z: Vec<f64> = layer.bias.iter().map(|&b| f64::from(b)).collect();
        for (v, row) in x.iter().zip(layer.kernel.chunks_exact(layer.units)) {
            z.iter_mut().zip(row).for_each(|(z, &k)| *z += v * f64::from(k));
        }
        x = activated(layer.activation, &z);
        all.push(z);
    }
    all
}

/// Output of an activation.
fn activated(activation: Activation, z: &[f64]) -> Vec<f64> {
    match activation {
        Activation::Linear => z.to_vec(),
        Activation::Relu => z.iter().map(|v| v.max(0.0)).collect(),
        Activation::Sigmoid => z.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
        Activation::Softmax => {
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = z.iter().map(|v| (v - top).exp()).collect();
            let total: f64 = powers.iter().sum();
            powers.into_iter().map(|p| p / total).collect()
        }
    }
}

/// Turns a derivative by an activation's outputs into one by its sums `z`.
fn through_activation(activation: Activation, z: &[f64], gradient: &mut [f64]) {
    match activation {
        Activation::Linear => {}
        Activation::Relu => gradient.iter_mut().zip(z).for_each(|(g, &z)| *g = if z > 0.0 { *g } else { 0.0 }),
        Activation::Sigmoid => {
            let s = activated(activation, z);
            gradient.iter_mut().zip(s).for_each(|(g, s)| *g *= s * (1.0 - s));
        }
        Activation::Softmax => {
            let p = activated(activation, z);
            let mean: f64 = gradient.iter().zip(&p).map(|(g, p)| g * p).sum();
            gradient.iter_mut().zip(p).for_each(|(g, p)| *g = p * (*g - mean));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;
    use chestnut_zoo::{HeadLayer, Tensor};

    /// A head of these layers on an embedding of 6, with drawn weights.
    fn drawn(draw: &mut Stream, layers: &[(usize, Activation)]) -> SourceHead {
        let mut weights = Weights::new();
        let mut inputs = 6;
        for (i, &(units, _)) in layers.iter().enumerate() {
            for (kind, shape) in [("kernel", vec![inputs, units]), ("bias", vec![units])] {
                let data = (0..shape.iter().product::<usize>()).map(|_| draw.normal() as f32).collect();
                weights.insert(format!("head.{i}.{kind}"), Tensor { shape, data });
            }
            inputs = units;
        }
        let layers = layers.iter().map(|&(units, activation)| HeadLayer { units, activation }).collect();
        let head = Head { layers, labels: Vec::new() };
        SourceHead::new(&head, &weights, 6).expect("fits")
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let mut draw = Stream::keyed(1, "explain head");
        let heads: [&[(usize, Activation)]; 4] = [
            &[(3, Activation::Sigmoid)],
            &[(8, Activation::Relu), (3, Activation::Sigmoid)],
            &[(5, Activation::Sigmoid), (7, Activation::Relu), (3, Activation::Softmax)],
            &[(4, Activation::Softmax), (5, Activation::Linear), (3, Activation::Linear)],
        ];
        for layers in heads {
            let source = drawn(&mut draw, layers);
            let x: Vec<f32> = (0..6).map(|_| draw.normal() as f32).collect();
            for output in 0..3 {
                let head = source.label(output).expect("there");
                let gradient = head.gradient(&x).expect("fits");
                assert_eq!(gradient.len(), 6);
                for (i, g) in gradient.iter().enumerate() {
                    let moved = |by: f32| {
                        let mut x = x.clone();
                        x[i] += by;
                        (f64::from(x[i]), head.score(&x).expect("fits"))
                    };
                    let ((a, up), (b, down)) = (moved(1e-3), moved(-1e-3));
                    assert!(((up - down) / (a - b) - g).abs() < 1e-4, "{layers:?} output {output} feature {i}");
                }
            }
        }
    }

    #[test]
    fn the_largest_of_a_group_is_explained() {
        let source = drawn(&mut Stream::keyed(2, "explain head"), &[(4, Activation::Sigmoid)]);
        let p = [0.1_f32, 0.7, 0.7, 0.9];
        let head = source.through_map("Pleura", &[0, 2, 1], &p).expect("there");
        assert_eq!(head.describe(), "source head, output_2 (largest of Pleura group)");
        let row = source.label(2).expect("there");
        let x = [1.0_f32; 6];
        assert_eq!(head.gradient(&x), row.gradient(&x));
        assert_eq!(head.score(&x), row.score(&x));
        assert!(source.through_map("PNX", &[3], &p).expect("there").describe().ends_with("(for PNX)"));
        assert!(source.through_map("PNX", &[], &p).is_err());
        assert!(source.through_map("PNX", &[4], &p).is_err());
        assert!(source.through_map("PNX", &[0], &p[1..]).is_err());
        assert!(source.through_map("PNX", &[0, 1], &[0.2, f32::NAN, 0.0, 0.0]).is_err());
        assert!(row.gradient(&[0.0; 5]).is_err() && row.score(&[0.0; 7]).is_err());
    }

    #[test]
    fn trained_heads_and_probes_give_their_own_logits() {
        let trained = TrainedHead {
            width: 2,
            kernel: vec![1.0, 2.0, 3.0, -4.0, 5.0, 6.0],
            bias: vec![0.5, 0.25, 0.0],
            history: Vec::new(),
            best: 0,
        };
        let x = [0.5_f32, -1.0];
        for (k, p) in trained.predict(&x).into_iter().enumerate() {
            let head = ExplainedHead::trained(&trained, k, "Edema").expect("there");
            assert!((1.0 / (1.0 + (-head.score(&x).expect("fits")).exp()) - p).abs() < 1e-12);
        }
        let probe = LinearProbe {
            width: 2,
            outputs: 2,
            lambdas: vec![1.0; 2],
            weights: vec![1.0, 2.0, 3.0, 4.0],
            intercepts: vec![0.0, 0.5],
        };
        let head = ExplainedHead::probe(&probe, 1, "xception", "Edema").expect("there");
        assert_eq!(head.describe(), "logistic regression on xception, Edema");
        assert_eq!(head.gradient(&x).expect("fits"), [3.0, 4.0]);
        assert_eq!(head.score(&x), Ok(-2.0));
        assert!(ExplainedHead::probe(&probe, 2, "xception", "Edema").is_err());
        assert!(ExplainedHead::trained(&trained, 3, "Edema").is_err());
    }

    #[test]
    fn heads_that_do_not_fit_are_named() {
        let none = SourceHead::new(&Head::none(), &Weights::new(), 6).expect_err("no head").to_string();
        assert!(none.contains("fine-tune"), "{none}");
        let head = Head { layers: vec![HeadLayer { units: 2, activation: Activation::Sigmoid }], labels: vec![] };
        let missing = SourceHead::new(&head, &Weights::new(), 6).expect_err("no weights").to_string();
        assert!(missing.contains("head.0.kernel"), "{missing}");
        let tensor = Tensor { shape: vec![5, 2], data: vec![0.0; 10] };
        let weights = Weights::from([("head.0.kernel".to_owned(), tensor)]);
        let wrong = SourceHead::new(&head, &weights, 6).expect_err("another width").to_string();
        assert!(wrong.contains("[5, 2], needed [6, 2]"), "{wrong}");
    }
}
