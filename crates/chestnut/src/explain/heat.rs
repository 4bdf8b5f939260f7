//! A heat map: one number per pixel, and what is done to it between a network and a picture.
//!
//! Maps are resized as the recipe resizes images (bilinear, half-pixel centres). The recipe squashes the whole image
//! into the network's square, so a map resized to the image's own size lies right without any further step.
//!
//! A map that is the same everywhere points nowhere. Its scaled forms are zero everywhere instead of a division by
//! zero, and [`HeatMap::is_flat`] tells it apart, so that nobody reads an empty overlay as "the network saw nothing
//! here".

use super::ExplainError;
use crate::image::recipe;

/// One number per pixel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Columns, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// `[row][column]`, finite.
    pub values: Vec<f32>,
}

impl HeatMap {
    /// Checks and wraps values.
    ///
    /// # Errors
    /// [`ExplainError`] if a side is 0, there are too many pixels, or `values` has another length or is not finite.
    pub fn new(width: usize, height: usize, values: Vec<f32>) -> Result<Self, ExplainError> {
        let pixels = ExplainError::check_size("a heat map", width, height)?;
        ExplainError::check_length("a heat map", values.len(), pixels)?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(ExplainError::NotFinite { what: "a heat map", at });
        }
        Ok(Self { width, height, values })
    }

    /// As [`HeatMap::new`], from values that were computed in double precision.
    pub(crate) fn from_f64(width: usize, height: usize, values: &[f64]) -> Result<Self, ExplainError> {
        Self::new(width, height, values.iter().map(|&v| v as f32).collect())
    }

    /// Value of column `x` and row `y`.
    ///
    /// # Panics
    /// If the map has no such pixel.
    #[must_use]
    pub fn get(&self, x: usize, y: usize) -> f32 {
        assert!(x < self.width && y < self.height, "pixel {x}, {y} of {} x {}", self.width, self.height);
        self.values[y * self.width + x]
    }

    /// Least and greatest value.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        let low = self.values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (low, high)
    }

    /// Whether all values are the same, so that the map points nowhere.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        let (low, high) = self.range();
        low >= high
    }

    /// Sum over all pixels, in double precision.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.values.iter().map(|&v| f64::from(v)).sum()
    }

    /// The `q` quantile of the values, `q` in 0..1, by linear interpolation (NumPy's default).
    ///
    /// # Panics
    /// If `q` is outside 0..1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f32 {
        recipe::quantile(&self.values, q)
    }

    /// Bilinear, half-pixel centres, as [`recipe::Recipe::prepare`] resizes images. Values at the border reach
    /// outwards.
    ///
    /// # Errors
    /// [`ExplainError::Size`] for a size that is not possible.
    pub fn resized(&self, width: usize, height: usize) -> Result<Self, ExplainError> {
        let pixels = ExplainError::check_size("a heat map", width, height)?;
        if (width, height) == (self.width, self.height) {
            return Ok(self.clone());
        }
        let (columns, rows) = (taps(self.width, width), taps(self.height, height));
        let mut values = Vec::with_capacity(pixels);
        for row in &rows {
            let top = &self.values[row.lower * self.width..][..self.width];
            let bottom = &self.values[row.upper * self.width..][..self.width];
            for column in &columns {
                let blend = |line: &[f32]| lerp(line[column.lower].into(), line[column.upper].into(), column.part);
                values.push(lerp(blend(top), blend(bottom), row.part) as f32);
            }
        }
        Ok(Self { width, height, values })
    }

    /// As [`HeatMap::resized`], for maps whose sum means something: values are spread over the new pixels so that the
    /// sum stays (to rounding). What bilinear weights lose or win at the borders is dealt evenly to all pixels.
    ///
    /// # Errors
    /// As [`HeatMap::resized`].
    pub fn resized_with_sum(&self, width: usize, height: usize) -> Result<Self, ExplainError> {
        let resized = self.resized(width, height)?;
        let pixels = resized.values.len() as f64;
        let share = self.values.len() as f64 / pixels;
        let rest = (self.sum() - share * resized.sum()) / pixels;
        Ok(resized.map(|v| share * v + rest))
    }

    /// From 0 at the least value to 1 at the greatest; 0 everywhere for a flat map.
    #[must_use]
    pub fn min_max(&self) -> Self {
        let (low, high) = self.range();
        let (low, span) = (f64::from(low), f64::from(high) - f64::from(low));
        self.map(|v| if span > 0.0 { (v - low) / span } else { 0.0 })
    }

    /// Mean 0 and standard deviation 1 (of the population, divisor n); 0 everywhere for a flat map.
    #[must_use]
    pub fn z_score(&self) -> Self {
        if self.is_flat() {
            return self.map(|_| 0.0);
        }
        let mean = self.sum() / self.values.len() as f64;
        let squares: f64 = self.values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
        let deviation = (squares / self.values.len() as f64).sqrt();
        self.map(|v| (v - mean) / deviation)
    }

    /// Negative values become 0.
    #[must_use]
    pub fn relu(&self) -> Self {
        self.map(|v| v.max(0.0))
    }

    /// Mean of several maps, pixel by pixel, each map with the same weight. Flat ones count: after
    /// [`HeatMap::min_max`] they are 0 everywhere and make the mean paler.
    ///
    /// # Errors
    /// [`ExplainError`] if there is no map or they differ in size.
    pub fn mean(maps: &[Self]) -> Result<Self, ExplainError> {
        let first = maps.first().ok_or(ExplainError::NoMaps)?;
        let mut sums = vec![0.0; first.values.len()];
        for map in maps {
            ExplainError::check_length("columns of a heat map", map.width, first.width)?;
            ExplainError::check_length("rows of a heat map", map.height, first.height)?;
            sums.iter_mut().zip(&map.values).for_each(|(s, &v)| *s += f64::from(v));
        }
        sums.iter_mut().for_each(|s| *s /= maps.len() as f64);
        Self::from_f64(first.width, first.height, &sums)
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let values = self.values.iter().map(|&v| f(f64::from(v)) as f32).collect();
        Self { width: self.width, height: self.height, values }
    }
}

/// The two source positions of one target position, and how far from the first to the second.
struct Tap {
    lower: usize,
    upper: usize,
    part: f64,
}

/// Source positions along one side; beyond the outermost centres the border's value holds.
fn taps(source: usize, target: usize) -> Vec<Tap> {
    let step = source as f64 / target as f64;
    (0..target)
        .map(|i| {
            let at = (i as f64 + 0.5) * step - 0.5;
            let floor = at.floor();
            let lower = (floor.max(0.0) as usize).min(source - 1);
            let upper = (at.ceil().max(0.0) as usize).min(source - 1);
            Tap { lower, upper, part: at - floor }
        })
        .collect()
}

/// Straight line from `a` to `b`; exact where they are equal.
fn lerp(a: f64, b: f64, t: f64) -> f64 {
    a + (b - a) * t
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Radiograph;
    use chestnut_stats::random::Stream;

    fn drawn(draw: &mut Stream, width: usize, height: usize) -> HeatMap {
        let values = (0..width * height).map(|_| draw.normal() as f32).collect();
        HeatMap::new(width, height, values).expect("whole")
    }

    #[test]
    fn resizing_is_the_recipes() {
        let map = drawn(&mut Stream::keyed(1, "heat"), 37, 53);
        let scale = recipe::Scale::None;
        let recipe = recipe::Recipe { clip_quantile: 1.0, scale, size: 64, ..recipe::Recipe::default() };
        let image = Radiograph { width: 37, height: 53, pixels: map.values.clone(), bits: 12 };
        let expected = recipe.prepare(&image).grey;
        let found = map.resized(64, 64).expect("possible");
        assert!(found.values.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));
        assert_eq!(map.resized(37, 53).expect("possible"), map);
        assert!(map.resized(0, 5).is_err() && map.resized(usize::MAX, 2).is_err());
    }

    #[test]
    fn sums_survive_resizing_when_asked() {
        let mut draw = Stream::keyed(2, "heat");
        for (from, to) in [((7, 7), (224, 224)), ((5, 5), (224, 224)), ((5, 7), (33, 12)), ((1, 1), (9, 4))] {
            let map = drawn(&mut draw, from.0, from.1);
            let resized = map.resized_with_sum(to.0, to.1).expect("possible");
            assert!((resized.sum() - map.sum()).abs() < 1e-5, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn scales_and_what_is_flat() {
        let map = HeatMap::new(2, 2, vec![-1.0, 0.0, 1.0, 3.0]).expect("whole");
        assert_eq!(map.min_max().values, [0.0, 0.25, 0.5, 1.0]);
        assert_eq!(map.relu().values, [0.0, 0.0, 1.0, 3.0]);
        let z = map.z_score();
        assert!(z.sum().abs() < 1e-6 && (z.values.iter().map(|v| v * v).sum::<f32>() - 4.0).abs() < 1e-5);
        assert_eq!(map.quantile(0.5), 0.5);
        for value in [0.0, 7.0] {
            let flat = HeatMap::new(3, 1, vec![value; 3]).expect("whole");
            assert!(flat.is_flat() && !map.is_flat());
            assert_eq!(flat.min_max().values, [0.0; 3]);
            assert_eq!(flat.z_score().values, [0.0; 3]);
            assert!(flat.resized(10, 10).expect("possible").is_flat());
        }
    }

    #[test]
    fn bad_maps_are_refused() {
        assert!(matches!(HeatMap::new(2, 2, vec![0.0; 3]), Err(ExplainError::Length { found: 3, expected: 4, .. })));
        assert!(matches!(HeatMap::new(0, 2, vec![]), Err(ExplainError::Size { .. })));
        assert!(matches!(HeatMap::new(usize::MAX, 3, vec![]), Err(ExplainError::Size { .. })));
        assert!(matches!(HeatMap::new(2, 1, vec![0.0, f32::NAN]), Err(ExplainError::NotFinite { at: 1, .. })));
        assert_eq!(HeatMap::mean(&[]), Err(ExplainError::NoMaps));
        let (a, b) = (HeatMap::new(2, 1, vec![0.0, 2.0]), HeatMap::new(1, 2, vec![0.0; 2]));
        let (a, b) = (a.expect("whole"), b.expect("whole"));
        assert_eq!(HeatMap::mean(&[a.clone(), a.relu()]).expect("same size").values, [0.0, 2.0]);
        assert!(HeatMap::mean(&[a, b]).is_err());
    }
}
