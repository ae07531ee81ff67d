//! What changes and where things come from, for people.

use vyr_plan::services::{diff_services, explain_services};

use crate::shop::{applied, plan, shop, with};

#[test]
fn a_diff_says_what_changes_and_nothing_else() {
    let before = plan(&shop(), None);
    assert!(diff_services(Some(&before), Some(&before)).is_empty());
    let first = applied(before.clone());
    let same = plan(&shop(), Some(&first));
    assert!(diff_services(Some(&before), Some(&same)).is_empty(), "another epoch is no change");
    let after = plan(
        &with(&[("scale.min = 2", "scale.min = 1"), ("internal = 5432", "internal = 5433")]),
        Some(&first),
    );
    let diff = diff_services(Some(&before), Some(&after));
    let told: Vec<String> =
        diff.changes.iter().map(|of| format!("{} {}: {}", of.kind, of.name, of.what)).collect();
    let has = |begin: &str| told.iter().any(|line| line.starts_with(begin));
    for begin in [
        "process web/http: instances: 2 -> 1",
        "slot web/http/1: is gone",
        "service db: release: ",
        "way [::]:5432->db/db:5433 raw proxy: is new",
        "way [::]:5432->db/db:5432 raw proxy: is gone",
    ] {
        assert!(has(begin), "{begin} in {told:#?}");
    }
    assert!(!has("service web"), "to scale is no other release: {told:#?}");
    assert!(!has("slot web/http/0"), "what runs stays: {told:#?}");
    let gone = diff_services(Some(&before), None);
    assert!(gone.changes.iter().all(|of| of.what == "is gone"), "{gone:?}");
}

#[test]
fn a_changed_command_is_shown_in_full() {
    let before = plan(&shop(), None);
    let after = plan(
        &with(&[("[processes.worker]\n", "[processes.worker]\ncommand = [\"/bin/w\", \"-v\"]\n")]),
        None,
    );
    let diff = diff_services(Some(&before), Some(&after));
    let process = diff.changes.iter().find(|of| of.name == "web/worker").expect("it changed");
    assert_eq!(process.what, "command: now [\"/bin/w\",\"-v\"]");
}

#[test]
fn everything_says_where_it_comes_from() {
    let intent = shop();
    let plan = plan(&intent, None);
    let of = |id: &str| {
        let found = explain_services(&intent, Some(&plan), None, id);
        let all: Vec<String> = found
            .iter()
            .flat_map(|of| {
                let because = of.because.iter().map(|reason| match &reason.place {
                    Some(place) => format!("{} ({place})", reason.text),
                    None => reason.text.clone(),
                });
                [of.what.clone()].into_iter().chain(because).collect::<Vec<_>>()
            })
            .collect();
        all.join("\n")
    };
    let release = plan.service("web").expect("web").release.short();
    for (id, words) in [
        ("web/http/0", &["a slot on ", "services/web.toml:3:", "gamma: it is draining"][..]),
        ("web/http/1", &["reached as shop.example:443->web/http:8443"]),
        ("web/worker/0", &["no route leads to it"]),
        ("web/http", &["2 instances", "256 MiB", "160 MiB"]),
        ("web", &["release ", "registry.example/shop/web:2.4", "secrets/web.age", "a way on"]),
        (&release, &["service web"]),
        ("gamma", &["draining", "site.toml:13:"]),
        ("shop.example", &["a way on alpha", "services/web.toml:10:"]),
        ("203.0.113.9", &["allotted to web", "site.toml:12:"]),
        ("S09", &["none reaches another"]),
    ] {
        let told = of(id);
        for word in words {
            assert!(told.contains(word), "{word} in what is said of {id}:\n{told}");
        }
    }
    assert!(of("nobody").is_empty() && of("web/http/9").is_empty());
}

/// Also without a plan: that a slot has no node is what there is to explain.
#[test]
fn a_slot_without_a_node_says_why() {
    let intent = with(&[(
        "memory = \"512Mi\" }\n[[routes]]\nhostname",
        "memory = \"9Gi\" }\n[[routes]]\nhostname",
    )]);
    let found = explain_services(&intent, None, None, "web/worker/0");
    assert_eq!(found.len(), 1);
    assert!(found[0].what.contains("no_capacity_memory"), "{}", found[0].what);
    assert!(found[0].because.iter().any(|of| of.text.contains("not on alpha")), "{found:?}");
}
