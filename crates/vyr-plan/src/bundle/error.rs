//! Why bytes are no bundle.

use vyr_artifact::ParseSignatureError;
use vyr_base::canonical::CanonicalError;
use vyr_base::{Category, Problem};

/// Why bytes are no bundle, or not one that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It begins with something else.
    #[error("it is not a recovery bundle")]
    NotABundle,
    /// Of another form.
    #[error("it is a bundle of version {0}; this vyr reads {version}", version = super::BUNDLE_VERSION)]
    Version(String),
    /// A part has no end within its bound.
    #[error("the bundle's {part} has over {most} bytes, or is cut off")]
    Length {
        /// Which part.
        part: &'static str,
        /// Its bound, in bytes.
        most: u64,
    },
    /// The header, or a list inside.
    #[error("the bundle's {part} cannot be read")]
    Form {
        /// Which part.
        part: &'static str,
        /// Why.
        source: CanonicalError,
    },
    /// Readable, and not what any vyr writes.
    #[error("the bundle's {part} is not possible: {why}")]
    Impossible {
        /// Which part.
        part: &'static str,
        /// Why.
        why: String,
    },
    /// There is no signature where one must be.
    #[error("the bundle is not signed")]
    Unsigned,
    /// The signature cannot be read.
    #[error("the bundle's signature cannot be read")]
    Signature(#[source] ParseSignatureError),
    /// A part is not what its digest says.
    #[error("the bundle was altered or cut off: its {0} is another one than was signed")]
    Altered(String),
}

impl Problem for BundleError {
    fn category(&self) -> Category {
        match self {
            Self::Unsigned | Self::Signature(_) | Self::Altered(_) => Category::Auth,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Version(_) => "use the vyr that wrote it, or a newer one".into(),
            Self::Unsigned => "vyr bundle signs what it writes: take that file".into(),
            _ => "take another copy of it; each must have the same digest".into(),
        })
    }
}
