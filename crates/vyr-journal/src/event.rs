//! Events: one is one leaf of the log.
//!
//! Payloads never hold secrets, and no contents: inputs and outputs are named by digest.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_base::canonical::{self, CanonicalError};

use crate::deploy::{DeployBegun, DeployRefused, DeployStatement, InstanceStep, SlotWish};
use crate::ids::{Origin, StateId};
use crate::leaf;
use crate::network::{NetworkMoved, NetworkRefused, NetworkStatement};
use crate::session::{SessionBegun, SessionEnded};
use crate::statement::{ArtifactRef, Limits, SignerRef, Statement};

/// The version of the envelope and of every body.
pub const EVENT_VERSION: u32 = 1;

/// Room for a leaf: a task's acceptance takes 0.7 kB, its end 1.4 kB, everything else less.
const LEAF_BYTES: usize = 256;
const ACCEPTED_BYTES: usize = 896;
const ENDED_BYTES: usize = 1536;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What happened.
    pub body: Body,
    /// Its place in the log, from 0.
    pub seq: u64,
    /// When, by the node's clock, which may jump.
    pub time: Timestamp,
    /// [`EVENT_VERSION`].
    pub v: u32,
}

impl Body {
    /// The name of the change, of the network or of services, that this ends or is, if it is one.
    pub fn change(&self) -> Option<&str> {
        match self {
            Self::NetworkEnded(statement) => Some(&statement.predicate.change.change),
            Self::NetworkMoved(moved) => Some(&moved.change),
            Self::NetworkRefused(refused) => Some(&refused.change),
            Self::DeployEnded(statement) => Some(&statement.predicate.deploy.deploy),
            _ => None,
        }
    }
}

impl Event {
    /// The leaf: canonical JSON.
    pub fn to_leaf(&self) -> Vec<u8> {
        // Integers of ours are below 2^53 and fields stand in order; `the_plain_form_is_canonical`
        // holds both.
        let mut leaf = Vec::with_capacity(match &self.body {
            Body::Accepted(_) => ACCEPTED_BYTES,
            Body::Ended(_) => ENDED_BYTES,
            _ => LEAF_BYTES,
        });
        if !leaf::write(self, &mut leaf) {
            serde_json::to_writer(&mut leaf, self)
                .unwrap_or_else(|e| unreachable!("an event is JSON: {e}"));
        }
        leaf
    }

    /// Reads a leaf, in its one spelling.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, CanonicalError> {
        canonical::parse(leaf)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "payload", deny_unknown_fields)]
pub enum Body {
    /// The journal began. Always the first event.
    #[serde(rename = "journal.created")]
    Created(NodeCreated),
    /// A process took the node over.
    #[serde(rename = "node.started")]
    NodeStarted(NodeStarted),
    /// A task was accepted: from here on it is never forgotten.
    #[serde(rename = "task.accepted")]
    Accepted(Arc<Accepted>),
    /// A state was bound to a task.
    #[serde(rename = "task.bound")]
    Bound(Bound),
    /// A task began to run.
    #[serde(rename = "task.started")]
    Started(Started),
    /// A task ended.
    #[serde(rename = "task.ended")]
    Ended(Box<Statement>),
    /// A state was made.
    #[serde(rename = "state.created")]
    StateCreated(StateCreated),
    /// A state is gone.
    #[serde(rename = "state.ended")]
    StateEnded(StateEnded),
    /// The leaf bytes of a range were dropped; their hashes stay.
    #[serde(rename = "journal.sealed")]
    Sealed(Sealed),
    /// A change of the host's network ended.
    #[serde(rename = "network.ended")]
    NetworkEnded(Box<NetworkStatement>),
    /// A key took over from another.
    #[serde(rename = "network.moved")]
    NetworkMoved(Box<NetworkMoved>),
    /// A change of the host's network was refused.
    #[serde(rename = "network.refused")]
    NetworkRefused(Box<NetworkRefused>),
    /// A services plan was accepted.
    #[serde(rename = "deploy.begun")]
    DeployBegun(Box<DeployBegun>),
    /// A services plan is in force on this node, or was given up.
    #[serde(rename = "deploy.ended")]
    DeployEnded(Box<DeployStatement>),
    /// A services plan was refused.
    #[serde(rename = "deploy.refused")]
    DeployRefused(Box<DeployRefused>),
    /// An instance was started.
    #[serde(rename = "instance.started")]
    InstanceStarted(Box<InstanceStep>),
    /// It serves.
    #[serde(rename = "instance.ready")]
    InstanceReady(Box<InstanceStep>),
    /// It is over, for ever.
    #[serde(rename = "instance.ended")]
    InstanceEnded(Box<InstanceStep>),
    /// Somebody is about to run a program beside an instance's own.
    #[serde(rename = "session.begun")]
    SessionBegun(Box<SessionBegun>),
    /// That program has ended, or nobody sees it any more.
    #[serde(rename = "session.ended")]
    SessionEnded(Box<SessionEnded>),
    /// An operator wants a slot to be empty.
    #[serde(rename = "slot.halted")]
    SlotHalted(Box<SlotWish>),
    /// What the plan says of a slot counts again, and what was given up is tried again.
    #[serde(rename = "slot.resumed")]
    SlotResumed(Box<SlotWish>),
}

/// The journal began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeCreated {
    /// The fingerprint of the key that signs its checkpoints.
    pub key_id: String,
    /// Its name.
    pub origin: Origin,
    /// The text of the last checkpoint that is known of the journal before it, if this node was
    /// rebuilt from a bundle. Left out where there is none, so that older journals keep their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<String>,
}

/// A process took the node over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStarted {
    /// The name of its lock.
    pub owner: String,
    /// The version of the program.
    pub version: String,
}

/// A task was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// What is to run.
    pub artifact: ArtifactRef,
    /// Fixed clock and seed.
    pub deterministic: bool,
    /// What it reads; `None`: a stream whose digest is known when it ends.
    pub input: Option<InputRef>,
    /// The submitter's idempotency key; empty for none.
    pub key: String,
    /// The limits that apply.
    pub limits: Limits,
    /// Higher runs first.
    pub priority: i32,
    /// Who vouched for the artifact.
    pub signer: SignerRef,
    /// The states it declares or was submitted with.
    pub states: Vec<StateBinding>,
    /// Who submitted it.
    pub submitter: String,
    /// The caller's trace context (W3C `traceparent`), or one made here.
    pub traceparent: String,
}

/// A task's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRef {
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
    /// Whether they are in the journal's own table (small ones) or in the store.
    pub inline: bool,
}

/// A state a task uses, bound or still to be bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateBinding {
    /// What the task may do with it.
    pub access: StateAccess,
    /// The name the guest sees: `/state/<name>`.
    pub name: String,
    /// The state; `None` until it is bound.
    pub state: Option<StateId>,
}

/// What a task may do with a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateAccess {
    /// Read only.
    #[serde(rename = "ro")]
    ReadOnly,
    /// Read and write.
    #[serde(rename = "rw")]
    ReadWrite,
}

/// A state was bound to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// What the task may do with it.
    pub access: StateAccess,
    /// The state.
    pub state: StateId,
    /// The task's event.
    pub task: u64,
}

/// A task began to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Who runs it: the name of a lock that is held as long as its process lives.
    pub owner: String,
    /// The task's event.
    pub task: u64,
}

/// A state was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateCreated {
    /// How many bytes it may hold.
    pub bytes_max: u64,
    /// The name guests see.
    pub name: String,
    /// Who holds it in memory.
    pub owner: String,
    /// Who asked for it.
    pub submitter: String,
}

/// A state is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateEnded {
    /// Why.
    pub reason: StateEnding,
    /// The state.
    pub state: StateId,
}

/// Why a state is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateEnding {
    /// The last task bound to it ended.
    LastTask,
    /// No task was bound to it for its idle time.
    Idle,
    /// The process that held it died.
    Lost,
}

/// The leaf bytes of a range were dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The first event that keeps its bytes.
    pub before: u64,
    /// The root of the tree of that many events.
    pub root: Digest,
    /// The digest of the views as of that event.
    pub views: Digest,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::deploy::{Deploy, DeployOutcome, DeployPredicate, DeployRelease, DeployTimings};
    use crate::ids::TaskId;
    use crate::network::{
        NetworkChange, NetworkFirst, NetworkNode, NetworkOutcome, NetworkPredicate, NetworkTimings,
    };
    use crate::session::SessionEnd;
    use crate::statement::{Counted, NodeInfo, Predicate, TaskState, Timings, Usage};

    pub(crate) fn origin() -> Origin {
        Origin::new([7; 16])
    }

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 123_456_000).expect("in range")
    }

    fn artifact() -> ArtifactRef {
        ArtifactRef { digest: Digest::of(b"artifact"), name: "hello".into() }
    }

    fn signer() -> SignerRef {
        SignerRef { dev: false, key_id: "SHA256:x".into(), principal: "ana@example.org".into() }
    }

    pub(crate) fn limits() -> Limits {
        Limits { cpu_ms: 1, deadline_ms: 2, memory_bytes: 3, output_bytes_max: 4 }
    }

    pub(crate) fn accepted() -> Accepted {
        Accepted {
            artifact: artifact(),
            deterministic: false,
            input: Some(InputRef { bytes: 0, digest: Digest::of(b""), inline: true }),
            key: "a key with \"quotes\", \u{1f600} and a tab\t".into(),
            limits: limits(),
            priority: -3,
            signer: signer(),
            states: vec![StateBinding {
                access: StateAccess::ReadWrite,
                name: "a".into(),
                state: None,
            }],
            submitter: "uid:1000".into(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        }
    }

    pub(crate) fn statement(task: u64) -> Statement {
        let counted = Counted { bytes: 0, complete: true, digest: Digest::of(b"") };
        Statement::of(Predicate {
            artifact: artifact(),
            deterministic: false,
            exit_code: Some(-1),
            input: counted.clone(),
            limits: limits(),
            message: Some("exited with -1".into()),
            node: NodeInfo {
                engine: "wasmtime 48".into(),
                guidance: "off".into(),
                origin: origin(),
                version: "0.1.0".into(),
            },
            output: counted,
            reason: Some("exit".into()),
            signer: signer(),
            state: TaskState::Failed,
            submitter: "uid:1000".into(),
            task_id: TaskId::new(origin(), task),
            timings: Timings { accepted: at(0), ended: at(2), started: Some(at(1)) },
            usage: Usage::default(),
        })
    }

    pub(crate) fn network() -> NetworkStatement {
        NetworkStatement::of(NetworkPredicate {
            change: NetworkChange {
                after: Some(Digest::of(b"after")),
                approvers: vec!["ana@example.org".into()],
                backend: "kernel".into(),
                base: None,
                before: Digest::of(b"before"),
                by: "ana".into(),
                change: "a".repeat(32),
                host: "nas".into(),
                interfaces: vec!["lan0".into(), "wg0".into()],
                machine: "nas".into(),
                outcome: NetworkOutcome::Confirmed,
                plan: Digest::of(b"plan"),
                site_commit: Some("c".repeat(40)),
                timings: NetworkTimings { begun: at(0), ended: at(2) },
                why: "it was confirmed".into(),
            },
            node: NetworkNode { origin: origin(), version: "0.1.0".into() },
        })
    }

    pub(crate) fn deploy() -> DeployStatement {
        let release = |service: &str| DeployRelease {
            image: Digest::of(b"image"),
            release: Digest::of(service.as_bytes()),
            service: service.into(),
        };
        DeployStatement::of(DeployPredicate {
            deploy: Deploy {
                approvers: vec!["ana@example.org".into()],
                by: "uid:0".into(),
                deploy: "e".repeat(32),
                machine: "nas".into(),
                outcome: DeployOutcome::Succeeded,
                parent: None,
                plan: Digest::of(b"services"),
                releases: vec![release("db"), release("web")],
                timings: DeployTimings { begun: at(0), ended: at(2) },
                why: "all is ready".into(),
            },
            node: NetworkNode { origin: origin(), version: "0.1.0".into() },
        })
    }

    fn step(reason: Option<&str>) -> Box<InstanceStep> {
        Box::new(InstanceStep {
            instance: "web-http-0-1f".into(),
            reason: reason.map(str::to_owned),
            release: Digest::of(b"web"),
            slot: "web/http/0".into(),
            why: reason.map(|_| "it used 64 MiB".into()),
        })
    }

    fn wish() -> Box<SlotWish> {
        Box::new(SlotWish { by: "uid:0".into(), slot: "web/http/0".into() })
    }

    fn session_ended(end: SessionEnd) -> Body {
        let session = "f".repeat(32);
        Body::SessionEnded(Box::new(SessionEnded { duration_ms: Some(40), end, session }))
    }

    /// One event of each kind.
    pub(crate) fn one_of_each() -> Vec<Event> {
        let state = StateId::new(origin(), 2);
        let access = StateAccess::ReadOnly;
        let bodies = [
            Body::Created(NodeCreated {
                key_id: "SHA256:y".into(),
                origin: origin(),
                predecessor: None,
            }),
            Body::NodeStarted(NodeStarted { owner: "o".into(), version: "0.1.0".into() }),
            Body::StateCreated(StateCreated {
                bytes_max: 1 << 20,
                name: "a".into(),
                owner: "o".into(),
                submitter: "uid:1000".into(),
            }),
            Body::Accepted(Arc::new(accepted())),
            Body::Bound(Bound { access, state, task: 3 }),
            Body::Started(Started { owner: "o".into(), task: 3 }),
            Body::Ended(Box::new(statement(3))),
            Body::StateEnded(StateEnded { reason: StateEnding::LastTask, state }),
            Body::Sealed(Sealed { before: 4, root: Digest::of(b"r"), views: Digest::of(b"v") }),
            Body::NetworkEnded(Box::new(network())),
            Body::NetworkMoved(Box::new(NetworkMoved {
                at: at(1),
                change: "d".repeat(32),
                id: "phone".into(),
                link: "wg0".into(),
                new: "bmV3".into(),
                old: "b2xk".into(),
                plan: Digest::of(b"plan"),
                to: None,
            })),
            Body::NetworkRefused(Box::new(NetworkRefused {
                at: at(1),
                by: "ben".into(),
                change: "b".repeat(32),
                first: Some(NetworkFirst { by: "ana".into(), plan: Digest::of(b"plan") }),
                plan: Digest::of(b"other"),
                why: "a change waits".into(),
            })),
            Body::DeployBegun(Box::new(DeployBegun {
                by: "uid:0".into(),
                deploy: "e".repeat(32),
                parent: None,
                plan: Digest::of(b"services"),
            })),
            Body::DeployEnded(Box::new(deploy())),
            Body::DeployRefused(Box::new(DeployRefused {
                by: "uid:0".into(),
                plan: Digest::of(b"older"),
                why: "it is older".into(),
            })),
            Body::InstanceStarted(step(None)),
            Body::InstanceReady(step(None)),
            Body::InstanceEnded(step(Some("oom_killed"))),
            Body::SessionBegun(Box::new(SessionBegun {
                by: "uid:0".into(),
                instance: "web-http-0-1f".into(),
                program: "/bin/sh".into(),
                service: "web".into(),
                session: "f".repeat(32),
                slot: "web/http/0".into(),
                terminal: true,
                uid: 0,
                user: None,
            })),
            session_ended(SessionEnd::Code(7)),
            Body::SlotHalted(wish()),
            Body::SlotResumed(wish()),
        ];
        let event = |(body, seq)| Event { body, seq, time: at(0), v: EVENT_VERSION };
        bodies.into_iter().zip(0..).map(event).collect()
    }

    #[test]
    fn a_journal_without_a_predecessor_begins_as_it_always_did() {
        let event = |predecessor: Option<String>| {
            let created = NodeCreated { key_id: "SHA256:y".into(), origin: origin(), predecessor };
            Event { body: Body::Created(created), seq: 0, time: at(0), v: EVENT_VERSION }
        };
        let (first, after) = (event(None), event(Some("vyr/journal/00\n9\nAA=\n".into())));
        let leaf = String::from_utf8(first.to_leaf()).expect("JSON");
        assert!(!leaf.contains("predecessor"), "{leaf}");
        for event in [first, after] {
            assert_eq!(Event::from_leaf(&event.to_leaf()).expect("its own"), event);
        }
        let null = leaf.replace("\"origin\"", "\"predecessor\":null,\"origin\"");
        assert!(Event::from_leaf(null.as_bytes()).is_err(), "a second spelling");
    }

    #[test]
    fn the_plain_form_is_canonical() {
        for event in one_of_each() {
            let leaf = event.to_leaf();
            let canonical = canonical::to_vec(&event).expect("canonical");
            assert_eq!(String::from_utf8_lossy(&leaf), String::from_utf8_lossy(&canonical));
            assert_eq!(Event::from_leaf(&leaf).expect("a leaf"), event);
        }
    }

    #[test]
    fn a_session_ends_in_one_of_three_ways() {
        let event = |end| Event { body: session_ended(end), seq: 9, time: at(0), v: EVENT_VERSION };
        for (end, form) in [
            (SessionEnd::Code(7), "{\"code\":7}"),
            (SessionEnd::Signal(9), "{\"signal\":9}"),
            (SessionEnd::Failed("gone".into()), "{\"failed\":\"gone\"}"),
        ] {
            let event = event(end);
            let leaf = String::from_utf8(event.to_leaf()).expect("JSON");
            assert!(leaf.contains(&format!("\"end\":{form},")), "{leaf}");
            assert_eq!(Event::from_leaf(leaf.as_bytes()).expect("its own"), event);
        }
        let code = String::from_utf8(event(SessionEnd::Code(7)).to_leaf()).expect("JSON");
        for other in ["{}", "{\"code\":256}", "{\"code\":7,\"signal\":9}", "{\"killed\":9}"] {
            let leaf = code.replacen("{\"code\":7}", other, 1);
            assert!(Event::from_leaf(leaf.as_bytes()).is_err(), "{leaf}");
        }
    }

    #[test]
    fn another_spelling_or_an_unknown_field_is_refused() {
        let leaf = String::from_utf8(one_of_each()[5].to_leaf()).expect("UTF-8");
        for (from, to) in [
            ("\"v\":1", "\"v\":1,\"x\":2"),
            ("{\"body\"", "{ \"body\""),
            ("task.started", "task.stopped"),
        ] {
            let other = leaf.replacen(from, to, 1);
            assert_ne!(other, leaf);
            assert!(Event::from_leaf(other.as_bytes()).is_err(), "{other}");
        }
    }
}
