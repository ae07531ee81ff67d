//! `vyr node` and `vyr checkpoint`.

use std::process::ExitCode;

use serde::Serialize;
use vyr_api::Client;
use vyr_api::operator::{GetCheckpointRequest, StatusRequest};
use vyr_base::{Category, Problem};
use vyr_journal::SignedCheckpoint;
use vyr_node::{Result, keys};

use super::link::{Link, Place, Reads, refused};
use crate::cli::CheckpointArgs;
use crate::output::{self, Out};

/// There is no event to sign.
#[derive(Debug, thiserror::Error)]
#[error("nothing has happened yet on this data directory")]
struct NoEvents;

impl Problem for NoEvents {
    fn category(&self) -> Category {
        Category::NotFound
    }

    fn hint(&self) -> Option<String> {
        Some("submit a task: vyr task submit FILE".into())
    }
}

#[derive(Serialize)]
struct Key {
    node_key: String,
}

/// The key of the node that is running, else of the data directory, made on first use.
pub(crate) fn key(place: &Place, json: bool) -> Result<ExitCode> {
    let node_key = match Link::found(place)? {
        Some(link) => link.with(async |mut client: Client| {
            let status = client.operator.status(StatusRequest {}).await.map_err(refused)?;
            Ok(status.into_inner().node_key)
        })?,
        None => keys::node_key_line(&place.open()?)?,
    };
    if json {
        output::json_line(Key { node_key })?;
    } else {
        output::print(node_key);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn checkpoint(place: &Place, args: &CheckpointArgs, json: bool) -> Result<ExitCode> {
    let signed = match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let answer = client.operator.get_checkpoint(GetCheckpointRequest {}).await;
            let answer = answer.map_err(refused)?.into_inner();
            Ok(SignedCheckpoint::from_parts(&answer.text, &answer.signature)?)
        })?,
        Reads::Records(records) => records.ok_or(NoEvents)?.checkpoint()?,
    };
    let mut out = Out::create(args.output.as_deref())?;
    out.write(&signed.to_bytes())?;
    out.finish()?;
    if args.output.is_some() && !json {
        let checkpoint = signed.checkpoint();
        output::say(format!("{} events, root {}", checkpoint.size, checkpoint.root));
    }
    Ok(ExitCode::SUCCESS)
}
