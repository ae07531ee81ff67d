//! What a process may say to an agent, and what an agent says to the rest.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use morpheus::wire::{PROCESSES_MAX, Packet, TEXT_MAX};
use morpheus::{ABI, Options};
use morpheus_bpf::ObserveOptions;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::place::{Place, answers, hog, pin, until};
use crate::wire::{Client, this_thread, thread};

/// Somebody else is served and hinted, whatever was said before.
fn others_are_served(place: &Place) {
    let guidance = place.guidance(Options { workers: 1, ..Default::default() });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        let other = scope.spawn(|| {
            pin(0);
            let _worker = guidance.register().expect("a block");
            answers(3)
        });
        assert_eq!(other.join().expect("it ends"), 3);
        stop.store(true, Relaxed);
    });
}

#[test]
fn what_is_wrong_with_an_introduction_is_said() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let client = Client::new(&place.socket);
    let thread = this_thread();
    let register = Packet::Register { block: 0 };
    assert!(client.refused(&register, &[thread.as_fd()]).contains("not introduced itself"));
    let hello = |abi, workers| Packet::Hello { abi, workers, bell: false };
    assert!(client.refused(&hello(ABI + 1, 2), &[]).contains("version"));
    for workers in [0, 1_025, u32::MAX / 2] {
        let why = client.refused(&hello(ABI, workers), &[]);
        assert!(why.contains("1 to 1024"), "{why}");
    }
    client.hello(2).expect("a welcome after all");
    assert!(client.refused(&hello(ABI, 2), &[]).contains("introduced itself before"));
    client.register(1).expect("it is who it was");
    others_are_served(&place);
}

#[test]
fn what_is_wrong_with_a_registration_is_said() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let client = Client::new(&place.socket);
    let blocks = client.hello(2).expect("a welcome");
    let own = this_thread();
    let own = own.as_fd();
    let register = |block| Packet::Register { block };
    assert!(client.refused(&register(2), &[own]).contains("no such block"));
    assert!(client.refused(&register(u32::MAX), &[own]).contains("no such block"));
    for files in [&[][..], &[own, own][..]] {
        assert!(client.refused(&register(0), files).contains("one pidfd"));
    }
    let file = File::open("/dev/null").expect("a file");
    assert!(client.refused(&register(0), &[file.as_fd()]).contains("no pidfd"));

    let mut child = Command::new("sleep").arg("100").spawn().expect("a child");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd");
    assert!(client.refused(&register(0), &[pidfd.as_fd()]).contains("another process"));
    assert!(client.refused(&register(0), &[thread(pid).as_fd()]).contains("another process"));
    child.kill().expect("ours");
    child.wait().expect("ours");
    // Nobody any more.
    client.refused(&register(0), &[pidfd.as_fd()]);
    let ended = std::thread::spawn(this_thread).join().expect("it ends");
    client.refused(&register(0), &[ended.as_fd()]);

    let first = client.register(0).expect("nothing is wrong with this one");
    assert!(client.register(1).expect_err("it has one").contains("has a block already"));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| client.register(0).expect_err("it is taken"));
        assert!(other.join().expect("it ends").contains("has a worker"));
    });
    assert_eq!(blocks.get(0).expect("a block").hints.generation.load(Relaxed), first);
    let unregister = |block| Packet::Unregister { block };
    for block in [1, 2, u32::MAX] {
        assert!(client.refused(&unregister(block), &[]).contains("no worker"));
    }
    assert_eq!(client.ask(&unregister(0), &[]).expect("an answer"), Packet::Unregistered);
    assert!(client.refused(&unregister(0), &[]).contains("no worker"), "a second time");
    let again = client.register(0).expect("it is free again");
    assert_ne!(first, again, "the same generation");
    others_are_served(&place);
}

#[test]
fn a_packet_of_garbage_ends_its_connection_and_no_other() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let bystander = Client::new(&place.socket);
    bystander.hello(1).expect("a welcome");
    let mut packets: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0],
        vec![0xff; 11],
        vec![0xff; 12],
        vec![1; 12],
        vec![0; 12 + TEXT_MAX],
        vec![7; 12 + TEXT_MAX + 1],
        vec![0; 60_000],
        // What only an agent says.
        Packet::Welcome { tier: 3, bell: 0, why: "me".into() }.to_bytes(),
        Packet::Registered { generation: 1 }.to_bytes(),
        Packet::Refused { why: "no".into() }.to_bytes(),
    ];
    let mut number = 1_u64;
    packets.extend((0..100).map(|length| {
        let next = |_| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            number.to_le_bytes()[7]
        };
        (0..length).map(next).collect()
    }));
    for packet in packets {
        let client = Client::new(&place.socket);
        client.say(&packet).expect("it is sent");
        match client.hear() {
            Ok((Packet::Refused { .. }, files)) => assert!(files.is_empty()),
            Ok((other, _)) => panic!("{packet:?} is answered with {other:?}"),
            Err(e) => assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "{packet:?}: silence"),
        }
    }
    bystander.register(0).expect("it is there still");
    others_are_served(&place);
}

#[test]
fn there_are_as_many_processes_as_there_is_room_for() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let welcomed = || {
        let client = Client::new(&place.socket);
        client.hello(1).map(|blocks| (client, blocks))
    };
    let mut clients: Vec<_> =
        (0..PROCESSES_MAX).map(|_| welcomed().expect("there is room")).collect();
    assert!(welcomed().is_err(), "one that is too many");
    clients.swap_remove(17);
    until("there is room again", || welcomed().is_ok());
    for (client, _) in &clients[..3] {
        assert!(client.refused(&Packet::Unregister { block: 0 }, &[]).contains("no worker"));
    }
}
