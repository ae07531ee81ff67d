//! One guest, many behaviours: `probe SUBCOMMAND [ARGUMENT]..`, so that one module, compiled
//! once, serves every conformance test. README.md lists the subcommands.
//!
//! Exit codes: 0 done, 1 the system refused (stderr says what), 2 usage, 3 memory denied.

mod memory;
mod system;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{self, ExitCode};
use std::time::Duration;

const USAGE: &str = "\
usage: probe exit N | echo | args [ARG].. | env | stderr TEXT | panic | spin | sleep MS
       probe read-file PATH | write-file PATH | list-dir PATH | connect ADDR | clock | random
       probe grow BYTES [--abort] | output BYTES | recurse [DEPTH]
       probe residue scan HEX [PAGES] | residue fill HEX [PAGES]
";

/// What `residue` grows the memory by when not told: 16 MiB, more than any keep-resident size.
const RESIDUE_PAGES: usize = 256;

const MEMORY_DENIED: u8 = 3;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match probe(&words) {
        Ok(Some(code)) => code,
        Ok(None) => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Carries out one subcommand; `None` when `words` is none.
fn probe(words: &[&str]) -> io::Result<Option<ExitCode>> {
    match *words {
        ["exit", code] => match code.parse() {
            Ok(code) => process::exit(code),
            Err(_) => return Ok(None),
        },
        ["echo"] => pump(io::stdin().lock(), io::stdout().lock())?,
        ["args", ..] => std::env::args().try_for_each(|arg| writeln!(io::stdout(), "{arg}"))?,
        ["env"] => {
            let mut variables: Vec<_> = std::env::vars().collect();
            variables.sort();
            for (name, value) in variables {
                writeln!(io::stdout(), "{name}={value}")?;
            }
        }
        ["stderr", text] => writeln!(io::stderr(), "{text}")?,
        ["panic"] => panic!("as asked"),
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        ["sleep", ms] => match ms.parse() {
            Ok(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Err(_) => return Ok(None),
        },
        ["read-file", path] => pump(File::open(path)?, io::stdout().lock())?,
        ["write-file", path] => pump(io::stdin().lock(), File::create(path)?)?,
        ["list-dir", path] => {
            let names: io::Result<Vec<_>> =
                fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect();
            let mut names = names?;
            names.sort();
            for name in names {
                writeln!(io::stdout(), "{}", name.to_string_lossy())?;
            }
        }
        ["connect", address] => {
            let peer = TcpStream::connect(address)?.peer_addr()?;
            writeln!(io::stdout(), "connected {peer}")?;
        }
        ["clock"] => {
            let (wall_ns, monotonic_ns) = (system::wall_ns()?, system::monotonic_ns()?);
            writeln!(io::stdout(), "wall_ns {wall_ns}\nmonotonic_ns {monotonic_ns}")?;
        }
        ["random"] => {
            let hex: String = system::random()?.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(io::stdout(), "{hex}")?;
        }
        ["grow", bytes] => return number(bytes, |bytes| grow(bytes, false)),
        ["grow", bytes, "--abort"] => return number(bytes, |bytes| grow(bytes, true)),
        ["output", bytes] => return number(bytes, output),
        ["recurse"] => return recurse_to(u64::MAX),
        ["recurse", depth] => return number(depth, recurse_to),
        ["residue", verb, pattern] => return residue(verb, pattern, RESIDUE_PAGES),
        ["residue", verb, pattern, pages] => {
            return number(pages, |pages: usize| residue(verb, pattern, pages));
        }
        _ => return Ok(None),
    }
    Ok(Some(ExitCode::SUCCESS))
}

/// Reads `text` as the number `then` needs; usage when it is none.
fn number<N: std::str::FromStr>(
    text: &str,
    then: impl FnOnce(N) -> io::Result<Option<ExitCode>>,
) -> io::Result<Option<ExitCode>> {
    text.parse().map_or(Ok(None), then)
}

/// Copies everything, 64 KiB at a time: `io::copy` would make eight times the host calls.
fn pump(mut reader: impl Read, mut writer: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return writer.flush(),
            count => writer.write_all(&buffer[..count])?,
        }
    }
}

/// Allocates and touches memory up to `bytes`, and prints how far it came.
fn grow(bytes: usize, abort: bool) -> io::Result<Option<ExitCode>> {
    const STEP_BYTES: usize = 64 * 1024;

    // Taken first: stdout's own buffer must not be the allocation that fails.
    let mut stdout = io::stdout().lock();
    let mut grown = 0;
    while grown < bytes {
        let step = STEP_BYTES.min(bytes - grown);
        let mut chunk: Vec<u8> = Vec::new();
        if chunk.try_reserve_exact(step).is_err() {
            if abort {
                process::abort();
            }
            writeln!(stdout, "{grown}")?;
            writeln!(io::stderr(), "memory denied after {grown} of {bytes} bytes")?;
            return Ok(Some(ExitCode::from(MEMORY_DENIED)));
        }
        chunk.resize(step, 0xa5);
        black_box(chunk.leak());
        grown += step;
    }
    writeln!(stdout, "{grown}")?;
    Ok(Some(ExitCode::SUCCESS))
}

/// Writes exactly `bytes` bytes, numbered lines without meaning.
fn output(bytes: u64) -> io::Result<Option<ExitCode>> {
    let block = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n".repeat(1024);
    let mut stdout = io::stdout().lock();
    let mut left = bytes;
    while left > 0 {
        let step = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        stdout.write_all(&block[..step])?;
        left -= step as u64;
    }
    stdout.flush()?;
    Ok(Some(ExitCode::SUCCESS))
}

fn recurse_to(depth: u64) -> io::Result<Option<ExitCode>> {
    let mixed = recurse(0, black_box(depth));
    writeln!(io::stdout(), "{mixed}")?;
    Ok(Some(ExitCode::SUCCESS))
}

/// Calls itself until `limit`. The work after the call is not associative, so no compiler turns
/// it into a loop; it keeps nothing in linear memory, so only the call stack can run out.
#[inline(never)]
fn recurse(depth: u64, limit: u64) -> u64 {
    if depth == limit {
        return depth;
    }
    recurse(depth + 1, limit).rotate_left(7).wrapping_mul(depth | 1) ^ depth
}

fn residue(verb: &str, pattern: &str, pages: usize) -> io::Result<Option<ExitCode>> {
    let Some(pattern) = memory::Pattern::new(pattern) else { return Ok(None) };
    let mut stdout = io::stdout().lock();
    match verb {
        "scan" => {
            let found = memory::scan(pattern, pages)?;
            writeln!(stdout, "matches {}", found.matches)?;
            writeln!(stdout, "grown_nonzero {}", found.grown_nonzero)?;
            writeln!(stdout, "scanned_bytes {}", found.scanned_bytes)?;
        }
        "fill" => {
            let filled = memory::fill(pattern, pages)?;
            writeln!(stdout, "filled_bytes {filled}")?;
        }
        _ => return Ok(None),
    }
    Ok(Some(ExitCode::SUCCESS))
}
