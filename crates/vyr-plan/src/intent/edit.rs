//! Changes of `clients.toml`, made in its text: the line of a key is added, or its state becomes
//! another one. Every other byte stays, comments included, so that git shows one line for one key.
//!
//! ```text
//!            add             rotate --finish          revoke
//! (no line) -----> active ------------------> retired -------> revoked
//!       \  rotate          rotate --finish                        ^
//!        `-------> staged -----------------> active               |
//!                    any of them -------------------- revoke -----'
//! ```
//!
//! Invariants:
//! 1. What is returned was read again by the strict reader, and says what was asked for and nothing
//!    else: a place that was misjudged is refused here, not written.
//! 2. A key has one line for ever. One that was revoked, here or in the lock, is never added again.
//!
//! Deliberately elsewhere: files and keys (`vyr`), what a key may do (`compile`, `prove`).

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeTable;
use vyr_base::{Category, Diagnostic, Problem, Source};

use super::site::{Client, State};
use super::text::{Key, Owner};
use super::{At, CLIENTS, Files, Name};
use crate::lock::Lock;

/// What a site without the file begins with.
const BLANK: &str = "# People's devices: a line for each key. The private keys stay where they were \
                     made.\nversion = 1\nclients = [\n]\n";

/// The name of the file in a site.
const FILE: &str = "clients.toml";

/// A change of the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEdit {
    /// A device with its first key, or with one after all of its others were retired or revoked.
    Add {
        /// The device.
        id: Name,
        /// Who holds it.
        owner: Owner,
        /// What it connects to.
        interface: Name,
        /// What it may reach.
        profile: Name,
        /// Its key, active at once.
        key: Key,
    },
    /// A second key, which takes over.
    Stage {
        /// The device.
        id: Name,
        /// The key.
        key: Key,
    },
    /// The staged key becomes the active one, the active one is retired.
    Finish {
        /// The device.
        id: Name,
    },
    /// All keys of a device are refused for good.
    RevokeClient {
        /// The device.
        id: Name,
    },
    /// One key is refused for good.
    RevokeKey {
        /// The key.
        key: Key,
    },
}

/// What became of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Key,
    /// Its state before; none: it had no line.
    pub before: Option<State>,
    /// Its state now.
    pub after: State,
}

/// A file that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The device.
    pub id: Name,
    /// The new text of `clients.toml`.
    pub text: String,
    /// What changed; none: all was so already, and the text is the old one.
    pub changes: Vec<KeyChange>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The site has faults, or would have them.
    #[error("the site has {} faults", .0.len())]
    Faults(Vec<Diagnostic>),
    /// A key that was given away or lost.
    #[error("the key {key} of {id} was revoked")]
    Revoked {
        /// The key.
        key: Key,
        /// Whose it was.
        id: String,
    },
    /// A key that has its line.
    #[error("the key {key} is there already: it is {id}'s, {}", (*.state).as_str())]
    Taken {
        /// The key.
        key: Key,
        /// Whose it is.
        id: Name,
        /// Its state.
        state: State,
    },
    /// The device has a key.
    #[error("{id} is there already, with a key that is {}", (*.state).as_str())]
    Exists {
        /// The device.
        id: Name,
        /// That key's state.
        state: State,
    },
    /// No such device.
    #[error("there is no client {0}")]
    NoClient(Name),
    /// No such key.
    #[error("no client has the key {0}")]
    NoKey(Key),
    /// The device has no key in use that another one could take over from.
    #[error("{0} has no active key")]
    NoActive(Name),
    /// Another rotation of this device has not ended.
    #[error("{id} has a staged key already, {key}")]
    Staged {
        /// The device.
        id: Name,
        /// That key.
        key: Key,
    },
    /// Nothing to finish.
    #[error("{0} has no staged key")]
    NotStaged(Name),
    /// Somebody wrote the file in another form.
    #[error("clients.toml has no list of lines")]
    Form,
    /// The place was misjudged; nothing was written.
    #[error("the changed clients.toml would not say what was asked for")]
    Differs,
}

impl Problem for EditError {
    fn category(&self) -> Category {
        match self {
            Self::Faults(_) | Self::Form => Category::Usage,
            Self::Revoked { .. } => Category::Auth,
            Self::NoClient(_) | Self::NoKey(_) => Category::NotFound,
            Self::Taken { .. }
            | Self::Exists { .. }
            | Self::NoActive(_)
            | Self::Staged { .. }
            | Self::NotStaged(_) => Category::Conflict,
            Self::Differs => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Faults(_) => "vyr check".into(),
            Self::Revoked { .. } => {
                "who has its private key has it for ever: make a new pair, wg genkey".into()
            }
            Self::Taken { .. } => "make a new pair for this one: wg genkey".into(),
            Self::Exists { id, .. } => format!("vyr client rotate {id}, or choose another id"),
            Self::NoClient(_) | Self::NoKey(_) => "vyr client ls".into(),
            Self::NoActive(id) => format!("vyr client add {id}"),
            Self::Staged { id, key } => {
                format!("vyr client rotate {id} --finish, or vyr client revoke {key}")
            }
            Self::NotStaged(id) => format!("begin with vyr client rotate {id} --key FILE"),
            Self::Form => "write it as `clients = [`, then a line `{ .. },` for each key".into(),
            Self::Differs => "change the line by hand, then run vyr check".into(),
        })
    }
}

/// Changes the devices of a site: the new text of its `clients.toml`, which is not written here.
pub fn edit_clients(files: &Files, edit: &ClientEdit) -> Result<Edited, EditError> {
    let mut files = files.clone();
    let source = files.clients.get_or_insert_with(|| Source::new(FILE, BLANK)).clone();
    let lock = files.lock.as_ref().map(Lock::parse).transpose().map_err(EditError::Faults)?;
    let lines = read_alone(&source)?;
    let Planned { id, changes, line } = planned(&lines, edit)?;
    let mut wanted: Vec<Client> = lines.iter().map(|line| (**line).clone()).collect();
    let mut pieces = Vec::new();
    for change in &changes {
        if let Some(line) = wanted.iter_mut().find(|line| *line.public_key == change.key) {
            pieces.push((line.state.span(), format!("\"{}\"", change.after.as_str())));
            line.state = At::nowhere(change.after);
        }
    }
    if let Some(line) = line {
        refuse_revoked(lock.as_ref(), &line.public_key)?;
        pieces.extend(insertion(source.text(), &lines, &line)?);
        wanted.push(line);
    }
    let text = replaced(source.text(), pieces);
    let new = Source::new(FILE, text.as_str());
    let read = read_alone(&new)?;
    if !read.iter().map(|line| fields(line)).eq(wanted.iter().map(fields)) {
        return Err(EditError::Differs);
    }
    // A fault that was there before is not this change's: perhaps this is the change that mends it.
    let faults = |files: Files| files.read().err().unwrap_or_default();
    let before: BTreeSet<String> = faults(files.clone()).into_iter().map(|one| one.what).collect();
    let mut after = faults(Files { clients: Some(new), ..files });
    after.retain(|fault| fault.is_error() && !before.contains(&fault.what));
    if after.is_empty() { Ok(Edited { id, text, changes }) } else { Err(EditError::Faults(after)) }
}

/// The lines of the file, if nothing is wrong with it by itself.
fn read_alone(source: &Source) -> Result<Vec<At<Client>>, EditError> {
    let mut faults = Vec::new();
    let found = CLIENTS.read(source, &mut faults);
    match found.value.filter(|_| faults.is_empty()) {
        Some(file) => Ok(file.clients),
        None => Err(EditError::Faults(faults)),
    }
}

fn fields(line: &Client) -> (&Name, &Owner, &Name, &Name, Key, State) {
    (&line.id, &line.owner, &line.interface, &line.profile, *line.public_key, *line.state)
}

/// What becomes of which key, and the line of one that has none.
struct Planned {
    id: Name,
    changes: Vec<KeyChange>,
    line: Option<Client>,
}

fn planned(lines: &[At<Client>], edit: &ClientEdit) -> Result<Planned, EditError> {
    let of = |id: &Name| -> BTreeMap<State, Key> {
        let own = lines.iter().filter(|line| *line.id == *id);
        own.map(|line| (*line.state, *line.public_key)).collect()
    };
    let line = |key: &Key| lines.iter().find(|line| *line.public_key == *key);
    let added = |line: Client| {
        let (key, after) = (*line.public_key, *line.state);
        let changes = vec![KeyChange { key, before: None, after }];
        Planned { id: (*line.id).clone(), changes, line: Some(line) }
    };
    let fresh = |key: &Key| match line(key) {
        None => Ok(()),
        Some(line) if *line.state == State::Revoked => {
            Err(EditError::Revoked { key: *key, id: line.id.to_string() })
        }
        Some(line) => {
            Err(EditError::Taken { key: *key, id: (*line.id).clone(), state: *line.state })
        }
    };
    let revoked = |own: &At<Client>| {
        let (key, before) = (*own.public_key, *own.state);
        let change = KeyChange { key, before: Some(before), after: State::Revoked };
        (before != State::Revoked).then_some(change)
    };
    let known = |id: &Name| match lines.iter().any(|line| *line.id == *id) {
        true => Ok(()),
        false => Err(EditError::NoClient(id.clone())),
    };
    match edit {
        ClientEdit::Add { id, owner, interface, profile, key } => {
            fresh(key)?;
            if let Some(state) =
                of(id).into_keys().find(|state| matches!(state, State::Active | State::Staged))
            {
                return Err(EditError::Exists { id: id.clone(), state });
            }
            Ok(added(Client {
                id: At::nowhere(id.clone()),
                owner: At::nowhere(owner.clone()),
                interface: At::nowhere(interface.clone()),
                profile: At::nowhere(profile.clone()),
                public_key: At::nowhere(*key),
                state: At::nowhere(State::Active),
            }))
        }
        ClientEdit::Stage { id, key } => {
            known(id)?;
            let own = of(id);
            if let Some(key) = own.get(&State::Staged) {
                return Err(EditError::Staged { id: id.clone(), key: *key });
            }
            let active = own.get(&State::Active).and_then(line);
            let active = active.ok_or_else(|| EditError::NoActive(id.clone()))?;
            fresh(key)?;
            // What the second key's line says of its device is what the first one's says.
            let (public_key, state) = (At::nowhere(*key), At::nowhere(State::Staged));
            Ok(added(Client { public_key, state, ..(**active).clone() }))
        }
        ClientEdit::Finish { id } => {
            known(id)?;
            let own = of(id);
            let Some(staged) = own.get(&State::Staged) else {
                return Err(EditError::NotStaged(id.clone()));
            };
            let ends = |key: &Key, before, after| KeyChange { key: *key, before, after };
            let old = own.get(&State::Active);
            let old = old.map(|key| ends(key, Some(State::Active), State::Retired));
            let new = ends(staged, Some(State::Staged), State::Active);
            let changes = old.into_iter().chain([new]).collect();
            Ok(Planned { id: id.clone(), changes, line: None })
        }
        ClientEdit::RevokeClient { id } => {
            known(id)?;
            let own = lines.iter().filter(|line| *line.id == *id);
            let changes = own.filter_map(revoked).collect();
            Ok(Planned { id: id.clone(), changes, line: None })
        }
        ClientEdit::RevokeKey { key } => {
            let line = line(key).ok_or(EditError::NoKey(*key))?;
            let changes = revoked(line).into_iter().collect();
            Ok(Planned { id: (*line.id).clone(), changes, line: None })
        }
    }
}

/// The lock remembers what was taken out of the file.
fn refuse_revoked(lock: Option<&Lock>, key: &Key) -> Result<(), EditError> {
    let mut revoked = lock.into_iter().flat_map(Lock::revoked_of);
    match revoked.find(|(revoked, _)| revoked == key) {
        Some((key, id)) => Err(EditError::Revoked { key: *key, id: id.to_string() }),
        None => Ok(()),
    }
}

pub(super) type Piece = (std::ops::Range<usize>, String);

/// Where a line goes: after the last one, as far from the margin.
fn insertion(text: &str, lines: &[At<Client>], line: &Client) -> Result<Vec<Piece>, EditError> {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let (table, _) = DeTable::parse_recoverable(text);
    let list = table.get_ref().get("clients").map(toml::Spanned::span);
    let list = list.filter(|list| {
        let inside = text.get(list.clone()).unwrap_or_default();
        inside.starts_with('[') && inside.ends_with(']') && !inside.starts_with("[[")
    });
    let list = list.ok_or(EditError::Form)?;
    let close = list.end - 1;
    let last = lines.last().map(At::span);
    let margin = last.as_ref().map_or("  ", |last| {
        let start = text[..last.start].rfind('\n').map_or(0, |at| at + 1);
        let before = &text[start..last.start];
        if before.chars().all(|c| c == ' ' || c == '\t') { before } else { "  " }
    });
    let line = format!("{margin}{}{newline}", written(line));
    let Some(last) = last else {
        let start = text[list.start..close].rfind('\n').map(|at| list.start + at + 1);
        let alone = start.filter(|start| text[*start..close].trim().is_empty());
        return Ok(vec![match alone {
            Some(start) => (start..start, line),
            None => (close..close, format!("{newline}{line}")),
        }]);
    };
    let mut pieces = Vec::new();
    let comma = comma(&text[last.end..close]).map(|at| last.end + at + 1);
    if comma.is_none() {
        pieces.push((last.end..last.end, ",".to_owned()));
    }
    let from = comma.unwrap_or(last.end);
    pieces.push(match text[from..close].find('\n') {
        Some(at) => (from + at + 1..from + at + 1, line),
        None => (close..close, format!("{newline}{line}")),
    });
    Ok(pieces)
}

/// The first comma that is not in a comment.
fn comma(text: &str) -> Option<usize> {
    let mut comment = false;
    text.char_indices().find_map(|(at, c)| {
        comment = c != '\n' && (comment || c == '#');
        (c == ',' && !comment).then_some(at)
    })
}

fn written(line: &Client) -> String {
    let owner = line.owner.to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "{{ id = \"{}\", owner = \"{owner}\", interface = \"{}\", profile = \"{}\", public_key = \
         \"{}\", state = \"{}\" }},",
        *line.id,
        *line.interface,
        *line.profile,
        *line.public_key,
        line.state.as_str()
    )
}

/// The text with pieces in the place of others, which do not overlap.
pub(super) fn replaced(text: &str, mut pieces: Vec<Piece>) -> String {
    // Of two at one place the earlier stays the earlier.
    pieces.sort_by_key(|(range, _)| range.start);
    let (mut all, mut taken) = (String::with_capacity(text.len() + 256), 0);
    for (range, piece) in pieces {
        all.push_str(&text[taken..range.start]);
        all.push_str(&piece);
        taken = range.end;
    }
    all.push_str(&text[taken..]);
    all
}
