//! The cardiac silhouette: a tilted left ventricle blended with a right atrium.
//!
//! Its width is set by the cardiothoracic ratio, which is what the finding Cardiac means on a frontal
//! film. Shape only; anatomy decides how much the muscle attenuates.

use super::grid::{lerp, norm, step};

/// What a heart is made from.
pub(super) struct HeartShape {
    /// Cardiothoracic ratio and half width of the thorax.
    pub(super) ratio: f32,
    pub(super) half: f32,
    /// Axis below the horizontal (radians) and relative length.
    pub(super) tilt: f32,
    pub(super) length: f32,
    /// Midline of the mediastinum and mean height of the domes.
    pub(super) x: f32,
    pub(super) dome: f32,
    /// Rounder, as enlarged hearts are.
    pub(super) globular: bool,
}

/// The cardiac silhouette: a tilted left ventricle blended with a right atrium.
pub(super) struct Heart {
    /// Centre.
    pub(super) x: f32,
    pub(super) y: f32,
    /// Greatest width, and the unit of heights.
    pub(super) width: f32,
    pub(super) height: f32,
    axis: (f32, f32),
    ventricle_x: f32,
    ventricle_minor: f32,
}

/// Long half axis of the left ventricle, in heart widths.
const VENTRICLE_MAJOR: f32 = 0.47;
/// Right atrium: centre and half axes, in heart widths and heights.
const ATRIUM: [f32; 4] = [-0.055, -0.02, 0.265, 0.42];
/// Share of the width to the patient's left of the centre.
const HEART_LEFT_SHARE: f32 = 0.68;

impl Heart {
    /// A heart that spans exactly ratio times the width of the thorax.
    pub(super) fn new(shape: HeartShape) -> Self {
        let width = shape.ratio * 2.0 * shape.half;
        let height = 0.30 * (width / 0.30).sqrt() * shape.length;
        let (sin, cos) = (shape.tilt * if shape.globular { 0.85 } else { 1.0 }).sin_cos();
        let minor = if shape.globular { 0.355 } else { 0.315 };
        // Half extent of the tilted ellipse, so that the silhouette spans exactly the wanted width.
        let extent = norm(VENTRICLE_MAJOR * cos, minor * sin);
        Self {
            x: shape.x,
            y: shape.dome - 0.235 * height - 0.01,
            width,
            height,
            axis: (cos, sin),
            ventricle_x: HEART_LEFT_SHARE - extent,
            ventricle_minor: minor,
        }
    }

    /// About the distance to the silhouette, positive inside.
    pub(super) fn inside(&self, x: f32, y: f32) -> f32 {
        let (hx, hy) = ((x - self.x) / self.width, (y - self.y) / self.height);
        let (dx, dy) = (hx - self.ventricle_x, hy - 0.05);
        let (cos, sin) = self.axis;
        let along = (dx * cos + dy * sin) / VENTRICLE_MAJOR;
        let across = (dy * cos - dx * sin) / self.ventricle_minor;
        let ventricle = (1.0 - norm(along, across)) * self.ventricle_minor;
        let atrium = (1.0 - norm((hx - ATRIUM[0]) / ATRIUM[2], (hy - ATRIUM[1]) / ATRIUM[3])) * ATRIUM[2];
        // Smooth union.
        let k = 0.10;
        let t = (0.5 + 0.5 * (ventricle - atrium) / k).clamp(0.0, 1.0);
        (lerp(atrium, ventricle, t) + k * t * (1.0 - t)) * self.width
    }

    /// Fades the muscle out below the diaphragm and above the great vessels.
    pub(super) fn span(&self, y: f32) -> f32 {
        let h = self.height;
        step(self.y + 0.75 * h, self.y + 0.4 * h, y) * step(self.y - 0.5 * h, self.y - 0.25 * h, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silhouette_has_the_wanted_ratio() {
        for (ratio, globular) in [(0.42, false), (0.49, false), (0.57, true), (0.67, true)] {
            let shape = HeartShape { ratio, half: 0.33, tilt: 0.6, length: 1.0, x: 0.0, dome: 0.69, globular };
            let heart = Heart::new(shape);
            let columns = (-500..500).filter(|&i| {
                let x = i as f32 * 0.001;
                (300..800).any(|j| heart.inside(x, j as f32 * 0.001) > 0.0)
            });
            let measured = columns.count() as f32 * 0.001 / 0.66;
            assert!((measured - ratio).abs() < 0.03, "{measured} for {ratio}");
        }
    }
}
