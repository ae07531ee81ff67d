//! One change of the network: made, confirmed, taken back.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use vyr_base::Digest;
use vyr_journal::{NetworkFirst, NetworkOutcome};
use vyr_net::{Ability, Backend, Op, State, greet, memory, met, ops, undo, wanted};
use vyr_plan::bundle::Approvals;
use vyr_plan::plan::TrustRoot;
use vyr_plan::{ApprovalError, Plan, Root, Signed, approve, prove};

use super::backends::able;
use super::keys::directory;
use super::record::{HostRecord, Lock, Record, pending};
use super::timer::Timer;
use super::{BackendChoice, Ended, Last, LinkKeys, NetworkError, Pending, Phase};

/// How often a way back is tried before it is said that it fails.
const ATTEMPTS: usize = 4;

/// How long a probe waits for its connection.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug)]
pub struct ApplyRequest<'a> {
    /// The plan, as its file has it.
    pub plan: &'a [u8],
    /// Approvals of it.
    pub signed: &'a [Signed],
    /// The name of this host in the plan.
    pub machine: &'a str,
    /// Who asks, for whoever comes second.
    pub by: &'a str,
    /// The change is taken back after so long, unless it is confirmed; none: it is confirmed at
    /// once, if all probes answer.
    pub within: Option<Duration>,
    /// Addresses that must answer a new TCP connection when all is done.
    pub probes: &'a [String],
    /// Only say what would be done.
    pub dry_run: bool,
    /// What reads and changes the host.
    pub backend: BackendChoice,
    /// The commit of the site's repository that the plan comes from, for the receipt.
    pub site_commit: Option<&'a str>,
}

/// What was done.
#[derive(Debug)]
pub struct Applied {
    /// The plan.
    pub plan: Digest,
    /// The plan before it.
    pub base: Option<Digest>,
    /// Who approved it.
    pub approvers: Vec<String>,
    /// The steps, in order; none: the host was as the plan says.
    pub steps: Vec<String>,
    /// The host as it was.
    pub before: Digest,
    /// The host as it is now, or would be.
    pub after: Digest,
    /// Why connections of keys that are gone, and those that may not begin any more, are not cut, if
    /// this host cannot.
    pub uncut: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be done.
    Nothing,
    /// Nothing was done: it was asked what would be.
    Shown,
    /// It waits to be confirmed until then.
    Waits(Timestamp),
    /// It is done.
    Confirmed,
}

/// How a host stands to its plan.
#[derive(Debug)]
pub struct Standing {
    /// The plan it is compared with: the one that waits, else the confirmed one.
    pub plan: Digest,
    /// Whether the plan waits to be confirmed, and until when.
    pub waits: Option<Timestamp>,
    /// The digest of the host as it should be.
    pub wanted: Digest,
    /// The digest of the host as it is.
    pub found: Digest,
    /// What would make the host as it should be: none, and it is.
    pub differences: Vec<String>,
}

/// Why a plan may be applied at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// Enough operators approve it now.
    Approvals,
    /// It was confirmed before: here, or on the node that this host replaces.
    Confirmed,
}

/// The network of this host.
#[derive(Debug)]
pub struct Network {
    pub(super) record: Record,
}

impl Network {
    /// That of a data directory.
    pub fn open(data: &Path) -> Result<Self, NetworkError> {
        Ok(Self { record: Record::open(data)? })
    }

    /// Which machine of its plans this host is, and what reads it: what was said, else what was said
    /// when its plan was confirmed, else its host name and whatever it has.
    pub fn who(
        &self,
        machine: Option<String>,
        backend: Option<BackendChoice>,
    ) -> Result<(String, BackendChoice), NetworkError> {
        let (known, with) = self.record.host()?.map(|of| (of.machine, of.backend)).unzip();
        let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let backend = backend.or(with).unwrap_or_else(|| BackendChoice::choose(None, None));
        Ok((machine.or(known).unwrap_or_else(own), backend))
    }

    /// The private keys of its links.
    pub fn keys(&self) -> LinkKeys {
        LinkKeys::new(directory(self.record.directory()))
    }

    /// Makes the host as a plan says, with a way back.
    pub fn apply(&self, request: &ApplyRequest<'_>) -> Result<Applied, NetworkError> {
        self.apply_as(request, Authority::Approvals)
    }

    /// Makes the host as its confirmed plan says: what a start of the machine does. Nobody approves
    /// or confirms again what was confirmed. `machine`, `backend`: as last time if not given.
    pub fn start(
        &self,
        machine: Option<&str>,
        backend: Option<BackendChoice>,
        by: &str,
    ) -> Result<Applied, NetworkError> {
        let plan = self.record.confirmed_bytes()?.ok_or(NetworkError::NoPlan)?;
        let host = self.record.host()?.ok_or(NetworkError::NoPlan)?;
        let request = ApplyRequest {
            plan: &plan,
            signed: &[],
            machine: machine.unwrap_or(&host.machine),
            by,
            within: None,
            probes: &[],
            dry_run: false,
            backend: backend.unwrap_or(host.backend),
            site_commit: None,
        };
        self.apply_as(&request, Authority::Confirmed)
    }

    /// The confirmed plan, and who is in charge by it; none: nothing was confirmed here yet.
    pub fn trust(&self) -> Result<Option<(Digest, TrustRoot)>, NetworkError> {
        Ok(self.record.confirmed()?.map(|(digest, plan)| (digest, plan.trust)))
    }

    /// Which machine this host is, and what changes it; none: nothing was confirmed here yet.
    pub fn host(&self) -> Result<Option<HostRecord>, NetworkError> {
        self.record.host()
    }

    pub(super) fn apply_as(
        &self,
        request: &ApplyRequest<'_>,
        authority: Authority,
    ) -> Result<Applied, NetworkError> {
        let done = self.change_as(request, authority);
        if let Err(error) = &done
            && !request.dry_run
            && error.is_refusal()
        {
            // What is refused is refused, whether that can be written down or not.
            let (plan, why) = (Digest::of(request.plan), error.to_string());
            let _ = self.record.spool().refused(plan, request.by, &why, self.first(error));
        }
        done
    }

    /// Who came first, if a change is refused because somebody did.
    fn first(&self, error: &NetworkError) -> Option<NetworkFirst> {
        match error {
            NetworkError::Pending { plan, by, .. } => {
                Some(NetworkFirst { by: by.clone(), plan: *plan })
            }
            NetworkError::Base { base: Some(base), .. } => {
                let last = self.record.last().ok().flatten();
                let last = last.filter(|last| last.plan == *base && last.outcome == CONFIRMED);
                last.map(|last| NetworkFirst { by: last.by, plan: last.plan })
            }
            _ => None,
        }
    }

    fn change_as(
        &self,
        request: &ApplyRequest<'_>,
        authority: Authority,
    ) -> Result<Applied, NetworkError> {
        let plan = Plan::parse(request.plan)?;
        let digest = Digest::of(request.plan);
        let lock = self.record.lock()?;
        self.recover(&lock)?;
        if let Some(waits) = self.record.pending()? {
            let Pending { plan, by, begun, deadline, .. } = waits;
            return Err(NetworkError::Pending { plan, by, begun, deadline });
        }
        let confirmed = self.record.confirmed()?;
        if let Some((_, confirmed)) = &confirmed {
            // Whoever confirmed it may have died before this.
            self.promote_keys(confirmed, request.machine)?;
        }
        let base = confirmed.as_ref().map(|(digest, _)| *digest);
        let approvers = match authority {
            Authority::Approvals => {
                let last = self.record.last()?;
                allowed(&plan, &digest, confirmed.as_ref(), last, request.signed)?
            }
            Authority::Confirmed => {
                newer(&plan, &digest, confirmed.as_ref())?;
                Vec::new()
            }
        };
        let resolve = |endpoint: &str| resolve(endpoint);
        let want = self.over(wanted(&plan, request.machine, &resolve)?, &plan, request.machine)?;
        let keys = self.keys();
        if let Some(machine) = plan.machine(request.machine) {
            keys.check(machine)?;
        }
        let mut backend = request.backend.open();
        able(&*backend, !want.links.is_empty())?;
        let observed = backend.read()?;
        let from = observed.state_for(&want);
        let steps = ops(&from, &want);
        let mut applied = Applied {
            plan: digest,
            base,
            approvers,
            steps: steps.iter().map(ToString::to_string).collect(),
            before: from.digest()?,
            after: want.digest()?,
            uncut: uncut(&*backend, &steps),
            outcome: Outcome::Shown,
        };
        if request.dry_run {
            return Ok(applied);
        }
        undo(&steps, &from).map_err(NetworkError::NoWayBack)?;
        if steps.is_empty() && base == Some(digest) {
            self.keep_approvals(&plan, &digest, base, request.signed)?;
            applied.outcome = Outcome::Nothing;
            return Ok(applied);
        }
        // What comes back is what the plan before wanted of endpoints, not what peers taught.
        let before = match &confirmed {
            Some((_, base)) => wanted(base, request.machine, &resolve).unwrap_or_default(),
            None => State::default(),
        };
        let before = observed.state_for(&before);
        // The approvals first: a plan that is here can be bundled.
        self.keep_approvals(&plan, &digest, base, request.signed)?;
        self.record.keep(&digest, request.plan)?;
        self.record.forget(&lock, &base.into_iter().chain([digest]).collect::<Vec<_>>())?;
        let within = request.within.unwrap_or(PROBE_PATIENCE * 2);
        let (choice, by) = (request.backend.clone(), request.by);
        let met = met(&observed, &want);
        let states = (before, want);
        let mut change =
            pending(digest, base, request.machine, by, within, choice, states).map_err(
                |source| NetworkError::File { path: self.record.directory().to_owned(), source },
            )?;
        change.met = met;
        change.approvers.clone_from(&applied.approvers);
        change.site_commit = request.site_commit.map(str::to_owned);
        self.record.set_pending(&lock, &change)?;
        let timer = match Timer::arm(self.record.directory(), &change) {
            Ok(timer) => timer,
            Err(why) => {
                self.close(&lock, &change, End::Untouched("the timer could not be armed"))?;
                return Err(NetworkError::Timer(why));
            }
        };
        let done = backend.apply(&steps, &keys).map_err(|e| e.to_string());
        let done = done.and_then(|()| self.holds(&change)).and_then(|()| answer(request.probes));
        if let Err(what) = done {
            let back = self.take_back(&lock, &change, &what);
            timer.dismiss();
            return Err(match back {
                Ok(()) => NetworkError::TakenBack { what },
                Err(back) => NetworkError::Stuck { what, back: back.to_string() },
            });
        }
        if request.within.is_none() {
            self.record.confirm(&lock, &change)?;
            self.close(&lock, &change, End::Confirmed("no confirmation was asked for"))?;
            timer.dismiss();
            self.promote_keys(&plan, request.machine)?;
            applied.outcome = Outcome::Confirmed;
            return Ok(applied);
        }
        change.phase = Phase::Waiting;
        self.record.set_pending(&lock, &change)?;
        timer.leave().map_err(NetworkError::Timer)?;
        applied.outcome = Outcome::Waits(change.deadline);
        Ok(applied)
    }

    /// Keeps who approved a plan. Nobody asks who approves the confirmed one again: what comes with it
    /// is kept if it approves it, and only if nothing that does is kept.
    fn keep_approvals(
        &self,
        plan: &Plan,
        digest: &Digest,
        base: Option<Digest>,
        signed: &[Signed],
    ) -> Result<(), NetworkError> {
        if base == Some(*digest) {
            let root = Root::Keys(&plan.trust);
            let count =
                |signed: &[Signed]| approve(plan, digest, root, signed, Timestamp::MIN).is_ok();
            let kept = self.record.approvals(digest)?;
            let kept = kept.and_then(|bytes| Approvals::parse(&bytes).ok());
            if kept.is_some_and(|kept| count(&kept.signed())) || !count(signed) {
                return Ok(());
            }
        }
        self.record.keep_approvals(digest, signed)
    }

    /// Nothing waits: next keys that the confirmed plan names are the links' own from now on.
    fn promote_keys(&self, confirmed: &Plan, machine: &str) -> Result<(), NetworkError> {
        confirmed.machine(machine).map_or(Ok(()), |machine| self.keys().promote(machine))
    }

    /// Keeps the change that waits. `plan`: only if it is this one; if it is in force already, because
    /// who asked did not hear the answer, that is the answer again.
    pub fn confirm(&self, plan: Option<&Digest>) -> Result<Ended, NetworkError> {
        let lock = self.record.lock()?;
        self.recover(&lock)?;
        if let (Some(asked), None) = (plan, self.record.pending()?)
            && let Some((confirmed, of)) = self.record.confirmed()?
            && confirmed == *asked
        {
            return Ok(Ended { plan: confirmed, base: of.parent });
        }
        let change = self.waiting(plan)?;
        // Whoever moved a key and died in between is no reason against this plan.
        self.resume_moves(&change)?;
        self.holds(&change).map_err(|why| NetworkError::Differs(vec![why]))?;
        self.record.confirm(&lock, &change)?;
        self.close(&lock, &change, End::Confirmed("it was confirmed"))?;
        self.promote_keys(&self.record.kept(&change.plan)?, &change.machine)?;
        Ok(Ended { plan: change.plan, base: change.base })
    }

    /// Takes the change back that waits.
    pub fn rollback(&self, plan: Option<&Digest>) -> Result<Ended, NetworkError> {
        let lock = self.record.lock()?;
        self.recover(&lock)?;
        let change = self.waiting(plan)?;
        self.take_back(&lock, &change, "it was asked for")?;
        Ok(Ended { plan: change.plan, base: change.base })
    }

    /// How the host stands to the plan that waits or is confirmed. Nothing is changed, but what was
    /// left in the middle is taken back first.
    pub fn standing(
        &self,
        machine: &str,
        backend: &BackendChoice,
    ) -> Result<Standing, NetworkError> {
        let lock = self.record.lock()?;
        self.recover(&lock)?;
        let (plan, waits, want) = match self.record.pending()? {
            Some(change) => (change.plan, Some(change.deadline), self.goal(&change)?),
            None => {
                let (digest, plan) = self.record.confirmed()?.ok_or(NetworkError::NoPlan)?;
                (digest, None, self.over(wanted(&plan, machine, &resolve)?, &plan, machine)?)
            }
        };
        let mut backend = backend.open();
        let found = backend.read()?.state_for(&want);
        let differences = ops(&found, &want).iter().map(ToString::to_string).collect();
        let (wanted, found) = (want.digest()?, found.digest()?);
        Ok(Standing { plan, waits, wanted, found, differences })
    }

    /// Takes back what a process that died left in the middle, or a timer that died left too long.
    pub(super) fn recover(&self, lock: &Lock) -> Result<(), NetworkError> {
        let Some(change) = self.record.pending()? else { return Ok(()) };
        if self.is_confirmed(&change)? {
            return self.close(lock, &change, End::Confirmed("who made it died after that"));
        }
        if change.is_of_another_boot() {
            // The kernel has forgotten all of it.
            return self.close(lock, &change, End::Forgotten("the machine was started anew"));
        }
        // Whoever takes steps holds the lock, and this process has it.
        let abandoned = change.phase == Phase::Changing;
        if abandoned || change.left().is_zero() {
            let why = if abandoned { "who made it died" } else { "nobody confirmed it" };
            self.take_back(lock, &change, why)?;
        }
        Ok(())
    }

    /// What the timer does when it is time, or when who made the change died.
    pub(super) fn expire(&self, id: &str, why: &str) -> Result<(), NetworkError> {
        let lock = self.record.lock()?;
        match self.record.pending()? {
            Some(change) if change.id == id && self.is_confirmed(&change)? => {
                self.close(&lock, &change, End::Confirmed("who made it died after that"))
            }
            // Its phase is of no matter: whoever made it did not say that all is done, or too much
            // time has passed.
            Some(change) if change.id == id => self.take_back(&lock, &change, why),
            _ => Ok(()),
        }
    }

    /// Whether only the record of a change is left: its plan is the confirmed one, and was not
    /// before.
    fn is_confirmed(&self, change: &Pending) -> Result<bool, NetworkError> {
        let bytes = self.record.confirmed_bytes()?;
        let confirmed = bytes.is_some_and(|bytes| Digest::of(&bytes) == change.plan);
        Ok(confirmed && change.base != Some(change.plan))
    }

    /// Whether a change still waits.
    pub(super) fn is_pending(&self, id: &str) -> bool {
        // What cannot be read is looked at again under the lock.
        self.record.pending().map_or(true, |change| change.is_some_and(|change| change.id == id))
    }

    fn waiting(&self, plan: Option<&Digest>) -> Result<Pending, NetworkError> {
        let Some(change) = self.record.pending()? else {
            let last = self.record.last()?;
            let said = |last: Last| {
                format!(
                    "the last, {}, was {} at {} ({})",
                    last.plan, last.outcome, last.at, last.why
                )
            };
            return Err(NetworkError::Nothing(last.map(said)));
        };
        match plan {
            Some(asked) if *asked != change.plan => {
                Err(NetworkError::OtherPlan { waits: change.plan, asked: *asked })
            }
            _ => Ok(change),
        }
    }

    /// Whether the host is what a change wants; else what is not.
    fn holds(&self, change: &Pending) -> Result<(), String> {
        let found = change.backend.open().read().map_err(|e| e.to_string())?;
        let goal = self.goal(change).map_err(|e| e.to_string())?;
        let left = ops(&found.state_for(&goal), &goal);
        match left.first() {
            None => Ok(()),
            Some(first) => Err(format!("after all steps {} are still to do: {first}", left.len())),
        }
    }

    fn take_back(&self, lock: &Lock, change: &Pending, why: &str) -> Result<(), NetworkError> {
        let mut backend = change.backend.open();
        let mut left = Vec::new();
        let before = self.before(change);
        for attempt in 0..ATTEMPTS {
            let found = backend.read()?.state_for(&before);
            left = ops(&found, &before);
            if left.is_empty() {
                if attempt == 0 {
                    // Whoever died on the way back may have died before its last steps, about
                    // connections: nothing that is read shows whether those were taken.
                    backend.apply(&memory(&change.wanted, &before), &self.keys())?;
                }
                return self.close(lock, change, End::TakenBack(why));
            }
            // Those who come back do not know that they were gone.
            greet(&mut left, &change.met);
            backend.apply(&left, &self.keys())?;
        }
        let found = backend.read()?.state_for(&before);
        if found == before {
            return self.close(lock, change, End::TakenBack(why));
        }
        Err(NetworkError::Differs(left.iter().map(Op::to_string).collect()))
    }

    fn close(&self, lock: &Lock, change: &Pending, end: End<'_>) -> Result<(), NetworkError> {
        let (outcome, why) = end.words();
        let after = match end {
            // What was read back equals it.
            End::Confirmed(_) => Some(self.goal(change)?.digest()?),
            End::TakenBack(_) => Some(self.before(change).digest()?),
            End::Untouched(_) => Some(change.before.digest()?),
            End::Forgotten(_) => None,
        };
        let last = Last {
            plan: change.plan,
            by: change.by.clone(),
            outcome: outcome.word().to_owned(),
            why: why.to_owned(),
            at: Timestamp::now(),
        };
        // Before the change is forgotten: a move that no plan allows any more must not be there when
        // a later plan happens to name the same two keys.
        self.prune_moves(lock, &change.machine)?;
        self.record.spool().changed(change, outcome, why, after)?;
        self.record.end(lock, &last)
    }
}

/// [`Last::outcome`] of a change that was kept.
const CONFIRMED: &str = NetworkOutcome::Confirmed.word();

/// How a change ends, and why.
#[derive(Debug, Clone, Copy)]
enum End<'a> {
    /// Its plan is in force.
    Confirmed(&'a str),
    /// The host is as it was before.
    TakenBack(&'a str),
    /// No step was taken.
    Untouched(&'a str),
    /// The kernel has forgotten what was done.
    Forgotten(&'a str),
}

impl<'a> End<'a> {
    fn words(self) -> (NetworkOutcome, &'a str) {
        match self {
            Self::Confirmed(why) => (NetworkOutcome::Confirmed, why),
            Self::TakenBack(why) | Self::Untouched(why) | Self::Forgotten(why) => {
                (NetworkOutcome::TakenBack, why)
            }
        }
    }
}

/// Who approved a plan over the confirmed one; the confirmed one itself needs nobody again.
fn allowed(
    plan: &Plan,
    digest: &Digest,
    confirmed: Option<&(Digest, Plan)>,
    last: Option<Last>,
    signed: &[Signed],
) -> Result<Vec<String>, NetworkError> {
    let root = match confirmed {
        Some((base, _)) if base == digest => return Ok(Vec::new()),
        Some((base, confirmed)) => {
            if plan.parent != Some(*base) {
                // Only the last change is known; it may have been to another plan, and taken back.
                let first = last.filter(|last| last.plan == *base && last.outcome == CONFIRMED);
                let first = first.map(|last| format!("made by {} at {}", last.by, last.at));
                let (parent, base) = (plan.parent, Some(*base));
                return Err(NetworkError::Base { plan: *digest, parent, base, first });
            }
            Root::Plan(confirmed, *base)
        }
        // The first plan of a host: its own operators, from now on.
        None => Root::Keys(&plan.trust),
    };
    let approved = approve(plan, digest, root, signed, Timestamp::now())?;
    let violations = prove(plan, confirmed.map(|(_, plan)| plan));
    if !violations.is_empty() {
        return Err(NetworkError::Broken(violations));
    }
    Ok(approved.approvers.into_iter().map(|one| one.principal).collect())
}

/// Fails if the host has gone further than a plan that was confirmed elsewhere.
pub(super) fn newer(
    plan: &Plan,
    digest: &Digest,
    confirmed: Option<&(Digest, Plan)>,
) -> Result<(), NetworkError> {
    match confirmed {
        Some((base, confirmed)) if base != digest && plan.epoch <= confirmed.epoch => {
            let (epoch, applied) = (plan.epoch, confirmed.epoch);
            Err(ApprovalError::Replayed { epoch, applied }.into())
        }
        _ => Ok(()),
    }
}

/// Why connections that the steps would cut will live on; none: they are cut, or there are none.
fn uncut(backend: &dyn Backend, steps: &[Op]) -> Option<String> {
    let cuts = steps.iter().any(|op| matches!(op, Op::Cut { .. } | Op::Forget { .. }));
    match cuts.then(|| backend.probe().connections) {
        Some(Ability::Missing(why)) => Some(why),
        _ => None,
    }
}

fn resolve(endpoint: &str) -> Option<SocketAddr> {
    endpoint.to_socket_addrs().ok()?.next()
}

/// Opens a new connection to each; an old one may live on where a new one cannot begin.
fn answer(probes: &[String]) -> Result<(), String> {
    for probe in probes {
        let fail = |why: String| format!("{probe} does not answer: {why}");
        let address = resolve(probe).ok_or_else(|| fail("it has no address".into()))?;
        TcpStream::connect_timeout(&address, PROBE_PATIENCE).map_err(|e| fail(e.to_string()))?;
    }
    Ok(())
}
