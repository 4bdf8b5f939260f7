//! Class activation maps: where the evidence for a label's score lies in the last feature map.
//!
//! The networks end in global average pooling (GAP), so a score S depends on the feature map A only through the
//! embedding e_c = sum over y, x of A\[y, x, c\] / (h w). Whatever layers follow, with w_c = dS/de_c at this embedding
//! the chain rule gives dS/dA\[y, x, c\] = w_c / (h w): the same at every position. Hence, before any ReLU,
//!
//! - Grad-CAM (Selvaraju et al. 2017) averages this gradient over positions: sum over c of w_c A\[y, x, c\] / (h w);
//! - HiResCAM (Draelos and Carin 2020) multiplies before summing: the same;
//! - CAM (Zhou et al. 2016) takes the Dense layer's row: the same times h w, and for one Dense layer only.
//!
//! Its sum over all positions is w . e: for one Dense layer the score without its bias. So no backward pass is needed,
//! and the map is no approximation of one: `scripts/oracle_cam.py` holds it to TensorFlow's.
//!
//! *Which layer.* The predecessor of the paper took the batch normalisation before the last ReLU (protocol section 3).
//! Here it is the tensor that GAP reads, after that ReLU, since only there do the three agree and the map adds up to
//! the score; before the ReLU, positions that the network throws away would still get heat (protocol section 7, last
//! sentence). For VGG both are the last pooling. The paper does not say which layer it took.

use std::str::FromStr;

use chestnut_nn::Taps;
use chestnut_zoo::graph::Shape;
use serde::{Deserialize, Serialize};

use super::{ExplainError, HeatMap};

/// The last feature map of one image.
#[derive(Clone, Copy, Debug)]
pub struct FeatureMap<'a> {
    values: &'a [f32],
    height: usize,
    width: usize,
    channels: usize,
}

impl<'a> FeatureMap<'a> {
    /// Wraps `[row][column][channel]`.
    ///
    /// # Errors
    /// [`ExplainError`] if a side is 0 or the length does not fit.
    pub fn new(values: &'a [f32], height: usize, width: usize, channels: usize) -> Result<Self, ExplainError> {
        let positions = ExplainError::check_size("a feature map", width, height)?;
        if channels == 0 {
            return Err(ExplainError::setting("channels of a feature map", channels, "at least 1"));
        }
        ExplainError::check_length("the feature map", values.len(), positions.saturating_mul(channels))?;
        Ok(Self { values, height, width, channels })
    }

    /// Image number `image` of a batch that was run with feature maps; `shape` is
    /// [`chestnut_nn::Engine::feature_map_shape`].
    ///
    /// # Errors
    /// [`ExplainError`] if the taps hold no such map.
    pub fn of(taps: &'a Taps, image: usize, shape: Shape) -> Result<Self, ExplainError> {
        let one = shape.height.saturating_mul(shape.width).saturating_mul(shape.channels);
        let start = image.saturating_mul(one);
        let values =
            start.checked_add(one).and_then(|end| taps.feature_maps.get(start..end)).ok_or(ExplainError::Length {
                what: "the feature maps of a batch",
                found: taps.feature_maps.len(),
                expected: start.saturating_add(one),
            })?;
        Self::new(values, shape.height, shape.width, shape.channels)
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Channels: the width of the embedding.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Rows times columns.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// The channels of each position, row by row.
    pub(crate) fn pixels(&self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.channels)
    }

    /// The embedding: mean of each channel, in double precision.
    #[must_use]
    pub fn pooled(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for pixel in self.pixels() {
            sums.iter_mut().zip(pixel).for_each(|(s, &v)| *s += f64::from(v));
        }
        sums.iter_mut().for_each(|s| *s /= self.positions() as f64);
        sums
    }
}

/// Signed evidence of each position, sum over channels of weight x activation / positions, in units of the score.
///
/// All values together are `weights` . embedding. With the gradient of a score as weights it is Grad-CAM before its
/// ReLU.
///
/// # Errors
/// [`ExplainError`] for another number of weights than channels, or values that are not finite.
pub fn class_activation(map: &FeatureMap, weights: &[f64]) -> Result<HeatMap, ExplainError> {
    ExplainError::check_length("the weights of the head", weights.len(), map.channels)?;
    let share = 1.0 / map.positions() as f64;
    let evidence = |pixel: &[f32]| pixel.iter().zip(weights).map(|(&a, w)| f64::from(a) * w).sum::<f64>() * share;
    let values: Vec<f64> = map.pixels().map(evidence).collect();
    HeatMap::from_f64(map.width, map.height, &values)
}

/// Which map is made, and how those of several networks become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CamKind {
    /// Grad-CAM: of the score before the sigmoid, with its ReLU (evidence for the label only); each network's map is
    /// scaled to 0..1, then the mean over networks. The paper's scaling is not known; this is our choice (protocol
    /// section 10).
    #[default]
    GradCam,
    /// HiResCAM: the signed evidence, without ReLU and scaling; the mean over networks adds up to the mean of the
    /// networks' scores without biases. Shows evidence against a label too.
    HiRes,
    /// The predecessor's guided variant (protocol section 7), for comparison: of the probability after the sigmoid; of
    /// the gradient only what is positive and where the activation is positive; starts at ones, no ReLU; each map has
    /// its mean subtracted and is divided by its standard deviation, then the mean over networks. Its mask is
    /// [`super::mask::MaskRule::Peak`] at 0.5 unless another is asked for ([`super::mask::MaskRule::of`]).
    ///
    /// One difference remains: the layer here is behind the last ReLU (see above), so activations are never negative.
    /// Both resize bilinearly with half-pixel centres.
    Legacy,
}

impl CamKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::GradCam, Self::HiRes, Self::Legacy];

    /// Name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GradCam => "grad-cam",
            Self::HiRes => "hi-res",
            Self::Legacy => "legacy",
        }
    }

    /// One line for captions and reports.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::GradCam => "Grad-CAM before the sigmoid, 0 to 1 per network, mean over networks",
            Self::HiRes => "HiResCAM: signed evidence before the sigmoid, mean over networks",
            Self::Legacy => "guided Grad-CAM of the predecessor, z-score per network, mean over networks",
        }
    }
}

impl FromStr for CamKind {
    type Err = ExplainError;

    fn from_str(text: &str) -> Result<Self, ExplainError> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|k| k.name() == text);
        found.ok_or_else(|| ExplainError::setting("the kind of heat map", text, format!("one of {names}")))
    }
}

/// Map of one network at the feature map's size, before any scaling between networks.
///
/// `gradient` is that of the score before the sigmoid ([`super::ExplainedHead::gradient`]); `probability` is the
/// label's, after the sigmoid, 0 to 1, and is read by [`CamKind::Legacy`] only.
///
/// # Errors
/// As [`class_activation`].
pub fn explain(kind: CamKind, map: &FeatureMap, gradient: &[f64], probability: f64) -> Result<HeatMap, ExplainError> {
    match kind {
        CamKind::GradCam => Ok(class_activation(map, gradient)?.relu()),
        CamKind::HiRes => class_activation(map, gradient),
        CamKind::Legacy => guided(map, gradient, probability),
    }
}

/// The predecessor's map: 1 + sum over channels of a mean guided gradient x activation.
///
/// Where the probability is close to 0 or 1 the sigmoid passes no gradient on, and in single precision the ones may be
/// all that is left: the map is flat, in the predecessor's code as here.
fn guided(map: &FeatureMap, gradient: &[f64], probability: f64) -> Result<HeatMap, ExplainError> {
    ExplainError::check_length("the weights of the head", gradient.len(), map.channels)?;
    let mut active = vec![0_usize; map.channels];
    for pixel in map.pixels() {
        active.iter_mut().zip(pixel).for_each(|(n, &a)| *n += usize::from(a > 0.0));
    }
    let positions = map.positions() as f64;
    let slope = probability * (1.0 - probability);
    // The gradient at a position is slope x weight / positions; the mean over space counts the active positions.
    let weight = |(&n, &g): (&usize, &f64)| (slope * g / positions).max(0.0) * (n as f64 / positions);
    let weights: Vec<f64> = active.iter().zip(gradient).map(weight).collect();
    let heat = |pixel: &[f32]| 1.0 + pixel.iter().zip(&weights).map(|(&a, w)| f64::from(a) * w).sum::<f64>();
    let values: Vec<f64> = map.pixels().map(heat).collect();
    HeatMap::from_f64(map.width, map.height, &values)
}

/// One map of `width` x `height` from those of several networks ([`explain`]), which may differ in size.
///
/// Each is resized first and scaled then, as its kind says, so that every network has the same weight. A flat map (a
/// network without any evidence for the label) adds 0 everywhere; [`HeatMap::is_flat`] tells which were.
///
/// # Errors
/// [`ExplainError`] without any map or for a size that is not possible.
pub fn combine(kind: CamKind, maps: &[HeatMap], width: usize, height: usize) -> Result<HeatMap, ExplainError> {
    let scaled = maps.iter().map(|map| match kind {
        CamKind::GradCam => map.resized(width, height).map(|m| m.min_max()),
        CamKind::HiRes => map.resized_with_sum(width, height),
        CamKind::Legacy => map.resized(width, height).map(|m| m.z_score()),
    });
    HeatMap::mean(&scaled.collect::<Result<Vec<_>, ExplainError>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    fn activations(draw: &mut Stream, count: usize) -> Vec<f32> {
        (0..count).map(|_| draw.normal().max(0.0) as f32).collect()
    }

    #[test]
    fn evidence_adds_up_to_the_score() {
        let mut draw = Stream::keyed(1, "cam");
        for _ in 0..30 {
            let (h, w, c) = (1 + draw.below(8), 1 + draw.below(8), 1 + draw.below(300));
            let values = activations(&mut draw, h * w * c);
            let map = FeatureMap::new(&values, h, w, c).expect("whole");
            let weights: Vec<f64> = (0..c).map(|_| draw.normal()).collect();
            let expected: f64 = map.pooled().iter().zip(&weights).map(|(e, w)| e * w).sum();
            let heat = class_activation(&map, &weights).expect("fits");
            assert!((heat.sum() - expected).abs() < 1e-5, "{h} x {w} x {c}: {} and {expected}", heat.sum());
            let positive = explain(CamKind::GradCam, &map, &weights, 0.5).expect("fits");
            assert_eq!(positive, heat.relu());
            // HiRes keeps the sum through resizing and averaging.
            let twice = combine(CamKind::HiRes, &[heat.clone(), heat], 50, 31).expect("possible");
            assert!((twice.sum() - expected).abs() < 1e-4, "{} and {expected}", twice.sum());
        }
    }

    #[test]
    fn networks_weigh_the_same_whatever_their_scale() {
        let small = HeatMap::new(2, 1, vec![0.0, 1e-3]).expect("whole");
        let large = HeatMap::new(2, 1, vec![500.0, 0.0]).expect("whole");
        for kind in [CamKind::GradCam, CamKind::Legacy] {
            let both = combine(kind, &[small.clone(), large.clone()], 2, 1).expect("possible");
            assert!((both.get(0, 0) - both.get(1, 0)).abs() < 1e-6, "{kind:?}: {both:?}");
        }
        let flat = HeatMap::new(1, 1, vec![0.0]).expect("whole");
        let mean = combine(CamKind::GradCam, &[small, flat], 2, 1).expect("possible");
        assert_eq!(mean.values, [0.0, 0.5], "a flat map adds nothing");
        assert_eq!(combine(CamKind::HiRes, &[], 2, 1), Err(ExplainError::NoMaps));
    }

    #[test]
    fn the_guided_map_by_hand() {
        // Two positions, two channels; the second channel has a negative weight and must not count.
        let map = FeatureMap::new(&[2.0, 5.0, 0.0, 7.0], 1, 2, 2).expect("whole");
        let heat = explain(CamKind::Legacy, &map, &[4.0, -3.0], 0.5).expect("fits");
        // Slope 1/4; gradient 4 / 4 / 2 = 0.5, at one of two positions: 0.25; times the activation 2.
        assert_eq!(heat.values, [1.5, 1.0]);
        let sure = explain(CamKind::Legacy, &map, &[4.0, -3.0], 1.0).expect("fits");
        assert!(sure.is_flat(), "no gradient behind a saturated sigmoid");
    }

    #[test]
    fn parts_of_different_networks_are_refused() {
        let values = vec![0.0; 12];
        let map = FeatureMap::new(&values, 2, 2, 3).expect("whole");
        for kind in CamKind::ALL {
            assert!(explain(kind, &map, &[1.0; 4], 0.5).is_err(), "{kind:?}");
            assert_eq!(kind.name().parse::<CamKind>(), Ok(kind));
        }
        assert!("cam".parse::<CamKind>().is_err());
        assert!(class_activation(&map, &[f64::NAN; 3]).is_err());
        assert!(FeatureMap::new(&values, 2, 2, 4).is_err());
        assert!(FeatureMap::new(&values, 0, 2, 3).is_err() && FeatureMap::new(&[], 2, 2, 0).is_err());
        let taps = Taps { feature_maps: values.clone(), ..Taps::default() };
        let shape = Shape { height: 1, width: 2, channels: 3 };
        assert!(FeatureMap::of(&taps, 1, shape).is_ok() && FeatureMap::of(&taps, 2, shape).is_err());
    }
}
