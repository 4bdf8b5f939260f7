//! Two runs on one study at once: the second is refused and told by whom; a crash leaves no lock.

#![allow(missing_docs)]

mod common;

use chestnut::lock::{LOCK_FILE, StudyLock};
use common::{NET, Scratch, files};

#[test]
fn the_second_run_is_refused_with_the_pid_of_the_first() {
    let s = Scratch::with_phantoms();
    s.ingest("phantom/labels.csv", "study").ends(0);
    let held = StudyLock::acquire(&s.path("study"), "tune").expect("nobody else has it");
    let without_lock = || files(&s.path("study")).into_iter().filter(|(name, _)| name != LOCK_FILE).collect::<Vec<_>>();
    let before = without_lock();
    let pid = format!("process {}", std::process::id());
    let said = ["study is in use by", pid.as_str(), "tune", "wait until"];
    s.chestnut(&["embed", "study", "--net", NET]).fails_saying(&said);
    s.chestnut(&["compare", "study", "--net", NET]).fails_saying(&said);
    s.chestnut(&["tune", "study", "--net", NET]).fails_saying(&said);
    s.ingest("phantom/labels.csv", "study").fails_saying(&said);
    assert!(before == without_lock(), "who is refused changes nothing");
    // Another study is another matter, and looking is free.
    s.ingest("phantom/labels.csv", "other").ends(0);
    drop(held);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0).says(&["12 images"]);
}

#[test]
fn what_a_killed_run_leaves_does_not_lock() {
    let s = Scratch::with_phantoms();
    s.ingest("phantom/labels.csv", "study").ends(0);
    let owner = "pid = 4000000000\ncommand = \"embed\"\nsince = \"2026-01-01 00:00:00\"\n";
    s.write(&format!("study/{LOCK_FILE}"), owner.as_bytes());
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    assert_eq!(s.text(&format!("study/{LOCK_FILE}")), "", "the run came to its end and says so");
}

#[cfg(unix)]
#[test]
fn a_killed_process_holds_nothing() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().expect("a folder");
    // This test program itself, run again as the process that will be killed.
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "holds_a_lock_until_it_is_killed", "--nocapture", "--ignored"])
        .env("CHESTNUT_TEST_LOCK", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let locked = output.lines().map_while(Result::ok).any(|line| line.contains("locked now"));
    assert!(locked, "the other process must get the lock");
    let refused = StudyLock::acquire(folder.path(), "embed").map(|_| ()).map_err(|e| e.to_string());
    child.kill().expect("killed");
    child.wait().expect("gone");
    let refused = refused.expect_err("the other process had it");
    assert!(refused.contains(&format!("process {}", child.id())), "{refused}");
    let lock = StudyLock::acquire(folder.path(), "embed").expect("free after the kill");
    assert_eq!(lock.crashed().map(|owner| owner.pid), Some(child.id()));
}

#[cfg(unix)]
#[test]
#[ignore = "the other process of a_killed_process_holds_nothing"]
#[allow(clippy::print_stdout, reason = "its parent waits for the line")]
fn holds_a_lock_until_it_is_killed() {
    let Some(folder) = std::env::var_os("CHESTNUT_TEST_LOCK") else { return };
    let _lock = StudyLock::acquire(std::path::Path::new(&folder), "tune").expect("free");
    println!("locked now");
    loop {
        std::thread::park();
    }
}
