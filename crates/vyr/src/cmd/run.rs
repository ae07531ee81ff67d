//! `vyr run`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use vyr_base::{Category, Digest, Problem, format_bytes};
use vyr_node::{DataDir, FileError, Input, Program, Progress, Result, RunReport, RunRequest};
use vyr_task::{Limits, Reason, State, Usage};

use crate::cli::RunArgs;
use crate::output;

/// Input smaller than this is over before a bar is read.
const BAR_FROM_BYTES: u64 = 16 << 20;

/// Why the command line does not make sense.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("arguments of a stored artifact are fixed by its signature")]
    ArgsOfArtifact,
    #[error("{0} is neither a file nor sha256:.. of an artifact")]
    NoProgram(String),
    #[error("{0} is a container image or its name, not Wasm")]
    Container(String),
}

impl Problem for UsageError {
    fn category(&self) -> Category {
        match self {
            Self::NoProgram(_) => Category::NotFound,
            Self::ArgsOfArtifact | Self::Container(_) => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ArgsOfArtifact => {
                "build another: vyr artifact build FILE --name N --arg ..".into()
            }
            Self::NoProgram(_) => "vyr run FILE.wasm, or vyr artifact ls for digests".into(),
            Self::Container(_) => "containers are services: use vyr deploy".into(),
        })
    }
}

pub(crate) fn run(
    open: impl FnOnce() -> Result<DataDir>,
    args: RunArgs,
    json: bool,
) -> Result<ExitCode> {
    let program = program(&args)?;
    let input = match &args.input {
        None => Input::Empty,
        Some(path) if path == Path::new("-") => {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            Input::From(File::from(stdin.map_err(FileError::on("read", path))?))
        }
        Some(path) => Input::From(File::open(path).map_err(FileError::on("read", path))?),
    };
    let show = match &args.output {
        Some(path) => Some(File::create(path).map_err(FileError::on("write", path))?),
        // With --json stdout belongs to the result; the output is in the store.
        None if json => None,
        None => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            Some(File::from(stdout.map_err(FileError::on("write", Path::new("stdout")))?))
        }
    };
    let defaults = Limits::default();
    let progress = Arc::new(Progress::default());
    let bar = Bar::start(&input, &progress, json || args.quiet);
    let request = RunRequest {
        program,
        input,
        show,
        show_log: !json,
        store_output: !args.no_store,
        limits: Limits {
            memory_bytes: args.memory.unwrap_or(defaults.memory_bytes),
            deadline_ms: args.deadline.unwrap_or(defaults.deadline_ms),
            cpu_ms: args.cpu.unwrap_or(defaults.cpu_ms),
            output_bytes_max: args.output_max.unwrap_or(defaults.output_bytes_max),
        },
        deterministic: args.deterministic,
        progress,
    };
    let report = vyr_node::run(&open()?, request);
    drop(bar);
    let report = report?;
    if json {
        output::json(Body::from(&report)).map_err(FileError::on("write", Path::new("stdout")))?;
    } else if !args.quiet {
        summary(&report);
    }
    Ok(exit_code(&report, args.exit_code))
}

fn program(args: &RunArgs) -> Result<Program> {
    Ok(match name_program(&args.program)? {
        Named::Artifact(_) if !args.args.is_empty() => {
            return Err(UsageError::ArgsOfArtifact.into());
        }
        Named::Artifact(digest) => Program::Artifact(digest),
        Named::File(path) => Program::File { path, args: args.args.clone(), key: args.key.clone() },
    })
}

/// What a command names as its program.
pub(super) enum Named {
    Artifact(Digest),
    File(PathBuf),
}

/// Reads what names a program; a container's name is told what it is.
pub(super) fn name_program(text: &str) -> Result<Named> {
    if text.starts_with("sha256:") {
        let digest = text.parse().map_err(|_| UsageError::NoProgram(text.to_owned()))?;
        return Ok(Named::Artifact(digest));
    }
    let path = PathBuf::from(text);
    // A pipe is as good as a file; that a directory is neither is said by whoever reads it.
    if path.exists() {
        return Ok(Named::File(path));
    }
    // `nginx`, `nginx:1.27`, `host/name@sha256:..`: no file, and nothing a Wasm file is called.
    if !text.ends_with(".wasm") {
        return Err(UsageError::Container(text.to_owned()).into());
    }
    Err(UsageError::NoProgram(text.to_owned()).into())
}

fn exit_code(report: &RunReport, pass_through: bool) -> ExitCode {
    let outcome = &report.outcome;
    match (outcome.state, outcome.exit_code) {
        (State::Completed, _) => ExitCode::SUCCESS,
        // A process can only say 0 to 255, and a failure must not become 0.
        (_, Some(code)) if pass_through => {
            ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1).max(1))
        }
        _ if outcome.reason == Some(Reason::Invalid) => ExitCode::from(Category::Usage.exit_code()),
        _ => ExitCode::from(Category::Failure.exit_code()),
    }
}

fn summary(report: &RunReport) {
    let outcome = &report.outcome;
    let state = match outcome.state {
        State::Completed => "completed",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    };
    let why = match (&outcome.message, outcome.reason) {
        (Some(message), Some(reason)) => format!(" ({}): {message}", name(reason)),
        _ => String::new(),
    };
    let usage = &outcome.usage;
    output::say(format!("vyr: {state}{why}"));
    output::say(format!("  artifact {} {}", report.artifact, report.name));
    output::say(format!("  signer: {} {}", report.signer.principal, report.signer.key_id));
    let partly = if report.input_complete { "" } else { ", read in part" };
    output::say(format!(
        "  input    {} {}{partly}",
        report.input,
        format_bytes(report.input_bytes)
    ));
    output::say(format!("  output   {} {}", report.output, format_bytes(report.output_bytes)));
    output::say(format!(
        "  took {} ms: {} ms checking, {} ms {}, {} ms running ({} ms processor, {} memory)",
        ms(report.timings.total_us),
        ms(report.timings.admit_us),
        ms(report.timings.code_us),
        if report.compiled { "compiling" } else { "loading code" },
        ms(report.timings.run_us),
        ms(usage.cpu_us),
        format_bytes(usage.memory_peak_bytes),
    ));
}

fn ms(us: u64) -> String {
    format!("{}.{}", us / 1000, us % 1000 / 100)
}

/// The reason as JSON writes it.
fn name(reason: Reason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{reason:?}"),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    state: State,
    reason: Option<Reason>,
    exit_code: Option<i32>,
    message: Option<&'a str>,
    artifact_digest: Digest,
    name: &'a str,
    signer: &'a str,
    signer_key_id: String,
    input_digest: Digest,
    input_bytes: u64,
    input_complete: bool,
    output_digest: Digest,
    output_bytes: u64,
    limits: Limits,
    usage: Usage,
    timings: Timings,
    compiled: bool,
    log: String,
}

#[derive(Serialize)]
struct Timings {
    admit_us: u64,
    code_us: u64,
    run_us: u64,
    total_us: u64,
}

impl<'a> From<&'a RunReport> for Body<'a> {
    fn from(report: &'a RunReport) -> Self {
        let timings = report.timings;
        Self {
            state: report.outcome.state,
            reason: report.outcome.reason,
            exit_code: report.outcome.exit_code,
            message: report.outcome.message.as_deref(),
            artifact_digest: report.artifact,
            name: &report.name,
            signer: &report.signer.principal,
            signer_key_id: report.signer.key_id.to_string(),
            input_digest: report.input,
            input_bytes: report.input_bytes,
            input_complete: report.input_complete,
            output_digest: report.output,
            output_bytes: report.output_bytes,
            limits: report.limits,
            usage: report.outcome.usage,
            timings: Timings {
                admit_us: timings.admit_us,
                code_us: timings.code_us,
                run_us: timings.run_us,
                total_us: timings.total_us,
            },
            compiled: report.compiled,
            log: String::from_utf8_lossy(&report.log).into_owned(),
        }
    }
}

/// A bar on a terminal while a large file goes in; ends when dropped.
struct Bar {
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bar {
    fn start(input: &Input, progress: &Arc<Progress>, quiet: bool) -> Option<Self> {
        let size = match input {
            Input::From(file) => file.metadata().ok().filter(std::fs::Metadata::is_file)?.len(),
            Input::Empty => return None,
        };
        let on_terminal = rustix::termios::isatty(io::stderr().as_fd());
        if quiet || !on_terminal || size < BAR_FROM_BYTES {
            return None;
        }
        let ended = Arc::new(AtomicBool::new(false));
        let (progress, until) = (Arc::clone(progress), Arc::clone(&ended));
        let thread = std::thread::spawn(move || draw(size, &progress, &until));
        Some(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn draw(size: u64, progress: &Progress, ended: &AtomicBool) {
    let template = "{msg} {bar:40} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(size).with_style(style);
    while !ended.load(Ordering::Relaxed) {
        let compiling = progress.compiling.load(Ordering::Relaxed);
        bar.set_message(if compiling { "compiling" } else { "input" });
        bar.set_position(progress.input_bytes.load(Ordering::Relaxed));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}
