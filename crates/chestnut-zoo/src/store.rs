//! The model store: a folder in which each network is a folder with its weights and a record of what it is.
//!
//! `<name>/weights.safetensors` holds the tensors under canonical names, `<name>/model.toml` what one must know to use
//! them: architecture, head, standardisation, origin, hashes, licence. A network is checked before anything is
//! written, and appears in the store complete or not at all.

mod error;
mod record;

use crate::graph::Graph;
use crate::nets::Architecture;
use crate::read::safetensors::{read_safetensors, write_atomic, write_safetensors};
use crate::read::{HeadHint, ReadError, ReadOptions, read};
use crate::shipped;
use crate::weights::{self, Weights};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

pub use error::StoreError;
pub use record::{INPUT_SIZES, MAX_TAUGHT_ON, ModelRecord, STANDARDISATIONS, metadata};

/// File with the tensors.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// File with the record.
pub const RECORD_FILE: &str = "model.toml";
/// Rows and columns of the input unless told otherwise (the paper, section 2.2).
pub const DEFAULT_INPUT_SIZE: usize = 224;
/// Largest record, in bytes: more than any list of films takes that the header of a weights file has room for.
const MAX_RECORD_BYTES: u64 = 32 << 20;
/// Longest name of a network.
const MAX_NAME: usize = 64;

/// A name in the store, and its record or why that cannot be read.
pub type Listed = (String, Result<ModelRecord, StoreError>);

/// How to add a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// What is known about the head.
    pub head: HeadHint,
    /// One of [`STANDARDISATIONS`]; `imagenet` if neither this nor the file says.
    pub standardisation: Option<String>,
    /// Rows and columns of the input; [`DEFAULT_INPUT_SIZE`] if not given.
    pub input_size: Option<usize>,
    /// Licence of the weights; recorded as "not stated" if not given.
    pub licence: Option<String>,
    /// Store kernels as F16: half the size, rounded values.
    pub half: bool,
    /// Replace a network of the same name.
    pub replace: bool,
    /// Sentences for the record beside those that reading gives, such as how the network was trained.
    pub notes: Vec<String>,
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io { path: path.clone(), source }
}

/// Adds the network in `file` under `name`; without `architecture` the one that fits is taken.
///
/// # Errors
/// [`StoreError`] if the name is taken or unusable, or the file does not hold the weights of a known network; the store
/// is then as it was.
pub fn add(
    folder: &Path,
    file: &Path,
    name: &str,
    architecture: Option<Architecture>,
    options: &AddOptions,
) -> Result<ModelRecord, StoreError> {
    check_name(name)?;
    let target = folder.join(name);
    if target.exists() && !options.replace {
        return Err(StoreError::Exists(name.to_owned()));
    }
    if let Some(wanted) = &options.standardisation
        && !STANDARDISATIONS.contains(&wanted.as_str())
    {
        return Err(StoreError::Standardisation(record::unknown_standardisation(wanted)));
    }
    let failed = |source| StoreError::Weights { file: file.display().to_string(), source };
    let source = read(file, &ReadOptions { head: options.head.clone(), ..ReadOptions::default() }).map_err(failed)?;
    let architecture = match architecture {
        Some(architecture) => architecture,
        None => source.guess(&options.head).map_err(failed)?,
    };
    let (format, saved_input_size, recorded) = (source.format, source.input_size, source.recorded.clone());
    let mut fitted = source.fit(architecture, &options.head).map_err(failed)?;
    fitted.notes.extend(options.notes.iter().cloned());
    let channels = fitted.graph.input_channels();
    let input_size = options.input_size.unwrap_or(DEFAULT_INPUT_SIZE);
    fitted.graph.shapes(input_size, input_size).map_err(|e| StoreError::Unusable(e.to_string()))?;
    if let Some(saved) = saved_input_size.filter(|&saved| saved != input_size) {
        fitted
            .notes
            .push(format!("saved for inputs of {saved} x {saved} pixels, used here with {input_size} x {input_size}"));
    }
    let known = recorded.standardisation.filter(|s| STANDARDISATIONS.contains(&s.as_str()));
    let standardisation = match (options.standardisation.clone().or(known), channels) {
        (Some(standardisation), _) => standardisation,
        (None, 1) => {
            fitted.notes.push("the input has one channel: TorchXRayVision's standardisation is assumed".into());
            "torchxrayvision".into()
        }
        (None, _) => {
            fitted.notes.push("standardised as in the paper (ImageNet), since nothing else is stated".into());
            "imagenet".into()
        }
    };
    let mut conditional = recorded.conditional;
    if !conditional.iter().flat_map(|(child, parent)| [child, parent]).all(|l| fitted.head.labels.contains(l)) {
        conditional.clear();
        fitted
            .notes
            .push("its labels were renamed: outputs that hold only where another is present stay as they are".into());
    }
    let mut record = ModelRecord {
        name: name.to_owned(),
        architecture: architecture.name().to_owned(),
        channels,
        standardisation,
        input_size,
        saved_input_size,
        source_file: file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
        source_format: format.name().to_owned(),
        source_sha256: sha256_file(file).map_err(at(file))?,
        weights_sha256: String::new(),
        licence: options.licence.clone().unwrap_or_else(|| "not stated".to_owned()),
        notes: fitted.notes,
        taught_on: recorded.taught_on,
        added_by_version: env!("CARGO_PKG_VERSION").to_owned(),
        head: fitted.head,
        conditional,
    };
    let fault = |detail| StoreError::Record { path: file.display().to_string(), detail };
    record.paths().map_err(fault)?;
    record.graph().map_err(StoreError::Unusable)?;
    fs::create_dir_all(folder).map_err(at(folder))?;
    let unfinished = Unfinished::new(folder, name)?;
    let weights_path = unfinished.path.join(WEIGHTS_FILE);
    write_safetensors(&weights_path, &fitted.weights, &metadata(&record), options.half).map_err(at(&weights_path))?;
    record.weights_sha256 = sha256_file(&weights_path).map_err(at(&weights_path))?;
    write_record(&unfinished.path.join(RECORD_FILE), &record)?;
    unfinished.publish(&target)?;
    Ok(record)
}

/// Every network of the store and the shipped one by name; one whose record cannot be read carries the reason. A folder
/// that does not exist is an empty store.
///
/// # Errors
/// [`StoreError::Io`] if the folder cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<Listed>, StoreError> {
    let mut names = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(at(folder))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if check_name(&name).is_ok() && entry.path().join(RECORD_FILE).is_file() {
                    names.push(name);
                }
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(at(folder)(e)),
    }
    if !names.iter().any(|name| name == shipped::NAME) {
        names.push(shipped::NAME.to_owned());
    }
    names.sort_unstable();
    Ok(names
        .into_iter()
        .map(|name| {
            let record = record(folder, &name);
            (name, record)
        })
        .collect())
}

/// Whether this name means the network in the program: a network of that name in the store goes before it.
fn is_shipped(folder: &Path, name: &str) -> bool {
    name == shipped::NAME && matches!(folder.join(name).join(RECORD_FILE).try_exists(), Ok(false))
}

/// The record of one network.
///
/// # Errors
/// [`StoreError`] if there is none or it contradicts itself.
pub fn record(folder: &Path, name: &str) -> Result<ModelRecord, StoreError> {
    check_name(name)?;
    let path = folder.join(name).join(RECORD_FILE);
    if is_shipped(folder, name) {
        return shipped::record();
    }
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut known: Vec<String> = Vec::new();
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().join(RECORD_FILE).is_file() {
                    known.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            known.retain(|other| check_name(other).is_ok());
            known.sort_unstable();
            if !known.iter().any(|name| name == shipped::NAME) {
                known.push(format!("{} (shipped)", shipped::NAME));
            }
            return Err(StoreError::Absent { name: name.to_owned(), known: known.join(", ") });
        }
        Err(e) => return Err(at(&path)(e)),
    };
    let wrong = |detail: String| StoreError::Record { path: path.display().to_string(), detail };
    let mut text = String::new();
    file.take(MAX_RECORD_BYTES + 1).read_to_string(&mut text).map_err(at(&path))?;
    if text.len() as u64 > MAX_RECORD_BYTES {
        return Err(wrong(format!("longer than {MAX_RECORD_BYTES} bytes; not a record of a network")));
    }
    let record: ModelRecord = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    record.check_hash().map_err(&wrong)?;
    record.graph().map_err(wrong)?;
    Ok(record)
}

/// A network with its weights; names, shapes and finiteness are checked, the hash is not (see [`verify`]).
///
/// # Errors
/// [`StoreError`] if it is not there, or its weights are not what its record says.
pub fn load(folder: &Path, name: &str) -> Result<(ModelRecord, Graph, Weights), StoreError> {
    if is_shipped(folder, name) {
        return shipped::load();
    }
    let record = record(folder, name)?;
    let path = folder.join(name);
    let graph = record
        .graph()
        .map_err(|detail| StoreError::Record { path: path.join(RECORD_FILE).display().to_string(), detail })?;
    let path = path.join(WEIGHTS_FILE);
    let failed = |source| StoreError::Weights { file: path.display().to_string(), source };
    let tensors = read_safetensors(&path).map_err(failed)?.tensors;
    weights::check(&graph, &tensors).map_err(|misfit| failed(ReadError::Misfit(Box::new(misfit))))?;
    Ok((record, graph, tensors))
}

/// As [`load`], if the weights have the hash in the record; the file is read and hashed at the same time.
///
/// # Errors
/// [`StoreError::Hash`] if they were changed; else as [`load`].
pub fn load_verified(folder: &Path, name: &str) -> Result<(ModelRecord, Graph, Weights), StoreError> {
    if is_shipped(folder, name) {
        return shipped::load();
    }
    let record = record(folder, name)?;
    let path = folder.join(name).join(WEIGHTS_FILE);
    let (found, loaded) = std::thread::scope(|scope| {
        let hash = scope.spawn(|| sha256_file(&path));
        let loaded = load(folder, name);
        (hash.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), loaded)
    });
    let found = found.map_err(at(&path))?;
    if found != record.weights_sha256 {
        return Err(StoreError::Hash { path: path.display().to_string(), found, recorded: record.weights_sha256 });
    }
    loaded
}

/// Compares the weights with the hash in the record, and everything that [`load`] checks.
///
/// # Errors
/// As [`load_verified`].
pub fn verify(folder: &Path, name: &str) -> Result<ModelRecord, StoreError> {
    load_verified(folder, name).map(|(record, ..)| record)
}

/// SHA-256 of a file, hexadecimal, read in pieces.
///
/// # Errors
/// An I/O error.
pub fn sha256_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize().iter() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A name that is also a safe folder name on every system.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.len() <= MAX_NAME && name.chars().all(allowed) && !name.ends_with('.') {
        Ok(())
    } else {
        Err(StoreError::Name(name.to_owned()))
    }
}

fn write_record(path: &Path, record: &ModelRecord) -> Result<(), StoreError> {
    let text = toml::to_string_pretty(record)
        .map_err(|e| StoreError::Record { path: path.display().to_string(), detail: e.to_string() })?;
    write_atomic(path, |out| {
        out.write_all(
            b"# A network in chestnut's model store. licence, labels, standardisation and input_size may be edited.\n",
        )?;
        out.write_all(text.as_bytes())
    })
    .map_err(at(path))
}

/// A folder that is not yet part of the store; removed unless published.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn new(folder: &Path, name: &str) -> Result<Self, StoreError> {
        // Names of networks never start with a dot.
        let path = folder.join(format!(".{name}.{}.tmp", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
        fs::create_dir(&path).map_err(at(&path))?;
        Ok(Self { path })
    }

    fn publish(self, target: &Path) -> Result<(), StoreError> {
        if target.exists() {
            if swap(&self.path, target) {
                // The old one is now here, and goes with `self`.
                return Ok(());
            }
            let old = self.path.with_extension("old");
            fs::rename(target, &old).map_err(at(target))?;
            if let Err(e) = fs::rename(&self.path, target) {
                // Put the old one back; the first error is the one to report.
                let _ = fs::rename(&old, target);
                return Err(at(target)(e));
            }
            fs::remove_dir_all(&old).map_err(at(&old))?;
        } else {
            fs::rename(&self.path, target).map_err(at(target))?;
        }
        Ok(())
    }
}

/// Swaps two folders, if the system can do it in one step: then a network that is replaced is there at every moment, even
/// if the process is killed.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn swap(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn swap(_one: &Path, _other: &Path) -> bool {
    false
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After publishing it is no longer there, or is the network that was replaced.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests;
