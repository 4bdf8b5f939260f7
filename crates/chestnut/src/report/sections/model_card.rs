//! A model card (Mitchell et al. 2019): on the page, and alone as Markdown.

use super::super::document::{Block, Cell, Section, Table};
use super::super::facts::StudyFacts;
use super::super::finding;
use super::super::words::span;
use super::checklist::Known;
use crate::evaluate::Comparison;
use crate::evaluate::table::{NOT_ESTIMABLE, decimal, is_few};

/// What only people know.
const BLANK: &str = "To be completed by the authors";

/// The card.
pub(in crate::report) fn model_card(c: &Comparison, facts: &StudyFacts) -> Section {
    let k = Known::new(c, facts);
    let heading = |text: &str| Block::Heading(text.to_owned());
    let text = |text: &str| Block::Text(text.to_owned());
    let mut blocks = vec![text(&k.finding), text("For research use only. Not a medical device.")];
    blocks.extend(finding::banners(c).into_iter().map(Block::Mark));
    blocks.extend([
        heading("Model"),
        Block::List(vec![k.technology.clone(), k.settings.clone(), k.weights.clone(), k.recipe.clone()]),
        Block::List(vec![format!("{BLANK}: owner, contact, licence of the fitted models.")]),
        heading("Intended use"),
        Block::List(vec![
            "Research on one hospital\u{2019}s frontal chest radiographs of the kind described below.".to_owned(),
            "Not for: diagnosis, triage or any other care of patients; other views, ages, devices or hospitals than \
             those below without a test there."
                .to_owned(),
            format!("{BLANK}: users and place in the work."),
        ]),
        heading("Data"),
        Block::List(vec![
            k.flow.clone(),
            k.split.clone(),
            k.people.clone().unwrap_or_else(|why| format!("Characteristics are not known: {why}.")),
            k.events.clone(),
            format!("{BLANK}: source of images and labels, dates, consent."),
        ]),
        heading("How good it is"),
        text(&k.metrics),
        numbers(c),
        heading("Groups of patients"),
        text(&k.subgroups),
        heading("Calibration"),
        text(&k.calibration),
        heading("Ethics"),
        Block::List(vec![format!("{BLANK}: approval, risks, who could be harmed by an error.")]),
        heading("Limits"),
        Block::List(finding::limits(c)),
    ]);
    Section { id: "card", title: "Model card".to_owned(), blocks }
}

/// AUC of each label of the row that the page speaks of first.
fn numbers(c: &Comparison) -> Block {
    let Some(f) = finding::finding(c) else { return Block::Missing("Not estimable: no label has an AUC.".to_owned()) };
    let rows = f.method.labels.iter().enumerate().map(|(i, l)| {
        let star = if is_few(c, i) { "*" } else { "" };
        vec![
            Cell::new(format!("{}{star}", l.label)),
            l.auc.map_or_else(
                || Cell::missing(NOT_ESTIMABLE).with(l.reason.clone().unwrap_or_default()),
                |v| Cell::new(decimal(v)),
            ),
            l.interval.map_or_else(|| Cell::missing(NOT_ESTIMABLE), |i| Cell::new(span(i))),
            Cell::new(format!("{} / {}", l.positives, l.positives + l.negatives)),
        ]
    });
    let name = format!("{} ({})", f.method.approach, f.method.source);
    let head = ["Label", "AUC", "95 % interval", "Positive / known"];
    Block::Table(Table::new(&name, "plain", &head, rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_card_is_markdown_without_markup_of_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let card = model_card(&example::full(), &StudyFacts::read(folder.path())).markdown();
        assert!(card.starts_with("# Model card\n"));
        for needle in ["### Intended use", "research use only", BLANK, "&lt;b>", "cohort.csv", "0123456789abcdef"] {
            assert!(card.contains(needle) || card.contains(&needle.replace('_', "\\_")), "{needle}: {card}");
        }
        assert!(!card.contains("<b>"));
    }
}
