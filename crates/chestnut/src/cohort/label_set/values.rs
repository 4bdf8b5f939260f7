//! What the words in a labels table mean: `yes`, `sì`, `negativo`, `+`.
//!
//! Hospitals write findings as words, in their own language and with their own codes. A label set says what they
//! mean under `[values]`; common words are known without it. A word that nobody explained is refused by the table's
//! reader: it may mean the opposite of what it looks like.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LabelSetError;

/// Most words of one meaning.
pub const MAX_WORDS: usize = 256;
/// Longest word, bytes.
pub const MAX_WORD_BYTES: usize = 128;

/// Words for present. `VERO`, `WAHR` and their like are what a spreadsheet writes for its own TRUE.
const POSITIVE: [&str; 24] = [
    "yes",
    "y",
    "true",
    "si",
    "si'",
    "ja",
    "oui",
    "sim",
    "pos",
    "positive",
    "positivo",
    "positiva",
    "positiv",
    "positif",
    "present",
    "presente",
    "vorhanden",
    "vero",
    "wahr",
    "vrai",
    "verdadero",
    "verdadeiro",
    "+",
    "x",
];
/// Words for absent.
const NEGATIVE: [&str; 19] = [
    "no", "n", "false", "nein", "non", "nao", "neg", "negative", "negativo", "negativa", "negativ", "negatif",
    "absent", "assente", "ausente", "falso", "falsch", "faux", DASH,
];
/// Words for not read or not said.
const UNKNOWN: [&str; 9] =
    ["unknown", "na", "n/a", "nan", "null", "not read", "sconosciuto", "unbekannt", "desconocido"];
/// Words for undecided.
const UNCERTAIN: [&str; 9] =
    ["uncertain", "?", "+/-", "equivocal", "possible", "incerto", "dubbio", "unsicher", "fraglich"];

/// Absent beside `+`; alone it may as well mean that nothing was written.
pub(crate) const DASH: &str = "-";
/// Present, as a sign.
pub(crate) const PLUS: &str = "+";

/// The `[values]` of a label set: words of the table, compared without case and accents.
///
/// Words that stand here win over the standard ones and over the numbers 0, 1 and -1, so that a table which writes 2
/// for present can say so. A blank cell is no word: `blank` says what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueWords {
    /// The finding is present.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub positive: Vec<String>,
    /// The finding is absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub negative: Vec<String>,
    /// Nobody looked or nobody said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// The reader could not decide; `uncertain` of the label set says what that counts as.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncertain: Vec<String>,
    /// Whether common words (yes, no, sì, ja, oui, true, positive, absent, x ...) are known as well.
    pub standard: bool,
}

impl Default for ValueWords {
    /// The standard words alone.
    fn default() -> Self {
        Self { standard: true, ..Self::none() }
    }
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Positive,
    Negative,
    Unknown,
    Uncertain,
}

impl ValueWords {
    /// No words: 0, 1, blank and -1 only.
    #[must_use]
    pub fn none() -> Self {
        Self { positive: Vec::new(), negative: Vec::new(), unknown: Vec::new(), uncertain: Vec::new(), standard: false }
    }

    /// Whether these are the defaults, which need not be written to a file.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn own(&self) -> [(Meaning, &[String]); 4] {
        [
            (Meaning::Positive, &self.positive),
            (Meaning::Negative, &self.negative),
            (Meaning::Unknown, &self.unknown),
            (Meaning::Uncertain, &self.uncertain),
        ]
    }

    /// Checks number, length and that no word has two meanings.
    ///
    /// # Errors
    /// [`LabelSetError::Word`] naming the word.
    pub fn check(&self) -> Result<(), LabelSetError> {
        let fault = |word: &str, problem: String| LabelSetError::Word { word: word.to_owned(), problem };
        let mut seen: BTreeMap<String, Meaning> = BTreeMap::new();
        for (meaning, words) in self.own() {
            if words.len() > MAX_WORDS {
                return Err(fault(
                    &words[0],
                    format!("begins a list of {}; at most {MAX_WORDS} are read", words.len()),
                ));
            }
            for word in words {
                if word.len() > MAX_WORD_BYTES {
                    let short: String = word.chars().take(40).collect();
                    return Err(fault(&short, format!("goes on for more than {MAX_WORD_BYTES} bytes")));
                }
                let folded = fold(word);
                if folded.is_empty() {
                    return Err(fault(word, "is blank; what a blank cell means is said by `blank`".to_owned()));
                }
                if seen.insert(folded, meaning).is_some_and(|other| other != meaning) {
                    return Err(fault(word, "has two meanings; remove one".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Every word, folded, with its meaning. `with_dash` says whether the standard words include `-`.
    pub(crate) fn meanings(&self, with_dash: bool) -> BTreeMap<String, Meaning> {
        let mut all = BTreeMap::new();
        if self.standard {
            let lists: [(Meaning, &[&str]); 4] = [
                (Meaning::Positive, &POSITIVE),
                (Meaning::Negative, &NEGATIVE),
                (Meaning::Unknown, &UNKNOWN),
                (Meaning::Uncertain, &UNCERTAIN),
            ];
            for (meaning, words) in lists {
                let words = words.iter().filter(|&&word| with_dash || word != DASH);
                all.extend(words.map(|&word| (word.to_owned(), meaning)));
            }
        }
        for (meaning, words) in self.own() {
            all.extend(words.iter().map(|word| (fold(word), meaning)));
        }
        all
    }
}

/// A word without case, accents and spare spaces; all dashes are `-`.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.split_whitespace().flat_map(|word| word.chars().chain([' '])).flat_map(char::to_lowercase) {
        match c {
            'à'..='å' | 'ā' | 'ă' | 'ą' => folded.push('a'),
            'ç' | 'ć' | 'č' => folded.push('c'),
            'è'..='ë' | 'ē' | 'ę' | 'ě' => folded.push('e'),
            'ì'..='ï' | 'ī' => folded.push('i'),
            'ñ' | 'ń' | 'ň' => folded.push('n'),
            'ò'..='ö' | 'ø' | 'ō' | 'ő' => folded.push('o'),
            'š' | 'ś' | 'ş' => folded.push('s'),
            'ù'..='ü' | 'ū' | 'ů' | 'ű' => folded.push('u'),
            'ý' | 'ÿ' => folded.push('y'),
            'ž' | 'ź' | 'ż' => folded.push('z'),
            'ß' => folded.push_str("ss"),
            '\u{2010}'..='\u{2015}' | '\u{2212}' => folded.push('-'),
            '\u{2018}' | '\u{2019}' => folded.push('\''),
            // Accents that are characters of their own.
            '\u{300}'..='\u{36F}' => {}
            c => folded.push(c),
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_accents_do_not_matter() {
        let pairs = [
            (" SÌ ", "si"),
            ("Si\u{300}", "si"),
            ("NÉGATIF", "negatif"),
            ("\u{2212}", "-"),
            ("not\u{a0} Read", "not read"),
            ("Größe", "grosse"),
            (" \t", ""),
        ];
        for (text, folded) in pairs {
            assert_eq!(fold(text), folded);
        }
    }

    #[test]
    fn standard_words_are_folded_and_have_one_meaning() {
        let lists: [&[&str]; 4] = [&POSITIVE, &NEGATIVE, &UNKNOWN, &UNCERTAIN];
        let all: Vec<&str> = lists.concat();
        assert!(all.iter().all(|word| fold(word) == **word));
        let found = ValueWords::default().meanings(true);
        assert_eq!(found.len(), all.len(), "no word stands twice");
        assert_eq!((found[PLUS], found[DASH]), (Meaning::Positive, Meaning::Negative));
        assert!(!ValueWords::default().meanings(false).contains_key(DASH));
        assert!(ValueWords::none().meanings(true).is_empty());
    }

    #[test]
    fn own_words_win() {
        let words = ValueWords {
            positive: vec!["2".into(), "Nachweis".into()],
            unknown: vec!["X".into(), "\u{2013}".into()],
            ..ValueWords::default()
        };
        words.check().expect("valid");
        let found = words.meanings(false);
        assert_eq!((found["2"], found["nachweis"]), (Meaning::Positive, Meaning::Positive));
        assert_eq!((found["x"], found["-"], found["ja"]), (Meaning::Unknown, Meaning::Unknown, Meaning::Positive));
    }

    #[test]
    fn words_that_cannot_be_used_are_named() {
        let list = |word: &str, count: usize| vec![word.to_owned(); count];
        let twice = ValueWords { positive: list("da", 1), negative: list("DÀ", 1), ..ValueWords::default() };
        assert!(twice.check().expect_err("two meanings").to_string().contains("two meanings"));
        for bad in [list(" ", 1), list(&"x".repeat(MAX_WORD_BYTES + 1), 1), list("x", MAX_WORDS + 1)] {
            assert!(ValueWords { uncertain: bad, ..ValueWords::none() }.check().is_err());
        }
    }
}
