//! What a comparison says beyond the AUC of each label: one type per table or figure, filled by `evaluate` and read by
//! `report`. Nothing here is computed.
//!
//! "Not estimable" is `None` with a reason beside it, never a made-up number.

use super::Repeated;
use serde::{Deserialize, Serialize};

/// A share of cases with its Wilson interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Cases that count.
    pub successes: usize,
    /// Cases in all.
    pub trials: usize,
    /// `successes / trials`; `None` without a case.
    pub value: Option<f64>,
    /// 95 % Wilson score interval.
    pub interval: Option<[f64; 2]>,
}

/// What a threshold does on the test part. The threshold was chosen on out-of-fold predictions of the other parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// `Youden` or `sensitivity 0.90`.
    pub rule: String,
    /// Positive at or above this score, 0 to 1.
    pub threshold: f64,
    /// Share of the positives that are found.
    pub sensitivity: Rate,
    /// Share of the negatives that are left alone.
    pub specificity: Rate,
    /// Share of true ones among those called positive.
    pub ppv: Rate,
    /// Share of true ones among those called negative.
    pub npv: Rate,
}

/// How far probabilities mean what they say on the test part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationScore {
    /// `none`, `Platt` or `isotonic`: what was fitted on out-of-fold predictions and applied first.
    pub method: String,
    /// Mean squared distance from the truth (Brier 1950), 0 is best.
    pub brier: f64,
    /// Slope of the logistic recalibration line; 1 is right, below 1 is overconfident.
    pub slope: Option<f64>,
    /// Intercept with the slope fixed at 1 (calibration in the large); 0 is right, above 0 is too low.
    pub intercept: Option<f64>,
    /// Images whose probability is so close to 0 or 1 that slope and intercept rest on where it is moved to
    /// ([`chestnut_stats::calibration::PROBABILITY_FLOOR`]).
    pub moved: usize,
    /// Expected calibration error over the bins below.
    pub ece: f64,
    /// Mean predicted probability, observed share and images of each bin. Ten bins of equal numbers of images; equal
    /// probabilities are never parted, so there may be fewer.
    pub bins: Vec<(f64, f64, usize)>,
    /// Why slope and intercept are missing.
    pub reason: Option<String>,
}

/// One label of [`MethodDetail`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelDetail {
    /// Label name.
    pub label: String,
    /// Share of positives among the known test images: what the AUPRC of a coin would be.
    pub prevalence: Option<f64>,
    /// Area under the precision-recall curve (average precision).
    pub auprc: Option<f64>,
    /// 95 % interval of the AUC from resampling patients.
    pub bootstrap: Option<[f64; 2]>,
    /// Sensitivity and its kin at each rule's threshold.
    pub points: Vec<OperatingPoint>,
    /// Uncalibrated first, then each calibration.
    pub calibration: Vec<CalibrationScore>,
    /// Threshold probability, net benefit of the model, of treating all (Vickers and Elkin 2006); treating none is 0.
    /// Of Platt-calibrated probabilities, or of uncalibrated ones if `reason` says so.
    pub decision: Vec<[f64; 3]>,
    /// What is missing above and why.
    pub reason: Option<String>,
}

/// Everything about one row of the results table that is too much for the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodDetail {
    /// As in `MethodScore`.
    pub approach: String,
    /// As in `MethodScore`.
    pub source: String,
    /// In the order of the comparison's labels.
    pub labels: Vec<LabelDetail>,
    /// 95 % interval of the mean AUC from resampling patients.
    pub mean_bootstrap: Option<[f64; 2]>,
    /// Resamples drawn, and in how many of them a label lost a class. It is skipped there; the mean is over the others.
    pub resamples: (usize, usize),
}

/// Difference of two methods for one label on the same test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelDifference {
    /// Label name.
    pub label: String,
    /// AUC of the first minus AUC of the second.
    pub difference: Option<f64>,
    /// 95 % interval (paired DeLong, patients as clusters).
    pub interval: Option<[f64; 2]>,
    /// Two-sided p value (paired DeLong, patients as clusters).
    pub p: Option<f64>,
    /// The same after Holm's correction over the labels.
    pub p_holm: Option<f64>,
    /// Why there is no difference, or one without interval and p value.
    pub reason: Option<String>,
}

/// Two rows of the results table against each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Approach and source of the first.
    pub first: (String, String),
    /// Approach and source of the second.
    pub second: (String, String),
    /// In the order of the comparison's labels.
    pub labels: Vec<LabelDifference>,
    /// Difference of the mean AUCs over the labels that both can estimate, and its 95 % interval from resampling
    /// patients.
    pub mean: Option<(f64, [f64; 2])>,
}

/// AUC of one method in one group of patients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubgroupRow {
    /// `sex`, `age`, `view` or `manufacturer`.
    pub variable: String,
    /// Such as `F` or `40 to 59`.
    pub group: String,
    /// Label name.
    pub label: String,
    /// Test images of the group with this label known.
    pub images: usize,
    /// Those with the label.
    pub positives: usize,
    /// `None` with fewer than ten positives or ten negatives.
    pub auc: Option<f64>,
    /// 95 % interval (DeLong, patients as clusters, logit scale).
    pub interval: Option<[f64; 2]>,
    /// `too few to say` and why.
    pub reason: Option<String>,
}

/// Subgroups of one row of the results table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subgroups {
    /// As in `MethodScore`.
    pub approach: String,
    /// As in `MethodScore`.
    pub source: String,
    /// By variable, group, label.
    pub rows: Vec<SubgroupRow>,
}

/// AUC with part of the local patients to learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningPoint {
    /// As in `MethodScore`.
    pub approach: String,
    /// As in `MethodScore`.
    pub source: String,
    /// Patients that were learned from.
    pub patients: usize,
    /// Their images.
    pub images: usize,
    /// Draws of so many patients.
    pub draws: usize,
    /// Mean AUC over the draws, of the labels that every draw of every size can estimate.
    pub mean_auc: Option<Repeated>,
    /// Mean AUC per label over the draws in which it could be learned and tested.
    pub labels: Vec<Option<f64>>,
}

/// Wall time of one approach, as the paper promised to record it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Such as `Embeddings + RF`.
    pub approach: String,
    /// `fit` (all networks, first split), `out-of-fold` (the same for thresholds and calibration).
    pub stage: String,
    /// Seconds.
    pub seconds: f64,
}
