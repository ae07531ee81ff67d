//! What has happened to the network, until the journal has it.
//!
//! ```text
//! command, `net`, confirm timer --> DATA/network/ended/<when>-<change>.json --> journal --> removed
//!          (may not hold the journal)                        `record`, by who may
//! ```
//!
//! Invariants:
//! 1. A change is written down here before its record is removed: whoever is killed in between writes
//!    it again under the same name.
//! 2. A file goes only when the journal has its event on the disk; an event of the same name is not
//!    written twice.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_journal::{
    Body, NetworkChange, NetworkFirst, NetworkMoved, NetworkNode, NetworkOutcome, NetworkPredicate,
    NetworkRefused, NetworkStatement, NetworkTimings,
};
use vyr_net::Move;

use super::{BackendKind, NetworkError, Pending};
use crate::data_dir::{DataDir, replace};
use crate::node::{NodeError, append, micros};

/// The form of a file.
const VERSION: u8 = 1;

/// Bytes of one: names of interfaces and approvers are the most of it.
const BYTES_MAX: u64 = 1 << 20;

/// Attempts that are refused are not written down while so many files wait: who may ask for a change
/// may ask often.
const WAITING_MAX: usize = 1024;

/// Characters of a reason that are kept.
const WHY_CHARS_MAX: usize = 400;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spooled {
    version: u8,
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Changed(Box<NetworkChange>),
    Moved(Box<NetworkMoved>),
    Refused(Box<NetworkRefused>),
}

impl What {
    /// When it began, and its name.
    fn name(&self) -> (Timestamp, &str) {
        match self {
            Self::Changed(of) => (of.timings.begun, &of.change),
            Self::Moved(of) => (of.at, &of.change),
            Self::Refused(of) => (of.at, &of.change),
        }
    }

    fn into_body(self, node: NetworkNode) -> Body {
        match self {
            Self::Changed(change) => {
                let predicate = NetworkPredicate { change: *change, node };
                Body::NetworkEnded(Box::new(NetworkStatement::of(predicate)))
            }
            Self::Moved(moved) => Body::NetworkMoved(moved),
            Self::Refused(refused) => Body::NetworkRefused(refused),
        }
    }
}

/// The directory `DATA/network/ended`.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    directory: PathBuf,
}

impl Spool {
    /// That of a directory `DATA/network`.
    pub(super) fn of(network: &Path) -> Self {
        Self { directory: network.join("ended") }
    }

    fn fail(&self) -> impl Fn(io::Error) -> NetworkError {
        |source| NetworkError::File { path: self.directory.clone(), source }
    }

    fn put(&self, what: What) -> Result<(), NetworkError> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(self.fail()(e)),
            _ => {}
        }
        let (at, name) = what.name();
        let name = format!("{:020}-{name}.json", at.as_microsecond().max(0));
        let bytes = serde_json::to_vec(&Spooled { version: VERSION, what })
            .map_err(|e| self.fail()(e.into()))?;
        replace(&self.directory.join(name), &bytes).map_err(self.fail())
    }

    /// How a change ended. `after`: the host as it was read back.
    pub(super) fn changed(
        &self,
        change: &Pending,
        outcome: NetworkOutcome,
        why: &str,
        after: Option<Digest>,
    ) -> Result<(), NetworkError> {
        let mut interfaces: Vec<String> =
            change.wanted.links.iter().map(|link| link.name.clone()).collect();
        interfaces.sort_unstable();
        let backend = match change.backend.kind {
            BackendKind::Kernel => "kernel",
            BackendKind::Userspace => "userspace",
        };
        self.put(What::Changed(Box::new(NetworkChange {
            after,
            approvers: change.approvers.clone(),
            backend: backend.to_owned(),
            base: change.base,
            before: change.before.digest()?,
            by: change.by.clone(),
            change: change.id.clone(),
            host: host_name(),
            interfaces,
            machine: change.machine.clone(),
            outcome,
            plan: change.plan,
            site_commit: change.site_commit.clone(),
            timings: NetworkTimings {
                begun: micros(change.begun),
                // A clock that was set back meanwhile does not make a change end before it began.
                ended: micros(Timestamp::now().max(change.begun)),
            },
            why: clip(why),
        })))
    }

    /// A change that was not begun.
    pub(super) fn refused(
        &self,
        plan: Digest,
        by: &str,
        why: &str,
        first: Option<NetworkFirst>,
    ) -> Result<(), NetworkError> {
        if self.names()?.len() >= WAITING_MAX {
            return Ok(());
        }
        let (at, change, by) = (micros(Timestamp::now()), name()?, clip(by));
        let refused = NetworkRefused { at, by, change, first, plan, why: clip(why) };
        self.put(What::Refused(Box::new(refused)))
    }

    /// A key that took over. `seen`: when the handshake was that showed it, because a device may go
    /// from end to end of its server again and again.
    pub(super) fn moved(
        &self,
        at: Timestamp,
        plan: Digest,
        takeover: &Move,
        seen: Option<u64>,
    ) -> Result<(), NetworkError> {
        self.put(What::Moved(Box::new(NetworkMoved {
            at: micros(at),
            change: name_of(plan, takeover, seen),
            id: takeover.id.to_string(),
            link: takeover.link.clone(),
            new: takeover.new.to_string(),
            old: takeover.old.to_string(),
            plan,
            to: takeover.to.clone(),
        })))
    }

    /// Files that wait, in the order of what they tell.
    fn names(&self) -> Result<Vec<String>, NetworkError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(self.fail())?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(self.fail())?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<What, String> {
        let mut bytes = Vec::new();
        File::open(self.directory.join(name))
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|e| e.to_string())?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(format!("it has over {BYTES_MAX} bytes"));
        }
        let read: Spooled = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        match read.version {
            VERSION => Ok(read.what),
            other => Err(format!("it has version {other}, and this vyr reads {VERSION}")),
        }
    }
}

/// What was recorded.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Events that were written now.
    pub events: usize,
    /// Files that were set aside because they cannot be read, and why.
    pub bad: Vec<String>,
}

/// Whether something waits to be recorded in the data directory at `data`. Nothing is made there.
pub fn has_changes(data: &Path) -> bool {
    Spool::of(&data.join("network")).names().is_ok_and(|names| !names.is_empty())
}

/// Puts what has happened to the network of `data` into its journal.
///
/// Any number of processes may do so at once, and whatever else they do to the journal.
pub fn record(data: &DataDir) -> Result<Recorded, NodeError> {
    let spool = Spool::of(&data.path().join("network"));
    let names = spool.names().map_err(crate::Report::from)?;
    let mut recorded = Recorded::default();
    if names.is_empty() {
        return Ok(recorded);
    }
    let mut done = Vec::new();
    recorded.events = append(data, |reader, origin| {
        let node = NetworkNode { origin, version: env!("CARGO_PKG_VERSION").into() };
        let mut bodies: Vec<Body> = Vec::new();
        for name in names {
            let what = match spool.read(&name) {
                Ok(what) => what,
                // Another process was faster.
                Err(_) if !spool.directory.join(&name).exists() => continue,
                Err(why) => {
                    let bad = spool.directory.join(format!("{name}.bad"));
                    let _ = fs::rename(spool.directory.join(&name), &bad);
                    recorded.bad.push(format!("{}: {why}", bad.display()));
                    continue;
                }
            };
            let id = what.name().1.to_owned();
            done.push(name);
            let is_here = |body: &Body| body.change() == Some(&*id);
            if reader.change(&id)?.is_none() && !bodies.iter().any(is_here) {
                bodies.push(what.into_body(node.clone()));
            }
        }
        Ok(bodies)
    })?;
    for name in done {
        // Whoever finds it again finds its event as well.
        let _ = fs::remove_file(spool.directory.join(name));
    }
    Ok(recorded)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A text as an event may have it.
fn clip(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(WHY_CHARS_MAX).map(shown).collect()
}

/// The name of a move: the same however often it is told.
fn name_of(plan: Digest, Move { link, to, id, old, new }: &Move, seen: Option<u64>) -> String {
    let mut text = format!("{plan} {link} {id} {old} {new}");
    if let Some(to) = to {
        let _ = write!(text, " {to} {}", seen.unwrap_or_default());
    }
    let mut name = Digest::of(text.as_bytes()).hex();
    name.truncate(32);
    name
}

fn name() -> Result<String, NetworkError> {
    super::record::random_name()
        .map_err(|source| NetworkError::File { path: "/dev/urandom".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_journal_sql::Reader;

    use crate::node::open_journal;

    fn data() -> (tempfile::TempDir, DataDir) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = DataDir::open(directory.path()).expect("it is ours");
        fs::create_dir(data.path().join("network")).expect("room");
        (directory, data)
    }

    fn spool(data: &DataDir) -> Spool {
        Spool::of(&data.path().join("network"))
    }

    fn waiting(data: &DataDir) -> Vec<String> {
        spool(data).names().expect("readable")
    }

    fn bodies(data: &DataDir) -> Vec<Body> {
        let reader = Reader::open(&data.journal()).expect("a journal");
        let (size, _) = reader.size().expect("readable");
        (0..size).map(|seq| reader.event_at(seq).expect("an event").body).collect()
    }

    #[test]
    fn what_happened_is_recorded_once_whoever_is_killed() {
        let (_directory, data) = data();
        let plan = Digest::of(b"plan");
        let first = NetworkFirst { by: "ana".into(), plan };
        spool(&data)
            .refused(Digest::of(b"other"), "ben", "a change\nwaits", Some(first))
            .expect("room");
        let [name] = &waiting(&data)[..] else { panic!("one file") };
        let file = spool(&data).directory.join(name);
        let bytes = fs::read(&file).expect("it is there");
        assert_eq!(record(&data).expect("recorded").events, 1);
        assert!(!file.exists());
        // Killed after the commit and before the file was removed.
        fs::write(&file, &bytes).expect("room");
        assert_eq!(record(&data).expect("known").events, 0);
        assert!(waiting(&data).is_empty());
        let bodies = bodies(&data);
        let [Body::Created(_), Body::NetworkRefused(refused)] = &bodies[..] else {
            panic!("{bodies:?}");
        };
        assert_eq!((&*refused.by, &*refused.why), ("ben", "a change\u{fffd}waits"));
    }

    #[test]
    fn many_at_once_record_each_once() {
        let (_directory, data) = data();
        for n in 0_u8..20 {
            spool(&data).refused(Digest::of(&[n]), "ben", "no", None).expect("room");
        }
        // The node's key is made once by each process, not by each thread.
        open_journal(&data).expect("begun");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| record(&data).expect("recorded"));
            }
        });
        assert_eq!(bodies(&data).len(), 21);
        assert!(waiting(&data).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_told() {
        let (_directory, data) = data();
        spool(&data).refused(Digest::of(b"a"), "ben", "no", None).expect("room");
        for (name, bytes) in [("0-a.json", "{"), ("0-b.json", r#"{"version":9,"what":1}"#)] {
            fs::write(spool(&data).directory.join(name), bytes).expect("room");
        }
        let recorded = record(&data).expect("recorded");
        assert_eq!((recorded.events, recorded.bad.len()), (1, 2));
        assert!(waiting(&data).is_empty());
        assert!(spool(&data).directory.join("0-a.json.bad").exists());
    }

    #[test]
    fn attempts_that_are_refused_do_not_fill_the_disk() {
        let (_directory, data) = data();
        let spool = spool(&data);
        fs::create_dir(&spool.directory).expect("room");
        for n in 0..WAITING_MAX {
            fs::write(spool.directory.join(format!("{n}.json")), "").expect("room");
        }
        spool.refused(Digest::of(b"a"), "ben", "no", None).expect("left out");
        assert_eq!(waiting(&data).len(), WAITING_MAX);
    }
}
