//! A confidence interval that says how it was made.
//!
//! All modules return this one type, so a report can print "0.81 (0.74 to 0.88, 95 %, logit
//! DeLong)" without knowing where it came from.

use serde::{Deserialize, Serialize};

/// The confidence level of reports unless asked otherwise.
pub const DEFAULT_LEVEL: f64 = 0.95;

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntervalMethod {
    /// Estimate plus or minus a multiple of the standard error, cut to the parameter's range.
    Normal,
    /// The same on the logit scale, mapped back.
    Logit,
    /// Score interval for an AUC whose DeLong variance is zero (Newcombe 2006, method 5).
    Newcombe,
    /// Score interval for a proportion (Wilson 1927).
    Wilson,
    /// Percentiles of bootstrap resamples.
    Percentile,
}

/// A two-sided confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level, in (0, 1), for instance 0.95.
    pub level: f64,
    /// How it was made.
    pub method: IntervalMethod,
}

impl Interval {
    /// Whether `value` lies inside, ends included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Upper minus lower end.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_belong_to_the_interval() {
        let interval = Interval { low: 0.25, high: 0.75, level: 0.95, method: IntervalMethod::Normal };
        assert!(interval.contains(0.25) && interval.contains(0.75));
        assert!(!interval.contains(0.2499) && !interval.contains(f64::NAN));
        assert_eq!(interval.width(), 0.5);
    }
}
