//! Archives made to do harm, and archives merely broken. None may change the store.

use std::io::{self, Read};

use serde_json::{Value, json};
use tar::{EntryType, Header};
use vyr_base::{Category, Digest, Problem};
use vyr_store::{ImportError, ImportLimits, REF_NAME, SUBJECT_HINT};

use crate::common::{
    Artifact, INDEX, MANIFEST, SIGNATURE, WASM_CONFIG, chain, check, descriptor, export, import,
    place, staging, tree,
};

/// An archive under construction, byte by byte.
#[derive(Clone, Default)]
struct Forge(Vec<u8>);

impl Forge {
    /// Any header, with a size that need not be true.
    fn header(mut self, name: &str, kind: EntryType, size: u64, link: &str) -> Self {
        let mut header = Header::new_ustar();
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn bytes(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn entry(self, name: &str, kind: EntryType, content: &[u8]) -> Self {
        self.header(name, kind, content.len() as u64, "").bytes(content)
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, content)
    }

    fn blob(self, content: &[u8]) -> Self {
        self.file(&format!("blobs/sha256/{}", Digest::of(content).hex()), content)
    }

    fn layout(self) -> Self {
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    fn index(self, manifests: &[Value]) -> Self {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.file("index.json", index.to_string().as_bytes())
    }

    fn artifact(mut self, artifact: &Artifact) -> Self {
        for blob in artifact.blobs.iter().chain([&artifact.manifest]) {
            self = self.blob(blob);
        }
        self
    }

    /// A good archive up to its blobs, which are left to the caller.
    fn start(artifact: &Artifact) -> Self {
        Self::default().layout().index(&[descriptor(MANIFEST, &artifact.manifest)])
    }

    fn good(artifact: &Artifact) -> Self {
        Self::start(artifact).artifact(artifact)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn artifact() -> Artifact {
    Artifact::new(&[b"layer"])
}

fn pax(record: &str) -> Vec<u8> {
    // The length counts itself: two digits.
    format!("{} {record}\n", record.len() + 4).into_bytes()
}

/// What is wrong, the archive, and a part of what its reader is told.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    use EntryType::*;
    let good = artifact();
    let start = || Forge::start(&good);
    let whole = || Forge::good(&good);
    let link = |kind, name: &str, to: &str| whole().header(name, kind, 0, to).end();
    let manifest = descriptor(MANIFEST, &good.manifest);
    let with = |key: &str, value: Value| {
        let mut changed = manifest.clone();
        changed[key] = value;
        Forge::default().layout().index(&[changed]).artifact(&good).end()
    };
    let layer_name = format!("blobs/sha256/{}", Digest::of(b"layer").hex());
    let other_name = format!("blobs/sha256/{}", Digest::of(b"other").hex());
    let sha512 = format!("blobs/sha512/{}", "0".repeat(64));
    let mut bad_sum = whole().end();
    bad_sum[150] ^= 1;
    let mut gzip = whole().end();
    gzip[..3].copy_from_slice(&[0x1f, 0x8b, 8]);
    let truncated = |at: usize| {
        let mut archive = whole().end();
        archive.truncate(at);
        archive
    };
    let nested = |levels: usize| {
        let mut forge = Forge::default();
        let mut inner = manifest.clone();
        for _ in 0..levels {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]});
            let index = index.to_string().into_bytes();
            inner = descriptor(INDEX, &index);
            forge = forge.blob(&index);
        }
        forge.layout().index(&[inner]).artifact(&good).end()
    };
    let both = json!({
        "schemaVersion": 2,
        "config": descriptor(WASM_CONFIG, &good.blobs[0]),
        "layers": [],
        "manifests": [manifest],
    });
    let both = both.to_string().into_bytes();
    let two_faced = Forge::default()
        .layout()
        .index(&[descriptor(MANIFEST, &both)])
        .blob(&both)
        .artifact(&good)
        .end();
    let body = |size: u64| whole().header(&other_name, Regular, size, "").end();
    vec![
        ("nothing", Vec::new(), "no oci-layout"),
        ("only zeros", vec![0; 4096], "no oci-layout"),
        ("text", b"once upon a time ".repeat(100), "not a tar archive"),
        ("a short text", b"once".to_vec(), "not a tar archive"),
        ("gzip", gzip, "compressed with gzip"),
        ("zstd", [&[0x28, 0xb5, 0x2f, 0xfd][..], &[0; 600]].concat(), "compressed with zstd"),
        ("xz", [&b"\xfd7zXZ\0"[..], &[0; 600]].concat(), "compressed with xz"),
        ("zip", b"PK\x03\x04 and more".to_vec(), "compressed with zip"),
        ("a wrong checksum", bad_sum, "not a tar archive"),
        ("cut in the index", truncated(1100), "too early"),
        ("cut in a header", truncated(512 * 6 + 100), "too early"),
        ("cut in a blob", truncated(512 * 5 + 10), "ends after 10 of"),
        ("cut before the last blob", truncated(512 * 8), "cannot follow manifest"),
        ("upwards", whole().file("../escape", b"x").end(), "no place"),
        ("upwards inside", whole().file("blobs/sha256/../../escape", b"x").end(), "no place"),
        ("absolute", whole().file("/etc/passwd", b"x").end(), "no place"),
        ("absolute blob", whole().file(&format!("/{layer_name}"), b"x").end(), "no place"),
        ("a name of our own", whole().file("gc.lock", b"").end(), "no place"),
        ("staging", whole().entry("staging/", Directory, b"").end(), "no place"),
        ("docker save", whole().file("manifest.json", b"[]").end(), "no place"),
        ("another algorithm", whole().file(&sha512, b"x").end(), "no place"),
        ("a soft link", link(Symlink, "blobs/sha256", "/etc"), "a symbolic link"),
        ("a linked blob", link(Symlink, &layer_name, "/etc/passwd"), "a symbolic link"),
        ("a hard link", link(Link, &layer_name, "index.json"), "a hard link"),
        ("a device", link(Char, &layer_name, ""), "a device"),
        ("a block device", link(Block, &layer_name, ""), "a device"),
        ("a pipe", link(Fifo, &layer_name, ""), "a pipe"),
        ("a sparse file", whole().entry(&layer_name, GNUSparse, b"").end(), "a sparse file"),
        ("a contiguous file", whole().entry(&layer_name, Continuous, b"").end(), "unknown kind"),
        ("a directory as a blob", whole().entry(&layer_name, Directory, b"").end(), "a directory"),
        ("a file as a directory", whole().file("blobs", b"").end(), "a file"),
        ("a directory with bytes", whole().entry("blobs", Directory, b"x").end(), "a directory"),
        ("a long name", whole().entry("././@LongLink", GNULongName, b"x").end(), "a long name"),
        ("a global header", whole().entry("g", XGlobalHeader, &pax("path=x")).end(), "global"),
        ("a renaming header", start().entry("x", XHeader, &pax("path=../x")).end(), "\"path\""),
        ("a resizing header", start().entry("x", XHeader, &pax("size=9999")).end(), "\"size\""),
        (
            "a sparse header",
            start().entry("x", XHeader, &pax("GNU.sparse.major=1")).end(),
            "\"GNU.sparse.major\"",
        ),
        ("a broken header", start().entry("x", XHeader, b"12 nonsense\n").end(), "not a tar"),
        (
            "a huge header",
            start().header("x", XHeader, 20_000, "").end(),
            "more than 16384 bytes in an extended header",
        ),
        ("a blob twice", whole().blob(b"layer").end(), "twice"),
        ("the index twice", whole().index(&[]).end(), "twice"),
        ("the marker twice", whole().layout().end(), "twice"),
        ("the index twice, dotted", whole().file("./index.json", b"{}").end(), "twice"),
        ("a wrong digest", start().file(&layer_name, b"lawyr").end(), "are sha256:"),
        ("an extra blob", whole().blob(b"stowaway").end(), "which nothing in it names"),
        ("a missing layer", start().blob(&good.manifest).blob(&good.blobs[0]).end(), "not hold it"),
        ("a missing manifest", start().blob(b"layer").end(), "cannot follow manifest"),
        ("no marker", whole().end()[1024..].to_vec(), "no oci-layout"),
        ("no index", Forge::default().layout().artifact(&good).end(), "no index.json"),
        ("no artifact", Forge::default().layout().index(&[]).end(), "holds no artifact"),
        (
            "another layout version",
            Forge::default().file("oci-layout", br#"{"imageLayoutVersion":"9"}"#).index(&[]).end(),
            "version \"9\"",
        ),
        ("a broken marker", Forge::default().file("oci-layout", b"1.0.0").end(), "damaged"),
        (
            "a broken index",
            Forge::default().layout().file("index.json", b"{").end(),
            "index.json of the archive is damaged",
        ),
        ("a false size", with("size", json!(1)), "bytes and"),
        ("an endless size", with("size", json!(u64::MAX)), "damaged"),
        ("a negative size", with("size", json!(-1)), "damaged"),
        ("a false media type", with("mediaType", json!(INDEX)), "cannot follow manifest"),
        ("an unknown media type", with("mediaType", json!("text/plain")), "which nothing in it"),
        ("a false digest", with("digest", json!("sha256:zz")), "damaged"),
        ("manifest and index at once", two_faced, "cannot follow manifest"),
        ("nested too deep", nested(8), "levels deep"),
        ("a bomb of one blob", body(1 << 19 | 1), "more than 524288 bytes in one blob"),
        ("a bomb of all", body(5 << 30), "more than 4194304 bytes"),
        ("a bomb that overflows", body(u64::MAX), "size overflow"),
        (
            "a huge index",
            Forge::default().header("index.json", Regular, 1 << 20 | 1, "").end(),
            "more than 1048576 bytes in index.json",
        ),
        (
            "a huge marker",
            Forge::default().header("oci-layout", Regular, 5000, "").end(),
            "more than 4096 bytes in oci-layout",
        ),
    ]
}

const LIMITS: ImportLimits =
    ImportLimits { total_bytes: 4 << 20, blob_bytes: 1 << 19, entries: 64 };

#[test]
fn no_hostile_archive_gets_in() {
    let place = place();
    let store = &place.store;
    Artifact::new(&[b"resident"]).put(store).expect("put");
    let before = tree(place.directory.path());
    for (what, archive, told) in hostile() {
        let refused = match store.import(archive.as_slice(), &LIMITS) {
            Err(refused) => refused,
            Ok(import) => panic!("{what} was taken: {:?}", import.manifests()),
        };
        assert!(chain(&refused).contains(told), "{what}: {}", chain(&refused));
        assert_eq!(refused.category(), Category::Usage, "{what}: {}", chain(&refused));
        assert_eq!(tree(place.directory.path()), before, "{what} changed something");
        assert_eq!(staging(store), 0, "{what} left something");
    }
}

#[test]
fn the_forge_makes_good_archives_too() {
    let forms = [
        Forge::good(&artifact()).end(),
        // No end marker: everything is there all the same.
        Forge::good(&artifact()).0,
        // Blobs first, as skopeo sorts them; dots in front, as GNU tar writes them.
        Forge::default()
            .entry("./", EntryType::Directory, b"")
            .entry("./blobs/", EntryType::Directory, b"")
            .entry("x", EntryType::XHeader, &pax("mtime=1234567890.123"))
            .entry("./blobs/sha256/", EntryType::Directory, b"")
            .artifact(&artifact())
            .index(&[descriptor(MANIFEST, &artifact().manifest)])
            .layout()
            .end(),
    ];
    for archive in forms {
        let place = place();
        assert_eq!(import(&place.store, &archive).len(), 1);
        assert_eq!(check(&place.store).expect("sound").len(), 3);
    }
}

#[test]
fn each_limit_is_exact() {
    let place = place();
    let archive = Forge::good(&artifact()).end();
    let sizes = || artifact().blobs.into_iter().chain([artifact().manifest]).map(|b| b.len());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [descriptor(MANIFEST, &artifact().manifest)],
    });
    let all = sizes().sum::<usize>() + index.to_string().len() + 30;
    let exact = ImportLimits {
        total_bytes: all as u64,
        blob_bytes: sizes().max().expect("three") as u64,
        entries: 5,
    };
    place.store.import(archive.as_slice(), &exact).expect("just fits");
    let tighter = [
        ImportLimits { total_bytes: exact.total_bytes - 1, ..exact },
        ImportLimits { blob_bytes: exact.blob_bytes - 1, ..exact },
        ImportLimits { entries: exact.entries - 1, ..exact },
    ];
    for limits in tighter {
        let refused = place.store.import(archive.as_slice(), &limits);
        assert!(matches!(refused, Err(ImportError::Limit { .. })), "{limits:?}");
    }
}

/// Gives one byte at a time, then fails.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some((first, rest)), Some(place)) = (self.0.split_first(), buffer.first_mut()) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        *place = *first;
        self.0 = rest;
        Ok(1)
    }
}

#[test]
fn a_failing_reader_is_told_from_a_bad_archive() {
    let place = place();
    let archive = Forge::good(&artifact()).end();
    for at in [0, 100, 700, 2000, 2600] {
        let refused = place.store.import(Failing(&archive[..at]), &LIMITS).expect_err("cut off");
        assert!(chain(&refused).contains("connection reset"), "{at}: {}", chain(&refused));
        assert_eq!(staging(&place.store), 0);
    }
    // The end marker is two blocks of zeros; one is enough, and what follows is not read.
    let enough = &archive[..archive.len() - 512];
    place.store.import(Failing(enough), &LIMITS).expect("all there");
}

#[test]
fn nothing_is_in_the_store_before_the_commit() {
    let (source, target) = (place(), place());
    artifact().put_signed(&source.store, "signature").expect("put");
    let archive = export(&source.store, &[artifact().digest()]);
    let before = tree(target.store.root());
    let import = target.store.import(archive.as_slice(), &LIMITS).expect("sound");
    assert_eq!(target.store.entries().expect("an index").len(), 0);
    assert!(!target.store.contains(&artifact().digest()).expect("no error"));

    // What the caller needs to judge it is there to read.
    let signatures = import.referrers(&artifact().digest(), Some(SIGNATURE));
    assert_eq!(signatures.len(), 1);
    let manifest = import.read(&signatures[0].digest, 1 << 20).expect("there");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["subject"]["digest"], json!(artifact().digest()));
    assert_eq!(import.read(&Digest::of(b"signature"), 100).expect("there"), b"signature");
    assert!(import.read(&Digest::of(b"signature"), 3).is_err(), "bounded");
    assert!(import.read(&Digest::of(b"elsewhere"), 100).is_err());

    drop(import);
    assert_eq!(tree(target.store.root()), before, "refused, it leaves nothing");
    let import = target.store.import(archive.as_slice(), &LIMITS).expect("sound");
    assert_eq!(import.commit().expect("room").manifests.len(), 2);
    check(&target.store).expect("sound");
    assert_eq!(staging(&target.store), 0);
}

#[test]
fn an_archive_brings_no_hints_and_renames_nothing() {
    let target = place();
    let store = &target.store;
    let (artifact, other) = (artifact(), Artifact::new(&[b"other"]));
    artifact.put(store).expect("put");
    let before = store.entries().expect("an index");
    let mut known = descriptor(MANIFEST, &artifact.manifest);
    known["annotations"] = json!({(REF_NAME): "evil", (SUBJECT_HINT): other.digest()});
    let mut new = descriptor(MANIFEST, &other.manifest);
    new["annotations"] = json!({(REF_NAME): "nice", (SUBJECT_HINT): artifact.digest()});
    new["platform"] = json!({"os": "wasip1", "architecture": "wasm"});
    let archive = Forge::default()
        .layout()
        .index(&[known, new.clone(), new])
        .artifact(&artifact)
        .artifact(&other)
        .end();
    assert_eq!(import(store, &archive).len(), 2);
    let entries = store.entries().expect("an index");
    assert_eq!(entries[0], before[0], "what was here stays as it was");
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].annotations[REF_NAME], "nice");
    assert_eq!(entries[1].annotations[SUBJECT_HINT], "none");
    assert!(store.referrers(&artifact.digest(), None).expect("sound").is_empty());
}

#[test]
fn exports_are_the_same_bytes_wherever_they_are_made() {
    let (one, other) = (place(), place());
    let (a, b) = (Artifact::new(&[b"a", b"common"]), Artifact::new(&[b"b", b"common"]));
    a.put_signed(&one.store, "signature").expect("put");
    b.put(&one.store).expect("put");
    let archive = export(&one.store, &[a.digest(), b.digest()]);
    assert_eq!(export(&one.store, &[b.digest(), a.digest(), b.digest()]), archive);
    import(&other.store, &archive);
    assert_eq!(export(&other.store, &[b.digest(), a.digest()]), archive, "and back");
    assert_eq!(other.store.entries().expect("an index").len(), 3);
    let names = |entries: Vec<vyr_store::Entry>| {
        entries.into_iter().filter_map(|entry| entry.annotations.get(REF_NAME).cloned()).count()
    };
    assert_eq!(names(other.store.entries().expect("an index")), 0, "no names were added");
    let mut both = Vec::new();
    let exported = one.store.export(&[a.digest()], &mut both).expect("sound");
    assert_eq!((exported.manifests.len(), exported.blobs), (2, 7));
    assert!(one.store.export(&[], io::sink()).is_err());
    assert!(one.store.export(&[Digest::of(b"x")], io::sink()).is_err());
}
