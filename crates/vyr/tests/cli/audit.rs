//! `vyr verify --journal`: each way to change a journal on disk is found and named.

use std::fs;

use camino::Utf8PathBuf;
use rusqlite::Connection;
use serde_json::Value;

use crate::common::{Place, guest};
use crate::tasks::{node_key, submit};

fn journal(place: &Place) -> Utf8PathBuf {
    place.data().join("node/journal.db")
}

/// A journal with some tasks in it.
fn filled() -> Place {
    let place = Place::new();
    let lines = place.file("lines", "one\ntwo\nthree\nfour\nfive\nsix\n");
    let ended = place.vyr(&["task", "submit", &guest("hello.wasip1"), "--each-line", &lines]);
    ended.run().ok();
    place
}

fn edit(place: &Place, sql: &str) {
    let journal = Connection::open(journal(place)).expect("open");
    journal.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// The audit finds `faults`, in text and in JSON.
#[track_caller]
fn finds(place: &Place, arguments: &[&str], faults: &[&str]) -> Value {
    let arguments = [&["verify", "--journal"], arguments].concat();
    let words: Vec<&str> = faults.iter().copied().chain(["fault: ", "hint: "]).collect();
    place.vyr(&arguments).run().refuses(3, &words);
    let ended = place.vyr(&[&arguments[..], &["--json"]].concat()).run().exits(3);
    assert_eq!(ended.stderr, "");
    let json = ended.json();
    assert_eq!((&json["verified"], &json["error"]["category"]), (&false.into(), &"auth".into()));
    for fault in faults {
        let told = json["faults"].as_array().expect("a list").iter();
        let told: Vec<&str> = told.filter_map(|told| told["fault"].as_str()).collect();
        assert!(told.iter().any(|told| told.contains(fault)), "no {fault:?} in {told:?}");
    }
    json
}

#[test]
fn an_honest_journal_is_sound() {
    let place = filled();
    let sound = place.vyr(&["verify", "--journal", "--json"]).run().ok().json();
    assert_eq!((&sound["events"], &sound["proven"]), (&19.into(), &19.into()));
    assert_eq!(sound["faults"], serde_json::json!([]));
    let kept = place.path("kept");
    place.vyr(&["checkpoint", "-o", kept.as_str()]).run().ok();
    submit(&place, &[&guest("hello.wasip1")]);
    place.vyr(&["verify", "--journal", "--since", kept.as_str()]).run().ok();
    let keys = node_key(&place);
    place.vyr(&["verify", "--journal", "--trust", &keys]).run().ok();
    place.vyr(&["verify", "--journal", "--since", &keys]).run().refuses(2, &["hint:"]);
    fs::remove_file(place.data().join("node/key")).expect("removed");
    place.vyr(&["verify", "--journal"]).run().refuses(3, &["--trust"]);
    place.vyr(&["verify", "--journal", "--trust", &keys]).run().ok();
    // Nobody's keys: every checkpoint is a stranger's.
    let nobody = place.file("nobody", "");
    finds(&place, &["--trust", &nobody], &["is not believed"]);
}

#[test]
fn a_flipped_byte_is_named() {
    let place = filled();
    let journal = Connection::open(journal(&place)).expect("open");
    let leaf = "SELECT leaf FROM events WHERE seq = 7";
    let mut leaf: Vec<u8> = journal.query_row(leaf, [], |row| row.get(0)).expect("a leaf");
    let middle = leaf.len() / 2;
    leaf[middle] ^= 1;
    journal.execute("UPDATE events SET leaf = ?1 WHERE seq = 7", [leaf]).expect("flipped");
    drop(journal);
    let json = finds(&place, &[], &["event 7"]);
    assert_eq!((&json["faults"][0]["event"], &json["proven"]), (&7.into(), &7.into()));
}

#[test]
fn a_deleted_row_is_named() {
    let place = filled();
    edit(&place, "DELETE FROM events WHERE seq = 9");
    finds(&place, &[], &["event 9 is missing"]);
}

#[test]
fn swapped_rows_are_named() {
    let place = filled();
    edit(
        &place,
        "CREATE TEMP TABLE both AS SELECT * FROM events WHERE seq IN (4, 8);
         UPDATE events SET (leaf, hash) = (SELECT leaf, hash FROM both WHERE seq = 8) WHERE seq = 4;
         UPDATE events SET (leaf, hash) = (SELECT leaf, hash FROM both WHERE seq = 4) WHERE seq = 8;",
    );
    finds(&place, &[], &["event 8 in place 4", "event 4 in place 8"]);
}

#[test]
fn a_hash_of_another_length_a_tile_and_a_head_are_named() {
    let place = filled();
    edit(&place, "UPDATE events SET hash = x'00' WHERE seq = 3");
    place.vyr(&["verify", "--journal"]).run().refuses(3, &["event 3"]);
    let place = filled();
    edit(&place, "INSERT INTO tiles (level, place, hash) VALUES (8, 5, zeroblob(32))");
    finds(&place, &[], &["no such subtree"]);
    let place = filled();
    edit(&place, "UPDATE head SET size = 18");
    assert_eq!(place.vyr(&["verify", "--journal"]).run().code(), Some(3));
}

/// What was consistent before is consistent in itself: only a checkpoint kept elsewhere shows it.
#[test]
fn a_journal_that_was_cut_off_is_found_out_by_a_kept_checkpoint() {
    let place = filled();
    let (kept, copy) = (place.path("kept"), place.path("copy.db"));
    edit(&place, "PRAGMA wal_checkpoint(TRUNCATE)");
    fs::copy(journal(&place), &copy).expect("a copy");
    submit(&place, &[&guest("hello.wasip1")]);
    place.vyr(&["checkpoint", "-o", kept.as_str()]).run().ok();
    let since = ["--since", kept.as_str()];
    place.vyr(&["verify", "--journal", since[0], since[1]]).run().ok();
    edit(&place, "PRAGMA wal_checkpoint(TRUNCATE)");
    fs::copy(&copy, journal(&place)).expect("put back");
    place.vyr(&["verify", "--journal"]).run().ok();
    finds(&place, &since, &["cut off", "has 22 events"]);
    // And another history in its place is not that one.
    submit(&place, &[&guest("hello.wasip2")]);
    place.vyr(&["verify", "--journal"]).run().ok();
    finds(&place, &since, &["signed another log"]);
}
