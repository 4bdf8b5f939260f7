//! All images of a set as squares of bytes in one file, so that only the first epoch decodes.
//!
//! Images pass the recipe that `embed` uses (`image/recipe.rs`) at the side of the cache and are rounded to 8 bits. The
//! file is keyed by the set, the recipe and the files' sizes; it grows under another name, a killed build goes on where it
//! was, and it gets its own name when it is whole. It is read by position: the operating system keeps in memory what
//! fits there.

use super::error::{PretrainError, Result};
use super::set::TrainingSet;
use crate::cohort::table::{parse_stored, read_bounded, to_csv};
use crate::fs::{to_hex, write_atomic};
use crate::image::{self, recipe::Recipe};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Largest side of a cached image.
pub const MAX_CACHE_SIDE: usize = 1024;
/// Most images of a cache.
pub const MAX_CACHE_IMAGES: usize = 5_000_000;
/// Images decoded between two writes: what a kill costs.
const CHUNK: usize = 128;
/// First bytes of a cache file.
const MAGIC: &[u8; 16] = b"chestnut squares";
/// Raised when the format changes.
const VERSION: u32 = 1;
/// Bytes before the states: magic, version, side, images, key.
const HEADER: u64 = 16 + 4 + 4 + 8 + 32;
/// State of an image that is in the file; any other is to be done.
const THERE: u8 = 1;

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
        let key = key(set, recipe);
        let digits = to_hex(&key);
        let name = &digits[..16];
        let path = folder.join(format!("squares-{name}.bin"));
        let list = folder.join(format!("squares-{name}.refused.csv"));
        if !path.is_file() {
            let growing = folder.join(format!("squares-{name}.part"));
            let refused = grow(&growing, set, recipe, &key, progress)?;
            let rows = refused.iter().map(|r| vec![r.id.clone(), r.reason.clone()]);
            let head = vec!["image".to_owned(), "reason".to_owned()];
            let text = to_csv(std::iter::once(head).chain(rows));
            write_atomic(&list, text.as_bytes()).map_err(PretrainError::Write)?;
            std::fs::rename(&growing, &path).map_err(PretrainError::io(&path))?;
        }
        let failed = PretrainError::io(&path);
        let mut file = File::open(&path).map_err(&failed)?;
        let states = read_states(&mut file, set.samples.len(), recipe.size, &key)
            .map_err(&failed)?
            .ok_or_else(|| PretrainError::file(&path, "is damaged; remove it and it will be made again"))?;
        let refused = read_refused(&list)?;
        let there = states.into_iter().map(|s| s == THERE).collect();
        Ok(Self { file: Mutex::new(file), path, side: recipe.size, key: digits, there, refused })
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
    HEADER + images as u64
}

fn key(set: &TrainingSet, recipe: &Recipe) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("squares {VERSION}\n{}\n{}\n", recipe.hash(), set.samples.len()));
    for sample in &set.samples {
        let size = std::fs::metadata(&sample.file).map_or_else(|_| "absent".to_owned(), |m| m.len().to_string());
        hash.update(format!("{}\t{size}\n", sample.id));
    }
    let mut key = [0; 32];
    key.copy_from_slice(&hash.finalize());
    key
}

fn header(images: usize, side: usize, key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(side as u32).to_le_bytes());
    bytes.extend_from_slice(&(images as u64).to_le_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The state of each image, if the file is the one that is meant and whole.
fn read_states(file: &mut File, images: usize, side: usize, key: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
    let wanted = header(images, side, key);
    if file.metadata()?.len() != pixels_at(images) + (images * side * side) as u64 {
        return Ok(None);
    }
    let mut found = vec![0; wanted.len() + images];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut found)?;
    Ok((found[..wanted.len()] == wanted[..]).then(|| found.split_off(wanted.len())))
}

/// Fills the file, going on with what an earlier build left, and gives the images that cannot be read.
fn grow(
    path: &Path,
    set: &TrainingSet,
    recipe: &Recipe,
    key: &[u8; 32],
    progress: &dyn Fn(usize, usize),
) -> Result<Vec<Refused>> {
    let failed = PretrainError::io(path);
    let (images, side) = (set.samples.len(), recipe.size);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = opened.map_err(&failed)?;
    let mut states = match read_states(&mut file, images, side, key).map_err(&failed)? {
        Some(states) => states,
        None => {
            file.set_len(0).map_err(&failed)?;
            file.seek(SeekFrom::Start(0)).map_err(&failed)?;
            file.write_all(&header(images, side, key)).map_err(&failed)?;
            file.set_len(pixels_at(images) + (images * side * side) as u64).map_err(&failed)?;
            vec![0; images]
        }
    };
    let mut refused = Vec::new();
    for start in (0..images).step_by(CHUNK) {
        let end = (start + CHUNK).min(images);
        let squares: Vec<std::result::Result<Vec<u8>, String>> = (start..end)
            .into_par_iter()
            .map(|i| if states[i] == THERE { Ok(Vec::new()) } else { square(&set.samples[i].file, recipe) })
            .collect();
        for (i, square) in (start..end).zip(squares) {
            match square {
                Ok(pixels) if pixels.is_empty() => {}
                Ok(pixels) => {
                    file.seek(SeekFrom::Start(pixels_at(images) + (i * side * side) as u64)).map_err(&failed)?;
                    file.write_all(&pixels).map_err(&failed)?;
                    states[i] = THERE;
                }
                Err(reason) => refused.push(Refused { id: set.samples[i].id.clone(), reason }),
            }
        }
        // Pixels reach the disk before the states that vouch for them.
        file.sync_data().map_err(&failed)?;
        file.seek(SeekFrom::Start(HEADER + start as u64)).map_err(&failed)?;
        file.write_all(&states[start..end]).map_err(&failed)?;
        progress(end, images);
    }
    file.sync_all().map_err(&failed)?;
    Ok(refused)
}

/// One image through the recipe, in 8 bits.
fn square(file: &Path, recipe: &Recipe) -> std::result::Result<Vec<u8>, String> {
    let decoded = image::read_with(file, &recipe.pixels).map_err(|e| e.to_string())?;
    let grey = recipe.prepare(&decoded.radiograph).grey;
    Ok(grey.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect())
}

fn read_refused(list: &Path) -> Result<Vec<Refused>> {
    if !list.is_file() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8(read_bounded(list)?).map_err(|_| PretrainError::file(list, "is not UTF-8 text"))?;
    let table = parse_stored("refused.csv", &text)?;
    let cell = |row: &crate::cohort::table::TableRow, i: usize| row.cells.get(i).unwrap_or("").to_owned();
    Ok(table.rows.iter().map(|row| Refused { id: cell(row, 0), reason: cell(row, 1) }).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::set::{Cell, Sample};
    use super::*;
    use ::image::GrayImage;

    /// `count` films of 40 x 40 pixels: labels alternate, and positive films are brighter below.
    pub(in super::super) fn films(folder: &Path, count: usize) -> TrainingSet {
        let samples = (0..count).map(|i| {
            let positive = i % 2 == 1;
            let film = GrayImage::from_fn(40, 40, |x, y| {
                let noise = (x as usize * 7 + y as usize * 13 + i * 29) % 40;
                let step = if (y < 20) == positive { 0 } else { 150 };
                ::image::Luma([(noise + step) as u8])
            });
            let id = format!("{i}.png");
            film.save(folder.join(&id)).expect("written");
            let cells = vec![if positive { Cell::Positive } else { Cell::Negative }];
            Sample { file: folder.join(&id), id, patient: format!("p{i}"), part: None, cells }
        });
        TrainingSet {
            name: "films".into(),
            labels: vec!["Bright".into()],
            samples: samples.collect(),
            notes: Vec::new(),
        }
    }

    fn recipe(size: usize) -> Recipe {
        Recipe { size, ..Recipe::default() }
    }

    #[test]
    fn pixels_are_the_recipes_and_a_second_opening_decodes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut set = films(folder.path(), 5);
        set.samples[3].file = folder.path().join("absent.png");
        let place = folder.path().join("cache");
        let cache = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect("made");
        assert_eq!(cache.there(), [true, true, true, false, true]);
        assert_eq!(cache.refused().iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["3.png"]);
        let mut pixels = vec![0; 32 * 32];
        cache.read(4, &mut pixels).expect("read");
        let decoded = image::read_with(&set.samples[4].file, &recipe(32).pixels).expect("decoded");
        let grey = recipe(32).prepare(&decoded.radiograph).grey;
        assert!(pixels.iter().zip(&grey).all(|(&p, &g)| (f32::from(p) / 255.0 - g).abs() <= 0.5 / 255.0 + 1e-6));
        let again = Cache::open(&place, &set, &recipe(32), &|_, _| panic!("nothing to decode")).expect("opened");
        assert_eq!((again.refused(), again.key()), (cache.refused(), cache.key()));
        let other = Cache::open(&place, &set, &recipe(40), &|_, _| {}).expect("made");
        assert_ne!(other.key(), cache.key());
    }

    #[test]
    fn a_killed_build_goes_on_and_gives_the_same_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let set = films(folder.path(), 3);
        let whole = Cache::open(&folder.path().join("a"), &set, &recipe(32), &|_, _| {}).expect("made");
        let bytes = std::fs::read(&whole.path).expect("read");
        // As if killed after the first image.
        let place = folder.path().join("b");
        std::fs::create_dir(&place).expect("made");
        let mut part = bytes.clone();
        let (states, pixels) = (HEADER as usize, HEADER as usize + 3);
        part[states + 1] = 0;
        part[states + 2] = 0;
        part[pixels + 1024..].fill(0);
        std::fs::write(place.join(format!("squares-{}.part", &whole.key()[..16])), &part).expect("written");
        let resumed = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect("finished");
        assert!(std::fs::read(&resumed.path).expect("read") == bytes);
        // A part of another length is made anew.
        let place = folder.path().join("c");
        std::fs::create_dir(&place).expect("made");
        std::fs::write(place.join(format!("squares-{}.part", &whole.key()[..16])), &bytes[..70]).expect("written");
        let anew = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect("made");
        assert!(std::fs::read(&anew.path).expect("read") == bytes);
        std::fs::write(&anew.path, &bytes[..70]).expect("written");
        let error = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect_err("damaged").to_string();
        assert!(error.contains("remove it"), "{error}");
    }
}
