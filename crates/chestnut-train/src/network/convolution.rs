//! Convolutions in three directions, all as products over rows of pixels (see `chestnut_nn::training`).
//!
//! A few rows of the input are read through their view into a padded scratch that stays in the cache; the window's taps
//! are offsets into it, so nothing is unrolled. Backward to the inputs is the same product with the window turned round
//! and the gradient spread by the stride; backward to the weights is an outer product per tap, in groups of images that
//! do not depend on the number of threads.

use super::norm::{Moments, Reader};
use chestnut_nn::training::{Kernels, Packed, Window as Taps};
use chestnut_zoo::graph::{Shape, Window};
use rayon::prelude::*;

/// Floats of scratch per item, about a quarter of a second-level cache.
const SCRATCH: usize = 96 * 1024;
/// Fewest and most pixels of an item.
const PIXELS: (usize, usize) = (64, 512);
/// Most floats of the weights' gradient that one item sums up.
const BLOCK: usize = 256 * 1024;
/// Items that the weights' gradient is cut into, where it can be.
const ITEMS: usize = 8;

/// Extents of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) input: Shape,
    pub(super) output: Shape,
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    /// Rows above and columns left of the image.
    pub(super) before: [usize; 2],
}

impl Geometry {
    pub(super) fn new(window: &Window, batch: usize, input: Shape, output: Shape) -> Self {
        let before = window.before(input.height, input.width);
        let mut g = Self { batch, input, output, kernel: window.size, stride: window.stride, before };
        if g.is_pointwise() {
            // All pixels of the batch are one column.
            let pixels = batch * input.height * input.width;
            g.batch = 1;
            g.input = Shape { height: pixels, width: 1, ..input };
            g.output = Shape { height: pixels, width: 1, ..output };
        }
        g
    }

    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == 1 && self.before == [0, 0]
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Columns of input that a line of output reads.
    fn width(&self) -> usize {
        (self.output.width - 1) * self.stride + self.kernel[1]
    }

    /// What `lines` output rows from `y` on read.
    fn patch(&self, y: usize, lines: usize) -> Patch {
        Patch {
            from: (y * self.stride) as isize - self.before[0] as isize,
            rows: (lines - 1) * self.stride + self.kernel[0],
            left: self.before[1],
            width: self.width(),
        }
    }

    /// Output rows per item.
    fn rows(&self) -> usize {
        let fit = (SCRATCH / (self.width() * self.input.channels.max(self.output.channels)))
            .saturating_sub(self.kernel[0])
            / self.stride
            + 1;
        let least = PIXELS.0.div_ceil(self.output.width);
        let most = (PIXELS.1 / self.output.width).max(1);
        fit.max(least).min(most).min(self.output.height)
    }
}

/// Rows `from..from + rows` and columns `-left..width - left` of an image seen through `read(y, x, pixels, out)`,
/// where columns and rows outside are zero.
struct Patch {
    from: isize,
    rows: usize,
    left: usize,
    width: usize,
}

/// Fills scratch with a patch of image `b`.
fn fill(k: Kernels, from: &Reader<'_>, shape: Shape, b: usize, patch: &Patch, scratch: &mut Vec<f32>) {
    let c = from.channels();
    scratch.clear();
    scratch.resize(patch.rows * patch.width * c, 0.0);
    let inside = shape.width.min(patch.width - patch.left);
    for (i, line) in scratch.chunks_exact_mut(patch.width * c).enumerate() {
        let y = patch.from + i as isize;
        if y >= 0 && (y as usize) < shape.height {
            let at = (b * shape.height + y as usize) * shape.width;
            from.read(k, at, &mut line[patch.left * c..(patch.left + inside) * c]);
        }
    }
}

/// Where a convolution's value goes.
pub(super) struct Target<'a> {
    /// The root's values.
    pub(super) values: &'a mut [f32],
    /// Channels of the root.
    pub(super) row: usize,
    /// First channel.
    pub(super) first: usize,
}

/// Cuts `values` into items of `rows` lines of `line` floats, image by image: (image, first line, part).
pub(super) fn items(
    values: &mut [f32],
    image: usize,
    line: usize,
    rows: usize,
) -> impl IndexedParallelIterator<Item = (usize, usize, &mut [f32])> {
    let mut all = Vec::new();
    for (b, image) in values.chunks_mut(image).enumerate() {
        for (i, part) in image.chunks_mut(rows * line).enumerate() {
            all.push((b, i * rows, part));
        }
    }
    all.into_par_iter()
}

/// Forward; gives the output's moments if asked to.
pub(super) fn forward(
    k: Kernels,
    g: &Geometry,
    from: &Reader<'_>,
    packed: &Packed,
    bias: Option<&[f32]>,
    to: Target<'_>,
    observe: bool,
) -> Option<Moments> {
    let c = g.input.channels;
    let width = g.width();
    let offsets = offsets(g.kernel, width, c);
    let (row, first) = (to.row, to.first);
    let line = g.output.width * row;
    let parts: Vec<Moments> = items(to.values, g.output.height * line, line, g.rows())
        .map_init(Vec::new, |scratch, (b, y, out)| {
            let lines = out.len() / line;
            let patch = g.patch(y, lines);
            fill(k, from, g.input, b, &patch, scratch);
            let out = &mut out[first..];
            k.multiply(scratch, &g.window(&offsets, width, c, lines), packed, out, row, false);
            if let Some(bias) = bias {
                k.shift(out, row, bias);
            }
            if observe { Moments::of(k, out, row, g.output.channels) } else { Moments::default() }
        })
        .collect();
    observe.then(|| parts.iter().fold(Moments::default(), Moments::join))
}

impl Geometry {
    /// Windows of `lines` lines of output pixels.
    fn window<'a>(&self, taps: &'a [usize], width: usize, depth: usize, lines: usize) -> Taps<'a> {
        let pixel = self.stride * depth;
        if width == self.output.width && self.stride == 1 && self.kernel[0] == 1 {
            return Taps { taps, depth, pixel, line: 0, lines: 1, pixels: lines * self.output.width };
        }
        Taps { taps, depth, pixel, line: self.stride * width * depth, lines, pixels: self.output.width }
    }
}

/// Where each tap of a kernel starts in lines of `width` pixels.
fn offsets(kernel: [usize; 2], width: usize, depth: usize) -> Vec<usize> {
    (0..kernel[0] * kernel[1]).map(|t| (t / kernel[1] * width + t % kernel[1]) * depth).collect()
}

/// Gradient of the weights `[tap][input channel][output channel]`; `dy` is dense.
pub(super) fn weights(k: Kernels, g: &Geometry, from: &Reader<'_>, dy: &[f32]) -> Vec<f32> {
    let (ci, co) = (g.input.channels, g.output.channels);
    let taps = g.taps();
    // Stretches of taps, or of input channels of one tap, that fit the cache.
    let group = (BLOCK / (ci * co)).clamp(1, taps);
    let blocks: Vec<(usize, usize)> = (0..taps).step_by(group).map(|t| (t, group.min(taps - t))).collect();
    let rows = g.rows();
    let per_image = g.output.height.div_ceil(rows);
    let tiles = g.batch * per_image;
    let share = ITEMS.div_ceil(blocks.len()).min(tiles);
    let jobs: Vec<(usize, usize)> = (0..blocks.len()).flat_map(|b| (0..share).map(move |s| (b, s))).collect();
    let sums: Vec<Vec<f32>> = jobs
        .par_iter()
        .map_init(Default::default, |buffers: &mut [Vec<f32>; 3], &(block, s)| {
            let [scratch, spaced, packing] = buffers;
            let (first, count) = blocks[block];
            let mut sum = vec![0.0; count * ci * co];
            for tile in tiles * s / share..tiles * (s + 1) / share {
                let (b, y) = (tile / per_image, tile % per_image * rows);
                let lines = rows.min(g.output.height - y);
                add_tile(
                    k,
                    g,
                    from,
                    dy,
                    (b, y, lines),
                    (first, count),
                    &mut sum,
                    (&mut *scratch, &mut *spaced, &mut *packing),
                );
            }
            sum
        })
        .collect();
    let mut total = Vec::with_capacity(taps * ci * co);
    for block in sums.chunks(share) {
        let mut sum = block[0].clone();
        for part in &block[1..] {
            sum.iter_mut().zip(part).for_each(|(s, v)| *s += v);
        }
        total.extend(sum);
    }
    total
}

/// Adds one tile's share of the weights' gradient.
#[expect(clippy::too_many_arguments, reason = "one inner loop, cut out to be read")]
fn add_tile(
    k: Kernels,
    g: &Geometry,
    from: &Reader<'_>,
    dy: &[f32],
    (b, y, lines): (usize, usize, usize),
    (first, count): (usize, usize),
    sum: &mut [f32],
    (scratch, spaced, packing): (&mut Vec<f32>, &mut Vec<f32>, &mut Vec<f32>),
) {
    let (ci, co) = (g.input.channels, g.output.channels);
    let width = g.width();
    let patch = g.patch(y, lines);
    fill(k, from, g.input, b, &patch, scratch);
    let at = (b * g.output.height + y) * g.output.width;
    let dy = &dy[at * co..(at + lines * g.output.width) * co];
    let offset = |t: usize| (t / g.kernel[1] * width + t % g.kernel[1]) * ci;
    if g.stride == 1 {
        // One long line: the pixels between two lines of the scratch meet gradients of zero.
        let pixels = (lines - 1) * width + g.output.width;
        let dy = if width == g.output.width {
            dy
        } else {
            spaced.clear();
            spaced.resize(pixels * co, 0.0);
            for (to, from) in spaced.chunks_mut(width * co).zip(dy.chunks(g.output.width * co)) {
                to[..from.len()].copy_from_slice(from);
            }
            spaced
        };
        for t in first..first + count {
            let sum = &mut sum[(t - first) * ci * co..][..ci * co];
            k.outer(&scratch[offset(t)..], ci, ci, dy, co, pixels, sum, packing);
        }
        return;
    }
    for (line, dy) in dy.chunks(g.output.width * co).enumerate() {
        for t in first..first + count {
            let sum = &mut sum[(t - first) * ci * co..][..ci * co];
            let from = &scratch[offset(t) + line * g.stride * width * ci..];
            k.outer(from, g.stride * ci, ci, dy, co, g.output.width, sum, packing);
        }
    }
}

/// Where gradients of a view go: the root's values and gradient.
pub(super) struct Back<'a> {
    pub(super) from: Reader<'a>,
    pub(super) gradient: &'a mut [f32],
}

/// Takes `dy` (dense) back through the window and the view; gives the sums that the view's normalisation needs.
/// `packed`: rows `[tap][output channel]`, columns input channels.
pub(super) fn inputs(k: Kernels, g: &Geometry, packed: &Packed, dy: &[f32], back: Back<'_>) -> Vec<f64> {
    let (ci, co) = (g.input.channels, g.output.channels);
    let (kh, kw) = (g.kernel[0], g.kernel[1]);
    let width = g.input.width + kw - 1;
    let Back { from, gradient } = back;
    let line = g.input.width * from.row;
    let turned = Geometry {
        input: Shape { channels: co, ..g.input },
        output: Shape { channels: ci, ..g.input },
        stride: 1,
        ..*g
    };
    // Taps read the spread gradient from the far end.
    let offsets: Vec<usize> = (0..g.taps()).map(|t| ((kh - 1 - t / kw) * width + (kw - 1 - t % kw)) * co).collect();
    let parts: Vec<Vec<f32>> = items(gradient, g.input.height * line, line, turned.rows())
        .map_init(Default::default, |(scratch, dz): &mut (Vec<f32>, Vec<f32>), (b, y, gradient)| {
            let lines = gradient.len() / line;
            let pixels = lines * g.input.width;
            dz.resize(pixels * ci, 0.0);
            let window = turned.window(&offsets, width, co, lines);
            if g.is_pointwise() {
                k.multiply(&dy[y * co..(y + lines) * co], &window, packed, dz, ci, false);
            } else {
                spread(g, dy, b, y, lines, scratch);
                k.multiply(scratch, &window, packed, dz, ci, false);
            }
            absorb(k, &from, (b * g.input.height + y) * g.input.width, dz, gradient)
        })
        .collect();
    super::norm::total(&parts)
}

/// Adds `dz` (dense) of pixels from `at` on to `gradient`, whose first pixel is `at`.
pub(super) fn absorb(k: Kernels, from: &Reader<'_>, at: usize, dz: &[f32], gradient: &mut [f32]) -> Vec<f32> {
    let mut sums = vec![0.0; 2 * from.channels()];
    let x = &from.values[at * from.row + from.first..];
    k.absorb(x, from.row, dz, from.affine.parts(), &mut gradient[from.first..], &mut sums);
    sums
}

/// The gradient of image `b` that input rows `y..y + lines` see: spread by the stride, zero in between and outside.
fn spread(g: &Geometry, dy: &[f32], b: usize, y: usize, lines: usize, scratch: &mut Vec<f32>) {
    let co = g.output.channels;
    let (kh, kw) = (g.kernel[0], g.kernel[1]);
    let (rows, width) = (lines + kh - 1, g.input.width + kw - 1);
    scratch.clear();
    scratch.resize(rows * width * co, 0.0);
    // Output row at scratch row i, if there is one: (y + i + before - (kh - 1)) / stride.
    let place = |i: usize, before: usize, kernel: usize, extent: usize| {
        let at = (i + before).checked_sub(kernel - 1)?;
        (at.is_multiple_of(g.stride) && at / g.stride < extent).then_some(at / g.stride)
    };
    for (i, line) in scratch.chunks_exact_mut(width * co).enumerate() {
        let Some(oy) = place(y + i, g.before[0], kh, g.output.height) else { continue };
        let from = &dy[(b * g.output.height + oy) * g.output.width * co..][..g.output.width * co];
        for (x, to) in line.chunks_exact_mut(co).enumerate() {
            if let Some(ox) = place(x, g.before[1], kw, g.output.width) {
                to.copy_from_slice(&from[ox * co..(ox + 1) * co]);
            }
        }
    }
}

/// Depthwise, forward: kernel `[tap][channel]`.
pub(super) fn depthwise(
    k: Kernels,
    g: &Geometry,
    from: &Reader<'_>,
    kernel: &[f32],
    to: Target<'_>,
    observe: bool,
) -> Option<Moments> {
    let c = g.input.channels;
    let width = g.width();
    let (row, first) = (to.row, to.first);
    let line = g.output.width * row;
    let parts: Vec<Moments> = items(to.values, g.output.height * line, line, g.rows())
        .map_init(Vec::new, |scratch, (b, y, out)| {
            let lines = out.len() / line;
            let patch = g.patch(y, lines);
            fill(k, from, g.input, b, &patch, scratch);
            for (l, out) in out.chunks_mut(line).enumerate() {
                let out = &mut out[first..];
                out.chunks_mut(row).for_each(|p| p[..c].fill(0.0));
                for (t, weight) in kernel.chunks_exact(c).enumerate() {
                    let at = ((l * g.stride + t / g.kernel[1]) * width + t % g.kernel[1]) * c;
                    k.depthwise(&scratch[at..], g.stride * c, weight, out, row);
                }
            }
            if observe { Moments::of(k, &out[first..], row, c) } else { Moments::default() }
        })
        .collect();
    observe.then(|| parts.iter().fold(Moments::default(), Moments::join))
}

/// Depthwise, gradient of the kernel `[tap][channel]`.
pub(super) fn depthwise_weights(k: Kernels, g: &Geometry, from: &Reader<'_>, dy: &[f32]) -> Vec<f32> {
    let c = g.input.channels;
    let width = g.width();
    let rows = g.rows();
    let per_image = g.output.height.div_ceil(rows);
    let parts: Vec<Vec<f32>> = (0..g.batch * per_image)
        .into_par_iter()
        .map_init(Vec::new, |scratch, tile| {
            let (b, y) = (tile / per_image, tile % per_image * rows);
            let lines = rows.min(g.output.height - y);
            let patch = g.patch(y, lines);
            fill(k, from, g.input, b, &patch, scratch);
            let mut sums = vec![0.0; g.taps() * c];
            for l in 0..lines {
                let at = (b * g.output.height + y + l) * g.output.width;
                let dy = &dy[at * c..(at + g.output.width) * c];
                for (t, sums) in sums.chunks_exact_mut(c).enumerate() {
                    let at = ((l * g.stride + t / g.kernel[1]) * width + t % g.kernel[1]) * c;
                    k.correlate(&scratch[at..], g.stride * c, dy, c, sums);
                }
            }
            sums
        })
        .collect();
    super::norm::total(&parts).into_iter().map(|v| v as f32).collect()
}

/// Depthwise, back to the inputs.
pub(super) fn depthwise_inputs(k: Kernels, g: &Geometry, kernel: &[f32], dy: &[f32], back: Back<'_>) -> Vec<f64> {
    let c = g.input.channels;
    let (kh, kw) = (g.kernel[0], g.kernel[1]);
    let width = g.input.width + kw - 1;
    let Back { from, gradient } = back;
    let line = g.input.width * from.row;
    let parts: Vec<Vec<f32>> = items(gradient, g.input.height * line, line, g.rows())
        .map_init(Default::default, |(scratch, dz): &mut (Vec<f32>, Vec<f32>), (b, y, gradient)| {
            let lines = gradient.len() / line;
            spread(g, dy, b, y, lines, scratch);
            dz.clear();
            dz.resize(lines * g.input.width * c, 0.0);
            for (l, dz) in dz.chunks_exact_mut(g.input.width * c).enumerate() {
                for (t, weight) in kernel.chunks_exact(c).enumerate() {
                    let at = ((l + kh - 1 - t / kw) * width + kw - 1 - t % kw) * c;
                    k.depthwise(&scratch[at..], c, weight, dz, c);
                }
            }
            absorb(k, &from, (b * g.input.height + y) * g.input.width, dz, gradient)
        })
        .collect();
    super::norm::total(&parts)
}
