//! The reference inside the process: Wasmtime as a careful embedder would use it, and no more.
//!
//! The same settings, pool, reset and interruption as the engine (`vyr_task::engine_settings`,
//! `pooling_settings`, one epoch every `TICK`), a module linked once, an instance and a store for
//! each task, Wasmtime's own streams. What it leaves out is what the engine adds: limits, a meter
//! for processor time, cancellation, a log that is kept, and a hash unless the case asks for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::anyhow;
use bytes::Bytes;
use vyr_base::Digest;
use vyr_task::{Kind, TICK, engine_settings, pooling_settings};
use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::error::Context as _;
use wasmtime::{
    Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, ModuleExport, Result, Store,
    bail, ensure,
};
use wasmtime_wasi::cli::{AsyncStdinStream, StdinStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{I32Exit, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// A Wasmtime engine with its pool; the epoch moves only while a [`Ticking`] is held.
pub struct Bare {
    engine: Engine,
}

/// A guest linked on a [`Bare`], ready to run any number of times.
pub struct BareProgram {
    engine: Engine,
    entry: Entry,
}

enum Entry {
    Module { pre: InstancePre<WasiP1Ctx>, start: ModuleExport },
    Component(CommandPre<State>),
}

/// What a store holds for a component.
struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// What one task gets and what is asked of it.
#[derive(Debug, Clone, Default)]
pub struct BareJob {
    /// `argv`, the name first.
    pub args: Vec<String>,
    /// Standard input.
    pub input: Bytes,
    /// Whether the output is hashed.
    pub hash: bool,
    /// The most output that is kept, in bytes.
    pub output_bytes_max: usize,
}

/// What one task gave.
#[derive(Debug)]
pub struct BareEnd {
    /// All of its output.
    pub output: Vec<u8>,
    /// Its digest, if asked for.
    pub digest: Option<Digest>,
}

impl Bare {
    /// A pool of `slots`, with the fast reset if `pagemap_scan`, as the engine under test has it.
    pub fn new(slots: u32, pagemap_scan: bool) -> anyhow::Result<Self> {
        let mut config = engine_settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling_settings(
            slots,
            pagemap_scan,
        )));
        Ok(Self { engine: Engine::new(&config).map_err(ours)? })
    }

    /// Compiles and links `wasm`.
    pub fn load(&self, wasm: &[u8], kind: Kind) -> anyhow::Result<BareProgram> {
        self.link(wasm, kind).map_err(ours)
    }

    fn link(&self, wasm: &[u8], kind: Kind) -> Result<BareProgram> {
        let entry = match kind {
            Kind::Module => {
                let module = Module::new(&self.engine, wasm)?;
                let mut linker: Linker<WasiP1Ctx> = Linker::new(&self.engine);
                wasmtime_wasi::p1::add_to_linker_async(&mut linker, |wasi| wasi)?;
                let start = module.get_export_index("_start").context("it exports no _start")?;
                Entry::Module { pre: linker.instantiate_pre(&module)?, start }
            }
            Kind::Component => {
                let component = Component::new(&self.engine, wasm)?;
                let mut linker: ComponentLinker<State> = ComponentLinker::new(&self.engine);
                wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
                Entry::Component(CommandPre::new(linker.instantiate_pre(&component)?)?)
            }
        };
        Ok(BareProgram { engine: self.engine.clone(), entry })
    }

    /// Starts the thread that moves the epoch; it ends when the guard is dropped.
    pub fn tick(&self) -> std::io::Result<Ticking> {
        let engine = self.engine.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("bare-ticker".into()).spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::thread::park_timeout(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(Ticking { ended, thread: Some(thread) })
    }
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").finish_non_exhaustive()
    }
}

/// Held while tasks run on a [`Bare`].
#[derive(Debug)]
pub struct Ticking {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl BareProgram {
    /// Runs one task. Needs a tokio runtime.
    pub async fn run(&self, job: &BareJob) -> anyhow::Result<BareEnd> {
        let stdout = MemoryOutputPipe::new(job.output_bytes_max);
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&job.args).stdout(stdout.clone());
        if !job.input.is_empty() {
            wasi.stdin(MemoryInputPipe::new(job.input.clone()));
        }
        self.run_with(wasi).await.map_err(ours)?;
        let output = stdout.try_into_inner().ok_or_else(|| anyhow!("its stream outlived it"))?;
        let digest = job.hash.then(|| Digest::of(&output));
        Ok(BareEnd { output: output.into(), digest })
    }

    /// Runs one task that reads `stdin` and whose output goes nowhere.
    pub async fn run_on(&self, stdin: impl StdinStream + 'static) -> anyhow::Result<()> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdin(stdin);
        self.run_with(wasi).await.map_err(ours)
    }

    async fn run_with(&self, mut wasi: WasiCtxBuilder) -> Result<()> {
        match &self.entry {
            Entry::Module { pre, start } => {
                let mut store = self.store(wasi.build_p1());
                let instance = pre.instantiate_async(&mut store).await?;
                let start = instance
                    .get_module_export(&mut store, start)
                    .and_then(wasmtime::Extern::into_func)
                    .context("_start is no function")?;
                exit_zero(start.typed::<(), ()>(&store)?.call_async(&mut store, ()).await)
            }
            Entry::Component(pre) => {
                let state = State { wasi: wasi.build(), table: ResourceTable::new() };
                let mut store = self.store(state);
                let command = pre.instantiate_async(&mut store).await?;
                match command.wasi_cli_run().call_run(&mut store).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(())) => bail!("the guest failed"),
                    Err(error) => exit_zero(Err(error)),
                }
            }
        }
    }

    fn store<T>(&self, state: T) -> Store<T> {
        let mut store = Store::new(&self.engine, state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }
}

/// Wasmtime has an error type of its own.
fn ours(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

/// A guest may end by returning or by `exit(0)`.
fn exit_zero(ended: Result<()>) -> Result<()> {
    let Err(error) = ended else { return Ok(()) };
    let exit = error.downcast_ref::<I32Exit>().map(|exit| exit.0);
    ensure!(exit == Some(0), "the guest ended with {error:#}");
    Ok(())
}

impl std::fmt::Debug for BareProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareProgram").finish_non_exhaustive()
    }
}

/// Standard input from a pipe, through Wasmtime's own stream.
pub fn pipe_stdin(reader: tokio::net::unix::pipe::Receiver) -> AsyncStdinStream {
    AsyncStdinStream::new(reader)
}
