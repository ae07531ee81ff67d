//! The commands, one file each.

mod artifact;
mod bench;
mod client;
mod doctor;
mod events;
mod generate;
mod image;
mod ingress;
mod key;
mod link;
mod network;
mod node;
mod recovery;
mod rotation;
mod run;
mod sched;
mod secret;
mod services;
mod site;
mod state;
mod status;
mod task;
mod up;
mod verify;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use vyr_node::{DataDir, FileError, Result};

use crate::cli::{Cli, ClientCommand, Command, NodeCommand, PlanCommand};

/// Runs the command and gives its exit code.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode> {
    let Cli { data_dir, json, command } = cli;
    let place = || link::Place::choose(data_dir.clone());
    let open = || -> Result<DataDir> { Ok(DataDir::open(&DataDir::choose(data_dir.clone())?.0)?) };
    let told = |done| network::recorded(data_dir.clone(), done);
    match command {
        Command::Run(args) => run::run(open, args, json),
        Command::Up { config, checkpoint_out } => {
            let (path, named) = DataDir::choose(data_dir.clone())?;
            up::run(&path, named, config, checkpoint_out)
        }
        Command::Status => {
            let (path, named) = DataDir::choose(data_dir.clone())?;
            status::run(&path, named, json)
        }
        Command::Key(command) => key::run(&open()?, command, json),
        Command::Artifact(command) => artifact::run(&open()?, command, json),
        Command::Image(command) => image::run(&open()?, command, json),
        Command::Task(command) => task::run(&place()?, command, json),
        Command::State(command) => state::run(&place()?, command, json),
        Command::Sched(command) => sched::run(place, command, json),
        Command::Traces(args) => watch::traces(&place()?, args, json),
        Command::Metrics(args) => watch::metrics(&place()?, args, json),
        Command::Events(args) => events::run(&place()?, &args, json),
        Command::Verify(args) => verify::run(place, &args, json),
        Command::Checkpoint(args) => node::checkpoint(&place()?, &args, json),
        Command::Node(NodeCommand::Key { secrets: false }) => node::key(&place()?, json),
        Command::Node(NodeCommand::Key { secrets: true }) => secret::node_key(&open()?, json),
        Command::Init(args) => site::init(&args, json),
        Command::Lock(args) => site::lock(&args, json),
        Command::Check(args) => site::check(&args, json),
        Command::Plan(args) => match &args.command {
            Some(PlanCommand::Sign(args)) => site::sign(args, json),
            None => site::plan(&args, json),
        },
        Command::Diff(args) => site::diff(&args, json),
        Command::History(args) => site::history(&args, json),
        Command::Explain(args) => site::explain(&args, json),
        Command::Client(command) => match command {
            ClientCommand::Add(args) => site::client_add(args, json),
            ClientCommand::Ls(args) => site::client_ls(open, &args, json),
            ClientCommand::Export(args) => site::client_export(args, json),
            ClientCommand::Rotate(args) => site::client_rotate(args, json),
            ClientCommand::Move(args) => told(rotation::client_move(&open()?, &args, json)),
            ClientCommand::Revoke(args) => site::client_revoke(args, json),
        },
        Command::Secret(command) => secret::run(command, json),
        Command::Graph(args) => site::graph(&args, json),
        Command::Apply(args) => told(network::apply(place, &args, json)),
        Command::Confirm(args) => told(network::confirm(place, &args, json)),
        Command::Rollback(args) => told(network::rollback(place, &args, json)),
        Command::Drift(args) => told(network::drift(place, &args, json)),
        Command::Server(command) => network::server(place, command, json),
        Command::Ingress(args) => ingress::run(args, json),
        Command::NetworkAgent => network::agent(data_dir.clone()),
        Command::Network(command) => told(network::run(place, command, json)),
        Command::Bundle(args) => recovery::bundle(open, &args, json),
        Command::Rebuild(args) => told(recovery::rebuild(open, &args, json)),
        Command::Doctor => doctor::run(&open()?, DataDir::choose(data_dir.clone())?.1, json),
        Command::Deploy(args) => services::deploy(&place()?, args, json),
        Command::Scale(args) => services::scale(place, args, json),
        Command::Ps(args) => services::ps(&place()?, &args, json),
        Command::Logs(args) => services::logs(&place()?, &args, json),
        Command::Exec(args) => services::exec(&place()?, args),
        Command::Service(command) => services::service(&place()?, command, json),
        Command::Release(command) => services::release(place, command, json),
        Command::Bench(command) => bench::run(command, json),
        Command::Completions { shell } => {
            // Made in memory first: the generator panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vyr", &mut script);
            let written = io::stdout().write_all(&script);
            written.map_err(FileError::on("write", Path::new("stdout")))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Generate { directory } => generate::run(&directory),
    }
}
