//! Intervals from resampling patients, so that images of one patient do not count as several witnesses (design rule 1).
//!
//! A resample is a number of times for each row. Each label's rows are sorted once, and its AUC on any resample is then
//! one walk over them, equal to `roc::auc` on the repeated rows. All methods of a study see the same resamples.

use crate::evaluate::LEVEL;
use chestnut_stats::random::Stream;
use chestnut_stats::resample::MAX_RESAMPLES;
use chestnut_stats::{Clusters, StatsError, mean, roc};
use rayon::prelude::*;

/// Purpose of the stream of draws.
pub(crate) const PURPOSE: &str = "patient bootstrap";

/// One known row of a label.
struct Placed {
    /// Row of the test part.
    row: usize,
    positive: bool,
    /// Whether the next row has another score.
    last_of_tie: bool,
}

/// The known rows of one label from the lowest score up.
pub(crate) struct Ranked {
    placed: Vec<Placed>,
    /// AUC on the rows themselves.
    pub(crate) auc: f64,
}

impl Ranked {
    /// Sorts one label's rows; scores of unknown rows are not looked at.
    ///
    /// # Errors
    /// Scores that are not finite, one class only.
    pub(crate) fn new(scores: &[f64], truth: &[Option<bool>]) -> Result<Self, StatsError> {
        let mut known: Vec<(f64, usize, bool)> = scores
            .iter()
            .zip(truth)
            .enumerate()
            .filter_map(|(row, (&score, truth))| truth.map(|positive| (score, row, positive)))
            .collect();
        let (s, t): (Vec<f64>, Vec<bool>) = known.iter().map(|&(score, _, positive)| (score, positive)).unzip();
        let auc = roc::auc(&s, &t)?;
        known.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let last = |i: usize, score: f64| known.get(i + 1).is_none_or(|next| next.0 != score);
        let placed = known.iter().enumerate();
        let placed = placed.map(|(i, &(score, row, positive))| Placed { row, positive, last_of_tie: last(i, score) });
        Ok(Self { placed: placed.collect(), auc })
    }

    /// AUC if each row counts `times[row]` times; `None` if that leaves one class only.
    pub(crate) fn auc_of(&self, times: &[u64]) -> Option<f64> {
        // Twice the pairs in order, so that half a pair is an integer.
        let (mut won, mut positives, mut negatives) = (0_u64, 0_u64, 0_u64);
        let (mut tied_positives, mut tied_negatives) = (0_u64, 0_u64);
        for placed in &self.placed {
            let tied = if placed.positive { &mut tied_positives } else { &mut tied_negatives };
            *tied += times[placed.row];
            if placed.last_of_tie {
                won += tied_positives * (2 * negatives + tied_negatives);
                positives += tied_positives;
                negatives += tied_negatives;
                (tied_positives, tied_negatives) = (0, 0);
            }
        }
        (positives > 0 && negatives > 0).then(|| won as f64 / (2 * positives * negatives) as f64)
    }
}

/// Resamples of patients.
pub(crate) struct Draws {
    clusters: Clusters,
    stream: Stream,
    resamples: usize,
}

impl Draws {
    /// `resamples` resamples of the patients; `patients[row]` is whose the row is.
    ///
    /// # Errors
    /// Fewer than two patients, more than [`MAX_RESAMPLES`].
    pub(crate) fn new(patients: &[&str], resamples: usize, seed: u64) -> Result<Self, StatsError> {
        if resamples > MAX_RESAMPLES {
            let (value, high) = (resamples as f64, MAX_RESAMPLES as f64);
            return Err(StatsError::OutOfRange { what: "number of bootstrap resamples", value, low: 1.0, high });
        }
        Ok(Self { clusters: Clusters::new(patients)?, stream: Stream::keyed(seed, PURPOSE), resamples })
    }

    /// The statistic of each resample, in order; it gets how often each row was drawn.
    pub(crate) fn map<T: Send>(&self, statistic: impl Fn(&[u64]) -> T + Sync + Send) -> Vec<T> {
        let one = |resample| {
            let mut times = vec![0_u64; self.clusters.rows()];
            self.clusters.resample(&self.stream, resample).into_iter().for_each(|row| times[row] += 1);
            statistic(&times)
        };
        (0..self.resamples).into_par_iter().map(one).collect()
    }

    /// Percentile interval of a statistic: its value on the rows themselves, and on the resamples that gave one.
    ///
    /// # Errors
    /// If fewer than half of the resamples gave a value, or too few for the percentiles.
    pub(crate) fn interval(&self, estimate: f64, values: Vec<f64>) -> Result<[f64; 2], StatsError> {
        let summary = self.clusters.summarise(estimate, values, self.resamples, LEVEL)?;
        Ok([summary.interval.low, summary.interval.high])
    }
}

/// Intervals of one method's AUCs.
pub(crate) struct AucIntervals {
    /// Per label, or why there is none.
    pub(crate) labels: Vec<Result<[f64; 2], String>>,
    /// Of the mean over the labels that have an AUC.
    pub(crate) mean: Option<[f64; 2]>,
    /// Resamples drawn.
    pub(crate) drawn: usize,
    /// Resamples in which at least one of those labels lost a class.
    pub(crate) lost: usize,
}

impl AucIntervals {
    /// Resamples the patients; `ranked` holds each label, or why it has no AUC.
    pub(crate) fn new(patients: &[&str], ranked: &[Result<Ranked, String>], resamples: usize, seed: u64) -> Self {
        let draws = match Draws::new(patients, resamples, seed) {
            Ok(draws) => draws,
            Err(e) => {
                let why = |label: &Result<Ranked, String>| match label {
                    Ok(_) => Err(format!("no bootstrap interval: {e}")),
                    Err(reason) => Err(reason.clone()),
                };
                return Self { labels: ranked.iter().map(why).collect(), mean: None, drawn: 0, lost: 0 };
            }
        };
        // [resample][label]
        let one = |label: &Result<Ranked, String>, times: &[u64]| label.as_ref().ok()?.auc_of(times);
        let values: Vec<Vec<Option<f64>>> = draws.map(|times| ranked.iter().map(|label| one(label, times)).collect());
        let of_label = |k: usize| -> Vec<f64> { values.iter().filter_map(|resample| resample[k]).collect() };
        let labels = ranked.iter().enumerate().map(|(k, label)| {
            let auc = label.as_ref().map_err(String::clone)?.auc;
            draws.interval(auc, of_label(k)).map_err(|e| format!("no bootstrap interval: {e}"))
        });
        let usable = || ranked.iter().filter_map(|label| label.as_ref().ok());
        let estimable = |resample: &[Option<f64>]| resample.iter().flatten().count();
        let means: Vec<f64> = values.iter().filter_map(|resample| mean(resample.iter().copied().flatten())).collect();
        Self {
            labels: labels.collect(),
            mean: mean(usable().map(|label| label.auc)).and_then(|estimate| draws.interval(estimate, means).ok()),
            drawn: resamples,
            lost: values.iter().filter(|resample| estimable(resample) < usable().count()).count(),
        }
    }
}
