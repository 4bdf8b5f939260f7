//! Figures as SVG text: ROC curves, AUCs with their intervals, spread over splits; `plots` draws the others.
//!
//! Every figure is a set of small panels, one per label, so that a page can flow them into as many columns as a screen
//! has; the same panels in a grid make the files under figures/. Lines of networks are coloured (Okabe and Ito's
//! palette, safe for colour-blind readers), ensembles are drawn in the colour of the text. Panels only draw what
//! [`Comparison`] holds; text is escaped, and nothing is fetched.

use super::plots;
use super::svg::{self, Drawing, line, polyline, text};
use crate::evaluate::table::{approaches, clip, counts, decimal, is_few, mean_and_sd, repeats, spread_of, wrap};
use crate::evaluate::{Comparison, MethodScore};

/// Colours of networks before line patterns come in.
const COLOURS: usize = 7;
/// Line patterns of ensembles, and of networks beyond the colours.
const PATTERNS: usize = 3;
/// Left, top and side length of the plot in a ROC panel, and the panel's size.
const ROC: (f64, f64, f64) = (38.0, 40.0, 190.0);
const ROC_SIZE: (f64, f64) = (240.0, 270.0);
/// Left end of the axis, top of the first row below a title of one line, height of a row and width of a row panel.
const ROWS: (f64, f64, f64, f64) = (136.0, 30.0, 17.0, 360.0);
/// Height of the second line of a title, and width of a character of the numbers at the right.
const SECOND_LINE: f64 = 16.0;
const CHARACTER: f64 = 6.5;
/// Names longer than this are shortened in a panel.
pub(super) const NAME: usize = 21;
pub(super) const TITLE: usize = 30;

/// ROC curves of one approach.
#[derive(Clone, Debug)]
pub struct RocGroup {
    /// The approach.
    pub approach: String,
    /// (method, sample of its line as SVG), in the order of the rows.
    pub legend: Vec<(String, String)>,
    /// One SVG per label, in the order of [`Comparison::labels`].
    pub panels: Vec<String>,
}

/// One group of small multiples per approach: a panel per label, a line per method.
#[must_use]
pub fn roc_small_multiples(c: &Comparison) -> Vec<RocGroup> {
    let styles = styles(c);
    let group = |approach: &str| RocGroup {
        approach: approach.to_owned(),
        legend: legend(c, approach, &styles).into_iter().map(|(name, d)| (name, d.inline())).collect(),
        panels: roc_panels(c, approach, &styles).iter().map(Drawing::inline).collect(),
    };
    approaches(c).into_iter().map(group).collect()
}

/// AUC and 95 % interval of every method: one SVG per label on a common axis.
#[must_use]
pub fn forest_plot(c: &Comparison) -> Vec<String> {
    forest_panels(c).iter().map(Drawing::inline).collect()
}

/// AUC over repeated splits: one SVG per label and one of the mean; empty if there was one split.
#[must_use]
pub fn spread_plot(c: &Comparison) -> Vec<String> {
    spread_panels(c).iter().map(Drawing::inline).collect()
}

/// ROC figures that stand alone, one per approach: (file name, SVG).
#[must_use]
pub fn roc_svg_files(c: &Comparison) -> Vec<(String, String)> {
    let styles = styles(c);
    let file = |(i, approach): (usize, &str)| {
        let legend = legend(c, approach, &styles);
        let title = format!("ROC curves: {approach}");
        let svg = svg::grid(&title, &roc_panels(c, approach, &styles), 4, &legend);
        (format!("roc-{}-{}.svg", i + 1, slug(approach)), svg)
    };
    approaches(c).into_iter().enumerate().map(file).collect()
}

/// All figures that stand alone: (file name, SVG).
#[must_use]
pub fn svg_files(c: &Comparison) -> Vec<(String, String)> {
    let mut files = roc_svg_files(c);
    files.push(("auc.svg".to_owned(), svg::grid("AUC with 95 % interval", &forest_panels(c), 3, &[])));
    if let Some(n) = repeats(c) {
        let title = format!("AUC over {n} splits");
        files.push(("spread.svg".to_owned(), svg::grid(&title, &spread_panels(c), 3, &[])));
    }
    files.extend(plots::svg_files(c));
    files
}

/// Lower-case letters and digits of a name, the rest as single hyphens.
fn slug(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join("-")
}

/// Classes of each method's line, the same in all approaches and figures.
fn styles(c: &Comparison) -> Vec<(String, String)> {
    let mut styles: Vec<(String, String)> = Vec::new();
    let (mut networks, mut ensembles) = (0, 0);
    for m in &c.methods {
        if styles.iter().any(|(source, _)| *source == m.source) {
            continue;
        }
        let class = if c.networks.iter().any(|n| n.name == m.source) {
            networks += 1;
            format!("s{} d{}", (networks - 1) % COLOURS, (networks - 1) / COLOURS % PATTERNS)
        } else {
            ensembles += 1;
            format!("e d{}", (ensembles - 1) % PATTERNS)
        };
        styles.push((m.source.clone(), class));
    }
    styles
}

fn style<'a>(styles: &'a [(String, String)], source: &str) -> &'a str {
    styles.iter().find(|(name, _)| name == source).map_or("e d0", |(_, class)| class)
}

fn legend(c: &Comparison, approach: &str, styles: &[(String, String)]) -> Vec<(String, Drawing)> {
    let methods = c.methods.iter().filter(|m| m.approach == approach);
    methods.map(|m| sample(&m.source, style(styles, &m.source))).collect()
}

/// A name beside a sample of its line.
pub(super) fn sample(name: &str, class: &str) -> (String, Drawing) {
    let body = line((1.0, 6.0), (29.0, 6.0), &format!("curve {class}"));
    (name.to_owned(), Drawing { width: 30.0, height: 12.0, name: name.to_owned(), body })
}

/// `PNX*`, and below it how many test images are positive.
pub(super) fn title(c: &Comparison, k: usize) -> (String, String) {
    let star = if is_few(c, k) { "*" } else { "" };
    let below = counts(c, k).map_or_else(String::new, |(p, n)| format!("{p} of {n} positive"));
    (format!("{}{star}", clip(&c.labels[k], TITLE)), below)
}

fn roc_panels(c: &Comparison, approach: &str, styles: &[(String, String)]) -> Vec<Drawing> {
    let mut lines = Vec::new();
    for method in c.methods.iter().filter(|m| m.approach == approach) {
        let class = style(styles, &method.source).to_owned();
        lines.push(RocLine { method, name: method.source.clone(), class });
    }
    (0..c.labels.len()).map(|k| roc_panel(c, k, &lines)).collect()
}

/// A method's curve.
pub(super) struct RocLine<'a> {
    pub(super) method: &'a MethodScore,
    pub(super) name: String,
    pub(super) class: String,
}

/// One label's ROC curves, or the reason why there is none.
pub(super) fn roc_panel(c: &Comparison, k: usize, lines: &[RocLine<'_>]) -> Drawing {
    let (left, top, side) = ROC;
    let at = |x: f64, y: f64| (left + x.clamp(0.0, 1.0) * side, top + (1.0 - y.clamp(0.0, 1.0)) * side);
    let (name, below) = title(c, k);
    let mut body = text((left, 16.0), "t", &name) + &text((left, 31.0), "q", &below);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        body += &line(at(tick, 0.0), at(tick, 1.0), "g");
        body += &line(at(0.0, tick), at(1.0, tick), "g");
    }
    for (tick, label) in [(0.0, "0"), (0.5, ".5"), (1.0, "1")] {
        body += &text((at(tick, 0.0).0, top + side + 14.0), "q m", label);
        body += &text((left - 5.0, at(0.0, tick).1 + 4.0), "q r", label);
    }
    body += &text((left + side / 2.0, top + side + 28.0), "q m", "false positive rate");
    body += &svg::text_upwards((12.0, top + side / 2.0), "q m", "true positive rate");
    body += &line(at(0.0, 0.0), at(1.0, 1.0), "chance");

    let mut drawn = false;
    for RocLine { method, name, class } in lines {
        let Some(score) = method.labels.get(k).filter(|l| l.roc.len() > 1) else { continue };
        let points: Vec<(f64, f64)> = score.roc.iter().map(|p| at(p[0], p[1])).collect();
        let auc = score.auc.map_or_else(String::new, |a| format!(" {}", decimal(a)));
        body += &polyline(&points, &format!("curve {class}"), &format!("{name}{auc}"));
        drawn = true;
    }
    if !drawn {
        let reason = lines.iter().find_map(|l| l.method.labels.get(k)?.reason.as_deref()).unwrap_or("not estimable");
        for (i, words) in wrap(reason, 28).iter().take(5).enumerate() {
            body += &text((left + side / 2.0, top + side / 2.0 - 20.0 + 15.0 * i as f64), "m halo", words);
        }
    }
    Drawing { width: ROC_SIZE.0, height: ROC_SIZE.1, name: format!("ROC curves of {name}"), body }
}

/// One line of a row panel.
struct Row {
    name: String,
    /// `None` for the heading of an approach.
    mark: Option<Mark>,
}

/// What is drawn on a row; `None`s and empty text are left out.
struct Mark {
    class: String,
    /// Centre of the dot.
    centre: Option<f64>,
    /// Ends of the thin line: an interval, or smallest and largest.
    thin: Option<[f64; 2]>,
    /// Ends of the thick line: one standard deviation to each side.
    thick: Option<[f64; 2]>,
    /// Place of an upright tick: the first split.
    tick: Option<f64>,
    value: String,
}

/// A row per method, with a heading per approach if there are several.
fn rows(c: &Comparison, mark: &dyn Fn(&MethodScore) -> Mark) -> Vec<Row> {
    let approaches = approaches(c);
    let mut rows = Vec::new();
    for approach in &approaches {
        if approaches.len() > 1 {
            rows.push(Row { name: (*approach).to_owned(), mark: None });
        }
        let methods = c.methods.iter().filter(|m| m.approach == *approach);
        rows.extend(methods.map(|m| Row { name: m.source.clone(), mark: Some(mark(m)) }));
    }
    rows
}

fn forest_panels(c: &Comparison) -> Vec<Drawing> {
    let styles = styles(c);
    let scores = c.methods.iter().flat_map(|m| &m.labels);
    let low = axis_low(scores.flat_map(|l| [l.auc, l.interval.map(|i| i[0])]).flatten());
    let panel = |k: usize| {
        let rows = rows(c, &|m| {
            let score = m.labels.get(k);
            let auc = score.and_then(|l| l.auc);
            Mark {
                class: style(&styles, &m.source).to_owned(),
                centre: auc,
                thin: score.and_then(|l| l.interval),
                thick: None,
                tick: None,
                value: auc.map_or_else(|| "n.e.".to_owned(), decimal),
            }
        });
        let (name, below) = title(c, k);
        row_panel(&name, &below, &rows, low, 4, "AUC")
    };
    (0..c.labels.len()).map(panel).collect()
}

fn spread_panels(c: &Comparison) -> Vec<Drawing> {
    if repeats(c).is_none() {
        return Vec::new();
    }
    let styles = styles(c);
    let columns: Vec<Option<usize>> = (0..c.labels.len()).map(Some).chain([None]).collect();
    let least = |m: &MethodScore| columns.iter().filter_map(|&k| spread_of(m, k)).map(|s| s.min).collect::<Vec<_>>();
    let low = axis_low(c.methods.iter().flat_map(least));
    let panel = |&column: &Option<usize>| {
        let rows = rows(c, &|m| {
            let spread = spread_of(m, column);
            Mark {
                class: style(&styles, &m.source).to_owned(),
                centre: spread.map(|s| s.mean),
                thin: spread.map(|s| [s.min, s.max]),
                thick: spread.and_then(|s| s.sd.map(|sd| [s.mean - sd, s.mean + sd])),
                tick: match column {
                    Some(k) => m.labels.get(k).and_then(|l| l.auc),
                    None => m.mean_auc.filter(|_| has_same_labels(m)),
                },
                value: spread.map_or_else(|| "n.e.".to_owned(), |s| mean_and_sd(&s, " \u{b1} ")),
            }
        });
        match column {
            Some(k) => row_panel(&clip(&c.labels[k], TITLE), "", &rows, low, 10, "AUC"),
            None => row_panel("Mean over labels", "", &rows, low, 10, "mean AUC"),
        }
    };
    columns.iter().map(panel).collect()
}

/// Whether a row's own mean is of the labels that its mean over splits is of.
fn has_same_labels(m: &MethodScore) -> bool {
    let left_out = |label: &String| m.spread.as_ref().is_some_and(|s| s.left_out.contains(label));
    m.labels.iter().all(|l| l.auc.is_none() || !left_out(&l.label))
}

/// Start of a common AUC axis: a tenth below the least value, at most .4, so that chance is always in sight.
pub(super) fn axis_low(values: impl Iterator<Item = f64>) -> f64 {
    let least = values.filter(|v| v.is_finite()).fold(0.4, f64::min);
    (least * 10.0).floor().max(0.0) / 10.0
}

fn row_panel(name: &str, below: &str, rows: &[Row], low: f64, value_length: usize, axis: &str) -> Drawing {
    let (left, top, step, width) = ROWS;
    let top = if below.is_empty() { top } else { top + SECOND_LINE };
    let right = width - 16.0 - CHARACTER * value_length as f64;
    let at = |v: f64| left + (v.clamp(low, 1.0) - low) / (1.0 - low) * (right - left);
    let bottom = top + step * rows.len() as f64;
    let mut body = text((4.0, 16.0), "t", name) + &text((4.0, 31.0), "q", below);
    let tenths = (low * 10.0).round() as usize;
    let every = if tenths < 4 { 2 } else { 1 };
    for tenth in (tenths..=10).filter(|&t| (10_usize - t).is_multiple_of(every)) {
        let x = at(tenth as f64 / 10.0);
        let label = if tenth == 10 { "1".to_owned() } else { format!(".{tenth}") };
        body += &line((x, top), (x, bottom), "g");
        body += &text((x, bottom + 14.0), "q m", &label);
    }
    body += &line((at(0.5), top), (at(0.5), bottom), "chance");
    body += &text(((left + right) / 2.0, bottom + 28.0), "q m", axis);
    for (i, row) in rows.iter().enumerate() {
        let y = top + step * (i as f64 + 0.5);
        let Some(mark) = &row.mark else {
            body += &text((4.0, y + 4.0), "h", &clip(&row.name, 2 * NAME));
            continue;
        };
        body += &text((4.0, y + 4.0), "", &clip(&row.name, NAME));
        body += &text((width - 4.0, y + 4.0), "r", &mark.value);
        if let Some([a, b]) = mark.thin {
            body += &line((at(a), y), (at(b), y), &format!("thin {}", mark.class));
        }
        if let Some([a, b]) = mark.thick {
            body += &line((at(a), y), (at(b), y), &format!("thick {}", mark.class));
        }
        if let Some(v) = mark.centre {
            body += &svg::circle((at(v), y), 3.6, &format!("dot {}", mark.class));
        }
        if let Some(v) = mark.tick {
            body += &line((at(v), y - 6.0), (at(v), y + 6.0), "tick");
        }
    }
    Drawing { width, height: bottom + 36.0, name: format!("{axis} of {name}"), body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_curve_per_method_and_a_reason_where_there_is_none() {
        let c = example::comparison();
        let groups = roc_small_multiples(&c);
        assert_eq!(groups.iter().map(|g| g.panels.len()).collect::<Vec<_>>(), [4, 4]);
        assert_eq!(groups[0].panels[0].matches("<polyline").count(), 2);
        assert_eq!(groups[0].panels[3].matches("<polyline").count(), 0);
        assert!(groups[0].panels[3].contains("not estimable"));
        assert!(groups[0].panels[2].contains("&lt;b&gt;") && !groups[0].panels[2].contains("<b>"));
        // Networks are coloured, ensembles are drawn as text is.
        assert!(groups[0].legend[0].1.contains("s0 d0") && groups[0].legend[1].1.contains("e d0"));
    }

    #[test]
    fn intervals_stay_inside_their_panel() {
        let c = example::comparison();
        let panels = forest_plot(&c);
        assert_eq!(panels.len(), 4);
        assert_eq!(panels[0].matches("\"dot ").count(), 4);
        assert_eq!(panels[3].matches("\"dot ").count(), 0);
        assert!(panels[3].contains("n.e."));
        let mut xs = panels[0].split(" x1=\"").skip(1).filter_map(|s| s.split('"').next()?.parse::<f64>().ok());
        assert!(xs.all(|x| (ROWS.0..=ROWS.3).contains(&x)), "{}", panels[0]);
    }

    #[test]
    fn spread_needs_several_splits() {
        let mut c = example::comparison();
        assert_eq!(spread_plot(&c).len(), 5);
        // A tick for the first split's mean, unless it is of other labels.
        let ticks = |c: &Comparison| spread_plot(c)[4].matches("\"tick\"").count();
        assert_eq!(ticks(&c), 4);
        c.methods[0].spread.as_mut().expect("three splits").left_out.push("Normal".to_owned());
        assert_eq!(ticks(&c), 3);
        c.methods.iter_mut().for_each(|m| m.spread = None);
        assert!(spread_plot(&c).is_empty());
        assert!(svg_files(&c).iter().all(|(name, _)| name != "spread.svg"));
    }

    #[test]
    fn files_stand_alone() {
        let c = example::comparison();
        let names: Vec<String> = svg_files(&c).iter().map(|(name, _)| name.clone()).collect();
        let expected = ["roc-1-embeddings-rf.svg", "roc-2-embeddings-xrt.svg", "auc.svg", "spread.svg", "roc-best.svg"];
        assert_eq!(names, expected);
        for (name, svg) in svg_files(&c) {
            assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{name}");
            assert!(!svg.contains("var(") && !svg.contains("href") && !svg.contains("url("), "{name}");
        }
    }

    #[test]
    fn the_axis_starts_below_the_least_value() {
        assert_eq!(axis_low([0.9, 0.85].into_iter()), 0.4);
        assert_eq!(axis_low([0.9, 0.05, f64::NAN].into_iter()), 0.0);
    }
}
