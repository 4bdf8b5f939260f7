//! `chestnut compare --as-published`: the paper's own protocol, for those who want its tables and not only its answer.
//!
//! Baseline on all images (Table 5), stacking and trees on 70/30 (Table 6), heads on 70/10/20 with a forest fitted to
//! what they say about the very images they were trained on (Table 7); all by image (protocol 6.1, 6.2). The three test
//! sets differ, so each table is a [`Comparison`] of its own, marked, in a folder of its own, and never beside the
//! study's. Entropy weights are normalised: the published numbers are, whatever Eq. 2 says (protocol 6.2, no. 1).

use super::approaches::{Approach, Material, Rows, learned_from};
use super::checks::{self, untrained};
use super::describe::{describe, predictions_csv};
use super::{CompareOptions, PARTS, common, label_table, source_map, truth};
use crate::cohort::split::by_lot;
use crate::cohort::{Cohort, Split, SplitPlan, Unit};
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::evaluate::results::Timing;
use crate::evaluate::{Comparison, MethodScore, PartCount, score_method, table};
use crate::study::{SplitSettings, StageRecord, Study};
use crate::transfer::embeddings::Learner;
use crate::transfer::source::SourceMap;
use crate::transfer::{Predictions, stacking};
use chestnut_forest::Params;
use chestnut_train::Schedule;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Folder of the results, below the study's.
pub const FOLDER: &str = "as_published";
/// Ends the mark of each table.
const INCOMPARABLE: &str =
    "Three test sets, one per table: compare these numbers neither with each other nor with the study's own tables.";
/// What is absent where the networks' outputs do not fit.
const NO_OUTPUTS: &str = "no stacking on the networks' outputs: they are missing, differ between networks, or map to none of this study's labels";
/// What here is not known to be as published.
const UNKNOWN: &str = "How the published splits were drawn is not known; these are drawn by lot, without balancing labels, from the study's seed.";

/// One of the paper's tables, made as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedTable {
    /// `table5`, `table6` or `table7`.
    pub name: &'static str,
    /// Its numbers, with `as_published` set and the marks that every output must show.
    pub comparison: Comparison,
}

/// What makes one table.
struct Protocol {
    name: &'static str,
    mark: &'static str,
    /// `None`: everything is tested on.
    plan: Option<SplitPlan>,
    approaches: Vec<Approach>,
}

fn protocols(seed: u64) -> Vec<Protocol> {
    let by_image = |plan: SplitPlan| Some(SplitPlan { unit: Unit::Image, ..plan });
    let trees = [Params::decision_tree(seed), Params::random_forest(seed), Params::extra_trees(seed)];
    let trees = trees.map(|params| Approach::Embeddings(Learner::Trees(params)));
    vec![
        Protocol {
            name: "table5",
            mark: "AS PUBLISHED, Table 5, baseline: tested on all images, nothing is held out.",
            plan: None,
            approaches: vec![Approach::Baseline],
        },
        Protocol {
            name: "table6",
            mark: "AS PUBLISHED, Table 6, stacking and embeddings: SPLIT BY IMAGE, 70 % to learn from, 30 % to test on.",
            plan: by_image(SplitPlan::train_test(seed)),
            approaches: std::iter::once(Approach::Stacking).chain(trees).collect(),
        },
        Protocol {
            name: "table7",
            mark: "AS PUBLISHED, Table 7, fine-tuned head: SPLIT BY IMAGE, 70 % to learn from, 10 % to stop by, 20 % to test on; stacking is fitted in-sample, to what the heads say about the images they were trained on.",
            plan: by_image(SplitPlan::train_validation_test(seed)),
            approaches: vec![Approach::FineTuned(Schedule::as_published())],
        },
    ]
}

/// Makes the paper's three tables and writes them below [`FOLDER`]: `metrics.json`, `tables/*.csv`, `tables.md`, and
/// for each table its split and predictions; the page is the caller's next step (`report::write_published`). Nothing
/// else of the study is touched but `manifest.json`. Of the options, the label map, `literal_entropy` and `majority_vote`
/// count. What needs outputs that the networks lack is left out.
///
/// `progress` is called with (done, total) approaches.
///
/// # Errors
/// If embeddings are missing or stale, there are fewer than six images, or no label has a known value.
pub fn as_published(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    options: &CompareOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Vec<PublishedTable>> {
    if networks.is_empty() {
        return Err(Error::Request("a comparison needs at least one network".to_owned()));
    }
    let start = Instant::now();
    let (cohort, tables) = &common(study, cohort, networks)?;
    checks::not_taught_here(networks, cohort)?;
    let settings = &SplitSettings { unit: Unit::Image, ..study.settings.split.clone() };
    let options = &CompareOptions {
        repeats: 1,
        approaches: Vec::new(),
        learning_draws: 0,
        details: false,
        tuned: None,
        map_first: false,
        concat: false,
        ..options.clone()
    };
    let protocols = protocols(settings.seed);
    let total: usize = protocols.iter().map(|p| p.approaches.len()).sum();
    let mut done = 0;
    progress(0, total);
    // Those of an earlier run, with other networks, must not stand beside the new ones.
    forget(study)?;
    let mut made = Vec::new();
    for protocol in protocols {
        let count = protocol.approaches.len();
        let files = Files::of(protocol.name);
        if let Some((table, split, predictions)) = one(study, cohort, networks, tables, settings, options, protocol)? {
            study.write(&files.table, table::csv(&table.comparison).as_bytes())?;
            study.write(&files.predictions, predictions.as_bytes())?;
            if let Some(split) = split {
                study.write(&files.split, split.to_csv().as_bytes())?;
            }
            made.push(table);
        }
        done += count;
        progress(done, total);
    }
    let comparisons: Vec<&Comparison> = made.iter().map(|t| &t.comparison).collect();
    let json = serde_json::to_string_pretty(&comparisons).map_err(|e| Error::Request(e.to_string()))?;
    study.write(&format!("{FOLDER}/metrics.json"), json.as_bytes())?;
    let text: Vec<String> = comparisons.iter().map(|c| table::markdown(c)).collect();
    study.write(&format!("{FOLDER}/tables.md"), text.join("\n").as_bytes())?;
    let names = networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(",");
    let facts = BTreeMap::from([("networks".to_owned(), names), ("seed".to_owned(), settings.seed.to_string())]);
    study.record("compare as published", StageRecord { seconds: start.elapsed().as_secs_f64(), facts })?;
    Ok(made)
}

/// Files of one table, below the study's folder.
struct Files {
    table: String,
    predictions: String,
    split: String,
}

impl Files {
    fn of(name: &str) -> Self {
        Self {
            table: format!("{FOLDER}/tables/{name}.csv"),
            predictions: format!("{FOLDER}/predictions_{name}.csv"),
            split: format!("{FOLDER}/split_{name}.csv"),
        }
    }
}

/// Removes the files of an earlier run: they do not belong to the comparison that is written now.
///
/// # Errors
/// Any I/O error, naming the file.
pub(super) fn forget(study: &Study) -> Result<()> {
    let tables = protocols(0).into_iter().map(|protocol| Files::of(protocol.name));
    let others = ["metrics.json", "tables.md", "index.html"].map(|name| format!("{FOLDER}/{name}"));
    let mut names = tables.flat_map(|files| [files.table, files.predictions, files.split]).chain(others);
    names.try_for_each(|name| remove(study, &name))?;
    // Folders with somebody's own files in them stay.
    for folder in [format!("{FOLDER}/tables"), FOLDER.to_owned()] {
        let _ = std::fs::remove_dir(study.path(&folder));
    }
    Ok(())
}

fn remove(study: &Study, name: &str) -> Result<()> {
    let path = study.path(name);
    if path.is_file() { std::fs::remove_file(&path).map_err(Error::io(&path)) } else { Ok(()) }
}

/// A table, its split and its predictions; `None` if the networks allow none of its approaches.
type Made = Option<(PublishedTable, Option<Split>, String)>;

fn one(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    tables: &[EmbeddingTable],
    settings: &SplitSettings,
    options: &CompareOptions,
    protocol: Protocol,
) -> Result<Made> {
    let items = cohort.items();
    let split = protocol.plan.as_ref().map(|plan| by_lot(&items, plan)).transpose()?;
    let rows = rows_of(cohort, split.as_ref())?;
    let learned = if split.is_some() { rows.development() } else { rows.predict.clone() };
    let (names, labels) = label_table(cohort, &learned)?;
    let map = source_map(networks, tables, &names, options);
    let needs_outputs = |a: &Approach| matches!(a, Approach::Baseline | Approach::Stacking);
    let left_out = map.is_none() && protocol.approaches.iter().any(needs_outputs);
    let approaches: Vec<Approach> =
        protocol.approaches.into_iter().filter(|a| map.is_some() || !needs_outputs(a)).collect();
    if approaches.is_empty() {
        return Ok(None);
    }
    let material = Material::new(networks, tables, &items, &labels, map.as_ref(), settings, options);
    let test_truth = truth(&labels, &rows.predict);
    let patients = cohort.patients_of(&rows.predict);
    let parts = parts_of(cohort, split.as_ref(), &rows);
    let tested_on = tested_on(&parts, split.is_some());
    let (mut methods, mut scores, mut timings): (Vec<Predictions>, Vec<MethodScore>, Vec<Timing>) = Default::default();
    for approach in &approaches {
        let clock = Instant::now();
        let found = match approach {
            Approach::FineTuned(_) => with_in_sample_stack(&material, approach, &rows)?,
            _ => material.run(approach, &rows)?,
        };
        timings.push(Timing {
            approach: approach.name(),
            stage: "fit".to_owned(),
            seconds: clock.elapsed().as_secs_f64(),
        });
        let why = match (approach, &map) {
            (Approach::Baseline, Some(map)) => SourceMap::unknown(map),
            _ => untrained(&labels, &learned_from(approach, &rows)),
        };
        let score = |m: &Predictions| MethodScore {
            tested_on: Some(tested_on.clone()),
            ..score_method(&m.approach, &m.source, &names, &m.probabilities, &test_truth, &patients, &why)
        };
        scores.extend(found.iter().map(score));
        methods.extend(found);
    }
    let predictions = predictions_csv(cohort, &rows.predict, &names, &methods.iter().collect::<Vec<_>>(), &test_truth);
    let own = [Some(UNKNOWN), left_out.then_some(NO_OUTPUTS)].into_iter().flatten().map(str::to_owned);
    let warnings = cohort.warnings.iter().cloned().chain(own).collect();
    let marks = vec![mark(protocol.mark, cohort, split.as_ref())];
    let base = describe(study, cohort, networks, &approaches, options, scores, names, parts, warnings);
    let title = format!("{}, {} as published", base.title, protocol.name);
    let comparison = Comparison { title, unit: "image".to_owned(), marks, as_published: true, timings, ..base };
    Ok(Some((PublishedTable { name: protocol.name, comparison }, split, predictions)))
}

/// Rows of the parts: the first is learned from, the last tested on, one between them stopped by.
fn rows_of(cohort: &Cohort, split: Option<&Split>) -> Result<Rows> {
    let Some(split) = split else {
        return Ok(Rows { predict: (0..cohort.images.len()).collect(), ..Rows::default() });
    };
    let mut indices = split.indices(cohort)?;
    let (predict, train) = (indices.pop().unwrap_or_default(), indices.first().cloned().unwrap_or_default());
    Ok(Rows { train, validation: indices.get(1).cloned().unwrap_or_default(), predict })
}

fn parts_of(cohort: &Cohort, split: Option<&Split>, rows: &Rows) -> Vec<PartCount> {
    let count = |name: &str, rows: &[usize]| PartCount {
        part: name.to_owned(),
        images: rows.len(),
        patients: BTreeSet::from_iter(cohort.patients_of(rows)).len(),
    };
    let all = [(PARTS[0], &rows.train), (PARTS[1], &rows.validation), (PARTS[2], &rows.predict)];
    let there = |name: &str| split.map_or(name == PARTS[2], |s| s.parts.iter().any(|p| p == name));
    all.into_iter().filter(|part| there(part.0)).map(|(name, rows)| count(name, rows)).collect()
}

/// What the table's rows were tested on, in words.
fn tested_on(parts: &[PartCount], held_out: bool) -> String {
    let (images, patients) = parts.iter().find(|p| p.part == PARTS[2]).map_or((0, 0), |p| (p.images, p.patients));
    if held_out {
        format!("{images} images of {patients} patients, drawn by image")
    } else {
        format!("all {images} images of {patients} patients, nothing held out")
    }
}

fn mark(what: &str, cohort: &Cohort, split: Option<&Split>) -> String {
    let shared = split.map_or_else(String::new, |split| {
        let (shared, all) = (split.shared_patients().len(), cohort.patients());
        format!(" {shared} of {all} patients have images in more than one part.")
    });
    format!("{what}{shared} {INCOMPARABLE}")
}

/// Heads and their averages, and the forest fitted to what the heads say about the very images they were trained on.
fn with_in_sample_stack(material: &Material<'_>, approach: &Approach, rows: &Rows) -> Result<Vec<Predictions>> {
    let both = Rows { predict: [&rows.train[..], &rows.predict[..]].concat(), ..rows.clone() };
    let (outputs, networks) = (material.labels.outputs(), material.networks.len());
    let at = rows.train.len() * outputs;
    let all = material.run(approach, &both)?;
    let (learn, judge): (Vec<Vec<f64>>, Vec<Vec<f64>>) =
        all.iter().take(networks).map(|p| (p.probabilities[..at].to_vec(), p.probabilities[at..].to_vec())).unzip();
    let (x, y) = (stacking::side_by_side(&learn, outputs), stacking::side_by_side(&judge, outputs));
    let params = stacking::authors_forest(material.settings.seed);
    let labels = material.labels.select(&rows.train);
    let probabilities = stacking::stack(x, &labels, y, networks * outputs, &params)?;
    let mut found: Vec<Predictions> =
        all.into_iter().map(|p| Predictions { probabilities: p.probabilities[at..].to_vec(), ..p }).collect();
    found.push(Predictions { approach: approach.name(), source: "Stacking, in-sample".to_owned(), probabilities });
    Ok(found)
}
