//! A plan applied to a host: kept, taken back, and what happens to who dies in between.
//!
//! Two namespaces, a server and a client, each with the real `wireguard-go`; what came of it is
//! asked of `wg`, `nft`, `ip` and `ping`, never of the program under test.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vyr_space::{Namespace, Plane, Site};

/// Nothing here takes a tenth of it; what does hangs. Not a figure of speed.
pub(crate) const HANG: Duration = Duration::from_secs(60);

pub(crate) const SERVER: &str = "192.168.77.5";
pub(crate) const PEER: &str = "192.168.77.9";

/// Whether a data plane can run here; says so if not.
pub(crate) fn can(test: &str) -> bool {
    vyr_space::can_carry(test)
}

/// A site with one server, that server, and a client with a tunnel to it.
pub(crate) struct Office {
    directory: TempDir,
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
    pub(crate) link: String,
    pub(crate) client_link: String,
    pub(crate) keys: [(String, String); 3],
    /// The server's, the client's, and whatever a test adds.
    pub(crate) planes: Vec<Plane>,
}

impl Office {
    pub(crate) fn new(tag: &str) -> Self {
        let (server, client) = (Namespace::make().expect("made"), Namespace::make().expect("made"));
        server.ip("link set lo up\nlink add lan0 type veth peer name far\n");
        server.ip(&format!("link set far netns {} name lan0\n", client.id()));
        for (space, own) in [(&server, SERVER), (&client, PEER)] {
            space.ip(&format!("address add {own}/24 dev lan0\nlink set lan0 up\nlink set lo up\n"));
        }
        // Sockets of all data planes are in one directory, other runs have other numbers.
        let name = format!("{tag}{}", std::process::id() % 10_000);
        let (link, client_link) = (format!("vyr-{name}"), format!("c{name}"));
        let planes = vec![Plane::start(&server, &link), Plane::start(&client, &client_link)];
        let directory = tempfile::tempdir().expect("a temporary directory");
        let keys = [(); 3].map(|()| {
            let private = client.run("wg", &["genkey"], "").expect("wg is there");
            let public = client.run("wg", &["pubkey"], &private).expect("wg is there");
            (private.trim().to_owned(), public.trim().to_owned())
        });
        let office = Self { directory, server, client, link, client_link, keys, planes };
        office.write(&name);
        office
    }

    fn write(&self, name: &str) {
        let own = self.vyr(&["server", "key", &self.link]);
        self.vyr(&["key", "new", "op"]);
        let operator = fs::read_to_string(self.path("data/keys/op.pub")).expect("a key");
        fs::create_dir_all(self.path("site")).expect("a directory");
        let lan = "192.168.77.0/24";
        let (server, public_key) = (SERVER, own.as_str());
        let site = Site { name, server, operators: lan, lan, public_key, recovery: &[] };
        let site = site.to_string();
        fs::write(self.path("site/site.toml"), site).expect("written");
        let line = format!("op@office namespaces=\"vyr-plan\" {operator}");
        fs::write(self.path("site/operators.allowed_signers"), line).expect("written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The command, to be run in the server's namespace.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vyr"));
        command.arg("--data-dir").arg(self.path("data")).args(arguments);
        command.stdin(Stdio::null()).env("USER", "ana").env_remove("SUDO_USER");
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.server.inside(|| self.command(arguments).output().expect("vyr starts"))
    }

    /// Runs it; the first line of what it printed.
    #[track_caller]
    pub(crate) fn vyr(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    }

    /// Runs what must fail; its exit code and what it said.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A signed plan in which the client's key is in this state.
    pub(crate) fn plan(&self, state: &str) -> String {
        self.plan_of(&[("ana", 0, state), ("ben", 1, "active")])
    }

    /// A signed plan of these devices, each with one of our keys in a state.
    pub(crate) fn plan_of(&self, keys: &[(&str, usize, &str)]) -> String {
        let name = &self.link["vyr-".len()..];
        let line = |id: &str, key: &str, state: &str| {
            format!(
                "  {{ id = \"{id}\", owner = \"Ana\", interface = \"{name}\", profile = \"split\", \
                 public_key = \"{key}\", state = \"{state}\" }},\n"
            )
        };
        let lines = keys.iter().map(|(id, key, state)| line(id, &self.keys[*key].1, state));
        let lines: String = lines.collect();
        let clients = format!("version = 1\nclients = [\n{lines}]\n");
        fs::write(self.path("site/clients.toml"), clients).expect("written");
        let (site, key) = (self.path("site"), self.path("data/keys/op"));
        let (site, key) = (site.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
        self.vyr(&["lock", "--site", site]);
        self.vyr(&["plan", "sign", "--site", site, "--key", key])
    }

    /// The process that would take a change of this host back.
    fn timer(&self) -> Option<u32> {
        let data = self.path("data");
        let data = data.to_str().expect("UTF-8");
        fs::read_dir("/proc").expect("/proc").flatten().find_map(|entry| {
            let words = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let is_timer = words.contains("__confirm-timer") && words.contains(data);
            is_timer.then(|| entry.file_name().to_str()?.parse().ok())?
        })
    }

    pub(crate) fn apply<'a>(&self, site: &'a str, plan: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["apply", plan, "--site", site, "--machine", "nas", "--backend", "userspace"], more]
            .concat()
    }

    pub(crate) fn site(&self) -> String {
        self.path("site").to_str().expect("UTF-8").to_owned()
    }

    /// The IPv4 address of a device in a plan.
    pub(crate) fn address(&self, plan: &str, id: &str) -> String {
        let hex = plan.trim_start_matches("sha256:");
        let plan = fs::read(self.path(&format!("site/plans/{hex}.json"))).expect("a plan");
        let plan: serde_json::Value = serde_json::from_slice(&plan).expect("JSON");
        let mut clients = plan["clients"].as_array().expect("a list").iter();
        let client = clients.find(|client| client["id"] == id).expect("a device");
        let all = client["addresses"][0]["addresses"].as_array().expect("a list").iter();
        let mut all = all.filter_map(|of| of.as_str()?.split('/').next());
        all.find(|of| of.contains('.')).expect("an address").to_owned()
    }

    /// Gives the client its side of the tunnel, as its configuration would.
    pub(crate) fn connect(&self, plan: &str) {
        let server = self.vyr(&["server", "key", &self.link]);
        let address = self.address(plan, "ana");
        let private = self.path("client.key");
        fs::write(&private, &self.keys[0].0).expect("written");
        let set = [
            "set",
            &self.client_link,
            "private-key",
            private.to_str().expect("UTF-8"),
            "peer",
            &server,
            "endpoint",
            &format!("{SERVER}:51820"),
            "allowed-ips",
            "10.21.0.0/24",
        ];
        self.client.run("wg", &set, "").expect("set");
        self.client
            .ip(&format!("address add {address}/24 dev {0}\nlink set {0} up\n", self.client_link));
    }

    /// Whether one packet goes through the tunnel and back.
    pub(crate) fn answers(&self) -> bool {
        self.client.run("ping", &["-c", "1", "-W", "1", "10.21.0.1"], "").is_ok()
    }

    /// The host as others see it: peers, addresses, routes and the firewall, without what counts.
    pub(crate) fn seen(&self) -> String {
        let peers = self.server.run("wg", &["show", &self.link, "allowed-ips"], "");
        let mut peers: Vec<String> =
            peers.expect("a link").lines().map(ToOwned::to_owned).collect();
        peers.sort();
        let port = self.server.run("wg", &["show", &self.link, "listen-port"], "").expect("a link");
        let ip = |arguments: &[&str]| self.server.run("ip", arguments, "").expect("ip is there");
        let routes = ip(&["route", "show", "proto", "86"]);
        let addresses = ip(&["-o", "-4", "address", "show", "dev", &self.link]);
        let addresses = addresses.split("valid_lft").next().unwrap_or_default().to_owned();
        let table = self.server.run("nft", &["-s", "list", "ruleset"], "").expect("nft is there");
        let port = if peers.is_empty() { String::new() } else { port };
        format!("{}\n{port}{routes}{addresses}{table}", peers.join("\n"))
    }
}

/// Looks again and again: what is waited for, a host as others see it, tells nobody when it changes.
#[track_caller]
pub(crate) fn until(what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < HANG, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

#[test]
fn a_change_is_kept_if_confirmed_and_taken_back_if_not() {
    if !can("apply::a_change_is_kept_if_confirmed_and_taken_back_if_not") {
        return;
    }
    let office = Office::new("k");
    let (site, plan) = (office.site(), office.plan("active"));
    let blank = office.seen();
    office.vyr(&office.apply(&site, &plan, &["--dry-run"]));
    assert_eq!(office.seen(), blank, "a dry run is dry");
    let (code, said) = office.fails(&["confirm"]);
    assert_eq!(code, Some(4), "{said}");

    office.vyr(&office.apply(&site, &plan, &["--confirm-within", "2s"]));
    let applied = office.seen();
    assert!(applied.contains(&office.keys[0].1) && applied.contains("table inet vyr"), "{applied}");
    let timer = office.timer().expect("a timer");
    let stat = fs::read_to_string(format!("/proc/{timer}/stat")).expect("it runs");
    // After the name: state, parent, group, session.
    let session = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3));
    assert_eq!(session, Some(timer.to_string().as_str()), "a session of its own");
    let status = fs::read_to_string(format!("/proc/{timer}/status")).expect("it runs");
    let held = |set: &str| status.lines().find_map(|line| line.strip_prefix(set));
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(
            held(set).map(str::trim),
            Some("0000000000001000"),
            "CAP_NET_ADMIN alone: {set}"
        );
    }
    // Two from one base: who comes second is told who came first.
    let (code, said) = office.fails(&office.apply(&site, &plan, &[]));
    assert!(code == Some(5) && said.contains("by ana"), "{said}");
    until("the deadline", || office.seen() == blank);
    let (code, said) = office.fails(&["confirm"]);
    assert!(code == Some(4) && said.contains("nobody confirmed it"), "{said}");

    office.vyr(&office.apply(&site, &plan, &[]));
    assert_eq!(office.vyr(&["confirm", "--site", &site]), plan);
    assert_eq!(office.seen(), applied);
    let pointer = fs::read_to_string(office.path("site/plans/applied.network")).expect("written");
    assert_eq!(pointer.trim_end(), plan);
    let drift = ["drift", "--machine", "nas", "--backend", "userspace"];
    office.vyr(&drift);
    // Somebody else's hand.
    office.server.ip(&format!("address delete 10.21.0.1/24 dev {}\n", office.link));
    office.server.nft("delete table inet vyr");
    let output = office.output(&drift);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for what in ["add address 10.21.0.1/24", "firewall"] {
        assert!(said.contains(what), "{what} is not in {said}");
    }
    assert_ne!(office.seen(), applied, "nothing is repaired without being asked");
    office.vyr(&office.apply(&site, &plan, &["--no-confirm"]));
    assert_eq!(office.seen(), applied);

    let next = office.plan("revoked");
    office.vyr(&office.apply(&site, &next, &["--no-confirm"]));
    assert!(!office.seen().contains(&office.keys[0].1));
    let (code, said) = office.fails(&office.apply(&site, &plan, &[]));
    assert!(code == Some(5) && said.contains(&next), "an older plan: {said}");
    // No key but public ones ever left the directory of keys.
    for entry in fs::read_dir(office.path("data/network")).expect("a directory").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let key =
                fs::read_to_string(office.path(&format!("data/network/keys/{}.key", office.link)));
            let text = fs::read_to_string(entry.path()).expect("text");
            assert!(!text.contains(key.expect("a key").trim()), "{}", entry.path().display());
        }
    }
}

#[test]
fn a_plan_nobody_approved_or_of_other_keys_changes_nothing() {
    if !can("apply::a_plan_nobody_approved_or_of_other_keys_changes_nothing") {
        return;
    }
    let office = Office::new("n");
    let (site, plan) = (office.site(), office.plan("active"));
    let blank = office.seen();
    let key = office.path(&format!("data/network/keys/{}.key", office.link));
    let own = fs::read(&key).expect("a key");
    fs::write(&key, &office.keys[0].0).expect("written");
    let (code, said) = office.fails(&office.apply(&site, &plan, &[]));
    assert!(code == Some(2) && said.contains("public key is"), "{said}");
    assert!(!said.contains(&office.keys[0].0), "a private key was printed");
    fs::write(&key, own).expect("written");

    for entry in fs::read_dir(office.path("site/plans")).expect("plans").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "approval") {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    let (code, said) = office.fails(&office.apply(&site, &plan, &[]));
    assert!(code == Some(3) && said.contains("0 of 1"), "{said}");
    let (code, said) = office.fails(&office.apply(&site, &plan, &["--machine", "nobody"]));
    assert!(code.is_some_and(|code| code == 2 || code == 3 || code == 4), "{said}");
    assert_eq!(office.seen(), blank);
}

#[test]
fn traffic_comes_back_when_a_plan_locks_it_out() {
    if !can("apply::traffic_comes_back_when_a_plan_locks_it_out") {
        return;
    }
    let office = Office::new("t");
    let (site, plan) = (office.site(), office.plan("active"));
    office.vyr(&office.apply(&site, &plan, &["--no-confirm"]));
    office.connect(&plan);
    until("the tunnel", || office.answers());
    let before = office.seen();
    let lockout = office.plan("revoked");
    office.vyr(&office.apply(&site, &lockout, &["--confirm-within", "3s"]));
    assert!(!office.seen().contains(&office.keys[0].1), "the judge sees what it looks for");
    // The client says nothing meanwhile: it does not know that it was gone, and would send with its
    // old session for 15 seconds. It is greeted.
    let shook = || {
        let all = office.server.run("wg", &["show", &office.link, "latest-handshakes"], "");
        let all = all.expect("a link");
        let own = all.lines().find_map(|line| line.strip_prefix(&office.keys[0].1));
        own.is_some_and(|seconds| seconds.trim() != "0")
    };
    until("a greeting", shook);
    until("traffic", || office.answers());
    until("the end of the change", || office.fails(&["rollback"]).0 == Some(4));
    assert_eq!(office.seen(), before);
    let all = office.server.run("wg", &["show", &office.link, "persistent-keepalive"], "");
    for line in all.expect("a link").lines() {
        assert!(line.ends_with("\toff"), "it is greeted for good: {line}");
    }
    let (code, said) = office.fails(&["rollback"]);
    assert!(code == Some(4) && said.contains("taken back"), "{said}");
}

#[test]
fn who_dies_in_the_middle_leaves_the_host_as_it_was_or_as_it_is_to_be() {
    if !can("apply::who_dies_in_the_middle_leaves_the_host_as_it_was_or_as_it_is_to_be") {
        return;
    }
    let office = Office::new("d");
    let (site, first) = (office.site(), office.plan("active"));
    office.vyr(&office.apply(&site, &first, &["--no-confirm"]));
    let old = office.seen();
    let second = office.plan("revoked");
    let arguments = office.apply(&site, &second, &["--confirm-within", "30s"]);
    office.vyr(&arguments);
    let new = office.seen();
    office.vyr(&["rollback"]);
    assert_eq!(office.seen(), old);
    assert_ne!(old, new);

    let (mut cut, mut whole) = (0, 0);
    for round in 0..24_u64 {
        let mut child = office.server.inside(|| {
            let mut command = office.command(&arguments);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("vyr starts")
        });
        // From before the plan is read to after the last step.
        std::thread::sleep(Duration::from_millis(4 * round));
        child.kill().expect("ours");
        child.wait().expect("ours");
        let pending = office.path("data/network/pending.json");
        let waits = || fs::read_to_string(&pending).is_ok_and(|text| text.contains("\"waiting\""));
        // By the timer, which hears that its maker died; before it was armed nothing was changed.
        let took = until("recovery", || waits() || office.seen() == old);
        assert!(took < Duration::from_secs(5), "recovery took {took:?}");
        match waits() {
            true => {
                assert_eq!(office.seen(), new, "round {round}");
                office.vyr(&["rollback"]);
                whole += 1;
            }
            false => cut += 1,
        }
        assert_eq!(office.seen(), old, "round {round}");
    }
    // Otherwise they were all killed before anything began, or after all was done.
    println!("{cut} were cut short, {whole} were done");
    assert!(cut > 0);
}
