//! From what the networks say of new images to one score per label, the way that `compare` scored the approach.
//!
//! Most approaches read embeddings, by a model of each network, and average. The baseline and stacking (paper section
//! 2.3) read the networks' own outputs: the baseline has a map to the study's labels and no model, stacking one forest for
//! all networks. Each goes through the very functions that `compare` uses, so that the study's own test images get the
//! probabilities of `predictions.csv`.

use super::index::NetworkRecord;
use super::input::NewImage;
use super::store::probabilities;
use crate::embed::EmbeddingTable;
use crate::error::{Error, Result};
use crate::transfer::ensemble::Ensemble;
use crate::transfer::source::{self, SourceMap};
use crate::transfer::{Predictions, stacking};
use chestnut_forest::{Features, ModelFile};
use serde::{Deserialize, Serialize};

/// What an approach makes its scores from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reads {
    /// Each network's embedding, by a model of that network; the probabilities are averaged.
    #[default]
    Embeddings,
    /// All networks' own outputs side by side, by one model.
    Outputs {
        /// Outputs of each network.
        outputs: usize,
    },
    /// All networks' own outputs, averaged and mapped to the labels; there is no model.
    MappedOutputs {
        /// Outputs of each network.
        outputs: usize,
        /// Which of them each label is the largest of.
        map: SourceMap,
        /// Whether they are mapped first and averaged then.
        map_first: bool,
    },
}

impl Reads {
    /// The networks that each model file is for, in the order of the files.
    pub(super) fn networks_of<'n>(&self, networks: &'n [NetworkRecord]) -> Vec<&'n [NetworkRecord]> {
        match self {
            Self::Embeddings => networks.chunks(1).collect(),
            Self::Outputs { .. } => vec![networks],
            Self::MappedOutputs { .. } => Vec::new(),
        }
    }

    /// Numbers that a model reads of one network.
    pub(super) fn width(&self, network: &NetworkRecord) -> usize {
        match self {
            Self::Embeddings => network.width,
            Self::Outputs { outputs } | Self::MappedOutputs { outputs, .. } => *outputs,
        }
    }

    /// Whether it holds together for so many labels.
    pub(super) fn fits(&self, labels: usize) -> bool {
        match self {
            Self::Embeddings => true,
            Self::Outputs { outputs } => *outputs > 0,
            Self::MappedOutputs { outputs, map, .. } => map.fits(labels, *outputs),
        }
    }

    /// Name of the row of the tables that the scores are of.
    pub(super) fn source(&self, networks: &[String]) -> String {
        match (self, networks) {
            (Self::Outputs { .. }, _) => stacking::RAW_OUTPUTS.to_owned(),
            (_, [only]) => only.clone(),
            _ => Ensemble::Average.name().to_owned(),
        }
    }
}

/// Scores `[image][label]`; `fitted` are the approach's model files, `networks` those of the index.
///
/// # Errors
/// If a network's embedding or outputs are not those that the models were fitted with.
pub(super) fn score(
    reads: &Reads,
    networks: &[NetworkRecord],
    fitted: &[ModelFile],
    images: &[NewImage],
) -> Result<Vec<f64>> {
    let rows: Vec<usize> = (0..images.len()).collect();
    match reads {
        Reads::Embeddings => average(fitted, images),
        Reads::Outputs { outputs } => {
            let tables = own_outputs(networks, images, *outputs)?;
            let members: Vec<Vec<f64>> = tables.iter().map(|table| source::outputs_of(table, &rows)).collect();
            let features = Features::new(stacking::side_by_side(&members, *outputs), members.len() * outputs)?;
            let none = || Error::Request("the study keeps no model of this approach; run compare again".to_owned());
            probabilities(&fitted.first().ok_or_else(none)?.model, &features)
        }
        Reads::MappedOutputs { outputs, map, map_first } => {
            let tables = own_outputs(networks, images, *outputs)?;
            let names: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
            let mut all = source::baseline(&names, &tables, &rows, map, &[Ensemble::Average], *map_first);
            // The average comes last; of one network there is none, and its own row does.
            Ok(all.pop().map_or_else(Vec::new, |row| row.probabilities))
        }
    }
}

/// Each network's model on its embeddings, then the average.
fn average(fitted: &[ModelFile], images: &[NewImage]) -> Result<Vec<f64>> {
    let member = |(n, file): (usize, &ModelFile)| -> Result<Predictions> {
        let values: Vec<f32> = images.iter().flat_map(|i| &i.embeddings[n]).copied().collect();
        let features = Features::new(values, images[0].embeddings[n].len())?;
        let probabilities = probabilities(&file.model, &features)?;
        Ok(Predictions { approach: String::new(), source: String::new(), probabilities })
    };
    let mut members: Vec<Predictions> = fitted.iter().enumerate().map(member).collect::<Result<_>>()?;
    // One network is no average: compare has no such row either.
    let found = if members.len() == 1 { members.remove(0) } else { Ensemble::Average.combine(&members) };
    Ok(found.probabilities)
}

/// A table of each network's own outputs, its rows the images.
fn own_outputs(networks: &[NetworkRecord], images: &[NewImage], outputs: usize) -> Result<Vec<EmbeddingTable>> {
    let table = |(n, network): (usize, &NetworkRecord)| {
        if let Some(other) = images.iter().map(|i| i.outputs[n].len()).find(|&found| found != outputs) {
            let problem = format!("has {other} outputs and had {outputs}; run embed and compare again");
            return Err(Error::Network { network: network.name.clone(), problem });
        }
        let probabilities = images.iter().flat_map(|i| &i.outputs[n]).copied().collect();
        Ok(EmbeddingTable { outputs, probabilities, ..EmbeddingTable::default() })
    };
    networks.iter().enumerate().map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::LabelMap;

    fn network(name: &str) -> NetworkRecord {
        NetworkRecord {
            name: name.to_owned(),
            architecture: "vgg16".to_owned(),
            weights: "0f".repeat(32),
            standardisation: "imagenet".to_owned(),
            input_size: 224,
            width: 512,
        }
    }

    fn image(outputs: [[f32; 2]; 2]) -> NewImage {
        NewImage {
            id: "a.png".to_owned(),
            sha256: String::new(),
            patient: None,
            embeddings: Vec::new(),
            outputs: outputs.map(|o| o.to_vec()).to_vec(),
        }
    }

    /// Label L is the larger of both outputs, and no output knows label M.
    fn map() -> SourceMap {
        let map = LabelMap::from_toml("from = \"a\"\nto = \"b\"\ngroups = [[\"L\", [\"x\", \"y\"]]]").expect("valid");
        SourceMap::new(&["L", "M"].map(str::to_owned), &["x", "y"].map(str::to_owned), &map)
    }

    #[test]
    fn the_baseline_averages_and_maps_in_the_order_of_the_study() {
        let networks = [network("one"), network("two")];
        let images = [image([[0.25, 0.75], [0.5, 0.0]]), image([[0.5, 0.25], [0.75, 0.25]])];
        let reads = |map_first| Reads::MappedOutputs { outputs: 2, map: map(), map_first };
        let scores = |map_first| score(&reads(map_first), &networks, &[], &images).expect("scores");
        // Means of the first image's outputs are .375 each; the mean of the largest is .625.
        assert_eq!(scores(false), [0.375, 0.5, 0.625, 0.5]);
        assert_eq!(scores(true), [0.625, 0.5, 0.625, 0.5]);
        let alone = [image([[0.25, 0.75], [0.5, 0.0]])];
        assert_eq!(score(&reads(false), &networks[..1], &[], &alone).expect("scores"), [0.75, 0.5]);
        let names = ["one", "two"].map(str::to_owned);
        assert_eq!(
            (reads(true).source(&names), reads(true).source(&names[..1])),
            ("Average".to_owned(), "one".to_owned())
        );
    }

    #[test]
    fn other_outputs_than_before_are_refused() {
        let networks = [network("one"), network("two")];
        let reads = Reads::MappedOutputs { outputs: 3, map: map(), map_first: false };
        let error = score(&reads, &networks, &[], &[image([[0.0; 2]; 2])]).expect_err("two are not three");
        assert!(error.to_string().contains("one") && error.to_string().contains("2 outputs"), "{error}");
        assert!(score(&Reads::Outputs { outputs: 2 }, &networks, &[], &[image([[0.0; 2]; 2])]).is_err(), "no model");
    }

    #[test]
    fn a_map_must_stay_within_labels_and_outputs() {
        let reads = |outputs| Reads::MappedOutputs { outputs, map: map(), map_first: false };
        assert!(reads(2).fits(2) && !reads(1).fits(2) && !reads(2).fits(3));
        assert!(Reads::Outputs { outputs: 2 }.fits(2) && !Reads::Outputs { outputs: 0 }.fits(2));
    }
}
