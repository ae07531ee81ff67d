//! A router that can be thrown away, with the kernel's WireGuard: blank, applied, confirmed, bundled,
//! destroyed, and another one that has nothing but the bundle.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::can_run;
use crate::computer::{Computer, disk, initramfs};
use crate::office::{APPLY, LINK, Office, PRINTER, found, raise, until_forwarded};

pub(crate) const HOLDS: &str = "machine::a_router_is_thrown_away_and_made_again";

/// How often one device of fifty gets another key while packets of another one pass.
const CHANGES: usize = 10;
const PINGS: u32 = 601;

/// Sends so many packets through the router, ten a second; how many came back.
fn pinged(town: &Computer, count: u32) -> u32 {
    let count = count.to_string();
    let words = ["ping", "-n", "-q", "-i", "0.1", "-W", "20", "-c", &count, PRINTER];
    let output = town.run(&words, b"").output;
    let words: Vec<&str> = output.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("received")).expect("a summary");
    assert!(output.contains(&format!("{count} packets transmitted")), "{output}");
    words[at - 1].parse().expect("a number")
}

/// One of fifty devices changes again and again, and Ana's packets pass.
fn changes_cost_nothing(office: &mut Office, router: &Computer, town: &Computer) {
    let mut plans = Vec::new();
    for _ in 0..CHANGES {
        office.change(7);
        let plan = office.plan();
        office.applied(&plan);
        plans.push(plan);
    }
    office.send(router);
    let (done, begun) = (AtomicBool::new(false), Instant::now());
    let (sent, received) = std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let (mut sent, mut received) = (0, 0);
            // They begin before the first change and end after the last.
            while sent == 0 || !done.load(Ordering::Relaxed) {
                sent += PINGS;
                received += pinged(town, PINGS);
            }
            (sent, received)
        });
        for plan in &plans {
            router.vyr(&[&["apply", plan, "--no-confirm"][..], &APPLY].concat());
        }
        done.store(true, Ordering::Relaxed);
        println!("{CHANGES} changes in {:.1?} (TCG)", begun.elapsed());
        pings.join().expect("it counts")
    });
    println!("{received} of {sent} pings came back while one of 50 peers changed {CHANGES} times");
    assert_eq!(sent, received);
    // Its twin: who makes Ana's peer again ends her session.
    let again = format!(
        "key=$(wg show {LINK} allowed-ips | while read k a; do case $a in *{0}/*) echo $k;; esac; done)
         ips=$(wg show {LINK} allowed-ips | while read k a; do [ $k != $key ] || echo $a; done)
         wg set {LINK} peer $key remove
         set -- $ips; wg set {LINK} peer $key allowed-ips \"$1${{2:+,$2}}\"",
        town.shell("ip -4 -o address show dev ana | { read n d f a r; echo ${a%/*}; }").trim()
    );
    router.shell(&again);
    let received = pinged(town, 20);
    println!("{received} of 20 came back when Ana's peer was removed and made again");
    assert!(received < 20);
    raise(town);
    until_forwarded(town);
}

pub(crate) fn a_router_is_thrown_away_and_made_again() {
    if !can_run(HOLDS) {
        return;
    }
    let mut office = Office::new();
    let vyr = Path::new(env!("CARGO_BIN_EXE_vyr"));
    let (with_vyr, without) = (office.path("router.initramfs"), office.path("town.initramfs"));
    initramfs(&with_vyr, &[("vyr", vyr)]);
    initramfs(&without, &[]);

    // A is blank: its key is made there, and leaves it in the bundle only.
    let (a, town) = std::thread::scope(|scope| {
        let town = scope.spawn(|| office.town(&without));
        (office.router("a", 0x10, &with_vyr, None), town.join().expect("it boots"))
    });
    println!("{}", a.shell("cat /proc/version").trim());
    let blank = a.seen();
    let key = a.vyr(&["server", "key", LINK]);
    office.declare(key.lines().next().expect("a key"));
    let plan = office.plan();
    office.send(&a);
    a.vyr(&[&["apply", &plan][..], &APPLY].concat());
    assert_eq!(a.vyr(&["confirm"]).trim(), plan);
    assert!(a.shell("ip -d link show type wireguard").contains(LINK), "the kernel carries it");
    office.connect(&town);
    office.applied(&plan);
    until_forwarded(&town);
    changes_cost_nothing(&mut office, &a, &town);

    let (digest, seen) = (found(&a), a.seen());
    a.write("/op", &office.read("op"));
    let make = ["bundle", "--key", "/op", "--out", "/nas.bundle", "--site", "/site"];
    a.vyr(&make);
    let bundle = a.bytes("/nas.bundle");
    let client_file = office.client_file();

    // A is destroyed, and its disk was its memory. C has a disk with the bundle, and who may sign
    // and open it.
    drop(a);
    let files = office.path("media");
    fs::create_dir_all(&files).expect("a directory");
    office.private("media/nas.bundle", &bundle);
    office.private("media/backup", &office.read("backup"));
    let signers = office.read("site/operators.allowed_signers");
    office.private("media/operators.allowed_signers", &signers);
    let image = office.path("media.image");
    disk(&image, &files);
    let c = office.router("c", 0x20, &with_vyr, Some(&image));
    assert_eq!(c.seen(), blank, "it is as blank as the first one was");
    assert_eq!(pinged(&town, 3), 0, "nothing is forwarded before");
    raise(&town);
    let rebuild = ["rebuild", "/disk/nas.bundle", "--trust", "/disk/operators.allowed_signers"];
    let more = ["--identity", "/disk/backup", "--backend", "kernel", "--json"];
    let begun = Instant::now();
    let body: Value = serde_json::from_str(&c.vyr(&[&rebuild[..], &more].concat())).expect("JSON");
    let rebuilt = begun.elapsed();
    until_forwarded(&town);
    println!(
        "rebuilt after {:.1} s, the first packet forwarded after {:.1} s (TCG: each instruction is \
         emulated; kernel WireGuard)",
        rebuilt.as_secs_f32(),
        begun.elapsed().as_secs_f32(),
    );
    assert_eq!(body["found"], Value::from(digest.as_str()), "the host is the old one");
    assert_eq!(found(&c), digest);
    assert_eq!(c.seen(), seen);
    assert_eq!(office.client_file(), client_file);
    // Somebody else's hand is seen: the digest is one of the host, not of the plan.
    c.shell(&format!("ip address delete 10.21.0.1/24 dev {LINK}"));
    let drift = ["vyr", "drift", "--json", "--machine", "nas", "--backend", "kernel"];
    let done = c.run(&drift, b"");
    assert!(done.code == Some(1) && !done.output.contains(&format!("\"found\":\"{digest}\"")));
}
