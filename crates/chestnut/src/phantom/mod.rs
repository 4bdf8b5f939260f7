//! Procedural chest phantoms: a cohort of made-up radiographs with known labels and true masks.
//!
//! The demo and many tests need chests whose truth is known and that nobody's privacy forbids to ship.
//! A phantom is a sum of tissue thicknesses in chest coordinates (anatomy, bones, lungs, findings)
//! seen through the film of one of two hospitals; prevalences follow Table 2 of Gozzi et al. 2022.
//! A finding must not be readable from a corner or from the mean grey value: exposure, field, markers
//! and view are drawn without looking at the labels. No file is read or written here.

mod anatomy;
mod bones;
mod cohort;
mod devices;
pub mod export;
mod film;
mod findings;
mod grid;
mod heart;
pub mod hospital;
mod lungs;
mod render;

use std::fmt;
use std::str::FromStr;

pub use cohort::plan;
pub use render::render;

/// Most images in one cohort.
pub const MAX_IMAGES: usize = 1_000_000;
/// Smallest nominal long side in pixels; below it findings vanish.
pub const MIN_SIZE: usize = 64;
/// Largest nominal long side in pixels.
pub const MAX_SIZE: usize = 4096;
/// Images of the paper's cohort, the denominator of its Table 2.
const PAPER_IMAGES: f64 = 941.0;
/// Side of the planted shortcut marker as a share of the shorter image side.
const SHORTCUT_SIDE: f64 = 0.055;
/// Distance of the shortcut marker from the left and lower border, as a share of the shorter side.
const SHORTCUT_INSET: f64 = 0.015;

/// What can be wrong with a request for phantoms.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PhantomError {
    /// The films of a hospital export would not fit into memory.
    #[error("{films} films of {size} px would not fit into memory; choose a smaller -n or --size")]
    FilmPixels {
        /// Films.
        films: usize,
        /// Long side.
        size: usize,
    },
    /// The number of images is 0 or above [`MAX_IMAGES`].
    #[error("a phantom cohort has 1 to {max} images, not {0}; choose another -n", max = MAX_IMAGES)]
    Images(usize),
    /// The long side is outside [`MIN_SIZE`] to [`MAX_SIZE`].
    #[error("phantom size {0} px is outside {min} to {max}; choose another size", min = MIN_SIZE, max = MAX_SIZE)]
    Size(usize),
    /// A prevalence is not a share.
    #[error("prevalence of {finding} is {value}; give a number from 0 to 1")]
    Prevalence {
        /// The column.
        finding: Finding,
        /// The refused value.
        value: f64,
    },
    /// Normal excludes every other finding, and the two do not fit into the cohort.
    #[error(
        "{normal} Normal and {count} {finding} images do not fit into {images} images, \
         since Normal excludes every finding; lower one of the two prevalences"
    )]
    Crowded {
        /// Images to be Normal.
        normal: usize,
        /// The finding that does not fit.
        finding: Finding,
        /// Images to carry it.
        count: usize,
        /// Images in all.
        images: usize,
    },
    /// The fidelity of a planted shortcut is not a share.
    #[error("fidelity of the planted shortcut is {0}; give a number from 0 to 1")]
    Fidelity(f64),
    /// The number of files of a hospital export is 0 or too large.
    #[error("a hospital export has 1 to {max} files, not {0}; choose another --hospital-export", max = hospital::MAX_EXPORT_FILES)]
    ExportFiles(usize),
    /// The number of films of a hospital export is out of range.
    #[error("a hospital export is made of 2 to {max} films, not {0}; choose another -n", max = hospital::MAX_FILMS)]
    Films(usize),
    /// The long side of a hospital export's films is out of range.
    #[error("films of {0} px are outside {min} to {max} for a hospital export; choose another size", min = hospital::MIN_EXPORT_SIZE, max = MAX_SIZE)]
    ExportSize(usize),
    /// No such hospital.
    #[error("there is no phantom hospital '{0}'; use A or B")]
    Hospital(String),
    /// No such finding.
    #[error("there is no phantom finding '{0}'; use Normal, Cardiac, Lung, PNX, Pleura, Bone or Device")]
    Finding(String),
}

/// A label column of HUM-CXR (paper, Table 2), in the order of [`PhantomCase::labels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// No finding at all; excludes the other six.
    Normal,
    /// Enlarged heart: cardiothoracic ratio above 0.55.
    Cardiac,
    /// Opacity: consolidation, oedema, nodule or band atelectasis.
    Lung,
    /// Air between lung and chest wall.
    Pneumothorax,
    /// Effusion or pleural thickening.
    Pleura,
    /// Fracture of ribs or clavicle.
    Bone,
    /// Pacemaker, tube, catheter or wires.
    Device,
}

impl Finding {
    /// All findings in column order.
    pub const ALL: [Self; 7] =
        [Self::Normal, Self::Cardiac, Self::Lung, Self::Pneumothorax, Self::Pleura, Self::Bone, Self::Device];

    /// The column name in CSV files, as in the paper (`PNX` is the pneumothorax).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Cardiac => "Cardiac",
            Self::Lung => "Lung",
            Self::Pneumothorax => "PNX",
            Self::Pleura => "Pleura",
            Self::Bone => "Bone",
            Self::Device => "Device",
        }
    }

    /// The column, 0 to 6.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Finding {
    type Err = PhantomError;

    fn from_str(text: &str) -> Result<Self, PhantomError> {
        Self::ALL
            .into_iter()
            .find(|f| f.name().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| PhantomError::Finding(text.to_owned()))
    }
}

/// Where the phantom was "taken": sets film, field, markers and pixel format, never the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hospital {
    /// A quiet department: sharp, low noise, mostly upright PA, 12 bit MONOCHROME2.
    A,
    /// A busy one: noisy, soft, mostly bedside AP, collimated, burnt-in text, 10 or 8 bit, part MONOCHROME1.
    B,
}

impl fmt::Display for Hospital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

impl FromStr for Hospital {
    type Err = PhantomError;

    fn from_str(text: &str) -> Result<Self, PhantomError> {
        match text.trim() {
            "A" | "a" => Ok(Self::A),
            "B" | "b" => Ok(Self::B),
            _ => Err(PhantomError::Hospital(text.to_owned())),
        }
    }
}

/// A planted confounder: a bright square near the lower left corner that goes with one label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shortcut {
    /// The label that the marker predicts.
    pub finding: Finding,
    /// Probability, 0 to 1, that the marker's presence equals the label; 0.5 tells nothing.
    pub fidelity: f64,
}

impl Shortcut {
    /// Where the marker lies in an image of that size: x0, y0, x1, y1 in pixels, ends excluded.
    #[must_use]
    pub fn region(width: usize, height: usize) -> [usize; 4] {
        let short = width.min(height) as f64;
        let side = ((short * SHORTCUT_SIDE).round() as usize).max(2);
        let inset = (short * SHORTCUT_INSET).round() as usize;
        let x1 = (inset + side).min(width);
        let y1 = height.saturating_sub(inset);
        [x1.saturating_sub(side), y1.saturating_sub(side), x1, y1]
    }
}

/// What cohort to make.
#[derive(Debug, Clone, PartialEq)]
pub struct PhantomConfig {
    /// Images, 1 to [`MAX_IMAGES`]. Default 300.
    pub images: usize,
    /// The hospital. Default A.
    pub hospital: Hospital,
    /// Seed of everything drawn. Default 0.
    pub seed: u64,
    /// Nominal long side in pixels, [`MIN_SIZE`] to [`MAX_SIZE`]. Default 512.
    pub size: usize,
    /// Share of images that carry each finding, in the order of [`Finding::ALL`]. Default: paper, Table 2.
    pub prevalence: [f64; 7],
    /// A planted shortcut. Default none.
    pub shortcut: Option<Shortcut>,
}

impl Default for PhantomConfig {
    fn default() -> Self {
        let positives = [273.0, 93.0, 427.0, 38.0, 135.0, 137.0, 147.0];
        Self {
            images: 300,
            hospital: Hospital::A,
            seed: 0,
            size: 512,
            prevalence: positives.map(|count| count / PAPER_IMAGES),
            shortcut: None,
        }
    }
}

impl PhantomConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`PhantomError`] for the first field that is out of its range.
    pub fn check(&self) -> Result<(), PhantomError> {
        if self.images == 0 || self.images > MAX_IMAGES {
            return Err(PhantomError::Images(self.images));
        }
        if !(MIN_SIZE..=MAX_SIZE).contains(&self.size) {
            return Err(PhantomError::Size(self.size));
        }
        for finding in Finding::ALL {
            let value = self.prevalence[finding.index()];
            if !(0.0..=1.0).contains(&value) {
                return Err(PhantomError::Prevalence { finding, value });
            }
        }
        if let Some(shortcut) = self.shortcut
            && !(0.0..=1.0).contains(&shortcut.fidelity)
        {
            return Err(PhantomError::Fidelity(shortcut.fidelity));
        }
        Ok(())
    }
}

/// One image of a planned cohort, known without rendering it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhantomCase {
    /// Position in the cohort, from 0.
    pub index: usize,
    /// Unique over hospitals and seeds, fit for a file name; tells nothing about labels.
    pub image_id: String,
    /// The patient; images with the same id share anatomy.
    pub patient_id: String,
    /// `"AP"` or `"PA"`.
    pub view: &'static str,
    /// Age in years, 18 to 95.
    pub age_years: u32,
    /// `'F'` or `'M'`.
    pub sex: char,
    /// The labels in the order of [`Finding::ALL`].
    pub labels: [bool; 7],
}

/// A rendered phantom with its truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phantom {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bits stored, 8 to 12; pixel values lie in 0 to 2^bits - 1.
    pub bits: u32,
    /// Whether dense is dark (photometric interpretation MONOCHROME1).
    pub monochrome1: bool,
    /// Stored values, row-major; for MONOCHROME1 inverted as such a detector stores them.
    pub pixels: Vec<u16>,
    /// One mask (0 or 255, row-major, same size) for each positive finding but Normal; never empty.
    pub masks: Vec<(Finding, Vec<u8>)>,
}

#[cfg(test)]
mod tests;
