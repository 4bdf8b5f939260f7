//! Weights as the kernels read them.
//!
//! Values are folded in f64 and rounded once, here; what does not fill a vector is padded with zeros.

use super::{Algorithm, blocks};
use crate::Precision;
use crate::kernels::{matmul, winograd};
use crate::memory::Aligned;
use crate::simd::LANES;
use chestnut_zoo::graph::Window;

/// f64 values as f32, padded with zeros to whole vectors.
pub(super) fn padded(values: &[f64]) -> Aligned {
    let mut out = Aligned::zeros(blocks(values.len()) * LANES);
    out.as_mut_slice().iter_mut().zip(values).for_each(|(o, &v)| *o = v as f32);
    out
}

/// A depthwise kernel `[3][3][channels]` as `[block][9][16]`.
pub(super) fn depthwise_blocks(kernel: &[f32], channels: usize) -> Aligned {
    let mut out = Aligned::zeros(blocks(channels) * 9 * LANES);
    let slice = out.as_mut_slice();
    for (i, &v) in kernel.iter().enumerate() {
        let (tap, c) = (i / channels, i % channels);
        slice[(c / LANES * 9 + tap) * LANES + c % LANES] = v;
    }
    out
}

/// Packs a kernel `[height][width][input][output]`, times `scale` per output, for its algorithm.
#[allow(clippy::too_many_arguments, reason = "the parts of one layer")]
pub(super) fn pack(
    algorithm: Algorithm,
    precision: Precision,
    kernel: &[f32],
    scale: &[f64],
    window: &Window,
    inputs: usize,
    filters: usize,
    widths: &[usize],
) -> Aligned {
    let taps = window.size[0] * window.size[1];
    let columns = blocks(filters) * LANES;
    let at = |tap: usize, input: usize, output: usize| {
        f64::from(kernel[(tap * inputs + input) * filters + output]) * scale[output]
    };
    match algorithm {
        Algorithm::Image => {
            let mut out = Aligned::zeros(taps * inputs * columns);
            matmul::pack_panels(precision, widths, taps * inputs, out.as_mut_slice(), |row, output| {
                if output < filters { at(row / inputs, row % inputs, output) as f32 } else { 0.0 }
            });
            out
        }
        Algorithm::Pointwise | Algorithm::Window => {
            let padded_inputs = blocks(inputs) * LANES;
            let mut out = Aligned::zeros(taps * padded_inputs / precision.values_per_word() * columns);
            matmul::pack_panels(precision, widths, taps * padded_inputs, out.as_mut_slice(), |row, output| {
                let (tap, input) = (row / padded_inputs, row % padded_inputs);
                if input < inputs && output < filters { at(tap, input, output) as f32 } else { 0.0 }
            });
            out
        }
        Algorithm::Winograd => {
            let padded_inputs = blocks(inputs) * LANES;
            let one = padded_inputs * columns;
            // [position][input][output] first, then packed position by position.
            let mut plain = vec![0.0_f32; winograd::POSITIONS * inputs * filters];
            for input in 0..inputs {
                for output in 0..filters {
                    let mut g = [0.0; 9];
                    g.iter_mut().enumerate().for_each(|(tap, g)| *g = at(tap, input, output));
                    for (position, v) in winograd::transform_kernel(&g).into_iter().enumerate() {
                        plain[(position * inputs + input) * filters + output] = v as f32;
                    }
                }
            }
            let mut out = Aligned::zeros(winograd::POSITIONS * one);
            for (position, out) in out.as_mut_slice().chunks_exact_mut(one).enumerate() {
                let plain = &plain[position * inputs * filters..];
                matmul::pack_panels(precision, widths, padded_inputs, out, |input, output| {
                    if input < inputs && output < filters { plain[input * filters + output] } else { 0.0 }
                });
            }
            out
        }
    }
}
