//! Between the words of preview 1 and ours: pointers, errors, times, rights, listings.

use wasmtime_wasi::p1::types::{self, Errno, Error};
use wiggle::{GuestMemory, GuestPtr, GuestType};

use super::super::FileError;
use super::super::handle::{COPY_MAX, Handle};
use super::super::tree::{Entry, Kind, PATH_MAX, Serial, Stat};
use super::{Descriptor, Result};

/// Vectors one read or write looks at, as in POSIX systems.
const VECTORS_MAX: u32 = 1024;

/// Where entries of a listing begin, behind `.` and `..`.
const AFTER_DOTS: u64 = 2;

pub(super) fn errno(error: FileError) -> Errno {
    match error {
        FileError::NoEntry => Errno::Noent,
        FileError::Exists => Errno::Exist,
        FileError::NotDirectory => Errno::Notdir,
        FileError::IsDirectory => Errno::Isdir,
        FileError::NotEmpty => Errno::Notempty,
        FileError::NameTooLong => Errno::Nametoolong,
        FileError::IllegalName => Errno::Ilseq,
        FileError::Escape => Errno::Perm,
        FileError::Full => Errno::Nospc,
        FileError::ReadOnly => Errno::Rofs,
        FileError::CrossState => Errno::Xdev,
        FileError::Invalid => Errno::Inval,
        FileError::TooLarge => Errno::Fbig,
        FileError::TooManyOpen => Errno::Nfile,
        FileError::BadDescriptor => Errno::Badf,
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        errno(error).into()
    }
}

pub(super) fn path<'m>(memory: &'m GuestMemory<'_>, path: GuestPtr<str>) -> Result<&'m str> {
    if path.len() as usize > PATH_MAX {
        return Err(Errno::Nametoolong.into());
    }
    // Memory is never shared: threads are not in the engine's settings.
    memory.as_str(path)?.ok_or_else(|| Errno::Notsup.into())
}

/// Reads into the first of the guest's vectors that is not empty: a call may do less than it is
/// asked for.
pub(super) fn read_at(
    handle: &Handle,
    offset: u64,
    memory: &mut GuestMemory<'_>,
    vectors: types::IovecArray,
) -> Result<u32> {
    check_vectors(vectors.len())?;
    for vector in vectors.iter() {
        let vector = memory.read(vector?)?;
        if vector.buf_len > 0 {
            let into = vector.buf.as_array(vector.buf_len);
            let into = memory.as_slice_mut(into)?.ok_or(Errno::Notsup)?;
            return Ok(u32::try_from(handle.read(offset, into)?)?);
        }
    }
    Ok(u32::try_from(handle.read(offset, &mut [])?)?)
}

/// Writes the first vector that is not empty; says where, and how much.
pub(super) fn write_at(
    handle: &Handle,
    offset: Option<u64>,
    memory: &GuestMemory<'_>,
    vectors: types::CiovecArray,
) -> Result<(u64, u32)> {
    check_vectors(vectors.len())?;
    let mut data: &[u8] = &[];
    for vector in vectors.iter() {
        let vector = memory.read(vector?)?;
        if vector.buf_len > 0 {
            let from = vector.buf.as_array(vector.buf_len);
            data = memory.as_slice(from)?.ok_or(Errno::Notsup)?;
            break;
        }
    }
    let (offset, written) = handle.write(offset, data)?;
    Ok((offset, u32::try_from(written)?))
}

fn check_vectors(count: u32) -> Result<()> {
    if count > VECTORS_MAX { Err(Errno::Inval.into()) } else { Ok(()) }
}

pub(super) fn filetype(kind: Kind) -> types::Filetype {
    match kind {
        Kind::File => types::Filetype::RegularFile,
        Kind::Directory => types::Filetype::Directory,
    }
}

pub(super) fn filestat(handle: &Handle, stat: Stat) -> types::Filestat {
    types::Filestat {
        dev: handle.device,
        ino: stat.serial.0,
        filetype: filetype(stat.kind),
        nlink: u64::from(stat.is_linked),
        size: stat.size,
        atim: stat.modified_ns,
        mtim: stat.modified_ns,
        ctim: stat.modified_ns,
    }
}

/// What `set_times` asks for. Access times are not kept, so only that of the change counts.
pub(super) enum NewTime {
    Keep,
    /// In nanoseconds since 1970; `None` for now.
    Set(Option<u64>),
}

pub(super) fn new_time(ns: types::Timestamp, flags: types::Fstflags) -> Result<NewTime> {
    use types::Fstflags;
    let both = |one, other| flags.contains(one) && flags.contains(other);
    if both(Fstflags::MTIM, Fstflags::MTIM_NOW) || both(Fstflags::ATIM, Fstflags::ATIM_NOW) {
        return Err(Errno::Inval.into());
    }
    Ok(if flags.contains(Fstflags::MTIM) {
        NewTime::Set(Some(ns))
    } else if flags.contains(Fstflags::MTIM_NOW) {
        NewTime::Set(None)
    } else {
        NewTime::Keep
    })
}

/// Rights are history; libraries read them to learn whether a file is open for reading or writing.
pub(super) fn rights(handle: &Handle) -> types::Rights {
    use types::Rights;
    let mut without = Rights::empty();
    match handle.kind {
        Kind::Directory => {
            without |=
                Rights::FD_SEEK | Rights::FD_FILESTAT_SET_SIZE | Rights::PATH_FILESTAT_SET_SIZE;
        }
        Kind::File => {
            if !handle.read {
                without |= Rights::FD_READ;
            }
            if !handle.write {
                without |= Rights::FD_WRITE;
            }
        }
    }
    Rights::all() & !without
}

/// Fills `buffer` with the entries after `cookie`, the last one cut where the buffer ends. Returns
/// how much was filled: less than all of it when there are no more entries.
pub(super) fn list(
    handle: &Handle,
    mut cookie: u64,
    memory: &mut GuestMemory<'_>,
    buffer: GuestPtr<[u8]>,
) -> Result<u32> {
    let own = handle.stat()?.serial;
    let mut buffer = memory.as_slice_mut(buffer)?.ok_or(Errno::Notsup)?;
    let whole = buffer.len();
    while !buffer.is_empty() {
        let entry;
        let (next, serial, kind, name) = if cookie < AFTER_DOTS {
            (cookie + 1, own, Kind::Directory, if cookie == 0 { "." } else { ".." })
        } else {
            match handle.entry_after(Serial(cookie))? {
                Some(found) => entry = found,
                None => break,
            }
            let Entry { serial, kind, name } = &entry;
            (serial.0, *serial, *kind, name.as_str())
        };
        let head = head(next, serial, kind, name)?;
        buffer = put(put(buffer, &head), name.as_bytes());
        cookie = next;
    }
    Ok(u32::try_from(whole - buffer.len())?)
}

/// The fixed part of a listed entry, in the layout of preview 1.
fn head(next: u64, serial: Serial, kind: Kind, name: &str) -> Result<[u8; 24]> {
    debug_assert_eq!(types::Dirent::guest_size(), 24, "preview 1 is final");
    let mut head = [0; 24];
    head[..8].copy_from_slice(&next.to_le_bytes());
    head[8..16].copy_from_slice(&serial.0.to_le_bytes());
    head[16..20].copy_from_slice(&u32::try_from(name.len())?.to_le_bytes());
    head[20] = filetype(kind) as u8;
    Ok(head)
}

/// Copies as much of `data` as fits, and returns the rest of `buffer`.
fn put<'b>(buffer: &'b mut [u8], data: &[u8]) -> &'b mut [u8] {
    let length = data.len().min(buffer.len());
    let (here, rest) = buffer.split_at_mut(length);
    here.copy_from_slice(&data[..length]);
    rest
}

/// The event of a subscription to a descriptor of ours: a file never makes its guest wait.
pub(super) fn event(
    descriptor: &Descriptor,
    subscription: &types::Subscription,
) -> Result<types::Event> {
    let stat = descriptor.handle.stat()?;
    let (type_, nbytes) = match &subscription.u {
        types::SubscriptionU::FdRead(_) => {
            (types::Eventtype::FdRead, stat.size.saturating_sub(descriptor.position))
        }
        _ => (types::Eventtype::FdWrite, COPY_MAX as u64),
    };
    let error = match stat.kind {
        Kind::File => Errno::Success,
        Kind::Directory => Errno::Badf,
    };
    let fd_readwrite = types::EventFdReadwrite { flags: types::Eventrwflags::empty(), nbytes };
    Ok(types::Event { userdata: subscription.userdata, error, type_, fd_readwrite })
}
