//! Mean maps of all explained images, and where their heat lies: border, corners, outside the lungs (paper section 3.4).
//!
//! Only what speaks for a label counts, and each image's map is scaled from 0 to 1 first, so that each weighs the same.
//! Shares in border and corners are those of the mean map. The share outside the lungs is summed over the images, each
//! with its own lungs; for lungs that are the same on every image that is the mean map's share too.

use rayon::prelude::*;

use super::lungs::{LungHeat, Lungs};
use super::population::{HeatShares, MeanMap, describe_shares, heat_shares};
use super::stage::Explained;
use super::{CamKind, SOURCES};
use crate::cohort::table::to_csv;
use crate::error::Result;

/// Mean maps and the heat outside the lungs.
#[derive(Clone, Debug, PartialEq)]
pub struct Means {
    /// `[source][label]`.
    pub maps: [Vec<MeanMap>; 2],
    /// `[source][label]`: of the images that have lungs.
    pub lungs: [Vec<LungHeat>; 2],
}

impl Means {
    /// Averages the maps of each label over all explained images on a square grid of this side.
    ///
    /// # Errors
    /// [`super::ExplainError`] if maps do not fit.
    pub fn of(explained: &Explained, kind: CamKind, side: usize, lungs: &Lungs) -> Result<Self> {
        let of = |source: usize| -> Result<(Vec<MeanMap>, Vec<LungHeat>)> {
            let label = |k: usize| -> Result<(MeanMap, LungHeat)> {
                let (mut mean, mut outside) = (MeanMap::new(side)?, LungHeat::default());
                for image in &explained.images {
                    // A forest's map has negative parts, which speak against the label; the mean shows what speaks for it.
                    let map = image.map(source, k, kind, side, side)?.relu().min_max();
                    if let Some(lungs) = lungs.of(image.row) {
                        outside.add(&map, lungs)?;
                    }
                    mean.add(&map)?;
                }
                Ok((mean, outside))
            };
            let found: Result<Vec<(MeanMap, LungHeat)>> =
                (0..explained.labels.len()).into_par_iter().map(label).collect();
            Ok(found?.into_iter().unzip())
        };
        let ((head, of_head), (forest, of_forest)) = (of(0)?, of(1)?);
        Ok(Self { maps: [head, forest], lungs: [of_head, of_forest] })
    }

    /// Where the heat of a label lies; `None` without any.
    ///
    /// # Errors
    /// [`super::ExplainError`] if the map cannot be measured.
    pub fn shares(&self, source: usize, label: usize) -> Result<Option<HeatShares>> {
        let Some(mean) = self.maps[source][label].mean() else { return Ok(None) };
        let (outside_lungs, outside_lungs_area) =
            self.lungs[source][label].shares().map(|[share, area]| (share, area)).unzip();
        let shares = heat_shares(&mean, None)?;
        Ok(shares.map(|shares| HeatShares { outside_lungs, outside_lungs_area, ..shares }))
    }

    /// The table: model, label, images, shares of heat in border, corners and outside the lungs, each beside that of an
    /// even map. `lungs` says `rough` or `masks`.
    ///
    /// # Errors
    /// As [`Means::shares`].
    pub fn csv(&self, explained: &Explained, lungs: &Lungs) -> Result<String> {
        let header = [
            "model",
            "label",
            "images",
            "flat",
            "border",
            "border_area",
            "corners",
            "corners_area",
            "lungs",
            "lungs_images",
            "outside_lungs",
            "outside_lungs_area",
            "heat",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        let number = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.4}"));
        for (source, model) in SOURCES.into_iter().enumerate() {
            for (k, label) in explained.labels.iter().enumerate() {
                let (mean, shares) = (&self.maps[source][k], self.shares(source, k)?);
                let of = |value: fn(&HeatShares) -> Option<f64>| number(shares.as_ref().and_then(value));
                rows.push(vec![
                    model.to_owned(),
                    label.clone(),
                    mean.images().to_string(),
                    mean.flat().to_string(),
                    of(|s| Some(s.border)),
                    of(|s| Some(s.border_area)),
                    of(|s| Some(s.corners)),
                    of(|s| Some(s.corners_area)),
                    lungs.name().to_owned(),
                    self.lungs[source][k].images().to_string(),
                    of(|s| s.outside_lungs),
                    of(|s| s.outside_lungs_area),
                    shares.as_ref().map_or_else(|| "no heat".to_owned(), describe_shares),
                ]);
            }
        }
        Ok(to_csv(rows))
    }

    /// What must be said of maps that are the same everywhere, one sentence per model and label that has any.
    #[must_use]
    pub fn flat_messages(&self, labels: &[String]) -> Vec<String> {
        let mut messages = Vec::new();
        for (source, maps) in SOURCES.iter().zip(&self.maps) {
            for (label, mean) in labels.iter().zip(maps).filter(|(_, mean)| mean.flat() > 0) {
                messages.push(format!(
                    "{label}, {source}: nothing in {} of {} images speaks for the label, so their maps are empty and \
                     have no part in the mean map",
                    mean.flat(),
                    mean.flat() + mean.images()
                ));
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::super::HeatMap;
    use super::super::population::DEFAULT_GRID;
    use super::super::stage::tests::{explained_of, map_at};
    use super::*;

    fn cold() -> HeatMap {
        HeatMap::new(4, 4, vec![0.0; 16]).expect("whole")
    }

    #[test]
    fn empty_maps_have_no_part_in_means() {
        let explained = explained_of(&[[map_at(0), map_at(0)], [cold(), cold()]], &[[0.5; 2]; 2]);
        let lungs = Lungs::rough(8).expect("a grid");
        let means = Means::of(&explained, CamKind::GradCam, 8, &lungs).expect("possible");
        assert_eq!((means.maps[0].len(), means.maps[1][1].images(), means.maps[1][1].flat()), (2, 1, 1));
        assert_eq!(means.lungs[1][1].images(), 1, "nor in shares outside the lungs");
        let messages = means.flat_messages(&explained.labels);
        assert_eq!(messages.len(), 4, "{messages:?}");
        assert!(messages[0].starts_with("Lung, fine-tuned head: nothing in 1 of 2 images"), "{messages:?}");
        let csv = means.csv(&explained, &lungs).expect("a table");
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[1].starts_with("fine-tuned head,Lung,1,1,0.") && lines[1].contains(",rough,1,0."), "{csv}");
        assert!(lines[1].contains("outside the lungs"), "{csv}");

        let explained = explained_of(&[[cold(), cold()]], &[[0.5; 2]]);
        let means = Means::of(&explained, CamKind::GradCam, DEFAULT_GRID, &Lungs::rough(DEFAULT_GRID).expect("a grid"));
        let csv = means.expect("possible").csv(&explained, &lungs).expect("a table");
        assert!(csv.contains("forest,PNX,0,1,,,,,rough,0,,,no heat"), "{csv}");
    }
}
