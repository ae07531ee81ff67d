//! IPv4, which nobody has who does not ask: an address of the node is given to a service, serves it and
//! nobody else, stays its own when it no longer asks, and is given back by hand.

use std::fs;
use std::time::Instant;

use serde_json::json;
use vyr_base::Category;

use crate::house::{HANG, House, is_able_here};

/// The node's.
const PUBLIC: [&str; 2] = ["203.0.113.7", "203.0.113.8"];

/// The service, with or without an address.
fn web(house: &House, ipv4: bool) {
    house.web("v1", "/healthz", false);
    let file = house.path("site/services/web.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    let more = if ipv4 { "to = \"http\"\nipv4 = true\n" } else { "to = \"http\"\n" };
    fs::write(file, text.replace("to = \"http\"\n", more)).expect("room");
}

/// What a client is answered over IPv4.
fn get(house: &House, address: &str) -> Result<String, String> {
    let url = format!("http://{address}:8088/");
    house.space().run("curl", &["-sS", "-f", "-m", "60", &url], "")
}

/// Nobody listens there.
fn is_closed(house: &House, address: &str) {
    let refused = get(house, address).expect_err("nobody is there");
    assert!(refused.contains("(7)"), "{address}: {refused}");
}

/// Lines of the lock about addresses.
fn allotted(house: &House) -> Vec<String> {
    let lock = fs::read_to_string(house.path("site/vyr.lock")).expect("a lock");
    lock.lines().filter(|line| line.starts_with("service-ipv4 ")).map(str::to_owned).collect()
}

#[test]
fn an_address_is_given_serves_and_is_given_back() {
    let test = "services::ipv4::an_address_is_given_serves_and_is_given_back";
    let Some(house) = is_able_here(test) else { return };
    let addresses = |word: &str| PUBLIC.map(|of| format!("addr {word} {of}/32 dev lo\n")).concat();
    house.space().ip(&addresses("add"));
    house.node_has(&format!("ipv4_public = {PUBLIC:?}\n"));

    // It did not ask: over IPv6 it is there, over IPv4 nobody is.
    web(&house, false);
    house.deploy();
    assert_eq!(house.get("/"), "version v1\n");
    assert_eq!(allotted(&house), [""; 0]);
    PUBLIC.iter().for_each(|address| is_closed(&house, address));
    let first = house.instance();

    // It asks. While the host does not have what it got nobody can listen there; that is said, and tried
    // again.
    web(&house, true);
    house.space().ip(&addresses("del"));
    std::thread::scope(|scope| {
        let deployed = scope.spawn(|| house.deploy());
        let until = Instant::now() + HANG;
        let unable = loop {
            let unable = house.json(&["ps"])["unable"].clone();
            if unable != json!([]) || deployed.is_finished() {
                break unable;
            }
            assert!(Instant::now() < until, "nothing is said");
        };
        assert!(unable[0].as_str().is_some_and(|why| why.contains("203.0.113.")), "{unable}");
        house.space().ip(&addresses("add"));
        deployed.join().expect("it is deployed");
    });
    assert_eq!(house.json(&["ps"])["unable"], json!([]));

    // The lock says what it got. It is no other release: the same instance answers.
    let lines = allotted(&house);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let own = PUBLIC.into_iter().find(|of| *line == format!("service-ipv4 house {of} web"));
    let own = own.unwrap_or_else(|| panic!("{line}"));
    let other = PUBLIC.into_iter().find(|of| *of != own).expect("there are two");
    assert_eq!(get(&house, own).expect("an answer"), "version v1\n");
    is_closed(&house, other);
    assert_eq!(house.get("/"), "version v1\n");
    assert_eq!(house.instance()["instance"], first["instance"]);
    // It is the next plan that is explained, and a lock begins it.
    house.vyr(&["lock"], "").expect("a lock");
    let why = house.json(&["explain", own]);
    let what = &why["explanations"][0]["what"];
    assert_eq!(what, "a public address of house, allotted to web", "{why}");

    // As long as it asks nobody else gets it.
    let conflict = i32::from(Category::Conflict.exit_code());
    assert_eq!(house.fails(&["lock", "--release", own]).0, conflict);
    assert_eq!(allotted(&house), lines);
    assert_eq!(get(&house, own).expect("an answer"), "version v1\n");

    // It no longer asks: nobody answers there, and names out in the world may still point there.
    web(&house, false);
    house.deploy();
    is_closed(&house, own);
    assert_eq!(house.get("/"), "version v1\n");
    assert_eq!(allotted(&house), lines);
    house.vyr(&["lock", "--release", own], "").expect("it is given back");
    assert_eq!(allotted(&house), [""; 0]);
    let unknown = i32::from(Category::NotFound.exit_code());
    assert_eq!(house.fails(&["lock", "--release", own]).0, unknown);
}
