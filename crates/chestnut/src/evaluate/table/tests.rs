//! Every form of the table: what it must show, and that it fits.

use super::*;
use crate::evaluate::LabelScore;
use crate::report::example;

/// The example with other labels, all of them estimable.
fn with_labels(names: &[&str]) -> Comparison {
    let mut c = example::comparison();
    c.labels = names.iter().map(|n| (*n).to_owned()).collect();
    for m in &mut c.methods {
        let old = m.labels.clone();
        m.labels = (0..names.len()).map(|k| LabelScore { label: names[k].to_owned(), ..old[k % 3].clone() }).collect();
        if let Some(spread) = &mut m.spread {
            let old = spread.labels.clone();
            spread.labels = (0..names.len()).map(|k| old[k % 3]).collect();
        }
    }
    c
}

#[test]
fn seven_labels_fit_one_block() {
    let mut c = with_labels(&["Normal", "Cardiac", "Lung", "PNX", "Pleura", "Bone", "Device"]);
    c.methods[0].source = "inceptionresnetv2".to_owned();
    let text = terminal(&c);
    assert!(text.lines().all(|l| count(l) <= WIDTH), "{text}");
    // One header in the table of AUCs and one in the table of spreads.
    let headers: Vec<&str> = text.lines().filter(|l| l.contains("Normal") && l.contains("Device")).collect();
    assert_eq!(headers.len(), 2, "{text}");
    assert!(text.contains("Over 3 splits"), "{text}");
}

#[test]
fn many_long_labels_are_wrapped_and_spelled_out() {
    let names: Vec<String> = (0..20).map(|i| format!("{i} Enlarged Cardiomediastinum")).collect();
    let text = terminal(&with_labels(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(text.lines().all(|l| count(l) <= WIDTH), "{text}");
    let unwrapped = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(names.iter().all(|n| unwrapped.contains(&format!("= {n}"))), "{text}");
}

#[test]
fn few_and_not_estimable_are_marked_and_explained() {
    let c = example::comparison();
    let text = terminal(&c);
    for needle in ["PNX*", "60/114", "n.e.", "* fewer than 10", "no positive image in the test part"] {
        assert!(text.contains(needle), "{needle}: {text}");
        assert!(markdown(&c).contains(&needle.replace('/', " / ").replace('*', "\\*")), "{needle}");
    }
    assert!(markdown(&c).contains("&lt;b>"));
}

#[test]
fn csv_reads_back() {
    let c = example::comparison();
    let text = csv(&c);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<::csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("equal lengths");
    // Four labels and two means for each of four methods.
    assert_eq!(rows.len(), 4 * 6);
    assert_eq!((&rows[3][2], &rows[3][6]), ("Bone, \"old\"", ""));
    assert!(rows[3][9].contains("not estimable"));
    assert_eq!(rows[0][6].parse::<f64>().ok(), c.methods[0].labels[0].auc);
    assert_eq!((&rows[4][2], &rows[5][2]), ("mean", "mean_without_few"));
    assert_eq!(rows[4][6].parse::<f64>().ok(), c.methods[0].mean_auc);
    let spread = spread_csv(&c);
    let rows = ::csv::Reader::from_reader(spread.as_bytes()).into_records().count();
    assert_eq!(rows, 4 * 5);
}

#[test]
fn what_few_splits_can_estimate_says_so() {
    let mut c = example::comparison();
    let spread = c.methods[0].spread.as_mut().expect("three splits");
    spread.labels[0] = Some(Repeated { n: 1, mean: 0.95, sd: None, min: 0.95, max: 0.95 });
    spread.left_out = vec!["Normal".to_owned()];
    let text = terminal(&c);
    for needle in [".95\u{b1}n.e.", ".95-.95, 1 of 3", "The mean over splits (in 1 of 4 rows) is without Normal,"] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
    let csv = spread_csv(&c);
    let mut rows = ::csv::Reader::from_reader(csv.as_bytes()).into_records().map(|r| r.expect("equal lengths"));
    let label = rows.next().expect("a label");
    assert_eq!(label.iter().collect::<Vec<_>>()[2..10], ["Normal", "3", "1", "0.95", "", "0.95", "0.95", ""]);
    let mean = rows.find(|r| &r[2] == "mean").expect("the mean");
    assert_eq!((&mean[4], &mean[9]), ("3", "Normal"));
}

#[test]
fn a_split_by_image_marks_every_table() {
    let mut c = example::comparison();
    c.unit = "image".to_owned();
    assert!(terminal(&c).starts_with("SPLIT BY IMAGE") && markdown(&c).starts_with("**SPLIT BY IMAGE"));
    for text in [csv(&c), spread_csv(&c)] {
        assert!(text.lines().skip(1).all(|l| l.ends_with(",image") && l.contains("SPLIT BY IMAGE")), "{text}");
    }
    // A mark of its own stands in every table instead.
    c.marks = vec!["AS PUBLISHED: not to be compared.".to_owned()];
    for text in [terminal(&c), markdown(&c), notes(&c).join("\n")] {
        assert!(text.contains("AS PUBLISHED: not to be compared.") && !text.contains("SPLIT BY"), "{text}");
    }
    for text in [csv(&c), spread_csv(&c)] {
        assert!(text.lines().skip(1).all(|l| l.contains(",AS PUBLISHED: not to be compared.,")), "{text}");
    }
}

#[test]
fn nothing_compared_is_no_crash() {
    let mut c = example::comparison();
    c.methods.clear();
    assert!(terminal(&c).contains("Normal") && csv(&c).lines().count() == 1 && spread_csv(&c).lines().count() == 1);
}

#[test]
fn decimals_as_in_the_paper() {
    assert_eq!([0.853, 0.998, 1.0, 0.0].map(decimal), [".85", "1.00", "1.00", ".00"]);
}
