//! Wasm that is made to hurt: whatever it is, the command ends in a documented way, and nothing is
//! left half-written.
//!
//! With `VYR_FULL` set (`make test-full`) the two that meet a limit of the compiler are run in the
//! size that does: together they take two minutes of processor time.

use std::fs;

use serde_json::Value;

use crate::common::{Place, guest, text_of};
use crate::guests;
use crate::judge::{faults, works};
use crate::random::Random;

fn is_full() -> bool {
    std::env::var_os("VYR_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Runs it; `None` when it completed, else why it was refused.
#[track_caller]
fn refusal(place: &Place, wasm: Vec<u8>) -> Option<String> {
    let file = place.file("hostile.wasm", wasm);
    let ended = place.vyr(&["run", "--json", &file]).run();
    let json = ended.json();
    assert_eq!(faults(&place.data()), [""; 0]);
    if ended.code() == Some(0) {
        assert_eq!(json["state"], "completed", "{json}");
        return None;
    }
    assert_eq!(ended.code(), Some(1), "{json}");
    assert_eq!(json["error"]["category"], "failure", "{json}");
    assert!(json["error"]["hint"] != Value::Null, "{json}");
    let message = text_of(&json["error"]["message"]).to_owned();
    assert!(message.contains("compiling took more than allowed: "), "{message}");
    let limits = ["bytes of memory", "s of processor time", "s of wall time"];
    assert!(limits.iter().any(|limit| message.ends_with(limit)), "{message}");
    Some(message)
}

#[test]
fn a_module_of_very_many_functions() {
    let place = Place::new();
    if is_full() {
        // Memory is what it runs out of, or on a busy machine time.
        refusal(&place, guests::many_functions(1_000_000)).expect("4 GiB are not enough");
    } else {
        assert_eq!(refusal(&place, guests::many_functions(50_000)), None);
    }
    works(&place);
}

#[test]
fn a_module_that_keeps_the_compiler_busy() {
    let place = Place::new();
    if is_full() {
        refusal(&place, guests::compile_bomb(5000)).expect("a minute is not enough");
    } else {
        assert_eq!(refusal(&place, guests::compile_bomb(100)), None);
    }
    works(&place);
}

/// A changed module is refused, or runs within its limits to any end but one of ours.
#[test]
fn random_changes_of_wasm() {
    let place = Place::new();
    let mut random = Random::new();
    let (mut ran, mut refused) = (0, 0);
    for name in ["hello.wasip1", "hello.wasip2", "nop.wasip2"] {
        let sound = fs::read(guest(name)).expect("a guest");
        for round in 0..25 {
            let file = place.file("changed.wasm", random.change(&sound));
            let limits = ["--memory", "32Mi", "--deadline", "1s", "--output-max", "1Mi"];
            let arguments = [&["run", "--json", &file], &limits[..]].concat();
            let ended = place.vyr(&arguments).run();
            let json = ended.json();
            match ended.code() {
                Some(0 | 1) => ran += 1,
                Some(2) => refused += 1,
                _ => panic!("{name} {round}: {ended:?}"),
            }
            for reason in ["internal", "lost"] {
                assert_ne!(json["reason"], reason, "{name} {round}: {json}");
            }
            assert!(!ended.stderr.contains("panicked"), "{name} {round}: {}", ended.stderr);
        }
    }
    assert!(ran > 0 && refused > 0, "{ran} ran, {refused} were refused");
    assert_eq!(faults(&place.data()), [""; 0]);
    works(&place);
}

/// Names that a module brings along are quoted without what a terminal would obey.
#[test]
fn a_module_does_not_speak_to_the_terminal() {
    let place = Place::new();
    let name = "\u{1b}[2J\u{1b}]0;title\u{7}\r\n\u{9b}31m";
    for wasm in [guests::with_an_import_named(name), guests::with_an_export_named(name)] {
        let file = place.file("loud.wasm", wasm);
        let ended = place.vyr(&["run", &file]).run().exits(2);
        assert!(ended.stderr.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", ended.stderr);
    }
}
