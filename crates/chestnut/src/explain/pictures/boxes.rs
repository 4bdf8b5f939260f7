//! The boxes of overlays as a table, `boxes.csv`, so that nobody has to read them off a picture.
//!
//! Each row is a box as it was drawn, in pixels of the image at its own size, round the mask of one map. A map that
//! points nowhere has no mask and no box. Like `similar.csv`, and unlike contact sheets, the table names images.

use std::collections::BTreeSet;

use super::Painter;
use crate::explain::{BoxRule, Mask, Region, SOURCES};

/// A box round what a map points at on one film.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapBox {
    /// Image id.
    pub image: String,
    /// Label that the map is of.
    pub label: String,
    /// Model that the map explains, of [`SOURCES`].
    pub model: &'static str,
    /// How the map was made: `grad-cam`, `hi-res` or `legacy`, `tree-cam`, `occlusion`, `rise`.
    pub map: &'static str,
    /// Part of the mask that it is round, from 1, the largest first; 0 for the whole mask.
    pub component: usize,
    /// In pixels of the image.
    pub region: Region,
    /// Columns and rows of the image.
    pub size: [usize; 2],
    /// How the map became a mask, in words.
    pub rule: String,
}

/// The table: `image,label,model,map,component,x0,y0,x1,y1,image_width,image_height,mask_rule`. `x0` and `y0` are the
/// first column and row inside, counted from 0, and `x1` and `y1` the first behind them, so that `x1 - x0` is the width.
/// `component` is `whole`, or the number of the part. A box that is on several pictures stands once.
#[must_use]
pub fn boxes_csv(boxes: &[MapBox]) -> String {
    let header = [
        "image",
        "label",
        "model",
        "map",
        "component",
        "x0",
        "y0",
        "x1",
        "y1",
        "image_width",
        "image_height",
        "mask_rule",
    ];
    let row = |b: &MapBox| {
        let component = if b.component == 0 { "whole".to_owned() } else { b.component.to_string() };
        let (r, [width, height]) = (b.region, b.size);
        let mut cells = vec![b.image.clone(), b.label.clone(), b.model.to_owned(), b.map.to_owned(), component];
        cells.extend([r.x, r.y, r.x + r.width, r.y + r.height, width, height].map(|v| v.to_string()));
        cells.push(b.rule.clone());
        cells
    };
    let mut seen = BTreeSet::new();
    let rows = boxes.iter().filter(|b| seen.insert((&b.image, &b.label, b.model, b.map, b.component))).map(row);
    crate::cohort::table::to_csv(std::iter::once(header.map(str::to_owned).to_vec()).chain(rows))
}

/// The boxes of a mask with the number of the part that each is round.
fn numbered(mask: &Mask, rule: BoxRule) -> Vec<(usize, Region)> {
    let first = usize::from(rule == BoxRule::Parts);
    rule.boxes(mask).into_iter().enumerate().map(|(at, region)| (at + first, region)).collect()
}

impl Painter<'_> {
    /// The boxes of one map of the image `row`, whose mask was made at the image's own size.
    pub(super) fn boxed(&self, row: usize, label: usize, source: usize, map: &'static str, mask: &Mask) -> Vec<MapBox> {
        let of = |(component, region): (usize, Region)| MapBox {
            image: self.explained.cohort.images[row].id.clone(),
            label: self.explained.labels[label].clone(),
            model: SOURCES[source],
            map,
            component,
            region,
            size: [mask.width, mask.height],
            rule: self.mask.to_string(),
        };
        numbered(mask, self.boxes).into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::mask::LEAST_PART;
    use crate::explain::{HeatMap, MaskRule};
    use chestnut_stats::random::Stream;

    fn table(mask: &Mask, rule: BoxRule) -> Vec<Vec<String>> {
        let of = |(component, region)| MapBox {
            image: "a.png".to_owned(),
            label: "Lung".to_owned(),
            model: SOURCES[1],
            map: "tree-cam",
            component,
            region,
            size: [mask.width, mask.height],
            rule: MaskRule::default().to_string(),
        };
        // As on two pictures.
        let boxes: Vec<MapBox> = [numbered(mask, rule), numbered(mask, rule)].concat().into_iter().map(of).collect();
        boxes_csv(&boxes).lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    /// Left, top, right, bottom, columns and rows of a row.
    fn numbers(row: &[String]) -> [usize; 6] {
        std::array::from_fn(|i| row[5 + i].parse().expect("a number"))
    }

    #[test]
    fn each_box_lies_in_its_image_and_holds_its_mask() {
        let mut draw = Stream::keyed(4, "boxes of maps");
        let mut parts_seen = 0;
        for _ in 0..200 {
            let (width, height) = (8 + draw.below(60), 8 + draw.below(60));
            // As a network's last feature map gives them: coarse, then drawn at the image's size.
            let coarse = (0..25).map(|_| draw.uniform() as f32).collect();
            let map = HeatMap::new(5, 5, coarse).expect("whole").resized(width, height).expect("possible");
            let mask = MaskRule::default().mask(&map).expect("in range");
            let place = |i: usize| (i % width, i / width);
            let holds = |row: &[String], pixels: &[usize]| {
                let [left, top, right, bottom, ..] = numbers(row);
                pixels.iter().all(|&i| (left..right).contains(&place(i).0) && (top..bottom).contains(&place(i).1))
            };

            let whole = table(&mask, BoxRule::Whole);
            let inside: Vec<usize> = (0..mask.inside.len()).filter(|&i| mask.inside[i]).collect();
            assert_eq!((whole.len(), whole[1][4].as_str()), (2, "whole"));
            assert!(!inside.is_empty() && holds(&whole[1], &inside), "{whole:?}");

            let parts = table(&mask, BoxRule::Parts);
            let mut components = mask.components();
            components.retain(|c| c.pixels.len() as f64 >= LEAST_PART * mask.area() as f64);
            components.sort_by_key(|c| std::cmp::Reverse(c.pixels.len()));
            assert_eq!(parts.len() - 1, components.len());
            for (number, (row, component)) in parts[1..].iter().zip(&components).enumerate() {
                assert_eq!(row[4], (number + 1).to_string());
                assert!(holds(row, &component.pixels), "{row:?}");
            }
            parts_seen += components.len();

            for row in whole[1..].iter().chain(&parts[1..]) {
                let [left, top, right, bottom, columns, rows] = numbers(row);
                assert_eq!((columns, rows), (width, height));
                assert!(left < right && right <= width && top < bottom && bottom <= height, "{row:?}");
            }
        }
        assert!(parts_seen > 300, "several parts in most maps, else this shows little: {parts_seen}");
    }

    #[test]
    fn a_map_that_points_nowhere_has_no_box() {
        let flat = HeatMap::new(4, 4, vec![0.5; 16]).expect("whole");
        let mask = MaskRule::default().mask(&flat).expect("in range");
        for rule in [BoxRule::Whole, BoxRule::Parts] {
            assert_eq!(table(&mask, rule).len(), 1, "the header alone");
        }
    }
}
