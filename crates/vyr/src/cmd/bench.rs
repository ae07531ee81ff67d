//! `vyr bench`.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use vyr_base::{Category, Problem};
use vyr_bench::task;
use vyr_node::{FileError, Result};

use crate::cli::BenchCommand;
use crate::output;

/// The harness could not measure at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot measure: {0}")]
struct BenchError(String);

impl Problem for BenchError {
    fn category(&self) -> Category {
        Category::Failure
    }
}

fn failed(error: anyhow::Error) -> BenchError {
    BenchError(format!("{error:#}"))
}

pub(crate) fn run(command: BenchCommand, json: bool) -> Result<ExitCode> {
    let BenchCommand::Task(options) = command;
    let finished = if rustix::termios::isatty(io::stderr().as_fd()) {
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(Duration::from_millis(120));
        let finished = task::run(&options, &mut |line| spinner.set_message(line.to_owned()));
        spinner.finish_and_clear();
        finished
    } else {
        task::run(&options, &mut |line| output::say(line))
    }
    .map_err(failed)?;
    let as_json = json || options.one_round.is_some();
    let text = if as_json { finished.to_json() } else { finished.to_text() }.map_err(failed)?;
    io::stdout().write_all(text.as_bytes()).map_err(FileError::on("write", Path::new("stdout")))?;
    let good = finished.is_good();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(Category::Failure.exit_code()) })
}
