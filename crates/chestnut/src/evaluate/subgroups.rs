//! AUC by sex, age, view and manufacturer: does a method fail some patients?
//!
//! Groups are of the test part, as `cohort.csv` names them. A group with fewer than ten positives or ten negatives gets
//! no number: its interval would span half the scale and still be read as a finding. No test between groups is made;
//! with four variables and seven labels some would differ by chance alone.

use super::detail::Tested;
use super::results::{SubgroupRow, Subgroups};
use super::{FEW_POSITIVES, LEVEL};
use crate::cohort::CohortImage;
use chestnut_stats::delong;
use std::collections::BTreeMap;

/// Ages in years: the end of each band (not in it) and its name.
const AGE_BANDS: [(f32, &str); 5] =
    [(18.0, "0 to 17"), (40.0, "18 to 39"), (60.0, "40 to 59"), (80.0, "60 to 79"), (f32::INFINITY, "80 and over")];
/// Group of the images that do not say.
const UNKNOWN: &str = "unknown";

/// Where a group stands among those of its variable, and its name.
type Group = (usize, String);

/// A variable's name, and the group of an image.
type Variable = (&'static str, fn(&CohortImage) -> Group);

/// What images are grouped by.
const VARIABLES: [Variable; 4] = [
    ("sex", |image| named(image.sex.map(String::from).as_deref())),
    ("age", |image| age_band(image.age_years)),
    ("view", |image| named(image.view.as_deref())),
    ("manufacturer", |image| named(image.manufacturer.as_deref())),
];

/// AUC of each label in each group, by variable, group and label; `images` are the rows of the test part.
///
/// Names that differ in case or in spaces at their ends are one group. Intervals are DeLong's on the logit scale, patients
/// as clusters.
///
/// # Panics
/// If the tables do not have one value per row and label, or there is not one image per row.
#[must_use]
pub fn subgroups(tested: &Tested<'_>, images: &[&CohortImage]) -> Subgroups {
    tested.assert_shape();
    assert_eq!(images.len(), tested.rows(), "one image per test row");
    let columns: Vec<(Vec<f64>, Vec<Option<bool>>)> = (0..tested.labels.len()).map(|k| tested.column(k)).collect();
    let mut rows = Vec::new();
    for (variable, group_of) in VARIABLES {
        for (group, members) in groups(images, group_of) {
            for (k, (scores, truth)) in columns.iter().enumerate() {
                let known = members.iter().filter_map(|&row| Some((scores[row], (truth[row]?, tested.patients[row]))));
                let (scores, (truth, patients)): (Vec<f64>, (Vec<bool>, Vec<&str>)) = known.unzip();
                let (auc, interval, reason) = match tested.untrained(k) {
                    Some(reason) => (None, None, Some(reason.to_owned())),
                    None => estimate(&scores, &truth, &patients),
                };
                rows.push(SubgroupRow {
                    variable: variable.to_owned(),
                    group: group.clone(),
                    label: tested.labels[k].clone(),
                    images: truth.len(),
                    positives: truth.iter().filter(|&&t| t).count(),
                    auc,
                    interval,
                    reason,
                });
            }
        }
    }
    Subgroups { approach: tested.approach.to_owned(), source: tested.source.to_owned(), rows }
}

/// Groups in order, each with its rows; the name is the first spelling in alphabetical order.
fn groups(images: &[&CohortImage], group_of: fn(&CohortImage) -> Group) -> Vec<(String, Vec<usize>)> {
    let mut found: BTreeMap<Group, (String, Vec<usize>)> = BTreeMap::new();
    for (row, image) in images.iter().enumerate() {
        let (place, name) = group_of(image);
        let (spelling, rows) = found.entry((place, name.to_lowercase())).or_insert_with(|| (name.clone(), Vec::new()));
        if name < *spelling {
            *spelling = name;
        }
        rows.push(row);
    }
    found.into_values().collect()
}

fn named(name: Option<&str>) -> Group {
    match name.map(str::trim) {
        Some(name) if !name.is_empty() && !name.eq_ignore_ascii_case(UNKNOWN) => (0, name.to_owned()),
        _ => unknown(),
    }
}

fn unknown() -> Group {
    (usize::MAX, UNKNOWN.to_owned())
}

fn age_band(age: Option<f32>) -> Group {
    let age = age.filter(|age| age.is_finite() && *age >= 0.0);
    let band = age.and_then(|age| AGE_BANDS.iter().position(|band| age < band.0));
    band.map_or_else(unknown, |band| (band, AGE_BANDS[band].1.to_owned()))
}

/// AUC, interval, and why either is missing.
fn estimate(scores: &[f64], truth: &[bool], patients: &[&str]) -> (Option<f64>, Option<[f64; 2]>, Option<String>) {
    let positives = truth.iter().filter(|&&t| t).count();
    let negatives = truth.len() - positives;
    if positives.min(negatives) < FEW_POSITIVES {
        let reason = format!(
            "too few to say: {positives} positive and {negatives} negative images; at least {FEW_POSITIVES} of each \
             are needed"
        );
        return (None, None, Some(reason));
    }
    match delong::delong_clustered(scores, truth, patients).and_then(|d| Ok((d.auc, d.logit_interval(LEVEL)?))) {
        Ok((auc, interval)) => (Some(auc), Some([interval.low, interval.high]), None),
        Err(e) => (None, None, Some(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::tests::image;
    use chestnut_stats::random::Stream;

    fn tested<'a>(labels: &'a [String], test: &'a [f64], truth: &'a [Option<bool>], who: &'a [&'a str]) -> Tested<'a> {
        let (approach, source) = ("Embeddings + RF", "Average");
        Tested { approach, source, labels, test, truth, patients: who, untrained: &[], out_of_fold: None }
    }

    #[test]
    fn worked_example() {
        // 20 women: nine of ten positives at 0.8, one at 0.2 like the ten negatives. 20 men: five positives.
        let mut images: Vec<CohortImage> = (0..40).map(|i| image(&format!("{i:02}"), "p", "?")).collect();
        for (i, image) in images.iter_mut().enumerate() {
            image.sex = Some(if i < 20 { 'F' } else { 'M' });
        }
        let images: Vec<&CohortImage> = images.iter().collect();
        let truth: Vec<Option<bool>> = (0..40).map(|i| Some(i < 10 || (20..25).contains(&i))).collect();
        let scores: Vec<f64> = (0..40).map(|i| if i < 9 { 0.8 } else { 0.2 }).collect();
        let ids: Vec<String> = (0..40).map(|i| i.to_string()).collect();
        let who: Vec<&str> = ids.iter().map(String::as_str).collect();
        let labels = ["PNX".to_owned()];
        let found = subgroups(&tested(&labels, &scores, &truth, &who), &images).rows;

        // 9 * 10 + 10 / 2 = 95 of 100 pairs. Of the placements 10 (nine times) and 5 the variance is 2.5, of the
        // negatives' none: 2.5 / 10^2 / 10 = 0.05^2.
        let half = 1.959_963_984_540_054 * 0.05 / (0.95 * 0.05);
        let expit = |x: f64| 1.0 / (1.0 + (-x).exp());
        let women = &found[0];
        assert_eq!((women.variable.as_str(), women.group.as_str(), women.label.as_str()), ("sex", "F", "PNX"));
        assert_eq!((women.images, women.positives, &women.reason), (20, 10, &None));
        assert!(women.auc.is_some_and(|auc| (auc - 0.95).abs() < 1e-12));
        let [low, high] = women.interval.expect("ten of each");
        assert!((low - expit(19f64.ln() - half)).abs() < 1e-12 && (high - expit(19f64.ln() + half)).abs() < 1e-12);

        let men = &found[1];
        assert_eq!((men.group.as_str(), men.images, men.positives, men.auc), ("M", 20, 5, None));
        assert!(men.reason.as_ref().is_some_and(|r| r.starts_with("too few to say: 5 positive and 15")));
        // Age, view and manufacturer are not known: one group each.
        let rest: Vec<_> = found[2..].iter().map(|r| (r.variable.as_str(), r.group.as_str(), r.images)).collect();
        assert_eq!(rest, [("age", "unknown", 40), ("view", "unknown", 40), ("manufacturer", "unknown", 40)]);
    }

    #[test]
    fn bands_and_spellings() {
        let band = |age: f32| age_band(Some(age)).1;
        let ages = [0.0, 17.9, 18.0, 39.99, 40.0, 59.0, 60.0, 79.9, 80.0, 101.0];
        let found: Vec<String> = ages.into_iter().map(band).collect();
        assert_eq!(found[..4], ["0 to 17", "0 to 17", "18 to 39", "18 to 39"]);
        assert_eq!(found[4..], ["40 to 59", "40 to 59", "60 to 79", "60 to 79", "80 and over", "80 and over"]);
        assert_eq!(band(f32::NAN), UNKNOWN);
        assert_eq!(band(-1.0), UNKNOWN);
        let makers = ["Siemens", " SIEMENS ", "Agfa", "", "Unknown"];
        let images: Vec<CohortImage> = makers
            .iter()
            .map(|maker| CohortImage { manufacturer: Some((*maker).to_owned()), ..image("i", "p", "?") })
            .collect();
        let images: Vec<&CohortImage> = images.iter().collect();
        let expected = [("Agfa", vec![2]), ("SIEMENS", vec![0, 1]), (UNKNOWN, vec![3, 4])];
        let expected = expected.map(|(name, rows)| (name.to_owned(), rows));
        assert_eq!(groups(&images, VARIABLES[3].1), expected);
    }

    #[test]
    fn every_known_image_is_in_one_group_of_each_variable() {
        let mut draw = Stream::keyed(1, "subgroups test");
        for _ in 0..30 {
            let rows = 1 + draw.below(120);
            let mut images: Vec<CohortImage> = (0..rows).map(|i| image(&i.to_string(), "p", "?")).collect();
            for image in &mut images {
                image.sex = [None, Some('F'), Some('M')][draw.below(3)];
                image.age_years = (draw.below(5) > 0).then(|| draw.below(100) as f32);
                image.view = [None, Some("AP".to_owned()), Some("pa".to_owned())][draw.below(3)].clone();
            }
            let images: Vec<&CohortImage> = images.iter().collect();
            let labels = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
            let truth: Vec<Option<bool>> =
                (0..rows).flat_map(|_| [(draw.below(6) > 0).then(|| draw.below(2) == 0), None, Some(true)]).collect();
            let scores: Vec<f64> = (0..rows * 3).map(|_| draw.uniform()).collect();
            let ids: Vec<String> = (0..rows).map(|i| i.to_string()).collect();
            let who: Vec<&str> = ids.iter().map(String::as_str).collect();
            let untrained = [None, None, Some("no negative image in the training part".to_owned())];
            let tested = Tested { untrained: &untrained, ..tested(&labels, &scores, &truth, &who) };
            let found = subgroups(&tested, &images).rows;
            for variable in ["sex", "age", "view", "manufacturer"] {
                for (k, label) in labels.iter().enumerate() {
                    let here = || found.iter().filter(|r| r.variable == variable && r.label == *label);
                    let known = tested.known(k).1;
                    assert_eq!(here().map(|r| r.images).sum::<usize>(), known.len());
                    assert_eq!(here().map(|r| r.positives).sum::<usize>(), known.iter().filter(|&&t| t).count());
                }
            }
            for row in &found {
                let enough = row.label == "a" && row.positives.min(row.images - row.positives) >= FEW_POSITIVES;
                assert_eq!((row.auc.is_some(), row.reason.is_none()), (enough, enough), "{row:?}");
                if let (Some(auc), Some([low, high])) = (row.auc, row.interval) {
                    assert!(0.0 <= low && low <= auc && auc <= high && high <= 1.0, "{row:?}");
                }
            }
        }
    }
}
