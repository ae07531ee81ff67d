//! `CreateState` and `BindState`.

use vyr_api::ApiError;
use vyr_api::control::{
    BindStateRequest, CreateStateRequest, Mode, Resources, StateBinding, SubmitTaskRequest,
    TaskState,
};
use vyr_artifact::{STATE_CHARS_MAX, Spec};

use crate::daemon::{Daemon, Signed, block, put, refused, state, wait};

#[test]
fn a_state_is_ephemeral_or_refused() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        let control = &mut client.control;
        let mut create = async |name: &str, class: &str| {
            let (name, class) = (name.to_owned(), class.to_owned());
            let request = CreateStateRequest { name, class, bytes_max: 0 };
            let answer = control.create_state(request).await.map_err(ApiError::from);
            answer.map(|answer| answer.into_inner().state_id)
        };
        for class in ["strong", "eventual", "durable", "Ephemeral"] {
            let error = refused(create("notes", class).await, "usage", &["ephemeral"]);
            assert_eq!(error.code, tonic::Code::InvalidArgument);
        }
        for name in ["", "Notes", "1st", "a/b", "..", &"n".repeat(65)] {
            refused(create(name, "ephemeral").await, "usage", &["name"]);
        }
        let (first, second) = (create("notes", "").await, create("notes", "ephemeral").await);
        assert_ne!(first.expect("made"), second.expect("made"), "each call makes one");
    });
}

#[test]
fn a_name_that_a_manifest_declares_is_one_that_a_caller_makes() {
    let daemon = Daemon::start();
    let longest = format!("a_{}-9", "n".repeat(STATE_CHARS_MAX - 4));
    block(async {
        let mut client = daemon.client().await;
        let spec = Spec {
            name: "states".to_owned(),
            args: vec![format!("write /state/{longest}/a b"), format!("read /state/{longest}/a")],
            states: vec![longest.clone()],
            ..Spec::default()
        };
        let artifact = put(&mut client, Signed::new(&spec, &daemon.key).parts()).await;
        let artifact = artifact.expect("put").digest;
        let request = CreateStateRequest { name: longest.clone(), ..Default::default() };
        let made = client.control.create_state(request).await.expect("made").into_inner().state_id;
        let request = SubmitTaskRequest {
            artifact_digest: artifact,
            state_bindings: vec![StateBinding { state_id: made, mode: Mode::Rw.into() }],
            ..Default::default()
        };
        let task = client.submit_request(request).await.expect("accepted");
        assert_eq!(wait(&mut client, &task).await.1.state(), TaskState::Completed);
        // One character more is a name for neither.
        let name = longest + "n";
        let spec = Spec { name: "s".into(), states: vec![name.clone()], ..Spec::default() };
        assert!(spec.check().is_err());
        let request = CreateStateRequest { name, ..Default::default() };
        let made = client.control.create_state(request).await.map_err(ApiError::from);
        refused(made.map(|made| made.into_inner().state_id), "usage", &["named", "64"]);
    });
}

#[test]
fn a_declared_state_is_bound_at_the_start_or_before_it() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        let spec = Spec {
            name: "states".to_owned(),
            args: vec!["write /state/notes/a b".to_owned(), "read /state/notes/a".to_owned()],
            states: vec!["notes".to_owned()],
            ..Spec::default()
        };
        let artifact = put(&mut client, Signed::new(&spec, &daemon.key).parts()).await;
        let artifact = artifact.expect("put").digest;
        let create = async || {
            let request =
                CreateStateRequest { name: "notes".to_owned(), ..CreateStateRequest::default() };
            let made = client.control.clone().create_state(request).await;
            made.expect("made").into_inner().state_id
        };
        let (first, second) = (create().await, create().await);
        let binding =
            |state_id: &str| StateBinding { state_id: state_id.to_owned(), mode: Mode::Rw.into() };
        let request = |bindings: Vec<StateBinding>| SubmitTaskRequest {
            artifact_digest: artifact.clone(),
            state_bindings: bindings,
            resources: Some(Resources::default()),
            ..SubmitTaskRequest::default()
        };
        let bound = client.submit_request(request(vec![binding(&first)])).await.expect("accepted");
        let (_, end) = wait(&mut client, &bound).await;
        assert_eq!(end.state(), TaskState::Completed, "{end:?}");
        let unbound = client.submit_request(request(Vec::new())).await.expect("accepted");
        assert_eq!(state(&mut client, &unbound).await, TaskState::Accepted);
        let bind = |mode: Mode| BindStateRequest {
            task_id: unbound.clone(),
            state_id: second.clone(),
            mode: mode.into(),
        };
        let none = client.control.bind_state(bind(Mode::Unspecified)).await;
        refused(none.map_err(ApiError::from), "usage", &["ro or rw"]);
        client.control.bind_state(bind(Mode::Rw)).await.expect("bound");
        let (_, end) = wait(&mut client, &unbound).await;
        assert_eq!(end.state(), TaskState::Completed, "{end:?}");
        let late = client.control.bind_state(bind(Mode::Rw)).await;
        refused(late.map_err(ApiError::from), "conflict", &[&unbound]);
        let gone = client.submit_request(request(vec![binding(&first)])).await;
        refused(gone, "not_found", &[&first]);
    });
}
