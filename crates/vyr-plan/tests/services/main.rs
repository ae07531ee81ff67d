//! The second plan of a site: compiled, proved, locked, approved, and read from hostile bytes.

mod approve;
mod bytes;
mod compile;
mod invariants;
mod lock;
mod rollback;
mod scale;
mod shop;
mod tell;
