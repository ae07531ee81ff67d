//! Network namespaces, and what is done in them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// A network namespace. It is there as long as its keeper, which ends when nobody holds the other
/// end of its stdin any more.
#[derive(Debug)]
pub struct Namespace {
    keeper: Child,
    file: File,
}

impl Namespace {
    /// A new one, without a link that is up; none: this process may not.
    pub fn make() -> Option<Self> {
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

    /// The process whose namespace it is: a number by which `ip` knows it.
    pub fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// Does something inside: sockets made there and programs started there stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
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

    /// Runs a program inside; what it printed, or what it said if it did not end well.
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
        self.inside(|| {
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|e| format!("{program}: {e}"))?;
            let mut stdin = child.stdin.take().expect("it is piped");
            // Who ends without reading says why.
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            let output = child.wait_with_output().expect("it ends");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            match output.status.success() {
                true => Ok(text(&output.stdout)),
                false => Err(text(&output.stderr)),
            }
        })
    }

    /// What a program says, which must end well. Words are separated by spaces.
    #[track_caller]
    pub fn line(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let program = words.next().expect("a program");
        let arguments: Vec<&str> = words.collect();
        self.run(program, &arguments, "").unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    /// Commands of `ip`, a line each, which must all be good.
    #[track_caller]
    pub fn ip(&self, commands: &str) {
        let done = self.run("ip", &["-batch", "-"], commands);
        done.unwrap_or_else(|e| panic!("ip: {e}\n{commands}"));
    }

    /// One transaction, in nftables' own language or in JSON. From a file: what `nft -j` cannot
    /// parse it reads again as its own language, and a pipe is empty by then, which is no error.
    pub fn try_nft(&self, commands: &str) -> Result<String, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(commands.as_bytes()).expect("it is written");
        let path = file.path().to_str().expect("UTF-8");
        let json = commands.starts_with('{');
        let arguments: &[&str] = if json { &["-j", "-f", path] } else { &["-f", path] };
        self.run("nft", arguments, "")
    }

    /// The same, of what is good.
    #[track_caller]
    pub fn nft(&self, commands: &str) {
        self.try_nft(commands).unwrap_or_else(|e| panic!("nft: {e}"));
    }

    /// What a set of nftables' family `inet` has in it.
    pub fn elements(&self, table: &str, set: &str) -> Vec<Value> {
        let asked = self.run("nft", &["-j", "list", "set", "inet", table, set], "");
        let text = asked.unwrap_or_else(|e| panic!("nft: {e}"));
        let listed: Value = serde_json::from_str(&text).expect("JSON");
        let found = listed["nftables"].as_array().expect("a list").iter();
        let found = found.filter_map(|object| object["set"]["elem"].as_array());
        found.flatten().cloned().collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
