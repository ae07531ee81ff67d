//! Peers that move, and peers that are away: no apply, no drift, and nobody else notices.
//!
//! The office of `apply` with one more client, each of both on a wire of its own. Ana's device goes
//! to and fro between two addresses and two ports; Ben's counts packets meanwhile.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use vyr_space::{Namespace, Plane};

use crate::apply::{Office, PEER, SERVER, can, until};
use crate::rotate::counted;

/// Where Ana's device is besides [`PEER`].
const ELSEWHERE: &str = "192.168.77.10";
/// Ends of Ben's wire.
const BEN_WIRE: [&str; 2] = ["192.168.79.5", "192.168.79.9"];
/// How often Ana's device moves.
const MOVES: usize = 20;

/// Ben's device, with a tunnel of its own to the same server.
pub(crate) struct Ben {
    pub(crate) space: Namespace,
    link: String,
    _plane: Plane,
}

impl Ben {
    pub(crate) fn new(office: &Office) -> Self {
        let space = Namespace::make().expect("it was made before");
        office.server.ip(&format!(
            "link add lan9 type veth peer name far9\nlink set far9 netns {} name lan0\n\
             address add {}/24 dev lan9\nlink set lan9 up\n",
            space.id(),
            BEN_WIRE[0]
        ));
        space.ip(&format!(
            "link set lo up\naddress add {}/24 dev lan0\nlink set lan0 up\n",
            BEN_WIRE[1]
        ));
        let link = office.client_link.replacen('c', "b", 1);
        let plane = Plane::start(&space, &link);
        Self { space, link, _plane: plane }
    }

    /// Brings its tunnel up, with the second of the office's keys.
    pub(crate) fn connect(&self, office: &Office, plan: &str) {
        let server = office.vyr(&["server", "key", &office.link]);
        let private = office.path("ben.key");
        fs::write(&private, &office.keys[1].0).expect("written");
        let endpoint = format!("{}:51820", BEN_WIRE[0]);
        let key = private.to_str().expect("UTF-8");
        let set = ["set", &self.link, "private-key", key, "peer", &server, "endpoint", &endpoint];
        let allowed = ["allowed-ips", "10.21.0.0/24"];
        self.space.run("wg", &[&set[..], &allowed[..]].concat(), "").expect("set");
        let address = office.address(plan, "ben");
        self.space.ip(&format!("address add {address}/24 dev {0}\nlink set {0} up\n", self.link));
        until("Ben's tunnel", || self.answers());
    }

    pub(crate) fn answers(&self) -> bool {
        self.space.run("ping", &["-c", "1", "-W", "1", "10.21.0.1"], "").is_ok()
    }

    /// Sends 50 packets a second until it is told to stop.
    pub(crate) fn sends(&self) -> Counting {
        let child = self.space.inside(|| {
            let mut command = Command::new("ping");
            command.args(["-i", "0.02", "-W", "5", "10.21.0.1"]);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ping is there")
        });
        Counting(child)
    }
}

/// A stream of packets that are counted.
pub(crate) struct Counting(Child);

impl Counting {
    /// How many were sent, and how many answered.
    pub(crate) fn stop(mut self) -> (u32, u32) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // Then it says what it has counted.
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("ours");
        let mut said = String::new();
        let stdout = self.0.stdout.as_mut().expect("it is piped");
        stdout.read_to_string(&mut said).expect("it ends");
        self.0.wait().expect("ours");
        counted(&said)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Office {
    /// Where the server heard Ana's device last.
    fn heard(&self) -> String {
        let told = self.server.run("wg", &["show", &self.link, "endpoints"], "").expect("a link");
        let line = told.lines().find(|line| line.starts_with(&self.keys[0].1)).expect("a peer");
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }

    /// What happened here so far: the record of the last change, and what is to be told of others.
    fn happened(&self) -> String {
        let last = fs::read_to_string(self.path("data/network/last.json")).unwrap_or_default();
        let events = String::from_utf8(self.output(&["events"]).stdout).expect("UTF-8");
        format!("{last}\n{events}")
    }
}

#[test]
fn a_device_that_roams_is_no_change_and_no_drift() {
    if !can("roam::a_device_that_roams_is_no_change_and_no_drift") {
        return;
    }
    let office = Office::new("o");
    let (site, plan) = (office.site(), office.plan("active"));
    office.vyr(&office.apply(&site, &plan, &["--no-confirm"]));
    let ben = Ben::new(&office);
    ben.connect(&office, &plan);
    office.connect(&plan);
    until("the tunnel", || office.answers());
    let (before, happened) = (office.seen(), office.happened());
    assert!(happened.contains(&plan), "the judge sees what happens: {happened}");

    let server = office.vyr(&["server", "key", &office.link]);
    let endpoint = format!("{SERVER}:51820");
    let counting = ben.sends();
    let mut heard = vec![office.heard()];
    let mut places = [PEER, ELSEWHERE];
    for number in 0..MOVES {
        places.reverse();
        let [here, there] = places;
        // Another address, and every second time another port beside it.
        office
            .client
            .ip(&format!("address delete {there}/24 dev lan0\naddress add {here}/24 dev lan0\n"));
        // As a device's own network does it: the data plane forgets whence it sent.
        let set = ["set", &office.client_link, "peer", &server, "endpoint", &endpoint];
        office.client.run("wg", &set, "").expect("set");
        if number % 2 == 1 {
            let port = (40_000 + number).to_string();
            let set = ["set", &office.client_link, "listen-port", &port];
            office.client.run("wg", &set, "").expect("set");
        }
        until("the tunnel, from elsewhere", || office.answers());
        until("the new endpoint", || office.answers() && office.heard().starts_with(here));
        heard.push(office.heard());
        assert_eq!(office.drift(), "", "after {number} moves");
    }
    let (sent, answered) = counting.stop();
    println!("{MOVES} moves, endpoints {heard:?}; {answered} of {sent} of the other's answered");
    heard.sort();
    heard.dedup();
    assert!(heard.len() > MOVES / 2, "it has roamed: {heard:?}");
    // The last may be on its way when it is told to stop.
    assert!(sent > 20 && sent - answered <= 1, "{answered} of {sent}");
    assert_eq!(office.seen(), before);
    assert_eq!(office.happened(), happened, "nothing was done, and nothing is told");
    let output = office.output(&office.apply(&site, &plan, &["--dry-run"]));
    assert!(output.status.success() && output.stdout.is_empty(), "no step: {output:?}");

    // Its twin: what a plan does say of a peer is missed when somebody takes it away.
    let peer = &office.keys[0].1;
    office
        .server
        .run("wg", &["set", &office.link, "peer", peer, "allowed-ips", ""], "")
        .expect("set");
    assert!(office.drift().contains(peer.as_str()), "a judge that sees nothing");
}

#[test]
fn a_peer_that_is_away_holds_up_nothing_and_comes_back() {
    if !can("roam::a_peer_that_is_away_holds_up_nothing_and_comes_back") {
        return;
    }
    let office = Office::new("v");
    let site = office.site();
    let plan = office.plan_of(&[("ana", 0, "active"), ("ben", 1, "active")]);
    office.vyr(&office.apply(&site, &plan, &["--no-confirm"]));
    let ben = Ben::new(&office);
    ben.connect(&office, &plan);
    office.connect(&plan);
    until("the tunnel", || office.answers());

    office.client.ip("link set lan0 down\n");
    assert!(!office.answers(), "it is away");
    assert_eq!(office.drift(), "");
    let counting = ben.sends();
    let more = office.plan_of(&[("ana", 0, "active"), ("ben", 1, "active"), ("cat", 2, "active")]);
    office.vyr(&office.apply(&site, &more, &["--confirm-within", "60s"]));
    office.vyr(&["confirm", "--site", &site]);
    assert_eq!(office.drift(), "");
    let (sent, answered) = counting.stop();
    assert!(sent - answered <= 1, "{answered} of {sent}");
    office.client.ip("link set lan0 up\n");
    until("its return", || office.answers());
    assert_eq!(office.drift(), "");
}
