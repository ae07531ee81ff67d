//! `morpheus-agent [--psi] SOCKET`: an agent that listens at a new socket until SIGTERM or SIGINT.
//!
//! Its first line on stdout says its tier and why there is no higher one; from then on it answers.
//! Where the kernel's programs cannot be had it ends with an error, unless `--psi` allows hints from
//! pressure files instead: nobody gets less than they asked for without being told.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use morpheus::agent::{Agent, Hinter, Psi};
use morpheus_bpf::{Observe, ObserveOptions, find_object, probe};
use signal_hook::consts::{SIGINT, SIGTERM};

const USAGE: &str = "usage: morpheus-agent [--psi] SOCKET";

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let psi = arguments.first().is_some_and(|first| first == "--psi");
    if psi {
        arguments.remove(0);
    }
    let [socket] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&PathBuf::from(socket), psi) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut said = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                said += &format!(": {cause}");
                source = cause.source();
            }
            eprintln!("morpheus-agent: {said}");
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &Path, psi: bool) -> Result<(), Box<dyn Error>> {
    let observe = || -> Result<Observe, Box<dyn Error>> {
        let probe = probe();
        if !probe.observe.is_empty() {
            return Err(probe.why().into());
        }
        Ok(Observe::load(&find_object()?, ObserveOptions::default())?)
    };
    match observe() {
        Ok(observe) => serve(Agent::new(observe), socket),
        Err(why) if psi => serve(Agent::psi(Psi::new(why.to_string()))?, socket),
        Err(why) => Err(format!("{why}; --psi allows hints from pressure files instead").into()),
    }
}

fn serve<H: Hinter>(mut agent: Agent<H>, socket: &Path) -> Result<(), Box<dyn Error>> {
    let (stop, stopped) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    remove_if_abandoned(socket)?;
    agent.listen(socket).map_err(|e| format!("cannot listen at {}: {e}", socket.display()))?;
    let (tier, why) = (agent.hinter().tier(), agent.hinter().why());
    let mut stdout = io::stdout();
    writeln!(stdout, "{}: tier {tier} ({why})", socket.display())?;
    stdout.flush()?;
    let served = agent.run(stopped.as_fd());
    let _ = std::fs::remove_file(socket);
    Ok(served?)
}

/// A socket that nobody listens at stays when an agent is killed.
fn remove_if_abandoned(socket: &Path) -> io::Result<()> {
    match UnixStream::connect(socket) {
        // Not of its kind, so somebody is there; nobody is.
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(socket),
        _ => Ok(()),
    }
}
