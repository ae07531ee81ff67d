//! Promises: every row of `PROMISES.md` names what enforces it, or says `pending`.

use crate::fault::Fault;
use crate::held_by::Index;
use crate::markdown;
use crate::repo::Repo;

const FILE: &str = "PROMISES.md";

/// The columns of the table, by position.
const HELD_BY: usize = 2;
const COLUMNS: usize = 4;

/// Checks the table in the repository.
pub(crate) fn check(repo: &Repo, index: &Index) -> anyhow::Result<Vec<Fault>> {
    Ok(faults(&repo.read(FILE)?, index))
}

fn faults(text: &str, index: &Index) -> Vec<Fault> {
    let rows = markdown::rows(text, "Promise");
    if rows.is_empty() {
        return vec![Fault::new(FILE, "has no table | Promise | Figure | Held by | Status |")];
    }
    let mut faults = Vec::new();
    for row in rows {
        if row.cells.len() != COLUMNS || row.cells.iter().any(String::is_empty) {
            let what = format!("a promise has {COLUMNS} cells, none empty");
            faults.push(Fault::line(FILE, row.line, what));
            continue;
        }
        let pending = row.cells[HELD_BY..].iter().any(|cell| cell.contains("pending"));
        if !pending && let Some(what) = index.fault(&row.cells[HELD_BY]) {
            faults.push(Fault::line(FILE, row.line, what));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_by::tests::index;

    const HEAD: &str = "| Promise | Figure | Held by | Status |\n| --- | --- | --- | --- |\n";

    #[test]
    fn a_promise_is_held_by_something_that_exists_or_is_pending() {
        let index = index(&[("crates/vyr-base/src/a.rs", "fn holds() {}\n")]);
        let count = |row: &str| faults(&format!("{HEAD}{row}\n"), &index).len();
        assert_eq!(count("| starts | 1 ms | `vyr-base::holds` | holds |"), 0);
        assert_eq!(count("| starts | 1 ms | pending | pending: no bench yet |"), 0);
        assert_eq!(count("| starts | 1 ms | the bench to come | pending |"), 0);
        assert_eq!(count("| starts | 1 ms | `vyr-base::lets_go` | holds |"), 1);
        assert_eq!(count("| starts | 1 ms | we are sure | holds |"), 1);
        assert_eq!(count("| starts | 1 ms | `vyr-base::holds` |"), 1);
    }

    #[test]
    fn a_file_without_the_table_fails() {
        assert_eq!(faults("# Promises\n", &index(&[])).len(), 1);
    }
}
