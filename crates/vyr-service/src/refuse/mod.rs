//! What people try and Vyr does not do: why not, and what to do instead.
//!
//! ```text
//! a key of a manifest    key("dockerfile")            one row of a table (`keys`)
//! a file in its place    look(name, first bytes)      by content first, by name where that decides
//! ```
//!
//! Invariants:
//! 1. Every refusal says why and what to do instead; it is exit code 2.
//! 2. A manifest is never taken for something else, and looking reads a bounded part of a file.

mod files;
mod keys;

use vyr_base::{Category, Problem};

pub use files::{LOOK_BYTES, look};
pub use keys::{AUTOSCALE_WHY, KEYS, key};

/// Something that is not deployed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {kind}, and that is not deployed: {why}")]
pub struct Refusal {
    /// As it was named, cut to 120 characters.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Why it is not deployed.
    pub why: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

impl Refusal {
    /// What it is, in one line.
    pub fn what(&self) -> String {
        format!("{} is {}", self.name, self.kind)
    }
}

impl Problem for Refusal {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(self.instead.into())
    }
}

/// What a file is that is no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `compose.yaml`: several services as one unit.
    Compose,
    /// `Chart.yaml`, `values.yaml`, templates.
    Helm,
    /// A Kubernetes object.
    Kubernetes,
    /// A Dockerfile or Containerfile.
    Dockerfile,
    /// A directory of sources.
    BuildContext,
    /// A zip archive: also jar, war.
    Zip,
    /// A tar archive, compressed or not.
    Tar,
    /// A Procfile.
    Procfile,
    /// A Nomad job.
    Nomad,
    /// A systemd unit.
    SystemdUnit,
    /// A Terraform file.
    Terraform,
    /// `fly.toml`.
    FlyApp,
    /// A WebAssembly module.
    Wasm,
    /// A program.
    Program,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 14] = [
        Self::Compose,
        Self::Helm,
        Self::Kubernetes,
        Self::Dockerfile,
        Self::BuildContext,
        Self::Zip,
        Self::Tar,
        Self::Procfile,
        Self::Nomad,
        Self::SystemdUnit,
        Self::Terraform,
        Self::FlyApp,
        Self::Wasm,
        Self::Program,
    ];

    /// What it is, in a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Compose => "a Compose file",
            Self::Helm => "a part of a Helm chart",
            Self::Kubernetes => "a Kubernetes manifest",
            Self::Dockerfile => "a Dockerfile",
            Self::BuildContext => "a build context",
            Self::Zip => "a zip archive",
            Self::Tar => "a tar or compressed archive",
            Self::Procfile => "a Procfile",
            Self::Nomad => "a Nomad job",
            Self::SystemdUnit => "a systemd unit",
            Self::Terraform => "a Terraform file",
            Self::FlyApp => "an app of another platform",
            Self::Wasm => "a WebAssembly module",
            Self::Program => "a program",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}
