//! Twins of `firewall`: a kernel with another firewall than the plan's is found out.

use vyr_plan::intent::Service;
use vyr_plan::plan::{AddressSet, Machine, Rule, Toward};
use vyr_plan::{Block, Plan, Reach, Region, Set, render};

use crate::judge::{Judge, Law};
use crate::place::{Site, is_able, office, without};
use crate::sample::{Sample, borders, deliverable, own, samples};

/// Packets between two looks: a defect that is found ends the search.
const PART: usize = 500;

/// Whether the samples find `firewall` out where the plan is the law.
fn is_found(judge: &mut Judge<'_>, law: &Law<'_>, samples: &[Sample], firewall: &str) -> bool {
    judge.site.machine.nft(firewall);
    samples.chunks(PART).any(|part| !judge.compare(law, part).disagreements.is_empty())
}

/// Packets that one rule lets through, and those of all rules of a link in one direction.
fn passing(machine: &Machine, rule: &Rule) -> Block {
    let block = rule.block(machine);
    let destination = block.destination.intersect(&deliverable(machine, rule.toward));
    Block { destination, ..block }
}

fn all_passing(machine: &Machine, link: &str, toward: Toward) -> Region {
    let rules = machine.rules.iter().filter(|rule| rule.from == link && rule.toward == toward);
    Region(rules.map(|rule| passing(machine, rule)).collect())
}

/// Whether the machine itself lets other packets pass than `plan` does.
fn differs(plan: &Machine, other: &Machine) -> bool {
    plan.links.iter().any(|link| {
        [Toward::Local, Toward::Elsewhere].into_iter().any(|toward| {
            let before = all_passing(plan, &link.name, toward);
            let after = all_passing(other, &link.name, toward);
            let gone = before.subtract(&after).packet();
            gone.or(after.subtract(&before).packet()).is_some()
        })
    })
}

/// The machine with a rule whose sources or destinations are those of `set` and `more`.
fn wider(machine: &Machine, rule: usize, source: bool, more: &Set) -> Machine {
    let mut changed = machine.clone();
    let rule = &mut changed.rules[rule];
    let side = if source { &mut rule.source } else { &mut rule.destination };
    let prefixes = Set::prefixes(machine.set(side)).union(more).to_prefixes();
    *side = "WIDER".into();
    changed.sets.push(AddressSet { name: "WIDER".into(), prefixes });
    changed.sets.sort_by(|a, b| a.name.cmp(&b.name));
    changed
}

/// The machine with one defect in one rule, for each rule and kind of defect.
fn defects(machine: &Machine) -> Vec<(String, Machine)> {
    let mut all = Vec::new();
    for (at, rule) in machine.rules.iter().enumerate() {
        let mut add =
            |what: &str, machine: Machine| all.push((format!("{what}: {}", rule.id), machine));
        let mut gone = machine.clone();
        gone.rules.remove(at);
        add("no rule", gone);
        let mut any = machine.clone();
        any.rules[at].services = vec![Service::Any];
        add("any service", any);
        let mut port = machine.clone();
        for service in &mut port.rules[at].services {
            if let Service::Ports { protocol: 6 | 17, last, .. } = service {
                *last += 1;
            }
        }
        add("one port more", port);
        let mut turned = machine.clone();
        turned.rules[at].toward = match rule.toward {
            Toward::Local => Toward::Elsewhere,
            Toward::Elsewhere => Toward::Local,
        };
        add("another way", turned);
        let block = rule.block(machine);
        for family in block.by_family() {
            let after = |set: &Set| {
                let mut beside = borders(set).into_iter().filter(|point| !set.contains(*point));
                beside.next_back().map_or(Set::empty(), |point| Set::of([(point, point)]))
            };
            add("one source more", wider(machine, at, true, &after(&family.source)));
            add("one destination more", wider(machine, at, false, &after(&family.destination)));
        }
        let local = Set::of(own(machine).map(|point| (point, point)));
        add("the machine itself", wider(machine, at, false, &local));
    }
    all
}

fn plan() -> Plan {
    office(&[(
        r#"allow = ["icmp", "tcp/22", "tcp/7443"]"#,
        r#"allow = ["icmp", "tcp/22", "tcp/7443", "udp/5000-5100", "protocol/47"]"#,
    )])
}

#[test]
fn a_rule_that_is_not_the_plans_is_found() {
    if !is_able("defects::a_rule_that_is_not_the_plans_is_found") {
        return;
    }
    let plan = plan();
    let reach = Reach::of(&plan);
    let mut tried = 0;
    for name in ["router-north", "witness"] {
        let machine = plan.machine(name).expect("it is there");
        let site = Site::new(&plan, machine);
        let (law, mut judge) = (Law::new(machine, &reach), Judge::new(&site));
        let samples = samples(&plan, machine, 2, 0xdefec7);
        let plain = render::firewall(machine).expect("it renders");
        assert!(!is_found(&mut judge, &law, &samples, &plain), "{name} without a defect");
        for (what, changed) in defects(machine) {
            // Some make no difference: another rule accepts the same.
            if differs(machine, &changed) {
                let firewall = render::firewall(&changed).expect("it renders");
                assert!(is_found(&mut judge, &law, &samples, &firewall), "{name}: {what}");
                tried += 1;
            }
        }
    }
    println!("{tried} defects");
    assert!(tried >= 40, "{tried} defects are few");
}

#[test]
fn a_chain_that_is_not_reached_or_has_no_end_is_found() {
    if !is_able("defects::a_chain_that_is_not_reached_or_has_no_end_is_found") {
        return;
    }
    let plan = plan();
    let reach = Reach::of(&plan);
    let machine = plan.machine("router-south").expect("it is there");
    let site = Site::new(&plan, machine);
    let (law, mut judge) = (Law::new(machine, &reach), Judge::new(&site));
    let samples = samples(&plan, machine, 2, 0xdefec7);
    let plain = render::firewall(machine).expect("it renders");
    assert!(!is_found(&mut judge, &law, &samples, &plain), "without a defect");
    for text in [r#"{"jump":"#, "accepted by no rule", "new, toward a link"] {
        // The first line opens the transaction and is no command.
        let commands = plain.lines().skip(1).enumerate().filter(|(_, line)| line.contains(text));
        for (gone, line) in commands {
            let changed = without(&plain, |at, _| at == gone);
            assert!(is_found(&mut judge, &law, &samples, &changed), "{line}");
        }
    }
}

/// No compiler makes a rule that lets everything everywhere. The prover says that it does not let
/// from link to link, and the kernel must not either.
#[test]
fn not_even_a_rule_for_everything_leads_from_link_to_link() {
    if !is_able("defects::not_even_a_rule_for_everything_leads_from_link_to_link") {
        return;
    }
    let mut plan = plan();
    let machine = plan.machines.iter_mut().find(|machine| machine.name.as_str() == "router-south");
    let machine = machine.expect("it is there");
    let everywhere = Set::everywhere().to_prefixes();
    machine.sets.push(AddressSet { name: "WIDER".into(), prefixes: everywhere });
    machine.sets.sort_by(|a, b| a.name.cmp(&b.name));
    for rule in machine.rules.iter_mut().filter(|rule| rule.toward == Toward::Elsewhere) {
        rule.destination = "WIDER".into();
    }
    let reach = Reach::of(&plan);
    let machine = plan.machine("router-south").expect("it is there");
    let site = Site::new(&plan, machine);
    let (law, mut judge) = (Law::new(machine, &reach), Judge::new(&site));
    let samples = samples(&plan, machine, 4, 0xe7e4);
    let plain = render::firewall(machine).expect("it renders");
    judge.site.machine.nft(&plain);
    let found = judge.compare(&law, &samples).disagreements;
    assert!(found.is_empty(), "{}", found[0]);
    // Two rules hold it, one by the way out and one by the address: with neither it is found.
    let open = without(&plain, |_, line| {
        line.contains("from link to link") || line.contains("routed into a link")
    });
    assert!(is_found(&mut judge, &law, &samples, &open));
}
