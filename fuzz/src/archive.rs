//! Targets of `vyr-store` on archives: hostile ones, linked ones, and our own.

use std::collections::BTreeMap;
use std::fs;

use jiff::Timestamp;
use vyr_artifact::{
    AllowedSigners, Artifact, Manifest, Namespace, Referrer, SIGNATURE_ARTIFACT_TYPE, Spec,
    TrustPolicy, WasmKind, check_config, signed_bytes,
};
use vyr_base::Digest;
use vyr_store::{Entry, Import, ImportLimits, REF_NAME, SUBJECT_HINT, Store};

use crate::artifact::{COMPONENT, MODULE};
use crate::checks::problem;
use crate::keys::KEYS;
use crate::sections::{linked, parts};
use crate::store::collect;
use crate::stores::{Scratch, Tree, export, put, put_signed, stocked, subject, with_store};

const LIMITS: ImportLimits =
    ImportLimits { total_bytes: 1 << 20, blob_bytes: 1 << 19, entries: 100 };

/// Most manifest a caller reads.
const MANIFEST_MAX: u64 = 4 << 20;

/// An archive of one signed artifact.
pub fn seed_archive() -> Vec<u8> {
    let scratch = Scratch::new();
    let digest = put(&scratch.store, "guest", b"guest", None);
    export(&scratch.store, &[digest])
}

/// An archive as it is, and once more with true checksums: it comes in whole, or not at all.
pub fn import_tar(input: &[u8]) {
    imported(input);
    let sealed = sealed(input);
    if sealed != input {
        imported(&sealed);
    }
}

/// Parts: blobs, then `index.json`, packed into an archive with true names and checksums.
pub fn import_graph(input: &[u8]) {
    imported(&archive_of(&linked(input)));
}

fn imported(archive: &[u8]) {
    with_store("import", stocked, |scratch, before| {
        let import = match scratch.store.import(archive, &LIMITS) {
            Ok(import) => import,
            Err(error) => {
                problem(&error);
                assert!(scratch.tree() == *before, "a refused archive changed the store");
                return;
            }
        };
        pending(scratch, &import, before);
        let manifests: Vec<Entry> = import.manifests().to_vec();
        if let Err(error) = import.commit() {
            problem(&error);
            assert!(scratch.tree() == *before, "a refused commit changed the store");
            return;
        }
        let reached = scratch.assert_sound();
        let entries = scratch.store.entries().expect("an index");
        assert!(manifests.iter().all(|new| entries.iter().any(|e| e.digest == new.digest)));
        assert_eq!(entries[0].annotations[REF_NAME], "latest", "an archive renamed an artifact");
        for (path, content) in before.iter().filter(|(path, _)| !path.ends_with("index.json")) {
            assert_eq!(fs::read(path).ok().as_ref(), Some(content), "{} changed", path.display());
        }
        let report = collect(scratch, &scratch.store, &entries, false).expect("a sound store");
        assert!(report.removed.is_empty(), "an archive left something that nothing reaches");
        assert_eq!(scratch.assert_sound(), reached);
        exported_again(scratch, &manifests);
    });
}

/// Before the commit everything can be read and judged, and the store shows nothing of it.
fn pending(scratch: &Scratch, import: &Import, before: &Tree) {
    assert!(!import.manifests().is_empty());
    let staging = scratch.root().join("staging");
    let mut now = scratch.tree();
    now.retain(|path, _| !path.starts_with(&staging));
    assert!(now == *before, "an import that was not committed changed the store");
    for entry in import.manifests() {
        let bytes = import.read(&entry.digest, MANIFEST_MAX).expect("a manifest of the archive");
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (entry.digest, entry.size));
        for referrer in import.referrers(&entry.digest, None) {
            let bytes = import.read(&referrer.digest, MANIFEST_MAX).expect("as above");
            assert_eq!(subject(&bytes), Some(entry.digest));
        }
        let hint = subject(&bytes).map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        assert_eq!(entry.annotations[SUBJECT_HINT], hint);
    }
}

/// What came in goes out and comes into an empty store as the same bytes.
fn exported_again(scratch: &Scratch, manifests: &[Entry]) {
    let digests: Vec<Digest> = manifests.iter().map(|entry| entry.digest).collect();
    let archive = export(&scratch.store, &digests);
    let other = Scratch::new();
    let import = other.store.import(&archive[..], &LIMITS).expect("an archive of ours");
    let committed = import.commit().expect("room").manifests;
    other.assert_sound();
    let kept: Vec<Digest> = committed.iter().map(|entry| entry.digest).collect();
    assert!(digests.iter().all(|digest| kept.contains(digest)));
    let again = export(&other.store, &digests);
    assert!(again == archive, "export and import are no round trip");
}

/// Parts: name, arguments, environment, states (a line each), a tag, content of the binary.
///
/// What is built, signed and put comes through an archive unchanged, and is still trusted.
pub fn round_trip(input: &[u8]) {
    let [name, args, env, states, tag, content] =
        parts(input).map(|part| String::from_utf8_lossy(part).into_owned());
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let pair = |line: &str| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    let spec = Spec {
        name,
        args: lines(&args),
        env: env.lines().filter_map(pair).collect(),
        states: lines(&states),
    };
    let (head, kind) = match content.len() % 2 {
        0 => (MODULE, WasmKind::Module),
        _ => (COMPONENT, WasmKind::Component),
    };
    let wasm = [head, content.as_bytes()].concat();
    let artifact = match Artifact::build(&spec, &wasm) {
        Ok(artifact) => artifact,
        Err(error) => {
            assert!(spec.check().is_err() || input.len() > 16 << 10, "{error}");
            return problem(&error);
        }
    };
    let (here, there) = (Scratch::new(), Scratch::new());
    let tag = Some(tag.as_str()).filter(|tag| !tag.is_empty());
    let digest = put_signed(&here.store, &artifact, &wasm, tag).expect("room for an artifact");
    let archive = export(&here.store, &[digest]);
    there.store.import(&archive[..], &LIMITS).expect("ours").commit().expect("room");
    there.assert_sound();
    let sorted = |store: &Store| {
        let mut entries = store.entries().expect("an index");
        entries.sort_by_key(|entry| entry.digest);
        entries
    };
    if tag.is_none_or(|tag| !digest.hex().starts_with(tag)) {
        assert_eq!(sorted(&there.store), sorted(&here.store));
    }
    assert!(export(&there.store, &[digest]) == archive, "export and import are no round trip");

    let bytes = there.store.read_blob(&digest, MANIFEST_MAX).expect("imported");
    let manifest = Manifest::parse(&bytes).expect("what was built");
    assert_eq!(manifest.spec(), &spec);
    let config = there.store.read_blob(&manifest.config().digest, MANIFEST_MAX).expect("imported");
    assert_eq!(check_config(&manifest, &config).expect("its own"), kind);
    assert_eq!(there.store.read_blob(&manifest.wasm().digest, 1 << 20).expect("imported"), wasm);
    signed(&there.store, &manifest);
}

fn signed(store: &Store, manifest: &Manifest) {
    let digest = manifest.digest();
    let referrers = store.referrers(&digest, Some(SIGNATURE_ARTIFACT_TYPE)).expect("sound");
    let [entry] = &referrers[..] else { panic!("one signature was put: {referrers:?}") };
    let bytes = store.read_blob(&entry.digest, MANIFEST_MAX).expect("imported");
    let referrer = Referrer::parse(&bytes).expect("what was built");
    assert_eq!(*referrer.subject(), manifest.descriptor());
    let armored = store.read_blob(&referrer.signature().digest, 1 << 20).expect("imported");
    let line = format!("ana {}", KEYS[0].line());
    let signers = AllowedSigners::parse(line.as_bytes()).expect("a line of ours");
    let policy = TrustPolicy { signers, ..TrustPolicy::default() };
    let now = Timestamp::UNIX_EPOCH;
    let signer = policy.verify(Namespace::Artifact, &signed_bytes(&digest), &armored, now);
    assert_eq!(signer.expect("signed").principal, "ana");
}

const BLOCK: usize = 512;

/// An archive whose headers have the checksums they should have.
pub(crate) fn sealed(archive: &[u8]) -> Vec<u8> {
    let mut sealed = archive.to_vec();
    let mut at = 0;
    while let Some(header) = sealed.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        seal(header);
        let size = header[124..136].iter().filter(|byte| (b'0'..=b'7').contains(byte));
        let size = size.fold(0usize, |size, digit| size << 3 | usize::from(digit - b'0'));
        at = at.saturating_add(size.next_multiple_of(BLOCK));
    }
    sealed
}

fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// An archive of a layout: all parts but the last are blobs, the last is `index.json`.
fn archive_of(documents: &[Vec<u8>]) -> Vec<u8> {
    let (index, blobs) = documents.split_last().expect("at least one part");
    let mut archive = Vec::new();
    file(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    file(&mut archive, "index.json", index);
    let unique: BTreeMap<Digest, &Vec<u8>> =
        blobs.iter().map(|blob| (Digest::of(blob), blob)).collect();
    for (digest, blob) in unique {
        file(&mut archive, &format!("blobs/sha256/{}", digest.hex()), blob);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn file(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(156, b"0");
    put(257, b"ustar\x0000");
    seal(&mut header);
    archive.extend_from_slice(&header);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}
