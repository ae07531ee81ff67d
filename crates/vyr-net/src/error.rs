//! Why the network of a host could not be read or changed.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use vyr_base::{Category, Problem};
use vyr_plan::intent::Key;

use crate::firewall::RulesetError;
use crate::model::ModelError;

/// Why reading or changing the network failed. A step that failed may have been half done, and
/// those before it were done: read again before deciding anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// This host cannot do it at all.
    #[error("{what} is not available: {why}")]
    Unavailable {
        /// What is missing.
        what: &'static str,
        /// What said so.
        why: String,
    },
    /// The kernel refused.
    #[error("cannot {doing}")]
    Kernel {
        /// What was asked for.
        doing: String,
        /// Its answer.
        source: Errno,
    },
    /// A data plane refused.
    #[error("the data plane of {link} refused to {doing}: error {code}")]
    DataPlane {
        /// The link.
        link: String,
        /// What was asked for.
        doing: &'static str,
        /// Its answer, an errno.
        code: i32,
    },
    /// An answer that is none.
    #[error("{who} gave an answer that cannot be right: {why}")]
    Malformed {
        /// Who.
        who: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// No answer in time.
    #[error("{who} did not answer within {} ms", within.as_millis())]
    Silent {
        /// Who.
        who: String,
        /// How long was waited.
        within: Duration,
    },
    /// nft refused.
    #[error("nft refused to {doing}: {said}")]
    Nft {
        /// What was asked for.
        doing: &'static str,
        /// The beginning of what it said.
        said: String,
    },
    /// What nft listed, or should load, is no table of ours.
    #[error("the firewall's table cannot be read")]
    Ruleset(#[source] RulesetError),
    /// It said that it was done, and it was not.
    #[error("{what} is not as it was set")]
    Differs {
        /// What was set and read back.
        what: String,
    },
    /// Nobody has the key that a step needs.
    #[error("no {kind} key was given for {of}")]
    NoKey {
        /// Private or preshared.
        kind: &'static str,
        /// The link or peer.
        of: String,
    },
    /// It is another link's.
    #[error("the private key given for {link} belongs to {found}, not to {wanted}")]
    WrongKey {
        /// The link.
        link: String,
        /// The public key of what was given.
        found: Key,
        /// The public key that the link is to have.
        wanted: Key,
    },
    /// A step that this backend does not take.
    #[error("this is not done here: {op}")]
    Refused {
        /// The step.
        op: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The host in memory refused.
    #[error("the recorder refused: {op}")]
    Recorder {
        /// The step.
        op: String,
        /// Why.
        source: ModelError,
    },
    /// A file, socket or process.
    #[error("cannot {doing}")]
    Io {
        /// What was to be done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
}

impl NetError {
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }

    pub(crate) fn kernel(doing: impl Into<String>, source: Errno) -> Self {
        Self::Kernel { doing: doing.into(), source }
    }

    pub(crate) fn malformed(who: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { who, why: why.into() }
    }
}

impl Problem for NetError {
    fn category(&self) -> Category {
        match self {
            Self::Kernel { source: Errno::PERM | Errno::ACCESS, .. } | Self::WrongKey { .. } => {
                Category::Auth
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Category::Auth
            }
            Self::Unavailable { .. } | Self::NoKey { .. } => Category::NotFound,
            Self::Refused { .. } | Self::Differs { .. } | Self::Recorder { .. } => {
                Category::Conflict
            }
            Self::Kernel { source: Errno::EXIST | Errno::BUSY | Errno::ADDRINUSE, .. } => {
                Category::Conflict
            }
            Self::Silent { .. } => Category::Transient,
            Self::Kernel { .. }
            | Self::DataPlane { .. }
            | Self::Malformed { .. }
            | Self::Nft { .. }
            | Self::Ruleset(_)
            | Self::Io { .. } => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unavailable { what: "WireGuard", .. } => {
                "load the module (modprobe wireguard), or run a data plane with a UAPI socket"
                    .into()
            }
            Self::Unavailable { what: crate::instance::WHAT, .. } => "run the node as root".into(),
            Self::Unavailable { what, .. } => format!("install {what} and try again"),
            Self::Kernel { source: Errno::PERM | Errno::ACCESS, .. } => {
                "it needs CAP_NET_ADMIN".into()
            }
            Self::NoKey { of, .. } => format!("put the key of {of} where this node keeps its keys"),
            Self::WrongKey { link, .. } => {
                format!("keep the key that belongs to {link}, or put its public key into site.toml")
            }
            Self::Refused { why, .. } => (*why).into(),
            Self::Differs { .. } => "somebody else may be changing it: see vyr drift".into(),
            Self::Silent { .. } => "see whether it runs, then try again".into(),
            _ => return None,
        })
    }
}
