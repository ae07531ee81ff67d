//! The program `nft`, which speaks to the kernel's nftables.
//!
//! A transaction is checked (`-c`), loaded, and read back: nft 1.0.6 ends well on JSON that it
//! cannot parse and reads from a pipe, because it then reads the empty rest of the pipe as its own
//! language. So it gets a file in memory, which can be read twice, and its exit code alone is never
//! believed. The check is against what is loaded now, so it comes just before the load.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use vyr_plan::render::TABLE;

use super::Ruleset;
use crate::error::NetError;

/// Where nft and what it may call are.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
/// How long it may take: a table of ten thousand elements takes a second on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a listing.
const LISTING_BYTES_MAX: u64 = 256 << 20;
/// Characters of an error that are kept.
const SAID_CHARS_MAX: usize = 600;

/// The program `nft`.
#[derive(Debug, Clone)]
pub struct Nft {
    program: PathBuf,
    timeout: Duration,
}

impl Default for Nft {
    fn default() -> Self {
        Self { program: "nft".into(), timeout: TIMEOUT }
    }
}

struct Done {
    good: bool,
    output: Vec<u8>,
    said: String,
}

impl Nft {
    /// Another program, or another time.
    pub fn new(program: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self { program: program.into(), timeout }
    }

    /// Its version, if it is there and may look at tables.
    pub fn version(&self) -> Result<String, NetError> {
        let done = self.run(&["--version"], None)?;
        let version = String::from_utf8_lossy(&done.output).trim().to_owned();
        if !done.good {
            return Err(NetError::Nft { doing: "say its version", said: done.said });
        }
        self.has_table(TABLE)?;
        Ok(version)
    }

    /// Our table, as it is loaded.
    pub fn read(&self) -> Result<Option<Ruleset>, NetError> {
        self.read_table(TABLE)
    }

    /// The same of a table of another name.
    pub(crate) fn read_table(&self, table: &str) -> Result<Option<Ruleset>, NetError> {
        if !self.has_table(table)? {
            return Ok(None);
        }
        // Ports and users as numbers.
        let done = self.run(&["-j", "-p", "-u", "list", "table", "inet", table], None)?;
        if !done.good {
            return Err(NetError::Nft { doing: "list our table", said: done.said });
        }
        Ruleset::listing_of(table, &done.output).map(Some).map_err(NetError::Ruleset)
    }

    /// Puts a table in the place of ours, or removes ours.
    pub fn apply(&self, to: Option<&Ruleset>) -> Result<(), NetError> {
        self.apply_table(TABLE, to)
    }

    /// The same with a table of another name.
    pub(crate) fn apply_table(&self, table: &str, to: Option<&Ruleset>) -> Result<(), NetError> {
        let text = to.map_or_else(|| Ruleset::removal_of(table), Ruleset::transaction);
        for (arguments, doing) in [
            (&["-c", "-j", "-f", "/proc/self/fd/0"][..], "check a transaction"),
            (&["-j", "-f", "/proc/self/fd/0"][..], "load a transaction"),
        ] {
            let done = self.run(arguments, Some(&text))?;
            if !done.good {
                return Err(NetError::Nft { doing, said: done.said });
            }
        }
        match self.read_table(table)?.as_ref() == to {
            true => Ok(()),
            false => Err(NetError::Differs { what: format!("the table inet {table}") }),
        }
    }

    fn has_table(&self, table: &str) -> Result<bool, NetError> {
        let done = self.run(&["-j", "list", "tables", "inet"], None)?;
        if !done.good {
            return Err(NetError::Nft { doing: "list tables", said: done.said });
        }
        let all: Value = serde_json::from_slice(&done.output)
            .map_err(|_| NetError::malformed("nft", "its list of tables is not JSON"))?;
        let tables = all["nftables"].as_array();
        let tables = tables.ok_or_else(|| NetError::malformed("nft", "no list of tables"))?;
        Ok(tables
            .iter()
            .any(|one| one["table"]["name"] == *table && one["table"]["family"] == "inet"))
    }

    fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Done, NetError> {
        let at = |doing: &str| {
            let doing = format!("{doing} {}", self.program.display());
            move |source| NetError::io(doing, source)
        };
        let stdin = match input {
            None => Stdio::null(),
            Some(text) => {
                let mut file = in_memory()?;
                file.write_all(text.as_bytes()).map_err(at("write for"))?;
                file.into()
            }
        };
        let (mut output, mut said) = (in_memory()?, in_memory()?);
        let both = output.try_clone().and_then(|output| Ok((output, said.try_clone()?)));
        let (stdout, stderr) = both.map_err(at("run"))?;
        let child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        let child = match child {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let why = format!("{} was not found", self.program.display());
                return Err(NetError::Unavailable { what: "nftables", why });
            }
            other => other.map_err(at("run"))?,
        };
        let good = self.wait(child)?;
        let output = read(&mut output, LISTING_BYTES_MAX).map_err(at("read the output of"))?;
        let said = read(&mut said, 64 << 10).map_err(at("read the errors of"))?;
        if output.len() as u64 == LISTING_BYTES_MAX {
            return Err(NetError::malformed("nft", "its output is too long"));
        }
        let said = String::from_utf8_lossy(&said).trim().chars().take(SAID_CHARS_MAX).collect();
        Ok(Done { good, output, said })
    }

    /// Whether it ended well; one that does not end is ended.
    fn wait(&self, mut child: Child) -> Result<bool, NetError> {
        match ends(&child, self.timeout) {
            Ok(true) => {
                let status = child.wait().map_err(|e| NetError::io("wait for nft", e))?;
                Ok(status.success())
            }
            ended => {
                // It may have ended by now, which is as good.
                let _ = child.kill();
                let _ = child.wait();
                ended.map_err(|e| NetError::kernel("wait for nft", e))?;
                Err(NetError::Silent { who: "nft".into(), within: self.timeout })
            }
        }
    }
}

/// Whether a child ends in time.
fn ends(child: &Child, timeout: Duration) -> Result<bool, Errno> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => (),
            Err(e) => return Err(e),
        }
    }
}

fn in_memory() -> Result<File, NetError> {
    let fd = memfd_create("vyr-nft", MemfdFlags::CLOEXEC);
    Ok(File::from(fd.map_err(|e| NetError::kernel("make a file in memory", e))?))
}

fn read(file: &mut File, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
