//! What people read and what other programs load: the HTML report, figures, tables and metrics of one comparison.
//!
//! Every result comes from [`Comparison`] and nothing is computed here, so that terminal, CSV, JSON and HTML can never
//! disagree; counts of the cohort, what stages recorded and what `explain` left come from the study's files
//! ([`StudyFacts`]). No output refers to a network, and none needs another file; the report links to the page of
//! [`write_published`] where there is one. Text from outside is escaped.

mod document;
#[cfg(test)]
pub(crate) mod example;
mod facts;
pub mod figures;
mod finding;
pub mod grid_figure;
mod html;
pub mod learning_curve;
mod plots;
mod sections;
mod svg;
mod words;

pub use facts::StudyFacts;
pub use html::{MAX_SHEET_BYTES, Pictures, html};

use crate::compare::{PUBLISHED_FOLDER, PublishedTable};
use crate::evaluate::{Comparison, table};
use crate::fs::write_atomic;
use crate::study::{MAX_TEXT_BYTES, read_kept};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// File name of a page.
const PAGE: &str = "index.html";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder that cannot be written.
    #[error("the report cannot be written to {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The comparison cannot be put into metrics.json.
    #[error("metrics.json cannot be made: {0}")]
    Metrics(#[from] serde_json::Error),
    /// The page's template and what it is given do not fit.
    #[error("the page cannot be made: {0}")]
    Page(#[from] minijinja::Error),
    /// The comparison that the page shows cannot be read back.
    #[error("the report cannot be renewed: {0}; run `chestnut compare` again")]
    Renew(String),
}

/// Writes metrics.json, tables/auc.csv, tables/spread.csv (if there were several splits), figures/*.svg,
/// report/model_card.md and report/index.html below the study's folder, each whole or not at all, and returns the path
/// of the page. The study's own files are read for the cohort's counts; one that is missing is said on the page.
///
/// # Errors
/// If a file cannot be written; what was written before stays, and is whole.
pub fn write(folder: &Path, c: &Comparison, pictures: &Pictures) -> Result<PathBuf, ReportError> {
    let page = Path::new("report").join(PAGE);
    let mut files: Vec<(PathBuf, Vec<u8>)> = vec![
        (PathBuf::from("metrics.json"), serde_json::to_vec_pretty(c)?),
        (Path::new("tables").join("auc.csv"), table::csv(c).into_bytes()),
    ];
    if table::repeats(c).is_some() {
        files.push((Path::new("tables").join("spread.csv"), table::spread_csv(c).into_bytes()));
    }
    for (name, svg) in figures::svg_files(c) {
        files.push((Path::new("figures").join(name), svg.into_bytes()));
    }
    let facts = StudyFacts::read(folder);
    let card = sections::model_card(c, &facts).markdown();
    files.push((Path::new("report").join("model_card.md"), card.into_bytes()));
    files.push((page.clone(), html(c, pictures, &facts)?.into_bytes()));
    let written: BTreeSet<PathBuf> = files.iter().map(|(name, _)| folder.join(name)).collect();
    for (name, bytes) in files {
        put(folder, &name, &bytes)?;
    }
    remove_old(folder, &written)?;
    Ok(folder.join(page))
}

/// Removes what an earlier comparison wrote and this one did not: it must not stand beside the new numbers.
fn remove_old(folder: &Path, written: &BTreeSet<PathBuf>) -> Result<(), ReportError> {
    let figures = ["auc", "spread", "calibration", "decision", "learning", "differences"].map(|f| format!("{f}.svg"));
    let ours = |n: &str| figures.iter().any(|f| f == n) || (n.starts_with("roc-") && n.ends_with(".svg"));
    let drawn = std::fs::read_dir(folder.join("figures")).into_iter().flatten().flatten().map(|e| e.path());
    let old = drawn.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(ours));
    for path in old.chain([folder.join("tables").join("spread.csv")]).filter(|p| p.is_file() && !written.contains(p)) {
        std::fs::remove_file(&path).map_err(|source| ReportError::Write { path: path.clone(), source })?;
    }
    Ok(())
}

/// Writes report/index.html anew from metrics.json and what the study's files say now, such as what `explain` left.
/// `None` if nothing was compared yet.
///
/// # Errors
/// If metrics.json cannot be read or the page cannot be written; the page stays as it was.
pub fn renew(folder: &Path) -> Result<Option<PathBuf>, ReportError> {
    let metrics = folder.join("metrics.json");
    if !metrics.is_file() {
        return Ok(None);
    }
    // Counts are read from the cohort as it is now: beside older results they would be those of another study.
    let changed = |name: &str| std::fs::metadata(folder.join(name)).and_then(|m| m.modified()).ok();
    let results = changed("metrics.json");
    if let Some(name) = ["cohort.csv", "study.toml"].into_iter().find(|name| changed(name) > results) {
        return Err(ReportError::Renew(format!("metrics.json is older than {name}")));
    }
    let text = read_kept(&metrics, MAX_TEXT_BYTES).map_err(|e| ReportError::Renew(e.to_string()))?;
    let wrong = |problem: String| ReportError::Renew(format!("{}: {problem}", metrics.display()));
    let c: Comparison = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    c.check().map_err(wrong)?;
    let page = html(&c, &Pictures::of(folder), &StudyFacts::read(folder))?;
    put(folder, &Path::new("report").join(PAGE), page.as_bytes()).map(Some)
}

/// Writes as_published/index.html below the study's folder, a page of the tables that `compare --as-published` made, and
/// returns its path. The study's own report links to it once it is renewed ([`renew`]).
///
/// # Errors
/// If the page cannot be written; the one before stays, and is whole.
pub fn write_published(folder: &Path, tables: &[PublishedTable]) -> Result<PathBuf, ReportError> {
    let name = folder.file_name().map_or_else(|| "study".to_owned(), |n| n.to_string_lossy().into_owned());
    let page = html::published(&name, tables)?;
    put(folder, &Path::new(PUBLISHED_FOLDER).join(PAGE), page.as_bytes())
}

/// Writes a file below the folder.
fn put(folder: &Path, name: &Path, bytes: &[u8]) -> Result<PathBuf, ReportError> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).map_err(|source| ReportError::Write { path: parent.to_path_buf(), source })?;
    write_atomic(&path, bytes).map_err(|source| ReportError::Write { path: path.clone(), source })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_earlier_comparison_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), &example::full(), &Pictures::default()).expect("a report");
        assert!(folder.path().join("figures/learning.svg").is_file());
        std::fs::write(folder.path().join("figures/tune_rf.svg"), "<svg/>").expect("a figure of another command");
        let mut c = example::comparison();
        c.methods.iter_mut().for_each(|m| m.spread = None);
        write(folder.path(), &c, &Pictures::default()).expect("a report");
        for name in ["figures/learning.svg", "tables/spread.csv"] {
            assert!(!folder.path().join(name).exists(), "{name}");
        }
        assert!(folder.path().join("figures/tune_rf.svg").is_file());
    }

    #[test]
    fn every_file_is_written_and_metrics_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let c = example::comparison();
        let page = write(folder.path(), &c, &Pictures::default()).expect("a report");
        assert!(std::fs::read_to_string(&page).expect("the page").starts_with("<!doctype html>"));
        for name in [
            "tables/auc.csv",
            "tables/spread.csv",
            "figures/auc.svg",
            "figures/roc-1-embeddings-rf.svg",
            "figures/roc-best.svg",
            "report/model_card.md",
        ] {
            assert!(folder.path().join(name).is_file(), "{name}");
        }
        let metrics = std::fs::read_to_string(folder.path().join("metrics.json")).expect("metrics");
        assert_eq!(serde_json::from_str::<Comparison>(&metrics).expect("a comparison"), c);
    }

    #[test]
    fn figures_beyond_the_aucs_are_files_too() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), &example::full(), &Pictures::default()).expect("a report");
        for name in ["calibration", "decision", "learning", "differences"] {
            let svg = std::fs::read_to_string(folder.path().join(format!("figures/{name}.svg"))).expect(name);
            assert!(svg.starts_with("<svg xmlns=") && !svg.contains("var(") && !svg.contains("NaN"), "{name}");
        }
    }

    #[test]
    fn the_page_is_renewed_with_what_explain_left() {
        use crate::explain::summary::{MapPicture, SUMMARY, SUMMARY_FORMAT, Summary};
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(renew(folder.path()).expect("nothing to do").is_none());
        let page = write(folder.path(), &example::full(), &Pictures::default()).expect("a report");
        let metrics = std::fs::read(folder.path().join("metrics.json")).expect("metrics");
        let before = std::fs::read_to_string(&page).expect("the page");
        assert!(before.contains("chestnut explain STUDY") && !before.contains("<img"));

        let explain = folder.path().join("explain");
        std::fs::create_dir_all(&explain).expect("a folder");
        std::fs::write(explain.join("top.png"), b"\x89PNG\r\n\x1a\n").expect("a file");
        let map = MapPicture { path: "top.png".to_owned(), words: "<script>1</script>".to_owned() };
        let summary = Summary { format_version: SUMMARY_FORMAT, maps: vec![map], ..Summary::default() };
        let text = serde_json::to_vec(&summary).expect("plain values");
        std::fs::write(folder.path().join(SUMMARY), text).expect("a file");
        assert_eq!(renew(folder.path()).expect("renewed").as_ref(), Some(&page));
        let after = std::fs::read_to_string(&page).expect("the page");
        assert!(after.contains("<img src=\"data:image/png;base64,iVBORw0KGgo=\"") && !after.contains("<script"));
        assert!(std::fs::read(folder.path().join("metrics.json")).expect("metrics") == metrics, "left alone");

        let mut bad = example::full();
        bad.methods[0].labels.clear();
        let lost = serde_json::to_string(&bad).expect("plain values");
        for text in ["{}", lost.as_str()] {
            std::fs::write(folder.path().join("metrics.json"), text).expect("a file");
            let message = renew(folder.path()).expect_err("no comparison").to_string();
            assert!(message.contains("metrics.json") && message.contains("chestnut compare"), "{message}");
        }
        assert_eq!(std::fs::read_to_string(&page).expect("the page"), after);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("tables"), "in the way").expect("a file");
        let error = write(folder.path(), &example::comparison(), &Pictures::default()).expect_err("must fail");
        assert!(error.to_string().contains("tables"), "{error}");
    }
}
