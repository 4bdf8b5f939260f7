//! What the models looked at: what the last run of `chestnut explain` left, or how to make it.
//!
//! `compare` explains nothing by itself. Its page shows the tables, the shortcut check's warnings and the mean maps of
//! `explain/summary.json`, and says if the cohort has changed since.

use super::super::document::{Block, Cell, Section, Table};
use super::super::facts::{ExplainFacts, StudyFacts};
use super::super::words::several;
use crate::explain::gallery::Grid;

/// How to get the section.
const HOW: &str = "Run chestnut explain STUDY --shortcuts, with --experts FILE if radiologists outlined findings: \
                   this section then shows agreement with experts, whether labels survive without the chest, and mean \
                   maps.";

/// The section.
pub(super) fn explained(facts: &StudyFacts) -> Section {
    let blocks = match &facts.explained {
        Ok(Some(found)) => shown(found),
        Ok(None) => vec![Block::Missing(format!("Not made: nothing was explained yet. {HOW}"))],
        Err(why) => vec![Block::Missing(format!("Not shown: {why}."))],
    };
    Section { id: "explained", title: "What the models looked at".to_owned(), blocks }
}

fn shown(found: &ExplainFacts) -> Vec<Block> {
    let summary = &found.summary;
    let mut blocks = Vec::new();
    if found.is_current == Some(false) {
        blocks.push(Block::Mark(
            "Images, labels or the split of the study have changed since these explanations were made. Run chestnut explain again."
                .to_owned(),
        ));
    }
    blocks.push(Block::Text(
        "A heat map says what a model used. It does not say that the model is right, nor that the finding is there."
            .to_owned(),
    ));
    blocks.push(Block::List(summary.facts.clone()));
    blocks.push(Block::Heading("Warnings of the shortcut check".to_owned()));
    blocks.push(match summary.shortcuts.as_deref() {
        None => Block::Missing("Not made. Run chestnut explain STUDY --shortcuts.".to_owned()),
        Some([]) => Block::Text("None: no label is told without the chest by the rules of this check.".to_owned()),
        Some(warnings) => Block::List(warnings.to_vec()),
    });
    for grid in &summary.tables {
        blocks.push(Block::Heading(grid.title.clone()));
        blocks.push(table(grid));
        blocks.push(Block::Notes(vec![grid.note.clone()]));
    }
    blocks.push(Block::Heading("Mean maps".to_owned()));
    if found.maps.is_empty() {
        blocks.push(Block::Missing("None: no image has heat, or the pictures are gone.".to_owned()));
    } else {
        blocks.push(Block::Pictures(found.maps.clone()));
    }
    let mut notes = vec![
        "Made by the last run of chestnut explain, with models of its own fitted on the study's first split. All \
         pictures, similar cases among them: explain/index.html in the study."
            .to_owned(),
    ];
    if found.left_out > 0 {
        notes.push(format!(
            "{} not embedded here: too large, missing, or beyond what one page holds.",
            several(found.left_out, "mean map")
        ));
    }
    blocks.push(Block::Notes(notes));
    blocks
}

fn table(grid: &Grid) -> Block {
    let head: Vec<&str> = grid.head.iter().map(String::as_str).collect();
    let row = |cells: &Vec<String>| cells.iter().map(Cell::new).collect::<Vec<Cell>>();
    Block::Table(Table::new(&grid.title, "plain", &head, grid.rows.iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::summary::{MapPicture, SUMMARY, Summary};
    use crate::report::facts;
    use std::path::Path;

    fn summary(folder: &Path) -> Summary {
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
        let cohort = crate::cohort::Cohort::from_csv(&text("cohort.csv"), &text("rejects.csv")).expect("a cohort");
        let mut summary = Summary::new(&cohort);
        summary.facts.push("3 images that were not learned from".to_owned());
        summary.tables.push(Grid {
            title: "Agreement with experts".to_owned(),
            note: "a note".to_owned(),
            head: vec!["label".to_owned(), "IoU".to_owned()],
            rows: vec![vec!["<b>".to_owned(), "0.25".to_owned()]],
        });
        summary.maps = ["top.png", "gone.png"].map(|p| MapPicture { path: p.to_owned(), words: p.to_owned() }).to_vec();
        summary
    }

    fn save(folder: &Path, summary: &Summary) {
        std::fs::create_dir_all(folder.join("explain")).expect("a folder");
        std::fs::write(folder.join("explain/top.png"), b"\x89PNG\r\n\x1a\nrest").expect("a file");
        std::fs::write(folder.join(SUMMARY), serde_json::to_vec(summary).expect("plain values")).expect("a file");
    }

    fn said(folder: &Path) -> String {
        format!("{:?}", explained(&StudyFacts::read(folder)).blocks)
    }

    #[test]
    fn what_explain_left_is_shown_with_its_maps() {
        let folder = facts::tests::study();
        let mut summary = summary(folder.path());
        save(folder.path(), &summary);
        let text = said(folder.path());
        for words in ["3 images that were", "Agreement with experts", "0.25", "top.png", "1 mean map not embedded"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(text.contains("Not made. Run chestnut explain STUDY --shortcuts") && !text.contains("have changed"));
        summary.shortcuts = Some(vec!["Lung: with the four corners alone".to_owned()]);
        save(folder.path(), &summary);
        assert!(said(folder.path()).contains("the four corners alone"));
        summary.shortcuts = Some(Vec::new());
        summary.cohort_hash.push('0');
        save(folder.path(), &summary);
        let text = said(folder.path());
        assert!(text.contains("no label is told without the chest") && text.contains("have changed since"), "{text}");
    }

    #[test]
    fn what_is_missing_says_how_to_make_it() {
        let folder = facts::tests::study();
        assert!(said(folder.path()).contains("chestnut explain STUDY --shortcuts"));
        std::fs::create_dir_all(folder.path().join("explain")).expect("a folder");
        std::fs::write(folder.path().join(SUMMARY), "{").expect("a file");
        let text = said(folder.path());
        assert!(text.contains("Not shown") && text.contains("cannot be understood"), "{text}");
    }
}
