//! One thread that carries connections: it waits, and lets each go on as far as it can.
//!
//! ```text
//! epoll --listener--> accept (a few) --> connection      all threads wait at the same sockets, and
//!   |  --connection--> event, pump                       one of them is woken; a connection stays
//!   |  --wake--> orders: a new table, or the end         where it was accepted
//!   +--time--> hello, connect and idle limits
//! ```
//!
//! An own loop, and not tokio: it makes one system call a socket to watch it (edges, both directions
//! at once) and none to wait again, allocates nothing while bytes move, and needs few enough system
//! calls that a filter can name them.
//!
//! Invariants:
//! 1. An event reaches the connection that it was meant for, or none: its token carries the number
//!    of uses of its place.
//! 2. Nobody starves: accepts, pumps and events of one round are bounded.
//! 3. A table is taken between two rounds; clients that a removed listener had accepted in its queue
//!    are taken in first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::connection::{Connection, Next, Said, Which};
use crate::count::{Refusal, Shared, Ticket};
use crate::flow::{Pipes, SCRATCH_BYTES, Tools};
use crate::table::{Entry, Listener, Table};

/// Events of one round, and connections that one listener accepts in it.
const EVENTS_MAX: usize = 256;
const ACCEPTS_MAX: usize = 32;
/// Entries of times beyond four a place, before those that are of no use are thrown out.
const TIMES_SPARE: usize = 1024;
/// How long a thread accepts nothing after descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);

/// Tokens: the wake descriptor, listeners by the number of their socket, connections by place.
const WAKE: u64 = u64::MAX;
const LISTENER: u64 = 1 << 63;
const USES_BITS: u32 = 30;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Use this table from now on; say so when it is in use.
    Take(Arc<Table>, Sender<()>),
    /// These hosts are gone: end what is connected to them, and say how many that were.
    Cut(Arc<BTreeSet<IpAddr>>, Sender<u64>),
    /// Accept nothing more, and end with the last connection or at this moment.
    Drain(Instant),
}

/// The way orders come in.
#[derive(Debug)]
pub(crate) struct Mailbox {
    orders: Mutex<VecDeque<Order>>,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { orders: Mutex::default(), wake })
    }

    pub(crate) fn send(&self, order: Order) -> io::Result<()> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push_back(order);
        rustix::io::write(&self.wake, &1u64.to_ne_bytes())?;
        Ok(())
    }

    fn take(&self) -> VecDeque<Order> {
        let mut count = [0; 8];
        // Empty if two orders came at once.
        let _ = rustix::io::read(&self.wake, &mut count);
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A place for a connection. It is used again and again, each time with another number.
#[derive(Default)]
struct Place {
    connection: Option<Box<Connection>>,
    uses: u32,
    /// The moment of its entry in the heap of times, if it has one.
    scheduled: Option<Instant>,
    /// It is in the list of those that have another turn: once, however many events it had.
    again: bool,
}

pub(crate) struct Worker {
    epoll: OwnedFd,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    table: Arc<Table>,
    /// Those this thread waits at, by the number of their socket.
    listeners: HashMap<u64, Arc<Listener>>,
    places: Vec<Place>,
    free: Vec<usize>,
    times: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    again: Vec<(usize, u32)>,
    tools: Tools,
    /// Descriptors ran out; until when nothing is accepted.
    paused: Option<Instant>,
    draining: Option<Instant>,
}

impl Worker {
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        shared: Arc<Shared>,
        table: Arc<Table>,
        pipes_max: usize,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &mailbox.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let tools = Tools {
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            pipes: Pipes::new(pipes_max),
        };
        let mut worker = Self {
            epoll,
            mailbox,
            shared,
            table: Arc::clone(&table),
            listeners: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            times: BinaryHeap::new(),
            again: Vec::new(),
            tools,
            paused: None,
            draining: None,
        };
        worker.take_table(table, Instant::now())?;
        Ok(worker)
    }

    /// Carries connections until it is told to end.
    ///
    /// # Errors
    /// The kernel refuses to wait, or to watch a listener.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let patience = self.patience(Instant::now());
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let now = Instant::now();
            let mut told = false;
            for (place, uses) in std::mem::take(&mut self.again) {
                if self.places[place].uses == uses {
                    self.places[place].again = false;
                }
                self.step(place, uses, |connection, tools| connection.again(tools, now));
            }
            for event in &events {
                let (token, flags) = (event.data.u64(), event.flags);
                if token == WAKE {
                    told = true;
                } else if token & LISTENER != 0 {
                    self.accept(token & !LISTENER, now)?;
                } else {
                    self.event(token, flags, now);
                }
            }
            self.overdue(now);
            self.resume(now)?;
            if told {
                for order in self.mailbox.take() {
                    self.obey(order, now)?;
                }
            }
            let missed = std::mem::take(&mut self.tools.pipes.missed);
            if missed > 0 {
                self.shared.pipes_missed.fetch_add(missed, Relaxed);
            }
            if self.is_over(now) {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, order: Order, now: Instant) -> io::Result<()> {
        match order {
            Order::Take(table, done) => {
                self.take_table(table, now)?;
                // Who asked may have given up waiting.
                let _ = done.send(());
            }
            Order::Cut(hosts, done) => {
                let _ = done.send(self.cut(&hosts, now));
            }
            Order::Drain(until) => {
                self.take_table(Arc::new(self.table.closed()), now)?;
                self.draining = Some(until);
            }
        }
        Ok(())
    }

    /// Ends what is connected to hosts that are gone.
    fn cut(&mut self, hosts: &BTreeSet<IpAddr>, now: Instant) -> u64 {
        let to_one = |place: &Place| {
            let host = place.connection.as_ref().and_then(|connection| connection.host());
            host.is_some_and(|host| hosts.contains(&host))
        };
        let places = self.places.iter().enumerate().filter(|(_, place)| to_one(place));
        let lost: Vec<(usize, u32)> = places.map(|(at, place)| (at, place.uses)).collect();
        for (place, uses) in &lost {
            self.step(*place, *uses, |connection, _| connection.lost(now));
        }
        lost.len() as u64
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let Some(until) = self.draining else { return false };
        if now >= until {
            for connection in self.places.iter().filter_map(|place| place.connection.as_ref()) {
                connection.reset();
            }
            return true;
        }
        self.free.len() == self.places.len()
    }

    /// How long to wait; `None`: until something happens.
    fn patience(&self, now: Instant) -> Option<Timespec> {
        if !self.again.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let first = self.times.peek().map(|Reverse((at, ..))| *at);
        let until = [first, self.paused, self.draining].into_iter().flatten().min()?;
        // A millisecond more, so that it does not wake a moment too early.
        let wait = until.saturating_duration_since(now) + Duration::from_millis(1);
        Some(Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        })
    }

    /// Waits at the new table's listeners and leaves those that are gone.
    fn take_table(&mut self, table: Arc<Table>, now: Instant) -> io::Result<()> {
        let mut before = std::mem::take(&mut self.listeners);
        for listener in &table.listeners {
            let id = listener.socket.id;
            let known = before.remove(&id).is_some();
            if !known && self.paused.is_none() && self.draining.is_none() {
                self.wait_at(listener)?;
            }
            self.listeners.insert(id, Arc::clone(listener));
        }
        for listener in before.into_values() {
            self.leave(&listener, now)?;
        }
        self.table = table;
        Ok(())
    }

    fn wait_at(&self, listener: &Listener) -> io::Result<()> {
        let token = EventData::new_u64(LISTENER | listener.socket.id);
        let how = EventFlags::IN | EventFlags::EXCLUSIVE;
        match epoll::add(&self.epoll, &listener.socket.fd, token, how) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn turn_away(&self, listener: &Listener) -> io::Result<()> {
        match epoll::delete(&self.epoll, &listener.socket.fd) {
            // It is not watched during a pause.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes in who stands in the listener's queue, and leaves it.
    fn leave(&mut self, listener: &Arc<Listener>, now: Instant) -> io::Result<()> {
        while self.accept_some(listener, now) {}
        self.turn_away(listener)
    }

    fn accept(&mut self, id: u64, now: Instant) -> io::Result<()> {
        let Some(listener) = self.listeners.get(&id).cloned() else { return Ok(()) };
        self.accept_some(&listener, now);
        if self.paused.is_some() {
            for listener in self.listeners.values() {
                self.turn_away(listener)?;
            }
        }
        Ok(())
    }

    /// Accepts at most [`ACCEPTS_MAX`]; `true`: there may be more.
    fn accept_some(&mut self, listener: &Arc<Listener>, now: Instant) -> bool {
        for _ in 0..ACCEPTS_MAX {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match acceptfrom_with(&listener.socket.fd, flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    if let Some(peer) = peer {
                        self.admit(listener, (socket, peer), now);
                    }
                }
                Err(Errno::AGAIN) => return false,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    if self.paused.is_none() {
                        self.shared.accept_pauses.fetch_add(1, Relaxed);
                        self.paused = Some(now + PAUSE);
                    }
                    return false;
                }
                // Of one client that is gone already.
                Err(_) => {}
            }
        }
        true
    }

    /// Accepts again when the pause is over.
    fn resume(&mut self, now: Instant) -> io::Result<()> {
        if self.paused.is_some_and(|until| now >= until) {
            self.paused = None;
            for listener in self.listeners.values() {
                self.wait_at(listener)?;
            }
        }
        Ok(())
    }

    fn admit(&mut self, listener: &Arc<Listener>, client: (OwnedFd, SocketAddr), now: Instant) {
        let limits = (self.table.connections_max, listener.connections_max);
        let Some(ticket) = Ticket::take(&self.shared, &listener.counts, limits) else {
            listener.counts.refused(Refusal::Limit);
            return;
        };
        let connection = Connection::new(client, &listener.entry, ticket, self.table.patience, now);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        let uses = self.places[place].uses;
        self.places[place].connection = Some(Box::new(connection));
        let raw = match &*listener.entry {
            Entry::Raw(route) => Some(Arc::clone(route)),
            Entry::Tls { .. } => None,
        };
        self.step(place, uses, |connection, _| match raw {
            Some(route) => connection.connect(route, Vec::new(), now),
            None => Next::Wait,
        });
        let Some(connection) = &self.places[place].connection else { return };
        if self.watch(connection.client().as_fd(), token(place, uses, Which::Client)).is_err() {
            self.close(place);
        }
    }

    fn watch(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let how = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), how)?)
    }

    fn event(&mut self, token: u64, flags: EventFlags, now: Instant) {
        let (place, uses, which) = parts(token);
        let gone = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let hung = gone || flags.contains(EventFlags::RDHUP);
        let said = Said {
            readable: hung || flags.contains(EventFlags::IN),
            writable: gone || flags.contains(EventFlags::OUT),
            hung,
            gone,
        };
        self.step(place, uses, |connection, tools| connection.event(which, said, tools, now));
    }

    /// Ends what has waited too long.
    fn overdue(&mut self, now: Instant) {
        while let Some(Reverse((at, place, uses))) = self.times.peek().copied() {
            if at > now {
                return;
            }
            self.times.pop();
            let entry = &mut self.places[place];
            if entry.uses != uses || entry.scheduled != Some(at) {
                continue;
            }
            entry.scheduled = None;
            self.step(place, uses, |connection, _| match connection.due() > now {
                // Something happened since.
                true => Next::Wait,
                false => connection.overdue(now),
            });
        }
    }

    /// Lets one connection go on, and does what follows from it.
    fn step(
        &mut self,
        place: usize,
        uses: u32,
        go: impl FnOnce(&mut Connection, &mut Tools) -> Next,
    ) {
        let entry = self.places.get_mut(place).filter(|entry| entry.uses == uses);
        let Some(connection) = entry.and_then(|entry| entry.connection.as_mut()) else { return };
        match go(connection, &mut self.tools) {
            Next::Wait => {}
            Next::Again if self.places[place].again => {}
            Next::Again => {
                self.places[place].again = true;
                self.again.push((place, uses));
            }
            Next::Watch => {
                let connection = self.places[place].connection.as_ref();
                let socket = connection.and_then(|connection| connection.backend());
                let token = token(place, uses, Which::Backend);
                if socket.is_none_or(|socket| self.watch(socket, token).is_err()) {
                    return self.close(place);
                }
            }
            Next::Close => return self.close(place),
        }
        self.schedule(place);
    }

    /// Sees to it that the connection is looked at when its time is over.
    fn schedule(&mut self, place: usize) {
        let entry = &mut self.places[place];
        let Some(connection) = &entry.connection else { return };
        let due = connection.due();
        // An earlier entry finds out that there is more time; that is cheaper than one each event.
        if entry.scheduled.is_none_or(|at| due < at) {
            entry.scheduled = Some(due);
            self.times.push(Reverse((due, place, entry.uses)));
        }
        // Connections that closed left theirs behind, perhaps for as long as one may be idle.
        if self.times.len() > TIMES_SPARE + 4 * self.places.len() {
            let places = &self.places;
            self.times.retain(|Reverse((at, place, uses))| {
                places[*place].uses == *uses && places[*place].scheduled == Some(*at)
            });
        }
    }

    fn close(&mut self, place: usize) {
        let entry = &mut self.places[place];
        if let Some(mut connection) = entry.connection.take() {
            connection.give_back(&mut self.tools);
            entry.uses = (entry.uses + 1) & ((1 << USES_BITS) - 1);
            entry.scheduled = None;
            entry.again = false;
            self.free.push(place);
        }
    }
}

fn token(place: usize, uses: u32, which: Which) -> u64 {
    u64::from(uses) << 33 | (place as u64) << 1 | u64::from(which == Which::Backend)
}

fn parts(token: u64) -> (usize, u32, Which) {
    let which = if token & 1 == 0 { Which::Client } else { Which::Backend };
    let place = usize::try_from(token >> 1 & u64::from(u32::MAX)).unwrap_or(usize::MAX);
    (place, u32::try_from(token >> 33).unwrap_or(u32::MAX), which)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_apart_as_they_were_put_together() {
        for place in [0, 1, 499_999] {
            for uses in [0, 7, (1 << USES_BITS) - 1] {
                for which in [Which::Client, Which::Backend] {
                    let token = token(place, uses, which);
                    assert_eq!(parts(token), (place, uses, which));
                    assert!(token & LISTENER == 0 && token != WAKE);
                }
            }
        }
    }
}
