//! Small cases by hand, and the bootstrap against its definition.

use super::bootstrap::PURPOSE;
use super::*;
use chestnut_stats::random::Stream;
use chestnut_stats::{Clusters, mean};

/// 1.96, in full.
const Z: f64 = 1.959_963_984_540_054;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|k| format!("label {k}")).collect()
}

fn tested<'a>(labels: &'a [String], test: &'a [f64], truth: &'a [Option<bool>], who: &'a [&'a str]) -> Tested<'a> {
    let (approach, source) = ("Embeddings + RF", "Average");
    Tested { approach, source, labels, test, truth, patients: who, untrained: &[], out_of_fold: None }
}

fn quick(seed: u64) -> DetailOptions {
    DetailOptions { resamples: 200, ..DetailOptions::new(seed) }
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn worked_example() {
    // Out of fold: 20 images at 0 to 0.95, positive from 0.5 on but 0.45 and 0.5 exchanged; thresholds are 0.55 and
    // 0.45 (see calibrate's example). The seventh test image is unknown.
    let oof: Vec<f64> = (0..20).map(|i| f64::from(i) / 20.0).collect();
    let oof_truth: Vec<Option<bool>> = (0..20).map(|i| Some(i == 9 || i > 10)).collect();
    let scores = [0.9, 0.6, 0.5, 0.3, 0.5, 0.1, 0.99];
    let truth = [Some(true), Some(true), Some(false), Some(false), Some(true), Some(false), None];
    let (labels, who) = (names(1), ["a", "b", "c", "d", "e", "f", "g"]);
    let case = Tested { out_of_fold: Some((&oof[..], &oof_truth[..])), ..tested(&labels, &scores, &truth, &who) };
    let options = DetailOptions { sensitivity_target: 0.95, bins: 3, thresholds: vec![0.5], ..quick(1) };
    let (detail, calibrations) = detail(&case, &options);
    assert_eq!(calibrations, [LabelCalibration::fit(&oof, &oof_truth, 0.95)]);
    let label = &detail.labels[0];
    assert_eq!((label.prevalence, &label.reason, detail.resamples.0), (Some(0.5), &None, 200));
    // Precision 1, 1, and 3/4 where a positive ties with a negative.
    close(label.auprc.expect("both classes"), 11.0 / 12.0);

    let rates = |p: &OperatingPoint| [&p.sensitivity, &p.specificity, &p.ppv, &p.npv].map(|r| (r.successes, r.trials));
    let points: Vec<_> = label.points.iter().map(|p| (p.rule.as_str(), p.threshold, rates(p))).collect();
    let youden = ("Youden", 0.55, [(2, 3), (3, 3), (2, 2), (3, 4)]);
    assert_eq!(points, [youden, ("sensitivity 0.95", 0.45, [(3, 3), (2, 3), (3, 4), (2, 2)])]);
    // Wilson: all of 3 gives 3 / (3 + z^2) to 1; 2 of 3 has its centre at (2 + z^2 / 2) / (3 + z^2).
    let [low, high] = label.points[0].specificity.interval.expect("three negatives");
    close(low, 3.0 / (3.0 + Z * Z));
    assert_eq!((high, label.points[0].sensitivity.value), (1.0, Some(2.0 / 3.0)));
    let [low, high] = label.points[0].sensitivity.interval.expect("three positives");
    close(0.5 * (low + high), (2.0 + 0.5 * Z * Z) / (3.0 + Z * Z));
    close(high - low, 2.0 * Z * (2.0 / 3.0 + 0.25 * Z * Z).sqrt() / (3.0 + Z * Z));

    let [none, platt, isotonic] = &label.calibration[..] else { panic!("{:?}", label.calibration) };
    close(none.brier, (0.01 + 0.16 + 0.25 + 0.09 + 0.25 + 0.01) / 6.0);
    // Three bins of two: 0.1 and 0.3, both 0.5, 0.6 and 0.9.
    let bins: Vec<(f64, usize)> = none.bins.iter().map(|b| (b.1, b.2)).collect();
    assert_eq!(bins, [(0.0, 2), (0.5, 2), (1.0, 2)]);
    close(none.bins[0].0, 0.2);
    close(none.ece, (0.2 + 0.0 + 0.25) / 3.0);
    assert!(none.slope.is_none() && none.reason.as_ref().is_some_and(|r| r.contains("separated")));
    // 0.1 and 0.3 become 0, 0.5 stays, 0.6 and 0.9 become 1.
    close(isotonic.brier, 0.5 / 6.0);
    assert_eq!((platt.method.as_str(), isotonic.method.as_str()), ("Platt", "isotonic"));
    // Platt's curve is steep and one half at 0.475: both images at 0.5 lie above. 3 found, 1 false of 6, odds 1.
    assert_eq!(label.decision.len(), 1);
    for (found, expected) in label.decision[0].iter().zip([0.5, 3.0 / 6.0 - 1.0 / 6.0, 0.0]) {
        close(*found, expected);
    }
}

#[test]
fn overconfidence_by_half_is_a_slope_of_one_half() {
    // Said 0.1 and 0.9, came true 1 of 4 and 3 of 4: logits of ln 9 where ln 3 is right.
    let p = [0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9];
    let truth = [true, false, false, false, false, true, true, true];
    let score = calibration_score(Method::None, &p, &truth, 2).expect("both classes");
    close(score.brier, 0.21);
    close(score.ece, 0.15);
    assert!((score.slope.expect("overlap") - 0.5).abs() < 1e-9);
    assert!(score.intercept.expect("overlap").abs() < 1e-9);
    assert_eq!(score.bins.iter().map(|b| (b.1, b.2)).collect::<Vec<_>>(), [(0.25, 4), (0.75, 4)]);
}

#[test]
fn certain_predictions_are_counted_and_too_many_give_no_line() {
    let truth: Vec<bool> = (0..40).map(|i| i % 2 == 0).collect();
    let score = |certain: &[(usize, f64)]| {
        let mut p: Vec<f64> = (0..40).map(|i| (f64::from(i) + 0.5) / 40.0).collect();
        certain.iter().for_each(|&(row, value)| p[row] = value);
        calibration_score(Method::None, &p, &truth, 10).expect("probabilities")
    };
    let none = score(&[]);
    assert_eq!((none.moved, none.slope.is_some()), (0, true));
    // Two of 40 are 5 %, which is allowed.
    let few = score(&[(1, 0.0), (38, 1.0)]);
    assert_eq!((few.moved, few.slope.is_some(), few.intercept.is_some(), few.reason), (2, true, true, None));
    let many = score(&[(1, 0.0), (3, 1e-9), (38, 1.0)]);
    assert_eq!((many.moved, many.slope, many.intercept), (3, None, None));
    let reason = many.reason.expect("a reason");
    assert!(reason.contains("3 of 40") && reason.contains("more than 5 %"), "{reason}");
}

#[test]
fn bootstrap_is_that_of_the_definition() {
    let mut draw = Stream::keyed(2, "detail test");
    let who = ["a", "b", "a", "c", "d", "e", "f", "g", "h", "h", "i", "j"];
    let labels = names(3);
    for round in 0..20 {
        let n = who.len() * 3;
        // Rare and common labels, unknown rows, ties.
        let truth: Vec<Option<bool>> = (0..n)
            .map(|i| (i < 6 || draw.below(6) > 0).then(|| i < 3 || (i > 5 && draw.below(2 + 3 * (i % 3)) == 0)))
            .collect();
        let scores: Vec<f64> = (0..n).map(|_| draw.below(9) as f64 / 8.0).collect();
        let (found, _) = detail(&tested(&labels, &scores, &truth, &who), &quick(round));
        let auc = |rows: &[usize], k: usize| {
            let known = rows.iter().filter_map(|&r| Some((scores[r * 3 + k], truth[r * 3 + k]?)));
            let (s, t): (Vec<f64>, Vec<bool>) = known.unzip();
            roc::auc(&s, &t)
        };
        let clusters = Clusters::new(&who).expect("several patients");
        let stream = Stream::keyed(round, PURPOSE);
        for (k, label) in found.labels.iter().enumerate() {
            let naive = clusters.bootstrap(200, LEVEL, &stream, |rows| auc(rows, k));
            let naive = naive.ok().map(|b| [b.interval.low, b.interval.high]);
            assert_eq!(label.bootstrap, naive, "the same integers divided once");
            assert_eq!(label.bootstrap.is_none(), label.reason.as_ref().is_some_and(|r| r.contains("resamples")));
        }
        let mut lost = 0;
        let naive = clusters.bootstrap(200, LEVEL, &stream, |rows| {
            let aucs: Vec<f64> = (0..3).filter_map(|k| auc(rows, k).ok()).collect();
            lost += usize::from(aucs.len() < 3);
            Ok(mean(aucs).unwrap_or(f64::NAN))
        });
        let naive = naive.expect("all three labels have both classes").interval;
        let [low, high] = found.mean_bootstrap.expect("the same");
        close(low, naive.low);
        close(high, naive.high);
        // The definition also looks at the rows themselves, where no class is lost.
        assert_eq!(found.resamples, (200, lost));
    }
}

#[test]
fn bounds_hold_whatever_the_labels_and_the_threads() {
    let mut draw = Stream::keyed(3, "detail test");
    let labels = names(4);
    for round in 0..40 {
        let patients: Vec<String> = (0..8 + draw.below(40)).map(|_| format!("p{}", draw.below(30))).collect();
        let who: Vec<&str> = patients.iter().map(String::as_str).collect();
        let mut table = |rows: usize| -> (Vec<f64>, Vec<Option<bool>>) {
            let scores: Vec<f64> = (0..rows * 4).map(|_| draw.below(40) as f64 / 39.0).collect();
            let share: [f64; 4] = [0.5, 0.15, 0.02, 0.9];
            let truth = scores.iter().enumerate().map(|(i, s)| {
                (draw.below(10) > 0).then(|| draw.uniform() < 0.5 * (share[i % 4] + s * share[i % 4].min(0.9)))
            });
            let truth = truth.collect();
            (scores, truth)
        };
        let ((scores, truth), (oof, oof_truth)) = (table(who.len()), table(60));
        let case = Tested { out_of_fold: Some((&oof[..], &oof_truth[..])), ..tested(&labels, &scores, &truth, &who) };
        let options = DetailOptions { resamples: 100, ..DetailOptions::new(round) };
        let (found, calibrations) = detail(&case, &options);
        let unit = |v: f64| (0.0..=1.0).contains(&v);
        let ordered = |i: &[f64; 2]| unit(i[0]) && i[0] <= i[1] && unit(i[1]);
        assert!(found.mean_bootstrap.as_ref().is_none_or(ordered));
        for (k, (label, calibration)) in found.labels.iter().zip(&calibrations).enumerate() {
            assert_eq!(calibration.check(), Ok(()));
            assert!([label.prevalence, label.auprc].into_iter().flatten().all(unit));
            assert!(label.bootstrap.as_ref().is_none_or(ordered));
            assert!(label.auprc.is_some() || label.reason.is_some());
            for point in &label.points {
                for rate in [&point.sensitivity, &point.specificity, &point.ppv, &point.npv] {
                    assert_eq!((rate.value.is_some(), rate.interval.is_some()), (rate.trials > 0, rate.trials > 0));
                    assert!(rate.interval.as_ref().is_none_or(ordered) && rate.successes <= rate.trials);
                }
            }
            // A lower threshold finds no fewer and spares no more.
            let mut points: Vec<&OperatingPoint> = label.points.iter().collect();
            points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
            for pair in points.windows(2) {
                assert!(pair[0].sensitivity.successes >= pair[1].sensitivity.successes);
                assert!(pair[0].specificity.successes <= pair[1].specificity.successes);
            }
            for score in &label.calibration {
                assert!(unit(score.brier) && unit(score.ece));
                assert_eq!(score.slope.is_some(), score.reason.is_none());
                assert_eq!(score.intercept.is_some(), score.reason.is_none());
                assert_eq!(score.bins.iter().map(|b| b.2).sum::<usize>(), case.known(k).1.len());
                assert!(score.bins.windows(2).all(|w| w[0].0 < w[1].0 + 1e-12) && score.bins.iter().all(|b| unit(b.1)));
            }
            assert!(label.decision.windows(2).all(|w| w[0][0] < w[1][0]));
            assert!(label.decision.iter().all(|d| label.prevalence.is_some_and(|p| d[1].max(d[2]) <= p)));
        }
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
        assert_eq!(alone.install(|| detail(&case, &options)), (found, calibrations));
    }
}

#[test]
fn degenerate_labels_say_why() {
    let labels = names(5);
    // No positive; one positive; nothing known; not learned; good.
    let truth: Vec<Option<bool>> =
        (0..30).flat_map(|i| [Some(false), Some(i == 0), None, Some(i < 15), Some(i < 15)]).collect();
    let scores: Vec<f64> = (0..150).map(|i| f64::from(i * 37 % 101) / 100.0).collect();
    let untrained = [None, None, None, Some("no positive image in the training part".to_owned())];
    let patients: Vec<String> = (0..30).map(|i| i.to_string()).collect();
    let who: Vec<&str> = patients.iter().map(String::as_str).collect();
    let case = Tested { untrained: &untrained, ..tested(&labels, &scores, &truth, &who) };
    let (found, calibrations) = detail(&case, &quick(1));
    let says = |k: usize, words: &str| {
        let reason = found.labels[k].reason.as_deref().unwrap_or_default();
        assert!(reason.contains(words), "label {k}: {reason}");
    };
    let [negative, one, unknown, unlearned, good] = &found.labels[..] else { panic!("five labels") };
    says(0, "no positive image in the test part");
    assert_eq!((negative.prevalence, negative.auprc, negative.bootstrap), (Some(0.0), None, None));
    assert!(negative.calibration.len() == 1 && negative.decision.is_empty());
    // The patient with the positive is missing from (29/30)^30 = 36 % of the resamples; the rest has an interval.
    assert!(one.auprc.is_some() && one.bootstrap.is_some());
    says(2, "known label");
    says(3, "no positive image in the training part");
    for label in [unknown, unlearned] {
        assert_eq!((label.prevalence, label.auprc, label.bootstrap), (None, None, None));
        assert!(label.points.is_empty() && label.calibration.is_empty() && label.decision.is_empty());
    }
    // Without out-of-fold predictions there is neither threshold nor calibration, and that is said.
    says(4, "no out-of-fold predictions");
    says(4, "uncalibrated");
    assert!(good.points.is_empty() && good.calibration.len() == 1 && good.decision.len() == 99);
    assert!(good.bootstrap.is_some() && found.mean_bootstrap.is_some());
    assert!((40..110).contains(&found.resamples.1), "{:?}", found.resamples);
    assert!(calibrations.iter().all(|c| c.check().is_ok() && c.platt.is_none() && c.thresholds.is_empty()));

    let alone = ["p"; 30];
    let (found, _) = detail(&Tested { patients: &alone, ..case }, &quick(1));
    assert_eq!((found.mean_bootstrap, found.resamples), (None, (0, 0)));
    let reason = found.labels[4].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("clusters (patients): 1") && found.labels[4].auprc.is_some(), "{reason}");
    let (found, _) = detail(&case, &DetailOptions { resamples: usize::MAX, ..quick(1) });
    assert!(found.labels[4].bootstrap.is_none() && found.labels[4].reason.is_some());
}

#[test]
fn scores_that_are_no_probabilities_are_not_scored_as_such() {
    // Eq. 2 as printed leaves the unit interval; its order still counts, and Platt's curve mends it.
    let oof: Vec<f64> = (0..40).map(|i| f64::from(i) / 10.0).collect();
    let oof_truth: Vec<Option<bool>> = (0..40).map(|i| Some(i > 20 || i % 4 == 0)).collect();
    let (labels, who) = (names(1), ["a", "b", "c", "d"]);
    let truth = [Some(true), Some(false), Some(true), Some(false)];
    let scores = [3.5, 0.2, 1.0, 2.0];
    let case = Tested { out_of_fold: Some((&oof[..], &oof_truth[..])), ..tested(&labels, &scores, &truth, &who) };
    let (found, _) = detail(&case, &quick(1));
    let label = &found.labels[0];
    let methods: Vec<&str> = label.calibration.iter().map(|c| c.method.as_str()).collect();
    assert_eq!(methods, ["Platt", "isotonic"]);
    assert!(label.auprc.is_some() && label.points.len() == 2 && label.decision.len() == 99);
    assert!(label.reason.as_ref().is_some_and(|r| r.contains("probabilities")), "{:?}", label.reason);
}
