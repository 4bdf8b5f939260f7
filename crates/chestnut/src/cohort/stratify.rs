//! Iterative stratification of patients over parts.
//!
//! Sechidis, Tsoumakas and Vlahavas 2011 ("On the stratification of multi-label data"), with whole
//! patients as the units: the rarest class is dealt out first, each patient to the part that lacks it most.
//! Since families weigh more than one image, single moves then even out what the greedy pass left.
//! The published splits were neither stratified nor by patient (protocol 6.1: 24 Device positives
//! where 44 were due). Nothing here may depend on the order of the input or on threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chestnut_stats::random::Stream;

use super::Label;
use super::split::{Item, Unit};

/// Images that must stay together.
#[derive(Debug)]
pub(crate) struct Group {
    /// Indices of the items.
    items: Vec<usize>,
    /// Images of the group in each stratum.
    counts: Vec<usize>,
}

/// The groups, ordered by their first image id, and the number of strata.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    strata: usize,
}

/// The class of a label that is balanced: the rarer one, and both where some images are unknown.
fn strata(items: &[Item<'_>]) -> Vec<(usize, Label)> {
    let labels = items.first().map_or(0, |item| item.labels.len());
    let mut strata = Vec::new();
    for label in 0..labels {
        let count = |wanted| items.iter().filter(|item| item.labels[label] == wanted).count();
        let (positives, negatives) = (count(Label::Positive), count(Label::Negative));
        strata.push((label, Label::Positive));
        if negatives < positives || positives + negatives < items.len() {
            strata.push((label, Label::Negative));
        }
    }
    strata
}

impl Groups {
    /// Groups items by patient, or each item alone.
    pub(crate) fn new(items: &[Item<'_>], unit: Unit) -> Self {
        let strata = strata(items);
        let mut sorted: Vec<usize> = (0..items.len()).collect();
        sorted.sort_by_key(|&i| items[i].id);
        let mut of_patient: BTreeMap<&str, usize> = BTreeMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for item in sorted {
            let next = groups.len();
            let group = match unit {
                Unit::Patient => *of_patient.entry(items[item].patient).or_insert(next),
                Unit::Image => next,
            };
            if group == next {
                groups.push(Group { items: Vec::new(), counts: vec![0; strata.len()] });
            }
            groups[group].items.push(item);
            for (count, &(label, class)) in groups[group].counts.iter_mut().zip(&strata) {
                *count += usize::from(items[item].labels[label] == class);
            }
        }
        Self { groups, strata: strata.len() }
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Deals the groups to parts of these fractions; each part gets at least `least` groups.
    /// Returns the part of each item.
    ///
    /// # Panics
    /// If there are fewer than `least` groups per part.
    pub(crate) fn deal(&self, fractions: &[f64], least: usize, stream: &mut Stream) -> Vec<usize> {
        assert!(self.len() >= least * fractions.len(), "{} groups do not fill the parts", self.len());
        let mut deal = Deal::new(self, fractions);
        deal.stratify(stream);
        deal.fill(least);
        deal.cover(least);
        deal.even_out(least, stream);
        let items = self.groups.iter().map(|g| g.items.len()).sum();
        let mut part_of_item = vec![0; items];
        for (group, &part) in self.groups.iter().zip(&deal.part_of) {
            for &item in &group.items {
                part_of_item[item] = part;
            }
        }
        part_of_item
    }
}

/// A deal under way.
struct Deal<'a> {
    groups: &'a [Group],
    fractions: &'a [f64],
    strata: usize,
    /// Images per stratum in all; the last entry counts every image.
    totals: Vec<usize>,
    /// The same per part, for the groups dealt so far.
    have: Vec<Vec<usize>>,
    /// Part of each group; `fractions.len()` while it is not dealt.
    part_of: Vec<usize>,
}

impl<'a> Deal<'a> {
    fn new(groups: &'a Groups, fractions: &'a [f64]) -> Self {
        let strata = groups.strata;
        let mut totals = vec![0; strata + 1];
        for group in &groups.groups {
            for (total, count) in totals.iter_mut().zip(&group.counts) {
                *total += count;
            }
            totals[strata] += group.items.len();
        }
        Self {
            groups: &groups.groups,
            fractions,
            strata,
            totals,
            have: vec![vec![0; strata + 1]; fractions.len()],
            part_of: vec![fractions.len(); groups.len()],
        }
    }

    fn stratify(&mut self, stream: &mut Stream) {
        let undealt = self.fractions.len();
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        stream.shuffle(&mut order);
        let mut remaining = self.totals[..self.strata].to_vec();
        loop {
            let rarest = (0..self.strata).filter(|&s| remaining[s] > 0).min_by_key(|&s| remaining[s]);
            // When every class is dealt out, the groups without any balance the sizes.
            let stratum = rarest.unwrap_or(self.strata);
            let weight = |group: &Group| group.counts.get(stratum).copied().unwrap_or(group.items.len());
            let mut members: Vec<usize> =
                order.iter().copied().filter(|&g| self.part_of[g] == undealt && weight(&self.groups[g]) > 0).collect();
            // Large families first: small ones can still even out. The sort keeps the shuffled order of equals.
            members.sort_by_key(|&g| Reverse(weight(&self.groups[g])));
            for group in members {
                let part = self.neediest(stratum, stream);
                self.part_of[group] = part;
                self.add(group, part);
                for (left, count) in remaining.iter_mut().zip(&self.groups[group].counts) {
                    *left -= count;
                }
            }
            if rarest.is_none() {
                return;
            }
        }
    }

    /// The part that lacks the stratum most; then the one that lacks images most; then by lot.
    fn neediest(&self, stratum: usize, stream: &mut Stream) -> usize {
        let lack = |part: usize, s: usize| self.fractions[part] * self.totals[s] as f64 - self.have[part][s] as f64;
        let need = |part: usize| (lack(part, stratum), lack(part, self.strata));
        let mut best = vec![0];
        for part in 1..self.fractions.len() {
            let (new, old) = (need(part), need(best[0]));
            if new > old {
                best.clear();
            }
            if new >= old {
                best.push(part);
            }
        }
        best[stream.below(best.len())]
    }

    fn add(&mut self, group: usize, part: usize) {
        let have = &mut self.have[part];
        for (have, count) in have.iter_mut().zip(&self.groups[group].counts) {
            *have += count;
        }
        have[self.strata] += self.groups[group].items.len();
    }

    fn move_to(&mut self, group: usize, part: usize) {
        let from = self.part_of[group];
        let have = &mut self.have[from];
        for (have, count) in have.iter_mut().zip(&self.groups[group].counts) {
            *have -= count;
        }
        have[self.strata] -= self.groups[group].items.len();
        self.part_of[group] = part;
        self.add(group, part);
    }

    fn members(&self, part: usize) -> Vec<usize> {
        (0..self.groups.len()).filter(|&g| self.part_of[g] == part).collect()
    }

    /// Groups of `part` that hold each stratum.
    fn holders(&self, part: usize) -> Vec<usize> {
        let mut holders = vec![0; self.strata];
        for group in self.members(part) {
            for (holder, &count) in holders.iter_mut().zip(&self.groups[group].counts) {
                *holder += usize::from(count > 0);
            }
        }
        holders
    }

    /// Whether the part of `group` keeps every class that it has when the group leaves.
    fn can_leave(&self, group: usize, holders: &[usize]) -> bool {
        self.groups[group].counts.iter().zip(holders).all(|(&count, &holders)| count == 0 || holders > 1)
    }

    /// Gives each part at least `least` groups, from the part with most of them.
    fn fill(&mut self, least: usize) {
        for part in 0..self.fractions.len() {
            while self.members(part).len() < least {
                let richest = (0..self.fractions.len())
                    .max_by_key(|&p| (self.members(p).len(), Reverse(p)))
                    .expect("there are parts");
                let holders = self.holders(richest);
                let group = self
                    .members(richest)
                    .into_iter()
                    .min_by_key(|&g| (!self.can_leave(g, &holders), self.groups[g].items.len(), g))
                    .expect("the richest part has groups");
                self.move_to(group, part);
            }
        }
    }

    /// Gives each part at least one group of every stratum that has enough groups, where a part can
    /// spare one without losing its own last.
    fn cover(&mut self, least: usize) {
        let parts = self.fractions.len();
        let mut by_rarity: Vec<usize> = (0..self.strata).collect();
        by_rarity.sort_by_key(|&s| self.totals[s]);
        for stratum in by_rarity {
            for part in 0..parts {
                if self.have[part][stratum] > 0 {
                    continue;
                }
                let holders: Vec<Vec<usize>> = (0..parts).map(|p| self.holders(p)).collect();
                let sizes: Vec<usize> = (0..parts).map(|p| self.members(p).len()).collect();
                let donor = (0..self.groups.len())
                    .filter(|&g| {
                        let from = self.part_of[g];
                        self.groups[g].counts[stratum] > 0 && self.can_leave(g, &holders[from]) && sizes[from] > least
                    })
                    .min_by_key(|&g| (Reverse(holders[self.part_of[g]][stratum]), self.groups[g].items.len(), g));
                if let Some(group) = donor {
                    self.move_to(group, part);
                }
            }
        }
    }

    /// Moves single groups while that brings the parts closer to their targets: the sum over strata
    /// of squared deviations, each relative to the size of its stratum.
    fn even_out(&mut self, least: usize, stream: &mut Stream) {
        // A handful of passes reaches a standstill in practice; the limit only guards against rounding.
        const MAX_PASSES: usize = 10;
        const TINY: f64 = 1e-9;
        let parts = self.fractions.len();
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        stream.shuffle(&mut order);
        let mut holders: Vec<Vec<usize>> = (0..parts).map(|p| self.holders(p)).collect();
        let mut sizes: Vec<usize> = (0..parts).map(|p| self.members(p).len()).collect();
        for _ in 0..MAX_PASSES {
            let mut moved = false;
            for &group in &order {
                let from = self.part_of[group];
                if sizes[from] <= least || !self.can_leave(group, &holders[from]) {
                    continue;
                }
                let gain = self.change(group, from, -1.0);
                let mut best = (-TINY, from);
                for to in (0..parts).filter(|&p| p != from) {
                    let change = gain + self.change(group, to, 1.0);
                    if change < best.0 {
                        best = (change, to);
                    }
                }
                let to = best.1;
                if to == from {
                    continue;
                }
                for (s, &count) in self.groups[group].counts.iter().enumerate() {
                    holders[from][s] -= usize::from(count > 0);
                    holders[to][s] += usize::from(count > 0);
                }
                sizes[from] -= 1;
                sizes[to] += 1;
                self.move_to(group, to);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// How the deviation of `part` changes when `group` enters (`sign` 1) or leaves (-1).
    fn change(&self, group: usize, part: usize, sign: f64) -> f64 {
        let group = &self.groups[group];
        let counts = group.counts.iter().copied().chain(std::iter::once(group.items.len()));
        let mut change = 0.0;
        for (s, count) in counts.enumerate() {
            let total = self.totals[s] as f64;
            if count > 0 {
                let off = self.have[part][s] as f64 - self.fractions[part] * total;
                let step = sign * count as f64;
                change += step * (2.0 * off + step) / total;
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarer_class_is_balanced_and_both_where_some_are_unknown() {
        use Label::{Negative, Positive, Unknown};
        let labels = [[Positive, Positive, Positive], [Negative, Positive, Unknown], [Negative, Negative, Negative]];
        let items: Vec<Item<'_>> = labels.iter().map(|l| Item { id: "i", patient: "p", labels: l }).collect();
        let expected = [(0, Positive), (1, Positive), (1, Negative), (2, Positive), (2, Negative)];
        assert_eq!(strata(&items), expected);
        assert!(strata(&[]).is_empty());
    }

    #[test]
    fn one_large_family_does_not_empty_a_fold() {
        let labels = [Label::Positive];
        let ids: Vec<String> = (0..104).map(|i| format!("{i:03}")).collect();
        let items: Vec<Item<'_>> = ids
            .iter()
            .enumerate()
            .map(|(i, id)| Item {
                id: id.as_str(),
                patient: if i < 100 { "family" } else { id.as_str() },
                labels: &labels,
            })
            .collect();
        let groups = Groups::new(&items, Unit::Patient);
        assert_eq!(groups.len(), 5);
        let parts = groups.deal(&[0.2; 5], 1, &mut Stream::keyed(0, "test"));
        let mut used = parts.clone();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, [0, 1, 2, 3, 4]);
        assert!(parts[..100].iter().all(|&p| p == parts[0]), "the family stays together");
    }
}
