//! Two trees on disk, entry by entry: what umoci unpacked, and what unsquashfs did.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use vyr_base::Digest;

/// What can be seen of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    device: u64,
    links: u64,
    content: Option<Digest>,
    target: Option<Vec<u8>>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first of the names that mean the same file.
    same_as: Vec<u8>,
}

/// Everything below `root`, by path.
pub(crate) fn tree(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut paths = vec![root.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = paths.pop() {
        if fs::symlink_metadata(&path).expect("there").is_dir() {
            for entry in fs::read_dir(&path).expect("a directory") {
                paths.push(entry.expect("an entry").path());
            }
        }
        all.push(path);
    }
    all.sort();
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for path in all {
        let name = path.strip_prefix(root).expect("below").as_os_str().as_bytes().to_vec();
        let meta = fs::symlink_metadata(&path).expect("there");
        let kind = meta.file_type();
        let same_as = first.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
        let entry = Seen {
            kind: match kind {
                _ if kind.is_dir() => "directory",
                _ if kind.is_symlink() => "symlink",
                _ if kind.is_char_device() => "character device",
                _ if kind.is_block_device() => "block device",
                _ if kind.is_fifo() => "fifo",
                _ if kind.is_socket() => "socket",
                _ => "file",
            },
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: meta.mtime(),
            device: meta.rdev(),
            links: if kind.is_dir() { 0 } else { meta.nlink() },
            content: kind.is_file().then(|| Digest::of(&fs::read(&path).expect("readable"))),
            target: kind
                .is_symlink()
                .then(|| fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec()),
            xattrs: xattrs(&path),
            same_as,
        };
        seen.insert(name, entry);
    }
    seen
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("attributes");
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("a value");
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

/// Fails with the first difference. Directories that no layer mentions are `implicit`: what tools
/// make of their times is their own affair.
pub(crate) fn assert_same(
    theirs: &BTreeMap<Vec<u8>, Seen>,
    ours: &BTreeMap<Vec<u8>, Seen>,
    implicit: &[&str],
) {
    let names = |tree: &BTreeMap<Vec<u8>, Seen>| -> Vec<String> {
        tree.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    assert_eq!(names(theirs), names(ours), "the names differ");
    for (name, their) in theirs {
        let mut our = ours[name].clone();
        let shown = String::from_utf8_lossy(name);
        if implicit.contains(&shown.as_ref()) {
            our.mtime = their.mtime;
        }
        assert_eq!(their, &our, "{shown} differs");
    }
}

#[test]
fn a_difference_is_found() {
    let make = || {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("a"), "x").expect("a file");
        fs::hard_link(directory.path().join("a"), directory.path().join("b")).expect("a link");
        let time = fs::File::open(directory.path().join("a")).expect("there");
        time.set_modified(std::time::UNIX_EPOCH).expect("a time");
        directory
    };
    let same = |one: &tempfile::TempDir, other: &tempfile::TempDir| {
        let (one, other) = (tree(one.path()), tree(other.path()));
        std::panic::catch_unwind(|| assert_same(&one, &other, &[""])).is_ok()
    };
    let (one, other) = (make(), make());
    assert!(same(&one, &other));
    // The same bytes under the same names, but two files.
    fs::remove_file(other.path().join("b")).expect("there");
    fs::copy(other.path().join("a"), other.path().join("b")).expect("a copy");
    assert!(!same(&one, &other));
}
