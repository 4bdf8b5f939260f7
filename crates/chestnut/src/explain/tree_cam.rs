//! Heat maps of trees on embeddings, which have no gradient.
//!
//! The exact SHAP value of a feature says how much it moved this prediction away from the average (Lundberg et al.
//! 2020, [`chestnut_forest::Shap`]). The feature itself is the mean of one channel of the last feature map, and each
//! position's part in that mean is known: its activation over the channel's sum. So the feature's value is spread over
//! the positions by these parts. The map adds up to prediction minus base, as SHAP does; what a position gets is
//! evidence for (positive) or against (negative) the label, in units of probability.
//!
//! *What it is not.* A forest sees how strong a channel is, not where: the spreading is a definition. A channel that is
//! silent everywhere can still matter (its absence is evidence); it has no place, so its value is spread evenly, and
//! [`placed_share`] says how much of a prediction could be placed. The paper's heat maps are those of networks; it has
//! none of its trees.

use chestnut_forest::Shap;

use super::{ExplainError, FeatureMap, HeatMap};

/// What a map explains, for captions: `random forest on xception, Edema: SHAP values of embedding features, ...`.
#[must_use]
pub fn describe(learner: &str, network: &str, label: &str) -> String {
    format!(
        "{learner} on {network}, {label}: SHAP values of the embedding's features, each spread over its activations"
    )
}

/// SHAP values of output number `output` laid over the positions of the image's feature map.
///
/// `shap` explains the forest's prediction for the embedding that is this map's mean. The sum of all positions is
/// `shap.total(output) - shap.base[output]`, the prediction minus the base, up to rounding of single precision.
/// Activations behind a ReLU are never negative; where a map has negative ones, parts go by their absolute value.
///
/// # Errors
/// [`ExplainError`] if the forest has no such output, was fitted on more features than the map has channels, or the map
/// holds values that are not finite.
pub fn tree_cam(shap: &Shap, output: usize, map: &FeatureMap) -> Result<HeatMap, ExplainError> {
    let values = shap_values(shap, output, map)?;
    let masses = masses(map);
    let positions = map.positions() as f64;
    // Per unit of activation; a silent channel goes to all positions alike.
    let rates: Vec<f64> = values.iter().zip(&masses).map(|(v, &m)| if m > 0.0 { v / m } else { 0.0 }).collect();
    let silent: f64 = values.iter().zip(&masses).filter(|&(_, &m)| m <= 0.0).map(|(v, _)| v).sum();
    let heat = |pixel: &[f32]| {
        pixel.iter().zip(&rates).map(|(&a, rate)| f64::from(a.abs()) * rate).sum::<f64>() + silent / positions
    };
    let heat: Vec<f64> = map.pixels().map(heat).collect();
    HeatMap::from_f64(map.width(), map.height(), &heat)
}

/// Share of the SHAP values (by absolute value) whose channel is active somewhere, so that they have a place: 0 to 1; 1
/// if all values are 0.
///
/// # Errors
/// As [`tree_cam`].
pub fn placed_share(shap: &Shap, output: usize, map: &FeatureMap) -> Result<f64, ExplainError> {
    let values = shap_values(shap, output, map)?;
    let total: f64 = values.iter().map(|v| v.abs()).sum();
    let placed: f64 = values.iter().zip(masses(map)).filter(|&(_, m)| m > 0.0).map(|(v, _)| v.abs()).sum();
    Ok(if total > 0.0 { placed / total } else { 1.0 })
}

/// Mean over the networks of their maps, resized to `width` x `height`: it adds up to the averaged prediction minus the
/// averaged base, as the predictions are averaged (Eq. 1 of the paper). Values are probability per pixel.
///
/// # Errors
/// [`ExplainError`] without any map or for a size that is not possible.
pub fn combine(maps: &[HeatMap], width: usize, height: usize) -> Result<HeatMap, ExplainError> {
    let resized = maps.iter().map(|map| map.resized_with_sum(width, height));
    HeatMap::mean(&resized.collect::<Result<Vec<_>, ExplainError>>()?)
}

/// One value per channel.
fn shap_values(shap: &Shap, output: usize, map: &FeatureMap) -> Result<Vec<f64>, ExplainError> {
    let count = shap.base.len();
    if output >= count {
        return Err(ExplainError::Output { what: "the forest", found: output, count });
    }
    if let Some(&last) = shap.features.last()
        && last as usize >= map.channels()
    {
        let (what, found) = ("the features of the forest", last as usize + 1);
        return Err(ExplainError::Length { what, found, expected: map.channels() });
    }
    Ok(shap.dense(map.channels(), output))
}

/// Sum of the absolute activations of each channel.
fn masses(map: &FeatureMap) -> Vec<f64> {
    let mut masses = vec![0.0; map.channels()];
    for pixel in map.pixels() {
        masses.iter_mut().zip(pixel).for_each(|(m, &a)| *m += f64::from(a.abs()));
    }
    masses
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_forest::{Explainer, Features, Forest, Labels, Params};
    use chestnut_stats::random::Stream;

    const CHANNELS: usize = 12;

    /// Feature maps `[row][column][channel]` of `count` images; channel 3 is silent in every other image.
    fn maps(draw: &mut Stream, count: usize, positions: usize) -> Vec<Vec<f32>> {
        fn value(draw: &mut Stream, image: usize, i: usize) -> f32 {
            if i % CHANNELS == 3 && image.is_multiple_of(2) { 0.0 } else { draw.normal().max(0.0) as f32 }
        }
        (0..count).map(|image| (0..positions * CHANNELS).map(|i| value(draw, image, i)).collect()).collect()
    }

    #[test]
    fn the_map_adds_up_to_the_prediction() {
        for (case, (h, w)) in [(7, 7), (5, 5), (3, 4), (1, 1)].into_iter().enumerate() {
            let mut draw = Stream::keyed(case as u64, "tree cam");
            let images = maps(&mut draw, 80, h * w);
            let pooled = |values: &Vec<f32>| FeatureMap::new(values, h, w, CHANNELS).expect("whole").pooled();
            let table: Vec<f32> = images.iter().flat_map(pooled).map(|v| v as f32).collect();
            let features = Features::new(table, CHANNELS).expect("finite");
            let label = |i: usize| {
                let row = features.row(i / 2);
                Some(if i.is_multiple_of(2) { row[3] > 0.1 } else { row[5] + row[7] > 0.8 + 0.3 * draw_sign(i) })
            };
            let labels: Vec<_> = (0..160).map(label).collect();
            let labels = Labels::new(&labels, 2).expect("whole");
            let params = Params { trees: 20, ..Params::extra_trees(case as u64) };
            let forest = Forest::fit(&features, &labels, &params).expect("fits");
            let predictions = forest.predict(&features).expect("predicts");
            let explainer = Explainer::new(&forest).expect("holds together");
            for (i, image) in images.iter().enumerate().take(10) {
                let map = FeatureMap::new(image, h, w, CHANNELS).expect("whole");
                let shap = explainer.explain(features.row(i)).expect("explains");
                for k in 0..2 {
                    let expected = predictions[i * 2 + k] - shap.base[k];
                    let heat = tree_cam(&shap, k, &map).expect("fits");
                    assert!((heat.sum() - expected).abs() < 1e-5, "{}, expected {expected}", heat.sum());
                    let both = combine(&[heat.clone(), heat], 61, 47).expect("possible");
                    assert!((both.sum() - expected).abs() < 1e-5, "{}, expected {expected}", both.sum());
                    let placed = placed_share(&shap, k, &map).expect("fits");
                    let silent = i % 2 == 0 && shap.value(3, k).abs() > 1e-6;
                    assert!(!silent || placed < 1.0, "image {i}, label {k}: {placed}");
                    // With this many positions no other channel is silent.
                    assert!(silent || h * w < 25 || i % 2 == 0 || placed == 1.0, "image {i}, label {k}: {placed}");
                }
            }
        }
    }

    /// A little disagreement, so that labels do not follow from features alone.
    fn draw_sign(i: usize) -> f32 {
        if (i / 2) % 7 == 3 { 1.0 } else { -1.0 }
    }

    #[test]
    fn values_go_where_the_channel_is_active() {
        let shap = Shap { base: vec![0.25], features: vec![0, 2], values: vec![0.5, -0.25] };
        // Channel 0: 3 at the left, 1 at the right. Channel 2 silent.
        let map = FeatureMap::new(&[3.0, 9.0, 0.0, 1.0, 9.0, 0.0], 1, 2, 3).expect("whole");
        assert_eq!(tree_cam(&shap, 0, &map).expect("fits").values, [0.375 - 0.125, 0.125 - 0.125]);
        assert!((placed_share(&shap, 0, &map).expect("fits") - 2.0 / 3.0).abs() < 1e-12);
        // Negative activations: by their absolute value.
        let signed = FeatureMap::new(&[3.0, 0.0, 1.0, -1.0, 0.0, 0.0], 1, 2, 3).expect("whole");
        assert_eq!(tree_cam(&shap, 0, &signed).expect("fits").values, [0.375 - 0.25, 0.125]);
        assert!(matches!(tree_cam(&shap, 1, &map), Err(ExplainError::Output { .. })));
        let narrow = FeatureMap::new(&[1.0, 1.0], 1, 1, 2).expect("whole");
        assert!(matches!(tree_cam(&shap, 0, &narrow), Err(ExplainError::Length { .. })));
        assert!(describe("RF", "xception", "Edema").starts_with("RF on xception, Edema"));
    }
}
