//! A former release: which one is meant, and the files that are it again.

use vyr_base::{Category, Digest, Problem};
use vyr_plan::services::{
    RollbackError, ServiceEntry, ServicesPlan, Undo, bring_back, compile_services, former, undo,
};
use vyr_plan::{Intent, Lock};

use crate::shop::{answer, applied, files, lock, plan, read, texts, with};

fn name(text: &str) -> vyr_plan::intent::Name {
    text.parse().expect("a name")
}

/// Three plans over one another, newest first: web has two releases, db one.
fn history() -> Vec<ServicesPlan> {
    let first = plan(&with(&[]), None);
    let other = &[("web:2.4", "web:2.5")];
    let second = plan(&with(other), Some(&applied(first.clone())));
    let three = &[("web:2.4", "web:2.5"), ("scale.min = 2", "scale.min = 3")];
    let third = plan(&with(three), Some(&applied(second.clone())));
    vec![third, second, first]
}

fn web(plan: &ServicesPlan) -> &ServiceEntry {
    plan.service("web").expect("it is in every plan")
}

#[test]
fn the_newest_other_release_is_meant_unless_one_is_named() {
    let plans = history();
    let (now, old) = (web(&plans[0]).release, web(&plans[2]).release);
    assert_ne!(now, old);
    assert_eq!(web(&plans[1]).release, now, "another scale is no other release");
    let found = |asked: Option<&str>| former(&plans, &name("web"), asked).expect("one").release;
    assert_eq!(found(None), old);
    for asked in [old.to_string(), old.short(), old.short()[..4].to_owned()] {
        assert_eq!(found(Some(&asked)), old, "{asked}");
    }
    // Rolled back, the way back is to what was rolled back, as it was last.
    let scale = |entry: &ServiceEntry| entry.manifest.processes[&name("http")].scale;
    let back: Vec<ServicesPlan> = [&plans[2], &plans[0], &plans[1]].map(Clone::clone).to_vec();
    let again = former(&back, &name("web"), None).expect("what was rolled back");
    assert_eq!((again.release, scale(again)), (now, 3));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_category() {
    let plans = history();
    let now = web(&plans[0]).release;
    let refused = |plans: &[ServicesPlan], service: &str, asked: Option<&str>| {
        let error = former(plans, &name(service), asked).expect_err("refused");
        assert!(error.hint().is_some(), "{error}");
        (error.category(), error)
    };
    let (category, error) = refused(&plans, "web", Some(&now.short()));
    assert!(matches!(error, RollbackError::Current { .. }) && category == Category::Conflict);
    let (category, error) = refused(&plans, "web", Some("sha2"));
    assert!(matches!(error, RollbackError::Unknown { .. }) && category == Category::NotFound);
    // A release of another service is none of this one.
    let db = plans[0].service("db").expect("db").release;
    assert!(matches!(refused(&plans, "web", Some(&db.short())).1, RollbackError::Unknown { .. }));
    let (category, error) = refused(&plans, "db", None);
    assert!(matches!(error, RollbackError::First { .. }) && category == Category::NotFound);
    assert!(matches!(refused(&plans, "gone", None).1, RollbackError::Never(_)));
    assert!(matches!(refused(&[], "web", None).1, RollbackError::Never(_)));
    // Releases whose names begin alike.
    let twin = |at: char| {
        let mut plan = plans[2].clone();
        let hex = format!("sha256:{}c{at}", "ab".repeat(31));
        let of = plan.services.iter_mut().find(|of| of.name().as_str() == "web").expect("web");
        of.release = hex.parse().expect("a digest");
        plan
    };
    let alike = [plans[0].clone(), twin('0'), twin('1')];
    let (category, error) = refused(&alike, "web", Some("abab"));
    assert!(matches!(error, RollbackError::Ambiguous { count: 2, .. }), "{error}");
    assert_eq!(category, Category::Conflict);
    let one = "ab".repeat(31) + "c1";
    assert!(former(&alike, &name("web"), Some(&one)).is_ok());
}

/// What the site says today, with a comment that nobody but a person writes.
fn today(changes: &[(&str, &str)]) -> (Intent, Lock) {
    let mut texts = texts();
    let web = texts.get_mut("services/web.toml").expect("web");
    web.insert_str(0, "# ours\n");
    for (from, to) in changes {
        assert!(web.contains(from), "{from}");
        *web = web.replace(from, to);
    }
    let intent = read(&texts);
    let lock = lock(&intent, &Lock::default(), None);
    (intent, lock)
}

/// The plan of the site with another text of web and another lock.
fn after(text: Option<&str>, lock: Lock) -> ServicesPlan {
    let mut texts = texts();
    if let Some(text) = text {
        texts.insert("services/web.toml".into(), text.to_owned());
    }
    let intent = files(&texts).read().unwrap_or_else(|faults| panic!("{}", faults[0]));
    compile_services(&intent, &lock, None, None).expect("it compiles")
}

#[test]
fn the_release_is_the_same_one_and_the_rest_is_todays() {
    let plans = history();
    let old = web(&plans[2]);
    let (intent, now) = today(&[
        ("web:2.4", "web:2.5"),
        ("memory = \"256Mi\", cpu = 0.5", "memory = \"384Mi\""),
        ("scale.min = 2", "scale.min = 1"),
        ("www.shop.example", "store.example"),
    ]);
    let back = bring_back(&intent, &now, old).expect("brought back");
    let text = back.text.expect("another text");
    assert!(!text.contains("# ours"), "a manifest has no comments");
    let plan = after(Some(&text), back.lock.clone());
    let entry = web(&plan);
    assert_eq!((entry.release, entry.image), (old.release, old.image));
    assert_eq!(entry.manifest.processes[&name("http")].scale, 1, "today's");
    assert!(
        entry.manifest.routes.iter().any(|of| {
            of.hostname.as_ref().is_some_and(|name| name.as_str() == "store.example")
        })
    );
    let line = format!("image registry.example/shop/web:2.4 {}", old.image);
    assert!(back.lock.to_string().contains(&line), "{}", back.lock);
}

/// The tag moved since: the lock says again what it was.
#[test]
fn a_tag_that_moved_is_what_it_was() {
    let plans = history();
    let old = web(&plans[2]);
    let (intent, mut moved) = today(&[]);
    let reference = "registry.example/shop/web:2.4".parse().expect("a reference");
    moved.pin(&reference, Digest::of(b"moved"));
    let other = after(None, moved.clone());
    assert_ne!(web(&other).release, old.release);
    let back = bring_back(&intent, &moved, old).expect("brought back");
    assert_eq!(back.text, None, "the file says so already, its comments stay");
    assert_eq!(web(&after(None, back.lock)).release, old.release);

    // Where another service has the moved one, it is not taken from it.
    let shared = texts()["services/db.toml"].replace(
        "registry.example/shop/db@sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "registry.example/shop/web:2.4",
    );
    let mut all = texts();
    all.insert("services/db.toml".into(), shared);
    let intent = read(&all);
    let refused = bring_back(&intent, &moved, old).expect_err("db has it");
    assert!(matches!(&refused, RollbackError::Shared { others, .. } if *others == ["db"]));
    assert_eq!(refused.category(), Category::Conflict);
    moved.pin(&reference, answer("registry.example/shop/web:2.4"));
    assert!(bring_back(&intent, &moved, old).is_ok(), "both have the same one");
}

#[test]
fn what_does_not_fit_today_is_refused() {
    let plans = history();
    let old = web(&plans[2]);
    // A port that the old release does not have.
    let (intent, now) = today(&[
        (
            "ports = [{ name = \"tls\", internal = 8443 }]",
            "ports = [{ name = \"web\", internal = 1 }]",
        ),
        ("to = \"tls\"", "to = \"web\""),
    ]);
    let error = bring_back(&intent, &now, old).expect_err("routes go to another port");
    let RollbackError::Unfit { faults, .. } = &error else { panic!("{error}") };
    assert!(faults[0].contains("goes to port web of http"), "{error}");
    assert_eq!(error.category(), Category::Conflict);
    // Nothing of the name is there any more.
    let mut gone = texts();
    gone.remove("services/web.toml");
    let intent = read(&gone);
    let error = bring_back(&intent, &now, old).expect_err("no file");
    assert!(matches!(error, RollbackError::NoService { .. }), "{error}");
    assert_eq!(error.hint().as_deref(), Some("there is db"));
    // An entry that is not what its name says: it is never written.
    let (intent, now) = today(&[]);
    let image = Digest::of(b"another");
    let planted = ServiceEntry { image, ..old.clone() };
    let error = bring_back(&intent, &now, &planted).expect_err("another release");
    assert!(matches!(error, RollbackError::Differs(_)), "{error}");
}

#[test]
fn each_change_has_its_way_back() {
    let plans = history();
    let steps = |before: Option<&ServicesPlan>, after: &ServicesPlan| -> Vec<String> {
        undo(before, after).iter().map(Undo::to_string).collect()
    };
    let old = web(&plans[2]).release.short();
    assert_eq!(steps(Some(&plans[2]), &plans[1]), [format!("vyr release rollback web {old}")]);
    assert_eq!(steps(Some(&plans[1]), &plans[0]), ["vyr scale web/http=2"]);
    let both = [format!("vyr release rollback web {old}"), "vyr scale web/http=2".to_owned()];
    assert_eq!(steps(Some(&plans[2]), &plans[0]), both);
    assert_eq!(steps(Some(&plans[0]), &plans[0]), [""; 0], "nothing changed");
    // What no command takes back.
    let files = "put the site's files back as they were, and deploy again";
    assert_eq!(steps(None, &plans[2]), [files]);
    let mut fewer = plans[2].clone();
    fewer.services.remove(0);
    assert_eq!(steps(Some(&plans[2]), &fewer), [files]);
    let routed = plan(&with(&[("www.shop.example", "store.example")]), None);
    assert_eq!(steps(Some(&plans[2]), &routed), [files]);
    let mut sealed = plans[2].clone();
    sealed.services[1].secrets = Some(Digest::of(b"others"));
    assert_eq!(steps(Some(&plans[2]), &sealed), [files]);
}
