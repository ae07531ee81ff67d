//! Why export cannot begin. Once it has begun, nothing about a collector is an error: it costs
//! spans, which are counted.

use vyr_base::{Category, Problem};

/// Why export cannot begin. Names the setting, never the value of one that may hold a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// A setting that cannot be read.
    #[error("{name} {why}")]
    Setting {
        /// The environment variable.
        name: String,
        /// What is wrong with it.
        why: String,
        /// What it may be.
        hint: &'static str,
    },
    /// Certificates that cannot be read, or a bundle without any.
    #[error("{name}: no certificate authorities in {path}")]
    Certificates {
        /// The setting, or what stands for it.
        name: String,
        /// The file.
        path: String,
        /// What the system or the parser said.
        source: std::io::Error,
    },
    /// The exporter's thread or its runtime.
    #[error("cannot start the exporter's thread")]
    Thread(#[source] std::io::Error),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Problem for OtlpError {
    fn category(&self) -> Category {
        match self {
            Self::Setting { .. } | Self::Certificates { .. } => Category::Usage,
            Self::Thread(_) => Category::Failure,
            Self::Stopping => Category::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Setting { hint, .. } => Some((*hint).to_owned()),
            Self::Certificates { .. } => {
                Some("name a PEM file in OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned())
            }
            Self::Thread(_) | Self::Stopping => None,
        }
    }
}
