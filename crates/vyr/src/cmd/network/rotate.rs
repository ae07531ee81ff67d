//! `vyr server rotate` and `vyr server ls`: a server's key that takes over, end by end.
//!
//! What becomes of `site.toml` is `vyr_plan`'s to say, who has moved is the server's. Here the text is
//! read and written, the server is asked, and whoever types is told what comes next.
//!
//! Invariant: nobody is taken for moved who was not seen to be. A server that does not answer, or
//! does not know the plan, has moved nobody.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use vyr_base::{Category, Problem};
use vyr_net::words::Takeover;
use vyr_node::Result;
use vyr_node::network::{Host, Stage};
use vyr_plan::intent::{
    End, Files, Key, Name, ServerEditError, ServerEdited, ServerStep, SiteFile, State, edit_server,
    find_end,
};
use vyr_plan::{EndName, Lock, Plan, end_links};

use super::{backend, here, node};
use crate::cli::{SeenArgs, ServerLsArgs, ServerRotateArgs};
use crate::cmd::link::Place;
use crate::cmd::site::{Refused, Site, refuse};
use crate::output;

const FILE: &str = "site.toml";

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
enum RotateError {
    #[error("no key was named for {0}")]
    NoKey(String),
    #[error("{n} devices have not moved: {}", ids.join(", "), n = ids.len())]
    Left { server: String, ids: Vec<String> },
    #[error("keys of their own rotate: {}", .0.join(", "))]
    Rotating(Vec<String>),
}

impl Problem for RotateError {
    fn category(&self) -> Category {
        match self {
            Self::NoKey(_) => Category::Usage,
            Self::Left { .. } | Self::Rotating(_) => Category::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoKey(link) => format!(
                "on the server: vyr server key {link} --next; then --public-key KEY, or --node NAME \
                 to have it asked"
            ),
            Self::Left { server, .. } => format!(
                "give them new files (vyr client export) and see vyr server ls {server} --live; \
                 --force cuts them off"
            ),
            Self::Rotating(_) => "end that first: vyr client rotate ID --finish, or --force".into(),
        })
    }
}

/// One device on the way from a server's key to the next one.
#[derive(Debug, Clone, Serialize)]
struct Device {
    client_id: String,
    /// `staged`: not seen on the next key; `seen`; `moved`; null: the server did not say.
    stage: Option<Stage>,
    /// Seconds since it last shook hands with the key in use; null: it did not.
    handshake_age_s: Option<u64>,
    /// The same with the key that takes over.
    next_handshake_age_s: Option<u64>,
}

impl Device {
    fn is_moved(&self) -> bool {
        self.stage == Some(Stage::Moved)
    }

    fn line(&self) -> String {
        let age = |age: Option<u64>| age.map_or("never".into(), |age| format!("{age} s ago"));
        let stage = match self.stage {
            None => "not known",
            Some(Stage::Staged) => "not moved",
            Some(Stage::Seen) => "seen",
            Some(Stage::Moved) => "moved",
        };
        format!(
            "{}  {stage}  handshake: old key {}, next key {}",
            self.client_id,
            age(self.handshake_age_s),
            age(self.next_handshake_age_s)
        )
    }
}

/// One key of a server's end.
#[derive(Debug, Serialize)]
struct EndKey {
    server: String,
    interface: String,
    public_key: Key,
    /// `active`, `staged`, `retired` or `revoked`.
    state: &'static str,
    /// The link on the server; null: it has none any more.
    link: Option<String>,
    /// `host:port`; null: it is found nowhere any more.
    endpoint: Option<String>,
    /// Of a staged key, with `--live`: each device of the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<Vec<Device>>,
}

#[derive(Serialize)]
struct ListBody {
    keys: Vec<EndKey>,
}

#[derive(Serialize)]
struct RotatedBody {
    server: String,
    interface: String,
    changed: bool,
    keys: Vec<EndKey>,
    /// With `--retire --force`: who is cut off.
    cut_off: Vec<Device>,
    /// What comes next, a command or a sentence each.
    next: Vec<String>,
}

/// What is known of one end.
struct Known {
    name: EndName,
    end: End,
    /// Of the key in use, and of the one after it.
    links: (String, String),
}

impl Known {
    fn of(site: &SiteFile, lock: &Lock, server: &Name, interface: Option<&Name>) -> Result<Self> {
        let (name, end) = find_end(site, server, interface)?;
        let links = end_links(lock, &name, &end.public_key);
        Ok(Self { name, end: end.clone(), links })
    }

    fn keys(&self) -> Vec<EndKey> {
        let key = |public_key: Key, state: State, at: Option<(&str, u16)>| EndKey {
            server: self.name.server.to_string(),
            interface: self.name.interface.to_string(),
            public_key,
            state: state.as_str(),
            link: at.map(|(link, _)| link.to_owned()),
            endpoint: at.map(|(_, port)| self.end.endpoint.with_port(port)),
            devices: None,
        };
        let (end, (first, second)) = (&self.end, &self.links);
        let mut keys = vec![key(*end.public_key, State::Active, Some((first, *end.port)))];
        keys.extend(
            end.staged
                .as_ref()
                .map(|staged| key(*staged.public_key, State::Staged, Some((second, *staged.port)))),
        );
        keys.extend(end.old_keys.iter().map(|old| key(*old.public_key, *old.state, None)));
        keys
    }

    /// What comes next for whoever rotates this end's key.
    fn next(&self) -> Vec<String> {
        let EndName { interface, server } = &self.name;
        let rotate = format!("vyr server rotate {server} --interface {interface}");
        let link = &self.links.1;
        let retired = self.end.old_keys.iter().any(|old| *old.state == State::Retired);
        if let Some(staged) = &self.end.staged {
            return vec![
                "vyr lock; vyr plan sign --key FILE; vyr apply sha256:..".into(),
                format!(
                    "let UDP port {} through to {server}, if something is before it",
                    staged.port
                ),
                "vyr lock; vyr client export ID --key FILE, for each device: its new file".into(),
                format!("on {server}: vyr client move --watch"),
                format!("vyr server ls {server} --live, until all have moved"),
                format!("{rotate} --retire"),
            ];
        }
        let mut next = Vec::new();
        if retired {
            next.push("vyr lock; vyr plan sign --key FILE; vyr apply sha256:..".into());
            next.push(format!("{rotate} --revoke, when nobody goes back to it"));
        }
        next.push(format!("on {server}, to begin: vyr server key {link} --next"));
        next.push(format!("{rotate} --stage --public-key KEY"));
        next
    }
}

fn lock_of(files: &Files) -> std::result::Result<Lock, Refused> {
    let lock = files.lock.as_ref().map(Lock::parse).transpose();
    let refused = |faults| Refused { category: Category::Usage, faults, outcomes: Vec::new() };
    Ok(lock.map_err(refused)?.unwrap_or_default())
}

/// The site's own file and lock, or what is wrong with them.
fn read(site: &Site) -> Result<std::result::Result<(SiteFile, Lock, Files), Refused>> {
    let files = site.files()?;
    let lock = match lock_of(&files) {
        Ok(lock) => lock,
        Err(refused) => return Ok(Err(refused)),
    };
    Ok(match files.clone().read() {
        Ok(intent) => Ok((intent.site, lock, files)),
        Err(faults) => Err(Refused { category: Category::Usage, faults, outcomes: Vec::new() }),
    })
}

/// The server that is asked.
fn asked(place: &dyn Fn() -> Result<Place>, site: &Site, seen: &SeenArgs) -> Result<Host> {
    Ok(match &seen.node {
        Some(named) => node(site, named, None, &seen.remote)?.host,
        None => here(&place()?)?,
    })
}

/// Each device with an active key on a second end, by what the server says of it.
fn devices(plan: Option<&Plan>, known: &Known, told: &[Takeover]) -> Vec<Device> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let age = |at: Option<u64>| at.map(|at| now.saturating_sub(at));
    let to = |of: &&Takeover| of.to.as_ref() == Some(&known.links.1);
    let told: BTreeMap<&str, &Takeover> =
        told.iter().filter(to).map(|of| (of.id.as_str(), of)).collect();
    let clients = plan.into_iter().flat_map(|plan| &plan.clients);
    let own = clients
        .filter(|client| client.interface == known.name.interface && client.public_key.is_some());
    own.map(|client| {
        let of = told.get(client.id.as_str());
        Device {
            client_id: client.id.to_string(),
            stage: of.map(|of| of.stage),
            handshake_age_s: of.and_then(|of| age(of.old_handshake_unix_s)),
            next_handshake_age_s: of.and_then(|of| age(of.new_handshake_unix_s)),
        }
    })
    .collect()
}

/// What the server says of its keys that take over.
fn seen(
    place: &dyn Fn() -> Result<Place>,
    site: &Site,
    args: &SeenArgs,
    server: &Name,
) -> Result<Vec<Takeover>> {
    let machine = args.host.machine.clone().unwrap_or_else(|| server.to_string());
    asked(place, site, args)?.takeovers(Some(machine), backend(&args.host))
}

/// The devices of the site as they are written: whether it compiles is not asked here.
fn plan_of(files: &Files) -> Option<Plan> {
    let intent = files.clone().read().ok()?;
    let lock = lock_of(files).ok()?;
    let lock = vyr_plan::allocate(&intent, &lock, None).ok()?;
    vyr_plan::compile(&intent, &lock).ok()
}

pub(super) fn list(
    place: &dyn Fn() -> Result<Place>,
    args: &ServerLsArgs,
    json: bool,
) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let (file, lock, files) = match read(&site)? {
        Ok(read) => read,
        Err(refused) => return refuse(&refused, json),
    };
    if let Some(server) = args.server.as_ref().filter(|server| !file.servers.contains_key(*server))
    {
        return Err(ServerEditError::NoServer(server.clone()).into());
    }
    let told = match &args.server {
        Some(server) if args.live => Some(seen(place, &site, &args.seen, server)?),
        _ => None,
    };
    let plan = plan_of(&files);
    let mut keys = Vec::new();
    for (interface, of) in &file.interfaces {
        let wanted = |server: &Name| args.server.as_ref().is_none_or(|wanted| wanted == server);
        for server in of.at.keys().filter(|server| wanted(server)) {
            let known = Known::of(&file, &lock, server, Some(&**interface))?;
            let mut own = known.keys();
            if let Some(told) = &told {
                for key in own.iter_mut().filter(|key| key.state == State::Staged.as_str()) {
                    key.devices = Some(devices(plan.as_ref(), &known, told));
                }
            }
            keys.extend(own);
        }
    }
    if json {
        output::json_line(ListBody { keys })?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&keys);
    let all = || keys.iter().filter_map(|key| key.devices.as_ref()).flatten();
    if all().next().is_some() {
        let left = all().filter(|device| !device.is_moved()).count();
        output::say(match left {
            0 => "all have moved".to_owned(),
            n => format!("{n} of {} have not moved", all().count()),
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn print(keys: &[EndKey]) {
    for key in keys {
        let at = match (&key.link, &key.endpoint) {
            (Some(link), Some(endpoint)) => format!("  {link}  {endpoint}"),
            _ => String::new(),
        };
        let end = format!("{}@{}", key.interface, key.server);
        output::print(format!("{end}  {}  {:7}{at}", key.public_key, key.state).trim_end());
        for device in key.devices.iter().flatten() {
            output::print(format!("  {}", device.line()));
        }
    }
}

pub(super) fn rotate(
    place: &dyn Fn() -> Result<Place>,
    args: &ServerRotateArgs,
    json: bool,
) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let (file, lock, files) = match read(&site)? {
        Ok(read) => read,
        Err(refused) => return refuse(&refused, json),
    };
    let known = Known::of(&file, &lock, &args.server, args.interface.as_ref())?;
    let mut cut_off = Vec::new();
    let step = match args {
        ServerRotateArgs { stage: true, .. } => {
            let staged = known.end.staged.as_ref().map(|staged| *staged.public_key);
            let key = match (args.public_key, staged) {
                (Some(key), _) => key,
                // Whoever died after it was written asks again.
                (None, Some(staged)) => staged,
                (None, None) if args.seen.node.is_some() => {
                    let host = asked(place, &site, &args.seen)?;
                    host.link_key(known.links.1.clone(), true)?.public_key
                }
                (None, None) => return Err(RotateError::NoKey(known.links.1).into()),
            };
            if staged == Some(key) {
                return report(&known, None, cut_off, json);
            }
            ServerStep::Stage { key, port: args.port }
        }
        ServerRotateArgs { retire: true, force, .. } => {
            let is_staged = known.end.staged.is_some();
            if is_staged {
                cut_off = left(place, &site, &files, &known, args)?;
            }
            if !cut_off.is_empty() && !force {
                let ids = cut_off.into_iter().map(|device| device.client_id).collect();
                return Err(RotateError::Left { server: args.server.to_string(), ids }.into());
            }
            ServerStep::Retire
        }
        ServerRotateArgs { revoke: true, .. } => ServerStep::Revoke,
        ServerRotateArgs { abort: true, .. } => ServerStep::Abort,
        _ => return report(&known, None, cut_off, json),
    };
    let alone = site.alone()?;
    // What was read before nobody else was kept out may be another's text by now.
    let edited = match edit_server(&site.files()?, &args.server, Some(&known.name.interface), &step)
    {
        Ok(edited) => edited,
        Err(ServerEditError::Faults(faults)) => {
            let category = Category::Usage;
            return refuse(&Refused { category, faults, outcomes: Vec::new() }, json);
        }
        Err(e) => return Err(e.into()),
    };
    site.write(FILE, edited.text.as_bytes())?;
    drop(alone);
    let links = match step {
        // The key that was staged is in use now, on its own link.
        ServerStep::Retire => (known.links.1, known.links.0),
        _ => known.links,
    };
    let known = Known { name: known.name, end: edited.after.clone(), links };
    report(&known, Some(&edited), cut_off, json)
}

/// Who would be cut off without the end in use.
fn left(
    place: &dyn Fn() -> Result<Place>,
    site: &Site,
    files: &Files,
    known: &Known,
    args: &ServerRotateArgs,
) -> Result<Vec<Device>> {
    let plan = plan_of(files);
    let rotating = |plan: &Plan| {
        let own = plan.clients.iter().filter(|of| of.interface == known.name.interface);
        let both = own.filter(|of| of.public_key.is_some() && of.staged_key.is_some());
        both.map(|of| of.id.to_string()).collect::<Vec<_>>()
    };
    let rotating = plan.as_ref().map(rotating).unwrap_or_default();
    if !rotating.is_empty() && !args.force {
        return Err(RotateError::Rotating(rotating).into());
    }
    let told = match seen(place, site, &args.seen, &args.server) {
        Ok(told) => told,
        // Who forces it is told all the same whom it may hit.
        Err(e) if args.force => {
            output::say(format!("warning: {} does not say who has moved: {e}", args.server));
            Vec::new()
        }
        Err(e) => return Err(e),
    };
    let mut all = devices(plan.as_ref(), known, &told);
    all.retain(|device| !device.is_moved());
    Ok(all)
}

fn report(
    known: &Known,
    edited: Option<&ServerEdited>,
    cut_off: Vec<Device>,
    json: bool,
) -> Result<ExitCode> {
    let (keys, next) = (known.keys(), known.next());
    if json {
        output::json_line(RotatedBody {
            server: known.name.server.to_string(),
            interface: known.name.interface.to_string(),
            changed: edited.is_some(),
            keys,
            cut_off,
            next,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&keys);
    for device in &cut_off {
        output::say(format!("cut off with the next plan: {}", device.line()));
    }
    if let Some(edited) = edited {
        undo(known, edited).iter().for_each(output::say);
    }
    for line in &next {
        output::say(format!("next: {line}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// How the text of the site becomes what it was.
fn undo(known: &Known, edited: &ServerEdited) -> Vec<String> {
    let EndName { interface, server } = &known.name;
    let (before, after) = (&edited.before, &edited.after);
    let rotate = format!("vyr server rotate {server} --interface {interface}");
    let staged = |end: &End| {
        let staged = end.staged.as_ref();
        staged.map(|of| format!("--public-key {} --port {}", *of.public_key, *of.port))
    };
    match (staged(before), staged(after)) {
        (None, Some(_)) => vec![format!("undo: {rotate} --abort")],
        (Some(key), None) if before.public_key == after.public_key => vec![
            format!("undo: {rotate} --stage {key}"),
            "who has moved is cut off with the next plan: export their files again".into(),
        ],
        (Some(key), None) => vec![
            format!(
                "undo: in {FILE} write public_key = \"{}\" and port = {} again, take that key out of \
                 old_keys, then {rotate} --stage {key}",
                *before.public_key, *before.port
            ),
            format!(
                "its private key stays on {server} until the next one is made: {}.key",
                known.links.1
            ),
        ],
        _ => vec!["undo, before vyr lock: in old_keys write state = \"retired\"".into()],
    }
}
