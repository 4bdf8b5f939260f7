//! The mean of what could be estimated.

/// Arithmetic mean, summed in order; `None` of nothing.
#[must_use]
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0_usize), |(s, n), v| (s + v, n + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_mean() {
        assert_eq!((mean([]), mean([0.5]), mean([0.25, 0.5, 1.5])), (None, Some(0.5), Some(0.75)));
    }
}
