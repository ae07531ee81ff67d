//! Targets of `vyr-vm` on images: layers that are merged, and the documents that name them.

use std::collections::BTreeSet;

use tar::{Archive, EntryType};
use vyr_base::Digest;
use vyr_vm::image::{
    Compression, Config, Layer, LayerError, Limits, Merge, Reason, Reference, Selected, User,
    select,
};

use crate::archive::sealed;
use crate::checks::problem;
use crate::sections::{join, parts};

/// Small, so that a mutation reaches them.
fn limits() -> Limits {
    Limits {
        compressed_bytes: 1 << 20,
        unpacked_bytes: 1 << 18,
        layers: 3,
        entries: 64,
        names_bytes: 1 << 14,
        ..Limits::default()
    }
}

/// Parts: three layers, the lowest first; as they are, and once more with true checksums.
pub fn image_layers(input: &[u8]) {
    let layers = parts::<3>(input);
    merged(&layers.map(<[u8]>::to_vec));
    merged(&layers.map(sealed));
}

fn merged(layers: &[Vec<u8>; 3]) {
    let layers: Vec<Layer> = layers
        .iter()
        .map(|bytes| Layer {
            // By what it begins with; a manifest says it otherwise.
            compression: match bytes.get(..4) {
                Some([0x1f, 0x8b, ..]) => Compression::Gzip,
                Some([0x28, 0xb5, 0x2f, 0xfd]) => Compression::Zstd,
                _ => Compression::Plain,
            },
            diff_id: None,
            bytes: Box::new(bytes.clone()),
        })
        .collect();
    let limits = limits();
    let merge = || -> Result<Vec<u8>, LayerError> {
        let mut stream = Vec::new();
        let merged = Merge::new(&layers, &limits)?.write(&mut stream)?;
        assert!(merged.unpacked_bytes <= limits.unpacked_bytes);
        assert!(merged.entries <= limits.entries);
        Ok(stream)
    };
    match merge() {
        Ok(stream) => {
            judged(&stream);
            assert!(merge().is_ok_and(|again| again == stream), "the same layers, another stream");
        }
        Err(error) => {
            problem(&error);
            // In memory nothing fails but the image itself.
            let reasons = [Some(Reason::ImageTooLarge), Some(Reason::ImageLayerInvalid)];
            assert!(reasons.contains(&error.reason()), "{error}");
        }
    }
}

/// Another reader finds what a stream must be: each name once, below directories that came before,
/// links to files that came before, and nothing outside.
fn judged(stream: &[u8]) {
    let mut names = BTreeSet::new();
    let mut directories = BTreeSet::from([Vec::new()]);
    for entry in Archive::new(stream).entries().expect("a stream") {
        let entry = entry.expect("an entry");
        let path = entry.path_bytes().into_owned();
        let name = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
        if name == b"." {
            continue;
        }
        let mut above: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
        for part in &above {
            assert!(!matches!(*part, b"" | b"." | b".."), "{}", name.escape_ascii());
            assert!(!part.starts_with(b".wh."), "{}", name.escape_ascii());
        }
        above.pop();
        assert!(
            directories.contains(&above.join(&b'/')),
            "{} is below nothing",
            name.escape_ascii()
        );
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory => assert!(directories.insert(name.clone())),
            EntryType::Link => {
                let target = entry.link_name_bytes().expect("a target").into_owned();
                assert!(names.contains(&target) && !directories.contains(&target));
            }
            EntryType::Regular | EntryType::Symlink | EntryType::Fifo => {}
            EntryType::Char | EntryType::Block => {
                let number = (entry.header().device_major(), entry.header().device_minor());
                let zero = matches!(number, (Ok(Some(0)), Ok(Some(0))));
                assert!(kind == EntryType::Block || !zero, "a whiteout of overlayfs");
            }
            other => panic!("{other:?} in our own stream"),
        }
        assert!(names.insert(name.clone()), "{} twice", name.escape_ascii());
    }
}

/// Parts: a manifest or an index, a config, /etc/passwd, and a reference.
pub fn image_documents(input: &[u8]) {
    let [manifest, config, passwd, reference] = parts::<4>(input);
    let limits = limits();
    match select(manifest, &limits) {
        Ok(Selected::Image(image)) => {
            assert!(image.layers.len() <= limits.layers);
            assert!(image.compressed_bytes() <= limits.compressed_bytes);
        }
        Ok(Selected::Of(one)) => {
            assert!(one.size <= 4 << 20);
            let text = String::from_utf8_lossy(manifest);
            assert!(text.contains("amd64") || text.contains('\\'), "{text}");
        }
        Err(error) => problem(&error),
    }
    match Config::parse(config) {
        Ok(config) => {
            assert!(config.working_dir.starts_with('/'));
            assert!((1..=64).contains(&config.stop_signal.0));
            let words = config.entrypoint.iter().chain(&config.cmd);
            assert!(
                words.chain(config.env.iter().map(|(name, _)| name)).all(|w| !w.contains('\0'))
            );
            match User::resolve(&config.user, Some(passwd), Some(passwd)) {
                Ok(user) => assert!(user.uid != u32::MAX && user.gid != u32::MAX),
                Err(error) => problem(&error),
            }
        }
        Err(error) => problem(&error),
    }
    if let Ok(text) = str::from_utf8(reference) {
        match text.parse::<Reference>() {
            Ok(read) => {
                let again: Reference = read.to_string().parse().expect("what was read");
                assert_eq!(again, read);
                assert!(!read.registry.contains(['/', '@', '?', '#']));
                assert!(
                    !read.repository.contains("..")
                        || !read.repository.split('/').any(|p| p == "..")
                );
            }
            Err(error) => problem(&error),
        }
    }
}

/// Three layers with whiteouts, links, a symlinked parent and an attribute.
pub fn seed_layers() -> Vec<u8> {
    let layer = |entries: &[(&str, u8, &str)]| {
        let mut bytes = Vec::new();
        for (path, kind, rest) in entries {
            let data = if matches!(kind, b'0' | b'x' | b'L') { rest.as_bytes() } else { b"" };
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(EntryType::new(*kind));
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            header.set_size(data.len() as u64);
            if matches!(kind, b'1' | b'2') {
                header.as_mut_bytes()[157..157 + rest.len()].copy_from_slice(rest.as_bytes());
            }
            if matches!(kind, b'3') {
                header.set_device_major(1).expect("ustar");
                header.set_device_minor(3).expect("ustar");
            }
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    };
    let lower = layer(&[
        ("./", b'5', ""),
        ("usr/", b'5', ""),
        ("lib", b'2', "usr"),
        ("pax", b'x', "24 SCHILY.xattr.user.a=b\n"),
        ("usr/a", b'0', "bytes"),
        ("b", b'1', "usr/a"),
        ("null", b'3', ""),
        ("d/old", b'0', ""),
    ]);
    let middle = layer(&[("lib/c", b'0', "c"), (".wh.b", b'0', ""), ("d/.wh..wh..opq", b'0', "")]);
    let upper = layer(&[("usr/.wh.a", b'0', ""), ("z", b'1', "usr/a"), ("b/x", b'0', "x")]);
    join(&[&lower, &middle, &upper])
}

/// A manifest, a config, accounts and a reference that are all taken.
pub fn seed_documents() -> Vec<u8> {
    let digest = Digest::of(b"");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":3}}]}}"#
    );
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","config":{{"User":"web","Env":["A=b"],"Cmd":["/x"],"WorkingDir":"/","StopSignal":"SIGQUIT"}},"rootfs":{{"diff_ids":["{digest}"]}}}}"#
    );
    let reference = format!("r.example:5000/team/app@{digest}");
    join(&[
        manifest.as_bytes(),
        config.as_bytes(),
        b"web:x:33:34::/srv:/bin/sh\n",
        reference.as_bytes(),
    ])
}

/// The same with an index.
pub fn seed_index() -> Vec<u8> {
    let digest = Digest::of(b"");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":9,"platform":{{"os":"linux","architecture":"amd64","variant":"v2"}}}}]}}"#
    );
    join(&[index.as_bytes(), b"{}", b"", b"localhost/app:1.0"])
}
