//! A site with any number of clients: the same number gives the same bytes.
//!
//! Ten interfaces on eleven servers, one in ten clients with the internet, a mesh of five nodes and
//! any number of contracts. Nothing in it is random: what looks so comes from counting.

use std::fmt::Write as _;

use vyr_base::Source;
use vyr_plan::Files;
use vyr_plan::intent::Key;

/// Interfaces of clients; the first one is on two servers.
const INTERFACES: usize = 10;
const NODES: usize = 5;
/// One in so many clients may reach the internet.
const FULL_EACH: usize = 10;
/// One in so many clients was revoked.
const REVOKED_EACH: usize = 100;

/// The public key of a number: no two numbers have the same.
fn key(kind: u8, number: usize) -> Key {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
    Key::from_bytes(bytes)
}

/// The files of a site with so many clients and contracts, without a lock.
pub fn site(clients: usize, contracts: usize) -> Files {
    Files {
        site: Source::new("site.toml", site_toml()),
        clients: Some(Source::new("clients.toml", clients_toml(clients))),
        signers: None,
        contracts: vec![Source::new("contracts/all.toml", contracts_toml(clients, contracts))],
        lock: None,
    }
}

fn site_toml() -> String {
    let mut text = "version = 1\nname = \"large\"\nprefix = \"fd3a:91c2:77e0::/48\"\n\n\
                    [operators]\nthreshold = 1\nfrom = [\"10.1.0.0/24\"]\n\n\
                    [profiles.split]\nlan = true\ninternet = false\n\n\
                    [profiles.full]\nlan = true\ninternet = true\n\n\
                    [mesh]\nport = 51871\nallow = [\"icmp\", \"tcp/22\"]\n"
        .to_owned();
    let mut add = |lines: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = text.write_fmt(lines);
    };
    for n in 0..INTERFACES {
        let spare = if n == 0 {
            "\n[servers.spare]\nmanagement = [\"10.1.0.99\"]\nroles = [\"net-0\"]\n"
        } else {
            ""
        };
        add(format_args!(
            "{spare}\n[servers.router-{n}]\nmanagement = [\"10.1.{n}.1\"]\nroles = [\"net-{n}\"]\n\n\
             [interfaces.net-{n}]\nrole = \"net-{n}\"\nlan = [\"10.1.{n}.0/24\"]\n\
             dns = [\"10.1.{n}.1\"]\ninternet = true\nipv6 = true\n"
        ));
        let ends = [Some((format!("router-{n}"), n)), (n == 0).then(|| ("spare".into(), 99))];
        for (server, at) in ends.into_iter().flatten() {
            add(format_args!(
                "\n[interfaces.net-{n}.at.{server}]\nendpoint = \"{server}.example.net\"\n\
                 port = 51820\npublic_key = \"{}\"\n\
                 vpn = [\"10.{}.0.0/16\", \"fd3a:91c2:77e0:{}::/64\"]\n",
                key(1, at),
                100 + at,
                1 + at,
            ));
        }
    }
    for n in 0..NODES {
        add(format_args!(
            "\n[nodes.router-{n}]\nendpoint = \"router-{n}.example.net\"\npublic_key = \"{}\"\n",
            key(2, n)
        ));
    }
    add(format_args!("\n[constraints]\n"));
    for n in 0..INTERFACES {
        add(format_args!("net-{n} = [\"split\", \"full\"]\n"));
    }
    text
}

fn clients_toml(clients: usize) -> String {
    let mut text = "version = 1\nclients = [\n".to_owned();
    for n in 0..clients {
        let profile = if n % FULL_EACH == 3 { "full" } else { "split" };
        let state = if n % REVOKED_EACH == 57 { "revoked" } else { "active" };
        let _ = writeln!(
            text,
            "  {{ id = \"device-{n}\", owner = \"Person {}\", interface = \"net-{}\", \
             profile = \"{profile}\", public_key = \"{}\", state = \"{state}\" }},",
            n / 3,
            n % INTERFACES,
            key(3, n)
        );
    }
    text + "]\n"
}

fn contracts_toml(clients: usize, contracts: usize) -> String {
    let mut text = "version = 1\ncontracts = []\n".to_owned();
    if contracts > 0 {
        text = "version = 1\n".to_owned();
    }
    for n in 0..contracts {
        let (one, other) = (n % INTERFACES, (n + 1) % INTERFACES);
        // An active client: those at 57 of each hundred are not.
        let client = n * 7 % clients.max(1);
        let client = if client % REVOKED_EACH == 57 { client - 1 } else { client };
        let (from, to, port, expect) = match n % 5 {
            0 => (format!("interface:net-{one}"), format!("lan:net-{one}"), "any", "reach"),
            1 => (
                format!("interface:net-{one}"),
                format!("interface:net-{other}"),
                "any",
                "no-reach",
            ),
            2 => ("profile:full".into(), "internet".into(), "tcp/443", "reach"),
            3 => (format!("client:device-{client}"), "mesh".into(), "any", "no-reach"),
            _ => (format!("interface:net-{one}"), "0.0.0.0/0".into(), "any", "equal"),
        };
        let _ = write!(
            text,
            "\n[[contracts]]\nname = \"contract-{n}\"\nfrom = [\"{from}\"]\nto = [\"{to}\"]\n\
             port = [\"{port}\"]\nexpect = \"{expect}\"\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use vyr_plan::{Applied, Lock, allocate, compile, prove, run_contracts};

    use super::*;

    #[test]
    fn the_large_site_is_sound_at_any_size() {
        for clients in [10, 300] {
            let intent = site(clients, 25).read().expect("it is good");
            assert_eq!(intent.clients.len(), clients);
            let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
            let plan = compile(&intent, &lock).expect("it compiles");
            assert_eq!(prove(&plan, None), []);
            let applied = Applied { digest: plan.digest().expect("canonical"), plan };
            assert!(!lock.stale(&intent, Some(&applied)).is_empty(), "another epoch");
            for outcome in run_contracts(&intent, &applied.plan, Some(&applied.plan)) {
                assert_eq!(outcome.broken, None, "{}", outcome.name);
            }
        }
    }
}
