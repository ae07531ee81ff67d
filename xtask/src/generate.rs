//! Documents that the product writes about itself: command reference, man pages, completions,
//! the index of errors. Committed, so that they can be read and reviewed; compared, so that
//! they are true.
//!
//! The hidden command `vyr __generate DIR` writes them below DIR, each at its path in the
//! repository. Not here: what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::repo::{Repo, cargo};
use crate::step;

/// Where generated documents are, and nothing else is: files, or folders that end in `/`.
const PLACES: &[&str] =
    &["docs/cli.md", "docs/errors.md", "docs/man/", "docs/schema/", "completions/"];

/// Whether that path of the repository is written by `vyr __generate`.
pub(crate) fn is_generated(path: &str) -> bool {
    PLACES.iter().any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)))
}

/// Writes the documents, or, with `check`, only says which differ and fails if one does.
pub(crate) fn run(repo: &Repo, check: bool) -> anyhow::Result<()> {
    let dir = repo.scratch()?.join("generate");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    step::run(
        Command::new(cargo())
            .current_dir(&repo.root)
            .args(["run", "--quiet", "--locked", "--package=vyr", "--bin=vyr", "--", "__generate"])
            .arg(&dir)
            // The width of the terminal that starts this is no part of a document.
            .env("COLUMNS", "100")
            .env("NO_COLOR", "1"),
    )?;
    let new = read_below(&dir)?;
    if let Some(path) = new.keys().find(|path| !is_generated(path)) {
        bail!("`vyr __generate` wrote {path}, which is no place for a generated document");
    }
    if new.is_empty() {
        bail!("`vyr __generate` wrote nothing");
    }
    let mut old = BTreeMap::new();
    for folder in ["docs", "completions"] {
        let files = read_below(&repo.root.join(folder))?;
        old.extend(files.into_iter().map(|(path, text)| (format!("{folder}/{path}"), text)));
    }
    old.retain(|path, _| is_generated(path));
    let differences = differences(&old, &new);
    if check {
        for difference in &differences {
            println!("{difference}");
        }
        if !differences.is_empty() {
            bail!("{} generated files differ: run `cargo xtask generate`", differences.len());
        }
        return Ok(());
    }
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        std::fs::remove_file(repo.root.join(path))
            .with_context(|| format!("cannot remove {path}"))?;
    }
    for (path, text) in &new {
        let file = repo.root.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
    }
    println!("{} files written, {} changed", new.len(), differences.len());
    Ok(())
}

/// One line a file that is not the same in both, with the first line that differs.
fn differences(old: &BTreeMap<String, Vec<u8>>, new: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter_map(|path| match (old.get(path), new.get(path)) {
            (None, _) => Some(format!("{path}: is not committed")),
            (_, None) => Some(format!("{path}: is generated no longer")),
            (Some(old), Some(new)) if old != new => {
                let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
                let line = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
                let show = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
                let (old, new) = (show(&old), show(&new));
                Some(format!("{path}:{}: committed `{old}`, generated `{new}`", line + 1))
            }
            _ => None,
        })
        .collect()
}

/// Every file below `dir` by its relative path; nothing if the directory is absent.
fn read_below(dir: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![String::new()];
    while let Some(folder) = pending.pop() {
        let at = dir.join(&folder);
        if !at.is_dir() {
            continue;
        }
        for entry in
            std::fs::read_dir(&at).with_context(|| format!("cannot list {}", at.display()))?
        {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().with_context(|| format!("{name:?} is no text"))?;
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() {
                pending.push(path);
            } else {
                let text =
                    std::fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
                files.insert(path, text);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn places_are_files_or_whole_folders() {
        for path in ["docs/cli.md", "docs/man/vyr.1", "completions/vyr.bash"] {
            assert!(is_generated(path), "{path}");
        }
        for path in ["docs/cli.md.old", "docs/roadmap.md", "a/docs/man/vyr.1"] {
            assert!(!is_generated(path), "{path}");
        }
    }

    #[test]
    fn changed_new_and_gone_files_differ_and_equal_ones_do_not() {
        let old = files(&[("a", "1\n2\n"), ("b", "x"), ("c", "y")]);
        let new = files(&[("a", "1\n3\n"), ("b", "x"), ("d", "z")]);
        assert_eq!(
            differences(&old, &new),
            [
                "a:2: committed `2`, generated `3`",
                "c: is generated no longer",
                "d: is not committed",
            ]
        );
        assert_eq!(differences(&old, &old), Vec::<String>::new());
    }
}
