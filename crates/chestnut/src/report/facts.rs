//! What the study's files say beside the comparison: who is in each part, and what each stage recorded.
//!
//! Read from `cohort.csv`, `rejects.csv`, `split.csv`, `manifest.json` and `explain/summary.json`; of
//! `as_published/index.html` only whether it is there. Of the cohort only counts are kept: no image, patient or cell of a
//! table gets into the report. A file that is missing or damaged is a reason, never an error: the numbers of the
//! comparison do not hang on it.

use super::PAGE;
use crate::cohort::pseudonym::is_pseudonym;
use crate::cohort::{Cohort, CohortImage, Label, Split};
use crate::compare::{PARTS, PUBLISHED_FOLDER};
use crate::explain::summary::{EmbeddedMap, Summary, split_of};
use crate::study::{MAX_MANIFEST_BYTES, MAX_TEXT_BYTES, Manifest, Study, read_kept};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Different values of a field that are counted by name; the rest is counted together.
const MAX_GROUPS: usize = 12;

/// What is known of a study beside its comparison.
#[derive(Clone, Debug)]
pub struct StudyFacts {
    /// The whole cohort, then each part, or why they are not known.
    pub(super) parts: Result<Vec<PartFacts>, String>,
    /// Why [`StudyFacts::parts`] holds the whole cohort alone.
    pub(super) unsplit: Option<String>,
    /// Whether patients are named by pseudonyms, if known.
    pub(super) pseudonyms: Option<bool>,
    /// Label names of [`PartFacts::labels`].
    pub(super) labels: Vec<String>,
    /// Stage, seconds and facts, or why they are not known.
    pub(super) stages: Result<Vec<StageFacts>, String>,
    /// Whether the paper's own protocol was run as well and has its page.
    pub(super) published: bool,
    /// What the last run of `explain` left, if there was one, or why it cannot be used.
    pub(super) explained: Result<Option<ExplainFacts>, String>,
}

/// What `explain` left for the report.
#[derive(Clone, Debug)]
pub(super) struct ExplainFacts {
    pub(super) summary: Summary,
    /// Whether the cohort is still the one that was explained; `None` if that cannot be told.
    pub(super) is_current: Option<bool>,
    pub(super) maps: Vec<EmbeddedMap>,
    /// Mean maps that are not embedded.
    pub(super) left_out: usize,
}

/// What one stage recorded.
#[derive(Clone, Debug)]
pub(super) struct StageFacts {
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) facts: Vec<(String, String)>,
}

/// Images of one part, counted.
#[derive(Clone, Debug)]
pub(super) struct PartFacts {
    pub(super) name: String,
    pub(super) images: usize,
    pub(super) patients: usize,
    /// Median, smallest and largest age in years, and images that say it.
    pub(super) ages: Option<([f32; 3], usize)>,
    pub(super) sexes: Vec<(String, usize)>,
    pub(super) views: Vec<(String, usize)>,
    pub(super) makers: Vec<(String, usize)>,
    pub(super) formats: Vec<(String, usize)>,
    /// Positive, negative and unknown images of each label.
    pub(super) labels: Vec<[usize; 3]>,
}

impl StudyFacts {
    /// Reads the study in `folder`; what cannot be read says why.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let within = |name: &str, limit: u64| {
            read_kept(&folder.join(name), limit).map_err(|_| format!("{name} is missing or cannot be read"))
        };
        let text = |name: &str| within(name, MAX_TEXT_BYTES);
        // What exactly is wrong would name cells.
        let cohort = text("cohort.csv").and_then(|images| {
            Cohort::from_csv(&images, &text("rejects.csv")?)
                .map_err(|_| "cohort.csv or rejects.csv is damaged; run ingest again".to_owned())
        });
        let damaged = |_: crate::cohort::CohortError| "split.csv is damaged or names other parts".to_owned();
        let split = text("split.csv").and_then(|t| Split::from_csv(&t, &PARTS.map(str::to_owned)).map_err(damaged));
        let manifest = within("manifest.json", MAX_MANIFEST_BYTES).and_then(|t| {
            serde_json::from_str::<Manifest>(&t).map_err(|e| format!("manifest.json cannot be understood: {e}"))
        });
        let named = |c: &Cohort| c.images.iter().all(|i| is_pseudonym(&i.patient));
        let split_now = Study::open(folder).ok().map(|s| split_of(&s.settings.split));
        let explained = Summary::read(folder).map(|found| {
            found.map(|summary| {
                let (maps, left_out) = summary.embedded(folder);
                let same = split_now.as_ref().is_none_or(|now| summary.split.is_empty() || summary.split == *now);
                let is_current = cohort.as_ref().ok().map(|c| summary.is_of(c) && same);
                ExplainFacts { is_current, maps, left_out, summary }
            })
        });
        Self {
            pseudonyms: cohort.as_ref().ok().map(named),
            published: folder.join(PUBLISHED_FOLDER).join(PAGE).is_file(),
            explained,
            labels: cohort.as_ref().map(|c| c.label_names.clone()).unwrap_or_default(),
            parts: cohort.map(|c| parts(&c, split.as_ref().ok())),
            unsplit: split.err(),
            stages: manifest.map(stages),
        }
    }

    /// The whole cohort.
    pub(super) fn everyone(&self) -> Option<&PartFacts> {
        self.parts.as_ref().ok()?.first()
    }
}

fn stages(manifest: Manifest) -> Vec<StageFacts> {
    let stage = |(name, record): (String, crate::study::StageRecord)| StageFacts {
        name,
        seconds: record.seconds,
        facts: record.facts.into_iter().collect(),
    };
    manifest.stages.into_iter().map(stage).collect()
}

fn parts(cohort: &Cohort, split: Option<&Split>) -> Vec<PartFacts> {
    let labels = cohort.label_names.len();
    let mut parts = vec![part("all", &cohort.images.iter().collect::<Vec<_>>(), labels)];
    if let Some(split) = split {
        for (at, name) in split.parts.iter().enumerate() {
            let images: Vec<&CohortImage> = cohort.images.iter().filter(|i| split.part_of(&i.id) == Some(at)).collect();
            parts.push(part(name, &images, labels));
        }
    }
    parts
}

fn part(name: &str, images: &[&CohortImage], labels: usize) -> PartFacts {
    let count = |k: usize, wanted: Label| images.iter().filter(|i| i.labels.get(k) == Some(&wanted)).count();
    PartFacts {
        name: name.to_owned(),
        images: images.len(),
        patients: images.iter().map(|i| i.patient.as_str()).collect::<BTreeSet<_>>().len(),
        ages: ages(images),
        sexes: counted(images.iter().map(|i| i.sex.map(String::from))),
        views: counted(images.iter().map(|i| i.view.clone())),
        makers: counted(images.iter().map(|i| i.manufacturer.clone())),
        formats: counted(images.iter().map(|i| Some(i.format.clone()))),
        labels: (0..labels).map(|k| [Label::Positive, Label::Negative, Label::Unknown].map(|l| count(k, l))).collect(),
    }
}

fn ages(images: &[&CohortImage]) -> Option<([f32; 3], usize)> {
    let mut known: Vec<f32> = images.iter().filter_map(|i| i.age_years).filter(|a| a.is_finite()).collect();
    known.sort_by(f32::total_cmp);
    let (first, last) = (*known.first()?, *known.last()?);
    let half = known.len() / 2;
    let median = if known.len() % 2 == 1 { known[half] } else { (known[half - 1] + known[half]) / 2.0 };
    Some(([median, first, last], known.len()))
}

/// Values and how often each occurs, most frequent first; those beyond [`MAX_GROUPS`] are counted together.
fn counted(values: impl Iterator<Item = Option<String>>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in values {
        let value = value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        *counts.entry(value.unwrap_or_else(|| "not said".to_owned())).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if counts.len() > MAX_GROUPS {
        let others = counts.split_off(MAX_GROUPS);
        counts.push(("others".to_owned(), others.iter().map(|(_, n)| n).sum()));
    }
    counts
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A study of four images, one refused row, and a manifest.
    pub(in crate::report) fn study() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = |id: &str, patient: &str, age, sex, label| CohortImage {
            id: id.to_owned(),
            row: 2,
            patient: patient.to_owned(),
            view: Some("PA".to_owned()),
            age_years: age,
            sex,
            manufacturer: None,
            width: 8,
            height: 8,
            bits: 12,
            format: "DICOM".to_owned(),
            sha256: "0".repeat(64),
            labels: vec![label],
        };
        let images = vec![
            image("a.dcm", "p1", Some(30.0), Some('F'), Label::Positive),
            image("b.dcm", "p1", Some(30.0), Some('F'), Label::Negative),
            image("c.dcm", "p2", Some(61.0), Some('M'), Label::Unknown),
            image("d.dcm", "p3", None, None, Label::Positive),
        ];
        let reject = crate::cohort::Reject {
            item: "secret-name.png".to_owned(),
            row: Some(3),
            stage: crate::cohort::Stage::Row,
            reason: "secret reason".to_owned(),
        };
        let cohort =
            Cohort { label_names: vec!["<b>".to_owned()], images, rejects: vec![reject], warnings: Vec::new() };
        let split = "image,patient,part\na.dcm,p1,train\nb.dcm,p1,train\nc.dcm,p2,validation\nd.dcm,p3,test\n";
        let manifest =
            r#"{"version":"0.1.0","stages":{"embed:net":{"seconds":78.4,"facts":{"weights_sha256":"abc"}}}}"#;
        for (name, text) in [
            ("cohort.csv", cohort.to_csv()),
            ("rejects.csv", cohort.rejects_to_csv()),
            ("split.csv", split.to_owned()),
            ("manifest.json", manifest.to_owned()),
        ] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    #[test]
    fn parts_are_counted() {
        let facts = StudyFacts::read(study().path());
        let parts = facts.parts.expect("a cohort");
        let sizes: Vec<_> = parts.iter().map(|p| (p.name.as_str(), p.images, p.patients)).collect();
        assert_eq!(sizes, [("all", 4, 3), ("train", 2, 1), ("validation", 1, 1), ("test", 1, 1)]);
        assert_eq!(parts[0].ages, Some(([30.0, 30.0, 61.0], 3)));
        assert_eq!(parts[3].ages, None);
        assert_eq!(parts[0].sexes, [("F".to_owned(), 2), ("M".to_owned(), 1), ("not said".to_owned(), 1)]);
        assert_eq!(parts[0].labels, [[2, 1, 1]]);
        assert_eq!(facts.stages.expect("a manifest")[0].facts[0].1, "abc");
    }

    #[test]
    fn what_is_missing_says_which_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let facts = StudyFacts::read(folder.path());
        assert!(facts.parts.expect_err("no cohort").contains("cohort.csv"));
        assert!(facts.unsplit.expect("no split").contains("split.csv"));
        assert!(facts.stages.expect_err("no manifest").contains("manifest.json"));
    }

    #[test]
    fn many_values_are_counted_together() {
        let values = (0..40).map(|i| Some(format!("maker {i:02}")));
        let found = counted(values);
        assert_eq!((found.len(), found[MAX_GROUPS].clone()), (MAX_GROUPS + 1, ("others".to_owned(), 28)));
    }
}
