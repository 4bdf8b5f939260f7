//! Who is tested on, as a user sees it: leaks shown for what they are, the paper's own protocol apart from the study's,
//! degenerate cohorts with reasons, all four approaches in the demo.

#![allow(missing_docs)]

mod common;

use chestnut_zoo::weights::unit_sequence;
use common::{NET, Scratch, with_cell};
use serde_json::Value;

/// Networks that have outputs and need no file.
const NETS: &str = "seeded:densenet121+chexpert,seeded:xception+chexpert";
const ONE_NET: &str = "seeded:densenet121+chexpert";

fn set(scratch: &Scratch, from: &str, to: &str) {
    let settings = scratch.text("study/study.toml");
    assert!(settings.contains(from), "{settings}");
    scratch.write("study/study.toml", settings.replacen(from, to, 1).as_bytes());
}

fn json(scratch: &Scratch, args: &[&str]) -> Value {
    let run = scratch.chestnut(args).ends(0);
    serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("standard output is not JSON: {e}\n{run}"))
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|t| t.as_str().expect("a text")).collect()
}

/// Every label has an AUC or the reason why there is none.
fn assert_explained(comparison: &Value) {
    for method in comparison["methods"].as_array().expect("methods") {
        for label in method["labels"].as_array().expect("labels") {
            let explained = label["reason"].as_str().is_some_and(|r| r.contains("not estimable"));
            assert!(label["auc"].is_f64() != explained, "{label}");
        }
    }
}

/// Three copies of each of 50 pictures, a patient each, whose labels are drawn.
fn copies() -> Scratch {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "50", "--size", "96", "--seed", "8", "-o", "phantom"]).ends(0);
    std::fs::create_dir_all(s.path("copies")).expect("a folder");
    let lines = s.label_lines();
    let mut table = vec![lines[0].clone()];
    for (patient, line) in lines[1..].iter().enumerate() {
        let name = line.split(',').next().expect("a file name");
        let picture = s.read(&format!("phantom/images/{name}"));
        let drawn: Vec<bool> = unit_sequence(&format!("patient {patient}"), 3).take(7).map(|u| u < 0.4).collect();
        for copy in 0..3 {
            let file = format!("{patient:02}_{copy}.png");
            s.write(&format!("copies/{file}"), &picture);
            let mut row = with_cell(&with_cell(line, 0, &file), 1, &format!("q{patient}"));
            for (k, &positive) in drawn.iter().enumerate() {
                row = with_cell(&row, 5 + k, if positive { "1" } else { "0" });
            }
            table.push(row);
        }
    }
    s.write("copies.csv", table.join("\n").as_bytes());
    s
}

#[test]
fn copies_leak_only_where_images_are_split_and_that_is_said() {
    let s = copies();
    let ingest = ["ingest", "copies", "--labels", "copies.csv", "-o", "study", "--keep-ids"];
    // Copies are refused unless they are asked for.
    s.chestnut(&ingest).ends(2).says(&["50 images", "100 items were refused", "second copies"]);
    s.chestnut(&[&ingest[..], &["--keep-copies"]].concat()).ends(0).says(&["150 images", "are copies of one picture"]);
    s.chestnut(&["embed", "study", "--net", ONE_NET]).ends(0);
    let compare = ["compare", "study", "--json", "--learner", "rf,knn"];
    let learned = ["Stacking", "Embeddings + RF", "Embeddings + kNN", "Fine-tuned head"];
    let interval = |results: &Value, approach: &str| -> [f64; 2] {
        let details = results["details"].as_array().expect("details");
        let detail = details.iter().find(|d| d["approach"] == approach).unwrap_or_else(|| panic!("no {approach}"));
        [0, 1].map(|end| detail["mean_bootstrap"][end].as_f64().expect("an interval"))
    };

    let strict = json(&s, &compare);
    assert!(texts(&strict["marks"]).is_empty() && strict["unit"] == "patient");
    assert!(texts(&strict["warnings"]).iter().any(|w| w.contains("are copies of one picture")));
    for approach in learned.into_iter().chain(["Baseline"]) {
        // Fifteen test patients and several methods: somewhat more than the 95 % interval.
        let [low, high] = interval(&strict, approach);
        assert!(low - 0.1 < 0.5 && 0.5 < high + 0.1, "{approach}: {low} to {high}");
    }

    set(&s, "unit = \"patient\"", "unit = \"image\"");
    let leaky = json(&s, &compare);
    let marks = texts(&leaky["marks"]).join(" ");
    assert!(marks.contains("SPLIT BY IMAGE") && marks.contains("of 50 patients have images in more than one part"));
    assert!(texts(&leaky["warnings"]).iter().any(|w| w.contains("are copies of one picture")));
    let inflated = interval(&leaky, "Embeddings + RF");
    assert!(inflated[0] > 0.5 && inflated[0] > interval(&strict, "Embeddings + RF")[0], "{inflated:?}");
    s.chestnut(&["compare", "study", "--quick"]).ends(0).says(&["SPLIT BY IMAGE"]);
    s.chestnut(&["compare", "study", "--quick", "--markdown"]).ends(0).says(&["**SPLIT BY IMAGE"]);
    for file in ["study/tables/auc.csv", "study/metrics.json", "study/report/index.html"] {
        assert!(s.text(file).contains("SPLIT BY IMAGE"), "{file}");
    }
}

#[test]
fn the_papers_protocol_stands_apart_and_is_marked() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "40", "--size", "96", "--seed", "3", "-o", "phantom"]).ends(0);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", NETS]).ends(0);
    s.chestnut(&["compare", "study", "--net", NETS, "--quick"]).ends(0);
    assert!(!s.text("study/report/index.html").contains("as_published/index.html"));
    let own = ["study/tables/auc.csv", "study/split.csv", "study/predictions.csv"];
    let before: Vec<String> = own.iter().map(|f| s.text(f)).collect();

    let run = s.chestnut(&["compare", "study", "--net", NETS, "--quick", "--as-published"]).ends(0);
    let run = run.says(&["AS PUBLISHED, Table 5", "AS PUBLISHED, Table 6", "AS PUBLISHED, Table 7", "all 40 images"]);
    assert!(run.out.lines().all(|l| l.chars().count() <= 100), "{run}");
    let (strict, published) = run.out.split_once("AS PUBLISHED").expect("both");
    assert!(strict.contains("Report: ") && !strict.contains("SPLIT BY IMAGE"), "{run}");
    assert!(published.contains("Stacking, in-sample") && !published.contains("Report: "), "{run}");
    let after: Vec<String> = own.iter().map(|f| s.text(f)).collect();
    assert!(before == after, "the study's own tables are as they were");
    let metrics: Value = serde_json::from_str(&s.text("study/metrics.json")).expect("JSON");
    assert!(metrics["as_published"] == false && texts(&metrics["marks"]).is_empty());

    let tables: Value = serde_json::from_str(&s.text("study/as_published/metrics.json")).expect("JSON");
    let tables = tables.as_array().expect("a list");
    assert_eq!(tables.len(), 3);
    let tested = |table: &Value| -> u64 {
        let parts = table["parts"].as_array().expect("parts");
        parts.iter().find(|p| p["part"] == "test").expect("a test part")["images"].as_u64().expect("a number")
    };
    // Three test sets: all, 30 % and 20 %.
    assert_eq!(tables.iter().map(tested).collect::<Vec<_>>(), [40, 12, 8]);
    for (table, name) in tables.iter().zip(["table5", "table6", "table7"]) {
        assert!(table["as_published"] == true && table["unit"] == "image", "{name}");
        let marks = texts(&table["marks"]).join(" ");
        assert!(marks.contains("AS PUBLISHED") && marks.contains("Three test sets"), "{name}: {marks}");
        assert!(table["methods"].as_array().expect("methods").iter().all(|m| m["tested_on"].is_string()), "{name}");
        assert_explained(table);
        let csv = s.table(&format!("study/as_published/tables/{name}.csv"));
        let at = csv[0].iter().position(|c| c == "marks").expect("a column");
        assert!(csv.len() > 7 && csv[1..].iter().all(|r| r[at].contains("AS PUBLISHED")), "{name}");
        assert!(s.has(&format!("study/as_published/predictions_{name}.csv")));
    }
    assert!(s.text("study/as_published/tables.md").matches("**AS PUBLISHED").count() == 3);
    assert_published_page(&s.text("study/as_published/index.html"));
    let report = s.text("study/report/index.html");
    assert!(report.contains("href=\"../as_published/index.html\"") && !report.contains("AS PUBLISHED, Table"));
    let split = s.table("study/as_published/split_table7.csv");
    let count = |part: &str| split[1..].iter().filter(|r| r[2] == part).count();
    assert_eq!(["train", "validation", "test"].map(count), [28, 4, 8]);
    // What the paper compares: baseline; stacking and three learners; heads.
    let approaches = |table: &Value| -> Vec<String> {
        let methods = table["methods"].as_array().expect("methods");
        let mut names: Vec<String> = methods.iter().map(|m| m["approach"].as_str().unwrap_or("").to_owned()).collect();
        names.dedup();
        names
    };
    assert_eq!(approaches(&tables[0]), ["Baseline"]);
    assert_eq!(approaches(&tables[1]), ["Stacking", "Embeddings + DT", "Embeddings + RF", "Embeddings + XRT"]);
    assert_eq!(approaches(&tables[2]), ["Fine-tuned head"]);

    // A network without outputs has no Table 5, and none of an earlier run is left.
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s.chestnut(&["compare", "study", "--net", NET, "--quick", "--as-published"]).ends(0);
    assert!(!s.has("study/as_published/tables/table5.csv") && !s.has("study/as_published/predictions_table5.csv"));
    assert!(s.has("study/as_published/tables/table6.csv"));
    let page = s.text("study/as_published/index.html");
    assert!(!page.contains("AS PUBLISHED, Table 5") && page.contains("AS PUBLISHED, Table 6"));
    assert!(page.contains("the networks have no outputs that map to these labels"));
}

/// Three tables, each below its mark and the reasons why it is no fair comparison, in a page that fetches nothing.
fn assert_published_page(page: &str) {
    let mut from = 0;
    for needle in [
        "id=\"why\"",
        "Table 5 on 40 images, Table 6 on 12 images, Table 7 on 8 images",
        "id=\"table5\"",
        "AS PUBLISHED, Table 5",
        "nothing is held out",
        "<table",
        "id=\"table6\"",
        "AS PUBLISHED, Table 6",
        "Films of one patient are alike",
        "<table",
        "id=\"table7\"",
        "AS PUBLISHED, Table 7",
        "fitted in-sample",
        "<table",
        "Stacking, in-sample",
        "id=\"settings\"",
    ] {
        let at = page[from..].find(needle);
        from += at.unwrap_or_else(|| panic!("{needle} is missing or out of order"));
    }
    for forbidden in ["<script", "<link", "url(", "src=", "href=", "http:", "https:"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    // The paper's columns in the paper's order.
    let heads: Vec<usize> = ["Normal", "Cardiac", "Lung", "PNX", "Pleura", "Bone", "Device"]
        .iter()
        .map(|label| page.find(&format!("<th scope=\"col\">{label}")).unwrap_or_else(|| panic!("no {label}")))
        .collect();
    assert!(heads.is_sorted(), "{heads:?}");
}

#[test]
fn five_patients_one_view_and_missing_classes_get_reasons() {
    let s = Scratch::with_phantoms();
    let mut lines = s.label_lines();
    for (i, line) in lines.iter_mut().enumerate().skip(1) {
        // No Bone, one PNX, Device known once.
        for (column, value) in [
            (1, ["V", "W", "X", "Y", "Z"][i % 5]),
            (2, "PA"),
            (8, if i == 1 { "1" } else { "0" }),
            (10, "0"),
            (11, if i == 2 { "1" } else { "" }),
        ] {
            *line = with_cell(line, column, value);
        }
    }
    s.write("labels.csv", lines.join("\n").as_bytes());
    s.ingest("labels.csv", "study").ends(0).says(&["5 patients"]);
    s.chestnut(&["embed", "study", "--net", ONE_NET]).ends(0);
    let learners = ["--learner", "rf,xrt,dt,lr,knn", "--learning-curve", "1"];
    let compare = |more: &[&str]| s.chestnut(&[&["compare", "study"][..], &learners[..], more].concat());
    for seed in ["seed = 0", "seed = 1", "seed = 2"] {
        set(&s, "seed = ", &format!("{seed} # "));
        let run = compare(&["--json"]).ends(0);
        let results: Value = serde_json::from_str(&run.out).expect("JSON");
        for method in results["methods"].as_array().expect("methods") {
            for label in method["labels"].as_array().expect("labels") {
                assert!(label["auc"].is_f64() || label["reason"].is_string(), "{label}");
                assert!(label["label"] != "Bone" || label["auc"].is_null(), "{label}");
            }
        }
        for detail in results["details"].as_array().expect("details") {
            for label in detail["labels"].as_array().expect("labels") {
                // Too few patients to choose a threshold by, and that is the reason given.
                assert!(label["points"] == serde_json::json!([]) && label["reason"].is_string(), "{label}");
            }
        }
    }
    compare(&["--repeats", "3", "--as-published"]).ends(0).says(&["n.e. Bone", "no positive image", "AS PUBLISHED"]);
    set(&s, "unit = \"patient\"", "unit = \"image\"");
    compare(&[]).ends(0).says(&["SPLIT BY IMAGE", "n.e. Bone"]);
}

#[test]
fn the_demo_shows_all_four_approaches() {
    let s = Scratch::new();
    let run = s.chestnut(&["demo", "-n", "20", "-o", "demo"]).ends(0);
    let run =
        run.says(&["Baseline", "Stacking", "Embeddings + RF", "Fine-tuned head", "Phantoms are drawn", "Report: "]);
    assert!(!run.text().contains("no baseline and no stacking"), "{run}");
    let metrics: Value = serde_json::from_str(&s.text("demo/metrics.json")).expect("JSON");
    assert!(!texts(&metrics["warnings"]).iter().any(|w| w.contains("label map")), "{metrics}");
    for method in metrics["methods"].as_array().expect("methods").iter().filter(|m| m["approach"] == "Baseline") {
        // The shipped network has learned all seven labels of the phantoms.
        let labels = method["labels"].as_array().expect("labels");
        assert!(labels.iter().all(|l| !l["reason"].as_str().unwrap_or("").contains("not trained on")), "{method}");
    }
}

#[test]
fn a_label_map_of_ones_own_is_used_and_one_that_does_not_fit_is_said() {
    let s = Scratch::with_phantoms();
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", ONE_NET]).ends(0);
    let compare = ["compare", "study", "--quick", "--json", "--approach", "baseline", "--label-map", "map.toml"];
    let map = "from = \"a\"\nto = \"b\"\ngroups = [[\"Bone\", [\"Fracture\"]], [\"Lung\", [\"Edema\"]]]\n";
    s.write("map.toml", map.as_bytes());
    let results = json(&s, &compare);
    let labels = results["methods"][0]["labels"].as_array().expect("labels").clone();
    let unmapped = |name: &str| {
        let label = labels.iter().find(|l| l["label"] == name).expect("a label");
        label["reason"].as_str().is_some_and(|r| r.contains("not trained on such a label"))
    };
    assert!(unmapped("PNX") && unmapped("Normal") && !unmapped("Bone") && !unmapped("Lung"));
    assert!(!texts(&results["warnings"]).iter().any(|w| w.contains("label map")));
    s.write("map.toml", map.replace("Edema", "Oedema").as_bytes());
    let results = json(&s, &compare);
    let warnings = texts(&results["warnings"]).join("\n");
    assert!(warnings.contains("the label map does not fit") && warnings.contains("Lung (no \"Oedema\")"), "{warnings}");
}
