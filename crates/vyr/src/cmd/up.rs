//! `vyr up`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vyr_node::{CheckpointOut, Config, DataDir, Result, SYSTEM_DATA_DIR, Sockets};

use crate::output;

/// Where the system's node is configured.
const SYSTEM_CONFIG: &str = "/etc/vyr/vyr.toml";

pub(crate) fn run(
    data: &Path,
    named: bool,
    config: Option<PathBuf>,
    checkpoint_out: Option<OsString>,
) -> Result<ExitCode> {
    let data = DataDir::open(data)?;
    let given = config.is_some();
    let path = config.unwrap_or_else(|| match data.path() == Path::new(SYSTEM_DATA_DIR) {
        true => PathBuf::from(SYSTEM_CONFIG),
        false => data.path().join("vyr.toml"),
    });
    let config = Config::load(&path, given)?;
    let sockets = Sockets::of(data.path(), named);
    let mut settings = config.settings(data.path().to_owned(), sockets.directory.clone())?;
    if let Some(value) = checkpoint_out {
        settings.checkpoint_out = Some(CheckpointOut::parse(&value)?);
    }
    let at = sockets.control().display().to_string();
    vyr_node::process::up(&data, &settings, |word| output::say(format!("vyr: {word} on {at}")))?;
    output::say("vyr: stopped");
    Ok(ExitCode::SUCCESS)
}
