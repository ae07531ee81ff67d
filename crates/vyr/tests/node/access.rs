//! Who may call: by user id on a Unix socket, by certificate on TCP.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use vyr_api::control::{
    CancelTaskRequest, CreateStateRequest, StreamMetricsRequest, StreamTracesRequest, TaskState,
    TraceFilter,
};
use vyr_api::operator::{GetTaskRequest, ListTasksRequest, StatusRequest};
use vyr_api::{ApiError, Client, Endpoint};

use crate::place::{Place, block, ended, in_time, is_root, not_run, run, submission};

/// Nobody's.
const STRANGER: u32 = 60_910;
/// In the table.
const SUBMITTER: u32 = 60_911;
const OBSERVER: u32 = 60_912;

/// Lets everybody reach the sockets, as a group would.
fn open_to_all(place: &Place) {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    };
    mode(&place.path(""), 0o711);
    mode(place.data(), 0o711);
    mode(&place.data().join("run"), 0o711);
    mode(&place.control(), 0o666);
}

/// A connection made by another user. The node asks the kernel who connected, so this process
/// becomes that user for the moment of it, in a thread of its own.
fn try_connect_as(uid: u32, socket: &Path) -> std::io::Result<UnixStream> {
    let socket = socket.to_owned();
    let connecting = std::thread::spawn(move || {
        use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
        let (root, root_group) = (Uid::ROOT, Gid::ROOT);
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        set_thread_res_gid(group, group, root_group).expect("root may");
        set_thread_res_uid(user, user, root).expect("root may");
        UnixStream::connect(socket)
    });
    connecting.join().expect("a thread")
}

/// The same, as a client.
async fn client_as(uid: u32, place: &Place) -> Client {
    let stream = try_connect_as(uid, &place.control()).expect("a connection");
    stream.set_nonblocking(true).expect("a socket");
    // Passed on between a socket that the client may open and the one that is somebody else's.
    let relay = place.path(&format!("relay-{uid}.sock"));
    let listener = tokio::net::UnixListener::bind(&relay).expect("a socket");
    let mut there = tokio::net::UnixStream::from_std(stream).expect("a socket");
    tokio::spawn(async move {
        let (mut here, _) = listener.accept().await.expect("our client");
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    });
    in_time("a connection", Client::connect(&Endpoint::Unix(relay))).await.expect("relayed")
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, who: &str) {
    let error = ApiError::from(answer.expect_err("refused"));
    assert_eq!(error.category, "auth", "{error:?}");
    assert!(error.message.contains(who), "{error:?}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("[access]")), "{error:?}");
    assert!(!error.retryable);
}

#[track_caller]
fn not_found<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) {
    let error = ApiError::from(answer.expect_err("somebody else's"));
    assert_eq!(error.category, "not_found", "{error:?}");
}

#[test]
fn a_user_may_do_what_the_table_says_and_sees_their_own_tasks() {
    const TEST: &str = "access::a_user_may_do_what_the_table_says_and_sees_their_own_tasks";
    if !is_root(TEST) {
        return;
    }
    let place = Place::new();
    place.config(&format!(
        "[access]\n\"uid:{SUBMITTER}\" = \"submit\"\n\"uid:{OBSERVER}\" = \"observe\"\n"
    ));
    let hello = place.put_hello();
    let endless = place.put_text("endless", crate::guests::ENDLESS, &[]);
    block(async {
        let daemon = place.ready().await;
        let reached = try_connect_as(STRANGER, &place.control()).map(drop);
        let denied = reached.expect_err("the directory is private");
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
        open_to_all(&place);
        let denied = try_connect_as(SUBMITTER, &place.operator()).map(drop);
        assert_eq!(denied.expect_err("0600").kind(), std::io::ErrorKind::PermissionDenied);

        let mut owner = daemon.client().await;
        let owners = owner.submit_request(submission(&endless, b"", "")).await.expect("accepted");
        let cancel = |task: &str| CancelTaskRequest { task_id: task.to_owned() };
        let spans = |tasks: Vec<String>| StreamTracesRequest {
            filter: Some(TraceFilter { task_ids: tasks, ..TraceFilter::default() }),
        };
        let create = || CreateStateRequest { name: "a".into(), ..Default::default() };

        let mut stranger = client_as(STRANGER, &place).await;
        let who = format!("uid:{STRANGER}");
        let submit = tokio_stream::once(submission(&hello, b"", ""));
        refused(stranger.control.submit_task(submit).await, &who);
        refused(stranger.control.cancel_task(cancel(&owners)).await, &who);
        refused(stranger.control.stream_traces(spans(vec![])).await, &who);
        refused(
            stranger.control.stream_metrics(StreamMetricsRequest::default()).await.map(drop),
            &who,
        );
        refused(stranger.control.create_state(create()).await, &who);
        refused(stranger.control.put_artifact(tokio_stream::empty()).await, &who);
        // The owner's calls are not there at all.
        let status = stranger.operator.status(StatusRequest {}).await.expect_err("not there");
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{status:?}");

        let mut submitter = client_as(SUBMITTER, &place).await;
        let own = submitter.submit_request(submission(&hello, b"", "")).await.expect("accepted");
        assert_eq!(ended(&mut submitter, &own).await.state(), TaskState::Completed);
        not_found(submitter.control.cancel_task(cancel(&owners)).await);
        let mut of_owner = submitter.control.stream_traces(spans(vec![owners.clone()])).await;
        not_found(match &mut of_owner {
            Ok(stream) => in_time("a refusal", stream.get_mut().message()).await,
            Err(status) => Err(status.clone()),
        });
        let all = submitter.control.stream_traces(spans(vec![])).await.expect("spans");
        let mut all = all.into_inner();
        owner.control.cancel_task(cancel(&owners)).await.expect("cancelled");
        ended(&mut owner, &owners).await;
        let last = submitter.submit_request(submission(&hello, b"", "")).await.expect("accepted");
        loop {
            let span = in_time("a span", all.message()).await.expect("spans").expect("no end");
            assert!(span.task_id == own || span.task_id == last, "somebody else's: {span:?}");
            if span.task_id == last && span.end.is_some() {
                break;
            }
        }
        let request = GetTaskRequest { task_id: own.clone() };
        let seen = owner.operator.get_task(request).await.expect("an operator sees all");
        assert_eq!(seen.into_inner().submitter, format!("uid:{SUBMITTER}"));

        let mut observer = client_as(OBSERVER, &place).await;
        let who = format!("uid:{OBSERVER}");
        let submit = tokio_stream::once(submission(&hello, b"", ""));
        refused(observer.control.submit_task(submit).await, &who);
        refused(observer.control.create_state(create()).await, &who);
        observer
            .control
            .stream_metrics(StreamMetricsRequest::default())
            .await
            .map(drop)
            .expect("may watch");
    });
}

/// Makes certificates with `openssl`; `None`, said aloud, when it is not there.
struct Certificates<'a> {
    place: &'a Place,
}

impl<'a> Certificates<'a> {
    fn new(place: &'a Place, test: &str) -> Option<Self> {
        let there = Command::new("openssl").arg("version").output();
        if !there.is_ok_and(|output| output.status.success()) {
            not_run(test, "openssl is not installed");
            return None;
        }
        Some(Self { place })
    }

    #[track_caller]
    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.place.path(""))
            .output()
            .expect("openssl starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    const KEY: &'static str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

    fn authority(&self, name: &str) {
        let key = Self::KEY;
        self.openssl(&format!(
            "req -x509 {key} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
        ));
    }

    /// A certificate of `authority` for the DNS name `name`, in files called `file`.
    fn sign(&self, authority: &str, name: &str, file: &str) {
        let key = Self::KEY;
        self.openssl(&format!(
            "req {key} -keyout {file}.key -out {file}.csr -subj /CN={name} \
             -addext subjectAltName=DNS:{name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {file}.csr -CA {authority}.pem -CAkey {authority}.key \
             -CAcreateserial -out {file}.pem -days 2 -copy_extensions copy"
        ));
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.place.path(file)).expect("a file")
    }

    /// How a client connects that shows the certificate `file`, or none.
    fn endpoint(&self, at: SocketAddr, file: Option<&str>) -> Endpoint {
        let trust = Certificate::from_pem(self.read("ca.pem"));
        let mut tls = ClientTlsConfig::new().ca_certificate(trust).domain_name("node.example");
        if let Some(file) = file {
            let (certificate, key) = (format!("{file}.pem"), format!("{file}.key"));
            tls = tls.identity(Identity::from_pem(self.read(&certificate), self.read(&key)));
        }
        let uri = format!("https://{at}").parse().expect("an address");
        Endpoint::Tls { uri, tls: Box::new(tls) }
    }
}

/// Connects and makes one call; what came of it.
async fn call(endpoint: &Endpoint, artifact: &str) -> Result<String, ApiError> {
    let connected = in_time("a connection", Client::connect(endpoint)).await;
    // Whom the handshake refuses may be told with the first call only (TLS 1.3).
    let transport = |e: &dyn std::fmt::Debug| ApiError {
        category: "no connection".into(),
        message: format!("{e:?}"),
        hint: None,
        retryable: false,
        retry_after: None,
        code: tonic::Code::Unavailable,
    };
    let mut client = connected.map_err(|e| transport(&e))?;
    in_time("an answer", client.submit_request(submission(artifact, b"", ""))).await
}

#[test]
fn over_tcp_only_a_certificate_with_a_known_name_is_served() {
    const TEST: &str = "access::over_tcp_only_a_certificate_with_a_known_name_is_served";
    let place = Place::new();
    let Some(certificates) = Certificates::new(&place, TEST) else { return };
    certificates.authority("ca");
    certificates.authority("rogue");
    certificates.sign("ca", "node.example", "node");
    certificates.sign("ca", "ana", "ana");
    certificates.sign("ca", "eve", "eve");
    certificates.sign("rogue", "ana", "false-ana");
    let hello = place.put_hello();
    let at = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let path = |file: &str| place.path(file).display().to_string();
    place.config(&format!(
        "[listen]\naddress = \"{at}\"\ncertificate = \"{}\"\nkey = \"{}\"\n\
         client_ca = \"{}\"\n[access]\n\"cert:ana\" = \"submit\"\n",
        path("node.pem"),
        path("node.key"),
        path("ca.pem")
    ));
    block(async {
        let daemon = place.ready().await;
        // One who connects and says nothing does not hinder the others.
        let _silent = TcpStream::connect(at).await.expect("it listens");
        let ana = certificates.endpoint(at, Some("ana"));
        let task = call(&ana, &hello).await.expect("accepted");
        let mut client = Client::connect(&ana).await.expect("connected");
        assert_eq!(ended(&mut client, &task).await.state(), TaskState::Completed);
        let mut owner = daemon.client().await;
        let request = GetTaskRequest { task_id: task.clone() };
        let seen = owner.operator.get_task(request).await.expect("known").into_inner();
        assert_eq!(seen.submitter, "cert:ana");
        // The owner's calls are there, for operators.
        refused(client.operator.status(StatusRequest {}).await, "cert:ana");

        let eve = call(&certificates.endpoint(at, Some("eve")), &hello).await.expect_err("eve");
        assert_eq!(eve.category, "auth", "{eve:?}");
        assert!(eve.message.contains("cert:eve"), "{eve:?}");
        for (who, shows) in [("nobody", None), ("another authority's ana", Some("false-ana"))] {
            let error = call(&certificates.endpoint(at, shows), &hello).await.expect_err(who);
            assert_ne!(error.category, "auth", "{who} got as far as a call: {error:?}");
        }
        // Without TLS there is not one byte of HTTP/2.
        let mut plain = TcpStream::connect(at).await.expect("it listens");
        plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it reads");
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = in_time("the end", plain.read_to_end(&mut answer)).await;
        assert!(answer.is_empty() || answer[0] == 0x15, "no alert: {answer:?}");
        let end = run(&mut client, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        let accepted =
            owner.operator.list_tasks(ListTasksRequest::default()).await.expect("a list");
        let mut accepted = accepted.into_inner();
        let mut count = 0;
        while let Some(task) = in_time("tasks", accepted.message()).await.expect("a list") {
            assert_eq!(task.submitter, "cert:ana");
            count += 1;
        }
        assert_eq!(count, 2);
    });
}
