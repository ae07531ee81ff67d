//! The process `machines` with real microVMs. Without the usual harness, because the process is this
//! binary started again.

mod adopt;
mod door;
mod hold;
mod place;
mod snapshots;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use vyr_node::process::{Role, serve};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    if std::env::var_os(PLATFORM).is_none() {
        // Processes that are started from here find the platform in their environment.
        let again = Command::new("/proc/self/exe")
            .args(&arguments)
            .env(PLATFORM, place::platform())
            .status();
        let code = again.expect("this program starts").code().unwrap_or(1);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let trials = [door::trials(), adopt::trials(), hold::trials(), snapshots::trials()];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Names the platform's directory.
const PLATFORM: &str = "VYR_GUEST";

fn trial(name: &'static str, body: fn(&'static str)) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        let _turn = place::turn();
        body(name);
        Ok(())
    })
}
