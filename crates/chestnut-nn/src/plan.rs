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

use crate::kernels::{matmul, winograd};
use crate::memory::Aligned;
use crate::simd::{Isa, LANES};
use chestnut_zoo::graph::{Graph, NodeId, Op, Padding, Window};
use chestnut_zoo::{Activation, Weights};
use thiserror::Error;

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
    /// 3x3 with step 1: [`winograd`].
    Winograd,
}

/// Which algorithm serves which convolution. Measured on AVX-512 (docs/performance.md): Winograd wins from 16 input
/// channels on, whatever the image's size.
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
    pub(crate) source: Source,
    /// Vectors of output channels per panel.
    pub(crate) widths: Vec<usize>,
    /// Packed panels; for Winograd 36 times.
    pub(crate) weights: Aligned,
    pub(crate) bias: Aligned,
    pub(crate) relu: bool,
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

/// Compiles `graph`, taking its weights one by one so that they are not in memory twice.
///
/// # Errors
/// [`PlanError`] if the weights do not fit or the graph has a pattern that no known network has.
pub(crate) fn compile(graph: &Graph, mut weights: Weights, isa: Isa, allow_winograd: bool) -> Result<Plan, PlanError> {
    chestnut_zoo::weights::check(graph, &weights)?;
    let mut consumers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&i| consumers[i].push(id));
    }
    let home = place_concats(graph)?;
    let mut compiler = Compiler {
        graph,
        channels: graph.channels(),
        consumers,
        weights: &mut weights,
        isa,
        allow_winograd,
        done: vec![false; graph.nodes.len()],
        lazy: Vec::new(),
        steps: Vec::new(),
    };
    compiler.lazy.resize_with(graph.nodes.len(), || None);
    for id in 0..graph.nodes.len() {
        if !compiler.done[id] {
            compiler.node(id)?;
        }
    }
    Ok(Plan { steps: compiler.steps, home })
}

/// Gives every input of a Concat its place inside the outermost Concat.
fn place_concats(graph: &Graph) -> Result<Vec<Option<(NodeId, usize)>>, PlanError> {
    let channels = graph.channels();
    let mut home: Vec<Option<(NodeId, usize)>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if node.op != Op::Concat {
            continue;
        }
        let (root, mut block) = *home[id].get_or_insert((id, 0));
        for &input in &node.inputs {
            if !channels[input].is_multiple_of(LANES) {
                return Err(PlanError::OddConcat { layer: node.name.clone(), channels: channels[input] });
            }
            if home[input].is_some() || input == 0 {
                return Err(PlanError::Unsupported {
                    layer: node.name.clone(),
                    what: "a tensor in two concatenations",
                });
            }
            home[input] = Some((root, block));
            block += blocks(channels[input]);
        }
    }
    Ok(home)
}

/// A node that is not computed on its own but by the convolution that reads it.
enum Lazy {
    PreActivation { input: NodeId, scale: Aligned, shift: Aligned },
    Rectified { input: NodeId },
    Depthwise { input: NodeId, kernel: Aligned, window: Window, rectify: bool },
}

struct Compiler<'a> {
    graph: &'a Graph,
    channels: Vec<usize>,
    consumers: Vec<Vec<NodeId>>,
    weights: &'a mut Weights,
    isa: Isa,
    allow_winograd: bool,
    done: Vec<bool>,
    lazy: Vec<Option<Lazy>>,
    steps: Vec<Step>,
}

impl Compiler<'_> {
    /// The only consumer of `id`, unless `id` is a tap that must exist by itself.
    fn next(&self, id: NodeId) -> Option<NodeId> {
        match self.consumers[id][..] {
            [only] if id != self.graph.feature_map => Some(only),
            _ => None,
        }
    }

    fn op(&self, id: NodeId) -> &Op {
        &self.graph.nodes[id].op
    }

    fn take(&mut self, id: NodeId, kind: &str) -> Vec<f32> {
        // `compile` checked that every tensor is there, and each is taken once.
        self.weights.remove(&format!("{}.{kind}", self.graph.nodes[id].name)).map(|t| t.data).unwrap_or_default()
    }

    /// Batch normalisation as x * scale + shift, in f64.
    fn fold(&mut self, id: NodeId) -> (Vec<f64>, Vec<f64>) {
        let Op::BatchNorm { epsilon, scale } = *self.op(id) else { unreachable!("only called on BatchNorm") };
        let gamma = if scale { self.take(id, "gamma") } else { vec![1.0; self.channels[id]] };
        let (beta, mean, variance) =
            (self.take(id, "beta"), self.take(id, "moving_mean"), self.take(id, "moving_variance"));
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(epsilon)).sqrt())
            .collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((&b, &m), s)| f64::from(b) - f64::from(m) * s).collect();
        (scale, shift)
    }

    fn push(&mut self, named: NodeId, output: NodeId, work: Work) {
        self.steps.push(Step { name: self.graph.nodes[named].name.clone(), output, work });
    }

    fn node(&mut self, id: NodeId) -> Result<(), PlanError> {
        self.done[id] = true;
        let inputs = self.graph.nodes[id].inputs.clone();
        match self.op(id).clone() {
            Op::Input { .. } | Op::Concat => {}
            Op::Conv { window, filters, bias } => self.convolution(id, inputs[0], window, filters, bias)?,
            Op::Depthwise { window } => {
                let kernel = self.take(id, "kernel");
                let kernel = depthwise_blocks(&kernel, self.channels[id]);
                let (input, rectify) = match self.lazy[inputs[0]].take() {
                    Some(Lazy::Rectified { input }) => (input, true),
                    _ => (inputs[0], false),
                };
                let fits = matches!(window, Window { size: [3, 3], stride: 1, .. })
                    && matches!(
                        self.next(id).map(|n| self.op(n)),
                        Some(Op::Conv { window: Window { size: [1, 1], stride: 1, .. }, .. })
                    );
                if !fits {
                    let layer = self.graph.nodes[id].name.clone();
                    return Err(PlanError::Unsupported {
                        layer,
                        what: "a depthwise convolution other than 3x3 before a 1x1",
                    });
                }
                self.lazy[id] = Some(Lazy::Depthwise { input, kernel, window, rectify });
            }
            Op::BatchNorm { .. } => {
                let (scale, shift) = self.fold(id);
                let (scale, shift) = (padded(&scale), padded(&shift));
                let relu = self.next(id).filter(|&n| *self.op(n) == Op::Relu);
                let pointwise = relu.and_then(|r| self.next(r)).is_some_and(|n| {
                    matches!(self.op(n), Op::Conv { window: Window { size: [1, 1], stride: 1, .. }, .. })
                });
                let output = relu.unwrap_or(id);
                self.done[output] = true;
                if pointwise {
                    self.lazy[output] = Some(Lazy::PreActivation { input: inputs[0], scale, shift });
                } else {
                    let (scale, shift) = (Some(scale), Some(shift));
                    self.push(
                        id,
                        output,
                        Work::Affine { input: inputs[0], scale, shift, addend: None, relu: relu.is_some() },
                    );
                }
            }
            Op::Relu => {
                let only_depthwise = matches!(self.next(id).map(|n| self.op(n)), Some(Op::Depthwise { .. }));
                if only_depthwise {
                    self.lazy[id] = Some(Lazy::Rectified { input: inputs[0] });
                } else {
                    self.push(
                        id,
                        id,
                        Work::Affine { input: inputs[0], scale: None, shift: None, addend: None, relu: true },
                    );
                }
            }
            Op::Add { scale } => {
                let relu = self.next(id).filter(|&n| *self.op(n) == Op::Relu);
                let output = relu.unwrap_or(id);
                self.done[output] = true;
                let addend = Some((inputs[1], scale));
                self.push(
                    id,
                    output,
                    Work::Affine { input: inputs[0], scale: None, shift: None, addend, relu: relu.is_some() },
                );
            }
            Op::MaxPool(window) => {
                let add = self.next(id).and_then(|n| self.other_operand(n, id)).filter(|&(_, _, scale)| scale == 1.0);
                let (output, addend) = add.map_or((id, None), |(sum, other, _)| (sum, Some(other)));
                self.done[output] = true;
                self.push(id, output, Work::Pool { input: inputs[0], window, maximum: true, addend });
            }
            Op::AvgPool(window) => {
                self.push(id, id, Work::Pool { input: inputs[0], window, maximum: false, addend: None })
            }
            Op::GlobalAvgPool => self.push(id, id, Work::Mean { input: inputs[0] }),
            Op::Dense { activation, .. } => {
                let (kernel, bias) = (self.take(id, "kernel"), self.take(id, "bias"));
                self.push(id, id, Work::Dense { input: inputs[0], kernel, bias, activation });
            }
        }
        Ok(())
    }

    /// If `sum` is an Add of `id` and a value that is already computed: the sum, that value, and the factor of `id`.
    fn other_operand(&self, sum: NodeId, id: NodeId) -> Option<(NodeId, NodeId, f32)> {
        let Op::Add { scale } = *self.op(sum) else { return None };
        let [a, b] = self.graph.nodes[sum].inputs[..] else { return None };
        let (other, factor) = if b == id { (a, scale) } else { (b, 1.0) };
        // With the factor on the other operand it cannot ride along; no known network has that.
        let rides = b == id || scale == 1.0;
        (rides && other < id && self.done[other] && self.lazy[other].is_none()).then_some((sum, other, factor))
    }

    fn convolution(
        &mut self,
        id: NodeId,
        input: NodeId,
        window: Window,
        filters: usize,
        bias: bool,
    ) -> Result<(), PlanError> {
        let kernel = self.take(id, "kernel");
        let mut shift: Vec<f64> =
            if bias { self.take(id, "bias").iter().map(|&b| f64::from(b)).collect() } else { vec![0.0; filters] };
        let mut scale = vec![1.0; filters];
        let mut last = id;
        if let Some(bn) = self.next(last).filter(|&n| matches!(self.op(n), Op::BatchNorm { .. })) {
            let (s, t) = self.fold(bn);
            for c in 0..filters {
                scale[c] *= s[c];
                shift[c] = shift[c] * s[c] + t[c];
            }
            last = bn;
            self.done[bn] = true;
        }
        let mut residual = None;
        if let Some((sum, other, factor)) = self.next(last).and_then(|n| self.other_operand(n, last)) {
            scale.iter_mut().chain(&mut shift).for_each(|v| *v *= f64::from(factor));
            residual = Some(other);
            last = sum;
            self.done[sum] = true;
        }
        let relu = self.next(last).filter(|&n| *self.op(n) == Op::Relu);
        if let Some(relu) = relu {
            last = relu;
            self.done[relu] = true;
        }

        let inputs = self.channels[input];
        let algorithm = choose(&window, inputs, input == 0, self.allow_winograd);
        let (input, mut source) = match self.lazy[input].take() {
            Some(Lazy::PreActivation { input, scale, shift }) => {
                (input, Source::PreActivation { scale, shift, pool: false })
            }
            Some(Lazy::Depthwise { input, kernel, window, rectify }) => {
                (input, Source::Depthwise { kernel, window, rectify })
            }
            Some(Lazy::Rectified { .. }) => unreachable!("only made for depthwise convolutions"),
            None => (input, Source::InPlace),
        };
        if algorithm == Algorithm::Pointwise && window.stride > 1 {
            if !matches!(source, Source::InPlace) {
                let layer = self.graph.nodes[id].name.clone();
                return Err(PlanError::Unsupported { layer, what: "a strided 1x1 convolution after a fused layer" });
            }
            source = Source::Stride(window.stride);
        }
        // Mean and 1x1 convolution commute as long as nothing bends the values in between.
        if let Source::PreActivation { pool, .. } = &mut source
            && residual.is_none()
            && relu.is_none()
            && let Some(next) = self.next(last)
            && *self.op(next) == Op::AvgPool(Window { size: [2, 2], stride: 2, padding: Padding::Valid })
        {
            *pool = true;
            last = next;
            self.done[next] = true;
        }

        let widths = matmul::panel_widths(blocks(filters), self.isa.max_width());
        let weights = pack(algorithm, &kernel, &scale, &window, inputs, filters, &widths);
        drop(kernel);
        let convolution = Convolution {
            input,
            residual,
            window,
            algorithm,
            source,
            widths,
            weights,
            bias: padded(&shift),
            relu: relu.is_some(),
        };
        self.push(id, last, Work::Convolution(Box::new(convolution)));
        Ok(())
    }
}

/// f64 values as f32, padded with zeros to whole vectors.
fn padded(values: &[f64]) -> Aligned {
    let mut out = Aligned::zeros(blocks(values.len()) * LANES);
    out.as_mut_slice().iter_mut().zip(values).for_each(|(o, &v)| *o = v as f32);
    out
}

/// A depthwise kernel `[3][3][channels]` as `[block][9][16]`.
fn depthwise_blocks(kernel: &[f32], channels: usize) -> Aligned {
    let mut out = Aligned::zeros(blocks(channels) * 9 * LANES);
    let slice = out.as_mut_slice();
    for (i, &v) in kernel.iter().enumerate() {
        let (tap, c) = (i / channels, i % channels);
        slice[(c / LANES * 9 + tap) * LANES + c % LANES] = v;
    }
    out
}

/// Packs a kernel `[height][width][input][output]`, times `scale` per output, for its algorithm.
fn pack(
    algorithm: Algorithm,
    kernel: &[f32],
    scale: &[f64],
    window: &Window,
    inputs: usize,
    filters: usize,
    widths: &[usize],
) -> Aligned {
    let taps = window.size[0] * window.size[1];
    let columns = blocks(filters) * LANES;
    let at = |tap: usize, input: usize, output: usize| {
        f64::from(kernel[(tap * inputs + input) * filters + output]) * scale[output]
    };
    match algorithm {
        Algorithm::Image => {
            let mut out = Aligned::zeros(taps * inputs * columns);
            matmul::pack_panels(widths, taps * inputs, out.as_mut_slice(), |row, output| {
                if output < filters { at(row / inputs, row % inputs, output) as f32 } else { 0.0 }
            });
            out
        }
        Algorithm::Pointwise | Algorithm::Window => {
            let padded_inputs = blocks(inputs) * LANES;
            let mut out = Aligned::zeros(taps * padded_inputs * columns);
            matmul::pack_panels(widths, taps * padded_inputs, out.as_mut_slice(), |row, output| {
                let (tap, input) = (row / padded_inputs, row % padded_inputs);
                if input < inputs && output < filters { at(tap, input, output) as f32 } else { 0.0 }
            });
            out
        }
        Algorithm::Winograd => {
            let padded_inputs = blocks(inputs) * LANES;
            let one = padded_inputs * columns;
            // [position][input][output] first, then packed position by position.
            let mut plain = vec![0.0_f32; winograd::POSITIONS * inputs * filters];
            for input in 0..inputs {
                for output in 0..filters {
                    let mut g = [0.0; 9];
                    g.iter_mut().enumerate().for_each(|(tap, g)| *g = at(tap, input, output));
                    for (position, v) in winograd::transform_kernel(&g).into_iter().enumerate() {
                        plain[(position * inputs + input) * filters + output] = v as f32;
                    }
                }
            }
            let mut out = Aligned::zeros(winograd::POSITIONS * one);
            for (position, out) in out.as_mut_slice().chunks_exact_mut(one).enumerate() {
                let plain = &plain[position * inputs * filters..];
                matmul::pack_panels(widths, padded_inputs, out, |input, output| {
                    if input < inputs && output < filters { plain[input * filters + output] } else { 0.0 }
                });
            }
            out
        }
    }
}
