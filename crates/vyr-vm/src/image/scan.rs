//! One layer's entries as records: names made relative, whiteouts told apart, bounds kept.
//!
//! Pure: bytes in, records out; nothing of an entry's data is kept.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use vyr_base::Digest;

use super::archive::{Archive, ArchiveFault, Attributes, Kind, Meta};
use super::fault::shown;
use super::limits::{Limits, NAME_BYTES_MAX, PATH_BYTES_MAX};
use super::unpack::Counted;

/// The name that hides all a directory has from the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The prefix of a name that hides one entry from the layers below.
const WHITEOUT: &[u8] = b".wh.";

/// Device numbers that squashfs has room for: 12 bits and 20 bits.
const MAJOR_MAX: u32 = (1 << 12) - 1;
const MINOR_MAX: u32 = (1 << 20) - 1;

/// Why a layer's entries are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanFault {
    #[error(transparent)]
    Archive(#[from] ArchiveFault),
    #[error("entry {0:?} leads out of the image")]
    Escape(String),
    #[error("entry {name:?}: {why}")]
    Name { name: String, why: &'static str },
    #[error("more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
}

/// A path as the parts between its slashes; empty is the root.
pub(crate) type Parts = Vec<Box<[u8]>>;

/// What an entry does to the tree.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A file with this many bytes.
    File(u64),
    Directory,
    Symlink(Box<[u8]>),
    /// Another name of what is at this path.
    Link(Parts),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    /// What lower layers have at this path is gone.
    Whiteout,
    /// What lower layers have below this path is gone.
    Opaque,
}

/// One entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) path: Parts,
    pub(crate) change: Change,
    pub(crate) meta: Meta,
    pub(crate) xattrs: Attributes,
}

/// A layer's entries in their order, and what was left out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scan {
    pub(crate) records: Vec<Record>,
    /// Attributes that squashfs cannot hold, or that overlayfs would take as its own marks.
    pub(crate) xattrs_dropped: u64,
    /// What it took of the limits.
    pub(crate) spent: Spent,
    /// Bytes of the layer's tar archive.
    pub(crate) bytes: u64,
    /// Their digest.
    pub(crate) diff_id: Digest,
}

/// What a layer takes of the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    headers: u64,
    names: u64,
    bytes: u64,
}

/// What is left of the limits for layers that are read at the same time.
pub(crate) struct Budget {
    limits: Limits,
    entries: std::sync::atomic::AtomicU64,
    names: std::sync::atomic::AtomicU64,
    bytes: std::sync::atomic::AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        let zero = || std::sync::atomic::AtomicU64::new(0);
        Self { limits: *limits, entries: zero(), names: zero(), bytes: zero() }
    }

    pub(crate) fn spend(&self, spent: Spent) -> Result<(), ScanFault> {
        let Spent { headers, names, bytes } = spent;
        let over = |spent: &std::sync::atomic::AtomicU64, more: u64, limit: u64| {
            let before = spent.fetch_add(more, std::sync::atomic::Ordering::Relaxed);
            before.saturating_add(more) > limit
        };
        let fault = |what, limit| Err(ScanFault::Limit { what, limit });
        if over(&self.entries, headers, self.limits.entries) {
            return fault("entries", self.limits.entries);
        }
        if over(&self.names, names, self.limits.names_bytes) {
            return fault("bytes of names and attributes", self.limits.names_bytes);
        }
        if over(&self.bytes, bytes, self.limits.unpacked_bytes) {
            return fault("bytes unpacked", self.limits.unpacked_bytes);
        }
        Ok(())
    }
}

/// Reads a layer to its end. What its headers say is weighed before their data is read, so a bomb
/// is refused by its announcement.
pub(crate) fn scan(layer: impl Read, budget: &Budget) -> Result<Scan, ScanFault> {
    let limit = budget.limits.unpacked_bytes;
    let mut archive = Archive::new(Counted::new(layer, limit));
    let mut records = Vec::new();
    let mut dropped = 0;
    let mut headers = 0;
    let mut spent = Spent::default();
    let mut read = || -> Result<(), ScanFault> {
        while let Some(entry) = archive.next()? {
            let xattr_bytes: usize = entry.xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
            let link = match &entry.kind {
                Kind::Symlink(target) | Kind::Link(target) => target.len(),
                _ => 0,
            };
            let names = (entry.path.len() + link + xattr_bytes) as u64;
            let new_headers = archive.headers() - headers;
            headers = archive.headers();
            let bytes = entry.size.saturating_add(512 * new_headers);
            let more = Spent { headers: new_headers, names, bytes };
            budget.spend(more)?;
            spent.headers += more.headers;
            spent.names += more.names;
            spent.bytes = spent.bytes.saturating_add(more.bytes);
            let (kept, lost): (Attributes, Attributes) =
                entry.xattrs.into_iter().partition(|(name, _)| is_kept(name));
            dropped += lost.len() as u64;
            let (path, mark) = whiteout(parts(&entry.path)?, &entry.path)?;
            let change = match mark {
                Some(mark) => mark,
                None => change(entry.kind, entry.size, &entry.path)?,
            };
            if path.is_empty() && !matches!(change, Change::Directory | Change::Opaque) {
                return Err(name_fault(&entry.path, "the root is a directory"));
            }
            records.push(Record { path, change, meta: entry.meta, xattrs: kept });
        }
        Ok(())
    };
    let result = read();
    let mut counted = archive.into_source();
    // Behind the end stands padding; it belongs to the digest, and to the budget.
    let result = result.and_then(|()| {
        io::copy(&mut counted, &mut io::sink()).map_err(ArchiveFault::Read)?;
        Ok(())
    });
    if counted.is_over() {
        return Err(ScanFault::Limit { what: "bytes unpacked", limit });
    }
    result?;
    let bytes = counted.total();
    Ok(Scan { records, xattrs_dropped: dropped, spent, bytes, diff_id: counted.finish() })
}

/// `user.`, `trusted.` and `security.` are the classes that squashfs holds. Overlayfs reads its own
/// marks out of them: an image that brings some would be shown otherwise than it is.
fn is_kept(name: &[u8]) -> bool {
    let class = [&b"user."[..], b"trusted.", b"security."].iter().any(|c| name.starts_with(c));
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    class && !overlay && name.len() <= NAME_BYTES_MAX && !name.contains(&0)
}

fn name_fault(name: &[u8], why: &'static str) -> ScanFault {
    ScanFault::Name { name: shown(name), why }
}

/// The parts of a name in a layer: relative, whatever it begins with.
fn parts(path: &[u8]) -> Result<Parts, ScanFault> {
    if path.len() > PATH_BYTES_MAX {
        return Err(name_fault(path, "its name is too long"));
    }
    if path.contains(&0) {
        return Err(name_fault(path, "a zero byte is in its name"));
    }
    let mut parts = Parts::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(ScanFault::Escape(shown(path))),
            _ if part.len() > NAME_BYTES_MAX => {
                return Err(name_fault(path, "a part of its name is too long"));
            }
            _ => parts.push(part.into()),
        }
    }
    Ok(parts)
}

/// Takes a whiteout's mark off its name.
fn whiteout(mut path: Parts, name: &[u8]) -> Result<(Parts, Option<Change>), ScanFault> {
    let above = path.len().saturating_sub(1);
    if path[..above].iter().any(|part| part.starts_with(WHITEOUT)) {
        return Err(name_fault(name, "it lies below a whiteout"));
    }
    let Some(hidden) = path.last().and_then(|last| last.strip_prefix(WHITEOUT)) else {
        return Ok((path, None));
    };
    if path.last().is_some_and(|last| **last == *OPAQUE) {
        path.pop();
        return Ok((path, Some(Change::Opaque)));
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(name_fault(name, "it hides nothing that can be named"));
    }
    let hidden: Box<[u8]> = hidden.into();
    path.pop();
    path.push(hidden);
    Ok((path, Some(Change::Whiteout)))
}

fn change(kind: Kind, size: u64, name: &[u8]) -> Result<Change, ScanFault> {
    let device = |major, minor| match major > MAJOR_MAX || minor > MINOR_MAX {
        true => Err(name_fault(name, "its device number is too large")),
        false => Ok((major, minor)),
    };
    Ok(match kind {
        Kind::File => Change::File(size),
        Kind::Directory => Change::Directory,
        Kind::Symlink(target) => {
            if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains(&0) {
                return Err(name_fault(name, "its target is empty, too long or has a zero byte"));
            }
            Change::Symlink(target.into())
        }
        Kind::Link(target) => Change::Link(parts(&target)?),
        Kind::Character(0, 0) => {
            return Err(name_fault(name, "a character device 0:0 is overlayfs's own whiteout"));
        }
        Kind::Character(major, minor) => {
            device(major, minor).map(|(major, minor)| Change::Character(major, minor))?
        }
        Kind::Block(major, minor) => {
            device(major, minor).map(|(major, minor)| Change::Block(major, minor))?
        }
        Kind::Fifo => Change::Fifo,
    })
}
