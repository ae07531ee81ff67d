//! A host becomes the node that a bundle is of.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use vyr_artifact::{Namespace, TrustPolicy};
use vyr_base::Digest;
use vyr_net::announce;
use vyr_plan::bundle::{Approvals, Header, Item};
use vyr_plan::intent::Operator;
use vyr_plan::plan::TrustRoot;
use vyr_plan::render::PrivateKey;
use vyr_plan::{Approver, Plan, Root, approve, prove};
use zeroize::Zeroizing;

use super::carried::OneFile;
use super::open::{Inside, Small, look};
use super::{RecoveryError, twin};
use crate::age_keys::{Identities, identities};
use crate::data_dir::{replace, write_once};
use crate::network::change::{Authority, newer};
use crate::network::record::Lock;
use crate::network::{ApplyRequest, BackendChoice, Network, Outcome};
use crate::{DataDir, FileError, Result, Trust, artifact};

/// What is asked for.
#[derive(Debug)]
pub struct RebuildRequest<'a> {
    /// The bundle.
    pub bundle: &'a Path,
    /// Who may sign bundles, and plans.
    pub trust: &'a TrustPolicy,
    /// What opens it.
    pub opener: Opener<'a>,
    /// The machine, if it must be this one.
    pub machine: Option<&'a str>,
    /// The lowest epoch that is taken.
    pub at_least: u64,
    /// How many of those trusted must have approved the plan, if not as many as itself says.
    pub threshold: u8,
    /// Go on even if the old node answers.
    pub anyway: bool,
    /// Who asks.
    pub by: &'a str,
    /// What reads and changes the host.
    pub backend: BackendChoice,
}

/// What opens a bundle.
pub enum Opener<'a> {
    /// The keys of this file.
    Keys(&'a Path),
    /// The key of this one bundle.
    File(Zeroizing<[u8; 16]>),
}

impl std::fmt::Debug for Opener<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keys(path) => f.debug_tuple("Keys").field(path).finish(),
            Self::File(_) => f.write_str("File"),
        }
    }
}

/// What was made.
#[derive(Debug)]
pub struct Rebuilt {
    /// The bundle's name.
    pub bundle: Digest,
    /// What it says of itself.
    pub header: Header,
    /// Who signed it.
    pub signer: String,
    /// Who of those trusted approved the plan.
    pub approvers: Vec<String>,
    /// The digest of the host, read back: that of the old one, if it was as its plan says.
    pub state: Digest,
    /// What became of the change.
    pub outcome: Outcome,
    /// How many artifacts may run again.
    pub artifacts: usize,
    /// Artifacts that the bundle only names, and that are not in the store either.
    pub missing_artifacts: usize,
    /// What could not be asked of the old node.
    pub unasked: Vec<String>,
}

/// What makes a machine again.
pub(super) struct Ready {
    plan: Plan,
    bytes: Zeroizing<Vec<u8>>,
    approvals: Approvals,
    approvers: Vec<Approver>,
}

/// The artifacts between their bundle and the store: removed however that ends.
struct Archive(PathBuf);

impl Drop for Archive {
    fn drop(&mut self) {
        // The next run begins it anew; what it holds is no secret.
        let _ = fs::remove_file(&self.0);
    }
}

/// Nobody else rebuilds into this data directory while it lives: what a bundle brings of artifacts lies
/// in one file meanwhile, which the next one replaces whoever was killed.
fn alone(network: &Path) -> Result<File> {
    let path = network.join("rebuild.lock");
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(FileError::on("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RecoveryError::Underway.into()),
        Err(e) => Err(FileError::on("lock", &path)(e.into()).into()),
    }
}

/// Makes this host the node that a bundle is of. May be run again, whenever it was killed.
pub fn rebuild(data: &DataDir, request: &RebuildRequest<'_>) -> Result<Rebuilt> {
    let checked = look(request.bundle, Some(request.trust))?;
    let (header, bundle) = (checked.head.header.clone(), checked.head.digest);
    let signer = checked.signer.as_ref().map(|of| of.principal.clone()).unwrap_or_default();
    let network = Network::open(data.path())?;
    let here = network.record.host()?.map(|host| host.machine);
    let name = header.machine.to_string();
    for wanted in [request.machine.map(ToOwned::to_owned), here].into_iter().flatten() {
        if wanted != name {
            return Err(RecoveryError::OtherMachine { found: name, wanted }.into());
        }
    }
    if header.epoch < request.at_least {
        let (epoch, least) = (header.epoch, request.at_least);
        return Err(RecoveryError::Older { epoch, least }.into());
    }
    let (keys, named): (Identities, &Path) = match &request.opener {
        Opener::Keys(path) => (identities(path)?, path),
        Opener::File(key) => (vec![Box::new(OneFile(key.clone()))], request.bundle),
    };
    let _alone = alone(network.record.directory())?;
    let archive = Archive(network.record.directory().join("artifacts.tar"));
    let inside = checked.open(&keys, named, &archive.0)?;
    drop(keys);
    let trust = Some(request.trust);
    let ready = judge(header.plan_digest, &name, &inside.small, trust, request.threshold)?;
    for (what, same) in
        [("epoch", ready.plan.epoch == header.epoch), ("site", ready.plan.site == header.site)]
    {
        if !same {
            return Err(RecoveryError::Disagrees(what).into());
        }
    }
    let confirmed = network.record.confirmed()?;
    newer(&ready.plan, &header.plan_digest, confirmed.as_ref())?;
    let machine = ready.plan.machine(&name).ok_or_else(|| RecoveryError::Lacks(name.clone()))?;
    let mut unasked = match (request.anyway, twin::is_gone(machine)) {
        (_, Ok(unasked)) => unasked,
        (true, Err(e)) => vec![e.to_string()],
        (false, Err(e)) => return Err(e.into()),
    };

    let lock = network.record.lock()?;
    // What a run that died left is taken back first: with it goes what it brought of moved keys.
    network.recover(&lock)?;
    store(data, &network, &lock, &inside)?;
    drop(lock);
    // Otherwise they send to the old one for another minute. Twice, because a frame may be lost;
    // who cannot be told asks in the end.
    let tell = || announce().err().map(|e| format!("neighbours were not told: {e}"));
    unasked.extend(tell());
    let signed = ready.approvals.signed();
    let applied = network.apply_as(
        &ApplyRequest {
            plan: &ready.bytes,
            signed: &signed,
            machine: &name,
            by: request.by,
            within: None,
            probes: &[],
            dry_run: false,
            backend: request.backend.clone(),
            site_commit: None,
        },
        Authority::Confirmed,
    )?;
    tell();
    let standing = network.standing(&name, &request.backend)?;
    // Packets go again. What may run comes last: it can be large, and nobody waits for it as much.
    let artifacts = admit(data, &inside, &archive.0)?;
    Ok(Rebuilt {
        bundle,
        header,
        signer,
        approvers: ready.approvers.into_iter().map(|of| of.principal).collect(),
        state: standing.found,
        outcome: applied.outcome,
        artifacts,
        missing_artifacts: missing(data, &inside)?,
        unasked,
    })
}

/// Whether what is inside makes a machine again, with a plan that those who are trusted approved.
/// `trust`: none, and it is the plan's own operators. Who writes a bundle asks the same.
pub(super) fn judge(
    digest: Digest,
    machine: &str,
    small: &Small,
    trust: Option<&TrustPolicy>,
    threshold: u8,
) -> std::result::Result<Ready, RecoveryError> {
    let lacks = |what: String| RecoveryError::Lacks(what);
    let item = |item: Item| {
        let name = item.to_string();
        small.get(&item).ok_or_else(|| lacks(name))
    };
    let bytes = item(Item::Plan(digest))?.clone();
    let plan = Plan::parse_as(&bytes, &digest)?;
    let Some(own) = plan.machine(machine) else {
        return Err(RecoveryError::Disagrees("machine"));
    };
    let violations = prove(&plan, None);
    if !violations.is_empty() {
        return Err(RecoveryError::Broken(violations));
    }
    let approvals = Approvals::parse(item(Item::Approvals(digest))?)?;
    let operators = match trust {
        Some(trust) => trusted(&plan, trust),
        None => plan.trust.operators.clone(),
    };
    let threshold = plan.trust.threshold.max(threshold).max(1);
    let root = TrustRoot { threshold, operators, from: Vec::new() };
    // It was confirmed while they counted. That they ended since is of no matter: nothing changes.
    let then = Timestamp::MIN;
    let approved = approve(&plan, &digest, Root::Keys(&root), &approvals.signed(), then);
    let approvers = approved.map_err(RecoveryError::Approval)?.approvers;
    for link in &own.links {
        let text = item(Item::Key(link.name.clone()))?;
        let key = std::str::from_utf8(text).ok().and_then(|text| PrivateKey::parse(text).ok());
        if key.map(|key| key.public_key()) != Some(link.public_key) {
            return Err(RecoveryError::Disagrees("key of a link"));
        }
    }
    Ok(Ready { plan, bytes, approvals, approvers })
}

/// Of the plan's own operators those who are trusted here: who forges a plan can name operators in
/// it, but cannot sign for these.
fn trusted(plan: &Plan, trust: &TrustPolicy) -> Vec<Operator> {
    let entries = trust.signers.entries().iter();
    let mut operators: Vec<Operator> = entries
        .filter(|entry| entry.allows_namespace(Namespace::Plan.as_str()))
        .map(|entry| Operator {
            principal: entry.principal().into(),
            public_key: entry.public_key().into(),
        })
        .filter(|one| plan.trust.operators.iter().any(|own| own.public_key == one.public_key))
        .collect();
    operators.sort();
    operators.dedup();
    operators
}

/// A private key as its file has it.
pub(super) fn key_text(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(Base64::encode_string(key));
    text.push('\n');
    text
}

/// Puts everything but artifacts where it was. What is there already stays; another key is a refusal.
/// But for keys that took over under plans of which none holds here.
fn store(data: &DataDir, network: &Network, lock: &Lock, inside: &Inside) -> Result<()> {
    let (record, directory) = (&network.record, network.record.directory());
    let is_blank = record.confirmed_bytes()?.is_none() && record.pending()?.is_none();
    if is_blank {
        record.set_moved(lock, Vec::new())?;
    }
    for (item, bytes) in &inside.small {
        let name = match item {
            Item::Key(link) => format!("keys/{link}.key"),
            Item::NextKey(link) => format!("keys/{link}.next.key"),
            Item::Moved | Item::Plan(_) | Item::Approvals(_) | Item::Lock => item.to_string(),
            Item::AllowedSigners | Item::RevokedKeys => {
                trust_file(data, item, bytes)?;
                continue;
            }
            Item::Checkpoint => {
                let path = data.directory("node")?.join("predecessor.json");
                replace(&path, bytes)
                    .map_err(|source| RecoveryError::File { path: path.clone(), source })?;
                continue;
            }
            Item::Artifacts | Item::ArtifactDigests => continue,
        };
        let path = directory.join(name);
        let fail = |source| RecoveryError::File { path: path.clone(), source };
        let write = if is_blank && *item == Item::Moved { replace } else { write_once };
        write(&path, bytes).map_err(fail)?;
        if matches!(item, Item::Key(_) | Item::NextKey(_)) {
            let found = Zeroizing::new(fs::read(&path).map_err(fail)?);
            if found.trim_ascii_end() != bytes.trim_ascii_end() {
                return Err(RecoveryError::OtherKey { path }.into());
            }
        }
    }
    Ok(())
}

/// The owner's own list is never replaced: who set one by hand since knows better.
fn trust_file(data: &DataDir, item: &Item, bytes: &[u8]) -> Result<()> {
    data.directory("trust")?;
    let path = match item {
        Item::AllowedSigners => data.allowed_signers(),
        _ => data.revoked_keys(),
    };
    let written = write_once(&path, bytes);
    Ok(written.map_err(|source| RecoveryError::File { path, source })?)
}

/// Takes the artifacts in, each with its signature checked anew.
fn admit(data: &DataDir, inside: &Inside, archive: &Path) -> Result<usize> {
    if !inside.artifacts {
        return Ok(0);
    }
    let fail = |source| RecoveryError::File { path: archive.to_owned(), source };
    let file = File::open(archive).map_err(fail)?;
    Ok(artifact::import(data, &Trust::load(data)?, BufReader::new(file))?.len())
}

/// How many of the artifacts that the old node had are not here.
fn missing(data: &DataDir, inside: &Inside) -> Result<usize> {
    let Some(list) = inside.small.get(&Item::ArtifactDigests) else { return Ok(0) };
    let store = data.store()?;
    let mut missing = 0;
    for line in String::from_utf8_lossy(list).lines() {
        if let Ok(digest) = line.parse::<Digest>()
            && !store.contains(&digest)?
        {
            missing += 1;
        }
    }
    Ok(missing)
}
