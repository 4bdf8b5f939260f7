//! Class activation maps of all seven networks against TensorFlow's gradients (`scripts/oracle_cam.py`).

#![allow(missing_docs)]

use chestnut::explain::cam::{CamKind, FeatureMap, class_activation, explain};
use chestnut::explain::{HeatMap, SourceHead};
use chestnut_nn::{Engine, Options};
use chestnut_zoo::weights::{seeded, unit_sequence};
use chestnut_zoo::{Activation, Architecture, Head, HeadLayer};
use serde_json::Value;

/// Error against float64, relative to the greatest value of a map.
const TOLERANCE: f64 = 1e-4;

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(number).collect()
}

fn number(v: &Value) -> f64 {
    v.as_f64().expect("a number")
}

/// Greatest difference over the greatest value, both after subtracting `base`.
fn error(map: &HeatMap, expected: &[f64], base: f64) -> f64 {
    assert_eq!(map.values.len(), expected.len());
    let top = expected.iter().map(|e| (e - base).abs()).fold(0.0, f64::max);
    let worst = map.values.iter().zip(expected).map(|(&v, e)| (f64::from(v) - e).abs()).fold(0.0, f64::max);
    // A map that starts at ones carries the rounding of ones in single precision.
    let rounding = if base == 0.0 { 0.0 } else { f64::from(f32::EPSILON) };
    (worst - rounding).max(0.0) / top.max(f64::MIN_POSITIVE)
}

#[test]
fn maps_equal_tensorflows_gradients() {
    let oracle: Value = serde_json::from_str(include_str!("oracle_cam.json")).expect("the committed oracle is JSON");
    let size = number(&oracle["size"]) as usize;
    let image: Vec<f32> = unit_sequence("input", 0).take(size * size * 3).map(|u| 2.0 * u - 1.0).collect();
    let head = Head { layers: vec![HeadLayer { units: 14, activation: Activation::Linear }], labels: vec![] };
    for a in Architecture::ALL {
        let graph = a.graph(&head);
        let weights = seeded(&graph, 0);
        let source = SourceHead::new(&head, &weights, graph.embedding_width()).expect("the head fits");
        let mut engine = Engine::new(graph, weights, Options::default()).expect("fits");
        let shape = engine.feature_map_shape(size, size).expect("large enough");
        let taps = engine.run(&image, size, size, true).expect("runs");
        let net = &oracle["nets"][a.name()];
        let sides = [shape.height, shape.width, shape.channels].map(|n| n as f64);
        assert_eq!(numbers(&net["map"]), sides, "{a}");
        let map = FeatureMap::of(&taps, 0, shape).expect("a whole map");
        for label in net["labels"].as_array().expect("labels") {
            let output = number(&label["output"]) as usize;
            let explained = source.label(output).expect("an output");
            let logit = explained.score(&taps.embeddings).expect("fits");
            let expected = number(&label["logit"]);
            assert!((logit - expected).abs() < TOLERANCE * expected.abs().max(1.0), "{a} {output}: {logit}");
            assert!((logit - f64::from(taps.outputs[output])).abs() < 1e-5 * logit.abs().max(1.0), "{a} {output}");

            let gradient = explained.gradient(&taps.embeddings).expect("fits");
            let heat = class_activation(&map, &gradient).expect("fits");
            let worst = error(&heat, &numbers(&label["grad_cam"]), 0.0);
            assert!(worst < TOLERANCE, "{a} output {output}: Grad-CAM differs by {worst}");
            let evidence: f64 = gradient.iter().zip(&taps.embeddings).map(|(w, &e)| w * f64::from(e)).sum();
            assert!((heat.sum() - evidence).abs() < TOLERANCE * evidence.abs().max(1.0), "{a} output {output}");

            let probability = 1.0 / (1.0 + (-logit).exp());
            let legacy = explain(CamKind::Legacy, &map, &gradient, probability).expect("fits");
            // An activation that is 0 in one precision and not in the other changes the mean gradient of its channel.
            let worst = error(&legacy, &numbers(&label["legacy"]), 1.0);
            assert!(worst < 10.0 * TOLERANCE, "{a} output {output}: the guided map differs by {worst}");
        }
    }
}
