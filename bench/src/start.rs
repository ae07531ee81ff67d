//! Starts: compiling a guest, and loading one that an earlier process compiled.
//!
//! A warm start is measured from the cache file to the end of the guest's run: read and
//! authenticate, seal, map and link, run. For the made-up guests the run is one return, so the
//! whole is an upper bound on the time to the first guest instruction.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_task::{
    CodeCache, CompileError, CompileFailure, Compiler, Engine, EngineConfig, Input, Job, Kind,
    MachineCode, SealedCode, State, compatibility, compile,
};

use crate::arms::runtime;
use crate::guests::{Guest, synthetic_component, synthetic_module};
use crate::rounds::{Round, figures, rounds};

/// Warm starts up to this size of code have a target.
pub const SMALL_CODE_BYTES: u64 = 256 << 10;

/// Machine code of the made-up guests, in KiB; the largest is what a language runtime has.
const MADE_UP_KIB: [u32; 8] = [32, 64, 128, 240, 1024, 2048, 4096, 8192];

/// Loads of one guest in one round; the round's figure is their median.
const LOADS: usize = 5;

/// The cache of a benchmark guards nothing.
const SECRET: [u8; 32] = [7; 32];

/// Compiling one guest, in this process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    /// `hello-p1`.
    pub case: String,
    /// Bytes of Wasm.
    pub wasm_bytes: usize,
    /// Bytes of machine code, as Wasmtime serializes it.
    pub code_bytes: usize,
    /// How long it took, one figure a round, in microseconds.
    pub rounds: Vec<Round<f64>>,
}

/// One warm start, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WarmStart {
    /// Reading the file, checking it, sealing its copy.
    pub read_us: f64,
    /// Mapping and linking.
    pub link_us: f64,
    /// Running it to its end.
    pub run_us: f64,
}

impl WarmStart {
    /// From the file to the end of the run.
    pub fn total_us(&self) -> f64 {
        self.read_us + self.link_us + self.run_us
    }
}

/// Warm starts of one guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// `hello-p1`, or `made-up-p2`.
    pub case: String,
    /// Its form.
    pub kind: Kind,
    /// Bytes of machine code.
    pub code_bytes: u64,
    /// The median of `LOADS` starts a round.
    pub rounds: Vec<Round<WarmStart>>,
}

impl Loaded {
    /// The whole start, one figure a round that counts.
    pub fn totals_us(&self) -> Vec<f64> {
        figures(&self.rounds, |start| Some(start.total_us()))
    }

    /// Whether it is one of the made-up ones, from which the slope is taken.
    pub fn is_made_up(&self) -> bool {
        self.case.starts_with("made-up")
    }
}

/// The first task of a process, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FirstStart {
    /// Making the engine.
    pub engine_us: f64,
    /// The warm start that follows.
    pub start: WarmStart,
}

/// Compiles every guest in `wanted` rounds.
pub(crate) fn compile_all(
    guests: &[Guest],
    wanted: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Compiled>> {
    let measured = guests.iter().map(|guest| {
        progress(&format!("cold compile: {}", guest.case()));
        let mut code_bytes = 0;
        let all = rounds(wanted, |_| {
            let start = Instant::now();
            code_bytes = compile(&guest.wasm)?.bytes.len();
            Ok(micros(start))
        })?;
        let wasm_bytes = guest.wasm.len();
        Ok(Compiled { case: guest.case(), wasm_bytes, code_bytes, rounds: all })
    });
    measured.collect()
}

/// Loads the committed guests that need no input and made-up ones in `wanted` rounds.
pub(crate) fn load_all(
    engine: &Engine,
    guests: &[Guest],
    cache: &Path,
    wanted: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Loaded>> {
    progress("warm start: compiling guests of all sizes");
    let cache = open_cache(cache)?;
    let mut all: Vec<(String, Bytes)> = guests
        .iter()
        .filter(|guest| guest.name != "transform")
        .map(|guest| (guest.case(), guest.wasm.clone()))
        .collect();
    for kib in MADE_UP_KIB {
        all.push(("made-up-p1".into(), synthetic_module(functions(kib)?).into()));
        all.push(("made-up-p2".into(), synthetic_component(functions(kib)?).into()));
    }
    let mut loaded = Vec::new();
    for (case, wasm) in all {
        let digest = keep(&cache, &wasm)?;
        let code = cache.load(&digest)?;
        let Some(code) = code else { anyhow::bail!("{case} is not in the cache") };
        let (kind, code_bytes) = (code.kind(), code.length());
        loaded.push((digest, Loaded { case, kind, code_bytes, rounds: Vec::new() }));
    }
    let runtime = runtime()?;
    for (digest, loaded) in &mut loaded {
        progress(&format!("warm start: {}, {} KiB", loaded.case, loaded.code_bytes >> 10));
        loaded.rounds = rounds(wanted, |_| {
            let starts = (0..LOADS).map(|_| warm_start(engine, &runtime, &cache, digest));
            let mut starts = starts.collect::<Result<Vec<_>>>()?;
            starts.sort_by(|a, b| a.total_us().total_cmp(&b.total_us()));
            Ok(starts[LOADS / 2])
        })?;
    }
    Ok(loaded.into_iter().map(|(_, loaded)| loaded).collect())
}

/// Functions that make `kib` KiB of machine code, found by compiling some.
fn functions(kib: u32) -> Result<u32> {
    const SOME: u32 = 100;
    let few = compile(&synthetic_module(SOME))?.bytes.len();
    let more = compile(&synthetic_module(2 * SOME))?.bytes.len();
    let (each, fixed) = ((more - few) / SOME as usize, few.saturating_sub(more - few));
    let wanted = (kib as usize) << 10;
    Ok(u32::try_from(wanted.saturating_sub(fixed) / each.max(1))?)
}

/// The warm start of a process that has done nothing yet.
pub(crate) fn first_start(guest: &Guest, cache: &Path) -> Result<FirstStart> {
    let digest = Digest::of(&guest.wasm);
    let runtime = runtime()?;
    let start = Instant::now();
    let engine = Engine::new(EngineConfig::new(crate::arms::SLOTS))?;
    let engine_us = micros(start);
    let cache = open_cache(cache)?;
    Ok(FirstStart { engine_us, start: warm_start(&engine, &runtime, &cache, &digest)? })
}

fn warm_start(
    engine: &Engine,
    runtime: &tokio::runtime::Runtime,
    cache: &CodeCache,
    digest: &Digest,
) -> Result<WarmStart> {
    let start = Instant::now();
    let Some(code) = cache.load(digest)? else { anyhow::bail!("{digest} is not in the cache") };
    let read_us = micros(start);
    let start = Instant::now();
    let program = Arc::new(engine.load(code)?);
    let link_us = micros(start);
    let start = Instant::now();
    let job = Job { input: Input::Bytes(Bytes::new()), ..Job::new(program) };
    let outcome = runtime.block_on(engine.run(job));
    let run_us = micros(start);
    ensure!(outcome.state == State::Completed, "failed: {:?}", outcome.message);
    Ok(WarmStart { read_us, link_us, run_us })
}

fn open_cache(directory: &Path) -> Result<CodeCache> {
    let compatibility =
        compatibility().map_err(|e| anyhow::anyhow!("cannot make an engine: {e}"))?;
    Ok(CodeCache::open(directory, &SECRET, compatibility)?)
}

/// Puts the code of `wasm` into the cache, if it is not there.
pub(crate) fn keep_in(directory: &Path, wasm: &[u8]) -> Result<Digest> {
    keep(&open_cache(directory)?, wasm)
}

/// The code of `wasm`, which an earlier process compiled.
pub(crate) fn load_from(directory: &Path, wasm: &[u8]) -> Result<SealedCode> {
    let code = open_cache(directory)?.load(&Digest::of(wasm))?;
    code.context("it is not in the cache")
}

fn keep(cache: &CodeCache, wasm: &[u8]) -> Result<Digest> {
    let digest = Digest::of(wasm);
    cache.get(&digest, || File::open("/dev/null"), &Here(wasm))?;
    Ok(digest)
}

/// Compiles in this process: a benchmark's guests are its own.
struct Here<'a>(&'a [u8]);

impl Compiler for Here<'_> {
    fn compile(&self, _wasm: File) -> Result<MachineCode, CompileFailure> {
        compile(self.0).map_err(|e: CompileError| CompileFailure::Invalid(e.to_string()))
    }
}

pub(crate) fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_start_runs_what_an_earlier_one_compiled() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let guests = Guest::all(None).expect("built in");
        for guest in guests.iter().filter(|guest| guest.name == "nop") {
            keep_in(dir.path(), &guest.wasm).expect("compiles");
            let first = first_start(guest, dir.path()).expect("starts");
            assert!(first.engine_us > 0.0 && first.start.total_us() > 0.0);
        }
        assert!(first_start(&guests[2], dir.path()).is_err(), "never compiled");
    }

    #[test]
    fn a_made_up_guest_has_the_size_asked_for() {
        for make in [synthetic_module, synthetic_component] {
            let code = compile(&make(functions(240).expect("compiles"))).expect("valid");
            let bytes = code.bytes.len() as u64;
            assert!((200 << 10..=SMALL_CODE_BYTES).contains(&bytes), "{bytes}");
        }
    }
}
