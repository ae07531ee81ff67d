//! What a device is given: its tunnel, in the form that its system reads.
//!
//! One file a server. Two servers may carry one interface: each is a way into the same networks
//! with keys and addresses of its own, and a device takes one of them at a time. So files are in a
//! folder of the server's name, all of them have one interface's name, and none of them comes up
//! by itself.
//!
//! A full tunnel carries the packets of WireGuard itself too, if nothing keeps them out. `wg-quick`
//! and NetworkManager see to that; for systemd-networkd it stands in the files: what has
//! WireGuard's mark, and what the main table knows a closer way to, goes past the tunnel.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use vyr_base::Digest;
use zeroize::Zeroizing;

use super::{
    File, PRIVATE_KEY_PLACEHOLDER, PrivateKey, RenderError, endpoint, link_name, list, qr,
};
use crate::compile::KEEPALIVE_S;
use crate::plan::{Client, ClientAddress, Interface, Link, LinkKind, Plan, Tunnel};

/// The form of a device's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A file for `wg-quick`, and for WireGuard's own applications.
    WgQuick,
    /// A keyfile of NetworkManager.
    NetworkManager,
    /// Two files of systemd-networkd.
    Networkd,
    /// `wg-quick`'s text as a QR code for a terminal.
    QrTerminal,
    /// The same as an image.
    QrPng,
}

/// Which of a client's keys one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// The one in use.
    Active,
    /// The one that takes over: until then a server shakes hands with it, no more.
    Staged,
}

/// Which key of a client this is; it must be one of them.
pub fn key_use(plan: &Plan, id: &str, key: &PrivateKey) -> Result<KeyUse, RenderError> {
    let client = plan.client(id).ok_or_else(|| RenderError::NoClient(id.into()))?;
    let found = key.public_key();
    match () {
        () if client.public_key == Some(found) => Ok(KeyUse::Active),
        () if client.staged_key == Some(found) => Ok(KeyUse::Staged),
        () => Err(RenderError::WrongKey { client: id.into(), found }),
    }
}

/// The configuration of a client, for one server or each of its interface.
pub fn client(
    plan: &Plan,
    id: &str,
    server: Option<&str>,
    key: &PrivateKey,
    form: Form,
) -> Result<Vec<File>, RenderError> {
    let key_use = key_use(plan, id, key)?;
    let client = plan.client(id).ok_or_else(|| RenderError::NoClient(id.into()))?;
    let servers = client.addresses.iter().map(|of| of.server.to_string()).collect::<Vec<_>>();
    let mut files = Vec::new();
    let wanted = |of: &&ClientAddress| server.is_none_or(|wanted| of.server.as_str() == wanted);
    for of in client.addresses.iter().filter(wanted) {
        let way = Way::new(plan, client, of, &servers, key_use)?;
        files.extend(way.files(key, form)?);
    }
    match (files.is_empty(), server) {
        (true, Some(server)) => Err(RenderError::NoServer {
            client: id.into(),
            server: server.into(),
            servers: servers.join(", "),
        }),
        _ => Ok(files),
    }
}

/// One client's way to one server.
struct Way<'a> {
    plan: &'a Plan,
    client: &'a Client,
    own: &'a ClientAddress,
    interface: &'a Interface,
    link: &'a Link,
    endpoint: &'a str,
    tunnel: &'a Tunnel,
    servers: &'a [String],
    key_use: KeyUse,
}

/// What only systemd-networkd must be told: the mark of WireGuard's own packets, and the table of
/// the tunnel. `wg-quick` uses the port's number for both, and so do we.
const MARK: u32 = 51_820;
/// The kernel's `main` table, and priorities before its rule (32766).
const MAIN: u32 = 254;
const PRIORITIES: [u32; 2] = [32_764, 32_765];

fn is_everything(prefix: &IpNet) -> bool {
    prefix.prefix_len() == 0
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("{};", item.to_string())).collect()
}

impl<'a> Way<'a> {
    fn new(
        plan: &'a Plan,
        client: &'a Client,
        own: &'a ClientAddress,
        servers: &'a [String],
        key_use: KeyUse,
    ) -> Result<Self, RenderError> {
        let missing = |what| RenderError::Unfit { what, text: client.id.to_string() };
        let machine = plan.machine(own.server.as_str());
        // The end whose key takes over, if there is one: this is how a device gets to it.
        let interface = client.interface.as_str();
        let link = machine.and_then(|of| of.second(interface).or_else(|| of.link(interface)));
        let link = link.filter(|link| link.kind == LinkKind::Clients);
        let link = link.ok_or_else(|| missing("the way of a client"))?;
        let tunnel = link.tunnels.iter().find(|tunnel| tunnel.profile == client.profile);
        let at = link.endpoint.as_deref().ok_or_else(|| missing("the endpoint for a client"))?;
        Ok(Self {
            plan,
            client,
            own,
            interface: plan
                .interface(client.interface.as_str())
                .ok_or_else(|| missing("the interface of a client"))?,
            link,
            endpoint: endpoint(at)?,
            tunnel: tunnel.ok_or_else(|| missing("the tunnel of a client"))?,
            servers,
            key_use,
        })
    }

    fn files(&self, key: &PrivateKey, form: Form) -> Result<Vec<File>, RenderError> {
        // A device has one link of an interface, whichever its server has now.
        let name = self.name();
        let name = link_name(&name)?;
        let at = |file: String| format!("{}/{file}", self.own.server);
        let secret = |name: String, bytes| File { name: at(name), bytes, secret: true };
        let filled = |text: &str| fill(text, key);
        Ok(match form {
            Form::WgQuick => {
                let text = format!("{}{}", self.comment(), self.wg_quick());
                vec![secret(format!("{name}.conf"), filled(&text))]
            }
            Form::NetworkManager => {
                let text = format!("{}{}", self.comment(), self.network_manager());
                vec![secret(format!("{name}.nmconnection"), filled(&text))]
            }
            Form::Networkd => {
                let netdev = format!("{}{}", self.comment(), self.netdev());
                let network = format!("{}{}", self.comment(), self.network());
                vec![
                    secret(format!("30-{name}.netdev"), filled(&netdev)),
                    File::open(at(format!("30-{name}.network")), network),
                ]
            }
            // Comments would make it larger, and an application drops them.
            Form::QrTerminal | Form::QrPng => {
                let text = filled(&self.wg_quick());
                let text = std::str::from_utf8(&text).map_err(|_| RenderError::NotAKey)?;
                match form {
                    Form::QrTerminal => vec![secret(format!("{name}.txt"), qr::terminal(text)?)],
                    _ => vec![secret(format!("{name}.png"), qr::png(text)?)],
                }
            }
        })
    }

    fn name(&self) -> String {
        format!("vyr-{}", self.client.interface)
    }

    fn comment(&self) -> String {
        let (client, server) = (self.client, &self.own.server);
        let mut text = format!(
            "# {}, {} on {} by {server}: site {}, epoch {}\n",
            client.id, client.profile, client.interface, self.plan.site, self.plan.epoch
        );
        if self.servers.len() > 1 {
            let servers = self.servers.join(", ");
            let _ = writeln!(text, "# There is a way by each of {servers}: one at a time.");
        }
        if self.key_use == KeyUse::Staged {
            text.push_str("# The key is staged: nothing passes until it has taken over.\n");
        }
        if self.link.second_of.is_some() {
            text.push_str(
                "# The server's next key: what is there now works until this one is used.\n",
            );
        }
        text
    }

    fn has(&self, ipv4: bool) -> bool {
        self.own.addresses.iter().any(|own| own.addr().is_ipv4() == ipv4)
    }

    /// Whether everything of a family goes into the tunnel.
    fn is_full(&self, ipv4: bool) -> bool {
        let all = self.tunnel.allowed_ips.iter();
        all.filter(|net| is_everything(net)).any(|net| net.addr().is_ipv4() == ipv4)
    }

    /// Name servers to which the client has a way of their family.
    fn dns(&self) -> Vec<IpAddr> {
        let all = self.interface.dns.iter().copied();
        all.filter(|server| self.has(server.is_ipv4())).collect()
    }

    fn wg_quick(&self) -> String {
        let mut text = format!("[Interface]\nPrivateKey = {PRIVATE_KEY_PLACEHOLDER}\n");
        let _ = writeln!(text, "Address = {}", list(&self.own.addresses));
        if !self.dns().is_empty() {
            let _ = writeln!(text, "DNS = {}", list(&self.dns()));
        }
        let _ = writeln!(text, "MTU = {}", self.link.mtu);
        let _ = write!(
            text,
            "\n[Peer]\nPublicKey = {}\nAllowedIPs = {}\nEndpoint = {}\nPersistentKeepalive = {}\n",
            self.link.public_key,
            list(&self.tunnel.allowed_ips),
            self.endpoint,
            KEEPALIVE_S
        );
        text
    }

    fn network_manager(&self) -> String {
        let name = &self.name();
        let mut text = format!(
            "[connection]\nid={name} by {}\nuuid={}\ntype=wireguard\ninterface-name={name}\n\
             autoconnect=false\n\n[wireguard]\nprivate-key={PRIVATE_KEY_PLACEHOLDER}\nmtu={}\n",
            self.own.server,
            self.uuid(),
            self.link.mtu
        );
        for (ipv4, key) in [(true, "ip4-auto-default-route"), (false, "ip6-auto-default-route")] {
            if self.is_full(ipv4) {
                let _ = writeln!(text, "{key}=1");
            }
        }
        let _ = write!(
            text,
            "\n[wireguard-peer.{}]\nendpoint={}\nallowed-ips={}\npersistent-keepalive={}\n",
            self.link.public_key,
            self.endpoint,
            joined(&self.tunnel.allowed_ips),
            KEEPALIVE_S
        );
        for (ipv4, section) in [(true, "ipv4"), (false, "ipv6")] {
            let _ = writeln!(text, "\n[{section}]");
            if !self.has(ipv4) {
                text.push_str("method=disabled\n");
                continue;
            }
            text.push_str("method=manual\n");
            let own = self.own.addresses.iter().filter(|own| own.addr().is_ipv4() == ipv4);
            for (at, address) in (1..).zip(own) {
                let _ = writeln!(text, "address{at}={address}");
            }
            let dns: Vec<IpAddr> =
                self.dns().into_iter().filter(|server| server.is_ipv4() == ipv4).collect();
            if !dns.is_empty() {
                // As wg-quick does: these servers are asked for every name, and no others.
                let _ = writeln!(text, "dns={}\ndns-priority=-50\ndns-search=~.;", joined(dns));
            }
            if !self.is_full(ipv4) {
                text.push_str("never-default=true\n");
            }
        }
        text
    }

    /// The same for the same way, so that what is imported again takes the old one's place.
    fn uuid(&self) -> String {
        let (site, client, server) = (&self.plan.site, &self.client.id, &self.own.server);
        let digest =
            Digest::of(format!("vyr-client-uuid-v1\n{site}\n{client}\n{server}\n").as_bytes());
        let hex = digest.hex();
        // Version 8 of RFC 9562, which is for ways of one's own; its variant is 8 to b.
        format!(
            "{}-{}-8{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..32]
        )
    }

    fn netdev(&self) -> String {
        let mut text = format!(
            "# For systemd-networkd alone: chown root:systemd-network, chmod 0640.\n\
             [NetDev]\nName={}\nKind=wireguard\nMTUBytes={}\n\n\
             [WireGuard]\nPrivateKey={PRIVATE_KEY_PLACEHOLDER}\n",
            self.name(),
            self.link.mtu
        );
        if self.is_full(true) || self.is_full(false) {
            let _ = writeln!(text, "FirewallMark={MARK}");
        }
        let _ = write!(
            text,
            "\n[WireGuardPeer]\nPublicKey={}\nAllowedIPs={}\nEndpoint={}\nPersistentKeepalive={}\n",
            self.link.public_key,
            list(&self.tunnel.allowed_ips).replace(", ", ","),
            self.endpoint,
            KEEPALIVE_S
        );
        text
    }

    fn network(&self) -> String {
        let name = &self.name();
        let mut text = String::new();
        let family = match (self.is_full(true), self.is_full(false)) {
            (true, true) => Some("both"),
            (true, false) => Some("ipv4"),
            (false, true) => Some("ipv6"),
            (false, false) => None,
        };
        if family.is_some() {
            text.push_str("# With strict filtering of return paths (net.ipv4.conf.all.rp_filter=1) also set\n");
            text.push_str("# net.ipv4.conf.all.src_valid_mark=1.\n");
        }
        let _ = write!(
            text,
            "# networkctl up {name}\n[Match]\nName={name}\n\n\
             [Link]\nActivationPolicy=manual\nRequiredForOnline=no\n\n\
             [Network]\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n"
        );
        for server in self.dns() {
            let _ = writeln!(text, "DNS={server}");
        }
        if !self.dns().is_empty() {
            text.push_str("DNSDefaultRoute=yes\nDomains=~.\n");
        }
        for address in &self.own.addresses {
            let _ = write!(text, "\n[Address]\nAddress={address}\n");
        }
        for net in &self.tunnel.allowed_ips {
            let _ = write!(text, "\n[Route]\nDestination={net}\n");
            if is_everything(net) {
                let _ = writeln!(text, "Table={MARK}");
            }
        }
        if let Some(family) = family {
            let [closer, tunnel] = PRIORITIES;
            let _ = write!(
                text,
                "\n[RoutingPolicyRule]\nFamily={family}\nTable={MAIN}\nSuppressPrefixLength=0\n\
                 Priority={closer}\n\
                 \n[RoutingPolicyRule]\nFamily={family}\nFirewallMark={MARK}\nInvertRule=yes\n\
                 Table={MARK}\nPriority={tunnel}\n"
            );
        }
        text
    }
}

/// The text with the key in its place. It is written once, so there is no copy to forget.
fn fill(text: &str, key: &PrivateKey) -> Zeroizing<Vec<u8>> {
    let key = key.text();
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + key.len()));
    let (before, after) = text.split_once(PRIVATE_KEY_PLACEHOLDER).unwrap_or((text, ""));
    for piece in [before, &key, after] {
        bytes.extend_from_slice(piece.as_bytes());
    }
    bytes
}
