//! The walk through an image folder and the archives in it.
//!
//! All levels are searched; hidden files, the labels table and DICOMDIR are left out, links to folders are not
//! followed. Whatever else lies there is an image or is refused with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{CohortError, Reject, Stage};
use super::archive::{self, Kind, START_BYTES, is_picture_name, sniff};
use super::dicomdir::{is_dicomdir, listed_files};
use super::{ImageSource, MAX_DEPTH, MAX_FILES, Place};

/// Most file names that one warning lists.
const MAX_NAMED: usize = 3;

/// What lies below an image folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Sorted by id, each id once.
    pub(crate) sources: Vec<ImageSource>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) warnings: Vec<String>,
}

/// What the walk has found so far.
#[derive(Default)]
struct Found {
    images: BTreeMap<String, Place>,
    /// Archives by id.
    archives: BTreeMap<String, PathBuf>,
    dicomdirs: BTreeMap<String, Place>,
    rejects: Vec<Reject>,
    warnings: Vec<String>,
}

impl Found {
    fn refuse(&mut self, item: String, reason: String) {
        self.rejects.push(Reject { item, row: None, stage: Stage::Read, reason });
    }

    /// Sorts a regular file in.
    fn add_file(&mut self, id: String, path: PathBuf) {
        let name = id.rsplit('/').next().unwrap_or(&id);
        if is_dicomdir(name) {
            self.dicomdirs.insert(id, Place::File(path));
            return;
        }
        // A file that cannot be opened says so when it is read as an image.
        let kind = if is_picture_name(name) { None } else { start_of(&path).ok().and_then(|start| sniff(&start)) };
        match kind {
            None => {
                self.images.insert(id, Place::File(path));
            }
            Some(Kind::Zip | Kind::Tar) => {
                self.archives.insert(id, path);
            }
            Some(Kind::Other(name)) => {
                let reason =
                    format!("it is a {name} archive, and zip and plain tar are read; unpack it into the image folder");
                self.refuse(id, reason);
            }
        }
    }

    /// Adds the members of an archive; `prefix` stands before their names.
    fn add_archive(&mut self, id: &str, path: &Path, prefix: &str) {
        let indexed = match archive::open(path, id) {
            Ok(indexed) => indexed,
            Err(problem) => {
                self.refuse(id.to_owned(), format!("the archive cannot be used: {problem}"));
                return;
            }
        };
        for (name, reason) in indexed.refused {
            self.refuse(format!("{prefix}{name}"), reason);
        }
        self.warnings.extend(indexed.notes.into_iter().map(|note| format!("the archive {id}: {note}")));
        let archive = Arc::new(indexed.archive);
        for (index, member) in archive.members().iter().enumerate() {
            let id = format!("{prefix}{}", member.name);
            let place = Place::Member { archive: Arc::clone(&archive), index };
            if is_dicomdir(member.name.rsplit('/').next().unwrap_or("")) {
                self.dicomdirs.insert(id, place);
            } else {
                self.images.insert(id, place);
            }
        }
    }

    fn check_count(&self, root: &Path) -> Result<(), CohortError> {
        if self.images.len() > MAX_FILES {
            return Err(CohortError::TooManyFiles { path: root.to_owned(), limit: MAX_FILES });
        }
        Ok(())
    }
}

/// Lists the images below `root`, or in it if it is an archive itself; `labels` is left out.
///
/// # Errors
/// [`CohortError::Folder`] if `root` cannot be listed, [`CohortError::TooManyFiles`].
pub(crate) fn list(root: &Path, labels: &Path) -> Result<Listing, CohortError> {
    let folder_error = |path: &Path, source| CohortError::Folder { path: path.to_owned(), source };
    let mut found = Found::default();
    if root.is_file() {
        let start = start_of(root).map_err(|e| folder_error(root, e))?;
        if !matches!(sniff(&start), Some(Kind::Zip | Kind::Tar)) {
            return Err(folder_error(root, io::Error::other("it is neither a folder nor a zip or tar archive")));
        }
        let name = root.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        found.add_archive(&name, root, "");
    } else {
        walk(root, labels, &mut found)?;
        for (id, path) in std::mem::take(&mut found.archives) {
            found.add_archive(&id, &path, &format!("{id}/"));
            found.check_count(root)?;
        }
    }
    found.check_count(root)?;
    note_dicomdirs(&mut found);
    let sources = found.images.into_iter().map(|(id, place)| ImageSource { id, place }).collect();
    Ok(Listing { sources, rejects: found.rejects, warnings: found.warnings })
}

/// Lists what is to be looked at without a labels table: a folder, an archive, or one image file.
///
/// # Errors
/// As [`list`].
pub(crate) fn list_any(root: &Path) -> Result<Listing, CohortError> {
    if root.is_file() && start_of(root).is_ok_and(|start| sniff(&start).is_none()) {
        let id = root.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let source = ImageSource { id, place: Place::File(root.to_path_buf()) };
        return Ok(Listing { sources: vec![source], ..Listing::default() });
    }
    // No file has the empty path, so nothing is left out as the labels table.
    list(root, Path::new(""))
}

/// Walks through the folder `root`.
fn walk(root: &Path, labels: &Path, found: &mut Found) -> Result<(), CohortError> {
    let labels = fs::canonicalize(labels).ok();
    let mut linked_folders = 0usize;
    let mut todo = vec![(root.to_owned(), String::new(), 0usize)];
    while let Some((path, prefix, depth)) = todo.pop() {
        let entries = match fs::read_dir(&path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(source) if depth == 0 => return Err(CohortError::Folder { path, source }),
            Err(e) => {
                found.refuse(prefix, format!("the folder cannot be listed ({e}); check that you have access"));
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
            if file_name.to_str().is_none() {
                found.refuse(id, "its name is not UTF-8; rename it".to_owned());
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
                    found.refuse(id, format!("the folder lies more than {MAX_DEPTH} levels deep"));
                }
                Ok(kind) if kind.is_file() => {
                    // Only a link can be the table by another name. To ask for every file's whole path would be slow.
                    let may_be = is_link || labels.as_deref().and_then(Path::file_name) == Some(file_name.as_os_str());
                    let is_table = may_be && labels.is_some() && fs::canonicalize(entry.path()).ok() == labels;
                    if !is_table {
                        found.add_file(id, entry.path());
                    }
                }
                Ok(_) => found.refuse(id, "it is neither a file nor a folder".to_owned()),
                Err(e) => found.refuse(id, format!("it cannot be read ({e})")),
            }
            found.check_count(root)?;
        }
    }
    if linked_folders > 0 {
        found.warnings.push(format!("{linked_folders} links to folders were not followed"));
    }
    Ok(())
}

/// The first bytes of a file.
fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(START_BYTES);
    File::open(path)?.take(START_BYTES as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Says that DICOMDIRs were not taken as images, and which of the files that they list are missing.
fn note_dicomdirs(found: &mut Found) {
    if found.dicomdirs.is_empty() {
        return;
    }
    let names: Vec<&str> = found.dicomdirs.keys().take(MAX_NAMED).map(String::as_str).collect();
    let more = if found.dicomdirs.len() > MAX_NAMED { " ..." } else { "" };
    found.warnings.push(format!("left out, because they list images and are none: {}{more}", names.join(", ")));
    // Copies of discs change the case of names and add endings.
    let plain = |id: &str| {
        let id = id.to_lowercase();
        id.strip_suffix(".dcm").map(str::to_owned).unwrap_or(id)
    };
    let present: BTreeSet<String> =
        found.images.keys().chain(found.rejects.iter().map(|r| &r.item)).map(|id| plain(id)).collect();
    for (id, place) in &found.dicomdirs {
        let source = ImageSource { id: id.clone(), place: place.clone() };
        let bytes = match source.read() {
            Ok(bytes) => bytes,
            Err(e) => {
                found.warnings.push(format!("{id} {e}"));
                continue;
            }
        };
        let folder = id.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"));
        let listed: BTreeSet<String> = listed_files(&bytes).into_iter().map(|file| format!("{folder}{file}")).collect();
        let missing: Vec<&str> =
            listed.iter().filter(|file| !present.contains(&plain(file))).map(String::as_str).collect();
        if !missing.is_empty() {
            let more = if missing.len() > MAX_NAMED { " ..." } else { "" };
            let first = missing[..missing.len().min(MAX_NAMED)].join(", ");
            found.warnings.push(format!(
                "{id} lists {} files, and {} of them are not there ({first}{more}); copy the medium again",
                listed.len(),
                missing.len()
            ));
        }
    }
}
