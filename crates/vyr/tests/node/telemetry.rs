//! A collector that cannot be reached, as the owner of the node is told of it.

use std::net::TcpListener;

use crate::place::{Place, block, run, submission, until};

/// The line of a command's output that begins with `name`.
fn line(place: &Place, command: &str, name: &str) -> String {
    let output = place.command(&[command]).output().expect("vyr starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let found = text.lines().find(|line| line.split(' ').next() == Some(name));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[test]
fn an_exporters_fault_is_in_status_and_doctor_with_what_was_dropped() {
    let place = Place::new();
    let hello = place.put_hello();
    // Nobody listens on it once it is closed.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|closed| closed.local_addr());
    let endpoint = format!("http://{}", closed.expect("an address"));
    block(async {
        let mut daemon = place.start_with(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "300"),
        ]);
        daemon.wait_ready().await;
        assert!(line(&place, "status", "otlp").contains("exporting; 0 spans sent, 0 dropped"));
        run(&mut daemon.client().await, submission(&hello, b"", "")).await;
        let said = until("a fault", async || {
            let said = line(&place, "status", "otlp");
            (said.contains("failing: ") && !said.contains(" 0 dropped")).then_some(said)
        })
        .await;
        assert!(said.contains("0 spans sent"), "{said}");
        let doctor = line(&place, "doctor", "otlp");
        assert!(doctor.contains("limited") && doctor.contains("failing: "), "{doctor}");
        assert!(daemon.stop().success());
    });
}

#[test]
fn a_node_without_a_collector_says_so() {
    let place = Place::new();
    block(async {
        let daemon = place.ready().await;
        assert!(line(&place, "status", "otlp").ends_with(" off"));
        let doctor = line(&place, "doctor", "otlp");
        assert!(doctor.contains("ok") && doctor.contains("names no collector"), "{doctor}");
        assert!(daemon.stop().success());
    });
}
