//! Why a network or a forest said what it said: heat maps, masks, boxes, and how far they agree with experts
//! (paper sections 2.5 and 3.4, protocol section 7).
//!
//! ```text
//! last feature map + head or forest -> heat map per network -> mean over networks -> mask -> boxes, outlines
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`heat`] | a heat map: resize, scale, average |
//! | [`head`] | how a label's score depends on the embedding |
//! | [`cam`] | Grad-CAM and its relatives for scores through global average pooling |
//! | [`tree_cam`] | SHAP values of trees on embeddings, laid over the image |
//! | [`perturb`] | occlusion and RISE, which ask the whole chain and look inside nothing |
//! | [`mask`] | from heat to pixels: thresholds, components, boxes |
//! | [`contour`] | outlines of a mask |
//! | [`experts`] | what radiologists drew |
//! | [`agreement`], [`chance`] | how far masks agree with it, and what luck would give |
//! | [`population`], [`shortcut`] | mean maps of many images; heat where no anatomy is |
//! | [`lungs`] | where the lungs lie, roughly or by masks |
//! | [`means`] | mean maps of a study, and where their heat lies |
//! | [`batches`] | mean maps of two random batches, and how far they are alike |
//! | [`overlay`] | pictures |
//! | [`models`] | the models of a study that are explained |
//! | [`stage`] | maps and agreement on a study |
//! | [`perturbed`], [`masked`] | perturbation and the shortcut check on a study |
//! | [`pictures`], [`gallery`] | what is drawn of a study, and the page that shows it |
//! | [`summary`] | what the report of `compare` shows of it |
//! | [`run`] | all of it in order, one step at a time |
//!
//! A heat map says what a model used. It does not say that the model is right, nor that the finding is there.

pub mod agreement;
pub mod batches;
pub mod cam;
pub mod chance;
mod colour;
pub mod contour;
pub mod experts;
pub mod gallery;
pub mod head;
pub mod heat;
pub mod lungs;
pub mod mask;
pub mod masked;
pub mod means;
pub mod models;
pub mod overlay;
mod page;
pub mod perturb;
pub mod perturbed;
pub mod pictures;
#[cfg(test)]
mod planted_tests;
pub mod population;
pub mod run;
pub mod shortcut;
pub mod stage;
pub mod summary;
pub mod tree_cam;

pub use cam::{CamKind, FeatureMap};
pub use contour::{Outline, outlines};
pub use head::{ExplainedHead, SourceHead};
pub use heat::HeatMap;
pub use mask::{BoxRule, Mask, MaskRule, Region};
pub use models::{Models, Refusals};

use thiserror::Error;

/// Names of the two models of a study in tables and files.
pub const SOURCES: [&str; 2] = ["fine-tuned head", "forest"];

/// Most pixels of a heat map or mask: those of the largest image that is read.
pub const MAX_PIXELS: usize = crate::image::MAX_PIXELS as usize;

/// Why something cannot be explained.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ExplainError {
    /// Parts that do not belong together, such as a head and the feature map of another network.
    #[error("{what}: {found} values, expected {expected}; do they come from the same network and image?")]
    Length {
        /// Which part.
        what: &'static str,
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
    },
    /// A side of 0, or more pixels than [`MAX_PIXELS`].
    #[error(
        "{what} of {width} x {height} is not possible; both sides must be at least 1 and there may be {most} pixels",
        most = MAX_PIXELS
    )]
    Size {
        /// What was to be made.
        what: &'static str,
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// A NaN or an infinity.
    #[error("{what} holds a value that is not finite (number {at}); are the weights of the network damaged?")]
    NotFinite {
        /// Where.
        what: &'static str,
        /// Place, from 0.
        at: usize,
    },
    /// Nothing to average.
    #[error("there is no heat map to average; give at least one network")]
    NoMaps,
    /// A label that the model does not have.
    #[error("{what} has {count} outputs, so there is none with number {found}")]
    Output {
        /// The model.
        what: &'static str,
        /// Number asked for, from 0.
        found: usize,
        /// Outputs that there are.
        count: usize,
    },
    /// A head that cannot be explained.
    #[error("the network's head cannot be explained: {0}")]
    Head(String),
    /// A setting out of range.
    #[error("{name} = {value} is not possible; it must be {range}")]
    Setting {
        /// Which.
        name: &'static str,
        /// As given.
        value: String,
        /// What is allowed.
        range: String,
    },
}

impl ExplainError {
    /// A setting out of range.
    pub(crate) fn setting(name: &'static str, value: impl ToString, range: impl Into<String>) -> Self {
        Self::Setting { name, value: value.to_string(), range: range.into() }
    }

    /// Passes if there are as many values as expected.
    pub(crate) fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), Self> {
        if found == expected { Ok(()) } else { Err(Self::Length { what, found, expected }) }
    }

    /// Passes for a picture that may be allocated; gives its number of pixels.
    pub(crate) fn check_size(what: &'static str, width: usize, height: usize) -> Result<usize, Self> {
        match width.checked_mul(height) {
            Some(pixels) if (1..=MAX_PIXELS).contains(&pixels) => Ok(pixels),
            _ => Err(Self::Size { what, width, height }),
        }
    }
}
