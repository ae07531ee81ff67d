//! The store from outside, through its public interface only.
//!
//! Some tests run this program again as a child, to kill it or to have fifty of it: the tests
//! named `child` do nothing unless a variable in the environment tells them what.

mod collect;
mod common;
mod concurrent;
mod crash;
mod damage;
mod disk_full;
mod fuzz;
mod hostile;
mod outputs;
mod puts;
mod skopeo;
