//! Tests of the labels table: usual tables, hospital tables, bad values, columns.

use super::*;

fn parse(text: &str, set: &LabelSet) -> Result<LabelTable, CohortError> {
    parse_labels("labels.csv", text.as_bytes(), set, &ColumnNames::default())
}

#[test]
fn a_usual_table() {
    let text = "Image Index;Patient ID;View Position;Patient Age;Patient Gender;No_Finding;PNX\n\
                a.png; 7 ;AP Supine;058Y;male;1;0.0\n\
                b.png;;;;;0; \n";
    let table = parse(text, &LabelSet::new("s", &["PNX", "No Finding"])).expect("a table");
    assert!(table.has_patients && table.refused.is_empty() && table.warnings.is_empty());
    let first = &table.rows[0];
    assert_eq!((first.row, first.key.as_str(), first.patient.as_deref()), (2, "a.png", Some("7")));
    assert_eq!((first.view.as_deref(), first.sex, first.age_years), (Some("AP Supine"), Some('M'), Some(58.0)));
    assert_eq!(first.labels, [Label::Negative, Label::Positive]);
    let second = &table.rows[1];
    assert_eq!((second.patient.as_deref(), second.view.as_deref(), second.sex), (None, None, None));
    assert_eq!(second.labels, [Label::Unknown, Label::Negative], "a blank is unknown, not negative");
}

#[test]
fn a_bad_value_refuses_its_row_only_and_is_named() {
    let set = LabelSet::new("s", &["PNX"]);
    let table = parse("file,PNX\na,1\nb,2\nc,perhaps\nd,inf\n,1\ne,-1\nf,0\n", &set).expect("a table");
    assert_eq!(table.rows.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), ["a", "f"]);
    let rows: Vec<u64> = table.refused.iter().map(|r| r.row).collect();
    assert_eq!(rows, [3, 4, 5, 6, 7]);
    let reason = &table.refused[0].reason;
    assert!(["labels.csv row 3", "column PNX", "\"2\""].iter().all(|part| reason.contains(part)), "{reason}");
    assert!(!table.has_patients);
}

#[test]
fn blank_and_uncertain_follow_the_policy() {
    let mut set = LabelSet::new("s", &["A", "B"]);
    set.blank = BlankPolicy::Negative;
    set.blank_for.insert("B".to_owned(), BlankPolicy::Exclude);
    set.uncertain = UncertainPolicy::Positive;
    let table = parse("image,A,B\nx,,-1.0\ny,1,\n", &set).expect("a table");
    assert_eq!(table.rows.len(), 1);
    assert_eq!(table.rows[0].labels, [Label::Negative, Label::Positive]);
    assert!(table.refused[0].reason.contains("column B"));
}

#[test]
fn columns_that_are_missing_or_named() {
    let set = LabelSet::new("s", &["A"]);
    let error = parse("picture,A\nx,1\n", &set).expect_err("no key column");
    assert!(error.to_string().contains("--key") && error.to_string().contains("picture"), "{error}");
    let names = ColumnNames { key: Some("Picture".to_owned()), ..ColumnNames::default() };
    let table = parse_labels("t", b"picture,A\nx,1\n", &set, &names).expect("named");
    assert_eq!(table.rows[0].key, "x");
    let error = parse("image,B\nx,1\n", &set).expect_err("no label column");
    assert!(error.to_string().contains("\"A\""), "{error}");
}

#[test]
fn odd_ages_and_sexes_are_unknown_and_counted() {
    let set = LabelSet::new("s", &["A"]);
    let table = parse("image,age,sex,A\nx,414,?!x,1\ny,-3,F,1\nz,006M,,1\n", &set).expect("a table");
    assert_eq!(table.rows.iter().map(|r| r.age_years).collect::<Vec<_>>(), [None, None, Some(0.5)]);
    assert_eq!(table.warnings.len(), 2, "{:?}", table.warnings);
}

#[test]
fn words_in_several_languages_and_spellings() {
    let set = LabelSet::new("s", &["A", "B"]);
    let text =
        "file;A;B\na;S\u{ec};no\nb;JA;Nein\nc;oui;NON\nd;POS.;neg\ne;VERO;falso\nf;x;absent\ng;+;\u{2212}\nh;NA;-\n";
    let table = parse(text, &set).expect("a table");
    assert_eq!(table.refused.iter().map(|r| r.row).collect::<Vec<_>>(), [5], "a word with a dot is another word");
    let labels: Vec<&[Label]> = table.rows.iter().map(|r| r.labels.as_slice()).collect();
    assert!(labels[..6].iter().all(|l| *l == [Label::Positive, Label::Negative]), "{labels:?}");
    assert_eq!(labels[6], [Label::Unknown, Label::Negative]);
    // Ready-made sets know numbers only, as before.
    let lone = LabelSet { labels: vec!["A".to_owned()], ..LabelSet::hum_cxr() };
    let reason = parse("file,A\na,yes\n", &lone).expect("a table").refused[0].reason.clone();
    assert!(
        ["\"yes\"", "neither 0, 1 nor blank", "[values]", "--label-set"].iter().all(|p| reason.contains(p)),
        "{reason}"
    );
}

#[test]
fn a_dash_without_a_plus_says_nothing() {
    let mut set = LabelSet::new("s", &["A"]);
    let table = parse("file,A\na,-\nb,x\n", &set).expect("a table");
    assert!(table.refused[0].reason.contains("not read"), "{:?}", table.refused);
    set.values.unknown.push("-".to_owned());
    assert_eq!(parse("file,A\na,-\nb,x\n", &set).expect("a table").rows[0].labels, [Label::Unknown]);
    assert_eq!(parse("file,A\na,-\nb,+\n", &set).expect("a table").rows[0].labels, [Label::Unknown], "own words win");
}

#[test]
fn own_codes_and_undecided_words() {
    let mut set = LabelSet::new("s", &["A"]);
    set.values.positive = vec!["2".to_owned()];
    set.values.negative = vec!["1".to_owned()];
    let table = parse("file,A\na,2\nb,1\nc,possible\n", &set).expect("a table");
    assert_eq!((table.rows[0].labels[0], table.rows[1].labels[0]), (Label::Positive, Label::Negative));
    assert!(table.refused[0].reason.contains("needs a policy"), "{:?}", table.refused);
    set.uncertain = UncertainPolicy::Unknown;
    assert_eq!(parse("file,A\nc,possible\n", &set).expect("a table").rows[0].labels, [Label::Unknown]);
}

#[test]
fn decimal_commas_where_commas_do_not_separate() {
    let set = LabelSet::new("s", &["A", "B"]);
    let table = parse("file;age;A;B\na;63,5;1,0;0,0\nb;1,2,3;-1;1\n", &set).expect("a table");
    assert_eq!(
        (table.rows[0].age_years, table.rows[0].labels.as_slice()),
        (Some(63.5), &[Label::Positive, Label::Negative][..])
    );
    assert_eq!(table.refused.len(), 1);
    let table = parse("file,A,B\na,\"1,0\",0\n", &set).expect("a table");
    assert!(table.rows.is_empty(), "a quoted comma is no decimal comma");
}

#[test]
fn a_spreadsheet_export_as_hospitals_have_it() {
    let text = "sep=;\r\nAccession No.;PatientID;Et\u{e0};Sesso;Note;Pleura;;\r\n\
                00123;P1;63,5;Donna;\"two\nlines; one cell\";s\u{ec};;\r\n;;;;;;;\r\n00124;P2;7;M;;no;;\r\n;;;;;;;\r\n";
    let little: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    // All letters here are Latin-1.
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    let set = LabelSet::new("s", &["Pleura"]);
    let names =
        ColumnNames { sex: Some("Sesso".to_owned()), age: Some("Et\u{e0}".to_owned()), ..ColumnNames::default() };
    for (content, warned) in [(text.as_bytes(), false), (&little[..], false), (&latin[..], true)] {
        let table = parse_labels("t.csv", content, &set, &names).expect("a table");
        assert_eq!(
            (table.key_kind, table.has_patients, table.warnings.len()),
            (KeyKind::Accession, true, usize::from(warned))
        );
        assert!(table.refused.is_empty(), "{:?}", table.refused);
        let rows: Vec<_> =
            table.rows.iter().map(|r| (r.row, r.key.as_str(), r.sex, r.age_years, r.labels[0])).collect();
        let wanted =
            [(3, "00123", Some('F'), Some(63.5), Label::Positive), (6, "00124", Some('M'), Some(7.0), Label::Negative)];
        assert_eq!(rows, wanted);
    }
}

#[test]
fn a_patient_id_can_be_the_key() {
    let set = LabelSet::new("s", &["A"]);
    let table = parse("PatientID,A\n7,1\n,1\n", &set).expect("a table");
    assert_eq!((table.key_kind, table.rows[0].patient.as_deref()), (KeyKind::PatientId, Some("7")));
    assert!(table.refused[0].reason.contains("no patient id in column PatientID"), "{:?}", table.refused);
}
