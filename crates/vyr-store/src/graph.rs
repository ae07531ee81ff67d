//! What a set of index entries reaches: manifests, and the blobs they name.
//!
//! Pure: reading is a closure of the caller. Order: whatever is named comes before what names it,
//! so that renaming in this order never leaves a manifest without its blobs.
//!
//! A manifest's `subject` is not followed: a signature does not own what it signs.

use std::collections::BTreeMap;
use std::error::Error;

use vyr_base::{Category, Digest, Problem};

use crate::oci::{Entry, Manifest, ManifestError, is_manifest};

/// How deep an index may nest indexes; a multi-platform image needs two levels.
pub const MAX_DEPTH: usize = 8;

/// One blob that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Why the links of an artifact could not be followed to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError<E: Error + 'static> {
    /// A manifest could not be read.
    #[error("cannot follow manifest {digest}")]
    Read {
        /// Which.
        digest: Digest,
        /// Why not.
        source: E,
    },
    /// A blob is named as a manifest and is none.
    #[error("cannot follow manifest {digest}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// Indexes in indexes, more than [`MAX_DEPTH`].
    #[error("manifest {digest} is nested more than {MAX_DEPTH} levels deep")]
    Depth {
        /// The first one too deep.
        digest: Digest,
    },
    /// Two descriptors state two sizes for one blob, so at least one is wrong.
    #[error("blob {digest} is said to have {one} bytes and {other} bytes")]
    Sizes {
        /// Which blob.
        digest: Digest,
        /// One size.
        one: u64,
        /// The other.
        other: u64,
    },
}

impl<E: Problem + 'static> Problem for WalkError<E> {
    fn category(&self) -> Category {
        match self {
            Self::Read { source, .. } => source.category(),
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } => source.hint(),
            _ => Some("ask whoever made the artifact: its manifests contradict themselves".into()),
        }
    }
}

/// Everything `roots` reach, each blob once, what is named before what names it.
///
/// `read` returns the whole blob of a manifest, already checked against its digest.
pub(crate) fn walk<E: Error + 'static>(
    roots: &[Entry],
    read: &mut dyn FnMut(&Entry) -> Result<Vec<u8>, E>,
) -> Result<Vec<Node>, WalkError<E>> {
    let mut walk = Walk { read, seen: BTreeMap::new(), order: Vec::new() };
    for root in roots {
        walk.visit(root, is_manifest(&root.media_type), 0)?;
    }
    Ok(walk.order)
}

struct Walk<'a, E> {
    read: &'a mut dyn FnMut(&Entry) -> Result<Vec<u8>, E>,
    /// Size, and whether the links were followed.
    seen: BTreeMap<Digest, (u64, bool)>,
    order: Vec<Node>,
}

impl<E: Error + 'static> Walk<'_, E> {
    fn visit(&mut self, entry: &Entry, follow: bool, depth: usize) -> Result<(), WalkError<E>> {
        let Entry { digest, size, .. } = *entry;
        let before = self.seen.get(&digest).copied();
        if let Some((one, _)) = before.filter(|(one, _)| *one != size) {
            return Err(WalkError::Sizes { digest, one, other: size });
        }
        if before.is_some_and(|(_, followed)| followed || !follow) {
            return Ok(());
        }
        self.seen.insert(digest, (size, follow));
        if follow {
            self.follow(entry, depth)?;
        }
        if before.is_none() {
            self.order.push(Node { digest, size });
        }
        Ok(())
    }

    fn follow(&mut self, entry: &Entry, depth: usize) -> Result<(), WalkError<E>> {
        let digest = entry.digest;
        if depth == MAX_DEPTH {
            return Err(WalkError::Depth { digest });
        }
        let bytes = (self.read)(entry).map_err(|source| WalkError::Read { digest, source })?;
        let other = bytes.len() as u64;
        if other != entry.size {
            return Err(WalkError::Sizes { digest, one: entry.size, other });
        }
        let manifest = Manifest::parse(&bytes, &entry.media_type)
            .map_err(|source| WalkError::Manifest { digest, source })?;
        manifest.leaves().try_for_each(|leaf| self.visit(leaf, false, depth + 1))?;
        let follow = |child: &Entry| is_manifest(&child.media_type);
        manifest.children().iter().try_for_each(|child| self.visit(child, follow(child), depth + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    #[derive(Debug, thiserror::Error)]
    #[error("absent")]
    struct Absent;

    #[derive(Default)]
    struct Blobs(BTreeMap<Digest, Vec<u8>>);

    impl Blobs {
        fn add(&mut self, bytes: &[u8]) -> Value {
            let digest = Digest::of(bytes);
            self.0.insert(digest, bytes.to_vec());
            json!({"mediaType": "x/y", "digest": digest, "size": bytes.len()})
        }

        fn manifest(&mut self, kind: &str, body: Value) -> Value {
            let mut descriptor = self.add(body.to_string().as_bytes());
            descriptor["mediaType"] = json!(kind);
            descriptor
        }

        fn walk(&self, roots: &[&Value]) -> Result<Vec<Node>, WalkError<Absent>> {
            let entry = |root: &&Value| serde_json::from_value((*root).clone()).expect("an entry");
            let roots: Vec<Entry> = roots.iter().map(entry).collect();
            walk(&roots, &mut |entry| self.0.get(&entry.digest).cloned().ok_or(Absent))
        }
    }

    #[test]
    fn what_is_named_comes_first_and_once() {
        let mut blobs = Blobs::default();
        let (config, layer) = (blobs.add(b"config"), blobs.add(b"layer"));
        let body = json!({"schemaVersion": 2, "config": config, "layers": [layer, layer]});
        let manifest = blobs.manifest(MANIFEST, body);
        let index =
            blobs.manifest(INDEX, json!({"schemaVersion": 2, "manifests": [manifest, layer]}));
        let order = blobs.walk(&[&index, &manifest]).expect("complete");
        let digests: Vec<Value> = order.iter().map(|node| json!(node.digest)).collect();
        let expected = [&config, &layer, &manifest, &index].map(|found| found["digest"].clone());
        assert_eq!(digests, expected);
    }

    #[test]
    fn a_manifest_first_met_as_a_layer_is_followed_all_the_same() {
        let mut blobs = Blobs::default();
        let (config, hidden) = (blobs.add(b"config"), blobs.add(b"hidden"));
        let body = json!({"schemaVersion": 2, "config": config, "layers": [hidden]});
        let inner = blobs.manifest(MANIFEST, body);
        let body = json!({"schemaVersion": 2, "config": config, "layers": [inner]});
        let outer = blobs.manifest(MANIFEST, body);
        let reached = |roots: &[&Value]| {
            let nodes = blobs.walk(roots).expect("complete");
            nodes.iter().filter(|node| node.digest == Digest::of(b"hidden")).count()
        };
        assert_eq!(reached(&[&outer]), 0, "a layer is a leaf");
        assert_eq!(reached(&[&outer, &inner]), 1);
    }

    #[test]
    fn contradictions_and_absences_are_named() {
        let mut blobs = Blobs::default();
        let config = blobs.add(b"config");
        let mut wrong = config.clone();
        wrong["size"] = json!(7);
        let body = json!({"schemaVersion": 2, "config": config, "layers": [wrong]});
        let manifest = blobs.manifest(MANIFEST, body);
        let refused = blobs.walk(&[&manifest]).expect_err("two sizes");
        assert!(matches!(refused, WalkError::Sizes { one: 6, other: 7, .. }), "{refused:?}");

        let child = json!({"mediaType": MANIFEST, "digest": Digest::of(b"gone"), "size": 4});
        let index = blobs.manifest(INDEX, json!({"schemaVersion": 2, "manifests": [child]}));
        let refused = blobs.walk(&[&index]).expect_err("a missing child");
        assert!(refused.to_string().contains(&Digest::of(b"gone").to_string()), "{refused}");
    }

    #[test]
    fn nesting_is_bounded() {
        let mut blobs = Blobs::default();
        let mut index = blobs.manifest(INDEX, json!({"schemaVersion": 2, "manifests": []}));
        for _ in 1..MAX_DEPTH {
            index = blobs.manifest(INDEX, json!({"schemaVersion": 2, "manifests": [index]}));
        }
        assert_eq!(blobs.walk(&[&index]).expect("just deep enough").len(), MAX_DEPTH);
        index = blobs.manifest(INDEX, json!({"schemaVersion": 2, "manifests": [index]}));
        assert!(matches!(blobs.walk(&[&index]), Err(WalkError::Depth { .. })));
    }
}
