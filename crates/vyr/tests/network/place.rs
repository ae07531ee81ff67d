//! A machine of a plan among its neighbours, each a network namespace.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use vyr_base::Source;
use vyr_plan::plan::Machine;
use vyr_plan::{Files, Lock, Plan, allocate, compile, prove};
use vyr_space::Namespace;

/// Whether what these tests need is there; says so if not.
pub(crate) fn is_able(test: &str) -> bool {
    vyr_space::is_able(test, &["nft"])
}

/// The transaction without the commands that `gone` says.
pub(crate) fn without(firewall: &str, gone: impl Fn(usize, &str) -> bool) -> String {
    let mut lines: Vec<&str> = firewall.lines().collect();
    let (head, tail) = (lines.remove(0), lines.pop().expect("it ends"));
    let left = lines.iter().enumerate().filter(|(at, line)| !gone(*at, line));
    let left: Vec<&str> = left.map(|(_, line)| line.trim_end_matches(',')).collect();
    format!("{head}\n{}\n{tail}\n", left.join(",\n"))
}

/// Changes to the worked site, each a text that must be there and what replaces it.
pub(crate) type Changes<'a> = &'a [(&'a str, &'a str)];

/// The plan of the worked site with some changes.
pub(crate) fn office(changes: Changes<'_>) -> Plan {
    let mut site = include_str!("../../../../examples/office/site.toml").to_owned();
    let mut clients = include_str!("../../../../examples/office/clients.toml").to_owned();
    for (old, new) in changes {
        assert!(site.contains(old) || clients.contains(old), "{old}");
        site = site.replace(old, new);
        clients = clients.replace(old, new);
    }
    let files = Files {
        clients: Some(Source::new("clients.toml", clients)),
        ..Files::new(Source::new("site.toml", site))
    };
    let intent = files.read().expect("it is read");
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    let plan = compile(&intent, &lock).expect("it compiles");
    assert_eq!(prove(&plan, None), []);
    plan
}

/// As its settings below `/proc/sys/net` say.
fn set(space: &Namespace, settings: &[(&str, &str)]) {
    space.inside(|| {
        for (name, value) in settings {
            let path = format!("/proc/sys/net/{name}");
            fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
    });
}

fn raw(space: &Namespace, family: AddressFamily) -> OwnedFd {
    space.inside(|| socket(family, SocketType::RAW, Some(ipproto::RAW)).expect("root may"))
}

/// What is behind one interface of a machine: it sends any packet, and answers as who it is told.
pub(crate) struct Side {
    /// The machine's interface.
    pub(crate) name: String,
    pub(crate) space: Namespace,
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Side {
    /// Sends a whole packet, header and all.
    pub(crate) fn send(&self, to: IpAddr, packet: &[u8]) {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let sent = sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0));
        // What it refuses to send is missed where it should arrive.
        let _ = sent;
    }
}

/// A machine: its links are interfaces of that name, its local networks are behind `lan0`, and the
/// rest of the world is behind `wan0`.
pub(crate) struct Site {
    pub(crate) machine: Namespace,
    pub(crate) sides: Vec<Side>,
}

/// The machine's own addresses outside: documentation has them (RFC 5737, RFC 3849).
pub(crate) const OUTSIDE: [&str; 2] = ["198.51.100.2", "2001:db8:ffff::2"];

/// The hardware address of an end: the machine's or the other one.
fn mac(at: usize, far: bool) -> String {
    format!("02:00:00:00:{at:02x}:{:02x}", u8::from(far))
}

impl Site {
    pub(crate) fn new(plan: &Plan, of: &Machine) -> Self {
        let machine = Namespace::make().expect("it was made before");
        let loose = [
            // Sources are WireGuard's to check, and strangers' packets must arrive to be judged.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
        ];
        set(&machine, &loose);
        let names = of.links.iter().map(|link| link.name.clone());
        let names: Vec<String> = names.chain(["lan0".into(), "wan0".into()]).collect();
        let mut commands = String::from("link set lo up\n");
        for (at, name) in names.iter().enumerate() {
            let (near, far) = (mac(at, false), mac(at, true));
            let _ = writeln!(
                commands,
                "link add {name} address {near} type veth peer name far{at} address {far}"
            );
            let _ = writeln!(commands, "link set {name} up");
        }
        for link in &of.links {
            for address in &link.addresses {
                let nodad = if address.addr().is_ipv6() { "nodad" } else { "" };
                let _ = writeln!(commands, "address add {address} dev {} {nodad}", link.name);
            }
        }
        for own in &of.management {
            let lans = plan.interfaces.iter().flat_map(|interface| &interface.lan);
            let lan = lans.into_iter().find(|lan| lan.contains(own));
            let whole = if own.is_ipv4() { 32 } else { 128 };
            let bits = lan.map_or(whole, |lan| lan.prefix_len());
            let nodad = if own.is_ipv6() { "nodad" } else { "" };
            let _ = writeln!(commands, "address add {own}/{bits} dev lan0 {nodad}");
        }
        let outer = mac(names.len() - 1, true);
        for (own, bits, gateway) in
            [(OUTSIDE[0], 24, "198.51.100.1"), (OUTSIDE[1], 64, "2001:db8:ffff::1")]
        {
            let nodad = if bits == 64 { "nodad" } else { "" };
            let _ = writeln!(commands, "address add {own}/{bits} dev wan0 {nodad}");
            let _ =
                writeln!(commands, "neighbour add {gateway} lladdr {outer} dev wan0 nud permanent");
            let _ = writeln!(commands, "route add default via {gateway} dev wan0");
        }
        machine.ip(&commands);
        let sides = names.into_iter().enumerate();
        let sides = sides.map(|(at, name)| Self::beside(&machine, at, name)).collect();
        Self { machine, sides }
    }

    fn beside(machine: &Namespace, at: usize, name: String) -> Side {
        let space = Namespace::make().expect("it was made before");
        machine.ip(&format!("link set far{at} netns {} name far\n", space.id()));
        let gateway = mac(at, false);
        // Everything goes to the machine, whose answer to a question for its address is not
        // waited for.
        space.ip(&format!(
            "link set lo up\n\
             address add 169.254.1.2/32 dev far\n\
             link set far up\n\
             neighbour add 169.254.1.1 lladdr {gateway} dev far nud permanent\n\
             neighbour add fe80::1 lladdr {gateway} dev far nud permanent\n\
             route add default via 169.254.1.1 dev far onlink\n\
             route add default via fe80::1 dev far onlink\n"
        ));
        let (v4, v6) = (raw(&space, AddressFamily::INET), raw(&space, AddressFamily::INET6));
        Side { name, space, v4, v6 }
    }

    /// Gives a side addresses: then it answers to them. The machine is told who has them, since
    /// nobody asks a link's neighbours for theirs, and a firewall for links lets nobody answer.
    pub(crate) fn is_at(&self, name: &str, addresses: &[IpAddr]) {
        let at = self.sides.iter().position(|side| side.name == name).expect("it is there");
        for ip in addresses {
            let (bits, nodad) = if ip.is_ipv4() { (32, "") } else { (128, "nodad") };
            self.sides[at].space.ip(&format!("address add {ip}/{bits} dev far {nodad}\n"));
            let far = mac(at, true);
            self.machine.ip(&format!("neighbour add {ip} lladdr {far} dev {name} nud permanent\n"));
        }
    }

    /// What is behind an interface.
    pub(crate) fn side(&self, name: &str) -> &Side {
        self.sides.iter().find(|side| side.name == name).expect("it is there")
    }
}
