//! The linear probe: L2 logistic regression on embeddings, one per label.
//!
//! Objective per label: sum of log-losses + lambda / 2 |w|^2 over standardised features, the intercept unpenalised:
//! scikit-learn's `LogisticRegression(C = 1 / lambda)` after `StandardScaler`. Mean and deviation are those of all
//! training rows; constant features get no weight; a row whose label is unknown is left out of that label's sum only.
//!
//! Embeddings are wide and cohorts small, so the solver (in `linear_solver.rs`) works in the row space where that is
//! smaller. The paper has no linear head; it is here because it is the field's usual yardstick for embeddings.

use crate::grid::{Fold, label_aucs};
use crate::linear_solver::Design;
use crate::table::{Features, Labels, TableError};
use chestnut_stats::logistic::expit;
use chestnut_stats::mean;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Gradient norm, relative to that of the model without features, at which a fit is done.
const FIT_TOLERANCE: f64 = 1e-10;
/// The same along a regularisation path, where only ranks of probabilities count.
const PATH_TOLERANCE: f64 = 1e-6;
/// Most values of lambda along a path.
pub const MAX_LAMBDAS: usize = 1_000;

/// Why a linear probe cannot be fitted or used.
#[derive(Debug, Error, PartialEq)]
pub enum LinearError {
    /// The tables.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Another number of features than it was fitted on.
    #[error(
        "the linear probe was fitted on {expected} features and was given {found}; is it another network's embedding?"
    )]
    Width {
        /// Features given.
        found: usize,
        /// Features fitted on.
        expected: usize,
    },
    /// Nothing to tell apart.
    #[error("label {output} has one class only among the training rows; leave it out or add rows")]
    OneClass {
        /// Label, from 0.
        output: usize,
    },
    /// Regularisation that is no positive number, or too many or too few of them.
    #[error("{what}; lambda must be a positive number, one per label to fit, and 1 to {most} along a path", most = MAX_LAMBDAS)]
    Lambda {
        /// What was given.
        what: String,
    },
    /// No fold in which any label could be scored.
    #[error("no fold has a label with both classes among its training and its judged rows; use fewer folds")]
    NoFold,
    /// The solver gave up.
    #[error("label {output} did not converge in {steps} steps; use a larger lambda")]
    NotConverged {
        /// Label, from 0.
        output: usize,
        /// Steps taken.
        steps: usize,
    },
    /// A model file that does not hold together.
    #[error("the linear probe is damaged: {0}")]
    Damaged(&'static str),
}

/// A fitted linear probe: probability of label k = 1 / (1 + exp(-(intercept\[k\] + weights\[k\] . row))).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearProbe {
    /// Number of features.
    pub width: usize,
    /// Number of labels.
    pub outputs: usize,
    /// `[output]`: regularisation it was fitted with.
    pub lambdas: Vec<f64>,
    /// `[output][feature]`, for features as they are, not standardised.
    pub weights: Vec<f64>,
    /// `[output]`.
    pub intercepts: Vec<f64>,
}

impl LinearProbe {
    /// Fits one regression per label; `lambdas` holds one value per label.
    ///
    /// Memory: a copy of the feature table as f64; with fewer rows than features three tables of rows by rows; up to 2,000
    /// of rows or features a table of these by these, and one per thread; in numbers at the head of the crate.
    ///
    /// # Errors
    /// [`LinearError`] for tables that do not match, a label with one class, or an impossible lambda.
    pub fn fit(features: &Features, labels: &Labels, lambdas: &[f64]) -> Result<Self, LinearError> {
        check_rows(features, labels)?;
        let outputs = labels.outputs();
        if lambdas.len() != outputs {
            return Err(LinearError::Lambda { what: format!("{} lambdas for {outputs} labels", lambdas.len()) });
        }
        check_lambdas(lambdas)?;
        let design = Design::new(features);
        let fitted: Vec<(Vec<f64>, f64)> = (0..outputs)
            .into_par_iter()
            .map(|k| -> Result<(Vec<f64>, f64), LinearError> {
                let rows = known(labels, k);
                let mut at = design.start(&rows).ok_or(LinearError::OneClass { output: k })?;
                let bound = design.bound(lambdas[k]);
                let solved = design.minimise(&rows, lambdas[k], bound.as_ref(), FIT_TOLERANCE, &mut at);
                solved.map_err(|steps| LinearError::NotConverged { output: k, steps })?;
                Ok(design.unstandardised(&at))
            })
            .collect::<Result<Vec<_>, LinearError>>()?;
        let intercepts = fitted.iter().map(|(_, b)| *b).collect();
        let weights = fitted.into_iter().flat_map(|(w, _)| w).collect();
        Ok(Self { width: features.width(), outputs, lambdas: lambdas.to_vec(), weights, intercepts })
    }

    /// Probability of each label, `[row][output]`.
    ///
    /// # Errors
    /// [`LinearError::Width`].
    pub fn predict(&self, features: &Features) -> Result<Vec<f64>, LinearError> {
        if features.width() != self.width {
            return Err(LinearError::Width { found: features.width(), expected: self.width });
        }
        let mut out = vec![0.0; features.rows() * self.outputs];
        out.par_chunks_mut(self.outputs).enumerate().for_each(|(r, out)| {
            for ((o, weights), b) in out.iter_mut().zip(self.weights.chunks_exact(self.width)).zip(&self.intercepts) {
                *o = expit(b + weights.iter().zip(features.row(r)).map(|(w, &x)| w * f64::from(x)).sum::<f64>());
            }
        });
        Ok(out)
    }

    /// Checks that a probe read from a file holds together.
    ///
    /// # Errors
    /// [`LinearError::Damaged`].
    pub fn validate(&self) -> Result<(), LinearError> {
        if self.width == 0 || self.outputs == 0 {
            return Err(LinearError::Damaged("it has no features or no labels"));
        }
        let expected = self.width.checked_mul(self.outputs);
        if expected != Some(self.weights.len())
            || self.intercepts.len() != self.outputs
            || self.lambdas.len() != self.outputs
        {
            return Err(LinearError::Damaged("the number of weights does not fit the labels"));
        }
        if !self.weights.iter().chain(&self.intercepts).chain(&self.lambdas).all(|v| v.is_finite()) {
            return Err(LinearError::Damaged("a weight is not finite"));
        }
        Ok(())
    }
}

/// How one lambda did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathRow {
    /// Regularisation.
    pub lambda: f64,
    /// Mean over the folds of the macro AUC (mean over the labels estimable in the fold).
    pub mean: f64,
    /// Standard deviation of the macro AUC over the folds.
    pub sd: f64,
    /// Mean AUC of each label over the folds in which it was estimable.
    pub labels: Vec<Option<f64>>,
    /// Folds in which a label had one class only, summed over labels; never scored as 0.5.
    pub not_estimable: usize,
}

/// A regularisation path and what it chose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegularisationPath {
    /// Strongest regularisation first.
    pub rows: Vec<PathRow>,
    /// The lambda with the highest mean; equal means go to the stronger regularisation.
    pub common: f64,
    /// `[output]`: the same for each label alone; `common` for a label that no fold could score.
    pub per_label: Vec<f64>,
}

/// 1e5 down to 0.1 in half decades: from almost constant predictions to almost separated training rows.
#[must_use]
pub fn default_lambdas() -> Vec<f64> {
    (0..13).map(|i| 10_f64.powf(5.0 - 0.5 * f64::from(i))).collect()
}

/// Scores every lambda on every fold, each fit starting from the one before, strongest regularisation first.
///
/// Features are standardised on the training rows of the fold. `folds` hold row numbers of the tables. Folds run side by
/// side, and each may take the memory of one fit (see the head of the crate) and of a copy of the feature table.
///
/// # Errors
/// [`LinearError`] for tables that do not match, impossible lambdas, or folds in which nothing can be scored.
///
/// # Panics
/// If a fold names a row that the tables do not have.
pub fn regularisation_path(
    features: &Features,
    labels: &Labels,
    folds: &[Fold],
    lambdas: &[f64],
) -> Result<RegularisationPath, LinearError> {
    check_rows(features, labels)?;
    check_lambdas(lambdas)?;
    if lambdas.is_empty() || lambdas.len() > MAX_LAMBDAS {
        return Err(LinearError::Lambda { what: format!("{} lambdas", lambdas.len()) });
    }
    let mut lambdas = lambdas.to_vec();
    lambdas.sort_by(|a, b| b.total_cmp(a));
    lambdas.dedup();
    // [fold][lambda][output]
    let scores = folds
        .par_iter()
        .filter(|fold| !fold.train.is_empty() && !fold.test.is_empty())
        .map(|fold| score_fold(features, labels, fold, &lambdas))
        .collect::<Result<Vec<Vec<Vec<Option<f64>>>>, LinearError>>()?;
    let mut rows = Vec::with_capacity(lambdas.len());
    for (i, &lambda) in lambdas.iter().enumerate() {
        let macros: Vec<f64> = scores.iter().filter_map(|fold| mean(fold[i].iter().flatten().copied())).collect();
        let average = mean(macros.iter().copied()).ok_or(LinearError::NoFold)?;
        let squares: f64 = macros.iter().map(|m| (m - average).powi(2)).sum();
        let sd = if macros.len() > 1 { (squares / (macros.len() - 1) as f64).sqrt() } else { 0.0 };
        let labels = (0..labels.outputs()).map(|k| mean(scores.iter().filter_map(|fold| fold[i][k]))).collect();
        let not_estimable = scores.iter().map(|fold| fold[i].iter().filter(|a| a.is_none()).count()).sum();
        rows.push(PathRow { lambda, mean: average, sd, labels, not_estimable });
    }
    let common = best(rows.iter().map(|r| (r.lambda, Some(r.mean)))).ok_or(LinearError::NoFold)?;
    let per_label =
        (0..labels.outputs()).map(|k| best(rows.iter().map(|r| (r.lambda, r.labels[k]))).unwrap_or(common)).collect();
    Ok(RegularisationPath { rows, common, per_label })
}

/// The first lambda with the highest score.
fn best(scores: impl Iterator<Item = (f64, Option<f64>)>) -> Option<f64> {
    let mut best: Option<(f64, f64)> = None;
    for (lambda, score) in scores.filter_map(|(l, s)| s.map(|s| (l, s))) {
        if best.is_none_or(|(_, b)| score > b) {
            best = Some((lambda, score));
        }
    }
    best.map(|(lambda, _)| lambda)
}

/// AUC `[lambda][output]` of one fold; `None` where a label has one class in either part.
fn score_fold(
    features: &Features,
    labels: &Labels,
    fold: &Fold,
    lambdas: &[f64],
) -> Result<Vec<Vec<Option<f64>>>, LinearError> {
    let (train, test) = (features.select(&fold.train), features.select(&fold.test));
    let train_labels = labels.select(&fold.train);
    let design = Design::new(&train);
    // Each label that has both classes, and where it stands.
    let starts = (0..labels.outputs()).map(|k| (k, design.start(&known(&train_labels, k))));
    let mut fits: Vec<(usize, Vec<f64>)> = starts.filter_map(|(k, at)| at.map(|at| (k, at))).collect();
    let mut scores = vec![vec![None; labels.outputs()]; lambdas.len()];
    for (scores, &lambda) in scores.iter_mut().zip(lambdas) {
        let bound = design.bound(lambda);
        let aucs = fits
            .par_iter_mut()
            .map(|(k, at)| -> Result<Option<f64>, LinearError> {
                let rows = known(&train_labels, *k);
                let solved = design.minimise(&rows, lambda, bound.as_ref(), PATH_TOLERANCE, at);
                solved.map_err(|steps| LinearError::NotConverged { output: *k, steps })?;
                let (weights, intercept) = design.unstandardised(at);
                let (lambdas, intercepts) = (vec![lambda], vec![intercept]);
                let probe = LinearProbe { width: test.width(), outputs: 1, lambdas, weights, intercepts };
                Ok(label_aucs(&probe.predict(&test)?, &labels.single(*k), &fold.test)[0])
            })
            .collect::<Result<Vec<Option<f64>>, LinearError>>()?;
        for ((k, _), auc) in fits.iter().zip(aucs) {
            scores[*k] = auc;
        }
    }
    Ok(scores)
}

/// Rows in which label `k` is known, and its value as 0 or 1.
fn known(labels: &Labels, k: usize) -> Vec<(usize, f64)> {
    (0..labels.rows()).filter_map(|r| labels.get(r, k).map(|l| (r, f64::from(u8::from(l))))).collect()
}

fn check_rows(features: &Features, labels: &Labels) -> Result<(), LinearError> {
    if features.rows() == labels.rows() {
        return Ok(());
    }
    Err(TableError::Length { what: "the label table", found: labels.rows(), expected: features.rows() }.into())
}

fn check_lambdas(lambdas: &[f64]) -> Result<(), LinearError> {
    match lambdas.iter().find(|l| !(l.is_finite() && **l > 0.0)) {
        Some(l) => Err(LinearError::Lambda { what: format!("lambda = {l}") }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    fn table(rows: usize, width: usize) -> (Features, Labels) {
        let mut draw = Stream::keyed(4, "linear test");
        let values =
            (0..rows * width).map(|i| if i % width == 3 { 7.0 } else { (5.0 + 3.0 * draw.normal()) as f32 }).collect();
        let features = Features::new(values, width).expect("finite");
        let labels: Vec<_> = (0..rows * 2)
            .map(|i| (i % 13 != 5).then_some(f64::from(features.row(i / 2)[i % 2]) + 2.0 * draw.normal() > 6.0))
            .collect();
        (features, Labels::new(&labels, 2).expect("whole"))
    }

    fn folds(rows: usize, count: usize) -> Vec<Fold> {
        let part = |f: usize, judged: bool| (0..rows).filter(|r| (r % count == f) == judged).collect::<Vec<usize>>();
        (0..count).map(|f| Fold { train: part(f, false), test: part(f, true) }).collect()
    }

    #[test]
    fn the_gradient_vanishes_at_the_fit() {
        // More rows than features, and fewer: both ways through the solver.
        for (rows, width) in [(120, 8), (30, 50)] {
            let (features, labels) = table(rows, width);
            let probe = LinearProbe::fit(&features, &labels, &[0.5, 20.0]).expect("fits");
            probe.validate().expect("holds together");
            let p = probe.predict(&features).expect("predicts");
            for k in 0..2 {
                let rest = |r: usize| labels.get(r, k).map_or(0.0, |l| p[r * 2 + k] - f64::from(u8::from(l)));
                assert!((0..rows).map(rest).sum::<f64>().abs() < 1e-7);
                for f in 0..width {
                    let column: Vec<f64> = (0..rows).map(|r| f64::from(features.row(r)[f])).collect();
                    let mean = column.iter().sum::<f64>() / rows as f64;
                    let sd = (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64).sqrt();
                    let w = probe.weights[k * width + f];
                    let gradient =
                        (0..rows).map(|r| rest(r) * (column[r] - mean)).sum::<f64>() + probe.lambdas[k] * w * sd * sd;
                    assert!(gradient.abs() < 1e-6, "{rows} x {width}, label {k}, feature {f}: {gradient}");
                    assert!(f != 3 || w == 0.0, "a constant feature has no weight");
                }
            }
        }
    }

    #[test]
    fn the_path_prefers_strong_regularisation_on_noise_and_ties() {
        let (features, labels) = table(90, 40);
        let path = regularisation_path(&features, &labels, &folds(90, 3), &default_lambdas()).expect("runs");
        assert_eq!(path.rows.len(), 13);
        assert!(path.rows.windows(2).all(|w| w[0].lambda > w[1].lambda));
        let top = path.rows.iter().map(|r| r.mean).fold(0.0, f64::max);
        assert!(top > 0.6, "{top}");
        let chosen = path.rows.iter().find(|r| r.lambda == path.common).expect("a row of the path");
        assert_eq!(chosen.mean, top);
        assert!(path.rows.iter().take_while(|r| r.lambda > path.common).all(|r| r.mean < top));
        assert_eq!(best([(3.0, Some(0.7)), (2.0, None), (1.0, Some(0.7))].into_iter()), Some(3.0));
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let (features, labels) = table(70, 200);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| regularisation_path(&features, &labels, &folds(70, 3), &[100.0, 1.0]).expect("runs"))
        };
        assert_eq!(run(1), run(4));
    }

    #[test]
    fn odd_tables_are_refused_or_handled() {
        let (features, labels) = table(40, 5);
        assert!(matches!(LinearProbe::fit(&features, &labels, &[1.0]), Err(LinearError::Lambda { .. })));
        assert!(LinearProbe::fit(&features, &labels, &[1.0, 0.0]).is_err());
        assert!(LinearProbe::fit(&features, &labels, &[1.0, f64::NAN]).is_err());
        let one_class = Labels::new(&[Some(true); 40], 1).expect("whole");
        assert_eq!(LinearProbe::fit(&features, &one_class, &[1.0]), Err(LinearError::OneClass { output: 0 }));
        assert_eq!(regularisation_path(&features, &one_class, &folds(40, 4), &[1.0]), Err(LinearError::NoFold));
        assert_eq!(regularisation_path(&features, &labels, &[], &[1.0]), Err(LinearError::NoFold));
        // Nothing but constants: the prevalence, whatever lambda.
        let constant = Features::new(vec![2.5; 120], 3).expect("finite");
        let third: Vec<_> = (0..40).map(|r| Some(r % 4 == 0)).collect();
        let probe = LinearProbe::fit(&constant, &Labels::new(&third, 1).expect("whole"), &[1.0]).expect("fits");
        assert!(probe.predict(&constant).expect("predicts").iter().all(|p| (p - 0.25).abs() < 1e-12));
        // Every row twice: the row space has half as many dimensions.
        let (few, few_labels) = table(12, 30);
        let twice: Vec<usize> = (0..24).map(|r| r / 2).collect();
        let double = LinearProbe::fit(&few.select(&twice), &few_labels.select(&twice), &[2.0; 2]).expect("fits");
        let single = LinearProbe::fit(&few, &few_labels, &[1.0; 2]).expect("fits");
        assert!(double.weights.iter().zip(&single.weights).all(|(a, b)| (a - b).abs() < 1e-7));
        let mut damaged = probe.clone();
        damaged.weights.pop();
        assert!(damaged.validate().is_err());
        assert_eq!(probe.predict(&few), Err(LinearError::Width { found: 30, expected: 3 }));
    }
}
