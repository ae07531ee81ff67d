//! Where a node listens.
//!
//! ```text
//! data directory        sockets in
//! named by somebody     DATA/run             and only that node is looked for
//! root's own            /run/vyr
//! a user's own          $XDG_RUNTIME_DIR/vyr, else DATA/run; then the system's
//! ```

use std::path::{Path, PathBuf};

/// Where the system's node listens.
const SYSTEM_RUN_DIR: &str = "/run/vyr";

/// The sockets of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// The directory of both.
    pub directory: PathBuf,
}

impl Sockets {
    /// The seven calls.
    pub fn control(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// All calls.
    pub fn operator(&self) -> PathBuf {
        self.directory.join("operator.sock")
    }

    /// Where the node of `data` listens. `named`: the directory was given by an option or the
    /// environment.
    pub fn of(data: &Path, named: bool) -> Self {
        let directory = if named {
            data.join("run")
        } else if data == Path::new(crate::SYSTEM_DATA_DIR) {
            PathBuf::from(SYSTEM_RUN_DIR)
        } else {
            runtime_dir().unwrap_or_else(|| data.join("run"))
        };
        Self { directory }
    }

    /// Where a node may listen that serves `data`, the nearest first.
    pub fn candidates(data: &Path, named: bool) -> Vec<Self> {
        let own = Self::of(data, named);
        let system = Self { directory: PathBuf::from(SYSTEM_RUN_DIR) };
        if named || own == system { vec![own] } else { vec![own, system] }
    }

    /// The first candidate that somebody listens on, and the socket to use: the operator's where
    /// this user may open it.
    pub fn find(data: &Path, named: bool) -> Option<PathBuf> {
        Self::candidates(data, named)
            .into_iter()
            .flat_map(|sockets| [sockets.operator(), sockets.control()])
            .find(|path| std::os::unix::net::UnixStream::connect(path).is_ok())
    }
}

fn runtime_dir() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    directory.is_absolute().then(|| directory.join("vyr"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_directory_holds_its_sockets_and_no_other_is_looked_for() {
        let data = Path::new("/srv/data");
        assert_eq!(Sockets::of(data, true).control(), Path::new("/srv/data/run/control.sock"));
        assert_eq!(Sockets::candidates(data, true).len(), 1);
        let system = Path::new(crate::SYSTEM_DATA_DIR);
        assert_eq!(Sockets::of(system, false).operator(), Path::new("/run/vyr/operator.sock"));
        assert_eq!(Sockets::candidates(system, false).len(), 1);
        assert_eq!(Sockets::candidates(data, false).len(), 2);
    }
}
