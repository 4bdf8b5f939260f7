//! `chestnut embed`

use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::bail;
use chestnut::cohort::Cohort;
use chestnut::embed::{self, EmbedOptions, Network};
use chestnut::image::variants::Tta;
use chestnut::study::{StageRecord, Study};
use chestnut_nn::Precision;
use chestnut_zoo::{shipped, store};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Compute the embeddings of a study's images; an interrupted run goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut embed study --net xception,densenet121

`--net chestnut-densenet121` is the small network that ships with the program;
`--net seeded:densenet121` runs a network whose weights are a formula, to try the chain without any file;
`--net seeded:densenet121+chexpert` one with CheXpert's 14 outputs, for baseline and stacking.")]
pub(crate) struct Embed {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name, separated by commas [default: all in the store; the one that ships
    /// with the program if it is empty].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Looks at each image several times and takes the mean: test-time augmentation.
    #[arg(long, value_enum, default_value = "off")]
    pub(crate) tta: TtaArg,
    /// Precision of the products; bf16 is faster where the processor has AVX512-BF16 (not for VGG), and for tables only.
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) precision: PrecisionArg,
    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TtaArg {
    /// Once.
    Off,
    /// As it is, turned by 7 degrees to either side, 2 % larger and smaller.
    Five,
    /// Those five, and the same mirrored.
    Ten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// 24 bits.
    F32,
    /// 8 bits, summed in f32; needs AVX512-BF16.
    Bf16,
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Self {
        match arg {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::Bf16 => Self::Bf16,
        }
    }
}

/// Refused images that are named.
const SHOWN: usize = 20;
/// Prefix of the manifest's records of embedded networks.
pub(crate) const STAGE: &str = "embed ";

pub(crate) fn run(a: &Embed) -> anyhow::Result<Outcome> {
    let models = models_folder(&a.store)?;
    let names = if a.net.is_empty() { stored_names(&models)? } else { a.net.clone() };
    let study = Study::open(&a.study)?;
    let _lock = super::locked(&a.study, "embed")?;
    let tta = match a.tta {
        TtaArg::Off => Tta::Off,
        TtaArg::Five => Tta::Five,
        TtaArg::Ten => Tta::Ten,
    };
    embed(&study, &models, &names, EmbedOptions { tta, precision: a.precision.into() })
}

fn stored_names(models: &Path) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = store::list(models)?.into_iter().map(|(name, _)| name).collect();
    // The network in the program is for trying things: beside networks of one's own it must be asked for by name.
    let own = models.join(shipped::NAME).join(store::RECORD_FILE).is_file();
    if names.len() > 1 && !own {
        names.retain(|name| name != shipped::NAME);
    }
    Ok(names)
}

/// Embeds with each network in turn; also a stage of the demo.
pub(crate) fn embed(study: &Study, models: &Path, names: &[String], options: EmbedOptions) -> anyhow::Result<Outcome> {
    let cohort = study.cohort()?;
    let mut outcome = Outcome::Clean;
    let mut failed = Vec::new();
    for name in names {
        match embed_one(study, &cohort, models, name, options) {
            Ok(Outcome::Clean) => {}
            Ok(Outcome::SomeRefused) => outcome = Outcome::SomeRefused,
            // One damaged network should not cost the others a night.
            Err(e) => failed.push(format!("{name}: {}", crate::said_once(&e))),
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(outcome)
}

fn embed_one(
    study: &Study,
    cohort: &Cohort,
    models: &Path,
    name: &str,
    options: EmbedOptions,
) -> anyhow::Result<Outcome> {
    let network = &Network::find(models, name)?;
    let mut outcome = Outcome::Clean;
    let progress = Progress::new(&format!("embedding {}", network.name), "images");
    let result =
        embed::embed_with(study, cohort, models, network, options, &|done, total| progress.update(done, total))?;
    let rate = result.computed as f64 / progress.seconds();
    let mut what = if result.computed > 0 {
        format!("{} images, {rate:.1} images/s", result.computed)
    } else if result.refused.is_empty() {
        "nothing to do".to_owned()
    } else {
        "0 images".to_owned()
    };
    if result.kept > 0 {
        what += &format!(", {} kept from before", result.kept);
    }
    progress.finish(&what);
    if !result.refused.is_empty() {
        outcome = Outcome::SomeRefused;
        remark!(
            "  {} refused; restore the files under {} or run ingest again:",
            result.refused.len(),
            study.settings.images.display()
        );
        for refused in result.refused.iter().take(SHOWN) {
            remark!("    {}: {}", refused.image, refused.reason);
        }
        if result.refused.len() > SHOWN {
            remark!("    and {} more", result.refused.len() - SHOWN);
        }
    }
    let facts =
        [("weights_sha256", network.record.weights_sha256.clone()), ("images", cohort.images.len().to_string())];
    let mut facts: BTreeMap<String, String> = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    facts.extend(options.differences().into_iter().map(|(option, value)| (option.to_owned(), value)));
    // A run that had nothing to do keeps the time of the one that did it.
    let stage = format!("{STAGE}{}", network.name);
    let before = study.manifest().stages.get(&stage).map_or(0.0, |s| s.seconds);
    let seconds = if result.computed > 0 { progress.seconds() } else { before };
    study.record(&stage, StageRecord { seconds, facts })?;
    Ok(outcome)
}
