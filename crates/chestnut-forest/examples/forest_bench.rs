//! Runs one piece of work on a table from a file and prints its time and result as JSON: our side of
//! `benchsuite/forest_vs_sklearn.py`, which writes the table and runs scikit-learn in between.
//!
//! ```text
//! forest_bench TABLE SPLITS TASK [--learner dt|rf|xrt] [--threads N] [--repeats N] [--rows N] [--out FILE]
//! ```
//!
//! TABLE: u32 rows, u32 width, u32 labels, f32 features `[row][feature]`, i8 labels `[row][label]` (-1 unknown), all
//! little-endian. SPLITS: u32 count, then for each split one byte per row, 0 training and 1 judged. Tasks: `fit` (final
//! values, whole table), `auc` (final values, split i with seed i), `grid` (the paper's grid, splits as folds), `shap`
//! (the first `rows` rows), `export` (a forest as ONNX to FILE, and as JSON with predictions and SHAP values).

#![allow(missing_docs, clippy::print_stdout)]

use chestnut_forest::{Features, Fold, Forest, Grid, Labels, Learner, Params, grid_search, onnx};
use serde_json::{Value, json};
use std::error::Error;
use std::time::Instant;

struct Options {
    learner: Learner,
    repeats: usize,
    rows: usize,
    out: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [table, splits, task, rest @ ..] = args.as_slice() else {
        return Err("usage: forest_bench TABLE SPLITS TASK [options]; see the head of forest_bench.rs".into());
    };
    let mut options = Options { learner: Learner::RandomForest, repeats: 1, rows: 20, out: None };
    let mut threads = 1;
    for pair in rest.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} needs a value", pair[0]).into()) };
        match name.as_str() {
            "--learner" => {
                options.learner = match value.as_str() {
                    "dt" => Learner::DecisionTree,
                    "rf" => Learner::RandomForest,
                    "xrt" => Learner::ExtraTrees,
                    other => return Err(format!("no learner {other}").into()),
                }
            }
            "--threads" => threads = value.parse()?,
            "--repeats" => options.repeats = value.parse()?,
            "--rows" => options.rows = value.parse()?,
            "--out" => options.out = Some(value.clone()),
            other => return Err(format!("no option {other}").into()),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let (features, labels) = read_table(&std::fs::read(table)?)?;
    let folds = read_splits(&std::fs::read(splits)?, features.rows())?;
    let result = match task.as_str() {
        "fit" => fit(&features, &labels, &options)?,
        "auc" => auc(&features, &labels, &folds, &options)?,
        "grid" => grid(&features, &labels, &folds, &options)?,
        "shap" => shap(&features, &labels, &options)?,
        "export" => export(&features, &labels, &options)?,
        other => return Err(format!("no task {other}").into()),
    };
    println!("{result}");
    Ok(())
}

/// The paper's final values.
fn final_values(learner: Learner, seed: u64) -> Params {
    match learner {
        Learner::DecisionTree => Params::decision_tree(seed),
        Learner::RandomForest => Params::random_forest(seed),
        Learner::ExtraTrees => Params::extra_trees(seed),
    }
}

fn fit(features: &Features, labels: &Labels, options: &Options) -> Result<Value, Box<dyn Error>> {
    let mut seconds = Vec::new();
    for seed in 0..options.repeats {
        let start = Instant::now();
        Forest::fit(features, labels, &final_values(options.learner, seed as u64))?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(json!({ "seconds": seconds }))
}

fn auc(features: &Features, labels: &Labels, folds: &[Fold], options: &Options) -> Result<Value, Box<dyn Error>> {
    let mut aucs = Vec::new();
    for (seed, fold) in folds.iter().enumerate() {
        let params = final_values(options.learner, seed as u64);
        let forest = Forest::fit(&features.select(&fold.train), &labels.select(&fold.train), &params)?;
        let predicted = forest.predict(&features.select(&fold.test))?;
        let judged = labels.select(&fold.test);
        let mut of_labels = Vec::new();
        for k in 0..labels.outputs() {
            let known =
                (0..judged.rows()).filter_map(|r| judged.get(r, k).map(|l| (predicted[r * labels.outputs() + k], l)));
            let (scores, truth): (Vec<f64>, Vec<bool>) = known.unzip();
            of_labels.extend(chestnut_stats::roc::auc(&scores, &truth).ok());
        }
        aucs.push(of_labels.iter().sum::<f64>() / of_labels.len() as f64);
    }
    Ok(json!({ "aucs": aucs }))
}

fn grid(features: &Features, labels: &Labels, folds: &[Fold], options: &Options) -> Result<Value, Box<dyn Error>> {
    let grid = Grid::paper(options.learner);
    let start = Instant::now();
    let rows = grid_search(features, labels, folds, &grid, 0)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(
        json!({ "seconds": seconds, "settings": rows.len(), "best": rows[0].params.to_string(), "mean_auc": rows[0].mean }),
    )
}

fn shap(features: &Features, labels: &Labels, options: &Options) -> Result<Value, Box<dyn Error>> {
    let forest = Forest::fit(features, labels, &final_values(options.learner, 0))?;
    let rows: Vec<usize> = (0..options.rows.min(features.rows())).collect();
    let judged = features.select(&rows);
    let start = Instant::now();
    let values = forest.shap_rows(&judged)?;
    Ok(json!({ "seconds": start.elapsed().as_secs_f64(), "rows": values.len() }))
}

fn export(features: &Features, labels: &Labels, options: &Options) -> Result<Value, Box<dyn Error>> {
    let forest = Forest::fit(features, labels, &final_values(options.learner, 0))?;
    let rows: Vec<usize> = (0..options.rows.min(features.rows())).collect();
    let judged = features.select(&rows);
    let out = options.out.as_ref().ok_or("export needs --out FILE")?;
    std::fs::write(out, onnx::regressor(&forest, &[("learner".to_owned(), forest.params.to_string())])?)?;
    std::fs::write(format!("{out}.label0"), onnx::classifier(&forest, 0, &[])?)?;
    // [row][output][feature]
    let dense = |s: &chestnut_forest::Shap| (0..forest.outputs).map(|k| s.dense(forest.width, k)).collect::<Vec<_>>();
    let values: Vec<_> = forest.shap_rows(&judged)?.iter().map(dense).collect();
    Ok(json!({ "forest": forest, "predicted": forest.predict(&judged)?, "shap": values }))
}

fn read_table(bytes: &[u8]) -> Result<(Features, Labels), Box<dyn Error>> {
    let words = |from: usize, count: usize| -> Option<Vec<[u8; 4]>> {
        let part = bytes.get(from..from.checked_add(count.checked_mul(4)?)?)?;
        Some(part.as_chunks::<4>().0.to_vec())
    };
    let short = "the table is shorter than its head says";
    let head = words(0, 3).ok_or(short)?;
    let [rows, width, outputs] = [0, 1, 2].map(|i| u32::from_le_bytes(head[i]) as usize);
    let count = rows.checked_mul(width).ok_or(short)?;
    let features: Vec<f32> = words(12, count).ok_or(short)?.into_iter().map(f32::from_le_bytes).collect();
    let labels = bytes.get(12 + 4 * count..).ok_or(short)?;
    if labels.len() != rows * outputs {
        return Err("the table's labels are not rows x labels bytes".into());
    }
    let label = |b: &u8| match *b {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    let labels: Vec<Option<bool>> = labels.iter().map(label).collect();
    Ok((Features::new(features, width)?, Labels::new(&labels, outputs)?))
}

fn read_splits(bytes: &[u8], rows: usize) -> Result<Vec<Fold>, Box<dyn Error>> {
    let (count, parts) = bytes.split_first_chunk::<4>().ok_or("the splits have no head")?;
    if parts.len() != u32::from_le_bytes(*count) as usize * rows {
        return Err("the splits are not splits x rows bytes".into());
    }
    let side = |part: &[u8], want: u8| (0..rows).filter(|&r| part[r] == want).collect::<Vec<usize>>();
    Ok(parts.chunks_exact(rows).map(|p| Fold { train: side(p, 0), test: side(p, 1) }).collect())
}
