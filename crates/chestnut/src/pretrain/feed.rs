//! Batches made ahead of the learner by worker threads, in a fixed order.
//!
//! Each worker makes every n-th batch and waits when two of its batches wait for the learner, so that memory stays small
//! and the order does not depend on who is faster.

use super::augment::{Moves, look};
use super::cache::Cache;
use super::crop::Offset;
use super::error::{PretrainError, Result};
use super::targets::Targets;
use crate::image::recipe::Standardisation;
use std::sync::mpsc::sync_channel;

/// Batches that wait per worker.
const AHEAD: usize = 2;

/// Everything a batch is made of.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) cache: Cache,
    /// Image ids by row.
    pub(super) ids: Vec<String>,
    pub(super) targets: Targets,
    /// By row.
    pub(super) offsets: Vec<Offset>,
    /// Rows and columns of the input.
    pub(super) size: usize,
    pub(super) standardisation: Standardisation,
    pub(super) train: Vec<usize>,
    pub(super) validation: Vec<usize>,
    /// The parent of each label, for conditional training.
    pub(super) parents: Option<Vec<Option<usize>>>,
}

/// A batch in the learner's form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) rows: Vec<usize>,
    pub(super) images: Vec<f32>,
    pub(super) targets: Vec<f32>,
    pub(super) weights: Vec<f32>,
}

impl Data {
    /// Reads, moves and standardises the images of `rows`.
    pub(super) fn make(&self, rows: &[usize], moves: Option<Moves<'_>>) -> Result<Made> {
        let side = self.cache.side();
        let pixels = self.size * self.size;
        let values = pixels * self.standardisation.channels();
        let (mut square, mut grey) = (vec![0_u8; side * side], vec![0.0_f32; pixels]);
        let mut made = Made {
            rows: rows.to_vec(),
            images: vec![0.0; rows.len() * values],
            targets: Vec::with_capacity(rows.len() * self.targets.outputs),
            weights: Vec::with_capacity(rows.len() * self.targets.outputs),
        };
        for (&row, image) in rows.iter().zip(made.images.chunks_exact_mut(values)) {
            self.cache.read(row, &mut square)?;
            look(&square, side, self.offsets[row], self.size, &self.ids[row], moves, &mut grey);
            self.standardisation.apply(&grey, image);
        }
        let outputs = self.targets.outputs;
        for &row in rows {
            made.targets.extend_from_slice(&self.targets.values[row * outputs..][..outputs]);
            made.weights.extend_from_slice(&self.targets.weights[row * outputs..][..outputs]);
        }
        Ok(made)
    }

    /// Makes `batches` on `workers` threads and gives them to `each` in order, with their index.
    pub(super) fn feed(
        &self,
        batches: &[Vec<usize>],
        moves: Option<Moves<'_>>,
        workers: usize,
        each: &mut dyn FnMut(usize, Made) -> Result<()>,
    ) -> Result<()> {
        let workers = workers.clamp(1, batches.len().max(1));
        std::thread::scope(|scope| {
            let mut lines = Vec::with_capacity(workers);
            for worker in 0..workers {
                let (send, receive) = sync_channel(AHEAD);
                scope.spawn(move || {
                    for rows in batches.iter().skip(worker).step_by(workers) {
                        // The learner stopped: nobody wants more.
                        if send.send(self.make(rows, moves)).is_err() {
                            break;
                        }
                    }
                });
                lines.push(receive);
            }
            for i in 0..batches.len() {
                let made = lines[i % workers].recv().map_err(|_| {
                    PretrainError::Request(format!("the thread that makes batch {} ended early; run again", i + 1))
                })?;
                each(i, made?)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::augment::Augment;
    use super::super::cache::tests::films;
    use super::super::targets::{Blank, Policies, Uncertain};
    use super::*;
    use crate::image::recipe::Recipe;
    use std::path::Path;

    /// Twelve films, four of them to judge by.
    pub(in super::super) fn data(folder: &Path) -> Data {
        let set = films(folder, 12);
        let cache = Cache::open(folder, &set, &Recipe { size: 36, ..Recipe::default() }, &|_, _| {}).expect("a cache");
        let policies =
            Policies { uncertain: Uncertain::Ignore, blank: Blank::Ignore, propagate: false, conditional: false };
        Data {
            cache,
            ids: set.samples.iter().map(|s| s.id.clone()).collect(),
            targets: Targets::new(&set, &policies, 0),
            offsets: vec![[2, 2]; 12],
            size: 32,
            standardisation: Standardisation::None,
            train: (0..8).collect(),
            validation: (8..12).collect(),
            parents: None,
        }
    }

    #[test]
    fn batches_come_in_order_whatever_the_number_of_workers() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = data(folder.path());
        let batches: Vec<Vec<usize>> = vec![vec![3, 1], vec![7], vec![0, 2, 4], vec![5], vec![6]];
        let augment = Augment::modern();
        let run = |workers: usize| {
            let mut all = Vec::new();
            let moves = Some(Moves { augment: &augment, seed: 1, epoch: 2 });
            data.feed(&batches, moves, workers, &mut |i, made| {
                assert_eq!(i, all.len());
                all.push(made);
                Ok(())
            })
            .expect("made");
            all
        };
        let one = run(1);
        assert_eq!(one.iter().map(|m| m.rows.clone()).collect::<Vec<_>>(), batches);
        assert_eq!((one[0].images.len(), &one[0].targets), (2 * 32 * 32 * 3, &vec![1.0, 1.0]));
        for workers in [2, 3, 9] {
            assert!(run(workers) == one, "{workers} workers");
        }
    }

    #[test]
    fn an_error_of_the_learner_ends_all_workers() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = data(folder.path());
        let batches: Vec<Vec<usize>> = (0..40).map(|i| vec![i % 12]).collect();
        let error = data
            .feed(&batches, None, 3, &mut |i, _| {
                if i == 4 { Err(PretrainError::Request("enough".into())) } else { Ok(()) }
            })
            .expect_err("stopped");
        assert_eq!(error.to_string(), "enough");
    }
}
