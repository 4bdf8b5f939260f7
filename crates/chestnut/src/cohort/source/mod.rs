//! Where images come from: files of a folder, and members of zip and tar archives in it.
//!
//! An image's id is its path below the image folder, with `/` between its parts; a member of an archive goes on behind
//! the archive's own path (`export.zip/sub/file`). Archives are known by content and never unpacked to disk: members
//! are read into memory one at a time, within named limits, because sizes in archives are claims (ARCHITECTURE.md,
//! rule 6). Nothing here decodes a picture or knows the labels.

mod archive;
mod dicomdir;
mod folder;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

pub use archive::{MAX_ARCHIVE_BYTES, MAX_INDEX_BYTES, MAX_MEMBERS, MAX_NAME_BYTES, MAX_RATIO};
pub(crate) use folder::{Listing, last_part, list, list_any};

use self::archive::Archive;
use crate::image::{self, DicomFacts, ImageError, dicom};

/// Most files that a folder may hold, and most images with the members of archives.
pub const MAX_FILES: usize = 2_000_000;
/// Deepest folder below the image folder or in an archive that is entered.
pub const MAX_DEPTH: usize = 32;

/// Why the bytes of an image cannot be had. The message does not name the image: the caller does.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file itself.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The archive around it, or its place in the archive.
    #[error("cannot be read from the archive {archive} ({problem}); unpack it and ingest the folder")]
    Archive {
        /// The archive's id.
        archive: String,
        /// What is wrong.
        problem: String,
    },
    /// The archive has no such member.
    #[error("is not in the archive {archive} any more; put it back as it was or run ingest again")]
    NotInArchive {
        /// The archive's id.
        archive: String,
    },
    /// An id that leads out of the image folder.
    #[error("has no path below the image folder; run ingest again")]
    BadId,
}

/// One image: a file, or a member of an archive.
#[derive(Clone, Debug)]
pub struct ImageSource {
    id: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    File(PathBuf),
    Member { archive: Arc<Archive>, index: usize },
}

impl ImageSource {
    /// Path below the image folder, with `/` between its parts.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// All its bytes, at most [`image::MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(&self) -> Result<Vec<u8>, SourceError> {
        match &self.place {
            Place::File(path) => Ok(image::read_bytes(path)?),
            Place::Member { archive, index } => archive.read(*index),
        }
    }

    /// Its DICOM header; of a file only the header is read.
    ///
    /// # Errors
    /// [`SourceError`]; [`ImageError::UnknownFormat`] within if it is no DICOM file.
    pub(crate) fn header(&self) -> Result<DicomFacts, SourceError> {
        match &self.place {
            Place::File(path) => Ok(dicom::header(path)?),
            Place::Member { archive, index } => Ok(dicom::facts(&archive.read(*index)?)?),
        }
    }
}

/// Archives that were opened, or why they cannot be.
type Opened = BTreeMap<PathBuf, Result<Arc<Archive>, String>>;

/// The images below a folder (or in one archive) by their ids, as `cohort.csv` names them.
///
/// The index of each archive is read once and kept. Can be shared between threads.
#[derive(Debug)]
pub struct Sources {
    root: PathBuf,
    archives: Mutex<Opened>,
}

impl Sources {
    /// The images below `root`, which is not looked at yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), archives: Mutex::default() }
    }

    /// The bytes of the image `id`, at most [`image::MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// [`SourceError`]; a missing file is [`ImageError::Io`] within.
    pub fn read(&self, id: &str) -> Result<Vec<u8>, SourceError> {
        if !is_below(id) {
            return Err(SourceError::BadId);
        }
        if self.root.is_file() {
            let name = self.root.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            return self.member(&self.root, &name, id);
        }
        let failed = match image::read_bytes(&self.root.join(id)) {
            Ok(bytes) => return Ok(bytes),
            Err(e) => e,
        };
        if matches!(failed, ImageError::Io(_)) {
            for (at, _) in id.match_indices('/') {
                let archive = self.root.join(&id[..at]);
                if archive.is_file() {
                    return self.member(&archive, &id[..at], &id[at + 1..]);
                }
            }
        }
        Err(failed.into())
    }

    fn member(&self, path: &Path, archive_id: &str, name: &str) -> Result<Vec<u8>, SourceError> {
        let opened = {
            // Held while an index is read, so that no other thread reads it as well.
            let mut archives = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
            let open = || archive::open(path, archive_id).map(|indexed| Arc::new(indexed.archive));
            archives.entry(path.to_path_buf()).or_insert_with(open).clone()
        };
        let fault = |problem| SourceError::Archive { archive: archive_id.to_owned(), problem };
        let archive = opened.map_err(fault)?;
        let index = archive.find(name).ok_or_else(|| SourceError::NotInArchive { archive: archive_id.to_owned() })?;
        archive.read(index)
    }
}

/// Whether an id is a path below the image folder: an edited cohort.csv must not reach files elsewhere.
pub(crate) fn is_below(id: &str) -> bool {
    !id.is_empty() && Path::new(id).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The bytes of one image below `root`. For many images use [`Sources`], which keeps what it knows of archives.
///
/// # Errors
/// As [`Sources::read`].
pub fn open_source(root: &Path, id: &str) -> Result<Vec<u8>, SourceError> {
    Sources::new(root).read(id)
}
