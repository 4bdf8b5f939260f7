//! Colours of heat maps and labels.
//!
//! The two maps for reading grow steadily in brightness away from their neutral end, so that they also work in grey and
//! for most colour-blind people; tests hold them to that. Control points are our own; between them colours are linear
//! in sRGB.

/// How values become colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMap {
    /// From dark violet over green to yellow, for heat from none to most.
    #[default]
    Heat,
    /// Blue for evidence against, light grey for none, red for evidence in favour.
    Signed,
    /// The rainbow of older papers, to redraw their figures. Its brightness rises and falls, so edges appear where
    /// there are none.
    LegacyJet,
}

const HEAT: [[f64; 3]; 7] = [
    [40.0, 10.0, 70.0],
    [62.0, 48.0, 125.0],
    [48.0, 96.0, 145.0],
    [32.0, 138.0, 140.0],
    [70.0, 178.0, 110.0],
    [160.0, 208.0, 60.0],
    [250.0, 230.0, 45.0],
];
const SIGNED: [[f64; 3]; 5] =
    [[25.0, 70.0, 160.0], [110.0, 160.0, 215.0], [235.0, 235.0, 235.0], [230.0, 140.0, 110.0], [165.0, 25.0, 40.0]];
/// Okabe and Ito's colours, those first that stand out on a dark radiograph.
const LABELS: [[u8; 3]; 7] =
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [204, 121, 167], [0, 114, 178]];

impl ColourMap {
    /// Red, green and blue of `t`, 0 to 1; beyond that the ends. For [`ColourMap::Signed`] 0.5 is neutral.
    #[must_use]
    pub fn colour(self, t: f64) -> [u8; 3] {
        // Also turns NaN into 0.
        let t = if t > 0.0 { t.min(1.0) } else { 0.0 };
        match self {
            Self::Heat => between(&HEAT, t),
            Self::Signed => between(&SIGNED, t),
            Self::LegacyJet => {
                // Three tents of half width 3/8 with flat tops of 1/4, their middles at 3/4, 1/2 and 1/4.
                [0.75, 0.5, 0.25]
                    .map(|middle: f64| (255.0 * (1.5 - 4.0 * (t - middle).abs()).clamp(0.0, 1.0)).round() as u8)
            }
        }
    }
}

/// Linear between equally spaced points.
fn between(points: &[[f64; 3]], t: f64) -> [u8; 3] {
    let at = t * (points.len() - 1) as f64;
    let low = (at as usize).min(points.len() - 2);
    let part = at - low as f64;
    std::array::from_fn(|c| (points[low][c] + part * (points[low + 1][c] - points[low][c])).round() as u8)
}

/// Colour number `index` for labels; they repeat after seven.
pub(super) fn label_colour(index: usize) -> [u8; 3] {
    LABELS[index % LABELS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative brightness as the eye sees it (ITU-R BT.709 weights, on sRGB values).
    fn brightness(colour: [u8; 3]) -> f64 {
        let [red, green, blue] = colour.map(f64::from);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn brightness_is_steady() {
        let steps =
            |map: ColourMap| -> Vec<f64> { (0..=64).map(|i| brightness(map.colour(f64::from(i) / 64.0))).collect() };
        assert!(steps(ColourMap::Heat).windows(2).all(|w| w[0] < w[1]));
        let signed = steps(ColourMap::Signed);
        assert!(signed[..33].windows(2).all(|w| w[0] < w[1]) && signed[32..].windows(2).all(|w| w[0] > w[1]));
        assert!(!steps(ColourMap::LegacyJet).windows(2).all(|w| w[0] <= w[1]), "which is why it is not the default");
    }

    #[test]
    fn ends_and_beyond() {
        assert_eq!(ColourMap::Heat.colour(0.0), [40, 10, 70]);
        assert_eq!((ColourMap::Heat.colour(1.0), ColourMap::Heat.colour(9.0)), ([250, 230, 45], [250, 230, 45]));
        assert_eq!((ColourMap::Heat.colour(-1.0), ColourMap::Heat.colour(f64::NAN)), ([40, 10, 70], [40, 10, 70]));
        assert_eq!(ColourMap::Signed.colour(0.5), [235, 235, 235]);
        assert_eq!(ColourMap::LegacyJet.colour(0.5), [128, 255, 128]);
        assert_eq!(label_colour(7), label_colour(0));
    }
}
