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

/// Whether `values` hold `count` rows of `row` floats, of the last one at least `columns`. What no number can hold is not
/// there: these lengths are what `unsafe` code rests on, so they must not wrap.
fn covers(values: &[f32], count: usize, row: usize, columns: usize) -> bool {
    let Some(before) = count.checked_sub(1) else { return true };
    before.checked_mul(row).and_then(|start| start.checked_add(columns)).is_some_and(|end| values.len() >= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twice this is 0 where numbers wrap.
    const HALF: usize = usize::MAX / 2 + 1;

    #[test]
    fn rows_are_counted_without_wrapping() {
        assert!(covers(&[0.0; 5], 2, 3, 2) && !covers(&[0.0; 4], 2, 3, 2) && covers(&[], 0, 3, 2));
        assert!(!covers(&[0.0; 5], 3, HALF, 1) && !covers(&[0.0; 5], 2, usize::MAX, 1));
    }

    #[test]
    #[should_panic(expected = "input of 64 for a reach of None")]
    fn a_window_of_lines_that_no_number_reaches() {
        let kernels = Kernels::with(Isa::Portable);
        let packed = kernels.pack(&[1.0; 4], 1, 2, 2, [4, 2, 1]);
        let window = Window { taps: &[0], depth: 2, pixel: 2, line: HALF, lines: 3, pixels: 1 };
        kernels.multiply(&[0.0; 64], &window, &packed, &mut [0.0; 64], 2, false);
    }

    #[test]
    #[should_panic(expected = "first factor too short")]
    fn a_factor_of_pixels_that_no_number_reaches() {
        let mut out = [0.0];
        Kernels::with(Isa::Portable).outer(&[0.0; 4], HALF, 1, &[0.0; 3], 1, 3, &mut out, &mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "rows too short")]
    fn rows_that_no_number_reaches() {
        let one = [1.0_f32];
        let kernels = Kernels::with(Isa::Portable);
        kernels.absorb(&[0.0; 4], HALF, &[0.0; 3], [&one, &one, &one], &mut [0.0; 4], &mut [0.0; 2]);
    }
}
