//! From radiographs to trustworthy AUC tables: the experiment of Gozzi et al. 2022 in its own words.

pub mod cohort;
pub mod fs;
pub mod image;
pub mod phantom;
