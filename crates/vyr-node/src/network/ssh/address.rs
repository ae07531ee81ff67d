//! Where a host is found over ssh, in the one spelling that commands take.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use vyr_net::words::quoted;

use super::SshError;

/// Where a host is found: `ssh://[USER@]HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SshAddress {
    /// Who logs in; none: as the user's configuration says.
    pub user: Option<String>,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port; none: as the user's configuration says.
    pub port: Option<u16>,
}

impl FromStr for SshAddress {
    type Err = SshError;

    fn from_str(text: &str) -> Result<Self, SshError> {
        let fail = || SshError::Address(quoted(text));
        let rest = text.strip_prefix("ssh://").ok_or_else(fail)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => {
                host.parse::<Ipv6Addr>().map_err(|_| fail())?;
                (host, (!port.is_empty()).then(|| port.strip_prefix(':')))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(Some(port))),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(port) => {
                let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
                Some(port.ok_or_else(fail)?)
            }
            None => None,
        };
        // A word of these is no option, and nothing to any shell that a configuration starts.
        let plain = |word: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !word.is_empty() && !word.starts_with('-') && word.chars().all(fits)
        };
        let known = plain(host) || host.parse::<Ipv6Addr>().is_ok();
        match known && user.as_deref().is_none_or(plain) {
            true => Ok(Self { user, host: host.to_owned(), port }),
            false => Err(fail()),
        }
    }
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.parse() {
            Ok(IpAddr::V6(host)) => write!(f, "[{host}]")?,
            _ => f.write_str(&self.host)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_more() {
        for (text, user, host, port) in [
            ("ssh://nas", None, "nas", None),
            ("ssh://root@192.0.2.1:2222", Some("root"), "192.0.2.1", Some(2222)),
            ("ssh://[2001:db8::1]:22", None, "2001:db8::1", Some(22)),
            ("ssh://a.b-c@[2001:db8::1]", Some("a.b-c"), "2001:db8::1", None),
        ] {
            let address: SshAddress = text.parse().expect("an address");
            let expected = (user.map(str::to_owned), host.to_owned(), port);
            assert_eq!((address.user.clone(), address.host.clone(), address.port), expected);
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "nas",
            "ssh://",
            "ssh://-oProxyCommand=id",
            "ssh://-l@nas",
            "ssh://a;b@nas",
            "ssh://na$(id)s",
            "ssh://nas:0",
            "ssh://nas:65536",
            "ssh://nas:22x",
            "ssh://nas/path",
            "ssh://[nas]:22",
            "ssh://[2001:db8::1]22",
            "ssh://2001:db8::1",
            "ssh://@nas",
        ] {
            assert!(text.parse::<SshAddress>().is_err(), "{text}");
        }
    }
}
