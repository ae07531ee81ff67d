//! The network of a host changed by its node: which process does it, and what the journal says.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::apply::{Office, can, until};

/// `vyr up` on the office's data directory, in its server's namespace.
struct Running(Child);

impl Running {
    fn start(office: &Office) -> Self {
        let log = fs::File::create(office.path("node.log")).expect("room");
        let start = || {
            let mut up = office.command(&["up"]);
            up.stdout(Stdio::null()).stderr(log).spawn().expect("it starts")
        };
        let running = Self(office.server.inside(start));
        until("the node", || office.output(&["status"]).status.success());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.0);
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.0.wait();
    }
}

/// The events whose names begin so, oldest first: name and payload.
fn events(office: &Office, prefix: &str) -> Vec<(String, Value)> {
    let output = office.output(&["events", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let body = &line["body"];
        (body["event"].as_str().unwrap_or_default().to_owned(), body["payload"].clone())
    };
    lines.lines().map(read).filter(|(name, _)| name.starts_with(prefix)).collect()
}

fn names(office: &Office) -> Vec<String> {
    events(office, "network.").into_iter().map(|(name, _)| name).collect()
}

/// The process id of a part of the node.
fn process(office: &Office, name: &str) -> Option<u32> {
    let output = office.output(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = status["processes"].as_array().expect("a list").iter();
    let mut found = all.filter(|of| of["name"] == name).filter_map(|of| of["pid"].as_u64());
    found.next().and_then(|pid| u32::try_from(pid).ok())
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=ana", "-c", "user.email=ana@example.org"];
    let done = Command::new("git").arg("-C").arg(directory).args(who).args(arguments).output();
    let done = done.expect("git is there");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

#[test]
fn a_node_changes_the_network_and_its_journal_says_so() {
    if !can("node::a_node_changes_the_network_and_its_journal_says_so") {
        return;
    }
    let office = Office::new("j");
    let (site, plan) = (office.site(), office.plan("active"));
    git(Path::new(&site), &["init", "--quiet"]);
    git(Path::new(&site), &["add", "."]);
    git(Path::new(&site), &["commit", "--quiet", "--message", "the office"]);
    let commit = git(Path::new(&site), &["rev-parse", "HEAD"]);
    let blank = office.seen();
    let running = Running::start(&office);
    assert_eq!(process(&office, "net"), None, "nobody has asked for it");

    office.vyr(&office.apply(&site, &plan, &["--confirm-within", "3s"]));
    assert!(office.seen().contains(&office.keys[0].1), "{}", office.seen());
    let net = process(&office, "net").expect("it runs");
    let status = fs::read_to_string(format!("/proc/{net}/status")).expect("it runs");
    for line in ["CapPrm:\t0000000000001000", "CapBnd:\t0000000000001000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "CAP_NET_ADMIN alone, for good: {status}");
    }
    // Who comes second is told who came first, and so is the journal.
    let (code, said) = office.fails(&office.apply(&site, &plan, &[]));
    assert!(code == Some(5) && said.contains("by ana"), "{said}");
    let (name, refused) = events(&office, "network.").pop().expect("an event");
    assert_eq!((&*name, &refused["by"]), ("network.refused", &Value::from("ana")));
    assert_eq!(refused["first"]["by"], "ana");
    assert_eq!(refused["first"]["plan"], Value::from(&*plan));
    // The timer tells nobody, and the journal has it all the same.
    until("the deadline", || office.seen() == blank);
    until("the journal", || names(&office).last().is_some_and(|name| name == "network.ended"));
    let (_, ended) = events(&office, "network.").pop().expect("an event");
    let change = &ended["predicate"]["change"];
    assert_eq!((&change["outcome"], &change["base"]), (&Value::from("taken_back"), &Value::Null));
    assert_eq!(change["after"], change["before"], "read back as it was");

    office.vyr(&office.apply(&site, &plan, &[]));
    assert_eq!(office.vyr(&["confirm", "--site", &site]), plan);
    let receipt = office.path("receipt.json");
    let file = receipt.to_str().expect("UTF-8");
    office.vyr(&["network", "receipt", "--output", file]);
    let trust = office.path("node.pub");
    fs::write(&trust, office.vyr(&["node", "key"]) + "\n").expect("room");
    let verify = ["verify", file, "--trust", trust.to_str().expect("UTF-8"), "--json"];
    let proven: Value = serde_json::from_slice(&office.output(&verify).stdout).expect("JSON");
    assert_eq!(proven["outcome"], "confirmed");
    assert_eq!(proven["plan"], Value::from(&*plan));
    assert_eq!(proven["approvers"], serde_json::json!(["op@office"]));
    assert_eq!(proven["interfaces"], serde_json::json!([office.link]));
    assert_eq!(proven["site_commit"], Value::from(commit));
    assert_eq!((&proven["by"], &proven["machine"]), (&Value::from("ana"), &Value::from("nas")));
    let drift = office.output(&["drift", "--machine", "nas", "--backend", "userspace", "--json"]);
    let drift: Value = serde_json::from_slice(&drift.stdout).expect("JSON");
    assert_eq!(proven["after"], drift["found"], "another look at the host");
    let mut bytes = fs::read(&receipt).expect("it is there");
    let at = bytes.windows(8).position(|at| at == b"\"before\"").expect("a field") + 20;
    bytes[at] ^= 1;
    fs::write(&receipt, &bytes).expect("room");
    assert_eq!(office.fails(&verify).0, Some(3));

    // Without a node a command records it itself, in the same journal.
    drop(running);
    let next = office.plan("revoked");
    office.vyr(&office.apply(&site, &next, &[]));
    assert_eq!(office.vyr(&["confirm", "--site", &site]), next);
    let all = events(&office, "network.ended");
    let (_, last) = all.last().expect("an event");
    assert_eq!(all.len(), 3);
    assert_eq!(last["predicate"]["change"]["base"], Value::from(&*plan));
    let id = last["predicate"]["change"]["change"].as_str().expect("a name").to_owned();
    office.vyr(&["network", "receipt", &id, "--output", file]);
    let proven: Value = serde_json::from_slice(&office.output(&verify).stdout).expect("JSON");
    assert_eq!(proven["plan"], Value::from(&*next));
    let unknown = "0".repeat(32);
    assert_eq!(office.fails(&["network", "receipt", &unknown]).0, Some(4));
    office.vyr(&["verify", "--journal"]);
}

#[test]
fn a_plan_that_is_not_approved_is_refused_by_the_node_and_named() {
    if !can("node::a_plan_that_is_not_approved_is_refused_by_the_node_and_named") {
        return;
    }
    let office = Office::new("u");
    let (site, plan) = (office.site(), office.plan("active"));
    let blank = office.seen();
    let _running = Running::start(&office);
    for entry in fs::read_dir(Path::new(&site).join("plans")).expect("plans").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "sig") {
            fs::remove_file(entry.path()).expect("it is there");
        }
    }
    let (code, said) = office.fails(&office.apply(&site, &plan, &[]));
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(office.seen(), blank);
    let (name, refused) = events(&office, "network.").pop().expect("an event");
    assert_eq!(name, "network.refused");
    assert_eq!((&refused["by"], &refused["first"]), (&Value::from("ana"), &Value::Null));
}

#[test]
fn a_process_that_is_killed_in_the_middle_leaves_the_host_as_it_was_and_the_journal_knows() {
    if !can(
        "node::a_process_that_is_killed_in_the_middle_leaves_the_host_as_it_was_and_the_journal_knows",
    ) {
        return;
    }
    let office = Office::new("q");
    let (site, plan) = (office.site(), office.plan("active"));
    let blank = office.seen();
    let _running = Running::start(&office);
    // Nobody has that address, so the change waits for an answer when all steps were taken.
    let arguments = office.apply(&site, &plan, &["--probe", "192.168.77.200:9"]);
    let start = || {
        let mut apply = office.command(&arguments);
        apply.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let apply = office.server.inside(start);
    until("the steps", || office.seen().contains(&office.keys[0].1));
    let net = process(&office, "net").expect("it is in the middle");
    let pid = i32::try_from(net).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::KILL).expect("it lives");
    let output = apply.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    until("the way back", || office.seen() == blank);
    until("the journal", || names(&office) == ["network.ended"]);
    let (_, ended) = events(&office, "network.").pop().expect("an event");
    assert_eq!(ended["predicate"]["change"]["why"], "who made it died");
    // Its successor does what is asked.
    office.vyr(&office.apply(&site, &plan, &[]));
    office.vyr(&["confirm", "--site", &site]);
    assert_ne!(process(&office, "net"), Some(net));
}
