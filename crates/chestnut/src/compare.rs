//! `chestnut compare`: all approaches on one split, scored on the same test patients.

use crate::cohort::split::Item;
use crate::cohort::{Cohort, Part, Split, SplitPlan, Stage, Unit, folds, split};
use crate::embed::{self, EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::evaluate::{self, Comparison, MethodScore, NetworkUsed, PartCount, score_method};
use crate::image::recipe::Recipe;
use crate::study::{SplitSettings, StageRecord, Study};
use crate::transfer::Predictions;
use crate::transfer::embeddings::{self, Learner};
use crate::transfer::ensemble::Ensemble;
use crate::tune::{TunedSettings, training_hash};
use chestnut_forest::{Fold, Labels, Params};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Name of the part that is learned from, and of the one that is tested on.
pub const PARTS: [&str; 2] = ["train", "test"];
/// Folds of the training part on which a learner chooses its regularisation.
const INNER_FOLDS: usize = 5;
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
    pub learners: Vec<Learner>,
    /// Settings that replace a learner's for a network, as `tune` chose them on the first split's training patients.
    pub tuned: Option<TunedSettings>,
}

impl CompareOptions {
    /// The paper's final random forest, one split.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            repeats: 1,
            literal_entropy: false,
            learners: vec![Learner::Trees(Params::random_forest(seed))],
            tuned: None,
        }
    }
}

impl CompareOptions {
    /// The settings of a learner for one network.
    fn learner(&self, network: &Network, learner: &Learner, training: &str) -> Result<Learner> {
        let (Some(tuned), Learner::Trees(params)) = (&self.tuned, learner) else { return Ok(learner.clone()) };
        let (name, short) = (&network.name, learner.short());
        match tuned.get(&(name.clone(), params.learner)) {
            Some((params, on)) if on == training => Ok(Learner::Trees(params.clone())),
            Some(_) => Err(Error::Request(format!(
                "{short} for {name} was tuned on other training patients (cohort, seed or split have changed since); run `chestnut tune` again"
            ))),
            None => Err(Error::Request(format!("{short} was not tuned for {name}; run `chestnut tune` for it"))),
        }
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
    if options.tuned.is_some() && options.repeats > 1 {
        let problem = "tuned settings were chosen on the first split's training patients, who are test patients in other \
                       splits; compare with --tuned or with --repeats, not both";
        return Err(Error::Request(problem.to_owned()));
    }
    let start = Instant::now();
    let (cohort, tables) = &common(study, cohort, networks)?;
    let settings = &study.settings.split;
    let plan = plan(settings);
    let total = options.repeats * networks.len() * options.learners.len();

    let (mut done, mut first, mut all, mut notes) = (0, None, BTreeMap::new(), BTreeSet::new());
    progress(0, total);
    for repeat in 0..options.repeats {
        let drawn: Split = split(&cohort.items(), &plan.repeated(repeat as u64))?;
        let indices = drawn.indices(cohort)?;
        let [train, test] = &indices[..] else { return Err(Error::Request("a split has two parts".into())) };
        let (names, labels) = label_table(cohort, train)?;
        for label in cohort.label_names.iter().filter(|l| !names.contains(l)) {
            notes.insert(format!("{label} has no known value in the training part and is left out"));
        }
        let truth: Vec<Option<bool>> =
            test.iter().flat_map(|&i| (0..names.len()).map(move |k| (i, k))).map(|(i, k)| labels.get(i, k)).collect();
        let untrained: Vec<Option<String>> = (0..names.len())
            .map(|k| {
                let has = |class| train.iter().any(|&i| labels.get(i, k) == Some(class));
                let missing = if !has(true) { "positive" } else { "negative" };
                let reason = || format!("not estimable: no {missing} image in the training part");
                (!(has(true) && has(false))).then(reason)
            })
            .collect();
        let training = training_hash(cohort, train);
        let mut methods: Vec<Predictions> = Vec::new();
        let folds = if options.learners.contains(&Learner::Linear) {
            let all = cohort.items();
            let items: Vec<Item> = train.iter().map(|&i| all[i]).collect();
            let patients = items.iter().map(|i| i.patient).collect::<BTreeSet<_>>().len();
            folds_of(&items, INNER_FOLDS.min(patients), 1, settings.unit, settings.seed)?
        } else {
            Vec::new()
        };
        for learner in &options.learners {
            let mut members = Vec::new();
            for (network, table) in networks.iter().zip(tables) {
                let learner = options.learner(network, learner, &training)?;
                let rows = (&train[..], &test[..]);
                let predictions = embeddings::fit_and_predict(&network.name, table, &labels, rows, &folds, &learner)?;
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
        let scores: Vec<MethodScore> = methods
            .iter()
            .map(|m| score_method(&m.approach, &m.source, &names, &m.probabilities, &truth, &untrained))
            .collect();
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

/// The images that every network has embedded, and their embeddings; the others are named in the cohort's warnings.
pub(crate) fn common(study: &Study, cohort: &Cohort, networks: &[Network]) -> Result<(Cohort, Vec<EmbeddingTable>)> {
    let tables: Vec<EmbeddingTable> = networks.iter().map(|n| embed::load(study, cohort, n)).collect::<Result<_>>()?;
    if tables.iter().all(|t| t.ids.len() == cohort.images.len()) {
        return Ok((cohort.clone(), tables));
    }
    let have: Vec<BTreeSet<&str>> = tables.iter().map(|t| t.ids.iter().map(String::as_str).collect()).collect();
    let (kept, missing): (Vec<_>, Vec<_>) =
        cohort.images.iter().cloned().partition(|i| have.iter().all(|ids| ids.contains(i.id.as_str())));
    let mut cohort = Cohort { images: kept, ..cohort.clone() };
    cohort.warnings.push(format!(
        "{} images could not be embedded and are left out; `chestnut embed {}` names them",
        missing.len(),
        study.root.display()
    ));
    let ids: Vec<&str> = cohort.images.iter().map(|i| i.id.as_str()).collect();
    let tables = tables.into_iter().map(|t| t.select(&ids)).collect();
    Ok((cohort, tables))
}

/// Cross-validation folds of some images, rows counted within `items`.
pub(crate) fn folds_of(items: &[Item], k: usize, repeats: usize, unit: Unit, seed: u64) -> Result<Vec<Fold>> {
    let assigned = folds(items, k, repeats, unit, seed)?;
    let fold = |of: &Vec<usize>, f: usize| {
        let (test, train) = (0..items.len()).partition(|&i| of[i] == f);
        Fold { train, test }
    };
    Ok(assigned.iter().flat_map(|of| (0..k).map(move |f| fold(of, f))).collect())
}

/// The split that a study's settings ask for, first repeat.
pub(crate) fn plan(settings: &SplitSettings) -> SplitPlan {
    let part = |name: &str, fraction| Part { name: name.to_owned(), fraction };
    let parts = vec![part(PARTS[0], 1.0 - settings.test), part(PARTS[1], settings.test)];
    SplitPlan { parts, unit: settings.unit, seed: settings.seed, repeat: 0 }
}

/// Names and values of the labels that can be learned from the rows `train`; values cover the whole cohort. A label
/// without any known value there is left out.
///
/// # Errors
/// If that leaves no label.
pub(crate) fn label_table(cohort: &Cohort, train: &[usize]) -> Result<(Vec<String>, Labels)> {
    let known = |i: usize, k: usize| cohort.images[i].labels[k].known();
    let learnable: Vec<usize> =
        (0..cohort.label_names.len()).filter(|&k| train.iter().any(|&i| known(i, k).is_some())).collect();
    if learnable.is_empty() {
        let problem = "no label has a known value in the training part; fill in labels or change the label set's blank policy, and run ingest again".to_owned();
        return Err(Error::Request(problem));
    }
    let values: Vec<Option<bool>> =
        (0..cohort.images.len()).flat_map(|i| learnable.iter().map(move |&k| known(i, k))).collect();
    let names: Vec<String> = learnable.iter().map(|&k| cohort.label_names[k].clone()).collect();
    let labels = Labels::new(&values, names.len())?;
    Ok((names, labels))
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
    // Counted by kind: single reasons name files and cells, which have no place in a report.
    let mut reasons: BTreeMap<Stage, usize> = BTreeMap::new();
    cohort.rejects.iter().for_each(|r| *reasons.entry(r.stage).or_default() += 1);
    let mut rejects: Vec<(String, usize)> = reasons.into_iter().map(|(s, n)| (s.describe().to_owned(), n)).collect();
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
        settings: match &options.tuned {
            None => options.learners.iter().map(ToString::to_string).collect(),
            Some(tuned) => tuned.iter().map(|((network, _), (p, _))| format!("{network}, tuned: {p}")).collect(),
        },
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
