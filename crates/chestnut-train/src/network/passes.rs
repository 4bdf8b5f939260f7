//! Forward and backward over the steps of a [`Plan`].
//!
//! Forward fills the roots in order. Backward walks the steps in reverse: a step's gradient is complete when its turn
//! comes, because all its readers came before. It is settled (see `norm`), gives the gradients of the step's own tensors,
//! and is taken back through each input's view.

mod backward;

use super::convolution::{self, Geometry, Target};
use super::norm::{Affine, Moments, Reader, Statistics};
use super::plan::{Plan, Step, View, Work};
use super::pool;
use super::tensors::Tensors;
use crate::learner::{TrainError, Trained};
use chestnut_nn::training::Kernels;
use chestnut_zoo::graph::{NodeId, Op, Shape};
use chestnut_zoo::{Activation, Graph};

/// What a forward pass leaves behind.
#[derive(Debug, Default)]
pub(super) struct Tape {
    batch: usize,
    shapes: Vec<Shape>,
    /// Values of each root; kept from step to step, so that memory is asked for once.
    values: Vec<Vec<f32>>,
    statistics: Vec<Statistics>,
    /// Buffers that no gradient uses now.
    free: Vec<Vec<f32>>,
}

impl Tape {
    /// A buffer of zeros.
    fn zeros(&mut self, len: usize) -> Vec<f32> {
        let fits = self.free.iter().enumerate().filter(|(_, v)| v.capacity() >= len).min_by_key(|(_, v)| v.capacity());
        let mut buffer = match fits.map(|(i, _)| i) {
            Some(i) => self.free.swap_remove(i),
            // The largest one grows, so that few buffers serve all.
            None => self.free.pop().unwrap_or_default(),
        };
        buffer.clear();
        buffer.resize(len, 0.0);
        buffer
    }

    fn recycle(&mut self, buffer: Vec<f32>) {
        let at = self.free.partition_point(|v| v.capacity() <= buffer.capacity());
        self.free.insert(at, buffer);
    }
}

/// A graph with what is known before any image is seen.
#[derive(Debug)]
pub(super) struct Passes {
    pub(super) graph: Graph,
    plan: Plan,
    k: Kernels,
    /// Which nodes learn.
    learns: Vec<bool>,
    /// Which steps have to be taken back.
    wanted: Vec<bool>,
    /// Which roots' gradients are wanted.
    roots: Vec<bool>,
    /// Which roots are read through a normalisation that uses the batch's statistics.
    observed: Vec<bool>,
    output: NodeId,
}

/// Whether every Dense layer applies what the loss and the way back know: the loss takes the sums of the last one and has
/// the sigmoid in it; between layers there is ReLU or nothing.
fn check_head(graph: &Graph, output: NodeId) -> Result<(), TrainError> {
    for (id, node) in graph.nodes.iter().enumerate() {
        let Op::Dense { activation, .. } = node.op else { continue };
        let (known, needed) = if id == output {
            (
                Activation::Sigmoid,
                "binary cross-entropy needs one probability per label: a sigmoid, or the sums before it",
            )
        } else {
            (Activation::Relu, "between Dense layers only relu and linear can be taught")
        };
        if activation != known && activation != Activation::Linear {
            let (name, applies) = (&node.name, format!("{activation:?}").to_lowercase());
            return Err(TrainError::Shape(format!("{name} of {} applies {applies}; {needed}", graph.name)));
        }
    }
    Ok(())
}

impl Passes {
    pub(super) fn new(graph: &Graph, trained: &Trained, k: Kernels) -> Result<Self, TrainError> {
        let plan = Plan::new(graph)?;
        let Some(output) = graph.output else {
            return Err(TrainError::Shape(format!("{} has no head to be taught", graph.name)));
        };
        check_head(graph, output)?;
        let learns: Vec<bool> = (0..graph.nodes.len()).map(|id| trained.contains(id)).collect();
        let mut observed = vec![false; plan.roots.len()];
        for view in &plan.views {
            observed[view.root] |= view.parts.iter().any(|p| p.norm.is_some_and(|n| learns[n]));
        }
        let (roots, wanted) = (vec![false; plan.roots.len()], Vec::with_capacity(plan.steps.len()));
        let mut passes = Self { graph: graph.clone(), plan, k, learns, wanted, roots, observed, output };
        for step in passes.plan.steps.clone() {
            let own = step.work == Work::Node && passes.learns[step.node] && passes.has_tensors(step.node);
            let wanted = own || passes.inputs(&step).iter().any(|(v, _)| passes.wants(v));
            passes.wanted.push(wanted);
            passes.roots[step.root] |= wanted;
        }
        Ok(passes)
    }

    fn has_tensors(&self, id: NodeId) -> bool {
        matches!(self.graph.nodes[id].op, Op::Conv { .. } | Op::Depthwise { .. } | Op::Dense { .. })
    }

    /// Whether a gradient has to go back through this view.
    fn wants(&self, view: &View) -> bool {
        self.roots[view.root] || view.parts.iter().any(|p| p.norm.is_some_and(|n| self.learns[n]))
    }

    /// What a step reads, with factors.
    fn inputs(&self, step: &Step) -> Vec<(View, f32)> {
        match &step.work {
            Work::Sum(terms) => terms.clone(),
            Work::Node => {
                self.graph.nodes[step.node].inputs.iter().map(|&i| (self.plan.views[i].clone(), 1.0)).collect()
            }
        }
    }

    /// What a view does to the values that it reads.
    fn affine(&self, view: &View, tensors: &Tensors, statistics: &[Statistics], training: bool) -> Affine {
        let mut affine = Affine::identity(view);
        let mut at = 0;
        for part in &view.parts {
            if let Some(norm) = part.norm {
                let batch = training && self.learns[norm];
                let name = &self.graph.nodes[norm].name;
                let (gamma, beta) = (tensors.get(name, "gamma"), tensors.get(name, "beta"));
                let (mean, variance) = if batch {
                    let (s, from) = (&statistics[view.root], view.first + at);
                    (&s.mean[from..from + part.channels], &s.variance[from..from + part.channels])
                } else {
                    (tensors.get(name, "moving_mean"), tensors.get(name, "moving_variance"))
                };
                let epsilon = self.epsilon(norm);
                for c in 0..part.channels {
                    let scale = gamma.get(c).unwrap_or(&1.0) / (variance[c] + epsilon).sqrt();
                    affine.scale[at + c] = scale;
                    affine.shift[at + c] = beta[c] - mean[c] * scale;
                }
            }
            at += part.channels;
        }
        affine
    }

    fn epsilon(&self, norm: NodeId) -> f32 {
        match self.graph.nodes[norm].op {
            Op::BatchNorm { epsilon, .. } => epsilon,
            _ => unreachable!("only normalisations stand in a part"),
        }
    }

    fn geometry(&self, id: NodeId, tape: &Tape) -> Option<Geometry> {
        let node = &self.graph.nodes[id];
        match &node.op {
            Op::Conv { window, .. } | Op::Depthwise { window } | Op::MaxPool(window) | Op::AvgPool(window) => {
                Some(Geometry::new(window, tape.batch, tape.shapes[node.inputs[0]], tape.shapes[id]))
            }
            _ => None,
        }
    }

    /// Runs all steps; the sums of the last Dense layer are then [`Passes::logits`].
    pub(super) fn forward(
        &self,
        tensors: &Tensors,
        images: &[f32],
        [height, width]: [usize; 2],
        training: bool,
        tape: &mut Tape,
    ) -> Result<(), TrainError> {
        tape.shapes = self.graph.shapes(height, width).map_err(|e| TrainError::Shape(e.to_string()))?;
        let image = height * width * self.graph.input_channels();
        if images.is_empty() || !images.len().is_multiple_of(image) {
            return Err(TrainError::Shape(format!(
                "{} values are no whole number of images of {height} x {width} x {}",
                images.len(),
                self.graph.input_channels()
            )));
        }
        tape.batch = images.len() / image;
        tape.values.resize(self.plan.roots.len(), Vec::new());
        tape.statistics = self.plan.roots.iter().map(|r| Statistics::new(r.channels)).collect();
        for step in &self.plan.steps {
            let root = &self.plan.roots[step.root];
            let like = tape.shapes[root.like];
            let mut values = std::mem::take(&mut tape.values[step.root]);
            values.resize(tape.batch * like.height * like.width * root.channels, 0.0);
            let observe = training && self.observed[step.root];
            let target = Target { values: &mut values, row: root.channels, first: step.first };
            let moments = self.compute(step, tensors, images, training, tape, target, observe);
            tape.values[step.root] = values;
            if let Some(moments) = moments {
                tape.statistics[step.root].set(step.first, &moments);
            }
        }
        Ok(())
    }

    /// Sums of the last Dense layer, `[image][output]`.
    pub(super) fn logits<'a>(&self, tape: &'a Tape) -> &'a [f32] {
        &tape.values[self.plan.views[self.output].root]
    }

    /// The value of one step.
    #[expect(clippy::too_many_arguments, reason = "what a step reads, what it writes, and how")]
    fn compute(
        &self,
        step: &Step,
        tensors: &Tensors,
        images: &[f32],
        training: bool,
        tape: &Tape,
        to: Target<'_>,
        observe: bool,
    ) -> Option<Moments> {
        let k = self.k;
        let terms = self.inputs(step);
        let affines: Vec<Affine> =
            terms.iter().map(|(v, _)| self.affine(v, tensors, &tape.statistics, training)).collect();
        let mut readers: Vec<(Reader<'_>, f32)> =
            terms.iter().zip(&affines).map(|((v, f), a)| (self.reader(v, a, tape), *f)).collect();
        if let Work::Sum(_) = step.work {
            return pool::sum(k, &readers, step.channels, to, observe);
        }
        let node = &self.graph.nodes[step.node];
        let kernel = tensors.get(&node.name, "kernel");
        let geometry = self.geometry(step.node, tape);
        let Some((from, _)) = readers.pop() else {
            to.values.copy_from_slice(images);
            return observe.then(|| Moments::of(k, to.values, to.row, step.channels));
        };
        match (&node.op, geometry) {
            (Op::Conv { bias, filters, window }, Some(g)) => {
                let (taps, depth) = (window.size[0] * window.size[1], from.channels());
                let packed = k.pack(kernel, taps, depth, *filters, [depth * filters, *filters, 1]);
                let bias = bias.then(|| tensors.get(&node.name, "bias"));
                convolution::forward(k, &g, &from, &packed, bias, to, observe)
            }
            (Op::Depthwise { .. }, Some(g)) => convolution::depthwise(k, &g, &from, kernel, to, observe),
            (Op::MaxPool(_), Some(g)) => pool::forward(k, &g, pool::Kind::Max, &from, to, observe),
            (Op::AvgPool(_), Some(g)) => pool::forward(k, &g, pool::Kind::Mean, &from, to, observe),
            (Op::GlobalAvgPool, _) => {
                let map = tape.shapes[node.inputs[0]];
                to.values.copy_from_slice(&pool::global(k, &from, map.height * map.width, tape.batch));
                None
            }
            (Op::Dense { activation, .. }, _) => {
                let mut sums = pool::dense(from.values, kernel, tensors.get(&node.name, "bias"));
                if *activation == Activation::Relu {
                    sums.iter_mut().for_each(|v| *v = v.max(0.0));
                }
                to.values.copy_from_slice(&sums);
                None
            }
            (op, _) => unreachable!("{op:?} is never stored by itself"),
        }
    }

    fn reader<'a>(&self, view: &View, affine: &'a Affine, tape: &'a Tape) -> Reader<'a> {
        let row = self.plan.roots[view.root].channels;
        Reader { values: &tape.values[view.root], row, first: view.first, affine }
    }

    /// Normalisations that used the batch's statistics, with mean, variance (over n) and n.
    pub(super) fn batch_statistics<'a>(
        &'a self,
        tape: &'a Tape,
    ) -> impl Iterator<Item = (&'a str, &'a [f32], &'a [f32], f64)> {
        self.graph.nodes.iter().enumerate().filter_map(|(id, node)| {
            let norm = matches!(node.op, Op::BatchNorm { .. }) && self.learns[id];
            norm.then(|| {
                let view = &self.plan.views[id];
                let (s, range) = (&tape.statistics[view.root], view.first..view.first + view.channels());
                (node.name.as_str(), &s.mean[range.clone()], &s.variance[range], s.count)
            })
        })
    }
}
