//! `vyr image`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use vyr_base::{Category, Digest, Problem, format_bytes};
use vyr_node::{DataDir, Result};
use vyr_vm::image::{
    Config, Credentials, Disk, Images, Limits, Progress, Reference, Registry, Shown, Source,
};

use crate::cli::{ImageBuildArgs, ImageCommand, ImagePullArgs, ImageResolveArgs, RegistryAccess};
use crate::output;

/// What stands beside `--layout` is no digest.
#[derive(Debug, thiserror::Error)]
#[error("with --layout, {0:?} has to be a digest of the layout")]
struct NoDigest(String);

impl Problem for NoDigest {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("vyr image pull --layout DIR sha256:..".into())
    }
}

pub(crate) fn run(data: &DataDir, command: ImageCommand, json: bool) -> Result<ExitCode> {
    match command {
        ImageCommand::Pull(args) => pull(data, &args, json)?,
        ImageCommand::Resolve(args) => resolve(&args, json)?,
        ImageCommand::Show { digest } => show(data, &digest, json)?,
        ImageCommand::Build(args) => build(data, &args, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn images(data: &DataDir) -> Result<Images> {
    Ok(Images::open(&data.path().join("images"))?)
}

pub(super) fn registry(
    reference: &Reference,
    access: &RegistryAccess,
    limits: &Limits,
) -> Result<Registry> {
    let credentials = match &access.auth_file {
        Some(file) => Credentials::read(file, &reference.registry)?,
        None => None,
    };
    Ok(Registry::new(reference, access.plain_http, credentials, limits))
}

/// A bar on a terminal, nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::no_length();
        let form = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn total(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[derive(Serialize)]
struct PulledBody {
    image_digest: Digest,
    manifest_digest: Digest,
    layers: usize,
    bytes: u64,
    fetched_bytes: u64,
}

fn pull(data: &DataDir, args: &ImagePullArgs, json: bool) -> Result<()> {
    let limits = Limits::default();
    let images = images(data)?;
    let bar = Bar::new();
    let pulled = match (&args.layout, &args.image) {
        (Some(layout), digest) => {
            let parse = |text: &String| text.parse().map_err(|_| NoDigest(text.clone()));
            let digest = digest.as_ref().map(parse).transpose()?;
            images.pull(&Source::Layout(Path::new(layout), digest), &limits, &bar)?
        }
        (None, Some(image)) => {
            let reference: Reference = image.parse()?;
            // Before anything is asked: a tag is never pulled.
            reference.digest()?;
            let registry = registry(&reference, &args.access, &limits)?;
            images.pull(&Source::Registry(&registry, &reference), &limits, &bar)?
        }
        (None, None) => unreachable!("clap requires one of the two"),
    };
    drop(bar);
    if json {
        return output::json_line(PulledBody {
            image_digest: pulled.digest,
            manifest_digest: pulled.manifest_digest,
            layers: pulled.layers,
            bytes: pulled.bytes,
            fetched_bytes: pulled.fetched_bytes,
        });
    }
    output::print(pulled.digest.to_string());
    let (all, fetched) = (format_bytes(pulled.bytes), format_bytes(pulled.fetched_bytes));
    output::say(format!("{} layers, {all}, {fetched} of it fetched now", pulled.layers));
    output::say(format!("next: vyr image build {}", pulled.digest));
    Ok(())
}

#[derive(Serialize)]
struct ResolvedBody {
    image_digest: Digest,
    reference: String,
}

fn resolve(args: &ImageResolveArgs, json: bool) -> Result<()> {
    let registry = registry(&args.reference, &args.access, &Limits::default())?;
    let image_digest = registry.resolve(&args.reference)?;
    let reference = args.reference.pinned(image_digest).to_string();
    if json {
        return output::json_line(ResolvedBody { image_digest, reference });
    }
    output::print(reference);
    Ok(())
}

#[derive(Serialize)]
struct ShownBody<'a> {
    image_digest: Digest,
    manifest_digest: Digest,
    config_digest: Digest,
    layers: Vec<LayerBody>,
    bytes: u64,
    config: &'a Config,
    disk: Option<&'a Disk>,
    disk_path: Option<String>,
}

#[derive(Serialize)]
struct LayerBody {
    digest: Digest,
    bytes: u64,
}

fn show(data: &DataDir, digest: &Digest, json: bool) -> Result<()> {
    let images = images(data)?;
    let Shown { manifest_digest, manifest, config, disk } =
        images.show(digest, &Limits::default())?;
    let layer = |digest, bytes| LayerBody { digest, bytes };
    let disk_path = disk.as_ref().map(|disk| images.disk_path(&disk.disk_digest));
    let body = ShownBody {
        image_digest: *digest,
        manifest_digest,
        config_digest: manifest.config.digest,
        layers: manifest.layers.iter().map(|(blob, _)| layer(blob.digest, blob.size)).collect(),
        bytes: manifest.compressed_bytes(),
        config: &config,
        disk: disk.as_ref(),
        disk_path: disk_path.map(|path| path.display().to_string()),
    };
    if json {
        return output::json_line(body);
    }
    output::print(serde_json::to_string_pretty(&body).unwrap_or_default());
    Ok(())
}

#[derive(Serialize)]
struct BuiltBody<'a> {
    disk: &'a Disk,
    disk_path: String,
}

fn build(data: &DataDir, args: &ImageBuildArgs, json: bool) -> Result<()> {
    let images = images(data)?;
    let waiting = ProgressBar::new_spinner();
    waiting.set_message("merging layers into a disk");
    waiting.enable_steady_tick(Duration::from_millis(100));
    let built = images.build(&args.digest, &Limits::default(), args.again);
    waiting.finish_and_clear();
    let disk = built?;
    let path = images.disk_path(&disk.disk_digest);
    if json {
        return output::json_line(BuiltBody { disk: &disk, disk_path: path.display().to_string() });
    }
    output::print(path.display().to_string());
    output::say(format!(
        "{} from {} unpacked, {} entries, by {}",
        format_bytes(disk.disk_bytes),
        format_bytes(disk.unpacked_bytes),
        disk.entries,
        disk.tool,
    ));
    if disk.xattrs_dropped > 0 {
        output::say(format!(
            "warning: {} extended attributes left out: only user, trusted and security are kept, \
             and overlayfs's own marks are not",
            disk.xattrs_dropped
        ));
    }
    Ok(())
}
