//! Pools, sums, the global average and Dense layers. Together they are a few percent of a step.

use super::convolution::{Back, Geometry, Target, absorb};
use super::norm::{Moments, Reader, total};
use chestnut_nn::training::Kernels;
use rayon::prelude::*;
use std::ops::Range;

/// Input rows (or columns) that window `o` covers inside the image.
fn covered(o: usize, stride: usize, before: usize, kernel: usize, extent: usize) -> Range<usize> {
    let from = o * stride;
    from.saturating_sub(before)..(from + kernel).saturating_sub(before).min(extent)
}

/// Maximum or mean over a window.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first largest value of the window.
    Max,
    /// Mean of the pixels inside the image.
    Mean,
}

/// Forward, image by image.
pub(super) fn forward(
    k: Kernels,
    g: &Geometry,
    kind: Kind,
    from: &Reader<'_>,
    to: Target<'_>,
    observe: bool,
) -> Option<Moments> {
    let c = g.input.channels;
    let pixels = g.input.height * g.input.width;
    let image = g.output.height * g.output.width * to.row;
    let (row, first) = (to.row, to.first);
    let parts: Vec<Moments> = to
        .values
        .par_chunks_mut(image)
        .enumerate()
        .map_init(Vec::new, |z: &mut Vec<f32>, (b, out)| {
            z.resize(pixels * c, 0.0);
            from.read(k, b * pixels, z);
            for (q, out) in out.chunks_mut(row).enumerate() {
                let out = &mut out[first..first + c];
                let (ys, xs) = window(g, q);
                let count = (ys.len() * xs.len()) as f32;
                out.fill(if kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
                for at in ys.flat_map(|y| xs.clone().map(move |x| y * g.input.width + x)) {
                    let z = &z[at * c..(at + 1) * c];
                    match kind {
                        Kind::Max => out.iter_mut().zip(z).for_each(|(o, &v)| *o = if v > *o { v } else { *o }),
                        Kind::Mean => out.iter_mut().zip(z).for_each(|(o, &v)| *o += v),
                    }
                }
                if kind == Kind::Mean {
                    out.iter_mut().for_each(|o| *o /= count);
                }
            }
            if observe { Moments::of(k, &out[first..], row, c) } else { Moments::default() }
        })
        .collect();
    observe.then(|| parts.iter().fold(Moments::default(), Moments::join))
}

/// Rows and columns of the window of output pixel `q`.
fn window(g: &Geometry, q: usize) -> (Range<usize>, Range<usize>) {
    let (y, x) = (q / g.output.width, q % g.output.width);
    (
        covered(y, g.stride, g.before[0], g.kernel[0], g.input.height),
        covered(x, g.stride, g.before[1], g.kernel[1], g.input.width),
    )
}

/// Back to the inputs, image by image; `dy` is dense.
pub(super) fn inputs(k: Kernels, g: &Geometry, kind: Kind, dy: &[f32], back: Back<'_>) -> Vec<f64> {
    let c = g.input.channels;
    let pixels = g.input.height * g.input.width;
    let Back { from, gradient } = back;
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks_mut(pixels * from.row)
        .enumerate()
        .map_init(Default::default, |(z, dz): &mut (Vec<f32>, Vec<f32>), (b, gradient)| {
            dz.clear();
            dz.resize(pixels * c, 0.0);
            if kind == Kind::Max {
                z.resize(pixels * c, 0.0);
                from.read(k, b * pixels, z);
            }
            let outputs = g.output.height * g.output.width;
            for (q, dy) in dy[b * outputs * c..(b + 1) * outputs * c].chunks_exact(c).enumerate() {
                let (ys, xs) = window(g, q);
                let count = (ys.len() * xs.len()) as f32;
                let places = ys.flat_map(|y| xs.clone().map(move |x| y * g.input.width + x));
                match kind {
                    Kind::Max => largest(z, dz, dy, places),
                    Kind::Mean => {
                        for at in places {
                            dz[at * c..(at + 1) * c].iter_mut().zip(dy).for_each(|(d, &v)| *d += v / count);
                        }
                    }
                }
            }
            absorb(k, &from, b * pixels, dz, gradient)
        })
        .collect();
    total(&parts)
}

/// Gives each channel's gradient to the first largest value among `places`.
fn largest(z: &[f32], dz: &mut [f32], dy: &[f32], places: impl Iterator<Item = usize> + Clone) {
    let c = dy.len();
    for (channel, &d) in dy.iter().enumerate() {
        let (mut best, mut at) = (f32::NEG_INFINITY, None);
        for place in places.clone() {
            let v = z[place * c + channel];
            if v > best || at.is_none() {
                (best, at) = (v, Some(place));
            }
        }
        if let Some(at) = at {
            dz[at * c + channel] += d;
        }
    }
}

/// Pixels per item of a sum.
const CHUNK: usize = 256;

/// Sum of views times factors.
pub(super) fn sum(
    k: Kernels,
    terms: &[(Reader<'_>, f32)],
    channels: usize,
    to: Target<'_>,
    observe: bool,
) -> Option<Moments> {
    let (row, first) = (to.row, to.first);
    let parts: Vec<Moments> = to
        .values
        .par_chunks_mut(CHUNK * row)
        .enumerate()
        .map_init(Vec::new, |z: &mut Vec<f32>, (i, out)| {
            let out = &mut out[first..];
            let pixels = out.len().div_ceil(row);
            z.resize(pixels * channels, 0.0);
            for (t, (from, factor)) in terms.iter().enumerate() {
                from.read(k, i * CHUNK, z);
                for (out, z) in out.chunks_mut(row).zip(z.chunks_exact(channels)) {
                    let out = &mut out[..channels];
                    if t == 0 {
                        out.iter_mut().zip(z).for_each(|(o, v)| *o = factor * v);
                    } else {
                        out.iter_mut().zip(z).for_each(|(o, v)| *o += factor * v);
                    }
                }
            }
            if observe { Moments::of(k, out, row, channels) } else { Moments::default() }
        })
        .collect();
    observe.then(|| parts.iter().fold(Moments::default(), Moments::join))
}

/// One term of a sum, backward.
pub(super) fn term(k: Kernels, factor: f32, dy: &[f32], back: Back<'_>) -> Vec<f64> {
    let Back { from, gradient } = back;
    let c = from.channels();
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks_mut(CHUNK * from.row)
        .enumerate()
        .map_init(Vec::new, |dz: &mut Vec<f32>, (i, gradient)| {
            let pixels = gradient.len() / from.row;
            dz.clear();
            dz.extend(dy[i * CHUNK * c..(i * CHUNK + pixels) * c].iter().map(|v| factor * v));
            absorb(k, &from, i * CHUNK, dz, gradient)
        })
        .collect();
    total(&parts)
}

/// Mean over all pixels of each image.
pub(super) fn global(k: Kernels, from: &Reader<'_>, pixels: usize, batch: usize) -> Vec<f32> {
    let c = from.channels();
    let rows: Vec<Vec<f32>> = (0..batch)
        .into_par_iter()
        .map(|b| {
            let mut z = vec![0.0; pixels * c];
            from.read(k, b * pixels, &mut z);
            let mut mean = vec![0.0; c];
            k.sum(&z, c, &mut mean);
            mean.iter_mut().for_each(|m| *m /= pixels as f32);
            mean
        })
        .collect();
    rows.concat()
}

/// The global mean, backward.
pub(super) fn global_inputs(k: Kernels, pixels: usize, dy: &[f32], back: Back<'_>) -> Vec<f64> {
    let Back { from, gradient } = back;
    let c = from.channels();
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks_mut(pixels * from.row)
        .enumerate()
        .map(|(b, gradient)| {
            let share: Vec<f32> = dy[b * c..(b + 1) * c].iter().map(|v| v / pixels as f32).collect();
            absorb(k, &from, b * pixels, &share.repeat(pixels), gradient)
        })
        .collect();
    total(&parts)
}

/// Sums of a Dense layer: `x` `[row][input]`, kernel `[input][output]`.
pub(super) fn dense(x: &[f32], kernel: &[f32], bias: &[f32]) -> Vec<f32> {
    let units = bias.len();
    let inputs = kernel.len() / units;
    let mut out = Vec::with_capacity(x.len() / inputs * units);
    for x in x.chunks_exact(inputs) {
        let mut sums = bias.to_vec();
        for (&v, w) in x.iter().zip(kernel.chunks_exact(units)) {
            sums.iter_mut().zip(w).for_each(|(s, w)| *s += v * w);
        }
        out.extend(sums);
    }
    out
}

/// Gradients of a Dense layer's kernel, bias and inputs.
pub(super) fn dense_back(x: &[f32], kernel: &[f32], dy: &[f32], units: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let inputs = kernel.len() / units;
    let mut dk = vec![0.0; kernel.len()];
    let mut db = vec![0.0; units];
    let mut dx = Vec::with_capacity(x.len());
    for (x, dy) in x.chunks_exact(inputs).zip(dy.chunks_exact(units)) {
        db.iter_mut().zip(dy).for_each(|(b, d)| *b += d);
        for ((&v, w), dk) in x.iter().zip(kernel.chunks_exact(units)).zip(dk.chunks_exact_mut(units)) {
            dk.iter_mut().zip(dy).for_each(|(k, d)| *k += v * d);
            dx.push(w.iter().zip(dy).map(|(w, d)| w * d).sum());
        }
    }
    (dk, db, dx)
}
