//! A former release of a service, found in the site's plans and brought back into its files.
//!
//! ```text
//! plans, newest first --former--> the service as a plan had it
//!                                        | bring_back: description, routes, scale are the present file's
//!                                        v
//!                     services/NAME.toml, and its image's line in vyr.lock
//! ```
//!
//! Invariant: what the text means ([`manifest::write`] read it again) is, with the lock, the release
//! that was asked for; no other service gets another image.
//!
//! Deliberately elsewhere: reading plans, writing files, deploying (`vyr`).

use vyr_base::{Category, Problem};
use vyr_service::manifest::{self, Fault, WriteError};
use vyr_service::release::{Release, ReleaseId};

use super::plan::{ServiceEntry, ServicesPlan};
use crate::intent::{Intent, Name};
use crate::lock::Lock;

/// Files of a site with a former release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtBack {
    /// The new text of `services/NAME.toml`; none: the present one says the same.
    pub text: Option<String>,
    /// The new lock.
    pub lock: Lock,
}

/// Why a release is not brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// Nothing has its name.
    #[error("there is no service {name}")]
    NoService {
        /// What was asked for.
        name: Name,
        /// What there is.
        there: Vec<String>,
    },
    /// No plan had the service.
    #[error("{0} was never deployed")]
    Never(Name),
    /// There was one release only.
    #[error("{service} had no other release before {current}")]
    First {
        /// The service.
        service: Name,
        /// Its release, in short.
        current: String,
    },
    /// No plan had it.
    #[error("no plan of this site has a release {asked} of {service}")]
    Unknown {
        /// The service.
        service: Name,
        /// What was asked for.
        asked: String,
    },
    /// The digits stand for several.
    #[error("{asked} names {count} releases of {service}")]
    Ambiguous {
        /// The service.
        service: Name,
        /// What was asked for.
        asked: String,
        /// How many have such a name.
        count: usize,
    },
    /// It is in the plan that is applied.
    #[error("{release} is the release that {service} has now")]
    Current {
        /// The service.
        service: Name,
        /// The release, in short.
        release: String,
    },
    /// What the file says today goes to something that the release does not have.
    #[error("release {release} does not fit what {service} is today: {}", faults.join("; "))]
    Unfit {
        /// The service.
        service: Name,
        /// The release, in short.
        release: String,
        /// Every rule that is broken.
        faults: Vec<String>,
        /// How the first is mended.
        hint: String,
    },
    /// A tag has one digest, and another service names it.
    #[error("{image} was another image then, and {} has the image that it is now", others.join(", "))]
    Shared {
        /// The tag.
        image: String,
        /// Who else names it.
        others: Vec<String>,
    },
    /// No file can say it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It would be another release; nothing was written.
    #[error("the files would not give release {0}")]
    Differs(ReleaseId),
}

impl Problem for RollbackError {
    fn category(&self) -> Category {
        match self {
            Self::NoService { .. } | Self::Never(_) | Self::First { .. } | Self::Unknown { .. } => {
                Category::NotFound
            }
            Self::Ambiguous { .. } | Self::Current { .. } => Category::Conflict,
            Self::Unfit { .. } | Self::Shared { .. } => Category::Conflict,
            Self::Write(error) => error.category(),
            Self::Differs(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoService { there, .. } => match there.is_empty() {
                true => "there is none yet".into(),
                false => format!("there is {}", there.join(", ")),
            },
            Self::Never(_) => "vyr release ls lists what every service was".into(),
            Self::First { service, .. }
            | Self::Unknown { service, .. }
            | Self::Ambiguous { service, .. } => {
                format!("vyr release ls {service} lists them; 4 hex digits or more name one")
            }
            Self::Current { service, .. } => format!(
                "vyr ps --why {service} says what runs; vyr deploy deploys the files as they are"
            ),
            Self::Unfit { hint, .. } => hint.clone(),
            Self::Shared { others, .. } => format!(
                "name the image by its digest, or by another tag, in services/{}.toml",
                others.first().map_or("NAME", String::as_str)
            ),
            Self::Write(error) => return error.hint(),
            Self::Differs(_) => "take services/ and vyr.lock from git as they were".into(),
        })
    }
}

/// The release of a service that is meant, as the newest plan that had it has it. `plans` begins with
/// the one that is applied, each followed by its parent. `asked`: a digest or the first digits of it;
/// none: the newest that is another one than the applied plan's.
///
/// # Errors
/// There is none, there are several, or it is the applied plan's.
pub fn former<'a>(
    plans: &'a [ServicesPlan],
    service: &Name,
    asked: Option<&str>,
) -> Result<&'a ServiceEntry, RollbackError> {
    let current = plans.first().and_then(|plan| plan.service(service.as_str()));
    let current = current.map(|entry| entry.release);
    let mut all: Vec<&ServiceEntry> = Vec::new();
    for entry in plans.iter().filter_map(|plan| plan.service(service.as_str())) {
        if all.iter().all(|of| of.release != entry.release) {
            all.push(entry);
        }
    }
    if all.is_empty() {
        return Err(RollbackError::Never(service.clone()));
    }
    let service = service.clone();
    let Some(asked) = asked else {
        let mut others = all.into_iter().filter(|entry| Some(entry.release) != current);
        let current = current.map(|release| release.short()).unwrap_or_default();
        return others.next().ok_or(RollbackError::First { service, current });
    };
    let named: Vec<&ServiceEntry> =
        all.into_iter().filter(|entry| entry.release.is_named(asked)).collect();
    match named[..] {
        [] => Err(RollbackError::Unknown { service, asked: asked.to_owned() }),
        [only] if Some(only.release) == current => {
            Err(RollbackError::Current { service, release: only.release.short() })
        }
        [only] => Ok(only),
        _ => {
            let count = named.len();
            Err(RollbackError::Ambiguous { service, asked: asked.to_owned(), count })
        }
    }
}

/// The files with a release that a plan had. Nothing is written here.
///
/// # Errors
/// The service is not in the site, today's routes do not fit the release, its image's tag is another
/// service's too, or no file says what the plan had.
pub fn bring_back(
    intent: &Intent,
    lock: &Lock,
    entry: &ServiceEntry,
) -> Result<BroughtBack, RollbackError> {
    let service = entry.name();
    let manifests = || intent.services.iter().map(|of| of.manifest());
    let present = manifests().find(|manifest| manifest.service == *service).ok_or_else(|| {
        let there = manifests().map(|manifest| manifest.service.to_string()).collect();
        RollbackError::NoService { name: service.clone(), there }
    })?;
    let wanted = entry.manifest.with_rest_of(present);
    let faults = wanted.faults();
    if let Some(first) = faults.first() {
        return Err(RollbackError::Unfit {
            service: service.clone(),
            release: entry.release.short(),
            hint: first.hint.clone(),
            faults: faults.iter().map(Fault::to_string).collect(),
        });
    }
    let reference = &wanted.image.reference.0;
    let mut lock = lock.clone();
    let image = match reference.digest() {
        Ok(digest) => digest,
        Err(_) => {
            let others = manifests().filter(|of| of.service != *service);
            let others = others.filter(|of| of.image.reference.0 == *reference);
            let others: Vec<String> = others.map(|of| of.service.to_string()).collect();
            if !others.is_empty() && lock.services.pin(reference) != Some(entry.image) {
                return Err(RollbackError::Shared { image: reference.to_string(), others });
            }
            lock.pin(reference, entry.image);
            entry.image
        }
    };
    if Release::of(&wanted, image).id() != entry.release {
        return Err(RollbackError::Differs(entry.release));
    }
    let text = match wanted == *present {
        // Comments stay where nothing else would change.
        true => None,
        false => Some(manifest::write(&wanted)?),
    };
    Ok(BroughtBack { text, lock })
}
