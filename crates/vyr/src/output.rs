//! How answers and errors are written.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use vyr_node::Report;

/// The version of every JSON object we print; fields are only ever added to it.
const JSON_VERSION: u32 = 1;

#[derive(Serialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

/// Prints one JSON object on stdout.
pub(crate) fn json<T: Serialize>(body: T) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Versioned { version: JSON_VERSION, body })?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

#[derive(Serialize)]
struct ErrorBody {
    error: ErrorFields,
}

#[derive(Serialize)]
struct ErrorFields {
    category: vyr_base::Category,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    retryable: bool,
}

/// Says what went wrong, why, and how to mend it; returns the exit code.
pub(crate) fn error(report: &Report, as_json: bool) -> ExitCode {
    let category = report.category();
    let mut last = report.to_string();
    // A cause that the message quotes already is not said twice.
    let causes: Vec<String> = report
        .causes()
        .into_iter()
        .filter(|cause| {
            let new = !last.contains(cause.as_str());
            last.clone_from(cause);
            new
        })
        .collect();
    if as_json {
        let _ = json(ErrorBody {
            error: ErrorFields {
                category,
                message: report.to_string(),
                causes,
                hint: report.hint(),
                retryable: category.retryable(),
            },
        });
    } else {
        eprintln!("error: {report}");
        for cause in causes {
            for line in cause.lines() {
                eprintln!("  why: {line}");
            }
        }
        if let Some(hint) = report.hint() {
            eprintln!("  hint: {hint}");
        }
    }
    ExitCode::from(category.exit_code())
}

/// Narration: a line on stderr.
pub(crate) fn say(line: impl AsRef<str>) {
    eprintln!("{}", line.as_ref());
}

/// Data: a line on stdout. Nobody listening is not our failure.
pub(crate) fn print(line: impl AsRef<str>) {
    let _ = writeln!(io::stdout(), "{}", line.as_ref());
}
