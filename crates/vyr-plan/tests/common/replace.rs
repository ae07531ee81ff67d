//! The worked site with a text changed.

use vyr_base::Source;
use vyr_plan::Files;

/// Replaces `from`, which stands exactly once in the files, by `to`.
pub(crate) fn replaced(files: &Files, from: &str, to: &str) -> Files {
    let all = [Some(&files.site), files.clients.as_ref(), files.signers.as_ref()];
    let all = all.into_iter().flatten().chain(&files.contracts).chain(files.lock.as_ref());
    let count: usize = all.map(|source| source.text().matches(from).count()).sum();
    assert_eq!(count, 1, "{from:?} stands in {count} places");
    let changed = |source: &Source| Source::new(source.name(), source.text().replace(from, to));
    Files {
        site: changed(&files.site),
        clients: files.clients.as_ref().map(changed),
        signers: files.signers.as_ref().map(changed),
        contracts: files.contracts.iter().map(changed).collect(),
        lock: files.lock.as_ref().map(changed),
        ..files.clone()
    }
}
