//! 1x1 convolutions: a matrix product over pixels, in place or after packing (`kernels::pack`).

use super::{Address, CACHE_FLOATS, Context, Need, panels, weights_first};
use crate::Precision;
use crate::cut::{self, Item};
use crate::kernels::matmul::{self, Run};
use crate::kernels::pack::{self, Kind, Pack};
use crate::memory::Span;
use crate::plan::{Convolution, Source, blocks};
use crate::simd::{Isa, LANES};
use chestnut_zoo::graph::Shape;
use std::ptr::null;

/// Fewest and most pixels that are packed together.
const PACK_PIXELS: (usize, usize) = (24, 480);

/// Where the matrix kernel finds its inputs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the input itself.
    Input,
    /// Packed by each worker for its own items.
    Own,
    /// Packed by all workers for all, because the weights are what should be read once.
    Shared,
}

/// How a step is cut.
struct Cut {
    place: Place,
    items: Vec<Item>,
    /// Most pixels of an item.
    part: usize,
}

impl Cut {
    fn new(c: &Convolution, depth: usize, pixels: usize, threads: usize) -> Self {
        let in_place = matches!(c.source, Source::InPlace) && c.precision == Precision::F32;
        // Measured: for DenseNet's narrow convolutions one more meeting of the workers costs more than it saves.
        let narrow = matches!(c.source, Source::PreActivation { .. });
        if !narrow && weights_first(c, depth * pixels, threads) {
            let place = if in_place { Place::Input } else { Place::Shared };
            return Self { place, items: cut::by_panels(pixels, c.widths.len(), threads), part: pixels };
        }
        let part = pack_pixels(depth, pixels, threads);
        let place = if in_place { Place::Input } else { Place::Own };
        Self { place, items: cut::by_pixels(pixels, part, c.widths.len(), threads), part }
    }
}

pub(super) fn memory(c: &Convolution, input: Shape, output: Shape, batch: usize, threads: usize) -> Need {
    let depth = blocks(input.channels) * c.words();
    let cut = Cut::new(c, depth, batch * output.height * output.width, threads);
    match cut.place {
        Place::Input => Need { scratch: 0, shared: 0 },
        Place::Own => Need { scratch: cut.part * depth, shared: 0 },
        Place::Shared => Need { scratch: 0, shared: cut.part * depth },
    }
}

/// Pixels packed together, evened out over the whole.
fn pack_pixels(depth: usize, pixels: usize, threads: usize) -> usize {
    let most = (CACHE_FLOATS / depth).clamp(PACK_PIXELS.0, PACK_PIXELS.1);
    let parts = pixels.div_ceil(most).max(threads.min(pixels.div_ceil(PACK_PIXELS.0))).max(1);
    // Dynamic claiming balances best when every worker gets the same number of parts.
    let parts = if parts > 1 { parts.next_multiple_of(threads) } else { parts };
    pixels.div_ceil(parts).max(1)
}

pub(super) fn run(
    cx: &mut Context,
    c: &Convolution,
    input: Span,
    shapes: (Shape, Shape),
    output: Span,
    residual: Option<Span>,
) {
    let (si, so) = shapes;
    let isa = cx.isa;
    let pixels = cx.batch * so.height * so.width;
    let depth_blocks = blocks(si.channels);
    let words = c.words();
    let depth = depth_blocks * words;
    let in_plane = cx.batch * si.height * si.width * LANES;
    let plane = pixels * LANES;
    let panels = panels(&c.widths);
    let Cut { place, items, part } = Cut::new(c, depth, pixels, cx.pool.threads());
    let distance = if place == Place::Input { in_plane } else { part * words };
    let offsets: Vec<usize> = (0..depth_blocks).map(|b| b * distance).collect();
    assert!(input.len() >= depth_blocks * in_plane && output.len() >= blocks(so.channels) * plane);
    assert!(place != Place::Input || in_plane >= plane, "a 1x1 window reads the pixel that it writes");
    assert!(c.bias.len() == blocks(so.channels) * LANES);
    assert!(c.weights.len() == depth * blocks(so.channels) * LANES);
    assert!(residual.is_none_or(|r| r.len() >= output.len()));
    let (weights, bias) = (Address(c.weights.as_slice().as_ptr()), Address(c.bias.as_slice().as_ptr()));
    let (scratch, shared) = (cx.scratch, cx.shared);
    if place == Place::Shared {
        // Each block of channels is an item, and has a part of the shared memory of its own.
        cx.pool.run(depth_blocks, &|_, b| {
            pack_block(isa, c, input, shapes, b, (0, pixels), shared.part(b * pixels * words, pixels * words))
        });
    }
    cx.pool.run(items.len(), &|worker, item| {
        let Item { panels: range, first, count } = items[item].clone();
        let from = match place {
            Place::Input => input.part(first * LANES, input.len() - first * LANES),
            Place::Shared => shared.part(first * words, depth * part - first * words),
            Place::Own => {
                let own = scratch[worker].part(0, depth * part);
                for b in 0..depth_blocks {
                    pack_block(isa, c, input, shapes, b, (first, count), own.part(b * part * words, count * words));
                }
                own
            }
        };
        for (width, block) in &panels[range] {
            let at = block * plane + first * LANES;
            let run = Run {
                input: from.read(),
                pixel: words,
                offsets: &offsets,
                depth: words,
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
            unsafe { matmul::run(isa, c.precision, &run) };
        }
    });
}

/// Packs pixels `first..first + count` of block `b` of the input into `to`.
fn pack_block(
    isa: Isa,
    c: &Convolution,
    input: Span,
    (si, so): (Shape, Shape),
    b: usize,
    (first, count): (usize, usize),
    to: Span,
) {
    let in_plane = input.len() / blocks(si.channels);
    let (kind, border) = match &c.source {
        Source::PreActivation { scale, shift, pool } => {
            let scale = scale.as_slice()[b * LANES..][..LANES].as_ptr();
            let shift = shift.as_slice()[b * LANES..][..LANES].as_ptr();
            (Kind::PreActivation { scale, shift, pool: *pool }, [0, 0])
        }
        Source::Depthwise { kernel, rectify, window } => {
            let kernel = kernel.as_slice()[b * 9 * LANES..][..9 * LANES].as_ptr();
            (Kind::Depthwise { kernel, rectify: *rectify }, window.before(si.height, si.width))
        }
        Source::Stride(stride) => (Kind::Stride(*stride), [0, 0]),
        Source::InPlace => (Kind::Copy, [0, 0]),
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
        output: to.part(0, count * c.words()).write(),
        kind,
    };
    // SAFETY: `part` checked input and output; windows stay inside by the shapes; `to` is this item's own.
    unsafe { pack::pack(isa, c.precision, &job) };
}
