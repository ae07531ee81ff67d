//! Dependencies: every foreign crate has one line in `docs/dependencies.md`, and no more.
//!
//! Names are read from `[workspace.dependencies]`, the only place where a crate of this
//! workspace may take them from; the licence in a line is compared with what the locked
//! package says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fault::Fault;
use crate::features::Package;
use crate::markdown;
use crate::repo::{Repo, packages};

const FILE: &str = "docs/dependencies.md";
const MANIFEST: &str = "Cargo.toml";
const COLUMNS: usize = 5;
const LICENCE: usize = 2;

/// Checks the workspace's manifest against the document; `locked` is the dependency tree.
pub(crate) fn check(repo: &Repo, locked: &[Package]) -> anyhow::Result<Vec<Fault>> {
    let names = foreign_names(&repo.read(MANIFEST)?);
    let mut faults = faults(&names, &repo.read(FILE)?, locked);
    faults.extend(direct_faults(&repo.metadata, &names));
    Ok(faults)
}

/// The names in `[workspace.dependencies]` that have no path, thus are not ours.
fn foreign_names(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.starts_with("workspace.dependencies]");
            names.extend(
                table
                    .strip_prefix("workspace.dependencies.")
                    .map(|name| name.trim_end_matches(']').to_owned()),
            );
        } else if inside
            && line.starts_with(|c: char| c.is_ascii_alphanumeric())
            && let Some((name, value)) = line.split_once('=')
            && !value.contains("path =")
        {
            names.push(name.trim().trim_end_matches(".version").to_owned());
        }
    }
    names
}

fn faults(names: &[String], document: &str, locked: &[Package]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    let rows = markdown::rows(document, "crate");
    for row in &rows {
        if row.cells.len() != COLUMNS || row.cells.iter().any(String::is_empty) {
            let what = format!("a dependency has {COLUMNS} cells, none empty");
            faults.push(Fault::line(FILE, row.line, what));
            continue;
        }
        let name = row.cells[0].trim_matches('`');
        *lines.entry(name).or_default() += 1;
        if !names.iter().any(|known| known == name) {
            let what = format!("{name} is not in [workspace.dependencies]: take the line out");
            faults.push(Fault::line(FILE, row.line, what));
        }
        let said = locked.iter().filter(|package| package.name == name);
        let licences: Vec<&str> = said.map(|package| package.licence.as_str()).collect();
        if !licences.is_empty() && !licences.contains(&row.cells[LICENCE].as_str()) {
            let what = format!("{name} is licensed {}, not as written", licences.join(" or "));
            faults.push(Fault::line(FILE, row.line, what));
        }
    }
    for name in names {
        match lines.get(name.as_str()).copied().unwrap_or(0) {
            0 => faults.push(Fault::new(FILE, format!("{name} has no line"))),
            1 => {}
            count => faults.push(Fault::new(FILE, format!("{name} has {count} lines"))),
        }
    }
    faults
}

/// A crate that names a foreign dependency of its own would go round the document.
fn direct_faults(metadata: &Value, names: &[String]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for package in packages(metadata) {
        for dependency in package["dependencies"].as_array().map_or(&[][..], Vec::as_slice) {
            let foreign = dependency["path"].is_null();
            let (Some(of), Some(name)) = (package["name"].as_str(), dependency["name"].as_str())
            else {
                continue;
            };
            if foreign && !names.iter().any(|known| known == name) {
                let what = format!("takes {name} past [workspace.dependencies]");
                faults.push(Fault::new(of, what));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MANIFEST_TEXT: &str = "[workspace.dependencies]\n\
        vyr-base = { path = \"crates/vyr-base\", version = \"=0.1.0\" }\n\
        # A comment = here.\n\
        serde = { version = \"1\", features = [\n    \"derive\",\n] }\n\
        anyhow = \"1\"\n\n[workspace.lints.rust]\nmissing_docs = \"warn\"\n";
    const HEAD: &str =
        "| crate | what for, why not ours | licence | unsafe | kept by |\n|-|-|-|-|-|\n";

    fn line(name: &str) -> String {
        format!("| {name} | a | MIT | none | b |\n")
    }

    #[test]
    fn names_are_those_without_a_path() {
        assert_eq!(foreign_names(MANIFEST_TEXT), ["serde", "anyhow"]);
    }

    #[test]
    fn each_name_has_exactly_one_full_line() {
        let names = foreign_names(MANIFEST_TEXT);
        let count = |rows: &str| faults(&names, &format!("{HEAD}{rows}"), &[]).len();
        let (serde, anyhow) = (line("serde"), line("anyhow"));
        assert_eq!(count(&format!("{serde}{anyhow}")), 0);
        assert_eq!(count(&serde), 1, "missing");
        assert_eq!(count(&format!("{serde}{anyhow}{}", line("rand"))), 1, "stale");
        assert_eq!(count(&format!("{serde}{anyhow}{anyhow}")), 1, "twice");
        assert_eq!(count(&format!("{serde}| anyhow | a | MIT | | b |\n")), 2, "an empty cell");
    }

    #[test]
    fn the_licence_is_the_packages_own() {
        let names = ["serde".to_owned()];
        let locked = |licence: &str| {
            let licence = licence.to_owned();
            [Package { name: "serde".to_owned(), licence, features: Vec::new() }]
        };
        let document = format!("{HEAD}{}", line("serde"));
        assert_eq!(faults(&names, &document, &locked("MIT")), []);
        assert_eq!(faults(&names, &document, &locked("GPL-3.0-only")).len(), 1);
    }

    #[test]
    fn a_crate_cannot_go_round_the_document() {
        let metadata = |name: &str| json!({"packages": [{"name": "vyr-base", "dependencies": [{"name": name}]}]});
        let names = foreign_names(MANIFEST_TEXT);
        assert_eq!(direct_faults(&metadata("serde"), &names), []);
        assert_eq!(direct_faults(&metadata("rand"), &names).len(), 1);
    }
}
