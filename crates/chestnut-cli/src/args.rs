//! What was typed: the commands' names. The arguments of each stand in its own file (`commands/`).

use crate::commands::bench::Bench;
use crate::commands::compare::Compare;
use crate::commands::demo::Demo;
use crate::commands::doctor::Doctor;
use crate::commands::embed::Embed;
use crate::commands::explain::Explain;
use crate::commands::finetune::Finetune;
use crate::commands::ingest::Ingest;
use crate::commands::models::Models;
use crate::commands::phantom::Phantom;
use crate::commands::pixels::Pixels;
use crate::commands::predict::Predict;
use crate::commands::pretrain::Pretrain;
use crate::commands::tune::Tune;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Adapt chest X-ray networks to your hospital's own labelled radiographs: on a laptop, without a GPU, offline.
///
/// For research only; not a medical device. Nothing ever leaves this machine.
#[derive(Debug, Parser)]
#[command(name = "chestnut", version, max_term_width = 100, arg_required_else_help = true, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Start here:
  chestnut demo                                       the whole chain on made-up radiographs
  chestnut ingest images/ --labels labels.csv --labels-columns Edema,Effusion -o study
  chestnut embed study --net chestnut-densenet121     the small network that ships with the program
  chestnut compare study                              AUC tables and study/report/index.html
  chestnut predict new/ --study study                 the study's models on new images
--labels-columns may be left out if the table has all columns of CheXpert-14 or of HUM-CXR-7.

With a network of your own (Keras, safetensors, PyTorch), before `embed --net xception`:
  chestnut models add xception.keras --name xception

Exit codes: 0 all good, 1 the run failed, 2 some items were refused: ingest names them in
rejects.csv, pretrain in missing.csv, predict in its table, other commands on the terminal.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ingest(Ingest),
    Embed(Embed),
    Tune(Tune),
    Finetune(Finetune),
    Compare(Compare),
    Predict(Predict),
    Demo(Demo),
    Phantom(Phantom),
    Pretrain(Box<Pretrain>),
    #[command(subcommand)]
    Models(Models),
    Bench(Bench),
    Explain(Explain),
    Pixels(Pixels),
    Doctor(Doctor),
}

/// Where networks are kept.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Folder of the model store [default: $CHESTNUT_MODELS, else ~/.local/share/chestnut/models].
    #[arg(long = "models", global = true)]
    pub(crate) models: Option<PathBuf>,
}
