//! `chestnut demo`: every stage, on a phantom cohort.

use super::{compare, embed, ingest};
use crate::Outcome;
use crate::progress::Progress;
use chestnut::cohort::{IngestOptions, LabelSet};
use chestnut::compare::CompareOptions;
use chestnut::evaluate::table;
use chestnut::image::variants::Tta;
use chestnut::phantom::export::{ExportOptions, export};
use chestnut::phantom::{Hospital, PhantomConfig};
use chestnut::study::{SplitSettings, Study};
use clap::Args;
use std::path::{Path, PathBuf};

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

/// Networks of the demo until trained weights ship: formula weights, so that nothing needs to be fetched. They have a
/// head, a formula too, so that baseline and stacking run as well.
const NETWORKS: [&str; 3] = ["seeded:densenet121+chexpert", "seeded:xception+chexpert", "seeded:vgg16+chexpert"];

pub(crate) fn run(a: &Demo) -> anyhow::Result<Outcome> {
    eprintln!("The demo's networks are seeded, not trained: its AUCs show that the chain works, not how good it is.");
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
    let names = NETWORKS.map(str::to_owned);
    embed::embed(&study, Path::new(""), &names, Tta::Off)?;
    let (comparison, page) = compare::compare(&study, Path::new(""), &names, &CompareOptions::new(a.seed))?;
    println!("{}", table::terminal(&comparison));
    println!("Report: {}", page.display());
    Ok(outcome)
}
