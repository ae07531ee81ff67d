//! Root disks: a read-only squashfs of an image, made by tar2sqfs from one tar stream.
//!
//! ```text
//! ROOT/disks/<squashfs hex>.squashfs    whole or absent, under its own digest
//!            <image hex>.json           which disk an image has, and how it was made
//!            <image hex>.lock           held by who builds it
//! ```
//!
//! tar2sqfs reads the stream that `emit` writes, never a stranger's, and makes the same bytes of it
//! with any number of threads. mksquashfs does not: from a tar stream it gives the root directory
//! the time of the day.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use vyr_base::{Category, Digest, Hasher, Problem};

use super::blobs::{Images, LayerFile, open_plain, sync_directory};
use super::config::Config;
use super::fault::{FsError, Reason};
use super::limits::Limits;
use super::manifest::{Compression, Manifest};
use super::merge::{Layer, LayerError, Merge};
use super::pull::PullError;
use super::users::{Accounts, User, UserError};

/// The version of the record on disk.
const RECORD_VERSION: u32 = 2;

/// Largest record, in bytes: a config of the largest size, and some.
const RECORD_BYTES_MAX: u64 = 8 << 20;

/// What tar2sqfs says before it fails, kept for the error, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

/// How the file system is made. What cannot be read is not skipped; a parent without an entry has a
/// fixed time. Level 3 is where zstd stops being free (`docs/adr/0017-images.md`).
const OPTIONS: [&str; 9] = [
    "--quiet",
    "--no-skip",
    "--defaults",
    "uid=0,gid=0,mode=0755,mtime=0",
    "--compressor",
    "zstd",
    "--comp-extra",
    "level=3",
    "--block-size=131072",
];

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The image is not here, or not taken.
    #[error(transparent)]
    Image(#[from] PullError),
    /// Its layers do not make one tree.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// It names a user that it does not have.
    #[error(transparent)]
    User(#[from] UserError),
    /// The system said no.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// There is no tar2sqfs.
    #[error("cannot start tar2sqfs")]
    Start(#[source] io::Error),
    /// It failed.
    #[error("tar2sqfs failed: {complaint}")]
    Failed {
        /// What it said, cut.
        complaint: String,
    },
    /// Another process builds it, and did not end.
    #[error("another process has been building {digest} all the time")]
    Busy {
        /// Which image.
        digest: Digest,
    },
    /// It took too long.
    #[error("{}: the disk was not built in time", Reason::ImageTooLarge)]
    Timeout,
    /// There is no disk of it yet.
    #[error("image {digest} has no disk yet")]
    NotBuilt {
        /// Which image.
        digest: Digest,
    },
    /// The record is not one.
    #[error("the record of {digest} cannot be read")]
    Record {
        /// Which image.
        digest: Digest,
    },
}

impl BuildError {
    /// The reason an instance is refused with, if there is one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Image(e) => e.reason(),
            Self::Layer(e) => e.reason(),
            Self::Timeout => Some(Reason::ImageTooLarge),
            _ => None,
        }
    }
}

impl Problem for BuildError {
    fn category(&self) -> Category {
        match self {
            Self::Image(e) => e.category(),
            Self::Layer(e) => e.category(),
            Self::User(e) => e.category(),
            Self::Fs(e) => e.category(),
            Self::Start(_) => Category::NotFound,
            Self::Busy { .. } | Self::Timeout => Category::Transient,
            Self::NotBuilt { .. } => Category::NotFound,
            Self::Failed { .. } | Self::Record { .. } => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Image(e) => e.hint(),
            Self::Layer(e) => e.hint(),
            Self::User(e) => e.hint(),
            Self::Fs(e) => e.hint(),
            Self::Start(_) => Some("install it: apt-get install squashfs-tools-ng".into()),
            Self::Failed { .. } => Some("see whether the disk is full".into()),
            Self::Busy { .. } => Some("wait for the other build, or end it".into()),
            Self::Timeout => Some("make a smaller image".into()),
            Self::NotBuilt { digest } | Self::Record { digest } => {
                Some(format!("vyr image build {digest}"))
            }
        }
    }
}

/// A root disk and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Of this record.
    version: u32,
    /// The image it was made of, as it was asked for.
    pub image_digest: Digest,
    /// That image's manifest for linux/amd64.
    pub manifest_digest: Digest,
    /// Of the squashfs.
    pub disk_digest: Digest,
    /// Its size, in bytes.
    pub disk_bytes: u64,
    /// What made it: `tar2sqfs 1.2.0`. Another version may make other bytes.
    pub tool: String,
    /// Entries of all layers.
    pub entries: u64,
    /// Bytes of all layers' tar archives.
    pub unpacked_bytes: u64,
    /// Extended attributes that were left out.
    pub xattrs_dropped: u64,
    /// Whom the image runs as.
    pub user: User,
    /// Whom it knows.
    pub accounts: Accounts,
    /// What it runs.
    pub config: Config,
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The manifest for linux/amd64.
    pub manifest_digest: Digest,
    /// Its parts.
    pub manifest: Manifest,
    /// What it runs.
    pub config: Config,
    /// Its disk, if it was built.
    pub disk: Option<Disk>,
}

impl Images {
    /// Where a disk is.
    pub fn disk_path(&self, disk: &Digest) -> PathBuf {
        self.disks().join(format!("{}.squashfs", disk.hex()))
    }

    fn record_path(&self, image: &Digest) -> PathBuf {
        self.disks().join(format!("{}.json", image.hex()))
    }

    /// What is here of an image.
    ///
    /// # Errors
    /// [`BuildError::Image`] if it was not pulled.
    pub fn show(&self, image: &Digest, limits: &Limits) -> Result<Shown, BuildError> {
        let (manifest_digest, manifest, config) = self.manifest(image, limits)?;
        let disk = match self.disk(image) {
            Ok(disk) => Some(disk),
            Err(BuildError::NotBuilt { .. }) => None,
            Err(e) => return Err(e),
        };
        Ok(Shown { manifest_digest, manifest, config, disk })
    }

    /// The disk that was built of an image.
    ///
    /// # Errors
    /// [`BuildError::NotBuilt`] if there is none.
    pub fn disk(&self, image: &Digest) -> Result<Disk, BuildError> {
        let digest = *image;
        let path = self.record_path(image);
        let file = match open_plain(&path) {
            Ok(file) => file,
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => {
                return Err(BuildError::NotBuilt { digest });
            }
            Err(e) => return Err(e.into()),
        };
        let mut bytes = Vec::new();
        file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes).map_err(FsError::on("read", &path))?;
        let disk: Disk =
            serde_json::from_slice(&bytes).map_err(|_| BuildError::Record { digest })?;
        if disk.version != RECORD_VERSION || disk.image_digest != digest {
            return Err(BuildError::Record { digest });
        }
        let whole = fs::metadata(self.disk_path(&disk.disk_digest))
            .is_ok_and(|meta| meta.len() == disk.disk_bytes);
        if whole { Ok(disk) } else { Err(BuildError::NotBuilt { digest }) }
    }

    /// Builds the disk of an image that was pulled; the one there is, unless `again`.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(&self, image: &Digest, limits: &Limits, again: bool) -> Result<Disk, BuildError> {
        let deadline = Instant::now() + limits.total_time;
        let _lock = self.build_lock(image, deadline)?;
        if !again {
            match self.disk(image) {
                Err(BuildError::NotBuilt { .. } | BuildError::Record { .. }) => {}
                found => return found,
            }
        }
        let read = self.manifest(image, limits)?;
        let (_, manifest, _) = &read;
        let blobs: Vec<Digest> = manifest.layers.iter().map(|(blob, _)| blob.digest).collect();
        let mut made = self.make(image, &read, limits, deadline);
        // What a pull wrote down beside the blobs may be what is wrong.
        let noted = blobs.iter().any(|blob| self.plain().join(blob.hex()).exists());
        blobs.iter().for_each(|blob| self.forget_plain(blob));
        if noted && made.is_err() {
            made = self.make(image, &read, limits, deadline);
        }
        made
    }

    /// Makes the disk, of layers as they unpack where a pull kept them so.
    fn make(
        &self,
        image: &Digest,
        (manifest_digest, manifest, config): &(Digest, Manifest, Config),
        limits: &Limits,
        deadline: Instant,
    ) -> Result<Disk, BuildError> {
        self.sweep(image)?;
        let temporary = self.partial_path(&format!("{}.disk-{}", image.hex(), std::process::id()));
        let forget = Forget(&temporary);
        let tool = tool()?;
        let (mut layers, mut known) = (Vec::new(), Vec::new());
        // Who believes what was read of a blob makes sure that it still is what was read.
        let mut believed = Vec::new();
        for ((blob, compression), diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            let scan = self.known_names(&blob.digest, *compression);
            let plain = scan.as_ref().and_then(|of| self.kept_plain(&blob.digest, of.bytes));
            let (path, digest, compression) = match plain {
                Some(path) => (path, *diff_id, Compression::Plain),
                None => (self.blob_path(&blob.digest), blob.digest, *compression),
            };
            if scan.is_some() {
                believed.push((path.clone(), digest));
            }
            let bytes = Box::new(LayerFile(path));
            layers.push(Layer { compression, diff_id: Some(*diff_id), bytes });
            known.push(scan);
        }
        let merge = Merge::with(&layers, known, limits)?;
        let merged = thread::scope(|scope| {
            let check = || believed.iter().try_for_each(|(path, of)| self.check_file(path, of));
            let checked = scope.spawn(check);
            let merged = squash(&temporary, deadline, |out| merge.write(out));
            let panicked = |panic| std::panic::resume_unwind(panic);
            checked.join().unwrap_or_else(panicked).map_err(PullError::from)?;
            merged
        })?;
        let accounts = Accounts::of(merged.passwd, merged.group);
        let user = accounts.resolve(&config.user)?;
        let (disk_digest, disk_bytes) = self.seal(&temporary)?;
        let path = self.disk_path(&disk_digest);
        fs::rename(&temporary, &path).map_err(FsError::on("rename", &temporary))?;
        drop(forget);
        sync_directory(&self.disks())?;
        let disk = Disk {
            version: RECORD_VERSION,
            image_digest: *image,
            manifest_digest: *manifest_digest,
            disk_digest,
            disk_bytes,
            tool,
            entries: merged.entries,
            unpacked_bytes: merged.unpacked_bytes,
            xattrs_dropped: merged.xattrs_dropped,
            user,
            accounts,
            config: config.clone(),
        };
        self.keep_record(&disk)?;
        Ok(disk)
    }

    /// Held while an image's disk is built, so that two do not do the same work.
    fn build_lock(&self, image: &Digest, deadline: Instant) -> Result<File, BuildError> {
        let path = self.disks().join(format!("{}.lock", image.hex()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(FsError::on("open", &path))?;
        self.hand_over(&file, &path)?;
        let mut pause = Duration::from_millis(1);
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= deadline {
                return Err(BuildError::Busy { digest: *image });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(file)
    }

    /// Removes what builds of this image left that were killed. A tar2sqfs that outlives its parent
    /// ends with its input, and writes to a name of its own.
    fn sweep(&self, image: &Digest) -> Result<(), FsError> {
        let partial = self.partial_path("");
        let prefix = format!("{}.disk-", image.hex());
        let entries = fs::read_dir(&partial).map_err(FsError::on("list", &partial))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let path = entry.path();
                fs::remove_file(&path).map_err(FsError::on("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Makes a finished file durable and unchangeable in name; gives its digest and size.
    fn seal(&self, path: &Path) -> Result<(Digest, u64), FsError> {
        let mut file = open_plain(path)?;
        // Every machine of the image reads it, each as a user of its own, and nobody writes it.
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(FsError::on("protect", path))?;
        self.hand_over(&file, path)?;
        // The disk writes while this reads.
        let written = file.try_clone().map_err(FsError::on("hold", path))?;
        thread::scope(|scope| {
            let synced = scope.spawn(move || written.sync_all());
            let mut hasher = Hasher::new();
            let mut buffer = vec![0; 1 << 20];
            loop {
                let read = file.read(&mut buffer).map_err(FsError::on("read", path))?;
                if read == 0 {
                    break;
                }
                hasher.update(&buffer[..read]);
            }
            let synced = synced.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            synced.map_err(FsError::on("sync", path))?;
            let bytes = hasher.bytes();
            Ok((hasher.finish(), bytes))
        })
    }

    fn keep_record(&self, disk: &Disk) -> Result<(), BuildError> {
        let path = self.record_path(&disk.image_digest);
        let name = format!("{}.disk-{}.json", disk.image_digest.hex(), std::process::id());
        let temporary = self.partial_path(&name);
        let _forget = Forget(&temporary);
        let mut text = serde_json::to_vec_pretty(disk)
            .map_err(|_| BuildError::Record { digest: disk.image_digest })?;
        text.push(b'\n');
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            file.write_all(&text)?;
            // Whoever runs machines reads it, as another user.
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.sync_all().map(|()| file)
        };
        let file = write().map_err(FsError::on("write", &temporary))?;
        self.hand_over(&file, &temporary)?;
        fs::rename(&temporary, &path).map_err(FsError::on("rename", &temporary))?;
        Ok(sync_directory(&self.disks())?)
    }
}

/// Removes a temporary file, if it is still there.
struct Forget<'a>(&'a Path);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

fn tar2sqfs() -> Command {
    let mut command = Command::new("tar2sqfs");
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Its name and version.
fn tool() -> Result<String, BuildError> {
    let said =
        tar2sqfs().arg("--version").stdin(Stdio::null()).output().map_err(BuildError::Start)?;
    let text = String::from_utf8_lossy(&said.stdout);
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let version = text.split_whitespace().find(is_version);
    Ok(format!("tar2sqfs {}", version.unwrap_or("of no known version")))
}

/// Runs tar2sqfs on what `feed` writes. Whatever fails, nothing goes on running.
fn squash<T>(
    to: &Path,
    deadline: Instant,
    feed: impl FnOnce(&mut dyn Write) -> Result<T, LayerError>,
) -> Result<T, BuildError> {
    let mut child = tar2sqfs()
        .args(OPTIONS)
        .arg(to)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(BuildError::Start)?;
    let (Some(stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
        unreachable!("both were asked for")
    };
    let complaint = thread::spawn(move || {
        let mut said = Vec::new();
        let mut stderr = stderr;
        let _ = (&mut stderr).take(COMPLAINT_BYTES_MAX).read_to_end(&mut said);
        // The rest is not kept, and must not block who says it.
        let _ = io::copy(&mut stderr, &mut io::sink());
        String::from_utf8_lossy(&said).trim().to_owned()
    });
    let mut out = BufWriter::with_capacity(1 << 20, Deadline { to: stdin, deadline });
    let fed = feed(&mut out);
    let late = Instant::now() >= deadline;
    let fed = match fed {
        Ok(fed) => {
            // Its input ends here.
            drop(out);
            Ok(fed)
        }
        Err(e) => {
            // Killed first: an input that merely ends could be taken for a whole one.
            let _ = child.kill();
            let _ = out.into_parts();
            Err(e)
        }
    };
    let status = wait(&mut child, deadline);
    let complaint = complaint.join().unwrap_or_default();
    match (fed, status) {
        _ if late => Err(BuildError::Timeout),
        // It ended first, and knows why.
        (Err(LayerError::Write(_)), _) if !complaint.is_empty() => {
            Err(BuildError::Failed { complaint })
        }
        (Err(e), _) => Err(e.into()),
        (Ok(_), None) => Err(BuildError::Timeout),
        (Ok(fed), Some(true)) => Ok(fed),
        (Ok(_), Some(false)) => Err(BuildError::Failed { complaint }),
    }
}

/// Whether it did well; none if it had to be killed.
fn wait(child: &mut Child, deadline: Instant) -> Option<bool> {
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < deadline => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// Stops writing when the time is over.
struct Deadline<W> {
    to: W,
    deadline: Instant,
}

impl<W: Write> Write for Deadline<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
