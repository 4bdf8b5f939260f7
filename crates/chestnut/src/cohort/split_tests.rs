//! Tests of the split: properties on drawn cohorts, refusals, the stored file.

use super::super::tests::image;
use super::*;

/// Most images of one patient in a drawn cohort.
const FAMILY: usize = 4;

/// A cohort of families whose labels agree mostly, with `unknown` of the values unknown.
fn drawn(patients: usize, seed: u64, unknown: f64) -> Cohort {
    const PREVALENCE: [f64; 5] = [0.03, 0.1, 0.3, 0.5, 0.8];
    let mut stream = Stream::keyed(seed, "drawn cohort");
    let mut images = Vec::new();
    for patient in 0..patients {
        let typical: Vec<bool> = PREVALENCE.iter().map(|&p| stream.uniform() < p).collect();
        for number in 0..=stream.below(FAMILY) {
            let mut labels = String::new();
            for (&prevalence, &typical) in PREVALENCE.iter().zip(&typical) {
                let own = if stream.uniform() < 0.8 { typical } else { stream.uniform() < prevalence };
                let known = stream.uniform() >= unknown;
                labels.push(if !known {
                    '?'
                } else if own {
                    '+'
                } else {
                    '-'
                });
            }
            images.push(image(&format!("{patient:04}_{number}"), &format!("p{patient}"), &labels));
        }
    }
    Cohort { label_names: (0..5).map(|l| format!("L{l}")).collect(), images, ..Cohort::default() }
}

fn plans(seed: u64) -> [SplitPlan; 3] {
    let fifths: Vec<(&str, f64)> = ["a", "b", "c", "d", "e"].iter().map(|&n| (n, 0.2)).collect();
    [SplitPlan::train_test(seed), SplitPlan::train_validation_test(seed), SplitPlan::new(&fifths, seed)]
}

fn count(cohort: &Cohort, indices: &[usize], label: usize, class: Label) -> usize {
    indices.iter().filter(|&&i| cohort.images[i].labels[label] == class).count()
}

#[test]
fn patients_stay_together_and_shares_are_kept() {
    for seed in 0..12 {
        for unknown in [0.0, 0.3] {
            let cohort = drawn(120, seed, unknown);
            let all: Vec<usize> = (0..cohort.images.len()).collect();
            for plan in plans(seed) {
                let split = split(&cohort.items(), &plan).expect("enough patients");
                assert!(split.shared_patients().is_empty());
                let parts = split.indices(&cohort).expect("the same cohort");
                assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), all.len());
                for (part, indices) in plan.parts.iter().zip(&parts) {
                    // Stated bound: two families off the target, for the images and for either class of a label.
                    let bound = 2.0 * FAMILY as f64;
                    let target = part.fraction * all.len() as f64;
                    assert!((indices.len() as f64 - target).abs() <= bound, "{} of {target}", indices.len());
                    for label in 0..5 {
                        for class in [Label::Positive, Label::Negative] {
                            let (here, total) =
                                (count(&cohort, indices, label, class), count(&cohort, &all, label, class));
                            let off = here as f64 - part.fraction * total as f64;
                            assert!(off.abs() <= bound, "seed {seed} {} L{label} {class:?}: off by {off}", part.name);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_rare_label_reaches_every_part() {
    // Two positive patients for two parts, three for three; whichever images they have.
    for seed in 0..20 {
        for (plan, positives) in [(SplitPlan::train_test(seed), 2), (SplitPlan::train_validation_test(seed), 3)] {
            let images: Vec<_> = (0..40)
                .map(|i| {
                    image(
                        &format!("{i:02}"),
                        &format!("p{i}"),
                        if i % 13 == 0 && i / 13 < positives { "+" } else { "-" },
                    )
                })
                .collect();
            let cohort = Cohort { label_names: vec!["rare".to_owned()], images, ..Cohort::default() };
            let split = split(&cohort.items(), &plan).expect("enough patients");
            for (part, indices) in split.indices(&cohort).expect("the same cohort").iter().enumerate() {
                assert_eq!(count(&cohort, indices, 0, Label::Positive), 1, "seed {seed}, part {part}");
            }
        }
    }
}

#[test]
fn the_split_is_a_function_of_seed_and_repeat_only() {
    let cohort = drawn(60, 3, 0.1);
    let plan = SplitPlan::train_test(5);
    let first = split(&cohort.items(), &plan).expect("enough patients");
    let mut reversed = cohort.items();
    reversed.reverse();
    assert_eq!(split(&reversed, &plan), Ok(first.clone()), "the order of the images does not matter");
    // Nor does what patients are called: another pseudonym key gives the same parts.
    let mut renamed = cohort.clone();
    for image in &mut renamed.images {
        image.patient = super::super::pseudonym(&[9; 32], &image.patient);
    }
    let other_names = split(&renamed.items(), &plan).expect("enough patients");
    assert!(first.rows.iter().zip(&other_names.rows).all(|(a, b)| a.part == b.part));
    assert_ne!(split(&cohort.items(), &plan.repeated(1)), Ok(first.clone()));
    assert_ne!(split(&cohort.items(), &SplitPlan::train_test(6)), Ok(first));
}

#[test]
fn images_can_be_split_as_published() {
    let cohort = drawn(60, 3, 0.0);
    let plan = SplitPlan { unit: Unit::Image, ..SplitPlan::train_test(0) };
    let split = split(&cohort.items(), &plan).expect("enough images");
    assert!(!split.shared_patients().is_empty(), "families are torn apart");
}

#[test]
fn too_few_patients_and_wrong_plans_are_refused() {
    let cohort = drawn(3, 0, 0.0);
    let error = split(&cohort.items(), &SplitPlan::train_test(0)).expect_err("3 patients for 2 parts");
    assert_eq!(error, SplitError::TooFew { have: 3, units: "patients", parts: 2, needed: 4 });
    assert!(split(&[], &SplitPlan::train_test(0)).is_err());
    let cohort = drawn(30, 0, 0.0);
    let plans: [&[(&str, f64)]; 5] = [
        &[("train", 1.0)],
        &[("a", 0.5), ("a", 0.5)],
        &[("a", 0.5), ("b", 0.6)],
        &[("a", 1.5), ("b", -0.5)],
        &[("a", f64::NAN), ("b", 0.5)],
    ];
    for parts in plans {
        let result = split(&cohort.items(), &SplitPlan::new(parts, 0));
        assert!(matches!(result, Err(SplitError::Plan(_))), "{parts:?}");
    }
    // A sliver of a part still has two patients, and a few more for the labels it would lack.
    let sliver = SplitPlan::new(&[("train", 0.99), ("test", 0.01)], 0);
    let split = split(&cohort.items(), &sliver).expect("enough patients");
    let mut patients: Vec<&str> = split.rows.iter().filter(|r| r.part == 1).map(|r| r.patient.as_str()).collect();
    patients.dedup();
    assert!((2..=8).contains(&patients.len()), "{patients:?}");
}

#[test]
fn folds_are_even_and_keep_patients_together() {
    let cohort = drawn(80, 1, 0.0);
    let items = cohort.items();
    let repeats = folds(&items, 5, 3, Unit::Patient, 7).expect("enough patients");
    assert_eq!(repeats.len(), 3);
    assert_ne!(repeats[0], repeats[1]);
    for folds in &repeats {
        for pair in 1..items.len() {
            if items[pair].patient == items[pair - 1].patient {
                assert_eq!(folds[pair], folds[pair - 1]);
            }
        }
        for fold in 0..5 {
            let size = folds.iter().filter(|&&f| f == fold).count() as f64;
            assert!((size - items.len() as f64 / 5.0).abs() <= 2.0 * FAMILY as f64, "fold {fold} has {size}");
        }
    }
    assert!(matches!(folds(&items, 81, 1, Unit::Patient, 7), Err(SplitError::TooFew { .. })));
    assert!(matches!(folds(&items, 1, 1, Unit::Patient, 7), Err(SplitError::Plan(_))));
}

#[test]
fn the_file_reads_back_and_a_changed_cohort_is_noticed() {
    let cohort = drawn(20, 2, 0.0);
    let made = split(&cohort.items(), &SplitPlan::train_validation_test(1)).expect("enough patients");
    assert_eq!(Split::from_csv(&made.to_csv(), &made.parts).expect("reads back"), made);
    let error = Split::from_csv(&made.to_csv(), &made.parts[..1]).expect_err("other parts are named");
    assert!(error.to_string().contains("split.csv row"), "{error}");
    assert!(Split::from_csv("image,patient,part\nb,1,test\na,1,test\n", &["test".to_owned()]).is_err());
    let mut fewer = cohort.clone();
    let gone = fewer.images.pop().expect("there are images").id;
    assert_eq!(made.indices(&fewer), Err(SplitError::Stale { image: gone, problem: "not in the cohort" }));
    let mut more = cohort;
    more.images.push(image("zzz", "p", "+++++"));
    assert!(matches!(made.indices(&more), Err(SplitError::Stale { problem: "not in the split", .. })));
}

#[test]
fn by_lot_keeps_shares_and_units_and_nothing_else() {
    for seed in 0..5 {
        let cohort = drawn(100, seed, 0.2);
        let items = cohort.items();
        for unit in [Unit::Image, Unit::Patient] {
            let plan = SplitPlan { unit, ..SplitPlan::train_validation_test(seed) };
            let split = by_lot(&items, &plan).expect("enough");
            assert_eq!(split.shared_patients().is_empty(), unit == Unit::Patient);
            let parts = split.indices(&cohort).expect("the same cohort");
            if unit == Unit::Image {
                let wanted = |share: f64| (share * items.len() as f64).round() as usize;
                assert_eq!(parts[0].len(), wanted(0.7));
                assert_eq!(parts[0].len() + parts[1].len(), wanted(0.8));
            }
            // Neither the order of the items nor the labels count.
            let backwards: Vec<Item<'_>> = items.iter().rev().map(|&i| Item { labels: &[], ..i }).collect();
            assert_eq!(by_lot(&backwards, &plan).expect("enough"), split);
            assert_ne!(by_lot(&items, &plan.repeated(1)).expect("enough"), split);
        }
    }
    // Two of each is the least, whatever the shares.
    let cohort = Cohort { images: (0..6).map(|i| image(&i.to_string(), "p", "+")).collect(), ..Cohort::default() };
    let plan = SplitPlan { unit: Unit::Image, ..SplitPlan::train_validation_test(0) };
    let sizes = |items: &[Item<'_>]| -> Vec<usize> {
        let split = by_lot(items, &plan).expect("six images");
        (0..3).map(|part| split.rows.iter().filter(|r| r.part == part).count()).collect()
    };
    assert_eq!(sizes(&cohort.items()[..]), [2, 2, 2]);
    let error = by_lot(&cohort.items()[1..], &plan).expect_err("five images");
    assert_eq!(error, SplitError::TooFew { have: 5, units: "images", parts: 3, needed: 6 });
}
