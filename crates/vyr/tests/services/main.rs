//! A service from its image to its end: registry, lock, plan, deploy, microVM, ingress, rollout, a bad
//! release, logs, exec, secrets, a receipt, and a node that is killed meanwhile. Beside it services with TLS
//! (`tls.rs`), with IPv4 (`ipv4.rs`), and of images that are not ours (`images.rs`); processes of the node that
//! are killed in a rollout (`kills.rs`), and of services that do not end when they should, or do when they
//! should not (`ends.rs`).
//!
//! All of it is in a network namespace: the registry, the node, the clients and the instances' links.

mod audit;
mod debian;
mod ends;
mod house;
mod images;
mod ipv4;
mod kills;
mod scale;
mod tls;

use std::fs;
use std::io::{ErrorKind, Read};

use serde_json::Value;

use house::is_able_here;

/// The contents of the files that must be nowhere but in the guest.
const MARKER: &str = "MARKER-b7e1f0c2d94a";

#[test]
fn a_service_is_deployed_replaced_refused_and_found_again() {
    let Some(mut house) =
        is_able_here("services::a_service_is_deployed_replaced_refused_and_found_again")
    else {
        return;
    };
    house.with_snapshots();
    // First life: one instance, reached through the ingress only.
    house.web("v1", "/healthz", true);
    house.vyr(&["secret", "set", "TOKEN", "--service", "web"], MARKER).expect("a secret");
    let deployed = house.json(&["deploy", "--key", &house.key(), "--plain-http"]);
    assert_eq!(deployed["outcome"], "succeeded", "{deployed}");
    assert_eq!(house.get("/"), "version v1\n");
    let first = house.instance();
    assert_eq!(first["state"], "ready");
    let address = first["address"].as_str().expect("an address").to_owned();
    // Nobody but the ingress does.
    let straight = house.as_nobody(&["busybox", "nc", "-w", "2", &address, "8080"]);
    assert!(straight.is_err(), "somebody reached an instance: {straight:?}");

    // Inside: another kernel, the secret as a file of its user's, and nowhere else.
    let kernel = house.exec(&["/bin/uname", "-r"]).expect("a release");
    assert_ne!(kernel.trim(), house::kernel());
    let secret = house.exec(&["/bin/cat", "/run/secrets/platform.env"]).expect("a file");
    assert!(secret.contains(MARKER), "{secret}");
    // No process has it in its environment, the workload among them.
    let environments = "for of in /proc/[0-9]*/; do /bin/cat $of/cmdline $of/environ; done; true";
    let environments = house.exec(&["/bin/sh", "-c", environments]).expect("all of them");
    assert!(environments.contains("httpd") && !environments.contains(MARKER), "{environments}");
    let (code, _, _) =
        house.output(house.command(&["exec", "web", "--", "/bin/sh", "-c", "exit 7"]), "");
    assert_eq!(code, Some(7));
    let logged = house.vyr(&["logs", "web", "--json"], "").expect("a log");
    assert!(logged.contains("response:200"), "{logged}");
    assert!(house.files_with(MARKER).is_empty(), "{:?}", house.files_with(MARKER));

    // The next release takes its place while clients come and go.
    house.web("v2", "/healthz", true);
    let load = house.load();
    let deployed = house.json(&["deploy", "--key", &house.key(), "--plain-http"]);
    assert_eq!(deployed["outcome"], "succeeded", "{deployed}");
    let (answers, failed) = load.end();
    assert!(answers > 20 && failed == 0, "{answers} answers, {failed} failed");
    assert_eq!(house.get("/"), "version v2\n");
    let second = house.instance();
    assert_ne!(first["instance"], second["instance"]);

    // A release that never becomes healthy stops by itself.
    house.web("v1", "/not-there", true);
    let load = house.load();
    let (code, said) = house.fails(&["deploy", "--json", "--key", &house.key(), "--plain-http"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &said["outcome"]), (1, &"failed".into()), "{said}");
    assert!(said["why"].as_str().is_some_and(|why| why.contains("healthcheck_failed")), "{said}");
    let (answers, failed) = load.end();
    assert!(answers > 20 && failed == 0, "{answers} answers, {failed} failed");
    assert_eq!(house.get("/"), "version v2\n");
    let slot = &house.json(&["ps", "--why"])["slots"][0];
    assert_eq!(slot["because"], "rolled_back", "{slot}");

    // The node is killed: the instance serves on, and the next node has it.
    house.kill_node();
    assert_eq!(house.get("/"), "version v2\n");
    house.start_node();
    assert_eq!(house.until_ready()["instance"], second["instance"]);
    assert_eq!(house.exec(&["/bin/echo", "found"]).expect("a session"), "found\n");

    // The ingress is killed: there is another one, which knows the same. Also if nobody was there to see.
    house.kill_ingress();
    house.until_served();
    house.kill_node();
    house.kill_ingress();
    house.start_node();
    house.until_served();
    assert_eq!(house.instance()["instance"], second["instance"]);

    // What happened is proven, without the node.
    let receipt = house.path("receipt.json");
    let keys = house.vyr(&["node", "key"], "").expect("a key");
    fs::write(house.path("keys"), keys).expect("room");
    let shown = receipt.to_str().expect("UTF-8");
    house.vyr(&["release", "receipt", "--out", shown], "").expect("a receipt");
    let keys = house.path("keys");
    let proven = house.json(&["verify", shown, "--trust", keys.to_str().expect("UTF-8")]);
    assert_eq!((&proven["verified"], &proven["outcome"]), (&true.into(), &"failed".into()));

    // Killing the VMM ends the instance, and another one takes its place, which need not boot: there is a
    // snapshot of each of the two images. Who was connected is told so,
    // and does not wait for an answer that cannot come.
    house.until_snapshots(2);
    let mut waiting = house.half_a_request();
    let third = house.kill_vmm(&second);
    assert_ne!(third["instance"], second["instance"]);
    let began = (&first["began"], &third["began"]);
    assert_eq!(began, (&"booted".into(), &"restored".into()), "{third} {}", house.node_log());
    let end = waiting.read(&mut [0]).expect_err("there is no answer");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert_eq!(house.get("/"), "version v2\n");

    // After all of that, the secret is in nobody's files, snapshots among them; the search finds what is.
    let secret = house.exec(&["/bin/cat", "/run/secrets/platform.env"]).expect("a file");
    assert!(secret.contains(MARKER), "{secret}");
    assert!(house.files_with(MARKER).is_empty(), "{:?}", house.files_with(MARKER));
    let found = house.files_with("vyr-init");
    let is_snapshot =
        |path: &std::path::PathBuf| path.extension().is_some_and(|of| of == "snapshot");
    assert!(found.iter().any(is_snapshot), "{found:?}");
}

#[test]
fn what_other_tools_want_is_refused_with_a_way_to_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let compose = "services:\n  web:\n    image: nginx\n    ports: [\"80:80\"]\n";
    fs::write(directory.path().join("docker-compose.yml"), compose).expect("room");
    fs::write(directory.path().join("app.zip"), b"PK\x03\x04rest").expect("room");
    fs::write(directory.path().join("app.tar"), [vec![0; 257], b"ustar\0".to_vec()].concat())
        .expect("room");
    fs::write(directory.path().join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.0.0\n")
        .expect("room");
    fs::write(directory.path().join("Dockerfile"), "FROM debian:13\nRUN true\n").expect("room");
    let vyr = |arguments: &[&std::ffi::OsStr]| {
        let vyr = std::process::Command::new(env!("CARGO_BIN_EXE_vyr")).args(arguments).output();
        let output = vyr.expect("vyr runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for name in ["docker-compose.yml", "Chart.yaml", "Dockerfile", "app.zip", "app.tar", ""] {
        let path = directory.path().join(name);
        let (code, said) = vyr(&["deploy".as_ref(), path.as_os_str()]);
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains("hint: "), "{name}: {said}");
    }
    // In the words of another tool, within a manifest of ours.
    let site = directory.path().join("site");
    fs::create_dir_all(site.join("services")).expect("room");
    let site_toml = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop/site.toml");
    fs::copy(site_toml, site.join("site.toml")).expect("the example");
    let good = "version = 1\n[image]\nref = \"registry.example.net/web:1\"\n\
                [processes.http.resources]\nmemory = \"128Mi\"\n[secrets]\nnone = true\n";
    for (key, word) in [
        ("[build]\ndockerfile = \"Dockerfile\"", "build"),
        ("privileged = true", "privileged"),
        ("kernel = \"bzImage\"", "kernel"),
        ("[autoscale]\nmax = 9", "autoscale"),
        ("[[udp]]\nport = 53", "udp"),
        ("[[middlewares]]\nstrip = \"/api\"", "middlewares"),
    ] {
        let text = good.replacen("version = 1\n", &format!("version = 1\n{key}\n"), 1);
        fs::write(site.join("services/web.toml"), text).expect("room");
        let (code, said) = vyr(&["check".as_ref(), "--site".as_ref(), site.as_os_str()]);
        assert_eq!(code, Some(2), "{word}: {said}");
        assert!(said.contains(word) && said.contains("hint: "), "{word}: {said}");
    }
}
