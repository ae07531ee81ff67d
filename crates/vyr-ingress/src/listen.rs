//! Sockets that listen: made before the process is confined, or handed over by somebody who may.
//!
//! A confined ingress cannot bind. Who wants another listener makes it and sends the descriptor with
//! the new configuration; the descriptor itself says which address it is for.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vyr_base::{Category, Problem};

use crate::config::Config;
use crate::flow::PIPES_MAX;
use crate::table::Socket;

/// Clients that wait to be accepted, per listener; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Descriptors besides those of connections, pipes and listeners: threads, control, standard ones.
const DESCRIPTORS_BESIDES: u64 = 160;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The kernel does not give this address.
    #[error("cannot listen at {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Its answer.
        source: std::io::Error,
    },
    /// A descriptor was handed over that is no listener of the configuration.
    #[error("a descriptor was handed over that is no listener of the configuration: {0}")]
    Stranger(String),
    /// A configuration needs a listener that nobody made.
    #[error("the configuration listens at {0}, and no descriptor was handed over for it")]
    Absent(SocketAddr),
    /// More connections than the process may have descriptors.
    #[error("{connections} connections need {needed} descriptors, and this process may have {may}")]
    Descriptors {
        /// What the configuration allows.
        connections: u64,
        /// Descriptors for that.
        needed: u64,
        /// The hard limit.
        may: u64,
    },
}

impl Problem for ListenError {
    fn category(&self) -> Category {
        match self {
            Self::Bind { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::ACCESS | Errno::PERM) => Category::Auth,
                Some(Errno::ADDRINUSE) => Category::Conflict,
                Some(Errno::ADDRNOTAVAIL) => Category::NotFound,
                _ => Category::Failure,
            },
            Self::Stranger(_) => Category::Usage,
            Self::Absent(_) => Category::Conflict,
            Self::Descriptors { .. } => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::ACCESS | Errno::PERM) => {
                    Some("ports below 1024 need root, which is given up once it listens".into())
                }
                Some(Errno::ADDRINUSE) => Some("ss -lntp says who listens there".into()),
                Some(Errno::ADDRNOTAVAIL) => Some("ip addr lists this host's addresses".into()),
                _ => None,
            },
            Self::Stranger(_) => None,
            Self::Absent(_) => Some("vyr ingress apply FILE makes it and hands it over".into()),
            Self::Descriptors { .. } => {
                Some("lower connections_max, or raise the limit (ulimit -Hn, LimitNOFILE=)".into())
            }
        }
    }
}

/// A new listening socket, as an ingress takes it.
///
/// # Errors
/// The kernel does not give the address.
pub fn make(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let made = || {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        // A restart must not wait for connections of before to be forgotten.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        // Connections have it from their listener.
        sockopt::set_tcp_nodelay(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok::<_, Errno>(socket)
    };
    made().map_err(|errno| ListenError::Bind { address, source: errno.into() })
}

/// The address of a socket that was handed over, made ready as if it were our own.
pub(crate) fn adopt(socket: &OwnedFd) -> Result<SocketAddr, ListenError> {
    let adopted = || {
        if !sockopt::socket_acceptconn(socket)?
            || sockopt::socket_type(socket)? != SocketType::STREAM
        {
            return Err(Errno::INVAL);
        }
        let address = SocketAddr::try_from(getsockname(socket)?)?;
        if address.is_ipv6() && !sockopt::ipv6_v6only(socket)? {
            return Err(Errno::INVAL);
        }
        rustix::io::ioctl_fionbio(socket, true)?;
        sockopt::set_tcp_nodelay(socket, true)?;
        Ok(address)
    };
    adopted().map_err(|errno| {
        let why = match errno {
            Errno::INVAL => {
                "it is no listening TCP socket, or one for IPv6 and IPv4 at once".into()
            }
            errno => std::io::Error::from(errno).to_string(),
        };
        ListenError::Stranger(why)
    })
}

/// The socket of each listener of `config`, in order: one of `present`, one of `handed`, or what
/// `make` makes. Nothing of `present` is touched.
pub(crate) fn sockets(
    config: &Config,
    present: &[Arc<Socket>],
    handed: Vec<OwnedFd>,
    next_id: &mut u64,
    make: impl Fn(SocketAddr) -> Result<OwnedFd, ListenError>,
) -> Result<Vec<Arc<Socket>>, ListenError> {
    let mut offered = Vec::new();
    for socket in handed {
        offered.push((adopt(&socket)?, socket));
    }
    let mut sockets = Vec::new();
    for listener in &config.listeners {
        let address = listener.address;
        if let Some(socket) = present.iter().find(|socket| socket.address == address) {
            sockets.push(Arc::clone(socket));
            continue;
        }
        let fd = match offered.iter().position(|(at, _)| *at == address) {
            Some(place) => offered.swap_remove(place).1,
            None => make(address)?,
        };
        *next_id += 1;
        sockets.push(Arc::new(Socket { id: *next_id, address, fd }));
    }
    // One for a listener that is there already was made by somebody who came second.
    offered.retain(|(at, _)| config.listeners.iter().all(|listener| listener.address != *at));
    match offered.first() {
        Some((address, _)) => Err(ListenError::Stranger(format!("it listens at {address}"))),
        None => Ok(sockets),
    }
}

/// Raises the limit of descriptors to what the system allows, and checks that it suffices.
pub(crate) fn descriptors(config: &Config, raise: bool) -> Result<(), ListenError> {
    let limit = getrlimit(Resource::Nofile);
    if raise && limit.current != limit.maximum {
        // What could not be raised is what the check below goes by.
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let may = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let besides = DESCRIPTORS_BESIDES + (config.listeners.len() + 2 * PIPES_MAX) as u64;
    let needed = 2 * config.connections_max + besides;
    match needed <= may {
        true => Ok(()),
        false => {
            let connections = config.connections_max;
            Err(ListenError::Descriptors { connections, needed, may })
        }
    }
}
