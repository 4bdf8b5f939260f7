//! Where each value of a graph lives while it learns, and what is only a way of reading it.
//!
//! Convolutions, pools and sums are *stored*, once, as rows of `[image][row][column][channel]` in a *root*. Batch
//! normalisation and ReLU are never stored: a layer reads them through a [`View`], which scales, shifts and cuts the
//! stored values channel by channel. A Concat is a root in which its inputs are stored side by side, so a dense block
//! is one buffer that grows. Gradients flow back through views by linearity: each reader adds its share to the root's
//! gradient and to the sums of the normalisation it read through.

use crate::learner::TrainError;
use chestnut_zoo::Graph;
use chestnut_zoo::graph::{NodeId, Op};

/// Some channels of a view that are read in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) channels: usize,
    /// Batch normalisation on the way.
    pub(super) norm: Option<NodeId>,
    /// Cut at zero on the way (after the normalisation).
    pub(super) rectified: bool,
}

/// How a node's value is read from a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) root: usize,
    /// First channel in the root.
    pub(super) first: usize,
    pub(super) parts: Vec<Part>,
}

impl View {
    pub(super) fn channels(&self) -> usize {
        self.parts.iter().map(|p| p.channels).sum()
    }

    /// Whether it is the stored value itself.
    pub(super) fn is_plain(&self) -> bool {
        self.parts.iter().all(|p| p.norm.is_none() && !p.rectified)
    }
}

/// A buffer of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// A node whose height and width it has.
    pub(super) like: NodeId,
    pub(super) channels: usize,
    /// Stored values in it.
    pub(super) writers: usize,
}

/// One thing to compute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// The node's own operation (Conv, Depthwise, pools, Dense) on its input.
    Node,
    /// Sum of views times factors: Add, and the inputs of a Concat that could not be stored in place.
    Sum(Vec<(View, f32)>),
}

/// A step and where its value goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) node: NodeId,
    pub(super) work: Work,
    pub(super) root: usize,
    pub(super) first: usize,
    pub(super) channels: usize,
}

/// Everything static about a graph.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) roots: Vec<Root>,
    pub(super) views: Vec<View>,
    pub(super) steps: Vec<Step>,
}

impl Plan {
    pub(super) fn new(graph: &Graph) -> Result<Self, TrainError> {
        let channels = graph.channels();
        let homes = homes(graph, &channels);
        let mut plan = Self { roots: Vec::new(), views: Vec::with_capacity(graph.nodes.len()), steps: Vec::new() };
        // A Concat's root must exist before its first member is stored.
        let mut root_of: Vec<Option<usize>> = vec![None; graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            let view = match &node.op {
                Op::Relu => {
                    let mut view = plan.views[node.inputs[0]].clone();
                    view.parts.iter_mut().for_each(|p| p.rectified = true);
                    merge(&mut view.parts);
                    view
                }
                Op::BatchNorm { .. } => {
                    let of = &plan.views[node.inputs[0]];
                    let view = if of.is_plain() {
                        of.clone()
                    } else {
                        let copy = plan.copy(node.inputs[0], channels[node.inputs[0]]);
                        plan.steps.push(copy.0);
                        copy.1
                    };
                    View { parts: vec![Part { channels: channels[id], norm: Some(id), rectified: false }], ..view }
                }
                Op::Concat => plan.concat(id, &node.inputs, &channels, &homes, &mut root_of),
                _ => {
                    let (root, first) = match homes[id] {
                        Some((concat, first)) => {
                            let root = *root_of[concat].get_or_insert_with(|| {
                                plan.roots.push(Root { like: concat, channels: channels[concat], writers: 0 });
                                plan.roots.len() - 1
                            });
                            (root, first)
                        }
                        None => {
                            plan.roots.push(Root { like: id, channels: channels[id], writers: 0 });
                            (plan.roots.len() - 1, 0)
                        }
                    };
                    let work = match &node.op {
                        Op::Add { scale } => Work::Sum(vec![
                            (plan.views[node.inputs[0]].clone(), 1.0),
                            (plan.views[node.inputs[1]].clone(), *scale),
                        ]),
                        _ => Work::Node,
                    };
                    plan.roots[root].writers += 1;
                    plan.steps.push(Step { node: id, work, root, first, channels: channels[id] });
                    let parts = vec![Part { channels: channels[id], norm: None, rectified: false }];
                    View { root, first, parts }
                }
            };
            plan.views.push(view);
        }
        Ok(plan)
    }

    /// A stored copy of a view.
    fn copy(&mut self, of: NodeId, channels: usize) -> (Step, View) {
        self.roots.push(Root { like: of, channels, writers: 1 });
        let root = self.roots.len() - 1;
        let work = Work::Sum(vec![(self.views[of].clone(), 1.0)]);
        let view = View { root, first: 0, parts: vec![Part { channels, norm: None, rectified: false }] };
        (Step { node: of, work, root, first: 0, channels }, view)
    }

    fn concat(
        &mut self,
        id: NodeId,
        inputs: &[NodeId],
        channels: &[usize],
        homes: &[Option<(NodeId, usize)>],
        root_of: &mut [Option<usize>],
    ) -> View {
        // A Concat that itself lies in a larger one shares its root.
        let (owner, start) = homes[id].unwrap_or((id, 0));
        let root = *root_of[owner].get_or_insert_with(|| {
            self.roots.push(Root { like: owner, channels: channels[owner], writers: 0 });
            self.roots.len() - 1
        });
        let mut parts = Vec::new();
        let mut at = start;
        for &input in inputs {
            let of = self.views[input].clone();
            if of.root == root && of.first == at {
                parts.extend(of.parts);
            } else {
                let c = channels[input];
                self.steps.push(Step { node: input, work: Work::Sum(vec![(of, 1.0)]), root, first: at, channels: c });
                self.roots[root].writers += 1;
                parts.push(Part { channels: c, norm: None, rectified: false });
            }
            at += channels[input];
        }
        merge(&mut parts);
        View { root, first: start, parts }
    }
}

/// Joins neighbours that are read in the same way.
fn merge(parts: &mut Vec<Part>) {
    parts.dedup_by(|next, kept| {
        let same = kept.norm == next.norm && kept.rectified == next.rectified && kept.norm.is_none();
        if same {
            kept.channels += next.channels;
        }
        same
    });
}

/// For each stored node or Concat that can lie inside a Concat: the outermost such Concat and its first channel there.
fn homes(graph: &Graph, channels: &[usize]) -> Vec<Option<(NodeId, usize)>> {
    let mut homes: Vec<Option<(NodeId, usize)>> = vec![None; graph.nodes.len()];
    // Outermost first, so that nested ones know their place.
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if !matches!(node.op, Op::Concat) {
            continue;
        }
        let (owner, mut at) = homes[id].unwrap_or((id, 0));
        for &input in &node.inputs {
            let stored = stored(graph, input);
            // What is read by the step that writes it must not lie in the same buffer.
            let reads_owner = graph.nodes[stored].inputs.iter().any(|&i| {
                let from = self::stored(graph, i);
                homes[from].is_some_and(|(o, _)| o == owner) && !matches!(graph.nodes[stored].op, Op::Concat)
            });
            if homes[stored].is_none() && stored != 0 && !reads_owner {
                homes[stored] = Some((owner, at));
            }
            at += channels[input];
        }
    }
    homes
}

/// The stored node that a chain of normalisations and ReLUs reads.
fn stored(graph: &Graph, mut id: NodeId) -> NodeId {
    while matches!(graph.nodes[id].op, Op::BatchNorm { .. } | Op::Relu) {
        id = graph.nodes[id].inputs[0];
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_zoo::{Architecture, Head};

    #[test]
    fn every_value_has_one_place_and_dense_blocks_are_one_buffer() {
        for name in Architecture::ALL {
            let graph = name.graph(&Head::default());
            let plan = Plan::new(&graph).unwrap();
            let mut owners: Vec<Vec<bool>> = plan.roots.iter().map(|r| vec![false; r.channels]).collect();
            for step in &plan.steps {
                for taken in &mut owners[step.root][step.first..step.first + step.channels] {
                    assert!(!*taken, "{}: {} is written twice", graph.name, graph.nodes[step.node].name);
                    *taken = true;
                }
                if let Work::Node = step.work {
                    for &i in &graph.nodes[step.node].inputs {
                        assert_ne!(plan.views[i].root, step.root, "reads where it writes");
                    }
                }
            }
            assert!(owners.iter().flatten().all(|&taken| taken), "{}: a channel nobody writes", graph.name);
            let channels = graph.channels();
            assert!(plan.views.iter().zip(channels).all(|(v, c)| v.channels() == c));
            if graph.name == "densenet121" {
                assert!(plan.steps.iter().all(|s| s.work == Work::Node), "nothing is copied");
            }
        }
    }
}
