//! A planted shortcut is found by the population map and by the shortcut check: in hospital A a bright square in the
//! lower left corner tells who has a fracture, which is a few pixels wide and else hardly to be seen.
//!
//! The feature map is made by hand, so that the test takes seconds and its truth is known: channel c holds the brightest
//! pixel of cell c of a grid, at that cell alone; zero padding lets real networks tell places apart like this. The head
//! is the one that `explain` trains.

use super::cam::{self, CamKind};
use super::population::{DEFAULT_GRID, HeatShares, MeanMap, heat_shares};
use super::shortcut::{MaskedAuc, Masking, verdict};
use super::{ExplainedHead, FeatureMap};
use crate::evaluate::LEVEL;
use crate::image::Radiograph;
use crate::image::recipe::Recipe;
use crate::phantom::{Finding, Hospital, PhantomCase, PhantomConfig, Shortcut, plan, render};
use chestnut_stats::delong::delong;
use chestnut_stats::roc;
use chestnut_train::{Rows, Schedule, TrainedHead};
use rayon::prelude::*;

/// Side of the prepared square.
const SIDE: usize = 64;
/// Cells along each side of the feature map.
const GRID: usize = 16;
const CELLS: usize = GRID * GRID;
const FINDING: Finding = Finding::Bone;

/// `[row][column][channel]`; the mean of channel c over the positions is the brightest pixel of cell c.
fn feature_map(grey: &[f32]) -> Vec<f32> {
    let cell = SIDE / GRID;
    let mut map = vec![0.0; CELLS * CELLS];
    for place in 0..CELLS {
        let (left, top) = (place % GRID * cell, place / GRID * cell);
        let pixels = (0..cell * cell).map(|i| grey[(top + i / cell) * SIDE + left + i % cell]);
        map[place * CELLS + place] = CELLS as f32 * pixels.fold(0.0, f32::max);
    }
    map
}

fn embedding(map: &[f32]) -> Vec<f32> {
    let map = FeatureMap::new(map, GRID, GRID, CELLS).expect("whole");
    map.pooled().into_iter().map(|v| v as f32).collect()
}

/// What both checks say of a cohort.
struct Found {
    whole: MaskedAuc,
    /// AUC of the same head in hospital B, where no marker is planted.
    elsewhere: f64,
    warnings: Vec<String>,
    heat: HeatShares,
}

/// Cases and their prepared squares.
fn cohort(config: &PhantomConfig) -> (Vec<PhantomCase>, Vec<Vec<f32>>) {
    let cases = plan(config).expect("a cohort");
    let recipe = Recipe { size: SIDE, ..Recipe::default() };
    let square = |case: &PhantomCase| {
        let p = render(config, case);
        let most = ((1_u32 << p.bits) - 1) as f32;
        let upright = |v: f32| if p.monochrome1 { most - v } else { v };
        let pixels = p.pixels.iter().map(|&v| upright(f32::from(v))).collect();
        recipe.prepare(&Radiograph { width: p.width, height: p.height, pixels, bits: p.bits }).grey
    };
    let squares = cases.par_iter().map(square).collect();
    (cases, squares)
}

fn check(shortcut: Option<Shortcut>) -> Found {
    let prevalence = [0.2, 0.2, 0.3, 0.1, 0.2, 0.3, 0.2];
    let config = PhantomConfig { images: 400, size: SIDE, seed: 5, prevalence, shortcut, ..PhantomConfig::default() };
    let (cases, squares) = cohort(&config);
    // Whole patients on either side.
    let is_test = |i: &usize| cases[*i].patient_id.ends_with(['1', '3', '5', '7', '9']);
    let (test, train): (Vec<usize>, Vec<usize>) = (0..cases.len()).partition(is_test);
    let label = |i: usize| cases[i].labels[FINDING.index()];

    let train_x: Vec<f32> = train.iter().flat_map(|&i| embedding(&feature_map(&squares[i]))).collect();
    let train_y: Vec<Option<f32>> = train.iter().map(|&i| Some(if label(i) { 1.0 } else { 0.0 })).collect();
    let rows = Rows { embeddings: &train_x, targets: &train_y };
    let nothing = Rows { embeddings: &[], targets: &[] };
    let head = TrainedHead::train(rows, nothing, CELLS, 1, &Schedule::fair(), 0).expect("trains");

    let truth: Vec<bool> = test.iter().map(|&i| label(i)).collect();
    let auc = |masking: Option<&Masking>| -> MaskedAuc {
        let score = |&i: &usize| {
            let mut grey = squares[i].clone();
            if let Some(masking) = masking {
                masking.apply(&mut grey, SIDE).expect("a square");
            }
            head.predict(&embedding(&feature_map(&grey)))[0]
        };
        let scores: Vec<f64> = test.par_iter().map(score).collect();
        let found = delong(&scores, &truth).expect("both classes");
        let interval = found.logit_interval(LEVEL).expect("a level");
        MaskedAuc { auc: found.auc, interval: [interval.low, interval.high] }
    };
    let whole = auc(None);
    let other = PhantomConfig { hospital: Hospital::B, images: 150, shortcut: None, ..config.clone() };
    let (cases_b, squares_b) = cohort(&other);
    let scores: Vec<f64> = squares_b.par_iter().map(|s| head.predict(&embedding(&feature_map(s)))[0]).collect();
    let truth_b: Vec<bool> = cases_b.iter().map(|c| c.labels[FINDING.index()]).collect();
    let elsewhere = roc::auc(&scores, &truth_b).expect("both classes");
    let suite = Masking::suite(None);
    let warnings = suite.iter().filter_map(|m| verdict(FINDING.name(), &whole, &auc(Some(m)), m));
    let warnings = warnings.map(|w| w.to_string()).collect();

    let explained = ExplainedHead::trained(&head, 0, FINDING.name()).expect("an output");
    let mut mean = MeanMap::new(DEFAULT_GRID).expect("a grid");
    for &i in &test {
        let values = feature_map(&squares[i]);
        let map = FeatureMap::new(&values, GRID, GRID, CELLS).expect("whole");
        let gradient = explained.gradient(&embedding(&values)).expect("fits");
        let heat = cam::explain(CamKind::GradCam, &map, &gradient, 0.5).expect("fits");
        let heat = cam::combine(CamKind::GradCam, &[heat], DEFAULT_GRID, DEFAULT_GRID).expect("possible");
        mean.add(&heat).expect("whole");
    }
    let map = mean.mean().expect("images with heat");
    Found { whole, elsewhere, warnings, heat: heat_shares(&map, None).expect("possible").expect("heat") }
}

#[test]
fn a_planted_corner_marker_is_found_by_both_checks() {
    let planted = check(Some(Shortcut { finding: FINDING, fidelity: 1.0 }));
    let honest = check(None);
    let said = |found: &Found, words: &str| found.warnings.iter().any(|w| w.contains(words));

    assert!(planted.whole.auc > 0.85, "the marker is learned: {:?}", planted.whole);
    assert!(honest.whole.auc < 0.75, "without it there is little to learn: {:?}", honest.whole);
    assert!(planted.elsewhere < 0.7, "and is worth nothing in hospital B: {}", planted.elsewhere);
    let alone = "with the four corners alone the model still tells";
    assert!(said(&planted, alone), "{:?}", planted.warnings);
    assert!(said(&planted, "without the four corners the AUC falls"), "{:?}", planted.warnings);
    assert!(!said(&honest, alone), "{:?}", honest.warnings);

    let (with, without) = (&planted.heat, &honest.heat);
    assert!(with.corners > 1.4 * with.corners_area, "heat gathers in the corners: {with:?}");
    assert!(with.corners > 1.25 * without.corners, "{with:?} and without the marker {without:?}");
}
