//! Every approach on made-up embeddings: what a leak looks like, and what degenerate cohorts get.

use super::outputs::unbound;
use super::*;
use crate::cohort::tests::image;
use crate::cohort::{IngestOptions, Label, LabelSet, ingest};
use crate::phantom::PhantomConfig;
use crate::phantom::export::{ExportOptions, export};
use crate::study::Settings;
use crate::tune::{Tuned, inputs_of};
use chestnut_forest::GridRow;
use chestnut_stats::random::Stream;
use chestnut_stats::{Clusters, Interval, roc};
use std::path::Path;

/// More features than patients, so that every learner can tell all patients apart.
const WIDTH: usize = 160;
/// Many methods are judged: at 95 % one in twenty would fail by chance.
const SURE: f64 = 0.998;

struct Made {
    cohort: Cohort,
    networks: Vec<Network>,
    tables: Vec<EmbeddingTable>,
}

/// `copies` images of each of `patients`, with equal embeddings, outputs and labels; `label` answers `+`, `-` or `?`.
fn made(patients: usize, copies: usize, label: &dyn Fn(usize, usize) -> char) -> Made {
    let label_names = LabelSet::hum_cxr().labels;
    let mut images = Vec::new();
    for patient in 0..patients {
        let labels: String = (0..label_names.len()).map(|k| label(patient, k)).collect();
        images.extend((0..copies).map(|copy| image(&format!("{patient:04}_{copy}"), &format!("p{patient}"), &labels)));
    }
    let names = ["seeded:densenet121+chexpert", "seeded:vgg16+chexpert"];
    let networks: Vec<Network> = names.iter().map(|n| Network::find(Path::new(""), n).expect("a formula")).collect();
    let table = |network: usize| {
        let stream = |patient: usize, what: &str| Stream::keyed(network as u64, what).child(patient as u64);
        let row = |patient: usize| -> Vec<f32> {
            let mut draw = stream(patient, "embedding");
            (0..WIDTH).map(|_| draw.normal() as f32).collect()
        };
        let own = |patient: usize| -> Vec<f32> {
            let mut draw = stream(patient, "outputs");
            (0..14).map(|_| draw.uniform() as f32).collect()
        };
        EmbeddingTable {
            ids: images.iter().map(|i| i.id.clone()).collect(),
            width: WIDTH,
            embeddings: (0..images.len()).flat_map(|i| row(i / copies)).collect(),
            outputs: 14,
            probabilities: (0..images.len()).flat_map(|i| own(i / copies)).collect(),
        }
    };
    let tables = (0..networks.len()).map(table).collect();
    Made { cohort: Cohort { label_names, images, ..Cohort::default() }, networks, tables }
}

fn approaches() -> Vec<Approach> {
    let learners = [Learner::Trees(Params::random_forest(0)), Learner::Linear, Learner::Neighbours];
    let mut all = vec![Approach::Baseline, Approach::Stacking, Approach::FineTuned(Schedule::fair())];
    all.extend(learners.map(Approach::Embeddings));
    all
}

/// What a comparison's first split comes to.
struct Found {
    rows: Rows,
    names: Vec<String>,
    truth: Vec<Option<bool>>,
    results: Vec<Fitted>,
    scores: Vec<MethodScore>,
    beyond: beyond::Beyond,
    own_truths: Vec<Vec<Option<bool>>>,
}

fn run(made: &Made, settings: &SplitSettings, approaches: &[Approach], options: &CompareOptions) -> Result<Found> {
    let (cohort, networks, tables) = (&made.cohort, &made.networks[..], &made.tables[..]);
    let parts = parts(cohort, settings, 0)?;
    let rows = Rows { train: parts.train, validation: parts.validation, predict: parts.test };
    let development = rows.development();
    let (names, labels) = label_table(cohort, &development)?;
    let map = source_map(networks, tables, &names, options);
    let items = cohort.items();
    let material = Material::new(networks, tables, &items, &labels, map.as_ref(), settings, options);
    let mut results = Vec::new();
    for approach in approaches {
        let mut test = material.run(approach, &rows)?;
        let head = matches!(approach, Approach::FineTuned(_));
        let own = if head || options.details { material.out_of_fold(approach, &rows)? } else { Vec::new() };
        if head {
            let stacked = material.stack_members(&approach.name(), &own, &test, &rows)?;
            test.extend(stacked);
        }
        results.push(Fitted { approach: approach.clone(), test, own, fit: 0.0, out_of_fold: None });
    }
    let why = Reasons {
        unknown: map.as_ref().map_or_else(Vec::new, SourceMap::unknown),
        learnable: untrained(&labels, &development),
        trainable: untrained(&labels, &rows.train),
    };
    let reasons = |approach: &Approach| why.of(approach);
    let truth = truth(&labels, &rows.predict);
    let patients = cohort.patients_of(&rows.predict);
    let score = |m: &Predictions, why: &[Option<String>]| {
        score_method(&m.approach, &m.source, &names, &m.probabilities, &truth, &patients, why)
    };
    let scores = results.iter().flat_map(|r| r.test.iter().map(|m| score(m, reasons(&r.approach)))).collect();
    let more = beyond::beyond(&material, cohort, &names, &rows, &results, &reasons, settings.seed)?;
    let own_truths =
        results.iter().map(|r| material.out_of_fold_truth(&r.approach, &rows)).collect::<Result<Vec<_>>>()?;
    Ok(Found { rows, names, truth, results, scores, beyond: more, own_truths })
}

/// Mean AUC over the labels and its interval from resampling patients.
fn mean_auc(made: &Made, found: &Found, p: &[f64]) -> (f64, Interval) {
    let outputs = found.names.len();
    let patients = made.cohort.patients_of(&found.rows.predict);
    let clusters = Clusters::new(&patients).expect("several patients");
    let result = clusters.bootstrap(2_200, SURE, &Stream::keyed(0, "leak test"), |rows| {
        let auc = |k: usize| {
            let at = |&row: &usize| Some((p[row * outputs + k], found.truth[row * outputs + k]?));
            let (scores, truth): (Vec<f64>, Vec<bool>) = rows.iter().filter_map(at).unzip();
            roc::auc(&scores, &truth)
        };
        let aucs: Vec<f64> = (0..outputs).filter_map(|k| auc(k).ok()).collect();
        Ok(aucs.iter().sum::<f64>() / aucs.len() as f64)
    });
    let result = result.expect("labels with both classes");
    (result.estimate, result.interval)
}

/// Images of a patient are equal and labels are drawn: nothing can be learned, only remembered.
#[test]
fn equal_images_and_drawn_labels_score_a_half_unless_images_are_split() {
    let label = |patient: usize, k: usize| {
        let drawn = Stream::keyed(9, "drawn labels").child(patient as u64).child(k as u64).uniform();
        if drawn < 0.4 { '+' } else { '-' }
    };
    let made = made(120, 3, &label);
    let options = CompareOptions { details: false, ..CompareOptions::new(0) };
    for unit in [Unit::Patient, Unit::Image] {
        let settings = SplitSettings { unit, ..SplitSettings::default() };
        let found = run(&made, &settings, &approaches(), &options).expect("runs");
        let methods: Vec<&Predictions> = found.results.iter().flat_map(|r| &r.test).collect();
        // Two networks: four rows of baseline, three learners and heads; two of stacking; one of stacked heads.
        assert_eq!(methods.len(), 4 * 5 + 2 + 1);
        // Nothing beyond AUCs is said of stacked heads, so no forest is fitted for it.
        let head = found.results.iter().find(|r| matches!(r.approach, Approach::FineTuned(_))).expect("heads");
        let sources = |p: &[Predictions]| p.iter().map(|p| p.source.clone()).collect::<Vec<_>>();
        let (test, own) = (sources(&head.test), sources(&head.own));
        assert_eq!((test.last().map(String::as_str), &test[..test.len() - 1]), (Some("Stacking"), &own[..]));
        for m in methods {
            let (mean, interval) = mean_auc(&made, &found, &m.probabilities);
            let what = format!("{unit:?} {} {}: {mean} {interval:?}", m.approach, m.source);
            if unit == Unit::Patient || m.approach == "Baseline" {
                assert!(interval.low < 0.5 && 0.5 < interval.high, "{what}");
            } else if matches!(m.source.as_str(), "Average" | "Raw outputs") {
                assert!(mean > 0.65 && interval.low > 0.5, "{what}");
            }
        }
        // The same is in the results, and they say so.
        let parts = parts(&made.cohort, &settings, 0).expect("splits");
        let marks = marks_of(unit, &parts.split);
        if unit == Unit::Patient {
            assert!(marks.is_empty() && parts.split.shared_patients().is_empty());
        } else {
            let shared = parts.split.shared_patients().len();
            assert!(shared > 60, "{shared}");
            assert!(
                marks[0].contains("SPLIT BY IMAGE") && marks[0].contains(&format!("Here {shared} of 120 patients"))
            );
        }
    }
}

/// Whatever cannot be estimated has a reason, and whatever is estimated is a number.
fn assert_explained(found: &Found) {
    for label in found.scores.iter().flat_map(|m| &m.labels) {
        let explained = label.reason.as_ref().is_some_and(|r| !r.is_empty());
        assert!(label.auc.is_some_and(|a| (0.0..=1.0).contains(&a)) || explained, "{label:?}");
        assert!(label.interval.is_some() || explained, "{label:?}");
    }
    for label in found.beyond.details.iter().flat_map(|d| &d.labels) {
        let whole = label.bootstrap.is_some() && label.points.len() == 2 && label.auprc.is_some();
        assert!(whole || label.reason.is_some(), "{label:?}");
    }
    for difference in found.beyond.differences.iter().flat_map(|d| &d.labels) {
        assert!(difference.p.is_some() || difference.reason.is_some(), "{difference:?}");
    }
    for group in found.beyond.subgroups.iter().flat_map(|s| &s.rows) {
        assert!(group.auc.is_some() || group.reason.is_some(), "{group:?}");
    }
    for p in found.results.iter().flat_map(|r| r.test.iter().chain(&r.own)).flat_map(|m| &m.probabilities) {
        assert!((0.0..=1.0).contains(p), "{p}");
    }
}

#[test]
fn tiny_cohorts_get_reasons_and_no_crash() {
    // No positive; one; no negative; known in one patient only; otherwise drawn.
    let label = |patient: usize, k: usize| match k {
        0 => '-',
        1 => {
            if patient == 2 {
                '+'
            } else {
                '-'
            }
        }
        2 => '+',
        3 => match patient {
            0 => '+',
            _ => '?',
        },
        _ => {
            if Stream::keyed(4, "tiny").child(patient as u64).child(k as u64).uniform() < 0.5 {
                '+'
            } else {
                '-'
            }
        }
    };
    for (patients, copies) in [(4, 1), (5, 1), (5, 3), (9, 2)] {
        let made = made(patients, copies, &label);
        for unit in [Unit::Patient, Unit::Image] {
            let seed = patients as u64;
            let settings = SplitSettings { unit, seed, ..SplitSettings::default() };
            let options = CompareOptions { learning_draws: 1, ..CompareOptions::new(seed) };
            let found = run(&made, &settings, &approaches(), &options);
            let found = found.unwrap_or_else(|e| panic!("{patients} patients, {unit:?}: {e}"));
            assert_explained(&found);
            for never in ["Pleura", "PNX"] {
                // No positive and no negative image anywhere: never an AUC.
                let all = found.scores.iter().flat_map(|m| &m.labels);
                let labels: Vec<_> = all.filter(|l| l.label == never).collect();
                assert!(!labels.is_empty() && labels.iter().all(|l| l.auc.is_none()), "{never}");
                let explained = |reason: &Option<String>| reason.as_ref().is_some_and(|r| r.contains("not estimable"));
                assert!(labels.iter().all(|l| explained(&l.reason)), "{labels:?}");
            }
        }
    }
    // One patient: by patient there is nothing to split, by image there is.
    let made = made(1, 8, &|_, k| if k == 0 { '+' } else { '-' });
    let options = CompareOptions { learning_draws: 1, ..CompareOptions::new(0) };
    let settings = |unit| SplitSettings { unit, ..SplitSettings::default() };
    let error = run(&made, &settings(Unit::Patient), &approaches(), &options).err().expect("one patient");
    assert!(error.to_string().contains("1 patients are too few"), "{error}");
    assert_explained(&run(&made, &settings(Unit::Image), &approaches(), &options).expect("eight images"));
}

/// Folds whose learners never saw a class give no prediction to choose a threshold by.
#[test]
fn a_class_missing_in_a_fold_is_not_judged_there() {
    // Label 0 is positive in two patients, label 1 known in three, the others drawn.
    let label = |patient: usize, k: usize| match (k, patient) {
        (0, 3 | 17) => '+',
        (0, _) => '-',
        (1, 5) => '+',
        (1, 6 | 20) => '-',
        (1, _) => '?',
        _ => {
            if Stream::keyed(5, "folds").child(patient as u64).child(k as u64).uniform() < 0.4 {
                '+'
            } else {
                '-'
            }
        }
    };
    let made = made(40, 1, &label);
    let options = CompareOptions { learning_draws: 1, ..CompareOptions::new(0) };
    for seed in 0..3 {
        let settings = SplitSettings { seed, ..SplitSettings::default() };
        let found = run(&made, &settings, &approaches(), &options).expect("runs");
        assert_explained(&found);
        let development = found.rows.development();
        for (result, own) in found.results.iter().zip(&found.own_truths) {
            let outputs = found.names.len();
            assert_eq!(own.len(), development.len() * outputs);
            for (row, values) in development.iter().zip(own.chunks(outputs)) {
                for (name, &value) in found.names.iter().zip(values) {
                    let k = made.cohort.label_names.iter().position(|l| l == name).expect("a label");
                    let truth = made.cohort.images[*row].labels[k];
                    assert!(value.is_none() || value == truth.known(), "{name}");
                    // A lone positive among the patients to learn from was in no other fold's training rows.
                    let lone = |&r: &usize| made.cohort.images[r].labels[k] == Label::Positive;
                    let alone = development.iter().filter(|&r| lone(r)).count() == 1;
                    if alone && truth == Label::Positive && result.approach != Approach::Baseline {
                        assert_eq!(value, None, "{name} of {}", result.approach.name());
                    }
                }
            }
        }
        for detail in &found.beyond.details {
            let rare = detail.labels.iter().find(|l| l.label == "Pleura").expect("label 0");
            assert!(rare.points.is_empty() && rare.reason.is_some(), "{rare:?}");
        }
    }
}

/// One film more or less must not switch the check off.
#[test]
fn a_network_is_not_compared_where_it_was_taught() {
    let mut made = made(6, 1, &|_, _| '+');
    not_taught_here(&made.networks, &made.cohort).expect("nobody taught them");
    let seen: Vec<String> = made.cohort.images[1..3].iter().map(deep::film).collect();
    assert_eq!((seen[0].len(), seen[0] == seen[1]), (16, false));
    made.networks[1].record.taught_on = seen;
    for film in [5, 0] {
        let error = not_taught_here(&made.networks, &made.cohort).expect_err("two films are known").to_string();
        let says = ["seeded:vgg16", "2 of this study's", "0001_0 for one", "--net"];
        assert!(says.iter().all(|s| error.contains(s)), "{error}");
        made.cohort.images.remove(film);
    }
    made.cohort.images.truncate(1);
    assert!(not_taught_here(&made.networks, &made.cohort).is_err(), "one film is enough");
    made.cohort.images[0].sha256.push('0');
    not_taught_here(&made.networks, &made.cohort).expect("another film");
    made.networks[0].record.notes.push(format!("{}0f0f", deep::TAUGHT_UNLISTED));
    let error = not_taught_here(&made.networks, &made.cohort).expect_err("nobody can tell").to_string();
    assert!(error.contains("run finetune again"), "{error}");
}

/// A run of many splits may be interrupted for hours: until its end the comparison before it is what the study holds.
#[test]
fn nothing_is_written_before_all_splits_are_worked_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = PhantomConfig { images: 16, size: 64, ..PhantomConfig::default() };
    let labels = export(&config, folder.path(), ExportOptions::default(), &|_, _| {}).expect("drawn");
    let (images, set) = (folder.path().join("images"), LabelSet::hum_cxr());
    let cohort = ingest(&images, &labels, &IngestOptions::new(set.clone()), &|_| {}).expect("read");
    let settings = Settings {
        images,
        view: None,
        blank: Default::default(),
        recipe: Default::default(),
        split: SplitSettings::default(),
        labels: set,
    };
    let study = Study::create(&folder.path().join("study"), settings).expect("made");
    study.write_cohort(&cohort).expect("written");
    let (store, networks) = (Path::new(""), [Network::find(Path::new(""), "seeded:densenet121").expect("a formula")]);
    embed::embed(&study, &cohort, store, &networks[0], &|_, _| {}).expect("embedded");

    let before = ["metrics.json", "report/index.html", "tables/auc.csv", "figures/roc-best.svg", "figures/mine.svg"];
    before.iter().for_each(|name| study.write(name, b"of before").expect("written"));
    let after = ["models/index.json", "split.csv", "predictions.csv"];
    let there = |name: &&str| study.path(name).is_file();
    let watch = |done: usize, total: usize| {
        assert!(before.iter().all(there) && !after.iter().any(there), "{done} of {total} fits are done");
    };
    let forest = Learner::Trees(Params { trees: 5, ..Params::random_forest(0) });
    let approaches = vec![Approach::Embeddings(forest)];
    let options = CompareOptions { repeats: 3, details: false, approaches, ..CompareOptions::new(0) };
    compare(&study, &cohort, &networks, &options, &watch).expect("compared");
    assert!(after.iter().all(there));
    assert_eq!(before.map(|name| there(&name)), [false, false, false, false, true], "what is not compare's stays");
}

#[test]
fn tuned_settings_must_fit_what_is_learned_from() {
    let made = made(40, 1, &|patient, k| if (patient + k).is_multiple_of(3) { '+' } else { '-' });
    let (cohort, networks, tables) = (&made.cohort, &made.networks[..], &made.tables[..]);
    let rows: Vec<usize> = (0..30).collect();
    let (_, labels) = label_table(cohort, &rows).expect("all are known");
    let training = training_hash(cohort, &rows);
    let best = GridRow { params: Params::random_forest(0), mean: 0.5, sd: 0.0, labels: Vec::new(), not_estimable: 0 };
    let chosen = |(network, table): (&Network, &EmbeddingTable)| {
        let inputs = inputs_of(table, &labels, &rows).expect("finite");
        let (network, training) = (network.name.clone(), training.clone());
        ((network.clone(), best.params.learner), Tuned { network, best: best.clone(), settings: 1, training, inputs })
    };
    let tuned: TunedSettings = networks.iter().zip(tables).map(chosen).collect();
    let options = CompareOptions { tuned: Some(tuned), ..CompareOptions::new(0) };
    let check = |tables: &[EmbeddingTable], options: &CompareOptions, labels: &Labels, training: &str| {
        let found = checks::tuned(Path::new("study"), networks, tables, options, labels, (&rows, training));
        found.map_or_else(|e| e.to_string(), |()| "fits".to_owned())
    };
    assert_eq!(check(tables, &options, &labels, &training), "fits");
    let mut moved = made.tables.clone();
    moved[1].embeddings[35 * WIDTH] += 1.0;
    assert_eq!(check(&moved, &options, &labels, &training), "fits", "nobody learns from a test image");
    moved[1].embeddings[3 * WIDTH] += 1.0;
    let message = check(&moved, &options, &labels, &training);
    assert!(message.contains("RF for seeded:vgg16+chexpert was tuned on other embeddings or labels"), "{message}");
    let way_out = "`chestnut tune study --net seeded:densenet121+chexpert,seeded:vgg16+chexpert --learner rf`";
    assert!(message.ends_with(way_out), "{message}");

    let mut corrected = cohort.clone();
    corrected.images[3].labels[0] = Label::Unknown;
    let (_, other) = label_table(&corrected, &rows).expect("most are known");
    assert!(check(tables, &options, &other, &training).contains("other embeddings or labels"));
    assert!(check(tables, &options, &labels, "other").contains("other training patients"));
    let message = check(tables, &CompareOptions { concat: true, ..options.clone() }, &labels, &training);
    assert!(message.contains("not tuned for Concatenated") && message.contains("--concat"), "{message}");
    assert_eq!(check(&moved, &CompareOptions::new(0), &labels, "other"), "fits", "nothing tuned is used");
}

#[test]
fn a_label_map_that_does_not_fit_is_said() {
    let made = made(4, 1, &|_, _| '+');
    let map = LabelMap::chexpert_to_hum_cxr();
    assert_eq!(unbound(&made.networks, &made.cohort, &map), None);
    let text = "from = \"a\"\nto = \"b\"\ngroups = [[\"bone\", [\"Fracture\", \"Broken\"]], [\"Other\", [\"Gone\"]]]";
    let map = LabelMap::from_toml(text).expect("valid");
    let said = unbound(&made.networks, &made.cohort, &map).expect("it does not fit");
    assert!(said.contains("Bone (no \"Broken\")") && said.contains("No Finding") && !said.contains("Gone"), "{said}");
}
