//! Temporary stores, what lies in them, and a judge of whether they are sound.
//!
//! The judge follows the documents by itself, with plain JSON, so that it does not share the
//! store's mistakes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use vyr_artifact::{Artifact, IMAGE_MANIFEST_TYPE, Namespace, Referrer, Spec, signed_bytes};
use vyr_base::Digest;
use vyr_store::{Entry, PutError, REF_NAME, Store};

use crate::artifact::MODULE;
use crate::keys::KEYS;

pub(crate) const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Every media type whose documents are followed.
const FOLLOWED: [&str; 4] = [
    IMAGE_MANIFEST,
    IMAGE_INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Far more levels than the store follows; it ends a loop if the store should not.
const LEVELS_MAX: usize = 64;

/// A temporary directory, in memory where that is to be had: a store syncs what it writes, and a
/// fuzzer opens thousands of them.
pub fn scratch_dir() -> io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let chosen = std::env::var_os("TMPDIR").is_none() && memory.is_dir();
    if chosen && let Ok(directory) = tempfile::tempdir_in(memory) {
        return Ok(directory);
    }
    tempfile::tempdir()
}

/// A store in a directory of its own.
pub(crate) struct Scratch {
    directory: TempDir,
    pub(crate) store: Store,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let directory = scratch_dir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a new store");
        Self { directory, store }
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Lays a file into the store past its interface, as damage or another tool would.
    pub(crate) fn lay_blob(&self, digest: &Digest, content: &[u8]) {
        fs::write(self.blob_path(digest), content).expect("room for a blob");
    }

    pub(crate) fn lay(&self, name: &str, content: &[u8]) {
        fs::write(self.root().join(name), content).expect("room for a file");
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// All files below the directory with their content; locks are empty and left out.
    pub(crate) fn tree(&self) -> Tree {
        let mut found = Tree::new();
        let mut directories = vec![self.root().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_none_or(|extension| extension != "lock") {
                    found.insert(path.clone(), fs::read(&path).expect("a file"));
                }
            }
        }
        found
    }

    /// Asserts that every artifact of the index is there with all it names, byte for byte, and
    /// that nothing is left over in staging. Says what is reached.
    pub(crate) fn assert_sound(&self) -> BTreeSet<Digest> {
        let staging = fs::read_dir(self.root().join("staging")).expect("a directory").count();
        assert_eq!(staging, 0, "something was left in staging");
        let entries = self.store.entries().expect("an index");
        let reached = self.reached(&entries);
        for (digest, sizes) in &reached {
            let bytes = fs::read(self.blob_path(digest));
            let bytes = bytes.unwrap_or_else(|error| panic!("{digest} is named: {error}"));
            assert_eq!(Digest::of(&bytes), *digest, "{digest} is damaged");
            for size in sizes {
                assert_eq!(*size, json!(bytes.len()), "{digest} has another size");
            }
        }
        reached.into_keys().collect()
    }

    /// All that entries name, directly or by documents that can be read, with the stated sizes.
    pub(crate) fn reached(&self, entries: &[Entry]) -> BTreeMap<Digest, Vec<Value>> {
        let mut reached = BTreeMap::new();
        for entry in entries {
            let link = json!({
                "mediaType": entry.media_type, "digest": entry.digest, "size": entry.size,
            });
            self.follow(&link, true, 0, &mut reached);
        }
        reached
    }

    fn follow(
        &self,
        link: &Value,
        may_be_followed: bool,
        level: usize,
        reached: &mut BTreeMap<Digest, Vec<Value>>,
    ) {
        assert!(level < LEVELS_MAX, "documents are nested without end");
        let digest = link["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
        let Some(digest) = digest else { return };
        reached.entry(digest).or_default().push(link["size"].clone());
        let media_type = link["mediaType"].as_str().unwrap_or_default();
        if !may_be_followed || !FOLLOWED.contains(&media_type) {
            return;
        }
        let Some(document) = self.document(&digest) else { return };
        let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        for leaf in list("layers").iter().chain([&document["config"]]) {
            self.follow(leaf, false, level + 1, reached);
        }
        for child in list("manifests") {
            self.follow(&child, true, level + 1, reached);
        }
    }

    /// A blob as JSON, if it is there, undamaged and JSON.
    pub(crate) fn document(&self, digest: &Digest) -> Option<Value> {
        let bytes = fs::read(self.blob_path(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then(|| serde_json::from_slice(&bytes).ok()).flatten()
    }

    /// The subject of the manifest with this digest.
    pub(crate) fn subject(&self, digest: &Digest) -> Option<Digest> {
        let bytes = fs::read(self.blob_path(digest)).ok()?;
        subject(&bytes).filter(|_| Digest::of(&bytes) == *digest)
    }
}

/// The subject of a manifest; of other fields only the grammar is looked at, since the store
/// takes texts there that are no Unicode (`"\ud800"`).
pub(crate) fn subject(manifest: &[u8]) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Referring {
        subject: Option<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: Digest,
    }
    let text = str::from_utf8(manifest).ok()?;
    Some(serde_json::from_str::<Referring>(text).ok()?.subject?.digest)
}

/// A small signed artifact, put the way the product puts one.
pub(crate) fn put(store: &Store, name: &str, content: &[u8], tag: Option<&str>) -> Digest {
    let wasm = [MODULE, content].concat();
    let spec = Spec { name: name.to_owned(), ..Spec::default() };
    let artifact = Artifact::build(&spec, &wasm).expect("a valid spec");
    put_signed(store, &artifact, &wasm, tag).expect("room for an artifact")
}

/// Puts an artifact with a signature of the first key.
pub(crate) fn put_signed(
    store: &Store,
    artifact: &Artifact,
    wasm: &[u8],
    tag: Option<&str>,
) -> Result<Digest, PutError> {
    let manifest = &artifact.manifest;
    let armored = KEYS[0].sign(Namespace::Artifact, &signed_bytes(&manifest.digest()));
    let (referrer, layer) =
        Referrer::build(&manifest.descriptor(), &armored).expect("a signature of ours");
    let annotations = tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned()));
    let mut put = store.begin_put(
        manifest.bytes(),
        IMAGE_MANIFEST_TYPE,
        annotations.into_iter().collect(),
    )?;
    put.also(&referrer, IMAGE_MANIFEST_TYPE, BTreeMap::new())?;
    for blob in [&artifact.config[..], wasm, Referrer::EMPTY_CONFIG, &layer] {
        put.blob(&Digest::of(blob), blob.len() as u64, &mut &blob[..])?;
    }
    put.commit()
}

/// A store with one signed artifact.
pub(crate) fn stocked() -> Scratch {
    let scratch = Scratch::new();
    put(&scratch.store, "resident", b"resident", Some("latest"));
    scratch
}

/// An archive of these artifacts.
pub(crate) fn export(store: &Store, artifacts: &[Digest]) -> Vec<u8> {
    let mut archive = Vec::new();
    store.export(artifacts, &mut archive).expect("what is whole can be exported");
    archive
}

/// Files and their content.
pub(crate) type Tree = BTreeMap<PathBuf, Vec<u8>>;

thread_local! {
    static KEPT: RefCell<BTreeMap<&'static str, (Scratch, Tree)>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// Calls `judge` with a store that `make` made, and with what lay in it then; the store is used
/// again for the next input if that is still all that lies in it.
pub(crate) fn with_store(
    name: &'static str,
    make: impl FnOnce() -> Scratch,
    judge: impl FnOnce(&Scratch, &Tree),
) {
    let (scratch, before) = KEPT.with_borrow_mut(|kept| kept.remove(name)).unwrap_or_else(|| {
        let scratch = make();
        let before = scratch.tree();
        (scratch, before)
    });
    judge(&scratch, &before);
    if scratch.tree() == before {
        KEPT.with_borrow_mut(|kept| kept.insert(name, (scratch, before)));
    }
}
