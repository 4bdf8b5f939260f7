//! From nodes to steps: which neighbours a step takes with it.
//!
//! Nodes are visited in order. One that is not computed on its own is kept as [`Lazy`] until the convolution that reads
//! it takes it in; what a step has swallowed is marked as done.

use super::packing::{depthwise_blocks, pack, padded};
use super::{Algorithm, Convolution, Plan, PlanError, Source, Step, Work, blocks, choose};
use crate::kernels::matmul;
use crate::memory::Aligned;
use crate::simd::LANES;
use crate::{Options, Precision};
use chestnut_zoo::Weights;
use chestnut_zoo::graph::{Graph, NodeId, Op, Padding, Window};

/// Compiles `graph`, taking its weights one by one so that they are not in memory twice.
///
/// # Errors
/// [`PlanError`] if the weights do not fit or the graph has a pattern that no known network has.
pub(crate) fn compile(graph: &Graph, mut weights: Weights, options: Options) -> Result<Plan, PlanError> {
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
        options,
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

/// Whether this is a 1x1 convolution that reads pixel by pixel what its input writes, so that it can compute that itself.
fn takes_in(op: &Op) -> bool {
    matches!(op, Op::Conv { window: Window { size: [1, 1], stride: 1, padding: Padding::Valid | Padding::Same }, .. })
}

struct Compiler<'a> {
    graph: &'a Graph,
    channels: Vec<usize>,
    consumers: Vec<Vec<NodeId>>,
    weights: &'a mut Weights,
    options: Options,
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

    fn unsupported(&self, id: NodeId, what: &'static str) -> PlanError {
        PlanError::Unsupported { layer: self.graph.nodes[id].name.clone(), what }
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
                // Every window sees at least one pixel.
                let fits = matches!(window.padding, Padding::Valid | Padding::Same | Padding::Each(0..=2))
                    && (window.size, window.stride) == ([3, 3], 1);
                if !fits || !self.next(id).is_some_and(|n| takes_in(self.op(n))) {
                    return Err(self.unsupported(
                        id,
                        "a depthwise convolution other than 3x3 with a border below 3, before a 1x1 without border",
                    ));
                }
                self.lazy[id] = Some(Lazy::Depthwise { input, kernel, window, rectify });
            }
            Op::BatchNorm { .. } => {
                let (scale, shift) = self.fold(id);
                let (scale, shift) = (padded(&scale), padded(&shift));
                let relu = self.next(id).filter(|&n| *self.op(n) == Op::Relu);
                let pointwise = relu.and_then(|r| self.next(r)).is_some_and(|n| takes_in(self.op(n)));
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
            Op::MaxPool(Window { size, padding: Padding::Each(p), .. })
            | Op::AvgPool(Window { size, padding: Padding::Each(p), .. })
                if p >= size[0].min(size[1]) =>
            {
                return Err(self.unsupported(id, "a pooling window that sees nothing but border"));
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
        let algorithm = choose(&window, inputs, input == 0, self.options.winograd);
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
                return Err(self.unsupported(id, "a strided 1x1 convolution after a fused layer"));
            }
            source = Source::Stride(window.stride);
        }
        assert!(
            algorithm == Algorithm::Pointwise || matches!(source, Source::InPlace),
            "only what `takes_in` is given a fused layer"
        );
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

        let widths = matmul::panel_widths(blocks(filters), self.options.isa.max_width());
        let precision = match algorithm {
            Algorithm::Pointwise | Algorithm::Window => self.options.precision,
            Algorithm::Image | Algorithm::Winograd => Precision::F32,
        };
        let weights = pack(algorithm, precision, &kernel, &scale, &window, inputs, filters, &widths);
        drop(kernel);
        let convolution = Convolution {
            input,
            residual,
            window,
            algorithm,
            precision,
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
