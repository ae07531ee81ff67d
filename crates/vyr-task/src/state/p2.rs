//! `wasi:filesystem` of WASI 0.2 over the states of a task.
//!
//! The functions of Wasmtime's own implementation are replaced in the linker of components, so a
//! component has no way to the host's files at all. Its binding names Wasmtime's types for the
//! resources; to a guest a resource is a number, and ours are in the same table under that
//! number. The table checks the type at each look, so a mix-up is an error and not a confusion.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{self, ErrorCode};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::FileError;
use super::bytes::wipe;
use super::handle::{COPY_MAX, Files, Handle};
use super::lend;
use super::streams::{Reader, Writer, read};
use super::tree::{How, Kind, Serial, Stat};
use crate::run::TaskState;

/// The states of a task, and the table of its resources.
pub(super) struct View<'a> {
    pub(super) files: &'a mut Files,
    pub(super) table: &'a mut ResourceTable,
}

pub(super) struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

pub(super) fn view(state: &mut TaskState) -> View<'_> {
    let WasiCtxView { table, .. } = WasiView::ctx(&mut state.wasi);
    View { files: &mut state.files, table }
}

/// Replaces `wasi:filesystem`; `linker` allows that.
pub(crate) fn add_to_linker(linker: &mut Linker<TaskState>) -> wasmtime::Result<()> {
    types::add_to_linker::<TaskState, HasView>(linker, view)?;
    preopens::add_to_linker::<TaskState, HasView>(linker, view)?;
    lend::add_to_linker(linker)
}

impl From<FileError> for ErrorCode {
    fn from(error: FileError) -> Self {
        match error {
            FileError::NoEntry => Self::NoEntry,
            FileError::Exists => Self::Exist,
            FileError::NotDirectory => Self::NotDirectory,
            FileError::IsDirectory => Self::IsDirectory,
            FileError::NotEmpty => Self::NotEmpty,
            FileError::NameTooLong => Self::NameTooLong,
            FileError::IllegalName => Self::IllegalByteSequence,
            FileError::Escape => Self::NotPermitted,
            FileError::Full => Self::InsufficientSpace,
            FileError::ReadOnly => Self::ReadOnly,
            FileError::CrossState => Self::CrossDevice,
            FileError::Invalid => Self::Invalid,
            FileError::TooLarge => Self::FileTooLarge,
            FileError::TooManyOpen => Self::InsufficientMemory,
            FileError::BadDescriptor => Self::BadDescriptor,
        }
    }
}

impl From<FileError> for FsError {
    fn from(error: FileError) -> Self {
        ErrorCode::from(error).into()
    }
}

type Descriptor = Resource<types::Descriptor>;

/// A listing under way: the directory, and the entry it stands at.
struct Listing {
    directory: Arc<Handle>,
    after: Serial,
}

impl View<'_> {
    pub(super) fn check(&self) -> wasmtime::Result<()> {
        self.files.check().map_err(wasmtime::Error::new)
    }

    /// What a descriptor stands for. Every call asks here, which makes it a safe point.
    pub(super) fn handle(&self, descriptor: &Descriptor) -> wasmtime::Result<&Arc<Handle>> {
        self.check()?;
        Ok(self.table.get(&Resource::<Arc<Handle>>::new_borrow(descriptor.rep()))?)
    }

    fn get(&self, descriptor: &Descriptor) -> FsResult<&Arc<Handle>> {
        self.handle(descriptor).map_err(FsError::trap)
    }

    fn add(&mut self, handle: Handle) -> wasmtime::Result<Descriptor> {
        Ok(Resource::new_own(self.table.push(Arc::new(handle))?.rep()))
    }
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Descriptor, String)>> {
        self.check()?;
        let mut directories = Vec::new();
        for (handle, path) in self.files.roots()? {
            directories.push((self.add(handle)?, path));
        }
        Ok(directories)
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        if let Some(error) = error.downcast_ref::<FileError>() {
            return Ok(Some((*error).into()));
        }
        // What stdin, stdout and stderr report.
        Ok(error.downcast_ref::<std::io::Error>().map(ErrorCode::from))
    }
}

impl types::HostDescriptor for View<'_> {
    fn read_via_stream(
        &mut self,
        fd: Descriptor,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let handle = Arc::clone(self.get(&fd)?);
        handle.is_file()?;
        let control = Arc::clone(&self.files.control);
        let stream: DynInputStream = Box::new(Reader { handle, offset, control });
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Descriptor,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, Some(offset))
    }

    fn append_via_stream(&mut self, fd: Descriptor) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, None)
    }

    async fn advise(
        &mut self,
        fd: Descriptor,
        _: types::Filesize,
        _: types::Filesize,
        _: types::Advice,
    ) -> FsResult<()> {
        Ok(self.get(&fd)?.is_file()?)
    }

    async fn sync_data(&mut self, fd: Descriptor) -> FsResult<()> {
        self.get(&fd).map(drop)
    }

    async fn sync(&mut self, fd: Descriptor) -> FsResult<()> {
        self.get(&fd).map(drop)
    }

    async fn get_flags(&mut self, fd: Descriptor) -> FsResult<types::DescriptorFlags> {
        use types::DescriptorFlags as Flags;
        let handle = self.get(&fd)?;
        let mut flags = Flags::empty();
        if handle.read {
            flags |= Flags::READ;
        }
        if handle.write {
            flags |= Flags::WRITE;
        }
        if handle.kind == Kind::Directory && handle.writable().is_ok() {
            flags |= Flags::MUTATE_DIRECTORY;
        }
        Ok(flags)
    }

    async fn get_type(&mut self, fd: Descriptor) -> FsResult<types::DescriptorType> {
        Ok(descriptor_type(self.get(&fd)?.kind))
    }

    async fn set_size(&mut self, fd: Descriptor, size: types::Filesize) -> FsResult<()> {
        Ok(self.get(&fd)?.set_size(size)?)
    }

    async fn set_times(
        &mut self,
        fd: Descriptor,
        _: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let handle = self.get(&fd)?;
        match new_time(modified)? {
            Some(ns) => Ok(handle.set_modified(ns)?),
            None => Ok(handle.writable()?),
        }
    }

    async fn read(
        &mut self,
        fd: Descriptor,
        length: types::Filesize,
        offset: types::Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        // Replaced in the linker by one that wipes what it hands out.
        self.read_at(&fd, length, offset)
    }

    async fn write(
        &mut self,
        fd: Descriptor,
        mut data: Vec<u8>,
        offset: types::Filesize,
    ) -> FsResult<types::Filesize> {
        let written = self.get(&fd).map(|handle| handle.write(Some(offset), &data));
        wipe(&mut data);
        let (_, written) = written??;
        Ok(written as u64)
    }

    async fn read_directory(
        &mut self,
        fd: Descriptor,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let directory = Arc::clone(self.get(&fd)?);
        if directory.kind != Kind::Directory {
            return Err(FileError::NotDirectory.into());
        }
        let listing = self.table.push(Listing { directory, after: Serial(0) })?;
        Ok(Resource::new_own(listing.rep()))
    }

    async fn create_directory_at(&mut self, fd: Descriptor, path: String) -> FsResult<()> {
        Ok(self.get(&fd)?.create_directory(&path)?)
    }

    async fn stat(&mut self, fd: Descriptor) -> FsResult<types::DescriptorStat> {
        Ok(descriptor_stat(self.get(&fd)?.stat()?))
    }

    async fn stat_at(
        &mut self,
        fd: Descriptor,
        _: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        Ok(descriptor_stat(self.get(&fd)?.stat_at(&path)?))
    }

    async fn set_times_at(
        &mut self,
        fd: Descriptor,
        _: types::PathFlags,
        path: String,
        _: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let handle = self.get(&fd)?;
        match new_time(modified)? {
            Some(ns) => Ok(handle.set_modified_at(&path, ns)?),
            None => {
                handle.writable()?;
                handle.stat_at(&path)?;
                Ok(())
            }
        }
    }

    /// There are no links in a state: nothing then leads out of it, and a node has one name.
    async fn link_at(
        &mut self,
        fd: Descriptor,
        _: types::PathFlags,
        _: String,
        other: Descriptor,
        _: String,
    ) -> FsResult<()> {
        self.get(&fd)?;
        self.get(&other)?;
        Err(ErrorCode::Unsupported.into())
    }

    async fn open_at(
        &mut self,
        fd: Descriptor,
        _: types::PathFlags,
        path: String,
        open: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Descriptor> {
        let write = flags.contains(types::DescriptorFlags::WRITE);
        let how = How {
            // Opened for nothing, a file can still be looked at.
            read: flags.contains(types::DescriptorFlags::READ) || !write,
            write,
            create: open.contains(types::OpenFlags::CREATE),
            exclusive: open.contains(types::OpenFlags::EXCLUSIVE),
            truncate: open.contains(types::OpenFlags::TRUNCATE),
            directory: open.contains(types::OpenFlags::DIRECTORY),
        };
        let handle = self.get(&fd)?.open(&path, how)?;
        self.add(handle).map_err(FsError::trap)
    }

    async fn readlink_at(&mut self, fd: Descriptor, path: String) -> FsResult<String> {
        // What there is, is no link.
        self.get(&fd)?.stat_at(&path)?;
        Err(ErrorCode::Invalid.into())
    }

    async fn remove_directory_at(&mut self, fd: Descriptor, path: String) -> FsResult<()> {
        Ok(self.get(&fd)?.remove_directory(&path)?)
    }

    async fn rename_at(
        &mut self,
        fd: Descriptor,
        from: String,
        other: Descriptor,
        to: String,
    ) -> FsResult<()> {
        Ok(self.get(&fd)?.rename(&from, self.get(&other)?, &to)?)
    }

    async fn symlink_at(&mut self, fd: Descriptor, _: String, _: String) -> FsResult<()> {
        self.get(&fd)?;
        Err(ErrorCode::Unsupported.into())
    }

    async fn unlink_file_at(&mut self, fd: Descriptor, path: String) -> FsResult<()> {
        Ok(self.get(&fd)?.unlink(&path)?)
    }

    async fn is_same_object(
        &mut self,
        one: Descriptor,
        other: Descriptor,
    ) -> wasmtime::Result<bool> {
        Ok(self.handle(&one)?.is_same(self.handle(&other)?))
    }

    async fn metadata_hash(&mut self, fd: Descriptor) -> FsResult<types::MetadataHashValue> {
        let handle = self.get(&fd)?;
        Ok(metadata_hash(handle, handle.stat()?))
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Descriptor,
        _: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let handle = self.get(&fd)?;
        Ok(metadata_hash(handle, handle.stat_at(&path)?))
    }

    fn drop(&mut self, fd: Descriptor) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Arc<Handle>>::new_own(fd.rep()))?;
        Ok(())
    }
}

impl types::HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.check().map_err(FsError::trap)?;
        let listing = self.table.get_mut(&Resource::<Listing>::new_borrow(stream.rep()))?;
        let Some(entry) = listing.directory.entry_after(listing.after)? else {
            return Ok(None);
        };
        listing.after = entry.serial;
        let (type_, name) = (descriptor_type(entry.kind), entry.name.as_str().to_owned());
        Ok(Some(types::DirectoryEntry { type_, name }))
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}

impl View<'_> {
    /// Up to `COPY_MAX` bytes, and whether the file ends at the offset.
    pub(super) fn read_at(
        &self,
        fd: &Descriptor,
        length: u64,
        offset: u64,
    ) -> FsResult<(Vec<u8>, bool)> {
        let handle = self.get(fd)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = read(handle, offset, length.min(COPY_MAX))?;
        let is_end = bytes.is_empty() && length > 0;
        Ok((bytes, is_end))
    }

    fn writer(
        &mut self,
        fd: &Descriptor,
        offset: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let handle = Arc::clone(self.get(fd)?);
        handle.is_file()?;
        handle.may_write()?;
        let control = Arc::clone(&self.files.control);
        let stream: DynOutputStream = Box::new(Writer { handle, offset, control });
        Ok(self.table.push(stream)?)
    }
}

fn descriptor_type(kind: Kind) -> types::DescriptorType {
    match kind {
        Kind::File => types::DescriptorType::RegularFile,
        Kind::Directory => types::DescriptorType::Directory,
    }
}

fn descriptor_stat(stat: Stat) -> types::DescriptorStat {
    let time = Datetime {
        seconds: stat.modified_ns / 1_000_000_000,
        nanoseconds: u32::try_from(stat.modified_ns % 1_000_000_000).unwrap_or(0),
    };
    types::DescriptorStat {
        type_: descriptor_type(stat.kind),
        link_count: u64::from(stat.is_linked),
        size: stat.size,
        data_access_timestamp: Some(time),
        data_modification_timestamp: Some(time),
        status_change_timestamp: Some(time),
    }
}

/// Serials are unique within a state, and the state has a number within the task.
fn metadata_hash(handle: &Handle, stat: Stat) -> types::MetadataHashValue {
    types::MetadataHashValue { lower: stat.serial.0, upper: handle.device }
}

/// The new time of a change if one is asked for: `Some(None)` is now.
fn new_time(asked: types::NewTimestamp) -> Result<Option<Option<u64>>, FileError> {
    match asked {
        types::NewTimestamp::NoChange => Ok(None),
        types::NewTimestamp::Now => Ok(Some(None)),
        types::NewTimestamp::Timestamp(time) => {
            let ns = time.seconds.checked_mul(1_000_000_000);
            let ns = ns.and_then(|ns| ns.checked_add(time.nanoseconds.into()));
            Ok(Some(Some(ns.ok_or(FileError::TooLarge)?)))
        }
    }
}
