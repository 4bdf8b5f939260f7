//! The embedding space of a cohort: which cases are alike, and whether an image is unlike all of them.
//!
//! Each network's embedding is brought to length 1, the networks stand side by side, and two images are apart by the
//! cosine distance, averaged over the networks: 0 alike, 1 unrelated, 2 opposite. An image's distance from the cohort is
//! the mean over its [`MEAN_OF`] nearest images; the cohort's own images, each against the images of other patients, say
//! what is usual. Neighbours in such a space look alike to the networks; that is no diagnosis.

use crate::cohort::Cohort;
use crate::embed::EmbeddingTable;
use chestnut_stats::random::Stream;
use rayon::prelude::*;
use serde::Serialize;

/// Nearest images whose mean distance counts.
pub const MEAN_OF: usize = 5;
/// Own distances that are needed to say what is usual.
pub const MIN_OWN: usize = 20;
/// Most own distances that are worked out.
pub const MAX_OWN: usize = 1_414;
/// An image whose distance exceeds this percentage of the own ones is unlike the cohort.
pub const UNUSUAL_PERCENTILE: f64 = 99.0;
/// Pairs of images that are compared for the own distances; larger cohorts are sampled.
const MAX_PAIRS: usize = 2_000_000;
/// Least sample of a large cohort, so that one image in a hundred can be told.
const MIN_SAMPLE: usize = 200;

/// A near image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Row of the cohort.
    pub row: usize,
    /// 0 to 2.
    pub distance: f64,
}

/// Embeddings of a cohort by all networks.
#[derive(Clone, Debug)]
pub struct EmbeddingSpace {
    width: usize,
    /// `[row][feature]`: unit embeddings side by side, scaled so that a whole row has length 1.
    points: Vec<f32>,
}

impl EmbeddingSpace {
    /// The space of `tables`, one per network, which hold the same images in the same order.
    ///
    /// # Panics
    /// If there is no table or they differ in their number of images.
    #[must_use]
    pub fn new(tables: &[EmbeddingTable]) -> Self {
        assert!(tables.iter().all(|t| t.ids.len() == tables[0].ids.len()) && !tables.is_empty(), "the same images");
        let width = tables.iter().map(|t| t.width).sum();
        let mut points = Vec::with_capacity(tables[0].ids.len() * width);
        for row in 0..tables[0].ids.len() {
            let parts: Vec<&[f32]> = tables.iter().map(|t| &t.embeddings[row * t.width..][..t.width]).collect();
            points.extend(Self::point(&parts));
        }
        Self { width, points }
    }

    /// Where an image lies, from its embeddings by all networks.
    #[must_use]
    pub fn point(embeddings: &[&[f32]]) -> Vec<f32> {
        let share = (embeddings.len() as f64).sqrt();
        let unit = |part: &&[f32]| -> Vec<f32> {
            let length = dot(part, part).sqrt() * share;
            // A row of zeros has no direction; it stays at distance 1 from everything.
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            part.iter().map(|&v| (f64::from(v) * scale) as f32).collect()
        };
        embeddings.iter().flat_map(unit).collect()
    }

    /// Number of images.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.points.len() / self.width.max(1)
    }

    /// Where an image of the cohort lies.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.points[row * self.width..][..self.width]
    }

    /// The `count` images nearest to `point`, nearest first, of those rows that `wanted` takes. Equal distances go to
    /// the earlier row.
    ///
    /// # Panics
    /// If the point is not of this space.
    #[must_use]
    pub fn nearest(&self, point: &[f32], count: usize, wanted: impl Fn(usize) -> bool) -> Vec<Near> {
        assert_eq!(point.len(), self.width, "a point of this space");
        let distance = |row: usize| (1.0 - dot(point, self.row(row))).clamp(0.0, 2.0);
        let mut all: Vec<Near> =
            (0..self.rows()).filter(|&r| wanted(r)).map(|row| Near { row, distance: distance(row) }).collect();
        all.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.row.cmp(&b.row)));
        all.truncate(count);
        all
    }

    /// Similar cases: the `count` nearest images of other patients than `patient`; `patients` has one entry per row.
    #[must_use]
    pub fn similar(&self, point: &[f32], count: usize, patient: Option<&str>, patients: &[&str]) -> Vec<Near> {
        self.nearest(point, count, |row| patient.is_none_or(|p| patients[row] != p))
    }

    /// Mean distance of the cohort's images from their nearest ones of other patients, ascending; of a sample of at
    /// most [`MAX_OWN`] images, drawn with `seed`. Empty if there is one patient only.
    #[must_use]
    pub fn own_distances(&self, patients: &[&str], seed: u64) -> Vec<f64> {
        let rows = self.rows();
        let mut sample: Vec<usize> = (0..rows).collect();
        let wanted = (MAX_PAIRS / rows.max(1)).clamp(MIN_SAMPLE, MAX_OWN);
        if rows > wanted {
            Stream::keyed(seed, "own distances").shuffle(&mut sample);
            sample.truncate(wanted);
        }
        let own = |&row: &usize| mean(&self.similar(self.row(row), MEAN_OF, Some(patients[row]), patients));
        let mut distances: Vec<f64> = sample.par_iter().filter_map(own).collect();
        distances.sort_by(f64::total_cmp);
        distances
    }
}

/// Mean distance; `None` for no images.
#[must_use]
pub fn mean(near: &[Near]) -> Option<f64> {
    (!near.is_empty()).then(|| near.iter().map(|n| n.distance).sum::<f64>() / near.len() as f64)
}

/// Percentage of `own` (ascending) that lies below `distance`; `None` for fewer than [`MIN_OWN`].
#[must_use]
pub fn percentile(own: &[f64], distance: f64) -> Option<f64> {
    let below = own.partition_point(|&d| d < distance);
    (own.len() >= MIN_OWN).then(|| 100.0 * below as f64 / own.len() as f64)
}

/// A similar case, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimilarImage {
    /// Its id in the cohort.
    pub image: String,
    /// 0 to 2.
    pub distance: f64,
    /// Per label of the cohort; `None` if unknown.
    pub labels: Vec<Option<bool>>,
}

impl SimilarImage {
    /// What the cohort knows of a near image.
    ///
    /// # Panics
    /// If the cohort has no such row.
    #[must_use]
    pub fn of(near: &Near, cohort: &Cohort) -> Self {
        let image = &cohort.images[near.row];
        let labels = image.labels.iter().map(|l| l.known()).collect();
        Self { image: image.id.clone(), distance: near.distance, labels }
    }
}

/// Similar cases of images of the cohort, as [`similar_csv`] writes them; only images of other patients.
///
/// # Panics
/// If the space is not the cohort's, or a row is not in it.
#[must_use]
pub fn similar_cases(
    space: &EmbeddingSpace,
    cohort: &Cohort,
    rows: &[usize],
    count: usize,
) -> Vec<(String, Vec<SimilarImage>)> {
    assert_eq!(space.rows(), cohort.images.len(), "one embedding per image");
    let patients: Vec<&str> = cohort.images.iter().map(|i| i.patient.as_str()).collect();
    let of = |&row: &usize| {
        let near = space.similar(space.row(row), count, Some(patients[row]), &patients);
        (cohort.images[row].id.clone(), near.iter().map(|n| SimilarImage::of(n, cohort)).collect::<Vec<_>>())
    };
    rows.par_iter().map(of).collect()
}

/// `image,rank,similar_image,distance` and a column per label of the similar image (1, 0, or blank if unknown); ranks
/// count from 1.
#[must_use]
pub fn similar_csv(labels: &[String], cases: &[(String, Vec<SimilarImage>)]) -> String {
    let fixed = ["image", "rank", "similar_image", "distance"].map(str::to_owned);
    let mut lines = vec![fixed.into_iter().chain(labels.iter().cloned()).collect::<Vec<_>>()];
    for (id, similar) in cases {
        for (rank, other) in similar.iter().enumerate() {
            let cell = |l: &Option<bool>| l.map_or("", |l| if l { "1" } else { "0" }).to_owned();
            let mut line = vec![id.clone(), (rank + 1).to_string(), other.image.clone()];
            line.push(format!("{:.6}", other.distance));
            line.extend(other.labels.iter().map(cell));
            lines.push(line);
        }
    }
    crate::cohort::table::to_csv(lines)
}

/// Sum of products in f64 and eight strands, which the compiler can keep in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = chunks_a.remainder().iter().zip(chunks_b.remainder());
    let tail: f64 = rest.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    let mut strands = [0.0; 8];
    for (x, y) in chunks_a.zip(chunks_b) {
        strands.iter_mut().zip(x.iter().zip(y)).for_each(|(s, (&x, &y))| *s += f64::from(x) * f64::from(y));
    }
    strands.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::{CohortImage, Label};

    fn table(rows: &[[f32; 2]]) -> EmbeddingTable {
        EmbeddingTable {
            ids: (0..rows.len()).map(|i| i.to_string()).collect(),
            width: 2,
            embeddings: rows.concat(),
            ..EmbeddingTable::default()
        }
    }

    #[test]
    fn distances_are_means_over_the_networks() {
        let a = table(&[[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0], [0.0, 0.0]]);
        let b = table(&[[0.0, 5.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]]);
        let space = EmbeddingSpace::new(&[a, b]);
        let point = EmbeddingSpace::point(&[&[9.0, 0.0], &[0.0, 0.1]]);
        let found = space.nearest(&point, 9, |_| true);
        assert_eq!(found.iter().map(|n| n.row).collect::<Vec<_>>(), [0, 1, 3, 2]);
        for (near, expected) in found.iter().zip([0.0, 0.5, 1.0, 2.0]) {
            assert!((near.distance - expected).abs() < 1e-6, "{near:?}");
        }
        let others = space.similar(&point, 2, Some("p"), &["p", "q", "p", "r"]);
        assert_eq!(others.iter().map(|n| n.row).collect::<Vec<_>>(), [1, 3]);
        assert!((mean(&others).expect("two") - 0.75).abs() < 1e-6);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn an_image_far_from_all_is_above_the_own_distances() {
        let mut draw = Stream::keyed(5, "space test");
        let rows: Vec<[f32; 2]> = (0..60).map(|_| [1.0, (0.1 * draw.normal()) as f32]).collect();
        let space = EmbeddingSpace::new(&[table(&rows)]);
        let names: Vec<String> = (0..60).map(|i| (i / 2).to_string()).collect();
        let patients: Vec<&str> = names.iter().map(String::as_str).collect();
        let own = space.own_distances(&patients, 0);
        assert!(own.len() == 60 && own.windows(2).all(|w| w[0] <= w[1]));
        let at = |x: f32, y: f32| {
            let distance = mean(&space.nearest(&EmbeddingSpace::point(&[&[x, y]]), MEAN_OF, |_| true));
            percentile(&own, distance.expect("a cohort")).expect("enough")
        };
        assert!(at(-1.0, 0.3) > UNUSUAL_PERCENTILE);
        assert!(at(1.0, 0.0) < UNUSUAL_PERCENTILE);
        assert_eq!(percentile(&own[..MIN_OWN - 1], 0.1), None);
        assert!(space.own_distances(&["one"; 60], 0).is_empty());
    }

    #[test]
    fn similar_cases_are_other_patients_with_their_labels() {
        let image = |id: &str, patient: &str, label| CohortImage {
            id: id.to_owned(),
            row: 2,
            patient: patient.to_owned(),
            view: None,
            age_years: None,
            sex: None,
            manufacturer: None,
            width: 64,
            height: 64,
            bits: 8,
            format: "PNG".to_owned(),
            sha256: String::new(),
            labels: vec![label],
        };
        let cohort = Cohort {
            label_names: vec!["Edema".to_owned()],
            images: vec![
                image("a", "p", Label::Negative),
                image("b", "p", Label::Positive),
                image("c", "q", Label::Positive),
                image("d", "r", Label::Unknown),
            ],
            rejects: Vec::new(),
            warnings: Vec::new(),
        };
        let space = EmbeddingSpace::new(&[table(&[[1.0, 0.0], [1.0, 0.01], [1.0, 1.0], [-1.0, 0.0]])]);
        let csv = similar_csv(&cohort.label_names, &similar_cases(&space, &cohort, &[0], 5));
        let expected = "image,rank,similar_image,distance,Edema\na,1,c,0.292893,1\na,2,d,2.000000,\n";
        assert_eq!(csv, expected);
    }
}
