//! The rotation of a server's key, made in the text of `site.toml`: four small edits of the table of
//! one end. Every other byte stays.
//!
//! ```text
//!                 stage                          retire                     revoke
//! public_key A  ---------->  public_key A     ---------->  public_key B  ---------->  public_key B
//! port P                     port P                        port Q                     port Q
//!               <----------  staged {B, Q}                 old A retired              old A revoked
//!                 abort
//! ```
//!
//! Invariants:
//! 1. What is returned was read again by the strict reader, and says what was asked for and nothing
//!    else: a place that was misjudged is refused here, not written.
//! 2. A key that the end had, or that was revoked anywhere, is never staged again.
//!
//! Deliberately elsewhere: which link a key is on (`lock`), who has moved (`vyr-net`).

use std::collections::BTreeSet;
use std::ops::Range;

use vyr_base::{Category, Diagnostic, Problem, Source};

use super::edit::{Piece, replaced};
use super::site::{End, OldKey, SiteFile, StagedEnd, State};
use super::text::Key;
use super::{At, Files, Name, SITE};
use crate::lock::{EndName, Lock};

/// The name of the file in a site.
const FILE: &str = "site.toml";

/// One step of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerStep {
    /// A second key, at a port of its own.
    Stage {
        /// The key.
        key: Key,
        /// The port; none: the next one that the server does not listen at.
        port: Option<u16>,
    },
    /// The staged key and port become those of the end, the key before is retired.
    Retire,
    /// The keys that were retired are refused for good.
    Revoke,
    /// The staged key is taken out again.
    Abort,
}

/// A file that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEdited {
    /// The end.
    pub end: EndName,
    /// The new text of `site.toml`; the old one: all was so already.
    pub text: String,
    /// The end as it was.
    pub before: End,
    /// The end as it is now.
    pub after: End,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerEditError {
    /// The site has faults, or would have them.
    #[error("the site has {} faults", .0.len())]
    Faults(Vec<Diagnostic>),
    /// No such server.
    #[error("there is no server {0}")]
    NoServer(Name),
    /// The server does not carry it.
    #[error("{server} has no end of {interface}")]
    NoEnd {
        /// The server.
        server: Name,
        /// The interface.
        interface: Name,
    },
    /// It carries several, or none.
    #[error("{server} carries {}", names(interfaces))]
    Which {
        /// The server.
        server: Name,
        /// What it carries.
        interfaces: Vec<Name>,
    },
    /// Another rotation of this end has not ended.
    #[error("{end} has a staged key already, {key}")]
    Staged {
        /// The end.
        end: EndName,
        /// That key.
        key: Key,
    },
    /// Nothing to retire or to take out.
    #[error("{0} has no staged key")]
    NotStaged(EndName),
    /// Nothing to revoke.
    #[error("{0} has no retired key")]
    NotRetired(EndName),
    /// A key that was here before, or that was revoked.
    #[error("the key {key} is {whose}'s, and was given up")]
    Old {
        /// The key.
        key: Key,
        /// Whose it was.
        whose: String,
    },
    /// All ports are taken.
    #[error("{0} has no port left")]
    NoPort(EndName),
    /// Somebody wrote the table in another form.
    #[error("the table of {0} in site.toml has another form")]
    Form(EndName),
    /// The place was misjudged; nothing was written.
    #[error("the changed site.toml would not say what was asked for")]
    Differs,
}

fn names(interfaces: &[Name]) -> String {
    match interfaces {
        [] => "no interface".into(),
        all => all.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
    }
}

impl Problem for ServerEditError {
    fn category(&self) -> Category {
        match self {
            Self::Faults(_) | Self::Which { .. } | Self::Form(_) => Category::Usage,
            Self::NoServer(_) | Self::NoEnd { .. } => Category::NotFound,
            Self::Old { .. } => Category::Auth,
            Self::Staged { .. } | Self::NotStaged(_) | Self::NotRetired(_) | Self::NoPort(_) => {
                Category::Conflict
            }
            Self::Differs => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Faults(_) => "vyr check".into(),
            Self::NoServer(_) | Self::NoEnd { .. } => "vyr server ls".into(),
            Self::Which { .. } => "name one: --interface NAME".into(),
            Self::Staged { end, .. } => {
                format!("vyr server rotate {} --retire, or --abort", end.server)
            }
            Self::NotStaged(end) => format!("begin with vyr server rotate {}", end.server),
            Self::NotRetired(end) => {
                format!("vyr server rotate {} says what comes next", end.server)
            }
            Self::Old { .. } => "make a new pair on the server: vyr server key LINK --next".into(),
            Self::NoPort(_) => "name one: --port PORT".into(),
            Self::Form(_) => "write a line each: `public_key = \"..\"`, `port = ..`, \
                              `staged = { public_key = \"..\", port = .. }`"
                .into(),
            Self::Differs => "change the table by hand, then run vyr check".into(),
        })
    }
}

/// The end that is meant. `interface`: none if the server carries one alone.
pub fn find_end<'a>(
    site: &'a SiteFile,
    server: &Name,
    interface: Option<&Name>,
) -> Result<(EndName, &'a End), ServerEditError> {
    if !site.servers.contains_key(server) {
        return Err(ServerEditError::NoServer(server.clone()));
    }
    let carried = site.interfaces.iter().filter_map(|(name, of)| Some((name, of.at.get(server)?)));
    let carried: Vec<_> = carried.map(|(name, end)| ((**name).clone(), end)).collect();
    let of = |interface: Name| EndName { interface, server: server.clone() };
    match (interface, carried.as_slice()) {
        (None, [(name, end)]) => Ok((of(name.clone()), end)),
        (None, several) => {
            let interfaces = several.iter().map(|(name, _)| name.clone()).collect();
            Err(ServerEditError::Which { server: server.clone(), interfaces })
        }
        (Some(wanted), all) => match all.iter().find(|(name, _)| name == wanted) {
            Some((name, end)) => Ok((of(name.clone()), end)),
            None => {
                let (server, interface) = (server.clone(), wanted.clone());
                Err(ServerEditError::NoEnd { server, interface })
            }
        },
    }
}

/// Takes a step of the rotation of one end: the new text of `site.toml`, which is not written here.
pub fn edit_server(
    files: &Files,
    server: &Name,
    interface: Option<&Name>,
    step: &ServerStep,
) -> Result<ServerEdited, ServerEditError> {
    let lock = files.lock.as_ref().map(Lock::parse).transpose();
    let lock = lock.map_err(ServerEditError::Faults)?;
    let mut wanted = read_alone(&files.site)?;
    let (name, end) = find_end(&wanted, server, interface)?;
    let before = end.clone();
    let text = files.site.text();
    let form = || ServerEditError::Form(name.clone());
    let mut after = before.clone();
    let pieces = match *step {
        ServerStep::Stage { key, port } => {
            if let Some(staged) = &before.staged {
                return Err(ServerEditError::Staged { end: name, key: *staged.public_key });
            }
            refuse_old(&name, &before, lock.as_ref(), &key)?;
            let port = port.or_else(|| free_port(&wanted, &name));
            let port = port.ok_or_else(|| ServerEditError::NoPort(name.clone()))?;
            let (public_key, at) = (At::nowhere(key), At::nowhere(port));
            after.staged = Some(At::nowhere(StagedEnd { public_key, port: at }));
            let pair = format!("staged = {{ public_key = \"{key}\", port = {port} }}");
            vec![insertion(text, "public_key", &before.public_key.span(), &pair).ok_or_else(form)?]
        }
        ServerStep::Abort => {
            let staged = staged(&name, &before)?;
            after.staged = None;
            vec![(pair(text, "staged", &staged.span()).ok_or_else(form)?, String::new())]
        }
        ServerStep::Retire => {
            let staged = staged(&name, &before)?;
            let old = OldKey {
                public_key: At::nowhere(*before.public_key),
                state: At::nowhere(State::Retired),
            };
            let line =
                format!("{{ public_key = \"{}\", state = \"retired\" }}", *before.public_key);
            after.old_keys.push(At::nowhere(old));
            (after.public_key, after.port) =
                (At::nowhere(*staged.public_key), At::nowhere(*staged.port));
            after.staged = None;
            let mut pieces = vec![
                (before.public_key.span(), format!("\"{}\"", *staged.public_key)),
                (before.port.span(), staged.port.to_string()),
            ];
            match before.old_keys.last() {
                Some(last) => {
                    pieces.push((last.span().end..last.span().end, format!(", {line}")));
                    let gone = pair(text, "staged", &staged.span()).ok_or_else(form)?;
                    pieces.push((gone, String::new()));
                }
                None => {
                    let own = start_of(text, "staged", &staged.span()).ok_or_else(form)?;
                    pieces.push((own..staged.span().end, format!("old_keys = [{line}]")));
                }
            }
            pieces
        }
        ServerStep::Revoke => {
            let mut pieces = Vec::new();
            for old in &mut after.old_keys {
                if *old.state == State::Retired {
                    pieces.push((old.state.span(), "\"revoked\"".to_owned()));
                    let public_key = At::nowhere(*old.public_key);
                    let state = At::nowhere(State::Revoked);
                    *old = At::nowhere(OldKey { public_key, state });
                }
            }
            if pieces.is_empty() {
                return Err(ServerEditError::NotRetired(name));
            }
            pieces
        }
    };
    let text = replaced(text, pieces);
    let new = Source::new(FILE, text.as_str());
    if let Some(own) = wanted.interfaces.get_mut(&name.interface) {
        own.at.insert(At::nowhere(name.server.clone()), after.clone());
    }
    if read_alone(&new)? != wanted {
        return Err(ServerEditError::Differs);
    }
    // A fault that was there before is not this change's: perhaps this is the change that mends it.
    let faults = |files: Files| files.read().err().unwrap_or_default();
    let known: BTreeSet<String> = faults(files.clone()).into_iter().map(|one| one.what).collect();
    let mut left = faults(Files { site: new, ..files.clone() });
    left.retain(|fault| fault.is_error() && !known.contains(&fault.what));
    match left.is_empty() {
        true => Ok(ServerEdited { end: name, text, before, after }),
        false => Err(ServerEditError::Faults(left)),
    }
}

/// The file, if nothing is wrong with it by itself.
fn read_alone(source: &Source) -> Result<SiteFile, ServerEditError> {
    let mut faults = Vec::new();
    let found = SITE.read(source, &mut faults);
    found.value.filter(|_| faults.is_empty()).ok_or(ServerEditError::Faults(faults))
}

fn staged(name: &EndName, end: &End) -> Result<At<StagedEnd>, ServerEditError> {
    end.staged.clone().ok_or_else(|| ServerEditError::NotStaged(name.clone()))
}

/// What was given up, here or in the lock, does not come back.
fn refuse_old(
    name: &EndName,
    end: &End,
    lock: Option<&Lock>,
    key: &Key,
) -> Result<(), ServerEditError> {
    let mut own = end.old_keys.iter().map(|old| *old.public_key).chain([*end.public_key]);
    if own.any(|old| old == *key) {
        return Err(ServerEditError::Old { key: *key, whose: name.to_string() });
    }
    let mut revoked = lock.into_iter().flat_map(Lock::revoked_of);
    match revoked.find(|(revoked, _)| revoked == key) {
        Some((key, whose)) => Err(ServerEditError::Old { key: *key, whose: whose.to_string() }),
        None => Ok(()),
    }
}

/// The next port above an end's own that its server does not listen at.
fn free_port(site: &SiteFile, name: &EndName) -> Option<u16> {
    let ends = site.interfaces.values().filter_map(|of| of.at.get(&name.server));
    let mut taken: BTreeSet<u16> = ends
        .flat_map(|end| [Some(*end.port), end.staged.as_ref().map(|staged| *staged.port)])
        .flatten()
        .collect();
    let mesh = site.mesh.as_ref().filter(|_| site.nodes.contains_key(&name.server));
    taken.extend(mesh.map(|mesh| *mesh.port));
    let own = site.interfaces.get(&name.interface)?.at.get(&name.server)?;
    let mut free = (own.port.checked_add(1)?..=u16::MAX).filter(|port| !taken.contains(port));
    free.next()
}

/// Where the pair begins whose value is at `value`: its key, before which nothing of it is left but
/// a dotted prefix.
fn start_of(text: &str, key: &str, value: &Range<usize>) -> Option<usize> {
    let before = text.get(..value.start)?.trim_end().strip_suffix('=')?.trim_end();
    let before = before.strip_suffix(key)?;
    // Another key that ends alike would be another pair.
    let apart = before.chars().next_back().is_none_or(|c| c.is_whitespace() || "{,.".contains(c));
    apart.then_some(before.len())
}

/// The line of a pair up to its key, if the pair has the line for itself: nothing, spaces, or the
/// dotted prefix of a key.
fn own_line(text: &str, start: usize, end: usize) -> Option<&str> {
    let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let (head, rest) = (&text[from..start], text[end..].lines().next().unwrap_or_default());
    let alone = !head.contains(['{', ',', '=']);
    (alone && (rest.trim().is_empty() || rest.trim_start().starts_with('#'))).then_some(head)
}

/// A pair after another one, in a line of its own if that one has one.
pub(super) fn insertion(text: &str, key: &str, value: &Range<usize>, pair: &str) -> Option<Piece> {
    let start = start_of(text, key, value)?;
    let Some(head) = own_line(text, start, value.end) else {
        return Some((value.end..value.end, format!(", {pair}")));
    };
    Some(match text[value.end..].find('\n') {
        Some(at) => {
            let (line, newline) = (value.end + at + 1, &text[..value.end + at]);
            let newline = if newline.ends_with('\r') { "\r\n" } else { "\n" };
            (line..line, format!("{head}{pair}{newline}"))
        }
        None => (text.len()..text.len(), format!("\n{head}{pair}")),
    })
}

/// All of a pair, to take it out: its line, or itself with one comma.
fn pair(text: &str, key: &str, value: &Range<usize>) -> Option<Range<usize>> {
    // A table of its own has its header here, which is not all of it.
    let inline = text.get(value.clone())?.starts_with('{') && text[..value.end].ends_with('}');
    let start = start_of(text, key, value).filter(|_| inline)?;
    if let Some(head) = own_line(text, start, value.end) {
        let end = text[value.end..].find('\n').map_or(text.len(), |at| value.end + at + 1);
        return Some(start - head.len()..end);
    }
    if let Some(before) = text[..start].trim_end().strip_suffix(',') {
        return Some(before.len()..value.end);
    }
    let rest = &text[value.end..];
    let after = rest.trim_start().strip_prefix(',')?.trim_start();
    Some(start..text.len() - after.len())
}
