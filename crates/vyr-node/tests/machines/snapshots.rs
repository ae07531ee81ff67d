//! Machines that start from snapshots: who makes them, who uses them, and what is left of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::Trial;
use serde_json::Value;
use vyr_base::Digest;
use vyr_node::machines::wire::LogLine;
use vyr_node::machines::{Began, Event, MachineId, MachinesSettings};
use vyr_vm::channel::words::{Network, Route};
use vyr_vm::vmm::open_tap;

use crate::adopt::{kill, marked};
use crate::hold::{holders, is_root, marker};
use crate::place::{HANG, House, SCRATCH, not_run};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("snapshots::the_second_of_a_kind_is_restored_and_another_guest", restored),
        trial("snapshots::a_card_with_nobody_behind_it_is_restored_with_one", with_a_card),
        trial("snapshots::one_that_is_of_no_use_is_told_and_the_machine_boots", of_no_use),
        trial("snapshots::machines_killed_while_one_is_made_leaves_nothing", killed_while_made),
        trial("snapshots::the_last_user_is_a_machines", the_last_user),
    ]
}

/// Where snapshots are made; none is named in its orders.
fn house(test: &str) -> Option<House> {
    House::with(test, MachinesSettings { snapshots: true, ..MachinesSettings::default() })
}

fn stored(house: &House, end: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(house.machines().join(".snapshots")).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|of| of == end)).collect()
}

/// Whether so many are there, and none is being made.
fn made(house: &House, count: usize) -> bool {
    stored(house, "json").len() == count && !house.machines().join(".blank").exists()
}

#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + HANG;
    while !is() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How a machine came to run, and its VMM. What it tells before the last time is of no use.
#[track_caller]
fn began(house: &House, id: &MachineId) -> (Began, u32) {
    house.event("VMM", |event| match event {
        Event::Started { id: of, began, pid } if of == id => Some((began.clone(), *pid)),
        Event::Failed { id: of, at, why } if of == id => panic!("{at}: {why}"),
        _ => None,
    })
}

fn is_restored_from_outside(vmm: u32) -> bool {
    let line = fs::read(format!("/proc/{vmm}/cmdline")).expect("it runs");
    line.split(|byte| *byte == 0).any(|word| word == b"-incoming")
}

/// The next line of a log.
fn line(log: &UnixStream) -> String {
    let line = LogLine::read(log).expect("a line").expect("it goes on").record.line;
    String::from_utf8(line).expect("text")
}

fn end(house: &House, id: &MachineId) {
    house.door.kill(id).expect("there is one");
    house.ended(id);
    house.door.forget(id).expect("it has ended");
}

const BOOTED: Began = Began::Booted { instead: None };

/// Sixteen bytes of the kernel's generator, and the time.
const TELLS: &str = "head -c 16 /dev/urandom | od -An -tx1; date +%s; sleep 100000";

fn restored(test: &str) {
    let Some(house) = house(test) else { return };
    let now =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let (secret, said) = (marker("secret"), marker("said"));
    let mut random = BTreeSet::new();
    let mut known = Vec::new();
    for name in ["one", "two", "three"] {
        let mut order = house.order(name, &format!("{TELLS}; : {said}"));
        order.start.secrets = Some(format!("# VYR_SECRETS_V1\nTOKEN={secret}\n").into_bytes());
        order.start.hostname = said.clone();
        let id = order.id.clone();
        let before = now();
        house.door.start(order, None).expect("it is taken");
        let (began, vmm) = began(&house, &id);
        let wanted = if name == "one" { BOOTED } else { Began::Restored };
        assert_eq!(began, wanted, "{name}");
        assert_eq!(is_restored_from_outside(vmm), wanted == Began::Restored, "{name}");
        house.runs(&id);
        let log = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
        let bytes = line(&log);
        assert_eq!(bytes.split_whitespace().count(), 16, "{bytes}");
        assert!(random.insert(bytes), "{name} has the random bytes of another");
        let time: u64 = line(&log).parse().expect("seconds");
        // The guest's clock runs by itself from when it was told.
        assert!((before..=now() + 1).contains(&time), "{name}: {time} is not from {before} on");
        until("a snapshot", || made(&house, 1));
        known.push((id, wanted));
    }
    for of in house.door.list().expect("a list") {
        let wanted = known.iter().find(|(id, _)| *id == of.id).map(|(_, began)| began.clone());
        assert_eq!(of.began, wanted, "{}", of.id);
    }
    // Nothing of an instance is in it, and the judge sees what is.
    let snapshot = stored(&house, "snapshot").pop_first().expect("one");
    assert_eq!(holders(&house, &secret), Vec::<String>::new());
    let of_one = |name: &String| name.ends_with(".snapshot") || name.ends_with(".json");
    assert!(!holders(&house, &said).iter().any(of_one), "its hostname");
    let name = snapshot.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(holders(&house, "vyr-init").contains(&name), "the first process is in every guest");

    // Another size is another kind: it boots, and has one of its own.
    let mut order = house.order("larger", "sleep 100000");
    order.memory_bytes *= 2;
    let larger = order.id.clone();
    house.door.start(order, None).expect("it is taken");
    assert_eq!(began(&house, &larger).0, BOOTED);
    house.runs(&larger);
    until("a second snapshot", || made(&house, 2));
    // What an earlier life of the process made is of use to this one.
    let mut house = house.again();
    let four = house.start("four", "sleep 100000");
    assert_eq!(began(&house, &four).0, Began::Restored);
    house.runs(&four);
    // It goes with the last machine of its kind.
    end(&house, &larger);
    assert_eq!(stored(&house, "snapshot"), BTreeSet::from([snapshot]));
    house.settings.snapshots = false;
    let house = house.again();
    assert!(!house.machines().join(".snapshots").exists(), "nobody wants any");
}

fn with_a_card(test: &str) {
    if !is_root() {
        return not_run(test, "needs root");
    }
    if !Path::new("/dev/net/tun").exists() {
        return not_run(test, "there is no /dev/net/tun");
    }
    let Some(house) = house(test) else { return };
    // TAPs are in a namespace that ends with the test.
    let keeper = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut keeper) = keeper else { return not_run(test, "unshare is not installed") };
    keeper.stdin.as_mut().expect("a pipe").write_all(b"x").expect("it reads");
    let entered = keeper.stdout.as_mut().expect("a pipe").read_exact(&mut [0]);
    if entered.is_err() {
        return not_run(test, "may not make network namespaces");
    }
    let namespace = format!("/proc/{}/ns/net", keeper.id());
    for (number, name) in ["one", "two"].into_iter().enumerate() {
        let mac = [2, 0, 0, 7, 0, 9 + u8::try_from(number).expect("few")];
        let tap = open_tap(&format!("vyr-s{number}"), Some(namespace.as_ref())).expect("root may");
        let mut order = house.order(name, "cat /sys/class/net/eth0/address; sleep 100000");
        let address = |text: &str| text.parse().expect("an address");
        let ipv6 = Route { address: address("fd00::2"), prefix: 128, gateway: address("fe80::1") };
        order.start.network = Some(Network { mac, mtu: 1420, ipv6, ipv4: None });
        let id = order.id.clone();
        house.door.start(order, Some((tap, mac))).expect("it is taken");
        let wanted = if number == 0 { BOOTED } else { Began::Restored };
        assert_eq!(began(&house, &id).0, wanted, "{name}");
        house.runs(&id);
        let log = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
        assert_eq!(line(&log), mac.map(|byte| format!("{byte:02x}")).join(":"), "{name}");
        until("a snapshot", || made(&house, 1));
    }
    keeper.kill().expect("ours");
    keeper.wait().expect("ours");
}

/// Why a machine booted that was to be restored.
#[track_caller]
fn instead(house: &House, name: &str) -> String {
    let id = house.start(name, "sleep 100000");
    let why = loop {
        match began(house, &id).0 {
            Began::Booted { instead } => break instead.expect("a reason"),
            // Its VMM came as far as that.
            Began::Restored => {}
        }
    };
    house.runs(&id);
    why
}

fn of_no_use(test: &str) {
    let Some(house) = house(test) else { return };
    let id = house.start("one", "sleep 100000");
    assert_eq!(began(&house, &id).0, BOOTED);
    house.runs(&id);
    until("a snapshot", || made(&house, 1));
    let path = stored(&house, "snapshot").pop_first().expect("one");
    let file = fs::File::options().read(true).write(true).open(&path).expect("ours");
    let (mut byte, middle) = ([0], file.metadata().expect("a file").len() / 2);
    file.read_exact_at(&mut byte, middle).expect("it is longer");
    file.write_all_at(&[byte[0] ^ 1], middle).expect("room");
    drop(file);
    let why = instead(&house, "two");
    assert!(why.contains("is not what was stored"), "{why}");
    // The machine that booted has another one made, under the same name. The VMM itself refuses what
    // is no snapshot, whatever its record says.
    until("another snapshot", || made(&house, 1));
    let record = path.with_extension("json");
    let text = fs::read_to_string(&record).expect("ours");
    let mut stated: Value = serde_json::from_str(&text).expect("JSON");
    fs::write(&path, "no guest").expect("ours");
    stated["files"][0]["bytes"] = 8.into();
    stated["files"][0]["digest"] = Digest::of(b"no guest").to_string().into();
    fs::write(&record, stated.to_string()).expect("ours");
    let why = instead(&house, "three");
    assert!(why.contains("its snapshot could not be used: VMM:"), "{why}");
    // The twin: nobody meddles with the third.
    until("another snapshot", || made(&house, 1));
    let id = house.start("four", "sleep 100000");
    assert_eq!(began(&house, &id).0, Began::Restored);
    house.runs(&id);
}

fn the_last_user(test: &str) {
    if !is_root() {
        return not_run(test, "needs root");
    }
    let last = MachinesSettings::default().users.1 - 1;
    let settings = MachinesSettings { users: (last, last), snapshots: true };
    let Some(house) = House::with(test, settings) else { return };
    // A machine may be over before it is seen that there is no user for another guest.
    let why = (0..5).find_map(|number| {
        let id = house.start(&format!("m{number}"), "sleep 100000");
        let (began, _) = began(&house, &id);
        house.runs(&id);
        house.door.kill(&id).expect("there is one");
        house.ended(&id);
        began.instead().map(str::to_owned)
    });
    let why = why.expect("it is told why none is made");
    assert!(why.contains("no user id is left over"), "{why}");
    assert_eq!(stored(&house, "json"), BTreeSet::new());
}

/// The mark of the guest that is being stored, once there is one.
fn mark(house: &House) -> Option<String> {
    let text = fs::read_to_string(house.machines().join(".blank/blank.json")).ok()?;
    let record: Value = serde_json::from_str(&text).expect("it is whole");
    Some(record["mark"].as_str().expect("a mark").to_owned())
}

fn killed_while_made(test: &str) {
    let Some(house) = house(test) else { return };
    for (number, point) in ["recorded", "started", "storing", "stored"].into_iter().enumerate() {
        let mut order = house.order(&format!("m{number}"), "sleep 100000");
        // A kind of its own.
        order.scratch_bytes = Some(SCRATCH + ((number as u64) << 20));
        let id = order.id.clone();
        house.door.start(order, None).expect("it is taken");
        assert_eq!(began(&house, &id).0, BOOTED, "{point}");
        // It comes once the machine runs, and may be gone again soon.
        until("a guest to be stored", || mark(&house).is_some());
        let mark = mark(&house).expect("it was there a moment ago");
        let whole = || stored(&house, "json").len() == 1;
        match point {
            "started" => until("its VMM", || marked(&mark) > 0),
            // It may be over in a moment.
            "storing" => until("its file", || !stored(&house, "new").is_empty() || whole()),
            "stored" => until("its record", whole),
            _ => {}
        }
        let was = (marked(&mark), stored(&house, "new").len(), stored(&house, "json").len());
        kill(house.pid());
        house.event("adopted machine", |event| match event {
            Event::Adopted { id: of, .. } => (*of == id).then_some(()),
            Event::Failed { at, why, .. } => panic!("{at}: {why}"),
            _ => None,
        });
        println!("killed when it was {point}: {was:?} VMMs, half and whole snapshots");
        assert_eq!(marked(&mark), 0, "{point}");
        assert!(!house.machines().join(".blank").exists(), "{point}");
        let names = |end: &str| {
            let paths = stored(&house, end);
            paths.iter().map(|path| path.with_extension("")).collect::<BTreeSet<_>>()
        };
        assert_eq!(names("snapshot"), names("json"), "{point}");
        assert_eq!(names("new"), BTreeSet::new(), "{point}");
        if point == "stored" {
            let mut order = house.order("next", "sleep 100000");
            order.scratch_bytes = Some(SCRATCH + ((number as u64) << 20));
            let next = order.id.clone();
            house.door.start(order, None).expect("it is taken");
            assert_eq!(began(&house, &next).0, Began::Restored);
            house.runs(&next);
            end(&house, &next);
        }
        end(&house, &id);
        assert_eq!(stored(&house, "json"), BTreeSet::new(), "nobody is of its kind");
    }
}
