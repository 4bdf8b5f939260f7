//! The network that comes with the program, so that it works before anybody has fetched a weight.
//!
//! Trained by `chestnut pretrain` on children's radiographs and on phantoms (`scripts/default_network.py`); what it
//! learned from, how well, and what it is not good for stands in `shipped/README.md`. Its weights lie in the program,
//! in 16 bits. A network of the same name in a store goes before it.

use crate::graph::Graph;
use crate::read::ReadError;
use crate::read::safetensors::read_safetensors_bytes;
use crate::store::{ModelRecord, StoreError};
use crate::weights::{self, Weights};
use sha2::{Digest, Sha256};

/// Its name.
pub const NAME: &str = "chestnut-densenet121";

static RECORD: &str = include_str!("../shipped/model.toml");
static WEIGHTS: &[u8] = include_bytes!("../shipped/weights.safetensors");

/// What is known about it.
///
/// # Errors
/// [`StoreError::Record`], if the program was built with a damaged one.
pub fn record() -> Result<ModelRecord, StoreError> {
    toml::from_str(RECORD).map_err(|e| StoreError::Record { path: NAME.to_owned(), detail: e.to_string() })
}

/// The network with its weights, whose hash was compared with the record.
///
/// # Errors
/// [`StoreError`], if the program was built with damaged ones.
pub fn load() -> Result<(ModelRecord, Graph, Weights), StoreError> {
    let record = record()?;
    let found: String = Sha256::digest(WEIGHTS).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != record.weights_sha256 {
        return Err(StoreError::Hash { path: NAME.to_owned(), found, recorded: record.weights_sha256 });
    }
    let graph = record.graph().map_err(|detail| StoreError::Record { path: NAME.to_owned(), detail })?;
    let failed = |source| StoreError::Weights { file: NAME.to_owned(), source };
    let tensors = read_safetensors_bytes(WEIGHTS).map_err(failed)?.tensors;
    weights::check(&graph, &tensors).map_err(|misfit| failed(ReadError::Misfit(Box::new(misfit))))?;
    Ok((record, graph, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_small_and_says_what_it_is() {
        let (record, graph, weights) = load().expect("the program was built whole");
        assert_eq!((record.name.as_str(), graph.name.as_str()), (NAME, "densenet121"));
        assert_eq!(weights.len(), graph.tensors().len());
        assert!(WEIGHTS.len() <= 16 << 20, "{} bytes", WEIGHTS.len());
        assert!(record.licence.contains("CC BY"), "{}", record.licence);
        assert!(!record.head.labels.is_empty() && !record.notes.is_empty());
    }
}
