//! What holds however a site is written and edited: one digest for one intent, addresses that
//! nobody else's edits move, revocations that last, locks that merge.
//!
//! Everything is seeded; a failure names its seed.

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/replace.rs"]
mod replace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use random::Random;
use toml::Value;
use vyr_base::Source;
use vyr_plan::intent::Key;
use vyr_plan::{Applied, Files, Intent, Lock, Plan, allocate, compile, prove};

const PERMUTATIONS: u64 = 1000;
const HISTORIES: u64 = 30;
const EDITS: usize = 14;
const MERGES: u64 = 100;

fn shuffle<T>(random: &mut Random, items: &mut [T]) {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at + 1));
    }
}

/// Writes TOML anew: other order, other spelling, the same meaning.
struct Writer<'a> {
    random: &'a mut Random,
    text: String,
}

impl Writer<'_> {
    fn space(&mut self) -> &'static str {
        ["", " ", "  ", "\t"][self.random.below(4)]
    }

    fn end(&mut self) {
        let comment = ["", "", " # it says so", "\t#", "\n\n# \u{e9}"][self.random.below(5)];
        let newline = if self.random.below(4) == 0 { "\r\n" } else { "\n" };
        self.text.push_str(comment);
        self.text.push_str(newline);
    }

    fn key(&mut self, key: &str) -> String {
        match self.random.below(4) {
            0 => format!("\"{key}\""),
            1 => format!("'{key}'"),
            _ => key.to_owned(),
        }
    }

    fn string(&mut self, text: &str) -> String {
        match self.random.below(4) {
            0 if !text.contains('\'') => format!("'{text}'"),
            1 => {
                let escape = |c: char| format!("\\u{:04X}", u32::from(c));
                format!("\"{}\"", text.chars().map(escape).collect::<String>())
            }
            2 => format!("\"\"\"{text}\"\"\""),
            _ => format!("\"{text}\""),
        }
    }

    /// A value on the right of `=`, in a line or several. The order of `dns` means something.
    fn value(&mut self, value: &Value, ordered: bool) -> String {
        match value {
            Value::String(text) => self.string(text),
            Value::Integer(number) => match self.random.below(3) {
                0 => format!("0x{number:x}"),
                1 if *number >= 1000 => format!("{}_{:03}", number / 1000, number % 1000),
                _ => number.to_string(),
            },
            Value::Boolean(truth) => truth.to_string(),
            Value::Array(items) => {
                let mut items: Vec<String> =
                    items.iter().map(|item| self.value(item, false)).collect();
                if !ordered {
                    shuffle(self.random, &mut items);
                }
                let (open, between) = match self.random.below(3) {
                    0 => ("[\n  ", ",\n  "),
                    1 => ("[ # so\n", ","),
                    _ => ("[", ", "),
                };
                let last = if !items.is_empty() && self.random.below(2) == 0 { "," } else { "" };
                format!("{open}{}{last}{}]", items.join(between), self.space())
            }
            Value::Table(table) => {
                let mut fields: Vec<String> = table
                    .iter()
                    .map(|(key, item)| {
                        let key = self.key(key);
                        format!("{key}{}={}{}", self.space(), self.space(), self.value(item, false))
                    })
                    .collect();
                shuffle(self.random, &mut fields);
                format!("{{{}}}", fields.join(", "))
            }
            other => panic!("a site has no {other:?}"),
        }
    }

    fn table(&mut self, path: &[String], table: &toml::Table) {
        let mut keys: Vec<(&String, &Value)> = table.iter().collect();
        shuffle(self.random, &mut keys);
        // What is no table of its own stands before those that are.
        let (mut after, mut inline) = (Vec::new(), Vec::new());
        for (key, value) in keys {
            let tables =
                |items: &Vec<Value>| items.iter().all(Value::is_table) && !items.is_empty();
            match value {
                Value::Table(_) if path.is_empty() || self.random.below(3) > 0 => {
                    after.push((key, value))
                }
                Value::Array(items) if tables(items) && self.random.below(2) == 0 => {
                    after.push((key, value))
                }
                _ => inline.push((key, value)),
            }
        }
        for (key, value) in inline {
            let written = self.value(value, key == "dns");
            let (key, before, behind) = (self.key(key), self.space(), self.space());
            self.text.push_str(&format!("{before}{key}{behind}={before}{written}"));
            self.end();
        }
        for (key, value) in after {
            let mut path = path.to_vec();
            path.push(self.key(key));
            match value {
                Value::Table(inner) => {
                    self.text.push_str(&format!("[{}]", path.join(".")));
                    self.end();
                    self.table(&path, inner);
                }
                Value::Array(items) => {
                    let mut items: Vec<&Value> = items.iter().collect();
                    shuffle(self.random, &mut items);
                    for item in items {
                        self.text.push_str(&format!("[[{}]]", path.join(".")));
                        self.end();
                        self.table(&path, item.as_table().expect("a table"));
                    }
                }
                _ => unreachable!("only tables come after"),
            }
        }
    }
}

/// The same meaning in other words.
fn rewritten(random: &mut Random, source: &Source) -> Source {
    let table: toml::Table = toml::from_str(source.text()).expect("TOML");
    let mut writer = Writer { random, text: String::new() };
    writer.table(&[], &table);
    let again: toml::Table = toml::from_str(&writer.text).expect("what is written is TOML");
    assert_eq!(again.len(), table.len());
    Source::new(source.name(), writer.text)
}

#[test]
fn one_intent_has_one_digest() {
    let office = common::files();
    let (lock, plan) = common::plan(&common::office(), None);
    let digest = plan.digest().expect("canonical");
    let mut texts = BTreeSet::new();
    for seed in 0..PERMUTATIONS {
        let mut random = Random(seed);
        let mut lines: Vec<String> = lock.to_string().lines().map(str::to_owned).collect();
        shuffle(&mut random, &mut lines);
        let files = Files {
            site: rewritten(&mut random, &office.site),
            clients: office.clients.as_ref().map(|source| rewritten(&mut random, source)),
            contracts: office.contracts.iter().map(|one| rewritten(&mut random, one)).collect(),
            ..office.clone()
        };
        texts.insert(files.site.text().to_owned());
        let site = files.site.clone();
        let intent = files.read().unwrap_or_else(|faults| {
            panic!("seed {seed}: {}\n{}", faults[0], site.text());
        });
        let found = Source::new("vyr.lock", lines.join("\n") + "\n");
        let found = Lock::parse(&found).expect("the same lock");
        assert_eq!(found, lock, "seed {seed}");
        let again = compile(&intent, &found).expect("it compiles");
        assert_eq!(again.digest().expect("canonical"), digest, "seed {seed}: {}", site.text());
        let fresh = allocate(&intent, &Lock::default(), None).expect("there is room");
        assert_eq!(fresh, lock, "seed {seed}: allocation depends on order");
    }
    assert_eq!(texts.len() as u64, PERMUTATIONS, "some were written alike");
}

/// A line of `clients.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    id: String,
    interface: &'static str,
    key: Key,
    state: &'static str,
}

impl Line {
    fn new(id: String, interface: &'static str, number: u64) -> Self {
        let mut bytes = [0x55; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Self { id, interface, key: Key::from_bytes(bytes), state: "active" }
    }
}

/// The worked site with these devices and no other, in a laboratory with room for a few.
fn site(lines: &[Line]) -> Intent {
    let files = replace::replaced(&common::files(), "\"10.99.0.0/24\"", "\"10.99.0.0/28\"");
    let line = |line: &Line| {
        let Line { id, interface, key, state } = line;
        format!(
            "  {{ id = \"{id}\", owner = \"x\", interface = \"{interface}\", profile = \"split\", \
             public_key = \"{key}\", state = \"{state}\" }},\n"
        )
    };
    let text: String = lines.iter().map(line).collect();
    let text = format!("version = 1\nclients = [\n{text}]\n");
    let clients = Some(Source::new("clients.toml", text));
    common::read(Files { clients, contracts: Vec::new(), ..files })
}

/// Everybody's addresses.
fn addresses(plan: &Plan) -> BTreeMap<String, Vec<IpAddr>> {
    let of = |client: &vyr_plan::plan::Client| {
        let all = client.addresses.iter().flat_map(|of| &of.addresses);
        (client.id.to_string(), all.map(|net| net.addr()).collect())
    };
    plan.clients.iter().map(of).collect()
}

const INTERFACES: [&str; 3] = ["north", "south", "lab"];

fn some_lines(random: &mut Random, count: usize) -> Vec<Line> {
    let line = |n: usize, random: &mut Random| {
        Line::new(format!("device-{n}"), INTERFACES[random.below(3)], n as u64)
    };
    (0..count).map(|n| line(n, random)).collect()
}

#[test]
fn a_client_that_goes_and_returns_finds_everything_as_it_was() {
    for seed in 0..HISTORIES {
        let random = &mut Random(seed);
        let lines = some_lines(random, 20);
        let (before, plan) = common::plan(&site(&lines), None);
        let gone = random.below(lines.len());
        let mut fewer = lines.clone();
        let returning = fewer.remove(gone);
        let lock = allocate(&site(&fewer), &before, None).expect("there is room");
        assert_eq!(lock, before, "seed {seed}: a tombstone stays");
        let without = compile(&site(&fewer), &lock).expect("it compiles");
        assert_eq!(without.clients.len(), plan.clients.len() - 1);
        fewer.push(returning);
        let lock = allocate(&site(&fewer), &lock, None).expect("there is room");
        let again = compile(&site(&fewer), &lock).expect("it compiles");
        assert_eq!((lock, again), (before, plan), "seed {seed}");
    }
}

#[test]
fn nobody_moves_because_somebody_comes_or_goes() {
    for seed in 0..HISTORIES {
        let random = &mut Random(seed);
        let mut lines = some_lines(random, 12);
        let (mut lock, plan) = common::plan(&site(&lines), None);
        let mut known = addresses(&plan);
        for edit in 0..EDITS {
            match random.below(3) {
                0 if lines.len() > 1 => {
                    lines.remove(random.below(lines.len()));
                }
                _ => {
                    let interface = INTERFACES[random.below(2)];
                    let number = 1000 + edit as u64;
                    let at = random.below(lines.len() + 1);
                    lines.insert(at, Line::new(format!("new-{edit}"), interface, number));
                }
            }
            let intent = site(&lines);
            lock = allocate(&intent, &lock, None).expect("there is room");
            let plan = compile(&intent, &lock).expect("it compiles");
            assert_eq!(prove(&plan, None), [], "seed {seed}, edit {edit}");
            for (id, now) in addresses(&plan) {
                let before = known.entry(id.clone()).or_insert_with(|| now.clone());
                assert_eq!(*before, now, "seed {seed}, edit {edit}: {id} moved");
            }
        }
    }
}

#[test]
fn a_revocation_outlives_every_edit() {
    for seed in 0..HISTORIES {
        let random = &mut Random(seed);
        let mut lines = some_lines(random, 8);
        let (mut lock, mut parent) = common::plan(&site(&lines), None);
        let mut revoked: BTreeSet<Key> = BTreeSet::new();
        for edit in 0..EDITS {
            let at = random.below(lines.len());
            match random.below(5) {
                0 => {
                    lines[at].state = "revoked";
                    revoked.insert(lines[at].key);
                }
                1 if lines.len() > 2 => {
                    lines.remove(at);
                }
                2 => lines[at].state = ["active", "retired", "staged"][random.below(3)],
                3 => {
                    // Somebody brings a key back under another name.
                    let mut one = Line::new(format!("other-{edit}"), "south", 5000 + edit as u64);
                    let old = revoked.iter().nth(random.below(revoked.len().max(1)));
                    one.key = old.copied().unwrap_or(one.key);
                    lines.push(one);
                }
                _ => {
                    let one = Line::new(format!("late-{edit}"), "north", 9000 + edit as u64);
                    lines.push(one);
                }
            }
            let intent = site(&lines);
            // Now and then the lock is lost: the parent remembers.
            let kept = if random.below(6) == 0 { Lock::default() } else { lock.clone() };
            let next = allocate(&intent, &kept, None).expect("there is room");
            let plan = compile(&intent, &next).expect("it compiles");
            let peers: BTreeSet<Key> = plan
                .machines
                .iter()
                .flat_map(|machine| &machine.links)
                .flat_map(|link| link.peers.iter().map(|peer| peer.public_key))
                .collect();
            let listed: BTreeSet<Key> = plan.revoked.iter().copied().collect();
            let back = peers.intersection(&revoked).next().is_some();
            let lost = !revoked.is_subset(&listed);
            let found = prove(&plan, Some(&parent)).iter().any(|one| one.id == "N13");
            assert_eq!(found, back || lost, "seed {seed}, edit {edit}: {lines:#?}");
            if found {
                // Such a plan is refused; the next edit starts from what was there.
                lines.retain(|line| !revoked.contains(&line.key) || line.state == "revoked");
                if lines.is_empty() {
                    lines.push(Line::new(format!("again-{edit}"), "north", 7000 + edit as u64));
                }
            } else {
                (lock, parent) = (next, plan);
            }
        }
    }
}

/// As git's union merge does it: the lines of both, those they share once.
fn union(base: &Lock, ours: &Lock, theirs: &Lock) -> Lock {
    let base: BTreeSet<String> = base.to_string().lines().map(str::to_owned).collect();
    let mut text = ours.to_string();
    let (ours, theirs) = (text.clone(), theirs.to_string());
    let ours: BTreeSet<&str> = ours.lines().collect();
    for line in theirs.lines().filter(|line| !base.contains(*line) && !ours.contains(line)) {
        text.push_str(&format!("{line}\n"));
    }
    Lock::parse(&Source::new("vyr.lock", text)).expect("lines of locks")
}

#[test]
fn merged_locks_are_mended_without_moving_what_was_applied() {
    let (mut doubles, mut seconds) = (0, 0);
    for seed in 0..MERGES {
        let random = &mut Random(seed);
        let lines = some_lines(random, 3);
        let (base, _) = common::plan(&site(&lines), None);
        let branch = |name: &str, random: &mut Random| {
            let mut lines = lines.clone();
            for n in 0..4 {
                // Now and then both branches add the same device.
                let name = if random.below(3) == 0 { "both" } else { name };
                let number = u64::from(name.as_bytes()[0]) * 1000 + n;
                lines.push(Line::new(format!("{name}-{n}"), "lab", number));
            }
            let lock = allocate(&site(&lines), &base, None).expect("there is room");
            (lines, lock)
        };
        let (ours, our_lock) = branch("ours", random);
        let (theirs, mut their_lock) = branch("theirs", random);
        if random.below(3) == 0 {
            // They had added one of ours as well, and it got another address there.
            let line = format!("ipv4 lab@router-south 10.99.0.{} ", 2 + random.below(13));
            let text = format!("{their_lock}{line}{}\n", ours[3].id);
            their_lock = Lock::parse(&Source::new("vyr.lock", text)).expect("a lock");
        }
        // Ours was applied before the merge.
        let plan = compile(&site(&ours), &our_lock).expect("it compiles");
        assert_eq!(prove(&plan, None), [], "seed {seed}");
        let applied = Applied { digest: plan.digest().expect("canonical"), plan };
        let mut all = ours.clone();
        all.extend(theirs.into_iter().filter(|line| !ours.contains(line)));
        let intent = site(&all);
        let merged = union(&base, &our_lock, &their_lock);
        let stale = merged.stale(&intent, Some(&applied));
        assert!(!stale.is_empty(), "seed {seed}: the epoch at least is another");
        doubles += usize::from(stale.iter().any(|one| one.what.contains("belongs to")));
        seconds += usize::from(stale.iter().any(|one| one.what.contains("has both")));
        let mended = allocate(&intent, &merged, Some(&applied)).expect("there is room");
        assert_eq!(mended.stale(&intent, Some(&applied)), [], "seed {seed}");
        let plan = compile(&intent, &mended).expect("it compiles");
        assert_eq!(prove(&plan, Some(&applied.plan)), [], "seed {seed}");
        let now = addresses(&plan);
        for (id, before) in addresses(&applied.plan) {
            assert_eq!(now[&id], before, "seed {seed}: {id} moved");
        }
        // Whoever merges the other way round, and later again, comes to the same.
        let other = union(&base, &their_lock, &our_lock);
        let other = allocate(&intent, &other, Some(&applied)).expect("there is room");
        assert_eq!(other, mended, "seed {seed}: the order of the merge matters");
        let again = allocate(&intent, &mended, Some(&applied)).expect("there is room");
        assert_eq!(again, mended, "seed {seed}");
    }
    assert!(doubles > 10, "only {doubles} merges gave an address to two devices");
    assert!(seconds > 3, "only {seconds} merges gave a device two addresses");
}
