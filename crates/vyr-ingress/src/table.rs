//! The configuration as the threads use it: sockets, names and ready backends, found in one step.
//!
//! A table never changes. A new one is made whole, with the sockets and counters of the old one where
//! they stay, and each thread takes it between two rounds. A connection keeps what it was given.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use vyr_base::Digest;

use crate::config::{Config, Mode};
use crate::count::{Counts, Refusal};
use crate::hello::ServerName;
use crate::hostname::Hostname;

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
    pub(crate) backends: Vec<SocketAddr>,
    pub(crate) proxy: bool,
    pub(crate) counts: Arc<Counts>,
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
        let route = |route: &crate::config::Route| {
            let ready = route.backends.iter().filter(|backend| backend.ready);
            Arc::new(Route {
                name: route.name.clone(),
                backends: ready.map(|backend| backend.address).collect(),
                proxy: route.backend_expects_proxy_protocol,
                counts: old_route(&route.name).unwrap_or_default(),
            })
        };
        let routes: Vec<Arc<Route>> = config.routes.iter().map(route).collect();
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
        }
    }

    /// The same with nobody to come in.
    pub(crate) fn closed(&self) -> Self {
        Self { listeners: Vec::new(), routes: self.routes.clone(), ..*self }
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
        self.counts.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
}
