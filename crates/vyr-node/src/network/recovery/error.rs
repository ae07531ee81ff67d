//! What goes wrong when a node is bundled or rebuilt.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use vyr_artifact::TrustError;
use vyr_base::{Category, Digest, Problem};
use vyr_plan::bundle::BundleError;
use vyr_plan::{ApprovalError, PlanError, Violation};

use crate::AgeKeyError;

/// Why there is no bundle, or why it was not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// It cannot be carried.
    #[error("the bundle has {bytes} bytes, and {most} are the most that are carried over ssh")]
    TooLarge {
        /// How many it has.
        bytes: u64,
        /// How many it may have.
        most: u64,
    },
    /// Another process is at it.
    #[error("another process is rebuilding into this data directory")]
    Underway,
    /// The file is no bundle, or was altered.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A bundle replaces none.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// Nobody could open it.
    #[error("the plan {0} names nobody who can open a bundle")]
    NoRecipients(Digest),
    /// A key that does not encrypt, or that opens nothing.
    #[error(transparent)]
    Key(#[from] AgeKeyError),
    /// The approvals were never kept here.
    #[error("who approved the plan {0} is not known on this host")]
    NoApprovals(Digest),
    /// Nobody who counts signed it.
    #[error("the bundle is not trusted: {0}")]
    Untrusted(TrustError),
    /// It is for others.
    #[error("no key of {0} opens the bundle")]
    NotForUs(PathBuf),
    /// What was encrypted cannot be read.
    #[error("the bundle cannot be decrypted: {0}")]
    Decrypt(String),
    /// It makes another machine.
    #[error("the bundle is that of {found}, and {wanted} is to be rebuilt here")]
    OtherMachine {
        /// Whose it is.
        found: String,
        /// Who was asked for, or who this host is.
        wanted: String,
    },
    /// It is older than it may be.
    #[error("the bundle has epoch {epoch}, and at least {least} is needed")]
    Older {
        /// Its own.
        epoch: u64,
        /// What was asked for.
        least: u64,
    },
    /// What it must hold is not there.
    #[error("the bundle has no {0}")]
    Lacks(String),
    /// What it holds is not what its header says.
    #[error("the bundle says another {0} outside than it has inside")]
    Disagrees(&'static str),
    /// The plan in it is none.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan in it was not approved by those who are trusted.
    #[error("the plan in the bundle: {0}")]
    Approval(ApprovalError),
    /// The plan is not one that our compiler would make.
    #[error("the plan in the bundle breaks {} of its invariants, {} first: {}", .0.len(), .0[0].id, .0[0].what)]
    Broken(Vec<Violation>),
    /// Another key is here under the same name.
    #[error("{path} holds another key than the bundle")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// The old node is still there.
    #[error("{machine} still answers at {address} ({how})")]
    Alive {
        /// The machine.
        machine: String,
        /// Where.
        address: IpAddr,
        /// What it did.
        how: String,
    },
}

impl Problem for RecoveryError {
    fn category(&self) -> Category {
        match self {
            Self::Bundle(e) => e.category(),
            Self::Key(e) => e.category(),
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Category::NotFound,
                io::ErrorKind::PermissionDenied => Category::Auth,
                io::ErrorKind::StorageFull => Category::Transient,
                _ => Category::Failure,
            },
            Self::Underway
            | Self::Exists(_)
            | Self::OtherMachine { .. }
            | Self::Older { .. }
            | Self::OtherKey { .. }
            | Self::Alive { .. } => Category::Conflict,
            Self::NoApprovals(_) => Category::NotFound,
            Self::Untrusted(_) | Self::NotForUs(_) | Self::Decrypt(_) => Category::Auth,
            Self::Plan(e) => e.category(),
            Self::Approval(e) => e.category(),
            Self::TooLarge { .. }
            | Self::NoRecipients(_)
            | Self::Lacks(_)
            | Self::Disagrees(_)
            | Self::Broken(_) => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Bundle(e) => return e.hint(),
            Self::Key(e) => return e.hint(),
            Self::TooLarge { .. } => {
                "make it with vyr bundle --digests-only, or copy it there and rebuild there".into()
            }
            Self::Underway => "wait for it, or end it".into(),
            Self::Exists(_) => "choose another name: an old bundle may be the only one".into(),
            Self::NoRecipients(_) => {
                "write [recovery] recipients = [\"age1..\"] into site.toml, then plan and apply".into()
            }
            Self::NoApprovals(digest) => format!("vyr apply {digest} keeps them, and changes nothing"),
            Self::Untrusted(_) => {
                "--trust FILE needs a line for who signed, with namespaces=\"vyr-bundle\" or none".into()
            }
            Self::NotForUs(_) => "who can open it is in [recovery] recipients of the site".into(),
            Self::OtherMachine { .. } => "take that machine's own bundle".into(),
            Self::Older { .. } => "take a newer bundle: vyr bundle show FILE".into(),
            Self::OtherKey { .. } => {
                "this host is another node's: use an empty --data-dir, or move that key away".into()
            }
            Self::Alive { .. } => {
                "switch the old node off, or go on with --anyway: two of one key take each other's packets".into()
            }
            Self::Approval(_) => "--trust FILE needs the operators' lines for vyr-plan too".into(),
            _ => return None,
        })
    }
}
