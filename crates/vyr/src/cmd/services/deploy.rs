//! `vyr deploy`: lock, plan, approve, send, and wait until it is in force.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio_stream::StreamExt;
use vyr_api::operator::{Approval, DeployHead, DeployPart, DeployStep, deploy_part};
use vyr_base::{Category, Digest, Problem};
use vyr_node::{FileError, Result};
use vyr_plan::Document;
use vyr_plan::services::{SERVICES_BYTES_MAX, ServicesPlan};
use vyr_service::refuse::{self, Refusal};

use crate::cli::{DeployArgs, LockArgs, SiteArgs};
use crate::cmd::link::{Place, refused};
use crate::cmd::site::{self, OfSite, Site};
use crate::output;

/// Bytes of a plan in one message.
const PIECE: usize = 256 << 10;

/// Bytes of a file that say what it is.
const FIRST_BYTES: u64 = 64 << 10;

/// Bytes of an encrypted file of secrets.
const SEALED_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum DeployError {
    #[error("{}", .0.what())]
    Refused(Refusal),
    #[error("{0} is no site: it has no site.toml")]
    NoSite(PathBuf),
    #[error("the plan is approved by nobody here")]
    Unsigned,
    #[error("the node hung up before the deploy had ended")]
    HungUp,
    #[error("the secrets of {0} are not in the site any more")]
    Sealed(String),
}

impl Problem for DeployError {
    fn category(&self) -> Category {
        match self {
            Self::Refused(_) | Self::NoSite(_) => Category::Usage,
            Self::Unsigned => Category::Auth,
            Self::HungUp => Category::Transient,
            Self::Sealed(_) => Category::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Refused(refusal) => format!("{}; {}", refusal.why, refusal.instead),
            Self::NoSite(_) => "vyr init begins one; a service is a file of its services/".into(),
            Self::Unsigned => "vyr deploy --key FILE, or: vyr plan sign services".into(),
            Self::HungUp => "it goes on without us: vyr ps --why".into(),
            Self::Sealed(_) => "run it again".into(),
        })
    }
}

#[derive(Serialize)]
struct Deployed {
    kind: &'static str,
    plan_digest: Digest,
    deploy: String,
    node: String,
    approvers: Vec<String>,
    /// `succeeded`, `failed`; with `--no-wait` `accepted`.
    outcome: String,
    why: String,
}

pub(crate) fn deploy(place: &Place, args: DeployArgs, json: bool) -> Result<ExitCode> {
    let site = directory(&args)?;
    let site = || SiteArgs { site: site.clone() };
    let lock = LockArgs { site: site(), update: args.update, release: None, access: args.access };
    if let Some(refused) = site::lock_first(&lock)? {
        return site::refuse(&refused, json);
    }
    let of_site = Site::find(site().site.as_deref())?;
    let compiled = match ServicesPlan::compiled(&of_site)? {
        Ok(compiled) => compiled,
        Err(refused) => return site::refuse(&refused, json),
    };
    if let Some(key) = args.key {
        site::sign_first(&of_site, &compiled, &key, args.expires)?;
    }
    let digest = compiled.digest;
    let in_force = compiled.applied.as_ref().is_some_and(|of| of.digest == digest);
    let signed = of_site.approvals(&digest)?;
    if signed.is_empty() && !in_force {
        return Err(DeployError::Unsigned.into());
    }
    let approvals = signed
        .into_iter()
        .map(|of| Approval { text: of.text.into(), signature: of.signature.into() })
        .collect();
    let head = DeployHead { node: args.node.unwrap_or_default(), approvals };
    let parts = parts(&of_site, &compiled.plan, head)?;
    let link = place.node("vyr deploy")?;
    let waits = !args.no_wait;
    let done = link.with(async |mut client| {
        let steps = client.operator.deploy(tokio_stream::iter(parts)).await.map_err(refused)?;
        let mut steps = steps.into_inner();
        let first = steps.next().await.ok_or(DeployError::HungUp)?.map_err(refused)?;
        // The node has it: what is deployed next is made over this one.
        of_site.write("plans/applied.services", format!("{digest}\n").as_bytes())?;
        let mut deployed = Deployed {
            kind: "services",
            plan_digest: digest,
            deploy: first.deploy,
            node: first.node,
            approvers: first.approvers,
            outcome: "accepted".into(),
            why: String::new(),
        };
        if !waits {
            return Ok(deployed);
        }
        let bar = bar();
        while let Some(step) = steps.next().await {
            let DeployStep { said, outcome, why, .. } = step.map_err(refused)?;
            if !said.is_empty() {
                let said = output::visible(&said);
                bar.set_message(said.clone());
                if bar.is_hidden() {
                    output::say(said);
                }
            }
            if !outcome.is_empty() {
                bar.finish_and_clear();
                (deployed.outcome, deployed.why) = (outcome, why);
                return Ok(deployed);
            }
        }
        Err(DeployError::HungUp.into())
    })?;
    let failed = done.outcome == "failed";
    if json {
        output::json_line(&done)?;
    } else {
        output::print(format!("deploy {} {}", done.deploy, done.outcome));
        output::print(format!("plan_digest {digest} epoch {}", compiled.plan.epoch()));
        if !done.why.is_empty() {
            output::say(output::visible(&done.why));
        }
        if failed {
            output::say("what served before serves; see: vyr ps --why, vyr logs SERVICE");
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn bar() -> ProgressBar {
    if !output::is_live() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

/// The plan, and the encrypted files that it names.
fn parts(site: &Site, plan: &ServicesPlan, head: DeployHead) -> Result<Vec<DeployPart>> {
    let part = |part| DeployPart { part: Some(part) };
    let mut parts = vec![part(deploy_part::Part::Head(head))];
    let bytes = plan.to_bytes()?;
    debug_assert!(bytes.len() <= SERVICES_BYTES_MAX, "it compiled");
    let pieces =
        bytes.chunks(PIECE).map(|piece| part(deploy_part::Part::Plan(piece.to_vec().into())));
    parts.extend(pieces);
    for entry in &plan.services {
        let Some(digest) = entry.secrets else { continue };
        let name = format!("secrets/{}.age", entry.name());
        let sealed = site.bytes(&name, SEALED_BYTES_MAX)?;
        let sealed = sealed.filter(|bytes| Digest::of(bytes) == digest);
        let sealed = sealed.ok_or_else(|| DeployError::Sealed(entry.name().to_string()))?;
        parts.push(part(deploy_part::Part::Sealed(sealed.into())));
    }
    Ok(parts)
}

/// The site that is meant; what is no site but something of another tool is refused with its reason.
fn directory(args: &DeployArgs) -> Result<Option<PathBuf>> {
    let Some(path) = &args.path else { return Ok(args.site.site.clone()) };
    if path.join("site.toml").is_file() {
        return Ok(Some(path.clone()));
    }
    let refusal = match path.is_dir() {
        true => files(path)?.iter().find_map(|file| look(file)),
        false => look(path),
    };
    match refusal {
        Some(refusal) => Err(DeployError::Refused(refusal).into()),
        None => Err(DeployError::NoSite(path.clone()).into()),
    }
}

/// The first of a directory's files, sorted.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).map_err(FileError::on("list", directory))?;
    let mut files: Vec<PathBuf> = entries.flatten().take(1000).map(|of| of.path()).collect();
    files.sort();
    Ok(files)
}

fn look(file: &Path) -> Option<Refusal> {
    let name = file.file_name()?.to_string_lossy().into_owned();
    let mut first = Vec::new();
    if file.is_file() {
        let _ = File::open(file).ok()?.take(FIRST_BYTES).read_to_end(&mut first);
    }
    refuse::look(&name, &first)
}
