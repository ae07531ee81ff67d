//! `vyr task`.

mod body;
mod each_line;
mod submit;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use comfy_table::{Table, TableStyle};
use serde::Serialize;
use vyr_api::Client;
use vyr_api::control::{CancelTaskRequest, StreamTracesRequest, TaskState, TraceFilter};
use vyr_api::operator::{GetTaskRequest, ListTasksRequest};
use vyr_base::{Category, Problem};
use vyr_journal::TaskId;
use vyr_node::api::{Output, Records};
use vyr_node::{FileError, Report, Result};

use super::link::{Hands, Link, LinkError, Place, Reads, refused};
use crate::cli::TaskCommand;
use crate::output::{self, Out};

pub(crate) use body::{Body, Usage, some, time, word};

/// Between two looks at the records of tasks that another process runs.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Bytes of an output that are moved at a time.
const PIECE: usize = 256 << 10;

/// What cannot be answered about a task.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error("{0}")]
    Id(#[from] vyr_journal::ParseIdError),
    #[error("task {0} is not here: nothing was ever submitted on this data directory")]
    Nothing(String),
    #[error("{open} of {all} tasks had not ended when the time was over")]
    TimedOut { open: usize, all: usize },
}

impl Problem for TaskError {
    fn category(&self) -> Category {
        match self {
            Self::Id(_) => Category::Usage,
            Self::Nothing(_) => Category::NotFound,
            Self::TimedOut { .. } => Category::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Id(_) | Self::Nothing(_) => "vyr task ls shows what is there".into(),
            Self::TimedOut { .. } => "wait again, or end it: vyr task cancel ID".into(),
        })
    }
}

pub(crate) fn run(place: &Place, command: TaskCommand, json: bool) -> Result<ExitCode> {
    match command {
        TaskCommand::Submit(args) => return submit::run(place, &args, json),
        TaskCommand::Ls { alive, limit } => ls(place, alive, limit, json)?,
        TaskCommand::Show { task } => show(place, &task, json)?,
        TaskCommand::Cancel { task } => cancel(place, &task, json)?,
        TaskCommand::Output { task, output } => print_output(place, &task, output.as_deref())?,
        TaskCommand::Logs { task } => logs(place, &task, json)?,
        TaskCommand::Wait { tasks, timeout } => return wait(place, &tasks, timeout, json),
        TaskCommand::Receipt { task, output } => receipt(place, &task, output.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads an id before anything is opened or asked.
fn id(text: &str) -> Result<TaskId> {
    Ok(text.parse().map_err(TaskError::Id)?)
}

/// The records, for something about `task`.
fn there(records: Option<Records>, task: TaskId) -> Result<Records> {
    Ok(records.ok_or_else(|| TaskError::Nothing(task.to_string()))?)
}

fn get(task: TaskId) -> GetTaskRequest {
    GetTaskRequest { task_id: task.to_string() }
}

#[derive(Serialize)]
struct List {
    tasks: Vec<Body>,
}

fn ls(place: &Place, alive: bool, limit: u32, json: bool) -> Result<()> {
    let tasks: Vec<Body> = match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let request = ListTasksRequest { limit, before: 0, alive };
            let mut tasks =
                client.operator.list_tasks(request).await.map_err(refused)?.into_inner();
            let mut all = Vec::new();
            while let Some(task) = tasks.message().await.map_err(refused)? {
                all.push(Body::from(task));
            }
            Ok(all)
        })?,
        Reads::Records(None) => Vec::new(),
        Reads::Records(Some(records)) => {
            let tasks = records.tasks(u64::MAX, limit.into(), alive)?;
            tasks.into_iter().map(Body::from).collect()
        }
    };
    if json {
        return output::json_line(List { tasks });
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header([
        "TASK",
        "STATE",
        "WHY",
        "NAME",
        "SUBMITTER",
        "ACCEPTED",
        "RUN",
    ]);
    for task in tasks {
        let why = task.reason.or(task.waiting).unwrap_or_else(|| "-".into());
        let run = task.usage.map_or_else(|| "-".into(), |usage| millis(usage.run_us));
        table.add_row([
            task.task_id,
            task.state.into(),
            why,
            task.name.unwrap_or_else(|| "?".into()),
            task.submitter.unwrap_or_else(|| "?".into()),
            task.timings.accepted.unwrap_or_else(|| "?".into()),
            run,
        ]);
    }
    for line in table.lines() {
        output::print(line.trim());
    }
    Ok(())
}

pub(crate) fn millis(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

fn show(place: &Place, task: &str, json: bool) -> Result<()> {
    let body = one(place, id(task)?)?;
    if json {
        return output::json_line(body);
    }
    output::print(serde_json::to_string_pretty(&body).unwrap_or_default());
    Ok(())
}

fn one(place: &Place, task: TaskId) -> Result<Body> {
    match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let task = client.operator.get_task(get(task)).await.map_err(refused)?;
            Ok(task.into_inner().into())
        }),
        Reads::Records(records) => Ok(there(records, task)?.task(task)?.into()),
    }
}

#[derive(Serialize)]
struct Cancelled {
    task_id: String,
    state: &'static str,
}

fn cancel(place: &Place, task: &str, json: bool) -> Result<()> {
    let task = id(task)?;
    let link = match Link::found(place)? {
        Some(link) => link,
        None => {
            // One that has ended needs nothing that would have to be started.
            let data = place.open()?;
            let body = Body::from(there(Records::open(&data)?, task)?.task(task)?);
            if body.ended() {
                return say_cancelled(task, body.state, json);
            }
            Link::here(&data, Hands::None)?
        }
    };
    let state = link.with(async |mut client: Client| {
        let request = CancelTaskRequest { task_id: task.to_string() };
        let answer = client.control.cancel_task(request).await.map_err(refused)?;
        Ok(answer.into_inner().state())
    })?;
    let here = link.is_here();
    link.end();
    if here && state == TaskState::Running {
        return Err(LinkError::Elsewhere { task: task.to_string() }.into());
    }
    say_cancelled(task, word(state), json)
}

fn say_cancelled(task: TaskId, state: &'static str, json: bool) -> Result<()> {
    if json {
        return output::json_line(Cancelled { task_id: task.to_string(), state });
    }
    output::print(state);
    Ok(())
}

fn print_output(place: &Place, task: &str, to: Option<&Path>) -> Result<()> {
    let task = id(task)?;
    match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let chunks = client.operator.get_output(get(task)).await.map_err(refused)?;
            let mut chunks = chunks.into_inner();
            let mut out = Out::create(to)?;
            while let Some(chunk) = chunks.message().await.map_err(refused)? {
                out.write(&chunk.data)?;
            }
            out.finish()
        }),
        Reads::Records(records) => {
            let output = there(records, task)?.output(task)?;
            let mut out = Out::create(to)?;
            match output {
                Output::Content(bytes) => out.write(&bytes)?,
                Output::Blob(mut blob) => {
                    let mut piece = vec![0; PIECE];
                    loop {
                        let read = blob.read(&mut piece);
                        match read.map_err(FileError::on("read", Path::new("the output")))? {
                            0 => break,
                            read => out.write(&piece[..read])?,
                        }
                    }
                }
            }
            out.finish()
        }
    }
}

#[derive(Serialize)]
struct Log {
    task_id: String,
    log: String,
}

fn logs(place: &Place, task: &str, json: bool) -> Result<()> {
    let task = id(task)?;
    let log = match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let log = client.operator.get_log(get(task)).await.map_err(refused)?;
            Ok(log.into_inner().data.to_vec())
        })?,
        Reads::Records(records) => there(records, task)?.log(task)?,
    };
    if json {
        let log = String::from_utf8_lossy(&log).into_owned();
        return output::json_line(Log { task_id: task.to_string(), log });
    }
    let mut out = Out::create(None)?;
    out.write(&log)?;
    out.finish()
}

fn receipt(place: &Place, task: &str, to: Option<&Path>) -> Result<()> {
    let task = id(task)?;
    let file = match place.reads()? {
        Reads::Node(link) => link.with(async |mut client: Client| {
            let receipt = client.operator.get_receipt(get(task)).await.map_err(refused)?;
            Ok(receipt.into_inner().file.to_vec())
        })?,
        Reads::Records(records) => there(records, task)?.receipt(task)?.to_bytes(),
    };
    let mut out = Out::create(to)?;
    out.write(&file)?;
    out.finish()
}

fn wait(place: &Place, tasks: &[String], timeout: Option<u64>, json: bool) -> Result<ExitCode> {
    let mut ids = tasks.iter().map(|text| id(text)).collect::<Result<Vec<_>>>()?;
    // One that is named twice ends once.
    let mut seen = HashSet::new();
    ids.retain(|task| seen.insert(*task));
    let until = timeout.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    let (mut completed, open) = (true, Cell::new(ids.len()));
    let mut tell = |body: Body| -> Result<()> {
        completed &= body.completed();
        open.set(open.get() - 1);
        if json {
            return output::json_line(body);
        }
        output::print(format!("{} {}", body.task_id, body.verdict()));
        Ok(())
    };
    match place.reads()? {
        Reads::Node(link) => link.with(async |client: Client| {
            let all = ends(client, &ids, &mut tell);
            match until {
                None => all.await,
                Some(until) => {
                    let in_time = tokio::time::timeout_at(until.into(), all).await;
                    in_time.unwrap_or_else(|_| Err(timed_out(open.get(), ids.len())))
                }
            }
        })?,
        Reads::Records(records) => {
            let records = there(records, ids[0])?;
            for task in &ids {
                match recorded_end(&records, *task, until)? {
                    Some(body) => tell(body)?,
                    None => return Err(timed_out(open.get(), ids.len())),
                }
            }
        }
    }
    Ok(ExitCode::from(u8::from(!completed)))
}

/// Tells the end of each task, as they come.
pub(crate) async fn ends(
    mut client: Client,
    tasks: &[TaskId],
    mut tell: impl FnMut(Body) -> Result<()>,
) -> Result<()> {
    let mut bodies: HashMap<String, Body> = HashMap::new();
    let filter = TraceFilter {
        task_ids: tasks.iter().map(TaskId::to_string).collect(),
        ..TraceFilter::default()
    };
    let request = StreamTracesRequest { filter: Some(filter) };
    let mut spans = client.control.stream_traces(request).await.map_err(refused)?.into_inner();
    while let Some(span) = spans.message().await.map_err(refused)? {
        let body = bodies
            .entry(span.task_id.clone())
            .or_insert_with(|| Body::accepted(span.task_id.clone(), &span.artifact_digest, ""));
        body.take(&span);
        if span.end.is_some()
            && let Some(body) = bodies.remove(&span.task_id)
        {
            tell(body)?;
        }
    }
    Ok(())
}

fn timed_out(open: usize, all: usize) -> Report {
    TaskError::TimedOut { open, all }.into()
}

/// The end of a task that, if it runs, runs in another process; `None` when the time was over.
fn recorded_end(records: &Records, task: TaskId, until: Option<Instant>) -> Result<Option<Body>> {
    loop {
        let body = Body::from(records.task(task)?);
        if body.ended() {
            return Ok(Some(body));
        }
        match until {
            None => return Err(LinkError::Abandoned { task: task.to_string() }.into()),
            Some(until) if Instant::now() >= until => return Ok(None),
            // Nobody tells: the process that runs it may be any.
            Some(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}
