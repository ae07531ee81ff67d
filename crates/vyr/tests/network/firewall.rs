//! The firewall that a plan becomes does what the prover says it does: for packets at the borders
//! of everything the plan speaks of, and for others.

use vyr_plan::{Plan, Reach, render};

use crate::judge::{Judge, Law};
use crate::place::{Site, is_able, office};
use crate::sample::samples;

/// The worked site, with services of every form in its mesh.
fn plan() -> Plan {
    office(&[(
        r#"allow = ["icmp", "tcp/22", "tcp/7443"]"#,
        r#"allow = ["icmp", "tcp/22", "tcp/7443", "udp/5000-5100", "protocol/47"]"#,
    )])
}

fn full() -> bool {
    std::env::var_os("VYR_FULL").is_some()
}

#[test]
fn the_kernel_does_what_the_prover_says() {
    if !is_able("firewall::the_kernel_does_what_the_prover_says") {
        return;
    }
    let plan = plan();
    let reach = Reach::of(&plan);
    let (seed, each) = (0x5eed, if full() { 40 } else { 12 });
    for machine in &plan.machines {
        let site = Site::new(&plan, machine);
        site.machine.nft(&render::firewall(machine).expect("it renders"));
        let law = Law::new(machine, &reach);
        let samples = samples(&plan, machine, each, seed);
        let found = Judge::new(&site).compare(&law, &samples);
        let (arrived, passed) = (found.arrived, found.passed);
        println!(
            "{}: {} packets, {arrived} arrived, {passed} passed, {} of them from links",
            machine.name,
            samples.len(),
            found.from_links_passed
        );
        let shown: Vec<String> =
            found.disagreements.iter().take(20).map(ToString::to_string).collect();
        assert!(
            shown.is_empty(),
            "{}: {} disagreements, seed {seed}:\n{}",
            machine.name,
            found.disagreements.len(),
            shown.join("\n")
        );
        // A test whose packets all go one way, or none, shows nothing.
        assert!(arrived * 10 >= samples.len() * 9, "too few arrived");
        // Most are drawn at random, and most of those are rightly dropped.
        assert!(found.from_links_passed >= 10, "too few passed");
        assert!((arrived - passed) * 20 >= samples.len(), "too few were dropped");
    }
}
