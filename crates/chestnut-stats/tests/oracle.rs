//! Holds this crate to values computed by others: R (pROC, glm), scikit-learn, statsmodels, SciPy
//! and dcurves. `oracle.json` is made by scripts/oracle_stats.py and must not be edited by hand.
//! Tolerances: 1e-9 for AUC, DeLong and closed forms; stated at each use for iterative fits and
//! simulations.

use chestnut_stats::calibration::{brier_score, calibration_line, expected_calibration_error, reliability};
use chestnut_stats::decision::decision_curve;
use chestnut_stats::delong::{delong, paired_delong};
use chestnut_stats::multiple::holm;
use chestnut_stats::random::Stream;
use chestnut_stats::roc::{auc, average_precision, roc_curve, youden_threshold};
use chestnut_stats::{Clusters, DeLong, IntervalMethod, Isotonic, Platt, normal, proportion};
use serde_json::Value;

fn oracle() -> Value {
    serde_json::from_str(include_str!("oracle.json")).expect("oracle.json is valid JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    items(value).iter().map(number).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

fn truth(value: &Value) -> Vec<bool> {
    text(value).chars().map(|c| c == '1').collect()
}

/// Equal to `tolerance`, relative to values above 1 and absolute below.
#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: found {found}, expected {expected}");
}

/// Equal to `tolerance`, relative to the expected value.
#[track_caller]
fn relatively_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found / expected - 1.0).abs() <= tolerance, "{what}: found {found}, expected {expected}");
}

fn check_single(scores: &[f64], truth: &[bool], expected: &Value, what: &str) {
    let one: DeLong = delong(scores, truth).unwrap();
    close(one.auc, number(&expected["auc"]), 1e-9, what);
    close(auc(scores, truth).unwrap(), number(&expected["auc"]), 1e-9, what);
    relatively_close(one.variance, number(&expected["variance"]), 1e-9, what);
    let plain = one.interval(0.95).unwrap();
    close(plain.low, number(&expected["low"]), 1e-9, what);
    close(plain.high, number(&expected["high"]), 1e-9, what);
    let logit = one.logit_interval(0.95).unwrap();
    close(logit.low, number(&expected["logit_low"]), 1e-9, what);
    close(logit.high, number(&expected["logit_high"]), 1e-9, what);
    let point = youden_threshold(scores, truth).unwrap();
    close(point.sensitivity + point.specificity - 1.0, number(&expected["youden"]), 1e-9, what);
}

fn check_pair(a: &[f64], b: &[f64], truth: &[bool], expected: &Value, what: &str) {
    let pair = paired_delong(a, b, truth, 0.95).unwrap();
    close(pair.z, number(&expected["z"]), 1e-9, what);
    close(pair.p_value, number(&expected["p"]), 1e-9, what);
    close(pair.interval.low, number(&expected["low"]), 1e-9, what);
    close(pair.interval.high, number(&expected["high"]), 1e-9, what);
}

#[test]
fn auc_and_delong_equal_proc_on_its_own_data() {
    let oracle = oracle();
    let asah = &oracle["asah"];
    let truth = truth(&asah["truth"]);
    let singles = asah["single"].as_object().unwrap();
    assert_eq!(singles.len(), 3);
    for (name, expected) in singles {
        check_single(&numbers(&asah["scores"][name]), &truth, expected, name);
    }
    let pairs = items(&asah["pairs"]);
    assert_eq!(pairs.len(), 3);
    for expected in pairs {
        let (a, b) = (text(&expected["a"]), text(&expected["b"]));
        let (of_a, of_b) = (numbers(&asah["scores"][a]), numbers(&asah["scores"][b]));
        check_pair(&of_a, &of_b, &truth, expected, &format!("{a} against {b}"));
    }
}

#[test]
fn auc_delong_and_average_precision_equal_references_on_cases_with_ties() {
    let oracle = oracle();
    let cases = items(&oracle["ties"]);
    assert_eq!(cases.len(), 50);
    for (number_of_case, case) in cases.iter().enumerate() {
        let what = format!("case {number_of_case}");
        let truth = truth(&case["truth"]);
        let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
        check_single(&a, &truth, &case["proc"]["a"], &what);
        check_single(&b, &truth, &case["proc"]["b"], &what);
        check_pair(&a, &b, &truth, &case["proc"]["pair"], &what);
        for (scores, key) in [(&a, "a_average_precision"), (&b, "b_average_precision")] {
            close(average_precision(scores, &truth).unwrap(), number(&case[key]), 1e-9, &what);
        }
    }
}

#[test]
fn roc_curve_equals_scikit_learn() {
    let oracle = oracle();
    let (case, expected) = (&oracle["ties"][0], &oracle["roc_of_first_case"]);
    let curve = roc_curve(&numbers(&case["a"]), &truth(&case["truth"])).unwrap();
    // The first corner (0, 0) at an infinite threshold is left out of the file.
    let (fpr, tpr) = (numbers(&expected["fpr"]), numbers(&expected["tpr"]));
    let thresholds = numbers(&expected["thresholds"]);
    assert_eq!(curve.len() - 1, thresholds.len());
    for (i, point) in curve[1..].iter().enumerate() {
        assert_eq!(point.threshold, thresholds[i]);
        close(point.false_positive_rate, fpr[i], 1e-12, "false positive rate");
        close(point.true_positive_rate, tpr[i], 1e-12, "true positive rate");
    }
}

#[test]
fn degenerate_aucs_get_newcombes_interval() {
    let oracle = oracle();
    let cases = items(&oracle["newcombe"]);
    assert_eq!(cases.len(), 5);
    for case in cases {
        let case = numbers(case);
        let (positives, negatives) = (case[1] as usize, case[2] as usize);
        let (positive_clusters, negative_clusters) = (positives, negatives);
        let one = DeLong { auc: case[0], variance: 0.0, positives, negatives, positive_clusters, negative_clusters };
        let interval = one.interval(0.95).unwrap();
        assert_eq!(interval.method, IntervalMethod::Newcombe);
        // The reference is a polynomial's roots, good to about 1e-12; a double root at the end is not.
        close(interval.low, case[3], 1e-9, "low");
        close(interval.high, case[4], 1e-9, "high");
    }
}

#[test]
fn calibration_equals_references() {
    let oracle = oracle();
    let cases = items(&oracle["calibration"]);
    assert_eq!(cases.len(), 4);
    let mut with_bins = 0;
    for case in cases {
        let truth = truth(&case["truth"]);
        let (p, scores) = (numbers(&case["p"]), numbers(&case["scores"]));
        close(brier_score(&p, &truth).unwrap(), number(&case["brier"]), 1e-12, "Brier");

        // R's glm stops on the deviance, so coefficients agree to 1e-8 and errors to 1e-6.
        let line = calibration_line(&p, &truth).unwrap();
        let expected = &case["line"];
        close(line.slope, number(&expected["slope"]), 1e-8, "slope");
        close(line.intercept, number(&expected["intercept"]), 1e-8, "intercept");
        close(line.in_the_large, number(&expected["in_the_large"]), 1e-8, "in the large");
        close(line.slope_standard_error, number(&expected["slope_se"]), 1e-6, "slope SE");
        let error = line.in_the_large_standard_error;
        close(error, number(&expected["in_the_large_se"]), 1e-6, "in the large SE");
        assert_eq!(line.moved, 0);

        // statsmodels solves to rounding error; scikit-learn's optimiser stops near 1e-6.
        let platt = Platt::fit(&scores, &truth).unwrap();
        for (key, tolerance) in [("platt", 1e-8), ("platt_sklearn", 1e-5)] {
            close(platt.slope, number(&case[key]["slope"]), tolerance, key);
            close(platt.intercept, number(&case[key]["intercept"]), tolerance, key);
        }

        let isotonic = Isotonic::fit(&scores, &truth).unwrap();
        let values = isotonic.apply(&numbers(&case["isotonic"]["queries"])).unwrap();
        for (found, expected) in values.iter().zip(numbers(&case["isotonic"]["values"])) {
            close(*found, expected, 1e-9, "isotonic");
        }

        if let Some(bins) = case.get("bins") {
            with_bins += 1;
            let curve = reliability(&p, &truth, 10).unwrap();
            let (observed, predicted) = (numbers(&bins["observed"]), numbers(&bins["predicted"]));
            assert_eq!((curve.len(), observed.len()), (10, 10));
            for (i, bin) in curve.iter().enumerate() {
                close(bin.observed, observed[i], 1e-12, "observed");
                close(bin.mean_predicted, predicted[i], 1e-12, "predicted");
            }
            let error = expected_calibration_error(&p, &truth, 10).unwrap();
            close(error, number(&case["ece"]), 1e-12, "ECE");
        }
    }
    assert!(with_bins >= 2, "only {with_bins} cases with bins");
}

#[test]
fn net_benefit_equals_dcurves() {
    let oracle = oracle();
    let (case, expected) = (&oracle["calibration"][0], &oracle["decision_of_first_calibration_case"]);
    let thresholds = numbers(&expected["thresholds"]);
    let curve = decision_curve(&numbers(&case["p"]), &truth(&case["truth"]), &thresholds).unwrap();
    let (model, all) = (numbers(&expected["net_benefit"]), numbers(&expected["treat_all"]));
    assert_eq!(curve.len(), model.len());
    for (i, point) in curve.iter().enumerate() {
        close(point.net_benefit, model[i], 1e-9, "net benefit");
        close(point.treat_all, all[i], 1e-9, "treat all");
    }
}

#[test]
fn wilson_equals_statsmodels() {
    let oracle = oracle();
    let cases = items(&oracle["wilson"]);
    assert_eq!(cases.len(), 27);
    for case in cases {
        let case = numbers(case);
        let interval = proportion::wilson(case[0] as usize, case[1] as usize, case[2]).unwrap().interval;
        close(interval.low, case[3], 1e-12, "low");
        close(interval.high, case[4], 1e-12, "high");
    }
}

#[test]
fn holm_equals_statsmodels() {
    let oracle = oracle();
    let cases = items(&oracle["holm"]);
    assert_eq!(cases.len(), 4);
    for case in cases {
        let adjusted = holm(&numbers(&case["p"])).unwrap();
        let expected = numbers(&case["adjusted"]);
        assert_eq!(adjusted.len(), expected.len());
        for (found, expected) in adjusted.iter().zip(expected) {
            close(*found, expected, 1e-12, "Holm");
        }
    }
}

#[test]
fn normal_distribution_equals_scipy() {
    let oracle = oracle();
    let expected = &oracle["normal"];
    for (z, value) in numbers(&expected["z"]).iter().zip(numbers(&expected["cdf"])) {
        relatively_close(normal::cdf(*z), value, 1e-12, "distribution function");
    }
    for (p, value) in numbers(&expected["p"]).iter().zip(numbers(&expected["quantile"])) {
        relatively_close(normal::quantile(*p).unwrap(), value, 1e-12, "quantile");
    }
}

#[test]
fn bootstrap_agrees_with_proc_and_a_cluster_bootstrap() {
    let oracle = oracle();
    let asah = &oracle["asah"];
    let truth = truth(&asah["truth"]);
    let scores = numbers(&asah["scores"]["s100b"]);
    let statistic = |rows: &[usize]| {
        let resampled_scores: Vec<f64> = rows.iter().map(|&row| scores[row]).collect();
        let resampled_truth: Vec<bool> = rows.iter().map(|&row| truth[row]).collect();
        auc(&resampled_scores, &resampled_truth)
    };
    // Both sides are simulations. With 4000 resamples an end of the interval has a Monte Carlo
    // error near 0.002, so 0.01 is about five of them.
    let single: Vec<usize> = (0..truth.len()).collect();
    let clustered: Vec<usize> = (0..truth.len()).map(|row| row % 45).collect();
    for (clusters, expected) in [(single, &asah["bootstrap"]), (clustered, &oracle["cluster_bootstrap"])] {
        let one =
            Clusters::new(&clusters).unwrap().bootstrap(4000, 0.95, &Stream::keyed(1, "oracle"), statistic).unwrap();
        assert_eq!(one.not_estimable, 0);
        close(one.interval.low, number(&expected["low"]), 0.01, "low");
        close(one.interval.high, number(&expected["high"]), 0.01, "high");
        if let Some(error) = expected.get("standard_error") {
            relatively_close(one.standard_error, number(error), 0.06, "standard error");
        }
    }
}

#[test]
fn calibrators_survive_a_file() {
    let isotonic = Isotonic::fit(&[0.1, 0.2, 0.3, 0.4], &[false, true, false, true]).unwrap();
    let stored = serde_json::to_string(&isotonic).unwrap();
    assert_eq!(serde_json::from_str::<Isotonic>(&stored).unwrap(), isotonic);
    let falling = serde_json::from_str::<Isotonic>("[[0.0,0.9],[1.0,0.1]]");
    assert!(falling.unwrap_err().to_string().contains("isotonic knots"));
    assert!(serde_json::from_str::<Isotonic>("[]").is_err());

    let platt = Platt { intercept: -0.1, slope: 2.5 };
    let stored = serde_json::to_string(&platt).unwrap();
    assert_eq!(serde_json::from_str::<Platt>(&stored).unwrap(), platt);
}
