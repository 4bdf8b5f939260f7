//! Headers as hospitals write them, each with the verdict that a radiographer would give.

use super::*;
use crate::image::{DicomFacts, dicom};

const CR: &str = "1.2.840.10008.5.1.4.1.1.1";
const DX: &str = "1.2.840.10008.5.1.4.1.1.1.1";

/// The facts of a DICOM header with these attributes, by way of the reader itself.
fn header(attributes: &[(&str, &str)]) -> DicomFacts {
    let mut elements: Vec<(u32, Vec<u8>)> = vec![(0x0008_0005, b"ISO_IR 192".to_vec())];
    for (name, value) in attributes {
        let tag = match *name {
            "type" => 0x0008_0008,
            "class" => 0x0008_0016,
            "modality" => 0x0008_0060,
            "conversion" => 0x0008_0064,
            "intent" => 0x0008_0068,
            "study" => 0x0008_1030,
            "series" => 0x0008_103E,
            "part" => 0x0018_0015,
            "protocol" => 0x0018_1030,
            "view" => 0x0018_5101,
            "orientation" => 0x0020_0020,
            "samples" => 0x0028_0002,
            "photometric" => 0x0028_0004,
            "frames" => 0x0028_0008,
            "burnt" => 0x0028_0301,
            other => panic!("no attribute {other}"),
        };
        let mut bytes = value.as_bytes().to_vec();
        if tag == 0x0028_0002 {
            bytes = value.parse::<u16>().expect("a number").to_le_bytes().to_vec();
        } else if bytes.len() % 2 == 1 {
            bytes.push(b' ');
        }
        elements.push((tag, bytes));
    }
    elements.sort();
    let mut file = vec![0_u8; 128];
    file.extend_from_slice(b"DICM\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0");
    for (tag, value) in elements {
        file.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
        file.extend_from_slice(&(tag as u16).to_le_bytes());
        file.extend_from_slice(&(value.len() as u32).to_le_bytes());
        file.extend_from_slice(&value);
    }
    dicom::facts(&file).expect("a header")
}

/// What is expected: a projection (empty for unknown), or a part of the reason.
enum Is {
    /// Taken without remark.
    Taken(&'static str),
    /// Taken with a remark that has this part.
    Flagged(&'static str, &'static str),
    Refused(&'static str),
}
use Is::{Flagged, Refused, Taken};

fn check(rules: &SelectionRules, attributes: &[(&str, &str)], table_view: Option<&str>, expected: &Is) {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for default in [("class", CR), ("modality", "CR"), ("samples", "1"), ("photometric", "MONOCHROME2")] {
        if !attributes.iter().any(|(name, _)| *name == default.0) {
            all.push(default);
        }
    }
    all.extend(attributes.iter().filter(|(_, value)| !value.is_empty()));
    let verdict = rules.judge(&header(&all), table_view);
    let fits = match (&verdict, expected) {
        (Verdict::Take { view, flags }, Taken(wanted)) => view.as_deref().unwrap_or("") == *wanted && flags.is_empty(),
        (Verdict::Take { view, flags }, Flagged(wanted, part)) => {
            view.as_deref().unwrap_or("") == *wanted && flags.len() == 1 && flags[0].contains(part)
        }
        (Verdict::Refuse { reason }, Refused(part)) => reason.contains(part),
        _ => false,
    };
    assert!(fits, "{attributes:?}, table {table_view:?}: {verdict:?}");
}

#[test]
fn headers_of_many_hospitals() {
    let cases: &[(&[(&str, &str)], Is)] = &[
        // ViewPosition as the standard has it, and as it comes.
        (&[("class", DX), ("modality", "DX"), ("part", "CHEST"), ("view", "PA")], Taken("PA")),
        (&[("part", "CHEST"), ("view", "AP")], Taken("AP")),
        (&[("part", "THORAX"), ("view", "AP Supine")], Taken("AP Supine")),
        (&[("part", "Chest"), ("view", "antero-posterior")], Taken("antero-posterior")),
        (&[("part", "CHEST"), ("view", "LL")], Refused("lateral")),
        (&[("part", "CHEST"), ("view", "LATERAL")], Refused("lateral")),
        (&[("part", "CHEST"), ("view", "RLO")], Refused("oblique")),
        (&[("part", "CHEST"), ("view", "LLD")], Refused("decubitus")),
        (&[("part", "CHEST"), ("view", "L")], Refused("lateral")),
        (&[("part", "CHEST"), ("view", "SKYLINE")], Refused("SKYLINE")),
        (&[("part", "CHEST"), ("view", "")], Taken("")),
        // The series text of eight languages.
        (&[("part", "CHEST"), ("series", "AP")], Taken("AP")),
        (&[("part", "CHEST"), ("series", "W Chest PA")], Taken("PA")),
        (&[("part", "PORT CHEST"), ("series", "CHEST PORTABLE 1 VIEW")], Taken("portable")),
        (&[("part", "CHEST"), ("series", "Chest AP portable")], Taken("AP")),
        (&[("part", "TORACE"), ("series", "TORACE A LETTO")], Taken("portable")),
        (&[("part", "TORACE"), ("series", "RX TORACE LL")], Refused("lateral")),
        (&[("series", "Torace postero-anteriore")], Taken("PA")),
        (&[("part", "THORAX"), ("series", "Thorax a.p. liegend")], Taken("AP")),
        (&[("series", "Thorax Bettaufnahme")], Taken("portable")),
        (&[("series", "Bettlunge ap")], Taken("AP")),
        (&[("series", "Thoraxübersicht seitl.")], Refused("seitl")),
        (&[("part", "THORAX"), ("series", "Thorax de face")], Taken("frontal")),
        (&[("part", "THORAX"), ("series", "Thorax au lit")], Taken("portable")),
        (&[("part", "POUMONS"), ("series", "Profil gauche")], Refused("profil")),
        (&[("series", "Tórax PA de pie")], Taken("PA")),
        (&[("series", "Tórax portátil en cama")], Taken("portable")),
        (&[("series", "RX TORAX PERFIL")], Refused("perfil")),
        (&[("series", "Tórax AP no leito")], Taken("AP")),
        (&[("series", "X-Thorax bedfoto")], Taken("portable")),
        (&[("series", "X-Thorax dwars")], Refused("dwars")),
        (&[("protocol", "Chest PA erect"), ("series", "Chest")], Taken("PA")),
        (&[("study", "XR CHEST PORTABLE")], Taken("portable")),
        // A text that names both says nothing; a decubitus film is none of the paper's.
        (&[("study", "Thorax pa und lateral"), ("series", "Thorax")], Taken("")),
        (&[("part", "CHEST"), ("series", "Chest PA + LAT"), ("view", "PA")], Taken("PA")),
        (&[("part", "CHEST"), ("series", "Chest AP left decubitus")], Refused("decubitus")),
        (&[("part", "CHEST"), ("series", "Torace in decubito supino AP")], Taken("AP")),
        // PatientOrientation.
        (&[("part", "CHEST"), ("orientation", "L\\F")], Taken("frontal")),
        (&[("part", "CHEST"), ("orientation", "R\\F")], Flagged("frontal", "mirrored")),
        (&[("part", "CHEST"), ("orientation", "A\\F")], Refused("lateral")),
        (&[("part", "CHEST"), ("orientation", "P\\F")], Refused("lateral")),
        (&[("part", "CHEST"), ("orientation", "LA\\F")], Refused("oblique")),
        (&[("part", "CHEST"), ("orientation", "L\\P"), ("series", "pa")], Taken("PA")),
        // Contradictions.
        (&[("part", "CHEST"), ("view", "PA"), ("series", "Chest lateral")], Refused("contradicts")),
        (&[("part", "CHEST"), ("view", "PA"), ("orientation", "A\\F")], Refused("contradicts")),
        (&[("part", "CHEST"), ("view", "PA"), ("series", "Chest AP")], Flagged("PA", "different views")),
        (&[("part", "CHEST"), ("view", "PA"), ("study", "Chest lateral")], Taken("PA")),
        (&[("part", "CHEST"), ("series", "Abdomen AP")], Refused("contradicts")),
        // Body parts.
        (&[("part", "HIP"), ("view", "AP")], Refused("\"hip\"")),
        (&[("part", "TSPINE"), ("view", "AP")], Refused("tspine")),
        (&[("part", "UNKNOWN"), ("series", "Thorax p.a.")], Taken("PA")),
        (&[("part", "UNKNOWN"), ("series", "Knie rechts a.p.")], Refused("knie")),
        (&[("part", "GIZMO"), ("view", "PA")], Refused("GIZMO")),
        (&[("part", "GIZMO"), ("view", "PA"), ("series", "Rx torace")], Taken("PA")),
        (&[("view", "PA")], Flagged("PA", "no body part")),
        (&[("view", "AP"), ("series", "Chest and abdomen, newborn")], Flagged("AP", "another body part")),
        (&[("study", "HIP JOINT")], Refused("\"hip\"")),
        // Objects.
        (&[("class", "1.2.840.10008.5.1.4.1.1.7"), ("part", "CHEST"), ("view", "PA")], Refused("secondary capture")),
        (&[("type", "DERIVED\\SECONDARY"), ("conversion", "WSD"), ("part", "CHEST")], Refused("secondary capture")),
        (&[("type", "DERIVED\\PRIMARY"), ("part", "CHEST"), ("view", "PA")], Taken("PA")),
        (&[("class", "1.2.840.10008.5.1.4.1.1.11.1"), ("modality", "PR")], Refused("presentation state")),
        (&[("class", "1.2.840.10008.5.1.4.1.1.88.59"), ("modality", "KO")], Refused("report")),
        (&[("part", "CHEST"), ("frames", "30")], Refused("30 frames")),
        (&[("part", "CHEST"), ("frames", "1"), ("view", "PA")], Taken("PA")),
        (&[("part", "CHEST"), ("samples", "3"), ("photometric", "RGB")], Refused("colour")),
        (&[("part", "CHEST"), ("view", "PA"), ("intent", "FOR PROCESSING")], Flagged("PA", "FOR PROCESSING")),
        (&[("part", "CHEST"), ("view", "AP"), ("burnt", "YES")], Flagged("AP", "burnt-in")),
        (&[("modality", "CT"), ("part", "CHEST")], Refused("CT")),
        (&[("modality", "OT"), ("part", "CHEST"), ("view", "PA")], Flagged("PA", "modality")),
        (&[("modality", ""), ("part", "CHEST"), ("view", "PA")], Flagged("PA", "no modality")),
    ];
    let rules = SelectionRules::default();
    assert!(cases.len() >= 60);
    for (attributes, expected) in cases {
        check(&rules, attributes, None, expected);
    }
}

#[test]
fn the_table_is_believed_more_than_the_header() {
    let rules = SelectionRules::default();
    check(&rules, &[("part", "CHEST"), ("view", "LL")], Some("PA"), &Flagged("PA", "the table was believed"));
    check(&rules, &[("part", "CHEST"), ("view", "AP")], Some("AP Supine"), &Taken("AP Supine"));
    check(&rules, &[("part", "CHEST"), ("view", "PA")], Some("laterale"), &Refused("lateral"));
    check(&rules, &[("part", "CHEST"), ("view", "PA")], Some("a letto"), &Taken("a letto"));
    check(&rules, &[("part", "CHEST"), ("view", "PA")], Some("unknown"), &Taken("PA"));
}

#[test]
fn what_is_not_asked_about_is_not_judged() {
    let any = SelectionRules::default().with_any_view(true).with_any_body_part(true).with_secondary_captures();
    check(&any, &[("part", "HIP"), ("view", "LL")], None, &Taken("LL"));
    check(&any, &[("part", "HIP"), ("series", "lateral")], None, &Taken("lateral"));
    check(&any, &[("class", "1.2.840.10008.5.1.4.1.1.7"), ("view", "AP")], None, &Flagged("AP", "secondary captures"));
}

#[test]
fn rules_can_be_edited_and_faults_are_named() {
    let edited = |from: &str, to: &str| {
        assert!(DEFAULT_RULES.contains(from), "{from}");
        SelectionRules::from_toml(&DEFAULT_RULES.replacen(from, to, 1))
    };
    let flagging = edited("contradiction = \"refuse\"", "contradiction = \"flag\"").expect("valid");
    let attributes = [("part", "CHEST"), ("view", "PA"), ("series", "Chest lateral")];
    check(&flagging, &attributes, None, &Flagged("PA", "different views"));
    let without = edited("\"ViewPosition\", ", "").expect("valid");
    check(&without, &attributes, None, &Refused("SeriesDescription"));
    let czech = edited("it = [\"a letto\"", "cs = [\"na lůžku\"]\nit = [\"a letto\"").expect("valid");
    check(&czech, &[("part", "CHEST"), ("series", "plice na luzku")], None, &Taken("portable"));

    for (from, to, part) in [
        ("contradiction = \"refuse\"", "contradiction = \"maybe\"", "contradiction"),
        ("evidence = [", "colour = 1\nevidence = [", "colour"),
        ("\"ViewPosition\", ", "\"ViewName\", ", "ViewName"),
        ("codes = [\"LAT\"", "codes = [\"PA\"", "two meanings"),
        ("\"chest\", ", "\"chest\", \"hip\", ", "\"hip\""),
        ("\"chest\", ", "\"chest\", \"*\", ", "\"*\""),
        ("[\"CR\", \"DX\", \"RG\"]", "[]", ""),
    ] {
        let result = edited(from, to);
        if part.is_empty() {
            assert!(result.is_ok(), "OT alone may be wanted");
            continue;
        }
        let error = result.expect_err(to).to_string();
        assert!(error.contains(part), "{to}: {error}");
    }
    assert!(SelectionRules::from_toml("").is_err(), "every field must be there");
    assert!(SelectionRules::from_toml(&" ".repeat(MAX_RULES_BYTES + 1)).is_err());
}

#[test]
fn reasons_quote_no_free_text() {
    let facts = header(&[("class", CR), ("modality", "CR"), ("part", "CHEST"), ("series", "Rossi Maria lateral knee")]);
    let Verdict::Refuse { reason } = SelectionRules::default().judge(&facts, None) else { panic!("not refused") };
    assert!(!reason.contains("Rossi"), "{reason}");
}
