//! The tree that an image's layers make, one applied over the other.
//!
//! Pure. Names and links are followed in this tree and nowhere else: a parent that is a symlink is
//! followed from the image's root, as tools that unpack inside a root directory do; the last part of
//! a name never is.
//!
//! Invariants, each held by a test in `tests/image/merge.rs` or `hostile.rs`:
//! 1. A whiteout hides what lower layers have and nothing of its own layer, wherever it stands.
//! 2. What has a name has its bytes, also when every other name of it was hidden.
//! 3. No path is longer than Linux can open, whatever symlinks lengthen it.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::archive::{Attributes, Meta};
use super::fault::shown;
use super::limits::PATH_BYTES_MAX;
use super::scan::{Change, Parts, Record};

/// How many symlinks a name may lead over: Linux's own bound.
const LINKS_MAX: usize = 40;

/// A parent that no layer mentions belongs to root and may be entered by all.
const IMPLICIT: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0 };

/// Steps that all names of an image together may take through the tree. An image of a million
/// entries takes some ten million; symlinks over symlinks could make it many thousand times that.
const STEPS_MAX: u64 = 50_000_000;

/// Bytes of all full paths together. Symlinked parents make them longer than the names in a layer.
const PATHS_BYTES_MAX: u64 = 512 << 20;

/// Why an entry cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeFault {
    #[error("entry {path:?}: {why}")]
    Entry { path: String, why: &'static str },
    #[error("more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
}

/// A file, directory or other thing; several names may mean the same one.
pub(crate) type Inode = u32;

/// Where a file's bytes are: which layer, and which of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) layer: usize,
    pub(crate) record: usize,
}

#[derive(Debug)]
pub(crate) enum Body {
    Directory { names: BTreeMap<Box<[u8]>, Name>, path_bytes: usize },
    File { origin: Origin, size: u64 },
    Symlink(Box<[u8]>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) body: Body,
    pub(crate) meta: Meta,
    pub(crate) xattrs: Attributes,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) inode: Inode,
    /// Which layer put it there.
    layer: usize,
    /// Whether that layer has an entry for it; a parent may be there without.
    stated: bool,
}

/// All layers applied so far.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    layer: usize,
    root_stated: Option<usize>,
    /// What this layer's whiteouts hid: a hard link of the same layer may still mean it.
    hidden: BTreeMap<Parts, Inode>,
    /// Steps taken, and bytes of paths given, so far.
    steps: Cell<u64>,
    paths_bytes: u64,
}

/// The root directory.
pub(crate) const ROOT: Inode = 0;

impl Tree {
    pub(crate) fn new() -> Self {
        let body = Body::Directory { names: BTreeMap::new(), path_bytes: 0 };
        let root = Node { body, meta: IMPLICIT, xattrs: Vec::new() };
        Self {
            nodes: vec![root],
            layer: 0,
            root_stated: None,
            hidden: BTreeMap::new(),
            steps: Cell::new(0),
            paths_bytes: 0,
        }
    }

    /// Applies the next layer.
    pub(crate) fn apply(&mut self, layer: usize, records: Vec<Record>) -> Result<(), TreeFault> {
        self.layer = layer;
        self.hidden.clear();
        for (record, entry) in records.into_iter().enumerate() {
            let path = entry.path.clone();
            self.entry(Origin { layer, record }, entry)
                .map_err(|why| TreeFault::Entry { path: shown(&path.join(&b'/')), why })?;
            let fault = |what, limit| Err(TreeFault::Limit { what, limit });
            if self.steps.get() > STEPS_MAX {
                return fault("steps over names and symlinks", STEPS_MAX);
            }
            if self.paths_bytes > PATHS_BYTES_MAX {
                return fault("bytes of paths", PATHS_BYTES_MAX);
            }
        }
        Ok(())
    }

    pub(crate) fn node(&self, inode: Inode) -> &Node {
        &self.nodes[inode as usize]
    }

    fn entry(&mut self, origin: Origin, entry: Record) -> Result<(), &'static str> {
        let Record { path, change, meta, xattrs } = entry;
        let Some((last, above)) = path.split_last() else {
            match change {
                Change::Opaque => self.hide_below(ROOT, &path),
                _ => self.root(meta, xattrs)?,
            }
            return Ok(());
        };
        let body = match change {
            Change::Whiteout => {
                if let Some(parent) = self.find_directory(above) {
                    self.hide(parent, last, &path);
                }
                return Ok(());
            }
            Change::Opaque => {
                if let Some(directory) = self.find_directory(&path) {
                    self.hide_below(directory, &path);
                }
                return Ok(());
            }
            Change::Link(target) => {
                let inode = self.link_target(&target).ok_or("it links to what is not there")?;
                let parent = self.parent(above)?;
                return self.put(parent, last, inode);
            }
            Change::Directory => {
                let parent = self.parent(above)?;
                return self.directory(parent, last, meta, xattrs);
            }
            Change::File(size) => Body::File { origin, size },
            Change::Symlink(target) => Body::Symlink(target),
            Change::Character(major, minor) => Body::Character(major, minor),
            Change::Block(major, minor) => Body::Block(major, minor),
            Change::Fifo => Body::Fifo,
        };
        let parent = self.parent(above)?;
        let inode = self.add(Node { body, meta, xattrs })?;
        self.put(parent, last, inode)
    }

    fn add(&mut self, node: Node) -> Result<Inode, &'static str> {
        let inode = Inode::try_from(self.nodes.len()).map_err(|_| "too many entries")?;
        self.nodes.push(node);
        Ok(inode)
    }

    fn root(&mut self, meta: Meta, xattrs: Attributes) -> Result<(), &'static str> {
        let root = &mut self.nodes[ROOT as usize];
        if self.root_stated == Some(self.layer) && (root.meta, &root.xattrs) != (meta, &xattrs) {
            return Err("it is there twice");
        }
        self.root_stated = Some(self.layer);
        (root.meta, root.xattrs) = (meta, xattrs);
        Ok(())
    }

    /// A directory over a directory keeps what is in it; over anything else it replaces it.
    fn directory(
        &mut self,
        parent: Inode,
        name: &[u8],
        meta: Meta,
        xattrs: Attributes,
    ) -> Result<(), &'static str> {
        if let Some(known) = self.name(parent, name)
            && let node = &mut self.nodes[known.inode as usize]
            && matches!(node.body, Body::Directory { .. })
        {
            let again = known.stated && known.layer == self.layer;
            if again && (node.meta, &node.xattrs) != (meta, &xattrs) {
                return Err("it is there twice");
            }
            (node.meta, node.xattrs) = (meta, xattrs);
            let layer = self.layer;
            self.names_mut(parent).insert(name.into(), Name { layer, stated: true, ..known });
            return Ok(());
        }
        let path_bytes = self.child_path_bytes(parent, name)?;
        let body = Body::Directory { names: BTreeMap::new(), path_bytes };
        let inode = self.add(Node { body, meta, xattrs })?;
        self.put(parent, name, inode)
    }

    /// Gives `inode` a name; what lower layers have under it is replaced.
    fn put(&mut self, parent: Inode, name: &[u8], inode: Inode) -> Result<(), &'static str> {
        self.paths_bytes += self.child_path_bytes(parent, name)? as u64;
        if let Some(known) = self.name(parent, name) {
            if known.layer == self.layer {
                return Err("it is there twice");
            }
            if self.has_of_this_layer(known.inode) {
                return Err("the same layer has entries below it");
            }
        }
        let name_of_ours = Name { inode, layer: self.layer, stated: true };
        self.names_mut(parent).insert(name.into(), name_of_ours);
        Ok(())
    }

    fn child_path_bytes(&self, parent: Inode, name: &[u8]) -> Result<usize, &'static str> {
        let Body::Directory { path_bytes, .. } = &self.node(parent).body else {
            unreachable!("parents are directories")
        };
        let bytes = path_bytes + 1 + name.len();
        if bytes > PATH_BYTES_MAX { Err("its path is too long") } else { Ok(bytes) }
    }

    fn name(&self, directory: Inode, name: &[u8]) -> Option<Name> {
        self.step(1);
        match &self.node(directory).body {
            Body::Directory { names, .. } => names.get(name).copied(),
            _ => None,
        }
    }

    fn names_mut(&mut self, directory: Inode) -> &mut BTreeMap<Box<[u8]>, Name> {
        match &mut self.nodes[directory as usize].body {
            Body::Directory { names, .. } => names,
            _ => unreachable!("parents are directories"),
        }
    }

    /// Hides one name that lower layers have; of a directory, what is not of this layer.
    fn hide(&mut self, parent: Inode, name: &[u8], path: &[Box<[u8]>]) {
        let Some(known) = self.name(parent, name) else { return };
        if known.layer == self.layer || self.has_of_this_layer(known.inode) {
            self.hide_below(known.inode, path);
            return;
        }
        self.hidden.insert(path.to_vec(), known.inode);
        self.names_mut(parent).remove(name);
    }

    /// Hides what lower layers have in a directory.
    fn hide_below(&mut self, directory: Inode, path: &[Box<[u8]>]) {
        let mut todo = vec![(directory, path.to_vec())];
        while let Some((directory, path)) = todo.pop() {
            let Body::Directory { names, .. } = &self.node(directory).body else { continue };
            let names: Vec<(Box<[u8]>, Name)> =
                names.iter().map(|(name, to)| (name.clone(), *to)).collect();
            self.step(names.len());
            for (name, known) in names {
                let mut below = path.clone();
                below.push(name.clone());
                if known.layer == self.layer || self.has_of_this_layer(known.inode) {
                    todo.push((known.inode, below));
                } else {
                    self.hidden.insert(below, known.inode);
                    self.names_mut(directory).remove(&name);
                }
            }
        }
    }

    fn step(&self, steps: usize) {
        self.steps.set(self.steps.get().saturating_add(steps as u64));
    }

    /// Whether this layer put anything below.
    fn has_of_this_layer(&self, inode: Inode) -> bool {
        let mut todo = vec![inode];
        while let Some(next) = todo.pop() {
            if let Body::Directory { names, .. } = &self.node(next).body {
                self.step(names.len());
                if names.values().any(|name| name.layer == self.layer) {
                    return true;
                }
                todo.extend(names.values().map(|name| name.inode));
            }
        }
        false
    }

    /// The directory that entries below `path` go into; made where it is missing.
    fn parent(&mut self, path: &[Box<[u8]>]) -> Result<Inode, &'static str> {
        let mut walk = Walk::new(path);
        while let Some(part) = walk.next() {
            let part = match part {
                Part::Up => {
                    self.step(1);
                    continue;
                }
                Part::Name(name) => name,
            };
            let here = walk.here();
            match self.name(here, &part).map(|name| name.inode) {
                None => {
                    let path_bytes = self.child_path_bytes(here, &part)?;
                    self.paths_bytes += path_bytes as u64;
                    let body = Body::Directory { names: BTreeMap::new(), path_bytes };
                    let made = self.add(Node { body, meta: IMPLICIT, xattrs: Vec::new() })?;
                    let name = Name { inode: made, layer: self.layer, stated: false };
                    self.names_mut(here).insert(part, name);
                    walk.enter(made);
                }
                Some(inode) => match &self.node(inode).body {
                    Body::Directory { .. } => walk.enter(inode),
                    Body::Symlink(target) => walk.follow(target)?,
                    _ => return Err("its parent is no directory"),
                },
            }
        }
        Ok(walk.here())
    }

    /// The directory at `path`, if there is one.
    fn find_directory(&self, path: &[Box<[u8]>]) -> Option<Inode> {
        let mut walk = Walk::new(path);
        while let Some(part) = walk.next() {
            let Part::Name(name) = part else { continue };
            let inode = self.name(walk.here(), &name)?.inode;
            match &self.node(inode).body {
                Body::Directory { .. } => walk.enter(inode),
                Body::Symlink(target) => walk.follow(target).ok()?,
                _ => return None,
            }
        }
        Some(walk.here())
    }

    /// The file at `path`, its last part followed as well.
    pub(crate) fn find_file(&self, path: &[&[u8]]) -> Option<Origin> {
        let path: Parts = path.iter().map(|part| (*part).into()).collect();
        let mut walk = Walk::new(&path);
        while let Some(part) = walk.next() {
            let Part::Name(name) = part else { continue };
            let inode = self.name(walk.here(), &name)?.inode;
            match &self.node(inode).body {
                Body::Directory { .. } => walk.enter(inode),
                Body::Symlink(target) => walk.follow(target).ok()?,
                Body::File { origin, .. } => return walk.is_done().then_some(*origin),
                _ => return None,
            }
        }
        None
    }

    /// What a hard link means: what has the name, or had it before this layer hid it.
    fn link_target(&self, path: &[Box<[u8]>]) -> Option<Inode> {
        let (last, above) = path.split_last()?;
        let linkable = |inode: &Inode| !matches!(self.node(*inode).body, Body::Directory { .. });
        let now = self.find_directory(above).and_then(|parent| self.name(parent, last));
        now.map(|name| name.inode).or_else(|| self.was(path)).filter(linkable)
    }

    fn was(&self, path: &[Box<[u8]>]) -> Option<Inode> {
        (1..=path.len()).rev().find_map(|length| {
            let mut inode = *self.hidden.get(&path[..length])?;
            for part in &path[length..] {
                inode = self.name(inode, part)?.inode;
            }
            Some(inode)
        })
    }
}

enum Part {
    Up,
    Name(Box<[u8]>),
}

/// A name on its way through the tree, symlinks in it included.
struct Walk {
    /// From the root to where it is.
    way: Vec<Inode>,
    /// What is still to come, the next part last.
    rest: Parts,
    links: usize,
}

impl Walk {
    fn new(path: &[Box<[u8]>]) -> Self {
        let rest = path.iter().rev().cloned().collect();
        Self { way: vec![ROOT], rest, links: 0 }
    }

    fn here(&self) -> Inode {
        *self.way.last().unwrap_or(&ROOT)
    }

    fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    fn next(&mut self) -> Option<Part> {
        let part = self.rest.pop()?;
        if *part != *b".." {
            return Some(Part::Name(part));
        }
        // Above the root is the root.
        if self.way.len() > 1 {
            self.way.pop();
        }
        Some(Part::Up)
    }

    fn enter(&mut self, directory: Inode) {
        self.way.push(directory);
    }

    /// An absolute target begins at the image's root.
    fn follow(&mut self, target: &[u8]) -> Result<(), &'static str> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err("its parents lead over too many symlinks");
        }
        if target.starts_with(b"/") {
            self.way.truncate(1);
        }
        let parts = target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        self.rest.extend(parts.rev().map(Box::from));
        Ok(())
    }
}
