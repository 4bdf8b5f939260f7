//! Similar cases below the pictures: small films of the nearest images of other patients, with what is known of them.
//!
//! Alike is meant as the networks see it; that is no diagnosis. Like contact sheets, the strips name rows of the labels
//! table and no file.

use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use ::image::{Rgb, RgbImage};

use super::{Drawn, Painter, Picture, shrunk};
use crate::error::Result;
use crate::explain::overlay::{Overlay, SheetTile, encode_png, sheet};
use crate::predict::space::SimilarImage;

/// Similar cases that are drawn; the table has all.
const MAX_STRIP: usize = 6;
/// Longer side of a film on a strip.
const SIDE: usize = 144;

impl Painter<'_> {
    /// Draws the similar cases of the images that `drawn` shows and puts them below its pictures. `cases` holds those
    /// of the explained images ([`crate::explain::Models::similar`]).
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn similar(&self, drawn: &mut Drawn, cases: &[(String, Vec<SimilarImage>)]) -> Result<()> {
        let of_image: BTreeMap<&str, &[SimilarImage]> =
            cases.iter().map(|(id, near)| (id.as_str(), &near[..])).collect();
        let rows: BTreeSet<usize> = drawn.pictures.iter().filter_map(|p| p.row).collect();
        let jobs: Vec<(usize, &[SimilarImage])> = rows
            .into_iter()
            .filter_map(|row| Some((row, *of_image.get(self.explained.cohort.images[row].id.as_str())?)))
            .filter(|(_, near)| !near.is_empty())
            .collect();
        let draw = |&(row, near): &(usize, &[SimilarImage])| -> Result<(usize, (Picture, Vec<String>))> {
            Ok((row, self.strip(row, near)?))
        };
        let strips: Vec<(usize, (Picture, Vec<String>))> = jobs.par_iter().map(draw).collect::<Result<_>>()?;
        let mut below = BTreeMap::new();
        for (row, (picture, problems)) in strips {
            // Several images can have one neighbour.
            for problem in problems {
                if !drawn.problems.contains(&problem) {
                    drawn.problems.push(problem);
                }
            }
            below.insert(row, picture);
        }
        for picture in &mut drawn.pictures {
            picture.below = picture.row.and_then(|row| below.get(&row)).cloned().map(Box::new);
        }
        Ok(())
    }

    /// The strip of one image, and the films that could not be read any more.
    fn strip(&self, row: usize, near: &[SimilarImage]) -> Result<(Picture, Vec<String>)> {
        let images = &self.explained.cohort.images;
        let nothing = RgbImage::from_pixel(SIDE as u32, SIDE as u32, Rgb([24; 3]));
        let (mut tiles, mut problems, mut said) = (Vec::new(), Vec::new(), Vec::new());
        for other in near.iter().take(MAX_STRIP) {
            // Images of a cohort are sorted by id.
            let Ok(at) = images.binary_search_by(|i| i.id.as_str().cmp(&other.image)) else { continue };
            let labels = findings(&self.explained.cohort.label_names, &other.labels);
            let (line, distance) = (self.line(at), other.distance);
            said.push(format!("row {line} (distance {distance:.3}): {labels}"));
            let caption = format!("row {line}\ndistance {distance:.3}\n{labels}");
            match self.models.film(at) {
                Ok(film) => {
                    let small = shrunk(&film, SIDE);
                    let picture =
                        Overlay { radiograph: &small, heat: None, marks: Vec::new(), caption: Vec::new() }.draw()?;
                    tiles.push(SheetTile::new(&picture, &caption, SIDE)?);
                }
                Err(reason) => {
                    problems.extend(self.lost(at, &reason).problems);
                    tiles.push(SheetTile::new(&nothing, &caption, SIDE)?);
                }
            }
        }
        let words = format!("Similar cases: {}", said.join("; "));
        let bytes = encode_png(&sheet(&tiles, MAX_STRIP, SIDE)?)?;
        Ok((self.write(format!("similar/{}.png", self.image_name(row)), words, &bytes)?, problems))
    }
}

/// What is known of an image, in words; `known` has one entry per name.
fn findings(names: &[String], known: &[Option<bool>]) -> String {
    let of = |wanted: Option<bool>| {
        let found = names.iter().zip(known).filter(|(_, k)| **k == wanted).map(|(name, _)| name.as_str());
        found.collect::<Vec<_>>()
    };
    let positive = of(Some(true));
    if !positive.is_empty() {
        positive.join(", ")
    } else if of(Some(false)).is_empty() {
        "nothing is known of it".to_owned()
    } else {
        "no label is positive".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_said_in_words() {
        let names = ["Lung", "PNX", "Bone"].map(str::to_owned);
        assert_eq!(findings(&names, &[Some(true), None, Some(true)]), "Lung, Bone");
        assert_eq!(findings(&names, &[Some(false), None, Some(false)]), "no label is positive");
        assert_eq!(findings(&names, &[None; 3]), "nothing is known of it");
    }
}
