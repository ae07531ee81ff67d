//! The form of every command: help, version, completions, exit codes, JSON.

use serde_json::Value;

use crate::common::{Place, guest, text_of};
use crate::judge::{digest, entries};

#[test]
fn help_and_version_are_answers() {
    let place = Place::new();
    let version = place.bare(&["--version"]).run().ok();
    let words: Vec<&str> = version.text().split_whitespace().collect();
    assert_eq!(words[0], "vyr");
    assert!(words[1].starts_with("0.") && words[1].contains("alpha"), "{words:?}");
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["run", "--help"],
        &["key", "--help"],
        &["key", "new", "--help"],
        &["artifact", "--help"],
        &["artifact", "export", "--help"],
        &["doctor", "--help"],
        &["completions", "--help"],
        &["--json", "run", "--help"],
    ] {
        let ended = place.bare(arguments).run().ok();
        assert!(ended.text().contains("Usage: vyr"), "{arguments:?}");
        assert_eq!(ended.stderr, "", "{arguments:?}");
    }
    let help = place.bare(&["--help"]).run().ok();
    assert!(help.text().contains("0.x alpha"), "{}", help.text());
    assert!(!help.text().contains("__"), "hidden commands are shown: {}", help.text());
    assert!(!place.data().exists(), "asking made a data directory");
}

#[test]
fn completions_are_made_for_each_shell() {
    let place = Place::new();
    for (shell, word) in [("bash", "_vyr()"), ("zsh", "#compdef vyr"), ("fish", "complete -c vyr")]
    {
        let script = place.bare(&["completions", shell]).run().ok();
        assert!(script.text().contains(word), "{shell}");
        assert!(script.text().contains("artifact"), "{shell}");
        // A reader who goes away is no bug of ours.
        let (running, stdout) = place.bare(&["completions", shell]).start_and_read();
        drop(stdout);
        let ended = running.wait();
        assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    place.bare(&["completions", "tcsh"]).run().refuses(2, &["tcsh", "bash"]);
}

#[test]
fn doctor_says_what_is_there_and_what_is_not() {
    let place = Place::new();
    let json = place.vyr(&["doctor", "--json"]).run().ok().json();
    let text = place.vyr(&["doctor"]).run().ok();
    let facilities = json["facilities"].as_array().expect("a list");
    for name in
        ["data", "signers", "store", "engine", "landlock", "uids", "machines", "limits", "ceilings"]
    {
        let found = facilities.iter().find(|one| one["facility"] == name);
        let found = found.unwrap_or_else(|| panic!("nothing about {name}"));
        let status = text_of(&found["status"]);
        assert!(["ok", "limited", "unavailable"].contains(&status), "{found}");
        assert!(!text_of(&found["detail"]).is_empty(), "{found}");
        let line = text.text().lines().find(|line| line.starts_with(name)).expect("a line");
        assert!(line.contains(status), "{line}");
    }
    let signers = |place: &Place| {
        let json = place.vyr(&["doctor", "--json"]).run().ok().json();
        let list = json["facilities"].as_array().expect("a list").clone();
        list.into_iter().find(|one| one["facility"] == "signers").expect("signers")
    };
    assert!(text_of(&signers(&place)["detail"]).contains("signer: dev"));
    crate::trust::write_trust(&place, "allowed_signers", "nonsense\n");
    assert_eq!(signers(&place)["status"], "unavailable", "a fault is reported, not hidden");
}

/// Every command with something wrong: the exit code that is documented, a reason and a hint for a
/// person, and the same in one object for a script.
#[test]
fn each_refusal_has_its_code_its_reason_and_its_form() {
    let place = Place::new();
    let absent = digest(b"absent");
    let text = place.file("text", "once upon a time\n");
    let hello = guest("hello.wasip1");
    let missing = place.path("missing").into_string();
    let table: &[(i32, &str, &[&str])] = &[
        (2, "usage", &[]),
        (2, "usage", &["bogus"]),
        (2, "usage", &["--bogus"]),
        (2, "usage", &["run"]),
        (2, "usage", &["run", "--bogus", &hello]),
        (2, "usage", &["run", &hello, &hello]),
        (2, "usage", &["run", &text]),
        (2, "usage", &["run", "nginx"]),
        (4, "not_found", &["run", "missing.wasm"]),
        (4, "not_found", &["run", &absent]),
        (4, "not_found", &["run", "sha256:short"]),
        (4, "not_found", &["run", &hello, "--input", &missing]),
        (4, "not_found", &["run", &hello, "--key", &missing]),
        (2, "usage", &["run", &hello, "--key", &text]),
        (2, "usage", &["run", "--memory", "much", &hello]),
        (2, "usage", &["run", "--deadline", "soon", &hello]),
        (2, "usage", &["run", "--quiet=maybe", &hello]),
        (2, "usage", &["key"]),
        (2, "usage", &["key", "new"]),
        (2, "usage", &["key", "new", ""]),
        (2, "usage", &["key", "new", "../escape"]),
        (2, "usage", &["key", "new", "dev"]),
        (2, "usage", &["key", "new", "a b"]),
        (2, "usage", &["key", "trust"]),
        (2, "usage", &["key", "trust", &text]),
        (4, "not_found", &["key", "trust", &missing]),
        (2, "usage", &["key", "trust", &text, "--namespace", "other"]),
        (2, "usage", &["artifact"]),
        (2, "usage", &["artifact", "build", &hello]),
        (2, "usage", &["artifact", "build", &hello, "--name", ""]),
        (2, "usage", &["artifact", "build", &hello, "--name", "../x"]),
        (2, "usage", &["artifact", "build", &hello, "--name", "x", "--env", "novalue"]),
        (2, "usage", &["artifact", "build", &hello, "--name", "x", "--env", "=v"]),
        (2, "usage", &["artifact", "build", &hello, "--name", "x", "--state", "../x"]),
        (2, "usage", &["artifact", "build", &text, "--name", "x"]),
        (4, "not_found", &["artifact", "build", &missing, "--name", "x"]),
        (2, "usage", &["artifact", "sign", &absent]),
        (2, "usage", &["artifact", "sign", "sha256:12", "--key", &text]),
        (2, "usage", &["artifact", "sign", &absent, "--key", &text]),
        (2, "usage", &["artifact", "sign", &absent, "--key", &text, "--detached", &text]),
        (4, "not_found", &["artifact", "sign", &absent, "--detached", &missing]),
        (2, "usage", &["artifact", "put", "whatever"]),
        (4, "not_found", &["artifact", "put", &absent]),
        (2, "usage", &["artifact", "show", "SHA256:00"]),
        (4, "not_found", &["artifact", "show", &absent]),
        (4, "not_found", &["artifact", "show", &absent, "--signature"]),
        (2, "usage", &["artifact", "export", "-o", &missing]),
        (2, "usage", &["artifact", "export", &absent]),
        (4, "not_found", &["artifact", "export", &absent, "-o", &missing]),
        (2, "usage", &["artifact", "import"]),
        (4, "not_found", &["artifact", "import", &missing]),
        (2, "usage", &["artifact", "import", &text]),
        (2, "usage", &["artifact", "gc", "--older-than", "long"]),
        (2, "usage", &["artifact", "gc", "now"]),
        (2, "usage", &["doctor", "bogus"]),
        (2, "usage", &["completions", "sh"]),
    ];
    for (code, category, arguments) in table {
        let ended = place.vyr(arguments).run();
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        let ended = ended.refuses(*code, &[]);
        let bare =
            arguments.is_empty() || ["key", "artifact"].contains(&arguments[arguments.len() - 1]);
        assert!(ended.stderr.starts_with("error: ") || bare, "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.trim_end().ends_with("error:"), "{arguments:?}: {}", ended.stderr);

        let ended = place.vyr(&[&["--json"], *arguments].concat()).run().exits(*code);
        let error = &ended.json()["error"];
        assert_eq!(error["category"], *category, "{arguments:?}: {error}");
        assert!(!text_of(&error["message"]).is_empty(), "{arguments:?}");
        assert!(!text_of(&error["message"]).contains("__"), "{arguments:?}: {error}");
        assert!(error["hint"].is_string() || error["hint"].is_null(), "{arguments:?}: {error}");
        assert!(error["causes"].is_array(), "{arguments:?}: {error}");
        assert_eq!(error["retryable"], *code == 6, "{arguments:?}: {error}");
        assert_eq!(ended.stderr, "", "{arguments:?}: said besides JSON");
    }
    assert_eq!(entries(&place.data()).len(), 0, "something was stored");
    assert!(!missing_path_exists(&place), "something was written");
}

fn missing_path_exists(place: &Place) -> bool {
    place.path("missing").exists()
}

/// `--json` behind `--` is the guest's, in front of it ours, wherever it stands.
#[test]
fn json_is_asked_for_in_front_of_the_guests_arguments() {
    let place = Place::new();
    let probe = guest("probe.wasip1");
    let ended = place.vyr(&["run", "--quiet", &probe, "--", "args", "--json"]).run().ok();
    assert_eq!(ended.text(), "probe.wasip1\nargs\n--json\n");
    place.vyr(&["run", "--memory", "x", &probe, "--", "--json"]).run().refuses(2, &["--memory"]);
    let json = place.vyr(&["run", &probe, "--json", "--memory", "x", "--", "args"]).run().exits(2);
    assert_eq!(json.json()["error"]["category"], "usage");
}

/// Each command that answers, with `--json`: one object, one line, and no other.
#[test]
fn each_answer_is_one_object() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let json = |arguments: &[&str]| -> Value {
        let ended = place.vyr(&[arguments, &["--json"]].concat()).run().ok();
        assert_eq!(ended.stderr, "", "{arguments:?}: said besides JSON");
        ended.json()
    };
    assert!(json(&["run", &hello])["artifact_digest"].is_string());
    let made = json(&["key", "new", "ana"]);
    assert!(made["key_id"].is_string() && made["public_key"].is_string());
    let private = text_of(&made["private_key"]).to_owned();
    let trusted = json(&["key", "trust", "ana"]);
    assert_eq!((&trusted["added"], &trusted["line"].is_string()), (&true.into(), &true));
    assert_eq!(json(&["key", "ls"])["signers"][0]["principal"], "ana");
    let built = json(&["artifact", "build", &hello, "--name", "hi", "--arg", "-x", "--env", "A=b"]);
    let artifact = text_of(&built["artifact_digest"]).to_owned();
    assert_eq!(built["name"], "hi");
    assert_eq!(json(&["artifact", "sign", &artifact, "--key", &private])["key_id"], made["key_id"]);
    assert_eq!(json(&["artifact", "put", &artifact])["artifacts"][0]["signer"], "ana");
    let shown = json(&["artifact", "show", &artifact]);
    assert_eq!(shown["args"], serde_json::json!(["-x"]));
    assert_eq!(shown["env"], serde_json::json!({"A": "b"}));
    assert_eq!(shown["signatures"], 1);
    assert_eq!(shown["in_store"], true);
    let listed = json(&["artifact", "ls"]);
    assert_eq!(listed["artifacts"].as_array().map(Vec::len), Some(3), "{listed}");
    let archive = place.path("a.tar");
    assert_eq!(json(&["artifact", "export", &artifact, "-o", archive.as_str()])["blobs"], 6);
    assert_eq!(json(&["artifact", "import", archive.as_str()])["artifacts"][0]["name"], "hi");
    assert!(json(&["artifact", "gc"])["removed"].is_array());
    assert!(json(&["doctor"])["facilities"].is_array());
}

#[test]
fn the_data_directory_is_the_option_then_the_variable_then_the_users() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let [option, variable, state] = ["option", "variable", "state"].map(|name| place.path(name));
    let call = |arguments: &[&str]| {
        let call = place.bare(&[arguments, &["run", "--quiet", &hello]].concat());
        call.env("VYR_DATA_DIR", variable.as_str()).env("XDG_STATE_HOME", state.as_str())
    };
    call(&["--data-dir", option.as_str()]).run().ok();
    assert!(option.join("store").exists() && !variable.exists());
    call(&[]).run().ok();
    assert!(variable.join("store").exists() && !state.exists());
    let file = place.file("file", "x");
    let ended = place.bare(&["--data-dir", &file, "key", "ls"]).run();
    assert_ne!(ended.code(), Some(0));
    assert!(ended.stderr.contains("--data-dir"), "{}", ended.stderr);
}

/// What a guest cannot have without a node is said before anything runs.
#[test]
fn an_artifact_with_states_is_for_a_node() {
    let place = Place::new();
    crate::trust::key(&place, "ana");
    crate::trust::trust(&place, "ana");
    let hello = guest("hello.wasip1");
    let build = ["artifact", "build", &hello, "--name", "x", "--state", "notes"];
    let artifact = place.vyr(&build).run().ok().line();
    let private = place.data().join("keys/ana");
    place.vyr(&["artifact", "sign", &artifact, "--key", private.as_str()]).run().ok();
    place.vyr(&["artifact", "put", &artifact]).run().ok();
    place.vyr(&["run", &artifact]).run().refuses(2, &["declares states (notes)", "hint:"]);
}
