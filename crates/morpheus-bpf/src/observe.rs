//! The tier `observe`: programs at context switches, wake-ups and ticks.

#![expect(unsafe_code, reason = "opens perf events, for which there is no safe call")]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use libbpf_rs::libbpf_sys::{BPF_F_INNER_MAP, BPF_F_MMAPABLE};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder};
use morpheus::agent::{Hinter, Memory, Registration};
use morpheus::wire::PROCESSES_MAX;
use morpheus::{Block, Blocks, Tier};
use perf_event_open_sys as perf;

use crate::probe::{Probe, probe};

/// Bytes of a bell, as in `bpf/morpheus.bpf.c`.
const BELL_BYTES: u32 = 4_096;

/// The bit of an identity that says "no worker", as in `bpf/morpheus.bpf.c`.
const QUIET: u64 = 2;

/// How often, and when.
#[derive(Debug, Clone, Copy)]
pub struct ObserveOptions {
    /// Between two looks at a worker that runs.
    pub tick: Duration,
    /// A wake-up hints only a worker that did the same for this long.
    pub wake_after: Duration,
    /// Whether ticks hint, wake-ups do, or both. Programs that do not are not attached.
    pub ticks: bool,
    /// See `ticks`.
    pub wakeups: bool,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(1),
            wake_after: Duration::from_micros(5),
            ticks: true,
            wakeups: true,
        }
    }
}

/// Why the programs do not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The file cannot be opened or is no object of ours.
    #[error("cannot use {0}")]
    Object(String, #[source] libbpf_rs::Error),
    /// Something that should be in it is not.
    #[error("the object has no {0}")]
    Lacks(&'static str),
    /// The kernel refuses it.
    #[error("the kernel refuses the programs ({0})")]
    Load(String, #[source] libbpf_rs::Error),
}

/// The programs, loaded and attached. Dropping it detaches them; nothing of it is pinned.
pub struct Observe {
    // Before the object, whose programs they hold.
    ticks: Vec<Link>,
    ticked: HashSet<(usize, usize)>,
    _attached: Vec<Link>,
    object: Object,
    workers: MapHandle,
    processes: MapHandle,
    bells: MapHandle,
    options: ObserveOptions,
    processors: usize,
    /// Found out at the beginning: later the agent may see no files.
    why: String,
}

impl std::fmt::Debug for Observe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observe").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Observe {
    /// Loads the object file and attaches its programs.
    pub fn load(path: &Path, options: ObserveOptions) -> Result<Self, ObserveError> {
        // Its warnings go to the errors that we return.
        libbpf_rs::set_print(None);
        let cannot = |e| ObserveError::Object(path.display().to_string(), e);
        let mut builder = ObjectBuilder::default();
        let mut open = builder.open_file(path).map_err(cannot)?;
        let mut rodata = open
            .maps_mut()
            .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
            .ok_or(ObserveError::Lacks(".rodata"))?;
        let wake_after = u64::try_from(options.wake_after.as_nanos()).unwrap_or(u64::MAX);
        rodata
            .initial_value_mut()
            .and_then(|bytes| bytes.get_mut(..8))
            .ok_or(ObserveError::Lacks("wake_after_ns"))?
            .copy_from_slice(&wake_after.to_ne_bytes());
        let object = open.load().map_err(|e| ObserveError::Load(probe().why(), e))?;
        let attached = object
            .progs_mut()
            .filter(|program| match program.name().to_str() {
                Some("on_switch") => true,
                Some("on_wakeup") => options.wakeups,
                _ => false,
            })
            .map(|program| program.attach())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| ObserveError::Load(probe().why(), e))?;
        let map = |name: &'static str| {
            let found = object.maps().find(|map| map.name().to_str() == Some(name));
            found
                .ok_or(ObserveError::Lacks(name))
                .and_then(|map| MapHandle::try_from(&map).map_err(cannot))
        };
        Ok(Self {
            ticks: Vec::new(),
            ticked: HashSet::new(),
            processors: libbpf_rs::num_possible_cpus().map_err(cannot)?,
            _attached: attached,
            workers: map("workers")?,
            processes: map("processes")?,
            bells: map("bells")?,
            object,
            options,
            why: higher(),
        })
    }

    /// How often each program ran, and for how long, while [`StatsEnabled`] was held.
    pub fn stats(&self) -> io::Result<Vec<ProgramStats>> {
        stats(&self.object)
    }

    /// Looks at whoever runs, on every processor there is.
    ///
    /// An event of each worker's own would go with it from processor to processor and be silent while
    /// it sleeps, but the kernel starts and stops such an event at every context switch: at 10,000
    /// switches a second that took a fifth of a processor (`bench/results/sched.md`).
    fn tick(&self) -> io::Result<Vec<Link>> {
        let program = self.object.progs_mut().find(|p| p.name().to_str() == Some("on_tick"));
        let program = program.ok_or_else(|| io::Error::other("the object has no on_tick"))?;
        let mut links = Vec::new();
        for processor in 0..i32::try_from(self.processors).unwrap_or(i32::MAX) {
            let clock = match clock_of(processor, self.options.tick) {
                Ok(clock) => clock.into_raw_fd(),
                // It is switched off.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(e) => return Err(e),
            };
            links.push(program.attach_perf_event(clock).map_err(|e| {
                // SAFETY: a link that was not made did not take the descriptor; it is ours still.
                drop(unsafe { OwnedFd::from_raw_fd(clock) });
                other(e)
            })?);
        }
        Ok(links)
    }
}

fn stats(object: &Object) -> io::Result<Vec<ProgramStats>> {
    object
        .progs()
        .filter(|program| program.autoload())
        .map(|program| {
            let (runs, run_ns) = run_counts(program.as_fd())?;
            Ok(ProgramStats { name: program.name().to_string_lossy().into(), runs, run_ns })
        })
        .collect()
}

/// A program that does nothing at each context switch: what counting a run takes by itself.
#[derive(Debug)]
pub struct Nothing {
    _attached: Link,
    object: Object,
}

impl Nothing {
    /// Loads it from the same object file, and nothing else of it.
    pub fn load(path: &Path) -> Result<Self, ObserveError> {
        libbpf_rs::set_print(None);
        let cannot = |e| ObserveError::Object(path.display().to_string(), e);
        let refuse = |e| ObserveError::Load(probe().why(), e);
        let mut builder = ObjectBuilder::default();
        let mut open = builder.open_file(path).map_err(cannot)?;
        for mut program in open.progs_mut() {
            program.set_autoload(program.name() == "on_nothing");
        }
        let object = open.load().map_err(refuse)?;
        let program = object.progs_mut().find(|program| program.autoload());
        let program = program.ok_or(ObserveError::Lacks("on_nothing"))?;
        let attached = program.attach().map_err(refuse)?;
        Ok(Self { _attached: attached, object })
    }

    /// As [`Observe::stats`].
    pub fn stats(&self) -> io::Result<Vec<ProgramStats>> {
        stats(&self.object)
    }
}

/// Why there is no tier above this one.
fn higher() -> String {
    Probe { observe: Vec::new(), ..probe() }.why()
}

/// How often a program ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramStats {
    /// Its name.
    pub name: String,
    /// Runs that were counted.
    pub runs: u64,
    /// Nanoseconds in them.
    pub run_ns: u64,
}

/// While it is held the kernel counts the runs of all programs.
#[derive(Debug)]
pub struct StatsEnabled(#[expect(dead_code, reason = "held open")] OwnedFd);

impl StatsEnabled {
    /// Needs CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a call with a number; it returns a new descriptor or an error.
        let fd = unsafe { libbpf_rs::libbpf_sys::bpf_enable_stats(0) };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: the descriptor is new and ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

fn run_counts(program: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    use libbpf_rs::libbpf_sys::{bpf_obj_get_info_by_fd, bpf_prog_info};
    let mut info = bpf_prog_info::default();
    let mut size = u32::try_from(size_of::<bpf_prog_info>()).unwrap_or(u32::MAX);
    // SAFETY: a structure of the kernel's that is all numbers, with its size.
    let failed = unsafe {
        bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(-failed));
    }
    Ok((info.run_cnt, info.run_time_ns))
}

fn other(e: libbpf_rs::Error) -> io::Error {
    io::Error::other(e)
}

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_ne_bytes()
}

/// The word of `bpf/morpheus.bpf.c`.
fn identity(worker: &Registration<'_>) -> u64 {
    debug_assert!(worker.process < PROCESSES_MAX);
    u64::from(worker.generation) << 32
        | (worker.block as u64 & 0xffff) << 16
        | ((worker.process as u64 + 1) & 0xff) << 8
        | u64::from(worker.bell)
}

/// A perf event that overflows each time so much time has passed on a processor.
fn clock_of(processor: i32, tick: Duration) -> io::Result<OwnedFd> {
    let mut attributes = perf::bindings::perf_event_attr {
        type_: perf::bindings::PERF_TYPE_SOFTWARE,
        size: u32::try_from(size_of::<perf::bindings::perf_event_attr>()).unwrap_or(0),
        config: perf::bindings::PERF_COUNT_SW_CPU_CLOCK.into(),
        ..Default::default()
    };
    attributes.__bindgen_anon_1.sample_period = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX);
    let flags = u64::from(perf::bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the attributes are a structure of the kernel's with its size in it.
    let fd = unsafe { perf::perf_event_open(&raw mut attributes, -1, processor, -1, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Hinter for Observe {
    fn tier(&self) -> Tier {
        Tier::Observe
    }

    fn why(&self) -> String {
        self.why.clone()
    }

    fn admit(&mut self, process: usize, workers: usize, bell: bool) -> io::Result<Memory> {
        let map = |kind, name, key, value, entries, flags| {
            let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
                sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as u64,
                map_flags: flags,
                ..Default::default()
            };
            MapHandle::create(kind, Some(name), key, value, entries, &options).map_err(other)
        };
        let block_bytes = u32::try_from(size_of::<Block>()).unwrap_or(u32::MAX);
        let entries = u32::try_from(workers).unwrap_or(u32::MAX);
        let flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP;
        let blocks = map(MapType::Array, "blocks", 4, block_bytes, entries, flags)?;
        let bell = bell.then(|| map(MapType::RingBuf, "bell", 0, 0, BELL_BYTES, 0)).transpose()?;
        let put = |outer: &MapHandle, inner: &MapHandle| {
            let inner = inner.as_fd().as_raw_fd().to_ne_bytes();
            outer.update(&number(process), &inner, MapFlags::ANY).map_err(other)
        };
        put(&self.processes, &blocks)?;
        if let Some(bell) = &bell {
            put(&self.bells, bell)?;
        }
        let file = blocks.as_fd().try_clone_to_owned()?;
        let bell = bell.map(|bell| bell.as_fd().try_clone_to_owned()).transpose()?;
        Ok(Memory { blocks: Blocks::map(&file, workers)?, file, bell: bell.map(|bell| (1, bell)) })
    }

    fn dismiss(&mut self, process: usize) {
        // There may be none; with the descriptors of both sides the memory goes.
        let _ = self.processes.delete(&number(process));
        let _ = self.bells.delete(&number(process));
    }

    fn register(&mut self, worker: Registration<'_>) -> io::Result<()> {
        if self.options.ticks && self.ticks.is_empty() {
            self.ticks = self.tick()?;
        }
        let thread = worker.thread.as_raw_fd().to_ne_bytes();
        let identity = identity(&worker).to_ne_bytes();
        // Not if it has one: then another registration of the same thread is not over.
        self.workers.update(&thread, &identity, MapFlags::NO_EXIST).map_err(other)?;
        self.ticked.insert((worker.process, worker.block));
        Ok(())
    }

    fn quiet(&mut self, process: usize, thread: BorrowedFd<'_>) -> io::Result<()> {
        let identity = (process as u64 + 1) << 8 | QUIET;
        let thread = thread.as_raw_fd().to_ne_bytes();
        self.workers.update(&thread, &identity.to_ne_bytes(), MapFlags::NO_EXIST).map_err(other)
    }

    fn unregister(&mut self, process: usize, block: usize, thread: BorrowedFd<'_>) {
        self.ticked.remove(&(process, block));
        if self.ticked.is_empty() {
            // Nobody is left to be looked at.
            self.ticks.clear();
        }
        // A thread that has ended took it along.
        let _ = self.workers.delete(&thread.as_raw_fd().to_ne_bytes());
    }
}
