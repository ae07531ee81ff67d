//! `vyr bench image`: an image to a root disk, beside `mksquashfs -tar` by hand.
//!
//! The image has one gzip layer. A round builds its disk with Vyr, then makes a squashfs of the very
//! stream that Vyr writes, already decompressed and merged, with mksquashfs at the same block size
//! and level; then the same from the layer with `gzip -dc`, as a person would. Order alternates.
//! Each round pulls the image anew before its disk is timed: as always, the pull reads what is in the
//! layer, and keeps it as it unpacks until the disk is made.

mod report;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use vyr_base::Digest;
use vyr_vm::image::{Images, Limits, Silent, Source};

pub use report::Report;

use crate::environment::Environment;
use crate::rounds::{ROUNDS_MIN, alternate, rounds};

/// Rounds of a quick look.
const QUICK_ROUNDS: usize = 3;

/// Files of the image, and bytes of each: 512 MiB in all, 32 MiB for a quick look.
const FILES: usize = 4096;
const QUICK_FILES: usize = 256;
const FILE_BYTES: usize = 128 << 10;

/// What to measure, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 rounds of a small image, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,
}

/// Who makes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// Vyr, from the image's blobs.
    Vyr,
    /// mksquashfs, from the merged stream.
    Stream,
    /// mksquashfs, from the layer behind `gzip -dc`.
    Layer,
}

/// One disk.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Who made it.
    pub arm: Arm,
    /// Wall time, the sync of the disk included, in milliseconds.
    pub ms: f64,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// Measures.
///
/// # Errors
/// When a program is missing or a disk is not made.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let files = if options.quick { QUICK_FILES } else { FILES };
    progress("image: making the image");
    let place = Place::new(directory.path(), files)?;
    let wanted = if options.quick { QUICK_ROUNDS } else { options.rounds };
    let found = rounds(wanted, |number| {
        progress(&format!("image: round {} of {wanted}", number + 1));
        let arms = alternate(&[Arm::Vyr, Arm::Stream, Arm::Layer], number);
        let mut samples =
            arms.into_iter().map(|arm| place.sample(arm)).collect::<Result<Vec<_>>>()?;
        samples.sort_by_key(|sample| sample.arm);
        Ok(samples)
    })?;
    let environment = Environment::of_this_machine("not used");
    let report = Report::new(environment, wanted, options.quick, found);
    report.write(&options.out)?;
    Ok(report)
}

struct Place {
    root: PathBuf,
    image: Digest,
}

impl Place {
    fn new(root: &Path, files: usize) -> Result<Self> {
        let tar = layer(files)?;
        fs::write(root.join("stream.tar"), &tar)?;
        let gzip = Command::new("gzip")
            .args(["-k", "-c", "stream.tar"])
            .current_dir(root)
            .stdout(File::create(root.join("layer.tar.gz"))?)
            .status()
            .context("cannot run gzip")?;
        ensure!(gzip.success(), "gzip failed");
        let layout = root.join("layout");
        fs::create_dir_all(layout.join("blobs/sha256"))?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let blob = |bytes: &[u8], media_type: &str| -> Result<serde_json::Value> {
            let digest = Digest::of(bytes);
            fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes)?;
            Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
        };
        let packed = fs::read(root.join("layer.tar.gz"))?;
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]}});
        let config =
            blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?;
        let layer = blob(&packed, "application/vnd.oci.image.layer.v1.tar+gzip")?;
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = blob(manifest.to_string().as_bytes(), media_type)?;
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string())?;
        let mut place = Self { root: root.to_owned(), image: Digest::of(b"") };
        place.image = place.pulled()?.1;
        Ok(place)
    }

    /// The image as a pull leaves it, on the disk.
    fn pulled(&self) -> Result<(Images, Digest)> {
        let to = self.root.join("images");
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        let images = Images::open(&to)?;
        let layout = self.root.join("layout");
        let source = Source::Layout(&layout, None);
        let image = images.pull(&source, &Limits::default(), &Silent)?.digest;
        rustix::fs::sync();
        Ok((images, image))
    }

    fn sample(&self, arm: Arm) -> Result<Sample> {
        let mut started = Instant::now();
        let bytes = match arm {
            Arm::Vyr => {
                let (images, _) = self.pulled()?;
                started = Instant::now();
                images.build(&self.image, &Limits::default(), true)?.disk_bytes
            }
            Arm::Stream => self.by_hand(File::open(self.root.join("stream.tar"))?.into())?,
            Arm::Layer => {
                let mut gzip = Command::new("gzip")
                    .args(["-dc", "layer.tar.gz"])
                    .current_dir(&self.root)
                    .stdout(Stdio::piped())
                    .spawn()
                    .context("cannot run gzip")?;
                let stdout = gzip.stdout.take().context("gzip has no output")?;
                let bytes = self.by_hand(stdout.into())?;
                ensure!(gzip.wait()?.success(), "gzip failed");
                bytes
            }
        };
        let ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(Sample { arm, ms, bytes })
    }

    /// mksquashfs as Vyr's disk is made, then a sync as Vyr makes one.
    fn by_hand(&self, stream: Stdio) -> Result<u64> {
        let disk = self.root.join("by-hand.squashfs");
        let done = Command::new("mksquashfs")
            .args(["-", "by-hand.squashfs", "-tar", "-noappend", "-no-progress", "-quiet"])
            .args(["-comp", "zstd", "-Xcompression-level", "3", "-b", "131072"])
            .current_dir(&self.root)
            .stdin(stream)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run mksquashfs")?;
        ensure!(done.success(), "mksquashfs failed");
        let disk = File::open(disk)?;
        disk.sync_all()?;
        Ok(disk.metadata()?.len())
    }
}

/// Files that compress to about half: each word of eight bytes is random or seen before.
fn layer(files: usize) -> Result<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut tar = Vec::with_capacity(files * (FILE_BYTES + 512) + 1024);
    let mut name = 0;
    while name < files {
        let mut header = [0_u8; 512];
        let path = format!("d{}/f{name}", name / 64);
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        write!(&mut header[124..136], "{FILE_BYTES:011o}\0")?;
        header[136..148].copy_from_slice(b"00000000001\0");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        write!(&mut header[148..156], "{sum:06o}\0 ")?;
        tar.extend_from_slice(&header);
        for _ in 0..FILE_BYTES / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = if state & 1 == 0 { state } else { state >> 56 };
            tar.extend_from_slice(&word.to_le_bytes());
        }
        name += 1;
    }
    tar.extend_from_slice(&[0; 1024]);
    Ok(tar)
}
