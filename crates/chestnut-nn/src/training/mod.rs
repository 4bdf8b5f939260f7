//! The arithmetic of teaching a network, for `chestnut-train`: two matrix products and a few passes over rows.
//!
//! Inference packs activations in blocks of channels; teaching keeps plain `[pixel][channel]` rows, because every
//! value is written once and read by products of three directions. All entry points take slices, check them once, and
//! are safe; what they run is compiled for each instruction set like the rest of this crate.

mod passes;
mod product;

pub use passes::AdamStep;
pub use product::{Packed, Window};

use crate::simd::Isa;

/// The kernels for one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    isa: Isa,
}

impl Kernels {
    /// For the fastest instruction set that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        Self { isa: Isa::detect() }
    }

    /// For this instruction set.
    ///
    /// # Panics
    /// If the processor does not have it.
    #[must_use]
    pub fn with(isa: Isa) -> Self {
        assert!(Isa::available().contains(&isa), "this processor has no {isa}");
        Self { isa }
    }
}
