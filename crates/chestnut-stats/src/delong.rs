//! Variance, interval and paired test of the AUC after DeLong, DeLong and Clarke-Pearson (1988).
//!
//! The placements are taken from midranks in O(n log n) (Sun and Xu 2014). Where the variance
//! estimate is zero (an AUC of exactly 1 or 0, or all scores equal) the DeLong interval would be a
//! single point, as in R's pROC, which claims certainty from few patients; instead the score
//! interval of Newcombe (2006) is given and marked as such.
//!
//! Rows of one patient are not independent. [`delong_clustered`] and [`paired_delong_clustered`] add up the placements of
//! each cluster before they take variances (Obuchowski 1997); with one row in each cluster this is DeLong's variance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_both_classes};
use crate::interval::{Interval, IntervalMethod};
use crate::logistic::{expit, logit};
use crate::normal::{critical_value, two_sided_p};
use crate::roc::midranks;

/// Rows of each class, and clusters that have some, that a variance needs.
const MIN_PER_CLASS: usize = 2;
/// Halvings of [0, 1] in the search for the ends of the score interval; reaches rounding error.
const BISECTIONS: u32 = 80;

/// An AUC with its DeLong variance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeLong {
    /// Area under the ROC curve, in [0, 1].
    pub auc: f64,
    /// Estimated variance of `auc`.
    pub variance: f64,
    /// Number of positive rows.
    pub positives: usize,
    /// Number of negative rows.
    pub negatives: usize,
    /// Clusters that hold positive rows; as many as rows where these are independent.
    pub positive_clusters: usize,
    /// Clusters that hold negative rows.
    pub negative_clusters: usize,
}

/// Two scores of the same rows, compared by their AUC.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedComparison {
    /// AUC of the first score.
    pub auc_a: f64,
    /// AUC of the second score.
    pub auc_b: f64,
    /// `auc_a - auc_b`.
    pub difference: f64,
    /// Standard error of the difference, the correlation of the two AUCs taken into account.
    pub standard_error: f64,
    /// Difference divided by its standard error; 0 if both are 0.
    pub z: f64,
    /// Two-sided p-value; 1 if the two scores put every row in the same place.
    pub p_value: f64,
    /// Interval of the difference, cut to [-1, 1].
    pub interval: Interval,
    /// Number of positive rows.
    pub positives: usize,
    /// Number of negative rows.
    pub negatives: usize,
}

/// How many rows of the other class lie below each row, ties counting one half.
struct Placements {
    /// For each positive row, in row order: negatives below it.
    of_positives: Vec<f64>,
    /// For each negative row, in row order: positives below it.
    of_negatives: Vec<f64>,
}

fn placements(scores: &[f64], truth: &[bool]) -> Placements {
    let overall = midranks(scores);
    let of_class = |class: bool| -> Vec<f64> {
        let rows: Vec<usize> = (0..truth.len()).filter(|&row| truth[row] == class).collect();
        let own: Vec<f64> = rows.iter().map(|&row| scores[row]).collect();
        rows.iter().zip(midranks(&own)).map(|(&row, rank)| overall[row] - rank).collect()
    };
    Placements { of_positives: of_class(true), of_negatives: of_class(false) }
}

/// Rows of each class by their clusters.
struct Grouping {
    /// The cluster of each positive row, in row order.
    of_positives: Vec<usize>,
    /// The same of the negative rows.
    of_negatives: Vec<usize>,
    clusters: usize,
    positive_clusters: usize,
    negative_clusters: usize,
}

impl Grouping {
    /// # Errors
    /// As for [`delong_clustered`], but for what the scores may be.
    fn new<C: Ord>(truth: &[bool], cluster_of_row: &[C]) -> Result<Self, StatsError> {
        if cluster_of_row.len() != truth.len() {
            return Err(StatsError::Length { what: "clusters", expected: truth.len(), found: cluster_of_row.len() });
        }
        let mut number_of: BTreeMap<&C, usize> = BTreeMap::new();
        let numbers: Vec<usize> = cluster_of_row
            .iter()
            .map(|cluster| {
                let next = number_of.len();
                *number_of.entry(cluster).or_insert(next)
            })
            .collect();
        let of_class = |class: bool| -> Vec<usize> {
            numbers.iter().zip(truth).filter(|&(_, &row)| row == class).map(|(&number, _)| number).collect()
        };
        let (of_positives, of_negatives, clusters) = (of_class(true), of_class(false), number_of.len());
        let different = |numbers: &[usize]| {
            let mut seen = vec![false; clusters];
            numbers.iter().for_each(|&number| seen[number] = true);
            seen.into_iter().filter(|&seen| seen).count()
        };
        let (positive_clusters, negative_clusters) = (different(&of_positives), different(&of_negatives));
        for (what, found) in [
            ("clusters (patients) with positives", positive_clusters),
            ("clusters (patients) with negatives", negative_clusters),
        ] {
            if found < MIN_PER_CLASS {
                return Err(StatsError::TooFew { what, needed: MIN_PER_CLASS, found });
            }
        }
        Ok(Self { of_positives, of_negatives, clusters, positive_clusters, negative_clusters })
    }

    /// Variance of a mean placement, given the placements of both classes (or differences of them): the sums over
    /// clusters of how far they are from their class's mean, squared and multiplied (Obuchowski 1997, section 2).
    ///
    /// Exactly zero if all values of each class are equal, because the values are multiples of one half and their sum is
    /// exact.
    fn variance_of_mean(&self, of_positives: &[f64], of_negatives: &[f64]) -> f64 {
        let (m, n) = (of_positives.len() as f64, of_negatives.len() as f64);
        let away = |values: &[f64], clusters: &[usize]| -> Vec<f64> {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let mut sums = vec![0.0; self.clusters];
            values.iter().zip(clusters).for_each(|(value, &cluster)| sums[cluster] += value - mean);
            sums
        };
        let (p, q) = (away(of_positives, &self.of_positives), away(of_negatives, &self.of_negatives));
        let products = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let unbiased = |count: usize| count as f64 / (count as f64 - 1.0);
        let within =
            unbiased(self.positive_clusters) * products(&p, &p) + unbiased(self.negative_clusters) * products(&q, &q);
        // A negative row's placement counts the positives below it, an AUC those above: hence the sign.
        let between = -2.0 * unbiased(self.clusters) * products(&p, &q);
        // In products of two large numbers a small variance may come out below zero.
        ((within + between) / (m * m) / (n * n)).max(0.0)
    }
}

fn check(scores: &[f64], truth: &[bool]) -> Result<(usize, usize), StatsError> {
    let (positives, negatives) = check_both_classes(scores, truth)?;
    for (what, found) in [("positives", positives), ("negatives", negatives)] {
        if found < MIN_PER_CLASS {
            return Err(StatsError::TooFew { what, needed: MIN_PER_CLASS, found });
        }
    }
    Ok((positives, negatives))
}

/// AUC and its DeLong variance, rows taken as independent.
///
/// # Errors
/// Empty input, unequal lengths, scores that are not finite, one class only, a class with fewer
/// than two rows.
pub fn delong(scores: &[f64], truth: &[bool]) -> Result<DeLong, StatsError> {
    delong_clustered(scores, truth, &Vec::from_iter(0..truth.len()))
}

/// AUC and its variance where rows of one cluster (a patient) are not independent.
///
/// # Errors
/// As for [`delong`], and if fewer than two clusters have positive rows or negative ones.
pub fn delong_clustered<C: Ord>(scores: &[f64], truth: &[bool], cluster_of_row: &[C]) -> Result<DeLong, StatsError> {
    let (positives, negatives) = check(scores, truth)?;
    let grouping = Grouping::new(truth, cluster_of_row)?;
    let placed = placements(scores, truth);
    let pairs = positives as f64 * negatives as f64;
    Ok(DeLong {
        auc: placed.of_positives.iter().sum::<f64>() / pairs,
        variance: grouping.variance_of_mean(&placed.of_positives, &placed.of_negatives),
        positives,
        negatives,
        positive_clusters: grouping.positive_clusters,
        negative_clusters: grouping.negative_clusters,
    })
}

impl DeLong {
    /// Square root of the variance.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        self.variance.sqrt()
    }

    /// AUC plus or minus a multiple of its standard error, cut to [0, 1] (pROC's default).
    /// If the variance is zero, the score interval of Newcombe instead.
    ///
    /// # Errors
    /// `level` is not strictly between 0 and 1.
    pub fn interval(&self, level: f64) -> Result<Interval, StatsError> {
        let z = critical_value(level)?;
        if self.is_degenerate() {
            return Ok(self.newcombe(z, level));
        }
        let half_width = z * self.standard_error();
        Ok(Interval {
            low: (self.auc - half_width).max(0.0),
            high: (self.auc + half_width).min(1.0),
            level,
            method: IntervalMethod::Normal,
        })
    }

    /// The interval made on the logit scale and mapped back (Pepe 2003, section 5.2): it stays
    /// inside (0, 1) and covers better near the ends and with few positives, so reports use it.
    /// If the variance is zero, the score interval of Newcombe instead.
    ///
    /// # Errors
    /// `level` is not strictly between 0 and 1.
    pub fn logit_interval(&self, level: f64) -> Result<Interval, StatsError> {
        let z = critical_value(level)?;
        if self.is_degenerate() {
            return Ok(self.newcombe(z, level));
        }
        let half_width = z * self.standard_error() / (self.auc * (1.0 - self.auc));
        Ok(Interval {
            low: expit(logit(self.auc) - half_width),
            high: expit(logit(self.auc) + half_width),
            level,
            method: IntervalMethod::Logit,
        })
    }

    /// Whether the variance estimate says nothing. An AUC of 0 or 1 always has variance 0.
    fn is_degenerate(&self) -> bool {
        self.variance <= 0.0 || self.auc <= 0.0 || self.auc >= 1.0
    }

    /// Newcombe (2006), method 5: all `a` with |auc - a| <= z sqrt(V(a)), where V is Hanley and
    /// McNeil's variance under exponential scores with both class sizes set to their mean. A cluster counts as one row.
    fn newcombe(&self, z: f64, level: f64) -> Interval {
        let (m, n) = (self.positive_clusters as f64, self.negative_clusters as f64);
        let star = 0.5 * (m + n) - 1.0;
        let variance = |a: f64| a * (1.0 - a) * (1.0 + star * ((1.0 - a) / (2.0 - a) + a / (1.0 + a))) / (m * n);
        let outside = |a: f64| (self.auc - a).abs() > z * variance(a).sqrt();
        // From `far`, an end of [0, 1], towards the estimate; the interval's end is where
        // "outside" turns into "inside".
        let end = |far: f64| {
            if !outside(far) {
                return far;
            }
            let (mut out, mut inside) = (far, self.auc);
            for _ in 0..BISECTIONS {
                let middle = 0.5 * (out + inside);
                if outside(middle) {
                    out = middle;
                } else {
                    inside = middle;
                }
            }
            inside
        };
        Interval { low: end(0.0), high: end(1.0), level, method: IntervalMethod::Newcombe }
    }
}

/// Compares two scores of the same rows: difference of AUCs, z, p and interval (paired DeLong), rows taken as independent.
///
/// If both scores put every row in the same place, the difference and its variance are exactly 0:
/// then z is 0, p is 1 and the interval is the single point 0.
///
/// # Errors
/// As for [`delong`], for either score; a `level` not strictly between 0 and 1;
/// [`StatsError::ZeroVariance`] for a difference that does not vary over the rows.
pub fn paired_delong(a: &[f64], b: &[f64], truth: &[bool], level: f64) -> Result<PairedComparison, StatsError> {
    paired_delong_clustered(a, b, truth, &Vec::from_iter(0..truth.len()), level)
}

/// As [`paired_delong`] where rows of one cluster (a patient) are not independent.
///
/// # Errors
/// As for [`paired_delong`], and if fewer than two clusters have positive rows or negative ones.
pub fn paired_delong_clustered<C: Ord>(
    a: &[f64],
    b: &[f64],
    truth: &[bool],
    cluster_of_row: &[C],
    level: f64,
) -> Result<PairedComparison, StatsError> {
    let (positives, negatives) = check(a, truth)?;
    check(b, truth)?;
    let grouping = Grouping::new(truth, cluster_of_row)?;
    let critical = critical_value(level)?;
    let (placed_a, placed_b) = (placements(a, truth), placements(b, truth));
    let minus = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x - y).collect() };
    let of_positives = minus(&placed_a.of_positives, &placed_b.of_positives);
    let of_negatives = minus(&placed_a.of_negatives, &placed_b.of_negatives);

    let pairs = positives as f64 * negatives as f64;
    let difference = of_positives.iter().sum::<f64>() / pairs;
    // The variance of the differences equals var(a) + var(b) - 2 cov(a, b) without its cancellation.
    let standard_error = grouping.variance_of_mean(&of_positives, &of_negatives).sqrt();
    let z = if standard_error > 0.0 {
        difference / standard_error
    } else if difference == 0.0 {
        0.0
    } else {
        return Err(StatsError::ZeroVariance { difference });
    };
    Ok(PairedComparison {
        auc_a: placed_a.of_positives.iter().sum::<f64>() / pairs,
        auc_b: placed_b.of_positives.iter().sum::<f64>() / pairs,
        difference,
        standard_error,
        z,
        p_value: two_sided_p(z),
        interval: Interval {
            low: (difference - critical * standard_error).max(-1.0),
            high: (difference + critical * standard_error).min(1.0),
            level,
            method: IntervalMethod::Normal,
        },
        positives,
        negatives,
    })
}

#[cfg(test)]
mod tests;
