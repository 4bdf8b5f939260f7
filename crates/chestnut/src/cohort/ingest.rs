//! From a folder of radiographs and a labels table to a cohort.
//!
//! Lists the folder and the archives in it, joins the table, judges headers by the rules, decodes every labelled image
//! on all cores while holding one image per core, settles copies and gives patients pseudonyms (paper section 2.1).
//! Where the table names studies or patients, the headers are read first, and only they. One bad file or row never
//! stops the run and never goes unnoticed: it is a reject with a reason. The result does not depend on the number of
//! threads. Nothing is written here.

mod remarks;

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::blank::BlankRules;
use super::duplicates::{Copies, Settled, SharedPicture, settle};
use super::join::{FileKeys, HeaderKeys, join};
use super::labels::{ColumnNames, KeyKind, LabelRow, read_labels};
use super::rules::{SelectionRules, Verdict};
use super::source::{self, ImageSource, SourceError};
use super::view::ViewFilter;
use super::{BlankPolicy, Cohort, CohortError, CohortImage, LabelSet, Reject, Stage, pseudonym};
use crate::image::fingerprint::{Fingerprint, Grids, is_near_identical};
use crate::image::{self, Decoded, ImageError, PixelSettings};

/// Most earlier look-alikes noted per image: enough to link it to every patient of a usual group.
const MAX_TWINS: usize = 16;
/// Blocks of memory up to this size are kept from one image to the next: a film of 7 million pixels. The GNU allocator
/// learns sizes below 32 MiB.
const KEPT_BYTES: usize = 30 << 20;

/// What an ingest is asked for.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The labels and how they are read.
    pub label_set: LabelSet,
    /// Columns named by the user.
    pub columns: ColumnNames,
    /// Projections wanted.
    pub view: ViewFilter,
    /// Which DICOM images are frontal chest radiographs.
    pub rules: SelectionRules,
    /// Takes images whose DICOM header names another body part than the chest.
    pub any_body_part: bool,
    /// Rectangles that are blanked before anything looks at the pixels. `embed` must apply the same ones.
    pub blank: BlankRules,
    /// Second copies of a picture.
    pub copies: Copies,
    /// Patients who share a picture.
    pub shared_picture: SharedPicture,
    /// Key of the pseudonyms; without one patient ids are kept as they came.
    pub pseudonym_key: Option<[u8; 32]>,
}

impl IngestOptions {
    /// The defaults for a label set: frontal chest images by the built-in rules, copies refused, patients who share a
    /// picture merged, nothing blanked, no key.
    #[must_use]
    pub fn new(label_set: LabelSet) -> Self {
        Self {
            label_set,
            columns: ColumnNames::default(),
            view: ViewFilter::default(),
            rules: SelectionRules::default(),
            any_body_part: false,
            blank: BlankRules::default(),
            copies: Copies::default(),
            shared_picture: SharedPicture::default(),
            pseudonym_key: None,
        }
    }
}

/// A part of the ingest that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// DICOM headers are read, to find the images of each row. Left out where rows name files.
    Headers,
    /// Images are decoded.
    Images,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which step.
    pub step: Step,
    /// Files done, refused ones included.
    pub done: usize,
    /// Files to do in this step.
    pub total: usize,
}

/// A file that has a row.
struct Job<'a> {
    source: &'a ImageSource,
    row: LabelRow,
}

/// What is kept of a decoded image.
struct Taken {
    image: CohortImage,
    fingerprint: Fingerprint,
    /// No patient id anywhere: the image stands for a patient of its own.
    own_patient: bool,
    /// The colour channels differ.
    colour: bool,
    /// A part of the picture was blanked.
    blanked: bool,
    /// [`image::looks_inverted`].
    inverted: f32,
    /// What else people should know; sentences that begin with a verb.
    remarks: Vec<String>,
}

/// Reads a folder of images, or one archive of them, and a labels table into a cohort.
///
/// `progress` is called from worker threads, once per file and step. The cohort may be empty if everything
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
    let source::Listing { sources, mut rejects, warnings: about_files } = source::list(images, labels)?;
    warnings.extend(about_files);
    let Keyed { sources, keys, rejects: unreadable } = keyed(sources, table.key_kind, progress);
    rejects.extend(unreadable);
    let mut joined = join(&keys, table);
    drop(keys);
    warnings.append(&mut joined.warnings);
    rejects.append(&mut joined.rejects);

    let rules = options.rules.clone().with_any_body_part(options.any_body_part);
    let rules = if options.view.takes_other_views(&rules) { rules.with_any_view(true) } else { rules };
    // A projection that the table refuses need not be decoded.
    let mut jobs = Vec::with_capacity(joined.pairs.len());
    for (file, row) in joined.pairs {
        let source = &sources[file];
        let verdict = row.view.as_deref().map_or(Ok(()), |view| options.view.check(Some(view), &rules));
        match verdict {
            Ok(()) => jobs.push(Job { source, row }),
            Err(reason) => {
                let item = source.id().to_owned();
                rejects.push(Reject { item, row: Some(row.row), stage: Stage::View, reason });
            }
        }
    }

    keep_memory();
    let done = AtomicUsize::new(0);
    let total = jobs.len();
    let results: Vec<Result<Taken, Reject>> = jobs
        .par_iter()
        .map(|job| {
            let result = take(job, options, &rules);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { step: Step::Images, done, total });
            result
        })
        .collect();
    let mut taken = Vec::with_capacity(total);
    for result in results {
        match result {
            Ok(image) => taken.push(image),
            Err(reject) => rejects.push(reject),
        }
    }
    warnings.extend(remarks::on_images(&taken, has_patients));
    warnings.extend(remarks::on_blanking(&taken, &options.blank));
    warnings.extend(remarks::on_polarity(&taken));

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
    let about_labels = remarks::on_labels(&cohort);
    cohort.warnings.extend(about_labels);
    Ok(cohort)
}

/// The files that can be joined, and what they are called.
struct Keyed {
    sources: Vec<ImageSource>,
    /// One per source.
    keys: Vec<FileKeys>,
    /// Files whose header is needed and cannot be read.
    rejects: Vec<Reject>,
}

/// Reads the headers of all files where the table's keys need them.
fn keyed(sources: Vec<ImageSource>, kind: KeyKind, progress: &(dyn Fn(Progress) + Sync)) -> Keyed {
    if !kind.needs_header() {
        let keys = sources.iter().map(|s| FileKeys { id: s.id().to_owned(), header: None }).collect();
        return Keyed { sources, keys, rejects: Vec::new() };
    }
    let done = AtomicUsize::new(0);
    let total = sources.len();
    let headers: Vec<Result<Option<HeaderKeys>, SourceError>> = sources
        .par_iter()
        .map(|source| {
            let header = match source.header() {
                Ok(facts) => Ok(Some(HeaderKeys {
                    accession: facts.accession,
                    study_uid: facts.study_uid,
                    patient_id: facts.patient_id,
                    sop_uid: facts.sop_uid,
                })),
                Err(SourceError::Image(ImageError::UnknownFormat { .. })) => Ok(None),
                Err(e) => Err(e),
            };
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { step: Step::Headers, done, total });
            header
        })
        .collect();
    let mut keyed = Keyed { sources: Vec::with_capacity(total), keys: Vec::with_capacity(total), rejects: Vec::new() };
    for (source, header) in sources.into_iter().zip(headers) {
        let id = source.id().to_owned();
        match header {
            Ok(header) => {
                keyed.keys.push(FileKeys { id, header });
                keyed.sources.push(source);
            }
            Err(e) => {
                keyed.rejects.push(Reject { item: id, row: None, stage: Stage::Read, reason: format!("the file {e}") });
            }
        }
    }
    keyed
}

/// Lets each thread use the memory of one image for the next.
///
/// The GNU allocator maps large blocks anew and gives them back when they are freed, so that every image pays for every
/// page of its file, cells and pixels: that was a tenth of the time. It stops doing so for sizes up to that of the
/// largest mapped block that was ever freed (mallopt(3), M_MMAP_THRESHOLD). Other allocators take no notice.
fn keep_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}

/// Judges and decodes one image and keeps what the cohort needs; the pixels end here.
fn take(job: &Job<'_>, options: &IngestOptions, rules: &SelectionRules) -> Result<Taken, Reject> {
    let (id, row) = (job.source.id(), &job.row);
    let refuse = |stage, reason| Reject { item: id.to_owned(), row: Some(row.row), stage, reason };
    let unreadable = |e: &dyn Display| refuse(Stage::Read, format!("the file {e}"));
    let bytes = job.source.read().map_err(|e| unreadable(&e))?;
    let mut view = row.view.clone();
    let mut remarks = Vec::new();
    // The header first: most of what is refused need not be decoded.
    let opened = image::open(&bytes).map_err(|e| unreadable(&e))?;
    if let Some(facts) = opened.facts() {
        match rules.judge(facts, row.view.as_deref()) {
            Verdict::Take { view: found, flags } => (view, remarks) = (found, flags),
            Verdict::Refuse { reason } => return Err(refuse(Stage::View, reason)),
        }
    }
    options.view.check(view.as_deref(), rules).map_err(|reason| refuse(Stage::View, reason))?;
    let Decoded { mut radiograph, format, dicom, colour, flags, content_sha256, .. } =
        opened.decode(&PixelSettings::default()).map_err(|e| unreadable(&e))?;
    drop(bytes);
    remarks.extend(flags.iter().filter_map(remarks::on_flag));
    let header = dicom.as_ref();
    let blanked = options.blank.apply(&mut radiograph, header) > 0;
    if blanked && radiograph.range().0 == radiograph.range().1 {
        let reason = "the blank regions leave nothing of the picture; make them smaller".to_owned();
        return Err(refuse(Stage::Read, reason));
    }
    let known_patient =
        row.patient.clone().or_else(|| header.and_then(|h| h.patient_id.clone())).filter(|p| !p.trim().is_empty());
    let manufacturer = header.and_then(|h| h.manufacturer.as_deref()).map(str::trim).filter(|m| !m.is_empty());
    let grids = Grids::of(&radiograph);
    Ok(Taken {
        own_patient: known_patient.is_none(),
        colour,
        blanked,
        inverted: image::looks_inverted(&grids),
        remarks,
        fingerprint: Fingerprint::of(&grids),
        image: CohortImage {
            id: id.to_owned(),
            row: row.row,
            patient: known_patient.unwrap_or_else(|| format!("image:{id}")),
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

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
