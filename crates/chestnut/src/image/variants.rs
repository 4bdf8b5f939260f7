//! Test-time augmentation: a prepared image seen several times, slightly turned, scaled or mirrored, and averaged.
//!
//! The predecessor's fixed list (protocol 5): the image, two rotations, two scalings, and the same mirrored. There the
//! mean AUC fell, so it is off unless asked for; hearts have sides, so the mirrored half can be left out. Applied to grey
//! values before standardisation, which is the same as after it; what comes in from outside repeats the border.

use serde::{Deserialize, Serialize};

/// Degrees of the rotations, to either side.
const DEGREES: f32 = 7.0;
/// Share by which the scalings enlarge and shrink.
const SCALING: f32 = 0.02;

/// How often and how an image is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tta {
    /// Once, as it is.
    #[default]
    Off,
    /// Five times: as it is, turned by 7 degrees to either side, 2 % larger and 2 % smaller.
    Five,
    /// Ten times: those five, and the same mirrored.
    Ten,
}

impl Tta {
    /// Name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Five => "five",
            Self::Ten => "ten",
        }
    }

    /// What is looked at, the image itself first.
    #[must_use]
    pub fn variants(self) -> Vec<Variant> {
        let plain = Variant { mirrored: false, degrees: 0.0, scale: 1.0 };
        let five = [
            plain,
            Variant { degrees: DEGREES, ..plain },
            Variant { degrees: -DEGREES, ..plain },
            Variant { scale: 1.0 + SCALING, ..plain },
            Variant { scale: 1.0 - SCALING, ..plain },
        ];
        match self {
            Self::Off => vec![plain],
            Self::Five => five.to_vec(),
            Self::Ten => five.into_iter().chain(five.map(|v| Variant { mirrored: true, ..v })).collect(),
        }
    }
}

/// One way of looking at an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Left and right exchanged, before the rest.
    pub mirrored: bool,
    /// Turned about the centre, clockwise on a screen.
    pub degrees: f32,
    /// Above 1 enlarges.
    pub scale: f32,
}

impl Variant {
    /// The variant of `size` x `size` grey values, row-major; bilinear.
    ///
    /// # Panics
    /// If `grey` has another length or is empty.
    #[must_use]
    pub fn apply(&self, grey: &[f32], size: usize) -> Vec<f32> {
        assert!(size > 0 && grey.len() == size * size, "a square image");
        let mut image = grey.to_vec();
        if self.mirrored {
            image.chunks_exact_mut(size).for_each(<[f32]>::reverse);
        }
        if self.degrees == 0.0 && self.scale == 1.0 {
            return image;
        }
        let centre = (size - 1) as f32 / 2.0;
        let (sine, cosine) = self.degrees.to_radians().sin_cos();
        let last = (size - 1) as f32;
        let mut out = Vec::with_capacity(image.len());
        for y in 0..size {
            for x in 0..size {
                // Where this pixel comes from: the inverse of the turn and the scaling.
                let (dx, dy) = ((x as f32 - centre) / self.scale, (y as f32 - centre) / self.scale);
                let from_x = (cosine * dx + sine * dy + centre).clamp(0.0, last);
                let from_y = (cosine * dy - sine * dx + centre).clamp(0.0, last);
                let (left, top) = (from_x as usize, from_y as usize);
                let (right, bottom) = ((left + 1).min(size - 1), (top + 1).min(size - 1));
                let (part_x, part_y) = (from_x - left as f32, from_y - top as f32);
                let at = |x: usize, y: usize| image[y * size + x];
                let upper = at(left, top) + (at(right, top) - at(left, top)) * part_x;
                let lower = at(left, bottom) + (at(right, bottom) - at(left, bottom)) * part_x;
                out.push(upper + (lower - upper) * part_y);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 41;

    /// An image whose value is a function of column and row, counted from the centre.
    fn image(value: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let c = (SIZE / 2) as f32;
        (0..SIZE * SIZE).map(|i| value((i % SIZE) as f32 - c, (i / SIZE) as f32 - c)).collect()
    }

    #[test]
    fn ramps_are_turned_scaled_and_mirrored() {
        let ramp = image(|x, y| x + 0.25 * y);
        let (sine, cosine) = DEGREES.to_radians().sin_cos();
        let plain = Variant { mirrored: false, degrees: 0.0, scale: 1.0 };
        let cases = [
            (Variant { mirrored: true, ..plain }, image(|x, y| -x + 0.25 * y)),
            (Variant { scale: 1.02, ..plain }, image(|x, y| (x + 0.25 * y) / 1.02)),
            // Clockwise: what was above the centre is now to its right.
            (
                Variant { degrees: DEGREES, ..plain },
                image(|x, y| (cosine * x + sine * y) + 0.25 * (cosine * y - sine * x)),
            ),
        ];
        for (variant, wanted) in cases {
            let found = variant.apply(&ramp, SIZE);
            // Near the border something may come in from outside.
            for i in (5..SIZE - 5).flat_map(|y| (5..SIZE - 5).map(move |x| y * SIZE + x)) {
                assert!((found[i] - wanted[i]).abs() < 1e-4, "{variant:?}: {} against {}", found[i], wanted[i]);
            }
        }
        let dot = image(|x, y| f32::from(x == 0.0 && y == -15.0));
        let turned = Variant { degrees: DEGREES, ..plain }.apply(&dot, SIZE);
        let centre_of_mass = turned.iter().enumerate().map(|(i, v)| v * ((i % SIZE) as f32 - 20.0)).sum::<f32>();
        assert!(centre_of_mass > 1.0, "clockwise on a screen: {centre_of_mass}");
    }

    #[test]
    fn the_image_itself_comes_first_and_nothing_leaves_its_range() {
        let noise = image(|x, y| ((x * 12.9898 + y * 78.233).sin() * 43_758.547).fract().abs());
        for (tta, count) in [(Tta::Off, 1), (Tta::Five, 5), (Tta::Ten, 10)] {
            let variants = tta.variants();
            assert_eq!(variants.len(), count);
            assert_eq!(variants[0].apply(&noise, SIZE), noise);
            for (i, variant) in variants.iter().enumerate() {
                let seen = variant.apply(&noise, SIZE);
                assert!(seen.iter().all(|v| (-1e-6..=1.000_001).contains(v)), "{variant:?}");
                assert!(i == 0 || seen != noise, "{variant:?} changes nothing");
            }
        }
    }
}
