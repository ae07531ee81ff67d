//! WASI preview 1 over the states of a task.
//!
//! The host has no preopened directory, so Wasmtime's own implementation knows descriptors 0, 1
//! and 2; every other one is ours. A call on a descriptor of ours is answered here, all else is
//! passed on. Only modules that run with a state are linked to this: the engine keeps a linker for
//! each case.
//!
//! Wasmtime calls its generated preview 1 types internal. They are used here because they check
//! every pointer and flag of a guest; the version is pinned to the patch release, and what moves in
//! another one does not compile.

mod calls;
#[cfg(test)]
mod garbage;
mod translate;

use std::collections::BTreeMap;

use wasmtime::Linker;
use wasmtime_wasi::p1::types::{self, Errno, Error};
use wasmtime_wasi::p1::wasi_snapshot_preview1;

use super::handle::{Files, Handle, OPEN_MAX};
use crate::run::TaskState;

type Result<T> = std::result::Result<T, Error>;

/// The first descriptor behind stdin, stdout and stderr.
const FIRST: u32 = 3;

pub(crate) fn add_to_linker(linker: &mut Linker<TaskState>) -> wasmtime::Result<()> {
    wasi_snapshot_preview1::add_to_linker(linker, |state: &mut TaskState| state)
}

/// What a guest has open besides stdio.
#[derive(Default)]
pub(super) struct Descriptors(BTreeMap<u32, Descriptor>);

struct Descriptor {
    handle: Handle,
    position: u64,
    append: bool,
    /// The path, for the directory of a state.
    preopen: Option<String>,
}

impl Descriptors {
    /// The directories of the states, from descriptor 3 on.
    fn of(files: &Files) -> Result<Self> {
        let mut descriptors = Self::default();
        for (handle, path) in files.roots()? {
            descriptors.add(Descriptor {
                handle,
                position: 0,
                append: false,
                preopen: Some(path),
            })?;
        }
        Ok(descriptors)
    }

    /// Adds under the lowest number that is free.
    fn add(&mut self, descriptor: Descriptor) -> Result<u32> {
        if self.0.len() > OPEN_MAX {
            return Err(Errno::Nfile.into());
        }
        let free = (FIRST..).find(|fd| !self.0.contains_key(fd)).ok_or(Errno::Nfile)?;
        self.0.insert(free, descriptor);
        Ok(free)
    }
}

impl Files {
    /// The descriptors of ours. Every call asks here first, which makes it a safe point.
    fn descriptors(&mut self) -> Result<&mut Descriptors> {
        self.check().map_err(|stopped| Error::trap(wasmtime::Error::new(stopped)))?;
        if self.descriptors.is_none() {
            self.descriptors = Some(Descriptors::of(self)?);
        }
        self.descriptors.as_mut().ok_or_else(|| Errno::Badf.into())
    }

    /// The descriptor if it is one of ours.
    fn ours(&mut self, fd: types::Fd) -> Result<Option<&mut Descriptor>> {
        Ok(self.descriptors()?.0.get_mut(&u32::from(fd)))
    }

    /// The descriptor of a call that only a file of ours answers.
    fn file(&mut self, fd: types::Fd) -> Result<&mut Descriptor> {
        self.ours(fd)?.ok_or_else(|| Errno::Badf.into())
    }

    /// The directory that a path is relative to.
    fn directory(&mut self, fd: types::Fd) -> Result<&Handle> {
        match self.ours(fd)? {
            Some(descriptor) => Ok(&descriptor.handle),
            None if u32::from(fd) < FIRST => Err(Errno::Notdir.into()),
            None => Err(Errno::Badf.into()),
        }
    }

    /// The directories of a call with two paths.
    fn directories(&mut self, one: types::Fd, other: types::Fd) -> Result<(&Handle, &Handle)> {
        let descriptors = self.descriptors()?;
        let find = |fd: types::Fd| match descriptors.0.get(&u32::from(fd)) {
            Some(descriptor) => Ok(&descriptor.handle),
            None => Err(Error::from(Errno::Badf)),
        };
        Ok((find(one)?, find(other)?))
    }
}
