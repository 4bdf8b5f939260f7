//! Why the store refuses, and what to do about it.

use crate::graph::InputTooSmall;
use crate::read::ReadError;
use std::io;
use thiserror::Error;

/// Why the store cannot do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Not a usable name.
    #[error(
        "{0:?} cannot name a network: use 1 to 64 letters, digits, '-', '_' or '.', starting with a letter or \
         digit"
    )]
    Name(String),
    /// Already there.
    #[error("a network called {0} is already in the store; choose another name or give --replace")]
    Exists(String),
    /// The network and what was asked of it do not go together.
    #[error("{0}; give --input-size or --standardisation that fit")]
    Unusable(String),
    /// Not there.
    #[error(
        "there is no network called {name} in the store; it has: {known}; add one with `chestnut models add FILE --name NAME`, or try seeded:densenet121"
    )]
    Absent {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The weights cannot be read or do not fit.
    #[error("{file}: {source}")]
    Weights {
        /// Which file.
        file: String,
        /// Why.
        source: ReadError,
    },
    /// The operating system says no.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which file or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The record contradicts itself or cannot be read.
    #[error("{path}: {detail}")]
    Record {
        /// Which record.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The weights are not those that were added.
    #[error(
        "{path} was changed after it was added: its SHA-256 is {found}, recorded is {recorded}; add the network again"
    )]
    Hash {
        /// Which file.
        path: String,
        /// Hash of the file.
        found: String,
        /// Hash in the record.
        recorded: String,
    },
    /// Unknown way to standardise.
    #[error("{0}")]
    Standardisation(String),
    /// The input is too small for the network.
    #[error(transparent)]
    Input(#[from] InputTooSmall),
}
