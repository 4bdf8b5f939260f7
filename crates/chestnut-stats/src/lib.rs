//! Statistics of a diagnostic study: discrimination, calibration, their intervals and tests.
//!
//! Everywhere scores are `&[f64]` (higher means more likely positive) and the truth is `&[bool]`,
//! one entry per row. What the rows cannot tell is an `Err(StatsError)` that names the reason, for
//! instance one class only; a made-up 0.5 or a NaN never leaves this crate. The crate draws from no
//! other source of randomness than [`random`], so results do not depend on the machine or threads.
//! It knows nothing of images, labels or files.

pub mod calibration;
pub mod decision;
pub mod delong;
pub mod isotonic;
pub mod logistic;
pub mod multiple;
pub mod normal;
pub mod platt;
pub mod proportion;
pub mod random;
pub mod resample;
pub mod roc;

mod error;
mod interval;
mod mean;

pub use calibration::{CalibrationLine, ReliabilityBin};
pub use decision::DecisionPoint;
pub use delong::{DeLong, PairedComparison};
pub use error::StatsError;
pub use interval::{DEFAULT_LEVEL, Interval, IntervalMethod};
pub use isotonic::Isotonic;
pub use mean::mean;
pub use platt::Platt;
pub use proportion::{Confusion, Proportion};
pub use resample::{Bootstrap, Clusters};
pub use roc::{OperatingPoint, RocPoint};
