//! `vyr bench`, and `vyr sched bench`.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use vyr_base::{Category, Problem};
use vyr_bench::{image, ingress, net, node, plan, sched, services, task};
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
    let (text, good) = match command {
        BenchCommand::Task(options) => {
            let finished = told(|progress| task::run(&options, progress)).map_err(failed)?;
            let as_json = json || options.one_round.is_some();
            let text = if as_json { finished.to_json() } else { finished.to_text() };
            (text.map_err(failed)?, finished.is_good())
        }
        BenchCommand::Node(options) => {
            let report = told(|progress| node::run(&options, progress)).map_err(failed)?;
            let text = if json { report.to_json() } else { Ok(report.to_markdown()) };
            (text.map_err(failed)?, report.is_good())
        }
        BenchCommand::Net(options) => {
            let report = told(|progress| net::run(&options, progress)).map_err(failed)?;
            let text = if json { report.to_json() } else { Ok(report.to_markdown()) };
            (text.map_err(failed)?, report.is_good())
        }
        BenchCommand::Ingress(options) => {
            let report = told(|progress| ingress::run(&options, progress)).map_err(failed)?;
            let text = if json { report.to_json() } else { Ok(report.to_markdown()) };
            (text.map_err(failed)?, report.is_good())
        }
        BenchCommand::Services(options) => {
            let report = told(|progress| services::run(&options, progress)).map_err(failed)?;
            let text = if json { report.to_json() } else { Ok(report.to_markdown()) };
            (text.map_err(failed)?, report.is_good())
        }
        BenchCommand::Image(options) => {
            let report = told(|progress| image::run(&options, progress)).map_err(failed)?;
            let text = if json { report.to_json() } else { Ok(report.to_markdown()) };
            (text.map_err(failed)?, report.is_good())
        }
        BenchCommand::Plan(options) => {
            let finished = told(|progress| plan::run(&options, progress)).map_err(failed)?;
            match finished {
                plan::Finished::One(sample) => {
                    let text = serde_json::to_string(&sample).map_err(|e| failed(e.into()))? + "\n";
                    (text, true)
                }
                plan::Finished::Report(report) => {
                    let text = if json { report.to_json() } else { Ok(report.to_markdown()) };
                    (text.map_err(failed)?, report.is_good())
                }
            }
        }
    };
    end(&text, good)
}

/// `vyr sched bench`: its figures are of this machine, and need no node.
pub(super) fn sched(options: &sched::Options, json: bool) -> Result<ExitCode> {
    let measure = |progress: &mut dyn FnMut(&str)| -> anyhow::Result<(sched::Report, String)> {
        if options.demo {
            let shown = sched::show(options, progress)?;
            return Ok((shown.report, shown.text));
        }
        let report = sched::run(options, progress)?;
        let text = report.to_markdown();
        Ok((report, text))
    };
    let (report, text) = told(measure).map_err(failed)?;
    let text = if json { report.to_json().map_err(failed)? } else { text };
    end(&text, report.is_good())
}

fn end(text: &str, good: bool) -> Result<ExitCode> {
    io::stdout().write_all(text.as_bytes()).map_err(FileError::on("write", Path::new("stdout")))?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(Category::Failure.exit_code()) })
}

/// Runs `measure` and shows its progress: a spinner on a terminal, lines elsewhere.
fn told<T>(measure: impl FnOnce(&mut dyn FnMut(&str)) -> T) -> T {
    if !rustix::termios::isatty(io::stderr().as_fd()) {
        return measure(&mut |line| output::say(line));
    }
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(120));
    let measured = measure(&mut |line| spinner.set_message(line.to_owned()));
    spinner.finish_and_clear();
    measured
}
