//! Commands that a step runs in the open: what they write is seen as it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, bail};

/// Runs a command with our own stdout and stderr; fails if it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{} ended with {status}", name(command));
    }
    Ok(())
}

/// The same, and returns whether it succeeded and every line it wrote on either stream.
pub(crate) fn run_and_read(command: &mut Command) -> anyhow::Result<(bool, Vec<String>)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let (sender, lines) = mpsc::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let errors = sender.clone();
        scope.spawn(move || copy(stderr, std::io::stderr(), &errors));
        scope.spawn(move || copy(stdout, std::io::stdout(), &sender));
    });
    let status = child.wait().with_context(|| format!("cannot wait for {command:?}"))?;
    Ok((status.success(), lines.into_iter().collect()))
}

/// The command as a reader would type it, without its environment.
pub(crate) fn name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn copy(from: Option<impl Read>, mut to: impl Write, lines: &mpsc::Sender<String>) {
    let Some(from) = from else { return };
    for bytes in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&bytes).into_owned();
        // A reader that went away does not end the step: its result still counts.
        let _ = writeln!(to, "{line}");
        let _ = lines.send(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_read_and_the_exit_is_told() {
        let (ok, mut lines) =
            run_and_read(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]))
                .expect("sh starts");
        lines.sort();
        assert!(!ok);
        assert_eq!(lines, ["err", "out"]);
    }
}
