//! What machines are given.

use vyr_base::{Category, Problem};
use vyr_plan::Plan;
use vyr_plan::render::{self, PRIVATE_KEY_PLACEHOLDER, RenderError};

use crate::common;

fn office() -> Plan {
    common::plan(&common::office(), None).1
}

/// The text of a file that `machine` is given.
fn text(plan: &Plan, machine: &str, name: &str) -> String {
    let files = render::server(plan, machine).expect("the machine is there");
    let file = files.into_iter().find(|file| file.name == name).expect("the file is there");
    assert!(!file.secret);
    String::from_utf8(file.bytes.to_vec()).expect("text")
}

macro_rules! golden {
    ($($test:ident: $machine:literal $file:literal;)*) => { $(
        #[test]
        fn $test() {
            let golden = include_str!(concat!("../golden/office/", $machine, "/", $file));
            let found = text(&office(), $machine, $file);
            assert!(found == golden, "{} of {} has changed to:\n{found}", $file, $machine);
        }
    )* };
}

golden! {
    clients_of_the_north: "router-north" "vyr-north.conf";
    the_mesh_of_the_north: "router-north" "vyr-mesh.conf";
    the_firewall_of_the_north: "router-north" "nftables.json";
    the_firewall_of_the_nas: "nas" "nftables.json";
    the_firewall_of_the_south: "router-south" "nftables.json";
    the_mesh_of_the_witness: "witness" "vyr-mesh.conf";
    the_firewall_of_the_witness: "witness" "nftables.json";
}

#[test]
fn a_machine_is_given_a_file_a_link_and_the_firewall() {
    let plan = office();
    for machine in &plan.machines {
        let files = render::server(&plan, machine.name.as_str()).expect("it renders");
        let mut wanted: Vec<String> =
            machine.links.iter().map(|link| format!("{}.conf", link.name)).collect();
        wanted.push("nftables.json".into());
        assert_eq!(files.iter().map(|file| file.name.clone()).collect::<Vec<_>>(), wanted);
    }
    let unknown = render::server(&plan, "router-west").expect_err("no such machine");
    assert_eq!(unknown.category(), Category::NotFound);
}

#[test]
fn one_placeholder_stands_for_the_key() {
    let plan = office();
    for machine in &plan.machines {
        for link in &machine.links {
            let text = render::wireguard(&plan, machine, link).expect("it renders");
            assert_eq!(text.matches(PRIVATE_KEY_PLACEHOLDER).count(), 1, "{}", link.name);
            assert_eq!(text.matches("PrivateKey").count(), 1);
        }
    }
}

#[test]
fn sets_have_names_of_their_own_in_each_family() {
    let names = ["north.all", "north.all.v4", "north-all", "INTERNET", "MESH.own"];
    let mut rendered: Vec<String> = names
        .iter()
        .flat_map(|name| [render::set_name(name, false), render::set_name(name, true)])
        .map(|name| name.expect("a set's name"))
        .collect();
    rendered.sort();
    rendered.dedup();
    assert_eq!(rendered.len(), 2 * names.len());
    for bad in ["", "a b", "_own", "a\"", "9a", "a;flush", "a/b"] {
        assert!(render::set_name(bad, false).is_err(), "{bad:?}");
    }
}

/// A plan is signed, and may still not say what its texts would read otherwise.
#[test]
fn what_a_text_could_not_hold_is_refused() {
    let unfit = |change: fn(&mut Plan)| {
        let mut plan = office();
        change(&mut plan);
        let found = plan.machines.iter().map(|of| render::server(&plan, of.name.as_str()));
        let found: Result<Vec<_>, _> = found.collect();
        matches!(found, Err(RenderError::Unfit { .. }))
    };
    assert!(!unfit(|_| ()));
    assert!(unfit(|plan| plan.machines[0].links[0].name = "vyr-a b".into()));
    assert!(unfit(|plan| plan.machines[0].links[0].name = "vyr-sixteen-char".into()));
    assert!(unfit(|plan| plan.machines[0].sets[0].name = "a\nb".into()));
    assert!(unfit(|plan| plan.machines[0].rules[0].id = "a\"b".into()));
    assert!(unfit(|plan| plan.machines[0].rules[0].id = "a".repeat(128)));
    assert!(unfit(|plan| {
        let links = plan.machines.iter_mut().flat_map(|machine| &mut machine.links);
        let mut peers = links.flat_map(|link| &mut link.peers);
        let peer = peers.find(|peer| peer.endpoint.is_some()).expect("a node is found");
        peer.endpoint = Some("a:1\nPublicKey = b".into());
    }));
}
