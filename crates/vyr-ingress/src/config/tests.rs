use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "version": 1,
        "control": "/run/vyr/ingress.sock",
        "connections_max": 100,
        "timeouts": {"hello_ms": 200},
        "listeners": [
            {"name": "https", "port": 443, "mode": "tls_passthrough", "routes": ["app"],
             "default_route": "db"},
            {"name": "pg", "address": "192.0.2.1", "port": 5432, "mode": "tcp_raw", "route": "db",
             "connections_max": 10},
        ],
        "routes": [
            {"name": "app", "hostnames": ["app.example.org"],
             "backend_expects_proxy_protocol": true,
             "backends": [{"address": "[fd00::1]:8443"},
                          {"address": "[fd00::2]:8443", "ready": false}]},
            {"name": "db", "backends": []},
        ],
    })
}

fn parse(value: &Value) -> Result<Config, ConfigError> {
    Config::parse("test", &serde_json::to_vec(value).expect("JSON"))
}

/// The faults after one field, named by a JSON pointer, became something else.
fn faults(pointer: &str, becomes: Value) -> Vec<String> {
    let mut value = good();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    match value.pointer_mut(parent).expect("a parent") {
        Value::Object(map) => drop(map.insert(field.to_owned(), becomes)),
        Value::Array(items) => items[field.parse::<usize>().expect("a place")] = becomes,
        other => panic!("{other} has no fields"),
    }
    let refused = parse(&value).expect_err("it is refused");
    refused.faults().iter().map(|fault| fault.what.clone()).collect()
}

#[test]
fn a_good_document_is_taken_as_it_says() {
    let config = parse(&good()).expect("it is good");
    assert_eq!(config.timeouts, Timeouts { hello_ms: 200, ..Timeouts::default() });
    assert_eq!(config.listeners[0].address.to_string(), "[::]:443");
    assert_eq!(config.listeners[0].connections_max, 100);
    assert_eq!(
        config.listeners[0].mode,
        Mode::TlsPassthrough { routes: vec![0], default_route: Some(1) }
    );
    assert_eq!(config.listeners[1].mode, Mode::TcpRaw { route: 1 });
    assert!(config.routes[0].backend_expects_proxy_protocol);
    assert_eq!(config.routes[0].backends.iter().filter(|one| one.ready).count(), 1);
    let bytes = serde_json::to_vec(&good()).expect("JSON");
    assert_eq!(config.digest, Digest::of(&bytes));
}

#[test]
fn every_fault_has_its_place() {
    for (pointer, becomes, says) in [
        ("/version", json!(2), "version is not a whole number from 1 to 1"),
        ("/control", json!("run/x"), "control is not an absolute path"),
        ("/control", json!(7), "control is not a text"),
        ("/connections_max", json!(0), "connections_max is not a whole number"),
        ("/connections_max", json!(1.5), "connections_max is not a whole number"),
        ("/timeouts/hello_ms", json!(-1), "timeouts.hello_ms is not a whole number"),
        ("/timeouts/helo_ms", json!(1), "timeouts has an unknown field \"helo_ms\""),
        ("/extra", json!(1), "the document has an unknown field \"extra\""),
        ("/listeners/0/port", json!(0), "listeners[0].port is not a whole number"),
        ("/listeners/0/port", json!(70000), "listeners[0].port is not a whole number"),
        ("/listeners/0/mode", json!("udp"), "listeners[0]: there is no mode \"udp\""),
        ("/listeners/0/routes", json!(["nobody"]), "there is no route \"nobody\""),
        ("/listeners/0/routes", json!(["db"]), "route db has no hostname"),
        ("/listeners/0/default_route", json!("x"), "listeners[0].default_route: there is no route"),
        ("/listeners/0/address", json!("::ffff:1.2.3.4"), "listeners[0].address is no address"),
        ("/listeners/0/address", json!("example.org"), "listeners[0].address is no address"),
        ("/listeners/1/name", json!("https"), "listeners[1]: the name https"),
        ("/listeners/1/route", json!(null), "listeners[1].route is not a text"),
        ("/listeners/1/hostnames", json!([]), "listeners[1] has an unknown field"),
        ("/listeners", json!({}), "listeners is not a list"),
        ("/listeners/1", json!([]), "listeners[1] is not an object"),
        ("/routes/0/hostnames", json!(["App.example"]), "routes[0].hostnames[0]: a hostname has"),
        (
            "/routes/0/hostnames",
            json!(["*.example"]),
            "routes[0].hostnames[0]: hostnames are exact",
        ),
        ("/routes/1/hostnames", json!(["app.example.org"]), "belongs to route app already"),
        ("/routes/0/name", json!("A b"), "routes[0].name is no name"),
        ("/routes/0/backends/0/address", json!("app:1"), "routes[0].backends[0].address"),
        ("/routes/0/backends/0/address", json!("[::]:1"), "routes[0].backends[0].address"),
        ("/routes/0/backends/0/address", json!("[fd00::2]:8443"), "is a backend already"),
        ("/routes/0/backends/0/ready", json!("yes"), "ready is not true or false"),
    ] {
        let faults = faults(pointer, becomes.clone());
        assert!(faults.iter().any(|what| what.contains(says)), "{pointer}={becomes}: {faults:?}");
    }
}

#[test]
fn one_fault_hides_no_other() {
    let mut value = good();
    value["version"] = json!(9);
    value["timeouts"]["idle_ms"] = json!(0);
    value["routes"][0]["hostnames"] = json!(["a.example", "a..b", "-a"]);
    value["listeners"][1]["port"] = json!("443");
    let refused = parse(&value).expect_err("it is refused");
    assert_eq!(refused.faults().len(), 5, "{:?}", refused.faults());
    assert_eq!(refused.category(), Category::Usage);
}

#[test]
fn addresses_that_cannot_both_be_bound_are_refused() {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    for (one, other, both) in [
        ("[::]:443", "[::]:443", false),
        ("[::]:443", "[::1]:443", false),
        ("[::1]:443", "[::2]:443", true),
        ("[::]:443", "0.0.0.0:443", true),
        ("0.0.0.0:443", "127.0.0.1:443", false),
        ("[::]:443", "[::]:444", true),
    ] {
        assert_eq!(overlap(&address(one), &address(other)), !both, "{one} {other}");
    }
}

#[test]
fn what_is_no_document_is_refused_whole() {
    let refuse = |bytes: &[u8]| Config::parse("test", bytes).expect_err("it is refused");
    assert!(refuse(b"").faults()[0].what.contains("not strict JSON"));
    assert!(refuse(b"[]").faults()[0].what.contains("the document is not an object"));
    assert!(refuse(br#"{"version":1,"version":1}"#).faults()[0].what.contains("duplicate key"));
    let long = vec![b' '; CONFIG_BYTES_MAX + 1];
    assert!(refuse(&long).faults()[0].what.contains("bytes, more than"));
    // A document that is nothing but faults is told so within bounds.
    let many = json!({"routes": vec![json!(1); 4096], "listeners": []});
    assert_eq!(parse(&many).expect_err("refused").faults().len(), fields::FAULTS_MAX);
}

/// A check of hostnames within each route alone lets two routes answer for one name.
#[test]
fn seeded_defect_uniqueness_in_one_route_only_is_found() {
    let each_alone = |config: &Config| {
        config.routes.iter().all(|route| {
            let mut names = route.hostnames.clone();
            names.dedup();
            names.len() == route.hostnames.len()
        })
    };
    let mut config = parse(&good()).expect("it is good");
    let name = config.routes[0].hostnames[0].clone();
    config.routes[1].hostnames.push(name);
    assert!(each_alone(&config), "the defect does not see it");
    assert!(!faults("/routes/1/hostnames", json!(["app.example.org"])).is_empty());
}
