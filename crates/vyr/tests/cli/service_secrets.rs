//! Secrets of services: who can read them, where they are not, and what mistakes cost nothing.

use std::fs;

use age::secrecy::ExposeSecret;
use camino::Utf8PathBuf;
use vyr_node::DataDir;
use vyr_node::secrets::open;

use crate::common::{Place, has, root, text_of, wait_for};
use crate::judge::tree;

/// What must be nowhere but in the memory of who may know it.
const MARKER: &str = "m4rk3r-0f-a-s3cr3t";

/// A site with a node and an operator, each of whom can open secrets.
struct Team {
    place: Place,
    site: Utf8PathBuf,
    operator: String,
}

impl Team {
    fn new() -> Self {
        let place = Place::new();
        let site = place.path("site");
        fs::create_dir(&site).expect("made");
        let text = fs::read(root().join("examples/office/site.toml")).expect("the example");
        fs::write(site.join("site.toml"), text).expect("written");
        let node = place.vyr(&["node", "key", "--secrets"]).run().ok().line();
        let identity = age::x25519::Identity::generate();
        let operator = place.file("operator", identity.to_string().expose_secret());
        private(&operator);
        fs::create_dir(site.join("secrets")).expect("made");
        let lines = format!("# node a\n{node}\n\n{}\n", identity.to_public());
        fs::write(site.join("secrets/recipients"), lines).expect("written");
        Self { place, site, operator }
    }

    fn secret<'a>(&'a self, arguments: &[&'a str]) -> crate::common::Call {
        let end = ["--service", "web", "--site", self.site.as_str()];
        self.place.vyr(&[&["secret"], arguments, &end].concat())
    }

    /// With the operator's key.
    fn known<'a>(&'a self, arguments: &[&'a str]) -> crate::common::Call {
        self.secret(&[arguments, &["--identity", &self.operator]].concat())
    }

    fn sealed(&self) -> Vec<u8> {
        fs::read(self.site.join("secrets/web.age")).expect("it is there")
    }

    /// What an instance on the node would find.
    fn found(&self) -> String {
        let data = DataDir::open(self.place.data().as_std_path()).expect("it is ours");
        let secrets = open(&data, &self.sealed()).expect("the node opens it");
        String::from_utf8(secrets.to_bytes().to_vec()).expect("it is text")
    }
}

fn private(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

fn holds(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

#[test]
fn secrets_are_set_listed_changed_and_removed() {
    let team = Team::new();
    let file = team.place.file("pem", "line one\nline two\n");
    let key = format!("TLS_KEY={file}");
    // The first ones need no key.
    let set = team.secret(&["set", "TOKEN", &key]).input(format!("{MARKER}\n")).run().ok();
    assert_eq!(set.line(), "secrets/web.age");
    assert!(set.stderr.contains("undo: rm secrets/web.age"), "{}", set.stderr);
    let expected = "# VYR_SECRETS_V1\nTLS_KEY=base64:bGluZSBvbmUKbGluZSB0d28K\n";
    assert_eq!(team.found(), format!("{expected}TOKEN={MARKER}\n"));

    let list = team.known(&["ls"]).run().ok();
    assert_eq!(list.text(), "TLS_KEY\nTOKEN\n");
    let list = team.known(&["ls", "--json"]).run().ok().json();
    assert_eq!(list["secrets"], serde_json::json!(["TLS_KEY", "TOKEN"]));

    let set = team.known(&["set", "TOKEN=-", "--exact", "--json"]).input("two\n").run().ok();
    assert_eq!(set.json()["set"], serde_json::json!(["TOKEN"]));
    assert_eq!(team.found(), format!("{expected}TOKEN=base64:dHdvCg==\n"));
    let rm = team.known(&["rm", "TOKEN"]).run().ok();
    assert!(rm.stderr.contains("undo: git checkout secrets/web.age"), "{}", rm.stderr);
    assert_eq!(team.found(), expected);
}

#[test]
fn a_rotation_is_another_file_with_the_same_or_another_value() {
    let team = Team::new();
    team.known(&["rotate"]).run().refuses(4, &["no secrets of web"]);
    team.secret(&["set", "TOKEN"]).input("one").run().ok();
    let first = team.sealed();
    team.known(&["rotate"]).run().ok();
    assert_ne!(team.sealed(), first);
    assert_eq!(team.found(), "# VYR_SECRETS_V1\nTOKEN=one\n");
    team.known(&["rotate", "TOKEN"]).input("two").run().ok();
    assert_eq!(team.found(), "# VYR_SECRETS_V1\nTOKEN=two\n");
    team.known(&["rotate", "TOKNE"]).input("three").run().refuses(4, &["TOKNE is none of"]);
    assert_eq!(team.found(), "# VYR_SECRETS_V1\nTOKEN=two\n");
}

#[test]
fn a_value_is_in_no_argument_output_error_or_file() {
    let team = Team::new();
    let mut said = Vec::new();
    let mut tell = |ended: crate::common::Ended| {
        said.push([ended.stdout.clone(), ended.stderr.clone().into_bytes()].concat());
        ended
    };
    // While it waits for its stdin everybody may look at it.
    let running = team.secret(&["set", "TOKEN"]).start_open();
    let line = format!("/proc/{}/cmdline", running.pid().as_raw_nonzero());
    // It is there before its arguments are.
    let mut arguments = Vec::new();
    wait_for("its arguments", || {
        arguments = fs::read(&line).expect("it runs");
        !arguments.is_empty()
    });
    assert!(holds(&arguments, "TOKEN"), "the judge sees arguments");
    running.kill();
    let _ = running.wait();

    tell(team.secret(&["set", "TOKEN"]).input(MARKER).run().ok());
    tell(team.known(&["set", "OTHER", "--json"]).input(format!("{MARKER}\n")).run().ok());
    tell(team.known(&["ls", "--json"]).run().ok());
    tell(team.known(&["rotate"]).run().ok());
    // By mistake: a value where a file or a name belongs.
    let argument = format!("TOKEN={MARKER}");
    tell(team.known(&["set", &argument]).run().refuses(4, &["never a value"]));
    tell(team.known(&["set", &argument, "--json"]).run().exits(4));
    tell(team.known(&["set", "TOKEN", MARKER]).input("x").run().refuses(2, &["argument 2"]));
    tell(team.known(&["rm", MARKER]).run().refuses(2, &["argument 1"]));
    tell(team.known(&["set", &format!("{MARKER}=-")]).input("x").run().exits(2));
    let bad = team.place.file("bad", MARKER);
    private(&bad);
    tell(team.secret(&["ls", "--identity", &bad]).run().exits(2));
    for bytes in &said {
        assert!(!holds(bytes, MARKER), "{}", String::from_utf8_lossy(bytes));
    }
    fs::remove_file(&bad).expect("removed");
    for path in tree(&team.place.path("")).into_keys() {
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(!holds(&bytes, MARKER), "{path} holds it");
    }
    // The twin: it is there for who may know it.
    assert!(team.found().contains(MARKER));
}

#[test]
fn who_cannot_read_them_changes_nothing() {
    let team = Team::new();
    team.secret(&["ls"]).run().refuses(4, &["no secrets of web", "vyr secret set"]);
    team.secret(&["set", "TOKEN"]).input("one").run().ok();
    let before = team.sealed();
    let stranger = age::x25519::Identity::generate();
    let stranger = team.place.file("stranger", stranger.to_string().expose_secret());
    for (identity, words) in
        [(None, &["--identity FILE"][..]), (Some(&stranger), &["opens these secrets"])]
    {
        for arguments in [&["set", "MORE"][..], &["rm", "TOKEN"], &["rotate"], &["ls"]] {
            private(&stranger);
            let more = identity.map_or(vec![], |path| vec!["--identity", path]);
            let call = team.secret(&[arguments, &more].concat()).input("two");
            call.run().refuses(3, words);
        }
    }
    let open_to_all = team.place.file("open", fs::read(&team.operator).expect("there"));
    let ls = team.secret(&["ls", "--identity", &open_to_all]).run();
    ls.refuses(2, &["can be read by others"]);
    assert_eq!(team.sealed(), before);

    let mut changed = before.clone();
    changed[20] ^= 1;
    fs::write(team.site.join("secrets/web.age"), changed).expect("written");
    team.known(&["ls"]).run().refuses(3, &["cannot be decrypted"]);
}

#[test]
fn mistakes_are_told() {
    let team = Team::new();
    team.secret(&["set", "TOKEN"]).run().refuses(2, &["the value of TOKEN is empty"]);
    team.secret(&["set", "TOKEN"]).input("\n").run().refuses(2, &["empty"]);
    team.secret(&["set", "token"]).input("x").run().refuses(2, &["argument 1", "A-Z"]);
    team.secret(&["set", "A", "B"]).input("x").run().refuses(2, &["two secrets"]);
    team.secret(&["set", "A", "A"]).input("x").run().refuses(2, &["A is named twice"]);
    let large = vec![b'x'; (64 << 10) + 1];
    team.secret(&["set", "A"]).input(large).run().refuses(2, &["more than 65536 bytes"]);
    fs::write(team.site.join("secrets/recipients"), "# nobody\n").expect("written");
    let nobody = team.secret(&["set", "A"]).input("x").run();
    nobody.refuses(4, &["nobody to encrypt", "vyr node key --secrets"]);
    fs::write(team.site.join("secrets/recipients"), "age1bad\n").expect("written");
    team.secret(&["set", "A"]).input("x").run().refuses(2, &["age1bad"]);
    let only = team.place.path("site/secrets/web.age");
    assert!(!crate::common::exists(only), "nothing was written");
}

#[test]
fn to_have_none_is_said_and_not_where_some_are_required() {
    let team = Team::new();
    let manifest = |secrets: &str| {
        let text = format!(
            "version = 1\n[image]\nref = \"registry.example.net/web:1\"\n\
             [processes.http.resources]\nmemory = \"128Mi\"\n[secrets]\n{secrets}\n"
        );
        fs::create_dir_all(team.site.join("services")).expect("made");
        fs::write(team.site.join("services/web.toml"), text).expect("written");
    };
    manifest("required = [\"TOKEN\", \"URL\"]");
    team.secret(&["confirm-none"]).run().refuses(5, &["requires TOKEN, URL"]);
    let set = team.secret(&["set", "TOKEN"]).input("x").run().ok();
    assert!(set.stderr.contains("requires URL, and it is not set"), "{}", set.stderr);
    let list = team.known(&["ls", "--json"]).run().ok().json();
    assert_eq!(list["missing"], serde_json::json!(["URL"]));
    manifest("none = true");
    team.secret(&["confirm-none"]).run().refuses(5, &["there are secrets of web already"]);
    fs::remove_file(team.site.join("secrets/web.age")).expect("removed");
    team.secret(&["confirm-none"]).run().ok();
    assert_eq!(team.found(), "# VYR_SECRETS_V1\n");
}

#[test]
fn a_nodes_key_is_made_once_and_is_its_own() {
    let team = Team::new();
    let key = |data: &str| {
        let key = team.place.vyr_on(&team.place.path(data), &["node", "key", "--secrets"]);
        key.run().ok().line()
    };
    assert_eq!(key("data"), key("data"));
    assert_ne!(key("data"), key("other"));
    let json = team.place.vyr(&["node", "key", "--secrets", "--json"]).run().ok().json();
    assert_eq!((text_of(&json["recipient"]), &json["made"]), (key("data").as_str(), &false.into()));
    let file = fs::read_to_string(team.place.data().join("keys/secrets")).expect("there");
    assert!(file.contains("AGE-SECRET-KEY-1") && file.contains(&key("data")));
    // The files are whole and private.
    team.secret(&["set", "TOKEN"]).input("x").run().ok();
    use std::os::unix::fs::PermissionsExt;
    for path in [team.place.data().join("keys/secrets"), team.site.join("secrets/web.age")] {
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    let left = fs::read_dir(team.site.join("secrets")).expect("there").count();
    assert_eq!(left, 2, "recipients and web.age, and nothing beside them");
}

#[test]
fn age_opens_what_we_write_and_we_open_what_it_writes() {
    let test = "service_secrets::age_opens_what_we_write_and_we_open_what_it_writes";
    if !has(test, "age") {
        return;
    }
    let team = Team::new();
    team.secret(&["set", "TOKEN"]).input("one").run().ok();
    let file = team.site.join("secrets/web.age");
    let clear = team.place.program("age", &["-d", "-i", &team.operator, file.as_str()]).run().ok();
    assert_eq!(clear.text(), "# VYR_SECRETS_V1\nTOKEN=one\n");

    let recipients = team.site.join("secrets/recipients");
    let sealed = ["-R", recipients.as_str(), "-o", file.as_str()];
    let by_hand = "\n# VYR_SECRETS_V1\n# by hand\nB=2\nA=base64:MQ==\n";
    team.place.program("age", &sealed).input(by_hand).run().ok();
    assert_eq!(team.known(&["ls"]).run().ok().text(), "A\nB\n");
    assert_eq!(team.found(), "# VYR_SECRETS_V1\nA=1\nB=2\n");
}

#[test]
fn an_ssh_key_opens_them_too() {
    let team = Team::new();
    team.place.vyr(&["key", "new", "ana"]).run().ok();
    let public = fs::read_to_string(team.place.data().join("keys/ana.pub")).expect("there");
    let recipients = team.site.join("secrets/recipients");
    let lines = fs::read_to_string(&recipients).expect("there") + &public;
    fs::write(&recipients, lines).expect("written");
    team.secret(&["set", "TOKEN"]).input("one").run().ok();
    let private = team.place.data().join("keys/ana");
    let list = team.secret(&["ls", "--identity", private.as_str()]).run().ok();
    assert_eq!(list.text(), "TOKEN\n");
    // Who writes what they cannot read again is told.
    fs::write(&recipients, public).expect("written");
    let warned = team.known(&["rotate"]).run().ok();
    assert!(warned.stderr.contains("is none of them"), "{}", warned.stderr);
}
