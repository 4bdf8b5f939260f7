//! One training step of DenseNet121 and VGG16 against Keras and PyTorch in float64 (`scripts/oracle_training.py`).

#![allow(missing_docs)]

use chestnut_train::{Batch, Cpu, Learner, Trained, Update};
use chestnut_zoo::weights::{seeded, unit_sequence};
use chestnut_zoo::{Activation, Architecture, Head, HeadLayer};
use serde_json::Value;

fn signed(name: &str, len: usize) -> Vec<f32> {
    unit_sequence(name, 0).take(len).map(|u| 2.0 * u - 1.0).collect()
}

/// (norm, dot product with v("check." + name)) of a tensor.
fn pair(v: &Value) -> (f64, f64) {
    (v[0].as_f64().unwrap(), v[1].as_f64().unwrap())
}

/// Distance of a tensor from what is expected of it, as a share of its norm.
fn distance(name: &str, values: &[f32], expected: &Value) -> f64 {
    let (norm, check) = pair(expected);
    let found: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let direction = signed(&format!("check.{name}"), values.len());
    let dot: f64 = values.iter().zip(direction).map(|(&v, d)| f64::from(v) * f64::from(d)).sum();
    (found - norm).abs().max((dot - check).abs()) / norm
}

fn root_mean_square(values: impl Iterator<Item = f64>) -> f64 {
    let squares: Vec<f64> = values.map(|v| v * v).collect();
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}

#[test]
fn one_step_equals_keras_and_pytorch() {
    let oracle: Value = serde_json::from_str(include_str!("oracle_training.json")).unwrap();
    let number = |key: &str| oracle[key].as_u64().unwrap() as usize;
    let (labels, count, size, rate) =
        (number("labels"), number("batch"), number("size"), oracle["rate"].as_f64().unwrap());
    let images = signed("input", count * size * size * 3);
    let targets: Vec<f32> = unit_sequence("targets", 0).take(count * labels).collect();
    let weights: Vec<f32> = (0..count * labels).map(|i| if i % 4 == 3 { 0.0 } else { 1.0 }).collect();
    let batch = Batch { images: &images, height: size, width: size, targets: &targets, weights: &weights };
    for a in Architecture::ALL {
        let nets = &oracle["nets"][a.name()];
        if nets.is_null() {
            continue;
        }
        let head = Head { layers: vec![HeadLayer { units: labels, activation: Activation::Linear }], labels: vec![] };
        let graph = a.graph(&head);
        let start = seeded(&graph, 0);
        // At 64 pixels the last maps are 2 x 2, and a ReLU that rounding turns over moves DenseNet's gradients by percents.
        // PyTorch in float32 shows how far rounding takes anybody: nothing here may be much farther from float64.
        let (double, single) = (&nets["torch"]["gradients"], &nets["torch32"]["gradients"]);
        let theirs = root_mean_square(double.as_object().unwrap().iter().map(|(name, wanted)| {
            let (norm, check) = pair(wanted);
            let (found_norm, found_check) = pair(&single[name]);
            (found_norm - norm).abs().max((found_check - check).abs()) / norm
        }));
        for (peer, momentum, unbiased_variance) in [("keras", 0.99, false), ("torch", 0.9, true)] {
            let expected = &nets[peer];
            let update = Update { momentum, unbiased_variance, ..Update::default() };
            let mut cpu = Cpu::new(&graph, &start, update, &Trained::All).unwrap();
            let gradients = cpu.gradients(&batch).unwrap();
            let loss = expected["loss"].as_f64().unwrap();
            assert!((gradients.loss - loss).abs() < 1e-5 * loss, "{a} {peer}: loss {} for {loss}", gradients.loss);
            assert_eq!(gradients.tensors.len(), expected["gradients"].as_object().unwrap().len());
            let ours = root_mean_square(gradients.tensors.iter().map(|(name, gradient)| {
                let share = distance(name, &gradient.data, &expected["gradients"][name]);
                assert!(share < 0.05, "{a} {peer}: gradient of {name} off by {share} of its norm");
                share
            }));
            assert!(ours < 1.2 * theirs + 1e-5, "{a} {peer}: gradients off by {ours}, PyTorch's float32 by {theirs}");
            cpu.step(&batch, rate).unwrap();
            let end = cpu.state().unwrap().weights;
            for (name, tensor) in &end {
                if name.contains(".moving_") {
                    let share = distance(name, &tensor.data, &expected["running"][name]);
                    assert!(share < 1e-5, "{a} {peer}: {name} off by {share} of its norm");
                    continue;
                }
                // Adam's first step is g / (|g| + epsilon): where a gradient's sign is rounding, so is its step, so the
                // step is held to its own gradient exactly and to the peers' only where the tensor is large.
                let before = &start[name].data;
                for ((after, before), g) in tensor.data.iter().zip(before).zip(&gradients.tensors[name].data) {
                    let step = rate as f32 * g / (g.abs() + 1e-7);
                    assert!(
                        (before - after - step).abs() < 2e-7 + 1e-4 * step.abs(),
                        "{a} {name}: {after} from {before}"
                    );
                }
                if name.ends_with(".kernel") {
                    let moved: Vec<f32> =
                        tensor.data.iter().zip(before).map(|(after, before)| (after - before) / rate as f32).collect();
                    let share = distance(name, &moved, &expected["updates"][name]);
                    assert!(share < 0.25, "{a} {peer}: step of {name} off by {share} of its norm");
                }
            }
        }
    }
}
