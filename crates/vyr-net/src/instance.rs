//! The link of one instance: a TAP whose other end is its machine's card.
//!
//! ```text
//! guest fd..::7 --- card 02:.. === TAP vyr-i<hash> fe80::1 --- host      route fd..::7/128 -> TAP
//! ```
//!
//! Who opened the TAP passes its descriptor on, and the link lives as long as somebody has it: a
//! machine that ends leaves nothing behind, and one that goes on needs neither its node nor `net`.
//!
//! Invariants:
//! 1. A link is set up only while the table of [`crate::isolation`] has its instance's rules.
//! 2. What a guest says about routers, addresses and routes is not taken, whatever the firewall does.
//! 3. Only links whose names begin with [`PREFIX`], and that are TAPs, are changed here.
//!
//! Deliberately elsewhere: opening the TAP (`vyr_vm`), which instance has which address (`vyr-service`).

use std::fs;
use std::io::{self, Write};
use std::net::Ipv6Addr;

use ipnet::IpNet;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use vyr_base::Digest;

use crate::error::NetError;
use crate::firewall::Nft;
use crate::isolation::is_isolated;
use crate::netlink::route::Route;

/// What the names of these links begin with.
pub(crate) const PREFIX: &str = "vyr-i";
/// Digits of a digest in a name: together with [`PREFIX`] the 15 bytes that the kernel takes.
const DIGITS: usize = 10;
/// Bytes of an instance's id.
const ID_BYTES_MAX: usize = 128;
/// The host's end of every such link.
pub const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// What is missing where a host cannot do this.
pub(crate) const WHAT: &str = "the network of instances";

/// The name and the card of an instance's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceLink {
    /// The TAP.
    pub interface: String,
    /// The guest's card: local to this link, like its name.
    pub mac: [u8; 6],
}

impl InstanceLink {
    /// That of an instance; its id is 1 to 128 visible characters of ASCII.
    ///
    /// # Errors
    /// It is no id.
    pub fn of(instance: &str) -> Result<Self, NetError> {
        let visible = instance.bytes().all(|byte| byte.is_ascii_graphic());
        if instance.is_empty() || instance.len() > ID_BYTES_MAX || !visible {
            let op = format!("a link for {:?}", crate::words::quoted(instance));
            return Err(NetError::Refused { op, why: "it is no id of an instance" });
        }
        let digest = Digest::of(instance.as_bytes());
        let hex = digest.hex();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or_default();
        // Locally administered, and one card.
        let mac = [2, byte(10), byte(12), byte(14), byte(16), byte(18)];
        Ok(Self { interface: format!("{PREFIX}{}", &hex[..DIGITS]), mac })
    }

    /// The address that the guest's kernel gives itself (RFC 4291, appendix A). It asks for its
    /// neighbours with it.
    pub(crate) fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.map(u16::from);
        let (first, second) = ((a ^ 2) << 8 | b, c << 8 | 0xff);
        Ipv6Addr::new(0xfe80, 0, 0, 0, first, second, 0xfe00 | d, e << 8 | f)
    }
}

/// The name of an instance's link.
///
/// # Errors
/// It is no id of an instance.
pub fn interface(instance: &str) -> Result<String, NetError> {
    InstanceLink::of(instance).map(|link| link.interface)
}

/// Whether an address can be a guest's: one that is reached over routes, and no IPv4 one in disguise.
pub(crate) fn is_guest_address(address: &Ipv6Addr) -> bool {
    let first = address.segments()[0];
    // fc00::/7 and 2000::/3.
    (first & 0xfe00 == 0xfc00 || first & 0xe000 == 0x2000) && address.to_ipv4_mapped().is_none()
}

/// Says why not, where this process may not change the network.
pub(crate) fn able() -> Result<(), NetError> {
    let held = rustix::thread::capabilities(None)
        .map_err(|e| NetError::kernel("ask for capabilities", e))?;
    match held.effective.contains(CapabilitySet::NET_ADMIN) {
        true => Ok(()),
        false => {
            let why = "this node has no CAP_NET_ADMIN".to_owned();
            Err(NetError::Unavailable { what: WHAT, why })
        }
    }
}

/// Settings of a link that a guest is behind: nothing is learned from it, and no address of IPv4 is
/// told to it. `addr_gen_mode` 1: the kernel makes no address of its own.
const SETTINGS: [(&str, &str, &str); 8] = [
    ("ipv6", "disable_ipv6", "0"),
    ("ipv6", "addr_gen_mode", "1"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "accept_redirects", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv6", "proxy_ndp", "0"),
    ("ipv4", "arp_ignore", "8"),
    ("ipv4", "proxy_arp", "0"),
];

fn settle(interface: &str) -> Result<(), NetError> {
    for (family, name, value) in SETTINGS {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/{name}");
        let set = || {
            // Where settings cannot be written, one that is right already is.
            let found = fs::read_to_string(&path)?;
            if found.trim() == value {
                return Ok(());
            }
            fs::OpenOptions::new().write(true).open(&path)?.write_all(value.as_bytes())
        };
        match set() {
            Err(e) if e.kind() == io::ErrorKind::NotFound && family == "ipv4" => {}
            done => done.map_err(|e| NetError::io(format!("set {path} to {value}"), e))?,
        }
    }
    Ok(())
}

/// Refuses an instance whose link must not be made: before its TAP is opened.
///
/// # Errors
/// This host cannot; the table does not have this instance.
pub fn ready(nft: &Nft, link: &InstanceLink, guest: &Ipv6Addr) -> Result<(), NetError> {
    able()?;
    is_isolated(nft, link, guest)
}

/// Sets up the link of an instance that is [`ready`], whose TAP the caller has open: settings, the gateway's address,
/// the route to the guest. Gives its largest packet, in bytes.
///
/// # Errors
/// It is no TAP; the kernel refuses. The caller drops the TAP then, and with it
/// everything that was set up.
pub fn attach(link: &InstanceLink, guest: Ipv6Addr) -> Result<u32, NetError> {
    let name = &link.interface;
    let mut route = Route::open()?;
    let found = route.link(name)?;
    let found = found.ok_or_else(|| NetError::kernel(format!("find {name}"), Errno::NODEV))?;
    is_tap(name, found.kind.as_deref())?;
    settle(name)?;
    route.set_up(name, true)?;
    route.add_address(name, &host(GATEWAY))?;
    route.add_route(name, &host(guest))?;
    Ok(found.mtu)
}

/// Removes the link of an instance; whether there was one.
///
/// # Errors
/// It is no TAP; the kernel refuses.
pub fn detach(instance: &str) -> Result<bool, NetError> {
    able()?;
    let name = interface(instance)?;
    let mut route = Route::open()?;
    let Some(found) = route.link(&name)? else { return Ok(false) };
    is_tap(&name, found.kind.as_deref())?;
    match route.del_link(&name) {
        // Its machine ended in between.
        Err(NetError::Kernel { source: Errno::NODEV, .. }) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Whether any link of an instance is there.
pub(crate) fn any() -> Result<bool, NetError> {
    let links = Route::open()?.links()?;
    Ok(links.iter().any(|link| link.name.starts_with(PREFIX) && is_tun(link.kind.as_deref())))
}

fn is_tun(kind: Option<&str>) -> bool {
    kind == Some("tun")
}

fn is_tap(name: &str, kind: Option<&str>) -> Result<(), NetError> {
    match is_tun(kind) {
        true => Ok(()),
        false => Err(NetError::Refused {
            op: format!("{name}: change it"),
            why: "it is no TAP: whoever made it removes it",
        }),
    }
}

fn host(address: Ipv6Addr) -> IpNet {
    IpNet::from(std::net::IpAddr::V6(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_cards_come_from_the_id_alone() {
        let link = InstanceLink::of("i-1").expect("an id");
        assert_eq!(link, InstanceLink::of("i-1").expect("an id"));
        assert_eq!(link.interface.len(), 15);
        assert_eq!(link.mac[0], 2);
        let other = InstanceLink::of("i-2").expect("an id");
        assert!(link.interface != other.interface && link.mac != other.mac);
        for wrong in ["", "a b", "a\n", &"x".repeat(129)] {
            assert!(InstanceLink::of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_link_local_address_is_that_of_the_card() {
        let mac = [2, 0, 0x5e, 0x10, 0x20, 0x30];
        let link = InstanceLink { interface: String::new(), mac };
        assert_eq!(link.link_local().to_string(), "fe80::5eff:fe10:2030");
    }

    #[test]
    fn only_routed_addresses_are_guests() {
        for (text, is) in [
            ("fd00::1", true),
            ("2001:db8::1", true),
            ("fe80::2", false),
            ("::1", false),
            ("::ffff:10.0.0.1", false),
            ("ff02::1", false),
            ("64:ff9b::1", false),
        ] {
            assert_eq!(is_guest_address(&text.parse().expect(text)), is, "{text}");
        }
    }
}
