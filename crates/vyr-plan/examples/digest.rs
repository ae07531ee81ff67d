//! The digest of a site's plan, by the library alone: `cargo run -p vyr-plan --example digest DIR..`.
//!
//! `cargo xtask libc` builds it against another C library and compares it with `vyr plan`.

#![expect(clippy::disallowed_methods, reason = "an example reads files; the library does not")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use vyr_base::{Diagnostic, Source};
use vyr_plan::{Files, Lock, compile};

fn main() -> Result<(), Box<dyn Error>> {
    for site in std::env::args_os().skip(1).map(PathBuf::from) {
        let files = files(&site)?;
        let lock = files.lock.as_ref().map_or_else(|| Ok(Lock::default()), Lock::parse);
        let lock = lock.map_err(told)?;
        let intent = files.read().map_err(told)?;
        println!("{}", compile(&intent, &lock).map_err(told)?.digest()?);
    }
    Ok(())
}

fn files(site: &Path) -> Result<Files, std::io::Error> {
    let source = |name: &str| match fs::read_to_string(site.join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(|text| Some(Source::new(name, text))),
    };
    Ok(Files {
        clients: source("clients.toml")?,
        signers: source("operators.allowed_signers")?,
        lock: source("vyr.lock")?,
        // Contracts judge a plan and are not in it; services have a plan of their own.
        ..Files::new(source("site.toml")?.ok_or(std::io::ErrorKind::NotFound)?)
    })
}

fn told(faults: Vec<Diagnostic>) -> String {
    faults.iter().map(|fault| format!("\n{fault}")).collect()
}
