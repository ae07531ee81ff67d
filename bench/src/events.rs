//! What `transform` is given: JSON events, one a line, from a file or made up.
//!
//! Made-up events look like the messages of a build tool (a name, a list of features, nested
//! objects, now and then an escaped text), because those are what a reader can produce anywhere;
//! a seed makes them the same on every machine. A report says which of the two it used.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::stats::Random;

/// Events of one small task.
pub const SMALL_EVENTS: usize = 1_000;

/// Lines that are repeated to fill the large input when there is no file to repeat.
const MADE_UP_EVENTS: usize = 20_000;

/// Where events came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Made up from a fixed seed.
    Synthetic,
    /// A file the user named.
    File,
}

/// A supply of whole lines.
#[derive(Debug)]
pub struct Events {
    lines: Vec<u8>,
    /// Where they came from.
    pub source: Source,
}

impl Events {
    /// The lines of `file`, else made-up ones.
    pub fn new(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else {
            return Ok(Self { lines: made_up(MADE_UP_EVENTS), source: Source::Synthetic });
        };
        let mut lines =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if lines.last() != Some(&b'\n') {
            lines.push(b'\n');
        }
        ensure!(lines.len() > 1, "{} holds no events", path.display());
        Ok(Self { lines, source: Source::File })
    }

    /// The first `count` lines, from the beginning again when there are fewer.
    pub fn first(&self, count: usize) -> Vec<u8> {
        self.lines
            .split_inclusive(|byte| *byte == b'\n')
            .cycle()
            .take(count)
            .flatten()
            .copied()
            .collect()
    }

    /// Writes the lines again and again to `path`, as many whole rounds and lines as fit in
    /// `bytes`; leaves the file in the page cache. Returns its length.
    pub fn fill(&self, path: &Path, bytes: u64) -> io::Result<u64> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let whole = self.lines.len() as u64;
        for _ in 0..bytes / whole {
            out.write_all(&self.lines)?;
        }
        let rest = usize::try_from(bytes % whole).unwrap_or(0);
        let end = self.lines[..rest].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        out.write_all(&self.lines[..end])?;
        out.flush()?;
        Ok(bytes - bytes % whole + end as u64)
    }
}

/// Reads `path` once, so that the next reader finds it in the page cache.
pub fn warm(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(length),
            read => length += read as u64,
        }
    }
}

fn made_up(count: usize) -> Vec<u8> {
    const REASONS: [&str; 4] =
        ["compiler-artifact", "build-script-executed", "compiler-message", "build-finished"];
    const FEATURES: [&str; 8] = ["std", "alloc", "derive", "default", "serde", "full", "rt", "net"];
    let mut random = Random::new();
    let mut lines = String::new();
    for n in 0..count {
        let reason = REASONS[random.below(REASONS.len())];
        let package = random.below(400);
        let features: Vec<String> = FEATURES
            .iter()
            .take(random.below(FEATURES.len() + 1))
            .map(|feature| format!("\"{feature}\""))
            .collect();
        let features = features.join(",");
        // Writing to a String does not fail.
        let _ = writeln!(
            lines,
            concat!(
                r#"{{"reason":"{}","package_id":"registry+https://example.org/index#crate-{}@{}.{}.{}","#,
                r#""target":{{"kind":["lib"],"crate_types":["lib"],"name":"crate_{}","#,
                r#""src_path":"/src/crate-{}/src/lib.rs","edition":"2024","doc":true,"test":false}},"#,
                r#""profile":{{"opt_level":"{}","debuginfo":0,"overflow_checks":false}},"#,
                r#""features":[{}],"message":"line {}: \"expected\" \u0041 \\ {}","#,
                r#""duration_us":{},"fresh":{}}}"#
            ),
            reason,
            package,
            random.below(9),
            random.below(40),
            random.below(12),
            package,
            package,
            random.below(4),
            features,
            n,
            random.next(),
            random.below(5_000_000),
            random.below(2) == 0,
        );
    }
    lines.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_events_are_json_and_the_same_every_time() {
        let events = Events::new(None).expect("made up");
        let first = events.first(SMALL_EVENTS);
        assert_eq!(first, Events::new(None).expect("made up").first(SMALL_EVENTS));
        for line in first.split(|byte| *byte == b'\n').take(SMALL_EVENTS) {
            let event: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            assert!(event["reason"].is_string());
        }
    }

    #[test]
    fn a_large_file_holds_whole_lines_only() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (events, large) = (dir.path().join("events"), dir.path().join("large"));
        std::fs::write(&events, "{\"a\":1}\n{\"b\":22}").expect("write");
        let events = Events::new(Some(&events)).expect("readable");
        assert_eq!(events.fill(&large, 30).expect("fill"), 25);
        assert_eq!(warm(&large).expect("read"), 25);
        assert_eq!(std::fs::read(&large).expect("read"), b"{\"a\":1}\n{\"b\":22}\n{\"a\":1}\n");
        assert_eq!(events.first(3), b"{\"a\":1}\n{\"b\":22}\n{\"a\":1}\n");
    }
}
