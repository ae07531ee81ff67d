//! The `guide` process: it owns the kernel's programs and hands control blocks to `tasks`.
//!
//! One `guide` for each life of `tasks`, with one end of their socket on its stdin; it ends when
//! `tasks` does. It loads the programs before it listens, keeps two capabilities of what root has,
//! and reads nothing but descriptions of threads. When it is killed the programs are gone with it,
//! and a timer in `tasks` takes over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use morpheus::Tier;
use morpheus::agent::{Agent, Hinter, Psi, decline};
use rustix::event::{EventfdFlags, eventfd};

use super::confine::confine_guide;

/// The life of the process, from inside. Its argument: what the operator wants.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let fail = |what: String| {
        eprintln!("vyr guide: {what}");
        7
    };
    let psi_only = arguments.first().is_some_and(|wanted| wanted == "psi");
    let socket = match rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) {
        Ok(socket) => socket,
        Err(e) => return fail(format!("no socket on stdin: {e}")),
    };
    let served = match observe(psi_only) {
        Ok(agent) => run(agent, true, socket),
        Err(why) => match Agent::psi(Psi::new(why.clone())) {
            Ok(agent) => run(agent, false, socket),
            Err(e) => {
                let why = format!("{why}; psi: /proc/pressure/cpu: {e}");
                confine_guide(false).map_err(io::Error::other).and_then(|()| decline(&socket, &why))
            }
        },
    };
    match served {
        Ok(()) => 0,
        Err(e) => fail(e.to_string()),
    }
}

fn run<H: Hinter>(mut agent: Agent<H>, has_programs: bool, socket: OwnedFd) -> io::Result<()> {
    agent.add(socket)?;
    confine_guide(has_programs).map_err(io::Error::other)?;
    // Never readable: the end of `tasks`, or of the supervisor, is this process's end.
    let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
    agent.run(stop.as_fd())
}

#[cfg(feature = "bpf")]
fn observe(psi_only: bool) -> Result<Agent<morpheus_bpf::Observe>, String> {
    if psi_only {
        return Err("observe: psi was asked for".into());
    }
    let probe = morpheus_bpf::probe();
    if !probe.observe.is_empty() {
        return Err(probe.why());
    }
    let object = morpheus_bpf::find_object().map_err(|e| format!("observe: {e}"))?;
    let observe = morpheus_bpf::Observe::load(&object, morpheus_bpf::ObserveOptions::default())
        .map_err(|e| format!("observe: {e}"))?;
    Ok(Agent::new(observe))
}

#[cfg(not(feature = "bpf"))]
fn observe(_: bool) -> Result<Agent<Psi>, String> {
    Err(format!("observe: {NOT_BUILT}"))
}

/// The highest tier that this process could have, and why it is no higher one.
#[cfg(feature = "bpf")]
pub(crate) fn available() -> (Tier, String) {
    let probe = morpheus_bpf::probe();
    (probe.tier(), probe.why())
}

/// The highest tier that this process could have, and why it is no higher one.
#[cfg(not(feature = "bpf"))]
pub(crate) fn available() -> (Tier, String) {
    let psi = std::path::Path::new("/proc/pressure/cpu").exists();
    let why = format!("observe: {NOT_BUILT}");
    if psi { (Tier::Psi, why) } else { (Tier::Off, why + "; psi: no /proc/pressure/cpu") }
}

/// Why this binary has no kernel programs.
#[cfg(not(feature = "bpf"))]
const NOT_BUILT: &str = "this vyr was built without them (libelf was not there)";
