//! Whether a comparison that was read back from `metrics.json` can be shown.
//!
//! The report draws a panel per label and a line per row, so lists that do not fit each other, or are longer than any
//! run makes them, would take the page beyond memory and time. `compare` itself never makes such a comparison. The numbers
//! are not judged here: whoever edits them, edits results.

use super::results::{LabelDetail, LabelDifference, Rate};
use super::table::approaches;
use super::{Comparison, LabelScore, MethodScore, Repeated};
use crate::cohort::label_set::MAX_LABELS;
use std::collections::BTreeSet;

/// Most rows of the results table.
const MAX_METHODS: usize = 1024;
/// Most different approaches among them.
const MAX_COMPARED: usize = 32;
/// Most networks.
const MAX_NETWORKS: usize = 256;
/// Most points of learning curves.
const MAX_LEARNING: usize = 4096;
/// Most marks and named parts.
const MAX_MARKS: usize = 64;
/// Most images, patients or items of one count.
const MAX_COUNT: usize = 1 << 40;
/// Most reasons for refusal.
const MAX_REASONS: usize = 1 << 20;
/// Largest number: longer ones would fill the page with digits.
const MAX_VALUE: f64 = 1e15;

/// Says what is wrong.
fn must(good: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(problem()) }
}

fn at_most(what: &str, found: usize, limit: usize) -> Result<(), String> {
    must(found <= limit, || format!("holds {found} {what}; at most {limit} are shown"))
}

/// Numbers that can be printed.
fn numbers(what: &str, values: impl IntoIterator<Item = f64>) -> Result<(), String> {
    let bad = values.into_iter().find(|v| v.is_nan() || v.abs() > MAX_VALUE);
    bad.map_or(Ok(()), |v| Err(format!("holds the number {v:e} in {what}, which no run gives")))
}

fn counts(what: &str, values: impl IntoIterator<Item = usize>) -> Result<(), String> {
    let bad = values.into_iter().find(|&n| n > MAX_COUNT);
    bad.map_or(Ok(()), |n| Err(format!("counts {n} in {what}, which no run does")))
}

impl Comparison {
    /// Checks limits, and that all lists fit each other.
    ///
    /// # Errors
    /// What does not fit, as the end of a sentence that begins with the file.
    pub fn check(&self) -> Result<(), String> {
        at_most("labels", self.labels.len(), MAX_LABELS)?;
        at_most("rows of results", self.methods.len(), MAX_METHODS)?;
        at_most("networks", self.networks.len(), MAX_NETWORKS)?;
        at_most("marks", self.marks.len(), MAX_MARKS)?;
        at_most("parts", self.parts.len(), MAX_MARKS)?;
        at_most("reasons for refusal", self.rejects.len(), MAX_REASONS)?;
        at_most("approaches", approaches(self).len(), MAX_COMPARED)?;
        at_most("approaches with details", self.details.len(), MAX_COMPARED)?;
        at_most("differences", self.differences.len(), MAX_COMPARED)?;
        at_most("approaches with subgroups", self.subgroups.len(), MAX_COMPARED)?;
        at_most("points of learning curves", self.learning.len(), MAX_LEARNING)?;
        counts("images and patients", [self.images, self.patients])?;
        counts("refusals", self.rejects.iter().map(|r| r.1).chain([self.refused_rows]))?;
        counts("the parts", self.parts.iter().flat_map(|p| [p.images, p.patients]))?;
        numbers("the times", self.timings.iter().map(|t| t.seconds).chain(self.seconds.iter().map(|s| s.1)))?;
        self.methods.iter().try_for_each(|m| self.check_method(m))?;
        self.check_details()?;
        self.check_subgroups()?;
        self.check_learning()
    }

    /// One entry per label.
    fn per_label(&self, what: &str, found: usize) -> Result<(), String> {
        let labels = self.labels.len();
        must(found == labels, || format!("has {labels} labels and {found} in {what}"))
    }

    fn check_method(&self, m: &MethodScore) -> Result<(), String> {
        let what = format!("the row {:?}", m.source);
        self.per_label(&what, m.labels.len())?;
        let of_label = |l: &LabelScore| -> Result<(), String> {
            counts(&what, [l.positives, l.negatives, l.unknown])?;
            numbers(&what, l.auc.into_iter().chain(l.interval.into_iter().flatten()))?;
            numbers(&what, l.roc.iter().flatten().copied())
        };
        m.labels.iter().try_for_each(of_label)?;
        numbers(&what, m.mean_auc.into_iter().chain(m.mean_auc_without_few))?;
        let Some(spread) = &m.spread else { return Ok(()) };
        self.per_label(&what, spread.labels.len())?;
        counts(&what, [spread.repeats])?;
        at_most("labels left out", spread.left_out.len(), self.labels.len())?;
        spread.labels.iter().chain([&spread.mean]).flatten().try_for_each(|r| check_repeated(&what, r))
    }

    fn check_details(&self) -> Result<(), String> {
        for d in &self.details {
            let what = format!("the details of {:?}", d.approach);
            self.per_label(&what, d.labels.len())?;
            numbers(&what, d.mean_bootstrap.into_iter().flatten())?;
            d.labels.iter().try_for_each(|l| check_detail(&what, l))?;
        }
        for d in &self.differences {
            let what = format!("the difference of {:?}", d.first.0);
            self.per_label(&what, d.labels.len())?;
            numbers(&what, d.mean.iter().flat_map(|(mean, interval)| [*mean, interval[0], interval[1]]))?;
            let of = |l: &LabelDifference| {
                let parts = [l.difference, l.p, l.p_holm].into_iter().flatten();
                numbers(&what, parts.chain(l.interval.into_iter().flatten()))
            };
            d.labels.iter().try_for_each(of)?;
        }
        Ok(())
    }

    /// The page has a cell for each group and label.
    fn check_subgroups(&self) -> Result<(), String> {
        for s in &self.subgroups {
            let what = format!("the subgroups of {:?}", s.approach);
            let groups: BTreeSet<(&str, &str)> =
                s.rows.iter().map(|r| (r.variable.as_str(), r.group.as_str())).collect();
            let cells = groups.len().saturating_mul(self.labels.len());
            must(cells <= s.rows.len(), || format!("has {} rows in {what}, and {cells} are needed", s.rows.len()))?;
            for r in &s.rows {
                counts(&what, [r.images, r.positives])?;
                numbers(&what, r.auc.into_iter().chain(r.interval.into_iter().flatten()))?;
            }
        }
        Ok(())
    }

    fn check_learning(&self) -> Result<(), String> {
        let known = approaches(self);
        for p in &self.learning {
            let what = format!("the learning curve of {:?}", p.approach);
            must(known.contains(&p.approach.as_str()), || format!("has no results beside {what}"))?;
            self.per_label(&what, p.labels.len())?;
            counts(&what, [p.patients, p.images, p.draws])?;
            numbers(&what, p.labels.iter().flatten().copied())?;
            p.mean_auc.iter().try_for_each(|r| check_repeated(&what, r))?;
        }
        Ok(())
    }
}

fn check_repeated(what: &str, r: &Repeated) -> Result<(), String> {
    counts(what, [r.n])?;
    numbers(what, [r.mean, r.min, r.max].into_iter().chain(r.sd))
}

fn check_detail(what: &str, l: &LabelDetail) -> Result<(), String> {
    numbers(what, l.prevalence.into_iter().chain(l.auprc).chain(l.bootstrap.into_iter().flatten()))?;
    for p in &l.points {
        numbers(what, [p.threshold])?;
        let rate = |r: &Rate| -> Result<(), String> {
            counts(what, [r.successes, r.trials])?;
            numbers(what, r.value.into_iter().chain(r.interval.into_iter().flatten()))
        };
        [&p.sensitivity, &p.specificity, &p.ppv, &p.npv].into_iter().try_for_each(rate)?;
    }
    for c in &l.calibration {
        numbers(what, [c.brier, c.ece].into_iter().chain(c.slope).chain(c.intercept))?;
        numbers(what, c.bins.iter().flat_map(|&(mean, share, _)| [mean, share]))?;
        counts(what, c.bins.iter().map(|b| b.2).chain([c.moved]))?;
    }
    numbers(what, l.decision.iter().flatten().copied())
}

#[cfg(test)]
mod tests {
    use super::super::results::SubgroupRow;
    use super::*;
    use crate::report::example;

    #[test]
    fn what_compare_makes_is_shown() {
        for c in [example::comparison(), example::full()] {
            assert_eq!(c.check(), Ok(()));
        }
        let mut empty = example::comparison();
        (empty.methods, empty.rejects, empty.parts) = (Vec::new(), Vec::new(), Vec::new());
        assert_eq!(empty.check(), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Change = fn(&mut Comparison);
        let all: [(Change, &str); 14] = [
            (|c| c.labels.truncate(2), "has 2 labels and 4"),
            (|c| c.labels = vec![String::new(); 257], "257 labels"),
            (|c| c.methods = vec![c.methods[0].clone(); 1025], "1025 rows"),
            (|c| c.methods[1].labels.clear(), "0 in the row \"Average\""),
            (|c| c.methods[0].labels[0].positives = usize::MAX, "counts 18446744073709551615"),
            (|c| c.methods[0].labels[0].auc = Some(1e300), "1e300"),
            (|c| c.methods[0].labels[0].roc[0] = [f64::NAN, 0.0], "NaN"),
            (|c| c.details[0].labels.truncate(1), "the details of"),
            (|c| c.details[0].labels[0].points[0].threshold = -1e300, "-1e300"),
            (|c| c.differences[0].labels.clear(), "the difference of"),
            (|c| c.differences = vec![c.differences[0].clone(); 33], "33 differences"),
            (|c| c.learning[0].approach = "unknown".to_owned(), "no results beside"),
            (|c| c.rejects[0].1 = usize::MAX, "refusals"),
            (|c| c.seconds[0].1 = f64::INFINITY, "the times"),
        ];
        for (i, (change, says)) in all.into_iter().enumerate() {
            let mut c = example::full();
            change(&mut c);
            let problem = c.check().expect_err("must be refused");
            assert!(problem.contains(says), "{i}: {problem}");
        }
    }

    /// Each group is a row of as many cells as there are labels.
    #[test]
    fn groups_of_subgroups_bring_their_rows() {
        let mut c = example::full();
        let row = |i: usize| SubgroupRow { group: i.to_string(), ..c.subgroups[0].rows[0].clone() };
        c.subgroups[0].rows = (0..10).map(row).collect();
        assert!(c.check().expect_err("too few rows").contains("40 are needed"));
    }
}
