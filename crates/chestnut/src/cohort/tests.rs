//! Tests of the cohort: its files there and back, tampered ones, counts. Other tests take their images from here.

use super::*;

/// An image with its patient and labels (`+` positive, `-` negative, anything else unknown).
pub(crate) fn image(id: &str, patient: &str, labels: &str) -> CohortImage {
    let label = |c| match c {
        '+' => Label::Positive,
        '-' => Label::Negative,
        _ => Label::Unknown,
    };
    CohortImage {
        id: id.to_owned(),
        row: 2,
        patient: patient.to_owned(),
        view: None,
        age_years: None,
        sex: None,
        manufacturer: None,
        width: 4,
        height: 3,
        bits: 8,
        format: "PNG".to_owned(),
        sha256: format!("hash of {id}"),
        labels: labels.chars().map(label).collect(),
    }
}

fn cohort() -> Cohort {
    let mut second = image("sub/b, \"quoted\".dcm", "P2", "? ");
    second.view = Some("AP Supine".to_owned());
    second.age_years = Some(0.25);
    second.sex = Some('F');
    second.manufacturer = Some("Philips; Hamburg".to_owned());
    Cohort {
        label_names: vec!["Pleura".to_owned(), "No Finding".to_owned()],
        images: vec![image("a.png", "P1", "+-"), second],
        rejects: vec![
            Reject { item: "c.png".into(), row: Some(9), stage: Stage::Row, reason: "two\nlines".into() },
            Reject { item: "d.png".into(), row: None, stage: Stage::Read, reason: "truncated".into() },
        ],
        warnings: Vec::new(),
    }
}

#[test]
fn csv_round_trip() {
    let before = cohort();
    let after = Cohort::from_csv(&before.to_csv(), &before.rejects_to_csv()).expect("reads back");
    assert_eq!(before, after);
    let empty = Cohort { label_names: before.label_names, ..Cohort::default() };
    assert_eq!(Cohort::from_csv(&empty.to_csv(), &empty.rejects_to_csv()).expect("reads back"), empty);
    // Semicolons in a name do not change how the file is read.
    let odd = Cohort { label_names: vec![";".repeat(40)], images: vec![image("a", "1", "+")], ..Cohort::default() };
    assert_eq!(Cohort::from_csv(&odd.to_csv(), &odd.rejects_to_csv()).expect("reads back"), odd);
}

#[test]
fn a_tampered_file_is_named_with_its_row_and_column() {
    let good = cohort();
    let text = good.to_csv().replace("hash of a.png,1,0", "hash of a.png,2,0");
    let error = Cohort::from_csv(&text, &good.rejects_to_csv()).expect_err("2 is no label");
    let message = error.to_string();
    assert!(message.contains("cohort.csv row 2") && message.contains("Pleura"), "{message}");
    let error = Cohort::from_csv(&good.to_csv(), "item,row,stage,reason\na,,nowhere,x\n");
    assert!(error.expect_err("no such stage").to_string().contains("rejects.csv row 2"));
    let swapped = good.to_csv().replace("a.png,2,P1", "z.png,2,P1");
    assert!(Cohort::from_csv(&swapped, &good.rejects_to_csv()).is_err(), "ids must be sorted");
    assert!(Cohort::from_csv("image,patient\n", &good.rejects_to_csv()).is_err());
}

#[test]
fn counts() {
    let cohort = cohort();
    assert_eq!(cohort.patients(), 2);
    assert_eq!(cohort.label_counts(0), (1, 0, 1));
    assert_eq!(cohort.label_counts(1), (0, 1, 1));
}
