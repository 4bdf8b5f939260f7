//! What an object is, its modality and its body part: the steps before the projection.

use super::words::split;
use super::{Action, Contradiction, SelectionRules, remark};
use crate::image::DicomFacts;

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
/// Objects that are no images, by the beginning of their SOP class UID.
const NO_IMAGES: [(&str, &str); 5] = [
    ("1.2.840.10008.5.1.4.1.1.11", "a presentation state: it says how another image is shown"),
    ("1.2.840.10008.5.1.4.1.1.88", "a structured report or a key object"),
    ("1.2.840.10008.5.1.4.1.1.104", "an encapsulated document"),
    ("1.2.840.10008.5.1.4.1.1.66", "a segmentation or other derived data"),
    ("1.2.840.10008.1.3.10", "the directory of a DICOM medium"),
];

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is used.
    Take {
        /// Its projection: as the table or ViewPosition has it, or AP, PA, portable, frontal. `None` if unknown.
        view: Option<String>,
        /// What people should know, as sentences that begin with a verb ("carry burnt-in annotations").
        flags: Vec<String>,
    },
    /// It is not.
    Refuse {
        /// Why, for people.
        reason: String,
    },
}

impl SelectionRules {
    /// Whether an image with this header is used. `table_view` is the labels table's view, which is believed more.
    #[must_use]
    pub fn judge(&self, facts: &DicomFacts, table_view: Option<&str>) -> Verdict {
        let mut flags = Vec::new();
        match self.steps(facts, table_view, &mut flags) {
            Ok(view) => Verdict::Take { view, flags: flags.into_iter().map(str::to_owned).collect() },
            Err(reason) => Verdict::Refuse { reason },
        }
    }

    /// The projection of an image that is used, or why it is not.
    fn steps(
        &self,
        facts: &DicomFacts,
        table_view: Option<&str>,
        flags: &mut Vec<&'static str>,
    ) -> Result<Option<String>, String> {
        self.judge_object(facts, flags)?;
        self.judge_modality(facts, flags)?;
        self.judge_body(facts, flags)?;
        self.judge_view(facts, table_view, flags)
    }

    fn judge_object(&self, facts: &DicomFacts, flags: &mut Vec<&'static str>) -> Result<(), String> {
        let class = facts.sop_class_uid.as_deref().unwrap_or("").trim();
        let is_class = |uid: &str| class.strip_prefix(uid).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if let Some((_, what)) = NO_IMAGES.iter().find(|(uid, _)| is_class(uid)) {
            return Err(format!("no image but {what}"));
        }
        if let Some(frames) = facts.number_of_frames.filter(|&n| n > 1) {
            return Err(format!("not one film: it has {frames} frames"));
        }
        let photometric = facts.photometric.as_deref().unwrap_or("").trim();
        if facts.samples_per_pixel.is_some_and(|n| n > 1)
            || ["RGB", "YBR", "PALETTE"].iter().any(|p| photometric.starts_with(p))
        {
            return Err(format!("a colour image ({photometric}); radiographs are grey"));
        }
        let is_type =
            |at: usize, name: &str| facts.image_type.get(at).is_some_and(|t| t.trim().eq_ignore_ascii_case(name));
        let is_converted = facts.conversion_type.is_some() && is_type(0, "DERIVED") && is_type(1, "SECONDARY");
        if is_class(SECONDARY_CAPTURE) || is_converted {
            let reason = "a secondary capture: a screenshot, a scanned film or a converted picture; --secondary-captures takes them";
            act(self.objects.secondary_capture, reason, remark::SECONDARY, flags)?;
        }
        let is =
            |value: &Option<String>, name: &str| value.as_deref().is_some_and(|v| v.trim().eq_ignore_ascii_case(name));
        if is(&facts.presentation_intent, "FOR PROCESSING") {
            let reason =
                "detector values FOR PROCESSING, unlike what a reader was shown; export the images FOR PRESENTATION";
            act(self.objects.for_processing, reason, remark::FOR_PROCESSING, flags)?;
        }
        if is(&facts.burned_in_annotation, "YES") {
            let reason = "text is burnt into the pixels, as the header says";
            act(self.objects.burnt_in_text, reason, remark::BURNT_IN, flags)?;
        }
        Ok(())
    }

    fn judge_modality(&self, facts: &DicomFacts, flags: &mut Vec<&'static str>) -> Result<(), String> {
        let Some(modality) = facts.modality.as_deref().map(str::trim).filter(|m| !m.is_empty()) else {
            flags.push(remark::NO_MODALITY);
            return Ok(());
        };
        let is_in = |list: &[String]| list.iter().any(|m| m.trim().eq_ignore_ascii_case(modality));
        if is_in(&self.modality.take) {
            return Ok(());
        }
        if is_in(&self.modality.flag) {
            flags.push(remark::OTHER_MODALITY);
            return Ok(());
        }
        let wanted: Vec<&str> = self.modality.take.iter().chain(&self.modality.flag).map(String::as_str).collect();
        Err(format!("the modality is {modality}, none of {}", wanted.join(", ")))
    }

    /// Chest or not: BodyPartExamined, then the texts. The first that says anything is believed.
    fn judge_body(&self, facts: &DicomFacts, flags: &mut Vec<&'static str>) -> Result<(), String> {
        if self.any_body_part {
            return Ok(());
        }
        let part = facts.body_part.as_deref().map(str::trim).filter(|p| !p.is_empty());
        let part = part.filter(|p| self.blank_parts.first_in(&split(p)).is_none());
        let places = [
            ("BodyPartExamined", part),
            ("SeriesDescription", facts.series_description.as_deref()),
            ("ProtocolName", facts.protocol_name.as_deref()),
            ("StudyDescription", facts.study_description.as_deref()),
        ];
        let mut chest_by: Option<&str> = None;
        for (place, text) in places {
            let words = split(text.unwrap_or(""));
            match (chest_by, self.chest.first_in(&words), self.other_parts.first_in(&words)) {
                (_, None, None) | (Some(_), Some(_), None) => {}
                (None, Some(_), None) => chest_by = Some(place),
                // Chest and more in one text is a chest, though perhaps on a larger film.
                (None, Some(_), Some(_)) => {
                    chest_by = Some(place);
                    flags.push(remark::MORE_BODY_PARTS);
                }
                (None, None, Some(word)) => return Err(format!("not a chest: {place} says {word:?}")),
                (Some(_), _, Some(_)) if place == "StudyDescription" => {}
                (Some(_), Some(_), Some(_)) => flags.push(remark::MORE_BODY_PARTS),
                (Some(first), None, Some(word)) if self.contradiction == Contradiction::Refuse => {
                    return Err(format!("the header contradicts itself: {first} says chest and {place} says {word:?}"));
                }
                (Some(_), None, Some(_)) => flags.push(remark::BODY_PARTS_DIFFER),
            }
        }
        match (chest_by, part) {
            (Some(_), _) => {}
            (None, Some(part)) => {
                return Err(format!(
                    "not a chest: BodyPartExamined is {part:?}, which the rules (--rules) do not know"
                ));
            }
            (None, None) => flags.push(remark::NO_BODY_PART),
        }
        flags.dedup();
        Ok(())
    }
}

fn act(action: Action, reason: &str, remark: &'static str, flags: &mut Vec<&'static str>) -> Result<(), String> {
    match action {
        Action::Refuse => return Err(reason.to_owned()),
        Action::Flag => flags.push(remark),
        Action::Take => {}
    }
    Ok(())
}
