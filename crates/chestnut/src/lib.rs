//! From radiographs to trustworthy AUC tables: the experiment of Gozzi et al. 2022 in its own words.
//!
//! ```text
//! images + labels.csv -> cohort -> recipe -> embeddings -> transfer -> evaluate -> report
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`cohort`] | which images of whom with which labels; what was refused; splits |
//! | [`image`] | PNG, JPEG and DICOM to grey values, and the recipe to a network's input |
//! | [`phantom`] | made-up radiographs with known findings |
//! | [`study`] | the folder that holds it all |
//! | [`embed`] | networks over the cohort, in resumable Parquet shards |
//! | [`transfer`] | from networks to the hospital's labels; [`transfer::deep`] teaches their last layers or all |
//! | [`mod@tune`] | the grid search on the training patients |
//! | [`evaluate`] | AUC with intervals |
//! | [`mod@compare`] | all of it on one split |
//! | [`predict`] | the models of a comparison on new images |
//! | [`mod@explain`] | where the models look, and how far experts agree |
//! | [`report`] | tables, figures, HTML |
//! | [`mod@pretrain`] | teaching a whole network on a labelled collection |
//! | [`doctor`], [`lock`], [`fs`] | checks of machine and studies; one run at a time; files that are whole or absent |
//!
//! For research only. Nothing in this library prints or touches a network connection.

mod checkpoint;
pub mod cohort;
pub mod compare;
pub mod doctor;
pub mod embed;
pub mod error;
pub mod evaluate;
pub mod explain;
pub mod fs;
#[doc(hidden)]
pub mod fuzzing;
pub mod image;
pub mod lock;
pub mod phantom;
pub mod predict;
pub mod pretrain;
pub mod report;
pub mod study;
pub mod transfer;
pub mod tune;

pub use chestnut_forest as forest;
pub use chestnut_train as train;
pub use error::{Error, Result};
