//! Reading tar: one header after the other, every field bounded.
//!
//! The crate `tar` decodes header fields. The walk is ours: extended headers of any length would be
//! read into memory there, values with a newline cut, and a size in a PAX header overlooked.
//!
//! Refused, and why: sparse files (the OCI specification leaves them out), global headers that say
//! anything (readers differ in what they apply to), data behind a kind of entry that has none, and
//! kinds that are not in the specification.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::limits::EXTENDED_BYTES_MAX;

const BLOCK_BYTES: u64 = 512;

/// The prefix of a PAX record that holds an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveFault {
    #[error("it ends in the middle of an entry")]
    Truncated,
    #[error("{0}")]
    Invalid(&'static str),
    #[error("an extended header has more than {EXTENDED_BYTES_MAX} bytes")]
    Extended,
    #[error("entry {0:?} is sparse")]
    Sparse(String),
    #[error("entry {name:?} is of kind {kind:?}, which the image specification does not have")]
    Kind { name: String, kind: char },
    #[error("cannot be decompressed or read")]
    Read(#[from] io::Error),
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    Link(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Who owns it, what may be done with it, when it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Twelve bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970; squashfs holds no others than those from 1970 to 2106.
    pub(crate) mtime: u32,
}

/// Extended attributes: names and values.
pub(crate) type Attributes = Vec<(Box<[u8]>, Box<[u8]>)>;

/// One entry's header, extended headers applied.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    pub(crate) xattrs: Attributes,
    /// Bytes of data that follow.
    pub(crate) size: u64,
}

/// A tar archive, read from front to back.
pub(crate) struct Archive<R> {
    source: R,
    /// Of the entry that was returned last: data, then padding, not yet read.
    data: u64,
    padding: u64,
    /// Headers read so far, those that extend others included.
    headers: u64,
}

/// What the headers before an entry say about it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u32>,
    xattrs: Attributes,
    sparse: bool,
    long_name: bool,
    long_link: bool,
    pax: bool,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, data: 0, padding: 0, headers: 0 }
    }

    pub(crate) fn headers(&self) -> u64 {
        self.headers
    }

    pub(crate) fn into_source(self) -> R {
        self.source
    }

    /// The next entry; none behind the last. Data of the one before that was not read is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveFault> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return match extension.pax || extension.long_name || extension.long_link {
                    true => Err(ArchiveFault::Truncated),
                    false => Ok(None),
                };
            };
            self.headers += 1;
            let size =
                header.entry_size().map_err(|_| ArchiveFault::Invalid("a size is no number"))?;
            let once = |seen: &mut bool| match std::mem::replace(seen, true) {
                true => Err(ArchiveFault::Invalid("an entry has two extended headers of one kind")),
                false => Ok(()),
            };
            match header.entry_type() {
                EntryType::XHeader => {
                    once(&mut extension.pax)?;
                    let records = self.extended(size)?;
                    extension.read(&records)?;
                }
                EntryType::XGlobalHeader => {
                    let records = self.extended(size)?;
                    let mut all = Records(&records);
                    while let Some((key, _)) = all.next()? {
                        if key != b"comment" {
                            return Err(ArchiveFault::Invalid(
                                "a global header says more than a comment",
                            ));
                        }
                    }
                }
                EntryType::GNULongName => {
                    once(&mut extension.long_name)?;
                    let name = until_nul(self.extended(size)?);
                    extension.path.get_or_insert(name);
                }
                EntryType::GNULongLink => {
                    once(&mut extension.long_link)?;
                    let name = until_nul(self.extended(size)?);
                    extension.link.get_or_insert(name);
                }
                _ => {
                    let entry = entry(&header, extension)?;
                    self.data = entry.size;
                    self.padding = padding(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// A header block, or none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, ArchiveFault> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            // The end is two such blocks; a second one may be missing, something else may not stand
            // there.
            let mut second = Header::new_old();
            return match self.block(second.as_mut_bytes())? {
                true if second.as_bytes().iter().any(|byte| *byte != 0) => {
                    Err(ArchiveFault::Invalid("something stands behind an empty block"))
                }
                _ => Ok(None),
            };
        }
        // The checksum is that of the block with its own field blank.
        let bytes = header.as_bytes();
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        let field: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
        match header.cksum() {
            Ok(said) if said == sum - field + 8 * u32::from(b' ') => Ok(Some(header)),
            _ => Err(ArchiveFault::Invalid(
                "a header's checksum is wrong, or this is no tar archive",
            )),
        }
    }

    /// Fills a block; false if nothing was left at all.
    fn block(&mut self, block: &mut [u8; 512]) -> Result<bool, ArchiveFault> {
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(ArchiveFault::Truncated),
                read => filled += read,
            }
        }
        Ok(true)
    }

    /// The whole of a header that extends another.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>, ArchiveFault> {
        if size > EXTENDED_BYTES_MAX {
            return Err(ArchiveFault::Extended);
        }
        self.data = size;
        self.padding = padding(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(ArchiveFault::Truncated),
        }
    }

    fn skip(&mut self) -> Result<(), ArchiveFault> {
        let mut left = self.data + self.padding;
        (self.data, self.padding) = (0, 0);
        let mut buffer = [0; 64 << 10];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match self.source.read(&mut buffer[..want])? {
                0 => return Err(ArchiveFault::Truncated),
                read => left -= read as u64,
            }
        }
        Ok(())
    }
}

/// Reads the data of the entry that was returned last.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.data).unwrap_or(usize::MAX).min(into.len());
        let read = self.source.read(&mut into[..want])?;
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data -= read as u64;
        Ok(read)
    }
}

/// Bytes from the end of `size` bytes of data to the next block.
fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES) - size
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// The records of a PAX header: `LENGTH KEY=VALUE\n`, by length and not by line.
struct Records<'a>(&'a [u8]);

type KeyValue<'a> = (&'a [u8], &'a [u8]);

impl<'a> Records<'a> {
    fn next(&mut self) -> Result<Option<KeyValue<'a>>, ArchiveFault> {
        let fault = ArchiveFault::Invalid("an extended header is malformed");
        // Some writers pad with zeros.
        if self.0.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let parse = |bytes: &'a [u8]| -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
            let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
            let length: usize = str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
        };
        let (key, value, rest) = parse(self.0).ok_or(fault)?;
        self.0 = rest;
        Ok(Some((key, value)))
    }
}

impl Extension {
    fn read(&mut self, records: &[u8]) -> Result<(), ArchiveFault> {
        let number = |value: &[u8]| -> Result<u64, ArchiveFault> {
            let text = str::from_utf8(value).ok();
            text.and_then(|text| text.parse().ok())
                .ok_or(ArchiveFault::Invalid("an extended header's number is none"))
        };
        let mut records = Records(records);
        while let Some((key, value)) = records.next()? {
            if let Some(name) = key.strip_prefix(XATTR) {
                // Said twice, the later one counts.
                self.xattrs.retain(|(known, _)| **known != *name);
                self.xattrs.push((name.into(), value.into()));
                continue;
            }
            if key.starts_with(b"GNU.sparse.") {
                self.sparse = true;
            }
            // An empty value takes a record back.
            let absent = value.is_empty();
            match key {
                b"path" => self.path = (!absent).then(|| value.to_vec()),
                b"linkpath" => self.link = (!absent).then(|| value.to_vec()),
                b"size" => self.size = (!absent).then(|| number(value)).transpose()?,
                b"uid" => self.uid = (!absent).then(|| number(value)).transpose()?,
                b"gid" => self.gid = (!absent).then(|| number(value)).transpose()?,
                b"mtime" => self.mtime = (!absent).then(|| seconds(value)).transpose()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// `-1.5` or `1700000000.25` as whole seconds that squashfs can hold.
fn seconds(value: &[u8]) -> Result<u32, ArchiveFault> {
    let fault = || ArchiveFault::Invalid("an extended header's time is none");
    let text = str::from_utf8(value).map_err(|_| fault())?;
    let whole = text.split('.').next().unwrap_or(text);
    let seconds: i64 = whole.parse().map_err(|_| fault())?;
    Ok(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
}

fn entry(header: &Header, extension: Extension) -> Result<Entry, ArchiveFault> {
    let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = || {
        let plain = header.link_name_bytes().map(std::borrow::Cow::into_owned);
        extension.link.or(plain).ok_or(ArchiveFault::Invalid("a link has no target"))
    };
    let name = || super::fault::shown(&path);
    if extension.sparse {
        return Err(ArchiveFault::Sparse(name()));
    }
    let device = || {
        let number = |number: io::Result<Option<u32>>| {
            number.ok().flatten().ok_or(ArchiveFault::Invalid("a device has no number"))
        };
        Ok::<_, ArchiveFault>((number(header.device_major())?, number(header.device_minor())?))
    };
    let kind = match header.entry_type() {
        // Before POSIX a directory was a file whose name ends in a slash.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link()?),
        EntryType::Link => Kind::Link(link()?),
        EntryType::Char => device().map(|(major, minor)| Kind::Character(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| Kind::Block(major, minor))?,
        EntryType::Fifo => Kind::Fifo,
        EntryType::GNUSparse => return Err(ArchiveFault::Sparse(name())),
        other => {
            let kind = char::from(other.as_byte());
            return Err(ArchiveFault::Kind { name: name(), kind });
        }
    };
    let number = |said: Option<u64>, field: io::Result<u64>| {
        let value = said.or(field.ok()).and_then(|value| u32::try_from(value).ok());
        // The last one means "leave it" to the system.
        value.filter(|value| *value != u32::MAX)
    };
    let owner = ArchiveFault::Invalid("an owner is no number that Linux has");
    let size = extension.size.or(header.entry_size().ok()).unwrap_or(0);
    if kind != Kind::File && size != 0 {
        return Err(ArchiveFault::Invalid("data stands behind an entry that has none"));
    }
    if size > i64::MAX as u64 {
        return Err(ArchiveFault::Invalid("a size is more than a file can have"));
    }
    let mode = header.mode().map_err(|_| ArchiveFault::Invalid("a mode is no number"))?;
    // A time before 1970 is a large number in this field's binary form.
    let plain = || match header.mtime() {
        Ok(seconds) if seconds > i64::MAX as u64 => Ok(0),
        Ok(seconds) => Ok(u32::try_from(seconds).unwrap_or(u32::MAX)),
        Err(_) => Err(ArchiveFault::Invalid("a time is no number")),
    };
    let meta = Meta {
        mode: u16::try_from(mode & 0o7777).unwrap_or(0),
        uid: number(extension.uid, header.uid()).ok_or(owner)?,
        gid: number(extension.gid, header.gid())
            .ok_or(ArchiveFault::Invalid("a group is no number that Linux has"))?,
        mtime: match extension.mtime {
            Some(mtime) => mtime,
            None => plain()?,
        },
    };
    Ok(Entry { path, kind, meta, xattrs: extension.xattrs, size })
}
