//! Public and own collections as one kind of list: an image file, its patient, a cell per label.
//!
//! Each collection has a reader ([`csv`], [`chexpert`], [`nih14`]) that knows its table and its folders and nothing of
//! training. What a blank or uncertain cell becomes is decided later (`targets`), so that one list serves all policies.
//! A value that is no label stops the run with its row: half a million guesses would end in the weights.

pub mod chexpert;
pub mod csv;
pub mod nih14;
mod sheet;

use super::error::{PretrainError, Result};
use crate::cohort::pseudonym;
use crate::cohort::table::read_bounded;
use crate::fs::to_hex;
use crate::study::Study;
use chestnut_zoo::store::sha256_file;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest patient id or image path, bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// What a table says of one label on one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Blank,
    /// The reader could not decide (-1).
    Uncertain,
    /// Absent (0).
    Negative,
    /// Present (1).
    Positive,
}

/// The part that a table's own split column gives an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To learn from.
    Train,
    /// To judge by.
    Validation,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The path as the table has it.
    pub id: String,
    /// The file.
    pub file: PathBuf,
    /// Whose it is.
    pub patient: String,
    /// Its part, if the table says so.
    pub part: Option<Part>,
    /// One per label of the set.
    pub cells: Vec<Cell>,
}

/// A collection of labelled images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingSet {
    /// Name for records: `csv`, `chexpert`, `nih14`.
    pub name: String,
    /// The labels, in the order of the network's outputs.
    pub labels: Vec<String>,
    /// The images, in the table's order.
    pub samples: Vec<Sample>,
    /// What people should know: rows left out, and why.
    pub notes: Vec<String>,
}

/// Projections to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Views {
    /// AP and PA.
    #[default]
    Frontal,
    /// Postero-anterior only.
    Pa,
    /// Antero-posterior only.
    Ap,
    /// All, lateral films too.
    All,
}

impl TrainingSet {
    /// Identity of what the table says: id, patient, part and cells of every image, in its order; 64 hex digits. Where
    /// the files lie and what is in them does not count.
    #[must_use]
    pub fn table_hash(&self) -> String {
        let mut hash = Sha256::new();
        for sample in &self.samples {
            for text in [&sample.id, &sample.patient] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text);
            }
            let part = match sample.part {
                None => b'-',
                Some(Part::Train) => b't',
                Some(Part::Validation) => b'v',
            };
            let cell = |cell: &Cell| match cell {
                Cell::Blank => b' ',
                Cell::Uncertain => b'?',
                Cell::Negative => b'0',
                Cell::Positive => b'1',
            };
            let cells: Vec<u8> = sample.cells.iter().map(cell).collect();
            hash.update([part]);
            hash.update((cells.len() as u64).to_le_bytes());
            hash.update(cells);
        }
        to_hex(&hash.finalize())
    }

    /// Leaves out all images of the patients in `file` (one id a line, `#` begins a comment); gives their number.
    ///
    /// # Errors
    /// If the file cannot be read, is not text, or names nobody of this set: then it is probably another set's list.
    pub fn exclude_patients(&mut self, file: &Path) -> Result<usize> {
        let bytes = read_bounded(file)?;
        let text = String::from_utf8(bytes).map_err(|_| PretrainError::file(file, "is not UTF-8 text"))?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let wanted: BTreeSet<&str> = lines.filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        let known: BTreeSet<&str> = self.samples.iter().map(|s| s.patient.as_str()).collect();
        let found = wanted.iter().filter(|p| known.contains(*p)).count();
        if found == 0 {
            let problem = "names no patient of this set; give one patient id a line, as the table writes them";
            return Err(PretrainError::file(file, problem));
        }
        let images = self.leave_out(|patient| wanted.contains(patient));
        self.notes.push(format!(
            "{images} images of {found} excluded patients left out; {} ids of the list are not in this set",
            wanted.len() - found
        ));
        Ok(images)
    }

    /// Leaves out every patient who is in the study in `folder`, in whatever part: another seed, repeat or film deals
    /// its parts anew. Patients are known by their names in the study, which may be pseudonyms under its key, and by any
    /// film whose file is one of the study's. Gives the number of images.
    ///
    /// # Errors
    /// If there is no study, or nobody of it is in this set: then it is probably another hospital's.
    pub fn exclude_study(&mut self, folder: &Path) -> Result<usize> {
        let failed = |e: crate::error::Error| PretrainError::Request(format!("--exclude-study: {e}"));
        let study = Study::open(folder).map_err(failed)?;
        let cohort = study.cohort().map_err(failed)?;
        // A study that keeps ids has no key, and asking for it would make one.
        let has_key = study.path(".pseudonym-key").is_file();
        let key = if has_key { Some(Study::pseudonym_key(folder).map_err(failed)?) } else { None };
        let names: BTreeSet<&str> = cohort.images.iter().map(|i| i.patient.as_str()).collect();
        let films: BTreeSet<&str> = cohort.images.iter().map(|i| i.sha256.as_str()).collect();
        let is_known = |s: &Sample| {
            names.contains(s.patient.as_str())
                || key.is_some_and(|key| names.contains(pseudonym(&key, &s.patient).as_str()))
                || (s.file.is_file() && sha256_file(&s.file).is_ok_and(|hash| films.contains(hash.as_str())))
        };
        let known = self.samples.par_iter().filter(|s| is_known(s)).map(|s| s.patient.clone());
        let known: BTreeSet<String> = known.collect();
        if known.is_empty() {
            return Err(PretrainError::Request(format!(
                "--exclude-study: no patient and no film of {} is in this set; if that is right, leave the option out",
                folder.display()
            )));
        }
        let images = self.leave_out(|patient| known.contains(patient));
        self.notes.push(format!(
            "{images} images of {} patients who are in the study {} left out",
            known.len(),
            folder.display()
        ));
        Ok(images)
    }

    /// Removes all images of some patients; gives their number.
    fn leave_out(&mut self, is_out: impl Fn(&str) -> bool) -> usize {
        let before = self.samples.len();
        self.samples.retain(|s| !is_out(&s.patient));
        before - self.samples.len()
    }

    /// Checks that there is something to learn and that the table's own split keeps patients whole (design rule 1).
    ///
    /// # Errors
    /// [`PretrainError::Request`] saying what is wrong.
    pub fn check(&self) -> Result<()> {
        if self.samples.is_empty() {
            return Err(PretrainError::Request(
                "no image is left to train on; look at the view filter, the exclusions and the table".into(),
            ));
        }
        let of = |part: Part| -> BTreeSet<&str> {
            self.samples.iter().filter(|s| s.part == Some(part)).map(|s| s.patient.as_str()).collect()
        };
        let (train, validation) = (of(Part::Train), of(Part::Validation));
        let both = train.intersection(&validation).count();
        if both > 0 {
            return Err(PretrainError::Request(format!(
                "the split column puts images of {both} patients into both parts; give each patient one part, or leave \
                 the column out and let the patients be dealt"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::tests::image;
    use crate::cohort::{BlankRules, Cohort, CohortImage, LabelSet};
    use crate::image::recipe::Recipe;
    use crate::study::{Settings, SplitSettings};

    fn sample(id: &str, patient: &str, cells: &[Cell]) -> Sample {
        Sample { id: id.into(), file: id.into(), patient: patient.into(), part: None, cells: cells.to_vec() }
    }

    fn set(samples: Vec<Sample>) -> TrainingSet {
        TrainingSet { name: "t".into(), labels: vec!["A".into(), "B".into()], samples, notes: Vec::new() }
    }

    #[test]
    fn a_corrected_label_patient_or_part_is_another_table() {
        let one = set(vec![
            sample("1.png", "p1", &[Cell::Positive, Cell::Blank]),
            sample("2.png", "p2", &[Cell::Negative, Cell::Uncertain]),
        ]);
        let hash = one.table_hash();
        assert_eq!(hash.len(), 64);
        let changes: [fn(&mut Sample); 6] = [
            |s| s.cells[0] = Cell::Negative,
            |s| s.cells[1] = Cell::Negative,
            |s| s.patient = "p2".into(),
            |s| s.part = Some(Part::Validation),
            |s| s.part = Some(Part::Train),
            |s| (s.id, s.patient) = ("1.pngp".into(), "1".into()),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut other = one.clone();
            change(&mut other.samples[0]);
            assert_ne!(other.table_hash(), hash, "change {i}");
        }
        let mut moved = one.clone();
        moved.samples[0].file = "elsewhere/1.png".into();
        assert_eq!(moved.table_hash(), hash, "where the files lie does not count");
    }

    #[test]
    fn whoever_is_in_a_study_is_left_out_by_pseudonym_id_or_film() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let film = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path
        };
        let settings = Settings {
            view: None,
            images: PathBuf::new(),
            blank: BlankRules::default(),
            recipe: Recipe::default(),
            split: SplitSettings::default(),
            labels: LabelSet::new("t", &["A"]),
        };
        let study = Study::create(&folder.path().join("study"), settings).expect("made");
        let key = Study::pseudonym_key(&study.root).expect("made");
        let same = sha256_file(&film("study.png", "of p2")).expect("read");
        let images = vec![
            image("a.png", &pseudonym(&key, "p1"), "+"),
            CohortImage { sha256: same, ..image("b.png", &pseudonym(&key, "2"), "-") },
            image("c.png", "p3", "-"),
        ];
        study.write_cohort(&Cohort { label_names: vec!["A".into()], images, ..Cohort::default() }).expect("written");
        let named = |name: &str, patient: &str, content: &str| Sample {
            file: film(name, content),
            ..sample(name, patient, &[Cell::Positive])
        };
        let mut all = set(vec![
            named("1.png", "p1", "new"),
            named("2.png", "p2", "of p2"),
            named("3.png", "p2", "another of p2"),
            named("4.png", "p3", "of p3"),
            named("5.png", "p4", "of p4"),
        ]);
        assert_eq!(all.exclude_study(&study.root).expect("three are known"), 4);
        assert_eq!(all.samples.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["5.png"]);
        assert!(all.notes[0].contains("4 images of 3 patients"), "{:?}", all.notes);
        let error = all.exclude_study(&study.root).expect_err("nobody is left").to_string();
        assert!(error.contains("leave the option out"), "{error}");
        assert!(all.exclude_study(folder.path()).expect_err("no study").to_string().contains("study.toml"));
        // Looking must not make a key.
        std::fs::remove_file(study.path(".pseudonym-key")).expect("removed");
        assert!(all.exclude_study(&study.root).is_err() && !study.path(".pseudonym-key").exists());
    }
}
