//! Services plans for a node: compiled from texts, approved with SSH keys, sent by a client that is none
//! of ours; and what a node has of services.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};
use tonic::Streaming;
use vyr_api::operator::deploy_part::Part;
use vyr_api::operator::{
    Approval, DeployHead, DeployPart, DeployStep, GetServicesRequest, Services,
};
use vyr_api::{ApiError, Client};
use vyr_base::{Digest, Source};
use vyr_journal::{Body, Deploy, DeployRefused, Event};
use vyr_journal_sql::Reader;
use vyr_plan::services::{ServicesPlan, Update, allocate_services, compile_services, unpinned};
use vyr_plan::{Applied, Files, Lock, Plan, allocate, compile};

use crate::place::{Daemon, in_time, until};

/// Bytes of a plan in one message.
const PIECE: usize = 1 << 20;

/// One node; two sign.
pub(crate) const ONE: &str = r#"version = 1
name = "shop"
prefix = "fd5e:40b1:9c22::/48"
operators = { threshold = 2, from = ["192.0.2.0/24"] }
[nodes.alpha]
memory = "4Gi"
cpu = 2
"#;

/// The operators `ana` and `ben`, and `eve`, who is none.
pub(crate) struct Shop {
    pub(crate) ana: PrivateKey,
    pub(crate) ben: PrivateKey,
    pub(crate) eve: PrivateKey,
    /// Takes connections and never answers: an image of it is pulled until somebody else ends that.
    registry: Option<(TcpListener, RefCell<Vec<TcpStream>>)>,
    address: String,
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("a key")
}

fn line(name: &str, key: &PrivateKey) -> String {
    let key = key.public_key().to_openssh().expect("a public key");
    format!("{name} namespaces=\"vyr-plan\" {key}\n")
}

fn said<T>(faults: Vec<impl ToString>) -> T {
    panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

impl Shop {
    pub(crate) fn new() -> Self {
        let registry = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = registry.local_addr().expect("bound").to_string();
        registry.set_nonblocking(true).expect("a socket");
        let registry = Some((registry, RefCell::default()));
        Self { ana: new_key(), ben: new_key(), eve: new_key(), registry, address }
    }

    /// The service `web` with so many instances of an image; each number is another release.
    pub(crate) fn web(&self, instances: u8, image: u8) -> String {
        self.web_with(instances, image, "none = true")
    }

    /// The same with other words of its secrets.
    pub(crate) fn web_with(&self, instances: u8, image: u8, secrets: &str) -> String {
        let digest = Digest::of(&[image]);
        format!(
            "version = 1\nimage.ref = \"{}/team/web@{digest}\"\n[processes.http]\n\
             scale.min = {instances}\nresources = {{ memory = \"128Mi\" }}\n\
             restart = {{ backoff_seconds = 1 }}\n[secrets]\n{secrets}\n",
            self.address
        )
    }

    /// The connections to the registry so far. None of them is answered.
    pub(crate) fn asked(&self) -> usize {
        let (registry, held) = self.registry.as_ref().expect("it is there");
        let mut held = held.borrow_mut();
        while let Ok((stream, _)) = registry.accept() {
            held.push(stream);
        }
        held.len()
    }

    /// The registry is not there any more: who waits for it is told, and who asks again too.
    pub(crate) fn close(&mut self) {
        self.registry = None;
    }

    /// Who may sign.
    pub(crate) fn signers(&self) -> String {
        line("ana", &self.ana) + &line("ben", &self.ben)
    }

    /// The plan of a site with the service `web`, over the one that is applied.
    pub(crate) fn plan(
        &self,
        site: &str,
        web: &str,
        applied: Option<&Applied<ServicesPlan>>,
    ) -> ServicesPlan {
        self.plan_with(site, web, applied, (None, None))
    }

    /// The same with the digests of a network and of secrets.
    pub(crate) fn plan_with(
        &self,
        site: &str,
        web: &str,
        applied: Option<&Applied<ServicesPlan>>,
        (network, secrets): (Option<Digest>, Option<Digest>),
    ) -> ServicesPlan {
        let files = Files {
            signers: Some(Source::new("operators.allowed_signers", self.signers())),
            services: vec![Source::new("services/web.toml", web)],
            secrets: secrets.map(|digest| ("web".to_owned(), digest)).into_iter().collect(),
            ..Files::new(Source::new("site.toml", site))
        };
        let intent = files.read().unwrap_or_else(said);
        assert!(unpinned(&intent, &Lock::default(), Update::None).is_empty(), "named by digest");
        let lock = allocate_services(&intent, &Lock::default(), applied).expect("there is room");
        compile_services(&intent, &lock, applied, network).unwrap_or_else(said)
    }

    /// A network plan whose operators are the same.
    pub(crate) fn network(&self) -> Plan {
        let source = |name: &str, text: &str| Source::new(name, text);
        let site = include_str!("../../../../examples/office/site.toml");
        let clients = include_str!("../../../../examples/office/clients.toml");
        let files = Files {
            clients: Some(source("clients.toml", clients)),
            signers: Some(source("operators.allowed_signers", &self.signers())),
            ..Files::new(source("site.toml", site))
        };
        let intent = files.read().unwrap_or_else(said);
        let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
        compile(&intent, &lock).unwrap_or_else(said)
    }

    /// What an operator signs, for an hour.
    pub(crate) fn approval(&self, key: &PrivateKey, plan: Digest) -> Approval {
        approval(key, plan, Timestamp::now() + 1.hour())
    }

    /// As those in charge want it.
    pub(crate) fn approved(&self, plan: &ServicesPlan) -> Sent {
        let digest = plan.digest().expect("it has one");
        let approvals = [&self.ana, &self.ben].map(|key| self.approval(key, digest)).to_vec();
        Sent { approvals, ..Sent::of(plan) }
    }

    /// Deploys what has to be taken; its first step, and those to come.
    pub(crate) async fn take(
        &self,
        client: &mut Client,
        plan: &ServicesPlan,
    ) -> (DeployStep, Streaming<DeployStep>) {
        self.approved(plan).to(client).await.unwrap_or_else(|e| panic!("{e:?}"))
    }
}

/// What an operator signs, until then.
pub(crate) fn approval(key: &PrivateKey, plan: Digest, expires: Timestamp) -> Approval {
    approval_in("vyr-plan", key, plan, expires)
}

/// The same in another namespace.
pub(crate) fn approval_in(
    namespace: &str,
    key: &PrivateKey,
    plan: Digest,
    expires: Timestamp,
) -> Approval {
    let text = vyr_plan::Approval { plan, expires }.to_text();
    let signature = key.sign(namespace, HashAlg::Sha512, text.as_bytes()).expect("signed");
    let signature = signature.to_pem(LineEnding::LF).expect("armor");
    Approval { text: text.into_bytes().into(), signature: signature.into_bytes().into() }
}

/// A plan as the next one's parent.
pub(crate) fn applied(plan: &ServicesPlan) -> Applied<ServicesPlan> {
    Applied { digest: plan.digest().expect("it has one"), plan: plan.clone() }
}

/// A deploy as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) node: String,
    pub(crate) approvals: Vec<Approval>,
    pub(crate) plan: Vec<u8>,
    pub(crate) sealed: Vec<Vec<u8>>,
}

impl Sent {
    /// A plan that nobody approved.
    pub(crate) fn of(plan: &ServicesPlan) -> Self {
        let plan = plan.to_bytes().expect("a plan");
        Self { node: String::new(), approvals: Vec::new(), plan, sealed: Vec::new() }
    }

    pub(crate) fn parts(self) -> Vec<Part> {
        let head = DeployHead { node: self.node, approvals: self.approvals };
        let pieces = self.plan.chunks(PIECE).map(|piece| Part::Plan(piece.to_vec().into()));
        let sealed = self.sealed.into_iter().map(|bytes| Part::Sealed(bytes.into()));
        [Part::Head(head)].into_iter().chain(pieces).chain(sealed).collect()
    }

    /// Sends it; the first step of a plan that was taken, and those to come.
    pub(crate) async fn to(
        self,
        client: &mut Client,
    ) -> Result<(DeployStep, Streaming<DeployStep>), ApiError> {
        send(client, self.parts()).await
    }
}

/// Sends parts, whatever they are.
pub(crate) async fn send(
    client: &mut Client,
    parts: Vec<Part>,
) -> Result<(DeployStep, Streaming<DeployStep>), ApiError> {
    let parts = parts.into_iter().map(|part| DeployPart { part: Some(part) });
    let parts = tokio_stream::iter(parts.collect::<Vec<_>>());
    let answer = in_time("an answer", client.operator.deploy(parts)).await;
    let mut steps = answer.map_err(ApiError::from)?.into_inner();
    let first = in_time("a step", steps.message()).await.map_err(ApiError::from)?;
    Ok((first.expect("a deploy that was taken says so"), steps))
}

/// How a deploy ended: its outcome, and why.
pub(crate) async fn outcome(mut steps: Streaming<DeployStep>) -> (String, String) {
    in_time("the end of a deploy", async {
        while let Some(step) = steps.message().await.expect("the node is there") {
            if !step.outcome.is_empty() {
                return (step.outcome, step.why);
            }
        }
        panic!("the node hung up before the deploy had ended")
    })
    .await
}

/// What `vyr ps` is told.
pub(crate) async fn services(client: &mut Client) -> Services {
    let told = in_time("services", client.operator.get_services(GetServicesRequest {})).await;
    told.expect("the node is there").into_inner()
}

/// The same without the time and without what is stuck.
pub(crate) fn still(services: Services) -> Services {
    Services { now_ms: 0, stuck: String::new(), ..services }
}

/// What it says once nothing of the plan is on its way any more.
pub(crate) async fn settled(daemon: &Daemon) -> Services {
    let mut client = daemon.client().await;
    until("a deploy that ends", async || {
        let told = services(&mut client).await;
        (told.deploying.is_empty() && !told.plan_digest.is_empty()).then_some(told)
    })
    .await
}

/// The set of backends that the node's ingress was told of last.
pub(crate) fn published(data: &Path) -> Option<u64> {
    let state = fs::read(data.join("services/state.json")).ok()?;
    let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
    let told = state["served"]["generation"].as_u64()?;
    (state["serving"]["generation"] == told).then_some(told)
}

/// Waits until a node that was started has come to rest: it looks for machines of an earlier life, and for
/// an ingress, which it tells of another set than `before`.
pub(crate) async fn at_rest(data: &Path, before: u64) {
    until("a node at rest", async || published(data).filter(|told| *told > before)).await;
}

/// What the node keeps of its services, by name.
pub(crate) fn kept(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![data.join("services")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => drop(found.insert(path.clone(), fs::read(&path).expect("a file"))),
            }
        }
    }
    found
}

/// What a journal says of deploys.
#[derive(Debug, Default)]
pub(crate) struct Deploys {
    /// Names of those that began.
    pub(crate) begun: Vec<String>,
    pub(crate) ended: Vec<Deploy>,
    pub(crate) refused: Vec<DeployRefused>,
}

impl Deploys {
    pub(crate) fn of(data: &Path) -> Self {
        let reader = Reader::open(&data.join("node/journal.db")).expect("a journal");
        let mut all = Self::default();
        for row in reader.rows(0, u64::from(u32::MAX)).expect("rows") {
            let event = Event::from_leaf(row.leaf.as_deref().expect("nothing is sealed here"));
            match event.expect("an event").body {
                Body::DeployBegun(begun) => all.begun.push(begun.deploy.clone()),
                Body::DeployEnded(statement) => all.ended.push(statement.predicate.deploy.clone()),
                Body::DeployRefused(refused) => all.refused.push(*refused),
                _ => {}
            }
        }
        all
    }

    /// How one ended; it did once.
    #[track_caller]
    pub(crate) fn end(&self, deploy: &str) -> (&'static str, &str) {
        let ends: Vec<&Deploy> = self.ended.iter().filter(|of| of.deploy == deploy).collect();
        assert_eq!(ends.len(), 1, "{deploy} has so many ends: {self:?}");
        (ends[0].outcome.word(), &ends[0].why)
    }

    /// Whether it has not ended.
    pub(crate) fn is_open(&self, deploy: &str) -> bool {
        self.ended.iter().all(|of| of.deploy != deploy)
    }
}
