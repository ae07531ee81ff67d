//! Files that people write: strict TOML, where every fault is told with its place.
//!
//! ```text
//! type with a JSON Schema ---> Shape, once          the same schema that editors get
//!                                |
//! Source ---> tables ---> walk beside the shape ---> value of the type, and every fault
//! ```
//!
//! Invariants, held by the tests of the crates that read files with it (`vyr-plan`, `vyr-service`):
//! 1. One fault hides no other: what cannot be read is replaced by a stand-in that nobody wrote.
//! 2. A fault has a place in the text, and says what to write where that can be known.
//!
//! Deliberately elsewhere: what names in a file mean (the crates of the files).

mod at;
mod read;
mod shape;
mod stand_in;
mod text;
mod twice;
mod walk;

pub use at::At;
pub use read::{FILE_BYTES_MAX, Found, Reader, Unknown, conflict_markers, schema};
pub use text::{NAME_CHARS_MAX, Name, Text, TextError, TextForm, look_alike};
