//! Changes of `clients.toml`: one line for one key, and every other byte as it was.

#[expect(dead_code, reason = "nothing is compiled here")]
mod common;

use std::collections::BTreeMap;

use proptest::prelude::*;
use vyr_base::{Category, Problem, Source};
use vyr_plan::Files;
use vyr_plan::intent::{ClientEdit, EditError, Edited, Key, KeyChange, Name, State, edit_clients};

use common::files;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A key for each number; not one that the worked site has.
fn key(number: u8) -> Key {
    Key::from_bytes([number + 100; 32])
}

/// The worked site with other devices, and with operators who need none of them.
fn with(clients: &str) -> Files {
    let site = files().site.text().replace("clients = [\"ana-laptop\", \"ben-laptop\"]\n", "");
    let (site, clients) = (Source::new("site.toml", site), Source::new("clients.toml", clients));
    Files { site, clients: Some(clients), contracts: Vec::new(), ..files() }
}

fn add(id: &str, key: Key) -> ClientEdit {
    ClientEdit::Add {
        id: name(id),
        owner: "Gil \"the\\bench\"".parse().expect("an owner"),
        interface: name("north"),
        profile: name("split"),
        key,
    }
}

fn stage(id: &str, key: Key) -> ClientEdit {
    ClientEdit::Stage { id: name(id), key }
}

fn finish(id: &str) -> ClientEdit {
    ClientEdit::Finish { id: name(id) }
}

fn done(files: &Files, edit: &ClientEdit) -> Edited {
    edit_clients(files, edit).unwrap_or_else(|e| panic!("{edit:?}: {e}"))
}

fn states(text: &str) -> BTreeMap<Key, (String, State)> {
    let intent = common::read(with(text));
    let line =
        |line: &vyr_plan::intent::Client| (*line.public_key, (line.id.to_string(), *line.state));
    intent.clients.iter().map(|at| line(at)).collect()
}

/// Whether `new` is `old` but for the states in the lines of `changes` and lines of keys that had
/// none: what is judged here is bytes, not what they mean.
fn is_kept(old: &str, new: &str, changes: &[KeyChange]) -> bool {
    let changed = |line: &str, fresh: bool| {
        let mut own = changes.iter().filter(|change| change.before.is_none() == fresh);
        own.any(|change| line.contains(&change.key.to_string()))
    };
    let without_state = |line: &str| {
        let mut line = line.to_owned();
        for word in ["active", "staged", "retired", "revoked"] {
            line = line.replace(&format!("state = \"{word}\""), "state");
        }
        line
    };
    let left: Vec<&str> = new.split('\n').filter(|line| !changed(line, true)).collect();
    let old: Vec<&str> = old.split('\n').collect();
    old.len() == left.len()
        && old.iter().zip(left).all(|(old, new)| match changed(old, false) {
            true => without_state(old) == without_state(new),
            false => *old == new,
        })
}

#[test]
fn a_device_lives_through_a_rotation_and_its_end() {
    let mut files = with(files().clients.expect("the worked site has clients").text());
    let mut step = |edit: &ClientEdit| {
        let old = files.clients.clone().expect("there").text().to_owned();
        let edited = done(&files, edit);
        assert!(is_kept(&old, &edited.text, &edited.changes), "{}", edited.text);
        files.clients = Some(Source::new("clients.toml", edited.text.as_str()));
        (edited, files.clone())
    };
    let (edited, _) = step(&add("gil-phone", key(1)));
    assert!(edited.text.contains(r#"owner = "Gil \"the\\bench\"", interface"#), "{}", edited.text);
    step(&stage("gil-phone", key(2)));
    let (edited, _) = step(&finish("gil-phone"));
    let now = states(&edited.text);
    assert_eq!(now[&key(1)].1, State::Retired);
    assert_eq!(now[&key(2)].1, State::Active);
    step(&ClientEdit::RevokeKey { key: key(1) });
    let (edited, files) = step(&ClientEdit::RevokeClient { id: name("gil-phone") });
    assert!(
        states(&edited.text)
            .values()
            .filter(|of| of.0 == "gil-phone")
            .all(|of| of.1 == State::Revoked)
    );
    // Again: nothing to do, and no fault.
    let again = done(&files, &ClientEdit::RevokeClient { id: name("gil-phone") });
    assert!(again.changes.is_empty() && again.text == edited.text);
    // The device may come back, the key never.
    done(&files, &add("gil-phone", key(3)));
    let back = edit_clients(&files, &add("gil-phone", key(2))).expect_err("it was revoked");
    assert!(matches!(back, EditError::Revoked { .. }) && back.category() == Category::Auth);
}

#[test]
fn what_may_not_be_is_refused_with_its_category() {
    let files = with(files().clients.expect("clients").text());
    let ana: Key = "cwqVeii8VjJZdHPgSQ6SxSCBeUoGRn/n/SQZjTZZuSY=".parse().expect("a key");
    let refused = [
        (add("ana-phone", key(1)), Category::Conflict, "vyr client rotate ana-phone"),
        (add("new", ana), Category::Conflict, "wg genkey"),
        (stage("nobody", key(1)), Category::NotFound, "vyr client ls"),
        (stage("ben-laptop", key(1)), Category::Conflict, "--finish"),
        (stage("emil-phone", key(1)), Category::Conflict, "vyr client add emil-phone"),
        (stage("ana-laptop", ana), Category::Conflict, "wg genkey"),
        (finish("ana-phone"), Category::Conflict, "vyr client rotate ana-phone"),
        (finish("nobody"), Category::NotFound, "vyr client ls"),
        (ClientEdit::RevokeClient { id: name("nobody") }, Category::NotFound, "vyr client ls"),
        (ClientEdit::RevokeKey { key: key(9) }, Category::NotFound, "vyr client ls"),
    ];
    for (edit, category, hint) in refused {
        let error = edit_clients(&files, &edit).expect_err("refused");
        assert_eq!(error.category(), category, "{edit:?}: {error}");
        assert!(error.hint().is_some_and(|text| text.contains(hint)), "{edit:?}: {error}");
    }
    // A name that means nothing is the strict reader's to refuse, with what is there.
    let mut edit = add("new", key(1));
    if let ClientEdit::Add { interface, .. } = &mut edit {
        *interface = name("nort");
    }
    let Err(EditError::Faults(faults)) = edit_clients(&files, &edit) else {
        panic!("there is no such interface");
    };
    assert!(faults[0].to_string().contains("did you mean north?"), "{}", faults[0]);
    // The site names a device that is not there yet: adding it is what mends that.
    let none = Files { site: self::files().site, ..with("version = 1\nclients = []\n") };
    done(&none, &add("ana-laptop", key(1)));
}

#[test]
fn the_lock_remembers_what_the_file_forgot() {
    let line = format!("version 1\nrevoked {} gone\n", key(7));
    let lock = Some(Source::new("vyr.lock", line));
    let files = Files { lock, ..with("version = 1\nclients = []\n") };
    let error = edit_clients(&files, &add("gone", key(7))).expect_err("revoked");
    assert!(error.to_string().contains("of gone was revoked"), "{error}");
    done(&files, &add("gone", key(8)));
}

#[test]
fn lists_of_every_form_take_a_line() {
    let one = format!(
        "{{ id = \"a\", owner = \"A\", interface = \"north\", profile = \"split\", public_key = \"{}\", state = \"active\" }}",
        key(1)
    );
    let two = one.replace("\"a\"", "\"b\"").replace(&key(1).to_string(), &key(2).to_string());
    for text in [
        "version = 1\nclients = []\n".to_owned(),
        "version = 1\nclients = [ ]".to_owned(),
        "version = 1\nclients = [\n]\n".to_owned(),
        "version = 1\nclients = [\n  # nobody, yet ]\n]\n".to_owned(),
        format!("version = 1\nclients = [{one}]\n"),
        format!("version = 1\nclients = [{one}, {two}] # all, of both\n"),
        format!("version = 1\nclients = [\n\t{one},\n\t{two} # the last, no comma behind\n]\n"),
        format!("version = 1\nclients = [\n  {one} # a, comma\n  , # here\n  # and there\n]\n"),
        format!("version = 1\r\nclients = [\r\n  {one},\r\n]\r\n"),
        format!("clients = [\n  {one},\n# ]\n]\nversion = 1\n"),
        format!("version = 1\n\"clients\" = [\n  {one},\n]\n"),
    ] {
        let files = with(&text);
        let edited = done(&files, &add("c", key(3)));
        let before = states(&text);
        let mut after = states(&edited.text);
        assert_eq!(after.remove(&key(3)), Some(("c".to_owned(), State::Active)), "{text}");
        assert_eq!(after, before, "{text}");
        assert_eq!(text.matches('#').count(), edited.text.matches('#').count(), "{text}");
        assert_eq!(text.contains("\r\n"), edited.text.contains("\r\n"), "{text}");
        let alone = |line: &str| {
            !line.contains(&key(3).to_string()) || line.trim_start().starts_with("{ id")
        };
        assert!(edited.text.lines().all(alone), "a line of its own: {}", edited.text);
        // And the next one is a line too.
        done(&with(&edited.text), &add("d", key(4)));
    }
    let tables =
        format!("version = 1\n[[clients]]\n{}\n", one[2..one.len() - 2].replace(", ", "\n"));
    let error = edit_clients(&with(&tables), &add("c", key(3))).expect_err("no lines");
    assert!(matches!(error, EditError::Form), "{error}");
    // A state is changed wherever it stands.
    done(&with(&tables), &ClientEdit::RevokeKey { key: key(1) });
    // No file yet: one is begun.
    let none = Files { clients: None, ..with("") };
    assert_eq!(states(&done(&none, &add("c", key(3))).text).len(), 1);
}

/// The judge of bytes sees what it looks for.
#[test]
fn the_judge_sees_planted_defects() {
    let files = files();
    let old = files.clients.clone().expect("clients").text().to_owned();
    let edited = done(&with(&old), &add("gil-phone", key(1)));
    assert!(is_kept(&old, &edited.text, &edited.changes));
    for (what, from, to) in [
        ("a comment is gone", "# People's devices", "# people's devices"),
        (
            "another's state",
            "\"PLr2LDVFNbaKTlE1x8WgR7pSk8TAYO5QjOOU2uAYGjc=\", state = \"active\"",
            "\"PLr2LDVFNbaKTlE1x8WgR7pSk8TAYO5QjOOU2uAYGjc=\", state = \"retired\"",
        ),
        ("a blank at a line's end", "clients = [\n", "clients = [ \n"),
        ("a line's end", "version = 1\n", "version = 1\n\n"),
    ] {
        assert!(edited.text.contains(from), "{what}");
        let wrong = edited.text.replacen(from, to, 1);
        assert!(!is_kept(&old, &wrong, &edited.changes), "{what}");
    }
}

#[derive(Debug, Clone)]
enum Act {
    Add(u8, u8),
    Stage(u8, u8),
    Finish(u8),
    Revoke(u8),
    RevokeKey(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let (id, key) = (0..4u8, 0..12u8);
    prop_oneof![
        (id.clone(), key.clone()).prop_map(|(id, key)| Act::Add(id, key)),
        (id.clone(), key.clone()).prop_map(|(id, key)| Act::Stage(id, key)),
        id.clone().prop_map(Act::Finish),
        id.prop_map(Act::Revoke),
        key.prop_map(Act::RevokeKey),
    ]
}

/// What the file should say, as a table: whose a key is, and its state.
type Model = BTreeMap<u8, (u8, State)>;

/// What an act does to the table; none: it is refused.
fn model(table: &Model, act: &Act) -> Option<Model> {
    let mut new = table.clone();
    let find = |id: u8, state: State| {
        table.iter().find(|(_, of)| **of == (id, state)).map(|(key, _)| *key)
    };
    let known = |id: u8| table.values().any(|of| of.0 == id);
    match *act {
        Act::Add(id, key) => {
            let used = find(id, State::Active).or(find(id, State::Staged)).is_some();
            let fresh = !used && !table.contains_key(&key);
            fresh.then(|| new.insert(key, (id, State::Active)))?;
        }
        Act::Stage(id, key) => {
            find(id, State::Active)?;
            let fresh = find(id, State::Staged).is_none() && !table.contains_key(&key);
            fresh.then(|| new.insert(key, (id, State::Staged)))?;
        }
        Act::Finish(id) => {
            let staged = find(id, State::Staged)?;
            if let Some(active) = find(id, State::Active) {
                new.insert(active, (id, State::Retired));
            }
            new.insert(staged, (id, State::Active));
        }
        Act::Revoke(id) => {
            known(id).then_some(())?;
            new.values_mut().filter(|of| of.0 == id).for_each(|of| of.1 = State::Revoked);
        }
        Act::RevokeKey(key) => new.get_mut(&key)?.1 = State::Revoked,
    }
    Some(new)
}

fn edit(act: &Act) -> ClientEdit {
    let id = |number: u8| format!("device-{number}");
    match act {
        Act::Add(of, number) => add(&id(*of), key(*number)),
        Act::Stage(of, number) => stage(&id(*of), key(*number)),
        Act::Finish(of) => finish(&id(*of)),
        Act::Revoke(of) => ClientEdit::RevokeClient { id: name(&id(*of)) },
        Act::RevokeKey(number) => ClientEdit::RevokeKey { key: key(*number) },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_other_lines_stay_byte_for_byte(
        acts in proptest::collection::vec(act(), 1..16),
        head in "(# [a-z ,{}\\]\\[]{0,20}\n){0,2}",
        tail in "( *# [a-z ,{}\\]\\[\"]{0,20}\n){0,2}",
        ends in prop::bool::ANY,
    ) {
        let newline = if ends { "\r\n" } else { "\n" };
        let text = format!("{head}version = 1\nclients = [ # a list\n{tail}]\n{tail}");
        let mut text = text.replace('\n', newline);
        let mut table = Model::new();
        for act in &acts {
            let files = with(&text);
            match (model(&table, act), edit_clients(&files, &edit(act))) {
                (Some(new), Ok(edited)) => {
                    prop_assert!(is_kept(&text, &edited.text, &edited.changes), "{}", edited.text);
                    let said = states(&edited.text);
                    let told = new.iter().map(|(number, (id, state))| {
                        (key(*number), (format!("device-{id}"), *state))
                    });
                    prop_assert_eq!(said, told.collect());
                    (text, table) = (edited.text, new);
                }
                (None, Err(error)) => prop_assert!(!matches!(error, EditError::Faults(_) | EditError::Differs), "{error}"),
                (expected, found) => prop_assert!(false, "{act:?}: {expected:?}, {found:?}"),
            }
        }
    }

    /// Whatever somebody wrote: refused, or changed as was asked and nowhere else.
    #[test]
    fn no_text_is_half_understood(cut in 0usize..3000, noise in "[\\[\\]{}=,#\"' a-z\n\r]{0,12}") {
        let whole = files().clients.expect("clients").text().to_owned();
        let at = whole.floor_char_boundary(cut.min(whole.len()));
        let text = format!("{}{noise}{}", &whole[..at], &whole[at..]);
        if let Ok(edited) = edit_clients(&with(&text), &add("gil-phone", key(1))) {
            // A name that is nowhere, say, is left for who reads the whole site.
            if with(&text).read().is_err() {
                prop_assert!(with(&edited.text).read().is_err());
                return Ok(());
            }
            let mut after = states(&edited.text);
            prop_assert!(after.remove(&key(1)).is_some());
            prop_assert_eq!(after, states(&text));
            prop_assert!(edited.text.replace(',', "").len() > text.replace(',', "").len());
        }
    }
}
