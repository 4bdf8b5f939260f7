//! A finished run into the model store, where `embed` and everything after it find the network by name.

use super::error::Result;
use super::{Finished, best_weights};
use chestnut_zoo::read::HeadHint;
use chestnut_zoo::store::{self, AddOptions, ModelRecord};
use chestnut_zoo::{Activation, Architecture};
use std::path::Path;

/// How the network is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// Name in the store.
    pub name: String,
    /// Licence of the weights: that of the images allows what it allows.
    pub licence: Option<String>,
    /// Store kernels as F16: half the size, rounded to nearest, ties to even.
    pub half: bool,
    /// Replace a network of that name.
    pub replace: bool,
}

/// Adds the best weights of the run in `folder` to the store `models`.
///
/// # Errors
/// [`super::PretrainError::Store`] if the name is taken or the store cannot be written.
pub fn publish(folder: &Path, finished: &Finished, models: &Path, how: &Publication) -> Result<ModelRecord> {
    let settings = &finished.settings;
    let architecture = settings.network.parse::<Architecture>().map_err(super::PretrainError::Request)?;
    let options = AddOptions {
        head: HeadHint { labels: Some(settings.labels.clone()), activations: Some(vec![Activation::Sigmoid]) },
        standardisation: Some(settings.standardisation.clone()),
        input_size: Some(settings.size),
        licence: how.licence.clone(),
        half: how.half,
        replace: how.replace,
        notes: finished.notes.clone(),
    };
    Ok(store::add(models, &best_weights(folder), &how.name, Some(architecture), &options)?)
}
