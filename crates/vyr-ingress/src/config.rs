//! The configuration: one JSON document that is taken whole, or refused with every fault of it.
//!
//! JSON and not TOML: a program writes it (a node, from the services that run), the control socket
//! carries it and answers in the same form, and its digest is that of its exact bytes.
//!
//! Invariants:
//! 1. What is in a [`Config`] is checked: names resolve, hostnames and addresses are unique, every
//!    number is within its bounds.
//! 2. A fault says where it is and how to mend it; one fault hides no other of the same level.
//!
//! Not here: whether addresses can be bound and descriptors suffice (`listen`).

mod fields;
mod read;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use vyr_base::hostname::Hostname;
use vyr_base::{Category, Diagnostic, Digest, Problem};

/// The version of the document.
pub(crate) const CONFIG_VERSION: u64 = 1;
/// The longest document in bytes.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;
/// Each listener is a descriptor that can be handed over in one message; the kernel takes 253.
pub const LISTENERS_MAX: usize = 128;
/// Routes in all, hostnames and backends of one route.
pub const ROUTES_MAX: usize = 4096;
pub(crate) const HOSTNAMES_MAX: usize = 64;
pub(crate) const BACKENDS_MAX: usize = 256;
/// Connections of one process: two descriptors each, and `fs.nr_open` is 1,048,576.
pub(crate) const CONNECTIONS_MAX: u64 = 500_000;

/// All that the ingress is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The digest of the exact document.
    pub digest: Digest,
    /// Where the control socket is; it stays for the life of the process.
    pub control: PathBuf,
    /// Threads that carry connections; `None`: as many as there are processors, at most 16. They
    /// stay for the life of the process.
    pub threads: Option<usize>,
    /// Connections at one time, over all listeners.
    pub connections_max: u64,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// Where they are carried to.
    pub routes: Vec<Route>,
}

/// Patience, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first moment of a connection to the end of its client hello.
    pub hello_ms: u64,
    /// To connect to one backend; then the next is tried.
    pub connect_ms: u64,
    /// Without a byte in either direction.
    pub idle_ms: u64,
    /// From the order to stop until connections that remain are cut.
    pub drain_ms: u64,
}

impl Default for Timeouts {
    /// `hello_ms`: three lost segments at the kernel's first retransmission time of 1 s;
    /// `connect_ms`: the contract of this proxy; `idle_ms`: longer than the keep-alives of common
    /// clients, which are at most some minutes; `drain_ms`: the grace that services have.
    fn default() -> Self {
        Self { hello_ms: 3_000, connect_ms: 2_000, idle_ms: 600_000, drain_ms: 10_000 }
    }
}

/// One port of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name in answers.
    pub name: String,
    /// Its address: `::` is every IPv6 address and no IPv4 one.
    pub address: SocketAddr,
    /// What it makes of a connection.
    pub mode: Mode,
    /// Connections at one time.
    pub connections_max: u64,
}

/// What a listener makes of a connection; numbers are places in [`Config::routes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Reads the server name and carries the bytes on as they are.
    TlsPassthrough {
        /// Those reached by name.
        routes: Vec<usize>,
        /// The one reached by an unknown name, or by none.
        default_route: Option<usize>,
    },
    /// Carries the bytes on.
    TcpRaw {
        /// Where to.
        route: usize,
    },
}

/// A set of backends that do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name in answers.
    pub name: String,
    /// The names by which a TLS client reaches it.
    pub hostnames: Vec<Hostname>,
    /// Whether each connection to a backend begins with a PROXY v2 header.
    pub backend_expects_proxy_protocol: bool,
    /// Who answers.
    pub backends: Vec<Backend>,
}

/// One that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it may be connected to now.
    pub ready: bool,
}

/// A configuration that is not taken.
#[derive(Debug, thiserror::Error)]
#[error("the ingress configuration {name} is refused")]
pub struct ConfigError {
    name: String,
    source: Faults,
}

/// Every fault, one a line.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.lines())]
pub struct Faults(pub Vec<Diagnostic>);

impl Faults {
    fn lines(&self) -> String {
        let line = |fault: &Diagnostic| match &fault.hint {
            Some(hint) => format!("{} ({hint})", fault.what),
            None => fault.what.clone(),
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl ConfigError {
    /// What is wrong, in the order of the document.
    pub fn faults(&self) -> &[Diagnostic] {
        &self.source.0
    }
}

impl Problem for ConfigError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("docs/ingress.md lists the fields and their bounds".to_owned())
    }
}

impl Config {
    /// Reads a document; `name` is for its reader.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, ConfigError> {
        read::config(bytes)
            .map_err(|faults| ConfigError { name: name.to_owned(), source: Faults(faults) })
    }
}

/// Two addresses that cannot both be bound: the same port, and one covers the other.
pub(crate) fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let wide = |at: &SocketAddr| at.ip().is_unspecified();
    one.port() == other.port()
        && same_family
        && (one.ip() == other.ip() || wide(one) || wide(other))
}

/// Whether it is an IPv4 address in IPv6 clothes: the same endpoint would have two names.
pub(crate) fn is_mapped(address: &Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests;
