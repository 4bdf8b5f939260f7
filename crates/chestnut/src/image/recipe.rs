//! The recipe: from a radiograph to the numbers a network reads, every step named and in order.
//!
//! 1. **Clip** at a quantile of the image: values above it become it (paper, section 2.1 and figure 1).
//! 2. **Scale** to 0..1 by the least and greatest value after clipping, or by bit depth, or not at all.
//! 3. **Resize** bilinear, half-pixel centres, no antialias, aspect ratio not kept: `tf.image.resize`'s
//!    default, which the authors' tutorial uses. 4. **Channels**: grey repeated. 5. **Standardise**.
//!
//! Steps 1 to 3 are the [`Recipe`]; 4 and 5 are the [`Standardisation`], which belongs to a network and
//! is recorded with it, since published weights differ. A recipe is hashed into whatever it made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::quantile::quantiles;
use super::{PixelSettings, Radiograph};
use crate::fs::to_hex;

pub use super::quantile::quantile;

/// Raised whenever the same recipe would give other numbers; part of the hash.
const RECIPE_VERSION: u32 = 1;
/// The paper's clip (section 2.1).
pub const PAPER_CLIP_QUANTILE: f64 = 0.9995;
/// The paper's input side in pixels.
pub const PAPER_SIZE: usize = 224;
/// Smallest input side: the deepest networks halve it five times.
pub const MIN_SIZE: usize = 32;
/// Largest input side.
pub const MAX_SIZE: usize = 2048;

/// Step 2: how values become 0..1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// (v - least) / (greatest - least), both after clipping. An image that is constant then becomes 0.
    #[default]
    MinMax,
    /// v / (2^bits - 1), cut to 0..1: keeps exposure differences, trusts BitsStored.
    Bits,
    /// Stored units as they are; only for a standardisation that expects them.
    None,
}

/// Steps 1 to 3, and how DICOM values are read before them. The default is the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Step 1: quantile above which values are clipped, in (0, 1]; 1 switches the step off.
    pub clip_quantile: f64,
    /// Step 2.
    pub scale: Scale,
    /// Step 3: side of the square output in pixels, [`MIN_SIZE`] to [`MAX_SIZE`].
    pub size: usize,
    /// Before step 1: window and padding of DICOM files. To be given to [`super::read_with`]; [`Recipe::prepare`]
    /// sees the result only.
    #[serde(skip_serializing_if = "PixelSettings::is_default")]
    pub pixels: PixelSettings,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            clip_quantile: PAPER_CLIP_QUANTILE,
            scale: Scale::MinMax,
            size: PAPER_SIZE,
            pixels: PixelSettings::default(),
        }
    }
}

/// A recipe that cannot be followed.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RecipeError {
    /// `clip_quantile` outside (0, 1].
    #[error("recipe: clip_quantile is {0}; give a number above 0 and up to 1 (1 switches clipping off)")]
    ClipQuantile(f64),
    /// `size` outside the limits.
    #[error("recipe: size is {0}; give a side from {low} to {high} pixels", low = MIN_SIZE, high = MAX_SIZE)]
    Size(usize),
    /// Not the name of a standardisation.
    #[error("unknown standardisation {0:?}; known are imagenet, keras-tf, keras-caffe, torchxrayvision, none")]
    Standardisation(String),
}

/// A radiograph after steps 1 to 3.
#[derive(Clone, PartialEq)]
pub struct Prepared {
    /// Side in pixels.
    pub size: usize,
    /// `size * size` grey values, row-major, in 0..1 unless the scale is [`Scale::None`].
    pub grey: Vec<f32>,
    /// Least value of the image in stored units.
    pub low: f32,
    /// Greatest value after clipping, in stored units.
    pub high: f32,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared {{ {0} x {0}, from {1} to {2} }}", self.size, self.low, self.high)
    }
}

impl Recipe {
    /// Checks the settings, once, before any image.
    ///
    /// # Errors
    /// [`RecipeError`] naming the setting.
    pub fn check(&self) -> Result<(), RecipeError> {
        if !(self.clip_quantile > 0.0 && self.clip_quantile <= 1.0) {
            return Err(RecipeError::ClipQuantile(self.clip_quantile));
        }
        if !(MIN_SIZE..=MAX_SIZE).contains(&self.size) {
            return Err(RecipeError::Size(self.size));
        }
        Ok(())
    }

    /// Steps 1 to 3 on one image.
    ///
    /// # Panics
    /// If the image has no pixels or [`Recipe::check`] would refuse the quantile.
    #[must_use]
    pub fn prepare(&self, image: &Radiograph) -> Prepared {
        assert_eq!(image.pixels.len(), image.width * image.height, "a whole image");
        let (low, greatest) = image.range();
        let high = if self.clip_quantile < 1.0 {
            quantiles(image.pixels.iter().copied(), (low, greatest), [self.clip_quantile])[0]
        } else {
            greatest
        };
        let grey = resize(image, self.size, self.size, self.scaling(low, high, image.bits));
        Prepared { size: self.size, grey, low, high }
    }

    /// Steps 1 and 2 on one value of an image with the least value `low`, clipped at `high`, of so many bits.
    pub(super) fn scaling(&self, low: f32, high: f32, bits: u32) -> impl Fn(f32) -> f32 {
        let scale = self.scale;
        let full = ((1_u64 << bits.min(32)) - 1) as f32;
        move |v: f32| {
            let v = v.min(high);
            match scale {
                Scale::MinMax if high > low => (v - low) / (high - low),
                Scale::MinMax => 0.0,
                Scale::Bits => (v / full).clamp(0.0, 1.0),
                Scale::None => v,
            }
        }
    }

    /// The steps in order, one line each, as reports print them.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let clip = if self.clip_quantile < 1.0 {
            format!("1. clip values above the {} quantile of the image", self.clip_quantile)
        } else {
            "1. no clipping".to_owned()
        };
        let scale = format!("2. {}", self.describe_scale());
        let resize = format!("3. resize to {0} x {0}, bilinear, half-pixel centres, no antialias", self.size);
        let mut lines = vec![clip, scale, resize];
        if !self.pixels.is_default() {
            lines.insert(0, format!("0. DICOM values: {}", self.pixels.describe()));
        }
        lines
    }

    /// Step 2 in words.
    pub(super) fn describe_scale(&self) -> &'static str {
        match self.scale {
            Scale::MinMax => "scale to 0..1 by the least and greatest value",
            Scale::Bits => "scale to 0..1 by the bit depth",
            Scale::None => "no scaling",
        }
    }

    /// 16 hex digits that change when any output number may: SHA-256 over version and settings.
    #[must_use]
    pub fn hash(&self) -> String {
        let scale = match self.scale {
            Scale::MinMax => "min-max",
            Scale::Bits => "bits",
            Scale::None => "none",
        };
        let mut canonical = format!(
            "chestnut recipe {RECIPE_VERSION}\nclip_quantile={}\nscale={scale}\nresize=bilinear half-pixel\nsize={}\n",
            self.clip_quantile, self.size
        );
        // Only if changed: studies from before these settings keep their hash.
        if !self.pixels.is_default() {
            canonical += &self.pixels.canonical();
        }
        to_hex(&Sha256::digest(canonical.as_bytes())[..8])
    }
}

/// Steps 4 and 5: what a network was trained to be fed, on grey values in 0..1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standardisation {
    /// RGB, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225): the paper's; Keras's `torch` mode.
    #[default]
    #[serde(rename = "imagenet")]
    ImageNet,
    /// RGB, 2 x - 1: Keras's `tf` mode (Xception, Inception).
    KerasTf,
    /// BGR, 255 x minus (103.939, 116.779, 123.68): Keras's `caffe` mode (VGG).
    KerasCaffe,
    /// One channel, 2048 x - 1024: torchxrayvision's networks.
    #[serde(rename = "torchxrayvision")]
    TorchXrayVision,
    /// Three equal channels, unchanged.
    None,
}

impl Standardisation {
    /// Channels of the network's input.
    #[must_use]
    pub fn channels(self) -> usize {
        if self == Self::TorchXrayVision { 1 } else { 3 }
    }

    /// Factor and offset of each channel: `out = factor * grey + offset`.
    fn affine(self) -> [(f32, f32); 3] {
        // In double precision first, so that the two constants carry one rounding each.
        let torch = |mean: f64, deviation: f64| ((1.0 / deviation) as f32, (-mean / deviation) as f32);
        match self {
            Self::ImageNet => [torch(0.485, 0.229), torch(0.456, 0.224), torch(0.406, 0.225)],
            Self::KerasTf => [(2.0, -1.0); 3],
            Self::KerasCaffe => [(255.0, -103.939), (255.0, -116.779), (255.0, -123.68)],
            Self::TorchXrayVision => [(2048.0, -1024.0); 3],
            Self::None => [(1.0, 0.0); 3],
        }
    }

    /// Fills `out` with `grey.len() * channels()` values, channels of one pixel side by side (NHWC).
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn apply(self, grey: &[f32], out: &mut [f32]) {
        let channels = self.channels();
        assert_eq!(out.len(), grey.len() * channels, "one value per pixel and channel");
        let affine = self.affine();
        for (pixel, &v) in out.chunks_exact_mut(channels).zip(grey) {
            for (cell, &(factor, offset)) in pixel.iter_mut().zip(&affine) {
                *cell = factor * v + offset;
            }
        }
    }

    /// One line for reports and model cards.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::ImageNet => "3 channels, ImageNet mean and deviation",
            Self::KerasTf => "3 channels, scaled to -1..1 (Keras tf mode)",
            Self::KerasCaffe => "3 channels BGR, 0..255 minus channel means (Keras caffe mode)",
            Self::TorchXrayVision => "1 channel, scaled to -1024..1024 (torchxrayvision)",
            Self::None => "3 channels, 0..1 as they are",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ImageNet => "imagenet",
            Self::KerasTf => "keras-tf",
            Self::KerasCaffe => "keras-caffe",
            Self::TorchXrayVision => "torchxrayvision",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Standardisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Standardisation {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        [Self::ImageNet, Self::KerasTf, Self::KerasCaffe, Self::TorchXrayVision, Self::None]
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| RecipeError::Standardisation(text.to_owned()))
    }
}

/// The two source positions of one output position, and how far from the first to the second.
struct Tap {
    lower: usize,
    upper: usize,
    part: f32,
}

/// Source positions along one side. Single precision as in TensorFlow's kernel, to the same rounding.
fn taps(source: usize, size: usize) -> Vec<Tap> {
    let step = source as f32 / size as f32;
    (0..size)
        .map(|i| {
            let at = (i as f32 + 0.5) * step - 0.5;
            let floor = at.floor();
            Tap {
                lower: floor.max(0.0) as usize,
                upper: (at.ceil().max(0.0) as usize).min(source - 1),
                part: at - floor,
            }
        })
        .collect()
}

/// Bilinear resize to `width` x `height` of `value(pixel)`, which is asked only where it is needed.
pub(super) fn resize(image: &Radiograph, width: usize, height: usize, value: impl Fn(f32) -> f32) -> Vec<f32> {
    let columns = taps(image.width, width);
    let rows = taps(image.height, height);
    let mut out = Vec::with_capacity(width * height);
    for row in &rows {
        let top = &image.pixels[row.lower * image.width..][..image.width];
        let bottom = &image.pixels[row.upper * image.width..][..image.width];
        for column in &columns {
            let blend = |line: &[f32]| {
                let (left, right) = (value(line[column.lower]), value(line[column.upper]));
                left + (right - left) * column.part
            };
            let (upper, lower) = (blend(top), blend(bottom));
            out.push(upper + (lower - upper) * row.part);
        }
    }
    out
}

#[cfg(test)]
mod tests;
