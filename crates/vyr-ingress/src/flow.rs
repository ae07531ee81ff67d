//! One direction of a connection: bytes from one socket to another.
//!
//! ```text
//! held bytes (PROXY header, hello) --send--> |
//! small reads: recv --> scratch --send-----> | to      then, and only then: shutdown(to, write)
//! streams:     splice --> pipe --splice----> |
//! ```
//!
//! A direction copies until one read fills the scratch buffer: then it streams through a pipe, where
//! the kernel moves pages instead of bytes, until a burst was short again. A pipe is held only while
//! there is something in it or in its source, so idle connections hold none.
//!
//! Invariants:
//! 1. Bytes leave in the order they came, each once: what is held goes before anything is read.
//! 2. Nothing is read while something is held that the other side does not take (back pressure).
//! 3. The end is passed on after the last byte, and only an orderly end is: a side that broke off
//!    makes an error, never an end.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes of a thread's scratch buffer: a read that fills it begins a stream. HAProxy's is as large.
pub(crate) const SCRATCH_BYTES: usize = 16 * 1024;
/// Bytes of a pipe: four of the kernel's largest segments, so that one system call moves what has come
/// while the other side was served.
const PIPE_BYTES: usize = 1 << 18;
/// A smaller one is not worth its two system calls.
const PIPE_BYTES_LEAST: usize = 1 << 16;
/// Pipes of all threads together: 32 MiB of the 64 that the kernel lets one user have.
pub(crate) const PIPES_MAX: usize = 128;
/// Turns of one pump before others get theirs: 16 pipes full.
const TURNS_MAX: usize = 16;

/// One socket of a connection, and what the kernel last said of it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) socket: OwnedFd,
    /// There may be something to read.
    pub(crate) readable: bool,
    /// There may be room to write.
    pub(crate) writable: bool,
    /// The other end has said that it writes no more, or is gone.
    pub(crate) hung: bool,
}

impl Side {
    /// Whether its other end has said that it writes no more, or is gone, also if that was not heard yet.
    pub(crate) fn has_ended(&self) -> bool {
        let mut one = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.hung || matches!(poll(&mut one, Some(&now)), Ok(1..))
    }
}

/// A side broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// Pipes that nobody uses now.
#[derive(Debug)]
pub(crate) struct Pipes {
    free: Vec<Pipe>,
    made: usize,
    most: usize,
    /// Bursts that found none.
    pub(crate) missed: u64,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    holds: usize,
}

impl Pipes {
    pub(crate) fn new(most: usize) -> Self {
        Self { free: Vec::new(), made: 0, most, missed: 0 }
    }

    fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        let made = (self.made < self.most).then(Pipe::new).flatten();
        match &made {
            Some(_) => self.made += 1,
            None => self.missed += 1,
        }
        made
    }

    /// Takes a pipe back; one with something in it is thrown away.
    fn put(&mut self, pipe: Pipe) {
        if pipe.holds == 0 {
            self.free.push(pipe);
        } else {
            self.made -= 1;
        }
    }
}

impl Pipe {
    /// `None`: the kernel gives no pipe of a useful size to this user now.
    fn new() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let size = fcntl_setpipe_size(&write, PIPE_BYTES)
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&write))
            .ok()?;
        (size >= PIPE_BYTES_LEAST).then_some(Self { read, write, holds: 0 })
    }
}

/// What a thread lends to the direction whose turn it is.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) scratch: Box<[u8]>,
    pub(crate) pipes: Pipes,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    held: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
    pipe: Option<Pipe>,
    streaming: bool,
    /// Bytes since its source was last found empty.
    burst: usize,
    /// Its source has ended.
    ended: bool,
    /// The end was passed on.
    shut: bool,
    /// Its destination takes no more; what its source says is not read.
    dead: bool,
}

impl Flow {
    /// Puts bytes in front of all that will be read.
    pub(crate) fn hold(&mut self, bytes: Vec<u8>) {
        self.held = bytes;
        self.sent = 0;
    }

    /// Whether everything was passed on, its end too.
    pub(crate) fn is_over(&self) -> bool {
        self.shut || self.dead
    }

    /// Whether its end was passed on.
    pub(crate) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Whether its destination broke off before the end.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Sends what is held; `false`: there is more than the other side takes.
    pub(crate) fn flush(&mut self, to: &mut Side, moved: &mut u64) -> Result<bool, Errno> {
        while self.sent < self.held.len() {
            if !to.writable {
                return Ok(false);
            }
            match send(&to.socket, &self.held[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.sent += sent;
                    *moved += sent as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => to.writable = false,
                Err(errno) => return Err(errno),
            }
        }
        self.held = Vec::new();
        self.sent = 0;
        self.flush_pipe(to, moved)
    }

    fn flush_pipe(&mut self, to: &mut Side, moved: &mut u64) -> Result<bool, Errno> {
        let Some(pipe) = &mut self.pipe else { return Ok(true) };
        while pipe.holds > 0 {
            if !to.writable {
                return Ok(false);
            }
            let how = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match splice(&pipe.read, None, &to.socket, None, pipe.holds, how) {
                Ok(sent) => {
                    pipe.holds -= sent;
                    *moved += sent as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => to.writable = false,
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Carries what can be carried now, and counts it; `true`: there is more, and its turn is over.
    ///
    /// # Errors
    /// The source broke off: the kernel said so now, or when this connection last wrote to it
    /// (`other_is_dead`), after which it reports an orderly end. A destination that broke off makes
    /// this direction dead instead, so that the other can still deliver what was sent before.
    pub(crate) fn pump(
        &mut self,
        (from, to): (&mut Side, &mut Side),
        other_is_dead: bool,
        tools: &mut Tools,
        moved: &mut u64,
    ) -> Result<bool, Broken> {
        if self.is_over() {
            return Ok(false);
        }
        for _ in 0..TURNS_MAX {
            match self.flush(to, moved) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(_) => return Ok(self.die(tools)),
            }
            if self.ended {
                if other_is_dead {
                    return Err(Broken);
                }
                self.give_back(tools);
                match shutdown(&to.socket, Shutdown::Write) {
                    Ok(()) => self.shut = true,
                    Err(_) => self.dead = true,
                }
                return Ok(false);
            }
            if !from.readable {
                self.burst = 0;
                self.give_back(tools);
                return Ok(false);
            }
            if !to.writable {
                self.give_back(tools);
                return Ok(false);
            }
            let filled = match self.streaming {
                true => self.fill_pipe(from, tools)?,
                false => false,
            };
            if !filled && from.readable && !self.ended && self.copy(from, to, tools, moved)? {
                return Ok(self.die(tools));
            }
        }
        Ok(true)
    }

    /// Its destination is gone: nothing more is read for it.
    fn die(&mut self, tools: &mut Tools) -> bool {
        self.dead = true;
        self.held = Vec::new();
        self.give_back(tools);
        false
    }

    /// Gives the pipe back to the others.
    pub(crate) fn give_back(&mut self, tools: &mut Tools) {
        if let Some(pipe) = self.pipe.take() {
            tools.pipes.put(pipe);
        }
    }

    /// From the source into the pipe; `false`: there is no pipe, or nothing came.
    fn fill_pipe(&mut self, from: &mut Side, tools: &mut Tools) -> Result<bool, Broken> {
        if self.pipe.is_none() {
            self.pipe = tools.pipes.take();
        }
        let Some(pipe) = &mut self.pipe else { return Ok(false) };
        let how = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            match splice(&from.socket, None, &pipe.write, None, PIPE_BYTES, how) {
                Ok(0) => self.ended = true,
                Ok(came) => {
                    pipe.holds += came;
                    self.burst += came;
                }
                Err(Errno::INTR) => continue,
                // The pipe is empty, so it is the source that has nothing.
                Err(Errno::AGAIN) => {
                    from.readable = false;
                    self.streaming = self.burst >= SCRATCH_BYTES;
                }
                Err(_) => return Err(Broken),
            }
            return Ok(pipe.holds > 0);
        }
    }

    /// From the source to the destination through scratch memory; `true`: the destination is gone.
    fn copy(
        &mut self,
        from: &mut Side,
        to: &mut Side,
        tools: &mut Tools,
        moved: &mut u64,
    ) -> Result<bool, Broken> {
        let came = loop {
            match recv(&from.socket, &mut tools.scratch[..], RecvFlags::empty()) {
                Ok((0, _)) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok((came, _)) => break came,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    from.readable = false;
                    return Ok(false);
                }
                Err(_) => return Err(Broken),
            }
        };
        if came == tools.scratch.len() {
            self.streaming = true;
        } else if !from.hung {
            // A short read means that there is no more; its end would have been announced.
            from.readable = false;
        }
        self.burst += came;
        let bytes = &tools.scratch[..came];
        let sent = loop {
            match send(&to.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => break sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    to.writable = false;
                    break 0;
                }
                Err(_) => return Ok(true),
            }
        };
        *moved += sent as u64;
        if sent < came {
            self.hold(bytes[sent..].to_vec());
        }
        Ok(false)
    }
}
