//! The repository's own chores: what a machine can check, a person does not have to.
//!
//! `cargo xtask ci` is the whole truth; everything that calls itself continuous integration
//! only calls it. `cargo xtask check` is its quick part: it compiles nothing but itself.
//!
//! Not here: what the product does at run time. Nothing of the workspace is imported, so a
//! workspace that does not compile can still be checked.

mod arrows;
mod bpf;
mod check;
mod ci;
mod dependencies;
mod exclusions;
mod fault;
mod features;
mod generate;
mod goals;
mod guest;
mod guests;
mod held_by;
mod libc;
mod machine;
mod markdown;
mod nongoals;
mod not_run;
mod promises;
mod repo;
mod rust_text;
mod step;
mod tidy;
mod totals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The repository's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check what needs no compiler: arrows, tidiness, dependencies, pins, promises, goals, non-goals.
    Check,
    /// Run every check there is, to the end, and say what failed.
    Ci {
        /// Also build the release binary and run the demo with it.
        #[arg(long)]
        full: bool,
    },
    /// Write the documents that the product writes about itself.
    Generate {
        /// Write nothing; fail when a committed document differs.
        #[arg(long)]
        check: bool,
    },
    /// Make the kernel and the initramfs of microVMs.
    Guest {
        /// Where they go; `guest` in the build directory unless named.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
        /// Pin the newest kernel that the distribution offers first.
        #[arg(long = "move")]
        move_pin: bool,
    },
    /// Rebuild the committed Wasm guests.
    Guests {
        /// Write nothing; fail when a rebuilt guest differs from the committed one.
        #[arg(long)]
        check: bool,
    },
    /// Compare the digest of a plan with that of a build against another C library.
    Libc,
}

fn main() -> ExitCode {
    match run(&Args::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &Chore) -> anyhow::Result<ExitCode> {
    match *chore {
        Chore::Guest { ref out, move_pin } => {
            guest::run(&repo::Repo::find()?, out.as_deref(), move_pin)?;
        }
        Chore::Check => check::run(&repo::Repo::find()?)?,
        Chore::Ci { full } => return ci::run(&repo::Repo::find()?, full),
        Chore::Generate { check } => generate::run(&repo::Repo::find()?, check)?,
        Chore::Guests { check } => guests::run(check)?,
        Chore::Libc => match libc::missing() {
            Some(reason) => println!("not run: {reason}"),
            None => libc::run(&repo::Repo::find()?)?,
        },
    }
    Ok(ExitCode::SUCCESS)
}
