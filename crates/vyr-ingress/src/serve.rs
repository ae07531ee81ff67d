//! The process: prepared with rights, then confined by its owner, then serving.
//!
//! ```text
//! Prepared::new   descriptors, lock, control socket, listeners     may need root
//!      (the caller confines the process here)
//! serve           threads; control requests one at a time; stop    needs no right at all
//! ```
//!
//! It does not die with who started it, and it knows its configuration without anybody: a node that
//! comes back finds it by its control socket and goes on from its status.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use vyr_base::{Category, Problem};

use crate::config::{CONFIG_VERSION, Config, ConfigError, Listener};
use crate::control::{self, Control, Request};
use crate::count::Shared;
use crate::flow::PIPES_MAX;
use crate::listen::{self, ListenError};
use crate::table::{Backend, Socket, Standing, Table};
use crate::worker::{Mailbox, Order, Worker};

/// How long all threads together may take to use a new table. They take it between two rounds.
const TAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Threads when the configuration names no number: one a processor, at most so many.
const THREADS_MAX: usize = 16;

/// Why it does not serve, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A listener cannot be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Another ingress has this control socket.
    #[error("an ingress with the control socket {0} is running")]
    Running(String),
    /// The control socket cannot be made.
    #[error("cannot make the control socket {path}")]
    Control {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses what serving needs.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A thread ended that should not have.
    #[error("a thread that carries connections ended")]
    ThreadEnded,
}

impl Problem for ServeError {
    fn category(&self) -> Category {
        match self {
            Self::Listen(error) => error.category(),
            Self::Running(_) => Category::Conflict,
            Self::Control { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Category::NotFound,
                io::ErrorKind::PermissionDenied => Category::Auth,
                _ => Category::Failure,
            },
            Self::System { .. } => Category::Transient,
            Self::ThreadEnded => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen(error) => error.hint(),
            Self::Running(_) => Some("vyr ingress apply FILE changes what it does".into()),
            Self::Control { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("make its directory".into())
            }
            _ => None,
        }
    }
}

fn system(what: &'static str) -> impl Fn(Errno) -> ServeError {
    move |errno| ServeError::System { what, source: errno.into() }
}

/// Everything that needs a right is done, and no thread was started.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    control: Control,
    sockets: Vec<Arc<Socket>>,
    next_id: u64,
}

impl Prepared {
    /// Makes the listeners of `config`, but for those that were `handed` over, and the control socket.
    ///
    /// # Errors
    /// An address or the control socket cannot be had, or descriptors do not suffice.
    pub fn new(config: Config, handed: Vec<OwnedFd>) -> Result<Self, ServeError> {
        listen::descriptors(&config, true)?;
        let control = Control::new(&config.control)?;
        let mut next_id = 0;
        let sockets = listen::sockets(&config, &[], handed, &mut next_id, listen::make)?;
        Ok(Self { config, control, sockets, next_id })
    }

    /// Serves until `stop` can be read, then drains: accepts nothing more and ends with the last
    /// connection, or when the configuration's `drain_ms` are over.
    ///
    /// # Errors
    /// The kernel refuses threads or waiting.
    pub fn serve(self, stop: &OwnedFd) -> Result<(), ServeError> {
        let Self { config, control, sockets, next_id } = self;
        let table = Arc::new(Table::new(&config, &sockets, None));
        let shared = Arc::new(Shared::default());
        let many = config.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
        });
        let over = eventfd(0, EventfdFlags::CLOEXEC).map_err(system("make an eventfd"))?;
        let over = Arc::new(over);
        let mut threads = Vec::new();
        for _ in 0..many {
            threads.push(Thread::start(&table, &shared, &over, PIPES_MAX / many)?);
        }
        let mut ingress = Ingress { config, table, sockets, next_id, shared, threads };
        loop {
            let mut ready = [
                PollFd::new(stop, PollFlags::IN),
                PollFd::new(&over, PollFlags::IN),
                PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(system("wait")(errno)),
            }
            let [stopped, over, asked] = ready.map(|one| !one.revents().is_empty());
            if over {
                return Err(ServeError::ThreadEnded);
            }
            if stopped {
                return ingress.drain();
            }
            if asked {
                control.answer(|request| ingress.answer(request));
            }
        }
    }
}

struct Thread {
    mailbox: Arc<Mailbox>,
    handle: JoinHandle<io::Result<()>>,
}

impl Thread {
    fn start(
        table: &Arc<Table>,
        shared: &Arc<Shared>,
        over: &Arc<OwnedFd>,
        pipes_max: usize,
    ) -> Result<Self, ServeError> {
        let start = || {
            let mailbox = Arc::new(Mailbox::new()?);
            let worker = Worker::new(
                Arc::clone(&mailbox),
                Arc::clone(shared),
                Arc::clone(table),
                pipes_max,
            )?;
            let over = Over(Arc::clone(over));
            let run = move || {
                let _over = over;
                worker.run()
            };
            let handle = std::thread::Builder::new().name("carry".to_owned()).spawn(run)?;
            Ok(Self { mailbox, handle })
        };
        start().map_err(|source| ServeError::System { what: "start a thread", source })
    }
}

/// Says that a thread ended, however it did.
struct Over(Arc<OwnedFd>);

impl Drop for Over {
    fn drop(&mut self) {
        // The counter of an eventfd takes more ends than there are threads.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

struct Ingress {
    config: Config,
    table: Arc<Table>,
    sockets: Vec<Arc<Socket>>,
    next_id: u64,
    shared: Arc<Shared>,
    threads: Vec<Thread>,
}

impl Ingress {
    fn answer(&mut self, request: Request) -> Value {
        match request {
            Request::Status => json!({ "version": control::VERSION, "status": self.status() }),
            Request::Apply { config, descriptors } => match self.apply(&config, descriptors) {
                Ok(applied) => json!({ "version": control::VERSION, "applied": applied }),
                Err(problem) => control::refusal(&problem),
            },
            Request::Cut { hosts } => match self.cut(hosts) {
                Ok(many) => {
                    json!({ "version": control::VERSION, "cut": { "connections": many } })
                }
                Err(problem) => control::refusal(&problem),
            },
        }
    }

    fn status(&self) -> Value {
        let listener = |(listener, told): (&Arc<crate::table::Listener>, &Listener)| {
            json!({
                "name": listener.name, "address": listener.socket.address.to_string(),
                "mode": match told.mode {
                    crate::config::Mode::TlsPassthrough { .. } => "tls_passthrough",
                    crate::config::Mode::TcpRaw { .. } => "tcp_raw",
                },
                "connections_max": listener.connections_max,
                "counts": listener.counts.read(),
            })
        };
        let route = |route: &Arc<crate::table::Route>| {
            json!({
                "name": route.name,
                "ready": route.backends.iter().map(|it| it.address.to_string()).collect::<Vec<_>>(),
                "counts": route.counts.read(),
            })
        };
        let backend = |(backend, standing): &(Arc<Backend>, Standing)| {
            let open = backend.open.load(Relaxed);
            // One that was left by everybody is nobody's business any more.
            (*standing != Standing::Left || open > 0).then(|| {
                json!({
                    "route": backend.route, "address": backend.address,
                    "ready": *standing == Standing::Ready, "open": open,
                })
            })
        };
        let listeners = self.table.listeners.iter().zip(&self.config.listeners);
        json!({
            "pid": std::process::id(),
            "config_version": CONFIG_VERSION,
            "config": self.table.digest,
            "generation": self.table.generation,
            "threads": self.threads.len(),
            "connections": {
                "open": self.shared.open.load(Relaxed), "max": self.table.connections_max,
            },
            "pipes_missed": self.shared.pipes_missed.load(Relaxed),
            "accept_pauses": self.shared.accept_pauses.load(Relaxed),
            "listeners": listeners.map(listener).collect::<Vec<_>>(),
            "routes": self.table.routes.iter().map(route).collect::<Vec<_>>(),
            "backends": self.table.backends.iter().filter_map(backend).collect::<Vec<_>>(),
        })
    }

    /// Uses another configuration from now on, or says why not and changes nothing.
    fn apply(&mut self, bytes: &[u8], handed: Vec<OwnedFd>) -> Result<Value, ApplyError> {
        let config = Config::parse("that was sent", bytes)?;
        if config.control != self.config.control || config.threads != self.config.threads {
            return Err(ApplyError::Lasting);
        }
        listen::descriptors(&config, false)?;
        let nobody = |address| Err(ListenError::Absent(address));
        let sockets = listen::sockets(&config, &self.sockets, handed, &mut self.next_id, nobody)?;
        let table = Arc::new(Table::new(&config, &sockets, Some(&self.table)));
        let addresses = |sockets: &[Arc<Socket>], but: &[Arc<Socket>]| -> Vec<String> {
            let new = sockets.iter().filter(|one| but.iter().all(|other| other.id != one.id));
            new.map(|socket| socket.address.to_string()).collect()
        };
        let applied = json!({
            "config": table.digest,
            "generation": table.generation,
            "listeners_added": addresses(&sockets, &self.sockets),
            "listeners_removed": addresses(&self.sockets, &sockets),
        });
        let used = self.order(|done| Order::Take(Arc::clone(&table), done))?;
        (self.config, self.sockets, self.table) = (config, sockets, table);
        self.all(&used)?;
        Ok(applied)
    }

    /// Ends every connection to these hosts; how many they were.
    fn cut(&self, hosts: BTreeSet<IpAddr>) -> Result<u64, ApplyError> {
        let hosts = Arc::new(hosts);
        let cut = self.order(|done| Order::Cut(Arc::clone(&hosts), done))?;
        Ok(self.all(&cut)?.into_iter().sum())
    }

    /// Tells every thread; their answers come there.
    fn order<T>(&self, order: impl Fn(Sender<T>) -> Order) -> Result<Receiver<T>, ApplyError> {
        let (done, answers) = channel();
        for thread in &self.threads {
            thread.mailbox.send(order(done.clone())).map_err(|_| ApplyError::Stuck)?;
        }
        Ok(answers)
    }

    /// Waits until every thread has answered.
    fn all<T>(&self, answers: &Receiver<T>) -> Result<Vec<T>, ApplyError> {
        let until = Instant::now() + TAKE_TIME_MAX;
        let next = |_| answers.recv_timeout(until.saturating_duration_since(Instant::now()));
        (0..self.threads.len()).map(next).collect::<Result<_, _>>().map_err(|_| ApplyError::Stuck)
    }

    fn drain(self) -> Result<(), ServeError> {
        let until = Instant::now() + self.table.patience.drain;
        for thread in &self.threads {
            let sent = thread.mailbox.send(Order::Drain(until));
            sent.map_err(|source| ServeError::System { what: "tell a thread to end", source })?;
        }
        // Their sockets close with the last who has them.
        drop((self.table, self.sockets));
        for thread in self.threads {
            match thread.handle.join() {
                Ok(Ok(())) => {}
                Ok(Err(source)) => return Err(ServeError::System { what: "wait", source }),
                Err(_) => return Err(ServeError::ThreadEnded),
            }
        }
        Ok(())
    }
}

/// Why a configuration is not applied.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("control and threads stay as long as the process")]
    Lasting,
    #[error("not every thread has answered")]
    Stuck,
}

impl Problem for ApplyError {
    fn category(&self) -> Category {
        match self {
            Self::Config(error) => error.category(),
            Self::Listen(error) => error.category(),
            Self::Lasting => Category::Conflict,
            Self::Stuck => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Listen(error) => error.hint(),
            Self::Lasting => Some("leave them as they are, or stop and start it again".into()),
            Self::Stuck => None,
        }
    }
}
