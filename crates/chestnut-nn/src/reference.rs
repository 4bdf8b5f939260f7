//! The slow and obvious executor: every operation as its definition says, in f64.
//!
//! It is the oracle of the fast engine's tests and takes seconds per image. It must stay naive.

use crate::engine::activation_in_place;
use chestnut_zoo::Weights;
use chestnut_zoo::graph::{Graph, InputTooSmall, Op, Shape, Window};

/// What one pass over one image gives.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Last feature map, `[height, width, channels]` row-major.
    pub feature_map: Vec<f64>,
    /// Global average of the feature map.
    pub embedding: Vec<f64>,
    /// Output of the last Dense layer; empty without a head.
    pub output: Vec<f64>,
}

/// Runs `graph` on one image, `[height, width, channels]` row-major.
///
/// # Errors
/// [`InputTooSmall`] if the image is smaller than the network allows.
///
/// # Panics
/// If a tensor of the graph is missing from `weights` (check them first) or `image` has another length.
pub fn run(
    graph: &Graph,
    weights: &Weights,
    image: &[f32],
    height: usize,
    width: usize,
) -> Result<Pass, InputTooSmall> {
    let shapes = graph.shapes(height, width)?;
    let mut values: Vec<Vec<f64>> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let shape = shapes[id];
        let weight = |kind: &str| &weights[&format!("{}.{kind}", node.name)].data;
        let input = |i: usize| (&values[node.inputs[i]], shapes[node.inputs[i]]);
        let value = match &node.op {
            Op::Input { .. } => {
                assert_eq!(image.len(), shape.height * shape.width * shape.channels, "image does not match its size");
                image.iter().map(|&v| f64::from(v)).collect()
            }
            Op::Conv { window, filters, bias } => {
                let (x, s) = input(0);
                let mut y = convolve(x, s, shape, window, weight("kernel"), *filters);
                if *bias {
                    let b = weight("bias");
                    y.iter_mut().enumerate().for_each(|(i, v)| *v += f64::from(b[i % filters]));
                }
                y
            }
            Op::Depthwise { window } => {
                let (x, s) = input(0);
                let k = weight("kernel");
                slide(s, shape, window, |c, taps| {
                    taps.iter().map(|t| x[t.at + c] * f64::from(k[t.tap * s.channels + c])).sum()
                })
            }
            Op::BatchNorm { epsilon, scale } => {
                let (x, s) = input(0);
                let (beta, mean, variance) = (weight("beta"), weight("moving_mean"), weight("moving_variance"));
                let gamma = scale.then(|| weight("gamma"));
                let one = |(i, v): (usize, &f64)| {
                    let c = i % s.channels;
                    let g = gamma.map_or(1.0, |g| f64::from(g[c]));
                    (v - f64::from(mean[c])) / (f64::from(variance[c]) + f64::from(*epsilon)).sqrt() * g
                        + f64::from(beta[c])
                };
                x.iter().enumerate().map(one).collect()
            }
            Op::Relu => input(0).0.iter().map(|v| v.max(0.0)).collect(),
            Op::MaxPool(window) => {
                let (x, s) = input(0);
                slide(s, shape, window, |c, taps| taps.iter().map(|t| x[t.at + c]).fold(f64::NEG_INFINITY, f64::max))
            }
            Op::AvgPool(window) => {
                let (x, s) = input(0);
                slide(s, shape, window, |c, taps| taps.iter().map(|t| x[t.at + c]).sum::<f64>() / taps.len() as f64)
            }
            Op::GlobalAvgPool => {
                let (x, s) = input(0);
                let pixels = s.height * s.width;
                (0..s.channels)
                    .map(|c| (0..pixels).map(|p| x[p * s.channels + c]).sum::<f64>() / pixels as f64)
                    .collect()
            }
            Op::Add { scale } => input(0).0.iter().zip(input(1).0).map(|(a, b)| a + f64::from(*scale) * b).collect(),
            Op::Concat => {
                let mut y = Vec::with_capacity(shape.height * shape.width * shape.channels);
                for p in 0..shape.height * shape.width {
                    for &i in &node.inputs {
                        let c = shapes[i].channels;
                        y.extend_from_slice(&values[i][p * c..(p + 1) * c]);
                    }
                }
                y
            }
            Op::Dense { units, activation } => {
                let (x, _) = input(0);
                let (kernel, bias) = (weight("kernel"), weight("bias"));
                let mut sums: Vec<f64> = (0..*units)
                    .map(|u| {
                        x.iter().enumerate().map(|(i, v)| v * f64::from(kernel[i * units + u])).sum::<f64>()
                            + f64::from(bias[u])
                    })
                    .collect();
                activation_in_place(&mut sums, *activation);
                sums
            }
        };
        values.push(value);
    }
    Ok(Pass {
        feature_map: values[graph.feature_map].clone(),
        embedding: values[graph.embedding].clone(),
        output: graph.output.map_or_else(Vec::new, |id| values[id].clone()),
    })
}

/// A window's pixel: index of its first channel in the input, and which tap of the window it is.
struct Tap {
    at: usize,
    tap: usize,
}

/// For every output pixel and channel, `reduce` over the taps that lie inside the image.
fn slide(s: Shape, out: Shape, window: &Window, reduce: impl Fn(usize, &[Tap]) -> f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(out.height * out.width * s.channels);
    for_each_window(s, out, window, |taps| (0..s.channels).for_each(|c| y.push(reduce(c, taps))));
    y
}

fn for_each_window(s: Shape, out: Shape, window: &Window, mut visit: impl FnMut(&[Tap])) {
    let [kh, kw] = window.size;
    let [top, left] = window.before(s.height, s.width);
    for oy in 0..out.height {
        for ox in 0..out.width {
            let mut taps = Vec::with_capacity(kh * kw);
            for ky in 0..kh {
                for kx in 0..kw {
                    let (y, x) =
                        ((oy * window.stride + ky).wrapping_sub(top), (ox * window.stride + kx).wrapping_sub(left));
                    if y < s.height && x < s.width {
                        taps.push(Tap { at: (y * s.width + x) * s.channels, tap: ky * kw + kx });
                    }
                }
            }
            visit(&taps);
        }
    }
}

fn convolve(x: &[f64], s: Shape, out: Shape, window: &Window, kernel: &[f32], filters: usize) -> Vec<f64> {
    let mut y = Vec::with_capacity(out.height * out.width * filters);
    for_each_window(s, out, window, |taps| {
        let mut sums = vec![0.0; filters];
        for t in taps {
            for c in 0..s.channels {
                let row = &kernel[(t.tap * s.channels + c) * filters..][..filters];
                let v = x[t.at + c];
                sums.iter_mut().zip(row).for_each(|(sum, &k)| *sum += v * f64::from(k));
            }
        }
        y.append(&mut sums);
    });
    y
}
