//! Machine code that may be mapped: the one file with `unsafe` in this crate.
//!
//! `SealedCode` is a memfd that nobody can change any more (all four seals). It comes to be in two
//! ways: from bytes this process compiled or authenticated (`seal`), or from a descriptor that the
//! process which did so hands over (`receive`), which re-checks the seals. What was authenticated
//! is therefore what is mapped: there is no path, and no moment in between.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::settings::Kind;

/// All that can be sealed: content, length, and the seals themselves.
fn all_seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

/// Why code cannot be sealed or taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// The descriptor could still be written by somebody.
    #[error("machine code is not sealed")]
    NotSealed,
    /// The kernel refused a memory file.
    #[error("cannot make a memory file for machine code")]
    Memfd(#[source] io::Error),
}

/// Machine code as the compiler gave it, in this process's memory.
#[derive(Debug)]
pub struct MachineCode {
    /// What it was compiled from.
    pub kind: Kind,
    /// Wasmtime's serialized form.
    pub bytes: Vec<u8>,
}

/// Machine code in a memory file that nobody can change.
#[derive(Debug)]
pub struct SealedCode {
    memory: File,
    kind: Kind,
    length: u64,
}

impl SealedCode {
    /// Copies `code` into a memory file and seals it.
    ///
    /// The caller vouches that `code` came from the compiler of this node.
    pub fn seal(code: &MachineCode) -> Result<Self, CodeError> {
        let mut memory = new_memory()?;
        memory.write_all(&code.bytes).map_err(CodeError::Memfd)?;
        Self::seal_file(memory, code.kind, code.bytes.len() as u64)
    }

    /// Seals a memory file whose content the caller has authenticated.
    pub(crate) fn seal_file(memory: File, kind: Kind, length: u64) -> Result<Self, CodeError> {
        fcntl_add_seals(&memory, all_seals()).map_err(|e| CodeError::Memfd(e.into()))?;
        Ok(Self { memory, kind, length })
    }

    /// Takes over sealed code from the process that authenticated it.
    ///
    /// Only for descriptors from that process: seals say that nobody can change the code, not
    /// who made it.
    pub fn receive(fd: OwnedFd, kind: Kind) -> Result<Self, CodeError> {
        let seals = fcntl_get_seals(&fd).map_err(|_| CodeError::NotSealed)?;
        if !seals.contains(all_seals()) {
            return Err(CodeError::NotSealed);
        }
        let length = rustix::fs::fstat(&fd).map_err(|_| CodeError::NotSealed)?.st_size;
        let length = u64::try_from(length).map_err(|_| CodeError::NotSealed)?;
        Ok(Self { memory: File::from(fd), kind, length })
    }

    /// What it was compiled from.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its size in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    #[expect(unsafe_code, reason = "mapping machine code is what this file is for")]
    pub(crate) fn module(&self, engine: &Engine) -> wasmtime::Result<Module> {
        let file = self.memory.try_clone()?;
        // SAFETY: the content was made by this node's compiler and authenticated, and its seals
        // (checked at construction, the only ways in) forbid any change since; Wasmtime itself
        // refuses code of another version, other settings or another processor.
        unsafe { Module::deserialize_open_file(engine, file) }
    }

    #[expect(unsafe_code, reason = "mapping machine code is what this file is for")]
    pub(crate) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        let bytes = self.read()?;
        // SAFETY: as in `module`; the bytes were read from the sealed file just now, into memory
        // that only this call holds.
        unsafe { Component::deserialize(engine, &bytes) }
    }

    /// Components have no call that takes an open file in Wasmtime 48, hence the copy.
    fn read(&self) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.memory.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl AsFd for SealedCode {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// An empty memory file that can still be written, by this process alone.
pub(crate) fn new_memory() -> Result<File, CodeError> {
    memfd_create("vyr-code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map(File::from)
        .map_err(|errno| CodeError::Memfd(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsealed_descriptor_is_refused() {
        let open = new_memory().expect("memfd");
        let refused = SealedCode::receive(open.into(), Kind::Module);
        assert!(matches!(refused, Err(CodeError::NotSealed)));
        let file = tempfile::tempfile().expect("temporary file");
        assert!(SealedCode::receive(file.into(), Kind::Module).is_err());
    }

    #[test]
    fn sealed_code_cannot_be_written() {
        let code = MachineCode { kind: Kind::Module, bytes: b"code".to_vec() };
        let sealed = SealedCode::seal(&code).expect("seal");
        let mut again = sealed.memory.try_clone().expect("duplicate");
        assert!(again.write_all(b"evil").is_err());
        assert!(again.set_len(0).is_err());
        assert_eq!(sealed.read().expect("read"), b"code");
    }
}
