//! What the networks' own outputs allow: a baseline and stacking need outputs that are the same for all networks and
//! map to at least one of the hospital's labels. What does not fit is said and never guessed.

use super::{Approach, CompareOptions};
use crate::cohort::label_set::plain;
use crate::cohort::{Cohort, LabelMap};
use crate::embed::{EmbeddingTable, Network};
use crate::transfer::source::SourceMap;
use std::collections::BTreeSet;

/// The approaches that the networks' outputs allow.
pub(super) fn possible(
    networks: &[Network],
    tables: &[EmbeddingTable],
    cohort: &Cohort,
    options: &CompareOptions,
    notes: &mut BTreeSet<String>,
) -> Vec<Approach> {
    let mapped = source_map(networks, tables, &cohort.label_names, options).is_some();
    let needs_outputs = |a: &Approach| matches!(a, Approach::Baseline | Approach::Stacking);
    if !mapped && options.approaches.iter().any(needs_outputs) {
        notes.insert(
            "no baseline and no stacking: the networks' own outputs are missing, differ from each other, or none of them maps to this study's labels (see --label-map)"
                .to_owned(),
        );
    }
    if mapped && options.approaches.iter().any(needs_outputs) {
        notes.extend(unbound(networks, cohort, &options.label_map));
    }
    options.approaches.iter().filter(|a| mapped || !needs_outputs(a)).cloned().collect()
}

/// Labels of the study whose group in the map names an output that the networks lack: a map that is not used must say
/// so.
pub(super) fn unbound(networks: &[Network], cohort: &Cohort, map: &LabelMap) -> Option<String> {
    let outputs = networks.first()?.record.head.output_names();
    let unfit = |label: &String| {
        let (_, names) = map.groups.iter().find(|(to, _)| plain(to) == plain(label))?;
        let gone = names.iter().find(|n| !outputs.iter().any(|o| plain(o) == plain(n)))?;
        Some(format!("{label} (no {gone:?})"))
    };
    let list: Vec<String> = cohort.label_names.iter().filter_map(unfit).collect();
    let text = || {
        format!(
            "the label map does not fit the networks' outputs for {}: they are {}",
            list.join(", "),
            outputs.join(", ")
        )
    };
    (!list.is_empty()).then(text)
}

/// How the local labels come from the networks' outputs, if all networks have the same ones and any fits.
pub(super) fn source_map(
    networks: &[Network],
    tables: &[EmbeddingTable],
    labels: &[String],
    options: &CompareOptions,
) -> Option<SourceMap> {
    let names = networks.first()?.record.head.output_names();
    let same = networks.iter().all(|n| n.record.head.output_names() == names);
    let full = tables.iter().all(|t| t.outputs == names.len() && !names.is_empty());
    let map = SourceMap::new(labels, &names, &options.label_map);
    (same && full && map.any()).then_some(map)
}
