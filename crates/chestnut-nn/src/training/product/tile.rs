//! The tile that both products end in: a few rows times up to four vectors of columns, sums in registers.

use super::max_rows;
use crate::simd::{LANES, Simd};

/// Most rows of a tile.
const MAX_ROWS: usize = 8;
/// Most floats of a tile.
const TILE_FLOATS: usize = MAX_ROWS * 4 * LANES;

/// Sums over `steps` of `a[row * a_row + step * a_step]` times a row of vectors.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) a: *const f32,
    pub(super) offsets: &'a [usize],
    pub(super) steps: usize,
    pub(super) a_row: usize,
    pub(super) a_step: usize,
    pub(super) b: *const f32,
    pub(super) b_step: usize,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    pub(super) add: bool,
}

#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const W: usize>(t: &Tile<'_>) {
    unsafe {
        let mut sums = [[S::splat(0.0); W]; R];
        if t.add {
            for (r, row) in sums.iter_mut().enumerate() {
                for (w, sum) in row.iter_mut().enumerate() {
                    *sum = S::load(t.c.add(r * t.c_row + w * LANES));
                }
            }
        }
        let mut b = t.b;
        for &offset in t.offsets {
            let mut a = t.a.add(offset);
            for _ in 0..t.steps {
                let mut row = [S::splat(0.0); W];
                for (w, v) in row.iter_mut().enumerate() {
                    *v = S::load(b.add(w * LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*a.add(r * t.a_row));
                    for w in 0..W {
                        sums[w] = S::fma(x, row[w], sums[w]);
                    }
                }
                a = a.wrapping_add(t.a_step);
                b = b.wrapping_add(t.b_step);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (w, &sum) in row.iter().enumerate() {
                S::store(t.c.add(r * t.c_row + w * LANES), sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile_width<S: Simd, const W: usize>(rows: usize, t: &Tile<'_>) {
    let most = max_rows(S::MAX_WIDTH, W);
    unsafe {
        match rows {
            1 => tile::<S, 1, W>(t),
            2 => tile::<S, 2, W>(t),
            3 => tile::<S, 3, W>(t),
            4 => tile::<S, 4, W>(t),
            5 => tile::<S, 5, W>(t),
            6 => tile::<S, 6, W>(t),
            7 if most >= 7 => tile::<S, 7, W>(t),
            8 if most >= 8 => tile::<S, 8, W>(t),
            _ => unreachable!("a tile of {rows} rows"),
        }
    }
}

/// A tile of which only the first `columns` are to be written.
#[inline(always)]
pub(super) unsafe fn tile_any<S: Simd, const W: usize>(rows: usize, columns: usize, t: &Tile<'_>) {
    unsafe {
        if columns == W * LANES {
            tile_width::<S, W>(rows, t);
            return;
        }
        let mut whole = [0.0_f32; TILE_FLOATS];
        tile_width::<S, W>(rows, &Tile { c: whole.as_mut_ptr(), c_row: W * LANES, add: false, ..*t });
        for r in 0..rows {
            for n in 0..columns {
                let to = t.c.add(r * t.c_row + n);
                *to = whole[r * W * LANES + n] + if t.add { *to } else { 0.0 };
            }
        }
    }
}
