//! Are the mean maps stable? Mean maps of two batches of random images and how far they are alike (paper section 3.4).
//!
//! The paper draws 2 x 200 images. Pearson's correlation of the two mean maps puts "look alike" into a number: near 1,
//! other images would give the same picture; far below, the mean says more of the images than of the model. The two
//! batches share no patient. Only images that were not learned from are drawn, so a small test part gives small ones.

use super::population::{MeanMap, Population, correlation, top_label, two_batches};
use super::stage::Explained;
use super::{CamKind, SOURCES};
use crate::cohort::table::to_csv;
use crate::error::Result;

/// Mean maps of two batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Batches {
    /// Images that were asked for in each.
    pub wanted: usize,
    /// Images in each.
    pub images: [usize; 2],
    /// `[source][batch]`.
    pub maps: [[Population; 2]; 2],
}

/// What a mean map is a mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The most probable label of each image, whichever it is: the paper's population map.
    Top,
    /// One label (its number), over all images.
    Label(usize),
    /// One label, over the images where it is the most probable one.
    TopOf(usize),
}

/// The two mean maps of one model.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Number of the model in [`SOURCES`].
    pub source: usize,
    /// What they are means of.
    pub over: Over,
    /// Of each batch.
    pub maps: [&'a MeanMap; 2],
}

impl Pair<'_> {
    /// Pearson's correlation of the two, -1 to 1; `None` if one is flat or has no image.
    #[must_use]
    pub fn correlation(&self) -> Option<f64> {
        let [first, second] = [self.maps[0].mean()?, self.maps[1].mean()?];
        correlation(&first, &second)
    }
}

impl Batches {
    /// All pairs: per model the most probable label, then the labels, then the labels where they are the most probable
    /// one.
    #[must_use]
    pub fn pairs(&self) -> Vec<Pair<'_>> {
        let mut pairs = Vec::new();
        for (source, [first, second]) in self.maps.iter().enumerate() {
            pairs.push(Pair { source, over: Over::Top, maps: [&first.top, &second.top] });
            let by_label = first.by_label.iter().zip(&second.by_label).enumerate();
            pairs.extend(by_label.map(|(k, (a, b))| Pair { source, over: Over::Label(k), maps: [a, b] }));
            let by_top = first.by_top_label.iter().zip(&second.by_top_label).enumerate();
            pairs.extend(by_top.map(|(k, (a, b))| Pair { source, over: Over::TopOf(k), maps: [a, b] }));
        }
        pairs
    }

    /// `model,label,over,images_1,images_2,correlation`; images with heat in each batch, and a blank where there is no
    /// correlation. The label of the line over most probable labels is blank.
    #[must_use]
    pub fn csv(&self) -> String {
        let header = ["model", "label", "over", "images_1", "images_2", "correlation"].map(str::to_owned);
        let line = |pair: &Pair<'_>| {
            vec![
                SOURCES[pair.source].to_owned(),
                self.label(pair.over).unwrap_or_default().to_owned(),
                describe(pair.over).to_owned(),
                pair.maps[0].images().to_string(),
                pair.maps[1].images().to_string(),
                pair.correlation().map_or_else(String::new, |r| format!("{r:.4}")),
            ]
        };
        let pairs = self.pairs();
        let mut lines = vec![header.to_vec()];
        lines.extend(pairs.iter().map(line));
        to_csv(lines)
    }

    /// The label of a mean map; `None` for the most probable one.
    #[must_use]
    pub fn label(&self, over: Over) -> Option<&str> {
        match over {
            Over::Top => None,
            Over::Label(k) | Over::TopOf(k) => self.maps[0][0].labels.get(k).map(String::as_str),
        }
    }

    /// How many images were drawn, in one sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        let [first, second] = self.images;
        let fewer = if first < self.wanted || second < self.wanted {
            format!(", fewer than the {} asked for since no more can be explained", self.wanted)
        } else {
            String::new()
        };
        format!("Two random batches of {first} and {second} images that share no patient{fewer}.")
    }
}

/// Over which images the maps of a label are averaged.
#[must_use]
pub fn describe(over: Over) -> &'static str {
    match over {
        Over::Top => "most probable label of each image",
        Over::Label(_) => "all images",
        Over::TopOf(_) => "images where it is the most probable label",
    }
}

/// Draws two batches of `size` of the explained images and averages their maps on a `grid` x `grid` square. As in the
/// mean over all images, only what speaks for a label counts, and each map is scaled from 0 to 1.
///
/// # Errors
/// [`super::ExplainError`] if maps do not fit, or for a grid that is not possible.
pub fn batches(explained: &Explained, kind: CamKind, size: usize, grid: usize, seed: u64) -> Result<Batches> {
    let patients: Vec<&str> =
        explained.images.iter().map(|i| explained.cohort.images[i.row].patient.as_str()).collect();
    let drawn = two_batches(&patients, size, seed);
    let of = |source: usize, batch: &[usize]| -> Result<Population> {
        let mut all = Population::new(&explained.labels, grid)?;
        for &place in batch {
            let image = &explained.images[place];
            let top = top_label(&image.probabilities[source]);
            for label in 0..explained.labels.len() {
                let map = image.map(source, label, kind, grid, grid)?.relu();
                all.add(label, top == Some(label), &map)?;
            }
        }
        Ok(all)
    };
    let both = |source: usize| -> Result<[Population; 2]> { Ok([of(source, &drawn[0])?, of(source, &drawn[1])?]) };
    let (head, forest) = rayon::join(|| both(0), || both(1));
    Ok(Batches { wanted: size, images: [drawn[0].len(), drawn[1].len()], maps: [head?, forest?] })
}

#[cfg(test)]
mod tests {
    use super::super::stage::tests::{explained_of, map_at};
    use super::*;

    const SIDE: usize = 8;

    /// Ten patients; Lung lies in the upper left on every image, PNX left or right by the image's number.
    fn batched(size: usize) -> Batches {
        let maps: Vec<_> = (0..10).map(|i| [map_at(0), map_at(if i % 2 == 0 { 0 } else { 3 })]).collect();
        let probabilities: Vec<_> = (0..10).map(|i| if i % 2 == 0 { [0.9, 0.1] } else { [0.2, 0.7] }).collect();
        batches(&explained_of(&maps, &probabilities), CamKind::GradCam, size, SIDE, 1).expect("possible")
    }

    #[test]
    fn maps_that_all_look_alike_are_stable_and_counts_are_right() {
        let found = batched(5);
        assert_eq!((found.images, found.pairs().len()), ([5, 5], 2 * (1 + 2 + 2)));
        for pair in found.pairs() {
            let images: usize = pair.maps.iter().map(|m| m.images()).sum();
            match pair.over {
                Over::Label(0) => {
                    assert!((pair.correlation().expect("heat") - 1.0).abs() < 1e-6);
                    assert_eq!(images, 10);
                }
                Over::Label(_) | Over::Top => assert_eq!(images, 10),
                Over::TopOf(_) => assert_eq!(images, 5, "half of the images have each label as the most probable"),
            }
        }
        let csv = found.csv();
        assert_eq!(csv.lines().count(), 11);
        assert!(csv.contains("fine-tuned head,Lung,all images,5,5,1.0000"), "{csv}");
        assert!(csv.contains("forest,,most probable label of each image,5,5,"), "{csv}");
        assert!(!found.describe().contains("fewer"));
        assert!(batched(200).describe().contains("5 and 5 images") && batched(200).describe().contains("the 200"));
    }

    #[test]
    fn batches_whose_maps_differ_are_not_stable() {
        // Two images: the batches hold one each, whose maps of PNX lie in opposite corners.
        let maps = [[map_at(0), map_at(0)], [map_at(0), map_at(3)]];
        let found = batches(&explained_of(&maps, &[[0.9, 0.1]; 2]), CamKind::GradCam, 1, SIDE, 1).expect("possible");
        let of = |over: Over| found.pairs().into_iter().find(|p| p.over == over).expect("a pair").correlation();
        assert!(of(Over::Label(1)).expect("heat") < 0.0);
        assert!(of(Over::Label(0)).expect("heat") > 0.999);
        assert_eq!(of(Over::TopOf(1)), None, "no image has it as the most probable label");
    }

    #[test]
    fn one_image_cannot_be_split_into_two_batches() {
        let found = batches(&explained_of(&[[map_at(0), map_at(3)]], &[[0.5; 2]]), CamKind::GradCam, 200, SIDE, 1)
            .expect("empty");
        assert_eq!(found.images, [0, 0]);
        assert!(found.pairs().iter().all(|p| p.correlation().is_none()));
    }
}
