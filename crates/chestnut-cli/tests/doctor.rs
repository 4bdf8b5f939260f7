//! `chestnut doctor`, as a whole process: one screen, JSON, and exit codes.

#![allow(missing_docs)]

mod common;

use common::{NET, NET_FOLDER, Scratch};

#[test]
fn a_study_in_order_and_a_damaged_one() {
    let s = Scratch::with_study();
    let run = s.chestnut(&["doctor", "study"]).ends(0);
    let run = run.says(&[
        "machine",
        "threads",
        "memory",
        "models",
        "study study",
        "12 images",
        NET,
        "Everything is in order",
    ]);
    assert!(run.out.lines().count() < 40, "one screen\n{run}");

    let shard = format!("study/{NET_FOLDER}/part-00000.parquet");
    let mut bytes = s.read(&shard);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    s.write(&shard, &bytes);
    s.chestnut(&["doctor", "study"]).ends(2).says(&["PROBLEM", "part-00000.parquet", "chestnut embed", "1 to mend"]);

    let run = s.chestnut(&["doctor", "study", "nostudy", "--json"]).ends(2);
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e}\n{run}"));
    assert!(json["machine"]["threads"].as_u64() > Some(0), "{run}");
    let findings = json["findings"].as_array().expect("findings");
    let problems: Vec<&str> =
        findings.iter().filter(|f| f["status"] == "problem").map(|f| f["about"].as_str().unwrap_or("")).collect();
    assert_eq!(problems, ["study study", "study nostudy"], "{run}");
}

#[test]
fn without_any_study() {
    let s = Scratch::new();
    s.chestnut(&["doctor"]).ends(0).says(&["processor", "chestnut-densenet121"]);
}
