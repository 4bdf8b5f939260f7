use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::image::contact_sheet::encode_png8;
use crate::image::real_data;

/// Images `a.png` and `b.png` of 40 x 50 pixels; labels Lung Opacity and PNX.
fn known() -> Known {
    let images = ["a.png", "b.png"].map(|id| KnownImage { id: id.to_owned(), width: 40, height: 50 }).to_vec();
    Known::new(images, &["Lung Opacity".to_owned(), "PNX".to_owned()], &BTreeMap::new()).expect("no renaming")
}

fn read_text(name: &str, text: &str) -> Result<Read, ExpertError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file");
    read(&path, &known())
}

/// Image, label, area and parts of each region.
fn facts(read: &Read) -> Vec<(&str, &str, usize, usize)> {
    read.regions.iter().map(|r| (r.image.as_str(), r.label.as_str(), r.area(), r.parts)).collect()
}

fn mask_png(width: usize, height: usize, inside: impl Fn(usize, usize) -> bool) -> Vec<u8> {
    let pixels: Vec<u8> = (0..width * height).map(|i| 255 * u8::from(inside(i % width, i / width))).collect();
    encode_png8(width, height, &pixels).expect("a PNG")
}

#[test]
fn boxes_of_one_label_are_joined_and_bad_rows_are_named() {
    let text = "image,label,x,y,width,height\n\
                b.png,PNX,0,0,4,5\n\
                a.png,Lung Opacity,10,10,10,10\n\
                a,lung_opacity,15,10,10,10\n\
                a.png,PNX,,,,\n\
                a.png,PNX,3,4,-1,5\n\
                a.png,Nodule,3,4,1,5\n\
                c.png,PNX,3,4,1,5\n\
                a.png,PNX,400,4,10,5\n\
                a.png,PNX,38,45,10,5\n";
    let found = read_text("boxes.csv", text).expect("a table of boxes");
    assert_eq!(facts(&found), [("a.png", "Lung Opacity", 150, 2), ("a.png", "PNX", 10, 1), ("b.png", "PNX", 20, 1)]);
    let mask = found.regions[0].mask();
    assert_eq!((mask.width, mask.height, mask.area()), (40, 50, 150));
    assert_eq!(mask.bounding_box().map(|b| (b.x, b.y, b.width, b.height)), Some((10, 10, 15, 10)));
    let problems = found.problems.join("\n");
    for (at, words) in ["row 6", "row 9", "\"Nodule\"", "\"c.png\" is not in the study"].iter().enumerate() {
        assert!(found.problems[at].contains(words), "{words} in {problems}");
    }
    assert_eq!(found.problems.len(), 4, "{problems}");
    assert!(found.notes.iter().any(|n| n.contains("pixels of the original")), "{:?}", found.notes);
    assert!(found.notes.iter().any(|n| n.contains("1 rows without a box")), "{:?}", found.notes);
    assert!(found.notes.iter().any(|n| n.contains("row 10") && n.contains("cut")), "{:?}", found.notes);
}

#[test]
fn fractions_and_second_corners() {
    let found = read_text("boxes.csv", "image,finding,x1;x2\n").expect_err("no such columns");
    assert!(found.to_string().contains("image, finding"), "{found}");
    let found = read_text("boxes.csv", "image;finding;x1;y1;x2;y2\na.png;PNX;0,25;0,5;0,5;1\n").expect("a table");
    assert_eq!(facts(&found), [("a.png", "PNX", 10 * 25, 1)]);
    assert!(found.notes[0].contains("fractions"), "{:?}", found.notes);
}

#[test]
fn masks_from_a_folder_and_from_a_table() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("a file");
    fs::create_dir(folder.path().join("masks")).expect("a folder");
    write("masks/a__PNX.png", &mask_png(40, 50, |x, y| x < 10 && y < 10));
    write("masks/b_Lung_Opacity.png", &mask_png(40, 50, |x, _| x >= 39));
    write("masks/a_Lung Opacity.png", &mask_png(50, 40, |x, _| x < 5));
    write("masks/b_PNX.png", &mask_png(40, 50, |_, _| false));
    write("masks/a_Heart.png", &mask_png(40, 50, |x, _| x < 5));
    write("masks/nobody_PNX.png", &mask_png(40, 50, |x, _| x < 5));
    write("masks/notes.txt", b"?");
    let found = read(&folder.path().join("masks"), &known()).expect("a folder");
    assert_eq!(facts(&found), [("a.png", "PNX", 100, 1), ("b.png", "Lung Opacity", 50, 1)]);
    let problems = found.problems.join("\n");
    for words in [
        "50 x 40 pixels and the image \"a.png\" is 40 x 50",
        "b_PNX.png: the mask has one value",
        "\"Heart\"",
        "nobody",
    ] {
        assert!(problems.contains(words), "{words} in {problems}");
    }
    assert_eq!((found.problems.len(), found.notes.len()), (4, 1), "{problems}");

    let rows = "image,label,file\na.png,PNX,a__PNX.png\nb.png,PNX,masks/a__PNX.png\n\
                b.png,PNX,../x.png\nb.png,PNX,/etc/x.png\n";
    write("masks.csv", rows.as_bytes());
    let found = read(&folder.path().join("masks.csv"), &known()).expect("a table");
    assert_eq!(facts(&found), [("a.png", "PNX", 100, 1), ("b.png", "PNX", 100, 1)]);
    assert!(found.problems.len() == 2 && found.problems.iter().all(|p| p.contains("below the table's folder")));
}

#[test]
fn run_lengths_by_image_and_label() {
    // 40 columns of 50 pixels: the first column, and none. Counts as text and as numbers.
    let text = r#"{"a": {"PNX": {"size": [50, 40], "counts": [0, 50, 1950]},
                         "Lung Opacity": {"size": [50, 40], "counts": [2000]}},
                   "b": {"PNX": {"size": [40, 50], "counts": [0, 50, 1950]},
                         "Airspace Opacity": {"size": [50, 40], "counts": [0, 50]}},
                   "c": {"PNX": {"size": [50, 40], "counts": [0, 2000]}}}"#;
    let found = read_text("gt.json", text).expect("a JSON file");
    assert_eq!(facts(&found), [("a.png", "PNX", 50, 1)]);
    assert!((0..50).all(|y| found.regions[0].mask().get(0, y)), "a column, not a row");
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    let problems = found.problems.join("\n");
    for words in
        ["mask is 50 x 40 pixels and the image \"b.png\" is 40 x 50", "cover 50 of the 2000", "\"c\" is not in"]
    {
        assert!(problems.contains(words), "{words} in {problems}");
    }
    assert_eq!(found.problems.len(), 3, "{problems}");
}

#[test]
fn polygons_and_coco_files() {
    let square = "[[10,10],[20,10],[20,20],[10,20]]";
    let texts = [
        format!(r#"{{"a": {{"img_size": [50, 40], "PNX": [{square}], "Lung Opacity": []}}}}"#),
        format!(r#"[{{"image": "a.png", "label": "PNX", "points": {square}}}]"#),
        r#"{"images": [{"id": 7, "file_name": "x/a.png"}], "categories": [{"id": 1, "name": "pnx"}], "annotations": [
            {"image_id": 7, "category_id": 1, "segmentation": [[10,10,20,10,20,20,10,20]], "bbox": [0,0,1,1]},
            {"image_id": 7, "category_id": 1, "segmentation": [], "bbox": [10,10,10,10]}]}"#
            .to_owned(),
        "image,label,points\na.png,PNX,10 10;20 10;20 20;10 20\n".to_owned(),
    ];
    for text in texts {
        let found = read_text("outlines", &text).expect("outlines");
        assert_eq!(found.problems, Vec::<String>::new(), "{text}");
        assert_eq!(
            facts(&found).iter().map(|f| (f.0, f.1, f.2)).collect::<Vec<_>>(),
            [("a.png", "PNX", 100)],
            "{text}"
        );
    }
}

#[test]
fn hostile_json_is_an_error_or_a_problem() {
    assert!(matches!(read_text("x.json", "{\"a\": "), Err(ExpertError::Json { .. })));
    assert!(matches!(read_text("x.json", &"[".repeat(100_000)), Err(ExpertError::Json { .. })));
    for text in [
        r#"{"a": 1}"#,
        r#"{"a": {"PNX": 1}}"#,
        r#"{"a": {"PNX": [1]}}"#,
        r#"{"a": {"PNX": [[1, 2], [3, 4]]}}"#,
        r#"{"a": {"PNX": [[[1, "2"], [3, 4], [5, 6]]]}}"#,
        r#"{"a": {"PNX": {"counts": "6"}}}"#,
        r#"{"a": {"PNX": {"size": [50, 40], "counts": 3}}}"#,
        r#"{"a": {"PNX": {"size": [99999999999, 99999999999], "counts": "oooo"}}}"#,
        r#"[{"image": "a.png"}]"#,
        r#"{"annotations": [{"image_id": 3}]}"#,
    ] {
        let found = read_text("x.json", text).expect(text);
        assert!(found.regions.is_empty() && found.problems.len() == 1, "{text}: {:?}", found.problems);
    }
}

/// Sizes of real images.
fn sizes(folder: &Path, ids: &[String]) -> Vec<KnownImage> {
    let size = |id: &String| {
        let film = crate::image::read(&folder.join(id)).expect("an image").radiograph;
        KnownImage { id: id.clone(), width: film.width, height: film.height }
    };
    ids.iter().map(size).collect()
}

#[test]
fn published_outlines_are_read() {
    let Some(data) = real_data() else { return };
    let masks = data.join("masks/covid_cc_radiologist.csv");
    let table = parse_table("masks", &fs::read(&masks).expect("the table")).expect("a table");
    let unique = |column: usize| {
        let mut names: Vec<String> = table.rows.iter().map(|r| r.cells[column].to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let images = sizes(&data.join("covid_cc/images"), &unique(0));
    let known = Known::new(images, &unique(2), &BTreeMap::new()).expect("no renaming");
    let found = read(&masks, &known).expect("a table of masks");
    assert_eq!((found.problems, found.regions.len()), (Vec::new(), table.rows.len()));
    for row in &table.rows {
        let region = found.regions.iter().find(|r| r.image == row.cells[0] && r.label == row.cells[2]).expect("read");
        let share = region.area() as f64 / (region.width * region.height) as f64;
        let stated: f64 = row.cells[3].parse().expect("a number");
        assert!((share - stated).abs() < 1e-4, "{}: {share} and {stated}", region.image);
    }

    let boxes = data.join("masks/nih_boxes.csv");
    let table = parse_table("boxes", &fs::read(&boxes).expect("the table")).expect("a table");
    let mut ids: Vec<String> = table.rows.iter().map(|r| r.cells[0].to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    let renamed = BTreeMap::from(["Lung Opacity", "Pneumonia"].map(|name| (name.to_owned(), "Lung".to_owned())));
    let images = sizes(&data.join("nih1000/images"), &ids);
    let known = Known::new(images, &["Lung".to_owned()], &renamed).expect("a label that exists");
    let found = read(&boxes, &known).expect("a table of boxes");
    let of_lung = table.rows.iter().filter(|r| ["Lung Opacity", "Pneumonia"].contains(&&r.cells[3])).count();
    assert_eq!(found.regions.iter().map(|r| r.parts).sum::<usize>(), of_lung);
    assert!(found.problems.iter().all(|p| p.contains("no label")) && found.notes[0].contains("fractions"));
}
