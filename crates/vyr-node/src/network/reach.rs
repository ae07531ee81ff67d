//! A host whose network is asked: this one, or one elsewhere. Commands know no other way.

use vyr_base::Digest;
use vyr_net::words::{Answer, Applied, Apply, BackendWish, Request, Standing, WordsError};
use vyr_plan::intent::Key;

use super::ssh::{Ssh, SshError};
use super::{Network, perform};
use crate::Result;

/// Where a host is.
#[derive(Debug)]
pub enum Host {
    /// Here: in this process.
    Here(Network),
    /// Behind a connection; a new one for each question.
    Ssh(Ssh),
}

/// The plan of a change that has ended, and the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its plan.
    pub plan: Digest,
    /// The plan before it.
    pub base: Option<Digest>,
}

/// A link's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkKey {
    /// The public half.
    pub public_key: Key,
    /// Whether the private one was made now.
    pub new: bool,
    /// Where that lies on the host.
    pub directory: std::path::PathBuf,
}

impl Host {
    fn ask(&self, request: Request) -> Result<Answer> {
        match self {
            Self::Here(network) => Ok(perform(network, request)?),
            Self::Ssh(ssh) => Ok(ssh.ask(&request)?),
        }
    }

    /// Makes the host as a plan says.
    pub fn apply(&self, apply: Apply) -> Result<Applied> {
        match self.ask(Request::Apply(apply))? {
            Answer::Applied(applied) => Ok(applied),
            _ => Err(other()),
        }
    }

    /// Keeps the change that waits. `plan`: only if it is this one.
    pub fn confirm(&self, plan: Option<Digest>) -> Result<Ended> {
        match self.ask(Request::Confirm { plan })? {
            Answer::Ended { plan, base } => Ok(Ended { plan, base }),
            _ => Err(other()),
        }
    }

    /// Takes the change back that waits. `plan`: only if it is this one.
    pub fn rollback(&self, plan: Option<Digest>) -> Result<Ended> {
        match self.ask(Request::Rollback { plan })? {
            Answer::Ended { plan, base } => Ok(Ended { plan, base }),
            _ => Err(other()),
        }
    }

    /// How it stands to its plan. `machine`: its name there; none: its host name.
    pub fn standing(&self, machine: Option<String>, backend: BackendWish) -> Result<Standing> {
        match self.ask(Request::Standing { machine, backend })? {
            Answer::Standing(standing) => Ok(standing),
            _ => Err(other()),
        }
    }

    /// The public key of a link of it, made if there is none.
    pub fn link_key(&self, link: String, next: bool) -> Result<LinkKey> {
        match self.ask(Request::LinkKey { link, next })? {
            Answer::LinkKey { public_key, new, directory } => {
                Ok(LinkKey { public_key, new, directory })
            }
            _ => Err(other()),
        }
    }
}

/// A host that answers something else is as strange as one that says what no host says.
fn other() -> crate::Report {
    SshError::from(WordsError::Form("it answers another question".into())).into()
}
