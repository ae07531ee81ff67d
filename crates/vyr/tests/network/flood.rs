//! A hostile neighbour: it pretends to be hundreds of hosts, and shakes hands thousands of times. An
//! apply, its confirmation and the packets of others go on.
//!
//! What it sends is real: the first message of a handshake, as `wireguard-go` makes it for the
//! server's public key, with a key that the server does not know; and beginnings of connections, whose
//! answers make the server look for neighbours that are not there. It sends for as long as the apply
//! takes. Pings would not do: the kernel answers those of all namespaces through one socket, and what
//! waits there for a neighbour that nobody is keeps every other answer from being sent.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use vyr_plan::Packet;
use vyr_space::{Namespace, Plane};

use crate::apply::{HANG, Office, can, until};
use crate::packet;
use crate::roam::Ben;

/// The server on the hostile wire, where it has a network of 65,534 neighbours.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
/// The hostile host itself.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
/// Neighbours that it pretends to be. The kernel has one table of those for all namespaces: with
/// 1,024 in it (`gc_thresh3`) it looks for nobody else, and other tests would wait for that.
const NEIGHBOURS: u32 = 300;
/// Handshakes that it begins before anything else happens; it goes on until all is over.
const HANDSHAKES: u32 = 3_000;
/// A service of the server, towards the hostile wire.
const OPEN: u16 = 7002;
/// Packets that it sends between two rests, each as long as a packet's way: the processors are
/// everybody's, and who floods them is not what is looked at here.
const BURST: u32 = 20;
const REST: Duration = Duration::from_millis(5);

/// The hostile host, on a wire of its own.
struct Hostile {
    space: Namespace,
    raw: OwnedFd,
    /// The first message of a handshake with the server.
    hello: Vec<u8>,
}

impl Hostile {
    fn new(office: &Office) -> Self {
        let space = Namespace::make().expect("it was made before");
        office.server.ip(&format!(
            "link add wan0 type veth peer name far2\nlink set far2 netns {} name wan0\n\
             address add {NEAR}/16 dev wan0\nlink set wan0 up\n",
            space.id()
        ));
        space.ip(&format!("link set lo up\naddress add {FAR}/16 dev wan0\nlink set wan0 up\n"));
        let hello = Self::hello(office, &space);
        let raw = || socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
        let raw = space.inside(|| raw().expect("root may"));
        Self { space, raw, hello }
    }

    /// What a data plane says first to the server, heard where the server is not.
    fn hello(office: &Office, space: &Namespace) -> Vec<u8> {
        let link = office.client_link.replacen('c', "h", 1);
        let _plane = Plane::start(space, &link);
        let ear = space.inside(|| UdpSocket::bind("127.0.0.1:5182").expect("free"));
        ear.set_read_timeout(Some(HANG)).expect("a time");
        let key = office.path("hostile.key");
        let private = space.run("wg", &["genkey"], "").expect("wg is there");
        fs::write(&key, private).expect("written");
        let server = office.vyr(&["server", "key", &office.link]);
        let key = key.to_str().expect("UTF-8");
        let set = ["set", &link, "private-key", key, "peer", &server];
        let to = ["endpoint", "127.0.0.1:5182", "allowed-ips", "10.21.0.0/24"];
        space
            .run("wg", &[&set[..], &to[..], &["persistent-keepalive", "1"]].concat(), "")
            .expect("set");
        space.ip(&format!("link set {link} up\n"));
        let mut bytes = [0; 256];
        let (length, _) = ear.recv_from(&mut bytes).expect("it speaks");
        assert_eq!((length, bytes[0]), (148, 1), "the first message of a handshake");
        bytes[..length].to_vec()
    }

    fn send(&self, packet: &[u8]) {
        let to = SocketAddr::new(IpAddr::V4(NEAR), 0);
        // A full queue drops it, as a wire would.
        let _ = sendto(&self.raw, packet, SendFlags::empty(), &to);
    }

    /// Packets from one neighbour that is not there.
    fn pretend(&self, number: u32) {
        let at = number % NEIGHBOURS;
        let from = Ipv4Addr::from_bits(FAR.to_bits() + 1 + at);
        let of = |protocol, port| Packet { from: from.into(), to: NEAR.into(), protocol, port };
        self.send(&packet::bytes(&of(6, OPEN), number));
        let length = u16::try_from(8 + self.hello.len()).expect("it is short").to_be_bytes();
        let from_port = u16::try_from(1024 + number % 60_000).expect("a port").to_be_bytes();
        // Without a checksum, which IPv4 allows.
        let head = [&from_port[..], &51_820_u16.to_be_bytes(), &length, &[0, 0]].concat();
        self.send(&packet::around(&of(17, 51_820), [&head[..], &self.hello].concat(), None));
    }

    /// Pretends until it is told to stop.
    fn floods(&self, is_done: &AtomicBool, sent: &AtomicU32) {
        while !is_done.load(Ordering::Relaxed) {
            for _ in 0..BURST {
                self.pretend(sent.fetch_add(1, Ordering::Relaxed));
            }
            std::thread::sleep(REST);
        }
    }
}

impl Office {
    /// Neighbours that the server looks for or has heard of, on the hostile wire.
    fn neighbours(&self) -> usize {
        let told = self.server.run("ip", &["neighbour", "show", "dev", "wan0"], "");
        told.expect("ip is there").lines().count()
    }

    /// Bytes that came to the server's hostile wire.
    fn came(&self) -> u64 {
        let read = || fs::read_to_string("/proc/thread-self/net/dev").expect("a list");
        let text = self.server.inside(read);
        let line = text.lines().find_map(|line| line.trim().strip_prefix("wan0:"));
        let first = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        first.expect("a number")
    }
}

#[test]
fn a_flood_of_neighbours_and_handshakes_holds_up_nothing() {
    if !can("flood::a_flood_of_neighbours_and_handshakes_holds_up_nothing") {
        return;
    }
    let office = Office::new("h");
    let site = office.site();
    let plan = office.plan_of(&[("ana", 0, "active"), ("ben", 1, "active")]);
    office.vyr(&office.apply(&site, &plan, &["--no-confirm"]));
    let ben = Ben::new(&office);
    ben.connect(&office, &plan);
    office.connect(&plan);
    until("the tunnel", || office.answers());
    let hostile = Hostile::new(&office);
    let open = |at: (Ipv4Addr, u16)| office.server.inside(|| TcpListener::bind(at).expect("free"));
    let _open = [open((NEAR, OPEN)), open((Ipv4Addr::LOCALHOST, 7001))];
    let (quiet, before) = (office.came(), office.seen());
    let more = office.plan_of(&[("ana", 0, "active"), ("ben", 1, "active"), ("cat", 2, "active")]);

    let (is_done, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let (asked, answered) = std::thread::scope(|scope| {
        scope.spawn(|| hostile.floods(&is_done, &sent));
        // Also when what follows fails.
        let _end = Ends(&is_done);
        until("a flood", || sent.load(Ordering::Relaxed) > HANDSHAKES);
        let counting = ben.sends();
        let probe = ["--probe", "127.0.0.1:7001"];
        for _ in 0..3 {
            let within = [&["--confirm-within", "60s"][..], &probe].concat();
            office.vyr(&office.apply(&site, &more, &within));
            office.vyr(&["rollback"]);
        }
        assert_eq!(office.seen(), before);
        office.vyr(&office.apply(
            &site,
            &more,
            &[&["--confirm-within", "60s"][..], &probe].concat(),
        ));
        office.vyr(&["confirm", "--site", &site]);
        assert_eq!(office.drift(), "");
        let counted = counting.stop();
        until("others' packets", || office.answers() && ben.answers());
        counted
    });
    let (sent, came) = (sent.load(Ordering::Relaxed), office.came() - quiet);
    let looked_for = office.neighbours();
    println!(
        "{sent} handshakes of {NEIGHBOURS} neighbours, {came} bytes of them came, {looked_for} were looked for; \
         {answered} of {asked} of another's packets were answered"
    );
    // The judge sees a flood: most of it came, and the server looks for who is not there.
    assert!(came > u64::from(sent) * 100 && looked_for > 50, "{came} bytes, {looked_for}");
    assert!(asked > 20 && answered * 2 > asked, "{answered} of {asked}");
    drop(hostile.space);
    until("the tunnel", || office.answers());
}

/// Says at its end that it is done.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
