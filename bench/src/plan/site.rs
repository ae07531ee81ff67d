//! Sites of any size, the same ones every time: two gateways, a laboratory, a mesh of three nodes,
//! clients on three interfaces, a hundred contracts.

use std::fmt::Write as _;

use vyr_base::{Digest, Source};
use vyr_plan::Files;

/// Contracts of each site.
pub const CONTRACTS: usize = 100;

/// A key that is a function of a name. Nobody has its private half.
fn key(name: &str) -> String {
    let bytes = *Digest::of(name.as_bytes()).as_bytes();
    vyr_plan::intent::Key::from_bytes(bytes).to_string()
}

/// The files of a site with `clients` clients.
pub fn files(clients: usize) -> Files {
    Files {
        clients: Some(Source::new("clients.toml", inventory(clients))),
        contracts: vec![Source::new("contracts/all.toml", contracts(clients))],
        ..Files::new(Source::new("site.toml", site()))
    }
}

fn site() -> String {
    let mut text = String::from(
        "version = 1\nname = \"large\"\nprefix = \"fd00:1234:5678::/48\"\n\
         [operators]\nthreshold = 1\nfrom = [\"192.168.1.0/24\"]\nclients = [\"c-0\"]\n\
         [mesh]\nport = 51871\nallow = [\"icmp\", \"tcp/22\"]\n\
         [profiles.split]\nlan = true\ninternet = false\n\
         [profiles.full]\nlan = true\ninternet = true\n\
         [constraints]\neast = [\"split\", \"full\"]\nwest = [\"split\"]\nlab = [\"split\"]\n",
    );
    for (number, (name, internet, lab)) in INTERFACES.iter().enumerate() {
        let _ = write!(
            text,
            "[servers.gate-{name}]\nmanagement = [\"192.168.100.{}\"]\nroles = [\"{name}\"]\n\
             [interfaces.{name}]\nrole = \"{name}\"\nlan = [\"192.168.{}.0/24\", \"fd00:1234:5678:{}::/64\"]\n\
             internet = {internet}\nipv6 = true\nexperimental = {lab}\n\
             [interfaces.{name}.at.gate-{name}]\nendpoint = \"{name}.example.net\"\nport = 51820\n\
             public_key = \"{}\"\nvpn = [\"10.{}.0.0/16\", \"fd00:1234:5678:{}::/64\"]\n\
             [nodes.gate-{name}]\nendpoint = \"{name}.example.net\"\npublic_key = \"{}\"\n",
            number + 1,
            number + 1,
            number + 10,
            key(&format!("end {name}")),
            number + 16,
            number + 20,
            key(&format!("node {name}")),
        );
    }
    text
}

/// Name, internet, experiment.
const INTERFACES: [(&str, bool, bool); 3] =
    [("east", true, false), ("west", false, false), ("lab", false, true)];

fn inventory(clients: usize) -> String {
    let mut text = String::from("version = 1\nclients = [\n");
    for number in 0..clients {
        let (interface, profile) = match number % 8 {
            0 | 1 => ("east", "full"),
            2..=4 => ("east", "split"),
            5 | 6 => ("west", "split"),
            _ => ("lab", "split"),
        };
        let _ = writeln!(
            text,
            "  {{ id = \"c-{number}\", owner = \"Person {number}\", interface = \"{interface}\", \
             profile = \"{profile}\", public_key = \"{}\", state = \"active\" }},",
            key(&format!("client {number}")),
        );
    }
    text + "]\n"
}

/// A change of a large site: every hundredth client moves to the other profile of `east`.
pub fn changed(clients: usize) -> Files {
    let mut files = files(clients);
    let text = inventory(clients);
    let lines = text.lines().enumerate().map(|(number, line)| match number % 100 {
        2 => line.replace("\"full\"", "\"split\""),
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    files.clients = Some(Source::new("clients.toml", text));
    files
}

fn contracts(clients: usize) -> String {
    let mut text = String::from("version = 1\n");
    for number in 0..CONTRACTS {
        let client = format!("client:c-{}", 8 * number % clients / 8 * 8);
        let (from, to, port, expect) = match number % 5 {
            0 => ("profile:split".into(), "internet".into(), "any", "no-reach"),
            1 => (client, "internet".into(), "tcp/443", "reach"),
            2 => ("interface:west".into(), "lan:east".into(), "any", "no-reach"),
            3 => ("interface:east".into(), format!("192.168.1.{}", number + 1), "tcp/445", "reach"),
            _ => ("interface:lab".into(), "mesh".into(), "any", "no-reach"),
        };
        let _ = writeln!(
            text,
            "[[contracts]]\nname = \"contract-{number}\"\nfrom = [\"{from}\"]\nto = [\"{to}\"]\n\
             port = [\"{port}\"]\nexpect = \"{expect}\"",
        );
    }
    text
}
