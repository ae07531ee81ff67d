//! How answers and errors are written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde::Serialize;
use vyr_base::Category;
use vyr_node::{FileError, Report, Result};

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

/// An error in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorFields {
    category: Category,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    retryable: bool,
}

impl ErrorFields {
    pub(crate) fn of(report: &Report) -> Self {
        let category = report.category();
        Self {
            category,
            message: report.to_string(),
            causes: causes(report),
            hint: report.hint(),
            retryable: category.retryable(),
        }
    }
}

/// What is underneath. A cause that the message quotes already is not said twice.
fn causes(report: &Report) -> Vec<String> {
    let mut last = report.to_string();
    let causes = report.causes().into_iter().filter(|cause| {
        let new = !last.contains(cause.as_str());
        last.clone_from(cause);
        new
    });
    causes.collect()
}

/// Says what went wrong, why, and how to mend it; returns the exit code.
pub(crate) fn error(report: &Report, as_json: bool) -> ExitCode {
    if as_json {
        let _ = json(ErrorBody { error: ErrorFields::of(report) });
    } else {
        say(format!("error: {report}"));
        beneath(report);
    }
    ExitCode::from(report.category().exit_code())
}

/// Says why, and how to mend it: what stands below the message of an error.
pub(crate) fn beneath(report: &Report) {
    for line in causes(report).iter().flat_map(|cause| cause.lines()) {
        say(format!("  why: {line}"));
    }
    if let Some(hint) = report.hint() {
        say(format!("  hint: {hint}"));
    }
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

/// Where data goes: a file that appears whole or not at all, or stdout.
pub(crate) struct Out {
    to: Option<(PathBuf, PathBuf, File)>,
}

impl Out {
    /// `None` is stdout.
    pub(crate) fn create(to: Option<&Path>) -> Result<Self> {
        let Some(to) = to else { return Ok(Self { to: None }) };
        // What is no file (a pipe, a device) is written to and stays what it is.
        let special = fs::metadata(to).is_ok_and(|meta| !meta.is_file());
        let beside = match special {
            true => to.to_owned(),
            false => to.with_extension(format!("partial-{}", std::process::id())),
        };
        let file = File::create(&beside).map_err(FileError::on("write", to))?;
        Ok(Self { to: Some((to.to_owned(), beside, file)) })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (written, name) = match &mut self.to {
            Some((to, _, file)) => (file.write_all(bytes), to.as_path()),
            None => (io::stdout().write_all(bytes), Path::new("stdout")),
        };
        Ok(written.map_err(FileError::on("write", name))?)
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        let Some((to, beside, _)) = self.to.take() else { return Ok(()) };
        if to == beside {
            return Ok(());
        }
        Ok(fs::rename(&beside, &to).map_err(FileError::on("write", &to))?)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some((to, beside, _)) = &self.to
            && to != beside
        {
            let _ = fs::remove_file(beside);
        }
    }
}

/// Prints a JSON object on stdout, or says why not.
pub(crate) fn json_line<T: Serialize>(body: T) -> Result<()> {
    Ok(json(body).map_err(FileError::on("write", Path::new("stdout")))?)
}

/// Whether people read stdout as it comes.
pub(crate) fn is_live() -> bool {
    rustix::termios::isatty(io::stdout().as_fd())
}

/// Narration: a line on stderr. (`eprintln!` would panic when nobody listens.)
///
/// It may quote a stranger's names, so control characters are made visible: they must not move the
/// cursor, nor begin a line that looks like one of ours.
pub(crate) fn say(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", visible(line.as_ref()));
}

/// A text whose control characters can be seen, and do nothing.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// Data: a line on stdout. Nobody listening is not our failure.
pub(crate) fn print(line: impl AsRef<str>) {
    let _ = writeln!(io::stdout(), "{}", line.as_ref());
}
