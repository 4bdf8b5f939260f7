//! Pooling, and batch normalisation that could not be folded into a convolution.

use crate::simd::{LANES, Simd, isa_fn};

/// One image of one block of channels through a pooling window.
#[derive(Clone, Copy)]
pub(crate) struct PoolJob {
    /// `[height][width][16]`.
    pub(crate) input: *const f32,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// `[out_height][out_width][16]`.
    pub(crate) output: *mut f32,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
    pub(crate) size: [usize; 2],
    pub(crate) stride: usize,
    /// Rows above and columns left of the image that the first window covers.
    pub(crate) border: [usize; 2],
    /// Maximum, or mean over the pixels inside the image.
    pub(crate) maximum: bool,
    /// Added afterwards, laid out as the output, or null.
    pub(crate) addend: *const f32,
}

isa_fn! {
    /// Pools one image of one block.
    ///
    /// # Safety
    /// The pointers must cover what the fields say; nobody else may touch the output meanwhile.
    fn pool(job: &PoolJob) = pool_generic
}

#[inline(always)]
unsafe fn pool_generic<S: Simd>(job: &PoolJob) {
    for oy in 0..job.out_height {
        let top = oy * job.stride;
        let (y0, y1) = (top.saturating_sub(job.border[0]), (top + job.size[0] - job.border[0]).min(job.height));
        for ox in 0..job.out_width {
            let left = ox * job.stride;
            let (x0, x1) = (left.saturating_sub(job.border[1]), (left + job.size[1] - job.border[1]).min(job.width));
            unsafe {
                let mut acc = S::splat(if job.maximum { f32::NEG_INFINITY } else { 0.0 });
                for y in y0..y1 {
                    for x in x0..x1 {
                        let v = S::load(job.input.add((y * job.width + x) * LANES));
                        acc = if job.maximum { S::max(acc, v) } else { S::add(acc, v) };
                    }
                }
                if !job.maximum {
                    acc = S::mul(acc, S::splat(1.0 / ((y1 - y0) * (x1 - x0)) as f32));
                }
                let at = (oy * job.out_width + ox) * LANES;
                if !job.addend.is_null() {
                    acc = S::add(acc, S::load(job.addend.add(at)));
                }
                S::store(job.output.add(at), acc);
            }
        }
    }
}

/// x * scale + shift + factor * addend, then max(x, 0), for `pixels` pixels of one block.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) input: *const f32,
    pub(crate) output: *mut f32,
    pub(crate) pixels: usize,
    /// One vector each, or null for 1 and 0.
    pub(crate) scale: *const f32,
    pub(crate) shift: *const f32,
    /// Laid out as the input, or null.
    pub(crate) addend: *const f32,
    pub(crate) factor: f32,
    pub(crate) relu: bool,
}

isa_fn! {
    /// Computes one [`Affine`].
    ///
    /// # Safety
    /// The pointers must cover what the fields say; nobody else may touch the output meanwhile.
    fn affine(job: &Affine) = affine_generic
}

#[inline(always)]
unsafe fn affine_generic<S: Simd>(job: &Affine) {
    unsafe {
        let zero = S::splat(0.0);
        let scale = if job.scale.is_null() { S::splat(1.0) } else { S::load(job.scale) };
        let shift = if job.shift.is_null() { zero } else { S::load(job.shift) };
        let factor = S::splat(job.factor);
        for i in 0..job.pixels {
            let mut v = S::fma(S::load(job.input.add(i * LANES)), scale, shift);
            if !job.addend.is_null() {
                v = S::fma(S::load(job.addend.add(i * LANES)), factor, v);
            }
            if job.relu {
                v = S::max(zero, v);
            }
            S::store(job.output.add(i * LANES), v);
        }
    }
}

isa_fn! {
    /// Mean over `pixels` pixels of one block: 16 values to `output`.
    ///
    /// # Safety
    /// `input` covers `pixels * 16` floats, `output` 16.
    fn mean(input: *const f32, pixels: usize, output: *mut f32) = mean_generic
}

#[inline(always)]
unsafe fn mean_generic<S: Simd>(input: *const f32, pixels: usize, output: *mut f32) {
    unsafe {
        let mut sum = S::splat(0.0);
        for i in 0..pixels {
            sum = S::add(sum, S::load(input.add(i * LANES)));
        }
        S::store(output, S::mul(sum, S::splat(1.0 / pixels as f32)));
    }
}
