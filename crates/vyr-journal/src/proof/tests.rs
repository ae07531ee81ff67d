//! Every proof of small logs against the definition; damaged proofs; a log of 70,000.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::merkle::tests::{PUBLISHED_ROOTS, hex, naive_root, published_leaves, some_leaves};
use crate::merkle::{Frontier, Tile, leaf_hash};

fn place(index: u64) -> usize {
    usize::try_from(index).expect("a small log")
}

/// Hashes as a shell stores them, and how many were read.
struct Stored {
    leaves: Vec<Hash>,
    tiles: BTreeMap<Tile, Hash>,
    read: Cell<usize>,
}

impl Stored {
    fn of(leaves: Vec<Hash>) -> Self {
        let (mut frontier, mut tiles) = (Frontier::new(), BTreeMap::new());
        for leaf in &leaves {
            frontier.append(*leaf, |tile, hash| assert!(tiles.insert(tile, hash).is_none()));
        }
        Self { leaves, tiles, read: Cell::new(0) }
    }

    /// How many hashes `work` reads.
    fn reads<T>(&self, work: impl FnOnce(&Self) -> T) -> (T, usize) {
        self.read.set(0);
        (work(self), self.read.get())
    }
}

impl HashSource for Stored {
    type Error = Infallible;

    fn leaves(&self, range: Range<u64>) -> Result<Vec<Hash>, Infallible> {
        let range = place(range.start)..place(range.end);
        self.read.set(self.read.get() + range.len());
        Ok(self.leaves.get(range).unwrap_or_default().to_vec())
    }

    fn tile(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        self.read.set(self.read.get() + 1);
        Ok(self.tiles[&Tile { level, index }])
    }
}

/// RFC 6962, section 2.1.1.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if index < k {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - k, right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// RFC 6962, section 2.1.2.
fn naive_subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { vec![] } else { vec![naive_root(leaves)] };
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) = if old <= k {
        (naive_subproof(old, left, whole), naive_root(right))
    } else {
        (naive_subproof(old - k, right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

#[test]
fn the_published_proofs_hold() {
    let source = Stored::of(published_leaves());
    let hashes = |texts: &[&str]| texts.iter().map(|text| hex(text)).collect::<Vec<_>>();
    let (a, b, c) = (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    );
    let (d, e, f) = (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    );
    let inclusion: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (0, 8, &[a, b, c]),
        (5, 8, &[d, e, f]),
        (2, 3, &[PUBLISHED_ROOTS[1]]),
        (1, 5, &[PUBLISHED_ROOTS[0], b, d]),
    ];
    for (index, size, path) in inclusion {
        assert_eq!(inclusion_proof(index, size, &source), Ok(hashes(path)), "{index} of {size}");
    }
    let g = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
    let consistency: [(u64, u64, &[&str]); 4] =
        [(1, 1, &[]), (1, 8, &[a, b, c]), (6, 8, &[g, e, f]), (2, 5, &[b, d])];
    for (old, new, path) in consistency {
        assert_eq!(consistency_proof(old, new, &source), Ok(hashes(path)), "{old} to {new}");
    }
}

#[test]
fn every_inclusion_up_to_600_is_proved() {
    let source = Stored::of(some_leaves(600));
    for size in 1..=600 {
        let dense = size <= 80 || matches!(size, 255..=257 | 512 | 513);
        let leaves = &source.leaves[..size];
        let root = naive_root(leaves);
        assert_eq!(root_at(size as u64, &source), Ok(root));
        for (index, leaf) in leaves.iter().enumerate() {
            let edge = index + 2 >= size || matches!(index, 0 | 255 | 256 | 511 | 512);
            if !dense && !edge && index % 151 != 0 {
                continue;
            }
            let at = (index as u64, size as u64);
            let proof = inclusion_proof(at.0, at.1, &source).expect("in range");
            assert!(verify_inclusion(*leaf, at.0, at.1, &proof, root), "{at:?}");
            assert_eq!(inclusion_proof_len(at.0, at.1), Some(proof.len()), "{at:?}");
            // The definition takes long; a few of each size show that it is the same proof.
            if size <= 80 || (size % 29 == 0 && index % 151 == 0) {
                assert_eq!(proof, naive_path(index, leaves), "{at:?}");
            }
        }
    }
}

#[test]
fn every_size_up_to_600_continues_every_other() {
    let source = Stored::of(some_leaves(600));
    let mut roots = Vec::new();
    let mut frontier = Frontier::new();
    for leaf in &source.leaves {
        roots.push(frontier.root());
        frontier.append(*leaf, |_, _| ());
    }
    roots.push(frontier.root());
    let news = (0..=600).filter(|new| *new <= 64 || new % 61 == 0 || (510..=514).contains(new));
    for new in news.chain([255, 256, 257, 511, 512, 513]) {
        for old in 0..=new {
            let proof = consistency_proof(old as u64, new as u64, &source).expect("in range");
            let holds = |old_root, new_root, proof: &[Hash]| {
                verify_consistency(old as u64, old_root, new as u64, new_root, proof)
            };
            assert!(holds(roots[old], roots[new], &proof), "{old} to {new}");
            if new <= 64 && old > 0 {
                assert_eq!(proof, naive_subproof(old, &source.leaves[..new], true), "{old} {new}");
            }
            let other = leaf_hash(b"another");
            assert!(!holds(other, roots[new], &proof), "{old} to {new}");
            assert!(old == 0 || !holds(roots[old], other, &proof), "{old} to {new}");
        }
    }
}

/// Crosses 65,536, the first tile of level 16, and keeps the bound on what is read.
#[test]
fn a_long_log_is_proved_from_few_hashes() {
    let size = 65_536 + 256 * 3 + 77;
    let source = Stored::of(some_leaves(size));
    assert!(source.tiles.contains_key(&Tile { level: 16, index: 0 }));
    let size = size as u64;
    let root = naive_root(&source.leaves);
    let (found, read) = source.reads(|source| root_at(size, source).expect("in range"));
    assert_eq!(found, root);
    assert!(read <= 1 + 255 + 255, "{read}");
    for index in [0, 1, 255, 256, 32_767, 32_768, 65_535, 65_536, 66_303, 66_304, size - 1] {
        let (proof, read) = source.reads(|source| inclusion_proof(index, size, source));
        let proof = proof.expect("in range");
        assert!(read <= 4 * 255, "{index}: {read}");
        assert!(verify_inclusion(source.leaves[place(index)], index, size, &proof, root));
        assert_eq!(proof.len(), inclusion_proof_len(index, size).expect("in range"));
    }
    for old in [1, 255, 256, 40_000, 65_535, 65_536, 65_537, 66_304, size - 1, size] {
        let (proof, read) = source.reads(|source| consistency_proof(old, size, source));
        let old_root = naive_root(&source.leaves[..place(old)]);
        assert!(read <= 6 * 255, "{old}: {read}");
        assert!(verify_consistency(old, old_root, size, root, &proof.expect("in range")));
    }
}

/// Every way to damage a proof of ours.
fn damaged(proof: &[Hash], bit: usize) -> Vec<Vec<Hash>> {
    let mut all = vec![[proof, &[leaf_hash(b"more")]].concat()];
    all.push([&[leaf_hash(b"more")], proof].concat());
    for place in 0..proof.len() {
        let mut flipped = proof.to_vec();
        let mut raw = *flipped[place].as_bytes();
        raw[bit / 8] ^= 1 << (bit % 8);
        flipped[place] = Hash::from_bytes(raw);
        all.push(flipped);
        all.push([&proof[..place], &proof[place + 1..]].concat());
        let mut swapped = proof.to_vec();
        swapped.swap(place, 0);
        all.push(swapped);
        all.push([&proof[..=place], &proof[place..]].concat());
    }
    all.retain(|other| other != proof);
    all
}

#[test]
fn what_is_not_there_is_not_proved() {
    let source = Stored::of(some_leaves(4));
    assert_eq!(inclusion_proof(4, 4, &source), Err(ProofError::Range { asked: 4, size: 4 }));
    assert_eq!(inclusion_proof(0, 0, &source), Err(ProofError::Range { asked: 0, size: 0 }));
    assert_eq!(consistency_proof(5, 4, &source), Err(ProofError::Range { asked: 5, size: 4 }));
    assert_eq!(inclusion_proof_len(4, 4), None);
    let short = Err(ProofError::Missing { level: 0, from: 4, found: 0, expected: 1 });
    assert_eq!(inclusion_proof(0, 5, &source), short);
    let root = naive_root(&source.leaves);
    assert!(!verify_inclusion(source.leaves[0], u64::MAX, u64::MAX, &[], root));
    assert!(!verify_inclusion(source.leaves[0], 0, u64::MAX, &[root; 64], root));
    assert!(!verify_consistency(u64::MAX - 1, root, u64::MAX, root, &[root; 70]));
    assert!(!verify_consistency(3, root, 2, root, &[]));
    assert!(!verify_consistency(4, root, 4, root, &[root]), "nothing is to be proved");
    let leaf = source.leaves[0];
    assert!(verify_inclusion(leaf, 0, 1, &[], leaf));
    assert!(!verify_inclusion(leaf, 1, 1, &[], leaf) && !verify_inclusion(leaf, 0, 0, &[], leaf));
    let (proof, new) = ([source.leaves[1]], naive_root(&source.leaves[..2]));
    assert!(verify_consistency(1, leaf, 2, new, &proof));
    assert!(!verify_consistency(1, leaf, 3, new, &proof), "the proof ends below the root");
    assert!(!verify_consistency(0, root, 4, root, &[]), "not the root of nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_proof_is_refused(
        size in 1..600usize, at in any::<prop::sample::Index>(), bit in 0..256usize,
    ) {
        let source = Stored::of(some_leaves(size));
        let index = at.index(size);
        let (leaf, root) = (source.leaves[index], naive_root(&source.leaves));
        let (index, size) = (index as u64, size as u64);
        let proof = inclusion_proof(index, size, &source).expect("in range");
        prop_assert!(verify_inclusion(leaf, index, size, &proof, root));
        for other in damaged(&proof, bit) {
            prop_assert!(!verify_inclusion(leaf, index, size, &other, root));
        }
        for other in (0..size).filter(|other| *other != index) {
            prop_assert!(!verify_inclusion(leaf, other, size, &proof, root));
        }
        let old_root = naive_root(&source.leaves[..place(index)]);
        let proof = consistency_proof(index, size, &source).expect("in range");
        prop_assert!(verify_consistency(index, old_root, size, root, &proof));
        for other in damaged(&proof, bit) {
            prop_assert!(!verify_consistency(index, old_root, size, root, &other));
        }
    }

    #[test]
    fn any_proof_is_judged_without_panic(
        index in any::<u64>(), size in any::<u64>(), count in 0..70usize,
    ) {
        let proof = some_leaves(count);
        let root = leaf_hash(b"root");
        prop_assert!(!verify_inclusion(root, index, size, &proof, leaf_hash(b"other")));
        prop_assert!(!verify_consistency(index, root, size, leaf_hash(b"other"), &proof));
        let _ = inclusion_proof_len(index, size);
    }
}
