//! What belongs to a connection passes, what begins one toward a link does not, and who goes to the
//! internet leaves with the machine's address.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use vyr_plan::{Packet, Plan, render};

use crate::packet;
use crate::place::{OUTSIDE, Side, Site, is_able, office, without};

/// A packet that has not arrived after this time does not: the way has no network in it.
const ARRIVES: Duration = Duration::from_secs(2);

/// Errors that arrive at a client, by who sent them.
const PROBE: &str = "\
add table inet probe
delete table inet probe
table inet probe {
    set errors4 { type ipv4_addr; size 100; flags dynamic; }
    set errors6 { type ipv6_addr; size 100; flags dynamic; }
    chain input {
        type filter hook input priority 0; policy accept;
        icmp type destination-unreachable add @errors4 { ip saddr }
        icmpv6 type packet-too-big add @errors6 { ip6 saddr }
    }
}
";

/// What happened, in one family.
#[derive(Debug, PartialEq, Eq)]
struct Story {
    /// A local host got a client's packet, and saw it come from the client.
    arrives: bool,
    /// The client got its answer.
    answer: bool,
    /// It also got the host's word that another packet was too big, and no such word of one that
    /// it never sent.
    too_big: (bool, bool),
    /// A packet that the host sends on its own got to the client.
    begun: bool,
    /// As whom the internet saw the client, if at all.
    outside: Option<IpAddr>,
    /// Whether the internet saw a client whose profile has none.
    split: bool,
}

fn socket(side: &Side, at: IpAddr) -> UdpSocket {
    side.space.inside(|| {
        let socket = UdpSocket::bind(SocketAddr::new(at, 0)).expect("its own address");
        socket.set_read_timeout(Some(ARRIVES)).expect("a time");
        socket
    })
}

/// Who sent what arrives first, and what it is; nobody, if nothing does.
fn arrives(socket: &UdpSocket) -> Option<(SocketAddr, String)> {
    let mut bytes = [0; 64];
    loop {
        return match socket.recv_from(&mut bytes) {
            Ok((n, from)) => Some((from, String::from_utf8_lossy(&bytes[..n]).into_owned())),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(e) => panic!("{e}"),
        };
    }
}

fn send(what: &str, from: &UdpSocket, to: &UdpSocket) {
    from.send_to(what.as_bytes(), to.local_addr().expect("bound")).expect("it is sent");
}

/// An error about a UDP packet, as `from` sends it: IPv6's packet too big, or IPv4's need to break
/// it up.
fn too_big(from: IpAddr, about: (SocketAddr, SocketAddr)) -> (IpAddr, Vec<u8>) {
    let (source, to) = about;
    let quoted = Packet { from: source.ip(), to: to.ip(), protocol: 17, port: to.port() };
    let ports = [source.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let quote = packet::around(&quoted, [&ports[..], &[0, 13, 0, 0], b"hello"].concat(), Some(6));
    let ipv4 = from.is_ipv4();
    let (protocol, start): (u8, [u8; 8]) = match ipv4 {
        true => (1, [3, 4, 0, 0, 0, 0, 5, 120]),
        false => (58, [2, 0, 0, 0, 0, 0, 5, 120]),
    };
    let packet = Packet { from, to: source.ip(), protocol, port: 0 };
    // A short one is padded to an even length.
    let body = [&start[..], &quote, &[0; 1][..quote.len() % 2]].concat();
    (source.ip(), packet::around(&packet, body, Some(2)))
}

/// The addresses of a client on the machine, of one family.
fn address(plan: &Plan, client: &str, ipv4: bool) -> IpAddr {
    let addresses = &plan.client(client).expect("it is there").addresses;
    let of = addresses.iter().find(|of| of.server.as_str() == "router-north");
    let mut own = of.expect("it is there").addresses.iter().map(|net| net.addr());
    own.find(|ip| ip.is_ipv4() == ipv4).expect("it has one")
}

fn parsed(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

struct Cast {
    full: IpAddr,
    split: IpAddr,
    host: IpAddr,
    other_host: IpAddr,
    internet: IpAddr,
}

fn cast(plan: &Plan, ipv4: bool) -> Cast {
    let pick = |v4: &str, v6: &str| parsed(if ipv4 { v4 } else { v6 });
    Cast {
        full: address(plan, "ana-laptop", ipv4),
        split: address(plan, "ben-phone", ipv4),
        host: pick("192.168.10.77", "fd3a:91c2:77e0:10::77"),
        other_host: pick("192.168.10.78", "fd3a:91c2:77e0:10::78"),
        internet: pick("1.1.1.1", "2606:4700::1111"),
    }
}

fn tell(site: &Site, firewall: &str, cast: &Cast) -> Story {
    site.machine.nft(firewall);
    let (clients, lan) = (site.side("vyr-north"), site.side("lan0"));
    clients.space.nft(PROBE);
    let (client, host) = (socket(clients, cast.full), socket(lan, cast.host));
    send("hello", &client, &host);
    let from = arrives(&host).map(|(from, _)| from);
    send("answer", &host, &client);
    let answer = arrives(&client).is_some_and(|(_, what)| what == "answer");

    let own = |socket: &UdpSocket| socket.local_addr().expect("bound");
    let mut never = own(&client);
    never.set_port(never.port().wrapping_add(1).max(1));
    for (by, about) in [(cast.host, own(&client)), (cast.other_host, never)] {
        let (to, bytes) = too_big(by, (about, own(&host)));
        lan.send(to, &bytes);
    }
    // The client's side has seen everything that was sent before this is heard.
    let probe = if cast.host.is_ipv4() { "errors4" } else { "errors6" };
    let heard = clients.space.elements("probe", probe);
    let heard = |by: IpAddr| heard.iter().any(|element| element.as_str() == Some(&by.to_string()));

    // What passes comes after what should not, on the same way: whichever arrives first tells.
    let stranger = socket(lan, cast.host);
    send("begun", &stranger, &client);
    send("answer", &host, &client);
    let begun = arrives(&client).is_some_and(|(_, what)| what == "begun");

    let internet = socket(site.side("wan0"), cast.internet);
    let other = socket(clients, cast.split);
    send("split", &other, &internet);
    send("full", &client, &internet);
    let outside = arrives(&internet);
    let split = outside.as_ref().is_some_and(|(_, what)| what == "split");
    Story {
        arrives: from == Some(own(&client)),
        answer,
        too_big: (heard(cast.host), heard(cast.other_host)),
        begun,
        outside: outside.map(|(from, _)| from.ip()),
        split,
    }
}

#[test]
fn answers_and_errors_pass_and_nothing_begins_toward_a_link() {
    if !is_able("answers::answers_and_errors_pass_and_nothing_begins_toward_a_link") {
        return;
    }
    let plan = office(&[]);
    let machine = plan.machine("router-north").expect("it is there");
    let site = Site::new(&plan, machine);
    let plain = render::firewall(machine).expect("it renders");
    for (ipv4, outside) in [true, false].into_iter().zip(OUTSIDE) {
        let cast = cast(&plan, ipv4);
        site.is_at("vyr-north", &[cast.full, cast.split]);
        site.is_at("lan0", &[cast.host, cast.other_host]);
        site.is_at("wan0", &[cast.internet]);
        let good = Story {
            arrives: true,
            answer: true,
            too_big: (true, false),
            begun: false,
            outside: Some(parsed(outside)),
            split: false,
        };
        assert_eq!(tell(&site, &plain, &cast), good);

        // The same with a defect, and what it changes.
        let related = r#"["related",{"goto":{"target":"errors"}}]"#;
        assert!(plain.contains(related));
        let deaf = plain.replace(related, r#"["related",{"drop":null}]"#);
        assert_eq!(tell(&site, &deaf, &cast), Story { too_big: (false, false), ..good });
        let shown = without(&plain, |_, line| line.contains("masquerade"));
        assert_eq!(tell(&site, &shown, &cast), Story { outside: Some(cast.full), ..good });
        let established = r#"["established",{"accept":null}]"#;
        let mute = plain.replace(established, r#"["established",{"drop":null}]"#);
        assert!(!tell(&site, &mute, &cast).answer);
    }
}
