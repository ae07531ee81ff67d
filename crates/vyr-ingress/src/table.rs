//! The configuration as the threads use it: sockets, names and ready backends, found in one step.
//!
//! A table never changes. A new one is made whole, with the sockets and counters of the old one where
//! they stay, and each thread takes it between two rounds. A connection keeps what it was given.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use vyr_base::Digest;
use vyr_base::hostname::Hostname;

use crate::config::{Config, Mode};
use crate::count::{Counts, Refusal};
use crate::hello::ServerName;

/// A socket that listens. Its number is never used again, so an event of a closed one finds nothing.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) fd: OwnedFd,
}

/// All that a thread needs to know.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) digest: Digest,
    /// How many tables there were before.
    pub(crate) generation: u64,
    pub(crate) connections_max: u64,
    pub(crate) patience: Patience,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) routes: Vec<Arc<Route>>,
    /// All backends of all routes, and those of before that may still have connections.
    pub(crate) backends: Vec<(Arc<Backend>, Standing)>,
}

/// The timeouts, as durations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) hello: Duration,
    pub(crate) connect: Duration,
    pub(crate) idle: Duration,
    pub(crate) drain: Duration,
}

/// Where clients come in.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) socket: Arc<Socket>,
    pub(crate) connections_max: u64,
    /// Kept by clients whose hello is not whole; the socket is not, so that it closes when it is left.
    pub(crate) entry: Arc<Entry>,
    pub(crate) counts: Arc<Counts>,
}

/// How the route of a connection is found.
#[derive(Debug)]
pub(crate) enum Entry {
    /// By the name in its client hello.
    Tls { names: HashMap<Hostname, Arc<Route>>, default: Option<Arc<Route>> },
    /// There is one.
    Raw(Arc<Route>),
}

/// Where connections are carried to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// Those that are ready.
    pub(crate) backends: Vec<Arc<Backend>>,
    pub(crate) proxy: bool,
    pub(crate) counts: Arc<Counts>,
}

/// How a table stands to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// New connections go there.
    Ready,
    /// It is in the configuration.
    NotReady,
    /// It is there no longer.
    Left,
}

/// One that answers, of one route. It is the same in every table that has it, and in those after
/// as long as a connection is open: who drains it has to know when it is idle.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) route: String,
    pub(crate) address: SocketAddr,
    pub(crate) open: AtomicU64,
}

/// A connection to a backend, or the attempt at one; it is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken(Arc<Backend>);

impl Taken {
    pub(crate) fn new(backend: &Arc<Backend>) -> Self {
        backend.open.fetch_add(1, Relaxed);
        Self(Arc::clone(backend))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Table {
    /// The table of `config`, whose listeners' sockets are `sockets`, in order. Counters with the same
    /// name are those of `before`.
    pub(crate) fn new(config: &Config, sockets: &[Arc<Socket>], before: Option<&Self>) -> Self {
        let old_route = |name: &str| {
            let routes = before.map_or(&[][..], |before| &before.routes);
            routes.iter().find(|route| route.name == name).map(|route| Arc::clone(&route.counts))
        };
        let old_listener = |name: &str| {
            let listeners = before.map_or(&[][..], |before| &before.listeners);
            listeners.iter().find(|one| one.name == name).map(|one| Arc::clone(&one.counts))
        };
        let known: HashMap<(&str, SocketAddr), &Arc<Backend>> = before
            .map_or(&[][..], |before| &before.backends)
            .iter()
            .map(|(backend, _)| ((backend.route.as_str(), backend.address), backend))
            .collect();
        let mut backends = Vec::new();
        let mut route = |route: &crate::config::Route| {
            let first = backends.len();
            for backend in &route.backends {
                let new = || Backend {
                    route: route.name.clone(),
                    address: backend.address,
                    open: AtomicU64::new(0),
                };
                let old = known.get(&(route.name.as_str(), backend.address));
                let one = old.map_or_else(|| Arc::new(new()), |old| Arc::clone(old));
                let standing = if backend.ready { Standing::Ready } else { Standing::NotReady };
                backends.push((one, standing));
            }
            let ready =
                backends[first..].iter().filter(|(_, standing)| *standing == Standing::Ready);
            Arc::new(Route {
                name: route.name.clone(),
                backends: ready.map(|(backend, _)| Arc::clone(backend)).collect(),
                proxy: route.backend_expects_proxy_protocol,
                counts: old_route(&route.name).unwrap_or_default(),
            })
        };
        let routes: Vec<Arc<Route>> = config.routes.iter().map(&mut route).collect();
        // A connection keeps what it was given, and is counted there. A thread that still has the table
        // of before may just begin one, so what was in that table is kept once more.
        let stays: HashSet<*const Backend> =
            backends.iter().map(|(backend, _)| Arc::as_ptr(backend)).collect();
        let old = before.map_or(&[][..], |before| &before.backends).iter();
        let left = old.filter(|(old, standing)| {
            let in_use = *standing != Standing::Left || old.open.load(Relaxed) > 0;
            in_use && !stays.contains(&Arc::as_ptr(old))
        });
        backends.extend(left.map(|(old, _)| (Arc::clone(old), Standing::Left)));
        backends.sort_by(|(a, _), (b, _)| (&a.route, a.address).cmp(&(&b.route, b.address)));
        let entry = |mode: &Mode| match mode {
            Mode::TcpRaw { route } => Arc::new(Entry::Raw(Arc::clone(&routes[*route]))),
            Mode::TlsPassthrough { routes: places, default_route } => {
                let names = places.iter().flat_map(|place| {
                    let hosts = config.routes[*place].hostnames.iter();
                    hosts.map(|host| (host.clone(), Arc::clone(&routes[*place])))
                });
                let default = default_route.map(|place| Arc::clone(&routes[place]));
                Arc::new(Entry::Tls { names: names.collect(), default })
            }
        };
        let listeners = config.listeners.iter().zip(sockets).map(|(listener, socket)| {
            Arc::new(Listener {
                name: listener.name.clone(),
                socket: Arc::clone(socket),
                connections_max: listener.connections_max,
                entry: entry(&listener.mode),
                counts: old_listener(&listener.name).unwrap_or_default(),
            })
        });
        let ms = Duration::from_millis;
        Self {
            digest: config.digest,
            generation: before.map_or(0, |before| before.generation + 1),
            connections_max: config.connections_max,
            patience: Patience {
                hello: ms(config.timeouts.hello_ms),
                connect: ms(config.timeouts.connect_ms),
                idle: ms(config.timeouts.idle_ms),
                drain: ms(config.timeouts.drain_ms),
            },
            listeners: listeners.collect(),
            routes,
            backends,
        }
    }

    /// The same with nobody to come in.
    pub(crate) fn closed(&self) -> Self {
        let (routes, backends) = (self.routes.clone(), self.backends.clone());
        Self { listeners: Vec::new(), routes, backends, ..*self }
    }
}

impl Entry {
    /// The route of a client that asks for `name`.
    pub(crate) fn route(&self, name: &ServerName) -> Result<&Arc<Route>, Refusal> {
        let Self::Tls { names, default } = self else { return Err(Refusal::UnknownName) };
        match name {
            ServerName::Host(host) => {
                names.get(host).or(default.as_ref()).ok_or(Refusal::UnknownName)
            }
            ServerName::Absent => default.as_ref().ok_or(Refusal::NoName),
            ServerName::NotAHost => Err(Refusal::NotAHost),
        }
    }
}

impl Route {
    /// Where the next connection begins among the ready backends.
    pub(crate) fn turn(&self) -> usize {
        self.counts.turn.fetch_add(1, Relaxed)
    }
}
