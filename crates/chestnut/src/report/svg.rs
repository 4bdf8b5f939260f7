//! The few SVG elements that our figures need, written by hand: lines, curves, text, and a grid of drawings.
//!
//! Inside the report colours come from the page (light or dark); a file that stands alone carries the same style
//! sheet with the light colours filled in. Nothing in here knows what is drawn.

/// Style of all figures; `var(--f-...)` is given by the page or filled in from [`LIGHT`].
pub(crate) const STYLE: &str = include_str!("figure.css");

/// Colours of a figure that stands alone: Okabe and Ito's palette without yellow and black, and grey.
const LIGHT: [(&str, &str); 11] = [
    ("var(--f-ink)", "#1c2126"),
    ("var(--f-soft)", "#5b6670"),
    ("var(--f-grid)", "#e3e7ea"),
    ("var(--f-paper)", "#ffffff"),
    ("var(--f-0)", "#0072b2"),
    ("var(--f-1)", "#d55e00"),
    ("var(--f-2)", "#009e73"),
    ("var(--f-3)", "#cc79a7"),
    ("var(--f-4)", "#e69f00"),
    ("var(--f-5)", "#56b4e9"),
    ("var(--f-6)", "#777777"),
];
/// Space between the drawings of a grid, and around them.
const GAP: f64 = 18.0;
/// Characters of a legend's longest name are counted as this wide.
const CHARACTER: f64 = 6.6;

/// A part of a figure: its elements in units of a CSS pixel, and its name for those who cannot see it.
#[derive(Clone, Debug)]
pub(crate) struct Drawing {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) name: String,
    pub(crate) body: String,
}

impl Drawing {
    /// As an element of a page that holds [`STYLE`].
    pub(crate) fn inline(&self) -> String {
        let (w, h) = (number(self.width), number(self.height));
        let name = escape(&self.name);
        format!(
            "<svg class=\"f\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"{name}\">{}</svg>",
            self.body
        )
    }
}

/// A file of its own: `title`, the drawings in rows of `columns`, and a legend below.
pub(crate) fn grid(title: &str, drawings: &[Drawing], columns: usize, legend: &[(String, Drawing)]) -> String {
    let columns = columns.min(drawings.len()).max(1);
    let cell = drawings.iter().fold((0.0_f64, 0.0_f64), |(w, h), d| (w.max(d.width), h.max(d.height)));
    let width = GAP + (cell.0 + GAP) * columns as f64;
    let mut body = text((GAP, 26.0), "t big", title);
    for (i, drawing) in drawings.iter().enumerate() {
        let x = GAP + (cell.0 + GAP) * (i % columns) as f64;
        let y = 40.0 + (cell.1 + GAP) * (i / columns) as f64;
        body += &moved((x, y), &drawing.body);
    }
    let mut y = 40.0 + (cell.1 + GAP) * drawings.len().div_ceil(columns) as f64;
    let longest = legend.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let item = 56.0 + CHARACTER * longest as f64;
    let per_row = (((width - GAP) / item) as usize).max(1);
    for (i, (name, sample)) in legend.iter().enumerate() {
        let x = GAP + item * (i % per_row) as f64;
        let row = y + 18.0 * (i / per_row) as f64;
        body += &moved((x, row), &sample.body);
        body += &text((x + 36.0, row + 10.0), "", name);
    }
    y += 18.0 * legend.len().div_ceil(per_row) as f64;
    let style = LIGHT.iter().fold(STYLE.to_owned(), |style, (name, colour)| style.replace(name, colour));
    let (w, h) = (number(width), number(y + 4.0));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"f\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\">\n\
         <title>{}</title>\n<style>{style}</style>\n<rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n{body}</svg>\n",
        escape(title)
    )
}

fn moved((x, y): (f64, f64), body: &str) -> String {
    format!("<g transform=\"translate({} {})\">{body}</g>\n", number(x), number(y))
}

/// A straight line between two points.
pub(crate) fn line(a: (f64, f64), b: (f64, f64), class: &str) -> String {
    let [x1, y1, x2, y2] = [a.0, a.1, b.0, b.1].map(number);
    format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>")
}

/// A circle.
pub(crate) fn circle(centre: (f64, f64), radius: f64, class: &str) -> String {
    let [x, y, r] = [centre.0, centre.1, radius].map(number);
    format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"/>")
}

/// A run of text; the class says how it is aligned.
pub(crate) fn text(at: (f64, f64), class: &str, words: &str) -> String {
    if words.is_empty() {
        return String::new();
    }
    format!("<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>", number(at.0), number(at.1), escape(words))
}

/// Text that reads from bottom to top.
pub(crate) fn text_upwards(at: (f64, f64), class: &str, words: &str) -> String {
    let (x, y) = (number(at.0), number(at.1));
    format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\" transform=\"rotate(-90 {x} {y})\">{}</text>", escape(words))
}

/// A curve through points, thinned to what can be seen, with a text that shows on pointing at it.
pub(crate) fn polyline(points: &[(f64, f64)], class: &str, tip: &str) -> String {
    let points: Vec<String> = thinned(points).iter().map(|p| format!("{},{}", number(p.0), number(p.1))).collect();
    format!("<polyline class=\"{class}\" points=\"{}\"><title>{}</title></polyline>", points.join(" "), escape(tip))
}

/// Rounds to tenths of a pixel and leaves out points that repeat, or lie within a level or upright stretch. A ROC curve
/// of any number of images then has at most a few thousand points.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(i64, i64)> = Vec::new();
    for &(x, y) in points {
        let p = ((x * 10.0).round() as i64, (y * 10.0).round() as i64);
        if kept.last() == Some(&p) {
            continue;
        }
        if kept.len() >= 2 {
            let (a, b) = (kept[kept.len() - 2], kept[kept.len() - 1]);
            if (a.0 == b.0 && b.0 == p.0) || (a.1 == b.1 && b.1 == p.1) {
                kept.pop();
            }
        }
        kept.push(p);
    }
    kept.into_iter().map(|(x, y)| (x as f64 / 10.0, y as f64 / 10.0)).collect()
}

/// At most one decimal, so that the same drawing is the same bytes everywhere.
fn number(v: f64) -> String {
    let text = format!("{v:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Text for HTML and XML; characters that XML forbids become spaces.
pub(crate) fn escape(words: &str) -> String {
    let mut safe = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_keep_their_corners_only() {
        let stairs = [(0.0, 9.0), (0.0, 5.0), (0.0, 1.0), (0.01, 1.0), (4.0, 1.0), (9.0, 1.0), (9.0, 0.0)];
        assert_eq!(thinned(&stairs), [(0.0, 9.0), (0.0, 1.0), (9.0, 1.0), (9.0, 0.0)]);
        // A ROC curve of a hundred thousand images stays small, and is still a curve.
        let long: Vec<(f64, f64)> =
            (0..100_000_u32).map(|i| (f64::from(i / 2) / 500.0, f64::from(i.div_ceil(2)) / 500.0)).collect();
        assert!((1_000..=4_000).contains(&thinned(&long).len()), "{}", thinned(&long).len());
    }

    #[test]
    fn text_is_escaped_and_numbers_are_short() {
        assert_eq!(text((1.0, -0.04), "t", "<b>&\u{1}"), "<text class=\"t\" x=\"1\" y=\"0\">&lt;b&gt;&amp; </text>");
        assert_eq!([0.26, 12.0, -3.96].map(number), ["0.3", "12", "-4"]);
    }

    #[test]
    fn a_grid_stands_alone() {
        let d = Drawing { width: 100.0, height: 50.0, name: "n".into(), body: line((0.0, 0.0), (1.0, 1.0), "s0") };
        let file = grid("a <title>", &[d.clone(), d.clone(), d.clone()], 2, &[("one".into(), d)]);
        assert!(!file.contains("var("), "every colour is filled in");
        assert!(
            file.contains("a &lt;title&gt;")
                && file.contains("translate(136 40)")
                && file.contains("translate(18 108)")
        );
    }
}
