//! The one result that all outputs come from, put together.

use super::{Approach, CompareOptions, PARTS};
use crate::cohort::{Cohort, Stage};
use crate::embed::Network;
use crate::evaluate::{Comparison, MethodScore, NetworkUsed, PartCount};
use crate::image::recipe::Recipe;
use crate::study::Study;
use crate::transfer::Predictions;
use std::collections::BTreeMap;

#[allow(clippy::too_many_arguments, reason = "collects the parts of one result")]
pub(super) fn describe(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    approaches: &[Approach],
    options: &CompareOptions,
    methods: Vec<MethodScore>,
    labels: Vec<String>,
    parts: Vec<PartCount>,
    warnings: Vec<String>,
) -> Comparison {
    let (mut rejects, refused_rows) = refused(cohort);
    let all = study.cohort().map_or(0, |c| c.images.len());
    if all > cohort.images.len() {
        rejects.push(("images of the cohort that could not be embedded".to_owned(), all - cohort.images.len()));
    }
    rejects.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let recipe: Recipe = study.settings.recipe.clone();
    let manifest = study.manifest();
    Comparison {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: study.root.file_name().map_or_else(|| "study".to_owned(), |n| n.to_string_lossy().into_owned()),
        labels,
        images: cohort.images.len(),
        patients: cohort.patients(),
        rejects,
        refused_rows,
        warnings: warnings.iter().map(|w| unnamed(w, cohort)).collect(),
        unit: match study.settings.split.unit {
            crate::cohort::Unit::Patient => "patient".to_owned(),
            crate::cohort::Unit::Image => "image".to_owned(),
        },
        seed: study.settings.split.seed,
        parts,
        recipe: recipe.describe(),
        recipe_hash: recipe.hash(),
        networks: networks
            .iter()
            .map(|n| NetworkUsed {
                name: n.name.clone(),
                architecture: n.record.architecture.clone(),
                width: n
                    .record
                    .architecture
                    .parse()
                    .map_or(0, |a: chestnut_zoo::Architecture| a.graph(&n.record.head).embedding_width()),
                weights: n.record.weights_sha256.clone(),
                licence: n.record.licence.clone(),
            })
            .collect(),
        settings: approaches.iter().flat_map(|a| options.described(a, networks)).collect(),
        methods,
        as_published: false,
        marks: Vec::new(),
        details: Vec::new(),
        differences: Vec::new(),
        subgroups: Vec::new(),
        learning: Vec::new(),
        timings: Vec::new(),
        seconds: manifest.stages.iter().map(|(k, v)| (k.clone(), v.seconds)).collect(),
    }
}

/// Files that were refused, by kind: single reasons name files and cells, which have no place in a report. And the number
/// of refused rows, which must not be added to them: the file that a refused row names is refused as well.
fn refused(cohort: &Cohort) -> (Vec<(String, usize)>, usize) {
    let mut files: BTreeMap<Stage, usize> = BTreeMap::new();
    cohort.rejects.iter().for_each(|r| *files.entry(r.stage).or_default() += 1);
    let rows = files.remove(&Stage::Row).unwrap_or(0);
    (files.into_iter().map(|(stage, n)| (stage.describe().to_owned(), n)).collect(), rows)
}

/// A warning up to the first image that it names: names have no place in a report.
fn unnamed(warning: &str, cohort: &Cohort) -> String {
    let images = cohort.images.iter().flat_map(|i| [i.id.as_str(), i.patient.as_str()]);
    let names = images.chain(cohort.rejects.iter().map(|r| r.item.as_str())).filter(|name| name.len() > 3);
    match names.filter_map(|name| warning.find(name)).min() {
        None => warning.to_owned(),
        Some(at) => {
            let said = warning[..at].trim_end_matches([' ', ':', '(', ',']);
            if said.is_empty() {
                "A warning about single images: see warnings.txt in the study.".to_owned()
            } else {
                format!("{said}; warnings.txt in the study names them")
            }
        }
    }
}

/// `image,patient,part,approach,source,label,truth,probability`, one row per prediction.
pub(super) fn predictions_csv(
    cohort: &Cohort,
    test: &[usize],
    labels: &[String],
    methods: &[&Predictions],
    truth: &[Option<bool>],
) -> String {
    let header = ["image", "patient", "part", "approach", "source", "label", "truth", "probability"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for m in methods {
        for (row, &i) in test.iter().enumerate() {
            let image = &cohort.images[i];
            for (k, label) in labels.iter().enumerate() {
                let at = row * labels.len() + k;
                rows.push(vec![
                    image.id.clone(),
                    image.patient.clone(),
                    PARTS[2].to_owned(),
                    m.approach.clone(),
                    m.source.clone(),
                    label.clone(),
                    truth[at].map_or("", |t| if t { "1" } else { "0" }).to_owned(),
                    format!("{:.6}", m.probabilities[at]),
                ]);
            }
        }
    }
    crate::cohort::table::to_csv(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::Reject;

    #[test]
    fn a_bad_row_and_its_file_are_one_file_and_one_row() {
        let reject = |item: &str, stage| Reject { item: item.to_owned(), row: None, stage, reason: String::new() };
        let rejects = vec![
            reject("a.png", Stage::Row),
            reject("a.png", Stage::Labels),
            reject("gone.png", Stage::Row),
            reject("b.png", Stage::Read),
            reject("c.png", Stage::Read),
        ];
        let (files, rows) = refused(&Cohort { rejects, ..Cohort::default() });
        let counts: Vec<usize> = files.iter().map(|(_, n)| *n).collect();
        assert_eq!((counts, rows), (vec![1, 2], 2), "{files:?}");
        assert!(files.iter().all(|(kind, _)| !kind.contains("rows of the table")), "{files:?}");
    }
}
