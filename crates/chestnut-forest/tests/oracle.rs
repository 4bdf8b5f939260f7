//! Holds this crate to scikit-learn and shap. `oracle_forest.json` is made by scripts/oracle_forest.py and must not be
//! edited by hand; features are formula-made here and there from the same names. Tolerances: 1e-9 for closed forms
//! (SHAP values, shares of neighbours), splits equal exactly, 1e-6 for iterative fits.

#![allow(missing_docs)]

use chestnut_forest::{Criterion, Distance, Features, Forest, Labels, LinearProbe, Neighbours, Node, Params, Tree};
use chestnut_stats::random::{fnv1a, mix};
use serde_json::Value;

fn oracle() -> Value {
    serde_json::from_str(include_str!("oracle_forest.json")).expect("valid JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("not a count: {value}")) as usize
}

fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// All numbers of nested lists, in order.
fn flat(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(flat).collect(),
        None => vec![number(value)],
    }
}

#[track_caller]
fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * e.abs().max(1.0), "{what}, entry {i}: found {f}, expected {e}");
    }
}

/// The numbers of scripts/formula.py's `signed`, in [-1, 1).
fn signed(case: &Value) -> Vec<f32> {
    let state = fnv1a(text(&case["name"]).as_bytes());
    let value = |i: u64| (mix(state.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))) >> 40) as f32 / 16_777_216.0;
    (1..=(count(&case["rows"]) * count(&case["width"])) as u64).map(|i| 2.0 * value(i) - 1.0).collect()
}

fn features(case: &Value) -> Features {
    Features::new(signed(case), count(&case["width"])).expect("finite")
}

fn labels(case: &Value) -> Labels {
    let rows = items(&case["labels"]);
    let value = |c| match c {
        '1' => Some(true),
        '0' => Some(false),
        _ => None,
    };
    let values: Vec<_> = rows.iter().flat_map(|r| text(r).chars()).map(value).collect();
    Labels::new(&values, values.len() / rows.len()).expect("whole")
}

fn tree(value: &Value) -> Tree {
    let node = |n: &Value| Node {
        feature: count(&n["feature"]) as u32,
        threshold: number(&n["threshold"]) as f32,
        right: count(&n["right"]) as u32,
        rows: count(&n["rows"]) as u32,
        weight: number(&n["weight"]),
        gain: number(&n["gain"]),
    };
    Tree { nodes: items(&value["nodes"]).iter().map(node).collect(), shares: flat(&value["shares"]) }
}

#[test]
fn shap_values_equal_the_shap_packages() {
    for case in items(&oracle()["shap"]) {
        let name = text(&case["name"]);
        assert!(count(&case["most_uses_of_a_feature_on_a_path"]) >= 2, "{name} must use a feature twice on a path");
        let trees: Vec<Tree> = items(&case["trees"]).iter().map(tree).collect();
        let outputs = count(&case["outputs"]);
        let params = Params { trees: trees.len(), ..Params::random_forest(0) };
        let forest = Forest { params, width: count(&case["width"]), outputs, trees };
        let explained = forest.shap_rows(&features(case)).expect("explains");
        for (shap, expected) in explained.iter().zip(items(&case["values"])) {
            close(&shap.base, &flat(&case["base"]), 1e-9, name);
            let expected = flat(expected);
            for k in 0..outputs {
                let column: Vec<f64> = expected.iter().skip(k).step_by(outputs).copied().collect();
                close(&shap.dense(forest.width, k), &column, 1e-9, name);
            }
        }
    }
}

#[test]
fn a_tree_without_random_features_equals_scikit_learns_split_for_split() {
    for case in items(&oracle()["trees"]) {
        let name = text(&case["name"]);
        let criterion = if text(&case["criterion"]) == "gini" { Criterion::Gini } else { Criterion::Entropy };
        let params =
            Params { criterion, max_depth: 6, min_samples_leaf: 4, min_samples_split: 10, ..Params::decision_tree(3) };
        let forest = Forest::fit(&features(case), &labels(case), &params).expect("fits");
        let (found, expected) = (&forest.trees[0], tree(&case["tree"]));
        assert_eq!(found.nodes.len(), expected.nodes.len(), "{name}");
        for (i, (f, e)) in found.nodes.iter().zip(&expected.nodes).enumerate() {
            let split = |n: &Node| (n.feature, n.right, n.rows);
            assert_eq!(split(f), split(e), "{name}, node {i}");
            // Halfway between the same two rows; the last bit depends on how the middle is rounded.
            assert!(
                (f.threshold - e.threshold).abs() <= 1.2e-7,
                "{name}, node {i}: {} and {}",
                f.threshold,
                e.threshold
            );
        }
        close(&found.shares, &expected.shares, 1e-12, name);
        close(&forest.importances(), &flat(&case["importances"]), 1e-9, name);
    }
}

#[test]
fn the_linear_probe_equals_logistic_regression() {
    for case in items(&oracle()["logistic"]) {
        let (rows, width) = (count(&case["rows"]), count(&case["width"]));
        // The script widens the columns, so that standardising matters, and makes one constant. In f32 like there.
        let mut values = signed(case);
        for (i, value) in values.iter_mut().enumerate() {
            let step = 2.5 / (width - 1) as f64;
            let scale = if i % width == width - 1 { 3.0 } else { 0.5 + step * (i % width) as f64 };
            *value *= scale as f32;
            if i % width == 1 {
                *value = 0.25;
            }
        }
        let (features, labels) = (Features::new(values, width).expect("finite"), labels(case));
        for fit in items(&case["fits"]) {
            let what = format!("{} with lambda {}", text(&case["name"]), fit["lambda"]);
            let probe = LinearProbe::fit(&features, &labels, &[number(&fit["lambda"]); 2]).expect("fits");
            close(&probe.weights, &flat(&fit["weights"]), 1e-6, &what);
            close(&probe.intercepts, &flat(&fit["intercepts"]), 1e-6, &what);
            let found = probe.predict(&features).expect("predicts");
            let expected = flat(&fit["probabilities"]);
            for k in 0..2 {
                let column: Vec<f64> = found.iter().skip(k).step_by(2).copied().collect();
                close(&column, &expected[k * rows..][..rows], 1e-6, &what);
            }
        }
    }
}

#[test]
fn neighbours_equal_scikit_learns() {
    for case in items(&oracle()["neighbours"]) {
        let all = features(case);
        let labels = labels(case);
        let train: Vec<usize> = (0..labels.rows()).collect();
        let test: Vec<usize> = (labels.rows()..all.rows()).collect();
        for (key, distance) in [("cosine", Distance::Cosine), ("l1", Distance::L1)] {
            let near = Neighbours::new(all.select(&train), labels.clone(), count(&case["k"]), distance).expect("fits");
            let found = near.predict(&all.select(&test)).expect("predicts");
            close(&found, &flat(&case[key]), 1e-12, key);
        }
    }
}
