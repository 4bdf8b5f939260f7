//! 3x3 convolution with step 1 by Winograd's F(4x4, 3x3): Lavin and Gray, CVPR 2016, arXiv:1509.09308, section 4.3.
//!
//! A tile of 6x6 inputs gives 4x4 outputs with 36 multiplications per input and output channel instead of 144. The
//! transforms below are the paper's matrices B, G and A for the points 0, 1, -1, 2, -2, written as sums. The 36
//! products are matrix products over channels and run in [`super::matmul`].

use crate::simd::{LANES, Simd, isa_fn};

/// Positions of a transformed tile.
pub(crate) const POSITIONS: usize = 36;
/// Output rows and columns of a tile.
pub(crate) const OUTPUT: usize = 4;
/// Input rows and columns of a tile.
const INPUT: usize = 6;

/// Some tiles of one block of channels.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    /// One block of channels: `[image][height][width][16]`.
    pub(crate) plane: *const f32,
    /// Rows of an image.
    pub(crate) height: usize,
    /// Columns of an image.
    pub(crate) width: usize,
    /// Tiles per column of an image.
    pub(crate) tile_rows: usize,
    /// Tiles per row of an image.
    pub(crate) tile_columns: usize,
    /// Rows and columns of zeros around the input (0 or 1).
    pub(crate) border: usize,
    /// First tile, counted over images, tile rows and tile columns.
    pub(crate) first: usize,
    /// Number of tiles.
    pub(crate) count: usize,
    /// Transformed tiles: position 0, first tile; tiles are 16 apart.
    pub(crate) transformed: *mut f32,
    /// Floats from one position to the next.
    pub(crate) position: usize,
}

isa_fn! {
    /// Transforms input tiles into `transformed`.
    ///
    /// # Safety
    /// The pointers must cover what the fields say.
    fn transform_input(tiles: &Tiles) = transform_input_generic
}

#[inline(always)]
unsafe fn transform_input_generic<S: Simd>(tiles: &Tiles) {
    let per_image = tiles.tile_rows * tiles.tile_columns;
    for i in 0..tiles.count {
        let tile = tiles.first + i;
        let (image, rest) = (tile / per_image, tile % per_image);
        let top = (rest / tiles.tile_columns * OUTPUT) as isize - tiles.border as isize;
        let left = (rest % tiles.tile_columns * OUTPUT) as isize - tiles.border as isize;
        let inside =
            top >= 0 && left >= 0 && top as usize + INPUT <= tiles.height && left as usize + INPUT <= tiles.width;
        unsafe {
            let image = tiles.plane.add(image * tiles.height * tiles.width * LANES);
            let zero = S::splat(0.0);
            let mut half = [[zero; INPUT]; INPUT];
            for x in 0..INPUT {
                let mut d = [zero; INPUT];
                for (y, d) in d.iter_mut().enumerate() {
                    let (row, column) = (top + y as isize, left + x as isize);
                    let valid = inside
                        || (row >= 0
                            && column >= 0
                            && (row as usize) < tiles.height
                            && (column as usize) < tiles.width);
                    if valid {
                        *d = S::load(image.offset((row * tiles.width as isize + column) * LANES as isize));
                    }
                }
                let d = input_line::<S>(d);
                for y in 0..INPUT {
                    half[y][x] = d[y];
                }
            }
            for (y, line) in half.iter().enumerate() {
                let d = input_line::<S>(*line);
                for (x, v) in d.iter().enumerate() {
                    S::store(tiles.transformed.add((y * INPUT + x) * tiles.position + i * LANES), *v);
                }
            }
        }
    }
}

/// B^T d.
#[inline(always)]
unsafe fn input_line<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    unsafe {
        let (two, four, minus_four, minus_five) = (S::splat(2.0), S::splat(4.0), S::splat(-4.0), S::splat(-5.0));
        let a = S::fma(minus_four, d[2], d[4]);
        let b = S::fma(minus_four, d[1], d[3]);
        let c = S::sub(d[4], d[2]);
        let e = S::mul(two, S::sub(d[3], d[1]));
        [
            S::fma(four, d[0], S::fma(minus_five, d[2], d[4])),
            S::add(a, b),
            S::sub(a, b),
            S::add(c, e),
            S::sub(c, e),
            S::fma(four, d[1], S::fma(minus_five, d[3], d[5])),
        ]
    }
}

/// Where transformed outputs go.
#[derive(Clone, Copy)]
pub(crate) struct Outputs {
    /// Geometry as for the input; `plane` is unused, `height` and `width` are the output's, `transformed` is read.
    pub(crate) tiles: Tiles,
    /// One block of output channels: `[image][height][width][16]`.
    pub(crate) plane: *mut f32,
    /// One vector added to every pixel.
    pub(crate) bias: *const f32,
    /// Added before the ReLU, laid out as `plane`, or null.
    pub(crate) residual: *const f32,
    /// max(x, 0) at the end.
    pub(crate) relu: bool,
}

isa_fn! {
    /// Transforms products back into output pixels.
    ///
    /// # Safety
    /// The pointers must cover what the fields say; nobody else may touch these tiles of the output meanwhile.
    fn transform_output(outputs: &Outputs) = transform_output_generic
}

#[inline(always)]
unsafe fn transform_output_generic<S: Simd>(outputs: &Outputs) {
    let tiles = &outputs.tiles;
    let per_image = tiles.tile_rows * tiles.tile_columns;
    for i in 0..tiles.count {
        let tile = tiles.first + i;
        let (image, rest) = (tile / per_image, tile % per_image);
        let (top, left) = (rest / tiles.tile_columns * OUTPUT, rest % tiles.tile_columns * OUTPUT);
        unsafe {
            let zero = S::splat(0.0);
            let bias = S::load(outputs.bias);
            let mut half = [[zero; INPUT]; OUTPUT];
            for x in 0..INPUT {
                let mut m = [zero; INPUT];
                for (y, m) in m.iter_mut().enumerate() {
                    *m = S::load(tiles.transformed.add((y * INPUT + x) * tiles.position + i * LANES));
                }
                let m = output_line::<S>(m);
                for y in 0..OUTPUT {
                    half[y][x] = m[y];
                }
            }
            for (y, line) in half.iter().enumerate() {
                if top + y >= tiles.height {
                    break;
                }
                let m = output_line::<S>(*line);
                for (x, v) in m.iter().enumerate() {
                    if left + x < tiles.width {
                        let pixel = ((image * tiles.height + top + y) * tiles.width + left + x) * LANES;
                        let mut v = S::add(*v, bias);
                        if !outputs.residual.is_null() {
                            v = S::add(v, S::load(outputs.residual.add(pixel)));
                        }
                        if outputs.relu {
                            v = S::max(zero, v);
                        }
                        S::store(outputs.plane.add(pixel), v);
                    }
                }
            }
        }
    }
}

/// A^T m.
#[inline(always)]
unsafe fn output_line<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    unsafe {
        let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
        let (sum1, difference1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum2, difference2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(sum1, sum2)),
            S::fma(two, difference2, difference1),
            S::fma(four, sum2, sum1),
            S::add(S::fma(eight, difference2, difference1), m[5]),
        ]
    }
}

/// G g G^T in f64: a 3x3 kernel (row-major) as 36 factors.
pub(crate) fn transform_kernel(g: &[f64; 9]) -> [f64; POSITIONS] {
    const G: [[f64; 3]; 6] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    let mut out = [0.0; POSITIONS];
    for (i, gi) in G.iter().enumerate() {
        for (j, gj) in G.iter().enumerate() {
            for a in 0..3 {
                for b in 0..3 {
                    out[i * INPUT + j] += gi[a] * g[a * 3 + b] * gj[b];
                }
            }
        }
    }
    out
}
