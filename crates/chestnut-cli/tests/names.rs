//! Who a patient is stays in the image files: no output of a run holds a name, an id, a birth date or a study date.
//!
//! The files are a made-up hospital's export, whose `truth.csv` knows what stands in the headers. Everything that ingest,
//! embed, tune, compare and explain write and print is searched for it, file names included.

#![allow(missing_docs)]

mod common;

use common::{NET, Scratch};
use std::collections::BTreeSet;
use std::path::Path;

const GRID: &str = "learner = \"random-forest\"\ntrees = [5]\nmax_depth = [2, 5]\nmin_samples_split = [2]\n\
                    min_samples_leaf = [1]\ncriterion = [\"gini\"]\nmax_features = [\"sqrt\"]\nbootstrap = [false]\n";

/// What must not be found, in lower case.
struct Secrets {
    words: BTreeSet<String>,
    /// Dates and numbers: a longer number that happens to hold them is another one.
    numbers: BTreeSet<String>,
}

impl Secrets {
    /// Of an export's `truth.csv`, and what its writer puts into all headers.
    fn of(s: &Scratch, truth: &str) -> Self {
        let table = s.table(truth);
        let column = |name: &str| table[0].iter().position(|c| c == name).unwrap_or_else(|| panic!("no column {name}"));
        let mut secrets = Self { words: BTreeSet::new(), numbers: BTreeSet::new() };
        for word in ["clotilde", "referentini", "fittizio"] {
            secrets.words.insert(word.to_owned());
        }
        for row in table[1..].iter().filter(|row| !row[column("patient_id")].is_empty()) {
            secrets.words.insert(row[column("patient_id")].to_lowercase());
            // Names beyond ASCII may come out in any encoding: their longest plain part must not.
            for part in row[column("patient_name")].split('^') {
                let plain = part.split(|c: char| !c.is_ascii_alphabetic()).max_by_key(|p| p.len()).expect("a part");
                assert!(plain.len() > 4, "{part} has no part that tells anything");
                secrets.words.insert(plain.to_lowercase());
            }
            for date in ["birth_date", "study_date"].map(|name| row[column(name)].clone()) {
                secrets.numbers.insert(format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]));
                secrets.numbers.insert(format!("{}/{}/{}", &date[6..], &date[4..6], &date[..4]));
                secrets.numbers.insert(date);
            }
            secrets.numbers.insert(row[column("accession")].clone());
        }
        assert!(secrets.words.len() > 20 && secrets.numbers.len() > 20, "too little to look for");
        secrets
    }

    /// All that is found in some bytes.
    fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let text = bytes.to_ascii_lowercase();
        let at_border = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_digit() && *b != b'.');
        let has = |word: &str, alone: bool| {
            text.windows(word.len()).enumerate().any(|(at, window)| {
                window[0] == word.as_bytes()[0]
                    && window == word.as_bytes()
                    && (!alone
                        || (at_border(at.checked_sub(1).and_then(|before| text.get(before)))
                            && at_border(text.get(at + word.len()))))
            })
        };
        let words = self.words.iter().filter(|w| has(w, false));
        words.chain(self.numbers.iter().filter(|n| has(n, true))).cloned().collect()
    }
}

/// A page without the base64 text of its pictures: in millions of letters some name of five turns up by chance. The
/// same pictures lie in the study as files, which are searched as they are.
fn without_pictures(page: &[u8]) -> Vec<u8> {
    const PICTURE: &str = "data:image/png;base64,";
    let page = String::from_utf8(page.to_vec()).expect("a page is UTF-8");
    let mut parts = page.split(PICTURE);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='));
        text.push_str(rest);
    }
    text.into_bytes()
}

/// Every file below a folder.
fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn no_output_of_a_run_says_who_a_patient_is() {
    let s = Scratch::new();
    let export = ["phantom", "--hospital-export", "90", "-n", "40", "--size", "128", "-o", "export"];
    s.chestnut(&export).ends(0);
    let secrets = Secrets::of(&s, "export/truth.csv");
    s.write("grid.toml", GRID.as_bytes());
    let ingest = ["ingest", "export/images", "--labels", "export/labels.csv", "--label-set", "export/label_set.toml"];
    let said = vec![
        s.chestnut(&[&ingest[..], &["-o", "study"]].concat()).ends(2),
        s.chestnut(&["embed", "study", "--net", NET]).ends(0),
        s.chestnut(&["tune", "study", "--grid", "grid.toml", "--folds", "2"]).ends(0),
        s.chestnut(&["compare", "study", "--tuned"]).ends(0),
        s.chestnut(&["compare", "study", "--json"]).ends(0),
        s.chestnut(&["explain", "study", "--overlays", "3"]).ends(0),
        s.chestnut(&["doctor", "study"]),
    ];
    for run in &said {
        assert_eq!(secrets.found_in(run.text().as_bytes()), [""; 0], "{run}");
    }
    let mut files = Vec::new();
    walk(&s.path("study"), &mut files);
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    for part in ["cohort.csv", "rejects.csv", "warnings.txt", "metrics.json", "report", "explain", "tuned.json"] {
        assert!(names.iter().any(|name| name.contains(part)), "{part} was not written: {names:?}");
    }
    for (file, name) in files.iter().zip(&names) {
        assert_eq!(secrets.found_in(name.as_bytes()), [""; 0], "the name {name}");
        let bytes = std::fs::read(file).expect("a file of the study");
        let bytes = if name.ends_with(".html") { without_pictures(&bytes) } else { bytes };
        assert_eq!(secrets.found_in(&bytes), [""; 0], "in {name}");
    }

    // The search itself works: it finds ids where somebody asked for them, names in the truth, dates in the table.
    s.chestnut(&[&ingest[..], &["-o", "open", "--keep-ids"]].concat()).ends(2);
    assert!(!secrets.found_in(&s.read("open/cohort.csv")).is_empty());
    assert!(secrets.found_in(&s.read("export/truth.csv")).len() > 40);
    assert!(!secrets.found_in(&s.read("export/labels.csv")).is_empty());
}
