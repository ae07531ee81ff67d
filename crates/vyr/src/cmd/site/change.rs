//! `vyr diff` and `vyr history`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::plan::PLAN_BYTES_MAX;
use vyr_plan::services::ServicesPlan;
use vyr_plan::{Diff, Plan, Root, approve};

use super::directory::read_bounded;
use super::{OfSite, Refused, Site, refuse};
use crate::cli::{DiffArgs, HistoryArgs, Kind};
use crate::output;

/// Plans of a history that are told.
const HISTORY_MAX: usize = 10_000;

#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error("{0:?} is no plan")]
    NoSuchPlan(String),
    #[error("a diff is of two plans")]
    TooMany,
}

impl Problem for DiffError {
    fn category(&self) -> Category {
        match self {
            Self::NoSuchPlan(_) => Category::NotFound,
            Self::TooMany => Category::Usage,
        }
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
    let (kind, [before, after]) = args.read().ok_or(DiffError::TooMany)?;
    let diff = match kind {
        Kind::Network => compared::<Plan>(args, before, after)?,
        Kind::Services => compared::<ServicesPlan>(args, before, after)?,
    };
    let diff = match diff {
        Ok(diff) => diff,
        Err(refused) => return refuse(&refused, json),
    };
    if json {
        output::json_line(Compared { kind: kind.as_str(), diff })?;
    } else {
        super::plan::show(&diff, &|line| output::print(line));
    }
    Ok(ExitCode::SUCCESS)
}

/// A plan of a diff; none: the empty one.
type Side<P> = std::result::Result<Option<P>, Refused>;

fn compared<P: OfSite>(
    args: &DiffArgs,
    before: &str,
    after: &str,
) -> Result<std::result::Result<Diff, Refused>> {
    Ok(match (side::<P>(args, before)?, side::<P>(args, after)?) {
        (Ok(before), Ok(after)) => Ok(P::compare(before.as_ref(), after.as_ref())),
        (Err(refused), _) | (_, Err(refused)) => Err(refused),
    })
}

fn side<P: OfSite>(args: &DiffArgs, name: &str) -> Result<Side<P>> {
    let site = || Site::find(args.site.site.as_deref());
    Ok(Ok(match name {
        "empty" => None,
        "applied" => site()?.applied_of()?.map(|applied| applied.plan),
        "intent" => match P::compiled(&site()?)? {
            Ok(compiled) => Some(compiled.plan),
            Err(refused) => return Ok(Err(refused)),
        },
        text => Some(match text.parse::<Digest>() {
            Ok(digest) => site()?.plan_of(&digest)?,
            Err(_) => {
                let bytes = read_bounded(Path::new(text), PLAN_BYTES_MAX)?;
                P::parse(&bytes.ok_or_else(|| DiffError::NoSuchPlan(text.into()))?)?
            }
        }),
    }))
}

#[derive(Serialize)]
struct Past {
    plan_digest: Digest,
    epoch: u64,
    parent: Option<Digest>,
    #[serde(flatten)]
    size: BTreeMap<&'static str, usize>,
    approvers: Vec<String>,
}

#[derive(Serialize)]
struct History {
    kind: &'static str,
    plans: Vec<Past>,
}

/// From the plan that is applied to the first one that is still here.
pub(crate) fn history(args: &HistoryArgs, json: bool) -> Result<ExitCode> {
    match args.kind {
        Kind::Network => past::<Plan>(args, json),
        Kind::Services => past::<ServicesPlan>(args, json),
    }
}

fn past<P: OfSite>(args: &HistoryArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let mut plans = Vec::new();
    let mut next = site.applied_of::<P>()?.map(|applied| (applied.digest, applied.plan));
    while let Some((digest, plan)) = next {
        let before = match plan.parent() {
            // A parent that was not kept ends the history, and is named by its child.
            Some(parent) => site.plan_of::<P>(&parent).ok().map(|plan| (parent, plan)),
            None => None,
        };
        let root = match &before {
            Some((parent, plan)) => Root::Plan(plan, *parent),
            None => Root::Keys(plan.trust()),
        };
        // Who approved then: an approval that has ended since was one.
        let signed = site.approvals(&digest)?;
        let approvers =
            approve(&plan, &digest, root, &signed, Timestamp::MIN).map(|of| of.approvers);
        plans.push(Past {
            plan_digest: digest,
            epoch: plan.epoch(),
            parent: plan.parent(),
            size: plan.size(),
            approvers: approvers.into_iter().flatten().map(|of| of.principal).collect(),
        });
        next = before.filter(|_| plans.len() < HISTORY_MAX);
    }
    if json {
        output::json_line(History { kind: P::KIND.as_str(), plans })?;
        return Ok(ExitCode::SUCCESS);
    }
    for past in &plans {
        let by = match past.approvers.as_slice() {
            [] => "nobody that counts".to_owned(),
            names => names.join(", "),
        };
        // What there is one of for each of the others comes first.
        let size = past.size.iter().rev().map(|(what, count)| format!("{count} {what}"));
        let size = size.collect::<Vec<_>>().join(", ");
        let (digest, epoch) = (past.plan_digest, past.epoch);
        output::print(format!("{digest} epoch {epoch}: {size}, approved by {by}"));
    }
    if plans.is_empty() {
        output::say("nothing was applied yet");
    }
    Ok(ExitCode::SUCCESS)
}
