//! Zip and tar archives as folders of images.
//!
//! The table of contents is read once; members are read by seeking, so any number of threads can. What an archive says
//! of itself is checked twice: declared sizes against limits when it is opened, and real ones while it is read, which
//! stops at the declared size. Since compressed members may not lie over each other and may grow [`MAX_RATIO`]-fold at
//! most, a small archive cannot keep a machine busy for long. Archives within archives are refused.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::ZipReadOptions;
use zip::read::{ZipArchive, ZipArchiveMetadata};

use super::{MAX_DEPTH, SourceError};
use crate::image::{ImageError, MAX_FILE_BYTES};

/// Most members of one archive.
pub const MAX_MEMBERS: usize = 500_000;
/// Most bytes that the members of one archive may have together, unpacked.
pub const MAX_ARCHIVE_BYTES: u64 = 1 << 40;
/// Most bytes that are read to learn what a zip archive holds.
pub const MAX_INDEX_BYTES: u64 = 128 << 20;
/// Most times that a member may be larger than its packed form. A film with wide black borders reaches 20.
pub const MAX_RATIO: u64 = 200;
/// Members below this size may be packed as well as they like, bytes.
const RATIO_FLOOR: u64 = 1 << 20;
/// Longest path of a member, bytes.
pub const MAX_NAME_BYTES: usize = 4096;
/// Longest extended header of a tar member, bytes.
const MAX_EXTENSION_BYTES: u64 = 1 << 16;
/// Bytes at the start of a file by which an archive is known; tar's mark lies at 257.
pub(super) const START_BYTES: usize = 512;

/// What kind of archive a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zip,
    Tar,
    /// One that is not read, and its name.
    Other(&'static str),
}

/// The kind of archive that begins like this; `None` for anything else.
pub(super) fn sniff(start: &[u8]) -> Option<Kind> {
    const KNOWN: [(&[u8], Kind); 7] = [
        (b"PK\x03\x04", Kind::Zip),
        (b"PK\x05\x06", Kind::Zip),
        (b"\x1f\x8b", Kind::Other("gzip")),
        (b"7z\xbc\xaf\x27\x1c", Kind::Other("7-Zip")),
        (b"Rar!\x1a\x07", Kind::Other("RAR")),
        (b"\xfd7zXZ\0", Kind::Other("xz")),
        (b"BZh", Kind::Other("bzip2")),
    ];
    let known = KNOWN.iter().find(|(magic, _)| start.starts_with(magic)).map(|&(_, kind)| kind);
    known.or_else(|| (start.get(257..262) == Some(b"ustar".as_slice())).then_some(Kind::Tar))
}

/// Whether a name ends as pictures' names do, so that there is no need to look for an archive.
pub(super) fn is_picture_name(name: &str) -> bool {
    const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "dcm", "dicom", "ima"];
    name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e)))
}

/// An archive and its table of contents.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    id: String,
    /// `None` for tar.
    zip: Option<Arc<ZipArchiveMetadata>>,
    /// Sorted by name, each name once.
    members: Vec<Member>,
}

#[derive(Debug)]
pub(super) struct Member {
    /// Path in the archive, with `/` between its parts.
    pub(super) name: String,
    /// Unpacked size as declared.
    bytes: u64,
    /// Index in the table of a zip, offset of the data in a tar.
    at: u64,
}

/// An opened archive, and what in it is not used.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) archive: Archive,
    /// Name and reason.
    pub(super) refused: Vec<(String, String)>,
    /// Sentences for people.
    pub(super) notes: Vec<String>,
}

/// Reads the table of contents of the archive at `path`; `id` stands in messages.
///
/// # Errors
/// Why the archive cannot be used, without its name.
pub(super) fn open(path: &Path, id: &str) -> Result<Indexed, String> {
    let mut start = Vec::new();
    let length = File::open(path)
        .and_then(|file| {
            let length = file.metadata()?.len();
            file.take(START_BYTES as u64).read_to_end(&mut start)?;
            Ok(length)
        })
        .map_err(|e| e.to_string())?;
    let kind = sniff(&start);
    let listing = match kind {
        Some(Kind::Zip) => guarded(|| list_zip(path, length))?,
        Some(Kind::Tar) => guarded(|| list_tar(path, length))?,
        Some(Kind::Other(name)) => return Err(format!("it is a {name} archive; zip and plain tar are read")),
        None => return Err("it is no archive".to_owned()),
    };
    let Listing { zip, mut members, mut refused, notes } = listing;
    // Two members of one name cannot both be meant; the order of the archive decides.
    let mut seen = BTreeSet::new();
    members.retain(|member| {
        let first = seen.insert(member.name.clone());
        if !first {
            refused.push((member.name.clone(), "an earlier member of the archive has this path".to_owned()));
        }
        first
    });
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let total = members.iter().fold(0_u64, |sum, m| sum.saturating_add(m.bytes));
    if total > MAX_ARCHIVE_BYTES {
        return Err(format!("its members would have {total} bytes, above the limit of {MAX_ARCHIVE_BYTES}"));
    }
    let mut archive = Archive { path: path.to_path_buf(), id: id.to_owned(), zip, members };
    let nested: Vec<bool> = archive.members.iter().map(|m| !is_picture_name(&m.name) && archive.is_nested(m)).collect();
    let mut nested = nested.into_iter();
    archive.members.retain(|member| {
        let is_nested = nested.next().unwrap_or(false);
        if is_nested {
            refused.push((member.name.clone(), "an archive within an archive; unpack the outer one".to_owned()));
        }
        !is_nested
    });
    Ok(Indexed { archive, refused, notes })
}

impl Archive {
    /// Its members, sorted by name.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The index of the member `name`.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.members.binary_search_by(|member| member.name.as_str().cmp(name)).ok()
    }

    /// All bytes of a member.
    ///
    /// # Errors
    /// [`SourceError::Archive`] if it is damaged or has another size than declared, [`ImageError::Empty`].
    pub(super) fn read(&self, index: usize) -> Result<Vec<u8>, SourceError> {
        let member = &self.members[index];
        let fault = |problem| SourceError::Archive { archive: self.id.clone(), problem };
        let bytes = guarded(|| self.read_start(member, member.bytes.saturating_add(1))).map_err(fault)?;
        if bytes.len() as u64 != member.bytes {
            return Err(fault(format!("its size is not the {} bytes that the archive declares", member.bytes)));
        }
        if bytes.is_empty() {
            return Err(ImageError::Empty.into());
        }
        Ok(bytes)
    }

    /// The first bytes of a member, at most `limit`.
    fn read_start(&self, member: &Member, limit: u64) -> Result<Vec<u8>, String> {
        let mut file = BufReader::new(File::open(&self.path).map_err(|e| e.to_string())?);
        // Declared sizes are at most MAX_FILE_BYTES.
        let mut bytes = Vec::with_capacity(limit.min(member.bytes.saturating_add(1)) as usize);
        match &self.zip {
            Some(metadata) => {
                let entry = metadata.entry(member.at as usize).map_err(|e| e.to_string())?;
                let reader = entry.with_reader(&mut file, ZipReadOptions::new()).map_err(|e| e.to_string())?;
                reader.take(limit).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
            }
            None => {
                file.seek(SeekFrom::Start(member.at)).map_err(|e| e.to_string())?;
                file.take(limit.min(member.bytes)).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
            }
        }
        Ok(bytes)
    }

    /// Whether a member is an archive itself; one that cannot be read is not, and will say so when it is needed.
    fn is_nested(&self, member: &Member) -> bool {
        let start = guarded(|| self.read_start(member, START_BYTES as u64)).unwrap_or_default();
        sniff(&start).is_some()
    }
}

/// Runs code over hostile bytes; a panic in a library is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the reader failed on it".to_owned()))
}

/// What the table of contents says, in its order.
#[derive(Default)]
struct Listing {
    zip: Option<Arc<ZipArchiveMetadata>>,
    members: Vec<Member>,
    refused: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Listing {
    /// Takes a member or refuses it; `at` as in [`Member`], `packed` its size in the archive.
    fn add(&mut self, name: &[u8], bytes: u64, packed: u64, at: u64) {
        let refusal = if bytes > MAX_FILE_BYTES {
            Some(format!("it would have {bytes} bytes, above the limit of {MAX_FILE_BYTES}"))
        } else if bytes > RATIO_FLOOR && bytes / packed.max(1) > MAX_RATIO {
            Some(format!("it would grow to more than {MAX_RATIO} times its packed size, as no radiograph does"))
        } else {
            None
        };
        match (clean(name), refusal) {
            (Ok(None), _) => {}
            (Ok(Some(name)), None) => self.members.push(Member { name, bytes, at }),
            (Ok(Some(name)), Some(reason)) => self.refused.push((name, reason)),
            (Err(reason), _) => self.refuse(name, reason),
        }
    }

    fn refuse(&mut self, name: &[u8], reason: &str) {
        let text = String::from_utf8_lossy(name);
        let shown = text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
        self.refused.push((shown, reason.to_owned()));
    }
}

/// A member's path with `/` between its parts; `None` for hidden files, which folders leave out as well.
fn clean(name: &[u8]) -> Result<Option<String>, &'static str> {
    if name.len() > MAX_NAME_BYTES {
        return Err("its path is too long");
    }
    // Some programs write paths as Windows has them.
    let name = std::str::from_utf8(name).map_err(|_| "its path is not UTF-8")?.replace('\\', "/");
    let has_drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
    if name.starts_with('/') || has_drive {
        return Err("its path is absolute; no image of an export has such a path");
    }
    if name.chars().any(char::is_control) {
        return Err("its path holds control characters");
    }
    let parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return Err("its path leads out of the archive (..); no image of an export has such a path");
    }
    if parts.len() > MAX_DEPTH + 1 {
        return Err("its path has too many folders");
    }
    let hidden = parts.iter().any(|p| p.starts_with('.')) || parts.first() == Some(&"__MACOSX");
    Ok((!hidden && !parts.is_empty()).then(|| parts.join("/")))
}

/// A reader that fails after so many bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(format!("its table of contents has more than {MAX_INDEX_BYTES} bytes")))?;
        Ok(count)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

fn list_zip(path: &Path, length: u64) -> Result<Listing, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let reader = Bounded { inner: BufReader::new(file), left: MAX_INDEX_BYTES };
    let archive = ZipArchive::new(reader).map_err(|e| e.to_string())?;
    let metadata = archive.metadata();
    let mut listing = Listing::default();
    if metadata.len() > MAX_MEMBERS {
        return Err(format!("it has {} members, above the limit of {MAX_MEMBERS}", metadata.len()));
    }
    if metadata.has_duplicate_names() {
        listing.notes.push("some paths stand twice in it, and the last of each was taken".to_owned());
    }
    let mut packed = 0_u64;
    for index in 0..metadata.len() {
        let entry = metadata.entry(index).map_err(|e| e.to_string())?;
        packed = packed.saturating_add(entry.compressed_size());
        if entry.is_dir() {
            continue;
        }
        // Names that are not UTF-8 are in the code page of old programs.
        let name = match entry.name() {
            Ok(name) => name,
            Err(_) => {
                listing.refuse(entry.name_raw(), "its path cannot be decoded");
                continue;
            }
        };
        if entry.is_symlink() {
            listing.refuse(name.as_bytes(), "it is a link; links in archives are not followed");
        } else if entry.encrypted() {
            listing.refuse(name.as_bytes(), "it is encrypted; unpack the archive with its password");
        } else {
            listing.add(name.as_bytes(), entry.size(), entry.compressed_size(), index as u64);
        }
    }
    if packed > length {
        return Err("its members lie over each other, as in archives made to do harm".to_owned());
    }
    listing.zip = Some(metadata);
    Ok(listing)
}

fn list_tar(path: &Path, length: u64) -> Result<Listing, String> {
    let damaged = |e: io::Error| format!("it is damaged or cut off: {e}");
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut listing = Listing::default();
    // Names of the member that follows. Read here and not by the library, which would read them whatever their size.
    let mut next_name: Option<Vec<u8>> = None;
    let mut headers = 0usize;
    for entry in archive.entries_with_seek().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        headers += 1;
        if headers > 4 * MAX_MEMBERS || listing.members.len() > MAX_MEMBERS {
            return Err(format!("it has more members than the limit of {MAX_MEMBERS}"));
        }
        let kind = entry.header().entry_type();
        let is_name = kind.is_gnu_longname() || kind.is_pax_local_extensions();
        if is_name && entry.size() > MAX_EXTENSION_BYTES {
            return Err(format!("a member's path takes {} bytes", entry.size()));
        }
        if kind.is_gnu_longname() {
            let mut name = Vec::new();
            entry.read_to_end(&mut name).map_err(damaged)?;
            name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
            next_name = Some(name);
            continue;
        }
        if kind.is_pax_local_extensions() {
            for record in entry.pax_extensions().map_err(damaged)?.into_iter().flatten() {
                let record = record.map_err(damaged)?;
                match record.key_bytes() {
                    b"path" => next_name = Some(record.value_bytes().to_vec()),
                    b"size" => return Err("it holds members of more than 8 GB".to_owned()),
                    _ => {}
                }
            }
            continue;
        }
        if kind.is_pax_global_extensions() || kind.is_gnu_longlink() {
            continue;
        }
        let name = next_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        // Very old programs mark folders by their names only.
        if kind.is_dir() || name.ends_with(b"/") {
            continue;
        }
        let (at, bytes) = (entry.raw_file_position(), entry.size());
        if kind.is_file() || kind.is_contiguous() {
            if at.checked_add(bytes).is_none_or(|end| end > length) {
                return Err("it is cut off; copy it again from its source".to_owned());
            }
            listing.add(&name, bytes, bytes, at);
        } else if kind.is_symlink() || kind.is_hard_link() {
            listing.refuse(&name, "it is a link; links in archives are not followed");
        } else {
            listing.refuse(&name, "it is no plain file");
        }
    }
    Ok(listing)
}
