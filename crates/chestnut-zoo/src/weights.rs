//! Named tensors, and whether they are the ones a graph needs.

use crate::graph::{Graph, Op};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use thiserror::Error;

/// A dense tensor of f32 in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// As many values as the product of `shape`.
    pub data: Vec<f32>,
}

/// The weights of one network: canonical tensor name to tensor.
pub type Weights = BTreeMap<String, Tensor>;

/// How a set of weights differs from what a graph needs. Each list is complete; the message shows the first few.
#[derive(Debug, Default, PartialEq, Eq, Error)]
#[error("{}", self.describe())]
pub struct Misfit {
    /// Architecture.
    pub network: String,
    /// Needed and absent.
    pub missing: Vec<String>,
    /// Present and not needed.
    pub extra: Vec<String>,
    /// Present with another shape, as text: name, found, needed.
    pub wrong_shape: Vec<String>,
    /// Holding a NaN or an infinity.
    pub not_finite: Vec<String>,
}

impl Misfit {
    /// True if nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.wrong_shape.is_empty() && self.not_finite.is_empty()
    }

    fn describe(&self) -> String {
        const SHOWN: usize = 5;
        let mut text = format!("these weights do not fit {}:", self.network);
        for (what, list) in [
            ("missing", &self.missing),
            ("not part of this network", &self.extra),
            ("of another shape", &self.wrong_shape),
            ("holding NaN or infinity", &self.not_finite),
        ] {
            if !list.is_empty() {
                let _ = write!(text, "\n  {} tensors {what}: {}", list.len(), list[..list.len().min(SHOWN)].join(", "));
                if list.len() > SHOWN {
                    let _ = write!(text, ", and {} more", list.len() - SHOWN);
                }
            }
        }
        text.push_str("\n  is it the right --arch, and a file saved without its top layers?");
        text
    }
}

/// Checks that every tensor of `graph` is in `weights` once, with equal shape and finite values, and nothing else is.
///
/// A variance may be a little below 0, as long as it is not when batch normalisation has added its epsilon: one of 0 that
/// was saved with a smaller epsilon is read so.
///
/// # Errors
/// [`Misfit`] with everything that differs.
pub fn check(graph: &Graph, weights: &Weights) -> Result<(), Misfit> {
    let mut misfit = Misfit { network: graph.name.clone(), ..Misfit::default() };
    let needed = graph.tensors();
    let epsilons: BTreeMap<String, f32> = graph
        .nodes
        .iter()
        .filter_map(|node| match node.op {
            Op::BatchNorm { epsilon, .. } => Some((format!("{}.moving_variance", node.name), epsilon)),
            _ => None,
        })
        .collect();
    let negative = |name: &String, t: &Tensor| epsilons.get(name).is_some_and(|e| t.data.iter().any(|v| v + e <= 0.0));
    for (name, shape) in &needed {
        match weights.get(name) {
            None => misfit.missing.push(name.clone()),
            Some(t) if &t.shape != shape || t.data.len() != shape.iter().product::<usize>() => {
                misfit.wrong_shape.push(format!("{name} is {:?}, needed {shape:?}", t.shape));
            }
            Some(t) if t.data.iter().any(|v| !v.is_finite()) => misfit.not_finite.push(name.clone()),
            Some(t) if negative(name, t) => {
                misfit.not_finite.push(format!("{name} (a negative variance)"));
            }
            Some(_) => {}
        }
    }
    let known: std::collections::BTreeSet<&str> = needed.iter().map(|(n, _)| n.as_str()).collect();
    misfit.extra.extend(weights.keys().filter(|k| !known.contains(k.as_str())).cloned());
    if misfit.is_empty() { Ok(()) } else { Err(misfit) }
}

/// Deterministic weights made by a formula, for tests and for the demo until trained weights ship.
///
/// A value is a pure function of (`seed`, tensor name, index): SplitMix64 over an FNV-1a hash of the name.
/// Kernels are He-uniform (depthwise: unit gain; Dense: Glorot), statistics near 0 and 1, so that activations keep
/// their scale. `scripts/oracle_nets.py` implements the same formula in NumPy.
#[must_use]
pub fn seeded(graph: &Graph, seed: u64) -> Weights {
    graph
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let data = seeded_tensor(&name, &shape, seed);
            (name, Tensor { shape, data })
        })
        .collect()
}

/// The values of one tensor of [`seeded`].
fn seeded_tensor(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let len = shape.iter().product();
    let limit = |gain: f64, fan: usize| (gain / fan as f64).sqrt() as f32;
    let kind = name.rsplit('.').next().unwrap_or(name);
    let unit = unit_sequence(name, seed).take(len);
    match (kind, shape) {
        ("gamma" | "moving_variance", _) => unit.map(|u| 0.8 + 0.4 * u).collect(),
        ("kernel", [h, w, ..]) if name.ends_with(".depthwise.kernel") => {
            let limit = limit(3.0, h * w);
            unit.map(|u| (2.0 * u - 1.0) * limit).collect()
        }
        ("kernel", [h, w, input, _]) => {
            let limit = limit(6.0, h * w * input);
            unit.map(|u| (2.0 * u - 1.0) * limit).collect()
        }
        ("kernel", [input, output]) => {
            let limit = limit(6.0, input + output);
            unit.map(|u| (2.0 * u - 1.0) * limit).collect()
        }
        _ => unit.map(|u| (2.0 * u - 1.0) * 0.1).collect(),
    }
}

/// Uniform values on [0, 1) with 24 bits, a pure function of `name` and `seed`; element i is draw i.
pub fn unit_sequence(name: &str, seed: u64) -> impl Iterator<Item = f32> {
    let hash =
        name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3));
    let mut state = hash ^ seed;
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        Some((z >> 40) as f32 / (1u32 << 24) as f32)
    })
}
