//! The logistic function and its loss; logistic regression on one predictor, for recalibration and Platt scaling.
//!
//! Newton's method (iteratively reweighted least squares) on the standardised predictor, with
//! halved steps where a full step would lose likelihood. Whether a finite solution exists is the
//! caller's business: `check_overlap` decides it exactly for 0/1 targets (Albert and Anderson
//! 1984); targets strictly between 0 and 1 always have one.

use crate::error::StatsError;

/// Newton steps; a well-posed fit on a standardised predictor needs about ten.
const MAX_STEPS: usize = 100;
/// Halvings of a step before it is taken as it is.
const MAX_HALVINGS: u32 = 40;
/// Relative size of the last step.
const TOLERANCE: f64 = 1e-11;

/// Coefficients of `logit(p) = intercept + slope * x`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) intercept: f64,
    pub(crate) slope: f64,
    pub(crate) slope_standard_error: f64,
}

/// 1 / (1 + exp(-x)) without overflow.
#[must_use]
pub fn expit(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// ln(p / (1 - p)).
pub(crate) fn logit(p: f64) -> f64 {
    p.ln() - (-p).ln_1p()
}

/// ln(1 + exp(x)) without overflow.
#[must_use]
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Binary cross-entropy (negative log-likelihood) of one row with linear predictor `eta` and target in [0, 1].
#[must_use]
pub fn cross_entropy(eta: f64, target: f64) -> f64 {
    softplus(eta) - target * eta
}

/// Checks that a logistic fit of `truth` on `x` has a finite solution: the classes must overlap in
/// more than one point, from both sides. Both classes must be present.
pub(crate) fn check_overlap(what: &'static str, x: &[f64], truth: &[bool]) -> Result<(), StatsError> {
    let range = |class: bool| {
        x.iter()
            .zip(truth)
            .filter(|row| *row.1 == class)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), row| {
                (f64::min(low, *row.0), f64::max(high, *row.0))
            })
    };
    let (low_positive, high_positive) = range(true);
    let (low_negative, high_negative) = range(false);
    if low_positive.min(low_negative) == high_positive.max(high_negative) {
        return Err(StatsError::Constant { what });
    }
    if low_positive >= high_negative || low_negative >= high_positive {
        return Err(StatsError::Separated { what });
    }
    Ok(())
}

/// Fits intercept and slope to targets in [0, 1]. The inputs are finite and of equal length.
pub(crate) fn fit_line(what: &'static str, x: &[f64], targets: &[f64]) -> Result<Line, StatsError> {
    let rows = x.len() as f64;
    let mean = x.iter().sum::<f64>() / rows;
    let sd = (x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows).sqrt();
    // Compared value by value: rounding of the mean can give equal values a tiny deviation.
    if sd == 0.0 || x.iter().all(|v| *v == x[0]) {
        return Err(StatsError::Constant { what });
    }
    if !sd.is_finite() {
        return Err(StatsError::NotConverged { what, steps: 0 });
    }
    let scaled: Vec<f64> = x.iter().map(|v| (v - mean) / sd).collect();
    let total_loss =
        |a: f64, b: f64| -> f64 { scaled.iter().zip(targets).map(|(v, t)| cross_entropy(a + b * v, *t)).sum() };

    let mut a = logit(targets.iter().sum::<f64>() / rows);
    let mut b = 0.0;
    let mut current = total_loss(a, b);
    for _ in 0..MAX_STEPS {
        let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (v, t) in scaled.iter().zip(targets) {
            let p = expit(a + b * v);
            let weight = p * (1.0 - p);
            g0 += t - p;
            g1 += (t - p) * v;
            h00 += weight;
            h01 += weight * v;
            h11 += weight * v * v;
        }
        let determinant = h00 * h11 - h01 * h01;
        let step_a = (h11 * g0 - h01 * g1) / determinant;
        let step_b = (h00 * g1 - h01 * g0) / determinant;
        if !step_a.is_finite() || !step_b.is_finite() {
            break;
        }
        if step_a.abs() + step_b.abs() < TOLERANCE * (1.0 + a.abs() + b.abs()) {
            return Ok(Line {
                intercept: a + step_a - (b + step_b) * mean / sd,
                slope: (b + step_b) / sd,
                slope_standard_error: (h00 / determinant).sqrt() / sd,
            });
        }
        let mut share = 1.0;
        let mut next = total_loss(a + step_a, b + step_b);
        for _ in 0..MAX_HALVINGS {
            // The slack is rounding error of the sum; without it the last steps could stall.
            if next <= current + 1e-12 * (1.0 + current) {
                break;
            }
            share *= 0.5;
            next = total_loss(a + share * step_a, b + share * step_b);
        }
        a += share * step_a;
        b += share * step_b;
        current = next;
    }
    Err(StatsError::NotConverged { what, steps: MAX_STEPS })
}

/// Fits the intercept of `logit(p) = intercept + offset` to targets in [0, 1] whose mean is neither
/// 0 nor 1. Returns the intercept and its standard error.
pub(crate) fn fit_intercept(what: &'static str, offsets: &[f64], targets: &[f64]) -> Result<(f64, f64), StatsError> {
    // The score function falls strictly with the intercept, so bracket its zero and then let
    // Newton's method run inside the bracket.
    let score_and_weight = |a: f64| {
        offsets.iter().zip(targets).fold((0.0_f64, 0.0_f64), |(score, weight), (offset, target)| {
            let p = expit(a + offset);
            (score + target - p, weight + p * (1.0 - p))
        })
    };
    let mean = logit(targets.iter().sum::<f64>() / targets.len() as f64);
    let highest = offsets.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lowest = offsets.iter().copied().fold(f64::INFINITY, f64::min);
    // Every predicted probability is at most (at least) the mean target at the two ends.
    let (mut low, mut high) = (mean - highest, mean - lowest);
    let mut a = 0.5 * (low + high);
    for _ in 0..MAX_STEPS {
        let (score, weight) = score_and_weight(a);
        if score > 0.0 {
            low = a;
        } else {
            high = a;
        }
        let newton = a + score / weight;
        let next = if (low..=high).contains(&newton) { newton } else { 0.5 * (low + high) };
        let step = (next - a).abs();
        a = next;
        if step < TOLERANCE * (1.0 + a.abs()) {
            let (_, weight) = score_and_weight(a);
            return Ok((a, (1.0 / weight).sqrt()));
        }
    }
    Err(StatsError::NotConverged { what, steps: MAX_STEPS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn logit_and_expit_are_inverse() {
        for x in [-700.0, -30.0, -1.0, 0.0, 0.5, 20.0] {
            assert!((logit(expit(x)) - x).abs() < 1e-6 * (1.0 + f64::abs(x)), "{x}");
        }
        assert_eq!(expit(-800.0), 0.0);
        assert_eq!(expit(800.0), 1.0);
    }

    #[test]
    fn the_fit_zeroes_the_score_equations() {
        let mut stream = Stream::keyed(1, "logistic");
        for round in 0..100 {
            let scale = 10f64.powi(round % 7 - 3);
            let x: Vec<f64> = (0..60).map(|_| scale * (5.0 + stream.normal())).collect();
            let targets: Vec<f64> =
                x.iter().map(|v| if stream.uniform() < expit(v / scale - 5.0) { 0.98 } else { 0.03 }).collect();
            let line = fit_line("x", &x, &targets).unwrap();
            let rest = |v: &f64, t: &f64| t - expit(line.intercept + line.slope * v);
            let g0: f64 = x.iter().zip(&targets).map(|(v, t)| rest(v, t)).sum();
            let g1: f64 = x.iter().zip(&targets).map(|(v, t)| rest(v, t) * v / scale).sum();
            assert!(g0.abs() < 1e-9 && g1.abs() < 1e-9, "{g0} {g1}");
            let offsets: Vec<f64> = x.iter().map(|v| v / scale).collect();
            let (a, _) = fit_intercept("x", &offsets, &targets).unwrap();
            let g: f64 = offsets.iter().zip(&targets).map(|(v, t)| t - expit(a + v)).sum();
            assert!(g.abs() < 1e-8, "{g}");
        }
    }

    #[test]
    fn overlap_is_decided_exactly() {
        let truth = [false, false, true, true];
        assert!(check_overlap("x", &[1.0, 3.0, 2.0, 4.0], &truth).is_ok());
        let separated = Err(StatsError::Separated { what: "x" });
        assert_eq!(check_overlap("x", &[1.0, 2.0, 3.0, 4.0], &truth), separated);
        assert_eq!(check_overlap("x", &[1.0, 2.0, 2.0, 4.0], &truth), separated, "in one point");
        assert_eq!(check_overlap("x", &[4.0, 3.0, 2.0, 1.0], &truth), separated);
        assert_eq!(check_overlap("x", &[2.0; 4], &truth), Err(StatsError::Constant { what: "x" }));
    }

    #[test]
    fn extreme_sizes_give_an_error_not_a_number() {
        assert!(fit_line("x", &[1e308, -1e308, 1e308], &[0.1, 0.9, 0.5]).is_err());
        let constant = fit_line("x", &[0.1; 3], &[0.1, 0.9, 0.5]).map(|line| line.slope);
        assert_eq!(constant, Err(StatsError::Constant { what: "x" }));
    }
}
