//! `vyr release rollback`: a former release of a service is written into its files, then deployed.

use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::intent::Name;
use vyr_plan::services::{ServicesPlan, bring_back, former};
use vyr_service::release::ReleaseId;

use super::edited::Edited;
use super::release::plans;
use crate::cli::ReleaseRollbackArgs;
use crate::cmd::link::Place;
use crate::cmd::site::{Site, read, refuse};
use crate::output;

#[derive(Debug, thiserror::Error)]
enum RollbackError {
    /// A tag was asked for again, or somebody changed the site meanwhile.
    #[error("the site compiles to another release of {service} than {}", wanted.short())]
    Another { service: Name, wanted: ReleaseId },
}

impl Problem for RollbackError {
    fn category(&self) -> Category {
        Category::Conflict
    }

    fn hint(&self) -> Option<String> {
        Some("run it again, without --update: that asks what the tag means now".into())
    }
}

/// What the files have come to say.
#[derive(Serialize)]
struct BroughtBackBody<'a> {
    service: &'a Name,
    release: ReleaseId,
    image: String,
    image_digest: Digest,
    files: Vec<&'a str>,
}

pub(super) fn rollback(
    place: impl Fn() -> Result<Place>,
    args: ReleaseRollbackArgs,
    json: bool,
) -> Result<ExitCode> {
    let ReleaseRollbackArgs { service, release, edit_only, how } = args;
    let site = Site::find(how.site.site.as_deref())?;
    let place = if edit_only.edit_only { None } else { Some(place()?) };
    let alone = site.alone()?;
    let (intent, lock) = match read(&site)? {
        Ok(read) => read,
        Err(refused) => return refuse(&refused, json),
    };
    let plans = plans(&site)?;
    let entry = former(&plans, &service, release.as_deref())?;
    let back = bring_back(&intent, &lock, entry)?;
    // The lock first: a tag that nobody names yet is nobody's, and one without its digest is asked for.
    let mut texts = Vec::new();
    let old = intent.files.lock.as_ref().map(|source| source.text());
    let new = back.lock.to_string();
    if old != Some(new.as_str()) {
        texts.push(("vyr.lock".to_owned(), new));
    }
    let is_rewritten = back.text.is_some();
    let file = format!("services/{service}.toml");
    texts.extend(back.text.map(|text| (file.clone(), text)));
    let edited = Edited::write(site, texts)?;
    drop(alone);
    let (wanted, image) = (entry.release, entry.manifest.image.reference.to_string());
    let told = format!("{service} {} {image}", wanted.short());
    let rewritten = || {
        if is_rewritten {
            output::say(format!("{file} is written anew: its comments are in git, if anywhere"));
        }
    };
    let Some(place) = place else {
        let files = edited.changed();
        if json {
            output::json_line(BroughtBackBody {
                service: &service,
                release: wanted,
                image,
                image_digest: entry.image,
                files,
            })?;
        } else {
            output::print(told);
        }
        rewritten();
        output::say("next: vyr deploy --key FILE");
        output::say(format!("undo: git checkout {file} vyr.lock"));
        return Ok(ExitCode::SUCCESS);
    };
    output::say(told);
    rewritten();
    let is_meant = |plan: &ServicesPlan| match plan.service(service.as_str()) {
        Some(entry) if entry.release == wanted => Ok(()),
        _ => Err(RollbackError::Another { service: service.clone(), wanted }.into()),
    };
    edited.deploy(&place, how, is_meant, json)
}
