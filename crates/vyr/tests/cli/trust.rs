//! Who may sign: each way not to be trusted is exit 3 with its reason, and each test also shows
//! that without its defect the same artifact runs.

use std::fs;

use camino::Utf8PathBuf;
use serde_json::Value;

use crate::common::{Ended, Place, exists, guest, text_of};
use crate::judge::{blob, digest, document, entries, faults, indexed};

/// A key pair of the data directory.
pub(crate) struct Key {
    pub(crate) private: String,
    /// `ssh-ed25519 AAAA..`, without its comment.
    pub(crate) public: String,
    pub(crate) id: String,
}

pub(crate) fn key(place: &Place, name: &str) -> Key {
    let made = place.vyr(&["key", "new", name, "--json"]).run().ok().json();
    let words: Vec<&str> = text_of(&made["public_key"]).split(' ').collect();
    Key {
        private: text_of(&made["private_key"]).to_owned(),
        public: words[..2].join(" "),
        id: text_of(&made["key_id"]).to_owned(),
    }
}

/// Trusts a key of the data directory.
pub(crate) fn trust(place: &Place, name: &str) {
    place.vyr(&["key", "trust", name, "--principal", "ana@example.org"]).run().ok();
}

/// Writes a trust file.
pub(crate) fn write_trust(place: &Place, name: &str, lines: &str) {
    let directory = place.data().join("trust");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join(name), lines).expect("a file");
}

/// A draft of `hello`; its digest.
pub(crate) fn draft(place: &Place) -> String {
    place.vyr(&["artifact", "build", &guest("hello.wasip1"), "--name", "hello"]).run().ok().line()
}

pub(crate) fn sign(place: &Place, artifact: &str, key: &Key) {
    place.vyr(&["artifact", "sign", artifact, "--key", &key.private]).run().ok();
}

fn put(place: &Place, artifact: &str) -> Ended {
    place.vyr(&["artifact", "put", artifact]).run()
}

/// The artifact runs.
#[track_caller]
pub(crate) fn runs(place: &Place, artifact: &str) -> Ended {
    let ended = place.vyr(&["run", artifact]).run().ok();
    assert_eq!(ended.text(), "hello from vyr\n");
    ended
}

/// The artifact is refused for `reason`, also with `--json`.
#[track_caller]
pub(crate) fn refused(place: &Place, artifact: &str, reason: &str) {
    place.vyr(&["run", artifact]).run().refuses(3, &[artifact, reason, "hint:"]);
    let json = place.vyr(&["run", artifact, "--json"]).run().exits(3).json();
    assert_eq!(json["error"]["category"], "auth", "{json}");
    assert!(text_of(&json["error"]["message"]).contains(reason), "{json}");
    assert!(!text_of(&json["error"]["hint"]).is_empty(), "{json}");
    assert_eq!(json["error"]["retryable"], false);
}

/// A place with a signer list and an artifact that its signer vouches for.
fn place_with_signer() -> (Place, Key, String) {
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let artifact = draft(&place);
    sign(&place, &artifact, &ana);
    put(&place, &artifact).ok();
    runs(&place, &artifact);
    (place, ana, artifact)
}

#[test]
fn an_unsigned_draft_is_not_admitted() {
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let artifact = draft(&place);
    put(&place, &artifact).refuses(3, &[&artifact, "there is no signature", "vyr artifact sign"]);
    // A draft does not run: it is not in the store.
    place.vyr(&["run", &artifact]).run().refuses(4, &[&artifact]);
    assert_eq!(entries(&place.data()).len(), 0);
    sign(&place, &artifact, &ana);
    put(&place, &artifact).ok();
    runs(&place, &artifact);
}

#[test]
fn an_unknown_key_is_not_believed() {
    let place = Place::new();
    let (ana, eve) = (key(&place, "ana"), key(&place, "eve"));
    trust(&place, "ana");
    let artifact = draft(&place);
    sign(&place, &artifact, &eve);
    let reason = format!("key {} is not in the list of allowed signers", eve.id);
    put(&place, &artifact).refuses(3, &[&artifact, &reason]);
    let hello = guest("hello.wasip1");
    place.vyr(&["run", &hello, "--key", &eve.private]).run().refuses(3, &[&reason]);
    assert_eq!(entries(&place.data()).len(), 0);
    assert_eq!(faults(&place.data()), [""; 0]);
    // A second signature, by a known key, is enough; the strange one does no harm.
    sign(&place, &artifact, &ana);
    put(&place, &artifact).ok();
    let ended = runs(&place, &artifact);
    assert!(ended.stderr.contains("signer: ana@example.org"), "{}", ended.stderr);
}

#[test]
fn an_artifact_that_is_signed_again_by_a_stranger_is_refused() {
    let (place, _, artifact) = place_with_signer();
    // The stranger has a store of their own, in which they are believed.
    let theirs = Place::new();
    let eve = key(&theirs, "eve");
    trust(&theirs, "eve");
    let again = draft(&theirs);
    assert_eq!(again, artifact, "the same program");
    sign(&theirs, &again, &eve);
    put(&theirs, &again).ok();
    runs(&theirs, &again);
    let archive = theirs.path("theirs.tar");
    theirs.vyr(&["artifact", "export", &again, "-o", archive.as_str()]).run().ok();
    let import = ["artifact", "import", archive.as_str()];
    place.vyr(&import).run().refuses(3, &["is not in the list of allowed signers"]);

    // And in place of the right one, in the store itself.
    let swapped = Place::new();
    fs::create_dir(swapped.data()).expect("a directory");
    swapped.vyr(&["key", "ls"]).run().ok();
    copy(&theirs.data().join("store"), &swapped.data().join("store"));
    copy(&place.data().join("trust"), &swapped.data().join("trust"));
    refused(&swapped, &artifact, "is not in the list of allowed signers");
    copy(&place.data().join("store"), &swapped.data().join("store"));
    runs(&swapped, &artifact);
}

#[test]
fn a_signature_of_something_else_is_refused() {
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let (one, other) = (draft(&place), {
        let nop = guest("nop.wasip1");
        place.vyr(&["artifact", "build", &nop, "--name", "nop"]).run().ok().line()
    });
    sign(&place, &other, &ana);
    let signature = place.vyr(&["artifact", "show", &other, "--signature"]).run().ok().stdout;
    let file = place.file("other.sig", signature);
    place.vyr(&["artifact", "sign", &one, "--detached", &file]).run().ok();
    put(&place, &one).refuses(3, &["does not match", &ana.id]);
    put(&place, &other).ok();
}

#[test]
fn a_signer_may_be_trusted_for_something_else_only() {
    let (place, ana, artifact) = place_with_signer();
    let only = |options: &str| {
        let line = format!("ana@example.org {options} {}\n", ana.public);
        write_trust(&place, "allowed_signers", &line);
    };
    only(r#"namespaces="vyr-plan""#);
    refused(&place, &artifact, "ana@example.org may not sign for vyr-artifact");
    only(r#"namespaces="vyr-plan,vyr-artifact""#);
    runs(&place, &artifact);
    only("");
    runs(&place, &artifact);
}

#[test]
fn a_signer_is_trusted_within_dates() {
    let (place, ana, artifact) = place_with_signer();
    let only = |options: &str| {
        let line = format!("ana@example.org {options} {}\n", ana.public);
        write_trust(&place, "allowed_signers", &line);
    };
    only(r#"valid-before="20200101Z""#);
    refused(&place, &artifact, "was valid until");
    only(r#"valid-after="29990101Z""#);
    refused(&place, &artifact, "is valid only from");
    only(r#"valid-after="20200101Z",valid-before="29990101Z""#);
    runs(&place, &artifact);
}

#[test]
fn a_revoked_key_is_refused_from_then_on() {
    let (place, ana, artifact) = place_with_signer();
    write_trust(&place, "revoked_keys", &format!("# lost\n{}\n", ana.public));
    refused(&place, &artifact, &format!("key {} is revoked", ana.id));
    put(&place, &artifact).refuses(3, &["is revoked"]);
    let eve = key(&place, "eve");
    write_trust(&place, "revoked_keys", &format!("{}\n", eve.public));
    runs(&place, &artifact);
}

#[test]
fn a_signer_who_is_taken_off_the_list_is_refused_from_then_on() {
    let (place, _, artifact) = place_with_signer();
    let list = place.data().join("trust/allowed_signers");
    let before = fs::read_to_string(&list).expect("the list");
    fs::write(&list, "").expect("a file");
    refused(&place, &artifact, "is not in the list of allowed signers");
    fs::write(&list, before).expect("a file");
    runs(&place, &artifact);
}

#[test]
fn the_development_key_counts_only_without_a_list() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let json = place.vyr(&["run", &hello, "--json"]).run().ok().json();
    assert_eq!(json["signer"], "dev");
    let artifact = text_of(&json["artifact_digest"]);
    runs(&place, artifact);
    let ana = key(&place, "ana");
    runs(&place, artifact);
    trust(&place, "ana");
    refused(&place, artifact, "is not in the list of allowed signers");
    let hints = ["a key is needed to sign", "--key FILE", "vyr key new"];
    place.vyr(&["run", &hello]).run().refuses(2, &hints);
    // Nor can it be asked for by its file: it is a key like any other, and not on the list.
    let dev = place.data().join("keys/dev");
    place.vyr(&["run", &hello, "--key", dev.as_str()]).run().refuses(3, &["is not in the list"]);
    let json = place.vyr(&["run", &hello, "--key", &ana.private, "--json"]).run().ok().json();
    assert_eq!(json["signer"], "ana@example.org");
    assert_eq!(json["signer_key_id"], ana.id);
    // Nobody on the list is not the same as no list.
    write_trust(&place, "allowed_signers", "# nobody\n");
    refused(&place, artifact, "none of 2 signatures is trusted");
    fs::remove_file(place.data().join("trust/allowed_signers")).expect("the list");
    runs(&place, artifact);
}

/// As after a kill between the two halves, or between two of fifty commands.
#[test]
fn half_a_development_key_is_mended() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let first = place.vyr(&["run", &hello, "--json"]).run().ok().json();
    let public = place.data().join("keys/dev.pub");
    let before = fs::read(&public).expect("the public key");
    fs::remove_file(&public).expect("the public key");
    let again = place.vyr(&["run", &hello, "--json"]).run().ok().json();
    assert_eq!(again["signer_key_id"], first["signer_key_id"]);
    assert_eq!(fs::read(&public).expect("the public key"), before);
}

/// Every part of an artifact, a byte in each of several places: the run names the part. A damaged
/// blob that no run needs (the output of an earlier one) is the twin that shows it can pass.
#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let place = Place::new();
    let json = place.vyr(&["run", &guest("hello.wasip1"), "--json"]).run().ok().json();
    let artifact = text_of(&json["artifact_digest"]).to_owned();
    let data = place.data();
    let manifest = document(&data, &artifact);
    let referrer = indexed(&data, false).remove(0);
    let digest_of = |value: &Value| text_of(&value["digest"]).to_owned();
    let parts = [
        (artifact.clone(), "its manifest"),
        (digest_of(&manifest["config"]), "its config"),
        (digest_of(&manifest["layers"][0]), "its Wasm"),
        (referrer.clone(), "a signature"),
        (digest_of(&document(&data, &referrer)["layers"][0]), "a signature"),
    ];
    for (part, name) in parts {
        let path = blob(&data, &part);
        let sound = fs::read(&path).expect("a blob");
        let reason = format!("was tampered with: {name} does not have its digest");
        for at in [0, 1, 8, sound.len() / 3, sound.len() / 2, sound.len() - 1] {
            let mut changed = sound.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).expect("a file");
            refused(&place, &artifact, &reason);
        }
        for changed in [&sound[1..], &[&sound[..], b" "].concat(), b""] {
            fs::write(&path, changed).expect("a file");
            refused(&place, &artifact, &reason);
        }
        fs::remove_file(&path).expect("a blob");
        let gone = place.vyr(&["run", &artifact]).run();
        assert!(matches!(gone.code(), Some(3 | 4)), "{name} is missing: {gone:?}");
        std::os::unix::fs::symlink("/etc/hostname", &path).expect("a link");
        refused(&place, &artifact, &reason);
        fs::remove_file(&path).expect("a link");
        fs::write(&path, &sound).expect("a file");
        runs(&place, &artifact);
    }
    fs::write(blob(&data, &digest(b"hello from vyr\n")), "changed").expect("a file");
    runs(&place, &artifact);
}

/// The file on disk is the source: a store that was tampered with does not decide what runs.
#[test]
fn a_tampered_store_does_not_reach_who_runs_the_file() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let json = place.vyr(&["run", &hello, "--json"]).run().ok().json();
    let artifact = text_of(&json["artifact_digest"]).to_owned();
    let wasm = text_of(&document(&place.data(), &artifact)["layers"][0]["digest"]).to_owned();
    fs::copy(guest("nop.wasip1"), blob(&place.data(), &wasm)).expect("a blob");
    refused(&place, &artifact, "its Wasm does not have its digest");
    // With the code cached or not, it is `hello` that runs, or nothing.
    for _ in 0..2 {
        let ended = place.vyr(&["run", &hello]).run();
        match ended.code() {
            Some(0) => assert_eq!(ended.text(), "hello from vyr\n"),
            _ => assert_eq!(ended.text(), "", "{ended:?}"),
        }
        fs::remove_dir_all(place.data().join("cache")).expect("the cache");
    }
}

#[test]
fn a_trust_file_with_a_fault_is_not_believed_at_all() {
    let (place, ana, artifact) = place_with_signer();
    let list = fs::read_to_string(place.data().join("trust/allowed_signers")).expect("the list");
    let eve = key(&place, "eve");
    let long = format!("ana@example.org {} {}\n", ana.public, "x".repeat(9000));
    let faulty: [(&str, &str, String, &[&str]); 9] = [
        ("allowed_signers", "garbage", format!("{list}not a line\n"), &["line 2,"]),
        (
            "allowed_signers",
            "an option",
            format!("{list}a cert-authority {}\n", eve.public),
            &["line 2,"],
        ),
        (
            "allowed_signers",
            "a date",
            format!("a valid-before=\"soon\" {0}\nb valid-after=\"then\" {0}\n{list}", eve.public),
            &["line 1,", "line 2,"],
        ),
        ("allowed_signers", "binary", "\0\u{1}\u{2}\n".repeat(10), &["line 1,"]),
        ("allowed_signers", "a long line", long, &["line 1,"]),
        ("allowed_signers", "a long file", "#\n".repeat(600_000), &["more than"]),
        ("revoked_keys", "garbage", "whatever\n".to_owned(), &["line 1,"]),
        ("revoked_keys", "a fingerprint", format!("{}\n", eve.id), &["line 1,"]),
        ("revoked_keys", "a KRL", "SSHKRL\n\0\0\0\0\u{1}".to_owned(), &["one public key a line"]),
    ];
    for (name, what, content, words) in faulty {
        write_trust(&place, name, &content);
        let ended = place.vyr(&["run", &artifact]).run().refuses(2, &[name, "has faults"]);
        for word in words {
            assert!(ended.stderr.contains(word), "{what}: no {word:?} in {}", ended.stderr);
        }
        place.vyr(&["run", &guest("nop.wasip1"), "--key", &ana.private]).run().exits(2);
        place.vyr(&["artifact", "put", &artifact]).run().exits(2);
        if name == "allowed_signers" {
            let before = fs::read(place.data().join("trust/allowed_signers")).expect("a file");
            place.vyr(&["key", "trust", "eve"]).run().exits(2);
            let after = fs::read(place.data().join("trust/allowed_signers")).expect("a file");
            assert!(before == after, "{what}: a faulty list was added to");
        }
        write_trust(&place, "allowed_signers", &list);
        let _ = fs::remove_file(place.data().join("trust/revoked_keys"));
        runs(&place, &artifact);
    }
}

#[test]
fn a_key_is_trusted_once_and_by_any_of_its_names() {
    let place = Place::new();
    let ana = key(&place, "ana");
    let line = place.vyr(&["key", "trust", "ana", "--principal", "ana@example.org"]).run().ok();
    assert_eq!(line.line(), format!("ana@example.org namespaces=\"vyr-artifact\" {}", ana.public));
    assert!(line.stderr.contains("undo: "), "{}", line.stderr);
    let public = format!("{}.pub", ana.private);
    let arguments = ["key", "trust", &public, "--principal", "ana@example.org"];
    let again = place.vyr(&arguments).run().ok();
    assert!(again.stderr.contains("nothing changed"), "{}", again.stderr);
    assert_eq!(place.vyr(&["key", "ls"]).run().ok().text().lines().count(), 1);
    let listed = place.vyr(&["key", "ls", "--json"]).run().ok().json();
    assert_eq!(listed["dev"], false);
    assert_eq!(listed["signers"][0]["key_id"], ana.id);
    assert_eq!(listed["keys"][0]["name"], "ana");
    // A principal that would change the line's meaning is refused.
    for principal in ["", "two words", "a\nb", "*,!eve", "#ana", "a\"b"] {
        let arguments = ["key", "trust", "ana", "--principal", principal];
        let ended = place.vyr(&arguments).run();
        if principal != "*,!eve" {
            ended.exits(2);
        }
        place.vyr(&["key", "ls"]).run().ok();
    }
}

#[test]
fn a_key_file_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let hello = guest("hello.wasip1");
    let run = || place.vyr(&["run", &hello, "--key", &ana.private]).run();
    fs::set_permissions(&ana.private, fs::Permissions::from_mode(0o644)).expect("chmod");
    run().refuses(3, &["can be read by others", "chmod 600"]);
    fs::set_permissions(&ana.private, fs::Permissions::from_mode(0o600)).expect("chmod");
    run().ok();
    // What is no key at all.
    let garbage = place.file("garbage", "once upon a time");
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o600)).expect("chmod");
    let begins = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    let cut = place.file("cut", begins);
    fs::set_permissions(&cut, fs::Permissions::from_mode(0o600)).expect("chmod");
    let nop = guest("nop.wasip1");
    for file in [&garbage, &cut] {
        place.vyr(&["run", &nop, "--key", file]).run().refuses(2, &["is not an OpenSSH key"]);
    }
    let missing = place.path("missing");
    place.vyr(&["run", &nop, "--key", missing.as_str()]).run().exits(4);
    // A public key without an agent cannot sign.
    let public = format!("{}.pub", ana.private);
    place.vyr(&["run", &nop, "--key", &public]).run().refuses(3, &["no ssh-agent"]);
}

#[test]
fn a_data_directory_others_can_write_proves_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let (place, _, artifact) = place_with_signer();
    let mode = |mode| fs::set_permissions(place.data(), fs::Permissions::from_mode(mode));
    for open in [0o770, 0o707, 0o777] {
        mode(open).expect("chmod");
        place.vyr(&["run", &artifact]).run().refuses(3, &["may be written by others", "chmod 700"]);
        place.vyr(&["key", "ls"]).run().refuses(3, &["may be written by others"]);
    }
    mode(0o700).expect("chmod");
    runs(&place, &artifact);
}

/// Copies a directory of files and directories over another.
pub(crate) fn copy(from: &Utf8PathBuf, to: &Utf8PathBuf) {
    if exists(to) {
        fs::remove_dir_all(to).expect("a directory");
    }
    fs::create_dir(to).expect("a directory");
    for entry in from.read_dir_utf8().expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path().to_owned(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file");
        }
    }
}
