//! What a microVM boots: a kernel as Debian ships it, and an initramfs with our first process.
//!
//! ```text
//! guest/kernel.lock -> apt-get download -> sha256 -> dpkg-deb -x -> vmlinuz -> vmlinux (ELF)
//! guest/init -> cargo, musl, remapped paths ---+--> initramfs (cpio)        guest.json: digests
//! modules of that package ---------------------+
//! ```
//!
//! Invariants: the same lock, sources and toolchain give the same bytes, wherever they are built;
//! a package of another digest is not unpacked; the directory is whole when `guest.json` is there.
//!
//! The ELF and not the bzImage: it starts without a decompressor of its own, which is 1.7 CPU seconds
//! where the processor is emulated (research on services, section 2).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::guests::reproducible_cargo;
use crate::repo::Repo;

const LOCK: &str = "guest/kernel.lock";

/// Stands for the newest package of this line of kernels.
const LINE: &str = "linux-image-6.12-cloud-amd64";

const TARGET: &str = "x86_64-unknown-linux-musl";

/// In the order of loading. What the kernel has built in (ext4, virtio_console) is no file.
const MODULES: [&str; 7] =
    ["virtio_mmio", "virtio_blk", "failover", "net_failover", "virtio_net", "squashfs", "overlay"];

/// The version of `guest.json`.
const VERSION: u32 = 1;

/// Makes it.
///
/// # Errors
/// A program, the target or the package is missing; something does not build.
pub(crate) fn run(repo: &Repo, out: Option<&Path>, move_pin: bool) -> anyhow::Result<()> {
    let work = repo.target.join("guest-work");
    fs::create_dir_all(&work)?;
    let lock = repo.root.join(LOCK);
    if move_pin {
        fs::write(&lock, newest(&work)?.text())?;
        println!("{LOCK} is written anew; undo: git checkout {LOCK}");
    }
    let text = fs::read_to_string(&lock).with_context(|| format!("cannot read {LOCK}"))?;
    let pin = Pin::parse(&text)?;
    let tree = unpack(&work, &pin)?;
    let vmlinuz = tree.join("boot").join(format!("vmlinuz-{}", pin.release()?));
    let vmlinux = extract(&fs::read(&vmlinuz).context("the package holds no kernel")?)?;
    let init = init(repo)?;
    let initramfs = initramfs(&tree, &init)?;

    let default = repo.target.join("guest");
    let out = out.unwrap_or(&default);
    fs::create_dir_all(out)?;
    let description = json!({
        "version": VERSION,
        "architecture": "x86_64",
        "kernel": {"package": pin.package, "version": pin.version, "release": pin.release()?},
        "files": {"vmlinux": digest(&vmlinux), "initramfs": digest(&initramfs)},
        "init": digest(&init),
    });
    let description = serde_json::to_string_pretty(&description)? + "\n";
    let _ = fs::remove_file(out.join("guest.json"));
    for (name, bytes) in [
        ("vmlinux", &vmlinux[..]),
        ("initramfs", &initramfs[..]),
        ("guest.json", description.as_bytes()),
    ] {
        write(out, name, bytes)?;
    }
    print!("{description}");
    println!("written to {}", out.display());
    Ok(())
}

/// Whole or not there.
fn write(out: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let new = out.join(format!(".{name}.new"));
    fs::write(&new, bytes)?;
    fs::File::open(&new)?.sync_all()?;
    Ok(fs::rename(new, out.join(name))?)
}

/// Which package, byte for byte.
#[derive(Debug, PartialEq, Eq)]
struct Pin {
    package: String,
    version: String,
    sha256: String,
}

impl Pin {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map(str::to_owned).with_context(|| format!("{LOCK} has no line `{name} ..`"))
        };
        let pin = Self {
            package: field("package")?,
            version: field("version")?,
            sha256: field("sha256")?,
        };
        let hex = pin.sha256.len() == 64 && pin.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(hex, "{LOCK}: sha256 is 64 hexadecimal digits");
        Ok(pin)
    }

    fn text(&self) -> String {
        format!(
            "# The kernel of every guest. `cargo xtask guest --move` writes this file anew from what the\n\
             # distribution offers now; look at the difference and at the kernel's security notes before you commit it.\n\
             package {}\nversion {}\nsha256 {}\n",
            self.package, self.version, self.sha256
        )
    }

    /// The kernel's release, as `uname -r` prints it.
    fn release(&self) -> anyhow::Result<&str> {
        self.package.strip_prefix("linux-image-").context("the package is no kernel image")
    }
}

/// The pin of what the distribution offers now.
fn newest(work: &Path) -> anyhow::Result<Pin> {
    let depends = output(Command::new("apt-cache").args(["depends", "--important", LINE]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: ").filter(|of| of.contains("image")))
        .with_context(|| format!("{LINE} names no kernel"))?;
    let deb = download(work, package)?;
    let version = output(Command::new("dpkg-deb").arg("-f").arg(&deb).arg("Version"))?;
    let sha256 = hex(&fs::read(&deb)?);
    Ok(Pin { package: package.to_owned(), version: version.trim().to_owned(), sha256 })
}

/// As a user, unprivileged, into a directory of its own.
fn download(work: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let into = work.join("download");
    let _ = fs::remove_dir_all(&into);
    fs::create_dir_all(&into)?;
    output(Command::new("apt-get").current_dir(&into).args(["download", package])).with_context(
        || format!("{package} cannot be had; `cargo xtask guest --move` pins what can be"),
    )?;
    let deb = fs::read_dir(&into)?.flatten().map(|entry| entry.path());
    let mut deb = deb.filter(|path| path.extension().is_some_and(|end| end == "deb"));
    deb.next().context("no package came")
}

/// The package's tree; downloaded once, and only if it is the pinned one.
fn unpack(work: &Path, pin: &Pin) -> anyhow::Result<PathBuf> {
    let tree = work.join(&pin.sha256);
    if tree.is_dir() {
        return Ok(tree);
    }
    let exact = format!("{}={}", pin.package, pin.version);
    let deb = download(work, &exact)?;
    let found = hex(&fs::read(&deb)?);
    ensure!(found == pin.sha256, "{exact} has sha256 {found}, and {LOCK} pins {}", pin.sha256);
    let new = work.join("unpacked");
    let _ = fs::remove_dir_all(&new);
    output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&new))?;
    fs::rename(new, &tree)?;
    Ok(tree)
}

/// The kernel inside of a bzImage (the kernel's documentation, x86/boot).
fn extract(image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4).and_then(<[u8]>::first_chunk::<4>);
        bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize).context("the kernel is cut")
    };
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "the kernel is no bzImage");
    let sectors = usize::from(image[0x1f1]);
    let start = (sectors + 1) * 512 + word(0x248)?;
    let payload = image.get(start..start + word(0x24c)?).context("the kernel is cut")?;
    // The last four bytes are its unpacked length.
    let (packed, length) = payload.split_last_chunk::<4>().context("the kernel is cut")?;
    let program = match packed {
        [0xfd, b'7', b'z', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [0x1f, 0x8b, ..] => "gzip",
        other => {
            bail!("the kernel is packed in an unknown way: {:02x?}", &other[..4.min(other.len())])
        }
    };
    let mut child = Command::new(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} is not installed"))?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let packed = packed.to_vec();
    let feeding = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &packed));
    let unpacked = child.wait_with_output()?;
    let _ = feeding.join();
    ensure!(unpacked.status.success(), "{program} cannot unpack the kernel");
    let expected = u32::from_le_bytes(*length) as usize;
    ensure!(unpacked.stdout.len() == expected, "the kernel has another length when unpacked");
    ensure!(unpacked.stdout.starts_with(b"\x7fELF"), "the unpacked kernel is no ELF file");
    Ok(unpacked.stdout)
}

/// The first process, static and stripped.
fn init(repo: &Repo) -> anyhow::Result<Vec<u8>> {
    let target = repo.target.join("guest-init");
    let mut cargo = reproducible_cargo(&repo.root, "/vyr")?;
    cargo
        .args(["build", "--locked", "-p", "vyr-init", "--profile", "guest", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "vyr-init does not build (rustup target add {TARGET}?)");
    Ok(fs::read(target.join(TARGET).join("guest").join("vyr-init"))?)
}

fn initramfs(tree: &Path, init: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Cpio::default();
    for directory in ["dev", "proc", "sys", "modules"] {
        archive.entry(directory, 0o040_755, (0, 0), b"");
    }
    // The console, for what the first process says before there is a /dev.
    archive.entry("dev/console", 0o020_600, (5, 1), b"");
    archive.entry("init", 0o100_755, (0, 0), init);
    let mut files = Vec::new();
    for modules in ["lib/modules", "usr/lib/modules"] {
        walk(&tree.join(modules), &mut files);
    }
    for (place, module) in MODULES.iter().enumerate() {
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = files.iter().find(|path| {
            name(path).split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == *module)
        });
        let file = file.with_context(|| format!("the package holds no module {module}"))?;
        let end = name(file).split_once(".ko").map_or_else(String::new, |(_, end)| end.to_owned());
        let to = format!("modules/{place}-{module}.ko{end}");
        archive.entry(&to, 0o100_644, (0, 0), &fs::read(file)?);
    }
    Ok(archive.end())
}

/// All files below a directory; links are not followed.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

/// An archive of the form `newc` (the kernel's documentation, initramfs), owned by root and without
/// a time.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(data.len()).expect("less than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a short name");
        self.bytes.extend(b"070701");
        // inode, mode, uid, gid, links, mtime, size, device, special device, name size, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let result = command.env("LC_ALL", "C").output();
    let result = result.with_context(|| format!("{name} is not installed"))?;
    if !result.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&result.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written() {
        let pin = Pin {
            package: "linux-image-6.12.1-cloud-amd64".into(),
            version: "6.12.1-1~x".into(),
            sha256: "0".repeat(64),
        };
        assert_eq!(Pin::parse(&pin.text()).expect("our own"), pin);
        assert_eq!(pin.release().expect("a kernel"), "6.12.1-cloud-amd64");
        for wrong in ["", "package a\nversion b\nsha256 c\n"] {
            assert!(Pin::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        for wrong in [&b""[..], &[0; 600]] {
            assert!(extract(wrong).is_err());
        }
    }
}
