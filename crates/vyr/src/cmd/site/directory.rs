//! A site's directory: its texts, its plans, what is applied.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use vyr_base::{Category, Digest, Problem, Source};
use vyr_node::{FileError, Result};
use vyr_plan::intent::FILE_BYTES_MAX;
use vyr_plan::plan::PLAN_BYTES_MAX;
use vyr_plan::{Applied, Files, Plan, Signed};

/// Files in `contracts/`.
const CONTRACT_FILES_MAX: usize = 1000;
/// How long one command waits for another that changes the same site.
const ALONE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an approval or a signature.
const APPROVAL_FILE_MAX: usize = 64 << 10;

/// What is wrong with a site's directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SiteError {
    #[error("there is no site here: neither {0} nor a directory above it has a site.toml")]
    None(PathBuf),
    #[error("{0} is not UTF-8")]
    NotText(PathBuf),
    #[error("{0} has more than {1} bytes")]
    TooLarge(PathBuf, usize),
    #[error("contracts/ has more than {CONTRACT_FILES_MAX} files")]
    TooManyContracts,
    #[error("{0} does not hold the digest of a plan")]
    Pointer(PathBuf),
    #[error("the plan {0} is not in plans/")]
    NoPlan(Digest),
    #[error("another command has been changing {0} for {n} s", n = ALONE_PATIENCE.as_secs())]
    Busy(PathBuf),
}

impl Problem for SiteError {
    fn category(&self) -> Category {
        match self {
            Self::None(_) | Self::NoPlan(_) => Category::NotFound,
            Self::Busy(_) => Category::Transient,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::None(_) => "begin one with `vyr init`, or name it: --site DIR".into(),
            Self::NotText(_) => "save it as UTF-8".into(),
            Self::Pointer(_) | Self::NoPlan(_) => "take plans/ from git as it was".into(),
            _ => return None,
        })
    }
}

/// A site that nobody else changes.
#[derive(Debug)]
pub(crate) struct Alone(#[expect(dead_code, reason = "held, not used")] File);

/// A directory with a `site.toml`.
#[derive(Debug)]
pub(crate) struct Site {
    root: PathBuf,
}

impl Site {
    /// The directory that was named, else the nearest one from here up.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self> {
        let start = match named {
            Some(named) => named.to_owned(),
            None => std::env::current_dir().map_err(FileError::on("read", Path::new(".")))?,
        };
        let mut candidates = start.ancestors().take(if named.is_some() { 1 } else { 64 });
        match candidates.find(|directory| directory.join("site.toml").is_file()) {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => Err(SiteError::None(start).into()),
        }
    }

    /// A path inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The commit that the site's repository is at, for receipts; none: it is in no repository, or
    /// there is no git. Whether the files are as that commit has them is not asked: what was applied
    /// is the plan, by its digest.
    pub(crate) fn commit(&self) -> Option<String> {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.root).args(["rev-parse", "--verify", "--quiet", "HEAD"]);
        let said = git.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let commit = String::from_utf8(said.stdout).ok()?.trim().to_owned();
        let is_commit =
            matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit());
        (said.status.success() && is_commit).then_some(commit)
    }

    /// Nobody else changes the site's files while this lives; waits for who does now, not for ever.
    pub(crate) fn alone(&self) -> Result<Alone> {
        let fail = |e: rustix::io::Errno| FileError::on("lock", &self.root)(e.into());
        let directory = File::open(&self.root).map_err(FileError::on("lock", &self.root))?;
        let end = Instant::now() + ALONE_PATIENCE;
        loop {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Alone(directory)),
                // The kernel has no wait for such a lock that ends.
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(SiteError::Busy(self.root.clone()).into());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(fail(e).into()),
            }
        }
    }

    fn source(&self, name: &str) -> Result<Option<Source>> {
        let path = self.path(name);
        match read_bounded(&path, FILE_BYTES_MAX)? {
            None => Ok(None),
            Some(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(Source::new(name, text))),
                Err(_) => Err(SiteError::NotText(path).into()),
            },
        }
    }

    /// All texts of the site.
    pub(crate) fn files(&self) -> Result<Files> {
        let site = self.source("site.toml")?;
        let mut contracts = Vec::new();
        for name in self.contract_names()? {
            contracts.extend(self.source(&name)?);
        }
        Ok(Files {
            site: site.ok_or_else(|| SiteError::None(self.root.clone()))?,
            clients: self.source("clients.toml")?,
            signers: self.source("operators.allowed_signers")?,
            contracts,
            lock: self.source("vyr.lock")?,
        })
    }

    fn contract_names(&self) -> Result<Vec<String>> {
        let directory = self.path("contracts");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(FileError::on("read", &directory)(e).into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(FileError::on("read", &directory))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".toml") && !name.starts_with('.') {
                names.push(format!("contracts/{name}"));
            }
            if names.len() > CONTRACT_FILES_MAX {
                return Err(SiteError::TooManyContracts.into());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The plan that was confirmed last; none: the empty plan.
    pub(crate) fn applied(&self) -> Result<Option<Applied>> {
        let pointer = self.path("plans/applied.network");
        let Some(bytes) = read_bounded(&pointer, 256)? else { return Ok(None) };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let Ok(digest) = text.trim_end().parse::<Digest>() else {
            return Err(SiteError::Pointer(pointer).into());
        };
        let plan = self.plan(&digest)?;
        Ok(Some(Applied { digest, plan }))
    }

    /// A plan of `plans/`, checked against its digest.
    pub(crate) fn plan(&self, digest: &Digest) -> Result<Plan> {
        let path = self.path(&format!("plans/{}.json", digest.hex()));
        let bytes = read_bounded(&path, PLAN_BYTES_MAX)?.ok_or(SiteError::NoPlan(*digest))?;
        Ok(Plan::parse_as(&bytes, digest)?)
    }

    /// The approvals of a plan.
    pub(crate) fn approvals(&self, digest: &Digest) -> Result<Vec<Signed>> {
        approvals(&self.path("plans"), digest)
    }

    /// The bytes of a file that may be absent.
    pub(crate) fn bytes(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>> {
        read_bounded(&self.path(name), most)
    }

    /// Writes a file of the site whole or not at all.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_whole(&self.path(name), bytes)
    }
}

/// The approvals of a plan in a directory, by name.
pub(crate) fn approvals(directory: &Path, digest: &Digest) -> Result<Vec<Signed>> {
    let hex = digest.hex();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(FileError::on("read", directory)(e).into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::on("read", directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&hex) && name.ends_with(".approval") {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(vyr_plan::APPROVALS_MAX);
    let mut found = Vec::new();
    for name in names {
        let path = directory.join(&name);
        let text = read_bounded(&path, APPROVAL_FILE_MAX)?;
        let signature = read_bounded(&path.with_extension("sig"), APPROVAL_FILE_MAX)?;
        if let (Some(text), Some(signature)) = (text, signature) {
            found.push(Signed { name, text, signature });
        }
    }
    Ok(found)
}

/// Reads a file that may be absent, and no more of it than is allowed.
pub(crate) fn read_bounded(path: &Path, most: usize) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::on("read", path)(e).into()),
    };
    let mut bytes = Vec::new();
    let read = file.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(FileError::on("read", path))?;
    match bytes.len() > most {
        true => Err(SiteError::TooLarge(path.to_owned(), most).into()),
        false => Ok(Some(bytes)),
    }
}

/// Writes a file that appears whole or not at all, and is on the disk when this returns.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |error| FileError::on("write", path)(error);
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(fail)?;
    let beside = path.with_extension(format!("partial-{}", std::process::id()));
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| File::open(parent)?.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        fail(error)
    })?;
    Ok(())
}
