//! What a plan becomes, judged by the programs that would use it: the firewall by a kernel,
//! configurations by WireGuard's tools, codes by a reader of codes.
//!
//! Each test has network namespaces of its own. They are kept by processes that end when the test
//! does, however it does, and take their interfaces, rules and packets with them. Nothing is sent
//! on a real interface. Nothing is slept for.
//!
//! Not here: the texts themselves (`crates/vyr-plan/tests/render`), and the kernel's WireGuard,
//! which vouches for sources: a packet here comes from a link if it comes from the interface of
//! that name.

mod answers;
mod apply;
mod clients;
mod defects;
mod ends;
mod far;
mod far_keys;
mod firewall;
mod flood;
mod judge;
mod narrow;
mod node;
mod packet;
mod place;
mod reach;
mod recover;
mod roam;
mod rotate;
mod runbook;
mod sample;
mod stopped;
mod town;
