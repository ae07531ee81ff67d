//! `vyr release rollback` without a node: which release, what is written, and what is put back.

use std::fs;

use serde_json::Value;

use crate::common::{Ended, Place, has, text_of};
use crate::services::{DIGEST, Shop};
use crate::site::replace;

/// Nobody listens there.
const IMAGE: &str = "127.0.0.1:9/team/web";

/// What the second release's tag means.
const SECOND: &str = "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";

/// A shop with two plans that a node took: web:1.0 and web:1.1. Nobody could be asked for the tags.
fn two_releases(place: Place) -> (Shop, [String; 2]) {
    let shop = Shop::new(place, &format!("{IMAGE}:1.0"));
    let pin = |tag: &str, digest: &str| {
        let old = fs::read_to_string(shop.file("vyr.lock")).unwrap_or("version 1\n".into());
        let line = format!("image {IMAGE}:{tag} {digest}\n");
        fs::write(shop.file("vyr.lock"), old + &line).expect("a lock");
    };
    pin("1.0", DIGEST);
    let first = deployed(&shop);
    replace(&shop.site, "services/web.toml", "web:1.0\"", "web:1.1\" # the new one");
    replace(&shop.site, "services/web.toml", "256Mi", "384Mi");
    replace(&shop.site, "services/web.toml", "[processes.http]", "[processes.http]\nscale.min = 2");
    pin("1.1", SECOND);
    let second = deployed(&shop);
    (shop, [first, second])
}

/// Does what a deploy does, without its node; the release of web.
fn deployed(shop: &Shop) -> String {
    shop.vyr(&["lock"]).ok();
    let signed = shop.sign("services", "ana");
    shop.applied("services", text_of(&signed["plan_digest"]));
    let listed = shop.vyr(&["release", "ls", "web", "--json"]).ok();
    let current = listed.text().lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let current = current.into_iter().find(|of: &Value| of["current"] == true).expect("one");
    text_of(&current["release"]).to_owned()
}

fn rollback(shop: &Shop, words: &[&str]) -> Ended {
    shop.vyr(&[&["release", "rollback"], words].concat())
}

/// The release of web that the site compiles to.
fn compiled(shop: &Shop) -> String {
    let plan = shop.vyr(&["plan", "services", "--out", "-"]).ok();
    let plan: Value = serde_json::from_slice(&plan.stdout).expect("a plan");
    text_of(&plan["services"][0]["release"]).to_owned()
}

#[test]
fn a_former_release_is_written_and_is_the_same_one() {
    if !has("rollback::a_former_release_is_written_and_is_the_same_one", "ssh-keygen") {
        return;
    }
    let (shop, [first, second]) = two_releases(Place::new());
    assert_ne!(first, second);
    let told = rollback(&shop, &["web", "--edit-only", "--json"]).ok();
    assert!(told.stderr.contains("its comments are in git"), "{}", told.stderr);
    let told = told.json();
    assert_eq!((text_of(&told["release"]), text_of(&told["image_digest"])), (&*first, DIGEST));
    assert_eq!(told["files"], serde_json::json!(["vyr.lock", "services/web.toml"]));
    let text = shop.text("services/web.toml");
    assert!(text.contains("web:1.0\"") && text.contains("256Mi"), "{text}");
    assert!(text.contains("scale = { min = 2 }"), "how many there are is no part of it: {text}");
    // No registry is there to be asked, and none is.
    shop.vyr(&["lock"]).ok();
    assert_eq!(compiled(&shop), first);
    assert!(!shop.text("vyr.lock").contains("web:1.1"), "nobody names it");

    // And forth: by its first digits, to the file as a person would have written it.
    assert_eq!(deployed(&shop), first);
    let digits = &second["sha256:".len()..][..6];
    let told = rollback(&shop, &["web", digits, "--edit-only"]).ok();
    assert!(told.text().starts_with("web ") && told.text().contains(":1.1"), "{}", told.text());
    shop.vyr(&["lock"]).ok();
    assert_eq!(compiled(&shop), second);
    // The file says it already: it stays, its comments with it.
    let commented = format!("# ours\n{}", shop.text("services/web.toml"));
    fs::write(shop.file("services/web.toml"), &commented).expect("a file");
    let told = rollback(&shop, &["web", digits, "--edit-only", "--json"]).ok();
    assert_eq!(told.json()["files"], serde_json::json!([]));
    assert_eq!(shop.text("services/web.toml"), commented);
}

#[test]
fn what_is_no_way_back_is_refused_and_nothing_is_written() {
    if !has("rollback::what_is_no_way_back_is_refused_and_nothing_is_written", "ssh-keygen") {
        return;
    }
    let (shop, [first, second]) = two_releases(Place::new());
    let files = || (shop.text("services/web.toml"), shop.text("vyr.lock"));
    let before = files();
    let absent = format!("sha256:{}", "0".repeat(64));
    for (code, words, said) in [
        (5, &["web", &second][..], &["the release that web has now", "vyr ps --why"][..]),
        (4, &["web", &absent], &["no plan of this site", "vyr release ls web"]),
        (4, &["web", &first["sha256:".len()..][..3]], &["4 hex digits"]),
        (4, &["db"], &["db was never deployed"]),
        (2, &[], &["SERVICE"]),
        (2, &["web", "--key", "ana"], &["--edit-only"]),
    ] {
        rollback(&shop, &[words, &["--edit-only"]].concat()).refuses(code, said);
        assert_eq!(files(), before, "{words:?}");
    }
    // The only release there was.
    let plans = shop.vyr(&["history", "services", "--json"]).ok().json();
    shop.applied("services", text_of(&plans["plans"][1]["plan_digest"]));
    rollback(&shop, &["web", "--edit-only"]).refuses(4, &["no other release before"]);
}

#[test]
fn files_are_put_back_if_no_node_takes_them() {
    if !has("rollback::files_are_put_back_if_no_node_takes_them", "ssh-keygen") {
        return;
    }
    let (shop, _) = two_releases(Place::new());
    let files = || (shop.text("services/web.toml"), shop.text("vyr.lock"));
    let before = files();
    let on = |words: &[&str]| {
        let words = [&["release", "rollback", "web", "--site", &shop.site], words].concat();
        shop.place.vyr(&words).run()
    };
    let ana = shop.place.path("ana").into_string();
    let said = &["no node is running", "services/web.toml and vyr.lock are as they were"];
    on(&["--key", &ana]).refuses(6, said);
    assert_eq!(files(), before);
    let json = on(&["--key", &ana, "--json"]).exits(6).json();
    assert!(text_of(&json["error"]["hint"]).contains("as they were"), "{json}");
    // Who asks for the tag again does not get what it was.
    on(&["--key", &ana, "--update"]).refuses(6, &["cannot be asked", "are as they were"]);
    assert_eq!(files(), before);

    // The present release needs a secret, the former none: both cannot be, and that is said.
    replace(&shop.site, "services/web.toml", "none = true", "required = [\"TOKEN\"]");
    fs::create_dir_all(shop.file("secrets")).expect("a directory");
    fs::write(shop.file("secrets/web.age"), "sealed").expect("a file");
    deployed(&shop);
    let before = files();
    on(&["--key", &ana]).refuses(2, &["S11", "are as they were"]);
    assert_eq!(files(), before);
}
