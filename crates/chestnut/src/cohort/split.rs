//! Who is trained on and who is tested.
//!
//! Patients, not images, are dealt to the parts, balanced over the labels and seeded (design rule 1);
//! all methods of a study share the split (rule 2). The paper split images, 70/30 and 70/10/20, by
//! unknown means (protocol 6.1, 6.2.10); [`Unit::Image`] repeats that and must be named wherever
//! its numbers are shown. How the dealing works is in `stratify`.

use std::collections::{BTreeMap, BTreeSet};

use chestnut_stats::random::Stream;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::stored::Cells;
use super::stratify::Groups;
use super::{Cohort, CohortError, Label, table};

/// Most parts of a split.
pub const MAX_PARTS: usize = 16;
/// Fewest patients (or images) that a part must have: one alone has no spread to report.
pub const MIN_UNITS_PER_PART: usize = 2;
/// Columns of `split.csv`.
const COLUMNS: [&str; 3] = ["image", "patient", "part"];
/// Name of the file in messages.
const FILE: &str = "split.csv";

/// One image to be dealt to a part.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Image id; unique.
    pub id: &'a str,
    /// Its patient.
    pub patient: &'a str,
    /// Its labels; the same number for every item.
    pub labels: &'a [Label],
}

/// What stays together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// All images of a patient.
    #[default]
    Patient,
    /// Nothing: images of one patient may fall in several parts, as published. Inflates results.
    Image,
}

/// A named share of the cohort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// `train`, `validation`, `test` or another word.
    pub name: String,
    /// Share of the images, above 0; all parts sum to 1.
    pub fraction: f64,
}

/// How to split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitPlan {
    /// The parts, in order.
    pub parts: Vec<Part>,
    /// What stays together.
    #[serde(default)]
    pub unit: Unit,
    /// The study's seed.
    pub seed: u64,
    /// Which of several splits of the same plan, from 0.
    #[serde(default)]
    pub repeat: u64,
}

impl SplitPlan {
    /// Parts of these names and fractions, by patient, first repeat.
    #[must_use]
    pub fn new(parts: &[(&str, f64)], seed: u64) -> Self {
        let parts = parts.iter().map(|&(name, fraction)| Part { name: name.to_owned(), fraction }).collect();
        Self { parts, unit: Unit::Patient, seed, repeat: 0 }
    }

    /// The default, 70 % train and 30 % test (paper section 2.4).
    #[must_use]
    pub fn train_test(seed: u64) -> Self {
        Self::new(&[("train", 0.7), ("test", 0.3)], seed)
    }

    /// 70 % train, 10 % validation, 20 % test (the paper's fine-tuning, protocol 6.1).
    #[must_use]
    pub fn train_validation_test(seed: u64) -> Self {
        Self::new(&[("train", 0.7), ("validation", 0.1), ("test", 0.2)], seed)
    }

    /// The same plan's split number `repeat`.
    #[must_use]
    pub fn repeated(&self, repeat: u64) -> Self {
        Self { repeat, ..self.clone() }
    }

    fn check(&self) -> Result<(), SplitError> {
        let wrong = |why: &str| Err(SplitError::Plan(why.to_owned()));
        if self.parts.len() < 2 || self.parts.len() > MAX_PARTS {
            return wrong("it needs 2 to 16 parts");
        }
        let mut names = BTreeSet::new();
        for part in &self.parts {
            if part.name.trim().is_empty() || !names.insert(part.name.as_str()) {
                return wrong("every part needs a name of its own");
            }
            if !(part.fraction > 0.0 && part.fraction < 1.0) {
                return wrong("every fraction must lie between 0 and 1");
            }
        }
        if (self.parts.iter().map(|p| p.fraction).sum::<f64>() - 1.0).abs() > 1e-6 {
            return wrong("the fractions must sum to 1");
        }
        Ok(())
    }
}

/// Why the cohort cannot be split.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SplitError {
    /// The plan contradicts itself.
    #[error("the split cannot be made: {0}; correct [split] in study.toml")]
    Plan(String),
    /// Fewer patients than needed.
    #[error("{have} {units} are too few: {parts} parts need at least {needed}; add {units} or use fewer parts")]
    TooFew {
        /// How many there are.
        have: usize,
        /// `patients` or `images`.
        units: &'static str,
        /// Number of parts.
        parts: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The split was made for another cohort.
    #[error("split.csv does not fit cohort.csv: image {image:?} is {problem}; make the split again")]
    Stale {
        /// The image.
        image: String,
        /// How it differs.
        problem: &'static str,
    },
}

/// Which image is in which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Names of the parts.
    pub parts: Vec<String>,
    /// One row per image, sorted by image.
    pub rows: Vec<SplitRow>,
}

/// One image's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRow {
    /// Image id.
    pub image: String,
    /// Its patient.
    pub patient: String,
    /// Index into [`Split::parts`].
    pub part: usize,
}

fn too_few(have: usize, unit: Unit, parts: usize, needed: usize) -> SplitError {
    let units = match unit {
        Unit::Patient => "patients",
        Unit::Image => "images",
    };
    SplitError::TooFew { have, units, parts, needed }
}

/// Deals the items to the parts of `plan`.
///
/// The result depends on the items, the plan and nothing else; not on the order of `items`, nor on
/// the words that patients are called by.
///
/// # Errors
/// [`SplitError`] if the plan is wrong or there are fewer than two patients per part.
///
/// # Panics
/// If the items do not have the same number of labels.
pub fn split(items: &[Item<'_>], plan: &SplitPlan) -> Result<Split, SplitError> {
    plan.check()?;
    let groups = Groups::new(items, plan.unit);
    let needed = MIN_UNITS_PER_PART * plan.parts.len();
    if groups.len() < needed {
        return Err(too_few(groups.len(), plan.unit, plan.parts.len(), needed));
    }
    let fractions: Vec<f64> = plan.parts.iter().map(|p| p.fraction).collect();
    let mut stream = Stream::keyed(plan.seed, "split").child(plan.repeat);
    let part_of = groups.deal(&fractions, MIN_UNITS_PER_PART, &mut stream);
    let mut rows: Vec<SplitRow> = items
        .iter()
        .zip(part_of)
        .map(|(item, part)| SplitRow { image: item.id.to_owned(), patient: item.patient.to_owned(), part })
        .collect();
    rows.sort_by(|a, b| a.image.cmp(&b.image));
    Ok(Split { parts: plan.parts.iter().map(|p| p.name.clone()).collect(), rows })
}

/// Deals the items to the parts of `plan` by lot alone, without balancing labels: as the published splits are likeliest
/// to have been made (protocol 6.1), and for no other use. Plans with other numbers of parts are other draws.
///
/// # Errors
/// As [`split`].
pub fn by_lot(items: &[Item<'_>], plan: &SplitPlan) -> Result<Split, SplitError> {
    plan.check()?;
    let mut units: Vec<&str> = items.iter().map(|item| unit_of(item, plan.unit)).collect();
    units.sort_unstable();
    units.dedup();
    let parts = plan.parts.len();
    let needed = MIN_UNITS_PER_PART * parts;
    if units.len() < needed {
        return Err(too_few(units.len(), plan.unit, parts, needed));
    }
    let stream = Stream::keyed(plan.seed, "split by lot").child(parts as u64);
    stream.child(plan.repeat).shuffle(&mut units);
    let mut part_of: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut from, mut share) = (0, 0.0);
    for (number, part) in plan.parts.iter().enumerate() {
        share += part.fraction;
        // Every part that follows must still get its least.
        let most = units.len() - MIN_UNITS_PER_PART * (parts - number - 1);
        let wanted = (share * units.len() as f64).round() as usize;
        let to = if number + 1 == parts { most } else { wanted.clamp(from + MIN_UNITS_PER_PART, most) };
        part_of.extend(units[from..to].iter().map(|&unit| (unit, number)));
        from = to;
    }
    let row = |item: &Item<'_>| SplitRow {
        image: item.id.to_owned(),
        patient: item.patient.to_owned(),
        part: part_of[unit_of(item, plan.unit)],
    };
    let mut rows: Vec<SplitRow> = items.iter().map(row).collect();
    rows.sort_by(|a, b| a.image.cmp(&b.image));
    Ok(Split { parts: plan.parts.iter().map(|p| p.name.clone()).collect(), rows })
}

/// What an item is dealt by.
fn unit_of<'a>(item: &Item<'a>, unit: Unit) -> &'a str {
    match unit {
        Unit::Patient => item.patient,
        Unit::Image => item.id,
    }
}

/// `repeats` times `k` folds of equal share: `result[repeat][item]` is the fold of an item.
///
/// # Errors
/// [`SplitError`] if `k` is below 2 or there are fewer than `k` patients.
///
/// # Panics
/// If the items do not have the same number of labels.
pub fn folds(
    items: &[Item<'_>],
    k: usize,
    repeats: usize,
    unit: Unit,
    seed: u64,
) -> Result<Vec<Vec<usize>>, SplitError> {
    if k < 2 {
        return Err(SplitError::Plan("cross-validation needs at least 2 folds".to_owned()));
    }
    let groups = Groups::new(items, unit);
    if groups.len() < k {
        return Err(too_few(groups.len(), unit, k, k));
    }
    let fractions = vec![1.0 / k as f64; k];
    let stream = Stream::keyed(seed, "folds");
    Ok((0..repeats).map(|repeat| groups.deal(&fractions, 1, &mut stream.child(repeat as u64))).collect())
}

impl Split {
    /// The part of an image, as an index into `parts`.
    #[must_use]
    pub fn part_of(&self, image: &str) -> Option<usize> {
        let at = self.rows.binary_search_by(|row| row.image.as_str().cmp(image)).ok()?;
        Some(self.rows[at].part)
    }

    /// For each part, the indices of its images in `cohort.images`, ascending.
    ///
    /// # Errors
    /// [`SplitError::Stale`] if the split and the cohort do not hold the same images.
    pub fn indices(&self, cohort: &Cohort) -> Result<Vec<Vec<usize>>, SplitError> {
        let mut indices = vec![Vec::new(); self.parts.len()];
        for (index, image) in cohort.images.iter().enumerate() {
            let stale = || SplitError::Stale { image: image.id.clone(), problem: "not in the split" };
            indices[self.part_of(&image.id).ok_or_else(stale)?].push(index);
        }
        if self.rows.len() > cohort.images.len() {
            let known: BTreeSet<&str> = cohort.images.iter().map(|i| i.id.as_str()).collect();
            let extra = self.rows.iter().find(|row| !known.contains(row.image.as_str()));
            let image = extra.map_or_else(String::new, |row| row.image.clone());
            return Err(SplitError::Stale { image, problem: "not in the cohort" });
        }
        Ok(indices)
    }

    /// Patients with images in more than one part: none, unless images were split or the file was edited.
    #[must_use]
    pub fn shared_patients(&self) -> Vec<&str> {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shared = BTreeSet::new();
        for row in &self.rows {
            if *first.entry(&row.patient).or_insert(row.part) != row.part {
                shared.insert(row.patient.as_str());
            }
        }
        shared.into_iter().collect()
    }

    /// The text of `split.csv`: `image,patient,part`.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let header: Vec<String> = COLUMNS.iter().map(|&c| c.to_owned()).collect();
        let rows =
            self.rows.iter().map(|row| vec![row.image.clone(), row.patient.clone(), self.parts[row.part].clone()]);
        table::to_csv(std::iter::once(header).chain(rows))
    }

    /// Reads `split.csv` back; `parts` are the names that it may use, in order.
    ///
    /// # Errors
    /// [`CohortError::Stored`] naming the row at fault.
    pub fn from_csv(text: &str, parts: &[String]) -> Result<Self, CohortError> {
        let content = table::parse_stored(FILE, text)?;
        let stored = |row: u64, problem: String| CohortError::Stored { file: FILE, row, problem };
        if content.header.iter().ne(COLUMNS.iter()) {
            return Err(stored(1, format!("its columns must be {}", COLUMNS.join(","))));
        }
        let mut rows = Vec::with_capacity(content.rows.len());
        for row in &content.rows {
            let cells = Cells { file: FILE, row, header: &content.header };
            let name = cells.text(2)?;
            let part = parts.iter().position(|p| p == name).ok_or_else(|| cells.wrong(2))?;
            rows.push(SplitRow { image: cells.text(0)?.to_owned(), patient: cells.text(1)?.to_owned(), part });
        }
        if let Some(at) = rows.windows(2).position(|pair| pair[0].image >= pair[1].image) {
            let problem = format!("image {:?} is out of order or stands twice", rows[at + 1].image);
            return Err(stored(content.rows[at + 1].row, problem));
        }
        Ok(Self { parts: parts.to_vec(), rows })
    }
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
