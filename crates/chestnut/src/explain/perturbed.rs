//! Perturbation maps of single images of a study: the whole chain is asked about hundreds of copies with parts hidden.
//!
//! Each network is asked once per copy and answers for both models and all labels; the answers are kept and replayed
//! for the label after label that [`super::perturb`] makes a map of. Networks may differ in the size of their input, so
//! each gets a map of its own; the mean of the maps is the map of the mean probability, since both methods are linear
//! in the score. Slow: for one image what embedding hundreds or thousands takes.

use super::models::{Runner, add_share};
use super::perturb::{self, Occlusion, Rise, Square};
use super::population::correlation;
use super::stage::Explained;
use super::{CamKind, HeatMap, Models, Refusals, SOURCES};
use crate::cohort::table::to_csv;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Most images of one run.
pub const MAX_PERTURBED: usize = 50;
/// Positions along each side that a patch is made for: those of most networks' last feature map.
const PATCHES: usize = 7;

/// How parts of an image are hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Perturbation {
    /// A patch of a seventh of the side that slides by half of itself.
    Occlusion,
    /// RISE with its authors' grid.
    Rise {
        /// Number of masks.
        masks: usize,
    },
}

impl Perturbation {
    /// Name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Occlusion => "occlusion",
            Self::Rise { .. } => "rise",
        }
    }

    /// What its values mean, for captions.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Occlusion => "occlusion: fall of the probability where a patch hides the image",
            Self::Rise { .. } => "RISE: mean probability of copies that show the place",
        }
    }

    /// Predictions of one image by one network of this input size, that of the whole image aside.
    fn predictions(self, size: usize) -> usize {
        match self {
            Self::Occlusion => occlusion(size).predictions(size),
            Self::Rise { masks } => masks,
        }
    }
}

impl FromStr for Perturbation {
    type Err = super::ExplainError;

    /// RISE gets its authors' number of masks.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "occlusion" => Ok(Self::Occlusion),
            "rise" => Ok(Self::Rise { masks: Rise::default().masks }),
            _ => Err(super::ExplainError::setting("the kind of perturbation", text, "occlusion or rise")),
        }
    }
}

fn occlusion(size: usize) -> Occlusion {
    let patch = (size / PATCHES).max(1);
    Occlusion { patch, stride: (patch / 2).max(1) }
}

/// Maps of one image.
#[derive(Clone, Debug)]
pub struct Perturbed {
    /// Row of the cohort.
    pub row: usize,
    /// `[source][label]`: probability of the whole image, mean over the networks.
    pub probabilities: [Vec<f64>; 2],
    /// `[source][label]`: mean over the networks, at the size of the first network's input.
    pub maps: [Vec<HeatMap>; 2],
    /// Predictions that all networks made for them.
    pub predictions: usize,
}

/// An image on its way through the networks.
struct Pending {
    row: usize,
    probabilities: [Vec<f64>; 2],
    /// `[source][label][network]`.
    maps: [Vec<Vec<HeatMap>>; 2],
    predictions: usize,
}

impl Pending {
    fn new(row: usize, labels: usize) -> Self {
        Self {
            row,
            probabilities: [vec![0.0; labels], vec![0.0; labels]],
            maps: [vec![Vec::new(); labels], vec![Vec::new(); labels]],
            predictions: 0,
        }
    }
}

/// Makes the maps of the images `rows`, for all labels and both models.
///
/// `progress` is called with (done, total) predictions.
///
/// # Errors
/// For more than [`MAX_PERTURBED`] images, settings that are not possible, or a network that cannot be loaded.
pub fn perturb(
    models: &Models<'_>,
    rows: &[usize],
    method: Perturbation,
    progress: &dyn Fn(usize, usize),
) -> Result<(Vec<Perturbed>, Refusals)> {
    if rows.len() > MAX_PERTURBED {
        let problem = format!("{} images are too many for {}; name at most {MAX_PERTURBED}", rows.len(), method.name());
        return Err(Error::Request(problem));
    }
    let (labels, networks) = (models.labels().len(), models.networks());
    let total: usize = networks.iter().map(|n| rows.len() * (1 + method.predictions(n.record.input_size))).sum();
    let mut images: Vec<Pending> = rows.iter().map(|&row| Pending::new(row, labels)).collect();
    let mut refused = BTreeMap::new();
    let mut done = 0;
    progress(0, total);
    for (number, network) in networks.iter().enumerate() {
        let mut runner = models.runner(number)?;
        let count = 1 + method.predictions(network.record.input_size);
        for image in &mut images {
            match runner.reader.square(image.row) {
                Err(reason) => {
                    refused.insert(models.cohort().images[image.row].id.clone(), reason);
                }
                Ok(square) => {
                    let seed = models.study().settings.split.seed;
                    let asked = |n: usize| progress(done + n, total);
                    let whole = one_network(&mut runner, &square, method, seed, &mut image.maps, &asked)?;
                    add_share(&mut image.probabilities, &whole, 1.0 / networks.len() as f64);
                    image.predictions += count;
                }
            }
            done += count;
            progress(done, total);
        }
    }
    let mut finished = Vec::new();
    for Pending { row, probabilities, maps, predictions } in images {
        if maps[0].iter().any(|m| m.len() < networks.len()) {
            continue;
        }
        let [head, forest] = maps;
        let maps = [mean_of(&head)?, mean_of(&forest)?];
        finished.push(Perturbed { row, probabilities, maps, predictions });
    }
    Ok((finished, refused.into_iter().collect()))
}

/// Adds one network's map to those of each source and label; gives the probabilities of the whole image.
fn one_network(
    runner: &mut Runner<'_>,
    square: &[f32],
    method: Perturbation,
    seed: u64,
    maps: &mut [Vec<Vec<HeatMap>>; 2],
    progress: &dyn Fn(usize),
) -> Result<[Vec<f64>; 2]> {
    let size = runner.reader.size();
    let image = Square::new(size, square)?;
    let whole = runner.answers(&[square.to_vec()])?;
    // What the network said of each copy, in the order in which copies are made: the same for every label.
    let mut answers: Vec<[Vec<f64>; 2]> = Vec::new();
    for (source, of_source) in maps.iter_mut().enumerate() {
        for (label, of_label) in of_source.iter_mut().enumerate() {
            let is_first = answers.is_empty();
            let mut next = 0;
            let mut predict = |copies: &[Vec<f32>]| -> Result<Vec<f64>> {
                if is_first {
                    answers.extend(runner.answers(copies)?);
                }
                let said = answers.iter().skip(next).take(copies.len()).map(|a| a[source][label]).collect();
                next += copies.len();
                Ok(said)
            };
            let mut report = |done: usize, _: usize| {
                if is_first {
                    progress(done);
                }
            };
            let map = match method {
                Perturbation::Occlusion => {
                    perturb::occlusion::<Error>(image, occlusion(size), &mut predict, &mut report)?
                }
                Perturbation::Rise { masks } => {
                    let settings = Rise { masks, seed, ..Rise::default() };
                    perturb::rise::<Error>(image, settings, &mut predict, &mut report)?
                }
            };
            of_label.push(map);
        }
    }
    whole.into_iter().next().ok_or_else(|| Error::Request("a network gave no answer".to_owned()))
}

/// Mean over the networks, `[label][network]`, at the size of the first.
fn mean_of(maps: &[Vec<HeatMap>]) -> Result<Vec<HeatMap>> {
    let mean = |maps: &Vec<HeatMap>| -> std::result::Result<HeatMap, super::ExplainError> {
        let first = maps.first().ok_or(super::ExplainError::NoMaps)?;
        let resized: Vec<HeatMap> =
            maps.iter().map(|m| m.resized(first.width, first.height)).collect::<std::result::Result<_, _>>()?;
        HeatMap::mean(&resized)
    };
    Ok(maps.iter().map(mean).collect::<std::result::Result<_, _>>()?)
}

/// One line per image, model and label: what was asked, the ends of the map, and how far the fast map (Grad-CAM for the
/// head, tree-CAM for the forest) goes with it, as a correlation of -1 to 1; blank where a map is flat.
///
/// # Errors
/// [`super::ExplainError`] if maps do not fit.
pub fn csv(explained: &Explained, found: &[Perturbed], method: Perturbation, kind: CamKind) -> Result<String> {
    let header = [
        "image",
        "model",
        "label",
        "method",
        "predictions",
        "probability",
        "least",
        "greatest",
        "correlation_with_fast_map",
    ];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for image in found {
        let fast = explained.images.iter().find(|i| i.row == image.row);
        for (source, name) in SOURCES.into_iter().enumerate() {
            for (k, (label, map)) in explained.labels.iter().zip(&image.maps[source]).enumerate() {
                let fast = fast.map(|f| f.map(source, k, kind, map.width, map.height)).transpose()?;
                let agree = fast.and_then(|f| correlation(&f, map));
                let (least, greatest) = map.range();
                lines.push(vec![
                    explained.cohort.images[image.row].id.clone(),
                    name.to_owned(),
                    label.clone(),
                    method.name().to_owned(),
                    image.predictions.to_string(),
                    format!("{:.4}", image.probabilities[source][k]),
                    format!("{least:.6}"),
                    format!("{greatest:.6}"),
                    agree.map_or_else(String::new, |r| format!("{r:.3}")),
                ]);
            }
        }
    }
    Ok(to_csv(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_counted_as_they_are_made() {
        // 224 pixels: patches of 32 by steps of 16, 13 along each side.
        assert_eq!(Perturbation::Occlusion.predictions(224), 169);
        for size in [1, 6, 7, 40, 97, 224, 299] {
            let grey: Vec<f32> = (0..size * size).map(|i| (i % 7) as f32).collect();
            let image = Square::new(size, &grey).expect("whole");
            let mut total = 0;
            let mut predict = |copies: &[Vec<f32>]| Ok::<_, Error>(vec![0.5; copies.len()]);
            perturb::occlusion::<Error>(image, occlusion(size), &mut predict, &mut |_, all| total = all)
                .expect("possible");
            assert_eq!(Perturbation::Occlusion.predictions(size), total, "{size}");
        }
        assert_eq!("rise".parse(), Ok(Perturbation::Rise { masks: 4000 }));
        assert_eq!("occlusion".parse(), Ok(Perturbation::Occlusion));
        assert!("lime".parse::<Perturbation>().is_err());
    }

    #[test]
    fn networks_of_different_sizes_are_averaged() {
        let map = |side: usize, v: f32| HeatMap::new(side, side, vec![v; side * side]).expect("whole");
        let mean = mean_of(&[vec![map(4, 1.0), map(6, 0.0)]]).expect("possible");
        assert_eq!(mean, [map(4, 0.5)]);
        assert!(mean_of(&[Vec::new()]).is_err());
    }
}
