//! Times training steps: `step_bench NET BATCH SIZE STEPS`, formula-made weights and images. One JSON line per step
//! with its seconds, and at the end the process's peak memory. `benchsuite/training.py` runs it beside PyTorch.

#![allow(clippy::print_stdout, missing_docs)]

use chestnut_train::{Batch, Cpu, Learner, Trained, Update};
use chestnut_zoo::weights::{seeded, unit_sequence};
use chestnut_zoo::{Activation, Architecture, Head, HeadLayer};
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (count, size, steps) = (number(2, 16), number(3, 224), number(4, 3));
    let name = args.get(1).map_or("densenet121", String::as_str);
    let architecture = Architecture::ALL.into_iter().find(|a| a.name() == name).expect("a network's name");
    let head = Head { layers: vec![HeadLayer { units: 14, activation: Activation::Linear }], labels: vec![] };
    let graph = architecture.graph(&head);
    let images: Vec<f32> = unit_sequence("input", 0).take(count * size * size * 3).map(|u| 2.0 * u - 1.0).collect();
    let targets: Vec<f32> = unit_sequence("targets", 0).take(count * 14).collect();
    let weights = vec![1.0; count * 14];
    let batch = Batch { images: &images, height: size, width: size, targets: &targets, weights: &weights };
    let mut cpu = Cpu::new(&graph, &seeded(&graph, 0), Update::default(), &Trained::All).expect("fits");
    for _ in 0..steps {
        let start = Instant::now();
        let loss = cpu.step(&batch, 1e-4).expect("a finite step");
        println!("{{\"seconds\": {:.4}, \"loss\": {loss:.6}}}", start.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("unknown").trim().to_owned();
    println!("{{\"peak\": \"{peak}\"}}");
}
