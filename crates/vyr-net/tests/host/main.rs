//! Real parts: rtnetlink, nftables and a WireGuard data plane, each seen from outside by the
//! program that everybody uses (`ip`, `nft`, `wg`).
//!
//! Each test has network namespaces of its own, kept by processes that end when the test does. A
//! thread that enters one does nothing else. Nothing is sent on a real interface.
//!
//! The kernel's WireGuard is tried where there is one; elsewhere its messages are judged by their
//! bytes (`src/netlink/wireguard/tests.rs`).

mod firewall;
mod kernel;
mod neighbour;
mod route;
mod tunnel;
mod userspace;
