//! `vyr events`.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use vyr_api::Client;
use vyr_api::operator::ListEventsRequest;
use vyr_base::Digest;
use vyr_journal::{Body, Event, SessionBegun};
use vyr_node::Result;
use vyr_node::api::Records;

use super::link::{Place, Reads, refused};
use crate::cli::{EventsArgs, EventsCommand};
use crate::output::{self, Out};

/// Rows of the journal in one read.
const ROWS: u64 = 512;

/// Between two looks at a journal that other processes write.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) fn run(place: &Place, args: &EventsArgs, json: bool) -> Result<ExitCode> {
    match args.command {
        Some(EventsCommand::Rebuild) => rebuild(place, json),
        None => {
            list(place, args, !json && output::is_live())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(place: &Place, args: &EventsArgs, readable: bool) -> Result<()> {
    let mut out = Out::create(None)?;
    let mut tell = |seq: u64, leaf: Option<&[u8]>, hash: &[u8]| -> Result<()> {
        let line = match leaf {
            Some(leaf) if !readable => return out.write(&[leaf, b"\n"].concat()),
            Some(leaf) => Event::from_leaf(leaf).map_or_else(
                |e| format!("{seq:>8}  damaged: {e}\n"),
                |event| format!("{seq:>8}  {}  {}\n", event.time, describe(&event.body)),
            ),
            None if readable => format!("{seq:>8}  sealed\n"),
            None => {
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{{\"hash\":\"{hash}\",\"sealed\":true,\"seq\":{seq}}}\n")
            }
        };
        out.write(line.as_bytes())
    };
    if args.limit == Some(0) {
        return Ok(());
    }
    match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let (from, limit) = (args.from, args.limit.unwrap_or(0));
            let request = ListEventsRequest { from, limit, follow: args.follow };
            let listed = client.operator.list_events(request).await.map_err(refused)?;
            let mut events = listed.into_inner();
            while let Some(event) = events.message().await.map_err(refused)? {
                let leaf = (!event.leaf.is_empty()).then_some(&event.leaf[..]);
                tell(event.seq, leaf, &event.hash)?;
            }
            Ok(())
        }),
        Reads::Records(None) => Ok(()),
        Reads::Records(Some(records)) => {
            let (mut next, mut left) = (args.from, args.limit.unwrap_or(u64::MAX));
            while left > 0 {
                let rows = records.reader().rows(next, ROWS.min(left))?;
                if rows.is_empty() {
                    if !args.follow {
                        break;
                    }
                    // No node tells when something happens; another process may do something.
                    std::thread::sleep(LOOK_AGAIN);
                }
                for row in rows {
                    tell(row.seq, row.leaf.as_deref(), row.hash.as_bytes())?;
                    (next, left) = (row.seq + 1, left - 1);
                }
            }
            Ok(())
        }
    }
}

/// An event in a few words. Names of strangers may be in it, so control characters are shown.
fn describe(body: &Body) -> String {
    let text = match body {
        Body::Created(created) => {
            let after = created.predecessor.as_ref().map(|text| {
                let lines: Vec<&str> = text.lines().collect();
                format!(" after {}", lines.join(" "))
            });
            format!("journal begun   {}{}", created.origin, after.unwrap_or_default())
        }
        Body::NodeStarted(started) => format!("node started    vyr {}", started.version),
        Body::Accepted(accepted) => {
            format!("task accepted   {} for {}", accepted.artifact.name, accepted.submitter)
        }
        Body::Bound(bound) => format!("state bound     {} to task {}", bound.state, bound.task),
        Body::Started(started) => format!("task started    {}", started.task),
        Body::Ended(statement) => {
            let of = &statement.predicate;
            let state = format!("{:?}", of.state).to_lowercase();
            let why = of.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("task ended      {} {state}{why}", of.task_id)
        }
        Body::StateCreated(created) => format!("state made      {}", created.name),
        Body::StateEnded(ended) => format!("state ended     {}", ended.state),
        Body::Sealed(sealed) => format!("events sealed   before {}", sealed.before),
        Body::NetworkEnded(statement) => {
            let of = &statement.predicate.change;
            format!("network changed {} by {}: {}", of.plan, of.by, of.outcome.word())
        }
        Body::NetworkMoved(moved) => {
            let to = moved.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
            format!("key moved       {} on {}{to}", moved.id, moved.link)
        }
        Body::NetworkRefused(refused) => {
            let first = refused.first.as_ref();
            let first = first.map(|of| format!(", {} came first", of.by)).unwrap_or_default();
            format!("network refused {} by {}{first}", refused.plan, refused.by)
        }
        Body::DeployBegun(begun) => format!("deploy begun    {} by {}", begun.plan, begun.by),
        Body::DeployEnded(statement) => {
            let of = &statement.predicate.deploy;
            format!("deploy ended    {} {}: {}", of.plan, of.outcome.word(), of.why)
        }
        Body::DeployRefused(refused) => {
            format!("deploy refused  {} by {}: {}", refused.plan, refused.by, refused.why)
        }
        Body::InstanceStarted(step) => format!("instance up     {} {}", step.slot, step.instance),
        Body::InstanceReady(step) => format!("instance ready  {} {}", step.slot, step.instance),
        Body::InstanceEnded(step) => {
            let why = step.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("instance ended  {} {}{why}", step.slot, step.instance)
        }
        Body::SessionBegun(begun) => {
            let SessionBegun { by, instance, program, session, slot, .. } = begun.as_ref();
            format!("session begun   {session} by {by}: {program} in {slot} {instance}")
        }
        Body::SessionEnded(ended) => format!("session ended   {}: {}", ended.session, ended.end),
        Body::SlotHalted(wish) => format!("slot halted     {} by {}", wish.slot, wish.by),
        Body::SlotResumed(wish) => format!("slot resumed    {} by {}", wish.slot, wish.by),
    };
    output::visible(&text)
}

#[derive(Serialize)]
struct Rebuilt {
    before: Option<Digest>,
    after: Option<Digest>,
    equal: bool,
}

/// Always on the data directory itself: a node that is running sees the new views.
fn rebuild(place: &Place, json: bool) -> Result<ExitCode> {
    let digests = match Records::open(&place.open()?)? {
        Some(records) => Some(records.rebuild()?),
        None => None,
    };
    let (before, after) = digests.unzip();
    let equal = before == after;
    if json {
        output::json_line(Rebuilt { before, after, equal })?;
    } else if let (Some(before), Some(after)) = (before, after) {
        output::print(format!("before {before}"));
        output::print(format!("after  {after}"));
        output::say(if equal {
            "the views were what the events say"
        } else {
            "the views differed"
        });
    } else {
        output::say("there is no journal, so there are no views");
    }
    Ok(ExitCode::from(u8::from(!equal)))
}
