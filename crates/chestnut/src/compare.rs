//! `chestnut compare`: all approaches on one split, scored on the same test patients.

mod approaches;
mod beyond;
mod checks;
pub(crate) mod concat;
mod describe;
mod first;
mod models;
mod outputs;
mod published;
#[cfg(test)]
mod tests;

pub use approaches::Approach;
pub use published::{FOLDER as PUBLISHED_FOLDER, PublishedTable, as_published};

pub(crate) use approaches::{Rows, patient_folds};
pub(crate) use checks::{not_named_as_rows, not_taught_here, untrained};

use approaches::{FOLDS, Material};
use beyond::beyond;
use checks::Reasons;
use describe::describe;
use first::First;
use outputs::{possible, source_map};

use crate::cohort::split::Item;
use crate::cohort::{Cohort, LabelMap, Part, Split, SplitPlan, Unit, folds, split};
use crate::embed::{self, EmbeddingTable, Network, differences_of};
use crate::error::{Error, Result};
use crate::evaluate::table::SPLIT_BY_IMAGE;
use crate::evaluate::{self, Comparison, MethodScore, PartCount, score_method};
use crate::study::{SplitSettings, StageRecord, Study};
use crate::transfer::embeddings::Learner;
use crate::transfer::source::SourceMap;
use crate::transfer::{Predictions, deep};
use crate::tune::{TunedSettings, training_hash};
use chestnut_forest::{Fold, Labels, Params};
use chestnut_train::{Depth, Schedule};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Names of the parts: learned from, used to stop and to choose, tested on.
pub const PARTS: [&str; 3] = ["train", "validation", "test"];
/// Most repeated splits.
pub const MAX_REPEATS: usize = 1_000;

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Number of splits; tables show the first, and the spread over all.
    pub repeats: usize,
    /// Also show Eq. 2 without its denominator.
    pub literal_entropy: bool,
    /// Also show the majority vote of the networks.
    pub majority_vote: bool,
    /// Baseline: map each network's outputs to the local labels first and combine them then; the authors' code combines
    /// first.
    pub map_first: bool,
    /// What is compared, in the order of the tables. The baseline and stacking are left out, with a warning, where the
    /// networks have no outputs that the hospital's labels could come from.
    pub approaches: Vec<Approach>,
    /// Map from the networks' labels to the local ones.
    pub label_map: LabelMap,
    /// Draws of each size of the learning curve; 0 for none.
    pub learning_draws: usize,
    /// Whether thresholds, calibration and differences are worked out, which takes five more fits of everything.
    pub details: bool,
    /// Settings that replace a learner's for a network, as `tune` chose them on the first split's training patients;
    /// refused if it chose them on others, or on other embeddings or labels.
    pub tuned: Option<TunedSettings>,
    /// Whether the first split's models are kept for `predict`, which takes one more fit of everything.
    pub models: bool,
    /// Also fit each learner on all networks' embeddings side by side.
    pub concat: bool,
    /// What the caller left out and why, one sentence each ([`deep::depths`]); they stand among the warnings.
    pub left_out: Vec<String>,
}

impl CompareOptions {
    /// All four approaches, trees being the paper's final random forest; one split.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            repeats: 1,
            literal_entropy: false,
            majority_vote: false,
            map_first: false,
            approaches: vec![
                Approach::Baseline,
                Approach::Stacking,
                Approach::Embeddings(Learner::Trees(Params::random_forest(seed))),
                Approach::FineTuned(Schedule::fair()),
            ],
            label_map: LabelMap::chexpert_to_hum_cxr(),
            learning_draws: 0,
            details: true,
            tuned: None,
            models: true,
            concat: false,
            left_out: Vec::new(),
        }
    }
}

impl CompareOptions {
    /// The settings of a learner for one network, or for all of them concatenated. Whether tuned ones fit what they are
    /// used on is for [`checks::tuned`].
    fn learner(&self, name: &str, learner: &Learner) -> Result<Learner> {
        let (Some(tuned), Learner::Trees(params)) = (&self.tuned, learner) else { return Ok(learner.clone()) };
        match tuned.get(&(name.to_owned(), params.learner)) {
            Some(found) => Ok(Learner::Trees(found.best.params.clone())),
            None => Err(Error::Request(format!("{} was not tuned for {name}", learner.short()))),
        }
    }
}

impl CompareOptions {
    /// Settings of an approach as it ran, one line per network where it was tuned.
    fn described(&self, approach: &Approach, networks: &[Network]) -> Vec<String> {
        let (Some(tuned), Approach::Embeddings(Learner::Trees(p))) = (&self.tuned, approach) else {
            return vec![approach.describe()];
        };
        let names = networks.iter().map(|n| n.name.as_str()).chain(self.concat.then_some(concat::CONCATENATED));
        let line = |n: &str| Some(format!("{n}, tuned: {}", tuned.get(&(n.to_owned(), p.learner))?.best.params));
        names.filter_map(line).collect()
    }
}

/// Runs the comparison. Then, and not before, removes the results of an earlier one and writes models, split.csv and
/// predictions.csv; the report is the caller's next step.
///
/// `progress` is called with (done, total) fitted models.
///
/// # Errors
/// If embeddings are missing or stale, a network was taught on the study, or the cohort cannot be split.
pub fn compare(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    options: &CompareOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Comparison> {
    checks::options(networks, options)?;
    let depths: Vec<Depth> = options
        .approaches
        .iter()
        .filter_map(|a| if let Approach::DeepTuned(depth) = a { Some(*depth) } else { None })
        .collect();
    let start = Instant::now();
    let (cohort, tables) = &common(study, cohort, networks)?;
    not_taught_here(networks, cohort)?;
    let settings = &study.settings.split;
    let mut notes: BTreeSet<String> = options.left_out.iter().cloned().collect();
    if options.concat && networks.len() < 2 {
        notes.insert("nothing was concatenated (--concat): there is one network only".to_owned());
    }
    if options.tuned.is_some() && options.learning_draws > 0 {
        notes.insert(
            "the learning curve (--learning-curve) uses the settings that tune chose with all training patients (--tuned): \
             with few patients one could not have chosen them, so its left end may be too high"
                .to_owned(),
        );
    }
    notes.extend(embedding_notes(study, networks));
    let approaches = possible(networks, tables, cohort, options, &mut notes);
    if approaches.is_empty() {
        return Err(Error::Request("nothing to compare: name at least one approach that these networks allow".into()));
    }
    let total = approaches.len() * (options.repeats + if options.details { FOLDS } else { 0 });
    let mut done = 0;
    let mut advance = |models: usize| {
        done += models;
        progress(done, total);
    };
    advance(0);

    let (mut first, mut all) = (None, BTreeMap::new());
    for repeat in 0..options.repeats {
        let parts = parts(cohort, settings, repeat)?;
        let rows = Rows { train: parts.train, validation: parts.validation, predict: parts.test };
        let development = rows.development();
        let (names, labels) = label_table(cohort, &development)?;
        for label in cohort.label_names.iter().filter(|l| !names.contains(l)) {
            notes.insert(format!("{label} has no known value in the training part and is left out"));
        }
        let source = source_map(networks, tables, &names, options);
        let (items, training) = (cohort.items(), training_hash(cohort, &development));
        checks::tuned(&study.root, networks, tables, options, &labels, (&development, &training))?;
        let three = [&rows.train[..], &rows.validation[..], &rows.predict[..]];
        let deep = deep::load(study, networks, &depths, cohort, three, (&names, &labels))?;
        let plain = Material::new(networks, tables, &items, &labels, source.as_ref(), settings, options);
        let material = Material { deep: &deep, ..plain };
        let (truth, patients) = (truth(&labels, &rows.predict), cohort.patients_of(&rows.predict));
        let why = Reasons {
            unknown: source.as_ref().map_or_else(Vec::new, SourceMap::unknown),
            learnable: untrained(&labels, &development),
            trainable: untrained(&labels, &rows.train),
        };
        let reasons = |approach: &Approach| why.of(approach);
        let details = repeat == 0 && options.details;
        let fit = |approach| fitted(&material, approach, &rows, details, &mut advance);
        let results: Vec<Fitted> = approaches.iter().map(fit).collect::<Result<_>>()?;
        let scores: Vec<MethodScore> = results
            .iter()
            .flat_map(|r| r.test.iter().map(|m| (m, reasons(&r.approach))))
            .map(|(m, why)| score_method(&m.approach, &m.source, &names, &m.probabilities, &truth, &patients, why))
            .collect();
        for score in &scores {
            all.entry((score.approach.clone(), score.source.clone())).or_insert_with(Vec::new).push(score.clone());
        }
        if repeat == 0 {
            let more = beyond(&material, cohort, &names, &rows, &results, &reasons, settings.seed)?;
            let (models, said) = models::keep(study, &material, &names, &rows, &results, &more.calibrations, &reasons)?;
            notes.extend(said);
            first = Some(First {
                counts: counts(cohort, &parts.split, &rows),
                marks: marks_of(settings.unit, &parts.split),
                test: results.into_iter().flat_map(|r| r.test).collect(),
                labels: names,
                split: parts.split,
                scores,
                more,
                models,
                rows,
                truth,
            });
        }
    }
    let Some(mut first) = first else {
        return Err(Error::Request("nothing was compared".into()));
    };
    notes.extend(first.write(study, cohort, networks, tables)?);
    let First { scores: mut methods, labels, counts: parts, marks, more, .. } = first;
    for method in &mut methods {
        let key = (method.approach.clone(), method.source.clone());
        method.spread = all.get(&key).and_then(|repeats| evaluate::spread(repeats));
    }
    let seconds = start.elapsed().as_secs_f64();
    let facts = [
        ("networks", networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(",")),
        ("approaches", approaches.iter().map(Approach::name).collect::<Vec<_>>().join(",")),
        ("repeats", options.repeats.to_string()),
        ("seed", settings.seed.to_string()),
    ];
    let facts = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    study.record("compare", StageRecord { seconds, facts })?;
    let warnings = cohort.warnings.iter().cloned().chain(notes).collect();
    let comparison = describe(study, cohort, networks, &approaches, options, methods, labels, parts, warnings);
    Ok(Comparison {
        marks,
        details: more.details,
        differences: more.differences,
        subgroups: more.subgroups,
        learning: more.learning,
        timings: more.timings,
        ..comparison
    })
}

/// One approach on the first split.
pub(crate) struct Fitted {
    pub(crate) approach: Approach,
    /// Predictions of the test part.
    pub(crate) test: Vec<Predictions>,
    /// Out-of-fold predictions of the other parts, in the order of `test`; empty if they were not asked for. Stacked heads,
    /// last of `test`, have none.
    pub(crate) own: Vec<Predictions>,
    /// Seconds.
    pub(crate) fit: f64,
    pub(crate) out_of_fold: Option<f64>,
}

/// Fits one approach and predicts the test part, and with `details` every other patient by learners that had not seen
/// them. `advance` is called with the number of fits since its last call.
fn fitted(
    material: &Material<'_>,
    approach: &Approach,
    rows: &Rows,
    details: bool,
    advance: &mut dyn FnMut(usize),
) -> Result<Fitted> {
    let clock = Instant::now();
    let mut test = material.run(approach, rows)?;
    let fit = clock.elapsed().as_secs_f64();
    advance(1);
    let clock = Instant::now();
    let mut own = Vec::new();
    if details {
        if material.has_out_of_fold(approach, &rows.development()) {
            own = material.out_of_fold(approach, rows)?;
        }
        if let Approach::FineTuned(_) | Approach::DeepTuned(_) = approach {
            let stacked = material.stack_members(&approach.name(), &own, &test, rows)?;
            test.extend(stacked);
        }
        advance(FOLDS);
    }
    let learned = !matches!(approach, Approach::Baseline);
    let out_of_fold = (learned && !own.is_empty()).then(|| clock.elapsed().as_secs_f64());
    Ok(Fitted { approach: approach.clone(), test, own, fit, out_of_fold })
}

/// What must be said of networks whose embeddings are no plain ones.
fn embedding_notes(study: &Study, networks: &[Network]) -> Vec<String> {
    let note = |name: &str, (option, value): (&str, String)| match option {
        "tta" => format!("embeddings of {name} are means over {value} looks at each image (--tta)"),
        _ => format!("embeddings of {name} were computed in {value} (--{option})"),
    };
    let of = |network: &Network| {
        differences_of(study, network).into_iter().map(|d| note(&network.name, d)).collect::<Vec<_>>()
    };
    networks.iter().flat_map(of).collect()
}

/// What every table must say about a split by image; nothing for one by patient.
fn marks_of(unit: Unit, split: &Split) -> Vec<String> {
    if unit == Unit::Patient {
        return Vec::new();
    }
    let all = split.rows.iter().map(|r| r.patient.as_str()).collect::<BTreeSet<_>>().len();
    let shared = split.shared_patients().len();
    vec![format!("{SPLIT_BY_IMAGE} Here {shared} of {all} patients have images in more than one part.")]
}

/// Rows of the train, validation and test part of a study's first split.
pub(crate) fn parts_of(cohort: &Cohort, settings: &SplitSettings) -> Result<[Vec<usize>; 3]> {
    let parts = parts(cohort, settings, 0)?;
    Ok([parts.train, parts.validation, parts.test])
}

/// Rows of each part of one split.
struct Parts {
    train: Vec<usize>,
    validation: Vec<usize>,
    test: Vec<usize>,
    split: Split,
}

/// Test patients first, as before there was a validation part; validation patients then come out of the others.
fn parts(cohort: &Cohort, settings: &SplitSettings, repeat: usize) -> Result<Parts> {
    let plan = plan(settings).repeated(repeat as u64);
    let mut drawn: Split = split(&cohort.items(), &plan)?;
    let indices = drawn.indices(cohort)?;
    let [development, test] = &indices[..] else { return Err(Error::Request("a split has two parts".into())) };
    let share = settings.validation / (1.0 - settings.test);
    let items = cohort.items();
    let chosen: Vec<Item<'_>> = development.iter().map(|&i| items[i]).collect();
    let inner = SplitPlan {
        parts: vec![
            Part { name: PARTS[0].to_owned(), fraction: 1.0 - share },
            Part { name: PARTS[1].to_owned(), fraction: share },
        ],
        ..plan
    };
    // Too few patients for a validation part: heads then train for all their epochs.
    let validation: BTreeSet<usize> = match split(&chosen, &inner) {
        Ok(inner) => development.iter().copied().filter(|&i| inner.part_of(&cohort.images[i].id) == Some(1)).collect(),
        Err(_) => BTreeSet::new(),
    };
    drawn.parts = PARTS.map(str::to_owned).to_vec();
    let place = |id: &str| cohort.images.binary_search_by(|i| i.id.as_str().cmp(id)).ok();
    for row in &mut drawn.rows {
        let held = place(&row.image).is_some_and(|i| validation.contains(&i));
        row.part = if row.part == 1 { 2 } else { usize::from(held) };
    }
    Ok(Parts {
        train: development.iter().copied().filter(|i| !validation.contains(i)).collect(),
        validation: validation.into_iter().collect(),
        test: test.clone(),
        split: drawn,
    })
}

/// Truth of `rows`, `[row][label]`.
fn truth(labels: &Labels, rows: &[usize]) -> Vec<Option<bool>> {
    rows.iter().flat_map(|&i| (0..labels.outputs()).map(move |k| labels.get(i, k))).collect()
}

/// Whether one of `rows` has this value of label `k`.
fn has(labels: &Labels, rows: &[usize], k: usize, class: bool) -> bool {
    rows.iter().any(|&i| labels.get(i, k) == Some(class))
}

fn counts(cohort: &Cohort, split: &Split, rows: &Rows) -> Vec<PartCount> {
    let parts = [&rows.train, &rows.validation, &rows.predict];
    let count = |(name, rows): (&String, &Vec<usize>)| PartCount {
        part: name.clone(),
        images: rows.len(),
        patients: BTreeSet::from_iter(cohort.patients_of(rows)).len(),
    };
    split.parts.iter().zip(parts).map(count).collect()
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
    cohort
        .warnings
        .push(format!("{} images could not be embedded and are left out; `chestnut embed` names them", missing.len()));
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

/// The split into patients to learn from and test patients that a study's settings ask for, first repeat.
pub(crate) fn plan(settings: &SplitSettings) -> SplitPlan {
    let part = |name: &str, fraction| Part { name: name.to_owned(), fraction };
    let parts = vec![part(PARTS[0], 1.0 - settings.test), part(PARTS[2], settings.test)];
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
