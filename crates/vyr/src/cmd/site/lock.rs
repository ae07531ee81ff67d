//! `vyr lock`: the only command that allocates, and the only one that asks what a tag means.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::intent::Name;
use vyr_plan::services::{ServicesPlan, Update, allocate_services, unpinned};
use vyr_plan::{Intent, Lock, allocate};
use vyr_vm::image::{Limits, Reference, RegistryError};

use super::{Refused, Site, read, refuse};
use crate::cli::LockArgs;
use crate::cmd::image::registry;
use crate::output;

/// How long a registry may take to say what a tag means.
const ASK_TIME: Duration = Duration::from_secs(60);

/// Why a tag was not pinned.
#[derive(Debug, thiserror::Error)]
enum LockError {
    #[error("the image {reference} of {services} is pinned to no digest")]
    Registry { reference: String, services: String, source: RegistryError },
    #[error("there is no service {0}")]
    NoService(Name),
    #[error("the site has come to name {0} while registries were asked")]
    Changed(String),
}

impl Problem for LockError {
    fn category(&self) -> Category {
        match self {
            Self::Registry { source, .. } => source.category(),
            Self::NoService(_) => Category::NotFound,
            Self::Changed(_) => Category::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry { source, .. } => source.hint().or_else(|| {
                Some("nothing was written: try again, or name the image by its digest".into())
            }),
            Self::NoService(_) => Some("name one of services/, without .toml".into()),
            Self::Changed(_) => Some("run it again".into()),
        }
    }
}

/// What the lock has come to say.
#[derive(Serialize)]
struct Locked {
    changed: bool,
    added: Vec<String>,
    removed: Vec<String>,
    #[serde(skip)]
    text: String,
}

pub(crate) fn lock(args: &LockArgs, json: bool) -> Result<ExitCode> {
    let locked = match locked(args)? {
        Ok(locked) => locked,
        Err(refused) => return refuse(&refused, json),
    };
    if json {
        output::json_line(locked)?;
        return Ok(ExitCode::SUCCESS);
    }
    locked.tell(&output::print);
    match locked.changed {
        true => {
            output::say("wrote vyr.lock: commit it with what you changed");
            output::say("undo: git checkout vyr.lock");
        }
        false => output::say("vyr.lock is as it should be"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The first step of a longer command, whose stdout is its own: the text of the lock. Why not, if it
/// cannot be.
pub(crate) fn lock_first(args: &LockArgs) -> Result<std::result::Result<String, Refused>> {
    Ok(locked(args)?.map(|locked| {
        locked.tell(&output::say);
        locked.text
    }))
}

impl Locked {
    fn tell(&self, tell: &dyn Fn(String)) {
        self.added.iter().for_each(|line| tell(format!("+ {line}")));
        self.removed.iter().for_each(|line| tell(format!("- {line}")));
    }
}

fn locked(args: &LockArgs) -> Result<std::result::Result<Locked, Refused>> {
    let site = Site::find(args.site.site.as_deref())?;
    // A registry answers in its own time, and nobody waits for it who changes the same site.
    let asked = match read(&site)? {
        Ok((intent, old)) => ask(&intent, &old, args)?,
        Err(refused) => return Ok(Err(refused)),
    };
    let _alone = site.alone()?;
    let text = site.files()?.lock.map(|source| source.text().to_owned()).unwrap_or_default();
    let (intent, old) = match read(&site)? {
        Ok(read) => read,
        Err(refused) => return Ok(Err(refused)),
    };
    let (applied, services) = (site.applied()?, site.applied_of::<ServicesPlan>()?);
    let refused = |faults| Refused { category: Category::Usage, faults, outcomes: Vec::new() };
    let mut new = match allocate(&intent, &old, applied.as_ref()) {
        Ok(lock) => lock,
        Err(faults) => return Ok(Err(refused(faults))),
    };
    for (reference, digest) in &asked {
        new.pin(reference, *digest);
    }
    if let Some((reference, _)) = unpinned(&intent, &new, Update::None).first() {
        return Err(LockError::Changed(reference.to_string()).into());
    }
    if let Some(address) = args.release {
        new.release(&intent, services.as_ref(), address)?;
    }
    let new = match allocate_services(&intent, &new, services.as_ref()) {
        Ok(lock) => lock.to_string(),
        Err(faults) => return Ok(Err(refused(faults))),
    };
    let changed = new != text;
    if changed {
        site.write("vyr.lock", new.as_bytes())?;
    }
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) =
        (text.lines().collect(), new.lines().collect());
    let only = |of: &BTreeSet<&str>, other: &BTreeSet<&str>| {
        of.difference(other).map(|line| (*line).to_owned()).collect()
    };
    let (added, removed) = (only(&after, &before), only(&before, &after));
    Ok(Ok(Locked { changed, added, removed, text: new }))
}

/// Asks registries for the tags that are not pinned, or that are to be asked for again.
fn ask(intent: &Intent, lock: &Lock, args: &LockArgs) -> Result<Vec<(Reference, Digest)>> {
    let update = match &args.update {
        None => Update::None,
        Some(None) => Update::All,
        Some(Some(name)) => {
            let mut names = intent.services.iter().map(|of| &of.manifest().service);
            if !names.any(|service| service == name) {
                return Err(LockError::NoService(name.clone()).into());
            }
            Update::Service(name)
        }
    };
    let limits = Limits { total_time: ASK_TIME, blob_time: ASK_TIME, ..Limits::default() };
    let mut asked = Vec::new();
    for (reference, services) in unpinned(intent, lock, update) {
        let registry = registry(reference, &args.access, &limits)?;
        let digest = registry.resolve(reference).map_err(|source| {
            let services: Vec<&str> = services.iter().map(|name| name.as_str()).collect();
            let services = services.join(" and ");
            LockError::Registry { reference: reference.to_string(), services, source }
        })?;
        asked.push((reference.clone(), digest));
    }
    Ok(asked)
}
