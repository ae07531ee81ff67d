//! What operators do by hand is in the journal: programs beside an instance's own, slots they want empty.
//! Who and what, and never a word of what was said.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::{HANG, House, is_able_here};

/// What must be in no file, and is in each of the others: an argument, a variable, what goes in and out.
const MARKER: &str = "MARKER-3f1d7c52";
const ARGUMENT: &str = "MARKER-3f1d7c52-argument";
const VARIABLE: &str = "MARKER-3f1d7c52-variable";
const DATA: &str = "MARKER-3f1d7c52-data";

const NODE_GONE: &str = "the node ended, and nobody saw how it did";

#[test]
fn what_operators_do_by_hand_is_in_the_journal() {
    let Some(mut house) = is_able_here("services::what_operators_do_by_hand_is_in_the_journal")
    else {
        return;
    };
    house.web("v1", "/healthz", false);
    let key = house.key();
    let deployed = house.json(&["scale", "web/http=2", "--key", &key, "--plain-http"]);
    assert_eq!(deployed["outcome"], "succeeded", "{deployed}");
    sessions(&mut house);
    slots(&mut house);
}

fn sessions(house: &mut House) {
    let instance = slot(house, "web/http/0")["instances"][0]["instance"].clone();
    let variable = format!("TOLD={VARIABLE}");
    let script = format!("cat; echo $TOLD; exit 7 # {ARGUMENT}");
    let argv = ["-e", &variable, "web/http/0", "--", "/bin/sh", "-c", &script];
    let command = house.command(&[&["exec", "-i"], &argv[..]].concat());
    let (code, printed, said) = house.output(command, DATA);
    assert_eq!((code, printed), (Some(7), format!("{DATA}{VARIABLE}\n")), "{said}");

    // Whoever is told how it ended finds it in the journal.
    let [begun] = &events(house, "session.begun")[..] else { panic!("one session began") };
    let session = &begun["session"];
    let who = json!({
        "by": "uid:0", "instance": instance, "program": "/bin/sh", "service": "web",
        "session": session, "slot": "web/http/0", "terminal": false, "uid": 0, "user": null,
    });
    assert_eq!(*begun, who);
    let (name, ended) = (session.as_str().expect("a name"), end_of(house, session));
    assert_eq!(ended.expect("it ended")["end"], json!({"code": 7}));
    let kinds: Vec<String> = journal(house)
        .iter()
        .filter(|event| event["body"]["payload"]["session"] == *session)
        .map(|event| event["body"]["event"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds, ["session.begun", "session.ended"]);
    let shown = house.vyr(&["events"], "").expect("events");
    assert!(shown.contains(name), "{shown}");

    // What was said is in no file at all. The search finds what is in the journal.
    let found = house.files_with(MARKER);
    assert!(found.is_empty(), "{found:?}");
    let (node, found) = (house.path("data/node"), house.files_with("/bin/sh"));
    assert!(found.iter().any(|file| file.starts_with(&node)), "{found:?}");

    // Other ends: a signal, a program that is not there. What is refused at the door is no session.
    let run = |words: &[&str]| {
        house.output(house.command(&[&["exec", "web/http/0"], words].concat()), "").0
    };
    assert_eq!(run(&["--", "/bin/sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(last(house)["end"], json!({"signal": 9}));
    assert_eq!(run(&["--", "/bin/absent"]), Some(127));
    assert_eq!(last(house)["end"], json!({"code": 127}));
    let before = events(house, "session.begun").len();
    assert_ne!(run(&["-u", "nobody-of-the-image", "--", "/bin/sh"]), Some(0));
    assert_eq!(events(house, "session.begun").len(), before);

    // A client that is gone, and a node that is.
    let (mut client, session) = open(house, "web/http/0");
    client.kill().expect("it is ours");
    client.wait().expect("it was killed");
    let ended = until(|| end_of(house, &session));
    assert_eq!(ended["end"], json!({"failed": "its client is gone"}));
    let (mut client, session) = open(house, "web/http/0");
    house.kill_node();
    client.wait().expect("there is nobody to speak with");
    assert_eq!(end_of(house, &session), None, "nobody was there to write it");
    house.start_node();
    let ended = until(|| end_of(house, &session));
    let told = json!({"duration_ms": null, "end": {"failed": NODE_GONE}, "session": session});
    assert_eq!(ended, told);
    house.kill_node();
    house.start_node();
    until_served(house, "web/http/1");
    let ends = events(house, "session.ended");
    assert_eq!(ends.iter().filter(|of| of["session"] == session).count(), 1, "it ended once");
}

fn slots(house: &mut House) {
    let (which, other) = ("web/http/1", "web/http/0");
    let untouched = until_served(house, other);
    until_served(house, which);
    let started = lives(house, which);

    // What there is not, or what is none.
    assert_eq!(house.fails(&["service", "halt", "web/http/7"]).0, 4);
    assert_eq!(house.fails(&["service", "resume", "shop/http/0"]).0, 4);
    assert_eq!(house.fails(&["service", "halt", "web"]).0, 2);
    assert!(events(house, "slot.halted").is_empty());

    // A session of an instance that goes ends, too.
    let (mut client, session) = open(house, which);
    let load = house.load();
    let halted = house.json(&["service", "halt", which]);
    assert_eq!((&halted["halted"], &halted["was_halted"]), (&true.into(), &false.into()));
    let is_empty = |house: &House| {
        let slot = slot(house, which);
        let instances = slot["instances"].as_array().expect("a list");
        let over = |of: &Value| of["state"] == "stopped" || of["state"] == "failed";
        instances.iter().all(over).then_some(slot)
    };
    let why = until(|| is_empty(house));
    assert_eq!(why["because"], "halted", "{why}");
    let reasons = why["instances"].as_array().expect("a list").iter().map(|of| &of["reason"]);
    assert!(reasons.clone().any(|of| of == "terminated_by_operator"), "{why}");
    let ended = until(|| end_of(house, &session));
    assert!(ended["end"].get("code").is_none(), "nobody ended it in order: {ended}");
    client.wait().expect("it has nobody to speak with");
    let (answers, failed) = load.end();
    assert!(answers > 0 && failed == 0, "{answers} answers, {failed} failed");

    // It stays so, whoever is started again and however often it is wanted so.
    house.kill_node();
    house.start_node();
    assert_eq!(until_served(house, other), untouched);
    let again = house.json(&["service", "halt", which]);
    assert_eq!(again["was_halted"], true, "{again}");
    assert!(is_empty(house).is_some());
    assert_eq!(house.get("/"), "version v1\n");
    let wish = json!([{"by": "uid:0", "slot": which}]);
    assert_eq!(Value::from(events(house, "slot.halted")), wish);
    assert_eq!(lives(house, which), started, "nothing was started in it");

    // Until it is wanted again: there is one more life, and clients reach it.
    let (code, _, said) = house.output(house.command(&["service", "resume", which]), "");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("undo: vyr service halt web/http/1"), "{said}");
    until_served(house, which);
    assert_eq!(lives(house, which), started + 1);
    assert_eq!(Value::from(events(house, "slot.resumed")), wish);
    assert_eq!(until_served(house, other), untouched);
}

/// All events.
fn journal(house: &House) -> Vec<Value> {
    let lines = house.vyr(&["events", "--json"], "").expect("events");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What the events of a kind say, oldest first.
fn events(house: &House, kind: &str) -> Vec<Value> {
    let all = journal(house).into_iter().filter(|event| event["body"]["event"] == kind);
    all.map(|mut event| event["body"]["payload"].take()).collect()
}

fn last(house: &House) -> Value {
    events(house, "session.ended").pop().expect("one ended")
}

fn end_of(house: &House, session: &Value) -> Option<Value> {
    events(house, "session.ended").into_iter().find(|of| of["session"] == *session)
}

/// How many instances were ever started in a slot.
fn lives(house: &House, slot: &str) -> usize {
    events(house, "instance.started").iter().filter(|of| of["slot"] == slot).count()
}

fn slot(house: &House, name: &str) -> Value {
    let listed = house.json(&["ps", "--why"]);
    let slots = listed["slots"].as_array().expect("a list");
    slots.iter().find(|of| of["slot"] == name).cloned().unwrap_or_default()
}

/// The instance of a slot, once clients reach it.
fn until_served(house: &House, name: &str) -> Value {
    until(|| {
        let slot = slot(house, name);
        let instances = slot["instances"].as_array().cloned().unwrap_or_default();
        let serves = |of: &Value| of["state"] == "ready" && of["serving"] == true;
        instances.into_iter().find(serves).map(|of| of["instance"].clone())
    })
}

/// A program that waits for input which does not come, and its session once it has begun.
fn open(house: &House, target: &str) -> (Child, Value) {
    let known = events(house, "session.begun").len();
    let mut command: Command = house.command(&["exec", "-i", target, "--", "/bin/cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = house.space().inside(|| command.spawn()).expect("it starts");
    let begun = until(|| events(house, "session.begun").into_iter().nth(known));
    (child, begun["session"].clone())
}

fn until<T>(look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + HANG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "it did not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}
