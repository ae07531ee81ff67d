//! Whose desk it is: a directory with a site in it, and the `vyr` that is measured.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::space::Namespace;

/// Files of one site and of its machines, each machine with a data directory of its own.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) vyr: PathBuf,
    directory: TempDir,
}

impl Desk {
    pub(super) fn new(vyr: &Path) -> Result<Self> {
        let desk = Self { vyr: vyr.to_owned(), directory: tempfile::tempdir()? };
        fs::create_dir_all(desk.path("site"))?;
        Ok(desk)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same, as an argument.
    pub(super) fn text(&self, name: &str) -> Result<String> {
        Ok(self.path(name).to_str().context("not UTF-8")?.to_owned())
    }

    /// The arguments of a command of the machine with this data directory.
    pub(super) fn arguments(&self, data: &str, arguments: &[&str]) -> Vec<OsString> {
        let first = [OsString::from("--data-dir"), self.path(data).into_os_string()];
        first.into_iter().chain(arguments.iter().map(OsString::from)).collect()
    }

    fn command(&self, space: &Namespace, data: &str, arguments: &[&str]) -> Command {
        let mut command = space.program(&self.vyr);
        command.args(self.arguments(data, arguments));
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Runs it in a namespace; the first line of what it printed.
    pub(super) fn say(&self, space: &Namespace, data: &str, arguments: &[&str]) -> Result<String> {
        let output = space.output(&mut self.command(space, data, arguments))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "vyr {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }

    /// Locks and signs the site as it is, with the key `op` of that data directory.
    pub(super) fn sign(&self, space: &Namespace, data: &str) -> Result<String> {
        let (site, key) = (self.text("site")?, self.text(&format!("{data}/keys/op"))?);
        self.say(space, data, &["lock", "--site", &site])?;
        self.say(space, data, &["plan", "sign", "--site", &site, "--key", &key])
    }

    /// A signed plan, by its digest.
    pub(super) fn plan(&self, digest: &str) -> Result<Vec<u8>> {
        let hex = digest.trim_start_matches("sha256:");
        Ok(fs::read(self.path(&format!("site/plans/{hex}.json")))?)
    }
}
