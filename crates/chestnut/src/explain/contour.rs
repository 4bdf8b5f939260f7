//! Outlines of a mask, for drawing: closed lines that run between pixels.
//!
//! The border is followed along the edges between pixels inside and outside (crack following, Rosenfeld and Kak 1982),
//! with the inside on the right hand as seen on the screen. So outer borders run clockwise and the borders of holes the
//! other way, the enclosed areas add up to the mask's area exactly, and an outline scales to any size of picture.
//! Pixels that touch at a corner belong together, as in [`Mask::components`].

use super::Mask;

/// One closed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Corners `[x, y]` where the line turns; pixel (x, y) covers x..x + 1 and y..y + 1, so `x` runs from 0 to the
    /// mask's width and `y` to its height. The last corner joins the first, which is not repeated.
    pub corners: Vec<[usize; 2]>,
    /// Whether it goes round a hole.
    pub hole: bool,
}

/// Directions in the order of right turns: right, down, left, up.
const STEPS: [[isize; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/// All outlines of a mask, in reading order of their first upper edges.
#[must_use]
pub fn outlines(mask: &Mask) -> Vec<Outline> {
    // Every closed line runs along the upper edge of some pixel, to the right.
    let mut followed = vec![false; mask.inside.len()];
    let mut found = Vec::new();
    for start in 0..mask.inside.len() {
        let (x, y) = (start % mask.width, start / mask.width);
        let upper_edge = mask.inside[start] && (y == 0 || !mask.get(x, y - 1));
        if upper_edge && !followed[start] {
            found.push(follow(mask, [x, y], &mut followed));
        }
    }
    found
}

/// Follows the line that leaves corner `start` to the right, along the upper edge of the pixel there.
fn follow(mask: &Mask, start: [usize; 2], followed: &mut [bool]) -> Outline {
    let (mut corners, mut twice_area) = (Vec::new(), 0_i64);
    let (mut at, mut heading) = (start, 0);
    loop {
        if heading == 0 {
            followed[at[1] * mask.width + at[0]] = true;
        }
        let next = moved(at, STEPS[heading]);
        twice_area += (at[0] * next[1]) as i64 - (next[0] * at[1]) as i64;
        at = next;
        let turned = turn(mask, at, heading);
        if turned != heading {
            corners.push(at);
        }
        heading = turned;
        if at == start && heading == 0 {
            break;
        }
    }
    // The first edge in reading order is the leftmost of its run, so the line turns at `start`: its last corner.
    Outline { corners, hole: twice_area < 0 }
}

/// Where the line that reaches corner `at` goes on: left if the pixel ahead on the left is inside, else straight on
/// along the one ahead on the right, else right.
fn turn(mask: &Mask, at: [usize; 2], heading: usize) -> usize {
    // The pixels round a corner: of a step to the right, ahead on the right is below the line and on the left above it.
    let pixel =
        |dx: usize, dy: usize| at[0].checked_sub(dx).zip(at[1].checked_sub(dy)).is_some_and(|(x, y)| mask.get(x, y));
    let (left, right) = match heading {
        0 => (pixel(0, 1), pixel(0, 0)),
        1 => (pixel(0, 0), pixel(1, 0)),
        2 => (pixel(1, 0), pixel(1, 1)),
        _ => (pixel(1, 1), pixel(0, 1)),
    };
    if left {
        (heading + 3) % 4
    } else if right {
        heading
    } else {
        (heading + 1) % 4
    }
}

/// The next corner; a followed edge has a pixel beside it, so it never leaves the picture.
fn moved(at: [usize; 2], step: [isize; 2]) -> [usize; 2] {
    [at[0].saturating_add_signed(step[0]), at[1].saturating_add_signed(step[1])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    fn mask(rows: &[&str]) -> Mask {
        let inside = rows.iter().flat_map(|row| row.chars().map(|c| c == '#')).collect();
        Mask::new(rows[0].len(), rows.len(), inside).expect("whole")
    }

    /// Signed area of a closed line (shoelace formula).
    fn area(outline: &Outline) -> i64 {
        let corners = outline.corners.iter().map(|c| c.map(|v| v as i64));
        let next = corners.clone().cycle().skip(1);
        corners.zip(next).map(|([ax, ay], [bx, by])| ax * by - bx * ay).sum::<i64>() / 2
    }

    #[test]
    fn a_ring_has_two_outlines() {
        let found = outlines(&mask(&["###", "#.#", "###"]));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].corners, [[3, 0], [3, 3], [0, 3], [0, 0]]);
        assert!(!found[0].hole && found[1].hole);
        assert_eq!((area(&found[0]), area(&found[1])), (9, -1));
    }

    #[test]
    fn pixels_at_a_corner_belong_together() {
        let diagonal = outlines(&mask(&["#.", ".#"]));
        assert_eq!(diagonal.len(), 1, "{diagonal:?}");
        assert_eq!((diagonal[0].corners.len(), area(&diagonal[0])), (8, 2));
        let other = outlines(&mask(&[".#", "#."]));
        assert_eq!((other.len(), area(&other[0])), (1, 2));
        assert!(outlines(&mask(&["..", ".."])).is_empty());
    }

    #[test]
    fn areas_add_up_and_outer_lines_are_components() {
        let mut draw = Stream::keyed(1, "contour");
        for case in 0..200 {
            let (width, height) = (1 + draw.below(12), 1 + draw.below(12));
            let density = draw.uniform();
            let inside = (0..width * height).map(|_| draw.uniform() < density).collect();
            let mask = Mask::new(width, height, inside).expect("whole");
            let found = outlines(&mask);
            assert_eq!(found.iter().map(area).sum::<i64>(), mask.area() as i64, "case {case}: {mask:?}");
            let outer = found.iter().filter(|o| !o.hole).count();
            assert_eq!(outer, mask.components().len(), "case {case}: {mask:?}");
            for outline in &found {
                assert_eq!(area(outline) < 0, outline.hole);
                let corners = &outline.corners;
                for (i, a) in corners.iter().enumerate() {
                    let b = corners[(i + 1) % corners.len()];
                    assert!(a[0] <= width && a[1] <= height);
                    assert!((a[0] == b[0]) != (a[1] == b[1]), "lines run along pixels");
                }
            }
        }
    }
}
