//! `chestnut demo`: every stage, on a phantom cohort.

use super::{compare, embed, ingest};
use crate::Outcome;
use crate::progress::Progress;
use chestnut::cohort::{IngestOptions, LabelMap, LabelSet};
use chestnut::compare::CompareOptions;
use chestnut::embed::EmbedOptions;
use chestnut::evaluate::table;
use chestnut::phantom::export::{ExportOptions, export};
use chestnut::phantom::{Hospital, PhantomConfig};
use chestnut::study::{SplitSettings, Study};
use chestnut_zoo::shipped;
use clap::Args;
use std::path::PathBuf;

/// Run the whole chain on made-up radiographs: no file, no network connection, no patient.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut demo -o demo -n 300")]
pub(crate) struct Demo {
    /// Folder of the study.
    #[arg(short, long, default_value = "chestnut-demo")]
    pub(crate) output: PathBuf,
    /// Images.
    #[arg(short = 'n', long, default_value_t = 300)]
    pub(crate) images: usize,
    /// Seed of everything.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// Which outputs of the shipped network stand for the phantoms' labels.
const MAP: &str = r#"
from = "chestnut-densenet121"
to = "HUM-CXR-7"
groups = [
    ["Pleura", ["Pleura (phantom)"]],
    ["Device", ["Device (phantom)"]],
    ["PNX", ["PNX (phantom)"]],
    ["Cardiac", ["Cardiac (phantom)"]],
    ["Lung", ["Lung (phantom)"]],
    ["Bone", ["Bone (phantom)"]],
    ["Normal", ["Normal (phantom)"]],
]
"#;

pub(crate) fn run(a: &Demo) -> anyhow::Result<Outcome> {
    remark!(
        "Phantoms are drawn by a program, and the network has seen others of their kind: AUCs of this demo show that the"
    );
    remark!("chain works, not how good it is on people.");
    let config = PhantomConfig { images: a.images, hospital: Hospital::A, seed: a.seed, ..PhantomConfig::default() };
    let cohort = a.output.join("phantom");
    chestnut::fs::create_writable_folder(&a.output)?;
    let _lock = super::locked(&a.output, "demo")?;
    let progress = Progress::new("drawing phantoms", "images");
    let labels = export(&config, &cohort, ExportOptions::default(), &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} images", a.images));

    let mut options = IngestOptions::new(LabelSet::hum_cxr());
    options.pseudonym_key = Some(Study::pseudonym_key(&a.output)?);
    let split = SplitSettings { seed: a.seed, ..SplitSettings::default() };
    let outcome = ingest::ingest(&cohort.join("images"), &labels, &a.output, &options, split)?;
    let study = Study::open(&a.output)?;
    let names = [shipped::NAME.to_owned()];
    // A folder without networks, so that the one in the program is taken.
    let store = a.output.join("models");
    embed::embed(&study, &store, &names, EmbedOptions::default())?;
    let compared = CompareOptions { label_map: LabelMap::from_toml(MAP)?, ..CompareOptions::new(a.seed) };
    let (comparison, page) = compare::compare(&study, &store, &names, &compared)?;
    say!("{}", table::terminal(&comparison));
    say!("Report: {}", page.display());
    Ok(outcome)
}
