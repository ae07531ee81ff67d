//! A server's key that takes over: a second end beside the first, in the plan, in the lock, in the
//! files of devices and of the site.

#[expect(dead_code, reason = "parts of it are for other tests")]
mod common;

use common::{files, read};
use vyr_base::{Category, Problem, Source};
use vyr_plan::intent::{Key, Name, ServerEditError, ServerEdited, ServerStep, State, edit_server};
use vyr_plan::plan::Link;
use vyr_plan::render::{self, Form, PrivateKey};
use vyr_plan::{Applied, Files, Lock, Plan, allocate, compile, diff, explain, prove, svg};

/// The key of `north` on `nas`, in the worked site.
const OWN: &str = "r+r6FDi9Tj+O2HH9eT7D4jBJKv6XbUldDbi7DBXPkEI=";
/// A pair that nobody uses.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRcbbHf9aPyfy2PL00dHmzSo=";
const PUBLIC: &str = "07LbRaAAHPn4GbVzSk/9+zmKvGfIpNCQEiMCynu4Th8=";

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn key(number: u8) -> Key {
    Key::from_bytes([number + 100; 32])
}

fn own() -> Key {
    OWN.parse().expect("a key")
}

fn step(files: &Files, step: ServerStep) -> Result<ServerEdited, ServerEditError> {
    edit_server(files, &name("nas"), None, &step)
}

fn with(text: &str) -> Files {
    Files { site: Source::new("site.toml", text), ..files() }
}

/// The files after a step.
fn after(files: &Files, of: ServerStep) -> Files {
    let edited = step(files, of).unwrap_or_else(|e| panic!("{of:?}: {e}"));
    Files { site: Source::new("site.toml", edited.text), ..files.clone() }
}

fn stage(number: u8) -> ServerStep {
    ServerStep::Stage { key: key(number), port: None }
}

/// The plan over another one, and the lock with it, as `vyr lock` writes it and reads it again.
fn plan(files: &Files, lock: &Lock, applied: Option<&Applied>) -> (Lock, Plan) {
    let intent = read(files.clone());
    let lock = allocate(&intent, lock, applied).expect("there is room");
    let text = lock.to_string();
    let again = Lock::parse(&Source::new("vyr.lock", text)).expect("it is ours");
    assert_eq!(again, lock, "what is written is read again");
    assert_eq!(lock.stale(&intent, applied), []);
    let plan = compile(&intent, &lock).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(prove(&plan, applied.map(|of| &of.plan)), []);
    let bytes = plan.to_bytes().expect("a plan");
    assert_eq!(Plan::parse(&bytes).expect("the same"), plan);
    (lock, plan)
}

fn applied(plan: &Plan) -> Applied {
    Applied { digest: plan.digest().expect("a digest"), plan: plan.clone() }
}

/// The links of `north` on `nas`: the first, and the second if there is one.
fn ends(plan: &Plan) -> (&Link, Option<&Link>) {
    let nas = plan.machine("nas").expect("a machine");
    (nas.link("north").expect("a link"), nas.second("north"))
}

fn rules(plan: &Plan, link: &str) -> Vec<String> {
    let nas = plan.machine("nas").expect("a machine");
    nas.rules.iter().filter(|rule| rule.from == link).map(|rule| rule.id.clone()).collect()
}

#[test]
fn a_second_end_is_the_first_one_with_another_key_and_port() {
    let (lock, plain) = plan(&files(), &Lock::default(), None);
    assert!(!lock.to_string().contains("second"), "no line before there is one");
    let staged = after(&files(), stage(1));
    let (lock, staged) = plan(&staged, &lock, Some(&applied(&plain)));
    assert!(lock.to_string().contains(&format!("second north@nas {}\n", key(1))));
    let (first, second) = ends(&staged);
    let second = second.expect("a second end");
    assert_eq!(first, ends(&plain).0, "the first one is as it was");
    assert_eq!((second.name.as_str(), second.listen_port), ("vyr-north-2", 51821));
    assert_eq!(second.endpoint.as_deref(), Some("nas.example.net:51821"));
    assert_eq!((&second.addresses, &second.tunnels), (&first.addresses, &first.tunnels));
    assert!(second.routes.is_empty() && second.peers.iter().all(|of| of.allowed_ips.is_empty()));
    assert_eq!(second.peers.len(), first.peers.len());
    assert_eq!(rules(&staged, "vyr-north").len(), rules(&staged, "vyr-north-2").len());
    // Nobody reaches more, or less.
    let change = diff(Some(&plain), Some(&staged));
    assert_eq!(change.reach, []);
    let told: Vec<String> = change.changes.iter().map(|of| of.name.clone()).collect();
    assert_eq!(told, ["north@nas (second)"]);
    assert!(svg(&staged).contains("vyr-north-2") && svg(&staged).contains("next key"));
    // Its firewall is there while it is, and no longer.
    let firewall = |plan: &Plan| render::firewall(plan.machine("nas").expect("it")).expect("text");
    assert!(firewall(&staged).contains("local.vyr-north-2"));
    assert!(!firewall(&plain).contains("vyr-north-2"));
    // What takes no part in it has the bytes that it always had.
    let bytes = plain.to_bytes().expect("a plan");
    let text = String::from_utf8(bytes).expect("JSON");
    assert!(!text.contains("second_of") && !text.contains("retired_keys"));
}

#[test]
fn a_link_keeps_its_name_when_its_key_is_the_only_one_and_the_next_takes_the_other() {
    let (lock, plain) = plan(&files(), &Lock::default(), None);
    let staged = after(&files(), stage(1));
    let (lock, over) = plan(&staged, &lock, Some(&applied(&plain)));
    let moved = ends(&over).1.expect("a second end").clone();
    let retired = after(&staged, ServerStep::Retire);
    let (lock, last) = plan(&retired, &lock, Some(&applied(&over)));
    let (first, second) = ends(&last);
    assert!(second.is_none() && first.name == moved.name && first.public_key == key(1));
    assert_eq!((first.listen_port, &first.retired_keys), (51821, &vec![own()]));
    assert_eq!(rules(&last, "vyr-north-2"), rules(&over, "vyr-north-2"), "rules keep their names");
    assert_eq!(diff(Some(&over), Some(&last)).reach, []);

    let revoked = after(&retired, ServerStep::Revoke);
    let intent = read(revoked.clone());
    let stale = lock.stale(&intent, Some(&applied(&last)));
    assert!(stale.iter().any(|of| of.what.contains("revoked key of nas")), "{stale:?}");
    let (lock, gone) = plan(&revoked, &lock, Some(&applied(&last)));
    assert!(gone.revoked.contains(&own()) && ends(&gone).0.retired_keys.is_empty());

    // The one after it has the name that is free.
    let again = after(&revoked, stage(2));
    let (lock, again_plan) = plan(&again, &lock, Some(&applied(&gone)));
    let (first, second) = ends(&again_plan);
    assert_eq!(first.name, "vyr-north-2");
    assert_eq!(second.expect("a second end").name, "vyr-north");
    let back = after(&again, ServerStep::Retire);
    let (_, last) = plan(&back, &lock, Some(&applied(&again_plan)));
    assert_eq!(ends(&last).0.name, "vyr-north");
}

#[test]
fn a_new_file_names_the_new_end_and_an_old_one_is_what_it_was() {
    let clients = files().clients.expect("clients");
    let line = "3UEkAPfmTyV9IYaqPii/uisqPz7I1hjVXsTa7na2kE4=";
    let clients = Source::new("clients.toml", clients.text().replace(line, PUBLIC));
    let base = Files { clients: Some(clients), ..files() };
    let private = PrivateKey::parse(PRIVATE).expect("a key");
    let file = |plan: &Plan, server: &str| {
        let files = render::client(plan, "ana-laptop", Some(server), &private, Form::WgQuick);
        let file = files.expect("a file").remove(0);
        (file.name, String::from_utf8(file.bytes.to_vec()).expect("text"))
    };
    let (lock, plain) = plan(&base, &Lock::default(), None);
    let (_, staged) = plan(&after(&base, stage(1)), &lock, Some(&applied(&plain)));
    let ((old_name, old), (new_name, new)) = (file(&plain, "nas"), file(&staged, "nas"));
    assert_eq!(old_name, new_name, "a device has one link of an interface");
    assert!(old.contains(OWN) && old.contains("nas.example.net:51820"), "{old}");
    assert!(new.contains(&key(1).to_string()) && new.contains("nas.example.net:51821"), "{new}");
    let address =
        |text: &str| text.lines().find(|line| line.starts_with("Address")).map(str::to_owned);
    assert_eq!(address(&old), address(&new), "same addresses");
    let epoch = |text: &str| text.replace("epoch 2", "epoch 1");
    assert_eq!(epoch(&file(&staged, "router-north").1), file(&plain, "router-north").1);
}

#[test]
fn what_stands_in_the_way_of_a_rotation_is_said() {
    let refused = |files: &Files, of| step(files, of).expect_err("it is refused");
    let first = refused(&files(), ServerStep::Retire);
    assert!(matches!(&first, ServerEditError::NotStaged(_)), "{first}");
    assert_eq!(first.category(), Category::Conflict);
    assert!(matches!(refused(&files(), ServerStep::Abort), ServerEditError::NotStaged(_)));
    assert!(matches!(refused(&files(), ServerStep::Revoke), ServerEditError::NotRetired(_)));
    let same = refused(&files(), ServerStep::Stage { key: own(), port: None });
    assert_eq!(same.category(), Category::Auth);
    let staged = after(&files(), stage(1));
    assert!(matches!(refused(&staged, stage(2)), ServerEditError::Staged { .. }));
    let retired = after(&staged, ServerStep::Retire);
    let old = ServerStep::Stage { key: own(), port: None };
    assert_eq!(refused(&retired, old).category(), Category::Auth);
    // Also when only the lock remembers it.
    let revoked = after(&retired, ServerStep::Revoke);
    let lock = allocate(&read(revoked.clone()), &Lock::default(), None).expect("room").to_string();
    let text = revoked.site.text();
    let line = text.lines().find(|line| line.starts_with("old_keys")).expect("a line");
    let lock = Some(Source::new("vyr.lock", lock));
    let forgotten = Files { lock, ..with(&text.replace(&format!("{line}\n"), "")) };
    assert_eq!(refused(&forgotten, old).category(), Category::Auth);

    let of = |server: &str, interface: Option<&str>| {
        let interface = interface.map(name);
        edit_server(&files(), &name(server), interface.as_ref(), &ServerStep::Abort)
    };
    assert!(matches!(of("nobody", None), Err(ServerEditError::NoServer(_))));
    assert!(matches!(of("nas", Some("lab")), Err(ServerEditError::NoEnd { .. })));
    let several = of("router-south", None).expect_err("it carries two");
    assert!(several.to_string().contains("lab, south"), "{several}");
    assert!(matches!(of("router-south", Some("lab")), Err(ServerEditError::NotStaged(_))));
}

#[test]
fn a_name_that_is_too_long_or_taken_is_refused_where_it_stands() {
    let faults = |files: &Files| {
        let intent = read(files.clone());
        let lock = allocate(&intent, &Lock::default(), None).expect("room");
        let faults = compile(&intent, &lock).expect_err("it does not compile");
        assert!(faults.iter().all(|fault| fault.place.is_some()), "{faults:?}");
        faults.into_iter().map(|fault| fault.id.to_string()).collect::<Vec<_>>()
    };
    let renamed = |to: &str| {
        let staged = after(&files(), stage(1));
        let clients = staged.clients.as_ref().expect("clients").text();
        let clients = clients.replace("\"north\"", &format!("\"{to}\""));
        let site = staged.site.text().replace("interfaces.north", &format!("interfaces.{to}"));
        let site = site.replace("\nnorth = [", &format!("\n{to} = ["));
        let clients = Some(Source::new("clients.toml", clients));
        Files { clients, contracts: Vec::new(), ..with(&site) }
    };
    assert_eq!(faults(&renamed("north-hall")), ["link-name"]);
    // Another interface has the name of the second link.
    let staged = after(&files(), stage(1)).site.text().to_owned();
    let lab = staged
        .replace("interfaces.lab", "interfaces.north-2")
        .replace("\nlab = [", "\nnorth-2 = [")
        .replace(
            "roles = [\"north\"]\n\n[servers.router-south]",
            "roles = [\"north\", \"lab\"]\n\n[servers.router-south]",
        )
        .replace("roles = [\"south\", \"lab\"]", "roles = [\"south\"]")
        .replace("north-2.at.router-south", "north-2.at.nas");
    let clients = files().clients.expect("clients").text().replace("\"lab\"", "\"north-2\"");
    let clients = Some(Source::new("clients.toml", clients));
    assert_eq!(faults(&Files { clients, contracts: Vec::new(), ..with(&lab) }), ["link-name"]);
}

#[test]
fn every_other_byte_of_the_site_stays() {
    let before = files().site.text().to_owned();
    let staged = after(&files(), stage(1));
    let line = format!("staged = {{ public_key = \"{}\", port = 51821 }}\n", key(1));
    assert_eq!(staged.site.text().replace(&line, ""), before);
    assert_eq!(after(&staged, ServerStep::Abort).site.text(), before);
    let retired = after(&staged, ServerStep::Retire);
    let own_line = format!("old_keys = [{{ public_key = \"{OWN}\", state = \"retired\" }}]\n");
    let text = retired.site.text().replace(&own_line, "").replace(&key(1).to_string(), OWN);
    let text = text.replace("port = 51821", "port = 51820");
    assert_eq!(text, before);
    let revoked = after(&retired, ServerStep::Revoke);
    assert_eq!(revoked.site.text().replace("\"revoked\"", "\"retired\""), retired.site.text());
    // A second rotation adds to the list.
    let again = after(&after(&revoked, stage(2)), ServerStep::Retire);
    let site = read(again).site;
    let end = &site.interfaces[&name("north")].at[&name("nas")];
    let states: Vec<State> = end.old_keys.iter().map(|old| *old.state).collect();
    assert_eq!(states, [State::Revoked, State::Retired]);

    // The table in other forms: with a comment, in one line, with dotted keys, with CRLF.
    let table = "[interfaces.north.at.nas]\nendpoint = \"nas.example.net\"\nport = 51820\npublic_key = \"r+r6FDi9Tj+O2HH9eT7D4jBJKv6XbUldDbi7DBXPkEI=\"\nvpn = [\"10.21.0.0/24\", \"fd3a:91c2:77e0:21::/64\"]\n";
    assert!(before.contains(table));
    let pairs: Vec<&str> = table.lines().skip(1).collect();
    let without = before.replace(table, "");
    let dotted: String = pairs.iter().map(|pair| format!("at.nas.{pair}\n")).collect();
    let inline = format!("at.nas = {{ {} }}\n", pairs.join(", "));
    let last = format!(
        "at.nas = {{ {} , {} }} # here\n",
        [pairs[0], pairs[1], pairs[3]].join(","),
        pairs[2]
    );
    let head = "[interfaces.north]\n";
    let forms = [
        before.replace(&format!("{OWN}\"\n"), &format!("{OWN}\" # since 2026, = {{,\n")),
        before.replace('\n', "\r\n"),
        without.replace(head, &format!("{head}{dotted}")),
        without.replace(head, &format!("{head}{inline}")),
        without.replace(head, &format!("{head}{last}")),
    ];
    for text in forms {
        let files = with(&text);
        let staged = after(&files, stage(1));
        assert_eq!(after(&staged, ServerStep::Abort).site.text(), text);
        let retired = after(&staged, ServerStep::Retire);
        let again = after(&after(&retired, stage(2)), ServerStep::Retire);
        let site = read(after(&again, ServerStep::Revoke)).site;
        let end = &site.interfaces[&name("north")].at[&name("nas")];
        assert_eq!((*end.public_key, *end.port, end.old_keys.len()), (key(2), 51822, 2));
    }
    // One that nobody of ours writes is not guessed at.
    let own = format!(
        "{table}[interfaces.north.at.nas.staged]\npublic_key = \"{}\"\nport = 51821\n",
        key(1)
    );
    let error = step(&with(&before.replace(table, &own)), ServerStep::Abort).expect_err("refused");
    assert!(matches!(error, ServerEditError::Form(_)), "{error}");
}

#[test]
fn each_key_of_an_end_is_explained() {
    let (lock, plain) = plan(&files(), &Lock::default(), None);
    let staged = after(&files(), stage(1));
    let (lock, over) = plan(&staged, &lock, Some(&applied(&plain)));
    let what = |files: &Files, lock: &Lock, plan: &Plan, key: Key| {
        let all = explain(&read(files.clone()), lock, plan, &key.to_string());
        all.into_iter().map(|one| one.what).collect::<Vec<_>>().join("; ")
    };
    let told = what(&staged, &lock, &over, key(1));
    assert!(told.contains("north@nas is to use next, beside vyr-north"), "{told}");
    let retired = after(&staged, ServerStep::Retire);
    let (lock, last) = plan(&retired, &lock, Some(&applied(&over)));
    let told = what(&retired, &lock, &last, own());
    assert!(told.contains("a retired key of north@nas"), "{told}");
}
