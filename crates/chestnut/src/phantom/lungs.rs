//! What normal lungs show: branching vessels, hila and main bronchi.
//!
//! Vessels are a random tree that tapers and fades towards the periphery and is heavier at the bases.
//! It depends on the patient alone, so that two films of one patient show the same vessels.
//! Findings may hide or erase what is drawn here (see findings).

use std::f32::consts::PI;

use chestnut_stats::random::Stream;

use super::anatomy::Anatomy;
use super::grid::{Canvas, Point, at, draw, lerp, smooth, step};

/// Attenuation of a vessel at the hilum, of a hilum, and of the air in a main bronchus.
const VESSEL: f32 = 0.34;
const HILUM: f32 = 0.38;
const BRONCHUS_AIR: f32 = 0.26;
/// First-order vessels leave the hilum in these directions (radians, 0 lateral, positive down).
const DIRECTIONS: [f32; 9] = [-1.25, -0.85, -0.45, -0.1, 0.25, 0.6, 0.9, 1.15, 1.35];
/// Generations below the first.
const GENERATIONS: u32 = 4;
/// Height of the right and left hilum.
const HILUM_Y: (f32, f32) = (0.435, 0.415);
const HILUM_X: f32 = 0.062;
/// Pieces of one branch.
const PIECES: u8 = 4;

/// Where the vessels of a side spring from.
pub(super) fn hilum(a: &Anatomy, side: f32) -> Point {
    at(a.shift + side * HILUM_X, if side < 0.0 { HILUM_Y.0 } else { HILUM_Y.1 })
}

/// A branch still to grow.
struct Branch {
    start: Point,
    direction: f32,
    length: f32,
    radius: f32,
    amount: f32,
    generations: u32,
}

/// Draws vessels and hila into a plane of their own (attenuation, not yet masked by the lung).
pub(super) fn vessels(canvas: &mut Canvas, a: &Anatomy) -> Vec<f32> {
    let mut plane = vec![0.0; canvas.frame.width * canvas.frame.height];
    let mut s = a.stream.child(1);
    for side in [-1.0, 1.0] {
        let root = hilum(a, side);
        for (i, &base) in DIRECTIONS.iter().enumerate() {
            let down = base + s.normal() as f32 * 0.08;
            // Blood falls to the bases.
            let flow: f32 = match i {
                0..=2 => 0.75,
                3 | 4 => 1.0,
                _ => 1.25,
            };
            let length = 0.068 * if i > 5 { 1.25 } else { 1.0 } * draw(&mut s, (0.85, 1.15));
            let start =
                at(root.x + side * draw(&mut s, (0.0, 0.012)), root.y + 0.02 * down + draw(&mut s, (-0.008, 0.008)));
            let branch = Branch {
                start,
                direction: if side > 0.0 { down } else { PI - down },
                length,
                radius: 0.0066 * flow.sqrt() * draw(&mut s, (0.85, 1.1)),
                amount: VESSEL * flow * a.vessels,
                generations: GENERATIONS,
            };
            grow(canvas, &mut plane, &mut s, &branch);
        }
        let comma = smooth(
            &[
                at(root.x - side * 0.005, root.y - 0.035),
                at(root.x + side * 0.008, root.y),
                at(root.x + side * 0.012, root.y + 0.045),
                at(root.x + side * 0.022, root.y + 0.085),
            ],
            5,
        );
        canvas.stroke(&comma, (0.019, 0.009), 1.7, |k, d, _| plane[k] += HILUM * step(1.7, 0.1, d));
    }
    plane
}

fn grow(canvas: &mut Canvas, plane: &mut [f32], s: &mut Stream, branch: &Branch) {
    let mut end = branch.start;
    let mut direction = branch.direction;
    let mut line = vec![end];
    for _ in 0..PIECES {
        direction += s.normal() as f32 * 0.10;
        let piece = branch.length / f32::from(PIECES);
        end = at(end.x + direction.cos() * piece, end.y + direction.sin() * piece);
        line.push(end);
    }
    let thin = branch.radius * 0.72;
    let faint = branch.amount * 0.80;
    canvas.stroke(&line, (branch.radius, thin), 1.6, |k, d, t| {
        let v = lerp(branch.amount, faint, t) * step(1.5, 0.2, d);
        // Crossing vessels add a little, joints do not.
        plane[k] = plane[k].max(v) + 0.25 * plane[k].min(v);
    });
    if branch.generations == 0 {
        return;
    }
    let spread = draw(s, (0.22, 0.50));
    let child = |direction: f32, length: f32, radius: f32, amount: f32| Branch {
        start: end,
        direction,
        length: branch.length * length,
        radius: thin * radius,
        amount: faint * amount,
        generations: branch.generations - 1,
    };
    let one = child(direction + spread * draw(s, (0.4, 1.0)), draw(s, (0.70, 0.90)), 0.86, 1.0);
    let other = child(direction - spread, draw(s, (0.65, 0.85)), draw(s, (0.68, 0.86)), 0.95);
    grow(canvas, plane, s, &one);
    grow(canvas, plane, s, &other);
}

/// Subtracts the air of the main bronchi.
pub(super) fn bronchi(canvas: &mut Canvas, a: &Anatomy, attenuation: &mut [f32]) {
    let x = a.trachea_x() - 0.006;
    let right = smooth(&[at(x, 0.362), at(x - 0.025, 0.385), at(x - 0.05, 0.412), at(x - 0.062, 0.44)], 5);
    let left = smooth(&[at(x, 0.362), at(x + 0.03, 0.38), at(x + 0.06, 0.398), at(x + 0.075, 0.41)], 5);
    for line in [right, left] {
        canvas.stroke(&line, (0.0135, 0.008), 1.2, |k, d, t| {
            let tube = (1.0 - d * d / 1.44).max(0.0).sqrt();
            attenuation[k] -= BRONCHUS_AIR * step(0.0, 0.3, t) * (1.0 - 0.7 * t) * tube;
        });
    }
}
