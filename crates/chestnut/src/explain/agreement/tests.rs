use chestnut_stats::random::Stream;
use chestnut_stats::roc;

use super::*;

const SIDE: usize = 24;

fn map(values: impl Fn(usize, usize) -> f32) -> HeatMap {
    HeatMap::new(SIDE, SIDE, (0..SIDE * SIDE).map(|i| values(i % SIDE, i / SIDE)).collect()).expect("whole")
}

fn mask(inside: impl Fn(usize, usize) -> bool) -> Mask {
    Mask::new(SIDE, SIDE, (0..SIDE * SIDE).map(|i| inside(i % SIDE, i / SIDE)).collect()).expect("whole")
}

fn drawn_map(draw: &mut Stream) -> HeatMap {
    HeatMap::new(SIDE, SIDE, (0..SIDE * SIDE).map(|_| draw.normal() as f32).collect()).expect("whole")
}

#[test]
fn a_whole_mask_covers_everything_and_a_right_one_agrees_in_all() {
    let rule = AgreementRule::default();
    let expert = mask(|x, y| (4..12).contains(&x) && y < 9);
    let everything = AgreementRule { mask: MaskRule::Quantile(0.0), ..rule };
    let ramp = map(|x, y| (1 + x + SIDE * y) as f32);
    let whole = evaluate(&ramp, &expert, &everything).expect("same size");
    // All but the least pixel, which lies outside of the region.
    assert_eq!((whole.coverage, whole.box_coverage, whole.box_share), (1.0, 1.0, 1.0));
    assert!((whole.iou - 72.0 / 575.0).abs() < 1e-12 && (whole.mask_share - 575.0 / 576.0).abs() < 1e-12);

    let right = map(|x, y| if expert.get(x, y) { 1.0 + (x + y) as f32 } else { 0.0 });
    let right = evaluate(&right, &expert, &rule).expect("same size");
    assert_eq!((right.coverage, right.iou, right.hit, right.pixel_auc), (1.0, 1.0, Some(1.0), Some(1.0)));
    assert_eq!((right.mask_share, right.expert_share, right.box_share), (0.125, 0.125, 0.125));
}

#[test]
fn random_maps_cover_their_own_share() {
    let mut draw = Stream::keyed(1, "agreement");
    for quantile in [0.5, 0.8, 0.95] {
        let rule = AgreementRule { mask: MaskRule::Quantile(quantile), tolerance: 0 };
        let (mut coverage, mut auc, mut hits) = (0.0, 0.0, 0.0);
        let expert = mask(|x, y| (4..20).contains(&x) && (6..18).contains(&y));
        let repeats = 400;
        for _ in 0..repeats {
            let found = evaluate(&drawn_map(&mut draw), &expert, &rule).expect("same size");
            assert!((found.mask_share - (1.0 - quantile)).abs() < 0.002, "{}", found.mask_share);
            coverage += found.coverage;
            auc += found.pixel_auc.expect("two classes");
            hits += found.hit.expect("a peak");
        }
        let n = f64::from(repeats);
        // Standard errors: coverage below 0.0018 each way, AUC 0.0013, hits 0.024.
        assert!((coverage / n - (1.0 - quantile)).abs() < 0.01, "{}", coverage / n);
        assert!((auc / n - 0.5).abs() < 0.01 && (hits / n - 1.0 / 3.0).abs() < 0.12, "{} {}", auc / n, hits / n);
    }
}

#[test]
fn pixel_auc_is_the_auc() {
    let mut draw = Stream::keyed(2, "agreement");
    for _ in 0..40 {
        // Few distinct values, so that most pixels tie; some are -0.
        let values = (0..SIDE * SIDE).map(|_| [-0.0, 0.0, 1.0, 2.5, -3.0_f32][draw.below(5)]);
        let map = HeatMap::new(SIDE, SIDE, values.collect()).expect("whole");
        let expert = Mask::new(SIDE, SIDE, (0..SIDE * SIDE).map(|_| draw.uniform() < 0.3).collect()).expect("whole");
        let scores: Vec<f64> = map.values.iter().map(|&v| f64::from(v)).collect();
        let expected = roc::auc(&scores, &expert.inside).expect("two classes");
        assert!((pixel_auc(&map, &expert).expect("two classes") - expected).abs() < 1e-12);
    }
    assert_eq!(pixel_auc(&map(|x, _| x as f32), &mask(|_, _| true)), None);
}

#[test]
fn the_peak_may_miss_by_the_tolerance() {
    let peak = map(|x, y| if (x, y) == (10, 10) { 1.0 } else { 0.0 });
    let expert = mask(|x, y| x >= 13 && y >= 14);
    let hit = |tolerance| {
        let rule = AgreementRule { tolerance, ..AgreementRule::default() };
        let found = evaluate(&peak, &expert, &rule).expect("same size");
        (found.hit, found.tolerant_hit)
    };
    // The nearest pixel of the region is 3 to the right and 4 down: 5 away.
    assert_eq!((hit(0), hit(4), hit(5)), ((Some(0.0), Some(0.0)), (Some(0.0), Some(0.0)), (Some(0.0), Some(1.0))));
    let two = map(|x, y| if (x, y) == (0, 0) || (x, y) == (20, 20) { 1.0 } else { 0.0 });
    let found = evaluate(&two, &expert, &AgreementRule::default()).expect("same size");
    assert_eq!(found.hit, Some(0.5), "one of two equal peaks");
    let flat = evaluate(&map(|_, _| 3.0), &expert, &AgreementRule::default()).expect("same size");
    assert_eq!((flat.hit, flat.coverage, flat.mask_share, flat.pixel_auc), (None, 0.0, 0.0, Some(0.5)));
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let small = Mask::new(2, 2, vec![true; 4]).expect("whole");
    let ramp = map(|x, _| x as f32);
    assert!(evaluate(&ramp, &small, &AgreementRule::default()).is_err());
    assert!(evaluate(&ramp, &mask(|_, _| false), &AgreementRule::default()).is_err());
    let rule = AgreementRule { tolerance: MAX_TOLERANCE + 1, ..AgreementRule::default() };
    assert!(evaluate(&ramp, &mask(|x, _| x < 3), &rule).is_err());
}

#[test]
fn summaries_resample_patients() {
    let expert = mask(|x, y| x < 12 && y < 12);
    let mut draw = Stream::keyed(3, "agreement");
    let row = |i: usize, label: &str, draw: &mut Stream| AgreementRow {
        image: format!("{i}.png"),
        patient: format!("p{}", i / 2),
        label: label.to_owned(),
        source: "net".to_owned(),
        agreement: evaluate(&drawn_map(draw), &expert, &AgreementRule::default()).expect("same size"),
    };
    let mut rows: Vec<AgreementRow> = (0..20).map(|i| row(i, "Lung", &mut draw)).collect();
    rows.extend((0..2).map(|i| row(i, "PNX", &mut draw)));
    let table = summarise(&rows, Some(200), 7);
    let names: Vec<(&str, usize, usize)> = table.iter().map(|t| (t.label.as_str(), t.regions, t.patients)).collect();
    assert_eq!(names, [("Lung", 20, 10), ("PNX", 2, 1), (POOLED, 22, 10)]);
    let (lung, pnx) = (&table[0].measures[0], &table[1].measures[0]);
    let mean = rows[..20].iter().map(|r| r.agreement.coverage).sum::<f64>() / 20.0;
    assert!((lung.mean.expect("a mean") - mean).abs() < 1e-12);
    let ends = lung.interval.expect("ten patients");
    assert!(ends[0] < mean && mean < ends[1] && lung.reason.is_none());
    // One patient has a mean and no interval.
    assert!(pnx.mean.is_some() && pnx.interval.is_none());
    assert!(pnx.reason.as_deref().is_some_and(|r| r.contains("patients")), "{:?}", pnx.reason);
    assert_eq!(summarise(&rows, Some(200), 7), table, "the same draws again");

    let csv = rows_csv(&rows, MaskRule::Otsu);
    assert_eq!(csv.lines().count(), 23);
    assert!(csv.starts_with("image,patient,label,source,mask,coverage,box_coverage,iou,hit,tolerant_hit,pixel_auc"));
    assert!(csv.lines().skip(1).all(|l| l.contains(",net,otsu,")), "{csv}");
    let csv = summary_csv(&table, MaskRule::Otsu);
    assert_eq!(csv.lines().count(), 1 + 3 * 9);
    assert!(csv.lines().nth(1).is_some_and(|l| l.starts_with("net,Lung,otsu,20,10,coverage,")), "{csv}");
}
