//! The engine: pools of slots, linkers, loaded programs, and the ticker that watches over them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use morpheus::Guidance;
use vyr_base::{Category, Problem};
use wasmtime::component::Linker as ComponentLinker;
use wasmtime::{
    InstanceAllocationStrategy, InstancePre, Linker, ModuleExport, PoolingAllocationConfig,
};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::code::SealedCode;
use crate::run::TaskState;
use crate::settings::{Kind, engine_settings, pooling_settings};
use crate::state;
use crate::swap::{PagemapScan, SwapWatch};
use crate::ticker::{OnTick, Running, TICK, Ticker};

/// How an engine is set up.
#[derive(Debug)]
pub struct EngineConfig {
    /// Tasks at once.
    pub slots: u32,
    /// Watches for swap; in the product `SwapWatch::of_this_machine`.
    pub swap: SwapWatch,
    /// Between two epochs; in the product [`TICK`](crate::TICK).
    pub tick: Duration,
}

impl EngineConfig {
    /// An engine for `slots` tasks at once on this machine.
    pub fn new(slots: u32) -> Self {
        Self { slots, swap: SwapWatch::of_this_machine(), tick: TICK }
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Wasmtime refused the settings or the system refused the memory.
    #[error("cannot set up the Wasm engine: {0}")]
    Wasmtime(String),
    /// No thread for the ticker.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// Why code cannot become a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It imports what a task does not get, or has no entry point.
    #[error("not a Wasm command this engine runs: {0}")]
    Invalid(String),
    /// The code was made for another engine or processor.
    #[error("compiled code does not fit this engine: {0}")]
    Code(String),
}

impl Problem for LoadError {
    fn category(&self) -> Category {
        match self {
            Self::Invalid(_) => Category::Usage,
            Self::Code(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid(_) => Some(
                "build for wasm32-wasip1 or wasm32-wasip2, as a command with a main function"
                    .into(),
            ),
            Self::Code(_) => Some("remove the code cache; it is made anew".into()),
        }
    }
}

/// Runs tasks. Cheap to clone; clones are one engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    slots: u32,
    tick: Duration,
    swap: SwapWatch,
    pool: RwLock<Arc<Pool>>,
    /// The pool that was left when swap came on; its last tasks still need epochs.
    left: OnceLock<Arc<Pool>>,
    /// That of `pool`, to be looked at without its lock.
    generation: AtomicU64,
    ticker: OnceLock<Ticker>,
    /// Epochs of the ticker; those because of hints are not among them.
    ticks: AtomicU64,
    guidance: OnceLock<Guided>,
    /// Whether tasks wait for a worker.
    waits: AtomicBool,
}

/// What hints the workers, and what the guest of each had before its turn, in nanoseconds.
struct Guided {
    guidance: Guidance,
    had_ns: Box<[Arc<AtomicU64>]>,
}

/// One Wasmtime engine with its pool. There is a second one only if swap is turned on while we
/// run: new tasks then go to a pool with the default reset, and the first drains.
pub(crate) struct Pool {
    /// 0, or 1 for the second.
    generation: u64,
    pub(crate) wasmtime: wasmtime::Engine,
    reset: PagemapScan,
    modules: OnceLock<Linker<TaskState>>,
    /// For modules that run with states; all others keep Wasmtime's own calls.
    modules_with_states: OnceLock<Linker<TaskState>>,
    components: OnceLock<ComponentLinker<TaskState>>,
}

/// A program ready to run any number of times.
pub struct Program {
    code: SealedCode,
    loaded: RwLock<Arc<Loaded>>,
}

pub(crate) struct Loaded {
    pub(crate) pool: Arc<Pool>,
    pub(crate) entry: Entry,
}

pub(crate) enum Entry {
    Module(ModuleEntry),
    Component(CommandPre<TaskState>),
}

pub(crate) struct ModuleEntry {
    pub(crate) pre: InstancePre<TaskState>,
    /// Linked when it first runs with states; most programs never do.
    with_states: OnceLock<InstancePre<TaskState>>,
    pub(crate) start: ModuleExport,
}

impl ModuleEntry {
    /// The module linked to the calls that know states.
    pub(crate) fn with_states(&self, pool: &Pool) -> Result<&InstancePre<TaskState>, LoadError> {
        if let Some(pre) = self.with_states.get() {
            return Ok(pre);
        }
        let pre = pool
            .modules_with_states()?
            .instantiate_pre(self.pre.module())
            .map_err(|e| LoadError::Invalid(format!("{e:#}")))?;
        Ok(self.with_states.get_or_init(|| pre))
    }
}

impl Engine {
    /// Reserves the address space of all slots. No guest byte has been seen yet; a process that
    /// confines itself does so after this.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let pool = Pool::new(0, config.slots, reset_now(&config.swap))?;
        Ok(Self(Arc::new(Inner {
            slots: config.slots,
            tick: config.tick,
            swap: config.swap,
            pool: RwLock::new(Arc::new(pool)),
            left: OnceLock::new(),
            generation: AtomicU64::new(0),
            ticker: OnceLock::new(),
            ticks: AtomicU64::new(0),
            guidance: OnceLock::new(),
            waits: AtomicBool::new(false),
        })))
    }

    /// Tasks that may run at once; more than that is an error of the caller's.
    pub fn slots(&self) -> u32 {
        self.0.slots
    }

    /// Whether the fast slot reset is in use, and if not, why.
    pub fn pagemap_scan(&self) -> PagemapScan {
        self.pool().reset
    }

    /// Maps `code` and links it.
    pub fn load(&self, code: SealedCode) -> Result<Program, LoadError> {
        let loaded = Loaded::new(self.pool(), &code)?;
        Ok(Program { code, loaded: RwLock::new(Arc::new(loaded)) })
    }

    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.0.pool.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// What hints to the threads that run guests, if something does.
    pub fn guidance(&self) -> Option<&Guidance> {
        self.0.guidance.get().map(|guided| &guided.guidance)
    }

    pub(crate) fn set_guidance(&self, guidance: Guidance, threads: usize) {
        let had_ns = (0..threads).map(|_| Arc::default()).collect();
        // The first one stays.
        let _ = self.0.guidance.set(Guided { guidance, had_ns });
    }

    /// To be held while a task runs: keeps the ticker ticking.
    pub(crate) fn enter(&self) -> Result<Running, EngineError> {
        let ticker = match self.0.ticker.get() {
            Some(ticker) => ticker,
            None => {
                let new = Ticker::start(Arc::downgrade(&self.0), self.0.tick)
                    .map_err(EngineError::Thread)?;
                self.0.ticker.get_or_init(|| new)
            }
        };
        let (running, was_parked) = ticker.enter();
        if was_parked {
            self.0.look_for_swap();
        }
        Ok(running)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("slots", &self.0.slots).finish_non_exhaustive()
    }
}

impl OnTick for Inner {
    fn begin(&self) {
        if let Some(Guided { guidance, .. }) = self.guidance.get() {
            guidance.quiet();
        }
    }

    fn tick(&self) {
        self.look_for_swap();
        self.ticks.fetch_add(1, Ordering::Release);
        self.look_up();
    }
}

impl Inner {
    /// Epochs of the ticker so far.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Acquire)
    }

    /// Whether tasks wait for a worker, as far as workers are guided.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Where a worker writes what its guest had of a processor before its turn, in nanoseconds.
    pub(crate) fn had(&self, worker: usize) -> Option<&Arc<AtomicU64>> {
        self.guidance.get().and_then(|guided| guided.had_ns.get(worker))
    }

    /// Makes every running guest look up at its next safe point.
    pub(crate) fn look_up(&self) {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).wasmtime.increment_epoch();
        if let Some(left) = self.left.get() {
            left.wasmtime.increment_epoch();
        }
    }

    /// Leaves the fast reset for good once swap is on. (Going back would save little and could
    /// be made to flap.)
    fn look_for_swap(&self) {
        let fast = |pool: &Pool| pool.reset == PagemapScan::Used;
        if !fast(&self.pool.read().unwrap_or_else(PoisonError::into_inner)) || !self.swap.is_on() {
            return;
        }
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        if fast(&pool)
            && let Ok(careful) = Pool::new(1, self.slots, PagemapScan::SwapPresent)
        {
            self.generation.store(1, Ordering::Release);
            let _ = self.left.set(std::mem::replace(&mut *pool, Arc::new(careful)));
        }
    }
}

/// Which reset the machine allows at this moment.
fn reset_now(swap: &SwapWatch) -> PagemapScan {
    if swap.is_on() {
        PagemapScan::SwapPresent
    } else if PoolingAllocationConfig::is_pagemap_scan_available() {
        PagemapScan::Used
    } else {
        PagemapScan::NotInKernel
    }
}

impl Pool {
    fn new(generation: u64, slots: u32, reset: PagemapScan) -> Result<Self, EngineError> {
        let mut config = engine_settings();
        let fast = reset == PagemapScan::Used;
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling_settings(slots, fast)))
            // A running process never compiles: less code to reach, and a quicker start.
            .enable_compiler(false);
        let wasmtime =
            wasmtime::Engine::new(&config).map_err(|e| EngineError::Wasmtime(format!("{e:#}")))?;
        Ok(Self {
            generation,
            wasmtime,
            reset,
            modules: OnceLock::new(),
            modules_with_states: OnceLock::new(),
            components: OnceLock::new(),
        })
    }

    fn modules(&self) -> Result<&Linker<TaskState>, LoadError> {
        module_linker(&self.modules, &self.wasmtime, |linker| {
            wasmtime_wasi::p1::add_to_linker_async(linker, |state: &mut TaskState| &mut state.wasi)
        })
    }

    fn modules_with_states(&self) -> Result<&Linker<TaskState>, LoadError> {
        module_linker(&self.modules_with_states, &self.wasmtime, state::add_p1_to_linker)
    }

    fn components(&self) -> Result<&ComponentLinker<TaskState>, LoadError> {
        if let Some(linker) = self.components.get() {
            return Ok(linker);
        }
        let mut linker = ComponentLinker::new(&self.wasmtime);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| {
                // The library's own files are the host's; a task has those of its states.
                linker.allow_shadowing(true);
                state::add_p2_to_linker(&mut linker)?;
                state::add_keyvalue_to_linker(&mut linker)
            })
            .map_err(|e| LoadError::Code(format!("{e:#}")))?;
        Ok(self.components.get_or_init(|| linker))
    }
}

/// The linker in `cell`, made there if need be: `add` adds preview 1 to it.
fn module_linker<'a>(
    cell: &'a OnceLock<Linker<TaskState>>,
    engine: &wasmtime::Engine,
    add: impl FnOnce(&mut Linker<TaskState>) -> wasmtime::Result<()>,
) -> Result<&'a Linker<TaskState>, LoadError> {
    if let Some(linker) = cell.get() {
        return Ok(linker);
    }
    let mut linker = Linker::new(engine);
    add(&mut linker)
        .and_then(|()| {
            // The library's own turns codes of 126 and more into traps, after a shell's habit that
            // a task does not share.
            linker.allow_shadowing(true);
            linker
                .func_wrap("wasi_snapshot_preview1", "proc_exit", |code: i32| {
                    Err::<(), _>(wasmtime::Error::new(I32Exit(code)))
                })
                .map(|_| ())
        })
        .map_err(|e| LoadError::Code(format!("{e:#}")))?;
    Ok(cell.get_or_init(|| linker))
}

impl Loaded {
    fn new(pool: Arc<Pool>, code: &SealedCode) -> Result<Self, LoadError> {
        let invalid = |e: wasmtime::Error| LoadError::Invalid(format!("{e:#}"));
        let unfit = |e: wasmtime::Error| LoadError::Code(format!("{e:#}"));
        let entry = match code.kind() {
            Kind::Module => {
                let module = code.module(&pool.wasmtime).map_err(unfit)?;
                let pre = pool.modules()?.instantiate_pre(&module).map_err(invalid)?;
                let start = module
                    .get_export_index("_start")
                    .ok_or_else(|| LoadError::Invalid("it exports no _start".into()))?;
                Entry::Module(ModuleEntry { pre, with_states: OnceLock::new(), start })
            }
            Kind::Component => {
                let component = code.component(&pool.wasmtime).map_err(unfit)?;
                let pre = pool.components()?.instantiate_pre(&component).map_err(invalid)?;
                Entry::Component(CommandPre::new(pre).map_err(invalid)?)
            }
        };
        Ok(Self { pool, entry })
    }
}

impl Program {
    /// The program as loaded in the engine's present pool; loaded anew when that has changed.
    pub(crate) fn on(&self, engine: &Engine) -> Result<Arc<Loaded>, LoadError> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        if loaded.pool.generation == engine.0.generation.load(Ordering::Acquire) {
            return Ok(Arc::clone(&loaded));
        }
        drop(loaded);
        let fresh = Arc::new(Loaded::new(engine.pool(), &self.code)?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(fresh)
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("code", &self.code).finish_non_exhaustive()
    }
}
