//! `vyr ingress`.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vyr_base::{Category, Digest, Problem};
use vyr_ingress::{CONFIG_BYTES_MAX, Config, Prepared};
use vyr_node::process::confine::{ConfineError, confine_ingress};
use vyr_node::{FileError, Result};

use crate::cli::{IngressArgs, IngressCommand};
use crate::output;

pub(crate) fn run(args: IngressArgs, json: bool) -> Result<ExitCode> {
    match (args.command, args.config) {
        (Some(IngressCommand::Check { file }), _) => check(&file, json),
        (Some(IngressCommand::Apply { file }), _) => apply(&file, json),
        (Some(IngressCommand::Cut { file, hosts }), _) => cut(&file, &hosts, json),
        (Some(IngressCommand::Status { file }), _) => status(&file, json),
        (None, Some(file)) => serve(&file),
        (None, None) => unreachable!("clap asks for one of them"),
    }
}

/// It cannot give up what it must not have.
#[derive(Debug, thiserror::Error)]
#[error("the ingress does not start")]
struct Unconfined(#[source] ConfineError);

impl Problem for Unconfined {
    fn category(&self) -> Category {
        Category::Failure
    }

    fn hint(&self) -> Option<String> {
        Some("vyr doctor says what this kernel offers".to_owned())
    }
}

fn load(file: &Path) -> Result<(Config, Vec<u8>)> {
    let mut bytes = Vec::new();
    let read = |bytes: &mut Vec<u8>| {
        // One more than may be: what is too long must not look as if it ended there.
        File::open(file)?.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(bytes)
    };
    read(&mut bytes).map_err(FileError::on("read", file))?;
    Ok((Config::parse(&file.display().to_string(), &bytes)?, bytes))
}

#[derive(Serialize)]
struct Checked {
    config: Digest,
    listeners: usize,
    routes: usize,
    backends_ready: usize,
}

fn check(file: &Path, json: bool) -> Result<ExitCode> {
    let (config, _) = load(file)?;
    let ready = |route: &vyr_ingress::Route| route.backends.iter().filter(|one| one.ready).count();
    let checked = Checked {
        config: config.digest,
        listeners: config.listeners.len(),
        routes: config.routes.len(),
        backends_ready: config.routes.iter().map(ready).sum(),
    };
    if json {
        output::json_line(&checked)?;
    } else {
        output::print(format!(
            "good: {} listeners, {} routes, {} ready backends; {}",
            checked.listeners, checked.routes, checked.backends_ready, checked.config
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn apply(file: &Path, json: bool) -> Result<ExitCode> {
    let (config, bytes) = load(file)?;
    let applied = vyr_ingress::apply(&config, &bytes)?;
    if json {
        output::json_line(&applied)?;
    } else {
        output::print(format!("applied {}", config.digest));
        for (word, field) in [("listens", "listeners_added"), ("left", "listeners_removed")] {
            for address in applied[field].as_array().into_iter().flatten() {
                output::print(format!("{word} {}", address.as_str().unwrap_or_default()));
            }
        }
        output::say("undo: vyr ingress apply, with the file of before");
    }
    Ok(ExitCode::SUCCESS)
}

fn cut(file: &Path, hosts: &[IpAddr], json: bool) -> Result<ExitCode> {
    let (config, _) = load(file)?;
    let connections = vyr_ingress::cut(&config.control, hosts)?;
    if json {
        output::json_line(serde_json::json!({ "connections": connections }))?;
    } else {
        output::print(format!("cut {connections} connections"));
    }
    Ok(ExitCode::SUCCESS)
}

fn status(file: &Path, json: bool) -> Result<ExitCode> {
    let (config, _) = load(file)?;
    let status = vyr_ingress::status(&config.control)?;
    if json {
        output::json_line(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    output::print(format!("pid {}, configuration {}", status["pid"], word(&status["config"])));
    for list in ["listeners", "routes"] {
        for one in status[list].as_array().into_iter().flatten() {
            let counts = &one["counts"];
            let refused = counts["refused"].as_object().into_iter().flatten();
            let refused: u64 = refused.filter_map(|(_, count)| count.as_u64()).sum();
            output::print(format!(
                "{} {}: {} open, {} in all, {refused} refused, {} bytes up, {} down",
                list.trim_end_matches('s'),
                word(&one["name"]),
                counts["open"],
                counts["total"],
                counts["bytes_up"],
                counts["bytes_down"],
            ));
        }
    }
    if status["config"] != *config.digest.to_string() {
        output::say(format!("{} is not what runs: vyr ingress apply it", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(file: &Path) -> Result<ExitCode> {
    let (config, _) = load(file)?;
    let said = format!(
        "vyr: ingress on {}, {} listeners",
        config.control.display(),
        config.listeners.len()
    );
    let prepared = Prepared::new(config, Vec::new())?;
    let stop = stop().map_err(FileError::on("watch signals for", file))?;
    confine_ingress().map_err(Unconfined)?;
    output::say(said);
    prepared.serve(&stop)?;
    output::say("vyr: ingress stopped");
    Ok(ExitCode::SUCCESS)
}

/// What can be read once the process is told to end. A hangup is none: whoever started it may go.
fn stop() -> io::Result<OwnedFd> {
    let (stop, tell) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
    }
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    Ok(stop.into())
}
