//! How answers and errors are written.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde::Serialize;
use vyr_base::Category;
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
    category: Category,
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
        say(format!("error: {report}"));
        for line in causes.iter().flat_map(|cause| cause.lines()) {
            say(format!("  why: {line}"));
        }
        if let Some(hint) = report.hint() {
            say(format!("  hint: {hint}"));
        }
    }
    ExitCode::from(category.exit_code())
}

/// Says why a command line was not parsed, or prints the help or the version that was asked for;
/// returns the exit code.
pub(crate) fn not_parsed(error: &clap::Error, as_json: bool) -> ExitCode {
    // Help and version are answers; everything else is a usage error.
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let category = Category::Usage;
    if as_json {
        let text = error.render().to_string();
        // Behind the first empty line stand usage and a hint at the help.
        let first = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
        let message = match error.kind() {
            ErrorKind::MissingSubcommand => "a command is missing".to_owned(),
            _ => words.join(" "),
        };
        let hint = Some("vyr --help".to_owned());
        let retryable = category.retryable();
        let error = ErrorFields { category, message, causes: Vec::new(), hint, retryable };
        let _ = json(ErrorBody { error });
    } else {
        let _ = error.print();
    }
    ExitCode::from(category.exit_code())
}

/// Narration: a line on stderr. (`eprintln!` would panic when nobody listens.)
///
/// It may quote a stranger's names, so control characters are made visible: they must not move the
/// cursor, nor begin a line that looks like one of ours.
pub(crate) fn say(line: impl AsRef<str>) {
    let visible: String = line
        .as_ref()
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    let _ = writeln!(io::stderr(), "{visible}");
}

/// Data: a line on stdout. Nobody listening is not our failure.
pub(crate) fn print(line: impl AsRef<str>) {
    let _ = writeln!(io::stdout(), "{}", line.as_ref());
}
