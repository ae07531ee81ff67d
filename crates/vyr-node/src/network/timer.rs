//! The process that takes a change back: when it is time, or when who made it died.
//!
//! It is armed before the first step, in a session of its own, so that a terminal that hangs up or
//! a connection that breaks does not end it. What it needs is in `pending.json`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Network, NetworkError, Pending};
use crate::process::confine::confine_timer;
use crate::process::{Role, this_binary};

/// All steps were taken: wait for the deadline.
const LEAVE: u8 = b'l';
/// The change has ended.
const DISMISS: u8 = b'd';
/// What the timer says when it watches.
const ARMED: &str = "armed";

/// Between two looks whether the change still waits. Only the deadline is of importance, and that is
/// slept for exactly; a look lets a process end that is not needed any more.
const LOOK: Duration = Duration::from_millis(500);

/// A timer, from the side of who arms it.
pub(super) struct Timer {
    child: Child,
    line: Option<ChildStdin>,
}

impl Timer {
    /// Starts it and waits until it watches.
    pub(super) fn arm(network: &Path, change: &Pending) -> Result<Self, String> {
        let data = network.parent().unwrap_or(network);
        let mut command = Command::new(this_binary());
        command
            .arg(Role::ConfirmTimer.argument())
            .arg(data)
            .arg(&change.id)
            .arg(change.left().as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/");
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let mut said = String::new();
        let heard = match child.stdout.take() {
            Some(stdout) => BufReader::new(stdout.take(64)).read_line(&mut said),
            None => Ok(0),
        };
        if heard.is_err() || said.trim_end() != ARMED {
            let _ = child.kill();
            let status = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            return Err(format!("it ended with {status}"));
        }
        let line = child.stdin.take();
        Ok(Self { child, line })
    }

    fn tell(&mut self, word: u8) -> io::Result<()> {
        match self.line.take() {
            Some(mut line) => line.write_all(&[word]),
            None => Ok(()),
        }
    }

    /// It is left alone until the deadline.
    pub(super) fn leave(mut self) -> Result<(), String> {
        self.tell(LEAVE).map_err(|e| format!("it has ended: {e}"))
    }

    /// It is not needed any more.
    pub(super) fn dismiss(mut self) {
        // If it cannot hear it, it finds that the change has ended.
        let _ = self.tell(DISMISS);
        let _ = self.child.wait();
    }
}

/// The life of the process, from inside. Arguments: data directory, change, milliseconds.
pub(crate) fn serve(arguments: &[String]) -> u8 {
    let [data, id, ms] = arguments else { return 2 };
    let Ok(ms) = ms.parse() else { return 2 };
    let deadline = Instant::now() + Duration::from_millis(ms);
    // Who is not out of reach of the maker's terminal does not say that it watches.
    if rustix::process::setsid().is_err() || confine_timer().is_err() {
        return 1;
    }
    match watch(&PathBuf::from(data), id, deadline) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn watch(data: &Path, id: &str, deadline: Instant) -> Result<(), NetworkError> {
    let network = Network::open(data)?;
    let mut stdout = io::stdout();
    // Who does not listen any more is dead, which the other pipe says too.
    let _ = writeln!(stdout, "{ARMED}").and_then(|()| stdout.flush());
    match hear(deadline) {
        Some(DISMISS) => return Ok(()),
        Some(LEAVE) => {
            while Instant::now() < deadline {
                std::thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
                if !network.is_pending(id) {
                    return Ok(());
                }
            }
        }
        // Who made the change died in the middle of it, or has hung for too long.
        _ => return insist(|| network.expire(id, "who made it died")),
    }
    insist(|| network.expire(id, "nobody confirmed it"))
}

/// Tries until it works: there is nobody to be told, and the next command says how it ended.
fn insist(mut work: impl FnMut() -> Result<(), NetworkError>) -> Result<(), NetworkError> {
    let mut last = Ok(());
    for _ in 0..100 {
        last = work();
        if last.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    last
}

/// The word that who made the change says before the deadline; none: it died.
fn hear(deadline: Instant) -> Option<u8> {
    let mut stdin = io::stdin();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok()?;
        let mut files = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut files, Some(&left)) {
            Ok(0) => return None,
            Ok(_) => {
                let mut word = [0];
                return match stdin.read(&mut word) {
                    Ok(1) => Some(word[0]),
                    _ => None,
                };
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}
