//! What the program says about itself: every command has help that a newcomer can follow.

#![allow(missing_docs)]

mod common;

use common::Scratch;

/// Widest line of help.
const WIDTH: usize = 100;

const COMMANDS: [&[&str]; 18] = [
    &["ingest"],
    &["embed"],
    &["tune"],
    &["finetune"],
    &["compare"],
    &["predict"],
    &["demo"],
    &["phantom"],
    &["pretrain"],
    &["models"],
    &["models", "add"],
    &["models", "list"],
    &["models", "show"],
    &["models", "export"],
    &["bench"],
    &["explain"],
    &["pixels"],
    &["doctor"],
];

#[test]
fn every_command_has_help() {
    let s = Scratch::new();
    for command in COMMANDS {
        let run = s.chestnut(&[command, &["--help"]].concat()).ends(0);
        assert_eq!(run.err, "", "{run}");
        let first = run.out.lines().next().unwrap_or("");
        assert!(first.split_whitespace().count() >= 4, "the first line says what it does\n{run}");
        assert!(run.out.contains("Usage:"), "{run}");
        assert!(run.out.lines().all(|l| l.chars().count() <= WIDTH), "{run}");
    }
}

#[test]
fn the_main_commands_show_examples_that_can_be_copied() {
    let s = Scratch::new();
    for command in [
        &["ingest"][..],
        &["embed"],
        &["tune"],
        &["compare"],
        &["predict"],
        &["phantom"],
        &["pretrain"],
        &["models", "add"],
    ] {
        let run = s.chestnut(&[command, &["--help"]].concat()).ends(0);
        let (_, examples) = run.out.split_once("Example").unwrap_or_else(|| panic!("no example\n{run}"));
        let start = format!("  chestnut {} ", command.join(" "));
        assert!(examples.lines().any(|l| l.starts_with(&start)), "no example begins with {start:?}\n{run}");
        // A command broken over two lines cannot be copied: what follows an example is another one, a blank or prose.
        for pair in examples.lines().collect::<Vec<_>>().windows(2) {
            let is_rest = pair[0].starts_with("  chestnut ") && pair[1].starts_with("  ");
            assert!(!is_rest || pair[1].starts_with("  chestnut "), "a broken example: {}\n{run}", pair[0]);
        }
    }
}

#[test]
fn the_program_alone_says_where_to_start() {
    let s = Scratch::new();
    let run = s.chestnut(&[]);
    assert!(run.code != Some(2), "2 means refused items\n{run}");
    let run = run.says(&["Usage:", "Start here:", "chestnut demo", "Exit codes:", "ingest", "embed", "compare"]);
    assert!(run.text().lines().any(|l| l.starts_with("  chestnut compare study")), "{run}");
    s.chestnut(&["--help"]).ends(0).says(&["Start here:", "research only", "not a medical device"]);
    s.chestnut(&["--version"]).ends(0).says(&[concat!("chestnut ", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn wrong_arguments_are_named_and_end_with_1() {
    let s = Scratch::new();
    let cases: [(&[&str], &str); 8] = [
        (&["segment"], "segment"),
        (&["ingest"], "--labels"),
        (&["ingest", "a", "--labels", "b", "-o", "c", "--colour"], "--colour"),
        (&["compare", "study", "--learner", "svm"], "svm"),
        (&["compare", "study", "--repeats", "many"], "many"),
        (&["ingest", "a", "--labels", "b", "-o", "c", "--unit", "ward"], "ward"),
        (&["models", "add", "x.h5"], "--name"),
        (&["phantom", "-n", "-3", "-o", "x"], "-3"),
    ];
    for (args, named) in cases {
        let run = s.chestnut(args).ends(1);
        assert!(run.err.contains(named) && run.err.contains("--help"), "{run}");
        assert_eq!(run.out, "", "{run}");
    }
}

#[test]
fn requests_that_make_no_sense_say_what_would() {
    let s = Scratch::new();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["phantom", "-n", "0", "-o", "p"], &["1 to", "-n"]),
        (&["phantom", "-n", "2", "--size", "3", "-o", "p"], &["size", "64 to"]),
        (&["phantom", "-n", "2", "--hospital", "Z", "-o", "p"], &["'Z'", "A or B"]),
        (&["phantom", "-n", "2", "--shortcut", "Nodule", "-o", "p"], &["'Nodule'", "Cardiac"]),
        (&["bench", "--batch", "0"], &["--batch", "1 to 1024"]),
        (&["bench", "--size", "16"], &["--size", "32 to 2048"]),
        (&["bench", "--size", "1000000"], &["--size", "32 to 2048"]),
    ];
    for (args, said) in cases {
        s.chestnut(args).fails_saying(said);
    }
}
