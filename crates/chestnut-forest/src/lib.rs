//! Trees on embeddings: decision tree (DT), random forest (RF), extremely randomised trees (XRT), and the grid search
//! over them, exactly and without repeating work. Beside them a linear probe, nearest neighbours, SHAP values, and files
//! that hold fitted models.
//!
//! All trees are multi-output: one model for all labels, impurity averaged over the labels, a probability per label
//! in every leaf (protocol 6.1). A blank label drops its own term and not the row. The same seed gives the same bits
//! for any number of threads. This crate does not know what an image is.

mod forest;
mod grid;
mod lanes;
mod linear;
mod linear_solver;
mod model_file;
mod neighbours;
pub mod onnx;
mod params;
mod permutation;
mod score;
mod shap;
mod table;
mod tree;

pub use forest::{Forest, ForestError, fit_single};
pub use grid::{Fold, FoldScores, Grid, GridRow, MAX_SETTINGS, grid_search, nested_predictions, rank, score_growth};
pub use linear::{
    LinearError, LinearProbe, MAX_LAMBDAS, PathRow, RegularisationPath, default_lambdas, regularisation_path,
};
pub use model_file::{
    MAX_INPUTS, MAX_MODEL_BYTES, MAX_MODEL_NODES, MAX_NAME_BYTES, MODEL_FORMAT, Model, ModelFile, ModelFileError,
    ModelInput,
};
pub use neighbours::{Distance, Neighbours, NeighboursError};
pub use params::{ClassWeight, Criterion, Learner, MAX_DEPTH, MAX_TREES, MaxFeatures, Params, ParamsError};
pub use permutation::PermutationImportance;
pub use shap::{Explainer, Shap};
pub use table::{Features, Labels, MAX_OUTPUTS, MAX_ROWS, MAX_VALUES, TableError};
pub use tree::{Node, Tree};
