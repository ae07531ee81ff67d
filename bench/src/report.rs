//! The report: raw samples as JSON, tables as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vyr_base::format_bytes;
use vyr_task::Kind;

use crate::arms::Arm;
use crate::environment::{Environment, OTHERS_MAX, STEAL_MAX};
use crate::events::Source;
use crate::memory::MemorySample;
use crate::rates::CaseRates;
use crate::rounds::{Round, figures};
use crate::start::{Compiled, FirstStart, Loaded};
use crate::stats::{Estimate, median};
use crate::targets::{Goal, Target, Verdict, judge, slope};
use crate::whole::{HelloProcess, Large, Way};

/// The version of the JSON form; fields are only ever added under it.
pub const FORMAT: &str = "vyr-bench-task/1";

/// How a run was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Rounds wanted.
    pub rounds: usize,
    /// Milliseconds of each arm in a round.
    pub arm_ms: u64,
    /// A look, not a measurement.
    pub quick: bool,
    /// Where events came from; `None` before any were needed.
    pub events: Option<Source>,
}

/// All that a run found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `FORMAT`.
    pub format: String,
    /// Seconds of Unix time when it began.
    pub began_unix_s: u64,
    /// What was asked for.
    pub settings: Settings,
    /// Where it ran.
    pub environment: Option<Environment>,
    /// Tasks a second and times of single tasks.
    pub rates: Vec<CaseRates>,
    /// Memory of live tasks.
    pub memory: Vec<MemorySample>,
    /// Cold compiles.
    pub compiles: Vec<Compiled>,
    /// Warm starts in a running process.
    pub loads: Vec<Loaded>,
    /// The first task of a process.
    pub first_starts: Vec<(String, Vec<Round<FirstStart>>)>,
    /// `hello` as whole processes.
    pub hello: Vec<HelloProcess>,
    /// The large transform.
    pub large: Option<Large>,
    /// Parts that were not measured, and why.
    pub missing: Vec<(String, String)>,
    /// The targets, decided.
    pub targets: Vec<Target>,
}

impl Report {
    /// Decides the targets.
    pub(crate) fn decide(&mut self) {
        self.targets = judge(self);
    }

    /// Why `part` has no figures.
    pub(crate) fn why_missing(&self, part: &str) -> String {
        let found = self.missing.iter().find(|(missing, _)| missing == part);
        found.map_or_else(|| "not asked for".into(), |(_, reason)| reason.clone())
    }

    /// Whether no target was missed. One that was not measured was not missed; a reader sees it.
    pub fn nothing_missed(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
    }

    /// All of it, with every sample.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Writes `task.json`, `task.md` and `task.svg` into `directory`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let inside = |name: &str| directory.join(name);
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(inside("task.json"), self.to_json()?).with_context(fail)?;
        std::fs::write(inside("task.md"), self.to_markdown()).with_context(fail)?;
        crate::plot::draw(self, &inside("task.svg"))
    }

    /// The tables.
    pub fn to_markdown(&self) -> String {
        let mut out = String::from("# Task benchmarks\n\n");
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        if self.settings.quick {
            line("**A quick look: too few rounds to decide anything.**\n".into());
        }
        for section in [
            self.where_it_ran(),
            self.target_table(),
            self.rate_table(),
            self.start_tables(),
            self.memory_table(),
            self.process_tables(),
            self.disturbances(),
        ] {
            section.into_iter().for_each(&mut line);
            line(String::new());
        }
        for (part, reason) in &self.missing {
            line(format!("`{part}`: not measured: {reason}"));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    fn where_it_ran(&self) -> Vec<String> {
        let Some(at) = &self.environment else { return Vec::new() };
        let events = match self.settings.events {
            Some(Source::File) => ", events from a file",
            Some(Source::Synthetic) => ", events made up from a fixed seed",
            None => "",
        };
        vec![
            format!(
                "{}, {} processors, {}, Linux {}. Vyr {}, Wasmtime {}. Fast slot reset {}.",
                at.cpu_model,
                at.cpus,
                format_bytes(at.memory_bytes),
                at.kernel,
                at.vyr,
                at.wasmtime,
                at.pagemap_scan,
            ),
            format!(
                "{} rounds, {} ms an arm, order alternating{events}. In brackets: the 95 % \
                 interval of the median.",
                self.settings.rounds, self.settings.arm_ms
            ),
        ]
    }

    fn target_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for target in &self.targets {
            let (sign, bound) = match target.goal {
                Goal::AtLeast(bound) => ("≥", bound),
                Goal::AtMost(bound) => ("≤", bound),
            };
            let unit = if target.unit.is_empty() { "" } else { " " };
            let measured = target.measured.map_or_else(|| "-".into(), |of| interval(&of));
            rows.push(vec![
                target.what.clone(),
                format!("{sign} {bound}{unit}{}", target.unit),
                measured,
                target.verdict.to_string(),
            ]);
        }
        table("Targets", &["target", "bound", "measured", "verdict"], rows)
    }

    fn rate_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for case in &self.rates {
            for threads in crate::rates::THREADS {
                for arm in Arm::ALL {
                    let Some(rate) = Estimate::of(&case.rates(arm, threads)) else { continue };
                    let ratio =
                        Estimate::of(&case.ratios(arm, threads)).filter(|_| arm != Arm::Bare);
                    let times = case.times.iter().find(|t| t.arm == arm && t.threads == threads);
                    let time = |of: fn(&crate::rates::Times) -> u64| {
                        times.map_or_else(|| "-".into(), |times| us(of(times)))
                    };
                    rows.push(vec![
                        case.case.clone(),
                        threads.to_string(),
                        arm.name().into(),
                        format!("{:.0}", rate.median),
                        ratio.map_or_else(|| "-".into(), |ratio| interval(&ratio)),
                        time(|times| times.p50_ns),
                        time(|times| times.p99_ns),
                        time(|times| times.p999_ns),
                    ]);
                }
            }
        }
        let columns =
            ["case", "threads", "arm", "tasks/s", "by bare", "p50 us", "p99 us", "p999 us"];
        table("Rates", &columns, rows)
    }

    fn start_tables(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for compiled in &self.compiles {
            let Some(ms) = Estimate::of(&figures(&compiled.rounds, |us| Some(us / 1_000.0))) else {
                continue;
            };
            rows.push(vec![
                compiled.case.clone(),
                format_bytes(compiled.wasm_bytes as u64),
                format_bytes(compiled.code_bytes as u64),
                interval(&ms),
            ]);
        }
        let mut out = table("Cold compile", &["guest", "Wasm", "machine code", "ms"], rows);
        let mut rows = Vec::new();
        for loaded in &self.loads {
            let Some(total) = Estimate::of(&loaded.totals_us()) else { continue };
            let part = |of: fn(&crate::start::WarmStart) -> f64| {
                let part = median(&figures(&loaded.rounds, |start| Some(of(start))));
                part.map_or_else(|| "-".into(), |us| format!("{us:.0}"))
            };
            rows.push(vec![
                loaded.case.clone(),
                format_bytes(loaded.code_bytes),
                part(|start| start.read_us),
                part(|start| start.link_us),
                part(|start| start.run_us),
                interval(&total),
            ]);
        }
        let columns = ["guest", "machine code", "read us", "link us", "run us", "total us"];
        out.extend(table("Warm start, to the end of the run", &columns, rows));
        for (kind, name) in [(Kind::Module, "modules"), (Kind::Component, "components")] {
            if let Some(line) = slope(self, kind) {
                out.push(String::new());
                out.push(format!(
                    "Made-up {name}: {:.0} us and {:.0} us for each MiB of code.",
                    line.intercept, line.slope
                ));
            }
        }
        let mut rows = Vec::new();
        for (case, rounds) in &self.first_starts {
            let part = |of: fn(&FirstStart) -> f64| {
                let estimate = Estimate::of(&figures(rounds, |first| Some(of(first))));
                estimate.map_or_else(|| "-".into(), |us| interval(&us))
            };
            rows.push(vec![
                case.clone(),
                part(|first| first.engine_us),
                part(|first| first.start.total_us()),
            ]);
        }
        out.extend(table("First task of a process", &["guest", "engine us", "start us"], rows));
        out
    }

    fn memory_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        let mut seen: Vec<(&str, Arm)> = Vec::new();
        for sample in &self.memory {
            let key = (sample.case.as_str(), sample.arm);
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let same = self.memory.iter().filter(|other| (other.case.as_str(), other.arm) == key);
            let kib: Vec<f64> = same.map(|sample| sample.bytes_per_task() / 1024.0).collect();
            rows.push(vec![
                sample.case.clone(),
                sample.arm.name().into(),
                sample.tasks.to_string(),
                Estimate::of(&kib).map_or_else(|| "-".into(), |kib| interval(&kib)),
            ]);
        }
        let columns = ["guest", "arm", "tasks waiting for input", "KiB a task (Pss)"];
        table("Memory of live tasks", &columns, rows)
    }

    fn process_tables(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for hello in &self.hello {
            let ms = |of: fn(&crate::whole::HelloRound) -> f64| {
                let estimate = Estimate::of(&figures(&hello.rounds, |r| Some(of(r) / 1_000.0)));
                estimate.map_or_else(|| "-".into(), |ms| interval(&ms))
            };
            rows.push(vec![
                hello.case.clone(),
                ms(|round| round.bare_us),
                ms(|round| round.vyr_us),
            ]);
        }
        let mut out = table("Whole process", &["guest", "bare ms", "vyr run ms"], rows);
        let Some(large) = &self.large else { return out };
        let mut rows = Vec::new();
        for runs in &large.ways {
            let seconds = Estimate::of(&figures(&runs.rounds, |seconds| Some(*seconds)));
            // What was run beside `bare` in its rounds has a ratio; the rest was run apart.
            let beside = matches!(runs.way, Way::Vyr | Way::Engine);
            let ratio = Estimate::of(&large.ratios(runs.way, Way::Bare)).filter(|_| beside);
            rows.push(vec![
                runs.way.name().into(),
                seconds.map_or_else(|| "-".into(), |seconds| interval(&seconds)),
                ratio.map_or_else(|| "-".into(), |ratio| interval(&ratio)),
                runs.peak.map_or_else(|| "-".into(), |peak| format_bytes(peak.pss_bytes)),
                runs.peak.map_or_else(|| "-".into(), |peak| format_bytes(peak.high_water_bytes)),
            ]);
        }
        for (way, reason) in &large.not_run {
            let not = format!("not measured: {reason}");
            rows.push(vec![way.name().into(), not, "-".into(), "-".into(), "-".into()]);
        }
        let title = format!(
            "Transform of {} to {}, guest memory {}",
            format_bytes(large.input_bytes),
            format_bytes(large.output_bytes),
            format_bytes(large.guest_memory_bytes)
        );
        let columns = ["way", "seconds", "rate by bare", "peak Pss", "sum of VmHWM"];
        out.extend(table(&title, &columns, rows));
        out
    }

    /// How many rounds were disturbed, and by how much the others at most.
    fn disturbances(&self) -> Vec<String> {
        let mut all: Vec<(bool, f64, f64)> = Vec::new();
        for case in &self.rates {
            let of = |round: &Round<_>| {
                (round.counts, round.disturbance.steal, round.disturbance.others)
            };
            all.extend(case.rounds.iter().map(of));
        }
        if all.is_empty() {
            return Vec::new();
        }
        let unused = all.iter().filter(|(counts, ..)| !counts).count();
        let most = |of: fn(&(bool, f64, f64)) -> f64| all.iter().map(of).fold(0.0, f64::max);
        vec![format!(
            "Of {} rounds of rates {unused} do not count: more than {:.0} % steal, or run again \
             because other processes used more than {:.0} % of the machine. The most steal was \
             {:.1} %, the most that others used {:.1} %.",
            all.len(),
            STEAL_MAX * 100.0,
            OTHERS_MAX * 100.0,
            most(|(_, steal, _)| *steal) * 100.0,
            most(|(.., others)| *others) * 100.0
        )]
    }
}

/// A heading and a table; nothing without rows.
pub(crate) fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut out = vec![String::new(), format!("## {title}"), String::new()];
    let row = |cells: &[String]| {
        let mut line = String::from("|");
        for cell in cells {
            // Writing to a String does not fail.
            let _ = write!(line, " {} |", cell.replace('|', "\\|"));
        }
        line
    };
    out.push(row(&columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>()));
    out.push(format!("|{}", " --- |".repeat(columns.len())));
    out.extend(rows.iter().map(|cells| row(cells)));
    out
}

/// A median with its interval, in as many digits as it deserves.
pub(crate) fn interval(of: &Estimate) -> String {
    let digits = match of.median.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{:.digits$} [{:.digits$}, {:.digits$}]", of.median, of.low, of.high)
}

fn us(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_has_a_verdict_for_every_target_and_reads_back() {
        let mut report = Report { format: FORMAT.into(), ..Report::default() };
        report.missing.push(("large".into(), "no such binary".into()));
        report.decide();
        assert!(report.nothing_missed());
        let text = report.to_markdown();
        assert_eq!(text.matches("not measured: no such binary").count(), 4, "{text}");
        assert!(text.contains("not measured: not asked for"));
        let again: Report = serde_json::from_str(&report.to_json().expect("JSON")).expect("reads");
        assert_eq!(again, report);
    }

    #[test]
    fn a_figure_has_the_digits_it_deserves() {
        let of = |median| Estimate { median, low: median, high: median, samples: 1 };
        assert_eq!(interval(&of(0.8123)), "0.812 [0.812, 0.812]");
        assert_eq!(interval(&of(1234.5)), "1234 [1234, 1234]");
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert!(table("Empty", &["a"], Vec::new()).is_empty());
        let rows = table("One", &["a", "b"], vec![vec!["1".into(), "x|y".into()]]);
        assert_eq!(rows[3..5], ["| a | b |", "| --- | --- |"]);
        assert_eq!(rows.last().map(String::as_str), Some("| 1 | x\\|y |"));
    }
}
