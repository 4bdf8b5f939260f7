//! Trees on embeddings: decision tree (DT), random forest (RF), extremely randomised trees (XRT), and the grid search
//! over them, exactly and without repeating work. Beside them a linear probe, nearest neighbours, SHAP values, and files
//! that hold fitted models.
//!
//! All trees are multi-output: one model for all labels, impurity averaged over the labels, a probability per label
//! in every leaf (protocol 6.1). A blank label drops its own term and not the row. The same seed gives the same bits
//! for any number of threads. This crate does not know what an image is.
//!
//! # Memory
//!
//! What is taken beside the tables that are given, in bytes at most, for R rows to learn from, W features, L labels and
//! P threads (`tests/large_tables.rs` holds tables of 1,000,000 x 8 and 50 x 100,000 to it):
//!
//! | what | bytes |
//! |---|---|
//! | S, a table sorted for trees | 8 R W, above 65,536 rows 12 R W, for extra trees 4 R W; and 80 W |
//! | G, a tree being grown | 60 R, up to 16,383 rows 130 R; 24 W; and 3 times the tree |
//! | a tree | 32 + 8 L for each node, of which it has one or fewer than 2 min(2^max_depth, R / min_samples_leaf) |
//! | [`Forest::fit`] | S + P (G + 12 R), and its trees |
//! | [`grid_search`] | P pieces; 24 + 16 L for each setting and fold; 160 + 16 L for each setting |
//! | a piece, [`score_growth`] | S + G + 24 R + 4 R W; 16 trees; votes and scores |
//! | its votes, for D combinations of depth and split | 8 L (D + 1) + 64 for each judged row |
//! | its scores | 40 + 16 L for each setting |
//! | [`LinearProbe::fit`], for M = min(R, W) + 1 | 8 R W, and 20 R R if R < W; P (48 R + 320 M); 48 W + 32 W L; up to M = 2,000 also 8 (P + 1) M M + 8,192 M |
//! | [`Neighbours::predict`] | P 16 R |
//! | any prediction | 8 L for each row |

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
