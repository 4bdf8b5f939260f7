//! The page of a run in the making, and the summary that the report of `compare` shows of it.

use super::Models;
use super::gallery::{Gallery, Grid, Section, shortcut_table};
use super::masked::Shortcuts;
use super::pictures::{Drawn, FOLDER, MapBox, boxes_csv};
use super::stage::{ExplainOptions, Explained};
use super::summary::{SUMMARY, Summary, split_of};
use crate::cohort::Cohort;
use crate::error::{Error, Result};
use crate::study::Study;

/// Messages of one kind that are said and shown; the rest is counted.
const SHOWN: usize = 20;

/// Page, summary, and whether all of it is there.
pub(super) struct Page<'a> {
    pub(super) gallery: Gallery,
    pub(super) summary: Summary,
    /// What was boxed on films; `None` without any film.
    boxes: Option<Vec<MapBox>>,
    /// Whether an item was refused that is not in a list of refused images.
    pub(super) refused: bool,
    /// Gets each message as it comes.
    say: &'a dyn Fn(&str),
}

impl<'a> Page<'a> {
    /// A page that says what is explained and how; `cohort` is the study's whole one.
    pub(super) fn new(
        models: &Models<'_>,
        explained: &Explained,
        cohort: &Cohort,
        options: &ExplainOptions,
        say: &'a dyn Fn(&str),
    ) -> Self {
        let study = models.study();
        let title = study.root.file_name().map_or_else(|| "study".to_owned(), |n| n.to_string_lossy().into_owned());
        let networks: Vec<&str> = models.networks().iter().map(|n| n.name.as_str()).collect();
        let facts = vec![
            format!("{} images that were not learned from, {} labels", explained.images.len(), explained.labels.len()),
            format!("Networks: {}", networks.join(", ")),
            format!("fine-tuned head: {}", options.cam.describe()),
            "forest: tree-CAM, exact SHAP values of the embedding's features, each laid over its feature's activations"
                .to_owned(),
            format!("Outlines and masks: {} (--mask {})", options.mask.describe(), options.mask),
        ];
        let summary = Summary { facts: facts.clone(), split: split_of(&study.settings.split), ..Summary::new(cohort) };
        let gallery = Gallery { title, facts, ..Gallery::default() };
        Self { gallery, summary, boxes: None, refused: false, say }
    }

    /// Adds a table, for the page and for the report.
    pub(super) fn table(&mut self, table: Grid) {
        self.summary.tables.push(table.clone());
        self.gallery.tables.push(table);
    }

    /// Says messages and puts them on the page; of many the first ones and how many more there are.
    pub(super) fn warn(&mut self, about: &str, messages: &[String]) {
        let mut lines: Vec<String> = messages.iter().take(SHOWN).cloned().collect();
        if messages.len() > SHOWN {
            lines.push(format!("and {} more about {about}", messages.len() - SHOWN));
        }
        lines.iter().for_each(|line| (self.say)(line));
        self.gallery.warnings.extend(lines);
    }

    /// Adds the shortcut check; its warnings are for the caller to say.
    pub(super) fn shortcuts(&mut self, check: &Shortcuts) {
        self.table(shortcut_table(check));
        self.gallery.warnings.extend(check.warnings());
        self.summary.shortcuts = Some(check.warnings());
    }

    /// Adds pictures, and says what could not be drawn.
    pub(super) fn show(&mut self, title: &str, note: &str, drawn: Drawn) {
        self.refused |= !drawn.problems.is_empty();
        self.warn(FOLDER, &drawn.problems);
        self.gallery.sections.push(Section {
            title: title.to_owned(),
            note: note.to_owned(),
            pictures: drawn.pictures,
        });
    }

    /// As [`Page::show`], for films with boxes.
    pub(super) fn films(&mut self, title: &str, note: &str, mut drawn: Drawn) {
        self.boxes.get_or_insert_default().append(&mut drawn.boxes);
        self.show(title, note, drawn);
    }

    /// Writes page, summary and the table of boxes.
    pub(super) fn write(&self, study: &Study) -> Result<()> {
        if let Some(boxes) = &self.boxes {
            study.write(&format!("{FOLDER}/boxes.csv"), boxes_csv(boxes).as_bytes())?;
        }
        study.write(&format!("{FOLDER}/index.html"), self.gallery.html()?.as_bytes())?;
        let summary = serde_json::to_vec_pretty(&self.summary).map_err(|e| Error::Request(e.to_string()))?;
        study.write(SUMMARY, &summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn of_many_messages_the_first_are_shown_and_the_rest_is_counted() {
        let said = RefCell::new(Vec::new());
        let say = |line: &str| said.borrow_mut().push(line.to_owned());
        let (gallery, summary) = (Gallery::default(), Summary::default());
        let mut page = Page { gallery, summary, boxes: None, refused: false, say: &say };
        let problems: Vec<String> = (0..SHOWN + 3).map(|i| format!("film {i} is gone")).collect();
        page.show("Overlays", "", Drawn { problems, ..Drawn::default() });
        assert!(page.refused && page.boxes.is_none());
        page.films("Overlays", "", Drawn::default());
        assert_eq!(page.boxes, Some(Vec::new()), "films without boxes have an empty table, no films have none");
        assert_eq!(page.gallery.warnings.len(), SHOWN + 1);
        assert_eq!(page.gallery.warnings[SHOWN], "and 3 more about explain");
        assert_eq!(*said.borrow(), page.gallery.warnings);
        page.warn("explain", &["one".to_owned()]);
        assert_eq!(said.borrow().last().map(String::as_str), Some("one"));
    }
}
