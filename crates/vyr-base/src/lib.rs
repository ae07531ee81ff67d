//! The words every other crate shares: digests, canonical JSON, units, exit categories, and how
//! files that people write are read.
//!
//! Pure: values in, values out. No clock, file, socket, environment or randomness
//! (`clippy.toml` beside this crate bans them).
//!
//! Deliberately elsewhere: who may sign (`vyr-artifact`), where bytes live (`vyr-store`).

pub mod canonical;
mod category;
mod diagnostic;
mod digest;
pub mod form;
pub mod hostname;
pub mod object;
mod units;

pub use category::{Category, Problem};
pub use diagnostic::{Diagnostic, Place, Severity, Source};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use units::{ParseUnitError, format_bytes, parse_bytes, parse_duration_ms};
