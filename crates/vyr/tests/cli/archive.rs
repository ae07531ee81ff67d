//! Export, import and gc: what leaves, what gets in, what stays.

use std::fs;
use std::io::Cursor;

use camino::Utf8PathBuf;
use serde_json::Value;

use crate::common::{Place, exists, guest, has, text_of};
use crate::judge::{blob, digest, entries, faults, tree, works};
use crate::trust::{draft, key, runs, sign, trust};

/// A place with an artifact whose signer is on the list; the artifact, and it exported.
pub(crate) fn exported() -> (Place, String, Utf8PathBuf) {
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let artifact = draft(&place);
    sign(&place, &artifact, &ana);
    place.vyr(&["artifact", "put", &artifact]).run().ok();
    let archive = place.path("hello.tar");
    let arguments = ["artifact", "export", &artifact, "-o", archive.as_str(), "--json"];
    let json = place.vyr(&arguments).run().ok().json();
    assert_eq!(json["artifact_digests"], serde_json::json!([artifact]));
    assert_eq!(json["blobs"], 6, "manifest, config, Wasm; referrer, its config, signature");
    (place, artifact, archive)
}

/// Another place that trusts the same signer, but for what `list` says.
pub(crate) fn other(place: &Place) -> Place {
    let other = Place::new();
    let public = place.data().join("keys/ana.pub");
    let arguments = ["key", "trust", public.as_str(), "--principal", "ana@example.org"];
    other.vyr(&arguments).run().ok();
    other
}

#[test]
fn an_archive_is_taken_in_where_its_signer_is_trusted() {
    let (place, artifact, archive) = exported();
    let there = other(&place);
    let json = there.vyr(&["artifact", "import", archive.as_str(), "--json"]).run().ok().json();
    assert_eq!(json["artifacts"][0]["artifact_digest"], artifact);
    assert_eq!(json["artifacts"][0]["signer"], "ana@example.org");
    runs(&there, &artifact);
    assert_eq!(faults(&there.data()), [""; 0]);
    // Again, which changes nothing; and over pipes.
    let before = entries(&there.data());
    there.vyr(&["artifact", "import", archive.as_str()]).run().ok();
    assert_eq!(entries(&there.data()), before);
    let piped = place.vyr(&["artifact", "export", &artifact, "-o", "-"]).run().ok().stdout;
    assert_eq!(piped, fs::read(&archive).expect("the archive"), "the same bytes");
    let third = other(&place);
    third.vyr(&["artifact", "import", "-"]).input(piped).run().ok();
    runs(&third, &artifact);
}

#[test]
fn an_archive_of_somebody_else_is_refused_whole() {
    let (place, artifact, archive) = exported();
    let stranger = Place::new();
    key(&stranger, "eve");
    trust(&stranger, "eve");
    works_for_import(&stranger);
    let before = tree(&stranger.data());
    let import = ["artifact", "import", archive.as_str()];
    stranger.vyr(&import).run().refuses(3, &[&artifact, "is not in the list"]);
    assert_eq!(tree(&stranger.data()), before, "nothing was stored");
    // Without any list, a development key of their own helps nobody else.
    let fresh = Place::new();
    fresh.vyr(&["run", &guest("nop.wasip1")]).run().ok();
    let before = tree(&fresh.data());
    fresh.vyr(&import).run().refuses(3, &[&artifact]);
    assert_eq!(tree(&fresh.data()), before);

    // One that is trusted does not carry in one that is not.
    let nop = place.vyr(&["artifact", "build", &guest("nop.wasip1"), "--name", "nop"]).run().ok();
    let nop = nop.line();
    let eve = key(&place, "eve");
    let arguments = ["key", "trust", "eve", "--principal", "eve@example.org"];
    place.vyr(&arguments).run().ok();
    sign(&place, &nop, &eve);
    place.vyr(&["artifact", "put", &nop]).run().ok();
    let both = place.path("both.tar");
    let arguments = ["artifact", "export", &artifact, &nop, "-o", both.as_str()];
    place.vyr(&arguments).run().ok();
    let there = other(&place);
    works_for_import(&there);
    let before = tree(&there.data());
    let import = ["artifact", "import", both.as_str()];
    there.vyr(&import).run().refuses(3, &[&nop, "is not in the list"]);
    assert_eq!(tree(&there.data()), before);
}

/// Opens the store once, so that a comparison does not see it being made.
pub(crate) fn works_for_import(place: &Place) {
    place.vyr(&["artifact", "ls"]).run().ok();
}

#[test]
fn an_unsigned_archive_is_refused() {
    let (place, artifact, archive) = exported();
    // The archive as somebody has it who took the signature away.
    let mut kept = Vec::new();
    for (name, bytes) in unpack(&fs::read(&archive).expect("the archive")) {
        if name == "index.json" {
            let mut index: Value = serde_json::from_slice(&bytes).expect("JSON");
            let list = index["manifests"].as_array_mut().expect("a list");
            list.retain(|entry| entry["digest"] == *artifact);
            kept.push((name, index.to_string().into_bytes()));
        } else {
            kept.push((name, bytes));
        }
    }
    let signature = |bytes: &[u8]| {
        bytes.starts_with(b"-----BEGIN SSH") || String::from_utf8_lossy(bytes).contains("subject")
    };
    kept.retain(|(_, bytes)| !signature(bytes) && bytes != b"{}");
    let file = place.file("unsigned.tar", pack(&kept));
    let there = other(&place);
    works_for_import(&there);
    let before = tree(&there.data());
    let refusal = there.vyr(&["artifact", "import", &file]).run();
    refusal.refuses(3, &[&artifact, "there is no signature"]);
    assert_eq!(tree(&there.data()), before);
}

#[test]
fn a_damaged_archive_changes_nothing() {
    let (place, artifact, archive) = exported();
    let sound = fs::read(&archive).expect("the archive");
    let members = unpack(&sound);
    let with = |change: &dyn Fn(&mut Members)| {
        let mut members = members.clone();
        change(&mut members);
        pack(&members)
    };
    let wasm = members.iter().position(|(_, bytes)| bytes.starts_with(b"\0asm")).expect("Wasm");
    let mut garbage = sound.clone();
    garbage.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x5a);
    let archives: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("zeros", vec![0; 10240]),
        ("text", b"once upon a time\n".repeat(100)),
        ("garbage", garbage),
        ("gzip", [&[0x1f, 0x8b, 8, 0][..], &sound].concat()),
        ("wasm", fs::read(guest("hello.wasip1")).expect("a guest")),
        ("cut in a header", sound[..700].to_vec()),
        ("cut in the middle", sound[..sound.len() / 2].to_vec()),
        ("cut near its end", sound[..sound.len() - 12000].to_vec()),
        ("a flipped byte", with(&|m| m[wasm].1[1000] ^= 1)),
        ("a short blob", with(&|m| m[wasm].1.truncate(1000))),
        ("no index", with(&|m| m.retain(|(name, _)| name != "index.json"))),
        (
            "a broken index",
            with(&|m| {
                m.iter_mut().for_each(|(name, bytes)| {
                    if name == "index.json" {
                        bytes.truncate(20);
                    }
                })
            }),
        ),
        ("no Wasm", with(&|m| drop(m.remove(wasm)))),
        (
            "a stowaway",
            with(&|m| {
                let name = digest(b"stowaway").replace("sha256:", "blobs/sha256/");
                m.push((name, b"stowaway".to_vec()));
            }),
        ),
        ("upwards", with(&|m| m.push(("../escape".to_owned(), b"x".to_vec())))),
        (
            "further upwards",
            with(&|m| {
                m.push(("blobs/sha256/../../../keys/eve".to_owned(), b"x".to_vec()));
            }),
        ),
        ("absolute", with(&|m| m.push((place.path("escape").into_string(), b"x".to_vec())))),
        ("a key", with(&|m| m.push(("keys/dev".to_owned(), b"x".to_vec())))),
        ("a link", link(&sound, tar::EntryType::Symlink)),
        ("a hard link", link(&sound, tar::EntryType::Link)),
    ];
    let there = other(&place);
    works_for_import(&there);
    let before = tree(&there.path(""));
    for (what, bytes) in archives {
        let input = there.vyr(&["artifact", "import", "-"]).input(bytes.clone()).run();
        assert_eq!(input.code(), Some(2), "{what}: {input:?}");
        assert!(input.stderr.starts_with("error: "), "{what}: {}", input.stderr);
        assert!(!input.stderr.contains("panicked"), "{what}: {}", input.stderr);
        assert_eq!(tree(&there.path("")), before, "{what} changed something");
        let file = place.file("bad.tar", bytes);
        let json = there.vyr(&["artifact", "import", &file, "--json"]).run().exits(2).json();
        assert_eq!(json["error"]["category"], "usage", "{what}");
        assert_eq!(tree(&there.path("")), before, "{what} changed something");
        assert!(!exists(there.path("escape")) && !exists(place.path("escape")), "{what}");
    }
    // The twin: what the forge makes without a defect is taken in.
    let file = place.file("good.tar", with(&|_| {}));
    there.vyr(&["artifact", "import", &file]).run().ok();
    runs(&there, &artifact);
    let missing = place.path("missing.tar");
    there.vyr(&["artifact", "import", missing.as_str()]).run().refuses(4, &["missing.tar"]);
}

/// Names and bytes of the files of an archive.
type Members = Vec<(String, Vec<u8>)>;

pub(crate) fn unpack(archive: &[u8]) -> Members {
    let mut archive = tar::Archive::new(Cursor::new(archive));
    let entries = archive.entries().expect("an archive");
    let members = entries.map(|entry| {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").to_str().expect("UTF-8").to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("its bytes");
        (name, bytes)
    });
    members.filter(|(name, _)| !name.ends_with('/')).collect()
}

/// Any names: the crate would refuse those that lead out of an archive.
fn header(name: &str, kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

pub(crate) fn pack(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let header = header(name, tar::EntryType::Regular, bytes.len());
        archive.append(&header, bytes.as_slice()).expect("memory");
    }
    archive.into_inner().expect("memory")
}

/// The archive with a link out of it in front.
fn link(sound: &[u8], kind: tar::EntryType) -> Vec<u8> {
    let mut header = header("blobs", kind, 0);
    header.set_link_name("../keys").expect("short");
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, std::io::empty()).expect("memory");
    for (name, bytes) in unpack(sound) {
        let header = self::header(&name, tar::EntryType::Regular, bytes.len());
        archive.append(&header, bytes.as_slice()).expect("memory");
    }
    archive.into_inner().expect("memory")
}

#[test]
fn what_cannot_be_exported_leaves_no_file() {
    let (place, artifact, archive) = exported();
    let before = fs::read(&archive).expect("the archive");
    let absent = digest(b"absent");
    let export =
        |digest: &str| place.vyr(&["artifact", "export", digest, "-o", archive.as_str()]).run();
    export(&absent).exits(4);
    assert_eq!(fs::read(&archive).expect("the archive"), before, "the old one is still there");
    let wasm = digest(&fs::read(guest("hello.wasip1")).expect("a guest"));
    fs::write(blob(&place.data(), &wasm), "changed").expect("a file");
    assert_ne!(export(&artifact).code(), Some(0));
    assert_eq!(fs::read(&archive).expect("the archive"), before);
    let partial = place.path("").read_dir_utf8().expect("a directory");
    let partial = partial
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().contains("partial")));
    assert_eq!(partial.count(), 0);
    let arguments = ["artifact", "export", &artifact, "-o", "no/such/directory.tar"];
    place.vyr(&arguments).run().refuses(4, &["no/such/"]);
}

/// A device or a pipe is written to, and is still one afterwards.
#[test]
fn what_is_no_file_is_not_replaced_by_one() {
    let (place, artifact, archive) = exported();
    let sink = place.path("sink");
    std::os::unix::fs::symlink("/dev/null", &sink).expect("a link");
    let export = |to: &str| place.vyr(&["artifact", "export", &artifact, "-o", to]).run();
    export(sink.as_str()).ok();
    assert!(sink.is_symlink(), "the way to the device was replaced");
    assert_eq!(export("/dev/stdout").ok().stdout, fs::read(&archive).expect("the archive"));
    assert!(Utf8PathBuf::from("/dev/stdout").is_symlink());
    export(place.path("").as_str()).refuses(2, &["Is a directory"]);
    export("/dev/full").refuses(6, &["No space left"]);
}

#[test]
fn skopeo_reads_what_is_exported() {
    if !has("archive::skopeo_reads_what_is_exported", "skopeo") {
        return;
    }
    let (place, artifact, archive) = exported();
    let policy = place.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let short = &artifact["sha256:".len()..][..12];
    let name = format!("oci-archive:{archive}:{short}");
    let inspect = |more: &[&str]| {
        let arguments = [&["--policy", &policy, "inspect", "--raw"], more, &[&name]].concat();
        place.program("skopeo", &arguments).run().ok().stdout
    };
    assert_eq!(digest(&inspect(&[])), artifact, "the manifest, byte for byte");
    let config: Value = serde_json::from_slice(&inspect(&["--config"])).expect("JSON");
    assert_eq!(config["os"], "wasip1");
    assert_eq!(config["architecture"], "wasm");
}

#[test]
fn gc_takes_outputs_and_leaves_artifacts() {
    let place = Place::new();
    let run = |guest: &str| place.vyr(&["run", guest, "--json"]).run().ok().json();
    let json = run(&guest("hello.wasip1"));
    let artifact = text_of(&json["artifact_digest"]).to_owned();
    let output = text_of(&json["output_digest"]).to_owned();
    let before = tree(&place.data().join("store"));
    let gc = |more: &[&str]| {
        place.vyr(&[&["artifact", "gc", "--json"], more].concat()).run().ok().json()
    };
    let dry = gc(&["--dry-run", "--older-than", "0s"]);
    assert_eq!(dry["removed"], serde_json::json!([output]));
    assert_eq!((&dry["dry_run"], &dry["bytes"]), (&true.into(), &15.into()));
    assert_eq!(tree(&place.data().join("store")), before, "a dry run removes nothing");
    // By default a day is kept.
    assert_eq!(gc(&[])["removed"], serde_json::json!([]));
    assert!(exists(blob(&place.data(), &output)));
    assert_eq!(gc(&["--older-than", "0s"])["removed"], serde_json::json!([output]));
    assert!(!exists(blob(&place.data(), &output)));
    let again = place.vyr(&["run", &artifact, "--json"]).run().ok().json();
    assert_eq!(again["output_digest"], output);
    assert_eq!(again["compiled"], false, "its code is still wanted");
    assert_eq!(faults(&place.data()), [""; 0]);
    // Code of an artifact that is gone goes too.
    fs::write(place.data().join("store/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#)
        .expect("a file");
    let last = gc(&["--older-than", "0s"]);
    assert!(last["code_files"].as_u64().is_some_and(|files| files > 0), "{last}");
    works(&place);
}

/// An index or a layout that cannot be read is told, and never taken for an empty one.
#[test]
fn a_damaged_layout_is_not_mended_by_guessing() {
    let place = Place::new();
    let json = place.vyr(&["run", &guest("hello.wasip1"), "--json"]).run().ok().json();
    let artifact = text_of(&json["artifact_digest"]);
    let store = place.data().join("store");
    for (name, content) in [
        ("index.json", &b""[..]),
        ("index.json", b"{"),
        ("index.json", b"[]"),
        ("index.json", b"{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:zz\"}]}"),
        ("index.json", b"\xff\xfe"),
        ("oci-layout", b""),
        ("oci-layout", b"{}"),
        ("oci-layout", b"{\"imageLayoutVersion\":\"9.0.0\"}"),
    ] {
        let sound = fs::read(store.join(name)).expect("a file");
        fs::write(store.join(name), content).expect("a file");
        let blobs = tree(&store.join("blobs"));
        for arguments in [
            &["run", artifact][..],
            &["run", &guest("nop.wasip1")],
            &["artifact", "ls"],
            &["artifact", "gc", "--older-than", "0s"],
        ] {
            let ended = place.vyr(arguments).run();
            assert!(matches!(ended.code(), Some(2..=7)), "{name} {content:?}: {ended:?}");
            assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        }
        assert_eq!(tree(&store.join("blobs")), blobs, "gc of a damaged store removes nothing");
        fs::write(store.join(name), sound).expect("a file");
        runs(&place, artifact);
    }
    fs::remove_file(store.join("index.json")).expect("the index");
    let blobs = tree(&store.join("blobs"));
    place.vyr(&["artifact", "gc", "--older-than", "0s"]).run().refuses(7, &["index.json"]);
    assert_eq!(tree(&store.join("blobs")), blobs);
}
