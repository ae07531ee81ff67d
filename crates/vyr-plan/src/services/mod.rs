//! The second plan of a site: its services.
//!
//! ```text
//! services/*.toml  nodes of site.toml  vyr.lock  secrets/*.age (digests)  the plan before
//!          \              |               |          |                   /
//!                     compile_services -> ServicesPlan     canonical JSON, named by its digest
//!                                           |      |   \
//!                              prove_services   diff    explain
//! ```
//!
//! It has its own parent, epoch, threshold and approvals, and names the network plan that it needs.
//!
//! Deliberately elsewhere: what a manifest says and where a slot goes (`vyr-service`), instances and
//! their addresses (a node).

mod allocate;
mod compile;
mod diff;
mod explain;
mod ledger;
mod plan;
mod prove;
mod rollback;
mod undo;

pub use allocate::{ReleaseError, Update, allocate_services, stale, unpinned};
pub use compile::{compile_services, service_prefix};
pub use diff::diff_services;
pub use explain::explain_services;
pub use plan::{
    IngressRoute, Listener, Mode, NODES_MAX, Placed, PublicAddress, SERVICES_BYTES_MAX,
    SERVICES_MAX, SERVICES_VERSION, SLOTS_MAX, ServiceEntry, ServiceNode, ServicesPlan,
};
pub use prove::{SERVICES_INVARIANTS, ServicesInvariant, prove_services, services_invariant};
pub use rollback::{BroughtBack, RollbackError, bring_back, former};
pub use undo::{Undo, undo};

pub(crate) use ledger::Ledger;
