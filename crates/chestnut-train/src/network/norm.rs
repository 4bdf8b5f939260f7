//! Batch statistics, what views do to stored values, and how gradients come back through them.
//!
//! With z = scale * x + shift, scale = gamma / sqrt(variance + epsilon) and batch statistics, the gradient of x is
//! scale * d - scale * mean(d) - scale * xhat * mean(d * xhat) (Ioffe and Szegedy 2015). The first term is added to the
//! root's gradient at once; the others are a constant and a slope in x per channel, kept as [`Pending`] and added when
//! the gradient is read. So no gradient of a normalisation is ever stored.

use super::plan::View;
use chestnut_nn::training::Kernels;

/// Mean and spread of channels over some pixels.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    count: f64,
    mean: Vec<f64>,
    /// Sum of squared distances from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// Of a few rows that are still in the cache.
    pub(super) fn of(k: Kernels, rows: &[f32], row: usize, channels: usize) -> Self {
        let count = rows.len().div_ceil(row);
        let mut mean = vec![0.0; channels];
        k.sum(rows, row, &mut mean);
        mean.iter_mut().for_each(|m| *m /= count as f32);
        let mut squares = vec![0.0; channels];
        k.spread(rows, row, &mean, &mut squares);
        Self {
            count: count as f64,
            mean: mean.into_iter().map(f64::from).collect(),
            squares: squares.into_iter().map(f64::from).collect(),
        }
    }

    /// Joins two parts (Chan, Golub and LeVeque 1983).
    pub(super) fn join(mut self, other: &Self) -> Self {
        if self.mean.is_empty() {
            return other.clone();
        }
        let count = self.count + other.count;
        for c in 0..self.mean.len() {
            let d = other.mean[c] - self.mean[c];
            self.squares[c] += other.squares[c] + d * d * self.count * other.count / count;
            self.mean[c] += d * other.count / count;
        }
        self.count = count;
        self
    }
}

/// Batch statistics of a root's channels.
#[derive(Clone, Debug, Default)]
pub(super) struct Statistics {
    pub(super) count: f64,
    pub(super) mean: Vec<f32>,
    /// Divided by the number of pixels.
    pub(super) variance: Vec<f32>,
}

impl Statistics {
    pub(super) fn new(channels: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; channels], variance: vec![0.0; channels] }
    }

    pub(super) fn set(&mut self, first: usize, moments: &Moments) {
        self.count = moments.count;
        for c in 0..moments.mean.len() {
            self.mean[first + c] = moments.mean[c] as f32;
            self.variance[first + c] = (moments.squares[c] / moments.count) as f32;
        }
    }
}

/// What a view does to each of its channels: max(scale * x + shift, floor).
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) floor: Vec<f32>,
}

impl Affine {
    pub(super) fn identity(view: &View) -> Self {
        let n = view.channels();
        let mut floor = Vec::with_capacity(n);
        for part in &view.parts {
            let low = if part.rectified { 0.0 } else { f32::NEG_INFINITY };
            floor.extend(std::iter::repeat_n(low, part.channels));
        }
        Self { scale: vec![1.0; n], shift: vec![0.0; n], floor }
    }

    pub(super) fn parts(&self) -> [&[f32]; 3] {
        [&self.scale, &self.shift, &self.floor]
    }
}

/// A view with the values it reads.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    /// The root's values.
    pub(super) values: &'a [f32],
    /// Channels of the root.
    pub(super) row: usize,
    /// First channel of the view.
    pub(super) first: usize,
    pub(super) affine: &'a Affine,
}

impl Reader<'_> {
    pub(super) fn channels(&self) -> usize {
        self.affine.scale.len()
    }

    /// Values of `pixels` pixels from `at` on, dense.
    pub(super) fn read(&self, k: Kernels, at: usize, out: &mut [f32]) {
        let from = &self.values[at * self.row + self.first..];
        k.view(from, self.row, self.affine.parts(), out);
    }
}

/// A constant and a slope per channel that a root's gradient still lacks.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) constant: Vec<f32>,
    pub(super) slope: Vec<f32>,
}

impl Pending {
    pub(super) fn new(channels: usize) -> Self {
        Self { constant: vec![0.0; channels], slope: vec![0.0; channels] }
    }
}

/// Sums of d and d * x per channel of a view, over all pixels, in the order of the parts they were computed in.
pub(super) fn total(parts: &[Vec<f32>]) -> Vec<f64> {
    let mut sums = vec![0.0; parts.first().map_or(0, Vec::len)];
    for part in parts {
        for (s, &v) in sums.iter_mut().zip(part) {
            *s += f64::from(v);
        }
    }
    sums
}
