//! One server with 1,000 peers in a namespace, and a client of it in another one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use vyr_base::Digest;
use vyr_plan::Plan;
use vyr_plan::render::{self, PRIVATE_KEY_PLACEHOLDER};

use super::desk::Desk;
use super::place::Plane;
use crate::space::Namespace;

/// Peers of the server.
pub(super) const PEERS: usize = 1_000;

const SERVER: &str = "192.168.77.5";
const CLIENT: &str = "192.168.77.9";

/// What the other client, the one that changes, has at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// One key, and the local network.
    One,
    /// Another key, and the internet too: one peer and one rule differ.
    Two,
}

/// What `vyr apply --json` says, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Applied {
    /// The steps.
    pub(super) steps: Vec<String>,
    /// `waits`, `confirmed` or `nothing`.
    pub(super) outcome: String,
    /// Until when it waits.
    pub(super) deadline: Option<Timestamp>,
}

/// The place. The planes end before their namespaces.
#[derive(Debug)]
pub(super) struct Office {
    desk: Desk,
    link: String,
    name: String,
    public: String,
    keys: Vec<String>,
    planes: [Plane; 2],
    pub(super) server: Namespace,
    pub(super) client: Namespace,
}

impl Office {
    /// `tag` tells offices of one run apart.
    pub(super) fn new(vyr: &Path, tag: &str) -> Result<Self> {
        let (server, client) = (Namespace::make()?, Namespace::make()?);
        server.ip("link set lo up\nlink add lan0 type veth peer name far\n")?;
        server.ip(&format!("link set far netns {} name lan0\n", client.id()))?;
        for (space, own) in [(&server, SERVER), (&client, CLIENT)] {
            let up = "link set lan0 up\nlink set lo up\n";
            space.ip(&format!("address add {own}/24 dev lan0\n{up}"))?;
        }
        // Sockets of all data planes are in one directory, other runs have other numbers.
        let name = format!("{tag}{}", std::process::id() % 100_000);
        let link = format!("vyr-{name}");
        let tunnel = format!("c{name}");
        let planes = [Plane::start(&server, &link)?, Plane::start(&client, &tunnel)?];
        let private = client.run("wg", &["genkey"], "")?;
        let public = client.run("wg", &["pubkey"], &private)?.trim().to_owned();
        let desk = Desk::new(vyr)?;
        fs::write(desk.path("client.key"), &private)?;
        // Keys that are functions of a number. Nobody has their private halves.
        let key = |number: usize| {
            let bytes = *Digest::of(format!("peer {number}").as_bytes()).as_bytes();
            vyr_plan::intent::Key::from_bytes(bytes).to_string()
        };
        let keys = (0..=PEERS).map(key).collect();
        let office = Self { desk, link, name, public, keys, planes, server, client };
        office.write_site()?;
        Ok(office)
    }

    /// Processes that live as long as it does, and do part of the work.
    pub(super) fn processes(&self) -> [u32; 2] {
        [self.planes[0].id(), self.planes[1].id()]
    }

    fn write_site(&self) -> Result<()> {
        let own = self.say(&["server", "key", &self.link])?;
        self.say(&["key", "new", "op"])?;
        let operator = fs::read_to_string(self.desk.path("data/keys/op.pub"))?;
        let name = &self.name;
        let site = format!(
            r#"version = 1
name = "office"
prefix = "fd3a:91c2:77e0::/48"

[operators]
threshold = 1
from = ["192.168.77.0/24"]

[servers.nas]
management = ["{SERVER}"]
roles = ["r"]

[interfaces.{name}]
role = "r"
lan = ["192.168.77.0/24"]
internet = true
ipv6 = true

[interfaces.{name}.at.nas]
endpoint = "{SERVER}"
port = 51820
public_key = "{own}"
vpn = ["10.21.0.0/16", "fd3a:91c2:77e0:21::/64"]

[profiles.split]
lan = true
internet = false

[profiles.full]
lan = true
internet = true

[constraints]
{name} = ["split", "full"]
"#
        );
        fs::write(self.desk.path("site/site.toml"), site)?;
        let line = format!("op@office namespaces=\"vyr-plan\" {operator}");
        Ok(fs::write(self.desk.path("site/operators.allowed_signers"), line)?)
    }

    fn say(&self, arguments: &[&str]) -> Result<String> {
        self.desk.say(&self.server, "data", arguments)
    }

    /// A signed plan: 1,000 peers, one of them this client (or not), another one that changes.
    pub(super) fn plan(&self, other: Other, with_client: bool) -> Result<String> {
        let mut text = String::from("version = 1\nclients = [\n");
        let mut line = |id: &str, profile: &str, key: &str| {
            let _ = writeln!(
                text,
                "  {{ id = \"{id}\", owner = \"Ana\", interface = \"{}\", profile = \"{profile}\", \
                 public_key = \"{key}\", state = \"active\" }},",
                self.name
            );
        };
        if with_client {
            line("here", "split", &self.public);
        }
        match other {
            Other::One => line("other", "split", &self.keys[0]),
            Other::Two => line("other", "full", &self.keys[PEERS]),
        }
        for number in 1..PEERS - 1 {
            line(&format!("c-{number}"), "split", &self.keys[number]);
        }
        fs::write(self.desk.path("site/clients.toml"), text + "]\n")?;
        self.desk.sign(&self.server, "data")
    }

    /// Applies a plan; what it says, and milliseconds of the whole process.
    pub(super) fn apply(&self, plan: &str, more: &[&str]) -> Result<(Applied, f64)> {
        let site = self.desk.text("site")?;
        let common = ["--json", "apply", plan, "--site", &site, "--machine", "nas"];
        let arguments = [&common[..], &["--backend", "userspace"], more].concat();
        let start = Instant::now();
        let said = self.say(&arguments)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        Ok((serde_json::from_str(&said).with_context(|| said.clone())?, ms))
    }

    /// Writes what `by_hand` loads.
    pub(super) fn write_by_hand(&self, plan: &str, tag: &str) -> Result<()> {
        let plan = Plan::parse(&self.desk.plan(plan)?)?;
        let machine = plan.machine("nas").context("no machine")?;
        let link = machine.links.first().context("no link")?;
        let key =
            fs::read_to_string(self.desk.path(&format!("data/network/keys/{}.key", self.link)))?;
        let text = render::wireguard(&plan, machine, link)?;
        fs::write(
            self.desk.path(&format!("{tag}.conf")),
            text.replace(PRIVATE_KEY_PLACEHOLDER, key.trim()),
        )?;
        Ok(fs::write(self.desk.path(&format!("{tag}.json")), render::firewall(machine)?)?)
    }

    /// The reference: what an engineer would type to make the server as the files say, without a
    /// check, a record, a way back or a reading of what came of it. Milliseconds.
    pub(super) fn by_hand(&self, tag: &str) -> Result<f64> {
        let (conf, rules) =
            (self.desk.path(&format!("{tag}.conf")), self.desk.path(&format!("{tag}.json")));
        let mut command = Command::new("sh");
        command.args(["-ec", "wg syncconf \"$1\" \"$2\"; nft -j -f \"$3\"", "by-hand", &self.link]);
        command.arg(conf).arg(rules);
        let start = Instant::now();
        let output = self.server.output(&mut command)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(ms)
    }

    /// Gives the client its side of the tunnel, as its configuration would.
    pub(super) fn connect(&self, plan: &str) -> Result<()> {
        let tunnel = format!("c{}", self.name);
        let server = self.say(&["server", "key", &self.link])?;
        let plan: serde_json::Value = serde_json::from_slice(&self.desk.plan(plan)?)?;
        let clients = plan["clients"].as_array().context("no clients")?;
        let here = clients.iter().find(|client| client["id"] == "here").context("not there")?;
        let all = here["addresses"][0]["addresses"].as_array().context("no addresses")?;
        let all = all.iter().filter_map(|of| of.as_str()?.split('/').next());
        let address = all.into_iter().find(|of| of.contains('.')).context("no address")?;
        let key = self.desk.text("client.key")?;
        let endpoint = format!("{SERVER}:51820");
        let set = ["set", &tunnel, "private-key", &key, "peer", &server, "endpoint", &endpoint];
        self.client.run("wg", &[&set[..], &["allowed-ips", "10.21.0.0/16"]].concat(), "")?;
        self.client
            .ip(&format!("address add {address}/16 dev {tunnel}\nlink set {tunnel} up\n"))?;
        self.client.run("ping", &["-c", "20", "-i", "0.1", "-W", "1", "10.21.0.1"], "").map(drop)
    }
}
