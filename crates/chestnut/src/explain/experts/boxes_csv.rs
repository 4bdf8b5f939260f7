//! Boxes from a table: a corner and a size, or two corners, in pixels or in fractions of the image's sides.
//!
//! Known tables: the boxes of NIH ChestX-ray14 (`Bbox [x,y,w,h]`), of the RSNA pneumonia challenge (negative images
//! have blank cells) and of VinDr-CXR (`x_min` to `y_max`). Which unit a table uses is seen from all its rows together.

use super::collector::Collector;
use super::{Row, Runs, column};

/// A table whose coordinates all stay at or below this is one of fractions; rounding may lead a little beyond 1.
const FRACTION_LIMIT: f64 = 1.001;
/// A box may lead this many pixels beyond the image without a word.
const BORDER_TOLERANCE: f64 = 1.0;

/// The four columns of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BoxColumns {
    columns: [usize; 4],
    /// The last two are the far corner, not a size.
    is_corner: bool,
}

impl BoxColumns {
    /// By the header; two corners are preferred, since width and height may also be those of the image.
    pub(super) fn find(header: &[String]) -> Option<Self> {
        let find = |names: &[&str]| column(header, names);
        let x = find(&["x1", "xmin", "left", "x", "bboxx", "x0"])?;
        let y = find(&["y1", "ymin", "top", "y", "bboxy", "y0"])?;
        if let (Some(x2), Some(y2)) = (find(&["x2", "xmax", "right"]), find(&["y2", "ymax", "bottom"])) {
            return Some(Self { columns: [x, y, x2, y2], is_corner: true });
        }
        let (width, height) =
            (find(&["w", "width", "bboxw", "bboxwidth"])?, find(&["h", "height", "bboxh", "bboxheight"])?);
        Some(Self { columns: [x, y, width, height], is_corner: false })
    }
}

/// Reads every row. With `decimal_comma`, `0,5` is a number.
pub(super) fn read_rows(
    name: &str,
    rows: &[Row<'_>],
    columns: BoxColumns,
    decimal_comma: bool,
    collector: &mut Collector<'_>,
) {
    let mut boxes: Vec<(&Row<'_>, [f64; 4])> = Vec::with_capacity(rows.len());
    let mut without = 0usize;
    for row in rows {
        let cells = columns.columns.map(|c| row.cell(c));
        if cells.iter().all(|cell| cell.is_empty()) {
            without += 1;
            continue;
        }
        let mut numbers = cells.map(|cell| number(cell, decimal_comma));
        if columns.is_corner {
            numbers = [numbers[0], numbers[1], less(numbers[2], numbers[0]), less(numbers[3], numbers[1])];
        }
        match numbers {
            [Some(x), Some(y), Some(width), Some(height)] if width > 0.0 && height > 0.0 => {
                boxes.push((row, [x, y, width, height]));
            }
            _ => collector.problem(format!(
                "{}: {} is no box: it needs four numbers and a width and height above 0",
                row.place,
                cells.join(", ")
            )),
        }
    }
    let is_fraction = boxes.iter().all(|(_, b)| b[0] + b[2] <= FRACTION_LIMIT && b[1] + b[3] <= FRACTION_LIMIT);
    if !boxes.is_empty() {
        let unit =
            if is_fraction { "fractions of the image's width and height" } else { "pixels of the original image" };
        collector.note(format!("{name}: coordinates of boxes are taken as {unit}"));
    }
    if without > 0 {
        collector.note(format!("{name}: {without} rows without a box are left out"));
    }
    for (row, [x, y, width, height]) in boxes {
        let Some(target) = row.target(collector) else { continue };
        let size = collector.size(target.0);
        let (right, down) = if is_fraction { (size.0 as f64, size.1 as f64) } else { (1.0, 1.0) };
        let corners = [x * right, y * down, (x + width) * right, (y + height) * down];
        let limits = [size.0 as f64, size.1 as f64];
        if corners[0] >= limits[0] || corners[1] >= limits[1] || corners[2] <= 0.0 || corners[3] <= 0.0 {
            collector.problem(format!(
                "{}: the box lies outside the image of {} x {} pixels; is it drawn on a copy of another size?",
                row.place, size.0, size.1
            ));
            continue;
        }
        let beyond = [-corners[0], -corners[1], corners[2] - limits[0], corners[3] - limits[1]];
        if beyond.iter().any(|&b| b > BORDER_TOLERANCE) {
            collector.note(format!(
                "{}: the box leads beyond the image of {} x {} pixels and is cut",
                row.place, size.0, size.1
            ));
        }
        collector.add(&row.place, target, fill(corners, size.0, size.1));
    }
}

/// The pixels whose centres lie between left and right (not included), top and bottom (not included).
pub(super) fn fill([left, top, right, bottom]: [f64; 4], width: usize, height: usize) -> Runs {
    let columns = centres(left, right, width);
    let rows = centres(top, bottom, height);
    if columns[0] >= columns[1] {
        return Runs::default();
    }
    Runs::new((rows[0]..rows[1]).map(|y| [(y * width + columns[0]) as u32, (y * width + columns[1]) as u32]).collect())
}

/// The first pixel of a side whose centre is at or above `low`, and the first at or above `high`.
pub(super) fn centres(low: f64, high: f64, length: usize) -> [usize; 2] {
    // A cast from f64 saturates, so that absurd numbers end at the borders.
    [low, high].map(|at| ((at - 0.5).ceil().max(0.0) as usize).min(length))
}

fn less(high: Option<f64>, low: Option<f64>) -> Option<f64> {
    Some(high? - low?)
}

fn number(cell: &str, decimal_comma: bool) -> Option<f64> {
    let is_decimal = decimal_comma && cell.matches(',').count() == 1 && !cell.contains('.');
    let number = if is_decimal { cell.replace(',', ".").parse() } else { cell.parse::<f64>() };
    number.ok().filter(|n| n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_is_inside_if_its_centre_is() {
        let area = |corners: [f64; 4]| fill(corners, 10, 8).area();
        assert_eq!(area([0.0, 0.0, 10.0, 8.0]), 80);
        assert_eq!(area([2.0, 3.0, 5.0, 4.0]), 3);
        assert_eq!(area([2.4, 3.4, 4.6, 3.6]), 3, "centres 2.5, 3.5, 4.5 of row 3");
        assert_eq!(area([2.6, 3.6, 3.4, 4.4]), 0, "between centres");
        assert_eq!(area([0.5, 0.0, 1.5, 1.0]), 1, "the left centre belongs to it and the right one does not");
        assert_eq!(area([-5.0, -5.0, 1.0, 1.0]), 1);
        assert_eq!(area([9.0, 7.0, 1e300, 1e300]), 1);
        // Boxes side by side share no pixel and leave none out.
        assert_eq!(area([0.0, 0.0, 3.3, 8.0]) + area([3.3, 0.0, 10.0, 8.0]), 80);
    }

    #[test]
    fn columns_are_guessed_by_the_header() {
        let find = |text: &str| BoxColumns::find(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let corner = |columns| Some(BoxColumns { columns, is_corner: true });
        let size = |columns| Some(BoxColumns { columns, is_corner: false });
        assert_eq!(find("image,label,x,y,width,height"), size([2, 3, 4, 5]));
        assert_eq!(find("Image Index,Finding Label,Bbox [x,y,w,h]"), size([2, 3, 4, 5]));
        assert_eq!(find("image_id,class_name,x_min,y_min,x_max,y_max"), corner([2, 3, 4, 5]));
        assert_eq!(find("image,label,width,height,x1,y1,x2,y2"), corner([4, 5, 6, 7]));
        assert_eq!(find("image,label,x,y"), None);
    }
}
