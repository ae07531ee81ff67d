//! `vyr`: the command line.
//!
//! stdout is data, stderr is narration. Each command is a file in `cmd`; `cli` says what can be
//! typed, `output` how answers and errors are written. What the commands do is in `vyr-node`.

mod cli;
mod cmd;
mod output;

use std::process::ExitCode;

use clap::Parser;
use vyr_node::process::{Role, serve};

fn main() -> ExitCode {
    // A confined child must read nothing and start nothing before it is confined.
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Not parsed, so looked for: whatever stands behind `--` is the guest's.
            let json =
                arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
            return output::not_parsed(&e, json);
        }
    };
    let json = cli.json;
    match cmd::dispatch(cli) {
        Ok(code) => code,
        Err(report) => output::error(&report, json),
    }
}
