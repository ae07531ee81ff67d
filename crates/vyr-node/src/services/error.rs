//! What can go wrong with services, and how it is mended.

use std::io;
use std::path::PathBuf;

use vyr_base::{Category, Digest, Problem};
use vyr_plan::{ApprovalError, PlanError, Violation};
use vyr_service::run::StateError;

/// Why services are not as somebody wants them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServicesError {
    /// A file of the node's.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no services plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It is not approved.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// It breaks an invariant.
    #[error("the plan breaks {}", list(.0))]
    Broken(Vec<Violation>),
    /// It was made over another one than the one here.
    #[error(
        "the plan was made over {}, and the node has {}",
        parent.map_or_else(|| "no plan".to_owned(), |of| of.to_string()),
        base.map_or_else(|| "none".to_owned(), |of| of.to_string())
    )]
    Base {
        /// What the plan says.
        parent: Option<Digest>,
        /// What is here.
        base: Option<Digest>,
    },
    /// It needs a network that is not there.
    #[error(
        "the plan needs the network plan {wanted}, and this host has {}",
        found.map_or_else(|| "none".to_owned(), |of| of.to_string())
    )]
    Network {
        /// What the plan says.
        wanted: Digest,
        /// What is confirmed here.
        found: Option<Digest>,
    },
    /// The plan has no such node, or this is another one.
    #[error("{0}")]
    Node(String),
    /// Secrets that a service needs are not there or cannot be opened.
    #[error("secrets of {service}: {why}")]
    Secrets {
        /// Whose.
        service: String,
        /// Why. Never a secret.
        why: String,
    },
    /// The state on disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// This node runs no services.
    #[error("this node runs no services: {0}")]
    Unavailable(String),
    /// What was decided cannot be written down.
    #[error("the node stands still: {0}")]
    Stuck(String),
    /// There is no such slot or instance.
    #[error("there is no {0} here")]
    Missing(String),
    /// Another deploy has not ended.
    #[error("plan {0} is being carried out")]
    Busy(Digest),
    /// A part of the node said no.
    #[error("{0}")]
    Part(String),
}

fn list(violations: &[Violation]) -> String {
    let ids: Vec<String> = violations.iter().map(|of| format!("{} ({})", of.id, of.what)).collect();
    ids.join("; ")
}

impl Problem for ServicesError {
    fn category(&self) -> Category {
        match self {
            Self::File { .. } | Self::State(_) | Self::Part(_) => Category::Failure,
            Self::Plan(e) => e.category(),
            Self::Approval(e) => e.category(),
            Self::Broken(_) | Self::Node(_) => Category::Usage,
            Self::Base { .. } | Self::Network { .. } | Self::Busy(_) => Category::Conflict,
            Self::Secrets { .. } => Category::Usage,
            Self::Unavailable(_) | Self::Stuck(_) => Category::Transient,
            Self::Missing(_) => Category::NotFound,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Plan(e) => return e.hint(),
            Self::Approval(e) => return e.hint(),
            Self::Base { .. } => "get the site's newest state, then: vyr lock".into(),
            Self::Network { .. } => "apply that network plan first, or: vyr lock".into(),
            Self::Secrets { .. } => {
                "vyr secret set, for the recipient that vyr node key --secrets prints".into()
            }
            Self::Unavailable(_) => "vyr doctor says what is missing".into(),
            Self::Stuck(_) => "mend that; the node goes on by itself, then: vyr deploy".into(),
            Self::Missing(_) => "vyr ps lists what there is".into(),
            Self::Busy(_) => "wait for it: vyr ps --why".into(),
            Self::Node(_) => "name this node as the site does: vyr deploy --as NAME".into(),
            Self::Broken(_) => "compile it again from the site: vyr plan services".into(),
            Self::File { .. } | Self::State(_) | Self::Part(_) => return None,
        })
    }
}
