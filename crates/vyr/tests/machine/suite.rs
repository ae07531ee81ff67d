//! Tests that say elsewhere that there is no kernel to try it with: those of the kernel's backend
//! (`crates/vyr-net/tests/host/kernel.rs`), and caps of memory by version 2 of cgroups
//! (`crates/vyr-vm/src/vmm/cgroup.rs`) where the host has version 1.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::can_run;
use crate::computer::{Computer, Parts, initramfs};

pub(crate) const RUNS: &str = "machine::the_tests_of_the_kernel_s_backend_run";
pub(crate) const CAPS: &str = "machine::memory_is_capped_by_cgroups_of_version_2";

/// Those that need the kernel's WireGuard.
const MUST_RUN: [&str; 3] = [
    "kernel::a_tunnel_is_made_changed_and_removed",
    "kernel::a_thousand_peers_are_set_and_read",
    "kernel::the_probe_says_whether_there_is_wireguard",
];
/// The one that needs a kernel without it.
const MAY_NOT_RUN: &str = "kernel::without_wireguard_nothing_is_begun: the kernel has WireGuard\n";

/// Compiled tests: cargo says where they are, and makes them if nobody has yet.
fn tests(which: &[&str], target: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // With the whole workspace, so that what `cargo xtask ci` has built is built no second time.
    command.args(["test", "--offline", "--workspace", "--no-run"]).args(which);
    command.args(["--message-format", "json"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let is_it =
        |message: &Value| message["target"]["name"] == target && message["profile"]["test"] == true;
    let mut paths =
        messages.filter(is_it).filter_map(|of| of["executable"].as_str().map(PathBuf::from));
    paths.next_back().expect("cargo names it")
}

/// Runs some of them in a machine of their own; what they printed.
fn run(name: &str, tests: &Path, script: &str, more: impl FnOnce(&Computer)) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let image = directory.path().join("initramfs");
    initramfs(&image, &[("tests", tests)]);
    let parts = Parts { name, initramfs: &image, disk: None, cables: &[] };
    let machine = Computer::start(directory.path(), &parts);
    println!("{}", machine.shell("cat /proc/version").trim());
    let done = machine.run(&["sh", "-c", script], b"");
    println!("{}", done.output.trim());
    assert_eq!(done.code, Some(0), "{}\n{}", done.output, done.said);
    more(&machine);
    done.output
}

pub(crate) fn memory_is_capped_by_cgroups_of_version_2() {
    if !can_run(CAPS) {
        return;
    }
    let tests = tests(&["--lib"], "vyr_vm");
    let said = run("caps", &tests, "tests vmm::cgroup:: --test-threads 1 --nocapture", |_| ());
    assert!(said.contains("cgroups of version 2"), "{said}");
    assert!(said.contains("test result: ok. 2 passed; 0 failed"), "{said}");
}

pub(crate) fn the_tests_of_the_kernel_s_backend_run() {
    if !can_run(RUNS) {
        return;
    }
    let tests = tests(&["--test", "host"], "host");
    let script = "VYR_NOT_RUN_LOG=/data/log tests kernel:: --test-threads 1 --nocapture";
    let said = run("kernel", &tests, script, |machine| {
        assert_eq!(machine.shell("cat /data/log"), MAY_NOT_RUN, "only that one is not run");
        // What both say is the tests' own; that there is such a link says the kernel.
        machine.shell(
            "ip link add vyr-try type wireguard; ip -d link show vyr-try; ip link del vyr-try",
        );
    });
    assert!(said.contains("test result: ok. 4 passed; 0 failed"), "{said}");
    for test in MUST_RUN {
        assert!(said.contains(&format!("test {test} ... ")), "{test} is not among them");
    }
}
