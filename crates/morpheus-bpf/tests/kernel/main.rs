//! The programs in this kernel: who is hinted, when, and who is not.

mod bell;
mod hints;
mod lives;
mod maps;
mod neighbours;
mod place;
mod privilege;
mod protocol;
mod readme;
mod takeover;
mod wire;
