//! 3x3 with step 1 by Winograd: transform tiles, multiply per position, transform back (`kernels::winograd`).

use super::{Address, Context, Need, panels};
use crate::kernels::matmul::{self, Run};
use crate::kernels::winograd::{self as kernel, OUTPUT, Outputs, POSITIONS, Tiles};
use crate::memory::Span;
use crate::plan::{Convolution, blocks};
use crate::simd::LANES;
use chestnut_zoo::graph::Shape;
use std::ptr::null;

/// A Winograd layer whose weights are at most this many floats (3 MiB) is done tile chunk by tile chunk, each by one
/// worker in its own cache; larger weights are streamed once past all tiles, by all workers together.
const LOCAL_WEIGHTS: usize = 768 * 1024;
/// Floats of transformed inputs and products of one such chunk (1 MiB).
const LOCAL_FLOATS: usize = 256 * 1024;
/// Floats of one position's transformed inputs (800 KiB) when all workers share.
const SHARED_FLOATS: usize = 200 * 1024;

pub(super) fn memory(c: &Convolution, input: Shape, output: Shape, batch: usize, threads: usize) -> Need {
    let g = Geometry::new(c, input, output, batch, threads);
    let floats = POSITIONS * (g.depth + g.columns) * g.chunk;
    if g.local { Need { scratch: floats, shared: 0 } } else { Need { scratch: 0, shared: floats } }
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

pub(super) fn run(
    cx: &mut Context,
    c: &Convolution,
    input: Span,
    (si, so): (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    let g = Geometry::new(c, si, so, cx.batch, cx.pool.threads());
    let isa = cx.isa;
    let [border, _] = c.window.before(si.height, si.width);
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
        unsafe { kernel::transform_input(isa, &tiles_of(from, si, first + skip, count, to.write(), g.depth * chunk)) };
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
        unsafe { matmul::run(isa, c.precision, &run) };
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
        unsafe { kernel::transform_output(isa, &outputs) };
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
