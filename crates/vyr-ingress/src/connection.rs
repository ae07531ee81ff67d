//! One connection, from accept to close.
//!
//! ```text
//! accepted --tls--> Hello --name, route--> Connecting --connected--> Carrying --both over--> gone
//!     \--raw-------------------------------^   |  ^ next backend             \--idle, broken--^
//!                                              +--+ refused, or too late
//! ```
//!
//! Invariants:
//! 1. Nothing is sent to a backend before the PROXY header, if its route has one, and the hello.
//! 2. A backend that takes the connection gets all of its bytes; the next one is tried only while no
//!    byte was sent.
//! 3. Whatever ends a connection otherwise than in order resets both sides: no client takes a
//!    truncated answer for a whole one.
//!
//! Not here: waiting and time (`worker`), moving bytes (`flow`).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, connect, getsockname, recv, socket_with,
    sockopt,
};

use crate::count::{End, Refusal, Ticket};
use crate::flow::{Flow, Side, Tools};
use crate::hello::{HelloError, Sniffer};
use crate::proxy;
use crate::table::{Entry, Patience, Route, Taken};

/// Backends that one connection tries. With the default of 2 s each, a client waits 8 s at most.
const ATTEMPTS_MAX: usize = 4;

/// What to do after an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for events, or for the time that [`Connection::due`] says.
    Wait,
    /// The same again in the next round: others have their turn first.
    Again,
    /// A new socket for the backend: watch it.
    Watch,
    /// It is over.
    Close,
}

enum Stage {
    /// The listener's entry knows the names.
    Hello(Sniffer, Arc<Entry>),
    Connecting {
        attempt: usize,
        first: usize,
    },
    Carrying,
}

/// One client, and the backend it was given.
pub(crate) struct Connection {
    client: Side,
    peer: SocketAddr,
    backend: Option<Side>,
    route: Option<Arc<Route>>,
    /// The backend in the counters.
    taken: Option<Taken>,
    stage: Stage,
    /// From the client to the backend, and back.
    up: Flow,
    down: Flow,
    ticket: Ticket,
    patience: Patience,
    /// When it is given up unless something happens.
    due: Instant,
    /// Its backend's host is gone.
    lost: bool,
}

/// The sides of a connection, as events name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Client,
    Backend,
}

/// What an event says of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other end writes no more.
    pub(crate) hung: bool,
    /// The connection is gone.
    pub(crate) gone: bool,
}

impl Connection {
    /// A client that was accepted; `connect` is called next for a raw one.
    pub(crate) fn new(
        (socket, peer): (OwnedFd, SocketAddr),
        entry: &Arc<Entry>,
        ticket: Ticket,
        patience: Patience,
        now: Instant,
    ) -> Self {
        Self {
            client: Side { socket, readable: false, writable: true, hung: false },
            peer,
            backend: None,
            route: None,
            taken: None,
            stage: Stage::Hello(Sniffer::default(), Arc::clone(entry)),
            up: Flow::default(),
            down: Flow::default(),
            ticket,
            patience,
            due: now + patience.hello,
            lost: false,
        }
    }

    pub(crate) fn client(&self) -> &OwnedFd {
        &self.client.socket
    }

    pub(crate) fn backend(&self) -> Option<&OwnedFd> {
        self.backend.as_ref().map(|side| &side.socket)
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Takes what the kernel says of one side, and goes on as far as it can.
    pub(crate) fn event(
        &mut self,
        which: Which,
        said: Said,
        tools: &mut Tools,
        now: Instant,
    ) -> Next {
        let side = match which {
            Which::Client => Some(&mut self.client),
            Which::Backend => self.backend.as_mut(),
        };
        let Some(side) = side else { return Next::Wait };
        side.readable |= said.readable;
        side.writable |= said.writable;
        side.hung |= said.hung;
        match self.stage {
            Stage::Hello(..) => self.sniff(tools, now),
            Stage::Connecting { .. } => match which {
                Which::Client if said.gone => {
                    self.ticket.refused(Refusal::ClosedEarly);
                    Next::Close
                }
                Which::Client => Next::Wait,
                Which::Backend if said.gone => self.next_backend(now),
                Which::Backend if said.writable => self.carry(tools, now),
                Which::Backend => Next::Wait,
            },
            Stage::Carrying => self.pump(tools, now),
        }
    }

    /// Its turn again.
    pub(crate) fn again(&mut self, tools: &mut Tools, now: Instant) -> Next {
        match self.stage {
            Stage::Carrying => self.pump(tools, now),
            _ => Next::Wait,
        }
    }

    /// Its time is over.
    pub(crate) fn overdue(&mut self, now: Instant) -> Next {
        match &self.stage {
            Stage::Hello(..) => self.refuse(Refusal::HelloLate),
            Stage::Connecting { .. } => self.next_backend(now),
            Stage::Carrying => self.break_off(End::Idle),
        }
    }

    /// The backend it has, or tries.
    pub(crate) fn host(&self) -> Option<IpAddr> {
        self.taken.as_ref().map(|taken| taken.address().ip())
    }

    /// Its backend's host is gone, and will never say so.
    pub(crate) fn lost(&mut self, now: Instant) -> Next {
        match &self.stage {
            Stage::Hello(..) => Next::Wait,
            Stage::Connecting { .. } => self.next_backend(now),
            Stage::Carrying if self.down.is_shut() => self.over_but_for_nobody(),
            // What it said before its end is here, and on its way: it is over once that is delivered.
            Stage::Carrying if self.backend.as_ref().is_some_and(Side::has_ended) => {
                self.lost = true;
                Next::Wait
            }
            Stage::Carrying => self.break_off(End::Broken),
        }
    }

    /// The client has all it was to get, and what it still says would reach nobody.
    fn over_but_for_nobody(&self) -> Next {
        self.ticket.ended(End::Done);
        Next::Close
    }

    /// Reads the hello as far as it has come.
    fn sniff(&mut self, tools: &mut Tools, now: Instant) -> Next {
        let Stage::Hello(sniffer, entry) = &mut self.stage else { return Next::Wait };
        while self.client.readable {
            let room = sniffer.room().min(tools.scratch.len());
            let came =
                match recv(&self.client.socket, &mut tools.scratch[..room], RecvFlags::empty()) {
                    Ok((0, _)) => return self.refuse(Refusal::ClosedEarly),
                    Ok((came, _)) => came,
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => {
                        self.client.readable = false;
                        break;
                    }
                    Err(_) => return self.refuse(Refusal::ClosedEarly),
                };
            self.client.readable = came == room || self.client.hung;
            let name = match sniffer.push(&tools.scratch[..came]) {
                Ok(None) => continue,
                Ok(Some(name)) => name,
                Err(HelloError::NotTls(_)) => return self.refuse(Refusal::NotTls),
                Err(HelloError::TooLong) => return self.refuse(Refusal::HelloTooLong),
            };
            let route = match entry.route(&name) {
                Ok(route) => Arc::clone(route),
                Err(why) => return self.refuse(why),
            };
            let bytes = std::mem::take(sniffer).into_bytes();
            return self.connect(route, bytes, now);
        }
        Next::Wait
    }

    /// Begins to connect to a backend of `route`, for which `first` came already.
    pub(crate) fn connect(&mut self, route: Arc<Route>, first: Vec<u8>, now: Instant) -> Next {
        self.ticket.routed(&route.counts);
        if route.backends.is_empty() {
            return self.refuse(Refusal::NoBackend);
        }
        let held = if route.proxy {
            let Ok(local) = getsockname(&self.client.socket).and_then(SocketAddr::try_from) else {
                return self.refuse(Refusal::ClosedEarly);
            };
            let mut header = proxy::header(self.peer, local);
            header.extend_from_slice(&first);
            header
        } else {
            first
        };
        self.up.hold(held);
        let turn = route.turn();
        self.route = Some(route);
        self.attempt(0, turn, now)
    }

    fn next_backend(&mut self, now: Instant) -> Next {
        match self.stage {
            Stage::Connecting { attempt, first } => self.attempt(attempt + 1, first, now),
            _ => Next::Wait,
        }
    }

    /// Tries backends from number `attempt` on until one may answer.
    fn attempt(&mut self, attempt: usize, first: usize, now: Instant) -> Next {
        (self.backend, self.taken) = (None, None);
        let Some(route) = &self.route else { return Next::Close };
        let many = route.backends.len();
        for attempt in attempt..many.min(ATTEMPTS_MAX) {
            let one = &route.backends[first.wrapping_add(attempt) % many];
            let Ok(socket) = begin(one.address) else { continue };
            self.taken = Some(Taken::new(one));
            // Writable when it is connected, and nothing before.
            self.backend = Some(Side { socket, readable: false, writable: false, hung: false });
            self.stage = Stage::Connecting { attempt, first };
            self.due = now + self.patience.connect;
            return Next::Watch;
        }
        self.refuse(Refusal::Unreachable)
    }

    /// The backend has taken the connection.
    fn carry(&mut self, tools: &mut Tools, now: Instant) -> Next {
        self.stage = Stage::Carrying;
        self.due = now + self.patience.idle;
        self.pump(tools, now)
    }

    /// Carries what can be carried, both ways.
    fn pump(&mut self, tools: &mut Tools, now: Instant) -> Next {
        let Some(backend) = &mut self.backend else { return Next::Close };
        let (mut up, mut down) = (0, 0);
        // The answer first: what a backend sent before it broke off is read before it is written to.
        let dead = self.up.is_dead();
        let first = self.down.pump((backend, &mut self.client), dead, tools, &mut down);
        let dead = self.down.is_dead();
        let second = self.up.pump((&mut self.client, backend), dead, tools, &mut up);
        // If writing found that the backend is gone, what it had sent may still be there to read.
        let third = match self.up.is_dead() && !self.down.is_over() {
            true => self.down.pump((backend, &mut self.client), true, tools, &mut down),
            false => Ok(false),
        };
        if up + down > 0 {
            self.ticket.carried(up, down);
            self.due = now + self.patience.idle;
        }
        let (Ok(first), Ok(second), Ok(third)) = (first, second, third) else {
            return self.break_off(End::Broken);
        };
        match (self.up.is_over() && self.down.is_over(), self.up.is_shut(), self.down.is_shut()) {
            (true, true, true) => {
                self.ticket.ended(End::Done);
                Next::Close
            }
            (true, false, false) => self.break_off(End::Broken),
            // One side had all it was to get before it broke off.
            (true, ..) => {
                self.ticket.ended(End::Broken);
                Next::Close
            }
            _ if self.lost && self.down.is_shut() => self.over_but_for_nobody(),
            _ if first || second || third => Next::Again,
            _ => Next::Wait,
        }
    }

    /// Refuses the client: a reset, since nothing it could take for an answer was sent.
    fn refuse(&mut self, why: Refusal) -> Next {
        self.ticket.refused(why);
        reset(&self.client.socket);
        Next::Close
    }

    fn break_off(&mut self, how: End) -> Next {
        self.ticket.ended(how);
        self.reset();
        Next::Close
    }

    /// Both sides are told that what they got is not all.
    pub(crate) fn reset(&self) {
        reset(&self.client.socket);
        if let Some(backend) = &self.backend {
            reset(&backend.socket);
        }
    }

    /// Gives the thread's pipes back, before it is dropped.
    pub(crate) fn give_back(&mut self, tools: &mut Tools) {
        self.up.give_back(tools);
        self.down.give_back(tools);
    }
}

/// Makes the close of a socket a reset.
fn reset(socket: &OwnedFd) {
    // A socket that is gone needs none.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Begins to connect.
fn begin(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}
