//! A guest's stdin, stdout and stderr.
//!
//! Bytes move in the buffers Wasmtime hands over: what the guest writes is counted, hashed and
//! queued as the same reference-counted chunks, and leaves in one `writev` once 64 KiB wait or the
//! guest wrote less than a full chunk (so a single line is not held back). Every call is also a
//! safe point: a guest that only reads and writes is stopped here.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use vyr_base::{Digest, Hasher};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::control::{Control, Stop};
use crate::outcome::Reason;

/// The most one read gives; Rust and C guests ask for 8 to 64 KiB at a time.
const READ_MAX: usize = 256 << 10;

/// Queued output that makes a write to the descriptor worth its system call.
const WRITE_BATCH: usize = 64 << 10;

/// Wasmtime cuts what a preview 1 guest writes into chunks of this size; a shorter one ends it.
const FULL_CHUNK: usize = 4096;

/// Chunks one `writev` takes: WRITE_BATCH of full ones, well below the kernel's 1,024.
const CHUNKS_AT_ONCE: usize = 64;

/// A descriptor by how it makes a guest wait.
enum Stream {
    /// Never.
    File(File),
    /// While nobody is at the other end; made non-blocking here.
    Pipe(OwnedFd),
}

/// Looked at with `fstat`, the one call of its family a confined process has.
fn stream(fd: OwnedFd) -> io::Result<Stream> {
    let mode = rustix::fs::fstat(&fd)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile | FileType::CharacterDevice => Ok(Stream::File(File::from(fd))),
        FileType::Fifo => {
            rustix::io::ioctl_fionbio(&fd, true)?;
            Ok(Stream::Pipe(fd))
        }
        other => Err(io::Error::other(format!("{other:?} is neither a file nor a pipe"))),
    }
}

/// Where standard input comes from.
#[derive(Debug)]
enum Source {
    Memory(Mutex<Bytes>),
    File(File),
    Pipe(pipe::Receiver),
}

/// Standard input; clones share one position.
#[derive(Debug, Clone)]
pub(crate) struct GuestInput(Arc<Incoming>);

#[derive(Debug)]
struct Incoming {
    source: Source,
    read: AtomicU64,
    control: Arc<Control>,
}

impl GuestInput {
    pub(crate) fn memory(bytes: Bytes, control: &Arc<Control>) -> Self {
        Self::new(Source::Memory(Mutex::new(bytes)), control)
    }

    /// `fd` is a file or a pipe; a pipe needs a runtime.
    pub(crate) fn descriptor(fd: OwnedFd, control: &Arc<Control>) -> io::Result<Self> {
        let source = match stream(fd)? {
            Stream::File(file) => Source::File(file),
            Stream::Pipe(fd) => Source::Pipe(pipe::Receiver::from_owned_fd_unchecked(fd)?),
        };
        Ok(Self::new(source, control))
    }

    fn new(source: Source, control: &Arc<Control>) -> Self {
        let (read, control) = (AtomicU64::new(0), Arc::clone(control));
        Self(Arc::new(Incoming { source, read, control }))
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// What is there now: `Ok(empty)` when nothing is, `Closed` at the end.
    fn read_now(&self, size: usize) -> StreamResult<Bytes> {
        self.0.control.check().map_err(trap)?;
        if size == 0 {
            return Ok(Bytes::new());
        }
        let piece = match &self.0.source {
            Source::Memory(rest) => {
                let mut rest = lock(rest);
                let length = rest.len().min(size);
                rest.split_to(length)
            }
            Source::File(file) => {
                let mut piece = Vec::with_capacity(size.min(READ_MAX));
                match rustix::io::read(file, rustix::buffer::spare_capacity(&mut piece)) {
                    Ok(_) => Bytes::from(piece),
                    Err(rustix::io::Errno::INTR) => return Ok(Bytes::new()),
                    Err(errno) => return Err(failed(errno.into())),
                }
            }
            Source::Pipe(pipe) => {
                let mut piece = BytesMut::with_capacity(size.min(READ_MAX));
                match pipe.try_read_buf(&mut (&mut piece).limit(size)) {
                    Ok(_) => piece.freeze(),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Bytes::new()),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Bytes::new()),
                    Err(e) => return Err(failed(e)),
                }
            }
        };
        if piece.is_empty() {
            return Err(StreamError::Closed);
        }
        self.0.read.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(piece)
    }

    async fn wait(&self) {
        if let Source::Pipe(pipe) = &self.0.source {
            // A failure shows at the read that follows.
            let _ = pipe.readable().await;
        }
    }
}

#[async_trait::async_trait]
impl Pollable for GuestInput {
    async fn ready(&mut self) {
        self.wait().await;
    }
}

#[async_trait::async_trait]
impl InputStream for GuestInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.read_now(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            let piece = self.read_now(size)?;
            if size == 0 || !piece.is_empty() {
                return Ok(piece);
            }
            self.wait().await;
        }
    }
}

impl StdinStream for GuestInput {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // Only preview 3 asks for this, and preview 3 is not linked.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for GuestInput {
    fn is_terminal(&self) -> bool {
        false
    }
}

/// What becomes of what a guest writes.
#[derive(Debug)]
pub(crate) enum Sink {
    Discard,
    Keep,
    /// Kept up to so many bytes; with more, all of it goes to a descriptor that is asked for then.
    Spill(usize, Spill),
    Descriptor(OwnedFd),
}

/// Gives the descriptor for output that turned out to be large.
pub struct Spill(Box<dyn FnOnce() -> io::Result<OwnedFd> + Send>);

impl Spill {
    /// `open` is called at most once, from the guest's thread.
    pub fn new(open: impl FnOnce() -> io::Result<OwnedFd> + Send + 'static) -> Self {
        Self(Box::new(open))
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").finish_non_exhaustive()
    }
}

/// How one output stream is treated.
#[derive(Debug)]
pub(crate) struct OutputRules {
    pub(crate) sink: Sink,
    /// More than this ends the task.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) hash: bool,
    /// Keeps the last so many bytes, whatever the sink does.
    pub(crate) tail_bytes: usize,
}

/// Standard output or standard error; clones share one stream.
#[derive(Debug, Clone)]
pub(crate) struct GuestOutput(Arc<Shared>);

/// Where written bytes go besides being counted.
#[derive(Debug)]
enum Target {
    Nowhere,
    Kept,
    /// Kept until it is more than this.
    KeptTo(usize),
    File(File),
    Pipe(pipe::Sender),
}

impl Target {
    fn of(fd: OwnedFd) -> io::Result<Self> {
        Ok(match stream(fd)? {
            Stream::File(file) => Self::File(file),
            Stream::Pipe(fd) => Self::Pipe(pipe::Sender::from_owned_fd_unchecked(fd)?),
        })
    }

    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Nowhere | Self::Kept | Self::KeptTo(_) => {
                Ok(chunks.iter().map(|chunk| chunk.len()).sum())
            }
            Self::File(file) => Ok(rustix::io::writev(file, chunks)?),
            Self::Pipe(pipe) => pipe.try_write_vectored(chunks),
        }
    }
}

#[derive(Debug)]
struct Shared {
    control: Arc<Control>,
    target: Target,
    /// Takes the place of `target` once output was more than is kept.
    spilled: OnceLock<Target>,
    bytes_max: Option<u64>,
    tail_bytes: usize,
    state: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    hasher: Option<Hasher>,
    spill: Option<Spill>,
    kept: Vec<u8>,
    tail: VecDeque<u8>,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
}

/// What is left of an output stream when its guest has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) bytes: u64,
    pub(crate) digest: Option<Digest>,
    pub(crate) kept: Vec<u8>,
    pub(crate) tail: Vec<u8>,
}

impl Shared {
    fn target(&self) -> &Target {
        self.spilled.get().unwrap_or(&self.target)
    }
}

impl GuestOutput {
    /// A descriptor is a file or a pipe; a pipe needs a runtime.
    pub(crate) fn new(rules: OutputRules, control: &Arc<Control>) -> io::Result<Self> {
        let mut spill = None;
        let target = match rules.sink {
            Sink::Discard => Target::Nowhere,
            Sink::Keep => Target::Kept,
            Sink::Spill(bytes, open) => {
                spill = Some(open);
                Target::KeptTo(bytes)
            }
            Sink::Descriptor(fd) => Target::of(fd)?,
        };
        Ok(Self(Arc::new(Shared {
            control: Arc::clone(control),
            target,
            spilled: OnceLock::new(),
            bytes_max: rules.bytes_max,
            tail_bytes: rules.tail_bytes,
            state: Mutex::new(Written {
                hasher: rules.hash.then(Hasher::new),
                spill,
                ..Written::default()
            }),
        })))
    }

    fn accept(&self, piece: Bytes) -> StreamResult<()> {
        let shared = &self.0;
        shared.control.check().map_err(trap)?;
        let mut state = lock(&shared.state);
        let total = state.bytes.saturating_add(piece.len() as u64);
        if shared.bytes_max.is_some_and(|most| total > most) {
            return Err(trap(shared.control.stop(Stop::Limit(Reason::Output))));
        }
        state.bytes = total;
        if let Some(hasher) = &mut state.hasher {
            hasher.update(&piece);
        }
        if shared.tail_bytes > 0 {
            let last = &piece[piece.len().saturating_sub(shared.tail_bytes)..];
            state.tail.extend(last);
            let excess = state.tail.len().saturating_sub(shared.tail_bytes);
            state.tail.drain(..excess);
        }
        if let Target::KeptTo(most) = shared.target
            && state.kept.len() + piece.len() > most
            && let Some(Spill(open)) = state.spill.take()
        {
            let target = open().and_then(Target::of).map_err(failed)?;
            let kept = Bytes::from(std::mem::take(&mut state.kept));
            state.queued_bytes += kept.len();
            state.queue.push_back(kept);
            let _ = shared.spilled.set(target);
        }
        match shared.target() {
            Target::Nowhere => {}
            Target::Kept | Target::KeptTo(_) => state.kept.extend_from_slice(&piece),
            Target::File(_) | Target::Pipe(_) if piece.is_empty() => {}
            Target::File(_) | Target::Pipe(_) => {
                state.queued_bytes += piece.len();
                state.queue.push_back(piece);
            }
        }
        Ok(())
    }

    /// Writes what the descriptor takes now; `false` when some is left.
    fn drain_now(&self) -> StreamResult<bool> {
        let mut state = lock(&self.0.state);
        while !state.queue.is_empty() {
            let chunks: Vec<IoSlice<'_>> =
                state.queue.iter().take(CHUNKS_AT_ONCE).map(|chunk| IoSlice::new(chunk)).collect();
            let mut written = match self.0.target().write(&chunks) {
                Ok(written) => written,
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock => return Ok(false),
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::BrokenPipe => return Err(StreamError::Closed),
                    _ => return Err(failed(e)),
                },
            };
            state.queued_bytes -= written;
            while written > 0 {
                let Some(first) = state.queue.front_mut() else { break };
                if first.len() > written {
                    let _ = first.split_to(written);
                    break;
                }
                written -= first.len();
                state.queue.pop_front();
            }
        }
        Ok(true)
    }

    /// Writes all that is queued, waiting as long as it takes (the task's deadline ends it).
    pub(crate) async fn drain(&self) -> StreamResult<()> {
        while !self.drain_now()? {
            self.0.control.check().map_err(trap)?;
            if let Target::Pipe(pipe) = self.0.target() {
                pipe.writable().await.map_err(failed)?;
            }
        }
        Ok(())
    }

    fn queued(&self) -> usize {
        lock(&self.0.state).queued_bytes
    }

    /// Takes what was gathered. Call it once, after `drain`.
    pub(crate) fn finish(&self) -> Finished {
        let mut state = lock(&self.0.state);
        Finished {
            bytes: state.bytes,
            digest: state.hasher.take().map(Hasher::finish),
            kept: std::mem::take(&mut state.kept),
            tail: std::mem::take(&mut state.tail).into(),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {
        if self.queued() >= WRITE_BATCH {
            // A failure shows at the write that follows.
            let _ = self.drain().await;
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.accept(bytes)?;
        if self.queued() >= WRITE_BATCH {
            self.drain_now()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.drain_now().map(|_| ())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.control.check().map_err(trap)?;
        if self.queued() >= WRITE_BATCH && !self.drain_now()? {
            return Ok(0);
        }
        Ok(WRITE_BATCH)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        let last = bytes.len() < FULL_CHUNK;
        self.accept(bytes)?;
        if last || self.queued() >= WRITE_BATCH {
            self.drain().await?;
        }
        Ok(())
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only preview 3 asks for this, and preview 3 is not linked.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

fn trap(stopped: crate::control::Stopped) -> StreamError {
    StreamError::Trap(wasmtime::Error::new(stopped))
}

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::new(error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
