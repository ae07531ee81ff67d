//! Firecracker, the real one: in `PATH`, or at `VYR_FIRECRACKER` with its jailer beside it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use vyr_vm::vmm::{
    Accelerator, Exit, Firecracker, FirecrackerMachine, Link, Machine, Spec, Status, Vmm, VmmError,
    open_tap,
};

use crate::guest::Then;
use crate::kit::{Ends, HANG, Kit, hears, in_path, is_root, not_run};
use crate::suite::{self, USER};

/// The VMM and its jailer.
fn programs() -> Option<(PathBuf, Option<PathBuf>)> {
    let Some(named) = std::env::var_os("VYR_FIRECRACKER") else {
        return Some((in_path("firecracker")?, in_path("jailer")));
    };
    let jailer = Path::new(&named).with_file_name("jailer");
    Some((named.into(), Some(jailer).filter(|it| it.is_file())))
}

fn driver(test: &str) -> Option<Firecracker> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        not_run(test, "the guest is one for x86-64");
        return None;
    }
    let Some((program, jailer)) = programs() else {
        not_run(test, "firecracker is not installed");
        return None;
    };
    match Firecracker::new(&program, jailer.as_deref()) {
        Ok(driver) => Some(driver),
        Err(VmmError::NoKvm(_)) => {
            not_run(test, "/dev/kvm cannot be opened");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// The same where it can confine.
fn jailed(test: &str) -> Option<Firecracker> {
    let driver = driver(test)?;
    match driver.capabilities().no_own_user {
        None => Some(driver),
        Some(why) => {
            not_run(test, &why);
            None
        }
    }
}

/// What a VMM has for its root directory, by name.
fn root_of(machine: &FirecrackerMachine) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{}/root", machine.pid())).expect("root may");
    entries.flatten().map(|it| it.file_name().to_string_lossy().into_owned()).collect()
}

/// The one directory of that name in a machine's.
fn root_below(machine: &Path) -> PathBuf {
    let mut path = machine.join("jail");
    for _ in 0..2 {
        path = fs::read_dir(&path).expect("ours").flatten().next().expect("one").path();
    }
    path.join("root")
}

#[test]
fn a_guest_speaks_and_its_end_is_code_0() {
    let Some(driver) = driver("firecracker::a_guest_speaks_and_its_end_is_code_0") else { return };
    suite::a_guest_speaks_and_its_end_is_code_0(&driver, Then::Keyboard);
}

#[test]
fn a_running_machine_is_seen_killed_and_gone() {
    let name = "firecracker::a_running_machine_is_seen_killed_and_gone";
    let Some(driver) = driver(name) else { return };
    suite::a_running_machine_is_seen_killed_and_gone(&driver);
}

#[test]
fn a_machine_is_adopted_by_its_record() {
    let Some(driver) = driver("firecracker::a_machine_is_adopted_by_its_record") else { return };
    suite::a_machine_is_adopted_by_its_record(&driver);
}

#[test]
fn what_cannot_be_is_refused() {
    let Some(driver) = driver("firecracker::what_cannot_be_is_refused") else { return };
    suite::what_cannot_be_is_refused(&driver);
    // And what is this VMM's own.
    let kit = Kit::new("", Then::Keyboard);
    let wrong = |spec: Spec, driver: &Firecracker| {
        let error = driver.prepare(&spec, &kit.machine()).expect_err("refused");
        assert!(matches!(error, VmmError::Spec(_)), "{error}");
    };
    wrong(Spec { vcpus: 33, ..kit.spec() }, &driver);
    wrong(Spec { mark: Some("x".repeat(65)), ..kit.spec() }, &driver);
    wrong(Spec { card: Some((Link::Nowhere, [2, 0, 0, 0, 0, 9])), ..kit.spec() }, &driver);
    let (program, _) = programs().expect("it was there");
    let loose = Firecracker::new(&program, None).expect("it was there");
    assert!(loose.capabilities().no_own_user.is_some());
    wrong(Spec { user: Some(USER), ..kit.spec() }, &loose);
}

#[test]
fn what_is_no_kernel_does_not_start_and_leaves_nothing() {
    let name = "firecracker::what_is_no_kernel_does_not_start_and_leaves_nothing";
    let Some(driver) = driver(name) else { return };
    suite::what_is_no_kernel_does_not_start_and_leaves_nothing(&driver);
}

#[test]
fn a_vmm_has_no_rights_and_a_cap() {
    let name = "firecracker::a_vmm_has_no_rights_and_a_cap";
    let Some(driver) = jailed(name) else { return };
    suite::a_vmm_has_no_rights_and_a_cap(name, &driver);
}

#[test]
fn a_drive_that_is_not_there_is_refused_in_its_words() {
    let name = "firecracker::a_drive_that_is_not_there_is_refused_in_its_words";
    let Some(driver) = driver(name) else { return };
    let kit = Kit::new("up", Then::Talk);
    driver.prepare(&kit.spec(), &kit.machine()).expect("prepared");
    fs::remove_file(root_below(&kit.machine()).join("root.img")).expect("it was linked");
    match driver.start(kit.spec(), &kit.machine()).expect_err("no disk") {
        VmmError::Interface { command, why } => {
            assert_eq!(command, "PUT /drives/root");
            assert!(why.contains("root.img") || why.contains("No such file"), "{why}");
        }
        other => panic!("{other}"),
    }
    assert!(kit.processes().is_empty());
}

#[test]
fn a_vmm_that_ends_before_it_listens_is_told_in_its_words() {
    let name = "firecracker::a_vmm_that_ends_before_it_listens_is_told_in_its_words";
    let Some(driver) = driver(name) else { return };
    let kit = Kit::new("up", Then::Talk);
    driver.prepare(&kit.spec(), &kit.machine()).expect("prepared");
    // It cannot make its socket where a directory is.
    fs::create_dir(root_below(&kit.machine()).join("api")).expect("room");
    match driver.start(kit.spec(), &kit.machine()).expect_err("no socket") {
        VmmError::Start { said } => assert!(said.contains("rror"), "{said}"),
        other => panic!("{other}"),
    }
    assert!(kit.processes().is_empty());
}

#[test]
fn a_jailed_vmm_sees_its_machine_and_nothing_else() {
    let name = "firecracker::a_jailed_vmm_sees_its_machine_and_nothing_else";
    let Some(driver) = jailed(name) else { return };
    let kit = Kit::new("up", Then::Talk);
    let spec = || Spec { scratch_bytes: Some(16 << 20), ..kit.spec() };
    let machine = Ends(kit.start(&driver, Spec { user: Some(USER), ..spec() }));
    kit.hears("up");
    let seen = root_of(&machine.0);
    let ours = ["api", "dev", "initramfs", "kernel", "root.img", "run", "scratch.img", "vsock"];
    let ours: BTreeSet<String> = ours.map(str::to_owned).into();
    let program = programs().expect("it was there").0;
    let program = program.file_name().expect("a name").to_string_lossy().into_owned();
    let more: Vec<&String> =
        seen.difference(&ours).filter(|it| !it.starts_with(&program)).collect();
    assert!(more.is_empty() && ours.is_subset(&seen), "{seen:?}");
    // Of another one's, it can change nothing: neither the disk that all share, nor its record.
    let root = fs::metadata(kit.path("root.img")).expect("it was made");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&root), 0);
    assert_eq!(machine.0.kill().expect("killed"), Exit::Signal(9));
    // One without a jail sees all of this host.
    let loose = Ends(kit.start(&driver, spec()));
    assert!(root_of(&loose.0).is_superset(&["proc".to_owned(), "tmp".to_owned()].into()));
}

#[test]
fn a_crash_of_the_guest_is_the_end_of_its_machine() {
    let name = "firecracker::a_crash_of_the_guest_is_the_end_of_its_machine";
    let Some(driver) = driver(name) else { return };
    let kit = Kit::new("up", Then::Fault);
    let machine = Ends(kit.start(&driver, kit.spec()));
    // Which code it is, is a race within Firecracker: 0 tells nothing of the guest.
    let exit = machine.0.wait(HANG).expect("it ends");
    assert!(matches!(exit, Exit::Code(_)), "{exit:?}");
    kit.hears("up");
}

#[test]
fn a_guest_is_stored_and_restored_where_it_was() {
    let name = "firecracker::a_guest_is_stored_and_restored_where_it_was";
    let Some(driver) = driver(name) else { return };
    let user = driver.capabilities().no_own_user.is_none().then_some(USER);
    let kit = Kit::new("booted", Then::Talk);
    let machine = Ends(kit.start(&driver, Spec { user, ..kit.spec() }));
    kit.hears("booted..");
    let snapshot = kit.path("snapshot");
    machine.0.store(&snapshot).expect("stored");
    assert_eq!(machine.0.status(), Status::Ended(Exit::Signal(9)));
    // It goes on talking, and does not say again what it said when it booted.
    let path = kit.path("restored");
    let restored = |change: fn(&mut Spec)| {
        let mut spec = Spec { user, snapshot: Some(snapshot.clone()), ..kit.spec() };
        change(&mut spec);
        driver.prepare(&spec, &path).expect("prepared");
        driver.start(spec, &path)
    };
    let begun = Instant::now();
    let again = Ends(restored(|_| {}).expect("restored"));
    println!("a guest of 128 MiB is restored in {:?}", begun.elapsed());
    hears(&path, "..");
    let console = again.0.console().expect("a console");
    assert!(console.iter().all(|byte| *byte == b'.'), "{}", String::from_utf8_lossy(&console));
    // What is stored of it leaves the snapshot it came from as it is.
    let before = fs::read(snapshot.with_extension("memory")).expect("it is there");
    again.0.store(&kit.path("second")).expect("stored");
    assert!(before == fs::read(snapshot.with_extension("memory")).expect("it is there"));
    // Another kind of machine is not restored from it.
    let other = restored(|spec| spec.vcpus = 2).expect_err("another machine");
    assert!(matches!(other, VmmError::Snapshot(_)), "{other}");
    // Who adopted a machine has not its interface.
    let adopted = restored(|_| {}).expect("restored");
    drop(adopted);
    let adopted = Ends(driver.attach(&path).expect("it runs"));
    let error = adopted.0.store(&kit.path("third")).expect_err("it is not ours");
    assert!(matches!(error, VmmError::Adopted), "{error}");
}

#[test]
fn what_is_restored_is_what_was_stored() {
    let name = "firecracker::what_is_restored_is_what_was_stored";
    let Some(driver) = driver(name) else { return };
    let kit = Kit::new("booted", Then::Talk);
    let machine = Ends(kit.start(&driver, kit.spec()));
    kit.hears("booted..");
    let snapshot = kit.path("snapshot");
    machine.0.store(&snapshot).expect("stored");
    let restored = || {
        let spec = || Spec { snapshot: Some(snapshot.clone()), ..kit.spec() };
        driver.prepare(&spec(), &kit.machine()).expect("prepared");
        driver.start(spec(), &kit.machine())
    };
    // One bit of the machine's state, and one of the guest's memory.
    for path in [snapshot.clone(), snapshot.with_extension("memory")] {
        // The twin: as it was it is restored, once by once.
        restored().expect("it is whole").kill().expect("killed");
        let file = fs::File::options().read(true).write(true).open(&path).expect("ours");
        let (mut byte, bytes) = ([0], file.metadata().expect("a file").len());
        file.read_exact_at(&mut byte, bytes / 2).expect("it is longer");
        file.write_all_at(&[byte[0] ^ 1], bytes / 2).expect("room");
        let refused = restored().expect_err("a bit of it is another");
        assert!(matches!(&refused, VmmError::Damaged(of) if *of == path), "{refused}");
        file.write_all_at(&byte, bytes / 2).expect("room");
        file.set_len(bytes + 1).expect("room");
        let refused = restored().expect_err("it is longer");
        assert!(matches!(&refused, VmmError::Damaged(of) if *of == path), "{refused}");
        file.set_len(bytes).expect("ours");
    }
    // It is for a guest of this disk.
    restored().expect("it is whole").kill().expect("killed");
    fs::write(kit.path("root.img"), vec![1; 1 << 20]).expect("room");
    let other = restored().expect_err("another disk");
    assert_eq!(other.to_string(), "the snapshot is of another machine: its root disk differs");
    assert!(kit.processes().is_empty());
}

#[test]
fn a_guest_that_does_not_listen_is_no_channel() {
    let name = "firecracker::a_guest_that_does_not_listen_is_no_channel";
    let Some(driver) = driver(name) else { return };
    assert!(driver.capabilities().no_channel.is_some());
    assert_eq!(driver.capabilities().accelerator, Accelerator::Kvm);
    let kit = Kit::new("up", Then::Talk);
    let machine = Ends(kit.start(&driver, kit.spec()));
    kit.hears("up");
    let error = machine.0.channel(true, Duration::from_millis(300)).expect_err("it is deaf");
    let told = error.to_string();
    assert!(told.contains("in time") || told.contains("closed"), "{told}");
    assert_eq!(machine.0.status(), Status::Running);
}

/// A TAP that stays until the test ends.
struct Tap(String);

impl Tap {
    fn new(name: &str, owner: u32) -> Result<Self, String> {
        let owner = owner.to_string();
        let made = Command::new("ip")
            .args(["tuntap", "add", "dev", name, "mode", "tap", "user", &owner])
            .output()
            .map_err(|_| "ip is not installed".to_owned())?;
        match made.status.success() {
            true => Ok(Self(name.to_owned())),
            false => Err("may not make a TAP".to_owned()),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["tuntap", "del", "dev", &self.0, "mode", "tap"]).output();
    }
}

#[test]
fn a_card_is_one_that_stays_and_is_the_vmms() {
    let name = "firecracker::a_card_is_one_that_stays_and_is_the_vmms";
    let Some(driver) = jailed(name) else { return };
    assert!(is_root());
    if !Path::new("/dev/net/tun").exists() {
        return not_run(name, "there is no /dev/net/tun");
    }
    let device = |letter: char| format!("vyr{letter}{}", std::process::id());
    let ours = match Tap::new(&device('a'), USER.0) {
        Ok(tap) => tap,
        Err(why) => return not_run(name, &why),
    };
    let others = Tap::new(&device('b'), USER.0 + 1).expect("as the first");
    let kit = Kit::new("up", Then::Talk);
    let spec = |device: &str| {
        let link = Link::Tap(open_tap(device, None).expect("a TAP"));
        Spec { user: Some(USER), card: Some((link, [2, 0, 0, 0, 0, 9])), ..kit.spec() }
    };
    let machine = Ends(kit.start(&driver, spec(&ours.0)));
    kit.hears("up");
    // The VMM has it open: the device is carried.
    let carrier = Command::new("ip").args(["link", "set", &ours.0, "up"]).status();
    assert!(carrier.expect("ip ran before").success());
    let told = fs::read_to_string(format!("/sys/class/net/{}/carrier", ours.0));
    assert_eq!(told.expect("a device").trim(), "1");
    for (device, why) in [(&others.0, "user"), (&device('c'), "ends with its descriptor")] {
        driver.prepare(&spec(device), &kit.path("refused")).expect("prepared");
        let error = driver.start(spec(device), &kit.path("refused")).expect_err("refused");
        assert!(matches!(&error, VmmError::Spec(said) if said.contains(why)), "{error}");
    }
    drop(machine);
}
