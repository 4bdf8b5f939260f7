//! What maps reach that never saw the image: the chance levels beside which agreement must be read.
//!
//! Findings are not spread evenly over radiographs, so a map may agree with experts by pointing at the middle of every
//! image. Both maps here are evaluated by the very code that evaluates explanations ([`super::agreement::evaluate`]).

use chestnut_stats::random::{Stream, fnv1a};
use serde::{Deserialize, Serialize};

use super::agreement::{Agreement, AgreementRule, evaluate};
use super::{ExplainError, HeatMap, Mask};

/// Standard deviation of the central map, as a share of each side.
pub const DEFAULT_SIGMA: f64 = 0.25;
/// Side of the grid of random values: the last feature map of most of the paper's networks at 224 x 224.
pub const DEFAULT_GRID: usize = 7;
/// Largest such grid.
pub const MAX_GRID: usize = 1024;

/// A map that knows only the size of the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChanceMap {
    /// A Gaussian hill in the middle; its standard deviation is this share of the width, and of the height.
    Centre {
        /// Above 0.
        sigma: f64,
    },
    /// Normal values on a square grid, enlarged as a network's last feature map is; another draw for each image and
    /// label.
    Random {
        /// Values along each side, 2 to [`MAX_GRID`].
        grid: usize,
        /// Seed of the draws.
        seed: u64,
    },
}

impl ChanceMap {
    /// The two chance levels of a report.
    #[must_use]
    pub fn both(seed: u64) -> [Self; 2] {
        [Self::Centre { sigma: DEFAULT_SIGMA }, Self::Random { grid: DEFAULT_GRID, seed }]
    }

    /// What it is, for tables.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Centre { sigma } => format!("chance: middle of the image (sigma {sigma} of the sides)"),
            Self::Random { grid, .. } => format!("chance: random {grid} x {grid} map"),
        }
    }

    /// The map for an image of that size; `image` and `label` only key the draws.
    ///
    /// # Errors
    /// [`ExplainError`] for settings out of range or a size that is not possible.
    pub fn map(self, image: &str, label: &str, width: usize, height: usize) -> Result<HeatMap, ExplainError> {
        match self {
            Self::Centre { sigma } => centre(sigma, width, height),
            Self::Random { grid, seed } => random(grid, seed, image, label)?.resized(width, height),
        }
    }

    /// The agreement that this map reaches with an expert's region.
    ///
    /// # Errors
    /// As [`ChanceMap::map`] and [`evaluate`].
    pub fn agreement(
        self,
        image: &str,
        label: &str,
        expert: &Mask,
        rule: &AgreementRule,
    ) -> Result<Agreement, ExplainError> {
        evaluate(&self.map(image, label, expert.width, expert.height)?, expert, rule)
    }
}

fn centre(sigma: f64, width: usize, height: usize) -> Result<HeatMap, ExplainError> {
    if !(sigma > 0.0 && sigma.is_finite()) {
        return Err(ExplainError::setting("sigma of the central map", sigma, "above 0"));
    }
    let pixels = ExplainError::check_size("a heat map", width, height)?;
    let hill = |length: usize| -> Vec<f64> {
        let from_middle = |i: usize| ((i as f64 + 0.5) / length as f64 - 0.5) / sigma;
        (0..length).map(|i| (-0.5 * from_middle(i).powi(2)).exp()).collect()
    };
    let (across, down) = (hill(width), hill(height));
    let mut values = Vec::with_capacity(pixels);
    for y in &down {
        values.extend(across.iter().map(|x| (x * y) as f32));
    }
    HeatMap::new(width, height, values)
}

fn random(grid: usize, seed: u64, image: &str, label: &str) -> Result<HeatMap, ExplainError> {
    if !(2..=MAX_GRID).contains(&grid) {
        return Err(ExplainError::setting("grid of the random map", grid, format!("2 to {MAX_GRID}")));
    }
    let by_image = Stream::keyed(seed, "chance map").child(fnv1a(image.as_bytes()));
    let mut draw = by_image.child(fnv1a(label.as_bytes()));
    HeatMap::new(grid, grid, (0..grid * grid).map(|_| draw.normal() as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hill_is_a_gaussian_in_the_middle() {
        let map = ChanceMap::Centre { sigma: 0.25 }.map("a", "b", 8, 16).expect("possible");
        // One standard deviation from the middle: 2 columns, or 4 rows; pixel centres lie halfway between.
        assert!((map.get(4, 8) / map.get(6, 8) - (0.5 * (1.25f32.powi(2) - 0.25f32.powi(2))).exp()).abs() < 1e-5);
        assert_eq!(map.get(0, 3), map.get(7, 12), "the same from all sides");
        let (_, high) = map.range();
        assert_eq!(map.get(3, 7), high);
    }

    #[test]
    fn random_maps_are_keyed_and_agree_by_chance() {
        let random = ChanceMap::Random { grid: 7, seed: 3 };
        let map = |image, label| random.map(image, label, 30, 20).expect("possible");
        assert_eq!(map("a", "x"), map("a", "x"));
        assert!(map("a", "x") != map("b", "x") && map("a", "x") != map("a", "y"));
        let inside = (0..600).map(|i| i % 30 > 15 && i < 240).collect();
        let expert = Mask::new(30, 20, inside).expect("whole");
        let rule = AgreementRule::default();
        let repeats = 300;
        let sum: f64 = (0..repeats)
            .map(|i| random.agreement(&i.to_string(), "x", &expert, &rule).expect("same size").coverage)
            .sum();
        // Border and inner pixels are not equally often among the highest, so this is near the mask's share only.
        assert!((sum / f64::from(repeats) - 0.2).abs() < 0.06, "{}", sum / f64::from(repeats));
    }

    #[test]
    fn settings_are_checked() {
        for wrong in [
            ChanceMap::Centre { sigma: 0.0 },
            ChanceMap::Centre { sigma: f64::NAN },
            ChanceMap::Random { grid: 1, seed: 0 },
            ChanceMap::Random { grid: MAX_GRID + 1, seed: 0 },
        ] {
            assert!(wrong.map("a", "b", 8, 8).is_err(), "{wrong:?}");
        }
        assert!(ChanceMap::both(1)[0].map("a", "b", 0, 8).is_err());
    }
}
