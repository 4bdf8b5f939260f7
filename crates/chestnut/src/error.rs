//! What can go wrong with a stage, in words that name the file and the way out.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// An error of a whole stage. A single bad image is never one: it becomes a row of rejects.csv.
#[derive(Debug, Error)]
pub enum Error {
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
    /// A file of the study that cannot be understood.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A stage was asked for before the one that it reads.
    #[error("{}: {what} is missing; run `{command}` first", study.display())]
    StageMissing {
        /// The study's folder.
        study: PathBuf,
        /// What was looked for.
        what: String,
        /// What makes it.
        command: String,
    },
    /// The cohort.
    #[error(transparent)]
    Cohort(#[from] crate::cohort::CohortError),
    /// The split.
    #[error(transparent)]
    Split(#[from] crate::cohort::SplitError),
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] crate::image::recipe::RecipeError),
    /// A picture that we made ourselves.
    #[error("{0}")]
    Image(#[from] crate::image::ImageError),
    /// The model store.
    #[error(transparent)]
    Store(#[from] chestnut_zoo::store::StoreError),
    /// A network.
    #[error("network {network}: {problem}")]
    Network {
        /// Its name.
        network: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A learner.
    #[error(transparent)]
    Forest(#[from] chestnut_forest::ForestError),
    /// The linear probe.
    #[error(transparent)]
    Linear(#[from] chestnut_forest::LinearError),
    /// A head.
    #[error(transparent)]
    Head(#[from] chestnut_train::HeadError),
    /// Fine-tuning.
    #[error(transparent)]
    Train(#[from] chestnut_train::TrainError),
    /// Where a network is cut for fine-tuning.
    #[error(transparent)]
    Depth(#[from] chestnut_train::DepthError),
    /// Nearest neighbours.
    #[error(transparent)]
    Neighbours(#[from] chestnut_forest::NeighboursError),
    /// Heat maps.
    #[error(transparent)]
    Explain(#[from] crate::explain::ExplainError),
    /// The phantom.
    #[error(transparent)]
    Phantom(#[from] crate::phantom::PhantomError),
    /// The report.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    /// The request itself.
    #[error("{0}")]
    Request(String),
}

/// Result of a stage.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps an I/O error with the file it happened to.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl From<chestnut_forest::TableError> for Error {
    fn from(e: chestnut_forest::TableError) -> Self {
        Self::Forest(e.into())
    }
}
