//! What can stop a pretraining, in words that name the file and the way out.

use crate::cohort::{LabelSetError, TableError};
use chestnut_train::TrainError;
use chestnut_zoo::store::StoreError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a network cannot be trained.
#[derive(Debug, Error)]
pub enum PretrainError {
    /// The table cannot be read at all.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The labels do not fit the table.
    #[error("{file}: {source}")]
    Labels {
        /// The table.
        file: String,
        /// Why.
        source: LabelSetError,
    },
    /// A column that is needed is not there.
    #[error("{file} has no column {name}; it has: {columns}; {mend}")]
    Column {
        /// The table.
        file: String,
        /// What was looked for.
        name: String,
        /// What there is.
        columns: String,
        /// What to do.
        mend: &'static str,
    },
    /// A row that cannot be used.
    #[error("{file} row {row}: {problem}")]
    Row {
        /// The table.
        file: String,
        /// Line of the file, the header being line 1.
        row: u64,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Too many images could not be read.
    #[error(
        "{missing} of {total} images could not be read, more than the allowed share of {allowed}; they are listed in \
         {}: restore them, correct the image folder, or allow more with --max-missing",
        list.display()
    )]
    Missing {
        /// How many.
        missing: usize,
        /// Of how many.
        total: usize,
        /// Largest share that may be missing.
        allowed: f64,
        /// Where they are listed.
        list: PathBuf,
    },
    /// Reading or writing.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Writing, in words that already name the file.
    #[error(transparent)]
    Write(std::io::Error),
    /// A file of ours that cannot be understood.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Request(String),
    /// The loss left the finite numbers.
    #[error(
        "the loss is not finite in epoch {epoch}, batch {batch} (after {step} updates), whose images are {images}; the \
         last checkpoint is kept. Look at these images, or start again in another folder with a lower rate; the best \
         weights so far can be the start: `chestnut models add best.safetensors --name NAME`, then --init NAME"
    )]
    NotFinite {
        /// Epoch, from 1.
        epoch: usize,
        /// Batch, from 1.
        batch: usize,
        /// Updates before.
        step: u64,
        /// The first images of the batch.
        images: String,
    },
    /// The learner.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Result of pretraining.
pub type Result<T> = std::result::Result<T, PretrainError>;

impl PretrainError {
    /// Wraps an I/O error with the file it happened to.
    pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { path: path.clone(), source }
    }

    /// A file of ours with something wrong.
    pub(super) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), problem: problem.into() }
    }
}
