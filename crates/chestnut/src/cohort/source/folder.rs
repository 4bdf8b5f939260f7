//! The walk through an image folder and the archives in it.
//!
//! All levels are searched; hidden files, the labels table and DICOMDIR are left out, links to folders are not
//! followed. Whatever else lies there is an image or is refused with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

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

    /// Sorts regular files in, after a look at their beginnings.
    fn add_files(&mut self, files: Vec<(String, PathBuf)>) {
        // A file that cannot be opened says so when it is read as an image.
        let look = |(id, path): &(String, PathBuf)| {
            let is_known = is_picture_name(last_part(id)) || is_dicomdir(last_part(id));
            if is_known { None } else { start_of(path).ok().and_then(|start| sniff(&start)) }
        };
        let kinds: Vec<Option<Kind>> = files.par_iter().map(look).collect();
        for ((id, path), kind) in files.into_iter().zip(kinds) {
            match kind {
                None if is_dicomdir(last_part(&id)) => {
                    self.dicomdirs.insert(id, Place::File(path));
                }
                None => {
                    self.images.insert(id, Place::File(path));
                }
                Some(Kind::Zip | Kind::Tar) => {
                    self.archives.insert(id, path);
                }
                Some(Kind::Other(name)) => self.refuse(
                    id,
                    format!("it is a {name} archive, and zip and plain tar are read; unpack it into the image folder"),
                ),
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
            if is_dicomdir(last_part(&member.name)) {
                self.dicomdirs.insert(id, place);
            } else {
                self.images.insert(id, place);
            }
        }
    }
}

fn check_count(files: usize, most: usize, root: &Path) -> Result<(), CohortError> {
    if files > most {
        return Err(CohortError::TooManyFiles { path: root.to_owned(), limit: most });
    }
    Ok(())
}

/// The name of a file without its folders.
pub(crate) fn last_part(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
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
        walk(root, labels, MAX_FILES, &mut found)?;
        for (id, path) in std::mem::take(&mut found.archives) {
            found.add_archive(&id, &path, &format!("{id}/"));
            check_count(found.images.len(), MAX_FILES, root)?;
        }
    }
    check_count(found.images.len(), MAX_FILES, root)?;
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

/// A folder that is to be looked into.
struct Folder {
    path: PathBuf,
    /// What stands before the names in it: nothing, or its id and a `/`.
    prefix: String,
    depth: usize,
}

/// What one folder holds.
#[derive(Default)]
struct Held {
    /// Regular files by id.
    files: Vec<(String, PathBuf)>,
    folders: Vec<Folder>,
    /// What is neither, by id, and why it is not used.
    refused: Vec<(String, String)>,
    /// Links to folders, which are not followed.
    linked_folders: usize,
}

/// Walks through the folder `root`, level by level: exports have a folder for each study and series.
///
/// # Errors
/// [`CohortError::Folder`] if `root` cannot be listed, [`CohortError::TooManyFiles`] beyond `most` files.
fn walk(root: &Path, labels: &Path, most: usize, found: &mut Found) -> Result<(), CohortError> {
    let labels = fs::canonicalize(labels).ok();
    let count = AtomicUsize::new(0);
    let mut linked_folders = 0;
    let mut files = Vec::new();
    let mut level = vec![Folder { path: root.to_owned(), prefix: String::new(), depth: 0 }];
    while !level.is_empty() {
        let look = |folder| look_into(folder, labels.as_deref(), most, &count);
        let held: Vec<io::Result<Held>> = level.par_iter().map(look).collect();
        check_count(count.load(Ordering::Relaxed), most, root)?;
        let mut below = Vec::new();
        for (Folder { path, prefix, depth }, held) in level.into_iter().zip(held) {
            match held {
                Ok(held) => {
                    files.extend(held.files);
                    below.extend(held.folders);
                    linked_folders += held.linked_folders;
                    held.refused.into_iter().for_each(|(id, reason)| found.refuse(id, reason));
                }
                Err(source) if depth == 0 => return Err(CohortError::Folder { path, source }),
                Err(e) => {
                    found.refuse(prefix, format!("the folder cannot be listed ({e}); check that you have access"))
                }
            }
        }
        level = below;
    }
    found.add_files(files);
    if linked_folders > 0 {
        found.warnings.push(format!("{linked_folders} links to folders were not followed"));
    }
    Ok(())
}

/// Sorts what lies in a folder; `table` is the labels table, which is left out. `count` is of the files in all folders;
/// beyond `most` the rest is not looked at.
///
/// # Errors
/// If the folder cannot be listed.
fn look_into(folder: &Folder, table: Option<&Path>, most: usize, count: &AtomicUsize) -> io::Result<Held> {
    let mut held = Held::default();
    for entry in fs::read_dir(&folder.path)? {
        if count.load(Ordering::Relaxed) > most {
            break;
        }
        let entry = entry?;
        let file_name = entry.file_name();
        let name = file_name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let id = format!("{}{name}", folder.prefix);
        if file_name.to_str().is_none() {
            held.refused.push((id, "its name is not UTF-8; rename it".to_owned()));
            continue;
        }
        let about = entry.file_type();
        let is_link = about.as_ref().is_ok_and(fs::FileType::is_symlink);
        let target = if is_link { fs::metadata(entry.path()).map(|m| m.file_type()) } else { about };
        match target {
            Ok(kind) if kind.is_dir() && is_link => held.linked_folders += 1,
            Ok(kind) if kind.is_dir() && folder.depth < MAX_DEPTH => {
                held.folders.push(Folder { path: entry.path(), prefix: format!("{id}/"), depth: folder.depth + 1 })
            }
            Ok(kind) if kind.is_dir() => {
                held.refused.push((id, format!("the folder lies more than {MAX_DEPTH} levels deep")));
            }
            Ok(kind) if kind.is_file() => {
                // Only a link can be the table by another name. To ask for every file's whole path would be slow.
                let may_be = is_link || table.and_then(Path::file_name) == Some(file_name.as_os_str());
                let is_table = may_be && table.is_some() && fs::canonicalize(entry.path()).ok().as_deref() == table;
                if !is_table {
                    count.fetch_add(1, Ordering::Relaxed);
                    held.files.push((id, entry.path()));
                }
            }
            Ok(_) => held.refused.push((id, "it is neither a file nor a folder".to_owned())),
            Err(e) => held.refused.push((id, format!("it cannot be read ({e})"))),
        }
    }
    Ok(held)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of two folders of `files` files each, one of them with a folder below, and what must not be followed.
    fn tree(files: usize) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for folder in ["a", "b", "b/c"] {
            fs::create_dir(root.path().join(folder)).expect("a folder");
            for i in 0..files {
                fs::write(root.path().join(folder).join(format!("{i}.png")), "x").expect("a file");
            }
        }
        fs::write(root.path().join(".hidden"), "x").expect("a file");
        root
    }

    #[test]
    fn all_levels_are_walked_and_links_to_folders_are_not() {
        let root = tree(3);
        let mut deep = root.path().to_owned();
        for _ in 0..=MAX_DEPTH {
            deep.push("d");
            fs::create_dir(&deep).expect("a folder");
        }
        fs::write(deep.join("lost.png"), "x").expect("a file");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.path().join("a"), root.path().join("link")).expect("a link");
            std::os::unix::fs::symlink(root.path().join("a/1.png"), root.path().join("l.png")).expect("a link");
        }
        let listing = list(root.path(), Path::new("")).expect("a folder");
        let ids: Vec<&str> = listing.sources.iter().map(ImageSource::id).filter(|id| *id != "l.png").collect();
        let expected = ["a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png", "b/2.png"];
        assert_eq!(ids, [&expected[..], &["b/c/0.png", "b/c/1.png", "b/c/2.png"]].concat());
        let reasons: Vec<&str> = listing.rejects.iter().map(|r| r.reason.as_str()).collect();
        assert_eq!(reasons, ["the folder lies more than 32 levels deep"]);
        if cfg!(unix) {
            assert_eq!(listing.sources.len(), 10, "a link to a file is a file");
            assert_eq!(listing.warnings, ["1 links to folders were not followed"]);
        }
    }

    #[test]
    fn too_many_files_stop_the_walk() {
        let root = tree(10);
        let walked = |most: usize| walk(root.path(), Path::new(""), most, &mut Found::default());
        assert!(walked(30).is_ok());
        assert!(matches!(walked(29), Err(CohortError::TooManyFiles { limit: 29, .. })));
        // The rest is not looked at.
        let count = AtomicUsize::new(0);
        let folder = Folder { path: root.path().join("a"), prefix: String::new(), depth: 0 };
        assert_eq!(look_into(&folder, None, 4, &count).expect("a folder").files.len(), 5);
    }
}
