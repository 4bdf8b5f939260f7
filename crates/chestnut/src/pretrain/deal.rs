//! Which patients teach and which judge, and in which order images are shown.
//!
//! Both depend on the seed and on names, never on the order of rows or threads (design rules 1 and 3).

use super::set::{Part, TrainingSet};
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
