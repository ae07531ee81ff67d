//! `vyr exec`: a program beside an instance's own, with our input, output and exit code.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::thread;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use vyr_api::operator::{ExecInput, ExecStart, Window, exec_input, exec_output};
use vyr_base::{Category, Problem};
use vyr_node::Result;

use crate::cli::ExecArgs;
use crate::cmd::link::{Place, refused};

/// Bytes of input in one message.
const PIECE: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
enum ExecError {
    #[error("{0:?} is no NAME=VALUE")]
    Variable(String),
    #[error("a terminal was asked for, and standard input is none")]
    NoTerminal,
    #[error("it did not run: {0}")]
    Failed(String),
    #[error("the session was cut off")]
    CutOff,
}

impl Problem for ExecError {
    fn category(&self) -> Category {
        match self {
            Self::Variable(_) | Self::NoTerminal => Category::Usage,
            Self::Failed(_) => Category::Failure,
            Self::CutOff => Category::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoTerminal => Some("leave -t out".into()),
            Self::Failed(_) => Some("name a program of the image, with its whole path".into()),
            Self::Variable(_) | Self::CutOff => None,
        }
    }
}

pub(crate) fn exec(place: &Place, args: ExecArgs) -> Result<ExitCode> {
    let variable = |text: &String| {
        let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let split = split.map(|(name, value)| (name.to_owned(), value.to_owned()));
        split.ok_or_else(|| ExecError::Variable(text.clone()))
    };
    let env = args.env.iter().map(variable).collect::<std::result::Result<_, _>>()?;
    if args.tty && !isatty(std::io::stdin()) {
        return Err(ExecError::NoTerminal.into());
    }
    let start = ExecStart {
        target: args.target,
        argv: args.argv,
        env,
        user: args.user.unwrap_or_default(),
        workdir: args.workdir.unwrap_or_default(),
        terminal: args.tty.then(window),
    };
    let link = place.node("vyr exec")?;
    let (sender, input) = mpsc::channel::<ExecInput>(4);
    let say = |input| ExecInput { input: Some(input) };
    let _ = sender.try_send(say(exec_input::Input::Start(start)));
    let raw = args.tty.then(Raw::enter).flatten();
    if args.interactive || args.tty {
        let sender = sender.clone();
        // It ends with the process: a read of standard input cannot be taken back.
        thread::spawn(move || pass_input(&sender));
    } else {
        let _ = sender.try_send(say(exec_input::Input::End(true)));
    }
    let end = link.with(async |mut client| {
        // Without our end the session would be ended as soon as its input is.
        let _open = sender;
        let output = client.operator.exec(ReceiverStream::new(input)).await.map_err(refused)?;
        let mut output = output.into_inner();
        while let Some(said) = output.next().await {
            match said.map_err(refused)?.output {
                Some(exec_output::Output::Stdout(bytes)) => write(std::io::stdout(), &bytes)?,
                Some(exec_output::Output::Stderr(bytes)) => write(std::io::stderr(), &bytes)?,
                Some(exec_output::Output::End(end)) => return Ok(end),
                Some(exec_output::Output::Instance(_)) | None => {}
            }
        }
        Err(ExecError::CutOff.into())
    });
    drop(raw);
    let end = end?;
    match end.failed.is_empty() {
        true => Ok(ExitCode::from(u8::try_from(end.code).unwrap_or(u8::MAX))),
        false => Err(ExecError::Failed(end.failed).into()),
    }
}

/// Who reads our output may be gone, and with them what the session was for.
fn write(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(|_| ExecError::CutOff.into())
}

fn pass_input(to: &mpsc::Sender<ExecInput>) {
    let mut buffer = vec![0; PIECE];
    let mut input = std::io::stdin().lock();
    loop {
        let said = match input.read(&mut buffer) {
            Ok(0) | Err(_) => exec_input::Input::End(true),
            Ok(read) => exec_input::Input::Data(buffer[..read].to_vec().into()),
        };
        let last = matches!(said, exec_input::Input::End(_));
        if to.blocking_send(ExecInput { input: Some(said) }).is_err() || last {
            return;
        }
    }
}

fn window() -> Window {
    let size = tcgetwinsize(std::io::stdin());
    size.map_or(Window { rows: 24, columns: 80 }, |size| Window {
        rows: size.ws_row.into(),
        columns: size.ws_col.into(),
    })
}

/// Our terminal passes everything on while this lives.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
