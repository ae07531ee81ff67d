//! What a pull notes of a layer saves time, and decides nothing.

use std::fs;
use std::path::PathBuf;

use vyr_base::Digest;
use vyr_vm::image::{BuildError, Limits, Silent, Source};

use crate::maker::{dir, file, hard, plain_image, symlink};
use crate::place::{Place, is_able};

/// A pulled image of two layers.
fn pulled(place: &Place) -> Digest {
    let root = place.path("layout");
    let lowest = vec![dir("etc"), file("etc/a", &[7; 5000]), hard("etc/b", "etc/a")];
    let highest = vec![symlink("to", "etc/a"), file("etc/.wh.a", b""), file("new", b"new")];
    let digest = plain_image(&root, &[lowest, highest]);
    let source = Source::Layout(&root, Some(digest));
    place.images.pull(&source, &Limits::default(), &Silent).expect("pulled");
    digest
}

fn files(place: &Place, of: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path("images").join(of)).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn disk(place: &Place, digest: &Digest) -> Result<Digest, BuildError> {
    place.images.build(digest, &Limits::default(), true).map(|disk| disk.disk_digest)
}

#[test]
fn a_note_that_is_missing_or_damaged_changes_no_disk() {
    let test = "names::a_note_that_is_missing_or_damaged_changes_no_disk";
    if !is_able(test, &["tar2sqfs"], false) {
        return;
    }
    let place = Place::new();
    let digest = pulled(&place);
    let notes = files(&place, "names");
    assert_eq!(notes.len(), 2, "{notes:?}");
    let with = disk(&place, &digest).expect("built");
    for note in &notes {
        let whole = fs::read(note).expect("a note");
        for at in [0, 40, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(note, &damaged).expect("room");
            assert_eq!(disk(&place, &digest).expect("built"), with);
        }
        fs::write(note, &whole[..whole.len() / 2]).expect("room");
        assert_eq!(disk(&place, &digest).expect("built"), with);
        fs::remove_file(note).expect("it is there");
    }
    assert_eq!(disk(&place, &digest).expect("built"), with);
}

/// The twin of believing a note: it says what is in the blob that was pulled, not in this one.
#[test]
fn a_note_does_not_vouch_for_a_blob_that_changed() {
    let test = "names::a_note_does_not_vouch_for_a_blob_that_changed";
    if !is_able(test, &["tar2sqfs"], false) {
        return;
    }
    let place = Place::new();
    let digest = pulled(&place);
    for note in files(&place, "names") {
        let blob = place.path("images/blobs/sha256").join(note.file_name().expect("a name"));
        let whole = fs::read(&blob).expect("a blob");
        // In the data of a file, where no header says anything.
        let Some(at) = whole.windows(100).position(|some| some == [7; 100]) else { continue };
        let mut damaged = whole.clone();
        damaged[at] = 8;
        fs::write(&blob, &damaged).expect("room");
        let refused = disk(&place, &digest).expect_err("another blob");
        assert!(refused.to_string().contains("is damaged"), "{refused}");
        fs::write(&blob, &whole).expect("room");
        disk(&place, &digest).expect("as it was");
        return;
    }
    panic!("no layer has the data");
}
