//! What every driver of a VMM does, shown with a guest of a few instructions: with QEMU's `microvm`
//! by emulation, and with Firecracker, if it is installed or named by `VYR_FIRECRACKER`.
//!
//! What takes a Linux guest and its channel is elsewhere (`tests/machine`).

mod firecracker;
mod guest;
mod kit;
mod qemu;
mod suite;
