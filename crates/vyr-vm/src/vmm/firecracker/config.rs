//! What Firecracker is told before a guest runs: a machine with nothing in it that a guest does not
//! need. Names are below its root directory.

use serde_json::{Value, json};

use super::super::Spec;
use super::card::Card;
use super::place::{
    INITRAMFS, KERNEL, MEMORY, NEW_MEMORY, NEW_STATE, ROOT_DISK, SCRATCH, STATE, VSOCK,
};

/// What the kernel is told. The end of its first process ends the machine by a reset, which is the
/// only end that Firecracker knows.
const APPEND: &str = "console=ttyS0 quiet loglevel=4 panic=-1 reboot=k";

/// The guest's address on its vsock: the first that is nobody's.
const GUEST_CID: u32 = 3;

/// The card's name among Firecracker's devices.
const CARD: &str = "eth0";

/// What is put where, in this order, for a boot.
pub(super) fn boot(spec: &Spec, card: Option<&Card>) -> Vec<(String, Value)> {
    let mut all = machine(spec);
    if let Some(card) = card {
        let body = json!({
            "iface_id": CARD,
            "guest_mac": card.mac(),
            "host_dev_name": card.name(),
        });
        all.push((format!("/network-interfaces/{CARD}"), body));
    }
    all
}

/// Everything that the guest sees of its machine, but whether it has a card: a shape says that, and a
/// guest sets its card's address itself.
pub(super) fn seen(spec: &Spec) -> String {
    Value::from_iter(machine(spec)).to_string()
}

fn machine(spec: &Spec) -> Vec<(String, Value)> {
    let put = |path: &str, body| (path.to_owned(), body);
    let mut all = vec![
        put(
            "/machine-config",
            json!({
                "vcpu_count": spec.vcpus,
                "mem_size_mib": spec.memory_bytes >> 20,
                "smt": false,
            }),
        ),
        put(
            "/boot-source",
            json!({
                "kernel_image_path": KERNEL,
                "initrd_path": INITRAMFS,
                "boot_args": APPEND,
            }),
        ),
        put("/drives/root", drive("root", ROOT_DISK, true)),
        put("/vsock", json!({"guest_cid": GUEST_CID, "uds_path": VSOCK})),
    ];
    if spec.scratch_bytes.is_some() {
        all.push(put("/drives/scratch", drive("scratch", SCRATCH, false)));
    }
    all
}

/// The same for a snapshot, which names everything itself but the card.
pub(super) fn restore(card: Option<&Card>) -> Vec<(String, Value)> {
    let mut body = json!({
        "snapshot_path": STATE,
        "mem_backend": {"backend_type": "File", "backend_path": MEMORY},
        "resume_vm": false,
    });
    if let Some(card) = card {
        body["network_overrides"] = json!([{"iface_id": CARD, "host_dev_name": card.name()}]);
    }
    vec![("/snapshot/load".to_owned(), body)]
}

/// For `/snapshot/create`.
pub(super) fn store() -> Value {
    json!({"snapshot_type": "Full", "snapshot_path": NEW_STATE, "mem_file_path": NEW_MEMORY})
}

/// For `/actions`.
pub(super) fn start() -> Value {
    json!({"action_type": "InstanceStart"})
}

/// For `/vm`.
pub(super) fn pause() -> Value {
    json!({"state": "Paused"})
}

/// For `/vm`.
pub(super) fn resume() -> Value {
    json!({"state": "Resumed"})
}

fn drive(name: &str, path: &str, read_only: bool) -> Value {
    json!({
        "drive_id": name,
        "path_on_host": path,
        // The guest finds its root disk itself; the kernel is told nothing of it.
        "is_root_device": false,
        "is_read_only": read_only,
    })
}
