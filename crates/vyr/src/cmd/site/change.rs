//! `vyr diff` and `vyr history`.

use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::plan::PLAN_BYTES_MAX;
use vyr_plan::{Diff, Plan, Root, approve, diff as compare};

use super::directory::read_bounded;
use super::{Site, compiled, refuse};
use crate::cli::{DiffArgs, HistoryArgs};
use crate::output;

/// Plans of a history that are told.
const HISTORY_MAX: usize = 10_000;

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no plan")]
struct NoSuchPlan(String);

impl Problem for NoSuchPlan {
    fn category(&self) -> Category {
        Category::NotFound
    }

    fn hint(&self) -> Option<String> {
        Some("sha256:.. of plans/, a file, or one of: applied, intent, empty".into())
    }
}

#[derive(Serialize)]
struct Compared {
    kind: &'static str,
    diff: Diff,
}

pub(crate) fn diff(args: &DiffArgs, json: bool) -> Result<ExitCode> {
    let site = || Site::find(args.site.site.as_deref());
    let mut plans = Vec::new();
    for name in [&args.before, &args.after] {
        plans.push(match name.as_str() {
            "empty" => None,
            "applied" => site()?.applied()?.map(|applied| applied.plan),
            "intent" => match compiled(&site()?)? {
                Ok(compiled) => Some(compiled.plan),
                Err(refused) => return refuse(&refused, json),
            },
            text => Some(match text.parse::<Digest>() {
                Ok(digest) => site()?.plan(&digest)?,
                Err(_) => {
                    let bytes = read_bounded(Path::new(text), PLAN_BYTES_MAX)?;
                    Plan::parse(&bytes.ok_or_else(|| NoSuchPlan(text.into()))?)?
                }
            }),
        });
    }
    let (before, after) = (plans[0].as_ref(), plans[1].as_ref());
    let diff = compare(before, after);
    if json {
        output::json_line(Compared { kind: "network", diff })?;
    } else {
        super::plan::show(&diff, &|line| output::print(line));
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Past {
    plan_digest: Digest,
    epoch: u64,
    parent: Option<Digest>,
    machines: usize,
    clients: usize,
    approvers: Vec<String>,
}

#[derive(Serialize)]
struct History {
    kind: &'static str,
    plans: Vec<Past>,
}

/// From the plan that is applied to the first one that is still here.
pub(crate) fn history(args: &HistoryArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let mut plans = Vec::new();
    let mut next = site.applied()?.map(|applied| (applied.digest, applied.plan));
    while let Some((digest, plan)) = next {
        let before = match plan.parent {
            // A parent that was not kept ends the history, and is named by its child.
            Some(parent) => site.plan(&parent).ok().map(|plan| (parent, plan)),
            None => None,
        };
        let root = match &before {
            Some((parent, plan)) => Root::Plan(plan, *parent),
            None => Root::Keys(&plan.trust),
        };
        // Who approved then: an approval that has ended since was one.
        let signed = site.approvals(&digest)?;
        let approvers =
            approve(&plan, &digest, root, &signed, Timestamp::MIN).map(|of| of.approvers);
        plans.push(Past {
            plan_digest: digest,
            epoch: plan.epoch,
            parent: plan.parent,
            machines: plan.machines.len(),
            clients: plan.clients.len(),
            approvers: approvers.into_iter().flatten().map(|of| of.principal).collect(),
        });
        next = before.filter(|_| plans.len() < HISTORY_MAX);
    }
    if json {
        output::json_line(History { kind: "network", plans })?;
        return Ok(ExitCode::SUCCESS);
    }
    for past in &plans {
        let by = match past.approvers.as_slice() {
            [] => "nobody that counts".to_owned(),
            names => names.join(", "),
        };
        output::print(format!(
            "{} epoch {}: {} machines, {} clients, approved by {by}",
            past.plan_digest, past.epoch, past.machines, past.clients
        ));
    }
    if plans.is_empty() {
        output::say("nothing was applied yet");
    }
    Ok(ExitCode::SUCCESS)
}
