//! The commands, one file each.

mod artifact;
mod bench;
mod doctor;
mod generate;
mod key;
mod run;
mod status;
mod up;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use vyr_node::{DataDir, FileError, Result};

use crate::cli::{Cli, Command};

/// Runs the command and gives its exit code.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode> {
    let Cli { data_dir, json, command } = cli;
    let open = || -> Result<DataDir> { Ok(DataDir::open(&DataDir::choose(data_dir.clone())?.0)?) };
    match command {
        Command::Run(args) => run::run(open, args, json),
        Command::Up { config, checkpoint_out } => {
            let (path, named) = DataDir::choose(data_dir)?;
            up::run(&path, named, config, checkpoint_out)
        }
        Command::Status => {
            let (path, named) = DataDir::choose(data_dir)?;
            status::run(&path, named, json)
        }
        Command::Key(command) => key::run(&open()?, command, json),
        Command::Artifact(command) => artifact::run(&open()?, command, json),
        Command::Doctor => doctor::run(&open()?, DataDir::choose(data_dir.clone())?.1, json),
        Command::Bench(command) => bench::run(command, json),
        Command::Completions { shell } => {
            // Made in memory first: the generator panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vyr", &mut script);
            let written = io::stdout().write_all(&script);
            written.map_err(FileError::on("write", Path::new("stdout")))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Generate { directory } => generate::run(&directory),
    }
}
