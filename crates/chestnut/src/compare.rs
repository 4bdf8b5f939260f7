//! `chestnut compare`: all approaches on one split, scored on the same test patients.

use crate::cohort::{Cohort, Part, Split, SplitPlan, split};
use crate::embed::{self, EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::evaluate::{self, Comparison, MethodScore, NetworkUsed, PartCount, score_method};
use crate::image::recipe::Recipe;
use crate::study::{StageRecord, Study};
use crate::transfer::ensemble::Ensemble;
use crate::transfer::{Predictions, embeddings};
use chestnut_forest::{Labels, Params};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Name of the part that is learned from, and of the one that is tested on.
pub const PARTS: [&str; 2] = ["train", "test"];
/// Most repeated splits.
pub const MAX_REPEATS: usize = 1_000;

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Number of splits; tables show the first, and the spread over all.
    pub repeats: usize,
    /// Also show Eq. 2 without its denominator.
    pub literal_entropy: bool,
    /// Learners on embeddings.
    pub learners: Vec<Params>,
}

impl CompareOptions {
    /// The paper's final random forest, one split.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { repeats: 1, literal_entropy: false, learners: vec![Params::random_forest(seed)] }
    }
}

/// Runs the comparison and writes split.csv and predictions.csv; the report is the caller's next step.
///
/// `progress` is called with (done, total) fitted models.
///
/// # Errors
/// If embeddings are missing or stale, or the cohort cannot be split.
pub fn compare(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    options: &CompareOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Comparison> {
    if networks.is_empty() || options.repeats == 0 || options.repeats > MAX_REPEATS {
        let problem = format!("a comparison needs at least one network and 1 to {MAX_REPEATS} repeats");
        return Err(Error::Request(problem));
    }
    let start = Instant::now();
    let tables: Vec<EmbeddingTable> = networks.iter().map(|n| embed::load(study, cohort, n)).collect::<Result<_>>()?;
    let values: Vec<Option<bool>> = cohort.images.iter().flat_map(|i| i.labels.iter().map(|l| l.known())).collect();
    let n_labels = cohort.label_names.len();
    let mut settings = study.settings.split.clone();
    settings.seed = study.settings.split.seed;
    let parts = [
        Part { name: PARTS[0].into(), fraction: 1.0 - settings.test },
        Part { name: PARTS[1].into(), fraction: settings.test },
    ];
    let plan = SplitPlan { parts: parts.to_vec(), unit: settings.unit, seed: settings.seed, repeat: 0 };
    let total = options.repeats * networks.len() * options.learners.len();

    let (mut done, mut first, mut all, mut notes) = (0, None, BTreeMap::new(), BTreeSet::new());
    progress(0, total);
    for repeat in 0..options.repeats {
        let drawn: Split = split(&cohort.items(), &plan.repeated(repeat as u64))?;
        let indices = drawn.indices(cohort)?;
        let [train, test] = &indices[..] else { return Err(Error::Request("a split has two parts".into())) };
        // A label without any known value in the training part cannot be learned; the others can.
        let learnable: Vec<usize> =
            (0..n_labels).filter(|k| train.iter().any(|i| values[i * n_labels + k].is_some())).collect();
        if learnable.is_empty() {
            return Err(Error::Request(
                "no label has a known value in the training part; see the blank policy in study.toml".into(),
            ));
        }
        for k in (0..n_labels).filter(|k| !learnable.contains(k)) {
            notes.insert(format!("{} has no known value in the training part and is left out", cohort.label_names[k]));
        }
        let names: Vec<String> = learnable.iter().map(|&k| cohort.label_names[k].clone()).collect();
        let used: Vec<Option<bool>> = (0..cohort.images.len())
            .flat_map(|i| learnable.iter().map(move |&k| (i, k)))
            .map(|(i, k)| values[i * n_labels + k])
            .collect();
        let labels = Labels::new(&used, names.len())?;
        let truth: Vec<Option<bool>> =
            test.iter().flat_map(|&i| used[i * names.len()..][..names.len()].to_vec()).collect();
        let mut methods: Vec<Predictions> = Vec::new();
        for params in &options.learners {
            let mut members = Vec::new();
            for (network, table) in networks.iter().zip(&tables) {
                let (_, predictions) = embeddings::fit_and_predict(&network.name, table, &labels, train, test, params)?;
                members.push(predictions);
                done += 1;
                progress(done, total);
            }
            let ensembles = [
                Some(Ensemble::Average),
                Some(Ensemble::Entropy),
                options.literal_entropy.then_some(Ensemble::EntropyLiteral),
            ];
            let combined: Vec<_> = if members.len() > 1 {
                ensembles.into_iter().flatten().map(|e| e.combine(&members)).collect()
            } else {
                Vec::new()
            };
            methods.extend(members);
            methods.extend(combined);
        }
        let scores: Vec<MethodScore> =
            methods.iter().map(|m| score_method(&m.approach, &m.source, &names, &m.probabilities, &truth)).collect();
        for score in &scores {
            all.entry((score.approach.clone(), score.source.clone())).or_insert_with(Vec::new).push(score.clone());
        }
        if repeat == 0 {
            study.write("split.csv", drawn.to_csv().as_bytes())?;
            study.write("predictions.csv", predictions_csv(cohort, test, &names, &methods, &truth).as_bytes())?;
            let count = |part: usize| PartCount {
                part: PARTS[part].to_owned(),
                images: indices[part].len(),
                patients: indices[part]
                    .iter()
                    .map(|&i| cohort.images[i].patient.as_str())
                    .collect::<BTreeSet<_>>()
                    .len(),
            };
            first = Some((scores, names, vec![count(0), count(1)]));
        }
    }
    let Some((mut methods, labels, parts)) = first else { return Err(Error::Request("nothing was compared".into())) };
    for method in &mut methods {
        let key = (method.approach.clone(), method.source.clone());
        method.spread = all.get(&key).and_then(|repeats| evaluate::spread(repeats));
    }
    let seconds = start.elapsed().as_secs_f64();
    let facts = [
        ("networks", networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(",")),
        ("repeats", options.repeats.to_string()),
        ("seed", settings.seed.to_string()),
    ];
    let facts = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    study.record("compare", StageRecord { seconds, facts })?;
    let warnings = cohort.warnings.iter().cloned().chain(notes).collect();
    Ok(describe(study, cohort, networks, options, methods, labels, parts, warnings))
}

#[allow(clippy::too_many_arguments, reason = "collects the parts of one result")]
fn describe(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    options: &CompareOptions,
    methods: Vec<MethodScore>,
    labels: Vec<String>,
    parts: Vec<PartCount>,
    warnings: Vec<String>,
) -> Comparison {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    cohort.rejects.iter().for_each(|r| *reasons.entry(r.reason.as_str()).or_default() += 1);
    let mut rejects: Vec<(String, usize)> = reasons.into_iter().map(|(r, n)| (r.to_owned(), n)).collect();
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
        warnings,
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
        settings: options.learners.iter().map(ToString::to_string).collect(),
        methods,
        seconds: manifest.stages.iter().map(|(k, v)| (k.clone(), v.seconds)).collect(),
    }
}

/// `image,patient,part,approach,source,label,truth,probability`, one row per prediction.
fn predictions_csv(
    cohort: &Cohort,
    test: &[usize],
    labels: &[String],
    methods: &[Predictions],
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
                    PARTS[1].to_owned(),
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
