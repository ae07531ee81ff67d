//! Filters, enriches and aggregates a stream of JSON events, one object a line.
//!
//! ```text
//! bytes -> lines -> event -> where? -> keep -> add, seq, bytes -> out
//!                     |         `-> count-by, sum --.
//!                     `-> malformed, oversized ------+-> summary, the last line
//! ```
//!
//! Invariants:
//! 1. Memory is bounded, whatever the input: one line of at most [`MAX_LINE_BYTES`] and its
//!    fields, one batch of output, [`MAX_GROUPS`] groups whose names are at most
//!    [`MAX_GROUP_NAME_BYTES`] long.
//! 2. No input panics. A line that is not one JSON object is counted as malformed, a longer one
//!    than the bound as oversized; both are left out.
//! 3. The same input and configuration give the same bytes on every machine: no clock, no
//!    randomness, no map whose order is not fixed.
//! 4. Values are passed on as they were written (number spelling, escapes, order of fields), so
//!    nothing is lost that this program does not understand.
//!
//! Deliberately not here: sorting, joins, anything that needs more than one event at a time.

mod config;
mod event;
mod lines;
mod path;
mod summary;

use std::io::{self, Read, Write};

pub use config::{Condition, Config, ParseError, USAGE};
pub use lines::MAX_LINE_BYTES;
pub use path::Path;
pub use summary::{MAX_GROUP_NAME_BYTES, MAX_GROUPS, MAX_GROUPS_SHOWN};

use event::Event;
use lines::{Line, Lines};
use summary::Summary;

/// Output gathered before it is written: one host call then carries a few hundred events.
const WRITE_BYTES: usize = 64 * 1024;

/// Reads events from `reader` and writes what `config` makes of them, and a summary, to `writer`.
///
/// # Errors
/// Only those of `reader` and `writer`. Faults of the input are counted in the summary.
pub fn run(reader: impl Read, mut writer: impl Write, config: &Config) -> io::Result<()> {
    let mut lines = Lines::new(reader);
    let mut summary = Summary::default();
    let mut out = Vec::with_capacity(2 * WRITE_BYTES);
    while let Some(line) = lines.next()? {
        match line {
            Line::Whole(line) => transform(line, config, &mut summary, &mut out),
            Line::Oversized => summary.oversized += 1,
        }
        if out.len() >= WRITE_BYTES {
            writer.write_all(&out)?;
            out.clear();
        }
    }
    summary.bytes_in = lines.bytes_read();
    summary.write(config, &mut out)?;
    writer.write_all(&out)?;
    writer.flush()
}

fn transform(line: &[u8], config: &Config, summary: &mut Summary, out: &mut Vec<u8>) {
    if line.iter().all(u8::is_ascii_whitespace) {
        return;
    }
    let Some(event) = Event::parse(line) else {
        summary.malformed += 1;
        return;
    };
    summary.events += 1;
    if !config.conditions.iter().all(|condition| condition.holds(&event)) {
        return;
    }
    summary.kept += 1;
    summary.count(config, &event);
    event.write(config, summary.lines(), line.len(), out);
}
