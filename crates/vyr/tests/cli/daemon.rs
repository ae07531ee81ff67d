//! The same commands where a node is running: `vyr up` on a data directory of its own.

use std::fs;
use std::time::Instant;

use serde_json::Value;

use crate::common::{HANG, Place, Running, guest, text_of};
use crate::judge::{digest, faults};
use crate::tasks::{ECHO, ENDLESS, Lines, id, node_key, objects, submit, wasm};
use crate::trust::{key, trust};

/// A running node; it is killed when a test fails.
struct Daemon(Option<Running>);

impl Daemon {
    /// Starts it and waits until it is ready.
    #[track_caller]
    fn start(place: &Place) -> Self {
        let running = place.vyr(&["up"]).start();
        let until = Instant::now() + HANG;
        while place.vyr(&["status"]).run().code() != Some(0) {
            assert!(Instant::now() < until, "the node is not ready");
            assert!(!running.ends_within(std::time::Duration::from_millis(20)), "the node ended");
        }
        Self(Some(running))
    }

    /// Asks it to end, and waits.
    #[track_caller]
    fn stop(mut self) {
        let running = self.0.take().expect("it runs");
        rustix::process::kill_process(running.pid(), rustix::process::Signal::TERM).expect("told");
        running.wait().ok();
    }
}

#[test]
fn a_task_goes_to_the_node_and_its_receipt_comes_back() {
    let place = Place::new();
    let node = Daemon::start(&place);
    let echo = wasm(&place, "echo", ECHO);
    let input = place.file("input", "through a node");
    // A file is put over the socket. Without --wait the answer is that it was accepted.
    let arguments = [echo.as_str(), "--input", &input, "--key", "k"];
    let accepted = submit(&place, &arguments);
    assert_eq!(
        (&accepted["state"], &accepted["output_digest"]),
        (&"accepted".into(), &Value::Null)
    );
    assert_eq!(accepted["input_digest"], digest(b"through a node"));
    let task = id(&accepted);
    let ended = place.vyr(&["task", "wait", &task, "--json"]).run().ok().json();
    assert_eq!((&ended["state"], &ended["task_id"]), (&"completed".into(), &task.clone().into()));
    let again = submit(&place, &[&arguments[..], &["--wait"]].concat());
    assert_eq!((id(&again), &again["state"]), (task.clone(), &"completed".into()));
    let shown = place.vyr(&["task", "show", &task, "--json"]).run().ok().json();
    for name in ["task_id", "state", "artifact_digest", "output_digest", "receipt_digest"] {
        assert_eq!(shown[name], ended[name], "{name}");
    }
    assert_eq!(place.vyr(&["task", "output", &task]).run().ok().text(), "through a node");
    assert_eq!(place.vyr(&["task", "logs", &task]).run().ok().text(), "");
    let receipt = place.path("receipt.json");
    place.vyr(&["task", "receipt", &task, "-o", receipt.as_str()]).run().ok();
    let keys = node_key(&place);
    place.bare(&["verify", receipt.as_str(), "--trust", &keys, "--allow-dev"]).run().ok();
    let list = place.vyr(&["task", "ls", "--json"]).run().ok().json();
    assert_eq!(list["tasks"][0]["task_id"], task.as_str());
    // Large inputs, and errors, as without a node.
    let large = vec![b'x'; 2 << 20];
    let file = place.file("large", &large);
    assert_eq!(
        submit(&place, &[&echo, "--wait", "--input", &file])["output_digest"],
        digest(&large)
    );
    for command in ["show", "output", "logs", "receipt", "cancel", "wait"] {
        place.vyr(&["task", command, "t-00000000-1"]).run().refuses(4, &["t-00000000-1", "hint:"]);
        let other = format!("{task}0000");
        place.vyr(&["task", command, &other]).run().refuses(4, &[&other, "vyr task ls"]);
        place.vyr(&["task", command, "t-\x1b"]).run().refuses(2, &["is not"]);
    }
    place.vyr(&["task", "submit", &digest(b"nothing")]).run().refuses(4, &["is not here"]);
    place.vyr(&["task", "submit", "nginx"]).run().refuses(2, &["vyr deploy"]);
    // The journal can be judged while the node writes it, and after.
    let kept = place.path("kept");
    place.vyr(&["checkpoint", "-o", kept.as_str()]).run().ok();
    place.vyr(&["verify", "--journal"]).run().ok();
    assert_eq!(place.vyr(&["events", "rebuild", "--json"]).run().ok().json()["equal"], true);
    submit(&place, &[&echo, "--wait"]);
    node.stop();
    place.vyr(&["verify", "--journal", "--since", kept.as_str()]).run().ok();
    // What the node did can be read without it.
    assert_eq!(place.vyr(&["task", "output", &task]).run().ok().text(), "through a node");
    assert_eq!(faults(&place.data()), [""; 0]);
}

#[test]
fn each_line_goes_over_one_stream_also_when_the_node_is_full() {
    let place = Place::new();
    fs::create_dir(place.data()).expect("a directory");
    fs::write(place.data().join("vyr.toml"), "[node]\nqueue = 8\nslots = 2\n").expect("a file");
    let node = Daemon::start(&place);
    let echo = wasm(&place, "echo", ECHO);
    let lines: Vec<String> = (1..=200).map(|n| format!("line {n}\n")).collect();
    let file = place.file("lines", lines.concat());
    let arguments = ["task", "submit", &echo, "--each-line", &file, "--json", "--wait"];
    let done = objects(&place.vyr(&arguments).run().ok().stdout);
    assert_eq!(done.len(), 200);
    for (done, line) in done.iter().zip(&lines) {
        assert_eq!(done["output_digest"], digest(line.as_bytes()), "{done}");
    }
    // Without --wait the ids come as they are accepted.
    let arguments = ["task", "submit", &echo, "--each-line", &file];
    let ids = place.vyr(&arguments).run().ok();
    let ids: Vec<&str> = ids.text().lines().collect();
    assert_eq!(ids.len(), 200);
    let ended = place.vyr(&[&["task", "wait"], &ids[..]].concat()).run().ok();
    assert_eq!(ended.text().lines().filter(|line| line.ends_with(" completed")).count(), 200);
    place.vyr(&["verify", "--journal"]).run().ok();
    node.stop();
}

#[test]
fn what_happens_can_be_watched() {
    let place = Place::new();
    let node = Daemon::start(&place);
    let (events, lines) = place.vyr(&["events", "--follow"]).start_and_read();
    let lines = Lines::of(lines);
    lines.with("\"node.started\"");
    let (metrics, numbers) = place.vyr(&["metrics", "--prefix", "vyr.tasks"]).start_and_read();
    let numbers = Lines::of(numbers);
    let (traces, spans) = place.vyr(&["traces", "--terminal"]).start_and_read();
    let spans = Lines::of(spans);
    let first: Value = serde_json::from_str(&numbers.with("vyr.tasks")).expect("JSON");
    assert_eq!((&first["delta"], &first["version"]), (&false.into(), &1.into()));
    assert!(first["metrics"]["vyr.tasks.completed"]["counter"].is_u64(), "{first}");
    let endless = wasm(&place, "endless", ENDLESS);
    let task = id(&submit(&place, &[&endless]));
    lines.with("\"task.started\"");
    let list = place.vyr(&["task", "ls", "--alive", "--json"]).run().ok().json();
    assert_eq!((&list["tasks"][0]["state"], &list["tasks"][1]), (&"running".into(), &Value::Null));
    place.vyr(&["task", "wait", &task, "--timeout", "50ms"]).run().refuses(1, &["time was over"]);
    place.vyr(&["task", "output", &task]).run().refuses(5, &["has not ended"]);
    let cancelled = place.vyr(&["task", "cancel", &task, "--json"]).run().ok().json();
    assert_eq!(cancelled["task_id"], task.as_str());
    place.vyr(&["task", "wait", &task]).run().exits(1);
    lines.with("\"task.ended\"");
    let span: Value = serde_json::from_str(&spans.with(&task)).expect("JSON");
    assert_eq!((&span["span"], &span["state"]), (&"complete".into(), &"cancelled".into()));
    numbers.with("\"vyr.tasks.cancelled\":{\"unit\":\"{task}\",\"counter\":1}");
    // With a task it ends by itself.
    let spans = objects(&place.vyr(&["traces", "--task", &task]).run().ok().stdout);
    assert_eq!(spans.last().map(|span| text_of(&span["span"])), Some("complete"));
    // Ctrl-C is an end, not a failure.
    for watch in [metrics, traces] {
        let interrupt = rustix::process::Signal::INT;
        rustix::process::kill_process(watch.pid(), interrupt).expect("told");
        watch.wait().ok();
    }
    events.kill();
    node.stop();
}

#[test]
fn a_state_is_made_bound_and_gone_with_its_last_task() {
    let place = Place::new();
    key(&place, "ana");
    trust(&place, "ana");
    let private = place.data().join("keys/ana").into_string();
    let build = |name: &str, step: &str| {
        let build = ["artifact", "build", &guest("states.wasip1"), "--name", name];
        let build = [&build[..], &["--state", "notes", "--arg", step]].concat();
        let artifact = place.vyr(&build).run().ok().line();
        place.vyr(&["artifact", "sign", &artifact, "--key", &private]).run().ok();
        place.vyr(&["artifact", "put", &artifact]).run().ok();
        artifact
    };
    let writes = build("writes", "write /state/notes/a kept");
    let reads = build("reads", "read /state/notes/a");
    // A command by itself holds no states.
    place.vyr(&["task", "submit", &writes]).run().refuses(2, &["declares states", "vyr up"]);
    let node = Daemon::start(&place);
    let state =
        place.vyr(&["state", "create", "notes", "--size", "1Mi", "--json"]).run().ok().json();
    let state = text_of(&state["state_id"]).to_owned();
    // One that waits for a state does not hold it.
    let waits = id(&submit(&place, &[&reads]));
    let shown = place.vyr(&["task", "show", &waits, "--json"]).run().ok().json();
    assert_eq!(shown["waiting"], "awaiting_binding");
    let list = place.vyr(&["state", "ls", "--json"]).run().ok().json();
    assert_eq!(
        (&list["states"][0]["state_id"], &list["states"][1]),
        (&state.clone().into(), &Value::Null)
    );
    assert_eq!(list["states"][0]["bytes_max"], 1 << 20);
    let bind = format!("{state}:rw");
    let wrote = id(&submit(&place, &[&writes, "--bind", &bind, "--wait"]));
    assert_eq!(place.vyr(&["task", "output", &wrote]).run().ok().text(), "ok\n");
    // The last task bound to it has ended, so it is gone, and cannot be bound any more.
    let late = place.vyr(&["state", "bind", &waits, &state, "ro"]).run();
    late.refuses(4, &[&state, "vyr state create"]);
    let other = place.vyr(&["state", "create", "notes"]).run().ok().line();
    place.vyr(&["state", "bind", &waits, &other, "rw"]).run().ok();
    place.vyr(&["task", "wait", &waits]).run().ok();
    let output = place.vyr(&["task", "output", &waits]).run().ok();
    assert!(output.text().starts_with("error "), "another state is empty: {}", output.text());
    place.vyr(&["state", "create", "../notes"]).run().refuses(2, &["a-z"]);
    assert_eq!(
        place.vyr(&["state", "ls", "--json"]).run().ok().json()["states"],
        serde_json::json!([])
    );
    node.stop();
}
