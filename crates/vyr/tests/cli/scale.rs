//! `vyr scale` without a node: what is written, what is refused, and what is put back.

use std::fs;

use serde_json::json;

use crate::common::{Ended, Place, exists, has};
use crate::services::{DIGEST, Shop, manifest, pinned};

/// What `vyr scale web/http=N` makes of the manifest.
fn scaled(count: u8) -> String {
    let text = manifest(&format!("registry.example/team/web@{DIGEST}"));
    text.replace("[processes.http]\n", &format!("[processes.http]\nscale = {{ min = {count} }}\n"))
}

/// On the site, and on a data directory that no node has.
fn on(shop: &Shop, words: &[&str]) -> Ended {
    shop.place.vyr(&[words, &["--site", &shop.site]].concat()).run()
}

#[test]
fn a_number_is_written_and_nothing_else() {
    if !has("scale::a_number_is_written_and_nothing_else", "ssh-keygen") {
        return;
    }
    let shop = pinned(Place::new());
    let ended = shop.vyr(&["scale", "web/http=3", "--edit-only"]).ok();
    assert_eq!(ended.text(), "web/http 1 -> 3\n");
    assert!(ended.stderr.contains("undo: vyr scale --edit-only web/http=1"), "{}", ended.stderr);
    assert_eq!(shop.text("services/web.toml"), scaled(3));
    assert!(!exists(shop.file("vyr.lock")), "nothing is locked yet");
    let again = shop.vyr(&["scale", "web/http=3", "--edit-only"]).ok();
    assert_eq!(again.text(), "web/http 3, as it was\n");
    let told = shop.vyr(&["scale", "web/http=0", "--edit-only", "--json"]).ok().json();
    let process = json!({ "service": "web", "process": "http", "before": 3, "scale": 0 });
    assert_eq!(told["processes"], json!([process]));
    assert_eq!(told["files"], json!(["services/web.toml"]));
    assert_eq!(shop.text("services/web.toml"), scaled(0));
    let same = shop.vyr(&["scale", "web/http=0", "--edit-only", "--json"]).ok().json();
    assert_eq!(same["files"], json!([]));

    // Two processes of one file, and one of another.
    let worker = "[processes.worker]\nresources = { memory = \"128Mi\" }\n";
    fs::write(shop.file("services/web.toml"), format!("{}{worker}", scaled(0))).expect("a file");
    let db = manifest(&format!("registry.example/team/db@{DIGEST}"));
    let db = db.replace("shop.example", "db.example").replace("ipv4 = true\n", "");
    fs::write(shop.file("services/db.toml"), &db).expect("a file");
    let all = ["scale", "web/worker=2", "db/http=4", "web/http=1", "--edit-only", "--json"];
    let told = shop.vyr(&all).ok().json();
    assert_eq!(told["files"], json!(["services/db.toml", "services/web.toml"]));
    let worker = worker.replace("]\n", "]\nscale = { min = 2 }\n");
    assert_eq!(shop.text("services/web.toml"), format!("{}{worker}", scaled(1)));
    shop.vyr(&["lock"]).ok();
    let checked = shop.vyr(&["check", "--json"]).ok().json();
    assert_eq!(checked["services"]["slots"], 7, "{checked}");
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_written() {
    if !has("scale::what_cannot_be_is_refused_and_nothing_is_written", "ssh-keygen") {
        return;
    }
    let shop = pinned(Place::new());
    let before = shop.text("services/web.toml");
    for (code, words, said) in [
        (4, &["web/htpp=2"][..], &["web has no process htpp", "there is http"][..]),
        (4, &["shop/http=2"], &["no service shop", "there is web"]),
        (4, &["web/http=2", "web/nothing=2"], &["no process nothing"]),
        (2, &["web/http=2", "web/http=3"], &["two numbers", "once"]),
        (2, &["web/http=101"], &["0 to 100"]),
        (2, &["web/http=-1"], &["0 to 100"]),
        (2, &["web=2"], &["SERVICE/PROCESS=N"]),
        (2, &["web/http"], &["SERVICE/PROCESS=N"]),
        (2, &["Web/http=2"], &["Web"]),
        (2, &[], &["SERVICE/PROCESS=N"]),
        (2, &["web/http=2", "--key", "ana"], &["--edit-only"]),
        (2, &["web/http=2", "--no-wait"], &["--edit-only"]),
    ] {
        let words = [&["scale", "--edit-only"], words].concat();
        shop.vyr(&words).refuses(code, said);
        assert_eq!(shop.text("services/web.toml"), before, "{words:?}");
    }
    let words = ["scale", "--edit-only", "web/htpp=2", "--json"];
    let told = shop.vyr(&words).exits(4).json();
    assert_eq!(told["error"]["category"], "not_found", "{told}");
    fs::write(shop.file("services/web.toml"), "version = 1\n").expect("a file");
    shop.vyr(&["scale", "--edit-only", "web/http=2"]).refuses(2, &["services/web.toml", "image"]);
}

#[test]
fn what_no_node_takes_is_put_back() {
    if !has("scale::what_no_node_takes_is_put_back", "ssh-keygen") {
        return;
    }
    let shop = pinned(Place::new());
    let before = shop.text("services/web.toml");
    let stranger = shop.place.path("stranger").into_string();
    shop.place
        .program("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &stranger])
        .run()
        .ok();
    let ana = shop.place.path("ana").into_string();
    let put_back = "services/web.toml and vyr.lock are as they were";
    let refusals = [
        // No room: with the figures.
        (2, &["web/http=100", "--key", &ana][..], &["no_capacity_memory", "alpha: ", "MiB"][..]),
        (3, &["web/http=3"], &["approved by nobody"]),
        (3, &["web/http=2", "--key", &stranger], &["does not count"]),
        (6, &["web/http=2", "--key", &ana], &["no node is running", "vyr up"]),
        // The same number is deployed all the same.
        (6, &["web/http=1", "--key", &ana], &["web/http 1, as it was", "no node is running"]),
    ];
    for has_lock in [false, true] {
        if has_lock {
            shop.vyr(&["lock"]).ok();
            // A line that a deploy takes out.
            let unused = format!("image registry.example/old:1 {DIGEST}\n");
            fs::write(shop.file("vyr.lock"), shop.text("vyr.lock") + &unused).expect("a lock");
        }
        let lock = has_lock.then(|| shop.text("vyr.lock"));
        for (code, words, said) in refusals {
            let ended = on(&shop, &[&["scale"], words].concat()).refuses(code, said);
            let is_told = match words[0] {
                "web/http=1" => "vyr.lock is as it was",
                _ => put_back,
            };
            assert!(ended.stderr.contains(is_told), "{words:?}: {}", ended.stderr);
            assert_eq!(shop.text("services/web.toml"), before, "{words:?}");
            let now = exists(shop.file("vyr.lock")).then(|| shop.text("vyr.lock"));
            assert_eq!(now, lock, "{words:?}");
        }
    }
    // The twin: without a way back the file would say two.
    shop.vyr(&["scale", "web/http=2", "--edit-only"]).ok();
    on(&shop, &["deploy", "--key", &ana]).refuses(6, &["no node is running"]);
    assert_eq!(shop.text("services/web.toml"), scaled(2));
}
