//! Where the lungs lie, for the share of heat outside them: two rough ellipses, or masks that people bring.
//!
//! Rough lungs are those of the shortcut check ([`super::shortcut`]): the same on every image, found on none, and said to
//! be rough wherever a number rests on them. A mask is a PNG file, bright where lung is, that shows the whole image in any
//! size: maps and masks are brought to one square grid. It lies below its folder as its image lies below the image folder,
//! with the ending `.png`. Nothing else in the folder is opened.

use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

use super::experts::{mask_pixels, without_ending};
use super::population::heat_shares;
use super::shortcut::ImageArea;
use super::stage::{Explained, ImageMaps};
use super::{ExplainError, HeatMap, Mask, Refusals};
use crate::cohort::source::is_below;
use crate::error::{Error, Result};
use crate::image::{self, ImageError};

/// Most images that the message about missing masks names.
const MAX_NAMED: usize = 20;

/// Lungs of the explained images, on a square grid.
#[derive(Clone, Debug, PartialEq)]
pub enum Lungs {
    /// Two rough ellipses, the same on every image.
    Rough(Mask),
    /// Masks by row of the cohort. An image without one has no part in shares outside the lungs.
    Masks(BTreeMap<usize, Mask>),
}

/// Lung masks of a folder, and what is missing of them.
#[derive(Clone, Debug, PartialEq)]
pub struct LungsRead {
    /// The masks.
    pub lungs: Lungs,
    /// Images whose mask cannot be used, with the reason.
    pub refused: Refusals,
    /// What else must be said, one sentence each: which images have none.
    pub messages: Vec<String>,
}

impl Lungs {
    /// Two rough ellipses.
    ///
    /// # Errors
    /// [`ExplainError::Size`] for a grid that is not possible.
    pub fn rough(side: usize) -> std::result::Result<Self, ExplainError> {
        Ok(Self::Rough(Mask::new(side, side, ImageArea::Lungs(None).inside(side)?)?))
    }

    /// Reads the masks of the explained images below `folder` and brings them to a grid of `side` x `side`.
    ///
    /// # Errors
    /// If there is no such folder, or no mask in it can be used.
    pub fn read(folder: &Path, explained: &Explained, side: usize) -> Result<LungsRead> {
        let fault = |problem: String| Error::File { path: folder.to_path_buf(), problem };
        if !folder.is_dir() {
            return Err(fault("is no folder of lung masks".to_owned()));
        }
        let images = &explained.cohort.images;
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        images.iter().for_each(|i| *named.entry(without_ending(&i.id)).or_default() += 1);
        let read = |of: &ImageMaps| {
            let name = without_ending(&images[of.row].id);
            if named.get(name).is_some_and(|&images| images > 1) {
                return (of.row, Err(format!("several images are called {name}, so its lung mask is not known")));
            }
            (of.row, mask_of(folder, name, side))
        };
        let found: Vec<(usize, std::result::Result<Option<Mask>, String>)> =
            explained.images.par_iter().map(read).collect();
        let (mut masks, mut refused, mut missing) = (BTreeMap::new(), Refusals::new(), Vec::new());
        for (row, mask) in found {
            match mask {
                Ok(Some(mask)) => {
                    masks.insert(row, mask);
                }
                Ok(None) => missing.push(images[row].id.as_str()),
                Err(reason) => refused.push((images[row].id.clone(), reason)),
            }
        }
        if masks.is_empty() {
            let why = refused.first().map_or_else(
                || "none is there: a mask lies and is called like its image, with the ending .png".to_owned(),
                |(id, reason)| format!("{id}: {reason}"),
            );
            return Err(fault(format!("no explained image has a lung mask that can be used ({why})")));
        }
        let messages = missing_masks(&missing, explained.images.len()).into_iter().collect();
        Ok(LungsRead { lungs: Self::Masks(masks), refused, messages })
    }

    /// The lungs of the image in this row of the cohort.
    #[must_use]
    pub fn of(&self, row: usize) -> Option<&Mask> {
        match self {
            Self::Rough(mask) => Some(mask),
            Self::Masks(masks) => masks.get(&row),
        }
    }

    /// Name in tables: `rough` or `masks`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rough(_) => "rough",
            Self::Masks(_) => "masks",
        }
    }

    /// What must stand beside every share outside these lungs.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Rough(_) => "Lungs are rough here: two ellipses, the same on every image and found on none. A share \
                               outside them is a hint at most; masks can be given with --lungs."
                .to_owned(),
            Self::Masks(masks) => format!(
                "Lungs are those of the masks given with --lungs, of {} images; others have no part in shares outside \
                 the lungs.",
                masks.len()
            ),
        }
    }
}

/// The mask of the image of this name, which bears no ending; `None` if there is no such file.
fn mask_of(folder: &Path, name: &str, side: usize) -> std::result::Result<Option<Mask>, String> {
    let path = folder.join(format!("{name}.png"));
    // An edited cohort.csv must not lead out of the folder.
    if !is_below(name) || !path.is_file() {
        return Ok(None);
    }
    let decoded = image::read(&path).map_err(|e| match e {
        ImageError::NoContrast => "its lung mask has one value everywhere".to_owned(),
        e => format!("its lung mask {e}"),
    })?;
    let (film, colour) = (&decoded.radiograph, decoded.colour);
    let inside = mask_pixels(film, colour).ok_or(
        "the grey values or colours of its lung mask seem to stand for several labels; save one black and white mask",
    )?;
    let mask = Mask::new(film.width, film.height, inside).and_then(|mask| mask.resized_nearest(side, side));
    mask.map(Some).map_err(|e| e.to_string())
}

/// The message about images without a mask.
fn missing_masks(missing: &[&str], all: usize) -> Option<String> {
    let more = missing.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names: Vec<&str> = missing.iter().copied().take(MAX_NAMED).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{} of {all} images have no lung mask and no part in shares of heat outside the lungs: {}{more}",
            missing.len(),
            names.join(", ")
        )
    })
}

/// Heat of one label outside the lungs, summed over images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LungHeat {
    images: usize,
    heat: f64,
    outside: f64,
    area: f64,
}

impl LungHeat {
    /// Adds an image's map; values below 0 count as none, and a map without any above adds nothing.
    ///
    /// # Errors
    /// [`ExplainError`] for lungs of an impossible size.
    pub fn add(&mut self, map: &HeatMap, lungs: &Mask) -> std::result::Result<(), ExplainError> {
        let Some(shares) = heat_shares(map, Some(lungs))? else { return Ok(()) };
        if let (Some(outside), Some(area)) = (shares.outside_lungs, shares.outside_lungs_area) {
            let heat = map.relu().sum();
            self.images += 1;
            self.heat += heat;
            self.outside += outside * heat;
            self.area += area;
        }
        Ok(())
    }

    /// Images that have heat and lungs.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// Share of the heat outside the lungs, and the share of the images that lies there, which even maps would have;
    /// `None` without any image.
    #[must_use]
    pub fn shares(&self) -> Option<[f64; 2]> {
        (self.images > 0).then(|| [self.outside / self.heat, self.area / self.images as f64])
    }
}

#[cfg(test)]
mod tests {
    use super::super::CamKind;
    use super::super::means::Means;
    use super::super::stage::tests::{explained_of, map_at};
    use super::*;
    use ::image::{GrayImage, Luma};

    const SIDE: usize = 16;

    fn save(folder: &Path, name: &str, is_lung: &dyn Fn(u32) -> bool) {
        let mask = GrayImage::from_fn(40, 60, |x, _| Luma([if is_lung(x) { 255 } else { 0 }]));
        mask.save(folder.join(name)).expect("a mask");
    }

    #[test]
    fn each_image_has_its_own_lungs_and_missing_ones_are_named() {
        // Heat of Lung at the left on all three images, of PNX at the right.
        let explained =
            explained_of(&[[map_at(0), map_at(1)], [map_at(2), map_at(3)], [map_at(0), map_at(1)]], &[[0.5; 2]; 3]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        save(folder.path(), "00.png", &|x| x < 20);
        save(folder.path(), "01.png", &|x| x < 20);
        let read = Lungs::read(folder.path(), &explained, SIDE).expect("two masks");
        assert_eq!((read.lungs.name(), read.refused.len(), read.messages.len()), ("masks", 0, 1));
        assert!(
            read.messages[0].starts_with("1 of 3 images have no lung mask") && read.messages[0].ends_with("02.png")
        );
        assert!(read.lungs.of(2).is_none() && read.lungs.describe().contains("of 2 images"));

        let means = Means::of(&explained, CamKind::GradCam, SIDE, &read.lungs).expect("possible");
        let [lung, pnx] = [0, 1].map(|k| means.lungs[0][k]);
        assert_eq!((lung.images(), pnx.images()), (2, 2));
        let [outside, area] = lung.shares().expect("heat");
        // A map of 4 x 4 cells spreads a little over the middle.
        assert!(outside < 0.1 && (area - 0.5).abs() < 1e-12, "{outside} {area}");
        assert!(pnx.shares().expect("heat")[0] > 0.9);
    }

    #[test]
    fn rough_lungs_give_the_share_of_the_mean_map() {
        let explained = explained_of(&[[map_at(0), map_at(3)], [map_at(1), map_at(2)]], &[[0.5; 2]; 2]);
        let lungs = Lungs::rough(SIDE).expect("a grid");
        assert!(lungs.describe().contains("rough") && lungs.of(7).is_some());
        let means = Means::of(&explained, CamKind::GradCam, SIDE, &lungs).expect("possible");
        let mean = means.maps[0][0].mean().expect("heat");
        let whole = heat_shares(&mean, lungs.of(0)).expect("possible").expect("heat");
        let [outside, area] = means.lungs[0][0].shares().expect("heat");
        assert!((outside - whole.outside_lungs.expect("lungs")).abs() < 1e-6, "{outside} {whole:?}");
        assert!((area - whole.outside_lungs_area.expect("lungs")).abs() < 1e-12);
        assert_eq!(LungHeat::default().shares(), None);
    }

    #[test]
    fn masks_that_cannot_be_used_are_refused_by_name() {
        let explained = explained_of(&[[map_at(0), map_at(1)], [map_at(0), map_at(1)]], &[[0.5; 2]; 2]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let read = || Lungs::read(folder.path(), &explained, SIDE);
        let says = |words: &str| {
            let error = read().expect_err("no mask").to_string();
            assert!(error.contains(words), "{words}: {error}");
        };
        says("none is there");
        save(folder.path(), "00.png", &|_| true);
        says("one value everywhere");
        std::fs::write(folder.path().join("00.png"), "no picture").expect("a file");
        save(folder.path(), "01.png", &|x| x > 20);
        let found = read().expect("one mask");
        assert_eq!((found.refused.len(), found.refused[0].0.as_str(), found.messages.len()), (1, "00.png", 0));
        assert!(found.refused[0].1.starts_with("its lung mask"), "{:?}", found.refused);
        assert!(Lungs::read(&folder.path().join("gone"), &explained, SIDE).is_err());
        // Names that lead out of the folder are nobody's.
        assert_eq!(mask_of(folder.path(), "../01", SIDE), Ok(None));

        let mut twins = explained_of(&[[map_at(0), map_at(1)], [map_at(0), map_at(1)]], &[[0.5; 2]; 2]);
        (twins.cohort.images[0].id, twins.cohort.images[1].id) = ("01.dcm".to_owned(), "01.png".to_owned());
        let error = Lungs::read(folder.path(), &twins, SIDE).expect_err("whose is 01.png?").to_string();
        assert!(error.contains("several images are called 01"), "{error}");
    }
}
