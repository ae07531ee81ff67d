//! Arrows: which workspace crate may import which.
//!
//! ```text
//! pure:   vyr-base <- vyr-artifact <- vyr-journal
//!         vyr-base <- vyr-service  <- vyr-plan      vyr-artifact <- vyr-plan
//! shell:  import pure crates, never each other
//! edge:   vyr-api, vyr-node (where shells meet), vyr (the CLI)
//! alone:  morpheus <- morpheus-bpf; vyr-task may import morpheus
//! guest:  vyr-channel <- vyr-init; vyr-vm speaks with it, so it imports vyr-channel
//! tests:  vyr-space, of which nothing is in what is shipped
//! ```
//!
//! Invariants: a crate that is not in [`ALLOWED`] fails; an import that is not in its row
//! fails, whatever its kind (normal, build or dev); pure crates import no tokio and have a
//! `clippy.toml` that bans what is impure.
//!
//! Rows of crates that do not exist yet are the plan for them, not an error.

use serde_json::Value;

use crate::fault::Fault;
use crate::repo::{Repo, packages};

const PURE: &[&str] = &["vyr-base", "vyr-artifact", "vyr-journal", "vyr-service", "vyr-plan"];
const SHELLS: &[&str] =
    &["vyr-store", "vyr-journal-sql", "vyr-task", "vyr-net", "vyr-vm", "vyr-ingress"];
const MORPHEUS: &[&str] = &["morpheus", "morpheus-bpf"];

/// A crate and the groups of crates it may import.
type Row = (&'static str, &'static [&'static [&'static str]]);

const ALLOWED: &[Row] = &[
    ("vyr-base", &[]),
    ("vyr-artifact", &[&["vyr-base"]]),
    ("vyr-journal", &[&["vyr-artifact", "vyr-base"]]),
    ("vyr-service", &[&["vyr-base"]]),
    ("vyr-plan", &[&["vyr-service", "vyr-artifact", "vyr-base"]]),
    ("vyr-store", &[PURE]),
    ("vyr-journal-sql", &[PURE]),
    ("vyr-task", &[PURE, &["morpheus"]]),
    ("vyr-net", &[PURE, &["vyr-space"]]),
    ("vyr-channel", &[]),
    ("vyr-init", &[&["vyr-channel"]]),
    ("vyr-vm", &[PURE, &["vyr-channel", "vyr-space"]]),
    ("vyr-ingress", &[PURE]),
    ("vyr-api", &[PURE]),
    ("vyr-node", &[PURE, SHELLS, MORPHEUS, &["vyr-api", "vyr-space"]]),
    ("vyr", &[PURE, SHELLS, MORPHEUS, &["vyr-api", "vyr-node", "vyr-bench", "vyr-space"]]),
    ("vyr-bench", &[PURE, SHELLS, MORPHEUS, &["vyr-api", "vyr-node"]]),
    ("vyr-fuzz", &[PURE, SHELLS, MORPHEUS, &["vyr-api", "vyr-node", "vyr-bench", "vyr-channel"]]),
    // In its tests, itself: with all its features.
    ("morpheus", &[&["morpheus"]]),
    ("morpheus-bpf", &[&["morpheus"]]),
    ("vyr-space", &[]),
    ("xtask", &[]),
];

/// What tests alone import.
const TESTS_ONLY: &[&str] = &["vyr-space"];

/// Checks the workspace's crates against the table.
pub(crate) fn check(repo: &Repo) -> Vec<Fault> {
    let mut faults = faults(&repo.metadata);
    for (name, dir) in repo.crate_dirs() {
        if PURE.contains(&name.as_str()) && !repo.root.join(&dir).join("clippy.toml").is_file() {
            faults
                .push(Fault::new(dir, "a pure crate needs a clippy.toml that bans what is impure"));
        }
    }
    faults
}

/// The same, as a function of the metadata document alone.
fn faults(metadata: &Value) -> Vec<Fault> {
    let packages = packages(metadata);
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut faults = Vec::new();
    for package in packages {
        let Some(name) = package["name"].as_str() else { continue };
        let Some((_, allowed)) = ALLOWED.iter().find(|(row, _)| *row == name) else {
            faults.push(Fault::new(
                name,
                "has no row in xtask/src/arrows.rs: which crates may it import?",
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().map_or(&[][..], Vec::as_slice) {
            let Some(import) = dependency["name"].as_str() else { continue };
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            if ours.contains(&import) && !allowed.iter().any(|group| group.contains(&import)) {
                faults.push(Fault::new(
                    name,
                    format!("imports {import} ({kind} dependency), and arrows point left only"),
                ));
            }
            if TESTS_ONLY.contains(&import) && kind != "dev" {
                faults.push(Fault::new(
                    name,
                    format!("imports {import} ({kind} dependency), which is for tests alone"),
                ));
            }
            if import == "tokio" && PURE.contains(&name) {
                faults.push(Fault::new(
                    name,
                    format!("is pure and imports tokio ({kind} dependency)"),
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, imports: &[(&str, Option<&str>)]) -> Value {
        let imports: Vec<Value> =
            imports.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "dependencies": imports})
    }

    fn workspace(packages: &[Value]) -> Value {
        json!({"packages": packages})
    }

    #[test]
    fn a_workspace_whose_arrows_point_left_passes() {
        let metadata = workspace(&[
            package("vyr-base", &[("serde", None)]),
            package("vyr-artifact", &[("vyr-base", None)]),
            package("vyr-store", &[("vyr-artifact", None), ("vyr-base", Some("dev"))]),
            package("vyr-node", &[("vyr-store", None), ("tokio", None)]),
        ]);
        assert_eq!(faults(&metadata), []);
    }

    #[test]
    fn what_is_for_tests_is_in_nothing_else() {
        let net = |kind| {
            faults(&workspace(&[
                package("vyr-net", &[("vyr-space", kind)]),
                package("vyr-space", &[]),
            ]))
        };
        assert_eq!(net(Some("dev")), []);
        for kind in [None, Some("build")] {
            assert_eq!(net(kind).len(), 1, "{kind:?}");
        }
    }

    #[test]
    fn a_shell_that_imports_a_shell_fails_whatever_the_kind() {
        for kind in [None, Some("build"), Some("dev")] {
            let metadata = workspace(&[
                package("vyr-task", &[("vyr-store", kind)]),
                package("vyr-store", &[]),
            ]);
            let found = faults(&metadata);
            assert_eq!(found.len(), 1, "{kind:?}");
            assert!(
                found[0].to_string().starts_with("vyr-task: imports vyr-store"),
                "{}",
                found[0]
            );
        }
    }

    #[test]
    fn a_crate_without_a_row_fails() {
        assert_eq!(faults(&workspace(&[package("vyr-extra", &[])])).len(), 1);
    }

    #[test]
    fn a_pure_crate_that_imports_tokio_fails() {
        assert_eq!(faults(&workspace(&[package("vyr-base", &[("tokio", None)])])).len(), 1);
    }

    #[test]
    fn every_name_on_the_right_of_the_table_has_a_row_of_its_own_further_left() {
        for (name, groups) in ALLOWED {
            for import in groups.iter().copied().flatten() {
                assert!(ALLOWED.iter().any(|(row, _)| row == import), "{name} -> {import}");
            }
        }
    }
}
