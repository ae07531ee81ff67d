//! `vyr bench`.

use std::process::ExitCode;

use vyr_node::Result;

use crate::cli::BenchCommand;

pub(crate) fn run(command: BenchCommand, _json: bool) -> Result<ExitCode> {
    match command {
        BenchCommand::Task(_options) => Ok(ExitCode::SUCCESS),
    }
}
