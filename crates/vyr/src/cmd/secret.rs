//! `vyr secret`: age files in the site, one a service.
//!
//! A value comes from stdin or a file, is held in memory that is overwritten, and leaves it encrypted.
//! What was typed is not repeated where it may have been a value by mistake.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Problem, Source};
use vyr_node::secrets::{SEALED_BYTES_MAX, SealError, recipient, seal, unseal};
use vyr_node::{DataDir, Result};
use vyr_plan::intent::{FILE_BYTES_MAX, Name, read_site};
use vyr_service::manifest::{self, SecretName};
use vyr_service::secret::{SecretValue, Secrets, VALUE_BYTES_MAX};
use zeroize::Zeroizing;

use super::client::write_private;
use super::site::{Refused, Site, read_bounded, refuse};
use crate::cli::{SecretArgs, SecretCommand, SecretInput};
use crate::output;

/// Who can open the secrets of this site: a recipient a line.
const RECIPIENTS: &str = "secrets/recipients";
/// Bytes of that file.
const RECIPIENTS_BYTES_MAX: usize = 256 << 10;

/// What is wrong with what was asked for. Never says what may be a value.
#[derive(Debug, thiserror::Error)]
enum SecretArgsError {
    #[error("argument {0} is not the name of a secret")]
    Name(usize),
    #[error("{0} is named twice")]
    Twice(SecretName),
    #[error("the value of {0} is to be read from a file that cannot be read")]
    NoFile(SecretName, #[source] io::Error),
    #[error("the value of {0} cannot be read from stdin")]
    Stdin(SecretName, #[source] io::Error),
    #[error("stdin has one value, and two secrets want it")]
    OneStdin,
    #[error("stdin is a terminal, which would show the value of {0}")]
    Terminal(SecretName),
    #[error("the value of {0} is empty")]
    Empty(SecretName),
    #[error("a name to be removed has no value")]
    NoValue,
    #[error("there are secrets of {0} already, and they have to be read to be changed")]
    NoIdentity(Name),
    #[error("there are no secrets of {0}")]
    None(Name),
    #[error("{0} is none of the secrets of {1}")]
    NotThere(SecretName, Name),
    #[error("there are secrets of {0} already")]
    Some(Name),
    #[error("the manifest of {0} requires {1}")]
    Required(Name, String),
    #[error("secrets/recipients is not UTF-8")]
    RecipientsText,
}

impl Problem for SecretArgsError {
    fn category(&self) -> Category {
        match self {
            Self::NoFile(_, e) if e.kind() != io::ErrorKind::NotFound => Category::Failure,
            Self::NoFile(..) | Self::None(_) | Self::NotThere(..) => Category::NotFound,
            Self::Stdin(..) => Category::Failure,
            Self::NoIdentity(_) => Category::Auth,
            Self::Some(_) | Self::Required(..) => Category::Conflict,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name(_) => "A-Z, 0-9 and _, no digit first, at most 128: DATABASE_URL".into(),
            Self::NoFile(..) => {
                "behind the = stands a file, never a value; if it was one, others may have seen it"
                    .into()
            }
            Self::OneStdin => "run it once for each, or name files: NAME=FILE".into(),
            Self::Terminal(name) => {
                format!("read -rs V; printf %s \"$V\" | vyr secret set {name} --service SERVICE")
            }
            Self::Empty(_) => {
                "an empty secret is a mistake more often than not; rm removes one".into()
            }
            Self::NoIdentity(_) => {
                "--identity FILE: an age identity or ssh-ed25519 key that opens them".into()
            }
            Self::None(service) => format!("vyr secret set NAME --service {service}"),
            Self::NotThere(_, service) => {
                format!("vyr secret ls --service {service} --identity FILE has their names")
            }
            Self::Some(service) => {
                format!("remove them first: vyr secret rm NAME --service {service}")
            }
            Self::Required(..) => {
                "give them values, or write `none = true` under [secrets] of the manifest".into()
            }
            _ => return None,
        })
    }
}

#[derive(Serialize)]
struct ChangedBody<'a> {
    service: &'a Name,
    file: String,
    set: Vec<String>,
    removed: Vec<String>,
    recipients: &'a BTreeSet<String>,
}

#[derive(Serialize)]
struct ListBody<'a> {
    service: &'a Name,
    secrets: Vec<String>,
    /// Those that the manifest requires and that are not there; null: there is no manifest.
    missing: Option<Vec<String>>,
}

#[derive(Serialize)]
struct NodeKeyBody {
    recipient: String,
    made: bool,
}

/// A service's file, while nobody else changes the site.
struct Place<'a> {
    site: Site,
    args: &'a SecretArgs,
    file: String,
    sealed: Option<Vec<u8>>,
}

impl<'a> Place<'a> {
    fn find(args: &'a SecretArgs) -> Result<Self> {
        let site = Site::find(args.site.site.as_deref())?;
        let file = format!("secrets/{}.age", args.service);
        Ok(Self { site, args, file, sealed: None })
    }

    fn load(&mut self) -> Result<()> {
        self.sealed = read_bounded(&self.site.path(&self.file), SEALED_BYTES_MAX)?;
        Ok(())
    }

    /// What is in the file; none: there is no file.
    fn secrets(&self) -> Result<Option<Secrets>> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let service = || self.args.service.clone();
        let identity = self.args.identity.as_deref();
        let identity = identity.ok_or_else(|| SecretArgsError::NoIdentity(service()))?;
        Ok(Some(unseal(sealed, identity)?))
    }

    fn existing(&self) -> Result<Secrets> {
        let none = || SecretArgsError::None(self.args.service.clone());
        Ok(self.secrets()?.ok_or_else(none)?)
    }

    /// What the manifest requires; none: there is no manifest that can be read.
    fn required(&self) -> Result<Option<BTreeSet<SecretName>>> {
        let name = format!("services/{}.toml", self.args.service);
        let Some(bytes) = read_bounded(&self.site.path(&name), FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        let Ok(text) = String::from_utf8(bytes) else { return Ok(None) };
        let read = manifest::read(self.args.service.as_str(), &Source::new(name, text));
        Ok(read.ok().map(|read| read.manifest.secrets))
    }
}

/// Who can open what is written now: nodes, and whoever recovers them.
fn recipients(site: &Site) -> Result<std::result::Result<BTreeSet<String>, Refused>> {
    let mut found = BTreeSet::new();
    let listed = read_bounded(&site.path(RECIPIENTS), RECIPIENTS_BYTES_MAX)?.unwrap_or_default();
    let listed = String::from_utf8(listed).map_err(|_| SecretArgsError::RecipientsText)?;
    let lines = listed.lines().map(str::trim);
    found
        .extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    let bytes = read_bounded(&site.path("site.toml"), FILE_BYTES_MAX)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match read_site(&Source::new("site.toml", text)) {
        Ok(site) => {
            let nodes = site.nodes.values().filter_map(|node| node.secrets.as_ref());
            found.extend(nodes.map(|of| of.to_string()));
            if found.is_empty() {
                // Those who recover a node can open them too, but a node has to.
                return Err(SealError::NoRecipients.into());
            }
            let recovery = site.recovery.into_iter().flat_map(|of| of.recipients);
            found.extend(recovery.map(|of| of.to_string()));
            Ok(found)
        }
        Err(faults) => Err(Refused { category: Category::Usage, faults, outcomes: Vec::new() }),
    })
}

/// The names of secrets, judged without being repeated.
fn names(inputs: &[SecretInput]) -> Result<Vec<SecretName>> {
    let mut names: Vec<SecretName> = Vec::new();
    for (n, input) in inputs.iter().enumerate() {
        let name: SecretName = input.name.parse().map_err(|_| SecretArgsError::Name(n + 1))?;
        if names.contains(&name) {
            return Err(SecretArgsError::Twice(name).into());
        }
        names.push(name);
    }
    Ok(names)
}

fn values(inputs: &[SecretInput], exact: bool) -> Result<Vec<(SecretName, SecretValue)>> {
    let names = names(inputs)?;
    if inputs.iter().filter(|input| input.from.is_none()).count() > 1 {
        return Err(SecretArgsError::OneStdin.into());
    }
    let values = names.into_iter().zip(inputs).map(|(name, input)| {
        let bytes = match &input.from {
            Some(path) => File::open(path)
                .and_then(bounded)
                .map_err(|e| SecretArgsError::NoFile(name.clone(), e))?,
            None if io::stdin().is_terminal() => {
                return Err(SecretArgsError::Terminal(name).into());
            }
            None => bounded(io::stdin()).map_err(|e| SecretArgsError::Stdin(name.clone(), e))?,
        };
        let bytes = if exact { bytes } else { without_end(bytes) };
        if bytes.is_empty() {
            return Err(SecretArgsError::Empty(name).into());
        }
        Ok((name, SecretValue::new(bytes)?))
    });
    values.collect()
}

/// As much as a value may have, and a little more so that it is seen.
fn bounded(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let most = VALUE_BYTES_MAX + 3;
    // Room for all of it: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    from.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `echo` and editors end a line; a value of several lines is a file's, and stays as it is.
fn without_end(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if let Some(length) = line.filter(|line| !line.contains(&b'\n')).map(<[u8]>::len) {
        bytes.truncate(length);
    }
    bytes
}

/// What becomes of a file.
struct Change {
    after: Secrets,
    set: Vec<SecretName>,
    removed: Vec<SecretName>,
}

fn given(mut secrets: Secrets, values: Vec<(SecretName, SecretValue)>) -> Result<Change> {
    let mut set = Vec::new();
    for (name, value) in values {
        secrets.set(name.clone(), value)?;
        set.push(name);
    }
    Ok(Change { after: secrets, set, removed: Vec::new() })
}

fn all_there<'n>(
    secrets: &Secrets,
    names: impl IntoIterator<Item = &'n SecretName>,
    service: &Name,
) -> Result<()> {
    for name in names {
        if secrets.get(name).is_none() {
            return Err(SecretArgsError::NotThere(name.clone(), service.clone()).into());
        }
    }
    Ok(())
}

fn texts<'n>(names: impl IntoIterator<Item = &'n SecretName>) -> Vec<String> {
    names.into_iter().map(ToString::to_string).collect()
}

pub(crate) fn run(command: SecretCommand, json: bool) -> Result<ExitCode> {
    // What is read from stdin is read first: somebody else may wait for the site meanwhile.
    match command {
        SecretCommand::Set { secrets, exact, args } => {
            let values = values(&secrets, exact)?;
            change(&args, json, |place| given(place.secrets()?.unwrap_or_default(), values))
        }
        SecretCommand::Rotate { secrets, exact, args } => {
            let values = values(&secrets, exact)?;
            change(&args, json, |place| {
                let before = place.existing()?;
                all_there(&before, values.iter().map(|(name, _)| name), &args.service)?;
                given(before, values)
            })
        }
        SecretCommand::Rm { names: typed, args } => {
            let removed = names(&typed)?;
            if typed.iter().any(|input| input.from.is_some()) {
                return Err(SecretArgsError::NoValue.into());
            }
            change(&args, json, |place| {
                let mut after = place.existing()?;
                all_there(&after, &removed, &args.service)?;
                for name in &removed {
                    after.remove(name);
                }
                Ok(Change { after, set: Vec::new(), removed })
            })
        }
        SecretCommand::ConfirmNone { args } => change(&args, json, |place| {
            if place.sealed.is_some() {
                return Err(SecretArgsError::Some(args.service.clone()).into());
            }
            let required = place.required()?.unwrap_or_default();
            if !required.is_empty() {
                let names = texts(&required).join(", ");
                return Err(SecretArgsError::Required(args.service.clone(), names).into());
            }
            given(Secrets::new(), Vec::new())
        }),
        SecretCommand::Ls { args } => ls(&args, json),
    }
}

/// Writes a service's file anew, whole, one command at a time.
fn change(
    args: &SecretArgs,
    json: bool,
    how: impl FnOnce(&Place<'_>) -> Result<Change>,
) -> Result<ExitCode> {
    let mut place = Place::find(args)?;
    let alone = place.site.alone()?;
    place.load()?;
    let recipients = match recipients(&place.site)? {
        Ok(recipients) => recipients,
        Err(refused) => return refuse(&refused, json),
    };
    let change = how(&place)?;
    let sealed = seal(&change.after, recipients.iter().map(String::as_str))?;
    write_private(&place.site.path(&place.file), &sealed, true)?;
    drop(alone);
    let Change { after, set, removed } = change;
    if json {
        output::json_line(ChangedBody {
            service: &args.service,
            file: place.file,
            set: texts(&set),
            removed: texts(&removed),
            recipients: &recipients,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&place.file);
    for name in &set {
        output::say(format!("{name} is set"));
    }
    for name in &removed {
        output::say(format!("{name} is removed"));
    }
    output::say(format!("{} recipients can open it", recipients.len()));
    if let Some(identity) = &args.identity
        && matches!(unseal(&sealed, identity), Err(SealError::NotForUs(_)))
    {
        output::say(format!(
            "warning: {} is none of them; its recipient belongs into {RECIPIENTS}",
            identity.display()
        ));
    }
    if let Some(required) = place.required()? {
        for name in after.missing(&required) {
            output::say(format!("warning: the manifest requires {name}, and it is not set"));
        }
    }
    output::say("next: with another file the plan is another one, and its instances are replaced");
    output::say(match place.sealed {
        Some(_) => format!("undo: git checkout {}", place.file),
        None => format!("undo: rm {}", place.file),
    });
    Ok(ExitCode::SUCCESS)
}

fn ls(args: &SecretArgs, json: bool) -> Result<ExitCode> {
    let mut place = Place::find(args)?;
    place.load()?;
    let secrets = place.existing()?;
    let required = place.required()?;
    let missing = required.as_ref().map(|required| texts(secrets.missing(required)));
    if json {
        let secrets = texts(secrets.names());
        output::json_line(ListBody { service: &args.service, secrets, missing })?;
        return Ok(ExitCode::SUCCESS);
    }
    secrets.names().for_each(|name| output::print(name.as_str()));
    for name in missing.unwrap_or_default() {
        output::say(format!("warning: the manifest requires {name}, and it is not set"));
    }
    Ok(ExitCode::SUCCESS)
}

/// `vyr node key --secrets`.
pub(crate) fn node_key(data: &DataDir, json: bool) -> Result<ExitCode> {
    let (recipient, made) = recipient(data)?;
    if json {
        output::json_line(NodeKeyBody { recipient, made })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(recipient);
    output::say(format!("a line for {RECIPIENTS} of the site, then vyr secret rotate"));
    if made {
        output::say(format!("undo: rm {}", data.path().join("keys/secrets").display()));
    }
    Ok(ExitCode::SUCCESS)
}
