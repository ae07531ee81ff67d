//! What was not run, and whether that is what we expect on a machine like this.
//!
//! A test that misses a facility prints `not run: reason` and appends `test-name: reason` to
//! the file named by [`LOG_VARIABLE`]. A step that misses its tool says so itself. Both are
//! compared with the committed list, `xtask/not-run.txt`, one entry a line:
//!
//! ```text
//! [without cargo-deny]    deny: cargo-deny is not installed
//! [unprivileged]          net_*: needs root
//! vm_boots: no KVM
//! ```
//!
//! A name may end in `*`; a reason is the beginning of the one reported. In brackets stands
//! the class of machine: `without PROGRAM`, `without /PATH`, `without target NAME`,
//! `unprivileged`.
//!
//! Invariants: what is not run without an entry fails. An entry whose class is that of this
//! machine must be not run, and one whose class is not must have run. An entry without a
//! class may be either, on any machine.

use std::path::Path;

use anyhow::Context;

use crate::fault::Fault;
use crate::machine;

/// The environment variable that names the file tests append to.
pub(crate) const LOG_VARIABLE: &str = "VYR_NOT_RUN_LOG";
/// The committed list.
pub(crate) const FILE: &str = "xtask/not-run.txt";

/// Something that was not run, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NotRun {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// A kind of machine, as a fact that can be looked up.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    WithoutProgram(String),
    WithoutPath(String),
    WithoutTarget(String),
    Unprivileged,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    class: Option<Class>,
    name: String,
    reason: String,
}

/// What the tests of this run appended; each test and reason once.
pub(crate) fn read_log(path: &Path) -> anyhow::Result<Vec<NotRun>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reports: Vec<NotRun> = text
        .lines()
        .map(|line| {
            let (name, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
            NotRun { name: name.to_owned(), reason: reason.to_owned() }
        })
        .collect();
    reports.sort();
    reports.dedup();
    Ok(reports)
}

/// Compares the committed list with what was not run on this machine.
pub(crate) fn compare(list: &str, reports: &[NotRun]) -> Vec<Fault> {
    compare_on(list, reports, Class::is_this_machine)
}

fn compare_on(list: &str, reports: &[NotRun], holds: impl Fn(&Class) -> bool) -> Vec<Fault> {
    let (entries, mut faults) = parse(list);
    for report in reports {
        let expected = entries
            .iter()
            .any(|entry| entry.matches(report) && entry.class.as_ref().is_none_or(&holds));
        if !expected {
            let what = format!("not run: {}; {FILE} does not expect that here", report.reason);
            faults.push(Fault::new(&report.name, what));
        }
    }
    for entry in entries {
        let expected_here = entry.class.as_ref().is_some_and(&holds);
        if expected_here && !reports.iter().any(|report| entry.matches(report)) {
            let what = format!("{} was expected to be not run and was not", entry.name);
            faults.push(Fault::line(FILE, entry.line, what));
        }
    }
    faults
}

fn parse(list: &str) -> (Vec<Entry>, Vec<Fault>) {
    let mut entries = Vec::new();
    let mut faults = Vec::new();
    for (line, text) in (1..).zip(list.lines()) {
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        match Entry::parse(line, text) {
            Some(entry) => entries.push(entry),
            None => faults.push(Fault::line(FILE, line, "is no `[class] name: reason`")),
        }
    }
    (entries, faults)
}

impl Entry {
    fn parse(line: usize, text: &str) -> Option<Self> {
        let (class, rest) = match text.strip_prefix('[') {
            Some(rest) => {
                let (class, rest) = rest.split_once(']')?;
                (Some(Class::parse(class)?), rest)
            }
            None => (None, text),
        };
        let (name, reason) = rest.split_once(": ")?;
        let (name, reason) = (name.trim().to_owned(), reason.trim().to_owned());
        (!name.is_empty() && !reason.is_empty()).then_some(Self { line, class, name, reason })
    }

    fn matches(&self, report: &NotRun) -> bool {
        let name_matches = match self.name.strip_suffix('*') {
            Some(start) => report.name.starts_with(start),
            None => report.name == self.name,
        };
        name_matches && report.reason.starts_with(&self.reason)
    }
}

impl Class {
    fn parse(text: &str) -> Option<Self> {
        if text == "unprivileged" {
            return Some(Self::Unprivileged);
        }
        let what = text.strip_prefix("without ")?;
        Some(match what.strip_prefix("target ") {
            Some(target) => Self::WithoutTarget(target.to_owned()),
            None if what.starts_with('/') => Self::WithoutPath(what.to_owned()),
            None => Self::WithoutProgram(what.to_owned()),
        })
    }

    fn is_this_machine(&self) -> bool {
        match self {
            Self::WithoutProgram(name) => !machine::has_program(name),
            Self::WithoutPath(path) => !Path::new(path).exists(),
            Self::WithoutTarget(name) => !machine::has_target(name),
            Self::Unprivileged => !machine::is_root(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# A comment.\n\n\
        [without cargo-deny]  deny: cargo-deny is not\n\
        [without /dev/kvm] vm_*: no KVM\n\
        races: one core\n";

    fn report(name: &str, reason: &str) -> NotRun {
        NotRun { name: name.to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn a_machine_without_the_tools_must_not_run_what_needs_them() {
        let reports = [report("deny", "cargo-deny is not installed"), report("vm_boots", "no KVM")];
        assert_eq!(compare_on(LIST, &reports, |_| true), []);
        assert_eq!(compare_on(LIST, &[], |_| true).len(), 2, "both were run after all");
    }

    #[test]
    fn a_machine_with_the_tools_must_run_everything() {
        assert_eq!(compare_on(LIST, &[], |_| false), []);
        let reports = [report("vm_boots", "no KVM")];
        assert_eq!(compare_on(LIST, &reports, |_| false).len(), 1);
    }

    #[test]
    fn an_entry_without_a_class_may_be_either_but_for_its_reason_only() {
        for holds in [true, false] {
            let reports = |reason| {
                let mut reports = vec![report("races", reason)];
                if holds {
                    reports.push(report("deny", "cargo-deny is not installed"));
                    reports.push(report("vm_boots", "no KVM"));
                }
                reports
            };
            assert_eq!(compare_on(LIST, &reports("one core only"), |_| holds), []);
            assert_eq!(compare_on(LIST, &reports("no time"), |_| holds).len(), 1);
        }
    }

    #[test]
    fn what_no_entry_knows_fails() {
        assert_eq!(compare_on("", &[report("anything", "no luck")], |_| true).len(), 1);
    }

    #[test]
    fn a_line_that_is_no_entry_fails() {
        for line in ["deny", "[with luck] deny: x", "[without x deny: x", ": x"] {
            assert_eq!(parse(line).1.len(), 1, "{line}");
        }
    }

    #[test]
    fn classes_are_programs_paths_targets_and_privilege() {
        assert_eq!(Class::parse("without skopeo"), Some(Class::WithoutProgram("skopeo".into())));
        assert_eq!(Class::parse("without /dev/kvm"), Some(Class::WithoutPath("/dev/kvm".into())));
        assert_eq!(
            Class::parse("without target wasm32-wasip1"),
            Some(Class::WithoutTarget("wasm32-wasip1".into()))
        );
        assert_eq!(Class::parse("unprivileged"), Some(Class::Unprivileged));
        assert!(!Class::WithoutPath("/".into()).is_this_machine());
        assert!(Class::WithoutProgram("no-such-program-here".into()).is_this_machine());
    }
}
