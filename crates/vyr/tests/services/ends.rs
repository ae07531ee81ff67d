//! Processes of services that do not end when they should, or do when they should not: what becomes of them, what
//! is said about it, and that others notice nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::{HANG, House, is_able_here};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An image with a shell, and what scripts here need.
fn shell(house: &House) {
    let root = house.path("root-shell");
    for below in ["bin", "www", "etc", "tmp"] {
        fs::create_dir_all(root.join(below)).expect("room");
    }
    let own = house.path("root-v1/bin/busybox");
    fs::copy(own, root.join("bin/busybox")).expect("room");
    for name in ["sh", "httpd", "sleep", "tail", "touch"] {
        symlink("busybox", root.join("bin").join(name)).expect("room");
    }
    fs::write(root.join("www/index.html"), "here\n").expect("room");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("room");
    house.push("shell", "1", &root, &["--config.entrypoint", "/bin/sh"]);
}

/// A service of that image: what its shell runs, and more lines of its process.
fn script(house: &House, name: &str, script: &str, more: &str) {
    let text = format!(
        r#"version = 1
image.ref = "REGISTRY/shell:1"
[processes.main]
command = ["/bin/sh", "-c", '''{script}''']
resources = {{ memory = "128Mi", disk = "1Gi" }}
{more}
[secrets]
none = true
"#
    );
    house.service(name, &text);
}

/// What is said of a service's only slot.
fn slot(house: &House, service: &str) -> Value {
    let listed = house.json(&["ps", "--why", service]);
    listed["slots"][0].clone()
}

/// Waits until that is so of it.
fn until(house: &House, service: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + HANG;
    loop {
        let slot = slot(house, service);
        if is_it(&slot) {
            return slot;
        }
        assert!(Instant::now() < end, "{slot}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn instances(slot: &Value) -> &[Value] {
    slot["instances"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn has(slot: &Value, key: &str, text: &str) -> bool {
    slot[key].as_str().is_some_and(|said| said.contains(text))
}

/// A deploy that fails by itself, for this.
fn fails_for(house: &House, why: &str) {
    let (code, said) = house.fails(&["deploy", "--json", "--key", &house.key(), "--plain-http"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &said["outcome"]), (1, &"failed".into()), "{said}");
    assert!(has(&said, "why", why), "{said}");
}

#[test]
fn a_process_that_does_not_end_when_told_is_ended_after_its_grace_and_nobody_is_cut() {
    let test = "services::ends::\
                a_process_that_does_not_end_when_told_is_ended_after_its_grace_and_nobody_is_cut";
    let Some(house) = is_able_here(test) else { return };
    shell(&house);
    let stubborn = |release: &str| {
        // Its server inherits that it hears nothing; the shell says that it was told.
        let said = "trap '' TERM; httpd -p [::]:8080 -h /www; trap 'echo not yet' TERM; \
                    while true; do sleep 1; done";
        let more = format!(
            r#"vars = {{ RELEASE = "{release}" }}
ports = [{{ name = "http", internal = 8080 }}]
health = {{ type = "http", port = 8080, interval_seconds = 1 }}
grace_seconds = 3
[[routes]]
port = 8088
process = "main"
to = "http""#
        );
        script(&house, "web", &said.replace('\'', "\""), &more);
    };
    stubborn("1");
    house.deploy();
    let first = house.instance()["instance"].as_str().expect("an id").to_owned();
    let [old] = house.processes("qemu-system")[..] else { panic!("there is one machine") };
    stubborn("2");
    let load = house.load();
    house.deploy();
    let is_it = |of: &&Value| of["instance"] == *first && of["state"] == "stopped";
    let slot = until(&house, "web", |slot| instances(slot).iter().any(|of| is_it(&of)));
    // Its machine is gone, which nobody else's is.
    let end = Instant::now() + HANG;
    while house.processes("qemu-system").contains(&old) {
        assert!(Instant::now() < end, "it runs still: {slot}");
        std::thread::sleep(LOOK_AGAIN);
    }
    let (answers, failed) = load.end();
    assert!(answers > 20 && failed == 0, "{answers} answers, {failed} failed");
    assert_eq!(house.processes("qemu-system").len(), 1);
    let ended = instances(&slot).iter().find(is_it).expect("it is kept");
    assert_eq!(ended["reason"], "replaced", "{slot}");
    let logged = house.vyr(&["logs", &first], "").expect("a log");
    assert!(logged.contains("not yet"), "it was not told: {logged}");
}

#[test]
fn a_process_that_exits_at_once_fails_its_deploy_and_one_that_keeps_exiting_is_given_up() {
    let test = "services::ends::\
                a_process_that_exits_at_once_fails_its_deploy_and_one_that_keeps_exiting_is_given_up";
    let Some(house) = is_able_here(test) else { return };
    shell(&house);
    house.web("v1", "/healthz", false);
    let restart = r#"restart = { policy = "on-failure", max_retries = 1, backoff_seconds = 1 }
health = { type = "tcp", port = 9, interval_seconds = 1 }"#;
    // It runs until it is told to fail.
    let runs = "httpd -p [::]:9 -h /www; while [ ! -e /tmp/fail ]; do sleep 1; done; exit 1";
    script(&house, "job", runs, restart);
    house.deploy();
    let load = house.load();

    // It serves, fails, is started again, and fails again: that was too often in a row.
    let mut last = Value::Null;
    for _ in 0..2 {
        let slot = until(&house, "job", |slot| {
            instances(slot).iter().any(|of| of["state"] == "ready" && of["instance"] != last)
        });
        let ready = instances(&slot).iter().find(|of| of["state"] == "ready").expect("it is");
        last = ready["instance"].clone();
        let id = last.as_str().expect("an id");
        house.vyr(&["exec", id, "--", "/bin/touch", "/tmp/fail"], "").expect("a session");
    }
    let slot = until(&house, "job", |slot| slot["because"] == "gave_up");
    assert!(has(&slot, "why", "crash_loop_backoff: given up after 1 restart"), "{slot}");
    assert!(has(&slot, "why", "exited: exit code 1"), "{slot}");
    let failed = |of: &&Value| of["state"] == "failed" && of["reason"] == "exited";
    assert_eq!(instances(&slot).iter().filter(failed).count(), 2, "{slot}");

    // A release that exits at once ends its deploy by itself.
    let applied = house.path("site/plans/applied.services");
    let before = fs::read(&applied).expect("a plan");
    script(&house, "job", "exit 1", restart);
    fails_for(&house, "job: exited: exit code 1");
    let (answers, failed) = load.end();
    assert!(answers > 20 && failed == 0, "{answers} answers, {failed} failed");
    // Who never heard that the node took this plan sends it again, and hears how it went: whichever life of
    // the node it asks.
    let mut house = house;
    for kill in [false, true] {
        if kill {
            house.kill_node();
            house.start_node();
        }
        fs::write(&applied, &before).expect("room");
        let plan = house.json(&["ps"])["plan_digest"].clone();
        fails_for(&house, "job: exited: exit code 1");
        assert_eq!(house.json(&["ps"])["plan_digest"], plan, "it is another plan");
    }
    assert_eq!(house.get("/"), "version v1\n");
}

#[test]
fn a_process_that_eats_its_memory_is_oom_killed_and_its_neighbour_answers() {
    let test = "services::ends::\
                a_process_that_eats_its_memory_is_oom_killed_and_its_neighbour_answers";
    let Some(house) = is_able_here(test) else { return };
    shell(&house);
    house.web("v1", "/healthz", false);
    house.deploy();
    let neighbour = house.instance();
    let load = house.load();

    // A line without an end, which has to be remembered whole.
    let never = r#"restart = { policy = "never" }
health = { type = "tcp", port = 9, grace_seconds = 300 }"#;
    script(&house, "hog", "tail -n 1 /dev/zero", never);
    fails_for(&house, "hog: oom_killed: signal 9, killed for want of memory");
    let slot = slot(&house, "hog");
    assert_eq!(slot["because"], "rolled_back", "{slot}");
    assert!(has(&slot, "why", "oom_killed"), "{slot}");
    let [hog] = instances(&slot) else { panic!("it was tried once: {slot}") };
    assert_eq!((&hog["state"], &hog["reason"]), (&"failed".into(), &"oom_killed".into()), "{slot}");

    let (answers, failed) = load.end();
    assert!(answers > 20 && failed == 0, "{answers} answers, {failed} failed");
    let web = self::slot(&house, "web");
    let [web] = instances(&web) else { panic!("there is one: {web}") };
    assert_eq!(web["instance"], neighbour["instance"]);
    assert_eq!(house.get("/"), "version v1\n");
}
