//! `vyr apply` with the kernel's WireGuard is killed at each step at which it asks `nft` for the whole
//! table, or gives it a transaction to check or to load, while it is stopped there: the host becomes
//! what it was, or what it is to be.
//!
//! `nft` of this machine is a script in front of the real one. Before the call whose number is in
//! `/stop` it says that it is there and waits until who called it is dead. Steps over netlink are
//! between two such calls; nothing stops there.

use std::path::Path;

use crate::can_run;
use crate::computer::{Computer, initramfs};
use crate::office::{APPLY, LINK, Office};

pub(crate) const HOLDS: &str = "machine::who_dies_at_a_step_leaves_old_or_new";

/// More calls than an apply makes.
const CALLS_MAX: u32 = 60;

const SCRIPT: &str = r#"#!/usr/sbin/sh
weighs=
case "$*" in *-f*|*-p*) weighs=y;; esac
if [ -e /stop ] && [ $weighs ]; then
    n=0
    [ ! -e /calls ] || read n < /calls
    n=$((n + 1))
    echo $n > /calls
    read at < /stop
    if [ $n = $at ]; then
        echo "$@" > /stopped
        while [ -d /proc/$PPID ]; do sleep 0.05; done
        exit 1
    fi
fi
exec /usr/libexec/nft "$@"
"#;

pub(crate) fn who_dies_at_a_step_leaves_old_or_new() {
    if !can_run(HOLDS) {
        return;
    }
    let mut office = Office::new();
    let image = office.path("router.initramfs");
    initramfs(&image, &[("vyr", Path::new(env!("CARGO_BIN_EXE_vyr")))]);
    let host = office.router("router", 0x10, &image, None);
    let key = host.vyr(&["server", "key", LINK]);
    office.declare(key.lines().next().expect("a key"));
    let first = office.plan();
    office.applied(&first);
    office.change(0);
    office.add();
    let second = office.plan();
    office.send(&host);
    host.vyr(&[&["apply", &first, "--no-confirm"][..], &APPLY].concat());
    let old = host.seen();
    let apply = [&["apply", &second, "--confirm-within", "1h"][..], &APPLY].concat();
    host.vyr(&apply);
    let new = host.seen();
    assert_ne!(old, new);
    host.vyr(&["rollback"]);
    assert_eq!(host.seen(), old);

    host.shell(
        "mkdir -p /usr/libexec; cat /usr/sbin/nft > /usr/libexec/nft; chmod 755 /usr/libexec/nft
         rm /usr/sbin/nft",
    );
    host.write("/usr/sbin/nft", SCRIPT.as_bytes());
    host.shell("chmod 755 /usr/sbin/nft");
    let (mut cut, mut between) = (0, 0);
    let mut call = 0;
    loop {
        call += 1;
        assert!(call < CALLS_MAX, "it does not end");
        let Some(stopped) = stop_at(&host, call, &apply) else { break };
        let there = host.seen();
        let is_between = ![&old, &new].contains(&&there);
        between += u32::from(is_between);
        host.shell("read p < /maker; kill -9 $p; rm /stop");
        println!("killed at call {call}, nft {stopped}: between old and new: {is_between}");
        settle(&host);
        assert_eq!(host.seen(), old, "call {call}");
        cut += 1;
    }
    // The last one was not stopped.
    println!("{cut} were killed, {between} of them between old and new");
    assert_eq!(host.seen(), new);
    host.vyr(&["confirm"]);
    assert_eq!(host.seen(), new);
    assert!(between > 0, "the judge has seen no half of a change");
}

/// Runs it until it asks for `nft` so many times; what it asked for, or none: it ended before.
fn stop_at(host: &Computer, call: u32, apply: &[&str]) -> Option<String> {
    let script = format!(
        "rm -f /stopped /calls /ended; echo {call} > /stop
         {{ vyr \"$@\" > /said 2>&1 & echo $! > /maker; wait $! || true; echo > /ended; }} \
         > /dev/null 2>&1 &
         until [ -e /stopped ] || [ -e /ended ]; do sleep 0.05; done
         [ ! -e /stopped ] || cat /stopped"
    );
    let words = [&["sh", "-ec", &script, "sh"][..], apply].concat();
    let done = host.run(&words, b"");
    assert_eq!(done.code, Some(0), "{}", done.said);
    match done.output.trim() {
        "" => {
            host.shell("rm /stop");
            None
        }
        words => Some(words.to_owned()),
    }
}

/// Waits until nothing of the change is left: by the timer, which hears that its maker died.
fn settle(host: &Computer) {
    host.shell(
        "i=0; while [ -e /data/network/pending.json ]; do
             i=$((i + 1)); [ $i -lt 1200 ] || { cat /data/network/pending.json; exit 1; }
             sleep 0.1
         done",
    );
}
