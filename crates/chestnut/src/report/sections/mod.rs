//! The sections of the page, one file per group, in the order of the page.
//!
//! Each function takes the comparison (and the study's facts where it needs them) and says what is to be shown. A part
//! that this run did not make keeps its section and says why.

mod checklist;
mod cohort;
mod explained;
mod judgement;
mod model_card;
mod paper;
mod provenance;
mod published;
mod thresholds;

pub(super) use model_card::model_card;
pub(super) use published::published;
#[cfg(test)]
pub(super) use published::tests as published_tests;

use super::document::{Block, Figures, Section};
use super::facts::StudyFacts;
use super::plots::Plot;
use crate::evaluate::Comparison;

/// All sections between the answer and the way to cite.
pub(super) fn sections(c: &Comparison, facts: &StudyFacts) -> Vec<Section> {
    let mut results = paper::results(c);
    if facts.published {
        results.blocks.push(published::link());
    }
    let mut all = vec![results, paper::roc(c), judgement::intervals(c), judgement::differences(c)];
    all.push(paper::spread(c));
    all.extend([thresholds::operating_points(c), thresholds::calibration(c), thresholds::decision(c)]);
    all.extend([judgement::subgroups(c), judgement::learning(c), explained::explained(facts)]);
    all.extend([cohort::cohort(c, facts), provenance::networks(c), provenance::settings(c, facts)]);
    all.push(provenance::limits(c));
    all.extend([checklist::claim(c, facts), checklist::tripod(c, facts), model_card(c, facts)]);
    all
}

/// A plot, or why there is none.
fn plotted(plot: Option<Plot>, otherwise: &str) -> Block {
    plot.map_or_else(|| Block::Missing(otherwise.to_owned()), |plot| Block::Figures(plot.figures()))
}

/// Panels without a legend.
fn panels(shape: &'static str, panels: Vec<String>) -> Block {
    Block::Figures(Figures { shape, legend: Vec::new(), panels })
}

/// Why nothing lies beyond the AUCs.
fn no_details(c: &Comparison) -> &'static str {
    if c.methods.is_empty() {
        "Not estimable: nothing was compared."
    } else {
        "Not made: this run left out thresholds, calibration and differences. Run compare without --quick."
    }
}
