//! Labels tables as hospitals have them: spreadsheet exports, words, and rows that name a study instead of a file.
//!
//! Each variant must give the cohort that the plain table gives, or say what is in the way.

#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;

use chestnut::image::dicom::uid_from;
use common::{Scratch, with_cell};

/// The labels in the order in which they are found without being named.
const SEVEN: &str = "Pleura,Device,PNX,Cardiac,Lung,Bone,Normal";

fn dicom_phantoms() -> Scratch {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "12", "--size", "96", "--dicom", "-o", "phantom"]).ends(0);
    s
}

/// The cohort of a study without the numbers of the table's rows.
fn cohort(s: &Scratch, study: &str) -> Vec<Vec<String>> {
    let mut rows = s.table(&format!("{study}/cohort.csv"));
    for row in &mut rows {
        row.remove(1);
    }
    rows
}

/// What the plain table gives.
fn plain(s: &Scratch) -> Vec<Vec<String>> {
    s.ingest("phantom/labels.csv", "plain").ends(0);
    cohort(s, "plain")
}

/// The plain table with its label cells spelled anew.
fn spelled(s: &Scratch, present: &str, absent: &str) -> Vec<String> {
    let mut lines = s.label_lines();
    for line in &mut lines[1..] {
        for column in 5..12 {
            let value = if line.split(',').nth(column) == Some("1") { present } else { absent };
            *line = with_cell(line, column, value);
        }
    }
    lines
}

/// The UID that a phantom's file has for its study.
fn study_uid(line: &str) -> String {
    let file = line.split(',').next().unwrap_or("");
    uid_from("study", file.trim_end_matches(".dcm"))
}

/// Semicolons, `sep=`, decimal commas, Windows line ends, an empty column and an empty row at the end.
fn excel(lines: &[String]) -> String {
    let mut text = String::from("sep=;\r\n");
    for line in lines {
        text += &line.replace(',', ";").replace('#', ",");
        text += ";\r\n";
    }
    text + &";".repeat(12) + "\r\n"
}

#[test]
fn a_spreadsheet_export_gives_the_same_cohort() {
    let s = Scratch::with_phantoms();
    let wanted = plain(&s);
    // A note with an accent makes the encodings differ.
    let mut lines = spelled(&s, "1#0", "0#0");
    lines[0] += ",Perch\u{e9}";
    for line in &mut lines[1..] {
        *line += ",pi\u{f9} tardi";
    }
    let text = excel(&lines);
    let utf16 = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let windows = text.chars().map(|c| c as u8).collect::<Vec<u8>>();
    for (name, bytes) in [("utf8", text.as_bytes()), ("utf16", &utf16[..]), ("windows", &windows[..])] {
        s.write(&format!("{name}.csv"), bytes);
        let run = s.ingest(&format!("{name}.csv"), name).ends(0);
        assert_eq!(run.text().contains("Windows-1252"), name == "windows", "a guess is said\n{run}");
        assert!(cohort(&s, name) == wanted, "{name}");
    }
    s.write("labels.xlsx", b"PK\x03\x04\x14\0\x06\0");
    s.ingest("labels.xlsx", "workbook").fails_saying(&["labels.xlsx", "workbook", "CSV UTF-8", "LibreOffice"]);
}

#[test]
fn words_mean_what_the_label_set_says() {
    let s = Scratch::with_phantoms();
    let wanted = plain(&s);
    let labels = SEVEN.split(',').map(|l| format!("{l:?}")).collect::<Vec<_>>().join(", ");
    let set = format!("name = \"ward\"\nlabels = [{labels}]\n[values]\npositive = [\"nachweisbar\"]\n");
    s.write("ward.toml", set.as_bytes());
    let base = ["ingest", "phantom/images", "--keep-ids", "--labels", "words.csv", "-o"];
    for (study, present, absent) in
        [("german", "Nachweisbar", "nein"), ("italian", "S\u{ec}", "No"), ("sign", "+", "-")]
    {
        s.write("words.csv", spelled(&s, present, absent).join("\n").as_bytes());
        s.chestnut(&[&base[..], &[study, "--label-set", "ward.toml"]].concat()).ends(0);
        assert!(cohort(&s, study) == wanted, "{study}");
    }
    s.chestnut(&[&base[..], &["columns", "--labels-columns", SEVEN]].concat()).ends(0);
    assert!(cohort(&s, "columns") == wanted, "without a file the common words are known");
    // A word that nobody explained refuses its row, and the message says where to explain it.
    let mut lines = spelled(&s, "+", "-");
    lines[3] = with_cell(&lines[3], 7, "boh");
    s.write("words.csv", lines.join("\n").as_bytes());
    s.chestnut(&[&base[..], &["strange", "--label-set", "ward.toml"]].concat()).ends(2).says(&["11 images"]);
    let rejects = s.rejects("strange");
    for part in ["words.csv row 4", "column Lung", "\"boh\"", "[values]"] {
        assert!(rejects.iter().any(|r| r.stage == "row" && r.reason.contains(part)), "{part}");
    }
}

#[test]
fn one_row_per_study() {
    let s = dicom_phantoms();
    let wanted = plain(&s);
    let mut lines = s.label_lines();
    lines[0] = with_cell(&lines[0], 0, "Study Instance UID");
    for line in &mut lines[1..] {
        *line = with_cell(line, 0, &study_uid(line));
    }
    s.write("studies.csv", lines.join("\n").as_bytes());
    s.ingest("studies.csv", "study").ends(0);
    assert!(cohort(&s, "study") == wanted);

    // A study that is not there, and so an image without a row. No message shows a UID.
    let gone = "1.2.840.99999.12345";
    lines[3] = with_cell(&lines[3], 0, gone);
    s.write("studies.csv", lines.join("\n").as_bytes());
    let run = s.ingest("studies.csv", "study").ends(2).says(&["11 images", "2 items were refused"]);
    let rejects = s.rejects("study");
    let row = rejects.iter().find(|r| r.stage == "row").expect("the row is refused");
    assert_eq!((row.item.as_str(), row.row.as_str()), ("row 4", "4"));
    assert!(row.reason.contains("no image has its StudyInstanceUID"), "{}", row.reason);
    assert!(rejects.iter().any(|r| r.stage == "labels" && r.reason.contains("no row of studies.csv")));
    let written = format!("{}{}{}", run.text(), s.text("study/rejects.csv"), s.text("study/cohort.csv"));
    assert!(!written.contains(gone) && !written.contains("2.25."), "{written}");
}

#[test]
fn a_patient_with_several_studies_needs_a_finer_key() {
    let s = dicom_phantoms();
    let lines = s.label_lines();
    let mut images: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &lines[1..] {
        images.entry(line.split(',').nth(1).expect("a patient")).or_default().push(line);
    }
    let single = images.values().filter(|rows| rows.len() == 1).count();
    assert!(single > 1 && single < images.len(), "some patients must have one study and some several");
    // One row per patient, no file names.
    let mut text = lines[0].split_once(',').expect("columns").1.to_owned();
    for rows in images.values() {
        text += "\n";
        text += rows[0].split_once(',').expect("cells").1;
    }
    s.write("patients.csv", text.as_bytes());
    // Pseudonyms, as is the default: then no patient id may be anywhere.
    let args = ["ingest", "phantom/images", "--labels", "patients.csv", "-o", "study"];
    let run = s.chestnut(&args).ends(2).says(&[&format!("{single} images"), "studies of this patient"]);
    let written = format!("{}{}{}", run.text(), s.text("study/rejects.csv"), s.text("study/cohort.csv"));
    for patient in images.keys() {
        assert!(!written.contains(patient), "{patient} is shown\n{written}");
    }
}
