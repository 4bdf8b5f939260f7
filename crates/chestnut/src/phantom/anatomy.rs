//! A patient's chest: its shape, drawn once for the patient and adjusted for each visit, and its soft tissues.
//!
//! All numbers are in chest units (see grid) or in attenuation (1 = attenuates by e). They were chosen
//! by eye against adult frontal radiographs: cardiothoracic ratio 0.40 to 0.50, right dome above the
//! left, carina near y = 0.37. Side -1 is the patient's right, which is image left. No finding is drawn
//! here, but an enlarged heart is a wider heart.

use chestnut_stats::random::{Stream, fnv1a};

use super::PhantomCase;
use super::grid::{Curve, Frame, chance, draw, lerp, norm, rounded, step};
use super::heart::{Heart, HeartShape};

// Ranges over patients, uniform.
const LUNG_HALF_WIDTH: (f64, f64) = (0.315, 0.352);
const WOMEN_NARROWER: f32 = 0.012;
const APEX: (f64, f64) = (0.125, 0.155);
const RIGHT_DOME: (f64, f64) = (0.665, 0.720);
const LEFT_DOME_LOWER: (f64, f64) = (0.012, 0.034);
/// Cardiothoracic ratio of a heart that is not enlarged; an AP view adds [`AP_MAGNIFIES`].
const HEART_RATIO: (f64, f64) = (0.40, 0.485);
/// Cardiothoracic ratio of the finding Cardiac, least to most conspicuous.
const ENLARGED_RATIO: (f32, f32) = (0.56, 0.68);
const AP_MAGNIFIES: f32 = 0.012;
/// Axis of the left ventricle below the horizontal, radians.
const HEART_TILT: (f64, f64) = (0.45, 0.85);
const HEART_LENGTH: (f64, f64) = (0.94, 1.08);
const THICKNESS: (f64, f64) = (0.92, 1.12);
const RIB_SLOPE: (f64, f64) = (0.8, 1.3);
const RIB_SPACING: (f64, f64) = (0.95, 1.05);
const BONE_DENSITY: (f64, f64) = (0.75, 1.2);
const OLD_BONE: f32 = 0.85;
const AERATION: (f64, f64) = (0.92, 1.06);
const VESSEL_AMOUNT: (f64, f64) = (0.75, 1.2);
// Visit to visit.
const INSPIRATION_SD: f64 = 0.014;
const AP_SHALLOWER: f32 = 0.014;
const ROTATION: (f64, f64) = (-0.012, 0.012);
// Attenuation.
const TRUNK: f32 = 2.12;
const LUNG_AIR: f32 = 1.22;
const SHOULDER: f32 = 1.25;
const ARM: f32 = 1.12;
const LIVER: f32 = 0.26;
const LEFT_ABDOMEN: f32 = 0.16;
const MEDIASTINUM: f32 = 0.26;
const HEART_EXTRA: f32 = 0.20;
const HEART_DISPLACES: f32 = 0.88;
const TRACHEA_AIR: f32 = 0.46;
const TRACHEA_RADIUS: f32 = 0.0185;

/// Neck and shoulders: height of the skin over distance from the midline.
const SKIN_LINE: [(f32, f32); 11] = [
    (0.0, -0.6),
    (0.04, -0.35),
    (0.062, -0.12),
    (0.078, 0.0),
    (0.10, 0.048),
    (0.15, 0.076),
    (0.25, 0.100),
    (0.34, 0.122),
    (0.42, 0.158),
    (0.50, 0.22),
    (0.6, 0.34),
];
/// Outer lung border in half widths over relative height (0 apex, 1 bottom).
const OUTER: [(f32, f32); 12] = [
    (-0.02, 0.34),
    (0.0, 0.42),
    (0.008, 0.515),
    (0.022, 0.58),
    (0.05, 0.645),
    (0.12, 0.725),
    (0.2, 0.81),
    (0.35, 0.91),
    (0.5, 0.965),
    (0.7, 1.0),
    (0.85, 1.005),
    (1.05, 0.985),
];
/// Inner border near the apex, as `OUTER`; below it follows the mediastinum.
const INNER_APEX: [(f32, f32); 6] =
    [(-0.02, 0.45), (0.0, 0.38), (0.008, 0.305), (0.022, 0.25), (0.05, 0.195), (0.08, 0.165)];
/// Depth of the hemidiaphragm below its dome over relative distance from the midline.
const DOME: [(f32, f32); 11] = [
    (0.0, 0.035),
    (0.2, 0.018),
    (0.38, 0.003),
    (0.52, 0.0),
    (0.68, 0.008),
    (0.8, 0.024),
    (0.89, 0.048),
    (0.95, 0.078),
    (1.0, 0.112),
    (1.04, 0.14),
    (1.2, 0.20),
];

/// What a visit changes in a patient.
pub(super) struct Visit {
    /// Draws of this image.
    pub(super) stream: Stream,
    /// Conspicuity 0 to 1 of an enlarged heart, if there is one.
    pub(super) enlarged: Option<f32>,
    /// Shift of the mediastinum by a pneumothorax, positive to image right.
    pub(super) push: f32,
}

/// The chest of one patient at one visit.
pub(super) struct Anatomy {
    /// Draws that stay with the patient.
    pub(super) stream: Stream,
    /// Noise key that stays with the patient.
    pub(super) key: u64,
    pub(super) half: f32,
    pub(super) apex: f32,
    /// Lowest point of the lungs.
    pub(super) bottom: f32,
    pub(super) rib_slope: f32,
    pub(super) rib_spacing: f32,
    pub(super) bone: f32,
    pub(super) scoliosis: f32,
    pub(super) clavicle_rise: f32,
    pub(super) clavicle_tilt: f32,
    pub(super) vessels: f32,
    pub(super) arm_gap: f32,
    pub(super) thickness: f32,
    /// Mediastinal shift and rotation.
    pub(super) shift: f32,
    pub(super) rotation: f32,
    pub(super) outer: Curve,
    pub(super) heart: Heart,
    domes: (f32, f32),
    dome: Curve,
    inner: (Curve, Curve),
    skin: Curve,
    fat: f32,
    shoulder: f32,
    breast: f32,
    knob: f32,
    aeration: f32,
    bubble: f32,
    bubble_x: f32,
}

impl Anatomy {
    /// The chest of `case` at its visit.
    pub(super) fn new(seed: u64, case: &PhantomCase, visit: Visit) -> Self {
        let woman = case.sex == 'F';
        let root = Stream::keyed(seed, "phantom-anatomy").child(fnv1a(case.patient_id.as_bytes()));
        let mut s = root.child(0);
        let key = s.next_u64();
        let half = draw(&mut s, LUNG_HALF_WIDTH) - if woman { WOMEN_NARROWER } else { 0.0 };
        let apex = draw(&mut s, APEX);
        let mut right = draw(&mut s, RIGHT_DOME);
        let mut left = right + draw(&mut s, LEFT_DOME_LOWER);
        let mut ratio = draw(&mut s, HEART_RATIO);
        let tilt = draw(&mut s, HEART_TILT);
        let length = draw(&mut s, HEART_LENGTH);
        let fat = draw(&mut s, (0.0, 1.0));
        let knob = draw(&mut s, (0.8, 1.1)) + if case.age_years > 60 { 0.2 } else { 0.0 };
        let bone = draw(&mut s, BONE_DENSITY) * if case.age_years > 65 { OLD_BONE } else { 1.0 };
        let breast = draw(&mut s, if woman { (0.1, 1.0) } else { (-1.0, 0.25) });

        let mut v = visit.stream;
        let ap = case.view == "AP";
        let breath = (v.normal() * INSPIRATION_SD) as f32 - if ap { AP_SHALLOWER } else { 0.0 };
        right += breath;
        left += breath + draw(&mut v, (-0.005, 0.005));
        let rotation = draw(&mut v, ROTATION);
        if ap {
            ratio += AP_MAGNIFIES;
        }
        if let Some(conspicuity) = visit.enlarged {
            let t = (conspicuity * 0.85 + 0.15 * v.uniform() as f32).clamp(0.0, 1.0);
            ratio = lerp(ENLARGED_RATIO.0, ENLARGED_RATIO.1, t);
        }
        let shift = rotation + visit.push;
        let bottom = right.max(left) + 0.17;

        let height = |t: f32| apex + t * (bottom - apex);
        let outer: Vec<_> = OUTER.iter().map(|&(t, w)| (height(t), w * half)).collect();
        let dome: Vec<_> = DOME.iter().map(|&(x, d)| (x * half, d)).collect();
        let near_apex: Vec<_> = INNER_APEX.iter().map(|&(t, w)| (height(t), w * half)).collect();
        let mut inner_right = near_apex.clone();
        inner_right.extend([
            (height(0.14), 0.045),
            (0.30, 0.044),
            (0.36, 0.050),
            (0.42, 0.046),
            (0.50, 0.044),
            (0.9, 0.03),
        ]);
        let mut inner_left = near_apex;
        inner_left.extend([
            (height(0.14), 0.044),
            (0.285, 0.046 + 0.004 * knob),
            (0.315, 0.068 * knob),
            (0.345, 0.066 * knob),
            (0.375, 0.050),
            (0.41, 0.060),
            (0.46, 0.064),
            (0.9, 0.06),
        ]);
        let heart = Heart::new(HeartShape {
            ratio,
            half,
            tilt,
            length,
            x: shift,
            dome: (right + left) * 0.5,
            globular: visit.enlarged.is_some(),
        });
        Self {
            stream: root.child(1),
            key,
            half,
            apex,
            bottom,
            rib_slope: draw(&mut s, RIB_SLOPE),
            rib_spacing: draw(&mut s, RIB_SPACING),
            bone,
            scoliosis: (s.normal() * 0.006) as f32,
            clavicle_rise: draw(&mut s, (-0.012, 0.014)),
            clavicle_tilt: draw(&mut s, (-0.02, 0.03)),
            vessels: draw(&mut s, VESSEL_AMOUNT),
            arm_gap: draw(&mut s, (-0.02, 0.05)),
            thickness: draw(&mut s, THICKNESS),
            shift,
            rotation,
            outer: Curve::through(&outer),
            heart,
            domes: (right, left),
            dome: Curve::through(&dome),
            inner: (Curve::through(&inner_right), Curve::through(&inner_left)),
            skin: Curve::through(&SKIN_LINE),
            fat,
            shoulder: draw(&mut s, (-0.015, 0.02)),
            breast,
            knob,
            aeration: draw(&mut s, AERATION),
            bubble: if chance(&mut s, 0.7) { draw(&mut s, (0.1, 1.0)) } else { 0.0 },
            bubble_x: draw(&mut s, (0.11, 0.17)),
        }
    }

    /// Height of the top of the hemidiaphragm of a side.
    pub(super) fn dome_top(&self, side: f32) -> f32 {
        if side < 0.0 { self.domes.0 } else { self.domes.1 }
    }

    /// Depth below the hemidiaphragm of a side, negative above it.
    fn below_dome(&self, side: f32, x: f32, y: f32) -> f32 {
        y - self.dome_top(side) - self.dome.at(side * x)
    }

    /// About the distance to the border of the lung of a side, positive inside.
    pub(super) fn lung_inside(&self, side: f32, x: f32, y: f32) -> f32 {
        let inner = if side < 0.0 { &self.inner.0 } else { &self.inner.1 };
        let to_wall = self.outer.at(y) - side * x;
        let to_mediastinum = side * (x - self.shift) - inner.at(y);
        let to_dome = -0.9 * self.below_dome(side, x, y);
        let depth = to_wall.min(to_mediastinum).min(to_dome);
        if y < self.apex { depth.min(y - self.apex) } else { depth }
    }

    /// Where the midline of the spine lies.
    pub(super) fn spine_x(&self, y: f32) -> f32 {
        self.scoliosis * ((y - 0.1) * 5.5).sin()
    }

    /// Where the midline of the trachea lies.
    pub(super) fn trachea_x(&self) -> f32 {
        self.shift * 1.2
    }
}

/// Planes that the soft tissues fill, row-major.
pub(super) struct Tissue {
    /// Attenuation, the sum over everything.
    pub(super) attenuation: Vec<f32>,
    /// Thickness of air in the lung, about 0 to 1.
    pub(super) air: Vec<f32>,
    /// [`Anatomy::lung_inside`] of the pixel's side.
    pub(super) inside: Vec<f32>,
    /// Whether the heart's silhouette covers the pixel, 0 to 1.
    pub(super) heart: Vec<f32>,
}

/// Draws body, lungs, heart, mediastinum, abdomen and breasts.
pub(super) fn soft_tissue(frame: &Frame, a: &Anatomy) -> Tissue {
    let pixels = frame.width * frame.height;
    let mut tissue = Tissue {
        attenuation: vec![0.0; pixels],
        air: vec![0.0; pixels],
        inside: vec![0.0; pixels],
        heart: vec![0.0; pixels],
    };
    let wall = a.half + 0.028 + 0.035 * a.fat;
    let axilla = 0.335 + 0.05 * a.arm_gap;
    frame.visit(frame.all(), |k, p| {
        let (x, y) = (p.x, p.y);
        let side = if x < 0.0 { -1.0 } else { 1.0 };
        let lateral = x.abs();
        let central = x - a.shift;

        let torso = wall + 0.02 * step(0.5, 0.95, y) * a.fat - 0.03 * step(0.55, 0.2, y);
        let mut t = trunk(a, torso, lateral, y);
        // Shoulder and arm blend softly into the trunk.
        let under_skin = y - a.skin.at(lateral) - a.shoulder;
        let shoulder = SHOULDER
            * a.thickness
            * step(axilla + 0.12, axilla - 0.10, y)
            * (under_skin / 0.10).clamp(0.0, 1.0).sqrt()
            * step(wall + 0.21, wall + 0.15, lateral);
        let q = (lateral - wall - 0.105 - a.arm_gap - 0.03 * (y - 0.5)) / 0.082;
        let arm = ARM * (1.0 - q * q).max(0.0).sqrt() * step(axilla - 0.2, axilla, y);
        let limb = shoulder.max(arm);
        let near = (0.35 - (t - limb).abs()).max(0.0) / 0.35;
        let blend = if t.min(limb) > 0.02 { near * near * 0.0875 } else { 0.0 };
        t = t.max(limb) + blend;
        t *= step(-0.004, 0.022, under_skin) * (0.35 + 0.65 * rounded(under_skin / 0.17));
        t *= lerp(1.0, 0.80, step(0.16, 0.02, y) * step(0.02, 0.1, lateral));

        // Lung, displaced by the heart.
        let inside = a.lung_inside(side, x, y);
        let lung = step(-0.0035, 0.0055, inside);
        let in_heart = a.heart.inside(x, y);
        let silhouette = step(-0.004, 0.006, in_heart);
        let muscle = silhouette * (0.42 + 0.58 * rounded(in_heart / 0.10)) * a.heart.span(y);
        let taller = 0.74 + 0.26 * step(a.apex, a.apex + 0.25, y);
        let depth = 0.30 + 0.70 * rounded(inside / 0.105);
        let air = (1.0 - HEART_DISPLACES * muscle) * lung * depth * taller * a.aeration;
        t += HEART_EXTRA * muscle - LUNG_AIR * air * a.thickness;

        // Abdomen, and the lung that reaches down behind the dome.
        let below = a.below_dome(side, x, y);
        let behind = (1.0 - lung)
            * step(-0.005, 0.01, below)
            * step(0.10, 0.0, below)
            * step(a.half, a.half * 0.85, lateral)
            * step(0.06, 0.12, lateral);
        let organ = if side < 0.0 { LIVER } else { LEFT_ABDOMEN };
        t += organ * step(-0.004, 0.010, below) * step(torso, torso - 0.08, lateral) - 0.16 * behind;

        t += mediastinum(central, y) * (1.0 - 0.5 * lung) + aorta(a, central, y);
        let tube = (x - a.trachea_x() + 0.006 * step(0.2, 0.36, y) - a.rotation * 0.3) / TRACHEA_RADIUS;
        t -= TRACHEA_AIR * (1.0 - tube * tube).max(0.0).sqrt() * step(0.385, 0.36, y);
        t += breast(a, lateral, y) - stomach(a, x, y);

        tissue.attenuation[k] = t.max(0.0);
        tissue.air[k] = air;
        tissue.inside[k] = inside;
        tissue.heart[k] = silhouette;
    });
    tissue
}

/// Neck, chest and abdomen as one rounded slab.
fn trunk(a: &Anatomy, torso: f32, lateral: f32, y: f32) -> f32 {
    let r = (lateral / (torso + 0.004)).clamp(0.0, 1.0);
    let body = (1.0 - r * r * r * r).max(0.0).sqrt() * step(1.0, 0.985, r);
    (TRUNK + 0.25 * step(0.55, 0.95, y) - 0.55 * step(0.34, 0.06, y)) * a.thickness * body
}

/// The soft middle.
fn mediastinum(central: f32, y: f32) -> f32 {
    MEDIASTINUM * step(0.085, 0.015, central.abs()) * step(0.02, 0.2, y)
}

/// Aortic knob and the line of the descending aorta.
fn aorta(a: &Anatomy, central: f32, y: f32) -> f32 {
    let knob = 1.0 - norm(central - 0.036 * a.knob, y - 0.33) / (0.034 * a.knob);
    let line = (central - 0.026 - 0.012 * step(0.4, 0.7, y)).abs();
    0.20 * step(0.0, 0.35, knob) + 0.14 * step(0.022, 0.017, line) * step(0.33, 0.37, y) * step(0.85, 0.7, y)
}

/// A breast shadow with a sharp lower fold.
fn breast(a: &Anatomy, lateral: f32, y: f32) -> f32 {
    if a.breast <= 0.0 {
        return 0.0;
    }
    let bx = (lateral - 0.185) / (0.145 + 0.02 * a.breast);
    let by = (y - 0.62 - 0.05 * a.breast) / (0.155 + 0.03 * a.breast);
    let r2 = bx * bx + by * by * if by < 0.0 { 0.55 } else { 1.0 };
    if r2 >= 1.0 {
        return 0.0;
    }
    (0.18 + 0.30 * a.breast) * (1.0 - r2).sqrt() * step(1.0, 0.93, r2) * step(-1.0, 0.1, by)
}

/// Air in the stomach below the left dome.
fn stomach(a: &Anatomy, x: f32, y: f32) -> f32 {
    if a.bubble <= 0.0 {
        return 0.0;
    }
    let bx = (x - a.bubble_x) / (0.055 + 0.02 * a.bubble);
    let by = (y - a.dome_top(1.0) - 0.045 - 0.012 * a.bubble) / (0.024 + 0.014 * a.bubble);
    0.55 * a.bubble * step(0.0, 0.5, 1.0 - norm(bx, by))
}
