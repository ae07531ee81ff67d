//! The directory tree of a state, and the account of what it may hold.
//!
//! Nodes live in one map by serial number; a node has one place in one directory, or none if it
//! was removed while open. The serial is also the inode and the cursor of a listing, so that a
//! listing goes on at the right entry whatever is removed meanwhile.
//!
//! Not here: who may call what (`handle`), keys and values (`keys`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::bytes::{Contents, Name};
use super::keys::Keys;
use super::{EphemeralState, FileError};

/// As in POSIX systems.
const NAME_MAX: usize = 255;
pub(super) const PATH_MAX: usize = 4096;

/// Directories above a node, so that walking up is bounded.
const DEPTH_MAX: usize = 128;

/// Entries a rename of a directory looks through to see how deep it is. A larger one cannot be
/// moved to another directory; programs then copy, as between file systems.
const SUBTREE_MAX: usize = 10_000;

/// Names a node for as long as the state lives; never used again. 1 and 2 are cursors of `.` and
/// `..` in listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Serial(pub(crate) u64);

pub(super) const ROOT: Serial = Serial(2);

/// A file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) serial: Serial,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// Nanoseconds since 1970; logical unless a guest set it.
    pub(crate) modified_ns: u64,
    pub(crate) is_linked: bool,
}

/// One entry of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) serial: Serial,
    pub(crate) kind: Kind,
    pub(crate) name: Name,
}

/// How a path is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
}

pub(super) struct Tree {
    quota_bytes: u64,
    used_bytes: u64,
    /// Counts changes; also the logical clock.
    clock: u64,
    last_serial: u64,
    nodes: BTreeMap<Serial, Node>,
    pub(super) keys: Keys,
}

struct Node {
    /// Where it is; `None` for the root and for what was removed.
    place: Option<Place>,
    /// Open handles. A removed node lives until there is none.
    open: u64,
    modified_ns: u64,
    body: Body,
}

struct Place {
    parent: Serial,
    name: Name,
}

enum Body {
    File(Contents),
    Directory(Directory),
}

#[derive(Default)]
struct Directory {
    by_name: BTreeMap<Name, Serial>,
    in_order: BTreeSet<Serial>,
}

/// Where a path leads.
enum Found<'p> {
    /// A directory that is named by no last component: `.`, `a/..`.
    Directory(Serial),
    /// The entry `name` of `parent`, there or not.
    Entry { parent: Serial, name: &'p str, node: Option<Serial> },
}

impl Found<'_> {
    fn node(&self) -> Result<Serial, FileError> {
        match self {
            Self::Directory(node) => Ok(*node),
            Self::Entry { node, .. } => node.ok_or(FileError::NoEntry),
        }
    }
}

impl Tree {
    pub(super) fn new(quota_bytes: u64) -> Self {
        let root = Node {
            place: None,
            open: 0,
            modified_ns: 0,
            body: Body::Directory(Directory::default()),
        };
        Self {
            quota_bytes,
            used_bytes: 0,
            clock: 0,
            last_serial: ROOT.0,
            nodes: BTreeMap::from([(ROOT, root)]),
            keys: Keys::default(),
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.quota_bytes.saturating_sub(self.used_bytes)
    }

    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), FileError> {
        if bytes > self.free_bytes() {
            return Err(FileError::Full);
        }
        self.used_bytes += bytes;
        Ok(())
    }

    pub(super) fn refund(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.used_bytes, "what is given back was paid");
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
    }

    pub(super) fn next_serial(&mut self) -> Serial {
        self.last_serial += 1;
        Serial(self.last_serial)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn node(&self, serial: Serial) -> Result<&Node, FileError> {
        self.nodes.get(&serial).ok_or(FileError::NoEntry)
    }

    fn node_mut(&mut self, serial: Serial) -> Result<&mut Node, FileError> {
        self.nodes.get_mut(&serial).ok_or(FileError::NoEntry)
    }

    fn directory(&self, serial: Serial) -> Result<&Directory, FileError> {
        match &self.node(serial)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(FileError::NotDirectory),
        }
    }

    fn directory_mut(&mut self, serial: Serial) -> Result<&mut Directory, FileError> {
        match &mut self.node_mut(serial)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(FileError::NotDirectory),
        }
    }

    fn file_mut(&mut self, serial: Serial) -> Result<&mut Contents, FileError> {
        match &mut self.node_mut(serial)?.body {
            Body::File(contents) => Ok(contents),
            Body::Directory(_) => Err(FileError::IsDirectory),
        }
    }

    fn kind(&self, serial: Serial) -> Result<Kind, FileError> {
        Ok(match self.node(serial)?.body {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
        })
    }

    fn parent(&self, serial: Serial) -> Option<Serial> {
        self.nodes.get(&serial)?.place.as_ref().map(|place| place.parent)
    }

    fn name_bytes(&self, serial: Serial) -> u64 {
        let place = self.nodes.get(&serial).and_then(|node| node.place.as_ref());
        place.map_or(0, |place| place.name.as_str().len() as u64)
    }

    /// The directories above `serial`; bounded by `DEPTH_MAX`.
    fn above(&self, serial: Serial) -> impl Iterator<Item = Serial> {
        std::iter::successors(self.parent(serial), |at| self.parent(*at))
    }

    /// Follows `path` from the directory `base`, and never out of it.
    fn walk<'p>(&self, base: Serial, path: &'p str) -> Result<Found<'p>, FileError> {
        if path.is_empty() {
            return Err(FileError::NoEntry);
        }
        if path.len() > PATH_MAX {
            return Err(FileError::NameTooLong);
        }
        if path.starts_with('/') {
            return Err(FileError::Escape);
        }
        let mut at = base;
        let mut below = 0_usize;
        let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
        while let Some(part) = parts.next() {
            let directory = self.directory(at)?;
            if part == ".." {
                below = below.checked_sub(1).ok_or(FileError::Escape)?;
                at = self.parent(at).ok_or(FileError::NoEntry)?;
                continue;
            }
            check_name(part)?;
            let node = directory.by_name.get(part).copied();
            if parts.peek().is_none() {
                let ends_in_directory = path.ends_with('/') || path.ends_with("/.");
                if ends_in_directory && let Some(node) = node {
                    self.directory(node)?;
                }
                return Ok(Found::Entry { parent: at, name: part, node });
            }
            at = node.ok_or(FileError::NoEntry)?;
            below += 1;
        }
        self.directory(at)?;
        Ok(Found::Directory(at))
    }

    /// Adds a node under a name that is free.
    fn add(&mut self, parent: Serial, name: &str, body: Body) -> Result<Serial, FileError> {
        // A directory that was removed while open takes no more entries.
        if parent != ROOT && self.node(parent)?.place.is_none() {
            return Err(FileError::NoEntry);
        }
        if self.above(parent).count() + 1 >= DEPTH_MAX {
            return Err(FileError::NameTooLong);
        }
        self.charge(EphemeralState::NODE_BYTES + name.len() as u64)?;
        let (serial, now) = (self.next_serial(), self.tick());
        let name = Name::new(name);
        let directory = self.directory_mut(parent)?;
        directory.by_name.insert(name.clone(), serial);
        directory.in_order.insert(serial);
        self.node_mut(parent)?.modified_ns = now;
        let place = Some(Place { parent, name });
        self.nodes.insert(serial, Node { place, open: 0, modified_ns: now, body });
        Ok(serial)
    }

    /// Takes a node out of its directory; it is freed now, or when its last handle closes.
    fn remove(&mut self, serial: Serial) -> Result<(), FileError> {
        let now = self.tick();
        let Some(place) = self.node_mut(serial)?.place.take() else {
            return Err(FileError::Invalid);
        };
        let directory = self.directory_mut(place.parent)?;
        directory.by_name.remove(place.name.as_str());
        directory.in_order.remove(&serial);
        self.node_mut(place.parent)?.modified_ns = now;
        self.refund(place.name.as_str().len() as u64);
        self.free_if_unused(serial);
        Ok(())
    }

    fn free_if_unused(&mut self, serial: Serial) {
        let unused = self
            .nodes
            .get(&serial)
            .is_some_and(|node| serial != ROOT && node.place.is_none() && node.open == 0);
        if unused && let Some(node) = self.nodes.remove(&serial) {
            let contents = match &node.body {
                Body::File(contents) => contents.size(),
                Body::Directory(_) => 0,
            };
            self.refund(EphemeralState::NODE_BYTES + contents);
        }
    }

    /// Opens, and if asked creates or empties, what `path` names. The caller closes the result.
    pub(super) fn open(
        &mut self,
        base: Serial,
        path: &str,
        how: How,
    ) -> Result<(Serial, Kind), FileError> {
        let found = self.walk(base, path)?;
        let serial = match found {
            Found::Entry { parent, name, node: None } if how.create => {
                if how.directory {
                    return Err(FileError::Invalid);
                }
                if path.ends_with(['/', '.']) && !path.ends_with(name) {
                    return Err(FileError::IsDirectory);
                }
                self.add(parent, name, Body::File(Contents::default()))?
            }
            _ => {
                let serial = found.node()?;
                if how.create && how.exclusive {
                    return Err(FileError::Exists);
                }
                serial
            }
        };
        let kind = self.kind(serial)?;
        match kind {
            Kind::File if how.directory => return Err(FileError::NotDirectory),
            Kind::Directory if (how.write && !how.directory) || how.create || how.truncate => {
                return Err(FileError::IsDirectory);
            }
            Kind::File if how.truncate => self.set_size(serial, 0)?,
            _ => {}
        }
        self.hold(serial)?;
        Ok((serial, kind))
    }

    /// Counts a handle on `serial`.
    pub(super) fn hold(&mut self, serial: Serial) -> Result<(), FileError> {
        self.node_mut(serial)?.open += 1;
        Ok(())
    }

    /// Gives one handle up.
    pub(super) fn close(&mut self, serial: Serial) {
        if let Some(node) = self.nodes.get_mut(&serial) {
            debug_assert!(node.open > 0, "a handle is closed once");
            node.open = node.open.saturating_sub(1);
        }
        self.free_if_unused(serial);
    }

    /// Whether `path` names something, so that a read-only caller learns the right error.
    pub(super) fn exists(&self, base: Serial, path: &str) -> Result<bool, FileError> {
        match self.walk(base, path)? {
            Found::Directory(_) => Ok(true),
            Found::Entry { node, .. } => Ok(node.is_some()),
        }
    }

    pub(super) fn create_directory(&mut self, base: Serial, path: &str) -> Result<(), FileError> {
        match self.walk(base, path)? {
            Found::Entry { parent, name, node: None } => {
                self.add(parent, name, Body::Directory(Directory::default())).map(drop)
            }
            _ => Err(FileError::Exists),
        }
    }

    pub(super) fn remove_directory(&mut self, base: Serial, path: &str) -> Result<(), FileError> {
        let Found::Entry { node, .. } = self.walk(base, path)? else {
            return Err(FileError::Invalid);
        };
        let serial = node.ok_or(FileError::NoEntry)?;
        if !self.directory(serial)?.by_name.is_empty() {
            return Err(FileError::NotEmpty);
        }
        self.remove(serial)
    }

    pub(super) fn unlink(&mut self, base: Serial, path: &str) -> Result<(), FileError> {
        let serial = self.walk(base, path)?.node()?;
        match self.kind(serial)? {
            Kind::Directory => Err(FileError::IsDirectory),
            Kind::File => self.remove(serial),
        }
    }

    /// Moves what `from` names to `to`, replacing a file by a file or an empty directory by a
    /// directory.
    pub(super) fn rename(
        &mut self,
        from_base: Serial,
        from: &str,
        to_base: Serial,
        to: &str,
    ) -> Result<(), FileError> {
        let Found::Entry { node: source, parent: old_parent, .. } = self.walk(from_base, from)?
        else {
            return Err(FileError::Invalid);
        };
        let source = source.ok_or(FileError::NoEntry)?;
        let Found::Entry { parent, name, node: target } = self.walk(to_base, to)? else {
            return Err(FileError::Invalid);
        };
        if target == Some(source) {
            return Ok(());
        }
        let kind = self.kind(source)?;
        let removed_parent = parent != ROOT && self.node(parent)?.place.is_none();
        if removed_parent {
            return Err(FileError::NoEntry);
        }
        if kind == Kind::File && to.ends_with('/') {
            return Err(FileError::NotDirectory);
        }
        if kind == Kind::Directory && parent != old_parent {
            if parent == source || self.above(parent).any(|at| at == source) {
                return Err(FileError::Invalid);
            }
            if self.above(parent).count() + 1 + self.height(source)? >= DEPTH_MAX {
                return Err(FileError::NameTooLong);
            }
        }
        if let Some(target) = target {
            match (kind, self.kind(target)?) {
                (Kind::File, Kind::Directory) => return Err(FileError::IsDirectory),
                (Kind::Directory, Kind::File) => return Err(FileError::NotDirectory),
                (Kind::Directory, Kind::Directory)
                    if !self.directory(target)?.by_name.is_empty() =>
                {
                    return Err(FileError::NotEmpty);
                }
                _ => {}
            }
        }
        // A longer name is paid before anything is changed.
        let (before, after) = (self.name_bytes(source), name.len() as u64);
        self.charge(after.saturating_sub(before))?;
        self.refund(before.saturating_sub(after));
        if let Some(target) = target {
            self.remove(target)?;
        }
        let now = self.tick();
        let name = Name::new(name);
        let place = Place { parent, name: name.clone() };
        let Some(old) = self.node_mut(source)?.place.replace(place) else {
            return Err(FileError::Invalid);
        };
        let directory = self.directory_mut(old.parent)?;
        directory.by_name.remove(old.name.as_str());
        directory.in_order.remove(&source);
        let directory = self.directory_mut(parent)?;
        directory.by_name.insert(name, source);
        directory.in_order.insert(source);
        self.node_mut(old.parent)?.modified_ns = now;
        self.node_mut(parent)?.modified_ns = now;
        Ok(())
    }

    /// Levels of directories in `serial`, itself included.
    fn height(&self, serial: Serial) -> Result<usize, FileError> {
        let (mut level, mut height, mut seen) = (vec![serial], 0, 0);
        while !level.is_empty() {
            height += 1;
            let mut next = Vec::new();
            for directory in level {
                for child in &self.directory(directory)?.in_order {
                    seen += 1;
                    if seen > SUBTREE_MAX {
                        return Err(FileError::CrossState);
                    }
                    if self.kind(*child)? == Kind::Directory {
                        next.push(*child);
                    }
                }
            }
            level = next;
        }
        Ok(height)
    }

    pub(super) fn stat(&self, serial: Serial) -> Result<Stat, FileError> {
        let node = self.node(serial)?;
        let (kind, size) = match &node.body {
            Body::File(contents) => (Kind::File, contents.size()),
            Body::Directory(_) => (Kind::Directory, 0),
        };
        let is_linked = serial == ROOT || node.place.is_some();
        Ok(Stat { serial, kind, size, modified_ns: node.modified_ns, is_linked })
    }

    pub(super) fn stat_at(&self, base: Serial, path: &str) -> Result<Stat, FileError> {
        self.stat(self.walk(base, path)?.node()?)
    }

    /// Sets when it was changed; `None` for now.
    pub(super) fn set_modified(
        &mut self,
        serial: Serial,
        ns: Option<u64>,
    ) -> Result<(), FileError> {
        let now = self.tick();
        self.node_mut(serial)?.modified_ns = ns.unwrap_or(now);
        Ok(())
    }

    pub(super) fn set_modified_at(
        &mut self,
        base: Serial,
        path: &str,
        ns: Option<u64>,
    ) -> Result<(), FileError> {
        let serial = self.walk(base, path)?.node()?;
        self.set_modified(serial, ns)
    }

    pub(super) fn read(
        &mut self,
        serial: Serial,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, FileError> {
        Ok(self.file_mut(serial)?.read(offset, into))
    }

    /// Writes as much of `data` as the quota has room for; where it was written, and how much.
    /// Without an offset at the end.
    pub(super) fn write(
        &mut self,
        serial: Serial,
        offset: Option<u64>,
        data: &[u8],
    ) -> Result<(u64, usize), FileError> {
        let free = self.free_bytes();
        let size = self.file_mut(serial)?.size();
        let offset = offset.unwrap_or(size);
        if data.is_empty() {
            return Ok((offset, 0));
        }
        let end = offset.checked_add(data.len() as u64).ok_or(FileError::TooLarge)?;
        let end = end.min(size.saturating_add(free).max(size));
        if end <= offset {
            return Err(FileError::Full);
        }
        let data = &data[..usize::try_from(end - offset).unwrap_or(data.len())];
        self.charge(end.saturating_sub(size))?;
        let now = self.tick();
        self.file_mut(serial)?.write(offset, data);
        self.node_mut(serial)?.modified_ns = now;
        Ok((offset, data.len()))
    }

    pub(super) fn set_size(&mut self, serial: Serial, size: u64) -> Result<(), FileError> {
        let before = self.file_mut(serial)?.size();
        self.charge(size.saturating_sub(before))?;
        let now = self.tick();
        self.file_mut(serial)?.set_size(size);
        self.node_mut(serial)?.modified_ns = now;
        self.refund(before.saturating_sub(size));
        Ok(())
    }

    /// The first entry of a directory after the one named `after`, in the order of creation.
    pub(super) fn entry_after(
        &self,
        serial: Serial,
        after: Serial,
    ) -> Result<Option<Entry>, FileError> {
        let following = (Bound::Excluded(after), Bound::Unbounded);
        let Some(next) = self.directory(serial)?.in_order.range(following).next() else {
            return Ok(None);
        };
        let place = self.node(*next)?.place.as_ref().ok_or(FileError::NoEntry)?;
        Ok(Some(Entry { serial: *next, kind: self.kind(*next)?, name: place.name.clone() }))
    }
}

fn check_name(name: &str) -> Result<(), FileError> {
    if name.len() > NAME_MAX {
        return Err(FileError::NameTooLong);
    }
    if name.contains('\0') {
        return Err(FileError::IllegalName);
    }
    Ok(())
}
