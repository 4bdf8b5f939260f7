//! All seven networks against Keras, on formula-made weights and images (`scripts/oracle_nets.py`).

#![allow(missing_docs)]

use chestnut_nn::{Engine, Isa, Options};
use chestnut_zoo::weights::{seeded, unit_sequence};
use chestnut_zoo::{Activation, Architecture, Head, HeadLayer};
use serde_json::Value;

/// Relative error of embeddings that the project promises against Keras.
const TOLERANCE: f64 = 1e-4;

fn oracle() -> Value {
    serde_json::from_str(include_str!("oracle_nets.json")).expect("the committed oracle is JSON")
}

fn signed(name: &str, len: usize) -> Vec<f32> {
    unit_sequence(name, 0).take(len).map(|u| 2.0 * u - 1.0).collect()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn tensors_are_keras_tensors() {
    let oracle = oracle();
    for a in Architecture::ALL {
        let graph = a.graph(&Head::chexpert());
        let expected = &oracle["nets"][a.name()]["tensors"];
        assert_eq!(graph.tensors().len() as u64, expected["count"].as_u64().expect("a count"), "{a}");
        let parameters: usize = graph.tensors().iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        assert_eq!(parameters as u64, expected["parameters"].as_u64().expect("a count"), "{a}");
        let weights = seeded(&graph, 0);
        for sample in expected["samples"].as_array().expect("samples") {
            let name = sample["name"].as_str().expect("a name");
            let tensor = weights.get(name).unwrap_or_else(|| panic!("{a} has no tensor {name}"));
            let index = sample["index"].as_u64().expect("an index") as usize;
            assert_eq!(tensor.data[index], sample["value"].as_f64().expect("a value") as f32, "{a} {name} [{index}]");
        }
    }
}

#[test]
fn embeddings_and_logits_equal_keras() {
    let oracle = oracle();
    for a in Architecture::ALL {
        let head = Head { layers: vec![HeadLayer { units: 14, activation: Activation::Linear }], labels: vec![] };
        let graph = a.graph(&head);
        for isa in Isa::available() {
            let mut engine =
                Engine::new(graph.clone(), seeded(&graph, 0), Options { isa, ..Options::default() }).expect("fits");
            for run in oracle["nets"][a.name()]["runs"].as_array().expect("runs") {
                let size = run["size"].as_u64().expect("a size") as usize;
                if isa == Isa::Portable && size != 224 {
                    continue; // the slow path is held to one size
                }
                let taps = engine.run(&signed("input", 2 * size * size * 3), size, size, false).expect("runs");
                let width = graph.embedding_width();
                for (i, image) in run["images"].as_array().expect("images").iter().enumerate() {
                    // Keras in float64 on the same weights: the yardstick for both f32 engines.
                    let e = &image["f64"];
                    let embedding = &taps.embeddings[i * width..][..width];
                    let norm = e["norm"].as_f64().expect("a norm");
                    let found: f64 = embedding.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                    let check: f64 =
                        embedding.iter().zip(signed("check", width)).map(|(&v, c)| f64::from(v) * f64::from(c)).sum();
                    let first = numbers(&e["embedding"]);
                    let worst =
                        embedding.iter().zip(&first).map(|(&v, e)| (f64::from(v) - e).abs()).fold(0.0, f64::max);
                    let top = first.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                    let errors = [
                        (found - norm).abs() / norm,
                        (check - e["check"].as_f64().expect("a number")).abs() / norm,
                        worst / top,
                    ];
                    assert!(errors.iter().all(|&x| x < TOLERANCE), "{a} {isa} {size}: {errors:?}");
                    let logits = numbers(&e["logits"]);
                    let scale = logits.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                    for (&l, e) in taps.outputs[i * 14..][..14].iter().zip(&logits) {
                        assert!(
                            (f64::from(l) - e).abs() / scale < TOLERANCE,
                            "{a} {isa} {size}: logit {l} against {e}"
                        );
                    }
                }
            }
        }
    }
}
