//! Keys of people on a host: one takes over from another while packets flow, whoever dies; one that
//! is revoked takes its connections with it.
//!
//! The same two namespaces as `apply`, with the real `wireguard-go`. What came of it is asked of
//! `wg`, `ping` and the kernel's list of connections.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vyr_space::not_run;

use crate::apply::{HANG, Office, can, until};

/// Ana's first key, Ben's, and Ana's second.
pub(crate) const OLD: usize = 0;
pub(crate) const BEN: usize = 1;
pub(crate) const NEW: usize = 2;

pub(crate) const STAGED: [(&str, usize, &str); 3] =
    [("ana", OLD, "active"), ("ana", NEW, "staged"), ("ben", BEN, "active")];
const AFTER: [(&str, usize, &str); 3] =
    [("ana", OLD, "retired"), ("ana", NEW, "active"), ("ben", BEN, "active")];

pub(crate) const HOST: [&str; 4] = ["--machine", "nas", "--backend", "userspace"];

/// A command that runs on; it is ended with the test.
pub(crate) struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Office {
    /// Who has which addresses, by number of our keys, as `wg` tells it; none: no such peer.
    pub(crate) fn holders(&self) -> [Option<Vec<String>>; 3] {
        let told = self.server.run("wg", &["show", &self.link, "allowed-ips"], "").expect("a link");
        [OLD, BEN, NEW].map(|at| {
            let line = told.lines().find(|line| line.starts_with(&self.keys[at].1))?;
            let words = line.split_whitespace().skip(1).filter(|word| *word != "(none)");
            Some(words.map(str::to_owned).collect())
        })
    }

    /// Whether the old key has the addresses, and whether the new one does: asked at once, because a
    /// data plane may be doing what somebody told it who is dead by now.
    pub(crate) fn old_and_new(&self) -> (bool, bool) {
        let holders = self.holders();
        let has = |at: usize| holders[at].as_ref().is_some_and(|addresses| addresses.len() == 2);
        (has(OLD), has(NEW))
    }

    pub(crate) fn has(&self, at: usize) -> bool {
        self.holders()[at].as_ref().is_some_and(|addresses| addresses.len() == 2)
    }

    fn applied(&self, keys: &[(&str, usize, &str)]) -> String {
        let (site, plan) = (self.site(), self.plan_of(keys));
        self.vyr(&self.apply(&site, &plan, &["--no-confirm"]));
        plan
    }

    /// The device gets another key, as its configuration would.
    fn uses(&self, at: usize) {
        let path = self.path("device.key");
        fs::write(&path, &self.keys[at].0).expect("written");
        let path = path.to_str().expect("UTF-8");
        self.client.run("wg", &["set", &self.client_link, "private-key", path], "").expect("set");
    }

    /// Whether a key has shaken hands with the server.
    fn shook(&self, at: usize) -> bool {
        self.shook_at(at) != 0
    }

    /// Packets until a key has shaken hands.
    pub(crate) fn shakes(&self, at: usize) {
        self.uses(at);
        until("a handshake", || {
            self.answers();
            self.shook(at)
        });
    }

    /// When it last did: seconds since 1970.
    fn shook_at(&self, at: usize) -> u64 {
        let told = self.server.run("wg", &["show", &self.link, "latest-handshakes"], "");
        let told = told.expect("a link");
        let line = told.lines().find(|line| line.starts_with(&self.keys[at].1));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.expect("a peer")
    }

    /// The device changes its key in the middle of a stream of 300 packets; how many are lost.
    fn rotates(&self) -> u32 {
        let mut ping = self.client.inside(|| {
            let mut command = Command::new("ping");
            command.args(["-i", "0.01", "-c", "300", "-W", "1", "10.21.0.1"]);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ping is there")
        });
        let mut lines = BufReader::new(ping.stdout.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains("icmp_seq=100") {
            assert_ne!(lines.read_line(&mut said).expect("it speaks"), 0, "{said}");
        }
        self.uses(NEW);
        until("the move", || self.has(NEW));
        lines.read_to_string(&mut said).expect("it ends");
        ping.wait().expect("ours");
        let (sent, answered) = counted(&said);
        assert!(answered * 2 > sent, "{answered} of {sent}");
        sent - answered
    }

    fn moves(&self) -> Value {
        let output = self.output(&["client", "move", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    pub(crate) fn watch(&self) -> Watch {
        let start = || {
            let mut command =
                self.command(&[&["client", "move", "--watch"], HOST.as_slice()].concat());
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("vyr starts")
        };
        let mut child = self.server.inside(start);
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let watches = lines.by_ref().map_while(Result::ok).any(|line| line.contains("not moved"));
        assert!(watches, "it does not look");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Watch(child)
    }

    pub(crate) fn drift(&self) -> String {
        let output = self.output(&[&["drift"], HOST.as_slice()].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Connections that the server's kernel remembers of an address.
    fn remembered(&self, address: &str) -> usize {
        let read = || fs::read_to_string("/proc/thread-self/net/nf_conntrack").expect("a list");
        let word = format!("={address} ");
        self.server.inside(read).lines().filter(|line| line.contains(&word)).count()
    }
}

/// Packets that were sent and those that were answered, from what `ping` says at its end.
pub(crate) fn counted(said: &str) -> (u32, u32) {
    let line = said.lines().find(|line| line.contains("packets transmitted"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    let numbers: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn a_client_rotates_while_packets_flow() {
    if !can("rotate::a_client_rotates_while_packets_flow") {
        return;
    }
    let office = Office::new("r");
    let plan = office.applied(&STAGED);
    office.connect(&plan);
    until("the tunnel", || office.answers());
    assert!(office.has(OLD) && office.holders()[NEW].as_ref().is_some_and(Vec::is_empty));
    let listed = office.moves();
    assert_eq!(listed["keys"][0]["stage"], "staged", "{listed}");

    let watch = office.watch();
    // One in every run; twenty to know how many are lost.
    let rounds = if std::env::var_os("VYR_FULL").is_some() { 20 } else { 1 };
    let addresses = office.holders()[OLD].clone().expect("a peer").join(",");
    let mut lost = Vec::new();
    for round in 0..rounds {
        if round > 0 {
            office.uses(OLD);
            until("the old key", || {
                office.answers();
                office.shook_at(OLD) > office.shook_at(NEW)
            });
            let back = ["set", &office.link, "peer", &office.keys[OLD].1, "allowed-ips"];
            let back = [back.as_slice(), &[&addresses]].concat();
            office.server.run("wg", &back, "").expect("set");
            fs::remove_file(office.path("data/network/moved.json")).expect("written");
            until("the tunnel", || office.answers());
        }
        lost.push(office.rotates());
    }
    drop(watch);
    lost.sort_unstable();
    println!("rotations at 100 packets a second, lost of 300 in each: {lost:?}");
    assert!(office.answers(), "traffic is back");
    assert_eq!(office.holders()[OLD], Some(Vec::new()), "never both");
    assert_eq!(office.drift(), "", "a moved host is as its plan says");
    let moved = fs::read_to_string(office.path("data/network/moved.json")).expect("written");
    assert!(moved.contains(&office.keys[NEW].1) && moved.contains(&plan), "{moved}");
    assert!(!moved.contains(&office.keys[NEW].0), "a private key");

    // The plan after it removes the old peer and touches nothing else.
    let (site, after) = (office.site(), office.plan_of(&AFTER));
    let output = office.output(&office.apply(&site, &after, &["--dry-run"]));
    let steps = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(steps.contains(&format!("remove peer {}", office.keys[OLD].1)), "{steps}");
    assert!(!steps.contains(&office.keys[NEW].1) && !steps.contains("forget"), "{steps}");
    office.vyr(&office.apply(&site, &after, &["--no-confirm"]));
    assert!(office.answers() && office.has(NEW) && office.holders()[OLD].is_none());
    let moved = fs::read_to_string(office.path("data/network/moved.json")).expect("written");
    assert!(!moved.contains(&office.keys[NEW].1), "nothing is left to remember: {moved}");
}

#[test]
fn a_move_is_taken_back_with_the_plan_that_allowed_it() {
    if !can("rotate::a_move_is_taken_back_with_the_plan_that_allowed_it") {
        return;
    }
    let office = Office::new("w");
    let first = office.applied(&[("ana", OLD, "active"), ("ben", BEN, "active")]);
    office.connect(&first);
    until("the tunnel", || office.answers());
    let before = office.seen();
    let (site, staged) = (office.site(), office.plan_of(&STAGED));
    office.vyr(&office.apply(&site, &staged, &["--confirm-within", "60s"]));
    office.shakes(NEW);
    assert!(office.has(OLD), "nobody has looked yet");
    assert_eq!(office.moves()["keys"][0]["moved_now"], true);
    assert!(office.has(NEW) && office.answers());
    office.vyr(&["rollback"]);
    assert_eq!(office.seen(), before, "the plan before it does not know the key");
    office.uses(OLD);
    until("the old key", || office.answers());

    // Confirmed while it was moved: it stays so, and a plan without the key gives all back.
    office.vyr(&office.apply(&site, &staged, &["--confirm-within", "60s"]));
    assert!(office.has(OLD), "what was taken back is not remembered");
    office.shakes(NEW);
    office.moves();
    office.vyr(&["confirm", "--site", &site]);
    assert!(office.has(NEW) && office.answers());
    assert_eq!(office.drift(), "");
    let listed = office.output(
        &[&["client", "ls", "--live", "--json", "--site", &site], HOST.as_slice()].concat(),
    );
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let new = listed["keys"].as_array().expect("a list").iter();
    let new = new.clone().find(|key| key["public_key"] == office.keys[NEW].1.as_str());
    let new = new.expect("its line");
    assert!(new["stage"] == "moved" && new["handshake_age_s"].is_u64(), "{new}");
    office.applied(&[("ana", OLD, "active"), ("ana", NEW, "revoked"), ("ben", BEN, "active")]);
    assert!(office.has(OLD) && office.holders()[NEW].is_none());
}

#[test]
fn what_is_written_down_moves_nothing_that_the_plan_does_not_allow() {
    if !can("rotate::what_is_written_down_moves_nothing_that_the_plan_does_not_allow") {
        return;
    }
    let office = Office::new("f");
    let plan = office.applied(&STAGED);
    let seen = office.seen();
    let path = office.path("data/network/moved.json");
    let entry = |id: &str, old: usize, new: usize| {
        format!(
            r#"{{"plan":"{plan}","at":"2026-01-01T00:00:00Z","takeover":{{"link":"{}","id":"{id}","old":"{}","new":"{}"}}}}"#,
            office.link, office.keys[old].1, office.keys[new].1
        )
    };
    let write = |entries: &[String]| {
        let text = format!(r#"{{"version":1,"moved":[{}]}}"#, entries.join(","));
        fs::write(&path, text).expect("written");
    };
    // Ben's addresses for Ana, and back; a key that nobody has.
    write(&[entry("ben", BEN, NEW), entry("ana", OLD, BEN), entry("ana", NEW, OLD)]);
    office.moves();
    assert_eq!(office.seen(), seen);
    assert_eq!(office.drift(), "");
    // Its twin: what the plan allows is resumed from the same file.
    write(&[entry("ana", OLD, NEW)]);
    assert!(office.drift().contains(&office.keys[NEW].1), "it is not done yet");
    office.moves();
    assert!(office.has(NEW) && office.drift().is_empty());

    // What nobody of ours wrote is set aside, and keeps no command from its work: who has the new
    // key shakes hands again.
    let aside = office.path("data/network/moved.json.bad");
    for text in ["", "{}", "[]", r#"{"version":9,"moved":[]}"#, r#"{"version":1,"moved":[1]}"#] {
        fs::write(&path, text).expect("written");
        assert!(!office.drift().is_empty(), "{text:?} moves nothing");
        assert_eq!(fs::read_to_string(&aside).expect("set aside"), text);
    }
    write(&[entry("ana", OLD, NEW)]);
    office.moves();
    assert!(office.has(NEW) && office.drift().is_empty());
}

#[test]
fn who_dies_while_a_key_takes_over_leaves_it_with_one_of_both() {
    if !can("rotate::who_dies_while_a_key_takes_over_leaves_it_with_one_of_both") {
        return;
    }
    let office = Office::new("x");
    let plan = office.applied(&STAGED);
    office.connect(&plan);
    until("the tunnel", || office.answers());
    office.shakes(NEW);
    let addresses = office.holders()[OLD].clone().expect("a peer").join(",");
    let arguments = [&["client", "move"], HOST.as_slice()].concat();
    let (mut old, mut between, mut new) = (0, 0, 0);
    let moved = office.path("data/network/moved.json");
    for round in 0..24_u64 {
        let mut child = office.server.inside(|| {
            let mut command = office.command(&arguments);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("vyr starts")
        });
        // From before the plan is read to after what was set was read back; half of the rounds are
        // killed as soon as it is written down.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(6 * round)
            && (round % 2 == 0 || !moved.exists())
        {
            std::thread::yield_now();
        }
        child.kill().expect("ours");
        child.wait().expect("ours");
        let (has_old, has_new) = office.old_and_new();
        assert!(has_old != has_new, "round {round}: {:?}", office.holders());
        match (has_old, moved.exists()) {
            (true, false) => old += 1,
            (true, true) => between += 1,
            (false, written) => {
                assert!(written, "round {round}: it was set before it was written down");
                new += 1;
            }
        }
        // The next one does what is left, and is done.
        office.moves();
        assert!(office.has(NEW) && !office.has(OLD), "round {round}");
        assert_eq!(office.drift(), "", "round {round}");
        // As it was before, for the next round.
        fs::remove_file(&moved).expect("written");
        let back = ["set", &office.link, "peer", &office.keys[OLD].1, "allowed-ips", &addresses];
        office.server.run("wg", &back, "").expect("set");
    }
    println!("{old} before it was written down, {between} between, {new} after the set");
    assert!(old > 0 && between + new > 0, "they all died at one place");
}

#[test]
fn connections_of_a_revoked_key_are_cut() {
    let test = "rotate::connections_of_a_revoked_key_are_cut";
    if !can(test) {
        return;
    }
    if !Path::new("/proc/net/nf_conntrack").exists() {
        return not_run(test, "the kernel does not list connections");
    }
    let office = Office::new("c");
    let plan = office.applied(&[("ana", OLD, "active"), ("ben", BEN, "active")]);
    office.connect(&plan);
    // Another address of the server in its local network, reached through the tunnel.
    office.server.ip("address add 192.168.77.6/24 dev lan0\n");
    let server = office.vyr(&["server", "key", &office.link]);
    let allowed = ["allowed-ips", "10.21.0.0/24,192.168.77.6/32"];
    let set = [&["set", office.client_link.as_str(), "peer", server.as_str()], allowed.as_slice()];
    office.client.run("wg", &set.concat(), "").expect("set");
    office.client.ip(&format!("route add 192.168.77.6/32 dev {}\n", office.client_link));
    until("the tunnel", || office.answers());
    let addresses = office.holders()[OLD].clone().expect("a peer");
    let own = addresses.iter().find(|net| net.contains('.')).expect("IPv4");
    let own = own.trim_end_matches("/32").to_owned();

    let listener = office.server.inside(|| TcpListener::bind("192.168.77.6:7000").expect("free"));
    let open = || -> (TcpStream, TcpStream) {
        let near = office.client.inside(|| TcpStream::connect("192.168.77.6:7000").expect("open"));
        (near, listener.accept().expect("it came").0)
    };
    let passes = |(near, far): &mut (TcpStream, TcpStream), within: Duration| {
        near.write_all(b"x").expect("a buffer");
        far.set_read_timeout(Some(within)).expect("a time");
        far.read(&mut [0]).is_ok_and(|read| read == 1)
    };
    let mut pair = open();
    assert!(passes(&mut pair, HANG));
    assert!(office.remembered(&own) > 0, "the judge sees connections");

    // The twin: without the flush the kernel remembers it, though the peer is gone.
    let (link, old) = (&office.link, &office.keys[OLD].1);
    office.server.run("wg", &["set", link, "peer", old, "remove"], "").expect("set");
    assert!(office.remembered(&own) > 0, "a peer that goes leaves its connections");
    office.vyr(&office.apply(&office.site(), &plan, &["--no-confirm"]));
    until("the tunnel", || office.answers());
    assert!(passes(&mut pair, HANG), "it lived on");

    let (site, next) = (office.site(), office.plan("revoked"));
    let output = office.output(&office.apply(&site, &next, &["--no-confirm", "--json"]));
    let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(body["uncut"], Value::Null, "{body}");
    assert!(body["steps"].to_string().contains("forget those of"), "{body}");
    assert_eq!(office.remembered(&own), 0, "its connections are cut");
    assert!(!passes(&mut pair, Duration::from_secs(1)), "and nothing of it passes");
    assert!(!office.answers());
}
