//! `wasi:filesystem` of WASI 0.2 over the states of a task.
//!
//! The functions of Wasmtime's own implementation are replaced in the linker of components, so a
//! component has no way to the host's files at all. Its binding names Wasmtime's types for the
//! resources; to a guest a resource is a number, and ours are in the same table under that
//! number. The table checks the type at each look, so a mix-up is an error and not a confusion.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{self, ErrorCode};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable,
    StreamError, StreamResult,
};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::FileError;
use super::bytes::{Secret, wipe};
use super::handle::{COPY_MAX, Files, Handle};
use super::lend;
use super::tree::{How, Kind, Serial, Stat};
use crate::control::Control;
use crate::run::TaskState;

/// The most one read gives, and the most a stream takes at once: what Wasmtime's own streams do.
const STREAM_BYTES: usize = 64 << 10;

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
    fn handle(&self, descriptor: &Descriptor) -> wasmtime::Result<&Arc<Handle>> {
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

fn read(handle: &Handle, offset: u64, length: usize) -> Result<Vec<u8>, FileError> {
    let left = handle.stat()?.size.saturating_sub(offset);
    let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
    let read = handle.read(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
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

/// Reads a file from an offset on. Never waits.
struct Reader {
    handle: Arc<Handle>,
    offset: u64,
    control: Arc<Control>,
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.control.check().map_err(trap)?;
        let bytes = read(&self.handle, self.offset, size.min(STREAM_BYTES)).map_err(failed)?;
        if bytes.is_empty() && size > 0 {
            return Err(StreamError::Closed);
        }
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        Ok(Bytes::from_owner(Secret::new(bytes)))
    }
}

/// Writes a file from an offset on, or always at its end. Never waits.
struct Writer {
    handle: Arc<Handle>,
    offset: Option<u64>,
    control: Arc<Control>,
}

impl Writer {
    fn write_all(&mut self, mut data: &[u8]) -> StreamResult<()> {
        while !data.is_empty() {
            let (at, written) = self.handle.write(self.offset, data).map_err(failed)?;
            data = &data[written..];
            if let Some(offset) = &mut self.offset {
                *offset = at.saturating_add(written as u64);
            }
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, data: Bytes) -> StreamResult<()> {
        self.control.check().map_err(trap)?;
        if data.len() > STREAM_BYTES {
            return Err(StreamError::trap("wrote more than `check-write` allows"));
        }
        let written = self.write_all(&data);
        // The copy Wasmtime made of the guest's bytes; a splice may share it with somebody.
        if let Ok(mut copy) = data.try_into_mut() {
            wipe(&mut copy);
        }
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.control.check().map_err(trap)?;
        Ok(STREAM_BYTES)
    }
}

fn trap(stopped: crate::control::Stopped) -> StreamError {
    StreamError::Trap(wasmtime::Error::new(stopped))
}

fn failed(error: FileError) -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::new(error))
}

#[cfg(test)]
mod tests {
    use preopens::Host as _;

    use super::*;
    use crate::control::CancelHandle;
    use crate::limits::Limits;
    use crate::state::{Access, BoundState, EphemeralState};

    #[test]
    fn a_stopped_task_makes_no_call() {
        let state = EphemeralState::new(1 << 20);
        let states = vec![BoundState { name: "a".into(), state, access: Access::ReadWrite }];
        let cancel = CancelHandle::new();
        let control = Arc::new(Control::new(Limits::default(), cancel.clone()));
        let mut files = Files::new(states, Arc::clone(&control));
        let mut view = View { files: &mut files, table: &mut ResourceTable::new() };
        let (root, path) = view.get_directories().expect("it runs").remove(0);
        assert_eq!(path, "/state/a");
        let how = How { read: true, write: true, create: true, ..How::default() };
        let handle = Arc::new(view.get(&root).expect("it runs").open("f", how).expect("new"));
        let mut writer =
            Writer { handle: Arc::clone(&handle), offset: None, control: Arc::clone(&control) };
        let mut reader = Reader { handle, offset: 0, control };
        assert!(writer.write(Bytes::from_static(b"hello")).is_ok());
        assert_eq!(reader.read(2).expect("it runs"), "he");
        cancel.cancel();
        assert!(matches!(writer.write(Bytes::from_static(b"x")), Err(StreamError::Trap(_))));
        assert!(matches!(writer.check_write(), Err(StreamError::Trap(_))));
        assert!(matches!(reader.read(2), Err(StreamError::Trap(_))));
        assert!(view.handle(&root).is_err());
        assert!(view.get_directories().is_err());
    }
}
