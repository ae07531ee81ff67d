//! `cargo xtask ci`: the whole truth about a commit, in order and to the end.
//!
//! A step passes, fails, or is not run for a reason. Nothing stops the run: a step that fails
//! is listed at the end. The closing line, the last on stdout, is
//!
//! ```text
//! N passed, N failed, N skipped
//! ```
//!
//! Invariants: `failed` is zero exactly when the exit code is; it counts failed tests, and
//! steps that failed without one. A test that was not run is never counted as passed:
//! `skipped` counts it, and every step that was not run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::not_run::{self, NotRun};
use crate::repo::{Repo, cargo, packages};
use crate::totals::Totals;
use crate::{check, generate, guests, libc, machine, step};

/// How a step ended, if it did not fail.
enum Outcome {
    Passed,
    /// The step runs tests; it failed if it says so, or if one of them did.
    Tests {
        ok: bool,
        totals: Totals,
    },
    NotRun(String),
}

/// One run over the repository.
struct Ci<'a> {
    repo: &'a Repo,
    /// Also what takes long: tests at full size, fuzzing, the demo.
    full: bool,
    /// Where tests append what they did not run.
    log: PathBuf,
    totals: Totals,
    /// Steps that failed, and whether a failed test already stands for it in the totals.
    failed: Vec<(String, bool)>,
    not_run: Vec<NotRun>,
}

/// Runs every step; with `full` also those that build and try the release binary.
pub(crate) fn run(repo: &Repo, full: bool) -> anyhow::Result<ExitCode> {
    let log = repo.scratch()?.join("not-run.log");
    std::fs::write(&log, "").with_context(|| format!("cannot empty {}", log.display()))?;
    let mut ci =
        Ci { repo, full, log, totals: Totals::default(), failed: Vec::new(), not_run: Vec::new() };

    ci.step("format", |ci| ci.cargo(&["fmt", "--all", "--check"]));
    ci.step("check", |ci| check::run(ci.repo).map(|()| Outcome::Passed));
    ci.step("bpf", Ci::bpf);
    ci.step("clippy", |ci| {
        let mut command = ci.workspace(&["clippy", "--locked"]);
        step::run(command.args(["--all-targets", "--", "-Dwarnings"])).map(|()| Outcome::Passed)
    });
    ci.step("features", Ci::each_feature);
    ci.step("build", |ci| {
        let mut command = ci.command(&["build", "--locked", "--package=vyr", "--bin=vyr"]);
        if machine::has_libelf() {
            command.arg("--features=bpf");
        }
        step::run(&mut command).map(|()| Outcome::Passed)
    });
    ci.step("tests", Ci::tests);
    ci.step("doctests", |ci| {
        let mut command = ci.workspace(&["test", "--locked"]);
        command.args(["--doc", "--no-fail-fast"]);
        ci.count_tests(command)
    });
    ci.step("python", Ci::python);
    ci.step("guests", |_| guests());
    ci.step("libc", |ci| match libc::missing() {
        Some(reason) => Ok(Outcome::NotRun(reason.to_owned())),
        None => libc::run(ci.repo).map(|()| Outcome::Passed),
    });
    ci.step("deny", Ci::deny);
    ci.step("docs", |ci| {
        let mut command = ci.workspace(&["doc", "--locked"]);
        step::run(command.arg("--no-deps").env("RUSTDOCFLAGS", "-Dwarnings"))
            .map(|()| Outcome::Passed)
    });
    ci.step("generated", |ci| generate::run(ci.repo, true).map(|()| Outcome::Passed));
    if full {
        ci.step("fuzz", |ci| ci.script("scripts/fuzz.sh"));
        ci.step("demo", |ci| ci.script("scripts/demo.sh"));
        // With the binary that the demo built.
        ci.step("soak", Ci::soak);
    }
    // Last, because it looks back at all of them.
    ci.step("not run", Ci::compare_not_run);
    Ok(ci.close())
}

impl Ci<'_> {
    fn step(&mut self, name: &str, body: impl FnOnce(&mut Self) -> anyhow::Result<Outcome>) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = body(self);
        let seconds = start.elapsed().as_secs_f64();
        let said = match result {
            Ok(Outcome::Passed) => "ok".to_owned(),
            Ok(Outcome::Tests { ok, totals }) => {
                self.totals += totals;
                let Totals { passed, failed, skipped } = totals;
                let good = ok && failed == 0 && skipped == 0;
                if !good {
                    self.failed.push((name.to_owned(), failed > 0));
                }
                let verdict = if good { "ok" } else { "failed" };
                let hint = match skipped {
                    0 => "",
                    _ => "; a test may be not run with a reason, not skipped without one",
                };
                format!("{verdict}: {passed} passed, {failed} failed, {skipped} skipped{hint}")
            }
            Ok(Outcome::NotRun(reason)) => {
                self.not_run.push(NotRun { name: name.to_owned(), reason: reason.clone() });
                format!("not run: {reason}")
            }
            Err(error) => {
                self.failed.push((name.to_owned(), false));
                format!("failed: {error:#}")
            }
        };
        println!("-- {name}: {said} ({seconds:.1} s)");
    }

    fn script(&self, path: &str) -> anyhow::Result<Outcome> {
        step::run(Command::new(path).current_dir(&self.repo.root)).map(|()| Outcome::Passed)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.repo.root).args(args);
        if self.full {
            command.env("VYR_FULL", "1");
        }
        command
    }

    fn cargo(&self, args: &[&str]) -> anyhow::Result<Outcome> {
        step::run(&mut self.command(args)).map(|()| Outcome::Passed)
    }

    /// A command on all crates that this machine can build.
    fn workspace(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.arg("--workspace");
        command.arg(match machine::has_libelf() {
            true => "--features=vyr/bpf",
            false => "--exclude=morpheus-bpf",
        });
        command
    }

    /// Builds what is loaded into the kernel, and puts it where the binary looks for it.
    fn bpf(&mut self) -> anyhow::Result<Outcome> {
        if !machine::has_libelf() {
            return Ok(Outcome::NotRun("libelf.h is not installed".to_owned()));
        }
        let mut command = Command::new("scripts/bpf.sh");
        command.current_dir(&self.repo.root).arg(self.repo.target.join("debug/morpheus.bpf.o"));
        let output = command.output().context("cannot start scripts/bpf.sh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("not built: ").to_owned();
        match output.status.code() {
            Some(0) => Ok(Outcome::Passed),
            Some(3) => Ok(Outcome::NotRun(said)),
            _ => bail!("scripts/bpf.sh ended with {}: {said}", output.status),
        }
    }

    fn count_tests(&self, mut command: Command) -> anyhow::Result<Outcome> {
        let (ok, lines) = step::run_and_read(command.env(not_run::LOG_VARIABLE, &self.log))?;
        Ok(Outcome::Tests { ok, totals: Totals::read(lines.iter().map(String::as_str)) })
    }

    /// Each feature of ours compiles alone.
    fn each_feature(&mut self) -> anyhow::Result<Outcome> {
        for package in packages(&self.repo.metadata) {
            let Some(name) = package["name"].as_str() else { continue };
            // What it turns on is built from C, with libelf.
            let buildable = |feature: &str| feature != "bpf" || machine::has_libelf();
            for feature in package["features"].as_object().into_iter().flat_map(|map| map.keys()) {
                if !buildable(feature) {
                    continue;
                }
                println!("{name} with {feature}");
                let args = ["--no-default-features", "--features", feature];
                step::run(self.command(&["check", "--locked", "--package", name]).args(args))?;
            }
        }
        Ok(Outcome::Passed)
    }

    fn tests(&mut self) -> anyhow::Result<Outcome> {
        let mut command = if machine::has_program("cargo-nextest") {
            self.workspace(&["nextest", "run", "--locked"])
        } else {
            println!("cargo-nextest is not installed: cargo test runs the same tests");
            let mut command = self.workspace(&["test", "--locked"]);
            command.args(["--lib", "--bins", "--tests"]);
            command
        };
        command.arg("--no-fail-fast");
        self.count_tests(command)
    }

    /// A million tasks through one node, of the release build.
    fn soak(&mut self) -> anyhow::Result<Outcome> {
        let args = ["test", "--locked", "--package=vyr", "--test=node", "soak::", "--"];
        let mut command = self.command(&args);
        command
            .arg("--nocapture")
            .env("VYR_SOAK", "1000000")
            .env("VYR_BIN", self.repo.target.join("release/vyr"));
        let (ok, lines) = step::run_and_read(command.env(not_run::LOG_VARIABLE, &self.log))?;
        Ok(Outcome::Tests { ok, totals: Totals::read(lines.iter().map(String::as_str)) })
    }

    /// The Python client against the binary that was built.
    fn python(&mut self) -> anyhow::Result<Outcome> {
        let mut command = Command::new("scripts/python-test.sh");
        command.current_dir(&self.repo.root).env("VYR_BIN", self.repo.target.join("debug/vyr"));
        let (ok, lines) = step::run_and_read(&mut command)?;
        let (totals, not_run) = read_python(&lines);
        self.not_run.extend(not_run);
        if totals == Totals::default() && ok {
            return Ok(Outcome::Passed);
        }
        Ok(Outcome::Tests { ok, totals })
    }

    fn deny(&mut self) -> anyhow::Result<Outcome> {
        if !machine::has_program("cargo-deny") {
            return Ok(Outcome::NotRun("cargo-deny is not installed".to_owned()));
        }
        let checks = ["bans", "licenses", "sources"];
        let args = ["deny", "--locked", "check", "--hide-inclusion-graph"];
        step::run(self.command(&args).args(checks)).map(|()| Outcome::Passed)
    }

    fn compare_not_run(&mut self) -> anyhow::Result<Outcome> {
        let tests = not_run::read_log(&self.log)?;
        let names: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        // The runner saw them return, so it counted them as passed.
        self.totals.passed = self.totals.passed.saturating_sub(names.len());
        self.totals.skipped += names.len() + self.not_run.len();
        self.not_run.extend(tests);
        for NotRun { name, reason } in &self.not_run {
            println!("{name}: not run: {reason}");
        }
        let faults = not_run::compare(&self.repo.read(not_run::FILE)?, &self.not_run);
        for fault in &faults {
            println!("{fault}");
        }
        if !faults.is_empty() {
            bail!("{} and this run differ in {} places", not_run::FILE, faults.len());
        }
        Ok(Outcome::Passed)
    }

    fn close(mut self) -> ExitCode {
        println!();
        for (name, _) in &self.failed {
            println!("failed: {name}");
        }
        self.totals.failed += self.failed.iter().filter(|(_, counted)| !counted).count();
        let Totals { passed, failed, skipped } = self.totals;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// What `scripts/python-test.sh` ran, and what it says it did not.
///
/// `unittest` ends with `Ran 14 tests in 3.1s`, then `OK` or `FAILED (failures=1, errors=2)`.
fn read_python(lines: &[String]) -> (Totals, Vec<NotRun>) {
    let number = |text: &str| text.split_once(' ').unwrap_or((text, "")).0.parse().unwrap_or(0);
    let (mut totals, mut not_run) = (Totals::default(), Vec::new());
    for line in lines {
        if let Some((name, reason)) =
            line.strip_prefix("not run: ").and_then(|rest| rest.split_once(": "))
        {
            not_run.push(NotRun { name: name.to_owned(), reason: reason.to_owned() });
        } else if let Some(rest) = line.strip_prefix("Ran ") {
            totals.passed += number(rest);
        } else if let Some(rest) =
            line.strip_prefix("FAILED (").or_else(|| line.strip_prefix("OK ("))
        {
            for part in rest.trim_end_matches(')').split(", ") {
                let (what, count) = part.split_once('=').unwrap_or((part, "0"));
                let count = number(count);
                totals.passed = totals.passed.saturating_sub(count);
                match what {
                    "failures" | "errors" | "unexpected successes" => totals.failed += count,
                    _ => totals.skipped += count,
                }
            }
        }
    }
    (totals, not_run)
}

/// Rebuilds the committed guests where their targets are installed.
fn guests() -> anyhow::Result<Outcome> {
    if !["wasm32-wasip1", "wasm32-wasip2"].into_iter().all(machine::has_target) {
        return Ok(Outcome::NotRun("the wasm targets are not installed".to_owned()));
    }
    guests::run(true).map(|()| Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ci(repo: &Repo) -> Ci<'_> {
        Ci {
            full: false,
            repo,
            log: PathBuf::new(),
            totals: Totals::default(),
            failed: Vec::new(),
            not_run: Vec::new(),
        }
    }

    fn repo() -> Repo {
        Repo { root: PathBuf::new(), target: PathBuf::new(), metadata: json!({}) }
    }

    #[test]
    fn a_step_that_fails_is_counted_once_and_the_next_still_runs() {
        let repo = repo();
        let mut ci = ci(&repo);
        ci.step("one", |_| bail!("broken"));
        let totals = Totals { passed: 3, failed: 2, skipped: 0 };
        ci.step("two", |_| Ok(Outcome::Tests { ok: false, totals }));
        ci.step("three", |_| Ok(Outcome::NotRun("no tool".to_owned())));
        assert_eq!(ci.failed, [("one".to_owned(), false), ("two".to_owned(), true)]);
        assert_eq!(ci.not_run.len(), 1);
        assert_eq!(ci.close(), ExitCode::FAILURE);
    }

    #[test]
    fn tests_that_do_not_compile_fail_the_step_with_no_failed_test() {
        let repo = repo();
        let mut ci = ci(&repo);
        ci.step("tests", |_| Ok(Outcome::Tests { ok: false, totals: Totals::default() }));
        assert_eq!(ci.failed, [("tests".to_owned(), false)]);
    }

    #[test]
    fn unittest_is_counted_and_what_it_missed_is_named() {
        let read = |text: &str| read_python(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        let (totals, not_run) = read("Ran 14 tests in 3.1s\n\nOK\n");
        assert_eq!((totals.passed, totals.failed, not_run.len()), (14, 0, 0));
        let (totals, _) = read("Ran 14 tests in 3.1s\nFAILED (failures=1, errors=2, skipped=1)\n");
        assert_eq!((totals.passed, totals.failed, totals.skipped), (10, 3, 1));
        let (totals, not_run) = read("not run: python::types: pip cannot install mypy\n");
        assert_eq!(totals, Totals::default());
        assert_eq!(not_run[0].name, "python::types");
        assert_eq!(not_run[0].reason, "pip cannot install mypy");
    }

    #[test]
    fn a_test_that_the_runner_skipped_fails_the_step() {
        let repo = repo();
        let mut ci = ci(&repo);
        let totals = Totals { passed: 1, failed: 0, skipped: 1 };
        ci.step("tests", |_| Ok(Outcome::Tests { ok: true, totals }));
        assert_eq!(ci.failed.len(), 1);
    }
}
