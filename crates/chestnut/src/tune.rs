//! `chestnut tune`: the paper's grid search (Table 4) on the training patients of the study's split.
//!
//! Cross-validation is grouped by patient and stratified over labels. Each (network, learner, growth, fold) is one
//! piece of work whose scores are stored as soon as they are known, so an interrupted search goes on where it was.
//! Test patients are never looked at. What is chosen is kept beside what earlier searches chose for other networks and
//! learners (`tune/merge.rs`).

mod merge;

use crate::cohort::split::Item;
use crate::cohort::{Cohort, split};
use crate::compare::concat::{CONCATENATED, concatenated};
use crate::compare::{common, folds_of, label_table, not_named_as_rows, not_taught_here, plan};
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::report::grid_figure::{GridPoint, grid_plot};
use crate::study::{StageRecord, Study, read_kept};
use chestnut_forest::{Features, Fold, FoldScores, Grid, GridRow, Labels, Learner, Params, rank, score_growth};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// File of the chosen settings.
pub const TUNED: &str = "models/tuned.json";
/// Largest file of chosen settings that is read back; each takes less than a kilobyte.
pub const MAX_TUNED_BYTES: u64 = 16 << 20;
/// Longest AUC in a stored piece of the search, with its comma, bytes.
const LONGEST_AUC: usize = 32;

/// Part of a stored piece's name: another number where the same forests are scored in another way.
const SCORING: u32 = 2;

/// How to search.
#[derive(Clone, Debug)]
pub struct TuneOptions {
    /// One grid per learner.
    pub grids: Vec<Grid>,
    /// Folds of the cross-validation; the paper's code has 5.
    pub folds: usize,
    /// How often it is repeated with other folds; the paper's code: 3.
    pub repeats: usize,
    /// Also search for all networks' embeddings side by side, if there are several.
    pub concat: bool,
}

/// The best setting of one network and learner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// Network, or `Concatenated`.
    pub network: String,
    /// Best row of the grid.
    pub best: GridRow,
    /// Settings evaluated.
    pub settings: usize,
    /// Hash of the images that it was tuned on.
    pub training: String,
    /// Hash of their embeddings and labels; empty in files of earlier versions, and fits nothing then.
    #[serde(default)]
    pub inputs: String,
}

/// Runs the search for every network and grid; writes grid tables, pictures and [`TUNED`], in which earlier choices for
/// other networks and learners stay if they still fit. Answers what this search chose.
///
/// `progress` is called with (done, total) pieces of work.
///
/// # Errors
/// If the study was not embedded yet, a network was taught on it, a grid makes no sense, or there are fewer patients
/// than folds.
pub fn tune(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    options: &TuneOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Tuned>> {
    let start = Instant::now();
    let (cohort, tables) = &common(study, cohort, networks)?;
    not_named_as_rows(networks)?;
    not_taught_here(networks, cohort)?;
    let train = training_rows(study, cohort)?;
    let (names, labels) = label_table(cohort, &train)?;
    let items: Vec<Item> = {
        let all = cohort.items();
        train.iter().map(|&i| all[i]).collect()
    };
    let seed = study.settings.split.seed;
    let folds = folds_of(&items, options.folds, options.repeats, study.settings.split.unit, seed)?;
    let labels = labels.select(&train);
    let pieces: usize = options.grids.iter().map(|g| g.growths(seed).len() * folds.len()).sum();
    let joined = (options.concat && networks.len() > 1).then(|| concatenated(tables));
    let mut inputs: Vec<(&str, &EmbeddingTable)> = networks.iter().map(|n| n.name.as_str()).zip(tables).collect();
    inputs.extend(joined.as_ref().map(|table| (CONCATENATED, table)));
    let (done, total) = (AtomicUsize::new(0), pieces * inputs.len());
    let mut all = Vec::new();
    for (network, table) in inputs {
        let features = Features::new(table.embeddings.clone(), table.width)?.select(&train);
        let chosen_on = fingerprint(&features, &labels);
        for grid in &options.grids {
            grid.check(&features, &labels)?;
            let tick = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            let scores = search(study, network, &features, &labels, &folds, grid, seed, &tick)?;
            let rows = rank(grid, seed, &scores);
            let Some(best) = rows.first().cloned() else {
                let problem = "no label has both classes in any fold; nothing can be tuned".to_owned();
                return Err(Error::Network { network: network.to_owned(), problem });
            };
            let [csv, svg] = files_of(network, grid.learner);
            study.write(&csv, grid_csv(&rows, &names).as_bytes())?;
            study.write(&svg, picture(network, grid, &rows, &best.params).as_bytes())?;
            let (training, inputs) = (training_hash(cohort, &train), chosen_on.clone());
            all.push(Tuned { network: network.to_owned(), settings: rows.len(), best, training, inputs });
        }
    }
    let settings = merge::with_earlier(study, &all);
    merge::remove_others(study, &settings)?;
    let settings: Vec<&Tuned> = settings.values().collect();
    let text = serde_json::to_string_pretty(&settings).map_err(|e| Error::Request(e.to_string()))?;
    study.write(TUNED, text.as_bytes())?;
    let facts = BTreeMap::from([
        ("folds".to_owned(), options.folds.to_string()),
        ("repeats".to_owned(), options.repeats.to_string()),
        ("settings".to_owned(), options.grids.iter().map(|g| g.len().to_string()).collect::<Vec<_>>().join("+")),
    ]);
    study.record("tune", StageRecord { seconds: start.elapsed().as_secs_f64(), facts })?;
    Ok(all)
}

/// Table and picture of a search, below the study's folder.
fn files_of(network: &str, learner: Learner) -> [String; 2] {
    let name = format!("{}{}_{}", merge::PREFIX, network.replace(':', "-"), learner.short());
    [format!("tables/{name}.csv"), format!("figures/{name}.svg")]
}

/// What was chosen, by network and learner.
pub type TunedSettings = BTreeMap<(String, Learner), Tuned>;

/// The settings chosen by [`tune`].
///
/// # Errors
/// If tune has not run or its file was damaged.
pub fn tuned(study: &Study) -> Result<TunedSettings> {
    let path = study.path(TUNED);
    if !path.is_file() {
        let command = format!("chestnut tune {}", study.root.display());
        return Err(Error::StageMissing { study: study.root.clone(), what: TUNED.to_owned(), command });
    }
    settings_of(&read_kept(&path, MAX_TUNED_BYTES)?)
        .map_err(|e| Error::File { path, problem: format!("{e}; run `chestnut tune {}` again", study.root.display()) })
}

/// The settings in the text of [`TUNED`]; whether they fit a table is the learner's to say.
pub(crate) fn settings_of(text: &str) -> std::result::Result<TunedSettings, serde_json::Error> {
    let all: Vec<Tuned> = serde_json::from_str(text)?;
    Ok(all.into_iter().map(|t| ((t.network.clone(), t.best.params.learner), t)).collect())
}

/// Rows of the training part of the split that compare draws from the same settings.
fn training_rows(study: &Study, cohort: &Cohort) -> Result<Vec<usize>> {
    Ok(split(&cohort.items(), &plan(&study.settings.split))?.indices(cohort)?.swap_remove(0))
}

/// Names the training images, so that settings are never used where they were tuned on test patients. What their
/// embeddings and labels are is for [`fingerprint`].
pub(crate) fn training_hash(cohort: &Cohort, train: &[usize]) -> String {
    let mut hash = Sha256::new();
    train.iter().for_each(|&i| hash.update(format!("{}\t{}\n", cohort.images[i].id, cohort.images[i].sha256)));
    crate::fs::to_hex(&hash.finalize()[..16])
}

#[allow(clippy::too_many_arguments, reason = "everything that one search depends on")]
fn search(
    study: &Study,
    network: &str,
    features: &Features,
    labels: &Labels,
    folds: &[Fold],
    grid: &Grid,
    seed: u64,
    tick: &(dyn Fn() + Sync),
) -> Result<Vec<Vec<FoldScores>>> {
    let growths = grid.growths(seed);
    let inputs = fingerprint(features, labels);
    let pieces: Vec<(usize, usize)> = (0..growths.len()).flat_map(|g| (0..folds.len()).map(move |f| (g, f))).collect();
    let mut scores = Vec::with_capacity(pieces.len());
    // No more pieces at once than threads, as in `chestnut_forest::grid_search`: each holds a sorted table.
    for portion in pieces.chunks(rayon::current_num_threads()) {
        let piece = |&(g, f): &(usize, usize)| -> Result<FoldScores> {
            let name =
                format!("tune/{}/{}.json", network.replace(':', "-"), piece_key(&inputs, grid, &growths[g], &folds[f]));
            let settings = grid.nested(&growths[g]).len();
            let scores = match stored_scores(&study.path(&name), settings, labels.outputs()) {
                Some(scores) => scores,
                None => {
                    let scores = score_growth(features, labels, &folds[f], grid, &growths[g])?;
                    let text = serde_json::to_string(&scores).map_err(|e| Error::Request(e.to_string()))?;
                    study.write(&name, text.as_bytes())?;
                    scores
                }
            };
            tick();
            Ok(scores)
        };
        scores.extend(portion.par_iter().map(piece).collect::<Result<Vec<FoldScores>>>()?);
    }
    let mut scores = scores.into_iter();
    Ok(growths.iter().map(|_| scores.by_ref().take(folds.len()).collect()).collect())
}

/// The stored scores of a piece of the search; none if the file is not there or holds anything else than scores of so
/// many settings and labels: they are computed again then.
fn stored_scores(path: &Path, settings: usize, labels: usize) -> Option<FoldScores> {
    let longest = settings.saturating_mul(labels.saturating_mul(LONGEST_AUC).saturating_add(4)).saturating_add(4);
    scores_of(&read_kept(path, longest as u64).ok()?, settings, labels)
}

/// The scores in the text of a stored piece.
pub(crate) fn scores_of(text: &str, settings: usize, labels: usize) -> Option<FoldScores> {
    let scores: FoldScores = serde_json::from_str(text).ok()?;
    // The ranking reads as many labels of each setting of each fold as the first has.
    let fits = |row: &Vec<Option<f64>>| row.len() == labels && row.iter().flatten().all(|a| (0.0..=1.0).contains(a));
    (scores.len() == settings && scores.iter().all(fits)).then_some(scores)
}

/// [`Tuned::inputs`] of settings that are chosen on these rows of a table and its labels.
///
/// # Errors
/// If an embedding is not finite.
pub(crate) fn inputs_of(table: &EmbeddingTable, labels: &Labels, rows: &[usize]) -> Result<String> {
    let features = Features::new(table.embeddings.clone(), table.width)?.select(rows);
    Ok(fingerprint(&features, &labels.select(rows)))
}

/// Hash of everything that the scores are computed from.
fn fingerprint(features: &Features, labels: &Labels) -> String {
    let mut hash = Sha256::new();
    for r in 0..features.rows() {
        features.row(r).iter().for_each(|v| hash.update(v.to_le_bytes()));
        (0..labels.outputs()).for_each(|k| hash.update([labels.get(r, k).map_or(2, u8::from)]));
    }
    crate::fs::to_hex(&hash.finalize())
}

fn piece_key(inputs: &str, grid: &Grid, growth: &Params, fold: &Fold) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{inputs} {grid:?} {growth:?} {} {SCORING}", env!("CARGO_PKG_VERSION")));
    fold.test.iter().for_each(|&i| hash.update((i as u64).to_le_bytes()));
    crate::fs::to_hex(&hash.finalize()[..12])
}

/// All settings, best first: `learner,trees,max_depth,...,mean,sd,not_estimable` and a column per label.
fn grid_csv(rows: &[GridRow], labels: &[String]) -> String {
    let fixed = [
        "learner",
        "trees",
        "max_depth",
        "min_samples_split",
        "min_samples_leaf",
        "criterion",
        "mean",
        "sd",
        "not_estimable",
    ];
    let mut out = vec![fixed.iter().map(|c| (*c).to_owned()).chain(labels.iter().cloned()).collect::<Vec<_>>()];
    for r in rows {
        let p = &r.params;
        let mut row = vec![
            p.learner.short().to_owned(),
            p.trees.to_string(),
            p.max_depth.to_string(),
            p.min_samples_split.to_string(),
            p.min_samples_leaf.to_string(),
            format!("{:?}", p.criterion).to_lowercase(),
            format!("{:.6}", r.mean),
            format!("{:.6}", r.sd),
            r.not_estimable.to_string(),
        ];
        row.extend(r.labels.iter().map(|a| a.map_or(String::new(), |a| format!("{a:.6}"))));
        out.push(row);
    }
    crate::cohort::table::to_csv(out)
}

/// Score against depth, a line per number of trees, at the best other settings.
fn picture(network: &str, grid: &Grid, rows: &[GridRow], best: &Params) -> String {
    let same = |p: &Params| {
        (p.criterion, p.min_samples_leaf, p.min_samples_split, p.max_features, p.bootstrap)
            == (best.criterion, best.min_samples_leaf, best.min_samples_split, best.max_features, best.bootstrap)
    };
    let points: Vec<GridPoint> = rows
        .iter()
        .filter(|r| same(&r.params))
        .map(|r| GridPoint { trees: r.params.trees, depth: r.params.max_depth, mean: r.mean, sd: r.sd })
        .collect();
    grid_plot(&format!("{} on {network}", grid.learner.short()), &points, (best.trees, best.max_depth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    #[test]
    fn damaged_pieces_are_computed_again() {
        let whole = "[[0.5,null],[1.0,0.0]]";
        let expected = vec![vec![Some(0.5), None], vec![Some(1.0), Some(0.0)]];
        assert_eq!(scores_of(whole, 2, 2), Some(expected));
        // The second setting lacks a label, one has none, an AUC is none, there is a setting more, it is no JSON.
        for text in ["[[0.5,null],[1.0]]", "[[],[]]", "[[0.5,2.0],[1.0,0.0]]", "[[0,0],[0,0],[0,0]]", "[[0.5,", "{}"] {
            assert_eq!(scores_of(text, 2, 2), None, "{text}");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("piece.json");
        std::fs::write(&path, whole).expect("written");
        assert!(stored_scores(&path, 2, 2).is_some());
        std::fs::write(&path, format!("{whole}{}", " ".repeat(1000))).expect("written");
        assert_eq!(stored_scores(&path, 2, 2), None, "longer than its numbers can be");
        assert_eq!(stored_scores(&folder.path().join("absent.json"), 2, 2), None);
    }

    /// The limit on a piece's size is never below the size of what the search writes.
    #[test]
    fn what_is_stored_comes_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("piece.json");
        let mut draw = Stream::keyed(3, "stored pieces");
        for _ in 0..200 {
            let (settings, labels) = (1 + draw.below(5), 1 + draw.below(4));
            // Small numbers are the longest: 2.2250738585072014e-308 has 23 characters.
            let auc = |draw: &mut Stream| (draw.uniform() < 0.8).then(|| draw.uniform() * [1.0, 1e-300][draw.below(2)]);
            let row = |draw: &mut Stream| (0..labels).map(|_| auc(draw)).collect::<Vec<_>>();
            let scores: FoldScores = (0..settings).map(|_| row(&mut draw)).collect();
            std::fs::write(&path, serde_json::to_string(&scores).expect("numbers")).expect("written");
            assert_eq!(stored_scores(&path, settings, labels), Some(scores));
        }
    }

    #[test]
    fn chosen_settings_are_read_or_refused() {
        assert!(settings_of("[]").expect("nothing was chosen").is_empty());
        for text in ["", "{}", "[{}]", "[{\"network\":\"a\",\"best\":null,\"settings\":1,\"training\":\"b\"}]"] {
            assert!(settings_of(text).is_err(), "{text}");
        }
    }
}
