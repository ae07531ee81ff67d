//! `vyr ps`: what should run here, what runs, and why they differ.

use std::process::ExitCode;

use comfy_table::{Table, TableStyle};
use serde::Serialize;
use vyr_api::operator::{GetServicesRequest, Instance, Services, Slot};
use vyr_node::Result;

use crate::cli::PsArgs;
use crate::cmd::link::{Place, refused};
use crate::output;

#[derive(Serialize)]
struct Listed<'a> {
    node: &'a str,
    plan_digest: &'a str,
    epoch: u64,
    deploying: Option<&'a str>,
    stuck: Option<&'a str>,
    /// Why something cannot be done that is to be, and is tried again and again.
    unable: &'a [String],
    slots: Vec<SlotOf<'a>>,
}

#[derive(Serialize)]
struct SlotOf<'a> {
    slot: &'a str,
    /// The release that is wanted; null: nothing is.
    release: Option<&'a str>,
    /// One word; null: it is as it should be.
    because: Option<&'a str>,
    why: Option<&'a str>,
    instances: Vec<InstanceOf<'a>>,
}

#[derive(Serialize)]
struct InstanceOf<'a> {
    instance: &'a str,
    state: &'a str,
    reason: Option<&'a str>,
    said: Option<&'a str>,
    release: &'a str,
    image_digest: &'a str,
    address: &'a str,
    serving: bool,
    restarts: u32,
    for_ms: u64,
    /// `booted` or `restored`; null: its machine never ran, or that is not known any more.
    began: Option<&'a str>,
    /// Why it booted though it might have been restored.
    began_why: Option<&'a str>,
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

pub(super) fn has_ended(instance: &Instance) -> bool {
    matches!(instance.state.as_str(), "stopped" | "failed")
}

pub(crate) fn ps(place: &Place, args: &PsArgs, json: bool) -> Result<ExitCode> {
    let link = place.node("vyr ps")?;
    let of_node = link.with(async |mut client| {
        let services = client.operator.get_services(GetServicesRequest {}).await;
        Ok(services.map_err(refused)?.into_inner())
    })?;
    let wanted = |slot: &&Slot| match args.of.as_deref() {
        None => true,
        Some(of) => {
            slot.slot.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let slots: Vec<&Slot> = of_node.slots.iter().filter(wanted).collect();
    let shown = |instance: &&Instance| args.all || args.why || !has_ended(instance);
    if json {
        output::json_line(listed(&of_node, &slots, shown))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(stuck) = some(&of_node.stuck) {
        output::say(format!("nothing is done at the moment: {}", output::visible(stuck)));
    }
    for why in &of_node.unable {
        output::say(format!("tried again and again: {}", output::visible(why)));
    }
    if let Some(deploying) = some(&of_node.deploying) {
        output::say(format!("deploy {deploying} is under way"));
    }
    if args.why {
        slots.iter().for_each(|slot| explain(slot, of_node.now_ms));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(["SLOT", "INSTANCE", "STATE", "FOR", "RESTARTS", "RELEASE", "ADDRESS"]);
    for slot in &slots {
        for of in slot.instances.iter().filter(shown) {
            let lasts = lasts(of_node.now_ms.saturating_sub(of.since_ms));
            let reason = some(&of.reason).map(|reason| format!(" ({reason})")).unwrap_or_default();
            table.add_row([
                slot.slot.clone(),
                of.instance.clone(),
                format!("{}{reason}", of.state),
                lasts,
                of.restarts.to_string(),
                short(&of.release),
                of.address.clone(),
            ]);
        }
    }
    for line in table.to_string().lines() {
        output::print(line.trim_end());
    }
    if slots.iter().any(|slot| !slot.because.is_empty()) {
        output::say("not all is as it should be: vyr ps --why");
    }
    Ok(ExitCode::SUCCESS)
}

fn listed<'a>(
    of_node: &'a Services,
    slots: &[&'a Slot],
    shown: impl Fn(&&Instance) -> bool,
) -> Listed<'a> {
    let instance = |of: &'a Instance| InstanceOf {
        instance: &of.instance,
        state: &of.state,
        reason: some(&of.reason),
        said: some(&of.said),
        release: &of.release,
        image_digest: &of.image_digest,
        address: &of.address,
        serving: of.serving,
        restarts: of.restarts,
        for_ms: of_node.now_ms.saturating_sub(of.since_ms),
        began: some(&of.began),
        began_why: some(&of.began_why),
    };
    let slot = |of: &&'a Slot| SlotOf {
        slot: &of.slot,
        release: some(&of.release),
        because: some(&of.because_word),
        why: some(&of.because),
        instances: of.instances.iter().filter(&shown).map(instance).collect(),
    };
    Listed {
        node: &of_node.node,
        plan_digest: &of_node.plan_digest,
        epoch: of_node.epoch,
        deploying: some(&of_node.deploying),
        stuck: some(&of_node.stuck),
        unable: &of_node.unable,
        slots: slots.iter().map(slot).collect(),
    }
}

/// One slot in words.
fn explain(slot: &Slot, now_ms: u64) {
    output::print(&slot.slot);
    let desired = some(&slot.release).map_or_else(|| "nothing".to_owned(), short);
    output::print(format!("  desired  {desired}"));
    let (ended, living): (Vec<_>, Vec<_>) = slot.instances.iter().partition(|of| has_ended(of));
    if living.is_empty() {
        output::print("  running  nothing");
    }
    for of in living {
        let lasts = lasts(now_ms.saturating_sub(of.since_ms));
        let serving = if of.serving { ", serving" } else { "" };
        let release = short(&of.release);
        let began = some(&of.began).map(|word| format!(", {word}")).unwrap_or_default();
        output::print(format!(
            "  running  {} {release}: {} for {lasts}{serving}{began}",
            of.instance, of.state
        ));
        if let Some(why) = some(&of.began_why) {
            output::print(format!("  booted   {}", output::visible(why)));
        }
    }
    for of in ended {
        let said = some(&of.said).map(|said| format!(": {}", output::visible(said)));
        let (reason, said) =
            (some(&of.reason).unwrap_or("it was wanted so"), said.unwrap_or_default());
        output::print(format!("  ended    {} {}: {reason}{said}", of.instance, of.state));
    }
    let why = some(&slot.because).map_or_else(|| "it is as it should be".into(), output::visible);
    output::print(format!("  why      {why}"));
}

/// A release as people read it.
fn short(release: impl AsRef<str>) -> String {
    let hex = release.as_ref().trim_start_matches("sha256:");
    hex.chars().take(12).collect()
}

/// A time in its largest unit.
fn lasts(ms: u64) -> String {
    match ms / 1000 {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}
