//! Figures of what lies beyond the AUC: best ROC curves, calibration, net benefit, learning curve, differences.
//!
//! Panels as in `figures`, one per label; here a line is an approach, in one colour on the whole page. A panel without
//! data says so in its middle. Nothing is computed.

use super::document::Figures;
use super::figures::{NAME, RocLine, TITLE, axis_low, roc_panel, sample, title};
use super::finding::finding;
use super::svg::{self, Drawing, circle, line, polyline, text, text_upwards};
use super::words::{p_value, signed};
use crate::evaluate::Comparison;
use crate::evaluate::results::{Difference, LearningPoint, MethodDetail};
use crate::evaluate::table::{approaches, clip, decimal, wrap};

/// Left, top and side length of the plot in a square panel, and the panel's size.
const SQUARE: (f64, f64, f64) = (50.0, 40.0, 180.0);
const SQUARE_SIZE: (f64, f64) = (240.0, 270.0);
/// Left end of the axis, top of the first row, height of a row and width of a panel of differences.
const ROWS: (f64, f64, f64, f64) = (136.0, 46.0, 17.0, 380.0);
/// Room for the numbers at the right of a panel of differences.
const NUMBERS: f64 = 104.0;
/// Net benefit is cut off this far below 0, as a share of the axis above 0.
const BELOW: f64 = 0.2;
/// Colours, and line patterns once they are used up.
const COLOURS: usize = 7;
const PATTERNS: usize = 3;

/// Panels and the legend of their lines.
pub(super) struct Plot {
    shape: &'static str,
    legend: Vec<(String, Drawing)>,
    panels: Vec<Drawing>,
}

impl Plot {
    /// For the page.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            shape: self.shape,
            legend: self.legend.iter().map(|(name, sample)| (name.clone(), sample.inline())).collect(),
            panels: self.panels.iter().map(Drawing::inline).collect(),
        }
    }
}

/// Figures that stand alone: (file name, SVG).
pub(super) fn svg_files(c: &Comparison) -> Vec<(String, String)> {
    let plots = [
        ("roc-best.svg", "ROC curves: the best row of each approach", roc_best(c)),
        ("calibration.svg", "Calibration", reliability(c)),
        ("decision.svg", "Net benefit", decision(c)),
        ("learning.svg", "AUC against patients to learn from", learning(c)),
        ("differences.svg", "Differences of AUCs", differences(c)),
    ];
    let file = |(name, title, plot): (&str, &str, Option<Plot>)| {
        let plot = plot?;
        let columns = if plot.shape == "roc" { 4 } else { 2 };
        Some((name.to_owned(), svg::grid(title, &plot.panels, columns, &plot.legend)))
    };
    plots.into_iter().filter_map(file).collect()
}

/// The class of an approach's lines.
fn class(c: &Comparison, approach: &str) -> String {
    let at = approaches(c).iter().position(|a| *a == approach).unwrap_or(0);
    format!("s{} d{}", at % COLOURS, at / COLOURS % PATTERNS)
}

/// ROC curves per label, a line for the row of each approach with the greatest mean AUC.
pub(super) fn roc_best(c: &Comparison) -> Option<Plot> {
    let mut lines = Vec::new();
    for approach in approaches(c) {
        let rows = c.methods.iter().filter(|m| m.approach == approach && m.mean_auc.is_some());
        let best = rows.reduce(|best, m| if m.mean_auc > best.mean_auc { m } else { best });
        if let Some(method) = best {
            let name = format!("{approach}: {}", method.source);
            lines.push(RocLine { method, name, class: class(c, approach) });
        }
    }
    let legend = lines.iter().map(|l| sample(&l.name, &l.class)).collect();
    let panels = (0..c.labels.len()).map(|k| roc_panel(c, k, &lines)).collect();
    (!lines.is_empty()).then_some(Plot { shape: "roc", legend, panels })
}

/// A square panel's axes.
struct Axes {
    x: [f64; 2],
    y: [f64; 2],
}

impl Axes {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, top, side) = SQUARE;
        let share = |v: f64, [low, high]: [f64; 2]| ((v - low) / (high - low)).clamp(0.0, 1.0);
        (left + side * share(x, self.x), top + side * (1.0 - share(y, self.y)))
    }

    /// Title, grid and names of the axes.
    fn draw(
        &self,
        (name, below): (&str, &str),
        x_ticks: &[(f64, String)],
        y_ticks: &[(f64, String)],
        (x_name, y_name): (&str, &str),
    ) -> String {
        let (left, top, side) = SQUARE;
        let mut body = text((left, 16.0), "t", name) + &text((left, 31.0), "q", below);
        for (x, label) in x_ticks {
            body += &line(self.at(*x, self.y[0]), self.at(*x, self.y[1]), "g");
            body += &text((self.at(*x, 0.0).0, top + side + 14.0), "q m", label);
        }
        for (y, label) in y_ticks {
            body += &line(self.at(self.x[0], *y), self.at(self.x[1], *y), "g");
            body += &text((left - 5.0, self.at(0.0, *y).1 + 4.0), "q r", label);
        }
        body += &text((left + side / 2.0, top + side + 28.0), "q m", x_name);
        body + &text_upwards((11.0, top + side / 2.0), "q m", y_name)
    }
}

/// Words in the middle of an empty panel.
fn instead(reason: &str) -> String {
    let (left, top, side) = SQUARE;
    let lines = wrap(reason, 28);
    let at = |i: usize| (left + side / 2.0, top + side / 2.0 - 20.0 + 15.0 * i as f64);
    lines.iter().take(5).enumerate().map(|(i, words)| text(at(i), "m halo", words)).collect()
}

fn square(name: String, body: String) -> Drawing {
    Drawing { width: SQUARE_SIZE.0, height: SQUARE_SIZE.1, name, body }
}

fn halves() -> Vec<(f64, String)> {
    vec![(0.0, "0".to_owned()), (0.5, ".5".to_owned()), (1.0, "1".to_owned())]
}

/// The details of the row that the page speaks of first, else the first.
pub(super) fn first_detail(c: &Comparison) -> Option<&MethodDetail> {
    let of = finding(c).and_then(|f| super::finding::detail_of(c, f.method));
    of.or(c.details.first())
}

/// Reliability curves per label of the row that the page speaks of first, a line for each calibration.
pub(super) fn reliability(c: &Comparison) -> Option<Plot> {
    const LINES: [(&str, &str); 3] = [("none", "e d1"), ("Platt", "s0 d0"), ("isotonic", "s1 d0")];
    let detail = first_detail(c)?;
    let axes = Axes { x: [0.0, 1.0], y: [0.0, 1.0] };
    let panel = |k: usize| {
        let (name, below) = title(c, k);
        let mut body = axes.draw(
            (name.as_str(), below.as_str()),
            &halves(),
            &halves(),
            ("predicted probability", "observed share"),
        );
        body += &line(axes.at(0.0, 0.0), axes.at(1.0, 1.0), "chance");
        let label = detail.labels.get(k);
        let scores = label.map(|l| l.calibration.as_slice()).unwrap_or_default();
        for score in scores {
            let class = LINES.iter().find(|(method, _)| *method == score.method).map_or("e d2", |(_, class)| *class);
            let points: Vec<(f64, f64)> = score.bins.iter().map(|&(p, observed, _)| axes.at(p, observed)).collect();
            body += &polyline(&points, &format!("curve {class}"), &score.method);
            points.iter().for_each(|&p| body += &circle(p, 2.4, &format!("dot {class}")));
        }
        if scores.is_empty() {
            body += &instead(label.and_then(|l| l.reason.as_deref()).unwrap_or("not estimable"));
        }
        square(format!("Calibration of {name}"), body)
    };
    let legend = LINES.iter().map(|(name, class)| sample(&calibration_name(name), class)).collect();
    Some(Plot { shape: "roc", legend, panels: (0..c.labels.len()).map(panel).collect() })
}

/// `as it is`, `Platt`, `isotonic`.
pub(super) fn calibration_name(method: &str) -> String {
    if method == "none" { "as it is".to_owned() } else { method.to_owned() }
}

/// Decision curves per label, a line for each approach with details.
pub(super) fn decision(c: &Comparison) -> Option<Plot> {
    if c.details.iter().all(|d| d.labels.iter().all(|l| l.decision.is_empty())) {
        return None;
    }
    let panel = |k: usize| {
        let (name, below) = title(c, k);
        let curves: Vec<(&str, &[[f64; 3]])> = c
            .details
            .iter()
            .filter_map(|d| Some((d.approach.as_str(), &d.labels.get(k)?.decision[..])))
            .filter(|(_, curve)| !curve.is_empty())
            .collect();
        let values = curves.iter().flat_map(|(_, curve)| curve.iter().flat_map(|p| [p[1], p[2]]));
        let high = values.filter(|v| v.is_finite()).fold(0.01, f64::max);
        let axes = Axes { x: [0.0, 1.0], y: [-BELOW * high, high] };
        let steps = [0.0, 0.5, 1.0].map(|share: f64| (share * high, benefit(share * high, high)));
        let names = ("threshold probability", "net benefit");
        let mut body = axes.draw((name.as_str(), below.as_str()), &halves(), &steps, names);
        body += &line(axes.at(0.0, 0.0), axes.at(1.0, 0.0), "tick");
        let mut draw = |curve: &[[f64; 3]], column: usize, class: &str, tip: &str| {
            let below = |p: &[f64; 3]| p[column] < axes.y[0] || p[column].is_nan();
            for run in curve.split(below).filter(|run| run.len() > 1) {
                let points: Vec<(f64, f64)> = run.iter().map(|p| axes.at(p[0], p[column])).collect();
                body += &polyline(&points, class, tip);
            }
        };
        for (i, &(approach, curve)) in curves.iter().enumerate() {
            if i == 0 {
                draw(curve, 2, "curve chance", "treat all");
            }
            draw(curve, 1, &format!("curve {}", class(c, approach)), approach);
        }
        if curves.is_empty() {
            let reason = c.details.iter().find_map(|d| d.labels.get(k)?.reason.as_deref());
            body += &instead(reason.unwrap_or("not estimable"));
        }
        square(format!("Net benefit for {name}"), body)
    };
    let panels = (0..c.labels.len()).map(panel).collect();
    let mut legend: Vec<_> = c.details.iter().map(|d| sample(&d.approach, &class(c, &d.approach))).collect();
    legend.push(sample("treat all", "chance"));
    legend.push(("treat none".to_owned(), flat("tick")));
    Some(Plot { shape: "roc", legend, panels })
}

/// `0`, `.12`, or `.012` on an axis that ends below a tenth.
fn benefit(value: f64, high: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = if high < 0.1 { format!("{value:.3}") } else { format!("{value:.2}") };
    text.trim_start_matches('0').to_owned()
}

fn flat(class: &str) -> Drawing {
    let body = line((1.0, 6.0), (29.0, 6.0), class);
    Drawing { width: 30.0, height: 12.0, name: String::new(), body }
}

/// Points of each approach, fewest patients first.
pub(super) fn learning_series(c: &Comparison) -> Vec<(&str, Vec<&LearningPoint>)> {
    let mut series: Vec<(&str, Vec<&LearningPoint>)> = Vec::new();
    for point in &c.learning {
        match series.iter_mut().find(|(approach, _)| *approach == point.approach) {
            Some((_, points)) => points.push(point),
            None => series.push((point.approach.as_str(), vec![point])),
        }
    }
    series.iter_mut().for_each(|(_, points)| points.sort_by_key(|p| p.patients));
    series
}

/// AUC against the number of patients to learn from: the mean first, then each label.
pub(super) fn learning(c: &Comparison) -> Option<Plot> {
    let series = learning_series(c);
    let most = c.learning.iter().map(|p| p.patients).max()?.max(1) as f64;
    let means = c.learning.iter().filter_map(|p| p.mean_auc).map(|m| m.min);
    let low = axis_low(means.chain(c.learning.iter().flat_map(|p| p.labels.iter().flatten().copied())));
    let axes = Axes { x: [0.0, most], y: [low, 1.0] };
    let x_ticks: Vec<(f64, String)> =
        [0.0, 0.5, 1.0].map(|share: f64| (share * most, format!("{:.0}", share * most))).to_vec();
    let y_ticks: Vec<(f64, String)> = [low, (low + 1.0) / 2.0, 1.0].map(|y| (y, decimal(y))).to_vec();
    let panel = |column: Option<usize>| {
        let (name, below) = column.map_or_else(|| ("Mean over labels".to_owned(), String::new()), |k| title(c, k));
        let mut body = axes.draw((name.as_str(), below.as_str()), &x_ticks, &y_ticks, ("patients learned from", "AUC"));
        let mut drawn = false;
        for (approach, points) in &series {
            let class = class(c, approach);
            let value = |p: &LearningPoint| match column {
                None => p.mean_auc.map(|m| m.mean),
                Some(k) => p.labels.get(k).copied().flatten(),
            };
            let placed: Vec<(f64, f64)> =
                points.iter().filter_map(|p| Some(axes.at(p.patients as f64, value(p)?))).collect();
            if placed.len() > 1 {
                body += &polyline(&placed, &format!("curve {class}"), approach);
            }
            placed.iter().for_each(|&p| body += &circle(p, 3.0, &format!("dot {class}")));
            drawn |= !placed.is_empty();
            if column.is_none() {
                for p in points {
                    let Some(mean) = p.mean_auc else { continue };
                    let x = p.patients as f64;
                    body += &line(axes.at(x, mean.min), axes.at(x, mean.max), &format!("thin {class}"));
                }
            }
        }
        if !drawn {
            body += &instead("not estimable: one class among so few patients");
        }
        square(format!("Learning curve, {name}"), body)
    };
    let legend = series.iter().map(|(approach, _)| sample(approach, &class(c, approach))).collect();
    let panels = [None].into_iter().chain((0..c.labels.len()).map(Some)).map(panel).collect();
    Some(Plot { shape: "roc", legend, panels })
}

/// Paired differences with their intervals: one panel per pair of approaches.
pub(super) fn differences(c: &Comparison) -> Option<Plot> {
    let ends = |d: &Difference| -> Vec<f64> {
        let of_labels = d.labels.iter().flat_map(|l| {
            let [low, high] = l.interval.unwrap_or([0.0, 0.0]);
            [low, high, l.difference.unwrap_or(0.0)]
        });
        of_labels.chain(d.mean.iter().flat_map(|(_, interval)| *interval)).collect()
    };
    let widest = c.differences.iter().flat_map(ends).filter(|v| v.is_finite()).fold(0.0, |w: f64, v| w.max(v.abs()));
    let limit = ((widest * 10.0).ceil() / 10.0).clamp(0.1, 1.0);
    let panels: Vec<Drawing> = c.differences.iter().map(|d| difference_panel(d, limit)).collect();
    (!panels.is_empty()).then_some(Plot { shape: "rows", legend: Vec::new(), panels })
}

fn difference_panel(d: &Difference, limit: f64) -> Drawing {
    let (left, top, step, width) = ROWS;
    let right = width - NUMBERS;
    let at = |v: f64| left + (v.clamp(-limit, limit) + limit) / (2.0 * limit) * (right - left);
    let rows = d.labels.len() + 1;
    let bottom = top + step * rows as f64;
    let name = format!("{} minus {}", d.first.0, d.second.0);
    let mut body = text((4.0, 16.0), "t", &clip(&name, 2 * TITLE - 10));
    body += &text((4.0, 31.0), "q", &clip(&format!("{} minus {}", d.first.1, d.second.1), 2 * TITLE));
    for share in [-1.0_f64, -0.5, 0.0, 0.5, 1.0] {
        let v = share * limit;
        let class = if share == 0.0 { "chance" } else { "g" };
        body += &line((at(v), top), (at(v), bottom), class);
        if share == 0.0 || share.abs() == 1.0 {
            let label = if share == 0.0 { "0".to_owned() } else { signed(v) };
            body += &text((at(v), bottom + 14.0), "q m", &label);
        }
    }
    body += &text(((left + right) / 2.0, bottom + 28.0), "q m", "difference of AUCs");
    let mut row = |i: usize, name: &str, value: Option<f64>, interval: Option<[f64; 2]>, class: &str, numbers: &str| {
        let y = top + step * (i as f64 + 0.5);
        body += &text((4.0, y + 4.0), if class == "e" { "h" } else { "" }, &clip(name, NAME));
        body += &text((width - 4.0, y + 4.0), "r", numbers);
        if let Some([low, high]) = interval {
            body += &line((at(low), y), (at(high), y), &format!("thin {class}"));
        }
        if let Some(v) = value {
            body += &circle((at(v), y), 3.6, &format!("dot {class}"));
        }
    };
    for (i, l) in d.labels.iter().enumerate() {
        let numbers = match (l.difference, l.p_holm) {
            (Some(v), Some(p)) => format!("{} p {}", signed(v), p_value(p)),
            (Some(v), None) => signed(v),
            (None, _) => "n.e.".to_owned(),
        };
        row(i, &l.label, l.difference, l.interval, "s0", &numbers);
    }
    let (value, interval) = (d.mean.map(|m| m.0), d.mean.map(|m| m.1));
    row(d.labels.len(), "Mean", value, interval, "e", &value.map_or_else(|| "n.e.".to_owned(), signed));
    Drawing { width, height: bottom + 36.0, name: format!("Differences of AUCs: {name}"), body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn every_plot_has_a_panel_per_label_and_says_what_is_missing() {
        let c = example::full();
        let plots = [roc_best(&c), reliability(&c), decision(&c)].map(|p| p.expect("data are there"));
        for plot in &plots {
            assert_eq!(plot.panels.len(), 4);
            // The last label has no positive image.
            assert!(plot.panels[3].body.contains("estimable") || plot.panels[3].body.contains("no positive"));
            assert!(!plot.panels[2].body.contains("<b>") && plot.panels[2].body.contains("&lt;b&gt;"));
        }
        assert_eq!(plots[0].panels[0].body.matches("<polyline").count(), 2);
        assert_eq!(learning(&c).expect("a curve").panels.len(), 5);
        assert_eq!(differences(&c).expect("a pair").panels.len(), 1);
    }

    #[test]
    fn without_data_there_is_no_plot() {
        let c = example::comparison();
        assert!(reliability(&c).is_none() && decision(&c).is_none());
        assert!(learning(&c).is_none() && differences(&c).is_none());
    }

    #[test]
    fn differences_stay_inside_their_axis() {
        let panels = differences(&example::full()).expect("a pair").panels;
        let mut xs = panels[0].body.split(" x1=\"").skip(1).filter_map(|s| s.split('"').next()?.parse::<f64>().ok());
        assert!(xs.all(|x| (ROWS.0..=ROWS.3 - NUMBERS).contains(&x)));
        assert!(panels[0].body.contains("p ") && panels[0].body.contains("Mean"));
    }
}
