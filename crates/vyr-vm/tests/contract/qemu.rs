//! QEMU's `microvm`, by emulation.

use vyr_vm::vmm::Qemu;

use crate::guest::Then;
use crate::kit::{in_path, not_run};
use crate::suite;

fn driver(test: &str) -> Option<Qemu> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        not_run(test, "the guest is one for x86-64");
    } else if in_path("qemu-system-x86_64").is_none() {
        not_run(test, "qemu-system-x86_64 is not installed");
    } else {
        return Some(Qemu::emulated("what a driver does is the same").expect("QEMU is installed"));
    }
    None
}

#[test]
fn a_guest_speaks_and_its_end_is_code_0() {
    let Some(driver) = driver("qemu::a_guest_speaks_and_its_end_is_code_0") else { return };
    suite::a_guest_speaks_and_its_end_is_code_0(&driver, Then::Fault);
}

#[test]
fn a_running_machine_is_seen_killed_and_gone() {
    let Some(driver) = driver("qemu::a_running_machine_is_seen_killed_and_gone") else { return };
    suite::a_running_machine_is_seen_killed_and_gone(&driver);
}

#[test]
fn a_machine_is_adopted_by_its_record() {
    let Some(driver) = driver("qemu::a_machine_is_adopted_by_its_record") else { return };
    suite::a_machine_is_adopted_by_its_record(&driver);
}

#[test]
fn what_cannot_be_is_refused() {
    let Some(driver) = driver("qemu::what_cannot_be_is_refused") else { return };
    suite::what_cannot_be_is_refused(&driver);
}

#[test]
fn what_is_no_kernel_does_not_start_and_leaves_nothing() {
    let name = "qemu::what_is_no_kernel_does_not_start_and_leaves_nothing";
    let Some(driver) = driver(name) else { return };
    suite::what_is_no_kernel_does_not_start_and_leaves_nothing(&driver);
}

#[test]
fn a_vmm_has_no_rights_and_a_cap() {
    let name = "qemu::a_vmm_has_no_rights_and_a_cap";
    let Some(driver) = driver(name) else { return };
    suite::a_vmm_has_no_rights_and_a_cap(name, &driver);
}
