//! The wires, with a site of our own: one experimental interface on one server or on two.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::desk::Desk;
use super::wires::{Host, PLACES, Place, Wires};

/// The device's keys: the one it begins with, and the next.
pub(super) const KEYS: [&str; 2] = ["first.key", "next.key"];

/// How `vyr` reaches the data plane.
pub(super) const BACKEND: [&str; 2] = ["--backend", "userspace"];

/// Wires, and the desk at which the site is.
#[derive(Debug)]
pub(super) struct Town {
    pub(super) wires: Wires,
    pub(super) desk: Desk,
}

impl Town {
    /// A site with the first `servers` of `PLACES`.
    pub(super) fn new(vyr: &Path, servers: usize) -> Result<Self> {
        let town = Self { wires: Wires::new()?, desk: Desk::new(vyr)? };
        for file in KEYS {
            let private = town.wires.device.run("wg", &["genkey"], "")?;
            fs::write(town.desk.path(file), private)?;
        }
        for key in ["op", "backup"] {
            town.say(&PLACES[0], &["key", "new", key])?;
        }
        let name = &town.wires.name;
        let read = |file: &str| fs::read_to_string(town.desk.path(file));
        let mut site = format!(
            r#"version = 1
name = "bench"
prefix = "fd3a:91c2:77e0::/48"

[operators]
threshold = 1
from = ["192.168.77.0/24"]

[recovery]
recipients = ["{}"]

[interfaces.{name}]
role = "r"
lan = ["192.168.78.0/24"]
internet = false
ipv6 = true
experimental = true

[profiles.split]
lan = true
internet = false

[constraints]
{name} = ["split"]
"#,
            read("nas/keys/backup.pub")?.trim(),
        );
        for place in &PLACES[..servers] {
            let own = town.say(place, &["server", "key", &town.wires.link])?;
            let Place { name: server, outside, number, .. } = place;
            site += &format!(
                "\n[servers.{server}]\nmanagement = [\"{outside}\"]\nroles = [\"r\"]\n\n\
                 [interfaces.{name}.at.{server}]\nendpoint = \"{outside}\"\nport = 51820\n\
                 public_key = \"{own}\"\n\
                 vpn = [\"10.{number}.0.0/24\", \"fd3a:91c2:77e0:{number}::/64\"]\n"
            );
        }
        fs::write(town.desk.path("site/site.toml"), site)?;
        let line =
            format!("op@bench namespaces=\"vyr-plan,vyr-bundle\" {}", read("nas/keys/op.pub")?);
        fs::write(town.desk.path("site/operators.allowed_signers"), line)?;
        Ok(town)
    }

    /// Runs it on nobody's host, with the data of a server.
    fn say(&self, place: &Place, arguments: &[&str]) -> Result<String> {
        self.desk.say(&self.wires.device, place.name, arguments)
    }

    /// The public half of one of the device's keys.
    pub(super) fn public(&self, key: &str) -> Result<String> {
        let private = fs::read_to_string(self.desk.path(key))?;
        Ok(self.wires.device.run("wg", &["pubkey"], &private)?.trim().to_owned())
    }

    /// A signed plan in which the device has these keys, in these states.
    pub(super) fn plan(&self, keys: &[(&str, &str)]) -> Result<String> {
        let mut text = String::from("version = 1\nclients = [\n");
        for (key, state) in keys {
            text += &format!(
                "  {{ id = \"ana\", owner = \"Ana\", interface = \"{}\", profile = \"split\", \
                 public_key = \"{}\", state = \"{state}\" }},\n",
                self.wires.name,
                self.public(key)?
            );
        }
        fs::write(self.desk.path("site/clients.toml"), text + "]\n")?;
        self.desk.sign(&self.wires.device, PLACES[0].name)
    }

    /// Applies a plan to a host and confirms it.
    pub(super) fn apply(&self, host: &Host, place: &Place, plan: &str) -> Result<()> {
        let site = self.desk.text("site")?;
        let what = ["apply", plan, "--site", &site, "--machine", place.name, "--no-confirm"];
        self.desk.say(&host.space, place.name, &[&what[..], &BACKEND].concat()).map(drop)
    }

    /// A router at a place, as a plan says.
    pub(super) fn router(&self, place: &Place, plan: &str) -> Result<Host> {
        let host = self.wires.host(place)?;
        self.apply(&host, place, plan)?;
        Ok(host)
    }

    /// The device's configurations, one for each of `places`, from a plan that no host has yet.
    pub(super) fn export(&self, places: &[Place]) -> Result<Vec<String>> {
        let (site, key, out) =
            (self.desk.text("site")?, self.desk.text(KEYS[0])?, self.desk.text("ana")?);
        let what = ["client", "export", "ana", "--site", &site, "--key", &key, "--out", &out];
        self.say(&PLACES[0], &what)?;
        let texts = texts(Path::new(&out))?;
        let of = |place: &Place| {
            let end = format!("{}:", place.outside);
            texts.iter().find(|text| text.contains(&end)).cloned().context("no configuration")
        };
        places.iter().map(of).collect()
    }
}

/// All files below a directory.
fn texts(directory: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => all.extend(texts(&entry.path())?),
            false => all.push(fs::read_to_string(entry.path())?),
        }
    }
    Ok(all)
}
