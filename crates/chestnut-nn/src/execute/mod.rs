//! Runs one step: cuts it into items for the workers and calls the kernels.
//!
//! How a step is cut depends on batch, size and threads; what a value is does not (each sum runs in one fixed order),
//! so results are the same bits however it is cut. Every item writes its own part of the output: its pixels, its
//! channels, or both.

mod planes;
mod pointwise;
mod window;
mod winograd;

use crate::memory::Span;
use crate::plan::{Algorithm, Convolution};
use crate::pool::Pool;
use crate::simd::Isa;
use chestnut_zoo::graph::Shape;

pub(crate) use planes::{affine, mean, pool};

/// Floats of inputs that a worker keeps at hand: 896 KiB, less than half of a 2 MiB L2 cache. Measured there: 384 KiB
/// is 3 to 7 % slower, since all weights pass by once for each such portion.
const CACHE_FLOATS: usize = 224 * 1024;

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
    match c.algorithm {
        Algorithm::Pointwise => pointwise::memory(c, input, output, batch, threads),
        Algorithm::Window | Algorithm::Image => window::memory(c, input, output, batch),
        Algorithm::Winograd => winograd::memory(c, input, output, batch, threads),
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
        Algorithm::Pointwise => pointwise::run(cx, c, input, shapes, output, residual),
        Algorithm::Window => window::run(cx, c, input, shapes, output, residual),
        Algorithm::Image => window::first_layer(cx, c, image, shapes, output, residual),
        Algorithm::Winograd => winograd::run(cx, c, input, shapes, output, residual),
    }
}

/// True if one image's weights weigh more than its inputs, so that they should be read once (see [`crate::cut`]).
fn weights_first(c: &Convolution, inputs: usize, threads: usize) -> bool {
    threads > 1 && c.widths.len() >= threads && c.weights.len() > inputs && inputs <= 2 * CACHE_FLOATS
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
