//! `vyr init`: a new site, and the schemas that editors read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use vyr_artifact::{Namespace, render_line};
use vyr_base::{Category, Problem};
use vyr_node::{FileError, Result, keys};
use vyr_plan::intent::{ClientsFile, ContractsFile, Name, SiteFile, schema};
use vyr_service::manifest::ManifestFile;

use super::directory::write_whole;
use crate::cli::InitArgs;
use crate::output;

/// Why no site was begun.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{0} is there already")]
    There(PathBuf),
    #[error("{0:?} cannot be a site's name")]
    Name(String),
    #[error("the system gives no random bytes")]
    Random(#[source] rustix::io::Errno),
}

impl Problem for InitError {
    fn category(&self) -> Category {
        match self {
            Self::There(_) => Category::Conflict,
            Self::Name(_) => Category::Usage,
            Self::Random(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::There(_) => Some("edit it, or begin another site in an empty directory".into()),
            Self::Name(_) => Some("--name NAME: lower-case letters, digits and hyphens".into()),
            Self::Random(_) => None,
        }
    }
}

/// Schemas by file name: `vyr init` writes them into a site, `cargo xtask generate` into `docs`.
pub(crate) fn schemas() -> Vec<(&'static str, String)> {
    let text = |value: serde_json::Value| format!("{value:#}\n");
    vec![
        ("site.schema.json", text(schema::<SiteFile>())),
        ("clients.schema.json", text(schema::<ClientsFile>())),
        ("contracts.schema.json", text(schema::<ContractsFile>())),
        ("service.schema.json", text(schema::<ManifestFile>())),
    ]
}

const SITE: &str = include_str!("template/site.toml");
const CLIENTS: &str = include_str!("template/clients.toml");
const CONTRACTS: &str = include_str!("template/contracts.toml");
/// One client, one allocation: one line. Both sides of a merge are kept.
const ATTRIBUTES: &str = "vyr.lock merge=union\nclients.toml merge=union\n";

#[derive(Serialize)]
struct Begun {
    site: String,
    prefix: String,
    files: Vec<String>,
}

pub(crate) fn init(args: &InitArgs, json: bool) -> Result<ExitCode> {
    let directory = args.directory.clone().unwrap_or_else(|| PathBuf::from("."));
    let mut files: Vec<(String, String)> =
        schemas().into_iter().map(|(name, text)| (format!("schema/{name}"), text)).collect();
    let (mut site, mut prefix) = (String::new(), String::new());
    if !args.schemas {
        site = name(args, &directory)?.to_string();
        prefix = draw()?;
        let filled = |text: &str| text.replace("@NAME@", &site).replace("@PREFIX@", &prefix);
        files.extend([
            ("site.toml".to_owned(), filled(SITE)),
            ("clients.toml".to_owned(), CLIENTS.to_owned()),
            ("contracts/first.toml".to_owned(), CONTRACTS.to_owned()),
            ("operators.allowed_signers".to_owned(), signers(args)?),
            (".gitattributes".to_owned(), ATTRIBUTES.to_owned()),
        ]);
        let there = files.iter().map(|(name, _)| directory.join(name)).find(|path| path.exists());
        if let Some(path) = there {
            return Err(InitError::There(path).into());
        }
    }
    for (name, text) in &files {
        write_whole(&directory.join(name), text.as_bytes())?;
    }
    let files: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
    if json {
        output::json_line(Begun { site, prefix, files })?;
        return Ok(ExitCode::SUCCESS);
    }
    files.iter().for_each(|file| output::say(format!("wrote {}", directory.join(file).display())));
    if !args.schemas {
        output::say(format!("the prefix of {site} is {prefix}: it was drawn once and stays"));
        output::say("next: edit site.toml, then vyr check");
        output::say("undo: remove these files");
    }
    Ok(ExitCode::SUCCESS)
}

fn name(args: &InitArgs, directory: &Path) -> Result<Name> {
    let found = match &args.name {
        Some(name) => name.clone(),
        None => {
            let full = std::path::absolute(directory).map_err(FileError::on("read", directory))?;
            let last = full.components().next_back();
            last.map(|last| last.as_os_str().to_string_lossy().to_lowercase()).unwrap_or_default()
        }
    };
    Ok(found.parse().map_err(|_| InitError::Name(found))?)
}

/// A prefix of RFC 4193: fd and 40 random bits.
fn draw() -> Result<String> {
    let mut bits = [0_u8; 5];
    let got = rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())
        .map_err(InitError::Random)?;
    debug_assert_eq!(got, bits.len(), "a few bytes come whole");
    let high = std::net::Ipv6Addr::new(
        0xfd00 | u16::from(bits[0]),
        u16::from_be_bytes([bits[1], bits[2]]),
        u16::from_be_bytes([bits[3], bits[4]]),
        0,
        0,
        0,
        0,
        0,
    );
    Ok(format!("{high}/48"))
}

fn signers(args: &InitArgs) -> Result<String> {
    let head = "# Whose signature on a plan counts: OpenSSH's allowed_signers. A line each:\n\
                # NAME namespaces=\"vyr-plan,vyr-bundle\" ssh-ed25519 AAAA...\n";
    let Some(path) = &args.operator else { return Ok(head.into()) };
    let key = keys::public_key(path)?;
    let name = std::env::var("USER").unwrap_or_default();
    let name = if name.is_empty() { "operator".into() } else { name };
    Ok(format!("{head}{}\n", render_line(&name, &key, &[Namespace::Plan, Namespace::Bundle])?))
}
