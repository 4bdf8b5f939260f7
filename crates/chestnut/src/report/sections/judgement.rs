//! Can the numbers be told apart: intervals, paired differences, groups of patients, learning curve.

use super::super::document::{Block, Cell, Section, Table};
use super::super::figures;
use super::super::plots::{self, learning_series};
use super::super::words::{p_value, several, signed, signed_span, span};
use super::{no_details, panels, plotted};
use crate::evaluate::results::{Difference, LabelDifference, SubgroupRow, Subgroups};
use crate::evaluate::table::{NOT_ESTIMABLE, decimal, mean_and_sd};
use crate::evaluate::{Comparison, FEW_POSITIVES};
use std::collections::{BTreeMap, BTreeSet};

/// AUCs of all rows with their intervals.
pub(super) fn intervals(c: &Comparison) -> Section {
    let words = "Dot: AUC. Line: 95 % interval. Dotted line: guessing. Long lines come from few positive images.";
    let blocks = vec![Block::Text(words.to_owned()), panels("rows", figures::forest_plot(c))];
    Section { id: "forest", title: "AUCs with their intervals".to_owned(), blocks }
}

/// Paired differences, as a forest plot and a table.
pub(super) fn differences(c: &Comparison) -> Section {
    let title = "Differences between approaches".to_owned();
    let Some(first) = c.differences.first() else {
        let why = if c.details.len() == 1 { "Not made: only one approach was compared." } else { no_details(c) };
        return Section { id: "differences", title, blocks: vec![Block::Missing(why.to_owned())] };
    };
    let mut blocks = vec![
        Block::Text(format!(
            "{} ({}) against each other approach on the same test images: its AUC minus the other\u{2019}s, so that a \
             dot to the right of 0 speaks for it. Line: 95 % interval (paired DeLong, patients as clusters; for the mean from \
             resampling patients). p: two-sided, after Holm\u{2019}s correction over the labels.",
            first.first.0, first.first.1
        )),
        plotted(plots::differences(c), "Not estimable."),
    ];
    blocks.extend(c.differences.iter().map(difference_table));
    blocks.push(Block::Notes(vec![
        "An interval that holds 0 does not prove that two approaches are equal; it says that this test part cannot tell \
         them apart."
            .to_owned(),
        "Repeated splits are not used here: their test parts overlap, and no p value follows from them.".to_owned(),
    ]));
    Section { id: "differences", title, blocks }
}

fn difference_table(d: &Difference) -> Block {
    let name = format!("{} ({}) minus {} ({})", d.first.0, d.first.1, d.second.0, d.second.1);
    let row = |l: &LabelDifference| {
        let number = |p: Option<f64>| p.map_or_else(|| Cell::missing(NOT_ESTIMABLE), |p| Cell::new(p_value(p)));
        vec![
            Cell::new(&l.label),
            l.difference.map_or_else(
                || Cell::missing(NOT_ESTIMABLE).with(l.reason.clone().unwrap_or_default()),
                |v| Cell::new(signed(v)),
            ),
            l.interval.map_or_else(
                || Cell::missing(NOT_ESTIMABLE).with(l.reason.clone().unwrap_or_default()),
                |i| Cell::new(signed_span(i)),
            ),
            number(l.p),
            number(l.p_holm),
        ]
    };
    let mut rows: Vec<Vec<Cell>> = d.labels.iter().map(row).collect();
    let none = || Cell::missing(NOT_ESTIMABLE);
    rows.push(vec![
        Cell::new("Mean"),
        d.mean.map_or_else(none, |(v, _)| Cell::new(signed(v))),
        d.mean.map_or_else(none, |(_, i)| Cell::new(signed_span(i))),
        Cell::new("\u{2013}"),
        Cell::new("\u{2013}"),
    ]);
    let mut table = Table::new(&name, "plain", &["Label", "Difference", "95 % interval", "p", "p (Holm)"], Vec::new());
    table.groups = vec![(name, rows)];
    Block::Table(table)
}

/// AUC in groups of patients.
pub(super) fn subgroups(c: &Comparison) -> Section {
    let title = "Groups of patients".to_owned();
    if c.subgroups.is_empty() {
        return Section { id: "subgroups", title, blocks: vec![Block::Missing(no_details(c).to_owned())] };
    }
    let mut blocks = vec![Block::Text(format!(
        "Does a method fail some patients? AUC by sex, age, view and manufacturer, as the cohort names them. A group with \
         fewer than {FEW_POSITIVES} positive or {FEW_POSITIVES} negative test images is too few to say and gets no \
         number. No groups are tested against each other: with so many, some would differ by chance alone."
    ))];
    for groups in &c.subgroups {
        blocks.push(Block::Heading(format!("{} ({})", groups.approach, groups.source)));
        blocks.push(subgroup_table(c, groups));
    }
    Section { id: "subgroups", title, blocks }
}

fn subgroup_table(c: &Comparison, groups: &Subgroups) -> Block {
    let cell = |row: Option<&SubgroupRow>| {
        let Some(row) = row else { return Cell::missing("no image") };
        let counts = format!("{} / {}", row.positives, row.images);
        match (row.auc, row.interval) {
            (Some(auc), Some(i)) => Cell::new(decimal(auc)).with(format!("{}; {counts}", span(i))),
            (Some(auc), None) => Cell::new(decimal(auc)).with(counts),
            (None, _) => {
                let few = row.reason.as_deref().is_none_or(|r| r.starts_with("too few"));
                Cell::missing(if few { "too few to say" } else { NOT_ESTIMABLE }).with(counts)
            }
        }
    };
    // By name: a study may know a thousand makers of devices.
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut known: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut rows: BTreeMap<(&str, &str, &str), &SubgroupRow> = BTreeMap::new();
    for row in &groups.rows {
        let group = (row.variable.as_str(), row.group.as_str());
        if known.insert(group) {
            found.push(group);
        }
        rows.entry((group.0, group.1, row.label.as_str())).or_insert(row);
    }
    let mut table_groups: Vec<(String, Vec<Vec<Cell>>)> = Vec::new();
    for (variable, group) in found {
        let of_label = |label: &String| rows.get(&(variable, group, label.as_str())).copied();
        let cells = c.labels.iter().map(|label| cell(of_label(label)));
        let row: Vec<Cell> = [Cell::new(group)].into_iter().chain(cells).collect();
        match table_groups.last_mut() {
            Some((name, rows)) if name.as_str() == variable => rows.push(row),
            _ => table_groups.push((variable.to_owned(), vec![row])),
        }
    }
    let name = format!(
        "AUC of {} ({}) in groups of patients; below it interval; positive / known",
        groups.approach, groups.source
    );
    let labels = c.labels.iter().map(Cell::new);
    let head = [Cell::new("Group")].into_iter().chain(labels).collect();
    Block::Table(Table { name, style: "results", head, groups: table_groups })
}

/// AUC against the number of patients to learn from.
pub(super) fn learning(c: &Comparison) -> Section {
    let title = "Learning curve".to_owned();
    if c.learning.is_empty() {
        let why = if c.details.is_empty() {
            no_details(c)
        } else {
            "Not made: it was not asked for, or no draw had enough patients. Run compare with --learning-curve 5."
        };
        return Section { id: "learning", title, blocks: vec![Block::Missing(why.to_owned())] };
    }
    let head = ["Patients learned from", "Images", "Draws", "Mean AUC", "Smallest to largest"];
    let mut table = Table::new("Mean AUC against the number of patients to learn from", "plain", &head, Vec::new());
    table.groups = learning_series(c)
        .into_iter()
        .map(|(approach, points)| {
            let rows = points.iter().map(|p| {
                let (mean, range) = match p.mean_auc {
                    // One draw alone has no spread.
                    Some(r) if r.sd.is_none() => (Cell::new(decimal(r.mean)), Cell::new("\u{2013}")),
                    Some(r) => (Cell::new(mean_and_sd(&r, " \u{b1} ")), Cell::new(span([r.min, r.max]))),
                    None => (Cell::missing(NOT_ESTIMABLE), Cell::missing(NOT_ESTIMABLE)),
                };
                vec![
                    Cell::new(p.patients.to_string()),
                    Cell::new(p.images.to_string()),
                    Cell::new(p.draws.to_string()),
                    mean,
                    range,
                ]
            });
            (approach.to_owned(), rows.collect())
        })
        .collect();
    let most = c.learning.iter().map(|p| p.patients).max().unwrap_or(0);
    let blocks = vec![
        Block::Text(format!(
            "How much do more local patients help? Each approach learned from part of the patients, up to {}, and was \
             tested on the same test patients. Upright lines: smallest to largest over the draws. A curve that still \
             rises at its end says that more patients would help.",
            several(most, "patient")
        )),
        plotted(plots::learning(c), "Not estimable."),
        Block::Table(table),
    ];
    Section { id: "learning", title, blocks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn what_was_not_made_says_why() {
        let c = example::comparison();
        for section in [differences(&c), subgroups(&c), learning(&c)] {
            assert!(matches!(&section.blocks[..], [Block::Missing(why)] if why.starts_with("Not made")), "{section:?}");
        }
    }

    #[test]
    fn too_few_to_say_is_said() {
        let section = subgroups(&example::full());
        let text = format!("{section:?}");
        assert!(text.contains("too few to say") && text.contains("sex") && text.contains("positive / known"));
    }

    /// Looking each cell up among all rows, this took minutes.
    #[test]
    fn thousands_of_groups_are_one_table() {
        let mut c = example::full();
        let first = c.subgroups[0].rows[0].clone();
        let labels = c.labels.clone();
        let row = |i: usize| {
            let label = labels[i % labels.len()].clone();
            SubgroupRow {
                variable: "manufacturer".to_owned(),
                group: (i / labels.len()).to_string(),
                label,
                ..first.clone()
            }
        };
        c.subgroups[0].rows = (0..40_000).map(row).collect();
        let Block::Table(table) = subgroup_table(&c, &c.subgroups[0]) else { panic!("a table") };
        assert_eq!((table.groups.len(), table.groups[0].1.len()), (1, 10_000));
        assert!(table.groups[0].1.iter().all(|row| row.len() == 1 + labels.len()));
    }

    #[test]
    fn differences_show_both_p_values() {
        let section = differences(&example::full());
        let Some(Block::Table(table)) = section.blocks.get(2) else { panic!("a table: {section:?}") };
        assert_eq!(table.groups[0].1.len(), 5);
        assert!(table.groups[0].1[0].iter().all(|cell| !cell.text.is_empty()));
        assert_eq!(table.groups[0].1[3][1].text, NOT_ESTIMABLE);
    }
}
