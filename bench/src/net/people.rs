//! What a person notices: a key that rotates, a router rebuilt from its bundle, a server that dies.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::place::{Ear, Job};
use super::town::{BACKEND, KEYS, Town};
use super::wires::{Host, PLACES, PRINTER};
use super::{Side, ping};
use crate::rounds::alternate;
use crate::sample::Sample;

pub(super) const ROTATION: &str = "a key rotates while 100 packets a second pass";
pub(super) const REBUILD: &str = "a router rebuilt from its bundle";
pub(super) const FAILOVER: &str = "one of two servers is killed";

/// Packets of a rotation, and after how many the device takes its next key.
const PINGS: usize = 300;
const BEFORE: &str = "icmp_seq=100 ";

/// A round of `measure` with each build.
fn each(
    sides: &[Side],
    number: usize,
    measure: impl Fn(&Side) -> Result<Sample>,
) -> Result<Vec<Sample>> {
    alternate(&sides.iter().collect::<Vec<_>>(), number).into_iter().map(measure).collect()
}

/// The device has its next key in the middle of a stream of packets; a watch moves its addresses.
pub(super) fn rotations(sides: &[Side], number: usize) -> Result<Vec<Sample>> {
    each(sides, number, |side| {
        let town = Town::new(&side.program, 1)?;
        let wires = &town.wires;
        let plan = town.plan(&[(KEYS[0], "active"), (KEYS[1], "staged")])?;
        let conf = town.export(&PLACES[..1])?.pop().context("no configuration")?;
        let router = town.router(&PLACES[0], &plan)?;
        wires.raise(&conf)?;
        wires.forwards()?;
        let _watch = watch(&town, &router)?;
        let mut ping = ping::start(&wires.device, PRINTER, PINGS)?;
        ping.until(BEFORE)?;
        let next = fs::read_to_string(town.desk.path(KEYS[1]))?;
        let set = ["set", &wires.tunnel, "private-key", "/dev/stdin"];
        wires.device.run("wg", &set, &next)?;
        let came = ping::answers(&ping.finish()?.said);
        let told = router.space.run("wg", &["show", &wires.link, "allowed-ips"], "")?;
        let key = town.public(KEYS[1])?;
        let line = told.lines().find(|line| line.starts_with(&key)).context("no such peer")?;
        ensure!(line.contains("/32"), "the next key has no address: {line}");
        Ok(Sample::new(ROTATION, side.name)
            .with("lost", PINGS as f64 - came.len() as f64)
            .with("gap_ms", ping::gap_ms(&came)))
    })
}

/// `vyr client move --watch` on the router, which looks when this returns.
fn watch(town: &Town, router: &Host) -> Result<Job> {
    let what = ["client", "move", "--watch", "--machine", PLACES[0].name];
    let mut command = router.space.timed(60, &town.desk.vyr);
    command.args(town.desk.arguments(PLACES[0].name, &[&what[..], &BACKEND].concat()));
    let mut watch = Job::start(&router.space, command, Ear::Err)?;
    watch.until("not moved")?;
    Ok(watch)
}

/// The router burns with its disk; a blank host that has started already takes its place.
pub(super) fn rebuilds(sides: &[Side], number: usize) -> Result<Vec<Sample>> {
    each(sides, number, |side| {
        let town = Town::new(&side.program, 1)?;
        let (wires, place) = (&town.wires, &PLACES[0]);
        let plan = town.plan(&[(KEYS[0], "active")])?;
        let conf = town.export(&PLACES[..1])?.pop().context("no configuration")?;
        let router = town.router(place, &plan)?;
        wires.raise(&conf)?;
        wires.forwards()?;
        let (key, bundle) = (town.desk.text("nas/keys/op")?, town.desk.text("nas.bundle")?);
        let make = ["bundle", "--key", &key, "--out", &bundle];
        town.desk.say(&router.space, place.name, &make)?;
        wires.lower()?;
        wires.burn(router)?;
        let blank = wires.host(place)?;
        // Nobody answers it yet.
        wires.raise(&conf)?;
        let (trust, identity) =
            (town.desk.text("site/operators.allowed_signers")?, town.desk.text("nas/keys/backup")?);
        let rebuild = ["rebuild", &bundle, "--trust", &trust, "--identity", &identity];
        let begun = Instant::now();
        town.desk.say(&blank.space, "blank", &[&rebuild[..], &BACKEND].concat())?;
        let rebuilt = begun.elapsed();
        wires.forwards()?;
        Ok(Sample::new(REBUILD, side.name)
            .with("s", begun.elapsed().as_secs_f64())
            .with("rebuilt_s", rebuilt.as_secs_f64()))
    })
}

/// The device's server is killed; it takes the first tunnel down and brings its second file up.
pub(super) fn failovers(sides: &[Side], number: usize) -> Result<Vec<Sample>> {
    each(sides, number, |side| {
        let town = Town::new(&side.program, PLACES.len())?;
        let wires = &town.wires;
        let plan = town.plan(&[(KEYS[0], "active")])?;
        let files = town.export(&PLACES)?;
        let first = town.router(&PLACES[0], &plan)?;
        let _second = town.router(&PLACES[1], &plan)?;
        wires.raise(&files[0])?;
        wires.forwards()?;
        let begun = Instant::now();
        first.plane.kill();
        drop(first.space);
        wires.lower()?;
        wires.raise(&files[1])?;
        wires.forwards()?;
        Ok(Sample::new(FAILOVER, side.name).with("s", begun.elapsed().as_secs_f64()))
    })
}
