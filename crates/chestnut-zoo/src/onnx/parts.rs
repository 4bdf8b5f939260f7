//! What every ONNX file is made of: attributes, tensors, inputs and outputs, and the model around a graph.
//!
//! Field numbers are those of ONNX's `onnx.proto` (IR version 8, ONNX 1.10, 2021). Forests (`chestnut-forest`) and
//! networks (here) are written with these.

use super::message::Message;

/// Protobuf's own limit of a message.
pub const MAX_ONNX_BYTES: usize = i32::MAX as usize;
/// Version of the operators in the standard domain.
pub const OPSET: i64 = 15;
/// `TensorProto.DataType` of f32.
pub const FLOAT: i64 = 1;
/// `TensorProto.DataType` of i64.
pub const INT64: i64 = 7;

const IR_VERSION: i64 = 8;

/// One extent of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent<'a> {
    /// Known when the file is run, such as the number of images.
    Open(&'a str),
    /// This many.
    Fixed(usize),
}

/// `NodeProto`: an operation of the standard domain; attributes are appended by [`attach`].
#[must_use]
pub fn node(name: &str, operator: &str, inputs: &[&str], output: &str) -> Message {
    let mut node = Message::default();
    inputs.iter().for_each(|input| {
        node.text(1, input);
    });
    node.text(2, output).text(3, name).text(4, operator);
    node
}

/// Gives a node an attribute.
pub fn attach(node: &mut Message, attribute: &Message) {
    node.message(5, attribute);
}

fn attribute(name: &str, kind: i64) -> Message {
    let mut message = Message::default();
    message.text(1, name).int(20, kind);
    message
}

/// A number.
#[must_use]
pub fn float_attribute(name: &str, value: f32) -> Message {
    let mut message = attribute(name, 1);
    message.float(2, value);
    message
}

/// A whole number.
#[must_use]
pub fn int_attribute(name: &str, value: i64) -> Message {
    let mut message = attribute(name, 2);
    message.int(3, value);
    message
}

/// A text.
#[must_use]
pub fn text_attribute(name: &str, value: &str) -> Message {
    let mut message = attribute(name, 3);
    message.text(4, value);
    message
}

/// A list of numbers.
#[must_use]
pub fn floats_attribute(name: &str, values: &[f32]) -> Message {
    let mut message = attribute(name, 6);
    let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    message.bytes(7, &packed);
    message
}

/// A list of whole numbers.
#[must_use]
pub fn ints_attribute(name: &str, values: &[i64]) -> Message {
    let mut message = attribute(name, 7);
    let mut packed = Message::default();
    values.iter().for_each(|&v| packed.varint(v as u64));
    message.message(8, &packed);
    message
}

/// A list of texts.
#[must_use]
pub fn texts_attribute<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Message {
    let mut message = attribute(name, 8);
    values.into_iter().for_each(|value| {
        message.text(9, value);
    });
    message
}

/// `TensorProto` of f32 values in row-major order; no extents: a single number.
#[must_use]
pub fn tensor(name: &str, extents: &[usize], values: impl IntoIterator<Item = f32>) -> Message {
    let mut message = Message::default();
    extents.iter().for_each(|&extent| {
        message.int(1, extent as i64);
    });
    let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    message.int(2, FLOAT).text(8, name).bytes(9, &bytes);
    message
}

/// `ValueInfoProto` of an input or output.
#[must_use]
pub fn value(name: &str, element: i64, extents: &[Extent<'_>]) -> Message {
    let mut shape = Message::default();
    for extent in extents {
        let mut dimension = Message::default();
        match extent {
            Extent::Open(name) => dimension.text(2, name),
            Extent::Fixed(count) => dimension.int(1, *count as i64),
        };
        shape.message(1, &dimension);
    }
    let mut tensor = Message::default();
    tensor.int(1, element).message(2, &shape);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut message = Message::default();
    message.text(1, name).message(2, &kind);
    message
}

/// `ModelProto` around a graph: operator domains with their versions, and properties in the given order.
#[must_use]
pub fn model(graph: &Message, domains: &[(&str, i64)], properties: &[(String, String)]) -> Vec<u8> {
    let mut message = Message::default();
    message.int(1, IR_VERSION).text(2, "chestnut").text(3, env!("CARGO_PKG_VERSION")).message(7, graph);
    for (domain, version) in domains {
        let mut opset = Message::default();
        opset.text(1, domain).int(2, *version);
        message.message(8, &opset);
    }
    for (key, text) in properties {
        let mut entry = Message::default();
        entry.text(1, key).text(2, text);
        message.message(14, &entry);
    }
    message.into_bytes()
}
