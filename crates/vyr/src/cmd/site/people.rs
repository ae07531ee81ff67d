//! `vyr client add|ls|rotate|revoke`: people's devices in `clients.toml`.
//!
//! What becomes of the text is `vyr_plan`'s to say. Here files are read and written: one command at
//! a time, the new file whole in the place of the old one. A private key that is made here goes into
//! one new file and nowhere else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Problem};
use vyr_node::network::{Stage, private_key};
use vyr_node::{DataDir, FileError, Result};
use vyr_plan::intent::{ClientEdit, EditError, Edited, Key, State, edit_clients};
use vyr_plan::render::PrivateKey;
use zeroize::Zeroizing;

use super::{Refused, Site, compiled, refuse};
use crate::cli::{ClientAddArgs, ClientLsArgs, ClientRevokeArgs, ClientRotateArgs, Revoked};
use crate::cmd::client::write_private;
use crate::cmd::rotation::KeysLive;
use crate::output;

const FILE: &str = "clients.toml";

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    #[error("no key was named")]
    None,
}

impl Problem for KeyError {
    fn category(&self) -> Category {
        match self {
            Self::Exists(_) => Category::Conflict,
            Self::None => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Exists(_) => "name a new file: a private key is never written over".into(),
            Self::None => "--public-key KEY, or --key FILE to make one".into(),
        })
    }
}

#[derive(Serialize)]
struct ChangedBody<'a> {
    client_id: &'a str,
    changed: bool,
    keys: Vec<ChangedKey>,
    /// The file with the private key, if it was made here.
    key_file: Option<String>,
}

#[derive(Serialize)]
struct ChangedKey {
    public_key: Key,
    before: Option<&'static str>,
    state: &'static str,
}

#[derive(Serialize)]
struct ListBody {
    keys: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    client_id: String,
    owner: String,
    interface: String,
    profile: String,
    public_key: Key,
    state: &'static str,
    /// By server; none: no plan has them yet, or the key has none.
    addresses: BTreeMap<String, Vec<String>>,
    /// With `--live`: seconds since it last shook hands with this host; null: it did not.
    handshake_age_s: Option<u64>,
    /// With `--live`, of a staged key: how far it is on this host.
    stage: Option<Stage>,
}

/// A key of a device: made elsewhere, or here and not yet written.
struct NewKey {
    public: Key,
    private: Option<(PathBuf, Zeroizing<String>)>,
}

impl NewKey {
    fn of(public: Option<Key>, file: Option<PathBuf>) -> Result<Self> {
        match (public, file) {
            (Some(public), _) => Ok(Self { public, private: None }),
            (None, None) => Err(KeyError::None.into()),
            (None, Some(path)) => {
                if path.symlink_metadata().is_ok() {
                    return Err(KeyError::Exists(path).into());
                }
                let text = private_key().map_err(FileError::on("make a key for", &path))?;
                let public = PrivateKey::parse(&text)?.public_key();
                Ok(Self { public, private: Some((path, text)) })
            }
        }
    }
}

pub(crate) fn client_add(args: ClientAddArgs, json: bool) -> Result<ExitCode> {
    let ClientAddArgs { id, owner, interface, profile, public_key, key, site } = args;
    let new = NewKey::of(public_key, key)?;
    let edit = ClientEdit::Add { id, owner, interface, profile, key: new.public };
    change(site.site.as_deref(), &edit, new.private, json)
}

pub(crate) fn client_rotate(args: ClientRotateArgs, json: bool) -> Result<ExitCode> {
    let ClientRotateArgs { id, public_key, key, finish, site } = args;
    if finish {
        return change(site.site.as_deref(), &ClientEdit::Finish { id }, None, json);
    }
    let new = NewKey::of(public_key, key)?;
    let edit = ClientEdit::Stage { id, key: new.public };
    change(site.site.as_deref(), &edit, new.private, json)
}

pub(crate) fn client_revoke(args: ClientRevokeArgs, json: bool) -> Result<ExitCode> {
    let edit = match args.which {
        Revoked::Client(id) => ClientEdit::RevokeClient { id },
        Revoked::Key(key) => ClientEdit::RevokeKey { key },
    };
    change(args.site.site.as_deref(), &edit, None, json)
}

/// Changes the file, one command at a time.
fn change(
    site: Option<&Path>,
    edit: &ClientEdit,
    private: Option<(PathBuf, Zeroizing<String>)>,
    json: bool,
) -> Result<ExitCode> {
    let site = Site::find(site)?;
    let alone = site.alone()?;
    let edited = match edit_clients(&site.files()?, edit) {
        Ok(edited) => edited,
        Err(EditError::Faults(faults)) => {
            let category = Category::Usage;
            return refuse(&Refused { category, faults, outcomes: Vec::new() }, json);
        }
        Err(e) => return Err(e.into()),
    };
    // The key first: a line whose private key nobody has would be a device that never comes.
    if let Some((path, text)) = &private {
        write_private(path, text.as_bytes(), false)?;
    }
    if !edited.changes.is_empty()
        && let Err(e) = site.write(FILE, edited.text.as_bytes())
    {
        if let Some((path, _)) = &private {
            // It was made for this line alone.
            let _ = std::fs::remove_file(path);
        }
        return Err(e);
    }
    drop(alone);
    report(edit, &edited, private.map(|(path, _)| path).as_deref(), json)
}

fn report(edit: &ClientEdit, edited: &Edited, key: Option<&Path>, json: bool) -> Result<ExitCode> {
    let key = key.map(|path| path.display().to_string());
    if json {
        let changed = |change: &vyr_plan::intent::KeyChange| ChangedKey {
            public_key: change.key,
            before: change.before.map(State::as_str),
            state: change.after.as_str(),
        };
        output::json_line(ChangedBody {
            client_id: edited.id.as_str(),
            changed: !edited.changes.is_empty(),
            keys: edited.changes.iter().map(changed).collect(),
            key_file: key,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if edited.changes.is_empty() {
        output::say(format!("all keys of {} are revoked already", edited.id));
        return Ok(ExitCode::SUCCESS);
    }
    for change in &edited.changes {
        output::print(format!("{} {} {}", edited.id, change.key, change.after.as_str()));
    }
    if let Some(path) = &key {
        output::say(format!("the private key is in {path}, and nowhere else: it is the device's"));
    }
    output::say(match edit {
        ClientEdit::Stage { .. } => {
            "staged: with the next plan it may shake hands, and takes over when it does"
        }
        ClientEdit::RevokeClient { .. } | ClientEdit::RevokeKey { .. } => {
            "revoked with the next plan; after `vyr lock` the key never returns"
        }
        ClientEdit::Add { .. } | ClientEdit::Finish { .. } => "in use with the next plan",
    });
    output::say("next: vyr lock, then vyr plan sign --key FILE");
    for change in &edited.changes {
        output::say(match change.before {
            None => format!("undo: take the line of {} out of clients.toml", change.key),
            Some(before) => {
                format!("undo: in the line of {} write state = \"{}\"", change.key, before.as_str())
            }
        });
    }
    if let Some(path) = &key {
        output::say(format!("undo: rm {path}"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn client_ls(
    open: impl FnOnce() -> Result<DataDir>,
    args: &ClientLsArgs,
    json: bool,
) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let intent = match site.files()?.read() {
        Ok(intent) => intent,
        Err(faults) => {
            let category = Category::Usage;
            return refuse(&Refused { category, faults, outcomes: Vec::new() }, json);
        }
    };
    let live = if args.live { Some(KeysLive::look(&open()?, &args.host)?) } else { None };
    let compiled = compiled(&site)?.ok();
    let mut keys = Vec::new();
    for line in &intent.clients {
        let plan = compiled.as_ref().map(|compiled| &compiled.plan);
        let client = plan.and_then(|plan| plan.client(line.id.as_str()));
        let own = client.filter(|_| matches!(*line.state, State::Active | State::Staged));
        let of = own.into_iter().flat_map(|client| &client.addresses);
        let addresses = of.map(|of| {
            let all = of.addresses.iter().map(|net| net.addr().to_string());
            (of.server.to_string(), all.collect())
        });
        keys.push(Listed {
            client_id: line.id.to_string(),
            owner: line.owner.to_string(),
            interface: line.interface.to_string(),
            profile: line.profile.to_string(),
            public_key: *line.public_key,
            state: line.state.as_str(),
            addresses: addresses.collect(),
            handshake_age_s: live.as_ref().and_then(|live| live.age_s(&line.public_key)),
            stage: live.as_ref().and_then(|live| live.stage(&line.public_key)),
        });
    }
    keys.sort_by(|a, b| (&a.client_id, a.public_key).cmp(&(&b.client_id, b.public_key)));
    if json {
        output::json_line(ListBody { keys })?;
        return Ok(ExitCode::SUCCESS);
    }
    let widest = |of: fn(&Listed) -> &str| {
        keys.iter().map(|key| of(key).chars().count()).max().unwrap_or_default()
    };
    let (id, interface) = (widest(|key| &key.client_id), widest(|key| &key.interface));
    let (profile, owner) = (widest(|key| &key.profile), widest(|key| &key.owner));
    for key in &keys {
        let addresses: Vec<&str> = key.addresses.values().flatten().map(String::as_str).collect();
        let line = format!(
            "{:id$}  {}  {:7}  {:interface$}  {:profile$}  {:owner$}  {}",
            key.client_id,
            key.public_key,
            key.state,
            key.interface,
            key.profile,
            key.owner,
            addresses.join(" ")
        );
        let shook = live.as_ref().map(|_| match key.handshake_age_s {
            Some(age) => format!("  handshake {age} s ago"),
            None => "  no handshake here".into(),
        });
        output::print(format!("{}{}", line.trim_end(), shook.unwrap_or_default()));
    }
    let left = keys.iter().filter(|key| key.stage.is_some_and(|stage| stage != Stage::Moved));
    for key in left {
        output::say(match key.handshake_age_s {
            None => format!("{} has not moved: it never used its new key here", key.client_id),
            Some(_) => format!("{} has not moved: see vyr client move", key.client_id),
        });
    }
    if compiled.is_none() {
        output::say("no addresses: the site does not compile as it is; see vyr check");
    }
    Ok(ExitCode::SUCCESS)
}
