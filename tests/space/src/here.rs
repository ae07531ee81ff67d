//! What a machine has of what tests need.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::Namespace;

/// Says that `test` was not run, and why: to a reader, and to `cargo xtask ci`, which compares it
/// with `xtask/not-run.txt`.
pub fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        // One write, so that lines of tests at once do not mix.
        log.and_then(|mut log| log.write_all(format!("{test}: {reason}\n").as_bytes()))
            .expect("the log can be written");
    }
}

/// Whether a program is there: it can be started, whatever it says then.
pub fn is_installed(program: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok()
}

/// Whether namespaces can be made here, and these programs are there; says every reason if not.
/// With `nft` among them nftables must work as well.
pub fn is_able(test: &str, programs: &[&str]) -> bool {
    let mut missing = Vec::new();
    for program in ["ip", "unshare"].iter().chain(programs) {
        if !is_installed(program) {
            missing.push(format!("{program} is not installed"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        missing.push("needs root".into());
    }
    if missing.is_empty() {
        // Root in a container may have no right to make one, and a kernel no nftables.
        match Namespace::make() {
            None => missing.push("may not make network namespaces".into()),
            Some(space) if programs.contains(&"nft") => {
                if space.try_nft("add table inet vyr\n").is_err() {
                    missing.push("nftables does not work here".into());
                }
            }
            Some(_) => (),
        }
    }
    missing.iter().for_each(|reason| not_run(test, reason));
    missing.is_empty()
}
