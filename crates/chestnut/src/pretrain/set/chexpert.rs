//! CheXpert (Irvin et al. 2019): `train.csv` of the small or the full set.
//!
//! Its `Path` begins with the name of the set (`CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg`); the
//! image folder may be the one that holds the set or the set itself. The patient is a folder of the path. `Frontal/Lateral`
//! and `AP/PA` give the view. Blanks and -1 stay as they are: `targets` decides.

use super::super::error::{PretrainError, Result};
use super::sheet::{Once, Sheet};
use super::{Sample, TrainingSet, Views};
use crate::cohort::LabelSet;
use std::path::{Path, PathBuf};

/// Reads `train.csv` (or `valid.csv`) of CheXpert whose images lie below `images`.
///
/// # Errors
/// [`PretrainError`] naming the table, row and column at fault.
pub fn read(table: &Path, images: &Path, views: Views) -> Result<TrainingSet> {
    let labels = LabelSet::chexpert();
    let sheet = Sheet::open(table, &labels.values)?;
    let columns = labels
        .resolve(sheet.header())
        .map_err(|source| PretrainError::Labels { file: sheet.file().to_owned(), source })?;
    let mend = "is it CheXpert's train.csv? For another table use --set csv";
    let path = sheet.needed(&["Path"], mend)?;
    let frontal = sheet.needed(&["Frontal/Lateral"], mend)?;
    let projection = sheet.needed(&["AP/PA"], mend)?;
    let (mut samples, mut once, mut other) = (Vec::new(), Once::default(), 0);
    for row in sheet.rows() {
        sheet.whole(row)?;
        let id = sheet.name(row, path)?;
        once.check(&sheet, row, id)?;
        let is_frontal = row.cells[frontal].trim().eq_ignore_ascii_case("frontal");
        let is = |view: &str| is_frontal && row.cells[projection].trim().eq_ignore_ascii_case(view);
        let wanted = match views {
            Views::All => true,
            Views::Frontal => is_frontal,
            Views::Pa => is("PA"),
            Views::Ap => is("AP"),
        };
        if !wanted {
            other += 1;
            continue;
        }
        let Some(patient) = id.split(['/', '\\']).find(|part| part.starts_with("patient")) else {
            return Err(sheet.fault(row, format!("the path {id} holds no folder patient...")));
        };
        let cells = columns.iter().map(|&c| sheet.label(row, c)).collect::<Result<Vec<_>>>()?;
        let (patient, file) = (patient.to_owned(), sheet.below(row, images, locate(images, id))?);
        samples.push(Sample { id: id.to_owned(), file, patient, part: None, cells });
    }
    let mut notes = sheet.warnings().to_vec();
    if other > 0 {
        notes.push(format!("{other} images of other views left out"));
    }
    Ok(TrainingSet { name: "chexpert".into(), labels: labels.labels, samples, notes })
}

/// `images` holds the set, or is the set: then the path's first folder is its own name.
fn locate(images: &Path, id: &str) -> PathBuf {
    let first = id.split(['/', '\\']).next().unwrap_or("");
    let rest = id[first.len()..].trim_start_matches(['/', '\\']);
    if images.file_name().is_some_and(|name| name.to_string_lossy() == first) && !rest.is_empty() {
        images.join(rest)
    } else {
        images.join(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::*;

    const HEADER: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,\
                          Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,\
                          Pleural Effusion,Pleural Other,Fracture,Support Devices";

    fn set(views: Views, images: &str) -> Result<TrainingSet> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("train.csv");
        let text = format!(
            "{HEADER}\n\
             CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n\
             CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n\
             CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,\n"
        );
        std::fs::write(&path, text).expect("written");
        read(&path, Path::new(images), views)
    }

    #[test]
    fn views_patients_and_cells_are_read() {
        let frontal = set(Views::Frontal, "data").expect("a set");
        assert_eq!(frontal.labels.len(), 14);
        assert_eq!(frontal.samples.len(), 2, "the lateral film is left out");
        let first = &frontal.samples[0];
        assert_eq!(first.patient, "patient00001");
        assert_eq!((first.cells[0], first.cells[1], first.cells[9]), (Cell::Positive, Cell::Blank, Cell::Negative));
        assert_eq!(frontal.samples[1].cells[2], Cell::Uncertain);
        assert_eq!(set(Views::All, "data").expect("a set").samples.len(), 3);
        assert_eq!(set(Views::Pa, "data").expect("a set").samples[0].patient, "patient00002");
        assert_eq!(set(Views::Ap, "data").expect("a set").samples[0].patient, "patient00001");
    }

    #[test]
    fn the_image_folder_may_hold_the_set_or_be_it() {
        let tail = "train/patient00001/study1/view1_frontal.jpg";
        let above = set(Views::Frontal, "data").expect("a set");
        assert_eq!(above.samples[0].file, Path::new("data/CheXpert-v1.0-small").join(tail));
        let inside = set(Views::Frontal, "data/CheXpert-v1.0-small").expect("a set");
        assert_eq!(inside.samples[0].file, Path::new("data/CheXpert-v1.0-small").join(tail));
    }
}
