//! From the document to a checked configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::Value;
use vyr_base::hostname::Hostname;
use vyr_base::{Diagnostic, Digest};

use super::fields::{Fields, Found};
use super::{
    BACKENDS_MAX, Backend, CONFIG_BYTES_MAX, CONFIG_VERSION, CONNECTIONS_MAX, Config,
    HOSTNAMES_MAX, LISTENERS_MAX, Listener, Mode, ROUTES_MAX, Route, Timeouts, is_mapped, overlap,
};

/// Connections at one time unless the document says otherwise: 8,192 descriptors.
const CONNECTIONS_DEFAULT: u64 = 4096;
/// A path that fits the kernel's `sockaddr_un`.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The longest name of a listener, route or backend.
const NAME_BYTES_MAX: usize = 63;
/// Bounds of the timeouts, in milliseconds.
const HELLO_MS: (u64, u64) = (10, 60_000);
const CONNECT_MS: (u64, u64) = (10, 60_000);
const IDLE_MS: (u64, u64) = (100, 86_400_000);
const DRAIN_MS: (u64, u64) = (0, 3_600_000);

pub(super) fn config(bytes: &[u8]) -> Result<Config, Vec<Diagnostic>> {
    let mut found = Found::default();
    if bytes.len() > CONFIG_BYTES_MAX {
        let what = format!("it has {} bytes, more than {CONFIG_BYTES_MAX}", bytes.len());
        found.add("out-of-bounds", what, None);
        return Err(found.0);
    }
    let value = match vyr_artifact::strict_json(bytes) {
        Ok(value) => value,
        Err(error) => {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            found.add("not-json", format!("{error}: {}", why.unwrap_or_default()), None);
            return Err(found.0);
        }
    };
    let read = document(&value, Digest::of(bytes), &mut found);
    match read {
        Some(config) if found.0.is_empty() => Ok(config),
        _ => Err(found.0),
    }
}

fn document(value: &Value, digest: Digest, found: &mut Found) -> Option<Config> {
    let mut fields = Fields::of(value, "the document".to_owned(), found);
    fields.number("version", (CONFIG_VERSION, CONFIG_VERSION), found);
    let control = fields.text("control", found).and_then(|text| control(&text, found));
    let threads = fields.number_if("threads", (1, 64), found);
    let connections_max = fields.number_if("connections_max", (1, CONNECTIONS_MAX), found);
    let timeouts = match fields.object_if("timeouts", found) {
        Some(fields) => timeouts(fields, found),
        None => Timeouts::default(),
    };
    let listeners = fields.list("listeners", LISTENERS_MAX, found);
    let routes = fields.list("routes", ROUTES_MAX, found);
    fields.finish(found);

    let connections_max = connections_max.unwrap_or(CONNECTIONS_DEFAULT);
    let routes: Vec<Route> =
        routes.iter().map(|(at, value)| route(value, at.clone(), found)).collect();
    let names = unique_names(routes.iter().map(|route| route.name.as_str()), "routes", found);
    unique_hostnames(&routes, found);
    let listeners: Vec<Listener> = listeners
        .iter()
        .filter_map(|(at, value)| {
            listener(value, at.clone(), &routes, &names, connections_max, found)
        })
        .collect();
    unique_names(listeners.iter().map(|one| one.name.as_str()), "listeners", found);
    unique_addresses(&listeners, found);
    let threads = threads.and_then(|number| usize::try_from(number).ok());
    Some(Config {
        digest,
        control: control?,
        threads,
        connections_max,
        timeouts,
        listeners,
        routes,
    })
}

fn control(text: &str, found: &mut Found) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.is_absolute() && !text.contains('\0') && path.file_name().is_some();
    if !plain || text.len() > SOCKET_PATH_BYTES_MAX {
        let what =
            format!("control is not an absolute path of at most {SOCKET_PATH_BYTES_MAX} bytes");
        found.add("not-a-path", what, Some("such as /run/vyr/ingress.sock".to_owned()));
        return None;
    }
    Some(path.to_owned())
}

fn timeouts(mut fields: Fields<'_>, found: &mut Found) -> Timeouts {
    let default = Timeouts::default();
    let mut ms = |name, bounds, default| fields.number_if(name, bounds, found).unwrap_or(default);
    let timeouts = Timeouts {
        hello_ms: ms("hello_ms", HELLO_MS, default.hello_ms),
        connect_ms: ms("connect_ms", CONNECT_MS, default.connect_ms),
        idle_ms: ms("idle_ms", IDLE_MS, default.idle_ms),
        drain_ms: ms("drain_ms", DRAIN_MS, default.drain_ms),
    };
    fields.finish(found);
    timeouts
}

fn name(fields: &mut Fields<'_>, found: &mut Found) -> String {
    let Some(name) = fields.text("name", found) else { return String::new() };
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
        let hint = format!("1 to {NAME_BYTES_MAX} of a-z, 0-9, - _ and .");
        found.add("not-a-name", format!("{}.name is no name", fields.at), Some(hint));
        return String::new();
    }
    name
}

fn route(value: &Value, at: String, found: &mut Found) -> Route {
    let mut fields = Fields::of(value, at, found);
    let name = name(&mut fields, found);
    let mut hostnames = Vec::new();
    for (at, value) in fields.list_if("hostnames", HOSTNAMES_MAX, found) {
        match value.as_str().map(Hostname::parse) {
            None => found.add("not-a-text", format!("{at} is not a text"), None),
            Some(Ok(host)) => hostnames.push(host),
            Some(Err(why)) => {
                found.add("not-a-hostname", format!("{at}: {why}"), Some(why.hint().to_owned()));
            }
        }
    }
    let backend_expects_proxy_protocol =
        fields.flag("backend_expects_proxy_protocol", false, found);
    let mut backends: Vec<Backend> = Vec::new();
    for (at, value) in fields.list("backends", BACKENDS_MAX, found) {
        let Some(backend) = backend(value, at.clone(), found) else { continue };
        if backends.iter().any(|other| other.address == backend.address) {
            found.add("twice", format!("{at}: {} is a backend already", backend.address), None);
        }
        backends.push(backend);
    }
    fields.finish(found);
    Route { name, hostnames, backend_expects_proxy_protocol, backends }
}

fn backend(value: &Value, at: String, found: &mut Found) -> Option<Backend> {
    let mut fields = Fields::of(value, at.clone(), found);
    let text = fields.text("address", found);
    let ready = fields.flag("ready", true, found);
    fields.finish(found);
    let address = text?.parse::<SocketAddr>().ok().filter(|address| {
        let mapped = matches!(address.ip(), IpAddr::V6(six) if is_mapped(&six));
        address.port() != 0 && !address.ip().is_unspecified() && !mapped
    });
    if address.is_none() {
        let hint = "such as [fd00::10]:8443; names are not looked up".to_owned();
        found.add("not-an-address", format!("{at}.address is no address with a port"), Some(hint));
    }
    Some(Backend { address: address?, ready })
}

fn listener(
    value: &Value,
    at: String,
    routes: &[Route],
    names: &BTreeMap<&str, usize>,
    connections_max: u64,
    found: &mut Found,
) -> Option<Listener> {
    let mut fields = Fields::of(value, at.clone(), found);
    let name = name(&mut fields, found);
    let ip = fields.text_if("address", found).unwrap_or_else(|| "::".to_owned());
    let port = fields.number("port", (1, 65535), found);
    let most = fields.number_if("connections_max", (1, CONNECTIONS_MAX), found);
    let mode = fields.text("mode", found);
    let known = |name: &str, at: &str, found: &mut Found| {
        let place = names.get(name).copied();
        if place.is_none() {
            let shown: String = name.chars().take(64).collect();
            found.add("unknown-route", format!("{at}: there is no route {shown:?}"), None);
        }
        place
    };
    let mode = match mode.as_deref() {
        Some("tls_passthrough") => {
            let mut by_name = Vec::new();
            for (at, value) in fields.list("routes", ROUTES_MAX, found) {
                let Some(text) = value.as_str() else {
                    found.add("not-a-text", format!("{at} is not a text"), None);
                    continue;
                };
                let Some(place) = known(text, &at, found) else { continue };
                if routes[place].hostnames.is_empty() {
                    let hint = "give it hostnames, or make it the default_route".to_owned();
                    let what = format!("{at}: route {text} has no hostname to be reached by");
                    found.add("no-hostname", what, Some(hint));
                }
                by_name.push(place);
            }
            let default = fields.text_if("default_route", found);
            let place = format!("{at}.default_route");
            let default_route = default.and_then(|name| known(&name, &place, found));
            Some(Mode::TlsPassthrough { routes: by_name, default_route })
        }
        Some("tcp_raw") => {
            let route = fields.text("route", found);
            let place = format!("{at}.route");
            route.and_then(|name| known(&name, &place, found)).map(|route| Mode::TcpRaw { route })
        }
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            let hint = match shown.as_str() {
                "udp" => "UDP is not carried; route to the instance's own address".to_owned(),
                "http" | "https" | "tls" | "tls_terminate" => {
                    "TLS is never ended here; the service holds its own key".to_owned()
                }
                _ => "there are tls_passthrough and tcp_raw".to_owned(),
            };
            found.add("unknown-mode", format!("{at}: there is no mode {shown:?}"), Some(hint));
            return None;
        }
        None => return None,
    };
    fields.finish(found);
    let parsed = ip.parse::<IpAddr>().ok();
    let parsed = parsed.filter(|ip| !matches!(ip, IpAddr::V6(six) if is_mapped(six)));
    if parsed.is_none() {
        let hint = ":: is every IPv6 address; IPv4 has a listener of its own".to_owned();
        found.add("not-an-address", format!("{at}.address is no address"), Some(hint));
    }
    let port = u16::try_from(port?).ok()?;
    let connections_max = most.unwrap_or(connections_max);
    Some(Listener { name, address: SocketAddr::new(parsed?, port), mode: mode?, connections_max })
}

/// The place of each name; a name that is there twice is a fault.
fn unique_names<'n>(
    names: impl Iterator<Item = &'n str>,
    list: &str,
    found: &mut Found,
) -> BTreeMap<&'n str, usize> {
    let mut places = BTreeMap::new();
    for (place, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
        if let Some(first) = places.insert(name, place) {
            let what = format!("{list}[{place}]: the name {name} is that of {list}[{first}] too");
            found.add("twice", what, None);
        }
    }
    places
}

fn unique_hostnames(routes: &[Route], found: &mut Found) {
    let mut owners: BTreeMap<&Hostname, &str> = BTreeMap::new();
    for (place, route) in routes.iter().enumerate() {
        for host in &route.hostnames {
            if let Some(owner) = owners.insert(host, &route.name) {
                let what = format!("routes[{place}]: {host} belongs to route {owner} already");
                found.add("twice", what, None);
            }
        }
    }
}

fn unique_addresses(listeners: &[Listener], found: &mut Found) {
    for (place, one) in listeners.iter().enumerate() {
        for other in &listeners[..place] {
            if overlap(&one.address, &other.address) {
                let what =
                    format!("listeners {} and {} both want {}", other.name, one.name, one.address);
                found.add("twice", what, None);
            }
        }
    }
}
