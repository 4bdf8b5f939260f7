//! All images of a set as squares of bytes in one file, so that only the first epoch decodes.
//!
//! Images pass the recipe that `embed` uses (`image/recipe.rs`) at the side of the cache and are rounded to 8 bits. The
//! file is named by the set and the recipe and keeps of each image the file's size, time and SHA-256: at the next start a
//! file of another size or time is read again, and decoded again if its content differs. The cache grows under another
//! name, a killed build goes on where it was, and it gets its own name when it is whole. It is read by position: the
//! operating system keeps in memory what fits there.

use super::error::{PretrainError, Result};
use super::set::{Sample, TrainingSet};
use crate::cohort::table::{TableRow, parse_stored, read_bounded, to_csv};
use crate::fs::{to_hex, write_atomic};
use crate::image::{self, recipe::Recipe};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

/// Largest side of a cached image.
pub const MAX_CACHE_SIDE: usize = 1024;
/// Most images of a cache.
pub const MAX_CACHE_IMAGES: usize = 5_000_000;
/// Images decoded between two writes: what a kill costs.
const CHUNK: usize = 128;
/// First bytes of a cache file.
const MAGIC: &[u8; 16] = b"chestnut squares";
/// Raised when the format changes.
const VERSION: u32 = 2;
/// Bytes before the entries: magic, version, side, images, key.
const HEADER: u64 = 16 + 4 + 4 + 8 + 32;
/// Bytes of an entry: state, size, time, hash.
const ENTRY: usize = 1 + 8 + 8 + 32;
/// State of an image that is in the file.
const THERE: u8 = 1;
/// State of an image that could not be read; any other but these two is to be done.
const REFUSED: u8 = 2;

/// What tells a changed file without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    /// Bytes; 0 if there is no file.
    size: u64,
    /// Time of its last change, nanoseconds since 1970; 0 if the system does not say.
    modified: u64,
}

impl Stamp {
    fn of(file: &Path) -> Self {
        let Ok(about) = std::fs::metadata(file) else { return Self::default() };
        let time = about.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let modified = time.and_then(|t| u64::try_from(t.as_nanos()).ok()).unwrap_or(0);
        Self { size: about.len(), modified }
    }
}

/// What the cache knows of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    state: u8,
    stamp: Stamp,
    /// Of the file's content; zeros if it could not be read.
    sha256: [u8; 32],
}

impl Entry {
    fn bytes(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[0] = self.state;
        bytes[1..9].copy_from_slice(&self.stamp.size.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.stamp.modified.to_le_bytes());
        bytes[17..].copy_from_slice(&self.sha256);
        bytes
    }

    /// The entry in [`ENTRY`] bytes.
    fn parse(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&bytes[17..ENTRY]);
        Self { state: bytes[0], stamp: Stamp { size: number(1), modified: number(9) }, sha256 }
    }

    /// Whether nothing has to be done for a file that is so now.
    fn holds(&self, now: Stamp) -> bool {
        // A file that is there but could not be opened is tried again: rights and drives come back without a new time.
        let unopened = self.sha256 == [0; 32] && now != Stamp::default();
        (self.state == THERE || (self.state == REFUSED && !unopened)) && self.stamp == now
    }
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its path in the table.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// An open, whole cache.
#[derive(Debug)]
pub struct Cache {
    file: Mutex<File>,
    path: PathBuf,
    side: usize,
    key: String,
    there: Vec<bool>,
    refused: Vec<Refused>,
}

impl Cache {
    /// Opens the cache of a set in `folder`, or makes it; `progress` is told (done, all) images.
    ///
    /// # Errors
    /// If the folder or the file cannot be written. Images that cannot be read are no error: see [`Cache::refused`].
    pub fn open(folder: &Path, set: &TrainingSet, recipe: &Recipe, progress: &dyn Fn(usize, usize)) -> Result<Self> {
        if !(1..=MAX_CACHE_SIDE).contains(&recipe.size) || set.samples.len() > MAX_CACHE_IMAGES {
            return Err(PretrainError::Request(format!(
                "a cache holds up to {MAX_CACHE_IMAGES} images of up to {MAX_CACHE_SIDE} x {MAX_CACHE_SIDE} pixels"
            )));
        }
        recipe.check().map_err(|e| PretrainError::Request(e.to_string()))?;
        crate::fs::create_writable_folder(folder).map_err(PretrainError::Write)?;
        let set_key = set_key(set, recipe);
        let digits = to_hex(&set_key);
        let name = &digits[..16];
        let path = folder.join(format!("squares-{name}.bin"));
        let list = folder.join(format!("squares-{name}.refused.csv"));
        // One run at a time makes or renews a cache; another waits here and finds it whole. Where the file system knows
        // no locks it goes on without.
        let gate = folder.join(format!("squares-{name}.lock"));
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&gate);
        let gate = opened.map_err(PretrainError::io(&gate))?;
        let _ = gate.lock();
        let failed = PretrainError::io(&path);
        let found = if path.is_file() {
            let mut file = File::open(&path).map_err(&failed)?;
            let entries = read_entries(&mut file, set.samples.len(), recipe.size, &set_key).map_err(&failed)?;
            let damaged = || PretrainError::file(&path, "is damaged; remove it and it will be made again");
            Some((file, entries.ok_or_else(damaged)?))
        } else {
            None
        };
        let holds = |entries: &[Entry]| {
            set.samples.par_iter().zip(entries).all(|(sample, entry)| entry.holds(Stamp::of(&sample.file)))
        };
        let (file, entries) = match found {
            // The file that was looked into, though another run may have replaced it since.
            Some((file, entries)) if holds(&entries) => (file, entries),
            found => {
                let there = found.is_some();
                drop(found);
                let growing = folder.join(format!("squares-{name}.part"));
                if there && !growing.is_file() {
                    // A copy, because another run may be reading; what did not change is not decoded again.
                    let copy = folder.join(format!("squares-{name}.copy"));
                    let copied = std::fs::copy(&path, &copy).and_then(|_| std::fs::rename(&copy, &growing));
                    if let Err(e) = copied {
                        // Half a copy would keep the room that it lacked.
                        let _ = std::fs::remove_file(&copy);
                        return Err(PretrainError::io(&copy)(e));
                    }
                }
                let (entries, refused) = grow(&growing, set, recipe, &set_key, progress)?;
                let rows = refused.iter().map(|r| vec![r.id.clone(), r.reason.clone()]);
                let head = vec!["image".to_owned(), "reason".to_owned()];
                let text = to_csv(std::iter::once(head).chain(rows));
                write_atomic(&list, text.as_bytes()).map_err(PretrainError::Write)?;
                std::fs::rename(&growing, &path).map_err(&failed)?;
                (File::open(&path).map_err(&failed)?, entries)
            }
        };
        let refused = refused(set, &entries, &read_refused(&list));
        let key = content_key(&set_key, &entries);
        let there = entries.iter().map(|e| e.state == THERE).collect();
        Ok(Self { file: Mutex::new(file), path, side: recipe.size, key, there, refused })
    }

    /// Rows and columns of each image.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Identifies everything that the pixels depend on; 64 hex digits.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which images of the set are there.
    #[must_use]
    pub fn there(&self) -> &[bool] {
        &self.there
    }

    /// Images that could not be read, in the set's order.
    #[must_use]
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Reads the image of a row of the set into `out`, `side * side` bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If `out` has another length or there is no such row.
    pub fn read(&self, row: usize, out: &mut [u8]) -> Result<()> {
        assert_eq!(out.len(), self.side * self.side, "a whole image");
        assert!(row < self.there.len(), "a row of the set");
        let at = pixels_at(self.there.len()) + (row * out.len()) as u64;
        // A panic while the lock was held leaves the file's position anywhere, which the seek sets anyway.
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(out)).map_err(PretrainError::io(&self.path))
    }
}

/// Where the first image begins.
fn pixels_at(images: usize) -> u64 {
    entry_at(images)
}

/// Where the entry of an image begins.
fn entry_at(image: usize) -> u64 {
    HEADER + (image * ENTRY) as u64
}

/// Identifies the list of images and how they are prepared.
fn set_key(set: &TrainingSet, recipe: &Recipe) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("squares {VERSION}\n{}\n{}\n", recipe.hash(), set.samples.len()));
    for sample in &set.samples {
        hash.update(format!("{}\n", sample.id));
    }
    let mut key = [0; 32];
    key.copy_from_slice(&hash.finalize());
    key
}

/// Identifies the pixels: as [`set_key`], with the content of every image that is there.
fn content_key(set_key: &[u8; 32], entries: &[Entry]) -> String {
    let mut hash = Sha256::new();
    hash.update(set_key);
    for entry in entries {
        let there = entry.state == THERE;
        hash.update([u8::from(there)]);
        if there {
            hash.update(entry.sha256);
        }
    }
    to_hex(&hash.finalize())
}

fn header(images: usize, side: usize, key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(side as u32).to_le_bytes());
    bytes.extend_from_slice(&(images as u64).to_le_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// What is known of each image, if the file is the one that is meant and whole.
fn read_entries(file: &mut File, images: usize, side: usize, key: &[u8; 32]) -> std::io::Result<Option<Vec<Entry>>> {
    let wanted = header(images, side, key);
    if file.metadata()?.len() != pixels_at(images) + (images * side * side) as u64 {
        return Ok(None);
    }
    let mut found = vec![0; wanted.len() + images * ENTRY];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut found)?;
    let (head, entries) = found.split_at(wanted.len());
    Ok((head == wanted).then(|| entries.chunks_exact(ENTRY).map(Entry::parse).collect()))
}

/// The number of entries of a file of `images` squares of `side`, whatever its key: for the fuzz targets.
pub(crate) fn squares_in(path: &Path, images: usize, side: usize) -> Option<usize> {
    let mut file = File::open(path).ok()?;
    let mut head = [0; HEADER as usize];
    file.read_exact(&mut head).ok()?;
    let mut key = [0; 32];
    key.copy_from_slice(&head[HEADER as usize - 32..]);
    read_entries(&mut file, images, side, &key).ok()?.map(|entries| entries.len())
}

/// Fills the file, going on with what is there, and gives all entries and the images that cannot be read.
fn grow(
    path: &Path,
    set: &TrainingSet,
    recipe: &Recipe,
    key: &[u8; 32],
    progress: &dyn Fn(usize, usize),
) -> Result<(Vec<Entry>, Vec<Refused>)> {
    let failed = PretrainError::io(path);
    let (images, side) = (set.samples.len(), recipe.size);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = opened.map_err(&failed)?;
    let mut entries = match read_entries(&mut file, images, side, key).map_err(&failed)? {
        Some(entries) => entries,
        None => {
            file.set_len(0).map_err(&failed)?;
            file.seek(SeekFrom::Start(0)).map_err(&failed)?;
            file.write_all(&header(images, side, key)).map_err(&failed)?;
            file.set_len(pixels_at(images) + (images * side * side) as u64).map_err(&failed)?;
            vec![Entry::default(); images]
        }
    };
    let mut refused = Vec::new();
    for start in (0..images).step_by(CHUNK) {
        let end = (start + CHUNK).min(images);
        let renewed: Vec<Renewed> =
            (start..end).into_par_iter().map(|i| renew(&set.samples[i].file, &entries[i], recipe)).collect();
        // What is about to be written over must not be vouched for, should it end halfway.
        let doubtful = |i: usize| entries[i].state == THERE && renewed[i - start].pixels.is_some();
        for i in (start..end).filter(|&i| doubtful(i)) {
            file.seek(SeekFrom::Start(entry_at(i))).map_err(&failed)?;
            file.write_all(&Entry::default().bytes()).map_err(&failed)?;
        }
        if (start..end).any(doubtful) {
            file.sync_data().map_err(&failed)?;
        }
        let mut changed = false;
        for (i, new) in (start..end).zip(renewed) {
            if let Some(pixels) = new.pixels {
                file.seek(SeekFrom::Start(pixels_at(images) + (i * side * side) as u64)).map_err(&failed)?;
                file.write_all(&pixels).map_err(&failed)?;
            }
            if let Some(reason) = new.refused {
                refused.push(Refused { id: set.samples[i].id.clone(), reason });
            }
            changed |= entries[i] != new.entry;
            entries[i] = new.entry;
        }
        if changed {
            // Pixels reach the disk before the entries that vouch for them.
            file.sync_data().map_err(&failed)?;
            file.seek(SeekFrom::Start(entry_at(start))).map_err(&failed)?;
            let bytes: Vec<u8> = entries[start..end].iter().flat_map(Entry::bytes).collect();
            file.write_all(&bytes).map_err(&failed)?;
        }
        progress(end, images);
    }
    file.sync_all().map_err(&failed)?;
    Ok((entries, refused))
}

/// What looking at a file again gave.
struct Renewed {
    entry: Entry,
    /// If they have to be written.
    pixels: Option<Vec<u8>>,
    /// Why it cannot be used.
    refused: Option<String>,
}

/// Reads a file that is not known or has another size or time, and decodes it if its content is not the known one.
fn renew(file: &Path, known: &Entry, recipe: &Recipe) -> Renewed {
    // Before the file is read: one that changes meanwhile is read again at the next start.
    let stamp = Stamp::of(file);
    let kept = known.state == THERE;
    if kept && known.stamp == stamp {
        return Renewed { entry: *known, pixels: None, refused: None };
    }
    let refused = |sha256: [u8; 32], reason: String| Renewed {
        entry: Entry { state: REFUSED, stamp, sha256 },
        pixels: None,
        refused: Some(reason),
    };
    let bytes = match image::read_bytes(file) {
        Ok(bytes) => bytes,
        Err(e) => return refused([0; 32], e.to_string()),
    };
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(&Sha256::digest(&bytes));
    let entry = Entry { state: THERE, stamp, sha256 };
    if kept && known.sha256 == sha256 {
        return Renewed { entry, pixels: None, refused: None };
    }
    match square(&bytes, recipe) {
        Ok(pixels) => Renewed { entry, pixels: Some(pixels), refused: None },
        Err(reason) => refused(sha256, reason),
    }
}

/// The content of one image file through the recipe, in 8 bits.
fn square(bytes: &[u8], recipe: &Recipe) -> std::result::Result<Vec<u8>, String> {
    let decoded = image::decode_with(bytes, &recipe.pixels).map_err(|e| e.to_string())?;
    let grey = recipe.prepare(&decoded.radiograph).grey;
    Ok(grey.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect())
}

/// The images that could not be read, in the set's order, by the entries: a list that is gone or was edited must not let
/// them go unnoticed. The list says why.
fn refused(set: &TrainingSet, entries: &[Entry], reasons: &BTreeMap<String, String>) -> Vec<Refused> {
    let unknown = || "could not be read when the cache was made".to_owned();
    let of = |(sample, _): (&Sample, &Entry)| Refused {
        id: sample.id.clone(),
        reason: reasons.get(&sample.id).cloned().unwrap_or_else(unknown),
    };
    set.samples.iter().zip(entries).filter(|(_, entry)| entry.state == REFUSED).map(of).collect()
}

/// Reasons by image; none of a list that cannot be read.
fn read_refused(list: &Path) -> BTreeMap<String, String> {
    let text = list.is_file().then(|| read_bounded(list).ok()).flatten().and_then(|b| String::from_utf8(b).ok());
    let Some(table) = text.and_then(|text| parse_stored("refused.csv", &text).ok()) else { return BTreeMap::new() };
    let cell = |row: &TableRow, i: usize| row.cells.get(i).unwrap_or("").to_owned();
    table.rows.iter().map(|row| (cell(row, 0), cell(row, 1))).collect()
}

#[cfg(test)]
pub(super) mod tests;
