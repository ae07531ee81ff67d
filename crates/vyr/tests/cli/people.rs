//! People's devices from outside: added, rotated, revoked, listed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::common::{Place, exists, root, text_of};
use crate::site::{copy, replace};

/// A pair that nobody uses; only its public half.
const KEY: &str = "07LbRaAAHPn4GbVzSk/9+zmKvGfIpNCQEiMCynu4Th8=";
const OTHER: &str = "3UEkAPfmTyV9IYaqPii/uisqPz7I1hjVXsTa7na2kE4=";

struct Office {
    place: Place,
    site: String,
}

impl Office {
    fn new() -> Self {
        let place = Place::new();
        let site = place.path("site");
        copy(&root().join("examples/office"), &site);
        Self { place, site: site.into_string() }
    }

    fn on(&self, words: &[&str]) -> crate::common::Ended {
        self.place.bare(&[words, &["--site", &self.site]].concat()).run()
    }

    fn clients(&self) -> String {
        fs::read_to_string(format!("{}/clients.toml", self.site)).expect("the file")
    }

    fn add<'a>(&self, id: &'a str, key: &[&'a str]) -> Vec<&'a str> {
        let words = ["client", "add", id, "--owner", "Gil", "--interface", "north"];
        [&words, ["--profile", "split"].as_slice(), key].concat()
    }

    /// Id and state of each key, of one device.
    fn keys(&self, id: &str) -> Vec<(String, Value)> {
        let listed = self.on(&["client", "ls", "--json"]).json();
        let keys = listed["keys"].as_array().expect("a list").iter();
        let own = keys.filter(|key| key["client_id"] == id);
        own.map(|key| (text_of(&key["state"]).to_owned(), key["addresses"].clone())).collect()
    }
}

#[test]
fn a_private_key_is_written_once_and_nowhere_else() {
    let office = Office::new();
    let key = office.place.path("gil.key").into_string();
    let before = office.clients();
    let added = office.on(&office.add("gil-phone", &["--key", &key])).ok();
    let mode = fs::metadata(&key).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let private = fs::read_to_string(&key).expect("the key");
    let private = private.trim_end();
    assert_eq!(private.len(), 44);
    let said = format!("{}{}", added.text(), added.stderr);
    assert!(!said.contains(private), "it was printed");
    assert!(said.contains("undo: take the line of") && said.contains("next: vyr lock"), "{said}");
    // One line more, and the others as they were.
    let after = office.clients();
    let fresh: Vec<&str> = after.lines().filter(|line| line.contains("gil-phone")).collect();
    assert_eq!(fresh.len(), 1);
    assert_eq!(after.replace(&format!("{}\n", fresh[0]), ""), before);
    assert!(!after.contains(private) && fresh[0].contains("state = \"active\""));
    // It is the pair of that line: the plan's own compiler says so.
    office.on(&["lock"]).ok();
    let out = office.place.path("out").into_string();
    let export = ["client", "export", "gil-phone", "--key", &key, "--out", &out];
    office.on(&export).ok();
    assert!(!office.keys("gil-phone")[0].1["nas"].is_null(), "locked, so it has addresses");
    // A file that is there may be the only copy of another key.
    let again = office.add("gil-tablet", &["--key", &key]);
    office.on(&again).refuses(5, &["is there already"]);
    assert_eq!(fs::read_to_string(&key).expect("the key").trim_end(), private);
    assert_eq!(office.clients(), after, "nothing is half done");
    // Nothing is made for a line that is refused.
    let lost = office.place.path("lost.key").into_string();
    office.on(&office.add("gil-phone", &["--key", &lost])).refuses(5, &["vyr client rotate"]);
    assert!(!exists(&lost));
}

#[test]
fn a_key_goes_from_staged_to_revoked_and_never_back() {
    let office = Office::new();
    office.on(&office.add("gil-phone", &["--public-key", KEY])).ok();
    office.on(&office.add("other", &["--public-key", KEY])).refuses(5, &["gil-phone"]);
    let rotated = office.on(&["client", "rotate", "gil-phone", "--finish"]);
    rotated.refuses(5, &["no staged key"]);
    let key = office.place.path("new.key").into_string();
    let rotate = ["client", "rotate", "gil-phone", "--key", &key, "--json"];
    let staged = office.on(&rotate).json();
    assert_eq!(staged["keys"][0]["state"], "staged", "{staged}");
    assert_eq!(staged["keys"][0]["before"], Value::Null);
    assert_eq!(text_of(&staged["key_file"]), key);
    let second = ["client", "rotate", "gil-phone", "--public-key", OTHER];
    office.on(&second).refuses(5, &["has a staged key already"]);
    office.on(&["lock"]).ok();
    let states = |office: &Office| -> Vec<String> {
        let mut states: Vec<String> = office.keys("gil-phone").into_iter().map(|of| of.0).collect();
        states.sort();
        states
    };
    assert_eq!(states(&office), ["active", "staged"]);
    let finished = office.on(&["client", "rotate", "gil-phone", "--finish", "--json"]).json();
    assert_eq!(finished["keys"].as_array().map(Vec::len), Some(2), "{finished}");
    assert_eq!(states(&office), ["active", "retired"]);
    office.on(&["client", "revoke", KEY]).ok();
    office.on(&["client", "revoke", "gil-phone"]).ok();
    assert_eq!(states(&office), ["revoked", "revoked"]);
    let again = office.on(&["client", "revoke", "gil-phone", "--json"]).json();
    assert_eq!(again["changed"], false);
    office.on(&office.add("gil-phone", &["--public-key", KEY])).refuses(3, &["was revoked"]);
    // The lock remembers it when the line is gone.
    office.on(&["lock"]).ok();
    let text = office.clients();
    let left: Vec<&str> = text.lines().filter(|line| !line.contains("gil-phone")).collect();
    fs::write(format!("{}/clients.toml", office.site), left.join("\n")).expect("written");
    office.on(&office.add("new", &["--public-key", KEY])).refuses(3, &["was revoked"]);
}

#[test]
fn a_change_is_whole_or_not_at_all() {
    let office = Office::new();
    let before = office.clients();
    office.on(&office.add("Gil", &["--public-key", KEY])).exits(2);
    office.on(&office.add("gil", &["--public-key", "short"])).exits(2);
    office.on(&office.add("gil", &[])).exits(2);
    office.on(&office.add("gil", &["--public-key", KEY, "--key", "x"])).exits(2);
    office.on(&["client", "rotate", "ana-phone"]).exits(2);
    office.on(&["client", "rotate", "ana-phone", "--finish", "--public-key", KEY]).exits(2);
    office.on(&["client", "rotate", "nobody", "--public-key", KEY]).refuses(4, &["vyr client ls"]);
    office.on(&["client", "revoke", "nobody"]).refuses(4, &["vyr client ls"]);
    let mut unknown = office.add("gil", &["--public-key", KEY]);
    unknown[6] = "nort";
    office.on(&unknown).refuses(2, &["did you mean north?"]);
    assert_eq!(office.clients(), before);
    replace(&office.site, "clients.toml", "{ id = \"ana-phone\"", "{ di = \"ana-phone\"");
    let broken = office.clients();
    office.on(&office.add("gil", &["--public-key", KEY])).refuses(2, &["clients.toml"]);
    assert_eq!(office.clients(), broken);
}

#[test]
fn of_many_at_once_none_is_lost() {
    let office = Office::new();
    let ids: Vec<String> = (0..8).map(|number| format!("many-{number}")).collect();
    let keys: Vec<String> =
        ids.iter().map(|id| office.place.path(&format!("{id}.key")).into_string()).collect();
    let started: Vec<_> = ids
        .iter()
        .zip(&keys)
        .map(|(id, key)| {
            let words = office.add(id, &["--key", key]);
            office.place.bare(&[words, vec!["--site", &office.site]].concat()).start()
        })
        .collect();
    started.into_iter().for_each(|running| drop(running.wait().ok()));
    for id in &ids {
        assert_eq!(office.keys(id).len(), 1, "{id}");
    }
    let left = fs::read_dir(&office.site).expect("the site").flatten();
    let partial = left.filter(|entry| entry.file_name().to_string_lossy().contains("partial"));
    assert_eq!(partial.count(), 0);
}

#[test]
fn a_configuration_is_exported_whichever_plan_comes_next() {
    let office = Office::new();
    let file = |name: &str| format!("{}/{name}", office.site);
    let key = office.place.path("gil.key").into_string();
    office.on(&office.add("gil-phone", &["--key", &key])).ok();
    let export = |out: &str| {
        let out = office.place.path(out).into_string();
        let words = ["client", "export", "gil-phone", "--key", &key, "--out", &out];
        (office.on(&words), out)
    };
    export("early").0.refuses(5, &["gil-phone has no address", "vyr lock"]);
    office.on(&["lock"]).ok();
    let (first, before) = export("before");
    first.ok();

    // Confirmed: the lock names the plan that was to come, and the next comes over this one.
    let out = file("plan");
    let planned = office.on(&["plan", "--out", &out, "--json"]).json();
    let digest = text_of(&planned["plan_digest"]).to_owned();
    let hex = digest.trim_start_matches("sha256:");
    fs::create_dir_all(file("plans")).expect("a directory");
    fs::rename(&out, file(&format!("plans/{hex}.json"))).expect("moved");
    fs::write(file("plans/applied.network"), format!("{digest}\n")).expect("written");
    let lock = fs::read(file("vyr.lock")).expect("the lock");
    office.on(&["plan"]).refuses(5, &["the lock is for a plan over another one"]);
    let (again, after) = export("after");
    again.ok();
    let of = |out: &str| {
        fs::read_to_string(format!("{out}/nas/vyr-north.conf")).expect("a configuration")
    };
    assert_eq!(of(&before), of(&after));
    assert_eq!(fs::read(file("vyr.lock")).expect("the lock"), lock, "nothing is allocated");

    // A device that nobody has locked has no address, also then.
    office.on(&office.add("gil-tablet", &["--public-key", KEY])).ok();
    export("late").0.refuses(5, &["gil-tablet has no address", "vyr lock"]);
}
