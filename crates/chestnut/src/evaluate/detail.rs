//! What a method's predictions are worth beyond the AUC: precision, thresholds, calibration, net benefit.
//!
//! All numbers are of the test part. Thresholds and calibrations come from out-of-fold predictions of the other
//! patients ([`super::calibrate`]); without those there are none. Intervals of AUCs are from resampling patients, those
//! of shares (sensitivity and its kin) are Wilson's over images. The paper gives AUCs alone; what is reported here is
//! what TRIPOD+AI and STARD ask for. Whole tables go in and out; nothing is read or written.

pub(crate) mod bootstrap;
#[cfg(test)]
mod tests;

use super::LEVEL;
use super::calibrate::{LabelCalibration, Method, Reasons, Threshold};
use super::results::{CalibrationScore, LabelDetail, MethodDetail, OperatingPoint, Rate};
use bootstrap::{AucIntervals, Ranked};
use chestnut_stats::calibration::{CalibrationLine, PROBABILITY_FLOOR};
use chestnut_stats::proportion::{Confusion, wilson};
use chestnut_stats::resample::DEFAULT_RESAMPLES;
use chestnut_stats::{StatsError, calibration, decision, roc};

/// Largest share of images whose probability may be moved away from 0 or 1 for slope and intercept to be given: above it
/// the line says more of where they are moved to than of the predictions.
pub const MAX_MOVED_SHARE: f64 = 0.05;

/// One method's predictions for the test part.
#[derive(Clone, Copy)]
pub struct Tested<'a> {
    /// Such as `Embeddings + RF`.
    pub approach: &'a str,
    /// A network's name, `Average` or `Entropy`.
    pub source: &'a str,
    /// Label names.
    pub labels: &'a [String],
    /// Probabilities, `[row][label]`.
    pub test: &'a [f64],
    /// Truth, `[row][label]`; `None` is unknown and does not count.
    pub truth: &'a [Option<bool>],
    /// Patient of each row.
    pub patients: &'a [&'a str],
    /// Per label, why it has no prediction; may be shorter than the labels.
    pub untrained: &'a [Option<String>],
    /// Predictions for the patients that were learned from, each by learners that had not seen the patient, and their
    /// truth, both `[row][label]`.
    pub out_of_fold: Option<(&'a [f64], &'a [Option<bool>])>,
}

/// How to look at predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct DetailOptions {
    /// Resamples of patients, at most `chestnut_stats::resample::MAX_RESAMPLES`.
    pub resamples: usize,
    /// Share of positives that the second threshold must find, in (0, 1].
    pub sensitivity_target: f64,
    /// Seed of the resamples.
    pub seed: u64,
    /// Bins of a calibration curve.
    pub bins: usize,
    /// Threshold probabilities of the decision curve, strictly between 0 and 1.
    pub thresholds: Vec<f64>,
}

impl DetailOptions {
    /// 2000 resamples, sensitivity 0.90, ten bins, threshold probabilities 0.01 to 0.99.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            resamples: DEFAULT_RESAMPLES,
            sensitivity_target: 0.90,
            seed,
            bins: calibration::DEFAULT_BINS,
            thresholds: (1..100).map(|i| f64::from(i) / 100.0).collect(),
        }
    }
}

impl Tested<'_> {
    /// Number of test images.
    pub(crate) fn rows(&self) -> usize {
        self.patients.len()
    }

    /// # Panics
    /// If the tables do not have one value per row and label.
    pub(crate) fn assert_shape(&self) {
        let values = self.rows() * self.labels.len();
        assert!(self.test.len() == values && self.truth.len() == values, "one value per test image and label");
        if let Some((scores, truth)) = self.out_of_fold {
            assert_eq!(scores.len(), truth.len(), "one truth per out-of-fold prediction");
        }
    }

    /// Why a label has no prediction.
    pub(crate) fn untrained(&self, label: usize) -> Option<&str> {
        self.untrained.get(label)?.as_deref()
    }

    /// A label's scores and truth, one per test image.
    pub(crate) fn column(&self, label: usize) -> (Vec<f64>, Vec<Option<bool>>) {
        let labels = self.labels.len();
        (column(self.test, labels, label), column(self.truth, labels, label))
    }

    /// A label's scores and truth where the truth is known.
    pub(crate) fn known(&self, label: usize) -> (Vec<f64>, Vec<bool>) {
        let (scores, truth) = self.column(label);
        scores.into_iter().zip(truth).filter_map(|(score, truth)| Some((score, truth?))).unzip()
    }

    /// The patients of the images that [`Self::known`] gives.
    pub(crate) fn known_patients(&self, label: usize) -> Vec<&str> {
        let known = self.patients.iter().zip(self.column(label).1);
        known.filter_map(|(&patient, truth)| truth.map(|_| patient)).collect()
    }

    /// A label's test images ready for resampling, or why it has no AUC.
    pub(crate) fn ranked(&self, label: usize) -> Result<Ranked, String> {
        let missing = self.untrained(label).map(str::to_owned).or_else(|| missing_class(&self.known(label).1));
        let (scores, truth) = self.column(label);
        missing.map_or_else(|| Ranked::new(&scores, &truth).map_err(|e| e.to_string()), Err)
    }
}

/// Column of a table `[row][label]`.
fn column<T: Copy>(table: &[T], labels: usize, label: usize) -> Vec<T> {
    table.iter().skip(label).step_by(labels).copied().collect()
}

/// Why an AUC cannot be estimated from these known test images.
pub(crate) fn missing_class(truth: &[bool]) -> Option<String> {
    let missing = match (truth.contains(&true), truth.contains(&false)) {
        (true, true) => return None,
        (false, false) => "image with a known label",
        (false, true) => "positive image",
        (true, false) => "negative image",
    };
    Some(format!("not estimable: no {missing} in the test part"))
}

/// Everything about one method but its AUCs, and its labels' thresholds and calibrations for `predict`.
///
/// Both are in the order of the labels. In a resample in which a label lost a class, that label is skipped and the mean
/// AUC is over the others; such resamples are counted.
///
/// # Panics
/// If the tables do not have one value per row and label.
#[must_use]
pub fn detail(tested: &Tested<'_>, options: &DetailOptions) -> (MethodDetail, Vec<LabelCalibration>) {
    tested.assert_shape();
    let labels = 0..tested.labels.len();
    let calibrations: Vec<LabelCalibration> = labels.clone().map(|k| calibrate(tested, k, options)).collect();
    let ranked: Vec<Result<Ranked, String>> = labels.map(|k| tested.ranked(k)).collect();
    let intervals = AucIntervals::new(tested.patients, &ranked, options.resamples, options.seed);
    let labels = calibrations
        .iter()
        .zip(intervals.labels)
        .enumerate()
        .map(|(k, (calibration, interval))| label_detail(tested, k, calibration, interval, options))
        .collect();
    let detail = MethodDetail {
        approach: tested.approach.to_owned(),
        source: tested.source.to_owned(),
        labels,
        mean_bootstrap: intervals.mean,
        resamples: (intervals.drawn, intervals.lost),
    };
    (detail, calibrations)
}

/// Thresholds and calibrations of one label, from the out-of-fold predictions alone.
fn calibrate(tested: &Tested<'_>, label: usize, options: &DetailOptions) -> LabelCalibration {
    if let Some(reason) = tested.untrained(label) {
        return LabelCalibration::missing(reason.to_owned());
    }
    let Some((scores, truth)) = tested.out_of_fold else {
        return LabelCalibration::missing(
            "no out-of-fold predictions, hence no threshold and no calibration".to_owned(),
        );
    };
    let labels = tested.labels.len();
    LabelCalibration::fit(&column(scores, labels, label), &column(truth, labels, label), options.sensitivity_target)
}

fn label_detail(
    tested: &Tested<'_>,
    label: usize,
    calibration: &LabelCalibration,
    interval: Result<[f64; 2], String>,
    options: &DetailOptions,
) -> LabelDetail {
    let mut detail = LabelDetail {
        label: tested.labels[label].clone(),
        prevalence: None,
        auprc: None,
        bootstrap: None,
        points: Vec::new(),
        calibration: Vec::new(),
        decision: Vec::new(),
        reason: tested.untrained(label).map(str::to_owned),
    };
    let (scores, truth) = tested.known(label);
    if detail.reason.is_none() && truth.is_empty() {
        detail.reason = missing_class(&truth);
    }
    if detail.reason.is_some() {
        return detail;
    }
    let mut reasons = Reasons::default();
    let positives = truth.iter().filter(|&&t| t).count();
    detail.prevalence = Some(positives as f64 / truth.len() as f64);
    detail.bootstrap = reasons.keep(interval);
    let points = calibration.thresholds.iter().map(|t| operating_point(t, &scores, &truth));
    detail.points = points.filter_map(|point| reasons.keep(point)).collect();
    let calibrated =
        |method: Method| -> Option<Vec<f64>> { scores.iter().map(|&score| calibration.apply(method, score)).collect() };
    for method in Method::ALL {
        // Uncalibrated scores go on even if they are no probabilities, so that the reason is said.
        let Some(p) = calibrated(method).or_else(|| (method == Method::None).then(|| scores.clone())) else { continue };
        detail.calibration.extend(reasons.keep(calibration_score(method, &p, &truth, options.bins)));
    }
    if missing_class(&truth).is_none() {
        detail.auprc = reasons.keep(roc::average_precision(&scores, &truth));
        let p = calibrated(Method::Platt).unwrap_or_else(|| {
            reasons.extend(["net benefit is that of uncalibrated probabilities".to_owned()]);
            scores.clone()
        });
        let curve = reasons.keep(decision::decision_curve(&p, &truth, &options.thresholds)).unwrap_or_default();
        detail.decision = curve.iter().map(|d| [d.threshold, d.net_benefit, d.treat_all]).collect();
    }
    reasons.extend(calibration.reason.clone());
    detail.reason = reasons.join();
    detail
}

/// What a threshold does on the test images.
fn operating_point(threshold: &Threshold, scores: &[f64], truth: &[bool]) -> Result<OperatingPoint, StatsError> {
    let Confusion { true_positives, false_positives, true_negatives, false_negatives } =
        Confusion::at_threshold(scores, truth, threshold.score)?;
    Ok(OperatingPoint {
        rule: threshold.rule.clone(),
        threshold: threshold.score,
        sensitivity: rate(true_positives, true_positives + false_negatives),
        specificity: rate(true_negatives, true_negatives + false_positives),
        ppv: rate(true_positives, true_positives + false_positives),
        npv: rate(true_negatives, true_negatives + false_negatives),
    })
}

fn rate(successes: usize, trials: usize) -> Rate {
    let share = wilson(successes, trials, LEVEL).ok();
    Rate {
        successes,
        trials,
        value: share.map(|s| s.estimate),
        interval: share.map(|s| [s.interval.low, s.interval.high]),
    }
}

/// How far probabilities mean what they say. At most as many bins as images.
fn calibration_score(
    method: Method,
    probabilities: &[f64],
    truth: &[bool],
    bins: usize,
) -> Result<CalibrationScore, StatsError> {
    let bins = bins.min(truth.len());
    let curve = calibration::reliability(probabilities, truth, bins)?;
    let moved = calibration::moved(probabilities);
    let line = calibration_line(probabilities, truth, moved);
    Ok(CalibrationScore {
        method: method.name().to_owned(),
        brier: calibration::brier_score(probabilities, truth)?,
        slope: line.as_ref().ok().map(|l| l.slope),
        intercept: line.as_ref().ok().map(|l| l.in_the_large),
        moved,
        ece: calibration::expected_calibration_error(probabilities, truth, bins)?,
        bins: curve.iter().map(|b| (b.mean_predicted, b.observed, b.rows)).collect(),
        reason: line.err(),
    })
}

/// The calibration line, or why there is none; `moved` is the number of probabilities that it moves.
fn calibration_line(probabilities: &[f64], truth: &[bool], moved: usize) -> Result<CalibrationLine, String> {
    let line = calibration::calibration_line(probabilities, truth).map_err(|e| e.to_string())?;
    let rows = probabilities.len();
    if moved as f64 > MAX_MOVED_SHARE * rows as f64 {
        return Err(format!(
            "not estimable: {moved} of {rows} probabilities are 0 or 1 to within {PROBABILITY_FLOOR}, more than {} %, \
             so the line would say where they are moved to",
            100.0 * MAX_MOVED_SHARE
        ));
    }
    Ok(line)
}
