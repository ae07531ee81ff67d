//! What a plan becomes, byte by byte: `tests/golden/office` is what the machines of the worked site
//! are given, `tests/golden/clients` what two of its devices are. When it changes on purpose, the
//! failing test prints the new text.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod server;
