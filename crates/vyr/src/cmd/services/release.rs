//! `vyr release`: what services were made of, read from the site's plans, and receipts of deploys.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use vyr_api::operator::GetDeployReceiptRequest;
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::Document;
use vyr_plan::services::{ServiceEntry, ServicesPlan};

use crate::cli::{ReleaseCommand, ReleaseLsArgs, ReleaseReceiptArgs, ReleaseShowArgs};
use crate::cmd::link::{Place, Reads, refused};
use crate::cmd::site::Site;
use crate::output::{self, Out};

use super::rollback::rollback;

/// Plans that are read.
const PLANS_MAX: usize = 1000;

#[derive(Debug, thiserror::Error)]
enum ReleaseError {
    #[error("no plan of this site has a release {0}")]
    Unknown(String),
    #[error("{0} names more than one release")]
    Ambiguous(String),
    #[error("nothing was ever recorded here")]
    NoRecords,
}

impl Problem for ReleaseError {
    fn category(&self) -> Category {
        match self {
            Self::Ambiguous(_) => Category::Usage,
            _ => Category::NotFound,
        }
    }

    fn hint(&self) -> Option<String> {
        Some("vyr release ls lists them".into())
    }
}

/// A release and the plans that had it.
#[derive(Serialize)]
struct Listed {
    service: String,
    release: Digest,
    image_digest: Digest,
    image: String,
    manifest_digest: Digest,
    /// Epochs of the plans that had it, newest first.
    epochs: Vec<u64>,
    /// Whether the last plan that a node took has it.
    current: bool,
}

pub(crate) fn release(
    place: impl Fn() -> Result<Place>,
    command: ReleaseCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        ReleaseCommand::Ls(args) => ls(&args, json),
        ReleaseCommand::Show(args) => show(&args, json),
        ReleaseCommand::Receipt(args) => receipt(&place()?, &args),
        ReleaseCommand::Rollback(args) => rollback(place, args, json),
    }
}

/// The applied plan and those before it, newest first. One that is not here any more ends them.
pub(super) fn plans(site: &Site) -> Result<Vec<ServicesPlan>> {
    let mut plans = Vec::new();
    let mut next = site.applied_of::<ServicesPlan>()?.map(|applied| applied.plan);
    while let Some(plan) = next {
        let parent = plan.parent().filter(|_| plans.len() + 1 < PLANS_MAX);
        plans.push(plan);
        next = parent.and_then(|parent| match site.plan_of(&parent) {
            Ok(plan) => Some(plan),
            Err(e) => {
                output::say(format!("what was before is not known: {e}"));
                None
            }
        });
    }
    Ok(plans)
}

fn listed(plans: &[ServicesPlan]) -> Vec<(Listed, &ServiceEntry)> {
    let mut found: Vec<(Listed, &ServiceEntry)> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    for (age, plan) in plans.iter().enumerate() {
        for entry in &plan.services {
            let release = entry.release.digest();
            let at = *places.entry(release).or_insert_with(|| {
                let manifest_digest = entry.manifest.digest();
                let listed = Listed {
                    service: entry.name().to_string(),
                    release,
                    image_digest: entry.image,
                    image: entry.manifest.image.reference.to_string(),
                    manifest_digest,
                    epochs: Vec::new(),
                    current: age == 0,
                };
                found.push((listed, entry));
                found.len() - 1
            });
            found[at].0.epochs.push(plan.epoch);
        }
    }
    found
}

fn ls(args: &ReleaseLsArgs, json: bool) -> Result<ExitCode> {
    let plans = plans(&Site::find(args.site.site.as_deref())?)?;
    let of = |listed: &Listed| args.service.as_ref().is_none_or(|of| of.as_str() == listed.service);
    for (listed, entry) in listed(&plans).iter().filter(|(listed, _)| of(listed)) {
        if json {
            output::json_line(listed)?;
            continue;
        }
        let epochs = match (listed.epochs.last(), listed.epochs.first()) {
            (Some(first), Some(last)) if first != last => format!("epochs {first} to {last}"),
            (_, last) => format!("epoch {}", last.copied().unwrap_or_default()),
        };
        let mark = if listed.current { " current" } else { "" };
        let (short, image) = (entry.release.short(), &listed.image);
        output::print(format!("{} {short} {epochs}{mark} {image}", listed.service));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ReleaseShowArgs, json: bool) -> Result<ExitCode> {
    let plans = plans(&Site::find(args.site.site.as_deref())?)?;
    let listed = listed(&plans);
    let mut named = listed.iter().filter(|(_, entry)| entry.release.is_named(&args.release));
    let (listed, entry) =
        named.next().ok_or_else(|| ReleaseError::Unknown(args.release.clone()))?;
    if named.next().is_some() {
        return Err(ReleaseError::Ambiguous(args.release.clone()).into());
    }
    if json {
        output::json_line(entry)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(format!("release  {}", listed.release));
    output::print(format!("service  {}", listed.service));
    output::print(format!("image    {} {}", listed.image, listed.image_digest));
    output::print(format!("manifest {}", listed.manifest_digest));
    for (name, process) in &entry.manifest.processes {
        let memory = process.resources.memory_bytes >> 20;
        output::print(format!("process  {name}: {} x {memory} MiB", process.scale));
    }
    Ok(ExitCode::SUCCESS)
}

fn receipt(place: &Place, args: &ReleaseReceiptArgs) -> Result<ExitCode> {
    let deploy = args.deploy.clone();
    let bytes = match place.reads()? {
        Reads::Node(link) => link.with(async |mut client| {
            let asked = GetDeployReceiptRequest { deploy: deploy.unwrap_or_default() };
            let receipt = client.operator.get_deploy_receipt(asked).await.map_err(refused)?;
            Ok(receipt.into_inner().file.to_vec())
        })?,
        Reads::Records(Some(records)) => records.deploy_receipt(deploy.as_deref())?.to_bytes(),
        Reads::Records(None) => return Err(ReleaseError::NoRecords.into()),
    };
    let mut out = Out::create(args.out.as_deref())?;
    out.write(&bytes)?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}
