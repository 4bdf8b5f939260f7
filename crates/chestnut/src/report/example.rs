//! A comparison for tests: two approaches, a label with few positives, one that is not estimable, and hostile names.
//!
//! Scores follow a formula, so that ROC curves and intervals are real ones and the same on every machine.

use crate::evaluate::{Comparison, MethodScore, NetworkUsed, PartCount, score_method, spread};

const IMAGES: usize = 120;

fn method(approach: &str, source: &str, labels: &[String], draw: usize, skill: f64) -> MethodScore {
    let n = labels.len();
    let (mut scores, mut truth) = (Vec::new(), Vec::new());
    for i in 0..IMAGES {
        for k in 0..n {
            // Label 1 has 6 positives, the last label none; every 20th value is unknown.
            let positive = match k {
                1 => i % 20 == 3,
                k if k + 1 == n => false,
                k => i % (k + 2) == 0,
            };
            let noise = ((i * 37 + k * 11 + draw * 53) % 101) as f64 / 101.0;
            scores.push(noise + if positive { skill } else { 0.0 });
            truth.push((i % 20 != 7).then_some(positive));
        }
    }
    score_method(approach, source, labels, &scores, &truth, &[])
}

/// Four labels, two approaches of two rows, three splits.
pub(crate) fn comparison() -> Comparison {
    let labels: Vec<String> = ["Normal", "PNX", "<b>", "Bone, \"old\""].map(str::to_owned).to_vec();
    let rows = [
        ("Embeddings + RF", "densenet121", 0.4),
        ("Embeddings + RF", "Average", 0.6),
        ("Embeddings + XRT", "densenet121", 0.3),
        ("Embeddings + XRT", "Average", 0.5),
    ];
    let methods = rows.map(|(approach, source, skill)| {
        let draws: Vec<MethodScore> = (0..3).map(|draw| method(approach, source, &labels, draw, skill)).collect();
        MethodScore { spread: spread(&draws), ..draws[0].clone() }
    });
    Comparison {
        version: "0.1.0".to_owned(),
        title: "study & <script>".to_owned(),
        labels,
        images: 400,
        patients: 300,
        rejects: vec![("cannot be read as an image".to_owned(), 3), ("lateral view".to_owned(), 2)],
        warnings: vec!["two patients share a picture".to_owned()],
        unit: "patient".to_owned(),
        seed: 7,
        parts: vec![
            PartCount { part: "train".to_owned(), images: 280, patients: 210 },
            PartCount { part: "test".to_owned(), images: IMAGES, patients: 90 },
        ],
        recipe: vec!["1. clip".to_owned(), "2. scale".to_owned()],
        recipe_hash: "0123456789abcdef".to_owned(),
        networks: vec![NetworkUsed {
            name: "densenet121".to_owned(),
            architecture: "DenseNet121".to_owned(),
            width: 1024,
            weights: "f".repeat(64),
            licence: "CC BY 4.0".to_owned(),
        }],
        settings: vec!["RF 100 trees, depth 10".to_owned()],
        methods: methods.to_vec(),
        as_published: false,
        marks: Vec::new(),
        details: Vec::new(),
        differences: Vec::new(),
        subgroups: Vec::new(),
        learning: Vec::new(),
        timings: Vec::new(),
        seconds: vec![("embed".to_owned(), 78.4), ("compare".to_owned(), 0.31)],
    }
}
