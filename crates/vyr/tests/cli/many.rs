//! Many commands at once on one data directory.

use std::fs;

use crate::common::{Place, Running, guest, text_of};
use crate::judge::{digest, entries, faults, indexed, works};

const MANY: usize = 50;

/// Three times, because who is first at what is a matter of luck.
#[test]
fn fifty_first_runs_at_once() {
    for _ in 0..3 {
        let place = Place::new();
        let hello = guest("hello.wasip1");
        let start = |_| place.vyr(&["run", "--json", &hello]).start();
        let running: Vec<Running> = (0..MANY).map(start).collect();
        let ended: Vec<_> = running.into_iter().map(|one| one.wait().ok().json()).collect();
        for one in &ended {
            assert_eq!(one["output_digest"], digest(b"hello from vyr\n"));
            assert_eq!(one["signer_key_id"], ended[0]["signer_key_id"], "one development key");
        }
        let compiled = ended.iter().filter(|one| one["compiled"] == true).count();
        assert_eq!(compiled, 1, "one compiles and the others wait for it");
        let artifact = text_of(&ended[0]["artifact_digest"]);
        assert_eq!(indexed(&place.data(), true), [artifact], "one entry");
        // An Ed25519 signature of the same bytes with the same key is the same signature.
        assert_eq!(indexed(&place.data(), false).len(), 1, "one signature");
        let mut keys: Vec<_> = fs::read_dir(place.data().join("keys")).expect("keys").collect();
        keys.retain(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() != "dev.pub"));
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert_eq!(faults(&place.data()), [""; 0]);
        works(&place);
    }
}

#[test]
fn fifty_different_commands_at_once() {
    let place = Place::new();
    let probe = guest("probe.wasip1");
    let running: Vec<(String, Running)> = (0..MANY)
        .map(|n| {
            let word = format!("word{n}");
            // Collecting beside it must never take away what a run has just put.
            let call = match n % 10 {
                7 => place.vyr(&["artifact", "gc", "--older-than", "0s"]),
                8 => place.vyr(&["artifact", "ls"]),
                9 => place.vyr(&["doctor"]),
                _ => place.vyr(&["run", "--quiet", &probe, "--", "args", &word]),
            };
            (if n % 10 < 7 { word } else { String::new() }, call.start())
        })
        .collect();
    let mut runs = 0;
    for (word, one) in running {
        let ended = one.wait().ok();
        if !word.is_empty() {
            assert_eq!(ended.text(), format!("probe.wasip1\nargs\n{word}\n"));
            runs += 1;
        }
    }
    assert_eq!(entries(&place.data()).len(), 2 * runs, "an artifact and its signature each");
    assert_eq!(faults(&place.data()), [""; 0]);
    works(&place);
}
