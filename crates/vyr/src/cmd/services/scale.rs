//! `vyr scale`: another number in a manifest, then a deploy.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Problem, Source};
use vyr_node::Result;
use vyr_plan::intent::{Name, ScaleEditError, edit_scale};

use super::edited::Edited;
use crate::cli::{Scale, ScaleArgs};
use crate::cmd::link::Place;
use crate::cmd::site::{Refused, Site, refuse};
use crate::output;

#[derive(Debug, thiserror::Error)]
enum ScaleError {
    #[error("{service}/{process} is given two numbers")]
    Twice { service: Name, process: Name },
}

impl Problem for ScaleError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("name each process once".into())
    }
}

/// What the files have come to say.
#[derive(Serialize)]
struct ScaledBody<'a> {
    processes: &'a [Scaled],
    files: Vec<&'a str>,
}

#[derive(Serialize)]
struct Scaled {
    service: Name,
    process: Name,
    before: u8,
    scale: u8,
}

pub(crate) fn scale(
    place: impl Fn() -> Result<Place>,
    args: ScaleArgs,
    json: bool,
) -> Result<ExitCode> {
    let ScaleArgs { scales, edit_only, how } = args;
    let mut named = BTreeSet::new();
    for Scale { service, process, .. } in &scales {
        if !named.insert((service, process)) {
            let (service, process) = (service.clone(), process.clone());
            return Err(ScaleError::Twice { service, process }.into());
        }
    }
    let site = Site::find(how.site.site.as_deref())?;
    let place = if edit_only.edit_only { None } else { Some(place()?) };
    let alone = site.alone()?;
    let mut files = site.files()?;
    let before = files.services.clone();
    let mut processes = Vec::new();
    for Scale { service, process, count } in scales {
        let edited = match edit_scale(&files, &service, &process, count) {
            Ok(edited) => edited,
            Err(ScaleEditError::Faults(faults)) => return refuse(&Refused::of(faults), json),
            Err(e) => return Err(e.into()),
        };
        // The next one may be of the same file.
        for source in files.services.iter_mut().filter(|source| source.name() == edited.file) {
            *source = Source::new(&edited.file, edited.text.as_str());
        }
        processes.push(Scaled { service, process, before: edited.before, scale: count });
    }
    let changed = files.services.iter().zip(&before).filter(|(new, old)| new.text() != old.text());
    let texts = changed.map(|(new, _)| (new.name().to_owned(), new.text().to_owned()));
    let edited = Edited::write(site, texts.collect())?;
    drop(alone);
    let Some(place) = place else {
        return report(&processes, &edited, json);
    };
    processes.iter().for_each(|of| output::say(of.to_string()));
    edited.deploy(&place, how, |_| Ok(()), json)
}

impl std::fmt::Display for Scaled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { service, process, before, scale } = self;
        match before == scale {
            true => write!(f, "{service}/{process} {scale}, as it was"),
            false => write!(f, "{service}/{process} {before} -> {scale}"),
        }
    }
}

fn report(processes: &[Scaled], edited: &Edited, json: bool) -> Result<ExitCode> {
    let files = edited.changed();
    if json {
        output::json_line(ScaledBody { processes, files })?;
        return Ok(ExitCode::SUCCESS);
    }
    processes.iter().for_each(|of| output::print(of.to_string()));
    if files.is_empty() {
        output::say("nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    output::say("next: vyr deploy --key FILE");
    let back = processes.iter().filter(|of| of.before != of.scale);
    let back = back.map(|of| format!("{}/{}={}", of.service, of.process, of.before));
    let back = back.collect::<Vec<_>>().join(" ");
    output::say(format!("undo: vyr scale --edit-only {back}"));
    Ok(ExitCode::SUCCESS)
}
