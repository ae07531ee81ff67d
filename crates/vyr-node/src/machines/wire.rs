//! The words of `machines`: messages between it and `api`, and what its sockets carry to a client.
//!
//! Messages go as in `process::wire`. A session's socket carries frames:
//!
//! ```text
//!  kind u8 | length u32 (big endian, at most FRAME_MAX) | payload
//!  to the session: 0 input, 1 no input follows, 2 rows u16 columns u16, 3 signal u8
//!  from it:        16 output, 17 errors, 18 its end: 0 code | 1 signal | 2 text
//! ```
//!
//! A log's socket carries lines: their number (u64, big endian, from 0) and a record as the guest's
//! channel has it. A record of dropped lines counts what is not there.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vyr_vm::channel::words::{
    ExecEnd, LogDecoder, LogError, LogRecord, Process, Start, Window, shortened,
};
use vyr_vm::vmm::Capabilities;

use super::{Event, Known, MachineId, MachinesError};

/// To `machines`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Its answer has the same.
    pub(crate) number: u64,
    pub(crate) ask: Ask,
}

/// The same, as it is sent.
#[derive(Debug, Serialize)]
pub(crate) struct Asked<'a> {
    pub(crate) number: u64,
    pub(crate) ask: &'a Ask,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Beside it: the root disk, and the TAP if `mac` is there.
    Start(Box<Ordered>),
    Stop {
        id: MachineId,
        signal: u8,
        grace_ms: u64,
    },
    Kill {
        id: MachineId,
    },
    Exec {
        id: MachineId,
        process: Process,
        terminal: Option<Window>,
    },
    Logs {
        id: MachineId,
        from: u64,
        follow: bool,
    },
    Console {
        id: MachineId,
    },
    List,
    Forget {
        id: MachineId,
    },
    Capabilities,
}

/// An order without its descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ordered {
    pub(crate) id: MachineId,
    pub(crate) memory_bytes: u64,
    pub(crate) vcpus: u8,
    pub(crate) scratch_bytes: Option<u64>,
    /// Below `DATA/machines`, and relative to it.
    pub(crate) snapshot: Option<PathBuf>,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) start: Start,
}

/// From `machines`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Perhaps with a socket beside it.
    Answer(u64, Result<Answer, MachinesError>),
    Event(Event),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// Beside it.
    Socket,
    Known(Vec<Known>),
    Console(Vec<u8>),
    Capabilities(Result<Capabilities, String>),
}

/// Bytes of a frame's payload.
pub const FRAME_MAX: usize = 64 << 10;

const HEAD: usize = 5;

/// One frame of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecFrame {
    /// To the session: input.
    Input(Vec<u8>),
    /// To the session: no input follows.
    EndInput,
    /// To the session: its terminal has another size.
    Resize(Window),
    /// To the session: a signal.
    Signal(u8),
    /// From it: what it wrote.
    Output(Vec<u8>),
    /// From it: what it wrote to its standard error.
    Errors(Vec<u8>),
    /// From it, and the last.
    Ended(ExecEnd),
}

/// What is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// Longer than [`FRAME_MAX`].
    #[error("a frame of {0} bytes")]
    TooLong(u32),
    /// A kind that nobody knows.
    #[error("a frame of kind {0}")]
    Kind(u8),
    /// A payload of another form.
    #[error("a frame of kind {0} with a payload that is none")]
    Payload(u8),
}

impl ExecFrame {
    /// Its bytes. Text and output beyond [`FRAME_MAX`] are the caller's to cut.
    ///
    /// # Panics
    /// On a payload of 4 GiB.
    pub fn encode(&self) -> Vec<u8> {
        let end;
        let window;
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Input(bytes) => (0, bytes),
            Self::EndInput => (1, &[]),
            Self::Resize(Window { rows, columns }) => {
                window = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
                (2, &window)
            }
            Self::Signal(number) => (3, std::slice::from_ref(number)),
            Self::Output(bytes) => (16, bytes),
            Self::Errors(bytes) => (17, bytes),
            Self::Ended(how) => {
                end = match how {
                    ExecEnd::Code(code) => vec![0, *code],
                    ExecEnd::Signal(signal) => vec![1, *signal],
                    ExecEnd::Failed(why) => [&[2], shortened(why).as_bytes()].concat(),
                };
                (18, &end)
            }
        };
        let length = u32::try_from(payload.len()).expect("a frame is short");
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.push(kind);
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn of(kind: u8, payload: Vec<u8>) -> Result<Self, FrameFault> {
        let wrong = FrameFault::Payload(kind);
        Ok(match (kind, &payload[..]) {
            (0, _) => Self::Input(payload),
            (1, []) => Self::EndInput,
            (2, [a, b, c, d]) => Self::Resize(Window {
                rows: u16::from_be_bytes([*a, *b]),
                columns: u16::from_be_bytes([*c, *d]),
            }),
            (3, [signal]) => Self::Signal(*signal),
            (16, _) => Self::Output(payload),
            (17, _) => Self::Errors(payload),
            (18, [0, code]) => Self::Ended(ExecEnd::Code(*code)),
            (18, [1, signal]) => Self::Ended(ExecEnd::Signal(*signal)),
            (18, [2, text @ ..]) => {
                let text = std::str::from_utf8(text).map_err(|_| wrong)?;
                Self::Ended(ExecEnd::Failed(shortened(text)))
            }
            (1..=3 | 18, _) => return Err(wrong),
            _ => return Err(FrameFault::Kind(kind)),
        })
    }

    /// Reads one; `None` at the end of the stream, between two frames.
    ///
    /// # Errors
    /// The stream's; what is no frame is `InvalidData`, with a [`FrameFault`].
    pub fn read(mut from: impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD];
        let first = loop {
            match from.read(&mut head[..1]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if first == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..])?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        let wrong = |fault: FrameFault| io::Error::new(io::ErrorKind::InvalidData, fault);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > FRAME_MAX {
            return Err(wrong(FrameFault::TooLong(length)));
        }
        let mut payload = vec![0; size];
        from.read_exact(&mut payload)?;
        Self::of(kind, payload).map(Some).map_err(wrong)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The stream's.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(&self.encode())
    }
}

/// One line of a log, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// From 0; the next line's is one more, whatever was dropped.
    pub number: u64,
    /// The line.
    pub record: LogRecord,
}

impl LogLine {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.number.to_be_bytes().to_vec();
        bytes.extend(self.record.encode());
        bytes
    }

    /// Reads one; `None` at the end of the stream, between two lines.
    ///
    /// # Errors
    /// The stream's; what is no line is `InvalidData`, with a [`LogError`].
    pub fn read(mut from: impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 8 + 13];
        let first = loop {
            match from.read(&mut head[..1]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if first == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..])?;
        let (number, rest) = head.split_at(8);
        let number = u64::from_be_bytes(number.try_into().expect("eight bytes"));
        let wrong = |fault: LogError| io::Error::new(io::ErrorKind::InvalidData, fault);
        let mut decoder = LogDecoder::default();
        // The head says how long it is, and whether that is too long.
        let mut records = decoder.feed(rest).map_err(wrong)?;
        let length = u32::from_be_bytes(rest[9..].try_into().expect("four bytes"));
        let mut line = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        from.read_exact(&mut line)?;
        records.extend(decoder.feed(&line).map_err(wrong)?);
        let record = records.pop().ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(Self { number, record }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_vm::channel::words::{LINE_MAX, LogSource};

    #[test]
    fn frames_come_as_they_were_written() {
        let frames = [
            ExecFrame::Input(vec![1, 2]),
            ExecFrame::Input(Vec::new()),
            ExecFrame::EndInput,
            ExecFrame::Resize(Window { rows: 300, columns: 2 }),
            ExecFrame::Signal(9),
            ExecFrame::Output(vec![0; FRAME_MAX]),
            ExecFrame::Errors(vec![7]),
            ExecFrame::Ended(ExecEnd::Code(3)),
            ExecFrame::Ended(ExecEnd::Signal(15)),
            ExecFrame::Ended(ExecEnd::Failed("no such file".into())),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(ExecFrame::encode).collect();
        let mut rest = &bytes[..];
        for frame in frames {
            assert_eq!(ExecFrame::read(&mut rest).expect("a frame"), Some(frame));
        }
        assert_eq!(ExecFrame::read(&mut rest).expect("the end"), None);
    }

    #[test]
    fn hostile_frames_are_refused() {
        let cases: [&[u8]; 8] = [
            &[0, 0, 1, 0, 1],
            &[0, 0xff, 0xff, 0xff, 0xff],
            &[9, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 0],
            &[2, 0, 0, 0, 3, 0, 0, 0],
            &[18, 0, 0, 0, 0],
            &[18, 0, 0, 0, 2, 2, 0xff],
            // Torn.
            &[0, 0, 0, 0, 5, 1],
        ];
        for bytes in cases {
            assert!(ExecFrame::read(bytes).is_err(), "{bytes:?}");
        }
    }

    /// Each byte of each frame changed to every other: what is read is what was written.
    #[test]
    fn no_change_of_a_byte_is_more_than_another_frame() {
        let mut read = 0;
        for frame in [
            ExecFrame::Input(vec![1, 2]),
            ExecFrame::Resize(Window { rows: 3, columns: 4 }),
            ExecFrame::Ended(ExecEnd::Failed("no".into())),
        ] {
            let bytes = frame.encode();
            for (at, value) in (0..bytes.len()).flat_map(|at| (0..=u8::MAX).map(move |v| (at, v))) {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(Some(other)) = ExecFrame::read(&changed[..]) {
                    // A text without what moves a cursor is another text.
                    let plain = !matches!(other, ExecFrame::Ended(ExecEnd::Failed(_)));
                    assert!(!plain || changed.starts_with(&other.encode()), "{changed:?}");
                    read += 1;
                }
            }
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn lines_come_as_they_were_written_and_others_are_refused() {
        let record =
            |line: Vec<u8>| LogRecord { source: LogSource::Stderr, time_ns: 5, line, cut: true };
        let lines = [vec![], b"a".to_vec(), vec![b'x'; LINE_MAX]].map(record);
        let lines: Vec<LogLine> = lines
            .into_iter()
            .enumerate()
            .map(|(n, record)| LogLine { number: n as u64, record })
            .collect();
        let bytes: Vec<u8> = lines.iter().flat_map(LogLine::encode).collect();
        let mut rest = &bytes[..];
        for line in &lines {
            assert_eq!(LogLine::read(&mut rest).expect("a line").as_ref(), Some(line));
        }
        assert_eq!(LogLine::read(&mut rest).expect("the end"), None);
        let mut long = lines[0].encode();
        long[17] = 1;
        assert!(LogLine::read(&long[..]).is_err());
        long[8] = 99;
        assert!(LogLine::read(&long[..]).is_err());
        assert!(LogLine::read(&bytes[..20]).is_err());
    }
}
