//! Hosts elsewhere: asked over OpenSSH, one or several, and told apart from who they are not.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use crate::apply::until;
use crate::far::{Far, Router, can};

#[test]
fn a_host_elsewhere_is_changed_and_confirmed_over_new_connections() {
    if !can("reach::a_host_elsewhere_is_changed_and_confirmed_over_new_connections") {
        return;
    }
    let far = Far::new("a");
    let (site, plan) = (far.site(), far.plan(1));
    let [north, south] = &far.routers;
    let blank = [north.seen(), south.seen()];
    far.vyr(&far.apply(&site, &plan, &["--node", "north", "--dry-run"]));
    assert_eq!(north.seen(), blank[0], "a dry run is dry");

    far.vyr(&far.apply(&site, &plan, &["--node", "north"]));
    assert!(north.seen().contains("table inet vyr"));
    assert_eq!(south.seen(), blank[1]);
    assert_eq!(far.pointer(), None);
    let confirm = ["confirm", &plan, "--site", &site, "--node", "north"];
    assert_eq!(far.vyr(&confirm), plan);
    assert_eq!(far.pointer().as_deref(), Some(plan.as_str()), "all that were asked");
    // Who did not hear the answer asks again.
    assert_eq!(far.vyr(&confirm), plan);
    let (code, said) = far.fails(&["confirm", "--site", &site, "--node", "north"]);
    assert!(code == Some(4) && said.contains("was confirmed"), "{said}");

    // North has it already; south is new.
    let printed = far.printed(&far.apply(&site, &plan, &["--all", "--confirm-within", "60s"]));
    assert_eq!(printed, "north: nothing\nsouth: applied\n");
    let printed = far.printed(&["--json", "confirm", &plan, "--site", &site, "--all"]);
    let lines: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert_eq!((&lines[1]["node"], &lines[1]["outcome"]), (&"south".into(), &"confirmed".into()));
    assert_eq!(lines[2]["summary"]["done"], 2);

    let drift = ["drift", "--site", &site, "--all", "--backend", "userspace"];
    assert_eq!(far.printed(&drift), "north: as the plan says\nsouth: as the plan says\n");
    south.space.nft("delete table inet vyr");
    let (code, said) = far.fails(&drift);
    assert!(code == Some(1) && said.contains("south: firewall"), "{said}");
    assert!(said.contains("north: as the plan says") && said.contains("south: differs"), "{said}");
    // The private keys of links stay where they are; what is at the operator's has none.
    assert!(!far.path("data/network").exists());
}

/// A router after somebody else has installed it: nothing of ours but a link without peers.
fn blank(router: &Router) {
    fs::remove_dir_all(&router.data).expect("it was there");
    let run = |program: &str, arguments: &[&str]| {
        router.space.run(program, arguments, "").expect("it does")
    };
    run("nft", &["delete", "table", "inet", "vyr"]);
    run("ip", &["address", "flush", "dev", &router.link]);
    for peer in run("wg", &["show", &router.link, "peers"]).lines() {
        run("wg", &["set", &router.link, "peer", peer, "remove"]);
    }
    run("wg", &["set", &router.link, "private-key", "/dev/null"]);
}

#[test]
fn a_host_elsewhere_is_rebuilt_and_the_key_of_all_bundles_stays_here() {
    if !can("reach::a_host_elsewhere_is_rebuilt_and_the_key_of_all_bundles_stays_here") {
        return;
    }
    let far = Far::new("r");
    let (site, plan) = (far.site(), far.plan(2));
    let north = &far.routers[0];
    far.vyr(&far.apply(&site, &plan, &["--node", "north", "--no-confirm"]));
    let seen = north.seen();
    let found = |far: &Far| {
        let drift = ["--json", "drift", "--site", &site, "--node", "north"];
        let drift: serde_json::Value = serde_json::from_str(&far.printed(&drift)).expect("JSON");
        assert_eq!(drift["found"], drift["wanted"]);
        drift["found"].as_str().expect("a digest").to_owned()
    };
    let digest = found(&far);
    let text = |name: &str| far.path(name).to_str().expect("UTF-8").to_owned();
    let (bundle, op, backup) = (text("north.bundle"), text("data/keys/op"), text("backup"));
    let data = north.data.to_str().expect("UTF-8");
    let make = ["--data-dir", data, "bundle", "--machine", "north", "--key", &op, "--out", &bundle];
    north.space.run(env!("CARGO_BIN_EXE_vyr"), &make, "").expect("it is bundled");

    blank(north);
    assert_ne!(north.seen(), seen);
    let trust = text("site/operators.allowed_signers");
    let url = north.url();
    let rebuild = ["rebuild", &bundle, "--trust", &trust, "--node", &url, "--site", &site];
    let more = ["--backend", "userspace", "--identity"];
    // A key that opens other bundles opens nothing, here.
    let (code, said) = far.fails(&[&rebuild[..], &more, &[&op]].concat());
    assert!(code == Some(3) && said.contains("no key of"), "{code:?} {said}");
    assert!(!north.data.join("network/plan.json").exists(), "nothing was sent");
    assert_eq!(far.vyr(&[&rebuild[..], &more, &[&backup]].concat()), digest);
    assert_eq!(north.seen(), seen, "the same router, for all others");
    assert_eq!(found(&far), digest);
    assert!(!north.data.join("network/carried.bundle").exists());
    // What it was sent opens this bundle, and is no key that opens others.
    let secret = fs::read_to_string(&backup).expect("a key");
    let line = secret.lines().nth(2).expect("the key itself");
    let left = Command::new("grep").args(["-rl", "--", line]).arg(&north.data).output();
    assert_eq!(left.expect("grep is there").stdout, b"");
}

#[test]
fn a_plan_counts_as_applied_when_all_that_were_asked_are_confirmed() {
    if !can("reach::a_plan_counts_as_applied_when_all_that_were_asked_are_confirmed") {
        return;
    }
    let far = Far::new("b");
    let (site, plan) = (far.site(), far.plan(1));
    let both = ["--node", "north", "--node", "south"];
    let output = far.output(&far.apply(&site, &plan, &both));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--node north --node south"));
    far.vyr(&["confirm", "--site", &site, "--node", "north"]);
    assert_eq!(far.pointer(), None, "south is not confirmed");
    far.vyr(&["rollback", "--site", &site, "--node", "south"]);
    let (code, said) = far.fails(&["confirm", "--site", &site, "--all"]);
    assert!(code == Some(4) && said.contains("south: failed: no change waits"), "{said}");
    assert_eq!(far.pointer(), None);
    far.vyr(&far.apply(&site, &plan, &["--all", "--no-confirm", "--parallel", "4"]));
    assert_eq!(far.pointer(), Some(plan));
    assert!(!far.path("site/plans/asked.network").exists(), "nobody is left");
}

/// Whether a router was said nothing: what it has is what it had, and nobody logged in.
fn is_untouched(router: &Router, before: &str) -> bool {
    router.seen() == before && !router.data.join("network/pending.json").exists()
}

#[test]
fn a_host_with_another_key_is_told_nothing() {
    if !can("reach::a_host_with_another_key_is_told_nothing") {
        return;
    }
    let far = Far::new("c");
    let (site, plan) = (far.site(), far.plan(1));
    let [north, south] = &far.routers;
    let before = north.seen();
    let apply = far.apply(&site, &plan, &["--node", "north"]);
    let refused = |far: &Far, path: &str| {
        let command = |far: &Far| {
            let mut command = far.command(&apply);
            command.env("PATH", path).output().expect("vyr starts")
        };
        let output = far.operator.inside(|| command(far));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = output.status.code() == Some(3) && said.contains("site/known_hosts");
        (refused && is_untouched(north, &before), said)
    };
    let path = std::env::var("PATH").expect("a path");
    // Another machine's key, and none at all.
    for known in [&[(north, "host-south")][..], &[(south, "host-south")]] {
        far.know(known);
        let (held, said) = refused(&far, &path);
        assert!(held, "{said}");
        assert!(said.contains("ssh-keyscan") || known[0].0.name == "south", "{said}");
    }
    // The same, had we not said that keys are to be checked strictly: the judge sees it.
    let lax = "#!/bin/sh\nfor w; do shift; [ \"$w\" = StrictHostKeyChecking=yes ] && \
               w=StrictHostKeyChecking=no; set -- \"$@\" \"$w\"; done\nPATH=${PATH#*:} exec ssh \"$@\"\n";
    let lax = far.script("lax/ssh", lax);
    let lax = format!("{}:{path}", lax.parent().expect("a directory").display());
    let (held, said) = refused(&far, &lax);
    assert!(!held, "{said}");
    far.know_all();
    far.vyr(&["rollback", "--site", &site, "--node", "north"]);
    assert_eq!(north.seen(), before);

    fs::remove_file(far.path("site/known_hosts")).expect("ours");
    let (code, said) = far.fails(&apply);
    assert!(code == Some(4) && said.contains("ssh-keyscan -p 2222 192.168.78.2"), "{said}");
}

#[test]
fn who_cannot_be_reached_or_understood_is_told_by_name() {
    if !can("reach::who_cannot_be_reached_or_understood_is_told_by_name") {
        return;
    }
    let far = Far::new("d");
    let site = far.site();
    let north = far.routers[0].url();
    let drift = ["drift", "--site", &site, "--node", &north];
    let without_agent = || far.command(&drift).env_remove("SSH_AUTH_SOCK").output();
    let output = far.operator.inside(without_agent).expect("vyr starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("does not let us in"), "{said}");

    let nobody = "ssh://root@192.168.78.2:1";
    let (code, said) = far.fails(&["drift", "--site", &site, "--node", nobody]);
    assert!(code == Some(6) && said.contains("refused") && said.contains(nobody), "{said}");

    let frame = |json: &str| {
        format!("#!/bin/sh\nprintf 'vyrn\\000\\000\\000\\{:03o}%s' '{json}'\ncat\n", json.len())
    };
    let real = env!("CARGO_BIN_EXE_vyr");
    for (name, text, expected, words) in [
        ("later", frame(r#"{"wire":9,"vyr":"7.0"}"#), 5, "vyr 7.0, which speaks version 9"),
        ("talks", format!("#!/bin/sh\necho Welcome\nexec {real} \"$@\"\n"), 2, "Welcome"),
        ("garbage", frame("[1,"), 2, "not understood"),
        ("silent", "#!/bin/sh\nexit 0\n".to_owned(), 6, "cannot be reached"),
    ] {
        let path = far.script(name, &text);
        let path = path.to_str().expect("UTF-8");
        let (code, said) = far.fails(&[&drift[..], &["--remote-vyr", path]].concat());
        assert!(code == Some(expected) && said.contains(words), "{name}: {code:?} {said}");
    }
    let (code, said) = far.fails(&[&drift[..], &["--remote-vyr", "/nowhere/vyr"]].concat());
    assert!(code == Some(4) && said.contains("--remote-vyr"), "{said}");
    let (code, said) = far.fails(&["drift", "--site", &site, "--node", "north"]);
    assert!(code == Some(4) && said.contains("no plan says where north is"), "{said}");
}

#[test]
fn a_connection_that_breaks_in_the_middle_takes_the_change_back() {
    if !can("reach::a_connection_that_breaks_in_the_middle_takes_the_change_back") {
        return;
    }
    let far = Far::new("e");
    let (site, plan) = (far.site(), far.plan(1));
    let north = &far.routers[0];
    let before = north.seen();
    // A packet to there is dropped, so the probe takes five seconds: time to break what waits.
    north.space.ip("route add blackhole 203.0.113.0/24\nroute add 203.0.113.9 dev lo\n");
    north.space.nft(
        "add table ip t\nadd chain ip t out { type filter hook output priority 0 ; }\n\
         add rule ip t out ip daddr 203.0.113.9 drop\n",
    );
    let before_with_rule = north.seen();
    assert_ne!(before, before_with_rule);
    let probes = ["--probe", "203.0.113.9:9"].repeat(8);
    let arguments = far.apply(&site, &plan, &[&["--node", "north"], &probes[..]].concat());
    let mut child = far.operator.inside(|| {
        let mut command = far.command(&arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("vyr starts")
    });
    until("the steps", || north.seen().contains("table inet vyr"));
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let ssh = fs::read_to_string(children).expect("it runs");
    let ssh: i32 = ssh.trim().parse().expect("one child, which is ssh");
    let ssh = rustix::process::Pid::from_raw(ssh).expect("a process");
    rustix::process::kill_process(ssh, rustix::process::Signal::KILL).expect("ours");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    let code = child.wait().expect("ours").code();
    assert!(code == Some(6) && said.contains("ended before its answer"), "{said}");
    until("the way back", || north.seen() == before_with_rule);
    until("its end", || !north.data.join("network/pending.json").exists());
    let last = fs::read_to_string(north.data.join("network/last.json")).expect("written");
    // Not by who made it, when its probes had failed.
    assert!(last.contains("who made it died"), "{last}");
}

#[test]
fn a_first_host_that_fails_leaves_the_others_alone() {
    if !can("reach::a_first_host_that_fails_leaves_the_others_alone") {
        return;
    }
    let far = Far::new("f");
    let (site, plan) = (far.site(), far.plan(1));
    let [north, south] = &far.routers;
    let blank = [north.seen(), south.seen()];
    // South listens where the probe asks, north does not.
    let listener = south.space.inside(|| std::net::TcpListener::bind("127.0.0.1:9")).expect("free");
    let all = far.apply(&site, &plan, &["--all", "--probe", "127.0.0.1:9"]);
    let (code, said) = far.fails(&all);
    assert!(code == Some(1) && said.contains("north: failed: 127.0.0.1:9"), "{said}");
    assert!(said.contains("south: not tried"), "{said}");
    assert_eq!([north.seen(), south.seen()], blank);
    assert!(!south.data.join("network/last.json").exists(), "it was not asked");

    // With another first one that works, it stops at the second, and the first waits.
    let (code, said) = far.fails(&[&all[..], &["--canary", "south"]].concat());
    assert!(code == Some(1) && said.contains("south: applied"), "{said}");
    assert!(said.contains("north: failed") && said.contains("vyr rollback --all"), "{said}");
    assert_eq!(north.seen(), blank[0]);
    assert_ne!(south.seen(), blank[1]);
    let (code, said) = far.fails(&["rollback", "--site", &site, "--all"]);
    assert!(code == Some(4) && said.contains("south: taken back"), "{said}");
    assert_eq!(south.seen(), blank[1]);
    assert_eq!(far.pointer(), None);
    let (code, said) = far.fails(&[&all[..], &["--canary", "west"]].concat());
    assert!(code == Some(2) && said.contains("west"), "{said}");
    drop(listener);
}

#[test]
fn errors_are_the_same_from_here_and_from_elsewhere() {
    if !can("reach::errors_are_the_same_from_here_and_from_elsewhere") {
        return;
    }
    let far = Far::new("g");
    let (site, plan) = (far.site(), far.plan(1));
    let north = &far.routers[0];
    let here = |arguments: &[&str]| {
        north.space.inside(|| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_vyr"));
            command.args(arguments).stdin(Stdio::null()).env("VYR_DATA_DIR", &north.data);
            command.env("USER", "ana").env_remove("SUDO_USER").output().expect("vyr starts")
        })
    };
    let there = |arguments: &[&str]| far.output(&[arguments, &["--node", &north.url()]].concat());
    let compare = |expected: i32, here: &Output, there: &Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(here.status.code(), Some(expected), "{}", text(&here.stderr));
        assert_eq!(there.status.code(), Some(expected), "{}", text(&there.stderr));
        assert_eq!(text(&there.stderr), text(&here.stderr));
        assert_eq!(text(&there.stdout), text(&here.stdout));
    };
    let same = |expected: i32, arguments: &[&str]| {
        compare(expected, &here(arguments), &there(arguments));
    };
    let both = |expected: i32, arguments: &[&str]| {
        same(expected, arguments);
        same(expected, &[&["--json"], arguments].concat());
    };
    let apply = far.apply(&site, &plan, &["--machine", "north"]);
    let [confirm, drift] =
        [["confirm", "--site", &site], ["drift", "--site", &site]].map(|words| words.to_vec());
    both(2, &["server", "key", "no name", "--site", &site]);
    both(4, &confirm);
    both(4, &drift);
    both(1, &[&apply[..], &["--probe", "127.0.0.1:9"]].concat());
    let approvals = || {
        let plans = fs::read_dir(far.path("site/plans")).expect("plans").flatten();
        plans.map(|entry| entry.path()).filter(|path| path.extension() == Some("sig".as_ref()))
    };
    let kept: Vec<_> = approvals().map(|path| (fs::read(&path).expect("ours"), path)).collect();
    kept.iter().for_each(|(_, path)| fs::remove_file(path).expect("ours"));
    both(3, &apply);
    kept.iter().for_each(|(bytes, path)| fs::write(path, bytes).expect("ours"));
    far.vyr(&[&apply[..], &["--node", &north.url()]].concat());
    both(5, &apply);
    // What is no error is the same too.
    same(0, &[&drift[..], &["--machine", "north", "--backend", "userspace"]].concat());
    // The network is changed by another process for longer than anybody waits.
    let lock = fs::File::open(north.data.join("network/lock")).expect("it is there");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("free");
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| here(&confirm));
        (there(&confirm), one.join().expect("it ends"))
    });
    compare(6, &other, &one);
}

#[test]
fn the_node_itself_checks_who_approved_and_who_came_first() {
    if !can("reach::the_node_itself_checks_who_approved_and_who_came_first") {
        return;
    }
    let far = Far::new("h");
    let (site, first) = (far.site(), far.plan(1));
    let north = &far.routers[0];
    let before = north.seen();
    // A client that is not ours, over the same ssh, with a plan that nobody approved.
    let hex = first.trim_start_matches("sha256:");
    let bytes = fs::read(far.path(&format!("site/plans/{hex}.json"))).expect("a plan");
    let forged = |bytes: &[u8]| {
        let apply = serde_json::json!({"apply": {
            "plan": far.operator.run("base64", &["-w0"], str::from_utf8(bytes).expect("text"))
                .expect("base64 is there"),
            "approvals": [], "machine": "north", "by": "mallory", "within_ms": null,
            "probes": [], "dry_run": false, "backend": {"kind": "userspace", "sockets": null},
        }});
        answer(&far, north, &apply)
    };
    let said = forged(&bytes);
    assert_eq!(said["refused"]["category"], "auth", "{said}");
    assert!(said["refused"]["message"].as_str().expect("text").contains("0 of 1"), "{said}");
    // With a lower threshold it is another plan, and it is as little approved.
    let lower =
        String::from_utf8(bytes).expect("text").replace("\"threshold\":1", "\"threshold\":0");
    let said = forged(lower.as_bytes());
    assert_eq!(said["refused"]["category"], "auth", "{said}");
    assert_eq!(north.seen(), before);

    // Ben has a plan over the same base, and comes second.
    let second = far.plan(2);
    far.vyr(&far.apply(&site, &first, &["--node", "north"]));
    let applied = north.seen();
    let (code, said) = far.fails(&far.apply(&site, &second, &["--node", "north"]));
    assert!(code == Some(5) && said.contains("by ana, begun at 2"), "{said}");
    assert!(said.contains(&first), "{said}");
    far.vyr(&["confirm", &first, "--site", &site, "--node", "north"]);
    let (code, said) = far.fails(&far.apply(&site, &second, &["--node", "north"]));
    let told = format!("this host has {first}, made by ana at 2");
    assert!(code == Some(5) && said.contains(&told), "{said}");
    assert_eq!(north.seen(), applied);
}

#[test]
fn what_a_host_answers_does_not_decide_which_plan_the_site_has() {
    if !can("reach::what_a_host_answers_does_not_decide_which_plan_the_site_has") {
        return;
    }
    let far = Far::new("i");
    let (site, other, plan) = (far.site(), far.plan(1), far.plan(2));
    let north = far.routers[0].url();
    // An agent that says a change to another plan of the site has ended, whatever it is asked.
    let frame =
        |json: &str| format!("printf 'vyrn\\000\\000\\000\\{:03o}%s' '{json}'\n", json.len());
    let liar = "#!/bin/sh\n".to_owned()
        + &frame(r#"{"wire":1,"vyr":"1","machine":"north","uid":0}"#)
        + &frame(&format!(r#"{{"ended":{{"plan":"{other}","base":null}}}}"#))
        + "cat >/dev/null\n";
    let liar = far.script("liar", &liar);
    let liar = ["--remote-vyr", liar.to_str().expect("UTF-8"), "--node", &north];
    far.fails(&far.apply(&site, &plan, &["--node", "ssh://root@192.168.78.2:1"]));
    let (code, said) = far.fails(&[&["confirm", &plan, "--site", &site], &liar[..]].concat());
    assert!(code == Some(2) && said.contains("another question"), "{code:?} {said}");
    assert_eq!(far.pointer(), None);
    // Nobody named a plan: what it says ended is told, and the site asked for another one.
    let printed = far.vyr(&[&["confirm", "--site", &site], &liar[..]].concat());
    assert_eq!((printed, far.pointer()), (other.clone(), None));
    // The twin: who names it believes it.
    far.vyr(&[&["confirm", &other, "--site", &site], &liar[..]].concat());
    assert_eq!(far.pointer(), Some(other));
}

/// What a router's agent answers to a client that is not ours.
fn answer(far: &Far, router: &Router, request: &serde_json::Value) -> serde_json::Value {
    let ours = far.command(&[]);
    let agent = ours.get_envs().find(|(name, _)| *name == "SSH_AUTH_SOCK").and_then(|of| of.1);
    let mut child = far.operator.inside(|| {
        let mut command = Command::new("ssh");
        let known = format!("UserKnownHostsFile={}", far.path("site/known_hosts").display());
        command.args([
            "-T",
            "-o",
            "BatchMode=yes",
            "-o",
            &known,
            "-o",
            "GlobalKnownHostsFile=/dev/null",
        ]);
        command.args(["-p", "2222", &format!("root@{}", router.address)]);
        command.arg(format!("{} __network-agent", env!("CARGO_BIN_EXE_vyr")));
        command.env("SSH_AUTH_SOCK", agent.expect("an agent"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh starts")
    });
    let (mut to, mut from) =
        (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut frame = || {
        let mut head = [0; 8];
        from.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut json = vec![0; length as usize];
        from.read_exact(&mut json).expect("a frame");
        serde_json::from_slice::<serde_json::Value>(&json).expect("JSON")
    };
    assert_eq!(frame()["wire"], 1, "it says first who it is");
    let json = request.to_string();
    let length = u32::try_from(json.len()).expect("short").to_be_bytes();
    to.write_all(&[b"vyrn", &length[..], json.as_bytes()].concat()).expect("it reads");
    let answer = frame();
    drop(to);
    child.wait().expect("it ends");
    answer
}
