//! Agreement over many images: means per label and source with intervals that resample patients, and both as CSV.

use chestnut_stats::random::Stream;
use chestnut_stats::resample::DEFAULT_RESAMPLES;
use chestnut_stats::{Clusters, DEFAULT_LEVEL};
use serde::{Deserialize, Serialize};

use super::super::MaskRule;
use super::Agreement;
use crate::cohort::table::to_csv;

/// Stands for the label in the rows over all regions of all labels.
pub const POOLED: &str = "all labels";

/// A measure's name and its value, if it has one.
type Measure = (&'static str, fn(&Agreement) -> Option<f64>);

/// The measures of an [`Agreement`], by the names of their columns.
static MEASURES: [Measure; 9] = [
    ("coverage", |a| Some(a.coverage)),
    ("box_coverage", |a| Some(a.box_coverage)),
    ("iou", |a| Some(a.iou)),
    ("hit", |a| a.hit),
    ("tolerant_hit", |a| a.tolerant_hit),
    ("pixel_auc", |a| a.pixel_auc),
    ("mask_share", |a| Some(a.mask_share)),
    ("box_share", |a| Some(a.box_share)),
    ("expert_share", |a| Some(a.expert_share)),
];

/// One map against one region, and whose they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgreementRow {
    /// Path of the image below the image folder.
    pub image: String,
    /// Patient, pseudonymised: the unit of resampling.
    pub patient: String,
    /// Label that was explained and outlined.
    pub label: String,
    /// Whose map: a network, `mean of 7 networks`, or a chance level.
    pub source: String,
    /// The measures.
    pub agreement: Agreement,
}

/// Mean of one measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasureSummary {
    /// Name of the measure: a field of [`Agreement`].
    pub measure: String,
    /// Regions that have a value.
    pub regions: usize,
    /// Mean over them; `None` without any.
    pub mean: Option<f64>,
    /// 95 % bootstrap percentile interval over patients.
    pub interval: Option<[f64; 2]>,
    /// Why there is no mean or no interval.
    pub reason: Option<String>,
}

/// Agreement of one source on one label, or on [`POOLED`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelAgreement {
    /// Label.
    pub label: String,
    /// Source.
    pub source: String,
    /// Regions.
    pub regions: usize,
    /// Patients.
    pub patients: usize,
    /// In the order of [`Agreement`]'s fields.
    pub measures: Vec<MeasureSummary>,
}

/// Means per source and label, in the order of first appearance, each source's rows ending with [`POOLED`] if it has
/// several labels. The pooled mean is over regions: labels with many regions weigh more.
///
/// The same patients are drawn for all measures of a row. `resamples` is [`DEFAULT_RESAMPLES`] unless asked otherwise.
#[must_use]
pub fn summarise(rows: &[AgreementRow], resamples: Option<usize>, seed: u64) -> Vec<LabelAgreement> {
    let resamples = resamples.unwrap_or(DEFAULT_RESAMPLES);
    let mut table = Vec::new();
    for source in first_appearances(rows.iter().map(|row| row.source.as_str())) {
        let of_source: Vec<&AgreementRow> = rows.iter().filter(|row| row.source == source).collect();
        let labels = first_appearances(of_source.iter().map(|row| row.label.as_str()));
        for label in &labels {
            let chosen: Vec<&AgreementRow> = of_source.iter().copied().filter(|row| row.label == *label).collect();
            table.push(one(label, source, &chosen, resamples, seed));
        }
        if labels.len() > 1 {
            table.push(one(POOLED, source, &of_source, resamples, seed));
        }
    }
    table
}

fn one(label: &str, source: &str, rows: &[&AgreementRow], resamples: usize, seed: u64) -> LabelAgreement {
    let patients = first_appearances(rows.iter().map(|row| row.patient.as_str())).len();
    let measures = MEASURES.iter().map(|(name, value)| {
        let valued: Vec<(&str, f64)> =
            rows.iter().filter_map(|row| Some((row.patient.as_str(), value(&row.agreement)?))).collect();
        let (mean, interval, reason) = mean_of(&valued, resamples, seed);
        MeasureSummary { measure: (*name).to_owned(), regions: valued.len(), mean, interval, reason }
    });
    LabelAgreement {
        label: label.to_owned(),
        source: source.to_owned(),
        regions: rows.len(),
        patients,
        measures: measures.collect(),
    }
}

/// Mean, interval and what is missing of values by patient.
fn mean_of(valued: &[(&str, f64)], resamples: usize, seed: u64) -> (Option<f64>, Option<[f64; 2]>, Option<String>) {
    if valued.is_empty() {
        return (None, None, Some("no region has a value".to_owned()));
    }
    let mean = |rows: &[usize]| rows.iter().map(|&row| valued[row].1).sum::<f64>() / rows.len() as f64;
    let patients: Vec<&str> = valued.iter().map(|(patient, _)| *patient).collect();
    let interval = Clusters::new(&patients).and_then(|clusters| {
        clusters.bootstrap(resamples, DEFAULT_LEVEL, &Stream::keyed(seed, "agreement"), |rows| Ok(mean(rows)))
    });
    let all = Some(valued.iter().map(|(_, value)| value).sum::<f64>() / valued.len() as f64);
    match interval {
        Ok(bootstrap) => (all, Some([bootstrap.interval.low, bootstrap.interval.high]), None),
        Err(why) => (all, None, Some(why.to_string())),
    }
}

fn first_appearances<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// One line per map and region; `mask` is the rule that made their masks.
#[must_use]
pub fn rows_csv(rows: &[AgreementRow], mask: MaskRule) -> String {
    let names = ["image", "patient", "label", "source", "mask"];
    let header: Vec<String> =
        names.into_iter().chain(MEASURES.iter().map(|(name, _)| *name)).map(str::to_owned).collect();
    let mask = mask.to_string();
    let line = |row: &AgreementRow| -> Vec<String> {
        let names = [&row.image, &row.patient, &row.label, &row.source, &mask].into_iter().cloned();
        names.chain(MEASURES.iter().map(|(_, value)| number(value(&row.agreement)))).collect()
    };
    to_csv(std::iter::once(header).chain(rows.iter().map(line)))
}

/// One line per source, label and measure; `mask` is the rule that made the masks.
#[must_use]
pub fn summary_csv(table: &[LabelAgreement], mask: MaskRule) -> String {
    let header = [
        "source",
        "label",
        "mask",
        "regions",
        "patients",
        "measure",
        "regions_with_value",
        "mean",
        "low",
        "high",
        "reason",
    ];
    let mut lines: Vec<Vec<String>> = vec![header.map(str::to_owned).to_vec()];
    for row in table {
        for m in &row.measures {
            lines.push(vec![
                row.source.clone(),
                row.label.clone(),
                mask.to_string(),
                row.regions.to_string(),
                row.patients.to_string(),
                m.measure.clone(),
                m.regions.to_string(),
                number(m.mean),
                number(m.interval.map(|ends| ends[0])),
                number(m.interval.map(|ends| ends[1])),
                m.reason.clone().unwrap_or_default(),
            ]);
        }
    }
    to_csv(lines)
}

/// Six decimals; blank without a value.
fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |v| format!("{v:.6}"))
}
