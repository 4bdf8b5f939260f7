//! From a folder of radiographs and a labels table to a cohort.
//!
//! Lists the folder and the archives in it, joins the table, judges headers by the rules, decodes every labelled image
//! on all cores while holding one image per core, settles copies and gives patients pseudonyms (paper section 2.1).
//! Where the table names studies or patients, the headers are read first, and only they; what they refuse is not opened
//! again, unless the row names a view, so damage behind the header of a lateral film is not looked for. One bad file or
//! row never stops the run and never goes unnoticed: it is a reject with a reason. The result does not depend on the
//! number of threads. Nothing is written here.

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
use crate::image::fingerprint::{Fingerprint, earlier_twins};
use crate::image::{self, DicomFacts, Film, ImageError, Picture, PixelSettings};

/// Most earlier look-alikes noted per image: enough to link it to every patient of a usual group.
const MAX_TWINS: usize = 16;
/// Most images that a thread takes at a time.
const MAX_PIECE: usize = 8;
/// Blocks of memory up to this size are kept from one image to the next: the grey values of 7 million pixels. The GNU
/// allocator learns sizes below 32 MiB.
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
    /// `None` where the header was not read yet.
    judged: Option<Judged>,
}

/// An image that its header and its row let pass.
struct Judged {
    /// The projection, if it is known.
    view: Option<String>,
    /// What people should know; sentences that begin with a verb.
    remarks: Vec<String>,
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
    let rules = options.rules.clone().with_any_body_part(options.any_body_part);
    let rules = if options.view.takes_other_views(&rules) { rules.with_any_view(true) } else { rules };
    let Keyed { sources, keys, mut verdicts, rejects: unreadable } =
        keyed(sources, table.key_kind, options, &rules, progress);
    rejects.extend(unreadable);
    let mut joined = join(&keys, table);
    drop(keys);
    warnings.append(&mut joined.warnings);
    rejects.append(&mut joined.rejects);

    let mut jobs = Vec::with_capacity(joined.pairs.len());
    for (file, row) in joined.pairs {
        let source = &sources[file];
        let judged = match &row.view {
            // A projection that the table refuses need not be opened; one that it lets pass is judged with the header.
            Some(view) => options.view.check(Some(view), &rules).map(|()| None),
            None => verdicts[file].take().transpose(),
        };
        match judged {
            Ok(judged) => jobs.push(Job { source, row, judged }),
            Err(reason) => rejects.push(refusal(source, &row, Stage::View, reason)),
        }
    }
    drop(verdicts);

    keep_memory();
    let done = AtomicUsize::new(0);
    let total = jobs.len();
    let results: Vec<Result<Taken, Reject>> = jobs
        .into_par_iter()
        // Small pieces, so that no thread is left alone with a long one at the end.
        .with_max_len(MAX_PIECE)
        .map(|job| {
            let result = take(job, options, &rules);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { step: Step::Images, done, total });
            result
        })
        .collect();
    let taken = passed(results, &mut rejects);
    warnings.extend(remarks::on_images(&taken, has_patients));
    warnings.extend(remarks::on_blanking(&taken, &options.blank));
    warnings.extend(remarks::on_polarity(&taken));

    let (prints, found): (Vec<Fingerprint>, Vec<CohortImage>) =
        taken.into_iter().map(|one| (one.fingerprint, one.image)).unzip();
    let near = earlier_twins(&prints, MAX_TWINS);
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
    /// One per source: what becomes of an image whose header was read, or why it is not used, where the table names no
    /// view.
    verdicts: Vec<Option<Result<Judged, String>>>,
    /// Files whose header is needed and cannot be read.
    rejects: Vec<Reject>,
}

/// Reads and judges the headers of all files where the table's keys need them.
fn keyed(
    sources: Vec<ImageSource>,
    kind: KeyKind,
    options: &IngestOptions,
    rules: &SelectionRules,
    progress: &(dyn Fn(Progress) + Sync),
) -> Keyed {
    if !kind.needs_header() {
        let keys = sources.iter().map(|s| FileKeys { id: s.id().to_owned(), header: None }).collect();
        let verdicts = sources.iter().map(|_| None).collect();
        return Keyed { sources, keys, verdicts, rejects: Vec::new() };
    }
    let done = AtomicUsize::new(0);
    let total = sources.len();
    let headers: Vec<Result<_, SourceError>> = sources
        .par_iter()
        .map(|source| {
            let header = match source.header() {
                Ok(facts) => {
                    // Kept in place of the facts, which would be many for a large folder.
                    let verdict = passes(rules.judge(&facts, None), options, rules);
                    let DicomFacts { accession, study_uid, patient_id, sop_uid, .. } = facts;
                    Ok((Some(HeaderKeys { accession, study_uid, patient_id, sop_uid }), Some(verdict)))
                }
                Err(SourceError::Image(ImageError::UnknownFormat { .. })) => Ok((None, None)),
                Err(e) => Err(e),
            };
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { step: Step::Headers, done, total });
            header
        })
        .collect();
    let mut keyed = Keyed {
        sources: Vec::with_capacity(total),
        keys: Vec::with_capacity(total),
        verdicts: Vec::with_capacity(total),
        rejects: Vec::new(),
    };
    for (source, header) in sources.into_iter().zip(headers) {
        let id = source.id().to_owned();
        match header {
            Ok((header, verdict)) => {
                keyed.keys.push(FileKeys { id, header });
                keyed.verdicts.push(verdict);
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

/// Those that passed; the others join the rejects.
fn passed<T>(results: Vec<Result<T, Reject>>, rejects: &mut Vec<Reject>) -> Vec<T> {
    let keep = |result: Result<T, Reject>| result.map_err(|reject| rejects.push(reject)).ok();
    results.into_iter().filter_map(keep).collect()
}

fn refusal(source: &ImageSource, row: &LabelRow, stage: Stage, reason: String) -> Reject {
    Reject { item: source.id().to_owned(), row: Some(row.row), stage, reason }
}

/// Whether an image that has this verdict is used.
///
/// # Errors
/// Why it is not.
fn passes(verdict: Verdict, options: &IngestOptions, rules: &SelectionRules) -> Result<Judged, String> {
    match verdict {
        Verdict::Refuse { reason } => Err(reason),
        Verdict::Take { view, flags } => {
            options.view.check(view.as_deref(), rules)?;
            Ok(Judged { view, remarks: flags })
        }
    }
}

/// Decodes one image, judged before if it was not yet, and keeps what the cohort needs; the pixels end here.
fn take(job: Job<'_>, options: &IngestOptions, rules: &SelectionRules) -> Result<Taken, Reject> {
    let Job { source, row, judged } = job;
    let (id, row) = (source.id(), &row);
    let refuse = |stage, reason| refusal(source, row, stage, reason);
    let unreadable = |e: &dyn Display| refuse(Stage::Read, format!("the file {e}"));
    let bytes = source.read().map_err(|e| unreadable(&e))?;
    let opened = image::open(&bytes).map_err(|e| unreadable(&e))?;
    let judge = || {
        // The header first: most of what is refused need not be decoded.
        let by_header = opened.facts().map(|facts| rules.judge(facts, row.view.as_deref()));
        passes(by_header.unwrap_or(Verdict::Take { view: row.view.clone(), flags: Vec::new() }), options, rules)
    };
    let judged = judged.map_or_else(judge, Ok);
    let Judged { view, mut remarks } = judged.map_err(|reason| refuse(Stage::View, reason))?;
    let film = opened.develop(&PixelSettings::default()).map_err(|e| unreadable(&e))?;
    drop(bytes);
    let Film { mut picture, format, dicom, colour, flags, content_sha256 } = film;
    remarks.extend(flags.iter().filter_map(remarks::on_flag));
    let header = dicom.as_ref();
    let mut blanked = false;
    if !options.blank.is_empty() {
        let mut radiograph = picture.draw();
        blanked = options.blank.apply(&mut radiograph, header) > 0;
        if blanked && radiograph.range().0 == radiograph.range().1 {
            let reason = "the blank regions leave nothing of the picture; make them smaller".to_owned();
            return Err(refuse(Stage::Read, reason));
        }
        picture = Picture::Drawn(radiograph);
    }
    let known_patient =
        row.patient.clone().or_else(|| header.and_then(|h| h.patient_id.clone())).filter(|p| !p.trim().is_empty());
    let manufacturer = header.and_then(|h| h.manufacturer.as_deref()).map(str::trim).filter(|m| !m.is_empty());
    let grids = picture.grids();
    let (width, height) = picture.size();
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
            width,
            height,
            bits: picture.bits(),
            format: format.to_string(),
            sha256: content_sha256,
            labels: row.labels.clone(),
        },
    })
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
