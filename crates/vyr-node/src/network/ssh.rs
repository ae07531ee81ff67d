//! A host asked over OpenSSH: the program `ssh`, with the user's own configuration and agent.
//!
//! ```text
//! vyr --stdin--> ssh ==== sshd --> vyr __network-agent      ends when the connection does
//!     <-stdout--                                            one connection for each question
//! ```
//!
//! Invariants:
//! 1. A host is the one whose key the site has, or nothing is said to it: what the user's
//!    configuration would believe besides does not count.
//! 2. Each question is a new connection: an old one may live on where no new one can begin.
//! 3. Nothing that was typed reaches a shell unescaped, and every wait ends.
//!
//! Not here: what is said (`wire`, `vyr_net::words`).

mod address;
mod error;

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vyr_net::words::{Answer, Request, WordsError, quoted};

pub use self::address::SshAddress;
pub use self::error::{Said, SshError};
use super::wire::{Remote, RemoteError};

/// How long `ssh` may take to be let in.
const CONNECT_S: u8 = 10;

/// How long an answer may take: another's change (30 s), then all steps of one.
const ANSWER_PATIENCE: Duration = Duration::from_secs(120);

/// What a probe adds to it.
const PROBE_PATIENCE: Duration = Duration::from_secs(6);

/// Bytes a second of the slowest line that is put up with: what a plan's size adds to it.
const LINE_BYTES_S: u64 = 16 << 10;

/// How long `ssh` may take to end when all was said.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Lines of what `ssh` said last, and bytes of each, that are kept.
const SAID_LINES_MAX: usize = 12;
const SAID_BYTES_MAX: u64 = 300;

/// A host, and how it is asked.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// Where it is.
    pub address: SshAddress,
    /// The file of host keys, OpenSSH's own form: the site's, and no other counts.
    pub known_hosts: PathBuf,
    /// The program there.
    pub vyr: String,
    /// Its data directory there; none: what it takes itself.
    pub data_dir: Option<String>,
}

impl Ssh {
    /// Asks over a new connection, and waits for the answer.
    pub fn ask(&self, request: &Request) -> Result<Answer, SshError> {
        if !self.known_hosts.is_file() {
            let (path, host) = (self.known_hosts.clone(), self.address.clone());
            return Err(SshError::NoKnownHosts { path, host });
        }
        let arguments = self.arguments()?;
        let patience = match request {
            Request::Apply(apply) => {
                let probes = u32::try_from(apply.probes.len()).unwrap_or(u32::MAX);
                let line = Duration::from_secs(apply.plan.0.len() as u64 / LINE_BYTES_S);
                ANSWER_PATIENCE + PROBE_PATIENCE.saturating_mul(probes) + line
            }
            Request::Rebuild(rebuild) => {
                ANSWER_PATIENCE + Duration::from_secs(rebuild.bundle.0.len() as u64 / LINE_BYTES_S)
            }
            _ => ANSWER_PATIENCE,
        };
        let mut child = Command::new("ssh")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(SshError::Program)?;
        let said = child.stderr.take().map(listen);
        let pipes = child.stdout.take().zip(child.stdin.take());
        let (reader, writer) =
            pipes.ok_or_else(|| SshError::Program(io::Error::other("no pipe")))?;
        let (send, done) = channel();
        let request = request.clone();
        // Reading and writing pipes has no wait that ends; this thread ends when `ssh` does.
        std::thread::spawn(move || {
            let asked = Remote::open(reader, writer).map_err(|error| (false, error));
            let asked = asked.and_then(|mut it| it.ask(&request).map_err(|error| (true, error)));
            let _ = send.send(asked);
        });
        let asked = done.recv_timeout(patience);
        if asked.is_err() {
            let _ = child.kill();
        }
        let status = end(&mut child).map_err(SshError::Program)?;
        let host = self.address.clone();
        match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err((_, refused @ RemoteError::Refused { .. }))) => Err(refused.into()),
            Ok(Err((begun, RemoteError::Words(words)))) => {
                let said = said.map(|said| said.recv_timeout(END_PATIENCE).unwrap_or_default());
                Err(self.why(status, begun, words, said.unwrap_or_default()))
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(SshError::Slow { host, patience })
            }
        }
    }

    /// What went wrong, from how `ssh` ended and what it said last.
    fn why(
        &self,
        status: Option<ExitStatus>,
        begun: bool,
        words: WordsError,
        said: Said,
    ) -> SshError {
        let host = self.address.clone();
        let has = |what: &str| said.0.iter().any(|line| line.contains(what));
        let lost = matches!(words, WordsError::Cut | WordsError::Silence | WordsError::Io(_));
        let code = status.and_then(|status| status.code());
        match code {
            _ if !lost => words.into(),
            _ if begun => SshError::Lost { host, said: said.whole() },
            Some(255) if HOST_KEY.iter().any(|what| has(what)) => {
                SshError::HostKey { host, path: self.known_hosts.clone(), said: said.whole() }
            }
            Some(255) if has("Permission denied") || has("Too many authentication failures") => {
                SshError::Denied { host, said: said.whole() }
            }
            Some(126 | 127) => {
                SshError::NoVyr { host, program: self.vyr.clone(), said: said.whole() }
            }
            _ => SshError::Unreachable { host, said: said.whole() },
        }
    }

    /// What `ssh` is started with. The first value of an option counts, and these come before the
    /// user's configuration.
    fn arguments(&self) -> Result<Vec<String>, SshError> {
        let options = [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", option_path(&self.known_hosts)?),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "KnownHostsCommand=none".to_owned(),
            "VerifyHostKeyDNS=no".to_owned(),
            "NoHostAuthenticationForLocalhost=no".to_owned(),
            // It would write into the site's file.
            "UpdateHostKeys=no".to_owned(),
            // No connection of before is used again, and none is left.
            "ControlMaster=no".to_owned(),
            "ControlPath=none".to_owned(),
            "ClearAllForwardings=yes".to_owned(),
            "ForwardAgent=no".to_owned(),
            "ForwardX11=no".to_owned(),
            "PermitLocalCommand=no".to_owned(),
            "RemoteCommand=none".to_owned(),
            format!("ConnectTimeout={CONNECT_S}"),
            "ConnectionAttempts=1".to_owned(),
            // A connection that is dead is told from one that is slow.
            "ServerAliveInterval=5".to_owned(),
            "ServerAliveCountMax=3".to_owned(),
        ];
        let mut all = vec!["-T".to_owned()];
        for option in options {
            all.extend(["-o".to_owned(), option]);
        }
        if let Some(user) = &self.address.user {
            all.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.address.port {
            all.extend(["-p".to_owned(), port.to_string()]);
        }
        let mut command = vec![word(&self.vyr)?];
        if let Some(directory) = &self.data_dir {
            command.extend(["--data-dir".to_owned(), word(directory)?]);
        }
        command.push("__network-agent".to_owned());
        all.extend(["--".to_owned(), self.address.host.clone(), command.join(" ")]);
        Ok(all)
    }
}

/// What `ssh` says of a host whose key is not the one that is known.
const HOST_KEY: [&str; 3] =
    ["Host key verification failed", "host key is known for", "REMOTE HOST IDENTIFICATION"];

/// A word for the login shell of another host, which takes it as it is.
fn word(text: &str) -> Result<String, SshError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
        return Err(SshError::Word(quoted(text)));
    }
    match text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Ok(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// A path as the value of an option. `ssh` divides it into words, and replaces `%` and `${}`.
fn option_path(path: &Path) -> Result<String, SshError> {
    let refuse = || SshError::Word(quoted(&path.display().to_string()));
    let path = std::path::absolute(path).map_err(SshError::Program)?;
    let text = path.to_str().ok_or_else(refuse)?;
    let bad = |c: char| c.is_control() || matches!(c, '"' | '\\' | '$' | '\'');
    match text.chars().any(bad) {
        true => Err(refuse()),
        false => Ok(format!("\"{}\"", text.replace('%', "%%"))),
    }
}

/// Reads what it says, to the end, and keeps the last lines.
fn listen(stderr: impl Read + Send + 'static) -> Receiver<Said> {
    let (send, said) = channel();
    std::thread::spawn(move || {
        let (mut from, mut kept) = (BufReader::new(stderr), Vec::new());
        loop {
            let mut line = Vec::new();
            match from.by_ref().take(SAID_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line);
            let shown: String = line.trim().chars().filter(|c| !c.is_control()).collect();
            // The frame around a warning says nothing.
            if shown.chars().any(|c| c != '@') {
                kept.push(shown);
            }
            if kept.len() > SAID_LINES_MAX {
                kept.remove(0);
            }
        }
        let _ = send.send(Said(kept));
    });
    said
}

/// Waits until it has ended, and ends it if it takes too long.
fn end(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
    let ended = process.and_then(|process| {
        let patience = Timespec::try_from(END_PATIENCE).unwrap_or_default();
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience))
    });
    if !matches!(ended, Ok(1..)) {
        let _ = child.kill();
    }
    child.wait().map(Some)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn ssh(vyr: &str, known_hosts: &str) -> Ssh {
        Ssh {
            address: "ssh://root@192.0.2.1:2222".parse().expect("an address"),
            known_hosts: known_hosts.into(),
            vyr: vyr.into(),
            data_dir: Some("/srv/it's here".into()),
        }
    }

    #[test]
    fn nothing_that_was_typed_reaches_a_shell_as_more_than_a_word() {
        let arguments = ssh("/opt/vyr;id", "/site/known_hosts").arguments().expect("words");
        let end = &arguments[arguments.len() - 3..];
        let command = r"'/opt/vyr;id' --data-dir '/srv/it'\''s here' __network-agent";
        assert_eq!(end, ["--", "192.0.2.1", command]);
        // A shell agrees.
        let shell = Command::new("sh").args(["-c", &format!("printf '%s\\n' {command}")]).output();
        let printed = String::from_utf8(shell.expect("sh is there").stdout).expect("text");
        let words: Vec<&str> = printed.lines().collect();
        assert_eq!(words, ["/opt/vyr;id", "--data-dir", "/srv/it's here", "__network-agent"]);
        for bad in ["", "-x", "a\nb"] {
            assert!(ssh(bad, "/site/known_hosts").arguments().is_err(), "{bad}");
        }
    }

    #[test]
    fn ssh_reads_our_options_as_they_are_meant() {
        let Ok(version) = Command::new("ssh").arg("-V").output() else {
            println!("not run: ssh is not installed");
            if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
                let line = "network::ssh::tests::ssh_reads_our_options_as_they_are_meant: ssh is \
                            not installed\n";
                let log = std::fs::OpenOptions::new().append(true).create(true).open(log);
                let written = log.and_then(|mut log| log.write_all(line.as_bytes()));
                written.expect("the log can be written");
            }
            return;
        };
        assert!(version.status.success());
        let mut arguments = ssh("vyr", "/a site/100%/known_hosts").arguments().expect("words");
        // It prints what it would do.
        arguments.insert(0, "-G".into());
        let said = Command::new("ssh").args(&arguments).output().expect("ssh is there");
        let said = String::from_utf8(said.stdout).expect("text");
        for line in [
            "stricthostkeychecking true",
            "userknownhostsfile \"/a site/100%/known_hosts\"",
            "globalknownhostsfile /dev/null",
            "updatehostkeys false",
            "batchmode yes",
            "user root",
            "port 2222",
            "hostname 192.0.2.1",
        ] {
            let plain = line.replace('"', "");
            assert!(said.lines().any(|one| one == line || one == plain), "{line} in {said}");
        }
        for bad in ["/a\"b", "/a\\b", "/${HOME}", "/a'b"] {
            assert!(ssh("vyr", bad).arguments().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_ssh_said_last_is_kept_short_and_visible() {
        let text = format!("@@@@\n\u{1b}[2J{}\n{}\nlast\r\n", "x".repeat(2000), "l\n".repeat(30));
        let said = listen(io::Cursor::new(text)).recv().expect("it ends");
        assert_eq!(said.0.len(), SAID_LINES_MAX);
        assert_eq!(said.0.last().map(String::as_str), Some("last"));
        assert!(!said.to_string().contains('\u{1b}'));
    }
}
