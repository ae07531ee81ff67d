//! `vyr doctor`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use vyr_node::otlp::FAILING;
use vyr_node::{DataDir, FileError, Finding, Result, Sockets, Status, examine};

use crate::output;

#[derive(Serialize)]
struct Body {
    facilities: Vec<Facility>,
}

#[derive(Serialize)]
struct Facility {
    facility: &'static str,
    status: &'static str,
    detail: String,
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Limited => "limited",
        Status::Unavailable => "unavailable",
    }
}

/// What the node that runs says of itself, if it says so to this user.
fn of_node(data: &DataDir, named: bool) -> Vec<Finding> {
    let status =
        Sockets::find(data.path(), named).and_then(|socket| super::status::ask(&socket).ok());
    let settings = status.map(|status| status.settings).unwrap_or_default();
    let setting = |name: &str| settings.get(name).map(String::as_str);
    telemetry(setting("otlp")).into_iter().chain([guidance(setting("guidance"))]).collect()
}

/// What guides the threads that run guests; without a node, what would.
fn guidance(said: Option<&str>) -> Finding {
    let (tier, detail) = match said {
        Some(said) => (said.split(' ').next().unwrap_or_default().to_owned(), said.to_owned()),
        None => {
            let (tier, why) = vyr_node::guidance::available();
            (tier.clone(), format!("{tier} ({why})"))
        }
    };
    let status = if tier == "observe" { Status::Ok } else { Status::Limited };
    Finding { facility: "guidance", status, detail }
}

/// How the node exports its telemetry.
fn telemetry(said: Option<&str>) -> Option<Finding> {
    let said = said?;
    let (status, detail) = match said {
        "off" => (Status::Ok, "off: the node's environment names no collector".to_owned()),
        said if said.starts_with(FAILING) => (Status::Limited, said.to_owned()),
        said => (Status::Ok, said.to_owned()),
    };
    Some(Finding { facility: "otlp", status, detail })
}

/// Exit code 0 whatever is found: it is a report, not a check.
pub(crate) fn run(data: &DataDir, named: bool, json: bool) -> Result<ExitCode> {
    let mut findings = examine(data, named);
    findings.extend(of_node(data, named));
    if json {
        let facilities = findings
            .into_iter()
            .map(|Finding { facility, status, detail }| Facility {
                facility,
                status: word(status),
                detail,
            })
            .collect();
        output::json(Body { facilities }).map_err(FileError::on("write", Path::new("stdout")))?;
    } else {
        for Finding { facility, status, detail } in findings {
            output::print(format!("{facility:<10} {:<12} {detail}", word(status)));
        }
    }
    Ok(ExitCode::SUCCESS)
}
