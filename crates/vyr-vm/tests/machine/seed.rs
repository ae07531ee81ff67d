//! Two guests of one snapshot are two guests.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use vyr_vm::channel::words::Phase;
use vyr_vm::vmm::{Machine, Vmm, VmmError};

use crate::place::{HANG, driver, place, start, turn};

const RANDOM: &str = "head -c 16 /dev/urandom | od -An -tx1; sleep 100000";

#[test]
fn two_restores_share_no_random_byte() {
    let _turn = turn();
    let Some(place) = place("seed::two_restores_share_no_random_byte") else { return };
    // Without the new key that `Start` brings, both say the same 16 bytes: the generator's own is in
    // the snapshot.
    let mut seen = Vec::new();
    for _ in 0..2 {
        let guest = place.restored();
        guest.run(RANDOM);
        let line = guest.line("");
        assert_eq!(line.split_whitespace().count(), 16, "{line}");
        seen.push(line);
    }
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn the_clock_is_the_hosts() {
    let _turn = turn();
    let Some(place) = place("seed::the_clock_is_the_hosts") else { return };
    let guest = place.restored();
    let mut start = start("date +%s");
    // Long after the snapshot.
    start.time_ns = 4_000_000_000_000_000_000;
    guest.start(start);
    let time: u64 = guest.line("").parse().expect("seconds");
    assert!((4_000_000_000..4_000_003_600).contains(&time), "{time}");
}

#[test]
fn a_guest_that_knows_who_it_is_is_not_stored() {
    let _turn = turn();
    let Some(place) = place("seed::a_guest_that_knows_who_it_is_is_not_stored") else { return };
    let directory = tempfile::tempdir().expect("room");
    let driver = driver();
    driver.prepare(&place.spec(), directory.path()).expect("prepared");
    let machine = driver.start(place.spec(), directory.path()).expect("started");
    let channel = machine.channel(false, HANG).expect("a channel");
    channel.start(start("sleep 100000")).expect("the first start");
    let knows = |phase: &Phase| (*phase != Phase::Blank).then_some(());
    channel.wait_phase(HANG, knows).expect("it knows");
    let to = directory.path().join("stored");
    let refused = machine.snapshot(channel, &to).expect_err("it knows who it is");
    assert!(matches!(refused, VmmError::NotBlank), "{refused}");
    assert!(!to.exists());
    // The machine runs on, as it was.
    let again = machine.channel(false, HANG).expect("a channel");
    assert!(again.start(start("true")).is_err(), "it was started");
    machine.kill().expect("killed");
}

#[test]
fn a_snapshot_is_for_machines_of_its_kind() {
    let _turn = turn();
    let Some(place) = place("seed::a_snapshot_is_for_machines_of_its_kind") else { return };
    let directory = tempfile::tempdir().expect("room");
    let mut spec = place.spec();
    spec.memory_bytes *= 2;
    let driver = driver();
    driver.prepare(&spec, directory.path()).expect("prepared");
    let refused = driver.start(spec, directory.path()).expect_err("another size");
    assert!(matches!(refused, VmmError::Snapshot(_)), "{refused}");
    assert_eq!(refused.to_string(), "the snapshot is of another machine: its memory differs");
    // A disk is what it holds, whatever it is called, and also if it was another a moment ago.
    let disk = directory.path().join("disk");
    fs::copy(&place.root, &disk).expect("room");
    let spec = || vyr_vm::vmm::Spec { root: File::open(&disk).expect("ours"), ..place.spec() };
    let kind = driver.kind(&place.spec()).expect("it is read");
    assert_eq!(driver.kind(&spec()).expect("it is read"), kind);
    let mut byte = [0];
    let file = File::options().read(true).write(true).open(&disk).expect("ours");
    file.read_exact_at(&mut byte, 5000).expect("it is longer");
    file.write_all_at(&[!byte[0]], 5000).expect("room");
    assert_ne!(driver.kind(&spec()).expect("it is read"), kind);
    driver.prepare(&spec(), directory.path()).expect("prepared");
    let refused = driver.start(spec(), directory.path()).expect_err("another disk");
    assert_eq!(refused.to_string(), "the snapshot is of another machine: its root disk differs");
}

/// A copy of the snapshot with its record.
fn copy(from: &Path, to: &Path) -> std::path::PathBuf {
    for end in ["snapshot", "json"] {
        fs::copy(from.with_extension(end), to.with_extension(end)).expect("room");
    }
    to.with_extension("snapshot")
}

#[test]
fn what_is_restored_is_what_was_stored() {
    let _turn = turn();
    let Some(place) = place("seed::what_is_restored_is_what_was_stored") else { return };
    let directory = tempfile::tempdir().expect("room");
    let (driver, machine) = (driver(), directory.path().join("machine"));
    let start = |snapshot: &Path| {
        let spec = || vyr_vm::vmm::Spec { snapshot: Some(snapshot.to_owned()), ..place.spec() };
        driver.prepare(&spec(), &machine).expect("prepared");
        driver.start(spec(), &machine)
    };
    let snapshot = copy(&place.snapshot, &directory.path().join("blank"));
    // The twin: an honest copy runs.
    start(&snapshot).expect("it is whole").kill().expect("killed");
    let file = File::options().read(true).write(true).open(&snapshot).expect("ours");
    let bytes = file.metadata().expect("a file").len();
    let middle = bytes / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("it is longer");
    file.write_all_at(&[byte[0] ^ 1], middle).expect("room");
    let refused = start(&snapshot).expect_err("a bit of it is another");
    assert!(matches!(refused, VmmError::Damaged(_)), "{refused}");
    file.write_all_at(&byte, middle).expect("room");
    file.set_len(bytes - 1).expect("ours");
    let refused = start(&snapshot).expect_err("it is cut");
    assert!(matches!(refused, VmmError::Damaged(_)), "{refused}");
    fs::write(snapshot.with_extension("json"), "{}").expect("ours");
    let refused = start(&snapshot).expect_err("it has no record");
    assert!(matches!(refused, VmmError::Record { .. }), "{refused}");
}
