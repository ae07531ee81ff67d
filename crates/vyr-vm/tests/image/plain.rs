//! What a pull keeps of a layer as it unpacks: it saves time, decides nothing, and goes with the build.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use vyr_base::Digest;
use vyr_vm::image::{Limits, Silent, Source};

use crate::maker::{GZIP, Layout, dir, file, gzip, tar};
use crate::place::{Place, is_able};

/// An image of one gzip layer, pulled; and where that layer is as it unpacks.
fn pulled(place: &Place) -> (Digest, PathBuf, Vec<u8>) {
    let root = place.path("layout");
    let layout = Layout::new(&root);
    let plain = tar(&[dir("etc"), file("etc/a", &[7; 5000]), file("etc/b", b"more")]);
    let image = layout.image(&json!({"Cmd": ["/bin/app"]}), &[(plain.clone(), gzip(&plain), GZIP)]);
    let digest = layout.finish(&[("one", &image)]);
    let source = Source::Layout(&root, Some(digest));
    place.images.pull(&source, &Limits::default(), &Silent).expect("pulled");
    let mut kept = fs::read_dir(place.path("images/plain")).expect("a directory");
    let path = kept.next().expect("it is kept").expect("an entry").path();
    (digest, path, plain)
}

#[test]
fn a_layer_is_kept_as_it_unpacks_until_its_disk_is_made() {
    let test = "plain::a_layer_is_kept_as_it_unpacks_until_its_disk_is_made";
    if !is_able(test, &["tar2sqfs"], false) {
        return;
    }
    let place = Place::new();
    let (digest, kept, plain) = pulled(&place);
    assert_eq!(fs::read(&kept).expect("a file"), plain);
    assert!(place.files("partial").iter().all(|name| !name.contains("plain")));
    let build = || place.images.build(&digest, &Limits::default(), true).expect("built");
    let with = build().disk_digest;
    assert!(!kept.exists(), "nobody needs it any more");
    assert_eq!(build().disk_digest, with, "without it");

    // Whatever is there in its place: the same disk, and it is gone.
    let mut damaged = plain.clone();
    let at = plain.windows(100).position(|some| some == [7; 100]).expect("the data");
    damaged[at] = 8;
    let mut longer = plain.clone();
    longer.extend([0; 512]);
    for other in [damaged, longer, plain[..plain.len() / 2].to_vec(), plain.clone()] {
        fs::write(&kept, &other).expect("room");
        assert_eq!(build().disk_digest, with);
        assert!(!kept.exists());
    }
}

/// The twin: it is what the disk is made of, so a blob that nobody can unpack does not matter to it.
#[test]
fn a_disk_is_made_of_what_was_kept() {
    let test = "plain::a_disk_is_made_of_what_was_kept";
    if !is_able(test, &["tar2sqfs"], false) {
        return;
    }
    let place = Place::new();
    let (digest, kept, _) = pulled(&place);
    let blob = place.path("images/blobs/sha256").join(kept.file_name().expect("a name"));
    let whole = fs::read(&blob).expect("a blob");
    fs::write(&blob, vec![0; whole.len()]).expect("room");
    place.images.build(&digest, &Limits::default(), true).expect("built");
    // And without it the blob is asked, and refused.
    assert!(place.images.build(&digest, &Limits::default(), true).is_err());
}
