//! The words: what each side may say, in postcard's form.
//!
//! A variant is known by its place, so new ones come last, and a change of any other kind is a new
//! [`VERSION`](crate::VERSION). `Hello` and `Welcome` begin with the version and keep their place
//! for ever: so two versions can tell each other that they differ.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Frame;

/// Bytes of a text that one side tells the other.
pub const WORDS_MAX: usize = 512;

/// A random number that an answer repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 16]);

/// From the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostMessage {
    /// The first one of a connection.
    Hello {
        /// Of the host.
        version: u16,
        /// The answer begins with it.
        nonce: Nonce,
    },
    /// Who the guest is and what it runs; once, and the first thing after a restore.
    Start(Box<Start>),
    /// Ends the workload: the signal, and SIGKILL once the grace has passed.
    Stop {
        /// A signal's number.
        signal: u8,
        /// In milliseconds.
        grace_ms: u64,
    },
    /// A signal to the workload.
    Signal(u8),
    /// Starts a session.
    Exec {
        /// From 1 to [`EXECS_MAX`](crate::EXECS_MAX), and free.
        id: u16,
        /// What runs.
        spec: ExecSpec,
    },
    /// The window of a session's terminal.
    Resize(u16, Window),
    /// A signal to a session.
    ExecSignal(u16, u8),
    /// Kills what is left of a session and forgets it.
    ExecClose(u16),
    /// Everything of a stream before this offset was taken.
    Ack(u16, u64),
    /// The machine may go.
    PowerOff,
}

/// From the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestMessage {
    /// The answer to `Hello`: everything that is so.
    Welcome {
        /// Of the guest.
        version: u16,
        /// From the `Hello`.
        nonce: Nonce,
        /// What the guest does.
        state: State,
    },
    /// How far the instance is.
    Phase(Phase),
    /// A session runs, or ended.
    Exec(ExecState),
    /// Everything of a stream before this offset was taken.
    Ack(u16, u64),
    /// The result of a health check.
    Health {
        /// Whether it passed.
        passed: bool,
        /// What was seen, bounded by [`WORDS_MAX`].
        seen: String,
    },
}

/// All that a guest tells who connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How far the instance is.
    pub phase: Phase,
    /// The sessions, at most [`EXECS_MAX`](crate::EXECS_MAX).
    pub execs: Vec<ExecState>,
    /// The release of the guest's kernel, as `uname -r` prints it.
    pub kernel: String,
}

/// How far an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing of the instance is known yet; a snapshot is made here.
    Blank,
    /// Between `Start` and the first process.
    Preparing,
    /// The command before the workload runs.
    Prestart,
    /// The workload runs.
    Running,
    /// It was told to end.
    Stopping,
    /// It ended.
    Ended(End),
    /// It never ran.
    Failed(Failure),
}

/// How a workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its exit code, unless a signal ended it.
    pub code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
}

/// Why a workload never ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was done.
    pub stage: Stage,
    /// Why, bounded by [`WORDS_MAX`]; never a secret.
    pub why: String,
}

/// The steps from `Start` to the first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Entropy and time.
    Seed,
    /// The scratch disk and the overlay.
    Root,
    /// Addresses, routes, names.
    Network,
    /// The secrets file.
    Secrets,
    /// The cgroup.
    Memory,
    /// The command before the workload.
    Prestart,
    /// The workload itself.
    Workload,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seed => "seed",
            Self::Root => "root file system",
            Self::Network => "network",
            Self::Secrets => "secrets",
            Self::Memory => "memory limit",
            Self::Prestart => "prestart",
            Self::Workload => "entrypoint",
        })
    }
}

/// Who the guest is and what it runs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Fresh from the host's generator.
    pub entropy: [u8; 32],
    /// The host's wall clock, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The guest's name.
    pub hostname: String,
    /// `None`: the guest has its loopback only.
    pub network: Option<Network>,
    /// The text of `/etc/resolv.conf`; empty: what the image has.
    pub resolv_conf: String,
    /// The text of `/etc/hosts`; empty: what the image has.
    pub hosts: String,
    /// The content of `/run/secrets/platform.env`.
    pub secrets: Option<Vec<u8>>,
    /// Whether the writable layer is the scratch disk; else it is in memory.
    pub scratch: bool,
    /// The command before the workload.
    pub prestart: Option<Prestart>,
    /// The workload.
    pub process: Process,
    /// A health check that the guest does.
    pub health: Option<Check>,
}

/// Without what is secret.
impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hostname, network, scratch, process, health, .. } = self;
        f.debug_struct("Start")
            .field("hostname", hostname)
            .field("network", network)
            .field("scratch", scratch)
            .field("process", process)
            .field("health", health)
            .finish_non_exhaustive()
    }
}

/// The addresses of `eth0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The address of the card.
    pub mac: [u8; 6],
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// The address, its prefix length and the gateway.
    pub ipv6: Route<Ipv6Addr>,
    /// Only for who was given one.
    pub ipv4: Option<Route<Ipv4Addr>>,
}

/// An address and the way to everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route<A> {
    /// Of the guest.
    pub address: A,
    /// Bits of the prefix.
    pub prefix: u8,
    /// Of the host; it need not be inside of the prefix.
    pub gateway: A,
}

/// What runs, and as whom.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program and its arguments; not empty.
    pub argv: Vec<String>,
    /// Names and values.
    pub env: Vec<(String, String)>,
    /// Numbers; names were resolved against the image's own files.
    pub uid: u32,
    /// As `uid`.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Absolute.
    pub workdir: String,
}

impl Process {
    /// `argv` as root, at `/`, with an empty environment.
    pub fn root<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            workdir: "/".into(),
        }
    }
}

/// Values of the environment may be private: their names are enough.
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Process")
            .field("argv", &self.argv)
            .field("env", &names)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("workdir", &self.workdir)
            .finish_non_exhaustive()
    }
}

/// A command that has to succeed before the workload starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prestart {
    /// What runs.
    pub process: Process,
    /// In milliseconds; afterwards it is killed, and the start has failed.
    pub timeout_ms: u64,
}

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Where: an address of the guest, its loopback as a rule.
    pub at: SocketAddr,
    /// `Some`: an HTTP GET of this path has to be answered with 200 to 399.
    pub path: Option<String>,
    /// From one check to the next, in milliseconds.
    pub interval_ms: u64,
    /// Of one check, in milliseconds.
    pub timeout_ms: u64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// What runs.
    pub process: Process,
    /// With a terminal of this size; its output is all on stdout.
    pub terminal: Option<Window>,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// A session as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// Its number.
    pub id: u16,
    /// How it ended, if it did.
    pub ended: Option<ExecEnd>,
    /// Bytes of its input that the guest has: a new host goes on here.
    pub stdin: u64,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecEnd {
    /// With an exit code.
    Code(u8),
    /// By a signal.
    Signal(u8),
    /// It never ran; why, bounded by [`WORDS_MAX`].
    Failed(String),
}

/// What is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes that are no message of this version")]
pub struct MessageError {
    bytes: usize,
}

/// A message as a control frame.
///
/// # Panics
/// Never: these types have a form in postcard.
pub fn encode<M: Serialize>(message: &M) -> Frame {
    Frame::Control(postcard::to_stdvec(message).expect("a plain message"))
}

/// Reads what a host said.
///
/// # Errors
/// It is none of these messages, or more than one.
pub fn decode_host(bytes: &[u8]) -> Result<HostMessage, MessageError> {
    whole(bytes)
}

/// Reads what a guest said.
///
/// # Errors
/// It is none of these messages, or more than one.
pub fn decode_guest(bytes: &[u8]) -> Result<GuestMessage, MessageError> {
    whole(bytes)
}

fn whole<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, MessageError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(MessageError { bytes: bytes.len() }),
    }
}

/// A text cut to [`WORDS_MAX`] bytes, without what would move a terminal's cursor.
pub fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().take(WORDS_MAX).map(clean).collect();
    text[..text.floor_char_boundary(WORDS_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(frame: Frame) -> Vec<u8> {
        match frame {
            Frame::Control(bytes) => bytes,
            Frame::Data(..) => unreachable!("a message is a control frame"),
        }
    }

    /// These bytes are the first of every version.
    #[test]
    fn the_greeting_keeps_its_form() {
        let hello = HostMessage::Hello { version: 1, nonce: Nonce([9; 16]) };
        let mut expected = vec![0, 1];
        expected.extend([9; 16]);
        assert_eq!(payload(encode(&hello)), expected);
        let state = State { phase: Phase::Blank, execs: Vec::new(), kernel: String::new() };
        let welcome = GuestMessage::Welcome { version: 1, nonce: Nonce([9; 16]), state };
        assert!(payload(encode(&welcome)).starts_with(&expected));
    }

    #[test]
    fn a_message_with_something_behind_it_is_none() {
        let mut bytes = payload(encode(&HostMessage::PowerOff));
        assert_eq!(decode_host(&bytes), Ok(HostMessage::PowerOff));
        bytes.push(0);
        assert!(decode_host(&bytes).is_err());
        assert!(decode_guest(&[200]).is_err());
    }

    #[test]
    fn what_is_private_is_not_shown() {
        let mut process = Process::root(["/bin/true"]);
        process.env.push(("TOKEN".into(), "hush".into()));
        let start = Start {
            entropy: [0; 32],
            time_ns: 0,
            hostname: "a".into(),
            network: None,
            resolv_conf: String::new(),
            hosts: String::new(),
            secrets: Some(b"KEY=hush".to_vec()),
            scratch: false,
            prestart: None,
            process,
            health: None,
        };
        let shown = format!("{start:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hush"), "{shown}");
        assert!(!shown.contains("104, 117, 115, 104"), "{shown}");
    }

    #[test]
    fn words_are_short_and_plain() {
        let text = shortened(&"\u{1b}\u{e9}".repeat(WORDS_MAX));
        assert!(text.len() <= WORDS_MAX && !text.contains('\u{1b}'));
    }
}
