//! The `compile` process: both ends of it.
//!
//! Wasm on stdin, machine code to a memory file on stdout, a verdict in the exit code and one
//! line on stderr. It may use a bounded amount of memory, time and output; a module that makes it
//! exceed them costs that much and is refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use vyr_task::{CompileError, CompileFailure, Compiler, Kind, MachineCode, compile};

use super::confine::{ProcessLimits, confine};
use super::{Role, this_binary};

/// Exit code of the process for Wasm that is not valid.
const INVALID: u8 = 2;

/// The one line it may say.
const VERDICT_BYTES_MAX: u64 = 4096;

/// What compiling one module may take.
#[derive(Debug, Clone, Copy)]
pub struct CompileLimits {
    /// Address space, in bytes. Cranelift took 1.2 GiB for the largest module tried (256 MiB of
    /// functions are refused by size before).
    pub memory_bytes: u64,
    /// Processor time, in seconds.
    pub cpu_s: u64,
    /// Wall time, in seconds.
    pub wall_s: u64,
    /// Size of the machine code, in bytes.
    pub code_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu_s: 60, wall_s: 120, code_bytes: 1 << 30 }
    }
}

/// Compiles in a process of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct CompilerProcess {
    /// What one compilation may take.
    pub limits: CompileLimits,
}

impl Compiler for CompilerProcess {
    fn compile(&self, wasm: File) -> Result<MachineCode, CompileFailure> {
        compile_with(wasm, &self.limits, |wasm, code, verdict, patience| {
            let mut child = command(&self.limits)
                .stdin(Stdio::from(wasm))
                .stdout(Stdio::from(code))
                .stderr(Stdio::from(verdict))
                .spawn()?;
            // A process that ended has closed its pidfd's wait; std has no wait with a time limit.
            let ended = wait(&child, patience)?;
            if !ended {
                child.kill()?;
            }
            let status = child.wait()?;
            Ok(match ended {
                true => Verdict::Ended { code: status.code(), signal: status.signal() },
                false => Verdict::Late,
            })
        })
    }
}

/// Waits for a child's end; `false` when it takes longer.
fn wait(child: &std::process::Child, patience: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let until = std::time::Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How a compiler process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// By itself or by a signal.
    Ended { code: Option<i32>, signal: Option<i32> },
    /// It took too long and was killed.
    Late,
}

/// The command that starts the process, without its streams.
pub(crate) fn command(limits: &CompileLimits) -> Command {
    let CompileLimits { memory_bytes, cpu_s, code_bytes, .. } = *limits;
    let mut command = Command::new(this_binary());
    command
        .arg(Role::Compile.argument())
        .args([memory_bytes, cpu_s, code_bytes].map(|n| n.to_string()))
        .env_clear()
        .current_dir("/");
    command
}

/// Compiles in a process that `run` starts with three descriptors (Wasm, code, verdict) and waits
/// for, no longer than it is told.
pub(crate) fn compile_with(
    mut wasm: File,
    limits: &CompileLimits,
    run: impl FnOnce(File, File, OwnedFd, Duration) -> io::Result<Verdict>,
) -> Result<MachineCode, CompileFailure> {
    let broken = |e: io::Error| CompileFailure::Process(e.to_string());
    let mut head = [0u8; 8];
    let kind = match wasm.read_exact(&mut head).map(|()| head) {
        Ok([0, b'a', b's', b'm', 1, 0, 0, 0]) => Kind::Module,
        Ok([0, b'a', b's', b'm', _, 0, 1, 0]) => Kind::Component,
        _ => return Err(CompileFailure::Invalid("no Wasm header".into())),
    };
    wasm.seek(SeekFrom::Start(0)).map_err(broken)?;
    let mut code = memfd_create("vyr-compiled", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|e| broken(e.into()))?;
    let (said, verdict) = crate::pump::pipe().map_err(broken)?;
    let listener = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = File::from(said).take(VERDICT_BYTES_MAX).read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let CompileLimits { memory_bytes, cpu_s, wall_s, code_bytes } = *limits;
    let into = code.try_clone().map_err(broken)?;
    let ended = run(wasm, into, verdict, Duration::from_secs(wall_s)).map_err(broken)?;
    let text = listener.join().unwrap_or_default();
    let limit = |what: String| Err(CompileFailure::Limit(what));
    match ended {
        Verdict::Late => return limit(format!("{wall_s} s of wall time")),
        Verdict::Ended { code: Some(0), .. } => {}
        Verdict::Ended { code: Some(code), .. } if code == i32::from(INVALID) => {
            return Err(CompileFailure::Invalid(text));
        }
        Verdict::Ended { signal: Some(libc::SIGXCPU | libc::SIGKILL), .. } => {
            return limit(format!("{cpu_s} s of processor time"));
        }
        Verdict::Ended { signal: Some(libc::SIGXFSZ), .. } => {
            return limit(format!("{code_bytes} bytes of machine code"));
        }
        Verdict::Ended { signal: Some(libc::SIGABRT | libc::SIGSEGV), .. } => {
            return limit(format!("{memory_bytes} bytes of memory"));
        }
        Verdict::Ended { code, signal } => {
            let why = format!("exit code {code:?}, signal {signal:?}: {text}");
            return Err(CompileFailure::Process(why));
        }
    }
    let mut bytes = Vec::new();
    code.seek(SeekFrom::Start(0))
        .and_then(|_| code.take(code_bytes).read_to_end(&mut bytes))
        .map_err(broken)?;
    Ok(MachineCode { kind, bytes })
}

/// The life of the process, from inside.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let fail = |code: u8, what: &str| {
        eprintln!("{what}");
        code
    };
    let number = |n: usize| arguments.get(n).and_then(|text| text.parse::<u64>().ok());
    let (Some(memory), Some(cpu_s), Some(code)) = (number(0), number(1), number(2)) else {
        return fail(7, "bad arguments");
    };
    let limits = ProcessLimits {
        address_space_bytes: Some(memory),
        cpu_s: Some(cpu_s),
        file_bytes: Some(code),
    };
    if let Err(e) = confine(Role::Compile, limits) {
        return fail(7, &e.to_string());
    }
    let mut wasm = Vec::new();
    if let Err(e) = io::stdin().read_to_end(&mut wasm) {
        return fail(7, &format!("cannot read Wasm: {e}"));
    }
    match compile(&wasm) {
        Ok(code) => match io::stdout().write_all(&code.bytes).and_then(|()| io::stdout().flush()) {
            Ok(()) => 0,
            Err(e) => fail(7, &format!("cannot write code: {e}")),
        },
        Err(CompileError::Invalid(why)) => fail(INVALID, &why),
        Err(e) => fail(7, &e.to_string()),
    }
}
