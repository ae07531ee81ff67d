//! A private key is in its file and nowhere else.

use std::fs;

use camino::Utf8Path;
use ssh_key::PrivateKey;

use crate::common::{Place, guest};
use crate::judge::mode_faults;

/// The forms a private key could leak in: a line of its file, its seed raw and as hex.
fn forms(file: &Utf8Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(file).expect("a key");
    let body = text.lines().filter(|line| !line.starts_with("-----"));
    // The first lines name the cipher and hold the public half, which is no secret.
    let mut forms: Vec<Vec<u8>> = body.skip(2).map(|line| line.as_bytes().to_vec()).collect();
    let key = PrivateKey::from_openssh(&text).expect("a key");
    let seed = key.key_data().ed25519().expect("Ed25519").private.to_bytes();
    forms.push(seed.to_vec());
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push(hex.into_bytes());
    forms
}

fn holds(bytes: &[u8], forms: &[Vec<u8>]) -> bool {
    forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
}

#[test]
fn a_private_key_is_told_to_nobody() {
    let place = Place::new();
    let data = place.data();
    let hello = guest("hello.wasip1");
    let probe = guest("probe.wasip1");
    let archive = place.path("all.tar");
    let private = data.join("keys/ana");
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    let mut tell = |arguments: &[&str]| {
        let ended = place.vyr(arguments).run();
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        said.push((ended.said.clone(), [ended.stdout, ended.stderr.into_bytes()].concat()));
        text.lines().next().unwrap_or_default().to_owned()
    };
    tell(&["run", &hello]);
    tell(&["run", &hello, "--json"]);
    tell(&["key", "new", "ana"]);
    tell(&["key", "new", "ana"]);
    tell(&["key", "new", "eve", "--json"]);
    tell(&["key", "ls"]);
    tell(&["key", "ls", "--json"]);
    tell(&["key", "trust", "ana", "--json"]);
    // Files of the wrong kind in each place: their content is not quoted.
    tell(&["key", "trust", private.as_str()]);
    tell(&["run", private.as_str()]);
    tell(&["run", private.as_str(), "--json"]);
    tell(&["artifact", "build", private.as_str(), "--name", "x"]);
    tell(&["artifact", "import", private.as_str()]);
    let artifact = tell(&["artifact", "build", &hello, "--name", "hello"]);
    tell(&["artifact", "sign", &artifact, "--detached", private.as_str()]);
    tell(&["artifact", "put", &artifact]);
    tell(&["artifact", "sign", &artifact, "--key", private.as_str()]);
    tell(&["artifact", "put", &artifact, "--json"]);
    tell(&["artifact", "ls"]);
    tell(&["artifact", "ls", "--json"]);
    for more in [&["--json"][..], &["--signature"], &["--signed-bytes"], &[]] {
        tell(&[&["artifact", "show", &artifact], more].concat());
    }
    tell(&["artifact", "export", &artifact, "-o", archive.as_str()]);
    tell(&["artifact", "export", &artifact, "-o", "-"]);
    tell(&["run", &probe, "--key", private.as_str(), "--", "env"]);
    tell(&["run", &probe, "--key", private.as_str(), "--", "read-file", private.as_str()]);
    tell(&["run", &artifact, "--json"]);
    tell(&["artifact", "gc", "--json"]);
    tell(&["doctor", "--json"]);
    tell(&["bogus", private.as_str()]);

    let keys = ["dev", "ana", "eve"].map(|name| forms(&data.join("keys").join(name)));
    for forms in &keys {
        for (command, bytes) in &said {
            assert!(!holds(bytes, forms), "{command} tells a private key");
        }
        let elsewhere = ["store", "drafts", "cache", "trust"].map(|name| data.join(name));
        for directory in elsewhere {
            for path in crate::judge::tree(&directory).into_keys() {
                assert!(!holds(&fs::read(&path).expect("a file"), forms), "{path} holds one");
            }
        }
        assert!(!holds(&fs::read(&archive).expect("an archive"), forms), "the archive holds one");
        for name in ["dev", "ana", "eve"] {
            let public = fs::read(data.join("keys").join(format!("{name}.pub"))).expect("a key");
            assert!(!holds(&public, forms), "{name}.pub holds one");
        }
    }
    // The twin: the search finds each where it belongs.
    for (name, forms) in ["dev", "ana", "eve"].iter().zip(&keys) {
        assert!(holds(&fs::read(data.join("keys").join(name)).expect("a key"), forms));
    }
    assert_eq!(mode_faults(&data), [""; 0]);
}

/// Whatever the caller's umask is, and whatever made the directory before.
#[test]
fn private_files_are_private_under_any_umask() {
    let place = Place::new();
    let data = place.data();
    for mask in ["000", "022", "077"] {
        let script = format!("umask {mask}; exec \"$@\"");
        let hello = guest("hello.wasip1");
        let arguments = ["-c", &script, "sh", crate::common::VYR, "--data-dir", data.as_str()];
        let run = |more: &[&str]| place.program("sh", &[&arguments[..], more].concat()).run();
        run(&["run", "--quiet", &hello]).ok();
        run(&["key", "new", "ana"]).ok();
        run(&["key", "trust", "ana"]).ok();
        assert_eq!(mode_faults(&data), [""; 0], "umask {mask}");
        fs::remove_dir_all(&data).expect("the data directory");
    }
}
