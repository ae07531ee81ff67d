//! `vyr plan`: what would change, and under which digest.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::services::ServicesPlan;
use vyr_plan::{Diff, Outcome, Plan, name_some, render};

use super::directory::write_whole;
use super::{OfSite, Site, refuse};
use crate::cli::{Kind, PlanArgs};
use crate::output::{self, Out};

#[derive(Debug, thiserror::Error)]
enum RenderError {
    #[error("{0} is there already")]
    There(PathBuf),
    #[error("a services plan has nothing to render")]
    Services,
}

impl Problem for RenderError {
    fn category(&self) -> Category {
        match self {
            Self::There(_) => Category::Conflict,
            Self::Services => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::There(_) => "name a new directory: nothing is written over".into(),
            Self::Services => "a node reads the plan itself: --out FILE writes it".into(),
        })
    }
}

#[derive(Serialize)]
struct Planned<'a> {
    kind: &'static str,
    plan_digest: Digest,
    epoch: u64,
    parent: Option<Digest>,
    diff: &'a Diff,
    contracts: &'a [Outcome],
}

pub(crate) fn plan(args: &PlanArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    match args.kind {
        Kind::Network => planned::<Plan>(&site, args, json, rendered),
        Kind::Services => {
            planned::<ServicesPlan>(&site, args, json, |_, _| Err(RenderError::Services.into()))
        }
    }
}

/// Writes and tells a plan of either kind.
fn planned<P: OfSite>(
    site: &Site,
    args: &PlanArgs,
    json: bool,
    render: fn(&P, &Path) -> Result<()>,
) -> Result<ExitCode> {
    let compiled = match P::compiled(site)? {
        Ok(compiled) => compiled,
        Err(refused) => return refuse(&refused, json),
    };
    if let Some(directory) = args.render.as_deref() {
        render(&compiled.plan, directory)?;
    }
    let applied = compiled.applied.as_ref().map(|applied| &applied.plan);
    let changes = P::compare(applied, Some(&compiled.plan));
    let to_stdout = args.out.as_deref().is_some_and(|file| file.as_os_str() == "-");
    if let Some(file) = args.out.as_deref() {
        let mut out = Out::create((!to_stdout).then_some(file))?;
        out.write(&compiled.plan.to_bytes()?)?;
        out.finish()?;
    }
    compiled.warn();
    if json && !to_stdout {
        output::json_line(Planned {
            kind: P::KIND.as_str(),
            plan_digest: compiled.digest,
            epoch: compiled.plan.epoch(),
            parent: compiled.plan.parent(),
            diff: &changes,
            contracts: &compiled.outcomes,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    // The plan itself is the data when it goes to stdout; the rest is narration then.
    let tell = |line: String| if to_stdout { output::say(line) } else { output::print(line) };
    show(&changes, &tell);
    tell(format!("plan_digest {} epoch {}", compiled.digest, compiled.plan.epoch()));
    output::say(match P::KIND {
        vyr_plan::Kind::Network => "next: vyr plan sign --key FILE",
        vyr_plan::Kind::Services => "next: vyr plan sign services --key FILE",
    });
    Ok(ExitCode::SUCCESS)
}

/// A directory a machine, in a directory that was not there.
fn rendered(plan: &Plan, directory: &Path) -> Result<()> {
    if directory.exists() {
        return Err(RenderError::There(directory.to_owned()).into());
    }
    for machine in &plan.machines {
        for file in render::server(plan, machine.name.as_str())? {
            write_whole(&directory.join(machine.name.as_str()).join(&file.name), &file.bytes)?;
        }
    }
    output::say(format!("undo: rm -r {}", directory.display()));
    Ok(())
}

/// A diff for people.
pub(super) fn show(diff: &Diff, tell: &dyn Fn(String)) {
    if diff.is_empty() {
        tell("nothing changes".into());
    }
    for change in &diff.changes {
        tell(format!("{} {}: {}", change.kind, change.name, change.what));
    }
    for change in &diff.reach {
        tell(format!("reach of {}:", name_some(&change.sources)));
        for (sign, flows) in [("+", &change.gains), ("-", &change.losses)] {
            for flow in flows {
                tell(format!("  {sign} {} to {}", flow.services.join(" "), name_some(&flow.to)));
            }
        }
    }
}
