//! Random bytes and mutated archives: import never panics, and refusing leaves nothing behind.

use std::sync::LazyLock;

use proptest::prelude::*;
use vyr_store::{ImportLimits, Store};

use crate::common::{Artifact, check, export, place, staging, tree};

const LIMITS: ImportLimits =
    ImportLimits { total_bytes: 1 << 20, blob_bytes: 1 << 20, entries: 100 };

/// A good archive with a signature.
static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let place = place();
    let artifact = Artifact::new(&[b"layer", &[3; 2000]]);
    artifact.put_signed(&place.store, "signature").expect("put");
    export(&place.store, &[artifact.digest()])
});

fn import(store: &Store, archive: &[u8]) -> Result<(), TestCaseError> {
    let before = tree(store.root());
    let taken = match store.import(archive, &LIMITS) {
        Ok(import) => {
            import.commit().expect("room");
            true
        }
        Err(refused) => {
            prop_assert!(!refused.to_string().is_empty());
            false
        }
    };
    prop_assert!(taken || tree(store.root()) == before, "a refused archive changed the store");
    prop_assert_eq!(staging(store), 0);
    check(store).map_err(TestCaseError::fail)?;
    Ok(())
}

/// One way to spoil an archive.
#[derive(Debug, Clone)]
enum Spoil {
    Set {
        at: prop::sample::Index,
        byte: u8,
    },
    Cut {
        at: prop::sample::Index,
    },
    /// Copies one block of 512 bytes over another.
    Copy {
        from: prop::sample::Index,
        to: prop::sample::Index,
    },
    /// A byte of a header's size, kind or name, with a true checksum afterwards.
    Header {
        block: prop::sample::Index,
        at: usize,
        byte: u8,
    },
}

fn spoil() -> impl Strategy<Value = Spoil> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Spoil::Set { at, byte }),
        any::<Index>().prop_map(|at| Spoil::Cut { at }),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Spoil::Copy { from, to }),
        (any::<Index>(), prop_oneof![0..100usize, 124..136usize, 156..158usize], any::<u8>())
            .prop_map(|(block, at, byte)| Spoil::Header { block, at, byte }),
    ]
}

fn apply(archive: &mut Vec<u8>, spoil: &Spoil) {
    let blocks = archive.len() / 512;
    match spoil {
        _ if blocks == 0 => {}
        Spoil::Set { at, byte } => {
            let at = at.index(archive.len());
            archive[at] = *byte;
        }
        Spoil::Cut { at } => archive.truncate(at.index(archive.len())),
        Spoil::Copy { from, to } => {
            let from = from.index(blocks) * 512;
            archive.copy_within(from..from + 512, to.index(blocks) * 512);
        }
        Spoil::Header { block, at, byte } => {
            let block = block.index(blocks) * 512;
            let header = &mut archive[block..block + 512];
            header[*at] = *byte;
            seal(header);
        }
    }
}

/// Gives a header the checksum it should have.
fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let place = place();
        import(&place.store, &bytes)?;
        prop_assert!(place.store.entries().expect("an index").is_empty());
    }

    #[test]
    fn random_headers_are_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 512..2000),
        kind in prop::sample::select(b"0\x00157xgLKS".to_vec()),
    ) {
        bytes[156] = kind;
        seal(&mut bytes[..512]);
        let place = place();
        import(&place.store, &bytes)?;
        prop_assert!(place.store.entries().expect("an index").is_empty());
    }

    #[test]
    fn spoilt_archives_are_refused_or_whole(spoils in prop::collection::vec(spoil(), 1..4)) {
        let mut archive = ARCHIVE.clone();
        for spoil in &spoils {
            apply(&mut archive, spoil);
        }
        let place = place();
        import(&place.store, &archive)?;
    }
}
