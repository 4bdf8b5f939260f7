//! The projection of an image: what the places of a header say about it, and whom to believe.
//!
//! The table's view column wins; without one the first place that says anything does, in the order of the rules'
//! `evidence`. A header that says frontal here and lateral there is refused, because a lateral among frontal films
//! cannot be seen in any number later.

use super::super::view::known_view;
use super::words::split;
use super::{Contradiction, Evidence, SelectionRules, remark};
use crate::image::DicomFacts;

/// What a name or a text says about the projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    Ap,
    Pa,
    /// At the bedside.
    Portable,
    /// Frontal, without saying which.
    Frontal,
    Lateral,
    /// Oblique, decubitus, lordotic.
    Special,
}

impl Projection {
    pub(crate) fn is_frontal(self) -> bool {
        !matches!(self, Self::Lateral | Self::Special)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ap => "AP",
            Self::Pa => "PA",
            Self::Portable => "portable",
            Self::Frontal => "frontal",
            Self::Lateral => "lateral",
            Self::Special => "oblique or decubitus",
        }
    }

    /// Whether both cannot be true of one image.
    fn contradicts(self, other: Self) -> bool {
        self.is_frontal() != other.is_frontal() || matches!((self, other), (Self::Ap, Self::Pa) | (Self::Pa, Self::Ap))
    }
}

impl Evidence {
    fn name(self) -> &'static str {
        match self {
            Self::ViewPosition => "ViewPosition",
            Self::PatientOrientation => "PatientOrientation",
            Self::SeriesDescription => "SeriesDescription",
            Self::ProtocolName => "ProtocolName",
            Self::StudyDescription => "StudyDescription",
        }
    }

    /// The header's text; `None` for PatientOrientation, which is no text.
    fn text(self, facts: &DicomFacts) -> Option<&str> {
        match self {
            Self::ViewPosition => facts.view_position.as_deref(),
            Self::PatientOrientation => None,
            Self::SeriesDescription => facts.series_description.as_deref(),
            Self::ProtocolName => facts.protocol_name.as_deref(),
            Self::StudyDescription => facts.study_description.as_deref(),
        }
    }
}

/// What one place of the header says about the projection.
struct Sign<'a> {
    evidence: Evidence,
    projection: Projection,
    /// The word of the rules that was found.
    word: &'a str,
    /// Mirrored or turned.
    turned: bool,
}

impl SelectionRules {
    pub(super) fn judge_view(
        &self,
        facts: &DicomFacts,
        table_view: Option<&str>,
        flags: &mut Vec<&'static str>,
    ) -> Result<Option<String>, String> {
        let signs: Vec<Sign<'_>> = self.evidence.iter().filter_map(|&place| self.look(place, facts)).collect();
        if signs.iter().any(|sign| sign.turned) {
            flags.push(remark::MIRRORED);
        }
        if let Some(view) = table_view.and_then(known_view) {
            if !self.any_view {
                self.check_frontal(&view)?;
            }
            let said = self.view_in(&view, true);
            if signs.first().is_some_and(|sign| said.is_some_and(|(table, _)| table.contradicts(sign.projection))) {
                flags.push(remark::TABLE_DIFFERS);
            }
            return Ok(Some(view));
        }
        let view_position = facts.view_position.as_deref().and_then(known_view);
        let Some((first, others)) = signs.split_first() else {
            return match view_position {
                Some(name) if self.any_view => Ok(Some(name)),
                Some(name) if self.evidence.contains(&Evidence::ViewPosition) => Err(format!(
                    "its ViewPosition {name:?} is not known as frontal; add a view column to the table or a word to the rules (--rules)"
                )),
                _ => Ok(None),
            };
        };
        let view = match first.evidence {
            Evidence::ViewPosition => view_position,
            _ => Some(first.projection.name().to_owned()),
        };
        if self.any_view {
            return Ok(view);
        }
        let (place, word) = (first.evidence.name(), first.word);
        if !first.projection.is_frontal() {
            let what = first.projection.name();
            return Err(format!("{what} view ({place} says {word:?}); the study uses frontal ones"));
        }
        let others = others.iter().filter(|sign| sign.evidence != Evidence::StudyDescription);
        for other in others.filter(|sign| sign.projection.contradicts(first.projection)) {
            if !other.projection.is_frontal() && self.contradiction == Contradiction::Refuse {
                return Err(format!(
                    "the header contradicts itself: {place} says {word:?} and {} says {:?}; add a view column to the table",
                    other.evidence.name(),
                    other.word
                ));
            }
            if !flags.contains(&remark::VIEWS_DIFFER) {
                flags.push(remark::VIEWS_DIFFER);
            }
        }
        Ok(view)
    }

    /// What one place of the header says about the projection.
    fn look(&self, evidence: Evidence, facts: &DicomFacts) -> Option<Sign<'_>> {
        if evidence == Evidence::PatientOrientation {
            let (projection, word, turned) = orientation(facts.patient_orientation.as_deref()?)?;
            return Some(Sign { evidence, projection, word, turned });
        }
        let (projection, word) = self.view_in(evidence.text(facts)?, evidence == Evidence::ViewPosition)?;
        Some(Sign { evidence, projection, word, turned: false })
    }

    /// The projection that a text names and the word it was known by. With `codes` the text is a view's name: short
    /// codes count, and lateral wins over frontal (`AP LATERAL`); without, a text that names both says nothing.
    pub(crate) fn view_in(&self, text: &str, codes: bool) -> Option<(Projection, &str)> {
        let words = split(text);
        let [special, lateral] = [(&self.special, &self.special_codes), (&self.lateral, &self.lateral_codes)]
            .map(|(list, short)| list.first_in(&words).or(if codes { short.first_in(&words) } else { None }));
        if let Some(word) = special {
            return Some((Projection::Special, word));
        }
        let [ap, pa, portable, plain] =
            [&self.ap, &self.pa, &self.portable, &self.frontal].map(|list| list.first_in(&words));
        let frontal = match (ap, pa) {
            (Some(_), Some(word)) => Some((Projection::Frontal, word)),
            (Some(word), None) => Some((Projection::Ap, word)),
            (None, Some(word)) => Some((Projection::Pa, word)),
            (None, None) => {
                portable.map(|w| (Projection::Portable, w)).or_else(|| plain.map(|w| (Projection::Frontal, w)))
            }
        };
        match (frontal, lateral) {
            (Some(_), Some(_)) if !codes => None,
            (_, Some(word)) => Some((Projection::Lateral, word)),
            (frontal, None) => frontal,
        }
    }

    /// Whether a view's name, from a table or ViewPosition, is that of a frontal projection.
    ///
    /// # Errors
    /// The reason, naming the view.
    pub(crate) fn check_frontal(&self, name: &str) -> Result<(), String> {
        match self.view_in(name, true) {
            Some((projection, _)) if projection.is_frontal() => Ok(()),
            Some(_) => Err(format!("lateral or oblique view ({name}); the study uses frontal ones")),
            None => Err(format!("the view {name:?} is not known as frontal; correct the table or allow every view")),
        }
    }
}

/// The projection by PatientOrientation (PS3.3, C.7.6.1.1.1): where rows and columns point, as `L\F`. The word is what
/// it stands for; the last value says that left and right or up and down are not where a reader expects them.
fn orientation(text: &str) -> Option<(Projection, &'static str, bool)> {
    let upper = text.to_ascii_uppercase();
    let (row, column) = upper.split_once('\\')?;
    let (row, column) = (row.trim(), column.trim());
    if [row, column].iter().any(|d| d.is_empty() || d.len() > 3 || !d.chars().all(|c| "LRAPHF".contains(c))) {
        return None;
    }
    let begins = |direction: &str, letters: &str| direction.starts_with(|c: char| letters.contains(c));
    let expected = row.starts_with('L') && column.starts_with('F');
    let across = if begins(column, "HF") {
        row
    } else if begins(row, "HF") {
        column
    } else {
        return None;
    };
    let sideways = across.contains(['L', 'R']);
    let through = across.contains(['A', 'P']);
    match (sideways, through) {
        (true, true) => Some((Projection::Special, "oblique", false)),
        (true, false) => Some((Projection::Frontal, "left to right", !expected)),
        (false, true) => Some((Projection::Lateral, "front to back", false)),
        (false, false) => None,
    }
}
