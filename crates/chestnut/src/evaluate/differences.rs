//! Two methods on the same test images: is one better?
//!
//! Per label by the paired test of DeLong et al. (1988) with patients as clusters (Obuchowski 1997), and Holm's correction
//! (1979) over the labels that could be tested; for the mean AUC by resampling patients, both methods on the same
//! resamples. Repeated splits are not used here: their test parts overlap, and no p value follows from them.

use super::LEVEL;
use super::detail::bootstrap::{Draws, Ranked};
use super::detail::{DetailOptions, Tested, missing_class};
use super::results::{Difference, LabelDifference};
use chestnut_stats::delong::paired_delong_clustered;
use chestnut_stats::multiple::holm;
use chestnut_stats::{mean, roc};

/// AUC of `first` minus AUC of `second`, per label and on average.
///
/// Of the options, `resamples` and `seed` count. If the two were not tested on the same images, rows in the same order,
/// no difference is given and each label says so. The mean is over the labels for which both have an AUC.
///
/// # Panics
/// If the tables do not have one value per row and label.
#[must_use]
pub fn difference(first: &Tested<'_>, second: &Tested<'_>, options: &DetailOptions) -> Difference {
    first.assert_shape();
    second.assert_shape();
    let same = first.labels == second.labels && first.patients == second.patients && first.truth == second.truth;
    let one = |k: usize| {
        if same {
            label_difference(first, second, k)
        } else {
            without(&first.labels[k], "not tested on the same images".to_owned())
        }
    };
    let mut labels: Vec<LabelDifference> = (0..first.labels.len()).map(one).collect();
    correct(&mut labels);
    let name = |tested: &Tested<'_>| (tested.approach.to_owned(), tested.source.to_owned());
    Difference {
        first: name(first),
        second: name(second),
        labels,
        mean: same.then(|| mean_difference(first, second, options)).flatten(),
    }
}

/// A label without a difference.
fn without(label: &str, reason: String) -> LabelDifference {
    let label = label.to_owned();
    LabelDifference { label, difference: None, interval: None, p: None, p_holm: None, reason: Some(reason) }
}

fn label_difference(first: &Tested<'_>, second: &Tested<'_>, label: usize) -> LabelDifference {
    let name = &first.labels[label];
    for tested in [first, second] {
        if let Some(reason) = tested.untrained(label) {
            return without(name, format!("{}, {}: {reason}", tested.approach, tested.source));
        }
    }
    let ((a, truth), (b, _)) = (first.known(label), second.known(label));
    if let Some(reason) = missing_class(&truth) {
        return without(name, reason);
    }
    match paired_delong_clustered(&a, &b, &truth, &first.known_patients(label), LEVEL) {
        Ok(pair) => LabelDifference {
            label: name.clone(),
            difference: Some(pair.difference),
            interval: Some([pair.interval.low, pair.interval.high]),
            p: Some(pair.p_value),
            p_holm: None,
            reason: None,
        },
        // A single positive still has an AUC, but nothing to test it with.
        Err(e) => LabelDifference {
            difference: roc::auc(&a, &truth).ok().zip(roc::auc(&b, &truth).ok()).map(|(a, b)| a - b),
            ..without(name, format!("not tested: {e}"))
        },
    }
}

/// Holm's correction over the labels that have a p value.
fn correct(labels: &mut [LabelDifference]) {
    let tested: Vec<&mut LabelDifference> = labels.iter_mut().filter(|l| l.p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|l| l.p).collect();
    for (label, adjusted) in tested.into_iter().zip(holm(&p).unwrap_or_default()) {
        label.p_holm = Some(adjusted);
    }
}

/// Difference of the mean AUCs with its interval; in a resample, labels that lost a class are skipped for both.
fn mean_difference(first: &Tested<'_>, second: &Tested<'_>, options: &DetailOptions) -> Option<(f64, [f64; 2])> {
    let labels = 0..first.labels.len();
    let pairs: Vec<(Ranked, Ranked)> = labels.filter_map(|k| first.ranked(k).ok().zip(second.ranked(k).ok())).collect();
    let estimate = mean(pairs.iter().map(|(a, b)| a.auc - b.auc))?;
    let draws = Draws::new(first.patients, options.resamples, options.seed).ok()?;
    let values = draws
        .map(|times| mean(pairs.iter().filter_map(|(a, b)| a.auc_of(times).zip(b.auc_of(times))).map(|(a, b)| a - b)));
    let interval = draws.interval(estimate, values.into_iter().flatten().collect()).ok()?;
    Some((estimate, interval))
}

#[cfg(test)]
mod tests {
    use super::super::detail::bootstrap::PURPOSE;
    use super::*;
    use chestnut_stats::Clusters;
    use chestnut_stats::random::Stream;

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

    fn close(a: Option<f64>, b: f64) {
        assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} {b}");
    }

    #[test]
    fn worked_example() {
        let labels = names(4);
        // Rows: two positives, two negatives. Label 0: AUC 1 against 1/2. Label 1: the same twice. Label 2: 3/4
        // against 1/4 without variance. Label 3: not learned by the second.
        let truth: Vec<Option<bool>> = [true, true, false, false].into_iter().flat_map(|t| [Some(t); 4]).collect();
        let a = [[0.4, 0.4, 0.4, 0.4], [0.3, 0.1, 0.2, 0.3], [0.2, 0.3, 0.3, 0.2], [0.1, 0.2, 0.1, 0.1]].concat();
        let b = [[0.4, 0.4, 0.3, 0.0], [0.1, 0.1, 0.1, 0.0], [0.3, 0.3, 0.4, 0.0], [0.2, 0.2, 0.2, 0.0]].concat();
        let untrained = [None, None, None, Some("not estimable: one class".to_owned())];
        let who = ["p", "q", "r", "s"];
        let first = tested(&labels, &a, &truth, &who);
        let second = Tested { source: "VGG16", untrained: &untrained, ..tested(&labels, &b, &truth, &who) };
        let found = difference(&first, &second, &quick(1));

        // Label 0: negatives below each positive are (2, 2) and (2, 0), positives below each negative (0, 0) and
        // (1, 1). Differences (0, 2) with variance 2, and (-1, -1) without: 2 / 2^2 / 2 = 0.25, so z = 0.5 / 0.5 = 1.
        close(found.labels[0].difference, 0.5);
        close(found.labels[0].p, 0.317_310_507_862_914);
        let [low, high] = found.labels[0].interval.expect("tested");
        assert!((low - (0.5 - 0.5 * 1.959_963_984_540_054)).abs() < 1e-12 && high == 1.0);
        assert_eq!((found.labels[1].difference, found.labels[1].p), (Some(0.0), Some(1.0)));
        // Holm over two tests.
        close(found.labels[0].p_holm, 0.634_621_015_725_828);
        assert_eq!(found.labels[1].p_holm, Some(1.0));

        assert_eq!((found.labels[2].difference, found.labels[2].p_holm), (Some(0.5), None));
        assert!(found.labels[2].reason.as_ref().is_some_and(|r| r.contains("variance of zero")));
        assert_eq!(found.labels[3].difference, None);
        assert_eq!(found.labels[3].reason.as_deref(), Some("Embeddings + RF, VGG16: not estimable: one class"));
        close(found.mean.map(|m| m.0), 1.0 / 3.0);
        assert_eq!(found.second, ("Embeddings + RF".to_owned(), "VGG16".to_owned()));
    }

    #[test]
    fn the_mean_is_resampled_by_patient_and_swapping_turns_the_sign() {
        let mut draw = Stream::keyed(2, "differences test");
        let labels = names(3);
        let who = ["a", "b", "a", "c", "d", "e", "f", "g", "h", "h", "i", "j", "a", "b", "k", "l"];
        for round in 0..20 {
            let n = who.len() * 3;
            let truth: Vec<Option<bool>> =
                (0..n).map(|i| (i < 6 || draw.below(8) > 0).then(|| i < 3 || (i > 5 && draw.below(3) == 0))).collect();
            let mut scores = || -> Vec<f64> { (0..n).map(|_| draw.below(9) as f64 / 8.0).collect() };
            let (a, b) = (scores(), scores());
            let (first, second) = (tested(&labels, &a, &truth, &who), tested(&labels, &b, &truth, &who));
            let found = difference(&first, &second, &quick(round));
            let auc = |table: &[f64], rows: &[usize], k: usize| {
                let known = rows.iter().filter_map(|&r| Some((table[r * 3 + k], truth[r * 3 + k]?)));
                let (s, t): (Vec<f64>, Vec<bool>) = known.unzip();
                roc::auc(&s, &t)
            };
            let naive = Clusters::new(&who)
                .and_then(|clusters| {
                    clusters.bootstrap(200, LEVEL, &Stream::keyed(round, PURPOSE), |rows| {
                        let of = |k| Some(auc(&a, rows, k).ok()? - auc(&b, rows, k).ok()?);
                        Ok(mean((0..3).filter_map(of)).unwrap_or(f64::NAN))
                    })
                })
                .expect("a case with both classes");
            let (value, [low, high]) = found.mean.expect("the same case");
            for (x, y) in [(value, naive.estimate), (low, naive.interval.low), (high, naive.interval.high)] {
                assert!((x - y).abs() < 1e-12, "{x} {y}");
            }
            let back = difference(&second, &first, &quick(round));
            for (x, y) in found.labels.iter().zip(&back.labels) {
                assert_eq!((x.difference, x.p, x.p_holm), (y.difference.map(|d| 0.0 - d), y.p, y.p_holm));
                assert!(x.p_holm >= x.p && x.p.is_none_or(|p| (0.0..=1.0).contains(&p)));
            }
        }
    }

    #[test]
    fn degenerate_labels_and_other_images_say_why() {
        let labels = names(3);
        // No positive; one positive; nothing known.
        let truth: Vec<Option<bool>> = (0..5).flat_map(|i| [Some(false), Some(i == 0), None]).collect();
        let a: Vec<f64> = (0..15).map(|i| f64::from(i) / 15.0).collect();
        let b: Vec<f64> = a.iter().map(|p| 1.0 - p).collect();
        let who = ["a", "b", "c", "d", "e"];
        let (first, second) = (tested(&labels, &a, &truth, &who), tested(&labels, &b, &truth, &who));
        let found = difference(&first, &second, &quick(3));
        assert!(found.labels.iter().all(|l| l.p.is_none() && l.interval.is_none() && l.reason.is_some()));
        assert_eq!(found.labels.iter().map(|l| l.difference).collect::<Vec<_>>(), [None, Some(-1.0), None]);
        let one = ["a"; 5];
        let found = difference(&tested(&labels, &a, &truth, &one), &tested(&labels, &b, &truth, &one), &quick(3));
        assert_eq!(found.mean, None);
        let other = difference(&first, &tested(&labels, &a, &truth, &one), &quick(3));
        assert!(other.mean.is_none() && other.labels.iter().all(|l| l.difference.is_none()));
        assert!(other.labels[1].reason.as_ref().is_some_and(|r| r.contains("same images")));
    }
}
