//! `vyr bundle` and `vyr rebuild`: a node that can be thrown away.

use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use vyr_artifact::{AllowedSigners, TrustPolicy};
use vyr_base::{Category, Digest, Problem};
use vyr_net::words::{Answer, Bytes, Rebuild, Rebuilt, Request, WordsError};
use vyr_node::keys::SigningKey;
use vyr_node::network::{
    BundleRequest, Opener, RebuildRequest, bundle as write, carry, look, rebuild as make,
};
use vyr_node::{DataDir, Result};
use vyr_plan::bundle::{BUNDLE_VERSION, Header};
use vyr_plan::intent::FILE_BYTES_MAX;

use super::network::{backend, by, node};
use super::site::{Site, read_bounded};
use crate::cli::{BundleArgs, BundleCommand, RebuildArgs};
use crate::output;

/// Bytes of a list of keys.
const TRUST_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
enum BundleArgsError {
    #[error("{0} is not there")]
    Missing(String),
}

impl Problem for BundleArgsError {
    fn category(&self) -> Category {
        Category::NotFound
    }
}

/// What anybody may read of a bundle, in JSON.
#[derive(Serialize)]
struct Clear {
    bundle_digest: Digest,
    format: u8,
    site: String,
    machine: String,
    plan_digest: Digest,
    epoch: u64,
    made: Timestamp,
}

impl Clear {
    fn of(bundle_digest: Digest, header: &Header) -> Self {
        Self {
            bundle_digest,
            format: BUNDLE_VERSION,
            site: header.site.to_string(),
            machine: header.machine.to_string(),
            plan_digest: header.plan_digest,
            epoch: header.epoch,
            made: header.made,
        }
    }
}

#[derive(Serialize)]
struct BundledBody {
    kind: &'static str,
    #[serde(flatten)]
    clear: Clear,
    signer_key_id: String,
    recipients: Vec<String>,
    entries: Vec<EntryBody>,
    bytes: u64,
}

#[derive(Serialize)]
struct EntryBody {
    name: String,
    bytes: u64,
    digest: Digest,
}

#[derive(Serialize)]
struct ShownBody {
    kind: &'static str,
    #[serde(flatten)]
    clear: Clear,
    signer_key_id: String,
    /// Null: nobody was named who may sign.
    signer: Option<String>,
    bytes: u64,
}

#[derive(Serialize)]
struct RebuiltBody {
    kind: &'static str,
    #[serde(flatten)]
    clear: Clear,
    signer: String,
    approvers: Vec<String>,
    /// `nothing` or `confirmed`.
    outcome: &'static str,
    /// The digest of the host, read back.
    found: Digest,
    artifacts: u64,
    artifacts_missing: u64,
    unasked: Vec<String>,
}

fn trust(path: &Path) -> Result<TrustPolicy> {
    let bytes = read_bounded(path, TRUST_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| BundleArgsError::Missing(path.display().to_string()))?;
    Ok(TrustPolicy { signers: AllowedSigners::parse(&bytes)?, ..TrustPolicy::default() })
}

pub(crate) fn bundle(
    open: impl FnOnce() -> Result<DataDir>,
    args: &BundleArgs,
    json: bool,
) -> Result<ExitCode> {
    let (key, out) = match (&args.command, &args.key, &args.out) {
        (Some(BundleCommand::Show { file, trust }), ..) => {
            return show(file, trust.as_deref(), json);
        }
        (None, Some(key), Some(out)) => (key, out),
        _ => unreachable!("both are required without a subcommand"),
    };
    let lock = match &args.site.site {
        Some(site) => {
            let path = Site::find(Some(site))?.path("vyr.lock");
            read_bounded(&path, FILE_BYTES_MAX)?
        }
        None => None,
    };
    let key = SigningKey::open(key)?;
    let written = write(
        &open()?,
        &BundleRequest {
            key: &key,
            out,
            machine: args.machine.as_deref(),
            parents: args.parents.into(),
            digests_only: args.digests_only,
            lock,
        },
    )?;
    if json {
        let entries = written.entries.into_iter().map(|entry| EntryBody {
            name: entry.item.to_string(),
            bytes: entry.bytes,
            digest: entry.digest,
        });
        output::json_line(BundledBody {
            kind: "bundle",
            clear: Clear::of(written.digest, &written.header),
            signer_key_id: written.signer_key_id,
            recipients: written.recipients,
            entries: entries.collect(),
            bytes: written.bytes,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(written.digest.to_string());
    for entry in &written.entries {
        output::say(format!("  {} ({} bytes)", entry.item, entry.bytes));
    }
    let out = out.display();
    output::say(format!(
        "{} of epoch {}, signed by {}; {} keys open it",
        written.header.machine,
        written.header.epoch,
        written.signer_key_id,
        written.recipients.len()
    ));
    output::say(format!("look into it: vyr bundle show {out} --trust operators.allowed_signers"));
    output::say(format!(
        "restore: vyr rebuild {out} --trust operators.allowed_signers --identity KEY"
    ));
    output::say(format!("undo: rm {out}"));
    Ok(ExitCode::SUCCESS)
}

fn show(file: &Path, keys: Option<&Path>, json: bool) -> Result<ExitCode> {
    let policy = keys.map(trust).transpose()?;
    let checked = look(file, policy.as_ref())?;
    let clear = Clear::of(checked.head.digest, &checked.head.header);
    let signer = checked.signer.map(|of| of.principal);
    let (signer_key_id, bytes) = (checked.head.key_id.clone(), checked.head.file_bytes());
    if json {
        output::json_line(ShownBody { kind: "bundle", clear, signer_key_id, signer, bytes })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(clear.bundle_digest.to_string());
    output::print(format!("  machine {} of {}", clear.machine, clear.site));
    output::print(format!("  epoch   {}, plan {}", clear.epoch, clear.plan_digest));
    output::print(format!("  made    {}", clear.made));
    output::print(match &signer {
        Some(name) => format!("  signed  by {name} {signer_key_id}, who may"),
        None => format!("  signed  with {signer_key_id}, says the file"),
    });
    output::print(format!("  bytes   {bytes}, all as they were when it was made"));
    if signer.is_none() {
        output::say("whether that is anybody's key: --trust operators.allowed_signers");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn rebuild(
    open: impl FnOnce() -> Result<DataDir>,
    args: &RebuildArgs,
    json: bool,
) -> Result<ExitCode> {
    let policy = trust(&args.trust)?;
    let made: Rebuilt = match &args.node {
        Some(named) => elsewhere(named, args, &policy)?,
        None => make(
            &open()?,
            &RebuildRequest {
                bundle: &args.bundle,
                trust: &policy,
                opener: Opener::Keys(&args.identity),
                machine: args.host.machine.as_deref(),
                at_least: args.at_least,
                threshold: args.threshold,
                anyway: args.anyway,
                by: &by(),
                backend: backend(&args.host).into(),
            },
        )?
        .into(),
    };
    told(made, json)
}

/// Has a host elsewhere become it.
fn elsewhere(named: &str, args: &RebuildArgs, policy: &TrustPolicy) -> Result<Rebuilt> {
    let site = Site::find(args.site.site.as_deref())?;
    let there = node(&site, named, None, &args.remote)?;
    let (bundle, file_key) = carry(&args.bundle, policy, &args.identity)?;
    let digest = look(&args.bundle, None)?.head.digest;
    let trust = read_bounded(&args.trust, TRUST_BYTES_MAX)?.unwrap_or_default();
    let answer = there.host.ask(Request::Rebuild(Box::new(Rebuild {
        bundle,
        file_key,
        trust: Bytes(trust),
        machine: args.host.machine.clone().or(there.machine),
        at_least: args.at_least,
        threshold: args.threshold,
        anyway: args.anyway,
        by: by(),
        backend: backend(&args.host),
    })))?;
    match answer {
        Answer::Rebuilt(made) if made.bundle == digest => Ok(*made),
        _ => Err(WordsError::Form("it answers another question".into()).into()),
    }
}

fn told(made: Rebuilt, json: bool) -> Result<ExitCode> {
    if json {
        output::json_line(RebuiltBody {
            kind: "rebuild",
            clear: Clear {
                bundle_digest: made.bundle,
                format: BUNDLE_VERSION,
                site: made.site,
                machine: made.machine,
                plan_digest: made.plan,
                epoch: made.epoch,
                made: made.made,
            },
            signer: made.signer,
            approvers: made.approvers,
            outcome: if made.nothing { "nothing" } else { "confirmed" },
            found: made.found,
            artifacts: made.artifacts,
            artifacts_missing: made.artifacts_missing,
            unasked: made.unasked,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(made.found.to_string());
    for what in &made.unasked {
        output::say(format!("the old node: {}", output::visible(what)));
    }
    let approvers = output::visible(&made.approvers.join(", "));
    let (machine, signer) = (output::visible(&made.machine), output::visible(&made.signer));
    output::say(format!("{machine} by {signer}, plan {} of epoch {}", made.plan, made.epoch));
    output::say(format!("  approved by {approvers}"));
    output::say(match made.nothing {
        true => "nothing to do: the host was that node already",
        false => "the host is that node; the digest above is its own, read back",
    });
    if made.artifacts_missing > 0 {
        output::say(format!(
            "{} artifacts are only named in it, and are not here: vyr artifact import",
            made.artifacts_missing
        ));
    }
    output::say("at each start of the machine: vyr network start");
    output::say("undo: switch this host off; the bundle makes it again elsewhere");
    Ok(ExitCode::SUCCESS)
}
