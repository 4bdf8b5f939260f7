//! From the labels of a public set to those of a local one.
//!
//! The paper's Table 3: a local label is the maximum over a group of source labels (section 2.3,
//! protocol 6.1). Bone from Fracture is a bad map (AUC .38) and still the published one: maps are
//! data, so that a study can state its own. Nothing here knows which networks made the values.

use serde::{Deserialize, Serialize};

use super::label_set::{LabelSet, LabelSetError, parse_toml, plain};

/// From source labels to local labels, by the maximum over a group (Table 3 of the paper).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelMap {
    /// Name of the source set.
    pub from: String,
    /// Name of the local set.
    pub to: String,
    /// Local label and the source labels it is the maximum of, in the order of the local set.
    /// In TOML: `groups = [["Pleura", ["Pleural Effusion", "Pleural Other"]], ...]`.
    pub groups: Vec<(String, Vec<String>)>,
}

/// A [`LabelMap`] tied to an order of source labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundMap {
    groups: Vec<Vec<usize>>,
    width: usize,
}

impl LabelMap {
    /// The paper's Table 3, CheXpert-14 to HUM-CXR-7.
    #[must_use]
    pub fn chexpert_to_hum_cxr() -> Self {
        let group = |to: &str, from: &[&str]| (to.to_owned(), from.iter().map(|&f| f.to_owned()).collect::<Vec<_>>());
        Self {
            from: "CheXpert-14".to_owned(),
            to: "HUM-CXR-7".to_owned(),
            groups: vec![
                group("Pleura", &["Pleural Effusion", "Pleural Other"]),
                group("Device", &["Support Devices"]),
                group("PNX", &["Pneumothorax"]),
                group("Cardiac", &["Enlarged Cardiomediastinum", "Cardiomegaly"]),
                group("Lung", &["Lung Opacity", "Lung Lesion", "Consolidation", "Pneumonia", "Atelectasis", "Edema"]),
                group("Bone", &["Fracture"]),
                group("Normal", &["No Finding"]),
            ],
        }
    }

    /// Reads a map from TOML: `from`, `to`, `groups`.
    ///
    /// # Errors
    /// [`LabelSetError`] if it is not a map, is empty, or names a local label twice.
    pub fn from_toml(text: &str) -> Result<Self, LabelSetError> {
        let map: Self = parse_toml(text)?;
        LabelSet { labels: map.labels(), ..LabelSet::new(&map.to, &[]) }.check()?;
        Ok(map)
    }

    /// The local labels, in order.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        self.groups.iter().map(|(label, _)| label.clone()).collect()
    }

    /// Ties the map to the order of the source labels.
    ///
    /// # Errors
    /// [`LabelSetError::MapSource`] if a group is empty or names a label that the source lacks.
    pub fn bind(&self, source: &[String]) -> Result<BoundMap, LabelSetError> {
        let missing = |target: &str, label: &str| LabelSetError::MapSource {
            target: target.to_owned(),
            source_label: label.to_owned(),
            known: source.join(", "),
        };
        let mut groups = Vec::with_capacity(self.groups.len());
        for (target, names) in &self.groups {
            let mut group = Vec::with_capacity(names.len());
            for name in names {
                let index = source.iter().position(|s| plain(s) == plain(name)).ok_or_else(|| missing(target, name))?;
                group.push(index);
            }
            if group.is_empty() {
                return Err(missing(target, ""));
            }
            groups.push(group);
        }
        Ok(BoundMap { groups, width: source.len() })
    }
}

impl BoundMap {
    /// Source outputs of each local label.
    #[must_use]
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// One value per local label: the maximum over its group; NaN if any member is NaN.
    ///
    /// # Panics
    /// If `values` has not one value per source label.
    #[must_use]
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        assert_eq!(values.len(), self.width, "one value per source label");
        let max = |a: f32, b: f32| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) };
        self.groups.iter().map(|group| group.iter().map(|&i| values[i]).fold(f32::NEG_INFINITY, max)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_three_is_the_maximum_over_each_group() {
        let map = LabelMap::chexpert_to_hum_cxr();
        assert_eq!(map.labels(), LabelSet::hum_cxr().labels);
        let bound = map.bind(&LabelSet::chexpert().labels).expect("the sets fit");
        let values: Vec<f32> = (0..14).map(|i| i as f32 / 100.0).collect();
        assert_eq!(bound.apply(&values), [0.11, 0.13, 0.09, 0.02, 0.08, 0.12, 0.0]);
        let mut broken = values;
        broken[10] = f32::NAN;
        assert!(bound.apply(&broken)[0].is_nan(), "an unknown member makes the group unknown");
        let error = map.bind(&["Edema".to_owned()]).expect_err("labels are missing");
        assert!(error.to_string().contains("Pleural Effusion"), "{error}");
        // Every CheXpert label is used exactly once.
        let mut used: Vec<usize> = bound.groups.concat();
        used.sort_unstable();
        assert_eq!(used, (0..14).collect::<Vec<_>>());
    }

    #[test]
    fn the_map_of_the_readme_fits_the_network_that_ships() {
        let map = LabelMap::from_toml(include_str!("../../../../docs/maps/children-to-nih.toml")).expect("a map");
        let outputs = ["Normal (child)", "Pneumonia (child)", "Lung (phantom)", "Pleura (phantom)"];
        map.bind(&outputs.map(str::to_owned)).expect("these are its outputs");
    }

    #[test]
    fn a_map_of_ones_own_and_refusals() {
        let text = "from = \"a\"\nto = \"b\"\ngroups = [[\"L\", [\"x\", \"y\"]], [\"M\", [\"x\"]]]";
        let map = LabelMap::from_toml(text).expect("valid");
        assert_eq!(map.groups[0].1, ["x", "y"]);
        assert_eq!(LabelMap::from_toml(&toml::to_string(&map).expect("serialises")), Ok(map));
        assert!(LabelMap::from_toml(&text.replace("\"M\"", "\"L\"")).is_err(), "a local label twice");
        assert!(LabelMap::from_toml("from = \"a\"\nto = \"b\"\ngroups = []").is_err(), "no group");
        let empty = LabelMap::from_toml("from = \"a\"\nto = \"b\"\ngroups = [[\"L\", []]]").expect("has a label");
        assert!(empty.bind(&["x".to_owned()]).is_err(), "a group of nothing has no maximum");
    }
}
