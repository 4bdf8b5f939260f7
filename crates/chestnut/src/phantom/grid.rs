//! Drawing tools of the phantom: chest coordinates, smooth curves, tapering strokes, noise, blur.
//!
//! Chest coordinates have x = 0 at the midline (positive towards image right, the patient's left)
//! and y down; one unit is about the height of the field. Everything is drawn with soft edges, since
//! a radiograph is a projection. Nothing here knows anatomy.

use chestnut_stats::random::{Stream, mix};

/// Chest y that lies at the centre of an untranslated field.
const CENTRE_Y: f32 = 0.462;
/// Thinnest stroke radius in pixels; thinner ones would flicker between pixels.
const MIN_RADIUS_PX: f32 = 0.45;
/// Cells of a tabulated curve.
const CURVE_CELLS: usize = 128;
/// "Not touched yet" in the stroke buffer.
const FAR: f32 = 1.0e9;

/// A place in chest coordinates (or in pixels where said so).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f32,
    pub(super) y: f32,
}

/// A point from its coordinates.
pub(super) const fn at(x: f32, y: f32) -> Point {
    Point { x, y }
}

/// Straight line between distances, 0 at `t` = 0.
pub(super) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Smooth step from 0 at `from` to 1 at `to`; `from` may be the larger one.
pub(super) fn step(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Thickness of a rounded body at relative depth `d` (0 rim, 1 full).
pub(super) fn rounded(d: f32) -> f32 {
    let d = d.clamp(0.0, 1.0);
    (d * (2.0 - d)).sqrt()
}

/// Length of (x, y).
pub(super) fn norm(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// Uniform draw from a range of constants.
pub(super) fn draw(stream: &mut Stream, range: (f64, f64)) -> f32 {
    stream.range(range.0, range.1) as f32
}

/// True with probability `p`.
pub(super) fn chance(stream: &mut Stream, p: f64) -> bool {
    stream.uniform() < p
}

/// -1 or 1: the patient's right (image left) or left.
pub(super) fn either_side(stream: &mut Stream, right: f64) -> f32 {
    if chance(stream, right) { -1.0 } else { 1.0 }
}

/// A smooth function through knots, tabulated for speed; constant beyond its ends.
pub(super) struct Curve {
    low: f32,
    cells_per_unit: f32,
    values: Vec<f32>,
}

impl Curve {
    /// Cubic Hermite through (x, y) knots with rising x, at least two.
    pub(super) fn through(knots: &[(f32, f32)]) -> Self {
        let last = knots.len() - 1;
        let slopes: Vec<f32> = (0..knots.len())
            .map(|i| {
                let (a, b) = (knots[i.saturating_sub(1)], knots[(i + 1).min(last)]);
                (b.1 - a.1) / (b.0 - a.0)
            })
            .collect();
        let low = knots[0].0;
        let cells_per_unit = CURVE_CELLS as f32 / (knots[last].0 - low);
        let mut left = 0;
        let mut values = Vec::with_capacity(CURVE_CELLS + 1);
        for cell in 0..=CURVE_CELLS {
            let x = low + cell as f32 / cells_per_unit;
            while left + 2 < knots.len() && x > knots[left + 1].0 {
                left += 1;
            }
            let (a, b) = (knots[left], knots[left + 1]);
            let h = b.0 - a.0;
            let t = ((x - a.0) / h).clamp(0.0, 1.0);
            let (t2, t3) = (t * t, t * t * t);
            values.push(
                (2.0 * t3 - 3.0 * t2 + 1.0) * a.1
                    + (t3 - 2.0 * t2 + t) * h * slopes[left]
                    + (3.0 * t2 - 2.0 * t3) * b.1
                    + (t3 - t2) * h * slopes[left + 1],
            );
        }
        Self { low, cells_per_unit, values }
    }

    /// The curve at `x`.
    pub(super) fn at(&self, x: f32) -> f32 {
        let p = ((x - self.low) * self.cells_per_unit).clamp(0.0, CURVE_CELLS as f32 - 0.001);
        let cell = p as usize;
        lerp(self.values[cell], self.values[cell + 1], p - cell as f32)
    }
}

/// Points along a Catmull-Rom spline through `knots`, `per` points for each span.
pub(super) fn smooth(knots: &[Point], per: usize) -> Vec<Point> {
    let last = knots.len() - 1;
    let mut points = Vec::with_capacity(last * per + 1);
    for i in 0..last {
        let (a, b) = (knots[i.saturating_sub(1)], knots[i]);
        let (c, d) = (knots[i + 1], knots[(i + 2).min(last)]);
        for j in 0..per {
            let t = j as f32 / per as f32;
            let blend = |a: f32, b: f32, c: f32, d: f32| {
                0.5 * (2.0 * b
                    + (c - a) * t
                    + (2.0 * a - 5.0 * b + 4.0 * c - d) * t * t
                    + (3.0 * b - a - 3.0 * c + d) * t * t * t)
            };
            points.push(at(blend(a.x, b.x, c.x, d.x), blend(a.y, b.y, c.y, d.y)));
        }
    }
    points.push(knots[last]);
    points
}

/// Pixels x0..x1, y0..y1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x0: usize,
    pub(super) y0: usize,
    pub(super) x1: usize,
    pub(super) y1: usize,
}

/// The field: how pixels lie in the chest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Pixels per chest unit.
    pub(super) scale: f32,
    /// Pixel position of the chest point (0, [`CENTRE_Y`]).
    pub(super) centre: Point,
    /// Cosine and sine of the tilt.
    pub(super) turn: (f32, f32),
}

impl Frame {
    /// Chest coordinates of a pixel's centre.
    pub(super) fn chest(&self, px: usize, py: usize) -> Point {
        let x = px as f32 + 0.5 - self.centre.x;
        let y = py as f32 + 0.5 - self.centre.y;
        let (cos, sin) = self.turn;
        at((x * cos + y * sin) / self.scale, CENTRE_Y + (y * cos - x * sin) / self.scale)
    }

    /// Pixel coordinates (0 = centre of the first pixel) of a chest point.
    pub(super) fn pixel(&self, p: Point) -> Point {
        let (x, y) = (p.x * self.scale, (p.y - CENTRE_Y) * self.scale);
        let (cos, sin) = self.turn;
        at(x * cos - y * sin + self.centre.x - 0.5, x * sin + y * cos + self.centre.y - 0.5)
    }

    /// The whole field.
    pub(super) fn all(&self) -> Area {
        Area { x0: 0, y0: 0, x1: self.width, y1: self.height }
    }

    /// Pixels within `margin` chest units of the bounding box of `points`.
    pub(super) fn around(&self, points: &[Point], margin: f32) -> Area {
        let (mut low, mut high) = (at(FAR, FAR), at(-FAR, -FAR));
        for &point in points {
            let p = self.pixel(point);
            low = at(low.x.min(p.x), low.y.min(p.y));
            high = at(high.x.max(p.x), high.y.max(p.y));
        }
        let m = margin * self.scale + 1.5;
        let (w, h) = (self.width as f32, self.height as f32);
        // Casting a clamped, non-negative float is exact here.
        Area {
            x0: (low.x - m).floor().clamp(0.0, w) as usize,
            y0: (low.y - m).floor().clamp(0.0, h) as usize,
            x1: ((high.x + m).ceil() + 1.0).clamp(0.0, w) as usize,
            y1: ((high.y + m).ceil() + 1.0).clamp(0.0, h) as usize,
        }
    }

    /// Calls `each` with the pixel's index and chest coordinates, row by row.
    pub(super) fn visit(&self, area: Area, mut each: impl FnMut(usize, Point)) {
        for y in area.y0..area.y1 {
            for x in area.x0..area.x1 {
                each(y * self.width + x, self.chest(x, y));
            }
        }
    }

    /// Calls `each` with index and relative distance (0 to 1) of the pixels of a disc.
    pub(super) fn disc(&self, centre: Point, radius: f32, mut each: impl FnMut(usize, f32)) {
        let radius = radius.max(0.75 / self.scale);
        self.visit(self.around(&[centre], radius), |k, p| {
            let d = norm(p.x - centre.x, p.y - centre.y) / radius;
            if d < 1.0 {
                each(k, d);
            }
        });
    }

    /// Index of the pixel nearest to a chest point.
    pub(super) fn nearest(&self, p: Point) -> usize {
        let q = self.pixel(p);
        let x = q.x.round().clamp(0.0, self.width as f32 - 1.0) as usize;
        let y = q.y.round().clamp(0.0, self.height as f32 - 1.0) as usize;
        y * self.width + x
    }
}

/// A frame with the scratch planes that strokes need.
pub(super) struct Canvas {
    pub(super) frame: Frame,
    nearest: Vec<f32>,
    along: Vec<f32>,
}

impl Canvas {
    /// An empty canvas.
    pub(super) fn new(frame: Frame) -> Self {
        let pixels = frame.width * frame.height;
        Self { frame, nearest: vec![FAR; pixels], along: vec![0.0; pixels] }
    }

    /// Visits the pixels of a polyline whose radius tapers from `radii.0` to `radii.1` once each, with
    /// (index, distance in radii below `reach`, position along the line 0 to 1).
    pub(super) fn stroke(
        &mut self,
        points: &[Point],
        radii: (f32, f32),
        reach: f32,
        mut each: impl FnMut(usize, f32, f32),
    ) {
        if points.len() < 2 {
            return;
        }
        let frame = self.frame;
        let thinnest = MIN_RADIUS_PX / frame.scale;
        let margin = radii.0.max(radii.1).max(thinnest) * reach;
        let length: f32 = points.windows(2).map(|p| norm(p[1].x - p[0].x, p[1].y - p[0].y)).sum();
        let length = length.max(1.0e-6);
        let mut done = 0.0;
        for pair in points.windows(2) {
            let (a, b) = (frame.pixel(pair[0]), frame.pixel(pair[1]));
            let t0 = done / length;
            done += norm(pair[1].x - pair[0].x, pair[1].y - pair[0].y);
            let t1 = done / length;
            let (dx, dy) = (b.x - a.x, b.y - a.y);
            let squared = (dx * dx + dy * dy).max(1.0e-9);
            let area = frame.around(pair, margin);
            for y in area.y0..area.y1 {
                for x in area.x0..area.x1 {
                    let (px, py) = (x as f32 - a.x, y as f32 - a.y);
                    let s = ((px * dx + py * dy) / squared).clamp(0.0, 1.0);
                    let t = lerp(t0, t1, s);
                    let radius = lerp(radii.0, radii.1, t).max(thinnest) * frame.scale;
                    let d = norm(px - s * dx, py - s * dy) / radius;
                    let k = y * frame.width + x;
                    if d < self.nearest[k] {
                        self.nearest[k] = d;
                        self.along[k] = t;
                    }
                }
            }
        }
        let area = frame.around(points, margin);
        for y in area.y0..area.y1 {
            for x in area.x0..area.x1 {
                let k = y * frame.width + x;
                if self.nearest[k] < reach {
                    each(k, self.nearest[k], self.along[k]);
                }
                self.nearest[k] = FAR;
            }
        }
    }
}

/// A lattice value in [-1, 1).
fn lattice(key: u64, x: i32, y: i32) -> f32 {
    let cell = (u64::from(x as u32) << 32) | u64::from(y as u32);
    (mix(key ^ cell) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
}

/// Smooth value noise in [-1, 1], one lattice cell per unit.
pub(super) fn value_noise(key: u64, x: f32, y: f32) -> f32 {
    let (fx, fy) = (x.floor(), y.floor());
    let (ix, iy) = (fx as i32, fy as i32);
    let (tx, ty) = (step(0.0, 1.0, x - fx), step(0.0, 1.0, y - fy));
    let upper = lerp(lattice(key, ix, iy), lattice(key, ix + 1, iy), tx);
    let lower = lerp(lattice(key, ix, iy + 1), lattice(key, ix + 1, iy + 1), tx);
    lerp(upper, lower, ty)
}

/// Value noise summed over octaves of halving size and weight, in [-1, 1].
pub(super) fn fractal(key: u64, x: f32, y: f32, octaves: u32) -> f32 {
    let (mut sum, mut weight, mut total, mut zoom) = (0.0, 1.0, 0.0, 1.0);
    for octave in 0..octaves {
        sum += weight * value_noise(key.wrapping_add(u64::from(octave) * 77), x * zoom, y * zoom);
        total += weight;
        weight *= 0.5;
        zoom *= 2.0;
    }
    sum / total
}

/// One pass of a box blur of half-width `radius` in both directions; borders repeat.
pub(super) fn box_blur(plane: &mut [f32], width: usize, height: usize, radius: usize) {
    if radius == 0 || width == 0 || height == 0 {
        return;
    }
    let share = 1.0 / (2 * radius + 1) as f32;
    let mut line = Vec::with_capacity(width.max(height));
    for y in 0..height {
        line.clear();
        line.extend_from_slice(&plane[y * width..(y + 1) * width]);
        for x in 0..width {
            plane[y * width + x] = window_sum(&line, x, radius) * share;
        }
    }
    for x in 0..width {
        line.clear();
        line.extend((0..height).map(|y| plane[y * width + x]));
        for y in 0..height {
            plane[y * width + x] = window_sum(&line, y, radius) * share;
        }
    }
}

/// Sum over a window whose ends repeat the border; the planes blurred are coarse, so no running sum.
fn window_sum(line: &[f32], centre: usize, radius: usize) -> f32 {
    let last = line.len() - 1;
    (0..=2 * radius).map(|i| line[(centre + i).saturating_sub(radius).min(last)]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame { width: 40, height: 60, scale: 60.0, centre: at(20.0, 30.0), turn: (0.8, 0.6) }
    }

    #[test]
    fn pixels_and_chest_are_inverse() {
        let f = frame();
        for (x, y) in [(0, 0), (39, 59), (7, 31)] {
            let p = f.pixel(f.chest(x, y));
            assert!((p.x - x as f32).abs() < 1e-3 && (p.y - y as f32).abs() < 1e-3, "{p:?}");
            assert_eq!(f.nearest(f.chest(x, y)), y * f.width + x);
        }
    }

    #[test]
    fn curve_meets_its_knots() {
        let c = Curve::through(&[(0.0, 1.0), (0.5, 2.0), (1.0, 0.0)]);
        for (x, y) in [(-1.0, 1.0), (0.0, 1.0), (0.5, 2.0), (1.0, 0.0), (9.0, 0.0)] {
            assert!((c.at(x) - y).abs() < 1e-2, "{x}: {}", c.at(x));
        }
    }

    #[test]
    fn stroke_visits_each_pixel_once_and_leaves_no_trace() {
        let mut canvas = Canvas::new(frame());
        let line = smooth(&[at(-0.1, 0.4), at(0.1, 0.45), at(0.05, 0.6)], 5);
        for _ in 0..2 {
            let mut hits = vec![0_u8; 40 * 60];
            canvas.stroke(&line, (0.03, 0.01), 1.5, |k, d, t| {
                assert!(d < 1.5 && (0.0..=1.0).contains(&t));
                hits[k] += 1;
            });
            assert_eq!(hits.iter().max(), Some(&1));
        }
    }

    #[test]
    fn blur_keeps_a_constant_and_spreads_a_point() {
        let mut flat = vec![3.0; 12];
        box_blur(&mut flat, 4, 3, 2);
        assert!(flat.iter().all(|v| (v - 3.0).abs() < 1e-5));
        let mut point = vec![0.0; 49];
        point[24] = 9.0;
        box_blur(&mut point, 7, 7, 1);
        assert!((point[24] - 1.0).abs() < 1e-5 && (point[16] - 1.0).abs() < 1e-5 && point[0].abs() < 1e-6);
    }
}
