//! The machine from inside: this program as process 1.
//!
//! ```text
//!  modules -> file systems -> trust file (once) -> look at the journal -> vyr up -> relay
//!                                                        |                            |
//!  port:                                         one line of JSON          then the node's socket
//! ```
//!
//! It ends when anything goes wrong, or when the other end of the port is gone. Then the kernel
//! panics, and the machine ends. What it has to say goes to the console.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::Context;
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};
use vyr_base::{Digest, Hasher};
use vyr_journal::{Body, Event, TaskState};
use vyr_journal_sql::Reader;

use crate::emulated::inside;

/// Where things are in the initramfs; the other side puts them there.
pub(crate) const VYR: &str = "/vyr";
pub(crate) const TRUST: &str = "/allowed_signers";

/// The only argument, `from=N`: contents of older events were looked at before.
pub(crate) const FROM: &str = "from=";

const DATA: &str = "/disk/data";

/// Rows of the journal in one read.
const ROWS: u64 = 512;

/// What lies on the disk before anything of the node ran.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The exit code of `vyr verify --journal`; `None`: there is no journal.
    pub(crate) verify: Option<i32>,
    /// What it printed.
    pub(crate) said: String,
    /// How many events there are.
    pub(crate) events: u64,
    /// Contents that were read and compared with their digests.
    pub(crate) contents: u64,
    /// Of these, files of the store.
    pub(crate) stored: u64,
    /// Contents that are missing or another.
    pub(crate) faults: Vec<String>,
}

/// Lives the machine's life; gives why it ended.
pub(crate) fn live() -> anyhow::Error {
    match serve() {
        Ok(()) => anyhow::anyhow!("the other side is gone"),
        Err(error) => error,
    }
}

fn serve() -> anyhow::Result<()> {
    let port = inside::begin()?;
    inside::mount_disk("/disk", MountFlags::NOATIME)?;
    settle()?;
    let from = std::env::args().find_map(|word| word.strip_prefix(FROM)?.parse().ok());
    let found = look(from.context("from which event?")?)?;
    let mut line = serde_json::to_string(&found)?;
    line.push('\n');
    (&port).write_all(line.as_bytes())?;

    let mut node = vyr(&["up"]).stdout(Stdio::inherit()).spawn().context("vyr up")?;
    let socket = inside::until("the node", || {
        if let Ok(Some(ended)) = node.try_wait() {
            // The line is looked for by whoever reads the console.
            println!("vyr up ended: {ended}");
            std::process::exit(1);
        }
        UnixStream::connect(Path::new(DATA).join("run/operator.sock")).ok()
    })?;
    (&port).write_all(b"ready\n")?;
    relay(&port, &socket)
}

fn vyr(arguments: &[&str]) -> Command {
    let mut command = Command::new(VYR);
    command.args(["--data-dir", DATA]).args(arguments).stdin(Stdio::null());
    command
}

/// What a person writes before the first start: whom to trust, and how much to do at once. Few at
/// once, so that a power cut finds most tasks accepted and not begun.
///
/// Written durably, because it is not what is tested: the power may go off right afterwards.
fn settle() -> anyhow::Result<()> {
    let data = Path::new(DATA);
    let trust = data.join("trust");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&trust)?;
    let config = b"[node]\nslots = 4\nworkers = 2\n".to_vec();
    for (path, content) in
        [(trust.join("allowed_signers"), fs::read(TRUST)?), (data.join("vyr.toml"), config)]
    {
        if path.exists() {
            continue;
        }
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
    }
    for made in [trust.as_path(), data, Path::new("/disk")] {
        File::open(made)?.sync_all()?;
    }
    Ok(())
}

/// Reads what the power cut left, before the node does anything with it.
fn look(from: u64) -> anyhow::Result<Found> {
    let journal = Path::new(DATA).join("node/journal.db");
    let mut found = Found::default();
    if !journal.exists() {
        return Ok(found);
    }
    let output = vyr(&["verify", "--journal", "--json"]).stderr(Stdio::inherit()).output()?;
    found.verify = Some(output.status.code().unwrap_or(-1));
    found.said = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Err(error) = contents(&journal, from, &mut found) {
        found.faults.push(format!("the journal cannot be read: {error:#}"));
    }
    Ok(found)
}

/// Compares each content that events name with its digest.
fn contents(journal: &Path, from: u64, found: &mut Found) -> anyhow::Result<()> {
    let reader = Reader::open(journal)?;
    let mut next = from;
    found.events = next;
    loop {
        let rows = reader.rows(next, ROWS)?;
        let Some(last) = rows.last() else { return Ok(()) };
        next = last.seq + 1;
        found.events = next;
        for row in &rows {
            let event = Event::from_leaf(row.leaf.as_deref().context("nothing is sealed here")?)?;
            let (what, digest) = match &event.body {
                Body::Accepted(accepted) => match accepted.input {
                    Some(input) => ("input", input.digest),
                    None => continue,
                },
                Body::Ended(ended) if ended.predicate.state == TaskState::Completed => {
                    ("output", ended.predicate.output.digest)
                }
                _ => continue,
            };
            let kept = reader.content_at(row.seq)?;
            let actual = match &kept {
                Some(content) => Ok(Digest::of(content)),
                None if digest == Digest::of(b"") => Ok(digest),
                None => stored(&digest),
            };
            found.contents += 1;
            found.stored += u64::from(kept.is_none());
            match actual {
                Ok(actual) if actual == digest => {}
                Ok(actual) => found
                    .faults
                    .push(format!("the {what} of event {} is {actual}, not {digest}", row.seq)),
                Err(e) => {
                    found.faults.push(format!("the {what} of event {} ({digest}): {e}", row.seq));
                }
            }
        }
    }
}

/// The digest of what the store has under `digest`.
fn stored(digest: &Digest) -> io::Result<Digest> {
    let blobs = Path::new(DATA).join("store/blobs/sha256");
    let mut file = File::open(blobs.join(digest.hex()))?;
    let mut hasher = Hasher::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// Bytes between the port and the node, until either ends.
fn relay(port: &File, socket: &UnixStream) -> anyhow::Result<()> {
    let (mut from_node, mut to_port) = (socket.try_clone()?, port.try_clone()?);
    thread::spawn(move || {
        let ended = io::copy(&mut from_node, &mut to_port);
        println!("the node ended the connection: {ended:?}");
        std::process::exit(1);
    });
    let (mut from_port, mut to_node) = (port, socket);
    io::copy(&mut from_port, &mut to_node)?;
    socket.shutdown(Shutdown::Both)?;
    Ok(())
}
