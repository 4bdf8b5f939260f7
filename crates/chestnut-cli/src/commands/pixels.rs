//! `chestnut pixels`: what happens to one file's pixels, as a table and a picture.

use crate::Outcome;
use anyhow::{Context, anyhow};
use chestnut::image;
use chestnut::image::explain::{Explanation, explain};
use chestnut::image::recipe::Recipe;
use clap::Args;
use std::path::{Path, PathBuf};

/// Print and draw every pixel step of one image, from stored values to network input.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut pixels image.dcm -o steps.png")]
pub(crate) struct Pixels {
    /// PNG, JPEG or DICOM.
    pub(crate) file: PathBuf,
    /// Picture of the steps [default: FILE.explain.png in this folder].
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
}

/// Prints the steps of `file` with the paper's recipe and writes their picture to `out`, by default
/// `NAME.explain.png` in the current folder.
pub(crate) fn run(file: &Path, out: Option<&Path>) -> anyhow::Result<Outcome> {
    let name = file.file_name().ok_or_else(|| anyhow!("{} is no file; name one image", file.display()))?;
    let explained = image::read_bytes(file).and_then(|bytes| explain(&bytes, &Recipe::default()));
    let Explanation { format, steps, flags, png } = explained.map_err(|e| anyhow!("{} {e}", file.display()))?;
    let picture = out.map_or_else(
        || {
            let mut name = name.to_owned();
            name.push(".explain.png");
            PathBuf::from(name)
        },
        Path::to_path_buf,
    );
    say!("{} ({format})", file.display());
    say!("{}", Explanation::heading());
    for step in &steps {
        say!("{step}");
    }
    for flag in &flags {
        say!("note: {flag}");
    }
    chestnut::fs::write_atomic(&picture, &png).context("the picture of the steps")?;
    say!("{}", picture.display());
    Ok(Outcome::Clean)
}
