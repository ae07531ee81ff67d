//! `vyr client move`, and what `vyr client ls --live` asks: keys that take over, on this host.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use vyr_base::{Category, Problem};
use vyr_node::network::{KeyStanding, Network, Stage};
use vyr_node::{DataDir, Result};
use vyr_plan::intent::Key;

use super::network::who;
use crate::cli::{ClientMoveArgs, HostArgs};
use crate::output;

/// How long after a look that failed the next one is.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct StandingsBody {
    keys: Vec<KeyStanding>,
}

/// What this host knows of keys.
pub(crate) struct KeysLive {
    now_unix_s: u64,
    shook_unix_s: BTreeMap<Key, u64>,
    stages: BTreeMap<Key, Stage>,
}

impl KeysLive {
    /// Looks once; nothing is changed.
    pub(crate) fn look(data: &DataDir, host: &HostArgs) -> Result<Self> {
        let network = Network::open(data.path())?;
        let (machine, backend) = who(&network, host)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shook = network.handshakes(&backend)?.into_iter();
        // A server's key is that of `vyr server ls --live`: there a device's own one stays.
        let stages = network.rotation_standings(&machine, &backend)?.into_iter();
        let stages = stages.filter(|of| of.to.is_none());
        Ok(Self {
            now_unix_s: now.as_secs(),
            shook_unix_s: shook.filter_map(|of| Some((of.public_key, of.unix_s?))).collect(),
            stages: stages.map(|of| (of.new, of.stage)).collect(),
        })
    }

    /// Seconds since a key last shook hands; none: it did not.
    pub(crate) fn age_s(&self, key: &Key) -> Option<u64> {
        Some(self.now_unix_s.saturating_sub(*self.shook_unix_s.get(key)?))
    }

    /// How far a staged key is.
    pub(crate) fn stage(&self, key: &Key) -> Option<Stage> {
        self.stages.get(key).copied()
    }
}

pub(crate) fn client_move(data: &DataDir, args: &ClientMoveArgs, json: bool) -> Result<ExitCode> {
    let network = Network::open(data.path())?;
    let (machine, backend) = who(&network, &args.host)?;
    if args.watch {
        return watch(&network, &machine, &backend, json);
    }
    let keys = network.move_keys(&machine, &backend, args.id.as_deref())?;
    report(keys, json)?;
    Ok(ExitCode::SUCCESS)
}

/// Looks until somebody ends this process, which is safe at any time.
fn watch(
    network: &Network,
    machine: &str,
    backend: &vyr_node::network::BackendChoice,
    json: bool,
) -> Result<ExitCode> {
    let mut watch = network.watch_keys(machine, backend);
    let (mut staged, mut said) = (None, String::new());
    loop {
        match watch.look() {
            Ok(looked) => {
                said.clear();
                if !looked.moved.is_empty() {
                    report(looked.moved, json)?;
                }
                if staged != Some(looked.staged) {
                    output::say(format!("{} staged keys have not moved", looked.staged));
                    staged = Some(looked.staged);
                }
                sleep(looked.next);
            }
            // These do not pass by themselves.
            Err(e) if matches!(e.category(), Category::Auth | Category::Usage) => {
                return Err(e.into());
            }
            Err(e) => {
                let why = e.to_string();
                if why != said {
                    output::say(format!("a look failed, and is tried again: {why}"));
                    said = why;
                }
                sleep(AFTER_FAILURE);
            }
        }
    }
}

fn report(keys: Vec<KeyStanding>, json: bool) -> Result<()> {
    if json {
        return output::json_line(StandingsBody { keys });
    }
    for key in &keys {
        let stage = match key.stage {
            Stage::Staged => "staged",
            Stage::Seen => "seen",
            Stage::Moved => "moved",
        };
        match &key.to {
            None => output::print(format!("{} {} {} {stage}", key.id, key.link, key.new)),
            Some(to) => output::print(format!("{} {} {to} {stage}", key.id, key.link)),
        }
    }
    for key in keys.iter().filter(|key| key.moved_now) {
        let (id, new) = (&key.id, key.new);
        if let Some(to) = &key.to {
            let (link, stage) = (&key.link, key.stage);
            output::say(match stage == Stage::Moved {
                true => format!("{id} has moved to {to}: it uses the server's next key"),
                false => format!("{id} is on {link} again: it uses the server's old key"),
            });
            continue;
        }
        output::say(format!(
            "{id} has moved; when it has everywhere, the next plan makes its new key the active one"
        ));
        output::say(format!("undo: vyr client revoke {new}, then lock, sign and apply"));
    }
    Ok(())
}
