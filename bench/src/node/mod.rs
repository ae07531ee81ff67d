//! `vyr bench node`: a node beside a reference that pays for transport and disk alone.
//!
//! ```text
//! client (this process) --socket--> vyr up: api, tasks          --> journal \
//!        the same code  --socket--> reference_node              --> journal  > one disk
//!                       (two transactions a task, in this process)          /
//! ```
//!
//! Each part starts both arms on new directories and takes turns between them within a round.

mod arms;
mod cancel;
mod collector;
mod load;
mod plot;
mod report;
pub mod rows;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vyr_api::operator::{GetTaskRequest, ListEventsRequest};
use vyr_journal::{Body, Event};
use vyr_task::Kind;

use self::arms::{Built, NodeArm, ReferenceArm};
use self::cancel::Case;
use self::collector::Collector;
use self::load::{Seen, Stretch};
pub use self::report::{
    Arm, CancelSample, HopSample, Load, LoadRounds, LoadSample, MemorySample, OtlpSample, Report,
    SequentialSample, Settings, Way,
};
use self::rows::{Rows, Task};
use crate::environment::Environment;
use crate::guests::Guest;
use crate::rounds::{alternate, rounds_beside};

/// Counted milliseconds of each arm in a round.
const ARM_MS: u64 = 1_000;
const QUICK_ARM_MS: u64 = 400;

/// Before each counted stretch.
const WARM: Duration = Duration::from_millis(150);

/// A round is cut into so many slices, each with a turn of every arm.
const SLICES: u32 = 2;

/// Tasks of each arm in a round of the sequential part, and slices of it.
const SEQUENTIAL_TASKS: usize = 1_000;
const QUICK_SEQUENTIAL_TASKS: usize = 200;
const SEQUENTIAL_SLICES: usize = 4;

/// A look, not a measurement.
const QUICK_ROUNDS: usize = 3;

/// Receipts asked for in a round.
const RECEIPTS: usize = 500;

/// Tasks before the second look at a node's memory, and tasks that wait for the third.
const SOME_TASKS: usize = 10_000;

/// Nodes whose memory is looked at.
const MEMORY_RUNS: usize = 3;

/// After the start and after load a node is left alone for so long before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One task after the other, beside its two commits.
    Sequential,
    /// One streaming client.
    Streaming,
    /// 1, 8 and 64 clients with a call a task.
    Clients,
    /// Receipts a second.
    Receipts,
    /// From the start of a task to its end, less its run and a commit.
    Hop,
    /// One streaming client, with spans exported and without.
    Otlp,
    /// Memory of an idle node and of tasks that wait.
    Memory,
    /// How long guests live that are cancelled or overdue.
    Cancel,
}

/// All, in the order in which they are measured.
const PARTS: [(Part, &str); 8] = [
    (Part::Memory, "memory"),
    (Part::Sequential, "sequential"),
    (Part::Streaming, "streaming"),
    (Part::Clients, "clients"),
    (Part::Receipts, "receipts"),
    (Part::Hop, "hop"),
    (Part::Otlp, "otlp"),
    (Part::Cancel, "cancel"),
];

/// What a run is asked for.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = crate::rounds::ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 short rounds, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Only these parts
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,

    /// Milliseconds of each arm in a round
    #[arg(long, default_value_t = ARM_MS, value_name = "MS")]
    pub arm_ms: u64,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,

    /// Where both journals go: a new directory in this one, on a disk
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,

    /// The `vyr` to measure [default: this one]
    #[arg(long, value_name = "FILE")]
    pub vyr: Option<PathBuf>,

    /// The reference [default: `reference_node` beside this binary]
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
}

/// Measures what `options` ask for. `progress` is told what happens next, a short line each time.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let bench = Bench::new(options)?;
    let mut report = bench.empty_report();
    for (part, name) in PARTS {
        if !options.only.is_empty() && !options.only.contains(&part) {
            report.missing.push((name.into(), "not asked for".into()));
            continue;
        }
        let measured = match part {
            Part::Sequential => bench.sequential(&mut report, progress),
            Part::Streaming => bench.loads(&[Load::Streaming], &mut report, progress),
            Part::Clients => bench.loads(
                &[Load::Clients(1), Load::Clients(8), Load::Clients(64)],
                &mut report,
                progress,
            ),
            Part::Receipts => bench.receipts(&mut report, progress),
            Part::Hop => bench.hop(&mut report, progress),
            Part::Otlp => bench.otlp(&mut report, progress),
            Part::Memory => bench.memory(&mut report, progress),
            Part::Cancel => bench.cancel(&mut report, progress),
        };
        // One part that cannot be measured must not cost the others.
        if let Err(error) = measured {
            progress(&format!("{name}: not measured: {error:#}"));
            report.missing.push((name.into(), format!("{error:#}")));
        }
    }
    report.decide();
    report.write(&options.out)?;
    Ok(report)
}

struct Bench<'a> {
    options: &'a Options,
    rounds: usize,
    arm_ms: u64,
    sequential_tasks: usize,
    vyr: PathBuf,
    reference: PathBuf,
    guest: Guest,
    work: TempDir,
    runtime: Runtime,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let this = std::env::current_exe().context("cannot find this program")?;
        let beside = || this.with_file_name("reference_node");
        let reference = options.reference.clone().unwrap_or_else(beside);
        if !reference.exists() {
            bail!("there is no reference beside vyr: cargo build --release -p vyr-bench");
        }
        let directory = options.dir.canonicalize();
        let directory =
            directory.with_context(|| format!("cannot use {}", options.dir.display()))?;
        let hello = |guest: &Guest| guest.name == "hello" && guest.kind == Kind::Module;
        Ok(Self {
            options,
            rounds: if options.quick { QUICK_ROUNDS } else { options.rounds },
            arm_ms: if options.quick { QUICK_ARM_MS } else { options.arm_ms },
            sequential_tasks: match options.quick {
                true => QUICK_SEQUENTIAL_TASKS,
                false => SEQUENTIAL_TASKS,
            },
            vyr: options.vyr.clone().unwrap_or(this),
            reference,
            guest: Guest::all(None)?.into_iter().find(hello).context("no hello")?,
            work: tempfile::Builder::new().prefix("vyr-bench-").tempdir_in(directory)?,
            // As the servers have it: one thread.
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        })
    }

    fn empty_report(&self) -> Report {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Report {
            format: report::FORMAT.into(),
            began_unix_s: now.map_or(0, |since| since.as_secs()),
            settings: Settings {
                rounds: self.rounds,
                arm_ms: self.arm_ms,
                sequential_tasks: self.sequential_tasks,
                window: load::WINDOW,
                quick: self.options.quick,
            },
            environment: Some(Environment::of_this_machine("not asked")),
            disk: file_system(self.work.path()),
            ..Report::default()
        }
    }

    /// A new directory for a part, on the disk that is measured.
    fn directory(&self) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("p").tempdir_in(self.work.path())?)
    }

    fn node(&self, directory: &TempDir) -> Result<NodeArm> {
        self.runtime.block_on(NodeArm::start(&self.vyr, directory.path(), &self.guest, &[], ""))
    }

    /// Both arms, and what a task leaves.
    fn both(&self, directory: &TempDir) -> Result<(NodeArm, ReferenceArm, Task)> {
        let node = self.node(directory)?;
        let task = self.runtime.block_on(node.one_task())?;
        let reference =
            ReferenceArm::start(&self.reference, directory.path(), &task, &node.target)?;
        Ok((node, reference, task))
    }

    fn sequential(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let directory = self.directory()?;
        let (node, reference, mut task) = self.both(&directory)?;
        let mut rows = Rows::create(&directory.path().join("commits.db"))?;
        let roots = [node.root(), reference.root()];
        let tasks = self.sequential_tasks / SEQUENTIAL_SLICES;
        report.sequential = rounds_beside(self.rounds, &roots, |number| {
            progress(&format!("sequential: round {} of {}", number + 1, self.rounds));
            let mut times: Vec<(Way, Vec<f64>)> = Way::ALL.map(|way| (way, Vec::new())).into();
            for slice in 0..SEQUENTIAL_SLICES {
                for way in alternate(&Way::ALL, number + slice) {
                    let found = match way {
                        Way::Node => self.runtime.block_on(node.target.sequential(tasks))?,
                        Way::Reference => {
                            self.runtime.block_on(reference.target.sequential(tasks))?
                        }
                        Way::Commits => two_commits(&mut rows, &mut task, tasks)?,
                    };
                    let of = times.iter_mut().find(|(other, _)| *other == way);
                    of.into_iter().for_each(|(_, times)| times.extend(&found));
                }
            }
            Ok(times.iter().map(|(way, times)| SequentialSample::of(*way, times)).collect())
        })?;
        drop(reference);
        node.stop()
    }

    fn loads(
        &self,
        loads: &[Load],
        report: &mut Report,
        progress: &mut dyn FnMut(&str),
    ) -> Result<()> {
        for load in loads {
            let directory = self.directory()?;
            let (node, reference, _) = self.both(&directory)?;
            let roots = [node.root(), reference.root()];
            let time = Duration::from_millis(self.arm_ms) / SLICES;
            let stretch = Stretch { warm: WARM, time };
            let rounds = rounds_beside(self.rounds, &roots, |number| {
                progress(&format!("{load}: round {} of {}", number + 1, self.rounds));
                let mut seen: Vec<(Arm, Seen)> = Arm::ALL.map(|arm| (arm, Seen::default())).into();
                for slice in 0..SLICES as usize {
                    for arm in alternate(&Arm::ALL, number + slice) {
                        let target = match arm {
                            Arm::Node => &node.target,
                            Arm::Reference => &reference.target,
                        };
                        let found = self.runtime.block_on(async {
                            match load {
                                Load::Streaming => target.streaming(stretch).await,
                                Load::Clients(clients) => target.clients(*clients, stretch).await,
                            }
                        })?;
                        let of = seen.iter_mut().find(|(other, _)| *other == arm);
                        of.into_iter().for_each(|(_, seen)| seen.add(&found));
                    }
                }
                Ok(seen.iter().map(|(arm, seen)| LoadSample::of(*arm, seen)).collect())
            })?;
            report.loads.push(LoadRounds { load: *load, rounds });
            drop(reference);
            node.stop()?;
        }
        Ok(())
    }

    /// Receipts, one after the other, of tasks that just ended.
    fn receipts(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let directory = self.directory()?;
        let node = self.node(&directory)?;
        report.receipts = rounds_beside(self.rounds, &[node.root()], |number| {
            progress(&format!("receipts: round {} of {}", number + 1, self.rounds));
            self.runtime.block_on(async {
                let mut client = node.client().await?;
                let mut ids = Vec::new();
                for _ in 0..RECEIPTS / 10 {
                    ids.push(client.submit(&node.target.artifact, b"").await?);
                }
                client.wait(ids.last().context("no task")?).await?;
                let began = Instant::now();
                for n in 0..RECEIPTS {
                    let request = GetTaskRequest { task_id: ids[n % ids.len()].clone() };
                    let receipt = client.operator.get_receipt(request).await?.into_inner();
                    ensure!(!receipt.file.is_empty(), "an empty receipt");
                }
                Ok(RECEIPTS as f64 / began.elapsed().as_secs_f64())
            })
        })?;
        node.stop()
    }

    /// What of a sequential task is neither its commits nor its run, by the journal's own times.
    fn hop(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let directory = self.directory()?;
        let node = self.node(&directory)?;
        let tasks = self.sequential_tasks / SEQUENTIAL_SLICES;
        report.hop = rounds_beside(self.rounds, &[node.root()], |number| {
            progress(&format!("hop: round {} of {}", number + 1, self.rounds));
            self.runtime.block_on(async {
                let mut client = node.client().await?;
                let first = client.operator.status(vyr_api::operator::StatusRequest {}).await?;
                let first = first.into_inner().events;
                node.target.sequential(tasks).await?;
                let request = ListEventsRequest { from: first, limit: 0, follow: false };
                let mut events = client.operator.list_events(request).await?.into_inner();
                let (mut between, mut run) = (Vec::new(), Vec::new());
                while let Some(event) = events.message().await? {
                    if let Body::Ended(statement) = Event::from_leaf(&event.leaf)?.body {
                        let of = &statement.predicate;
                        let started = of.timings.started.context("it never started")?;
                        let us = of.timings.ended.as_microsecond() - started.as_microsecond();
                        between.push(us as f64);
                        run.push(of.usage.run_us as f64);
                    }
                }
                let middle = |of: &[f64]| crate::stats::median(of).context("no tasks");
                Ok(HopSample { start_to_end_us: middle(&between)?, run_us: middle(&run)? })
            })
        })?;
        node.stop()
    }

    /// One streaming client on a node that exports and on one that does not.
    fn otlp(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let collector = Collector::start()?;
        let (on, off) = (self.directory()?, self.directory()?);
        let (on, off) = self.runtime.block_on(async {
            let environment = collector.environment();
            let on = NodeArm::start(&self.vyr, on.path(), &self.guest, &environment, "").await?;
            let off = NodeArm::start(&self.vyr, off.path(), &self.guest, &[], "").await?;
            anyhow::Ok((on, off))
        })?;
        let time = Duration::from_millis(self.arm_ms) / SLICES;
        let stretch = Stretch { warm: WARM, time };
        report.otlp = rounds_beside(self.rounds, &[on.root(), off.root()], |number| {
            progress(&format!("export: round {} of {}", number + 1, self.rounds));
            let (mut with, mut without) = (Seen::default(), Seen::default());
            for slice in 0..SLICES as usize {
                for exports in alternate(&[true, false], number + slice) {
                    let (node, seen) =
                        if exports { (&on, &mut with) } else { (&off, &mut without) };
                    seen.add(&self.runtime.block_on(node.target.streaming(stretch))?);
                }
            }
            let rate = |of: &Seen| of.tasks as f64 / of.seconds.max(f64::MIN_POSITIVE);
            Ok(OtlpSample { on_per_second: rate(&with), off_per_second: rate(&without) })
        })?;
        on.stop()?;
        off.stop()?;
        ensure!(collector.bytes() > 0, "nothing was exported");
        Ok(())
    }

    /// Guests that do not end by themselves, on a node that runs one at a time.
    fn cancel(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let directory = self.directory()?;
        let (node, cases) = self.runtime.block_on(async {
            let (directory, config) = (directory.path(), cancel::CONFIG);
            let node = NodeArm::start(&self.vyr, directory, &self.guest, &[], config).await?;
            let cases = Case::put_all(&node).await?;
            anyhow::Ok((node, cases))
        })?;
        report.cancel = rounds_beside(self.rounds, &[node.root()], |number| {
            progress(&format!("cancel: round {} of {}", number + 1, self.rounds));
            let mut samples = Vec::new();
            for case in alternate(&cases, number) {
                samples.push(self.runtime.block_on(case.round(&node))?);
            }
            Ok(samples)
        })?;
        node.stop()
    }

    fn memory(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        for run in 0..self.rounds.min(MEMORY_RUNS) {
            progress(&format!("memory: {} of {}", run + 1, self.rounds.min(MEMORY_RUNS)));
            let directory = self.directory()?;
            let node = self.node(&directory)?;
            let sample = self.runtime.block_on(async {
                tokio::time::sleep(SETTLE).await;
                let idle = node.memory()?;
                node.target.some(SOME_TASKS).await?;
                tokio::time::sleep(SETTLE).await;
                let after = node.memory()?;
                let waits = Built::new(&self.guest, "waits", &[], &["s"])?;
                let artifact = node.put(&waits).await?;
                node.target.queue(&artifact, SOME_TASKS).await?;
                tokio::time::sleep(SETTLE).await;
                let queued = node.memory()?;
                anyhow::Ok(MemorySample { idle, after, queued, tasks: SOME_TASKS })
            })?;
            report.memory.push(sample);
            node.stop()?;
        }
        Ok(())
    }
}

/// The same rows in the same two transactions a task, and nothing else; microseconds of each task.
fn two_commits(rows: &mut Rows, task: &mut Task, tasks: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        let began = Instant::now();
        rows.begin()?;
        let accepted = rows.accept(task)?;
        rows.commit()?;
        rows.begin()?;
        rows.end(task, accepted)?;
        rows.commit()?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// The kind of file system below `directory`.
fn file_system(directory: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(directory) else { return "unknown".into() };
    match found.f_type {
        0xef53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683e => "btrfs".into(),
        0x0102_1994 => "tmpfs: NOT A DISK, nothing here is durable".into(),
        other => format!("file system {other:#x}"),
    }
}
