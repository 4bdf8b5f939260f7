//! Support devices: pacemaker, tracheal tube, gastric tube, central line, ECG wires.
//!
//! The label Device of HUM-CXR covers all of them. Metal and plastic are drawn over everything else, with
//! true courses: leads through the superior vena cava into the right heart, a tracheal tube that ends above
//! the carina, a gastric tube below the left dome. Kind and side stay with the patient, details do not.

use chestnut_stats::random::Stream;

use super::anatomy::Anatomy;
use super::grid::{Canvas, Point, at, chance, draw, either_side, lerp, norm, smooth, step};

// Attenuation of an obvious device.
const GENERATOR: f32 = 1.9;
const LEAD: f32 = 0.85;
const LEAD_TIP: f32 = 1.2;
const TRACHEAL_TUBE: f32 = 0.40;
const TUBE_STRIPE: f32 = 0.7;
const GASTRIC_TUBE: f32 = 0.50;
const CENTRAL_LINE: f32 = 0.55;
const ECG_WIRE: f32 = 0.62;
/// A subtle device attenuates this share of an obvious one.
const SUBTLE: f32 = 0.55;
/// Cumulative shares of pacemaker, tracheal tube, gastric tube, central line; the rest are ECG wires.
const KINDS: [f64; 4] = [0.30, 0.50, 0.68, 0.86];
/// Share of patients with a second device.
const SECOND_SHARE: f64 = 0.35;
/// The mask reaches this many stroke radii.
const MASK_REACH: f32 = 2.2;

/// Draws wires and tubes into a density plane and the mask.
struct Tracer<'a> {
    canvas: &'a mut Canvas,
    density: &'a mut [f32],
    mask: &'a mut [u8],
}

impl Tracer<'_> {
    fn wire(&mut self, line: &[Point], radius: f32, amount: f32) {
        let density = &mut *self.density;
        let mask = &mut *self.mask;
        self.canvas.stroke(line, (radius, radius), MASK_REACH, |k, d, _| {
            density[k] = density[k].max(amount * step(1.4, 0.6, d));
            mask[k] = 255;
        });
    }

    fn tube(&mut self, line: &[Point], radius: f32, amount: f32) {
        let density = &mut *self.density;
        let mask = &mut *self.mask;
        self.canvas.stroke(line, (radius, radius), 1.35, |k, d, _| {
            let profile = 0.35 * step(1.2, 0.9, d) + 0.65 * step(0.45, 0.12, (d - 0.88).abs());
            density[k] = density[k].max(amount * profile);
            mask[k] = 255;
        });
    }
}

/// Adds one or two devices to `density` (attenuation) and `mask`; gives a place on the last one.
pub(super) fn paint(
    canvas: &mut Canvas,
    a: &Anatomy,
    s: &mut Stream,
    conspicuity: f32,
    density: &mut [f32],
    mask: &mut [u8],
) -> Point {
    let mut stays = a.stream.child(2);
    let amount = lerp(SUBTLE, 1.0, conspicuity);
    let drawn = stays.uniform();
    let first = KINDS.iter().filter(|&&share| drawn >= share).count();
    let side = -either_side(&mut stays, 0.75);
    let second = chance(&mut stays, SECOND_SHARE).then_some((first + 2) % (KINDS.len() + 1));
    let mut tracer = Tracer { canvas, density, mask };
    let mut focus = place(&mut tracer, a, s, first, side, amount);
    if let Some(kind) = second {
        focus = place(&mut tracer, a, s, kind, side, amount);
    }
    focus
}

fn place(t: &mut Tracer<'_>, a: &Anatomy, s: &mut Stream, kind: usize, side: f32, amount: f32) -> Point {
    match kind {
        0 => pacemaker(t, a, s, side, amount),
        1 => tracheal_tube(t, a, s, amount),
        2 => gastric_tube(t, a, s, amount),
        3 => central_line(t, a, s, -side, amount),
        _ => ecg_wires(t, s, amount),
    }
}

/// The superior vena cava, where leads and catheters run.
fn vena_cava(a: &Anatomy) -> Point {
    at(a.shift - 0.032, 0.34)
}

/// Where the subclavian vein passes under the clavicle.
fn clavicle_y(a: &Anatomy) -> f32 {
    a.apex + 0.06
}

fn pacemaker(t: &mut Tracer<'_>, a: &Anatomy, s: &mut Stream, side: f32, amount: f32) -> Point {
    let can = at(side * draw(s, (0.20, 0.265)), a.apex + draw(s, (0.095, 0.15)));
    let (half_width, half_height) = (draw(s, (0.038, 0.046)), draw(s, (0.030, 0.038)));
    let (sin, cos) = draw(s, (-0.4, 0.4)).sin_cos();
    let frame = t.canvas.frame;
    let density = &mut *t.density;
    let mask = &mut *t.mask;
    let corner = 0.018;
    frame.visit(frame.around(&[can], half_width * 1.6), |k, p| {
        let dx = (p.x - can.x) * cos + (p.y - can.y) * sin;
        let dy = (p.y - can.y) * cos - (p.x - can.x) * sin;
        let qx = (dx.abs() - half_width + corner).max(0.0);
        let qy = (dy.abs() - half_height + corner).max(0.0);
        let edge = norm(qx, qy) - corner;
        if edge < 0.002 {
            // The connector block is less dense than the battery.
            let part = if dy < -0.45 * half_height { 0.75 } else { 1.15 };
            let rim = 0.8 + 0.2 * step(0.012, 0.004, (edge + 0.006).abs());
            density[k] = density[k].max(GENERATOR * part * rim * step(0.002, -0.002, edge));
            mask[k] = 255;
        }
    });
    let h = &a.heart;
    let cava = vena_cava(a);
    let y = clavicle_y(a);
    let apex = at(h.x + h.width * draw(s, (0.30, 0.42)), h.y + h.height * draw(s, (0.14, 0.22)));
    let atrium = at(h.x - 0.16 * h.width, h.y - 0.02 * h.height);
    let leads = if chance(s, 0.65) { 2 } else { 1 };
    for lead in 0..leads {
        let atrial = lead == 1;
        let n = if atrial { 1.0 } else { 0.0 };
        let tip = if atrial { atrium } else { apex };
        let out = at(can.x - side * half_width * 0.5, can.y - half_height * 0.9);
        let floor = at(h.x - h.width * (0.12 + 0.08 * n), h.y + h.height * (0.08 + 0.02 * n));
        let line = smooth(
            &[
                out,
                at(out.x - side * 0.03, out.y - 0.03 - 0.006 * n),
                at(side * 0.12, y + 0.012 + 0.006 * n),
                at(if side > 0.0 { 0.03 } else { -0.05 }, y + 0.055),
                at(cava.x, cava.y - 0.06),
                at(cava.x - 0.003 * n, cava.y + 0.05),
                floor,
                at(lerp(h.x - 0.1 * h.width, tip.x, 0.5 + 0.2 * n), tip.y + 0.015 + 0.005 * n),
                tip,
            ],
            8,
        );
        t.wire(&line, 0.0019, LEAD * amount);
        t.wire(&[line[line.len() - 5], tip], 0.0032, LEAD_TIP * amount);
    }
    can
}

fn tracheal_tube(t: &mut Tracer<'_>, a: &Anatomy, s: &mut Stream, amount: f32) -> Point {
    let x = a.trachea_x() - 0.004;
    let tip = at(x - 0.003, 0.362 - draw(s, (0.035, 0.075)));
    let line = smooth(&[at(x + draw(s, (-0.02, 0.02)), -0.06), at(x + 0.004, 0.08), at(x - 0.002, 0.2), tip], 8);
    t.tube(&line, 0.0078, TRACHEAL_TUBE * amount);
    let stripe: Vec<Point> = line.iter().map(|p| at(p.x + 0.004, p.y)).collect();
    t.wire(&stripe, 0.0013, TUBE_STRIPE * amount);
    tip
}

fn gastric_tube(t: &mut Tracer<'_>, a: &Anatomy, s: &mut Stream, amount: f32) -> Point {
    let dome = a.dome_top(1.0);
    let line = smooth(
        &[
            at(a.shift + draw(s, (-0.02, 0.02)), -0.06),
            at(a.shift + 0.006, 0.15),
            at(a.shift + 0.012, 0.36),
            at(a.shift + 0.014, 0.55),
            at(a.shift + 0.03, dome + 0.05),
            at(0.10, dome + draw(s, (0.09, 0.13))),
            at(0.15, dome + draw(s, (0.10, 0.16))),
        ],
        8,
    );
    t.wire(&line, 0.0026, GASTRIC_TUBE * amount);
    at(a.shift + 0.012, 0.36)
}

fn central_line(t: &mut Tracer<'_>, a: &Anatomy, s: &mut Stream, side: f32, amount: f32) -> Point {
    let cava = vena_cava(a);
    let tip = at(cava.x - 0.002, draw(s, (0.38, 0.45)));
    let right = side < 0.0;
    let line = if chance(s, 0.5) {
        // Internal jugular vein.
        smooth(
            &[
                at(side * 0.10, -0.06),
                at(side * 0.07, 0.08),
                at(side * 0.045, 0.19),
                at(cava.x * if right { 1.0 } else { 0.3 }, 0.27),
                at(cava.x, 0.33),
                tip,
            ],
            8,
        )
    } else {
        // Subclavian vein.
        let y = clavicle_y(a);
        smooth(
            &[
                at(side * 0.30, y + 0.075),
                at(side * 0.20, y + 0.03),
                at(side * 0.11, y + 0.022),
                at(if right { -0.05 } else { 0.03 }, y + 0.065),
                at(cava.x, 0.31),
                tip,
            ],
            8,
        )
    };
    t.wire(&line, 0.0024, CENTRAL_LINE * amount);
    tip
}

fn ecg_wires(t: &mut Tracer<'_>, s: &mut Stream, amount: f32) -> Point {
    let count = 3 + s.below(2);
    let mut focus = at(0.0, 0.4);
    for i in 0..count {
        let side = if i & 1 == 1 { 1.0 } else { -1.0 };
        let heights = if i < 2 { (0.20, 0.30) } else { (0.50, 0.70) };
        let electrode = at(side * draw(s, (0.10, 0.30)), draw(s, heights));
        // Wires leave through the lower border but not through a corner.
        let exit = at(side * draw(s, (0.14, 0.28)), 1.06);
        let middle = at(electrode.x * 1.1 + draw(s, (-0.06, 0.06)), electrode.y + draw(s, (0.08, 0.16)));
        let line = smooth(
            &[
                electrode,
                at(electrode.x + draw(s, (-0.03, 0.03)), electrode.y + 0.04),
                middle,
                at(lerp(middle.x, exit.x, 0.5), middle.y + draw(s, (-0.04, 0.14))),
                exit,
            ],
            8,
        );
        t.wire(&line, 0.0018, ECG_WIRE * amount);
        let frame = t.canvas.frame;
        let density = &mut *t.density;
        let mask = &mut *t.mask;
        frame.disc(electrode, 0.014, |k, d| {
            let part = if d < 0.5 { 0.9 } else { 0.28 };
            density[k] = density[k].max(part * amount * step(1.0, 0.9, d));
            mask[k] = 255;
        });
        focus = electrode;
    }
    focus
}
