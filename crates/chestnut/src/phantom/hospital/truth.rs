//! The labels table as a hospital exports it, and what is true of every file and every row of it.
//!
//! The reasons in `truth.csv` are parts of those that `ingest` gives: enough to tell one from another. The patient's
//! id, name and dates stand there to be looked for where they must not be.

use super::files::Film;
use super::plan::{File, InTable, Kind, Plan};
use crate::cohort::table::to_csv;
use crate::phantom::Finding;

/// One label in so many is left blank, which means unknown.
const BLANK_EVERY: usize = 50;
/// Columns of `truth.csv` before the labels.
const COLUMNS: [&str; 17] = [
    "item",
    "verdict",
    "stage",
    "row",
    "reason",
    "kept",
    "patient_id",
    "patient_name",
    "birth_date",
    "study_date",
    "accession",
    "view",
    "age_years",
    "sex",
    "width",
    "height",
    "sha256",
];

/// A label of a study: whether it is known, and then its value.
fn label(study: usize, film: &Film, finding: Finding) -> Option<bool> {
    let blank = (study * Finding::ALL.len() + finding.index()) % BLANK_EVERY == BLANK_EVERY - 1;
    (!blank).then(|| film.labels[finding.index()])
}

/// The row of each study, the header being row 1.
fn rows(plan: &Plan) -> Vec<Option<usize>> {
    let mut row = 1;
    plan.studies
        .iter()
        .map(|study| {
            (study.in_table != InTable::Missing).then(|| {
                row += 1;
                row
            })
        })
        .collect()
}

/// The text of `labels.csv`.
pub(super) fn labels_table(plan: &Plan, films: &[Film]) -> String {
    // What a spreadsheet writes: a byte order mark, semicolons, its line ends.
    let mut text = String::from("\u{FEFF}AccessionNumber;ReportDate;Ward");
    for finding in Finding::ALL {
        text.push(';');
        text.push_str(finding.name());
    }
    text.push_str("\r\n");
    for (index, study) in plan.studies.iter().enumerate() {
        if study.in_table == InTable::Missing {
            continue;
        }
        text.push_str(&format!("{};{};Pneumologia", study.accession, study.date));
        for finding in Finding::ALL {
            let word = match label(index, &films[study.film], finding) {
                _ if study.in_table == InTable::BadRow => "da rivedere",
                Some(true) => "si",
                Some(false) => "no",
                None => "",
            };
            text.push(';');
            text.push_str(word);
        }
        text.push_str("\r\n");
    }
    for accession in &plan.without_image {
        text.push_str(&format!("{accession};20200101;Geriatria;no;no;no;no;no;no;no\r\n"));
    }
    text
}

/// The label set by which the table's words are read.
pub(super) fn label_set() -> String {
    let names: Vec<String> = Finding::ALL.iter().map(|f| format!("\"{}\"", f.name())).collect();
    format!("name = \"hospital export\"\nlabels = [{}]\nblank = \"unknown\"\n", names.join(", "))
}

/// What becomes of an item.
struct Verdict {
    verdict: &'static str,
    stage: &'static str,
    reason: &'static str,
    /// The row is known when the file is refused.
    with_row: bool,
    /// The copy that is kept.
    kept: String,
}

impl Verdict {
    fn refused(stage: &'static str, reason: &'static str, with_row: bool) -> Self {
        Self { verdict: "refused", stage, reason, with_row, kept: String::new() }
    }
}

fn judge(plan: &Plan, index: usize) -> Verdict {
    let file = &plan.files[index];
    match file.kind {
        Kind::Empty => return Verdict::refused("read", "is empty", false),
        Kind::Header => return Verdict::refused("read", "truncated DICOM file", false),
        Kind::Noise | Kind::Text => return Verdict::refused("labels", "no DICOM header", false),
        Kind::NoAccession => return Verdict::refused("labels", "has no accession number", false),
        _ => {}
    }
    match plan.studies[file.study].in_table {
        InTable::Missing => return Verdict::refused("labels", "no row of labels.csv", false),
        InTable::BadRow => return Verdict::refused("labels", "was refused; correct that row", false),
        InTable::Row => {}
    }
    match file.kind {
        Kind::Cut => Verdict::refused("read", "truncated DICOM file", true),
        Kind::WrongRows => Verdict::refused("read", "the file ", true),
        Kind::Lateral(_) => Verdict::refused("view", "lateral view", true),
        Kind::OtherPart(_) => Verdict::refused("view", "not a chest", true),
        Kind::Modality => Verdict::refused("view", "the modality is CT", true),
        Kind::Capture => Verdict::refused("view", "a secondary capture", true),
        Kind::Frames => Verdict::refused("view", "12 frames", true),
        _ => match kept_instead(plan, index) {
            None => Verdict { verdict: "used", stage: "", reason: "", with_row: true, kept: String::new() },
            Some(other) => {
                let first = &plan.files[other];
                // The bytes are equal where the syntax is.
                let reason = if first.syntax == file.syntax { "same file as" } else { "looks like" };
                Verdict { verdict: "duplicate", stage: "duplicate", reason, with_row: true, kept: first.item.clone() }
            }
        },
    }
}

/// The copy of this film that is kept instead of it: the one whose path comes first.
fn kept_instead(plan: &Plan, index: usize) -> Option<usize> {
    let other = plan.files[index]
        .copy_of
        .or_else(|| plan.files.iter().skip(index).position(|f| f.copy_of == Some(index)).map(|at| at + index))?;
    (plan.files[other].item < plan.files[index].item).then_some(other)
}

/// The projection that `ingest` finds in the header.
fn view(file: &File, film: &Film) -> &'static str {
    match file.kind {
        Kind::Frontal(1) => "frontal",
        Kind::Frontal(2) => "portable",
        Kind::Frontal(3) => "PA",
        Kind::Frontal(_) => film.view,
        _ => "",
    }
}

/// The text of `truth.csv`: one row for each file, and for each row of the table that is refused (`row N`).
pub(super) fn truth_table(plan: &Plan, films: &[Film], hashes: &[String]) -> String {
    let rows = rows(plan);
    let mut header: Vec<String> = COLUMNS.iter().map(|&c| c.to_owned()).collect();
    header.extend(Finding::ALL.iter().map(|f| f.name().to_owned()));
    let width = header.len();
    let mut table = vec![header];
    // Studies that some readable header names.
    let mut named = vec![false; plan.studies.len()];
    for (index, file) in plan.files.iter().enumerate() {
        let study = &plan.studies[file.study];
        let (film, patient) = (&films[study.film], &plan.patients[study.patient]);
        let is_image = !matches!(file.kind, Kind::Empty | Kind::Noise | Kind::Header | Kind::Text);
        named[file.study] |= is_image && file.kind != Kind::NoAccession;
        let verdict = judge(plan, index);
        let used = verdict.verdict == "used";
        let row = rows[file.study].filter(|_| verdict.with_row).map(|r| r.to_string()).unwrap_or_default();
        let mut cells = vec![file.item.clone(), verdict.verdict.to_owned(), verdict.stage.to_owned(), row];
        cells.extend([verdict.reason.to_owned(), verdict.kept]);
        if is_image {
            cells.extend([patient.id.clone(), patient.name.clone(), patient.birth_date.clone(), study.date.clone()]);
            cells.push(format!("{:010}", study.accession));
        } else {
            cells.extend(vec![String::new(); 5]);
        }
        if used {
            cells.push(view(file, film).to_owned());
            cells.extend([study.age.to_string(), patient.sex.to_string()]);
            cells.extend([film.width.to_string(), film.height.to_string()]);
        } else {
            cells.extend(vec![String::new(); 5]);
        }
        cells.push(hashes[index].clone());
        cells.extend(Finding::ALL.iter().map(|&f| match label(file.study, film, f) {
            Some(value) if used => u8::from(value).to_string(),
            _ => String::new(),
        }));
        table.push(cells);
    }
    let mut refuse_row = |row: usize, reason: &str| {
        let mut cells = vec![format!("row {row}"), "refused".to_owned(), "row".to_owned(), row.to_string()];
        cells.push(reason.to_owned());
        cells.resize(width, String::new());
        table.push(cells);
    };
    for (index, row) in rows.iter().enumerate() {
        let Some(row) = *row else { continue };
        if plan.studies[index].in_table == InTable::BadRow {
            refuse_row(row, "column Normal");
        } else if !named[index] {
            refuse_row(row, "no image has its accession number");
        }
    }
    let last = 1 + rows.iter().flatten().count();
    for at in 0..plan.without_image.len() {
        refuse_row(last + 1 + at, "no image has its accession number");
    }
    to_csv(table)
}
