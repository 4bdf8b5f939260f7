//! Findings of lung and pleura: opacities, pneumothorax, effusion, pleural thickening.
//!
//! Each is drawn the way a radiologist knows it, with a conspicuity from 0 (subtle) to 1 (obvious), so
//! that AUCs do not all reach 1. Masks follow the smooth support of a finding, not its texture.
//! Heart, bones and devices have their own files; nothing here touches the exposure.

use chestnut_stats::random::Stream;

use super::anatomy::Anatomy;
use super::grid::{
    Canvas, Frame, Point, at, chance, draw, either_side, fractal, lerp, norm, smooth, step, value_noise,
};
use super::lungs::hilum;

// Attenuation, least to most conspicuous.
const CONSOLIDATION: (f32, f32) = (0.34, 0.95);
const OEDEMA: (f32, f32) = (0.22, 0.62);
const NODULE: (f32, f32) = (0.34, 0.78);
const BAND: (f32, f32) = (0.32, 0.72);
const EFFUSION: (f32, f32) = (0.95, 1.15);
const PNX_AIR: f32 = 0.13;
const PLEURAL_LINE: f32 = 0.20;
const THICKENING: f32 = 0.52;
const CALCIFICATION: f32 = 0.5;
/// Kinds of opacity: cumulative shares of consolidation, oedema and nodules; the rest are bands.
const OPACITY_KINDS: [f64; 3] = [0.42, 0.66, 0.84];
/// Radius of a consolidation and of a single nodule, in chest units.
const CONSOLIDATION_RADIUS: (f64, f64) = (0.05, 0.105);
const NODULE_RADIUS: (f64, f64) = (0.02, 0.055);
/// How far the lung shrinks towards the hilum in a pneumothorax, as a share, subtle to obvious.
const COLLAPSE: (f32, f32) = (0.07, 0.26);
/// Share of pneumothoraces that stay apical.
const APICAL_SHARE: f64 = 0.6;
/// An obvious pneumothorax pushes the mediastinum; above this conspicuity, by this much per unit.
const PUSH: (f32, f32) = (0.7, 0.10);
/// Rise of the fluid level between a blunted angle and a large effusion, in chest units.
const FLUID: (f32, f32) = (0.03, 0.26);
/// Shares of pleural thickening, calcified thickening, apical caps, and of disease on both sides.
const THICK_SHARE: f64 = 0.2;
const CALCIFIED_SHARE: f64 = 0.4;
const CAP_SHARE: f64 = 0.3;
const BOTH_SHARE: f64 = 0.35;
/// Support above which a pixel belongs to the mask of an opacity.
pub(super) const MASK_SUPPORT: f32 = 0.35;

/// Opacities of the lung, still to be masked by the air that they replace.
pub(super) struct Opacity {
    /// Attenuation with texture.
    pub(super) amount: Vec<f32>,
    /// Smooth support 0 to 1, for the mask.
    pub(super) support: Vec<f32>,
    /// Septal (Kerley B) lines.
    pub(super) lines: Vec<f32>,
    /// A place within the finding.
    pub(super) focus: Point,
}

/// A place in the lung with room around it and not behind the heart.
fn place(a: &Anatomy, s: &mut Stream, side: f32, heights: (f32, f32), room: f32) -> Point {
    let mut best = (f32::NEG_INFINITY, at(side * 0.2, 0.4));
    for _ in 0..24 {
        let y = draw(s, (f64::from(heights.0), f64::from(heights.1)));
        let x = side * draw(s, (0.06, 0.31));
        let free = a.lung_inside(side, x, y).min(room - a.heart.inside(x, y));
        if free > best.0 {
            best = (free, at(x, y));
        }
        if free > room {
            break;
        }
    }
    best.1
}

/// Draws one kind of opacity.
pub(super) fn opacity(canvas: &mut Canvas, a: &Anatomy, s: &mut Stream, conspicuity: f32) -> Opacity {
    let pixels = canvas.frame.width * canvas.frame.height;
    let mut o = Opacity {
        amount: vec![0.0; pixels],
        support: vec![0.0; pixels],
        lines: vec![0.0; pixels],
        focus: at(0.2, 0.4),
    };
    let kind = s.uniform();
    let side = either_side(s, 0.55);
    if kind < OPACITY_KINDS[0] {
        consolidations(canvas, a, s, conspicuity, &mut o, side);
    } else if kind < OPACITY_KINDS[1] {
        oedema(canvas, a, s, conspicuity, &mut o);
    } else if kind < OPACITY_KINDS[2] {
        nodules(canvas.frame, a, s, conspicuity, &mut o, side);
    } else {
        bands(canvas, a, s, conspicuity, &mut o, side);
    }
    o
}

/// One or two patches with soft noisy edges and dark branching airways in them.
fn consolidations(canvas: &mut Canvas, a: &Anatomy, s: &mut Stream, conspicuity: f32, o: &mut Opacity, side: f32) {
    let key = s.next_u64();
    let count = if chance(s, 0.35) { 2 } else { 1 };
    let mut side = side;
    for i in 0..count {
        let heights = if chance(s, 0.65) { (0.48, a.dome_top(side) - 0.01) } else { (0.22, 0.46) };
        let centre = place(a, s, side, heights, 0.035);
        let radius = draw(s, CONSOLIDATION_RADIUS) * (0.75 + 0.35 * conspicuity);
        let wide = radius * draw(s, (0.9, 1.35));
        let amount = lerp(CONSOLIDATION.0, CONSOLIDATION.1, conspicuity);
        let key = key.wrapping_add(i);
        let frame = canvas.frame;
        frame.visit(frame.around(&[centre], wide.max(radius) * 1.9), |k, p| {
            let edge = 0.5 * fractal(key, p.x * 16.0, p.y * 16.0, 4);
            let d = norm((p.x - centre.x) / wide, (p.y - centre.y) / radius) + edge;
            let t = step(1.25, 0.30, d);
            if t > 0.0 {
                let texture = 0.85 + 0.40 * fractal(key ^ 5, p.x * 38.0, p.y * 38.0, 3);
                o.amount[k] = o.amount[k].max(amount * t * texture);
                o.support[k] = o.support[k].max(t);
            }
        });
        let root = hilum(a, side);
        let away = (centre.y - root.y).atan2(centre.x - root.x);
        for turn in [-0.35, 0.0, 0.35] {
            let direction = away + turn;
            let step_from =
                |angle: f32, length: f32| at(centre.x + angle.cos() * length, centre.y + angle.sin() * length);
            let start = step_from(direction, -0.7 * radius);
            let end = step_from(direction + 0.1, 0.65 * radius);
            let airway = [start, step_from(direction, 0.05 * radius), end];
            canvas.stroke(&airway, (0.0036, 0.0020), 1.5, |k, d, _| {
                o.amount[k] *= 1.0 - 0.34 * step(1.5, 0.3, d);
            });
        }
        o.focus = centre;
        if chance(s, 0.3) {
            side = -side;
        }
    }
}

/// Hazy, reticular opacity on both sides, perihilar or basal, with septal lines at the wall.
fn oedema(canvas: &mut Canvas, a: &Anatomy, s: &mut Stream, conspicuity: f32, o: &mut Opacity) {
    let key = s.next_u64();
    let amount = lerp(OEDEMA.0, OEDEMA.1, conspicuity);
    let perihilar = chance(s, 0.6);
    let (height, spread, flat) = if perihilar { (0.47, 0.20, 1.0) } else { (0.60, 0.17, 0.35) };
    let frame = canvas.frame;
    frame.visit(frame.all(), |k, p| {
        let (dx, dy) = ((p.x.abs() - 0.10) / 0.19, (p.y - height) / spread);
        let g = (-(dx * dx * flat + dy * dy)).exp();
        if g < 0.02 {
            return;
        }
        let net = |key: u64, zoom: f32| (1.0 - 2.6 * value_noise(key, p.x * zoom, p.y * zoom).abs()).max(0.0);
        let texture = 0.72
            + 0.55 * fractal(key, p.x * 26.0, p.y * 26.0, 3)
            + 0.22 * net(key ^ 9, 75.0)
            + 0.16 * net(key ^ 19, 120.0);
        o.amount[k] = amount * g * texture.clamp(0.0, 1.5);
        o.support[k] = g;
    });
    for side in [-1.0, 1.0] {
        for i in 0..9_u8 {
            let y = a.dome_top(side) + 0.07 - 0.016 * f32::from(i);
            let wall = a.outer.at(y) - 0.004;
            let inner = wall - draw(s, (0.014, 0.028));
            let septum = [at(side * wall, y), at(side * inner, y + draw(s, (-0.003, 0.003)))];
            canvas.stroke(&septum, (0.0012, 0.0010), 1.6, |k, d, _| {
                o.lines[k] += 0.55 * amount * step(1.6, 0.4, d);
            });
        }
    }
    o.focus = at(-0.12, height);
}

/// One round mass or several nodules, a little lobulated.
fn nodules(frame: Frame, a: &Anatomy, s: &mut Stream, conspicuity: f32, o: &mut Opacity, side: f32) {
    let count = if chance(s, 0.7) { 1 } else { 2 + s.below(3) };
    let amount = lerp(NODULE.0, NODULE.1, conspicuity);
    for _ in 0..count {
        let there = side * either_side(s, 0.5);
        let centre = place(a, s, there, (0.2, a.dome_top(there) - 0.02), 0.03);
        let radius =
            if count > 1 { draw(s, (0.014, 0.028)) } else { draw(s, NODULE_RADIUS) * (0.7 + 0.4 * conspicuity) };
        let key = s.next_u64();
        let phase = draw(s, (0.0, 6.0));
        frame.visit(frame.around(&[centre], radius * 1.5), |k, p| {
            let (dx, dy) = (p.x - centre.x, p.y - centre.y);
            let angle = dy.atan2(dx);
            let lobes = 0.05 * (2.0 * angle + phase).sin() + 0.03 * (5.0 * angle).sin();
            let d = norm(dx, dy) / radius + lobes + 0.06 * value_noise(key, p.x * 60.0, p.y * 60.0);
            if d < 1.05 {
                let t = step(1.05, 0.85, d);
                o.amount[k] = o.amount[k].max(amount * t * (1.0 - 0.6 * d * d).max(0.1).sqrt());
                o.support[k] = o.support[k].max(t);
            }
        });
        o.focus = centre;
    }
}

/// Band (plate) atelectasis above a dome.
fn bands(canvas: &mut Canvas, a: &Anatomy, s: &mut Stream, conspicuity: f32, o: &mut Opacity, side: f32) {
    let count = 1 + s.below(3);
    let dome = a.dome_top(side);
    let centre = place(a, s, side, (dome - 0.11, dome - 0.03), 0.06);
    let amount = lerp(BAND.0, BAND.1, conspicuity);
    for i in 0..count {
        let half = 0.5 * draw(s, (0.09, 0.17));
        let (sin, cos) = draw(s, (-0.35, 0.35)).sin_cos();
        let y = centre.y - 0.026 * i as f32;
        let line = smooth(
            &[
                at(centre.x - cos * half, y - sin * half),
                at(centre.x, y + draw(s, (-0.008, 0.008))),
                at(centre.x + cos * half, y + sin * half),
            ],
            6,
        );
        canvas.stroke(&line, (draw(s, (0.003, 0.009)), 0.0025), 1.5, |k, d, t| {
            let profile = step(1.5, 0.4, d) * step(0.0, 0.12, t) * step(1.0, 0.85, t);
            o.amount[k] = o.amount[k].max(amount * profile);
            o.support[k] = o.support[k].max(profile);
        });
    }
    o.focus = centre;
}

/// A pneumothorax: the lung shrinks towards its hilum.
pub(super) struct Pneumothorax {
    side: f32,
    depth: f32,
    /// Depth along the lateral wall relative to the apex.
    lateral: f32,
    conspicuity: f32,
}

impl Pneumothorax {
    /// Draws side and size.
    pub(super) fn new(s: &mut Stream, conspicuity: f32) -> Self {
        let side = either_side(s, 0.5);
        let lateral = if chance(s, APICAL_SHARE) { draw(s, (0.0, 0.25)) } else { draw(s, (0.4, 0.9)) };
        let t = conspicuity * (0.3 + 0.7 * conspicuity);
        Self { side, depth: lerp(COLLAPSE.0, COLLAPSE.1, t), lateral, conspicuity }
    }

    /// Shift of the mediastinum away from the air.
    pub(super) fn push(&self) -> f32 {
        -self.side * PUSH.1 * (self.conspicuity - PUSH.0).max(0.0)
    }

    /// About the distance to the border of the collapsed lung, positive inside.
    fn collapsed(&self, a: &Anatomy, p: Point) -> f32 {
        let (x0, y0) = (a.shift + self.side * 0.06, a.apex + 0.34);
        let top = step(y0 + 0.16, a.apex + 0.03, p.y);
        let wall = self.lateral * step(a.apex, y0, p.y);
        let base = if p.y < y0 { 1.0 } else { step(a.bottom, y0, p.y) };
        let k = 1.0 - self.depth * top.max(wall) * base;
        a.lung_inside(self.side, x0 + (p.x - x0) / k, y0 + (p.y - y0) / k)
    }

    /// Darkens the space, draws the pleural line, erases markings (`kept` is multiplied) and fills `mask`;
    /// gives a place within the space.
    pub(super) fn paint(
        &self,
        frame: Frame,
        a: &Anatomy,
        inside: &[f32],
        attenuation: &mut [f32],
        kept: &mut [f32],
        mask: &mut [u8],
    ) -> Point {
        let line_width = (0.8 / frame.scale).max(0.0020);
        frame.visit(frame.all(), |k, p| {
            let within = inside[k];
            if within < -0.004 || (p.x < 0.0) != (self.side < 0.0) {
                return;
            }
            let collapsed = self.collapsed(a, p);
            let apart = within - collapsed;
            if apart < 0.0015 {
                return;
            }
            let gone = step(0.003, -0.003, collapsed);
            let open = step(0.0015, 0.008, apart) * step(-0.003, 0.003, within);
            let line = step(2.2 * line_width, 0.5 * line_width, collapsed.abs()) * open;
            kept[k] *= 1.0 - gone * open;
            attenuation[k] += PLEURAL_LINE * (0.6 + 0.4 * self.conspicuity) * line - PNX_AIR * gone * open
                + 0.06 * (1.0 - gone) * step(0.0, 0.03, apart) * open;
            if gone * open > 0.5 && within > 0.0 {
                mask[k] = 255;
            }
        });
        at(self.side * 0.42 * a.half, a.apex + 0.008)
    }
}

/// Planes that pleural disease changes.
pub(super) struct PleuralPlanes<'a> {
    /// Lung depth, read only.
    pub(super) inside: &'a [f32],
    /// Attenuation, fluid is added.
    pub(super) attenuation: &'a mut [f32],
    /// Air, replaced by fluid.
    pub(super) air: &'a mut [f32],
    /// The true mask.
    pub(super) mask: &'a mut [u8],
}

/// Draws effusion (meniscus) or thickening on one or both sides; gives a place within it.
pub(super) fn pleura(
    frame: Frame,
    a: &Anatomy,
    s: &mut Stream,
    conspicuity: f32,
    planes: &mut PleuralPlanes<'_>,
) -> Point {
    let thick = chance(s, THICK_SHARE);
    let both = chance(s, BOTH_SHARE);
    let first = either_side(s, 0.5);
    let key = s.next_u64();
    if thick {
        thickening(frame, a, s, conspicuity, planes, first);
        if both {
            thickening(frame, a, s, conspicuity, planes, -first);
        }
        return at(first * (a.outer.at(0.45) - 0.004), 0.45);
    }
    effusion(frame, a, conspicuity * draw(s, (0.7, 1.0)), planes, first, key);
    if both {
        effusion(frame, a, conspicuity * draw(s, (0.7, 1.0)), planes, -first, key);
    }
    let y = a.dome_top(first) + 0.06;
    at(first * (a.outer.at(y) - 0.008), y)
}

/// Fluid that blunts the angle and rises along the wall, concave upwards.
fn effusion(frame: Frame, a: &Anatomy, severity: f32, planes: &mut PleuralPlanes<'_>, side: f32, key: u64) {
    let level = a.dome_top(side) + 0.075 - lerp(FLUID.0, FLUID.1, severity * severity);
    let rise = lerp(0.035, 0.085, severity);
    let wall = a.outer.at(level);
    frame.visit(frame.all(), |k, p| {
        let within = planes.inside[k];
        if within < -0.006 || (p.x < 0.0) != (side < 0.0) {
            return;
        }
        let r = (side * p.x / wall).clamp(0.0, 1.05);
        let medial = (1.0 - 3.0 * r).clamp(0.0, 1.0);
        let ripple = 0.003 * value_noise(key, p.x * 20.0, 0.5);
        let meniscus = level - rise * (r.powi(6) + 0.35 * medial * medial) + ripple;
        let d = p.y - meniscus;
        let lung = step(-0.006, 0.006, within);
        let fluid = step(-0.010, 0.018, d) * (0.62 + 0.38 * step(0.0, 0.08, d)) * lung;
        let haze = 0.14 * step(-0.10, 0.0, d) * lung * severity;
        let filled = lerp(EFFUSION.0, EFFUSION.1, severity) * a.thickness * planes.air[k] + 0.26 * severity;
        planes.attenuation[k] += filled * fluid + haze;
        planes.air[k] *= 1.0 - 0.9 * fluid;
        if fluid > 0.4 {
            planes.mask[k] = 255;
        }
    });
}

/// A dense band along the wall, in part calcified, or a cap over the apex.
fn thickening(frame: Frame, a: &Anatomy, s: &mut Stream, conspicuity: f32, planes: &mut PleuralPlanes<'_>, side: f32) {
    let key = s.next_u64();
    let top = draw(s, (0.30, 0.42));
    let bottom = top + draw(s, (0.20, 0.30));
    let depth = lerp(0.010, 0.026, conspicuity);
    let calcified = chance(s, CALCIFIED_SHARE);
    let cap = chance(s, CAP_SHARE);
    frame.visit(frame.all(), |k, p| {
        let within = planes.inside[k];
        if !(-0.006..=0.06).contains(&within) || (p.x < 0.0) != (side < 0.0) {
            return;
        }
        let mut from_wall = a.outer.at(p.y) - side * p.x;
        let mut span = step(top, top + 0.05, p.y) * step(bottom, bottom - 0.06, p.y);
        if cap {
            from_wall = from_wall.min(p.y - a.apex);
            span = span.max(step(a.apex + 0.09, a.apex + 0.05, p.y));
        }
        let t = depth * span * (0.75 + 0.5 * value_noise(key, p.y * 28.0, 1.5));
        if t < 0.002 {
            return;
        }
        let band = step(t + 0.003, t - 0.003, from_wall) * step(-0.006, 0.002, within);
        planes.attenuation[k] += THICKENING * band;
        if calcified {
            let plaque = step(0.25, 0.5, fractal(key ^ 3, p.x * 50.0, p.y * 50.0, 2));
            planes.attenuation[k] += CALCIFICATION * band * plaque;
        }
        if band > 0.4 {
            planes.mask[k] = 255;
        }
    });
}
