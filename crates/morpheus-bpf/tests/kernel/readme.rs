//! The program of the README, as it stands there, with an agent as a person would start it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::place::{missing, not_run, object};

#[path = "../../../morpheus/examples/guided.rs"]
#[expect(dead_code, reason = "its main has the address of the README")]
mod guided;

const README: &str = include_str!("../../../morpheus/README.md");
const PROGRAM: &str = include_str!("../../../morpheus/examples/guided.rs");

/// Ended with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_readme_has_this_program() {
    let (_, code) = PROGRAM.split_once("\n\n").expect("what it is, then what it does");
    assert!(README.contains(code), "the README and examples/guided.rs differ");
}

#[test]
fn the_program_of_the_readme_gets_hints_from_the_kernel() {
    if let Some(missing) = missing() {
        return not_run(&missing);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("agent.sock");
    let agent = Command::new(env!("CARGO_BIN_EXE_morpheus-agent"))
        .arg(&socket)
        .env("VYR_BPF_OBJECT", object().expect("it was built"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut agent = Agent(agent);
    let mut line = String::new();
    let stdout = agent.0.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("it says something");
    assert!(line.contains("tier observe"), "{line}");
    // As often as it takes for anything else of the machine to want one of its processors.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut report = guided::run(&socket).expect("it runs");
    while report.workers.iter().all(|worker| worker.kernel_hints == 0) {
        assert!(std::time::Instant::now() < end, "{report:?}");
        report = guided::run(&socket).expect("it runs");
    }
    assert!(report.workers.iter().any(|worker| worker.yields[0].1 > 0), "{report:?}");
}
