//! Keys that take over on this host, as its plan allows: looked for, written down, moved.
//!
//! ```text
//! plan in force: the one that waits, else the confirmed one -- its staged keys
//!      |
//! look: did a staged key shake hands? -> moved.json on the disk -> one set for each link -> read back
//!      ^                                                                    |
//!      `------------- died in between: the next look does the set again <---'
//! ```
//!
//! WireGuard has no event for a handshake, so it is looked at: often while a key is staged, seldom
//! when none is. What may be moved, and what a plan wants of a host on which something has moved, is
//! decided in `vyr_net::rotation`. A server's key takes over device by device: what moves then has a
//! way back, so that such a look reads routes too.
//!
//! Deliberately elsewhere: retiring and revoking the old key, which is the next plan.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use vyr_base::Digest;
use vyr_net::{Backend, Moves, Observation, Rotation, Stage, State, WantError, rotations};
use vyr_plan::Plan;
use vyr_plan::intent::Key;

use super::record::{Lock, Moved, Stamp};
use super::{BackendChoice, Network, NetworkError, Pending};

/// Between two looks while a key is staged: at 100 packets a second one is lost.
const LOOK: Duration = Duration::from_millis(10);
/// A look costs at most one part in this many of the time.
const SHARE: u32 = 10;
/// Between two looks whether a key is staged at all.
const IDLE: Duration = Duration::from_secs(1);

/// How one rotation stands on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyStanding {
    /// The link.
    pub link: String,
    /// The second link, if it is the server's key that takes over; absent: it is the device's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The device or node.
    pub id: String,
    /// How far it is.
    pub stage: Stage,
    /// The key that is active in the plan.
    pub old: Key,
    /// The key that takes over.
    pub new: Key,
    /// When the old one last shook hands, seconds since 1970.
    pub old_handshake_unix_s: Option<u64>,
    /// When the new one did.
    pub new_handshake_unix_s: Option<u64>,
    /// Whether this look moved it.
    pub moved_now: bool,
}

/// When a key of the plan last shook hands with this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handshake {
    /// The link.
    pub link: String,
    /// The key.
    pub public_key: Key,
    /// Seconds since 1970; none: not since the peer was made.
    pub unix_s: Option<u64>,
}

/// What a look found.
#[derive(Debug)]
pub struct Looked {
    /// Rotations that the plan in force allows, if they were looked at in full.
    pub moved: Vec<KeyStanding>,
    /// How many keys have not been moved yet.
    pub staged: usize,
    /// How long to wait until the next one.
    pub next: Duration,
}

/// What the plan that counts now allows, and where.
#[derive(Debug)]
struct InForce {
    digest: Digest,
    machine: String,
    backend: BackendChoice,
    /// Takeovers that it allows.
    rotations: Vec<Rotation>,
    /// Those that the plan allows to which a rollback would lead.
    base: Vec<Rotation>,
}

impl Network {
    /// What a plan wants of this host, with the keys that have taken over under it.
    pub(super) fn over(
        &self,
        state: State,
        plan: &Plan,
        machine: &str,
    ) -> Result<State, NetworkError> {
        Ok(self.moves()?.over(state, &rotations(plan, machine)))
    }

    /// What the change that waits wants of it.
    pub(super) fn goal(&self, change: &Pending) -> Result<State, NetworkError> {
        let plan = self.record.kept(&change.plan)?;
        self.over(change.wanted.clone(), &plan, &change.machine)
    }

    /// What the host was before a change, with the keys that took over meanwhile, if the plan that
    /// it goes back to allows that.
    pub(super) fn before(&self, change: &Pending) -> State {
        let over = || {
            let state = change.before.clone();
            match self.record.confirmed()? {
                Some((_, plan)) => self.over(state, &plan, &change.machine),
                None => Ok(state),
            }
        };
        // A record that cannot be read must not keep anybody locked out; `drift` names it after.
        over().unwrap_or_else(|_: NetworkError| change.before.clone())
    }

    fn moves(&self) -> Result<Moves, NetworkError> {
        Ok(self.record.moved()?.into_iter().map(|moved| moved.takeover).collect())
    }

    /// Drops what the confirmed plan does not allow.
    pub(super) fn prune_moves(&self, lock: &Lock, machine: &str) -> Result<(), NetworkError> {
        let mut moved = self.record.moved()?;
        if moved.is_empty() {
            return Ok(());
        }
        let plan = self.record.confirmed()?;
        let allowed = plan.map(|(_, plan)| rotations(&plan, machine)).unwrap_or_default();
        let allowed = self.moves()?.allowed(&allowed);
        let before = moved.len();
        moved.retain(|one| allowed.iter().any(|allowed| *allowed == one.takeover));
        if moved.len() == before { Ok(()) } else { self.record.set_moved(lock, moved) }
    }

    /// Does again what was written down and perhaps not done.
    pub(super) fn resume_moves(&self, change: &Pending) -> Result<(), NetworkError> {
        let moves = self.moves()?;
        if moves.iter().next().is_none() {
            return Ok(());
        }
        let plan = self.record.kept(&change.plan)?;
        let mut backend = change.backend.open();
        let own = rotations(&plan, &change.machine);
        let steps = moves.steps(&own, &read_for(&mut *backend, &own)?.state);
        if !steps.is_empty() {
            backend.apply(&steps, &self.keys())?;
        }
        Ok(())
    }

    fn in_force(
        &self,
        machine: &str,
        backend: &BackendChoice,
    ) -> Result<Option<InForce>, NetworkError> {
        let confirmed = self.record.confirmed()?;
        if let Some(change) = self.record.pending()? {
            let plan = self.record.kept(&change.plan)?;
            let base = confirmed.map(|(_, base)| rotations(&base, &change.machine));
            return Ok(Some(InForce {
                digest: change.plan,
                rotations: rotations(&plan, &change.machine),
                base: base.unwrap_or_default(),
                machine: change.machine,
                backend: change.backend,
            }));
        }
        let Some((digest, plan)) = confirmed else { return Ok(None) };
        if plan.machine(machine).is_none() {
            return Err(WantError::NoMachine(machine.to_owned()).into());
        }
        Ok(Some(InForce {
            digest,
            rotations: rotations(&plan, machine),
            base: Vec::new(),
            machine: machine.to_owned(),
            backend: backend.clone(),
        }))
    }

    /// Looks once, and moves what is to be moved: the addresses of each device or node whose staged
    /// key shook hands, and of one that was left in the middle. `only`: of this one alone.
    pub fn move_keys(
        &self,
        machine: &str,
        backend: &BackendChoice,
        only: Option<&str>,
    ) -> Result<Vec<KeyStanding>, NetworkError> {
        let lock = self.record.lock()?;
        self.recover(&lock)?;
        let force = self.in_force(machine, backend)?.ok_or(NetworkError::NoPlan)?;
        self.move_under(&lock, &force, only)
    }

    fn move_under(
        &self,
        lock: &Lock,
        force: &InForce,
        only: Option<&str>,
    ) -> Result<Vec<KeyStanding>, NetworkError> {
        let wanted = |rotation: &&Rotation| only.is_none_or(|id| rotation.id.as_str() == id);
        let own: Vec<Rotation> = force.rotations.iter().filter(wanted).cloned().collect();
        if let (Some(id), true) = (only, own.is_empty()) {
            let machine = force.machine.clone();
            return Err(NetworkError::NotStaged { plan: force.digest, id: id.to_owned(), machine });
        }
        if own.is_empty() {
            return Ok(Vec::new());
        }
        let mut backend = force.backend.open();
        let observed = read_for(&mut *backend, &own)?;
        let moves = self.moves()?;
        let seen = moves.and_seen(&own, &observed.live);
        if seen != moves {
            let returned = own.iter().filter(|one| moves.has(one) && one.is_back(&observed.live));
            for one in returned {
                if let Some(back) = one.as_return() {
                    let when = one.shook(&observed.live).0;
                    self.record.spool().moved(Timestamp::now(), force.digest, &back, when)?;
                }
            }
            let when = |takeover: &vyr_net::Move| {
                let of = own.iter().find(|one| one.is_of(takeover))?;
                of.shook(&observed.live).1
            };
            let allowed = seen.allowed(force.rotations.iter().chain(&force.base));
            self.write_moves(lock, force.digest, &allowed, &when)?;
        }
        let steps = seen.steps(&own, &observed.state);
        if steps.is_empty() {
            return Ok(standings(&own, &observed, &observed));
        }
        backend.apply(&steps, &self.keys())?;
        let after = read_for(&mut *backend, &own)?;
        let left = seen.steps(&own, &after.state);
        if !left.is_empty() {
            return Err(NetworkError::Differs(left.iter().map(ToString::to_string).collect()));
        }
        Ok(standings(&own, &observed, &after))
    }

    /// Adds what is new, and keeps when and under which plan the others came.
    fn write_moves(
        &self,
        lock: &Lock,
        plan: Digest,
        moves: &Moves,
        seen: &dyn Fn(&vyr_net::Move) -> Option<u64>,
    ) -> Result<(), NetworkError> {
        let old = self.record.moved()?;
        let at = Timestamp::now();
        let known =
            |takeover: &vyr_net::Move| old.iter().find(|one| one.takeover == *takeover).cloned();
        let entry = |takeover: &vyr_net::Move| {
            known(takeover).unwrap_or_else(|| Moved { plan, at, takeover: takeover.clone() })
        };
        // Told first: whoever is killed in between tells it again, by the same name.
        let spool = self.record.spool();
        for takeover in moves.iter().filter(|takeover| known(takeover).is_none()) {
            spool.moved(at, plan, takeover, seen(takeover))?;
        }
        self.record.set_moved(lock, moves.iter().map(entry).collect())
    }

    /// When each peer of this host's links last shook hands.
    pub fn handshakes(&self, backend: &BackendChoice) -> Result<Vec<Handshake>, NetworkError> {
        let live = backend.open().read_peers()?.live;
        let of = |link: vyr_net::LiveLink| {
            let name = link.name;
            link.peers.into_iter().map(move |peer| Handshake {
                link: name.clone(),
                public_key: peer.public_key,
                unix_s: peer.handshake_unix_s,
            })
        };
        Ok(live.links.into_iter().flat_map(of).collect())
    }

    /// How the rotations of the plan in force stand. Nothing is changed.
    pub fn rotation_standings(
        &self,
        machine: &str,
        backend: &BackendChoice,
    ) -> Result<Vec<KeyStanding>, NetworkError> {
        let Some(force) = self.in_force(machine, backend)? else { return Ok(Vec::new()) };
        if force.rotations.is_empty() {
            return Ok(Vec::new());
        }
        let observed = force.backend.open().read_peers()?;
        Ok(standings(&force.rotations, &observed, &observed))
    }

    /// Who looks again and again.
    pub fn watch_keys(&self, machine: &str, backend: &BackendChoice) -> KeyWatch<'_> {
        let (machine, backend) = (machine.to_owned(), backend.clone());
        KeyWatch { network: self, machine, backend, known: None }
    }
}

/// Reads what the steps of some takeovers need: routes too, if a server's key is one of them.
fn read_for(
    backend: &mut dyn Backend,
    rotations: &[Rotation],
) -> Result<Observation, NetworkError> {
    Ok(match rotations.iter().any(|rotation| rotation.to.is_some()) {
        true => backend.read()?,
        false => backend.read_peers()?,
    })
}

fn standings(all: &[Rotation], before: &Observation, after: &Observation) -> Vec<KeyStanding> {
    let standing = |rotation: &Rotation| {
        let stage = rotation.stage(&after.state, &after.live);
        let (old_handshake_unix_s, new_handshake_unix_s) = rotation.shook(&after.live);
        KeyStanding {
            link: rotation.link.clone(),
            to: rotation.to.clone(),
            id: rotation.id.to_string(),
            stage,
            old: rotation.old,
            new: rotation.new,
            old_handshake_unix_s,
            new_handshake_unix_s,
            moved_now: stage != rotation.stage(&before.state, &before.live),
        }
    };
    all.iter().map(standing).collect()
}

/// Looks at staged keys, without reading plans again that have not changed.
#[derive(Debug)]
pub struct KeyWatch<'a> {
    network: &'a Network,
    machine: String,
    backend: BackendChoice,
    known: Option<Known>,
}

/// What was found when the files were last read.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// None: no plan was ever applied here.
    force: Option<InForce>,
    /// Of its takeovers, those that have not happened.
    staged: Vec<Rotation>,
    /// Those that have, and that a device may take back by itself.
    returns: Vec<Rotation>,
}

impl KeyWatch<'_> {
    /// One look. `next` is what to wait until the next: that is the caller's, who may have other
    /// things to wait for.
    pub fn look(&mut self) -> Result<Looked, NetworkError> {
        let begun = Instant::now();
        let stamp = self.network.record.stamp();
        let is_due = match &self.known {
            Some(Known { stamp: known, force: Some(force), staged, returns })
                if *known == stamp =>
            {
                let watched = || staged.iter().chain(returns);
                watched().next().is_some() && {
                    let observed = force.backend.open().read_peers()?;
                    watched().any(|one| one.is_due(&observed.state, &observed.live))
                }
            }
            Some(known) => known.stamp != stamp,
            None => true,
        };
        let cost = begun.elapsed();
        let moved = if is_due { self.act()? } else { Vec::new() };
        let staged = self.known.as_ref().map_or(0, |known| known.staged.len());
        let watched = staged + self.known.as_ref().map_or(0, |known| known.returns.len());
        let next = match watched {
            0 => IDLE,
            _ => LOOK.max(cost * SHARE),
        };
        Ok(Looked { moved, staged, next })
    }

    /// Moves what is due, also what was left in the middle: with the lock, and with the files read
    /// again if they have changed.
    fn act(&mut self) -> Result<Vec<KeyStanding>, NetworkError> {
        let network = self.network;
        let lock = network.record.lock()?;
        let held = self.known.take().filter(|known| known.stamp == network.record.stamp());
        let force = match held {
            Some(known) => known.force,
            None => {
                network.recover(&lock)?;
                network.in_force(&self.machine, &self.backend)?
            }
        };
        let mut moved = match &force {
            Some(force) => network.move_under(&lock, force, None)?,
            None => Vec::new(),
        };
        let is_left = |rotation: &Rotation| {
            let own = |of: &&KeyStanding| {
                of.link == rotation.link && of.to == rotation.to && of.new == rotation.new
            };
            moved.iter().find(own).is_some_and(|of| of.stage != Stage::Moved)
        };
        let all = force.iter().flat_map(|force| &force.rotations).cloned();
        let (staged, mut returns): (Vec<_>, Vec<_>) = all.partition(is_left);
        returns.retain(|rotation| rotation.to.is_some());
        self.known = Some(Known { stamp: network.record.stamp(), force, staged, returns });
        moved.retain(|of| of.moved_now);
        Ok(moved)
    }
}
