//! Two guests of one snapshot are two guests.

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
}
