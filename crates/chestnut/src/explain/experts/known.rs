//! Which image and which label of the study is meant by a name in somebody else's file.
//!
//! A study knows an image by its path below the image folder. Others write the bare file name, leave out the ending,
//! put `_` for `/` (CheXlocalize) or write a longer path. A name that fits several images fits none.

use std::collections::BTreeMap;

use super::ExpertError;
use crate::cohort::Cohort;
use crate::cohort::label_set::plain;

/// Endings of image files that a name may have or lack.
const ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "dcm", "dicom", "dic", "ima"];
/// Labels that another data set calls otherwise, where only one of the two names is in the study: (there, here).
/// CheXlocalize says Airspace Opacity for CheXpert's Lung Opacity.
const OTHER_NAMES: [(&str, &str); 1] = [("airspaceopacity", "lungopacity")];

/// An image of the study and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownImage {
    /// Path below the image folder, with `/` between its parts.
    pub id: String,
    /// Columns of the original image.
    pub width: usize,
    /// Rows of the original image.
    pub height: usize,
}

/// Images and labels of a study, to be found by the names that experts' files use.
#[derive(Clone, Debug)]
pub struct Known {
    pub(super) images: Vec<KnownImage>,
    pub(super) labels: Vec<String>,
    exact: BTreeMap<String, usize>,
    /// Whole paths without their endings; `None` where several images share one.
    whole: BTreeMap<String, Option<usize>>,
    /// Shorter and respelled names, likewise.
    loose: BTreeMap<String, Option<usize>>,
    label_of: BTreeMap<String, usize>,
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    One(usize),
    Several,
    None,
}

impl Known {
    /// `renamed` gives the study's label for names in the experts' files, such as `left_lung` to `Lung`; several names
    /// may lead to one label. Case, spaces and punctuation do not count.
    ///
    /// # Errors
    /// [`ExpertError::Renamed`] if a name leads to a label that the study does not have.
    pub fn new(
        images: Vec<KnownImage>,
        labels: &[String],
        renamed: &BTreeMap<String, String>,
    ) -> Result<Self, ExpertError> {
        let mut label_of: BTreeMap<String, usize> = BTreeMap::new();
        for (number, label) in labels.iter().enumerate() {
            label_of.entry(plain(label)).or_insert(number);
        }
        for (there, here) in OTHER_NAMES {
            if let Some(&number) = label_of.get(here) {
                label_of.entry(there.to_owned()).or_insert(number);
            }
        }
        for (there, here) in renamed {
            let number = labels.iter().position(|label| plain(label) == plain(here)).ok_or_else(|| {
                ExpertError::Renamed { there: there.clone(), here: here.clone(), labels: labels.join(", ") }
            })?;
            label_of.insert(plain(there), number);
        }
        let mut exact = BTreeMap::new();
        let (mut whole, mut loose) = (BTreeMap::new(), BTreeMap::new());
        for (i, image) in images.iter().enumerate() {
            exact.insert(image.id.clone(), i);
            enter(&mut whole, without_ending(&image.id).to_owned(), i);
            names_of(&image.id).into_iter().for_each(|name| enter(&mut loose, name, i));
        }
        Ok(Self { images, labels: labels.to_vec(), exact, whole, loose, label_of })
    }

    /// All images and labels of a cohort; `renamed` as for [`Known::new`].
    ///
    /// # Errors
    /// As [`Known::new`].
    pub fn of_cohort(cohort: &Cohort, renamed: &BTreeMap<String, String>) -> Result<Self, ExpertError> {
        let images = cohort.images.iter();
        let images = images.map(|i| KnownImage { id: i.id.clone(), width: i.width, height: i.height }).collect();
        Self::new(images, &cohort.label_names, renamed)
    }

    pub(super) fn image(&self, name: &str) -> Match {
        let name = name.trim().replace('\\', "/");
        let name = name.trim_start_matches("./").trim_matches('/');
        if let Some(&image) = self.exact.get(name) {
            return Match::One(image);
        }
        for candidate in [name, without_ending(name)] {
            match self.loose.get(candidate) {
                Some(&Some(image)) => return Match::One(image),
                Some(None) => return Match::Several,
                None => {}
            }
        }
        // Folders above the image folder may be left out, but what remains must be the whole path of an image: else
        // `p2/view1` would be taken for `p1/view1` where the study does not have the former.
        for (slash, _) in name.match_indices('/') {
            let tail = &name[slash + 1..];
            let found = self.exact.get(tail).copied().or_else(|| *self.whole.get(without_ending(tail))?);
            if let Some(image) = found {
                return Match::One(image);
            }
        }
        Match::None
    }

    pub(super) fn label(&self, name: &str) -> Option<usize> {
        self.label_of.get(&plain(name)).copied()
    }
}

/// Notes that `name` means image `i`, or nothing if it means another one too.
fn enter(names: &mut BTreeMap<String, Option<usize>>, name: String, i: usize) {
    names.entry(name).and_modify(|found| *found = found.filter(|&other| other == i)).or_insert(Some(i));
}

/// The path and each of its tails: with and without its ending, and with `_` for `/`.
fn names_of(id: &str) -> Vec<String> {
    let parts: Vec<&str> = id.split('/').collect();
    let mut names = Vec::with_capacity(4 * parts.len());
    for from in 0..parts.len() {
        let tail = parts[from..].join("/");
        let short = without_ending(&tail).to_owned();
        names.extend([tail.replace('/', "_"), short.replace('/', "_"), tail, short]);
    }
    names
}

/// The name without the ending of an image file; other dots belong to the name, as in a DICOM identifier.
pub(in crate::explain) fn without_ending(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e)) && !stem.is_empty() => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let ids = ["p1/study1/view1.jpg", "p2/study1/view1.jpg", "solo.png", "1.2.840.5", "1.2.840.6"];
        let images = ids.map(|id| KnownImage { id: id.to_owned(), width: 40, height: 50 }).to_vec();
        let labels = ["Lung Opacity".to_owned(), "PNX".to_owned()];
        let renamed = BTreeMap::from([("pneumothorax".to_owned(), "pnx".to_owned())]);
        Known::new(images, &labels, &renamed).expect("labels that exist")
    }

    #[test]
    fn images_are_found_by_the_names_that_others_use() {
        let known = known();
        for (name, expected) in [
            ("p1/study1/view1.jpg", Match::One(0)),
            ("p2_study1_view1", Match::One(1)),
            ("CheXpert/valid/p2/study1/view1.jpg", Match::One(1)),
            ("p1\\study1\\view1.png", Match::One(0)),
            ("view1.jpg", Match::Several),
            ("p9/study1/view1.jpg", Match::None),
            ("images/solo.jpg", Match::One(2)),
            ("solo", Match::One(2)),
            ("solo.JPG", Match::One(2)),
            ("1.2.840.6", Match::One(4)),
            ("1.2.840", Match::None),
            ("", Match::None),
        ] {
            assert_eq!(known.image(name), expected, "{name}");
        }
    }

    #[test]
    fn labels_are_found_by_spelling_and_by_renaming() {
        let known = known();
        assert_eq!(known.label("lung_opacity"), Some(0));
        assert_eq!(known.label("Airspace Opacity"), Some(0));
        assert_eq!(known.label("Pneumothorax"), Some(1));
        assert_eq!(known.label("Edema"), None);
        let wrong = BTreeMap::from([("x".to_owned(), "no such".to_owned())]);
        let error = Known::new(Vec::new(), &["PNX".to_owned()], &wrong).expect_err("no such label");
        assert!(error.to_string().contains("no such") && error.to_string().contains("PNX"), "{error}");
    }
}
