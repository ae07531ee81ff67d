//! What goes wrong when a network is changed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use vyr_base::canonical::CanonicalError;
use vyr_base::{Category, Digest, Problem};
use vyr_net::{ModelError, NetError, WantError};
use vyr_plan::bundle::BundleError;
use vyr_plan::{ApprovalError, PlanError, Violation};

/// Why the network is not changed, or could not be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A file of ours.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours that something else wrote.
    #[error("{path} is not what was written there: {why}")]
    Record {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another process changes it.
    #[error("another process has been changing the network for {} s", .0.as_secs())]
    Busy(Duration),
    /// A change waits.
    #[error(
        "the change to {plan} by {by}, begun at {begun}, waits for its confirmation until {deadline}"
    )]
    Pending {
        /// Its plan.
        plan: Digest,
        /// Who made it.
        by: String,
        /// When.
        begun: Timestamp,
        /// When it is taken back.
        deadline: Timestamp,
    },
    /// Nothing waits.
    #[error("no change waits{}", .0.as_ref().map(|last| format!(": {last}")).unwrap_or_default())]
    Nothing(Option<String>),
    /// It is not this plan that waits.
    #[error("{waits} waits, not {asked}")]
    OtherPlan {
        /// What waits.
        waits: Digest,
        /// What was asked for.
        asked: Digest,
    },
    /// No plan was confirmed here.
    #[error("no plan was ever confirmed on this host")]
    NoPlan,
    /// What is asked is no way to ask.
    #[error("it cannot be asked so: {0}")]
    Request(String),
    /// The device has no key here that could take over.
    #[error("{plan} has no staged key of {id} on {machine}")]
    NotStaged {
        /// The plan in force.
        plan: Digest,
        /// The device or node.
        id: String,
        /// This host's name there.
        machine: String,
    },
    /// Too few, or the wrong operators; an older plan, or one over another base.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// It was made over another plan than this host has.
    #[error(
        "the plan {plan} replaces {}, and this host has {}{}",
        named(.parent.as_ref()),
        named(.base.as_ref()),
        .first.as_ref().map(|first| format!(", {first}")).unwrap_or_default()
    )]
    Base {
        /// The plan.
        plan: Digest,
        /// What it was made over.
        parent: Option<Digest>,
        /// What is confirmed here.
        base: Option<Digest>,
        /// Who made that, and when.
        first: Option<String>,
    },
    /// The plan is not one that our compiler would make.
    #[error("the plan breaks {} of its invariants, {} first: {}", .0.len(), .0[0].id, .0[0].what)]
    Broken(Vec<Violation>),
    /// A plan that cannot be read.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan wants what no host can be.
    #[error(transparent)]
    Want(#[from] WantError),
    /// A link's private key is missing, or is another one's.
    #[error("{path}: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// This host cannot do it.
    #[error("this host cannot: {0}")]
    Unable(String),
    /// Steps that lead nowhere: nothing was changed.
    #[error("the way back cannot be found")]
    NoWayBack(#[source] ModelError),
    /// The timer could not be armed: nothing was changed.
    #[error("the timer that would take it back could not be armed: {0}")]
    Timer(String),
    /// A step failed, and what was done was taken back.
    #[error("{what}; the host is as it was before")]
    TakenBack {
        /// What failed.
        what: String,
    },
    /// A step failed, and so did the way back.
    #[error("{what}; and taking it back failed: {back}")]
    Stuck {
        /// What failed.
        what: String,
        /// What failed then.
        back: String,
    },
    /// The host is not what the plan says.
    #[error("the host differs from the plan in {} places: {}", .0.len(), .0.join("; "))]
    Differs(Vec<String>),
    /// Reading or changing the host.
    #[error(transparent)]
    Net(#[from] NetError),
    /// What was kept of a plan.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A state without a digest.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

fn named(digest: Option<&Digest>) -> String {
    digest.map_or_else(|| "nothing".into(), Digest::to_string)
}

impl NetworkError {
    /// Whether a change was refused because of who asked, or who came first.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Pending { .. } | Self::Base { .. } | Self::Approval(_))
    }
}

impl Problem for NetworkError {
    fn category(&self) -> Category {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Category::Auth
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Category::Transient
            }
            Self::Busy(_) => Category::Transient,
            Self::Pending { .. } | Self::OtherPlan { .. } | Self::Base { .. } => Category::Conflict,
            Self::Nothing(_) | Self::NoPlan | Self::NotStaged { .. } => Category::NotFound,
            Self::Key { .. } | Self::Request(_) => Category::Usage,
            Self::Approval(e) => e.category(),
            Self::Plan(e) => e.category(),
            Self::Want(e) => e.category(),
            Self::Net(e) => e.category(),
            Self::Bundle(e) => e.category(),
            _ => Category::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Busy(_) => "wait for it, or find it: fuser DATA/network/lock".into(),
            Self::Pending { .. } => "vyr confirm, or vyr rollback, then apply again".into(),
            Self::Nothing(_) => "vyr drift says how the host stands".into(),
            Self::NoPlan => "vyr apply sha256:..".into(),
            Self::NotStaged { id, .. } => {
                format!("vyr client rotate {id} --key FILE, then lock, sign and apply")
            }
            Self::Base { .. } => "vyr lock, then plan, sign and apply again".into(),
            Self::Key { .. } => "vyr server key LINK makes one, and prints its public half".into(),
            Self::Unable(_) => "vyr doctor says what is missing".into(),
            Self::Differs(_) => "vyr rollback, or apply the plan again".into(),
            Self::Stuck { .. } => "vyr rollback tries again; vyr drift says what is left".into(),
            Self::Approval(e) => return e.hint(),
            Self::Plan(e) => return e.hint(),
            Self::Want(e) => return e.hint(),
            Self::Net(e) => return e.hint(),
            _ => return None,
        })
    }
}
