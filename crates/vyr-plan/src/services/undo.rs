//! What takes a change of the services back.

use std::collections::BTreeSet;
use std::fmt;

use vyr_service::release::ReleaseId;

use super::plan::{ServiceEntry, ServicesPlan};
use crate::intent::Name;

/// One step back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// The release that a service had.
    Release {
        /// The service.
        service: Name,
        /// What it had.
        release: ReleaseId,
    },
    /// How many instances a process had.
    Scale {
        /// The service.
        service: Name,
        /// The process.
        process: Name,
        /// How many it had.
        count: u8,
    },
    /// No command of its own: the files have to be as they were.
    Files,
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release { service, release } => {
                write!(f, "vyr release rollback {service} {}", release.short())
            }
            Self::Scale { service, process, count } => {
                write!(f, "vyr scale {service}/{process}={count}")
            }
            Self::Files => f.write_str("put the site's files back as they were, and deploy again"),
        }
    }
}

/// The steps back from a plan to the one before it (none: there was none), in the order of services.
/// Nothing changed: none.
pub fn undo(before: Option<&ServicesPlan>, after: &ServicesPlan) -> Vec<Undo> {
    let mut steps = Vec::new();
    let names = |plan: &ServicesPlan| -> BTreeSet<Name> {
        plan.services.iter().map(|entry| entry.name().clone()).collect()
    };
    let mut others = before.is_none_or(|before| names(before) != names(after));
    for now in &after.services {
        let Some(was) = before.and_then(|plan| plan.service(now.name().as_str())) else { continue };
        steps.extend(of_service(was, now));
        others |= is_otherwise_changed(was, now);
    }
    if others {
        steps.push(Undo::Files);
    }
    steps
}

fn of_service(was: &ServiceEntry, now: &ServiceEntry) -> Vec<Undo> {
    let service = now.name();
    let mut steps = Vec::new();
    if was.release != now.release {
        steps.push(Undo::Release { service: service.clone(), release: was.release });
    }
    for (process, of) in &now.manifest.processes {
        let count = was.manifest.processes.get(process).map(|of| of.scale);
        if let Some(count) = count.filter(|count| *count != of.scale) {
            steps.push(Undo::Scale { service: service.clone(), process: process.clone(), count });
        }
    }
    steps
}

/// Whether something changed that neither command takes back.
fn is_otherwise_changed(was: &ServiceEntry, now: &ServiceEntry) -> bool {
    let rest = |of: &ServiceEntry| {
        (of.manifest.description.clone(), of.manifest.routes.clone(), of.secrets)
    };
    rest(was) != rest(now)
}
