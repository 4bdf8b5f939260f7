//! Standard output that nobody reads, or that cannot be written to, as a whole process.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use std::process::Stdio;

/// Runs the program with a standard output whose reader is gone: its exit code and its standard error.
fn unread(s: &Scratch, args: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = s.command(args).stdout(writer).stderr(Stdio::piped()).output().expect("the program starts");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_stops_no_work() {
    let s = Scratch::with_phantoms();
    assert_eq!(unread(&s, &["models", "show", "seeded:densenet121", "--layers"]), (Some(0), String::new()));
    assert_eq!(unread(&s, &["ingest", "--print-rules"]), (Some(0), String::new()));
    // The picture is written after the table is printed.
    let image = common::files(&s.path("phantom/images")).swap_remove(0).0;
    let (code, said) = unread(&s, &["pixels", &format!("phantom/images/{image}"), "-o", "steps.png"]);
    assert!(code == Some(0) && s.has("steps.png"), "{said}");
    // A failure stays one.
    let (code, said) = unread(&s, &["models", "show", "absent"]);
    assert!(code == Some(1) && said.contains("absent") && !said.contains("panicked"), "{said}");
}

#[test]
fn with_both_outputs_closed_the_work_is_done() {
    let s = Scratch::with_phantoms();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let both = writer.try_clone().expect("a second handle");
    let args = ["ingest", "phantom/images", "--labels", "phantom/labels.csv", "-o", "study"];
    let status = s.command(&args).stdout(writer).stderr(both).status().expect("the program starts");
    assert_eq!(status.code(), Some(0));
    assert!(s.has("study/cohort.csv"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let s = Scratch::new();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device that is always full");
    let output = s.command(&["models", "list"]).stdout(full).stderr(Stdio::piped()).output().expect("starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output") && !said.contains("panicked"), "{said}");
}
