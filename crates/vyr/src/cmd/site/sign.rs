//! `vyr plan sign`: an operator's approval, made here or elsewhere.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use vyr_artifact::{AllowedSigners, KeyId, Namespace, Signature, TrustPolicy};
use vyr_base::{Category, Digest, Problem};
use vyr_node::keys::SigningKey;
use vyr_node::{FileError, Result};
use vyr_plan::services::ServicesPlan;
use vyr_plan::{Approval, ApprovalError, Document, Plan, Root, approve};

use super::directory::read_bounded;
use super::{Compiled, OfSite, Site, refuse};
use crate::cli::{Kind, SignArgs};
use crate::output;

/// Bytes of a text or a signature that was made elsewhere.
const FILE_MAX: usize = 64 << 10;

/// Why nothing was approved.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("no key was named")]
    NoKey,
    #[error("{0} is not there")]
    Missing(String),
    #[error("the text is no approval")]
    NotAnApproval,
    #[error("the text approves {found}, and the site compiles to {plan}")]
    Other { found: Digest, plan: Digest },
    #[error("the approval does not count: {0}")]
    Refused(String),
}

impl Problem for SignError {
    fn category(&self) -> Category {
        match self {
            Self::NoKey | Self::NotAnApproval => Category::Usage,
            Self::Missing(_) => Category::NotFound,
            Self::Other { .. } => Category::Conflict,
            Self::Refused(_) => Category::Auth,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoKey => "--key FILE, or --request to sign elsewhere".into(),
            Self::Missing(_) => return None,
            Self::NotAnApproval => "print the text with `vyr plan sign --request`".into(),
            Self::Other { .. } => "the site changed since: sign what it is now".into(),
            Self::Refused(_) => "the key must be in operators.allowed_signers for vyr-plan".into(),
        })
    }
}

#[derive(Serialize)]
struct SignedPlan {
    kind: &'static str,
    plan_digest: Digest,
    signer_key_id: String,
    expires: Timestamp,
    approvers: Vec<String>,
    threshold: u8,
    approved: bool,
}

pub(crate) fn sign(args: &SignArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    match args.kind {
        Kind::Network => signed::<Plan>(&site, args, json),
        Kind::Services => signed::<ServicesPlan>(&site, args, json),
    }
}

fn signed<P: OfSite>(site: &Site, args: &SignArgs, json: bool) -> Result<ExitCode> {
    let compiled = match P::compiled(site)? {
        Ok(compiled) => compiled,
        Err(refused) => return refuse(&refused, json),
    };
    let now = Timestamp::now();
    let approval = Approval { plan: compiled.digest, expires: expires(now, args.expires) };
    if args.request {
        let written = io::stdout().write_all(approval.to_text().as_bytes());
        written.map_err(FileError::on("write", Path::new("stdout")))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (text, signature) = match (&args.approval, &args.signature, &args.key) {
        (Some(text), Some(signature), _) => (bytes(text)?, bytes(signature)?),
        (_, _, Some(key)) => {
            let text = approval.to_text().into_bytes();
            let signature = SigningKey::open(key)?.sign(Namespace::Plan, &text)?;
            (text, signature.into_bytes())
        }
        _ => return Err(SignError::NoKey.into()),
    };
    let (approval, key_id) = keep(site, &compiled, &text, &signature, now)?;
    report(site, &compiled, &approval, &key_id, json)
}

/// Approves a plan with a key, as a step of a longer command.
pub(crate) fn sign_first<P: OfSite>(
    site: &Site,
    compiled: &Compiled<P>,
    key: &Path,
    lasts_ms: u64,
) -> Result<()> {
    let now = Timestamp::now();
    let approval = Approval { plan: compiled.digest, expires: expires(now, lasts_ms) };
    let text = approval.to_text().into_bytes();
    let signature = SigningKey::open(key)?.sign(Namespace::Plan, &text)?;
    keep(site, compiled, &text, signature.as_bytes(), now).map(drop)
}

/// When an approval of now ends. Whole seconds: the text has one spelling, and nobody reads
/// nanoseconds.
fn expires(now: Timestamp, lasts_ms: u64) -> Timestamp {
    let lasts = SignedDuration::from_millis(i64::try_from(lasts_ms).unwrap_or(i64::MAX));
    Timestamp::from_second(now.as_second().saturating_add(lasts.as_secs()))
        .unwrap_or(Timestamp::MAX)
}

/// Writes the plan and an approval that counts.
fn keep<P: Document>(
    site: &Site,
    compiled: &Compiled<P>,
    text: &[u8],
    signature: &[u8],
    now: Timestamp,
) -> Result<(Approval, KeyId)> {
    let approval = Approval::parse(text).ok_or(SignError::NotAnApproval)?;
    if approval.plan != compiled.digest {
        let (found, plan) = (approval.plan, compiled.digest);
        return Err(SignError::Other { found, plan }.into());
    }
    let key_id = counted(compiled, &approval, text, signature, now)?;
    let hex = compiled.digest.hex();
    // The plan first: an approval of a plan that is not there would be a riddle.
    site.write(&format!("plans/{hex}.json"), &compiled.plan.to_bytes()?)?;
    let name = format!("plans/{hex}.{}", short(&key_id));
    site.write(&format!("{name}.sig"), signature)?;
    site.write(&format!("{name}.approval"), text)?;
    Ok((approval, key_id))
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let found = read_bounded(path, FILE_MAX)?;
    Ok(found.ok_or_else(|| SignError::Missing(path.display().to_string()))?)
}

/// A file's name from a key: its id has signs that names should not have.
fn short(key_id: &KeyId) -> String {
    Digest::of(key_id.as_str().as_bytes()).hex()[..16].to_owned()
}

/// The key of an approval that counts: for those in charge now, or for those to come.
fn counted<P: Document>(
    compiled: &Compiled<P>,
    approval: &Approval,
    text: &[u8],
    signature: &[u8],
    now: Timestamp,
) -> Result<KeyId> {
    let refuse = |why: String| SignError::Refused(why);
    if approval.expires <= now {
        return Err(refuse(format!("it ended at {}", approval.expires)).into());
    }
    let roots = [Some(compiled.plan.trust()), compiled.applied.as_ref().map(|of| of.plan.trust())];
    let mut why = String::from("nobody may sign yet");
    for root in roots.into_iter().flatten() {
        let lines = root.operators.iter().map(|of| {
            format!("{} namespaces=\"{}\" {}\n", of.principal, Namespace::Plan, of.public_key)
        });
        let Ok(signers) = AllowedSigners::parse(lines.collect::<String>().as_bytes()) else {
            continue;
        };
        let policy = TrustPolicy { signers, ..TrustPolicy::default() };
        match policy.verify(Namespace::Plan, text, signature, now) {
            Ok(signer) => return Ok(signer.key_id),
            Err(error) => why = error.to_string(),
        }
    }
    Signature::parse(signature).map_err(|error| refuse(error.to_string()))?;
    Err(refuse(why).into())
}

fn report<P: Document>(
    site: &Site,
    compiled: &Compiled<P>,
    approval: &Approval,
    key_id: &KeyId,
    json: bool,
) -> Result<ExitCode> {
    let signed = site.approvals(&compiled.digest)?;
    let root = match &compiled.applied {
        Some(applied) => Root::Plan(&applied.plan, applied.digest),
        None => Root::Keys(compiled.plan.trust()),
    };
    let threshold = root.trust().threshold;
    let verdict = approve(&compiled.plan, &compiled.digest, root, &signed, Timestamp::now());
    let (approvers, found) = match &verdict {
        Ok(approved) => {
            let names = approved.approvers.iter().map(|of| of.principal.clone());
            (names.collect(), approved.approvers.len())
        }
        Err(ApprovalError::TooFew { found, .. }) => (Vec::new(), *found),
        Err(_) => (Vec::new(), 0),
    };
    let approved = verdict.is_ok();
    if json {
        output::json_line(SignedPlan {
            kind: P::KIND.as_str(),
            plan_digest: compiled.digest,
            signer_key_id: key_id.to_string(),
            expires: approval.expires,
            approvers,
            threshold,
            approved,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(compiled.digest.to_string());
    output::say(format!("signed by {key_id}, until {}", approval.expires));
    match &verdict {
        Ok(_) => output::say(format!("approved by {}: enough", approvers.join(", "))),
        Err(why) => output::say(format!("{found} of {threshold} so far: {why}")),
    }
    output::say(format!("undo: rm plans/{}.{}.*", compiled.digest.hex(), short(key_id)));
    Ok(ExitCode::SUCCESS)
}
