//! Reporting checklists with what the run knows filled in.
//!
//! CLAIM 2024 (Tejani et al. 2024) and TRIPOD+AI (Collins et al. 2024). Numbers are theirs, the wording is ours and short.
//! What only people know is a named blank; nothing is guessed, and what is filled in is still the authors' to check. All
//! 44 and all 52 items were compared by number and topic with copies in public code archives, not with the journals'
//! pages: the checklist form of CLAIM's explanation and elaboration site, and two transcriptions of TRIPOD+AI's Table 2
//! that agree. No number had to be changed. The page says so too.

mod claim;
mod known;
mod tripod;

use super::super::document::{Block, Cell, Section, Table, Tone};
use super::super::facts::StudyFacts;
use crate::evaluate::Comparison;
pub(super) use known::Known;

/// Begins every blank.
const BLANK: &str = "To be completed by the authors";

/// What the run knows about an item.
enum Answer {
    /// All of it, as far as a program can tell.
    Known(String),
    /// Some of it, and what is missing.
    Partly(String, &'static str),
    /// Nothing; what is missing.
    Blank(&'static str),
}

impl Known {
    /// All of it where details were worked out, else a part.
    fn if_detailed(&self, text: String) -> Answer {
        let missing = "a run without --quick: intervals, calibration and groups";
        if self.detailed { Answer::Known(text) } else { Answer::Partly(text, missing) }
    }
}

/// One item: its number, what it asks in our words, and the answer.
struct Item(&'static str, &'static str, Answer);

/// Items below a heading.
type Group = (&'static str, Vec<Item>);

/// The CLAIM 2024 checklist.
pub(super) fn claim(c: &Comparison, facts: &StudyFacts) -> Section {
    let source = "Tejani et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update. \
                  Radiology: Artificial Intelligence 2024, 6(4), e240300. doi:10.1148/ryai.240300";
    let checked = "Numbers and topics were compared, item by item, with the checklist form of CLAIM\u{2019}s explanation \
                   and elaboration site, in a copy; the journal\u{2019}s page was not at hand.";
    section("claim", "CLAIM 2024 checklist", [source, checked], claim::items(&Known::new(c, facts)))
}

/// The TRIPOD+AI checklist.
pub(super) fn tripod(c: &Comparison, facts: &StudyFacts) -> Section {
    let source = "Collins et al. TRIPOD+AI statement. BMJ 2024, 385, e078378. doi:10.1136/bmj-2023-078378";
    let checked = "Numbers and topics were compared, item by item, with two transcriptions of the statement\u{2019}s Table \
                   2, which agree; the journal\u{2019}s page was not at hand.";
    section("tripod", "TRIPOD+AI checklist", [source, checked], tripod::items(&Known::new(c, facts)))
}

/// What every checklist says of its own words.
const WORDING: &str = "What is asked is said here in our words and in short. Submit the published list, which says it in \
                       full, and trust its numbers where these differ.";

fn section(id: &'static str, title: &str, notes: [&str; 2], groups: Vec<Group>) -> Section {
    let all: Vec<&Item> = groups.iter().flat_map(|(_, items)| items).collect();
    let blanks = all.iter().filter(|i| !matches!(i.2, Answer::Known(_))).count();
    let words = format!(
        "{} of {} items need the authors. What is filled in comes from this run and is to be checked by them too.",
        blanks,
        all.len()
    );
    let mut table = Table::new(title, "plain", &["Item", "What is asked", "This run"], Vec::new());
    table.groups =
        groups.iter().map(|(heading, items)| ((*heading).to_owned(), items.iter().map(row).collect())).collect();
    let notes = notes.into_iter().chain([WORDING]).map(str::to_owned).collect();
    let blocks = vec![Block::Text(words), Block::Table(table), Block::Notes(notes)];
    Section { id, title: title.to_owned(), blocks }
}

fn row(Item(number, asked, answer): &Item) -> Vec<Cell> {
    let blank = |missing: &str| format!("{BLANK}: {missing}");
    let answer = match answer {
        Answer::Known(text) => Cell::new(text),
        Answer::Partly(text, missing) => Cell { tone: Tone::Partly, ..Cell::new(text).with(blank(missing)) },
        Answer::Blank(missing) => Cell { tone: Tone::Blank, ..Cell::new(blank(missing)) },
    };
    vec![Cell::new(*number), Cell::new(*asked), answer]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn numbers(groups: &[Group]) -> Vec<&'static str> {
        groups.iter().flat_map(|(_, items)| items.iter().map(|i| i.0)).collect()
    }

    #[test]
    fn no_item_is_left_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let facts = StudyFacts::read(folder.path());
        for c in [example::comparison(), example::full()] {
            let known = Known::new(&c, &facts);
            let claim: Vec<String> = (1..=44).map(|n| n.to_string()).collect();
            assert_eq!(numbers(&claim::items(&known)), claim);
            let tripod = "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 \
                          16 17 18a 18b 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c";
            assert_eq!(numbers(&tripod::items(&known)), tripod.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn known_is_filled_in_and_the_rest_is_a_named_blank() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let facts = StudyFacts::read(folder.path());
        let text = format!("{:?}", super::claim(&example::full(), &facts));
        for needle in ["patient", "seed 7", "densenet121", "To be completed by the authors: who funded", "item by item"]
        {
            assert!(text.contains(needle), "{needle}: {text}");
        }
        // What explain left is an answer; without it the blank says so.
        assert!(text.contains("Nothing was explained"), "{text}");
    }
}
