//! A site from its first file to an approved plan, from outside.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use camino::Utf8Path;
use serde_json::Value;

use crate::common::{Place, VYR, has, is_root, root};

/// A copy of the worked site whose operators' keys are here: `ana`, `ben`, `chen`.
fn office(place: &Place) -> String {
    let site = place.path("site");
    copy(&root().join("examples/office"), &site);
    let mut signers = String::new();
    for name in ["ana", "ben", "chen"] {
        let key = place.path(name);
        let made = place.program(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.as_str()],
        );
        made.run().ok();
        let public = fs::read_to_string(place.path(&format!("{name}.pub"))).expect("a public key");
        signers += &format!("{name} namespaces=\"vyr-plan\" {public}");
    }
    fs::write(site.join("operators.allowed_signers"), signers).expect("signers");
    site.into_string()
}

pub(crate) fn copy(from: &Utf8Path, to: &Utf8Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in from.read_dir_utf8().expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a copy")),
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

pub(crate) fn replace(site: &str, file: &str, from: &str, to: &str) {
    let path = format!("{site}/{file}");
    let old = fs::read_to_string(&path).expect("a file");
    assert!(old.contains(from), "{from:?} is in {file}");
    fs::write(path, old.replacen(from, to, 1)).expect("a file");
}

/// What `vyr confirm` will do: name the plan that is applied.
fn applied(site: &str, digest: &str) {
    fs::write(format!("{site}/plans/applied.network"), format!("{digest}\n")).expect("a pointer");
}

#[test]
fn a_new_site_is_sound_and_drawn_once() {
    let place = Place::new();
    let begun = place.bare(&["init", "home", "--name", "home", "--json"]).run().json();
    let prefix = text(&begun, "prefix").to_owned();
    assert!(prefix.starts_with("fd") && prefix.ends_with("::/48"), "{prefix}");
    let again = place.bare(&["init", "home"]).run();
    again.exits(5);
    // Nothing is allocated by a check, and a lock makes it whole.
    place.bare(&["check", "--site", "home"]).run().exits(5);
    place.bare(&["lock", "--site", "home"]).run().ok();
    place.bare(&["check", "--site", "home"]).run().ok();
    let other = place.bare(&["init", "other", "--json"]).run().json();
    assert_ne!(text(&other, "prefix"), prefix);
    // The nearest directory with a site, from inside it; elsewhere there is none.
    let inside = ["-C", "home/contracts", VYR, "check"];
    place.program("env", &inside).run().ok();
    let outside = place.bare(&["check"]).run();
    outside.exits(4);
}

#[test]
fn a_plan_is_approved_by_enough_operators_and_by_nobody_else() {
    if !has("site::a_plan_is_approved_by_enough_operators_and_by_nobody_else", "ssh-keygen") {
        return;
    }
    let place = Place::new();
    let site = office(&place);
    let on = |words: &[&str]| place.bare(&[words, &["--site", &site]].concat()).run();
    let planned = on(&["plan", "--json"]).json();
    let digest = text(&planned, "plan_digest").to_owned();
    assert_eq!(text(&planned, "kind"), "network");

    let key = |name: &str| place.path(name).into_string();
    let first = on(&["plan", "sign", "--key", &key("ana"), "--json"]).json();
    assert_eq!((first["approved"].as_bool(), text(&first, "plan_digest")), (Some(false), &*digest));
    let file = format!("{site}/plans/{}.json", digest.trim_start_matches("sha256:"));
    let signers = format!("{site}/operators.allowed_signers");
    let verify = |more: &[&str]| {
        let words = ["verify", &file, "--trust", &signers, "--threshold", "2"];
        place.bare(&[&words, more].concat()).run()
    };
    let alone = verify(&[]);
    alone.exits(3);
    // Twice the same operator is one operator.
    on(&["plan", "sign", "--key", &key("ana")]).ok();
    verify(&[]).exits(3);

    // The second one signs with OpenSSH alone.
    let request = on(&["plan", "sign", "--request"]).ok();
    let request = place.file("request", &request.stdout);
    let signed = ["-Y", "sign", "-q", "-n", "vyr-plan", "-f", &key("ben"), &request];
    place.program("ssh-keygen", &signed).run().ok();
    let back = ["plan", "sign", "--approval", &request, "--signature", &format!("{request}.sig")];
    on(&back).ok();
    let verified = verify(&["--json"]).json();
    assert_eq!(verified["approvers"].as_array().map(Vec::len), Some(2), "{verified}");
    assert_eq!(text(&verified, "plan_digest"), digest);

    // Nobody else: a stranger, a signature for something else, a changed plan, a past approval.
    let stranger = place.path("stranger");
    let made = ["-q", "-t", "ed25519", "-N", "", "-f", stranger.as_str()];
    place.program("ssh-keygen", &made).run().ok();
    on(&["plan", "sign", "--key", stranger.as_str()]).exits(3);
    let other = place.file("other", fs::read(&request).expect("the request"));
    let signed = ["-Y", "sign", "-q", "-n", "file", "-f", &key("chen"), &other];
    place.program("ssh-keygen", &signed).run().ok();
    let back = ["plan", "sign", "--approval", &other, "--signature", &format!("{other}.sig")];
    on(&back).exits(3);
    let past = on(&["plan", "sign", "--key", &key("chen"), "--expires", "1ms"]);
    past.exits(3);
    let bytes = fs::read(&file).expect("the plan");
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut touched = bytes.clone();
        touched[at] ^= 1;
        fs::write(&file, touched).expect("the plan");
        let code = verify(&[]).code();
        assert!(code == Some(2) || code == Some(3), "byte {at}: {code:?}");
    }
    fs::write(&file, bytes).expect("the plan");
    verify(&[]).ok();
    let nobody = place.bare(&["verify", &file]).run();
    nobody.exits(3);
}

#[test]
fn the_next_plan_follows_and_an_older_one_is_refused() {
    if !has("site::the_next_plan_follows_and_an_older_one_is_refused", "ssh-keygen") {
        return;
    }
    let place = Place::new();
    let site = office(&place);
    let on = |words: &[&str]| place.bare(&[words, &["--site", &site]].concat()).run();
    let sign = || {
        for name in ["ana", "ben"] {
            on(&["plan", "sign", "--key", place.path(name).as_str()]).ok();
        }
        text(&on(&["plan", "--json"]).json(), "plan_digest").to_owned()
    };
    let first = sign();
    applied(&site, &first);
    let stale = on(&["plan"]).exits(5);
    assert!(stale.stderr.contains("vyr lock"), "{}", stale.stderr);

    // A contract says that what the north reaches does not change: this would change it.
    replace(
        &site,
        "site.toml",
        "lan = [\"192.168.10.0/24\", ",
        "lan = [\"192.168.12.0/24\", \"192.168.10.0/24\", ",
    );
    on(&["lock"]).ok();
    let broken = on(&["check", "--json"]).exits(1);
    assert!(broken.text().contains("192.168.12.0"), "{}", broken.text());
    let junit = on(&["check", "--junit", "-"]);
    assert!(junit.text().contains("<failure message="), "{}", junit.text());

    replace(&site, "contracts/access.toml", "[\"0.0.0.0/0\", \"::/0\"]", "[\"10.0.0.0/8\"]");
    let second = sign();
    let planned = on(&["plan", "--json"]).json();
    assert_eq!((planned["epoch"].as_u64(), text(&planned, "parent")), (Some(2), &*first));
    let diff = on(&["diff", "applied", "intent"]).ok();
    assert!(diff.text().contains("+ any to 192.168.12.0/24"), "{}", diff.text());
    assert!(!diff.text().contains("reach of dora"), "{}", diff.text());
    applied(&site, &second);
    let history = on(&["history", "--json"]).json();
    let epochs: Vec<_> = history["plans"]
        .as_array()
        .expect("plans")
        .iter()
        .map(|plan| plan["epoch"].as_u64())
        .collect();
    assert_eq!(epochs, [Some(2), Some(1)]);
    assert_eq!(history["plans"][0]["approvers"], serde_json::json!(["ana", "ben"]));

    let path = |digest: &str| format!("{site}/plans/{}.json", digest.trim_start_matches("sha256:"));
    place.bare(&["verify", &path(&second), "--trust", &path(&first)]).run().ok();
    let replayed = place.bare(&["verify", &path(&first), "--trust", &path(&second)]).run();
    replayed.exits(5);
}

#[test]
fn who_changes_the_operators_needs_the_old_and_the_new_ones() {
    if !has("site::who_changes_the_operators_needs_the_old_and_the_new_ones", "ssh-keygen") {
        return;
    }
    let place = Place::new();
    let site = office(&place);
    let on = |words: &[&str]| place.bare(&[words, &["--site", &site]].concat()).run();
    let sign = |names: &[&str]| {
        let mut digest = String::new();
        for name in names {
            let signed = on(&["plan", "sign", "--key", place.path(name).as_str(), "--json"]);
            digest = text(&signed.json(), "plan_digest").to_owned();
        }
        digest
    };
    let path = |digest: &str| format!("{site}/plans/{}.json", digest.trim_start_matches("sha256:"));
    let first = sign(&["ana", "ben"]);
    applied(&site, &first);
    // Ana and Ben leave, Dora and Emil come.
    for name in ["dora", "emil"] {
        let key = place.path(name);
        let made = ["-q", "-t", "ed25519", "-N", "", "-f", key.as_str()];
        place.program("ssh-keygen", &made).run().ok();
    }
    let public =
        |name: &str| fs::read_to_string(place.path(&format!("{name}.pub"))).expect("a key");
    let signers =
        ["dora", "emil"].map(|name| format!("{name} namespaces=\"vyr-plan\" {}", public(name)));
    fs::write(format!("{site}/operators.allowed_signers"), signers.concat()).expect("signers");
    on(&["lock"]).ok();
    let verify = |digest: &str| {
        let verified = place.bare(&["verify", &path(digest), "--trust", &path(&first)]).run();
        verified.code().expect("it exits")
    };
    let second = sign(&["dora", "emil"]);
    assert_eq!(verify(&second), 3, "the new ones do not appoint themselves");
    sign(&["ana"]);
    assert_eq!(verify(&second), 3, "one of the old ones is not enough");
    sign(&["ben"]);
    assert_eq!(verify(&second), 0);
    for entry in fs::read_dir(format!("{site}/plans")).expect("plans") {
        let path = entry.expect("an entry").path();
        let approval = fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_some_and(|end| end == "approval") && approval.contains(&second) {
            fs::remove_file(path).expect("an approval");
        }
    }
    sign(&["ana", "ben"]);
    assert_eq!(verify(&second), 3, "the old ones do not appoint without consent");
}

/// Every call that could change something, or wait for somebody else.
const CHANGES: &str = "trace=write,pwrite64,writev,rename,renameat,renameat2,unlink,unlinkat,mkdir,\
                       mkdirat,link,linkat,symlink,symlinkat,truncate,ftruncate,chmod,fchmod,\
                       fchmodat,chown,fchown,fchownat,socket,connect,bind,flock,fcntl,open,openat,\
                       creat,fsync,fdatasync";

#[test]
fn a_plan_touches_nothing() {
    if !has("site::a_plan_touches_nothing", "strace") {
        return;
    }
    let place = Place::new();
    let site = root().join("examples/office");
    let log = place.path("strace");
    let words = ["-f", "-o", log.as_str(), "-e", CHANGES, VYR, "plan", "--site", site.as_str()];
    place.program("strace", &words).run().ok();
    let trace = fs::read_to_string(&log).expect("a trace");
    let changes: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains('(') && !line.contains("+++") && !line.contains("---"))
        .filter(|line| {
            let call = line.split_whitespace().nth(1).unwrap_or_default();
            let opens = call.starts_with("open");
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
            // Output, and what the loader reads.
            let told = call.starts_with("write(1,") || call.starts_with("write(2,");
            let asks = call.starts_with("fcntl(") && !line.contains("LK");
            !told && !asks && (!opens || writes.iter().any(|flag| line.contains(flag)))
        })
        .collect();
    // Threads and allocators look at /proc and /dev, and change nothing there.
    assert_eq!(changes, [""; 0], "{trace}");
    assert!(trace.contains("site.toml"), "the trace shows what was read");
}

#[test]
fn one_digest_wherever_and_whoever() {
    let test = "site::one_digest_wherever_and_whoever";
    let place = Place::new();
    let digest = |site: &str, uid: Option<u32>, environment: &[(&str, &str)]| {
        let mut command = Command::new(VYR);
        command
            .args(["plan", "--json", "--site", site])
            .env_clear()
            .envs(environment.iter().copied());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid).current_dir("/");
        }
        let output = command.output().expect("vyr runs");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        text(&answer, "plan_digest").to_owned()
    };
    let here = root().join("examples/office");
    let there = place.path("some/other place/\u{fc}ber");
    copy(&here, &there);
    let first = digest(here.as_str(), None, &[("LC_ALL", "C"), ("TZ", "UTC"), ("HOME", "/")]);
    let other = [
        ("LC_ALL", "tr_TR.UTF-8"),
        ("TZ", "Pacific/Chatham"),
        ("LANG", "ar_EG"),
        ("HOME", "/nowhere"),
    ];
    assert_eq!(digest(there.as_str(), None, &other), first);
    if is_root(test) {
        // Nobody, on a copy that can be read and not written.
        let public = tempfile::Builder::new()
            .prefix("vyr-site")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        let site = Utf8Path::from_path(public.path()).expect("UTF-8").join("site");
        copy(&here, &site);
        let modes = ["a+rX,a-w", public.path().to_str().expect("UTF-8")];
        place.program("chmod", &["-R", modes[0], modes[1]]).run().ok();
        // The program itself lies where only root may look, as often as not.
        let vyr = public.path().join("vyr");
        fs::copy(VYR, &vyr).expect("a copy of the program");
        let mut command = Command::new(&vyr);
        command.args(["plan", "--json", "--site", site.as_str()]).env_clear();
        let output = command.uid(65534).gid(65534).current_dir("/").output().expect("vyr runs");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(text(&answer, "plan_digest"), first);
    }
}

#[test]
fn questions_are_answered() {
    let place = Place::new();
    let site = root().join("examples/office").into_string();
    let on = |words: &[&str]| place.bare(&[words, &["--site", &site]].concat()).run();
    let plan = on(&["plan", "--out", "-"]).ok().text().to_owned();
    let plan: Value = serde_json::from_str(&plan).expect("a plan");
    // Every address and every rule has an explanation.
    for client in plan["clients"].as_array().expect("clients") {
        for of in client["addresses"].as_array().expect("addresses") {
            for address in of["addresses"].as_array().expect("addresses") {
                let address = address.as_str().expect("an address");
                let address = address.split('/').next().expect("an address");
                let known = on(&["explain", address]).ok();
                assert!(known.text().contains(text(client, "id")), "{}", known.text());
            }
        }
    }
    for machine in plan["machines"].as_array().expect("machines") {
        for rule in machine["rules"].as_array().expect("rules") {
            let known = on(&["explain", text(rule, "id")]).ok();
            assert!(known.text().contains("accept"), "{}", known.text());
        }
    }
    let dropped = on(&["explain", "client:ben-phone", "internet"]).ok();
    assert!(dropped.text().contains("dropped: no rule accepts it"), "{}", dropped.text());
    on(&["explain", "nonsense"]).exits(4);
    on(&["explain", "mesh", "Nowhere"]).exits(2);
    let picture = on(&["graph", "--svg", "-"]).ok();
    assert!(picture.text().starts_with("<svg "), "{}", picture.text());
    let matrix = on(&["graph", "--json"]).json();
    assert_eq!(matrix["matrix"]["rows"].as_array().map(Vec::len), Some(7));
    let points = on(&["check", "--spof", "--json"]).json();
    assert!(!points["single_points"].as_array().expect("points").is_empty());
}
