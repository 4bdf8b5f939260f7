//! What a run starts from: the graph with its head, the first weights, and which layers learn.

use super::error::{PretrainError, Result};
use crate::image::recipe::Standardisation;
use crate::transfer::deep::TAUGHT_UNLISTED;
use chestnut_train::{Trained, initial_weights};
use chestnut_zoo::store::{self, ModelRecord};
use chestnut_zoo::{Architecture, Graph, Head, Weights, weights};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Word for every layer but the head, where names of layers to freeze are given.
pub const BACKBONE: &str = "backbone";
/// Beginning of the names of the head's layers.
const HEAD: &str = "head.";

/// Where the first weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Drawn from the seed.
    Seed,
    /// A network of the model store, such as ImageNet's; its head is kept if its labels are the same.
    Model {
        /// Folder of the store.
        models: PathBuf,
        /// Name in it.
        name: String,
    },
}

/// A network that is ready to learn.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) graph: Graph,
    pub(super) weights: Weights,
    /// For [`super::Settings::start`].
    pub(super) origin: String,
    /// For the record of the trained network.
    pub(super) notes: Vec<String>,
}

/// The record of the network to start from, if it is one of a store.
pub(super) fn record(start: &Start) -> Result<Option<ModelRecord>> {
    match start {
        Start::Seed => Ok(None),
        Start::Model { models, name } => Ok(Some(store::record(models, name)?)),
    }
}

/// Builds the graph and its first weights.
pub(super) fn ready(
    start: &Start,
    network: &str,
    labels: &[String],
    standardisation: Standardisation,
    size: usize,
    seed: u64,
) -> Result<Ready> {
    let architecture = network.parse::<Architecture>().map_err(PretrainError::Request)?;
    let graph = architecture.graph_with_channels(&Head::sigmoid(labels.to_vec()), standardisation.channels());
    graph.shapes(size, size).map_err(|e| PretrainError::Request(format!("{network}: {e}")))?;
    let mut weights = initial_weights(&graph, seed);
    let Start::Model { models, name } = start else {
        let notes = vec![format!("trained from random weights, seed {seed}")];
        return Ok(Ready { graph, weights, origin: "seed".into(), notes });
    };
    let (origin, notes) = overlay(models, name, &graph, labels, &mut weights)?;
    Ok(Ready { graph, weights, origin, notes })
}

/// Replaces weights by those of a network of the store.
fn overlay(
    models: &Path,
    name: &str,
    graph: &Graph,
    labels: &[String],
    weights: &mut Weights,
) -> Result<(String, Vec<String>)> {
    let (record, _, stored) = store::load_verified(models, name)?;
    if record.architecture != graph.name {
        return Err(PretrainError::Request(format!(
            "{name} is a {}, asked for is {}; give --net {} or another --init",
            record.architecture, graph.name, record.architecture
        )));
    }
    let same_head = record.head.layers.len() == 1 && record.head.labels == labels;
    weights.extend(stored.into_iter().filter(|(tensor, _)| same_head || !tensor.starts_with(HEAD)));
    weights::check(graph, weights).map_err(|e| PretrainError::Request(format!("--init {name}: {e}")))?;
    let head = if same_head { "its head kept" } else { "a new head" };
    let mut notes = vec![format!(
        "trained from {name} (weights sha256 {}, licence: {}), {head}",
        record.weights_sha256,
        record.licence.lines().next().unwrap_or("")
    )];
    // Nobody can tell which films are in these weights: whoever asks must be told so of the heir, too.
    notes.extend(record.notes.iter().filter(|note| note.starts_with(TAUGHT_UNLISTED)).cloned());
    Ok((format!("{name} {}", record.weights_sha256), notes))
}

/// Which nodes learn when those whose names begin with one of `freeze` do not.
pub(super) fn trained(graph: &Graph, freeze: &[String]) -> Result<Trained> {
    if freeze.is_empty() {
        return Ok(Trained::All);
    }
    let is = |word: &str, name: &str| {
        if word == BACKBONE { !name.starts_with(HEAD) } else { !word.is_empty() && name.starts_with(word) }
    };
    for word in freeze {
        if !graph.nodes.iter().any(|n| is(word, &n.name)) {
            return Err(PretrainError::Request(format!(
                "--freeze {word}: no layer of {} has a name that begins so; `chestnut bench --net seeded:{} --layers` \
                 lists them, and {BACKBONE} means all but the head",
                graph.name, graph.name
            )));
        }
    }
    let learns = |name: &str| !freeze.iter().any(|word| is(word, name));
    if !graph.tensors().iter().any(|(name, _)| learns(name)) {
        return Err(PretrainError::Request("--freeze leaves no layer that could learn; freeze fewer".into()));
    }
    let nodes: BTreeSet<usize> =
        graph.nodes.iter().enumerate().filter(|(_, n)| learns(&n.name)).map(|(id, _)| id).collect();
    Ok(Trained::Only(nodes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_zoo::Activation;
    use chestnut_zoo::read::HeadHint;
    use chestnut_zoo::read::safetensors::write_safetensors;
    use chestnut_zoo::store::AddOptions;
    use std::collections::BTreeMap;

    fn graph() -> Graph {
        Architecture::Vgg16.graph(&Head::sigmoid(vec!["A".into()]))
    }

    #[test]
    fn layers_are_frozen_by_the_beginning_of_their_names() {
        let graph = graph();
        assert_eq!(trained(&graph, &[]).expect("all"), Trained::All);
        let Trained::Only(nodes) = trained(&graph, &["block1".into(), "block2_conv1".into()]).expect("some") else {
            panic!("not all learn")
        };
        for (id, node) in graph.nodes.iter().enumerate() {
            let frozen = node.name.starts_with("block1") || node.name == "block2_conv1";
            assert_eq!(nodes.contains(&id), !frozen, "{}", node.name);
        }
        let Trained::Only(nodes) = trained(&graph, &[BACKBONE.into()]).expect("the head") else {
            panic!("not all learn")
        };
        let names: Vec<&str> = nodes.iter().map(|&id| graph.nodes[id].name.as_str()).collect();
        assert_eq!(names, ["head.0"]);
        for bad in [vec!["conv9".to_owned()], vec![BACKBONE.to_owned(), "head".to_owned()], vec![String::new()]] {
            assert!(trained(&graph, &bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn weights_of_the_store_replace_all_but_another_head() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("source.safetensors");
        let stored = weights::seeded(&graph(), 3);
        write_safetensors(&file, &stored, &BTreeMap::new(), false).expect("written");
        let head = HeadHint { labels: Some(vec!["A".into()]), activations: Some(vec![Activation::Sigmoid]) };
        let options = AddOptions { head, ..AddOptions::default() };
        let models = folder.path().join("models");
        store::add(&models, &file, "mine", None, &options).expect("fits");
        let start = Start::Model { models, name: "mine".into() };
        let ready_for = |network: &str, labels: &[&str]| {
            let labels: Vec<String> = labels.iter().map(|&l| l.to_owned()).collect();
            ready(&start, network, &labels, Standardisation::ImageNet, 64, 1)
        };
        let same = ready_for("vgg16", &["A"]).expect("fits");
        assert!(same.weights == stored && same.origin.starts_with("mine "));
        let other = ready_for("vgg16", &["B", "C"]).expect("fits");
        assert!(other.weights["block1_conv1.kernel"] == stored["block1_conv1.kernel"]);
        assert_eq!(other.weights["head.0.kernel"].shape, [512, 2]);
        let error = ready_for("vgg19", &["A"]).expect_err("another network").to_string();
        assert!(error.contains("mine is a vgg16"), "{error}");
        assert!(ready_for("resnet", &["A"]).expect_err("unknown").to_string().contains("vgg16"));
    }
}
