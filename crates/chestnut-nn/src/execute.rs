//! Runs one step: cuts it into items for the workers and calls the kernels.
//!
//! How a step is cut depends on batch, size and threads; what a value is does not (each sum runs in one fixed order),
//! so results are the same bits however it is cut. Every item writes its own part of the output: its pixels, its
//! channels, or both.

use crate::cut::{self, Item};
use crate::kernels::matmul::{self, Run};
use crate::kernels::pack::{self, Kind, Pack};
use crate::kernels::winograd::{self, OUTPUT, Outputs, POSITIONS, Tiles};
use crate::memory::Span;
use crate::plan::{Algorithm, Convolution, Source, blocks};
use crate::pool::Pool;
use crate::simd::{Isa, LANES};
use chestnut_zoo::graph::{Shape, Window};
use std::ptr::null;

/// Floats of packed inputs that a worker keeps at hand: 384 KiB, a part of a small L2 cache.
const PACK_FLOATS: usize = 96 * 1024;
/// Fewest and most pixels that are packed together.
const PACK_PIXELS: (usize, usize) = (24, 480);
/// A Winograd layer whose weights are at most this many floats (3 MiB) is done tile chunk by tile chunk, each by one
/// worker in its own cache; larger weights are streamed once past all tiles, by all workers together.
const LOCAL_WEIGHTS: usize = 768 * 1024;
/// Floats of transformed inputs and products of one such chunk (1 MiB).
const LOCAL_FLOATS: usize = 256 * 1024;
/// Floats of one position's transformed inputs (800 KiB) when all workers share.
const SHARED_FLOATS: usize = 200 * 1024;

/// Everything a step needs beside its own description.
pub(crate) struct Context<'a> {
    pub(crate) isa: Isa,
    pub(crate) batch: usize,
    pub(crate) pool: &'a mut Pool,
    /// Each worker's own memory.
    pub(crate) scratch: &'a [Span],
    /// Shared by the workers during this step.
    pub(crate) shared: Span,
}

/// Memory that a convolution needs beside its input and output, in floats.
pub(crate) struct Need {
    pub(crate) scratch: usize,
    pub(crate) shared: usize,
}

/// See [`Need`].
pub(crate) fn memory(c: &Convolution, input: Shape, output: Shape, batch: usize, threads: usize) -> Need {
    let depth = blocks(input.channels) * LANES;
    match c.algorithm {
        Algorithm::Pointwise => {
            let in_place = matches!(c.source, Source::InPlace);
            let pixels = most_pixels(c, depth, batch * output.height * output.width, threads);
            Need { scratch: if in_place { 0 } else { pixels * depth }, shared: 0 }
        }
        Algorithm::Window | Algorithm::Image => {
            let (rows, columns) = bordered(&c.window, input, output);
            let channels = if c.algorithm == Algorithm::Image { input.channels } else { depth };
            let copy = c.algorithm == Algorithm::Image || (rows, columns) != (input.height, input.width);
            Need { scratch: 0, shared: if copy { channels * batch * rows * columns } else { 0 } }
        }
        Algorithm::Winograd => {
            let g = Geometry::new(c, input, output, batch, threads);
            let floats = POSITIONS * (g.depth + g.columns) * g.chunk;
            if g.local { Need { scratch: floats, shared: 0 } } else { Need { scratch: 0, shared: floats } }
        }
    }
}

/// Runs a convolution. `image` is the network's input, used by the first layer.
pub(crate) fn convolution(
    cx: &mut Context,
    c: &Convolution,
    image: &[f32],
    input: Span,
    shapes: (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    match c.algorithm {
        Algorithm::Pointwise => pointwise(cx, c, input, shapes, output, residual),
        Algorithm::Window => window(cx, c, input, shapes, output, residual),
        Algorithm::Image => first_layer(cx, c, image, shapes, output, residual),
        Algorithm::Winograd => winograd_convolution(cx, c, input, shapes, output, residual),
    }
}

/// True if one image's weights weigh more than its inputs, so that they should be read once (see [`cut`]).
fn weights_first(c: &Convolution, inputs: usize, threads: usize) -> bool {
    threads > 1 && c.widths.len() >= threads && c.weights.len() > inputs && inputs <= 2 * PACK_FLOATS
}

/// Most pixels of an item of a pointwise convolution.
fn most_pixels(c: &Convolution, depth: usize, pixels: usize, threads: usize) -> usize {
    if weights_first(c, depth * pixels, threads) { pixels } else { pack_pixels(depth, pixels, threads) }
}

/// Pixels packed together, evened out over the whole.
fn pack_pixels(depth: usize, pixels: usize, threads: usize) -> usize {
    let most = (PACK_FLOATS / depth).clamp(PACK_PIXELS.0, PACK_PIXELS.1);
    let parts = pixels.div_ceil(most).max(threads.min(pixels.div_ceil(PACK_PIXELS.0))).max(1);
    // Dynamic claiming balances best when every worker gets the same number of parts.
    let parts = if parts > 1 { parts.next_multiple_of(threads) } else { parts };
    pixels.div_ceil(parts).max(1)
}

/// The panels of a convolution: width, first block of output channels, start of its weights per input row.
fn panels(widths: &[usize]) -> Vec<(usize, usize)> {
    let mut first = 0;
    widths
        .iter()
        .map(|&width| {
            first += width;
            (width, first - width)
        })
        .collect()
}

fn pointwise(
    cx: &mut Context,
    c: &Convolution,
    input: Span,
    (si, so): (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    let isa = cx.isa;
    let pixels = cx.batch * so.height * so.width;
    let depth_blocks = blocks(si.channels);
    let depth = depth_blocks * LANES;
    let in_plane = cx.batch * si.height * si.width * LANES;
    let plane = pixels * LANES;
    let panels = panels(&c.widths);
    let threads = cx.pool.threads();
    let part = most_pixels(c, depth, pixels, threads);
    let items = if weights_first(c, depth * pixels, threads) {
        cut::by_panels(pixels, panels.len(), threads)
    } else {
        cut::by_pixels(pixels, part, panels.len(), threads)
    };
    let in_place = matches!(c.source, Source::InPlace);
    let distance = if in_place { in_plane } else { part * LANES };
    let offsets: Vec<usize> = (0..depth_blocks).map(|b| b * distance).collect();
    assert!(input.len() >= depth_blocks * in_plane && output.len() >= blocks(so.channels) * plane);
    assert!(!in_place || in_plane >= plane, "a 1x1 window reads the pixel that it writes");
    assert!(c.bias.len() == blocks(so.channels) * LANES);
    assert!(c.weights.len() == depth * blocks(so.channels) * LANES);
    assert!(residual.is_none_or(|r| r.len() >= output.len()));
    let weights = c.weights.as_slice().as_ptr();
    let bias = c.bias.as_slice().as_ptr();
    let (weights, bias) = (Address(weights), Address(bias));
    let scratch = cx.scratch;
    cx.pool.run(items.len(), &|worker, item| {
        let Item { panels: range, first, count } = items[item].clone();
        let from = if in_place {
            input.part(first * LANES, input.len() - first * LANES).read()
        } else {
            let own = scratch[worker].part(0, depth * part);
            for b in 0..depth_blocks {
                let kind = match &c.source {
                    Source::PreActivation { scale, shift, pool } => Kind::PreActivation {
                        scale: scale.as_slice()[b * LANES..][..LANES].as_ptr(),
                        shift: shift.as_slice()[b * LANES..][..LANES].as_ptr(),
                        pool: *pool,
                    },
                    Source::Depthwise { kernel, rectify, .. } => Kind::Depthwise {
                        kernel: kernel.as_slice()[b * 9 * LANES..][..9 * LANES].as_ptr(),
                        rectify: *rectify,
                    },
                    Source::Stride(stride) => Kind::Stride(*stride),
                    Source::InPlace => unreachable!("read in place"),
                };
                let border = match &c.source {
                    Source::Depthwise { window, .. } => before(window, si),
                    _ => [0, 0],
                };
                let job = Pack {
                    plane: input.part(b * in_plane, in_plane).read(),
                    height: si.height,
                    width: si.width,
                    out_height: so.height,
                    out_width: so.width,
                    border,
                    first,
                    count,
                    output: own.part(b * part * LANES, count * LANES).write(),
                    kind,
                };
                // SAFETY: `part` checked input and output; windows stay inside by the shapes; the output is this worker's own.
                unsafe { pack::pack(isa, &job) };
            }
            own.read()
        };
        for (width, block) in &panels[range] {
            let at = block * plane + first * LANES;
            let run = Run {
                input: from,
                pixel: LANES,
                offsets: &offsets,
                depth: LANES,
                weights: weights.at(block * LANES * depth),
                width: *width,
                pixels: count,
                output: output.part(at, (width - 1) * plane + count * LANES).write(),
                output_block: plane,
                bias: bias.at(block * LANES),
                residual: residual.map_or(null(), |r| r.part(at, (width - 1) * plane + count * LANES).read()),
                residual_block: plane,
                relu: c.relu,
            };
            // SAFETY: inputs, weights and output were checked above; items differ in pixels or panels.
            unsafe { matmul::run(isa, &run) };
        }
    });
}

/// Zeros before the first row and column.
fn before(window: &Window, input: Shape) -> [usize; 2] {
    let side = |length, size| window.padding.resolve(length, size, window.stride).map_or(0, |r| r.0);
    [side(input.height, window.size[0]), side(input.width, window.size[1])]
}

/// Rows and columns of the input with its zero border, as far as windows reach.
fn bordered(window: &Window, input: Shape, output: Shape) -> (usize, usize) {
    let [top, left] = before(window, input);
    let reach = |length, size| (length - 1) * window.stride + size;
    let (rows, columns) = (reach(output.height, window.size[0]), reach(output.width, window.size[1]));
    // Without a border the input is read in place, whatever lies beyond the last window.
    let row_border = top > 0 || rows > input.height;
    let column_border = left > 0 || columns > input.width;
    (
        if row_border { rows.max(top + input.height) } else { input.height },
        if column_border { columns.max(left + input.width) } else { input.width },
    )
}

fn window(
    cx: &mut Context,
    c: &Convolution,
    input: Span,
    (si, so): (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    let isa = cx.isa;
    let depth_blocks = blocks(si.channels);
    let (rows, columns) = bordered(&c.window, si, so);
    let [top, left] = before(&c.window, si);
    let batch = cx.batch;
    let source = if (rows, columns) == (si.height, si.width) {
        input
    } else {
        let copy = cx.shared.part(0, depth_blocks * batch * rows * columns * LANES);
        cx.pool.run(depth_blocks * batch, &|_, plane| {
            let from = input.part(plane * si.height * si.width * LANES, si.height * si.width * LANES);
            let to = copy.part(plane * rows * columns * LANES, rows * columns * LANES);
            // SAFETY: the input is not written during this step, and each item has a plane of its own.
            unsafe {
                copy_with_border(from.slice(), si.width * LANES, to.slice_mut(), columns * LANES, top, left * LANES)
            };
        });
        copy
    };
    let image = rows * columns * LANES;
    let mut offsets = Vec::with_capacity(c.window.size[0] * c.window.size[1] * depth_blocks);
    for ky in 0..c.window.size[0] {
        for kx in 0..c.window.size[1] {
            offsets.extend((0..depth_blocks).map(|b| b * batch * image + (ky * columns + kx) * LANES));
        }
    }
    // A window one pixel wide runs over row ends, so that small images fill the tiles.
    let flat = c.window.size[1] == 1 && c.window.stride == 1;
    let geometry = Rows {
        offsets: &offsets,
        depth: LANES,
        pixel: c.window.stride * LANES,
        image,
        row: c.window.stride * columns * LANES,
        flat,
        inputs: depth_blocks * image,
    };
    run_rows(cx.pool, isa, c, source, &geometry, batch, so, output, residual);
}

fn first_layer(
    cx: &mut Context,
    c: &Convolution,
    image: &[f32],
    (si, so): (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    let (rows, columns) = bordered(&c.window, si, so);
    let [top, left] = before(&c.window, si);
    let channels = si.channels;
    let copy = cx.shared.part(0, cx.batch * rows * columns * channels);
    cx.pool.run(cx.batch, &|_, i| {
        let from = &image[i * si.height * si.width * channels..][..si.height * si.width * channels];
        let to = copy.part(i * rows * columns * channels, rows * columns * channels);
        // SAFETY: each item has an image of its own.
        unsafe {
            copy_with_border(from, si.width * channels, to.slice_mut(), columns * channels, top, left * channels)
        };
    });
    // Pixels are unblocked, so one row of the window is one stretch of memory.
    let offsets: Vec<usize> = (0..c.window.size[0]).map(|ky| ky * columns * channels).collect();
    let pixel = c.window.stride * channels;
    let geometry = Rows {
        offsets: &offsets,
        depth: c.window.size[1] * channels,
        pixel,
        image: rows * columns * channels,
        row: pixel * columns,
        flat: false,
        inputs: rows * columns * channels,
    };
    run_rows(cx.pool, cx.isa, c, copy, &geometry, cx.batch, so, output, residual);
}

/// Copies rows into the middle of a zero-bordered image; lengths in floats.
fn copy_with_border(from: &[f32], from_row: usize, to: &mut [f32], to_row: usize, top: usize, left: usize) {
    for (y, line) in to.chunks_exact_mut(to_row).enumerate() {
        let row = y.checked_sub(top).and_then(|y| from.get(y * from_row..(y + 1) * from_row));
        match row {
            Some(row) => {
                line[..left].fill(0.0);
                line[left..left + from_row].copy_from_slice(row);
                line[left + from_row..].fill(0.0);
            }
            None => line.fill(0.0),
        }
    }
}

/// How a window walks over its input, in floats.
struct Rows<'a> {
    offsets: &'a [usize],
    depth: usize,
    pixel: usize,
    image: usize,
    row: usize,
    flat: bool,
    /// Floats of one image over all channels.
    inputs: usize,
}

#[allow(clippy::too_many_arguments, reason = "the parts of one step")]
fn run_rows(
    pool: &mut Pool,
    isa: Isa,
    c: &Convolution,
    input: Span,
    g: &Rows,
    batch: usize,
    so: Shape,
    output: Span,
    residual: Option<Span>,
) {
    let plane = batch * so.height * so.width * LANES;
    let depth = g.offsets.len() * g.depth;
    let panels = panels(&c.widths);
    let items = if batch == 1 && weights_first(c, g.inputs, pool.threads()) {
        cut::by_panels(so.height, panels.len(), pool.threads())
    } else {
        // Enough rows per item that a panel of weights is used for a few hundred pixels.
        let rows = 256_usize.div_ceil(so.width).min(so.height.div_ceil(if batch == 1 { pool.threads() } else { 1 }));
        cut::by_pixels(so.height, rows.max(1), panels.len(), pool.threads().div_ceil(batch))
    };
    assert!(c.weights.len() == depth * blocks(so.channels) * LANES && output.len() >= blocks(so.channels) * plane);
    assert!(c.bias.len() == blocks(so.channels) * LANES);
    assert!(residual.is_none_or(|r| r.len() >= output.len()));
    let (weights, bias) = (Address(c.weights.as_slice().as_ptr()), Address(c.bias.as_slice().as_ptr()));
    pool.run(batch * items.len(), &|_, item| {
        let image = item / items.len();
        let Item { panels: range, first, count } = items[item % items.len()].clone();
        for (width, block) in &panels[range] {
            let (lines, pixels) = if g.flat { (1, count * so.width) } else { (count, so.width) };
            for y in first..first + lines {
                let reach = (pixels - 1) * g.pixel + g.offsets[g.offsets.len() - 1] + g.depth;
                let at = block * plane + (image * so.height + y) * so.width * LANES;
                let extent = (width - 1) * plane + pixels * LANES;
                let run = Run {
                    input: input.part(image * g.image + y * g.row, reach).read(),
                    pixel: g.pixel,
                    offsets: g.offsets,
                    depth: g.depth,
                    weights: weights.at(block * LANES * depth),
                    width: *width,
                    pixels,
                    output: output.part(at, extent).write(),
                    output_block: plane,
                    bias: bias.at(block * LANES),
                    residual: residual.map_or(null(), |r| r.part(at, extent).read()),
                    residual_block: plane,
                    relu: c.relu,
                };
                // SAFETY: `part` checked input and output (offsets grow, so the last one reaches furthest); items differ
                // in image, rows or panels.
                unsafe { matmul::run(isa, &run) };
            }
        }
    });
}

/// How a Winograd layer is cut.
struct Geometry {
    tile_rows: usize,
    tile_columns: usize,
    tiles: usize,
    depth: usize,
    columns: usize,
    local: bool,
    /// Tiles that are transformed together.
    chunk: usize,
}

impl Geometry {
    fn new(c: &Convolution, input: Shape, output: Shape, batch: usize, threads: usize) -> Self {
        let (tile_rows, tile_columns) = (output.height.div_ceil(OUTPUT), output.width.div_ceil(OUTPUT));
        let tiles = batch * tile_rows * tile_columns;
        let (depth, columns) = (blocks(input.channels) * LANES, blocks(output.channels) * LANES);
        let local = c.weights.len() <= LOCAL_WEIGHTS;
        let most = if local {
            (LOCAL_FLOATS / (POSITIONS * (depth + columns))).max(6)
        } else {
            (SHARED_FLOATS / depth).max(24)
        };
        let parts = tiles.div_ceil(most);
        let parts = if local { parts.max(threads.min(tiles)).next_multiple_of(threads) } else { parts };
        Self { tile_rows, tile_columns, tiles, depth, columns, local, chunk: tiles.div_ceil(parts).max(1) }
    }
}

fn winograd_convolution(
    cx: &mut Context,
    c: &Convolution,
    input: Span,
    (si, so): (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    let g = Geometry::new(c, si, so, cx.batch, cx.pool.threads());
    let isa = cx.isa;
    let [border, _] = before(&c.window, si);
    let (in_plane, plane) = (cx.batch * si.height * si.width * LANES, cx.batch * so.height * so.width * LANES);
    let (depth_blocks, column_blocks) = (g.depth / LANES, g.columns / LANES);
    let panels = panels(&c.widths);
    assert!(c.weights.len() == POSITIONS * g.depth * g.columns && c.bias.len() == g.columns);
    let (weights, bias) = (Address(c.weights.as_slice().as_ptr()), Address(c.bias.as_slice().as_ptr()));
    let tiles_of =
        |plane: *const f32, shape: Shape, first: usize, count: usize, transformed: *mut f32, position: usize| Tiles {
            plane,
            height: shape.height,
            width: shape.width,
            tile_rows: g.tile_rows,
            tile_columns: g.tile_columns,
            border,
            first,
            count,
            transformed,
            position,
        };
    // Transformed inputs `[position][block][tile][16]`, products `[position][block][tile][16]` behind them.
    let chunk = g.chunk;
    let products = POSITIONS * g.depth * chunk;
    let transform_in = |memory: Span, block: usize, first: usize, skip: usize, count: usize| {
        let to = memory.part((block * chunk + skip) * LANES, (POSITIONS - 1) * g.depth * chunk + count * LANES);
        let from = input.part(block * in_plane, in_plane).read();
        // SAFETY: `part` checked both sides; blocks and tiles differ between items.
        unsafe {
            winograd::transform_input(isa, &tiles_of(from, si, first + skip, count, to.write(), g.depth * chunk))
        };
    };
    let multiply = |memory: Span, position: usize, (width, block): (usize, usize), count: usize, offsets: &[usize]| {
        let start = products + (position * column_blocks + block) * chunk * LANES;
        let run = Run {
            input: memory.part(position * g.depth * chunk, g.depth * chunk).read(),
            pixel: LANES,
            offsets,
            depth: LANES,
            weights: weights.at((position * g.columns + block * LANES) * g.depth),
            width,
            pixels: count,
            output: memory.part(start, ((width - 1) * chunk + count) * LANES).write(),
            output_block: chunk * LANES,
            bias: null(),
            residual: null(),
            residual_block: 0,
            relu: false,
        };
        // SAFETY: `part` checked input and output, which do not overlap; positions and panels differ between items.
        unsafe { matmul::run(isa, &run) };
    };
    let transform_out = |memory: Span, block: usize, first: usize, skip: usize, count: usize| {
        let from =
            memory.part(products + (block * chunk + skip) * LANES, (POSITIONS - 1) * g.columns * chunk + count * LANES);
        let tiles = tiles_of(null(), so, first + skip, count, from.write(), g.columns * chunk);
        let outputs = Outputs {
            tiles,
            plane: output.part(block * plane, plane).write(),
            bias: bias.at(block * LANES),
            residual: residual.map_or(null(), |r| r.part(block * plane, plane).read()),
            relu: c.relu,
        };
        // SAFETY: `part` checked both sides; blocks and tiles differ between items.
        unsafe { winograd::transform_output(isa, &outputs) };
    };
    let offsets: Vec<usize> = (0..depth_blocks).map(|b| b * chunk * LANES).collect();
    let floats = POSITIONS * (g.depth + g.columns) * chunk;

    if g.local {
        let scratch = cx.scratch;
        cx.pool.run(g.tiles.div_ceil(chunk), &|worker, item| {
            let first = item * chunk;
            let count = chunk.min(g.tiles - first);
            let memory = scratch[worker].part(0, floats);
            (0..depth_blocks).for_each(|b| transform_in(memory, b, first, 0, count));
            for position in 0..POSITIONS {
                panels.iter().for_each(|&panel| multiply(memory, position, panel, count, &offsets));
            }
            (0..column_blocks).for_each(|b| transform_out(memory, b, first, 0, count));
        });
        return;
    }
    let memory = cx.shared.part(0, floats);
    for first in (0..g.tiles).step_by(chunk) {
        let count = chunk.min(g.tiles - first);
        cx.pool.run(depth_blocks, &|_, b| transform_in(memory, b, first, 0, count));
        cx.pool.run(POSITIONS, &|_, position| {
            panels.iter().for_each(|&panel| multiply(memory, position, panel, count, &offsets))
        });
        cx.pool.run(column_blocks, &|_, b| transform_out(memory, b, first, 0, count));
    }
}

/// A pointer to read-only weights that workers share.
#[derive(Clone, Copy)]
struct Address(*const f32);

// SAFETY: the weights are never written while a plan runs.
unsafe impl Send for Address {}
unsafe impl Sync for Address {}

impl Address {
    /// `offset` floats further; the callers assert the length of the weights before.
    fn at(self, offset: usize) -> *const f32 {
        self.0.wrapping_add(offset)
    }
}
