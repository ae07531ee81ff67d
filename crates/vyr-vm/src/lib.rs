//! From an OCI image to a running microVM.
//!
//! ```text
//!  root disk (squashfs) + platform (kernel, initramfs) -> vmm: a machine -> channel: what it does
//! ```
//!
//! `vmm` starts, adopts, stops and kills machines; `channel` is the host's end of the words in
//! `vyr-channel`. Neither knows services: who runs what, and where, is decided elsewhere.

pub mod channel;
pub mod vmm;
