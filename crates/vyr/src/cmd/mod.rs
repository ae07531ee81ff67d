//! The commands, one file each.

mod artifact;
mod doctor;
mod generate;
mod key;
mod run;

use std::process::ExitCode;

use clap::CommandFactory;
use vyr_node::{DataDir, Result};

use crate::cli::{Cli, Command};

/// Runs the command and gives its exit code.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode> {
    let Cli { data_dir, json, command } = cli;
    let open = || -> Result<DataDir> { Ok(DataDir::open(&DataDir::choose(data_dir)?)?) };
    match command {
        Command::Run(args) => run::run(open, args, json),
        Command::Key(command) => key::run(&open()?, command, json),
        Command::Artifact(command) => artifact::run(&open()?, command, json),
        Command::Doctor => doctor::run(&open()?, json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "vyr", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Generate { directory } => generate::run(&directory),
    }
}
