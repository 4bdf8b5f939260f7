//! Bootstrap over clusters: the patient is the unit.
//!
//! Images of one patient resemble each other, so resampling images would make intervals too narrow;
//! whole patients are drawn with replacement instead (Field and Welsh 2007). Resample `r` depends
//! only on the stream and `r`, so resamples may be computed in any order on any number of threads.
//! A resample in which the statistic is not estimable (for instance one class only) is counted,
//! never replaced by a made-up value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::StatsError;
use crate::interval::{Interval, IntervalMethod};
use crate::normal::critical_value;
use crate::random::Stream;

/// Resamples of reports unless asked otherwise.
pub const DEFAULT_RESAMPLES: usize = 2000;
/// Most resamples that may be asked for.
pub const MAX_RESAMPLES: usize = 1_000_000;
/// Clusters that a resample needs to vary at all.
const MIN_CLUSTERS: usize = 2;

/// The rows of each cluster, for instance the images of each patient.
#[derive(Debug, Clone)]
pub struct Clusters {
    rows_of: Vec<Vec<usize>>,
}

/// A statistic with its bootstrap percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The statistic on the rows themselves.
    pub estimate: f64,
    /// Percentile interval over the resamples that gave a value.
    pub interval: Interval,
    /// Standard deviation over the resamples that gave a value.
    pub standard_error: f64,
    /// Resamples drawn.
    pub resamples: usize,
    /// Resamples in which the statistic was not estimable; with many of them distrust the interval.
    pub not_estimable: usize,
    /// Number of clusters.
    pub clusters: usize,
}

impl Clusters {
    /// Groups rows by their cluster's name; clusters are numbered by first appearance, so renaming
    /// them changes nothing.
    ///
    /// # Errors
    /// Fewer than two clusters.
    pub fn new<C: Ord>(cluster_of_row: &[C]) -> Result<Self, StatsError> {
        let mut number_of: BTreeMap<&C, usize> = BTreeMap::new();
        let mut rows_of: Vec<Vec<usize>> = Vec::new();
        for (row, cluster) in cluster_of_row.iter().enumerate() {
            let number = *number_of.entry(cluster).or_insert(rows_of.len());
            if number == rows_of.len() {
                rows_of.push(Vec::new());
            }
            rows_of[number].push(row);
        }
        if rows_of.len() < MIN_CLUSTERS {
            return Err(StatsError::TooFew { what: "clusters (patients)", needed: MIN_CLUSTERS, found: rows_of.len() });
        }
        Ok(Self { rows_of })
    }

    /// Number of clusters, at least two.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows_of.len()
    }

    /// Number of rows over all clusters.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows_of.iter().map(Vec::len).sum()
    }

    /// Row indices of resample number `resample`: as many clusters as there are, drawn with
    /// replacement, each with all its rows. Rows repeat and their number varies.
    #[must_use]
    pub fn resample(&self, stream: &Stream, resample: usize) -> Vec<usize> {
        let mut draws = stream.child(resample as u64);
        let mut rows = Vec::with_capacity(self.rows());
        for _ in 0..self.count() {
            rows.extend_from_slice(&self.rows_of[draws.below(self.count())]);
        }
        rows
    }

    /// The statistic's bootstrap percentile interval. `statistic` gets row indices (of the original
    /// rows, with repeats) and answers with a value or why there is none; a value that is not
    /// finite counts as none.
    ///
    /// # Errors
    /// The statistic's own error on the original rows; `resamples` above [`MAX_RESAMPLES`]; `level`
    /// not strictly between 0 and 1; [`StatsError::TooFewResamples`] if fewer than half of the
    /// resamples gave a value, or too few for one value to lie beyond each end of the interval.
    pub fn bootstrap<F>(
        &self,
        resamples: usize,
        level: f64,
        stream: &Stream,
        mut statistic: F,
    ) -> Result<Bootstrap, StatsError>
    where
        F: FnMut(&[usize]) -> Result<f64, StatsError>,
    {
        check_plan(resamples, level)?;
        let all: Vec<usize> = (0..self.rows()).collect();
        let estimate = statistic(&all)?;
        if !estimate.is_finite() {
            return Err(StatsError::NotFinite { what: "statistic", row: 0, value: estimate });
        }
        let values: Vec<f64> =
            (0..resamples).filter_map(|number| statistic(&self.resample(stream, number)).ok()).collect();
        self.summarise(estimate, values, resamples, level)
    }

    /// The end of [`Clusters::bootstrap`] for a caller that computed the resamples itself, for
    /// instance in parallel: `values` are those of the `resamples` that gave one, in any order.
    ///
    /// # Errors
    /// As for [`Clusters::bootstrap`]; more values than resamples.
    pub fn summarise(
        &self,
        estimate: f64,
        mut values: Vec<f64>,
        resamples: usize,
        level: f64,
    ) -> Result<Bootstrap, StatsError> {
        check_plan(resamples, level)?;
        values.retain(|value| value.is_finite());
        let estimable = values.len();
        if estimable > resamples {
            return Err(StatsError::Length { what: "bootstrap values", expected: resamples, found: estimable });
        }
        let beyond_each_end = (2.0 / (1.0 - level)).ceil() as usize;
        let needed = resamples.div_ceil(2).max(beyond_each_end);
        if estimable < needed {
            return Err(StatsError::TooFewResamples { estimable, resamples, needed });
        }
        // Sorted before summing, so that the order of computation leaves no trace.
        values.sort_unstable_by(f64::total_cmp);
        let count = estimable as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let tail = 0.5 * (1.0 - level);
        Ok(Bootstrap {
            estimate,
            interval: Interval {
                low: sample_quantile(&values, tail),
                high: sample_quantile(&values, 1.0 - tail),
                level,
                method: IntervalMethod::Percentile,
            },
            standard_error: (squares / (count - 1.0)).sqrt(),
            resamples,
            not_estimable: resamples - estimable,
            clusters: self.count(),
        })
    }
}

fn check_plan(resamples: usize, level: f64) -> Result<(), StatsError> {
    critical_value(level)?;
    if resamples > MAX_RESAMPLES {
        return Err(StatsError::OutOfRange {
            what: "number of bootstrap resamples",
            value: resamples as f64,
            low: 1.0,
            high: MAX_RESAMPLES as f64,
        });
    }
    Ok(())
}

/// Quantile of sorted values, linear between order statistics (type 7 of Hyndman and Fan 1996, the
/// default of R and NumPy). `sorted` is not empty, `share` lies in [0, 1].
fn sample_quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roc::auc;

    fn mean_of(values: &[f64], rows: &[usize]) -> Result<f64, StatsError> {
        Ok(rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64)
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(sample_quantile(&sorted, 0.0), 1.0);
        assert_eq!(sample_quantile(&sorted, 0.5), 3.0);
        assert_eq!(sample_quantile(&sorted, 0.75), 5.0);
        assert_eq!(sample_quantile(&sorted, 1.0), 8.0);
    }

    #[test]
    fn whole_clusters_are_drawn() {
        let patients = ["b", "a", "b", "c", "a", "b"];
        let clusters = Clusters::new(&patients).unwrap();
        assert_eq!((clusters.count(), clusters.rows()), (3, 6));
        let stream = Stream::keyed(1, "bootstrap");
        let mut seen = [false; 6];
        for number in 0..50 {
            let rows = clusters.resample(&stream, number);
            let times = |row: usize| rows.iter().filter(|&&r| r == row).count();
            assert!(times(0) == times(2) && times(2) == times(5) && times(1) == times(4));
            assert_eq!(times(0) + times(1) + times(3), 3);
            rows.iter().for_each(|&row| seen[row] = true);
        }
        assert_eq!(seen, [true; 6]);
        let renamed = Clusters::new(&[9, 1, 9, 4, 1, 9]).unwrap();
        assert_eq!(renamed.resample(&stream, 7), clusters.resample(&stream, 7));
    }

    #[test]
    fn standard_error_of_a_mean_is_the_known_one() {
        let mut stream = Stream::keyed(2, "bootstrap");
        let values: Vec<f64> = (0..200).map(|_| stream.normal()).collect();
        let single: Vec<usize> = (0..200).collect();
        let pairs: Vec<usize> = (0..200).map(|row| row / 2).collect();
        let twins: Vec<f64> = (0..200).map(|row| values[row / 2]).collect();
        let one =
            Clusters::new(&single).unwrap().bootstrap(2000, 0.95, &stream, |rows| mean_of(&values, rows)).unwrap();
        let expected = {
            let mean = values.iter().sum::<f64>() / 200.0;
            (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 200.0 / 200.0).sqrt()
        };
        assert!((one.standard_error / expected - 1.0).abs() < 0.1);
        assert!(one.interval.contains(one.estimate) && one.not_estimable == 0);
        assert!((one.interval.width() / (2.0 * 1.96 * expected) - 1.0).abs() < 0.1);

        // 200 images that are 100 identical pairs carry the information of 100 images.
        let honest =
            Clusters::new(&pairs).unwrap().bootstrap(2000, 0.95, &stream, |rows| mean_of(&twins, rows)).unwrap();
        let naive =
            Clusters::new(&single).unwrap().bootstrap(2000, 0.95, &stream, |rows| mean_of(&twins, rows)).unwrap();
        let ratio = honest.standard_error / naive.standard_error;
        assert!((ratio / 2f64.sqrt() - 1.0).abs() < 0.1, "{ratio}");
    }

    #[test]
    fn same_stream_same_interval_whatever_the_order() {
        let values: Vec<f64> = (0..30).map(|i| f64::from(i * i % 17)).collect();
        let patients: Vec<usize> = (0..30).map(|row| row / 3).collect();
        let clusters = Clusters::new(&patients).unwrap();
        let stream = Stream::keyed(3, "bootstrap");
        let one = clusters.bootstrap(400, 0.9, &stream, |rows| mean_of(&values, rows)).unwrap();
        let backwards: Vec<f64> =
            (0..400).rev().map(|number| mean_of(&values, &clusters.resample(&stream, number)).unwrap()).collect();
        assert_eq!(clusters.summarise(one.estimate, backwards, 400, 0.9).unwrap(), one);
        let other = Stream::keyed(4, "bootstrap");
        assert_ne!(clusters.bootstrap(400, 0.9, &other, |rows| mean_of(&values, rows)).unwrap(), one);
    }

    #[test]
    fn resamples_of_one_class_are_counted() {
        let scores: Vec<f64> = (0..12).map(f64::from).collect();
        let truth: Vec<bool> = (0..12).map(|row| row == 5 || row == 11).collect();
        let clusters = Clusters::new(&(0..12).collect::<Vec<usize>>()).unwrap();
        let statistic = |rows: &[usize]| {
            let s: Vec<f64> = rows.iter().map(|&row| scores[row]).collect();
            let t: Vec<bool> = rows.iter().map(|&row| truth[row]).collect();
            auc(&s, &t)
        };
        let stream = Stream::keyed(5, "bootstrap");
        let one = clusters.bootstrap(1000, 0.95, &stream, statistic).unwrap();
        // No positive among 12 draws has probability (10/12)^12 = 0.112.
        assert!((70..160).contains(&one.not_estimable), "{}", one.not_estimable);
        assert!(one.interval.low >= 0.0 && one.interval.high <= 1.0);
    }

    #[test]
    fn not_estimable_is_an_error() {
        assert!(matches!(Clusters::new(&["a", "a"]), Err(StatsError::TooFew { found: 1, .. })));
        let clusters = Clusters::new(&[1, 2, 3]).unwrap();
        let stream = Stream::keyed(6, "bootstrap");
        let constant = |_: &[usize]| Ok(1.0);
        assert!(clusters.bootstrap(39, 0.95, &stream, constant).is_err());
        assert!(clusters.bootstrap(40, 0.95, &stream, constant).is_ok());
        assert!(clusters.bootstrap(0, 0.95, &stream, constant).is_err());
        assert!(clusters.bootstrap(MAX_RESAMPLES + 1, 0.95, &stream, constant).is_err());
        assert!(clusters.bootstrap(100, 1.0, &stream, constant).is_err());
        let mut calls = 0;
        let mostly_missing = |_: &[usize]| {
            calls += 1;
            if calls == 1 || calls % 3 == 0 { Ok(1.0) } else { Err(StatsError::Empty { what: "x" }) }
        };
        assert!(matches!(
            clusters.bootstrap(300, 0.95, &stream, mostly_missing),
            Err(StatsError::TooFewResamples { resamples: 300, .. })
        ));
    }
}
