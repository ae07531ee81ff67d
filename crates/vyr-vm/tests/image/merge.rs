//! What layers make together, looked at in the stream itself.

use std::collections::BTreeMap;

use tar::{Archive, EntryType};
use vyr_vm::image::{Layer, LayerError, Limits, Merge};

use crate::maker::{Entry, dir, file, hard, symlink, tar};

/// A layer that is not packed.
pub(crate) fn plain(bytes: Vec<u8>) -> Layer {
    Layer { compression: vyr_vm::image::Compression::Plain, diff_id: None, bytes: Box::new(bytes) }
}

/// The stream that layers make.
pub(crate) fn merged(layers: &[Layer], limits: &Limits) -> Result<Vec<u8>, LayerError> {
    let mut stream = Vec::new();
    Merge::new(layers, limits)?.write(&mut stream)?;
    Ok(stream)
}

/// Names with what they are: a file's bytes, a link's target, or what kind of thing.
fn entries(layers: &[&[Entry]]) -> BTreeMap<String, String> {
    let layers: Vec<Layer> = layers.iter().map(|entries| plain(tar(entries))).collect();
    let stream = merged(&layers, &Limits::default()).expect("merged");
    let mut archive = Archive::new(stream.as_slice());
    let mut all = BTreeMap::new();
    for entry in archive.entries().expect("a stream") {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8(entry.path_bytes().into_owned()).expect("UTF-8");
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        let what = match entry.header().entry_type() {
            EntryType::Regular => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).expect("UTF-8");
                text
            }
            EntryType::Link => format!("= {}", link.expect("a target")),
            EntryType::Symlink => format!("-> {}", link.expect("a target")),
            EntryType::Directory => "/".into(),
            other => format!("{other:?}"),
        };
        assert_eq!(all.insert(name.clone(), what), None, "{name} twice");
    }
    all.remove("./");
    all
}

fn is(layers: &[&[Entry]], expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, what)| ((*name).into(), (*what).into())).collect();
    assert_eq!(entries(layers), expected);
}

#[test]
fn a_whiteout_hides_lower_layers_only_wherever_it_stands() {
    let lower = [dir("d"), file("d/old", b"old"), file("f", b"old")];
    for upper in [
        vec![file(".wh.f", b""), file("f", b"new"), file("d/.wh..wh..opq", b""), file("d/x", b"x")],
        vec![file("d/x", b"x"), file("f", b"new"), file("d/.wh..wh..opq", b""), file(".wh.f", b"")],
    ] {
        is(&[&lower, &upper], &[("d/", "/"), ("d/x", "x"), ("f", "new")]);
    }
    // The twin: without whiteouts the old is there.
    is(
        &[&lower, &[file("d/x", b"x")]],
        &[("d/", "/"), ("d/old", "old"), ("d/x", "x"), ("f", "old")],
    );
    // A directory that is hidden and made again has nothing of the old one.
    let upper = [dir("d"), file("d/y", b"y"), file(".wh.d", b"")];
    is(&[&lower, &upper], &[("d/", "/"), ("d/y", "y"), ("f", "old")]);
}

#[test]
fn a_file_lives_while_one_of_its_names_does() {
    let lower = [file("a", b"bytes"), hard("b", "a"), hard("c", "a")];
    is(&[&lower, &[file(".wh.a", b"")]], &[("b", "bytes"), ("c", "= b")]);
    // A link of the same layer to what that layer hides, before the whiteout and behind it.
    for upper in [[hard("z", "a"), file(".wh.a", b"")], [file(".wh.a", b""), hard("z", "a")]] {
        is(&[&lower, &upper], &[("b", "bytes"), ("c", "= b"), ("z", "= b")]);
    }
    let lower = [dir("d"), file("d/a", b"bytes")];
    is(&[&lower, &[file(".wh.d", b""), hard("z", "d/a")]], &[("z", "bytes")]);
    // A name that is replaced leaves the others as they were.
    is(
        &[&[file("a", b"old"), hard("b", "a")], &[file("a", b"new")]],
        &[("a", "new"), ("b", "old")],
    );
}

#[test]
fn a_parent_that_is_a_symlink_is_followed_inside_the_image() {
    let lower = [dir("usr/lib"), symlink("lib", "usr/lib"), symlink("up", "../../../usr")];
    is(
        &[&lower, &[file("lib/x", b"x"), file("up/y", b"y")]],
        &[
            ("lib", "-> usr/lib"),
            ("up", "-> ../../../usr"),
            ("usr/", "/"),
            ("usr/lib/", "/"),
            ("usr/lib/x", "x"),
            ("usr/y", "y"),
        ],
    );
    // One that leads to the host leads to the image instead, where it is made.
    is(
        &[&[symlink("etc", "/tmp/outside"), file("etc/x", b"x")]],
        &[("etc", "-> /tmp/outside"), ("tmp/", "/"), ("tmp/outside/", "/"), ("tmp/outside/x", "x")],
    );
    // The last part is not followed: it is replaced.
    is(&[&[file("t", b"t"), symlink("s", "t")], &[file("s", b"s")]], &[("s", "s"), ("t", "t")]);
    // A whiteout goes the same way.
    is(
        &[&lower, &[file("lib/x", b"")], &[file("lib/.wh.x", b"")]],
        &[("lib", "-> usr/lib"), ("up", "-> ../../../usr"), ("usr/", "/"), ("usr/lib/", "/")],
    );
}

#[test]
fn names_are_made_relative() {
    is(
        &[&[file("/a", b"a"), file("./b", b"b"), file(".//c/./d", b"d"), hard("/e", "/a")]],
        &[("a", "a"), ("b", "b"), ("c/", "/"), ("c/d", "d"), ("e", "= a")],
    );
}

#[test]
fn a_directory_may_be_said_twice_in_the_same_way() {
    is(&[&[dir("d"), file("d/x", b"x"), dir("d")]], &[("d/", "/"), ("d/x", "x")]);
    // A parent that was made on the way may be said later.
    is(&[&[file("d/x", b"x"), dir("d")]], &[("d/", "/"), ("d/x", "x")]);
}

#[test]
fn the_stream_is_the_same_for_the_same_layers() {
    let layers = || {
        let entries: Vec<Entry> =
            (0..200).map(|i| file(&format!("d{}/f{i}", i % 7), &[0; 100])).collect();
        vec![plain(tar(&entries)), plain(tar(&entries[..50]))]
    };
    let limits = Limits::default();
    assert_eq!(merged(&layers(), &limits).expect("one"), merged(&layers(), &limits).expect("two"));
}
