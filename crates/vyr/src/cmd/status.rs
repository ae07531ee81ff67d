//! `vyr status`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use vyr_api::operator::{StatusRequest, StatusResponse};
use vyr_api::{Client, Endpoint};
use vyr_base::{Category, Problem};
use vyr_node::{FileError, Result, Sockets};

use crate::output;

/// Why there is nothing to say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    /// Nobody listens.
    #[error("no node is running for {0}")]
    NotRunning(String),
    /// It does not answer.
    #[error("the node does not answer: {0}")]
    Silent(String),
}

impl Problem for StatusError {
    fn category(&self) -> Category {
        Category::Transient
    }

    fn hint(&self) -> Option<String> {
        Some("start it: vyr up".into())
    }
}

#[derive(Serialize)]
struct Body {
    ready: bool,
    #[serde(rename = "node_version")]
    version: String,
    origin: String,
    node_key: String,
    data_dir: String,
    uptime_ms: u64,
    events: u64,
    tasks_queued: u64,
    tasks_running: u64,
    states: u64,
    processes: Vec<ProcessBody>,
    settings: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ProcessBody {
    name: String,
    pid: u32,
    restarts: u32,
}

pub(crate) fn run(data: &Path, named: bool, json: bool) -> Result<ExitCode> {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let Some(socket) = Sockets::find(&data, named) else {
        return Err(StatusError::NotRunning(data.display().to_string()).into());
    };
    let status = ask(&socket).map_err(StatusError::Silent)?;
    if json {
        let process = |p: vyr_api::operator::Process| ProcessBody {
            name: p.name,
            pid: p.pid,
            restarts: p.restarts,
        };
        let body = Body {
            ready: true,
            version: status.version,
            origin: status.origin,
            node_key: status.node_key,
            data_dir: status.data_dir,
            uptime_ms: status.uptime_ms,
            events: status.events,
            tasks_queued: status.tasks_queued,
            tasks_running: status.tasks_running,
            states: status.states,
            processes: status.processes.into_iter().map(process).collect(),
            settings: status.settings.into_iter().collect(),
        };
        output::json(body).map_err(FileError::on("write", Path::new("stdout")))?;
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

/// What the node behind a socket says of itself, or why it does not.
pub(super) fn ask(socket: &Path) -> std::result::Result<StatusResponse, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| e.to_string())?.block_on(async {
        let endpoint = Endpoint::Unix(socket.to_owned());
        let mut client = Client::connect(&endpoint).await.map_err(|e| e.to_string())?;
        let status = client.operator.status(StatusRequest {}).await;
        status.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    })
}

fn print(status: &StatusResponse) {
    output::print(format!("ready      version {}, {} s", status.version, status.uptime_ms / 1000));
    output::print(format!("journal    {}, {} events", status.origin, status.events));
    output::print(format!(
        "tasks      {} running, {} waiting; {} states",
        status.tasks_running, status.tasks_queued, status.states
    ));
    output::print(format!("data       {}", status.data_dir));
    for process in &status.processes {
        let restarts = match process.restarts {
            0 => String::new(),
            n => format!(", restarted {n} times"),
        };
        output::print(format!("process    {} (pid {}{restarts})", process.name, process.pid));
    }
    let mut settings: Vec<_> = status.settings.iter().collect();
    settings.sort();
    for (name, value) in settings {
        output::print(format!("{name:10} {value}"));
    }
}
