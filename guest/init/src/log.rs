//! The log of the workload: lines, kept while there is room, dropped and counted when there is none.
//!
//! ```text
//!  pipe -> lines -> ring (256 KiB, the oldest go) -> window of the channel -> host
//! ```

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use vyr_channel::{LINE_MAX, LogRecord, LogSource, Outbox};

use crate::guest::Guest;

/// Bytes of lines that wait for the host.
const RING_BYTES: usize = 256 << 10;

/// Lines on their way.
#[derive(Default)]
pub(crate) struct Log {
    /// What is under way, or was and is not acknowledged.
    pub(crate) outbox: Outbox,
    ring: VecDeque<Vec<u8>>,
    ring_bytes: usize,
    dropped: u64,
    /// Pipes that may still bring lines.
    pipes: usize,
    /// Whether there ever was one: a log that did not begin does not end.
    begun: bool,
}

impl Log {
    /// One more pipe is read, or may be later.
    pub(crate) fn open(&mut self) {
        self.begun = true;
        self.pipes += 1;
    }

    /// And one less.
    pub(crate) fn close(&mut self) {
        self.pipes -= 1;
    }

    fn push(&mut self, record: &LogRecord) {
        let bytes = record.encode();
        self.ring_bytes += bytes.len();
        self.ring.push_back(bytes);
        while self.ring_bytes > RING_BYTES {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    /// Moves whole records from the ring into the window.
    pub(crate) fn pump(&mut self) {
        loop {
            if self.dropped > 0 {
                let line = self.dropped.to_string().into_bytes();
                let source = LogSource::Dropped;
                let record = LogRecord { source, time_ns: now_ns(), line, cut: false }.encode();
                if record.len() > self.outbox.room() {
                    return;
                }
                self.outbox.push(&record);
                self.dropped = 0;
            }
            match self.ring.front() {
                Some(record) if record.len() <= self.outbox.room() => {
                    self.outbox.push(record);
                    self.ring_bytes -= record.len();
                    self.ring.pop_front();
                }
                Some(_) => return,
                None => break,
            }
        }
        if self.begun && self.pipes == 0 && !self.outbox.has_ended() {
            self.outbox.end();
        }
    }
}

/// Reads a pipe to its end. Never waits for the host.
pub(crate) fn read_lines(guest: &Arc<Guest>, source: LogSource, mut pipe: impl Read) {
    let mut lines = Lines::default();
    let mut bytes = vec![0; 16 << 10];
    loop {
        let count = match pipe.read(&mut bytes) {
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let time_ns = now_ns();
        let mut found = lines.feed(&bytes[..count]);
        if count == 0 {
            found.extend(lines.rest());
        }
        guest.with(|inner| {
            for (line, cut) in found {
                inner.log.push(&LogRecord { source, time_ns, line, cut });
            }
            if count == 0 {
                inner.log.close();
            }
        });
        if count == 0 {
            return;
        }
    }
}

/// Cuts bytes into lines of bounded length.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Lines that are whole, and parts of those too long.
    fn feed(&mut self, bytes: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut found = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, whole) = match piece.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (piece, false),
            };
            self.begun.extend(line);
            while self.begun.len() > LINE_MAX {
                let after = self.begun.split_off(LINE_MAX);
                found.push((std::mem::replace(&mut self.begun, after), true));
            }
            if whole {
                found.push((std::mem::take(&mut self.begun), false));
            }
        }
        found
    }

    /// A last line without an end.
    fn rest(&mut self) -> Option<(Vec<u8>, bool)> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then_some((rest, false))
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_channel::{Inbox, LogDecoder, WINDOW};

    #[test]
    fn lines_are_cut_where_they_end_or_are_too_long() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"on"), []);
        assert_eq!(lines.feed(b"e\n\ntwo"), [(b"one".to_vec(), false), (Vec::new(), false)]);
        assert_eq!(lines.rest(), Some((b"two".to_vec(), false)));
        let found = lines.feed(&[vec![b'x'; LINE_MAX * 2 + 1], b"\n".to_vec()].concat());
        let shape: Vec<(usize, bool)> =
            found.iter().map(|(line, cut)| (line.len(), *cut)).collect();
        assert_eq!(shape, [(LINE_MAX, true), (LINE_MAX, true), (1, false)]);
    }

    #[test]
    fn what_nobody_reads_is_dropped_counted_and_told() {
        let mut log = Log::default();
        log.open();
        let count = 20_000u64;
        for n in 0..count {
            let line = format!("line {n} {}", "x".repeat(100)).into_bytes();
            log.push(&LogRecord { source: LogSource::Stdout, time_ns: 0, line, cut: false });
        }
        log.close();
        assert!(log.ring_bytes <= RING_BYTES && log.dropped > 0);
        let (mut inbox, mut decoder) = (Inbox::from_start(), LogDecoder::default());
        let (mut lines, mut dropped, mut ended) = (0, 0, false);
        while !ended {
            log.pump();
            let payload = log.outbox.next_payload().expect("not the end");
            let arrived = inbox.accept(0, &payload).expect("bounds hold");
            ended = arrived.end;
            for record in decoder.feed(arrived.bytes).expect("records") {
                match record.dropped() {
                    Some(count) => dropped += count,
                    None => lines += 1,
                }
            }
            log.outbox.ack(0, inbox.consume(WINDOW)).expect("it was sent");
        }
        assert_eq!(lines + dropped, count);
    }
}
