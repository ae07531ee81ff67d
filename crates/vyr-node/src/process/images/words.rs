//! What `api` and `images` say to each other. Two processes of one binary, so there is no version.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vyr_base::{Category, Digest, Problem};
use vyr_vm::image::{BuildError, PullError, Reason};
use zeroize::Zeroizing;

/// Characters of a text about a failure: registries and layers have a say in it.
const TEXT_CHARS_MAX: usize = 4096;

/// Why an instance has no root disk, as its reason names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageReason {
    /// It could not be had from its registry.
    ImagePullFailed,
    /// It did not arrive in time.
    ImagePullTimeout,
    /// It is larger than an image may be.
    ImageTooLarge,
    /// A layer is damaged, hostile or of a kind that is not taken.
    ImageLayerInvalid,
    /// Its layers did not become a root disk.
    RootfsBuildFailed,
}

impl ImageReason {
    /// The reason's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ImagePullFailed => "image_pull_failed",
            Self::ImagePullTimeout => "image_pull_timeout",
            Self::ImageTooLarge => "image_too_large",
            Self::ImageLayerInvalid => "image_layer_invalid",
            Self::RootfsBuildFailed => "rootfs_build_failed",
        }
    }

    fn of(reason: Reason) -> Self {
        match reason {
            Reason::ImageTooLarge => Self::ImageTooLarge,
            Reason::ImagePullTimeout => Self::ImagePullTimeout,
            Reason::ImageLayerInvalid => Self::ImageLayerInvalid,
        }
    }
}

impl std::fmt::Display for ImageReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// Why an image has no root disk here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{reason}: {message}")]
pub struct ImageError {
    /// The instance's reason.
    pub reason: ImageReason,
    /// What happened, down to what the system or the registry said.
    pub message: String,
    /// What kind of failure: transient ones may be tried again.
    pub category: Category,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Problem for ImageError {
    fn category(&self) -> Category {
        self.category
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl ImageError {
    pub(super) fn new(reason: ImageReason, problem: &dyn Problem) -> Self {
        let mut message = problem.to_string();
        let mut next = problem.source();
        while let Some(cause) = next {
            message = format!("{message}: {cause}");
            next = cause.source();
        }
        // The reason is said before it.
        let message = message.strip_prefix(&format!("{reason}: ")).unwrap_or(&message);
        let message = message.chars().take(TEXT_CHARS_MAX).collect();
        Self { reason, message, category: problem.category(), hint: problem.hint() }
    }

    pub(super) fn pull(error: &PullError) -> Self {
        let reason = error.reason().map_or(ImageReason::ImagePullFailed, ImageReason::of);
        Self::new(reason, error)
    }

    pub(super) fn build(error: &BuildError) -> Self {
        let reason = error.reason().map_or(ImageReason::RootfsBuildFailed, ImageReason::of);
        Self::new(reason, error)
    }
}

/// A text that leaves no copy in memory where it is read.
#[derive(Clone)]
pub(super) struct Secret(pub(super) Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Zeroizing::new(text)))
    }
}

/// To `images`: make the root disk of an image be there.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// Its number, in what is said about it.
    pub(super) id: u64,
    /// Registry and repository, with this digest.
    pub(super) reference: String,
    /// Whether the registry is asked without TLS.
    pub(super) plain_http: bool,
    /// Who asks it.
    pub(super) credentials: Option<Secret>,
    /// Whether it is asked although the image is here.
    pub(super) ask: bool,
}

/// From `images`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Said {
    /// About which order.
    pub(super) id: u64,
    /// What.
    pub(super) what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum What {
    /// How far it is.
    Progress(FetchProgress),
    /// The disk is there, and its record.
    Done,
    /// It is not.
    Failed(Box<ImageError>),
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchProgress {
    /// So many bytes of so many are here, those of before among them.
    Pulling {
        /// Here.
        bytes: u64,
        /// In all.
        total_bytes: u64,
    },
    /// Everything is here; the disk is being made.
    Building,
}

/// What is fetched, and how.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Registry and repository.
    pub reference: vyr_vm::image::Reference,
    /// The image's digest: what `reference` names is replaced by it.
    pub digest: Digest,
    /// Whether the registry is asked without TLS; it is never fallen back to.
    pub plain_http: bool,
    /// Who asks it.
    pub credentials: Option<vyr_vm::image::Credentials>,
    /// Whether the registry has to know the image although it is here.
    pub ask: bool,
}
