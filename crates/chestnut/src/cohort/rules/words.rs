//! Words of a rules file, and how they are found in a header's text.
//!
//! Texts are folded (no case, no accents) and cut into words at everything that is neither letter nor digit; an entry
//! is found where its words follow each other. A `*` at either end of a word leaves that end open, for languages that
//! write words together. Nothing here knows what a word means.

use std::collections::BTreeMap;

use super::super::label_set::fold;

/// Longest entry, bytes.
pub(super) const MAX_ENTRY_BYTES: usize = 128;

/// Entries by language; the language is for the reader.
pub(super) type Languages = BTreeMap<String, Vec<String>>;

/// The words of a text, folded.
pub(super) fn split(text: &str) -> Vec<String> {
    fold(text).split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// One word of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    open_start: bool,
    open_end: bool,
}

impl Pattern {
    fn fits(&self, word: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => word == self.text,
            (false, true) => word.starts_with(&self.text),
            (true, false) => word.ends_with(&self.text),
            (true, true) => word.contains(&self.text),
        }
    }
}

/// An entry of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phrase {
    /// As the file has it.
    text: String,
    words: Vec<Pattern>,
}

impl Phrase {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_ENTRY_BYTES {
            return Err("is too long");
        }
        let folded = fold(text);
        let mut words = Vec::new();
        for part in folded.split(|c: char| !c.is_alphanumeric() && c != '*') {
            let word = part.trim_matches('*');
            match (part.is_empty(), word.is_empty()) {
                (true, _) => {}
                (false, true) => return Err("has a * without a word"),
                _ if word.contains('*') => return Err("has a * inside a word; it may stand at the ends"),
                _ => words.push(Pattern {
                    text: word.to_owned(),
                    open_start: part.starts_with('*'),
                    open_end: part.ends_with('*'),
                }),
            }
        }
        if words.is_empty() { Err("holds no word") } else { Ok(Self { text: text.to_owned(), words }) }
    }

    fn is_in(&self, words: &[String]) -> bool {
        words.windows(self.words.len()).any(|window| self.words.iter().zip(window).all(|(p, w)| p.fits(w)))
    }
}

/// Entries of one meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Phrases(Vec<Phrase>);

impl Phrases {
    /// # Errors
    /// The entry that cannot be used, and why.
    pub(super) fn parse<'a>(entries: impl Iterator<Item = &'a String>) -> Result<Self, (String, &'static str)> {
        let parsed = entries.map(|text| Phrase::parse(text).map_err(|why| (text.clone(), why)));
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first entry that is found in these words, as the file has it.
    pub(super) fn first_in<'a>(&'a self, words: &[String]) -> Option<&'a str> {
        self.0.iter().find(|phrase| phrase.is_in(words)).map(|phrase| phrase.text.as_str())
    }

    /// An entry that stands in both lists.
    pub(super) fn shared<'a>(&'a self, other: &Self) -> Option<&'a str> {
        let shared = self.0.iter().find(|phrase| other.0.iter().any(|o| o.words == phrase.words));
        shared.map(|phrase| phrase.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(entry: &str, text: &str) -> bool {
        Phrase::parse(entry).expect("an entry").is_in(&split(text))
    }

    #[test]
    fn entries_are_found_whole_without_case_and_accents() {
        assert!(found("a.p.", "Thorax a.p. liegend") && found("AP", "chest_ap") && found("tórax", "RX TORAX"));
        assert!(found("a letto", "TORACE A  LETTO") && !found("a letto", "TORACE LETTO A"));
        assert!(!found("lat", "PLATE") && !found("hip", "ship") && !found("PA", "spa"));
        assert!(
            found("thorax*", "Thoraxaufnahme") && !found("thorax*", "Bettthorax") && found("*thorax", "Bettthorax")
        );
        assert!(found("*wirbel*", "Halswirbelsäule") && found("Fuß", "FUSS"));
        assert!(!found("left decubitus", "left"), "an entry longer than the text");
    }

    #[test]
    fn entries_that_cannot_be_used_are_named() {
        for bad in ["", " . ", "*", "a *", "ra*dio", "x".repeat(MAX_ENTRY_BYTES + 1).as_str()] {
            assert!(Phrase::parse(bad).is_err(), "{bad:?}");
        }
        let list = |entries: &[&str]| {
            let entries: Vec<String> = entries.iter().map(|&e| e.to_owned()).collect();
            Phrases::parse(entries.iter()).map_err(|(entry, _)| entry)
        };
        assert_eq!(list(&["AP", "*"]), Err("*".to_owned()));
        let (first, second) = (list(&["lat", "Tórax"]).expect("entries"), list(&["torax"]).expect("entries"));
        assert_eq!((first.shared(&second), second.shared(&list(&["torax*"]).expect("entries"))), (Some("Tórax"), None));
    }
}
