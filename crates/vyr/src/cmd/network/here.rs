//! This host: asked in this process, or by way of the node that runs on its data directory. And what
//! has happened to it, put into its journal.

use std::path::PathBuf;

use tokio_stream::StreamExt as _;
use vyr_api::Client;
use vyr_api::operator::{Chunk, GetChangeReceiptRequest};
use vyr_net::words::{Answer, Request, parse};
use vyr_node::network::{Asks, Host, Network, RemoteError, has_changes, record_changes};
use vyr_node::{DataDir, Result};

use crate::cmd::link::{Link, Place, Reads, refused};
use crate::output;

/// Bytes of a question in one message.
const PIECE: usize = 256 << 10;

/// The way to ask it; whether a node runs makes no difference to who asks.
pub(super) fn here(place: &Place) -> Result<Host> {
    Ok(match Link::found(place)? {
        Some(link) => Host::Node(Box::new(OverLink(link))),
        None => Host::Here(Network::open(place.open()?.path())?),
    })
}

struct OverLink(Link);

impl std::fmt::Debug for OverLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OverLink").finish_non_exhaustive()
    }
}

impl Asks for OverLink {
    fn ask(&self, request: &Request) -> Result<Answer> {
        let asked = serde_json::to_vec(request)
            .map_err(|e| vyr_net::words::WordsError::Form(e.to_string()))?;
        let pieces: Vec<Chunk> =
            asked.chunks(PIECE).map(|piece| Chunk { data: piece.to_vec().into() }).collect();
        let answer = self.0.with(async |mut client: Client| {
            let pieces = tokio_stream::iter(pieces);
            let mut told = client.operator.ask_network(pieces).await.map_err(refused)?.into_inner();
            let mut answer = Vec::new();
            while let Some(piece) = told.next().await {
                answer.extend_from_slice(&piece.map_err(refused)?.data);
            }
            Ok(answer)
        })?;
        match parse(&answer)? {
            Answer::Refused(refusal) => Err(RemoteError::from(refusal).into()),
            answer => Ok(answer),
        }
    }
}

/// Puts what happened to this host into its journal, unless its node does.
pub(crate) fn recorded<T>(data_dir: Option<PathBuf>, done: T) -> T {
    let changed = DataDir::choose(data_dir).ok().filter(|(path, _)| has_changes(path));
    let Some((path, _)) = changed else { return done };
    let recorded =
        DataDir::open(&path).map_err(Into::into).and_then(|data| Ok(record_changes(&data)?));
    match recorded {
        Ok(recorded) => {
            for bad in recorded.bad {
                output::say(format!("warning: set aside, and not in the journal: {bad}"));
            }
        }
        Err(error) => {
            let error: vyr_node::Report = error;
            output::say(format!(
                "warning: not in the journal yet, the next command tries: {error}"
            ));
        }
    }
    done
}

/// The receipt of a change that has ended here; none is named: of the last.
pub(super) fn receipt(place: &Place, change: Option<&str>) -> Result<Vec<u8>> {
    match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let asked = GetChangeReceiptRequest { change: change.unwrap_or_default().to_owned() };
            let receipt = client.operator.get_change_receipt(asked).await.map_err(refused)?;
            Ok(receipt.into_inner().file.to_vec())
        }),
        Reads::Records(Some(records)) => Ok(records.change_receipt(change)?.to_bytes()),
        Reads::Records(None) => Err(super::NodesError::NoChange.into()),
    }
}
