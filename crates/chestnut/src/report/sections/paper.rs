//! Tables 5, 6 and 7 of Gozzi et al. 2022 in the paper's layout, ROC curves, and the spread over splits.
//!
//! Table 5 holds the networks as they come, Table 6 stacking and embeddings, Table 7 fine-tuning. The paper's columns
//! keep its order where a study has its labels. Unlike the paper's, all rows share one test part; rows of a table that
//! do not each say what they were tested on. The paper's own test sets are on a page of their own (`published`).

use super::super::document::{Block, Cell, Figures, Section, Table, Tone};
use super::super::finding::marks;
use super::super::words::span;
use super::super::{figures, plots};
use super::{panels, plotted};
use crate::evaluate::table::{self, NOT_ESTIMABLE, approaches, counts, decimal, is_few, spread_of, spread_range};
use crate::evaluate::{Comparison, MethodScore};

/// Columns of Tables 5 to 7.
const PAPER_LABELS: [&str; 7] = ["Normal", "Cardiac", "Lung", "PNX", "Pleura", "Bone", "Device"];

/// One of the paper's tables of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaperTable {
    /// Table 5.
    Baseline,
    /// Table 6.
    Embeddings,
    /// Table 7.
    FineTuning,
}

impl PaperTable {
    pub(super) const ALL: [Self; 3] = [Self::Baseline, Self::Embeddings, Self::FineTuning];

    /// The table that rows of this approach belong to.
    fn of(approach: &str) -> Self {
        if approach.starts_with("Baseline") {
            Self::Baseline
        } else if approach.starts_with("Fine") {
            Self::FineTuning
        } else {
            Self::Embeddings
        }
    }

    /// Its heading.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Baseline => "Table 5. Baseline: the networks\u{2019} own outputs, mapped to the local labels",
            Self::Embeddings => "Table 6. Stacking, and learners on the embeddings",
            Self::FineTuning => "Table 7. Fine-tuning",
        }
    }

    /// Why it has no rows.
    pub(super) const fn missing(self) -> &'static str {
        match self {
            Self::Baseline => {
                "Not made: the baseline was not asked for, or the networks have no outputs that map to these labels; \
                 the warnings say which."
            }
            Self::Embeddings => "Not made: neither stacking nor embeddings were among the approaches of this run.",
            Self::FineTuning => "Not made: fine-tuning was not among the approaches of this run.",
        }
    }

    /// Its rows of a comparison, or why there are none; for Table 6 also the networks behind its rows. Each with its
    /// heading, the table's own first.
    pub(super) fn blocks(self, c: &Comparison) -> Vec<(&'static str, Block)> {
        let own: Vec<&MethodScore> = c.methods.iter().filter(|m| Self::of(&m.approach) == self).collect();
        let (shown, behind) = if self == Self::Embeddings { combined_and_behind(c, &own) } else { (own, Vec::new()) };
        let table = |title: &str, rows: &[&MethodScore]| results_table(c, title, rows, true, auc_cell);
        let first =
            if shown.is_empty() { Block::Missing(self.missing().to_owned()) } else { table(self.title(), &shown) };
        let mut blocks = vec![(self.title(), first)];
        if !behind.is_empty() {
            blocks.push((BEHIND, table(BEHIND, &behind)));
        }
        blocks
    }
}

/// Heading of what the paper does not print.
const BEHIND: &str = "Behind Table 6: each network by itself";
/// What bold numbers mean.
pub(super) const BOLD: &str = "Bold is the highest number of a column within its table. Where intervals overlap, no \
                               difference is proven.";

/// The rows that combine networks, and the single networks that they combine. With one network there is nothing to
/// combine, and its rows are the table.
fn combined_and_behind<'c>(c: &Comparison, rows: &[&'c MethodScore]) -> (Vec<&'c MethodScore>, Vec<&'c MethodScore>) {
    let combined: Vec<&str> = rows.iter().filter(|m| !is_single(c, m)).map(|m| m.approach.as_str()).collect();
    rows.iter().copied().partition(|m| !is_single(c, m) || !combined.contains(&m.approach.as_str()))
}

/// Columns of a table: the paper's labels in its order, then the others, then the mean.
fn columns(c: &Comparison) -> Vec<Option<usize>> {
    let place = |name: &str| PAPER_LABELS.iter().position(|p| *p == name).unwrap_or(PAPER_LABELS.len());
    let mut order: Vec<usize> = (0..c.labels.len()).collect();
    order.sort_by_key(|&k| place(&c.labels[k]));
    order.into_iter().map(Some).chain([None]).collect()
}

/// What fills a label's column or (`None`) the mean's.
type Fill = fn(&Comparison, &MethodScore, Option<usize>, &[&MethodScore]) -> Cell;

/// A table with a group per approach.
fn results_table(c: &Comparison, name: &str, rows: &[&MethodScore], with_counts: bool, fill: Fill) -> Block {
    let columns = columns(c);
    let head = |column: &Option<usize>| match column {
        Some(k) => {
            let star = if is_few(c, *k) { "*" } else { "" };
            let counts = counts(c, *k).filter(|_| with_counts);
            Cell::new(format!("{}{star}", c.labels[*k]))
                .with(counts.map_or_else(String::new, |(p, n)| format!("{p} / {n}")))
        }
        None => Cell::new("Mean"),
    };
    let apart = rows.iter().any(|m| m.tested_on != rows[0].tested_on);
    let row = |m: &MethodScore| {
        let source = match m.source.as_str() {
            "Average" => "Averaging",
            source => source,
        };
        let first = Cell::new(source).with(m.tested_on.clone().filter(|_| apart).unwrap_or_default());
        let cells = columns.iter().map(|column| fill(c, m, *column, rows));
        [first].into_iter().chain(cells).collect::<Vec<Cell>>()
    };
    let group = |approach: &str| {
        let rows = rows.iter().filter(|m| m.approach == approach).map(|m| row(m)).collect::<Vec<_>>();
        (approach.to_owned(), rows)
    };
    let named = approaches(c).into_iter().filter(|a| rows.iter().any(|m| m.approach == *a));
    Block::Table(Table {
        name: name.to_owned(),
        style: "results",
        head: [Cell::new("Method")].into_iter().chain(columns.iter().map(head)).collect(),
        groups: named.map(group).collect(),
    })
}

/// AUC with its interval below; the highest number of a column, as printed, is bold.
fn auc_cell(c: &Comparison, m: &MethodScore, column: Option<usize>, rows: &[&MethodScore]) -> Cell {
    let value = |m: &MethodScore| match column {
        Some(k) => m.labels.get(k).and_then(|l| l.auc),
        None => m.mean_auc,
    };
    let Some(auc) = value(m) else { return Cell::missing(NOT_ESTIMABLE) };
    let interval = match column {
        Some(k) => m.labels.get(k).and_then(|l| l.interval),
        None => super::super::finding::detail_of(c, m).and_then(|d| d.mean_bootstrap),
    };
    let below = match (interval, m.mean_auc_without_few.filter(|_| column.is_none())) {
        (Some(i), None) => span(i),
        (Some(i), Some(few)) => format!("{}; *{}", span(i), decimal(few)),
        (None, Some(few)) => format!("*{}", decimal(few)),
        (None, None) => String::new(),
    };
    let best = rows.iter().filter_map(|m| value(m)).fold(f64::NEG_INFINITY, f64::max);
    // Bold only where an interval stands below it, so that nobody reads more into it than is there.
    let bold = interval.is_some() && rows.len() > 1 && decimal(best) == decimal(auc);
    let tone = if bold { Tone::Bold } else { Tone::Normal };
    Cell { tone, ..Cell::new(decimal(auc)).with(below) }
}

fn spread_cell(_: &Comparison, m: &MethodScore, column: Option<usize>, _: &[&MethodScore]) -> Cell {
    match spread_of(m, column) {
        Some(r) => Cell::new(table::mean_and_sd(&r, " \u{b1} ")).with(spread_range(m, &r, "\u{2013}")),
        None => Cell::missing(NOT_ESTIMABLE),
    }
}

/// Whether a row is one network rather than a combination of them.
fn is_single(c: &Comparison, m: &MethodScore) -> bool {
    c.networks.iter().any(|n| n.name == m.source)
}

/// Tables 5, 6 and 7, and the networks behind Table 6.
pub(super) fn results(c: &Comparison) -> Section {
    let mut blocks: Vec<Block> = marks(c).into_iter().map(Block::Mark).collect();
    blocks.push(Block::Text(format!(
        "Area under the ROC curve (AUC) on the test part, with its 95 % interval below it: DeLong\u{2019}s on the logit \
         scale for a label, patients as clusters, from resampling patients for the mean. Below each label: positive / known test images. \
         Split by {}.",
        c.unit
    )));
    for (title, block) in PaperTable::ALL.iter().flat_map(|table| table.blocks(c)) {
        blocks.extend([Block::Heading(title.to_owned()), block]);
    }
    let mut notes = vec![BOLD.to_owned()];
    notes.extend(table::notes(c));
    blocks.push(Block::Notes(notes));
    Section { id: "results", title: "Results: Tables 5, 6 and 7".to_owned(), blocks }
}

/// ROC curves: the best row of each approach, then all rows of each.
pub(super) fn roc(c: &Comparison) -> Section {
    let mut blocks = vec![
        Block::Text(
            "How many images with the finding are caught (upwards) at the price of how many false alarms (to the \
             right). The dotted diagonal is guessing."
                .to_owned(),
        ),
        Block::Heading("Best row of each approach".to_owned()),
        plotted(plots::roc_best(c), "Not estimable: no approach has an AUC; the tables say why."),
    ];
    for group in figures::roc_small_multiples(c) {
        blocks.push(Block::Heading(group.approach));
        blocks.push(Block::Figures(Figures { shape: "roc", legend: group.legend, panels: group.panels }));
    }
    Section { id: "roc", title: "ROC curves".to_owned(), blocks }
}

/// AUCs over repeated splits.
pub(super) fn spread(c: &Comparison) -> Section {
    let Some(n) = table::repeats(c) else {
        let why =
            "Not made: this run has one random split. Run compare with --repeats 20 to see how much splits differ.";
        let blocks = vec![Block::Missing(why.to_owned())];
        return Section { id: "spread", title: "Over several splits".to_owned(), blocks };
    };
    let rows: Vec<&MethodScore> = c.methods.iter().collect();
    let name = "Mean and standard deviation of the AUC over splits";
    let mut blocks: Vec<Block> = marks(c).into_iter().map(Block::Mark).collect();
    let mut notes = vec![
        "Mean \u{b1} standard deviation; below it smallest\u{2013}largest, and how many of the splits could estimate it if \
         not all."
            .to_owned(),
    ];
    notes.extend(table::spread_notes(c));
    blocks.extend([
        Block::Text(format!(
            "The same comparison on {n} random splits. Dot and thick line: mean and one standard deviation. Thin line: \
             smallest to largest. Upright tick: the split of the tables above, but for a mean of other labels."
        )),
        panels("rows", figures::spread_plot(c)),
        results_table(c, name, &rows, false, spread_cell),
        Block::Notes(notes),
    ]);
    Section { id: "spread", title: format!("Over {n} splits"), blocks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn headings(section: &Section) -> Vec<&str> {
        section
            .blocks
            .iter()
            .filter_map(|b| if let Block::Heading(text) = b { Some(text.as_str()) } else { None })
            .collect()
    }

    #[test]
    fn rows_go_to_the_papers_tables() {
        let mut c = example::comparison();
        c.methods[0].approach = "Baseline".to_owned();
        c.methods[1].approach = "Fine-tuned head".to_owned();
        let section = results(&c);
        let tables: Vec<&Table> =
            section.blocks.iter().filter_map(|b| if let Block::Table(t) = b { Some(t) } else { None }).collect();
        let groups: Vec<&str> = tables.iter().flat_map(|t| t.groups.iter().map(|(name, _)| name.as_str())).collect();
        assert_eq!(groups, ["Baseline", "Embeddings + XRT", "Embeddings + XRT", "Fine-tuned head"]);
        // Table 6 shows the average, the network stands behind it.
        assert_eq!(tables[1].groups[0].1[0][0].text, "Averaging");
        assert_eq!(tables[2].groups[0].1[0][0].text, "densenet121");
        assert_eq!(headings(&section).len(), 4);
    }

    #[test]
    fn a_table_that_was_not_made_says_why() {
        let section = results(&example::comparison());
        let missing = section.blocks.iter().filter(|b| matches!(b, Block::Missing(why) if why.starts_with("Not made")));
        assert_eq!(missing.count(), 2);
        assert_eq!(headings(&section).len(), 4);
    }

    #[test]
    fn the_papers_labels_keep_their_order() {
        let mut c = example::comparison();
        c.labels = ["Bone", "Normal", "Other", "Cardiac"].map(str::to_owned).to_vec();
        assert_eq!(columns(&c), [Some(1), Some(3), Some(0), Some(2), None]);
    }

    #[test]
    fn the_highest_is_bold_and_a_label_without_interval_never() {
        let c = example::comparison();
        let rows: Vec<&MethodScore> = c.methods.iter().collect();
        let cells: Vec<Cell> = rows.iter().map(|m| auc_cell(&c, m, Some(0), &rows)).collect();
        let best = rows.iter().filter_map(|m| m.labels[0].auc).fold(0.0, f64::max);
        assert!(cells.iter().all(|cell| (cell.tone == Tone::Bold) == (cell.text == decimal(best))));
        assert_eq!(auc_cell(&c, rows[0], Some(3), &rows).tone, Tone::Missing);
    }

    #[test]
    fn means_over_splits_say_which_labels_they_leave_out() {
        let mut c = example::comparison();
        let said = |c: &Comparison| format!("{:?}", spread(c));
        assert!(!said(&c).contains("is without"));
        for m in &mut c.methods {
            m.spread.as_mut().expect("three splits").left_out.push("PNX".to_owned());
        }
        assert!(said(&c).contains("The mean over splits is without PNX,"));
        assert!(super::super::super::finding::caveats(&c).iter().any(|l| l.contains("mean AUC, without PNX, was")));
    }

    #[test]
    fn marks_stand_on_every_table() {
        let mut c = example::comparison();
        c.marks = vec!["made for a test".to_owned()];
        for section in [results(&c), spread(&c)] {
            assert!(matches!(&section.blocks[0], Block::Mark(mark) if mark == "made for a test"));
        }
    }
}
