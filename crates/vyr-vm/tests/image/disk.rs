//! The disk, compared with what an independent tool unpacks, and what a killed build leaves.

use std::fs;
use std::path::Path;

use serde_json::json;
use tar::EntryType;
use vyr_base::Digest;
use vyr_vm::image::{BuildError, Limits, Silent, Source};

use crate::compare::{assert_same, tree};
use crate::maker::{
    Entry, GZIP, Layout, PLAIN, ZSTD, device, dir, fifo, file, gzip, hard, plain_image, symlink,
    tar,
};
use crate::place::{Place, is_able, run};

/// Layers with one of everything that the specification has.
fn rich() -> Vec<Vec<Entry>> {
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(130));
    let capability = [1, 0, 0, 2, 0, 10, 0, 0, 0, 0, 0, 0, b'\n', 0, 0, 0, 0, 0, 0, 0];
    let lowest = vec![
        dir("./").mode(0o750).owner(7, 8),
        dir("bin"),
        file("bin/app", &[7; 300_000]).mode(0o4755),
        file("bin/capable", b"x").xattr("security.capability", &capability),
        hard("bin/also", "bin/app"),
        hard("bin/third", "./bin/app"),
        dir("usr"),
        dir("usr/lib").owner(1, 2).xattr("user.note", b"a\nb\0c"),
        symlink("lib", "usr/lib"),
        symlink("absolute", "/usr/lib"),
        file("usr/lib/kept", b"kept").owner(3_000_000, 4_000_000),
        dir("gone"),
        file("gone/a", b"a"),
        dir("opaque").mode(0o1777),
        file("opaque/old", b"old"),
        dir("opaque/sub"),
        file("opaque/sub/old", b"old"),
        file("shared", b"shared"),
        hard("survivor", "shared"),
        file("becomes_dir", b""),
        dir("becomes_file"),
        file("becomes_file/x", b""),
        dir(&format!("long/{}", "d".repeat(120))),
        file(&long, b"long"),
        symlink("to_long", &format!("/{long}")),
        device("char", EntryType::Char, 4, 65),
        device("block", EntryType::Block, 8, 1),
        fifo("fifo"),
        symlink("linked", "nowhere"),
        file("name with \"quotes\" and \u{e9}", b""),
        file("empty", b""),
        file("/rooted/absolute", b"relative"),
    ];
    let middle = vec![
        file(".wh.gone", b""),
        file(".wh.shared", b""),
        dir("opaque").mode(0o700),
        file("opaque/new", b"new"),
        file("opaque/.wh..wh..opq", b""),
        dir("becomes_dir"),
        file("becomes_dir/inside", b"in"),
        file("becomes_file", b"file"),
        // Over a symlink that the lower layer has.
        file("lib/through", b"through"),
        file("absolute/through_too", b"too"),
        hard("lib/hard", "bin/app"),
    ];
    let highest = vec![
        file("usr/lib/kept", b"changed").mode(0o600),
        file("usr/lib/.wh.through_too", b""),
        dir("gone"),
        file("gone/b", b"b"),
        file("deep/without/parents", b"x"),
        file(".wh.never_there", b""),
    ];
    vec![lowest, middle, highest]
}

/// Parents that no layer mentions, and the root, whose time umoci leaves at the time of the day.
const IMPLICIT: [&str; 6] = ["", "rooted", "deep", "deep/without", "long", "usr/lib"];

/// Pulls the layout's image, builds its disk and takes it apart again.
fn unsquashed(place: &Place, layout: &Path, digest: Digest) -> std::path::PathBuf {
    let limits = Limits::default();
    place.images.pull(&Source::Layout(layout, Some(digest)), &limits, &Silent).expect("pulled");
    let disk = place.images.build(&digest, &limits, false).expect("built");
    let disk = place.images.disk_path(&disk.disk_digest);
    let out = place.path("unsquashed");
    let arguments = ["-quiet", "-no-progress", "-d"];
    let paths = [out.to_str().expect("UTF-8"), disk.to_str().expect("UTF-8")];
    run(place.directory.path(), "unsquashfs", &[&arguments[..], &paths].concat());
    out
}

#[test]
fn a_disk_holds_what_umoci_unpacks() {
    let test = "disk::a_disk_holds_what_umoci_unpacks";
    if !is_able(test, &["umoci", "tar2sqfs", "unsquashfs"], true) {
        return;
    }
    let place = Place::new();
    let root = place.path("layout");
    let layout = Layout::new(&root);
    let mut layers = Vec::new();
    for (at, entries) in rich().iter().enumerate() {
        let tar = tar(entries);
        layers.push(match at {
            1 => (tar.clone(), tar, PLAIN),
            _ => (tar.clone(), gzip(&tar), GZIP),
        });
    }
    let image = layout.image(&json!({}), &layers);
    let digest = layout.finish(&[("one", &image)]);
    let bundle = place.path("bundle");
    let image = format!("{}:one", root.display());
    run(
        place.directory.path(),
        "umoci",
        &["unpack", "--image", &image, bundle.to_str().expect("x")],
    );
    let ours = unsquashed(&place, &root, digest);
    let (theirs, ours) = (tree(&bundle.join("rootfs")), tree(&ours));
    assert!(theirs.len() > 30, "umoci unpacked {} entries", theirs.len());
    assert_same(&theirs, &ours, &IMPLICIT);
}

#[test]
fn the_same_layers_give_the_same_disk_however_they_are_packed() {
    let test = "disk::the_same_layers_give_the_same_disk_however_they_are_packed";
    if !is_able(test, &["tar2sqfs", "zstd"], false) {
        return;
    }
    let limits = Limits::default();
    let mut disks = Vec::new();
    for kind in [PLAIN, GZIP, ZSTD] {
        let place = Place::new();
        let root = place.path("layout");
        let layout = Layout::new(&root);
        let pack = |tar: &Vec<u8>| match kind {
            GZIP => [gzip(&tar[..512]), gzip(&tar[512..])].concat(),
            ZSTD => {
                // Two frames, and one to be skipped between them.
                let frame = |bytes: &[u8]| {
                    fs::write(place.path("frame"), bytes).expect("a file");
                    run(place.directory.path(), "zstd", &["-q", "-f", "frame"]);
                    fs::read(place.path("frame.zst")).expect("a frame")
                };
                let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
                [frame(&tar[..1024]), skipped, frame(&tar[1024..])].concat()
            }
            _ => tar.clone(),
        };
        let layers: Vec<_> = rich()
            .iter()
            .map(|entries| tar(entries))
            .map(|tar| (tar.clone(), pack(&tar), kind))
            .collect();
        let image = layout.image(&json!({}), &layers);
        let digest = layout.finish(&[("one", &image)]);
        let source = Source::Layout(&root, None);
        place.images.pull(&source, &limits, &Silent).expect("pulled");
        let disk = place.images.build(&digest, &limits, false).expect("built");
        let again = place.images.build(&digest, &limits, true).expect("built again");
        assert_eq!(disk, again);
        assert_eq!(disk, place.images.disk(&digest).expect("recorded"));
        disks.push((disk.disk_digest, disk.disk_bytes));
    }
    assert_eq!(disks[0], disks[1]);
    assert_eq!(disks[0], disks[2]);
    // The twin: other bytes in one file are another disk.
    let place = Place::new();
    let mut layers = rich();
    layers[0][2].data[5] = 8;
    let digest = plain_image(&place.path("layout"), &layers);
    let source = Source::Layout(&place.path("layout"), None);
    place.images.pull(&source, &limits, &Silent).expect("pulled");
    let other = place.images.build(&digest, &limits, false).expect("built");
    assert_ne!(disks[0].0, other.disk_digest);
}

#[test]
fn the_user_comes_from_the_merged_image() {
    let test = "disk::the_user_comes_from_the_merged_image";
    if !is_able(test, &["tar2sqfs"], false) {
        return;
    }
    let place = Place::new();
    let root = place.path("layout");
    let layout = Layout::new(&root);
    let lower = tar(&[
        dir("etc"),
        file("etc/passwd", b"web:x:1:1::/old:/bin/sh\n"),
        file("usr/share/group", b"web:x:34:\nlogs:x:7:web\n"),
    ]);
    // A newer file, and one behind a symlink.
    let upper = tar(&[
        file("etc/passwd", b"web:x:33:34::/srv:/bin/sh\n"),
        symlink("etc/group", "../usr/share/group"),
    ]);
    let layers = [(lower.clone(), lower, PLAIN), (upper.clone(), upper, PLAIN)];
    let image = layout.image(&json!({"User": "web"}), &layers);
    let other = layout.image(&json!({"User": "nobody"}), &layers);
    let digest = layout.finish(&[("one", &image), ("other", &other)]);
    let limits = Limits::default();
    let pull = |digest| {
        place.images.pull(&Source::Layout(&root, Some(digest)), &limits, &Silent).expect("pulled");
    };
    pull(digest);
    let user = place.images.build(&digest, &limits, false).expect("built").user;
    assert_eq!((user.uid, user.gid, user.groups), (33, 34, vec![7]));
    assert_eq!(user.home.as_deref(), Some("/srv"));
    let other = crate::maker::digest(&other);
    pull(other);
    let refused = place.images.build(&other, &limits, false).expect_err("nobody");
    assert!(matches!(refused, BuildError::User(_)), "{refused}");
    assert_eq!(place.files("partial"), Vec::<String>::new());
}

#[test]
fn what_a_killed_build_left_is_swept() {
    let test = "disk::what_a_killed_build_left_is_swept";
    if !is_able(test, &["tar2sqfs"], false) {
        return;
    }
    let place = Place::new();
    let limits = Limits::default();
    let digest = plain_image(&place.path("layout"), &rich());
    let layout = place.path("layout");
    place.images.pull(&Source::Layout(&layout, None), &limits, &Silent).expect("pulled");
    let left = place.path("images/partial").join(format!("{}.disk-1", digest.hex()));
    fs::write(&left, b"half").expect("a file");
    let missing = place.images.disk(&digest).expect_err("not built");
    assert!(matches!(missing, BuildError::NotBuilt { .. }), "{missing}");
    place.images.build(&digest, &limits, false).expect("built");
    assert_eq!(place.files("partial"), Vec::<String>::new());
}
