//! Instances more and fewer, and a former release, while clients come and go.

use std::fs;

use serde_json::Value;

use crate::house::{House, is_able_here};

/// What is deployed, and the release that every instance is of.
fn release(house: &House) -> Value {
    house.instance()["release"].clone()
}

/// Ready instances that the ingress connects to, by slot.
fn serving(house: &House) -> Vec<(String, String)> {
    let listed = house.json(&["ps"]);
    let slots = listed["slots"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_slot = |slot: &Value| {
        let instances = slot["instances"].as_array().cloned().unwrap_or_default();
        let ready =
            instances.into_iter().find(|of| of["state"] == "ready" && of["serving"] == true);
        ready.map(|of| (text(&slot["slot"]), text(&of["instance"])))
    };
    slots.iter().filter_map(of_slot).collect()
}

#[test]
fn more_fewer_and_a_former_release_lose_no_request() {
    let Some(house) = is_able_here("services::more_fewer_and_a_former_release_lose_no_request")
    else {
        return;
    };
    let key = house.key();
    let with_key = |words: &[&'static str]| -> Vec<String> {
        let words = words.iter().map(|word| (*word).to_owned());
        words.chain(["--key".into(), key.clone(), "--plain-http".into()]).collect()
    };
    let deployed = |words: &[&'static str]| {
        let words = with_key(words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let deployed = house.json(&words);
        assert_eq!(deployed["outcome"], "succeeded", "{words:?}: {deployed}");
    };
    let manifest = || fs::read_to_string(house.path("site/services/web.toml")).expect("a file");
    house.web("v1", "/healthz", false);
    deployed(&["deploy"]);
    let first = release(&house);
    let one = serving(&house);
    assert_eq!(one.len(), 1, "{one:?}");

    // What the node refuses changes no file.
    let before = manifest();
    let words = with_key(&["scale", "web/http=2", "--as", "elsewhere"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, _, said) = house.output(house.command(&words), "");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("services/web.toml and vyr.lock are as they were"), "{said}");
    assert_eq!(manifest(), before);

    // One more beside the first, and one less: the first is who it was.
    let load = house.load();
    deployed(&["scale", "web/http=2"]);
    assert!(manifest().contains("[processes.http]\nscale = { min = 2 }\n"), "{}", manifest());
    let two = serving(&house);
    assert!(two.len() == 2 && two[0] == one[0], "{one:?} {two:?}");
    deployed(&["scale", "web/http=1"]);
    let (answers, failed) = load.end();
    let ended = house.json(&["ps", "--all"]);
    assert!(answers > 20 && failed == 0, "{answers} answers, {failed} failed: {ended}");
    assert_eq!((serving(&house), release(&house)), (one, first.clone()));

    // Another release, and the way back that was printed.
    house.web("v2", "/healthz", false);
    let words = with_key(&["deploy"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, _, said) = house.output(house.command(&words), "");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("undo: vyr release rollback web "), "{said}");
    assert_eq!(house.get("/"), "version v2\n");
    assert_ne!(release(&house), first);
    let load = house.load();
    deployed(&["release", "rollback", "web"]);
    let (answers, failed) = load.end();
    let ended = house.json(&["ps", "--all"]);
    assert!(answers > 20 && failed == 0, "{answers} answers, {failed} failed: {ended}");
    assert_eq!(house.get("/"), "version v1\n");
    assert_eq!(release(&house), first, "it is the release that it was");
}
