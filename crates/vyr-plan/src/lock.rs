//! `vyr.lock`: what was allocated, one sorted line an entry, so that git merges it line by line.
//!
//! ```text
//! ipv4 office@router 10.20.0.17 ana-laptop     an address, its end and its owner, for ever
//! plan network 4 sha256:...                    epoch and parent of the plan to compile
//! revoked KEY ana-laptop                       a key that never returns; a server's: its name
//! second office@router KEY                     a server's key that is on `vyr-office-2`
//! version 1
//! ```
//!
//! Lines are added and never taken away: an owner that is gone leaves its line as a tombstone, so
//! that nobody gets an address under which somebody else is still known. Two branches may give one
//! address to two clients; [`Lock::stale`] finds it, [`allocate`] moves one of them.
//!
//! IPv6 needs no ledger: those addresses come from names (`address`). The lines of services are in
//! `services::ledger`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use vyr_base::form::conflict_markers;
use vyr_base::{Diagnostic, Digest, Source};

use crate::intent::{End, Intent, Key, Name, State, Subject};
use crate::plan::{Document, Plan};
use crate::services::Ledger;

/// Bytes of a lock.
const LOCK_BYTES_MAX: usize = 16 << 20;
/// The form of this file.
const VERSION: &str = "version 1";
const HEADER: &str = "# Written by `vyr lock`; git merges it line by line. Do not edit.";

/// One server's end of an interface, as the lock writes it: `office@router`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndName {
    /// The interface.
    pub interface: Name,
    /// The server.
    pub server: Name,
}

impl EndName {
    fn subject(&self) -> Subject {
        let (interface, server) = (self.interface.to_string(), self.server.to_string());
        Subject::End { interface, server }
    }

    fn parse(text: &str) -> Option<Self> {
        let (interface, server) = text.split_once('@')?;
        Some(Self { interface: interface.parse().ok()?, server: server.parse().ok()? })
    }
}

impl fmt::Display for EndName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.interface, self.server)
    }
}

/// The plan that is to be compiled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Next {
    /// One more than that of the plan it replaces.
    pub epoch: u64,
    /// The plan it replaces.
    pub parent: Option<Digest>,
}

/// What was allocated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// Who has an address, by end: more than one after a merge that nobody mended.
    ipv4: BTreeMap<EndName, BTreeMap<Ipv4Addr, BTreeSet<Name>>>,
    /// More than one after such a merge.
    next: BTreeSet<Next>,
    revoked: BTreeSet<(Key, Name)>,
    /// Keys of servers that are on the second link of their end. All others are on the first.
    second: BTreeSet<(EndName, Key)>,
    /// Addresses by owner, of what is above.
    owned: BTreeMap<EndName, BTreeMap<Name, BTreeSet<Ipv4Addr>>>,
    /// What services have.
    pub(crate) services: Ledger,
}

impl Lock {
    /// Reads a lock; every bad line is a fault.
    pub fn parse(source: &Source) -> Result<Self, Vec<Diagnostic>> {
        let text = source.text();
        if text.len() > LOCK_BYTES_MAX {
            let what = format!("{} has {} bytes", source.name(), text.len());
            let fault = Diagnostic::error("too-large", what);
            return Err(vec![fault.why(format!("at most {LOCK_BYTES_MAX}"))]);
        }
        let conflicts = conflict_markers(source);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let (mut lock, mut faults, mut versions) = (Self::default(), Vec::new(), 0);
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let content = line.trim_end();
            let at = start..start + content.len();
            start += line.len();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if content == VERSION {
                versions += 1;
            } else if content.starts_with("version ") {
                versions += 1;
                let what = format!("the lock is of another form: {content}");
                let fault = Diagnostic::error("lock-line", what)
                    .at(source.place(at))
                    .why(format!("this vyr reads {VERSION}"))
                    .hint("use the vyr that wrote it");
                faults.push(fault);
            } else if lock.line(content).is_none() {
                let fault = Diagnostic::error("lock-line", "a line of the lock is not understood")
                    .at(source.place(at))
                    .hint("take the file from git as it was; only `vyr lock` writes it");
                faults.push(fault);
            }
        }
        if versions == 0 {
            let fault = Diagnostic::error("lock-line", format!("the lock has no line `{VERSION}`"))
                .at(source.place(0..0))
                .hint("take the file from git as it was; only `vyr lock` writes it");
            faults.push(fault);
        }
        if faults.is_empty() { Ok(lock) } else { Err(faults) }
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["ipv4", end, address, owner] => {
                self.own(EndName::parse(end)?, address.parse().ok()?, owner.parse().ok()?);
            }
            ["second", end, key] => {
                self.second.insert((EndName::parse(end)?, key.parse().ok()?));
            }
            ["plan", kind @ ("network" | "services"), epoch, parent] => {
                let parent = match parent {
                    "empty" => None,
                    digest => Some(digest.parse().ok()?),
                };
                let found =
                    epoch.parse::<u64>().ok().filter(|epoch| (1..1 << 53).contains(epoch))?;
                let epoch = Some(found).filter(|found| found.to_string() == *epoch)?;
                let next = Next { epoch, parent };
                match kind {
                    "network" => self.next.insert(next),
                    _ => self.services.next.insert(next),
                };
            }
            ["revoked", key, owner] => {
                self.revoked.insert((key.parse().ok()?, owner.parse().ok()?));
            }
            _ => return self.services.line(&words),
        }
        Some(())
    }

    fn own(&mut self, end: EndName, address: Ipv4Addr, owner: Name) {
        let addresses = self.owned.entry(end.clone()).or_default();
        addresses.entry(owner.clone()).or_default().insert(address);
        self.ipv4.entry(end).or_default().entry(address).or_default().insert(owner);
    }

    fn disown(&mut self, end: &EndName, address: Ipv4Addr, owner: &Name) {
        if let Some(owners) = self.ipv4.get_mut(end).and_then(|of| of.get_mut(&address)) {
            owners.remove(owner);
        }
        if let Some(addresses) = self.owned.get_mut(end).and_then(|of| of.get_mut(owner)) {
            addresses.remove(&address);
        }
    }

    /// The address of a device on one end, inside the prefix it has now.
    pub fn address(&self, end: &EndName, prefix: &Ipv4Net, id: &Name) -> Option<Ipv4Addr> {
        self.addresses(end, prefix, id).next()
    }

    /// All of them: more than one after a merge, or after a prefix that was changed and widened.
    fn addresses(
        &self,
        end: &EndName,
        prefix: &Ipv4Net,
        id: &Name,
    ) -> impl Iterator<Item = Ipv4Addr> {
        let addresses = self.owned.get(end).and_then(|of| of.get(id));
        let addresses = addresses.into_iter().flatten().copied();
        addresses.filter(|address| usable(prefix, *address))
    }

    /// The plan to compile, if the lock says one.
    pub fn next(&self) -> Option<&Next> {
        self.next.first().filter(|_| self.next.len() == 1)
    }

    /// The same for a plan over this one: for who asks what the site is now, and writes no plan. All
    /// that was allocated stays as it was, and nothing is.
    #[must_use]
    pub fn over(mut self, applied: Option<&Applied>) -> Self {
        self.next = BTreeSet::from([next(applied)]);
        self
    }

    /// Keys that never return.
    pub fn revoked(&self) -> impl Iterator<Item = &Key> {
        self.revoked.iter().map(|(key, _)| key)
    }

    /// The same, each with whose it was.
    pub fn revoked_of(&self) -> impl Iterator<Item = &(Key, Name)> {
        self.revoked.iter()
    }

    /// Whether a server's key is on the second link of its end.
    pub fn is_second(&self, end: &EndName, key: &Key) -> bool {
        self.second.contains(&(end.clone(), *key))
    }

    /// Who has an address.
    pub fn owners(&self, address: Ipv4Addr) -> impl Iterator<Item = (&EndName, &Name)> {
        self.ipv4.iter().flat_map(move |(end, of)| {
            of.get(&address).into_iter().flatten().map(move |owner| (end, owner))
        })
    }

    /// Why this lock is not that of `intent` over `applied`: nothing is allocated by a compilation.
    pub fn stale(&self, intent: &Intent, applied: Option<&Applied>) -> Vec<Diagnostic> {
        let mut faults = Vec::new();
        let of = |subject: Subject, fault: Diagnostic| Diagnostic {
            place: intent.place(&subject),
            ..fault
        };
        for (end, addresses) in &self.ipv4 {
            for (address, owners) in addresses.iter().filter(|(_, owners)| owners.len() > 1) {
                let names: Vec<String> = owners.iter().map(Name::to_string).collect();
                let what = format!("{address} on {end} belongs to {}", names.join(" and "));
                let last = owners.last().map(Name::to_string).unwrap_or_default();
                let fault = Diagnostic::error("lock-double", what)
                    .why("two branches gave it away and were merged")
                    .hint("run `vyr lock`: one of them, that was never applied, moves");
                faults.push(of(Subject::Client { id: last }, fault));
            }
        }
        if self.owned.is_empty() && self.next.is_empty() && !intent.clients.is_empty() {
            let fault = Diagnostic::error("lock-stale", "nothing has been allocated yet");
            let fault = fault.why("vyr.lock is absent or empty").hint("run `vyr lock`");
            return vec![of(Subject::Site, fault)];
        }
        let mut without: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
        for (end, prefix, id) in wanted(intent) {
            let found: Vec<Ipv4Addr> = self.addresses(&end, &prefix, id).take(2).collect();
            match *found.as_slice() {
                [] => without.entry(id).or_default().push(end.to_string()),
                [_] => (),
                [one, other, ..] => {
                    let what = format!("{id} has both {one} and {other} on {end}");
                    let fault = Diagnostic::error("lock-double", what)
                        .why("two branches gave it an address each and were merged")
                        .hint("run `vyr lock`: the one that was applied stays");
                    faults.push(of(Subject::Client { id: id.to_string() }, fault));
                }
            }
        }
        for (id, ends) in without {
            let what = format!("{id} has no address on {} yet", ends.join(" and "));
            let fault = Diagnostic::error("lock-stale", what).hint("run `vyr lock`");
            faults.push(of(Subject::Client { id: id.to_string() }, fault));
        }
        let revoked: BTreeSet<&Key> = self.revoked().collect();
        for client in intent.clients_in(State::Revoked) {
            if !revoked.contains(&*client.public_key) {
                let what =
                    format!("the revoked key of {} is not in the lock yet", client.id.as_str());
                let fault = Diagnostic::error("lock-stale", what).hint("run `vyr lock`");
                faults.push(of(Subject::Client { id: client.id.to_string() }, fault));
            }
        }
        for (end, key) in seconds(intent, self) {
            if !self.is_second(&end, &key) {
                let what = format!("the link of the staged key of {end} is not in the lock yet");
                let fault = Diagnostic::error("lock-stale", what).hint("run `vyr lock`");
                faults.push(of(end.subject(), fault));
            }
        }
        for (server, key) in revoked_ends(intent) {
            if !revoked.contains(&key) {
                let what = format!("the revoked key of {server} is not in the lock yet");
                let fault = Diagnostic::error("lock-stale", what).hint("run `vyr lock`");
                faults.push(of(Subject::Server { name: server.to_string() }, fault));
            }
        }
        let next = next(applied);
        if self.next() != Some(&next) {
            let what = match self.next.len() {
                0 => "the lock does not say which plan comes next".to_owned(),
                1 => "the lock is for a plan over another one".to_owned(),
                n => format!("the lock names {n} plans to come"),
            };
            let over = next.parent.map_or("nothing".into(), |parent| parent.to_string());
            let fault = Diagnostic::error("lock-stale", what)
                .why(format!("what is applied now: {over}"))
                .hint("run `vyr lock`");
            faults.push(of(Subject::Site, fault));
        }
        faults
    }
}

/// As the file has it.
impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = vec![VERSION.into()];
        for (end, addresses) in &self.ipv4 {
            for (address, owners) in addresses {
                lines.extend(owners.iter().map(|owner| format!("ipv4 {end} {address} {owner}")));
            }
        }
        for (kind, all) in [("network", &self.next), ("services", &self.services.next)] {
            for next in all {
                let parent = next.parent.as_ref().map_or("empty".into(), Digest::to_string);
                lines.push(format!("plan {kind} {} {parent}", next.epoch));
            }
        }
        lines.extend(self.services.lines());
        lines.extend(self.revoked.iter().map(|(key, owner)| format!("revoked {key} {owner}")));
        lines.extend(self.second.iter().map(|(end, key)| format!("second {end} {key}")));
        lines.sort_unstable();
        writeln!(f, "{HEADER}")?;
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The plan of a kind that was confirmed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied<P = Plan> {
    /// Its name.
    pub digest: Digest,
    /// The plan.
    pub plan: P,
}

/// What comes after the plan that is applied now.
pub fn next<P: Document>(applied: Option<&Applied<P>>) -> Next {
    match applied {
        None => Next { epoch: 1, parent: None },
        Some(applied) => Next { epoch: applied.plan.epoch() + 1, parent: Some(applied.digest) },
    }
}

/// Each address that a compilation needs: of every device with a key that is not revoked.
fn wanted(intent: &Intent) -> impl Iterator<Item = (EndName, Ipv4Net, &Name)> {
    let live = intent.clients.iter().filter(|client| *client.state != State::Revoked);
    // One device may have several lines.
    let ids: BTreeMap<&Name, &Name> =
        live.map(|client| -> (&Name, &Name) { (&client.id, &client.interface) }).collect();
    ids.into_iter().flat_map(|(id, name)| {
        let interface = intent.site.interfaces.get(name);
        interface.into_iter().flat_map(|interface| &interface.at).flat_map(move |(server, end)| {
            end.vpn.iter().filter_map(move |prefix| match prefix.0 {
                IpNet::V4(v4) => {
                    let end = EndName { interface: name.clone(), server: (**server).clone() };
                    Some((end, v4, id))
                }
                IpNet::V6(_) => None,
            })
        })
    })
}

/// The ends of servers, with their names.
fn ends(intent: &Intent) -> impl Iterator<Item = (EndName, &End)> {
    intent.site.interfaces.iter().flat_map(|(interface, of)| {
        of.at.iter().map(move |(server, end)| {
            let (interface, server) = ((**interface).clone(), (**server).clone());
            (EndName { interface, server }, end)
        })
    })
}

/// Staged keys of servers that are to be on the second link of their end: the active one is not.
fn seconds<'a>(intent: &'a Intent, lock: &'a Lock) -> impl Iterator<Item = (EndName, Key)> + 'a {
    ends(intent).filter_map(|(name, end)| {
        let staged = end.staged.as_ref()?;
        let free = !lock.is_second(&name, &end.public_key);
        free.then_some((name, *staged.public_key))
    })
}

/// Keys of servers' ends that are refused for good.
fn revoked_ends(intent: &Intent) -> impl Iterator<Item = (&Name, Key)> {
    intent.site.interfaces.values().flat_map(|of| &of.at).flat_map(|(server, end)| {
        let revoked = end.old_keys.iter().filter(|old| *old.state == State::Revoked);
        revoked.map(move |old| (&**server, *old.public_key))
    })
}

/// Whether a client may have this address: not the network's, the server's or the broadcast.
fn usable(prefix: &Ipv4Net, address: Ipv4Addr) -> bool {
    prefix.contains(&address)
        && address != prefix.network()
        && address != prefix.broadcast()
        && address != gateway(prefix)
}

/// The server's own address in a prefix of its clients.
pub(crate) fn gateway(prefix: &Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(prefix.network().to_bits() + 1)
}

/// The lock of `intent` over `applied`, from the old one. The same arguments give the same lock.
pub fn allocate(
    intent: &Intent,
    old: &Lock,
    applied: Option<&Applied>,
) -> Result<Lock, Vec<Diagnostic>> {
    let mut lock = old.clone();
    part_doubles(&mut lock, applied);
    let mut faults = Vec::new();
    for (end, prefix, id) in wanted(intent) {
        keep_one(&mut lock, applied, &end, &prefix, id);
        if lock.address(&end, &prefix, id).is_some() {
            continue;
        }
        match free(&lock, &end, &prefix, id) {
            Some(address) => lock.own(end, address, id.clone()),
            None => {
                let fault = Diagnostic::error(
                    "lock-full",
                    format!("{prefix} on {end} has no address left for {id}"),
                )
                .why("addresses are never given twice, also those of devices that are gone")
                .hint("give this end a larger prefix");
                let place = intent.place(&Subject::Client { id: id.to_string() });
                faults.push(Diagnostic { place, ..fault });
            }
        }
    }
    for client in intent.clients_in(State::Revoked) {
        lock.revoked.insert((*client.public_key, (*client.id).clone()));
    }
    for (server, key) in revoked_ends(intent) {
        lock.revoked.insert((key, server.clone()));
    }
    let seconds: Vec<_> = seconds(intent, &lock).collect();
    lock.second.extend(seconds);
    lock.next = BTreeSet::from([next(applied)]);
    if faults.is_empty() { Ok(lock) } else { Err(faults) }
}

/// Whether the applied plan has this address of this owner.
fn was_applied(applied: Option<&Applied>, end: &EndName, address: Ipv4Addr, owner: &Name) -> bool {
    let client = applied.and_then(|applied| applied.plan.client(owner.as_str()));
    let of = client
        .filter(|client| client.interface == end.interface)
        .and_then(|client| client.addresses.iter().find(|of| of.server == end.server));
    of.is_some_and(|of| of.addresses.contains(&IpNet::from(IpAddr::from(address))))
}

/// Of several addresses of one device the one that was applied stays, else the smallest.
fn keep_one(
    lock: &mut Lock,
    applied: Option<&Applied>,
    end: &EndName,
    prefix: &Ipv4Net,
    id: &Name,
) {
    let all: Vec<Ipv4Addr> = lock.addresses(end, prefix, id).collect();
    let applied = all.iter().find(|address| was_applied(applied, end, **address, id));
    let keeper = applied.or(all.first()).copied();
    for address in all.into_iter().filter(|address| Some(*address) != keeper) {
        lock.disown(end, address, id);
    }
}

/// Of several owners of an address the one that was applied keeps it, else the smallest id.
fn part_doubles(lock: &mut Lock, applied: Option<&Applied>) {
    let has =
        |end: &EndName, address: Ipv4Addr, owner: &Name| was_applied(applied, end, address, owner);
    let mut moves = Vec::new();
    for (end, addresses) in &lock.ipv4 {
        for (address, owners) in addresses.iter().filter(|(_, owners)| owners.len() > 1) {
            let keeper = owners.iter().find(|owner| has(end, *address, owner)).or(owners.first());
            for owner in owners.iter().filter(|owner| Some(*owner) != keeper) {
                moves.push((end.clone(), *address, owner.clone()));
            }
        }
    }
    for (end, address, owner) in moves {
        lock.disown(&end, address, &owner);
    }
}

/// A free address: where the name's hash falls, else the next one. So two branches seldom give the
/// same one away.
fn free(lock: &Lock, end: &EndName, prefix: &Ipv4Net, id: &Name) -> Option<Ipv4Addr> {
    let taken = lock.ipv4.get(end);
    let is_free = |address: &Ipv4Addr| {
        let owners = taken.and_then(|of| of.get(address));
        owners.is_none_or(BTreeSet::is_empty) && usable(prefix, *address)
    };
    let room = 1_u64 << (32 - prefix.prefix_len());
    let digest = Digest::of(format!("vyr-ipv4-v1\n{end}\n{id}\n").as_bytes());
    let start = u64::from_str_radix(digest.hex().get(..16)?, 16).ok()? % room;
    let mut places = (0..room).map(|step| (start + step) % room);
    places.find_map(|place| {
        let place = u32::try_from(place).ok()?;
        Some(Ipv4Addr::from_bits(prefix.network().to_bits() + place)).filter(is_free)
    })
}
