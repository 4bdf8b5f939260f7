//! Pooling, batch normalisation that stands alone, and means: plane by plane, a plane being one block of channels of one
//! image.

use super::Context;
use crate::kernels::elementwise::{self, Affine, PoolJob};
use crate::memory::{Aligned, Span};
use crate::plan::blocks;
use crate::simd::LANES;
use chestnut_zoo::graph::{Shape, Window};
use std::ptr::null;

/// Maximum or mean over a window, plus `addend`.
pub(crate) fn pool(
    cx: &mut Context,
    window: &Window,
    maximum: bool,
    input: Span,
    (si, so): (Shape, Shape),
    output: Span,
    addend: Option<Span>,
) {
    let (inside, outside) = (si.height * si.width * LANES, so.height * so.width * LANES);
    let border = window.before(si.height, si.width);
    let isa = cx.isa;
    cx.pool.run(blocks(so.channels) * cx.batch, &|_, plane| {
        let job = PoolJob {
            input: input.part(plane * inside, inside).read(),
            height: si.height,
            width: si.width,
            output: output.part(plane * outside, outside).write(),
            out_height: so.height,
            out_width: so.width,
            size: window.size,
            stride: window.stride,
            border,
            maximum,
            addend: addend.map_or(null(), |a| a.part(plane * outside, outside).read()),
        };
        // SAFETY: `part` checked both sides; each item has a plane of its own.
        unsafe { elementwise::pool(isa, &job) };
    });
}

/// input * scale + shift + factor * addend, then ReLU if asked; scale and shift hold one vector per block of channels.
pub(crate) fn affine(
    cx: &mut Context,
    [scale, shift]: [Option<&Aligned>; 2],
    relu: bool,
    input: Span,
    shape: Shape,
    output: Span,
    addend: Option<(Span, f32)>,
) {
    let pixels = shape.height * shape.width;
    let (isa, batch) = (cx.isa, cx.batch);
    cx.pool.run(blocks(shape.channels) * batch, &|_, plane| {
        let (at, len, block) = (plane * pixels * LANES, pixels * LANES, plane / batch);
        let vector = |v: Option<&Aligned>| v.map_or(null(), |v| v.as_slice()[block * LANES..][..LANES].as_ptr());
        let job = Affine {
            input: input.part(at, len).read(),
            output: output.part(at, len).write(),
            pixels,
            scale: vector(scale),
            shift: vector(shift),
            addend: addend.map_or(null(), |(a, _)| a.part(at, len).read()),
            factor: addend.map_or(1.0, |(_, factor)| factor),
            relu,
        };
        // SAFETY: as above.
        unsafe { elementwise::affine(isa, &job) };
    });
}

/// Mean over all pixels.
pub(crate) fn mean(cx: &Context, input: Span, shape: Shape, output: Span) {
    let pixels = shape.height * shape.width;
    for plane in 0..blocks(shape.channels) * cx.batch {
        let from = input.part(plane * pixels * LANES, pixels * LANES).read();
        let to = output.part(plane * LANES, LANES).write();
        // SAFETY: `part` checked both sides; only this thread runs.
        unsafe { elementwise::mean(cx.isa, from, pixels, to) };
    }
}
