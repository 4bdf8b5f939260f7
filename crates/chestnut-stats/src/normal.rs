//! The standard normal distribution: distribution function, tail and quantile.
//!
//! Intervals and tests need both to about 1e-12. The complementary error function is summed from
//! its series of positive terms (Abramowitz and Stegun 1964, 7.1.6) below 2 and from its continued
//! fraction (7.1.14) above; relative error below 2e-13 down to 1e-300. The quantile starts from
//! Hastings' rational approximation (26.2.23, error below 4.5e-4) and is polished by Halley steps,
//! each of which cubes the error.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use crate::error::StatsError;

/// Below this the series is used, from it on the continued fraction.
const SERIES_END: f64 = 2.0;
/// Levels of the continued fraction; at `x` the truncation error is near exp(-2 x sqrt(2 levels)).
const FRACTION_LEVELS: u32 = 120;
/// Halley steps; two reach rounding error from the start value, the third is margin.
const HALLEY_STEPS: u32 = 3;

/// The complementary error function, 1 - erf(x). NaN gives NaN.
#[must_use]
pub fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < SERIES_END {
        // erf(x) = 2/sqrt(pi) exp(-x^2) sum of 2^k x^(2k+1) / (1 * 3 * ... * (2k+1))
        let mut term = x;
        let mut sum = x;
        let mut odd = 3.0;
        while term > sum * 1e-17 {
            term *= 2.0 * x * x / odd;
            sum += term;
            odd += 2.0;
        }
        return 1.0 - FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    let mut fraction = x;
    for level in (1..=FRACTION_LEVELS).rev() {
        fraction = x + 0.5 * f64::from(level) / fraction;
    }
    (-x * x).exp() / (PI.sqrt() * fraction)
}

/// P(Z <= z) for a standard normal Z.
#[must_use]
pub fn cdf(z: f64) -> f64 {
    0.5 * erfc(-z * FRAC_1_SQRT_2)
}

/// P(|Z| >= |z|) for a standard normal Z: the two-sided p-value of a z statistic.
#[must_use]
pub fn two_sided_p(z: f64) -> f64 {
    erfc(z.abs() * FRAC_1_SQRT_2)
}

/// The z with P(Z <= z) = `p`, for `p` strictly between 0 and 1.
///
/// # Errors
/// [`StatsError::OutOfRange`] for any other `p`, NaN included.
pub fn quantile(p: f64) -> Result<f64, StatsError> {
    if !(p > 0.0 && p < 1.0) {
        return Err(StatsError::OutOfRange { what: "probability", value: p, low: 0.0, high: 1.0 });
    }
    if p == 0.5 {
        return Ok(0.0);
    }
    // Work in the lower tail, where the distribution function keeps its relative accuracy.
    let tail = if p < 0.5 { p } else { 1.0 - p };
    let t = (-2.0 * tail.ln()).sqrt();
    let numerator = (0.010_328 * t + 0.802_853) * t + 2.515_517;
    let denominator = ((0.001_308 * t + 0.189_269) * t + 1.432_788) * t + 1.0;
    let mut z = numerator / denominator - t;
    for _ in 0..HALLEY_STEPS {
        let step = (cdf(z) - tail) * (2.0 * PI).sqrt() * (0.5 * z * z).exp();
        z -= step / (1.0 + 0.5 * z * step);
    }
    Ok(if p < 0.5 { z } else { -z })
}

/// The multiple of the standard error that spans a two-sided interval at `level`, 1.96 at 0.95.
///
/// # Errors
/// [`StatsError::OutOfRange`] unless `level` lies strictly between 0 and 1.
pub fn critical_value(level: f64) -> Result<f64, StatsError> {
    if !(level > 0.0 && level < 1.0) {
        return Err(StatsError::OutOfRange { what: "confidence level", value: level, low: 0.0, high: 1.0 });
    }
    // Through the tail, so that levels very near 1 keep their digits.
    quantile(0.5 * (1.0 - level)).map(f64::abs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn published_values() {
        assert!((critical_value(0.95).unwrap() - 1.959_963_984_540_054).abs() < 1e-13);
        assert!((critical_value(0.99).unwrap() - 2.575_829_303_548_901).abs() < 1e-13);
        // The two ways to compute erfc meet where they change over.
        let below = erfc(SERIES_END - 1e-12);
        let above = erfc(SERIES_END);
        assert!((below / above - 1.0).abs() < 1e-11 && below > above);
        assert!((erfc(1.0) - 0.157_299_207_050_285_13).abs() < 1e-15);
        assert_eq!(cdf(0.0), 0.5);
        assert_eq!(erfc(f64::INFINITY), 0.0);
        assert_eq!(erfc(f64::NEG_INFINITY), 2.0);
        assert!(erfc(f64::NAN).is_nan());
    }

    #[test]
    fn quantile_inverts_the_distribution_function() {
        let mut stream = Stream::keyed(1, "normal");
        for _ in 0..2000 {
            let p = stream.uniform().max(1e-15);
            assert!((cdf(quantile(p).unwrap()) / p - 1.0).abs() < 1e-12, "{p}");
            let tiny = p * 1e-280;
            assert!((cdf(quantile(tiny).unwrap()) / tiny - 1.0).abs() < 1e-11, "{tiny}");
        }
    }

    #[test]
    fn refuses_what_is_no_probability() {
        for p in [0.0, 1.0, -0.1, 1.1, f64::NAN] {
            assert!(quantile(p).is_err(), "{p}");
            assert!(critical_value(p).is_err(), "{p}");
        }
    }

    #[test]
    fn symmetric() {
        let mut stream = Stream::keyed(2, "normal");
        for _ in 0..500 {
            let z = stream.range(-5.0, 5.0);
            assert!((cdf(z) + cdf(-z) - 1.0).abs() < 1e-15);
            assert!((two_sided_p(z) - 2.0 * cdf(-z.abs())).abs() < 1e-15);
        }
    }
}
