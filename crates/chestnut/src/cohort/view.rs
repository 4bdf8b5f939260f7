//! Which projections a study uses.
//!
//! The paper keeps frontal images, taken antero-posterior, postero-anterior or portable (section 2.1;
//! protocol 1.2). Projections come from a column or from DICOM's ViewPosition (0018,5101), in
//! several spellings. Unknown is not lateral: such images pass, counted, and the summary says so.
//! Rules for whole hospitals (series texts, several languages) are not here.

use super::label_set::plain;

/// Which images pass by their projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ViewFilter {
    /// AP, PA and their variants such as `AP Supine`; an unknown projection passes with a warning.
    #[default]
    Frontal,
    /// This projection and its variants only (`PA`; `AP` takes `AP Supine` too); an unknown one is refused.
    Only(String),
    /// Every image.
    Any,
}

/// What a projection's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Projection {
    Frontal,
    Lateral,
    Other,
}

/// A name as given, or `None` if it says nothing.
pub(crate) fn known_view(name: &str) -> Option<String> {
    let name = name.trim();
    let nothing = matches!(plain(name).as_str(), "" | "unknown" | "unk" | "na" | "nan" | "none" | "null");
    (!nothing).then(|| name.to_owned())
}

/// The words of a name, in capitals.
fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_uppercase).collect()
}

fn projection(name: &str) -> Projection {
    const LATERAL: [&str; 12] =
        ["LATERAL", "LAT", "LL", "RL", "L", "LLD", "RLD", "LLO", "RLO", "OBLIQUE", "OBL", "DECUBITUS"];
    const FRONTAL: [&str; 5] = ["AP", "PA", "FRONTAL", "ANTEROPOSTERIOR", "POSTEROANTERIOR"];
    let words = words(name);
    let joined = words.concat();
    if words.iter().any(|w| LATERAL.contains(&w.as_str())) {
        Projection::Lateral
    } else if words.iter().any(|w| FRONTAL.contains(&w.as_str()))
        || joined.contains("ANTEROPOSTERIOR")
        || joined.contains("POSTEROANTERIOR")
    {
        Projection::Frontal
    } else {
        Projection::Other
    }
}

impl ViewFilter {
    /// Whether two names mean one projection, such as `AP` and `AP Supine`.
    pub(crate) fn same(a: &str, b: &str) -> bool {
        let (a, b) = (words(a), words(b));
        a.starts_with(&b) || b.starts_with(&a)
    }

    /// Whether an image of this projection is wanted; if not, why.
    ///
    /// # Errors
    /// The reason, naming the projection.
    pub(crate) fn check(&self, view: Option<&str>) -> Result<(), String> {
        match (self, view) {
            (Self::Any, _) | (Self::Frontal, None) => Ok(()),
            (Self::Frontal, Some(name)) => match projection(name) {
                Projection::Frontal => Ok(()),
                Projection::Lateral => Err(format!("lateral or oblique view ({name}); the study uses frontal ones")),
                Projection::Other => {
                    Err(format!("the view {name:?} is not known as frontal; correct the table or allow every view"))
                }
            },
            (Self::Only(wanted), None) => Err(format!("its view is not known, and only {wanted} is wanted")),
            (Self::Only(wanted), Some(name)) => {
                let is_variant = words(name).starts_with(&words(wanted));
                if is_variant { Ok(()) } else { Err(format!("the view is {name}, and only {wanted} is wanted")) }
            }
        }
    }
}

/// Whether DICOM's BodyPartExamined (0018,0015) can be a chest radiograph's; blank can.
pub(crate) fn is_chest(body_part: &str) -> bool {
    const PARTS: [&str; 7] = ["chest", "thora", "torax", "torace", "lung", "rib", "heart"];
    let part = plain(body_part);
    part.is_empty() || PARTS.iter().any(|p| part.contains(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontal_passes_lateral_does_not_and_unknown_passes() {
        for name in ["AP", "pa", "AP Supine", "PA erect", "Frontal", "Antero-posterior"] {
            assert_eq!(ViewFilter::Frontal.check(Some(name)), Ok(()), "{name}");
        }
        for name in ["LL", "Lateral", "RLO", "AP LATERAL", "skyline"] {
            let reason = ViewFilter::Frontal.check(Some(name)).expect_err(name);
            assert!(reason.contains(name), "{reason}");
            assert_eq!(ViewFilter::Any.check(Some(name)), Ok(()));
        }
        assert_eq!(ViewFilter::Frontal.check(None), Ok(()));
        assert_eq!(known_view(" NA "), None);
        assert_eq!(known_view(" PA "), Some("PA".to_owned()));
    }

    #[test]
    fn one_projection_can_be_wanted() {
        let ap = ViewFilter::Only("ap".to_owned());
        assert!(ap.check(Some("AP Supine")).is_ok());
        assert!(ap.check(Some("PA")).is_err());
        assert!(ap.check(None).is_err());
        assert!(ViewFilter::Only("AP supine".to_owned()).check(Some("AP")).is_err());
    }

    #[test]
    fn one_projection_has_several_names() {
        assert!(ViewFilter::same("AP", "ap supine") && ViewFilter::same("AP SUPINE", "AP"));
        assert!(!ViewFilter::same("AP", "PA"));
    }

    #[test]
    fn a_hip_is_not_a_chest() {
        assert!(is_chest("CHEST") && is_chest("") && is_chest("PORT CHEST") && is_chest("Thorax"));
        assert!(!is_chest("HIP"));
    }
}
