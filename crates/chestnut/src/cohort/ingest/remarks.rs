//! What people should know of the images that were taken, in sentences with counts and the first names.
//!
//! Nothing is changed here and nothing is refused: a false polarity, a border, a missing patient id need somebody who
//! knows where the images come from.

use std::collections::BTreeMap;

use super::super::Cohort;
use super::super::blank::BlankRules;
use super::Taken;
use crate::image::Flag;

/// Most image names that one sentence lists.
const MAX_NAMED: usize = 3;
/// Most kinds of remarks that are listed.
const MAX_REMARKS: usize = 40;
/// Below this many images nothing is said about polarity: there is no usual score to compare with.
const MIN_FILMS: usize = 20;
/// An image this many robust standard deviations from the median, on the other side of 0, looks inverted.
const FAR: f32 = 4.0;
/// Least standard deviation of the scores, so that a few wide ones do not stand out of equal ones.
const MIN_SPREAD: f32 = 0.05;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_DEVIATION: f32 = 1.4826;

/// Patients, views, colours, and the remarks of rules and decoder.
pub(super) fn on_images(taken: &[Taken], has_patients: bool) -> Vec<String> {
    let count = |what: fn(&Taken) -> bool| taken.iter().filter(|t| what(t)).count();
    let mut sentences = Vec::new();
    let own = count(|t| t.own_patient);
    if own > 0 {
        let why = if has_patients { "no patient id in their row" } else { "no patient column in the labels table" };
        sentences.push(format!(
            "{own} images have no patient id ({why}): each counts as a patient of its own, and images of one person may \
             be trained on and tested; name the column with --patient if there is one"
        ));
    }
    let unknown = count(|t| t.image.view.is_none());
    if unknown > 0 {
        sentences.push(format!("{unknown} images have no known view and were taken; laterals may be among them"));
    }
    let colour = count(|t| t.colour);
    if colour > 0 {
        sentences
            .push(format!("{colour} images have colours and were read as grey; look for photographs and drawn marks"));
    }
    let mut images_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in taken {
        for remark in &one.remarks {
            images_of.entry(remark).or_default().push(&one.image.id);
        }
    }
    let kinds = images_of.len();
    for (remark, images) in images_of.iter().take(MAX_REMARKS) {
        sentences.push(format!("{} images {remark} ({})", images.len(), named(images)));
    }
    if kinds > MAX_REMARKS {
        sentences.push(format!("and {} more kinds of remarks on single images", kinds - MAX_REMARKS));
    }
    sentences
}

/// A decoder's flag as a remark, without numbers, so that images with the same one are counted together.
pub(super) fn on_flag(flag: &Flag) -> Option<String> {
    let remark = match flag.code() {
        // The rules speak of these, and may refuse them.
        "for_processing" | "burned_in_annotation" => return None,
        "pixels_padded" => "have padded pixels, which count as the least value of the film",
        "aspect_resampled" => "have pixels that are not square and were resampled to square ones",
        "black_border" => "have a black border, which was not cropped",
        "white_border" => "have a white border, which was not cropped; look whether they are negatives",
        "lossy" => "were compressed with losses at some time",
        _ => return Some(format!("carry a remark: {flag}")),
    };
    Some(remark.to_owned())
}

/// How many images had regions blanked.
pub(super) fn on_blanking(taken: &[Taken], rules: &BlankRules) -> Option<String> {
    if rules.is_empty() {
        return None;
    }
    let blanked = taken.iter().filter(|t| t.blanked).count();
    Some(match blanked {
        0 => "no image fits the blank regions; check their conditions".to_owned(),
        _ => format!("{blanked} of {} images had regions blanked, as asked", taken.len()),
    })
}

/// Images that look like the negative of the others, or all of them if most do.
pub(super) fn on_polarity(taken: &[Taken]) -> Option<String> {
    let scores: Vec<(&str, f32)> = taken.iter().map(|t| (t.image.id.as_str(), t.inverted)).collect();
    polarity(&scores)
}

fn polarity(scores: &[(&str, f32)]) -> Option<String> {
    if scores.len() < MIN_FILMS {
        return None;
    }
    let center = median(scores.iter().map(|&(_, score)| score).collect());
    if center > 0.0 {
        return Some(
            "most images look inverted (dark bone); look at the contact sheet and at PhotometricInterpretation"
                .to_owned(),
        );
    }
    let spread = median(scores.iter().map(|&(_, score)| (score - center).abs()).collect()) * MAD_TO_DEVIATION;
    let is_odd = |score: f32| score > 0.0 && score - center > FAR * spread.max(MIN_SPREAD);
    let odd: Vec<&str> = scores.iter().filter(|&&(_, score)| is_odd(score)).map(|&(id, _)| id).collect();
    (!odd.is_empty()).then(|| {
        format!(
            "{} images look inverted beside the others ({}); they were not changed: look at them, and at \
             PhotometricInterpretation if they are DICOM",
            odd.len(),
            named(&odd)
        )
    })
}

/// The middle value; the lower one of two. 0 of none.
fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

fn named(images: &[&str]) -> String {
    let first = images[..images.len().min(MAX_NAMED)].join(", ");
    if images.len() > MAX_NAMED { format!("{first} ...") } else { first }
}

/// Labels that cannot be scored, in words.
pub(super) fn on_labels(cohort: &Cohort) -> Vec<String> {
    let mut sentences = Vec::new();
    for (index, label) in cohort.label_names.iter().enumerate() {
        let (positives, negatives, unknown) = cohort.label_counts(index);
        let what = match (positives, negatives) {
            _ if cohort.images.is_empty() => continue,
            (0, 0) => format!("no known value in {unknown} images"),
            (0, _) => "no positive image".to_owned(),
            (_, 0) => "no negative image".to_owned(),
            _ => continue,
        };
        sentences.push(format!("the label {label} has {what}: it cannot be learned or scored"));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_negatives_among_films_are_named_and_a_cohort_of_negatives_is_said() {
        let names: Vec<String> = (0..30).map(|i| format!("{i:02}.dcm")).collect();
        let with = |score: fn(usize) -> f32| {
            let scores: Vec<(&str, f32)> = names.iter().enumerate().map(|(i, n)| (n.as_str(), score(i))).collect();
            polarity(&scores)
        };
        let usual = |i: usize| -0.6 + 0.02 * (i % 7) as f32;
        assert_eq!(with(usual), None);
        let two = with(|i| if i == 3 || i == 9 { 0.5 } else { -0.6 + 0.02 * (i % 7) as f32 }).expect("a warning");
        assert!(two.starts_with("2 images") && two.contains("03.dcm, 09.dcm"), "{two}");
        // A narrow crop scores near 0 and is no negative.
        assert_eq!(with(|i| if i == 3 { -0.1 } else { -0.6 + 0.02 * (i % 7) as f32 }), None);
        assert!(with(|i| 0.6 - 0.02 * (i % 7) as f32).expect("a warning").contains("most images"));
        assert_eq!(polarity(&[("a", 0.9); 19]), None, "too few to compare");
        assert_eq!(median(Vec::new()), 0.0);
    }
}
