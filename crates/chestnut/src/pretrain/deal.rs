//! Which patients teach and which judge, and in which order images are shown.
//!
//! Both depend on the seed and on names, never on the order of rows or threads (design rules 1 and 3).

use super::set::{Part, TrainingSet};
use super::targets::Targets;
use chestnut_stats::random::Stream;
use std::collections::BTreeMap;

/// Rows of the set to learn from and to judge by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dealt {
    /// To learn from.
    pub train: Vec<usize>,
    /// To judge by.
    pub validation: Vec<usize>,
}

/// Deals whole patients until `share` of the images judge; a table's own split column wins, and rows that it does not
/// name are learned from. `usable` says which rows have an image.
#[must_use]
pub fn deal(set: &TrainingSet, usable: &[bool], share: f64, seed: u64) -> Dealt {
    let good = || set.samples.iter().enumerate().filter(|(i, _)| usable.get(*i).copied().unwrap_or(false));
    let mut dealt = Dealt::default();
    if set.samples.iter().any(|s| s.part.is_some()) {
        for (row, sample) in good() {
            if sample.part == Some(Part::Validation) {
                dealt.validation.push(row);
            } else {
                dealt.train.push(row);
            }
        }
        return dealt;
    }
    let mut patients: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, sample) in good() {
        patients.entry(&sample.patient).or_default().push(row);
    }
    let images: usize = patients.values().map(Vec::len).sum();
    let wanted = (images as f64 * share).round() as usize;
    let mut groups: Vec<Vec<usize>> = patients.into_values().collect();
    Stream::keyed(seed, "pretrain split").shuffle(&mut groups);
    for group in groups {
        if dealt.validation.len() < wanted {
            dealt.validation.extend(group);
        } else {
            dealt.train.extend(group);
        }
    }
    dealt.train.sort_unstable();
    dealt.validation.sort_unstable();
    dealt
}

/// The batches of an epoch: all rows once, shuffled by seed and epoch. A last batch of one image is left out, because
/// its batch normalisation would see no spread.
#[must_use]
pub fn batches(rows: &[usize], size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order = rows.to_vec();
    Stream::keyed(seed, "pretrain order").child(epoch as u64).shuffle(&mut order);
    cut(&order, size)
}

/// The batches of an epoch in which labels are seen about equally often: as many draws, with replacement, as there are
/// rows. Each draw takes one of the groups with equal chance, then one of its images with equal chance. The groups are
/// the positives of each label that has any, and the images that are positive for none; so with G groups an image is
/// drawn with probability (1 / G) times the sum of 1 / size over the groups that it is in (class-aware sampling; Shen,
/// Lin and Huang 2016). A label that often comes along with others is still seen more than 1 / G of the time.
///
/// A target above 0.5 that teaches is a positive. Draws depend on seed and epoch.
#[must_use]
pub fn balanced(rows: &[usize], targets: &Targets, size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let groups = groups(rows, targets);
    if groups.is_empty() {
        return Vec::new();
    }
    let mut draw = Stream::keyed(seed, "pretrain balance").child(epoch as u64);
    let drawn: Vec<usize> = rows
        .iter()
        .map(|_| {
            let group = &groups[draw.below(groups.len())];
            group[draw.below(group.len())]
        })
        .collect();
    cut(&drawn, size)
}

/// The positives of each label, then the rows that are positive for none; none of the groups is empty.
fn groups(rows: &[usize], targets: &Targets) -> Vec<Vec<usize>> {
    let positive = |row: usize, label: usize| {
        let at = row * targets.outputs + label;
        targets.weights[at] > 0.0 && targets.values[at] > 0.5
    };
    let of = |is: &dyn Fn(usize) -> bool| -> Vec<usize> { rows.iter().copied().filter(|&row| is(row)).collect() };
    let mut groups: Vec<Vec<usize>> =
        (0..targets.outputs).map(|label| of(&|row: usize| positive(row, label))).collect();
    groups.push(of(&|row: usize| !(0..targets.outputs).any(|label| positive(row, label))));
    groups.retain(|group| !group.is_empty());
    groups
}

/// Cuts an order into batches.
fn cut(order: &[usize], size: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = order.chunks(size.max(1)).map(<[usize]>::to_vec).collect();
    if all.len() > 1 && all.last().is_some_and(|last| last.len() == 1) {
        all.pop();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::set::{Cell, Sample};
    use super::*;
    use std::collections::BTreeSet;

    fn set(images: usize, per_patient: usize) -> TrainingSet {
        let samples = (0..images).map(|i| Sample {
            id: format!("{i}.png"),
            file: format!("{i}.png").into(),
            patient: format!("p{}", i / per_patient),
            part: None,
            cells: vec![Cell::Negative],
        });
        TrainingSet { name: "t".into(), labels: vec!["A".into()], samples: samples.collect(), notes: Vec::new() }
    }

    #[test]
    fn patients_stay_whole_and_the_share_is_kept() {
        let set = set(300, 3);
        let mut usable = vec![true; 300];
        usable[5] = false;
        let dealt = deal(&set, &usable, 0.1, 7);
        assert_eq!(dealt.train.len() + dealt.validation.len(), 299);
        assert!((29..=33).contains(&dealt.validation.len()), "{}", dealt.validation.len());
        assert!(!dealt.train.contains(&5) && !dealt.validation.contains(&5));
        let of = |rows: &[usize]| rows.iter().map(|&r| set.samples[r].patient.clone()).collect::<BTreeSet<_>>();
        assert!(of(&dealt.train).is_disjoint(&of(&dealt.validation)));
        assert_eq!(dealt, deal(&set, &usable, 0.1, 7));
        assert_ne!(dealt, deal(&set, &usable, 0.1, 8));
    }

    #[test]
    fn the_tables_own_split_wins() {
        let mut set = set(4, 1);
        set.samples[2].part = Some(Part::Validation);
        let dealt = deal(&set, &[true; 4], 0.5, 0);
        assert_eq!((dealt.train, dealt.validation), (vec![0, 1, 3], vec![2]));
    }

    #[test]
    fn rare_labels_are_drawn_as_often_as_common_ones() {
        // Of 1000 images 10 have A, 500 have B, of which 5 have both, and one cell of A is unknown.
        let outputs = 2;
        let (mut values, mut weights) = (vec![0.0; 2000], vec![1.0; 2000]);
        (0..10).for_each(|i| values[i * outputs] = 1.0);
        (5..505).for_each(|i| values[i * outputs + 1] = 0.7);
        (values[999 * outputs], weights[999 * outputs]) = (1.0, 0.0);
        let targets = Targets { outputs, values, weights, truth: vec![None; 2000] };
        let rows: Vec<usize> = (0..1000).collect();
        let epoch = |seed: u64, epoch: usize| balanced(&rows, &targets, 64, seed, epoch);
        let first = epoch(1, 0);
        assert_eq!(first.iter().map(Vec::len).sum::<usize>(), 1000);
        assert_eq!((&first, first[0].len()), (&epoch(1, 0), 64));
        assert!(first != epoch(1, 1) && first != epoch(2, 0));
        let all: Vec<usize> = (0..100).flat_map(|e| epoch(1, e).concat()).collect();
        let share = |is: &dyn Fn(usize) -> bool| all.iter().filter(|&&r| is(r)).count() as f64 / all.len() as f64;
        // A third each, and what the others' draws bring along: 5 of the 500 have A, half of the 10 have B.
        let expected = [(1.0 + 5.0 / 500.0) / 3.0, (1.0 + 0.5) / 3.0, 1.0 / 3.0];
        let found = [share(&|r: usize| r < 10), share(&|r: usize| (5..505).contains(&r)), share(&|r: usize| r >= 505)];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 0.01, "{found} for {expected}");
        }
        // An image's own share is the sum over its groups.
        assert!((share(&|r: usize| r == 7) - (1.0 / 10.0 + 1.0 / 500.0) / 3.0).abs() < 0.003);
        assert!(all.contains(&999), "an unknown cell is no positive");
    }

    #[test]
    fn a_label_without_positives_is_no_group() {
        let targets =
            Targets { outputs: 2, values: vec![1.0, 0.0, 1.0, 0.0], weights: vec![1.0; 4], truth: vec![None; 4] };
        assert_eq!(groups(&[0, 1], &targets), [vec![0, 1]]);
        assert!(balanced(&[], &targets, 2, 0, 0).is_empty());
    }

    #[test]
    fn batches_hold_every_row_once_and_change_with_the_epoch() {
        let rows: Vec<usize> = (10..40).collect();
        let first = batches(&rows, 8, 1, 0);
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 8, 6]);
        let mut all = first.concat();
        all.sort_unstable();
        assert_eq!(all, rows);
        assert_ne!(first, batches(&rows, 8, 1, 1));
        assert_eq!(first, batches(&rows, 8, 1, 0));
        assert_eq!(batches(&rows[..9], 8, 1, 0).len(), 1, "one image is no batch");
        assert_eq!(batches(&rows[..1], 8, 1, 0).len(), 1, "unless there is no other");
    }
}
