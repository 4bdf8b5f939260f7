//! One approach on one set of rows: fit on the patients to learn from, predict others. The same function serves the
//! test part, the out-of-fold predictions and the learning curve, so that they cannot differ in anything but the rows.

use super::{CompareOptions, folds_of, has, truth};
use crate::cohort::Unit;
use crate::cohort::split::Item;
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::study::SplitSettings;
use crate::transfer::embeddings::{self, Learner};
use crate::transfer::ensemble::Ensemble;
use crate::transfer::source::{self, SourceMap};
use crate::transfer::{Predictions, deep, fine_tune, stacking, with_known};
use chestnut_forest::{Fold, Labels};
use chestnut_train::{Depth, Schedule};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Folds of the patients to learn from: for out-of-fold predictions, and for a learner's own choices.
pub(crate) const FOLDS: usize = 5;

/// A way from the networks to the hospital's labels (paper section 2.3).
#[derive(Clone, Debug, PartialEq)]
pub enum Approach {
    /// The networks' own outputs, mapped to the local labels; nothing is learned.
    Baseline,
    /// A forest on the networks' own outputs.
    Stacking,
    /// A learner on each network's embeddings.
    Embeddings(Learner),
    /// A new Dense layer on each network's embeddings.
    FineTuned(Schedule),
    /// Layers of each network, taught before by [`deep::finetune`].
    DeepTuned(Depth),
}

impl Approach {
    /// Name in tables.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Baseline => "Baseline".to_owned(),
            Self::Stacking => stacking::STACKING.to_owned(),
            Self::Embeddings(learner) => format!("Embeddings + {}", learner.short()),
            Self::FineTuned(_) => fine_tune::APPROACH.to_owned(),
            Self::DeepTuned(depth) => deep::approach_name(*depth).to_owned(),
        }
    }

    /// Settings, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Baseline => "Baseline: the networks' own outputs, the largest of each label's group".to_owned(),
            Self::Stacking => format!("Stacking: {}", stacking::authors_forest(0)),
            Self::Embeddings(learner) => learner.to_string(),
            Self::FineTuned(s) => format!(
                "Fine-tuned head: Dense layer on frozen features, Adam, batch {}, at most {} epochs, stops after {} without a better validation AUC",
                s.batch, s.epochs, s.patience
            ),
            Self::DeepTuned(depth) => format!(
                "{}: layers of each network taught by `chestnut finetune --depth {}`",
                deep::approach_name(*depth),
                depth.name()
            ),
        }
    }
}

/// Rows of the cohort, ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) train: Vec<usize>,
    pub(crate) validation: Vec<usize>,
    pub(crate) predict: Vec<usize>,
}

impl Rows {
    /// All rows that may be learned from: approaches that need no validation part learn from it too.
    pub(crate) fn development(&self) -> Vec<usize> {
        let mut rows = [&self.train[..], &self.validation[..]].concat();
        rows.sort_unstable();
        rows
    }

    /// The same without the rows of `fold`, which are predicted instead.
    pub(crate) fn without(&self, fold: &BTreeSet<usize>) -> Self {
        let rest = |rows: &[usize]| rows.iter().copied().filter(|r| !fold.contains(r)).collect();
        Self { train: rest(&self.train), validation: rest(&self.validation), predict: fold.iter().copied().collect() }
    }
}

/// The rows that an approach learns from: heads only watch the validation part.
pub(crate) fn learned_from(approach: &Approach, rows: &Rows) -> Vec<usize> {
    match approach {
        Approach::FineTuned(_) | Approach::DeepTuned(_) => rows.train.clone(),
        _ => rows.development(),
    }
}

/// Folds of items by the study's unit; none if there are fewer than two patients (or images).
fn folds_within(items: &[Item<'_>], settings: &SplitSettings) -> Result<Vec<Fold>> {
    let units = match settings.unit {
        Unit::Patient => items.iter().map(|i| i.patient).collect::<BTreeSet<_>>().len(),
        Unit::Image => items.len(),
    };
    if units < 2 {
        return Ok(Vec::new());
    }
    folds_of(items, FOLDS.min(units), 1, settings.unit, settings.seed)
}

/// The same for `rows` of `items`, as rows of `items`: those that are predicted.
pub(crate) fn patient_folds(
    items: &[Item<'_>],
    rows: &[usize],
    settings: &SplitSettings,
) -> Result<Vec<BTreeSet<usize>>> {
    let chosen: Vec<Item<'_>> = rows.iter().map(|&r| items[r]).collect();
    let folds = folds_within(&chosen, settings)?;
    Ok(folds.iter().map(|f| f.test.iter().map(|&i| rows[i]).collect()).collect())
}

/// What all approaches work with.
pub(crate) struct Material<'a> {
    pub(crate) networks: &'a [Network],
    pub(crate) tables: &'a [EmbeddingTable],
    pub(crate) items: &'a [Item<'a>],
    pub(crate) labels: &'a Labels,
    /// Present if all networks have the same outputs and know at least one of the labels.
    pub(crate) map: Option<&'a SourceMap>,
    pub(crate) settings: &'a SplitSettings,
    pub(crate) options: &'a CompareOptions,
    /// What fine-tuned networks predicted.
    pub(crate) deep: &'a deep::DeepPredictions,
}

/// What fine-tuned networks predicted where there are none.
static NO_DEEP: deep::DeepPredictions = deep::DeepPredictions::new();

impl<'a> Material<'a> {
    /// Material without fine-tuned networks, which belong to one study's training part.
    pub(crate) fn new(
        networks: &'a [Network],
        tables: &'a [EmbeddingTable],
        items: &'a [Item<'a>],
        labels: &'a Labels,
        map: Option<&'a SourceMap>,
        settings: &'a SplitSettings,
        options: &'a CompareOptions,
    ) -> Self {
        Self { networks, tables, items, labels, map, settings, options, deep: &NO_DEEP }
    }
}

impl Material<'_> {
    fn ensembles(&self) -> Vec<Ensemble> {
        let literal = self.options.literal_entropy.then_some(Ensemble::EntropyLiteral);
        let vote = self.options.majority_vote.then_some(Ensemble::MajorityVote);
        [Some(Ensemble::Average), Some(Ensemble::Entropy), literal, vote].into_iter().flatten().collect()
    }

    /// Folds of `rows`, rows counted within `rows`.
    fn folds_within(&self, rows: &[usize]) -> Result<Vec<Fold>> {
        let items: Vec<Item<'_>> = rows.iter().map(|&r| self.items[r]).collect();
        folds_within(&items, self.settings)
    }

    /// The same as rows of the cohort, those that are predicted.
    pub(crate) fn folds(&self, rows: &[usize]) -> Result<Vec<BTreeSet<usize>>> {
        patient_folds(self.items, rows, self.settings)
    }

    /// Whether out-of-fold predictions can be had: fine-tuned networks may have been taught without folds.
    pub(crate) fn has_out_of_fold(&self, approach: &Approach, development: &[usize]) -> bool {
        let Approach::DeepTuned(depth) = approach else { return true };
        self.networks.iter().all(|n| {
            let found = self.deep.get(&(n.name.clone(), *depth));
            found.is_some_and(|rows| development.iter().all(|r| rows.contains_key(r)))
        })
    }

    fn deep_tuned(&self, network: &Network, depth: Depth, predict: &[usize]) -> Result<Predictions> {
        let found = self.deep.get(&(network.name.clone(), depth));
        let mut probabilities = Vec::with_capacity(predict.len() * self.labels.outputs());
        for row in predict {
            let values = found.and_then(|rows| rows.get(row)).ok_or_else(|| {
                let (name, depth) = (&network.name, depth.name());
                Error::Request(format!(
                    "{name} was fine-tuned without predictions of {}; run `chestnut finetune --net {name} --depth {depth}` again",
                    self.items[*row].id
                ))
            })?;
            probabilities.extend_from_slice(values);
        }
        let approach = deep::approach_name(depth).to_owned();
        Ok(Predictions { approach, source: network.name.clone(), probabilities })
    }

    /// Fits one approach and predicts; the networks' rows first, then the ensembles.
    pub(crate) fn run(&self, approach: &Approach, rows: &Rows) -> Result<Vec<Predictions>> {
        let development = rows.development();
        let mut members = match approach {
            Approach::Baseline => {
                let Some(map) = self.map else { return Ok(Vec::new()) };
                let names: Vec<&str> = self.networks.iter().map(|n| n.name.as_str()).collect();
                let (ensembles, map_first) = (self.ensembles(), self.options.map_first);
                return Ok(source::baseline(&names, self.tables, &rows.predict, map, &ensembles, map_first));
            }
            Approach::Stacking => return self.stacking(&development, &rows.predict),
            Approach::Embeddings(learner) => self.embeddings(learner, &development, &rows.predict)?,
            Approach::FineTuned(schedule) => {
                let parts = [&rows.train[..], &rows.validation[..], &rows.predict[..]];
                let fit = |(network, table): (&Network, &EmbeddingTable)| {
                    let seed = self.settings.seed;
                    fine_tune::fit_and_predict(&network.name, table, self.labels, parts, schedule, seed)
                };
                self.networks.par_iter().zip(self.tables).map(fit).collect::<Result<_>>()?
            }
            Approach::DeepTuned(depth) => {
                let of = |network: &Network| self.deep_tuned(network, *depth, &rows.predict);
                self.networks.iter().map(of).collect::<Result<_>>()?
            }
        };
        if members.len() > 1 {
            let combined: Vec<_> = self.ensembles().iter().map(|e| e.combine(&members)).collect();
            members.extend(combined);
            if let (Approach::Embeddings(learner), true) = (approach, self.options.concat) {
                members.push(self.concatenated(learner, &development, &rows.predict)?);
            }
        }
        Ok(members)
    }

    /// Folds by which a learner makes its own choices, counted within `development`; none if it has none to make.
    pub(super) fn choice_folds(&self, learner: &Learner, development: &[usize]) -> Result<Vec<Fold>> {
        if matches!(learner, Learner::Linear) { self.folds_within(development) } else { Ok(Vec::new()) }
    }

    fn embeddings(&self, learner: &Learner, development: &[usize], predict: &[usize]) -> Result<Vec<Predictions>> {
        let folds = self.choice_folds(learner, development)?;
        let fit = |(network, table): (&Network, &EmbeddingTable)| {
            let learner = self.options.learner(&network.name, learner)?;
            let rows = (development, predict);
            let probabilities = with_known(self.labels, development, predict.len(), |labels| {
                let found = embeddings::fit_and_predict(&network.name, table, labels, rows, &folds, &learner)?;
                Ok(found.probabilities)
            })?;
            let approach = format!("Embeddings + {}", learner.short());
            Ok(Predictions { approach, source: network.name.clone(), probabilities })
        };
        self.networks.iter().zip(self.tables).map(fit).collect()
    }

    /// The forest on all networks' source outputs, and on those mapped to the local labels.
    fn stacking(&self, development: &[usize], predict: &[usize]) -> Result<Vec<Predictions>> {
        let Some(map) = self.map else { return Ok(Vec::new()) };
        let outputs = self.tables[0].outputs;
        let labels = self.labels.select(development);
        let params = stacking::authors_forest(self.settings.seed);
        let raw =
            |rows: &[usize]| -> Vec<Vec<f64>> { self.tables.iter().map(|t| source::outputs_of(t, rows)).collect() };
        let mapped =
            |members: &[Vec<f64>]| -> Vec<Vec<f64>> { members.iter().map(|m| map.apply(m, outputs)).collect() };
        let (learn, judge) = (raw(development), raw(predict));
        let kinds = [
            (stacking::RAW_OUTPUTS, outputs, learn.clone(), judge.clone()),
            (stacking::MAPPED_OUTPUTS, self.labels.outputs(), mapped(&learn), mapped(&judge)),
        ];
        let fit = |(name, n, learn, judge): (&str, usize, Vec<Vec<f64>>, Vec<Vec<f64>>)| {
            let (x, y) = (stacking::side_by_side(&learn, n), stacking::side_by_side(&judge, n));
            let probabilities = stacking::stack(x, &labels, y, learn.len() * n, &params)?;
            Ok(Predictions { approach: stacking::STACKING.to_owned(), source: name.to_owned(), probabilities })
        };
        kinds.into_iter().map(fit).collect()
    }

    /// Predictions of every row of `rows.development()` by learners that had not seen its patient, one entry per source.
    pub(crate) fn out_of_fold(&self, approach: &Approach, rows: &Rows) -> Result<Vec<Predictions>> {
        let development = rows.development();
        let folds = self.folds(&development)?;
        let place: std::collections::BTreeMap<usize, usize> =
            development.iter().enumerate().map(|(i, &r)| (r, i)).collect();
        let outputs = self.labels.outputs();
        let mut all: Vec<Predictions> = Vec::new();
        for fold in &folds {
            let rows = rows.without(fold);
            for (at, found) in self.run(approach, &rows)?.into_iter().enumerate() {
                if all.len() <= at {
                    let probabilities = vec![0.5; development.len() * outputs];
                    all.push(Predictions { probabilities, ..found.clone() });
                }
                for (values, row) in found.probabilities.chunks(outputs).zip(&rows.predict) {
                    all[at].probabilities[place[row] * outputs..][..outputs].copy_from_slice(values);
                }
            }
        }
        Ok(all)
    }

    /// Truth of `rows.development()` to judge out-of-fold predictions by, `[row][label]`: unknown too where the
    /// learners of the row's fold had seen one class of the label or none, since what they answer is no prediction.
    pub(crate) fn out_of_fold_truth(&self, approach: &Approach, rows: &Rows) -> Result<Vec<Option<bool>>> {
        let development = rows.development();
        let outputs = self.labels.outputs();
        let mut known = truth(self.labels, &development);
        if *approach == Approach::Baseline {
            return Ok(known);
        }
        for fold in self.folds(&development)? {
            let others = rows.without(&fold);
            let learned = learned_from(approach, &others);
            let blind: Vec<usize> =
                (0..outputs).filter(|&k| ![true, false].iter().all(|&c| has(self.labels, &learned, k, c))).collect();
            for (values, _) in known.chunks_mut(outputs).zip(&development).filter(|(_, row)| fold.contains(*row)) {
                blind.iter().for_each(|&k| values[k] = None);
            }
        }
        Ok(known)
    }

    /// The forest on fine-tuned heads' probabilities (Table 7's last row), fitted to out-of-fold ones: its predictions of
    /// the test part. It gets none of its own out of fold: thresholds and the like are those of the average.
    pub(crate) fn stack_members(
        &self,
        approach: &str,
        out_of_fold: &[Predictions],
        test: &[Predictions],
        rows: &Rows,
    ) -> Result<Option<Predictions>> {
        let networks = self.networks.len();
        if networks < 2 || out_of_fold.len() < networks || test.len() < networks {
            return Ok(None);
        }
        let outputs = self.labels.outputs();
        let params = stacking::authors_forest(self.settings.seed);
        let take =
            |p: &[Predictions]| -> Vec<Vec<f64>> { p[..networks].iter().map(|p| p.probabilities.clone()).collect() };
        let (learn, judge) =
            (stacking::side_by_side(&take(out_of_fold), outputs), stacking::side_by_side(&take(test), outputs));
        let labels = self.labels.select(&rows.development());
        let probabilities = stacking::stack(learn, &labels, judge, networks * outputs, &params)?;
        Ok(Some(Predictions { approach: approach.to_owned(), source: stacking::STACKING.to_owned(), probabilities }))
    }
}
