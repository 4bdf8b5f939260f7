//! How a convolution is cut into items for the workers.
//!
//! Two things are read from far away: inputs and weights. Cut by pixels, every worker reads all weights; cut by panels
//! of output channels, every worker reads all inputs. The larger of the two should be read once, which for one small
//! image means the weights. Whichever way, values are the same.

use std::ops::Range;

/// Some panels for some pixels (or rows).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) panels: Range<usize>,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// Cuts `length` pixels or rows into parts of at most `part`, each with all panels, and further by panels while there
/// are fewer items than workers.
pub(crate) fn by_pixels(length: usize, part: usize, panels: usize, threads: usize) -> Vec<Item> {
    let parts = length.div_ceil(part);
    let groups = if parts < threads { (2 * threads).div_ceil(parts).min(panels) } else { 1 };
    let mut items = Vec::with_capacity(parts * groups);
    for p in 0..parts {
        let first = p * part;
        for g in 0..groups {
            let panels = panels * g / groups..panels * (g + 1) / groups;
            items.push(Item { panels, first, count: part.min(length - first) });
        }
    }
    items
}

/// One item per panel; the panels that do not go evenly over the workers are cut by pixels.
pub(crate) fn by_panels(length: usize, panels: usize, threads: usize) -> Vec<Item> {
    let whole = panels / threads * threads;
    let mut items: Vec<Item> = (0..whole).map(|p| Item { panels: p..p + 1, first: 0, count: length }).collect();
    for p in whole..panels {
        let part = length.div_ceil(threads);
        let parts = (0..length).step_by(part);
        items.extend(parts.map(|first| Item { panels: p..p + 1, first, count: part.min(length - first) }));
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_of_every_panel_once() {
        for (length, panels, threads) in [(49, 2, 2), (49, 3, 2), (1, 5, 4), (144, 7, 3), (3, 1, 8), (1000, 4, 1)] {
            for items in [by_pixels(length, 24, panels, threads), by_panels(length, panels, threads)] {
                let mut seen = vec![0; length * panels];
                for item in items {
                    for panel in item.panels {
                        (item.first..item.first + item.count).for_each(|i| seen[panel * length + i] += 1);
                    }
                }
                assert!(seen.iter().all(|&n| n == 1), "{length} {panels} {threads}");
            }
        }
    }
}
