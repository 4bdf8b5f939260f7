//! From a table's cells to what the loss wants: a target and a weight per image and label.
//!
//! What a blank or an uncertain cell means is a choice that changes the network (Irvin et al. 2019; Pham et al., arXiv
//! 1911.06475), so it is named, and drawn values depend on seed, image and label only. Validation counts plain cells
//! alone: an uncertain cell is no truth, whatever it taught.

use super::set::{Cell, TrainingSet};
use chestnut_stats::random::{Stream, fnv1a};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest weight of a positive term: a label with five positives must not drown the others.
pub const MAX_POSITIVE_WEIGHT: f32 = 50.0;
/// Range of a smoothed one (Pham et al.; the paper's networks, protocol 1.1).
const SMOOTH_ONE: (f64, f64) = (0.55, 0.85);
/// Range of a smoothed zero (Pham et al.).
const SMOOTH_ZERO: (f64, f64) = (0.0, 0.3);

/// What -1 becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uncertain {
    /// Its term of the loss is left out.
    Ignore,
    /// Absent.
    Zeros,
    /// Present.
    Ones,
    /// A number between 0.55 and 0.85, drawn once per seed, image and label.
    OnesSmoothed,
    /// A number between 0 and 0.3, likewise.
    ZerosSmoothed,
}

/// What an empty cell becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blank {
    /// Its term of the loss is left out.
    Ignore,
    /// Absent, as published for CheXpert.
    Zeros,
}

/// How cells become targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// What -1 becomes.
    pub uncertain: Uncertain,
    /// What an empty cell becomes.
    pub blank: Blank,
    /// A present child makes its parents present (CheXpert's tree).
    pub propagate: bool,
    /// A child is learned only where its parent is present (Pham et al.), and judged by the product
    /// along its path.
    pub conditional: bool,
}

/// CheXpert's tree (Irvin et al. 2019; protocol 1.1): child and parent. Pneumonia is an opacity through consolidation.
const PARENTS: [(&str, &str); 6] = [
    ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    ("Edema", "Lung Opacity"),
    ("Consolidation", "Lung Opacity"),
    ("Pneumonia", "Consolidation"),
    ("Lung Lesion", "Lung Opacity"),
    ("Atelectasis", "Lung Opacity"),
];

/// The parent of each label, where both are among the labels.
#[must_use]
pub fn parents(labels: &[String]) -> Vec<Option<usize>> {
    let place = |name: &str| labels.iter().position(|l| l == name);
    labels
        .iter()
        .map(|label| PARENTS.iter().find(|&&(child, _)| child == label).and_then(|&(_, parent)| place(parent)))
        .collect()
}

/// The same by name, child to parent, without the roots: what the record of a conditionally trained network says.
#[must_use]
pub fn named_parents(labels: &[String]) -> BTreeMap<String, String> {
    let pairs = labels.iter().zip(parents(labels));
    pairs.filter_map(|(child, parent)| Some((child.clone(), labels[parent?].clone()))).collect()
}

/// What to learn and what to judge by, `[image][label]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    /// Labels.
    pub outputs: usize,
    /// Probabilities, 0 to 1.
    pub values: Vec<f32>,
    /// How much each term counts; 0 where it is left out.
    pub weights: Vec<f32>,
    /// Truth for the AUC; `None` where the table does not say.
    pub truth: Vec<Option<bool>>,
}

impl Targets {
    /// Applies the policies to every image of the set.
    #[must_use]
    pub fn new(set: &TrainingSet, policies: &Policies, seed: u64) -> Self {
        let parents = parents(&set.labels);
        let outputs = set.labels.len();
        let draws = Stream::keyed(seed, "uncertain labels");
        let count = set.samples.len() * outputs;
        let mut all = Self {
            outputs,
            values: Vec::with_capacity(count),
            weights: Vec::with_capacity(count),
            truth: Vec::with_capacity(count),
        };
        for sample in &set.samples {
            let cells = if policies.propagate { propagated(&sample.cells, &parents) } else { sample.cells.clone() };
            let own = draws.child(fnv1a(sample.id.as_bytes()));
            for (label, &cell) in cells.iter().enumerate() {
                let smooth = |(low, high): (f64, f64)| own.child(label as u64).range(low, high) as f32;
                let (value, mut weight) = match cell {
                    Cell::Positive => (1.0, 1.0),
                    Cell::Negative => (0.0, 1.0),
                    Cell::Blank if policies.blank == Blank::Zeros => (0.0, 1.0),
                    Cell::Blank => (0.0, 0.0),
                    Cell::Uncertain => match policies.uncertain {
                        Uncertain::Ignore => (0.0, 0.0),
                        Uncertain::Zeros => (0.0, 1.0),
                        Uncertain::Ones => (1.0, 1.0),
                        Uncertain::OnesSmoothed => (smooth(SMOOTH_ONE), 1.0),
                        Uncertain::ZerosSmoothed => (smooth(SMOOTH_ZERO), 1.0),
                    },
                };
                if policies.conditional && parents[label].is_some_and(|p| cells[p] != Cell::Positive) {
                    weight = 0.0;
                }
                all.values.push(value);
                all.weights.push(weight);
                all.truth.push(match cell {
                    Cell::Positive => Some(true),
                    Cell::Negative => Some(false),
                    Cell::Blank => (policies.blank == Blank::Zeros).then_some(false),
                    Cell::Uncertain => None,
                });
            }
        }
        all
    }

    /// Gives positive terms the weight (negatives / positives) of their label in `rows`, at most
    /// [`MAX_POSITIVE_WEIGHT`] and at least its inverse; a soft target gets its share. Returns the weight of each label.
    pub fn balance(&mut self, rows: &[usize]) -> Vec<f32> {
        let mut weights = Vec::with_capacity(self.outputs);
        for label in 0..self.outputs {
            let (mut positive, mut negative) = (0.0_f64, 0.0_f64);
            for at in rows.iter().map(|&r| r * self.outputs + label).filter(|&at| self.weights[at] > 0.0) {
                positive += f64::from(self.values[at]);
                negative += 1.0 - f64::from(self.values[at]);
            }
            let ratio = if positive > 0.0 && negative > 0.0 { (negative / positive) as f32 } else { 1.0 };
            let weight = ratio.clamp(1.0 / MAX_POSITIVE_WEIGHT, MAX_POSITIVE_WEIGHT);
            for at in (label..self.weights.len()).step_by(self.outputs) {
                if self.weights[at] > 0.0 {
                    self.weights[at] = self.values[at] * weight + (1.0 - self.values[at]);
                }
            }
            weights.push(weight);
        }
        weights
    }
}

/// Cells in which the parents of a present child are present.
fn propagated(cells: &[Cell], parents: &[Option<usize>]) -> Vec<Cell> {
    let mut out = cells.to_vec();
    for child in (0..cells.len()).filter(|&c| cells[c] == Cell::Positive) {
        let mut at = child;
        while let Some(parent) = parents[at] {
            out[parent] = Cell::Positive;
            at = parent;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::set::Sample;
    use super::*;
    use chestnut_zoo::head::CHEXPERT_14;

    fn set(labels: &[&str], rows: &[&[Cell]]) -> TrainingSet {
        let sample = |i: usize, cells: &[Cell]| Sample {
            id: format!("{i}.png"),
            file: format!("{i}.png").into(),
            patient: i.to_string(),
            part: None,
            cells: cells.to_vec(),
        };
        TrainingSet {
            name: "t".into(),
            labels: labels.iter().map(|&l| l.to_owned()).collect(),
            samples: rows.iter().enumerate().map(|(i, cells)| sample(i, cells)).collect(),
            notes: Vec::new(),
        }
    }

    fn policies(uncertain: Uncertain, blank: Blank) -> Policies {
        Policies { uncertain, blank, propagate: false, conditional: false }
    }

    #[test]
    fn each_policy_gives_its_target_and_weight() {
        use Cell::{Blank as B, Negative as N, Positive as P, Uncertain as U};
        let set = set(&["A"], &[&[P], &[N], &[U], &[B]]);
        let plain = Targets::new(&set, &policies(Uncertain::Ignore, Blank::Ignore), 1);
        assert_eq!(plain.values, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(plain.weights, [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(plain.truth, [Some(true), Some(false), None, None]);
        let ones = Targets::new(&set, &policies(Uncertain::Ones, Blank::Zeros), 1);
        assert_eq!((ones.values[2], ones.weights[2]), (1.0, 1.0));
        assert_eq!((ones.weights[3], ones.truth[3], ones.truth[2]), (1.0, Some(false), None));
        assert_eq!(Targets::new(&set, &policies(Uncertain::Zeros, Blank::Zeros), 1).values[2], 0.0);
    }

    #[test]
    fn smoothed_targets_are_drawn_once_per_seed_image_and_label() {
        const BOTH: &[Cell] = &[Cell::Uncertain, Cell::Uncertain];
        let rows = vec![BOTH; 500];
        let set = set(&["A", "B"], &rows);
        let draw = |u, seed| Targets::new(&set, &policies(u, Blank::Ignore), seed).values;
        let ones = draw(Uncertain::OnesSmoothed, 1);
        assert!(ones.iter().all(|v| (0.55..0.85).contains(v)));
        let mean = ones.iter().sum::<f32>() / 1000.0;
        assert!((mean - 0.70).abs() < 0.02, "{mean}");
        assert_eq!(ones, draw(Uncertain::OnesSmoothed, 1));
        assert_ne!(ones, draw(Uncertain::OnesSmoothed, 2));
        assert_ne!(ones[0], ones[1], "labels are drawn apart");
        assert!(draw(Uncertain::ZerosSmoothed, 1).iter().all(|v| (0.0..0.3).contains(v)));
        // Another order of rows draws the same.
        let mut turned = set.clone();
        turned.samples.reverse();
        let turned = Targets::new(&turned, &policies(Uncertain::OnesSmoothed, Blank::Ignore), 1).values;
        assert_eq!(turned[998..], ones[..2]);
    }

    #[test]
    fn the_tree_makes_parents_present_and_masks_children() {
        let parents = parents(&CHEXPERT_14.map(str::to_owned));
        assert_eq!(parents[7], Some(6), "pneumonia is a consolidation");
        assert_eq!(parents[6], Some(3), "which is an opacity");
        assert_eq!(parents[13], None);
        let named = named_parents(&CHEXPERT_14.map(str::to_owned));
        assert_eq!((named.len(), named["Pneumonia"].as_str()), (6, "Consolidation"));
        assert!(named_parents(&["Pneumonia".to_owned(), "Edema".to_owned()]).is_empty(), "no parent is there");
        let mut cells = [Cell::Negative; 14];
        cells[7] = Cell::Positive;
        let set = set(&CHEXPERT_14, &[&cells, &[Cell::Negative; 14]]);
        let rule = Policies { propagate: true, conditional: true, ..policies(Uncertain::Ignore, Blank::Zeros) };
        let t = Targets::new(&set, &rule, 0);
        assert_eq!((t.values[6], t.values[3], t.values[1]), (1.0, 1.0, 0.0));
        assert_eq!((t.weights[7], t.weights[5], t.weights[2]), (1.0, 1.0, 0.0), "opacity is present, mediastinum not");
        assert_eq!((t.weights[14 + 3], t.weights[14 + 5]), (1.0, 0.0));
    }

    #[test]
    fn balanced_weights_are_the_ratio_of_the_training_rows() {
        const P: &[Cell] = &[Cell::Positive];
        const N: &[Cell] = &[Cell::Negative];
        let mut t = Targets::new(&set(&["A"], &[P, N, N, N, P, P]), &policies(Uncertain::Ignore, Blank::Ignore), 0);
        assert_eq!(t.balance(&[0, 1, 2, 3]), [3.0]);
        assert_eq!(t.weights, [3.0, 1.0, 1.0, 1.0, 3.0, 3.0]);
        let mut one_class = Targets::new(&set(&["A"], &[P, P]), &policies(Uncertain::Ignore, Blank::Ignore), 0);
        assert_eq!(one_class.balance(&[0, 1]), [1.0]);
    }
}
