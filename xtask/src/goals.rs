//! The goals of the network's roadmap: `docs/network.md` has a line for each, by its id.
//!
//! A line shows a command that exists, and names the test that holds it. A command exists if the
//! generated `docs/cli.md` has it, with every option that the line shows, or if it is a target of
//! the `Makefile`. The non-goals are `docs/NONGOALS.md`'s, which has a check of its own.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::Fault;
use crate::held_by::Index;
use crate::markdown::{self, code_spans};
use crate::repo::Repo;

const FILE: &str = "docs/network.md";
const COMMANDS: &str = "docs/cli.md";
const MAKEFILE: &str = "Makefile";
/// The columns of the table, by position: id, goal, how, command, what holds it.
const COMMAND: usize = 3;
const HELD_BY: usize = 4;
const COLUMNS: usize = 5;

/// Checks the table in the repository.
pub(crate) fn check(repo: &Repo, index: &Index) -> anyhow::Result<Vec<Fault>> {
    let known = Known::of(&repo.read(COMMANDS)?, &repo.read(MAKEFILE)?);
    Ok(faults(&repo.read(FILE)?, &known, index))
}

/// Five principles, and fifteen goals. Between them stands that what weakens a principle is refused.
fn ids() -> Vec<String> {
    (1..=5).chain(7..=21).map(|number| format!("R{number}")).collect()
}

/// What can be typed.
struct Known {
    /// Options by command: `client add`.
    commands: BTreeMap<String, BTreeSet<String>>,
    targets: BTreeSet<String>,
}

impl Known {
    fn of(commands: &str, makefile: &str) -> Self {
        let mut known = Self { commands: BTreeMap::new(), targets: BTreeSet::new() };
        let mut now = None;
        for line in commands.lines() {
            if let Some(name) = line.strip_prefix("## vyr") {
                let options = known.commands.entry(name.trim().to_owned()).or_default();
                options.clear();
                now = Some(name.trim().to_owned());
            } else if let Some(options) = now.as_ref().and_then(|now| known.commands.get_mut(now)) {
                let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
                let words = words.filter(|word| word.starts_with("--") && word.len() > 2);
                options.extend(words.map(str::to_owned));
            }
        }
        for line in makefile.lines().filter(|line| !line.starts_with(['\t', '.', '#', ' '])) {
            let name = line.split_once(':').map(|(name, _)| name.trim().to_owned());
            known.targets.extend(name);
        }
        known
    }

    /// What is wrong with a line that somebody could type; none: it exists. Other words are no lines.
    fn fault(&self, line: &str) -> Option<String> {
        if let Some(target) = line.strip_prefix("make ") {
            let is_there = self.targets.contains(target);
            return (!is_there).then(|| format!("`{line}`: the Makefile has no {target}"));
        }
        let words: Vec<&str> = line.strip_prefix("vyr ")?.split(' ').collect();
        // The longest name of a command that it begins with.
        let name = (1..=words.len()).rev().map(|n| words[..n].join(" "));
        let Some((name, options)) =
            name.into_iter().find_map(|name| self.commands.get_key_value(&name))
        else {
            return Some(format!("`{line}`: {COMMANDS} has no such command"));
        };
        let shown = words.iter().filter(|word| word.starts_with("--"));
        let odd = shown.into_iter().find(|word| !options.contains(**word));
        odd.map(|odd| format!("`{line}`: vyr {name} has no {odd}"))
    }
}

fn faults(text: &str, known: &Known, index: &Index) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let ids = ids();
    for row in markdown::rows(text, "Id") {
        let mut fault = |what: String| faults.push(Fault::line(FILE, row.line, what));
        if row.cells.len() != COLUMNS || row.cells.iter().any(String::is_empty) {
            fault(format!("a goal has {COLUMNS} cells, none empty"));
            continue;
        }
        let id = &row.cells[0];
        if !ids.contains(id) {
            fault(format!("{id} is no id of a principle or a goal"));
        }
        *seen.entry(id.clone()).or_default() += 1;
        let is_line = |span: &&str| span.starts_with("vyr ") || span.starts_with("make ");
        let lines: Vec<&str> = code_spans(&row.cells[COMMAND]).filter(is_line).collect();
        if lines.is_empty() {
            fault(format!("{id} shows no command"));
        }
        lines.iter().filter_map(|line| known.fault(line)).for_each(&mut fault);
        index.fault(&row.cells[HELD_BY]).into_iter().for_each(fault);
    }
    for id in ids {
        match seen.get(&id).copied().unwrap_or(0) {
            0 => faults.push(Fault::new(FILE, format!("{id} is missing"))),
            1 => {}
            count => faults.push(Fault::new(FILE, format!("{id} appears {count} times"))),
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_by::tests::index;

    fn known() -> Known {
        Known::of(
            "## vyr check\n\n      --spof\n          List\n## vyr client add\n      --owner <NAME>\n",
            ".PHONY: all\ntest: ## run\n\tcargo\n",
        )
    }

    fn row(id: &str, command: &str, held_by: &str) -> String {
        format!("| {id} | a goal | somehow | {command} | {held_by} |\n")
    }

    fn table(skip: &str, more: &str) -> Vec<Fault> {
        let mut text =
            "| Id | Goal | How | See it | Held by |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for id in ids().iter().filter(|id| *id != skip) {
            text.push_str(&row(id, "`vyr check`", "`vyr-base::holds`"));
        }
        let index = index(&[("crates/vyr-base/src/a.rs", "fn holds() {}\n")]);
        faults(&(text + more), &known(), &index)
    }

    #[test]
    fn there_are_five_principles_and_fifteen_goals() {
        assert_eq!(ids().len(), 5 + 15);
        assert_eq!(table("", ""), []);
        let holds = "`vyr-base::holds`";
        for command in ["`vyr check --spof`", "`vyr client add NAME --owner Ana`, then `make test`"]
        {
            assert_eq!(table("R9", &row("R9", command, holds)), [], "{command}");
        }
    }

    #[test]
    fn a_goal_that_is_missing_or_shows_nothing_fails() {
        let holds = "`vyr-base::holds`";
        assert_eq!(table("R9", "").len(), 1);
        assert_eq!(table("", &row("R9", "`vyr check`", holds)).len(), 1, "twice");
        assert_eq!(table("", &row("R6", "`vyr check`", holds)).len(), 1, "no goal");
        for (command, held_by) in [
            ("`vyr chekc`", holds),
            ("`vyr check --spoof`", holds),
            ("`vyr client`", holds),
            ("`vyr client add --spof`", holds),
            ("`make tset`", holds),
            ("by hand", holds),
            ("`vyr check`", "`vyr-base::lets_go`"),
            ("`vyr check`", "we are sure"),
        ] {
            assert_eq!(table("R9", &row("R9", command, held_by)).len(), 1, "{command} {held_by}");
        }
    }
}
