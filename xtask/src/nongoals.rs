//! Non-goals: `docs/NONGOALS.md` lists each id once and says what holds it.
//!
//! A row is held by a test or a file that exists, or `by absence`. Absence is looked at, too:
//! no command or option in the generated `docs/cli.md` may carry a word of [`ABSENT`].

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::held_by::Index;
use crate::markdown::{self, code_spans};
use crate::repo::Repo;

const FILE: &str = "docs/NONGOALS.md";
const COMMANDS: &str = "docs/cli.md";
const BY_ABSENCE: &str = "by absence";
const COLUMNS: usize = 3;

/// Words that a command or an option would have if we did one of these things after all.
const ABSENT: &[&str] = &[
    "anycast",
    "autoscale",
    "buildpack",
    "cache-control",
    "cdn",
    "compose",
    "crd",
    "discover",
    "function",
    "helm",
    "kernel",
    "kube",
    "kubernetes",
    "marketplace",
    "mesh",
    "migrate",
    "nested",
    "privileged",
    "sidecar",
    "ui",
    "vault",
    "waf",
    "web",
];

/// Checks the table and, if it has been generated, the list of commands.
pub(crate) fn check(repo: &Repo, index: &Index) -> anyhow::Result<Vec<Fault>> {
    let mut faults = faults(&repo.read(FILE)?, index);
    if repo.root.join(COMMANDS).is_file() {
        faults.extend(command_faults(&repo.read(COMMANDS)?));
    }
    Ok(faults)
}

/// Every id of the requirements that is a non-goal.
fn ids() -> Vec<String> {
    let series = |letter: char, numbers: std::ops::RangeInclusive<u8>| {
        numbers.map(move |number| format!("{letter}{number}"))
    };
    series('K', 1..=33)
        .chain(series('M', 1..=14))
        .chain(series('R', 22..=26))
        .chain(series('V', 16..=16))
        .collect()
}

fn faults(text: &str, index: &Index) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut lines: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let ids = ids();
    for row in markdown::rows(text, "id") {
        if row.cells.len() != COLUMNS || row.cells.iter().any(String::is_empty) {
            let what = format!("a non-goal has {COLUMNS} cells, none empty");
            faults.push(Fault::line(FILE, row.line, what));
            continue;
        }
        let (id, held_by) = (&row.cells[0], &row.cells[2]);
        if !ids.contains(id) {
            faults.push(Fault::line(FILE, row.line, format!("{id} is no id of the requirements")));
        }
        lines.entry(id.clone()).or_default().push(row.line);
        if held_by != BY_ABSENCE
            && let Some(what) = index.fault(held_by)
        {
            faults.push(Fault::line(FILE, row.line, what));
        }
    }
    for id in ids {
        match lines.get(&id).map_or(0, Vec::len) {
            0 => faults.push(Fault::new(FILE, format!("{id} is missing"))),
            1 => {}
            count => faults.push(Fault::new(FILE, format!("{id} appears {count} times"))),
        }
    }
    faults
}

/// Looks at each command and each `--option` that the reference shows; prose may use any word.
fn command_faults(text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let shown = ["Usage: ", "$ ", "# "].into_iter().filter_map(|mark| line.split_once(mark));
        let shown = shown.map(|(_, text)| text).chain(code_spans(line));
        let commands = shown.filter_map(|text| text.strip_prefix("vyr "));
        let commands = commands.flat_map(|command| {
            command.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        });
        let options = line
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter_map(|word| word.strip_prefix("--"));
        for word in commands.chain(options).filter(|word| ABSENT.contains(word)) {
            let what = format!("`{word}` is a non-goal, see {FILE}");
            faults.push(Fault::line(COMMANDS, number, what));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_by::tests::index;

    fn table(skip: &str) -> String {
        let mut text = "| id | we do not | what holds it |\n| --- | --- | --- |\n".to_owned();
        for id in ids().iter().filter(|id| *id != skip) {
            text.push_str(&format!("| {id} | do this | by absence |\n"));
        }
        text
    }

    #[test]
    fn there_are_53_ids_and_a_table_of_them_passes() {
        assert_eq!(ids().len(), 33 + 14 + 5 + 1);
        assert_eq!(faults(&table(""), &index(&[])), []);
    }

    #[test]
    fn a_missing_a_doubled_and_an_unknown_id_fail() {
        let index = index(&[]);
        assert_eq!(faults(&table("K7"), &index).len(), 1);
        assert_eq!(faults(&format!("{}| K7 | again | by absence |\n", table("")), &index).len(), 1);
        assert_eq!(faults(&format!("{}| Q1 | this | by absence |\n", table("")), &index).len(), 1);
    }

    #[test]
    fn a_non_goal_is_held_by_something_that_exists_or_by_absence() {
        let index = index(&[("crates/vyr-base/src/a.rs", "fn zips_are_refused() {}\n")]);
        let with = |held_by: &str| format!("{}| K8 | take zips | {held_by} |\n", table("K8"));
        assert_eq!(faults(&with("`vyr-base::zips_are_refused`"), &index), []);
        assert_eq!(faults(&with("`vyr-base::gone`"), &index).len(), 1);
        assert_eq!(faults(&with("we would never"), &index).len(), 1);
    }

    #[test]
    fn a_command_or_option_for_a_non_goal_fails() {
        for text in
            ["## `vyr task migrate`", "## vyr web", "* `--privileged`", "  Usage: vyr cdn [NAME]"]
        {
            assert_eq!(command_faults(text).len(), 1, "{text}");
        }
        let prose = "`vyr run` asks the kernel; vyr does not migrate.\n  vyr knows no sidecar\n";
        assert_eq!(command_faults(prose), []);
    }
}
