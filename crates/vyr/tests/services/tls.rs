//! TLS that ends in the services: two of them share one IPv6 port, each with a certificate of its own.
//!
//! They are Debian's nginx as `examples/nginx` has it. Clients believe one authority and nobody else.

use std::fs;
use std::path::Path;

use vyr_space::{is_able, not_run};

use crate::debian;
use crate::house::{House, is_able_here};

/// An address that is the node's, for clients without IPv6 and without a name.
const PUBLIC: &str = "203.0.113.7";

/// A client's address.
const CLIENT: &str = "2001:db8:77::7";

/// A service of nginx: TLS on 8443 of every address, and behind a PROXY header on 8444.
fn nginx(house: &House, name: &str, version: &str, more: &str) {
    let text = format!(
        r#"version = 1
image.ref = "REGISTRY/nginx:1"
[env]
vars = {{ VERSION = "{version}" }}
prestart = ["/etc/nginx/keys.sh"]
[processes.web]
resources = {{ memory = "128Mi", disk = "1Gi" }}
ports = [{{ name = "tls", internal = 8443 }}, {{ name = "proxied", internal = 8444 }}]
health = {{ type = "http", port = 8080, path = "/healthz", interval_seconds = 1 }}
grace_seconds = 5
[[routes]]
hostname = "{name}.example"
port = 8443
process = "web"
to = "tls"
{more}
[secrets]
required = ["TLS_CERT", "TLS_KEY"]
"#
    );
    house.service(name, &text);
}

/// Of `shop`: who its client is, and who comes without a name.
const MORE: &str = r#"[[routes]]
hostname = "seen.example"
port = 8443
process = "web"
to = "proxied"
proxy_protocol = true
backend_expects_proxy_protocol = true
[[routes]]
hostname = "any.example"
port = 8444
process = "web"
to = "tls"
default = true
ipv4 = true
"#;

/// A certificate of the authority for these names, and its key: `FILE.pem`, `FILE.key`.
fn certificate(house: &House, file: &str, names: &str) {
    let path = |name: &str| house.path(name).to_str().expect("UTF-8").to_owned();
    let (key, pem) = (path(&format!("{file}.key")), path(&format!("{file}.pem")));
    let mut words = vec!["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"];
    words.extend(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", &key, "-out", &pem]);
    let subject = format!("/CN={file}");
    words.extend(["-subj", &subject]);
    let names = format!("subjectAltName={names}");
    let (authority, its_key) = (path("authority.pem"), path("authority.key"));
    if file != "authority" {
        words.extend(["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"]);
        words.extend(["-CA", &authority, "-CAkey", &its_key]);
    }
    house.space().run("openssl", &words, "").expect("a certificate");
}

/// What a client is answered who believes the authority.
fn ask(house: &House, url: &str, more: &[&str]) -> Result<String, String> {
    let authority = house.path("authority.pem");
    let mut words = vec!["-sS", "-f", "-m", "60", "--cacert", authority.to_str().expect("UTF-8")];
    words.push(url);
    words.extend(more);
    house.space().run("curl", &words, "")
}

/// The same, and every name is this node's over IPv6.
const HERE: [&str; 2] = ["--connect-to", "::[::1]:"];

fn get(house: &House, url: &str) -> Result<String, String> {
    ask(house, url, &HERE)
}

/// The serial number of the certificate that a client is shown.
fn shown(house: &House, at: &str, name: &[&str]) -> String {
    let words = [&["s_client", "-connect", at], name].concat();
    let said = house.space().run("openssl", &words, "").expect("a certificate");
    serial(house, &said)
}

fn serial(house: &House, pem: &str) -> String {
    house.space().run("openssl", &["x509", "-noout", "-serial"], pem).expect("a certificate")
}

fn of_file(house: &House, name: &str) -> String {
    serial(house, &fs::read_to_string(house.path(name)).expect("a certificate"))
}

#[test]
fn two_services_share_a_port_and_each_shows_its_own_certificate() {
    let test = "services::tls::two_services_share_a_port_and_each_shows_its_own_certificate";
    if !is_able(test, &["openssl"]) {
        return;
    }
    let Some(house) = is_able_here(test) else { return };
    let root = house.path("nginx");
    let programs = ["sh", "sed", "base64", "mkdir"];
    if let Err(why) = debian::root(&root, &["nginx-light"], &programs, ("www-data", 33)) {
        return not_run(test, &why);
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nginx");
    fs::copy(example.join("nginx.conf"), root.join("etc/nginx/nginx.conf")).expect("room");
    let keys = fs::read_to_string(example.join("keys.sh")).expect("the example");
    debian::script(&root, "etc/nginx/keys.sh", &keys);
    let mut config = vec!["--config.entrypoint", "/usr/sbin/nginx", "--config.stopsignal"];
    config.extend(["SIGQUIT", "--config.cmd", "-g", "--config.cmd", "daemon off;"]);
    house.push("nginx", "1", &root, &config);
    let links = [format!("{PUBLIC}/32"), format!("{CLIENT}/128")];
    house.space().ip(&links.map(|of| format!("addr add {of} dev lo\n")).concat());
    house.node_has(&format!("ipv4_public = [\"{PUBLIC}\"]\n"));

    certificate(&house, "authority", "");
    let names = format!("DNS:shop.example,DNS:seen.example,DNS:any.example,IP:{PUBLIC}");
    for (name, names) in [("shop", &names[..]), ("blog", "DNS:blog.example"), ("next", &names)] {
        certificate(&house, name, names);
    }
    // Who is to change secrets later.
    fs::create_dir_all(house.path("site/secrets")).expect("room");
    fs::copy(house.path("operator.pub"), house.path("site/secrets/recipients")).expect("room");
    let secrets = |verb: &str, service: &str, from: &str, more: &[&str]| {
        let [key, pem] = [("TLS_KEY", "key"), ("TLS_CERT", "pem")]
            .map(|(name, end)| format!("{name}=../{from}.{end}"));
        let words = [&["secret", verb, &key, &pem, "--service", service], more].concat();
        house.vyr(&words, "").expect("secrets");
    };
    nginx(&house, "shop", "1", MORE);
    nginx(&house, "blog", "1", "");
    secrets("set", "shop", "shop", &[]);
    secrets("set", "blog", "blog", &[]);
    house.deploy();

    // Each one answers to its own name, with its own certificate.
    let (of_shop, of_blog) = ("https://shop.example:8443", "https://blog.example:8443");
    assert_eq!(get(&house, of_shop).expect("an answer"), "shop-web-0 version 1\n");
    assert_eq!(get(&house, of_blog).expect("an answer"), "blog-web-0 version 1\n");
    let at = "[::1]:8443";
    let by_name = |name| shown(&house, at, &["-servername", name]);
    assert_eq!(by_name("shop.example"), of_file(&house, "shop.pem"));
    assert_eq!(by_name("blog.example"), of_file(&house, "blog.pem"));
    // A client that looks sees a certificate of somebody else.
    let other = ["--connect-to", "blog.example:8443:[::1]:8444"];
    let other = ask(&house, of_blog, &other).expect_err("blog is not there");
    assert!(other.contains("(60)"), "{other}");
    // A name that nobody has, and none at all: refused in the handshake, not for want of a listener.
    for url in ["https://nobody.example:8443", "https://[::1]:8443"] {
        let refused = ask(&house, url, &[&HERE[..], &["--insecure"]].concat());
        let refused = refused.expect_err("nobody's");
        assert!(refused.contains("(35)"), "{url}: {refused}");
    }
    // On a port with a default they are answered, over IPv4 by the address alone.
    let any = get(&house, "https://any.example:8444").expect("an answer");
    assert_eq!(any, "shop-web-0 version 1\n");
    assert_eq!(shown(&house, "[::1]:8444", &["-noservername"]), of_file(&house, "shop.pem"));
    let answer = ask(&house, &format!("https://{PUBLIC}:8444"), &[]).expect("an answer");
    assert_eq!(answer, "shop-web-0 version 1\n");
    // Nobody asked for the other port over IPv4.
    let closed = ask(&house, &format!("https://{PUBLIC}:8443"), &[]).expect_err("closed");
    assert!(closed.contains("(7)"), "{closed}");

    // Who the client is comes before its first byte to the port that expects it, and to no other.
    let from = [&HERE[..], &["--interface", CLIENT]].concat();
    let seen = ask(&house, "https://seen.example:8443/from", &from).expect("an answer");
    assert!(seen.ends_with(&format!(" for {CLIENT}\n")), "{seen}");
    let unseen = ask(&house, &format!("{of_shop}/from"), &from).expect("an answer");
    assert!(unseen.ends_with(" for \n"), "{unseen}");

    // Another version with another key, while clients of both come.
    nginx(&house, "shop", "2", MORE);
    let operator = house.key();
    secrets("rotate", "shop", "next", &["--identity", &operator]);
    let authority = house.path("authority.pem");
    let load = |url: &str| {
        let authority = authority.to_str().expect("UTF-8");
        house.load_of(&[&["--cacert", authority, url], &HERE[..]].concat())
    };
    let loads = [load(of_shop), load(of_blog)];
    house.deploy();
    for load in loads {
        let (answers, failed) = load.end();
        assert!(answers > 5 && failed == 0, "{answers} answers, {failed} failed");
    }
    assert_eq!(get(&house, of_shop).expect("an answer"), "shop-web-0 version 2\n");
    assert_eq!(get(&house, of_blog).expect("an answer"), "blog-web-0 version 1\n");
    assert_eq!(by_name("shop.example"), of_file(&house, "next.pem"));
    assert_eq!(by_name("blog.example"), of_file(&house, "blog.pem"));

    // The receipt has both, and is believed without the node.
    let receipt = house.path("receipt.json").to_str().expect("UTF-8").to_owned();
    house.vyr(&["release", "receipt", "--out", &receipt], "").expect("a receipt");
    let keys = house.path("keys").to_str().expect("UTF-8").to_owned();
    fs::write(&keys, house.vyr(&["node", "key"], "").expect("a key")).expect("room");
    assert_eq!(house.json(&["verify", &receipt, "--trust", &keys])["verified"], true);
}
