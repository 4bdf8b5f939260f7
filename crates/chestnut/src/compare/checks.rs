//! What must hold before anything is compared, so that no table says more than was tested.

use super::concat::{CONCATENATED, concatenated};
use super::{Approach, CompareOptions, MAX_REPEATS};
use crate::cohort::Cohort;
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::transfer::deep;
use crate::transfer::embeddings::Learner;
use crate::transfer::ensemble::Ensemble;
use crate::transfer::stacking::{self, STACKING};
use crate::tune::inputs_of;
use chestnut_forest::Labels;
use std::collections::BTreeSet;
use std::path::Path;

/// Whether these options can be compared at all.
///
/// # Errors
/// [`Error::Request`] with the way out.
pub(super) fn options(networks: &[Network], options: &CompareOptions) -> Result<()> {
    if networks.is_empty() || options.repeats == 0 || options.repeats > MAX_REPEATS {
        let problem = format!("a comparison needs at least one network and 1 to {MAX_REPEATS} repeats");
        return Err(Error::Request(problem));
    }
    let firsts = "the first split's training patients, who are test patients in other splits";
    if options.tuned.is_some() && options.repeats > 1 {
        return Err(Error::Request(format!(
            "tuned settings were chosen on {firsts}; compare with --tuned or with --repeats, not both"
        )));
    }
    if options.repeats > 1 && options.approaches.iter().any(|a| matches!(a, Approach::DeepTuned(_))) {
        return Err(Error::Request(format!(
            "networks were fine-tuned on {firsts}; leave out --repeats or name the other approaches with --approach"
        )));
    }
    not_named_as_rows(networks)?;
    // A row that stands twice would look like two splits and count twice in averages.
    let names = options.approaches.iter().map(Approach::name).chain(networks.iter().map(|n| n.name.clone()));
    let mut seen = BTreeSet::new();
    match names.into_iter().find(|n| !seen.insert(n.clone())) {
        Some(twice) => {
            Err(Error::Request(format!("{twice} is named twice; name each approach, learner and network once")))
        }
        None => Ok(()),
    }
}

/// Refuses networks that are called as a row of all networks is: both would be taken for one.
///
/// # Errors
/// [`Error::Network`].
pub(crate) fn not_named_as_rows(networks: &[Network]) -> Result<()> {
    let ensembles = Ensemble::ALL.map(Ensemble::name);
    let rows = ensembles.into_iter().chain([CONCATENATED, stacking::RAW_OUTPUTS, stacking::MAPPED_OUTPUTS, STACKING]);
    let rows: Vec<&str> = rows.collect();
    match networks.iter().find(|n| rows.iter().any(|row| row.eq_ignore_ascii_case(&n.name))) {
        Some(network) => Err(Error::Network {
            network: network.name.clone(),
            problem: "is called as a row of the results is; add its weights to the store under another name".to_owned(),
        }),
        None => Ok(()),
    }
}

/// Refuses networks whose weights were taught on films of this study, in whatever part these are now.
///
/// # Errors
/// [`Error::Network`].
pub(crate) fn not_taught_here(networks: &[Network], cohort: &Cohort) -> Result<()> {
    for Network { name, record } in networks {
        let refused = |problem: String| Err(Error::Network { network: name.clone(), problem });
        if record.notes.iter().any(|note| note.starts_with(deep::TAUGHT_UNLISTED)) {
            return refused(
                "was taught by an earlier finetune, which kept no list of its films, so nobody can tell whether this \
                 study's are among them; name the network that it came from with --net, or run finetune again"
                    .to_owned(),
            );
        }
        let taught: BTreeSet<&str> = record.taught_on.iter().map(String::as_str).collect();
        let mut known = cohort.images.iter().filter(|image| taught.contains(deep::film(image).as_str()));
        if let Some(first) = known.next() {
            return refused(format!(
                "was taught by finetune on {} of this study's {} images, {} for one, so its embeddings know their \
                 labels; name the network that it came from with --net, and compare shows the taught one beside it",
                1 + known.count(),
                cohort.images.len(),
                first.id
            ));
        }
    }
    Ok(())
}

/// Refuses tuned settings that are missing, or were chosen on other patients, embeddings or labels than those that are
/// learned from now: `rows` of `tables` and `labels`, whose images have the hash `training`. `study` is its folder.
///
/// # Errors
/// [`Error::Request`] with the command that chooses them.
pub(super) fn tuned(
    study: &Path,
    networks: &[Network],
    tables: &[EmbeddingTable],
    options: &CompareOptions,
    labels: &Labels,
    (rows, training): (&[usize], &str),
) -> Result<()> {
    let trees = |approach: &Approach| match approach {
        Approach::Embeddings(Learner::Trees(params)) => Some(params.learner),
        _ => None,
    };
    let learners: Vec<_> = options.approaches.iter().filter_map(trees).collect();
    let Some(tuned) = options.tuned.as_ref().filter(|_| !learners.is_empty()) else { return Ok(()) };
    let joined = (options.concat && networks.len() > 1).then(|| concatenated(tables));
    let mut inputs: Vec<(&str, &EmbeddingTable)> = networks.iter().map(|n| n.name.as_str()).zip(tables).collect();
    inputs.extend(joined.as_ref().map(|table| (CONCATENATED, table)));
    for (name, table) in inputs {
        let now = inputs_of(table, labels, rows)?;
        for learner in &learners {
            let short = learner.short();
            let problem = match tuned.get(&(name.to_owned(), *learner)) {
                None => format!("{short} was not tuned for {name}"),
                Some(found) if found.training != training => format!(
                    "{short} for {name} was tuned on other training patients (cohort, seed, split or the networks \
                     beside it have changed since)"
                ),
                Some(found) if found.inputs != now => format!(
                    "{short} for {name} was tuned on other embeddings or labels (network, recipe, way of embedding or \
                     labels have changed since)"
                ),
                Some(_) => continue,
            };
            let names: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
            let (study, names, short) = (study.display(), names.join(","), short.to_lowercase());
            let concat = if joined.is_some() { " --concat" } else { "" };
            return Err(Error::Request(format!(
                "{problem}; run `chestnut tune {study} --net {names} --learner {short}{concat}`"
            )));
        }
    }
    Ok(())
}

/// Per label, why nothing can be learned from `rows`.
pub(crate) fn untrained(labels: &Labels, rows: &[usize]) -> Vec<Option<String>> {
    (0..labels.outputs())
        .map(|k| {
            let has = |class| super::has(labels, rows, k, class);
            let missing = if has(true) { "negative" } else { "positive" };
            let reason = || format!("not estimable: no {missing} image in the training part");
            (!(has(true) && has(false))).then(reason)
        })
        .collect()
}

/// Per label, why an approach cannot know it.
pub(super) struct Reasons {
    /// Labels that the networks' own outputs do not name.
    pub(super) unknown: Vec<Option<String>>,
    /// Of which the training and validation part have one class.
    pub(super) learnable: Vec<Option<String>>,
    /// Of which the training part has one class.
    pub(super) trainable: Vec<Option<String>>,
}

impl Reasons {
    pub(super) fn of(&self, approach: &Approach) -> &Vec<Option<String>> {
        match approach {
            Approach::Baseline => &self.unknown,
            // Heads and taught networks learn from the training part alone.
            Approach::FineTuned(_) | Approach::DeepTuned(_) => &self.trainable,
            _ => &self.learnable,
        }
    }
}
