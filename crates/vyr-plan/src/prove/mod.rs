//! The invariants: what holds for every plan, decided over the whole address space.
//!
//! Each has a stable id, a sentence for people, and a check that reads the compiled plan alone. A
//! violation names what stands in the intent, and where packets are concerned one of them and the
//! rule that decides about it. `tests/invariants.rs` plants a defect for each and expects its id.

mod addresses;
mod ends;
mod keys;
mod passage;

pub(crate) use keys::too_few_keys;

use serde::Serialize;
use vyr_base::Diagnostic;

use crate::intent::{Intent, Name, Subject};
use crate::plan::{Link, LinkKind, Machine, Plan};
use crate::reach::Reach;
use crate::services::services_invariant;
use crate::space::Packet;

/// What must hold.
#[derive(Debug)]
pub struct Invariant {
    /// Its name for ever: `N01`.
    pub id: &'static str,
    /// A short name.
    pub title: &'static str,
    /// Why it must hold.
    pub why: &'static str,
    check: fn(&Proof<'_>) -> Vec<Violation>,
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// Of which invariant.
    pub id: &'static str,
    /// In words.
    pub what: String,
    /// What it is about.
    pub subject: Subject,
    /// A packet that shows it.
    pub packet: Option<Packet>,
    /// The rule that decides about that packet.
    pub rule: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
}

/// What a check reads.
pub(crate) struct Proof<'a> {
    plan: &'a Plan,
    parent: Option<&'a Plan>,
    reach: Reach<'a>,
}

/// All of them, in the order of their ids.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        id: "N01",
        title: "AllowedIPs are disjoint on each link",
        why: "WireGuard gives an address to the peer that was set last, and takes it silently from the other",
        check: addresses::disjoint_allowed_ips,
    },
    Invariant {
        id: "N02",
        title: "a client's AllowedIPs are exactly its own /32 and /128",
        why: "with more, a client could speak for its neighbours",
        check: addresses::exact_clients,
    },
    Invariant {
        id: "N03",
        title: "the mesh has no default route",
        why: "a node's peers are nodes; whoever takes ::/0 from one takes everything from it",
        check: addresses::exact_mesh,
    },
    Invariant {
        id: "N04",
        title: "a client has a profile that its interface takes",
        why: "`constraints` says which profile may be used where",
        check: passage::profiles,
    },
    Invariant {
        id: "N05",
        title: "the internet only through interfaces that allow it",
        why: "`internet = false` is a promise to whoever pays for the uplink and answers for it",
        check: passage::internet,
    },
    Invariant {
        id: "N06",
        title: "the prefixes of clients, local networks and the mesh are disjoint",
        why: "an address in two places is routed to one of them, and to which is a matter of order",
        check: addresses::disjoint_prefixes,
    },
    Invariant {
        id: "N07",
        title: "nothing is forwarded between clients, or between clients and the mesh",
        why: "a lost telephone must not reach a colleague's laptop or a node",
        check: passage::apart,
    },
    Invariant {
        id: "N08",
        title: "experiments and production reach nothing of each other",
        why: "an experiment may do anything but harm",
        check: passage::experiments,
    },
    Invariant {
        id: "N09",
        title: "operators reach every server's management address",
        why: "a plan that locks its authors out cannot be mended by them",
        check: passage::management,
    },
    Invariant {
        id: "N10",
        title: "inside are private addresses only",
        why: "a prefix that a provider delegates changes when the provider likes",
        check: addresses::private_only,
    },
    Invariant {
        id: "N11",
        title: "each public key is used once",
        why: "two peers with one key take each other's sessions, and a client's key is no node's",
        check: keys::unique,
    },
    Invariant {
        id: "N12",
        title: "MTUs fit their uplinks and agree along each link",
        why: "a packet that is too large vanishes, and only large ones do",
        check: keys::mtu,
    },
    Invariant {
        id: "N13",
        title: "revoked keys never return",
        why: "who has the private key of a lost device has it for ever",
        check: keys::revoked,
    },
    Invariant {
        id: "N14",
        title: "each address has one owner, in the prefix of its link",
        why: "two devices with one address take each other's answers",
        check: addresses::owners,
    },
    Invariant {
        id: "N15",
        title: "each link of a machine has a port of its own",
        why: "the second one does not come up",
        check: keys::ports,
    },
    Invariant {
        id: "N16",
        title: "each rule speaks of peers of its link",
        why: "a rule for addresses that nobody has today is for whoever gets them tomorrow",
        check: passage::sources,
    },
    Invariant {
        id: "N17",
        title: "a client's tunnel carries what its profile says, and no more",
        why: "a default route without internet is a connection that is cut",
        check: passage::tunnels,
    },
    Invariant {
        id: "N18",
        title: "enough operators can sign the next plan",
        why: "a threshold above the number of keys locks the site for ever",
        check: keys::threshold,
    },
    Invariant {
        id: "N19",
        title: "clients reach the name servers they are told to use",
        why: "without one, everything seems broken",
        check: passage::name_servers,
    },
    Invariant {
        id: "N20",
        title: "what goes to the internet leaves with the server's address, and only from who may go there",
        why: "a private address gets no answer from the internet, and a hidden one makes the logs of a local network lie",
        check: passage::masquerade,
    },
    Invariant {
        id: "N21",
        title: "an address is on one end of a server's interface, and begins on the first",
        why: "on two ends it would be taken from both, and answered on whichever a route names",
        check: ends::one_holder,
    },
    Invariant {
        id: "N22",
        title: "a second end is the first one with another key and port",
        why: "who moves to the new key must reach what it reached, and nothing else",
        check: ends::alike,
    },
    Invariant {
        id: "N23",
        title: "a retired key of a server is not in force",
        why: "it was replaced because somebody else may have it, and old files still trust it",
        check: ends::retired,
    },
];

/// The invariant of an id.
pub fn invariant(id: &str) -> Option<&'static Invariant> {
    INVARIANTS.iter().find(|invariant| invariant.id.eq_ignore_ascii_case(id))
}

/// A machine's end of a link.
fn end(machine: &Machine, link: &Link) -> Subject {
    match link.kind {
        LinkKind::Mesh => Subject::Node { name: machine.name.to_string() },
        LinkKind::Clients => {
            Subject::End { interface: link.interface.to_string(), server: machine.name.to_string() }
        }
    }
}

/// Whoever has this id on a link.
fn peer_of(link: &Link, id: &Name) -> Subject {
    match link.kind {
        LinkKind::Mesh => Subject::Node { name: id.to_string() },
        LinkKind::Clients => Subject::Client { id: id.to_string() },
    }
}

/// A machine, as the intent declares it.
fn machine_of(machine: &Machine) -> Subject {
    let name = machine.name.to_string();
    match machine.management.is_empty() {
        true => Subject::Node { name },
        false => Subject::Server { name },
    }
}

/// Everything that does not hold for `plan`; `parent` is the plan it replaces.
pub fn prove(plan: &Plan, parent: Option<&Plan>) -> Vec<Violation> {
    let proof = Proof { plan, parent, reach: Reach::of(plan) };
    let mut violations = Vec::new();
    for invariant in INVARIANTS {
        let mut found = (invariant.check)(&proof);
        found.iter_mut().for_each(|violation| violation.id = invariant.id);
        found.sort();
        found.dedup();
        violations.extend(found);
    }
    violations
}

impl Violation {
    pub(crate) fn new(subject: Subject, what: String) -> Self {
        Self { id: "", what, subject, packet: None, rule: None, hint: None }
    }

    fn packet(self, packet: Packet, rule: impl Into<String>) -> Self {
        Self { packet: Some(packet), rule: Some(rule.into()), ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// As a fault of the files.
    pub fn diagnostic(&self, intent: &Intent) -> Diagnostic {
        let network = invariant(self.id).map(|invariant| invariant.why);
        let services = || services_invariant(self.id).map(|invariant| invariant.why);
        let why = network.or_else(services).unwrap_or_default();
        let why = match (&self.packet, &self.rule) {
            (Some(packet), Some(rule)) => format!("{why}\n  packet: {packet}, accepted by {rule}"),
            (Some(packet), None) => format!("{why}\n  packet: {packet}, accepted by no rule"),
            _ => why.into(),
        };
        let fault = Diagnostic::error(self.id, self.what.clone()).why(why);
        let place = intent.place(&self.subject);
        let hint = self.hint.clone().or_else(|| Some(format!("vyr explain {}", self.id)));
        Diagnostic { place, hint, ..fault }
    }
}
