//! `vyr logs`: what an instance wrote, line by line.

use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use tokio_stream::StreamExt;
use vyr_api::operator::{LogLine, ReadLogRequest};
use vyr_node::Result;

use crate::cli::LogsArgs;
use crate::cmd::link::{Place, refused};
use crate::output;

#[derive(Serialize)]
struct Line<'a> {
    instance: &'a str,
    number: u64,
    time: Option<Timestamp>,
    stream: &'a str,
    line: std::borrow::Cow<'a, str>,
    cut: bool,
    dropped: u64,
}

fn time(of: &LogLine) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(of.unix_nano)).ok()
}

pub(crate) fn logs(place: &Place, args: &LogsArgs, json: bool) -> Result<ExitCode> {
    let link = place.node("vyr logs")?;
    let LogsArgs { target, follow, from, timestamps } = args;
    let request = ReadLogRequest { target: target.clone(), from: *from, follow: *follow };
    link.with(async |mut client| {
        let mut lines = client.operator.read_log(request).await.map_err(refused)?.into_inner();
        while let Some(line) = lines.next().await {
            let line = line.map_err(refused)?;
            if json {
                output::json_line(Line {
                    instance: &line.instance,
                    number: line.number,
                    time: time(&line),
                    stream: &line.stream,
                    line: String::from_utf8_lossy(&line.line),
                    cut: line.cut,
                    dropped: line.dropped,
                })?;
            } else if !show(&line, *timestamps) {
                break;
            }
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One line; whether anybody still reads. Its standard error goes where ours does.
fn show(line: &LogLine, timestamps: bool) -> bool {
    if line.stream == "dropped" {
        output::say(format!("({} lines were dropped)", line.dropped));
        return true;
    }
    let at = timestamps.then(|| time(line)).flatten().map(|at| format!("{at} "));
    let mut text = at.unwrap_or_default().into_bytes();
    text.extend_from_slice(&line.line);
    if !line.cut {
        text.push(b'\n');
    }
    match line.stream.as_str() {
        "stderr" => std::io::stderr().write_all(&text).is_ok(),
        _ => std::io::stdout().write_all(&text).is_ok(),
    }
}
