//! The texts inside the files of a site: names, keys, prefixes, hosts, services. Each is checked
//! once, here, and is a type afterwards.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use ipnet::IpNet;
use vyr_base::form::{Name, Text, TextError, TextForm, look_alike};
use vyr_base::text_as_string;

use super::resolve::MESH;
use crate::space::Set;

/// Characters of an interface's name, for the same reason.
pub const INTERFACE_CHARS_MAX: usize = 11;
/// Characters of an owner.
const OWNER_CHARS_MAX: usize = 64;
/// Characters of a host's name (RFC 1035).
const HOST_CHARS_MAX: usize = 253;

fn wrong(why: impl Into<String>) -> TextError {
    TextError::wrong(why)
}

fn mend(why: impl Into<String>, hint: impl Into<String>) -> TextError {
    TextError::mend(why, hint)
}

fn write_one<T: Text>(why: &str) -> TextError {
    TextError::write_one::<T>(why)
}

text_as_string!(Key, Prefix, Address, Host, Owner, Service, Recipient);

/// The forms that texts of a site have; keys of maps are names.
pub(super) const FORMS: [TextForm; 10] = [
    TextForm::of::<Name>(),
    TextForm::of::<Key>(),
    TextForm::of::<Prefix>(),
    TextForm::of::<Address>(),
    TextForm::of::<Host>(),
    TextForm::of::<Owner>(),
    TextForm::of::<Service>(),
    TextForm::of::<Recipient>(),
    TextForm::of::<super::contracts::Place>(),
    TextForm::of::<vyr_service::manifest::Size>(),
];

/// The interface of the mesh.
pub fn mesh() -> Name {
    MESH.parse().unwrap_or_else(|_| unreachable!("a word is a name"))
}

/// A WireGuard public key: 32 bytes, in base64 as `wg` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Text for Key {
    const FORMAT: &'static str = "vyr-key";
    const WHAT: &'static str = "a WireGuard public key: 44 characters of base64, from `wg pubkey`";
    const EXAMPLE: &'static str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
}

impl Key {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Key {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let mut bytes = [0; 32];
        match Base64::decode(text, &mut bytes) {
            Ok(found) if found.len() == 32 => (),
            _ => return Err(write_one::<Self>("it is not 32 bytes in base64")),
        }
        match bytes == [0; 32] {
            true => Err(write_one::<Self>("it is all zeros, the absence of a key")),
            false => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64::encode_string(&self.0))
    }
}

/// An address prefix without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(pub IpNet);

impl Text for Prefix {
    const FORMAT: &'static str = "vyr-prefix";
    const WHAT: &'static str = "an address prefix such as 10.20.0.0/24 or fd00:1:2:3::/64";
    const EXAMPLE: &'static str = "192.0.2.0/24";
}

impl FromStr for Prefix {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let net: IpNet = match text.parse() {
            Ok(net) => net,
            Err(_) if text.parse::<IpAddr>().is_ok() => {
                let bits = if text.contains(':') { 128 } else { 32 };
                let hint = format!("write {text}/{bits} if this one address is meant");
                return Err(mend("its length is missing", hint));
            }
            Err(_) => return Err(write_one::<Self>("it is not a prefix")),
        };
        if net != net.trunc() {
            let hint = format!("write {} if the whole prefix is meant", net.trunc());
            return Err(mend("bits after the prefix are set", hint));
        }
        // Another spelling of one prefix would be found by nobody who searches for it.
        match net.to_string() == text {
            true => Ok(Self(net)),
            false => Err(mend("a prefix has one spelling", format!("write {net}"))),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

impl Text for Address {
    const FORMAT: &'static str = "vyr-address";
    const WHAT: &'static str = "an IPv4 or IPv6 address";
    const EXAMPLE: &'static str = "192.0.2.1";
}

impl FromStr for Address {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let address = one_address(text)?;
        let local = match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
        };
        match local {
            true => Err(mend(
                "on each machine or link it is another one",
                "write an address that all of the site means the same by",
            )),
            false => Ok(Self(address)),
        }
    }
}

/// An address in its one spelling, at which a machine may answer.
fn one_address(text: &str) -> Result<IpAddr, TextError> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let whole = text.split(['/', '%']).next().unwrap_or_default();
        let octets: Vec<&str> =
            whole.split('.').map(|octet| octet.trim_start_matches('0')).collect();
        let octets = octets.iter().map(|octet| if octet.is_empty() { "0" } else { octet });
        let near = octets.collect::<Vec<_>>().join(".");
        let good = |near: &&str| *near != text && near.parse::<Address>().is_ok();
        return match [whole, &near].into_iter().find(good) {
            Some(near) => Err(mend("it is not an address alone", format!("write {near}"))),
            None => Err(write_one::<Address>("it is not an address")),
        };
    };
    let silent = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    if address.is_unspecified() || address.is_multicast() || silent {
        return Err(mend("no machine answers at this address", "write that of one machine"));
    }
    match address.to_string() == text {
        true => Ok(address),
        false => Err(mend("an address has one spelling", format!("write {address}"))),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a peer is reached from outside: an address, or a name that is looked up by the client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Text for Host {
    const FORMAT: &'static str = "vyr-host";
    const WHAT: &'static str = "a host name such as vpn.example.net, or an address, without a port";
    const EXAMPLE: &'static str = "192.0.2.1";
}

impl Host {
    /// With a port, as WireGuard writes an endpoint.
    pub fn with_port(&self, port: u16) -> String {
        match self.0.contains(':') {
            true => format!("[{}]:{port}", self.0),
            false => format!("{}:{port}", self.0),
        }
    }
}

impl FromStr for Host {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if let Some(fault) = look_alike(text) {
            return Err(fault);
        }
        if one_address(text).is_ok() {
            return Ok(Self(text.into()));
        }
        let label = |label: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            (1..=63).contains(&label.len())
                && label.chars().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label of digits is a mistyped address.
        let last = text.rsplit('.').next().unwrap_or_default();
        let good = text.len() <= HOST_CHARS_MAX
            && text.split('.').all(label)
            && !last.chars().all(|c| c.is_ascii_digit());
        match (good, text.to_ascii_lowercase()) {
            (true, _) => Ok(Self(text.into())),
            (false, lower) if lower != text && lower.parse::<Self>().is_ok() => {
                Err(mend("a host name has one spelling", format!("write {lower}")))
            }
            (false, _) => {
                let why = "it is neither a host name nor an address";
                let host = text.split_once("://").map_or(text, |(_, rest)| rest);
                let host = host.split('/').next().unwrap_or_default();
                let host = host.split_once(':').map_or(host, |(host, _)| host);
                match host != text && host.parse::<Self>().is_ok() {
                    true => Err(mend(why, format!("write {host}; the port has its own key"))),
                    false => Err(write_one::<Self>(why)),
                }
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who holds a device; for people, and in no plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(String);

impl Text for Owner {
    const FORMAT: &'static str = "vyr-owner";
    const WHAT: &'static str = "1 to 64 characters on one line";
    const EXAMPLE: &'static str = "nobody";
}

impl FromStr for Owner {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        // Marks that turn the direction of writing make a line read otherwise than it is.
        let hidden = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        match (text.chars().count(), text.chars().find(|c| hidden(*c))) {
            (1..=OWNER_CHARS_MAX, None) => Ok(Self(text.into())),
            (_, Some(c)) => {
                let why = format!("it has the invisible character U+{:04X}", u32::from(c));
                Err(mend(why, "type it again"))
            }
            (_, None) => Err(wrong(format!("an owner has {}", Self::WHAT))),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Protocols and ports: `any`, `icmp`, `tcp`, `udp/53`, `tcp/8000-8100`, `protocol/47`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Every protocol and port.
    Any,
    /// ICMP of both families.
    Icmp,
    /// Ports of TCP (6) or UDP (17), or all of another protocol.
    Ports {
        /// IP protocol number.
        protocol: u8,
        /// The first destination port.
        first: u16,
        /// The last one.
        last: u16,
    },
}

impl Text for Service {
    const FORMAT: &'static str = "vyr-service";
    const WHAT: &'static str = "any, icmp, tcp, udp, tcp/443, udp/5000-5100 or protocol/47";
    const EXAMPLE: &'static str = "any";
}

impl Service {
    /// Its points in the dimension of services.
    pub fn set(self) -> Set {
        match self {
            Self::Any => Set::any_service(),
            Self::Icmp => Set::service(1, (0, u16::MAX)).union(&Set::service(58, (0, u16::MAX))),
            Self::Ports { protocol, first, last } => Set::service(protocol, (first, last)),
        }
    }
}

impl FromStr for Service {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let fault = || write_one::<Self>("it is not a service");
        let (name, ports) = match text.split_once('/') {
            Some((name, ports)) => (name, Some(ports)),
            None => (text, None),
        };
        let found = match (name, ports) {
            ("any", None) => Self::Any,
            ("icmp", None) => Self::Icmp,
            ("tcp" | "udp", ports) => {
                let protocol = if name == "tcp" { 6 } else { 17 };
                let (first, last) = match ports {
                    None => ("0", "65535"),
                    Some(ports) => ports.split_once('-').unwrap_or((ports, ports)),
                };
                let number = |text: &str| text.parse::<u16>().map_err(|_| fault());
                Self::Ports { protocol, first: number(first)?, last: number(last)? }
            }
            ("protocol", Some(number)) => {
                let protocol = number.parse().map_err(|_| fault())?;
                Self::Ports { protocol, first: 0, last: u16::MAX }
            }
            _ => return Err(fault()),
        };
        if let Self::Ports { protocol, first, last } = found
            && first > last
        {
            let other = Self::Ports { protocol, first: last, last: first };
            return Err(mend("its first port is after its last one", format!("write {other}")));
        }
        match found.to_string() == text {
            true => Ok(found),
            false => Err(mend("a service has one spelling", format!("write {found}"))),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::Icmp => f.write_str("icmp"),
            Self::Ports { protocol: protocol @ (6 | 17), first, last } => {
                let name = if protocol == 6 { "tcp" } else { "udp" };
                match (first, last) {
                    (0, u16::MAX) => f.write_str(name),
                    _ if first == last => write!(f, "{name}/{first}"),
                    _ => write!(f, "{name}/{first}-{last}"),
                }
            }
            Self::Ports { protocol, .. } => write!(f, "protocol/{protocol}"),
        }
    }
}

/// Who can open a recovery bundle: an age X25519 recipient or an ssh-ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(String);

impl Text for Recipient {
    const FORMAT: &'static str = "vyr-recipient";
    const WHAT: &'static str = "an age recipient (age1...) or a public key (ssh-ed25519 AAAA...)";
    const EXAMPLE: &'static str = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
}

impl FromStr for Recipient {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let bech32 = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let age = text.strip_prefix("age1").is_some_and(|rest| {
            rest.len() == 58 && rest.chars().all(bech32) && !rest.contains(['b', 'i', 'o', '1'])
        });
        let ssh = text.strip_prefix("ssh-ed25519 ").is_some_and(|rest| {
            let base64 = rest.split(' ').next().unwrap_or_default();
            base64.len() == 68 && base64.starts_with("AAAAC3NzaC1lZDI1NTE5AAAAI")
        });
        match age || ssh {
            true => Ok(Self(text.into())),
            false => Err(write_one::<Self>("it is no recipient")),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_good() {
        for form in &FORMS {
            assert_eq!((form.check)(form.example), Ok(()), "{}", form.format);
        }
    }

    #[test]
    fn each_text_has_one_spelling() {
        for good in ["any", "icmp", "tcp", "udp/53", "tcp/8000-8100", "protocol/47"] {
            assert_eq!(good.parse::<Service>().expect(good).to_string(), good);
        }
        for bad in
            ["", "Tcp", "tcp/", "tcp/70000", "tcp/9-8", "protocol/6", "tcp/0-65535", "udp/053"]
        {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
        for bad in ["10.0.0.1/24", "10.0.0.0/33", "10.0.0.0", "FD00::/8", "fd00:0::/16", "::/129"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        for bad in ["vpn.example.net.", "1.2.3", "a..b", "-a.b", "vpn.Example.net", "fd00::1%eth0"]
        {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
        for bad in ["", "::", "ff02::1", "::ffff:1.2.3.4", "FD00::1", "1.2.3.04"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
