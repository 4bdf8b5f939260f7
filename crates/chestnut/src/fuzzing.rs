//! Entrances for the fuzz targets in `fuzz/`: readers that have no public function of their own.
//!
//! No part of the interface: this module may change or vanish at any time.

use crate::cohort::Cohort;
use crate::evaluate::calibrate::Method;
use crate::predict::index::ModelIndex;
use chestnut_forest::{Grid, rank};
use std::path::Path;

/// Most members of an archive that are read.
const MAX_READ: usize = 64;

/// Lists the archive (or folder) at `path` and reads its first members; gives how many could be read.
#[must_use]
pub fn archive(path: &Path) -> usize {
    let Ok(listing) = crate::cohort::source::list(path, Path::new("labels.csv")) else { return 0 };
    listing.sources.iter().take(MAX_READ).filter(|source| source.read().is_ok()).count()
}

/// Reads the shard of embeddings at `path`; gives the number of its images if it can be read.
#[must_use]
pub fn shard(path: &Path) -> Option<usize> {
    crate::embed::images_in_shard(path)
}

/// Reads `models/index.json` and asks every calibration for a probability; gives the number of approaches.
#[must_use]
pub fn model_index(bytes: &[u8]) -> Option<usize> {
    let index = ModelIndex::from_bytes(bytes).ok()?;
    for calibration in index.approaches.iter().flat_map(|a| &a.calibrations) {
        for method in Method::ALL {
            for score in [0.0, 0.5, 1.0] {
                let _ = calibration.apply(method, score);
            }
        }
    }
    index.approach(None).ok().map(|_| index.approaches.len())
}

/// Reads `models/tuned.json`; gives the number of settings.
#[must_use]
pub fn tuned(text: &str) -> Option<usize> {
    crate::tune::settings_of(text).ok().map(|settings| settings.len())
}

/// Reads a stored piece of a grid search (two settings, two labels) and ranks it as two folds.
#[must_use]
pub fn search_scores(text: &str) -> Option<usize> {
    const GRID: &str = "learner = \"random-forest\"\ntrees = [3, 9]\nmax_depth = [2]\nmin_samples_split = [2]\n\
                        min_samples_leaf = [1]\ncriterion = [\"gini\"]\nmax_features = [\"sqrt\"]\nbootstrap = [false]\n";
    let scores = crate::tune::scores_of(text, 2, 2)?;
    let grid = Grid::from_toml(GRID).ok()?;
    Some(rank(&grid, 0, &[vec![scores.clone(), scores]]).len())
}

/// Reads a record of `finetune` beside a cohort of two images, `a.png` and `b.png`, and two labels.
#[must_use]
pub fn finetuned(text: &str) -> Option<usize> {
    const COHORT: &str = "image,row,patient,view,age_years,sex,manufacturer,width,height,bits,format,sha256,PNX,Lung\n\
                          a.png,2,p,,,,,50,40,8,PNG,0,1,0\nb.png,3,q,,,,,50,40,8,PNG,0,0,1\n";
    let cohort = Cohort::from_csv(COHORT, "item,row,stage,reason\n").ok()?;
    let record = crate::transfer::deep::parse_record(text).ok()?;
    crate::transfer::deep::rows_of(record, &cohort, 2).ok().map(|rows| rows.len())
}

/// Reads a cache of pretrain with two squares of 8 pixels a side; gives the number of its images.
#[must_use]
pub fn squares(path: &Path) -> Option<usize> {
    crate::pretrain::cache::squares_in(path, 2, 8)
}

/// Reads pretrain's places of four windows, whose key is 64 zeros.
#[must_use]
pub fn windows(path: &Path) -> Option<usize> {
    crate::pretrain::crop::read_offsets(path, &"0".repeat(64), 4, 32).ok().flatten().map(|all| all.len())
}

/// Reads a checkpoint of pretrain, of any settings; whether it is one.
#[must_use]
pub fn checkpoint(path: &Path) -> bool {
    crate::pretrain::is_checkpoint(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seeds of `fuzz/make_corpus.py`: a target that refuses every input at its door finds nothing.
    #[test]
    fn good_input_goes_all_the_way() {
        assert_eq!(search_scores("[[0.5,null],[1.0,0.25]]"), Some(2));
        let params = r#"{"learner":"random-forest","trees":3,"max_depth":2,"min_samples_split":2,"min_samples_leaf":1,
            "max_features":"sqrt","criterion":"gini","bootstrap":false,"class_weight":"none","seed":0}"#;
        let best = format!(r#"{{"params":{params},"mean":0.5,"sd":0.1,"labels":[0.5,null],"not_estimable":0}}"#);
        let text = format!(r#"[{{"network":"n","best":{best},"settings":1,"training":"0"}}]"#);
        assert_eq!(tuned(&text), Some(1));
        let options = r#"{"depth":"block","epochs":2,"batch":16,"rate":0.0001,"cosine":true,"patience":5,
            "weight_decay":0.0,"norms":false,"folds":true}"#;
        let fits = r#"[{"start_auc":0.5,"epochs":[{"loss":0.1,"validation_auc":null}],"best":0}]"#;
        let text = format!(
            r#"{{"version":"0.1.0","network":"n","options":{options},"key":"k","labels":["PNX","Lung"],"fits":{fits},
            "predictions":{{"a.png":[0.5,0.25]}}}}"#
        );
        assert_eq!(finetuned(&text), Some(1));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("kept.bin");
        std::fs::write(&path, [&b"0".repeat(64)[..], &[4_u8, 0, 8, 0].repeat(4)[..]].concat()).expect("written");
        assert_eq!(windows(&path), Some(4));
        let head =
            [&b"chestnut squares"[..], &[2, 0, 0, 0], &[8, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0], &[7; 32]].concat();
        std::fs::write(&path, [head, vec![1; 2 * 49 + 2 * 64]].concat()).expect("written");
        assert_eq!((squares(&path), windows(&path)), (Some(2), None));
        assert!(!checkpoint(&path) && model_index(b"{}").is_none());
    }
}
