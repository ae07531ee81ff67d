//! Artifacts to put, and an independent judge of whether a store is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use vyr_base::Digest;
use vyr_store::{Entry, GcOptions, ImportLimits, PutError, Store};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const SIGNATURE: &str = "application/vnd.vyr.signature.v1";

/// A manifest and the blobs it names.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) manifest: Vec<u8>,
    pub(crate) blobs: Vec<Vec<u8>>,
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

impl Artifact {
    /// A Wasm artifact with these layers.
    pub(crate) fn new(layers: &[&[u8]]) -> Self {
        let named: Vec<Value> =
            layers.iter().map(|layer| descriptor("application/wasm", layer)).collect();
        let digests: Vec<&Value> = named.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({"architecture": "wasm", "os": "wasip1", "layerDigests": digests});
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(WASM_CONFIG, &config),
            "layers": named,
        });
        let mut blobs = vec![config];
        blobs.extend(layers.iter().map(|layer| layer.to_vec()));
        Self { manifest: manifest.to_string().into_bytes(), blobs }
    }

    /// What a signature of `subject` looks like to the store.
    pub(crate) fn signature(subject: &Self, text: &str) -> Self {
        let (config, layer) = (b"{}".to_vec(), text.as_bytes().to_vec());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": SIGNATURE,
            "config": descriptor("application/vnd.oci.empty.v1+json", &config),
            "layers": [descriptor("application/vnd.vyr.sshsig", &layer)],
            "subject": descriptor(MANIFEST, &subject.manifest),
        });
        Self { manifest: manifest.to_string().into_bytes(), blobs: vec![config, layer] }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub(crate) fn put(&self, store: &Store) -> Result<Digest, PutError> {
        let mut put = store.begin_put(&self.manifest, MANIFEST, BTreeMap::new())?;
        for blob in &self.blobs {
            put.blob(&Digest::of(blob), blob.len() as u64, &mut blob.as_slice())?;
        }
        put.commit()
    }

    /// Puts this artifact and a signature of it in one commit.
    pub(crate) fn put_signed(&self, store: &Store, text: &str) -> Result<Digest, PutError> {
        let signature = Self::signature(self, text);
        let mut put = store.begin_put(&self.manifest, MANIFEST, BTreeMap::new())?;
        put.also(&signature.manifest, MANIFEST, BTreeMap::new())?;
        for blob in self.blobs.iter().chain(&signature.blobs) {
            put.blob(&Digest::of(blob), blob.len() as u64, &mut blob.as_slice())?;
        }
        put.commit()
    }
}

/// A store in a temporary directory of its own.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
}

pub(crate) fn place() -> Place {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&directory.path().join("store")).expect("a new store");
    Place { directory, store }
}

pub(crate) fn blob_path(store: &Store, digest: &Digest) -> PathBuf {
    store.root().join("blobs/sha256").join(digest.hex())
}

/// Everything, whatever its age, as of a time at which all of staging is old.
pub(crate) fn collect_all() -> GcOptions<'static> {
    GcOptions {
        dry_run: false,
        older_than: Duration::ZERO,
        now: SystemTime::now() + Duration::from_secs(24 * 3600),
        extra_blobs: &[],
        extra_manifests: &[],
    }
}

pub(crate) fn export(store: &Store, artifacts: &[Digest]) -> Vec<u8> {
    let mut archive = Vec::new();
    store.export(artifacts, &mut archive).expect("a sound store");
    archive
}

pub(crate) fn import(store: &Store, archive: &[u8]) -> Vec<Entry> {
    let import = store.import(archive, &ImportLimits::default()).expect("a sound archive");
    import.commit().expect("room").manifests
}

/// Whether every artifact of the store is there with everything it names, byte for byte.
///
/// Follows the documents by itself, so that it does not share the mistakes of the store.
pub(crate) fn check(store: &Store) -> Result<BTreeSet<Digest>, String> {
    let mut reached = BTreeSet::new();
    for entry in store.entries().map_err(|error| error.to_string())? {
        let bytes = follow(store, &entry.digest, &entry.media_type, &mut reached)?;
        if bytes != entry.size {
            return Err(format!("{} has {bytes} bytes, not {}", entry.digest, entry.size));
        }
    }
    Ok(reached)
}

fn follow(
    store: &Store,
    digest: &Digest,
    media_type: &str,
    reached: &mut BTreeSet<Digest>,
) -> Result<u64, String> {
    let bytes = fs::read(blob_path(store, digest)).map_err(|error| format!("{digest}: {error}"))?;
    if Digest::of(&bytes) != *digest {
        return Err(format!("{digest} is damaged"));
    }
    reached.insert(*digest);
    if [MANIFEST, INDEX].contains(&media_type) {
        let document: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let lists = ["layers", "manifests"].map(|list| document[list].as_array());
        let links = lists.into_iter().flatten().flatten();
        let config = Some(&document["config"]).filter(|config| !config.is_null());
        for link in links.chain(config) {
            let digest = link["digest"].as_str().and_then(|digest| digest.parse().ok());
            let digest: Digest = digest.ok_or("no digest")?;
            let media_type = link["mediaType"].as_str().ok_or("no media type")?;
            let size = follow(store, &digest, media_type, reached)?;
            if link["size"] != json!(size) {
                return Err(format!("{digest} has {size} bytes, not {}", link["size"]));
            }
        }
    }
    Ok(bytes.len() as u64)
}

/// All files below a directory with their content; locks are empty and left out.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
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

/// What lies in staging.
pub(crate) fn staging(store: &Store) -> usize {
    fs::read_dir(store.root().join("staging")).expect("a directory").count()
}

/// The chain of messages of an error, as its reader meets it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[test]
fn the_judge_sees_planted_defects() {
    let place = place();
    let artifact = Artifact::new(&[b"layer"]);
    artifact.put(&place.store).expect("put");
    assert_eq!(check(&place.store).expect("sound").len(), 3);
    for blob in [&artifact.blobs[0], &artifact.blobs[1], &artifact.manifest] {
        let path = blob_path(&place.store, &Digest::of(blob));
        for defect in [&b""[..], &blob[1..], b"other"] {
            fs::write(&path, defect).expect("a file");
            assert!(check(&place.store).is_err());
        }
        fs::remove_file(&path).expect("a file");
        assert!(check(&place.store).is_err());
        fs::write(&path, blob).expect("a file");
        check(&place.store).expect("mended");
    }
}

/// Says that the present test was not run, and why, where `cargo xtask ci` counts it.
pub(crate) fn not_run(reason: &str) {
    println!("not run: {reason}");
    let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") else { return };
    let current = std::thread::current();
    let line = format!("{}: {reason}\n", current.name().unwrap_or("unnamed"));
    let log = fs::OpenOptions::new().append(true).create(true).open(log);
    // One write, so that lines of tests at once do not mix.
    log.and_then(|mut log| std::io::Write::write_all(&mut log, line.as_bytes()))
        .expect("the log can be written");
}
