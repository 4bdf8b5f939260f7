//! A network ready to run: compile once, then images in, taps out.

use crate::execute::{self, Context};
use crate::layout::Layout;
use crate::memory::{Aligned, Span};
use crate::plan::{self, Plan, PlanError, Work, blocks};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::simd::{Isa, LANES};
use chestnut_zoo::graph::{Graph, InputTooSmall, NodeId, Shape};
use chestnut_zoo::{Activation, Weights};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Images that are computed together at most; more are cut into groups of this size. More would not be faster and
/// would cost memory (VGG16 needs 26 MB per image).
pub const MAX_GROUP: usize = 8;

/// How to run a network.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads, the caller's included.
    pub threads: usize,
    /// Instruction set; must be one of [`Isa::available`].
    pub isa: Isa,
    /// Whether 3x3 convolutions may use Winograd's algorithm (faster; error of embeddings about 1e-6 relative).
    pub winograd: bool,
    /// How inputs and weights are multiplied, where [`Precision`] says so.
    pub precision: Precision,
}

impl Default for Options {
    /// All cores, the best instruction set, Winograd, f32.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, isa: Isa::detect(), winograd: true, precision: Precision::F32 }
    }
}

/// What a pass gives for each image of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taps {
    /// `[image][width]`: global average of the last feature map.
    pub embeddings: Vec<f32>,
    /// `[image][output]`: what the head says; empty without a head.
    pub outputs: Vec<f32>,
    /// `[image][row][column][channel]`: last feature map; empty unless asked for.
    pub feature_maps: Vec<f32>,
}

/// The input does not fit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RunError {
    /// Fewer pixels than the network can look at.
    #[error(transparent)]
    TooSmall(#[from] InputTooSmall),
    /// Not whole images.
    #[error("{values} values are not whole images of {height} x {width} x {channels}")]
    Length {
        /// Given.
        values: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Channels.
        channels: usize,
    },
}

/// Time of one step, for `chestnut bench --layers`.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// Layer that the step is named after.
    pub name: String,
    /// What was fused, such as `bn+relu+1x1`.
    pub kind: &'static str,
    /// Multiply-adds of its convolution for one image, as the graph counts them.
    pub multiply_adds: u64,
    /// Wall time of the whole batch.
    pub time: Duration,
}

/// A compiled network with its packed weights and working memory.
pub struct Engine {
    graph: Graph,
    plan: Plan,
    isa: Isa,
    pool: Pool,
    layout: Option<Layout>,
    arena: Aligned,
    scratch: Vec<Aligned>,
}

impl Engine {
    /// Compiles `graph` with `weights`, which are used up.
    ///
    /// # Errors
    /// [`PlanError`] if the weights do not fit, or the processor lacks `options.precision`.
    ///
    /// # Panics
    /// If this processor lacks `options.isa`.
    pub fn new(graph: Graph, weights: Weights, options: Options) -> Result<Self, PlanError> {
        assert!(Isa::available().contains(&options.isa), "this processor has no {}", options.isa);
        if !options.precision.runs_on(options.isa) {
            return Err(PlanError::Precision);
        }
        let plan = plan::compile(&graph, weights, options)?;
        let pool = Pool::new(options.threads);
        Ok(Self { graph, plan, isa: options.isa, pool, layout: None, arena: Aligned::zeros(0), scratch: Vec::new() })
    }

    /// The network's description.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Shape of the last feature map for an input of `height` x `width`.
    ///
    /// # Errors
    /// [`InputTooSmall`].
    pub fn feature_map_shape(&self, height: usize, width: usize) -> Result<Shape, InputTooSmall> {
        Ok(self.graph.shapes(height, width)?[self.graph.feature_map])
    }

    /// Runs whole images, `[image][row][column][channel]`; feature maps are copied out if `maps`.
    ///
    /// Results are the same bits for every number of threads and every batch that an image is part of.
    ///
    /// # Errors
    /// [`RunError`] if `images` are not whole images or too small for the network.
    pub fn run(&mut self, images: &[f32], height: usize, width: usize, maps: bool) -> Result<Taps, RunError> {
        self.run_timed(images, height, width, maps, None)
    }

    /// As [`Engine::run`], appending each step's time to `times` (in groups of [`MAX_GROUP`] images).
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_timed(
        &mut self,
        images: &[f32],
        height: usize,
        width: usize,
        maps: bool,
        mut times: Option<&mut Vec<StepTime>>,
    ) -> Result<Taps, RunError> {
        let channels = self.graph.input_channels();
        let one = height * width * channels;
        if one == 0 || !images.len().is_multiple_of(one) {
            return Err(RunError::Length { values: images.len(), height, width, channels });
        }
        let mut taps = Taps::default();
        for group in images.chunks(MAX_GROUP * one) {
            self.prepare(group.len() / one, height, width)?;
            self.group(group, maps, &mut taps, times.as_deref_mut());
        }
        Ok(taps)
    }

    /// Bytes of the weights as they are packed: Winograd's are four times as many as the network has.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        4 * self.plan.steps.iter().map(plan::Step::weights).sum::<usize>()
    }

    /// Bytes of working memory beside the weights, for the largest batch so far; 0 before the first.
    #[must_use]
    pub fn working_bytes(&self) -> usize {
        4 * (self.arena.len() + self.scratch.iter().map(Aligned::len).sum::<usize>())
    }

    fn prepare(&mut self, batch: usize, height: usize, width: usize) -> Result<(), InputTooSmall> {
        if self.layout.as_ref().is_some_and(|l| (l.batch, l.height, l.width) == (batch, height, width)) {
            return Ok(());
        }
        let layout = Layout::new(&self.graph, &self.plan, batch, (height, width), self.pool.threads())?;
        if self.arena.len() < layout.arena {
            self.arena = Aligned::zeros(layout.arena);
        }
        if self.scratch.first().map_or(0, Aligned::len) < layout.scratch || self.scratch.is_empty() {
            self.scratch = (0..self.pool.threads()).map(|_| Aligned::zeros(layout.scratch)).collect();
        }
        self.layout = Some(layout);
        Ok(())
    }

    fn group(&mut self, images: &[f32], maps: bool, taps: &mut Taps, mut times: Option<&mut Vec<StepTime>>) {
        let Some(layout) = &self.layout else { return };
        let arena = self.arena.span();
        let scratch: Vec<Span> = self.scratch.iter_mut().map(Aligned::span).collect();
        let value = |id: NodeId| arena.part(layout.values[id].start, layout.values[id].len);
        let batch = layout.batch;
        for (i, step) in self.plan.steps.iter().enumerate() {
            let start = Instant::now();
            let (output, so) = (value(step.output), layout.shapes[step.output]);
            let shared = arena.part(layout.shared[i].start, layout.shared[i].len);
            let mut cx = Context { isa: self.isa, batch, pool: &mut self.pool, scratch: &scratch, shared };
            match &step.work {
                Work::Convolution(c) => {
                    let shapes = (layout.shapes[c.input], so);
                    execute::convolution(&mut cx, c, images, value(c.input), shapes, output, c.residual.map(value));
                }
                Work::Pool { input, window, maximum, addend } => {
                    let shapes = (layout.shapes[*input], so);
                    execute::pool(&mut cx, window, *maximum, value(*input), shapes, output, addend.map(value));
                }
                Work::Affine { input, scale, shift, addend, relu } => {
                    let constants = [scale.as_ref(), shift.as_ref()];
                    let addend = addend.map(|(id, factor)| (value(id), factor));
                    execute::affine(&mut cx, constants, *relu, value(*input), so, output, addend);
                }
                Work::Mean { input } => execute::mean(&cx, value(*input), layout.shapes[*input], output),
                Work::Dense { input, kernel, bias, activation } => {
                    // SAFETY: only this thread runs, and input and output are values that live at the same time.
                    let (x, y) = unsafe { (value(*input).slice(), output.slice_mut()) };
                    dense(x, layout.shapes[*input].channels, y, batch, kernel, bias, *activation);
                }
            }
            if let Some(times) = &mut times {
                let node = self.graph.nodes.iter().position(|n| n.name == step.name);
                let multiply_adds = node.map_or(0, |id| self.graph.node_multiply_adds(id, &layout.shapes));
                times.push(StepTime {
                    name: step.name.clone(),
                    kind: step.kind(),
                    multiply_adds,
                    time: start.elapsed(),
                });
            }
        }
        // SAFETY: all workers are done.
        let read = |id: NodeId| unsafe { value(id).slice() };
        let copy = |id: NodeId, to: &mut Vec<f32>| unblock(read(id), layout.shapes[id], batch, to);
        copy(self.graph.embedding, &mut taps.embeddings);
        if let Some(output) = self.graph.output {
            copy(output, &mut taps.outputs);
        }
        if maps {
            copy(self.graph.feature_map, &mut taps.feature_maps);
        }
    }
}

/// Appends a blocked value as `[image][row][column][channel]`.
fn unblock(value: &[f32], shape: Shape, batch: usize, to: &mut Vec<f32>) {
    let pixels = shape.height * shape.width;
    to.reserve(batch * pixels * shape.channels);
    for pixel in 0..batch * pixels {
        for block in 0..blocks(shape.channels) {
            let at = (block * batch * pixels + pixel) * LANES;
            to.extend_from_slice(&value[at..at + LANES.min(shape.channels - block * LANES)]);
        }
    }
}

/// A fully connected layer on blocked vectors; sums in f64, since it costs nothing here.
fn dense(x: &[f32], inputs: usize, y: &mut [f32], batch: usize, kernel: &[f32], bias: &[f32], activation: Activation) {
    let units = bias.len();
    for image in 0..batch {
        let mut sums: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
        for i in 0..inputs {
            let v = f64::from(x[(i / LANES * batch + image) * LANES + i % LANES]);
            let row = &kernel[i * units..][..units];
            sums.iter_mut().zip(row).for_each(|(s, &k)| *s += v * f64::from(k));
        }
        activation_in_place(&mut sums, activation);
        for (u, s) in sums.into_iter().enumerate() {
            y[(u / LANES * batch + image) * LANES + u % LANES] = s as f32;
        }
    }
}

/// Applies a head's activation.
pub(crate) fn activation_in_place(sums: &mut [f64], activation: Activation) {
    match activation {
        Activation::Linear => {}
        Activation::Relu => sums.iter_mut().for_each(|v| *v = v.max(0.0)),
        Activation::Sigmoid => sums.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
        Activation::Softmax => {
            let top = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            sums.iter_mut().for_each(|v| *v = (*v - top).exp());
            let total: f64 = sums.iter().sum();
            sums.iter_mut().for_each(|v| *v /= total);
        }
    }
}
