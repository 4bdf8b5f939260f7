//! Several labels on one film, each in its colour of the legend (paper Figure 8).

use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Drawn, Painter, Picture, gathered, plain};
use crate::error::Result;
use crate::explain::overlay::{Mark, Overlay, Shape};
use crate::explain::stage::ImageMaps;
use crate::explain::{BoxRule, Mask, SOURCES};

/// Most labels on one film; more cannot be told apart, and the legend would be longer than the film.
const MAX_TOGETHER: usize = 20;

impl Painter<'_> {
    /// Films with the outlines and boxes of all labels that a model calls (a probability at or above the label's share
    /// of positives, [`crate::explain::Models::share`]), or of its most probable label if it calls none. Those `count`
    /// images are drawn, each once per model, on which the forest calls most labels; of equal ones those with the
    /// highest probability. `progress` is called with (done, total) images.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn together(&self, labels: &[usize], count: usize, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Drawn> {
        let shares: Vec<f64> = labels.iter().map(|&k| self.models.share(k)).collect();
        let rank = |of: &ImageMaps| {
            let p = &of.probabilities[1];
            let most = labels.iter().map(|&k| p[k]).fold(f64::NEG_INFINITY, f64::max);
            (called(p, labels, &shares).len(), most)
        };
        let mut order: Vec<((usize, f64), &ImageMaps)> =
            self.explained.images.iter().map(|of| (rank(of), of)).collect();
        order.sort_by(|((a, p), _), ((b, q), _)| b.cmp(a).then_with(|| q.total_cmp(p)));
        order.truncate(count);
        let (done, total) = (AtomicUsize::new(0), order.len());
        let draw = |&(_, of): &((usize, f64), &ImageMaps)| -> Result<Drawn> {
            let drawn = self.mosaic(of, labels, &shares);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            drawn
        };
        Ok(gathered(order.par_iter().map(draw).collect::<Result<Vec<Drawn>>>()?))
    }

    fn mosaic(&self, of: &ImageMaps, labels: &[usize], shares: &[f64]) -> Result<Drawn> {
        let film = match self.models.film(of.row) {
            Ok(film) => film,
            Err(reason) => return Ok(self.lost(of.row, &reason)),
        };
        let mut drawn = Drawn::default();
        for (source, name) in SOURCES.iter().enumerate() {
            let p = &of.probabilities[source];
            let mut shown = called(p, labels, shares);
            let is_called = !shown.is_empty();
            if !is_called {
                shown.extend(most_probable(p, labels));
            }
            let how = if source == 1 { "tree-cam" } else { self.kind.name() };
            let mut masks: Vec<(String, Mask)> = Vec::with_capacity(shown.len());
            for k in shown.into_iter().take(MAX_TOGETHER) {
                let mask = self.mask.mask(&of.map(source, k, self.kind, film.width, film.height)?)?;
                drawn.boxes.extend(self.boxed(of.row, k, source, how, &mask));
                let nowhere = if mask.area() == 0 { ", points nowhere" } else { "" };
                masks.push((format!("{} {:.2}{nowhere}", self.explained.labels[k], p[k]), mask));
            }
            let explained = if source == 1 { "tree-CAM (SHAP values)" } else { self.kind.name() };
            let outlined = self.mask.legend();
            let mut caption = vec![format!("model: {name}; explained: {explained}; outlined: {outlined}")];
            if !is_called {
                caption.push("No label reaches its share of positives; this is the most probable one.".to_owned());
            }
            let marks = mosaic_marks(&masks, self.boxes);
            let picture = Overlay { radiograph: &film, heat: None, marks, caption }.png()?;
            let names: Vec<&str> = masks.iter().map(|(name, _)| name.as_str()).collect();
            let words = format!("{}; {name}, row {}", names.join(", "), self.line(of.row));
            let file = format!("together/{}-{}.png", self.image_name(of.row), plain(name));
            drawn.pictures.push(Picture { row: Some(of.row), ..self.write(file, words, &picture)? });
        }
        Ok(drawn)
    }
}

/// Those of `labels` whose probability reaches their share, most probable first; `shares` has one entry per label.
fn called(p: &[f64], labels: &[usize], shares: &[f64]) -> Vec<usize> {
    let mut found: Vec<usize> =
        labels.iter().zip(shares).filter(|&(&k, &share)| p[k] >= share).map(|(&k, _)| k).collect();
    found.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    found
}

/// The most probable of `labels`, the first of equal ones.
fn most_probable(p: &[f64], labels: &[usize]) -> Option<usize> {
    labels.iter().copied().reduce(|best, k| if p[k] > p[best] { k } else { best })
}

/// Outline and boxes of each label; those of one label share its name and so its colour.
fn mosaic_marks(masks: &[(String, Mask)], boxes: BoxRule) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    for (name, mask) in masks {
        marks.push(Mark { name: name.clone(), shape: Shape::Outline(mask) });
        let boxes = boxes.boxes(mask).into_iter();
        marks.extend(boxes.map(|region| Mark { name: name.clone(), shape: Shape::Box(region) }));
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::colour::label_colour;
    use crate::image::Radiograph;

    #[test]
    fn a_label_is_called_from_its_share_of_positives() {
        let p = [0.2, 0.6, 0.3, 0.9];
        assert_eq!(called(&p, &[0, 1, 2, 3], &[0.1, 0.7, 0.3, 0.5]), [3, 2, 0]);
        assert!(called(&p, &[1], &[0.7]).is_empty());
        assert_eq!((most_probable(&p, &[0, 1, 2]), most_probable(&p, &[])), (Some(1), None));
        assert_eq!(most_probable(&[0.5, 0.5], &[0, 1]), Some(0));
    }

    #[test]
    fn each_label_has_its_colour_on_one_film() {
        let film = Radiograph { width: 60, height: 40, pixels: (0..2400).map(|i| (i % 60) as f32).collect(), bits: 8 };
        let mask = |inside: &dyn Fn(usize, usize) -> bool| {
            Mask::new(60, 40, (0..2400).map(|i| inside(i % 60, i / 60)).collect()).expect("whole")
        };
        // Two parts of Lung, at (4, 4) and (4, 24), and one of PNX.
        let lung = mask(&|x, y| (4..14).contains(&x) && ((4..14).contains(&y) || (24..34).contains(&y)));
        let pnx = mask(&|x, y| (40..50).contains(&x) && (10..20).contains(&y));
        let masks = vec![("Lung 0.90".to_owned(), lung), ("PNX 0.40".to_owned(), pnx)];
        let draw = |boxes: BoxRule| {
            let marks = mosaic_marks(&masks, boxes);
            let count = marks.len();
            let picture = Overlay { radiograph: &film, heat: None, marks, caption: Vec::new() }.draw().expect("drawn");
            (count, picture)
        };
        let (whole, parts) = (draw(BoxRule::Whole), draw(BoxRule::Parts));
        assert_eq!((whole.0, parts.0), (4, 5));
        let colours = [label_colour(0), label_colour(1)];
        for (_, picture) in [&whole, &parts] {
            assert_eq!([picture.get_pixel(4, 8).0, picture.get_pixel(40, 15).0], colours);
            assert_eq!(picture.width(), 60);
            assert!(picture.height() > 40, "a legend of two names");
        }
        // Between the two parts the box round the whole mask has its left side.
        assert_eq!(whole.1.get_pixel(4, 19).0, colours[0]);
        assert_ne!(parts.1.get_pixel(4, 19).0, colours[0]);
    }
}
