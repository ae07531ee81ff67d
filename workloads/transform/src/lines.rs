//! Lines of a stream, in bounded memory and large reads.

use std::io::{self, ErrorKind, Read};

/// The longest line that is looked at, without its line feed.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Room offered to every read: a host call costs microseconds, so each should carry much.
const READ_BYTES: usize = 64 * 1024;

pub(crate) enum Line<'a> {
    /// A line of at most [`MAX_LINE_BYTES`], without its line feed.
    Whole(&'a [u8]),
    /// A longer line; its bytes are gone.
    Oversized,
}

/// The buffer starts at two reads and doubles only for a line that does not fit, so a small
/// task touches little memory.
pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// `buffer[start..end]` holds what was read and not yet handed out.
    start: usize,
    end: usize,
    bytes_read: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; 2 * READ_BYTES], start: 0, end: 0, bytes_read: 0 }
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next line, or `None` at the end of the stream. A last line needs no line feed.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut oversized = false;
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &unread[searched..]) {
                let length = searched + at;
                return Ok(Some(self.take(length, 1, oversized)));
            }
            searched = unread.len();
            if oversized || searched > MAX_LINE_BYTES {
                oversized = true;
                self.start = self.end;
                searched = 0;
            }
            if !self.fill()? {
                let rest = self.end - self.start;
                return Ok((oversized || rest > 0).then(|| self.take(rest, 0, oversized)));
            }
        }
    }

    /// Hands out the first `length` bytes and drops the `feed` bytes after them.
    fn take(&mut self, length: usize, feed: usize, oversized: bool) -> Line<'_> {
        let from = self.start;
        self.start += length + feed;
        if oversized || length > MAX_LINE_BYTES {
            Line::Oversized
        } else {
            Line::Whole(&self.buffer[from..from + length])
        }
    }

    /// Reads more behind what is there; false at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() - self.end < READ_BYTES {
            let doubled = (2 * self.buffer.len()).min(MAX_LINE_BYTES + 2 * READ_BYTES);
            self.buffer.resize(doubled, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    self.bytes_read += count as u64;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads at most `step` bytes at a time, so that lines straddle reads everywhere.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(into.len());
            let (now, later) = self.0.split_at(count);
            into[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    /// The lengths of the lines, `None` for an oversized one.
    fn lengths(input: &[u8], step: usize) -> Vec<Option<usize>> {
        let mut lines = Lines::new(Trickle(input, step));
        let mut lengths = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            lengths.push(match line {
                Line::Whole(line) => Some(line.len()),
                Line::Oversized => None,
            });
        }
        assert_eq!(lines.bytes_read(), input.len() as u64);
        assert!(lines.buffer.len() <= MAX_LINE_BYTES + 2 * READ_BYTES);
        lengths
    }

    #[test]
    fn every_read_size_gives_the_same_lines() {
        let input = b"ab\n\ncdefg\nh";
        for step in 1..=input.len() {
            assert_eq!(lengths(input, step), [Some(2), Some(0), Some(5), Some(1)], "step {step}");
        }
        assert!(lengths(b"", 1).is_empty());
        assert_eq!(lengths(b"\n", 1), [Some(0)]);
    }

    #[test]
    fn the_bound_is_exact_and_the_line_after_it_survives() {
        for step in [1000, READ_BYTES, usize::MAX] {
            for (length, expected) in [
                (MAX_LINE_BYTES - 1, Some(MAX_LINE_BYTES - 1)),
                (MAX_LINE_BYTES, Some(MAX_LINE_BYTES)),
                (MAX_LINE_BYTES + 1, None),
                (5 * MAX_LINE_BYTES, None),
            ] {
                let mut input = vec![b'x'; length];
                assert_eq!(lengths(&input, step), [expected], "{length} at the end");
                input.extend_from_slice(b"\nafter\n");
                assert_eq!(lengths(&input, step), [expected, Some(5)], "{length}, step {step}");
            }
        }
    }
}
