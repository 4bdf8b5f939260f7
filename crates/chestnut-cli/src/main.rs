//! The `chestnut` command: arguments to library calls to files and terminal. No science lives here.

// First, so that its macros are known to the others.
#[macro_use]
mod output;

mod args;
mod commands;
mod progress;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

/// How a run ended, when it ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was used.
    Clean,
    /// Some items were refused and are listed.
    SomeRefused,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Exit code 2 means refused items here, so wrong arguments are 1.
            let code = if e.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
            let _ = e.print();
            return code;
        }
    };
    let ended = run(cli.command).and_then(|outcome| output::finish().map(|()| outcome));
    match ended {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::SomeRefused) => ExitCode::from(2),
        Err(e) => {
            remark!("chestnut: {}", said_once(&e));
            ExitCode::from(1)
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Ingest(a) => commands::ingest::run(&a),
        Command::Embed(a) => commands::embed::run(&a),
        Command::Tune(a) => commands::tune::run(&a),
        Command::Finetune(a) => commands::finetune::run(&a),
        Command::Compare(a) => commands::compare::run(&a),
        Command::Predict(a) => commands::predict::run(&a),
        Command::Demo(a) => commands::demo::run(&a),
        Command::Phantom(a) => commands::phantom::run(&a),
        Command::Pretrain(a) => commands::pretrain::run(&a),
        Command::Explain(a) => commands::explain::run(&a),
        Command::Pixels(a) => commands::pixels::run(&a.file, a.output.as_deref()),
        Command::Doctor(a) => commands::doctor::run(&a),
        Command::Models(a) => commands::models::run(&a),
        Command::Bench(a) => commands::bench::run(&a),
    }
}

/// The chain of causes, without those that the text before already says.
fn said_once(e: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in e.chain().map(ToString::to_string).filter(|c| !c.is_empty()) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}
