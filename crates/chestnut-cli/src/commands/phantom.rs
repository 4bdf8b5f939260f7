//! `chestnut phantom`

use crate::Outcome;
use crate::args::Phantom;
use crate::progress::Progress;
use chestnut::phantom::export::{ExportOptions, export};
use chestnut::phantom::{PhantomConfig, Shortcut};

pub(crate) fn run(a: &Phantom) -> anyhow::Result<Outcome> {
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
    println!("{}", labels.display());
    Ok(Outcome::Clean)
}
