//! Pins, public addresses and epochs: allotted once, kept, mended after a merge, given back.

use vyr_base::{Digest, Problem, Source};
use vyr_plan::services::{
    ReleaseError, Update, allocate_services, compile_services, stale, unpinned,
};
use vyr_plan::{Lock, allocate};

use crate::shop::{answer, applied, lock, plan, shop, with};

const TAG: &str = "registry.example/shop/web:2.4";

fn parse(text: &str) -> Lock {
    let text = format!("version 1\n{text}");
    Lock::parse(&Source::new("vyr.lock", text)).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

fn lines(lock: &Lock, begin: &str) -> Vec<String> {
    let text = lock.to_string();
    text.lines().filter(|line| line.starts_with(begin)).map(str::to_owned).collect()
}

#[test]
fn a_lock_is_read_as_it_is_written() {
    let intent = shop();
    let lock = lock(&intent, &Lock::default(), None);
    assert_eq!(Lock::parse(&Source::new("vyr.lock", lock.to_string())).expect("its own"), lock);
    let again = allocate_services(&intent, &lock, None).expect("there is room");
    assert_eq!(again, lock, "a second time changes nothing");
    assert_eq!(lines(&lock, "plan services"), ["plan services 1 empty"]);
    assert_eq!(lines(&lock, "image"), [format!("image {TAG} {}", answer(TAG))]);
    assert_eq!(lines(&lock, "service-ipv4").len(), 2, "{lock}");
}

#[test]
fn the_network_and_the_services_leave_each_other_alone() {
    let intent = shop();
    let lock = lock(&intent, &Lock::default(), None);
    let both = allocate(&intent, &lock, None).expect("there is room");
    assert!(lock.stale(&intent, None).len() == 1, "the network's plan is not in it yet");
    assert!(both.stale(&intent, None).is_empty() && stale(&intent, &both, None).is_empty());
    let of_services = |lock: &Lock| [lines(lock, "image"), lines(lock, "service-ipv4")].concat();
    assert_eq!(of_services(&both), of_services(&lock));
}

#[test]
fn bad_lines_are_refused() {
    for bad in [
        "image registry.example/shop/web:2.4",
        "image registry.example/shop/web:2.4 sha256:00",
        "image web:2.4 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        // A digest is its own pin.
        "image r.example/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 \
         sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "service-ipv4 alpha 198.51.100.07 web",
        "service-ipv4 alpha ::1 web",
        "service-ipv4 alpha 198.51.100.7",
        "service-ipv4 Alpha 198.51.100.7 web",
        "plan services 0 empty",
        "plan services 01 empty",
        "plan service 1 empty",
    ] {
        let text = format!("version 1\n{bad}\n");
        let faults = Lock::parse(&Source::new("vyr.lock", text)).expect_err(bad);
        assert_eq!(faults[0].id, "lock-line", "{bad}");
    }
}

#[test]
fn a_tag_is_asked_for_once_and_again_when_told_to() {
    let intent = shop();
    let asked = |lock: &Lock, update| {
        let all = unpinned(&intent, lock, update);
        all.iter().map(|(of, _)| of.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(asked(&Lock::default(), Update::None), [TAG], "a digest needs no registry");
    let lock = lock(&intent, &Lock::default(), None);
    assert!(asked(&lock, Update::None).is_empty());
    assert_eq!(asked(&lock, Update::All), [TAG]);
    let (web, db) = ("web".parse().expect("a name"), "db".parse().expect("a name"));
    assert_eq!(asked(&lock, Update::Service(&web)), [TAG]);
    assert!(asked(&lock, Update::Service(&db)).is_empty());
    let moved = with(&[("web:2.4", "web:2.5")]);
    assert_eq!(unpinned(&moved, &lock, Update::None).len(), 1, "another tag is another question");
    let pruned = crate::shop::lock(&moved, &lock, None);
    assert_eq!(lines(&pruned, "image").len(), 1, "what nobody names is not kept: {pruned}");
}

#[test]
fn two_digests_of_a_tag_are_asked_for_again() {
    let intent = shop();
    let one = lock(&intent, &Lock::default(), None);
    let text = one.to_string().lines().skip(1).fold(String::new(), |all, line| match line {
        "version 1" => all,
        line => all + line + "\n",
    });
    let merged = parse(&format!("{text}image {TAG} {}\n", Digest::of(b"another branch's")));
    let faults = stale(&intent, &merged, None);
    assert_eq!(faults.iter().map(|of| of.id).collect::<Vec<_>>(), ["lock-double"]);
    assert_eq!(unpinned(&intent, &merged, Update::None).len(), 1, "nobody chooses between them");
    assert_eq!(lock(&intent, &merged, None), one);
}

#[test]
fn of_two_owners_the_one_that_was_applied_keeps_the_address() {
    let both = [
        ("[secrets]\nnone = true", "[secrets]\nnone = true\n#"),
        ("to = \"db\"\n", "to = \"db\"\nipv4 = true\n"),
    ];
    let intent = with(&both);
    let first = plan(&intent, None);
    let node = first.nodes.iter().find(|node| node.name.as_str() == "alpha").expect("alpha");
    assert!(node.ipv4.iter().all(|of| of.service.is_some()), "{:?}", node.ipv4);
    let taken =
        node.ipv4.iter().find(|of| of.service.as_ref().is_some_and(|of| of.as_str() == "web"));
    let address = taken.expect("web has one").address;
    let applied = applied(first.clone());
    let merged = parse(&format!(
        "service-ipv4 alpha {address} db\nservice-ipv4 alpha {address} web\nimage {TAG} {}\n",
        answer(TAG)
    ));
    let ids: Vec<&str> = stale(&intent, &merged, Some(&applied)).iter().map(|of| of.id).collect();
    assert!(ids.contains(&"lock-double"), "{ids:?}");
    let mended = lock(&intent, &merged, Some(&applied));
    assert!(lines(&mended, "service-ipv4").contains(&format!("service-ipv4 alpha {address} web")));
    assert_eq!(lines(&mended, "service-ipv4 alpha").len(), 2, "{mended}");
    // Nobody was applied: the smaller name.
    let fresh = lock(&intent, &merged, None);
    assert!(lines(&fresh, "service-ipv4").contains(&format!("service-ipv4 alpha {address} db")));
}

#[test]
fn of_two_addresses_of_one_service_one_stays() {
    let intent = shop();
    let merged = parse(&format!(
        "service-ipv4 alpha 198.51.100.7 web\nservice-ipv4 alpha 198.51.100.8 web\nimage {TAG} {}\n",
        answer(TAG)
    ));
    assert!(stale(&intent, &merged, None).iter().any(|of| of.id == "lock-double"));
    let mended = lock(&intent, &merged, None);
    assert_eq!(lines(&mended, "service-ipv4 alpha"), ["service-ipv4 alpha 198.51.100.7 web"]);
}

#[test]
fn an_address_is_kept_until_it_is_given_back() {
    let intent = shop();
    let mut old = lock(&intent, &Lock::default(), None);
    let address =
        lines(&old, "service-ipv4 beta")[0].split(' ').nth(2).expect("an address").to_owned();
    let address = address.parse().expect("an address");
    let refused = old.release(&intent, None, address).expect_err("it is asked for");
    assert!(matches!(refused, ReleaseError::Wanted { .. }), "{refused}");
    assert!(refused.hint().expect("a hint").contains("services/web.toml"));

    let without = with(&[("ipv4 = true\n", "")]);
    let mut kept = lock(&without, &old, None);
    assert_eq!(lines(&kept, "service-ipv4"), lines(&old, "service-ipv4"), "nobody gave it back");
    let plan = compile_services(&without, &kept, None, None).expect("it compiles");
    let ways = plan.nodes.iter().flat_map(|node| &node.ingress);
    assert!(ways.clone().all(|of| of.address.is_ipv6()), "and nothing answers at it");
    let given = kept.release(&without, None, address).expect("nobody wants it");
    assert_eq!(given.len(), 1);
    assert!(lines(&kept, "service-ipv4 beta").is_empty());
    let refused = kept.release(&without, None, address).expect_err("it is nobody's");
    assert!(matches!(refused, ReleaseError::Nobodys(_)), "{refused}");
}

#[test]
fn an_address_that_the_node_lost_is_nobodys() {
    let old = lock(&shop(), &Lock::default(), None);
    let intent = with(&[("[\"203.0.113.9\"]", "[\"203.0.113.10\"]")]);
    assert!(!stale(&intent, &old, None).is_empty());
    let new = lock(&intent, &old, None);
    assert_eq!(lines(&new, "service-ipv4 beta"), ["service-ipv4 beta 203.0.113.10 web"]);
}

#[test]
fn a_node_without_an_address_left_says_so() {
    let intent = with(&[("ipv4_public = [\"203.0.113.9\"]\n", "")]);
    let faults = allocate_services(&intent, &Lock::default(), None).expect_err("there is none");
    assert_eq!(faults[0].id, "lock-full");
    assert!(faults[0].to_string().contains("beta has no public IPv4 address left for web"));
}

#[test]
fn the_lock_of_another_epoch_is_stale() {
    let intent = shop();
    let old = lock(&intent, &Lock::default(), None);
    let applied = applied(plan(&intent, None));
    let faults = stale(&intent, &old, Some(&applied));
    assert_eq!(faults.len(), 1, "{}", faults[0]);
    assert!(faults[0].to_string().contains("a services plan over another one"), "{}", faults[0]);
    let new = lock(&intent, &old, Some(&applied));
    assert_eq!(lines(&new, "plan services"), [format!("plan services 2 {}", applied.digest)]);
    let doubled = parse(&format!("plan services 1 empty\nplan services 2 {}\n", applied.digest));
    let faults = stale(&intent, &doubled, Some(&applied));
    assert!(faults.iter().any(|of| of.what.contains("names 2 services plans")), "{faults:?}");
}

/// A site without services has no line of them.
#[test]
fn a_site_without_services_has_no_lines_of_them() {
    let mut texts = crate::shop::texts();
    texts.retain(|name, _| name == "site.toml");
    let intent = crate::shop::read(&texts);
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    let lock = allocate_services(&intent, &lock, None).expect("there is room");
    assert!(stale(&intent, &lock, None).is_empty());
    assert!(!lock.to_string().contains("services"), "{lock}");
}
