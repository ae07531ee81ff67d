//! What a test needs of its machine, and a place for its files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
pub(crate) use vyr_space::not_run;
use vyr_vm::image::Images;

/// Whether what a test needs is there; says so if not.
pub(crate) fn is_able(test: &str, programs: &[&str], root: bool) -> bool {
    let mut missing = Vec::new();
    for program in programs {
        let question = if program.ends_with("squashfs") { "-version" } else { "--version" };
        let mut asked = Command::new(program);
        asked.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if asked.status().is_err() {
            missing.push(format!("{program} is not installed"));
        }
    }
    if root && !rustix::process::geteuid().is_root() {
        missing.push("needs root".into());
    }
    missing.iter().for_each(|reason| not_run(test, reason));
    missing.is_empty()
}

/// A directory of the test, with images in it.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) images: Images,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let images = Images::open(&directory.path().join("images")).expect("images");
        Self { directory, images }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What lies below `images/`, but for locks: names with their sizes.
    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        let directory = self.path("images").join(below);
        let entries = std::fs::read_dir(directory).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort();
        names
    }
}

/// Runs a program to its end; what it printed, if it did well.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
