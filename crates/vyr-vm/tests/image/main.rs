//! Images, from real tools, a real registry and hostile ones.

mod compare;
mod disk;
mod hostile;
mod lying;
mod maker;
mod merge;
mod names;
mod place;
mod plain;
mod refused;
