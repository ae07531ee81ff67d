//! Deploys: plans that are taken or refused, and how what was taken ended.
//!
//! Invariants:
//! 1. What is refused has changed nothing, and is one event (`deploy.refused`).
//! 2. What was begun ends once (`deploy.ended`), whenever the node is killed. Which plan is in force is what
//!    `plan.json` says, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use vyr_base::Digest;
use vyr_journal::{
    Body, Deploy, DeployBegun, DeployOutcome, DeployPredicate, DeployRefused, DeployRelease,
    DeployStatement, DeployTimings, NetworkNode,
};
use vyr_plan::services::ServicesPlan;
use vyr_service::run::{Order, Outcome, Wanted, What};

use super::accept::{Accepted, DeployRequest, Here, accept};
use super::desk::Deploying;
use super::engine::{EndedDeploy, Engine, Taken, clip};
use super::error::ServicesError;
use super::hands::said;
use super::wanted::wanted;
use crate::data_dir::DataDir;
use crate::network::{Network, random_name};
use crate::node::{append, micros};
use crate::secrets;

/// How long the ingress may take to be told of a plan; as long as a rollout may stand still.
const PUBLISH_MAX: SignedDuration = SignedDuration::from_secs(600);

/// Why deploys end that never came to their end.
const REPLACED: &str = "another plan took its place";
const NEVER_TAKEN: &str = "the node was ended before it had taken the plan";

/// A plan that may be taken.
enum Allowed {
    /// It is the one that is in force.
    Again(Taken),
    /// And what it wants here.
    New(Box<(Accepted, Wanted)>),
}

/// A plan that was not taken.
enum NotTaken {
    /// Nothing has changed.
    Refused(ServicesError),
    /// It was begun, and the journal is told its end.
    Ended(ServicesError),
}

impl From<ServicesError> for NotTaken {
    fn from(error: ServicesError) -> Self {
        Self::Refused(error)
    }
}

impl Engine {
    /// Ends the deploys of an earlier life of the node that are not being carried out any more; whether there
    /// were any.
    pub(super) fn settle_deploys(&mut self) -> bool {
        let Some(mut of) = self.state.deploying.take() else { return false };
        let over = of.over.take().map(|over| *over);
        let in_force = self.state.plan.as_ref().map(|(digest, _)| *digest);
        self.state.deploying = match in_force == Some(of.plan) {
            // Killed before the one that it replaced was ended everywhere, if it replaced one.
            true => {
                self.end_deploy(over, DeployOutcome::Failed, REPLACED);
                Some(of)
            }
            // Killed before it was taken: the other one goes on.
            false => {
                self.end_deploy(Some(of), DeployOutcome::Failed, NEVER_TAKEN);
                over
            }
        };
        // Killed after the journal was told of its end.
        self.state.deploying.take_if(|of| has_ended(&self.data, &of.deploy));
        true
    }

    /// Says how the deploy ended, once it has.
    pub(super) fn finish_deploy(&mut self) {
        let Some(deploying) = self.state.deploying.as_ref() else { return };
        let (outcome, why) = match self.state.run.plan() {
            Some(plan) if plan.digest == deploying.plan => match self.state.run.outcome() {
                Outcome::Rolling => return,
                // The next turn comes after a minute at the latest.
                Outcome::Succeeded if !self.state.run.is_published() => {
                    if Timestamp::now().duration_since(deploying.begun) < PUBLISH_MAX {
                        return;
                    }
                    let is_of_it =
                        |(order, _): &&(Order, String)| matches!(order, Order::Publish { .. });
                    let why = self.state.unable.iter().find(is_of_it).map(|(_, why)| why.as_str());
                    let why = why.unwrap_or("it does not answer");
                    let why = format!("the ingress does not take its ways in: {why}");
                    (DeployOutcome::Failed, why)
                }
                Outcome::Succeeded => {
                    (DeployOutcome::Succeeded, "all it wants is ready".to_owned())
                }
                Outcome::Failed(faults) => {
                    let faults =
                        faults.iter().map(|(service, fault)| format!("{service}: {fault}"));
                    (DeployOutcome::Failed, faults.collect::<Vec<_>>().join("; "))
                }
            },
            // Killed between the plan and the state, which is told of it next.
            _ if self.state.plan.as_ref().is_some_and(|(of, _)| *of == deploying.plan) => return,
            Some(_) => (DeployOutcome::Failed, REPLACED.to_owned()),
            None => return,
        };
        let ended = self.state.deploying.take();
        self.end_deploy(ended, outcome, &why);
    }

    /// Has the journal told how a deploy ended, if there is one.
    fn end_deploy(&mut self, of: Option<Deploying>, outcome: DeployOutcome, why: &str) {
        let Some(of) = of else { return };
        let plan = self.state.plan.as_ref().filter(|(digest, _)| *digest == of.plan);
        let mut releases: Vec<DeployRelease> = plan
            .iter()
            .flat_map(|(_, plan)| &plan.services)
            .map(|entry| DeployRelease {
                image: entry.image,
                release: entry.release.digest(),
                service: entry.name().to_string(),
            })
            .collect();
        // As a statement has them; by digest they would be in any order.
        releases.sort_by(|a, b| a.service.cmp(&b.service));
        let why = clip(why);
        let statement = DeployStatement::of(DeployPredicate {
            deploy: Deploy {
                approvers: of.approvers,
                by: of.by,
                deploy: of.deploy.clone(),
                machine: self.state.name.clone().unwrap_or_default(),
                outcome,
                parent: of.parent,
                plan: of.plan,
                releases,
                timings: DeployTimings {
                    begun: of.begun,
                    ended: micros(Timestamp::now()).max(of.begun),
                },
                why: why.clone(),
            },
            node: NetworkNode { origin: self.origin, version: env!("CARGO_PKG_VERSION").into() },
        });
        self.state.unwritten.push(Body::DeployEnded(Box::new(statement)));
        self.state.ended = Some(EndedDeploy { deploy: of.deploy, outcome, why });
    }

    /// Takes a plan, or says why not.
    pub(super) fn deploy(&mut self, request: &DeployRequest) -> Result<Taken, ServicesError> {
        let taken = match self.allow(request) {
            Ok(Allowed::Again(taken)) => Ok(taken),
            Ok(Allowed::New(new)) => self.begin(request, *new),
            Err(e) => Err(NotTaken::Refused(e)),
        };
        taken.map_err(|not| match not {
            NotTaken::Ended(e) => e,
            NotTaken::Refused(e) => {
                let refused = DeployRefused {
                    by: request.by.clone(),
                    plan: Digest::of(&request.plan),
                    why: clip(&e.to_string()),
                };
                // What is refused is refused, whether that can be written down or not.
                let body = Body::DeployRefused(Box::new(refused));
                if append(&self.data, |_, _| Ok(vec![body])).is_ok()
                    && let Some(node) = self.node.upgrade()
                {
                    node.look();
                }
                e
            }
        })
    }

    /// Whether a plan may be taken. Changes nothing of services.
    fn allow(&mut self, request: &DeployRequest) -> Result<Allowed, ServicesError> {
        if self.state.stuck.is_some() {
            // There may be room by now. If not: what was decided before this is not on the disk, and would be
            // lost behind it.
            self.turn(true);
        }
        if let Some(why) = &self.state.stuck {
            return Err(ServicesError::Stuck(why.clone()));
        }
        let part = |e: &dyn std::fmt::Display| ServicesError::Part(e.to_string());
        let network = Network::open(self.data.path()).map_err(|e| part(&e))?;
        let network = network.trust().map_err(|e| part(&e))?;
        let base = self.state.plan.as_ref().map(|(digest, plan)| (*digest, plan.as_ref().clone()));
        let here = Here {
            base: base.as_ref(),
            network,
            node: self.state.name.as_deref(),
            now: Timestamp::now(),
        };
        let accepted = accept(request, &here)?;
        let Accepted { digest, plan, node, approvers } = &accepted;
        let wanted = wanted(plan, *digest, node)?;
        self.check_secrets(request, plan, node)?;
        // The same plan again: what was given up is tried again by `resume`, not by this.
        if base.as_ref().is_some_and(|(base, _)| base == digest) {
            let deploy = self.state.deploying.as_ref().map(|of| of.deploy.clone());
            let deploy = deploy.or_else(|| self.state.ended.as_ref().map(|of| of.deploy.clone()));
            let deploy = deploy.unwrap_or_default();
            let (node, approvers) = (node.clone(), approvers.clone());
            return Ok(Allowed::Again(Taken { deploy, plan: *digest, node, approvers }));
        }
        Ok(Allowed::New(Box::new((accepted, wanted))))
    }

    /// Takes a plan that may be taken. The order is what `settle_deploys` relies on:
    ///
    /// ```text
    /// secrets, releases   may be of nobody: the next turn removes them
    /// deploy.json         both deploys: the new one, and the one that it is to replace
    /// journal             deploy.begun
    /// node, plan.json     from here on it is taken
    /// journal             deploy.ended of the one that was replaced
    /// state.json          what it wants
    /// deploy.json         the new one alone
    /// ```
    fn begin(
        &mut self,
        request: &DeployRequest,
        (accepted, wanted): (Accepted, Wanted),
    ) -> Result<Taken, NotTaken> {
        let part = |e: &dyn std::error::Error| ServicesError::Part(said(e));
        let Accepted { digest, plan, node, approvers } = accepted;
        let mut deploying = Deploying {
            deploy: random_name().map_err(|e| part(&e))?,
            by: request.by.clone(),
            approvers: approvers.clone(),
            begun: micros(Timestamp::now()),
            parent: plan.parent,
            plan: digest,
            over: self.state.deploying.clone().map(Box::new),
        };
        // Nothing but what the plan names: it was approved, and the rest was not.
        let named = plan.services.iter().filter_map(|entry| entry.secrets);
        for bytes in named.filter_map(|digest| request.sealed.get(&digest)) {
            self.desk.keep_sealed(bytes)?;
        }
        for entry in &plan.services {
            self.desk.keep_release(entry)?;
        }
        self.desk.keep_deploying(Some(&deploying))?;
        let begun = DeployBegun {
            by: deploying.by.clone(),
            deploy: deploying.deploy.clone(),
            parent: deploying.parent,
            plan: digest,
        };
        let body = Body::DeployBegun(Box::new(begun));
        if let Err(e) = append(&self.data, |_, _| Ok(vec![body])) {
            // Should this fail, too, a start of the node ends what it finds.
            let _ = self.desk.keep_deploying(self.state.deploying.as_ref());
            return Err(part(&e).into());
        }
        let over = deploying.over.take().map(|over| *over);
        let kept = self.desk.keep_node(&node).and_then(|()| self.desk.keep_plan(&request.plan));
        // What is there counts: who comes back after a kill sees nothing else.
        let is_there = || matches!(self.desk.plan(), Ok(Some((of, _))) if of == digest);
        if let Err(e) = kept
            && !is_there()
        {
            self.end_deploy(Some(deploying), DeployOutcome::Failed, &said(&e));
            self.turn(true);
            return Err(NotTaken::Ended(e));
        }
        self.end_deploy(over, DeployOutcome::Failed, REPLACED);
        let taken =
            Taken { deploy: deploying.deploy.clone(), plan: digest, node: node.clone(), approvers };
        self.state.name = Some(node);
        self.state.plan = Some((digest, Arc::new(plan)));
        self.state.deploying = Some(deploying);
        self.happened(What::Plan(wanted));
        Ok(taken)
    }

    /// Every service that runs here can be given its secrets.
    fn check_secrets(
        &self,
        request: &DeployRequest,
        plan: &ServicesPlan,
        node: &str,
    ) -> Result<(), ServicesError> {
        let Some(of_node) = plan.node(node) else { return Ok(()) };
        let here: BTreeSet<&str> =
            plan.slots_on(&of_node.name).map(|slot| slot.service.as_str()).collect();
        for entry in &plan.services {
            let service = entry.name().as_str();
            if !here.contains(service) {
                continue;
            }
            let fail = |why: String| ServicesError::Secrets { service: service.to_owned(), why };
            let Some(digest) = entry.secrets else {
                match entry.manifest.secrets.is_empty() {
                    true => continue,
                    false => {
                        return Err(fail("it requires some, and the plan names no file".into()));
                    }
                }
            };
            let sealed = match request.sealed.get(&digest).filter(|of| Digest::of(of) == digest) {
                Some(sealed) => sealed.clone(),
                None => {
                    let kept = self.desk.sealed(&digest)?;
                    kept.ok_or_else(|| fail(format!("the file {digest} was not sent")))?
                }
            };
            let opened = secrets::open(&self.data, &sealed).map_err(|e| fail(e.to_string()))?;
            let missing = opened.missing(&entry.manifest.secrets);
            let missing: Vec<&str> = missing.into_iter().map(|name| name.as_str()).collect();
            if !missing.is_empty() {
                return Err(fail(format!("{} not in the file", missing.join(", "))));
            }
        }
        Ok(())
    }
}

/// Whether the journal has the end of a deploy. Who cannot be asked has not; it is asked again before
/// anything is told to it.
fn has_ended(data: &DataDir, deploy: &str) -> bool {
    let mut found = false;
    let asked = append(data, |reader, _| {
        found = reader.change(deploy)?.is_some();
        Ok(Vec::new())
    });
    asked.is_ok() && found
}
