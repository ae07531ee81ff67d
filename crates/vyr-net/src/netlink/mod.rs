//! Netlink: the kernel's messages about links, addresses, routes and WireGuard.
//!
//! ```text
//! wire        headers and attributes as bytes, both ways
//! socket      one question, its answers, with a time and a size that they may not exceed
//! route       rtnetlink
//! wireguard   the generic family of that name
//! conntrack   connections that the kernel remembers
//! ```

pub(crate) mod conntrack;
pub(crate) mod route;
pub(crate) mod socket;
pub(crate) mod wire;
pub(crate) mod wireguard;
