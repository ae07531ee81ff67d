//! A server's key that takes over: two links, both live, and devices that go from one to the other
//! while packets flow, whoever dies.
//!
//! The two namespaces of `apply`, with a data plane more on the server and one more on the client, for
//! somebody who stays with the old file. What came of it is asked of `wg`, `ip` and `ping`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use vyr_space::Plane;

use crate::apply::{Office, can, until};
use crate::rotate::{HOST, counted};

/// Ana's key, and Ben's.
const ANA: usize = 0;
const BEN: usize = 1;

/// The server's own address in the tunnel.
const GATEWAY: &str = "10.21.0.1";

/// A server with two links, and two devices, each with an interface of its own.
struct Ends {
    office: Office,
    second: String,
    /// Interfaces of the devices.
    own: [String; 2],
    addresses: [String; 2],
    /// How the server is found: old file, new file.
    ways: [(String, String); 2],
}

impl Ends {
    /// Both devices use their old files; the server's next key is staged in the site, and applied.
    fn staged(tag: &str, confirm: &[&str]) -> Self {
        let mut office = Office::new(tag);
        let (site, plan) = (office.site(), office.plan("active"));
        office.vyr(&office.apply(&site, &plan, &["--no-confirm"]));
        let second = format!("{}-2", office.link);
        let own = [office.client_link.clone(), format!("{}b", office.client_link)];
        office.planes.push(Plane::start(&office.client, &own[BEN]));
        // Of two ways to one network a packet takes the one that it was told to.
        let loose = "for of in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $of; done";
        office.client.run("sh", &["-c", loose], "").expect("it can be set");
        let first = office.vyr(&["server", "key", &office.link]);
        let addresses = addresses(&office, &plan);
        let ways = [(first, "192.168.77.5:51820".to_owned()), Default::default()];
        let mut ends = Self { office, second, own, addresses, ways };
        for who in [ANA, BEN] {
            let (link, address, metric) = (&ends.own[who], &ends.addresses[who], 10 * (who + 1));
            let path = ends.office.path(&format!("{link}.key"));
            fs::write(&path, &ends.office.keys[who].0).expect("written");
            let key = ["set", link.as_str(), "private-key", path.to_str().expect("UTF-8")];
            ends.office.client.run("wg", &key, "").expect("set");
            ends.office.client.ip(&format!(
                "address add {address}/32 dev {link}\nlink set {link} up\n\
                 route add 10.21.0.0/24 dev {link} src {address} metric {metric}\n"
            ));
            ends.uses(who, 0);
            until("the tunnel", || ends.answers(who));
        }

        let key = ends.office.vyr(&["server", "key", &ends.second, "--next"]);
        ends.rotate(&["--stage", "--public-key", &key]);
        ends.office.planes.push(Plane::start(&ends.office.server, &ends.second));
        let plan = ends.signed();
        ends.ways[1] = ends.file(ANA);
        ends.office.vyr(&ends.office.apply(&site, &plan, confirm));
        assert_eq!(ends.ways[1], (key, "192.168.77.5:51821".to_owned()));
        ends
    }

    /// Locks and signs the site as it is.
    fn signed(&self) -> String {
        let (site, key) = (self.office.site(), self.office.path("data/keys/op"));
        self.office.vyr(&["lock", "--site", &site]);
        let key = key.to_str().expect("UTF-8");
        self.office.vyr(&["plan", "sign", "--site", &site, "--key", key])
    }

    fn arguments<'a>(&self, site: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let server = ["server", "rotate", "nas", "--site", site];
        [server.as_slice(), HOST.as_slice(), more].concat()
    }

    #[track_caller]
    fn rotate(&self, more: &[&str]) {
        let site = self.office.site();
        self.office.vyr(&self.arguments(&site, more));
    }

    /// The server's key and address in a device's new file.
    fn file(&self, who: usize) -> (String, String) {
        let site = self.office.site();
        let path = self.office.path(&format!("{}.key", self.own[who]));
        let path = path.to_str().expect("UTF-8");
        let id = ["ana", "ben"][who];
        let export = ["client", "export", id, "--key", path, "--out", "-", "--site", &site];
        let output = self.office.output(&export);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
        };
        (value("PublicKey = "), value("Endpoint = "))
    }

    /// A device takes its old file, or its new one: one tunnel goes and the other one comes.
    fn uses(&self, who: usize, way: usize) {
        let mut set = vec!["set".to_owned(), self.own[who].clone()];
        let told = self.office.client.run("wg", &["show", &self.own[who], "peers"], "");
        for peer in told.expect("a link").lines() {
            set.extend(["peer".into(), peer.to_owned(), "remove".into()]);
        }
        let (key, at) = &self.ways[way];
        let peer = ["peer", key, "endpoint", at, "allowed-ips", "10.21.0.0/24"];
        set.extend(peer.map(str::to_owned));
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        self.office.client.run("wg", &set, "").expect("set");
    }

    fn answers(&self, who: usize) -> bool {
        let ping = ["-c", "1", "-W", "1", "-I", &self.own[who], GATEWAY];
        self.office.client.run("ping", &ping, "").is_ok()
    }

    fn links(&self) -> [&str; 2] {
        [&self.office.link, &self.second]
    }

    /// On which links a device has its addresses, as `wg` tells it.
    fn on(&self, who: usize) -> Vec<usize> {
        let key = &self.office.keys[who].1;
        let has = |link: &&str| {
            let told = self.office.server.run("wg", &["show", link, "allowed-ips"], "");
            let told = told.unwrap_or_default();
            let line = told.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.contains(&self.addresses[who])
        };
        (0..2).filter(|at| has(&self.links()[*at])).collect()
    }

    /// When a device last shook hands with one of the keys: seconds since 1970; 0: never.
    fn shook(&self, who: usize, way: usize) -> u64 {
        let show = ["show", self.links()[way], "latest-handshakes"];
        let told = self.office.server.run("wg", &show, "").expect("a link");
        let line = told.lines().find(|line| line.starts_with(&self.office.keys[who].1));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.expect("a peer")
    }

    /// Packets on one way until its handshake is later than the other's.
    fn shakes(&self, who: usize, way: usize) {
        until("a handshake", || {
            self.uses(who, way);
            self.answers(who);
            self.shook(who, way) > self.shook(who, 1 - way)
        });
    }

    /// The link by which the server would send to a device.
    fn way_back(&self, who: usize) -> String {
        let told = self.office.server.run("ip", &["route", "get", &self.addresses[who]], "");
        let told = told.expect("a way");
        let mut words = told.split_whitespace().skip_while(|word| *word != "dev");
        words.nth(1).expect("a link").to_owned()
    }

    fn moves(&self) -> Value {
        let output = self.office.output(&["client", "move", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn drift(&self) -> String {
        let output = self.office.output(&[&["drift"], HOST.as_slice()].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// How far each device is, as `vyr server ls` says.
    fn listed(&self) -> BTreeMap<String, Value> {
        let site = self.office.site();
        let list = ["server", "ls", "nas", "--live", "--json", "--site", &site];
        let output = self.office.output(&[list.as_slice(), HOST.as_slice()].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let keys = body["keys"].as_array().expect("a list").iter();
        let staged = keys.clone().find(|key| key["state"] == "staged").expect("a staged key");
        assert_eq!(staged["link"], self.second.as_str());
        let devices = staged["devices"].as_array().expect("devices").iter();
        devices.map(|of| (of["client_id"].as_str().expect("an id").into(), of.clone())).collect()
    }

    /// A device changes its file in the middle of a stream of 300 packets; how many are lost.
    fn changes(&self, who: usize, way: usize) -> u32 {
        let mut ping = self.office.client.inside(|| {
            let mut command = Command::new("ping");
            command.args(["-i", "0.01", "-c", "300", "-W", "1", "-I", &self.own[who], GATEWAY]);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ping is there")
        });
        let mut lines = BufReader::new(ping.stdout.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains("icmp_seq=100") {
            assert_ne!(lines.read_line(&mut said).expect("it speaks"), 0, "{said}");
        }
        self.uses(who, way);
        until("the move", || self.on(who) == [way]);
        lines.read_to_string(&mut said).expect("it ends");
        ping.wait().expect("ours");
        let (sent, answered) = counted(&said);
        assert!(answered * 2 > sent, "{answered} of {sent}");
        sent - answered
    }
}

fn addresses(office: &Office, plan: &str) -> [String; 2] {
    let hex = plan.trim_start_matches("sha256:");
    let plan = fs::read(office.path(&format!("site/plans/{hex}.json"))).expect("a plan");
    let plan: Value = serde_json::from_slice(&plan).expect("JSON");
    [ANA, BEN].map(|who| {
        let all = plan["clients"][who]["addresses"][0]["addresses"].as_array().expect("a list");
        let mut all = all.iter().filter_map(|of| of.as_str()?.strip_suffix("/32"));
        all.next().expect("IPv4").to_owned()
    })
}

#[test]
fn a_servers_key_rotates_while_packets_flow() {
    if !can("ends::a_servers_key_rotates_while_packets_flow") {
        return;
    }
    let mut ends = Ends::staged("e", &["--no-confirm"]);
    // Old files work, and nobody has moved.
    assert!(ends.answers(ANA) && ends.answers(BEN));
    assert_eq!((ends.on(ANA), ends.on(BEN)), (vec![0], vec![0]));
    assert_eq!(ends.drift(), "");
    let listed = ends.listed();
    assert!(listed["ana"]["stage"] == "staged" && listed["ben"]["stage"] == "staged", "{listed:?}");
    assert!(
        listed["ana"]["handshake_age_s"].is_u64()
            && listed["ana"]["next_handshake_age_s"].is_null()
    );
    // Staged once more is staged once.
    let key = ends.ways[1].0.clone();
    let text = fs::read_to_string(ends.office.path("site/site.toml")).expect("a site");
    ends.rotate(&["--stage", "--public-key", &key]);
    assert_eq!(fs::read_to_string(ends.office.path("site/site.toml")).expect("a site"), text);

    let watch = ends.office.watch();
    let lost = ends.changes(ANA, 1);
    println!("a server's key taken over at 100 packets a second, lost of 300: {lost}");
    assert_eq!(ends.way_back(ANA), ends.second, "the way back follows");
    assert!(
        ends.office.server.run("ping", &["-c", "1", "-W", "5", &ends.addresses[ANA]], "").is_ok()
    );
    assert!(ends.answers(ANA) && ends.answers(BEN), "with the new file and with the old one");
    assert_eq!((ends.on(BEN), ends.way_back(BEN)), (vec![0], ends.office.link.clone()));
    assert_eq!(ends.drift(), "", "a moved host is as its plan says");
    let moved = fs::read_to_string(ends.office.path("data/network/moved.json")).expect("written");
    assert!(moved.contains(&format!("\"to\":\"{}\"", ends.second)), "{moved}");
    // An old file goes on working for whoever goes back to it.
    ends.shakes(ANA, 0);
    until("the way back", || ends.on(ANA) == [0] && ends.answers(ANA));
    assert_eq!(ends.way_back(ANA), ends.office.link);
    ends.shakes(ANA, 1);
    until("the new end", || ends.on(ANA) == [1] && ends.answers(ANA));

    // Who has not moved is named, and keeps the old key in force.
    let listed = ends.listed();
    assert!(listed["ana"]["stage"] == "moved" && listed["ben"]["stage"] == "staged", "{listed:?}");
    let site = ends.office.site();
    let (code, said) = ends.office.fails(&ends.arguments(&site, &["--retire"]));
    assert!(code == Some(5) && said.contains("ben") && !said.contains("ana,"), "{said}");
    ends.shakes(BEN, 1);
    until("Ben", || ends.on(BEN) == [1] && ends.answers(BEN));
    drop(watch);

    // Retired: the plan drops the old link, and touches nobody.
    ends.rotate(&["--retire"]);
    let plan = ends.signed();
    // A link in userspace goes with its process.
    drop(ends.office.planes.remove(0));
    let output = ends.office.output(&ends.office.apply(&site, &plan, &["--dry-run"]));
    let steps = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!steps.contains("peer") && !steps.contains("forget"), "{steps}");
    ends.office.vyr(&ends.office.apply(&site, &plan, &["--no-confirm"]));
    assert!(ends.answers(ANA) && ends.answers(BEN), "sessions live on");
    assert_eq!((ends.drift(), ends.on(ANA)), (String::new(), vec![1]));
    let told = ends.office.server.run("ip", &["route", "show", "proto", "86"], "").expect("routes");
    assert_eq!(told.trim(), format!("10.21.0.0/24 dev {} scope link", ends.second));

    // Each time that a device went is in the journal: Ana there, back, and there again, then Ben.
    let events = String::from_utf8_lossy(&ends.office.output(&["events"]).stdout).into_owned();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let gone: Vec<(String, bool)> = events
        .filter(|event| event["body"]["event"] == "network.moved")
        .map(|event| event["body"]["payload"].clone())
        .map(|of| (of["id"].as_str().expect("an id").into(), of["to"] == ends.second.as_str()))
        .collect();
    let told = [("ana", true), ("ana", false), ("ana", true), ("ben", true)];
    assert_eq!(gone, told.map(|(id, there)| (id.to_owned(), there)));

    // The old file, and the old key at the new port: no handshake.
    let old = ends.ways[0].0.clone();
    ends.uses(BEN, 0);
    assert!(!ends.answers(BEN));
    ends.ways[0].1 = ends.ways[1].1.clone();
    let before = ends.shook(BEN, 1);
    ends.uses(BEN, 0);
    assert!(!ends.answers(BEN) && ends.shook(BEN, 1) == before, "the old key is not in force");
    let shown = ends.office.client.run("wg", &["show", &ends.own[BEN], "latest-handshakes"], "");
    assert_eq!(shown.expect("a link").trim(), format!("{old}\t0"));

    // Revoked: it is in the lock, in the plan, and does not come back.
    ends.rotate(&["--revoke"]);
    let plan = ends.signed();
    let lock = fs::read_to_string(ends.office.path("site/vyr.lock")).expect("a lock");
    assert!(lock.contains(&format!("revoked {old} nas\n")), "{lock}");
    ends.office.vyr(&ends.office.apply(&site, &plan, &["--no-confirm"]));
    let again = ends.arguments(&site, &["--stage", "--public-key", &old]);
    assert_eq!(ends.office.fails(&again).0, Some(3));
}

#[test]
fn who_dies_while_a_device_moves_leaves_it_on_one_end_at_most() {
    if !can("ends::who_dies_while_a_device_moves_leaves_it_on_one_end_at_most") {
        return;
    }
    let ends = Ends::staged("y", &["--no-confirm"]);
    ends.shakes(ANA, 1);
    let moved = ends.office.path("data/network/moved.json");
    let arguments = [&["client", "move"], HOST.as_slice()].concat();
    let (mut old, mut between, mut new) = (0, 0, 0);
    for round in 0..24_u64 {
        let mut child = ends.office.server.inside(|| {
            let mut command = ends.office.command(&arguments);
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
        let written = moved.exists();
        match (ends.on(ANA).as_slice(), written) {
            ([0], false) => old += 1,
            ([0] | [], true) => between += 1,
            ([1], true) => new += 1,
            (on, written) => panic!("round {round}: on {on:?}, written down: {written}"),
        }
        // The next one does what is left, and is done.
        ends.moves();
        assert_eq!((ends.on(ANA), ends.way_back(ANA)), (vec![1], ends.second.clone()));
        assert_eq!((ends.drift(), ends.on(BEN)), (String::new(), vec![0]), "round {round}");
        // As it was before, for the next round.
        fs::remove_file(&moved).expect("written");
        let address = format!("{}/32", ends.addresses[ANA]);
        let (first, second) = (&ends.office.link, &ends.second);
        let key = &ends.office.keys[ANA].1;
        let run = |arguments: &[&str]| ends.office.server.run("wg", arguments, "").expect("set");
        let told = run(&["show", second, "allowed-ips"]);
        let line = told.lines().find(|line| line.starts_with(key)).expect("a peer");
        let all: Vec<&str> = line.split_whitespace().skip(1).collect();
        assert!(all.contains(&address.as_str()), "{told}");
        run(&["set", second, "peer", key, "allowed-ips", ""]);
        for net in &all {
            let family = if net.contains(':') { "-6" } else { "-4" };
            let route = [family, "route", "delete", net, "dev", second, "proto", "86"];
            ends.office.server.run("ip", &route, "").expect("a route");
        }
        run(&["set", first, "peer", key, "allowed-ips", &all.join(",")]);
        assert_eq!(ends.on(ANA), [0]);
    }
    println!("{old} before it was written down, {between} between, {new} after the set");
    assert!(old > 0 && between + new > 0, "they all died at one place");
}

#[test]
fn a_second_end_is_taken_back_with_its_plan_and_with_who_moved() {
    if !can("ends::a_second_end_is_taken_back_with_its_plan_and_with_who_moved") {
        return;
    }
    let mut ends = Ends::staged("z", &["--confirm-within", "60s"]);
    ends.shakes(ANA, 1);
    let moved = ends.moves();
    let own = moved["keys"].as_array().expect("a list").iter().find(|of| of["id"] == "ana");
    assert_eq!(own.expect("Ana")["moved_now"], true, "{moved}");
    assert!(ends.on(ANA) == [1] && ends.answers(ANA));
    ends.office.vyr(&["rollback"]);
    assert_eq!((ends.on(ANA), ends.on(BEN)), (vec![0], vec![0]));
    assert_eq!(ends.way_back(ANA), ends.office.link);
    ends.uses(ANA, 0);
    until("the old file", || ends.answers(ANA));
    assert!(ends.answers(BEN));

    // Confirmed with who has moved, and given up by the plan after it.
    let (site, plan) = (ends.office.site(), ends.signed());
    ends.office.vyr(&ends.office.apply(&site, &plan, &["--confirm-within", "60s"]));
    assert_eq!(ends.on(ANA), [0], "what was taken back is not remembered");
    ends.shakes(ANA, 1);
    ends.moves();
    ends.office.vyr(&["confirm", "--site", &site]);
    assert_eq!((ends.on(ANA), ends.drift()), (vec![1], String::new()));
    ends.rotate(&["--abort"]);
    let plan = ends.signed();
    drop(ends.office.planes.pop());
    ends.office.vyr(&ends.office.apply(&site, &plan, &["--no-confirm"]));
    assert_eq!((ends.on(ANA), ends.drift()), (vec![0], String::new()));
    ends.uses(ANA, 0);
    until("the old file", || ends.answers(ANA));
}

#[test]
fn what_the_server_does_not_say_counts_as_not_moved() {
    if !can("ends::what_the_server_does_not_say_counts_as_not_moved") {
        return;
    }
    let ends = Ends::staged("q", &["--no-confirm"]);
    ends.shakes(ANA, 1);
    ends.moves();
    // A stranger's record moves nobody: Ben's addresses for Ana, and a link that nobody has.
    let path = ends.office.path("data/network/moved.json");
    let text = fs::read_to_string(&path).expect("written");
    let ben = text.replace("\"id\":\"ana\"", "\"id\":\"ben\"");
    fs::write(&path, ben).expect("written");
    ends.moves();
    assert_eq!((ends.on(ANA), ends.on(BEN)), (vec![1], vec![0]), "the plan says whose key it is");
    let far = text.replace(&format!("\"to\":\"{}\"", ends.second), "\"to\":\"vyr-nowhere\"");
    fs::write(&path, far).expect("written");
    ends.moves();
    assert_eq!((ends.on(ANA), ends.on(BEN)), (vec![1], vec![0]));

    // Its twin: with --force Ben is named, and the text is changed all the same.
    let site = ends.office.site();
    let output = ends.office.output(&ends.arguments(&site, &["--retire", "--force", "--json"]));
    let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let cut: Vec<&str> = body["cut_off"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|of| of["client_id"].as_str())
        .collect();
    assert!(cut == ["ben"] && body["changed"] == true, "{body}");
    let states: Vec<&str> = body["keys"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|of| of["state"].as_str())
        .collect();
    assert_eq!(states, ["active", "retired"]);
}
