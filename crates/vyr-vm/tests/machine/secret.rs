//! Secrets are in the guest's memory, and nowhere else.

use std::fs;
use std::path::Path;

use vyr_vm::channel::words::{ExecSpec, Part};
use vyr_vm::vmm::Machine;

use crate::place::{HANG, place, shell, start, turn};

/// Built at run time, so that no file of the build holds it.
fn marker() -> String {
    ["marker", "7f3a", "of", "this", "test"].join("-")
}

fn holds(path: &Path, what: &[u8]) -> bool {
    let bytes = fs::read(path).expect("a file");
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn secrets_are_in_one_file_in_memory() {
    let _turn = turn();
    let Some(place) = place("secret::secrets_are_in_one_file_in_memory") else { return };
    let guest = place.restored();
    let mut start = start("echo up; sleep 100000");
    let text = format!("# VYR_SECRETS_V1\nTOKEN={}\n", marker());
    start.secrets = Some(text.clone().into_bytes());
    (start.process.uid, start.process.gid) = (1000, 1001);
    guest.start(start);
    guest.line("up");
    let script = "stat -c '%a %u %g' /run/secrets/platform.env; grep ' /run ' /proc/mounts | cut -d' ' -f1; ls -A /run/secrets; id -u";
    let mut process = shell(script);
    (process.uid, process.gid) = (1000, 1001);
    let exec = guest.channel.exec(ExecSpec { process, terminal: None }, HANG).expect("a session");
    let out = exec.read_all(Part::Stdout, 1000, HANG).expect("output");
    let out = String::from_utf8_lossy(&out).into_owned();
    assert_eq!(out, "400 1000 1001\ntmpfs\nplatform.env\n1000\n");
    let cat =
        ExecSpec { process: shell("cat /run/secrets/platform.env; touch /seen"), terminal: None };
    let exec = guest.channel.exec(cat, HANG).expect("a session");
    let out = exec.read_all(Part::Stdout, 1000, HANG).expect("output");
    assert_eq!(out, text.as_bytes());
    // What the guest wrote is on its disk by now: the switch-off syncs.
    guest.machine.stop(&guest.channel, 15, HANG).expect("it stops");
    let secret = marker();
    let mut seen = 0;
    for entry in fs::read_dir(&guest.path).expect("a directory").flatten() {
        if entry.path().is_file() {
            assert!(!holds(&entry.path(), secret.as_bytes()), "{}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "the disk, the console and the VMM's words: {seen}");
    assert!(!holds(&place.snapshot, secret.as_bytes()));
    // The twin: what is written to the disk is found there.
    assert!(holds(&guest.path.join("scratch.img"), b"seen"));
}
