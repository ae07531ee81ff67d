//! `vyr deploy`: lock, plan, approve, send, and wait until it is in force.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use vyr_api::operator::{Approval, DeployHead, DeployPart, DeployStep, deploy_part};
use vyr_base::{Category, Digest, Problem};
use vyr_node::{FileError, Report, Result};
use vyr_plan::Document;
use vyr_plan::services::{SERVICES_BYTES_MAX, ServicesPlan, undo};
use vyr_service::refuse::{self, Refusal};

use crate::cli::{DeployArgs, DeployOptions, LockArgs};
use crate::cmd::link::{self, Place, refused};
use crate::cmd::site::{self, OfSite, Refused, Site};
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
    #[error("the node hung up before it said whether it takes the plan")]
    Unheard,
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
            Self::Unheard | Self::HungUp => Category::Transient,
            Self::Sealed(_) => Category::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Refused(refusal) => format!("{}; {}", refusal.why, refusal.instead),
            Self::NoSite(_) => "vyr init begins one; a service is a file of its services/".into(),
            Self::Unsigned => "vyr deploy --key FILE, or: vyr plan sign services".into(),
            Self::Unheard => "run it again: what it took goes on (vyr ps --why)".into(),
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

/// How far a deploy came, whether it went on from there or not.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What the step `lock` left as `vyr.lock`; none: it left what was there.
    pub(super) lock: Option<String>,
    pub(super) reached: Reached,
}

/// Where the plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reached {
    /// No node has it.
    #[default]
    Nowhere,
    /// It was sent, and nobody knows what became of it.
    Sent,
    /// A node took it.
    Taken,
}

/// How it ended.
pub(super) enum Ended {
    /// There is no plan.
    Refused(Refused),
    /// A node took it.
    Taken(ExitCode),
}

pub(crate) fn deploy(place: &Place, args: DeployArgs, json: bool) -> Result<ExitCode> {
    let DeployArgs { path, mut how } = args;
    if let Some(path) = path {
        look_at(&path)?;
        how.site.site = Some(path);
    }
    match carry_out(place, how, &mut Progress::default(), |_| Ok(()), json)? {
        Ended::Taken(code) => Ok(code),
        Ended::Refused(refused) => site::refuse(&refused, json),
    }
}

/// Deploys what the site's files say; `progress` says how far it came, an error notwithstanding.
/// `is_meant` looks at the plan before anybody approves it.
pub(super) fn carry_out(
    place: &Place,
    how: DeployOptions,
    progress: &mut Progress,
    is_meant: impl FnOnce(&ServicesPlan) -> Result<()>,
    json: bool,
) -> Result<Ended> {
    let of_site = Site::find(how.site.site.as_deref())?;
    let DeployOptions { site, key, expires, update, node, no_wait, access } = how;
    match site::lock_first(&LockArgs { site, update, release: None, access })? {
        Ok(text) => progress.lock = Some(text),
        Err(refused) => return Ok(Ended::Refused(refused)),
    }
    let compiled = match ServicesPlan::compiled(&of_site)? {
        Ok(compiled) => compiled,
        Err(refused) => return Ok(Ended::Refused(refused)),
    };
    is_meant(&compiled.plan)?;
    if let Some(key) = key {
        site::sign_first(&of_site, &compiled, &key, expires)?;
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
    let head = DeployHead { node: node.unwrap_or_default(), approvals };
    let parts = parts(&of_site, &compiled.plan, head)?;
    let link = place.node("vyr deploy")?;
    let done = link.with(async |mut client| {
        progress.reached = Reached::Sent;
        let steps = client.operator.deploy(tokio_stream::iter(parts)).await.map_err(|status| {
            if is_lost(&status) {
                return Report::from(DeployError::Unheard);
            }
            let refused = refused(status);
            if said_no(&refused) {
                progress.reached = Reached::Nowhere;
            }
            refused.into()
        })?;
        let mut steps = steps.into_inner();
        let first = steps.next().await.ok_or(DeployError::Unheard)?;
        let first = first.map_err(|status| hung_up(status, DeployError::Unheard))?;
        progress.reached = Reached::Taken;
        // The node has it: what is deployed next is made over this one.
        of_site.write("plans/applied.services", format!("{digest}\n").as_bytes())?;
        let deployed = Deployed {
            kind: "services",
            plan_digest: digest,
            deploy: first.deploy,
            node: first.node,
            approvers: first.approvers,
            outcome: "accepted".into(),
            why: String::new(),
        };
        match no_wait {
            true => Ok(deployed),
            false => follow(steps, deployed).await,
        }
    })?;
    let applied = compiled.applied.as_ref().map(|applied| &applied.plan);
    report(&done, &compiled.plan, applied, json)?;
    Ok(Ended::Taken(ExitCode::from(u8::from(done.outcome == "failed"))))
}

/// Whether the node itself refused the plan. Who lost the connection, or a node that failed at it, may
/// have taken it.
fn said_no(refused: &link::Refused) -> bool {
    use Category::{Auth, Conflict, NotFound, Usage};
    matches!(refused.category(), Usage | Auth | NotFound | Conflict)
}

/// Whether it was not said by the node: the connection broke.
fn is_lost(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// What a node said that cannot go on, or that it is gone.
fn hung_up(status: Status, gone: DeployError) -> Report {
    match is_lost(&status) {
        true => gone.into(),
        false => refused(status).into(),
    }
}

/// Tells what the node says until the deploy has ended.
async fn follow(
    mut steps: impl Stream<Item = std::result::Result<DeployStep, Status>> + Unpin,
    mut deployed: Deployed,
) -> Result<Deployed> {
    let bar = bar();
    while let Some(step) = steps.next().await {
        let step = step.map_err(|status| hung_up(status, DeployError::HungUp))?;
        let DeployStep { said, outcome, why, .. } = step;
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
}

/// Says what came of it, and the way back.
fn report(
    done: &Deployed,
    plan: &ServicesPlan,
    before: Option<&ServicesPlan>,
    json: bool,
) -> Result<()> {
    let failed = done.outcome == "failed";
    if json {
        output::json_line(done)?;
    } else {
        output::print(format!("deploy {} {}", done.deploy, done.outcome));
        output::print(format!("plan_digest {} epoch {}", done.plan_digest, plan.epoch()));
        if !done.why.is_empty() {
            output::say(output::visible(&done.why));
        }
        if failed {
            output::say("what served before serves; see: vyr ps --why, vyr logs SERVICE");
        }
    }
    for step in undo(before, plan) {
        output::say(format!("undo: {step}"));
    }
    Ok(())
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

/// Whether it is a site; what is something of another tool is refused with its reason.
fn look_at(path: &Path) -> Result<()> {
    if path.join("site.toml").is_file() {
        return Ok(());
    }
    let refusal = match path.is_dir() {
        true => files(path)?.iter().find_map(|file| look(file)),
        false => look(path),
    };
    match refusal {
        Some(refusal) => Err(DeployError::Refused(refusal).into()),
        None => Err(DeployError::NoSite(path.to_owned()).into()),
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
