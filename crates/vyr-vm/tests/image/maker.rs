//! Layers, configs and layouts, made byte by byte.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use vyr_base::Digest;

/// One entry of a layer.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) device: Option<(u32, u32)>,
    pub(crate) pax: Vec<(String, Vec<u8>)>,
}

fn entry(path: &str, kind: EntryType, mode: u32) -> Entry {
    Entry {
        path: path.into(),
        kind,
        link: Vec::new(),
        data: Vec::new(),
        mode,
        owner: (0, 0),
        mtime: 1_600_000_000,
        device: None,
        pax: Vec::new(),
    }
}

pub(crate) fn file(path: &str, data: &[u8]) -> Entry {
    Entry { data: data.into(), ..entry(path, EntryType::Regular, 0o644) }
}

pub(crate) fn dir(path: &str) -> Entry {
    entry(path, EntryType::Directory, 0o755)
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..entry(path, EntryType::Symlink, 0o777) }
}

pub(crate) fn hard(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..entry(path, EntryType::Link, 0o644) }
}

pub(crate) fn device(path: &str, kind: EntryType, major: u32, minor: u32) -> Entry {
    Entry { device: Some((major, minor)), ..entry(path, kind, 0o620) }
}

pub(crate) fn fifo(path: &str) -> Entry {
    entry(path, EntryType::Fifo, 0o600)
}

impl Entry {
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn owner(self, uid: u64, gid: u64) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    pub(crate) fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.into(), value.into()));
        self
    }

    pub(crate) fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }
}

/// The records of a PAX header.
pub(crate) fn records(pax: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (key, value) in pax {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        all.extend_from_slice(format!("{length} {key}=").as_bytes());
        all.extend_from_slice(value);
        all.push(b'\n');
    }
    all
}

/// A tar archive as a hostile hand may write it: names are not looked at.
pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut pax = entry.pax.clone();
        for (key, name) in [("path", &entry.path), ("linkpath", &entry.link)] {
            if name.len() > 100 {
                pax.push((key.into(), name.clone()));
            }
        }
        if !pax.is_empty() {
            raw(&mut builder, EntryType::XHeader, &records(&pax));
        }
        let mut header = Header::new_ustar();
        let bytes = header.as_mut_bytes();
        let short = |name: &[u8]| name[..name.len().min(100)].to_vec();
        bytes[..short(&entry.path).len()].copy_from_slice(&short(&entry.path));
        bytes[157..157 + short(&entry.link).len()].copy_from_slice(&short(&entry.link));
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.mtime);
        header.set_size(entry.data.len() as u64);
        if let Some((major, minor)) = entry.device {
            header.set_device_major(major).expect("ustar");
            header.set_device_minor(minor).expect("ustar");
        }
        header.set_cksum();
        builder.append(&header, entry.data.as_slice()).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

/// A header with nothing but a kind and data.
pub(crate) fn raw(builder: &mut Builder<Vec<u8>>, kind: EntryType, data: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..3].copy_from_slice(b"pax");
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.set_cksum();
    builder.append(&header, data).expect("in memory");
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// An OCI layout under construction.
pub(crate) struct Layout<'a> {
    root: &'a Path,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        fs::create_dir_all(root.join("blobs/sha256")).expect("a directory");
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        Self { root }
    }

    pub(crate) fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.root.join("blobs/sha256").join(digest.hex()), bytes).expect("a file");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// The manifest of an image, with layers as (tar archive, blob, media type).
    pub(crate) fn image(&self, config: &Value, layers: &[(Vec<u8>, Vec<u8>, &str)]) -> Value {
        let diff_ids: Vec<Digest> = layers.iter().map(|(tar, _, _)| Digest::of(tar)).collect();
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string();
        let config = self.blob(config.as_bytes(), "application/vnd.oci.image.config.v1+json");
        let layers: Vec<Value> =
            layers.iter().map(|(_, blob, media_type)| self.blob(blob, media_type)).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
        });
        self.blob(manifest.to_string().as_bytes(), media_type)
    }

    /// Names the images; gives the digest of the first.
    pub(crate) fn finish(&self, images: &[(&str, &Value)]) -> Digest {
        let named = |(name, image): &(&str, &Value)| {
            let mut entry = (*image).clone();
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
            entry
        };
        let manifests: Vec<Value> = images.iter().map(named).collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.root.join("index.json"), index.to_string()).expect("a file");
        digest(images[0].1)
    }
}

/// The digest of a descriptor.
pub(crate) fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().expect("a digest").parse().expect("a digest")
}

/// A layout with one image of plain layers.
pub(crate) fn plain_image(root: &Path, layers: &[Vec<Entry>]) -> Digest {
    let layout = Layout::new(root);
    let layers: Vec<(Vec<u8>, Vec<u8>, &str)> = layers
        .iter()
        .map(|entries| {
            let tar = tar(entries);
            (tar.clone(), tar, PLAIN)
        })
        .collect();
    let image = layout.image(&json!({"Cmd": ["/bin/app"]}), &layers);
    layout.finish(&[("one", &image)])
}
