//! What one label's scores mean: a threshold to act on, and a probability that comes true.
//!
//! Both are learned from out-of-fold predictions of the patients that were learned from, never from the test part, and
//! are stored with a study's models so that `predict` gives what the report judged. The paper has neither. Methods:
//! Platt (1999), isotonic regression (Ayer et al. 1955), Youden (1950). Nothing here is fitted in parallel or drawn.

use chestnut_stats::{Isotonic, Platt, StatsError, roc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Out-of-fold images with a known label that a calibration needs.
pub const MIN_CALIBRATION_ROWS: usize = 20;
/// Images of each class among them: with fewer, one image moves a threshold from end to end.
pub const MIN_CALIBRATION_CLASS: usize = 5;
/// Most thresholds of a label that are read back; [`LabelCalibration::fit`] makes two.
pub const MAX_THRESHOLDS: usize = 8;
/// Name of the threshold that maximises sensitivity + specificity.
pub const YOUDEN: &str = "Youden";

/// How a score becomes a probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The score as it is.
    None,
    /// A logistic curve; the better choice below about a thousand images.
    Platt,
    /// A polygon that never falls; it can tie images that the scores tell apart.
    Isotonic,
}

impl Method {
    /// All methods, in the order of tables.
    pub const ALL: [Self; 3] = [Self::None, Self::Platt, Self::Isotonic];

    /// Name in tables: `none`, `Platt` or `isotonic`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Platt => "Platt",
            Self::Isotonic => "isotonic",
        }
    }
}

/// A threshold on the raw score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// [`YOUDEN`] or `sensitivity 0.90`.
    pub rule: String,
    /// Positive at or above this score, before any calibration.
    pub score: f64,
}

/// Thresholds and calibrations of one label.
///
/// What could not be fitted is `None` or absent, with a reason. Maps never fall with the score, so calibrating never
/// turns two images round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelCalibration {
    /// Logistic curve on the raw score, slope not negative.
    pub platt: Option<Platt>,
    /// Polygon on the raw score; its knots are checked when it is read.
    pub isotonic: Option<Isotonic>,
    /// Youden's, then the one for the wanted sensitivity.
    pub thresholds: Vec<Threshold>,
    /// Share of positives among [`LabelCalibration::rows`]; predictive values hold for this prevalence only.
    pub prevalence: Option<f64>,
    /// Out-of-fold images with a known label.
    pub rows: usize,
    /// What is missing above and why.
    pub reason: Option<String>,
}

/// Why a stored calibration cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CalibrationError {
    /// The logistic curve.
    #[error(
        "stored calibration: Platt's curve (intercept {intercept}, slope {slope}) {problem}; make the models again"
    )]
    Platt {
        /// Log-odds at score 0.
        intercept: f64,
        /// Log-odds per unit of score.
        slope: f64,
        /// What is wrong.
        problem: &'static str,
    },
    /// A threshold.
    #[error("stored calibration: the threshold {rule:?} is {score}, not a finite number; make the models again")]
    Threshold {
        /// Its rule.
        rule: String,
        /// Its score.
        score: f64,
    },
    /// More thresholds than a label has.
    #[error("stored calibration: {found} thresholds, and at most {MAX_THRESHOLDS} are read; make the models again")]
    Thresholds {
        /// How many.
        found: usize,
    },
    /// The prevalence.
    #[error("stored calibration: prevalence {prevalence:?} of {rows} images cannot be; make the models again")]
    Prevalence {
        /// Its value.
        prevalence: Option<f64>,
        /// Images it was taken from.
        rows: usize,
    },
    /// Something is absent without a reason.
    #[error("stored calibration: a curve or a threshold is absent without a reason; make the models again")]
    NoReason,
}

impl LabelCalibration {
    /// Nothing fitted, because of `reason`.
    #[must_use]
    pub fn missing(reason: String) -> Self {
        let (platt, isotonic, thresholds, prevalence) = (None, None, Vec::new(), None);
        Self { platt, isotonic, thresholds, prevalence, rows: 0, reason: Some(reason) }
    }

    /// Fits to out-of-fold `scores`, one per image; images whose `truth` is unknown do not count.
    ///
    /// `sensitivity_target`, in (0, 1], is the share of positives that the second threshold must find. Below
    /// [`MIN_CALIBRATION_ROWS`] images or [`MIN_CALIBRATION_CLASS`] of a class nothing is fitted. If the scores are
    /// higher without the finding there is no Platt curve: it would turn the order of all images round.
    #[must_use]
    pub fn fit(scores: &[f64], truth: &[Option<bool>], sensitivity_target: f64) -> Self {
        let (scores, truth): (Vec<f64>, Vec<bool>) =
            scores.iter().zip(truth).filter_map(|(&s, t)| t.map(|t| (s, t))).unzip();
        let rows = truth.len();
        let positives = truth.iter().filter(|&&t| t).count();
        let prevalence = (rows > 0).then(|| positives as f64 / rows as f64);
        if let Some(reason) = too_few(positives, rows - positives) {
            return Self { prevalence, rows, ..Self::missing(reason) };
        }
        let mut reasons = Reasons::default();
        let platt = reasons.keep(Platt::fit(&scores, &truth)).filter(|curve| {
            let problem = curve_problem(curve);
            reasons.extend(problem.map(|p| format!("Platt scaling: the fitted curve {p}")));
            problem.is_none()
        });
        let isotonic = reasons.keep(Isotonic::fit(&scores, &truth));
        let points = [
            (YOUDEN.to_owned(), roc::youden_threshold(&scores, &truth)),
            (sensitivity_rule(sensitivity_target), roc::sensitivity_threshold(&scores, &truth, sensitivity_target)),
        ];
        let thresholds = points
            .into_iter()
            .filter_map(|(rule, point)| reasons.keep(point).map(|p| Threshold { rule, score: p.threshold }))
            .collect();
        Self { platt, isotonic, thresholds, prevalence, rows, reason: reasons.join() }
    }

    /// The probability that `method` gives to a raw score; `None` if the method could not be fitted or the score is
    /// not finite.
    #[must_use]
    pub fn apply(&self, method: Method, score: f64) -> Option<f64> {
        let one = |values: Result<Vec<f64>, StatsError>| values.ok()?.first().copied();
        match method {
            Method::None => score.is_finite().then_some(score),
            Method::Platt => self.platt.and_then(|curve| one(curve.apply(&[score]))),
            Method::Isotonic => self.isotonic.as_ref().and_then(|map| one(map.apply(&[score]))),
        }
    }

    /// Checks a calibration that was read from a file: finite, never falling, and a reason for what is absent.
    ///
    /// # Errors
    /// The first fault. A fault in the polygon's knots is already an error of reading.
    pub fn check(&self) -> Result<(), CalibrationError> {
        if let Some(Platt { intercept, slope }) = self.platt
            && let Some(problem) = curve_problem(&Platt { intercept, slope })
        {
            return Err(CalibrationError::Platt { intercept, slope, problem });
        }
        if self.thresholds.len() > MAX_THRESHOLDS {
            return Err(CalibrationError::Thresholds { found: self.thresholds.len() });
        }
        if let Some(Threshold { rule, score }) = self.thresholds.iter().find(|t| !t.score.is_finite()) {
            return Err(CalibrationError::Threshold { rule: rule.clone(), score: *score });
        }
        let possible = self.prevalence.is_none_or(|p| (0.0..=1.0).contains(&p));
        if !possible || self.prevalence.is_some() != (self.rows > 0) {
            return Err(CalibrationError::Prevalence { prevalence: self.prevalence, rows: self.rows });
        }
        let whole = self.platt.is_some() && self.isotonic.is_some() && !self.thresholds.is_empty();
        if !whole && self.reason.is_none() {
            return Err(CalibrationError::NoReason);
        }
        Ok(())
    }
}

/// Name of the threshold that finds the share `target` of the positives, such as `sensitivity 0.90`.
#[must_use]
pub fn sensitivity_rule(target: f64) -> String {
    format!("sensitivity {target:.2}")
}

/// Why so few images are not enough to fit anything.
fn too_few(positives: usize, negatives: usize) -> Option<String> {
    let class = |what| format!("not calibrated: no {what} image among the out-of-fold predictions");
    if positives == 0 {
        return Some(class("positive"));
    }
    if negatives == 0 {
        return Some(class("negative"));
    }
    let enough = positives.min(negatives) >= MIN_CALIBRATION_CLASS && positives + negatives >= MIN_CALIBRATION_ROWS;
    (!enough).then(|| {
        format!(
            "not calibrated: {positives} positive and {negatives} negative out-of-fold images; at least \
             {MIN_CALIBRATION_CLASS} of each and {MIN_CALIBRATION_ROWS} in all are needed"
        )
    })
}

/// What makes a curve useless.
fn curve_problem(curve: &Platt) -> Option<&'static str> {
    if !(curve.intercept.is_finite() && curve.slope.is_finite()) {
        Some("is not finite")
    } else if curve.slope < 0.0 {
        Some("falls as the score rises")
    } else {
        None
    }
}

/// Reasons for what is missing, each said once.
#[derive(Default)]
pub(crate) struct Reasons(Vec<String>);

impl Reasons {
    /// The value, or `None` with its error kept.
    pub(crate) fn keep<T, E: ToString>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.extend([e.to_string()]);
                None
            }
        }
    }

    /// Adds reasons that were not given yet.
    pub(crate) fn extend(&mut self, reasons: impl IntoIterator<Item = String>) {
        for reason in reasons {
            if !self.0.contains(&reason) {
                self.0.push(reason);
            }
        }
    }

    /// All of them in one line; `None` if there are none.
    pub(crate) fn join(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    /// Twenty images at 0, 0.05 ... 0.95, positive from the eleventh on, but the tenth and eleventh exchanged.
    fn ladder() -> (Vec<f64>, Vec<Option<bool>>) {
        let scores = (0..20).map(|i| f64::from(i) / 20.0).collect();
        let truth = (0..20).map(|i| Some(i == 9 || i > 10)).collect();
        (scores, truth)
    }

    #[test]
    fn worked_example() {
        let (mut scores, mut truth) = ladder();
        // An unknown image counts nowhere.
        scores.push(f64::NAN);
        truth.push(None);
        let fitted = LabelCalibration::fit(&scores, &truth, 0.95);
        assert_eq!((fitted.rows, fitted.prevalence, &fitted.reason), (20, Some(0.5), &None));
        // At 0.55 nine of ten positives and no negative, at 0.45 all positives and one negative: Youden's index is 0.9
        // at both and the higher wins; 95 % of ten positives are ten.
        let expected = [("Youden", 0.55), ("sensitivity 0.95", 0.45)];
        let found: Vec<_> = fitted.thresholds.iter().map(|t| (t.rule.as_str(), t.score)).collect();
        assert_eq!(found, expected);
        // The two exchanged images pool to one half.
        let knots = fitted.isotonic.as_ref().map(|map| map.knots().to_vec());
        assert_eq!(knots, Some(vec![(0.0, 0.0), (0.4, 0.0), (0.45, 0.5), (0.5, 0.5), (0.55, 1.0), (0.95, 1.0)]));
        assert!((fitted.apply(Method::Isotonic, 0.525).expect("fitted") - 0.75).abs() < 1e-12);
        assert_eq!(fitted.apply(Method::None, 0.3), Some(0.3));
        // The ladder is its own mirror image about 0.475, so Platt's curve crosses one half there.
        assert!((fitted.apply(Method::Platt, 0.475).expect("fitted") - 0.5).abs() < 1e-9);
        assert_eq!(fitted.apply(Method::Platt, f64::NAN), None);
        assert_eq!(fitted.check(), Ok(()));
    }

    #[test]
    fn never_falls_stays_a_probability_and_survives_a_file() {
        let mut draw = Stream::keyed(1, "calibrate test");
        for _ in 0..100 {
            let rows = 2 + draw.below(80);
            let scores: Vec<f64> = (0..rows).map(|_| draw.below(15) as f64 / 14.0).collect();
            let truth: Vec<Option<bool>> =
                scores.iter().map(|s| (draw.below(8) > 0).then(|| draw.uniform() < 0.1 + 0.8 * s)).collect();
            let fitted = LabelCalibration::fit(&scores, &truth, 0.9);
            assert_eq!(fitted.check(), Ok(()), "{fitted:?}");
            for method in [Method::Platt, Method::Isotonic] {
                let p: Option<Vec<f64>> = (-20..=120).map(|i| fitted.apply(method, f64::from(i) / 100.0)).collect();
                let Some(p) = p else { continue };
                assert!(p.iter().all(|p| (0.0..=1.0).contains(p)) && p.windows(2).all(|w| w[0] <= w[1] + 1e-12));
            }
            let text = serde_json::to_string(&fitted).expect("plain numbers");
            assert_eq!(serde_json::from_str::<LabelCalibration>(&text).expect("reads back"), fitted);
        }
    }

    #[test]
    fn what_cannot_be_fitted_says_why() {
        let reason = |scores: &[f64], truth: &[Option<bool>]| {
            let fitted = LabelCalibration::fit(scores, truth, 0.9);
            assert_eq!(fitted.check(), Ok(()));
            (fitted.platt.is_some(), fitted.isotonic.is_some(), fitted.reason.unwrap_or_default())
        };
        let (scores, truth) = ladder();
        let (.., why) = reason(&scores, &[None; 20]);
        assert!(why.contains("no positive"), "{why}");
        let (.., why) = reason(&scores, &[Some(true); 20]);
        assert!(why.contains("no negative"), "{why}");
        let four: Vec<Option<bool>> = (0..20).map(|i| Some(i < 4)).collect();
        let (platt, isotonic, why) = reason(&scores, &four);
        assert!(!platt && !isotonic && why.contains("4 positive and 16 negative"), "{why}");
        let (.., why) = reason(&scores[..19], &truth[..19]);
        assert!(why.contains("20 in all"), "{why}");
        let turned: Vec<f64> = scores.iter().map(|s| 1.0 - s).collect();
        let (platt, isotonic, why) = reason(&turned, &truth);
        assert!(!platt && isotonic && why.contains("falls"), "{why}");
        let (platt, isotonic, why) = reason(&[0.5; 20], &truth);
        assert!(!platt && isotonic && why.contains("equal"), "{why}");
        let (platt, isotonic, why) = reason(&[f64::NAN; 20], &truth);
        assert!(!platt && !isotonic && why.matches("finite").count() == 1, "said once: {why}");
    }

    #[test]
    fn a_damaged_calibration_is_refused() {
        let (scores, truth) = ladder();
        let good = LabelCalibration::fit(&scores, &truth, 0.9);
        let spoil = |change: &dyn Fn(&mut LabelCalibration)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.check()
        };
        let platt = |intercept, slope| Some(Platt { intercept, slope });
        assert!(matches!(spoil(&|c| c.platt = platt(0.0, -1.0)), Err(CalibrationError::Platt { .. })));
        assert!(matches!(spoil(&|c| c.platt = platt(f64::NAN, 1.0)), Err(CalibrationError::Platt { .. })));
        assert!(matches!(spoil(&|c| c.thresholds[0].score = f64::INFINITY), Err(CalibrationError::Threshold { .. })));
        assert!(matches!(spoil(&|c| c.prevalence = Some(1.5)), Err(CalibrationError::Prevalence { .. })));
        assert!(matches!(spoil(&|c| c.rows = 0), Err(CalibrationError::Prevalence { .. })));
        assert_eq!(spoil(&|c| c.isotonic = None), Err(CalibrationError::NoReason));
        let falling = serde_json::to_string(&good).expect("plain numbers").replace("[0.95,1.0]", "[0.95,0.1]");
        assert!(serde_json::from_str::<LabelCalibration>(&falling).is_err(), "{falling}");
    }
}
