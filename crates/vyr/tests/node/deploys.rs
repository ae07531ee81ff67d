//! What a node refuses of a deploy, whoever carries the plan: each case with a real signature, on a real
//! node, beside the same plan without its fault, which is taken.

use std::fs;

use jiff::{Timestamp, ToSpan};
use tonic::Code;
use vyr_api::Client;
use vyr_api::operator::deploy_part::Part;
use vyr_api::operator::{Approval, DeployHead};
use vyr_base::Digest;
use vyr_node::secrets::seal;
use vyr_plan::services::{SERVICES_BYTES_MAX, ServicesPlan};
use vyr_service::secret::{SecretValue, Secrets};

use crate::history::History;
use crate::place::{Daemon, Place, block};
use crate::shop::{
    Deploys, ONE, Sent, Shop, applied, approval, approval_in, at_rest, kept, outcome, send,
    services, settled, still,
};

/// Two nodes, neither of which is a machine in particular.
const TWO: &str = r#"version = 1
name = "shop"
prefix = "fd5e:40b1:9c22::/48"
operators = { threshold = 2, from = ["192.0.2.0/24"] }
[nodes.alpha]
memory = "4Gi"
cpu = 2
[nodes.beta]
memory = "4Gi"
cpu = 2
"#;

/// A node, and who sends plans to it.
struct Door<'a> {
    place: &'a Place,
    client: Client,
}

impl<'a> Door<'a> {
    /// Once it has come to rest: it looks for machines of an earlier life, and for an ingress.
    async fn of(place: &'a Place, daemon: &Daemon) -> Self {
        let client = daemon.client().await;
        at_rest(place.data(), 0).await;
        Self { place, client }
    }

    /// It says no in these words, has what it had before, and the journal says so once.
    #[track_caller]
    fn refuses(&mut self, sent: Sent, category: &str, words: &[&str]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let plan = Digest::of(&sent.plan);
            let before = Deploys::of(self.place.data()).refused.len();
            self.says_no(sent.parts(), category, words, caller).await;
            let refused = Deploys::of(self.place.data()).refused;
            assert_eq!(refused.len(), before + 1, "{caller}: {refused:?}");
            let event = &refused[before];
            assert_eq!(event.plan, plan, "{caller}");
            assert!(event.by.starts_with("uid:"), "{caller}: {event:?}");
            assert!(event.why.contains(words[0]), "{caller}: {event:?}");
        }
    }

    /// The same of what is no deploy at all: nobody looks at a plan, so none is refused.
    #[track_caller]
    fn is_no_deploy(&mut self, parts: Vec<Part>, words: &[&str]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let before = Deploys::of(self.place.data()).refused.len();
            self.says_no(parts, "usage", words, caller).await;
            assert_eq!(Deploys::of(self.place.data()).refused.len(), before, "{caller}");
        }
    }

    async fn says_no(
        &mut self,
        parts: Vec<Part>,
        category: &str,
        words: &[&str],
        caller: &std::panic::Location<'_>,
    ) {
        let (files, view) = (kept(self.place.data()), still(services(&mut self.client).await));
        let begun = Deploys::of(self.place.data()).begun.len();
        let Err(refused) = send(&mut self.client, parts).await else {
            panic!("{caller}: it was taken")
        };
        let log = || fs::read_to_string(self.place.path("up.log")).unwrap_or_default();
        assert_eq!(refused.category, category, "{caller}: {refused:?}\n{}", log());
        let code = match category {
            "usage" => Code::InvalidArgument,
            "auth" => Code::PermissionDenied,
            _ => Code::FailedPrecondition,
        };
        assert_eq!((refused.code, refused.retryable), (code, false), "{caller}: {refused:?}");
        let hint = refused.hint.clone().unwrap_or_default();
        for word in words {
            let is_said = refused.message.contains(word) || hint.contains(word);
            assert!(is_said, "{caller}: no {word:?} in {refused:?}");
        }
        assert_eq!(still(services(&mut self.client).await), view, "{caller}");
        assert!(kept(self.place.data()) == files, "{caller}: other files: {files:?}");
        assert_eq!(Deploys::of(self.place.data()).begun.len(), begun, "{caller}");
    }

    /// It takes the plan, and carries it out.
    async fn takes(&mut self, shop: &Shop, plan: &ServicesPlan) -> String {
        let (first, steps) = shop.take(&mut self.client, plan).await;
        assert_eq!(first.plan_digest, plan.digest().expect("one").to_string());
        assert_eq!(first.node, "alpha");
        assert_eq!(first.approvers, ["ana", "ben"]);
        assert_eq!(outcome(steps).await.0, "succeeded");
        first.deploy
    }
}

/// Stops the node; its journal is sound.
async fn is_sound(place: &Place, daemon: Daemon) {
    let node_key = daemon.status().await.node_key;
    assert!(daemon.stop().success());
    History::audited(place.data(), &node_key);
}

/// Approvals that are not enough for a plan, and what is said of them.
fn too_few(shop: &Shop, plan: &ServicesPlan) -> Vec<(Vec<Approval>, &'static [&'static str])> {
    let digest = plan.digest().expect("it has one");
    let hour = Timestamp::now() + 1.hour();
    let [ana, ben, eve] = [&shop.ana, &shop.ben, &shop.eve].map(|key| shop.approval(key, digest));
    let old = approval(&shop.ben, digest, Timestamp::now() - 1.second());
    let other = approval(&shop.ben, Digest::of(b"another plan"), hour);
    let artifact = approval_in("vyr-artifact", &shop.ben, digest, hour);
    let mut later = old.clone();
    later.text = approval(&shop.ben, digest, hour).text;
    let mut flipped = ben.clone();
    flipped.text = approval(&shop.ana, digest, hour + 1.minute()).text;
    vec![
        (vec![], &["0 of 2 needed operators", "let another operator run `vyr plan sign`"]),
        (vec![ana.clone()], &["1 of 2 needed operators"]),
        (vec![ana.clone(), ana.clone()], &["1 of 2 needed operators"]),
        (vec![ana.clone(), eve.clone()], &["1 of 2 needed operators", "approval 2"]),
        (vec![eve.clone(), eve], &["0 of 2 needed operators"]),
        (vec![ana.clone(), old], &["1 of 2 needed operators", "it ended at"]),
        (vec![ana.clone(), later], &["1 of 2 needed operators"]),
        (vec![ana.clone(), other], &["1 of 2 needed operators", "it approves another plan"]),
        (vec![ana.clone(), artifact], &["1 of 2 needed operators"]),
        (vec![ana, flipped], &["1 of 2 needed operators"]),
    ]
}

#[test]
fn only_those_in_charge_have_a_plan_taken() {
    let (place, shop) = (Place::new(), Shop::new());
    block(async {
        let daemon = place.ready().await;
        let mut door = Door::of(&place, &daemon).await;
        let first = shop.plan(ONE, &shop.web(0, 1), None);
        for (approvals, words) in too_few(&shop, &first) {
            door.refuses(Sent { approvals, ..Sent::of(&first) }, "auth", words).await;
        }
        assert_eq!(settled_plan(&daemon).await, "", "it never had one");
        door.takes(&shop, &first).await;

        // Over another plan it is that one which says who is in charge.
        let over = applied(&first);
        let second = shop.plan(ONE, &shop.web(0, 2), Some(&over));
        for (approvals, words) in too_few(&shop, &second) {
            door.refuses(Sent { approvals, ..Sent::of(&second) }, "auth", words).await;
        }
        // Strangers do not make themselves operators, and operators do not make strangers some.
        let strangers = Shop::new();
        let theirs = strangers.plan(ONE, &shop.web(0, 2), Some(&over));
        let few = &["0 of 2 needed operators"];
        door.refuses(strangers.approved(&theirs), "auth", few).await;
        let few = &["0 of 2 of the operators to come", "the old ones' and the new ones' consent"];
        door.refuses(shop.approved(&theirs), "auth", few).await;
        door.takes(&shop, &second).await;
        is_sound(&place, daemon).await;
    });
}

async fn settled_plan(daemon: &Daemon) -> String {
    services(&mut daemon.client().await).await.plan_digest
}

#[test]
fn a_plan_over_another_one_than_the_nodes_is_refused() {
    let (place, shop) = (Place::new(), Shop::new());
    block(async {
        let daemon = place.ready().await;
        let mut door = Door::of(&place, &daemon).await;
        let plan = |web: &str, over: &ServicesPlan| shop.plan(ONE, web, Some(&applied(over)));
        let none = shop.web(0, 1);
        let first = shop.plan(ONE, &none, None);
        // A node without any has none to be replaced.
        let lost = plan(&shop.web(0, 9), &first);
        let words = &["and the node has none", "get the site's newest state, then: vyr lock"];
        door.refuses(shop.approved(&lost), "conflict", words).await;
        door.takes(&shop, &first).await;
        let second = plan(&shop.web(0, 2), &first);
        door.takes(&shop, &second).await;

        let older = &["has epoch 1, and 2 is applied", "vyr lock"];
        door.refuses(shop.approved(&first), "conflict", older).await;
        // Somebody else's second plan, and what somebody made over it.
        let side = plan(&shop.web(0, 3), &first);
        let same = &["has epoch 2, and 2 is applied"];
        door.refuses(shop.approved(&side), "conflict", same).await;
        let over_side = plan(&shop.web(0, 4), &side);
        let other = format!("the plan was made over {}", side.digest().expect("one"));
        door.refuses(shop.approved(&over_side), "conflict", &[&other]).await;
        let mut orphan = plan(&shop.web(0, 5), &second);
        orphan.parent = None;
        let words = &["the plan was made over no plan"];
        door.refuses(shop.approved(&orphan), "conflict", words).await;

        // Once more the one that is in force: nothing begins, and nobody need approve it again.
        let begun = Deploys::of(place.data()).begun.len();
        let (again, steps) = Sent::of(&second).to(&mut door.client).await.expect("it is taken");
        assert_eq!(again.approvers, Vec::<String>::new());
        assert_eq!(outcome(steps).await.0, "succeeded");
        assert_eq!(Deploys::of(place.data()).begun.len(), begun);
        door.takes(&shop, &plan(&shop.web(0, 6), &second)).await;
        is_sound(&place, daemon).await;
    });
}

#[test]
fn a_plan_that_does_not_fit_this_node_is_refused() {
    let (place, shop) = (Place::new(), Shop::new());
    block(async {
        let daemon = place.ready().await;
        let mut door = Door::of(&place, &daemon).await;
        let as_node =
            |plan: &ServicesPlan, node: &str| Sent { node: node.to_owned(), ..shop.approved(plan) };
        // Whose name nobody said.
        let two = shop.plan(TWO, &shop.web(0, 1), None);
        let words = &["which node of the plan is this: alpha, beta?", "vyr deploy --as NAME"];
        door.refuses(shop.approved(&two), "usage", words).await;
        let words = &["the plan has no node gamma, but alpha, beta"];
        door.refuses(as_node(&two, "gamma"), "usage", words).await;
        // A network that this host does not have.
        let network = Digest::of(b"a network");
        let without = shop.plan_with(ONE, &shop.web(0, 1), None, (Some(network), None));
        let wanted = format!("the plan needs the network plan {network}, and this host has none");
        let words = &[&*wanted, "apply that network plan first"];
        door.refuses(shop.approved(&without), "conflict", words).await;
        // More memory than there is, whoever approved it.
        let mut broken = shop.plan(ONE, &shop.web(2, 1), None);
        broken.nodes[0].memory_bytes = 256 << 20;
        door.refuses(
            shop.approved(&broken),
            "usage",
            &["the plan breaks S03", "vyr plan services"],
        )
        .await;

        let (first, steps) = as_node(&two, "alpha").to(&mut door.client).await.expect("taken");
        assert_eq!((first.node.as_str(), outcome(steps).await.0.as_str()), ("alpha", "succeeded"));
        // From now on it is alpha, and nobody else.
        let over = applied(&two);
        let next = shop.plan(TWO, &shop.web(0, 2), Some(&over));
        let words = &["this node is alpha, not beta"];
        door.refuses(as_node(&next, "beta"), "usage", words).await;
        let without =
            shop.plan(&TWO.replace("nodes.alpha", "nodes.gamma"), &shop.web(0, 2), Some(&over));
        let words = &["the plan has no node alpha, but beta, gamma"];
        door.refuses(shop.approved(&without), "usage", words).await;
        door.takes(&shop, &next).await;
        is_sound(&place, daemon).await;
    });
}

#[test]
fn a_host_with_a_network_takes_plans_over_it_by_its_operators() {
    let (place, shop) = (Place::new(), Shop::new());
    let network = shop.network();
    let digest = network.digest().expect("it has one");
    let directory = place.data().join("network");
    fs::create_dir_all(&directory).expect("room");
    fs::write(directory.join("plan.json"), network.to_bytes().expect("a plan")).expect("room");
    block(async {
        let daemon = place.ready().await;
        let mut door = Door::of(&place, &daemon).await;
        let plan = |shop: &Shop, network| {
            shop.plan_with(ONE, &shop.web(0, 1), None, (Some(network), None))
        };
        let other = Digest::of(b"another network");
        let words = format!("and this host has {digest}");
        door.refuses(shop.approved(&plan(&shop, other)), "conflict", &[&words]).await;
        // Its first services plan is no way around those who have the network.
        let strangers = Shop::new();
        let theirs = plan(&strangers, digest);
        let few = &["0 of 2 needed operators"];
        door.refuses(strangers.approved(&theirs), "auth", few).await;
        door.takes(&shop, &plan(&shop, digest)).await;
        is_sound(&place, daemon).await;
    });
}

/// Secrets of these names for who has this key.
fn sealed(names: &[&str], recipient: &str) -> Vec<u8> {
    let mut secrets = Secrets::new();
    for name in names {
        let value = SecretValue::new(b"a value".to_vec().into()).expect("short");
        secrets.set(name.parse().expect("a name"), value).expect("few");
    }
    seal(&secrets, [recipient]).expect("a recipient")
}

#[test]
fn a_plan_whose_secrets_the_node_cannot_give_is_refused() {
    let (place, shop) = (Place::new(), Shop::new());
    let node = place.vyr(&["node", "key", "--secrets"]);
    let stranger = age::x25519::Identity::generate().to_public().to_string();
    block(async {
        let daemon = place.ready().await;
        let mut door = Door::of(&place, &daemon).await;
        let web = shop.web_with(1, 1, "required = [\"TOKEN\", \"URL\"]");
        let plan = |file: &[u8]| shop.plan_with(ONE, &web, None, (None, Some(Digest::of(file))));
        let sent = |named: &[u8], sealed: &[&[u8]]| {
            let sealed = sealed.iter().map(|of| of.to_vec()).collect();
            Sent { sealed, ..shop.approved(&plan(named)) }
        };
        let good = sealed(&["TOKEN", "URL"], &node);
        let words = &["secrets of web: the file sha256:", "was not sent", "vyr secret set"];
        door.refuses(sent(&good, &[]), "usage", words).await;
        let other = sealed(&["TOKEN", "URL"], &node);
        door.refuses(sent(&good, &[&other]), "usage", words).await;
        for (file, words) in [
            (sealed(&["TOKEN", "URL"], &stranger), &["secrets of web: no key of", "opens"][..]),
            (sealed(&["TOKEN"], &node), &["secrets of web: URL not in the file"]),
            (sealed(&[], &node), &["secrets of web: TOKEN, URL not in the file"]),
            (b"no secrets".to_vec(), &["secrets of web: the secrets cannot be decrypted"]),
            (good[..good.len() - 1].to_vec(), &["secrets of web: the secrets cannot be"]),
            (vec![b'x'; 512 << 10], &["secrets of web: the file of secrets has more than"]),
        ] {
            door.refuses(sent(&file, &[&file]), "usage", words).await;
        }
        // A plan that names no file of a service which requires some, whoever approved it.
        let mut none = plan(&good);
        none.services[0].secrets = None;
        door.refuses(shop.approved(&none), "usage", &["the plan breaks S11"]).await;

        let (first, _) = sent(&good, &[&other, &good]).to(&mut door.client).await.expect("taken");
        assert_eq!(first.plan_digest, plan(&good).digest().expect("one").to_string());
        // Nothing is kept but what the plan names.
        let files = kept(place.data());
        let secrets: Vec<&Vec<u8>> = files
            .iter()
            .filter_map(|(path, bytes)| {
                path.parent().is_some_and(|of| of.ends_with("secrets")).then_some(bytes)
            })
            .collect();
        assert_eq!(secrets, [&good]);
        is_sound(&place, daemon).await;
    });
}

#[test]
fn what_is_no_plan_or_no_deploy_is_refused() {
    let (place, shop) = (Place::new(), Shop::new());
    block(async {
        let daemon = place.ready().await;
        let mut door = Door::of(&place, &daemon).await;
        let plan = shop.plan(ONE, &shop.web(0, 1), None);
        let good = shop.approved(&plan);
        let body = |plan: &[u8]| Sent { plan: plan.to_vec(), ..good.clone() };
        let pretty: serde_json::Value = serde_json::from_slice(&good.plan).expect("JSON");
        let pretty = serde_json::to_vec_pretty(&pretty).expect("JSON");
        let text = String::from_utf8(good.plan.clone()).expect("UTF-8");
        let more = text.replacen('{', "{\"also\":1,", 1);
        let version = text.replace("\"version\":1}", "\"version\":2}");
        assert_ne!(version, text);
        for bytes in [
            &b""[..],
            b"{}",
            b"no plan",
            &good.plan[..good.plan.len() / 2],
            &good.plan[..good.plan.len() - 1],
            &pretty,
            more.as_bytes(),
            &[&good.plan[..], b"\n"].concat(),
            &[0xff; 4096],
            &vec![b'['; SERVICES_BYTES_MAX],
        ] {
            door.refuses(body(bytes), "usage", &["plan"]).await;
        }
        door.refuses(body(version.as_bytes()), "usage", &["version 2"]).await;
        let network = shop.network().to_bytes().expect("a plan");
        door.refuses(body(&network), "usage", &["of the network kind"]).await;

        let head = || Part::Head(DeployHead { node: String::new(), approvals: Vec::new() });
        let piece = || Part::Plan(good.plan.clone().into());
        let long = body(&vec![b' '; SERVICES_BYTES_MAX + 1]).parts();
        door.is_no_deploy(long, &["longer than a services plan may be"]).await;
        door.is_no_deploy(vec![], &["a deploy begins with its head"]).await;
        door.is_no_deploy(vec![piece()], &["a deploy begins with its head"]).await;
        door.is_no_deploy(vec![head(), head(), piece()], &["its head, which comes once"]).await;
        let many = vec![good.approvals[0].clone(); 257];
        let many = Sent { approvals: many, ..good.clone() };
        door.is_no_deploy(many.parts(), &["at most 256 approvals"]).await;
        let files = Sent { sealed: vec![vec![0; 1 << 20]; 65], ..good.clone() };
        door.is_no_deploy(files.parts(), &["files of secrets are too large"]).await;

        door.takes(&shop, &plan).await;
        settled(&daemon).await;
        is_sound(&place, daemon).await;
    });
}
