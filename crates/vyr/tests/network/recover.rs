//! A router that can be thrown away: bundled, destroyed, rebuilt on a blank host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use vyr_space::{Namespace, Plane, not_run};

use crate::apply::{HANG, until};
use crate::town::{ROUTER, Town, can_build, files};

/// The digest of a host, as `vyr drift` found it.
fn found(town: &Town, space: &Namespace, data: &str) -> String {
    let drift = ["drift", "--json", "--machine", "nas", "--backend", "userspace"];
    let body: Value = serde_json::from_str(&town.vyr(space, data, &drift)).expect("JSON");
    assert_eq!(body["wanted"], body["found"], "it is as its plan says");
    body["found"].as_str().expect("a digest").to_owned()
}

/// The arguments of a rebuild of `bundle`, with what is `more`.
fn rebuild(town: &Town, bundle: &str, more: &[&str]) -> Vec<String> {
    let (trust, key) = (town.text("site/operators.allowed_signers"), town.text("backup"));
    let fixed = ["rebuild", bundle, "--backend", "userspace"];
    let mut all: Vec<String> = fixed.iter().chain(more).map(|text| (*text).to_owned()).collect();
    for (option, value) in [("--trust", trust), ("--identity", key)] {
        if !more.contains(&option) {
            all.extend([option.to_owned(), value]);
        }
    }
    all
}

fn words(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

#[test]
fn a_router_is_rebuilt_on_a_blank_host() {
    if !can_build("recover::a_router_is_rebuilt_on_a_blank_host") {
        return;
    }
    let town = Town::new("b");
    let old = town.host(ROUTER);
    let plane = Plane::start(&old, &town.link);
    let plan = town.plan(3);
    town.connect();
    town.apply(&old, "old", &plan);
    until("the tunnel", || town.forwards());
    let (digest, seen) = (found(&town, &old, "old"), town.seen(&old));
    // It ran a task, so it has a journal and an artifact that may run.
    let wasm = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/bin/hello.wasip1.wasm");
    let (public, private) = (town.text("op.pub"), town.text("op"));
    town.vyr(&old, "old", &["key", "trust", &public, "--principal", "ana@office"]);
    town.vyr(&old, "old", &["task", "submit", wasm, "--key-file", &private]);
    let checkpoint = town.output(&old, "old", &["checkpoint"]);
    let checkpoint: Value = serde_json::from_slice(&checkpoint.stdout).expect("JSON");
    let checkpoint = checkpoint["checkpoint"].as_str().expect("a text");
    let artifacts = town.output(&old, "old", &["artifact", "ls"]).stdout;
    assert!(!artifacts.is_empty());

    let (op, bundle, site) = (town.text("op"), town.text("nas.bundle"), town.text("site"));
    let make = ["bundle", "--machine", "nas", "--key", &op, "--out", &bundle, "--site", &site];
    let (code, said) =
        town.fails(&old, "old", &["bundle", "--machine", "other", "--key", &op, "--out", &bundle]);
    assert_eq!(code, Some(5), "{said}");
    let name = town.vyr(&old, "old", &make);
    let mode = fs::metadata(&bundle).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, said) = town.fails(&old, "old", &make);
    assert!(code == Some(5) && said.contains("there already"), "{said}");
    let bytes = fs::read(&bundle).expect("written");
    let key = fs::read_to_string(town.path(&format!("old/network/keys/{}.key", town.link)));
    let key = key.expect("a key").trim().to_owned();
    let has = |bytes: &[u8]| bytes.windows(key.len()).any(|window| window == key.as_bytes());
    assert!(!has(&bytes), "a private key is in clear");
    // A program that is not ours says who signed what.
    let head = Command::new("sh")
        .args(["-c", "head -n 2 \"$0\" | sha256sum", &bundle])
        .output()
        .expect("a shell");
    let head = String::from_utf8_lossy(&head.stdout).into_owned();
    assert_eq!(format!("sha256:{}", head.split(' ').next().unwrap_or_default()), name);
    let signers = town.text("site/operators.allowed_signers");
    let script = "sed -n '/BEGIN SSH/,/END SSH/p' \"$0\" > \"$0.sig\" && printf '%s\\n' \"$2\" | \
                  ssh-keygen -Y verify -f \"$1\" -I ana@office -n vyr-bundle -s \"$0.sig\"";
    let verified = Command::new("sh").args(["-c", script, &bundle, &signers, &name]).output();
    assert!(verified.is_ok_and(|output| output.status.success()), "ssh-keygen verifies it");
    let shown = town.vyr(
        &town.client,
        "blank",
        &["bundle", "show", &bundle, "--trust", &signers, "--json"],
    );
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["bundle_digest"], Value::from(name.as_str()));
    assert_eq!(shown["plan_digest"], Value::from(plan.as_str()));
    assert_eq!(shown["signer"], Value::from("ana@office"));

    // The old one burns, with its disk.
    town.burn(old, plane);
    fs::rename(town.path("old"), town.path("burnt")).expect("ours");
    let client_file = town.client_file();
    town.lower();
    let blank = town.host(ROUTER);
    let _plane = Plane::start(&blank, &town.link);
    let begun = Instant::now();
    let arguments = rebuild(&town, &bundle, &["--json"]);
    town.raise();
    let body: Value =
        serde_json::from_str(&town.vyr(&blank, "new", &words(&arguments))).expect("JSON");
    let rebuilt = begun.elapsed();
    until("a packet", || town.forwards());
    println!("rebuilt after {rebuilt:.2?}, first packet forwarded after {:.2?}", begun.elapsed());
    assert_eq!(body["found"], Value::from(digest.as_str()), "the host is the old one");
    assert_eq!(body["approvers"][0], Value::from("ana@office"));
    assert_eq!(town.seen(&blank), seen);
    assert_eq!(found(&town, &blank, "new"), digest);
    assert_eq!(town.client_file(), client_file);
    let lock = fs::read(town.path("site/vyr.lock")).expect("a lock");
    assert_eq!(fs::read(town.path("new/network/vyr.lock")).expect("it was taken along"), lock);
    // What may run may run, and the new journal begins where the old one was last seen.
    assert_eq!(body["artifacts"], Value::from(1));
    assert_eq!(town.output(&blank, "new", &["artifact", "ls"]).stdout, artifacts);
    town.vyr(&blank, "new", &["task", "submit", wasm, "--key-file", &private]);
    let first: Value = serde_json::from_str(&town.vyr(&blank, "new", &["events"])).expect("JSON");
    let created = &first["body"]["payload"];
    assert_eq!(created["predecessor"], Value::from(checkpoint));
    assert!(!checkpoint.starts_with(created["origin"].as_str().expect("a name")), "its own name");
    town.vyr(&blank, "new", &["verify", "--journal"]);
    // Private keys are where they belong, and nowhere else.
    for file in files(&town.path("new")) {
        let bytes = fs::read(&file).expect("ours");
        assert_eq!(has(&bytes), file.ends_with(format!("network/keys/{}.key", town.link)));
    }

    // Again: nothing to do. And with the other key.
    let again = rebuild(&town, &bundle, &["--json", "--identity", &town.text("backup.age")]);
    let body: Value = serde_json::from_str(&town.vyr(&blank, "new", &words(&again))).expect("JSON");
    assert_eq!(body["outcome"], Value::from("nothing"));
    // The next plan is applied over it as if nothing had happened.
    fs::rename(town.path("burnt"), town.path("old")).expect("ours");
    let next = town.plan(4);
    town.apply(&blank, "new", &next);
    let (code, said) = town.fails(&blank, "new", &words(&rebuild(&town, &bundle, &[])));
    assert!(code == Some(5) && said.contains("epoch"), "an older bundle: {said}");
    // The rebuilt node is bundled like any other, with the plan before its own, and artifacts by name.
    let small = town.text("small.bundle");
    let make = ["bundle", "--key", &op, "--out", &small, "--parents", "3", "--digests-only"];
    let made = town.vyr(&blank, "new", &[&make[..], &["--json"]].concat());
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let entries = made["entries"].as_array().expect("a list");
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    for digest in [&plan, &next] {
        let hex = digest.trim_start_matches("sha256:");
        for ending in ["json", "approvals"] {
            assert!(names.contains(&format!("plans/{hex}.{ending}").as_str()), "{names:?}");
        }
    }
    assert!(names.contains(&"artifacts.txt") && !names.contains(&"artifacts.tar"), "{names:?}");
    let again = rebuild(&town, &small, &["--json"]);
    for (data, missing) in [("new", 0), ("newest", 1)] {
        let body = town.vyr(&blank, data, &words(&again));
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["artifacts"], Value::from(0));
        assert_eq!(body["artifacts_missing"], Value::from(missing), "in {data}");
    }
}

#[test]
fn a_bundle_that_is_not_what_it_says_changes_nothing() {
    if !can_build("recover::a_bundle_that_is_not_what_it_says_changes_nothing") {
        return;
    }
    let town = Town::new("x");
    let old = town.host(ROUTER);
    let plane = Plane::start(&old, &town.link);
    let plan = town.plan(1);
    town.apply(&old, "old", &plan);
    let bundle = town.text("nas.bundle");
    let seal = |key: &str, out: &str| {
        let key = town.text(key);
        town.vyr(&old, "old", &["bundle", "--key", &key, "--out", out]);
    };
    // A host that never kept who approved its plan is told so, and learns it from its site.
    let hex = plan.trim_start_matches("sha256:");
    let approvals = town.path(&format!("old/network/plans/{hex}.approvals"));
    fs::remove_file(&approvals).expect("it was kept");
    let key = town.text("op");
    let (code, said) = town.fails(&old, "old", &["bundle", "--key", &key, "--out", &bundle]);
    assert!(code == Some(4) && said.contains(&format!("vyr apply {plan}")), "{said}");
    assert!(!town.path("nas.bundle").exists());
    town.apply(&old, "old", &plan);
    let kept = fs::read(&approvals).expect("kept");
    // Nor is one made with approvals that do not count, whatever they are. The site's count again.
    fs::write(&approvals, "{\"signed\":[],\"version\":1}").expect("ours");
    let (code, said) = town.fails(&old, "old", &["bundle", "--key", &key, "--out", &bundle]);
    assert!(code == Some(4) && said.contains(&format!("vyr apply {plan}")), "{said}");
    assert!(!town.path("nas.bundle").exists());
    town.apply(&old, "old", &plan);
    assert_eq!(fs::read(&approvals).expect("kept"), kept);
    // What is kept is not replaced by what nobody checks: with nothing to do, and with something.
    let ours = files(&town.path("site/plans"));
    let signatures: Vec<_> =
        ours.iter().filter(|file| file.extension() == Some("sig".as_ref())).collect();
    let whole: Vec<_> = signatures.iter().map(|file| fs::read(file).expect("ours")).collect();
    signatures.iter().for_each(|file| fs::write(file, "none").expect("ours"));
    town.apply(&old, "old", &plan);
    old.run("ip", &["link", "set", &town.link, "mtu", "1300"], "").expect("set");
    town.apply(&old, "old", &plan);
    assert_eq!(fs::read(&approvals).expect("kept"), kept);
    signatures.iter().zip(whole).for_each(|(file, text)| fs::write(file, text).expect("ours"));
    seal("op", &bundle);
    let strange = town.text("strange.bundle");
    seal("stranger", &strange);
    // Eve signs bundles, by right. She makes a plan whose operator is herself, for the same keys.
    let evil = town.text("evil.bundle");
    let (site, signers) = (town.text("site"), town.path("site/operators.allowed_signers"));
    let operators = fs::read(&signers).expect("a list");
    fs::copy(town.path("strangers"), &signers).expect("ours");
    fs::remove_dir_all(town.path("site/plans")).expect("ours");
    fs::remove_file(town.path("site/vyr.lock")).expect("ours");
    fs::create_dir_all(town.path("evil/network/keys")).expect("ours");
    let key = format!("network/keys/{}.key", town.link);
    fs::copy(town.path(&format!("old/{key}")), town.path(&format!("evil/{key}"))).expect("ours");
    town.vyr(&old, "evil", &["lock", "--site", &site]);
    let eve = town.text("stranger");
    let forged = town.vyr(&old, "evil", &["plan", "sign", "--site", &site, "--key", &eve]);
    town.apply(&old, "evil", &forged);
    town.vyr(&old, "evil", &["bundle", "--key", &eve, "--out", &evil]);
    fs::write(&signers, operators).expect("ours");
    town.burn(old, plane);
    let blank = town.host(ROUTER);
    let _plane = Plane::start(&blank, &town.link);
    let nothing = town.seen(&blank);
    let refused = |bundle: &str, more: &[&str], code: i32, why: &str| {
        let (found, said) = town.fails(&blank, "new", &words(&rebuild(&town, bundle, more)));
        assert!(found == Some(code) && said.contains(why), "{bundle} {more:?}: {found:?} {said}");
        assert_eq!(town.seen(&blank), nothing, "{why}");
        assert!(!town.path("new/network/plan.json").exists());
        let keys = files(&town.path("new/network/keys"));
        assert!(keys.is_empty(), "{keys:?} after {why}");
    };
    refused(&strange, &[], 3, "not in the list");
    refused(&bundle, &["--trust", &town.text("strangers")], 3, "not in the list");
    refused(&bundle, &["--trust", &town.text("plans-only")], 3, "vyr-bundle");
    refused(&bundle, &["--identity", &town.text("op")], 3, "no key of");
    refused(&bundle, &["--identity", &town.text("site/site.toml")], 2, "opens nothing");
    // A key with a passphrase, and one that others can read; neither is repeated to anybody.
    let locked = town.text("locked");
    let new = ["-q", "-t", "ed25519", "-N", "a passphrase", "-C", "", "-f", &locked];
    assert!(Command::new("ssh-keygen").args(new).status().is_ok_and(|status| status.success()));
    refused(&bundle, &["--identity", &locked], 2, "it has a passphrase");
    let open = town.text("open.age");
    fs::copy(town.path("backup.age"), &open).expect("ours");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("ours");
    refused(&bundle, &["--identity", &open], 2, "can be read by others");
    refused(&bundle, &["--machine", "other"], 5, "that of nas");
    refused(&bundle, &["--at-least", "2"], 5, "epoch 1");
    refused(&bundle, &["--threshold", "2"], 3, "1 of 2");
    refused(&town.text("nothing"), &[], 4, "cannot use");
    // Who may sign bundles, and not plans, cannot bring a plan of their own operators.
    let both = town.text("both");
    town.vyr(&blank, "blank", &["bundle", "show", &evil, "--trust", &both]);
    refused(&evil, &["--trust", &both], 3, "0 of 1");

    let whole = fs::read(&bundle).expect("written");
    let signature = whole.windows(9).position(|of| of == b"BEGIN SSH").expect("a signature");
    let payload = whole.windows(14).position(|of| of == b"age-encryption").expect("a payload");
    let other = town.text("other.bundle");
    for (at, code) in [
        (3, 2),
        (11, 2),
        (40, 2),
        (signature + 60, 3),
        (payload - 40, 3),
        (payload + 3, 3),
        (payload + 200, 3),
        (whole.len() - 1, 3),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&other, bytes).expect("written");
        let (found, said) = town.fails(&blank, "new", &words(&rebuild(&town, &other, &[])));
        assert!(matches!(found, Some(2 | 3)) && (code != 3 || found == Some(3)), "{at}: {said}");
    }
    for cut in [0, 5, 100, signature + 30, payload, payload + 300, whole.len() - 1] {
        fs::write(&other, &whole[..cut]).expect("written");
        let (found, said) = town.fails(&blank, "new", &words(&rebuild(&town, &other, &[])));
        assert!(matches!(found, Some(2 | 3)), "cut at {cut}: {said}");
    }
    fs::write(&other, [&whole[..], b"x"].concat()).expect("written");
    refused(&other, &[], 3, "length");
    // What was signed, around what another bundle has inside.
    let inner = fs::read(&strange).expect("written");
    let from = inner.windows(14).position(|of| of == b"age-encryption").expect("a payload");
    fs::write(&other, [&whole[..payload], &inner[from..]].concat()).expect("written");
    refused(&other, &[], 3, "altered");

    // It was the bundles that were refused: a good one is taken here.
    town.vyr(
        &blank,
        "new",
        &words(&rebuild(&town, &bundle, &["--machine", "nas", "--at-least", "1"])),
    );
    assert_ne!(town.seen(&blank), nothing);
}

#[test]
fn keys_that_took_over_are_taken_along() {
    if !can_build("recover::keys_that_took_over_are_taken_along") {
        return;
    }
    let town = Town::new("m");
    let old = town.host(ROUTER);
    let plane = Plane::start(&old, &town.link);
    // Ana's device has a next key, which its plan allows.
    let private = town.client.run("wg", &["genkey"], "").expect("wg is there");
    let public = town.client.run("wg", &["pubkey"], &private).expect("wg is there");
    town.clients(1);
    let list = town.path("site/clients.toml");
    let text = fs::read_to_string(&list).expect("a list");
    let line = text.lines().find(|line| line.contains("\"c0\"")).expect("Ana's");
    let key = line.split("public_key = \"").nth(1).and_then(|rest| rest.split('"').next());
    let staged = line.replace(key.expect("a key"), public.trim()).replace("active", "staged");
    fs::write(&list, text.replace(line, &format!("{line}\n{staged}"))).expect("ours");
    let plan = town.signed();
    town.connect();
    town.apply(&old, "old", &plan);
    until("the tunnel", || town.forwards());
    let device = town.path("ana.setconf");
    let text = fs::read_to_string(&device).expect("ours");
    let line = text.lines().find(|line| line.starts_with("PrivateKey")).expect("a key");
    let next = format!("PrivateKey = {}", private.trim());
    fs::write(&device, text.replace(line, &next)).expect("ours");
    town.lower();
    town.raise();
    until("the move", || {
        town.forwards();
        let look = ["client", "move", "--json", "--machine", "nas", "--backend", "userspace"];
        let body: Value = serde_json::from_str(&town.vyr(&old, "old", &look)).expect("JSON");
        body["keys"][0]["stage"] == "moved"
    });
    until("the tunnel", || town.forwards());
    let (digest, seen) = (found(&town, &old, "old"), town.seen(&old));
    // The router's own key is called the next one still, as if it had died when that was confirmed.
    let file = |data: &str, which: &str| {
        town.path(&format!("{data}/network/keys/{}{which}.key", town.link))
    };
    fs::rename(file("old", ""), file("old", ".next")).expect("ours");
    fs::write(file("old", ""), &private).expect("ours");
    let own = fs::read(file("old", ".next")).expect("a key");
    let (op, bundle) = (town.text("op"), town.text("nas.bundle"));
    town.vyr(&old, "old", &["bundle", "--key", &op, "--out", &bundle]);
    town.burn(old, plane);
    town.lower();

    let blank = town.host(ROUTER);
    let _plane = Plane::start(&blank, &town.link);
    // What a rebuild that was taken back has left: the moves are gone, as their plan is.
    fs::create_dir_all(town.path("new/network")).expect("ours");
    let moved = town.path("new/network/moved.json");
    fs::write(&moved, "{\"version\":1,\"moved\":[]}").expect("ours");
    let arguments = rebuild(&town, &bundle, &["--json"]);
    let body: Value =
        serde_json::from_str(&town.vyr(&blank, "new", &words(&arguments))).expect("JSON");
    assert_eq!(body["found"], Value::from(digest.as_str()), "the host is the old one");
    assert_eq!(town.seen(&blank), seen);
    assert_eq!(fs::read(file("new", "")).expect("a key"), own);
    assert!(!file("new", ".next").exists(), "the next key is one's own by now");
    town.raise();
    until("the tunnel", || town.forwards());
    // A host that goes on keeps its own record.
    let kept = fs::read(&moved).expect("written");
    assert!(String::from_utf8_lossy(&kept).contains(public.trim()));
    fs::write(&moved, [&kept[..], b"\n"].concat()).expect("ours");
    town.vyr(&blank, "new", &words(&arguments));
    assert_eq!(fs::read(&moved).expect("written"), [&kept[..], b"\n"].concat());
}

#[test]
fn a_bundle_that_waits_for_its_signature_holds_nobody_up() {
    if !can_build("recover::a_bundle_that_waits_for_its_signature_holds_nobody_up") {
        return;
    }
    let town = Town::new("w");
    let old = town.host(ROUTER);
    let _plane = Plane::start(&old, &town.link);
    let plan = town.plan(1);
    town.apply(&old, "old", &plan);
    let (public, bundle, agent) =
        (town.text("op.pub"), town.text("nas.bundle"), town.path("agent"));
    let listener = UnixListener::bind(&agent).expect("a socket");
    let mut child = old.inside(|| {
        let arguments = ["bundle", "--key", &public, "--out", &bundle];
        let mut command = town.command("old", &arguments);
        command.env("SSH_AUTH_SOCK", &agent).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("vyr starts")
    });
    // It asks for the signature, and whoever has the key is not there.
    let (waiting, _) = listener.accept().expect("it asks");
    let lock = fs::File::open(town.path("old/network/lock")).expect("it was made");
    let free = flock(&lock, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(free, Ok(()), "somebody holds the lock");
    drop((lock, waiting, listener));
    assert_eq!(child.wait().expect("ours").code(), Some(3), "nobody signed");
    let is_left = |file: &PathBuf| file.to_string_lossy().contains("bundle");
    assert!(!files(&town.path("")).iter().any(is_left), "something of it is left");
}

#[test]
fn who_dies_while_rebuilding_runs_it_again() {
    if !can_build("recover::who_dies_while_rebuilding_runs_it_again") {
        return;
    }
    let town = Town::new("k");
    let old = town.host(ROUTER);
    let plane = Plane::start(&old, &town.link);
    let plan = town.plan(2);
    town.apply(&old, "old", &plan);
    let (digest, seen) = (found(&town, &old, "old"), town.seen(&old));
    let (op, bundle) = (town.text("op"), town.text("nas.bundle"));
    town.vyr(&old, "old", &["bundle", "--key", &op, "--out", &bundle]);
    town.burn(old, plane);
    let arguments = rebuild(&town, &bundle, &["--json", "--anyway"]);
    let (mut cut, mut whole, mut reached) = (0, 0, [0_u32; 2]);
    for round in 0..8_u64 {
        let blank = town.host(ROUTER);
        let plane = Plane::start(&blank, &town.link);
        let (nothing, data) = (town.seen(&blank), format!("new{round}"));
        let mut child = blank.inside(|| {
            let mut command = town.command(&data, &words(&arguments));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("vyr starts")
        });
        // Once the link's key is written, or once the change is; the later rounds a little after that.
        let file = match round % 2 {
            0 => format!("{data}/network/keys/{}.key", town.link),
            _ => format!("{data}/network/pending.json"),
        };
        let (file, begun) = (town.path(&file), Instant::now());
        let mut seen_at = None;
        while child.try_wait().expect("ours").is_none() {
            assert!(begun.elapsed() < HANG, "nothing is written");
            if seen_at.is_none() && file.exists() {
                seen_at = Some(Instant::now());
            }
            if seen_at.is_some_and(|at| at.elapsed() >= Duration::from_millis(5 * (round / 2))) {
                break;
            }
            std::thread::yield_now();
        }
        reached[usize::from(round % 2 == 1)] += u32::from(file.exists());
        child.kill().expect("ours");
        child.wait().expect("ours");
        until("old or new", || [&nothing, &seen].contains(&&town.seen(&blank)));
        match town.seen(&blank) == seen {
            true => whole += 1,
            false => cut += 1,
        }
        let body: Value =
            serde_json::from_str(&town.vyr(&blank, &data, &words(&arguments))).expect("JSON");
        assert_eq!(body["found"], Value::from(digest.as_str()), "round {round}");
        assert_eq!(town.seen(&blank), seen, "round {round}");
        assert!(!town.path(&format!("{data}/network/pending.json")).exists());
        town.burn(blank, plane);
    }
    println!("{cut} were cut short, {whole} were done");
    assert!(cut > 0);
    assert!(reached.iter().all(|times| *times > 0), "killed too early: {reached:?}");
}

#[test]
fn a_node_that_still_answers_is_not_rebuilt() {
    if !can_build("recover::a_node_that_still_answers_is_not_rebuilt") {
        return;
    }
    let town = Town::new("a");
    let old = town.host(ROUTER);
    let plane = Plane::start(&old, &town.link);
    let plan = town.plan(1);
    town.apply(&old, "old", &plan);
    let (op, bundle) = (town.text("op"), town.text("nas.bundle"));
    town.vyr(&old, "old", &["bundle", "--key", &op, "--out", &bundle]);
    drop(plane);
    // On the network of the old one, with another address of its own, and with the same.
    for own in ["192.168.77.6", ROUTER] {
        let blank = town.host(own);
        let (code, said) = town.fails(&blank, "new", &words(&rebuild(&town, &bundle, &[])));
        assert_eq!(code, Some(5), "{own}: {said}");
        assert!(said.contains(&format!("still answers at {ROUTER}")), "{own}: {said}");
        assert!(!town.path("new/network/plan.json").exists());
    }
    // From behind a router it is a connection that is refused, or taken.
    let far = Namespace::make().expect("it was made before");
    old.ip("link add far0 type veth peer name far1\naddress add 10.99.0.1/24 dev far0\nlink set far0 up\n");
    old.ip(&format!("link set far1 netns {}\n", far.id()));
    far.ip("link set lo up\naddress add 10.99.0.2/24 dev far1\nlink set far1 up\nroute add default via 10.99.0.1\n");
    let (code, said) = town.fails(&far, "new", &words(&rebuild(&town, &bundle, &[])));
    assert!(code == Some(5) && said.contains("refused a connection to port 22"), "{said}");

    let blank = town.host(ROUTER);
    let plane = Plane::start(&blank, &town.link);
    let output = town.output(&blank, "new", &words(&rebuild(&town, &bundle, &["--anyway"])));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("still answers"), "{said}");
    // The twin of all that: who is switched off is not found.
    town.burn(blank, plane);
    drop(old);
    let last = town.host("192.168.77.7");
    let _plane = Plane::start(&last, &format!("{}x", town.link));
    // A namespace ends some time after the last of its processes.
    until("silence", || {
        let (code, said) = town.fails(&last, "newer", &words(&rebuild(&town, &bundle, &[])));
        assert_eq!(code == Some(5), said.contains("still answers"), "{said}");
        code != Some(5)
    });
}

#[test]
fn a_start_makes_the_host_as_its_confirmed_plan_says() {
    if !can_build("recover::a_start_makes_the_host_as_its_confirmed_plan_says") {
        return;
    }
    let town = Town::new("s");
    let first = town.host(ROUTER);
    let plane = Plane::start(&first, &town.link);
    let (code, said) = town.fails(&first, "old", &["network", "start"]);
    assert!(code == Some(4) && said.contains("no plan was ever confirmed"), "{said}");
    let plan = town.plan(2);
    town.apply(&first, "old", &plan);
    let seen = town.seen(&first);
    // Another plan waits when the power goes.
    let (next, site) = (town.plan(3), town.text("site"));
    let more = ["--machine", "nas", "--backend", "userspace", "--confirm-within", "1h"];
    town.vyr(&first, "old", &[&["apply", &next, "--site", &site][..], &more].concat());
    assert_ne!(town.seen(&first), seen);
    let (code, said) = town.fails(&first, "old", &["network", "start"]);
    assert!(code == Some(5) && said.contains("waits for its confirmation"), "{said}");
    town.burn(first, plane);
    let pending = town.path("old/network/pending.json");
    let text = fs::read_to_string(&pending).expect("it waits");
    let mut record: Value = serde_json::from_str(&text).expect("JSON");
    record["boot"] = Value::from("another one");
    fs::write(&pending, record.to_string()).expect("written");

    let second = town.host(ROUTER);
    let _plane = Plane::start(&second, &town.link);
    // No approval is at hand, and none is asked for.
    fs::remove_dir_all(town.path("site/plans")).expect("ours");
    town.vyr(&second, "old", &["network", "start"]);
    assert_eq!(town.seen(&second), seen);
    assert!(!pending.exists());
    let again = town.output(&second, "old", &["network", "start"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing to do"));
    assert_eq!(town.seen(&second), seen);
}

#[test]
fn age_opens_what_a_bundle_has_inside() {
    let test = "recover::age_opens_what_a_bundle_has_inside";
    if !can_build(test) {
        return;
    }
    if Command::new("age").arg("--version").stdout(Stdio::null()).status().is_err() {
        return not_run(test, "age is not installed");
    }
    let town = Town::new("g");
    let old = town.host(ROUTER);
    let _plane = Plane::start(&old, &town.link);
    let plan = town.plan(1);
    town.apply(&old, "old", &plan);
    let (op, bundle) = (town.text("op"), town.text("nas.bundle"));
    town.vyr(&old, "old", &["bundle", "--key", &op, "--out", &bundle]);
    for key in ["backup", "backup.age"] {
        let script = "sed '1,/-----END SSH SIGNATURE-----/d' \"$0\" | age -d -i \"$1\"";
        let key = town.text(key);
        let opened = Command::new("sh").args(["-c", script, &bundle, &key]).output();
        let opened = opened.expect("a shell");
        assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
        let list = opened.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let list: Value = serde_json::from_slice(list).expect("JSON");
        let name = format!("keys/{}", town.link);
        let entries = list["entries"].as_array().expect("a list");
        assert!(entries.iter().any(|entry| entry["name"] == name.as_str()), "{list}");
    }
}
