//! Is everything in order? The machine, the model store and the studies, looked at and not changed.
//!
//! Weights are compared with their recorded hashes, embeddings with the hashes of what they were made from, and some
//! images with those of the ingest. Each finding is in order, a warning or a problem, and says the way out. Nothing
//! here mends anything: that is for the commands that the findings name.

mod machine;

use std::fs;
use std::path::{Path, PathBuf};

use chestnut_zoo::store;
use serde::Serialize;

pub use machine::{Machine, free_bytes};

use crate::cohort::Cohort;
use crate::cohort::source::is_below;
use crate::embed::{self, Network};
use crate::lock::{self, LockState};
use crate::study::{MAX_MANIFEST_BYTES, Manifest, Study, read_kept};

/// Below this much free memory or disk a run may not come to its end: 1 GiB.
const LITTLE_BYTES: u64 = 1 << 30;
/// Images of a study whose hashes are compared.
const HASHED_IMAGES: usize = 32;
/// Names that one finding lists.
const MAX_NAMED: usize = 3;
/// Deepest folder of a study, and most entries, that are searched for leftovers.
const MAX_DEPTH: usize = 3;
const MAX_ENTRIES: usize = 1_000_000;
/// Prefix of the manifest's records of embedded networks.
const EMBED: &str = "embed ";

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In order.
    Ok,
    /// Works, but should be known.
    Warning,
    /// Does not work, or its results cannot be trusted.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to: "machine", "models", or a study's folder.
    pub about: String,
    /// What was looked at: "memory", a network's name, "cohort" ...
    pub name: String,
    /// How it is.
    pub status: Status,
    /// In words.
    pub text: String,
    /// What to do, where the words do not say it.
    pub way_out: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Version of this software.
    pub version: String,
    /// The machine.
    pub machine: Machine,
    /// Folder of the model store.
    pub models: PathBuf,
    /// All findings, in the order in which they are to be read.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// How many findings are of a status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|f| f.status == status).count()
    }
}

/// Findings about one thing.
struct Section<'a> {
    about: String,
    findings: &'a mut Vec<Finding>,
}

impl Section<'_> {
    fn add(&mut self, name: &str, status: Status, text: impl Into<String>, way_out: Option<String>) {
        // Names and texts come from files of anybody's study: they must not steer a terminal.
        let (about, name, text) = (self.about.clone(), printable(name), printable(&text.into()));
        self.findings.push(Finding { about, name, status, text, way_out: way_out.as_deref().map(printable) });
    }

    fn ok(&mut self, name: &str, text: impl Into<String>) {
        self.add(name, Status::Ok, text, None);
    }

    /// An error of a stage, whose words say the way out.
    fn error(&mut self, name: &str, error: &dyn std::error::Error) {
        self.add(name, Status::Problem, error.to_string(), None);
    }

    fn warning(&mut self, name: &str, text: impl Into<String>, way_out: &str) {
        self.add(name, Status::Warning, text, Some(way_out.to_owned()));
    }

    fn problem(&mut self, name: &str, text: impl Into<String>, way_out: &str) {
        self.add(name, Status::Problem, text, Some(way_out.to_owned()));
    }

    /// Free bytes where `folder` lies.
    fn disk(&mut self, folder: &Path) {
        match free_bytes(folder) {
            None => self.ok("disk", "free space unknown"),
            Some(free) if free < LITTLE_BYTES => {
                self.warning("disk", format!("only {} free", size(free)), "make room before the next run");
            }
            Some(free) => self.ok("disk", format!("{} free", size(free))),
        }
    }
}

/// Looks at the machine, the model store `models` and `studies`. `notice` is told what is being looked at, because
/// hashing large files takes a while.
#[must_use]
pub fn examine(models: &Path, studies: &[PathBuf], notice: &dyn Fn(&str)) -> Diagnosis {
    let machine = Machine::this();
    let mut findings = Vec::new();
    about_machine(&machine, &mut Section { about: "machine".to_owned(), findings: &mut findings });
    about_models(models, &mut Section { about: "models".to_owned(), findings: &mut findings }, notice);
    for root in studies {
        let about = format!("study {}", root.display());
        about_study(root, models, &mut Section { about, findings: &mut findings }, notice);
    }
    Diagnosis { version: env!("CARGO_PKG_VERSION").to_owned(), machine, models: models.to_owned(), findings }
}

fn about_machine(machine: &Machine, section: &mut Section<'_>) {
    section.ok("system", format!("{}, {}", machine.system, machine.architecture));
    let processor = machine.processor.as_deref().unwrap_or("unknown model");
    if machine.is_slow() {
        let text = format!("{processor}: no vector instructions that are used here, so networks run slowly");
        section.warning("processor", text, "use a processor with AVX2 or NEON if there is one");
    } else {
        section.ok("processor", format!("{processor}; networks run with {}", machine.kernels));
    }
    if !machine.extensions.is_empty() {
        section.ok("extensions", machine.extensions.join(", "));
    }
    section.ok("threads", machine.threads.to_string());
    match (machine.memory_bytes, machine.available_bytes) {
        (Some(total), Some(free)) if free < LITTLE_BYTES => {
            let text = format!("only {} of {} available", size(free), size(total));
            section.warning("memory", text, "close other programs before a run");
        }
        (Some(total), Some(free)) => section.ok("memory", format!("{} of {} available", size(free), size(total))),
        _ => section.ok("memory", "unknown"),
    }
}

fn about_models(models: &Path, section: &mut Section<'_>, notice: &dyn Fn(&str)) {
    section.ok("folder", models.display().to_string());
    section.disk(models);
    let all = match store::list(models) {
        Ok(all) => all,
        Err(e) => return section.error("store", &e),
    };
    for (name, record) in all {
        notice(&format!("the weights of {name}"));
        match record.and_then(|_| store::verify(models, &name)) {
            Ok(record) => {
                let hash = record.short_hash();
                let outputs = record.head.outputs();
                section.ok(&name, format!("{}, {outputs} outputs, weights as added ({hash})", record.architecture));
            }
            Err(e) => {
                section.problem(&name, e.to_string(), "add the network again with `chestnut models add --replace`")
            }
        }
    }
    // Networks never start with a dot; unfinished ones do.
    let mut hidden: Vec<String> = fs::read_dir(models)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| is_leftover(name))
        .collect();
    hidden.sort_unstable();
    let mut unfinished = Vec::new();
    for file in hidden {
        // Where a system cannot swap folders, a network that is being replaced has no name for a moment.
        let replaced = file[1..].strip_suffix(".old").and_then(|stem| stem.rsplit_once('.')).map(|(name, _)| name);
        match replaced {
            Some(name) if !models.join(name).exists() => {
                let way_out = format!("if no `chestnut models add` is running, rename that folder to {name}");
                section.problem(name, format!("its replacement was cut short; what it was lies in {file}"), &way_out);
            }
            _ => unfinished.push(file),
        }
    }
    leftovers(unfinished, "if no `chestnut models add` is running, remove them", section);
}

fn about_study(root: &Path, models: &Path, section: &mut Section<'_>, notice: &dyn Fn(&str)) {
    section.disk(root);
    let study = match Study::open(root) {
        Ok(study) => study,
        Err(e) => return section.error("settings", &e),
    };
    let held = about_lock(root, section);
    if !held {
        let mut names = Vec::new();
        find_leftovers(root, "", 0, &mut 0, &mut names);
        leftovers(names, "they are parts of runs that were killed: remove them", section);
    }
    let manifest = about_manifest(&study, section);
    let cohort = match study.cohort() {
        Ok(cohort) => cohort,
        Err(e) => return section.error("cohort", &e),
    };
    let (images, patients) = (cohort.images.len(), cohort.patients());
    section.ok("cohort", format!("{images} images of {patients} patients, {} items refused", cohort.rejects.len()));
    notice(&format!("the images of {}", root.display()));
    about_images(&study, &cohort, section);
    for name in manifest.stages.keys().filter_map(|stage| stage.strip_prefix(EMBED)) {
        notice(&printable(&format!("the embedding of {} by {name}", root.display())));
        about_embedding(&study, &cohort, models, name, section);
    }
    about_results(&study, section);
}

/// Whether a run has the study.
fn about_lock(root: &Path, section: &mut Section<'_>) -> bool {
    match lock::state(root) {
        LockState::Free => section.ok("lock", "not in use"),
        LockState::Crashed { owner } => {
            let way_out = format!("run `chestnut {}` again; what was finished is kept", owner.command);
            section.warning("lock", format!("{owner} did not come to its end"), &way_out);
        }
        LockState::Held { owner } => {
            let who = owner.map_or_else(|| "a run of chestnut".to_owned(), |owner| owner.to_string());
            section.warning("lock", format!("in use by {who}"), "what follows may change; look again when it is done");
            return true;
        }
        LockState::Unknown { reason } => {
            section.warning("lock", reason, "make sure that only one run at a time uses this study");
        }
    }
    false
}

fn about_manifest(study: &Study, section: &mut Section<'_>) -> Manifest {
    let path = study.path("manifest.json");
    if !path.is_file() {
        section.warning("stages", "manifest.json is missing", "run `chestnut ingest` and the later stages again");
        return Manifest::default();
    }
    let read = read_kept(&path, MAX_MANIFEST_BYTES).map_err(|e| e.to_string());
    let read = read.and_then(|text| serde_json::from_str::<Manifest>(&text).map_err(|e| e.to_string()));
    match read {
        Ok(manifest) => {
            let stages: Vec<&str> = manifest.stages.keys().map(String::as_str).collect();
            section.ok("stages", format!("{} (version {})", stages.join(", "), manifest.version));
            manifest
        }
        Err(e) => {
            section.problem("stages", format!("manifest.json is damaged: {e}"), "remove it and run the stages again");
            Manifest::default()
        }
    }
}

/// Whether the images are where they were, and some of them as they were.
fn about_images(study: &Study, cohort: &Cohort, section: &mut Section<'_>) {
    let folder = &study.settings.images;
    if !folder.exists() {
        let way_out = "mount it, or correct `images` in study.toml if it was moved";
        section.problem("images", format!("{} is not there", folder.display()), way_out);
        return;
    }
    // A cohort.csv that somebody edited is no way to other files.
    let outside: Vec<&str> = cohort.images.iter().map(|i| i.id.as_str()).filter(|id| !is_below(id)).collect();
    if !outside.is_empty() {
        let text = format!("{} have no path below {}: {}", outside.len(), folder.display(), some(&outside));
        section.problem("images", text, "run `chestnut ingest` again");
        return;
    }
    // An image inside an archive is no file of its own, and is left to `embed`.
    let is_file = |id: &str| folder.join(id).is_file();
    let in_archive =
        |id: &str| folder.is_file() || Path::new(id).ancestors().skip(1).any(|part| folder.join(part).is_file());
    let ids = cohort.images.iter().map(|image| image.id.as_str());
    let missing: Vec<&str> = ids.filter(|id| !is_file(id) && !in_archive(id)).collect();
    if !missing.is_empty() {
        let text = format!("{} of {} are missing: {}", missing.len(), cohort.images.len(), some(&missing));
        section.problem("images", text, "put them back or run `chestnut ingest` again");
        return;
    }
    let files: Vec<_> = cohort.images.iter().filter(|image| is_file(&image.id)).collect();
    let step = files.len().div_ceil(HASHED_IMAGES).max(1);
    let looked_at: Vec<_> = files.into_iter().step_by(step).collect();
    let changed: Vec<&str> = looked_at
        .iter()
        .filter(|image| store::sha256_file(&folder.join(&image.id)).ok().as_ref() != Some(&image.sha256))
        .map(|image| image.id.as_str())
        .collect();
    if changed.is_empty() {
        section.ok("images", format!("all there; {} looked at are as ingested", looked_at.len()));
    } else {
        let text = format!("{} of {} looked at have changed: {}", changed.len(), looked_at.len(), some(&changed));
        section.problem("images", text, "put the old ones back or run `chestnut ingest` again");
    }
}

fn about_embedding(study: &Study, cohort: &Cohort, models: &Path, name: &str, section: &mut Section<'_>) {
    let found = Network::find(models, name).and_then(|network| embed::load(study, cohort, &network));
    match found {
        Ok(table) if table.ids.len() < cohort.images.len() => {
            let text = format!("{} of {} images", table.ids.len(), cohort.images.len());
            let way_out = format!("`chestnut embed {} --net {name}` says why", study.root.display());
            section.warning(name, text, &way_out);
        }
        Ok(table) => section.ok(name, format!("{} images, {} features, as computed", table.ids.len(), table.width)),
        Err(e) => section.error(name, &e),
    }
}

/// Whether the results are younger than what they were made from.
fn about_results(study: &Study, section: &mut Section<'_>) {
    let changed = |name: &str| fs::metadata(study.path(name)).and_then(|about| about.modified()).ok();
    let Some(results) = changed("metrics.json") else {
        return section.ok("results", "none yet; `chestnut compare` makes them");
    };
    let older = ["cohort.csv", "study.toml"].into_iter().find(|name| changed(name).is_some_and(|time| time > results));
    match older {
        Some(name) => {
            let way_out = format!("run `chestnut compare {}` again", study.root.display());
            section.warning("results", format!("older than {name}"), &way_out);
        }
        None => section.ok("results", "metrics.json is younger than the cohort and the settings"),
    }
}

fn leftovers(mut names: Vec<String>, way_out: &str, section: &mut Section<'_>) {
    if names.is_empty() {
        return;
    }
    names.sort_unstable();
    let text = format!("{} temporary files are left: {}", names.len(), some(&names));
    section.warning("leftovers", text, way_out);
}

/// What a run could not remove because it was killed: temporary siblings of `fs::write_atomic` and of weight files, and
/// folders of networks that were not finished, in a study's folder and below.
fn find_leftovers(folder: &Path, prefix: &str, depth: usize, seen: &mut usize, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        *seen += 1;
        if *seen > MAX_ENTRIES {
            return;
        }
        let own = entry.file_name().to_string_lossy().into_owned();
        let name = format!("{prefix}{own}");
        if is_leftover(&own) {
            names.push(name);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth < MAX_DEPTH {
                find_leftovers(&entry.path(), &format!("{name}/"), depth + 1, seen, names);
            }
        }
    }
}

fn is_leftover(name: &str) -> bool {
    name.starts_with(".chestnut-") || (name.starts_with('.') && (name.ends_with(".tmp") || name.ends_with(".old")))
}

/// Text in which nothing but ends of lines steers a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The first few of some names.
fn some<S: AsRef<str>>(names: &[S]) -> String {
    let mut text = names.iter().take(MAX_NAMED).map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
    if names.len() > MAX_NAMED {
        text.push_str(" ...");
    }
    text
}

/// Bytes for people, in powers of 1024.
fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 { format!("{value:.1} {}", units[unit]) } else { format!("{value:.0} {}", units[unit]) }
}

#[cfg(test)]
mod tests;
