//! What a fine-tuning leaves in the study, and how `compare` reads it: predictions by networks that had not seen the
//! image's patient, for the test part and, fold by fold, for the rest.

use super::DeepOptions;
use super::fit::History;
use crate::cohort::Cohort;
use crate::cohort::stored::quote;
use crate::embed::Network;
use crate::error::{Error, Result};
use crate::image::recipe::Recipe;
use crate::study::{Study, read_kept};
use chestnut_forest::Labels;
use chestnut_train::Depth;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Largest record that is read back: those of 115,000 images with 14 labels take 40 MB.
const MAX_RECORD_BYTES: u64 = 256 << 20;

/// `finetuned/<network>-<depth>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version that wrote it.
    pub version: String,
    /// Network that was taught.
    pub network: String,
    /// How it was taught.
    pub options: DeepOptions,
    /// Identity of everything that it was taught on.
    pub key: String,
    /// Labels that it learned.
    pub labels: Vec<String>,
    /// The training run for the test part, then one per fold of the other patients.
    pub fits: Vec<History>,
    /// Probabilities by image id, one per label.
    pub predictions: BTreeMap<String, Vec<f64>>,
}

/// Probabilities by network and depth, then by row of the cohort.
pub(crate) type DeepPredictions = BTreeMap<(String, Depth), BTreeMap<usize, Vec<f64>>>;

/// Name of the taught network in `models/`, and of its record.
pub(super) fn model_name(network: &Network, depth: Depth) -> String {
    format!("{}-{}", network.name.replace(':', "-"), depth.name())
}

pub(super) fn file_name(network: &Network, depth: Depth) -> String {
    format!("finetuned/{}.json", model_name(network, depth))
}

/// Depths to which all of these networks were taught, for `compare`; and for each other depth to which some were, a
/// sentence that says why it is left out and what to do.
#[must_use]
pub fn depths(study: &Study, networks: &[Network]) -> (Vec<Depth>, Vec<String>) {
    let names = |networks: &[&Network]| networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(",");
    let (mut all, mut left_out) = (Vec::new(), Vec::new());
    for depth in [Depth::Head, Depth::Conv, Depth::Block, Depth::All] {
        let is_taught = |n: &&Network| study.path(&file_name(n, depth)).is_file();
        let (taught, others): (Vec<&Network>, Vec<&Network>) = networks.iter().partition(is_taught);
        if taught.is_empty() {
            continue;
        }
        let approach = super::approach_name(depth);
        if !others.is_empty() {
            let (taught, others, depth) = (names(&taught), names(&others), depth.name());
            left_out.push(format!(
                "{approach} is left out, because only {taught} was taught so: run finetune --net {others} --depth \
                 {depth}, or compare with --net {taught}"
            ));
        } else if let Err(e) = super::beside::one_look(study, networks) {
            left_out.push(format!("{approach} is left out: {e}"));
        } else {
            all.push(depth);
        }
    }
    (all, left_out)
}

/// Identity of weights, recipe, split and labels.
pub(super) fn key(
    study: &Study,
    network: &Network,
    cohort: &Cohort,
    parts: [&[usize]; 3],
    names: &[String],
    labels: &Labels,
) -> String {
    let settings = &study.settings;
    let recipe = Recipe { size: network.record.input_size, ..settings.recipe.clone() };
    let mut hash = Sha256::new();
    hash.update(format!("{}\n{}\n", network.record.weights_sha256, network.record.standardisation));
    hash.update(format!("{}\n{:?}\n{:?}\n{names:?}\n", recipe.hash(), settings.blank, settings.split));
    for (part, rows) in parts.into_iter().enumerate() {
        for &row in rows {
            let image = &cohort.images[row];
            hash.update(format!("{part}\t{}\t{}\t{}\n", image.id, image.sha256, image.patient));
            (0..labels.outputs()).for_each(|k| hash.update([labels.get(row, k).map_or(2, u8::from)]));
        }
    }
    crate::fs::to_hex(&hash.finalize()[..16])
}

/// Reads what `finetune` predicted for these networks and depths.
///
/// # Errors
/// If a network was not taught to a depth, or on other images, labels or patients.
pub(crate) fn load(
    study: &Study,
    networks: &[Network],
    depths: &[Depth],
    cohort: &Cohort,
    parts: [&[usize]; 3],
    (names, labels): (&[String], &Labels),
) -> Result<DeepPredictions> {
    if !depths.is_empty() {
        super::beside::one_look(study, networks)?;
    }
    let mut all = DeepPredictions::new();
    for network in networks {
        for &depth in depths {
            let name = file_name(network, depth);
            let path = study.path(&name);
            let command =
                format!("chestnut finetune {} --net {} --depth {}", study.root.display(), network.name, depth.name());
            if !path.is_file() {
                return Err(Error::StageMissing { study: study.root.clone(), what: name, command });
            }
            let fault = |problem: String| Error::File { path: path.clone(), problem };
            let again = |problem: String| fault(format!("{problem}; run `{command}` again"));
            let record = parse_record(&read_kept(&path, MAX_RECORD_BYTES)?).map_err(again)?;
            if record.key != key(study, network, cohort, parts, names, labels) {
                if let Some(problem) = super::beside::lacking(study, network, cohort, &record.key)? {
                    return Err(fault(problem));
                }
                return Err(again("was made from other weights, images, labels or another split".to_owned()));
            }
            let rows = rows_of(record, cohort, names.len()).map_err(again)?;
            all.insert((network.name.clone(), depth), rows);
        }
    }
    Ok(all)
}

/// The record in a text.
pub(crate) fn parse_record(text: &str) -> std::result::Result<Record, String> {
    serde_json::from_str(text).map_err(|e| format!("cannot be understood ({e})"))
}

/// The record's predictions by row of the cohort.
pub(crate) fn rows_of(
    record: Record,
    cohort: &Cohort,
    labels: usize,
) -> std::result::Result<BTreeMap<usize, Vec<f64>>, String> {
    let mut rows = BTreeMap::new();
    for (id, probabilities) in record.predictions {
        let row = cohort.images.binary_search_by(|i| i.id.as_str().cmp(&id));
        let fits = probabilities.len() == labels && probabilities.iter().all(|p| (0.0..=1.0).contains(p));
        match row {
            Ok(row) if fits => rows.insert(row, probabilities),
            _ => return Err(format!("does not fit the cohort at {}", quote(&id))),
        };
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::tests::image;
    use chestnut_train::Epoch;

    fn record() -> Record {
        let epoch = Epoch { loss: 0.5, validation_auc: None };
        Record {
            version: "0".to_owned(),
            network: "seeded:vgg16".to_owned(),
            options: DeepOptions::new(Depth::Block),
            key: "k".to_owned(),
            labels: vec!["A".to_owned(), "B".to_owned()],
            fits: vec![History { start_auc: Some(0.5), epochs: vec![epoch], best: 0 }],
            predictions: BTreeMap::from([("b.png".to_owned(), vec![0.0, 1.0])]),
        }
    }

    #[test]
    fn a_record_comes_back_and_a_damaged_one_is_refused() {
        let images = ["a.png", "b.png"].map(|id| image(id, id, "+-")).to_vec();
        let label_names = vec!["A".to_owned(), "B".to_owned()];
        let cohort = Cohort { label_names, images, rejects: Vec::new(), warnings: Vec::new() };
        let text = serde_json::to_string(&record()).expect("JSON");
        let read = parse_record(&text).expect("read");
        assert_eq!(read, record());
        assert_eq!(rows_of(read, &cohort, 2), Ok(BTreeMap::from([(1, vec![0.0, 1.0])])));
        for cut in 0..text.len() {
            assert!(parse_record(&text[..cut]).is_err(), "{}", &text[..cut]);
        }
        for (from, to) in [("b.png", "c.png"), ("[0.0,1.0]", "[0.0]"), ("[0.0,1.0]", "[0.0,1.5]"), ("[0.0,1.0]", "[]")]
        {
            let bad = text.replace(from, to);
            assert_ne!(bad, text);
            assert!(parse_record(&bad).and_then(|r| rows_of(r, &cohort, 2)).is_err(), "{bad}");
        }
        // The name stands in a message, which must not steer a terminal.
        let bad = parse_record(&text.replace("b.png", "\\u001b[2J")).expect("read");
        assert!(!rows_of(bad, &cohort, 2).expect_err("unknown").contains('\u{1b}'));
    }
}
