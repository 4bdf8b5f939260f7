//! Tests of DeLong's variance against its definition, with and without clusters.

use super::*;
use crate::random::Stream;
use crate::roc::auc;

fn case(stream: &mut Stream) -> (Vec<f64>, Vec<f64>, Vec<bool>) {
    let rows = 8 + stream.below(40);
    let truth: Vec<bool> = (0..rows).map(|row| row < 2 || (row > 3 && stream.uniform() < 0.3)).collect();
    let mut score =
        || -> Vec<f64> { truth.iter().map(|&hit| stream.below(8) as f64 + if hit { 2.0 } else { 0.0 }).collect() };
    let (a, b) = (score(), score());
    (a, b, truth)
}

/// The definition: structural components from all pairs, and their sample covariances.
fn by_definition(a: &[f64], b: &[f64], truth: &[bool]) -> f64 {
    let kernel = |s: &[f64], i: usize, j: usize| -> f64 {
        if s[i] > s[j] {
            1.0
        } else if s[i] == s[j] {
            0.5
        } else {
            0.0
        }
    };
    let pos: Vec<usize> = (0..truth.len()).filter(|&i| truth[i]).collect();
    let neg: Vec<usize> = (0..truth.len()).filter(|&i| !truth[i]).collect();
    let v10 = |s: &[f64]| -> Vec<f64> {
        let share = |&i: &usize| neg.iter().map(|&j| kernel(s, i, j)).sum::<f64>();
        pos.iter().map(|i| share(i) / neg.len() as f64).collect()
    };
    let v01 = |s: &[f64]| -> Vec<f64> {
        let share = |&j: &usize| pos.iter().map(|&i| kernel(s, i, j)).sum::<f64>();
        neg.iter().map(|j| share(j) / pos.len() as f64).collect()
    };
    let covariance = |x: &[f64], y: &[f64]| {
        let count = x.len() as f64;
        let (mx, my) = (x.iter().sum::<f64>() / count, y.iter().sum::<f64>() / count);
        x.iter().zip(y).map(|(p, q)| (p - mx) * (q - my)).sum::<f64>() / (count - 1.0)
    };
    covariance(&v10(a), &v10(b)) / pos.len() as f64 + covariance(&v01(a), &v01(b)) / neg.len() as f64
}

#[test]
fn fast_algorithm_equals_the_definition() {
    let mut stream = Stream::keyed(1, "delong");
    for _ in 0..200 {
        let (a, b, truth) = case(&mut stream);
        let one = delong(&a, &truth).unwrap();
        assert!((one.auc - auc(&a, &truth).unwrap()).abs() < 1e-14);
        assert!((one.variance - by_definition(&a, &a, &truth)).abs() < 1e-14);
        let expected =
            by_definition(&a, &a, &truth) + by_definition(&b, &b, &truth) - 2.0 * by_definition(&a, &b, &truth);
        let pair = paired_delong(&a, &b, &truth, 0.95).unwrap();
        assert!((pair.standard_error * pair.standard_error - expected).abs() < 1e-14);
        assert!((pair.difference - (pair.auc_a - pair.auc_b)).abs() < 1e-14);
    }
}

/// Obuchowski's definition (1997), from all pairs: three sums over clusters.
fn clustered_by_definition(s: &[f64], truth: &[bool], cluster: &[usize]) -> f64 {
    let rows = |class: bool| -> Vec<usize> { (0..truth.len()).filter(|&i| truth[i] == class).collect() };
    let (pos, neg) = (rows(true), rows(false));
    let kernel = |i: usize, j: usize| f64::from(u8::from(s[i] > s[j])) + f64::from(u8::from(s[i] == s[j])) / 2.0;
    let v10 = |i: usize| neg.iter().map(|&j| kernel(i, j)).sum::<f64>() / neg.len() as f64;
    let v01 = |j: usize| pos.iter().map(|&i| kernel(i, j)).sum::<f64>() / pos.len() as f64;
    let auc = pos.iter().map(|&i| v10(i)).sum::<f64>() / pos.len() as f64;
    let of = |c: usize, rows: &[usize], v: &dyn Fn(usize) -> f64| -> (f64, usize) {
        let own: Vec<usize> = rows.iter().copied().filter(|&r| cluster[r] == c).collect();
        (own.iter().map(|&r| v(r)).sum::<f64>() - own.len() as f64 * auc, own.len())
    };
    let clusters: std::collections::BTreeSet<usize> = cluster.iter().copied().collect();
    let parts: Vec<_> = clusters.iter().map(|&c| (of(c, &pos, &v10), of(c, &neg, &v01))).collect();
    let (m, n) = (pos.len() as f64, neg.len() as f64);
    let factor = |count: usize| count as f64 / (count - 1) as f64;
    let with = |positive: bool| parts.iter().filter(|(p, q)| if positive { p.1 > 0 } else { q.1 > 0 }).count();
    let s10 = factor(with(true)) / m * parts.iter().map(|(p, _)| p.0 * p.0).sum::<f64>();
    let s01 = factor(with(false)) / n * parts.iter().map(|(_, q)| q.0 * q.0).sum::<f64>();
    let s11 = factor(parts.len()) * parts.iter().map(|(p, q)| p.0 * q.0).sum::<f64>();
    s10 / m + s01 / n + 2.0 * s11 / (m * n)
}

#[test]
fn clusters_count_as_defined_and_singles_as_rows() {
    let mut stream = Stream::keyed(5, "delong");
    for _ in 0..200 {
        let (a, b, truth) = case(&mut stream);
        // The first rows of each class in clusters of their own, so that there are two of each.
        let cluster: Vec<usize> =
            (0..truth.len()).map(|row| if row < 4 { row } else { stream.below(truth.len()) }).collect();
        let one = delong_clustered(&a, &truth, &cluster).unwrap();
        let expected = clustered_by_definition(&a, &truth, &cluster);
        assert!((one.variance - expected.max(0.0)).abs() < 1e-13, "{} {expected}", one.variance);
        // A difference is linear in the placements: its variance is that of a score whose placements it has.
        let pair = paired_delong_clustered(&a, &b, &truth, &cluster, 0.95).unwrap();
        let plain = paired_delong(&a, &b, &truth, 0.95).unwrap();
        assert_eq!(pair.difference, plain.difference);
        let names: Vec<String> = (0..truth.len()).map(|row| format!("{:04}", 1000 - row)).collect();
        let single = paired_delong_clustered(&a, &b, &truth, &names, 0.95).unwrap();
        assert!((single.standard_error - plain.standard_error).abs() < 1e-14);
        assert!(
            (delong_clustered(&a, &truth, &names).unwrap().variance - delong(&a, &truth).unwrap().variance).abs()
                < 1e-15
        );
    }
}

#[test]
fn copies_of_every_row_say_no_more_than_the_rows() {
    let mut stream = Stream::keyed(6, "delong");
    for _ in 0..50 {
        let (a, b, truth) = case(&mut stream);
        let thrice = |values: &[f64]| values.repeat(3);
        let cluster: Vec<usize> = (0..3 * truth.len()).map(|row| row % truth.len()).collect();
        let (once, copies) =
            (delong(&a, &truth).unwrap(), delong_clustered(&thrice(&a), &truth.repeat(3), &cluster).unwrap());
        assert!((once.auc - copies.auc).abs() < 1e-12 && (once.variance - copies.variance).abs() < 1e-12);
        assert_eq!((copies.positives, copies.positive_clusters), (3 * once.positives, once.positives));
        let one = paired_delong(&a, &b, &truth, 0.95).unwrap();
        let three = paired_delong_clustered(&thrice(&a), &thrice(&b), &truth.repeat(3), &cluster, 0.95).unwrap();
        assert!((one.p_value - three.p_value).abs() < 1e-9, "{} {}", one.p_value, three.p_value);
        // Taken as independent, the copies would claim three times as much.
        assert!((delong(&thrice(&a), &truth.repeat(3)).unwrap().variance < once.variance) || once.variance == 0.0);
    }
    let truth = [true, true, true, false, false];
    let one_patient = delong_clustered(&[5.0, 4.0, 3.0, 2.0, 1.0], &truth, &["a", "a", "a", "b", "c"]);
    let too_few = StatsError::TooFew { what: "clusters (patients) with positives", needed: 2, found: 1 };
    assert_eq!(one_patient, Err(too_few));
    assert!(delong_clustered(&[5.0, 4.0, 3.0, 2.0, 1.0], &truth, &["a"]).is_err());
}

#[test]
fn a_score_does_not_differ_from_itself_or_its_monotone_map() {
    let mut stream = Stream::keyed(2, "delong");
    for _ in 0..100 {
        let (a, _, truth) = case(&mut stream);
        let mapped: Vec<f64> = a.iter().map(|s| s * s * s + s).collect();
        for other in [&a, &mapped] {
            let pair = paired_delong(&a, other, &truth, 0.95).unwrap();
            assert_eq!((pair.difference, pair.z, pair.p_value), (0.0, 0.0, 1.0));
            assert_eq!((pair.interval.low, pair.interval.high), (0.0, 0.0));
        }
    }
}

#[test]
fn swapping_the_scores_turns_the_sign() {
    let mut stream = Stream::keyed(3, "delong");
    for _ in 0..100 {
        let (a, b, truth) = case(&mut stream);
        let forth = paired_delong(&a, &b, &truth, 0.9).unwrap();
        let back = paired_delong(&b, &a, &truth, 0.9).unwrap();
        assert_eq!((forth.difference, forth.z), (-back.difference, -back.z));
        assert_eq!(forth.p_value, back.p_value);
        assert!((0.0..=1.0).contains(&forth.p_value));
    }
}

#[test]
fn intervals_contain_the_estimate_and_widen_with_the_level() {
    let mut stream = Stream::keyed(4, "delong");
    for _ in 0..100 {
        let (a, _, truth) = case(&mut stream);
        let one = delong(&a, &truth).unwrap();
        #[allow(clippy::type_complexity, reason = "two methods of one signature")]
        let kinds: [fn(&DeLong, f64) -> Result<Interval, StatsError>; 2] = [DeLong::interval, DeLong::logit_interval];
        for kind in kinds {
            let narrow = kind(&one, 0.8).unwrap();
            let wide = kind(&one, 0.99).unwrap();
            assert!(narrow.contains(one.auc) && wide.contains(one.auc));
            assert!(wide.width() > narrow.width());
            assert!(wide.low >= 0.0 && wide.high <= 1.0);
        }
    }
}

#[test]
fn perfect_separation_still_has_a_wide_interval() {
    let truth = [true, true, true, false, false, false, false];
    let up = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
    let down: Vec<f64> = up.iter().map(|s| -s).collect();
    let best = delong(&up, &truth).unwrap();
    assert_eq!((best.auc, best.variance), (1.0, 0.0));
    let interval = best.interval(0.95).unwrap();
    assert_eq!(interval.method, IntervalMethod::Newcombe);
    assert_eq!(interval.high, 1.0);
    assert!(interval.low > 0.4 && interval.low < 0.8, "{interval:?}");
    assert_eq!(best.logit_interval(0.95).unwrap(), interval);
    let worst = delong(&down, &truth).unwrap().interval(0.95).unwrap();
    assert_eq!(worst.low, 0.0);
    assert!((worst.high - (1.0 - interval.low)).abs() < 1e-12);
}

#[test]
fn constant_scores_are_not_certain_to_be_chance() {
    let one = delong(&[3.0; 6], &[true, true, true, false, false, false]).unwrap();
    assert_eq!((one.auc, one.variance), (0.5, 0.0));
    let interval = one.interval(0.95).unwrap();
    assert!(interval.low < 0.3 && interval.high > 0.7, "{interval:?}");
}

#[test]
fn not_estimable_is_an_error() {
    let one_positive = delong(&[1.0, 2.0, 3.0], &[true, false, false]);
    assert_eq!(one_positive, Err(StatsError::TooFew { what: "positives", needed: 2, found: 1 }));
    let truth = [true, true, false, false];
    let perfect = [4.0, 3.0, 2.0, 1.0];
    assert_eq!(paired_delong(&perfect, &[1.0; 4], &truth, 0.95), Err(StatsError::ZeroVariance { difference: 0.5 }));
    assert!(paired_delong(&perfect, &perfect[..3], &truth, 0.95).is_err());
    assert!(delong(&perfect, &truth).unwrap().interval(1.0).is_err());
}
