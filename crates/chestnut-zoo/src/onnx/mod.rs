//! Networks as ONNX files, so that others can run them (ONNX Runtime, and what builds on it).
//!
//! Input `image` f32 `[n, channels, height, width]`, standardised as the network expects; outputs `feature_map`
//! `[n, channels, height, width]`, `embedding` `[n, width]` and, with a head, `output` `[n, labels]`. Rows and columns
//! are fixed, because Keras's `same` padding depends on them and is written out here, odd pixels at the bottom and
//! right. `scripts/oracle_onnx.py` holds the files to Keras's values in ONNX Runtime.

pub mod message;
pub mod parts;

use crate::graph::{Graph, InputTooSmall, NodeId, Op, Shape, Window};
use crate::head::Activation;
use crate::weights::{self, Misfit, Tensor, Weights};
use message::Message;
use parts::{Extent, attach, float_attribute, int_attribute, ints_attribute, tensor, value};
use thiserror::Error;

pub use parts::MAX_ONNX_BYTES;

/// Bytes that a node or a tensor may take in the file beside its values; for checking before building.
const ITEM_BYTES: usize = 1024;

/// Why a network cannot be exported.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OnnxError {
    /// The weights are not this network's.
    #[error(transparent)]
    Weights(#[from] Box<Misfit>),
    /// The input is too small.
    #[error(transparent)]
    Input(#[from] InputTooSmall),
    /// Above protobuf's limit.
    #[error("the network's weights take {bytes} bytes, too many for an ONNX file of at most 2 GiB; export safetensors")]
    TooLarge {
        /// About as many as the file would have.
        bytes: usize,
    },
}

/// The network as an ONNX file for images of `height` x `width`.
///
/// `properties` become the file's metadata, in this order: standardisation, labels, hashes, licence.
///
/// # Errors
/// [`OnnxError`].
pub fn network(
    graph: &Graph,
    weights: &Weights,
    [height, width]: [usize; 2],
    properties: &[(String, String)],
) -> Result<Vec<u8>, OnnxError> {
    weights::check(graph, weights).map_err(Box::new)?;
    let shapes = graph.shapes(height, width)?;
    let values: usize = weights.values().map(|t| t.data.len()).sum();
    let bytes = 4 * values + ITEM_BYTES * (weights.len() + graph.nodes.len());
    if bytes > MAX_ONNX_BYTES {
        return Err(OnnxError::TooLarge { bytes });
    }
    let mut writer = Writer { graph, weights, shapes: &shapes, out: Message::default() };
    for id in 0..graph.nodes.len() {
        writer.node(id);
    }
    let mut out = writer.out;
    out.text(2, &graph.name);
    let image = |id: NodeId| {
        let Shape { height, width, channels } = shapes[id];
        [Extent::Open("n"), Extent::Fixed(channels), Extent::Fixed(height), Extent::Fixed(width)]
    };
    let row = |id: NodeId| [Extent::Open("n"), Extent::Fixed(shapes[id].channels)];
    out.message(11, &value("image", parts::FLOAT, &image(0)));
    out.message(12, &value("feature_map", parts::FLOAT, &image(graph.feature_map)));
    out.message(12, &value("embedding", parts::FLOAT, &row(graph.embedding)));
    if let Some(output) = graph.output {
        out.message(12, &value("output", parts::FLOAT, &row(output)));
    }
    Ok(parts::model(&out, &[("", parts::OPSET)], properties))
}

struct Writer<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    shapes: &'a [Shape],
    out: Message,
}

impl<'a> Writer<'a> {
    /// What a node's output is called in the file.
    fn name(&self, id: NodeId) -> &'a str {
        let graph = self.graph;
        if id == 0 {
            "image"
        } else if id == graph.feature_map {
            "feature_map"
        } else if id == graph.embedding {
            "embedding"
        } else if Some(id) == graph.output {
            "output"
        } else {
            &graph.nodes[id].name
        }
    }

    fn node(&mut self, id: NodeId) {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let name = node.name.as_str();
        let output = self.name(id);
        let inputs: Vec<&str> = node.inputs.iter().map(|&i| self.name(i)).collect();
        let of = |kind: &str| format!("{name}.{kind}");
        match &node.op {
            Op::Input { .. } => {}
            Op::Conv { window, bias, .. } => {
                let (kernel, offset) = (of("kernel"), of("bias"));
                self.kernel(&kernel);
                let mut all = vec![inputs[0], kernel.as_str()];
                if *bias {
                    self.vector(&offset);
                    all.push(offset.as_str());
                }
                let mut conv = parts::node(name, "Conv", &all, output);
                self.window(&mut conv, window, id);
                self.out.message(1, &conv);
            }
            Op::Depthwise { window } => {
                let kernel = of("kernel");
                self.depthwise_kernel(&kernel);
                let mut conv = parts::node(name, "Conv", &[inputs[0], &kernel], output);
                self.window(&mut conv, window, id);
                attach(&mut conv, &int_attribute("group", self.shapes[id].channels as i64));
                self.out.message(1, &conv);
            }
            Op::BatchNorm { epsilon, scale } => {
                let names = ["gamma", "beta", "moving_mean", "moving_variance"].map(of);
                for (i, tensor_name) in names.iter().enumerate() {
                    if i == 0 && !scale {
                        let channels = self.shapes[id].channels;
                        let ones = tensor(tensor_name, &[channels], std::iter::repeat_n(1.0, channels));
                        self.out.message(5, &ones);
                    } else {
                        self.vector(tensor_name);
                    }
                }
                let [gamma, beta, mean, variance] = &names;
                let all: [&str; 5] = [inputs[0], gamma, beta, mean, variance];
                let mut norm = parts::node(name, "BatchNormalization", &all, output);
                attach(&mut norm, &float_attribute("epsilon", *epsilon));
                self.out.message(1, &norm);
            }
            Op::Relu => self.plain(name, "Relu", &inputs, output),
            Op::MaxPool(window) => {
                let mut pool = parts::node(name, "MaxPool", &inputs, output);
                self.window(&mut pool, window, id);
                self.out.message(1, &pool);
            }
            Op::AvgPool(window) => {
                let mut pool = parts::node(name, "AveragePool", &inputs, output);
                self.window(&mut pool, window, id);
                attach(&mut pool, &int_attribute("count_include_pad", 0));
                self.out.message(1, &pool);
            }
            Op::GlobalAvgPool => {
                let mean = of("mean");
                self.plain(&mean, "GlobalAveragePool", &inputs, &mean);
                let mut flat = parts::node(name, "Flatten", &[&mean], output);
                attach(&mut flat, &int_attribute("axis", 1));
                self.out.message(1, &flat);
            }
            Op::Add { scale } if *scale == 1.0 => self.plain(name, "Add", &inputs, output),
            Op::Add { scale } => {
                let (factor, scaled) = (of("scale"), of("scaled"));
                self.out.message(5, &tensor(&factor, &[], [*scale]));
                self.plain(&scaled, "Mul", &[inputs[1], &factor], &scaled);
                self.plain(name, "Add", &[inputs[0], &scaled], output);
            }
            Op::Concat => {
                let mut concat = parts::node(name, "Concat", &inputs, output);
                attach(&mut concat, &int_attribute("axis", 1));
                self.out.message(1, &concat);
            }
            Op::Dense { activation, .. } => {
                let (kernel, bias, sums) = (of("kernel"), of("bias"), of("sums"));
                self.vector(&kernel);
                self.vector(&bias);
                let linear = *activation == Activation::Linear;
                let to = if linear { output } else { sums.as_str() };
                self.plain(&sums, "Gemm", &[inputs[0], &kernel, &bias], to);
                match activation {
                    Activation::Linear => {}
                    Activation::Relu => self.plain(name, "Relu", &[&sums], output),
                    Activation::Sigmoid => self.plain(name, "Sigmoid", &[&sums], output),
                    Activation::Softmax => {
                        let mut softmax = parts::node(name, "Softmax", &[&sums], output);
                        attach(&mut softmax, &int_attribute("axis", 1));
                        self.out.message(1, &softmax);
                    }
                }
            }
        }
    }

    /// An operation without attributes.
    fn plain(&mut self, name: &str, operator: &str, inputs: &[&str], output: &str) {
        self.out.message(1, &parts::node(name, operator, inputs, output));
    }

    fn weight(&self, name: &str) -> &'a Tensor {
        // `network` has compared names and shapes with the graph's.
        &self.weights[name]
    }

    /// A tensor as it is.
    fn vector(&mut self, name: &str) {
        let weight = self.weight(name);
        self.out.message(5, &tensor(name, &weight.shape, weight.data.iter().copied()));
    }

    /// `[height, width, in, out]` as `[out, in, height, width]`.
    fn kernel(&mut self, name: &str) {
        let weight = self.weight(name);
        let (pixels, inputs, outputs) = (weight.shape[0] * weight.shape[1], weight.shape[2], weight.shape[3]);
        let at = |o: usize, i: usize, p: usize| weight.data[(p * inputs + i) * outputs + o];
        let values = (0..outputs).flat_map(|o| (0..inputs).flat_map(move |i| (0..pixels).map(move |p| (o, i, p))));
        let extents = [outputs, inputs, weight.shape[0], weight.shape[1]];
        self.out.message(5, &tensor(name, &extents, values.map(|(o, i, p)| at(o, i, p))));
    }

    /// `[height, width, channels, 1]` as `[channels, 1, height, width]`.
    fn depthwise_kernel(&mut self, name: &str) {
        let weight = self.weight(name);
        let (pixels, channels) = (weight.shape[0] * weight.shape[1], weight.shape[2]);
        let values = (0..channels).flat_map(|c| (0..pixels).map(move |p| p * channels + c));
        let extents = [channels, 1, weight.shape[0], weight.shape[1]];
        self.out.message(5, &tensor(name, &extents, values.map(|i| weight.data[i])));
    }

    /// Size, steps and borders of a window: top, left, bottom, right.
    fn window(&self, node: &mut Message, window: &Window, id: NodeId) {
        let (from, to) = (self.shapes[self.graph.nodes[id].inputs[0]], self.shapes[id]);
        let borders = |before: usize, input: usize, size: usize, output: usize| {
            let after = ((output - 1) * window.stride + size).saturating_sub(input + before);
            [before as i64, after as i64]
        };
        let [top, left] = window.before(from.height, from.width);
        let rows = borders(top, from.height, window.size[0], to.height);
        let columns = borders(left, from.width, window.size[1], to.width);
        let size = window.size.map(|s| s as i64);
        attach(node, &ints_attribute("kernel_shape", &size));
        attach(node, &ints_attribute("strides", &[window.stride as i64; 2]));
        attach(node, &ints_attribute("pads", &[rows[0], columns[0], rows[1], columns[1]]));
    }
}

#[cfg(test)]
mod tests {
    use super::message::{Field, fields, find, varint};
    use super::*;
    use crate::{Architecture, Head};

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("UTF-8")
    }

    fn graph_of(file: &[u8]) -> Vec<Field> {
        fields(find(&fields(file).expect("a message"), 7)[0]).expect("a graph")
    }

    /// The list of whole numbers that an attribute of a node holds.
    fn ints(node: &[Field], name: &str) -> Vec<u64> {
        let mut attributes = find(node, 5).into_iter().map(|a| fields(a).expect("an attribute"));
        let found = attributes.find(|a| text(find(a, 1)[0]) == name).expect("there");
        let mut packed = find(&found, 8)[0];
        let mut all = Vec::new();
        while !packed.is_empty() {
            all.push(varint(&mut packed).expect("a number"));
        }
        all
    }

    #[test]
    fn every_layer_and_every_value_is_in_the_file() {
        // Nodes that become two: global average pooling, a Dense layer's sigmoid, a residual that is scaled.
        for (architecture, scaled) in
            [(Architecture::DenseNet121, 0), (Architecture::Xception, 0), (Architecture::InceptionResNetV2, 39)]
        {
            let graph = architecture.graph(&Head::chexpert());
            let weights = weights::seeded(&graph, 1);
            let properties = [("labels".to_owned(), "a,b".to_owned())];
            let file = network(&graph, &weights, [224, 224], &properties).expect("exports");
            let read = graph_of(&file);
            assert_eq!(find(&read, 1).len(), graph.nodes.len() - 1 + 2 + scaled, "{architecture}");
            let tensors: Vec<_> = find(&read, 5).into_iter().map(|t| fields(t).expect("a tensor")).collect();
            let ones = graph.nodes.iter().filter(|n| matches!(n.op, Op::BatchNorm { scale: false, .. })).count();
            assert_eq!(tensors.len(), weights.len() + ones + scaled, "{architecture}");
            for tensor in &tensors {
                let (name, bytes) = (text(find(tensor, 8)[0]), find(tensor, 9)[0]);
                let Some(weight) = weights.get(name) else { continue };
                let sum = |values: &mut dyn Iterator<Item = f32>| values.map(f64::from).map(f64::abs).sum::<f64>();
                let written = sum(&mut bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
                let wanted = sum(&mut weight.data.iter().copied());
                assert_eq!(bytes.len(), 4 * weight.data.len(), "{name}");
                assert!((written - wanted).abs() <= 1e-9 * wanted, "{name}: {written} against {wanted}");
            }
            // Every input is an earlier output or a tensor, so the file can be run in its order.
            let mut known: Vec<String> = tensors.iter().map(|t| text(find(t, 8)[0]).to_owned()).collect();
            known.push("image".to_owned());
            for node in find(&read, 1) {
                let node = fields(node).expect("a node");
                for input in find(&node, 1) {
                    assert!(known.iter().any(|k| k == text(input)), "{architecture}: {}", text(input));
                }
                known.push(text(find(&node, 2)[0]).to_owned());
            }
            let outputs: Vec<_> = find(&read, 12).into_iter().map(|o| fields(o).expect("an output")).collect();
            let names: Vec<&str> = outputs.iter().map(|o| text(find(o, 1)[0])).collect();
            assert_eq!(names, ["feature_map", "embedding", "output"]);
        }
    }

    #[test]
    fn kernels_are_turned_and_odd_borders_are_at_the_end() {
        let graph = Architecture::Xception.graph(&Head::none());
        let weights = weights::seeded(&graph, 1);
        let read = graph_of(&network(&graph, &weights, [224, 224], &[]).expect("exports"));
        let tensor = |name: &str| {
            let mut all = find(&read, 5).into_iter().map(|t| fields(t).expect("a tensor"));
            all.find(|t| text(find(t, 8)[0]) == name).expect("there")
        };
        let at = |tensor: &[Field], i: usize| f32::from_le_bytes(find(tensor, 9)[0].as_chunks::<4>().0[i]);
        // [3, 3, 3, 32] to [32, 3, 3, 3]: output 5, input 2, row 1, column 0.
        let kernel = tensor("block1_conv1.kernel");
        assert_eq!(at(&kernel, ((5 * 3 + 2) * 3 + 1) * 3), weights["block1_conv1.kernel"].data[(3 * 3 + 2) * 32 + 5]);
        // [3, 3, 64, 1] to [64, 1, 3, 3]: channel 7, row 2, column 1.
        let kernel = tensor("block2_sepconv1.depthwise.kernel");
        let original = &weights["block2_sepconv1.depthwise.kernel"];
        assert_eq!(at(&kernel, 7 * 9 + 2 * 3 + 1), original.data[(2 * 3 + 1) * 64 + 7]);

        let nodes: Vec<_> = find(&read, 1).into_iter().map(|n| fields(n).expect("a node")).collect();
        let node = |name: &str| nodes.iter().find(|n| text(find(n, 3)[0]) == name).expect("there");
        // 109 rows in steps of two: one pixel on each side; 28 rows: none above, one below.
        let shapes = graph.shapes(224, 224).expect("fits");
        let rows = |name: &str| {
            let id = graph.nodes.iter().position(|n| n.name == name).expect("there");
            shapes[graph.nodes[id].inputs[0]].height
        };
        assert_eq!((rows("block2_pool"), rows("block4_pool")), (109, 28));
        assert_eq!(ints(node("block2_pool"), "pads"), [1, 1, 1, 1]);
        assert_eq!(ints(node("block4_pool"), "pads"), [0, 0, 1, 1]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let graph = Architecture::Vgg16.graph(&Head::none());
        let mut weights = weights::seeded(&graph, 1);
        assert!(matches!(network(&graph, &weights, [8, 8], &[]), Err(OnnxError::Input(_))));
        weights.remove("block1_conv1.bias");
        let error = network(&graph, &weights, [224, 224], &[]).expect_err("a tensor is missing").to_string();
        assert!(error.contains("block1_conv1.bias"), "{error}");
    }
}
