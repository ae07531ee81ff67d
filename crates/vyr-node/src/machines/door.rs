//! The way to `machines`, from `api`.
//!
//! ```text
//!  ask --request, descriptors--> machines      a thread keeps the connection: starts the process when
//!  ask <------answer------------ machines      it is first wanted, again when it ended, and hands each
//!  on_event <----event---------- machines      event on
//! ```
//!
//! A process that crashes again and again is started after longer and longer pauses. Whoever asks
//! meanwhile is told so.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver as Waiting, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vyr_vm::channel::words::{Process, Window};
use vyr_vm::vmm::Capabilities;
use zeroize::Zeroize;

use super::error::file;
use super::wire::{Answer, Ask, Asked, Ordered, Said};
use super::{Event, Known, MachineId, MachinesError, Order, Tap, blank};
use crate::process::wire::{Receiver, Sender};

/// How long the process may take to be started.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How long an answer may take: a session begins in a guest within a minute, or not.
const ANSWER_PATIENCE: Duration = Duration::from_secs(90);

/// A process that lived this long did not crash at once.
const STEADY: Duration = Duration::from_secs(10);

/// After the first crash, twice as long after each one more, up to the other.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An answer with the socket beside it.
type Reply = (Result<Answer, MachinesError>, Option<OwnedFd>);

/// See the module. Its calls block.
pub struct MachinesDoor {
    shared: Arc<Shared>,
    /// `DATA/machines`.
    directory: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    wanted: bool,
    closed: bool,
    link: Option<Link>,
    waiting: HashMap<u64, SyncSender<Reply>>,
    last: u64,
    /// Why there is no process now.
    why: String,
}

struct Link {
    sender: Sender,
    socket: UnixStream,
}

impl std::fmt::Debug for MachinesDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachinesDoor").finish_non_exhaustive()
    }
}

impl MachinesDoor {
    /// `start` asks for the process, which then is `started`, or not. `on_event` is called on a thread
    /// of the door's, for each event in order; it must not ask anything here. `data`: the data
    /// directory.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(
        data: &Path,
        start: impl Fn() + Send + 'static,
        started: Waiting<io::Result<OwnedFd>>,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), bell: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let connect = move || {
            start();
            // What is left of an earlier attempt that nobody waited for.
            started.recv_timeout(START_PATIENCE).map_err(io::Error::other)?.map(UnixStream::from)
        };
        let keep = move || keep(&of_thread, &connect, &on_event);
        thread::Builder::new().name("vyr-machines".into()).spawn(keep)?;
        Ok(Self { shared, directory: data.join("machines") })
    }

    /// Whether an earlier life of the node left machines, or a guest that it was about to store. Then the
    /// process is wanted at once: each machine is told as an event.
    pub fn adopt(&self) -> bool {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let any = names.any(|name| MachineId::new(&name).is_ok() || name == blank::DIRECTORY);
        if any {
            self.shared.lock().wanted = true;
            self.shared.bell.notify_all();
        }
        any
    }

    /// Starts a machine. Its record is on disk when this returns; what becomes of it is told by
    /// events.
    ///
    /// # Errors
    /// The name is not new; no user is free; the root disk cannot be opened; no room.
    pub fn start(&self, order: Order, tap: Option<Tap>) -> Result<(), MachinesError> {
        let Order { id, root, memory_bytes, vcpus, scratch_bytes, snapshot, start } = order;
        let what = format!("open {}", root.display());
        let root = File::open(&root).map_err(file(what))?;
        let snapshot = snapshot.map(|path| match path.strip_prefix(&self.directory) {
            Ok(below) => below.to_owned(),
            Err(_) => path,
        });
        let (tap, mac) = tap.map_or((None, None), |(tap, mac)| (Some(tap), Some(mac)));
        let ordered = Ordered { id, memory_bytes, vcpus, scratch_bytes, snapshot, mac, start };
        let beside: Vec<_> =
            [Some(root.as_fd()), tap.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
        self.ask_with(Ask::Start(Box::new(ordered)), &beside).map(drop)
    }

    /// Ends a workload with a signal, and once the grace (in milliseconds) has passed without one. It
    /// returns at once.
    ///
    /// # Errors
    /// There is none; the guest does not listen.
    pub fn stop(&self, id: &MachineId, signal: u8, grace_ms: u64) -> Result<(), MachinesError> {
        self.ask(Ask::Stop { id: id.clone(), signal, grace_ms }).map(drop)
    }

    /// Ends a machine at once.
    ///
    /// # Errors
    /// There is none.
    pub fn kill(&self, id: &MachineId) -> Result<(), MachinesError> {
        self.ask(Ask::Kill { id: id.clone() }).map(drop)
    }

    /// Starts a process beside a workload. The socket carries frames ([`super::wire::ExecFrame`]).
    ///
    /// # Errors
    /// The workload does not run; there are too many sessions.
    pub fn exec(
        &self,
        id: &MachineId,
        process: Process,
        terminal: Option<Window>,
    ) -> Result<OwnedFd, MachinesError> {
        self.socket(Ask::Exec { id: id.clone(), process, terminal })
    }

    /// The log from a line on, to its present end or on and on. The socket carries lines
    /// ([`super::wire::LogLine`]).
    ///
    /// # Errors
    /// There is no such machine.
    pub fn logs(&self, id: &MachineId, from: u64, follow: bool) -> Result<OwnedFd, MachinesError> {
        self.socket(Ask::Logs { id: id.clone(), from, follow })
    }

    /// The last that the console of the machine said, bounded.
    ///
    /// # Errors
    /// There is no such machine.
    pub fn console(&self, id: &MachineId) -> Result<Vec<u8>, MachinesError> {
        match self.ask(Ask::Console { id: id.clone() })? {
            (Answer::Console(bytes), _) => Ok(bytes),
            _ => Err(another()),
        }
    }

    /// Every machine that was not forgotten.
    ///
    /// # Errors
    /// The process is not there.
    pub fn list(&self) -> Result<Vec<Known>, MachinesError> {
        match self.ask(Ask::List)? {
            (Answer::Known(known), _) => Ok(known),
            _ => Err(another()),
        }
    }

    /// Removes what is left of a machine that has ended, its log too.
    ///
    /// # Errors
    /// It runs; there is none.
    pub fn forget(&self, id: &MachineId) -> Result<(), MachinesError> {
        self.ask(Ask::Forget { id: id.clone() }).map(drop)
    }

    /// What machines are here, or why there can be none. The first call may boot a guest to find out.
    ///
    /// # Errors
    /// The process is not there.
    pub fn capabilities(&self) -> Result<Result<Capabilities, String>, MachinesError> {
        match self.ask(Ask::Capabilities)? {
            (Answer::Capabilities(capabilities), _) => Ok(capabilities),
            _ => Err(another()),
        }
    }

    fn socket(&self, ask: Ask) -> Result<OwnedFd, MachinesError> {
        match self.ask(ask)? {
            (Answer::Socket, Some(socket)) => Ok(socket),
            _ => Err(another()),
        }
    }

    fn ask(&self, ask: Ask) -> Result<(Answer, Option<OwnedFd>), MachinesError> {
        self.ask_with(ask, &[])
    }

    fn ask_with(
        &self,
        mut ask: Ask,
        beside: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(Answer, Option<OwnedFd>), MachinesError> {
        let answer = self.shared.send(&ask, beside);
        if let Ask::Start(order) = &mut ask {
            order.start.secrets.zeroize();
        }
        let answer = answer?;
        let late = |_| MachinesError::Unavailable("it ended, or did not answer in time".into());
        let (answer, socket) = answer.recv_timeout(ANSWER_PATIENCE).map_err(late)?;
        Ok((answer?, socket))
    }
}

impl Drop for MachinesDoor {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        if let Some(link) = &state.link {
            // Its end is that of the process.
            let _ = link.socket.shutdown(Shutdown::Both);
        }
        self.shared.bell.notify_all();
    }
}

fn another() -> MachinesError {
    MachinesError::Unavailable("it answers something else".into())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change keeps the value whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request over the connection, which is waited for.
    fn send(
        &self,
        ask: &Ask,
        beside: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<Waiting<Reply>, MachinesError> {
        let end = Instant::now() + START_PATIENCE;
        let mut state = self.lock();
        state.wanted = true;
        self.bell.notify_all();
        while state.link.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(MachinesError::Unavailable(state.why.clone()));
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.last += 1;
        let number = state.last;
        let (reply, answer) = sync_channel(1);
        state.waiting.insert(number, reply);
        let request = Asked { number, ask };
        let sent = state.link.as_mut().map_or_else(
            || Err(io::ErrorKind::NotConnected.into()),
            |link| link.sender.send_and_wipe(&request, beside),
        );
        match sent {
            Ok(()) => Ok(answer),
            Err(e) => {
                state.waiting.remove(&number);
                Err(MachinesError::Unavailable(e.to_string()))
            }
        }
    }
}

/// The life of the connection.
fn keep(shared: &Shared, connect: &impl Fn() -> io::Result<UnixStream>, on_event: &impl Fn(Event)) {
    let mut crashes = 0;
    loop {
        {
            let mut state = shared.lock();
            while !state.wanted && !state.closed {
                state = shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
        }
        let since = Instant::now();
        let why = match connect().and_then(|socket| listen(shared, socket, on_event)) {
            Ok(()) => "it ended".to_owned(),
            Err(e) => e.to_string(),
        };
        crashes = if since.elapsed() >= STEADY { 1 } else { crashes + 1 };
        let pause = PAUSE.saturating_mul(1 << (crashes - 1).min(10)).min(PAUSE_MAX);
        let mut state = shared.lock();
        state.link = None;
        // Whoever waits hears that there is no answer.
        state.waiting.clear();
        state.why = format!("{why}, {crashes} times in a row; it is started again after a pause");
        let until = Instant::now() + pause;
        while !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = shared.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Hears what the process says, to its end.
fn listen(shared: &Shared, socket: UnixStream, on_event: &impl Fn(Event)) -> io::Result<()> {
    let mut said = Receiver::new(socket.try_clone()?);
    {
        let mut state = shared.lock();
        let sender = Sender::new(socket.try_clone()?);
        state.link = Some(Link { sender, socket });
        shared.bell.notify_all();
    }
    while let Some((message, mut beside)) = said.next::<Said>()? {
        match message {
            Said::Event(event) => on_event(event),
            Said::Answer(number, answer) => {
                let waiting = shared.lock().waiting.remove(&number);
                if let Some(waiting) = waiting {
                    // Who has lost patience closes what was beside it.
                    let _ = waiting.try_send((answer, beside.pop()));
                }
            }
        }
    }
    Ok(())
}
