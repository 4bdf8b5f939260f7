//! Runs a `chestnut-zoo` network on a CPU, as fast as the processor allows.
//!
//! A graph and its weights are compiled once into a plan (`plan`): what is folded and fused, which kernel serves which
//! layer. For each batch and input size the memory is planned once (`layout`), then steps run on a few waiting threads
//! (`pool`, `execute`) through kernels written once for all instruction sets (`kernels`, `simd`).
//!
//! One pass gives three taps per image: embedding, head output and last feature map. Results are the same bits for
//! every number of threads and every batch. Products may be in bf16 ([`Precision`]). [`training`] holds the products and
//! passes by which `chestnut-train` teaches.
//!
//! | instruction set | vector | tested on |
//! |---|---|---|
//! | AVX-512 | 16 floats | every test, where the processor has it |
//! | AVX2 + FMA | 2 x 8 | every test, where the processor has it |
//! | NEON | 4 x 4 | unit tests and `tests/engine.rs`, once, under QEMU; never on an Arm processor |
//! | portable | array of 16 | every test; the one the others are compared with |
//!
//! All `unsafe` code of the project is in this crate: kernels work on raw pointers, and every pointer is taken through
//! `memory::Span::part`, which asserts its bounds. This crate knows nothing about X-rays.

mod cut;
mod engine;
mod execute;
mod kernels;
mod layout;
mod memory;
mod peak;
mod plan;
mod pool;
mod precision;
pub mod reference;
mod simd;
pub mod training;

pub use engine::{Engine, MAX_GROUP, Options, RunError, StepTime, Taps};
pub use peak::measure_peak;
pub use plan::PlanError;
pub use precision::Precision;
pub use simd::Isa;
