//! A site's directory: its texts, its plans, what is applied.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use vyr_base::{Category, Digest, Problem, Source};
use vyr_node::{FileError, Result, is_alone};
use vyr_plan::intent::FILE_BYTES_MAX;
use vyr_plan::plan::PLAN_BYTES_MAX;
use vyr_plan::{Applied, Document, Files, Plan, Signed};

/// Files in `contracts/`, in `services/`, in `secrets/`.
const FILES_MAX: usize = 1000;
/// Bytes of a service's encrypted secrets; in clear they are 256 KiB at most.
const SECRETS_BYTES_MAX: usize = 1 << 20;
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
    #[error("{0} does not hold the digest of a plan")]
    Pointer(PathBuf),
    #[error("{0}/ has more than {1} files")]
    TooManyFiles(&'static str, usize),
    #[error("the site has no services")]
    NoServices,
    #[error("the plan {0} is not in plans/")]
    NoPlan(Digest),
    #[error("another command has been changing {0} for {n} s", n = ALONE_PATIENCE.as_secs())]
    Busy(PathBuf),
}

impl Problem for SiteError {
    fn category(&self) -> Category {
        match self {
            Self::None(_) | Self::NoPlan(_) | Self::NoServices => Category::NotFound,
            Self::Busy(_) => Category::Transient,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::None(_) => "begin one with `vyr init`, or name it: --site DIR".into(),
            Self::NoServices => "write one: services/NAME.toml, see docs/services.md".into(),
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
        let fail = |e| FileError::on("lock", &self.root)(e);
        let directory = File::open(&self.root).map_err(fail)?;
        match is_alone(&directory, ALONE_PATIENCE).map_err(fail)? {
            true => Ok(Alone(directory)),
            false => Err(SiteError::Busy(self.root.clone()).into()),
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
        let texts = |directory| -> Result<Vec<Source>> {
            let mut found = Vec::new();
            for name in self.names(directory, ".toml")? {
                found.extend(self.source(&format!("{directory}/{name}"))?);
            }
            Ok(found)
        };
        let mut secrets = BTreeMap::new();
        for name in self.names("secrets", ".age")? {
            let path = format!("secrets/{name}");
            if let Some(bytes) = self.bytes(&path, SECRETS_BYTES_MAX)? {
                secrets.insert(name.trim_end_matches(".age").to_owned(), Digest::of(&bytes));
            }
        }
        Ok(Files {
            site: site.ok_or_else(|| SiteError::None(self.root.clone()))?,
            clients: self.source("clients.toml")?,
            signers: self.source("operators.allowed_signers")?,
            contracts: texts("contracts")?,
            services: texts("services")?,
            secrets,
            lock: self.source("vyr.lock")?,
        })
    }

    /// The names of the files in a directory that may be absent, sorted.
    fn names(&self, directory: &'static str, end: &str) -> Result<Vec<String>> {
        let path = self.path(directory);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(FileError::on("read", &path)(e).into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(FileError::on("read", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(end) && !name.starts_with('.') {
                names.push(name);
            }
            if names.len() > FILES_MAX {
                return Err(SiteError::TooManyFiles(directory, FILES_MAX).into());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The network plan that was confirmed last; none: the empty plan.
    pub(crate) fn applied(&self) -> Result<Option<Applied>> {
        self.applied_of()
    }

    /// The plan of a kind that was confirmed last; none: the empty plan.
    pub(crate) fn applied_of<P: Document>(&self) -> Result<Option<Applied<P>>> {
        let pointer = self.path(&format!("plans/applied.{}", P::KIND.as_str()));
        let Some(bytes) = read_bounded(&pointer, 256)? else { return Ok(None) };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let Ok(digest) = text.trim_end().parse::<Digest>() else {
            return Err(SiteError::Pointer(pointer).into());
        };
        let plan = self.plan_of(&digest)?;
        Ok(Some(Applied { digest, plan }))
    }

    /// A network plan of `plans/`, checked against its digest.
    pub(crate) fn plan(&self, digest: &Digest) -> Result<Plan> {
        self.plan_of(digest)
    }

    /// A plan of a kind, of `plans/`, checked against its digest.
    pub(crate) fn plan_of<P: Document>(&self, digest: &Digest) -> Result<P> {
        let path = self.path(&format!("plans/{}.json", digest.hex()));
        let bytes = read_bounded(&path, PLAN_BYTES_MAX)?.ok_or(SiteError::NoPlan(*digest))?;
        Ok(P::parse_as(&bytes, digest)?)
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

    /// Takes a file away.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        Ok(fs::remove_file(&path).map_err(FileError::on("remove", &path))?)
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
