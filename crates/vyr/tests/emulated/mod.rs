//! A machine that is emulated: what it boots, the emulator, and the first steps of its process 1.
//!
//! ```text
//!  kernel.rs    a kernel as Debian ships it, downloaded once, unpacked, not installed
//!  archive.rs   the initramfs: programs of the host with their libraries, modules, files
//!  emulator.rs  qemu, which emulates each instruction (TCG): no hardware is asked for
//!  inside.rs    what the test's own program does first when it is process 1
//! ```
//!
//! Two tests use it: the one whose power goes off (`power`) and the one that is a router (`machine`).
//! What a machine is for is theirs; so are its disks, its networks and what is said over its port.

pub(crate) mod archive;
pub(crate) mod emulator;
pub(crate) mod inside;
pub(crate) mod kernel;
