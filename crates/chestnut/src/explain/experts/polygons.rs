//! Polygons to pixels: a pixel is inside if its centre is (even-odd rule); the last point joins the first.
//!
//! Several polygons of one label are joined, so a hole must be part of the same polygon. PIL, which CheXlocalize used,
//! also paints the outline itself: its masks are about half a pixel larger all around.

use super::boxes_csv::centres;
use super::collector::Collector;
use super::{MAX_POINTS, Row, Runs};

/// Most crossings of a polygon with rows of pixels.
const MAX_CROSSINGS: usize = 4_000_000;
/// Points further out than this are damage, not drawing.
const FAR: f64 = 1e6;

/// Reads the polygon `x y;x y` of every row, in pixels.
pub(super) fn read_rows(rows: &[Row<'_>], points: usize, collector: &mut Collector<'_>) {
    for row in rows {
        let Some(target) = row.target(collector) else { continue };
        let (width, height) = collector.size(target.0);
        match parse_points(row.cell(points)).and_then(|points| fill(&points, width, height)) {
            Ok(runs) => collector.add(&row.place, target, runs),
            Err(why) => collector.problem(format!("{}: {why}", row.place)),
        }
    }
}

/// Points from `x y;x y`.
fn parse_points(text: &str) -> Result<Vec<[f64; 2]>, String> {
    let mut points = Vec::new();
    for (i, pair) in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()).enumerate() {
        if i == MAX_POINTS {
            return Err(format!("the polygon has more than {MAX_POINTS} points"));
        }
        let mut numbers = pair.split_whitespace().map(|number| number.parse::<f64>().ok());
        match (numbers.next().flatten(), numbers.next().flatten(), numbers.next()) {
            (Some(x), Some(y), None) => points.push([x, y]),
            _ => return Err(format!("point number {} is not two numbers; write x y;x y;x y", i + 1)),
        }
    }
    Ok(points)
}

/// The pixels inside a polygon, of an image of that size; what leads beyond is cut.
///
/// # Errors
/// What is wrong, in words: too few or too many points, or points that cannot be meant.
pub(super) fn fill(points: &[[f64; 2]], width: usize, height: usize) -> Result<Runs, String> {
    if points.len() < 3 {
        return Err(format!("the polygon has {} points; it needs at least 3", points.len()));
    }
    if points.len() > MAX_POINTS {
        return Err(format!("the polygon has more than {MAX_POINTS} points"));
    }
    if let Some(at) = points.iter().position(|p| p.iter().any(|v| !v.is_finite() || v.abs() > FAR)) {
        return Err(format!("point number {} lies nowhere near the image", at + 1));
    }
    let edges = || points.iter().zip(points.iter().cycle().skip(1));
    let rows = |a: &[f64; 2], b: &[f64; 2]| centres(a[1].min(b[1]), a[1].max(b[1]), height);
    let crossings: usize = edges().map(|(a, b)| rows(a, b)).map(|[first, end]| end.saturating_sub(first)).sum();
    if crossings > MAX_CROSSINGS {
        return Err("the polygon goes up and down too often; draw it with fewer points".to_owned());
    }
    // Row and column of each place where an edge passes the height of a row's pixel centres.
    let mut crossed: Vec<(usize, f64)> = Vec::with_capacity(crossings);
    for (a, b) in edges() {
        let [first, end] = rows(a, b);
        for y in first..end {
            let part = (y as f64 + 0.5 - a[1]) / (b[1] - a[1]);
            crossed.push((y, a[0] + part * (b[0] - a[0])));
        }
    }
    crossed.sort_unstable_by(|p, q| p.0.cmp(&q.0).then(p.1.total_cmp(&q.1)));
    // Each row is crossed an even number of times, because the polygon is closed.
    let runs = crossed.chunks_exact(2).map(|pair| {
        let [start, end] = centres(pair[0].1, pair[1].1, width);
        [(pair[0].0 * width + start) as u32, (pair[0].0 * width + end) as u32]
    });
    Ok(Runs::new(runs.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::experts::boxes_csv;
    use chestnut_stats::random::Stream;

    #[test]
    fn a_rectangle_is_a_box() {
        let mut draw = Stream::keyed(1, "polygons");
        for _ in 0..200 {
            let mut at = || draw.range(-3.0, 23.0);
            let (x1, y1, x2, y2) = (at(), at(), at(), at());
            let (left, right, top, bottom) = (x1.min(x2), x1.max(x2), y1.min(y2), y1.max(y2));
            let polygon = fill(&[[x1, y1], [x2, y1], [x2, y2], [x1, y2]], 20, 20).expect("a polygon");
            assert_eq!(polygon, boxes_csv::fill([left, top, right, bottom], 20, 20));
        }
    }

    #[test]
    fn areas_are_those_of_geometry() {
        let triangle = fill(&[[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], 100, 100).expect("a triangle");
        assert!(triangle.area().abs_diff(5000) <= 50, "{}", triangle.area());
        // A ring drawn in one stroke: the inner square is a hole.
        let outer = [[0.0, 10.0], [0.0, 0.0], [30.0, 0.0], [30.0, 30.0], [0.0, 30.0], [0.0, 10.0]];
        let hole = [[10.0, 10.0], [10.0, 20.0], [20.0, 20.0], [20.0, 10.0], [10.0, 10.0]];
        let ring = [outer.as_slice(), hole.as_slice()].concat();
        assert_eq!(fill(&ring, 40, 40).expect("a ring").area(), 800);
        assert_eq!(fill(&[[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]], 20, 20).expect("a line").area(), 0);
    }

    #[test]
    fn bad_polygons_say_why() {
        assert_eq!(parse_points("1 2; 3.5  4;5 6;"), Ok(vec![[1.0, 2.0], [3.5, 4.0], [5.0, 6.0]]));
        assert!(parse_points("1 2;3").expect_err("half a point").contains("number 2"));
        assert!(parse_points("1 2 3").is_err() && parse_points("a b").is_err());
        assert!(fill(&[[0.0, 0.0], [1.0, 1.0]], 9, 9).expect_err("two points").contains("at least 3"));
        assert!(fill(&[[0.0, 0.0], [1.0, f64::NAN], [2.0, 0.0]], 9, 9).is_err());
        let zigzag: Vec<[f64; 2]> = (0..MAX_POINTS).map(|i| [i as f64, if i % 2 == 0 { 0.0 } else { 900.0 }]).collect();
        assert!(fill(&zigzag, 900, 900).expect_err("too many crossings").contains("fewer points"));
    }
}
