//! What goes wrong on a channel.

use std::io;
use std::path::PathBuf;

use vyr_base::{Category, Problem};
use vyr_channel::{FrameError, LogError, MessageError, Violation};

/// Why a channel does not, or no longer, work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// Nobody listens, or the socket cannot be used.
    #[error("cannot connect to the guest at {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process than the machine's VMM has the socket.
    #[error("somebody else than the VMM listens at {path}")]
    Stranger {
        /// The socket.
        path: PathBuf,
    },
    /// The guest was made by another version.
    #[error("the guest speaks version {guest} of the channel, and this host version {host}")]
    Version {
        /// Ours.
        host: u16,
        /// The guest's.
        guest: u16,
    },
    /// Bytes that are no frame.
    #[error("the guest broke the channel: {0}")]
    Frame(#[from] FrameError),
    /// A frame that is no message.
    #[error("the guest broke the channel: {0}")]
    Message(#[from] MessageError),
    /// More than it may send.
    #[error("the guest broke the channel: {0}")]
    Violation(#[from] Violation),
    /// Records that are none.
    #[error("the guest broke its log: {0}")]
    Log(#[from] LogError),
    /// A greeting that nobody asked for.
    #[error("the guest broke the channel: it answers what was not asked")]
    Unasked,
    /// The machine, or its VMM, ended.
    #[error("the guest closed the channel")]
    Closed,
    /// The socket took no more.
    #[error("the guest does not take what it is sent ({0})")]
    Write(io::ErrorKind),
    /// It did not come in time.
    #[error("{0} did not come in time")]
    TimedOut(&'static str),
    /// `Start` was sent before.
    #[error("the guest was started before")]
    Started,
    /// All numbers are taken.
    #[error("the guest has {0} sessions already")]
    Sessions(u16),
    /// No such session to adopt.
    #[error("the guest has no session {0} that nobody has")]
    NoSession(u16),
    /// The host's generator of randomness.
    #[error("the host gives no randomness")]
    Random,
}

/// The reader's reason is every waiter's.
impl Clone for ChannelError {
    fn clone(&self) -> Self {
        match self {
            Self::Connect { path, source } => {
                Self::Connect { path: path.clone(), source: source.kind().into() }
            }
            Self::Stranger { path } => Self::Stranger { path: path.clone() },
            Self::Version { host, guest } => Self::Version { host: *host, guest: *guest },
            Self::Frame(e) => Self::Frame(*e),
            Self::Message(e) => Self::Message(*e),
            Self::Violation(e) => Self::Violation(*e),
            Self::Log(e) => Self::Log(*e),
            Self::Unasked => Self::Unasked,
            Self::Closed => Self::Closed,
            Self::Write(kind) => Self::Write(*kind),
            Self::TimedOut(what) => Self::TimedOut(what),
            Self::Started => Self::Started,
            Self::Sessions(count) => Self::Sessions(*count),
            Self::NoSession(id) => Self::NoSession(*id),
            Self::Random => Self::Random,
        }
    }
}

impl Problem for ChannelError {
    fn category(&self) -> Category {
        match self {
            Self::Frame(_) | Self::Message(_) | Self::Violation(_) | Self::Log(_) => {
                Category::Failure
            }
            Self::Unasked => Category::Failure,
            Self::Stranger { .. } => Category::Auth,
            Self::Connect { .. } | Self::Closed | Self::Write(_) | Self::TimedOut(_) => {
                Category::Transient
            }
            Self::Version { .. } | Self::Started | Self::Sessions(_) => Category::Conflict,
            Self::NoSession(_) => Category::NotFound,
            Self::Random => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => {
                Some("start the instance anew: it then boots the platform of this version".into())
            }
            Self::Sessions(_) => Some("end one of them first".into()),
            Self::Frame(_) | Self::Message(_) | Self::Violation(_) | Self::Log(_) => {
                Some("do not trust this instance: stop it and look at its image".into())
            }
            _ => None,
        }
    }
}
