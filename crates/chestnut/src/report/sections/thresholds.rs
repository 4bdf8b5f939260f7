//! What a score is worth in use: thresholds, calibration, net benefit.
//!
//! Thresholds and calibrations were chosen on out-of-fold predictions of the patients that were learned from; the
//! tables say what they do on the test part.

use super::super::document::{Block, Cell, Section, Table};
use super::super::plots::{self, calibration_name, first_detail};
use super::super::words::span;
use super::{no_details, plotted};
use crate::evaluate::Comparison;
use crate::evaluate::detail::MAX_MOVED_SHARE;
use crate::evaluate::results::{CalibrationScore, LabelDetail, MethodDetail, OperatingPoint, Rate};
use crate::evaluate::table::{NOT_ESTIMABLE, decimal};
use chestnut_stats::calibration::PROBABILITY_FLOOR;

/// A section of which there is nothing.
fn absent(c: &Comparison, id: &'static str, title: String) -> Section {
    Section { id, title, blocks: vec![Block::Missing(no_details(c).to_owned())] }
}

/// Rows of one label: what `of` makes of it, or one row that says why there is nothing.
fn rows_of(
    detail: &MethodDetail,
    columns: usize,
    of: &dyn Fn(&LabelDetail) -> Vec<Vec<Cell>>,
) -> Vec<(String, Vec<Vec<Cell>>)> {
    let group = |label: &LabelDetail| {
        let mut rows = of(label);
        if rows.is_empty() {
            let why = label.reason.clone().unwrap_or_else(|| "not estimable".to_owned());
            let mut row = vec![Cell::missing(NOT_ESTIMABLE).with(why)];
            row.resize_with(columns, || Cell::missing("\u{2013}"));
            rows.push(row);
        }
        (label.label.clone(), rows)
    };
    detail.labels.iter().map(group).collect()
}

/// Sensitivity and its kin, one table per approach.
pub(super) fn operating_points(c: &Comparison) -> Section {
    let (id, title) = ("points", "Operating points".to_owned());
    if c.details.is_empty() {
        return absent(c, id, title);
    }
    let mut blocks = vec![Block::Text(
        "What happens on the test part if every image at or above a threshold is called positive. Thresholds were chosen \
         on out-of-fold predictions of the other patients, never on the test part: once for the greatest sum of \
         sensitivity and specificity (Youden), once to find the stated share of the positives. Below each share: 95 % \
         Wilson interval and the counts. Predictive values (PPV, NPV) hold for this share of positives only."
            .to_owned(),
    )];
    let head = ["Rule", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV"];
    for detail in &c.details {
        let name = format!("Operating points of {} ({})", detail.approach, detail.source);
        let mut table = Table::new(&name, "results", &head, Vec::new());
        table.groups = rows_of(detail, head.len(), &|label| label.points.iter().map(point_row).collect());
        blocks.push(Block::Heading(format!("{} ({})", detail.approach, detail.source)));
        blocks.push(Block::Table(table));
    }
    Section { id, title, blocks }
}

fn point_row(point: &OperatingPoint) -> Vec<Cell> {
    let share = |rate: &Rate| {
        let counts = format!("{}/{}", rate.successes, rate.trials);
        match (rate.value, rate.interval) {
            (Some(v), Some(i)) => Cell::new(decimal(v)).with(format!("{}; {counts}", span(i))),
            _ => Cell::missing(NOT_ESTIMABLE).with(counts),
        }
    };
    let mut row = vec![Cell::new(&point.rule), Cell::new(format!("{:.3}", point.threshold))];
    row.extend([&point.sensitivity, &point.specificity, &point.ppv, &point.npv].map(share));
    row
}

/// Reliability curves of the first row, and a table per approach.
pub(super) fn calibration(c: &Comparison) -> Section {
    let (id, title) = ("calibration", "Calibration".to_owned());
    let Some(first) = first_detail(c) else { return absent(c, id, title) };
    let mut blocks = vec![
        Block::Text(format!(
            "Do probabilities come true? Curves of {} ({}) on the test part, in ten bins of equal numbers of images; a \
             perfect one lies on the dotted diagonal. Below it the scores are too high, above it too low.",
            first.approach, first.source
        )),
        plotted(plots::reliability(c), "Not estimable."),
    ];
    let head = ["Calibration", "Brier score", "Slope", "Intercept", "At 0 or 1", "Calibration error"];
    for detail in &c.details {
        let name = format!("Calibration of {} ({})", detail.approach, detail.source);
        let mut table = Table::new(&name, "results", &head, Vec::new());
        table.groups = rows_of(detail, head.len(), &|label| label.calibration.iter().map(calibration_row).collect());
        blocks.push(Block::Heading(format!("{} ({})", detail.approach, detail.source)));
        blocks.push(Block::Table(table));
    }
    blocks.push(Block::Notes(vec![
        "Brier score: mean squared distance from the truth, 0 is best. Slope: 1 is right, below 1 is overconfident. \
         Intercept (calibration in the large): 0 is right, above 0 means that probabilities are too low. Calibration \
         error: mean distance of the bins from the diagonal."
            .to_owned(),
        format!(
            "At 0 or 1: test images whose probability is 0 or 1 to within {PROBABILITY_FLOOR} and was moved there for \
             slope and intercept, which rest on it. Above {} % of the images neither is given.",
            100.0 * MAX_MOVED_SHARE
        ),
        "Platt and isotonic calibrations were fitted to out-of-fold predictions; where one is absent, there were too few \
         images to fit it or it fell as the score rose."
            .to_owned(),
    ]));
    Section { id, title, blocks }
}

fn calibration_row(score: &CalibrationScore) -> Vec<Cell> {
    let line = |value: Option<f64>| {
        let why = || Cell::missing(NOT_ESTIMABLE).with(score.reason.clone().unwrap_or_default());
        value.map_or_else(why, |v| Cell::new(format!("{v:.2}")))
    };
    vec![
        Cell::new(calibration_name(&score.method)),
        Cell::new(format!("{:.3}", score.brier)),
        line(score.slope),
        line(score.intercept),
        Cell::new(format!("{} of {}", score.moved, score.bins.iter().map(|b| b.2).sum::<usize>())),
        Cell::new(format!("{:.3}", score.ece)),
    ]
}

/// Net benefit.
pub(super) fn decision(c: &Comparison) -> Section {
    let (id, title) = ("decision", "Net benefit".to_owned());
    if c.details.is_empty() {
        return absent(c, id, title);
    }
    let mut blocks = vec![
        Block::Text(
            "Is it worth acting on? Net benefit counts true alarms and takes off false ones at the price that the \
             threshold probability implies (Vickers and Elkin 2006). A model is of use where its line is above both \
             treating everybody and treating nobody (the level line at 0). Probabilities are Platt-calibrated where a \
             curve could be fitted."
                .to_owned(),
        ),
        plotted(plots::decision(c), "Not estimable: no label has both classes in the test part."),
    ];
    let mut notes: Vec<String> = Vec::new();
    for detail in &c.details {
        for label in detail.labels.iter().filter(|l| !l.decision.is_empty()) {
            let uncalibrated = label.reason.as_deref().is_some_and(|r| r.contains("uncalibrated"));
            if uncalibrated {
                notes.push(format!("{}, {}: of uncalibrated probabilities.", detail.approach, label.label));
            }
        }
    }
    if !notes.is_empty() {
        blocks.push(Block::Notes(notes));
    }
    Section { id, title, blocks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn what_was_not_made_says_why() {
        let c = example::comparison();
        for section in [operating_points(&c), calibration(&c), decision(&c)] {
            assert!(matches!(&section.blocks[..], [Block::Missing(why)] if why.contains("--quick")), "{section:?}");
        }
    }

    #[test]
    fn every_label_has_a_row_or_a_reason() {
        let c = example::full();
        for section in [operating_points(&c), calibration(&c)] {
            let tables: Vec<&Table> =
                section.blocks.iter().filter_map(|b| if let Block::Table(t) = b { Some(t) } else { None }).collect();
            assert_eq!(tables.len(), c.details.len());
            for table in tables {
                assert_eq!(table.groups.len(), c.labels.len());
                let mut widths = table.groups.iter().flat_map(|(_, rows)| rows.iter().map(Vec::len));
                assert!(widths.all(|w| w == table.head.len()));
                assert!(table.groups[3].1[0][0].below.contains("no positive image"));
            }
        }
    }

    #[test]
    fn probabilities_at_0_or_1_are_counted_beside_the_line() {
        let mut score = example::full().details[0].labels[0].calibration[0].clone();
        (score.moved, score.slope, score.reason) = (7, None, Some("too many at 0 or 1".to_owned()));
        let row = calibration_row(&score);
        assert!(row[4].text.starts_with("7 of ") && row[2].below == "too many at 0 or 1", "{row:?}");
    }

    #[test]
    fn shares_show_interval_and_counts() {
        let c = example::full();
        let row = point_row(&c.details[0].labels[0].points[0]);
        let rate = &c.details[0].labels[0].points[0].sensitivity;
        assert!(row[2].below.contains(&format!("{}/{}", rate.successes, rate.trials)) && row[2].below.contains(';'));
    }
}
