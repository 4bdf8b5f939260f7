//! The hospital's part of a phantom: field, scatter, noise, blur, exposure, film curve, shutters, markers.
//!
//! Every draw here is independent of the labels. The exposure control lets the mean grey of the whole
//! field meet a random target, so that a finding cannot be told from the mean grey value. Hospitals
//! differ in all of it, as two departments do; the numbers are below. Nothing is drawn in the chest.

use chestnut_stats::random::Stream;
use font8x8::legacy::BASIC_LEGACY;

use super::grid::{Area, Frame, at, box_blur, chance, draw, lerp, step};
use super::{Hospital, Shortcut};

/// How a hospital takes and stores its films.
pub(super) struct Practice {
    /// Field width over height with cumulative probability.
    aspects: &'static [(f64, f32)],
    /// Chest units per field height, inverse; 1 shows one unit.
    zoom: (f64, f64),
    tilt_sd: f64,
    /// Off-centre by at most this share of the height, across and down.
    centring: (f64, f64),
    /// Scattered share of the signal in a PA view.
    scatter: f64,
    /// Quantum noise at full signal and 512 px.
    noise: f64,
    /// Blur weight of each neighbour.
    blur: (f64, f64),
    /// Width of the film curve in attenuation units; wide is flat.
    latitude: (f64, f64),
    gamma: (f64, f64),
    /// Mean grey of the field.
    exposure: (f64, f64),
    /// Share of films with shutters in the picture.
    shuttered: f64,
    /// Share with a side letter, and of these in the lower half.
    letter: (f64, f64),
    /// Letter size: one font pixel for so many image pixels.
    letter_unit: usize,
    /// Share of AP films with burnt-in text.
    text: f64,
    /// Stored bits with cumulative probability.
    depths: &'static [(f64, u32)],
    /// Share stored as MONOCHROME1.
    inverted: f64,
    /// Black and white of the stored range.
    stored: (f32, f32),
}

static PRACTICE_A: Practice = Practice {
    aspects: &[(0.75, 0.835), (1.0, 1.0)],
    zoom: (1.055, 1.145),
    tilt_sd: 0.016,
    centring: (0.022, 0.022),
    scatter: 0.13,
    noise: 0.011,
    blur: (0.03, 0.09),
    latitude: (0.40, 0.52),
    gamma: (0.95, 1.2),
    exposure: (0.40, 0.58),
    shuttered: 0.25,
    letter: (0.9, 0.15),
    letter_unit: 150,
    text: 0.0,
    depths: &[(1.0, 12)],
    inverted: 0.0,
    stored: (0.015, 0.94),
};

static PRACTICE_B: Practice = Practice {
    aspects: &[(0.45, 1.0), (0.75, 1.22), (1.0, 0.82)],
    zoom: (1.015, 1.135),
    tilt_sd: 0.028,
    centring: (0.030, 0.022),
    scatter: 0.1625,
    noise: 0.021,
    blur: (0.10, 0.20),
    latitude: (0.46, 0.60),
    gamma: (0.75, 1.0),
    exposure: (0.38, 0.58),
    shuttered: 0.6,
    letter: (0.7, 0.4),
    letter_unit: 220,
    text: 0.7,
    depths: &[(0.6, 10), (1.0, 8)],
    inverted: 0.4,
    stored: (0.03, 0.97),
};

/// AP films are bedside films: nearer, with more scatter and noise.
const AP_ZOOM: f32 = 1.03;
const AP_SCATTER: f32 = 1.7;
const AP_NOISE: f32 = 1.2;
/// Portrait fields are used for tall chests and show a little more.
const PORTRAIT_ZOOM: f32 = 0.965;
/// Shutters cover at most this share at the sides, and at top and bottom.
const SHUTTERS: (f64, f64) = (0.06, 0.05);
/// Reach of scatter in chest units, and pixels per cell of its coarse grid.
const SCATTER_REACH: f32 = 0.05;
const SCATTER_CELL: usize = 8;
/// Direct beam counts for scatter up to this transmission.
const SCATTER_CEILING: f32 = 0.55;
/// Least signal; keeps the logarithm finite.
const DARK_SIGNAL: f32 = 0.004;
/// Side in pixels at which the noise is as stated.
const NOMINAL_SIDE: f32 = 512.0;
/// Grey of burnt-in markers.
const MARKER: f32 = 1.0;
/// Text wider than this share of the film is left out.
const WIDEST_TEXT: f32 = 0.4;

impl Practice {
    /// The practice of a hospital.
    pub(super) fn of(hospital: Hospital) -> &'static Self {
        match hospital {
            Hospital::A => &PRACTICE_A,
            Hospital::B => &PRACTICE_B,
        }
    }

    /// Draws size and position of the field.
    pub(super) fn frame(&self, size: usize, ap: bool, s: &mut Stream) -> Frame {
        let u = s.uniform();
        let aspect = self.aspects.iter().find(|a| u < a.0).map_or(1.0, |a| a.1);
        let long = size as f32;
        let (width, height) = if aspect <= 1.0 {
            ((long * aspect).round() as usize, size)
        } else {
            (size, (long / aspect).round() as usize)
        };
        let (w, h) = (width as f32, height as f32);
        let mut zoom = draw(s, self.zoom);
        if ap {
            zoom *= AP_ZOOM;
        }
        if aspect < 0.9 {
            zoom *= PORTRAIT_ZOOM;
        }
        let (sin, cos) = ((s.normal() * self.tilt_sd) as f32).sin_cos();
        let (across, down) = self.centring;
        let x = w * 0.5 + h * draw(s, (-across, across));
        let y = h * 0.5 + h * draw(s, (-down, down));
        Frame { width, height, scale: h * zoom, centre: at(x, y), turn: (cos, sin) }
    }

    /// Draws bits stored and whether dense is dark.
    pub(super) fn format(&self, s: &mut Stream) -> (u32, bool) {
        let u = s.uniform();
        let bits = self.depths.iter().find(|d| u < d.0).map_or(12, |d| d.1);
        (bits, chance(s, self.inverted))
    }

    /// Exposes and develops: attenuation in, grey values 0 to 1 (bright = dense) out.
    pub(super) fn expose(&self, frame: &Frame, attenuation: &[f32], ap: bool, s: &mut Stream) -> Vec<f32> {
        let relative = frame.width.max(frame.height) as f32 / NOMINAL_SIDE;
        let mut scatter = self.scatter as f32 * draw(s, (0.8, 1.2));
        let mut noise = self.noise as f32 * draw(s, (0.7, 1.35)) * relative.sqrt();
        if ap {
            scatter *= AP_SCATTER;
            noise *= AP_NOISE;
        }
        let mut plane: Vec<f32> = attenuation.iter().map(|a| (-a).exp()).collect();
        let haze = Haze::new(frame, &plane);
        for (k, signal) in plane.iter_mut().enumerate() {
            let (x, y) = (k % frame.width, k / frame.width);
            let mean = lerp(*signal, haze.at(x, y), scatter);
            let seen = mean + noise * mean.sqrt() * quick_normal(s);
            *signal = -seen.max(DARK_SIGNAL).ln();
        }
        // A smaller film averages the detector's blur away.
        soften(&mut plane, frame.width, draw(s, self.blur) * relative.min(1.0));
        let latitude = draw(s, self.latitude);
        let gamma = draw(s, self.gamma);
        let target = draw(s, self.exposure);
        let curve = |value: f32, speed: f32| (1.0 / (1.0 + ((speed - value) / latitude).exp())).powf(gamma);
        // Exposure control over the whole field, by bisection on a sample of its pixels.
        let width = frame.width;
        let sample: Vec<f32> = (0..frame.height)
            .step_by(4)
            .flat_map(move |y| (0..width).step_by(4).map(move |x| y * width + x))
            .map(|k| plane[k])
            .collect();
        let (mut low, mut high) = (-2.0_f32, 6.0_f32);
        for _ in 0..16 {
            let speed = 0.5 * (low + high);
            let sum: f32 = sample.iter().map(|&v| curve(v, speed)).sum();
            if sum > target * sample.len() as f32 {
                low = speed;
            } else {
                high = speed;
            }
        }
        let speed = 0.5 * (low + high);
        for value in &mut plane {
            *value = curve(*value, speed);
        }
        plane
    }

    /// Closes the shutters (black border) on some films; gives the area left open.
    pub(super) fn shutters(&self, frame: &Frame, grey: &mut [f32], s: &mut Stream) -> Area {
        let closed = chance(s, self.shuttered);
        let (sides, ends) = SHUTTERS;
        let (w, h) = (frame.width as f32, frame.height as f32);
        let (left, right) = (w * draw(s, (0.0, sides)), w * draw(s, (0.0, sides)));
        let (top, bottom) = (h * draw(s, (0.0, ends)), h * draw(s, (0.0, ends)));
        if !closed {
            return frame.all();
        }
        for (k, value) in grey.iter_mut().enumerate() {
            let (x, y) = ((k % frame.width) as f32, (k / frame.width) as f32);
            let across = (x - left).min(w - right - 1.0 - x);
            let down = (y - top).min(h - bottom - 1.0 - y);
            *value *= step(-1.5, 1.5, across.min(down));
        }
        Area { x0: left as usize, y0: top as usize, x1: (w - right).ceil() as usize, y1: (h - bottom).ceil() as usize }
    }

    /// Burns in the side letter and, on bedside films, a text.
    pub(super) fn markers(&self, frame: &Frame, grey: &mut [f32], ap: bool, s: &mut Stream) {
        let (w, h) = (frame.width as f32, frame.height as f32);
        let long = frame.width.max(frame.height);
        let unit = (long / self.letter_unit).max(1);
        let right = chance(s, 0.5);
        let low = chance(s, self.letter.1);
        let x = if right { w * draw(s, (0.03, 0.08)) } else { w * draw(s, (0.92, 0.97)) - (8 * unit) as f32 };
        let y = h * draw(s, if low { (0.86, 0.92) } else { (0.04, 0.10) });
        if chance(s, self.letter.0) {
            burn_in(frame, grey, if right { "R" } else { "L" }, (x, y), unit);
        }
        let text = if chance(s, 0.6) { "PORTABLE" } else { "AP SUPINE" };
        let unit = (long / 330).max(1);
        let length = (text.len() * 8 * unit) as f32;
        let x = if chance(s, 0.5) { w * 0.03 } else { w * 0.97 - length };
        let y = h * if chance(s, 0.5) { 0.03 } else { 0.95 };
        if ap && chance(s, self.text) && length < WIDEST_TEXT * w {
            burn_in(frame, grey, text, (x, y), unit);
        }
    }

    /// Grey values to stored values of `bits`, inverted for MONOCHROME1.
    pub(super) fn store(&self, grey: &[f32], bits: u32, inverted: bool) -> Vec<u16> {
        let max = ((1_u32 << bits) - 1) as f32;
        let (black, white) = self.stored;
        grey.iter()
            .map(|&g| {
                let v = (max * lerp(black, white, g.clamp(0.0, 1.0))).round();
                (if inverted { max - v } else { v }) as u16
            })
            .collect()
    }
}

/// Draws the planted shortcut.
pub(super) fn plant(frame: &Frame, grey: &mut [f32]) {
    let [x0, y0, x1, y1] = Shortcut::region(frame.width, frame.height);
    for y in y0..y1 {
        grey[y * frame.width + x0..y * frame.width + x1].fill(MARKER);
    }
}

/// Text in an 8 by 8 font, upper left corner at `place` pixels; what lies outside is cut.
fn burn_in(frame: &Frame, grey: &mut [f32], text: &str, place: (f32, f32), unit: usize) {
    let (left, top) = (place.0.max(0.0) as usize, place.1.max(0.0) as usize);
    for (i, letter) in text.bytes().enumerate() {
        let glyph = BASIC_LEGACY[usize::from(letter & 0x7F)];
        for dy in 0..8 * unit {
            for dx in 0..8 * unit {
                let (x, y) = (left + 8 * unit * i + dx, top + dy);
                let lit = (glyph[dy / unit] >> (dx / unit)) & 1 == 1;
                if lit && x < frame.width && y < frame.height {
                    grey[y * frame.width + x] = MARKER;
                }
            }
        }
    }
}

/// Blurred signal on a coarse grid.
struct Haze {
    width: usize,
    height: usize,
    cells: Vec<f32>,
}

impl Haze {
    fn new(frame: &Frame, signal: &[f32]) -> Self {
        let (width, height) = (frame.width.div_ceil(SCATTER_CELL), frame.height.div_ceil(SCATTER_CELL));
        let mut cells = vec![0.0; width * height];
        let mut counts = vec![0.0_f32; width * height];
        for (k, value) in signal.iter().enumerate() {
            let cell = (k / frame.width / SCATTER_CELL) * width + (k % frame.width) / SCATTER_CELL;
            cells[cell] += value.min(SCATTER_CEILING);
            counts[cell] += 1.0;
        }
        for (cell, count) in cells.iter_mut().zip(&counts) {
            *cell /= count.max(1.0);
        }
        let radius = ((SCATTER_REACH * frame.scale / SCATTER_CELL as f32).round() as usize).max(1);
        for _ in 0..3 {
            box_blur(&mut cells, width, height, radius);
        }
        Self { width, height, cells }
    }

    /// Bilinear value at a pixel.
    fn at(&self, x: usize, y: usize) -> f32 {
        let place = |v: usize, n: usize| {
            let p = ((v as f32 + 0.5) / SCATTER_CELL as f32 - 0.5).clamp(0.0, n as f32 - 1.0);
            let low = p as usize;
            (low, (low + 1).min(n - 1), p - low as f32)
        };
        let (x0, x1, tx) = place(x, self.width);
        let (y0, y1, ty) = place(y, self.height);
        let row = |y: usize| lerp(self.cells[y * self.width + x0], self.cells[y * self.width + x1], tx);
        lerp(row(y0), row(y1), ty)
    }
}

/// About standard normal from one draw: the sum of four 16 bit uniforms.
fn quick_normal(s: &mut Stream) -> f32 {
    let r = s.next_u64();
    let sum = (r & 0xFFFF) + ((r >> 16) & 0xFFFF) + ((r >> 32) & 0xFFFF) + (r >> 48);
    (sum as f32 / 65536.0 - 2.0) * 3.0_f32.sqrt()
}

/// Blurs with (weight, 1 - 2 weight, weight) along rows, then along columns.
fn soften(plane: &mut [f32], width: usize, weight: f32) {
    let centre = 1.0 - 2.0 * weight;
    let old = plane.to_vec();
    for (row, out) in old.chunks_exact(width).zip(plane.chunks_exact_mut(width)) {
        for (x, value) in out.iter_mut().enumerate() {
            *value = centre * row[x] + weight * (row[x.saturating_sub(1)] + row[(x + 1).min(width - 1)]);
        }
    }
    let old = plane.to_vec();
    let last = old.len() - width;
    for (k, value) in plane.iter_mut().enumerate() {
        let above = if k < width { k } else { k - width };
        let below = if k >= last { k } else { k + width };
        *value = centre * old[k] + weight * (old[above] + old[below]);
    }
}
