//! A machine from inside: this program as process 1. It does what it is told and decides nothing.
//!
//! ```text
//!  file systems, modules -> "up" -> order: a line of JSON, and its input
//!                                   answer: a line of JSON, output, what was said; the next order
//! ```
//!
//! One order at a time. The machine ends when anything goes wrong here, or when the other end of
//! the port is gone. A disk, if there is one, is at `/disk` and can only be read.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use crate::emulated::inside;

/// The only argument of process 1: what else the machine has.
pub(crate) const PLAIN: &str = "machine=plain";
/// The same with a disk.
pub(crate) const WITH_DISK: &str = "machine=disk";

/// What the agent says when it takes orders.
pub(crate) const UP: &str = "up";

/// A program to run, and how many bytes it reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) words: Vec<String>,
    pub(crate) input_bytes: usize,
}

/// How it ended, and how many bytes it wrote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// None: by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) output_bytes: usize,
    pub(crate) said_bytes: usize,
}

/// Lives the machine's life; gives why it ended.
pub(crate) fn live(word: &str) -> anyhow::Error {
    match serve(word) {
        Ok(()) => anyhow::anyhow!("the other side is gone"),
        Err(error) => error,
    }
}

fn serve(word: &str) -> anyhow::Result<()> {
    let mut port = inside::begin()?;
    for directory in ["/run/netns", "/root", "/data"] {
        fs::create_dir_all(directory)?;
    }
    if word == WITH_DISK {
        inside::mount_disk("/disk", MountFlags::RDONLY)?;
    }
    port.write_all(format!("{UP}\n").as_bytes())?;
    let mut orders = BufReader::new(port.try_clone()?);
    loop {
        let mut line = String::new();
        if orders.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let order: Order = serde_json::from_str(&line).context("an order")?;
        let mut input = vec![0; order.input_bytes];
        orders.read_exact(&mut input)?;
        let (answer, output) = carry_out(&order, &input)?;
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        port.write_all(&bytes)?;
        port.write_all(&output)?;
    }
}

fn carry_out(order: &Order, input: &[u8]) -> anyhow::Result<(Answer, Vec<u8>)> {
    let (program, arguments) = order.words.split_first().context("an order without a program")?;
    // Files and no pipes: a process that stays behind, as the timer of a change does, may hold them.
    let [input_at, output_at, said_at] =
        ["in", "out", "said"].map(|name| Path::new("/tmp").join(name));
    fs::write(&input_at, input)?;
    let status = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), ("USER", "ana"), ("VYR_DATA_DIR", "/data")])
        .stdin(fs::File::open(&input_at)?)
        .stdout(Stdio::from(fs::File::create(&output_at)?))
        .stderr(Stdio::from(fs::File::create(&said_at)?))
        .status();
    let code = match status {
        Ok(status) => status.code(),
        Err(e) => {
            fs::write(&said_at, format!("{program}: {e}"))?;
            Some(127)
        }
    };
    let (mut output, said) = (fs::read(&output_at)?, fs::read(&said_at)?);
    let answer = Answer { code, output_bytes: output.len(), said_bytes: said.len() };
    output.extend(said);
    Ok((answer, output))
}

/// Where programs are in the machine.
pub(crate) const PATH: &str = "/usr/sbin";
