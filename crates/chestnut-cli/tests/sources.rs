//! Where images come from, and what is done to them, as a user types it: exports, archives, rules, blanking, pixels.

#![allow(missing_docs)]

mod common;

use common::{NET, Scratch, files};
use std::io::{Cursor, Write};

/// A zip of these members, deflated.
fn zip_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::write::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in members {
        writer.start_file(name.as_str(), options).expect("a member");
        writer.write_all(bytes).expect("its bytes");
    }
    writer.finish().expect("a zip").into_inner()
}

fn tar_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).expect("a member");
    }
    builder.into_inner().expect("a tar")
}

/// One element of a DICOM data set in explicit little endian.
fn element(bytes: &mut Vec<u8>, tag: (u16, u16), vr: &[u8; 2], value: &[u8]) {
    bytes.extend(tag.0.to_le_bytes());
    bytes.extend(tag.1.to_le_bytes());
    bytes.extend(vr);
    let length = value.len().next_multiple_of(2);
    if vr == b"OB" {
        bytes.extend([0, 0]);
        bytes.extend((length as u32).to_le_bytes());
    } else {
        bytes.extend((length as u16).to_le_bytes());
    }
    bytes.extend(value);
    if value.len() % 2 == 1 {
        bytes.push(if vr == b"UI" || vr == b"OB" { 0 } else { b' ' });
    }
}

/// A chest film of 64 x 64 pixels whose transfer syntax is `syntax`, with some bytes as its compressed stream.
fn compressed(syntax: &str) -> Vec<u8> {
    let mut meta = Vec::new();
    element(&mut meta, (0x0002, 0x0010), b"UI", syntax.as_bytes());
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    element(&mut bytes, (0x0002, 0x0000), b"UL", &(meta.len() as u32).to_le_bytes());
    bytes.extend(meta);
    element(&mut bytes, (0x0008, 0x0016), b"UI", b"1.2.840.10008.5.1.4.1.1.1");
    element(&mut bytes, (0x0008, 0x0060), b"CS", b"CR");
    element(&mut bytes, (0x0018, 0x0015), b"CS", b"CHEST");
    element(&mut bytes, (0x0018, 0x5101), b"CS", b"PA");
    for (number, value) in [(0x0002_u16, 1_u16), (0x0010, 64), (0x0011, 64), (0x0100, 16), (0x0101, 12), (0x0102, 11)] {
        if number == 0x0010 {
            element(&mut bytes, (0x0028, 0x0004), b"CS", b"MONOCHROME2");
        }
        element(&mut bytes, (0x0028, number), b"US", &value.to_le_bytes());
    }
    element(&mut bytes, (0x0028, 0x0103), b"US", &[0, 0]);
    // Pixel data of undefined length: an empty offset table, one fragment, the end.
    bytes.extend([0xE0, 0x7F, 0x10, 0x00]);
    bytes.extend(b"OB\0\0\xFF\xFF\xFF\xFF");
    bytes.extend(b"\xFE\xFF\x00\xE0\0\0\0\0");
    bytes.extend(b"\xFE\xFF\x00\xE0\x10\0\0\0");
    bytes.extend(b"\xFF\x4F\xFF\x51\0\x29\x40\0\0\0\0\0\0\0\0\0");
    bytes.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    bytes
}

#[test]
fn archives_give_the_same_cohort_as_their_folder() {
    let s = Scratch::with_phantoms();
    s.ingest("phantom/labels.csv", "plain").ends(0);
    let expected = s.table("plain/cohort.csv");
    let members: Vec<(String, Vec<u8>)> =
        files(&s.path("phantom/images")).into_iter().map(|(name, bytes)| (format!("disc/{name}"), bytes)).collect();
    assert_eq!(members.len(), 12);
    for (archive, bytes) in [("export.zip", zip_of(&members)), ("export.tar", tar_of(&members))] {
        s.write(archive, &bytes);
        let study = format!("study of {archive}");
        s.chestnut(&["ingest", archive, "--labels", "phantom/labels.csv", "-o", &study, "--keep-ids"]).ends(0);
        let found = s.table(&format!("{study}/cohort.csv"));
        assert_eq!(found.len(), expected.len());
        for (row, true_row) in found[1..].iter().zip(&expected[1..]) {
            assert_eq!(row[0], format!("disc/{}", true_row[0]));
            assert_eq!(row[1..], true_row[1..], "{archive}");
        }
        // Stages after ingest read the archive too.
        s.chestnut(&["embed", &study, "--net", NET]).ends(0).says(&["12 images"]);
        // A cut archive is one refused item or an error that names it, never a short cohort without a word.
        s.write(archive, &bytes[..bytes.len() / 2]);
        let again = s.chestnut(&["ingest", archive, "--labels", "phantom/labels.csv", "-o", "cut", "--keep-ids"]);
        assert!(matches!(again.code, Some(1 | 2)), "{again}");
        assert!(!again.text().contains("panicked"), "{again}");
        let _ = std::fs::remove_dir_all(s.path("cut"));
    }
}

#[test]
fn rules_of_ones_own_decide() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "12", "--size", "96", "--dicom", "-o", "phantom"]).ends(0);
    let rules = s.chestnut(&["ingest", "--print-rules"]).ends(0).out;
    assert!(rules.contains("take = [\"CR\", \"DX\", \"RG\"]"), "{rules}");
    let ingest = ["ingest", "phantom/images", "--labels", "phantom/labels.csv"];
    s.write("rules.toml", rules.as_bytes());
    s.chestnut(&[&ingest[..], &["-o", "same", "--rules", "rules.toml"]].concat()).ends(0).says(&["12 images"]);
    assert_eq!(s.text("same/selection_rules.toml"), rules);
    s.write("rules.toml", rules.replace("[\"CR\", \"DX\", \"RG\"]", "[\"DX\"]").as_bytes());
    let run = s.chestnut(&[&ingest[..], &["-o", "none", "--rules", "rules.toml"]].concat());
    run.fails_saying(&["no image could be used", "rejects.csv"]);
    let rejects = s.rejects("none");
    assert_eq!(rejects.len(), 12);
    assert!(rejects.iter().all(|r| r.stage == "view" && r.reason.contains("the modality is CR")));
    s.write("rules.toml", rules.replace("[modality]", "[modalities]").as_bytes());
    let run = s.chestnut(&[&ingest[..], &["-o", "bad", "--rules", "rules.toml"]].concat());
    run.fails_saying(&["rules.toml", "not valid"]);
}

#[test]
fn blanked_regions_reach_the_network() {
    let s = Scratch::with_phantoms();
    s.write("blank.toml", b"[[region]]\nshare = [0.0, 0.0, 1.0, 0.4]\n");
    s.write("nowhere.toml", b"[[region]]\nmanufacturer = \"another one\"\nshare = [0.0, 0.0, 1.0, 0.4]\n");
    let ingest = ["ingest", "phantom/images", "--labels", "phantom/labels.csv", "--keep-ids"];
    for (study, blank) in [("plain", None), ("blanked", Some("blank.toml")), ("nowhere", Some("nowhere.toml"))] {
        let mut args = ingest.to_vec();
        args.extend(["-o", study]);
        args.extend(blank.iter().flat_map(|file| ["--blank", *file]));
        s.chestnut(&args).ends(0);
    }
    let sheet = |study: &str| s.read(&format!("{study}/contact_sheet.png"));
    assert_ne!(sheet("plain"), sheet("blanked"), "people must see what is blanked");
    assert_eq!(sheet("plain"), sheet("nowhere"), "PNG files name no manufacturer");
    assert!(s.text("blanked/study.toml").contains("share"), "later stages find the rules in the study");
    s.write("blank.toml", b"[[region]]\nshare = [0.0, 0.0, 1.0]\n");
    let run = s.chestnut(&[&ingest[..], &["-o", "bad", "--blank", "blank.toml"]].concat());
    run.fails_saying(&["blank.toml", "not valid"]);
}

#[test]
fn pixels_shows_every_step_of_one_file() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "1", "--size", "96", "--hospital", "B", "--dicom", "-o", "phantom"]).ends(0);
    let (name, bytes) = files(&s.path("phantom/images")).remove(0);
    let path = format!("phantom/images/{name}");
    s.chestnut(&["pixels", &path, "-o", "steps.png"]).ends(0).says(&["DICOM", "stored", "steps.png"]);
    assert!(s.read("steps.png").starts_with(b"\x89PNG"));
    s.chestnut(&["ingest", "--explain", &path]).ends(0).says(&["DICOM", "stored"]);
    assert!(s.has(&format!("{name}.explain.png")));
    s.write("cut.dcm", &bytes[..bytes.len() / 2]);
    s.chestnut(&["pixels", "cut.dcm"]).fails_saying(&["cut.dcm", "truncated DICOM", "copy it again"]);
    s.chestnut(&["pixels", "none.dcm"]).fails_saying(&["none.dcm", "cannot be read"]);
}

#[test]
fn a_transfer_syntax_that_is_not_decoded_is_refused_by_name() {
    let s = Scratch::new();
    s.write("labels.csv", b"image,Pleura\na.dcm,1\n");
    std::fs::create_dir(s.path("images")).expect("a folder");
    for syntax in ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"] {
        s.write("images/a.dcm", &compressed(syntax));
        let ingest = ["ingest", "images", "--labels", "labels.csv", "--labels-columns", "Pleura", "-o", syntax];
        s.chestnut(&ingest).fails_saying(&["no image could be used"]);
        let rejects = s.rejects(syntax);
        assert_eq!((rejects.len(), rejects[0].stage.as_str()), (1, "read"), "{}", rejects[0].reason);
        for part in [syntax, "High-Throughput", "convert it"] {
            assert!(rejects[0].reason.contains(part), "{part:?} is not in {:?}", rejects[0].reason);
        }
    }
}

#[test]
fn a_hospital_export_is_made_and_read() {
    let s = Scratch::new();
    let export = ["phantom", "--hospital-export", "120", "-n", "6", "--size", "128", "-o", "export"];
    s.chestnut(&export).ends(0).says(&["120 files", "truth.csv"]);
    let ingest = ["ingest", "export/images", "--labels", "export/labels.csv", "--label-set", "export/label_set.toml"];
    s.chestnut(&[&ingest[..], &["-o", "study"]].concat()).ends(2);
    let truth = s.table("export/truth.csv");
    let mut used: Vec<&str> = truth[1..].iter().filter(|r| r[1] == "used").map(|r| r[0].as_str()).collect();
    used.sort_unstable();
    let cohort = s.table("study/cohort.csv");
    assert_eq!(cohort[1..].iter().map(|r| r[0].as_str()).collect::<Vec<_>>(), used);
    assert_eq!(s.rejects("study").len(), truth.len() - 1 - used.len());
    s.chestnut(&["phantom", "--hospital-export", "0", "-o", "none"]).fails_saying(&["1 to 30000 files"]);
    s.chestnut(&["phantom", "--hospital-export", "5", "--dicom", "-o", "none"]).ends(1);
}
