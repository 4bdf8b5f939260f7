//! From the names in a weight file to the names in a graph.
//!
//! Names that Keras gives (with `/` or `_`) are taken as they are; layers that Keras numbers per session (`conv2d_203`)
//! are matched by the order of their numbers. Dense layers behind the pooling become `head.0`, `head.1`, ... What does
//! not fit is an error that lists it; only a head that cannot be expressed is left out, since the embedding never
//! depends on it.

mod head;

use super::{HeadHint, ReadError, SourceModel};
use crate::graph::{Graph, Op};
use crate::head::Head;
use crate::nets::Architecture;
use crate::weights::{self, Misfit, Tensor, Weights};
use std::collections::{BTreeMap, BTreeSet};

/// Keras layers without a name of their own, numbered per session in the order of their making.
const COUNTED: [&str; 2] = ["conv2d", "batch_normalization"];
/// Layers behind which only the head follows.
const POOLINGS: [&str; 3] = ["GlobalAveragePooling2D", "GlobalMaxPooling2D", "Flatten"];

/// A network with the weights of a file.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The architecture with the head that the file has.
    pub graph: Graph,
    /// That head.
    pub head: Head,
    /// All tensors of the graph, checked.
    pub weights: Weights,
    /// What was assumed or left out, for people.
    pub notes: Vec<String>,
}

/// Where a tensor is in a [`SourceModel`]: layer and tensor.
type Place = (usize, usize);

/// Which tensor of the file becomes which tensor of the graph.
struct Plan {
    graph: Graph,
    head: Head,
    tensors: BTreeMap<String, Place>,
    /// Dense layers without bias: tensor name and units.
    zero_biases: Vec<(String, usize)>,
    notes: Vec<String>,
}

impl SourceModel {
    /// Matches the file to an architecture.
    ///
    /// # Errors
    /// [`ReadError::Misfit`] listing every tensor that is missing, left over, of another shape or not finite;
    /// [`ReadError::Head`] or [`ReadError::Labels`] if the head contradicts `hint`.
    pub fn fit(mut self, architecture: Architecture, hint: &HeadHint) -> Result<Fitted, ReadError> {
        let plan = self.plan(architecture, hint)?;
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(plan.notes);
        let mut found = Weights::new();
        for (name, (layer, tensor)) in plan.tensors {
            let empty = Tensor { shape: Vec::new(), data: Vec::new() };
            let value = std::mem::replace(&mut self.layers[layer].tensors[tensor].1, empty);
            found.insert(name, value);
        }
        for (name, units) in plan.zero_biases {
            found.insert(name, Tensor { shape: vec![units], data: vec![0.0; units] });
        }
        self.shift_epsilon(&plan.graph, &mut found, &mut notes);
        weights::check(&plan.graph, &found).map_err(|misfit| ReadError::Misfit(Box::new(misfit)))?;
        Ok(Fitted { graph: plan.graph, head: plan.head, weights: found, notes })
    }

    /// The architecture whose tensors are in the file.
    ///
    /// # Errors
    /// [`ReadError::NoArchitecture`] with what differs from the closest one.
    pub fn guess(&self, hint: &HeadHint) -> Result<Architecture, ReadError> {
        let mut closest: Option<Box<Misfit>> = None;
        let mut duplicate = None;
        for architecture in Architecture::ALL {
            match self.plan(architecture, hint) {
                Ok(_) => return Ok(architecture),
                Err(ReadError::Misfit(misfit)) => {
                    let worse = closest.as_ref().is_some_and(|c| differences(c) <= differences(&misfit));
                    if !worse {
                        closest = Some(misfit);
                    }
                }
                // Under the names of a wrong architecture two layers can look like one.
                Err(error @ ReadError::Duplicate(_)) => duplicate = Some(error),
                // The backbone fits; what is wrong is the head or what was said about it.
                Err(other) => return Err(other),
            }
        }
        Err(duplicate.unwrap_or_else(|| ReadError::NoArchitecture(closest.unwrap_or_default())))
    }

    fn plan(&self, architecture: Architecture, hint: &HeadHint) -> Result<Plan, ReadError> {
        let bare = architecture.graph(&Head::none());
        let names = self.canonical_layers(&bare);
        let pooling = self.layers.iter().position(|l| l.class.as_deref().is_some_and(|c| POOLINGS.contains(&c)));
        let mut notes = Vec::new();
        let mut tensors: BTreeMap<String, Place> = BTreeMap::new();
        let mut dense: Vec<usize> = Vec::new();
        let mut behind: Vec<usize> = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            if layer.tensors.is_empty() {
                continue;
            }
            if names[i].is_none() && is_dense(layer) {
                dense.push(i);
                continue;
            }
            if names[i].is_none() && pooling.is_some_and(|p| i > p) {
                behind.push(i);
                continue;
            }
            let fallback = layer.name.replace('/', "_");
            let name = names[i].as_deref().unwrap_or(&fallback);
            for (j, (kind, _)) in layer.tensors.iter().enumerate() {
                let full = format!("{name}.{}", canonical_kind(kind));
                if tensors.insert(full.clone(), (i, j)).is_some() {
                    return Err(ReadError::Duplicate(full));
                }
            }
        }
        let channels = self.input_channels(&bare, &tensors);
        let bare = architecture.graph_with_channels(&Head::none(), channels);
        self.same_shapes(&bare, &tensors)?;

        let mut zero_biases = Vec::new();
        let head = match self.head(&dense, &behind, bare.embedding_width(), hint, &mut notes) {
            Ok(head) => head,
            Err(reason) if hint.labels.is_some() || hint.activations.is_some() => return Err(ReadError::Head(reason)),
            Err(reason) => {
                notes.push(format!("the head is left out ({reason}); the embedding does not depend on it"));
                dense.clear();
                Head::none()
            }
        };
        if head.layers.is_empty() {
            dense.clear();
        }
        for (n, &i) in dense.iter().enumerate() {
            for (j, (kind, _)) in self.layers[i].tensors.iter().enumerate() {
                tensors.insert(format!("head.{n}.{}", canonical_kind(kind)), (i, j));
            }
            if !self.layers[i].tensors.iter().any(|(kind, _)| kind == "bias") {
                zero_biases.push((format!("head.{n}.bias"), head.layers[n].units));
                notes.push(format!("layer {} has no bias; zeros are used", self.layers[i].name));
            }
        }
        let head = self.label(head, channels, hint, &mut notes)?;
        let graph = architecture.graph_with_channels(&head, channels);
        Ok(Plan { graph, head, tensors, zero_biases, notes })
    }

    /// The canonical name of each layer of the file, if it has one.
    fn canonical_layers(&self, graph: &Graph) -> Vec<Option<String>> {
        let canonical: BTreeSet<String> =
            graph.tensors().iter().filter_map(|(name, _)| name.split('.').next().map(str::to_owned)).collect();
        let mut names: Vec<Option<String>> = vec![None; self.layers.len()];
        let mut counted: Vec<Vec<(u64, usize)>> = vec![Vec::new(); COUNTED.len()];
        for (i, layer) in self.layers.iter().enumerate() {
            if layer.tensors.is_empty() {
                continue;
            }
            // The name of a layer inside another model may carry that model's name in front.
            let parts: Vec<&str> = layer.name.split('/').collect();
            for start in 0..parts.len() {
                let name = parts[start..].join("_");
                if let Some((class, number)) = counter(&name) {
                    counted[class].push((number, i));
                } else if canonical.contains(&name) {
                    names[i] = Some(name);
                } else {
                    continue;
                }
                break;
            }
        }
        for (class, found) in counted.iter_mut().enumerate() {
            let mut needed: Vec<(u64, &String)> = canonical
                .iter()
                .filter_map(|name| counter(name).filter(|(c, _)| *c == class).map(|(_, number)| (number, name)))
                .collect();
            needed.sort_unstable();
            found.sort_unstable();
            for ((_, i), (_, name)) in found.iter().zip(needed) {
                names[*i] = Some(name.clone());
            }
        }
        names
    }

    /// 1 or 3, from the first convolution's kernel.
    fn input_channels(&self, graph: &Graph, tensors: &BTreeMap<String, Place>) -> usize {
        let first = graph.nodes.iter().find(|n| matches!(n.op, Op::Conv { .. }));
        let kernel = first.and_then(|n| tensors.get(&format!("{}.kernel", n.name)));
        match kernel.map(|&place| self.tensor(place).shape.as_slice()) {
            Some([_, _, 1, _]) => 1,
            _ => 3,
        }
    }

    fn tensor(&self, (layer, tensor): Place) -> &Tensor {
        &self.layers[layer].tensors[tensor].1
    }

    /// Whether names and shapes are those of the graph.
    fn same_shapes(&self, graph: &Graph, tensors: &BTreeMap<String, Place>) -> Result<(), ReadError> {
        let mut misfit = Misfit { network: graph.name.clone(), ..Misfit::default() };
        let mut used = BTreeSet::new();
        for (name, shape) in graph.tensors() {
            match tensors.get(&name).map(|&place| self.tensor(place)) {
                None => misfit.missing.push(name.clone()),
                Some(t) if t.shape != shape => {
                    misfit.wrong_shape.push(format!("{name} is {:?}, needed {shape:?}", t.shape));
                }
                Some(_) => {}
            }
            used.insert(name);
        }
        misfit.extra.extend(tensors.keys().filter(|name| !used.contains(*name)).cloned());
        if misfit.is_empty() { Ok(()) } else { Err(ReadError::Misfit(Box::new(misfit))) }
    }

    /// Moves a difference between the file's epsilon and the graph's into the variance: v' + e' = v + e, exactly.
    fn shift_epsilon(&self, graph: &Graph, found: &mut Weights, notes: &mut Vec<String>) {
        let names = self.canonical_layers(graph);
        let mut theirs: BTreeMap<&str, f32> = BTreeMap::new();
        for (layer, name) in self.layers.iter().zip(&names) {
            if let (Some(epsilon), Some(name)) = (layer.epsilon, name) {
                theirs.insert(name, epsilon);
            }
        }
        let mut shifted = 0;
        for node in &graph.nodes {
            let Op::BatchNorm { epsilon, .. } = node.op else { continue };
            let Some(&their) = theirs.get(node.name.as_str()) else { continue };
            if (their - epsilon).abs() <= 1e-6 * epsilon {
                continue;
            }
            if let Some(variance) = found.get_mut(&format!("{}.moving_variance", node.name)) {
                variance.data.iter_mut().for_each(|v| *v += their - epsilon);
                shifted += 1;
            }
        }
        if shifted > 0 {
            notes.push(format!(
                "{shifted} batch normalisations were saved with another epsilon; the difference is in their variances"
            ));
        }
    }
}

fn differences(misfit: &Misfit) -> usize {
    misfit.missing.len() + misfit.extra.len() + misfit.wrong_shape.len()
}

/// A Dense layer by class, or by its kernel where the file gives no classes.
fn is_dense(layer: &super::SourceLayer) -> bool {
    match layer.class.as_deref() {
        Some(class) => class == "Dense",
        None => layer.tensors.iter().any(|(kind, t)| kind == "kernel" && t.shape.len() == 2),
    }
}

/// `depthwise_kernel` is `depthwise.kernel` in a graph.
fn canonical_kind(kind: &str) -> &str {
    match kind {
        "depthwise_kernel" => "depthwise.kernel",
        "pointwise_kernel" => "pointwise.kernel",
        other => other,
    }
}

/// Index in [`COUNTED`] and number of a name that Keras numbers: `conv2d` is 0, `conv2d_7` is 7.
fn counter(name: &str) -> Option<(usize, u64)> {
    COUNTED.iter().enumerate().find_map(|(class, prefix)| {
        let rest = name.strip_prefix(prefix)?;
        if rest.is_empty() {
            return Some((class, 0));
        }
        let digits = rest.strip_prefix('_').filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok().map(|number| (class, number))
    })
}

/// Sorting key in which `conv2d_10` comes after `conv2d_2`.
pub(super) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        parts.push((text.to_owned(), number.parse().unwrap_or(0)));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_natural_order() {
        assert_eq!(counter("conv2d"), Some((0, 0)));
        assert_eq!(counter("batch_normalization_203"), Some((1, 203)));
        for other in ["conv2d_a", "conv2d_", "conv2d_1_bn", "separable_conv2d", "conv"] {
            assert_eq!(counter(other), None, "{other}");
        }
        let mut names = vec!["dense_10", "dense", "dense_2", "conv_1"];
        names.sort_by_cached_key(|n| natural(n));
        assert_eq!(names, ["conv_1", "dense", "dense_2", "dense_10"]);
    }
}
