//! The same picture twice, and what follows for patients.
//!
//! Public sets hold films stored twice, under one patient or under two. Twice under one patient with
//! the same labels counts a film double: the second is refused. Under two patients it would leak from
//! training to test: the two are treated as one patient, so that no split can part them
//! (design rule 1). Which pictures look alike is `image::fingerprint`'s to say, not this module's.

use std::collections::{BTreeMap, BTreeSet};

use super::{CohortImage, Reject, Stage};

/// Most pairs that one warning lists.
const MAX_NAMED: usize = 5;

/// What becomes of a second copy of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copies {
    /// Refused, if it is the same file or has the same patient and labels.
    #[default]
    Refuse,
    /// Kept, with a warning.
    Keep,
}

/// What becomes of two patients who share a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedPicture {
    /// They count as one patient from here on.
    #[default]
    MergePatients,
    /// They stay two, with a warning of the leak.
    WarnOnly,
}

/// What [`settle`] leaves.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) images: Vec<CohortImage>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) warnings: Vec<String>,
}

/// Decides on equal and near-identical images.
///
/// `images` are sorted by id and hold patient ids as they came; `near[i]` lists the earlier images
/// that look like image `i`; `name` turns a patient id into what outputs may show.
pub(crate) fn settle(
    mut images: Vec<CohortImage>,
    near: &[Vec<usize>],
    copies: Copies,
    shared: SharedPicture,
    name: &dyn Fn(&str) -> String,
) -> Settled {
    assert_eq!(images.len(), near.len(), "one list of neighbours per image");
    let mut settled = Settled::default();
    // The image that stands for image i: itself unless refused.
    let mut stands_for: Vec<usize> = (0..images.len()).collect();
    let mut first_of_file: BTreeMap<&str, usize> = BTreeMap::new();
    let mut two_patients: Vec<(usize, usize)> = Vec::new();
    let mut other_labels: Vec<(usize, usize)> = Vec::new();
    let mut kept_copies: Vec<(usize, usize)> = Vec::new();
    for (i, image) in images.iter().enumerate() {
        let same_file = first_of_file.get(image.sha256.as_str()).copied();
        if same_file.is_none() {
            first_of_file.insert(&image.sha256, i);
        }
        let alike: BTreeSet<usize> = near[i].iter().copied().chain(same_file).map(|j| stands_for[j]).collect();
        let mut copy_of = None;
        for &j in &alike {
            let other = &images[j];
            let is_file = same_file.is_some_and(|first| stands_for[first] == j);
            if other.patient != image.patient {
                two_patients.push((j, i));
            }
            if other.labels != image.labels && (is_file || other.patient == image.patient) {
                other_labels.push((j, i));
            }
            if is_file || (other.patient == image.patient && other.labels == image.labels) {
                // The same file tells more than a likeness.
                copy_of = if is_file { Some((j, true)) } else { copy_of.or(Some((j, false))) };
            }
        }
        let Some((first, is_file)) = copy_of else { continue };
        if copies == Copies::Keep {
            kept_copies.push((first, i));
            continue;
        }
        stands_for[i] = first;
        let other = &images[first];
        let mut reason = if is_file {
            format!("same file as {}, which is kept", other.id)
        } else {
            format!("looks like {}, which is kept: same patient, same labels", other.id)
        };
        if other.labels != image.labels {
            reason.push_str(&format!("; their labels differ, check rows {} and {}", other.row, image.row));
        }
        settled.rejects.push(Reject { item: image.id.clone(), row: Some(image.row), stage: Stage::Duplicate, reason });
    }
    drop(first_of_file);

    settled.warnings.extend(warn(&images, &kept_copies, name, "are copies of one picture and are both kept"));
    settled.warnings.extend(warn(
        &images,
        &other_labels,
        name,
        "look like one picture but have different labels; check their rows",
    ));
    let consequence = match shared {
        SharedPicture::MergePatients => {
            "look like one picture but belong to two patients, who now count as one so that no split can part them"
        }
        SharedPicture::WarnOnly => {
            "look like one picture but belong to two patients: a leak if one is trained on and the other tested"
        }
    };
    settled.warnings.extend(warn(&images, &two_patients, name, consequence));

    let mut represent: BTreeMap<String, String> = BTreeMap::new();
    if shared == SharedPicture::MergePatients {
        represent = merge(two_patients.iter().map(|&(a, b)| (images[a].patient.as_str(), images[b].patient.as_str())));
        settled.warnings.extend(warn_of_large_groups(&represent));
    }
    for image in &mut images {
        let patient = represent.get(&image.patient).unwrap_or(&image.patient);
        image.patient = name(patient);
    }
    settled.images =
        images.into_iter().enumerate().filter(|(i, _)| stands_for[*i] == *i).map(|(_, image)| image).collect();
    settled
}

fn warn(images: &[CohortImage], pairs: &[(usize, usize)], name: &dyn Fn(&str) -> String, what: &str) -> Option<String> {
    if pairs.is_empty() {
        return None;
    }
    let list: Vec<String> = pairs
        .iter()
        .take(MAX_NAMED)
        .map(|&(a, b)| {
            let (a, b) = (&images[a], &images[b]);
            if a.patient == b.patient {
                format!("{} and {}", a.id, b.id)
            } else {
                format!("{} and {} ({}, {})", a.id, b.id, name(&a.patient), name(&b.patient))
            }
        })
        .collect();
    let more = if pairs.len() > MAX_NAMED { ", ..." } else { "" };
    {
        let pair = if pairs.len() == 1 { "pair" } else { "pairs" };
        Some(format!("{} {pair} of images {what}: {}{more}", pairs.len(), list.join(", ")))
    }
}

/// Each patient of the linked pairs, with the smallest id of all patients it is linked to.
fn merge<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let mut parent: BTreeMap<&str, &str> = BTreeMap::new();
    for (a, b) in pairs {
        parent.entry(a).or_insert(a);
        parent.entry(b).or_insert(b);
        let (a, b) = (root(&parent, a), root(&parent, b));
        // The smaller id becomes the root, whatever the order of the pairs.
        parent.insert(a.max(b), a.min(b));
    }
    parent.keys().map(|&id| (id.to_owned(), root(&parent, id).to_owned())).collect()
}

/// The patient that stands for `id`.
fn root<'a>(parent: &BTreeMap<&'a str, &'a str>, mut id: &'a str) -> &'a str {
    while let Some(&up) = parent.get(id) {
        if up == id {
            break;
        }
        id = up;
    }
    id
}

/// Many patients in one group are rarely one patient: more likely blank or test images.
fn warn_of_large_groups(represent: &BTreeMap<String, String>) -> Option<String> {
    const MANY: usize = 5;
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for root in represent.values() {
        *sizes.entry(root).or_default() += 1;
    }
    let largest = sizes.values().copied().max().unwrap_or(0);
    (largest > MANY).then(|| {
        format!("{largest} patients are linked to one by pictures that look alike; look at these images: they may be blank or test images")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;

    fn run(images: Vec<CohortImage>, near: &[&[usize]], shared: SharedPicture) -> Settled {
        let near: Vec<Vec<usize>> = near.iter().map(|n| n.to_vec()).collect();
        settle(images, &near, Copies::Refuse, shared, &|id| format!("<{id}>"))
    }

    fn patients(settled: &Settled) -> Vec<&str> {
        settled.images.iter().map(|i| i.patient.as_str()).collect()
    }

    #[test]
    fn a_second_copy_is_refused_but_other_labels_are_kept() {
        let images = vec![image("a", "1", "+"), image("b", "1", "+"), image("c", "1", "-"), image("d", "1", "+")];
        // d looks like b, which is refused as a copy of a: d is then a copy of a.
        let settled = run(images, &[&[], &[0], &[0], &[1]], SharedPicture::MergePatients);
        assert_eq!(settled.images.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(settled.rejects.len(), 2);
        assert!(settled.rejects.iter().all(|r| r.reason.contains("looks like a,")), "{:?}", settled.rejects);
        assert_eq!(settled.warnings.len(), 1, "{:?}", settled.warnings);
    }

    #[test]
    fn the_same_file_under_other_labels_or_patient() {
        let mut images = vec![image("a", "2", "+"), image("b", "1", "-"), image("c", "1", "-")];
        images[1].sha256 = images[0].sha256.clone();
        let settled = run(images, &[&[], &[], &[]], SharedPicture::MergePatients);
        assert_eq!(settled.rejects.len(), 1);
        assert!(settled.rejects[0].reason.contains("labels differ"), "{:?}", settled.rejects);
        assert_eq!(patients(&settled), ["<1>", "<1>"], "patients 1 and 2 share a film");
        assert_eq!(settled.warnings.len(), 2, "{:?}", settled.warnings);
    }

    #[test]
    fn patients_who_share_a_picture_are_one_or_warned_of() {
        let images = || vec![image("a", "3", "+"), image("b", "2", "+"), image("c", "1", "+"), image("d", "4", "+")];
        let near: [&[usize]; 4] = [&[], &[0], &[1], &[]];
        let merged = run(images(), &near, SharedPicture::MergePatients);
        assert_eq!(patients(&merged), ["<1>", "<1>", "<1>", "<4>"]);
        let warned = run(images(), &near, SharedPicture::WarnOnly);
        assert_eq!(patients(&warned), ["<3>", "<2>", "<1>", "<4>"]);
        for settled in [merged, warned] {
            assert!(settled.rejects.is_empty());
            assert!(settled.warnings[0].contains("a and b (<3>, <2>)"), "{:?}", settled.warnings);
        }
    }

    #[test]
    fn copies_can_be_kept() {
        let images = vec![image("a", "1", "+"), image("b", "1", "+")];
        let settled = settle(images, &[vec![], vec![0]], Copies::Keep, SharedPicture::default(), &|id| id.to_owned());
        assert_eq!((settled.images.len(), settled.rejects.len(), settled.warnings.len()), (2, 0, 1));
    }

    #[test]
    fn merging_does_not_depend_on_the_order() {
        let forward = merge([("d", "c"), ("c", "b"), ("b", "a"), ("x", "y")].into_iter());
        let backward = merge([("y", "x"), ("a", "b"), ("b", "c"), ("c", "d")].into_iter());
        assert_eq!(forward, backward);
        assert_eq!(forward["d"], "a");
        assert_eq!(forward["y"], "x");
    }
}
