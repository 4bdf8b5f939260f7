//! `chestnut tune`: searched, resumed, used, and refused where it would be a leak.

#![allow(missing_docs)]

mod common;

use common::{NET, Scratch, with_cell};

const GRID: &str = "learner = \"random-forest\"\ntrees = [3, 9]\nmax_depth = [2, 5]\nmin_samples_split = [2]\n\
                    min_samples_leaf = [1, 2]\ncriterion = [\"gini\"]\nmax_features = [\"sqrt\"]\nbootstrap = [false]\n";

#[test]
fn a_grid_is_searched_resumed_and_used() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "60", "--size", "96", "-o", "phantom"]).ends(0);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s.chestnut(&["compare", "study", "--tuned"]).fails_saying(&["tuned.json is missing", "chestnut tune study"]);
    s.write("grid.toml", GRID.as_bytes());
    let tune = ["tune", "study", "--grid", "grid.toml", "--folds", "3"];
    s.chestnut(&tune).ends(0).says(&[NET, "over 8 settings"]);
    let table = s.text("study/tables/tune_seeded-densenet121_RF.csv");
    assert_eq!(table.lines().count(), 1 + 8, "{table}");
    assert!(s.text("study/figures/tune_seeded-densenet121_RF.svg").contains("<polyline"));

    // Pieces that are stored are not computed again, and the result is the same bytes.
    let before = s.text("study/models/tuned.json");
    s.chestnut(&tune).ends(0);
    assert_eq!(s.text("study/models/tuned.json"), before);
    s.chestnut(&["compare", "study", "--tuned"]).ends(0);
    s.chestnut(&["compare", "study", "--tuned", "--repeats", "3"]).fails_saying(&["not both"]);

    // Another seed is another training part: what was tuned there may have seen today's test patients.
    let settings = s.text("study/study.toml");
    s.write("study/study.toml", settings.replacen("seed = 0", "seed = 1", 1).as_bytes());
    s.chestnut(&["compare", "study", "--tuned"]).fails_saying(&["other training patients", "chestnut tune"]);
}

#[test]
fn all_networks_side_by_side_are_one_more_input() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "40", "--size", "96", "--seed", "3", "-o", "phantom"]).ends(0);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", "seeded:densenet121,seeded:xception"]).ends(0);
    let compare = ["compare", "study", "--quick", "--approach", "embeddings"];
    s.chestnut(&compare).ends(0);
    let before = s.table("study/predictions.csv");
    s.chestnut(&[&compare[..], &["--concat"]].concat()).ends(0).says(&["Concatenated"]);
    let after = s.table("study/predictions.csv");
    let column = after[0].iter().position(|c| c == "source").expect("a column");
    let (joined, rest): (Vec<_>, Vec<_>) = after.into_iter().partition(|r| r[column] == "Concatenated");
    // The others do not change; the average is over the networks alone.
    assert_eq!(rest, before);
    let average = before.iter().filter(|r| r[column] == "Average").count();
    assert!(average > 0 && joined.len() == average, "{} and {average}", joined.len());

    s.write("grid.toml", GRID.as_bytes());
    let tune = ["tune", "study", "--grid", "grid.toml", "--folds", "3"];
    s.chestnut(&tune).ends(0);
    let tuned = [&compare[..], &["--concat", "--tuned"]].concat();
    s.chestnut(&tuned).fails_saying(&["not tuned for Concatenated"]);
    s.chestnut(&[&tune[..], &["--concat"]].concat()).ends(0).says(&["Concatenated"]);
    assert!(s.has("study/tables/tune_Concatenated_RF.csv"));
    s.chestnut(&tuned).ends(0);

    // Searches add up: another learner's, and then one network's alone, take nothing away.
    s.write("xrt.toml", GRID.replace("random-forest", "extra-trees").as_bytes());
    let xrt = ["tune", "study", "--grid", "xrt.toml", "--folds", "3"];
    s.chestnut(&[&xrt[..], &["--concat"]].concat()).ends(0);
    s.chestnut(&[&xrt[..], &["--net", "seeded:xception"]].concat()).ends(0);
    s.chestnut(&[&tuned[..], &["--learner", "rf,xrt"]].concat()).ends(0).says(&["RF", "XRT"]);
    assert!(s.has("study/tables/tune_Concatenated_RF.csv"));
}

/// The fold of the one patient who says anything of a label has nothing to learn it from.
#[test]
fn a_label_known_in_one_patient_is_counted_and_stops_nothing() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "60", "--size", "96", "-o", "phantom"]).ends(0);
    s.write("grid.toml", GRID.as_bytes());
    let lines = s.label_lines();
    // The last column is Device. The patient may fall into the test part, and the label is left out then.
    for kept in 1..lines.len() {
        let blank =
            |(i, line): (usize, &String)| if i == 0 || i == kept { line.clone() } else { with_cell(line, 11, "") };
        let table: Vec<String> = lines.iter().enumerate().map(blank).collect();
        s.write("labels.csv", table.join("\n").as_bytes());
        s.ingest("labels.csv", "study").ends(0);
        s.chestnut(&["embed", "study", "--net", NET]).ends(0);
        s.chestnut(&["tune", "study", "--grid", "grid.toml", "--folds", "3"]).ends(0);
        let table = s.table("study/tables/tune_seeded-densenet121_RF.csv");
        let Some(device) = table[0].iter().position(|c| c == "Device") else { continue };
        let counted = table[0].iter().position(|c| c == "not_estimable").expect("a column");
        for row in &table[1..] {
            assert!(row[device].is_empty() && row[counted].parse::<usize>().expect("a number") >= 3, "{row:?}");
        }
        return;
    }
    panic!("Device was known in no training part");
}

#[test]
fn a_grid_that_makes_no_sense_is_refused() {
    let s = Scratch::with_study();
    s.write("grid.toml", GRID.replace("[3, 9]", "[]").as_bytes());
    s.chestnut(&["tune", "study", "--grid", "grid.toml", "--folds", "2"]).fails_saying(&["0 settings"]);
    s.write("grid.toml", GRID.replace("criterion", "criterium").as_bytes());
    s.chestnut(&["tune", "study", "--grid", "grid.toml", "--folds", "2"]).fails_saying(&["grid.toml", "criterium"]);
    s.chestnut(&["tune", "study", "--folds", "500"]).fails_saying(&["patients"]);
}
