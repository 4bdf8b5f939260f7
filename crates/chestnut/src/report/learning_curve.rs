//! The picture of a training run: loss above, validation AUC below, against the epoch.

use super::svg::{self, Drawing, circle, line, polyline, text, text_upwards};

/// Left, top, width and height of each plot.
const PLOT: (f64, f64, f64, f64) = (62.0, 12.0, 420.0, 170.0);
/// Lines of the grid between bottom and top.
const STEPS: usize = 4;

/// A figure that stands alone; per epoch training loss, validation loss and validation AUC.
#[must_use]
pub fn learning_curve(title: &str, epochs: &[(f64, Option<f64>, Option<f64>)]) -> String {
    let train: Vec<Option<f64>> = epochs.iter().map(|e| Some(e.0)).collect();
    let validation: Vec<Option<f64>> = epochs.iter().map(|e| e.1).collect();
    let auc: Vec<Option<f64>> = epochs.iter().map(|e| e.2).collect();
    let losses = plot("loss", &[("training", "curve s0", &train), ("validation", "curve s1", &validation)], false);
    let aucs = plot("mean validation AUC", &[("validation", "curve s1", &auc)], true);
    let sample = |class: &str| Drawing {
        width: 30.0,
        height: 12.0,
        name: String::new(),
        body: line((1.0, 6.0), (29.0, 6.0), class),
    };
    let legend = [("training".to_owned(), sample("curve s0")), ("validation".to_owned(), sample("curve s1"))];
    svg::grid(title, &[losses, aucs], 1, &legend)
}

/// One plot; with `ring`, the first highest point of the last curve gets one.
fn plot(name: &str, curves: &[(&str, &str, &Vec<Option<f64>>)], ring: bool) -> Drawing {
    let (left, top, width, height) = PLOT;
    let count = curves.iter().map(|c| c.2.len()).max().unwrap_or(0);
    let values = || curves.iter().flat_map(|c| c.2.iter().flatten().copied()).filter(|v| v.is_finite());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    // No value at all, or all equal: any span will do.
    let (low, high) = if low < high {
        (low, high)
    } else {
        (if low.is_finite() { low - 0.01 } else { 0.0 }, if high.is_finite() { high + 0.01 } else { 1.0 })
    };
    let x = |epoch: usize| left + width * (epoch as f64 + 0.5) / count.max(1) as f64;
    let y = |value: f64| top + height * (high - value) / (high - low);
    let mut body = String::new();
    for i in 0..=STEPS {
        let value = low + (high - low) * i as f64 / STEPS as f64;
        body += &line((left, y(value)), (left + width, y(value)), "g");
        body += &text((left - 8.0, y(value) + 4.0), "r q", &format!("{value:.3}"));
    }
    for epoch in (0..count).step_by(count.div_ceil(12).max(1)) {
        body += &text((x(epoch), top + height + 18.0), "m q", &(epoch + 1).to_string());
    }
    body += &text((left + width / 2.0, top + height + 34.0), "m", "epoch");
    body += &text_upwards((14.0, top + height / 2.0), "m", name);
    let mut said = name.to_owned();
    for (curve, class, points) in curves {
        let known: Vec<(usize, f64)> =
            points.iter().enumerate().filter_map(|(i, v)| v.filter(|v| v.is_finite()).map(|v| (i, v))).collect();
        let places: Vec<(f64, f64)> = known.iter().map(|&(i, v)| (x(i), y(v))).collect();
        body += &polyline(&places, class, curve);
        for &place in &places {
            body += &circle(place, 2.0, &class.replace("curve ", "dot "));
        }
        if let (Some(first), Some(last)) = (known.first(), known.last()) {
            said += &format!("; {curve} from {:.3} to {:.3}", first.1, last.1);
        }
        let best = known.iter().fold(None, |best: Option<(usize, f64)>, &(i, v)| match best {
            Some((_, b)) if b >= v => best,
            _ => Some((i, v)),
        });
        if let (true, Some((epoch, value))) = (ring, best) {
            body += &circle((x(epoch), y(value)), 6.0, "ring");
            said += &format!(", best {value:.3} in epoch {}", epoch + 1);
        }
    }
    Drawing { width: left + width + 12.0, height: top + height + 42.0, name: said, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_losses_and_the_best_auc_are_drawn() {
        let epochs = [(0.6, Some(0.5), Some(0.81)), (0.4, Some(0.45), Some(0.9)), (0.3, None, Some(0.88))];
        let figure = learning_curve("A <run>", &epochs);
        assert_eq!(figure.matches("<polyline").count(), 3);
        assert_eq!(figure.matches("class=\"ring\"").count(), 1);
        assert!(figure.contains("A &lt;run&gt;") && figure.contains("mean validation AUC"));
        for odd in [&epochs[..1], &[], &[(f64::NAN, None, None)]] {
            let figure = learning_curve("t", odd);
            assert!(figure.contains("</svg>") && !figure.contains("NaN") && !figure.contains("inf"));
        }
    }
}
