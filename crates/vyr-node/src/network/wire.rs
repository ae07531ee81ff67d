//! A host's network asked over a connection: who answers, and who asks.
//!
//! ```text
//! Remote::open <-- Hello ------------------------- serve
//! Remote::ask  --- Request ----------------------> perform, as in process
//!              <-- Answer (an error is one too) ---
//! ```
//!
//! Invariants:
//! 1. [`perform`] is the one way to do what is asked, in process and over any connection.
//! 2. Who asked and is gone is noticed while work is under way: [`serve`] says so at once.
//! 3. An error arrives whole: category, message, causes, hint.
//!
//! Not here: the words (`vyr_net::words`), and what a connection is made of (`ssh`).

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use vyr_base::{Category, Problem};
use vyr_net::words::{
    ANSWER_BYTES_MAX, Answer, Applied, Apply, BackendWish, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Hello,
    Outcome, Refusal, Request, Standing, Takeover, WIRE, WordsError, parse, parse_hello,
    read_frame, write_frame,
};
use vyr_plan::{APPROVALS_MAX, Signed};

use super::{ApplyRequest, BackendChoice, Ended, KeyStanding, Network, NetworkError};
use crate::Report;

/// The version of this `vyr`.
const VYR: &str = env!("CARGO_PKG_VERSION");

/// Who has asked nothing whole for so long is not waited for any longer: more than who asks over
/// the slowest line that is put up with needs for the largest plan in use.
const IDLE: Duration = Duration::from_secs(600);

/// Addresses that are probed: each may take five seconds.
pub const PROBES_MAX: usize = 32;

/// Characters of who asks.
const BY_CHARS_MAX: usize = 128;

/// Does what is asked of a host.
pub fn perform(network: &Network, request: Request) -> Result<Answer, NetworkError> {
    Ok(match request {
        Request::Apply(apply) => Answer::Applied(make(network, apply)?),
        Request::Confirm { plan } => {
            let Ended { plan, base } = network.confirm(plan.as_ref())?;
            Answer::Ended { plan, base }
        }
        Request::Rollback { plan } => {
            let Ended { plan, base } = network.rollback(plan.as_ref())?;
            Answer::Ended { plan, base }
        }
        Request::Standing { machine, backend } => {
            let (machine, backend) = who(network, machine, backend)?;
            let found = network.standing(&machine, &backend)?;
            let super::Standing { plan, waits, wanted, found, differences } = found;
            Answer::Standing(Standing { plan, waits, wanted, found, differences })
        }
        Request::Takeovers { machine, backend } => {
            let (machine, backend) = who(network, machine, backend)?;
            let all = network.rotation_standings(&machine, &backend)?.into_iter();
            let takeover = |of: KeyStanding| Takeover {
                link: of.link,
                to: of.to,
                id: of.id,
                stage: of.stage,
                old_handshake_unix_s: of.old_handshake_unix_s,
                new_handshake_unix_s: of.new_handshake_unix_s,
            };
            Answer::Takeovers(all.map(takeover).collect())
        }
        Request::Rebuild(_) => {
            let why = "a rebuild is the work of a command on that host, not of its node";
            return Err(NetworkError::Request(why.into()));
        }
        Request::Attach(_) | Request::Detach { .. } | Request::Isolate { .. } => {
            let why = "instances are the business of the node on that host alone";
            return Err(NetworkError::Request(why.into()));
        }
        Request::LinkKey { link, next } => {
            let keys = network.keys();
            let (public_key, new) = keys.make(&link, next)?;
            Answer::LinkKey { public_key, new, directory: keys.directory().to_owned() }
        }
    })
}

fn make(network: &Network, apply: Apply) -> Result<Applied, NetworkError> {
    let refuse = |why: String| Err(NetworkError::Request(why));
    if apply.probes.len() > PROBES_MAX {
        return refuse(format!("{} probes, {PROBES_MAX} are the most", apply.probes.len()));
    }
    if apply.approvals.len() > APPROVALS_MAX {
        return refuse(format!(
            "{} approvals, {APPROVALS_MAX} are the most",
            apply.approvals.len()
        ));
    }
    // It is printed for whoever comes second.
    let shown = |c: char| !c.is_control();
    if apply.by.is_empty()
        || apply.by.chars().count() > BY_CHARS_MAX
        || !apply.by.chars().all(shown)
    {
        return refuse(format!("who asks is not named in 1 to {BY_CHARS_MAX} visible characters"));
    }
    let is_commit = |text: &String| {
        matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    if !apply.site_commit.as_ref().is_none_or(is_commit) {
        return refuse("the commit of the site is not 40 or 64 hex digits".into());
    }
    let signed = apply.approvals.into_iter();
    let signed: Vec<Signed> = signed
        .map(|of| Signed { name: of.name, text: of.text.0, signature: of.signature.0 })
        .collect();
    let (machine, backend) = who(network, apply.machine, apply.backend)?;
    let done = network.apply(&ApplyRequest {
        plan: &apply.plan.0,
        signed: &signed,
        machine: &machine,
        by: &apply.by,
        within: apply.within_ms.map(Duration::from_millis),
        probes: &apply.probes,
        dry_run: apply.dry_run,
        backend,
        site_commit: apply.site_commit.as_deref(),
    })?;
    let (outcome, deadline) = match done.outcome {
        super::Outcome::Nothing => (Outcome::Nothing, None),
        super::Outcome::Shown => (Outcome::Shown, None),
        super::Outcome::Waits(deadline) => (Outcome::Waits, Some(deadline)),
        super::Outcome::Confirmed => (Outcome::Confirmed, None),
    };
    let super::Applied { plan, base, approvers, steps, before, after, uncut, .. } = done;
    Ok(Applied { plan, base, machine, approvers, steps, before, after, uncut, outcome, deadline })
}

fn who(
    network: &Network,
    machine: Option<String>,
    wish: BackendWish,
) -> Result<(String, BackendChoice), NetworkError> {
    let said = wish.kind.is_some() || wish.sockets.is_some();
    network.who(machine, said.then(|| wish.into()))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// An error as it travels.
pub fn refusal(report: &Report) -> Refusal {
    Refusal {
        category: report.category(),
        message: report.to_string(),
        causes: report.causes(),
        hint: report.hint(),
    }
}

/// Answers until who asks has no more to ask. `gone` is called, in another thread, when it ends
/// the connection while work is under way: that work has no reader any more.
pub fn serve(
    mut reader: impl Read + Send + 'static,
    mut writer: impl Write,
    mut perform: impl FnMut(Request) -> Result<Answer, Report>,
    gone: impl Fn() + Send + 'static,
) -> Result<(), WordsError> {
    let uid = rustix::process::geteuid().as_raw();
    let hello = Hello { wire: WIRE, vyr: VYR.to_owned(), machine: host_name(), uid };
    write_frame(&mut writer, &hello)?;
    let busy = Arc::new(AtomicBool::new(false));
    let (send, requests) = sync_channel(0);
    let working = Arc::clone(&busy);
    std::thread::spawn(move || {
        loop {
            let read = read_frame(&mut reader, FRAME_BYTES_MAX);
            let frame = match read {
                Ok(Some(frame)) => Ok(frame),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            let last = frame.is_err();
            // One at a time: who asks twice before an answer is gone as well.
            if working.swap(true, Ordering::SeqCst) {
                return gone();
            }
            if send.send(frame).is_err() || last {
                return;
            }
        }
        if working.load(Ordering::SeqCst) {
            gone();
        }
    });
    loop {
        let frame = match requests.recv_timeout(IDLE) {
            Ok(frame) => frame?,
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return Ok(()),
        };
        let answer = match parse::<Request>(&frame).map_err(Report::from).and_then(&mut perform) {
            Ok(answer) => answer,
            Err(report) => Answer::Refused(refusal(&report)),
        };
        // Before the answer, whose reader may have the next question at once.
        busy.store(false, Ordering::SeqCst);
        write_frame(&mut writer, &answer)?;
    }
}

/// A host at the other end of a connection.
#[derive(Debug)]
pub struct Remote<R, W> {
    reader: R,
    writer: W,
    hello: Hello,
}

impl<R: Read, W: Write> Remote<R, W> {
    /// Waits for its first words.
    pub fn open(mut reader: R, writer: W) -> Result<Self, RemoteError> {
        let frame = read_frame(&mut reader, HELLO_BYTES_MAX)?.ok_or(WordsError::Silence)?;
        let hello = parse_hello(&frame, VYR)?;
        Ok(Self { reader, writer, hello })
    }

    /// Who it is.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, RemoteError> {
        match self.exchange(request)? {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    /// The same for who passes the answer on, whatever it is.
    pub fn exchange(&mut self, request: &Request) -> Result<Answer, WordsError> {
        write_frame(&mut self.writer, request)?;
        let frame = read_frame(&mut self.reader, ANSWER_BYTES_MAX)?;
        let frame = frame.ok_or(WordsError::Silence)?;
        parse(&frame)
    }

    /// Where its answers come from.
    pub fn reader(&self) -> &R {
        &self.reader
    }
}

/// Why a host elsewhere did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It said no: its own words.
    #[error("{message}")]
    Refused {
        /// The exit category.
        category: Category,
        /// What.
        message: String,
        /// How to mend it.
        hint: Option<String>,
        /// What was underneath.
        source: Option<Cause>,
    },
    /// The words did not arrive.
    #[error(transparent)]
    Words(#[from] WordsError),
}

/// What was underneath an error of another host.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl From<Refusal> for RemoteError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { category, message, causes, hint } = refusal;
        let chain = causes.into_iter().rev();
        let source =
            chain.fold(None, |source, text| Some(Cause { text, source: source.map(Box::new) }));
        Self::Refused { category, message, hint, source }
    }
}

impl Problem for RemoteError {
    fn category(&self) -> Category {
        match self {
            Self::Refused { category, .. } => *category,
            Self::Words(e) => e.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Words(e) => e.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    use vyr_net::words;

    use super::*;

    fn key(link: &str) -> Request {
        Request::LinkKey { link: link.into(), next: false }
    }

    fn network() -> (tempfile::TempDir, Network) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let network = Network::open(directory.path()).expect("it is ours");
        (directory, network)
    }

    #[test]
    fn a_host_answers_as_in_process_and_its_errors_arrive_whole() {
        let (_directory, network) = network();
        let (here, there) = UnixStream::pair().expect("a pair");
        let reader = there.try_clone().expect("a descriptor");
        std::thread::scope(|scope| {
            let network = &network;
            let ask = move |request| Ok(perform(network, request)?);
            let served =
                scope.spawn(move || serve(reader, there, ask, || panic!("nobody is gone")));
            let mut remote = Remote::open(&here, &here).expect("it says who it is");
            assert_eq!(remote.hello().vyr, VYR);
            let Answer::LinkKey { new: true, public_key, .. } =
                remote.ask(&key("vyr-a")).expect("a key")
            else {
                panic!("another answer");
            };
            let again = perform(network, key("vyr-a")).expect("the same");
            assert!(matches!(again, Answer::LinkKey { public_key: k, .. } if k == public_key));
            for request in [
                key("no name"),
                Request::Confirm { plan: None },
                Request::Standing { machine: None, backend: BackendWish::default() },
            ] {
                let local = Report::from(perform(network, request.clone()).expect_err("no"));
                let far = Report::from(remote.ask(&request).expect_err("no"));
                assert_eq!(refusal(&far), refusal(&local));
            }
            here.shutdown(std::net::Shutdown::Both).expect("it is open");
            served.join().expect("it ends").expect("it ends well");
        });
    }

    #[test]
    fn an_error_keeps_all_that_is_underneath() {
        let path = "a".into();
        let error = NetworkError::File { path, source: io::ErrorKind::PermissionDenied.into() };
        let sent = refusal(&Report::from(error));
        assert_eq!((sent.category, sent.causes.len()), (Category::Auth, 1));
        let more = Refusal { causes: vec!["b".into(), "c".into()], ..sent };
        assert_eq!(refusal(&Report::from(RemoteError::from(more.clone()))), more);
    }

    #[test]
    fn who_asked_and_is_gone_is_noticed_while_work_is_under_way() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let reader = there.try_clone().expect("a descriptor");
        let (say, heard) = channel();
        let (begin, begun) = channel();
        let served = std::thread::spawn(move || {
            let work = |_| {
                begin.send(()).expect("somebody waits");
                heard.recv_timeout(IDLE).expect("it is noticed");
                Ok(Answer::Ended { plan: vyr_base::Digest::of(b""), base: None })
            };
            serve(reader, there, work, move || say.send(()).expect("the work waits"))
        });
        let mut writer = &here;
        write_frame(&mut writer, &key("vyr-a")).expect("it reads");
        begun.recv_timeout(IDLE).expect("it begins");
        drop(here);
        assert!(served.join().expect("it ends").is_err(), "the answer has no reader");
    }

    #[test]
    fn hostile_requests_change_nothing_and_are_named() {
        let (_directory, network) = network();
        let apply = |by: &str, probes: usize| {
            Request::Apply(Apply {
                plan: words::Bytes(b"{}".to_vec()),
                approvals: Vec::new(),
                machine: None,
                by: by.into(),
                within_ms: None,
                probes: vec!["192.0.2.1:1".into(); probes],
                dry_run: false,
                backend: BackendWish::default(),
                site_commit: None,
            })
        };
        for (request, what) in [
            (apply("an\u{1b}a", 0), "visible"),
            (apply("", 0), "visible"),
            (apply("ana", PROBES_MAX + 1), "probes"),
            (apply("ana", 0), "not a plan"),
        ] {
            let error = perform(&network, request).expect_err("refused");
            assert_eq!(error.category(), Category::Usage);
            assert!(error.to_string().contains(what), "{error}");
        }
        for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), b"vyrn\xff\xff\xff\xff", b"vyrn\0\0\0\x02{"]
        {
            let served = serve(bytes, io::sink(), |_| panic!("it is no request"), || {});
            assert!(served.is_err(), "{bytes:?}");
        }
    }
}
