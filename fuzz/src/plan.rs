//! Targets of `vyr-plan`: the files of a site, its lock, compiled plans, and the texts in them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use toml::Value;
use vyr_base::{Diagnostic, Source};
use vyr_plan::intent::{
    Address, Expect, Host, Key, Name, Owner, Place, Prefix, Recipient, Service,
};
use vyr_plan::plan::{Machine, PLAN_BYTES_MAX};
use vyr_plan::{
    Files, Intent, Lock, Packet, Plan, addresses, allocate, compile, prove, run_contracts,
};

use crate::base64;
use crate::checks::problem;

/// A small site that everything else is read beside.
pub const SITE: &str = r#"version = 1
name = "small"
prefix = "fd3a:91c2:77e0::/48"
operators = { threshold = 1, from = ["10.9.0.0/24"] }
mesh = { port = 51871, allow = ["icmp"] }
[servers.gate]
management = ["10.9.0.1"]
roles = ["lab"]
[interfaces.lab]
role = "lab"
lan = ["10.9.0.0/24"]
dns = ["10.9.0.1"]
internet = true
ipv6 = true
[interfaces.lab.at.gate]
endpoint = "gate.example.net"
port = 51820
public_key = "BELje7XeyBfVpPzco7alYzbJzBOSe581jA0124w5hkU="
vpn = ["10.8.0.0/28", "fd3a:91c2:77e0:8::/64"]
[profiles.split]
lan = true
internet = false
[profiles.full]
lan = true
internet = true
[constraints]
lab = ["split", "full"]
[nodes.gate]
endpoint = "gate.example.net"
public_key = "m8DexlK7/aRRnscCAf0a8syOI13M2A2t+rqCdrmzuRU="
[nodes.far]
public_key = "kzefrzjSsRHnR68DMDqf2eEY39hPBdLFwb9ciddps2g="
"#;

/// Its clients.
pub const CLIENTS: &str = r#"version = 1
clients = [
  { id = "ana", owner = "Ana", interface = "lab", profile = "split", public_key = "qKGmbqNofV5D+vwSAKbsCdWojbzyu9uCs8MDikxuY2A=", state = "active" },
  { id = "ben", owner = "Ben", interface = "lab", profile = "full", public_key = "PLr2LDVFNbaKTlE1x8WgR7pSk8TAYO5QjOOU2uAYGjc=", state = "active" },
]
"#;

/// Longest line of a fault: the line of the file that is shown, or a list of what is known.
const LINE_CHARS_MAX: usize = 2000;
/// Most faults that are told of three files.
const FAULTS_MAX: usize = 4 * 201;

fn files(site: &str, clients: Option<&str>, contracts: Option<&str>) -> Files {
    Files {
        clients: clients.map(|text| Source::new("clients.toml", text)),
        contracts: contracts.map(|text| Source::new("c.toml", text)).into_iter().collect(),
        ..Files::new(Source::new("site.toml", site))
    }
}

/// Faults say where in the text, and say it in lines that a terminal takes.
pub(crate) fn faults(found: &[Diagnostic], texts: &[(&str, &str)]) {
    assert!(!found.is_empty() && found.len() <= FAULTS_MAX, "{} faults", found.len());
    for fault in found {
        assert!(fault.is_error() && !fault.what.is_empty());
        let told = fault.to_string();
        for line in told.lines() {
            assert!(line.chars().count() <= LINE_CHARS_MAX, "{line:.200}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        for place in fault.place.iter().chain(&fault.first) {
            let text = texts.iter().find(|(name, _)| *name == place.file);
            let (_, text) = text.expect("the place of a fault is in a file that was given");
            let line = text.split('\n').nth(place.line - 1).expect("a line that is there");
            assert!(place.column <= line.chars().count() + 1, "{told}");
        }
    }
}

/// What holds for the plan of any intent that was taken.
fn compiled(intent: &Intent, guaranteed: &[&str]) {
    let lock = match allocate(intent, &Lock::default(), None) {
        Ok(lock) => lock,
        Err(found) => {
            assert!(found.iter().all(|fault| fault.id == "lock-full"), "{}", found[0]);
            return;
        }
    };
    assert!(lock.stale(intent, None).is_empty(), "a new lock is stale");
    let text = Source::new("vyr.lock", lock.to_string());
    assert_eq!(Lock::parse(&text).expect("its own text"), lock);
    let plan = compile(intent, &lock).expect("no two hashes agree");
    let bytes = plan.to_bytes().expect("integers only");
    assert_eq!(Plan::parse(&bytes).expect("its own bytes"), plan);
    for violation in prove(&plan, None) {
        assert!(!guaranteed.contains(&violation.id), "the compiler's own fault: {violation:?}");
        if let (Some(packet), Some(rule)) = (&violation.packet, &violation.rule) {
            assert!(accepted(&plan, packet, Some(rule)), "{packet} by {rule}: {violation:?}");
        }
        let _ = violation.diagnostic(intent).to_string();
    }
}

/// Whether a rule of the plan accepts a packet, by looking at prefixes one by one.
fn accepted(plan: &Plan, packet: &Packet, rule: Option<&str>) -> bool {
    let has = |machine: &Machine, set: &str, address: IpAddr| {
        machine
            .sets
            .iter()
            .any(|one| one.name == set && one.prefixes.iter().any(|net| net.contains(&address)))
    };
    let service = |one: &Service| match *one {
        Service::Any => true,
        Service::Icmp => packet.protocol == if packet.to.is_ipv4() { 1 } else { 58 },
        Service::Ports { protocol, first, last } => {
            protocol == packet.protocol && (first..=last).contains(&packet.port)
        }
    };
    plan.machines.iter().any(|machine| {
        machine.rules.iter().any(|one| {
            rule.is_none_or(|rule| one.id == rule)
                && has(machine, &one.source, packet.from)
                && has(machine, &one.destination, packet.to)
                && one.services.iter().any(service)
        })
    })
}

/// A site that is taken has what its text says, and compiles; one that is not says where.
pub fn site_toml(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let plain = text.parse::<toml::Table>().ok();
    for clients in [Some(CLIENTS), None] {
        let intent = match files(text, clients, None).read() {
            Ok(intent) => intent,
            Err(found) => {
                faults(&found, &[("site.toml", text), ("clients.toml", CLIENTS)]);
                continue;
            }
        };
        let plain = plain.as_ref().expect("what is no TOML is refused");
        assert_eq!(plain["version"].as_integer(), Some(1));
        assert_eq!(plain["name"].as_str(), Some(intent.site.name.as_str()));
        let known = [
            "version",
            "name",
            "prefix",
            "operators",
            "recovery",
            "servers",
            "interfaces",
            "profiles",
            "constraints",
            "mesh",
            "nodes",
        ];
        assert!(plain.keys().all(|key| known.contains(&key.as_str())));
        let count =
            |key: &str| plain.get(key).and_then(Value::as_table).map_or(0, toml::Table::len);
        assert_eq!(count("servers"), intent.site.servers.len());
        assert_eq!(count("interfaces"), intent.site.interfaces.len());
        assert_eq!(count("nodes"), intent.site.nodes.len());
        // Whatever a site says, these are derived right.
        compiled(&intent, &["N01", "N02", "N03", "N16"]);
    }
}

/// A list of clients that is taken has a client for each entry, and what is derived is right.
pub fn clients_toml(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let plain = text.parse::<toml::Table>().ok();
    let intent = match files(SITE, Some(text), None).read() {
        Ok(intent) => intent,
        Err(found) => return faults(&found, &[("site.toml", SITE), ("clients.toml", text)]),
    };
    let plain = plain.expect("what is no TOML is refused");
    let entries = plain["clients"].as_array().expect("a list");
    assert_eq!(entries.len(), intent.clients.len());
    for (entry, client) in entries.iter().zip(&intent.clients) {
        let field = |name: &str| entry.get(name).and_then(Value::as_str);
        assert_eq!(entry.as_table().map(toml::Table::len), Some(6));
        assert_eq!(field("id"), Some(client.id.as_str()));
        assert_eq!(field("owner").map(str::to_owned), Some(client.owner.to_string()));
        let key = field("public_key").and_then(base64::decode);
        assert_eq!(key.as_deref(), Some(&client.public_key.bytes()[..]));
    }
    let others = ["N04", "N11", "N13"];
    let all = vyr_plan::INVARIANTS.iter().map(|one| one.id).filter(|id| !others.contains(id));
    compiled(&intent, &all.collect::<Vec<_>>());
}

/// Contracts that are taken are run, and what they show is so.
pub fn contracts_toml(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let intent = match files(SITE, Some(CLIENTS), Some(text)).read() {
        Ok(intent) => intent,
        Err(found) => {
            let texts = [("site.toml", SITE), ("clients.toml", CLIENTS), ("c.toml", text)];
            return faults(&found, &texts);
        }
    };
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    let plan = compile(&intent, &lock).expect("the small site compiles");
    let outcomes = run_contracts(&intent, &plan, Some(&plan));
    assert_eq!(outcomes.len(), intent.contracts.len());
    for (outcome, at) in outcomes.iter().zip(&intent.contracts) {
        let Some(broken) = &outcome.broken else { continue };
        assert_ne!(outcome.expect, Expect::Equal, "a plan differs from itself");
        let told = outcome.diagnostic(&intent).expect("a fault");
        faults(&[told], &[("c.toml", text)]);
        let Some(packet) = &broken.packet else { continue };
        // The packet is one that the contract is about.
        let point = vyr_plan::point(packet.from);
        assert!(at.contract.from.iter().any(|place| addresses(&plan, place).contains(point)));
        let point = vyr_plan::point(packet.to);
        assert!(at.contract.to.iter().any(|place| addresses(&plan, place).contains(point)));
        match outcome.expect {
            Expect::NoReach => assert!(accepted(&plan, packet, broken.rule.as_deref())),
            _ => assert!(!accepted(&plan, packet, None) || broken.why.contains("tunnel")),
        }
    }
}

/// A lock that is taken is written as the lines it has, and mends to one that is not stale.
pub fn vyr_lock(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let lines: BTreeSet<&str> = text
        .split('\n')
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let source = Source::new("vyr.lock", text);
    let lock = match Lock::parse(&source) {
        Ok(lock) => lock,
        Err(found) => {
            assert!(found.iter().all(Diagnostic::is_error) && !found.is_empty());
            return;
        }
    };
    let written = lock.to_string();
    let again: BTreeSet<&str> = written.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(again, lines, "a line has a second spelling");
    assert_eq!(Lock::parse(&Source::new("vyr.lock", &*written)).expect("its own text"), lock);
    crate::services::locked(&lock);
    let intent = files(SITE, Some(CLIENTS), None).read().expect("the small site");
    let _ = lock.stale(&intent, None);
    let Ok(mended) = allocate(&intent, &lock, None) else { return };
    assert!(mended.stale(&intent, None).is_empty(), "a mended lock is stale");
    assert_eq!(allocate(&intent, &mended, None).ok().as_ref(), Some(&mended));
    assert!(lock.revoked().all(|key| mended.revoked().any(|other| other == key)));
    let plan = compile(&intent, &mended).expect("the small site compiles");
    let used: Vec<Ipv4Addr> = plan
        .clients
        .iter()
        .flat_map(|client| &client.addresses)
        .flat_map(|of| &of.addresses)
        .filter_map(|net| match net.addr() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
        .collect();
    assert_eq!(used.iter().collect::<BTreeSet<_>>().len(), used.len(), "an address twice");
    assert_eq!(used.len(), 2);
}

/// A plan that is read is written as it was, and whatever it says can be judged.
pub fn plan_json(input: &[u8]) {
    let plan = match Plan::parse(input) {
        Ok(plan) => plan,
        Err(error) => return problem(&error),
    };
    assert!(input.len() <= PLAN_BYTES_MAX);
    assert_eq!(plan.to_bytes().expect("it was read").as_slice(), input);
    let digest = vyr_base::Digest::of(input);
    assert_eq!(Plan::parse_as(input, &digest).expect("its own name"), plan);
    let other = vyr_base::Digest::of(b"");
    assert!(Plan::parse_as(input, &other).is_err());
    for violation in prove(&plan, Some(&plan)) {
        if let (Some(packet), Some(rule)) = (&violation.packet, &violation.rule) {
            assert!(accepted(&plan, packet, Some(rule)), "{packet} by {rule}: {violation:?}");
        }
    }
    let intent = files(SITE, Some(CLIENTS), None).read().expect("the small site");
    let _ = run_contracts(&intent, &plan, Some(&plan));
    let sorted = |names: Vec<&str>| names.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(sorted(plan.clients.iter().map(|one| one.id.as_str()).collect()));
    for machine in &plan.machines {
        assert!(sorted(machine.sets.iter().map(|one| one.name.as_str()).collect()));
    }
}

/// Each text has one spelling, and a plain reader agrees on what it is.
pub fn plan_texts(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    fn one<T: std::str::FromStr + ToString>(text: &str) -> bool {
        match text.parse::<T>() {
            Ok(value) => {
                assert_eq!(value.to_string(), text, "a second spelling was taken");
                true
            }
            Err(_) => false,
        }
    }
    let simple = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let name = matches!(input, [first, ..] if first.is_ascii_lowercase())
        && input.len() <= 31
        && input.last() != Some(&b'-')
        && input.iter().all(|c| simple(*c));
    assert_eq!(one::<Name>(text), name);
    let key = base64::decode(text).filter(|key| key.len() == 32 && key.iter().any(|b| *b != 0));
    assert_eq!(one::<Key>(text), key.is_some());
    assert_eq!(text.parse::<Key>().ok().map(|key| key.bytes().to_vec()), key);
    let prefix = one::<Prefix>(text);
    assert!(!prefix || text.contains('/'));
    if one::<Address>(text) {
        assert!(text.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback() && !ip.is_multicast()));
        assert!(one::<Host>(text), "an address is a host");
    }
    if one::<Host>(text) {
        assert!(text.is_ascii() && !text.contains(['/', ' ', '%']) && text.len() <= 253);
    }
    if one::<Service>(text) {
        assert!(text.is_ascii() && text.len() <= 15);
    }
    if one::<Owner>(text) {
        assert!((1..=64).contains(&text.chars().count()) && !text.contains(char::is_control));
    }
    if one::<Recipient>(text) {
        assert!(text.starts_with("age1") || text.starts_with("ssh-ed25519 "));
    }
    one::<Place>(text);
}
