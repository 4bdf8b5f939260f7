//! What happens to inputs on their way into the matrix kernel.
//!
//! A 1x1 convolution that is not read in place copies a few hundred pixels into a worker's own memory first, and the
//! operation before it rides along: batch normalisation with ReLU (DenseNet), that and 2x2 averaging (its
//! transitions), a 3x3 depthwise convolution (Xception), taking every second pixel, or rounding to bf16.

use super::element::{Element, element_fn};
use crate::simd::{LANES, Simd, isa_fn};

/// A range of output pixels of one block of channels.
#[derive(Clone, Copy)]
pub(crate) struct Pack {
    /// One block of channels: `[image][height][width][16]`.
    pub(crate) plane: *const f32,
    /// Input rows.
    pub(crate) height: usize,
    /// Input columns.
    pub(crate) width: usize,
    /// Output rows.
    pub(crate) out_height: usize,
    /// Output columns.
    pub(crate) out_width: usize,
    /// Zeros before the first row and column (depthwise only).
    pub(crate) border: [usize; 2],
    /// First output pixel, counted over images, rows and columns.
    pub(crate) first: usize,
    /// Output pixels.
    pub(crate) count: usize,
    /// First packed pixel; pixels are 16 words apart, 8 for bf16.
    pub(crate) output: *mut f32,
    /// What to do.
    pub(crate) kind: Kind,
}

/// The operation that rides along. Pointers cover one vector, or nine for the depthwise kernel.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// max(x * scale + shift, 0), then the mean of 2x2 if `pool`.
    PreActivation { scale: *const f32, shift: *const f32, pool: bool },
    /// Pixels as they are.
    Copy,
    /// Every `stride`-th pixel of every `stride`-th row.
    Stride(usize),
    /// 3x3 with step 1; of max(x, 0) if `rectify`.
    Depthwise { kernel: *const f32, rectify: bool },
}

element_fn! {
    /// Packs one range of pixels of one block of channels.
    ///
    /// # Safety
    /// The pointers must cover what the fields say; nobody else may touch the output meanwhile.
    fn pack(pack: &Pack) = pack_generic
}

#[inline(always)]
unsafe fn pack_generic<S: Simd, E: Element<S>>(p: &Pack) {
    unsafe {
        match p.kind {
            Kind::PreActivation { scale, shift, pool: false } => {
                let (scale, shift, zero) = (S::load(scale), S::load(shift), S::splat(0.0));
                for i in 0..p.count {
                    let x = S::load(p.plane.add((p.first + i) * LANES));
                    E::write(p.output.add(i * E::WORDS), S::max(zero, S::fma(x, scale, shift)));
                }
            }
            Kind::PreActivation { scale, shift, pool: true } => {
                let (scale, shift, zero) = (S::load(scale), S::load(shift), S::splat(0.0));
                let quarter = S::splat(0.25);
                for i in 0..p.count {
                    let at = p.plane.add(source(p, i, 2) * LANES);
                    let mut sum = zero;
                    for offset in [0, 1, p.width, p.width + 1] {
                        let x = S::load(at.add(offset * LANES));
                        sum = S::add(sum, S::max(zero, S::fma(x, scale, shift)));
                    }
                    E::write(p.output.add(i * E::WORDS), S::mul(sum, quarter));
                }
            }
            Kind::Copy => {
                for i in 0..p.count {
                    E::write(p.output.add(i * E::WORDS), S::load(p.plane.add((p.first + i) * LANES)));
                }
            }
            Kind::Stride(stride) => {
                for i in 0..p.count {
                    E::write(p.output.add(i * E::WORDS), S::load(p.plane.add(source(p, i, stride) * LANES)));
                }
            }
            Kind::Depthwise { kernel, rectify } => {
                if rectify {
                    depthwise::<S, E, true>(p, kernel);
                } else {
                    depthwise::<S, E, false>(p, kernel);
                }
            }
        }
    }
}

/// Input pixel at the top left of output pixel `first + i`, for a window with this step and no border.
#[inline(always)]
fn source(p: &Pack, i: usize, stride: usize) -> usize {
    let pixel = p.first + i;
    let (row, x) = (pixel / p.out_width, pixel % p.out_width);
    let (image, y) = (row / p.out_height, row % p.out_height);
    (image * p.height + y * stride) * p.width + x * stride
}

/// Outputs that are computed together along a row, so that a loaded input serves up to three of them.
const TOGETHER: usize = 4;

#[inline(always)]
unsafe fn depthwise<S: Simd, E: Element<S>, const RECTIFY: bool>(p: &Pack, kernel: *const f32) {
    unsafe {
        let zero = S::splat(0.0);
        let mut w = [zero; 9];
        for (tap, w) in w.iter_mut().enumerate() {
            *w = S::load(kernel.add(tap * LANES));
        }
        let mut i = 0;
        while i < p.count {
            let pixel = p.first + i;
            let (row, x) = (pixel / p.out_width, pixel % p.out_width);
            let (image, y) = (row / p.out_height, row % p.out_height);
            // Top left of the window, in pixels of this image; may lie in the border.
            let top = y as isize - p.border[0] as isize;
            let left = x as isize - p.border[1] as isize;
            let image = p.plane.add(image * p.height * p.width * LANES);
            let rows = (-top).clamp(0, 3) as usize..(p.height as isize - top).clamp(0, 3) as usize;
            let many = left >= 0
                && left as usize + TOGETHER + 2 <= p.width
                && x + TOGETHER <= p.out_width
                && i + TOGETHER <= p.count;
            if many {
                let mut sums = [zero; TOGETHER];
                for ky in rows {
                    let line = image.offset(((top + ky as isize) * p.width as isize + left) * LANES as isize);
                    for column in 0..TOGETHER + 2 {
                        let mut v = S::load(line.add(column * LANES));
                        if RECTIFY {
                            v = S::max(zero, v);
                        }
                        for kx in 0..3 {
                            if column >= kx && column - kx < TOGETHER {
                                sums[column - kx] = S::fma(v, w[ky * 3 + kx], sums[column - kx]);
                            }
                        }
                    }
                }
                for (j, sum) in sums.iter().enumerate() {
                    E::write(p.output.add((i + j) * E::WORDS), *sum);
                }
                i += TOGETHER;
            } else {
                let mut sum = zero;
                for ky in rows {
                    for kx in 0..3 {
                        let column = left + kx as isize;
                        if column >= 0 && (column as usize) < p.width {
                            let at = (top + ky as isize) * p.width as isize + column;
                            let mut v = S::load(image.offset(at * LANES as isize));
                            if RECTIFY {
                                v = S::max(zero, v);
                            }
                            sum = S::fma(v, w[ky * 3 + kx], sum);
                        }
                    }
                }
                E::write(p.output.add(i * E::WORDS), sum);
                i += 1;
            }
        }
    }
}
