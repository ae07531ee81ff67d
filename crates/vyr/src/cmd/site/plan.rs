//! `vyr plan`: what would change, and under which digest.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::{Diff, Outcome, Plan, diff, name_some, render};

use super::directory::write_whole;
use super::{Site, compiled, refuse};
use crate::cli::PlanArgs;
use crate::output::{self, Out};

#[derive(Debug, thiserror::Error)]
#[error("{0} is there already")]
struct RenderError(PathBuf);

impl Problem for RenderError {
    fn category(&self) -> Category {
        Category::Conflict
    }

    fn hint(&self) -> Option<String> {
        Some("name a new directory: nothing is written over".into())
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
    let compiled = match compiled(&site)? {
        Ok(compiled) => compiled,
        Err(refused) => return refuse(&refused, json),
    };
    let to_stdout = args.out.as_deref().is_some_and(|file| file.as_os_str() == "-");
    if let Some(file) = args.out.as_deref() {
        let mut out = Out::create((!to_stdout).then_some(file))?;
        out.write(&compiled.plan.to_bytes()?)?;
        out.finish()?;
    }
    if let Some(directory) = args.render.as_deref() {
        rendered(&compiled.plan, directory)?;
    }
    let applied = compiled.applied.as_ref().map(|applied| &applied.plan);
    let changes = diff(applied, Some(&compiled.plan));
    if json && !to_stdout {
        output::json_line(Planned {
            kind: "network",
            plan_digest: compiled.digest,
            epoch: compiled.plan.epoch,
            parent: compiled.plan.parent,
            diff: &changes,
            contracts: &compiled.outcomes,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    // The plan itself is the data when it goes to stdout; the rest is narration then.
    let tell = |line: String| if to_stdout { output::say(line) } else { output::print(line) };
    show(&changes, &tell);
    tell(format!("plan_digest {} epoch {}", compiled.digest, compiled.plan.epoch));
    output::say("next: vyr plan sign --key FILE");
    Ok(ExitCode::SUCCESS)
}

/// A directory a machine, in a directory that was not there.
fn rendered(plan: &Plan, directory: &Path) -> Result<()> {
    if directory.exists() {
        return Err(RenderError(directory.to_owned()).into());
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
