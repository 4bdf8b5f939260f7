//! NIH ChestX-ray14 (Wang et al. 2017): `Data_Entry_2017.csv` and a tree of folders with the PNG files.
//!
//! `Finding Labels` names the findings of an image, separated by `|`; what it does not name is absent, since every report
//! was mined for all 14. Images are found by name anywhere below the folder, because the set comes as twelve archives.

use super::super::error::{PretrainError, Result};
use super::sheet::{Once, Sheet};
use super::{Cell, Sample, TrainingSet, Views};
use crate::cohort::ValueWords;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The set's labels, in the order of its paper's tables.
pub const LABELS: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
];
/// What an image without findings is called.
const NO_FINDING: &str = "No Finding";
/// Deepest folder below the image folder.
const MAX_DEPTH: usize = 8;
/// Most files below the image folder.
const MAX_FILES: usize = 2_000_000;

/// Reads `Data_Entry_2017.csv` whose images lie anywhere below `images`.
///
/// # Errors
/// [`PretrainError`] naming the table, row and column at fault, or a folder that cannot be listed.
pub fn read(table: &Path, images: &Path, views: Views) -> Result<TrainingSet> {
    let sheet = Sheet::open(table, &ValueWords::none())?;
    let mend = "is it Data_Entry_2017.csv of ChestX-ray14? For another table use --set csv";
    let image = sheet.needed(&["Image Index"], mend)?;
    let findings = sheet.needed(&["Finding Labels"], mend)?;
    let patient = sheet.needed(&["Patient ID"], mend)?;
    let view = sheet.needed(&["View Position"], mend)?;
    let mut files = BTreeMap::new();
    find_files(images, 0, &mut files)?;
    let (mut samples, mut once, mut other) = (Vec::new(), Once::default(), 0);
    for row in sheet.rows() {
        sheet.whole(row)?;
        let id = sheet.name(row, image)?;
        once.check(&sheet, row, id)?;
        let is = |name: &str| row.cells[view].trim().eq_ignore_ascii_case(name);
        let wanted = match views {
            Views::All => true,
            Views::Frontal => is("AP") || is("PA"),
            Views::Pa => is("PA"),
            Views::Ap => is("AP"),
        };
        if !wanted {
            other += 1;
            continue;
        }
        let mut cells = vec![Cell::Negative; LABELS.len()];
        for finding in sheet.name(row, findings)?.split('|').map(str::trim).filter(|&f| f != NO_FINDING) {
            let Some(place) = LABELS.iter().position(|&l| l == finding) else {
                let short: String = finding.chars().take(40).collect();
                return Err(sheet.fault(row, format!("{short:?} is no finding of ChestX-ray14")));
            };
            cells[place] = Cell::Positive;
        }
        // A file that is not there is met again, and counted, when the images are read.
        let file = files.get(id).cloned().unwrap_or_else(|| images.join(id));
        let file = sheet.below(row, images, file)?;
        let patient = sheet.name(row, patient)?.to_owned();
        samples.push(Sample { id: id.to_owned(), file, patient, part: None, cells });
    }
    let mut notes = sheet.warnings().to_vec();
    if other > 0 {
        notes.push(format!("{other} images of other views left out"));
    }
    let labels = LABELS.iter().map(|&l| l.to_owned()).collect();
    Ok(TrainingSet { name: "nih14".into(), labels, samples, notes })
}

/// All files by name; of two with one name the first in sorted order of folders.
fn find_files(folder: &Path, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let failed = PretrainError::io(folder);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        entries.push((entry.file_name(), entry.file_type().map_err(&failed)?.is_dir()));
        if entries.len() > MAX_FILES {
            return Err(too_many(folder));
        }
    }
    entries.sort();
    for (name, is_folder) in entries {
        let path = folder.join(&name);
        if is_folder && depth < MAX_DEPTH {
            find_files(&path, depth + 1, files)?;
        } else if !is_folder {
            files.entry(name.to_string_lossy().into_owned()).or_insert(path);
        }
        if files.len() > MAX_FILES {
            return Err(too_many(folder));
        }
    }
    Ok(())
}

fn too_many(folder: &Path) -> PretrainError {
    PretrainError::file(folder, format!("more than {MAX_FILES} files; name the folder that holds the images alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_become_cells_and_files_are_found_in_subfolders() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let deep = folder.path().join("images_002").join("images");
        std::fs::create_dir_all(&deep).expect("made");
        std::fs::write(deep.join("00000002_000.png"), "x").expect("written");
        let table = folder.path().join("Data_Entry_2017.csv");
        let text = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n\
                    00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143,\n\
                    00000002_000.png,No Finding,0,2,81,M,AP,2500,2048,0.171,0.171,\n";
        std::fs::write(&table, text).expect("written");
        let set = read(&table, folder.path(), Views::Frontal).expect("a set");
        assert_eq!(set.samples.len(), 2);
        let positive: Vec<usize> = (0..14).filter(|&i| set.samples[0].cells[i] == Cell::Positive).collect();
        assert_eq!(positive, [1, 10]);
        assert!(set.samples[1].cells.iter().all(|&c| c == Cell::Negative));
        assert_eq!(set.samples[1].file, deep.join("00000002_000.png"));
        assert_eq!(set.samples[1].patient, "2");
        assert_eq!(read(&table, folder.path(), Views::Pa).expect("a set").samples.len(), 1);
        std::fs::write(&table, text.replace("Emphysema", "Emphysem")).expect("written");
        let error = read(&table, folder.path(), Views::All).expect_err("unknown finding").to_string();
        assert!(error.contains("row 2") && error.contains("Emphysem"), "{error}");
    }
}
