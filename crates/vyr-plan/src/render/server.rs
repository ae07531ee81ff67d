//! What a machine is given: a WireGuard configuration for each link, and the firewall.
//!
//! The form is that of `wg setconf`. Addresses, MTU and routes stand above it as the commands that
//! set them, not as units of systemd-networkd: on a running node `vyr-net` sets them and reads them
//! back, and a second writer of the same link would fight it. These texts are for who reviews a
//! plan, and for the day on which only a shell is left.

use std::fmt::Write;

use super::{FIREWALL_FILE, File, RenderError, endpoint, firewall, link_name, list};
use crate::plan::{Link, Machine, Peer, Plan};

/// Stands where the link's private key belongs, exactly once in each configuration. It is no
/// base64, so `wg` refuses a file in which it was left.
pub const PRIVATE_KEY_PLACEHOLDER: &str = "<private-key-of-this-link>";

/// Everything that a machine of the plan is given.
pub fn server(plan: &Plan, machine: &str) -> Result<Vec<File>, RenderError> {
    let found = plan.machine(machine);
    let machine = found.ok_or_else(|| RenderError::NoMachine(machine.into()))?;
    let mut files = Vec::new();
    for link in &machine.links {
        files.push(File::open(format!("{}.conf", link.name), wireguard(plan, machine, link)?));
    }
    files.push(File::open(FIREWALL_FILE, firewall(machine)?));
    Ok(files)
}

/// The WireGuard configuration of a link, with a placeholder for its key.
pub fn wireguard(plan: &Plan, machine: &Machine, link: &Link) -> Result<String, RenderError> {
    let name = link_name(&link.name)?;
    let mut text =
        format!("# {name} of {}: site {}, epoch {}\n", machine.name, plan.site, plan.epoch);
    if let Some(first) = &link.second_of {
        let _ = writeln!(
            text,
            "# The next key of {first}: who uses it takes its addresses from there."
        );
    }
    text.push_str("# By hand, with the key of this link in its place:\n");
    let mut by_hand = |command: String| {
        let _ = writeln!(text, "#   {command}");
    };
    by_hand(format!("ip link add dev {name} type wireguard"));
    by_hand(format!("wg setconf {name} {name}.conf"));
    for address in &link.addresses {
        by_hand(format!("ip address add {address} dev {name}"));
    }
    by_hand(format!("ip link set dev {name} mtu {} up", link.mtu));
    for route in &link.routes {
        by_hand(format!("ip route replace {route} dev {name}"));
    }
    let _ = writeln!(text, "\n[Interface]");
    let _ = writeln!(text, "PrivateKey = {PRIVATE_KEY_PLACEHOLDER}");
    let _ = writeln!(text, "ListenPort = {}", link.listen_port);
    for peer in &link.peers {
        text.push_str(&section(peer)?);
    }
    Ok(text)
}

fn section(peer: &Peer) -> Result<String, RenderError> {
    let mut text = format!("\n# {}", peer.id);
    if peer.allowed_ips.is_empty() {
        text.push_str(" (staged: it may shake hands, no more)");
    }
    let _ = writeln!(text, "\n[Peer]\nPublicKey = {}", peer.public_key);
    if !peer.allowed_ips.is_empty() {
        let _ = writeln!(text, "AllowedIPs = {}", list(&peer.allowed_ips));
    }
    if let Some(at) = &peer.endpoint {
        let _ = writeln!(text, "Endpoint = {}", endpoint(at)?);
    }
    if let Some(keepalive_s) = peer.keepalive_s {
        let _ = writeln!(text, "PersistentKeepalive = {keepalive_s}");
    }
    Ok(text)
}
