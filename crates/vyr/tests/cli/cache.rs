//! Compiled code is believed only when this directory's own key made it.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::common::{Place, guest};
use crate::judge::{digest, faults};

fn run(place: &Place, data: &Utf8Path, name: &str) -> Value {
    let json = place.vyr_on(data, &["run", &guest(name), "--json"]).run().ok().json();
    let expected: &[u8] = if name.starts_with("hello") { b"hello from vyr\n" } else { b"" };
    assert_eq!(json["output_digest"], digest(expected), "{name} printed something else");
    json
}

/// The files of compiled code in a data directory.
fn code(data: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = data.join("cache").read_dir_utf8().expect("a cache");
    let paths = entries.map(|entry| entry.expect("an entry").into_path());
    paths.filter(|path| path.extension() == Some("code")).collect()
}

#[test]
fn code_of_another_directory_is_compiled_again() {
    for name in ["hello.wasip1", "hello.wasip2"] {
        let place = Place::new();
        let (ours, theirs) = (place.path("ours"), place.path("theirs"));
        assert_eq!(run(&place, &ours, name)["compiled"], true);
        assert_eq!(run(&place, &theirs, name)["compiled"], true);
        let [ours_code, theirs_code] = [&ours, &theirs].map(|data| code(data).remove(0));
        assert_eq!(ours_code.file_name(), theirs_code.file_name());
        assert_ne!(fs::read(&ours_code).expect("code"), fs::read(&theirs_code).expect("code"));
        // The twin: what lies there by right is used.
        assert_eq!(run(&place, &ours, name)["compiled"], false);
        fs::copy(&theirs_code, &ours_code).expect("a file");
        assert_eq!(run(&place, &ours, name)["compiled"], true, "a stranger's code was used");
        assert_eq!(run(&place, &ours, name)["compiled"], false, "and it was replaced");
        // With its key too it is a directory's own: keys are what the trust is in.
        fs::copy(&theirs_code, &ours_code).expect("a file");
        fs::copy(theirs.join("cache/node.key"), ours.join("cache/node.key")).expect("a file");
        assert_eq!(run(&place, &ours, name)["compiled"], false);
    }
}

#[test]
fn code_of_another_program_is_compiled_again() {
    let place = Place::new();
    let data = place.data();
    run(&place, &data, "hello.wasip1");
    let hello = code(&data).remove(0);
    run(&place, &data, "nop.wasip1");
    let nop = code(&data).into_iter().find(|path| *path != hello).expect("the code of nop");
    fs::copy(&nop, &hello).expect("a file");
    assert_eq!(run(&place, &data, "hello.wasip1")["compiled"], true);
    assert_eq!(run(&place, &data, "nop.wasip1")["compiled"], false);
}

#[test]
fn spoiled_code_is_compiled_again() {
    let place = Place::new();
    let data = place.data();
    run(&place, &data, "hello.wasip1");
    let file = code(&data).remove(0);
    let sound = fs::read(&file).expect("code");
    let mut spoiled: Vec<Vec<u8>> = vec![
        Vec::new(),
        sound[..20].to_vec(),
        sound[..sound.len() - 1].to_vec(),
        [&sound[..], b"x"].concat(),
        vec![0; sound.len()],
    ];
    // Magic, kind, MAC, the engine's header, code, the end.
    for at in [0, 7, 8, 9, 40, 41, 200, sound.len() / 2, sound.len() - 1] {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        spoiled.push(changed);
    }
    for bytes in spoiled {
        fs::write(&file, bytes).expect("a file");
        assert_eq!(run(&place, &data, "hello.wasip1")["compiled"], true);
        assert_eq!(run(&place, &data, "hello.wasip1")["compiled"], false);
    }
    assert_eq!(faults(&data), [""; 0]);
}
