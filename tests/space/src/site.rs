//! The text of a site with one server, which is called `nas`.

use std::fmt;

/// A site with one server and one interface, of one profile: the local networks.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The interface; its link is `vyr-` and this name.
    pub name: &'a str,
    /// The server: where operators reach it, and what clients connect to.
    pub server: &'a str,
    /// The network from which operators work.
    pub operators: &'a str,
    /// The local network behind the server.
    pub lan: &'a str,
    /// The public key of its link.
    pub public_key: &'a str,
    /// Who can open its recovery bundles.
    pub recovery: &'a [&'a str],
}

impl fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, server, operators, lan, public_key, recovery } = self;
        write!(
            f,
            r#"version = 1
name = "office"
prefix = "fd3a:91c2:77e0::/48"

[operators]
threshold = 1
from = ["{operators}"]

"#
        )?;
        if !recovery.is_empty() {
            let all: Vec<String> = recovery.iter().map(|one| format!("\"{one}\"")).collect();
            write!(f, "[recovery]\nrecipients = [{}]\n\n", all.join(", "))?;
        }
        write!(
            f,
            r#"[servers.nas]
management = ["{server}"]
roles = ["r"]

[interfaces.{name}]
role = "r"
lan = ["{lan}"]
internet = false
ipv6 = true

[interfaces.{name}.at.nas]
endpoint = "{server}"
port = 51820
public_key = "{public_key}"
vpn = ["10.21.0.0/24", "fd3a:91c2:77e0:21::/64"]

[profiles.split]
lan = true
internet = false

[constraints]
{name} = ["split"]
"#
        )
    }
}
