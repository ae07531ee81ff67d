//! `vyr image`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vyr_base::Digest;
use vyr_vm::image::Reference;

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    Pull(ImagePullArgs),
    Resolve(ImageResolveArgs),
    /// Show an image that is here: its layers, what it runs, its root disk
    Show {
        /// The image, as it was pulled
        digest: Digest,
    },
    Build(ImageBuildArgs),
}

/// Take in an image by its digest, from a registry or an OCI layout
///
/// Every blob is checked against its digest while it arrives. A pull that was ended goes on where
/// it was. Nothing runs by it; to undo it, remove the blobs.
#[derive(Debug, Args)]
pub(crate) struct ImagePullArgs {
    /// REGISTRY/REPOSITORY@sha256:.., or with --layout a digest if the layout has several images
    #[arg(value_name = "REF@sha256:..", required_unless_present = "layout")]
    pub(crate) image: Option<String>,

    /// Read from the directory of an OCI layout instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["auth_file", "plain_http"])]
    pub(crate) layout: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) access: RegistryAccess,
}

/// Print the digest that a tag means now
#[derive(Debug, Args)]
pub(crate) struct ImageResolveArgs {
    /// The image's name with its tag
    #[arg(value_name = "REF:TAG")]
    pub(crate) reference: Reference,

    #[command(flatten)]
    pub(crate) access: RegistryAccess,
}

/// How a registry is asked.
#[derive(Debug, Args)]
pub(crate) struct RegistryAccess {
    /// Credentials, in the form that skopeo login writes
    #[arg(long, value_name = "FILE")]
    pub(crate) auth_file: Option<PathBuf>,

    /// Ask without TLS; credentials are then sent to this machine only
    #[arg(long)]
    pub(crate) plain_http: bool,
}

/// Make the read-only root disk of an image that was pulled
///
/// The same image gives the same bytes with the same tar2sqfs. A disk that is there is kept.
#[derive(Debug, Args)]
pub(crate) struct ImageBuildArgs {
    /// The image, as it was pulled
    pub(crate) digest: Digest,

    /// Build it although it is there
    #[arg(long)]
    pub(crate) again: bool,
}
