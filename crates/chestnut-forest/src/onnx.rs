//! Forests as ONNX-ML files, so that others can run them (ONNX Runtime, and what builds on it).
//!
//! `TreeEnsembleClassifier` knows one label with exclusive classes. A multi-label forest is therefore one
//! `TreeEnsembleRegressor` with a target per label, aggregate AVERAGE and no post-transform: its outputs are the
//! probabilities. [`classifier`] exports one label alone as a two-class `TreeEnsembleClassifier` for software that
//! wants classes. `BRANCH_LEQ` is the forest's own rule (`x <= threshold` goes left), and thresholds are f32 in both,
//! so every row ends in the same leaf; leaf shares are rounded to f32. The encoding is `chestnut-zoo`'s.

use crate::forest::{Forest, ForestError};
use crate::tree::Node;
use chestnut_zoo::onnx::message::Message;
use chestnut_zoo::onnx::parts::{
    self, Extent, FLOAT, INT64, OPSET, attach, floats_attribute, int_attribute, ints_attribute, text_attribute,
    texts_attribute,
};
use thiserror::Error;

pub use chestnut_zoo::onnx::MAX_ONNX_BYTES;

/// Bytes that a node and a share at a leaf may take at most in the file; for checking before building.
const NODE_BYTES: usize = 64;
const SHARE_BYTES: usize = 24;

/// First version of the ML operators; all that a forest needs.
const ML_OPSET: i64 = 1;
const ML_DOMAIN: &str = "ai.onnx.ml";

/// Why a forest cannot be exported.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OnnxError {
    /// The forest does not hold together.
    #[error(transparent)]
    Forest(#[from] ForestError),
    /// Above protobuf's limit.
    #[error("the forest has {nodes} nodes, too many for an ONNX file of at most 2 GiB; export fewer trees")]
    TooLarge {
        /// Nodes of all trees.
        nodes: usize,
    },
    /// No such label.
    #[error("the forest has {outputs} labels, there is no label number {output}")]
    NoLabel {
        /// As asked, from 0.
        output: usize,
        /// Labels of the forest.
        outputs: usize,
    },
}

/// All labels: input `embedding` f32 `[n, width]`, output `probabilities` f32 `[n, labels]`.
///
/// `properties` become the file's metadata, in this order: labels, hashes, versions.
///
/// # Errors
/// [`OnnxError`].
pub fn regressor(forest: &Forest, properties: &[(String, String)]) -> Result<Vec<u8>, OnnxError> {
    check(forest)?;
    let mut node = Message::default();
    node.text(1, "embedding")
        .text(2, "probabilities")
        .text(3, "forest")
        .text(4, "TreeEnsembleRegressor")
        .text(7, ML_DOMAIN);
    put_nodes(&mut node, forest);
    let mut leaves = Leaves::default();
    for_leaves(forest, |t, i, shares| {
        for (k, share) in shares.iter().enumerate() {
            leaves.push(t, i, k, *share as f32);
        }
    });
    leaves.put(&mut node, "target");
    attach(&mut node, &int_attribute("n_targets", forest.outputs as i64));
    attach(&mut node, &text_attribute("aggregate_function", "AVERAGE"));
    attach(&mut node, &text_attribute("post_transform", "NONE"));
    let outputs = [value("probabilities", FLOAT, Some(forest.outputs))];
    Ok(model(&node, forest.width, &outputs, properties))
}

/// One label: input as [`regressor`], outputs `label` i64 `[n]` (0 or 1, whichever is more probable) and
/// `probabilities` f32 `[n, 2]` (negative, positive).
///
/// # Errors
/// [`OnnxError`].
pub fn classifier(forest: &Forest, output: usize, properties: &[(String, String)]) -> Result<Vec<u8>, OnnxError> {
    check(forest)?;
    if output >= forest.outputs {
        return Err(OnnxError::NoLabel { output, outputs: forest.outputs });
    }
    let mut node = Message::default();
    node.text(1, "embedding")
        .text(2, "label")
        .text(2, "probabilities")
        .text(3, "forest")
        .text(4, "TreeEnsembleClassifier");
    node.text(7, ML_DOMAIN);
    put_nodes(&mut node, forest);
    // The classifier adds up, so the mean is in the weights. Two classes are written in ONNX's binary form: only the
    // positive class votes, all votes carry id 0, and the runtime completes the negative class and decides at 0.5. With
    // votes for both classes ONNX Runtime (1.20 and 1.32 tried) gives right probabilities but calls every row positive.
    let trees = forest.trees.len() as f64;
    let mut leaves = Leaves::default();
    for_leaves(forest, |t, i, shares| leaves.push(t, i, 0, (shares[output] / trees) as f32));
    leaves.put(&mut node, "class");
    attach(&mut node, &ints_attribute("classlabels_int64s", &[0, 1]));
    attach(&mut node, &text_attribute("post_transform", "NONE"));
    let outputs = [value("label", INT64, None), value("probabilities", FLOAT, Some(2))];
    Ok(model(&node, forest.width, &outputs, properties))
}

fn check(forest: &Forest) -> Result<(), OnnxError> {
    forest.validate()?;
    let nodes: usize = forest.trees.iter().map(|t| t.nodes.len()).sum();
    let bytes = nodes.saturating_mul(NODE_BYTES + SHARE_BYTES * forest.outputs);
    if bytes > MAX_ONNX_BYTES { Err(OnnxError::TooLarge { nodes }) } else { Ok(()) }
}

/// Calls `visit(tree, node, shares)` for every leaf.
fn for_leaves(forest: &Forest, mut visit: impl FnMut(usize, usize, &[f64])) {
    for (t, tree) in forest.trees.iter().enumerate() {
        for (i, _) in tree.nodes.iter().enumerate().filter(|(_, n)| n.is_leaf()) {
            visit(t, i, &tree.shares[i * forest.outputs..][..forest.outputs]);
        }
    }
}

/// Number of the tree, number of the node in it, and the node.
fn all_nodes(forest: &Forest) -> impl Iterator<Item = (usize, usize, &Node)> {
    forest.trees.iter().enumerate().flat_map(|(t, tree)| tree.nodes.iter().enumerate().map(move |(i, n)| (t, i, n)))
}

/// The `nodes_*` attributes, which all tree ensembles share.
fn put_nodes(message: &mut Message, forest: &Forest) {
    let mut ints = |name, of: fn(usize, usize, bool, u32, u32) -> i64| {
        let values: Vec<i64> = all_nodes(forest).map(|(t, i, n)| of(t, i, n.is_leaf(), n.feature, n.right)).collect();
        attach(message, &ints_attribute(name, &values));
    };
    ints("nodes_treeids", |t, _, _, _, _| t as i64);
    ints("nodes_nodeids", |_, i, _, _, _| i as i64);
    ints("nodes_featureids", |_, _, leaf, feature, _| if leaf { 0 } else { i64::from(feature) });
    ints("nodes_truenodeids", |_, i, leaf, _, _| if leaf { 0 } else { i as i64 + 1 });
    ints("nodes_falsenodeids", |_, _, leaf, _, right| if leaf { 0 } else { i64::from(right) });
    let thresholds: Vec<f32> = all_nodes(forest).map(|(_, _, n)| n.threshold).collect();
    attach(message, &floats_attribute("nodes_values", &thresholds));
    let modes = all_nodes(forest).map(|(_, _, n)| if n.is_leaf() { "LEAF" } else { "BRANCH_LEQ" });
    attach(message, &texts_attribute("nodes_modes", modes));
}

/// Weights at the leaves, in the four columns of ONNX.
#[derive(Default)]
struct Leaves {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    ids: Vec<i64>,
    weights: Vec<f32>,
}

impl Leaves {
    fn push(&mut self, tree: usize, node: usize, id: usize, weight: f32) {
        self.trees.push(tree as i64);
        self.nodes.push(node as i64);
        self.ids.push(id as i64);
        self.weights.push(weight);
    }

    fn put(&self, message: &mut Message, what: &str) {
        attach(message, &ints_attribute(&format!("{what}_treeids"), &self.trees));
        attach(message, &ints_attribute(&format!("{what}_nodeids"), &self.nodes));
        attach(message, &ints_attribute(&format!("{what}_ids"), &self.ids));
        attach(message, &floats_attribute(&format!("{what}_weights"), &self.weights));
    }
}

/// Output tensor `[n]` or `[n, width]`.
fn value(name: &str, element: i64, width: Option<usize>) -> Message {
    let extents: Vec<Extent<'_>> = std::iter::once(Extent::Open("n")).chain(width.map(Extent::Fixed)).collect();
    parts::value(name, element, &extents)
}

/// The file around one node.
fn model(node: &Message, width: usize, outputs: &[Message], properties: &[(String, String)]) -> Vec<u8> {
    let mut graph = Message::default();
    graph.message(1, node).text(2, "forest").message(11, &value("embedding", FLOAT, Some(width)));
    for output in outputs {
        graph.message(12, output);
    }
    parts::model(&graph, &[("", OPSET), (ML_DOMAIN, ML_OPSET)], properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;
    use crate::table::{Features, Labels};
    use chestnut_stats::random::Stream;
    use chestnut_zoo::onnx::message::{self, Field};
    use std::collections::BTreeMap;

    fn fields(bytes: &[u8]) -> Vec<Field> {
        message::fields(bytes).expect("a whole message")
    }

    fn find(fields: &[Field], number: u64) -> Vec<Vec<u8>> {
        fields.iter().filter(|(n, _)| *n == number).map(|(_, c)| c.clone()).collect()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }

    /// Lists of numbers by attribute name, ints and floats alike, and the modes as 1 for a leaf.
    fn attributes(file: &[u8]) -> BTreeMap<String, Vec<f64>> {
        let graph = fields(&find(&fields(file), 7)[0]);
        let node = fields(&find(&graph, 1)[0]);
        let mut all = BTreeMap::new();
        for attribute in find(&node, 5) {
            let attribute = fields(&attribute);
            let mut values = Vec::new();
            for packed in find(&attribute, 8) {
                let mut packed = packed.as_slice();
                while !packed.is_empty() {
                    values.push(message::varint(&mut packed).expect("a number") as f64);
                }
            }
            for packed in find(&attribute, 7) {
                let floats = packed.as_chunks::<4>().0;
                values.extend(floats.iter().map(|b| f64::from(f32::from_le_bytes(*b))));
            }
            values.extend(find(&attribute, 9).iter().map(|mode| f64::from(u8::from(text(mode) == "LEAF"))));
            all.insert(text(&find(&attribute, 1)[0]), values);
        }
        all
    }

    /// What a runtime computes from the attributes: sums of leaf weights by id.
    fn run(a: &BTreeMap<String, Vec<f64>>, what: &str, row: &[f32], ids: usize) -> Vec<f64> {
        let at = |name: &str, i: usize| a[name][i];
        let mut sums = vec![0.0; ids];
        let starts = (0..a["nodes_nodeids"].len()).filter(|&i| at("nodes_nodeids", i) == 0.0);
        for root in starts {
            let mut i = root;
            while at("nodes_modes", i) == 0.0 {
                let left = f64::from(row[at("nodes_featureids", i) as usize]) <= at("nodes_values", i);
                i = root + at(if left { "nodes_truenodeids" } else { "nodes_falsenodeids" }, i) as usize;
            }
            let (tree, node) = (at("nodes_treeids", i), at("nodes_nodeids", i));
            for j in 0..a[&format!("{what}_ids")].len() {
                if at(&format!("{what}_treeids"), j) == tree && at(&format!("{what}_nodeids"), j) == node {
                    sums[at(&format!("{what}_ids"), j) as usize] += at(&format!("{what}_weights"), j);
                }
            }
        }
        sums
    }

    fn forest() -> (Forest, Features) {
        let mut draw = Stream::keyed(6, "onnx test");
        let features = Features::new((0..80 * 300).map(|_| draw.normal() as f32).collect(), 300).expect("finite");
        let labels: Vec<_> = (0..240).map(|i| Some(features.row(i / 3)[i % 3] > 0.4)).collect();
        let params = Params { trees: 7, ..Params::random_forest(3) };
        (Forest::fit(&features, &Labels::new(&labels, 3).expect("whole"), &params).expect("fits"), features)
    }

    #[test]
    fn the_files_say_what_the_forest_predicts() {
        let (forest, features) = forest();
        let predicted = forest.predict(&features).expect("predicts");
        let all = attributes(&regressor(&forest, &[]).expect("exports"));
        let one = attributes(&classifier(&forest, 1, &[]).expect("exports"));
        assert_eq!(one["classlabels_int64s"], [0.0, 1.0]);
        for r in [0, 33, 79] {
            let sums = run(&all, "target", features.row(r), 3);
            assert!(sums.iter().zip(&predicted[r * 3..]).all(|(sum, p)| (sum / 7.0 - p).abs() < 1e-6));
            assert!((run(&one, "class", features.row(r), 1)[0] - predicted[r * 3 + 1]).abs() < 1e-6);
        }
    }

    #[test]
    fn metadata_and_header_are_where_onnx_wants_them() {
        let (forest, _) = forest();
        let file = regressor(&forest, &[("labels".into(), "Edema".into())]).expect("exports");
        let top = fields(&file);
        assert_eq!(find(&top, 1)[0], 8_u64.to_le_bytes());
        assert_eq!(text(&find(&top, 2)[0]), "chestnut");
        let entry = fields(&find(&top, 14)[0]);
        assert_eq!((text(&entry[0].1).as_str(), text(&entry[1].1).as_str()), ("labels", "Edema"));
        let graph = fields(&find(&top, 7)[0]);
        assert_eq!(text(&fields(&find(&graph, 11)[0])[0].1), "embedding");
        assert_eq!(text(&fields(&find(&graph, 12)[0])[0].1), "probabilities");
        assert_eq!(classifier(&forest, 3, &[]), Err(OnnxError::NoLabel { output: 3, outputs: 3 }));
        let mut damaged = forest.clone();
        damaged.trees.pop();
        assert!(matches!(regressor(&damaged, &[]), Err(OnnxError::Forest(_))));
    }
}
