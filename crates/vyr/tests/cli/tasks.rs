//! `vyr task` and `vyr events` without a node: each command has its own, on one data directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::common::{HANG, Place, Running, guest, has, text_of};
use crate::judge::{digest, faults};

/// Copies its input to its output.
pub(crate) const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start")
        (loop $more
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 65536))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (i32.load (i32.const 8)) (then
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
                (br $more))))))"#;

/// Writes its input to its log, and fails.
const COMPLAIN: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "it is not well\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 15))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $exit (i32.const 9))))"#;

pub(crate) const ENDLESS: &str =
    "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop $l (br $l))))";

/// A Wasm file of this text.
pub(crate) fn wasm(place: &Place, name: &str, text: &str) -> String {
    place.file(&format!("{name}.wasm"), wat::parse_str(text).expect("valid text"))
}

/// A task that ran, as JSON.
#[track_caller]
pub(crate) fn submit(place: &Place, arguments: &[&str]) -> Value {
    let ended = place.vyr(&[&["task", "submit", "--json"], arguments].concat()).run().ok();
    assert_eq!(ended.stderr, "", "said besides JSON");
    ended.json()
}

/// A task's id.
#[track_caller]
pub(crate) fn id(task: &Value) -> String {
    text_of(&task["task_id"]).to_owned()
}

/// The objects of NDJSON.
#[track_caller]
pub(crate) fn objects(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// The node's public key, in a file.
pub(crate) fn node_key(place: &Place) -> String {
    let line = place.vyr(&["node", "key"]).run().ok().line();
    assert!(line.starts_with("vyr-node namespaces=\"vyr-checkpoint\" ssh-ed25519 "), "{line}");
    place.file("keys", format!("{line}\n"))
}

#[test]
fn a_task_is_submitted_shown_and_proved() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let task = submit(&place, &[&hello]);
    assert_eq!((&task["version"], &task["state"]), (&1.into(), &"completed".into()));
    assert_eq!((&task["exit_code"], &task["reason"]), (&0.into(), &Value::Null));
    assert_eq!(task["input_digest"], digest(b""));
    assert_eq!(task["output_digest"], digest(b"hello from vyr\n"));
    for timing in ["accepted", "started", "ended"] {
        assert!(text_of(&task["timings"][timing]).ends_with('Z'), "{task}");
    }
    let id = id(&task);
    let shown = place.vyr(&["task", "show", &id, "--json"]).run().ok().json();
    for name in ["task_id", "state", "artifact_digest", "output_digest", "receipt_digest"] {
        assert_eq!(shown[name], task[name], "{name}");
    }
    assert_eq!((&shown["name"], &shown["signer"]), (&"hello.wasip1".into(), &"dev".into()));
    assert_eq!(place.vyr(&["task", "output", &id]).run().ok().text(), "hello from vyr\n");
    let file = place.path("out");
    place.vyr(&["task", "output", &id, "-o", file.as_str()]).run().ok();
    assert_eq!(fs::read_to_string(&file).expect("a file"), "hello from vyr\n");
    assert_eq!(place.vyr(&["task", "logs", &id]).run().ok().text(), "");
    // What is printed is the file, byte for byte.
    let receipt = place.vyr(&["task", "receipt", &id]).run().ok().stdout;
    let file = place.path("receipt.json");
    place.vyr(&["task", "receipt", &id, "-o", file.as_str()]).run().ok();
    assert_eq!(fs::read(&file).expect("a file"), receipt);
    let keys = node_key(&place);
    let verified = place.bare(&["verify", file.as_str(), "--trust", &keys, "--allow-dev"]);
    let verified = verified.run().ok();
    assert!(verified.text().starts_with(&format!("{id} completed\n")), "{}", verified.text());
    let verified =
        place.bare(&["--json", "verify", file.as_str(), "--trust", &keys, "--allow-dev"]);
    let verified = verified.run().ok().json();
    assert_eq!(verified["verified"], true);
    for name in ["task_id", "state", "artifact_digest", "output_digest", "receipt_digest"] {
        assert_eq!(verified[name], task[name], "{name}");
    }
    // A person is told the id, as data.
    let ended = place.vyr(&["task", "submit", &hello]).run().ok();
    assert!(ended.text().starts_with("t-") && ended.text().lines().count() == 1);
    assert!(ended.stderr.contains("vyr: completed"), "{}", ended.stderr);
    let list = place.vyr(&["task", "ls", "--json"]).run().ok().json();
    let list = list["tasks"].as_array().expect("a list").clone();
    assert_eq!((list.len(), &list[1]["task_id"]), (2, &Value::from(id)), "newest first");
    assert_eq!(list[0]["task_id"], ended.line());
    let short = place.vyr(&["task", "ls", "--json", "--limit", "1"]).run().ok().json();
    assert_eq!(short["tasks"].as_array().map(Vec::len), Some(1));
    let table = place.vyr(&["task", "ls"]).run().ok();
    assert!(table.text().starts_with("TASK") && table.text().lines().count() == 3);
    assert_eq!(faults(&place.data()), [""; 0]);
}

/// Reads never start anything: not a process, not a journal.
#[test]
fn reads_of_nothing_make_nothing() {
    let place = Place::new();
    assert_eq!(
        place.vyr(&["task", "ls", "--json"]).run().ok().json()["tasks"],
        serde_json::json!([])
    );
    assert_eq!(place.vyr(&["events"]).run().ok().text(), "");
    for command in ["show", "output", "logs", "receipt", "cancel", "wait"] {
        place.vyr(&["task", command, "t-00000000-1"]).run().refuses(4, &["t-00000000-1", "hint:"]);
    }
    place.vyr(&["verify", "--journal"]).run().refuses(4, &["no journal"]);
    assert!(!place.data().join("node/journal.db").exists());
    for arguments in [&["metrics"][..], &["state", "create", "notes"]] {
        place.vyr(arguments).run().refuses(6, &["no node is running", "vyr up"]);
    }
    assert_eq!(
        place.vyr(&["state", "ls", "--json"]).run().ok().json()["states"],
        serde_json::json!([])
    );
}

#[test]
fn a_receipt_is_believed_only_as_it_was_and_from_whom_it_was() {
    let place = Place::new();
    let id = id(&submit(&place, &[&guest("hello.wasip1")]));
    let receipt = place.vyr(&["task", "receipt", &id]).run().ok().stdout;
    let keys = node_key(&place);
    let verify = |bytes: &[u8], keys: &str| {
        let file = place.file("r.json", bytes);
        place.bare(&["verify", &file, "--trust", keys, "--allow-dev"]).run()
    };
    verify(&receipt, &keys).ok();
    let file = place.file("receipt.json", &receipt);
    place.bare(&["verify", &file, "--trust", &keys]).run().refuses(3, &["development key"]);
    place.bare(&["verify", &file, "--allow-dev"]).run().refuses(3, &["--trust"]);
    let empty = place.file("empty", "");
    place.bare(&["verify", &file, "--trust", &empty]).run().refuses(3, &["--trust"]);
    place.bare(&["verify", &file, "--trust", "/missing"]).run().refuses(4, &["/missing"]);
    place.bare(&["verify", &guest("hello.wasip1"), "--trust", &keys]).run().refuses(2, &["hint:"]);
    // Every byte counts: one in each stretch is touched.
    for at in (0..receipt.len()).step_by(61).chain([receipt.len() - 1]) {
        let mut touched = receipt.clone();
        touched[at] ^= 1;
        verify(&touched, &keys).refuses(3, &["error: "]);
    }
    let text = String::from_utf8(receipt.clone()).expect("text");
    let touched = text.replacen("\"exit_code\":0", "\"exit_code\":1", 1);
    assert_ne!(touched, text);
    verify(touched.as_bytes(), &keys).refuses(3, &["exit code"]);
    verify(text.replace('\n', " \n").as_bytes(), &keys).refuses(3, &["error: "]);
    // Somebody with a key of their own signs the same, or another, checkpoint.
    let stranger =
        ssh_key::PrivateKey::random(&mut ssh_key::rand_core::OsRng, ssh_key::Algorithm::Ed25519);
    let stranger = stranger.expect("a key");
    let mut forged: Value = serde_json::from_str(&text).expect("JSON");
    let same = format!("{}\n", serde_json::to_string(&forged).expect("JSON"));
    assert_eq!(same, text, "written again it is the same, so what differs below is the signature");
    let covered = text_of(&forged["checkpoint"]).to_owned();
    let signed = stranger.sign("vyr-checkpoint", ssh_key::HashAlg::Sha512, covered.as_bytes());
    let armor = signed.expect("a signature").to_pem(ssh_key::LineEnding::LF).expect("armor");
    forged["signature"] = armor.into();
    let forged = format!("{}\n", serde_json::to_string(&forged).expect("JSON"));
    let print = stranger.public_key().fingerprint(ssh_key::HashAlg::Sha256).to_string();
    verify(forged.as_bytes(), &keys).refuses(3, &[&print]);
    // It is the key that is not believed, and nothing else.
    let public = stranger.public_key().to_openssh().expect("a key");
    let theirs = place.file("theirs.pub", format!("{public}\n"));
    verify(forged.as_bytes(), &theirs).ok();
    verify(&receipt, &theirs).refuses(3, &["error: "]);
}

#[test]
fn ssh_keygen_accepts_a_receipts_checkpoint() {
    if !has("ssh_keygen_accepts_a_receipts_checkpoint", "ssh-keygen") {
        return;
    }
    let place = Place::new();
    let id = id(&submit(&place, &[&guest("hello.wasip1")]));
    let receipt = place.vyr(&["task", "receipt", &id, "--json"]).run().ok().stdout;
    let receipt: Value = serde_json::from_slice(&receipt).expect("JSON");
    let signature = place.file("sig", text_of(&receipt["signature"]));
    let keys = node_key(&place);
    let verify = |text: &str| {
        let arguments = [
            "-Y",
            "verify",
            "-f",
            &keys,
            "-I",
            "vyr-node",
            "-n",
            "vyr-checkpoint",
            "-s",
            &signature,
        ];
        place.program("ssh-keygen", &arguments).input(text).run()
    };
    let text = text_of(&receipt["checkpoint"]);
    verify(text).ok();
    assert_ne!(verify(&text.replacen('\n', "\n1", 1)).code(), Some(0));
}

#[test]
fn each_line_is_a_task() {
    let place = Place::new();
    let echo = wasm(&place, "echo", ECHO);
    let mut lines: Vec<String> = (1..=200).map(|n| format!("line {n}\n")).collect();
    lines[99] = format!("{}\n", "x".repeat(100 << 10));
    lines[199] = "the last has no line feed".into();
    let file = place.file("lines", lines.concat());
    let arguments = ["task", "submit", &echo, "--each-line", &file, "--json", "--key", "batch"];
    let ended = place.vyr(&arguments).run().ok();
    let done = objects(&ended.stdout);
    assert_eq!(done.len(), 200);
    for ((done, line), number) in done.iter().zip(&lines).zip(1..) {
        assert_eq!((&done["line"], &done["version"]), (&Value::from(number), &1.into()));
        assert_eq!(done["state"], "completed", "{done}");
        assert_eq!(done["input_digest"], digest(line.as_bytes()), "line {number}");
        assert_eq!(done["output_digest"], digest(line.as_bytes()), "line {number}");
    }
    for at in [0, 99, 199] {
        let output = place.vyr(&["task", "output", &id(&done[at])]).run().ok();
        assert_eq!(output.stdout, lines[at].as_bytes());
    }
    // The same keys, also from a pipe, are the same tasks.
    let arguments = ["task", "submit", &echo, "--each-line", "-", "--key", "batch"];
    let again = place.vyr(&arguments).input(lines.concat()).run().ok();
    let again: Vec<&str> = again.text().lines().collect();
    assert_eq!(again.len(), 200);
    for (again, done) in again.iter().zip(&done) {
        assert_eq!(*again, format!("{} completed", id(done)));
    }
    // A line that is refused is told, and the others are done.
    let other = place.file("other", format!("other\n{}", lines[1..].concat()));
    let arguments = ["task", "submit", &echo, "--each-line", &other, "--key", "batch"];
    let ended = place.vyr(&arguments).run().exits(1);
    assert_eq!(ended.text().lines().count(), 199);
    assert!(ended.stderr.contains("line 1: "), "{}", ended.stderr);
    place.vyr(&["verify", "--journal"]).run().ok();
}

#[test]
fn a_key_names_one_task_across_commands() {
    let place = Place::new();
    let echo = wasm(&place, "echo", ECHO);
    let input = place.file("input", "one");
    let first = submit(&place, &[&echo, "--input", &input, "--key", "k"]);
    assert_eq!(
        submit(&place, &[&echo, "--input", &input, "--key", "k"])["task_id"],
        first["task_id"]
    );
    assert_ne!(submit(&place, &[&echo, "--input", &input])["task_id"], first["task_id"]);
    let other = place.file("other", "two");
    let again = ["task", "submit", &echo, "--input", &other, "--key", "k"];
    place.vyr(&again).run().refuses(5, &[&id(&first), "new key"]);
}

#[test]
fn a_large_input_goes_by_digest() {
    let place = Place::new();
    let echo = wasm(&place, "echo", ECHO);
    let large: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let file = place.file("large", &large);
    let task = submit(&place, &[&echo, "--input", &file]);
    assert_eq!(task["output_digest"], digest(&large));
    let output = place.vyr(&["task", "output", &id(&task)]).run().ok();
    assert!(output.stdout == large, "the bytes differ");
    let piped =
        place.vyr(&["task", "submit", &echo, "--input", "-", "--json"]).input(large.clone());
    assert_eq!(piped.run().ok().json()["input_digest"], digest(&large));
}

#[test]
fn a_failed_task_is_told_and_waited_for() {
    let place = Place::new();
    let hello = id(&submit(&place, &[&guest("hello.wasip1")]));
    let complain = wasm(&place, "complain", COMPLAIN);
    // Accepted is what was asked; completed only with --wait.
    let task = submit(&place, &[&complain]);
    assert_eq!((&task["state"], &task["reason"]), (&"failed".into(), &"exit".into()));
    assert_eq!(task["exit_code"], 9);
    place.vyr(&["task", "submit", &complain, "--wait"]).run().exits(1);
    let id = id(&task);
    assert_eq!(place.vyr(&["task", "logs", &id]).run().ok().text(), "it is not well\n");
    let log = place.vyr(&["task", "logs", &id, "--json"]).run().ok().json();
    assert_eq!(log["log"], "it is not well\n");
    let ended = place.vyr(&["task", "wait", &hello]).run().ok();
    assert_eq!(ended.text(), format!("{hello} completed\n"));
    let ended = place.vyr(&["task", "wait", &hello, &id, &hello]).run().exits(1);
    assert_eq!(ended.text().lines().count(), 2);
    assert!(ended.text().contains(&format!("{id} failed (exit)")), "{}", ended.text());
    assert_eq!(place.vyr(&["task", "cancel", &id]).run().ok().text(), "failed\n");
    // A failed task has a receipt as well.
    let file = place.path("r");
    place.vyr(&["task", "receipt", &id, "-o", file.as_str()]).run().ok();
    let keys = node_key(&place);
    let ended = place.bare(&["verify", file.as_str(), "--trust", &keys, "--allow-dev"]).run().ok();
    assert!(ended.text().contains("failed (exit)"), "{}", ended.text());
}

#[test]
fn strange_ids_and_programs_are_refused() {
    let place = Place::new();
    let task = submit(&place, &[&guest("hello.wasip1")]);
    let unknown = format!("{}0", id(&task));
    for command in ["show", "output", "logs", "receipt", "cancel", "wait"] {
        place.vyr(&["task", command, &unknown]).run().refuses(4, &[&unknown, "vyr task ls"]);
        place.vyr(&["task", command, "t-ffffffff-1"]).run().refuses(4, &["hint:"]);
        for hostile in ["../../etc/passwd", "t-1\x1b[2J-1", "T-0-0", "", &"9".repeat(5000)] {
            let ended = place.vyr(&["task", command, hostile]).run().refuses(2, &["is not"]);
            assert!(!ended.stderr.contains('\x1b') && ended.stderr.len() < 1000, "{command}");
        }
        let json = place.vyr(&["task", command, &unknown, "--json"]).run().exits(4).json();
        assert_eq!(json["error"]["category"], "not_found", "{command}");
    }
    // An event that accepted nothing is no task.
    let no_task = format!("{}-0", id(&task).rsplit_once('-').expect("an id").0);
    place.vyr(&["task", "show", &no_task]).run().refuses(4, &[&no_task]);
    let submit = |program: &str| place.vyr(&["task", "submit", program]).run();
    submit("nginx:latest").refuses(2, &["container", "vyr deploy"]);
    submit("missing.wasm").refuses(4, &["missing.wasm"]);
    submit(&digest(b"nothing")).refuses(4, &["is not here"]);
    let hello = guest("hello.wasip1");
    place.vyr(&["task", "submit", &hello, "--bind", "s-1"]).run().refuses(2, &["STATE_ID:ro"]);
    let bind = ["task", "submit", &hello, "--bind", "s-00000000-1:rw"];
    place.vyr(&bind).run().refuses(6, &["no node is running"]);
    place.vyr(&["task", "submit", &hello, "--priority", "101"]).run().refuses(2, &["priority"]);
}

#[test]
fn events_are_the_leaves_and_the_views_follow_from_them() {
    let place = Place::new();
    submit(&place, &[&guest("hello.wasip1")]);
    let events = objects(&place.vyr(&["events"]).run().ok().stdout);
    let kinds: Vec<&str> = events.iter().map(|event| text_of(&event["body"]["event"])).collect();
    assert_eq!(kinds, ["journal.created", "task.accepted", "task.started", "task.ended"]);
    let some = objects(&place.vyr(&["events", "--from", "1", "--limit", "2"]).run().ok().stdout);
    assert_eq!(some, events[1..3]);
    assert_eq!(place.vyr(&["events", "--limit", "0"]).run().ok().text(), "");
    let rebuild = |code| place.vyr(&["events", "rebuild", "--json"]).run().exits(code).json();
    let rebuilt = rebuild(0);
    assert_eq!((&rebuilt["equal"], &rebuilt["before"]), (&true.into(), &rebuilt["after"]));
    let journal = rusqlite::Connection::open(place.data().join("node/journal.db")).expect("open");
    journal.execute("UPDATE tasks SET state = 4", []).expect("spoiled");
    drop(journal);
    let mended = rebuild(1);
    assert_eq!((&mended["equal"], &mended["after"]), (&false.into(), &rebuilt["after"]));
    rebuild(0);
    // The past as spans.
    let spans = objects(&place.vyr(&["traces"]).run().ok().stdout);
    let names: Vec<&str> = spans.iter().map(|span| text_of(&span["span"])).collect();
    assert_eq!(names, ["submit", "execute", "complete"]);
    let ends = objects(&place.vyr(&["traces", "--terminal"]).run().ok().stdout);
    assert_eq!(ends, spans[2..]);
}

#[test]
fn fifty_submissions_at_once() {
    let place = Place::new();
    let echo = wasm(&place, "echo", ECHO);
    let running: Vec<(String, Running)> = (0..50)
        .map(|n| {
            let input = place.file(&format!("input{n}"), format!("{n}"));
            let arguments = ["task", "submit", &echo, "--json", "--wait", "--input", &input];
            (digest(format!("{n}").as_bytes()), place.vyr(&arguments).start())
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for (output, one) in running {
        let task = one.wait().ok().json();
        assert_eq!(task["output_digest"], output);
        ids.insert(id(&task));
    }
    assert_eq!(ids.len(), 50);
    let sound = place.vyr(&["verify", "--journal", "--json"]).run().ok().json();
    assert_eq!((&sound["events"], &sound["verified"]), (&151.into(), &true.into()));
    assert_eq!(place.vyr(&["events", "rebuild", "--json"]).run().ok().json()["equal"], true);
    assert_eq!(faults(&place.data()), [""; 0]);
}

/// Lines as they come; a test waits for one with a deadline.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(reader: impl std::io::Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next one that has `word` in it.
    #[track_caller]
    pub(crate) fn with(&self, word: &str) -> String {
        let until = std::time::Instant::now() + HANG;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let line = self.0.recv_timeout(left);
            let line = line.unwrap_or_else(|e| panic!("no line with {word:?}: {e}"));
            if line.contains(word) {
                return line;
            }
        }
    }
}

/// A command that runs tasks, runs its own; what a killed one leaves is told, and run by no other.
#[test]
fn one_commands_tasks_are_no_other_commands() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    submit(&place, &[&hello]);
    let endless = wasm(&place, "endless", ENDLESS);
    let lines = place.file("lines", "x\n".repeat(36));
    let (watch, events) = place.vyr(&["events", "--follow", "--from", "4"]).start_and_read();
    let events = Lines::of(events);
    let busy = place.vyr(&["task", "submit", &endless, "--each-line", &lines]).start();
    for _ in 0..32 {
        events.with("\"task.started\"");
    }
    let alive = || {
        let list = place.vyr(&["task", "ls", "--alive", "--json"]).run().ok().json();
        list["tasks"].as_array().expect("a list").clone()
    };
    let count = |state: &str| alive().iter().filter(|task| task["state"] == state).count();
    assert_eq!((count("running"), count("accepted")), (32, 4));
    let running = alive().into_iter().find(|task| task["state"] == "running").expect("one");
    let runs = id(&running);
    place.vyr(&["task", "cancel", &runs]).run().refuses(5, &["another process"]);
    let wait = ["task", "wait", &runs, "--timeout", "100ms"];
    place.vyr(&wait).run().refuses(1, &["time was over"]);
    place.vyr(&["task", "receipt", &runs]).run().refuses(5, &["has not ended"]);
    // Another command runs its own task beside, and none of these.
    assert_eq!(submit(&place, &[&hello])["state"], "completed");
    assert_eq!((count("running"), count("accepted")), (32, 4));
    busy.kill();
    assert!(busy.ends_within(Duration::from_secs(10)));
    // The next one says what was lost, and leaves to a node what was only accepted.
    assert_eq!(submit(&place, &[&hello])["state"], "completed");
    assert_eq!((count("running"), count("accepted")), (0, 4));
    let lost = place.vyr(&["task", "show", &runs, "--json"]).run().ok().json();
    assert_eq!((&lost["state"], &lost["reason"]), (&"failed".into(), &"lost".into()));
    let waits = id(&alive()[0]);
    place.vyr(&["task", "wait", &waits]).run().refuses(5, &["vyr up"]);
    assert_eq!(place.vyr(&["task", "cancel", &waits]).run().ok().text(), "cancelled\n");
    assert_eq!(count("accepted"), 3);
    place.vyr(&["verify", "--journal"]).run().ok();
    watch.kill();
}
