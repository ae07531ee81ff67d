//! What a network plan costs, by the number of clients.

pub mod site;
