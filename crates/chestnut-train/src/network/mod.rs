//! Whole networks that learn on a processor.
//!
//! Reverse-mode differentiation written out for the operations of `chestnut-zoo`'s graphs: [`plan`](self) says what is
//! stored and what is only read through a view, `norm` carries batch normalisation and ReLU through those views,
//! `convolution` and `pool` are the operations, `passes` runs them forward and backward, [`Cpu`] keeps weights and
//! moments.

mod convolution;
mod cpu;
mod norm;
mod passes;
mod plan;
mod pool;
mod tensors;

pub use cpu::{Cpu, Gradients};
pub use tensors::initial_weights;
