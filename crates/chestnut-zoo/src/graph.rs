//! A network as data: operations in order, each naming its inputs.
//!
//! The graph is written once (one file per architecture in [`crate::nets`]) and read by whoever runs
//! it (`chestnut-nn`) or teaches it (`chestnut-train`). It holds no weights and knows no speed; it
//! knows shapes, the names of its tensors, and the three taps that the paper needs: last feature
//! map, embedding (its global average) and class probabilities (Gozzi et al. 2022, section 2.2).

use crate::head::{Activation, Head};
use thiserror::Error;

/// Index of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// Border treatment of a convolution or pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// No border: output = floor((input - kernel) / stride) + 1.
    Valid,
    /// Keras and TensorFlow `same`: output = ceil(input / stride), odd padding at the bottom and right.
    Same,
    /// This many rows and columns on every side.
    Each(usize),
}

impl Padding {
    /// Padding before, and output size, along one axis; `None` if the window does not fit.
    #[must_use]
    pub fn resolve(self, input: usize, kernel: usize, stride: usize) -> Option<(usize, usize)> {
        match self {
            Self::Valid => Some((0, input.checked_sub(kernel)? / stride + 1)),
            Self::Same => {
                let output = input.div_ceil(stride);
                let total = ((output.checked_sub(1)?) * stride + kernel).saturating_sub(input);
                Some((total / 2, output))
            }
            Self::Each(p) => Some((p, p.checked_mul(2)?.checked_add(input)?.checked_sub(kernel)? / stride + 1)),
        }
    }
}

/// A window that slides over rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Step along both axes in pixels.
    pub stride: usize,
    /// What happens at the border.
    pub padding: Padding,
}

impl Window {
    /// Rows above and columns left of an image of `height` x `width` that the first window covers; 0 where it does not fit.
    #[must_use]
    pub fn before(&self, height: usize, width: usize) -> [usize; 2] {
        let side = |input, kernel| self.padding.resolve(input, kernel, self.stride).map_or(0, |(before, _)| before);
        [side(height, self.size[0]), side(width, self.size[1])]
    }
}

/// One operation. Tensors are `[height, width, channels]`; kernels follow Keras's layouts.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The image, standardised as the network expects.
    Input {
        /// 3 for Keras networks, 1 for TorchXRayVision.
        channels: usize,
    },
    /// Convolution; kernel `[height, width, in, out]`.
    Conv {
        /// Window.
        window: Window,
        /// Output channels.
        filters: usize,
        /// Whether a bias `[out]` is added.
        bias: bool,
    },
    /// Depthwise convolution; kernel `[height, width, channels, 1]`, no bias.
    Depthwise {
        /// Window.
        window: Window,
    },
    /// Batch normalisation with running statistics: gamma (if `scale`), beta, moving_mean, moving_variance.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Whether gamma exists.
        scale: bool,
    },
    /// max(x, 0).
    Relu,
    /// Maximum over a window; padding never wins.
    MaxPool(Window),
    /// Mean over the window's pixels inside the image.
    AvgPool(Window),
    /// Mean over all pixels; from `[h, w, c]` to `[1, 1, c]`.
    GlobalAvgPool,
    /// First input + `scale` x second input (Inception-ResNet's residual scaling; 1 elsewhere).
    Add {
        /// Factor of the second input.
        scale: f32,
    },
    /// Channels of all inputs one after the other.
    Concat,
    /// Fully connected on `[1, 1, c]`; kernel `[in, out]`, bias `[out]`.
    Dense {
        /// Outputs.
        units: usize,
        /// Applied to each output (softmax: over all outputs).
        activation: Activation,
    },
}

/// An operation with a name and inputs. Weights are called `<name>.<kind>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique; Keras 3's layer name in a fresh session, with `.depthwise` / `.pointwise` for the halves of a separable convolution.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// From which nodes; always earlier ones.
    pub inputs: Vec<NodeId>,
}

/// Height, width and channels of a node's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

/// The input is too small (or empty) for a network, or its branches do not meet in one size.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "an input of {height} x {width} pixels is too small: layer {layer} has nothing to look at; use a larger input size"
)]
pub struct InputTooSmall {
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// First layer that fails.
    pub layer: String,
}

/// A network without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Architecture name, such as `densenet121`.
    pub name: String,
    /// In an order in which they can be computed.
    pub nodes: Vec<Node>,
    /// The tensor that global average pooling reads.
    pub feature_map: NodeId,
    /// Global average of the feature map.
    pub embedding: NodeId,
    /// Last Dense layer, if the network has a head.
    pub output: Option<NodeId>,
}

impl Graph {
    /// Output shape of every node for an input of `height` x `width`.
    ///
    /// # Errors
    /// [`InputTooSmall`] if a window does not fit.
    pub fn shapes(&self, height: usize, width: usize) -> Result<Vec<Shape>, InputTooSmall> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let from = |i: usize| shapes[node.inputs[i]];
            let slide = |w: &Window, channels: usize| {
                let s = from(0);
                let rows = w.padding.resolve(s.height, w.size[0], w.stride).map(|r| r.1);
                let columns = w.padding.resolve(s.width, w.size[1], w.stride).map(|r| r.1);
                match (rows, columns) {
                    (Some(height), Some(width)) if height > 0 && width > 0 => Ok(Shape { height, width, channels }),
                    _ => Err(InputTooSmall { height, width, layer: node.name.clone() }),
                }
            };
            let same_size = |a: Shape, b: Shape| (a.height, a.width) == (b.height, b.width);
            let agree = match &node.op {
                Op::Add { .. } => node.inputs.iter().all(|&i| shapes[i] == from(0)),
                Op::Concat => node.inputs.iter().all(|&i| same_size(shapes[i], from(0))),
                _ => true,
            };
            if !agree {
                return Err(InputTooSmall { height, width, layer: node.name.clone() });
            }
            let shape = match &node.op {
                Op::Input { channels } => Shape { height, width, channels: *channels },
                Op::Conv { window, filters, .. } => slide(window, *filters)?,
                Op::Depthwise { window } | Op::MaxPool(window) | Op::AvgPool(window) => {
                    slide(window, from(0).channels)?
                }
                Op::BatchNorm { .. } | Op::Relu | Op::Add { .. } => from(0),
                Op::GlobalAvgPool => Shape { height: 1, width: 1, channels: from(0).channels },
                Op::Concat => Shape { channels: node.inputs.iter().map(|&i| shapes[i].channels).sum(), ..from(0) },
                Op::Dense { units, .. } => Shape { height: 1, width: 1, channels: *units },
            };
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// Channels of the image that the network expects.
    #[must_use]
    pub fn input_channels(&self) -> usize {
        match self.nodes.first().map(|n| &n.op) {
            Some(Op::Input { channels }) => *channels,
            _ => 0,
        }
    }

    /// Width of the embedding.
    #[must_use]
    pub fn embedding_width(&self) -> usize {
        self.channels()[self.embedding]
    }

    /// Output channels of every node (they do not depend on the input's size).
    #[must_use]
    pub fn channels(&self) -> Vec<usize> {
        let mut channels: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let c = match &node.op {
                Op::Input { channels } => *channels,
                Op::Conv { filters, .. } => *filters,
                Op::Dense { units, .. } => *units,
                Op::Concat => node.inputs.iter().map(|&i| channels[i]).sum(),
                _ => channels[node.inputs[0]],
            };
            channels.push(c);
        }
        channels
    }

    /// Every weight tensor: name and shape, in graph order.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let channels = self.channels();
        let mut tensors = Vec::new();
        for node in &self.nodes {
            let input = node.inputs.first().map_or(0, |&i| channels[i]);
            let mut push = |kind: &str, shape: Vec<usize>| tensors.push((format!("{}.{kind}", node.name), shape));
            match &node.op {
                Op::Conv { window, filters, bias } => {
                    push("kernel", vec![window.size[0], window.size[1], input, *filters]);
                    if *bias {
                        push("bias", vec![*filters]);
                    }
                }
                Op::Depthwise { window } => push("kernel", vec![window.size[0], window.size[1], input, 1]),
                Op::BatchNorm { scale, .. } => {
                    if *scale {
                        push("gamma", vec![input]);
                    }
                    for kind in ["beta", "moving_mean", "moving_variance"] {
                        push(kind, vec![input]);
                    }
                }
                Op::Dense { units, .. } => {
                    push("kernel", vec![input, *units]);
                    push("bias", vec![*units]);
                }
                _ => {}
            }
        }
        tensors
    }

    /// Multiply-adds of one image of `height` x `width`, convolutions and Dense layers only.
    ///
    /// # Errors
    /// [`InputTooSmall`], as [`Graph::shapes`].
    pub fn multiply_adds(&self, height: usize, width: usize) -> Result<u64, InputTooSmall> {
        let shapes = self.shapes(height, width)?;
        Ok(self.nodes.iter().enumerate().map(|(id, _)| self.node_multiply_adds(id, &shapes)).sum())
    }

    /// Multiply-adds of one node, given all shapes.
    #[must_use]
    pub fn node_multiply_adds(&self, id: NodeId, shapes: &[Shape]) -> u64 {
        let node = &self.nodes[id];
        let out = (shapes[id].height * shapes[id].width * shapes[id].channels) as u64;
        match &node.op {
            Op::Conv { window, .. } => out * (window.size[0] * window.size[1] * shapes[node.inputs[0]].channels) as u64,
            Op::Depthwise { window } => out * (window.size[0] * window.size[1]) as u64,
            Op::Dense { .. } => out * shapes[node.inputs[0]].channels as u64,
            _ => 0,
        }
    }

    /// The head as it stands in the graph (empty if there is none).
    #[must_use]
    pub fn head_layers(&self) -> Vec<(usize, Activation)> {
        self.nodes
            .iter()
            .filter_map(|n| match &n.op {
                Op::Dense { units, activation } => Some((*units, *activation)),
                _ => None,
            })
            .collect()
    }
}

/// Builds a graph node by node; each method returns the new node's id.
#[derive(Debug)]
pub struct Builder {
    nodes: Vec<Node>,
}

impl Builder {
    /// A graph that so far has only its input (node 0).
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self { nodes: vec![Node { name: "input".into(), op: Op::Input { channels }, inputs: vec![] }] }
    }

    /// Appends any operation.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec() });
        self.nodes.len() - 1
    }

    /// Convolution without bias.
    pub fn conv(
        &mut self,
        name: impl Into<String>,
        x: NodeId,
        filters: usize,
        size: [usize; 2],
        stride: usize,
        padding: Padding,
    ) -> NodeId {
        self.push(name, Op::Conv { window: Window { size, stride, padding }, filters, bias: false }, &[x])
    }

    /// Batch normalisation.
    pub fn batch_norm(&mut self, name: impl Into<String>, x: NodeId, epsilon: f32, scale: bool) -> NodeId {
        self.push(name, Op::BatchNorm { epsilon, scale }, &[x])
    }

    /// ReLU.
    pub fn relu(&mut self, name: impl Into<String>, x: NodeId) -> NodeId {
        self.push(name, Op::Relu, &[x])
    }

    /// Global average pooling of `feature_map`, the layers of `head`, and the finished graph.
    #[must_use]
    pub fn finish(mut self, name: &str, feature_map: NodeId, head: &Head) -> Graph {
        let embedding = self.push("avg_pool", Op::GlobalAvgPool, &[feature_map]);
        let mut last = embedding;
        for (i, layer) in head.layers.iter().enumerate() {
            let op = Op::Dense { units: layer.units, activation: layer.activation };
            last = self.push(format!("head.{i}"), op, &[last]);
        }
        let output = (last != embedding).then_some(last);
        Graph { name: name.to_owned(), nodes: self.nodes, feature_map, embedding, output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        assert_eq!(Padding::Same.resolve(224, 3, 2), Some((0, 112)), "odd padding goes to the end");
        assert_eq!(Padding::Same.resolve(109, 3, 2), Some((1, 55)));
        assert_eq!(Padding::Same.resolve(7, 1, 2), Some((0, 4)));
        assert_eq!(Padding::Valid.resolve(2, 3, 1), None);
        assert_eq!(Padding::Each(3).resolve(224, 7, 2), Some((3, 112)));
        let window = Window { size: [3, 1], stride: 2, padding: Padding::Same };
        assert_eq!((window.before(224, 109), window.before(109, 224)), ([0, 0], [1, 0]));
        assert_eq!(Padding::Each(usize::MAX / 2 + 1).resolve(224, 7, 2), None, "twice this wraps to 0");
    }
}
