//! Spine, ribs, clavicles, scapulae and arms, whole or broken.
//!
//! A bone is a soft stroke with a brighter cortex. Posterior rib arcs are strong, anterior ones fade
//! towards the cartilage. A fracture cuts a rib or clavicle: the outer part steps aside, with a gap or,
//! if old, a callus (finding Bone of the paper). Lungs and film are drawn elsewhere.

use std::f32::consts::{FRAC_PI_2, PI};

use chestnut_stats::random::Stream;

use super::anatomy::Anatomy;
use super::grid::{Canvas, Point, at, chance, draw, either_side, lerp, norm, smooth, step};

// Attenuation at bone density 1.
const RIB: f32 = 0.27;
const RIB_LOW: f32 = 0.216;
const ANTERIOR: (f32, f32) = (0.165, 0.075);
const CLAVICLE: f32 = 0.36;
const VERTEBRA: f32 = 0.17;
const SCAPULA_BORDER: f32 = 0.15;
const SCAPULA_PLATE: f32 = 0.11;
const HUMERUS: f32 = 0.34;
const CALLUS: f32 = 0.30;
// Geometry in chest units.
const RIBS: usize = 10;
const RIBS_WITH_FRONT: usize = 8;
const RIB_STEP: f32 = 0.0570;
const CLAVICLE_RADIUS: f32 = 0.0115;
const RIB_POINTS: usize = 22;
const FRONT_POINTS: usize = 16;
/// Radius of the true mask round a fracture of a rib and of a clavicle.
const FRACTURE_MASK: (f32, f32) = (0.030, 0.034);
/// Share of fractures that are of the clavicle, and share of old ones among rib fractures.
const CLAVICLE_SHARE: f64 = 0.22;
const OLD_SHARE: f64 = 0.4;

/// A broken bone.
pub(super) struct Fracture {
    /// Rib number from 0 at the top; none for the clavicle.
    rib: Option<usize>,
    side: f32,
    /// Position along the bone, 0 to 1.
    along: f32,
    /// Step across and gap along the bone, in bone radii.
    offset: f32,
    gap: f32,
    /// Amount of callus, 0 if fresh.
    callus: f32,
}

/// Draws which bones are broken: a clavicle, or one to three neighbouring ribs.
pub(super) fn fractures(s: &mut Stream, conspicuity: f32) -> Vec<Fracture> {
    if chance(s, CLAVICLE_SHARE) {
        return vec![Fracture {
            rib: None,
            side: either_side(s, 0.5),
            along: draw(s, (0.42, 0.62)),
            offset: draw(s, (0.8, 1.9)) * (0.6 + 0.5 * conspicuity),
            gap: draw(s, (0.1, 0.9)),
            callus: if chance(s, 0.3) { draw(s, (0.4, 1.0)) } else { 0.0 },
        }];
    }
    let count = 1 + s.below(3);
    let side = either_side(s, 0.5);
    let first = 3 + s.below(4);
    let along = draw(s, (0.45, 0.85));
    let old = chance(s, OLD_SHARE);
    (0..count)
        .map(|i| Fracture {
            rib: Some(first + i),
            side,
            along: (along + draw(s, (-0.04, 0.04))).clamp(0.3, 0.9),
            offset: either_side(s, 0.5) * draw(s, (0.7, 1.5)) * (0.55 + 0.6 * conspicuity),
            gap: draw(s, (0.2, 1.2)) * if old { 0.3 } else { 1.0 },
            callus: if old { draw(s, (0.5, 1.0)) * (0.5 + 0.5 * conspicuity) } else { 0.0 },
        })
        .collect()
}

/// One rib: centre lines and radius.
struct Rib {
    back: Vec<Point>,
    front: Vec<Point>,
    radius: f32,
}

fn rib(a: &Anatomy, number: usize, side: f32) -> Rib {
    let n = number as f32;
    let y0 = a.apex + 0.015 + n * RIB_STEP * a.rib_spacing;
    let drop = (0.026 + 0.0150 * n) * a.rib_slope;
    let reach = a.outer.at(y0 + drop);
    let wall = if number == 0 { reach * 0.98 } else { reach - 0.001 };
    let arch = 0.020 * if number < 2 { 0.6 } else { 1.0 };
    let back: Vec<Point> = (0..=RIB_POINTS)
        .map(|j| {
            let t = j as f32 / RIB_POINTS as f32;
            let x = 0.036 + (wall - 0.036) * (FRAC_PI_2 * t.powf(0.92)).sin();
            let y = y0 - arch * (PI * (t * 1.35).min(1.0)).sin() + drop * t.powf(2.1);
            at(side * x + a.spine_x(y) * (1.0 - t), y)
        })
        .collect();
    let end = y0 + drop;
    let (front_end, fall) = (0.105 + 0.010 * n, 0.055 + 0.010 * n);
    let front = (0..=FRONT_POINTS)
        .map(|j| {
            let t = j as f32 / FRONT_POINTS as f32;
            let x = lerp(wall, front_end, 1.0 - (FRAC_PI_2 * t.powf(0.8)).cos());
            at(side * x, end + fall * t.powf(0.85) * a.rib_slope + 0.012 * (PI * t).sin())
        })
        .collect();
    Rib { back, front, radius: 0.0100 + 0.0006 * n.min(5.0) }
}

fn clavicle(a: &Anatomy, side: f32) -> Vec<Point> {
    let (y, t) = (a.apex + 0.055 + a.clavicle_rise, a.clavicle_tilt);
    // Rotation moves both inner ends the same way in the image.
    let inner = |x: f32| side * x + a.rotation;
    smooth(
        &[
            at(inner(0.030), y + 0.022),
            at(inner(0.075), y + 0.010),
            at(side * 0.14, y + 0.006 - t * 0.3),
            at(side * 0.21, y - 0.008 - t * 0.7),
            at(side * 0.275, y - 0.022 - t),
            at(side * 0.335, y - 0.020 - t),
        ],
        7,
    )
}

/// Bright cortex, softer marrow, over the distance in radii.
fn cortex(d: f32) -> f32 {
    step(1.12, 0.88, d) * (0.62 + 0.38 * step(0.35, 0.85, d))
}

/// Cuts a centre line: inner part, outer part, place of the fracture.
fn broken(line: &[Point], fracture: &Fracture, radius: f32) -> (Vec<Point>, Vec<Point>, Point) {
    let cut = ((fracture.along * line.len() as f32) as usize).clamp(2, line.len() - 3);
    let (before, after) = (line[cut - 1], line[cut + 1]);
    let length = norm(after.x - before.x, after.y - before.y).max(1.0e-6);
    let (dx, dy) = ((after.x - before.x) / length, (after.y - before.y) / length);
    // The normal that points down.
    let (nx, ny) = if dx < 0.0 { (dy, -dx) } else { (-dy, dx) };
    let mut inner = line[..=cut].to_vec();
    let mut outer = line[cut..].to_vec();
    for (i, p) in outer.iter_mut().enumerate() {
        let fade = (-0.13 * i as f32).exp();
        let aside = fracture.offset * radius * fade;
        let apart = fracture.gap * radius * if i == 0 { 1.0 } else { 0.4 * fade };
        *p = at(p.x + nx * aside + dx * apart, p.y + ny * aside + dy * apart);
    }
    for (i, p) in inner.iter_mut().rev().enumerate() {
        let aside = 0.35 * fracture.offset * radius * (-0.25 * i as f32).exp();
        *p = at(p.x - nx * aside, p.y - ny * aside);
    }
    (inner, outer, line[cut])
}

/// Adds all bones to `attenuation`, marks fractures in `mask`; gives the place of the last fracture.
pub(super) fn paint(
    canvas: &mut Canvas,
    a: &Anatomy,
    attenuation: &mut [f32],
    broken_bones: &[Fracture],
    mask: &mut [u8],
) -> Option<Point> {
    spine(canvas, a, attenuation);
    let mut site = None;
    for side in [-1.0, 1.0] {
        for number in 0..RIBS {
            let rib = rib(a, number, side);
            let fracture = broken_bones.iter().find(|f| f.rib == Some(number) && f.side == side);
            let amount = a.bone * if number >= RIBS_WITH_FRONT { RIB_LOW } else { RIB };
            if let Some(fracture) = fracture {
                let (inner, outer, place) = broken(&rib.back, fracture, rib.radius);
                for part in [&inner, &outer] {
                    canvas.stroke(part, (rib.radius, rib.radius), 1.15, |k, d, _| {
                        attenuation[k] += 1.08 * amount * cortex(d);
                    });
                }
                heal(canvas, a, attenuation, fracture, place, rib.radius * 2.1);
                canvas.frame.disc(place, FRACTURE_MASK.0, |k, _| mask[k] = 255);
                site = Some(place);
            } else {
                // The lowest ribs end free; a round cap over the diaphragm would look wrong.
                let free = number > 6;
                canvas.stroke(&rib.back, (rib.radius, rib.radius), 1.15, |k, d, t| {
                    let end = if free { step(1.0, 0.8, t) } else { 1.0 };
                    attenuation[k] += amount * lerp(1.0, 1.15, t) * cortex(d) * end;
                });
            }
            if number < RIBS_WITH_FRONT {
                let amount = a.bone * if number > 5 { 0.6 } else { 1.0 };
                canvas.stroke(&rib.front, (rib.radius * 0.95, rib.radius * 1.15), 1.25, |k, d, t| {
                    let profile = step(1.2, 0.75, d) * (0.7 + 0.3 * step(0.4, 0.9, d));
                    attenuation[k] += amount * lerp(ANTERIOR.0, ANTERIOR.1, t) * profile * step(1.0, 0.9, t);
                });
            }
        }
        let line = clavicle(a, side);
        let radius = CLAVICLE_RADIUS;
        let mut parts = Vec::new();
        if let Some(fracture) = broken_bones.iter().find(|f| f.rib.is_none() && f.side == side) {
            let (inner, outer, place) = broken(&line, fracture, radius);
            heal(canvas, a, attenuation, fracture, place, radius * 2.0);
            canvas.frame.disc(place, FRACTURE_MASK.1, |k, _| mask[k] = 255);
            site = Some(place);
            parts.push(inner);
            parts.push(outer);
        } else {
            parts.push(line);
        }
        for part in &parts {
            canvas.stroke(part, (radius, radius), 1.15, |k, d, _| {
                attenuation[k] += CLAVICLE * a.bone * cortex(d);
            });
        }
        limb(canvas, a, attenuation, side);
    }
    site
}

/// New bone round an old fracture.
fn heal(canvas: &Canvas, a: &Anatomy, attenuation: &mut [f32], fracture: &Fracture, place: Point, radius: f32) {
    if fracture.callus > 0.0 {
        let amount = CALLUS * fracture.callus * a.bone;
        canvas.frame.disc(place, radius, |k, d| attenuation[k] += amount * step(1.0, 0.37, d));
    }
}

/// Vertebral bodies with rims, pedicles and spinous processes; the gaps are the discs.
fn spine(canvas: &Canvas, a: &Anatomy, attenuation: &mut [f32]) {
    let frame = canvas.frame;
    let mut y: f32 = 0.02;
    let mut number: f32 = 0.0;
    while y < 1.08 {
        let pitch = 0.036 + 0.0016 * number;
        let centre = at(a.spine_x(y), y);
        let (half_width, half_height) = (0.027 + 0.0010 * number, pitch * 0.5 - 0.0028);
        frame.visit(frame.around(&[centre], half_width * 1.6), |k, p| {
            let (dx, dy) = ((p.x - centre.x).abs(), (p.y - centre.y).abs());
            let r = dy / half_height;
            let edge = (dx - half_width * (0.90 + 0.10 * r * r)).max(dy - half_height);
            let body = step(0.003, -0.002, edge);
            let rim = step(0.007, 0.0015, (edge + 0.002).abs());
            let (px, py) = ((dx - half_width * 0.62) / 0.0065, (p.y - centre.y + half_height * 0.25) / 0.0085);
            let pedicle = step(1.3, 0.6, (norm(px, py) - 0.8).abs());
            let process = norm(dx / 0.0055, (p.y - centre.y - half_height * 0.7) / 0.011);
            attenuation[k] +=
                a.bone * (body * (VERTEBRA + 0.09 * rim + 0.07 * pedicle) + 0.10 * step(1.1, 0.7, process));
        });
        y += pitch;
        number += 1.0;
    }
}

/// Scapula and humerus of one side.
fn limb(canvas: &mut Canvas, a: &Anatomy, attenuation: &mut [f32], side: f32) {
    let y = a.apex + 0.05;
    let out = a.half - 0.30;
    let border = smooth(
        &[
            at(side * (0.30 + out), y),
            at(side * (0.325 + out), y + 0.07),
            at(side * (0.345 + out), y + 0.15),
            at(side * (0.375 + out), y + 0.235),
            at(side * (0.40 + out), y + 0.17),
            at(side * (0.415 + out), y + 0.08),
        ],
        6,
    );
    canvas.stroke(&border, (0.0045, 0.006), 2.0, |k, d, _| {
        attenuation[k] += SCAPULA_BORDER * a.bone * step(2.0, 0.3, d);
    });
    let plate = [at(side * (0.345 + out), y + 0.05), at(side * (0.37 + out), y + 0.13)];
    canvas.stroke(&plate, (0.05, 0.035), 1.3, |k, d, _| {
        attenuation[k] += SCAPULA_PLATE * a.bone * step(1.3, 0.8, d);
    });
    let humerus = smooth(
        &[
            at(side * (a.half + 0.085), y + 0.03),
            at(side * (a.half + 0.115), y + 0.09),
            at(side * (a.half + 0.140 + a.arm_gap), y + 0.30),
            at(side * (a.half + 0.15 + a.arm_gap), 1.05),
        ],
        6,
    );
    canvas.stroke(&humerus, (0.030, 0.017), 1.15, |k, d, _| {
        attenuation[k] += HUMERUS * a.bone * cortex(d);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fracture_steps_aside_and_keeps_the_far_ends() {
        let line: Vec<Point> = (0..20).map(|i| at(i as f32 * 0.01, 0.5)).collect();
        let fracture = Fracture { rib: Some(3), side: 1.0, along: 0.5, offset: 1.0, gap: 0.5, callus: 0.0 };
        let (inner, outer, place) = broken(&line, &fracture, 0.01);
        assert_eq!(place, line[10]);
        assert_eq!(inner.len() + outer.len(), line.len() + 1);
        assert!(outer[0].y - inner[10].y > 0.01, "a visible step");
        assert!(outer[0].x > inner[10].x, "a visible gap");
        assert!((inner[0].y - 0.5).abs() < 1e-3 && (outer[9].y - 0.5).abs() < 5e-3);
    }
}
