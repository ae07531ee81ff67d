//! A server's key that takes over, on a host that is asked over OpenSSH: its keys are made there, and
//! what it says of its devices decides here.

use std::fs;

use serde_json::Value;
use vyr_space::Plane;

use crate::apply::until;
use crate::far::{Far, can};

/// Nobody's way to anywhere: a port where nobody listens.
const NOBODY: &str = "ssh://root@192.168.78.2:1";

/// North's only device, which is at the operator's.
struct Device {
    link: String,
    _plane: Plane,
}

impl Device {
    /// Its private key stays here, its public one is in the site.
    fn of(far: &Far) -> Self {
        let north = &far.routers[0];
        let private = far.operator.run("wg", &["genkey"], "").expect("wg is there");
        let public = far.operator.run("wg", &["pubkey"], &private).expect("wg is there");
        let text = format!(
            "version = 1\nclients = [\n  {{ id = \"ana\", owner = \"Ana\", interface = \"{}\", \
             profile = \"split\", public_key = \"{}\", state = \"active\" }},\n]\n",
            &north.link["vyr-".len()..],
            public.trim()
        );
        fs::write(far.path("site/clients.toml"), text).expect("written");
        let link = format!("{}c", north.link);
        let plane = Plane::start(&far.operator, &link);
        let path = far.path("ana.key");
        fs::write(&path, private).expect("written");
        let set = ["set", link.as_str(), "private-key", path.to_str().expect("UTF-8")];
        far.operator.run("wg", &set, "").expect("set");
        Self { link, _plane: plane }
    }

    /// Takes a key of north's for its only peer.
    fn uses(&self, far: &Far, key: &str, port: u16) {
        let shown = far.operator.run("wg", &["show", &self.link, "peers"], "");
        for peer in shown.expect("a link").lines() {
            far.operator.run("wg", &["set", &self.link, "peer", peer, "remove"], "").expect("set");
        }
        let at = format!("{}:{port}", far.routers[0].address);
        let set = ["set", &self.link, "peer", key, "endpoint", &at, "allowed-ips", "10.20.0.0/24"];
        far.operator.run("wg", &set, "").expect("set");
    }

    fn is_answered(&self, far: &Far) -> bool {
        let ping = ["-c", "1", "-W", "1", "-I", &self.link, "10.20.0.1"];
        far.operator.run("ping", &ping, "").is_ok()
    }
}

fn signed(far: &Far) -> String {
    let (site, key) = (far.site(), far.path("data/keys/op"));
    far.vyr(&["lock", "--site", &site]);
    far.vyr(&["plan", "sign", "--site", &site, "--key", key.to_str().expect("UTF-8")])
}

#[test]
fn a_key_of_a_server_elsewhere_rotates() {
    if !can("far_keys::a_key_of_a_server_elsewhere_rotates") {
        return;
    }
    let mut far = Far::new("k");
    let device = Device::of(&far);
    let (site, plan) = (far.site(), signed(&far));
    let north = &far.routers[0];
    let second = format!("{}-2", north.link);
    let first_key =
        far.vyr(&["server", "key", &north.link, "--node", &north.url(), "--site", &site]);
    let lonely = ["--node", "north", "--no-confirm"];
    far.vyr(&far.apply(&site, &plan, &lonely));
    let rotate = ["server", "rotate", "north", "--site", &site];
    let fails = |more: &[&str]| far.fails(&[&rotate[..], more].concat());

    // The key is made there; here is its public half.
    let read = || fs::read_to_string(far.path("site/site.toml")).expect("a site");
    let text = read();
    let (code, said) = fails(&["--stage", "--node", NOBODY]);
    assert!(code == Some(6) && said.contains("refused") && read() == text, "{said}");
    far.printed(&[&rotate[..], &["--stage", "--node", "north"]].concat());
    let next = ["server", "key", &second, "--next", "--node", "north", "--site", &site];
    let next_key = far.vyr(&next);
    assert!(next_key != first_key && read().contains(&next_key), "{}", read());

    // The plan has both; the device is where it was until it uses the new one.
    let _plane = Plane::start(&north.space, &second);
    let plan = signed(&far);
    far.vyr(&far.apply(&site, &plan, &lonely));
    far.operator.ip(&format!(
        "address add {}/32 dev {link}\nlink set {link} up\nroute add 10.20.0.0/24 dev {link}\n",
        address(&far, &plan),
        link = device.link
    ));
    device.uses(&far, &first_key, 51820);
    until("a tunnel", || device.is_answered(&far));
    let text = read();
    let (code, said) = fails(&["--retire", "--node", "north"]);
    assert!(code == Some(5) && said.contains("ana") && read() == text, "{code:?} {said}");
    // Who is not there has moved nobody.
    let (code, said) = fails(&["--retire", "--node", NOBODY]);
    assert!(code == Some(6) && read() == text, "{code:?} {said}");

    // Packets come back as soon as north has moved it, and that is what the operator is told.
    device.uses(&far, &next_key, 51821);
    let data = north.data.to_str().expect("UTF-8");
    let moves = ["--data-dir", data, "client", "move", "--machine", "north"];
    let moves = [&moves[..], &["--backend", "userspace"]].concat();
    until("the new key", || {
        let is_answered = device.is_answered(&far);
        north.space.run(env!("CARGO_BIN_EXE_vyr"), &moves, "").expect("it looks");
        is_answered
    });
    let list = ["server", "ls", "north", "--live", "--json", "--node", "north", "--site", &site];
    let listed: Value = serde_json::from_str(&far.printed(&list)).expect("JSON");
    let mut keys = listed["keys"].as_array().expect("a list").iter();
    let staged = keys.find(|key| key["state"] == "staged").expect("a staged key");
    let ana = &staged["devices"][0];
    assert_eq!((&ana["client_id"], &ana["stage"]), (&"ana".into(), &"moved".into()), "{listed}");

    far.printed(&[&rotate[..], &["--retire", "--node", "north"]].concat());
    assert!(!read().contains("staged"), "{}", read());
    // The next plan drops the old key, and the device does not notice.
    let plan = signed(&far);
    // A link in userspace goes with its process.
    far.routers[0].plane = None;
    far.vyr(&far.apply(&site, &plan, &lonely));
    assert!(device.is_answered(&far));
}

/// The device's own in the tunnel.
fn address(far: &Far, plan: &str) -> String {
    let hex = plan.trim_start_matches("sha256:");
    let plan = fs::read(far.path(&format!("site/plans/{hex}.json"))).expect("a plan");
    let plan: Value = serde_json::from_slice(&plan).expect("JSON");
    let all = plan["clients"][0]["addresses"][0]["addresses"].as_array().expect("a list");
    let mut all = all.iter().filter_map(|of| of.as_str()?.strip_suffix("/32"));
    all.next().expect("IPv4").to_owned()
}
