//! The cohort's contact sheet: a random sample of its images with their labels.
//!
//! One look shows inverted images, collimator borders, photographs of films and labels that cannot
//! be right, which no table shows. Captions hold the table row, the view and the positive labels, and no
//! file name or patient id. This is for people; no network sees these pixels.

use std::path::Path;

use chestnut_stats::random::Stream;
use rayon::prelude::*;

use super::source::Sources;
use super::{BlankRules, Cohort, CohortImage, Label};
use crate::image::contact_sheet::{Tile, contact_sheet, encode_png};
use crate::image::{ImageError, decode};

/// Images on a sheet, at most.
pub const SHEET_TILES: usize = 48;
/// Images side by side.
const COLUMNS: usize = 8;
/// Longer side of an image on the sheet, pixels.
const SIDE: usize = 160;

/// The PNG bytes of a sheet of up to [`SHEET_TILES`] images drawn by `seed`, in the order of the cohort.
///
/// `folder` is the image folder of the ingest. Images that can no longer be read are left out.
///
/// # Errors
/// [`ImageError`] if the sheet cannot be encoded.
pub fn sheet(cohort: &Cohort, folder: &Path, blank: &BlankRules, seed: u64) -> Result<Vec<u8>, ImageError> {
    let mut chosen: Vec<usize> = (0..cohort.images.len()).collect();
    Stream::keyed(seed, "contact sheet").shuffle(&mut chosen);
    chosen.truncate(SHEET_TILES);
    chosen.sort_unstable();
    let sources = Sources::new(folder);
    let tiles: Vec<Option<Tile>> = chosen
        .par_iter()
        .map(|&index| {
            let image = &cohort.images[index];
            let mut decoded = decode(&sources.read(&image.id).ok()?).ok()?;
            blank.apply(&mut decoded.radiograph, decoded.dicom.as_ref());
            Some(Tile::new(&decoded.radiograph, &caption(cohort, image), SIDE))
        })
        .collect();
    let tiles: Vec<Tile> = tiles.into_iter().flatten().collect();
    encode_png(&contact_sheet(&tiles, COLUMNS, SIDE))
}

fn caption(cohort: &Cohort, image: &CohortImage) -> String {
    let view = image.view.as_deref().unwrap_or("view ?");
    let named = cohort.label_names.iter().zip(&image.labels);
    let positive: Vec<&str> = named.filter(|(_, l)| **l == Label::Positive).map(|(name, _)| name.as_str()).collect();
    let findings = if positive.is_empty() { "-".to_owned() } else { positive.join(" ") };
    format!("row {} {view}\n{findings}", image.row)
}

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;

    #[test]
    fn a_sheet_is_a_png_and_shows_no_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let picture = ::image::GrayImage::from_fn(40, 50, |x, y| ::image::Luma([(x + y) as u8]));
        picture.save(folder.path().join("a.png")).expect("a picture");
        let cohort = Cohort {
            label_names: vec!["Pleura".to_owned(), "PNX".to_owned()],
            images: vec![image("a.png", "SECRET", "+-"), image("gone.png", "SECRET", "--")],
            ..Cohort::default()
        };
        assert_eq!(caption(&cohort, &cohort.images[0]), "row 2 view ?\nPleura");
        let bytes = sheet(&cohort, folder.path(), &BlankRules::default(), 0).expect("a sheet");
        assert!(bytes.starts_with(b"\x89PNG"));
        assert_eq!(
            bytes,
            sheet(&cohort, folder.path(), &BlankRules::default(), 0).expect("a sheet"),
            "the same bytes again"
        );
    }
}
