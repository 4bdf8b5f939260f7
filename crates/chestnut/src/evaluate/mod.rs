//! How good predictions are: per label and over all labels, always with an interval and the number of positives.
//!
//! [`Comparison`] is the one result of `chestnut compare`; terminal table, CSV, JSON and HTML report all come from it.
//! What cannot be estimated says why and is never a made-up number.

pub mod calibrate;
mod check;
pub mod detail;
pub mod differences;
pub mod results;
pub mod subgroups;
pub mod table;

use chestnut_stats::{delong, mean, roc};
use serde::{Deserialize, Serialize};

/// Labels with fewer test positives are marked, and a second mean is given without them (protocol 6.2).
pub const FEW_POSITIVES: usize = 10;
/// Confidence level of all intervals.
pub const LEVEL: f64 = 0.95;

/// AUC of one label on the test part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelScore {
    /// Label name.
    pub label: String,
    /// Test images whose label is positive.
    pub positives: usize,
    /// Test images whose label is negative.
    pub negatives: usize,
    /// Test images whose label is unknown; they do not count.
    pub unknown: usize,
    /// Area under the ROC curve (Mann-Whitney), 0 to 1; `None` if it cannot be estimated.
    pub auc: Option<f64>,
    /// 95 % interval of the AUC (DeLong's variance with patients as clusters, on the logit scale).
    pub interval: Option<[f64; 2]>,
    /// Why there is no AUC or no interval.
    pub reason: Option<String>,
    /// (false positive rate, true positive rate) from (0, 0) to (1, 1); empty without an AUC.
    pub roc: Vec<[f64; 2]>,
}

/// One row of a results table: an approach with one network or an ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodScore {
    /// Such as `Embeddings + RF`.
    pub approach: String,
    /// A network's name, `Average` or `Entropy`.
    pub source: String,
    /// In the order of [`Comparison::labels`].
    pub labels: Vec<LabelScore>,
    /// Mean AUC over the estimable labels.
    pub mean_auc: Option<f64>,
    /// Mean AUC over the labels with at least [`FEW_POSITIVES`] test positives, if that leaves others out.
    pub mean_auc_without_few: Option<f64>,
    /// Over the repeated splits, if there were several.
    pub spread: Option<Spread>,
    /// What it was tested on if not the study's shared test part (`--as-published`): `all 941 images, nothing held out`.
    pub tested_on: Option<String>,
}

/// AUC over repeated splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of splits.
    pub repeats: usize,
    /// Per label, over the splits in which it was estimable.
    pub labels: Vec<Option<Repeated>>,
    /// Of the mean AUC, in every split over the same labels: those that all splits can estimate. `None` without any.
    pub mean: Option<Repeated>,
    /// Labels that some splits can estimate and others cannot: they have no part in [`Spread::mean`].
    pub left_out: Vec<String>,
}

/// One AUC in several splits or draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    /// Splits or draws that gave one, at least 1.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, divisor n - 1; `None` for a single value.
    pub sd: Option<f64>,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Repeated {
    /// Of some values; `None` without any.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.collect();
        let n = values.len();
        let mean = mean(values.iter().copied())?;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        Some(Self { n, mean, sd, min, max })
    }
}

/// Images and patients of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartCount {
    /// `train` or `test`.
    pub part: String,
    /// Images.
    pub images: usize,
    /// Patients.
    pub patients: usize,
}

/// A network as it took part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkUsed {
    /// Name in the study.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Width of the embedding.
    pub width: usize,
    /// SHA-256 of the weights, or `seeded (not trained)`.
    pub weights: String,
    /// Licence as recorded.
    pub licence: String,
}

/// Everything that `chestnut compare` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Version of the software.
    pub version: String,
    /// Title for people: the study folder's name.
    pub title: String,
    /// Label names, in order.
    pub labels: Vec<String>,
    /// Images of the cohort that were compared on.
    pub images: usize,
    /// Patients.
    pub patients: usize,
    /// Reasons why files were refused and how often each occurred, most frequent first.
    pub rejects: Vec<(String, usize)>,
    /// Rows of the labels table that were refused. A file that such a row names is among `rejects` too.
    pub refused_rows: usize,
    /// What the cohort's maker should know, in plain words.
    pub warnings: Vec<String>,
    /// `patient` or `image`.
    pub unit: String,
    /// Seed of split, forests and all other draws.
    pub seed: u64,
    /// Sizes of the parts of the first split.
    pub parts: Vec<PartCount>,
    /// Steps of the recipe, in order, for people.
    pub recipe: Vec<String>,
    /// Its hash.
    pub recipe_hash: String,
    /// Networks.
    pub networks: Vec<NetworkUsed>,
    /// Settings of the learners, one line each.
    pub settings: Vec<String>,
    /// Results of the first split, and the spread over the others.
    pub methods: Vec<MethodScore>,
    /// Whether the approaches were run with the paper's own splits and in-sample stacking, and so cannot be compared.
    pub as_published: bool,
    /// What else makes the numbers misleading, in plain words; every table of results carries it.
    #[serde(default)]
    pub marks: Vec<String>,
    /// Intervals, thresholds and calibration of each approach's first-named row (its average, or its only network).
    pub details: Vec<results::MethodDetail>,
    /// Those rows against the reference approach.
    pub differences: Vec<results::Difference>,
    /// The same rows in groups of patients.
    pub subgroups: Vec<results::Subgroups>,
    /// AUC against the number of local patients, if asked for.
    pub learning: Vec<results::LearningPoint>,
    /// Wall time of each approach.
    pub timings: Vec<results::Timing>,
    /// Wall time of each stage in seconds.
    pub seconds: Vec<(String, f64)>,
}

/// Scores one label: `scores`, `truth` and `patients` of the test images, unknown labels as `None`.
#[must_use]
pub fn score_label(label: &str, scores: &[f64], truth: &[Option<bool>], patients: &[&str]) -> LabelScore {
    let known = scores.iter().zip(truth).zip(patients).filter_map(|((&s, t), who)| t.map(|t| (s, (t, who))));
    let (s, (t, who)): (Vec<f64>, (Vec<bool>, Vec<&str>)) = known.unzip();
    let positives = t.iter().filter(|&&t| t).count();
    let mut result = LabelScore {
        label: label.to_owned(),
        positives,
        negatives: t.len() - positives,
        unknown: truth.len() - t.len(),
        auc: None,
        interval: None,
        reason: None,
        roc: Vec::new(),
    };
    if positives == 0 || positives == t.len() {
        let missing = if positives == 0 { "positive" } else { "negative" };
        result.reason = Some(format!("not estimable: no {missing} image in the test part"));
        return result;
    }
    match roc::auc(&s, &t) {
        Ok(auc) => {
            result.auc = Some(auc);
            result.roc = roc::roc_curve(&s, &t)
                .map(|c| c.iter().map(|p| [p.false_positive_rate, p.true_positive_rate]).collect())
                .unwrap_or_default();
        }
        Err(e) => result.reason = Some(e.to_string()),
    }
    match delong::delong_clustered(&s, &t, &who).and_then(|d| d.logit_interval(LEVEL)) {
        Ok(i) => result.interval = Some([i.low, i.high]),
        Err(e) => result.reason = Some(format!("no interval: {e}")),
    }
    result
}

/// Scores all labels of one method; `probabilities` and `truth` are `[image][label]`, `patients` `[image]`.
///
/// A label with a reason in `untrained` (it had one class in the training part, say) is not scored: what its learner
/// answers is no prediction.
#[must_use]
pub fn score_method(
    approach: &str,
    source: &str,
    labels: &[String],
    probabilities: &[f64],
    truth: &[Option<bool>],
    patients: &[&str],
    untrained: &[Option<String>],
) -> MethodScore {
    let n = labels.len();
    let column = |k: usize| -> LabelScore {
        let scores: Vec<f64> = probabilities.iter().skip(k).step_by(n).copied().collect();
        let truth: Vec<Option<bool>> = truth.iter().skip(k).step_by(n).copied().collect();
        let score = score_label(&labels[k], &scores, &truth, patients);
        match untrained.get(k).cloned().flatten() {
            Some(reason) => LabelScore { auc: None, interval: None, roc: Vec::new(), reason: Some(reason), ..score },
            None => score,
        }
    };
    let labels: Vec<LabelScore> = (0..n).map(column).collect();
    let mean_auc = mean(labels.iter().filter_map(|l| l.auc));
    let few = labels.iter().any(|l| l.auc.is_some() && l.positives < FEW_POSITIVES);
    let mean_auc_without_few =
        few.then(|| mean(labels.iter().filter(|l| l.positives >= FEW_POSITIVES).filter_map(|l| l.auc))).flatten();
    MethodScore {
        approach: approach.into(),
        source: source.into(),
        labels,
        mean_auc,
        mean_auc_without_few,
        spread: None,
        tested_on: None,
    }
}

/// The spread of one method over repeated splits.
#[must_use]
pub fn spread(repeats: &[MethodScore]) -> Option<Spread> {
    let first = repeats.first().filter(|_| repeats.len() > 1)?;
    // By name: a label that cannot be learned on one split is missing there.
    let of = |name: &str| -> Vec<Option<f64>> {
        repeats.iter().map(|r| r.labels.iter().find(|l| l.label == name)?.auc).collect()
    };
    // [label][split]
    let aucs: Vec<Vec<Option<f64>>> = first.labels.iter().map(|l| of(&l.label)).collect();
    let in_all = |label: &&Vec<Option<f64>>| label.iter().all(Option::is_some);
    let mean_of = |split: usize| mean(aucs.iter().filter(in_all).filter_map(|label| label[split]));
    let in_some = |label: &Vec<Option<f64>>| label.iter().any(Option::is_some) && label.iter().any(Option::is_none);
    let left_out = first.labels.iter().zip(&aucs).filter(|(_, label)| in_some(label));
    Some(Spread {
        repeats: repeats.len(),
        labels: aucs.iter().map(|label| Repeated::of(label.iter().flatten().copied())).collect(),
        mean: Repeated::of((0..repeats.len()).filter_map(mean_of)),
        left_out: left_out.map(|(l, _)| l.label.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_estimated_says_why() {
        let truth = [Some(false), None, Some(false)];
        let s = score_label("PNX", &[0.1, 0.2, 0.3], &truth, &["a", "b", "c"]);
        assert_eq!((s.auc, s.positives, s.negatives, s.unknown), (None, 0, 2, 1));
        assert!(s.reason.is_some_and(|r| r.contains("no positive")));
    }

    /// As many patients.
    fn who(count: usize) -> Vec<&'static str> {
        const NAMES: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        (0..count).map(|i| &NAMES[i..=i]).collect()
    }

    #[test]
    fn intervals_are_of_patients_and_not_of_their_images() {
        // Twelve images, and each of them four times.
        let truth: Vec<Option<bool>> = (0..12).map(|i| Some(i % 3 == 0)).collect();
        let scores: Vec<f64> = (0..12).map(|i| f64::from(i * 7 % 12) + if i % 3 == 0 { 3.0 } else { 0.0 }).collect();
        let once = score_label("PNX", &scores, &truth, &who(12));
        let copies = score_label("PNX", &scores.repeat(4), &truth.repeat(4), &who(12).repeat(4));
        let (Some([low, high]), Some([low4, high4])) = (once.interval, copies.interval) else { panic!("intervals") };
        assert!((low - low4).abs() < 1e-9 && (high - high4).abs() < 1e-9, "{low} {low4} {high} {high4}");
        assert_eq!((once.auc, copies.positives), (copies.auc, 16));
        // All positives of one patient have an AUC and say nothing of other patients.
        let one = score_label("PNX", &scores, &truth, &["a", "b", "c", "a", "d", "e", "a", "f", "g", "a", "h", "i"]);
        assert!(one.auc == once.auc && one.interval.is_none() && one.reason.is_some_and(|r| r.contains("patients")));
    }

    #[test]
    fn labels_with_few_positives_are_left_out_of_the_second_mean() {
        let labels = ["a".to_owned(), "b".to_owned()];
        // Label a: 15 of 30 positive and perfect; label b: 2 of 30 positive and inverted.
        let truth: Vec<Option<bool>> = (0..30).flat_map(|i| [Some(i < 15), Some(i < 2)]).collect();
        let p: Vec<f64> = (0..30).flat_map(|i| [f64::from(30 - i), f64::from(i)]).collect();
        let m = score_method("x", "y", &labels, &p, &truth, &who(30), &[]);
        assert_eq!((m.mean_auc, m.mean_auc_without_few), (Some(0.5), Some(1.0)));
    }

    #[test]
    fn the_mean_over_splits_is_of_the_labels_that_all_of_them_estimate() {
        let labels = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        // Label a is perfect in every split; b, inverted, has positives in the first alone; c nowhere.
        let split = |has_b: bool| {
            let truth: Vec<Option<bool>> =
                (0..30).flat_map(|i| [Some(i < 15), Some(has_b && i < 2), Some(false)]).collect();
            let p: Vec<f64> = (0..30).flat_map(|i| [f64::from(30 - i), f64::from(i), 0.5]).collect();
            score_method("x", "y", &labels, &p, &truth, &who(30), &[])
        };
        let found = spread(&[split(true), split(false), split(false)]).expect("three splits");
        let mean = found.mean.expect("label a");
        assert_eq!((mean.n, mean.mean, mean.sd), (3, 1.0, Some(0.0)));
        assert_eq!(found.left_out, ["b"], "c is in no mean anyway");
        let b = found.labels[1].expect("the first split");
        assert_eq!((b.n, b.mean, b.sd), (1, 0.0, None), "one value has no standard deviation");
        assert_eq!(found.labels[2], None);
        assert_eq!(spread(&[split(true)]), None);
    }
}
