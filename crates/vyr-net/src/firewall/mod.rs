//! Our table of nftables: its normal form, both of two at once, and the program that loads it.

mod nft;
mod ruleset;

pub use nft::Nft;
pub use ruleset::{Ruleset, RulesetError, union};
