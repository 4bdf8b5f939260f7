//! Which projections a study uses.
//!
//! The paper keeps frontal images, taken antero-posterior, postero-anterior or portable (section 2.1;
//! protocol 1.2). Projections come from a column of the table or from the DICOM header, in many spellings: what a name
//! means is for the rules to say ([`super::rules`]). Unknown is not lateral: such images pass, counted, and the
//! summary says so.

use super::label_set::plain;
use super::rules::SelectionRules;

/// Name of the filter that takes every image.
const ANY: &str = "any";

/// Which images pass by their projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ViewFilter {
    /// AP, PA, portable and their variants such as `AP Supine`; an unknown projection passes with a warning.
    #[default]
    Frontal,
    /// This projection and its variants only (`PA`; `AP` takes `AP Supine` too); an unknown one is refused.
    Only(String),
    /// Every image.
    Any,
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

impl ViewFilter {
    /// The filter that `ingest --view` and `study.toml` name: nothing for all frontal ones, `any`, or one projection.
    #[must_use]
    pub fn named(name: Option<&str>) -> Self {
        match name {
            None => Self::Frontal,
            Some(name) if name.eq_ignore_ascii_case(ANY) => Self::Any,
            Some(name) => Self::Only(name.to_owned()),
        }
    }

    /// The name by which [`ViewFilter::named`] gives it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Frontal => None,
            Self::Any => Some(ANY),
            Self::Only(wanted) => Some(wanted),
        }
    }

    /// Whether an image of this projection is wanted; if not, why. `rules` know the names.
    ///
    /// # Errors
    /// The reason, naming the projection.
    pub(crate) fn check(&self, view: Option<&str>, rules: &SelectionRules) -> Result<(), String> {
        match (self, view) {
            (Self::Any, _) | (Self::Frontal, None) => Ok(()),
            (Self::Frontal, Some(name)) => rules.check_frontal(name),
            (Self::Only(wanted), None) => Err(format!("its view is not known, and only {wanted} is wanted")),
            (Self::Only(wanted), Some(name)) => {
                let is_variant = words(name).starts_with(&words(wanted));
                if is_variant { Ok(()) } else { Err(format!("the view is {name}, and only {wanted} is wanted")) }
            }
        }
    }

    /// Whether an image that is not frontal may be wanted.
    pub(crate) fn takes_other_views(&self, rules: &SelectionRules) -> bool {
        match self {
            Self::Frontal => false,
            Self::Any => true,
            Self::Only(wanted) => rules.check_frontal(wanted).is_err(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontal_passes_lateral_does_not_and_unknown_passes() {
        let rules = SelectionRules::default();
        for name in ["AP", "pa", "AP Supine", "PA erect", "Frontal", "Antero-posterior", "portable", "a letto"] {
            assert_eq!(ViewFilter::Frontal.check(Some(name), &rules), Ok(()), "{name}");
        }
        for name in ["LL", "Lateral", "RLO", "AP LATERAL", "skyline"] {
            let reason = ViewFilter::Frontal.check(Some(name), &rules).expect_err(name);
            assert!(reason.contains(name), "{reason}");
            assert_eq!(ViewFilter::Any.check(Some(name), &rules), Ok(()));
        }
        assert_eq!(ViewFilter::Frontal.check(None, &rules), Ok(()));
        assert_eq!(known_view(" NA "), None);
        assert_eq!(known_view(" PA "), Some("PA".to_owned()));
    }

    #[test]
    fn one_projection_can_be_wanted() {
        let rules = SelectionRules::default();
        let ap = ViewFilter::Only("ap".to_owned());
        assert!(ap.check(Some("AP Supine"), &rules).is_ok());
        assert!(ap.check(Some("PA"), &rules).is_err());
        assert!(ap.check(None, &rules).is_err());
        assert!(ViewFilter::Only("AP supine".to_owned()).check(Some("AP"), &rules).is_err());
        assert!(!ap.takes_other_views(&rules) && ViewFilter::Only("LL".to_owned()).takes_other_views(&rules));
        for filter in [ViewFilter::Frontal, ViewFilter::Any, ap] {
            assert_eq!(ViewFilter::named(filter.name()), filter);
        }
    }
}
