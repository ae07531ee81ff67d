//! References to what holds a promise or a refusal: a test, a benchmark, a transcript, a file.
//!
//! In a table's cell, between backticks:
//! - `crates/vyr-base/src/digest.rs::tests::name` or `vyr-base::tests::name`: that file, or any
//!   Rust file of that crate, declares `fn name`;
//! - `tests/cmd/run.md`: the file is there.
//!
//! Other text between backticks is prose, unless it looks like one of these and is not found.

use std::collections::BTreeMap;

use crate::markdown::code_spans;
use crate::repo::{Repo, TextFile};
use crate::rust_text::{code_only, has_word};

/// What references can point to.
pub(crate) struct Index {
    files: Vec<TextFile>,
    crate_dirs: BTreeMap<String, String>,
}

impl Index {
    /// Reads the repository once, for any number of references.
    pub(crate) fn new(repo: &Repo) -> anyhow::Result<Self> {
        Ok(Self { files: repo.texts()?, crate_dirs: repo.crate_dirs().into_iter().collect() })
    }

    /// What is wrong with a cell, as one phrase; `None` if it names at least one thing that
    /// exists and nothing that does not.
    pub(crate) fn fault(&self, cell: &str) -> Option<String> {
        let mut found = 0;
        for span in code_spans(cell) {
            if self.resolves(span) {
                found += 1;
            } else if span.contains("::") || (span.contains('/') && !span.contains(' ')) {
                return Some(format!("`{span}` does not exist"));
            }
        }
        (found == 0).then(|| format!("{cell}: that names no test, benchmark or file"))
    }

    fn resolves(&self, span: &str) -> bool {
        let Some((place, rest)) = span.split_once("::") else {
            return self.files.iter().any(|file| file.path == span);
        };
        let name = rest.rsplit("::").next().unwrap_or(rest);
        let folder = self.crate_dirs.get(place).map(|dir| format!("{dir}/"));
        self.files
            .iter()
            .filter(|file| match &folder {
                Some(folder) => file.path.starts_with(folder) && file.path.ends_with(".rs"),
                None => file.path == place,
            })
            .any(|file| declares(&file.text, name))
    }
}

fn declares(source: &str, name: &str) -> bool {
    let declaration = format!("fn {name}");
    code_only(source).lines().any(|line| has_word(line, &declaration))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An index of made-up files, for the checks that use one.
    pub(crate) fn index(files: &[(&str, &str)]) -> Index {
        let files = files
            .iter()
            .map(|(path, text)| TextFile { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        let crate_dirs = BTreeMap::from([("vyr-base".to_owned(), "crates/vyr-base".to_owned())]);
        Index { files, crate_dirs }
    }

    #[test]
    fn tests_are_found_by_file_and_by_crate_and_files_by_path() {
        let index = index(&[
            ("crates/vyr-base/src/digest.rs", "#[test]\nfn a_digest() {}\n// fn a_comment() {}\n"),
            ("tests/cmd/run.md", "text"),
        ]);
        let good = [
            "`crates/vyr-base/src/digest.rs::tests::a_digest`",
            "`vyr-base::a_digest`",
            "the transcript `tests/cmd/run.md` of `vyr run`",
        ];
        for cell in good {
            assert_eq!(index.fault(cell), None, "{cell}");
        }
        let bad = [
            "`crates/vyr-base/src/digest.rs::tests::a_dig`",
            "`vyr-base::a_comment`",
            "`vyr-base::a_digest` and `vyr-base::another`",
            "`tests/cmd/gone.md`",
            "`vyr run`",
            "a_digest",
        ];
        for cell in bad {
            assert!(index.fault(cell).is_some(), "{cell}");
        }
    }
}
