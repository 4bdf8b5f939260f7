//! The tensors of a network while it learns, and how they start.

use crate::learner::{State, TrainError, Trained, Update, blend};
use chestnut_nn::training::{AdamStep, Kernels};
use chestnut_stats::random::Stream;
use chestnut_zoo::{Graph, Tensor, Weights};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// One tensor with what Adam knows of it.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f32>,
    /// Empty if it does not learn.
    mean: Vec<f32>,
    square: Vec<f32>,
    pub(super) learns: bool,
    /// Whether weight decay applies.
    kernel: bool,
}

/// All tensors of a graph, in graph order.
pub(super) struct Tensors {
    pub(super) all: Vec<Parameter>,
    by_name: BTreeMap<String, usize>,
    pub(super) step: u64,
}

impl Tensors {
    pub(super) fn new(graph: &Graph, weights: &Weights, trained: &Trained) -> Result<Self, TrainError> {
        chestnut_zoo::weights::check(graph, weights).map_err(|e| TrainError::Shape(e.to_string()))?;
        let owners: BTreeMap<&str, usize> = graph.nodes.iter().enumerate().map(|(i, n)| (n.name.as_str(), i)).collect();
        let mut all = Vec::new();
        for (name, shape) in graph.tensors() {
            let (owner, kind) = name.rsplit_once('.').unwrap_or((&name, ""));
            let statistic = matches!(kind, "moving_mean" | "moving_variance");
            let learns = !statistic && owners.get(owner).is_some_and(|&id| trained.contains(id));
            let data = weights[&name].data.clone();
            let moments = if learns { data.len() } else { 0 };
            let kernel = kind == "kernel";
            let (mean, square) = (vec![0.0; moments], vec![0.0; moments]);
            all.push(Parameter { name, shape, data, mean, square, learns, kernel });
        }
        let by_name = all.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect();
        Ok(Self { all, by_name, step: 0 })
    }

    pub(super) fn index(&self, node: &str, kind: &str) -> Option<usize> {
        self.by_name.get(&format!("{node}.{kind}")).copied()
    }

    /// Values of a tensor; empty if the node has none of this kind.
    pub(super) fn get(&self, node: &str, kind: &str) -> &[f32] {
        self.index(node, kind).map_or(&[], |i| &self.all[i].data)
    }

    pub(super) fn get_mut(&mut self, node: &str, kind: &str) -> &mut [f32] {
        match self.index(node, kind) {
            Some(i) => &mut self.all[i].data,
            None => &mut [],
        }
    }

    /// Adam on every tensor that has a gradient; `gradients` in the order of `all`.
    pub(super) fn update(&mut self, k: Kernels, update: &Update, rate: f64, gradients: &[Vec<f32>]) {
        self.step += 1;
        let t = self.step as f64;
        let adam = &update.adam;
        self.all.par_iter_mut().zip(gradients).filter(|(p, g)| p.learns && !g.is_empty()).for_each(|(p, g)| {
            let step = AdamStep {
                beta1: adam.beta1 as f32,
                beta2: adam.beta2 as f32,
                rate: (rate / (1.0 - adam.beta1.powf(t))) as f32,
                correction: (1.0 - adam.beta2.powf(t)).sqrt() as f32,
                epsilon: adam.epsilon as f32,
                decay: if p.kernel { (rate * update.weight_decay) as f32 } else { 0.0 },
            };
            k.adam(&mut p.data, &mut p.mean, &mut p.square, g, &step);
        });
    }

    pub(super) fn state(&self) -> State {
        let mut state = State { step: self.step, ..State::default() };
        for p in &self.all {
            let tensor = |data: &[f32]| Tensor { shape: p.shape.clone(), data: data.to_vec() };
            state.weights.insert(p.name.clone(), tensor(&p.data));
            if p.learns && self.step > 0 {
                state.mean.insert(p.name.clone(), tensor(&p.mean));
                state.square.insert(p.name.clone(), tensor(&p.square));
            }
        }
        state
    }

    /// Moves an average towards the tensors.
    pub(super) fn blend(&self, average: &mut Weights, decay: f32) {
        for p in &self.all {
            if let Some(average) = average.get_mut(&p.name) {
                blend(&mut average.data, &p.data, decay);
            }
        }
    }

    pub(super) fn restore(&mut self, graph: &Graph, state: &State) -> Result<(), TrainError> {
        chestnut_zoo::weights::check(graph, &state.weights).map_err(|e| TrainError::Shape(e.to_string()))?;
        let learn: Vec<&Parameter> = self.all.iter().filter(|p| p.learns && state.step > 0).collect();
        for (what, moments) in [("mean", &state.mean), ("squared", &state.square)] {
            let fits = learn.len() == moments.len()
                && learn.iter().all(|p| moments.get(&p.name).is_some_and(|t| t.data.len() == p.data.len()));
            if !fits {
                return Err(TrainError::Shape(format!(
                    "the {what} gradients of this checkpoint belong to other layers ({} tensors, {} learn here)",
                    moments.len(),
                    learn.len()
                )));
            }
        }
        for p in &mut self.all {
            p.data.clone_from(&state.weights[&p.name].data);
            if p.learns {
                let kept =
                    |from: &Weights| from.get(&p.name).map_or_else(|| vec![0.0; p.data.len()], |t| t.data.clone());
                (p.mean, p.square) = (kept(&state.mean), kept(&state.square));
            }
        }
        self.step = state.step;
        Ok(())
    }
}

/// How an untrained network starts: kernels of convolutions normal with variance 2 / inputs (He et al. 2015), Dense
/// kernels uniform with Glorot and Bengio's (2010) limit, gamma and variances 1, everything else 0.
#[must_use]
pub fn initial_weights(graph: &Graph, seed: u64) -> Weights {
    let draws = Stream::keyed(seed, "initial weights");
    let tensors = graph.tensors().into_iter().enumerate().map(|(i, (name, shape))| {
        let len: usize = shape.iter().product();
        let mut draw = draws.child(i as u64);
        let data = match (name.rsplit('.').next().unwrap_or(""), shape.as_slice()) {
            ("gamma" | "moving_variance", _) => vec![1.0; len],
            ("kernel", [h, w, input, _]) => {
                let fan = if name.ends_with(".depthwise.kernel") { h * w } else { h * w * input };
                let deviation = (2.0 / fan as f64).sqrt();
                (0..len).map(|_| (draw.normal() * deviation) as f32).collect()
            }
            ("kernel", [input, output]) => {
                let limit = (6.0 / (input + output) as f64).sqrt();
                (0..len).map(|_| ((draw.uniform() * 2.0 - 1.0) * limit) as f32).collect()
            }
            _ => vec![0.0; len],
        };
        (name, Tensor { shape, data })
    });
    tensors.collect()
}
