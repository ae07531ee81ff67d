//! The first process of a guest.
//!
//! ```text
//!  boot: file systems, modules, root disk -> wait for Hello -> (a snapshot may be made here)
//!  Start: seed -> root -> network -> secrets -> memory -> prestart -> workload
//!  one thread each: reader of the channel, its writer, reaper, and one a pipe
//! ```
//!
//! Invariants:
//! 1. Nothing of an instance is known, mounted or configured before `Start`: a snapshot made before
//!    it is every instance's.
//! 2. The workload is never held up by a host that does not read: its lines are dropped, counted and
//!    told, its sessions wait.
//! 3. How the workload ended is kept until the host said `PowerOff`, through any number of hosts.
//!
//! It trusts the host. It is trusted by nobody: what it says is judged by the host's bounds. A panic
//! here is a panic of the kernel, which ends the machine.

mod boot;
mod guest;
mod health;
mod log;
mod memory;
mod network;
mod port;
mod random;
mod reap;
mod root;
mod run;
mod session;
mod start;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let _name = arguments.next();
    if std::env::args_os().nth(1).is_some_and(|first| first == run::WORD) {
        let _word = arguments.next();
        return run::become_workload(arguments);
    }
    if std::process::id() != 1 {
        eprintln!("vyr-init is the first process of a guest and nothing else");
        return ExitCode::from(2);
    }
    let why = match boot::boot() {
        Ok(port) => port::serve(port),
        Err(why) => why,
    };
    // The console has it, and the machine ends with its first process.
    println!("vyr-init: {why}");
    ExitCode::FAILURE
}
