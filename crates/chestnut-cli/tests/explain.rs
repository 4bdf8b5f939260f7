//! `chestnut explain` as a user types it, on phantoms whose true masks are known.
//!
//! What must hold: every promised file is there, both kinds of map are scored for every outlined label beside chance,
//! the page links only what lies beside it, and bad items are named while the others go on.

#![allow(missing_docs)]

mod common;

use common::{NET, Scratch, files};
use std::collections::BTreeSet;

const LABELS: [&str; 7] = ["Pleura", "Device", "PNX", "Cardiac", "Lung", "Bone", "Normal"];
const MODELS: [&str; 2] = ["fine-tuned head", "forest"];

/// A study of 40 embedded phantoms, their masks in `phantom/masks`.
fn study() -> Scratch {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "40", "--size", "96", "--seed", "3", "--masks", "-o", "phantom"]).ends(0);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s
}

/// Names of the images that overlays were drawn of; with enough overlays, those of the test part.
fn drawn(s: &Scratch) -> BTreeSet<String> {
    let images = s.table("phantom/labels.csv").into_iter().skip(1).map(|row| row[0].clone());
    let overlays: Vec<String> = files(&s.path("study/explain/overlays")).into_iter().map(|(name, _)| name).collect();
    images.filter(|image| overlays.iter().any(|o| o.contains(&format!("-{}-", image.replace('-', "_"))))).collect()
}

/// Image, map, component and corners of each row of boxes.csv.
fn boxes(s: &Scratch) -> Vec<(String, String, String, [usize; 4])> {
    let table = s.table("study/explain/boxes.csv");
    let [image, map, component, x0, y0, x1, y1] =
        ["image", "map", "component", "x0", "y0", "x1", "y1"].map(|name| column(&table, name));
    let row = |r: &Vec<String>| {
        let corners = [x0, y0, x1, y1].map(|at| r[at].parse().expect("a number"));
        (r[image].clone(), r[map].clone(), r[component].clone(), corners)
    };
    table[1..].iter().map(row).collect()
}

/// Columns of a table by name.
fn column(table: &[Vec<String>], name: &str) -> usize {
    table[0].iter().position(|c| c == name).unwrap_or_else(|| panic!("no column {name} in {:?}", table[0]))
}

#[test]
fn a_study_is_explained_with_masks_shortcuts_and_a_page() {
    let s = study();
    let args = ["explain", "study", "--experts", "phantom/masks", "--shortcuts", "--overlays", "14", "--cases", "2"];
    let run = s.chestnut(&args).ends(0);
    let run = run.says(&["coverage", "only the four corners", "Time: ", "% of the passes", "index.html"]);
    assert!(!run.text().contains("-P000"), "nothing said names a patient\n{run}");

    // Two images of each of seven labels, by both models; a contact sheet and a mean map per label and model.
    for (folder, count) in [("overlays", 28), ("cases", 14)] {
        let found = files(&s.path(&format!("study/explain/{folder}")));
        assert_eq!(found.len(), count, "{folder}");
        assert!(found.iter().all(|(name, bytes)| name.ends_with(".png") && bytes.starts_with(b"\x89PNG")));
    }
    // A box of every overlay but of maps that point nowhere, in pixels of the film.
    let images = drawn(&s);
    let boxes = boxes(&s);
    assert!((10..=28).contains(&boxes.len()), "{boxes:?}");
    for (image, map, component, [x0, y0, x1, y1]) in &boxes {
        assert!(images.contains(image) && ["grad-cam", "tree-cam"].contains(&map.as_str()), "{boxes:?}");
        assert!(component == "whole" && x0 < x1 && *x1 <= 96 && y0 < y1 && *y1 <= 96, "{boxes:?}");
    }
    let population = s.table("study/explain/population.csv");
    assert_eq!(population.len(), 1 + 2 * LABELS.len());
    let share = column(&population, "border");
    for row in population[1..].iter().filter(|row| !row[share].is_empty()) {
        let share: f64 = row[share].parse().expect("a number");
        assert!((0.0..=1.0).contains(&share), "{row:?}");
    }

    let rows = s.table("study/explain/agreement_rows.csv");
    let [label, source, coverage] = ["label", "source", "coverage"].map(|name| column(&rows, name));
    let of = |model: &str| -> Vec<&str> {
        rows[1..].iter().filter(|r| r[source] == model).map(|r| r[label].as_str()).collect()
    };
    assert!(of(MODELS[0]).len() >= 5, "some findings lie on test images: {rows:?}");
    assert_eq!(of(MODELS[0]), of(MODELS[1]), "both kinds of map are scored for the same findings");
    assert_eq!(rows.len() - 1, 4 * of(MODELS[0]).len(), "each beside two chance levels");
    for row in &rows[1..] {
        let value: f64 = row[coverage].parse().expect("a number");
        assert!((0.0..=1.0).contains(&value), "{row:?}");
    }
    let table = s.text("study/explain/agreement.csv");
    for name in of(MODELS[0]).into_iter().chain(["chance: middle of the image", "pixel_auc"]) {
        assert!(table.contains(name), "{name}");
    }

    let check = s.table("study/explain/shortcuts.csv");
    assert_eq!(check.len(), 1 + 2 * LABELS.len() * 7, "the whole image and six views");
    let (auc, reason) = (column(&check, "auc"), column(&check, "reason"));
    assert!(check[1..].iter().all(|r| !r[auc].is_empty() || !r[reason].is_empty()), "an AUC or why there is none");
    assert!(s.has("study/explain/shortcut_views.png"));

    let page = s.text("study/explain/index.html").replace("&#x2f;", "/");
    for outside in ["src=\"http", "href=\"http", "src=\"/", "<script", "@import"] {
        assert!(!page.contains(outside), "the page must not fetch anything: {outside}");
    }
    let linked: Vec<&str> = page.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(linked.len() > 28 + 14, "{linked:?}");
    for path in linked {
        assert!(s.has(&format!("study/explain/{path}")), "{path} is linked and missing");
    }
    let manifest: serde_json::Value = serde_json::from_str(&s.text("study/manifest.json")).expect("JSON");
    assert!(manifest["stages"]["explain"]["facts"]["seconds_maps"].is_string(), "{manifest}");

    // The same numbers with one thread, and no pictures where none are asked for.
    let tables = ["population.csv", "agreement_rows.csv"].map(|name| format!("study/explain/{name}"));
    let before = tables.each_ref().map(|name| s.read(name));
    std::fs::remove_dir_all(s.path("study/explain/overlays")).expect("removed");
    let args = ["explain", "study", "--experts", "phantom/masks", "--no-overlays"];
    let run = s.command(&args).env("RAYON_NUM_THREADS", "1").output().expect("the program starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(before == tables.each_ref().map(|name| s.read(name)), "tables differ with one thread");
    assert!(files(&s.path("study/explain/overlays")).is_empty() && !s.has("study/explain/boxes.csv"));
}

#[test]
fn single_images_are_explained_by_hiding_their_parts() {
    let s = study();
    s.chestnut(&["explain", "study", "--overlays", "100", "--cases", "0", "--labels", "Lung"]).ends(0);
    let test = drawn(&s);
    assert!((8..=16).contains(&test.len()), "about 30 % are tested on: {test:?}");
    let image = test.first().expect("a test image").as_str();
    let args = ["explain", "study", "--images", image, "--labels", "lung", "--no-overlays", "--perturb"];
    for (method, more, predictions) in [("rise", &["--rise-masks", "20"][..], "21"), ("occlusion", &[][..], "170")] {
        s.chestnut(&[&args[..], &[method], more].concat()).ends(0).says(&["1 images"]);
        let table = s.table("study/explain/perturbation.csv");
        let [of, count, agree] = ["image", "predictions", "correlation_with_fast_map"].map(|n| column(&table, n));
        assert_eq!(table.len(), 1 + 2 * LABELS.len(), "{table:?}");
        assert!(table[1..].iter().all(|r| r[of] == image && r[count] == predictions), "{table:?}");
        let agreeing = table[1..].iter().filter(|r| !r[agree].is_empty());
        let correlations: Vec<f64> = agreeing.map(|r| r[agree].parse().expect("a number")).collect();
        assert!(!correlations.is_empty() && correlations.iter().all(|r| (-1.0..=1.0).contains(r)), "{table:?}");
        assert_eq!(files(&s.path(&format!("study/explain/{method}"))).len(), 2, "one label, two models");
        let found = boxes(&s);
        assert!(!found.is_empty() && found.iter().all(|(of, map, ..)| of == image && map == method), "{found:?}");
        assert!(s.text("study/explain/index.html").contains(&format!("By hiding parts: {method}")));
    }
    s.chestnut(&["explain", "study", "--perturb", "rise"]).fails_saying(&["--images"]);
    let with = |more: &[&str]| s.chestnut(&[&["explain", "study", "--images", image][..], more].concat());
    with(&["--perturb", "lime"]).fails_saying(&["lime", "occlusion or rise"]);
    with(&["--perturb", "rise", "--rise-masks", "0"]).fails_saying(&["--rise-masks 0"]);
    with(&["--perturb", "occlusion", "--rise-masks", "9"]).fails_saying(&["--perturb rise"]);
    with(&["--cam", "smooth"]).fails_saying(&["--cam smooth", "grad-cam"]);
}

#[test]
fn outlines_and_agreement_follow_the_mask_rule() {
    let s = study();
    let args = ["explain", "study", "--experts", "phantom/masks", "--together", "--overlays", "2", "--cases", "0"];
    // What a run says of its masks, everywhere it says it.
    let run = |more: &[&str]| {
        s.chestnut(&[&args[..], more].concat()).ends(0);
        let rows = s.table("study/explain/agreement_rows.csv");
        let [mask, share] = ["mask", "mask_share"].map(|n| column(&rows, n));
        let table = s.table("study/explain/agreement.csv");
        let rule = rows[1][mask].clone();
        assert!(rows[1..].iter().all(|r| r[mask] == rule), "{rows:?}");
        assert!(table[1..].iter().all(|r| r[column(&table, "mask")] == rule), "{table:?}");
        assert!(s.text("study/explain/index.html").contains(&format!("(--mask {rule})")), "{rule}");
        let shares: Vec<f64> = rows[1..].iter().map(|r| r[share].parse().expect("a number")).collect();
        let pictures = ["overlays", "together"].map(|f| files(&s.path(&format!("study/explain/{f}"))));
        (rule, shares.iter().sum::<f64>() / shares.len() as f64, pictures)
    };
    let fifth = run(&[]);
    assert!(fifth.0 == "quantile:0.8" && fifth.1 < 0.21, "{} {}", fifth.0, fifth.1);
    let all = run(&["--mask", "share:1"]);
    assert!(all.0 == "share:1" && all.1 > fifth.1, "{} {}", all.0, all.1);
    assert!(all.2.iter().zip(&fifth.2).all(|(a, b)| a.len() == b.len() && a != b), "other outlines are drawn");
    assert_eq!(run(&["--mask", "otsu"]).0, "otsu");
    assert_eq!(run(&["--cam", "legacy"]).0, "peak:0.5", "the predecessor's own");
    assert_eq!(run(&["--cam", "legacy", "--mask", "quantile:0.9"]).0, "quantile:0.9");
    s.chestnut(&["explain", "study", "--mask", "hot"]).fails_saying(&["--mask hot", "quantile:Q", "peak:P"]);
    s.chestnut(&["explain", "study", "--mask", "share:2"]).fails_saying(&["--mask share:2", "above 0"]);
}

#[test]
fn heat_outside_the_lungs_is_measured_roughly_or_by_masks() {
    let s = study();
    let args = ["explain", "study", "--no-overlays", "--population", "0", "--similar", "0"];
    let page = || s.text("study/explain/index.html");
    let measured = |lungs: &str| {
        let table = s.table("study/explain/population.csv");
        let [of, images, outside, area] =
            ["lungs", "lungs_images", "outside_lungs", "outside_lungs_area"].map(|n| column(&table, n));
        assert!(table[1..].iter().all(|r| r[of] == lungs), "{table:?}");
        let with_heat: Vec<&Vec<String>> = table[1..].iter().filter(|r| !r[outside].is_empty()).collect();
        assert!(!with_heat.is_empty(), "{table:?}");
        let share = |r: &[String], at: usize| r[at].parse::<f64>().expect("a number");
        assert!(with_heat.iter().all(|r| (0.0..=1.0).contains(&share(r, outside))), "{table:?}");
        (with_heat[0][images].parse::<usize>().expect("a number"), share(with_heat[0], area))
    };
    s.chestnut(&args).ends(0);
    let (rough, area) = measured("rough");
    assert!(rough > 5 && (0.6..0.8).contains(&area), "two ellipses take 29 %: {area}");
    assert!(page().contains("Where the heat lies") && page().contains("two ellipses, the same on every image"));

    // A mask of every image, in another size than the films.
    let all: Vec<String> = s.table("phantom/labels.csv").into_iter().skip(1).map(|row| row[0].clone()).collect();
    let mask = image::GrayImage::from_fn(64, 64, |x, _| image::Luma([if x < 16 { 255 } else { 0 }]));
    std::fs::create_dir_all(s.path("lungs")).expect("a folder");
    all.iter().for_each(|name| mask.save(s.path(&format!("lungs/{name}"))).expect("a mask"));
    let with = [&args[..], &["--lungs", "lungs"]].concat();
    let run = s.chestnut(&with).ends(0);
    assert!(!run.text().contains("have no lung mask"), "{run}");
    let (whole, area) = measured("masks");
    assert!(whole == rough && (area - 0.75).abs() < 1e-9, "{whole} of {rough}, {area}");
    assert!(!page().contains("two ellipses, the same on every image") && page().contains("masks given with --lungs"));

    // Images without one are counted and named, and have no part in it.
    let remove = |name: &String| std::fs::remove_file(s.path(&format!("lungs/{name}"))).expect("removed");
    all.iter().step_by(2).for_each(remove);
    s.chestnut(&with).ends(0).says(&["images have no lung mask", ".png"]);
    let (half, _) = measured("masks");
    assert!(0 < half && half < whole, "{half} of {whole}");
    all.iter().skip(1).step_by(2).for_each(remove);
    s.chestnut(&with).fails_saying(&["lungs", "no explained image has a lung mask"]);
    s.chestnut(&[&args[..], &["--lungs", "nowhere"]].concat()).fails_saying(&["nowhere", "no folder of lung masks"]);
}

#[test]
fn bad_items_are_named_and_the_others_go_on() {
    let s = study();
    s.chestnut(&["explain", "study", "--overlays", "100", "--cases", "0", "--labels", "Lung"]).ends(0);
    let test = drawn(&s);
    let mut all = s.table("phantom/labels.csv").into_iter().skip(1).map(|row| row[0].clone());
    let learned = all.find(|image| !test.contains(image)).expect("an image that was learned from");
    let image = test.first().expect("a test image").clone();

    // Names that nothing has, and an image that the models know by heart.
    let images = format!("nobody.png,{learned},{image}");
    let args = ["explain", "study", "--images", &images, "--labels", "Lung,Nodule", "--overlays", "1", "--cases", "0"];
    let run = s.chestnut(&args).ends(2);
    let run = run.says(&["nobody.png", "is not an image of this study", "was learned from", "--labels Nodule"]);
    assert!(run.err.contains("1 images, 7 labels"), "{run}");
    s.chestnut(&["explain", "study", "--images", "nobody.png"]).fails_saying(&["nobody.png", "cohort.csv"]);
    s.chestnut(&["explain", "study", "--labels", "Nodule"]).fails_saying(&["Nodule", "Pleura"]);

    // Masks of another size, without anything, of nobody and of no label, among good ones.
    let stem = image.trim_end_matches(".png");
    let save = |name: String, side: u32, value: u8| {
        let mut mask = image::GrayImage::from_pixel(side, side, image::Luma([0]));
        mask.put_pixel(0, 0, image::Luma([value]));
        mask.save(s.path(&format!("phantom/masks/{name}"))).expect("a mask");
    };
    save(format!("{stem}__Normal.png"), 40, 255);
    save(format!("{stem}__Device.png"), 96, 0);
    save("A9-00000__Lung.png".to_owned(), 96, 255);
    save(format!("{stem}__Nodule.png"), 96, 255);
    let args = ["explain", "study", "--experts", "phantom/masks", "--no-overlays"];
    let run = s.chestnut(&args).ends(2);
    run.says(&["the mask is 40 x 40 pixels", "one value everywhere", "A9-00000__Lung.png", "no label \"Nodule\""]);
    let rows = s.table("study/explain/agreement_rows.csv");
    assert!(rows.len() > 1 + 4 * 3, "the good masks are scored: {rows:?}");
    assert!(rows.iter().all(|r| !r.contains(&"Normal".to_owned()) && !r.contains(&"Nodule".to_owned())), "{rows:?}");
    s.chestnut(&["explain", "study", "--experts", "phantom/labels.csv", "--no-overlays"])
        .fails_saying(&["labels.csv", "columns"]);

    // A film that vanished: it is named, and the others are drawn.
    std::fs::remove_file(s.path(&format!("phantom/images/{image}"))).expect("removed");
    s.chestnut(&["explain", "study", "--overlays", "3", "--cases", "0"]).ends(2).says(&[image.as_str()]);
}

#[test]
fn batches_similar_cases_and_several_labels_on_one_film() {
    let s = study();
    let args =
        ["explain", "study", "--population", "4", "--similar", "2", "--together", "--overlays", "3", "--cases", "0"];
    let run = s.chestnut(&args).ends(0);
    run.says(&["The report of `chestnut compare` will show this too"]);

    // Mean maps of two batches: the most probable label, each label, and each label where it is the most probable one.
    let table = s.table("study/explain/batches.csv");
    assert_eq!(table.len(), 1 + 2 * (1 + 2 * LABELS.len()));
    let [label, first, second, alike] = ["label", "images_1", "images_2", "correlation"].map(|n| column(&table, n));
    let mut correlations = 0;
    for row in &table[1..] {
        let count = |at: usize| row[at].parse::<usize>().expect("a number");
        assert!(count(first) <= 4 && count(second) <= 4, "{row:?}");
        if !row[alike].is_empty() {
            let value: f64 = row[alike].parse().expect("a number");
            assert!((-1.0..=1.0).contains(&value) && count(first) > 0 && count(second) > 0, "{row:?}");
            correlations += 1;
        }
    }
    assert!(correlations >= 4, "{table:?}");
    assert_eq!(table[1..].iter().filter(|row| row[label].is_empty()).count(), 2, "the most probable label, per model");
    let drawn = files(&s.path("study/explain/batches"));
    assert!((2..=2 * (1 + LABELS.len())).contains(&drawn.len()), "{}", drawn.len());

    // Similar cases are of other patients, and there are two of each image.
    let cohort = s.table("study/cohort.csv");
    let patient = |image: &str| {
        let row =
            cohort[1..].iter().find(|row| row[0] == image).unwrap_or_else(|| panic!("{image} is not in cohort.csv"));
        row[column(&cohort, "patient")].clone()
    };
    let similar = s.table("study/explain/similar.csv");
    assert_eq!(similar[0][..4], ["image", "rank", "similar_image", "distance"]);
    assert!(similar.len() > 8 && similar.len() % 2 == 1, "{similar:?}");
    for pair in similar[1..].chunks(2) {
        assert_eq!((pair[0][0].as_str(), pair[0][1].as_str(), pair[1][1].as_str()), (pair[1][0].as_str(), "1", "2"));
        let distance = |row: &[String]| row[3].parse::<f64>().expect("a number");
        assert!(distance(&pair[0]) <= distance(&pair[1]), "{pair:?}");
        assert!(pair.iter().all(|row| patient(&row[0]) != patient(&row[2])), "{pair:?}");
    }
    assert_eq!(files(&s.path("study/explain/together")).len(), 2 * 3, "each film once per model");
    let strips = files(&s.path("study/explain/similar"));
    assert!((3..=6).contains(&strips.len()), "one per image that is shown: {}", strips.len());
    let page = s.text("study/explain/index.html").replace("&#x2f;", "/");
    for words in ["Several labels on one film", "Similar cases: row", "Are the mean maps stable?", "two random batches"]
    {
        assert!(page.contains(words), "{words}");
    }
    for path in page.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(s.has(&format!("study/explain/{path}")), "{path} is linked and missing");
    }

    // Boxes of parts are other pictures; nothing of batches and similar cases where none are asked for.
    let whole = files(&s.path("study/explain/overlays"));
    assert!(!boxes(&s).is_empty() && boxes(&s).iter().all(|b| b.2 == "whole"));
    std::fs::remove_dir_all(s.path("study/explain")).expect("removed");
    let args = ["explain", "study", "--population", "0", "--similar", "0", "--boxes", "parts", "--overlays", "3"];
    s.chestnut(&[&args[..], &["--cases", "0"]].concat()).ends(0);
    let parts = files(&s.path("study/explain/overlays"));
    assert!(parts.len() == whole.len() && parts != whole);
    let of_parts = boxes(&s);
    assert!(
        of_parts.iter().any(|b| b.2 == "1") && of_parts.iter().all(|b| b.2.parse::<usize>().is_ok()),
        "{of_parts:?}"
    );
    for name in ["batches.csv", "similar.csv"] {
        assert!(!s.has(&format!("study/explain/{name}")), "{name}");
    }
    s.chestnut(&["explain", "study", "--boxes", "round"]).fails_saying(&["--boxes round", "whole or parts"]);
    s.chestnut(&["explain", "study", "--similar", "2000"]).fails_saying(&["--similar 2000", "1000"]);
}

#[test]
fn the_report_shows_what_was_explained() {
    let s = study();
    let compare = ["compare", "study", "--approach", "embeddings", "--quick", "--no-models"];
    s.chestnut(&compare).ends(0);
    let report = || s.text("study/report/index.html");
    let section = |page: &str| -> String {
        let from = page.find("<section id=\"explained\">").expect("the section");
        page[from..].split("</section>").next().expect("its end").to_owned()
    };
    let before = section(&report());
    assert!(before.contains("Not made") && before.contains("chestnut explain STUDY"), "{before}");

    let explain = ["explain", "study", "--experts", "phantom/masks", "--shortcuts", "--no-overlays"];
    s.chestnut(&explain).ends(0).says(&["Report, renewed"]);
    let after = section(&report());
    for words in ["Agreement with experts", "pixel AUC", "Does a label survive", "Are the mean maps stable?"] {
        assert!(after.contains(words), "{words} in {after}");
    }
    assert!(after.matches("src=\"data:image/png;base64,").count() >= 2);
    assert!(!after.contains(".png\""), "nothing outside the page is shown");
    // Compare finds the same when it runs again.
    s.chestnut(&compare).ends(0);
    assert_eq!(section(&report()), after);

    // A later run without experts and shortcuts shows neither, and their tables are gone with the models they were of.
    s.chestnut(&["explain", "study", "--no-overlays"]).ends(0);
    let later = section(&report());
    assert!(!later.contains("Agreement with experts") && !s.has("study/explain/agreement.csv"), "{later}");
    assert!(later.contains("Warnings of the shortcut check") && later.contains("Not made"), "{later}");

    // A comparison that cannot be read is said; what was explained stands.
    s.write("study/metrics.json", b"{}");
    s.chestnut(&["explain", "study", "--no-overlays"]).ends(0).says(&["cannot be renewed", "chestnut compare"]);
}
