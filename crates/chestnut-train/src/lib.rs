//! Teaching networks.
//!
//! Two ways. [`head`]: a new head (one Dense layer with a sigmoid per label) on frozen embeddings, which is the paper's
//! fine-tuning (section 2.3, Table 7; protocol 6.1) without running the network again for every epoch. [`network`]: whole
//! networks, or their last layers, by reverse-mode differentiation over the graphs of `chestnut-zoo`, behind the interface
//! of [`learner`]. [`depth`] says which layers learn, and where a network is cut so that the rest is run once.
//!
//! This crate knows no cohort files and never prints.

pub mod depth;
pub mod head;
pub mod learner;
pub mod network;

pub use depth::{Cut, Depth, DepthError};
pub use head::{Adam, Epoch, HeadError, Rate, Rows, Schedule, TrainedHead};
pub use learner::{Batch, Learner, State, TrainError, Trained, Update};
pub use network::{Cpu, Gradients, initial_weights};
