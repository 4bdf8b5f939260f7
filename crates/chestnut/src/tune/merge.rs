//! Searches add up: what earlier ones chose stays beside what the last one did, as long as it still fits the study.

use super::{Tuned, TunedSettings, files_of, tuned};
use crate::error::{Error, Result};
use crate::study::Study;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Beginning of the file names of tables and pictures.
pub(super) const PREFIX: &str = "tune_";

/// What `found` chose, and what earlier searches chose for other networks and learners on the same images. Of networks
/// that `found` looked at, embeddings and labels must be the same, too; what became of the others' `compare` finds out.
pub(super) fn with_earlier(study: &Study, found: &[Tuned]) -> TunedSettings {
    let fits = |old: &Tuned| {
        let mut anew = found.iter().filter(|new| new.network == old.network);
        !old.inputs.is_empty()
            && anew.all(|new| new.inputs == old.inputs)
            && found.iter().all(|new| new.training == old.training)
    };
    // A file that cannot be read has chosen nothing.
    let mut all = tuned(study).unwrap_or_default();
    all.retain(|_, old| fits(old));
    all.extend(found.iter().map(|new| ((new.network.clone(), new.best.params.learner), new.clone())));
    all
}

/// Removes tables and pictures of searches that are not among `all`: they would stand beside settings that nobody uses.
///
/// # Errors
/// Any I/O error, naming the file.
pub(super) fn remove_others(study: &Study, all: &TunedSettings) -> Result<()> {
    let names = all.keys().flat_map(|(network, learner)| files_of(network, *learner));
    let kept: BTreeSet<PathBuf> = names.map(|name| study.path(&name)).collect();
    for folder in ["tables", "figures"] {
        let entries = std::fs::read_dir(study.path(folder)).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
            if ours && path.is_file() && !kept.contains(&path) {
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::TUNED;
    use chestnut_forest::{GridRow, Learner, Params};

    fn chosen(network: &str, params: &Params, training: &str, inputs: &str) -> Tuned {
        let best = GridRow { params: params.clone(), mean: 0.5, sd: 0.0, labels: Vec::new(), not_estimable: 0 };
        let [network, training, inputs] = [network, training, inputs].map(str::to_owned);
        Tuned { network, best, settings: 1, training, inputs }
    }

    #[test]
    fn what_still_fits_stays_and_the_rest_goes_with_its_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let study = crate::study::bare(folder.path());
        let (rf, xrt) = (Params::random_forest(0), Params::extra_trees(0));
        let earlier = [
            chosen("a", &rf, "images", "values of a"),
            chosen("a", &xrt, "images", "older values of a"),
            chosen("seeded:b", &rf, "images", "values of b"),
            chosen("c", &rf, "other images", "values of c"),
            chosen("d", &rf, "images", ""),
        ];
        for old in &earlier {
            for name in files_of(&old.network, old.best.params.learner) {
                study.write(&name, b"-").expect("written");
            }
        }
        study.write("tables/auc.csv", b"-").expect("written");
        study.write(TUNED, &serde_json::to_vec(&earlier).expect("plain values")).expect("written");

        let found = [chosen("a", &Params { max_depth: 3, ..rf.clone() }, "images", "values of a")];
        let all = with_earlier(&study, &found);
        let keys: Vec<(&str, &str)> = all.keys().map(|(network, of)| (network.as_str(), of.short())).collect();
        assert_eq!(keys, [("a", "RF"), ("seeded:b", "RF")]);
        assert_eq!(all[&("a".to_owned(), Learner::RandomForest)], found[0], "the last search counts");

        remove_others(&study, &all).expect("removed");
        let there = |name: &&str| study.path(name).is_file();
        let kept = ["tables/tune_a_RF.csv", "figures/tune_a_RF.svg", "tables/tune_seeded-b_RF.csv", "tables/auc.csv"];
        assert!(kept.iter().all(there));
        let gone = ["tables/tune_a_XRT.csv", "figures/tune_a_XRT.svg", "tables/tune_c_RF.csv", "figures/tune_d_RF.svg"];
        assert!(!gone.iter().any(there));

        study.write(TUNED, b"[{").expect("written");
        assert_eq!(with_earlier(&study, &found).len(), 1);
    }
}
