//! Small turns, scales and shears of a film, by one bilinear look-up per pixel.
//!
//! What is drawn depends on seed, epoch and image alone, so that a resumed run sees the same films. Flipping is off by
//! default: hearts have sides. Without any augmentation the window is copied as it is.

use super::crop::Offset;
use chestnut_stats::random::{Stream, fnv1a};
use serde::{Deserialize, Serialize};

/// Largest turn in degrees.
pub const MAX_ROTATION: f64 = 45.0;
/// Largest change of scale, as a share.
pub const MAX_SCALE: f64 = 0.5;

/// How far a film may be moved; each draw is uniform between minus and plus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    /// Degrees.
    pub rotation: f64,
    /// Share of the size, 0.02 for 2 %.
    pub scale: f64,
    /// Pixels by which the top and bottom edge of the input move sideways against its middle.
    pub shear: f64,
    /// Whether left and right may change places, half of the time.
    pub flip: bool,
}

impl Augment {
    /// 7 degrees, 2 %, 5 pixels, no flip: small enough that every film stays plausible.
    #[must_use]
    pub fn modern() -> Self {
        Self { rotation: 7.0, scale: 0.02, shear: 5.0, flip: false }
    }

    /// Whether nothing is ever changed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Says what is out of range.
    ///
    /// # Errors
    /// A text for people.
    pub fn check(&self, size: usize) -> Result<(), String> {
        if !(0.0..=MAX_ROTATION).contains(&self.rotation) {
            return Err(format!("--rotation is {}; give 0 to {MAX_ROTATION} degrees", self.rotation));
        }
        if !(0.0..=MAX_SCALE).contains(&self.scale) {
            return Err(format!("--scale is {}; give a share from 0 to {MAX_SCALE}", self.scale));
        }
        let most = size as f64 / 4.0;
        if !(0.0..=most).contains(&self.shear) {
            return Err(format!("--shear is {}; give 0 to {most} pixels", self.shear));
        }
        Ok(())
    }

    /// The movement of one image in one epoch.
    fn draw(&self, seed: u64, epoch: usize, image: &str, size: usize) -> Map {
        let mut draw = Stream::keyed(seed, "augmentation").child(epoch as u64).child(fnv1a(image.as_bytes()));
        let angle = draw.range(-self.rotation, self.rotation).to_radians();
        let scale = 1.0 + draw.range(-self.scale, self.scale);
        let shear = draw.range(-self.shear, self.shear) / (size as f64 / 2.0);
        let side = if draw.uniform() < 0.5 && self.flip { -1.0 } else { 1.0 };
        let (sin, cos) = angle.sin_cos();
        // Rotation times scale times shear, read from the output to the source.
        let rotated = [[cos / scale, -sin / scale], [sin / scale, cos / scale]];
        let x = [rotated[0][0] * side, rotated[0][0] * shear + rotated[0][1]];
        let y = [rotated[1][0] * side, rotated[1][0] * shear + rotated[1][1]];
        Map { x, y }
    }
}

/// Source column and row as linear functions of the output's, both counted from the middle of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Map {
    x: [f64; 2],
    y: [f64; 2],
}

/// Which movement applies: the settings, the seed and the epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moves<'a> {
    pub(super) augment: &'a Augment,
    pub(super) seed: u64,
    pub(super) epoch: usize,
}

/// The window of a cached square, moved if wanted, as grey values in 0..1. Beyond the border the edge is repeated.
pub(super) fn look(
    square: &[u8],
    side: usize,
    offset: Offset,
    size: usize,
    image: &str,
    moves: Option<Moves<'_>>,
    out: &mut [f32],
) {
    let [top, left] = offset.map(usize::from);
    let Some(moves) = moves.filter(|m| !m.augment.is_none()) else {
        for (row, line) in out.chunks_exact_mut(size).enumerate() {
            let from = &square[(top + row) * side + left..][..size];
            line.iter_mut().zip(from).for_each(|(v, &b)| *v = f32::from(b) / 255.0);
        }
        return;
    };
    let map = moves.augment.draw(moves.seed, moves.epoch, image, size);
    let middle = (size as f64 - 1.0) / 2.0;
    let last = (side - 1) as f64;
    for (row, line) in out.chunks_exact_mut(size).enumerate() {
        let dy = row as f64 - middle;
        for (column, v) in line.iter_mut().enumerate() {
            let dx = column as f64 - middle;
            let x = (left as f64 + middle + map.x[0] * dx + map.x[1] * dy).clamp(0.0, last);
            let y = (top as f64 + middle + map.y[0] * dx + map.y[1] * dy).clamp(0.0, last);
            *v = bilinear(square, side, x, y) / 255.0;
        }
    }
}

fn bilinear(square: &[u8], side: usize, x: f64, y: f64) -> f32 {
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(side - 1), (y0 + 1).min(side - 1));
    let (right, down) = ((x - x0 as f64) as f32, (y - y0 as f64) as f32);
    let at = |y: usize, x: usize| f32::from(square[y * side + x]);
    let upper = at(y0, x0) + (at(y0, x1) - at(y0, x0)) * right;
    let lower = at(y1, x0) + (at(y1, x1) - at(y1, x0)) * right;
    upper + (lower - upper) * down
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 12;

    fn square() -> Vec<u8> {
        (0..SIDE * SIDE).map(|i| ((i % SIDE) * 9 + (i / SIDE) * 11) as u8).collect()
    }

    fn seen(augment: &Augment, seed: u64, epoch: usize, image: &str) -> Vec<f32> {
        let mut out = vec![0.0; 64];
        look(&square(), SIDE, [2, 3], 8, image, Some(Moves { augment, seed, epoch }), &mut out);
        out
    }

    #[test]
    fn without_augmentation_the_window_is_copied() {
        let mut out = vec![0.0; 64];
        look(&square(), SIDE, [2, 3], 8, "a", None, &mut out);
        assert_eq!(out[0], (3.0 * 9.0 + 2.0 * 11.0) / 255.0);
        assert_eq!(out[63], (10.0 * 9.0 + 9.0 * 11.0) / 255.0);
        assert_eq!(seen(&Augment::default(), 1, 1, "a"), out);
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_image_only() {
        let some = Augment::modern();
        let first = seen(&some, 1, 0, "a");
        assert_eq!(first, seen(&some, 1, 0, "a"));
        for other in [seen(&some, 2, 0, "a"), seen(&some, 1, 1, "a"), seen(&some, 1, 0, "b")] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn the_map_is_a_rotation_of_that_angle_and_scale() {
        let augment = Augment { rotation: 30.0, scale: 0.1, shear: 0.0, flip: false };
        for epoch in 0..20 {
            let map = augment.draw(3, epoch, "a", 8);
            let area = map.x[0] * map.y[1] - map.x[1] * map.y[0];
            let scale = 1.0 / area.sqrt();
            assert!((0.9..=1.1).contains(&scale), "{scale}");
            assert!((map.x[0] * map.x[1] + map.y[0] * map.y[1]).abs() < 1e-12, "columns stay at right angles");
            let angle = map.y[0].atan2(map.x[0]).to_degrees();
            assert!(angle.abs() <= 30.0, "{angle}");
        }
        let sheared = Augment { shear: 2.0, ..Augment::default() }.draw(3, 0, "a", 8);
        assert_eq!((sheared.x[0], sheared.y), (1.0, [0.0, 1.0]));
        assert!(sheared.x[1] != 0.0 && sheared.x[1].abs() <= 0.5);
    }

    #[test]
    fn a_flip_is_the_mirror_image() {
        let augment = Augment { flip: true, ..Augment::default() };
        let (mut plain, mut mirrored) = (0, 0);
        let mut straight = vec![0.0; 64];
        look(&square(), SIDE, [2, 3], 8, "a", None, &mut straight);
        let turned: Vec<f32> = straight.chunks(8).flat_map(|line| line.iter().rev().copied()).collect();
        for epoch in 0..40 {
            let out = seen(&augment, 1, epoch, "a");
            let near = |to: &[f32]| out.iter().zip(to).all(|(a, b)| (a - b).abs() < 1e-6);
            plain += usize::from(near(&straight));
            mirrored += usize::from(near(&turned));
        }
        assert_eq!(plain + mirrored, 40);
        assert!(plain > 8 && mirrored > 8, "{plain} and {mirrored}");
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert!(Augment::modern().check(224).is_ok());
        for (bad, name) in [
            (Augment { rotation: 90.0, ..Augment::default() }, "--rotation"),
            (Augment { scale: f64::NAN, ..Augment::default() }, "--scale"),
            (Augment { shear: 100.0, ..Augment::default() }, "--shear"),
        ] {
            assert!(bad.check(224).expect_err("out of range").contains(name));
        }
    }
}
