//! Which addresses there are: private ones, the internet, and the one a device has by its name.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use vyr_base::Digest;

use crate::space::Set;

/// Prefixes that no provider delegates: a site may use these and no other inside.
const PRIVATE: [&str; 5] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// What is not the internet although it is not private (RFC 6890): this host, link-local,
/// documentation, benchmarks, multicast, reserved.
const SPECIAL_V4: [&str; 11] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// All of global unicast IPv6.
const GLOBAL_V6: &str = "2000::/3";
/// Of it: documentation, Teredo, 6to4.
const SPECIAL_V6: [&str; 4] = ["2001:db8::/32", "3fff::/20", "2001::/32", "2002::/16"];

fn set(prefixes: &[&str]) -> Set {
    let parsed: Vec<IpNet> = prefixes.iter().filter_map(|text| text.parse().ok()).collect();
    debug_assert_eq!(parsed.len(), prefixes.len(), "constants are prefixes");
    Set::prefixes(&parsed)
}

/// Addresses that a site may use inside.
pub fn private() -> Set {
    set(&PRIVATE)
}

/// Addresses of the internet.
pub fn internet() -> Set {
    let v4 = set(&["0.0.0.0/0"]).subtract(&set(&SPECIAL_V4)).subtract(&private());
    v4.union(&set(&[GLOBAL_V6]).subtract(&set(&SPECIAL_V6)))
}

/// Interface identifiers below this are for servers.
const FIRST_FREE: u64 = 0x1_0000;

/// The lower half of a device's address: from the prefix and its name alone, so that it never
/// changes and needs no ledger. None: the hash fell on an identifier with a meaning of its own
/// (RFC 4291, RFC 5453), which happens once in about 2^47 names.
pub fn interface_id(prefix: &Ipv6Net, name: &str) -> Option<u64> {
    let digest = Digest::of(format!("vyr-interface-id-v1\n{prefix}\n{name}\n").as_bytes());
    let hex = digest.hex();
    let id = u64::from_str_radix(hex.get(..16)?, 16).ok()?;
    (!reserved(id)).then_some(id)
}

fn reserved(id: u64) -> bool {
    id < FIRST_FREE
        || (0x0200_5eff_fe00_0000..=0x0200_5eff_feff_ffff).contains(&id)
        || (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&id)
}

/// The address with this lower half.
pub fn with_interface_id(prefix: &Ipv6Net, id: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.network().to_bits() | u128::from(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::point;

    #[test]
    fn the_internet_is_not_private() {
        assert!(!internet().meets(&private()));
        let has = |text: &str| internet().contains(point(text.parse().expect("an address")));
        assert!(has("1.1.1.1") && has("2606:4700::1111") && has("223.255.255.255"));
        for text in ["127.0.0.1", "10.0.0.1", "fd00::1", "fe80::1", "ff02::1", "::1", "224.0.0.1"] {
            assert!(!has(text), "{text}");
        }
    }

    #[test]
    fn an_address_comes_from_the_name_alone() {
        let prefix: Ipv6Net = "fd00:1:2:3::/64".parse().expect("a prefix");
        let id = interface_id(&prefix, "ana-laptop").expect("not reserved");
        assert_eq!(with_interface_id(&prefix, id).to_string(), "fd00:1:2:3:c009:c61b:37a6:6797");
        assert_ne!(interface_id(&prefix, "ana-phone"), Some(id));
        let other: Ipv6Net = "fd00:1:2:4::/64".parse().expect("a prefix");
        assert_ne!(interface_id(&other, "ana-laptop"), Some(id));
    }

    #[test]
    fn identifiers_with_a_meaning_are_left_alone() {
        for id in [0, 1, 0xffff, 0x0200_5eff_fe00_5213, 0xfdff_ffff_ffff_ffff] {
            assert!(reserved(id), "{id:x}");
        }
        assert!(!reserved(FIRST_FREE) && !reserved(u64::MAX));
    }
}
