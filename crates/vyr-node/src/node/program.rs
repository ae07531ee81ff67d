//! Programs: artifacts whose machine code is at hand, or on its way.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{MemfdFlags, memfd_create};
use vyr_artifact::WASM_BYTES_MAX;
use vyr_base::Digest;
use vyr_store::Store;
use vyr_task::{CacheError, CodeCache, Compiler, SealedCode};

use super::artifacts::Known;
use super::core::Command;
use super::inbox::Inbox;

/// Threads that load or compile: one module that takes its two minutes does not hold up the rest.
const PREPARERS: usize = 2;

/// Programs that are kept ready; the one that was not used for longest makes room.
const PROGRAMS_MAX: usize = 256;

/// How far a program is.
#[derive(Debug)]
pub(crate) enum Code {
    /// A preparer is at it.
    OnItsWay,
    /// At hand.
    Ready(SealedCode),
    /// It cannot be run: the reason and the figure.
    Failed(&'static str, String),
}

/// A program.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its name in messages to `tasks`.
    pub(crate) number: u64,
    pub(crate) known: Arc<Known>,
    pub(crate) code: Code,
    /// The generation of `tasks` that has it.
    pub(crate) loaded_in: Option<u64>,
    /// Tasks that wait for its code.
    pub(crate) waiting: Vec<u64>,
    /// Tasks that are alive.
    pub(crate) alive: usize,
    used: u64,
}

/// All programs.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    by_artifact: HashMap<Digest, Program>,
    next: u64,
    clock: u64,
}

impl Programs {
    pub(crate) fn get(&mut self, artifact: &Digest) -> Option<&mut Program> {
        self.clock += 1;
        let clock = self.clock;
        let program = self.by_artifact.get_mut(artifact)?;
        program.used = clock;
        Some(program)
    }

    /// Adds one that is to be prepared. Returns the number of one that had to go.
    pub(crate) fn add(&mut self, artifact: Digest, known: Arc<Known>) -> Option<u64> {
        let gone = if self.by_artifact.len() >= PROGRAMS_MAX { self.evict() } else { None };
        self.next += 1;
        self.clock += 1;
        let program = Program {
            number: self.next,
            known,
            code: Code::OnItsWay,
            loaded_in: None,
            waiting: Vec::new(),
            alive: 0,
            used: self.clock,
        };
        self.by_artifact.insert(artifact, program);
        gone
    }

    fn evict(&mut self) -> Option<u64> {
        let idle = self.by_artifact.iter().filter(|(_, program)| program.alive == 0);
        let oldest = idle.min_by_key(|(_, program)| program.used).map(|(digest, _)| *digest)?;
        self.by_artifact.remove(&oldest).map(|program| program.number)
    }

    /// Forgets who waits and what is alive, to be said anew.
    pub(crate) fn forget_waiting(&mut self) {
        for program in self.by_artifact.values_mut() {
            program.waiting.clear();
            program.alive = 0;
        }
    }

    pub(crate) fn remove(&mut self, artifact: &Digest) {
        self.by_artifact.remove(artifact);
    }
}

/// The threads that prepare. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Preparers(Sender<(Digest, Digest)>);

impl Preparers {
    pub(crate) fn start(
        store: &Store,
        cache: CodeCache,
        compiler: Arc<dyn Compiler + Send + Sync>,
        inbox: &Arc<Inbox>,
    ) -> io::Result<Self> {
        let (sender, receiver) = channel::<(Digest, Digest)>();
        let receiver = Arc::new(Mutex::new(receiver));
        let cache = Arc::new(cache);
        for n in 0..PREPARERS {
            let (store, cache, compiler) =
                (store.clone(), Arc::clone(&cache), Arc::clone(&compiler));
            let (inbox, receiver) = (Arc::clone(inbox), Arc::clone(&receiver));
            thread::Builder::new().name(format!("vyr-prepare-{n}")).spawn(move || {
                while let Some((artifact, wasm)) = next(&receiver) {
                    let code = prepare(&store, &cache, &*compiler, &wasm);
                    inbox.push(Command::Prepared { artifact, code });
                }
            })?;
        }
        Ok(Self(sender))
    }

    /// Asks for the code of `wasm`; the answer is a `Command::Prepared` of `artifact`.
    pub(crate) fn ask(&self, artifact: Digest, wasm: Digest) {
        // The threads live as long as the sender.
        let _ = self.0.send((artifact, wasm));
    }
}

fn next(receiver: &Mutex<Receiver<(Digest, Digest)>>) -> Option<(Digest, Digest)> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The code, or the reason a task that needs it fails with, and the figure.
fn prepare(
    store: &Store,
    cache: &CodeCache,
    compiler: &dyn Compiler,
    wasm: &Digest,
) -> Result<SealedCode, (&'static str, String)> {
    let open = || -> io::Result<File> {
        let bytes = store.read_blob(wasm, WASM_BYTES_MAX).map_err(io::Error::other)?;
        let mut memory = File::from(memfd_create("vyr-wasm", MemfdFlags::CLOEXEC)?);
        memory.write_all(&bytes)?;
        memory.seek(SeekFrom::Start(0))?;
        Ok(memory)
    };
    cache.get(wasm, open, compiler).map(|(code, _)| code).map_err(|error| {
        let reason = match &error {
            CacheError::Compile(failure) => failure.reason().word(),
            _ => "internal",
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        (reason, format!("{error}{}", cause.unwrap_or_default()))
    })
}
