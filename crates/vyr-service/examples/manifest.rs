//! Reads a manifest and prints its normalised form, or every fault:
//! `cargo run -p vyr-service --example manifest examples/shop/services/web.toml`.

#![expect(clippy::disallowed_methods, reason = "an example reads the file it is given")]

use std::path::Path;
use std::process::ExitCode;

use vyr_base::Source;
use vyr_service::manifest;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("which manifest?");
        return ExitCode::from(2);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let stem = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy();
    match manifest::read(&stem, &Source::new(&path, text)) {
        Ok(read) => {
            for warning in &read.warnings {
                eprintln!("{warning}");
            }
            println!("{}", String::from_utf8_lossy(&read.manifest.to_bytes()));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            ExitCode::from(2)
        }
    }
}
