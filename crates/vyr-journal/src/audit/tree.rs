//! The tree of an audit: of the stored hashes, and, once a leaf does not have its stored hash, of
//! the leaves' own hashes beside it. Which of the two the stored tiles and roots agree with says
//! what was changed.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::Fault;
use crate::merkle::{Frontier, Hash, TILE_LEVELS, Tile};

/// The tree of stored hashes, and perhaps that of leaves.
#[derive(Default)]
pub(super) struct Tree {
    stored: Frontier,
    /// By level, then by index.
    tiles: Vec<Vec<Hash>>,
    leaves: Option<Frontier>,
    /// The tiles in which the second tree differs.
    differing: BTreeMap<Tile, Hash>,
}

impl Tree {
    pub(super) fn size(&self) -> u64 {
        self.stored.size()
    }

    pub(super) fn root(&self) -> Hash {
        self.stored.root()
    }

    /// Whether the events have this root, by their stored hashes or by their bytes.
    pub(super) fn has_root(&self, root: &Hash) -> bool {
        self.stored.root() == *root || self.only_leaves_have(root)
    }

    /// Whether the events have this root by their bytes only.
    pub(super) fn only_leaves_have(&self, root: &Hash) -> bool {
        self.leaves.as_ref().is_some_and(|leaves| leaves.root() == *root)
            && self.stored.root() != *root
    }

    /// The next event by its stored hash and by that of its bytes.
    pub(super) fn append(&mut self, stored: Hash, leaf: Hash) {
        if stored != leaf && self.leaves.is_none() {
            self.leaves = Some(self.stored.clone());
        }
        let tiles = &mut self.tiles;
        self.stored.append(stored, |tile, hash| {
            let level = depth(tile);
            if tiles.len() <= level {
                tiles.push(Vec::new());
            }
            tiles[level].push(hash);
        });
        let (tiles, differing) = (&self.tiles, &mut self.differing);
        if let Some(leaves) = &mut self.leaves {
            leaves.append(leaf, |tile, hash| {
                if tiles[depth(tile)].last() != Some(&hash) {
                    differing.insert(tile, hash);
                }
            });
        }
    }

    /// Compares stored tiles with those of the tree. Returns the blocks of 256 events whose
    /// tile is that of the bytes and not of the stored hashes.
    /// `open`: there are events, or should be, that the tree does not reach.
    pub(super) fn compare_tiles(
        &self,
        stored: impl IntoIterator<Item = (Tile, Hash)>,
        open: bool,
        mut tell: impl FnMut(Fault),
    ) -> BTreeSet<u64> {
        let mut by_bytes = BTreeSet::new();
        let mut seen: Vec<Vec<bool>> = self.tiles.iter().map(|l| vec![false; l.len()]).collect();
        for (tile, hash) in stored {
            let ours = self.of(tile);
            let by_leaves = self.differing.get(&tile);
            match ours {
                // Nothing can be said of events that were not reached.
                None if open && tile.leaves().is_some_and(|l| l.end > self.size()) => {}
                None => tell(Fault::ExtraTile { tile }),
                Some(_) if by_leaves == Some(&hash) => {
                    if tile.level == TILE_LEVELS {
                        by_bytes.insert(tile.index);
                    }
                }
                Some(ours) if ours == hash => {}
                Some(_) => tell(Fault::BadTile { tile }),
            }
            if ours.is_some()
                && let Ok(index) = usize::try_from(tile.index)
            {
                seen[depth(tile)][index] = true;
            }
        }
        for (level, tiles) in (1u8..).zip(&seen) {
            for (index, seen) in (0u64..).zip(tiles) {
                if !seen {
                    tell(Fault::MissingTile { tile: Tile { level: level * TILE_LEVELS, index } });
                }
            }
        }
        by_bytes
    }

    /// The hash of a tile by the stored hashes of its leaves.
    fn of(&self, tile: Tile) -> Option<Hash> {
        if tile.level == 0 || !tile.level.is_multiple_of(TILE_LEVELS) {
            return None;
        }
        let index = usize::try_from(tile.index).ok()?;
        self.tiles.get(depth(tile))?.get(index).copied()
    }
}

/// The place of a tile's level among the levels. The level is 8 or more.
fn depth(tile: Tile) -> usize {
    usize::from(tile.level / TILE_LEVELS) - 1
}
