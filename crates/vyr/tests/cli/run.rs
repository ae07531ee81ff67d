//! `vyr run`: what it prints, what it stores, how it ends.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Place, exists, guest, text_of};
use crate::guests;
use crate::judge::{blob, digest, entries, faults, indexed};

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn output_is_data_and_the_summary_narration() {
    for name in ["hello.wasip1", "hello.wasip2"] {
        let place = Place::new();
        let ended = place.vyr(&["run", &guest(name)]).run().ok();
        assert_eq!(ended.text(), "hello from vyr\n");
        for word in ["vyr: completed", name, "signer: dev SHA256:", "compiling"] {
            assert!(ended.stderr.contains(word), "no {word:?} in {}", ended.stderr);
        }
        let again = place.vyr(&["run", &guest(name)]).run().ok();
        assert!(again.stderr.contains("loading code"), "{}", again.stderr);
        let quiet = place.vyr(&["run", "--quiet", &guest(name)]).run().ok();
        assert_eq!((quiet.text(), quiet.stderr.as_str()), ("hello from vyr\n", ""));
    }
}

#[test]
fn json_is_one_object_with_the_fixed_fields() {
    for name in ["hello.wasip1", "hello.wasip2"] {
        let place = Place::new();
        let ended = place.vyr(&["run", &guest(name), "--json"]).run().ok();
        assert_eq!(ended.stderr, "", "nothing is said besides");
        let json = ended.json();
        assert_eq!(json["version"], 1);
        assert_eq!(json["state"], "completed");
        assert_eq!(json["exit_code"], 0);
        assert_eq!(json["reason"], Value::Null);
        assert_eq!(json["signer"], "dev");
        assert_eq!(json["name"], name);
        assert_eq!(json["input_digest"], EMPTY);
        assert_eq!(json["input_complete"], true);
        assert_eq!(json["output_digest"], digest(b"hello from vyr\n"));
        assert_eq!(json["output_bytes"], 15);
        assert_eq!(json["compiled"], true);
        assert!(text_of(&json["signer_key_id"]).starts_with("SHA256:"));
        for timing in ["admit_us", "code_us", "run_us", "total_us"] {
            assert!(json["timings"][timing].is_u64(), "{timing}: {json}");
        }
        for limit in ["memory_bytes", "deadline_ms", "cpu_ms", "output_bytes_max"] {
            assert!(json["limits"][limit].is_u64(), "{limit}: {json}");
        }
    }
}

#[test]
fn digests_are_those_of_sha256sum() {
    let place = Place::new();
    let input = place.file("input", b"what goes in\nmust come out\n".repeat(1000));
    let arguments = ["run", &guest("probe.wasip1"), "--input", &input, "--json", "--", "echo"];
    let json = place.vyr(&arguments).run().ok().json();
    let output = place.data().join("store/blobs/sha256");
    let output = output.join(text_of(&json["output_digest"]).trim_start_matches("sha256:"));
    let artifact = blob(&place.data(), text_of(&json["artifact_digest"]));
    for (what, path) in [
        ("input_digest", input.as_str()),
        ("output_digest", output.as_str()),
        ("artifact_digest", artifact.as_str()),
    ] {
        let summed = place.program("sha256sum", &[path]).run().ok().line();
        let hex = summed.split_whitespace().next().expect("a sum");
        assert_eq!(text_of(&json[what]), format!("sha256:{hex}"), "{what}");
    }
    assert_eq!(fs::read(output).expect("the output"), fs::read(&input).expect("the input"));
}

#[test]
fn an_output_is_kept_unless_it_is_not_wanted() {
    let place = Place::new();
    let run = |word: &str, more: &[&str]| {
        let mut arguments = vec!["run", "--json"];
        arguments.extend(more);
        let guest = guest("probe.wasip1");
        arguments.extend([guest.as_str(), "--", "args", word]);
        let json = place.vyr(&arguments).run().ok().json();
        let expected = format!("probe.wasip1\nargs\n{word}\n");
        assert_eq!(json["output_digest"], digest(expected.as_bytes()));
        blob(&place.data(), &digest(expected.as_bytes()))
    };
    assert!(exists(run("kept", &[])));
    assert!(!exists(run("gone", &["--no-store"])));
    let shown = place.path("shown");
    let kept = run("shown", &["--output", shown.as_str()]);
    assert_eq!(fs::read(shown).expect("a file"), fs::read(kept).expect("a blob"));
    assert_eq!(faults(&place.data()), [""; 0]);
}

#[test]
fn arguments_are_part_of_the_artifact() {
    let place = Place::new();
    let run = |words: &[&str]| {
        let guest = guest("probe.wasip1");
        let arguments = [&["run", "--json", &guest, "--"], words].concat();
        place.vyr(&arguments).run().ok().json()
    };
    let (one, other) = (run(&["args", "a", "--json"]), run(&["args", "b"]));
    assert_eq!(one["output_digest"], digest(b"probe.wasip1\nargs\na\n--json\n"));
    assert_ne!(one["artifact_digest"], other["artifact_digest"]);
    assert_eq!(other["compiled"], false, "the Wasm is the same");
}

#[test]
fn the_same_file_is_the_same_artifact_everywhere() {
    let place = Place::new();
    let mut seen = Vec::new();
    for name in ["one", "other"] {
        let data = place.path(name);
        let run = place.vyr_on(&data, &["run", &guest("hello.wasip2"), "--json"]).run().ok();
        let first = run.json();
        let artifact = text_of(&first["artifact_digest"]).to_owned();
        let again = place.vyr_on(&data, &["run", &artifact, "--json"]).run().ok().json();
        assert_eq!(again["artifact_digest"], first["artifact_digest"]);
        assert_eq!(again["output_digest"], first["output_digest"]);
        assert_eq!(again["compiled"], false);
        seen.push((artifact, first["signer_key_id"].clone()));
    }
    assert_eq!(seen[0].0, seen[1].0);
    assert_ne!(seen[0].1, seen[1].1, "each directory has a development key of its own");
}

#[test]
fn a_pipe_is_as_good_as_a_file() {
    let place = Place::new();
    let wasm = fs::read(guest("hello.wasip1")).expect("a guest");
    let ended = place.vyr(&["run", "--json", "/dev/stdin"]).input(wasm).run().ok();
    assert_eq!(ended.json()["name"], "stdin");
    assert_eq!(ended.json()["output_digest"], digest(b"hello from vyr\n"));
}

#[test]
fn what_cannot_be_run_is_told_with_its_exit_code() {
    let place = Place::new();
    let run = |arguments: &[&str]| place.vyr(&[&["run"], arguments].concat()).run();
    let ran = run(&[&guest("hello.wasip1"), "--json"]).ok().json();
    let artifact = text_of(&ran["artifact_digest"]);
    run(&[artifact, "--", "more"]).refuses(2, &["fixed by its signature", "vyr artifact build"]);
    run(&["nginx"]).refuses(2, &["container image", "vyr deploy"]);
    run(&["registry.example/team/app:1.27"]).refuses(2, &["vyr deploy"]);
    run(&["missing.wasm"]).refuses(4, &["missing.wasm", "hint:"]);
    run(&[&digest(b"nothing here")]).refuses(4, &["is not here", "vyr artifact ls"]);
    run(&["sha256:12"]).refuses(4, &["sha256:12"]);
    let input = place.path("no-input");
    run(&[&guest("hello.wasip1"), "--input", input.as_str()]).refuses(4, &[input.as_str()]);
    run(&[place.path("").as_str()]).refuses(2, &["Is a directory"]);
    assert_eq!(indexed(&place.data(), true), [artifact], "nothing else was stored");
    assert_eq!(faults(&place.data()), [""; 0]);
}

/// Truncated, corrupt and foreign bytes where Wasm should be. What is no Wasm by its first bytes
/// is not even stored; what its compiler refuses is.
#[test]
fn what_is_not_wasm_is_refused() {
    let place = Place::new();
    let hello = fs::read(guest("hello.wasip1")).expect("a guest");
    let component = fs::read(guest("hello.wasip2")).expect("a guest");
    let elf = fs::read("/proc/self/exe").expect("this program");
    let mut unknown_version = hello.clone();
    unknown_version[4] = 9;
    let files: [(&str, &[u8], &str); 13] = [
        ("empty", b"", "truncated"),
        ("magic", b"\0asm", "truncated"),
        ("short", &hello[..7], "truncated"),
        ("elf", &elf[..4096], "not a wasm binary"),
        ("script", b"#!/bin/sh\necho no\n", "not a wasm binary"),
        ("text", b"(module (func))", "text"),
        ("version", &unknown_version, "unknown version"),
        ("header", &hello[..8], ""),
        ("half", &hello[..hello.len() / 2], "unexpected end"),
        ("last", &hello[..hello.len() - 1], "unexpected end"),
        ("component", &component[..component.len() / 2], "out of bounds"),
        ("garbage", &[b"\0asm\x01\0\0\0", &[0xff; 500][..]].concat(), ""),
        ("import", &guests::with_an_import_named("system"), "system"),
    ];
    for (name, bytes, word) in files {
        let file = place.file(&format!("{name}.wasm"), bytes);
        for more in [&[][..], &["--json"]] {
            let ended = place.vyr(&[&["run", &file], more].concat()).run().exits(2);
            let said = if more.is_empty() { ended.stderr.clone() } else { ended.text().to_owned() };
            assert!(said.contains(word), "{name}: {said}");
            assert!(!ended.stderr.contains("panicked"), "{name}: {}", ended.stderr);
            if !more.is_empty() {
                ended.json();
            }
        }
        let build = ["artifact", "build", &file, "--name", name];
        if matches!(name, "empty" | "magic" | "short" | "elf" | "script" | "text" | "version") {
            place.vyr(&build).run().refuses(2, &[word]);
            assert_eq!(entries(&place.data()).len(), 0, "{name} was stored");
        }
    }
    assert_eq!(faults(&place.data()), [""; 0]);
    // The same files, whole, run.
    place.vyr(&["run", &place.file("whole.wasm", hello)]).run().ok();
}

#[test]
fn a_guest_that_fails_is_exit_1_with_its_reason() {
    let place = Place::new();
    let table = place.file("table.wasm", guests::table_hungry());
    let start = place.file("start.wasm", guests::without_a_start());
    let probe = guest("probe.wasip1");
    let probe2 = guest("probe.wasip2");
    let cases: [(&str, &[&str], Value, i32); 13] = [
        ("exit", &[&probe, "--", "exit", "3"], json!(3), 1),
        // Preview 2 knows success and failure only.
        ("exit", &[&probe2, "--", "exit", "3"], json!(1), 1),
        ("trap", &[&probe, "--", "panic"], Value::Null, 1),
        ("trap", &[&probe2, "--", "panic"], Value::Null, 1),
        (
            "memory",
            &["--memory", "16Mi", &probe, "--", "grow", "1000000000", "--abort"],
            Value::Null,
            1,
        ),
        ("memory", &["--memory", "1Mi", &probe], Value::Null, 1),
        ("deadline", &["--deadline", "100ms", &probe, "--", "spin"], Value::Null, 1),
        ("deadline", &["--deadline", "100ms", &probe2, "--", "sleep", "60000"], Value::Null, 1),
        ("cpu", &["--cpu", "100ms", &probe, "--", "spin"], Value::Null, 1),
        ("output", &["--output-max", "1Mi", &probe, "--", "output", "2000000"], Value::Null, 1),
        ("stack", &[&probe, "--", "recurse"], Value::Null, 1),
        ("table", &[&table], Value::Null, 1),
        ("invalid", &[&start], Value::Null, 2),
    ];
    for (reason, arguments, exit_code, code) in cases {
        let ended = place.vyr(&[&["run", "--json"], arguments].concat()).run().exits(code);
        let json = ended.json();
        assert_eq!(json["state"], "failed", "{arguments:?}: {json}");
        assert_eq!(json["reason"], reason, "{arguments:?}: {json}");
        assert_eq!(json["exit_code"], exit_code, "{arguments:?}: {json}");
        let message = text_of(&json["message"]);
        let ended = place.vyr(&[&["run"], arguments].concat()).run().exits(code);
        let told = format!("vyr: failed ({reason}): {message}");
        assert!(ended.stderr.contains(&told) || reason == "memory", "{told}: {}", ended.stderr);
    }
    assert_eq!(faults(&place.data()), [""; 0]);
}

#[test]
fn a_guests_exit_code_is_passed_through_when_asked() {
    let place = Place::new();
    let probe = guest("probe.wasip1");
    let run = |more: &[&str], code: &str| {
        place.vyr(&[&["run"], more, &[&probe, "--", "exit", code]].concat()).run()
    };
    let ended = run(&[], "3").exits(1);
    assert!(ended.stderr.contains("exited with 3"), "{}", ended.stderr);
    run(&["--exit-code"], "3").exits(3);
    run(&["--exit-code"], "0").ok();
    run(&["--exit-code"], "125").exits(125);
    let json = run(&["--exit-code", "--json"], "7").exits(7).json();
    assert_eq!((&json["state"], &json["exit_code"]), (&json!("failed"), &json!(7)));
    for code in ["126", "200", "255"] {
        let json = run(&["--json"], code).exits(1).json();
        assert_eq!(
            (&json["reason"], &json["exit_code"].to_string()),
            (&json!("exit"), &code.into())
        );
    }
    run(&["--exit-code"], "200").exits(200);
    // A failure never becomes success for being a multiple of 256.
    run(&["--exit-code"], "256").exits(1);
    // Any other failure has no code to pass.
    place.vyr(&["run", "--exit-code", &probe, "--", "panic"]).run().exits(1);
}

#[test]
fn what_a_failed_guest_wrote_is_kept_and_named() {
    let place = Place::new();
    let arguments = ["run", "--output-max", "1Mi", "--json", &guest("probe.wasip1")];
    let arguments = [&arguments[..], &["--", "output", "3000000"]].concat();
    let json = place.vyr(&arguments).run().exits(1).json();
    let output = fs::read(blob(&place.data(), text_of(&json["output_digest"]))).expect("a blob");
    assert_eq!(json["output_bytes"], output.len());
    assert!(output.len() <= 1 << 20, "the limit is hard: {}", output.len());
}

#[test]
fn limits_are_taken_as_written_or_refused() {
    let place = Place::new();
    let probe = guest("probe.wasip1");
    let options =
        ["--memory", "32Mi", "--deadline", "5s", "--cpu", "1500ms", "--output-max", "500k"];
    let arguments = [&["run", "--json"], &options[..], &[&probe]].concat();
    let json = place.vyr(&arguments).run().exits(1).json();
    assert_eq!(
        json["limits"],
        json!({
            "memory_bytes": 32 << 20,
            "deadline_ms": 5000,
            "cpu_ms": 1500,
            "output_bytes_max": 500_000,
        }),
        "without arguments the probe says how it is used, and fails"
    );
    let unclear = ["", "-1", "1.5Gi", "64MiB", "64 Mi", "1e3", "lots", "99999999999999999999"];
    for text in unclear {
        for option in ["--memory", "--output-max"] {
            let call = place.vyr(&["run", &format!("{option}={text}"), &probe]);
            call.run().refuses(2, &[option, "64Mi"]);
        }
    }
    for text in ["", "10", "-1s", "1.5s", "1d", "10 s", "soon", "99999999999999999h"] {
        for option in ["--deadline", "--cpu"] {
            let call = place.vyr(&["run", &format!("{option}={text}"), &probe]);
            call.run().refuses(2, &[option, "10s"]);
        }
    }
    // More than there is to have is what there is.
    let ceilings = ["--memory", "64Gi", "--deadline", "9999h", "--cpu", "9999h"];
    let arguments =
        [&["run", "--json"], &ceilings[..], &["--output-max", "9999Gi", &probe]].concat();
    let json = place.vyr(&arguments).run().exits(1).json();
    assert_eq!(json["limits"]["memory_bytes"], 1 << 30);
    assert_eq!(json["limits"]["deadline_ms"], 86_400_000);
    for (option, reason) in [("--memory", "memory"), ("--output-max", "output")] {
        let json = place.vyr(&["run", "--json", option, "0", &guest("hello.wasip1")]).run();
        assert_eq!(json.exits(1).json()["reason"], reason);
    }
    // Nothing of a refused command line was done.
    assert_eq!(indexed(&place.data(), true).len(), 2);
}

#[test]
fn a_deterministic_run_repeats_itself() {
    let place = Place::new();
    let run = |more: &[&str], what: &str| {
        let guest = guest("probe.wasip1");
        let arguments = [&["run", "--json"], more, &[&guest, "--", what]].concat();
        place.vyr(&arguments).run().ok().json()["output_digest"].clone()
    };
    for what in ["clock", "random"] {
        assert_eq!(run(&["--deterministic"], what), run(&["--deterministic"], what), "{what}");
        assert_ne!(run(&[], what), run(&[], what), "{what}: the twin");
    }
}

#[test]
fn a_guest_reaches_nothing() {
    let place = Place::new();
    let secret = place.file("secret", "a file of this machine");
    for name in ["probe.wasip1", "probe.wasip2"] {
        let guest = guest(name);
        let run =
            |words: &[&str]| place.vyr(&[&["run", "--quiet", &guest, "--"], words].concat()).run();
        for words in [
            &["read-file", &secret][..],
            &["read-file", "/etc/hostname"],
            &["read-file", "/proc/self/status"],
            &["write-file", &secret],
            &["list-dir", "/"],
            &["list-dir", "."],
            &["connect", "127.0.0.1:9"],
        ] {
            let ended = run(words).exits(1);
            assert_eq!(ended.text(), "", "{words:?}");
            assert!(ended.stderr.contains("error: "), "{words:?}: {}", ended.stderr);
        }
        // Its environment is what the manifest says: nothing.
        assert_eq!(run(&["env"]).ok().text(), "");
    }
    assert_eq!(fs::read(secret).expect("a file"), b"a file of this machine");
}
