//! What a plan lets begin no more is cut, and what it lets begin goes on: for every pair of plans
//! below, over all packets. The judge is the prover of `vyr-plan`, not the table that was rendered.

use vyr_base::Source;
use vyr_net::{May, Op, State, memory, ops, wanted};
use vyr_plan::{Block, Files, Lock, Packet, Plan, Reach, Region, Set, allocate, compile, point};

const SITE: &str = include_str!("../../../examples/office/site.toml");
const CLIENTS: &str = include_str!("../../../examples/office/clients.toml");
const MACHINES: [&str; 3] = ["router-north", "nas", "router-south"];

/// The plan of the worked site with some changes, each a text that must be there and another.
fn office(changes: &[(&str, &str)]) -> Plan {
    let (mut site, mut clients) = (SITE.to_owned(), CLIENTS.to_owned());
    for (old, new) in changes {
        assert!(site.contains(old) || clients.contains(old), "{old}");
        site = site.replace(old, new);
        clients = clients.replace(old, new);
    }
    let files = Files {
        clients: Some(Source::new("clients.toml", clients)),
        ..Files::new(Source::new("site.toml", site))
    };
    let intent = files.read().expect("it is read");
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    compile(&intent, &lock).expect("it compiles")
}

fn state(plan: &Plan, machine: &str) -> State {
    wanted(plan, machine, &|_| Some(([192, 0, 2, 1], 51_820).into())).expect("a machine")
}

/// Whether a step makes the kernel forget a connection that begins with a packet.
fn forgets(step: &Op, packet: &Packet) -> bool {
    let has = |all: &[ipnet::IpNet], at| Set::prefixes(all).contains(point(at));
    match step {
        Op::Cut { of, except } => {
            let service = u128::from(packet.protocol) << 16 | u128::from(packet.port);
            let may = |may: &May| {
                has(&may.source, packet.from)
                    && has(&may.destination, packet.to)
                    && may.services.iter().any(|(first, last)| {
                        (u128::from(*first)..=u128::from(*last)).contains(&service)
                    })
            };
            has(of, packet.from) && !except.iter().any(may)
        }
        Op::Forget { addresses } => has(addresses, packet.from) || has(addresses, packet.to),
        _ => false,
    }
}

/// What is wrong with what some steps make the kernel forget on the way from one plan to another.
fn wrong(machine: &str, from: &Plan, to: &Plan, steps: &[Op]) -> Option<String> {
    let permitted = |reach: &Reach<'_>| {
        let own = reach.permitted.iter().filter(|of| of.machine.name.as_str() == machine);
        Region(own.map(|of| of.block.clone()).collect())
    };
    let (old, new) = (permitted(&Reach::of(from)), permitted(&Reach::of(to)));
    // A packet of each piece: the pieces are where rules differ.
    let corners =
        |region: Region| -> Vec<Packet> { region.0.iter().filter_map(Block::packet).collect() };
    let is_cut = |packet: &Packet| steps.iter().any(|step| forgets(step, packet));
    let lost = corners(old.subtract(&new));
    if let Some(packet) = lost.iter().find(|packet| !is_cut(packet)) {
        return Some(format!("{packet} may not begin any more, and lives on"));
    }
    let kept = old.subtract(&Region(old.subtract(&new).0));
    // Who goes takes everything along.
    let cuts: Vec<&Op> = steps.iter().filter(|step| matches!(step, Op::Cut { .. })).collect();
    let kept = corners(kept).into_iter().find(|packet| cuts.iter().any(|cut| forgets(cut, packet)));
    kept.map(|packet| format!("{packet} may begin, and is cut"))
}

/// A client of the north, and its line.
fn ana() -> (&'static str, String) {
    let line = CLIENTS.lines().find(|line| line.contains(r#"id = "ana-phone""#));
    let line = line.expect("she is there");
    assert!(line.contains(r#"profile = "full""#), "{line}");
    (line, line.replace(r#"profile = "full""#, r#"profile = "split""#))
}

#[test]
fn what_may_not_begin_any_more_is_cut_and_nothing_else() {
    let whole = office(&[]);
    let (line, split) = ana();
    let narrowed = office(&[(line, &split)]);
    let gone = office(&[(line, "")]);
    let nothing =
        office(&[(r#"allow = ["icmp", "tcp/22", "tcp/7443"]"#, r#"allow = ["icmp", "tcp/22"]"#)]);
    let plans = [("whole", &whole), ("narrowed", &narrowed), ("gone", &gone), ("mesh", &nothing)];
    let mut cuts = 0;
    for machine in MACHINES {
        for (one, from) in plans {
            for (other, to) in plans {
                let (before, after) = (state(from, machine), state(to, machine));
                let steps = ops(&before, &after);
                let told = wrong(machine, from, to, &steps);
                assert_eq!(told, None, "{machine}: from {one} to {other}");
                let is_cut = |step: &Op| matches!(step, Op::Cut { .. });
                let at = steps.iter().position(is_cut);
                cuts += usize::from(at.is_some());
                // Once the firewall is the new one; and again by themselves.
                let rest = at.map_or(&[][..], |at| &steps[at..]);
                let late = |step: &Op| matches!(step, Op::Cut { .. } | Op::Forget { .. });
                assert!(rest.iter().all(late), "{machine}: from {one} to {other}: {rest:?}");
                if at.is_some() {
                    assert_eq!(memory(&before, &after), rest);
                    // The twin: without the step the judge finds what lives on.
                    let without: Vec<Op> =
                        steps.iter().filter(|step| !is_cut(step)).cloned().collect();
                    assert!(wrong(machine, from, to, &without).is_some(), "{one} to {other}");
                }
            }
        }
    }
    assert!(cuts >= 4, "{cuts}");
}

#[test]
fn a_cut_names_who_is_narrowed_and_cutting_more_is_found() {
    let whole = office(&[]);
    let (line, split) = ana();
    let narrowed = office(&[(line, &split)]);
    let steps = ops(&state(&whole, "nas"), &state(&narrowed, "nas"));
    let cut = steps.iter().position(|step| matches!(step, Op::Cut { .. })).expect("a cut");
    let Op::Cut { of, except } = &steps[cut] else { panic!("it was found") };
    let client = whole.client("ana-phone").expect("she is there");
    let own = client.addresses.iter().find(|of| of.server.as_str() == "nas").expect("an end");
    assert_eq!(Set::prefixes(of), Set::prefixes(&own.addresses), "hers alone");
    assert!(steps[cut].to_string().contains("may not begin any more"), "{}", steps[cut]);
    assert!(
        !ops(&state(&narrowed, "nas"), &state(&whole, "nas"))
            .iter()
            .any(|step| matches!(step, Op::Cut { .. })),
        "who may more loses nothing"
    );

    let mut more = steps.clone();
    more[cut] = Op::Cut { of: of.clone(), except: Vec::new() };
    assert!(wrong("nas", &whole, &narrowed, &more).is_some_and(|why| why.ends_with("is cut")));
    let mut all = steps.clone();
    all[cut] = Op::Cut {
        of: ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("all")).to_vec(),
        except: except.clone(),
    };
    assert!(wrong("nas", &whole, &narrowed, &all).is_some_and(|why| why.ends_with("is cut")));
}

#[test]
fn what_began_while_no_table_of_ours_was_there_is_cut_with_the_next_one() {
    let plan = office(&[]);
    let want = state(&plan, "nas");
    let open = State { firewall: None, ..want.clone() };
    let steps = ops(&open, &want);
    let cut = steps.iter().find(|step| matches!(step, Op::Cut { .. })).expect("a cut");
    let packet = |from: std::net::IpAddr, to: &str| Packet {
        from,
        to: to.parse().expect("an address"),
        protocol: 6,
        port: 443,
    };
    // Ben's telephone may reach the local network, and no internet.
    let client = plan.client("ben-phone").expect("it is there");
    let own = client.addresses.iter().find(|of| of.server.as_str() == "nas").expect("an end");
    let from = own.addresses.iter().map(|net| net.addr()).find(|ip| ip.is_ipv4());
    let from = from.expect("an address");
    assert!(forgets(cut, &packet(from, "1.1.1.1")));
    assert!(!forgets(cut, &packet(from, "192.168.10.77")));
    // A host that had nothing of ours has nothing to be cut.
    let blank = ops(&State::default(), &want);
    assert!(!blank.iter().any(|step| matches!(step, Op::Cut { .. })), "{blank:?}");
}
