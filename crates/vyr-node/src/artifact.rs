//! Artifacts on their way: built as drafts, signed, put into the store when they are trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use vyr_artifact::{
    Artifact, CONFIG_BYTES_MAX, Descriptor, IMAGE_MANIFEST_TYPE, MANIFEST_BYTES_MAX, Manifest,
    Referrer, SIGNATURE_ARTIFACT_TYPE, SIGNATURE_BYTES_MAX, Spec, WASM_BYTES_MAX, check_config,
    check_head,
};
use vyr_base::{Category, Digest, Problem};
use vyr_store::{Entry, Exported, GcOptions, GcReport, ImportLimits, ListError, ReadError, Store};
use vyr_task::CodeCache;

use crate::data_dir::DataDir;
use crate::report::{FileError, Result};
use crate::trust::{Trust, TrustedSigner};

/// Signatures looked at for one artifact; each costs a verification.
const SIGNATURES_MAX: usize = 64;

/// Why an artifact cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Neither in the store nor among the drafts.
    #[error("artifact {0} is not here")]
    Missing(Digest),
    /// What lies in the store is not what was signed.
    #[error("artifact {artifact} was tampered with: {part} does not have its digest")]
    Tampered {
        /// The artifact.
        artifact: Digest,
        /// Which of its parts.
        part: &'static str,
        /// What was found.
        source: ReadError,
    },
    /// A Wasm file is larger than is taken.
    #[error("{path} has more than {WASM_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// An archive holds an artifact that is not trusted, or something that is none.
    #[error("the archive holds nothing to import")]
    NothingInside,
}

impl Problem for ArtifactError {
    fn category(&self) -> Category {
        match self {
            Self::Missing(_) => Category::NotFound,
            Self::Tampered { .. } => Category::Auth,
            Self::TooLarge { .. } | Self::NothingInside => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(_) => Some("vyr artifact ls shows what is here".into()),
            Self::Tampered { .. } => {
                Some("remove the store's copy and put the artifact again from its source".into())
            }
            Self::TooLarge { .. } => Some("strip debug information from it".into()),
            Self::NothingInside => Some("export it with vyr artifact export".into()),
        }
    }
}

/// Reads a Wasm file, bounded.
pub fn read_wasm(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(FileError::on("read", path))?;
    let mut wasm = Vec::new();
    file.take(WASM_BYTES_MAX + 1).read_to_end(&mut wasm).map_err(FileError::on("read", path))?;
    if wasm.len() as u64 > WASM_BYTES_MAX {
        return Err(ArtifactError::TooLarge { path: path.display().to_string() }.into());
    }
    Ok(wasm)
}

/// A built artifact with the bytes of all its parts.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) artifact: &'a Artifact,
    pub(crate) wasm: &'a [u8],
}

/// Puts an artifact and its signatures into `store`. Trust is the caller's to check, before.
pub(crate) fn put(store: &Store, whole: &Whole<'_>, signatures: &[String]) -> Result<Digest> {
    let manifest = &whole.artifact.manifest;
    let mut put = store.begin_put(manifest.bytes(), IMAGE_MANIFEST_TYPE, BTreeMap::new())?;
    let config = manifest.config();
    put.blob(&config.digest, config.size, &mut whole.artifact.config.as_slice())?;
    let wasm = manifest.wasm();
    let mut bytes = whole.wasm;
    put.blob(&wasm.digest, wasm.size, &mut bytes)?;
    for armored in signatures {
        attach(&mut put, &manifest.descriptor(), armored)?;
    }
    Ok(put.commit()?)
}

pub(crate) fn attach(put: &mut vyr_store::Put, subject: &Descriptor, armored: &str) -> Result<()> {
    let (referrer, layer) = Referrer::build(subject, armored)?;
    put.also(&referrer, IMAGE_MANIFEST_TYPE, BTreeMap::new())?;
    let empty = Descriptor::of(Referrer::EMPTY_CONFIG);
    put.blob(&empty.digest, empty.size, &mut &Referrer::EMPTY_CONFIG[..])?;
    let layer_is = Descriptor::of(&layer);
    put.blob(&layer_is.digest, layer_is.size, &mut layer.as_slice())?;
    Ok(())
}

/// Builds a draft from a Wasm file.
pub fn build(data: &DataDir, spec: &Spec, path: &Path) -> Result<Manifest> {
    let wasm = read_wasm(path)?;
    let artifact = Artifact::build(spec, &wasm)?;
    put(&data.drafts()?, &Whole { artifact: &artifact, wasm: &wasm }, &[])?;
    Ok(artifact.manifest)
}

/// The store an artifact is in: the store proper, else the drafts.
pub fn find(data: &DataDir, artifact: &Digest) -> Result<(Store, bool)> {
    let store = data.store()?;
    if is_entry(&store, artifact)? {
        return Ok((store, true));
    }
    let drafts = data.drafts()?;
    if is_entry(&drafts, artifact)? {
        return Ok((drafts, false));
    }
    Err(ArtifactError::Missing(*artifact).into())
}

fn is_entry(store: &Store, artifact: &Digest) -> Result<bool> {
    Ok(store.entries()?.iter().any(|entry| entry.digest == *artifact))
}

/// Adds a signature to an artifact, wherever it is.
pub fn add_signature(data: &DataDir, artifact: &Digest, armored: &str) -> Result<()> {
    let (store, _) = find(data, artifact)?;
    let manifest = manifest(&store, artifact)?;
    let (referrer, layer) = Referrer::build(&manifest.descriptor(), armored)?;
    let mut put = store.begin_put(&referrer, IMAGE_MANIFEST_TYPE, BTreeMap::new())?;
    let empty = Descriptor::of(Referrer::EMPTY_CONFIG);
    put.blob(&empty.digest, empty.size, &mut &Referrer::EMPTY_CONFIG[..])?;
    let layer_is = Descriptor::of(&layer);
    put.blob(&layer_is.digest, layer_is.size, &mut layer.as_slice())?;
    put.commit()?;
    Ok(())
}

/// Reads and checks an artifact's manifest.
pub fn manifest(store: &Store, artifact: &Digest) -> Result<Manifest> {
    let bytes = store
        .read_blob(artifact, MANIFEST_BYTES_MAX as u64)
        .map_err(|source| tampered_or(artifact, "its manifest", source))?;
    Ok(Manifest::parse(&bytes)?)
}

/// A blob with the wrong content is tampering, whatever made it so; the rest keeps its category.
fn tampered_or(artifact: &Digest, part: &'static str, source: ReadError) -> crate::Report {
    match source {
        ReadError::Missing { digest } if digest == *artifact => {
            ArtifactError::Missing(*artifact).into()
        }
        // Nothing that was put is larger than is read here.
        ReadError::Corrupt { .. }
        | ReadError::Missing { .. }
        | ReadError::NotRegular { .. }
        | ReadError::TooLarge { .. } => {
            ArtifactError::Tampered { artifact: *artifact, part, source }.into()
        }
        other => other.into(),
    }
}

/// Whether a blob of `artifact` that is here already is what it was; an error if not.
pub(crate) fn intact(store: &Store, artifact: &Digest, blob: &Descriptor) -> Result<()> {
    let read = store.read_blob(&blob.digest, blob.size);
    read.map(drop).map_err(|source| tampered_or(artifact, "a blob", source))
}

/// The armored signatures of an artifact, at most 64.
pub fn signatures(store: &Store, artifact: &Digest) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let bad = |source| tampered_or(artifact, "a signature", source);
    let referrers = store.referrers(artifact, Some(SIGNATURE_ARTIFACT_TYPE));
    let referrers = referrers.map_err(|error| match error {
        ListError::Read(source) => bad(source),
        other => other.into(),
    })?;
    for entry in referrers.into_iter().take(SIGNATURES_MAX) {
        let bytes = store.read_blob(&entry.digest, MANIFEST_BYTES_MAX as u64).map_err(bad)?;
        let referrer = Referrer::parse(&bytes)?;
        let layer = referrer.signature().digest;
        found.push(store.read_blob(&layer, SIGNATURE_BYTES_MAX as u64).map_err(bad)?);
    }
    Ok(found)
}

/// An artifact that may run: trusted, and each part what the signed manifest says.
#[derive(Debug)]
pub struct Admitted {
    /// Its manifest.
    pub manifest: Manifest,
    /// Who vouched for it.
    pub signer: TrustedSigner,
}

/// Checks everything about an artifact in `store`: its manifest, its signatures against `trust`,
/// its config, and every byte of its Wasm.
pub fn admit(store: &Store, trust: &Trust, artifact: &Digest) -> Result<Admitted> {
    let manifest = manifest(store, artifact)?;
    let signer = trust.verify(artifact, &signatures(store, artifact)?, Timestamp::now())?;
    let config = store
        .read_blob(&manifest.config().digest, CONFIG_BYTES_MAX)
        .map_err(|source| tampered_or(artifact, "its config", source))?;
    let kind = check_config(&manifest, &config)?;
    let head = check_wasm(store, &manifest)?;
    check_head(kind, &head)?;
    Ok(Admitted { manifest, signer })
}

/// Reads all of the Wasm, comparing its digest; returns its first eight bytes.
fn check_wasm(store: &Store, manifest: &Manifest) -> Result<Vec<u8>> {
    let artifact = manifest.digest();
    let bad = |source| tampered_or(&artifact, "its Wasm", source);
    let mut blob = store.open_blob(&manifest.wasm().digest).map_err(bad)?;
    let mut head = Vec::new();
    let mut piece = vec![0u8; 128 << 10];
    loop {
        let read = blob.read(&mut piece).map_err(|e| match e.downcast::<ReadError>() {
            Ok(source) => bad(source),
            Err(e) => FileError::on("read", store.root())(e).into(),
        })?;
        if read == 0 {
            return Ok(head);
        }
        if head.len() < 8 {
            head.extend_from_slice(&piece[..read.min(8)]);
        }
    }
}

/// Puts a signed draft into the store, if it is trusted. Returns who vouched for it.
pub fn put_draft(data: &DataDir, trust: &Trust, artifact: &Digest) -> Result<Admitted> {
    let (from, is_in_store) = find(data, artifact)?;
    let admitted = admit(&from, trust, artifact)?;
    if is_in_store {
        return Ok(admitted);
    }
    let manifest = &admitted.manifest;
    let signatures = signatures(&from, artifact)?;
    let store = data.store()?;
    let mut put = store.begin_put(manifest.bytes(), IMAGE_MANIFEST_TYPE, BTreeMap::new())?;
    for part in [manifest.config(), manifest.wasm()] {
        put.blob(&part.digest, part.size, &mut from.open_blob(&part.digest)?)?;
    }
    for armored in &signatures {
        let armored = String::from_utf8_lossy(armored);
        attach(&mut put, &manifest.descriptor(), &armored)?;
    }
    put.commit()?;
    Ok(admitted)
}

/// One line of `artifact ls`.
#[derive(Debug)]
pub struct Listed {
    /// Its index entry.
    pub entry: Entry,
    /// Its manifest, or why it cannot be read.
    pub manifest: Result<Manifest>,
    /// Who vouched for it, or why it is not trusted.
    pub signer: Result<TrustedSigner>,
    /// In the store proper, or a draft.
    pub in_store: bool,
}

/// All artifacts, drafts included; signatures are not listed by themselves.
pub fn list(data: &DataDir, trust: &Trust) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    let now = Timestamp::now();
    for (store, in_store) in [(data.store()?, true), (data.drafts()?, false)] {
        for entry in store.entries()? {
            if entry.artifact_type.as_deref() == Some(SIGNATURE_ARTIFACT_TYPE) {
                continue;
            }
            let signer = signatures(&store, &entry.digest)
                .and_then(|signatures| trust.verify(&entry.digest, &signatures, now));
            let manifest = manifest(&store, &entry.digest);
            listed.push(Listed { entry, manifest, signer, in_store });
        }
    }
    Ok(listed)
}

/// Writes artifacts with their signatures as an OCI layout archive.
pub fn export(data: &DataDir, artifacts: &[Digest], writer: impl Write) -> Result<Exported> {
    Ok(data.store()?.export(artifacts, writer)?)
}

/// Takes in an archive. Every artifact in it must be trusted, or nothing is taken.
pub fn import(data: &DataDir, trust: &Trust, reader: impl Read) -> Result<Vec<Admitted>> {
    let import = data.store()?.import(reader, &ImportLimits::default())?;
    let now = Timestamp::now();
    let mut admitted = Vec::new();
    for entry in import.manifests() {
        if entry.artifact_type.as_deref() == Some(SIGNATURE_ARTIFACT_TYPE) {
            continue;
        }
        let manifest = Manifest::parse(&import.read(&entry.digest, MANIFEST_BYTES_MAX as u64)?)?;
        let mut signatures = Vec::new();
        let referrers = import.referrers(&entry.digest, Some(SIGNATURE_ARTIFACT_TYPE));
        for referrer in referrers.into_iter().take(SIGNATURES_MAX) {
            let referrer =
                Referrer::parse(&import.read(&referrer.digest, MANIFEST_BYTES_MAX as u64)?)?;
            let layer = referrer.signature().digest;
            signatures.push(import.read(&layer, SIGNATURE_BYTES_MAX as u64)?);
        }
        let signer = trust.verify(&entry.digest, &signatures, now)?;
        let config = import.read(&manifest.config().digest, CONFIG_BYTES_MAX)?;
        let kind = check_config(&manifest, &config)?;
        check_head(kind, &import.read(&manifest.wasm().digest, WASM_BYTES_MAX)?)?;
        admitted.push(Admitted { manifest, signer });
    }
    if admitted.is_empty() {
        return Err(ArtifactError::NothingInside.into());
    }
    import.commit()?;
    Ok(admitted)
}

/// What `gc` did, or would do.
#[derive(Debug)]
pub struct Collected {
    /// In the store.
    pub store: GcReport,
    /// Among the drafts.
    pub drafts: GcReport,
    /// Files and bytes of compiled code nothing needs any more; `None` in a dry run.
    pub code: Option<(u64, u64)>,
}

/// Removes what nothing refers to and is older than `older_than`.
pub fn gc(data: &DataDir, dry_run: bool, older_than: Duration) -> Result<Collected> {
    let now = SystemTime::now();
    let options = GcOptions { dry_run, older_than, now, extra_blobs: &[], extra_manifests: &[] };
    let (store, drafts) = (data.store()?, data.drafts()?);
    let collected = (store.gc(&options)?, drafts.gc(&options)?);
    let code = if dry_run { None } else { Some(prune(data, &store)?) };
    Ok(Collected { store: collected.0, drafts: collected.1, code })
}

fn prune(data: &DataDir, store: &Store) -> Result<(u64, u64)> {
    let wanted: BTreeSet<Digest> = store
        .entries()?
        .iter()
        .filter_map(|entry| manifest(store, &entry.digest).ok())
        .map(|manifest| manifest.wasm().digest)
        .collect();
    let cache = CodeCache::open(&data.code_cache()?, &data.cache_secret()?, String::new())?;
    Ok(cache.prune(|wasm| wanted.contains(wasm))?)
}
