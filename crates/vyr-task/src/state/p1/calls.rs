//! The calls of preview 1, each for our descriptors or passed on.

use wasmtime_wasi::p1::types::{self, Errno};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr};

use super::translate::{self, NewTime};
use super::{Descriptor, FIRST, Result};
use crate::run::TaskState;
use crate::state::tree::{How, Kind};

/// The largest buffer `fd_readdir` fills; it may not be filled in part.
const LISTING_MAX: u32 = 1 << 20;

/// Subscriptions of one `poll_oneoff` of a task with states.
const SUBSCRIPTIONS_MAX: u32 = 1024;

type Memory<'a> = GuestMemory<'a>;

impl WasiSnapshotPreview1 for TaskState {
    fn set_hostcall_fuel(&mut self, fuel: usize) {
        self.wasi.set_hostcall_fuel(fuel);
    }

    fn args_get(
        &mut self,
        memory: &mut Memory<'_>,
        argv: GuestPtr<GuestPtr<u8>>,
        buffer: GuestPtr<u8>,
    ) -> Result<()> {
        self.wasi.args_get(memory, argv, buffer)
    }

    fn args_sizes_get(&mut self, memory: &mut Memory<'_>) -> Result<(types::Size, types::Size)> {
        self.wasi.args_sizes_get(memory)
    }

    fn environ_get(
        &mut self,
        memory: &mut Memory<'_>,
        environ: GuestPtr<GuestPtr<u8>>,
        buffer: GuestPtr<u8>,
    ) -> Result<()> {
        self.wasi.environ_get(memory, environ, buffer)
    }

    fn environ_sizes_get(&mut self, memory: &mut Memory<'_>) -> Result<(types::Size, types::Size)> {
        self.wasi.environ_sizes_get(memory)
    }

    fn clock_res_get(
        &mut self,
        memory: &mut Memory<'_>,
        id: types::Clockid,
    ) -> Result<types::Timestamp> {
        self.wasi.clock_res_get(memory, id)
    }

    fn clock_time_get(
        &mut self,
        memory: &mut Memory<'_>,
        id: types::Clockid,
        precision: types::Timestamp,
    ) -> Result<types::Timestamp> {
        self.wasi.clock_time_get(memory, id, precision)
    }

    async fn fd_advise(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        _: types::Filesize,
        _: types::Filesize,
        _: types::Advice,
    ) -> Result<()> {
        Ok(self.files.file(fd)?.handle.is_file()?)
    }

    /// Nothing can be set aside in a shared quota: not supported, as in Wasmtime.
    fn fd_allocate(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        _: types::Filesize,
        _: types::Filesize,
    ) -> Result<()> {
        self.files.file(fd)?.handle.is_file()?;
        Err(Errno::Notsup.into())
    }

    async fn fd_close(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        match self.files.descriptors()?.0.remove(&u32::from(fd)) {
            Some(descriptor) => {
                drop(descriptor);
                Ok(())
            }
            None => self.wasi.fd_close(memory, fd).await,
        }
    }

    async fn fd_datasync(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        self.files.file(fd).map(drop)
    }

    async fn fd_fdstat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
    ) -> Result<types::Fdstat> {
        let Some(descriptor) = self.files.ours(fd)? else {
            return self.wasi.fd_fdstat_get(memory, fd).await;
        };
        let rights = translate::rights(&descriptor.handle);
        let flags = types::Fdflags::APPEND;
        Ok(types::Fdstat {
            fs_filetype: translate::filetype(descriptor.handle.kind),
            fs_flags: if descriptor.append { flags } else { types::Fdflags::empty() },
            fs_rights_base: rights,
            fs_rights_inheriting: rights,
        })
    }

    fn fd_fdstat_set_flags(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<()> {
        let Some(descriptor) = self.files.ours(fd)? else {
            return self.wasi.fd_fdstat_set_flags(memory, fd, flags);
        };
        // A file in memory is always in sync and never blocks: nothing to remember but `APPEND`.
        descriptor.append = flags.contains(types::Fdflags::APPEND);
        Ok(())
    }

    fn fd_fdstat_set_rights(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        base: types::Rights,
        inheriting: types::Rights,
    ) -> Result<()> {
        match self.files.ours(fd)? {
            Some(_) => Err(Errno::Notsup.into()),
            None => self.wasi.fd_fdstat_set_rights(memory, fd, base, inheriting),
        }
    }

    async fn fd_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
    ) -> Result<types::Filestat> {
        match self.files.ours(fd)? {
            Some(Descriptor { handle, .. }) => Ok(translate::filestat(handle, handle.stat()?)),
            None => self.wasi.fd_filestat_get(memory, fd).await,
        }
    }

    async fn fd_filestat_set_size(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        size: types::Filesize,
    ) -> Result<()> {
        Ok(self.files.file(fd)?.handle.set_size(size)?)
    }

    async fn fd_filestat_set_times(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        _: types::Timestamp,
        modified: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        let handle = &self.files.file(fd)?.handle;
        match translate::new_time(modified, flags)? {
            NewTime::Set(ns) => Ok(handle.set_modified(ns)?),
            NewTime::Keep => Ok(handle.writable()?),
        }
    }

    async fn fd_read(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        vectors: types::IovecArray,
    ) -> Result<types::Size> {
        let Some(descriptor) = self.files.ours(fd)? else {
            return self.wasi.fd_read(memory, fd, vectors).await;
        };
        let read = translate::read_at(&descriptor.handle, descriptor.position, memory, vectors)?;
        descriptor.position = descriptor.position.saturating_add(u64::from(read));
        Ok(read)
    }

    async fn fd_pread(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        vectors: types::IovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size> {
        match self.files.ours(fd)? {
            Some(descriptor) => translate::read_at(&descriptor.handle, offset, memory, vectors),
            None => self.wasi.fd_pread(memory, fd, vectors, offset).await,
        }
    }

    async fn fd_write(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        vectors: types::CiovecArray,
    ) -> Result<types::Size> {
        let Some(descriptor) = self.files.ours(fd)? else {
            return self.wasi.fd_write(memory, fd, vectors).await;
        };
        let at = (!descriptor.append).then_some(descriptor.position);
        let (at, written) = translate::write_at(&descriptor.handle, at, memory, vectors)?;
        descriptor.position = at.saturating_add(u64::from(written));
        Ok(written)
    }

    async fn fd_pwrite(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        vectors: types::CiovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size> {
        match self.files.ours(fd)? {
            Some(descriptor) => {
                // As in Linux and in Wasmtime, appending wins over the offset.
                let at = (!descriptor.append).then_some(offset);
                let (_, written) = translate::write_at(&descriptor.handle, at, memory, vectors)?;
                Ok(written)
            }
            None => self.wasi.fd_pwrite(memory, fd, vectors, offset).await,
        }
    }

    fn fd_prestat_get(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<types::Prestat> {
        let path = self.files.file(fd)?.preopen.as_ref().ok_or(Errno::Badf)?;
        let pr_name_len = u32::try_from(path.len())?;
        Ok(types::Prestat::Dir(types::PrestatDir { pr_name_len }))
    }

    fn fd_prestat_dir_name(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<()> {
        let name = self.files.file(fd)?.preopen.as_ref().ok_or(Errno::Notdir)?;
        let used = u32::try_from(name.len())?;
        if used > length {
            return Err(Errno::Nametoolong.into());
        }
        Ok(memory.copy_from_slice(name.as_bytes(), path.as_array(used))?)
    }

    /// Moves a descriptor of ours anywhere, also over stdio; stdio is not moved over ours.
    async fn fd_renumber(
        &mut self,
        memory: &mut Memory<'_>,
        from: types::Fd,
        to: types::Fd,
    ) -> Result<()> {
        let (source, target) = (u32::from(from), u32::from(to));
        let descriptors = self.files.descriptors()?;
        let (is_ours, replaces_ours) =
            (descriptors.0.contains_key(&source), descriptors.0.contains_key(&target));
        match (is_ours, replaces_ours) {
            (false, false) => return self.wasi.fd_renumber(memory, from, to).await,
            (false, true) => return Err(Errno::Notsup.into()),
            (true, false) if target >= FIRST => return Err(Errno::Badf.into()),
            (true, false) => self.wasi.fd_close(memory, to).await?,
            (true, true) => {}
        }
        let descriptors = self.files.descriptors()?;
        if let Some(descriptor) = descriptors.0.remove(&source) {
            descriptors.0.insert(target, descriptor);
        }
        Ok(())
    }

    async fn fd_seek(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        offset: types::Filedelta,
        whence: types::Whence,
    ) -> Result<types::Filesize> {
        let Some(descriptor) = self.files.ours(fd)? else {
            return self.wasi.fd_seek(memory, fd, offset, whence).await;
        };
        descriptor.handle.is_file()?;
        let base = match whence {
            types::Whence::Set => 0,
            types::Whence::Cur => descriptor.position,
            types::Whence::End => descriptor.handle.stat()?.size,
        };
        descriptor.position = base.checked_add_signed(offset).ok_or(Errno::Inval)?;
        Ok(descriptor.position)
    }

    async fn fd_sync(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        self.files.file(fd).map(drop)
    }

    fn fd_tell(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<types::Filesize> {
        match self.files.ours(fd)? {
            Some(descriptor) => {
                descriptor.handle.is_file()?;
                Ok(descriptor.position)
            }
            None => self.wasi.fd_tell(memory, fd),
        }
    }

    async fn fd_readdir(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        buffer: GuestPtr<u8>,
        length: types::Size,
        cookie: types::Dircookie,
    ) -> Result<types::Size> {
        let handle = self.files.directory(fd)?;
        if length > LISTING_MAX {
            return Err(Errno::Inval.into());
        }
        translate::list(handle, cookie, memory, buffer.as_array(length))
    }

    async fn path_create_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let path = translate::path(memory, path)?;
        Ok(self.files.directory(fd)?.create_directory(path)?)
    }

    async fn path_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        _: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Filestat> {
        let path = translate::path(memory, path)?;
        let handle = self.files.directory(fd)?;
        Ok(translate::filestat(handle, handle.stat_at(path)?))
    }

    async fn path_filestat_set_times(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        _: types::Lookupflags,
        path: GuestPtr<str>,
        _: types::Timestamp,
        modified: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        let path = translate::path(memory, path)?;
        let handle = self.files.directory(fd)?;
        match translate::new_time(modified, flags)? {
            NewTime::Set(ns) => Ok(handle.set_modified_at(path, ns)?),
            NewTime::Keep => {
                handle.writable()?;
                handle.stat_at(path)?;
                Ok(())
            }
        }
    }

    /// There are no links in a state: nothing then leads out of it, and a node has one name.
    async fn path_link(
        &mut self,
        _: &mut Memory<'_>,
        one: types::Fd,
        _: types::Lookupflags,
        _: GuestPtr<str>,
        other: types::Fd,
        _: GuestPtr<str>,
    ) -> Result<()> {
        self.files.directories(one, other)?;
        Err(Errno::Notsup.into())
    }

    async fn path_open(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        _: types::Lookupflags,
        path: GuestPtr<str>,
        flags: types::Oflags,
        rights: types::Rights,
        _: types::Rights,
        fdflags: types::Fdflags,
    ) -> Result<types::Fd> {
        let path = translate::path(memory, path)?;
        let write = rights.contains(types::Rights::FD_WRITE);
        let handle = self.files.directory(fd)?.open(
            path,
            How {
                read: rights.contains(types::Rights::FD_READ),
                write,
                create: flags.contains(types::Oflags::CREAT),
                exclusive: flags.contains(types::Oflags::EXCL),
                truncate: flags.contains(types::Oflags::TRUNC),
                directory: flags.contains(types::Oflags::DIRECTORY),
            },
        )?;
        let append = handle.kind == Kind::File && fdflags.contains(types::Fdflags::APPEND);
        let descriptor = Descriptor { handle, position: 0, append, preopen: None };
        Ok(self.files.descriptors()?.add(descriptor)?.into())
    }

    async fn path_readlink(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        _: GuestPtr<u8>,
        _: types::Size,
    ) -> Result<types::Size> {
        let path = translate::path(memory, path)?;
        // What there is, is no link.
        self.files.directory(fd)?.stat_at(path)?;
        Err(Errno::Inval.into())
    }

    async fn path_remove_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let path = translate::path(memory, path)?;
        Ok(self.files.directory(fd)?.remove_directory(path)?)
    }

    async fn path_rename(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        from: GuestPtr<str>,
        to_fd: types::Fd,
        to: GuestPtr<str>,
    ) -> Result<()> {
        let (from, to) = (translate::path(memory, from)?, translate::path(memory, to)?);
        let (directory, other) = self.files.directories(fd, to_fd)?;
        Ok(directory.rename(from, other, to)?)
    }

    async fn path_symlink(
        &mut self,
        _: &mut Memory<'_>,
        _: GuestPtr<str>,
        fd: types::Fd,
        _: GuestPtr<str>,
    ) -> Result<()> {
        self.files.directory(fd)?;
        Err(Errno::Notsup.into())
    }

    async fn path_unlink_file(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let path = translate::path(memory, path)?;
        Ok(self.files.directory(fd)?.unlink(path)?)
    }

    /// When a file of ours is among the subscriptions, its event is there at once and the others
    /// are not waited for.
    async fn poll_oneoff(
        &mut self,
        memory: &mut Memory<'_>,
        subscriptions: GuestPtr<types::Subscription>,
        events: GuestPtr<types::Event>,
        count: types::Size,
    ) -> Result<types::Size> {
        if count > SUBSCRIPTIONS_MAX {
            return Err(Errno::Inval.into());
        }
        let descriptors = self.files.descriptors()?;
        let mut ready = 0;
        for subscription in subscriptions.as_array(count).iter() {
            let subscription = memory.read(subscription?)?;
            let (types::SubscriptionU::FdRead(on) | types::SubscriptionU::FdWrite(on)) =
                &subscription.u
            else {
                continue;
            };
            if let Some(descriptor) = descriptors.0.get(&u32::from(on.file_descriptor)) {
                memory.write(events.add(ready)?, translate::event(descriptor, &subscription)?)?;
                ready += 1;
            }
        }
        if ready > 0 {
            return Ok(ready);
        }
        self.wasi.poll_oneoff(memory, subscriptions, events, count).await
    }

    /// The linker holds another `proc_exit`, for all modules.
    fn proc_exit(&mut self, memory: &mut Memory<'_>, code: types::Exitcode) -> wasmtime::Error {
        self.wasi.proc_exit(memory, code)
    }

    fn proc_raise(&mut self, memory: &mut Memory<'_>, signal: types::Signal) -> Result<()> {
        self.wasi.proc_raise(memory, signal)
    }

    fn sched_yield(&mut self, memory: &mut Memory<'_>) -> Result<()> {
        self.wasi.sched_yield(memory)
    }

    fn random_get(
        &mut self,
        memory: &mut Memory<'_>,
        buffer: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<()> {
        self.wasi.random_get(memory, buffer, length)
    }

    fn sock_accept(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<types::Fd> {
        match self.files.ours(fd)? {
            Some(_) => Err(Errno::Notsock.into()),
            None => self.wasi.sock_accept(memory, fd, flags),
        }
    }

    fn sock_recv(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        data: types::IovecArray,
        flags: types::Riflags,
    ) -> Result<(types::Size, types::Roflags)> {
        match self.files.ours(fd)? {
            Some(_) => Err(Errno::Notsock.into()),
            None => self.wasi.sock_recv(memory, fd, data, flags),
        }
    }

    fn sock_send(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        data: types::CiovecArray,
        flags: types::Siflags,
    ) -> Result<types::Size> {
        match self.files.ours(fd)? {
            Some(_) => Err(Errno::Notsock.into()),
            None => self.wasi.sock_send(memory, fd, data, flags),
        }
    }

    fn sock_shutdown(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        how: types::Sdflags,
    ) -> Result<()> {
        match self.files.ours(fd)? {
            Some(_) => Err(Errno::Notsock.into()),
            None => self.wasi.sock_shutdown(memory, fd, how),
        }
    }
}
