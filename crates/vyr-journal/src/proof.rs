//! Proofs about the log: this leaf is in it, that tree is its beginning.
//!
//! The proofs are those of RFC 6962 (sections 2.1.1 and 2.1.2); they are checked by the algorithms
//! of RFC 9162 (sections 2.1.3.2 and 2.1.4.2), which take every index and size as they come.
//!
//! Making one reads stored hashes through [`HashSource`]: for each edge of the tree at most 255
//! leaves, and at most 255 tiles of each level, however long the log is.
//!
//! Not here: the growing tree (`merkle`), whose root it is (`checkpoint`).

use std::ops::Range;

use vyr_base::{Category, Problem};

use crate::merkle::{Hash, TILE_LEVELS, fold_peaks, node_hash};

/// Stored hashes of the log.
pub trait HashSource {
    /// Why hashes could not be read.
    type Error;

    /// The hashes of these leaves, in order.
    fn leaves(&self, range: Range<u64>) -> Result<Vec<Hash>, Self::Error>;

    /// The hash of a tile, as [`crate::Frontier::append`] told it.
    fn tile(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;

    /// The hashes of tiles of one level, in order; at most 255 at once.
    fn tiles(&self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, Self::Error> {
        range.map(|index| self.tile(level, index)).collect()
    }
}

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError<E> {
    /// The tree is not that large.
    #[error("{asked} is not in a log of {size} events")]
    Range {
        /// The leaf's index, or the older size.
        asked: u64,
        /// The tree's size.
        size: u64,
    },
    /// The source gave another number of hashes than was asked for.
    #[error("the journal has {found} of {expected} hashes of level {level} from {from} on")]
    Missing {
        /// 0 for leaves, otherwise that of tiles.
        level: u8,
        /// The first that was asked for.
        from: u64,
        /// How many came.
        found: u64,
        /// How many were asked for.
        expected: u64,
    },
    /// The source could not be read.
    #[error("cannot read stored hashes")]
    Read(#[source] E),
}

impl<E: Problem + 'static> Problem for ProofError<E> {
    fn category(&self) -> Category {
        match self {
            Self::Range { .. } => Category::NotFound,
            Self::Missing { .. } => Category::Internal,
            Self::Read(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Range { .. } => None,
            Self::Missing { .. } => Some("see what is missing: vyr verify --journal".to_owned()),
            Self::Read(source) => source.hint(),
        }
    }
}

/// The root of the tree of the first `size` leaves.
pub fn root_at<S: HashSource>(size: u64, source: &S) -> Result<Hash, ProofError<S::Error>> {
    range_hash(0..size, source)
}

/// The proof that leaf `index` is in the tree of the first `size` leaves: the siblings on the way
/// to the root, the lowest first.
pub fn inclusion_proof<S: HashSource>(
    index: u64,
    size: u64,
    source: &S,
) -> Result<Vec<Hash>, ProofError<S::Error>> {
    if index >= size {
        return Err(ProofError::Range { asked: index, size });
    }
    let mut proof = Vec::new();
    let mut at = 0..size;
    while at.end - at.start > 1 {
        let middle = at.start + split(at.end - at.start);
        if index < middle {
            proof.push(range_hash(middle..at.end, source)?);
            at.end = middle;
        } else {
            proof.push(range_hash(at.start..middle, source)?);
            at.start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `old` leaves is the beginning of that of the first `new`.
///
/// It is empty if they are the same or `old` is 0: nothing is the beginning of everything.
pub fn consistency_proof<S: HashSource>(
    old: u64,
    new: u64,
    source: &S,
) -> Result<Vec<Hash>, ProofError<S::Error>> {
    if old > new {
        return Err(ProofError::Range { asked: old, size: new });
    }
    let mut proof = Vec::new();
    if old == 0 {
        return Ok(proof);
    }
    let mut at = 0..new;
    while old != at.end {
        let middle = at.start + split(at.end - at.start);
        if old <= middle {
            proof.push(range_hash(middle..at.end, source)?);
            at.end = middle;
        } else {
            proof.push(range_hash(at.start..middle, source)?);
            at.start = middle;
        }
    }
    // A subtree that begins at 0 is the old tree itself, whose root the verifier has.
    if at.start > 0 {
        proof.push(range_hash(at, source)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The size of the left subtree of `count` leaves: the largest power of two below it. `count` > 1.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The root over leaves `at`, which begins where a subtree as large begins.
fn range_hash<S: HashSource>(at: Range<u64>, source: &S) -> Result<Hash, ProofError<S::Error>> {
    let mut peaks = Vec::new();
    let mut start = at.start;
    while start < at.end {
        let level = (at.end - start).ilog2();
        peaks.push(subtree(u8::try_from(level).unwrap_or(u8::MAX), start >> level, source)?);
        start += 1 << level;
    }
    Ok(fold_peaks(&peaks))
}

/// The hash of the complete subtree `index` of 2^`level` leaves, from the stored hashes below it.
fn subtree<S: HashSource>(level: u8, index: u64, source: &S) -> Result<Hash, ProofError<S::Error>> {
    let up = level % TILE_LEVELS;
    let (level, range) = (level - up, index << up..(index + 1) << up);
    let (from, expected) = (range.start, range.end - range.start);
    let read = if level == 0 { source.leaves(range) } else { source.tiles(level, range) };
    let mut hashes = read.map_err(ProofError::Read)?;
    let found = u64::try_from(hashes.len()).unwrap_or(u64::MAX);
    if found != expected {
        return Err(ProofError::Missing { level, from, found, expected });
    }
    let mut count = hashes.len();
    while count > 1 {
        count /= 2;
        for place in 0..count {
            hashes[place] = node_hash(&hashes[2 * place], &hashes[2 * place + 1]);
        }
    }
    Ok(hashes[0])
}

/// How many hashes prove that leaf `index` is in a tree of `size`; `None` if it cannot be.
pub fn inclusion_proof_len(index: u64, size: u64) -> Option<usize> {
    let last = size.checked_sub(1).filter(|last| index <= *last)?;
    // Up to where the ways of the leaf and of the last leaf meet there is a sibling at every
    // level; above, only where the way turns right (RFC 9162, section 2.1.3.2, read backwards).
    let inner = u64::BITS - (index ^ last).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    usize::try_from(inner + border).ok()
}

/// Whether `proof` shows that a leaf with this hash is number `index` of the tree of `size` leaves
/// with this `root`.
#[must_use]
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            skip_levels_without_sibling(&mut node, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// The last node of a level without a right neighbour is taken up as it is.
fn skip_levels_without_sibling(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

/// Whether `proof` shows that the tree of `old_size` leaves with `old_root` is the beginning of
/// that of `new_size` leaves with `new_root`.
#[must_use]
pub fn verify_consistency(
    old_size: u64,
    old_root: Hash,
    new_size: u64,
    new_root: Hash,
    proof: &[Hash],
) -> bool {
    if old_size == 0 {
        return proof.is_empty() && old_root == fold_peaks(&[]);
    }
    if old_size >= new_size {
        return old_size == new_size && proof.is_empty() && old_root == new_root;
    }
    // The proof of a complete tree leaves out its root, which the verifier has.
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    let up = node.trailing_ones();
    node = node.checked_shr(up).unwrap_or(0);
    last = last.checked_shr(up).unwrap_or(0);
    let (mut old, mut new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            skip_levels_without_sibling(&mut node, &mut last);
        } else {
            new = node_hash(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == old_root && new == new_root
}

#[cfg(test)]
mod tests;
