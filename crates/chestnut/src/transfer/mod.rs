//! The ways from a network to a hospital's own labels (paper section 2.3), each on the same split.

pub mod deep;
pub mod embeddings;
pub mod ensemble;
pub mod fine_tune;
pub mod source;
pub mod stacking;

/// Predictions of one method for the test images.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// Such as `Embeddings + RF`.
    pub approach: String,
    /// A network's name, or the ensemble's.
    pub source: String,
    /// `[test image][label]`, 0 to 1.
    pub probabilities: Vec<f64>,
}
