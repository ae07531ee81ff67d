//! A site's services, compiled: the second plan of the two.

use std::collections::BTreeMap;

use vyr_base::{Category, Diagnostic};
use vyr_node::Result;
use vyr_plan::services::{
    ServicesPlan, Update, allocate_services, compile_services, diff_services, prove_services,
    stale, unpinned,
};
use vyr_plan::{Applied, Diff};

use super::directory::SiteError;
use super::{Compiled, OfSite, Refused, Site, read};

impl OfSite for ServicesPlan {
    /// A site without any service is an error.
    fn compiled(site: &Site) -> Result<std::result::Result<Compiled<Self>, Refused>> {
        match compiled_if_any(site)? {
            Ok(Some(compiled)) => Ok(Ok(compiled)),
            Ok(None) => Err(SiteError::NoServices.into()),
            Err(refused) => Ok(Err(refused)),
        }
    }

    fn compare(before: Option<&Self>, after: Option<&Self>) -> Diff {
        diff_services(before, after)
    }

    fn size(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::from([("services", self.services.len()), ("slots", self.placements.len())])
    }
}

/// Compiles the services and proves them. The outer error: files that cannot be read. None: the site
/// has no services and had none.
pub(super) fn compiled_if_any(
    site: &Site,
) -> Result<std::result::Result<Option<Compiled<ServicesPlan>>, Refused>> {
    let applied: Option<Applied<ServicesPlan>> = site.applied_of()?;
    let network = site.applied()?.map(|applied| applied.digest);
    let refuse = |category, faults| Ok(Err(Refused { category, faults, outcomes: Vec::new() }));
    let (intent, old) = match read(site)? {
        Ok(read) => read,
        Err(refused) => return Ok(Err(refused)),
    };
    if intent.services.is_empty() && applied.is_none() {
        return Ok(Ok(None));
    }
    let stale = stale(&intent, &old, applied.as_ref());
    // Without its image a service cannot be compiled, and a registry is asked by `vyr lock` alone.
    if !unpinned(&intent, &old, Update::None).is_empty() {
        return refuse(Category::Conflict, stale);
    }
    // What a stale lock hides is found as well: with the lock that would be written.
    let lock = match stale.is_empty() {
        true => old,
        false => match allocate_services(&intent, &old, applied.as_ref()) {
            Ok(lock) => lock,
            Err(more) => return refuse(Category::Usage, [stale, more].concat()),
        },
    };
    let plan = match compile_services(&intent, &lock, applied.as_ref(), network) {
        Ok(plan) => plan,
        Err(more) => return refuse(Category::Usage, [stale, more].concat()),
    };
    let violations = prove_services(&plan, applied.as_ref().map(|applied| &applied.plan));
    if !violations.is_empty() {
        let found = violations.iter().map(|violation| violation.diagnostic(&intent));
        let all: Vec<Diagnostic> = stale.into_iter().chain(found).collect();
        return refuse(Category::Usage, all);
    }
    if !stale.is_empty() {
        return refuse(Category::Conflict, stale);
    }
    let digest = plan.digest()?;
    Ok(Ok(Some(Compiled { intent, lock, applied, plan, digest, outcomes: Vec::new() })))
}
