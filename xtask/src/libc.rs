//! A plan's digest against another C library: the library of plans, linked with musl and no other
//! program, must name the plan of the worked site as `vyr plan` does, which has this machine's own.
//!
//! Only `vyr-plan` and what it needs is built for musl, in Cargo's own directory for that target.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::machine;
use crate::repo::{Repo, cargo, output};
use crate::step;

const TARGET: &str = "x86_64-unknown-linux-musl";
const SITE: &str = "examples/office";

/// Why it cannot be tried on this machine.
pub(crate) fn missing() -> Option<&'static str> {
    if !machine::has_target(TARGET) {
        return Some("the musl target is not installed");
    }
    (!cfg!(target_arch = "x86_64")).then_some("this machine is not x86-64")
}

/// Builds both, and compares.
pub(crate) fn run(repo: &Repo) -> anyhow::Result<()> {
    let build = |args: &[&str]| {
        let mut command = Command::new(cargo());
        step::run(command.current_dir(&repo.root).args(["build", "--locked"]).args(args))
    };
    build(&["--package=vyr", "--bin=vyr"])?;
    build(&["--package=vyr-plan", "--example=digest", "--target", TARGET])?;
    let vyr = repo.target.join("debug/vyr");
    let digest = repo.target.join(TARGET).join("debug/examples/digest");
    ensure!(has_interpreter(&vyr)?, "{} is static as well", vyr.display());
    ensure!(!has_interpreter(&digest)?, "{} is not static", digest.display());

    let site = repo.root.join(SITE);
    let here = output(Command::new(vyr).args(["plan", "--json", "--site"]).arg(&site))?;
    let here: serde_json::Value = serde_json::from_str(&here).context("vyr plan wrote no JSON")?;
    let here = here["plan_digest"].as_str().context("vyr plan names no digest")?;
    let there = output(Command::new(digest).arg(&site))?;
    if there.trim() != here {
        bail!("the plan of {SITE} is {here} here, and {} with musl", there.trim());
    }
    println!("{here} with both");
    Ok(())
}

fn has_interpreter(program: &Path) -> anyhow::Result<bool> {
    let bytes =
        std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    asks_for_interpreter(&bytes).with_context(|| format!("{} is no program", program.display()))
}

/// Whether a 64-bit ELF program asks for a dynamic linker: a segment `PT_INTERP` (elf(5)).
fn asks_for_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let small = |at: usize| {
        let bytes = elf.get(at..)?.first_chunk()?;
        Some(usize::from(u16::from_le_bytes(*bytes)))
    };
    let first = u64::from_le_bytes(*elf.get(0x20..)?.first_chunk()?);
    let (first, size, count) = (usize::try_from(first).ok()?, small(0x36)?, small(0x38)?);
    for segment in 0..count {
        let kind = elf.get(first.checked_add(segment * size)?..)?.first_chunk()?;
        if u32::from_le_bytes(*kind) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and segments of these kinds.
    fn elf(kinds: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[0x20], bytes[0x36]) = (64, 56);
        bytes[0x38] = u8::try_from(kinds.len()).expect("few");
        for kind in kinds {
            bytes.push(*kind);
            bytes.resize(bytes.len() + 55, 0);
        }
        bytes
    }

    #[test]
    fn a_static_program_asks_for_no_interpreter() {
        assert_eq!(asks_for_interpreter(&elf(&[1, 2, 1])), Some(false));
        assert_eq!(asks_for_interpreter(&elf(&[6, 3, 1])), Some(true));
        assert_eq!(asks_for_interpreter(&elf(&[6, 3])[..100]), None);
        assert_eq!(asks_for_interpreter(b"#!/bin/sh\n"), None);
        // This test is linked with whatever the machine has, and is a program.
        let own = std::env::current_exe().expect("a path");
        assert!(has_interpreter(&own).is_ok());
    }
}
