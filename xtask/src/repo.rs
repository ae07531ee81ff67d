//! The repository as the checks see it: a root, a target directory, the files and the crates.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// The repository the command was started in.
pub(crate) struct Repo {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where Cargo builds; everything that the chores write for themselves goes below it.
    pub(crate) target: PathBuf,
    /// `cargo metadata --no-deps`: the workspace's own crates and what they ask for.
    pub(crate) metadata: Value,
}

/// One file whose bytes are text.
pub(crate) struct TextFile {
    /// The path below the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Repo {
    /// Finds the workspace around the current directory.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let json =
            output(Command::new(cargo()).args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let metadata: Value =
            serde_json::from_str(&json).context("`cargo metadata` wrote no JSON")?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("no {key}"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// Every file that is tracked, or would be by `git add --all`; sorted, relative to the root.
    pub(crate) fn paths(&self) -> anyhow::Result<Vec<String>> {
        let list = output(Command::new("git").current_dir(&self.root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))
        .context("cannot list the repository's files")?;
        let mut paths: Vec<String> = list
            .split('\0')
            .filter(|path| !path.is_empty() && self.root.join(path).is_file())
            .map(str::to_owned)
            .collect();
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// Those of the repository's files that are UTF-8 without a zero byte.
    pub(crate) fn texts(&self) -> anyhow::Result<Vec<TextFile>> {
        let mut texts = Vec::new();
        for path in self.paths()? {
            let bytes = std::fs::read(self.root.join(&path))
                .with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes)
                && !text.contains('\0')
            {
                texts.push(TextFile { path, text });
            }
        }
        Ok(texts)
    }

    /// The text of a file that must be there.
    pub(crate) fn read(&self, path: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    /// A directory for this tool's own files, below the target directory; made if it is absent.
    pub(crate) fn scratch(&self) -> anyhow::Result<PathBuf> {
        let dir = self.target.join("xtask");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// The directory of each workspace crate, relative to the root.
    pub(crate) fn crate_dirs(&self) -> Vec<(String, String)> {
        packages(&self.metadata)
            .iter()
            .filter_map(|package| {
                let manifest = Path::new(package["manifest_path"].as_str()?);
                let dir = manifest.parent()?.strip_prefix(&self.root).ok()?;
                Some((package["name"].as_str()?.to_owned(), dir.to_str()?.to_owned()))
            })
            .collect()
    }
}

/// The `packages` array of a metadata document; empty if there is none.
pub(crate) fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().map_or(&[], Vec::as_slice)
}

/// The Cargo that started us, so that a `+toolchain` given by hand holds for what we start.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Runs a command to its end and returns what it wrote on stdout.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = format!("{command:?}");
    let result = command.output().with_context(|| format!("cannot start {name}"))?;
    if !result.status.success() {
        let stderr = String::from_utf8_lossy(&result.stderr);
        bail!("{name} failed: {}", stderr.trim());
    }
    String::from_utf8(result.stdout).with_context(|| format!("{name} wrote bytes that are no text"))
}
