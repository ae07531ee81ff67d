//! The configuration of a node's ingress: what its plan lets in, to what is ready.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use vyr_plan::services::{IngressRoute, Mode, ServiceNode};

/// Addresses of what is ready, by service and process.
pub(super) type Ready = BTreeMap<(String, String), Vec<Ipv6Addr>>;

/// The document that the ingress takes. `control`: its socket; `most`: connections at one time.
pub(super) fn config(node: &ServiceNode, ready: &Ready, (control, most): (&Path, u64)) -> Vec<u8> {
    let mut routes: BTreeMap<String, Value> = BTreeMap::new();
    let mut listeners = Vec::new();
    for listener in &node.ingress {
        for route in &listener.routes {
            routes.insert(name(route), of_route(route, ready));
        }
        let at = match listener.address.is_unspecified() {
            true => "any".to_owned(),
            false => listener.address.to_string().replace(':', "-"),
        };
        let mut document = json!({
            "name": format!("{at}.{}", listener.port),
            "address": listener.address,
            "port": listener.port,
        });
        match listener.mode {
            Mode::TlsPassthrough => {
                let named = listener.routes.iter().filter(|route| route.hostname.is_some());
                document["mode"] = "tls_passthrough".into();
                document["routes"] = named.map(name).collect();
                if let Some(default) = listener.routes.iter().find(|route| route.default) {
                    document["default_route"] = name(default).into();
                }
            }
            Mode::TcpRaw => {
                document["mode"] = "tcp_raw".into();
                // Exactly one, by the form of a plan.
                document["route"] = listener.routes.first().map(name).into();
            }
        }
        listeners.push(document);
    }
    let document = json!({
        "version": 1,
        "control": control,
        "connections_max": most,
        "listeners": listeners,
        "routes": routes.into_values().collect::<Vec<_>>(),
    });
    document.to_string().into_bytes()
}

/// The name of a route: that of its host, which is another for each, or of what it leads to.
fn name(route: &IngressRoute) -> String {
    match &route.hostname {
        Some(hostname) => hostname.to_string(),
        None => {
            let proxy = if route.proxy_protocol { ".proxy" } else { "" };
            format!("{}.{}.{}{proxy}", route.service, route.process, route.internal)
        }
    }
}

fn of_route(route: &IngressRoute, ready: &Ready) -> Value {
    let process = (route.service.to_string(), route.process.to_string());
    let addresses = ready.get(&process).map(Vec::as_slice).unwrap_or_default();
    let backends: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"address": SocketAddr::from((*address, route.internal))}))
        .collect();
    json!({
        "name": name(route),
        "hostnames": route.hostname.iter().collect::<Vec<_>>(),
        "backend_expects_proxy_protocol": route.proxy_protocol,
        "backends": backends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_ingress::Config;

    /// A node with two names on one port, a raw port, and a default for who names nobody.
    fn node() -> ServiceNode {
        let route = |hostname: Option<&str>, service: &str, internal: u16, default: bool| {
            json!({"hostname": hostname, "service": service, "process": "http",
                "internal": internal, "default": default, "proxy_protocol": service == "shop"})
        };
        let document = json!({
            "name": "box", "state": "active", "memory_bytes": 1 << 30, "cpu_milli": 2000,
            "prefix": "fd00:1:2:3::/64", "ipv4": [],
            "ingress": [
                {"address": "::", "port": 443, "mode": "tls_passthrough", "routes": [
                    route(Some("app.example.org"), "app", 8443, false),
                    route(Some("shop.example.org"), "shop", 8443, false)]},
                {"address": "192.0.2.7", "port": 443, "mode": "tls_passthrough", "routes": [
                    route(Some("old.example.org"), "app", 8443, true)]},
                {"address": "::", "port": 5432, "mode": "tcp_raw", "routes": [
                    route(None, "db", 5432, false)]},
            ],
        });
        serde_json::from_value(document).expect("a node")
    }

    #[test]
    fn the_ingress_takes_what_a_plan_lets_in() {
        let control = Path::new("/run/vyr/ingress.sock");
        let ready: Ready = BTreeMap::from([
            (("app".into(), "http".into()), vec!["fd00:1:2:3::a".parse().expect("an address")]),
            (("nobody".into(), "http".into()), vec!["fd00:1:2:3::b".parse().expect("an address")]),
        ]);
        let document = config(&node(), &ready, (control, 100));
        let config = Config::parse("test", &document).expect("a configuration");
        assert_eq!(config.listeners.len(), 3);
        let backends: Vec<(&str, usize, bool)> = config
            .routes
            .iter()
            .map(|of| (of.name.as_str(), of.backends.len(), of.backend_expects_proxy_protocol))
            .collect();
        let expected = [
            ("app.example.org", 1, false),
            ("db.http.5432", 0, false),
            ("old.example.org", 1, false),
            ("shop.example.org", 0, true),
        ];
        assert_eq!(backends, expected);
        let defaults: Vec<bool> = config
            .listeners
            .iter()
            .map(|of| {
                matches!(of.mode, vyr_ingress::Mode::TlsPassthrough { default_route: Some(_), .. })
            })
            .collect();
        assert_eq!(defaults, [false, true, false]);
    }
}
