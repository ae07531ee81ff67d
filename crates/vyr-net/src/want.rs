//! What a plan wants of one machine. Pure: names are looked up by who asks.

use std::net::SocketAddr;

use vyr_base::{Category, Problem};
use vyr_plan::Plan;
use vyr_plan::render::{self, RenderError};

use crate::firewall::{Ruleset, RulesetError};
use crate::state::{Link, LinkKind, Peer, STATE_VERSION, State, StateError};

/// Why a plan wants nothing that a machine could be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WantError {
    /// It is another site's, or misspelt.
    #[error("the plan has no machine {0}")]
    NoMachine(String),
    /// A host's name that nobody knows.
    #[error("the endpoint {endpoint} of {peer} on {link} has no address")]
    Endpoint {
        /// The link.
        link: String,
        /// The peer, as the plan calls it.
        peer: String,
        /// As the plan has it.
        endpoint: String,
    },
    /// The firewall has no text.
    #[error("the plan's firewall cannot be written")]
    Render(#[source] RenderError),
    /// Its text is not what we load.
    #[error("the plan's firewall cannot be read")]
    Firewall(#[source] RulesetError),
    /// A plan that no compiler of ours made.
    #[error("no machine can be as the plan says")]
    State(#[source] StateError),
}

impl Problem for WantError {
    fn category(&self) -> Category {
        match self {
            Self::NoMachine(_) => Category::NotFound,
            Self::Endpoint { .. } => Category::Transient,
            Self::Render(_) | Self::Firewall(_) | Self::State(_) => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoMachine(_) => "its machines: vyr graph".into(),
            Self::Endpoint { endpoint, .. } => {
                format!("see that {endpoint} resolves on this machine, or write its address")
            }
            Self::Render(_) | Self::Firewall(_) | Self::State(_) => {
                "compile the plan again from the site: vyr plan".into()
            }
        })
    }
}

/// What `plan` wants of a machine. `resolve` gives the address of an endpoint that is a name; the
/// answer is part of the state, so ask once and keep it while a plan is applied.
pub fn wanted(
    plan: &Plan,
    machine: &str,
    resolve: &dyn Fn(&str) -> Option<SocketAddr>,
) -> Result<State, WantError> {
    let found = plan.machine(machine);
    let machine = found.ok_or_else(|| WantError::NoMachine(machine.into()))?;
    let text = render::firewall(machine).map_err(WantError::Render)?;
    let firewall = Ruleset::from_transaction(&text).map_err(WantError::Firewall)?;
    let mut links = Vec::with_capacity(machine.links.len());
    for link in &machine.links {
        let mut peers = Vec::with_capacity(link.peers.len());
        for peer in &link.peers {
            let missing = |endpoint: &str| WantError::Endpoint {
                link: link.name.clone(),
                peer: peer.id.to_string(),
                endpoint: endpoint.into(),
            };
            let at = |text: &String| {
                text.parse().ok().or_else(|| resolve(text)).ok_or_else(|| missing(text))
            };
            peers.push(Peer {
                public_key: peer.public_key,
                allowed_ips: peer.allowed_ips.clone(),
                endpoint: peer.endpoint.as_ref().map(at).transpose()?,
                keepalive_s: peer.keepalive_s,
                has_preshared: false,
            });
        }
        links.push(Link {
            name: link.name.clone(),
            kind: LinkKind::Wireguard,
            mtu: link.mtu.into(),
            up: true,
            listen_port: link.listen_port,
            fwmark: 0,
            public_key: Some(link.public_key),
            addresses: link.addresses.clone(),
            routes: link.routes.clone(),
            peers,
        });
    }
    let mut state = State { version: STATE_VERSION, links, firewall: Some(firewall) };
    state.normalise();
    state.check().map_err(WantError::State)?;
    Ok(state)
}
