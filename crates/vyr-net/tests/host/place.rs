//! Network namespaces, and what is in them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Says that `test` was not run, and why: to a reader, and to `cargo xtask ci`, which compares it
/// with `xtask/not-run.txt`.
pub(crate) fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        // One write, so that lines of tests at once do not mix.
        log.and_then(|mut log| log.write_all(format!("{test}: {reason}\n").as_bytes()))
            .expect("the log can be written");
    }
}

fn is_installed(program: &str, question: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok()
}

/// Whether what a test needs is there; says so if not.
pub(crate) fn is_able(test: &str, programs: &[&str]) -> bool {
    let mut missing = Vec::new();
    for program in ["ip", "unshare"].iter().chain(programs) {
        if !is_installed(program, "--version") {
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
                if space.try_run("nft", &["add", "table", "inet", "vyr"]).is_err() {
                    missing.push("nftables does not work here".into());
                }
            }
            Some(_) => (),
        }
    }
    missing.iter().for_each(|reason| not_run(test, reason));
    missing.is_empty()
}

/// A network namespace. It is there as long as its keeper, which ends when nobody holds the other
/// end of its stdin any more.
pub(crate) struct Namespace {
    keeper: Child,
    file: File,
}

impl Namespace {
    pub(crate) fn make() -> Option<Self> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo here; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let said = BufReader::new(keeper.stdout.take()?).read_line(&mut line);
        let file = File::open(format!("/proc/{}/ns/net", keeper.id()));
        match (said, line.as_str(), file) {
            (Ok(_), "here\n", Ok(file)) => Some(Self { keeper, file }),
            _ => {
                let _ = keeper.kill();
                let _ = keeper.wait();
                None
            }
        }
    }

    /// A number by which `ip` knows it.
    pub(crate) fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// Does something inside: sockets made there and programs started there stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.file.as_fd(), network).expect("it can be entered");
            work()
        };
        // A thread's namespace is its own, and ends with it.
        std::thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| {
            std::panic::resume_unwind(panic);
        })
    }

    pub(crate) fn try_run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let output = self.inside(|| Command::new(program).args(arguments).output());
        let output = output.map_err(|e| format!("{program}: {e}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// What a program says, which must end well. Words are separated by spaces.
    pub(crate) fn run(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let program = words.next().expect("a program");
        let arguments: Vec<&str> = words.collect();
        self.try_run(program, &arguments).unwrap_or_else(|e| panic!("{line}: {e}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
