//! How deep a network learns, and where it is cut so that only that part is run again and again.
//!
//! | depth | learns | cut |
//! |---|---|---|
//! | `Head` | the Dense layers | embedding |
//! | `Conv` | the head and what the paper's authors unfroze (protocol 6.1) | as `Block` |
//! | `Block` | the head and the last stage of the network's own paper | the map before that stage |
//! | `All` | everything | nowhere |
//!
//! The last stage is what works at the last resolution under one name: DenseNet's fourth dense block (Huang et al. 2017,
//! table 1), VGG's fifth stack (Simonyan and Zisserman 2015, table 1), Xception's exit flow (Chollet 2017, figure 5),
//! Inception-ResNet-C and the convolution behind it (Szegedy et al. 2017, figure 15). In all of them everything behind
//! the cut reads one tensor, which is computed once per image. Names of weights stay, so that a part merges back.

use crate::learner::Trained;
use chestnut_zoo::graph::{Node, NodeId};
use chestnut_zoo::{Architecture, Graph, Op, Weights};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which layers learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// The Dense layers on the embedding.
    Head,
    /// Those and the last six Keras layers, as the authors' code: one to four convolutions.
    Conv,
    /// The Dense layers and the last stage.
    Block,
    /// All layers.
    All,
}

impl Depth {
    /// Name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Conv => "conv",
            Self::Block => "block",
            Self::All => "all",
        }
    }
}

/// A network that cannot be cut.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DepthError {
    /// Not one of the seven.
    #[error("{0}; only known networks can be cut")]
    Unknown(String),
    /// No head to teach.
    #[error("{0} has no head to teach; give it one output per label")]
    NoHead(String),
    /// The graph is not what its name says.
    #[error("{network} cannot be cut at {layer}: it is not there, or layers behind it read others before it")]
    NoCut {
        /// Name of the graph.
        network: String,
        /// Where the cut should be.
        layer: String,
    },
}

/// A network in two parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// What stays as it is; its feature map is the tensor that `tail` reads. `None` if all layers learn.
    pub front: Option<Graph>,
    /// What learns. Its input is `front`'s feature map, or the image.
    pub tail: Graph,
}

/// Name of the node whose output the last stage reads.
#[must_use]
pub const fn before_last_stage(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::DenseNet121 | Architecture::DenseNet169 | Architecture::DenseNet201 => "pool4_pool",
        Architecture::InceptionResNetV2 => "mixed_7a",
        Architecture::Xception => "block12_add",
        Architecture::Vgg16 | Architecture::Vgg19 => "block4_pool",
    }
}

/// Cuts a network with a head for this depth.
///
/// # Errors
/// [`DepthError`].
pub fn split(graph: &Graph, depth: Depth) -> Result<Cut, DepthError> {
    if graph.output.is_none() {
        return Err(DepthError::NoHead(graph.name.clone()));
    }
    match depth {
        Depth::All => Ok(Cut { front: None, tail: graph.clone() }),
        Depth::Head => {
            let tail = behind(graph, graph.feature_map)?;
            // What is kept of an image is its embedding: a map of one pixel, whose mean is itself.
            let front = Graph { feature_map: graph.embedding, ..before(graph, graph.embedding) };
            Ok(Cut { front: Some(front), tail })
        }
        Depth::Conv | Depth::Block => {
            let architecture: Architecture = graph.name.parse().map_err(DepthError::Unknown)?;
            let layer = before_last_stage(architecture);
            let cut = graph.nodes.iter().position(|n| n.name == layer);
            let cut = cut.ok_or_else(|| no_cut(graph, layer))?;
            let mut front = Graph { feature_map: cut, ..before(graph, cut) };
            front.nodes.push(Node { name: "avg_pool".into(), op: Op::GlobalAvgPool, inputs: vec![cut] });
            front.embedding = cut + 1;
            Ok(Cut { front: Some(front), tail: behind(graph, cut)? })
        }
    }
}

/// The nodes up to and with `last`, without a head.
fn before(graph: &Graph, last: NodeId) -> Graph {
    let nodes = graph.nodes[..=last].to_vec();
    Graph { nodes, output: None, ..graph.clone() }
}

/// The nodes behind `cut`, which becomes the input.
fn behind(graph: &Graph, cut: NodeId) -> Result<Graph, DepthError> {
    let channels = graph.channels()[cut];
    let mut nodes = vec![Node { name: "input".into(), op: Op::Input { channels }, inputs: Vec::new() }];
    for node in &graph.nodes[cut + 1..] {
        let inputs: Option<Vec<NodeId>> = node.inputs.iter().map(|i| i.checked_sub(cut)).collect();
        let inputs = inputs.ok_or_else(|| no_cut(graph, &graph.nodes[cut].name))?;
        nodes.push(Node { inputs, ..node.clone() });
    }
    let moved = |id: NodeId| id.checked_sub(cut).ok_or_else(|| no_cut(graph, &graph.nodes[cut].name));
    Ok(Graph {
        name: graph.name.clone(),
        nodes,
        feature_map: moved(graph.feature_map)?,
        embedding: moved(graph.embedding)?,
        output: graph.output.map(moved).transpose()?,
    })
}

fn no_cut(graph: &Graph, layer: &str) -> DepthError {
    DepthError::NoCut { network: graph.name.clone(), layer: layer.to_owned() }
}

/// The layers that the paper's authors unfroze: of the last six of Keras's those with weights (protocol 6.1).
const fn last_convolutions(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::DenseNet121 => &["conv5_block16_2_conv", "bn"],
        Architecture::DenseNet169 | Architecture::DenseNet201 => &["conv5_block32_2_conv", "bn"],
        Architecture::InceptionResNetV2 => &["block8_10_conv", "conv_7b", "conv_7b_bn"],
        Architecture::Xception => {
            &["block14_sepconv1_bn", "block14_sepconv2.depthwise", "block14_sepconv2.pointwise", "block14_sepconv2_bn"]
        }
        Architecture::Vgg16 => &["block5_conv1", "block5_conv2", "block5_conv3"],
        Architecture::Vgg19 => &["block5_conv1", "block5_conv2", "block5_conv3", "block5_conv4"],
    }
}

/// Which nodes of a tail learn. Without `norms` batch normalisation does not: it then keeps the statistics of the many
/// images that the network came from instead of those of small batches of few.
///
/// # Errors
/// [`DepthError::Unknown`].
pub fn learning(tail: &Graph, depth: Depth, norms: bool) -> Result<Trained, DepthError> {
    if norms && depth != Depth::Conv {
        return Ok(Trained::All);
    }
    let named = match depth {
        Depth::Conv => {
            let architecture: Architecture = tail.name.parse().map_err(DepthError::Unknown)?;
            Some(last_convolutions(architecture))
        }
        _ => None,
    };
    let learns = |node: &Node| match &node.op {
        Op::Dense { .. } => true,
        Op::BatchNorm { .. } if !norms => false,
        _ => named.is_none_or(|names| names.contains(&node.name.as_str())),
    };
    let nodes = tail.nodes.iter().enumerate().filter(|(_, node)| learns(node));
    Ok(Trained::Only(nodes.map(|(id, _)| id).collect()))
}

/// The tensors of `weights` that `part` of a network needs.
#[must_use]
pub fn weights_of(part: &Graph, weights: &Weights) -> Weights {
    let names = part.tensors().into_iter().map(|(name, _)| name);
    names.filter_map(|name| weights.get(&name).cloned().map(|tensor| (name, tensor))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_zoo::{Head, weights};

    #[test]
    fn both_parts_together_are_the_network() {
        let labels = vec!["a".to_owned(), "b".to_owned()];
        for architecture in Architecture::ALL {
            let graph = architecture.graph(&Head::sigmoid(labels.clone()));
            let shapes = graph.shapes(224, 224).expect("fits");
            for depth in [Depth::Head, Depth::Conv, Depth::Block] {
                let Cut { front: Some(front), tail } = split(&graph, depth).expect("can be cut") else {
                    panic!("{architecture}: no front")
                };
                let map = front.shapes(224, 224).expect("fits")[front.feature_map];
                let behind = tail.shapes(map.height, map.width).expect("fits");
                assert_eq!(tail.input_channels(), map.channels, "{architecture} {depth:?}");
                assert_eq!(behind.last(), shapes.last(), "{architecture} {depth:?}");
                assert_eq!(tail.embedding_width(), graph.embedding_width());
                let count = |g: &Graph| g.tensors().len();
                assert_eq!(count(&front) + count(&tail), count(&graph), "{architecture} {depth:?}");
                let work = |g: &Graph, h, w| g.multiply_adds(h, w).expect("fits");
                let both = work(&front, 224, 224) + work(&tail, map.height, map.width);
                assert_eq!(both, work(&graph, 224, 224), "{architecture} {depth:?}");
                let all = weights::seeded(&graph, 1);
                let mut merged = weights_of(&front, &all);
                merged.extend(weights_of(&tail, &all));
                assert!(merged == all, "{architecture} {depth:?}");
            }
        }
    }

    #[test]
    fn the_published_layers_are_there() {
        for architecture in Architecture::ALL {
            let graph = architecture.graph(&Head::chexpert());
            let tail = split(&graph, Depth::Conv).expect("can be cut").tail;
            for name in last_convolutions(architecture) {
                assert!(tail.nodes.iter().any(|n| n.name == *name), "{architecture}: {name}");
            }
        }
    }

    #[test]
    fn the_last_stage_costs_a_part_and_norms_can_stay() {
        let graph = Architecture::DenseNet121.graph(&Head::chexpert());
        let cut = split(&graph, Depth::Block).expect("can be cut");
        // The fourth dense block sees 7 x 7 maps of 512 channels.
        assert_eq!(cut.tail.input_channels(), 512);
        assert_eq!(cut.tail.shapes(7, 7).expect("fits")[cut.tail.feature_map].channels, 1024);
        let weighted = |trained: Trained| {
            let Trained::Only(nodes) = trained else { panic!("some stay") };
            let names = nodes.into_iter().map(|id| &cut.tail.nodes[id]);
            let has = |n: &&Node| matches!(n.op, Op::Conv { .. } | Op::BatchNorm { .. } | Op::Dense { .. });
            names.filter(has).map(|n| n.name.as_str()).collect::<Vec<_>>()
        };
        let names = weighted(learning(&cut.tail, Depth::Block, false).expect("known"));
        assert_eq!(names.len(), 2 * 16 + 1, "two convolutions per layer, and the head");
        assert!(names.iter().all(|n| n.ends_with("_conv") || *n == "head.0"), "{names:?}");
        assert_eq!(learning(&cut.tail, Depth::Block, true), Ok(Trained::All));
        let names = weighted(learning(&cut.tail, Depth::Conv, true).expect("known"));
        assert_eq!(names, ["conv5_block16_2_conv", "bn", "head.0"]);
        let bare = Architecture::DenseNet121.graph(&Head::none());
        assert!(matches!(split(&bare, Depth::Head), Err(DepthError::NoHead(_))));
        let renamed = Graph { name: "resnet50".into(), ..graph };
        assert!(matches!(split(&renamed, Depth::Block), Err(DepthError::Unknown(_))));
    }
}
