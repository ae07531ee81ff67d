//! Images, from real tools, a real registry and hostile ones.

mod compare;
mod disk;
mod maker;
mod place;
