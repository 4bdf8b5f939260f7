//! Any table: a column with the image's path, one with the patient, one per label, and if wanted one with the part.

use super::super::error::{PretrainError, Result};
use super::sheet::{Once, Sheet};
use super::{Part, Sample, TrainingSet};
use crate::cohort::LabelSet;
use std::collections::BTreeSet;
use std::path::Path;

/// Columns that are tried for the image's path.
const PATHS: [&str; 6] = ["image", "path", "Path", "file", "filename", "Image Index"];
/// Columns that are tried for the patient.
const PATIENTS: [&str; 5] = ["patient_id", "patient", "PatientID", "Patient ID", "subject_id"];

/// How to read a table.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    /// The labels, their columns and their words. Its policies for blank and uncertain cells are not used here.
    pub labels: LabelSet,
    /// Column with the path below the image folder; by default the first of `image`, `path`, `file` and their like.
    pub path: Option<String>,
    /// Column with the patient's id; by default the first of `patient_id`, `patient` and their like.
    pub patient: Option<String>,
    /// Column with `train`, `validation` or `test` (rows of `test` are left out).
    pub split: Option<String>,
}

/// Reads a table whose paths lie below the folder `images`.
///
/// # Errors
/// [`PretrainError`] naming the table, row and column at fault.
pub fn read(table: &Path, images: &Path, options: &CsvOptions) -> Result<TrainingSet> {
    let sheet = Sheet::open(table, &options.labels.values)?;
    let columns = options
        .labels
        .resolve(sheet.header())
        .map_err(|source| PretrainError::Labels { file: sheet.file().to_owned(), source })?;
    let path = match &options.path {
        Some(name) => sheet.needed(&[name.as_str()], "name another with --path-column")?,
        None => sheet.needed(&PATHS, "name the column of the image's path with --path-column")?,
    };
    let patient = match &options.patient {
        Some(name) => sheet.needed(&[name.as_str()], "name another with --patient-column")?,
        None => sheet.needed(&PATIENTS, "name the column of the patient with --patient-column")?,
    };
    let split = match &options.split {
        Some(name) => Some(sheet.needed(&[name.as_str()], "name another with --split-column")?),
        None => None,
    };
    let (mut samples, mut once, mut test) = (Vec::<Sample>::new(), Once::default(), 0);
    let mut tested = BTreeSet::new();
    for row in sheet.rows() {
        sheet.whole(row)?;
        let id = sheet.name(row, path)?;
        once.check(&sheet, row, id)?;
        let part = match split {
            None => None,
            Some(column) => match part(sheet.name(row, column)?) {
                Some(Some(part)) => Some(part),
                Some(None) => {
                    tested.insert(sheet.name(row, patient)?.to_owned());
                    test += 1;
                    continue;
                }
                None => {
                    let problem = format!("the part {:?} is none of train, validation and test", &row.cells[column]);
                    return Err(sheet.fault(row, problem));
                }
            },
        };
        let cells = columns.iter().map(|&c| sheet.label(row, c)).collect::<Result<Vec<_>>>()?;
        let patient = sheet.name(row, patient)?.to_owned();
        let file = sheet.below(row, images, images.join(id))?;
        samples.push(Sample { id: id.to_owned(), file, patient, part, cells });
    }
    let both: BTreeSet<&str> = samples.iter().map(|s| s.patient.as_str()).filter(|p| tested.contains(*p)).collect();
    if !both.is_empty() {
        return Err(PretrainError::Request(format!(
            "the split column puts images of {} patients into the test part and into another; give each patient one part",
            both.len()
        )));
    }
    let mut notes = sheet.warnings().to_vec();
    if test > 0 {
        notes.push(format!("{test} rows of the test part left out"));
    }
    Ok(TrainingSet { name: "csv".into(), labels: options.labels.labels.clone(), samples, notes })
}

/// `Some(None)` is the test part; `None` is no part at all.
fn part(text: &str) -> Option<Option<Part>> {
    match text.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Some(Part::Train)),
        "validation" | "valid" | "val" | "dev" => Some(Some(Part::Validation)),
        "test" | "testing" => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::*;

    fn options(labels: &[&str], split: bool) -> CsvOptions {
        CsvOptions {
            labels: LabelSet::new("t", labels),
            path: None,
            patient: None,
            split: split.then(|| "part".to_owned()),
        }
    }

    fn table(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn a_patient_of_the_test_part_is_in_no_other() {
        let (_folder, path) = table("image,patient_id,part,A\n1.png,p1,train,1\n2.png,p1,test,0\n");
        let problem = read(&path, Path::new("films"), &options(&["A"], true)).expect_err("a patient on both sides");
        assert!(problem.to_string().contains("1 patients into the test part"), "{problem}");
    }

    #[test]
    fn cells_parts_and_patients_are_read() {
        let text = "image,patient_id,part,A,B\na/1.png,p1,train,1,\n2.png,p2,val,0.0,-1\n3.png,p3,test,yes,no\n";
        let (_folder, path) = table(text);
        let set = read(&path, Path::new("films"), &options(&["B", "A"], true)).expect("a set");
        assert_eq!(set.labels, ["B", "A"]);
        assert_eq!(set.samples.len(), 2, "test rows are left out: {:?}", set.notes);
        assert_eq!(set.samples[0].cells, [Cell::Blank, Cell::Positive]);
        assert_eq!(set.samples[0].file, Path::new("films").join("a/1.png"));
        assert_eq!(set.samples[1].cells, [Cell::Uncertain, Cell::Negative]);
        assert_eq!((set.samples[1].part, set.samples[1].patient.as_str()), (Some(Part::Validation), "p2"));
        set.check().expect("each patient has one part");
        // Without the split column all rows are used, and words are understood.
        let all = read(&path, Path::new(""), &options(&["A"], false)).expect("a set");
        assert_eq!(all.samples[2].cells, [Cell::Positive]);
    }

    #[test]
    fn faults_name_row_and_column() {
        for (text, says) in [
            ("image,patient_id,A\n1.png,p,0\n2.png,p,2\n", "row 3: A is \"2\""),
            ("image,patient_id,A\n1.png,,0\n", "row 2: column patient_id is blank"),
            ("image,patient_id,A\n1.png,p,0\n1.png,p,0\n", "row 3: the image 1.png was already listed"),
            ("image,patient_id,A\n1.png,p\n", "row 2: it has 2 fields"),
            ("image,A\n1.png,0\n", "no column patient_id or patient"),
            ("image,patient_id,B\n1.png,p,0\n", "\"A\""),
        ] {
            let (_folder, path) = table(text);
            let error = read(&path, Path::new(""), &options(&["A"], false)).expect_err("a fault").to_string();
            assert!(error.contains(says), "{error} should say {says}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_image_folder() {
        let inside = ["1.png", "a/1.png", "./1.png", "a/./1.png"];
        let outside = ["../1.png", "a/../../1.png", "a/../1.png", "/etc/passwd", ".."];
        for images in ["films", "../films", ""] {
            for (id, good) in inside.iter().map(|id| (id, true)).chain(outside.iter().map(|id| (id, false))) {
                let (_folder, path) = table(&format!("image,patient_id,A\n{id},p,0\n"));
                let found = read(&path, Path::new(images), &options(&["A"], false));
                assert_eq!(found.is_ok(), good, "{id} below {images:?}: {found:?}");
                if let Err(e) = found {
                    assert!(e.to_string().contains("row 2") && e.to_string().contains("image folder"), "{e}");
                }
            }
        }
        // A whole path is one, where it lies there.
        let (folder, path) = table("");
        let whole = folder.path().join("1.png");
        std::fs::write(&path, format!("image,patient_id,A\n{},p,0\n", whole.display())).expect("written");
        assert_eq!(read(&path, folder.path(), &options(&["A"], false)).expect("a set").samples[0].file, whole);
        assert!(read(&path, &folder.path().join("films"), &options(&["A"], false)).is_err());
    }

    #[test]
    fn a_patient_in_both_parts_is_refused_and_excluded_patients_go() {
        let text = "image,patient_id,part,A\n1.png,p1,train,1\n2.png,p1,val,0\n3.png,p2,train,0\n";
        let (folder, path) = table(text);
        let mut set = read(&path, Path::new(""), &options(&["A"], true)).expect("a set");
        assert!(set.check().expect_err("p1 is in both").to_string().contains("1 patients"));
        let list = folder.path().join("out.txt");
        std::fs::write(&list, "# test patients\np1\np9\n").expect("written");
        assert_eq!(set.exclude_patients(&list).expect("known"), 2);
        assert_eq!(set.samples.len(), 1);
        set.check().expect("now whole");
        assert!(set.exclude_patients(&list).is_err(), "nobody of the list is left");
    }
}
