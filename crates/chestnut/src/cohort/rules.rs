//! Which DICOM images are frontal chest radiographs: rules that a hospital can edit.
//!
//! The paper keeps images whose series description says AP, PA or portable (section 2.1; protocol 1.2). Headers of
//! other hospitals say it elsewhere and in other words, so all places and words are data: `rules.toml`, built in, or a
//! file of one's own. Its head states the order of the steps; the first one that refuses ends the matter, and every
//! refusal has a reason. No text of a header is quoted in a reason, because free text may name a patient: only coded
//! values and the words of the rules are. Nothing here looks at pixels.

mod judge;
mod projection;
mod words;

use serde::Deserialize;
use thiserror::Error;

pub use judge::Verdict;

use self::words::{Languages, Phrases};

/// The built-in rules, commented, as `--print-rules` shows them.
pub const DEFAULT_RULES: &str = include_str!("rules.toml");
/// Largest rules file, bytes.
pub const MAX_RULES_BYTES: usize = 1 << 20;
/// Most entries of one list of words.
pub const MAX_ENTRIES: usize = 5000;

/// Remarks on images that are taken; "12 images " stands before them.
mod remark {
    pub(super) const SECONDARY: &str =
        "are secondary captures (screenshots, scanned films, converted pictures); look at some";
    pub(super) const FOR_PROCESSING: &str = "are detector values FOR PROCESSING, unlike what a reader was shown";
    pub(super) const BURNT_IN: &str = "carry burnt-in annotations (the header says so)";
    pub(super) const OTHER_MODALITY: &str = "have a modality that is not for radiographs only; look at some";
    pub(super) const NO_MODALITY: &str = "have no modality in their DICOM header";
    pub(super) const NO_BODY_PART: &str =
        "have no body part in their DICOM header; other ones than chests may be among them";
    pub(super) const MORE_BODY_PARTS: &str = "name another body part beside the chest in their DICOM header";
    pub(super) const BODY_PARTS_DIFFER: &str =
        "name different body parts in different places of their DICOM header; the first was believed";
    pub(super) const TABLE_DIFFERS: &str =
        "have another view in the table than in the DICOM header; the table was believed";
    pub(super) const VIEWS_DIFFER: &str =
        "name different views in different places of their DICOM header; the first was believed";
    pub(super) const MIRRORED: &str = "are mirrored or turned, as their PatientOrientation says";
}

/// Why rules cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RulesError {
    /// Not TOML, or not the fields of the rules.
    #[error("the rules are not valid: {0}")]
    Toml(String),
    /// The text is longer than [`MAX_RULES_BYTES`].
    #[error("the rules have {0} bytes; at most {MAX_RULES_BYTES} are read")]
    TooLarge(usize),
    /// A list that cannot be used.
    #[error("the rules, {list}: {problem}")]
    List {
        /// Which list.
        list: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Where a DICOM header may name the projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Evidence {
    ViewPosition,
    PatientOrientation,
    SeriesDescription,
    ProtocolName,
    StudyDescription,
}

/// What is done about something odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Refuse,
    Flag,
    Take,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Contradiction {
    Refuse,
    Flag,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModalityRules {
    take: Vec<String>,
    flag: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectRules {
    secondary_capture: Action,
    for_processing: Action,
    burnt_in_text: Action,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewCodes {
    lateral: Vec<String>,
    special: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewWords {
    ap: Languages,
    pa: Languages,
    portable: Languages,
    frontal: Languages,
    lateral: Languages,
    special: Languages,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyParts {
    blank: Vec<String>,
    chest: Languages,
    other: Languages,
}

/// A rules file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    evidence: Vec<Evidence>,
    contradiction: Contradiction,
    modality: ModalityRules,
    objects: ObjectRules,
    view_codes: ViewCodes,
    views: ViewWords,
    body_parts: BodyParts,
}

/// The rules; see the head of [`DEFAULT_RULES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionRules {
    evidence: Vec<Evidence>,
    contradiction: Contradiction,
    modality: ModalityRules,
    objects: ObjectRules,
    lateral_codes: Phrases,
    special_codes: Phrases,
    ap: Phrases,
    pa: Phrases,
    portable: Phrases,
    frontal: Phrases,
    lateral: Phrases,
    special: Phrases,
    chest: Phrases,
    other_parts: Phrases,
    blank_parts: Phrases,
    any_view: bool,
    any_body_part: bool,
}

impl Default for SelectionRules {
    /// [`DEFAULT_RULES`].
    fn default() -> Self {
        Self::from_toml(DEFAULT_RULES).expect("the built-in rules are tested")
    }
}

impl SelectionRules {
    /// Reads rules from TOML; every field must be there.
    ///
    /// # Errors
    /// [`RulesError`] naming the field or the word at fault.
    pub fn from_toml(text: &str) -> Result<Self, RulesError> {
        if text.len() > MAX_RULES_BYTES {
            return Err(RulesError::TooLarge(text.len()));
        }
        let file: RulesFile = toml::from_str(text).map_err(|e| RulesError::Toml(e.to_string()))?;
        let rules = Self {
            evidence: file.evidence,
            contradiction: file.contradiction,
            modality: file.modality,
            objects: file.objects,
            lateral_codes: phrases("view_codes.lateral", file.view_codes.lateral.iter())?,
            special_codes: phrases("view_codes.special", file.view_codes.special.iter())?,
            ap: phrases("views.ap", file.views.ap.values().flatten())?,
            pa: phrases("views.pa", file.views.pa.values().flatten())?,
            portable: phrases("views.portable", file.views.portable.values().flatten())?,
            frontal: phrases("views.frontal", file.views.frontal.values().flatten())?,
            lateral: phrases("views.lateral", file.views.lateral.values().flatten())?,
            special: phrases("views.special", file.views.special.values().flatten())?,
            chest: phrases("body_parts.chest", file.body_parts.chest.values().flatten())?,
            other_parts: phrases("body_parts.other", file.body_parts.other.values().flatten())?,
            blank_parts: phrases("body_parts.blank", file.body_parts.blank.iter())?,
            any_view: false,
            any_body_part: false,
        };
        rules.check()?;
        Ok(rules)
    }

    /// No word may have two meanings, and some modality must be wanted.
    fn check(&self) -> Result<(), RulesError> {
        let fault = |list, problem: String| Err(RulesError::List { list, problem });
        if self.modality.take.is_empty() && self.modality.flag.is_empty() {
            return fault("modality", "no modality is wanted; list CR and DX under take".to_owned());
        }
        let mut pairs = vec![("views", &self.ap, &self.pa), ("body_parts", &self.chest, &self.other_parts)];
        for frontal in [&self.ap, &self.pa, &self.portable, &self.frontal] {
            for other in [&self.lateral, &self.special, &self.lateral_codes, &self.special_codes] {
                pairs.push(("views", frontal, other));
            }
        }
        for (list, one, other) in pairs {
            if let Some(word) = one.shared(other) {
                return fault(list, format!("the word {word:?} has two meanings; remove one"));
            }
        }
        Ok(())
    }

    /// Takes every projection.
    #[must_use]
    pub fn with_any_view(self, any_view: bool) -> Self {
        Self { any_view, ..self }
    }

    /// Takes every body part.
    #[must_use]
    pub fn with_any_body_part(self, any_body_part: bool) -> Self {
        Self { any_body_part, ..self }
    }

    /// Takes secondary captures, counted in the warnings.
    #[must_use]
    pub fn with_secondary_captures(mut self) -> Self {
        self.objects.secondary_capture = Action::Flag;
        self
    }
}

fn phrases<'a>(list: &'static str, entries: impl Iterator<Item = &'a String>) -> Result<Phrases, RulesError> {
    let parsed = Phrases::parse(entries)
        .map_err(|(entry, why)| RulesError::List { list, problem: format!("the entry {entry:?} {why}") })?;
    if parsed.len() > MAX_ENTRIES {
        let problem = format!("it has {} entries; at most {MAX_ENTRIES} are read", parsed.len());
        return Err(RulesError::List { list, problem });
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests;
