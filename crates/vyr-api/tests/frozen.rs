//! Control API v0 is frozen: what the `.proto` file compiles to is what was committed.
//!
//! `control.binpb` is the `FileDescriptorSet` of `control.proto`, made by protox without source
//! information, so that comments may improve and nothing else may change. It is not rewritten by
//! any tool of ours: a difference is a broken promise to clients, not a stale file.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

const NAME: &str = "vyr/control/v0/control.proto";
const PROTO: &str = include_str!("../proto/vyr/control/v0/control.proto");
const FROZEN: &[u8] = include_bytes!("../proto/vyr/control/v0/control.binpb");
const HINT: &str = "Control API v0 is frozen: put control.proto back. There is no command that \
    rewrites control.binpb; what clients need now belongs to vyr.operator.v0 or to a v1";

/// One file that is only a text.
struct Text(String);

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            NAME => File::from_source(NAME, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

fn compile(text: &str) -> FileDescriptorSet {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Text(text.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(false).include_source_info(false);
    compiler.open_file(NAME).expect("the file compiles");
    compiler.file_descriptor_set()
}

/// Everything that a client can see, one line each.
fn surface(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in &set.file {
        let package = file.package();
        lines.insert(format!("file {} package {package} syntax {}", file.name(), file.syntax()));
        for service in &file.service {
            for method in &service.method {
                let side = |streams: bool, of: &str| match streams {
                    true => format!("stream {of}"),
                    false => of.to_owned(),
                };
                lines.insert(format!(
                    "call {package}.{}/{} ({}) -> ({})",
                    service.name(),
                    method.name(),
                    side(method.client_streaming(), method.input_type()),
                    side(method.server_streaming(), method.output_type()),
                ));
            }
        }
        for message in &file.message_type {
            message_lines(package, message, &mut lines);
        }
        for of in &file.enum_type {
            enum_lines(package, of, &mut lines);
        }
    }
    lines
}

fn message_lines(within: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{within}.{}", message.name());
    lines.insert(format!("message {name}"));
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().to_owned(),
            scalar => scalar.as_str_name().to_owned(),
        };
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        let optional = if field.proto3_optional() { "optional " } else { "" };
        let oneof = field
            .oneof_index
            .and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?))
            .map_or(String::new(), |oneof| format!(" in {}", oneof.name()));
        let (field, number) = (field.name(), field.number());
        lines.insert(format!("field {name}.{field} = {number}: {optional}{repeated}{kind}{oneof}"));
    }
    for inner in &message.nested_type {
        message_lines(&name, inner, lines);
    }
    for inner in &message.enum_type {
        enum_lines(&name, inner, lines);
    }
}

fn enum_lines(within: &str, of: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &of.value {
        let name = format!("{within}.{}.{}", of.name(), value.name());
        lines.insert(format!("value {name} = {}", value.number()));
    }
}

/// What differs from what was promised: `-` promised and gone, `+` there and not promised.
fn differences(now: &FileDescriptorSet) -> Vec<String> {
    let frozen = FileDescriptorSet::decode(FROZEN).expect("control.binpb is a descriptor set");
    let (was, is) = (surface(&frozen), surface(now));
    let gone = was.difference(&is).map(|line| format!("- {line}"));
    let mut lines: Vec<String> =
        gone.chain(is.difference(&was).map(|line| format!("+ {line}"))).collect();
    if lines.is_empty() && now.encode_to_vec() != FROZEN {
        lines.push("something that the lines do not show, such as an option".to_owned());
    }
    lines
}

#[test]
fn the_compiled_proto_is_what_was_frozen() {
    let differences = differences(&compile(PROTO));
    assert!(differences.is_empty(), "{}\n{HINT}", differences.join("\n"));
}

#[test]
fn a_client_generates_from_the_same_bytes_as_the_server() {
    let served = FileDescriptorSet::decode(vyr_api::DESCRIPTORS).expect("descriptors");
    let served: Vec<_> = served
        .file
        .into_iter()
        .filter(|file| file.name() == NAME)
        .map(|mut file| {
            file.source_code_info = None;
            file
        })
        .collect();
    assert_eq!(FileDescriptorSet { file: served }.encode_to_vec(), FROZEN, "{HINT}");
}

#[test]
fn control_has_exactly_the_seven_calls() {
    let frozen = FileDescriptorSet::decode(FROZEN).expect("control.binpb is a descriptor set");
    let services: Vec<_> = frozen.file.iter().flat_map(|file| &file.service).collect();
    assert_eq!(services.len(), 1);
    let mut calls: Vec<&str> = services[0].method.iter().map(|method| method.name()).collect();
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
    assert_eq!((services[0].name(), calls.as_slice()), ("Control", seven.as_slice()));
}

/// The seeded defects: each changes the text in one place and is told by name.
#[test]
fn a_changed_surface_is_told_by_name() {
    let cases = [
        // A field is gone.
        ("  string traceparent = 7;\n", "", "- field vyr.control.v0.SubmitTaskRequest.traceparent"),
        // Another number.
        ("string traceparent = 7;", "string traceparent = 8;", "SubmitTaskRequest.traceparent = 8"),
        // Another type.
        (
            "sint32 priority = 5;",
            "int32 priority = 5;",
            "+ field vyr.control.v0.Resources.priority",
        ),
        // An eighth call.
        (
            "service Control {\n",
            "service Control {\n  rpc ApplyPolicy(CancelTaskRequest) returns (CancelTaskResponse);\n",
            "+ call vyr.control.v0.Control/ApplyPolicy",
        ),
        // A call answers with one message in place of a stream.
        ("returns (stream Span)", "returns (Span)", "- call vyr.control.v0.Control/StreamTraces"),
        // Another number of an enum's value.
        ("MODE_RO = 1;", "MODE_RO = 3;", "+ value vyr.control.v0.Mode.MODE_RO = 3"),
        // A comment may improve.
        ("// Higher runs first;", "// The higher one runs first;", ""),
        // An option, which no line shows.
        (
            "package vyr.control.v0;",
            "package vyr.control.v0;\noption java_package = \"x\";",
            "something that the lines do not show",
        ),
    ];
    for (was, is, told) in cases {
        assert_eq!(PROTO.matches(was).count(), 1, "{was:?} stands once in the file");
        let differences = differences(&compile(&PROTO.replacen(was, is, 1)));
        if told.is_empty() {
            assert_eq!(differences, Vec::<String>::new(), "{was:?}");
            continue;
        }
        assert!(differences.iter().any(|line| line.contains(told)), "{told}: {differences:#?}");
    }
}
