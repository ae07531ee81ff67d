//! `vyr state`.

use std::process::ExitCode;

use comfy_table::{Table, TableStyle};
use serde::Serialize;
use vyr_api::Client;
use vyr_api::control::{BindStateRequest, CreateStateRequest, Mode};
use vyr_api::operator::{ListStatesRequest, State};
use vyr_base::format_bytes;
use vyr_node::Result;

use super::link::{Link, Place, refused};
use super::task::time;
use crate::cli::{Access, StateCommand};
use crate::output;

pub(crate) fn run(place: &Place, command: StateCommand, json: bool) -> Result<ExitCode> {
    match command {
        StateCommand::Create { name, size } => create(place, name, size, json)?,
        StateCommand::Bind { task, state, access } => bind(place, task, state, access, json)?,
        StateCommand::Ls => ls(place, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Created {
    state_id: String,
}

fn create(place: &Place, name: String, size: Option<u64>, json: bool) -> Result<()> {
    let link = place.node("a state")?;
    let state_id = link.with(async |mut client: Client| {
        let bytes_max = size.unwrap_or(0);
        let request = CreateStateRequest { name, class: "ephemeral".into(), bytes_max };
        let made = client.control.create_state(request).await.map_err(refused)?;
        Ok(made.into_inner().state_id)
    })?;
    if json {
        return output::json_line(Created { state_id });
    }
    output::print(&state_id);
    output::say(format!("bind it: vyr task submit ARTIFACT --bind {state_id}:rw"));
    output::say("undo: none is needed; it ends with the last task bound to it, or by itself");
    Ok(())
}

#[derive(Serialize)]
struct Bound {
    task_id: String,
    state_id: String,
}

fn bind(
    place: &Place,
    task_id: String,
    state_id: String,
    access: Access,
    json: bool,
) -> Result<()> {
    let link = place.node("a state")?;
    let mode = match access {
        Access::Ro => Mode::Ro,
        Access::Rw => Mode::Rw,
    };
    let request = BindStateRequest {
        task_id: task_id.clone(),
        state_id: state_id.clone(),
        mode: mode.into(),
    };
    link.with(async |mut client: Client| {
        client.control.bind_state(request).await.map_err(refused)?;
        Ok(())
    })?;
    if json {
        return output::json_line(Bound { task_id, state_id });
    }
    output::say(format!("undo: vyr task cancel {task_id}"));
    Ok(())
}

#[derive(Serialize)]
struct List {
    states: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    state_id: String,
    name: String,
    submitter: String,
    bytes_max: u64,
    tasks: u32,
    created: Option<String>,
}

impl From<State> for Line {
    fn from(state: State) -> Self {
        Self {
            created: time(state.created_unix_nano),
            state_id: state.state_id,
            name: state.name,
            submitter: state.submitter,
            bytes_max: state.bytes_max,
            tasks: state.tasks,
        }
    }
}

fn ls(place: &Place, json: bool) -> Result<()> {
    let mut states = Vec::new();
    match Link::found(place)? {
        // States live in a node.
        None => output::say("no node is running, so no state is alive"),
        Some(link) => link.with(async |mut client: Client| {
            let listed = client.operator.list_states(ListStatesRequest {}).await;
            let mut listed = listed.map_err(refused)?.into_inner();
            while let Some(state) = listed.message().await.map_err(refused)? {
                states.push(Line::from(state));
            }
            Ok(())
        })?,
    }
    if json {
        return output::json_line(List { states });
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(["STATE", "NAME", "SIZE", "TASKS", "SUBMITTER"]);
    for state in states {
        table.add_row([
            state.state_id,
            state.name,
            format_bytes(state.bytes_max),
            state.tasks.to_string(),
            state.submitter,
        ]);
    }
    for line in table.lines() {
        output::print(line.trim());
    }
    Ok(())
}
