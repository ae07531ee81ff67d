//! `vyr verify PLAN --trust KEYS`: a plan elsewhere, without its site.

use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use vyr_artifact::{AllowedSigners, Namespace};
use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_plan::intent::Operator;
use vyr_plan::plan::{PLAN_BYTES_MAX, TrustRoot, kind_of};
use vyr_plan::services::{ServicesPlan, prove_services};
use vyr_plan::{Approver, Document, Kind, Plan, Root, Violation, approve, prove};

use super::directory::{approvals, read_bounded};
use crate::output;

/// Bytes of a list of keys.
const KEYS_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("no keys were named: nothing is trusted by itself")]
    NoTrust,
    #[error("{0} is not there")]
    Missing(String),
    #[error("{0} names nobody who may sign plans")]
    NoKeys(String),
    #[error("{0} is neither a list of keys nor a plan")]
    NotTrust(String),
    #[error("{0} names several keys, and not how many must sign")]
    Threshold(String),
    #[error("the plan breaks {} of its invariants, {} first: {}", .0.len(), .0[0].id, .0[0].what)]
    Broken(Vec<Violation>),
}

impl Problem for VerifyError {
    fn category(&self) -> Category {
        match self {
            Self::NoTrust | Self::NoKeys(_) => Category::Auth,
            Self::Missing(_) => Category::NotFound,
            Self::NotTrust(_) | Self::Threshold(_) => Category::Usage,
            Self::Broken(_) => Category::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoTrust => "--trust operators.allowed_signers, or the plan it replaces".into(),
            Self::NoKeys(_) => "a line needs namespaces=\"vyr-plan\" or none".into(),
            Self::Threshold(_) => "--threshold K".into(),
            Self::Broken(_) => "whoever made it did not run vyr as it is".into(),
            Self::Missing(_) | Self::NotTrust(_) => return None,
        })
    }
}

#[derive(Serialize)]
struct Verified {
    kind: &'static str,
    plan_digest: Digest,
    site: String,
    epoch: u64,
    parent: Option<Digest>,
    threshold: u8,
    approvers: Vec<Approver>,
    changes_trust: bool,
}

/// Whether a file is a plan, as far as its first bytes tell.
pub(crate) fn is_plan(bytes: &[u8]) -> bool {
    // Canonical JSON has its keys sorted, and the first one of a network plan and of a services plan
    // is this.
    bytes.starts_with(b"{\"clients\":") || bytes.starts_with(b"{\"epoch\":")
}

pub(crate) fn run(
    file: &Path,
    trust: Option<&Path>,
    threshold: Option<u8>,
    json: bool,
) -> Result<ExitCode> {
    let bytes = read(file, PLAN_BYTES_MAX)?;
    let asked = Asked { file, bytes: &bytes, trust, threshold };
    match kind_of(&bytes) {
        Some(Kind::Services) => verified::<ServicesPlan>(&asked, prove_services, json),
        _ => verified::<Plan>(&asked, prove, json),
    }
}

/// What is to be verified, and against what.
struct Asked<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    trust: Option<&'a Path>,
    threshold: Option<u8>,
}

fn read(path: &Path, most: usize) -> Result<Vec<u8>> {
    let found = read_bounded(path, most)?;
    Ok(found.ok_or_else(|| VerifyError::Missing(path.display().to_string()))?)
}

fn verified<P: Document>(
    asked: &Asked<'_>,
    prove: impl Fn(&P, Option<&P>) -> Vec<Violation>,
    json: bool,
) -> Result<ExitCode> {
    let plan = P::parse(asked.bytes)?;
    let digest = Digest::of(asked.bytes);
    let trust = asked.trust.ok_or(VerifyError::NoTrust)?;
    let name = trust.display().to_string();
    let known = read(trust, PLAN_BYTES_MAX)?;
    let parent;
    let keys;
    let (root, before) = if is_plan(&known) {
        parent = P::parse(&known)?;
        (Root::Plan(&parent, Digest::of(&known)), Some(&parent))
    } else {
        keys = listed(&known, &name, asked.threshold)?;
        (Root::Keys(&keys), None)
    };
    let needed = root.trust().threshold;
    let beside = asked.file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let signed = approvals(beside.unwrap_or(Path::new(".")), &digest)?;
    let approved = approve(&plan, &digest, root, &signed, Timestamp::now())?;
    let violations = prove(&plan, before);
    if !violations.is_empty() {
        return Err(VerifyError::Broken(violations).into());
    }
    if json {
        output::json_line(Verified {
            kind: P::KIND.as_str(),
            plan_digest: digest,
            site: plan.site().to_string(),
            epoch: plan.epoch(),
            parent: plan.parent(),
            threshold: needed,
            approvers: approved.approvers,
            changes_trust: approved.changes_trust,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let kind = match P::KIND {
        Kind::Network => "a plan",
        Kind::Services => "a services plan",
    };
    output::print(format!("{digest} is {kind} of {}, epoch {}", plan.site(), plan.epoch()));
    for approver in &approved.approvers {
        output::print(format!(
            "  approved by {} {} until {}",
            approver.principal, approver.key_id, approver.expires
        ));
    }
    output::print(format!(
        "  {} of {needed} needed approvals, all invariants proved",
        approved.approvers.len()
    ));
    if approved.changes_trust {
        output::print("  it changes who may approve the next one");
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(bytes: &[u8], name: &str, threshold: Option<u8>) -> Result<TrustRoot> {
    let within = bytes.get(..bytes.len().min(KEYS_BYTES_MAX)).unwrap_or_default();
    let signers = AllowedSigners::parse(within).map_err(|_| VerifyError::NotTrust(name.into()))?;
    let plans = |namespaces: Option<&str>| {
        namespaces.is_none_or(|list| list.split(',').any(|one| one == Namespace::Plan.as_str()))
    };
    let counts = signers.entries().iter().filter(|entry| plans(entry.namespaces()));
    let mut operators: Vec<Operator> = counts
        .map(|entry| Operator {
            principal: entry.principal().into(),
            public_key: entry.public_key().into(),
        })
        .collect();
    operators.sort();
    operators.dedup();
    let threshold = match (threshold, operators.len()) {
        (_, 0) => return Err(VerifyError::NoKeys(name.into()).into()),
        (Some(threshold), _) => threshold,
        (None, 1) => 1,
        (None, _) => return Err(VerifyError::Threshold(name.into()).into()),
    };
    Ok(TrustRoot { threshold, operators, from: Vec::new() })
}
