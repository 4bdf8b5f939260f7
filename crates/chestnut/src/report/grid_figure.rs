//! The picture of a grid search: score against depth, a line for each number of trees.

use super::svg::{self, Drawing, circle, line, polyline, text, text_upwards};
use std::collections::BTreeSet;

/// One setting of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridPoint {
    /// Trees.
    pub trees: usize,
    /// Depth.
    pub depth: usize,
    /// Mean macro AUC over the folds.
    pub mean: f64,
    /// Its standard deviation.
    pub sd: f64,
}

/// Left, top, width and height of the plot.
const PLOT: (f64, f64, f64, f64) = (56.0, 12.0, 420.0, 240.0);

/// A figure that stands alone; `best` is (trees, depth) of the chosen setting, which gets a ring.
#[must_use]
pub fn grid_plot(title: &str, points: &[GridPoint], best: (usize, usize)) -> String {
    let depths: Vec<usize> = points.iter().map(|p| p.depth).collect::<BTreeSet<_>>().into_iter().collect();
    let trees: Vec<usize> = points.iter().map(|p| p.trees).collect::<BTreeSet<_>>().into_iter().collect();
    let (low, high) = points.iter().fold((1.0_f64, 0.0_f64), |(l, h), p| (l.min(p.mean), h.max(p.mean)));
    // Whole hundredths, and at least four of them, so that noise does not fill the picture.
    let (low, high) =
        ((low * 100.0).floor() / 100.0, ((high * 100.0).ceil() / 100.0).max((low * 100.0).floor() / 100.0 + 0.04));
    let (left, top, width, height) = PLOT;
    let x = |depth: usize| {
        let i = depths.iter().position(|&d| d == depth).unwrap_or(0);
        left + width * (i as f64 + 0.5) / depths.len().max(1) as f64
    };
    let y = |mean: f64| top + height * (high - mean) / (high - low);
    let mut body = String::new();
    let steps = ((high - low) * 100.0).round() as usize;
    for i in (0..=steps).step_by(steps.div_ceil(6).max(1)) {
        let value = low + i as f64 / 100.0;
        body += &line((left, y(value)), (left + width, y(value)), "g");
        body += &text((left - 8.0, y(value) + 4.0), "r q", &format!("{value:.2}"));
    }
    for &depth in &depths {
        body += &text((x(depth), top + height + 18.0), "m q", &depth.to_string());
    }
    body += &text((left + width / 2.0, top + height + 36.0), "m", "max_depth");
    body += &text_upwards((14.0, top + height / 2.0), "m", "mean macro AUC over folds");
    let mut legend = Vec::new();
    for (i, &count) in trees.iter().enumerate() {
        let class = format!("curve s{} d{}", i % 7, i / 7 % 3);
        let mut line_points: Vec<&GridPoint> = points.iter().filter(|p| p.trees == count).collect();
        line_points.sort_by_key(|p| p.depth);
        let coordinates: Vec<(f64, f64)> = line_points.iter().map(|p| (x(p.depth), y(p.mean))).collect();
        body += &polyline(&coordinates, &class, &format!("{count} trees"));
        let sample = line((1.0, 6.0), (29.0, 6.0), &class);
        legend
            .push((format!("{count} trees"), Drawing { width: 30.0, height: 12.0, name: String::new(), body: sample }));
    }
    let chosen = points.iter().find(|p| (p.trees, p.depth) == best);
    let mut name = title.to_owned();
    if let Some(p) = chosen {
        body += &circle((x(p.depth), y(p.mean)), 6.0, "ring");
        name += &format!(": {} trees, depth {}, AUC {:.3} (sd {:.3})", p.trees, p.depth, p.mean, p.sd);
    }
    let drawing = Drawing { width: left + width + 12.0, height: top + height + 44.0, name: name.clone(), body };
    svg::grid(&name, &[drawing], 1, &legend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_the_choice_are_drawn() {
        let points: Vec<GridPoint> = [10, 100]
            .into_iter()
            .flat_map(|trees| {
                [2, 5, 10].map(|depth| GridPoint { trees, depth, mean: 0.7 + depth as f64 / 1000.0, sd: 0.01 })
            })
            .collect();
        let svg = grid_plot("RF on a <net>", &points, (10, 5));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("class=\"ring\"") && svg.contains("&lt;net&gt;") && svg.contains("10 trees, depth 5"));
        assert!(grid_plot("one point", &points[..1], (1, 1)).contains("</svg>"));
    }
}
