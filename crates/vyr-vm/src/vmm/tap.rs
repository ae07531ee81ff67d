//! A TAP in a network namespace, as a descriptor: the only part of a machine that needs a right, and
//! the VMM has none.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use smoltcp::phy::{Medium, TunTapInterface};
use vyr_base::{Category, Problem};

/// Bytes of an interface's name, without its end.
const NAME_MAX: usize = 15;

/// Why there is no TAP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The name.
    #[error("{0:?} is no name of a network interface")]
    Name(String),
    /// The namespace.
    #[error("cannot enter the network namespace {path}")]
    Namespace {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The device.
    #[error("cannot open the TAP {name}")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl Problem for TapError {
    fn category(&self) -> Category {
        match self {
            Self::Name(_) => Category::Usage,
            Self::Namespace { .. } => Category::NotFound,
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Category::Auth
            }
            Self::Open { .. } => Category::Internal,
        }
    }
}

/// Opens the TAP `name`, which is made if it is not there; in the namespace at `namespace`
/// (`/run/netns/..`) or in that of this process. It lives as long as the descriptor, unless
/// somebody made it to stay.
///
/// # Errors
/// No such namespace, no right, or no TAPs on this kernel.
pub fn open_tap(name: &str, namespace: Option<&Path>) -> Result<OwnedFd, TapError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'%';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
        return Err(TapError::Name(name.to_owned()));
    }
    let Some(path) = namespace else { return open(name) };
    let wrong = |source| TapError::Namespace { path: path.to_owned(), source };
    let namespace = File::open(path).map_err(wrong)?;
    // A namespace belongs to a thread: this one is in it, and ends with it.
    let entered = thread::scope(|scope| {
        let opening = scope.spawn(|| {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )
            .map_err(|e| wrong(e.into()))?;
            open(name)
        });
        opening.join()
    });
    match entered {
        Ok(result) => result,
        Err(_) => Err(wrong(io::Error::other("the thread in it panicked"))),
    }
}

fn open(name: &str) -> Result<OwnedFd, TapError> {
    let wrong = |source| TapError::Open { name: name.to_owned(), source };
    let tap = TunTapInterface::new(name, Medium::Ethernet).map_err(wrong)?;
    // The descriptor is the library's: the kernel gives us another one of the same TAP.
    let duplicate = || {
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        pidfd_getfd(this, tap.as_raw_fd(), PidfdGetfdFlags::empty())
    };
    duplicate().map_err(|e| wrong(e.into()))
}
