//! `vyr __generate`: everything that is made from the tree of commands, in one directory.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use vyr_base::Category;
use vyr_node::{FileError, Result};

use super::site::schemas;
use crate::cli::Cli;

pub(crate) fn run(directory: &Path) -> Result<ExitCode> {
    let write = |name: &str, text: &[u8]| -> Result<()> {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(FileError::on("make", parent))?;
        }
        Ok(fs::write(&path, text).map_err(FileError::on("write", &path))?)
    };
    let mut root = Cli::command().term_width(100);
    root.build();
    write("docs/cli.md", reference(&root).as_bytes())?;
    write("docs/errors.md", errors().as_bytes())?;
    for (name, text) in schemas() {
        write(&format!("docs/schema/{name}"), text.as_bytes())?;
    }
    manual(&root, &write)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "vyr", &mut script);
        write(&format!("completions/vyr.{shell}"), &script)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

/// One page: the help of every command, in the order of the tree.
fn reference(root: &Command) -> String {
    let mut page = String::from(
        "# Commands\n\nMade from the program itself by `cargo xtask generate`; do not edit.\n",
    );
    section(root, &mut page);
    page
}

fn section(command: &Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help = command.clone().render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for sub in visible(command) {
        section(sub, page);
    }
}

fn manual(command: &Command, write: &impl Fn(&str, &[u8]) -> Result<()>) -> Result<()> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).replace(' ', "-");
    let mut page = Vec::new();
    let made = clap_mangen::Man::new(command.clone().name(name.clone())).render(&mut page);
    made.map_err(FileError::on("write", Path::new(&name)))?;
    write(&format!("docs/man/{name}.1"), &page)?;
    visible(command).try_for_each(|sub| manual(sub, write))
}

/// The exit codes and what they mean.
fn errors() -> String {
    let rows = [
        (Category::Failure, "the work was done and its result is no: a task failed"),
        (Category::Usage, "the command line, or a file it names, is not valid"),
        (Category::Auth, "a signature, a key or a permission does not allow it"),
        (Category::NotFound, "what was named does not exist"),
        (Category::Conflict, "it exists, in a state that forbids this"),
        (Category::Transient, "trying again later may work"),
        (Category::Internal, "a bug of ours or a broken machine"),
    ];
    let mut page = String::from(
        "# Exit codes and categories\n\nMade from the program itself by `cargo xtask generate`; \
         do not edit.\n\nAn error says what, `why:` and `hint:`. With `--json` it is an object \
         `error` with `category`, `message`, `causes`, `hint` and `retryable`.\n\n\
         | Code | Category | Meaning |\n| --- | --- | --- |\n| 0 | | it worked |\n",
    );
    for (category, meaning) in rows {
        let name = serde_json::to_value(category).unwrap_or_default();
        let name = name.as_str().unwrap_or_default().to_owned();
        let _ = writeln!(page, "| {} | `{name}` | {meaning} |", category.exit_code());
    }
    page
}
