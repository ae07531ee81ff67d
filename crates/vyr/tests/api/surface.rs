//! What the node says it offers, and what it does not offer.

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{FileDescriptorResponse, ServerReflectionRequest};
use vyr_api::control::{CancelTaskRequest, CancelTaskResponse};

use crate::daemon::{Daemon, block};

async fn ask(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let mut client = ServerReflectionClient::new(channel.clone());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let answer = client.server_reflection_info(tokio_stream::once(request)).await;
    let message = answer.expect("reflection").into_inner().message().await.expect("an answer");
    message.and_then(|message| message.message_response).expect("an answer")
}

#[test]
fn reflection_shows_exactly_the_seven_calls() {
    let daemon = Daemon::start();
    block(async {
        let channel = daemon.channel().await;
        let MessageResponse::ListServicesResponse(services) =
            ask(&channel, MessageRequest::ListServices(String::new())).await
        else {
            panic!("a list of services")
        };
        let mut names: Vec<String> =
            services.service.into_iter().map(|service| service.name).collect();
        names.sort();
        let served = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "vyr.control.v0.Control",
        ];
        assert_eq!(names, served, "control.sock announces what it serves");
        let question = MessageRequest::FileContainingSymbol("vyr.control.v0.Control".to_owned());
        let MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto,
        }) = ask(&channel, question).await
        else {
            panic!("a file")
        };
        let files = file_descriptor_proto.iter().map(|file| FileDescriptorProto::decode(&**file));
        let files: Vec<FileDescriptorProto> = files.collect::<Result<_, _>>().expect("files");
        let services = files.iter().filter(|file| file.package() == "vyr.control.v0");
        let services: Vec<_> = services.flat_map(|file| &file.service).collect();
        let mut calls: Vec<&str> = services
            .iter()
            .flat_map(|service| &service.method)
            .map(|method| method.name())
            .collect();
        calls.sort_unstable();
        let seven = [
            "BindState",
            "CancelTask",
            "CreateState",
            "PutArtifact",
            "StreamMetrics",
            "StreamTraces",
            "SubmitTask",
        ];
        assert_eq!(calls, seven);
    });
}

#[test]
fn the_health_service_answers() {
    let daemon = Daemon::start();
    block(async {
        let mut client = HealthClient::new(daemon.channel().await);
        for service in ["", "vyr.control.v0.Control"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = client.check(request).await.expect("known").into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
        }
        let request = HealthCheckRequest { service: "vyr.control.v0.Policy".to_owned() };
        assert_eq!(client.check(request).await.expect_err("unknown").code(), Code::NotFound);
    });
}

#[test]
fn calls_that_do_not_exist_are_unimplemented() {
    let daemon = Daemon::start();
    block(async {
        let mut grpc = Grpc::new(daemon.channel().await);
        for call in [
            "/vyr.control.v0.Control/ApplyPolicy",
            "/vyr.control.v0.Control/SimulateAction",
            "/vyr.control.v0.Control/ExplainDecision",
            "/vyr.control.v0.Control/apply_policy",
            "/vyr.control.v0.Control/simulate_action",
            "/vyr.control.v0.Control/explain_decision",
            "/vyr.control.v1.Control/CancelTask",
            // The owner's calls are not on this socket.
            "/vyr.operator.v0.Operator/Status",
        ] {
            let code = call_unary(&mut grpc, call).await;
            assert_eq!(code, Code::Unimplemented, "{call}");
        }
        // The same client reaches a call that does exist.
        let code = call_unary(&mut grpc, "/vyr.control.v0.Control/CancelTask").await;
        assert_eq!(code, Code::InvalidArgument, "an empty task id");
    });
}

async fn call_unary(grpc: &mut Grpc<Channel>, path: &'static str) -> Code {
    grpc.ready().await.expect("ready");
    let codec: ProstCodec<CancelTaskRequest, CancelTaskResponse> = ProstCodec::default();
    let request = tonic::Request::new(CancelTaskRequest::default());
    let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
    answer.expect_err("refused").code()
}
