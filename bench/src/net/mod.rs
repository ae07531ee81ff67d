//! `vyr bench net`: what a network under Vyr costs, and who notices that it changes.
//!
//! ```text
//! change      a server with 1,000 peers, one peer and one rule: `vyr apply`; `wg` and `nft` by hand
//! pings       600 through another peer's tunnel while such changes are made
//! rollback    a plan that locks this client out: from the deadline to the first answer
//! throughput  a TCP stream through a tunnel by Vyr, and through one typed with `wg` and `ip`
//! latency     packets beside such a stream, at full rate and at half of it
//! rotate      a device takes its next key in the middle of a stream of packets
//! rebuild     a blank host becomes the router that its bundle describes
//! failover    one of two servers dies, and the device brings its second file up
//! ```
//!
//! All hosts are namespaces on one machine, with `wireguard-go` as the data plane on interfaces of
//! their own, which are gone after each part: what is measured is Vyr, not a network. Another
//! build (`--against`) takes turns with this one in every round. What this machine cannot do is
//! `not measured`, with the reason.

mod change;
mod desk;
mod office;
mod people;
mod ping;
mod place;
mod plot;
mod report;
mod town;
mod tunnel;
mod wires;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

pub use self::report::{Compared, Measured, Report};

use self::change::Server;
use crate::environment::Environment;
use crate::rounds::{ROUNDS_MIN, Round, rounds, rounds_beside};
use crate::sample::{Rounds, Sample};

/// Rounds of a quick look.
const QUICK_ROUNDS: usize = 3;

/// This build.
const HEAD: &str = "vyr";
/// The other one.
const BASE: &str = "base";
/// Neither.
const BY_HAND: &str = "by hand";

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// A change of a server with 1,000 peers.
    Change,
    /// Who notices such a change.
    Pings,
    /// A plan that locks out, taken back.
    Rollback,
    /// What a tunnel carries, and its processor time.
    Throughput,
    /// Packets beside a load.
    Latency,
    /// A client's next key.
    Rotate,
    /// A router from its bundle.
    Rebuild,
    /// One of two servers killed.
    Failover,
}

/// All, in the order in which they are measured.
const PARTS: [(Part, &str); 8] = [
    (Part::Throughput, "throughput"),
    (Part::Latency, "latency"),
    (Part::Rotate, "rotate"),
    (Part::Rebuild, "rebuild"),
    (Part::Failover, "failover"),
    (Part::Change, "change"),
    (Part::Pings, "pings"),
    (Part::Rollback, "rollback"),
];

/// What to measure, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 rounds, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Only these parts
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,

    /// Append the report, a line of JSON, to this file [default: net.jsonl in DIR]
    #[arg(long, value_name = "FILE")]
    pub append: Option<PathBuf>,

    /// Compare this build with another one: the path of its `vyr`
    #[arg(long, value_name = "BASE")]
    pub against: Option<PathBuf>,
}

/// A build that is measured.
#[derive(Debug, Clone)]
struct Side {
    /// `HEAD` or `BASE`.
    name: &'static str,
    program: PathBuf,
}

/// Measures, and writes the report.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let wanted = if options.quick { QUICK_ROUNDS } else { options.rounds };
    let this = std::env::current_exe().context("cannot find this program")?;
    let mut sides = vec![Side { name: HEAD, program: this }];
    if let Some(base) = &options.against {
        let program = base.canonicalize();
        let program = program.with_context(|| format!("cannot use {}", base.display()))?;
        sides.push(Side { name: BASE, program });
    }
    let mut bench = Bench { wanted, sides, servers: Vec::new() };
    let mut report = Report::empty(Environment::of_this_machine("not used"), wanted, options.quick);
    for (part, name) in PARTS {
        if !options.only.is_empty() && !options.only.contains(&part) {
            report.missing.push((name.into(), "not asked for".into()));
            continue;
        }
        match bench.part(part, name, progress) {
            Ok(found) => report.parts.push(Measured { part: name.into(), rounds: Rounds(found) }),
            // One part that cannot be measured must not cost the others.
            Err(error) => {
                // It is not known how far it came.
                bench.servers.clear();
                progress(&format!("{name}: not measured: {error:#}"));
                report.missing.push((name.into(), format!("{error:#}")));
            }
        }
    }
    report.decide();
    let lines = options.append.clone().unwrap_or_else(|| options.out.join("net.jsonl"));
    report.write(&options.out, &lines)?;
    Ok(report)
}

struct Bench {
    wanted: usize,
    sides: Vec<Side>,
    /// One of each build, once a part has asked for them.
    servers: Vec<Server>,
}

type Sampled = Vec<Round<Vec<Sample>>>;
type OfSides = fn(&[Side], usize) -> Result<Vec<Sample>>;
type OfServers = fn(&mut [Server], usize) -> Result<Vec<Sample>>;

impl Bench {
    fn part(&mut self, part: Part, name: &str, progress: &mut dyn FnMut(&str)) -> Result<Sampled> {
        let programs: &[&str] = match part {
            Part::Throughput | Part::Latency => &["iperf3", "nsenter"],
            Part::Rotate | Part::Rebuild | Part::Failover => &["nsenter"],
            Part::Change | Part::Pings | Part::Rollback => &[],
        };
        let missing = place::missing(programs);
        ensure!(missing.is_empty(), "{}", missing.join(", "));
        match part {
            Part::Throughput => self.of_sides(tunnel::throughput, name, progress),
            Part::Latency => self.of_sides(tunnel::latency, name, progress),
            Part::Rotate => self.of_sides(people::rotations, name, progress),
            Part::Rebuild => self.of_sides(people::rebuilds, name, progress),
            Part::Failover => self.of_sides(people::failovers, name, progress),
            Part::Change => self.of_servers(change::changes, name, progress),
            Part::Pings => self.of_servers(change::pings, name, progress),
            Part::Rollback => self.of_servers(change::rollbacks, name, progress),
        }
    }

    /// Rounds in which each arm has hosts of its own.
    fn of_sides(
        &self,
        measure: OfSides,
        name: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Sampled> {
        rounds(self.wanted, |number| {
            progress(&format!("{name}: round {} of {}", number + 1, self.wanted));
            measure(&self.sides, number)
        })
    }

    /// Rounds that change the same servers again and again.
    fn of_servers(
        &mut self,
        measure: OfServers,
        name: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Sampled> {
        if self.servers.is_empty() {
            progress(&format!("{name}: a server with {} peers", office::PEERS));
            self.servers = self.sides.iter().map(Server::new).collect::<Result<_>>()?;
        }
        let measured: Vec<u32> = self.servers.iter().flat_map(Server::processes).collect();
        rounds_beside(self.wanted, &measured, |number| {
            progress(&format!("{name}: round {} of {}", number + 1, self.wanted));
            measure(&mut self.servers, number)
        })
    }
}
