//! Why a host was not asked, or did not answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vyr_base::{Category, Problem};
use vyr_net::words::WordsError;

use super::SshAddress;
use crate::network::wire::RemoteError;

/// What `ssh` said last.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Said(pub(super) Vec<String>);

impl Said {
    /// None, if it said nothing.
    pub(super) fn whole(self) -> Option<Self> {
        (!self.0.is_empty()).then_some(self)
    }
}

/// Why a host was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// No address.
    #[error("\"{0}\" is not ssh://[USER@]HOST[:PORT]")]
    Address(String),
    /// A path that no option or shell takes as it is.
    #[error("\"{0}\" cannot be passed on as it is")]
    Word(String),
    /// Nobody said which host keys are the right ones.
    #[error("there is no {path}: it says by which key a machine is known")]
    NoKnownHosts {
        /// The file.
        path: PathBuf,
        /// Who was to be asked.
        host: SshAddress,
    },
    /// No `ssh`.
    #[error("cannot run ssh")]
    Program(#[source] io::Error),
    /// It may be another machine.
    #[error("{host} shows no host key that is in {path}")]
    HostKey {
        /// Who.
        host: SshAddress,
        /// Where the known ones are.
        path: PathBuf,
        /// What ssh said.
        #[source]
        said: Option<Said>,
    },
    /// No key of ours is let in.
    #[error("{host} does not let us in")]
    Denied {
        /// Who.
        host: SshAddress,
        /// What ssh said.
        #[source]
        said: Option<Said>,
    },
    /// It could not be reached.
    #[error("{host} cannot be reached")]
    Unreachable {
        /// Who.
        host: SshAddress,
        /// What ssh said.
        #[source]
        said: Option<Said>,
    },
    /// There is no vyr, or it cannot be run.
    #[error("{host} cannot run {program}")]
    NoVyr {
        /// Who.
        host: SshAddress,
        /// What was to be run.
        program: String,
        /// What its shell said.
        #[source]
        said: Option<Said>,
    },
    /// The connection broke after it was asked.
    #[error("the connection to {host} ended before its answer")]
    Lost {
        /// Who.
        host: SshAddress,
        /// What ssh said.
        #[source]
        said: Option<Said>,
    },
    /// It took too long.
    #[error("{host} did not answer in {} s", patience.as_secs())]
    Slow {
        /// Who.
        host: SshAddress,
        /// What was waited.
        patience: Duration,
    },
    /// It answered, or what came was no answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl From<WordsError> for SshError {
    fn from(error: WordsError) -> Self {
        Self::Remote(error.into())
    }
}

impl Problem for SshError {
    fn category(&self) -> Category {
        match self {
            Self::Address(_) | Self::Word(_) => Category::Usage,
            Self::NoKnownHosts { .. } | Self::NoVyr { .. } => Category::NotFound,
            Self::Program(e) if e.kind() == io::ErrorKind::NotFound => Category::NotFound,
            Self::Program(_) => Category::Failure,
            Self::HostKey { .. } | Self::Denied { .. } => Category::Auth,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Slow { .. } => Category::Transient,
            Self::Remote(e) => e.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        let scan = |host: &SshAddress, path: &Path| {
            let port = host.port.map(|port| format!("-p {port} ")).unwrap_or_default();
            let (name, path) = (&host.host, path.display());
            format!(
                "ssh-keyscan {port}{name} >> {path}, then compare ssh-keygen -lf {path} with what \
                 the machine's own console says: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
            )
        };
        Some(match self {
            Self::NoKnownHosts { path, host } => scan(host, path),
            Self::HostKey { path, host, .. } => {
                format!("if the machine has a new key, and only then: {}", scan(host, path))
            }
            Self::Program(_) => "install OpenSSH's client".into(),
            Self::Denied { .. } => {
                "give ssh-agent a key that is in its authorized_keys; no password is asked for"
                    .into()
            }
            Self::NoVyr { .. } => "install vyr there, or say where it is: --remote-vyr PATH".into(),
            Self::Lost { .. } | Self::Slow { .. } => {
                "vyr drift says how it stands there; what nobody confirmed is taken back, and vyr \
                 confirm may be asked again"
                    .into()
            }
            Self::Remote(e) => return e.hint(),
            Self::Address(_) | Self::Word(_) | Self::Unreachable { .. } => return None,
        })
    }
}
