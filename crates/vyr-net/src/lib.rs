//! The network of one host: what it has of ours, what a plan wants, and the steps between.
//!
//! ```text
//! Plan --want--> State (wanted) --\
//!                                  diff::ops --> [Op] --> Backend::apply
//! Backend::read --> Observation --/                           |
//!                      \--> Live: what changes by itself      v
//!                                        firewall: old and new, links, firewall: new, memory
//! ```
//!
//! Instances of services have links and a table of their own (`instance`, `isolation`): no plan of
//! the network names them, so they are in no [`State`].
//!
//! Ours are the WireGuard links whose names begin with [`LINK_PREFIX`], the routes with
//! [`ROUTE_PROTOCOL`] and the nftables table of [`vyr_plan::render::TABLE`]. Nothing else is
//! changed, and nothing else is in a [`State`].
//!
//! Invariants:
//! 1. `ops(a, a)` is empty; what `ops(a, b)` says, done to `a`, makes `b`; `undo` leads back.
//! 2. A peer that stays is never removed, and an address that moves between peers always has one.
//! 3. While steps are taken, no packet passes that both firewalls would not let pass.
//! 4. No private or preshared key is in a value of ours that can be printed or stored. Keys come
//!    from a [`Keys`] when they are set, and what is read of them is dropped where it is parsed.
//! 5. What a kernel or a data plane answers is checked and bounded: it can be refused, not trusted.
//!
//! Deliberately elsewhere: when to apply, to confirm and to roll back (`vyr-node`); what the plan
//! says (`vyr-plan`).

mod backend;
mod device;
mod diff;
mod error;
mod firewall;
mod greet;
mod host;
mod instance;
mod isolation;
mod kernel;
mod model;
mod neighbour;
mod netlink;
mod recorder;
mod rotation;
mod state;
mod uapi;
mod userspace;
mod want;
pub mod words;

pub use backend::{Ability, Backend, Keys, NoKeys, Observation, Probe};
pub use diff::{AllowedIps, May, Op, PeerSet, memory, ops, undo};
pub use error::NetError;
pub use firewall::{Nft, Ruleset, RulesetError, union};
pub use greet::{Met, greet, met};
pub use instance::{GATEWAY, InstanceLink, attach, detach, interface, ready};
pub use isolation::{Isolation, SERVICES_TABLE, isolate};
pub use kernel::Kernel;
pub use model::ModelError;
pub use neighbour::{NeighbourLink, Whereabouts, announce, whereabouts, who_has};
pub use recorder::Recorder;
pub use rotation::{Move, Moves, Rotation, Stage, rotations};
pub use state::{
    LINK_PREFIX, Link, LinkKind, Live, LiveLink, LivePeer, Peer, ROUTE_PROTOCOL, STATE_VERSION,
    State, StateError,
};
pub use userspace::Userspace;
pub use want::{WantError, wanted};
