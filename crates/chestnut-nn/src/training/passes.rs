//! Passes over rows of channels that are plain loops, compiled once for each instruction set.
//!
//! Rows are `[pixel][channel]`; of a row of `row` floats the channels `first..first + channels` are meant.

use super::{Kernels, covers};
use crate::simd::{LANES, Simd, isa_fn};

/// Rows that are absorbed together.
const ABSORBED: usize = 16;

/// What one update of Adam needs beside the tensors.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean squared gradient.
    pub beta2: f32,
    /// Learning rate over the mean's bias correction.
    pub rate: f32,
    /// Square root of the square's bias correction.
    pub correction: f32,
    /// Added to the corrected root.
    pub epsilon: f32,
    /// Share of the weight that is taken away (rate times decay; AdamW).
    pub decay: f32,
}

isa_fn! {
    fn view_rows(x: &[f32], row: usize, scale: &[f32], shift: &[f32], floor: &[f32], out: &mut [f32]) = view_generic
}

#[inline(always)]
unsafe fn view_generic<S: Simd>(x: &[f32], row: usize, scale: &[f32], shift: &[f32], floor: &[f32], out: &mut [f32]) {
    let n = scale.len();
    let (shift, floor) = (&shift[..n], &floor[..n]);
    for (out, x) in out.chunks_exact_mut(n).zip(x.chunks(row)) {
        let x = &x[..n];
        for c in 0..n {
            let z = x[c] * scale[c] + shift[c];
            out[c] = if z > floor[c] { z } else { floor[c] };
        }
    }
}

isa_fn! {
    fn absorb_rows(
        x: &[f32],
        row: usize,
        dz: &[f32],
        affine: [&[f32]; 3],
        dx: &mut [f32],
        sums: &mut [f32]
    ) = absorb_generic
}

#[inline(always)]
unsafe fn absorb_generic<S: Simd>(
    x: &[f32],
    row: usize,
    dz: &[f32],
    affine: [&[f32]; 3],
    dx: &mut [f32],
    sums: &mut [f32],
) {
    let n = affine[0].len();
    let (scale, shift, floor) = (affine[0], &affine[1][..n], &affine[2][..n]);
    let (s1, s2) = sums.split_at_mut(n);
    let s2 = &mut s2[..n];
    let whole = n / LANES * LANES;
    let pixels = dz.len() / n;
    // A few rows stay in the nearest cache while each block of channels keeps its constants and sums in registers.
    for from in (0..pixels).step_by(ABSORBED) {
        let to = (from + ABSORBED).min(pixels);
        for c in (0..whole).step_by(LANES) {
            // SAFETY: `Kernels::absorb` asserts that row `pixels - 1` has `n` values in `x`, `dz` and `dx`.
            unsafe {
                let (a, b) = (S::load(scale.as_ptr().add(c)), S::load(shift.as_ptr().add(c)));
                let low = S::load(floor.as_ptr().add(c));
                let (mut one, mut two) = (S::load(s1.as_ptr().add(c)), S::load(s2.as_ptr().add(c)));
                for p in from..to {
                    let v = S::load(x.as_ptr().add(p * row + c));
                    let z = S::add(S::mul(v, a), b);
                    let d = S::where_above(z, low, S::load(dz.as_ptr().add(p * n + c)));
                    one = S::add(one, d);
                    two = S::fma(d, v, two);
                    let out = dx.as_mut_ptr().add(p * row + c);
                    S::store(out, S::fma(a, d, S::load(out)));
                }
                S::store(s1.as_mut_ptr().add(c), one);
                S::store(s2.as_mut_ptr().add(c), two);
            }
        }
        for p in from..to {
            for c in whole..n {
                let v = x[p * row + c];
                let d = if v * scale[c] + shift[c] > floor[c] { dz[p * n + c] } else { 0.0 };
                s1[c] += d;
                s2[c] += d * v;
                dx[p * row + c] += scale[c] * d;
            }
        }
    }
}

isa_fn! {
    fn settle_rows(x: &[f32], dx: &[f32], row: usize, constant: &[f32], slope: &[f32], out: &mut [f32]) = settle_generic
}

#[inline(always)]
unsafe fn settle_generic<S: Simd>(x: &[f32], dx: &[f32], row: usize, constant: &[f32], slope: &[f32], out: &mut [f32]) {
    let n = constant.len();
    let slope = &slope[..n];
    for ((out, x), dx) in out.chunks_exact_mut(n).zip(x.chunks(row)).zip(dx.chunks(row)) {
        let (x, dx) = (&x[..n], &dx[..n]);
        for c in 0..n {
            out[c] = dx[c] + constant[c] + slope[c] * x[c];
        }
    }
}

isa_fn! {
    fn sum_rows(x: &[f32], row: usize, sums: &mut [f32]) = sum_generic
}

#[inline(always)]
unsafe fn sum_generic<S: Simd>(x: &[f32], row: usize, sums: &mut [f32]) {
    let n = sums.len();
    for x in x.chunks(row) {
        let x = &x[..n];
        for c in 0..n {
            sums[c] += x[c];
        }
    }
}

isa_fn! {
    fn spread_rows(x: &[f32], row: usize, mean: &[f32], sums: &mut [f32]) = spread_generic
}

#[inline(always)]
unsafe fn spread_generic<S: Simd>(x: &[f32], row: usize, mean: &[f32], sums: &mut [f32]) {
    let n = sums.len();
    let mean = &mean[..n];
    for x in x.chunks(row) {
        let x = &x[..n];
        for c in 0..n {
            let d = x[c] - mean[c];
            sums[c] += d * d;
        }
    }
}

isa_fn! {
    fn shift_rows(x: &mut [f32], row: usize, bias: &[f32]) = shift_generic
}

#[inline(always)]
unsafe fn shift_generic<S: Simd>(x: &mut [f32], row: usize, bias: &[f32]) {
    let n = bias.len();
    for x in x.chunks_mut(row) {
        let x = &mut x[..n];
        for c in 0..n {
            x[c] += bias[c];
        }
    }
}

isa_fn! {
    fn depthwise_rows(
        x: &[f32],
        pixel: usize,
        weight: &[f32],
        out: &mut [f32],
        row: usize
    ) = depthwise_generic
}

#[inline(always)]
unsafe fn depthwise_generic<S: Simd>(x: &[f32], pixel: usize, weight: &[f32], out: &mut [f32], row: usize) {
    let n = weight.len();
    for (out, x) in out.chunks_mut(row).zip(x.chunks(pixel)) {
        let (out, x) = (&mut out[..n], &x[..n]);
        for c in 0..n {
            out[c] += x[c] * weight[c];
        }
    }
}

isa_fn! {
    fn correlate_rows(x: &[f32], pixel: usize, y: &[f32], row: usize, sums: &mut [f32]) = correlate_generic
}

#[inline(always)]
unsafe fn correlate_generic<S: Simd>(x: &[f32], pixel: usize, y: &[f32], row: usize, sums: &mut [f32]) {
    let n = sums.len();
    for (y, x) in y.chunks(row).zip(x.chunks(pixel)) {
        let (y, x) = (&y[..n], &x[..n]);
        for c in 0..n {
            sums[c] += x[c] * y[c];
        }
    }
}

isa_fn! {
    fn adam_values(w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], step: &AdamStep) = adam_generic
}

#[inline(always)]
unsafe fn adam_generic<S: Simd>(w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], step: &AdamStep) {
    let n = g.len();
    let (w, m, v) = (&mut w[..n], &mut m[..n], &mut v[..n]);
    for i in 0..n {
        m[i] = step.beta1 * m[i] + (1.0 - step.beta1) * g[i];
        v[i] = step.beta2 * v[i] + (1.0 - step.beta2) * g[i] * g[i];
        let root = v[i].sqrt() / step.correction + step.epsilon;
        w[i] -= step.decay * w[i] + step.rate * m[i] / root;
    }
}

impl Kernels {
    /// `out[p][c] = max(x[p][c] * scale[c] + shift[c], floor[c])`: what a layer reads through batch normalisation and
    /// ReLU. `x` starts at the first channel meant; `out` is dense.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn view(self, x: &[f32], row: usize, affine: [&[f32]; 3], out: &mut [f32]) {
        let n = affine[0].len();
        assert!(n > 0 && row >= n && covers(x, out.len() / n, row, n), "rows too short");
        // SAFETY: no unchecked access inside; `Kernels` exist only for instruction sets present.
        unsafe { view_rows(self.isa, x, row, affine[0], affine[1], affine[2], out) };
    }

    /// Takes the gradient `dz` of [`Kernels::view`] back to `x`: where the view was above its floor, adds `scale * dz` to
    /// `dx` (rows like `x`), `dz` to the first half of `sums` and `dz * x` to the second.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn absorb(self, x: &[f32], row: usize, dz: &[f32], affine: [&[f32]; 3], dx: &mut [f32], sums: &mut [f32]) {
        let n = affine[0].len();
        let pixels = dz.len() / n.max(1);
        assert!(n > 0 && row >= n && covers(x, pixels, row, n) && covers(dx, pixels, row, n), "rows too short");
        assert!(sums.len() == 2 * n, "sums of another length");
        // SAFETY: the asserts cover the last row of `x`, `dz` and `dx`; `Kernels` exist only for instruction sets present.
        unsafe { absorb_rows(self.isa, x, row, dz, affine, dx, sums) };
    }

    /// `out[p][c] = dx[p][c] + constant[c] + slope[c] * x[p][c]`, `out` dense.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn settle(self, x: &[f32], dx: &[f32], row: usize, constant: &[f32], slope: &[f32], out: &mut [f32]) {
        let n = constant.len();
        let pixels = out.len() / n.max(1);
        assert!(n > 0 && row >= n && covers(x, pixels, row, n) && covers(dx, pixels, row, n), "rows too short");
        // SAFETY: as in `view`.
        unsafe { settle_rows(self.isa, x, dx, row, constant, slope, out) };
    }

    /// Adds each channel's values to `sums`.
    ///
    /// # Panics
    /// If the last row is too short.
    pub fn sum(self, x: &[f32], row: usize, sums: &mut [f32]) {
        assert!(row >= sums.len(), "rows too short");
        // SAFETY: as in `view`.
        unsafe { sum_rows(self.isa, x, row, sums) };
    }

    /// Adds each channel's squared distances from `mean` to `sums`.
    ///
    /// # Panics
    /// If the last row is too short.
    pub fn spread(self, x: &[f32], row: usize, mean: &[f32], sums: &mut [f32]) {
        assert!(row >= sums.len() && mean.len() >= sums.len(), "rows too short");
        // SAFETY: as in `view`.
        unsafe { spread_rows(self.isa, x, row, mean, sums) };
    }

    /// Adds `bias` to every row.
    ///
    /// # Panics
    /// If the last row is too short.
    pub fn shift(self, x: &mut [f32], row: usize, bias: &[f32]) {
        assert!(row >= bias.len(), "rows too short");
        // SAFETY: as in `view`.
        unsafe { shift_rows(self.isa, x, row, bias) };
    }

    /// `out[p][c] += x[p][c] * weight[c]`, pixels of `x` being `pixel` floats apart and of `out` `row`.
    ///
    /// # Panics
    /// If the last row is too short.
    pub fn depthwise(self, x: &[f32], pixel: usize, weight: &[f32], out: &mut [f32], row: usize) {
        assert!(row >= weight.len() && pixel >= weight.len(), "rows too short");
        // SAFETY: as in `view`.
        unsafe { depthwise_rows(self.isa, x, pixel, weight, out, row) };
    }

    /// `sums[c] +=` sum over pixels of `x[p][c] * y[p][c]`.
    ///
    /// # Panics
    /// If the last row is too short.
    pub fn correlate(self, x: &[f32], pixel: usize, y: &[f32], row: usize, sums: &mut [f32]) {
        assert!(row >= sums.len() && pixel >= sums.len(), "rows too short");
        // SAFETY: as in `view`.
        unsafe { correlate_rows(self.isa, x, pixel, y, row, sums) };
    }

    /// One update of Adam on a tensor, its mean gradient and its mean squared gradient.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn adam(self, weights: &mut [f32], mean: &mut [f32], square: &mut [f32], gradient: &[f32], step: &AdamStep) {
        assert!(weights.len() == gradient.len() && mean.len() == gradient.len() && square.len() == gradient.len());
        // SAFETY: as in `view`.
        unsafe { adam_values(self.isa, weights, mean, square, gradient, step) };
    }
}
