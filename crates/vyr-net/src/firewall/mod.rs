//! Our table of nftables: its normal form, both of two at once, what it lets
//! begin, and the program that loads it.

mod begin;
mod nft;
mod ruleset;

pub use nft::Nft;
pub use ruleset::{Ruleset, RulesetError, union};
