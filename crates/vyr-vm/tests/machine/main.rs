//! Real machines: QEMU's `microvm` with emulation, the platform's kernel, our first process, and a
//! root disk made here.

mod adopt;
mod exec;
mod host;
mod life;
mod place;
mod secret;
mod seed;
