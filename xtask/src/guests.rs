//! The committed Wasm guests: built from `workloads/`, pinned in `workloads/digests.txt`.
//!
//! ```text
//! cargo metadata -> remapped paths -> cargo build, two targets -> workloads/bin -> digests.txt
//! ```
//!
//! Invariant: a guest's bytes depend on the sources, the lock file and the pinned toolchain,
//! never on where the repository, Cargo's home or the target directory is. Panic messages hold
//! source paths, so every directory that sources come from gets a name of its own in them, and
//! what the environment says about flags and profiles is left out.
//!
//! Not here: what the guests do (`workloads/README.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

const GUESTS: &[&str] = &["hello", "nop", "probe", "states", "transform"];

/// Targets, and what a file is called that was built for one.
const TARGETS: &[(&str, &str)] = &[("wasm32-wasip1", "wasip1"), ("wasm32-wasip2", "wasip2")];

/// Variables through which a machine would have its say in the bytes.
const FOREIGN_VARIABLES: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_ENCODED_",
    "CARGO_INCREMENTAL",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "RUSTC",
    "RUSTFLAGS",
];

/// Builds every guest for every target. With `check` compares them with the committed digests
/// and writes nothing to the repository, else commits them to `workloads/bin`.
///
/// # Errors
/// A build that fails; with `check` also files that differ from their pins, all of them named.
/// A target that is not installed is an error of a build and `not run` of a check.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let workloads = Workloads::find()?;
    if check {
        workloads.verify_pins()?;
    }
    if let Some(target) = workloads.missing_target()? {
        let reason = format!("target {target} is not installed (rustup target add {target})");
        if check {
            println!("not run: {reason}");
            return Ok(());
        }
        bail!("not run: {reason}");
    }
    let built = workloads.build()?;
    if check { workloads.compare(&built) } else { workloads.write(&built) }
}

/// Checks that the committed guests are the ones that `workloads/digests.txt` names.
///
/// # Errors
/// Every file that is missing, not listed, or of another digest.
pub(crate) fn verify_pins() -> anyhow::Result<()> {
    Workloads::find()?.verify_pins()
}

/// A `cargo` in `dir` whose products do not depend on where anything is: without the variables of
/// the machine, and with a name of its own for each directory that sources come from.
///
/// # Errors
/// The toolchain does not answer.
pub(crate) fn reproducible_cargo(dir: &Path, name: &str) -> anyhow::Result<Command> {
    let workspace = Workloads { dir: dir.to_owned() };
    let mut command = workspace.command(&cargo());
    command.env("CARGO_ENCODED_RUSTFLAGS", workspace.flags(name)?.join("\u{1f}"));
    Ok(command)
}

/// Digests by file name.
type Pins = BTreeMap<String, String>;

/// The directory `workloads/` of the repository around the current directory.
struct Workloads {
    dir: PathBuf,
}

impl Workloads {
    fn find() -> anyhow::Result<Self> {
        let here = std::env::current_dir().context("cannot tell the current directory")?;
        let dir = here.ancestors().map(|dir| dir.join("workloads"));
        let dir = dir.into_iter().find(|dir| dir.join("Cargo.toml").is_file());
        Ok(Self { dir: dir.context("no workloads/Cargo.toml here or in a directory above")? })
    }

    fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    fn digests(&self) -> PathBuf {
        self.dir.join("digests.txt")
    }

    fn missing_target(&self) -> anyhow::Result<Option<&'static str>> {
        for (target, _) in TARGETS {
            let libdir = output(self.command("rustc").args([
                "--print",
                "target-libdir",
                "--target",
                target,
            ]))?;
            if !Path::new(libdir.trim()).is_dir() {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    /// Builds into a target directory of its own, and returns each guest's name and bytes.
    fn build(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let target_dir = self.dir.join("target").join("guests");
        let mut command = self.command(&cargo());
        command.args(["build", "--release", "--locked", "--target-dir"]).arg(&target_dir);
        for (target, _) in TARGETS {
            command.args(["--target", target]);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", self.flags("/vyr/workloads")?.join("\u{1f}"));
        let status = command.status().context("cannot start cargo")?;
        if !status.success() {
            bail!("the guests do not build");
        }
        let mut built = BTreeMap::new();
        for guest in GUESTS {
            for (target, short) in TARGETS {
                let path = target_dir.join(target).join("release").join(format!("{guest}.wasm"));
                built.insert(format!("{guest}.{short}.wasm"), read(&path)?);
            }
        }
        Ok(built)
    }

    /// One flag for every directory that a source file comes from. Later flags win, so the
    /// packages come after the workspace they may lie in.
    fn flags(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let mut metadata = self.command(&cargo());
        metadata.args(["metadata", "--locked", "--format-version", "1"]);
        let metadata: Value = serde_json::from_str(&output(&mut metadata)?)
            .context("`cargo metadata` wrote no JSON")?;
        let root = metadata["workspace_root"].as_str().context("no workspace_root")?;
        let mut flags = vec![remap(root, name)];
        let sysroot = output(self.command("rustc").args(["--print", "sysroot"]))?;
        // With the rust-src component, paths of std may be those of the machine.
        let source = format!("{}/lib/rustlib/src/rust", sysroot.trim());
        flags.push(remap(&source, &format!("/rustc/{}", self.commit()?)));
        for package in metadata["packages"].as_array().into_iter().flatten() {
            if package["source"].is_null() {
                continue;
            }
            let text = |key: &str| package[key].as_str().with_context(|| format!("no {key}"));
            let (name, version) = (text("name")?, text("version")?);
            let manifest = Path::new(text("manifest_path")?);
            let dir = manifest.parent().and_then(Path::to_str).context("no package directory")?;
            flags.push(remap(dir, &format!("/crates/{name}-{version}")));
        }
        Ok(flags)
    }

    fn commit(&self) -> anyhow::Result<String> {
        let version = output(self.command("rustc").arg("-vV"))?;
        let hash = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
        Ok(hash.context("`rustc -vV` names no commit")?.to_owned())
    }

    /// A command in `workloads/`, where the repository's toolchain holds, without the variables
    /// of the machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir);
        for (name, _) in std::env::vars_os() {
            let foreign = name.to_str().is_some_and(|name| {
                FOREIGN_VARIABLES.iter().any(|prefix| name.starts_with(prefix))
            });
            if foreign {
                command.env_remove(name);
            }
        }
        command
    }

    fn compare(&self, built: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
        let pins = parse(&text(&self.digests())?)?;
        let mut faults = Vec::new();
        for (name, bytes) in built {
            let digest = digest(bytes);
            match pins.get(name) {
                Some(pin) if *pin == digest => {}
                Some(pin) => faults.push(format!("{name} is {digest}, pinned is {pin}")),
                None => faults.push(format!("{name} is {digest}, not pinned")),
            }
        }
        if !faults.is_empty() {
            let version = output(self.command("rustc").arg("--version"))?;
            faults.push(format!("built by {}; `cargo xtask guests` commits them", version.trim()));
            bail!("rebuilt guests differ\n  {}", faults.join("\n  "));
        }
        println!("{} rebuilt guests are the pinned ones", built.len());
        Ok(())
    }

    fn write(&self, built: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
        let bin = self.bin();
        std::fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        let mut list = String::new();
        for (name, bytes) in built {
            let path = bin.join(name);
            std::fs::write(&path, bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
            let digest = digest(bytes);
            list += &format!("{digest}  {name}\n");
            println!("{digest}  {name}  {} bytes", bytes.len());
        }
        let path = self.digests();
        std::fs::write(&path, list).with_context(|| format!("cannot write {}", path.display()))?;
        self.verify_pins()
    }

    fn verify_pins(&self) -> anyhow::Result<()> {
        let pins = parse(&text(&self.digests())?)?;
        let bin = self.bin();
        let mut faults = Vec::new();
        for (name, pin) in &pins {
            match std::fs::read(bin.join(name)) {
                Ok(bytes) if digest(&bytes) == *pin => {}
                Ok(bytes) => faults.push(format!("{name} is {}, pinned is {pin}", digest(&bytes))),
                Err(error) => faults.push(format!("{name} cannot be read: {error}")),
            }
        }
        let expected: BTreeSet<String> = GUESTS
            .iter()
            .flat_map(|guest| TARGETS.iter().map(move |(_, short)| format!("{guest}.{short}.wasm")))
            .collect();
        let held = names_in(&bin)?;
        for name in expected.union(&held).filter(|name| !pins.contains_key(*name)) {
            faults.push(format!("{name} is not in digests.txt"));
        }
        if !faults.is_empty() {
            bail!("workloads/bin is not what digests.txt says\n  {}", faults.join("\n  "));
        }
        Ok(())
    }
}

/// Reads `sha256:<64 hex>  <file>` lines.
fn parse(text: &str) -> anyhow::Result<Pins> {
    let mut pins = Pins::new();
    for line in text.lines() {
        let pin = line.split_once("  ").filter(|(digest, name)| {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            hex.len() == 64 && hex.bytes().all(lower) && !name.is_empty() && !name.contains('/')
        });
        let (digest, name) = pin.with_context(|| format!("digests.txt: no pin: `{line}`"))?;
        if pins.insert(name.to_owned(), digest.to_owned()).is_some() {
            bail!("digests.txt: {name} is pinned twice");
        }
    }
    Ok(pins)
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn remap(from: &str, to: &str) -> String {
    format!("--remap-path-prefix={from}={to}")
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = format!("{:?}", command.get_program());
    let result = command.output().with_context(|| format!("cannot start {name}"))?;
    if !result.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&result.stderr).trim());
    }
    String::from_utf8(result.stdout).with_context(|| format!("{name} wrote bytes that are no text"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("{} is not text", path.display()))
}

fn names_in(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_and_wrong_lines_named() {
        let hex = "0".repeat(64);
        let line = format!("sha256:{hex}  a.wasm\n");
        assert_eq!(parse(&line).expect("a pin")["a.wasm"], format!("sha256:{hex}"));
        for wrong in [
            format!("sha256:{hex} a.wasm"),
            format!("{hex}  a.wasm"),
            format!("sha256:{}  a.wasm", "A".repeat(64)),
            format!("sha256:{hex}  ../a.wasm"),
            format!("sha256:{hex}  "),
            format!("{line}{line}"),
            "\n".to_owned(),
        ] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_difference_between_bin_and_pins_is_named() {
        let dir = std::env::temp_dir().join(format!("vyr-guests-{}", std::process::id()));
        let workloads = Workloads { dir: dir.clone() };
        let built = GUESTS.iter().flat_map(|guest| {
            TARGETS.iter().map(move |(_, short)| format!("{guest}.{short}.wasm"))
        });
        let built = built.map(|name| (name.clone(), name.into_bytes())).collect();
        workloads.write(&built).expect("written guests are the pinned ones");
        workloads.compare(&built).expect("the same bytes");

        std::fs::write(dir.join("bin/nop.wasip1.wasm"), "other").expect("written");
        std::fs::write(dir.join("bin/stray.wasm"), "").expect("written");
        std::fs::remove_file(dir.join("bin/hello.wasip2.wasm")).expect("removed");
        let faults = workloads.verify_pins().expect_err("three faults").to_string();
        for name in ["nop.wasip1.wasm is sha256:", "stray.wasm is not", "hello.wasip2.wasm cannot"]
        {
            assert!(faults.contains(name), "{faults}");
        }
        assert_eq!(faults.lines().count(), 4, "{faults}");

        let mut other = built.clone();
        other.insert("probe.wasip1.wasm".to_owned(), Vec::new());
        let faults = workloads.compare(&other).expect_err("one differs").to_string();
        assert!(faults.contains("probe.wasip1.wasm is sha256:"), "{faults}");
        assert!(!faults.contains("transform"), "{faults}");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
