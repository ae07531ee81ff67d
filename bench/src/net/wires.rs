//! Two switches and who is plugged into them: a device outside, routers between, a printer inside.
//!
//! ```text
//! device (tunnel) -- br0 -- router (link) -- br1 -- printer
//!                      \--- spare  (link) ---/
//! ```
//!
//! All of it is made for one measurement and gone after it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::place::Plane;
use crate::space::Namespace;

/// A router: its name and data directory, its address outside and inside, the third number of its
/// tunnel's addresses, `10.N.0.0/24`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) outside: &'static str,
    inside: &'static str,
    pub(super) number: u8,
}

/// Two servers of one role.
pub(super) const PLACES: [Place; 2] = [
    Place { name: "nas", outside: "192.168.77.5", inside: "192.168.78.1", number: 21 },
    Place { name: "spare", outside: "192.168.77.6", inside: "192.168.78.2", number: 22 },
];

/// WireGuard's own, and what a plan gives these links.
pub(super) const MTU: &str = "1420";

/// A host behind the routers.
pub(super) const PRINTER: &str = "192.168.78.9";
const DEVICE: &str = "192.168.77.9";
const INSIDE: &str = "192.168.78.0/24";

/// Nothing that is waited for takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host with its data plane, which ends before it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) plane: Plane,
    pub(super) space: Namespace,
}

/// The place.
#[derive(Debug)]
pub(super) struct Wires {
    /// What the interface of the site is called.
    pub(super) name: String,
    /// The routers' link.
    pub(super) link: String,
    /// The device's link.
    pub(super) tunnel: String,
    pub(super) plane: Plane,
    pub(super) device: Namespace,
    pub(super) printer: Namespace,
    switch: Namespace,
    plugs: Cell<usize>,
}

impl Wires {
    pub(super) fn new() -> Result<Self> {
        let (switch, device) = (Namespace::make()?, Namespace::make()?);
        let printer = Namespace::make()?;
        let bridges = "link add br0 type bridge\nlink add br1 type bridge\n\
                       link set br0 up\nlink set br1 up\n";
        switch.ip(bridges).context("the kernel makes no bridges")?;
        let name = format!("n{}", std::process::id() % 100_000);
        let (link, tunnel) = (format!("vyr-{name}"), format!("c{name}"));
        let plane = Plane::start(&device, &tunnel)?;
        let plugs = Cell::new(0);
        let wires = Self { name, link, tunnel, plane, device, printer, switch, plugs };
        wires.plug(&wires.device, 0, "lan0", DEVICE)?;
        wires.plug(&wires.printer, 1, "lan0", PRINTER)?;
        for place in PLACES {
            let route = format!("route add 10.{}.0.0/24 via {}\n", place.number, place.inside);
            wires.printer.ip(&route)?;
        }
        Ok(wires)
    }

    fn plug(&self, space: &Namespace, switch: u32, name: &str, address: &str) -> Result<()> {
        let plug = self.plugs.get();
        self.plugs.set(plug + 1);
        self.switch.ip(&format!(
            "link add p{plug} type veth peer name far{plug}\n\
             link set far{plug} netns {} name {name}\n\
             link set p{plug} master br{switch}\nlink set p{plug} up\n",
            space.id()
        ))?;
        space.ip(&format!(
            "link set lo up\naddress add {address}/24 dev {name}\nlink set {name} up\n"
        ))
    }

    /// A host at a router's place, with nothing of ours but a link.
    pub(super) fn host(&self, place: &Place) -> Result<Host> {
        let space = Namespace::apart()?;
        self.plug(&space, 0, "lan0", place.outside)?;
        self.plug(&space, 1, "lan1", place.inside)?;
        space.run("tee", &["/proc/sys/net/ipv4/ip_forward"], "1")?;
        Ok(Host { plane: Plane::start(&space, &self.link)?, space })
    }

    /// Switches a host off. When this returns it answers nobody any more.
    pub(super) fn burn(&self, host: Host) -> Result<()> {
        let plugs = || -> Result<usize> {
            let links = self.switch.run("ip", &["-o", "link", "show", "type", "veth"], "")?;
            Ok(links.lines().count())
        };
        let before = plugs()?;
        host.plane.kill();
        drop(host.space);
        // A namespace ends some time after the last of its processes.
        self.wait("the end of a host", || Ok(plugs()? + 2 <= before))
    }

    /// Looks again and again: what is waited for tells nobody when it comes.
    pub(super) fn wait(&self, what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !look()? {
            ensure!(begun.elapsed() < PATIENCE, "{what} takes too long");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Packets until one is forwarded and answered.
    pub(super) fn forwards(&self) -> Result<()> {
        self.wait("the first packet", || Ok(self.device.answers(PRINTER)))
    }

    /// Takes the device's tunnel down.
    pub(super) fn lower(&self) -> Result<()> {
        self.device.ip(&format!("link set {0} down\naddress flush dev {0}\n", self.tunnel))
    }

    /// Brings it up from a configuration for `wg-quick`, by the steps of that.
    pub(super) fn raise(&self, conf: &str) -> Result<()> {
        let word = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let value = |name: &str| {
            let line = conf.lines().find(|line| word(line) == name)?;
            Some(line.split_once('=')?.1.trim())
        };
        let quick = |line: &&str| !["Address", "DNS", "MTU"].contains(&word(line).as_str());
        let stripped: Vec<&str> = conf.lines().filter(quick).collect();
        let set = ["setconf", &self.tunnel, "/dev/stdin"];
        self.device.run("wg", &set, &(stripped.join("\n") + "\n"))?;
        let mut addresses = value("Address").context("no address")?.split(',').map(str::trim);
        let address = addresses.find(|of| of.contains('.')).context("no IPv4 address")?;
        self.up(&self.device, &self.tunnel, address, value("MTU").unwrap_or(MTU))?;
        self.device.ip(&format!("route add {INSIDE} dev {}\n", self.tunnel))
    }

    fn up(&self, space: &Namespace, link: &str, address: &str, mtu: &str) -> Result<()> {
        space.ip(&format!(
            "address add {address} dev {link}\nlink set {link} mtu {mtu}\nlink set {link} up\n"
        ))
    }

    /// The reference: the same tunnel, typed with `wg` and `ip`; no firewall, no record.
    pub(super) fn by_hand(&self, router: &Host, place: &Place) -> Result<()> {
        let pair = || -> Result<(String, String)> {
            let private = self.device.run("wg", &["genkey"], "")?;
            let public = self.device.run("wg", &["pubkey"], &private)?.trim().to_owned();
            Ok((private, public))
        };
        let ((own, router_key), (device, device_key)) = (pair()?, pair()?);
        let address = |last: u8| format!("10.{}.0.{last}", place.number);
        let one = format!("{}/32", address(2));
        let set = ["set", &self.link, "listen-port", "51820", "private-key", "/dev/stdin"];
        let peer = ["peer", &device_key, "allowed-ips", &one];
        router.space.run("wg", &[&set[..], &peer].concat(), &own)?;
        self.up(&router.space, &self.link, &format!("{}/24", address(1)), MTU)?;
        let endpoint = format!("{}:51820", place.outside);
        let all = format!("{}/32,{INSIDE}", address(1));
        let set = ["set", &self.tunnel, "private-key", "/dev/stdin", "peer", &router_key];
        let peer = ["endpoint", &endpoint, "allowed-ips", &all];
        self.device.run("wg", &[&set[..], &peer].concat(), &device)?;
        self.up(&self.device, &self.tunnel, &format!("{}/24", address(2)), MTU)?;
        self.device.ip(&format!("route add {INSIDE} dev {}\n", self.tunnel))
    }
}
