//! `chestnut doctor`

use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use chestnut::doctor::{Diagnosis, Status, examine};
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Check this machine, the model store and studies: what is in order, what is not, and the way out.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut doctor study")]
pub(crate) struct Doctor {
    /// Folders of studies.
    pub(crate) studies: Vec<PathBuf>,
    /// Print the findings as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

pub(crate) fn run(a: &Doctor) -> anyhow::Result<Outcome> {
    let terminal = std::io::stderr().is_terminal();
    let notice = |what: &str| {
        if terminal {
            remark!("looking at {what} ...");
        }
    };
    let found = examine(&models_folder(&a.store)?, &a.studies, &notice);
    if a.json {
        say!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print(&found);
    }
    Ok(if found.count(Status::Problem) == 0 { Outcome::Clean } else { Outcome::SomeRefused })
}

/// One line per finding, the way out below it.
fn print(found: &Diagnosis) {
    say!("chestnut {}", found.version);
    let width = found.findings.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
    let mut about = "";
    for finding in &found.findings {
        if finding.about != about {
            about = &finding.about;
            say!("\n{about}");
        }
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Problem => "PROBLEM",
        };
        say!("  {status:<7}  {:<width$}  {}", finding.name, finding.text);
        if let Some(way_out) = &finding.way_out {
            say!("  {:<7}  {:<width$}  -> {way_out}", "", "");
        }
    }
    let [warnings, problems] = [Status::Warning, Status::Problem].map(|status| found.count(status));
    say!("");
    match (problems, warnings) {
        (0, 0) => say!("Everything is in order."),
        (0, _) => say!("No problem, {warnings} to know about."),
        _ => say!("{problems} to mend, {warnings} to know about."),
    }
}
