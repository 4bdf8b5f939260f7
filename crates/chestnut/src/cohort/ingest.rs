//! From a folder of radiographs and a labels table to a cohort.
//!
//! Lists the folder, joins the table, decodes every labelled image on all cores while holding one
//! image per core, filters views, settles copies and gives patients pseudonyms (paper section 2.1).
//! One bad file or row never stops the run and never goes unnoticed: it is a reject with a reason.
//! The result does not depend on the number of threads. Nothing is written here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::duplicates::{Copies, Settled, SharedPicture, settle};
use super::join::{FileKeys, HeaderKeys, join};
use super::labels::{ColumnNames, LabelRow, read_labels};
use super::view::{ViewFilter, is_chest, known_view};
use super::{BlankPolicy, Cohort, CohortError, CohortImage, LabelSet, Reject, Stage, pseudonym};
use crate::image::fingerprint::{Fingerprint, is_near_identical};
use crate::image::{self, Decoded};

/// Most files that a folder may hold.
pub const MAX_FILES: usize = 2_000_000;
/// Deepest folder below the image folder that is entered.
pub const MAX_DEPTH: usize = 32;
/// Most earlier look-alikes noted per image: enough to link it to every patient of a usual group.
const MAX_TWINS: usize = 16;
/// Images decoded between two steps of the main thread.
const CHUNK: usize = 256;

/// What an ingest is asked for.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The labels and how they are read.
    pub label_set: LabelSet,
    /// Columns named by the user.
    pub columns: ColumnNames,
    /// Projections wanted.
    pub view: ViewFilter,
    /// Takes images whose DICOM header names another body part than the chest.
    pub any_body_part: bool,
    /// Second copies of a picture.
    pub copies: Copies,
    /// Patients who share a picture.
    pub shared_picture: SharedPicture,
    /// Key of the pseudonyms; without one patient ids are kept as they came.
    pub pseudonym_key: Option<[u8; 32]>,
}

impl IngestOptions {
    /// The defaults for a label set: frontal chest images, copies refused, patients who share a picture merged, no key.
    #[must_use]
    pub fn new(label_set: LabelSet) -> Self {
        Self {
            label_set,
            columns: ColumnNames::default(),
            view: ViewFilter::default(),
            any_body_part: false,
            copies: Copies::default(),
            shared_picture: SharedPicture::default(),
            pseudonym_key: None,
        }
    }
}

/// How far the decoding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Images done, refused ones included.
    pub done: usize,
    /// Images to do.
    pub total: usize,
}

/// A file that has a row.
struct Job<'a> {
    id: &'a str,
    path: &'a Path,
    row: LabelRow,
}

/// What is kept of a decoded image.
struct Taken {
    image: CohortImage,
    fingerprint: Fingerprint,
    /// No patient id anywhere: the image stands for a patient of its own.
    own_patient: bool,
    /// The table and the DICOM header name different projections.
    views_differ: bool,
    /// The colour channels differ.
    colour: bool,
}

/// Reads a folder of images and a labels table into a cohort.
///
/// `progress` is called from worker threads, once per image. The cohort may be empty if everything
/// was refused: look at `images` and `rejects`.
///
/// # Errors
/// [`CohortError`] if the folder cannot be listed, the table is no table or lacks a column.
pub fn ingest(
    images: &Path,
    labels: &Path,
    options: &IngestOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Cohort, CohortError> {
    let table = read_labels(labels, &options.label_set, &options.columns)?;
    let mut warnings = table.warnings.clone();
    if options.label_set.blank == BlankPolicy::Negative {
        let set = &options.label_set.name;
        warnings.push(format!("blank cells count as negative, as label set {set} asks; a set of your own (--label-set FILE.toml) can say otherwise"));
    }
    let has_patients = table.has_patients;
    let mut folder = list_files(images, labels)?;
    warnings.append(&mut folder.warnings);
    // Headers are read only if the table is keyed by what stands in them.
    let with_headers = table.key_kind.needs_header();
    let keys = |(id, path): &(String, PathBuf)| {
        let facts = || image::read_bytes(path).and_then(|bytes| image::dicom::facts(&bytes)).ok();
        let header = with_headers.then(facts).flatten().map(|f| HeaderKeys {
            accession: f.accession,
            study_uid: f.study_uid,
            patient_id: f.patient_id,
            sop_uid: f.sop_uid,
        });
        FileKeys { id: id.clone(), header }
    };
    let files: Vec<FileKeys> = folder.files.par_iter().map(keys).collect();
    let mut joined = join(&files, table);
    warnings.append(&mut joined.warnings);
    let mut rejects = folder.rejects;
    rejects.append(&mut joined.rejects);

    // A projection that the table refuses need not be decoded.
    let mut jobs = Vec::with_capacity(joined.pairs.len());
    for (file, row) in joined.pairs {
        let (id, path) = &folder.files[file];
        let verdict = row.view.as_deref().map_or(Ok(()), |view| options.view.check(Some(view)));
        match verdict {
            Ok(()) => jobs.push(Job { id: id.as_str(), path: path.as_path(), row }),
            Err(reason) => rejects.push(Reject { item: id.clone(), row: Some(row.row), stage: Stage::View, reason }),
        }
    }

    let done = AtomicUsize::new(0);
    let total = jobs.len();
    let mut taken = Vec::with_capacity(total);
    for chunk in jobs.chunks(CHUNK) {
        let results: Vec<Result<Taken, Reject>> = chunk
            .par_iter()
            .map(|job| {
                let result = take(job, options);
                progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
                result
            })
            .collect();
        for result in results {
            match result {
                Ok(image) => taken.push(image),
                Err(reject) => rejects.push(reject),
            }
        }
    }
    warnings.extend(warnings_of(&taken, has_patients));

    let (prints, found): (Vec<Fingerprint>, Vec<CohortImage>) =
        taken.into_iter().map(|one| (one.fingerprint, one.image)).unzip();
    let near = earlier_twins(&prints);
    let name = |id: &str| match &options.pseudonym_key {
        Some(key) => pseudonym(key, id),
        None => id.to_owned(),
    };
    let Settled { images, rejects: copies, warnings: about_copies } =
        settle(found, &near, options.copies, options.shared_picture, &name);
    rejects.extend(copies);
    warnings.extend(about_copies);
    rejects.sort_by(|a, b| (&a.item, a.row, a.stage).cmp(&(&b.item, b.row, b.stage)));
    let mut cohort = Cohort { label_names: options.label_set.labels.clone(), images, rejects, warnings };
    let about_labels = label_warnings(&cohort);
    cohort.warnings.extend(about_labels);
    Ok(cohort)
}

/// Decodes one image and keeps what the cohort needs; the pixels end here.
fn take(job: &Job<'_>, options: &IngestOptions) -> Result<Taken, Reject> {
    let refuse = |stage, reason| Reject { item: job.id.to_owned(), row: Some(job.row.row), stage, reason };
    let Decoded { radiograph, format, dicom, colour, content_sha256, .. } =
        image::read(job.path).map_err(|e| refuse(Stage::Read, format!("the file {e}")))?;
    let row = &job.row;
    let header = dicom.as_ref();
    let header_view = header.and_then(|h| h.view_position.as_deref()).and_then(known_view);
    let view = row.view.clone().or_else(|| header_view.clone());
    let body_part = header.and_then(|h| h.body_part.as_deref()).unwrap_or("");
    if !options.any_body_part && !is_chest(body_part) {
        return Err(refuse(Stage::View, format!("not a chest: the DICOM header names the body part {body_part}")));
    }
    options.view.check(view.as_deref()).map_err(|reason| refuse(Stage::View, reason))?;
    let views_differ = match (&row.view, &header_view) {
        (Some(table), Some(header)) => !ViewFilter::same(table, header),
        _ => false,
    };
    let known_patient =
        row.patient.clone().or_else(|| header.and_then(|h| h.patient_id.clone())).filter(|p| !p.trim().is_empty());
    let manufacturer = header.and_then(|h| h.manufacturer.as_deref()).map(str::trim).filter(|m| !m.is_empty());
    Ok(Taken {
        own_patient: known_patient.is_none(),
        views_differ,
        colour,
        fingerprint: Fingerprint::of(&radiograph),
        image: CohortImage {
            id: job.id.to_owned(),
            row: row.row,
            patient: known_patient.unwrap_or_else(|| format!("image:{}", job.id)),
            view,
            age_years: row.age_years.or_else(|| header.and_then(|h| h.age_years).map(|age| age as f32)),
            sex: row.sex.or_else(|| header.and_then(|h| h.sex)),
            manufacturer: manufacturer.map(str::to_owned),
            width: radiograph.width,
            height: radiograph.height,
            bits: radiograph.bits,
            format: format.to_string(),
            sha256: content_sha256,
            labels: row.labels.clone(),
        },
    })
}

/// For each image the first earlier ones that look like it. All pairs are compared.
fn earlier_twins(prints: &[Fingerprint]) -> Vec<Vec<usize>> {
    prints
        .par_iter()
        .enumerate()
        .map(|(i, print)| (0..i).filter(|&j| is_near_identical(&prints[j], print)).take(MAX_TWINS).collect())
        .collect()
}

fn warnings_of(taken: &[Taken], has_patients: bool) -> Vec<String> {
    let count = |what: fn(&Taken) -> bool| taken.iter().filter(|t| what(t)).count();
    let mut warnings = Vec::new();
    let own = count(|t| t.own_patient);
    if own > 0 {
        let why = if has_patients { "no patient id in their row" } else { "no patient column in the labels table" };
        warnings.push(format!(
            "{own} images have no patient id ({why}): each counts as a patient of its own, and images of one person may \
             be trained on and tested; name the column with --patient if there is one"
        ));
    }
    let unknown = count(|t| t.image.view.is_none());
    if unknown > 0 {
        warnings.push(format!("{unknown} images have no known view and were taken; laterals may be among them"));
    }
    let differ = count(|t| t.views_differ);
    if differ > 0 {
        warnings.push(format!(
            "{differ} images have another view in the table than in the DICOM header; the table was believed"
        ));
    }
    let colour = count(|t| t.colour);
    if colour > 0 {
        warnings
            .push(format!("{colour} images have colours and were read as grey; look for photographs and drawn marks"));
    }
    warnings
}

/// Labels that cannot be scored, in words.
fn label_warnings(cohort: &Cohort) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, label) in cohort.label_names.iter().enumerate() {
        let (positives, negatives, unknown) = cohort.label_counts(index);
        let what = match (positives, negatives) {
            _ if cohort.images.is_empty() => continue,
            (0, 0) => format!("no known value in {unknown} images"),
            (0, _) => "no positive image".to_owned(),
            (_, 0) => "no negative image".to_owned(),
            _ => continue,
        };
        warnings.push(format!("the label {label} has {what}: it cannot be learned or scored"));
    }
    warnings
}

/// The files of the image folder.
#[derive(Default)]
struct Folder {
    /// Ids and paths, sorted by id.
    files: Vec<(String, PathBuf)>,
    rejects: Vec<Reject>,
    warnings: Vec<String>,
}

/// Lists a folder: all levels, without hidden files and the labels table; links to folders are not followed.
fn list_files(root: &Path, labels: &Path) -> Result<Folder, CohortError> {
    let mut folder = Folder::default();
    let labels = fs::canonicalize(labels).ok();
    let mut by_id: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut linked_folders = 0usize;
    let mut todo = vec![(root.to_owned(), String::new(), 0usize)];
    while let Some((path, prefix, depth)) = todo.pop() {
        let entries = match fs::read_dir(&path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(source) if depth == 0 => return Err(CohortError::Folder { path, source }),
            Err(e) => {
                let reason = format!("the folder cannot be listed ({e}); check that you have access");
                folder.rejects.push(Reject { item: prefix, row: None, stage: Stage::Read, reason });
                continue;
            }
        };
        for entry in entries {
            let file_name = entry.file_name();
            let name = file_name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let id = format!("{prefix}{name}");
            let refuse = |reason: String| Reject { item: id.clone(), row: None, stage: Stage::Read, reason };
            if file_name.to_str().is_none() {
                folder.rejects.push(refuse("its name is not UTF-8; rename it".to_owned()));
                continue;
            }
            let about = entry.file_type();
            let is_link = about.as_ref().is_ok_and(fs::FileType::is_symlink);
            let target = if is_link { fs::metadata(entry.path()).map(|m| m.file_type()) } else { about };
            match target {
                Ok(kind) if kind.is_dir() && is_link => linked_folders += 1,
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => {
                    todo.push((entry.path(), format!("{id}/"), depth + 1))
                }
                Ok(kind) if kind.is_dir() => {
                    folder.rejects.push(refuse(format!("the folder lies more than {MAX_DEPTH} levels deep")));
                }
                Ok(kind) if kind.is_file() => {
                    let is_table = labels.is_some() && fs::canonicalize(entry.path()).ok() == labels;
                    if !is_table {
                        by_id.insert(id.clone(), entry.path());
                    }
                }
                Ok(_) => folder.rejects.push(refuse("it is neither a file nor a folder".to_owned())),
                Err(e) => folder.rejects.push(refuse(format!("it cannot be read ({e})"))),
            }
            if by_id.len() > MAX_FILES {
                return Err(CohortError::TooManyFiles { path: root.to_owned(), limit: MAX_FILES });
            }
        }
    }
    if linked_folders > 0 {
        folder.warnings.push(format!("{linked_folders} links to folders were not followed"));
    }
    folder.files = by_id.into_iter().collect();
    Ok(folder)
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
