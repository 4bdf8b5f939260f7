//! Comparisons for tests: two approaches, a label with few positives, one that is not estimable, and hostile names.
//!
//! Scores follow a formula, so that ROC curves and intervals are real ones and the same on every machine.

use crate::cohort::{CohortImage, Label};
use crate::evaluate::detail::{DetailOptions, Tested, detail};
use crate::evaluate::differences::difference;
use crate::evaluate::results::{LearningPoint, Timing};
use crate::evaluate::subgroups::subgroups;
use crate::evaluate::{Comparison, MethodScore, NetworkUsed, PartCount, Repeated, score_method, spread};

const IMAGES: usize = 120;

/// Scores and truth, `[image][label]`.
fn table(n: usize, draw: usize, skill: f64) -> (Vec<f64>, Vec<Option<bool>>) {
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
    (scores, truth)
}

fn method(approach: &str, source: &str, labels: &[String], draw: usize, skill: f64) -> MethodScore {
    let (scores, truth) = table(labels.len(), draw, skill);
    let patients: Vec<String> = (0..IMAGES).map(|i| format!("patient {i}")).collect();
    let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
    score_method(approach, source, labels, &scores, &truth, &patients, &[])
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
        refused_rows: 4,
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

/// The same with everything that lies beyond the AUCs, for the average of each approach.
pub(crate) fn full() -> Comparison {
    let mut c = comparison();
    let n = c.labels.len();
    let patients: Vec<String> = (0..IMAGES).map(|i| format!("p{}", i / 2)).collect();
    let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
    let images: Vec<CohortImage> = (0..IMAGES)
        .map(|i| CohortImage {
            id: format!("{i:03}.png"),
            row: 2,
            patient: patients[i].to_owned(),
            view: Some("PA".to_owned()),
            age_years: Some(30.0 + i as f32 / 4.0),
            sex: Some(if i % 2 == 0 { 'F' } else { 'M' }),
            manufacturer: None,
            width: 8,
            height: 8,
            bits: 8,
            format: "PNG".to_owned(),
            sha256: String::new(),
            labels: vec![Label::Unknown; n],
        })
        .collect();
    let images: Vec<&CohortImage> = images.iter().collect();
    let mut untrained = vec![None; n];
    untrained[n - 1] = Some("not estimable: no positive image in the training part".to_owned());
    let (rf, truth) = table(n, 0, 0.6);
    let (xrt, _) = table(n, 0, 0.5);
    let (own, own_truth) = table(n, 5, 0.6);
    let tested = |approach, test| Tested {
        approach,
        source: "Average",
        labels: &c.labels,
        test,
        truth: &truth,
        patients: &patients,
        untrained: &untrained,
        out_of_fold: Some((&own[..], &own_truth[..])),
    };
    let both = [tested("Embeddings + RF", &rf[..]), tested("Embeddings + XRT", &xrt[..])];
    let options = DetailOptions { resamples: 200, ..DetailOptions::new(7) };
    let details = both.iter().map(|t| detail(t, &options).0).collect::<Vec<_>>();
    let groups = both.iter().map(|t| subgroups(t, &images)).collect::<Vec<_>>();
    let differences = vec![difference(&both[0], &both[1], &options)];
    let point = |patients: usize, auc: f64| LearningPoint {
        approach: "Embeddings + RF".to_owned(),
        source: "Average".to_owned(),
        patients,
        images: 2 * patients,
        draws: 3,
        mean_auc: Some(Repeated { n: 3, mean: auc, sd: Some(0.02), min: auc - 0.03, max: auc + 0.03 }),
        labels: vec![Some(auc), None, Some(auc), None],
    };
    (c.details, c.subgroups, c.differences) = (details, groups, differences);
    c.learning = vec![point(42, 0.7), point(21, 0.65), point(210, 0.8)];
    c.timings = vec![Timing { approach: "Embeddings + RF".to_owned(), stage: "fit".to_owned(), seconds: 0.31 }];
    c
}
