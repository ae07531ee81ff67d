//! The log of one machine on disk: the newest lines, in two files.
//!
//! ```text
//!  log, log.older:  "VYRLOG\0\1" | number of the first line u64 | records as on the guest's channel
//! ```
//!
//! The guest forgets a line only after it is here, so a host that dies loses none; it may hear one
//! twice. Whoever reads never holds up whoever writes: what was thrown away before it was read is
//! counted. On a full disk lines are counted instead of kept.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vyr_vm::channel::words::{LogDecoder, LogRecord, LogSource};

use super::wire::LogLine;

/// Bytes of each of the two files.
const BYTES_MAX: u64 = 4 << 20;

const MAGIC: &[u8; 8] = b"VYRLOG\0\x01";
const HEAD: u64 = 16;

/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    bytes_max: u64,
    inside: Mutex<Inside>,
    bell: Condvar,
}

#[derive(Debug)]
struct Inside {
    /// `None`: it could not be made, and lines are counted.
    file: Option<File>,
    /// The number of its first line, of the next line, and the bytes of whole records.
    first: u64,
    next: u64,
    bytes: u64,
    /// Lines that could not be written.
    dropped: u64,
    /// Nothing follows.
    closed: bool,
}

impl Log {
    /// Opens the log in a directory, at the end of what is there.
    pub(crate) fn open(directory: &Path) -> Self {
        Self::with(directory, BYTES_MAX)
    }

    fn with(directory: &Path, bytes_max: u64) -> Self {
        let path = directory.join("log");
        let inside = match resume(&path) {
            Ok(inside) => inside,
            // None yet, or one of another form: its place is taken.
            Err(_) => fresh(&path, 0),
        };
        Self { path, bytes_max, inside: Mutex::new(inside), bell: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // What is published is whole: bytes and numbers change after the file did.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines.
    pub(crate) fn append(&self, records: &[LogRecord]) {
        let mut inside = self.lock();
        let gap = std::mem::take(&mut inside.dropped);
        let gap = (gap > 0).then(|| dropped(gap));
        for record in gap.iter().chain(records) {
            let bytes = record.encode();
            if inside.file.is_none() || inside.bytes + bytes.len() as u64 > self.bytes_max {
                self.turn(&mut inside);
            }
            let at = inside.bytes;
            let file = inside.file.as_ref();
            let written = file.is_some_and(|file| file.write_all_at(&bytes, at).is_ok());
            if written {
                inside.bytes += bytes.len() as u64;
                inside.next += 1;
            } else {
                inside.dropped += record.dropped().unwrap_or(1);
            }
        }
        drop(inside);
        self.bell.notify_all();
    }

    /// Begins a new file; the present one is the older from now on.
    fn turn(&self, inside: &mut Inside) {
        if let Some(file) = &inside.file {
            // What was half written does not stay behind whole records.
            let _ = file.set_len(inside.bytes);
            let _ = fs::rename(&self.path, older(&self.path));
        }
        let (next, dropped) = (inside.next, inside.dropped);
        *inside = Inside { dropped, ..fresh(&self.path, next) };
    }

    /// Says that nothing follows.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    /// Writes lines from number `from` on, to the present end or, if told to `follow`, to the last
    /// one.
    pub(crate) fn copy(&self, from: u64, follow: bool, mut to: impl Write) -> io::Result<()> {
        let mut next = from;
        while let Some(mut segment) = self.segment(&mut next, &mut to)? {
            let before = next;
            while let Some(bytes) = self.bytes_after(&segment, follow) {
                segment.copy(bytes, &mut next, &mut to)?;
            }
            let inside = self.lock();
            if inside.first == segment.first {
                // The present file, to its end.
                break;
            }
            let present = inside.first;
            drop(inside);
            if next == before && next < present {
                // The older file is shorter than it was: a power cut.
                let record = dropped(present - next);
                to.write_all(&LogLine { number: present, record }.encode())?;
                next = present;
            }
        }
        Ok(())
    }

    /// The file in which line `next` is. What is gone is told, and passed over.
    fn segment(&self, next: &mut u64, to: &mut impl Write) -> io::Result<Option<Segment>> {
        let inside = self.lock();
        let Some(present) = &inside.file else { return Ok(None) };
        let older = || {
            let file = File::open(older(&self.path)).ok()?;
            Some((read_head(&file).ok()?, file))
        };
        let (first, file) = match older() {
            Some((first, file)) if *next < inside.first => (first, file),
            _ => (inside.first, present.try_clone()?),
        };
        drop(inside);
        if *next < first {
            let record = dropped(first - *next);
            to.write_all(&LogLine { number: first, record }.encode())?;
            *next = first;
        }
        Ok(Some(Segment { file, first, at: HEAD, number: first, decoder: LogDecoder::default() }))
    }

    /// How many bytes of a file may be read now; waits for more if it grows and it is followed.
    /// `None`: there are no more.
    fn bytes_after(&self, segment: &Segment, follow: bool) -> Option<u64> {
        let mut inside = self.lock();
        loop {
            let present = inside.first == segment.first;
            let bytes = match present {
                true => inside.bytes,
                // It is whole, and does not grow any more.
                false => segment.file.metadata().map_or(0, |metadata| metadata.len()),
            };
            if bytes > segment.at {
                return Some(bytes);
            }
            if !present || !follow || inside.closed {
                return None;
            }
            inside = self.bell.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One file, as it is read.
struct Segment {
    file: File,
    first: u64,
    at: u64,
    /// Of the next record in it.
    number: u64,
    decoder: LogDecoder,
}

impl Segment {
    /// Copies the lines from `next` on that lie before the byte `end`.
    fn copy(&mut self, end: u64, next: &mut u64, to: &mut impl Write) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        while self.at < end {
            let most = usize::try_from(end - self.at).unwrap_or(PIECE).min(PIECE);
            let count = self.file.read_at(&mut piece[..most], self.at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += count as u64;
            let records = self.decoder.feed(&piece[..count]).map_err(io::Error::other)?;
            let mut bytes = Vec::new();
            for record in records {
                let number = self.number;
                self.number += 1;
                if number >= *next {
                    *next = number + 1;
                    bytes.extend(LogLine { number, record }.encode());
                }
            }
            to.write_all(&bytes)?;
        }
        Ok(())
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("older")
}

fn dropped(lines: u64) -> LogRecord {
    let line = lines.to_string().into_bytes();
    LogRecord { source: LogSource::Dropped, time_ns: 0, line, cut: false }
}

fn fresh(path: &Path, first: u64) -> Inside {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    let file = file.and_then(|mut file| {
        file.write_all(MAGIC)?;
        file.write_all(&first.to_be_bytes())?;
        Ok(file)
    });
    let (next, bytes) = (first, HEAD);
    Inside { file: file.ok(), first, next, bytes, dropped: 0, closed: false }
}

fn read_head(file: &File) -> io::Result<u64> {
    let mut head = [0; 16];
    file.read_exact_at(&mut head, 0)?;
    match head.split_first_chunk() {
        Some((magic, first)) if magic == MAGIC => {
            Ok(u64::from_be_bytes(first.try_into().map_err(io::Error::other)?))
        }
        _ => Err(io::Error::other("no log")),
    }
}

/// What is there, without a record that was half written.
fn resume(path: &Path) -> io::Result<Inside> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let first = read_head(&file)?;
    let (mut decoder, mut next, mut bytes) = (LogDecoder::default(), first, HEAD);
    io::Seek::seek(&mut file, io::SeekFrom::Start(HEAD))?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        let records = decoder.feed(&piece[..count]).map_err(io::Error::other)?;
        next += records.len() as u64;
        bytes += count as u64;
    }
    bytes -= decoder.held() as u64;
    file.set_len(bytes)?;
    Ok(Inside { file: Some(file), first, next, bytes, dropped: 0, closed: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn line(number: u64) -> LogRecord {
        let line = format!("line {number}").into_bytes();
        LogRecord { source: LogSource::Stdout, time_ns: number, line, cut: false }
    }

    fn lines(bytes: &[u8]) -> Vec<LogLine> {
        let mut rest = bytes;
        std::iter::from_fn(|| LogLine::read(&mut rest).expect("a line")).collect()
    }

    fn copy(log: &Log, from: u64) -> Vec<LogLine> {
        let mut bytes = Vec::new();
        log.copy(from, false, &mut bytes).expect("a log");
        lines(&bytes)
    }

    #[test]
    fn lines_are_there_after_a_torn_write() {
        let directory = tempfile::tempdir().expect("room");
        let log = Log::open(directory.path());
        log.append(&[line(0), line(1)]);
        drop(log);
        let mut file =
            File::options().append(true).open(directory.path().join("log")).expect("a log");
        file.write_all(&line(2).encode()[..9]).expect("room");
        let log = Log::open(directory.path());
        log.append(&[line(2)]);
        let read: Vec<_> =
            copy(&log, 1).into_iter().map(|line| (line.number, line.record)).collect();
        assert_eq!(read, [(1, line(1)), (2, line(2))]);
        assert_eq!(copy(&log, 3), []);
    }

    #[test]
    fn a_flood_is_two_files_and_what_is_gone_is_counted() {
        let directory = tempfile::tempdir().expect("room");
        let log = Log::with(directory.path(), 1000);
        for number in 0..10_000 {
            log.append(&[line(number)]);
        }
        let size = |name: &str| fs::metadata(directory.path().join(name)).expect("a file").len();
        assert!(size("log") <= 1000 && size("log.older") <= 1000);
        let read = copy(&log, 0);
        let gone = read[0].record.dropped().expect("lines are gone");
        assert_eq!(gone, read[0].number);
        assert_eq!(gone + read.len() as u64 - 1, 10_000);
        for pair in read[1..].windows(2) {
            assert_eq!(pair[1].number, pair[0].number + 1);
        }
        assert_eq!(read.last().map(|last| &last.record), Some(&line(9999)));
        // The same from the middle of the older file.
        let from = read[2].number;
        assert_eq!(copy(&log, from), read[2..]);
    }

    #[test]
    fn who_follows_hears_every_line_to_the_end() {
        let directory = tempfile::tempdir().expect("room");
        let log = Arc::new(Log::with(directory.path(), 100_000));
        log.append(&[line(0)]);
        let of_reader = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            of_reader.copy(0, true, &mut bytes).expect("a log");
            lines(&bytes)
        });
        for number in 1..1000 {
            log.append(&[line(number)]);
        }
        log.close();
        let read = reader.join().expect("no panic");
        assert_eq!(read.len(), 1000);
        assert!(read.iter().enumerate().all(|(n, read)| read.number == n as u64));
    }

    #[test]
    fn without_room_lines_are_counted() {
        let directory = tempfile::tempdir().expect("room");
        let log = Log::open(&directory.path().join("not there"));
        log.append(&[line(0), line(1), dropped(5)]);
        assert_eq!(copy(&log, 0), []);
        fs::create_dir(directory.path().join("not there")).expect("room");
        log.append(&[line(7)]);
        let read = copy(&log, 0);
        assert_eq!((read[0].record.dropped(), &read[1].record), (Some(7), &line(7)));
    }
}
