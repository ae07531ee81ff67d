//! What has happened to this host: put into its journal, and taken out of it as a receipt.

use std::path::PathBuf;

use vyr_api::Client;
use vyr_api::operator::GetChangeReceiptRequest;
use vyr_node::network::{has_changes, record_changes};
use vyr_node::{DataDir, Result};

use crate::cmd::link::{Place, Reads, refused};
use crate::output;

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
