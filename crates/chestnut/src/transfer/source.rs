//! What a network's own outputs say about the hospital's labels (the paper's baseline, section 2.3, Table 3).
//!
//! A local label is the largest of a group of source labels. The authors' code combines the networks first and maps
//! then (protocol 6.2, no. 6); so does this unless asked otherwise.

use super::Predictions;
use super::ensemble::Ensemble;
use crate::cohort::LabelMap;
use crate::embed::EmbeddingTable;
use serde::{Deserialize, Serialize};

/// Source outputs of each local label, or `None` where the source does not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceMap {
    groups: Vec<Option<Vec<usize>>>,
}

impl SourceMap {
    /// From a map if it names the label and the source has its whole group, else from the source label of the same
    /// name.
    #[must_use]
    pub fn new(labels: &[String], source: &[String], map: &LabelMap) -> Self {
        let plain =
            |s: &str| -> String { s.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect() };
        let find = |name: &str| source.iter().position(|s| plain(s) == plain(name));
        let mapped = |label: &String| {
            let (_, names) = map.groups.iter().find(|(to, _)| plain(to) == plain(label))?;
            let group: Vec<usize> = names.iter().filter_map(|n| find(n)).collect();
            (group.len() == names.len() && !group.is_empty()).then_some(group)
        };
        let group = |label: &String| mapped(label).or_else(|| find(label).map(|same| vec![same]));
        Self { groups: labels.iter().map(group).collect() }
    }

    /// Whether it is a map from so many `outputs` to so many `labels`; one that was read from a file may be anything.
    #[must_use]
    pub fn fits(&self, labels: usize, outputs: usize) -> bool {
        let within = |group: &Vec<usize>| !group.is_empty() && group.iter().all(|&i| i < outputs);
        self.groups.len() == labels && self.groups.iter().flatten().all(within)
    }

    /// Whether any local label is known to the source.
    #[must_use]
    pub fn any(&self) -> bool {
        self.groups.iter().any(Option::is_some)
    }

    /// Per local label, why it has no baseline.
    #[must_use]
    pub fn unknown(&self) -> Vec<Option<String>> {
        let reason = || "not estimable: the networks were not trained on such a label".to_owned();
        self.groups.iter().map(|g| g.is_none().then(reason)).collect()
    }

    /// The largest of each group, `[row][local label]`; 0.5, which nobody scores, for a label that the source lacks.
    #[must_use]
    pub fn apply(&self, probabilities: &[f64], outputs: usize) -> Vec<f64> {
        let label = |row: &[f64], group: &Option<Vec<usize>>| {
            group.as_ref().map_or(0.5, |g| g.iter().map(|&i| row[i]).fold(f64::NEG_INFINITY, f64::max))
        };
        probabilities.chunks(outputs).flat_map(|row| self.groups.iter().map(move |g| label(row, g))).collect()
    }
}

/// A network's own probabilities of the rows `rows`, `[row][output]`.
#[must_use]
pub fn outputs_of(table: &EmbeddingTable, rows: &[usize]) -> Vec<f64> {
    let n = table.outputs;
    rows.iter().flat_map(|&r| table.probabilities[r * n..(r + 1) * n].iter().map(|&p| f64::from(p))).collect()
}

/// The baseline: each network, then the ensembles, mapped to the local labels; with `map_first` the ensembles are those
/// of the mapped outputs. All tables have the same outputs.
#[must_use]
pub fn baseline(
    names: &[&str],
    tables: &[EmbeddingTable],
    rows: &[usize],
    map: &SourceMap,
    ensembles: &[Ensemble],
    map_first: bool,
) -> Vec<Predictions> {
    let outputs = tables.first().map_or(1, |t| t.outputs);
    let to_local = |all: &mut [Predictions]| {
        all.iter_mut().for_each(|p| p.probabilities = map.apply(&p.probabilities, outputs));
    };
    let raw = |(name, table): (&&str, &EmbeddingTable)| Predictions {
        approach: "Baseline".to_owned(),
        source: (*name).to_owned(),
        probabilities: outputs_of(table, rows),
    };
    let mut all: Vec<Predictions> = names.iter().zip(tables).map(raw).collect();
    if map_first {
        to_local(&mut all);
    }
    if all.len() > 1 {
        let combined: Vec<_> = ensembles.iter().map(|e| e.combine(&all)).collect();
        all.extend(combined);
    }
    if !map_first {
        to_local(&mut all);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::LabelSet;

    #[test]
    fn groups_come_from_the_map_or_from_equal_names() {
        let local = ["Pleura", "no finding", "Scoliosis"].map(str::to_owned);
        let source = LabelSet::chexpert().labels;
        let map = SourceMap::new(&local, &source, &LabelMap::chexpert_to_hum_cxr());
        let row: Vec<f64> = (0..14).map(|i| f64::from(i) / 100.0).collect();
        let at = |name: &str| row[source.iter().position(|s| s == name).expect("a CheXpert label")];
        let expected = [at("Pleural Effusion").max(at("Pleural Other")), at("No Finding"), 0.5];
        assert_eq!(map.apply(&row, 14), expected);
        assert!(map.any() && map.unknown()[2].is_some() && map.unknown()[0].is_none());
        // A map says more than a name does.
        let own = "from = \"a\"\nto = \"b\"\ngroups = [[\"Fracture\", [\"Pneumothorax\"]], [\"Edema\", [\"gone\"]]]";
        let local = ["Fracture", "Edema"].map(str::to_owned);
        let map = SourceMap::new(&local, &source, &LabelMap::from_toml(own).expect("valid"));
        assert_eq!(map.apply(&row, 14), [at("Pneumothorax"), at("Edema")]);
        let local = ["Pleura", "no finding", "Scoliosis"].map(str::to_owned);
        assert!(!SourceMap::new(&local[2..], &source, &LabelMap::chexpert_to_hum_cxr()).any());
    }

    #[test]
    fn combining_before_or_after_the_map_is_a_choice() {
        let source = ["x", "y"].map(str::to_owned);
        let map = LabelMap::from_toml("from = \"a\"\nto = \"b\"\ngroups = [[\"L\", [\"x\", \"y\"]]]").expect("valid");
        let map = SourceMap::new(&["L".to_owned()], &source, &map);
        let table = |probabilities: [f32; 2]| EmbeddingTable {
            ids: vec!["i".to_owned()],
            width: 1,
            embeddings: vec![0.0],
            outputs: 2,
            probabilities: probabilities.to_vec(),
        };
        let tables = [table([0.25, 0.75]), table([0.5, 0.0])];
        let average = |map_first| {
            let all = baseline(&["a", "b"], &tables, &[0], &map, &[Ensemble::Average], map_first);
            assert_eq!((&all[0].probabilities[..], &all[1].probabilities[..]), (&[0.75][..], &[0.5][..]));
            all[2].probabilities.clone()
        };
        // Means of the outputs are 0.375 each; the mean of the largest is 0.625.
        assert_eq!((average(false), average(true)), (vec![0.375], vec![0.625]));
    }
}
