//! One task without a daemon: build, sign, put, verify, compile, run, hash, store.
//!
//! The process that will run the guest is started first and gets ready while the artifact is
//! checked. Then four things happen at once: it runs, and three threads here feed its input, take
//! its output and take its log.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use rustix::fs::{MemfdFlags, memfd_create};
use vyr_artifact::{Artifact, Namespace, Spec, WASM_BYTES_MAX, signed_bytes};
use vyr_base::{Category, Digest, Problem};
use vyr_store::Store;
use vyr_task::{Ceilings, CodeCache, Limits, Outcome, SealedCode, compatibility};

use crate::artifact::{self, Admitted, Whole, admit};
use crate::data_dir::DataDir;
use crate::keys::SigningKey;
use crate::process::{CompilerProcess, RunSpec, TasksProcess};
use crate::pump::{self, Given, TakeError, Taken};
use crate::report::Result;
use crate::trust::{Trust, TrustedSigner};

/// What to run.
#[derive(Debug)]
pub enum Program {
    /// A Wasm file: built into an artifact with these arguments, signed, put, run.
    File {
        /// The file.
        path: PathBuf,
        /// Arguments, which become part of what is signed.
        args: Vec<String>,
        /// The key to sign with; `None` for the development key.
        key: Option<PathBuf>,
    },
    /// An artifact in the store.
    Artifact(Digest),
}

/// Where the guest's input comes from.
#[derive(Debug)]
pub enum Input {
    /// Nothing to read.
    Empty,
    /// This file or pipe, from where it stands.
    From(File),
}

/// One run.
#[derive(Debug)]
pub struct RunRequest {
    /// What to run.
    pub program: Program,
    /// Its input.
    pub input: Input,
    /// Where its output is shown as it comes, besides being stored.
    pub show: Option<File>,
    /// Whether its log goes to our stderr as it comes.
    pub show_log: bool,
    /// Whether its output is kept in the store.
    pub store_output: bool,
    /// What it asks for; the ceilings apply.
    pub limits: Limits,
    /// Fixed clock and seed.
    pub deterministic: bool,
    /// How far it is, for somebody who looks from another thread.
    pub progress: Arc<Progress>,
}

/// How far a run is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of input the guest was given.
    pub input_bytes: AtomicU64,
    /// Set while its Wasm is being compiled.
    pub compiling: AtomicBool,
}

/// How it went.
#[derive(Debug)]
pub struct RunReport {
    /// How the guest ended.
    pub outcome: Outcome,
    /// The artifact that ran.
    pub artifact: Digest,
    /// Its name.
    pub name: String,
    /// Who vouched for it.
    pub signer: TrustedSigner,
    /// The input's digest.
    pub input: Digest,
    /// Its length in bytes.
    pub input_bytes: u64,
    /// Whether digest and length are of the whole input.
    pub input_complete: bool,
    /// The output's digest.
    pub output: Digest,
    /// Its length in bytes.
    pub output_bytes: u64,
    /// The last of the log.
    pub log: Vec<u8>,
    /// The limits that applied.
    pub limits: Limits,
    /// Whether it had to be compiled.
    pub compiled: bool,
    /// How long what took.
    pub timings: Timings,
}

/// How long what took, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Until the artifact was checked.
    pub admit_us: u64,
    /// Until its machine code was at hand: loaded, or compiled.
    pub code_us: u64,
    /// The guest, from instantiation to its end.
    pub run_us: u64,
    /// All of it.
    pub total_us: u64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Its states cannot be bound without a node.
    #[error("artifact {artifact} declares states ({states}), which a run by itself does not have")]
    States {
        /// The artifact.
        artifact: Digest,
        /// Their names.
        states: String,
    },
    /// The file's name cannot be an artifact's.
    #[error("the file name of {0} has no letter or digit to name an artifact with")]
    Name(String),
    /// A process of ours failed.
    #[error(transparent)]
    Process(#[from] crate::process::TasksError),
    /// A pipe or a memory file could not be made.
    #[error("cannot set up the task's streams")]
    Streams(#[source] io::Error),
    /// The input could not be read.
    #[error("cannot read the input")]
    Input(#[source] io::Error),
    /// The output could not be shown.
    #[error("cannot write the output")]
    Show(#[source] io::Error),
    /// The output could not be stored.
    #[error("cannot store the output")]
    Store(#[source] io::Error),
    /// The Wasm engine has no settings on this machine.
    #[error("cannot set up the Wasm engine: {0}")]
    Engine(String),
}

impl Problem for RunError {
    fn category(&self) -> Category {
        match self {
            Self::States { .. } | Self::Name(_) => Category::Usage,
            Self::Process(_) | Self::Streams(_) | Self::Engine(_) => Category::Internal,
            Self::Input(e) | Self::Show(e) | Self::Store(e) => match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Category::Transient,
                _ => Category::Failure,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::States { .. } => {
                Some("states are for tasks submitted to a node; build one without --state".into())
            }
            Self::Name(_) => Some("rename the file, or use vyr artifact build --name NAME".into()),
            Self::Store(e) if e.kind() == io::ErrorKind::StorageFull => {
                Some("free some space (vyr artifact gc), or pass --no-store".into())
            }
            Self::Show(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                Some("the reader of the output went away and the task was cancelled".into())
            }
            _ => None,
        }
    }
}

/// Runs one task to its end. An error means that no guest ran, or that its result was lost; a
/// guest that failed is a report.
pub fn run(data: &DataDir, request: RunRequest) -> Result<RunReport> {
    let began = Instant::now();
    let mut tasks = TasksProcess::start(1, 1).map_err(RunError::from)?;
    let trust = Trust::load(data)?;
    let store = data.store()?;
    let admitted = match request.program {
        Program::File { path, args, key } => {
            from_file(data, &store, &trust, &path, args, key.as_deref())?
        }
        Program::Artifact(digest) => admit(&store, &trust, &digest)?,
    };
    let Admitted { manifest, signer } = admitted;
    if !manifest.states().is_empty() {
        let states = manifest.states().join(", ");
        return Err(RunError::States { artifact: manifest.digest(), states }.into());
    }
    let admit_us = micros(began);

    let ready = Instant::now();
    let wasm = manifest.wasm().digest;
    let code = machine_code(data, &store, &wasm, &request.progress);
    let code_us = micros(ready);
    let limits = Ceilings::default().clamp(request.limits);
    let (code, compiled) = code?;
    let spec = RunSpec {
        args: std::iter::once(manifest.name())
            .map(String::from)
            .chain(manifest.args().iter().cloned())
            .collect(),
        env: manifest.env().iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        limits,
        deterministic: request.deterministic,
    };
    let streams = Streams {
        input: request.input,
        show: request.show,
        show_log: request.show_log,
        progress: &request.progress,
        store: request.store_output.then_some(&store),
    };
    let ended = streams.run(&mut tasks, &code, spec)?;
    Ok(RunReport {
        artifact: manifest.digest(),
        name: manifest.name().to_owned(),
        signer,
        input: ended.given.digest,
        input_bytes: ended.given.bytes,
        input_complete: ended.given.complete,
        output: ended.taken.digest,
        output_bytes: ended.taken.bytes,
        log: ended.log,
        limits,
        compiled,
        timings: Timings {
            admit_us,
            code_us,
            run_us: ended.outcome.usage.run_us,
            total_us: micros(began),
        },
        outcome: ended.outcome,
    })
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Builds, signs and puts a Wasm file, unless the store has it with a trusted signature.
fn from_file(
    data: &DataDir,
    store: &Store,
    trust: &Trust,
    path: &Path,
    args: Vec<String>,
    key: Option<&Path>,
) -> Result<Admitted> {
    let wasm = artifact::read_wasm(path)?;
    let spec = Spec { name: name_of(path)?, args, ..Spec::default() };
    let built = Artifact::build(&spec, &wasm)?;
    let digest = built.manifest.digest();
    if store.contains(&digest)?
        && let Ok(admitted) = admit(store, trust, &digest)
    {
        return Ok(admitted);
    }
    let key = match key {
        Some(path) => SigningKey::open(path)?,
        None => SigningKey::File(Box::new(trust.dev_key(data)?)),
    };
    let signature = key.sign(Namespace::Artifact, &signed_bytes(&digest))?;
    // The development key may just have been made.
    let trust = Trust::load(data)?;
    let signatures = [signature.clone().into_bytes()];
    let signer = trust.verify(&digest, &signatures, jiff::Timestamp::now())?;
    artifact::put(store, &Whole { artifact: &built, wasm: &wasm }, &[signature])?;
    Ok(Admitted { manifest: built.manifest, signer })
}

/// Builds, signs and puts a Wasm file as `run` does, for a node on the same data directory.
pub fn put_file(
    data: &DataDir,
    path: &Path,
    args: Vec<String>,
    key: Option<&Path>,
) -> Result<Admitted> {
    from_file(data, &data.store()?, &Trust::load(data)?, path, args, key)
}

/// A signed artifact in memory, for a node elsewhere.
#[derive(Debug)]
pub struct SignedFile {
    /// Manifest and config.
    pub artifact: Artifact,
    /// The file's bytes.
    pub wasm: Vec<u8>,
    /// An armored signature.
    pub signature: String,
}

/// Builds and signs a Wasm file as `run` does, and puts it nowhere.
pub fn sign_file(
    data: &DataDir,
    path: &Path,
    args: Vec<String>,
    key: Option<&Path>,
) -> Result<SignedFile> {
    let wasm = artifact::read_wasm(path)?;
    let artifact = Artifact::build(&Spec { name: name_of(path)?, args, ..Spec::default() }, &wasm)?;
    let key = match key {
        Some(path) => SigningKey::open(path)?,
        None => SigningKey::File(Box::new(Trust::load(data)?.dev_key(data)?)),
    };
    let signature = key.sign(Namespace::Artifact, &signed_bytes(&artifact.manifest.digest()))?;
    Ok(SignedFile { artifact, wasm, signature })
}

/// An artifact's name from a file's: its stem, with what a name cannot hold replaced.
fn name_of(path: &Path) -> Result<String> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(vyr_artifact::NAME_CHARS_MAX)
        .collect();
    if name.is_empty() {
        return Err(RunError::Name(path.display().to_string()).into());
    }
    Ok(name)
}

/// The machine code of a Wasm blob of the store, from the cache or compiled in its own process.
fn machine_code(
    data: &DataDir,
    store: &Store,
    wasm: &Digest,
    progress: &Progress,
) -> Result<(SealedCode, bool)> {
    let compatibility = compatibility().map_err(RunError::Engine)?;
    let cache = CodeCache::open(&data.code_cache()?, &data.cache_secret()?, compatibility)?;
    let open = || -> io::Result<File> {
        progress.compiling.store(true, Ordering::Relaxed);
        let bytes = store.read_blob(wasm, WASM_BYTES_MAX).map_err(io::Error::other)?;
        let mut memory = File::from(memfd_create("vyr-wasm", MemfdFlags::CLOEXEC)?);
        memory.write_all(&bytes)?;
        memory.seek(SeekFrom::Start(0))?;
        Ok(memory)
    };
    let code = cache.get(wasm, open, &CompilerProcess::default());
    progress.compiling.store(false, Ordering::Relaxed);
    Ok(code?)
}

struct Streams<'a> {
    input: Input,
    show: Option<File>,
    show_log: bool,
    progress: &'a Progress,
    store: Option<&'a Store>,
}

struct Ended {
    outcome: Outcome,
    given: Given,
    taken: Taken,
    log: Vec<u8>,
}

impl Streams<'_> {
    fn run(self, tasks: &mut TasksProcess, code: &SealedCode, spec: RunSpec) -> Result<Ended> {
        let (input_end, feed_end) = pump::pipe().map_err(RunError::Streams)?;
        let (take_end, output_end) = pump::pipe().map_err(RunError::Streams)?;
        let (log_end, error_end) = pump::pipe().map_err(RunError::Streams)?;
        let keep = self.store.map(Store::stage);
        let Self { input, show, show_log, progress, .. } = self;
        thread::scope(|scope| {
            let ends = (input_end.as_fd(), output_end.as_fd(), error_end.as_fd());
            let running = tasks.run(code, spec, ends.0, ends.1, ends.2).map_err(RunError::from)?;
            let cancel = running.canceller().map_err(RunError::from)?;
            // The process has its own copies; ours would keep the pipes from ending.
            drop((input_end, output_end, error_end));
            let feeder = scope.spawn(move || match input {
                Input::From(file) => pump::feed(file, feed_end, &progress.input_bytes),
                Input::Empty => Ok(Given { digest: Digest::of(b""), bytes: 0, complete: true }),
            });
            let taker = scope.spawn(move || {
                let taken = pump::take(take_end, show, keep);
                if taken.is_err() {
                    cancel();
                }
                taken
            });
            let logger = scope.spawn(move || pump::take_log(log_end, show_log));
            let outcome = running.wait().map_err(RunError::from);
            // The threads end when the pipes do, and those at the latest when the process does.
            tasks.kill();
            let (given, taken, log) = (join(feeder), join(taker), join(logger));
            Ok(Ended {
                outcome: outcome?,
                given: given.map_err(RunError::Input)?,
                taken: taken.map_err(take_error)?,
                log,
            })
        })
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn take_error(error: TakeError) -> crate::Report {
    match error {
        TakeError::Read(e) => RunError::Streams(e).into(),
        TakeError::Show(e) => RunError::Show(e).into(),
        TakeError::Keep(e) => RunError::Store(e).into(),
        TakeError::Commit(e) => e.into(),
    }
}
