//! The `compile` process: both ends of it.
//!
//! Wasm on stdin, machine code to a memory file on stdout, a verdict in the exit code and one
//! line on stderr. It may use a bounded amount of memory, time and output; a module that makes it
//! exceed them costs that much and is refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
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
        let broken = |e: io::Error| CompileFailure::Process(e.to_string());
        let mut head = [0u8; 8];
        let mut wasm = wasm;
        let kind = match wasm.read_exact(&mut head).map(|()| head) {
            Ok([0, b'a', b's', b'm', 1, 0, 0, 0]) => Kind::Module,
            Ok([0, b'a', b's', b'm', _, 0, 1, 0]) => Kind::Component,
            _ => return Err(CompileFailure::Invalid("no Wasm header".into())),
        };
        wasm.seek(SeekFrom::Start(0)).map_err(broken)?;
        let code = memfd_create("vyr-compiled", MemfdFlags::CLOEXEC)
            .map(File::from)
            .map_err(|e| broken(e.into()))?;
        let CompileLimits { memory_bytes, cpu_s, wall_s, code_bytes } = self.limits;
        let mut child = Command::new(this_binary())
            .arg(Role::Compile.argument())
            .args([memory_bytes, cpu_s, code_bytes].map(|n| n.to_string()))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(wasm))
            .stdout(Stdio::from(code.try_clone().map_err(broken)?))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let (said, heard) = channel();
        let stderr = child.stderr.take();
        let listener = std::thread::spawn(move || {
            let mut verdict = Vec::new();
            if let Some(stderr) = stderr {
                let _ = stderr.take(VERDICT_BYTES_MAX).read_to_end(&mut verdict);
            }
            let _ = said.send(());
            String::from_utf8_lossy(&verdict).trim().to_owned()
        });
        // Its stderr closes when it ends.
        let late =
            heard.recv_timeout(Duration::from_secs(wall_s)) == Err(RecvTimeoutError::Timeout);
        if late {
            let _ = child.kill();
        }
        let status = child.wait().map_err(broken)?;
        let verdict = listener.join().unwrap_or_default();
        if late {
            return Err(CompileFailure::Limit(format!("{wall_s} s of wall time")));
        }
        match (status.code(), status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) if code == i32::from(INVALID) => {
                return Err(CompileFailure::Invalid(verdict));
            }
            (_, Some(libc::SIGXCPU | libc::SIGKILL)) => {
                return Err(CompileFailure::Limit(format!("{cpu_s} s of processor time")));
            }
            (_, Some(libc::SIGXFSZ)) => {
                return Err(CompileFailure::Limit(format!("{code_bytes} bytes of machine code")));
            }
            (_, Some(libc::SIGABRT | libc::SIGSEGV)) => {
                return Err(CompileFailure::Limit(format!("{memory_bytes} bytes of memory")));
            }
            _ => return Err(CompileFailure::Process(format!("{status}: {verdict}"))),
        }
        let mut bytes = Vec::new();
        let mut code = code;
        code.seek(SeekFrom::Start(0))
            .and_then(|_| code.take(code_bytes).read_to_end(&mut bytes))
            .map_err(broken)?;
        Ok(MachineCode { kind, bytes })
    }
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
