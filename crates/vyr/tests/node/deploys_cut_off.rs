//! A node that died between two writes of a deploy: what it has when it comes back, for each of them.
//!
//! Three plans come one after the other, each while the one before is still on its way: their image is of
//! a registry that never answers. From what the node had after each, every state that a death can leave
//! is put together. Two of them are made once more by a real `kill -9`: one holds the journal's lock for as
//! long as it takes, one keeps the state from being written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vyr_plan::services::ServicesPlan;

use crate::history::History;
use crate::place::{Daemon, HANG, Place, block, children, ends, until};
use crate::shop::{Deploys, ONE, Shop, applied, at_rest, outcome, published, services, settled};

const REPLACED: &str = "another plan took its place";
const NEVER_TAKEN: &str = "the node was ended before it had taken the plan";

/// `kill -9` of the supervisor; what it started ends with it.
fn cut_off(daemon: Daemon) {
    let left = children(daemon.pid());
    daemon.kill();
    assert!(left.iter().all(|child| ends(*child, HANG)), "children stay behind");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "{} is not copied", from.display());
}

/// What a node had at one moment.
struct Saved(PathBuf);

impl Saved {
    /// Of a node that does not run.
    fn of(place: &Place, name: &str) -> Self {
        let to = place.path(name);
        copy(place.data(), &to);
        Self(to)
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join("services").join(name)).expect("it was there")
    }
}

/// `deploy.json` of a deploy that is to replace another one.
fn over(new: &[u8], old: &[u8]) -> Vec<u8> {
    let [mut new, old] = [new, old].map(|of| serde_json::from_slice::<Value>(of).expect("JSON"));
    assert_eq!(new["over"], Value::Null, "it was replaced: {new}");
    new["over"] = old;
    serde_json::to_vec(&new).expect("JSON")
}

/// What a death leaves, and what is to become of it.
struct Left<'a> {
    /// Whose journal it is, and whose files of services.
    journal: &'a Saved,
    services: &'a Saved,
    /// Files of services that are others; none: it is not there.
    files: Vec<(&'static str, Option<Vec<u8>>)>,
    truth: Truth<'a>,
}

/// What a node that comes back has to have.
struct Truth<'a> {
    /// Of what.
    what: &'static str,
    /// The plan that is in force, and its deploy, if that is on its way.
    plan: Option<&'a ServicesPlan>,
    deploying: &'a str,
    /// Deploys that have ended, and why.
    ended: Vec<(&'a str, &'static str)>,
}

impl Left<'_> {
    /// As the node that died left it.
    fn lay_out(&self, place: &Place, all: &[&Saved]) {
        fs::remove_dir_all(place.data()).expect("ours");
        copy(&self.journal.0, place.data());
        let services = place.data().join("services");
        fs::remove_dir_all(&services).expect("ours");
        copy(&self.services.0.join("services"), &services);
        // Releases are written before anything else, and what is too much is removed after all else.
        for saved in all {
            copy(&saved.0.join("services/releases"), &services);
        }
        for (name, bytes) in &self.files {
            match bytes {
                Some(bytes) => fs::write(services.join(name), bytes).expect("room"),
                None => fs::remove_file(services.join(name)).expect("it was there"),
            }
        }
    }
}

impl Truth<'_> {
    /// The node has what it should, and takes the next plan.
    async fn holds(&self, place: &Place, shop: &Shop) {
        let what = self.what;
        let daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let mut client = daemon.client().await;
        // From the first answer on.
        let shown = services(&mut client).await;
        assert_eq!(shown.deploying, self.deploying, "{what}");
        let digest = self.plan.map(|plan| plan.digest().expect("one").to_string());
        assert_eq!(shown.plan_digest, digest.unwrap_or_default(), "{what}");
        assert_eq!(shown.node, self.plan.map_or("", |_| "alpha"), "{what}");
        assert_eq!(shown.stuck, "", "{what}");
        // What is wanted is what that plan wants.
        let release = self.plan.map(|plan| plan.services[0].release.to_string());
        let wanted: Vec<&str> = shown.slots.iter().map(|slot| slot.release.as_str()).collect();
        assert_eq!(wanted, release.iter().map(String::as_str).collect::<Vec<_>>(), "{what}");
        let told = Deploys::of(place.data());
        assert!(self.deploying.is_empty() || told.is_open(self.deploying), "{what}: {told:?}");
        for (deploy, why) in &self.ended {
            let end = told.end(deploy);
            assert!(end.0 == "failed" && end.1.contains(why), "{what}: {end:?}");
        }

        let next = shop.plan(ONE, &shop.web(0, 9), self.plan.map(applied).as_ref());
        let (first, steps) = shop.take(&mut client, &next).await;
        assert_eq!(outcome(steps).await.0, "succeeded", "{what}");
        let told = Deploys::of(place.data());
        assert_eq!(told.end(&first.deploy).0, "succeeded", "{what}");
        if !self.deploying.is_empty() {
            assert_eq!(told.end(self.deploying), ("failed", REPLACED), "{what}");
        }
        // Whatever has begun has ended, once.
        for deploy in &told.begun {
            told.end(deploy);
        }
        assert_eq!(settled(&daemon).await.plan_digest, first.plan_digest, "{what}");
        drop(client);
        cut_off(daemon);
        assert!(!place.data().join("services/deploy.json").exists(), "{what}");
        History::audited(place.data(), &node_key);
    }
}

#[test]
fn wherever_a_deploy_is_cut_off_one_plan_is_in_force_and_each_deploy_ends_once() {
    let (place, mut shop) = (Place::new(), Shop::new());
    block(async {
        let one = shop.plan(ONE, &shop.web(1, 1), None);
        let two = shop.plan(ONE, &shop.web(1, 2), Some(&applied(&one)));
        cut_off(place.ready().await);
        let (before, mut saved, mut names) = (Saved::of(&place, "before"), vec![], vec![]);
        for plan in [&one, &two] {
            let daemon = place.ready().await;
            let mut client = daemon.client().await;
            names.push(shop.take(&mut client, plan).await.0.deploy);
            assert_eq!(services(&mut client).await.deploying, *names.last().expect("one"));
            cut_off(daemon);
            saved.push(Saved::of(&place, &format!("saved-{}", saved.len())));
        }
        let [first, second] = &saved[..] else { unreachable!("two plans") };
        let [d1, d2] = [&names[0], &names[1]].map(String::as_str);
        // It never answered, so nothing came of them.
        assert!(Deploys::of(place.data()).is_open(d2));
        let both = over(&second.file("deploy.json"), &first.file("deploy.json"));
        let of = |saved: &Saved, name: &'static str| (name, Some(saved.file(name)));

        let cases = [
            Left {
                journal: &before,
                services: &before,
                files: vec![of(first, "deploy.json")],
                truth: Truth {
                    what: "the first plan, after its deploy.json",
                    plan: None,
                    deploying: "",
                    ended: vec![(d1, NEVER_TAKEN)],
                },
            },
            Left {
                journal: first,
                services: &before,
                files: vec![of(first, "deploy.json"), of(first, "node")],
                truth: Truth {
                    what: "the first plan, after the node's name",
                    plan: None,
                    deploying: "",
                    ended: vec![(d1, NEVER_TAKEN)],
                },
            },
            Left {
                journal: first,
                services: first,
                files: vec![("state.json", None)],
                truth: Truth {
                    what: "the first plan, before its state",
                    plan: Some(&one),
                    deploying: d1,
                    ended: vec![],
                },
            },
            Left {
                journal: first,
                services: first,
                files: vec![("deploy.json", Some(both.clone()))],
                truth: Truth {
                    what: "over another one, after deploy.json",
                    plan: Some(&one),
                    deploying: d1,
                    ended: vec![(d2, NEVER_TAKEN)],
                },
            },
            Left {
                journal: first,
                services: first,
                files: vec![("deploy.json", Some(both.clone())), of(second, "plan.json")],
                truth: Truth {
                    what: "over another one, after plan.json",
                    plan: Some(&two),
                    deploying: d2,
                    ended: vec![(d1, REPLACED)],
                },
            },
            Left {
                journal: second,
                services: second,
                files: vec![("deploy.json", Some(both.clone())), of(first, "state.json")],
                truth: Truth {
                    what: "over another one, after the journal, before the state",
                    plan: Some(&two),
                    deploying: d2,
                    ended: vec![(d1, REPLACED)],
                },
            },
            Left {
                journal: second,
                services: second,
                files: vec![("deploy.json", Some(both))],
                truth: Truth {
                    what: "over another one, after the state",
                    plan: Some(&two),
                    deploying: d2,
                    ended: vec![(d1, REPLACED)],
                },
            },
            Left {
                journal: second,
                services: second,
                files: vec![],
                truth: Truth {
                    what: "over another one, after all of it",
                    plan: Some(&two),
                    deploying: d2,
                    ended: vec![(d1, REPLACED)],
                },
            },
            Left {
                journal: second,
                services: second,
                files: vec![of(first, "state.json")],
                truth: Truth {
                    what: "between the plan and the state, by a node that wrote one deploy only",
                    plan: Some(&two),
                    deploying: d2,
                    ended: vec![(d1, REPLACED)],
                },
            },
        ];
        for left in &cases {
            left.lay_out(&place, &[first, second]);
            left.truth.holds(&place, &shop).await;
        }

        // The end of one: the journal knows it, and nothing else does.
        fs::remove_dir_all(place.data()).expect("ours");
        copy(&second.0, place.data());
        shop.close();
        let daemon = place.ready().await;
        settled(&daemon).await;
        cut_off(daemon);
        let end = Left {
            journal: &Saved::of(&place, "ended"),
            services: second,
            files: vec![],
            truth: Truth {
                what: "after the journal was told the end",
                plan: Some(&two),
                deploying: "",
                ended: vec![(d1, REPLACED), (d2, "image_pull_failed")],
            },
        };
        end.lay_out(&place, &[first, second]);
        end.truth.holds(&place, &shop).await;
    });
}

#[test]
fn a_node_that_is_killed_while_it_takes_a_plan_has_the_one_before_or_that_one() {
    let (place, shop) = (Place::new(), Shop::new());
    block(async {
        let one = shop.plan(ONE, &shop.web(1, 1), None);
        let two = shop.plan(ONE, &shop.web(1, 2), Some(&applied(&one)));
        let daemon = place.ready().await;
        let (taken, _) = shop.take(&mut daemon.client().await, &one).await;
        let d1 = taken.deploy;
        let in_services = |name: &str| place.data().join("services").join(name);

        // Nobody may append, so the node waits behind `deploy.json`.
        let journal = rusqlite::Connection::open(place.data().join("node/journal.db"));
        let journal = journal.expect("a journal");
        journal.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        let mut client = daemon.client().await;
        let sent = shop.approved(&two);
        let asking = tokio::spawn(async move { sent.to(&mut client).await.map(drop) });
        let d2 = until("a deploy that waits", async || {
            let deploy = fs::read(in_services("deploy.json")).ok()?;
            let deploy: Value = serde_json::from_slice(&deploy).ok()?;
            (deploy["over"]["deploy"] == d1.as_str())
                .then(|| deploy["deploy"].as_str().expect("a name").to_owned())
        })
        .await;
        cut_off(daemon);
        asking.await.expect("a client").expect_err("its node is gone");
        drop(journal);
        let told = published(place.data()).expect("a state");
        let daemon = place.ready().await;
        let deploys = Deploys::of(place.data());
        assert!(deploys.is_open(&d1) && !deploys.begun.contains(&d2), "{deploys:?}");
        assert_eq!(deploys.end(&d2), ("failed", NEVER_TAKEN));
        assert_eq!(services(&mut daemon.client().await).await.deploying, d1);
        at_rest(place.data(), told).await;

        // The state cannot take the place of a directory, so the node stands still behind `plan.json`.
        let aside = place.path("state.json");
        fs::rename(in_services("state.json"), &aside).expect("ours");
        fs::create_dir(in_services("state.json")).expect("room");
        let (taken, _) = shop.take(&mut daemon.client().await, &two).await;
        cut_off(daemon);
        fs::remove_dir(in_services("state.json")).expect("empty");
        fs::rename(aside, in_services("state.json")).expect("room");
        assert!(Deploys::of(place.data()).is_open(&taken.deploy));
        let ended = vec![(d1.as_str(), REPLACED), (d2.as_str(), NEVER_TAKEN)];
        let what = "killed behind plan.json";
        let truth = Truth { what, plan: Some(&two), deploying: &taken.deploy, ended };
        truth.holds(&place, &shop).await;
    });
}
