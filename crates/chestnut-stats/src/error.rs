//! The one error type of this crate, and the checks of scores and truth that every module shares.
//!
//! An error says what was not estimable and why, in words that can go into a table next to
//! "not estimable". The checks run before any arithmetic, so no NaN can enter a result.

/// Why a number could not be estimated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// There are no rows at all.
    #[error("{what}: no values were given")]
    Empty {
        /// What was asked for.
        what: &'static str,
    },
    /// Two inputs that belong together have different lengths.
    #[error("{what}: {found} values for {expected} rows; give one value per row")]
    Length {
        /// Which input is at fault.
        what: &'static str,
        /// Number of rows of the other inputs.
        expected: usize,
        /// Number of values given.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("{what}: row {row} (counted from 0) is {value}, which is not a finite number")]
    NotFinite {
        /// Which input is at fault.
        what: &'static str,
        /// Row, counted from 0.
        row: usize,
        /// The value.
        value: f64,
    },
    /// A value lies outside its permitted range.
    #[error("{what}: row {row} (counted from 0) is {value}, outside {low} to {high}")]
    RowOutOfRange {
        /// Which input is at fault.
        what: &'static str,
        /// Row, counted from 0.
        row: usize,
        /// The value.
        value: f64,
        /// Smallest permitted value.
        low: f64,
        /// Largest permitted value.
        high: f64,
    },
    /// A setting lies outside its permitted range.
    #[error("{what} is {value}; it must lie between {low} and {high}")]
    OutOfRange {
        /// Which setting is at fault.
        what: &'static str,
        /// The value.
        value: f64,
        /// Lower end of the range.
        low: f64,
        /// Upper end of the range.
        high: f64,
    },
    /// All rows belong to the same class.
    #[error("one class only: {positives} positives and {negatives} negatives; both are needed")]
    OneClass {
        /// Number of positive rows.
        positives: usize,
        /// Number of negative rows.
        negatives: usize,
    },
    /// There are rows, but not enough of them.
    #[error("too few {what}: {found}; at least {needed} are needed")]
    TooFew {
        /// What there is too little of.
        what: &'static str,
        /// The smallest number that suffices.
        needed: usize,
        /// The number found.
        found: usize,
    },
    /// All values are equal, so they carry no information about the classes.
    #[error("{what}: all values are equal, so nothing can be estimated from them")]
    Constant {
        /// Which input is at fault.
        what: &'static str,
    },
    /// A logistic fit has no finite solution.
    #[error("{what}: the classes are separated perfectly, so the logistic fit has no finite solution")]
    Separated {
        /// What was asked for.
        what: &'static str,
    },
    /// An iterative fit did not settle.
    #[error("{what}: no convergence in {steps} steps; the values may be of extreme size")]
    NotConverged {
        /// What was asked for.
        what: &'static str,
        /// Steps taken.
        steps: usize,
    },
    /// A test statistic would divide by an estimated variance of zero.
    #[error("the difference {difference} has an estimated variance of zero, so it cannot be tested")]
    ZeroVariance {
        /// The observed difference.
        difference: f64,
    },
    /// Too many bootstrap resamples gave no value.
    #[error("only {estimable} of {resamples} bootstrap resamples gave a value; at least {needed} are needed")]
    TooFewResamples {
        /// Resamples that gave a value.
        estimable: usize,
        /// Resamples drawn.
        resamples: usize,
        /// The smallest number that suffices.
        needed: usize,
    },
}

/// Numbers of positives and negatives.
pub(crate) fn class_counts(truth: &[bool]) -> (usize, usize) {
    let positives = truth.iter().filter(|&&positive| positive).count();
    (positives, truth.len() - positives)
}

/// Checks that every value is a finite number.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(row) => Err(StatsError::NotFinite { what, row, value: values[row] }),
        None => Ok(()),
    }
}

/// Checks that scores and truth are non-empty, of equal length, and that the scores are finite.
pub(crate) fn check_scores(scores: &[f64], truth: &[bool]) -> Result<(), StatsError> {
    if truth.is_empty() {
        return Err(StatsError::Empty { what: "truth" });
    }
    if scores.len() != truth.len() {
        return Err(StatsError::Length { what: "scores", expected: truth.len(), found: scores.len() });
    }
    check_finite("scores", scores)
}

/// [`check_scores`], and both classes must be present. Returns (positives, negatives).
pub(crate) fn check_both_classes(scores: &[f64], truth: &[bool]) -> Result<(usize, usize), StatsError> {
    check_scores(scores, truth)?;
    let (positives, negatives) = class_counts(truth);
    if positives == 0 || negatives == 0 {
        return Err(StatsError::OneClass { positives, negatives });
    }
    Ok((positives, negatives))
}

/// [`check_scores`], and every score must be a probability.
pub(crate) fn check_probabilities(probabilities: &[f64], truth: &[bool]) -> Result<(), StatsError> {
    check_scores(probabilities, truth)?;
    match probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(row) => Err(StatsError::RowOutOfRange {
            what: "probabilities",
            row,
            value: probabilities[row],
            low: 0.0,
            high: 1.0,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_named() {
        assert_eq!(check_scores(&[], &[]), Err(StatsError::Empty { what: "truth" }));
        assert!(matches!(check_scores(&[1.0], &[true, false]), Err(StatsError::Length { .. })));
        assert!(matches!(check_scores(&[1.0, f64::NAN], &[true, false]), Err(StatsError::NotFinite { row: 1, .. })));
        assert_eq!(
            check_both_classes(&[1.0, 2.0], &[true, true]),
            Err(StatsError::OneClass { positives: 2, negatives: 0 })
        );
        assert_eq!(check_both_classes(&[1.0, 2.0, 3.0], &[true, false, false]), Ok((1, 2)));
        assert!(matches!(
            check_probabilities(&[0.5, 1.5], &[true, false]),
            Err(StatsError::RowOutOfRange { row: 1, .. })
        ));
    }

    #[test]
    fn messages_can_stand_in_a_table() {
        let message = StatsError::OneClass { positives: 0, negatives: 9 }.to_string();
        assert_eq!(message, "one class only: 0 positives and 9 negatives; both are needed");
    }
}
