//! What a service is, before anything of it runs.
//!
//! ```text
//! services/web.toml --read--> Manifest (normalised, canonical JSON) --+
//!                                                                     +--> Release, named by its digest
//! image ref --pinned by vyr.lock--> image digest ---------------------+
//!
//! nodes with room + slots that want some --place--> which slot on which node, and why
//! ```
//!
//! Invariants, each held by a test:
//! 1. One manifest for one meaning: order, layout, comments and defaults that were written out do
//!    not change its bytes.
//! 2. Every fault of a manifest is told, with its place; what Vyr does not do says what to do instead.
//! 3. A release says what an instance is made of: two digests, and nothing that can move.
//! 4. Placement is a function of its arguments in any order, and never gives away more memory than
//!    a node has.
//!
//! Pure: texts and values in, values out. No clock, file, socket, environment or randomness.
//!
//! Deliberately elsewhere: the plan that holds manifests and placements (`vyr-plan`), pulling and
//! running images (`vyr-vm`), carrying connections (`vyr-ingress`).

pub mod manifest;
pub mod place;
pub mod reference;
pub mod refuse;
pub mod release;
pub mod run;
pub mod secret;

pub use manifest::Manifest;
pub use place::{Placement, SlotName, place};
pub use reference::{Named, Reference, ReferenceError};
pub use release::{Release, ReleaseId};
