//! Writing a bundle: gathered, encrypted, signed, and there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use vyr_artifact::{Namespace, SIGNATURE_ARTIFACT_TYPE, signed_bytes};
use vyr_base::{Digest, Hasher};
use vyr_journal_sql::Reader;
use vyr_net::Keys;
use vyr_plan::Plan;
use vyr_plan::bundle::{Contents, Entry, HEADER_BYTES_MAX, Header, Item, Payload};
use vyr_plan::plan::Machine;
use zeroize::Zeroizing;

use super::RecoveryError;
use super::open::Small;
use super::rebuild::{judge, key_text};
use crate::age_keys::encryptor;
use crate::keys::SigningKey;
use crate::network::{Network, NetworkError};
use crate::{DataDir, Result};

/// Plans before the confirmed one that are taken along at most.
const PARENTS_MAX: usize = 64;

/// What is asked for.
pub struct BundleRequest<'a> {
    /// Who signs: a key that the reader of the bundle will trust for `vyr-bundle`.
    pub key: &'a SigningKey,
    /// Where it goes; nothing may be there.
    pub out: &'a Path,
    /// The machine, if it must be this one.
    pub machine: Option<&'a str>,
    /// How many plans before the confirmed one.
    pub parents: usize,
    /// Name the artifacts, and leave their bytes out.
    pub digests_only: bool,
    /// `vyr.lock` of the site, if it is at hand.
    pub lock: Option<Vec<u8>>,
}

/// What was written.
#[derive(Debug)]
pub struct Bundled {
    /// Its name.
    pub digest: Digest,
    /// What anybody may read of it.
    pub header: Header,
    /// What is inside.
    pub entries: Vec<Entry>,
    /// Who signed.
    pub signer_key_id: String,
    /// Who can open it.
    pub recipients: Vec<String>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What goes in: small things in memory, the artifacts in a file.
struct Gathered {
    small: Small,
    artifacts: Option<Scratch>,
}

/// A file that is removed when it is not needed any more.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    /// Follows no link, and takes nobody's file: others may write into the directory.
    fn new(path: PathBuf) -> std::result::Result<Self, RecoveryError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| RecoveryError::File { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    fn fail(&self) -> impl Fn(io::Error) -> RecoveryError + use<> {
        let path = self.path.clone();
        move |source| RecoveryError::File { path: path.clone(), source }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it tells nobody anything: artifacts, or encrypted bytes.
        let _ = fs::remove_file(&self.path);
    }
}

/// Counts and digests what passes.
struct Tee<W> {
    to: W,
    hasher: Hasher,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes the bundle of this host: its confirmed plan, what waits, and what it needs to be again.
pub fn bundle(data: &DataDir, request: &BundleRequest<'_>) -> Result<Bundled> {
    let network = Network::open(data.path())?;
    // Nobody confirms another plan while its parts are read. What takes long comes without the lock:
    // an agent may wait for a touch, and a change must be taken back in time all the same.
    let lock = network.record.lock()?;
    let bytes = network.record.confirmed_bytes()?.ok_or(NetworkError::NoPlan)?;
    let (digest, plan) = (Digest::of(&bytes), Plan::parse(&bytes)?);
    let host = network.record.host()?.ok_or(NetworkError::NoPlan)?;
    if let Some(wanted) = request.machine.filter(|wanted| *wanted != host.machine) {
        let (found, wanted) = (host.machine, wanted.to_owned());
        return Err(RecoveryError::OtherMachine { found, wanted }.into());
    }
    let machine = plan.machine(&host.machine).ok_or(NetworkError::NoPlan)?;
    if request.out.exists() {
        return Err(RecoveryError::Exists(request.out.to_owned()).into());
    }
    let encryptor = encryptor(plan.recovery.iter().map(String::as_str))
        .map_err(RecoveryError::from)?
        .ok_or(RecoveryError::NoRecipients(digest))?;
    let mut small = gather(data, &network, request, (&plan, machine), digest, bytes)?;
    drop(lock);
    // What cannot be rebuilt is not written.
    judge(digest, &host.machine, &small, None, 0).map_err(|e| match e {
        // Whatever was kept, it does not say that.
        RecoveryError::Approval(_) => RecoveryError::NoApprovals(digest),
        e => e,
    })?;
    let artifacts = artifacts(data, &network, request, &mut small)?;
    let gathered = Gathered { small, artifacts };

    let directory = request.out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let mut payload = Scratch::new(beside(request.out, "payload"))?;
    let (contents, sealed) = encrypt(gathered, encryptor, &mut payload)?;
    let header = Header {
        epoch: plan.epoch,
        machine: machine.name.clone(),
        made: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
        payload: sealed,
        plan_digest: digest,
        site: plan.site.clone(),
    };
    let mut head = header.to_bytes()?;
    assert!(head.len() <= HEADER_BYTES_MAX, "names are short, numbers and digests are too");
    let name = Digest::of(&head);
    head.extend(request.key.sign(Namespace::Bundle, &signed_bytes(&name))?.bytes());
    if !head.ends_with(b"\n") {
        head.push(b'\n');
    }
    let mut whole = Scratch::new(beside(request.out, "partial"))?;
    let fail = whole.fail();
    payload.file.seek(SeekFrom::Start(0)).map_err(payload.fail())?;
    whole.file.write_all(&head).map_err(&fail)?;
    let copied = io::copy(&mut payload.file, &mut whole.file).map_err(&fail)?;
    whole.file.sync_all().map_err(&fail)?;
    match renameat_with(CWD, &whole.path, CWD, request.out, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => return Err(RecoveryError::Exists(request.out.to_owned()).into()),
        renamed => renamed.map_err(|e| fail(e.into()))?,
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(&fail)?;
    Ok(Bundled {
        digest: name,
        header,
        entries: contents.entries,
        signer_key_id: vyr_artifact::KeyId::of(request.key.public_key()).to_string(),
        recipients: plan.recovery,
        bytes: copied + head.len() as u64,
    })
}

fn beside(out: &Path, what: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}-{}", std::process::id()));
    out.with_file_name(name)
}

fn gather(
    data: &DataDir,
    network: &Network,
    request: &BundleRequest<'_>,
    (plan, machine): (&Plan, &Machine),
    digest: Digest,
    bytes: Vec<u8>,
) -> Result<Small> {
    let mut small = Small::new();
    let mut put = |item: Item, bytes: Vec<u8>| {
        small.insert(item, Zeroizing::new(bytes));
    };
    let approvals = network.record.approvals(&digest)?.ok_or(RecoveryError::NoApprovals(digest))?;
    put(Item::Approvals(digest), approvals);
    put(Item::Plan(digest), bytes);
    // What waits, and what was before; of both only what is here.
    let waits = network.record.pending()?.map(|change| change.plan).filter(|of| *of != digest);
    let mut next = plan.parent;
    let mut more: Vec<Digest> = waits.into_iter().collect();
    for _ in 0..request.parents.min(PARENTS_MAX) {
        let Some(parent) = next else { break };
        let Some(bytes) = network.record.plan(&parent)? else { break };
        next = Plan::parse_as(&bytes, &parent)?.parent;
        more.push(parent);
    }
    for plan in more {
        if let Some(bytes) = network.record.plan(&plan)? {
            put(Item::Plan(plan), bytes);
        }
        if let Some(approvals) = network.record.approvals(&plan)? {
            put(Item::Approvals(plan), approvals);
        }
    }
    let keys = network.keys();
    keys.check(machine)?;
    for link in &machine.links {
        let missing = || RecoveryError::Lacks(format!("private key of {}", link.name));
        // The plan's, which is still called the next one if whoever confirmed the plan died then.
        let key = keys.private_key_of(&link.name, &link.public_key).ok_or_else(missing)?;
        put(Item::Key(link.name.clone()), key_text(&key).as_bytes().to_vec());
        if let Some(next) = keys.next_private_key(&link.name).filter(|next| *next != key) {
            put(Item::NextKey(link.name.clone()), key_text(&next).as_bytes().to_vec());
        }
    }
    if let Some(moved) = network.record.moved_bytes()? {
        put(Item::Moved, moved);
    }
    for (item, path) in
        [(Item::AllowedSigners, data.allowed_signers()), (Item::RevokedKeys, data.revoked_keys())]
    {
        match fs::read(&path) {
            Ok(bytes) => put(item, bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(RecoveryError::File { path, source }.into()),
        }
    }
    if let Some(lock) = &request.lock {
        put(Item::Lock, lock.clone());
    }
    if let Some(checkpoint) = checkpoint(data)? {
        put(Item::Checkpoint, checkpoint);
    }
    Ok(small)
}

/// The last checkpoint that the node's journal kept.
fn checkpoint(data: &DataDir) -> Result<Option<Vec<u8>>> {
    let path = data.journal();
    if !path.exists() {
        return Ok(None);
    }
    let reader = Reader::open(&path)?;
    let Some(last) = reader.checkpoints()?.into_iter().map(|(size, ..)| size).max() else {
        return Ok(None);
    };
    Ok(reader.checkpoint(last)?.map(|signed| signed.to_bytes()))
}

/// What may run, as its digests or as an archive in a file. Without a list of signers nothing may
/// run on the node that is rebuilt: a development key stays where it was made.
fn artifacts(
    data: &DataDir,
    network: &Network,
    request: &BundleRequest<'_>,
    small: &mut Small,
) -> Result<Option<Scratch>> {
    if !data.path().join("store").exists() || !data.allowed_signers().exists() {
        return Ok(None);
    }
    let store = data.store()?;
    let entries = store.entries()?;
    let is_artifact = |kind: Option<&str>| kind != Some(SIGNATURE_ARTIFACT_TYPE);
    let listed = entries.iter().filter(|entry| is_artifact(entry.artifact_type.as_deref()));
    let digests: Vec<Digest> = listed.map(|entry| entry.digest).collect();
    if digests.is_empty() {
        return Ok(None);
    }
    let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
    small.insert(Item::ArtifactDigests, Zeroizing::new(lines.into_bytes()));
    if request.digests_only {
        return Ok(None);
    }
    let name = format!("artifacts-{}.tar", std::process::id());
    let mut scratch = Scratch::new(network.record.directory().join(name))?;
    store.export(&digests, BufWriter::new(&mut scratch.file))?;
    Ok(Some(scratch))
}

fn encrypt(
    gathered: Gathered,
    encryptor: age::Encryptor,
    to: &mut Scratch,
) -> std::result::Result<(Contents, Payload), RecoveryError> {
    let Gathered { small, mut artifacts } = gathered;
    let entry = |(item, bytes): (&Item, &Zeroizing<Vec<u8>>)| Entry {
        item: item.clone(),
        bytes: bytes.len() as u64,
        digest: Digest::of(bytes),
    };
    let mut entries: Vec<Entry> = small.iter().map(entry).collect();
    if let Some(scratch) = &mut artifacts {
        let fail = scratch.fail();
        scratch.file.seek(SeekFrom::Start(0)).map_err(&fail)?;
        let mut tee = Tee { to: io::sink(), hasher: Hasher::new() };
        let bytes = io::copy(&mut scratch.file, &mut tee).map_err(&fail)?;
        entries.push(Entry { item: Item::Artifacts, bytes, digest: tee.hasher.finish() });
    }
    let contents = Contents::new(entries);
    let list = contents.to_bytes()?;

    let fail = to.fail();
    let tee = Tee { to: BufWriter::new(&mut to.file), hasher: Hasher::new() };
    let mut writer = encryptor.wrap_output(tee).map_err(&fail)?;
    writer.write_all(&list).map_err(&fail)?;
    for entry in &contents.entries {
        match (&entry.item, &mut artifacts) {
            (Item::Artifacts, Some(scratch)) => {
                scratch.file.seek(SeekFrom::Start(0)).map_err(scratch.fail())?;
                io::copy(&mut scratch.file, &mut writer).map_err(&fail)?;
            }
            (item, _) => {
                let bytes = small.get(item).expect("the list was made of these");
                writer.write_all(bytes).map_err(&fail)?;
            }
        }
    }
    let mut tee = writer.finish().map_err(&fail)?;
    tee.flush().map_err(&fail)?;
    let bytes = tee.hasher.bytes();
    Ok((contents, Payload { bytes, digest: tee.hasher.finish() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_written_through() {
        let directory = tempfile::tempdir().expect("a directory");
        let (victim, link) = (directory.path().join("victim"), directory.path().join("link"));
        fs::write(&victim, "theirs").expect("written");
        std::os::unix::fs::symlink(&victim, &link).expect("made");
        assert!(Scratch::new(link.clone()).is_err() && Scratch::new(victim.clone()).is_err());
        assert_eq!(fs::read(&victim).expect("there"), b"theirs");
        assert!(link.exists(), "what was not made here is not removed here");
    }
}
