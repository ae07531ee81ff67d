//! Whole processes: `vyr run` against the bare embedder, for the smallest task and a large one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_task::{Engine, EngineConfig, Input, Job, Limits, Output, State};

use crate::guests::Guest;
use crate::process::{Line, Peak};
use crate::rounds::{Round, alternate, figures, rounds};
use crate::start::load_from;
use crate::stats::median;

/// What `hello` prints.
const HELLO: &[u8] = b"hello from vyr\n";

/// Memory peaks are looked for in so many runs of their own.
const PEAK_RUNS: usize = 3;

/// Rounds of what has no target and is published only.
const PUBLISHED_ROUNDS: usize = 3;

/// Large runs may take their time, and their output is as large as their input.
const LARGE_LIMITS: [&str; 6] = ["--deadline", "600s", "--cpu", "600s", "--output-max", "8Gi"];

/// The programs that are run, and where they may write.
#[derive(Debug)]
pub(crate) struct Programs {
    /// `vyr` itself.
    pub(crate) vyr: PathBuf,
    /// The bare embedder.
    pub(crate) bare: PathBuf,
    /// A directory for guests, code and a data directory.
    pub(crate) work: PathBuf,
}

impl Programs {
    fn run(&self, wasm: &Path) -> Line {
        Line::new(&self.vyr).env("VYR_DATA_DIR", self.work.join("data")).arg("run").arg(wasm)
    }

    /// Precompiles `wasm` for the bare embedder; returns the line that runs it.
    fn bare(&self, wasm: &Path, interruption: bool) -> Result<Line> {
        let flag = (!interruption).then_some("--no-interruption");
        let code = wasm.with_extension(if interruption { "cwasm" } else { "free.cwasm" });
        Line::new(&self.bare).arg("compile").arg(wasm).arg(&code).args(flag).run()?;
        Ok(Line::new(&self.bare).arg("run").arg(&code).args(flag))
    }
}

/// One round of `hello` as whole processes: medians, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HelloRound {
    /// `bare run` of precompiled code.
    pub bare_us: f64,
    /// `vyr run` of the Wasm file, artifact and code cached.
    pub vyr_us: f64,
}

/// `hello` as whole processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HelloProcess {
    /// `hello-p1`.
    pub case: String,
    /// Runs of each in a round.
    pub runs: usize,
    /// All rounds.
    pub rounds: Vec<Round<HelloRound>>,
}

impl HelloProcess {
    /// What `vyr run` takes more than the bare embedder, in milliseconds, one figure a round.
    pub fn more_ms(&self) -> Vec<f64> {
        figures(&self.rounds, |round| Some((round.vyr_us - round.bare_us) / 1_000.0))
    }
}

/// Runs `hello` both ways, alternating, in `wanted` rounds of `runs` each.
pub(crate) fn hello(
    programs: &Programs,
    case: &str,
    wasm: &Path,
    wanted: usize,
    runs: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<HelloProcess> {
    let bare = programs.bare(wasm, true)?;
    let vyr = programs.run(wasm);
    for line in [&bare, &vyr] {
        ensure!(line.run()?.stdout == HELLO, "{case} printed something else");
    }
    let all = rounds(wanted, |number| {
        progress(&format!("whole process, {case}: round {} of {wanted}", number + 1));
        let (mut bare_us, mut vyr_us) = (Vec::new(), Vec::new());
        for run in 0..runs {
            for first in alternate(&[true, false], run + number) {
                let (line, times) = if first { (&bare, &mut bare_us) } else { (&vyr, &mut vyr_us) };
                times.push(line.run()?.wall_us);
            }
        }
        let middle = |times: &[f64]| median(times).context("no run");
        Ok(HelloRound { bare_us: middle(&bare_us)?, vyr_us: middle(&vyr_us)? })
    })?;
    Ok(HelloProcess { case: case.into(), runs, rounds: all })
}

/// One way to run the large transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The bare embedder with the product's interruption; output hashed.
    Bare,
    /// `vyr run`: output hashed, to a file of nothing, not stored.
    Vyr,
    /// `Engine::run` in a process of its own, without the product's other processes.
    Engine,
    /// `vyr run` with the output stored.
    Stored,
    /// The bare embedder without interruption; output hashed.
    Free,
    /// The same source, built for this machine; output not hashed.
    Native,
}

impl Way {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Vyr => "vyr run",
            Self::Engine => "engine alone",
            Self::Stored => "vyr run, output stored",
            Self::Free => "bare, no interruption",
            Self::Native => "native, not hashed",
        }
    }
}

/// One way's runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LargeWay {
    /// Which way.
    pub way: Way,
    /// Seconds of each round, the process from start to end, in the order of the rounds.
    pub rounds: Vec<Round<f64>>,
    /// The most memory of it and its children; `None` where it could not be seen.
    pub peak: Option<Peak>,
}

/// The transform of a large file, as whole processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Large {
    /// `transform-p1`.
    pub case: String,
    /// Bytes of input, in the page cache.
    pub input_bytes: u64,
    /// Bytes of output, the same every way.
    pub output_bytes: u64,
    /// The most linear memory the guest held, in bytes.
    pub guest_memory_bytes: u64,
    /// Each way that could be run.
    pub ways: Vec<LargeWay>,
    /// The others, and why not.
    pub not_run: Vec<(Way, String)>,
}

impl Large {
    /// A way's runs.
    pub fn way(&self, way: Way) -> Option<&LargeWay> {
        self.ways.iter().find(|runs| runs.way == way)
    }

    /// The rate of `way` by that of `reference`, round by round. Both were run in the same rounds.
    pub fn ratios(&self, way: Way, reference: Way) -> Vec<f64> {
        let (Some(way), Some(reference)) = (self.way(way), self.way(reference)) else {
            return Vec::new();
        };
        let pairs = way.rounds.iter().zip(&reference.rounds);
        pairs.filter(|(a, b)| a.counts && b.counts).map(|(a, b)| b.data / a.data).collect()
    }
}

/// What `Engine::run` says of a large run in its own process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LargeEnd {
    /// Seconds from the job to its outcome.
    pub seconds: f64,
    /// The guest's peak of linear memory, in bytes.
    pub guest_memory_bytes: u64,
    /// Bytes of output.
    pub output_bytes: u64,
    /// Their digest.
    pub output_digest: Digest,
}

/// Runs `guest` over the file `input` in this process; its output is hashed and dropped.
pub(crate) fn engine_alone(guest: &Guest, input: &Path, cache: &Path) -> Result<LargeEnd> {
    let engine = Engine::new(EngineConfig::new(1))?;
    let code = load_from(cache, &guest.wasm)?;
    let job = Job {
        args: vec!["guest".into()],
        input: Input::Descriptor(File::open(input)?.into()),
        output: Output::Discard,
        hash_output: true,
        limits: Limits {
            deadline_ms: 600_000,
            cpu_ms: 600_000,
            output_bytes_max: 8 << 30,
            ..Limits::default()
        },
        ..Job::new(Arc::new(engine.load(code)?))
    };
    let start = Instant::now();
    let outcome = crate::arms::runtime()?.block_on(engine.run(job));
    let seconds = start.elapsed().as_secs_f64();
    ensure!(outcome.state == State::Completed, "failed: {:?}", outcome.message);
    Ok(LargeEnd {
        seconds,
        guest_memory_bytes: outcome.usage.memory_peak_bytes,
        output_bytes: outcome.usage.output_bytes,
        output_digest: outcome.output_digest.context("it was not hashed")?,
    })
}

/// The large transform: what to run, and how often.
#[derive(Debug)]
pub(crate) struct LargePlan<'a> {
    pub(crate) case: String,
    pub(crate) wasm: &'a Path,
    pub(crate) input: &'a Path,
    pub(crate) input_bytes: u64,
    /// The line of `Way::Engine`, which prints a `LargeEnd`.
    pub(crate) engine: Line,
    /// The native build, or why there is none.
    pub(crate) native: Result<PathBuf, String>,
    pub(crate) rounds: usize,
}

/// Runs the large transform every way.
pub(crate) fn large(
    programs: &Programs,
    plan: &LargePlan<'_>,
    read_end: impl Fn(&[u8]) -> Result<LargeEnd>,
    progress: &mut dyn FnMut(&str),
) -> Result<Large> {
    let input = |line: Line| line.arg("--input").arg(plan.input);
    let bare = |interruption| -> Result<Line> {
        let line = input(programs.bare(plan.wasm, interruption)?);
        Ok(line.args(["--sink", "hash", "--report"]))
    };
    let to_nothing = ["--quiet", "--output", "/dev/null"];
    let vyr = input(programs.run(plan.wasm)).args(to_nothing).args(LARGE_LIMITS);
    let native = plan.native.as_ref().map(|path| Line::new(path).stdin(plan.input));

    progress("large transform: once each way");
    let end = read_end(&plan.engine.run()?.stdout)?;
    let hashed = bare(true)?.run_silent()?;
    let report: BareReport = serde_json::from_str(hashed.stderr.trim())?;
    ensure!(
        (report.output_bytes, report.output_digest) == (end.output_bytes, end.output_digest),
        "the two sides differ in their output"
    );
    ensure!(end.output_bytes * 2 >= plan.input_bytes, "output is below half of the input");

    let mut judged = vec![(Way::Bare, bare(true)?), (Way::Engine, plan.engine.clone())];
    let mut published = vec![(Way::Free, bare(false)?)];
    let mut not_run = Vec::new();
    let quickly = vyr.clone().arg("--no-store");
    match quickly.run_silent() {
        Ok(_) => {
            judged.push((Way::Vyr, quickly));
            published.push((Way::Stored, vyr));
        }
        Err(error) => {
            not_run.push((Way::Vyr, format!("{error:#}")));
            not_run.push((Way::Stored, format!("{error:#}")));
        }
    }
    match native {
        Ok(line) => published.push((Way::Native, line)),
        Err(reason) => not_run.push((Way::Native, reason.clone())),
    }
    let mut ways = interleaved(&judged, plan.rounds, progress)?;
    ways.extend(interleaved(&published, plan.rounds.min(PUBLISHED_ROUNDS), progress)?);
    for (way, line) in judged.iter().chain(&published) {
        progress(&format!("large transform, memory: {}", way.name()));
        let mut peak = Peak::default();
        for _ in 0..plan.rounds.min(PEAK_RUNS) {
            let seen = line.peak()?;
            peak = if seen.pss_bytes > peak.pss_bytes { seen } else { peak };
        }
        ways.iter_mut().filter(|runs| runs.way == *way).for_each(|runs| runs.peak = Some(peak));
    }
    Ok(Large {
        case: plan.case.clone(),
        input_bytes: plan.input_bytes,
        output_bytes: end.output_bytes,
        guest_memory_bytes: end.guest_memory_bytes,
        ways,
        not_run,
    })
}

/// What `bare run --report` says.
#[derive(Debug, Deserialize)]
struct BareReport {
    output_bytes: u64,
    output_digest: Digest,
}

fn interleaved(
    lines: &[(Way, Line)],
    wanted: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<LargeWay>> {
    let all = rounds(wanted, |number| {
        let mut seconds = vec![0.0; lines.len()];
        for index in alternate(&(0..lines.len()).collect::<Vec<_>>(), number) {
            let (way, line) = &lines[index];
            let of = format!("round {} of {wanted}", number + 1);
            progress(&format!("large transform, {}: {of}", way.name()));
            seconds[index] = line.run_silent()?.wall_us / 1e6;
        }
        Ok(seconds)
    })?;
    let of_way = |index: usize| {
        let of_round = |round: &Round<Vec<f64>>| Round {
            number: round.number,
            counts: round.counts,
            disturbance: round.disturbance,
            data: round.data[index],
        };
        all.iter().map(of_round).collect()
    };
    let ways = lines.iter().enumerate();
    Ok(ways.map(|(n, (way, _))| LargeWay { way: *way, rounds: of_way(n), peak: None }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Disturbance;

    #[test]
    fn a_rate_is_the_inverse_of_a_time() {
        let runs = |way, seconds: &[f64]| LargeWay {
            way,
            rounds: seconds
                .iter()
                .map(|data| Round {
                    number: 0,
                    counts: *data > 0.0,
                    disturbance: Disturbance::default(),
                    data: *data,
                })
                .collect(),
            peak: None,
        };
        let large = Large {
            case: "transform-p1".into(),
            input_bytes: 1,
            output_bytes: 1,
            guest_memory_bytes: 1,
            ways: vec![runs(Way::Bare, &[3.0, 4.0, -1.0]), runs(Way::Vyr, &[4.0, 5.0, 1.0])],
            not_run: Vec::new(),
        };
        assert_eq!(large.ratios(Way::Vyr, Way::Bare), [0.75, 0.8]);
        assert!(large.ratios(Way::Native, Way::Bare).is_empty());
    }
}
