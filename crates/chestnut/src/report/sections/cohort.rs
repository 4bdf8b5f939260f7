//! Who was studied: found, refused and why, used, and into which parts.

use super::super::document::{Block, Cell, Section, Table};
use super::super::facts::{PartFacts, StudyFacts};
use super::super::words::{counts, several};
use crate::evaluate::Comparison;

/// Reasons for refusal shown; the rest is in rejects.csv.
const MAX_REASONS: usize = 12;

/// The refused and the parts; the flow above them is drawn by the template.
pub(super) fn cohort(c: &Comparison, facts: &StudyFacts) -> Section {
    let refused: usize = c.rejects.iter().map(|(_, n)| n).sum();
    let heading = if refused == 0 { "Refused".to_owned() } else { format!("{} refused", several(refused, "file")) };
    let mut blocks = vec![Block::Heading(heading)];
    if c.rejects.is_empty() && c.refused_rows == 0 {
        blocks.push(Block::Text("Nothing was refused.".to_owned()));
    }
    if c.refused_rows > 0 {
        blocks.push(Block::Text(format!(
            "{} of the labels table refused: a bad value, a duplicate or no image. A file that is left without a row by \
             this is counted among the files.",
            several(c.refused_rows, "row")
        )));
    }
    if !c.rejects.is_empty() {
        let row = |(reason, n): &(String, usize)| vec![Cell::new(n.to_string()), Cell::new(reason)];
        let rows = c.rejects.iter().take(MAX_REASONS).map(row).collect();
        blocks.push(Block::Table(Table::new("Reasons for refusal", "plain", &["Files", "Why"], rows)));
        let more = c.rejects.len().saturating_sub(MAX_REASONS);
        blocks.push(Block::Notes(vec![if more > 0 {
            format!("{more} more reasons, and every item by name, are in rejects.csv.")
        } else {
            "Every item that ingest refused is in rejects.csv by name.".to_owned()
        }]));
    }
    blocks.push(Block::Heading("Parts".to_owned()));
    match &facts.parts {
        Err(why) => blocks.push(Block::Missing(format!("Not known: {why}."))),
        Ok(parts) => {
            if let Some(why) = &facts.unsplit {
                blocks.push(Block::Missing(format!("Which image is in which part is not known: {why}.")));
            }
            blocks.push(characteristics(parts));
            blocks.push(Block::Heading("Labels".to_owned()));
            blocks.push(labels(&facts.labels, parts));
            blocks.push(Block::Notes(vec![
                "Counts are of images. Age, sex, view and manufacturer are what table or DICOM header say; a blank label \
                 is unknown unless the label set says otherwise, and unknown ones count nowhere."
                    .to_owned(),
            ]));
        }
    }
    Section { id: "cohort", title: "Cohort".to_owned(), blocks }
}

/// Age, sex, view and manufacturer, a column per part.
fn characteristics(parts: &[PartFacts]) -> Block {
    let head: Vec<Cell> =
        [Cell::new("")].into_iter().chain(parts.iter().map(|p| Cell::new(part_name(&p.name)))).collect();
    let row = |name: &str, of: &dyn Fn(&PartFacts) -> String| -> Vec<Cell> {
        [Cell::new(name)].into_iter().chain(parts.iter().map(|p| Cell::new(of(p)))).collect()
    };
    let ages = |p: &PartFacts| match p.ages {
        Some(([median, low, high], n)) => format!("{median:.0} ({low:.0} to {high:.0}), {n} images say it"),
        None => "not said".to_owned(),
    };
    let rows = vec![
        row("Images", &|p| p.images.to_string()),
        row("Patients", &|p| p.patients.to_string()),
        row("Age in years: median (range)", &ages),
        row("Sex", &|p| counts(&p.sexes)),
        row("View", &|p| counts(&p.views)),
        row("Manufacturer", &|p| counts(&p.makers)),
        row("File format", &|p| counts(&p.formats)),
    ];
    let name = "Characteristics of the parts".to_owned();
    Block::Table(Table { name, style: "plain", head, groups: vec![(String::new(), rows)] })
}

/// Positive, negative and unknown images of each label, a column per part.
fn labels(names: &[String], parts: &[PartFacts]) -> Block {
    let head: Vec<Cell> = [Cell::new("Label")]
        .into_iter()
        .chain(parts.iter().map(|p| Cell::new(part_name(&p.name)).with("positive / negative / unknown")))
        .collect();
    let cell = |p: &PartFacts, k: usize| match p.labels.get(k) {
        Some([positive, negative, unknown]) => Cell::new(format!("{positive} / {negative} / {unknown}")),
        None => Cell::missing("\u{2013}"),
    };
    let row = |(k, name): (usize, &String)| -> Vec<Cell> {
        [Cell::new(name)].into_iter().chain(parts.iter().map(|p| cell(p, k))).collect()
    };
    let rows = names.iter().enumerate().map(row).collect();
    let name = "Labels in the parts".to_owned();
    Block::Table(Table { name, style: "results", head, groups: vec![(String::new(), rows)] })
}

fn part_name(name: &str) -> &str {
    if name == "all" { "Whole cohort" } else { name }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts;
    use super::*;
    use crate::report::example;

    #[test]
    fn flow_and_reasons_but_no_names() {
        let folder = facts::tests::study();
        let section = cohort(&example::comparison(), &StudyFacts::read(folder.path()));
        let text = format!("{section:?}");
        for needle in
            ["5 files refused", "4 rows of the labels table", "cannot be read as an image", "1 / 0 / 0", "not said"]
        {
            assert!(text.contains(needle), "{needle}: {text}");
        }
        assert!(text.contains("30 (30 to 61), 3 images say it"), "{text}");
        assert!(!text.contains("secret") && !text.contains("a.dcm") && !text.contains("p1"));
    }

    #[test]
    fn a_missing_cohort_says_why() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = format!("{:?}", cohort(&example::comparison(), &StudyFacts::read(folder.path())));
        assert!(text.contains("Not known: cohort.csv is missing"), "{text}");
    }
}
