//! Teaching networks.
//!
//! Today: a new head (one Dense layer with a sigmoid per label) on frozen embeddings, which is the paper's fine-tuning
//! (section 2.3, Table 7; protocol 6.1) without running the network again for every epoch. Training whole networks
//! with automatic differentiation belongs here too and is not built yet.
//!
//! This crate knows no cohort files and never prints.

pub mod head;
pub mod learner;

pub use head::{Adam, Epoch, HeadError, Rate, Rows, Schedule, TrainedHead};
pub use learner::{Batch, Learner, State, TrainError, Trained, Update};
