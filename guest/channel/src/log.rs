//! Records of the log: one line each, or the number of lines that were dropped.
//!
//! ```text
//!  source u8 | time u64 | length u32 | bytes      source: 1 stdout, 2 stderr, 3 dropped; +128: cut
//! ```

/// Bytes of a line; a longer one is cut into several records, all but the last marked as cut.
pub const LINE_MAX: usize = 8 << 10;

const HEADER: usize = 13;
const CUT: u8 = 128;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// The workload's standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// None: this many lines were dropped here, as decimal digits.
    Dropped,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it came from.
    pub source: LogSource,
    /// The guest's wall clock, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The line without its end. It is the workload's and may hold any bytes.
    pub line: Vec<u8>,
    /// Whether the line goes on in the next record of this source.
    pub cut: bool,
}

impl LogRecord {
    /// Its bytes. A line longer than [`LINE_MAX`] is the caller's to cut.
    ///
    /// # Panics
    /// On a line of 4 GiB.
    pub fn encode(&self) -> Vec<u8> {
        let source = match self.source {
            LogSource::Stdout => 1,
            LogSource::Stderr => 2,
            LogSource::Dropped => 3,
        };
        let length = u32::try_from(self.line.len()).expect("a line is short");
        let mut bytes = Vec::with_capacity(HEADER + self.line.len());
        bytes.push(source | if self.cut { CUT } else { 0 });
        bytes.extend(self.time_ns.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(&self.line);
        bytes
    }

    /// How many lines were dropped, if it says so.
    pub fn dropped(&self) -> Option<u64> {
        let digits = std::str::from_utf8(&self.line).ok()?;
        if self.source == LogSource::Dropped { digits.parse().ok() } else { None }
    }
}

/// What is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The first byte.
    #[error("{0} is no source of a line")]
    Source(u8),
    /// Longer than a line may be.
    #[error("a line of {0} bytes")]
    TooLong(u32),
}

/// Takes bytes of the log and gives records. It holds less than one record and one addition.
#[derive(Debug, Default)]
pub struct LogDecoder {
    held: Vec<u8>,
}

impl LogDecoder {
    /// Adds bytes and gives the records that are whole now.
    ///
    /// # Errors
    /// The guest sends no log; nothing after it can be read.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<LogRecord>, LogError> {
        self.held.extend_from_slice(bytes);
        let (mut records, mut at) = (Vec::new(), 0);
        while let Some((header, rest)) = self.held[at..].split_first_chunk::<HEADER>() {
            let source = match header[0] & !CUT {
                1 => LogSource::Stdout,
                2 => LogSource::Stderr,
                3 => LogSource::Dropped,
                _ => return Err(LogError::Source(header[0])),
            };
            let [_, time @ .., a, b, c, d] = *header;
            let length = u32::from_be_bytes([a, b, c, d]);
            let size = usize::try_from(length).unwrap_or(usize::MAX);
            if size > LINE_MAX {
                return Err(LogError::TooLong(length));
            }
            let Some(line) = rest.get(..size) else { break };
            let (time_ns, cut) = (u64::from_be_bytes(time), header[0] & CUT != 0);
            records.push(LogRecord { source, time_ns, line: line.to_vec(), cut });
            at += HEADER + size;
        }
        self.held.drain(..at);
        Ok(records)
    }

    /// Bytes of a record that is not whole yet.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_as_they_were_written(
            lines in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..90), any::<u64>(), any::<bool>()), 0..9),
            size in 1usize..50,
        ) {
            let records: Vec<LogRecord> = lines.into_iter().map(|(line, time_ns, cut)| {
                let source = if cut { LogSource::Stderr } else { LogSource::Stdout };
                LogRecord { source, time_ns, line, cut }
            }).collect();
            let bytes: Vec<u8> = records.iter().flat_map(LogRecord::encode).collect();
            let mut decoder = LogDecoder::default();
            let mut came = Vec::new();
            for piece in bytes.chunks(size) {
                came.extend(decoder.feed(piece).expect("our own"));
            }
            prop_assert_eq!(came, records);
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert_eq!(LogDecoder::default().feed(&[9; 13]), Err(LogError::Source(9)));
        let mut endless = [0xff; 13];
        endless[0] = 1;
        assert_eq!(LogDecoder::default().feed(&endless), Err(LogError::TooLong(u32::MAX)));
    }
}
