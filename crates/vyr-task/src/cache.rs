//! Machine code on disk, outside signed content, believed only under this node's key.
//!
//! A file is `magic, MAC, code`; the MAC (BLAKE3 keyed with a key that only this node's user can
//! read) covers the Wasm digest, the compatibility word, the kind and the code. Somebody who can
//! write the directory but not read the key can delete code or spoil it, both of which cost one
//! compilation; they cannot have theirs run.
//!
//! Not here: the compiler's process (`Compiler` is the trait `vyr-node` implements).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use vyr_base::{Category, Digest, Problem};

use crate::code::{CodeError, MachineCode, SealedCode, new_memory};
use crate::outcome::Reason;
use crate::settings::Kind;

/// Version 1 of the file's form.
const MAGIC: &[u8; 8] = b"VYRCODE1";

/// The context of the key derivation, so that the same key is good for nothing else.
const CONTEXT: &str = "vyr 2026-11 compiled code cache";

/// Machine code is about three times its Wasm; the largest Wasm taken is 256 MiB.
const CODE_BYTES_MAX: u64 = 1 << 30;

/// Bytes moved at a time: the process never holds a whole file.
const PIECE: usize = 128 << 10;

/// How long a process waits for another that compiles the same digest: the compiler's own
/// wall-clock limit and a little more.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(150);

/// Between two looks whether the other is done.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why compilation gave no code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileFailure {
    /// It is not Wasm, or uses what this engine does not have.
    #[error("not a Wasm command this engine runs: {0}")]
    Invalid(String),
    /// It took more time or memory than the compiler gets.
    #[error("compiling took more than allowed: {0}")]
    Limit(String),
    /// The compiler's process could not be started or broke.
    #[error("the compiler process failed: {0}")]
    Process(String),
}

impl CompileFailure {
    /// The reason a task that needs this code fails with.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::Invalid,
            Self::Limit(_) => Reason::CompileLimit,
            Self::Process(_) => Reason::Internal,
        }
    }
}

/// Something that turns Wasm into machine code, in a process that may die of it.
pub trait Compiler {
    /// Compiles `wasm`, a file opened for reading at its start.
    fn compile(&self, wasm: File) -> Result<MachineCode, CompileFailure>;
}

/// Why the cache could not give code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The directory cannot be used.
    #[error("cannot use the code cache at {path}")]
    Directory {
        /// Of the directory or a file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Compiling failed.
    #[error(transparent)]
    Compile(#[from] CompileFailure),
    /// Sealing failed.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The Wasm could not be opened.
    #[error("cannot read the Wasm to compile")]
    Wasm(#[source] io::Error),
    /// Another process held the digest for too long.
    #[error("another process has been compiling {0} for more than 150 s")]
    Busy(Digest),
}

impl Problem for CacheError {
    fn category(&self) -> Category {
        match self {
            Self::Compile(CompileFailure::Invalid(_)) => Category::Usage,
            Self::Compile(CompileFailure::Limit(_)) => Category::Failure,
            Self::Busy(_) => Category::Transient,
            Self::Directory { source, .. } if is_full(source) => Category::Transient,
            _ => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Compile(CompileFailure::Invalid(_)) => Some(
                "build for wasm32-wasip1 or wasm32-wasip2, as a command with a main function"
                    .into(),
            ),
            Self::Compile(CompileFailure::Limit(_)) => {
                Some("split the program, or build it with fewer and smaller functions".into())
            }
            Self::Directory { source, .. } if is_full(source) => {
                Some("free some space and run it again".into())
            }
            Self::Directory { path, .. } => Some(format!("let this user write {}", path.display())),
            _ => None,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Compiled code by Wasm digest.
#[derive(Debug)]
pub struct CodeCache {
    directory: PathBuf,
    key: [u8; 32],
    compatibility: String,
}

impl CodeCache {
    /// Opens (and makes) the cache in `directory`. `secret` is this node's own and never leaves
    /// it; `compatibility` is from `settings::compatibility`.
    pub fn open(
        directory: &Path,
        secret: &[u8; 32],
        compatibility: String,
    ) -> Result<Self, CacheError> {
        fs::create_dir_all(directory)
            .map_err(|source| CacheError::Directory { path: directory.to_owned(), source })?;
        let key = blake3::derive_key(CONTEXT, secret);
        Ok(Self { directory: directory.to_owned(), key, compatibility })
    }

    /// The code of `wasm`, from the disk when it is there and authentic, else compiled and kept.
    /// Returns whether it was compiled now. `open` gives the Wasm, already checked to be `wasm`.
    ///
    /// Of many processes that want the same digest, one compiles and the others wait for it.
    pub fn get(
        &self,
        wasm: &Digest,
        open: impl FnOnce() -> io::Result<File>,
        compiler: &dyn Compiler,
    ) -> Result<(SealedCode, bool), CacheError> {
        if let Some(code) = self.load(wasm)? {
            return Ok((code, false));
        }
        let _one_at_a_time = self.lock(wasm)?;
        if let Some(code) = self.load(wasm)? {
            return Ok((code, false));
        }
        let code = compiler.compile(open().map_err(CacheError::Wasm)?)?;
        self.keep(wasm, &code)?;
        Ok((SealedCode::seal(&code)?, true))
    }

    /// The cached code of `wasm`, if there is any that this node made.
    pub fn load(&self, wasm: &Digest) -> Result<Option<SealedCode>, CacheError> {
        let path = self.path(wasm);
        match self.read(wasm, &path) {
            Ok(code) => Ok(code),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CacheError::Directory { path, source }),
        }
    }

    /// Copies the file into a memory file while the MAC runs over the same bytes; a file that is
    /// not authentic is removed.
    fn read(&self, wasm: &Digest, path: &Path) -> io::Result<Option<SealedCode>> {
        let mut file = File::open(path)?;
        let mut magic = [0u8; 8];
        let mut kind = [0u8; 1];
        let mut claimed = [0u8; 32];
        let header = file
            .read_exact(&mut magic)
            .and_then(|()| file.read_exact(&mut kind))
            .and_then(|()| file.read_exact(&mut claimed));
        let form = match (header, &magic == MAGIC, kind[0]) {
            (Ok(()), true, b'm') => Kind::Module,
            (Ok(()), true, b'c') => Kind::Component,
            _ => return fs::remove_file(path).map(|()| None),
        };
        let mut mac = self.mac(wasm, form);
        let mut memory = new_memory().map_err(io::Error::other)?;
        let mut piece = vec![0u8; PIECE];
        let mut length = 0u64;
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 || length > CODE_BYTES_MAX {
                break;
            }
            length += read as u64;
            mac.update(&piece[..read]);
            memory.write_all(&piece[..read])?;
        }
        // `blake3::Hash` compares in constant time.
        if length > CODE_BYTES_MAX || mac.finalize() != blake3::Hash::from_bytes(claimed) {
            return fs::remove_file(path).map(|()| None);
        }
        SealedCode::seal_file(memory, form, length).map(Some).map_err(io::Error::other)
    }

    fn keep(&self, wasm: &Digest, code: &MachineCode) -> Result<(), CacheError> {
        let path = self.path(wasm);
        let temporary = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mac = self.mac(wasm, code.kind).update(&code.bytes).finalize();
            let mut file = File::create(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&[letter(code.kind)])?;
            file.write_all(mac.as_bytes())?;
            file.write_all(&code.bytes)?;
            // Not synced: a torn file fails its MAC and costs one compilation.
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&temporary);
            CacheError::Directory { path: path.clone(), source }
        })
    }

    /// Removes the code of every Wasm that `wanted` does not want; returns files and bytes.
    pub fn prune(&self, wanted: impl Fn(&Digest) -> bool) -> Result<(u64, u64), CacheError> {
        let inside = |source| CacheError::Directory { path: self.directory.clone(), source };
        let (mut files, mut bytes) = (0, 0);
        for entry in fs::read_dir(&self.directory).map_err(inside)? {
            let entry = entry.map_err(inside)?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| Digest::from_hex(name.get(..64)?).ok());
            if digest.is_some_and(|digest| !wanted(&digest)) {
                bytes += entry.metadata().map_or(0, |m| m.len());
                files += 1;
                fs::remove_file(entry.path()).map_err(inside)?;
            }
        }
        Ok((files, bytes))
    }

    fn mac(&self, wasm: &Digest, kind: Kind) -> blake3::Hasher {
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        // Fixed lengths first, then the one variable part with its length: no two inputs meet.
        mac.update(wasm.as_bytes());
        mac.update(&[letter(kind)]);
        mac.update(&(self.compatibility.len() as u64).to_le_bytes());
        mac.update(self.compatibility.as_bytes());
        mac
    }

    fn path(&self, wasm: &Digest) -> PathBuf {
        self.directory.join(format!("{}-{}.code", wasm.hex(), self.compatibility))
    }

    fn lock(&self, wasm: &Digest) -> Result<File, CacheError> {
        let path = self.directory.join(format!("{}.lock", wasm.hex()));
        let fail = |source| CacheError::Directory { path: path.clone(), source };
        let file = File::create(&path).map_err(fail)?;
        let end = Instant::now() + WAIT_FOR_OTHER;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(CacheError::Busy(*wasm)),
                Err(errno) => return Err(fail(errno.into())),
            }
        }
    }
}

fn letter(kind: Kind) -> u8 {
    match kind {
        Kind::Module => b'm',
        Kind::Component => b'c',
    }
}
