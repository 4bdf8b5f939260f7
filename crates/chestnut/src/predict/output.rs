//! Predictions as files: one CSV row per image, or all of it as JSON.
//!
//! Nothing is computed here but rounding. A cell without a number is blank; the JSON says why.

use super::space::{SimilarImage, similar_csv};
use super::stage::{ImagePrediction, LabelPrediction, Predicted};
use crate::error::{Error, Result};

/// One row per image, refused ones included: `image,status,remark,distance,percentile`, and for each label
/// `LABEL_probability`, `LABEL_calibrated` and a column of yes and no per threshold, such as `LABEL_Youden`.
#[must_use]
pub fn csv(predicted: &Predicted) -> String {
    let mut header: Vec<String> = ["image", "status", "remark", "distance", "percentile"].map(str::to_owned).to_vec();
    for label in &predicted.labels {
        header.extend(["probability", "calibrated"].map(|c| format!("{label}_{c}")));
        header.extend(predicted.rules.iter().map(|rule| format!("{label}_{}", rule.replace(' ', "_"))));
    }
    let columns = header.len();
    let mut rows: Vec<(&str, Vec<String>)> =
        predicted.images.iter().map(|i| (i.image.as_str(), image_row(i, &predicted.rules))).collect();
    for refused in &predicted.refused {
        let mut row = vec![refused.image.clone(), "refused".to_owned(), refused.reason.clone()];
        row.resize(columns, String::new());
        rows.push((refused.image.as_str(), row));
    }
    rows.sort_by_key(|(image, _)| *image);
    crate::cohort::table::to_csv(std::iter::once(header).chain(rows.into_iter().map(|(_, row)| row)))
}

fn image_row(image: &ImagePrediction, rules: &[String]) -> Vec<String> {
    let number = |v: Option<f64>, digits: usize| v.map_or_else(String::new, |v| format!("{v:.digits$}"));
    let mut row = vec![
        image.image.clone(),
        "predicted".to_owned(),
        image.remarks.join("; "),
        number(image.distance, 6),
        number(image.percentile, 1),
    ];
    for label in &image.labels {
        row.push(number(label.probability, 6));
        row.push(number(label.calibrated, 6));
        row.extend(rules.iter().map(|rule| decision(label, rule).to_owned()));
    }
    row
}

fn decision(label: &LabelPrediction, rule: &str) -> &'static str {
    match label.decisions.iter().find(|d| d.rule == rule) {
        Some(d) if d.positive => "yes",
        Some(_) => "no",
        None => "",
    }
}

/// Everything, with thresholds, reasons and similar cases.
///
/// # Errors
/// None that is known: all numbers are finite.
pub fn json(predicted: &Predicted) -> Result<String> {
    serde_json::to_string_pretty(predicted).map_err(|e| Error::Request(e.to_string()))
}

/// The similar cases of all images ([`super::space::similar_csv`]).
#[must_use]
pub fn similar(predicted: &Predicted) -> String {
    let cases: Vec<(String, Vec<SimilarImage>)> =
        predicted.images.iter().map(|i| (i.image.clone(), i.similar.clone())).collect();
    similar_csv(&predicted.cohort_labels, &cases)
}

#[cfg(test)]
mod tests {
    use super::super::stage::Decision;
    use super::*;
    use crate::embed::Refused;

    #[test]
    fn one_row_per_image_and_blanks_for_what_is_not_known() {
        let label = LabelPrediction {
            label: "Edema".to_owned(),
            probability: Some(0.25),
            calibrated: None,
            calibration: None,
            decisions: vec![Decision { rule: "Youden".to_owned(), threshold: 0.2, positive: true }],
            reason: None,
        };
        let image = ImagePrediction {
            image: "b.png".to_owned(),
            sha256: String::new(),
            labels: vec![label],
            distance: Some(0.5),
            percentile: Some(99.96),
            unusual: true,
            remarks: vec!["odd, and far".to_owned()],
            similar: vec![SimilarImage { image: "x.png".to_owned(), distance: 0.125, labels: vec![Some(true), None] }],
        };
        let predicted = Predicted {
            chestnut: String::new(),
            approach: String::new(),
            settings: String::new(),
            source: String::new(),
            networks: Vec::new(),
            labels: vec!["Edema".to_owned()],
            rules: vec!["Youden".to_owned(), "sensitivity 0.90".to_owned()],
            cohort_labels: vec!["Edema".to_owned(), "PNX".to_owned()],
            images: vec![image],
            refused: vec![Refused { image: "a.txt".to_owned(), reason: "is text".to_owned() }],
            warnings: Vec::new(),
        };
        let expected = "image,status,remark,distance,percentile,Edema_probability,Edema_calibrated,Edema_Youden,\
                        Edema_sensitivity_0.90\na.txt,refused,is text,,,,,,\n\
                        b.png,predicted,\"odd, and far\",0.500000,100.0,0.250000,,yes,\n";
        assert_eq!(csv(&predicted), expected);
        assert_eq!(similar(&predicted), "image,rank,similar_image,distance,Edema,PNX\nb.png,1,x.png,0.125000,1,\n");
        assert!(json(&predicted).expect("plain").contains("\"unusual\": true"));
    }
}
