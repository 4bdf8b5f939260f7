//! A bound on the curvature of the linear probe's objective, by which L-BFGS measures gradients.
//!
//! For coordinates Z with a column of ones, Z'Z / 4 + lambda I (without the intercept's) is at least the Hessian wherever one
//! looks (Böhning and Lindsay 1988), and it is the same for all labels. Steps in its measure are usually some dozen where
//! there were a hundred in the coordinates' own; Z'Z, and a factor for each lambda, is what they cost.

use super::dot;
use rayon::prelude::*;

/// Most coordinates, the intercept among them, for which the bound is worth its time, which grows with their third power,
/// and its memory: 32 MB, and as much for each lambda at hand.
const MOST: usize = 2_000;
/// Rows that are turned into columns at a time.
const PORTION: usize = 1_024;

/// Z'Z of a design, from which the bound for each lambda is made.
pub(super) struct Squares {
    size: usize,
    /// Lower triangle, `[row][column]` of `size` columns; the last row is that of the ones.
    table: Vec<f64>,
}

/// The bound for one lambda, as its Cholesky factor: lower triangle, `[row][column]`.
pub(crate) struct Bound {
    size: usize,
    factor: Vec<f64>,
}

impl Squares {
    /// Of coordinates `[row][coordinate]`, `rank` to a row; `None` if there are none or too many.
    pub(super) fn of(coordinates: &[f64], rows: usize, rank: usize) -> Option<Self> {
        let size = rank + 1;
        if rank == 0 || size > MOST {
            return None;
        }
        let mut table = vec![0.0; size * size];
        let mut columns = vec![1.0; size * rows.min(PORTION)];
        for portion in coordinates.chunks(rank * PORTION) {
            // Column by column, so that sums of products run along memory.
            let rows = portion.len() / rank;
            columns[..rank * rows].par_chunks_mut(rows).enumerate().for_each(|(c, column)| {
                column.iter_mut().enumerate().for_each(|(r, value)| *value = portion[r * rank + c]);
            });
            columns[rank * rows..size * rows].fill(1.0);
            let column = |c: usize| &columns[c * rows..][..rows];
            table.par_chunks_mut(size).enumerate().for_each(|(i, line)| {
                line[..=i].iter_mut().enumerate().for_each(|(j, value)| *value += dot(column(i), column(j)));
            });
        }
        Some(Self { size, table })
    }

    /// The bound for one lambda; `None` if rounding leaves no positive pivot.
    pub(super) fn bound(&self, lambda: f64) -> Option<Bound> {
        let size = self.size;
        let mut factor: Vec<f64> = self.table.iter().map(|value| value / 4.0).collect();
        for i in 0..size {
            let (above, line) = factor.split_at_mut(i * size);
            // The intercept is not penalised.
            line[i] += if i + 1 < size { lambda } else { 0.0 };
            for j in 0..i {
                let other = &above[j * size..][..=j];
                line[j] = (line[j] - dot(&line[..j], &other[..j])) / other[j];
            }
            let rest = line[i] - dot(&line[..i], &line[..i]);
            if rest.is_nan() || rest <= 0.0 {
                return None;
            }
            line[i] = rest.sqrt();
        }
        Some(Bound { size, factor })
    }
}

impl Bound {
    /// The vector that the bound turns into this one.
    pub(super) fn solved(&self, image: &[f64]) -> Vec<f64> {
        let mut x = image.to_vec();
        for i in 0..self.size {
            let line = &self.factor[i * self.size..][..=i];
            x[i] = (x[i] - dot(&line[..i], &x[..i])) / line[i];
        }
        for i in (0..self.size).rev() {
            let line = &self.factor[i * self.size..][..=i];
            let (head, tail) = x.split_at_mut(i);
            tail[0] /= line[i];
            head.iter_mut().zip(line).for_each(|(x, l)| *x -= tail[0] * l);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    #[test]
    fn solving_undoes_the_bound() {
        let mut draw = Stream::keyed(2, "bound");
        for (rows, rank) in [(30, 7), (6, 6), (1, 3), (2 * PORTION + 5, 4)] {
            let z: Vec<f64> = (0..rows * rank).map(|_| draw.normal()).collect();
            let squares = Squares::of(&z, rows, rank).expect("few");
            let bound = squares.bound(0.3).expect("positive");
            let x: Vec<f64> = (0..=rank).map(|_| draw.normal()).collect();
            // (Z'Z / 4 + lambda I) x, row by row of Z.
            let mut image: Vec<f64> = (0..=rank).map(|c| if c < rank { 0.3 * x[c] } else { 0.0 }).collect();
            for row in z.chunks_exact(rank) {
                let row: Vec<f64> = row.iter().copied().chain([1.0]).collect();
                let share = dot(&row, &x) / 4.0;
                image.iter_mut().zip(&row).for_each(|(i, z)| *i += share * z);
            }
            assert!(bound.solved(&image).iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-9), "{rows} x {rank}");
        }
        assert!(Squares::of(&vec![0.0; MOST], 1, MOST).is_none() && Squares::of(&[], 3, 0).is_none());
        // Nothing but zeros and no penalty: no pivot is positive.
        assert!(Squares::of(&[0.0; 4], 2, 2).expect("few").bound(0.0).is_none());
    }
}
