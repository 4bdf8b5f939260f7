//! From a graph and its weights to steps: what is folded, fused and packed.
//!
//! | in the graph | becomes |
//! |---|---|
//! | Conv, BatchNorm, ReLU | one convolution; the normalisation is folded into its weights |
//! | Conv, Add, ReLU | the residual is added while the sums are in registers |
//! | BatchNorm, ReLU, 1x1 Conv (DenseNet) | applied while the convolution packs its inputs |
//! | ..., AvgPool 2x2 (DenseNet's transitions) | pooled before the 1x1 convolution: the same sums, a quarter of the work |
//! | ReLU, Depthwise, 1x1 Conv (Xception) | computed while the 1x1 convolution packs its inputs |
//! | MaxPool, Add | one pass |
//! | Concat | nothing: its inputs are written where it lies |
//!
//! Kernels are chosen by [`choose`], a table that one can read.

mod compiler;
mod packing;

use crate::Precision;
use crate::memory::Aligned;
use crate::simd::LANES;
use chestnut_zoo::Activation;
use chestnut_zoo::graph::{NodeId, Padding, Window};
use thiserror::Error;

pub(crate) use compiler::compile;

/// Why a graph cannot be compiled.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The weights do not fit the graph.
    #[error(transparent)]
    Weights(#[from] chestnut_zoo::weights::Misfit),
    /// The engine's layout needs channels in sixteens where tensors are concatenated.
    #[error("layer {layer} concatenates {channels} channels; the engine needs multiples of {LANES}")]
    OddConcat {
        /// The Concat node.
        layer: String,
        /// Channels of the input that does not fit.
        channels: usize,
    },
    /// This processor has no instructions for the precision that was asked for.
    #[error(
        "precision bf16 needs AVX512-BF16, which this processor, or the instruction set chosen on it, lacks; use f32"
    )]
    Precision,
    /// A pattern that none of the known networks has.
    #[error("layer {layer}: {what} is not supported by the engine")]
    Unsupported {
        /// The node.
        layer: String,
        /// What it would need.
        what: &'static str,
    },
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// 1x1: a matrix product over pixels.
    Pointwise,
    /// Any window: matrix products over the window's positions, rows of a zero-bordered copy.
    Window,
    /// The first layer: a window over the unblocked image.
    Image,
    /// 3x3 with step 1: [`winograd`](crate::kernels::winograd).
    Winograd,
}

/// Which algorithm serves which convolution. With bf16, the first two multiply pairs; Winograd stays in f32 (its
/// transformed values would lose too much, and a quarter of the multiplications beats half of them), and so does the image.
///
/// Measured on AVX-512 (docs/performance.md): Winograd wins from 16 input channels on, whatever the image's size.
fn choose(window: &Window, inputs: usize, from_image: bool, allow_winograd: bool) -> Algorithm {
    match window {
        _ if from_image => Algorithm::Image,
        // A 1x1 window with a border would see pixels that are not there; the general window pads them.
        Window { size: [1, 1], padding: Padding::Valid | Padding::Same, .. } => Algorithm::Pointwise,
        Window { size: [3, 3], stride: 1, padding }
            if allow_winograd && inputs >= LANES && *padding != Padding::Each(2) =>
        {
            Algorithm::Winograd
        }
        _ => Algorithm::Window,
    }
}

/// What happens to the inputs of a pointwise convolution first (see `kernels::pack`).
pub(crate) enum Source {
    InPlace,
    PreActivation { scale: Aligned, shift: Aligned, pool: bool },
    Depthwise { kernel: Aligned, window: Window, rectify: bool },
    Stride(usize),
}

/// A convolution with everything fused into it.
pub(crate) struct Convolution {
    pub(crate) input: NodeId,
    pub(crate) residual: Option<NodeId>,
    pub(crate) window: Window,
    pub(crate) algorithm: Algorithm,
    /// Of inputs and weights while they are multiplied.
    pub(crate) precision: Precision,
    pub(crate) source: Source,
    /// Vectors of output channels per panel.
    pub(crate) widths: Vec<usize>,
    /// Packed panels, in words of 32 bits; for Winograd 36 times.
    pub(crate) weights: Aligned,
    pub(crate) bias: Aligned,
    pub(crate) relu: bool,
}

impl Convolution {
    /// Words that a block of [`LANES`] channels of one pixel takes where it is multiplied (see `kernels::element`).
    pub(crate) fn words(&self) -> usize {
        LANES / self.precision.values_per_word()
    }
}

/// One step of a plan; writes the value of node `output`.
pub(crate) struct Step {
    /// Name of the layer that the step is named after.
    pub(crate) name: String,
    pub(crate) output: NodeId,
    pub(crate) work: Work,
}

/// What a step does.
pub(crate) enum Work {
    Convolution(Box<Convolution>),
    Pool {
        input: NodeId,
        window: Window,
        maximum: bool,
        addend: Option<NodeId>,
    },
    /// input * scale + shift + factor * addend, then ReLU if asked.
    Affine {
        input: NodeId,
        scale: Option<Aligned>,
        shift: Option<Aligned>,
        addend: Option<(NodeId, f32)>,
        relu: bool,
    },
    Mean {
        input: NodeId,
    },
    Dense {
        input: NodeId,
        kernel: Vec<f32>,
        bias: Vec<f32>,
        activation: Activation,
    },
}

impl Step {
    /// Nodes whose values the step reads.
    pub(crate) fn inputs(&self) -> Vec<NodeId> {
        match &self.work {
            Work::Convolution(c) => std::iter::once(c.input).chain(c.residual).collect(),
            Work::Pool { input, addend, .. } => std::iter::once(*input).chain(*addend).collect(),
            Work::Affine { input, addend, .. } => std::iter::once(*input).chain(addend.map(|a| a.0)).collect(),
            Work::Mean { input } | Work::Dense { input, .. } => vec![*input],
        }
    }

    /// Floats of weights, as packed.
    pub(crate) fn weights(&self) -> usize {
        match &self.work {
            Work::Convolution(c) => {
                let source = match &c.source {
                    Source::PreActivation { scale, shift, .. } => scale.len() + shift.len(),
                    Source::Depthwise { kernel, .. } => kernel.len(),
                    Source::InPlace | Source::Stride(_) => 0,
                };
                c.weights.len() + c.bias.len() + source
            }
            Work::Affine { scale, shift, .. } => [scale, shift].into_iter().flatten().map(Aligned::len).sum(),
            Work::Dense { kernel, bias, .. } => kernel.len() + bias.len(),
            Work::Pool { .. } | Work::Mean { .. } => 0,
        }
    }

    /// One word for the table of `chestnut bench --layers`.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.work {
            Work::Convolution(c) => match (c.algorithm, &c.source) {
                (Algorithm::Pointwise, Source::PreActivation { pool: true, .. }) => "bn+relu+pool+1x1",
                (Algorithm::Pointwise, Source::PreActivation { .. }) => "bn+relu+1x1",
                (Algorithm::Pointwise, Source::Depthwise { .. }) => "depthwise+1x1",
                (Algorithm::Pointwise, _) => "1x1",
                (Algorithm::Window, _) => "window",
                (Algorithm::Image, _) => "image",
                (Algorithm::Winograd, _) => "winograd",
            },
            Work::Pool { .. } => "pool",
            Work::Affine { .. } => "affine",
            Work::Mean { .. } => "mean",
            Work::Dense { .. } => "dense",
        }
    }
}

/// A compiled network, for any batch and input size.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// For each node inside a concatenation: the outermost Concat and the first block of channels in it.
    pub(crate) home: Vec<Option<(NodeId, usize)>>,
}

/// Vectors of channels.
pub(crate) fn blocks(channels: usize) -> usize {
    channels.div_ceil(LANES)
}
