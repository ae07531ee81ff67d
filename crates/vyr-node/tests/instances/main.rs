//! Links of instances in namespaces: who reaches whom, shown with packets. Without the usual harness,
//! because the process `net` is this binary started again.
//!
//! That nothing came is known by what came after it: a guest's frames are taken in order, so once the
//! ingress has had an answer from it, what it sent before was looked at.

mod guest;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::{
    CapabilitySet, Gid, Uid, remove_capability_from_bounding_set, set_thread_res_gid,
    set_thread_res_uid,
};
use smoltcp::socket::tcp::State;
use vyr_base::{Category, Problem};
use vyr_net::words::InstanceAddress;
use vyr_node::process::{Attached, NetDoor, Role, serve};
use vyr_space::{Namespace, is_able, not_run};

use guest::{ECHO, Guest, HIDDEN};

/// Nothing here takes a tenth of it; what does hangs.
const HANG: Duration = Duration::from_secs(60);
/// The ingress's user, and somebody.
const INGRESS: u32 = 60_804;
const SOMEBODY: u32 = 64_444;
/// Where the host serves something that is nobody's business.
const SERVED: u16 = 7777;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    let trials = vec![
        trial("only_the_ingress_reaches_a_guest", only_the_ingress),
        trial("a_guest_reaches_nobody", a_guest_reaches_nobody),
        trial("what_a_guest_says_it_is_counts_for_nothing", spoofed),
        trial("a_link_is_there_as_long_as_its_machine", as_long_as),
        trial("without_rights_it_is_said", without_rights),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, body: fn(&str)) -> Trial {
    let full = format!("instances::{name}");
    Trial::test(name, move || -> Result<(), Failed> {
        body(&full);
        Ok(())
    })
}

fn able(test: &str) -> Option<Namespace> {
    if !is_able(test, &["nft"]) {
        return None;
    }
    if !Path::new("/dev/net/tun").exists() {
        not_run(test, "there is no /dev/net/tun");
        return None;
    }
    let space = Namespace::make().expect("it was made before");
    space.line("ip link set lo up");
    // A host that would forward: that nothing is forwarded is the table's work.
    space.inside(|| fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")).expect("root may");
    Some(space)
}

/// Instances whose ids are these letters, at addresses that end in their numbers.
fn instances(letters: &str) -> Vec<InstanceAddress> {
    letters
        .bytes()
        .map(|letter| InstanceAddress {
            instance: format!("i-{}", char::from(letter)),
            guest: Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, u16::from(letter)),
        })
        .collect()
}

fn attach(door: &NetDoor, of: &InstanceAddress) -> Guest {
    let attached = door.attach(&of.instance, of.guest).expect("it is set up");
    let Attached { tap, mac, gateway, .. } = attached;
    Guest::start(tap, mac, of.guest, gateway)
}

/// A connection that a user opens.
fn as_user(space: &Namespace, uid: u32, to: Ipv6Addr, port: u16) -> io::Result<TcpStream> {
    space.inside(|| {
        set_thread_res_gid(Gid::from_raw(uid), Gid::from_raw(uid), Gid::from_raw(uid))?;
        set_thread_res_uid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid))?;
        let stream = TcpStream::connect_timeout(&(to, port).into(), HANG)?;
        stream.set_read_timeout(Some(HANG))?;
        Ok(stream)
    })
}

/// Whether a user's connection comes about. What was sent for it was looked at, and has been answered
/// if it is, once the guest has answered over a connection that is open.
fn reaches(space: &Namespace, uid: u32, guest: &Guest, open: &TcpStream) -> bool {
    let socket = space.inside(|| {
        set_thread_res_gid(Gid::from_raw(uid), Gid::from_raw(uid), Gid::from_raw(uid))?;
        set_thread_res_uid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid))?;
        let (family, kind) = (AddressFamily::INET6, SocketType::STREAM);
        let socket = socket_with(family, kind, SocketFlags::NONBLOCK, None)?;
        match connect(&socket, &SocketAddrV6::new(guest.address, ECHO, 0, 0)) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok::<_, Errno>(socket),
            Err(e) => Err(e),
        }
    });
    let socket = socket.expect("it can be begun");
    echoes(open);
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&now)).expect("a socket") > 0
}

#[track_caller]
fn echoes(mut stream: &TcpStream) {
    let mut heard = [0; 5];
    stream.write_all(b"hello").expect("it takes it");
    stream.read_exact(&mut heard).expect("it answers");
    assert_eq!(&heard, b"hello");
}

/// After this, what the guest sent before was looked at, and what was sent to it before has come.
fn fence(space: &Namespace, guest: &Guest) {
    echoes(&as_user(space, INGRESS, guest.address, ECHO).expect("the ingress may"));
}

fn unguarded(space: &Namespace) {
    space.line("nft delete table inet vyr_services");
}

/// Runs a test's work in a thread that is in the namespace, with a door whose process is too.
fn with_door(test: &str, work: impl FnOnce(&Namespace, &NetDoor) + Send) {
    let Some(space) = able(test) else { return };
    let data = tempfile::tempdir().expect("room");
    space.inside(|| work(&space, &NetDoor::alone(data.path())));
}

fn only_the_ingress(test: &str) {
    with_door(test, |space, door| {
        let all = instances("ab");
        door.isolate(all.clone(), INGRESS).expect("a table");
        let guest = attach(door, &all[0]);
        let open = as_user(space, INGRESS, guest.address, ECHO).expect("the ingress may");
        echoes(&open);
        for user in [0, SOMEBODY] {
            assert!(!reaches(space, user, &guest, &open), "{user}");
        }
        // The judge sees what it looks for.
        assert!(reaches(space, INGRESS, &guest, &open));
        // Neither does the ingress reach it otherwise than over TCP.
        let ping = ["-6", "-c", "1", "-W", "1", &guest.address.to_string()];
        assert!(space.run("ping", &ping, "").is_err());
        // Others come and go; a connection that is open does not notice.
        door.isolate(instances("abc"), INGRESS).expect("a table");
        echoes(&open);
        door.isolate(instances("a"), INGRESS).expect("a table");
        echoes(&open);
        // One that the table does not have can be reached by nobody.
        door.isolate(instances("b"), INGRESS).expect("a table");
        let listed = space.line("nft list table inet vyr_services");
        assert!(!listed.contains(&guest.address.to_string()), "{listed}");
        space.line("nft flush chain inet vyr_services prerouting");
        assert!(!reaches(space, INGRESS, &guest, &open));
        // The twin: it is the table that does this.
        unguarded(space);
        echoes(&as_user(space, SOMEBODY, guest.address, ECHO).expect("nobody forbids it"));
    });
}

fn a_guest_reaches_nobody(test: &str) {
    with_door(test, |space, door| {
        let all = instances("ab");
        door.isolate(all.clone(), INGRESS).expect("a table");
        let (a, b) = (attach(door, &all[0]), attach(door, &all[1]));
        space.line("ip -6 addr add fd00:99::1/128 dev lo");
        let host: Ipv6Addr = "fd00:99::1".parse().expect("an address");
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, SERVED)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        // Neighbours know each other by now.
        fence(space, &a);
        fence(space, &b);
        for to in [vyr_net::GATEWAY, host] {
            a.connect(SocketAddrV6::new(to, SERVED, 0, 0));
            assert_eq!(a.asked(), State::SynSent);
            fence(space, &a);
            assert_eq!(a.asked(), State::SynSent, "{to} says nothing, not even no");
            let nobody = listener.accept().expect_err("nobody comes");
            assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
        }
        a.connect(SocketAddrV6::new(b.address, HIDDEN, 0, 0));
        assert_eq!(a.asked(), State::SynSent);
        fence(space, &a);
        fence(space, &b);
        assert_eq!((a.asked(), b.hidden()), (State::SynSent, State::Listen));
        // The twin: it is the table that does this.
        unguarded(space);
        for (to, port) in [(host, SERVED), (b.address, HIDDEN)] {
            a.connect(SocketAddrV6::new(to, port, 0, 0));
            let deadline = std::time::Instant::now() + HANG;
            while a.asked() != State::Established {
                assert!(std::time::Instant::now() < deadline, "{to} is not reached");
            }
        }
    });
}

/// A frame of IPv6 without a payload that means anything.
fn frame(of: &Guest, gateway_mac: [u8; 6], from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(gateway_mac);
    frame.extend(of.mac);
    frame.extend([0x86, 0xdd]);
    // Version 6, eight bytes of UDP, hop limit 64.
    frame.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend([0x30, 0x39, 0x30, 0x39, 0, 8, 0, 0]);
    frame
}

fn spoofed(test: &str) {
    with_door(test, |space, door| {
        let all = instances("ab");
        door.isolate(all.clone(), INGRESS).expect("a table");
        let (a, b) = (attach(door, &all[0]), attach(door, &all[1]));
        let interface = vyr_net::interface(&all[0].instance).expect("a name");
        // Somebody who looks on, behind the rule about sources and before all others.
        space.line("nft add table inet looks");
        space.line("nft add chain inet looks on { type filter hook prerouting priority -299 ; }");
        space.line(&format!(
            "nft add rule inet looks on iifname {interface} udp dport 12345 counter"
        ));
        let seen = || {
            let listed = space.line("nft list chain inet looks on");
            let (_, rest) = listed.split_once("counter packets ").expect("a counter");
            rest.split(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
        };
        let text = space.line(&format!("ip -o link show {interface}"));
        let octets = text.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
        let octets: Vec<u8> = octets
            .expect("a card")
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).expect("hexadecimal"))
            .collect();
        let host_mac: [u8; 6] = octets.try_into().expect("six");
        let outside: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let lies = [b.address, outside, vyr_net::GATEWAY, Ipv6Addr::UNSPECIFIED];
        for from in lies {
            a.send(frame(&a, host_mac, from, vyr_net::GATEWAY));
        }
        fence(space, &a);
        assert_eq!(seen(), 0, "none of them was let in");
        // Its own address is seen, and then refused by the next rule.
        a.send(frame(&a, host_mac, a.address, vyr_net::GATEWAY));
        fence(space, &a);
        assert_eq!(seen(), 1);
        // Nothing that it says about routers or addresses is taken.
        for setting in ["accept_ra", "accept_redirects", "autoconf"] {
            let path = format!("/proc/sys/net/ipv6/conf/{interface}/{setting}");
            assert_eq!(fs::read_to_string(&path).expect("a setting").trim(), "0", "{setting}");
        }
        // The twin: it is the rule about sources that does this. The kernel itself refuses its own
        // address and none at all.
        space.line("nft flush chain inet vyr_services prerouting");
        for from in lies {
            a.send(frame(&a, host_mac, from, vyr_net::GATEWAY));
        }
        fence(space, &a);
        assert!(seen() >= 3, "{}", seen());
        // A link is not set up while the rules are not whole.
        let refused = door.attach(&all[1].instance, all[1].guest).expect_err("a rule is missing");
        assert_eq!(refused.category(), Category::Conflict, "{refused}");
    });
}

fn as_long_as(test: &str) {
    with_door(test, |space, door| {
        let all = instances("ab");
        let is_there = |of: &InstanceAddress| {
            let name = vyr_net::interface(&of.instance).expect("a name");
            space.run("ip", &["link", "show", &name], "").is_ok()
        };
        // No rules, no link.
        let refused = door.attach("i-a", all[0].guest).expect_err("no rules yet");
        assert_eq!(refused.category(), Category::Conflict, "{refused}");
        assert!(!is_there(&all[0]));
        door.isolate(all.clone(), INGRESS).expect("a table");
        let wrong = door.attach("i-a", all[1].guest).expect_err("another's address");
        assert_eq!(wrong.category(), Category::Conflict, "{wrong}");
        let first = door.attach("i-a", all[0].guest).expect("it is set up");
        let listed = space.line(&format!("ip -6 route show dev {} proto 86", first.interface));
        assert!(listed.starts_with(&all[0].guest.to_string()), "{listed}");
        // Twice at once it is not to be had, and the first one stays.
        door.attach("i-a", all[0].guest).expect_err("somebody has it");
        assert!(is_there(&all[0]));
        // The plan's view of this host has none of it.
        let observed = vyr_net::Backend::read(&mut vyr_net::Kernel::default()).expect("it is read");
        assert_eq!(observed.state, vyr_net::State::default());
        // Whoever had it is gone: so is the link, and it can be had again.
        drop(first);
        assert!(!is_there(&all[0]));
        let again = door.attach("i-a", all[0].guest).expect("it is set up");
        let other = door.attach("i-b", all[1].guest).expect("it is set up");
        assert!(door.detach("i-a").expect("it is removed") && !is_there(&all[0]));
        assert!(!door.detach("i-a").expect("there is none"));
        assert!(is_there(&all[1]));
        // With links there, a table without anybody still keeps them apart.
        door.isolate(Vec::new(), INGRESS).expect("a table");
        assert!(space.line("nft list tables").contains("vyr_services"));
        drop((again, other));
        door.isolate(Vec::new(), INGRESS).expect("no table");
        assert!(!space.line("nft list tables").contains("vyr_services"));
    });
}

fn without_rights(test: &str) {
    let data = tempfile::tempdir().expect("room");
    let ask = || {
        let door = NetDoor::alone(data.path());
        let all = instances("a");
        let isolated = door.isolate(all.clone(), INGRESS).expect_err("it may not");
        let attached = door.attach(&all[0].instance, all[0].guest).expect_err("it may not");
        for refused in [isolated, attached] {
            assert!(
                refused.to_string().contains("is not available: this node has no CAP_NET_ADMIN")
            );
            assert_eq!(refused.hint().as_deref(), Some("run the node as root"), "{refused}");
        }
    };
    if !rustix::process::geteuid().is_root() {
        return ask();
    }
    let Some(space) = Namespace::make() else {
        return not_run(test, "may not make network namespaces");
    };
    space.inside(|| {
        let gone = remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN);
        gone.expect("this thread's own");
        ask();
    });
}
