//! What a comparison says beyond AUCs, for the row of each approach that stands for it: its average over the networks,
//! or its only row.

use super::approaches::{Approach, Material, Rows, learned_from};
use super::{Fitted, has, truth};
use crate::cohort::{Cohort, CohortImage};
use crate::error::Result;
use crate::evaluate::calibrate::LabelCalibration;
use crate::evaluate::detail::{DetailOptions, Tested, detail};
use crate::evaluate::differences::difference;
use crate::evaluate::results::{Difference, LearningPoint, MethodDetail, Subgroups, Timing};
use crate::evaluate::subgroups::subgroups;
use crate::evaluate::{MethodScore, Repeated, score_method};
use chestnut_stats::mean;
use chestnut_stats::random::Stream;
use std::collections::{BTreeMap, BTreeSet};

/// Shares of the patients to learn from at which the learning curve is drawn.
const SHARES: [f64; 5] = [0.1, 0.2, 0.4, 0.7, 1.0];

#[derive(Default)]
pub(super) struct Beyond {
    pub(super) details: Vec<MethodDetail>,
    pub(super) differences: Vec<Difference>,
    pub(super) subgroups: Vec<Subgroups>,
    pub(super) learning: Vec<LearningPoint>,
    pub(super) timings: Vec<Timing>,
    /// Per label, by the name of the approach; for the models that are kept.
    pub(super) calibrations: BTreeMap<String, Vec<LabelCalibration>>,
}

/// Works everything out on the first split.
pub(super) fn beyond<'r>(
    material: &Material<'_>,
    cohort: &Cohort,
    names: &[String],
    rows: &Rows,
    results: &[Fitted],
    reasons: &impl Fn(&Approach) -> &'r Vec<Option<String>>,
    seed: u64,
) -> Result<Beyond> {
    let mut found = Beyond { timings: timings(results), ..Beyond::default() };
    if !material.options.details {
        return Ok(found);
    }
    let options = DetailOptions::new(seed);
    let images: Vec<&CohortImage> = rows.predict.iter().map(|&i| &cohort.images[i]).collect();
    let patients: Vec<&str> = images.iter().map(|i| i.patient.as_str()).collect();
    let test_truth = truth(material.labels, &rows.predict);
    let own_truths: Vec<Vec<Option<bool>>> =
        results.iter().map(|r| material.out_of_fold_truth(&r.approach, rows)).collect::<Result<_>>()?;
    let tested: Vec<Tested<'_>> = results
        .iter()
        .zip(&own_truths)
        .filter_map(|(fitted, own_truth)| {
            let at = headline(fitted)?;
            let method = &fitted.test[at];
            let own = fitted.own.get(at).filter(|o| o.source == method.source);
            Some(Tested {
                approach: &method.approach,
                source: &method.source,
                labels: names,
                test: &method.probabilities,
                truth: &test_truth,
                patients: &patients,
                untrained: reasons(&fitted.approach),
                out_of_fold: own.map(|o| (&o.probabilities[..], &own_truth[..])),
            })
        })
        .collect();
    for method in &tested {
        let (scores, calibrations) = detail(method, &options);
        found.details.push(scores);
        found.calibrations.insert(method.approach.to_owned(), calibrations);
        found.subgroups.push(subgroups(method, &images));
    }
    // The paper's winner is what the others are measured against.
    let reference = tested.iter().find(|t| t.approach.starts_with("Embeddings")).or(tested.first());
    if let Some(reference) = reference {
        let others = tested.iter().filter(|t| t.approach != reference.approach);
        found.differences = others.map(|other| difference(reference, other, &options)).collect();
    }
    if material.options.learning_draws > 0 {
        // Fine-tuned networks were taught on all patients only.
        let fixed = |a: &Approach| matches!(a, Approach::Baseline | Approach::DeepTuned(_));
        for fitted in results.iter().filter(|r| !fixed(&r.approach)) {
            found.learning.extend(curve(material, names, rows, fitted, reasons(&fitted.approach), seed)?);
        }
    }
    Ok(found)
}

/// The row that stands for an approach: the average over the networks, else the first.
fn headline(fitted: &Fitted) -> Option<usize> {
    fitted.test.iter().position(|p| p.source == "Average").or(if fitted.test.is_empty() { None } else { Some(0) })
}

fn timings(results: &[Fitted]) -> Vec<Timing> {
    let stage =
        |r: &Fitted, stage: &str, seconds| Timing { approach: r.approach.name(), stage: stage.to_owned(), seconds };
    let both = |r: &Fitted| [Some(stage(r, "fit", r.fit)), r.out_of_fold.map(|s| stage(r, "out-of-fold", s))];
    // Fine-tuned networks are only read here; their time is in manifest.json.
    results.iter().filter(|r| !matches!(r.approach, Approach::DeepTuned(_))).flat_map(both).flatten().collect()
}

/// AUC of one approach with part of the patients to learn from, on the same test patients.
fn curve(
    material: &Material<'_>,
    names: &[String],
    rows: &Rows,
    fitted: &Fitted,
    untrained: &[Option<String>],
    seed: u64,
) -> Result<Vec<LearningPoint>> {
    let Some(at) = headline(fitted) else { return Ok(Vec::new()) };
    let development = rows.development();
    let patient = |r: usize| material.items[r].patient;
    let everyone: BTreeSet<&str> = development.iter().map(|&r| patient(r)).collect();
    let test_truth = truth(material.labels, &rows.predict);
    let who: Vec<&str> = rows.predict.iter().map(|&r| patient(r)).collect();
    let mut sizes: Vec<(usize, usize, Vec<MethodScore>)> = Vec::new();
    for (size, share) in SHARES.into_iter().enumerate() {
        let wanted = ((everyone.len() as f64 * share).round() as usize).clamp(2.min(everyone.len()), everyone.len());
        let draws = if wanted == everyone.len() { 1 } else { material.options.learning_draws };
        let (mut scores, mut images) = (Vec::new(), 0);
        for draw in 0..draws {
            let mut order: Vec<&str> = everyone.iter().copied().collect();
            let stream = Stream::keyed(seed, "learning curve").child(size as u64);
            stream.child(draw as u64).shuffle(&mut order);
            let chosen: BTreeSet<&str> = order[..wanted].iter().copied().collect();
            let keep =
                |part: &[usize]| part.iter().copied().filter(|&r| chosen.contains(patient(r))).collect::<Vec<_>>();
            let some =
                Rows { train: keep(&rows.train), validation: keep(&rows.validation), predict: rows.predict.clone() };
            if some.train.is_empty() {
                continue;
            }
            let learned = learned_from(&fitted.approach, &some);
            let has = |k: usize, class| has(material.labels, &learned, k, class);
            let why: Vec<Option<String>> = (0..names.len())
                .map(|k| {
                    let one = || "not estimable: one class among so few patients".to_owned();
                    untrained.get(k).cloned().flatten().or_else(|| (!(has(k, true) && has(k, false))).then(one))
                })
                .collect();
            let found = material.run(&fitted.approach, &some)?;
            let Some(method) = found.get(at) else { continue };
            let probabilities = &method.probabilities;
            scores.push(score_method(&method.approach, &method.source, names, probabilities, &test_truth, &who, &why));
            images += some.train.len() + some.validation.len();
        }
        if !scores.is_empty() {
            // Each draw has other patients, who have more images or fewer.
            images = (images + scores.len() / 2) / scores.len();
            sizes.push((wanted, images, scores));
        }
    }
    // Over other labels at each size a mean would be no curve.
    let always = |k: usize| sizes.iter().flat_map(|s| &s.2).all(|s| s.labels[k].auc.is_some());
    let common: Vec<usize> = (0..names.len()).filter(|&k| always(k)).collect();
    let over = |s: &MethodScore| mean(common.iter().filter_map(|&k| s.labels[k].auc));
    let point = |(patients, images, scores): &(usize, usize, Vec<MethodScore>)| LearningPoint {
        approach: scores[0].approach.clone(),
        source: scores[0].source.clone(),
        patients: *patients,
        images: *images,
        draws: scores.len(),
        mean_auc: Repeated::of(scores.iter().filter_map(over)),
        labels: (0..names.len()).map(|k| mean(scores.iter().filter_map(|s| s.labels[k].auc))).collect(),
    };
    Ok(sizes.iter().map(point).collect())
}
