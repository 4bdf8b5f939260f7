//! `chestnut bench`, as a whole process: what it prints, not how fast it is.

#![allow(missing_docs)]

mod common;

use common::{NET, Scratch};

/// Two networks, of which the first needs more memory.
fn bench(s: &Scratch, more: &[&str]) -> common::Run {
    let few = ["bench", "--net", "seeded:vgg16,seeded:densenet121", "--size", "32", "--batch", "1,2", "--seconds", "0"];
    s.chestnut(&[&few[..], more].concat()).ends(0)
}

#[test]
fn json_is_json_with_layers_too() {
    let s = Scratch::new();
    for layers in [false, true] {
        let run = bench(&s, if layers { &["--json", "--layers"] } else { &["--json"] });
        let json: serde_json::Value = serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e}\n{run}"));
        let runs = json["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 4, "{run}");
        for one in runs {
            assert!(one["times_ms"].as_array().is_some_and(|times| times.len() >= 3), "{one}");
            assert_eq!(one["layers"].as_array().is_some_and(|l| l.len() > 10), layers, "{one}");
        }
        let bytes = |i: usize, what: &str| runs[i][what].as_u64().expect("a number");
        assert!(bytes(0, "weight_bytes") > bytes(2, "weight_bytes"), "each network has its own\n{run}");
        assert!(bytes(1, "working_bytes") > bytes(0, "working_bytes"), "two images need more than one\n{run}");
    }
}

#[test]
fn the_table_says_what_each_network_needs() {
    let s = Scratch::new();
    let run = bench(&s, &[]).says(&["images/s", "Memory is what the engine holds"]);
    let memory: Vec<f64> = run
        .out
        .lines()
        .filter(|line| line.starts_with("seeded:"))
        .map(|line| line.split_whitespace().last().and_then(|w| w.parse().ok()).expect("a number"))
        .collect();
    assert_eq!(memory.len(), 4, "{run}");
    assert!(memory[2] < memory[0], "{NET} is smaller than what ran before it\n{run}");
}
