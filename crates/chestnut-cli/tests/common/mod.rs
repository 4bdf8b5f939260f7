//! What the whole-process tests share: a scratch folder, the program run in it, and readers for what it wrote.
//!
//! Every run sees the scratch folder as its working folder and `models/` in it as its model store, so that no test
//! reads or writes anything of the user's. Nothing here may know what a command is supposed to do.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A network that needs no file and is fast.
pub(crate) const NET: &str = "seeded:densenet121";
/// Folder of its shards below the study.
pub(crate) const NET_FOLDER: &str = "embeddings/seeded-densenet121";

/// How a run ended and what it said.
pub(crate) struct Run {
    /// What was typed.
    line: String,
    /// Exit code; `None` if it was killed.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "killed".to_owned(), |c| c.to_string());
        write!(f, "$ chestnut {}\nexit code {code}\n-- stdout\n{}\n-- stderr\n{}", self.line, self.out, self.err)
    }
}

impl Run {
    fn new(args: &[&str], output: Output) -> Self {
        Self {
            line: args.join(" "),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }

    /// Both streams.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }

    /// The run itself, if it ended with this code.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// The run itself, if it said all of this on either stream.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        let text = self.text();
        for part in parts {
            assert!(text.contains(part), "{part:?} was not said\n{self}");
        }
        self
    }

    /// The run itself, if it failed with a message that says all of this and nothing twice.
    #[track_caller]
    pub(crate) fn fails_saying(self, parts: &[&str]) -> Self {
        let run = self.ends(1);
        for part in parts {
            assert!(run.err.contains(part), "{part:?} is not in the error message\n{run}");
        }
        assert!(!run.err.contains("panicked"), "{run}");
        let mut seen: Vec<&str> = Vec::new();
        for piece in run.err.split(':').map(str::trim).filter(|p| p.len() > 12) {
            assert!(!seen.contains(&piece), "{piece:?} is said twice\n{run}");
            seen.push(piece);
        }
        run
    }
}

/// A row of `rejects.csv`.
pub(crate) struct Rejected {
    /// File or the row's name for it.
    pub(crate) item: String,
    /// Row of the labels table, or blank.
    pub(crate) row: String,
    /// `row`, `labels`, `read`, `view` or `duplicate`.
    pub(crate) stage: String,
    /// What is wrong and what to do.
    pub(crate) reason: String,
}

/// A folder that goes away with the test.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A folder with `phantom/images` (12 images, 96 pixels) and `phantom/labels.csv`.
    pub(crate) fn with_phantoms() -> Self {
        let scratch = Self::new();
        scratch.chestnut(&["phantom", "-n", "12", "--size", "96", "-o", "phantom"]).ends(0);
        scratch
    }

    /// The same, ingested into `study` and embedded with [`NET`].
    pub(crate) fn with_study() -> Self {
        let scratch = Self::with_phantoms();
        scratch.ingest("phantom/labels.csv", "study").ends(0);
        scratch.chestnut(&["embed", "study", "--net", NET]).ends(0);
        scratch
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, ready to run in the folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chestnut"));
        command.args(args).current_dir(self.folder.path()).env("CHESTNUT_MODELS", self.path("models"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn chestnut(&self, args: &[&str]) -> Run {
        Run::new(args, self.command(args).output().expect("the program starts"))
    }

    /// Ingests `phantom/images` with `labels` into `study`, patient ids kept.
    pub(crate) fn ingest(&self, labels: &str, study: &str) -> Run {
        self.chestnut(&["ingest", "phantom/images", "--labels", labels, "-o", study, "--keep-ids"])
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).expect("the scratch folder can be written to");
    }

    /// Reads a file.
    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Reads a text file.
    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Lines of `phantom/labels.csv`: `image,patient_id,view,age_years,sex`, then seven labels.
    pub(crate) fn label_lines(&self) -> Vec<String> {
        self.text("phantom/labels.csv").lines().map(str::to_owned).collect()
    }

    /// The rows of `rejects.csv` in `study`.
    #[track_caller]
    pub(crate) fn rejects(&self, study: &str) -> Vec<Rejected> {
        let records = self.table(&format!("{study}/rejects.csv"));
        assert_eq!(records[0], ["item", "row", "stage", "reason"]);
        records[1..]
            .iter()
            .map(|r| Rejected { item: r[0].clone(), row: r[1].clone(), stage: r[2].clone(), reason: r[3].clone() })
            .collect()
    }

    /// The records of a CSV file, the header first.
    #[track_caller]
    pub(crate) fn table(&self, name: &str) -> Vec<Vec<String>> {
        let bytes = self.read(name);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
        let records: Vec<csv::StringRecord> =
            reader.records().collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{name}: {e}"));
        records.iter().map(|r| r.iter().map(str::to_owned).collect()).collect()
    }

    /// What `chestnut compare study --json` prints.
    #[track_caller]
    pub(crate) fn compare_json(&self, study: &str) -> serde_json::Value {
        let run = self.chestnut(&["compare", study, "--json"]).ends(0);
        serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("standard output is not JSON: {e}\n{run}"))
    }
}

/// `line` of a table without quotation marks, with `value` in its column `index`.
pub(crate) fn with_cell(line: &str, index: usize, value: &str) -> String {
    let mut cells: Vec<&str> = line.split(',').collect();
    cells[index] = value;
    cells.join(",")
}

/// The files of a folder by name, with their content; a folder that is absent has none.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, std::fs::read(entry.path()).expect("a readable file")));
        }
    }
    found.sort();
    found
}
