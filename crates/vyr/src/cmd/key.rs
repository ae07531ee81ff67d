//! `vyr key`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use vyr_artifact::KeyId;
use vyr_node::{DataDir, FileError, Result, Trust, keys, trust_key};

use crate::cli::KeyCommand;
use crate::output;

pub(crate) fn run(data: &DataDir, command: KeyCommand, json: bool) -> Result<ExitCode> {
    match command {
        KeyCommand::New { name } => new(data, &name, json)?,
        KeyCommand::Ls => ls(data, json)?,
        KeyCommand::Trust { key, principal, namespaces } => {
            let namespaces: Vec<_> = namespaces.into_iter().map(Into::into).collect();
            trust(data, &key, principal, &namespaces, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_json<T: Serialize>(body: T) -> Result<()> {
    Ok(output::json(body).map_err(FileError::on("write", Path::new("stdout")))?)
}

#[derive(Serialize)]
struct New {
    key_id: String,
    private_key: PathBuf,
    public_key: String,
}

fn new(data: &DataDir, name: &str, json: bool) -> Result<()> {
    let (path, key) = keys::make(data, name)?;
    let public = key.to_openssh().map_err(keys::KeyError::Make)?;
    if json {
        let key_id = KeyId::of(&key).to_string();
        return write_json(New { key_id, private_key: path, public_key: public });
    }
    output::print(public);
    output::say(format!("private key: {}", path.display()));
    output::say(format!("trust it:    vyr key trust {name} --principal NAME"));
    output::say(format!("undo:        rm {0} {0}.pub", path.display()));
    Ok(())
}

#[derive(Serialize)]
struct Listed {
    dev: bool,
    signers: Vec<Signer>,
    keys: Vec<Key>,
}

#[derive(Serialize)]
struct Signer {
    principal: String,
    key_id: String,
    namespaces: Option<String>,
    valid_after: Option<String>,
    valid_before: Option<String>,
    public_key: String,
}

#[derive(Serialize)]
struct Key {
    name: String,
    key_id: String,
}

fn ls(data: &DataDir, json: bool) -> Result<()> {
    let trust = Trust::load(data)?;
    let keys = keys::list(data)?;
    let signers: Vec<Signer> = trust
        .signers()
        .entries()
        .iter()
        .map(|line| Signer {
            principal: line.principal().to_owned(),
            key_id: line.key_id().to_string(),
            namespaces: line.namespaces().map(str::to_owned),
            valid_after: line.valid_after().map(|at| at.to_string()),
            valid_before: line.valid_before().map(|at| at.to_string()),
            public_key: line.public_key().to_owned(),
        })
        .collect();
    if json {
        let keys = keys
            .into_iter()
            .map(|(name, key)| Key { name, key_id: KeyId::of(&key).to_string() })
            .collect();
        return write_json(Listed { dev: trust.is_dev(), signers, keys });
    }
    for line in trust.signers().entries() {
        output::print(line.to_string());
    }
    if trust.is_dev() {
        output::say("signer: dev (no signer list; the development key of this directory counts)");
    } else if signers.is_empty() {
        output::say("nobody may sign: vyr key trust KEY.pub --principal NAME");
    }
    for (name, key) in keys {
        output::say(format!("key {name}: {}", KeyId::of(&key)));
    }
    Ok(())
}

#[derive(Serialize)]
struct Trusted {
    line: String,
    added: bool,
    list: PathBuf,
}

fn trust(
    data: &DataDir,
    key: &Path,
    principal: Option<String>,
    namespaces: &[vyr_artifact::Namespace],
    json: bool,
) -> Result<()> {
    // A bare name is a key of the data directory, unless there is a file of that name here.
    let named = data.keys()?.join(key).with_extension("pub");
    let path = if !key.exists() && key.components().count() == 1 && named.exists() {
        named
    } else {
        key.to_owned()
    };
    let public = keys::public_key(&path)?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let principal = principal.or(stem).unwrap_or_default();
    let (line, added) = trust_key(data, &principal, &public, namespaces)?;
    let list = data.allowed_signers();
    if json {
        return write_json(Trusted { line, added, list });
    }
    output::print(&line);
    if added {
        output::say(format!("undo: remove the line from {}", list.display()));
    } else {
        output::say("already trusted; nothing changed");
    }
    Ok(())
}
