//! Counters: what came in, what was refused and why, how it ended, how many bytes went which way.
//!
//! A listener's and a route's counters keep their values over changes of the configuration as long
//! as their name stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use serde::Serialize;

/// Why a connection was not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many connections as there may be are open.
    Limit,
    /// The first bytes are no client hello.
    NotTls,
    /// The hello is longer than the limit.
    HelloTooLong,
    /// The hello did not come in time.
    HelloLate,
    /// The client left before its hello was whole.
    ClosedEarly,
    /// No server name, and no default route.
    NoName,
    /// A server name that no route has, and no default route.
    UnknownName,
    /// A server name that is no hostname.
    NotAHost,
    /// No backend of the route is ready.
    NoBackend,
    /// No backend that was tried could be connected to.
    Unreachable,
}

const REFUSALS: [(Refusal, &str); 10] = [
    (Refusal::Limit, "limit"),
    (Refusal::NotTls, "not_tls"),
    (Refusal::HelloTooLong, "hello_too_long"),
    (Refusal::HelloLate, "hello_late"),
    (Refusal::ClosedEarly, "closed_early"),
    (Refusal::NoName, "no_name"),
    (Refusal::UnknownName, "unknown_name"),
    (Refusal::NotAHost, "not_a_host"),
    (Refusal::NoBackend, "no_backend"),
    (Refusal::Unreachable, "unreachable"),
];

/// How a connection that was carried ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides said all they had to say.
    Done,
    /// Nothing moved for too long.
    Idle,
    /// A side broke off; the other was told so by a reset.
    Broken,
}

const ENDS: [(End, &str); 3] = [(End::Done, "done"), (End::Idle, "idle"), (End::Broken, "broken")];

/// The counters of one listener or route.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) open: AtomicU64,
    pub(crate) total: AtomicU64,
    pub(crate) bytes_up: AtomicU64,
    pub(crate) bytes_down: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    ended: [AtomicU64; ENDS.len()],
    /// Whose turn it is among a route's ready backends.
    pub(crate) turn: AtomicUsize,
}

impl Counts {
    pub(crate) fn refused(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    fn ended(&self, how: End) {
        self.ended[how as usize].fetch_add(1, Relaxed);
    }

    /// The counters as they are now.
    pub(crate) fn read(&self) -> Figures {
        let named = |names: &[&'static str], counts: &[AtomicU64]| {
            names.iter().zip(counts).map(|(name, count)| (*name, count.load(Relaxed))).collect()
        };
        Figures {
            open: self.open.load(Relaxed),
            total: self.total.load(Relaxed),
            refused: named(&REFUSALS.map(|(_, name)| name), &self.refused),
            ended: named(&ENDS.map(|(_, name)| name), &self.ended),
            bytes_up: self.bytes_up.load(Relaxed),
            bytes_down: self.bytes_down.load(Relaxed),
        }
    }
}

/// Counters at one moment, as `status` writes them.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    open: u64,
    total: u64,
    refused: BTreeMap<&'static str, u64>,
    ended: BTreeMap<&'static str, u64>,
    bytes_up: u64,
    bytes_down: u64,
}

/// What all threads count together.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) open: AtomicU64,
    /// Bursts that were copied because every pipe was in use.
    pub(crate) pipes_missed: AtomicU64,
    /// Times that descriptors ran out and a thread stopped accepting for a moment.
    pub(crate) accept_pauses: AtomicU64,
}

/// One open connection in the counters; it leaves them when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    listener: Arc<Counts>,
    route: Option<Arc<Counts>>,
}

impl Ticket {
    /// Counts a connection, if there may be one more over all listeners and at this one.
    pub(crate) fn take(
        shared: &Arc<Shared>,
        listener: &Arc<Counts>,
        (all_max, here_max): (u64, u64),
    ) -> Option<Self> {
        if shared.open.fetch_add(1, Relaxed) >= all_max {
            shared.open.fetch_sub(1, Relaxed);
            return None;
        }
        if listener.open.fetch_add(1, Relaxed) >= here_max {
            listener.open.fetch_sub(1, Relaxed);
            shared.open.fetch_sub(1, Relaxed);
            return None;
        }
        listener.total.fetch_add(1, Relaxed);
        Some(Self { shared: Arc::clone(shared), listener: Arc::clone(listener), route: None })
    }

    /// The connection goes to this route.
    pub(crate) fn routed(&mut self, route: &Arc<Counts>) {
        route.open.fetch_add(1, Relaxed);
        route.total.fetch_add(1, Relaxed);
        self.route = Some(Arc::clone(route));
    }

    pub(crate) fn refused(&self, why: Refusal) {
        self.each(|counts| counts.refused(why));
    }

    pub(crate) fn ended(&self, how: End) {
        self.each(|counts| counts.ended(how));
    }

    /// Bytes that reached the other side's kernel.
    pub(crate) fn carried(&self, up: u64, down: u64) {
        self.each(|counts| {
            if up > 0 {
                counts.bytes_up.fetch_add(up, Relaxed);
            }
            if down > 0 {
                counts.bytes_down.fetch_add(down, Relaxed);
            }
        });
    }

    fn each(&self, count: impl Fn(&Counts)) {
        count(&self.listener);
        if let Some(route) = &self.route {
            count(route);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.each(|counts| {
            counts.open.fetch_sub(1, Relaxed);
        });
        self.shared.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_reasons_are_those_of_their_names() {
        assert!(REFUSALS.iter().enumerate().all(|(place, (why, _))| *why as usize == place));
        assert!(ENDS.iter().enumerate().all(|(place, (how, _))| *how as usize == place));
    }

    #[test]
    fn a_ticket_is_given_back_and_limits_hold() {
        let (shared, listener) = (Arc::new(Shared::default()), Arc::new(Counts::default()));
        let take = |limits| Ticket::take(&shared, &listener, limits);
        let first = take((2, 1)).expect("room");
        assert!(take((2, 1)).is_none() && take((1, 2)).is_none());
        assert_eq!((shared.open.load(Relaxed), listener.open.load(Relaxed)), (1, 1));
        drop(first);
        assert!(take((1, 1)).is_some());
        assert_eq!((shared.open.load(Relaxed), listener.read().total), (0, 2));
    }
}
