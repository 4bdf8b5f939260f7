//! The matrix kernel: every convolution ends here.
//!
//! A *run* is a row of output pixels at a constant distance in memory; a *panel* is up to four vectors of output
//! channels with the weights of all inputs packed behind each other. For each tile of a few pixels the sums stay in
//! registers over all inputs: one input value is spread over a vector and multiplied with the panel's vectors (the
//! scheme of Goto and van de Geijn 2008, without copying the inputs). Sums over inputs run in one fixed order, so a
//! value does not depend on how pixels are cut into runs, tiles or threads.

use super::element::{Element, element_fn, pair};
use crate::Precision;
use crate::simd::{LANES, Simd, isa_fn};

/// One run of pixels against one panel of weights. Inputs and weights are counted in words of 32 bits: a float, or two
/// bf16 (see [`element`](super::element)); outputs are floats.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// First input value of the first pixel.
    pub(crate) input: *const f32,
    /// Words from one pixel's input to the next one's.
    pub(crate) pixel: usize,
    /// Where each block of `depth` words starts, in words from a pixel's first one.
    pub(crate) offsets: &'a [usize],
    /// Words per block.
    pub(crate) depth: usize,
    /// Packed weights: `offsets.len() * depth` rows of `width` vectors.
    pub(crate) weights: *const f32,
    /// Vectors of output channels, 1 to 4.
    pub(crate) width: usize,
    /// Output pixels.
    pub(crate) pixels: usize,
    /// First output pixel, first vector; pixels are [`LANES`] apart.
    pub(crate) output: *mut f32,
    /// Floats from one vector of output channels to the next.
    pub(crate) output_block: usize,
    /// `width` vectors added to every pixel, or null.
    pub(crate) bias: *const f32,
    /// Added before the ReLU, laid out as the output with `residual_block` between vectors, or null.
    pub(crate) residual: *const f32,
    /// Floats from one vector of the residual to the next.
    pub(crate) residual_block: usize,
    /// max(x, 0) at the end.
    pub(crate) relu: bool,
}

element_fn! {
    /// Computes one run.
    ///
    /// # Safety
    /// All pointers of `run` must cover what its fields say; nobody else may touch the output meanwhile.
    fn run(run: &Run<'_>) = run_generic
}

#[inline(always)]
unsafe fn run_generic<S: Simd, E: Element<S>>(run: &Run<'_>) {
    unsafe {
        // Constants for the common case let the compiler use fixed address offsets.
        if run.depth == E::WORDS && run.pixel == E::WORDS {
            run_width::<S, E>(run, E::WORDS, E::WORDS);
        } else if run.depth == E::WORDS {
            run_width::<S, E>(run, E::WORDS, run.pixel);
        } else {
            run_width::<S, E>(run, run.depth, run.pixel);
        }
    }
}

#[inline(always)]
unsafe fn run_width<S: Simd, E: Element<S>>(run: &Run<'_>, depth: usize, pixel: usize) {
    unsafe {
        match run.width {
            1 => run_tiles::<S, E, 1>(run, depth, pixel),
            2 if S::MAX_WIDTH >= 2 => run_tiles::<S, E, 2>(run, depth, pixel),
            3 if S::MAX_WIDTH >= 3 => run_tiles::<S, E, 3>(run, depth, pixel),
            4 if S::MAX_WIDTH >= 4 => run_tiles::<S, E, 4>(run, depth, pixel),
            width => unreachable!("a panel of {width} vectors"),
        }
    }
}

/// Most pixels per tile, so that sums, weights and one input fit the registers: 32 of them hold 6 x 4 + 4 + 1 or
/// 8 x 3 + 3 + 1; 16 pairs of half vectors hold 6 x 1 + 1 + 1.
const fn max_rows(max_width: usize, width: usize) -> usize {
    if max_width == 1 || width == 4 { 6 } else { 8 }
}

/// Floats of a panel that are used for all tiles before the next ones: 32 KiB, most of a first-level cache.
const CHUNK_FLOATS: usize = 8 * 1024;
/// Fewest tiles for which cutting the inputs into chunks pays for writing and reading the sums in between.
const CHUNK_TILES: usize = 4;

/// A stretch of the inputs and its weights.
struct Chunk<'a> {
    offsets: &'a [usize],
    weights: *const f32,
    /// Sums start at 0; otherwise they are taken up from the output.
    first: bool,
    /// Bias, residual and ReLU follow.
    last: bool,
}

#[inline(always)]
unsafe fn run_tiles<S: Simd, E: Element<S>, const W: usize>(run: &Run<'_>, depth: usize, pixel: usize) {
    let most = max_rows(S::MAX_WIDTH, W);
    let tiles = run.pixels.div_ceil(most);
    let total = run.offsets.len();
    let blocks = if tiles < CHUNK_TILES { total } else { (CHUNK_FLOATS / (W * LANES * depth)).max(1) };
    // Even chunks, for the same reason as even tiles below.
    let chunks = total.div_ceil(blocks);
    let mut from = 0;
    for c in 0..chunks {
        let to = from + (total - from).div_ceil(chunks - c);
        let chunk = Chunk {
            offsets: &run.offsets[from..to],
            weights: unsafe { run.weights.add(from * depth * W * LANES) },
            first: c == 0,
            last: c + 1 == chunks,
        };
        from = to;
        // Weights come from far away and are used for all tiles, so the next stretch is asked for bit by bit meanwhile.
        let ahead = chunk.weights.wrapping_add(chunk.offsets.len() * depth * W * LANES);
        let lines = (chunk.offsets.len() * depth * W).div_ceil(tiles);
        let (mut at, mut left) = (0, run.pixels);
        for tile in 0..tiles {
            if tiles >= CHUNK_TILES {
                for line in tile * lines..(tile + 1) * lines {
                    unsafe { S::prefetch(ahead.wrapping_add(line * LANES)) };
                }
            }
            // Even tiles: 7 pixels become 4 + 3, not 6 + 1.
            let rows = left.div_ceil(tiles - tile);
            unsafe {
                match rows {
                    1 => tile_rows::<S, E, 1, W>(run, &chunk, at, depth, pixel),
                    2 => tile_rows::<S, E, 2, W>(run, &chunk, at, depth, pixel),
                    3 => tile_rows::<S, E, 3, W>(run, &chunk, at, depth, pixel),
                    4 => tile_rows::<S, E, 4, W>(run, &chunk, at, depth, pixel),
                    5 => tile_rows::<S, E, 5, W>(run, &chunk, at, depth, pixel),
                    6 => tile_rows::<S, E, 6, W>(run, &chunk, at, depth, pixel),
                    7 if most >= 7 => tile_rows::<S, E, 7, W>(run, &chunk, at, depth, pixel),
                    8 if most >= 8 => tile_rows::<S, E, 8, W>(run, &chunk, at, depth, pixel),
                    _ => unreachable!("a tile of {rows} pixels"),
                }
            }
            at += rows;
            left -= rows;
        }
    }
}

/// `R` pixels x `W` vectors.
#[inline(always)]
unsafe fn tile_rows<S: Simd, E: Element<S>, const R: usize, const W: usize>(
    run: &Run<'_>,
    chunk: &Chunk<'_>,
    at: usize,
    depth: usize,
    pixel: usize,
) {
    unsafe {
        let mut sums = [[S::splat(0.0); W]; R];
        let output = run.output.add(at * LANES);
        if !chunk.first {
            for w in 0..W {
                for r in 0..R {
                    sums[r][w] = S::load(output.add(w * run.output_block + r * LANES));
                }
            }
        }
        let input = run.input.add(at * pixel);
        let mut weights = chunk.weights;
        for &offset in chunk.offsets {
            let block = input.add(offset);
            for c in 0..depth {
                let mut row = [S::splat(0.0); W];
                for (w, v) in row.iter_mut().enumerate() {
                    *v = S::load(weights.add(w * LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*block.add(r * pixel + c));
                    for w in 0..W {
                        sums[w] = E::multiply_add(x, row[w], sums[w]);
                    }
                }
                weights = weights.add(W * LANES);
            }
        }
        if !chunk.last {
            for w in 0..W {
                for r in 0..R {
                    S::store(output.add(w * run.output_block + r * LANES), sums[r][w]);
                }
            }
            return;
        }
        // From here on only plain nests over constants: anything else makes the compiler keep the sums in memory.
        if !run.bias.is_null() {
            for w in 0..W {
                let bias = S::load(run.bias.add(w * LANES));
                for sums in &mut sums {
                    sums[w] = S::add(sums[w], bias);
                }
            }
        }
        if !run.residual.is_null() {
            let residual = run.residual.add(at * LANES);
            for w in 0..W {
                for r in 0..R {
                    sums[r][w] = S::add(sums[r][w], S::load(residual.add(w * run.residual_block + r * LANES)));
                }
            }
        }
        // A NaN must come through: the second operand wins where one is NaN.
        let floor = S::splat(if run.relu { 0.0 } else { f32::NEG_INFINITY });
        for w in 0..W {
            for r in 0..R {
                S::store(output.add(w * run.output_block + r * LANES), S::max(floor, sums[r][w]));
            }
        }
    }
}

/// Widths of the panels that `blocks` vectors of output channels are cut into: as even as possible, since a lone
/// vector uses the registers badly.
pub(crate) fn panel_widths(blocks: usize, max_width: usize) -> Vec<usize> {
    let panels = blocks.div_ceil(max_width);
    (0..panels).map(|p| (blocks * (p + 1)).div_ceil(panels) - (blocks * p).div_ceil(panels)).collect()
}

/// Packs weights for [`run`]: panel after panel, in each one row of `width` vectors per word of inputs.
///
/// `rows` inputs in the order in which the run's offsets and depth visit them, an even number for bf16; `value(row, output)`
/// is 0 for padding.
pub(crate) fn pack_panels(
    precision: Precision,
    widths: &[usize],
    rows: usize,
    out: &mut [f32],
    value: impl Fn(usize, usize) -> f32,
) {
    let per_word = precision.values_per_word();
    let mut at = 0;
    let mut first = 0;
    for &width in widths {
        for row in (0..rows).step_by(per_word) {
            for column in first..first + width * LANES {
                out[at] = match precision {
                    Precision::F32 => value(row, column),
                    Precision::Bf16 => pair(value(row, column), value(row + 1, column)),
                };
                at += 1;
            }
        }
        first += width * LANES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_even() {
        assert_eq!(panel_widths(46, 4).iter().sum::<usize>(), 46);
        assert!(panel_widths(46, 4).iter().all(|&w| w == 3 || w == 4));
        assert_eq!(panel_widths(5, 4), [3, 2]);
        assert_eq!(panel_widths(2, 4), [2]);
        assert_eq!(panel_widths(3, 1), [1, 1, 1]);
    }
}
