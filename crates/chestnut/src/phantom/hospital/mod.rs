//! A made-up hospital's export: nested folders of DICOM files, a labels table per study, and the truth about each file.
//!
//! What `ingest` must say of every file and every row is known beforehand and written to `truth.csv`: used, refused (at
//! which stage, for what reason) or a copy. Names, ids and dates in the headers are made up and must not come out of a
//! study. Rendering is slow, so a few films serve for all files; a row of black and white fields at the upper and lower
//! border, another one on each film, tells them apart for every reader of pixels.

mod files;
mod plan;
mod truth;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use self::files::Film;
use super::PhantomError;
use super::export::only_ours;
use crate::error::{Error, Result};
use crate::fs::{create_writable_folder, write_atomic};

/// Most files of an export: each film has a number of 15 bits burnt in.
pub const MAX_EXPORT_FILES: usize = 30_000;
/// Most films that are rendered.
pub const MAX_FILMS: usize = 2_000;
/// Most pixels of all films together, 2 bytes each: they are in memory at once.
pub const MAX_FILM_PIXELS: usize = 1 << 30;
/// Smallest nominal long side in pixels, so that a file is much longer than its header.
pub const MIN_EXPORT_SIZE: usize = 128;

/// What export to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HospitalConfig {
    /// Files, 1 to [`MAX_EXPORT_FILES`]. Default 10,000.
    pub files: usize,
    /// Films that are rendered, 2 to [`MAX_FILMS`]: one half of each phantom hospital. Default 200.
    pub films: usize,
    /// Nominal long side in pixels, [`MIN_EXPORT_SIZE`] to [`super::MAX_SIZE`]. Default 512.
    pub size: usize,
    /// Seed of everything drawn. Default 0.
    pub seed: u64,
}

impl Default for HospitalConfig {
    fn default() -> Self {
        Self { files: 10_000, films: 200, size: 512, seed: 0 }
    }
}

impl HospitalConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`PhantomError`] for the first field that is out of its range.
    pub fn check(&self) -> std::result::Result<(), PhantomError> {
        if self.files == 0 || self.files > MAX_EXPORT_FILES {
            return Err(PhantomError::ExportFiles(self.files));
        }
        if !(2..=MAX_FILMS).contains(&self.films) {
            return Err(PhantomError::Films(self.films));
        }
        if !(MIN_EXPORT_SIZE..=super::MAX_SIZE).contains(&self.size) {
            return Err(PhantomError::ExportSize(self.size));
        }
        if self.films * self.size * self.size > MAX_FILM_PIXELS {
            return Err(PhantomError::FilmPixels { films: self.films, size: self.size });
        }
        Ok(())
    }
}

/// Writes the export into `folder`: `images/`, `labels.csv` (semicolons, accession numbers without their leading zeros,
/// words), `label_set.toml` by which its words are read, and `truth.csv`. Files that exist are written again; a folder
/// with other images is refused. `progress` is called with (done, total).
///
/// # Errors
/// If the configuration makes no sense, the folder holds what is not of this export, or a file cannot be written.
pub fn export_hospital(config: &HospitalConfig, folder: &Path, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<()> {
    config.check()?;
    let images = folder.join("images");
    create_writable_folder(&images).map_err(Error::Write)?;
    let films = Film::render_all(config)?;
    let plan = plan::Plan::draw(config, &films);
    let names: BTreeSet<PathBuf> = plan.files.iter().map(|file| images.join(&file.item)).collect();
    only_ours(&images, &names)?;
    let done = AtomicUsize::new(0);
    let hashes: Vec<String> = plan
        .files
        .par_iter()
        .map(|file| -> Result<String> {
            let bytes = files::bytes_of(&plan, file, &films, config.seed)?;
            let path = images.join(&file.item);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|source| Error::Io { path: parent.to_path_buf(), source })?;
            }
            write_atomic(&path, &bytes).map_err(Error::Write)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, plan.files.len());
            Ok(files::hash(&bytes))
        })
        .collect::<Result<_>>()?;
    let table = truth::labels_table(&plan, &films);
    write_atomic(&folder.join("labels.csv"), table.as_bytes()).map_err(Error::Write)?;
    write_atomic(&folder.join("label_set.toml"), truth::label_set().as_bytes()).map_err(Error::Write)?;
    let truth = truth::truth_table(&plan, &films, &hashes);
    write_atomic(&folder.join("truth.csv"), truth.as_bytes()).map_err(Error::Write)
}

#[cfg(test)]
mod tests;
