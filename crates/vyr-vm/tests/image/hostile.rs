//! Layers that nobody should be able to make, made byte by byte.

use tar::{Builder, EntryType};
use vyr_base::{Category, Problem};
use vyr_vm::image::{Compression, Layer, LayerError, Limits, Reason};

use crate::maker::{Entry, device, dir, fifo, file, gzip, hard, raw, records, symlink, tar};
use crate::merge::{merged, plain};

fn refused(layers: &[&[Entry]]) -> LayerError {
    let layers: Vec<Layer> = layers.iter().map(|entries| plain(tar(entries))).collect();
    merged(&layers, &Limits::default()).expect_err("refused")
}

/// The whole chain of reasons.
fn chain(error: &LayerError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

fn is_invalid(error: &LayerError, why: &str) {
    let text = chain(error);
    assert_eq!(error.reason(), Some(Reason::ImageLayerInvalid), "{text}");
    assert_eq!(error.category(), Category::Usage, "{text}");
    assert!(text.starts_with("image_layer_invalid: layer") && text.contains(why), "{text}");
    assert!(error.hint().is_some());
}

#[test]
fn names_that_lead_out_are_refused() {
    for path in ["../x", "a/../../x", "/../x", "..", "a/..", "./.."] {
        is_invalid(&refused(&[&[file(path, b"")]]), "leads out");
        is_invalid(&refused(&[&[file("a", b""), hard("l", path)]]), "leads out");
    }
    is_invalid(&refused(&[&[file("x", b"").pax("path", b"../../y")]]), "leads out");
}

#[test]
fn names_that_no_system_has_are_refused() {
    is_invalid(&refused(&[&[file(&"x".repeat(256), b"")]]), "too long");
    is_invalid(&refused(&[&[file(&"x/".repeat(2100), b"")]]), "too long");
    is_invalid(&refused(&[&[file("x", b"").pax("path", b"a\0b")]]), "zero byte");
    is_invalid(&refused(&[&[file(".", b"")]]), "root is a directory");
    is_invalid(&refused(&[&[symlink("s", "")]]), "target");
    for path in [".wh.", ".wh...", ".wh..", "d/.wh.."] {
        is_invalid(&refused(&[&[file(path, b"")]]), "hides nothing");
    }
    is_invalid(&refused(&[&[file(".wh.d/x", b"")]]), "below a whiteout");
}

#[test]
fn a_name_said_twice_is_refused() {
    is_invalid(&refused(&[&[file("a", b"1"), file("a", b"2")]]), "there twice");
    is_invalid(&refused(&[&[file("a", b"1"), file("./a", b"1")]]), "there twice");
    is_invalid(&refused(&[&[file("a", b"1"), dir("a")]]), "there twice");
    is_invalid(&refused(&[&[dir("a"), dir("a").mode(0o777)]]), "there twice");
    let over_a_link = [dir("d"), symlink("l", "d"), file("d/a", b"1"), file("l/a", b"2")];
    is_invalid(&refused(&[&over_a_link]), "there twice");
    is_invalid(
        &refused(&[&[dir("d"), file("d/x", b"")], &[file("d/x", b""), file("d", b"")]]),
        "below",
    );
}

#[test]
fn what_a_layer_cannot_mean_is_refused() {
    is_invalid(&refused(&[&[file("a", b""), file("a/b", b"")]]), "parent is no directory");
    is_invalid(&refused(&[&[symlink("a", "b"), symlink("b", "a"), file("a/x", b"")]]), "symlinks");
    is_invalid(&refused(&[&[hard("l", "missing")]]), "not there");
    is_invalid(&refused(&[&[dir("d"), hard("l", "d")]]), "not there");
    is_invalid(&refused(&[&[hard("l", "l")]]), "not there");
    is_invalid(&refused(&[&[device("c", EntryType::Char, 0, 0)]]), "whiteout");
    is_invalid(&refused(&[&[device("c", EntryType::Char, 5000, 1)]]), "device number");
    let with_data = Entry { data: vec![0; 512], ..fifo("f") };
    is_invalid(&refused(&[&[with_data]]), "has none");
    let other = Entry { kind: EntryType::new(b'M'), ..file("m", b"") };
    is_invalid(&refused(&[&[other]]), "kind 'M'");
}

#[test]
fn sparse_files_are_refused_in_every_form() {
    let old = Entry { kind: EntryType::GNUSparse, ..file("s", b"x") };
    is_invalid(&refused(&[&[old]]), "sparse");
    let pax = file("s", b"x").pax("GNU.sparse.major", b"1").pax("GNU.sparse.name", b"real");
    is_invalid(&refused(&[&[pax]]), "sparse");
}

#[test]
fn extended_headers_are_bounded_and_read_by_length() {
    let layer = |build: &dyn Fn(&mut Builder<Vec<u8>>)| {
        let mut builder = Builder::new(Vec::new());
        build(&mut builder);
        merged(&[plain(builder.into_inner().expect("in memory"))], &Limits::default())
            .expect_err("refused")
    };
    let huge = vec![b'x'; (1 << 20) + 1];
    let x = EntryType::XHeader;
    is_invalid(&layer(&|b| raw(b, x, &huge)), "more than");
    is_invalid(&layer(&|b| raw(b, EntryType::GNULongName, &huge)), "more than");
    for bad in [
        "9 a=b\n",
        "99 a=b\n",
        "6 a=bc",
        "x a=b\n",
        "5 ab\n",
        "18446744073709551616 a=b\n",
        "0 a=b\n",
        "3 a",
    ] {
        is_invalid(&layer(&|b| raw(b, x, bad.as_bytes())), "malformed");
    }
    is_invalid(&layer(&|b| (0..2).for_each(|_| raw(b, x, b"6 a=b\n"))), "two extended");
    is_invalid(&layer(&|b| raw(b, x, b"6 a=b\n")), "middle of an entry");
    let global = |key: &str| records(&[(key.into(), b"x".to_vec())]);
    is_invalid(&layer(&|b| raw(b, EntryType::XGlobalHeader, &global("path"))), "global");
    // The size in a PAX header counts: what it covers is data, and no header.
    let inner = tar(&[file("smuggled", b"")]);
    let size = inner.len().to_string();
    let carrier = Entry { data: inner, ..file("carrier", b"") }.pax("size", size.as_bytes());
    let stream = merged(&[plain(tar(&[carrier]))], &Limits::default()).expect("merged");
    let mut archive = tar::Archive::new(stream.as_slice());
    assert_eq!(archive.entries().expect("a stream").count(), 2);
}

#[test]
fn what_ends_early_or_is_no_tar_is_refused() {
    let whole = tar(&[file("a", &[1; 2000]), file("b", b"")]);
    let limits = Limits::default();
    for cut in [100, 512, 700, 2048, 2560 + 100] {
        let refused = merged(&[plain(whole[..cut].to_vec())], &limits).expect_err("cut");
        is_invalid(&refused, "");
    }
    is_invalid(&merged(&[plain(vec![b'x'; 4096])], &limits).expect_err("text"), "no tar");
    let mut odd = vec![0; 512];
    odd.extend(&whole);
    is_invalid(&merged(&[plain(odd)], &limits).expect_err("a gap"), "empty block");
    let packed = |bytes: Vec<u8>, compression| {
        merged(&[Layer { compression, diff_id: None, bytes: Box::new(bytes) }], &limits)
    };
    let cut = gzip(&whole)[..60].to_vec();
    is_invalid(&packed(cut, Compression::Gzip).expect_err("cut"), "decompressed");
    is_invalid(&packed(whole.clone(), Compression::Gzip).expect_err("plain"), "decompressed");
    is_invalid(&packed(whole.clone(), Compression::Zstd).expect_err("plain"), "decompressed");
    // The twin: whole, it is taken.
    packed(gzip(&whole), Compression::Gzip).expect("whole");
    // An empty layer is one that changes nothing.
    merged(&[plain(Vec::new()), plain(vec![0; 1024])], &limits).expect("empty");
}

#[test]
fn another_archive_than_the_config_names_is_refused() {
    let bytes = tar(&[file("a", b"")]);
    let diff_id = Some(vyr_base::Digest::of(b"another"));
    let layer = Layer { diff_id, ..plain(bytes.clone()) };
    let refused = merged(&[layer], &Limits::default()).expect_err("another");
    assert!(matches!(refused, LayerError::DiffId { .. }), "{refused}");
    let diff_id = Some(vyr_base::Digest::of(&bytes));
    merged(&[Layer { diff_id, ..plain(bytes) }], &Limits::default()).expect("the one");
}

fn is_too_large(error: &LayerError, what: &str) {
    assert_eq!(error.reason(), Some(Reason::ImageTooLarge), "{error}");
    assert!(error.to_string().starts_with("image_too_large: ") && error.to_string().contains(what));
}

#[test]
fn a_size_that_is_announced_is_refused_before_it_is_read() {
    // The header says 60 GiB; the blob ends behind it.
    let layer = |size: u64| {
        let mut header = tar(&[file("bomb", b"")])[..512].to_vec();
        let mut parsed = tar::Header::new_ustar();
        parsed.as_mut_bytes().copy_from_slice(&header);
        parsed.set_size(size);
        parsed.set_cksum();
        header.copy_from_slice(parsed.as_bytes());
        plain(header)
    };
    let limits = Limits::default();
    is_too_large(&merged(&[layer(60 << 30)], &limits).expect_err("a bomb"), "bytes unpacked");
    is_invalid(&merged(&[layer(10 << 30)], &limits).expect_err("cut"), "middle of an entry");
    // Several layers share one limit.
    let limits = Limits { unpacked_bytes: 10_000, ..limits };
    let each = || plain(tar(&[file("f", &[0; 4000])]));
    merged(&[each(), each()], &limits).expect("small enough");
    is_too_large(&merged(&[each(), each(), each()], &limits).expect_err("too many"), "unpacked");
}

#[test]
fn bombs_of_zeros_stop_at_the_limit() {
    // Behind the end of the archive nothing has a header.
    let zeros = vec![0; 64 << 20];
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    let layer = Layer { compression: Compression::Gzip, ..plain(gzip(&zeros)) };
    is_too_large(&merged(&[layer], &limits).expect_err("a bomb"), "bytes unpacked");
}

#[test]
fn millions_of_entries_names_and_layers_are_refused() {
    let limits = Limits { entries: 1000, names_bytes: 100_000, layers: 3, ..Limits::default() };
    let many: Vec<Entry> = (0..1001).map(|i| file(&i.to_string(), b"")).collect();
    is_too_large(&merged(&[plain(tar(&many))], &limits).expect_err("many"), "entries");
    merged(&[plain(tar(&many[..900]))], &limits).expect("fewer");
    // Headers that stand for nothing are counted as well.
    let mut builder = Builder::new(Vec::new());
    (0..1001).for_each(|_| raw(&mut builder, EntryType::XGlobalHeader, b"12 comment=\n"));
    raw(&mut builder, EntryType::Regular, b"");
    let globals = builder.into_inner().expect("in memory");
    is_too_large(&merged(&[plain(globals)], &limits).expect_err("many"), "entries");
    let fat: Vec<Entry> =
        (0..3).map(|i| file(&i.to_string(), b"").xattr("user.x", &[b'v'; 40_000])).collect();
    is_too_large(&merged(&[plain(tar(&fat))], &limits).expect_err("fat"), "names");
    merged(&[plain(tar(&fat[..2]))], &limits).expect("leaner");
    let empty = || plain(Vec::new());
    is_too_large(&merged(&[empty(), empty(), empty(), empty()], &limits).expect_err("x"), "layers");
}

#[test]
fn symlinks_over_symlinks_cost_a_bounded_number_of_steps() {
    // A short name that leads five hundred directories down and up, thirty times over.
    let deep = "a/".repeat(500);
    let mut entries = vec![dir(&deep), symlink("l0", &deep)];
    for i in 1..30 {
        let target = format!("l{}/{}{deep}", i - 1, "../".repeat(1000));
        entries.push(symlink(&format!("l{i}"), &target));
    }
    for i in 0..2000 {
        entries.push(file(&format!("l29/{i}"), b""));
    }
    let refused = merged(&[plain(tar(&entries))], &Limits::default()).expect_err("a maze");
    is_too_large(&refused, "steps");
    // The twin: one way through it is taken.
    merged(&[plain(tar(&entries[..40]))], &Limits::default()).expect("a way");
}

#[test]
fn marks_of_overlayfs_and_unknown_classes_are_left_out_and_counted() {
    let entries = [
        dir("d").xattr("trusted.overlay.opaque", b"y").xattr("user.overlay.redirect", b"/x"),
        file("f", b"").xattr("system.posix_acl_access", b"x").xattr("user.kept", b"v"),
    ];
    let layers = [plain(tar(&entries))];
    let mut stream = Vec::new();
    let merge = vyr_vm::image::Merge::new(&layers, &Limits::default()).expect("merged");
    let merged = merge.write(&mut stream).expect("written");
    assert_eq!(merged.xattrs_dropped, 3);
    let has = |text: &str| stream.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has("user.kept") && !has("overlay") && !has("posix_acl"));
}
