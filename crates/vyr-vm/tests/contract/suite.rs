//! The tests themselves, for any driver.

use std::fs;
use std::time::{Duration, Instant};

use vyr_vm::vmm::{Cgroups, Exit, Machine, Spec, Status, Vmm, VmmError, console_of};

use crate::guest::Then;
use crate::kit::{Ends, HANG, Kit, is_root, not_run, rights, status};

/// Nobody's numbers.
pub(crate) const USER: (u32, u32) = (64_331, 64_332);

fn vmm(driver: &impl Vmm) -> String {
    driver.capabilities().vmm
}

/// `end`: how a guest ends a machine of this VMM.
pub(crate) fn a_guest_speaks_and_its_end_is_code_0(driver: &impl Vmm, end: Then) {
    let kit = Kit::new("hello from a guest", end);
    let begun = Instant::now();
    let machine = Ends(kit.start(driver, kit.spec()));
    let started = begun.elapsed();
    assert_eq!(machine.0.wait(HANG).expect("it ends"), Exit::Code(0));
    println!("{}: started in {started:?}, ended in {:?}", vmm(driver), begun.elapsed());
    assert_eq!(machine.0.status(), Status::Ended(Exit::Code(0)));
    kit.hears("hello from a guest");
    let told = console_of(&kit.machine()).expect("a console");
    assert_eq!(told, machine.0.console().expect("a console"));
    let gone = driver.attach(&kit.machine()).err().expect("it is gone");
    assert!(matches!(gone, VmmError::NotRunning(_)), "{gone}");
}

pub(crate) fn a_running_machine_is_seen_killed_and_gone(driver: &impl Vmm) {
    let kit = Kit::new("up", Then::Talk);
    let machine = Ends(kit.start(driver, kit.spec()));
    kit.hears("up..");
    assert_eq!(machine.0.status(), Status::Running);
    let waited = machine.0.wait(Duration::ZERO).expect_err("it runs");
    assert!(matches!(waited, VmmError::TimedOut), "{waited}");
    let pid = kit.process();
    assert_eq!(machine.0.kill().expect("killed"), Exit::Signal(9));
    assert_eq!(machine.0.status(), Status::Ended(Exit::Signal(9)));
    // Twice is once.
    assert_eq!(machine.0.kill().expect("killed"), Exit::Signal(9));
    assert!(kit.processes().is_empty(), "{pid}");
}

pub(crate) fn a_machine_is_adopted_by_its_record(driver: &impl Vmm) {
    let kit = Kit::new("up", Then::Talk);
    drop(kit.start(driver, kit.spec()));
    kit.hears("up.");
    let machine = Ends(driver.attach(&kit.machine()).expect("it runs on"));
    assert_eq!(machine.0.status(), Status::Running);
    // It is heard on.
    let before = machine.0.console().expect("a console").len();
    kit.hears(&".".repeat(before));
    let foreign = driver.attach(&kit.path("none")).err().expect("nothing is there");
    assert!(matches!(foreign, VmmError::NotRunning(_)), "{foreign}");
    assert_eq!(machine.0.kill().expect("killed"), Exit::Unknown);
    let gone = driver.attach(&kit.machine()).err().expect("it is gone");
    assert!(matches!(gone, VmmError::NotRunning(_)), "{gone}");
}

pub(crate) fn what_cannot_be_is_refused(driver: &impl Vmm) {
    let kit = Kit::new("up", Then::Talk);
    let refused: [fn(&mut Spec); 6] = [
        |spec| spec.memory_bytes = 64 << 20,
        |spec| spec.memory_bytes += 1,
        |spec| spec.vcpus = 0,
        |spec| spec.vcpus = 65,
        |spec| spec.mark = Some("a b".into()),
        |spec| spec.cgroup = Some("../up".into()),
    ];
    for (number, change) in refused.into_iter().enumerate() {
        let mut spec = kit.spec();
        change(&mut spec);
        let error = driver.prepare(&spec, &kit.machine()).expect_err("refused");
        assert!(matches!(error, VmmError::Spec(_)), "{number}: {error}");
        let error = driver.start(spec, &kit.machine()).err().expect("refused");
        assert!(matches!(error, VmmError::Spec(_)), "{number}: {error}");
    }
    // The same without a change is taken.
    let _machine = Ends(kit.start(driver, kit.spec()));
    kit.hears("up");
}

pub(crate) fn what_is_no_kernel_does_not_start_and_leaves_nothing(driver: &impl Vmm) {
    let kit = Kit::with_kernel(b"no kernel");
    driver.prepare(&kit.spec(), &kit.machine()).expect("nobody has looked yet");
    let error = driver.start(kit.spec(), &kit.machine()).err().expect("no kernel");
    let why = match error {
        VmmError::Start { said } => said,
        VmmError::Interface { why, .. } => why,
        other => panic!("{other}"),
    };
    assert!(why.to_lowercase().contains("kernel"), "{why}");
    assert!(kit.processes().is_empty());
    let gone = driver.attach(&kit.machine()).err().expect("nothing runs");
    assert!(matches!(gone, VmmError::NotRunning(_)), "{gone}");
}

pub(crate) fn a_vmm_has_no_rights_and_a_cap(name: &str, driver: &impl Vmm) {
    if !is_root() {
        return not_run(name, "needs root");
    }
    let groups = match Cgroups::find() {
        Ok(groups) => groups,
        Err(why) => return not_run(name, &format!("no cgroup can be made: {why}")),
    };
    let kit = Kit::new("up", Then::Talk);
    let cgroup = format!("contract-{}", std::process::id());
    let group = groups.path().join(&cgroup);
    let spec = Spec { user: Some(USER), cgroup: Some(cgroup), ..kit.spec() };
    let machine = Ends(kit.start(driver, spec));
    kit.hears("up");
    let pid = kit.process();
    assert_eq!(rights(pid, USER), Vec::<String>::new());
    println!("{} with a guest of 128 MiB: {}", vmm(driver), status(pid, "VmRSS"));
    // The same is seen of a process that has rights.
    assert!(rights(std::process::id(), USER).len() > 3);
    let read = |file: &str| fs::read_to_string(group.join(file)).expect("a file");
    assert!(read("cgroup.procs").lines().any(|line| line == pid.to_string()));
    let v2 = group.join("memory.max").exists();
    let limit = read(if v2 { "memory.max" } else { "memory.limit_in_bytes" });
    let limit: u64 = limit.trim().parse().expect("a number");
    assert!((128 << 20..=512 << 20).contains(&limit), "{limit}");
    machine.0.kill().expect("killed");
    assert!(!group.exists(), "the group is gone with it");
}
