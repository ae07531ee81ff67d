//! Where everything lies: one directory, private to its user.
//!
//! ```text
//! DATA/store/      the OCI layout            DATA/keys/    private keys (0600), dev among them
//! DATA/drafts/     artifacts being made      DATA/trust/   allowed_signers, revoked_keys
//! DATA/cache/      machine code, node.key
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vyr_base::{Category, Problem};
use vyr_store::Store;

/// The data directory of a node: nothing in it is ever trusted for being there.
pub const SYSTEM_DATA_DIR: &str = "/var/lib/vyr";

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Neither an option nor the environment says where it is.
    #[error("no data directory: neither HOME nor XDG_STATE_HOME is set")]
    Unknown,
    /// It, or something in it, cannot be made or opened.
    #[error("cannot use {path}")]
    Use {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may write it, so what lies in it proves nothing.
    #[error("{path} belongs to uid {owner} or may be written by others")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The store in it cannot be opened.
    #[error(transparent)]
    Store(#[from] vyr_store::OpenError),
}

impl Problem for DataDirError {
    fn category(&self) -> Category {
        match self {
            Self::Unknown => Category::Usage,
            Self::Use { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Category::Auth,
                io::ErrorKind::StorageFull => Category::Transient,
                _ => Category::Failure,
            },
            Self::Open { .. } => Category::Auth,
            Self::Store(e) => e.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown => Some("pass --data-dir DIR".into()),
            Self::Use { .. } => Some("pass --data-dir DIR with a directory you may write".into()),
            Self::Open { path, .. } => {
                Some(format!("chown it to you and chmod 700 {}", path.display()))
            }
            Self::Store(e) => e.hint(),
        }
    }
}

/// An opened data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// The directory that `--data-dir`, `VYR_DATA_DIR`, the user id and `XDG_STATE_HOME` name, in
    /// this order; and whether somebody named it (one of the first two).
    pub fn choose(option: Option<PathBuf>) -> Result<(PathBuf, bool), DataDirError> {
        let set =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = option.or_else(|| set("VYR_DATA_DIR")) {
            return Ok((path, true));
        }
        if rustix::process::getuid().is_root() {
            return Ok((PathBuf::from(SYSTEM_DATA_DIR), false));
        }
        set("XDG_STATE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/state")))
            .map(|state| (state.join("vyr"), false))
            .ok_or(DataDirError::Unknown)
    }

    /// Opens `path`, making it (mode 0700) if it is not there. Refuses one that another user owns
    /// or may write.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let fail = |source| DataDirError::Use { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
        let path = path.canonicalize().map_err(fail)?;
        let meta = fs::metadata(&path).map_err(fail)?;
        let ours = rustix::process::geteuid().as_raw();
        if meta.uid() != ours || meta.mode() & 0o022 != 0 {
            return Err(DataDirError::Open { path, owner: meta.uid() });
        }
        Ok(Self { path })
    }

    /// The canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the system's node directory, by whatever name: the same path, or the same
    /// directory reached over a link or a bind mount.
    pub fn is_system(&self) -> bool {
        let same = |system: &Path| {
            let (Ok(ours), Ok(theirs)) = (fs::metadata(&self.path), fs::metadata(system)) else {
                return false;
            };
            (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
        };
        let system = Path::new(SYSTEM_DATA_DIR);
        self.path == system || same(system)
    }

    /// The artifacts that may run.
    pub fn store(&self) -> Result<Store, DataDirError> {
        Ok(Store::open(&self.path.join("store"))?)
    }

    /// Artifacts being made: built, perhaps signed, not yet admitted.
    pub fn drafts(&self) -> Result<Store, DataDirError> {
        Ok(Store::open(&self.path.join("drafts"))?)
    }

    /// Where private keys lie.
    pub fn keys(&self) -> Result<PathBuf, DataDirError> {
        self.directory("keys")
    }

    /// The list of signers, an OpenSSH `allowed_signers` file; it need not exist.
    pub fn allowed_signers(&self) -> PathBuf {
        self.path.join("trust/allowed_signers")
    }

    /// The list of revoked keys; it need not exist.
    pub fn revoked_keys(&self) -> PathBuf {
        self.path.join("trust/revoked_keys")
    }

    /// The journal; it need not exist.
    pub fn journal(&self) -> PathBuf {
        self.path.join("node/journal.db")
    }

    /// Where compiled code lies.
    pub fn code_cache(&self) -> Result<PathBuf, DataDirError> {
        self.directory("cache")
    }

    /// Makes, durably, and names a directory inside.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        match made.and_then(|()| sync_names(path.parent())) {
            Ok(()) => Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(path),
            Err(source) => Err(DataDirError::Use { path, source }),
        }
    }

    /// This node's secret for authenticating its code cache, made on first use.
    pub(crate) fn cache_secret(&self) -> Result<[u8; 32], DataDirError> {
        let path = self.code_cache()?.join("node.key");
        let read = |path: &Path| -> io::Result<[u8; 32]> {
            let mut secret = [0u8; 32];
            File::open(path)?.read_exact(&mut secret).map(|()| secret)
        };
        let make = || -> io::Result<[u8; 32]> {
            let mut secret = [0u8; 32];
            rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())?;
            write_once(&path, &secret)?;
            // Perhaps another process was first; its secret is the one.
            read(&path)
        };
        match read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => make(),
            read => read,
        }
        .map_err(|source| DataDirError::Use { path, source })
    }
}

/// Writes a private file (0600) that must not be there yet, durably, whole or not at all: of many
/// processes at once the first wins and the others leave its file alone.
pub(crate) fn write_once(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    // A link fails where a rename would replace.
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked.and(removed)?,
    }
    // Also for who was not first: what they do next must not outlive the file they rely on.
    sync_names(path.parent())
}

/// Makes the names in a directory durable: a synced file without a name is lost with the power.
fn sync_names(directory: Option<&Path>) -> io::Result<()> {
    match directory {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Replaces a file (0600), whole or not at all.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content).and_then(|()| file.sync_all())?;
    fs::rename(&temporary, path)?;
    sync_names(path.parent())
}
