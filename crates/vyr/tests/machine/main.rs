//! Machines with the kernel's own WireGuard, and a router that is thrown away with its disk.
//!
//! ```text
//!  this program: the office, with the site      qemu (TCG: no hardware is asked for)
//!    computer.rs  orders over virtio-serial  -->  agent.rs: this program again, as process 1
//!    office.rs    keys, plans, the bundle         vyr, wg, nft, ip, ping of this host
//!
//!    town:   client --- lan0 --- router A, later C --- lan1 --- printer (a namespace of the town)
//! ```
//!
//! Two machines are connected by two cables, which are sockets between two emulators. One is the
//! router. The other is the town: a client with a tunnel, and a printer behind the router. The
//! town stays on all the time; A is killed, and C boots with nothing but a disk that has the bundle.
//!
//! With `VYR_FULL` set only (`make test-full`). Times are printed, and are those of an emulated
//! processor: they say nothing of a real one.
//!
//! Without the usual harness, because process 1 of a machine is this program.

mod agent;
mod computer;
#[path = "../emulated/mod.rs"]
mod emulated;
mod killed;
mod office;
mod router;
mod suite;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::emulated::emulator;

fn main() -> ExitCode {
    // A container may have any program as its process 1; the machine's kernel adds a word.
    let word =
        std::env::args().find(|word| [agent::PLAIN, agent::WITH_DISK].contains(&word.as_str()));
    if let (1, Some(word)) = (std::process::id(), word) {
        println!("process 1 ends: {:?}", agent::live(&word));
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // More machines at once on two processors would only wait for each other.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    if std::env::var_os("VYR_FULL").is_some() {
        trials.push(trial(suite::RUNS, suite::the_tests_of_the_kernel_s_backend_run));
        trials.push(trial(suite::CAPS, suite::memory_is_capped_by_cgroups_of_version_2));
        trials.push(trial(killed::HOLDS, killed::who_dies_at_a_step_leaves_old_or_new));
        trials.push(trial(router::HOLDS, router::a_router_is_thrown_away_and_made_again));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, body: fn()) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        body();
        Ok(())
    })
}

/// Sees to it that there can be machines, and cables between them; says so if not.
fn can_run(test: &str) -> bool {
    let all = [&computer::PROGRAMS[..], &["ssh-keygen"]].concat();
    if !emulator::can_run(test, &all) {
        return false;
    }
    let kinds = Command::new("qemu-system-x86_64").args(["-netdev", "help"]).output();
    let kinds = kinds.expect("qemu was looked for").stdout;
    let has_cables = String::from_utf8_lossy(&kinds).lines().any(|kind| kind.trim() == "dgram");
    if !has_cables {
        emulator::not_run(test, "qemu has no dgram networks");
    }
    has_cables
}
