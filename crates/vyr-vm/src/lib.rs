//! From an OCI image to a running microVM.
//!
//! ```text
//!  registry or layout -> image: merged in memory -> root disk (squashfs)
//!  root disk + platform (kernel, initramfs) -> vmm: a machine -> channel: what it does
//! ```
//!
//! `image` makes disks of images; `vmm` starts, adopts, stops and kills machines; `channel` is the host's
//! end of the words in `vyr-channel`. None knows services: who runs what, and where, is decided
//! elsewhere.

pub mod channel;
pub mod image;
pub mod vmm;
