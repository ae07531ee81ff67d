//! `cargo xtask check`: every check that compiles nothing, to the end, with all its faults.

use anyhow::bail;

use crate::fault::Fault;
use crate::held_by::Index;
use crate::repo::Repo;
use crate::{
    arrows, bpf, dependencies, exclusions, features, goals, guests, nongoals, promises, tidy,
};

/// Runs all of them; fails if one found a fault.
pub(crate) fn run(repo: &Repo) -> anyhow::Result<()> {
    let index = Index::new(repo)?;
    let tree = features::tree(repo);
    let mut count = 0;
    count += report("arrows", Ok(arrows::check(repo)));
    count += report("tidy", tidy::check(repo));
    // A tree that cannot be read is one fault, of the check that is named after it.
    let locked = tree.as_deref().unwrap_or_default();
    count += report("dependencies", dependencies::check(repo, locked));
    count += report(
        "features",
        tree.as_deref().map(features::check).map_err(|e| anyhow::anyhow!("{e:#}")),
    );
    count += report("pins", guests::verify_pins().map(|()| Vec::new()));
    count += report("promises", promises::check(repo, &index));
    count += report("nongoals", nongoals::check(repo, &index));
    count += report("goals", goals::check(repo, &index));
    count += report("exclusions", exclusions::check(repo));
    count += report("bpf", bpf::check(repo));
    if count > 0 {
        bail!("faults found: {count}");
    }
    Ok(())
}

/// Prints what a check found; a check that could not be made is a fault of its own.
fn report(name: &str, result: anyhow::Result<Vec<Fault>>) -> usize {
    let faults =
        result.unwrap_or_else(|error| vec![Fault::new("cannot be checked", format!("{error:#}"))]);
    for fault in &faults {
        println!("{name}: {fault}");
    }
    if faults.is_empty() {
        println!("{name}: ok");
    }
    faults.len()
}
