//! Bad input, as hospitals have it: whatever is wrong, the message names the file or row and says what to do.
//!
//! One bad item never stops a run (exit code 2 and a row of rejects.csv); a run that cannot go on (exit code 1) leaves
//! what was computed before as it was. Weight files have a test program of their own, `bad_weights.rs`.

#![allow(missing_docs)]

mod common;

use common::{NET, NET_FOLDER, Rejected, Scratch, files, with_cell};

/// Bytes of a PNG chunk.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut body = kind.to_vec();
    body.extend_from_slice(data);
    let mut crc = u32::MAX;
    for &byte in &body {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut bytes = (data.len() as u32).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes.extend((!crc).to_be_bytes());
    bytes
}

/// A PNG that declares `width` x `height` grey pixels and holds none.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IEND", &[])].concat()
}

#[track_caller]
fn reason(rejects: &[Rejected], item: &str, stage: &str) -> String {
    let found: Vec<&Rejected> = rejects.iter().filter(|r| r.item == item && r.stage == stage).collect();
    assert!(!found.is_empty(), "{item} is not refused at stage {stage}");
    found[0].reason.clone()
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn images_that_cannot_be_read_are_refused_one_by_one() {
    let s = Scratch::with_phantoms();
    let good = s.read("phantom/images/A0-00000.png");
    s.chestnut(&["phantom", "-n", "1", "--size", "96", "--seed", "5", "--dicom", "-o", "other"]).ends(0);
    let (_, dicom) = files(&s.path("other/images")).remove(0);
    let (huge, tiny) = (png_header(40_000, 40_000), png_header(8, 8));
    let bad: [(&str, &[u8], &[&str]); 8] = [
        ("cut.png", &good[..good.len() / 2], &["truncated PNG", "copy it again"]),
        ("header.png", &good[..20], &["truncated PNG", "copy it again"]),
        ("huge.png", huge.as_slice(), &["40000 x 40000", "above the limit", "scale it down"]),
        ("tiny.png", tiny.as_slice(), &["8 x 8", "below", "full-size"]),
        ("text.png", b"Name;Vorname\nno picture at all\n", &["is not a PNG, JPEG or DICOM file", "text", "convert"]),
        ("empty.png", b"", &["empty (0 bytes)", "copy it again"]),
        ("cut.dcm", &dicom[..dicom.len() / 2], &["truncated DICOM", "copy it again"]),
        ("start.dcm", &dicom[..200], &["truncated DICOM", "copy it again"]),
    ];
    let mut lines = s.label_lines();
    for (name, bytes, _) in &bad {
        s.write(&format!("phantom/images/{name}"), bytes);
        lines.push(format!("{name},new-{name},PA,50,F,0,0,1,0,0,0,0"));
    }
    // A DICOM file under a wrong extension is no bad file.
    s.write("phantom/images/whole.png", &dicom);
    lines.push("whole.png,new,PA,50,F,0,0,1,0,0,0,0".to_owned());
    s.write("labels.csv", lines.join("\n").as_bytes());

    s.ingest("labels.csv", "study").ends(2).says(&["13 images", "8 items were refused", "rejects.csv", "huge.png"]);
    let rejects = s.rejects("study");
    assert_eq!(rejects.len(), bad.len());
    for (name, _, parts) in &bad {
        assert_says(&reason(&rejects, name, "read"), parts);
    }
    s.chestnut(&["embed", "study", "--net", NET]).ends(0).says(&["13 images"]);
    s.chestnut(&["compare", "study"]).ends(0);
}

#[test]
fn a_row_without_image_and_an_image_without_row() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    lines.push("gone.png,P1,PA,50,F,0,0,1,0,0,0,0".to_owned());
    s.write("labels.csv", lines.join("\n").as_bytes());
    let copy = s.read("phantom/images/A0-00000.png");
    s.write("phantom/images/unlisted.png", &copy);
    s.ingest("labels.csv", "study").ends(2).says(&["12 images", "2 items were refused", "gone.png", "unlisted.png"]);
    let rejects = s.rejects("study");
    assert_eq!(rejects.len(), 2);
    assert_says(&reason(&rejects, "gone.png", "row"), &["labels.csv row 14", "no such image", "remove the row"]);
    assert_says(&reason(&rejects, "unlisted.png", "labels"), &["no row of labels.csv", "add a row"]);
}

#[test]
fn duplicate_rows_identical_and_conflicting() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    lines.push(lines[1].clone());
    let bone = if lines[2].split(',').nth(10) == Some("1") { "0" } else { "1" };
    lines.push(with_cell(&lines[2], 10, bone));
    s.write("labels.csv", lines.join("\n").as_bytes());
    s.ingest("labels.csv", "study").ends(2).says(&["11 images"]);
    let rejects = s.rejects("study");
    assert_says(&reason(&rejects, "A0-00000.png", "row"), &["row 14", "row 2", "kept"]);
    // Nobody can know which of two rows is right: both go, and the image with them.
    assert_eq!(rejects.iter().filter(|r| r.item == "A0-00001.png").count(), 3);
    let parts = ["rows 3 and 15 of labels.csv", "differ in a label", "keep the right one"];
    assert_says(&reason(&rejects, "A0-00001.png", "row"), &parts);
    assert_says(&reason(&rejects, "A0-00001.png", "labels"), &parts);
}

#[test]
fn the_same_picture_twice() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    let copy = s.read("phantom/images/A0-00000.png");
    s.write("phantom/images/copy.png", &copy);
    lines.push(with_cell(&lines[1], 0, "copy.png"));
    s.write("labels.csv", lines.join("\n").as_bytes());
    s.ingest("labels.csv", "study").ends(2).says(&["12 images", "second copies"]);
    assert_says(&reason(&s.rejects("study"), "copy.png", "duplicate"), &["same file as A0-00000.png", "kept"]);
}

#[test]
fn labels_that_are_neither_0_1_nor_blank() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    for (line, value) in [(1, "yes"), (2, "2"), (3, "-1"), (4, "nan"), (5, ""), (6, "1.0")] {
        lines[line] = with_cell(&lines[line], 7, value);
    }
    lines[7] = lines[7].rsplit_once(',').map(|(start, _)| start.to_owned()).expect("a table with commas");
    s.write("labels.csv", lines.join("\n").as_bytes());
    s.ingest("labels.csv", "study").ends(2).says(&["7 images", "neither 0, 1 nor blank"]);
    let rejects = s.rejects("study");
    for (item, row, value) in [("A0-00000.png", 2, "yes"), ("A0-00001.png", 3, "2"), ("A0-00003.png", 5, "nan")] {
        let at = format!("labels.csv row {row}");
        let parts = [at.as_str(), "column Lung", value, "neither 0, 1 nor blank", "correct it"];
        assert_says(&reason(&rejects, item, "row"), &parts);
        let at = format!("row {row} of labels.csv was refused");
        assert_says(&reason(&rejects, item, "labels"), &[at.as_str()]);
    }
    assert_says(&reason(&rejects, "A0-00002.png", "row"), &["row 4", "column Lung", "-1", "uncertain"]);
    assert_says(&reason(&rejects, "A0-00006.png", "row"), &["row 8", "11 fields", "12"]);
    // Blank stays unknown, never 0.
    let cohort = s.table("study/cohort.csv");
    let lung = cohort[0].iter().position(|c| c == "Lung").expect("a label column");
    let cell = |image: &str| cohort.iter().find(|r| r[0] == image).map(|r| r[lung].as_str());
    assert_eq!((cell("A0-00004.png"), cell("A0-00005.png")), (Some(""), Some("1")));
}

#[test]
fn one_class_only_and_nothing_known() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    for line in &mut lines[1..] {
        *line = with_cell(&with_cell(&with_cell(line, 5, "1"), 6, "0"), 7, "");
    }
    s.write("labels.csv", lines.join("\n").as_bytes());
    s.ingest("labels.csv", "study").ends(0).says(&[
        "label Normal has no negative image",
        "label Cardiac has no positive image",
        "label Lung has no known value",
    ]);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s.chestnut(&["compare", "study"]).ends(0).says(&["Pleura", "Normal", "no negative image", "no positive image"]);
    let json = s.compare_json("study");
    let warnings = json["warnings"].to_string();
    assert_says(&warnings, &["Lung has no known value in the training part and is left out"]);
    for label in json["methods"][0]["labels"].as_array().expect("labels") {
        let name = label["label"].as_str().expect("a name");
        assert_ne!(name, "Lung");
        if name == "Normal" || name == "Cardiac" {
            assert!(label["auc"].is_null(), "no made-up AUC: {label}");
            assert_says(label["reason"].as_str().unwrap_or(""), &["not estimable"]);
        }
    }
}

#[test]
fn no_label_known_at_all() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    for line in &mut lines[1..] {
        for column in 5..12 {
            *line = with_cell(line, column, "");
        }
    }
    s.write("labels.csv", lines.join("\n").as_bytes());
    s.ingest("labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s.chestnut(&["compare", "study"]).fails_saying(&["no label has a known value", "ingest"]);
}

#[test]
fn too_few_patients_to_split() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    for (i, line) in lines.iter_mut().enumerate().skip(1) {
        *line = with_cell(line, 1, ["X", "Y", "Z"][i % 3]);
    }
    s.write("labels.csv", lines.join("\n").as_bytes());
    s.ingest("labels.csv", "study").ends(0).says(&["3 patients"]);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    let before = (s.read("study/cohort.csv"), files(&s.path(&format!("study/{NET_FOLDER}"))));
    s.chestnut(&["compare", "study"]).fails_saying(&["3 patients are too few", "at least 4", "add patients"]);
    assert_eq!(before, (s.read("study/cohort.csv"), files(&s.path(&format!("study/{NET_FOLDER}")))));
}

#[test]
fn tables_and_columns_that_are_not_there() {
    let s = Scratch::with_phantoms();
    let header = "image, patient_id, view, age_years, sex, Normal, Cardiac, Lung, PNX, Pleura, Bone, Device";
    let base = ["ingest", "phantom/images", "-o", "study", "--labels"];
    let ingest = |more: &[&str]| s.chestnut(&[&base[..], more].concat());
    ingest(&["none.csv"]).fails_saying(&["none.csv", "--labels"]);
    ingest(&["phantom/labels.csv", "--key", "accession"]).fails_saying(&["labels.csv", "accession", "--key", header]);
    ingest(&["phantom/labels.csv", "--labels-columns", "Nodule"]).fails_saying(&["Nodule", header, "--labels-columns"]);
    ingest(&["phantom/labels.csv", "--label-set", "none.toml"]).fails_saying(&["none.toml", "chexpert", "hum-cxr"]);
    ingest(&["phantom/labels.csv", "--test", "1.5"]).fails_saying(&["--test", "between 0 and 1"]);
    ingest(&["phantom/images/A0-00000.png"]).fails_saying(&["A0-00000.png", "CSV UTF-8"]);
    s.write("empty.csv", b"");
    ingest(&["empty.csv"]).fails_saying(&["empty.csv is empty", "first line"]);
    s.write("other.csv", b"image,Nodule\nA0-00000.png,1\n");
    ingest(&["other.csv"]).fails_saying(&["other.csv", "--labels-columns", "--label-set", "image, Nodule"]);
    let no_folder = ["ingest", "none", "--labels", "phantom/labels.csv", "-o", "study"];
    s.chestnut(&no_folder).fails_saying(&["none", "folder that holds the images"]);
    assert!(!s.has("study/cohort.csv"));
}

#[test]
fn an_output_folder_that_cannot_be_written_to() {
    let s = Scratch::with_study();
    s.write("file", b"");
    // Below a regular file nobody can write, not even the administrator.
    let base = ["ingest", "phantom/images", "--labels", "phantom/labels.csv", "-o"];
    for output in ["file", "file/study"] {
        s.chestnut(&[&base[..], &[output]].concat()).fails_saying(&[output, "cannot write", "-o"]);
    }
    s.chestnut(&["phantom", "-n", "2", "-o", "file/p"]).fails_saying(&["file/p", "cannot write", "-o"]);
    s.chestnut(&["demo", "-n", "2", "-o", "file/d"]).fails_saying(&["file/d", "cannot write", "-o"]);
    let shards = files(&s.path(&format!("study/{NET_FOLDER}")));
    assert_eq!(shards.len(), 1);
    s.write("study/embeddings/seeded-xception", b"");
    s.chestnut(&["embed", "study", "--net", "seeded:xception"])
        .fails_saying(&["study/embeddings/seeded-xception", "cannot write"]);
    assert_eq!(files(&s.path(&format!("study/{NET_FOLDER}"))), shards, "what was computed is still there");
    std::fs::create_dir(s.path("study/split.csv")).expect("a folder in the way");
    s.chestnut(&["compare", "study"]).fails_saying(&["study/split.csv", "cannot write"]);
    std::fs::remove_dir(s.path("study/split.csv")).expect("removed");
    s.chestnut(&["compare", "study"]).ends(0);
}

#[cfg(unix)]
#[test]
fn a_read_only_output_folder() {
    use std::os::unix::fs::PermissionsExt;
    let s = Scratch::with_phantoms();
    std::fs::create_dir(s.path("locked")).expect("a folder");
    std::fs::set_permissions(s.path("locked"), std::fs::Permissions::from_mode(0o555)).expect("locked");
    let may_write = std::fs::write(s.path("locked/probe"), b"").is_ok();
    let run = s.ingest("phantom/labels.csv", "locked/study");
    if may_write {
        // The administrator is not stopped by permissions.
        run.ends(0);
    } else {
        run.fails_saying(&["locked/study", "cannot write", "-o"]);
    }
}

#[test]
fn images_that_change_or_vanish_after_ingest() {
    let s = Scratch::with_phantoms();
    s.ingest("phantom/labels.csv", "study").ends(0);
    let changed = s.read("phantom/images/A0-00001.png");
    s.write("phantom/images/A0-00001.png", &s.read("phantom/images/A0-00002.png"));
    std::fs::rename(s.path("phantom/images/A0-00003.png"), s.path("kept.png")).expect("moved");
    let run = s.chestnut(&["embed", "study", "--net", NET]).ends(2).says(&["10 images"]);
    let about = |image: &str| run.err.lines().find(|l| l.contains(image)).unwrap_or_else(|| panic!("{run}"));
    assert_says(about("A0-00001.png"), &["has changed since it was ingested", "run ingest again"]);
    assert_says(about("A0-00003.png"), &["cannot be read", "check that it exists"]);

    // The others can be compared, and it is said how many are not there.
    s.chestnut(&["compare", "study"]).ends(2).says(&["2 images could not be embedded and are left out"]);

    // Put back, the study is as if nothing had happened.
    s.write("phantom/images/A0-00001.png", &changed);
    std::fs::rename(s.path("kept.png"), s.path("phantom/images/A0-00003.png")).expect("moved back");
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    let resumed = files(&s.path(&format!("study/{NET_FOLDER}")));
    s.ingest("phantom/labels.csv", "fresh").ends(0);
    s.chestnut(&["embed", "fresh", "--net", NET]).ends(0);
    assert_eq!(resumed, files(&s.path(&format!("fresh/{NET_FOLDER}"))));
}

#[test]
fn embeddings_of_an_earlier_cohort_are_not_taken_for_new_ones() {
    let s = Scratch::with_study();
    s.chestnut(&["phantom", "-n", "1", "--size", "96", "--seed", "9", "-o", "other"]).ends(0);
    // Another picture under an old name, properly ingested, but not embedded.
    let (_, other) = files(&s.path("other/images")).remove(0);
    s.write("phantom/images/A0-00001.png", &other);
    s.ingest("phantom/labels.csv", "study").ends(0);
    let command = format!("chestnut embed study --net {NET}");
    s.chestnut(&["compare", "study"]).fails_saying(&["part-00000.parquet", command.as_str()]);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s.chestnut(&["compare", "study"]).ends(0);
}

#[test]
fn damaged_and_missing_shards() {
    let s = Scratch::with_study();
    let shard = format!("study/{NET_FOLDER}/part-00000.parquet");
    let good = s.read(&shard);
    let command = format!("chestnut embed study --net {NET}");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0xFF;
    for (what, bad) in [("cut", good[..good.len() / 2].to_vec()), ("one byte changed", flipped), ("empty", Vec::new())]
    {
        s.write(&shard, &bad);
        s.chestnut(&["compare", "study"]).fails_saying(&["part-00000.parquet", command.as_str()]);
        s.chestnut(&["embed", "study", "--net", NET]).ends(0).says(&["12 images"]);
        assert!(s.read(&shard) == good, "{what}: the same bytes again");
    }
    std::fs::remove_file(s.path(&shard)).expect("removed");
    s.chestnut(&["compare", "study"]).fails_saying(&["study", "missing", command.as_str()]);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    assert!(s.read(&shard) == good);
    s.chestnut(&["compare", "study"]).ends(0);
}

#[test]
fn a_smaller_export_does_not_get_among_a_larger_one() {
    let s = Scratch::with_phantoms();
    let phantom = ["phantom", "--size", "96", "-o", "phantom", "-n"];
    let draw = |more: &[&str]| s.chestnut(&[&phantom[..], more].concat());
    draw(&["6"]).fails_saying(&["phantom/images holds 6 files", "A0-00006.png", "another folder"]);
    assert_eq!(s.label_lines().len(), 1 + 12, "the larger one is as it was");
    draw(&["12"]).ends(0);
    draw(&["14"]).ends(0);
    draw(&["14", "--dicom"]).fails_saying(&["14 files"]);
    let export = ["phantom", "-n", "2", "--size", "128", "-o", "export", "--hospital-export"];
    let export = |files: &str| s.chestnut(&[&export[..], &[files]].concat());
    export("30").ends(0);
    export("30").ends(0);
    export("20").fails_saying(&["export/images", "another folder"]);
}

#[test]
fn a_study_that_is_missing_or_was_edited_wrongly() {
    let s = Scratch::with_study();
    for command in ["embed", "compare"] {
        let args = [command, "nostudy", "--net", NET];
        s.chestnut(&args).fails_saying(&["nostudy", "study.toml is missing", "chestnut ingest"]);
    }
    s.chestnut(&["compare", "study", "--net", "seeded:vgg16"]).fails_saying(&[
        "seeded:vgg16",
        "missing",
        "chestnut embed study --net seeded:vgg16",
    ]);
    let cohort = s.text("study/cohort.csv");
    s.write("study/cohort.csv", cohort.replacen(",16,PNG,", ",PNG,", 1).as_bytes());
    s.chestnut(&["compare", "study"]).fails_saying(&["cohort.csv row", "fields", "run the ingest again"]);
    s.write("study/cohort.csv", cohort.as_bytes());
    let settings = s.text("study/study.toml");
    for (from, to, said) in [
        ("test = 0.3", "test = 3.0", "between 0 and 1"),
        ("scale = \"min-max\"", "scale = \"log\"", "min-max"),
        ("seed = 0", "sead = 0", "sead"),
    ] {
        assert!(settings.contains(from), "{settings}");
        s.write("study/study.toml", settings.replacen(from, to, 1).as_bytes());
        s.chestnut(&["compare", "study"]).fails_saying(&["study.toml", said]);
    }
    // Another recipe makes the embeddings stale, and that is said.
    s.write("study/study.toml", settings.replacen("0.9995", "0.99", 1).as_bytes());
    s.chestnut(&["compare", "study"]).fails_saying(&["another", "recipe", "chestnut embed study"]);
    s.write("study/study.toml", settings.as_bytes());
    s.chestnut(&["compare", "study"]).ends(0);
}

#[test]
fn an_ingest_that_finds_nothing_leaves_the_earlier_cohort() {
    let s = Scratch::with_study();
    s.chestnut(&["compare", "study"]).ends(0);
    let keep = ["cohort.csv", "study.toml", "split.csv", "predictions.csv", "contact_sheet.png"];
    let before: Vec<Vec<u8>> = keep.iter().map(|f| s.read(&format!("study/{f}"))).collect();
    let header = s.label_lines().remove(0);
    s.write("header.csv", header.as_bytes());
    s.ingest("header.csv", "study").fails_saying(&["no image could be used"]);
    let after: Vec<Vec<u8>> = keep.iter().map(|f| s.read(&format!("study/{f}"))).collect();
    assert!(before == after, "nothing of the earlier ingest may be lost");
    s.chestnut(&["compare", "study"]).ends(0);
    // In a new study, the reasons are there to read.
    s.ingest("header.csv", "new").fails_saying(&["no image could be used", "rejects.csv"]);
    assert_eq!(s.rejects("new").len(), 12);
}
