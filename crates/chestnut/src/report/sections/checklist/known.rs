//! What a run knows, in sentences that both checklists and the model card use.

use super::super::super::facts::StudyFacts;
use super::super::super::finding;
use super::super::super::words::{counts, several};
use crate::evaluate::table::{approaches, repeats};
use crate::evaluate::{Comparison, FEW_POSITIVES};

/// Sentences about one run.
pub(in crate::report::sections) struct Known {
    /// Which software and networks.
    pub(in crate::report::sections) technology: String,
    /// The approaches compared.
    pub(in crate::report::sections) approaches: String,
    /// The labels.
    pub(in crate::report::sections) labels: String,
    /// Found, refused, used.
    pub(in crate::report::sections) flow: String,
    /// How images become inputs.
    pub(in crate::report::sections) recipe: String,
    /// How patients were split, and the sizes.
    pub(in crate::report::sections) split: String,
    /// Sizes of the parts.
    pub(in crate::report::sections) parts: String,
    /// Age, sex, view, manufacturer.
    pub(in crate::report::sections) people: Result<String, String>,
    /// Learners and their values.
    pub(in crate::report::sections) settings: String,
    /// Weights, by hash.
    pub(in crate::report::sections) weights: String,
    /// Metrics and their intervals.
    pub(in crate::report::sections) metrics: String,
    /// The main finding.
    pub(in crate::report::sections) finding: String,
    /// Version of the software.
    pub(in crate::report::sections) version: String,
    /// Positive test images of each label.
    pub(in crate::report::sections) events: String,
    /// Whether there are groups of patients.
    pub(in crate::report::sections) subgroups: String,
    /// Whether probabilities were calibrated.
    pub(in crate::report::sections) calibration: String,
    /// What lies beyond the first split and the full number of patients.
    pub(in crate::report::sections) robustness: String,
    /// Whether patients are named by pseudonyms, if known.
    pub(in crate::report::sections) pseudonyms: Option<bool>,
    /// Whether `explain` has left anything for the report.
    pub(in crate::report::sections) explained: bool,
    /// Whether intervals, thresholds, calibration and groups were worked out.
    pub(in crate::report::sections) detailed: bool,
    /// Whether all weights were trained, none made by a formula.
    pub(in crate::report::sections) trained: bool,
}

impl Known {
    /// Everything that the comparison and the study's files say.
    pub(in crate::report::sections) fn new(c: &Comparison, facts: &StudyFacts) -> Self {
        let refused: usize = c.rejects.iter().map(|(_, n)| n).sum();
        // Apart from the files: a refused row and its file are one finding.
        let rows = match c.refused_rows {
            0 => String::new(),
            n => format!("; {} of the table refused", several(n, "row")),
        };
        let names: Vec<&str> = c.networks.iter().map(|n| n.name.as_str()).collect();
        let parts: Vec<String> = c
            .parts
            .iter()
            .map(|p| format!("{}: {} of {}", p.part, several(p.images, "image"), several(p.patients, "patient")))
            .collect();
        let parts = if parts.is_empty() { "sizes not recorded".to_owned() } else { parts.join("; ") };
        let splits = repeats(c).map_or_else(|| "one random split".to_owned(), |n| format!("{n} random splits"));
        let events: Vec<String> = (0..c.labels.len())
            .filter_map(|k| {
                let (positive, known) = crate::evaluate::table::counts(c, k)?;
                Some(format!("{} {positive} of {known}", c.labels[k]))
            })
            .collect();
        let weights: Vec<String> = c.networks.iter().map(|n| format!("{} {}", n.name, n.weights)).collect();
        let people = facts.parts.as_ref().map_err(Clone::clone).map(|_| ());
        let people = people.map(|()| facts.everyone().map_or_else(String::new, describe));
        Self {
            technology: format!(
                "Convolutional networks ({}) used through their embeddings and outputs; chestnut {}.",
                list(&names),
                c.version
            ),
            approaches: format!("Compared on the same test part: {}.", list(&approaches(c))),
            labels: format!("Labels predicted: {}.", list(&c.labels)),
            flow: format!(
                "{} found, {refused} refused with a reason each, {} of {} used{rows} (section Cohort).",
                several(c.images + refused, "file"),
                several(c.images, "image"),
                several(c.patients, "patient")
            ),
            recipe: format!("{} Recipe {}.", sentence(&c.recipe), c.recipe_hash),
            split: format!(
                "Drawn at random by {}, stratified over the labels, seed {}, {splits}. {parts}.",
                c.unit, c.seed
            ),
            parts: format!("{parts}."),
            people,
            settings: sentence(&c.settings),
            weights: format!("Weights as imported, by SHA-256: {}.", list(&weights)),
            metrics: metrics(c),
            finding: finding::headline(c).words,
            version: format!("chestnut {}: one program, no other framework runs or trains a network.", c.version),
            events: format!("Positive of known test images: {}.", list(&events)),
            subgroups: if c.subgroups.is_empty() {
                "Groups of patients were not looked at in this run.".to_owned()
            } else {
                format!(
                    "AUC by sex, age, view and manufacturer, no number below {FEW_POSITIVES} positives (section Groups \
                     of patients)."
                )
            },
            calibration: if c.details.is_empty() {
                "Calibration was not looked at in this run.".to_owned()
            } else {
                "Platt and isotonic calibration on out-of-fold predictions; Brier score, slope, intercept and curves on \
                 the test part (section Calibration)."
                    .to_owned()
            },
            robustness: robustness(c),
            pseudonyms: facts.pseudonyms,
            explained: matches!(&facts.explained, Ok(Some(_))),
            detailed: !c.details.is_empty(),
            trained: c.networks.iter().all(|n| !finding::is_seeded(&n.weights)),
        }
    }
}

fn metrics(c: &Comparison) -> String {
    let mut text =
        "AUC per label with DeLong\u{2019}s 95 % interval (patients as clusters, Obuchowski 1997), and its mean."
            .to_owned();
    if c.details.is_empty() {
        text += " Thresholds, calibration and differences were left out of this run.";
    } else {
        text += " Interval of the mean from resampling patients; sensitivity, specificity, PPV and NPV with Wilson \
                 intervals at thresholds chosen on out-of-fold predictions; Brier score and calibration; net benefit.";
    }
    if !c.differences.is_empty() {
        text += " Differences by the paired test of DeLong, patients as clusters, with Holm\u{2019}s correction over the labels.";
    }
    text
}

fn robustness(c: &Comparison) -> String {
    let mut parts = Vec::new();
    if let Some(n) = repeats(c) {
        parts.push(format!("spread over {n} random splits"));
    }
    if !c.learning.is_empty() {
        parts.push("learning curve over the number of patients".to_owned());
    }
    if parts.is_empty() {
        return "None in this run: one split, no learning curve.".to_owned();
    }
    format!("In this report: {}.", parts.join("; "))
}

fn describe(p: &super::super::super::facts::PartFacts) -> String {
    let ages = match p.ages {
        Some(([median, low, high], _)) => format!("age {median:.0} years (median; {low:.0} to {high:.0})"),
        None => "age not said".to_owned(),
    };
    format!(
        "Images: {ages}; sex {}; view {}; manufacturer {} (per part: section Cohort).",
        counts(&p.sexes),
        counts(&p.views),
        counts(&p.makers)
    )
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|n| n.as_ref()).collect::<Vec<&str>>().join(", ")
}

fn sentence(lines: &[String]) -> String {
    if lines.is_empty() { "Not recorded.".to_owned() } else { format!("{}.", lines.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn files_are_found_and_rows_are_listed_apart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let facts = StudyFacts::read(folder.path());
        let mut c = example::comparison();
        // 400 images used and 5 files refused; the 4 refused rows are no files.
        let flow = |c: &Comparison| Known::new(c, &facts).flow;
        let said = flow(&c);
        assert!(
            said.starts_with("405 files found, 5 refused") && said.contains("; 4 rows of the table refused"),
            "{said}"
        );
        c.refused_rows = 0;
        assert!(!flow(&c).contains("row"), "{}", flow(&c));
    }
}
