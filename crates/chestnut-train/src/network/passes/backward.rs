//! Backward over the steps: from the gradient of the last sums to those of all tensors that learn.

use super::{Passes, Tape};
use crate::network::convolution::{self, Back};
use crate::network::norm::{self, Pending};
use crate::network::plan::{Step, View, Work};
use crate::network::pool;
use crate::network::tensors::Tensors;
use chestnut_nn::training::Kernels;
use chestnut_zoo::Activation;
use chestnut_zoo::graph::Op;
use rayon::prelude::*;

/// Pixels that are settled or summed at a time.
const PIXELS: usize = 1024;

impl Passes {
    /// Gradients of all tensors that learn, in their order (empty for the others), after a training forward pass.
    /// `seed`: gradient of the last Dense layer's sums.
    pub(in crate::network) fn backward(&self, tensors: &Tensors, tape: &mut Tape, seed: Vec<f32>) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = vec![Vec::new(); tensors.all.len()];
        let mut roots: Vec<Vec<f32>> = vec![Vec::new(); self.plan.roots.len()];
        let mut pending: Vec<Option<Pending>> = vec![None; self.plan.roots.len()];
        let mut left: Vec<usize> = self.plan.roots.iter().map(|r| r.writers).collect();
        roots[self.plan.views[self.output].root] = seed;
        for (step, wanted) in self.plan.steps.iter().zip(&self.wanted).rev() {
            left[step.root] -= 1;
            if *wanted && !roots[step.root].is_empty() {
                let dy = self.settled(step, tape, &mut roots, pending[step.root].as_ref(), left[step.root] == 0);
                self.tensors_of(step, tensors, tape, &dy, &mut all);
                for (i, (view, factor)) in self.inputs(step).iter().enumerate() {
                    if !self.wants(view) {
                        continue;
                    }
                    let root = view.root;
                    if roots[root].is_empty() {
                        roots[root] = tape.zeros(tape.values[root].len());
                    }
                    let affine = self.affine(view, tensors, &tape.statistics, true);
                    let back = Back { from: self.reader(view, &affine, tape), gradient: &mut roots[root] };
                    let sums = self.back(step, i, *factor, tensors, tape, &dy, back);
                    let pending = pending[root].get_or_insert_with(|| Pending::new(self.plan.roots[root].channels));
                    self.normalised(view, &sums, tensors, tape, pending, &mut all);
                }
                tape.recycle(dy);
            }
            if left[step.root] == 0 {
                let spent = std::mem::take(&mut roots[step.root]);
                if spent.capacity() > 0 {
                    tape.recycle(spent);
                }
            }
        }
        all
    }

    /// The complete gradient of a step's value, dense. `last`: nobody needs the root's gradient afterwards.
    fn settled(
        &self,
        step: &Step,
        tape: &mut Tape,
        roots: &mut [Vec<f32>],
        pending: Option<&Pending>,
        last: bool,
    ) -> Vec<f32> {
        let row = self.plan.roots[step.root].channels;
        let channels = step.first..step.first + step.channels;
        let nothing = pending.is_none_or(|p| p.constant[channels.clone()].iter().all(|&v| v == 0.0));
        if nothing && last && step.channels == row {
            return std::mem::take(&mut roots[step.root]);
        }
        let zeros = vec![0.0; step.channels];
        let (constant, slope) = match pending {
            Some(p) => (&p.constant[channels.clone()], &p.slope[channels]),
            None => (&zeros[..], &zeros[..]),
        };
        let pixels = roots[step.root].len() / row;
        let mut dy = tape.zeros(pixels * step.channels);
        let (x, dx, k) = (&tape.values[step.root], &roots[step.root], self.k);
        dy.par_chunks_mut(PIXELS * step.channels).enumerate().for_each(|(i, dy)| {
            let at = i * PIXELS * row + step.first;
            k.settle(&x[at..], &dx[at..], row, constant, slope, dy);
        });
        dy
    }

    /// Gradients of a step's own tensors.
    fn tensors_of(&self, step: &Step, tensors: &Tensors, tape: &Tape, dy: &[f32], all: &mut [Vec<f32>]) {
        if step.work != Work::Node || !self.learns[step.node] || !self.has_tensors(step.node) {
            return;
        }
        let (node, k) = (&self.graph.nodes[step.node], self.k);
        let view = &self.plan.views[node.inputs[0]];
        let affine = self.affine(view, tensors, &tape.statistics, true);
        let from = self.reader(view, &affine, tape);
        let mut put = |kind: &str, gradient: Vec<f32>| {
            if let Some(i) = tensors.index(&node.name, kind) {
                all[i] = gradient;
            }
        };
        match (&node.op, self.geometry(step.node, tape)) {
            (Op::Conv { bias, .. }, Some(g)) => {
                put("kernel", convolution::weights(k, &g, &from, dy));
                if *bias {
                    put("bias", column_sums(k, dy, step.channels));
                }
            }
            (Op::Depthwise { .. }, Some(g)) => put("kernel", convolution::depthwise_weights(k, &g, &from, dy)),
            (Op::Dense { activation, units }, _) => {
                let dy = self.through_relu(step, *activation, tape, dy);
                let kernel = tensors.get(&node.name, "kernel");
                let (dk, db, _) = pool::dense_back(from.values, kernel, &dy, *units);
                put("kernel", dk);
                put("bias", db);
            }
            _ => {}
        }
    }

    /// Takes a step's gradient back to its `i`-th input; gives the sums of the view's normalisations.
    #[expect(clippy::too_many_arguments, reason = "what a step read, what came back, and where it goes")]
    fn back(
        &self,
        step: &Step,
        i: usize,
        factor: f32,
        tensors: &Tensors,
        tape: &Tape,
        dy: &[f32],
        back: Back<'_>,
    ) -> Vec<f64> {
        let k = self.k;
        if let Work::Sum(_) = step.work {
            return pool::term(k, factor, dy, back);
        }
        let node = &self.graph.nodes[step.node];
        let kernel = tensors.get(&node.name, "kernel");
        match (&node.op, self.geometry(step.node, tape)) {
            (Op::Conv { filters, window, .. }, Some(g)) => {
                let (taps, columns) = (window.size[0] * window.size[1], back.from.channels());
                let packed = k.pack(kernel, taps, *filters, columns, [columns * filters, 1, *filters]);
                convolution::inputs(k, &g, &packed, dy, back)
            }
            (Op::Depthwise { .. }, Some(g)) => convolution::depthwise_inputs(k, &g, kernel, dy, back),
            (Op::MaxPool(_), Some(g)) => pool::inputs(k, &g, pool::Kind::Max, dy, back),
            (Op::AvgPool(_), Some(g)) => pool::inputs(k, &g, pool::Kind::Mean, dy, back),
            (Op::GlobalAvgPool, _) => {
                let map = tape.shapes[node.inputs[i]];
                pool::global_inputs(k, map.height * map.width, dy, back)
            }
            (Op::Dense { activation, units }, _) => {
                let dy = self.through_relu(step, *activation, tape, dy);
                let (_, _, dx) = pool::dense_back(back.from.values, kernel, &dy, *units);
                pool::term(k, 1.0, &dx, back)
            }
            (op, _) => unreachable!("{op:?} has no inputs to go back to"),
        }
    }

    /// The gradient before a Dense layer's own ReLU.
    fn through_relu(&self, step: &Step, activation: Activation, tape: &Tape, dy: &[f32]) -> Vec<f32> {
        let mut dy = dy.to_vec();
        if activation == Activation::Relu && step.node != self.output {
            dy.iter_mut().zip(&tape.values[step.root]).filter(|(_, y)| **y <= 0.0).for_each(|(d, _)| *d = 0.0);
        }
        dy
    }

    /// What the sums of d and d * x mean for the normalisations of a view (derivation in `norm`).
    fn normalised(
        &self,
        view: &View,
        sums: &[f64],
        tensors: &Tensors,
        tape: &Tape,
        pending: &mut Pending,
        all: &mut [Vec<f32>],
    ) {
        let (s1, s2) = sums.split_at(sums.len() / 2);
        let statistics = &tape.statistics[view.root];
        let mut at = 0;
        for part in &view.parts {
            if let Some(norm) = part.norm.filter(|&n| self.learns[n]) {
                let name = &self.graph.nodes[norm].name;
                let gamma = tensors.get(name, "gamma");
                let (mut d_gamma, mut d_beta) = (vec![0.0; part.channels], vec![0.0; part.channels]);
                for c in 0..part.channels {
                    let channel = view.first + at + c;
                    let mean = f64::from(statistics.mean[channel]);
                    let variance = f64::from(statistics.variance[channel]) + f64::from(self.epsilon(norm));
                    let inverse = 1.0 / variance.sqrt();
                    let scale = gamma.get(c).map_or(1.0, |&g| f64::from(g)) * inverse;
                    let dg = inverse * (s2[at + c] - mean * s1[at + c]);
                    d_gamma[c] = dg as f32;
                    d_beta[c] = s1[at + c] as f32;
                    let n = statistics.count;
                    pending.constant[channel] += (scale / n * (mean * inverse * dg - s1[at + c])) as f32;
                    pending.slope[channel] -= (scale / n * inverse * dg) as f32;
                }
                for (kind, gradient) in [("gamma", d_gamma), ("beta", d_beta)] {
                    match tensors.index(name, kind) {
                        Some(i) if all[i].is_empty() => all[i] = gradient,
                        Some(i) => all[i].iter_mut().zip(gradient).for_each(|(s, v)| *s += v),
                        None => {}
                    }
                }
            }
            at += part.channels;
        }
    }
}

/// Sum of each column of dense rows.
fn column_sums(k: Kernels, rows: &[f32], columns: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = rows
        .par_chunks(PIXELS * columns)
        .map(|rows| {
            let mut sums = vec![0.0; columns];
            k.sum(rows, columns, &mut sums);
            sums
        })
        .collect();
    norm::total(&parts).into_iter().map(|v| v as f32).collect()
}
