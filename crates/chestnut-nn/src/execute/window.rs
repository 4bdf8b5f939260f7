//! Any window: matrix products over its positions, on rows of a zero-bordered copy of the input.

use super::{Address, Context, Need, panels, weights_first};
use crate::Precision;
use crate::cut::{self, Item};
use crate::kernels::matmul::{self, Run};
use crate::kernels::pack::{self, Kind, Pack};
use crate::memory::Span;
use crate::plan::{Algorithm, Convolution, blocks};
use crate::pool::Pool;
use crate::simd::{Isa, LANES};
use chestnut_zoo::graph::{Shape, Window};
use std::ptr::null;

pub(super) fn memory(c: &Convolution, input: Shape, output: Shape, batch: usize) -> Need {
    let (rows, columns) = bordered(&c.window, input, output);
    let image = c.algorithm == Algorithm::Image;
    let channels = if image { input.channels } else { blocks(input.channels) * c.words() };
    let copy = image || c.precision != Precision::F32 || (rows, columns) != (input.height, input.width);
    Need { scratch: 0, shared: if copy { channels * batch * rows * columns } else { 0 } }
}

/// Rows and columns of the input with its zero border, as far as windows reach.
fn bordered(window: &Window, input: Shape, output: Shape) -> (usize, usize) {
    let [top, left] = window.before(input.height, input.width);
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

pub(super) fn run(
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
    let [top, left] = c.window.before(si.height, si.width);
    let batch = cx.batch;
    let words = c.words();
    let source = if c.precision == Precision::F32 && (rows, columns) == (si.height, si.width) {
        input
    } else {
        let copy = cx.shared.part(0, depth_blocks * batch * rows * columns * words);
        cx.pool.run(depth_blocks * batch, &|_, plane| {
            let from = input.part(plane * si.height * si.width * LANES, si.height * si.width * LANES);
            let to = copy.part(plane * rows * columns * words, rows * columns * words);
            match c.precision {
                // SAFETY: the input is not written during this step, and each item has a plane of its own.
                Precision::F32 => unsafe {
                    copy_with_border(from.slice(), si.width * LANES, to.slice_mut(), columns * LANES, top, left * LANES)
                },
                Precision::Bf16 => pack_with_border(isa, from, si, to, columns, (top, left)),
            }
        });
        copy
    };
    let image = rows * columns * words;
    let mut offsets = Vec::with_capacity(c.window.size[0] * c.window.size[1] * depth_blocks);
    for ky in 0..c.window.size[0] {
        for kx in 0..c.window.size[1] {
            offsets.extend((0..depth_blocks).map(|b| b * batch * image + (ky * columns + kx) * words));
        }
    }
    // A window one pixel wide runs over row ends, so that small images fill the tiles.
    let flat = c.window.size[1] == 1 && c.window.stride == 1;
    let geometry = Rows {
        offsets: &offsets,
        depth: words,
        pixel: c.window.stride * words,
        image,
        row: c.window.stride * columns * words,
        flat,
        inputs: depth_blocks * image,
    };
    run_rows(cx.pool, isa, c, source, &geometry, batch, so, output, residual);
}

pub(super) fn first_layer(
    cx: &mut Context,
    c: &Convolution,
    image: &[f32],
    (si, so): (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    let (rows, columns) = bordered(&c.window, si, so);
    let [top, left] = c.window.before(si.height, si.width);
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

/// As [`copy_with_border`], rounding one block of channels to bf16.
fn pack_with_border(isa: Isa, from: Span, si: Shape, to: Span, columns: usize, (top, left): (usize, usize)) {
    const WORDS: usize = LANES / 2;
    // SAFETY: each item has a plane of its own.
    unsafe { to.slice_mut() }.fill(0.0);
    for y in 0..si.height {
        let job = Pack {
            plane: from.part(0, si.height * si.width * LANES).read(),
            height: si.height,
            width: si.width,
            out_height: si.height,
            out_width: si.width,
            border: [0, 0],
            first: y * si.width,
            count: si.width,
            output: to.part(((top + y) * columns + left) * WORDS, si.width * WORDS).write(),
            kind: Kind::Copy,
        };
        // SAFETY: `part` checked both sides, and the row lies in the input.
        unsafe { pack::pack(isa, Precision::Bf16, &job) };
    }
}

/// How a window walks over its input, in words.
struct Rows<'a> {
    offsets: &'a [usize],
    depth: usize,
    pixel: usize,
    image: usize,
    row: usize,
    flat: bool,
    /// Words of one image over all channels.
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
    // Offsets go up and down where a window has several blocks of channels.
    let furthest = g.offsets.iter().max().copied().expect("a window has a position") + g.depth;
    let (weights, bias) = (Address(c.weights.as_slice().as_ptr()), Address(c.bias.as_slice().as_ptr()));
    pool.run(batch * items.len(), &|_, item| {
        let image = item / items.len();
        let Item { panels: range, first, count } = items[item % items.len()].clone();
        for (width, block) in &panels[range] {
            let (lines, pixels) = if g.flat { (1, count * so.width) } else { (count, so.width) };
            for y in first..first + lines {
                let reach = (pixels - 1) * g.pixel + furthest;
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
                // SAFETY: `part` checked input, as far as the furthest offset reaches, and output; items differ in image,
                // rows or panels.
                unsafe { matmul::run(isa, c.precision, &run) };
            }
        }
    });
}
