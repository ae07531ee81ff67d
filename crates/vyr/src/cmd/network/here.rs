//! This host: asked in this process, or by way of the node that runs on its data directory.

use tokio_stream::StreamExt as _;
use vyr_api::Client;
use vyr_api::operator::Chunk;
use vyr_net::words::{Answer, Request, parse};
use vyr_node::Result;
use vyr_node::network::{Asks, Host, Network, RemoteError};

use crate::cmd::link::{Link, Place, refused};

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
