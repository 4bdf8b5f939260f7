//! How images are looked at, and how embeddings say so.

use super::{Network, shard, shard_name};
use crate::image::variants::Tta;
use crate::study::Study;
use chestnut_nn::Precision;
use std::collections::BTreeMap;

const TTA: &str = "tta";
const PRECISION: &str = "precision";

/// How images are looked at. What differs from the default is noted in the shards, and such embeddings are for tables
/// alone: heat maps and predictions are made from one look in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Embeddings and outputs are means over several looks at each image.
    pub tta: Tta,
    /// Precision of the products.
    pub precision: Precision,
}

impl EmbedOptions {
    /// What differs from the default, by the name of its option: `("tta", "five")`, `("precision", "bf16")`.
    #[must_use]
    pub fn differences(self) -> Vec<(&'static str, String)> {
        let tta = (self.tta != Tta::Off).then(|| (TTA, self.tta.name().to_owned()));
        let precision = (self.precision != Precision::F32).then(|| (PRECISION, self.precision.to_string()));
        tta.into_iter().chain(precision).collect()
    }
}

/// Metadata key of an option; absent where it has its default.
fn key(option: &str) -> String {
    format!("chestnut.{option}")
}

/// Adds what differs from the default to a shard's metadata.
pub(super) fn note(metadata: &mut BTreeMap<String, String>, differences: &[(&str, String)]) {
    metadata.extend(differences.iter().map(|(option, value)| (key(option), value.clone())));
}

/// [`EmbedOptions::differences`] as a shard's metadata have them.
pub(super) fn noted(metadata: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    [TTA, PRECISION].into_iter().filter_map(|option| Some((option, metadata.get(&key(option))?.clone()))).collect()
}

/// [`EmbedOptions::differences`] of a network's embeddings, as its first shard has them ([`super::load`] holds the others
/// to it); none if there is no shard.
pub(crate) fn differences_of(study: &Study, network: &Network) -> Vec<(&'static str, String)> {
    let path = study.path(&network.folder()).join(shard_name(0));
    shard::metadata(&path).map_or_else(Vec::new, |found| noted(&found))
}

/// The first network of `networks` whose embeddings are not those of one look in f32, and the option that made them so.
pub(crate) fn unlike_plain<'a>(study: &Study, networks: &'a [Network]) -> Option<(&'a Network, &'static str)> {
    networks.iter().find_map(|network| Some((network, differences_of(study, network).first()?.0)))
}

/// Writes a first shard of no image that was made so, for tests of what looks at that alone.
#[cfg(test)]
pub(crate) fn made_with(study: &Study, network: &Network, options: EmbedOptions) {
    let mut metadata = BTreeMap::new();
    note(&mut metadata, &options.differences());
    let folder = study.path(&network.folder());
    std::fs::create_dir_all(&folder).expect("a folder for shards");
    shard::write(&folder.join(shard_name(0)), &super::EmbeddingTable::default(), &metadata, "").expect("written");
}
