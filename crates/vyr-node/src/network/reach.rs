//! A host whose network is asked: this one, or one elsewhere. Commands know no other way.
//!
//! Invariant: an answer is about what was asked. Who answers may be anybody who was let in there, and
//! what a site counts as applied is decided by the answer.

use vyr_base::Digest;
use vyr_net::words::{
    Answer, Applied, Apply, BackendWish, Outcome, Request, Standing, Takeover, WordsError,
};
use vyr_plan::intent::Key;

use super::ssh::{Ssh, SshError};
use super::{Network, perform};
use crate::Result;

/// Where a host is.
#[derive(Debug)]
pub enum Host {
    /// Here: in this process.
    Here(Network),
    /// Here: by the node that runs on its data directory.
    Node(Box<dyn Asks>),
    /// Behind a connection; a new one for each question.
    Ssh(Ssh),
}

/// The plan of a change that has ended, and the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its plan.
    pub plan: Digest,
    /// The plan before it.
    pub base: Option<Digest>,
}

/// A link's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkKey {
    /// The public half.
    pub public_key: Key,
    /// Whether the private one was made now.
    pub new: bool,
    /// Where that lies on the host.
    pub directory: std::path::PathBuf,
}

/// A way to ask the node of this host.
pub trait Asks: std::fmt::Debug + Send + Sync {
    /// Asks, and waits for the answer; what the host refuses is an error.
    fn ask(&self, request: &Request) -> Result<Answer>;
}

impl Host {
    /// Asks, and waits for the answer; what the host refuses is an error.
    pub fn ask(&self, request: Request) -> Result<Answer> {
        match self {
            Self::Here(network) => Ok(perform(network, request)?),
            Self::Node(node) => node.ask(&request),
            Self::Ssh(ssh) => Ok(ssh.ask(&request)?),
        }
    }

    /// Makes the host as a plan says.
    pub fn apply(&self, apply: Apply) -> Result<Applied> {
        let asked = AskedOf::new(&apply);
        match self.ask(Request::Apply(apply))? {
            Answer::Applied(applied) if asked.fits(&applied) => Ok(applied),
            _ => Err(other()),
        }
    }

    /// Keeps the change that waits. `plan`: only if it is this one.
    pub fn confirm(&self, plan: Option<Digest>) -> Result<Ended> {
        ended(plan, self.ask(Request::Confirm { plan })?)
    }

    /// Takes the change back that waits. `plan`: only if it is this one.
    pub fn rollback(&self, plan: Option<Digest>) -> Result<Ended> {
        ended(plan, self.ask(Request::Rollback { plan })?)
    }

    /// How it stands to its plan. `machine`: its name there; none: its host name.
    pub fn standing(&self, machine: Option<String>, backend: BackendWish) -> Result<Standing> {
        match self.ask(Request::Standing { machine, backend })? {
            Answer::Standing(standing) => Ok(standing),
            _ => Err(other()),
        }
    }

    /// How far the keys are that take over on it. `machine`: its name in the plan; none: its host
    /// name.
    pub fn takeovers(
        &self,
        machine: Option<String>,
        backend: BackendWish,
    ) -> Result<Vec<Takeover>> {
        match self.ask(Request::Takeovers { machine, backend })? {
            Answer::Takeovers(takeovers) => Ok(takeovers),
            _ => Err(other()),
        }
    }

    /// The public key of a link of it, made if there is none.
    pub fn link_key(&self, link: String, next: bool) -> Result<LinkKey> {
        match self.ask(Request::LinkKey { link, next })? {
            Answer::LinkKey { public_key, new, directory } => {
                Ok(LinkKey { public_key, new, directory })
            }
            _ => Err(other()),
        }
    }
}

/// What an answer to [`Apply`] must fit.
#[derive(Debug, Clone)]
struct AskedOf {
    plan: Digest,
    machine: Option<String>,
    dry_run: bool,
    waits: bool,
}

impl AskedOf {
    fn new(apply: &Apply) -> Self {
        Self {
            plan: Digest::of(&apply.plan.0),
            machine: apply.machine.clone(),
            dry_run: apply.dry_run,
            waits: apply.within_ms.is_some(),
        }
    }

    fn fits(&self, applied: &Applied) -> bool {
        let outcome = match applied.outcome {
            Outcome::Shown => self.dry_run,
            Outcome::Nothing => !self.dry_run && applied.steps.is_empty(),
            Outcome::Waits => !self.dry_run && self.waits,
            Outcome::Confirmed => !self.dry_run && !self.waits,
        };
        outcome
            && applied.plan == self.plan
            && self.machine.as_ref().is_none_or(|machine| *machine == applied.machine)
            && applied.deadline.is_some() == (applied.outcome == Outcome::Waits)
    }
}

/// The end of a change, if it is of the plan that was asked for.
fn ended(asked: Option<Digest>, answer: Answer) -> Result<Ended> {
    match answer {
        Answer::Ended { plan, base } if asked.is_none_or(|asked| asked == plan) => {
            Ok(Ended { plan, base })
        }
        _ => Err(other()),
    }
}

/// A host that answers something else is as strange as one that says what no host says.
fn other() -> crate::Report {
    SshError::from(WordsError::Form("it answers another question".into())).into()
}

#[cfg(test)]
mod tests {
    use vyr_net::words::Bytes;

    use super::*;

    #[test]
    fn an_answer_that_fits_no_question_is_refused() {
        let plan = Digest::of(b"{}");
        let asked = |within_ms, dry_run| {
            AskedOf::new(&Apply {
                plan: Bytes(b"{}".to_vec()),
                approvals: Vec::new(),
                machine: Some("nas".into()),
                by: "ana".into(),
                within_ms,
                probes: Vec::new(),
                dry_run,
                backend: BackendWish::default(),
                site_commit: None,
            })
        };
        let answer = |outcome| Applied {
            plan,
            base: None,
            machine: "nas".into(),
            approvers: Vec::new(),
            steps: Vec::new(),
            before: plan,
            after: plan,
            uncut: None,
            outcome,
            deadline: (outcome == Outcome::Waits).then(jiff::Timestamp::now),
        };
        let all = [Outcome::Nothing, Outcome::Shown, Outcome::Waits, Outcome::Confirmed];
        for (asked, good) in [
            (asked(Some(1), false), vec![Outcome::Nothing, Outcome::Waits]),
            (asked(None, false), vec![Outcome::Nothing, Outcome::Confirmed]),
            (asked(Some(1), true), vec![Outcome::Shown]),
            (asked(None, true), vec![Outcome::Shown]),
        ] {
            let fits: Vec<Outcome> =
                all.into_iter().filter(|outcome| asked.fits(&answer(*outcome))).collect();
            assert_eq!(fits, good, "{asked:?}");
            let right = answer(good[0]);
            assert!(!asked.fits(&Applied { plan: Digest::of(b"x"), ..right.clone() }));
            assert!(!asked.fits(&Applied { machine: "tv".into(), ..right.clone() }));
            let turned = right.deadline.xor(Some(jiff::Timestamp::now()));
            assert!(!asked.fits(&Applied { deadline: turned, ..right }));
        }
        let steps = vec!["add".into()];
        assert!(!asked(None, false).fits(&Applied { steps, ..answer(Outcome::Nothing) }));
    }

    #[test]
    fn the_end_of_another_change_is_none() {
        let (plan, other) = (Digest::of(b""), Digest::of(b"x"));
        let answer = || Answer::Ended { plan, base: None };
        assert!(ended(None, answer()).is_ok() && ended(Some(plan), answer()).is_ok());
        assert!(ended(Some(other), answer()).is_err());
    }
}
