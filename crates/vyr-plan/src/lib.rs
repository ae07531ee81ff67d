//! Intent in, one proven, deterministic plan out.
//!
//! ```text
//! site.toml  clients.toml  contracts/  vyr.lock          (texts)
//!      \         |           |           |
//!       Files::read -> Intent        Lock::parse         every fault, with its place
//!                  \       |          /
//!                    compile -> Plan                     canonical JSON, named by its digest
//!                         |       |        \
//!                       prove  contract    diff, explain, graph, render
//! ```
//!
//! Invariants, each held by a test:
//! 1. One digest for one intent: in any order, form, place, time zone or account.
//! 2. AllowedIPs, addresses, routes and rules are derived in `compile` and nowhere else.
//! 3. The prover reads the plan alone, not how it was made: a compiler's fault is found.
//! 4. Every refusal names a place in a file, or shows a packet and the rule that decides.
//!
//! Pure: texts in, values out. No clock, file, socket, environment or randomness.
//!
//! Deliberately elsewhere: reading and writing files (`vyr`), touching a kernel (`vyr-net`).

mod address;
mod approve;
pub mod bundle;
mod compile;
mod contract;
mod diff;
mod explain;
mod graph;
pub mod intent;
mod lock;
pub mod plan;
mod prove;
mod reach;
pub mod render;
pub mod services;
mod space;
mod spof;

pub use address::{interface_id, internet, private, with_interface_id};
pub use approve::{
    APPROVAL_BYTES_MAX, APPROVALS_MAX, Approval, ApprovalError, Approved, Approver, Root, Signed,
    approve,
};
pub use compile::{CLIENT_MTU_MAX, INTERNET, KEEPALIVE_S, OVERHEAD, compile, end_links};
pub use contract::{Broken, Outcome, run as run_contracts};
pub use diff::{Change, Diff, Flow, ReachChange, diff, name_some};
pub use explain::{Explanation, Reason, explain, explain_packets};
pub use graph::{Cell, Matrix, Row, matrix, svg};
pub use intent::{Files, Intent, Subject};
pub use lock::{Applied, EndName, Lock, Next, allocate, next};
pub use plan::{Document, Kind, Plan, PlanError};
pub use prove::{INVARIANTS, Invariant, Violation, invariant, prove};
pub use reach::{Passage, Reach, addresses};
pub use space::{Block, Packet, Region, Set, address, point};
pub use spof::{SinglePoint, single_points};
