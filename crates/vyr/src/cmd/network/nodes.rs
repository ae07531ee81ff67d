//! Which hosts a command is about: this one, or others over ssh.

use std::path::{Path, PathBuf};

use vyr_base::{Category, Digest, Problem};
use vyr_node::Result;
use vyr_node::network::{Host, Ssh, SshAddress};
use vyr_plan::Plan;

use super::asked::Asked;
use super::here::here;
use crate::cli::{NodeArgs, RemoteArgs};
use crate::cmd::link::Place;
use crate::cmd::site::Site;

/// Who may change a machine's network, if nobody else is named.
const ADMINISTRATOR: &str = "root";

/// The site's file of host keys.
const KNOWN_HOSTS: &str = "known_hosts";

/// Why it is not known which hosts are meant.
#[derive(Debug, thiserror::Error)]
pub(super) enum NodesError {
    #[error("no plan says where {0} is")]
    NoPlan(String),
    #[error("the plan has no machine {0}")]
    Unknown(String),
    #[error("no machine of the plan has a management address")]
    Nobody,
    #[error("the machine {0} has no management address in the plan")]
    NoAddress(String),
    #[error("no change of the network has ended here")]
    NoChange,
    #[error("{0} is named twice")]
    Twice(String),
    #[error("{0} is not one of the hosts that are asked")]
    Canary(String),
    #[error("over a new connection it is not what the plan says: {0}")]
    ReadBack(String),
    #[error("--machine names one host, and {0} are asked")]
    Machine(usize),
}

impl Problem for NodesError {
    fn category(&self) -> Category {
        match self {
            Self::NoPlan(_) | Self::Unknown(_) | Self::Nobody | Self::NoChange => {
                Category::NotFound
            }
            Self::ReadBack(_) => Category::Failure,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPlan(_) | Self::Unknown(_) | Self::NoAddress(_) => {
                "name the plan (sha256:..), or the host: --node ssh://root@ADDRESS".into()
            }
            Self::Nobody => "give the servers of site.toml `management` addresses".into(),
            Self::Machine(_) => "leave it out: a machine of the plan has its own name".into(),
            Self::ReadBack(_) => "vyr rollback; vyr drift names what differs".into(),
            Self::NoChange => "vyr apply makes one".into(),
            Self::Twice(_) | Self::Canary(_) => return None,
        })
    }
}

/// A host elsewhere.
pub(crate) struct Node {
    /// As it was named.
    pub(super) name: String,
    /// Its name in the plan, if that is known.
    pub(crate) machine: Option<String>,
    /// How it is asked.
    pub(crate) host: Host,
}

/// What a command is about.
pub(super) enum Target {
    /// This host.
    Here(Host),
    /// One host elsewhere: its answer is as if it were here.
    One(Site, Node),
    /// Several: a line for each.
    Many(Site, Vec<Node>),
}

impl Target {
    /// What the options name. `plan`: the one whose machines are meant; none: the one that was
    /// asked for last, or is applied.
    pub(super) fn choose(
        args: &NodeArgs,
        site: Option<&Path>,
        plan: Option<&Digest>,
        place: impl Fn() -> Result<Place>,
    ) -> Result<Self> {
        if args.nodes.is_empty() && !args.all {
            return Ok(Self::Here(here(&place()?)?));
        }
        let site = Site::find(site)?;
        let remote = &args.remote;
        if args.all {
            let plan = known_plan(&site, plan)?.ok_or(NodesError::NoPlan("anybody".into()))?;
            let machines = plan.machines.iter().filter(|machine| !machine.management.is_empty());
            let names: Vec<String> = machines.map(|machine| machine.name.to_string()).collect();
            if names.is_empty() {
                return Err(NodesError::Nobody.into());
            }
            let named = names.into_iter().map(|name| of_plan(&site, &plan, name, remote));
            let nodes = named.collect::<Result<_>>()?;
            return Ok(Self::Many(site, nodes));
        }
        let mut nodes: Vec<Node> = Vec::new();
        for name in &args.nodes {
            if nodes.iter().any(|node| node.name == *name) {
                return Err(NodesError::Twice(name.clone()).into());
            }
            nodes.push(node(&site, name, plan, remote)?);
        }
        match nodes.pop() {
            Some(only) if nodes.is_empty() => Ok(Self::One(site, only)),
            last => {
                nodes.extend(last);
                Ok(Self::Many(site, nodes))
            }
        }
    }
}

/// One host by its name or address.
pub(crate) fn node(
    site: &Site,
    name: &str,
    plan: Option<&Digest>,
    remote: &RemoteArgs,
) -> Result<Node> {
    if name.starts_with("ssh://") {
        let address = name.parse()?;
        let host = Host::Ssh(ssh(site.path(KNOWN_HOSTS), address, remote));
        return Ok(Node { name: name.to_owned(), machine: None, host });
    }
    let plan = known_plan(site, plan)?.ok_or_else(|| NodesError::NoPlan(name.to_owned()))?;
    of_plan(site, &plan, name.to_owned(), remote)
}

fn of_plan(site: &Site, plan: &Plan, name: String, remote: &RemoteArgs) -> Result<Node> {
    let machine = plan.machine(&name).ok_or_else(|| NodesError::Unknown(name.clone()))?;
    let first = machine.management.first().ok_or_else(|| NodesError::NoAddress(name.clone()))?;
    let address = SshAddress {
        user: Some(ADMINISTRATOR.to_owned()),
        host: first.to_string(),
        port: Some(machine.management_port),
    };
    let host = Host::Ssh(ssh(site.path(KNOWN_HOSTS), address, remote));
    Ok(Node { machine: Some(name.clone()), name, host })
}

fn ssh(known_hosts: PathBuf, address: SshAddress, remote: &RemoteArgs) -> Ssh {
    let RemoteArgs { remote_vyr, remote_data_dir } = remote;
    let (vyr, data_dir) = (remote_vyr.clone(), remote_data_dir.clone());
    Ssh { address, known_hosts, vyr, data_dir }
}

/// The plan that says where machines are.
fn known_plan(site: &Site, named: Option<&Digest>) -> Result<Option<Plan>> {
    if let Some(digest) = named {
        return Ok(Some(site.plan(digest)?));
    }
    if let Some(asked) = Asked::read(site)? {
        return Ok(Some(site.plan(&asked.plan)?));
    }
    Ok(site.applied()?.map(|applied| applied.plan))
}
