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

/// How the node that runs exports its telemetry, if it says so to this user.
fn telemetry(data: &DataDir, named: bool) -> Option<Finding> {
    let status = super::status::ask(&Sockets::find(data.path(), named)?).ok()?;
    let said = status.settings.get("otlp")?;
    let (status, detail) = match said.as_str() {
        "off" => (Status::Ok, "off: the node's environment names no collector".to_owned()),
        said if said.starts_with(FAILING) => (Status::Limited, said.to_owned()),
        said => (Status::Ok, said.to_owned()),
    };
    Some(Finding { facility: "otlp", status, detail })
}

/// Exit code 0 whatever is found: it is a report, not a check.
pub(crate) fn run(data: &DataDir, named: bool, json: bool) -> Result<ExitCode> {
    let mut findings = examine(data, named);
    findings.extend(telemetry(data, named));
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
