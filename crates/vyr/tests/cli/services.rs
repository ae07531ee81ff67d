//! Services from manifests to an approved plan, from outside. The registry is Debian's, the images
//! are umoci's.

use std::fs;

use camino::Utf8PathBuf;
use serde_json::Value;

use crate::common::{Ended, Place, has, root, text_of};
use crate::image::{Registry, USER, make_image};
use crate::site::{copy, replace};

/// A site with the services of texts, on one host without any network of ours.
pub(crate) struct Shop {
    pub(crate) place: Place,
    pub(crate) site: String,
}

const SITE: &str = r#"version = 1
name = "shop"
prefix = "fd5e:40b1:9c22::/48"
operators = { threshold = 2, threshold_services = 1, from = ["192.0.2.0/24"] }
[nodes.alpha]
memory = "4Gi"
cpu = 2
ipv4_public = ["198.51.100.7"]
"#;

pub(crate) const DIGEST: &str =
    "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

pub(crate) fn manifest(image: &str) -> String {
    format!(
        "version = 1\nimage.ref = \"{image}\"\n[processes.http]\nresources = {{ memory = \"256Mi\" }}\n\
         ports = [{{ name = \"tls\", internal = 8443 }}]\n[[routes]]\nhostname = \"shop.example\"\n\
         port = 443\nprocess = \"http\"\nto = \"tls\"\nipv4 = true\n[secrets]\nnone = true\n"
    )
}

impl Shop {
    pub(crate) fn new(place: Place, image: &str) -> Self {
        let site = place.path("site");
        fs::create_dir_all(site.join("services")).expect("a directory");
        fs::write(site.join("site.toml"), SITE).expect("a site");
        fs::write(site.join("services/web.toml"), manifest(image)).expect("a manifest");
        let mut signers = String::new();
        for name in ["ana", "ben"] {
            let key = place.path(name);
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.as_str()];
            place.program("ssh-keygen", &words).run().ok();
            let public = fs::read_to_string(place.path(&format!("{name}.pub"))).expect("a key");
            signers += &format!("{name} namespaces=\"vyr-plan\" {public}");
        }
        fs::write(site.join("operators.allowed_signers"), signers).expect("signers");
        Self { place, site: site.into_string() }
    }

    pub(crate) fn vyr(&self, words: &[&str]) -> Ended {
        self.place.bare(&[words, &["--site", &self.site]].concat()).run()
    }

    pub(crate) fn file(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("{}/{name}", self.site))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).expect("a file")
    }

    pub(crate) fn sign(&self, kind: &str, who: &str) -> Value {
        let key = self.place.path(who);
        self.vyr(&["plan", "sign", kind, "--key", key.as_str(), "--json"]).ok().json()
    }

    /// What a deploy will do: name the plan that is applied.
    pub(crate) fn applied(&self, kind: &str, digest: &str) {
        fs::write(self.file(&format!("plans/applied.{kind}")), format!("{digest}\n")).expect("it");
    }
}

pub(crate) fn pinned(place: Place) -> Shop {
    Shop::new(place, &format!("registry.example/team/web@{DIGEST}"))
}

#[test]
fn the_worked_shop_holds_and_says_why() {
    let place = Place::new();
    let site = place.path("shop");
    copy(&root().join("examples/shop"), &site);
    let on = |words: &[&str]| place.bare(&[words, &["--site", site.as_str()]].concat()).run();
    let checked = on(&["check", "--json"]).ok().json();
    assert_eq!(checked["services"]["slots"], 4, "{checked}");
    let one = on(&["plan", "services", "--out", "-"]).ok().stdout;
    assert_eq!(on(&["plan", "services", "--out", "-"]).ok().stdout, one, "one intent, one plan");
    let planned = on(&["plan", "services", "--json"]).ok().json();
    assert_eq!(planned["kind"], "services");
    assert_eq!(planned["plan_digest"], vyr_base::Digest::of(&one).to_string().as_str());
    let why = on(&["explain", "web/http/0", "--json"]).ok().json();
    assert_eq!(why["explanations"][0]["id"], "web/http/0");
    assert!(why["explanations"][0]["because"][0]["file"] == "services/web.toml", "{why}");
    on(&["explain", "web/http/9"]).exits(4);
    // Nothing of the secrets is in a plan but the digest of the file.
    let text = String::from_utf8(one).expect("UTF-8");
    let sealed = fs::read(site.join("secrets/web.age")).expect("secrets");
    assert!(text.contains(&vyr_base::Digest::of(&sealed).to_string()));
    fs::remove_file(site.join("secrets/web.age")).expect("secrets");
    on(&["check"]).refuses(2, &["S11", "requires DATABASE_PASSWORD", "vyr secret set"]);
}

#[test]
fn each_plan_has_approvals_and_a_history_of_its_own() {
    let test = "services::each_plan_has_approvals_and_a_history_of_its_own";
    if !has(test, "ssh-keygen") {
        return;
    }
    let shop = pinned(Place::new());
    shop.vyr(&["plan", "services"]).refuses(5, &["vyr lock"]);
    shop.vyr(&["lock"]).ok();
    // One is enough for services, and not for the network.
    let services = shop.sign("services", "ana");
    assert_eq!((&services["kind"], &services["approved"]), (&"services".into(), &true.into()));
    let network = shop.sign("network", "ana");
    assert_eq!((&network["kind"], &network["approved"]), (&"network".into(), &false.into()));
    let first = text_of(&services["plan_digest"]).to_owned();
    let file = |digest: &str| {
        let hex = digest.trim_start_matches("sha256:");
        shop.file(&format!("plans/{hex}.json")).into_string()
    };
    let signers = shop.file("operators.allowed_signers").into_string();
    let verify = ["verify", &file(&first), "--trust", &signers, "--threshold", "1", "--json"];
    let verified = shop.place.bare(&verify).run().ok().json();
    assert_eq!(verified["kind"], "services", "{verified}");
    // A network is changed by no services plan, and the other way round.
    let digest = text_of(&network["plan_digest"]).to_owned();
    shop.vyr(&["diff", "services", &digest, "intent"]).refuses(2, &["of the network kind"]);
    shop.vyr(&["diff", &first, "intent"]).refuses(2, &["of the services kind"]);

    shop.applied("services", &first);
    shop.vyr(&["plan", "services"]).refuses(5, &["a services plan over another one"]);
    shop.vyr(&["plan"]).ok();
    shop.vyr(&["lock"]).ok();
    let same = shop.vyr(&["diff", "services"]).ok();
    assert_eq!(same.text(), "nothing changes\n");
    replace(&shop.site, "services/web.toml", "[processes.http]", "[processes.http]\nscale.min = 2");
    let diff = shop.vyr(&["diff", "services", "applied", "intent", "--json"]).ok().json();
    let changes = diff["diff"]["changes"].as_array().expect("changes");
    let names: Vec<&str> = changes.iter().map(|of| text_of(&of["name"])).collect();
    assert_eq!(names, ["web/http", "web/http/1"], "{diff}");
    let second = shop.sign("services", "ben");
    let second = text_of(&second["plan_digest"]).to_owned();
    let over = ["verify", &file(&second), "--trust", &file(&first)];
    shop.place.bare(&over).run().ok();
    shop.applied("services", &second);
    let history = shop.vyr(&["history", "services", "--json"]).ok().json();
    let plans = history["plans"].as_array().expect("plans");
    let told: Vec<(&str, u64, u64)> = plans
        .iter()
        .map(|of| {
            (
                text_of(&of["plan_digest"]),
                of["epoch"].as_u64().expect("it"),
                of["slots"].as_u64().expect("it"),
            )
        })
        .collect();
    assert_eq!(told, [(second.as_str(), 2, 2), (first.as_str(), 1, 1)]);
    assert_eq!(plans[0]["approvers"], serde_json::json!(["ben"]));
    assert_eq!(shop.vyr(&["history", "--json"]).ok().json()["plans"], serde_json::json!([]));

    // The network that is in force is part of what is approved.
    shop.sign("network", "ben");
    shop.vyr(&["lock"]).ok();
    let before = shop.vyr(&["plan", "services", "--json"]).ok().json();
    shop.applied("network", &digest);
    let after = shop.vyr(&["plan", "services", "--json"]).ok().json();
    assert_ne!(before["plan_digest"], after["plan_digest"]);
}

#[test]
fn an_ipv4_address_is_given_and_given_back() {
    let test = "services::an_ipv4_address_is_given_and_given_back";
    if !has(test, "ssh-keygen") {
        return;
    }
    let shop = pinned(Place::new());
    shop.vyr(&["lock"]).ok();
    let line = "service-ipv4 alpha 198.51.100.7 web\n";
    assert!(shop.text("vyr.lock").contains(line));
    shop.vyr(&["lock", "--release", "198.51.100.7"]).refuses(5, &["web asks for", "ipv4"]);
    replace(&shop.site, "services/web.toml", "ipv4 = true\n", "");
    shop.vyr(&["lock"]).ok();
    assert!(shop.text("vyr.lock").contains(line), "nobody gave it back");
    let given = shop.vyr(&["lock", "--release", "198.51.100.7", "--json"]).ok().json();
    assert_eq!(given["removed"], serde_json::json!([line.trim_end()]));
    assert!(!shop.text("vyr.lock").contains("198.51.100.7"));
    shop.vyr(&["lock", "--release", "198.51.100.7"]).exits(4);
}

#[test]
fn a_tag_is_pinned_once_and_asked_for_again_when_told_to() {
    let test = "services::a_tag_is_pinned_once_and_asked_for_again_when_told_to";
    let programs = ["umoci", "docker-registry", "skopeo", "openssl", "perl", "ssh-keygen"];
    if !programs.iter().all(|program| has(test, program)) {
        return;
    }
    let place = Place::new();
    let digests = [make_image(&place, "first", 1), make_image(&place, "second", 2)];
    assert_ne!(digests[0], digests[1]);
    let registry = Registry::start(&place);
    let name = format!("{}/team/web:1.0", registry.address);
    let policy = place.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let push = |place: &Place, layout: &str| {
        let copy = ["--policy", &policy, "copy", "--dest-tls-verify=false", "--dest-creds", USER];
        let (from, to) = (format!("oci:{layout}:one"), format!("docker://{name}"));
        place.program("skopeo", &[&copy[..], &[&from, &to]].concat()).run().ok();
    };
    push(&place, "first");
    let encoded = place.program("openssl", &["base64", "-A"]).input(USER).run().ok();
    let auths =
        format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, registry.address, encoded.line());
    let auth = place.file("auth.json", auths);
    let shop = Shop::new(place, &name);
    let lock = |more: &[&str]| {
        let words = ["lock", "--site", &shop.site, "--auth-file", &auth];
        let trusted = shop.place.path("cert.pem");
        let call = shop.place.bare(&[&words, more].concat());
        call.env("SSL_CERT_FILE", trusted.as_str()).run()
    };
    let pin = |digest: &str| format!("image {name} {digest}\n");

    // Nobody is asked by anything but a lock, and who cannot be asked is said.
    shop.vyr(&["plan", "services"]).refuses(5, &[&name, "pinned to no digest", "vyr lock"]);
    shop.vyr(&["lock"]).refuses(6, &[&name, "of web is pinned to no digest", "cannot be asked"]);
    assert!(!shop.file("vyr.lock").exists(), "nothing is half written");
    lock(&[]).ok();
    assert!(shop.text("vyr.lock").contains(&pin(&digests[0])), "{}", shop.text("vyr.lock"));
    let first = shop.vyr(&["plan", "services", "--json"]).ok().json();

    // Somebody moves the tag: the lock stays, and so does the plan, until somebody asks again.
    push(&shop.place, "second");
    let kept = lock(&["--json"]).ok().json();
    assert_eq!(kept["changed"], false, "{kept}");
    lock(&["--update", "db"]).refuses(4, &["no service db"]);
    let moved = lock(&["--update", "web", "--json"]).ok().json();
    assert_eq!(moved["added"], serde_json::json!([pin(&digests[1]).trim_end()]));
    assert_eq!(moved["removed"], serde_json::json!([pin(&digests[0]).trim_end()]));
    let second = shop.vyr(&["plan", "services", "--json"]).ok().json();
    assert_ne!(first["plan_digest"], second["plan_digest"]);
    assert_eq!(lock(&["--update", "--json"]).ok().json()["changed"], false);

    // Without the registry: what is pinned needs none, another tag does.
    drop(registry);
    lock(&[]).ok();
    shop.vyr(&["check"]).ok();
    lock(&["--update"]).refuses(6, &["cannot be asked"]);
    assert!(shop.text("vyr.lock").contains(&pin(&digests[1])), "a pin is kept");
    replace(&shop.site, "services/web.toml", ":1.0", ":1.1");
    let before = shop.text("vyr.lock");
    lock(&[]).refuses(6, &["team/web:1.1", "cannot be asked"]);
    assert_eq!(shop.text("vyr.lock"), before);
}
