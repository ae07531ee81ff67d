//! The tree as one tar stream: a form of our own making, so that one reader reads it one way.
//!
//! Directories, symlinks, devices and FIFOs come first, in the order of their names; then every
//! file, in the order of the layers that hold it, each with its other names behind it. Long names
//! are GNU records, attributes PAX records, large numbers binary: what tar2sqfs and
//! mksquashfs both read. The root is the entry `./`.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use tar::{EntryType, Header};

use super::archive::{Attributes, Meta};
use super::tree::{Body, Inode, Origin, ROOT, Tree};

/// Bytes of a name that fit a header.
const SHORT_BYTES: usize = 100;

/// A file of the tree: where its bytes are, and its names in their order.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) inode: Inode,
    pub(crate) size: u64,
    pub(crate) names: Vec<Vec<u8>>,
}

/// Writes all that is no file; gives the files, by where they are.
pub(crate) fn frame(
    tree: &Tree,
    out: &mut (impl Write + ?Sized),
) -> io::Result<BTreeMap<Origin, Live>> {
    let mut files: BTreeMap<Origin, Live> = BTreeMap::new();
    let mut first: HashMap<Inode, Vec<u8>> = HashMap::new();
    // A stack instead of recursion: how deep a tree is, a layer decides.
    let mut todo: Vec<(Vec<u8>, Inode)> = vec![(Vec::new(), ROOT)];
    while let Some((path, inode)) = todo.pop() {
        let node = tree.node(inode);
        let mut emit = |kind: EntryType, link: &[u8], device: Option<(u32, u32)>| {
            if let Some(known) = first.get(&inode) {
                return plain(out, &path, EntryType::Link, known, node.meta, &Vec::new(), None);
            }
            first.insert(inode, path.clone());
            plain(out, &path, kind, link, node.meta, &node.xattrs, device)
        };
        match &node.body {
            Body::Directory { names, .. } => {
                let below = if path.is_empty() { Vec::new() } else { [&path[..], b"/"].concat() };
                let name = if path.is_empty() { b"./" } else { &below[..] };
                plain(out, name, EntryType::Directory, b"", node.meta, &node.xattrs, None)?;
                for (name, to) in names.iter().rev() {
                    todo.push(([&below[..], name].concat(), to.inode));
                }
            }
            Body::File { origin, size } => {
                let live = || Live { inode, size: *size, names: Vec::new() };
                files.entry(*origin).or_insert_with(live).names.push(path);
            }
            Body::Symlink(target) => emit(EntryType::Symlink, target, None)?,
            Body::Character(major, minor) => emit(EntryType::Char, b"", Some((*major, *minor)))?,
            Body::Block(major, minor) => emit(EntryType::Block, b"", Some((*major, *minor)))?,
            Body::Fifo => emit(EntryType::Fifo, b"", None)?,
        }
    }
    Ok(files)
}

/// Writes a file's header; its data and [`end_of_file`] follow.
pub(crate) fn file(tree: &Tree, live: &Live, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let node = tree.node(live.inode);
    let name = &live.names[0];
    header(out, name, EntryType::Regular, b"", node.meta, &node.xattrs, None, live.size)
}

/// Fills the last block of a file's data and writes its other names.
pub(crate) fn end_of_file(
    tree: &Tree,
    live: &Live,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    pad(out, live.size)?;
    let meta = tree.node(live.inode).meta;
    for other in &live.names[1..] {
        plain(out, other, EntryType::Link, &live.names[0], meta, &Vec::new(), None)?;
    }
    Ok(())
}

/// Two empty blocks.
pub(crate) fn end(out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    out.write_all(&[0; 1024])
}

fn plain(
    out: &mut (impl Write + ?Sized),
    path: &[u8],
    kind: EntryType,
    link: &[u8],
    meta: Meta,
    xattrs: &Attributes,
    device: Option<(u32, u32)>,
) -> io::Result<()> {
    header(out, path, kind, link, meta, xattrs, device, 0)
}

#[expect(clippy::too_many_arguments, reason = "the fields of a header, each once")]
fn header(
    out: &mut (impl Write + ?Sized),
    path: &[u8],
    kind: EntryType,
    link: &[u8],
    meta: Meta,
    xattrs: &Attributes,
    device: Option<(u32, u32)>,
    size: u64,
) -> io::Result<()> {
    if !xattrs.is_empty() {
        let mut records = Vec::new();
        for (name, value) in xattrs {
            record(&mut records, name, value);
        }
        extension(out, EntryType::XHeader, &records)?;
    }
    for (kind, name) in [(EntryType::GNULongName, path), (EntryType::GNULongLink, link)] {
        if name.len() > SHORT_BYTES {
            extension(out, kind, &[name, b"\0"].concat())?;
        }
    }
    let mut header = Header::new_gnu();
    let bytes = header.as_mut_bytes();
    let put = |field: &mut [u8], name: &[u8]| {
        let length = name.len().min(SHORT_BYTES);
        field[..length].copy_from_slice(&name[..length]);
    };
    put(&mut bytes[..100], path);
    put(&mut bytes[157..257], link);
    header.set_entry_type(kind);
    header.set_mode(u32::from(meta.mode));
    header.set_uid(u64::from(meta.uid));
    header.set_gid(u64::from(meta.gid));
    header.set_mtime(u64::from(meta.mtime));
    header.set_size(size);
    if let Some((major, minor)) = device {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// A header that extends the next one.
fn extension(out: &mut (impl Write + ?Sized), kind: EntryType, data: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    let name = b"././@LongLink";
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(data)?;
    pad(out, data.len() as u64)
}

fn pad(out: &mut (impl Write + ?Sized), size: u64) -> io::Result<()> {
    let missing = size.next_multiple_of(512) - size;
    out.write_all(&[0; 512][..usize::try_from(missing).unwrap_or(0)])
}

/// `LENGTH SCHILY.xattr.NAME=VALUE\n`, where LENGTH counts its own digits.
fn record(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let rest = " SCHILY.xattr.=\n".len() + name.len() + value.len();
    let mut digits = 1;
    while (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    records.extend_from_slice((rest + digits).to_string().as_bytes());
    records.extend_from_slice(b" SCHILY.xattr.");
    records.extend_from_slice(name);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
