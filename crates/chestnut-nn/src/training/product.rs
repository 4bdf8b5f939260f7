//! Two matrix products over rows of pixels: with weights (forward, and backward to the inputs) and of two activations
//! (backward to the weights).
//!
//! Both end in one tile: a few rows times up to four vectors of columns whose sums stay in registers. Sums run in one
//! fixed order, so results do not depend on how pixels are cut.

mod tile;

use super::{Kernels, covers};
use crate::kernels::matmul::panel_widths;
use crate::memory::Aligned;
use crate::simd::{Isa, LANES, Simd, isa_fn};
use tile::{Tile, tile_any};

/// Floats of a panel that are used for all rows before the next ones: most of a first-level cache.
const CHUNK_FLOATS: usize = 8 * 1024;

/// A matrix packed in panels of up to four vectors of columns, as [`Kernels::multiply`] reads it.
pub struct Packed {
    rows: usize,
    columns: usize,
    widths: Vec<usize>,
    data: Aligned,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} x {})", self.rows, self.columns)
    }
}

impl Packed {
    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// Which values of the input meet the weights: for output pixel `p` of line `l` and tap `t`, `depth` values from
/// `taps[t] + l * line + p * pixel`.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Where each tap starts, in floats.
    pub taps: &'a [usize],
    /// Values per tap.
    pub depth: usize,
    /// Floats from a pixel to the next.
    pub pixel: usize,
    /// Floats from a line of pixels to the next.
    pub line: usize,
    /// Lines.
    pub lines: usize,
    /// Pixels per line.
    pub pixels: usize,
}

impl Window<'_> {
    /// Floats of input that are read at most, by at least one line and pixel; `None` if no number holds it.
    fn reach(&self) -> Option<usize> {
        let last = self.taps.iter().max().copied().unwrap_or(0);
        let line = (self.lines - 1).checked_mul(self.line)?;
        let pixel = (self.pixels - 1).checked_mul(self.pixel)?;
        last.checked_add(line)?.checked_add(pixel)?.checked_add(self.depth)
    }
}

/// One panel against all pixels.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    a: *const f32,
    window: Window<'a>,
    /// Packed rows of the panel.
    b: *const f32,
    /// Vectors of the panel.
    width: usize,
    /// Columns of the panel that exist.
    columns: usize,
    /// First pixel's first column.
    c: *mut f32,
    /// Floats from one pixel's output to the next.
    c_row: usize,
    /// Whether sums are added to what is there.
    add: bool,
}

const fn max_rows(max_width: usize, width: usize) -> usize {
    if max_width == 1 || width == 4 { 6 } else { 8 }
}

isa_fn! {
    /// One panel of weights against all pixels of a window.
    fn multiply_panel(job: &Job<'_>) = multiply_generic
}

#[inline(always)]
unsafe fn multiply_generic<S: Simd>(job: &Job<'_>) {
    unsafe {
        match job.width {
            1 => multiply_width::<S, 1>(job),
            2 if S::MAX_WIDTH >= 2 => multiply_width::<S, 2>(job),
            3 if S::MAX_WIDTH >= 3 => multiply_width::<S, 3>(job),
            4 if S::MAX_WIDTH >= 4 => multiply_width::<S, 4>(job),
            width => unreachable!("a panel of {width} vectors"),
        }
    }
}

#[inline(always)]
unsafe fn multiply_width<S: Simd, const W: usize>(job: &Job<'_>) {
    let most = max_rows(S::MAX_WIDTH, W);
    let window = &job.window;
    let chunk = CHUNK_FLOATS / (W * LANES);
    // Either several taps together, or stretches of one tap.
    let taps = (chunk / window.depth).max(1);
    let pieces = window.depth.div_ceil(chunk);
    let mut add = job.add;
    let mut b = job.b;
    for group in window.taps.chunks(taps) {
        let mut from = 0;
        for piece in 0..pieces {
            let to = from + (window.depth - from).div_ceil(pieces - piece);
            for line in 0..window.lines {
                let tiles = window.pixels.div_ceil(most);
                let (mut at, mut left) = (0, window.pixels);
                for t in 0..tiles {
                    let rows = left.div_ceil(tiles - t);
                    unsafe {
                        let tile = Tile {
                            a: job.a.add(line * window.line + at * window.pixel + from),
                            offsets: group,
                            steps: to - from,
                            a_row: window.pixel,
                            a_step: 1,
                            b,
                            b_step: W * LANES,
                            c: job.c.add((line * window.pixels + at) * job.c_row),
                            c_row: job.c_row,
                            add,
                        };
                        tile_any::<S, W>(rows, job.columns, &tile);
                    }
                    at += rows;
                    left -= rows;
                }
            }
            add = true;
            b = b.wrapping_add(group.len() * (to - from) * W * LANES);
            from = to;
        }
    }
}

/// One panel of the second activation against all columns of the first.
#[derive(Clone, Copy)]
pub(crate) struct Outer {
    a: *const f32,
    a_pixel: usize,
    depth: usize,
    /// `[pixel][width vectors]`.
    b: *const f32,
    width: usize,
    columns: usize,
    pixels: usize,
    c: *mut f32,
    c_row: usize,
}

isa_fn! {
    /// Adds one panel of an outer product.
    fn outer_panel(job: &Outer) = outer_generic
}

#[inline(always)]
unsafe fn outer_generic<S: Simd>(job: &Outer) {
    unsafe {
        match job.width {
            1 => outer_width::<S, 1>(job),
            2 if S::MAX_WIDTH >= 2 => outer_width::<S, 2>(job),
            3 if S::MAX_WIDTH >= 3 => outer_width::<S, 3>(job),
            4 if S::MAX_WIDTH >= 4 => outer_width::<S, 4>(job),
            width => unreachable!("a panel of {width} vectors"),
        }
    }
}

#[inline(always)]
unsafe fn outer_width<S: Simd, const W: usize>(job: &Outer) {
    let most = max_rows(S::MAX_WIDTH, W);
    let tiles = job.depth.div_ceil(most);
    let (mut at, mut left) = (0, job.depth);
    for t in 0..tiles {
        let rows = left.div_ceil(tiles - t);
        unsafe {
            let tile = Tile {
                a: job.a.add(at),
                offsets: &[0],
                steps: job.pixels,
                a_row: 1,
                a_step: job.a_pixel,
                b: job.b,
                b_step: W * LANES,
                c: job.c.add(at * job.c_row),
                c_row: job.c_row,
                add: true,
            };
            tile_any::<S, W>(rows, job.columns, &tile);
        }
        at += rows;
        left -= rows;
    }
}

/// The chunks in which [`multiply_width`] walks over the rows of a panel: (first tap, taps, first value, values).
fn chunks(width: usize, taps: usize, depth: usize) -> Vec<(usize, usize, usize, usize)> {
    let chunk = CHUNK_FLOATS / (width * LANES);
    let (group, pieces) = ((chunk / depth).max(1), depth.div_ceil(chunk));
    let mut all = Vec::new();
    for tap in (0..taps).step_by(group) {
        let mut from = 0;
        for piece in 0..pieces {
            let count = (depth - from).div_ceil(pieces - piece);
            all.push((tap, group.min(taps - tap), from, count));
            from += count;
        }
    }
    all
}

impl Kernels {
    /// Packs a matrix of `taps * depth` rows for a [`Window`] of as many taps and values. Row `t * depth + d`, column
    /// `n` is `data[t * strides[0] + d * strides[1] + n * strides[2]]`.
    ///
    /// # Panics
    /// If `data` is shorter than that.
    #[must_use]
    pub fn pack(self, data: &[f32], taps: usize, depth: usize, columns: usize, strides: [usize; 3]) -> Packed {
        assert!(taps > 0 && depth > 0 && columns > 0, "an empty matrix");
        let widths = panel_widths(columns.div_ceil(LANES), self.isa.max_width());
        let mut out = Aligned::zeros(taps * depth * columns.div_ceil(LANES) * LANES);
        let to = out.as_mut_slice();
        let (mut at, mut first) = (0, 0);
        for &width in &widths {
            let count = (columns - first).min(width * LANES);
            for (tap, group, from, values) in chunks(width, taps, depth) {
                for t in tap..tap + group {
                    for d in from..from + values {
                        let row = t * strides[0] + d * strides[1] + first * strides[2];
                        let to = &mut to[at..at + count];
                        if strides[2] == 1 {
                            to.copy_from_slice(&data[row..row + count]);
                        } else {
                            for (n, v) in to.iter_mut().enumerate() {
                                *v = data[row + n * strides[2]];
                            }
                        }
                        at += width * LANES;
                    }
                }
            }
            first += width * LANES;
        }
        Packed { rows: taps * depth, columns, widths, data: out }
    }

    /// `out[q * row + n] (+)= sum over taps and values of input x packed`, for pixels `q = line * pixels + p` and all
    /// columns `n`; added to what is there if `add`.
    ///
    /// # Panics
    /// If the slices are shorter than the window says, or the matrix has other rows.
    pub fn multiply(self, input: &[f32], window: &Window<'_>, packed: &Packed, out: &mut [f32], row: usize, add: bool) {
        if window.lines == 0 || window.pixels == 0 {
            return;
        }
        let rows = window.taps.len().checked_mul(window.depth);
        assert!(window.depth > 0 && rows == Some(packed.rows), "a matrix of other rows");
        let reach = window.reach();
        assert!(reach.is_some_and(|r| input.len() >= r), "input of {} for a reach of {reach:?}", input.len());
        let pixels = window.lines.checked_mul(window.pixels);
        let fits = pixels.is_some_and(|pixels| covers(out, pixels, row, packed.columns));
        assert!(row >= packed.columns && fits, "output too short");
        let mut first = 0;
        for &width in &packed.widths {
            let job = Job {
                a: input.as_ptr(),
                window: *window,
                b: packed.data.as_slice()[first * packed.rows..].as_ptr(),
                width,
                columns: (packed.columns - first).min(width * LANES),
                c: out[first..].as_mut_ptr(),
                c_row: row,
                add,
            };
            // SAFETY: the asserts above cover every read of `input` (reach) and write of `out`; `packed` holds `rows`
            // rows of `width` vectors per panel by construction; `Kernels` exist only for instruction sets present.
            unsafe { multiply_panel(self.isa, &job) };
            first += width * LANES;
        }
    }

    /// `out[d * columns + n] += sum over pixels p of a[p * a_pixel + d] * b[p * columns + n]`, `d` below `depth`.
    /// `scratch` is used for packing and kept for the next call.
    ///
    /// # Panics
    /// If a slice is shorter than that.
    #[expect(clippy::too_many_arguments, reason = "two matrices, a sum, and their extents")]
    pub fn outer(
        self,
        a: &[f32],
        a_pixel: usize,
        depth: usize,
        b: &[f32],
        columns: usize,
        pixels: usize,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        if pixels == 0 || depth == 0 || columns == 0 {
            return;
        }
        assert!(covers(a, pixels, a_pixel, depth), "first factor too short");
        assert!(covers(b, pixels, columns, columns), "second factor too short");
        assert!(covers(out, depth, columns, columns), "sum too short");
        let mut first = 0;
        for width in panel_widths(columns.div_ceil(LANES), self.isa.max_width()) {
            let count = (columns - first).min(width * LANES);
            scratch.clear();
            scratch.resize(pixels * width * LANES, 0.0);
            for (to, from) in scratch.chunks_exact_mut(width * LANES).zip(b.chunks_exact(columns)) {
                to[..count].copy_from_slice(&from[first..first + count]);
            }
            let job = Outer {
                a: a.as_ptr(),
                a_pixel,
                depth,
                b: scratch.as_ptr(),
                width,
                columns: count,
                pixels,
                c: out[first..].as_mut_ptr(),
                c_row: columns,
            };
            // SAFETY: lengths were asserted above; `scratch` holds `pixels` rows of `width` vectors.
            unsafe { outer_panel(self.isa, &job) };
            first += width * LANES;
        }
    }

    /// The instruction set.
    #[must_use]
    pub fn isa(self) -> Isa {
        self.isa
    }
}

#[cfg(test)]
mod tests;
