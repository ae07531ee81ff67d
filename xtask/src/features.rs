//! Features: what the dependency tree, with every feature of ours on, may not switch on.
//!
//! libelf is LGPL. It is linked dynamically or not at all, so the features of libbpf-sys that
//! link it, or zlib beside it, into the binary are refused wherever they come from. libbpf
//! itself may be linked statically: it is BSD-2-Clause by our choice of its two licences.

use std::process::Command;

use crate::fault::Fault;
use crate::repo::{Repo, cargo, output};

const FORBIDDEN: &[(&str, &[&str])] = &[(
    "libbpf-sys",
    &["static", "static-libelf", "static-zlib", "vendored", "vendored-libelf", "vendored-zlib"],
)];

/// A package of the dependency tree with what is switched on in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) licence: String,
    pub(crate) features: Vec<String>,
}

/// Reads the tree that the lock file describes for this machine, development included.
pub(crate) fn tree(repo: &Repo) -> anyhow::Result<Vec<Package>> {
    let text = output(Command::new(cargo()).current_dir(&repo.root).args([
        "tree",
        "--locked",
        "--workspace",
        "--all-features",
        "--edges=normal,build,dev",
        "--prefix=none",
        "--format={p}|{l}|{f}",
    ]))?;
    Ok(parse(&text))
}

/// Checks the tree against the list.
pub(crate) fn check(tree: &[Package]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, forbidden) in FORBIDDEN {
        for package in tree.iter().filter(|package| package.name == *name) {
            for feature in package.features.iter().filter(|f| forbidden.contains(&f.as_str())) {
                let what = format!("feature {feature} would link LGPL code into the binary");
                faults.push(Fault::new(*name, what));
            }
        }
    }
    faults
}

fn parse(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for line in text.lines() {
        let mut parts = line.trim_end_matches(" (*)").split('|');
        let (Some(package), Some(licence), Some(features)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        packages.push(Package {
            name: package.split(' ').next().unwrap_or(package).to_owned(),
            licence: licence.to_owned(),
            features: features.split(',').map(str::to_owned).collect(),
        });
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_links_libelf_statically_fails() {
        let line = |features| {
            format!("serde v1.0.0|MIT|std\nlibbpf-sys v1.6.3|BSD-2-Clause|{features} (*)\n")
        };
        assert_eq!(check(&parse(&line("default,static-libbpf,vendored-libbpf"))), []);
        for feature in FORBIDDEN[0].1 {
            assert_eq!(check(&parse(&line(feature))).len(), 1, "{feature}");
        }
    }

    #[test]
    fn a_line_of_the_tree_has_a_name_a_licence_and_features() {
        let parsed =
            parse("vyr v0.1.0 (path)|MIT OR Apache-2.0|\nserde v1.0.0|MIT|default,std (*)\n\n");
        assert_eq!(parsed.len(), 2);
        assert_eq!((parsed[1].name.as_str(), parsed[1].licence.as_str()), ("serde", "MIT"));
        assert_eq!(parsed[1].features, ["default", "std"]);
    }
}
