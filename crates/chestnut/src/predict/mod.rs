//! `chestnut predict`: a study's own models on new radiographs.
//!
//! `compare` keeps the models of its first split with their calibrations and thresholds ([`index`]); [`predict`] runs new
//! images through the same recipe, networks and average and says per label a probability, a calibrated one, and yes or
//! no. [`space`] tells an image that is unlike the study's cohort and finds similar cases. The paper stops at tables; this
//! is what its reader would want next. Nothing here fits a model and nothing is written into the study.

pub mod index;
mod input;
pub mod output;
mod score;
pub mod space;
mod stage;
pub(crate) mod store;

pub use index::{MODELS, ModelIndex};
pub use score::Reads;
pub use stage::{Decision, ImagePrediction, LabelPrediction, MAX_SIMILAR, PredictOptions, Predicted, predict};
