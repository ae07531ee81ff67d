//! Exclusions: `docs/whitepaper/exclusions.md` holds the list as it was set, row by row.
//!
//! The rows are constants here and their digest a third copy, so that nobody softens the document
//! and this file together by accident.

use sha2::{Digest, Sha256};

use crate::fault::Fault;
use crate::markdown::{self, Row};
use crate::repo::Repo;

const FILE: &str = "docs/whitepaper/exclusions.md";

/// What is excluded, why, and until when.
const ROWS: &[[&str; 3]] = &[
    [
        "KYX (all components)",
        "Requires accumulated telemetry history that does not exist at MVO stage",
        "12\u{2013}18 months",
    ],
    [
        "Multi-node fabric",
        "Adds coordination complexity without new proof for the portability thesis",
        "6\u{2013}12 months",
    ],
    [
        "Eventual and strong state",
        "Require Raft and CRDT implementation; separate phase",
        "6\u{2013}12 months",
    ],
    [
        "Service mesh functions",
        "No sidecar proxies, no L7 routing, no inter-service mTLS",
        "not planned",
    ],
    [
        "Kubernetes API compatibility",
        "Dilutes positioning; increases surface without strategic gain",
        "not planned",
    ],
    ["Production hardening", "HA, automatic failover, SLA guarantees", "24\u{2013}30 months"],
    [
        "OCI runtime (full path)",
        "Compatibility stub only; not a supported execution path at MVO",
        "6\u{2013}12 months",
    ],
];
const HEADER: &str = "Excluded|Reason|Phase";

/// SHA-256 of the header and the rows, cells joined by `|`, each line ended.
const DIGEST: &str = "1d7dcbeecdc44c20c7ffa4d10fefe4012d58ddd6cd878f3c35d31d675ea2ffe5";

/// Checks the document against the list.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<Vec<Fault>> {
    Ok(faults(&repo.read(FILE)?))
}

fn faults(text: &str) -> Vec<Fault> {
    let found = markdown::rows(text, "Excluded");
    let mut faults = Vec::new();
    for (place, expected) in ROWS.iter().enumerate() {
        match found.get(place) {
            None => faults.push(Fault::new(FILE, format!("the row `{}` is missing", expected[0]))),
            Some(Row { line, cells }) if cells != expected => {
                let what = format!("`{}` is not `{}`", cells.join(" | "), expected.join(" | "));
                faults.push(Fault::line(FILE, *line, what));
            }
            Some(_) => {}
        }
    }
    for row in found.iter().skip(ROWS.len()) {
        faults.push(Fault::line(FILE, row.line, "is no row of the list"));
    }
    if digest(&found) != DIGEST {
        faults.push(Fault::new(FILE, format!("the digest of the table is not {DIGEST}")));
    }
    faults
}

fn digest(rows: &[Row]) -> String {
    let mut lines = format!("{HEADER}\n");
    for row in rows {
        lines.push_str(&row.cells.join("|"));
        lines.push('\n');
    }
    Sha256::digest(lines.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> String {
        let rows: String = ROWS.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
        format!("| Excluded | Reason | Phase |\n|---|---|---|\n{rows}")
    }

    #[test]
    fn the_list_passes_and_has_the_digest_it_was_set_with() {
        assert_eq!(faults(&table()), []);
    }

    #[test]
    fn a_softened_a_missing_a_moved_and_an_added_row_fail() {
        let text = table();
        assert!(!faults(&text.replace("not planned", "planned")).is_empty(), "softened");
        assert!(!faults(&text.replace("6\u{2013}12", "6-12")).is_empty(), "respelled");
        let gone: String =
            text.lines().filter(|line| !line.contains("KYX")).collect::<Vec<_>>().join("\n");
        assert!(!faults(&gone).is_empty(), "missing");
        let mut lines: Vec<&str> = text.lines().collect();
        lines.swap(2, 3);
        assert!(!faults(&lines.join("\n")).is_empty(), "moved");
        assert!(!faults(&format!("{text}| GPUs | no | not planned |\n")).is_empty(), "added");
        assert!(!faults("nothing").is_empty(), "no table");
    }

    #[test]
    fn the_digest_holds_the_constants_themselves() {
        let mut rows = markdown::rows(&table(), "Excluded");
        assert_eq!(digest(&rows), DIGEST);
        rows[0].cells[2] = "12-18 months".to_owned();
        assert_ne!(digest(&rows), DIGEST);
    }
}
