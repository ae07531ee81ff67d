//! The programs in this kernel: who is hinted, when, and who is not.

mod hints;
mod place;
