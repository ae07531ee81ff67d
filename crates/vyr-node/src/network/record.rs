//! What is on the disk: the confirmed plan, the change that waits, and how the last one ended.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_net::{Met, Move, State};
use vyr_plan::bundle::{APPROVALS_BYTES_MAX, Approvals, MOVED_BYTES_MAX};
use vyr_plan::plan::PLAN_BYTES_MAX;
use vyr_plan::{Plan, Signed};

use super::spool::Spool;
use super::{BackendChoice, NetworkError};
use crate::alone::is_alone;
use crate::data_dir::replace;

/// Bytes of `pending.json`: two states of a host with all the peers there can be.
const PENDING_BYTES_MAX: usize = 256 << 20;

/// Plans that are kept besides the confirmed one and the one that waits.
const PLANS_KEPT: usize = 16;

/// The file of [`Moved`].
const MOVED: &str = "moved.json";

/// How long one process waits for another's change.
const PATIENCE: Duration = Duration::from_secs(30);

/// The form of [`Pending`] and of [`Moved`].
const VERSION: u8 = 1;

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Steps are being taken: who finds this and no process at work takes them back.
    Changing,
    /// All were taken; it waits to be confirmed.
    Waiting,
}

/// A change that is not confirmed yet: all that taking it back needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    version: u8,
    /// Which change this is: drawn at random.
    pub id: String,
    /// The plan it leads to.
    pub plan: Digest,
    /// The plan that was confirmed before; none: none was.
    pub base: Option<Digest>,
    /// The name of this host in the plan.
    pub machine: String,
    /// Who made it.
    pub by: String,
    /// When.
    pub begun: Timestamp,
    /// When it is taken back, as people read it.
    pub deadline: Timestamp,
    /// The same in milliseconds of `CLOCK_BOOTTIME`, which nobody sets.
    pub deadline_boot_ms: u64,
    /// Which boot that clock counts from.
    pub boot: String,
    /// What reads and changes the host.
    pub backend: BackendChoice,
    /// How far it is.
    pub phase: Phase,
    /// The host as it was.
    pub before: State,
    /// The host as it is to be.
    pub wanted: State,
    /// Where those were met who have no place in it.
    #[serde(default)]
    pub met: Vec<Met>,
    /// Who approved the plan.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The commit of the site's repository that it came from.
    #[serde(default)]
    pub site_commit: Option<String>,
}

/// How the last change ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// Its plan.
    pub plan: Digest,
    /// Who made it.
    pub by: String,
    /// `confirmed` or `taken back`.
    pub outcome: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Which machine of its plans this host is, and what changes it: what a start of the machine needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    version: u8,
    /// The name of this host in the plan.
    pub machine: String,
    /// What reads and changes it.
    pub backend: BackendChoice,
}

/// A key that has taken over: written before the host is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The plan that allowed it.
    pub plan: Digest,
    /// When it was written.
    pub at: Timestamp,
    /// Whose key, and which.
    pub takeover: Move,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MovedFile {
    version: u8,
    moved: Vec<Moved>,
}

/// Of three files, each: inode, size, and when it was written.
pub(super) type Stamp = [Option<(u64, u64, i64, i64)>; 3];

/// A new change, before it has begun.
pub(super) fn pending(
    plan: Digest,
    base: Option<Digest>,
    machine: &str,
    by: &str,
    within: Duration,
    backend: BackendChoice,
    states: (State, State),
) -> io::Result<Pending> {
    let id = random_name()?;
    let begun = Timestamp::now();
    let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    Ok(Pending {
        version: VERSION,
        id,
        plan,
        base,
        machine: machine.to_owned(),
        by: by.to_owned(),
        begun,
        deadline: begun.checked_add(within).unwrap_or(Timestamp::MAX),
        deadline_boot_ms: boot_ms().saturating_add(ms),
        boot: boot_id()?,
        backend,
        phase: Phase::Changing,
        before: states.0,
        wanted: states.1,
        met: Vec::new(),
        approvers: Vec::new(),
        site_commit: None,
    })
}

/// A name for a change: 32 hex digits.
pub(crate) fn random_name() -> io::Result<String> {
    let mut name = [0_u8; 16];
    rustix::rand::getrandom(&mut name[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(name.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Pending {
    /// Milliseconds until it is taken back.
    pub(super) fn left(&self) -> Duration {
        Duration::from_millis(self.deadline_boot_ms.saturating_sub(boot_ms()))
    }

    /// Whether the machine was started anew since: then nothing of the change is left.
    pub(super) fn is_of_another_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot != self.boot)
    }
}

/// Milliseconds since the machine was started, sleep included.
fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The directory `DATA/network`.
#[derive(Debug, Clone)]
pub(super) struct Record {
    directory: PathBuf,
}

/// Nobody else changes the network while this lives.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Record {
    pub(super) fn open(data: &Path) -> Result<Self, NetworkError> {
        let directory = data.join("network");
        for path in [directory.clone(), super::keys::directory(&directory), directory.join("plans")]
        {
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(NetworkError::File { path, source }),
            }
        }
        Ok(Self { directory })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is to be told to the journal.
    pub(super) fn spool(&self) -> Spool {
        Spool::of(&self.directory)
    }

    /// Waits for whoever changes the network now, but not for ever.
    pub(super) fn lock(&self) -> Result<Lock, NetworkError> {
        let path = self.directory.join("lock");
        let file = |source| NetworkError::File { path: path.clone(), source };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(file)?;
        match is_alone(&lock, PATIENCE) {
            Ok(true) => Ok(Lock(lock)),
            Ok(false) => Err(NetworkError::Busy(PATIENCE)),
            Err(e) => Err(file(e)),
        }
    }

    fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, NetworkError> {
        let path = self.directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(NetworkError::File { path, source }),
        };
        let mut bytes = Vec::new();
        match file.take(most as u64 + 1).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() <= most => Ok(Some(bytes)),
            Ok(_) => Err(NetworkError::Record { path, why: format!("it has over {most} bytes") }),
            Err(source) => Err(NetworkError::File { path, source }),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), NetworkError> {
        let path = self.directory.join(name);
        replace(&path, bytes).map_err(|source| NetworkError::File { path, source })
    }

    fn decode<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        most: usize,
    ) -> Result<Option<T>, NetworkError> {
        let Some(bytes) = self.read(name, most)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| NetworkError::Record {
            path: self.directory.join(name),
            why: e.to_string(),
        })
    }

    fn encode<T: Serialize>(&self, name: &str, value: &T) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(value).map_err(|e| NetworkError::Record {
            path: self.directory.join(name),
            why: e.to_string(),
        })?;
        self.write(name, &bytes)
    }

    /// The change that waits or was left in the middle.
    pub(super) fn pending(&self) -> Result<Option<Pending>, NetworkError> {
        self.decode("pending.json", PENDING_BYTES_MAX)
    }

    pub(super) fn set_pending(&self, _: &Lock, pending: &Pending) -> Result<(), NetworkError> {
        self.encode("pending.json", pending)
    }

    /// The plan that a change leads to.
    pub(super) fn kept(&self, digest: &Digest) -> Result<Plan, NetworkError> {
        let name = format!("plans/{}.json", digest.hex());
        let bytes = self.read(&name, PLAN_BYTES_MAX)?.unwrap_or_default();
        Ok(Plan::parse_as(&bytes, digest)?)
    }

    /// Keys that have taken over. A file that cannot be read is set aside: what it said is said again
    /// by the next handshake of each such key, and no start of the machine waits for that.
    pub(super) fn moved(&self) -> Result<Vec<Moved>, NetworkError> {
        let read = self.decode::<MovedFile>(MOVED, MOVED_BYTES_MAX);
        let why = match read {
            Ok(None) => return Ok(Vec::new()),
            Ok(Some(file)) if file.version == VERSION => return Ok(file.moved),
            Ok(Some(file)) => format!("it has version {}, this vyr reads {VERSION}", file.version),
            Err(NetworkError::Record { why, .. }) => why,
            Err(error) => return Err(error),
        };
        let path = self.directory.join(MOVED);
        let aside = self.directory.join(format!("{MOVED}.bad"));
        fs::rename(&path, &aside).map_err(|source| NetworkError::File { path, source })?;
        eprintln!("vyr: keys that took over are looked for again ({}: {why})", aside.display());
        Ok(Vec::new())
    }

    /// Their file, for a bundle.
    pub(super) fn moved_bytes(&self) -> Result<Option<Vec<u8>>, NetworkError> {
        self.read(MOVED, MOVED_BYTES_MAX)
    }

    pub(super) fn set_moved(&self, _: &Lock, moved: Vec<Moved>) -> Result<(), NetworkError> {
        self.encode(MOVED, &MovedFile { version: VERSION, moved })
    }

    /// Changes whenever one of the files does that say which keys may take over, and which have.
    pub(super) fn stamp(&self) -> Stamp {
        ["plan.json", "pending.json", MOVED].map(|name| {
            let found = fs::metadata(self.directory.join(name)).ok()?;
            Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
        })
    }

    /// How the last change ended.
    pub(super) fn last(&self) -> Result<Option<Last>, NetworkError> {
        self.decode("last.json", 1 << 16)
    }

    /// The change has ended: the order is that of what must survive a crash in between.
    pub(super) fn end(&self, _: &Lock, last: &Last) -> Result<(), NetworkError> {
        self.encode("last.json", last)?;
        let path = self.directory.join("pending.json");
        let removed = fs::remove_file(&path)
            .and_then(|()| File::open(&self.directory))
            .and_then(|directory| directory.sync_all());
        removed.map_err(|source| NetworkError::File { path, source })
    }

    /// Keeps a plan beside the change that leads to it.
    pub(super) fn keep(&self, plan: &Digest, bytes: &[u8]) -> Result<(), NetworkError> {
        self.write(&file_of(plan, "json"), bytes)
    }

    /// Keeps who approved a plan; who did not is nobody's to forget.
    pub(super) fn keep_approvals(
        &self,
        plan: &Digest,
        signed: &[Signed],
    ) -> Result<(), NetworkError> {
        let name = file_of(plan, "approvals");
        if signed.is_empty() {
            return Ok(());
        }
        self.write(&name, &Approvals::of(signed).to_bytes()?)
    }

    /// Who approved a plan, as far as it was kept.
    pub(super) fn approvals(&self, plan: &Digest) -> Result<Option<Vec<u8>>, NetworkError> {
        self.read(&file_of(plan, "approvals"), APPROVALS_BYTES_MAX)
    }

    /// A plan that was kept.
    pub(super) fn plan(&self, plan: &Digest) -> Result<Option<Vec<u8>>, NetworkError> {
        let name = file_of(plan, "json");
        let Some(bytes) = self.read(&name, PLAN_BYTES_MAX)? else { return Ok(None) };
        if Digest::of(&bytes) != *plan {
            let why = "its digest is another one".to_owned();
            return Err(NetworkError::Record { path: self.directory.join(name), why });
        }
        Ok(Some(bytes))
    }

    /// Removes what was kept of old plans, but of the last [`PLANS_KEPT`] and of those named.
    pub(super) fn forget(&self, _: &Lock, but: &[Digest]) -> Result<(), NetworkError> {
        let directory = self.directory.join("plans");
        let file = |source| NetworkError::File { path: directory.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory).map_err(file)? {
            let entry = entry.map_err(file)?;
            let written = entry.metadata().and_then(|meta| meta.modified()).map_err(file)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((written, name));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        let is_named = |name: &str| but.iter().any(|plan| name.starts_with(&plan.hex()));
        let plans = found.iter().filter(|(_, name)| name.ends_with(".json") && !is_named(name));
        let old: Vec<&str> = plans.skip(PLANS_KEPT).map(|(_, name)| name.as_str()).collect();
        for name in old {
            for name in [name.to_owned(), name.replace(".json", ".approvals")] {
                match fs::remove_file(directory.join(name)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file(e)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The bytes of the plan that is confirmed.
    pub(super) fn confirmed_bytes(&self) -> Result<Option<Vec<u8>>, NetworkError> {
        self.read("plan.json", PLAN_BYTES_MAX)
    }

    /// The plan that is confirmed.
    pub(super) fn confirmed(&self) -> Result<Option<(Digest, Plan)>, NetworkError> {
        let Some(bytes) = self.confirmed_bytes()? else { return Ok(None) };
        let plan = Plan::parse(&bytes)?;
        Ok(Some((Digest::of(&bytes), plan)))
    }

    /// Which machine this host is; none: nothing was confirmed here yet.
    pub(super) fn host(&self) -> Result<Option<HostRecord>, NetworkError> {
        self.decode("host.json", 1 << 16)
    }

    /// Makes the plan of a change the confirmed one.
    pub(super) fn confirm(&self, _: &Lock, change: &Pending) -> Result<(), NetworkError> {
        let plan = &change.plan;
        let bytes = self.plan(plan)?.ok_or(NetworkError::NoPlan)?;
        let (machine, backend) = (change.machine.clone(), change.backend.clone());
        let host = HostRecord { version: VERSION, machine, backend };
        // Who finds a plan finds whose it is.
        if self.host()?.as_ref() != Some(&host) {
            self.encode("host.json", &host)?;
        }
        self.write("plan.json", &bytes)
    }
}

fn file_of(plan: &Digest, ending: &str) -> String {
    format!("plans/{}.{ending}", plan.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_plans_are_forgotten_and_never_those_in_use() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let record = Record::open(data.path()).expect("it is made");
        let lock = record.lock().expect("nobody else is there");
        let plan = |number: usize| Digest::of(&number.to_le_bytes());
        let signed = [Signed { name: "a".into(), text: b"t".into(), signature: b"s".into() }];
        for number in 0..40_usize {
            record.keep_approvals(&plan(number), &signed).expect("written");
            record.keep(&plan(number), &number.to_le_bytes()).expect("written");
            // Clocks of file systems are coarse; which is older must be known.
            let file = record.directory.join(file_of(&plan(number), "json"));
            let at = std::time::UNIX_EPOCH + Duration::from_secs(number as u64);
            File::options().append(true).open(file).and_then(|f| f.set_modified(at)).expect("set");
            record.forget(&lock, &[plan(0), plan(number)]).expect("removed");
        }
        let is_kept = |number: usize| {
            let bytes = record.plan(&plan(number)).expect("readable");
            let approvals = record.approvals(&plan(number)).expect("readable");
            assert_eq!(bytes.is_some(), approvals.is_some(), "{number}");
            bytes.is_some()
        };
        let kept: Vec<usize> = (0..40).filter(|number| is_kept(*number)).collect();
        let last: Vec<usize> = (40 - 1 - PLANS_KEPT..40).collect();
        assert_eq!(kept, [vec![0], last].concat(), "the confirmed one, the new one, and the last");
        fs::write(record.directory.join(file_of(&plan(0), "json")), "x").expect("written");
        assert!(record.plan(&plan(0)).is_err(), "another's bytes are not its");
    }
}
