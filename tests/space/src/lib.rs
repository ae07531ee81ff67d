//! Places for tests of networks and machines. Only tests import this.
//!
//! ```text
//! Namespace   a network of its own, kept by a process that ends when the test does
//! Plane       wireguard-go, which carries a link inside
//! Site        the text of a site with one server
//! Guests      a platform and a root disk for virtual machines, made once in a run
//! SmallDisk   a file system that is soon full
//! not_run     what a test says that cannot run here
//! ```
//!
//! Nothing is sent on a real interface, and nothing outlives the test, however that ends. What goes
//! wrong here is a fault of the test or of the machine, and panics with what was said.

mod disk;
mod guests;
mod here;
mod namespace;
mod plane;
mod site;

pub use disk::SmallDisk;
pub use guests::{Guests, RUN, once, run};
pub use here::{is_able, is_installed, not_run};
pub use namespace::Namespace;
pub use plane::{Plane, can_carry};
pub use site::Site;
