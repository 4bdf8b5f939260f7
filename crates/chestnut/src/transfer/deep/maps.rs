//! What the part of a network that learns reads of each image, computed once and kept in a nameless file of the study.
//!
//! The feature map before the trained stage, the embedding, or the standardised image itself (`Depth`). As f32, so that
//! a network that was taught on kept maps gives the same values when it runs as a whole. The file vanishes with the run.

use crate::cohort::Cohort;
use crate::cohort::source::Sources;
use crate::embed::{self, EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::image::recipe::Recipe;
use crate::study::Study;
use chestnut_nn::{Engine, Options};
use chestnut_train::depth::weights_of;
use chestnut_zoo::graph::Shape;
use chestnut_zoo::{Graph, Weights};
use rayon::prelude::*;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// Largest file of kept maps, in bytes: Xception's maps of 115,000 images.
pub const MAX_MAP_BYTES: u64 = 64 << 30;
/// Images that are prepared and computed together.
const BATCH: usize = 32;

/// Kept maps of some images, `[image][row][column][channel]`.
pub(super) struct Maps {
    file: File,
    folder: PathBuf,
    pub(super) shape: Shape,
}

impl Maps {
    fn new(study: &Study, shape: Shape, images: usize) -> Result<Self> {
        let bytes = 4 * (shape.height * shape.width * shape.channels) as u64 * images as u64;
        if bytes > MAX_MAP_BYTES {
            let problem = format!(
                "the maps of {images} images would take {:.0} GiB, more than {} GiB; use fewer images or --depth head",
                bytes as f64 / f64::from(1 << 30),
                MAX_MAP_BYTES >> 30
            );
            return Err(Error::Request(problem));
        }
        let file = tempfile::tempfile_in(&study.root).map_err(Error::io(&study.root))?;
        Ok(Self { file, folder: study.root.clone(), shape })
    }

    fn append(&mut self, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(Error::io(&self.folder))
    }

    /// The maps of these images, in this order.
    pub(super) fn read(&mut self, images: &[usize]) -> Result<Vec<f32>> {
        let one = 4 * self.shape.height * self.shape.width * self.shape.channels;
        let mut bytes = vec![0_u8; one];
        let mut values = Vec::with_capacity(images.len() * one / 4);
        for &image in images {
            let at = SeekFrom::Start(image as u64 * one as u64);
            self.file.seek(at).map_err(Error::io(&self.folder))?;
            self.file.read_exact(&mut bytes).map_err(Error::io(&self.folder))?;
            values.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Ok(values)
    }

    /// One pixel per image: its embedding.
    pub(super) fn embeddings(study: &Study, table: &EmbeddingTable) -> Result<Self> {
        Self::of(study, Shape { height: 1, width: 1, channels: table.width }, &table.embeddings)
    }

    /// Whole images of this shape.
    pub(super) fn of(study: &Study, shape: Shape, values: &[f32]) -> Result<Self> {
        let images = values.len() / (shape.height * shape.width * shape.channels).max(1);
        let mut maps = Self::new(study, shape, images)?;
        maps.append(values)?;
        Ok(maps)
    }

    /// Runs `front` over the cohort's images; without one their standardised pixels are kept.
    ///
    /// `progress` is called with (done, total) images.
    pub(super) fn compute(
        study: &Study,
        cohort: &Cohort,
        network: &Network,
        front: Option<&Graph>,
        weights: &Weights,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self> {
        let fault = |problem: String| Error::Network { network: network.name.clone(), problem };
        let recipe = Recipe { size: network.record.input_size, ..study.settings.recipe.clone() };
        let standardisation = network.standardisation()?;
        let size = recipe.size;
        let mut engine = match front {
            Some(front) => Some(
                Engine::new(front.clone(), weights_of(front, weights), Options::default())
                    .map_err(|e| fault(e.to_string()))?,
            ),
            None => None,
        };
        let shape = match &engine {
            Some(engine) => engine.feature_map_shape(size, size).map_err(|e| fault(e.to_string()))?,
            None => Shape { height: size, width: size, channels: standardisation.channels() },
        };
        let total = cohort.images.len();
        let mut maps = Self::new(study, shape, total)?;
        let sources = Sources::new(&study.settings.images);
        let one = size * size * standardisation.channels();
        let mut done = 0;
        for batch in cohort.images.chunks(BATCH) {
            let prepared: Vec<std::result::Result<Vec<f32>, String>> =
                batch.par_iter().map(|image| embed::prepare(study, &sources, &recipe, image)).collect();
            let mut input = vec![0.0; batch.len() * one];
            for ((image, grey), out) in batch.iter().zip(&prepared).zip(input.chunks_mut(one)) {
                match grey {
                    Ok(grey) => standardisation.apply(grey, out),
                    Err(why) => {
                        let problem = format!("{}: {why}; restore it or run ingest and embed again", image.id);
                        return Err(Error::Request(problem));
                    }
                }
            }
            match &mut engine {
                Some(engine) => {
                    let taps = engine.run(&input, size, size, true).map_err(|e| fault(e.to_string()))?;
                    maps.append(&taps.feature_maps)?;
                }
                None => maps.append(&input)?,
            }
            done += batch.len();
            progress(done, total);
        }
        Ok(maps)
    }
}
