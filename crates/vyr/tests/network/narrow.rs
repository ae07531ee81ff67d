//! A plan that lets a device do less: what it had begun and may not begin any more is cut, what it
//! may goes on, and nobody else notices.
//!
//! The office of `apply` with two networks behind its server, of which the next plan has one. Both
//! connections are real ones, through the tunnel and through the router.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use vyr_space::{Namespace, not_run};

use crate::apply::{HANG, Office, can, until};

/// One host in each network behind the server: that of both plans, and that of the first alone.
const BEHIND: [&str; 2] = ["172.16.1.9", "172.16.2.9"];
const WIDE: &str = r#"lan = ["192.168.77.0/24", "172.16.1.0/24", "172.16.2.0/24"]"#;
const NARROW: &str = r#"lan = ["192.168.77.0/24", "172.16.1.0/24"]"#;

/// How long is waited for what must not come. What does come takes a hundredth of it.
const NOTHING: Duration = Duration::from_secs(1);

struct Narrowing {
    office: Office,
    _behind: Namespace,
    listeners: [TcpListener; 2],
}

/// Both ends of a connection.
struct Pair {
    near: TcpStream,
    far: TcpStream,
}

impl Pair {
    /// Whether a byte from the device arrives.
    fn passes(&mut self, within: Duration) -> bool {
        self.near.write_all(b"x").expect("a buffer");
        arrives(&mut self.far, within)
    }

    /// Whether one comes back.
    fn comes_back(&mut self, within: Duration) -> bool {
        self.far.write_all(b"y").expect("a buffer");
        arrives(&mut self.near, within)
    }
}

fn arrives(at: &mut TcpStream, within: Duration) -> bool {
    at.set_read_timeout(Some(within)).expect("a time");
    match at.read(&mut [0; 16]) {
        Ok(read) => read > 0,
        Err(e) => {
            assert!(matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{e}");
            false
        }
    }
}

impl Narrowing {
    fn new(tag: &str) -> Self {
        let office = Office::new(tag);
        let behind = Namespace::make().expect("it was made before");
        office.server.ip(&format!(
            "link add lan1 type veth peer name far1\nlink set far1 netns {} name lan0\n\
             address add 172.16.0.1/16 dev lan1\nlink set lan1 up\n",
            behind.id()
        ));
        behind.ip("link set lo up\nlink set lan0 up\n");
        for host in BEHIND {
            behind.ip(&format!("address add {host}/16 dev lan0\n"));
        }
        behind.ip("route add default via 172.16.0.1\n");
        office.server.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may"));
        let listeners =
            BEHIND.map(|host| behind.inside(|| TcpListener::bind((host, 7000)).expect("free")));
        Self { office, _behind: behind, listeners }
    }

    fn plan(&self, lan: &str) -> String {
        let path = self.office.path("site/site.toml");
        let text = fs::read_to_string(&path).expect("a site");
        let with =
            |line: &str| if line.starts_with("lan = [") { lan.into() } else { line.to_owned() };
        let lines: Vec<String> = text.lines().map(with).collect();
        fs::write(&path, lines.join("\n") + "\n").expect("written");
        self.office.plan("active")
    }

    /// Gives the client its tunnel, with all that is behind the router in it.
    fn connect(&self, plan: &str) {
        let office = &self.office;
        office.connect(plan);
        let server = office.vyr(&["server", "key", &office.link]);
        let allowed = "10.21.0.0/24,172.16.0.0/16";
        let set = ["set", &office.client_link, "peer", &server, "allowed-ips", allowed];
        office.client.run("wg", &set, "").expect("set");
        office.client.ip(&format!("route add 172.16.0.0/16 dev {}\n", office.client_link));
        until("the tunnel", || office.answers());
    }

    /// A connection to the host with this number; none: it does not come about.
    fn opens(&self, at: usize) -> Option<Pair> {
        let to = format!("{}:7000", BEHIND[at]).parse().expect("an address");
        let near = self.office.client.inside(|| TcpStream::connect_timeout(&to, NOTHING)).ok()?;
        Some(Pair { near, far: self.listeners[at].accept().expect("it came").0 })
    }

    /// The same, of what may begin.
    fn open(&self, at: usize) -> Pair {
        let mut pair = None;
        until("a connection", || {
            pair = self.opens(at);
            pair.is_some()
        });
        pair.expect("it was waited for")
    }
}

#[test]
fn what_a_narrower_plan_does_not_allow_is_cut_and_the_rest_goes_on() {
    let test = "narrow::what_a_narrower_plan_does_not_allow_is_cut_and_the_rest_goes_on";
    if !can(test) {
        return;
    }
    if !Path::new("/proc/net/nf_conntrack").exists() {
        return not_run(test, "the kernel does not list connections");
    }
    let place = Narrowing::new("q");
    let office = &place.office;
    let site = office.site();
    let wide = place.plan(WIDE);
    office.vyr(&office.apply(&site, &wide, &["--no-confirm"]));
    place.connect(&wide);
    let before = office.seen();
    let (mut stays, mut goes) = (place.open(0), place.open(1));
    for pair in [&mut stays, &mut goes] {
        assert!(pair.passes(HANG) && pair.comes_back(HANG));
    }

    // The twin: the narrower firewall alone, as an engineer would load it, lets both go on.
    let narrow = place.plan(NARROW);
    let rendered = office.path("rendered");
    let out = rendered.to_str().expect("UTF-8");
    office.vyr(&["plan", "--site", &site, "--render", out]);
    let table = fs::read_to_string(rendered.join("nas/nftables.json")).expect("rendered");
    office.server.nft(&table);
    assert!(place.opens(1).is_none(), "it is the narrower one");
    assert!(goes.passes(HANG) && goes.comes_back(HANG), "what has begun lives on");
    office.vyr(&office.apply(&site, &wide, &["--no-confirm"]));
    assert_eq!(office.seen(), before);
    assert!(goes.passes(HANG) && goes.comes_back(HANG));

    let output =
        office.output(&office.apply(&site, &narrow, &["--confirm-within", "600s", "--json"]));
    let body: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(body["uncut"], serde_json::Value::Null, "{body}");
    assert!(body["steps"].to_string().contains("may not begin any more"), "{body}");
    assert!(stays.passes(HANG) && stays.comes_back(HANG), "what is still allowed goes on");
    assert!(!goes.passes(NOTHING), "what is not is cut");
    assert!(!goes.comes_back(NOTHING), "also toward the device");
    assert!(place.opens(1).is_none());

    // Back: it may begin again, and what lived on lives on.
    office.vyr(&["rollback"]);
    assert_eq!(office.seen(), before);
    let mut again = place.open(1);
    assert!(again.passes(HANG) && stays.passes(HANG));

    // A way back is as narrow as its plan: what begins under a wider one that nobody keeps is cut.
    office.vyr(&office.apply(&site, &narrow, &["--no-confirm"]));
    assert!(stays.passes(HANG) && !again.passes(NOTHING));
    office.vyr(&["drift", "--machine", "nas", "--backend", "userspace"]);
    let wider = place.plan_after(&narrow);
    office.vyr(&office.apply(&site, &wider, &["--confirm-within", "600s"]));
    let mut while_it_waits = place.open(1);
    assert!(while_it_waits.passes(HANG));
    office.vyr(&["rollback"]);
    assert!(!while_it_waits.passes(NOTHING) && stays.passes(HANG));
}

impl Narrowing {
    /// The wide plan over another one, which is in force.
    fn plan_after(&self, applied: &str) -> String {
        let pointer = self.office.path("site/plans/applied.network");
        let named = fs::read_to_string(pointer).expect("written");
        assert_eq!(named.trim_end(), applied, "the next plan is over it");
        self.plan(WIDE)
    }
}
