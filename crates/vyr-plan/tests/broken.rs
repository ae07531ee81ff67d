//! Sites with something wrong, and what a person is told: one file a case in `tests/broken`.
//!
//! ```text
//! What is wrong, in a sentence.
//!
//! == site.toml             the file that is changed; all begin as the worked site
//! - port = 51871           this text stands there once ..
//! + port = 0               .. and becomes this one (without a `-`: is added at the end)
//! == told
//! site.toml:87:8: ...      what is told, exactly
//! ```
//!
//! Instead of changes: `@ absent`, `@ empty`, `@ cut TEXT` (the file ends before TEXT), `@ repeat N
//! TEXT` (added N times). `\u{..}` in a change is that character. The lock is what `allocate` makes
//! of the site and of the changed lock, unless it says `@ as it is`; each tag that it does not pin is
//! answered with a digest. `services/NAME.toml` and `secrets/NAME.age` begin empty.
//!
//! `VYR_BROKEN_WRITE=1 cargo test -p vyr-plan --test broken` writes the last part of every case
//! anew: read the difference as a user would.

#![expect(
    clippy::disallowed_methods,
    reason = "a test reads its cases; what it tests is given texts"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use vyr_base::{Diagnostic, Digest, Source};
use vyr_plan::{Files, Intent, Lock, allocate, compile, prove, run_contracts, services};

/// Cases there are at least.
const CASES_MIN: usize = 60;
/// More faults than these are not written down one by one.
const TOLD_MAX: usize = 20;
const WRITE: &str = "VYR_BROKEN_WRITE";
const TOLD: &str = "== told\n";

/// One case.
struct Case {
    path: PathBuf,
    /// All above what is told.
    head: String,
    told: String,
}

impl Case {
    fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let entries = fs::read_dir(folder).expect("the folder of cases");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a case");
        let (head, told) = text.split_once(TOLD).unwrap_or((&text, ""));
        Case { head: head.to_owned(), told: told.to_owned(), path }
    };
    paths.into_iter().map(read).collect()
}

/// A text with `\u{..}` as characters.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u{");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('}').expect("an escape ends");
        let code = u32::from_str_radix(code, 16).expect("hexadecimal");
        plain.push(char::from_u32(code).expect("a character"));
        plain.push_str(rest);
    }
    plain
}

/// The files of a case by name; the lock among them, and whether it is taken as it is.
fn changed(case: &Case) -> (BTreeMap<String, String>, bool) {
    let office = common::files();
    let (lock, _) = common::plan(&common::office(), None);
    let known = [Some(&office.site), office.clients.as_ref(), office.signers.as_ref()];
    let known = known.into_iter().flatten().chain(&office.contracts);
    let mut files: BTreeMap<String, String> =
        known.map(|source| (source.name().to_owned(), source.text().to_owned())).collect();
    files.insert("vyr.lock".into(), lock.to_string());
    let mut as_it_is = false;
    for part in case.head.split("\n== ").skip(1) {
        let (name, changes) = part.split_once('\n').unwrap_or((part, ""));
        let text = files.entry(name.to_owned()).or_default();
        let (mut from, mut to): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let apply = |from: &mut Vec<String>, to: &mut Vec<String>, text: &mut String| {
            let (old, new) = (from.join("\n"), to.join("\n"));
            match (from.is_empty(), to.is_empty()) {
                (true, true) => return,
                (true, false) => text.push_str(&(new + "\n")),
                (false, _) => {
                    let count = text.matches(&old).count();
                    assert_eq!(count, 1, "{}: {old:?} in {name}", case.name());
                    *text = text.replace(&old, &new);
                }
            }
            from.clear();
            to.clear();
        };
        for line in changes.lines() {
            if let Some(old) = line.strip_prefix("- ") {
                if !to.is_empty() {
                    apply(&mut from, &mut to, text);
                }
                from.push(unescaped(old));
            } else if let Some(new) = line.strip_prefix("+ ").or(line.strip_prefix('+')) {
                to.push(unescaped(new));
            } else if line.is_empty() {
                apply(&mut from, &mut to, text);
            } else {
                match *line.splitn(4, ' ').collect::<Vec<_>>().as_slice() {
                    ["@", "absent"] => *text = "absent".into(),
                    ["@", "empty"] => text.clear(),
                    ["@", "as", "it", "is"] => as_it_is = true,
                    ["@", "repeat", count, what] => {
                        text.push_str(&unescaped(what).repeat(count.parse().expect("a number")));
                    }
                    ["@", "cut", ..] => {
                        let at = text.find(line.trim_start_matches("@ cut ")).expect("a text");
                        text.truncate(at);
                    }
                    _ => panic!("{}: {line:?} is no change", case.name()),
                }
            }
        }
        apply(&mut from, &mut to, text);
    }
    files.retain(|_, text| text != "absent");
    (files, as_it_is)
}

/// What a person is told.
fn faults(case: &Case) -> Vec<Diagnostic> {
    let (mut texts, as_it_is) = changed(case);
    let mut take = |name: &str| texts.remove(name).map(|text| Source::new(name, text));
    let (site, clients) = (take("site.toml").expect("a site"), take("clients.toml"));
    let (signers, lock) = (take("operators.allowed_signers"), take("vyr.lock"));
    let (secrets, texts): (BTreeMap<_, _>, BTreeMap<_, _>) =
        texts.into_iter().partition(|(name, _)| name.starts_with("secrets/"));
    let secrets = secrets.into_iter().map(|(name, text)| {
        let stem = name.trim_start_matches("secrets/").trim_end_matches(".age").to_owned();
        (stem, Digest::of(text.as_bytes()))
    });
    let sources = texts.into_iter().map(|(name, text)| Source::new(name, text));
    let (services, contracts) = sources.partition(|of| of.name().starts_with("services/"));
    let lock = lock.unwrap_or_else(|| Source::new("vyr.lock", Lock::default().to_string()));
    let files = Files {
        clients,
        signers,
        contracts,
        services,
        secrets: secrets.collect(),
        lock: Some(lock.clone()),
        ..Files::new(site)
    };
    let parsed = Lock::parse(&lock);
    let intent = match (files.read(), &parsed) {
        (Ok(intent), Ok(_)) => intent,
        (Ok(_), Err(faults)) => return faults.clone(),
        (Err(faults), parsed) => {
            let more = parsed.as_ref().err().into_iter().flatten().cloned();
            return faults.into_iter().chain(more).collect();
        }
    };
    let lock = parsed.expect("it was read");
    if as_it_is {
        let mut stale = lock.stale(&intent, None);
        stale.extend(services::stale(&intent, &lock, None));
        return if stale.is_empty() { judged(&intent, &lock) } else { stale };
    }
    match allocate(&intent, &lock, None).and_then(|lock| pinned(&intent, lock)) {
        Ok(lock) => judged(&intent, &lock),
        Err(faults) => faults,
    }
}

/// A lock with an answer for every tag.
fn pinned(intent: &Intent, mut lock: Lock) -> Result<Lock, Vec<Diagnostic>> {
    for (reference, _) in services::unpinned(intent, &lock.clone(), services::Update::None) {
        lock.pin(reference, Digest::of(reference.to_string().as_bytes()));
    }
    services::allocate_services(intent, &lock, None)
}

/// All of it, or of very much the beginning and the end.
fn told(faults: &[Diagnostic]) -> String {
    let lines = |faults: &[Diagnostic]| -> String {
        faults.iter().map(|fault| format!("{fault}\n")).collect()
    };
    match faults {
        [first @ .., last] if faults.len() > TOLD_MAX => {
            let between = format!("({} more)\n", first.len() - 3);
            lines(&first[..3]) + &between + &lines(std::slice::from_ref(last))
        }
        all => lines(all),
    }
}

fn judged(intent: &Intent, lock: &Lock) -> Vec<Diagnostic> {
    let plan = match compile(intent, lock) {
        Ok(plan) => plan,
        Err(faults) => return faults,
    };
    let (_, applied) = common::plan(&common::office(), None);
    let found = prove(&plan, Some(&applied));
    let mut faults: Vec<_> = found.iter().map(|violation| violation.diagnostic(intent)).collect();
    if faults.is_empty() {
        let outcomes = run_contracts(intent, &plan, Some(&applied));
        faults.extend(outcomes.iter().filter_map(|outcome| outcome.diagnostic(intent)));
    }
    if !intent.services.is_empty() {
        match services::compile_services(intent, lock, None, None) {
            Ok(plan) => {
                let found = services::prove_services(&plan, None);
                faults.extend(found.iter().map(|violation| violation.diagnostic(intent)));
            }
            Err(more) => faults.extend(more),
        }
    }
    faults
}

#[test]
fn each_broken_site_is_told_what_is_wrong() {
    let write = std::env::var_os(WRITE).is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    for case in &cases {
        let faults = faults(case);
        if faults.is_empty() {
            wrong.push(format!("{}: nothing is found", case.name()));
        }
        let told = told(&faults);
        if write {
            fs::write(&case.path, format!("{}{TOLD}{told}", case.head)).expect("room");
        } else if told != case.told {
            wrong.push(format!("{}: wanted\n{}found\n{told}", case.name(), case.told));
        }
        for fault in &faults {
            if !fault.is_error() {
                wrong.push(format!("{}: {fault} is no error", case.name()));
            }
            if fault.why.is_none() && fault.hint.is_none() {
                wrong.push(format!("{}: {fault}: neither why nor how to mend it", case.name()));
            }
            let lines = fault.to_string().lines().map(str::len).max();
            if lines > Some(400) {
                wrong.push(format!("{}: {fault}: a line of {lines:?} bytes", case.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// One thing wrong in a line, in each way: a value of no type that is wanted, an empty text, a name
/// in capitals.
fn spoilt(line: &str) -> Vec<String> {
    if let Some(header) = line.strip_prefix('[') {
        let (above, name) = header.rsplit_once('.').unwrap_or(("", header));
        if above == "interfaces" {
            // Its ends would still have the old name, and be an interface that lacks the rest.
            return Vec::new();
        }
        let point = if above.is_empty() { "" } else { "." };
        return vec![format!("[{above}{point}{}", name.to_uppercase())];
    }
    let Some((key, value)) = line.split_once(" = ") else { return Vec::new() };
    let mut all = vec![format!("{key} = 1.5")];
    let quoted: Vec<&str> = value.split('"').collect();
    for at in (1..quoted.len()).step_by(2) {
        let mut parts = quoted.clone();
        parts[at] = "";
        all.push(format!("{key} = {}", parts.join("\"")));
    }
    all
}

#[test]
fn a_wrong_value_is_one_fault_and_hides_no_other() {
    let office = common::files();
    let misspelt = [
        ("[interfaces.south.at.router-south]", "[interfaces.south.at.router-soth]"),
        ("lab = [\"split\"]", "lab = [\"splt\"]"),
    ];
    let site = misspelt.iter().fold(office.site.text().to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    });
    let lines: Vec<&str> = site.lines().collect();
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        for wrong in spoilt(line).into_iter().filter(|_| !line.starts_with('#')) {
            let mut changed = lines.clone();
            changed[at] = &wrong;
            let site = Source::new("site.toml", changed.join("\n") + "\n");
            let found = Files { site, ..office.clone() }.read().expect_err("it is wrong");
            let told: Vec<String> = found.iter().map(ToString::to_string).collect();
            let of_line = |fault: &&Diagnostic| {
                let place = fault.place.as_ref().expect("a place");
                place.file == "site.toml" && place.line == at + 1
            };
            let own = found.iter().filter(of_line).count();
            let names = found.iter().filter(|fault| {
                fault.what == "there is no server router-soth"
                    || fault.what == "there is no profile splt"
            });
            let names = names.count();
            // One of the two may be in the table, or ask for a name, that cannot be read.
            assert!(names > 0 && own == 1 && own + names == found.len(), "{wrong}: {told:#?}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} tried");
}

/// Every name that a fault has in the sources.
fn ids() -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            for part in text.split("Diagnostic::error(").skip(1) {
                let id = part.trim_start().strip_prefix('"').and_then(|part| part.split_once('"'));
                ids.extend(id.map(|(id, _)| id.to_owned()));
            }
        }
    }
    ids
}

/// What no text can bring about, or only one that nobody wants to keep.
const UNSEEN: &[&str] = &[
    // Hashes that agree in 64 bits, or that fall on one of 2^17 numbers.
    "address-collision",
    "address-reserved",
];

#[test]
fn each_kind_of_fault_has_a_case() {
    if std::env::var_os(WRITE).is_some() {
        return;
    }
    let all: String = cases().iter().map(|case| case.told.clone()).collect();
    let invariants = vyr_plan::INVARIANTS.iter().map(|invariant| invariant.id.to_owned());
    let services = services::SERVICES_INVARIANTS.iter().map(|invariant| invariant.id.to_owned());
    for id in ids().into_iter().chain(invariants).chain(services) {
        let seen = all.contains(&format!("error[{id}]: "));
        let of_plans = ["N01", "N02", "N03", "N14", "N16", "N17", "N21", "N22"];
        // Of services: what a compiler does, or the network's plan says first, or a manifest's rules.
        let of_services = ["S01", "S02", "S03", "S04", "S09", "S10", "S12", "S13", "S14"];
        let of_plans = of_plans.iter().chain(&of_services).any(|of| **of == id);
        let unseen = UNSEEN.contains(&id.as_str()) || of_plans;
        assert!(seen || unseen, "{id} has no case");
    }
}
