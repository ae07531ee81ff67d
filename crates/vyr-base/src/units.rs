//! Sizes and durations as people write them: `64Mi`, `10s`.

/// A text that is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what} (examples: {examples})")]
pub struct ParseUnitError {
    text: String,
    what: &'static str,
    examples: &'static str,
}

/// Suffixes of sizes, in bytes: decimal as in SI, binary as in IEC 80000-13 without the B.
const SIZES: [(&str, u64); 7] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("", 1),
];

/// Suffixes of durations, in milliseconds. `ms` stands before `m` and `s`.
const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads a size in bytes: a whole number with `Ki`, `Mi`, `Gi`, `k`, `M`, `G` or nothing.
pub fn parse_bytes(text: &str) -> Result<u64, ParseUnitError> {
    scaled(text, &SIZES).ok_or_else(|| ParseUnitError {
        text: text.chars().take(40).collect(),
        what: "size",
        examples: "64Mi, 1Gi, 500k, 4096",
    })
}

/// Reads a duration in milliseconds: a whole number with `ms`, `s`, `m` or `h`.
pub fn parse_duration_ms(text: &str) -> Result<u64, ParseUnitError> {
    scaled(text, &DURATIONS).ok_or_else(|| ParseUnitError {
        text: text.chars().take(40).collect(),
        what: "duration",
        examples: "250ms, 10s, 5m, 1h",
    })
}

fn scaled(text: &str, suffixes: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (_, unit) = suffixes.iter().find(|(name, _)| *name == suffix)?;
    number.parse::<u64>().ok()?.checked_mul(*unit)
}

/// Writes a size for a person: exact below 1 Ki, else three significant digits, `1.50 MiB`.
pub fn format_bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ if size < 10.0 => format!("{size:.2} {unit}"),
        _ if size < 100.0 => format!("{size:.1} {unit}"),
        _ => format!("{size:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        assert_eq!(parse_bytes("64Mi"), Ok(64 << 20));
        assert_eq!(parse_bytes("1G"), Ok(1_000_000_000));
        assert_eq!(parse_bytes("0"), Ok(0));
        assert_eq!(parse_duration_ms("250ms"), Ok(250));
        assert_eq!(parse_duration_ms("5m"), Ok(300_000));
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for text in ["", "Mi", "-1", "1.5Gi", "64 Mi", "64MiB", "1e3", "99999999999G", "٣"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        for text in ["", "10", "s", "1d", "10 s", "1.5s", "99999999999999999h"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_for_people() {
        let written = [0, 1023, 1024, 1536, 64 << 20, 5 << 40].map(format_bytes);
        assert_eq!(written, ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "64.0 MiB", "5.00 TiB"]);
    }
}
