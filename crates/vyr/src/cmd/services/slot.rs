//! `vyr service halt|resume`: a slot that is to be empty, whatever the plan says.

use std::process::ExitCode;

use serde::Serialize;
use vyr_api::operator::{GetServicesRequest, SetSlotRequest, Slot};
use vyr_node::Result;

use crate::cli::{ServiceCommand, SlotArgs};
use crate::cmd::link::{Place, refused};
use crate::output;

/// As `vyr ps` says it.
const HALTED: &str = "halted";

#[derive(Serialize)]
struct Set {
    slot: String,
    halted: bool,
    /// Whether it was so before.
    was_halted: bool,
    /// Instances that are still in it.
    instances: Vec<String>,
}

pub(crate) fn service(place: &Place, command: ServiceCommand, json: bool) -> Result<ExitCode> {
    let (SlotArgs { slot }, halt) = match command {
        ServiceCommand::Halt(args) => (args, true),
        ServiceCommand::Resume(args) => (args, false),
    };
    let slot = slot.to_string();
    let wish = if halt { "halt" } else { "resume" };
    let link = place.node("vyr service")?;
    let set = link.with(async |mut client| {
        let look = async |client: &mut vyr_api::Client| -> Result<Option<Slot>> {
            let all = client.operator.get_services(GetServicesRequest {}).await;
            let slots = all.map_err(refused)?.into_inner().slots;
            Ok(slots.into_iter().find(|of| of.slot == slot))
        };
        let was = look(&mut client).await?;
        let request = SetSlotRequest { slot: slot.clone(), wish: wish.into() };
        client.operator.set_slot(request).await.map_err(refused)?;
        let now = look(&mut client).await?;
        let lives =
            now.into_iter().flat_map(|of| of.instances).filter(|of| !super::ps::has_ended(of));
        Ok(Set {
            slot: slot.clone(),
            halted: halt,
            was_halted: was.is_some_and(|of| of.because_word == HALTED),
            instances: lives.map(|of| of.instance).collect(),
        })
    })?;
    if json {
        output::json_line(&set)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Set { was_halted, instances, .. } = &set;
    output::say(match (halt, was_halted) {
        (true, true) => format!("{slot} was halted already"),
        (true, false) => {
            format!("{slot} is halted: what runs in it ends, and nothing takes its place")
        }
        (false, true) => format!("{slot} is as the plan wants it again"),
        (false, false) => format!("{slot} was not halted; what was given up in it is tried again"),
    });
    if halt && !instances.is_empty() {
        output::say(format!("still there: {}; see: vyr ps --why {slot}", instances.join(", ")));
    }
    match (halt, was_halted) {
        (true, false) => output::say(format!("undo: vyr service resume {slot}")),
        (false, true) => output::say(format!("undo: vyr service halt {slot}")),
        // Nothing is other than before.
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}
