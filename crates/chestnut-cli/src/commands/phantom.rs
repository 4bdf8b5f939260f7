//! `chestnut phantom`

use crate::Outcome;
use crate::progress::Progress;
use chestnut::phantom::export::{ExportOptions, export};
use chestnut::phantom::hospital::{HospitalConfig, export_hospital};
use chestnut::phantom::{PhantomConfig, Shortcut};
use clap::Args;
use std::path::PathBuf;

/// Draw a made-up chest radiograph cohort with known findings.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut phantom -n 300 --hospital B --seed 0 -o phantom --masks
  chestnut phantom --hospital-export 10000 -o export
  chestnut ingest export/images --labels export/labels.csv --label-set export/label_set.toml -o s

A hospital export is made of -n rendered films, each written many times under made-up names and
with another number burnt into its borders. truth.csv says what ingest must say of each file.")]
pub(crate) struct Phantom {
    /// Images; for a hospital export, films that are rendered.
    #[arg(short = 'n', long, default_value_t = 300)]
    pub(crate) images: usize,
    /// A or B: they differ in film, noise, size, markers and bit depth.
    #[arg(long, default_value = "A")]
    pub(crate) hospital: String,
    /// Seed of everything.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Long side in pixels.
    #[arg(long, default_value_t = 512)]
    pub(crate) size: usize,
    /// Folder to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
    /// DICOM files instead of PNG.
    #[arg(long)]
    pub(crate) dicom: bool,
    /// Also write a mask for each finding.
    #[arg(long)]
    pub(crate) masks: bool,
    /// Write so many DICOM files as a hospital exports them instead: mixed syntaxes, laterals, copies, broken files.
    #[arg(long, value_name = "FILES", conflicts_with_all = ["hospital", "dicom", "masks", "shortcut"])]
    pub(crate) hospital_export: Option<usize>,
    /// Plant a corner marker that goes with this finding (Normal, Cardiac, Lung, PNX, Pleura, Bone, Device).
    #[arg(long)]
    pub(crate) shortcut: Option<String>,
    /// Probability, 0 to 1, that the planted marker agrees with the label.
    #[arg(long, default_value_t = 0.95)]
    pub(crate) shortcut_fidelity: f64,
}

pub(crate) fn run(a: &Phantom) -> anyhow::Result<Outcome> {
    if let Some(files) = a.hospital_export {
        let config = HospitalConfig { files, films: a.images, size: a.size, seed: a.seed };
        let progress = Progress::new("writing an export", "files");
        export_hospital(&config, &a.output, &|done, total| progress.update(done, total))?;
        progress.finish(&format!("{files} files"));
        say!("{}", a.output.join("truth.csv").display());
        return Ok(Outcome::Clean);
    }
    let shortcut = match &a.shortcut {
        Some(finding) => Some(Shortcut { finding: finding.parse()?, fidelity: a.shortcut_fidelity }),
        None => None,
    };
    let config = PhantomConfig {
        images: a.images,
        hospital: a.hospital.parse()?,
        seed: a.seed,
        size: a.size,
        shortcut,
        ..PhantomConfig::default()
    };
    let progress = Progress::new("drawing phantoms", "images");
    let options = ExportOptions { dicom: a.dicom, masks: a.masks };
    let labels = export(&config, &a.output, options, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} images", a.images));
    say!("{}", labels.display());
    Ok(Outcome::Clean)
}
