//! Calls with arguments nobody means: no panic, no use beyond the quota, and the state is still
//! good afterwards.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as p1;
use wiggle::GuestMemory;

use super::super::handle::Files;
use super::super::{Access, BoundState, EphemeralState};
use crate::control::{CancelHandle, Control};
use crate::limits::Limits;
use crate::run::TaskState;

const QUOTA: u64 = 20 * EphemeralState::NODE_BYTES;

/// Guest memory: paths, vectors and subscriptions that make sense, at known places.
const MEMORY: usize = 1 << 16;
const PATHS: [&str; 8] = ["f", "d", "d/f", "..", "d/../f", "/f", ".", "d/new"];
const VECTORS: i32 = 1024;
const SUBSCRIPTIONS: i32 = 2048;

fn memory() -> Vec<u8> {
    let mut memory = vec![0; MEMORY];
    for (index, path) in PATHS.iter().enumerate() {
        memory[index * 16..index * 16 + path.len()].copy_from_slice(path.as_bytes());
    }
    let vectors = usize::try_from(VECTORS).expect("small");
    for (index, (at, length)) in [(0, 0), (8192, 700), (16384, 9000), (-1, 9)].iter().enumerate() {
        let vector = vectors + index * 8;
        memory[vector..vector + 4].copy_from_slice(&i32::to_le_bytes(*at));
        memory[vector + 4..vector + 8].copy_from_slice(&i32::to_le_bytes(*length));
    }
    let subscriptions = usize::try_from(SUBSCRIPTIONS).expect("small");
    for (index, (tag, fd)) in [(1, 3), (2, 4), (1, 5), (1, 0)].iter().enumerate() {
        let subscription = subscriptions + index * 48;
        memory[subscription + 8] = *tag;
        memory[subscription + 16] = *fd;
    }
    memory
}

/// A number for any argument: descriptors, places in memory, lengths, flags, and noise.
fn word() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => 0i32..8,
        3 => (0i32..8).prop_map(|n| n * 16),
        3 => (0i32..4).prop_map(|n| VECTORS + n * 8),
        2 => (0i32..4).prop_map(|n| SUBSCRIPTIONS + n * 48),
        2 => prop_oneof![Just(8192), Just(65_535), Just(65_528), Just(i32::MAX), Just(-1)],
        1 => any::<i32>(),
    ]
}

fn long() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0i64..100,
        2 => prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(-1), Just(1 << 40)],
        1 => any::<i64>(),
    ]
}

type Call = (u8, [i32; 7], [i64; 2]);

fn call() -> impl Strategy<Value = Call> {
    let words = [word(), word(), word(), word(), word(), word(), word()];
    (0u8..32, words, [long(), long()])
}

/// Makes one call. What it answers is the guest's business; that it answers is ours.
async fn make(task: &mut TaskState, memory: &mut GuestMemory<'_>, call: Call) {
    let (which, [a, b, c, d, e, f, g], [x, y]) = call;
    // A path that is often one of ours, so that calls get past the first check.
    let (path, length) = (b.rem_euclid(8) * 16, c.rem_euclid(6));
    let _ = match which {
        0 => p1::fd_advise(task, memory, a, x, y, b).await,
        1 => p1::fd_allocate(task, memory, a, x, y),
        2 => p1::fd_close(task, memory, a).await,
        3 => p1::fd_datasync(task, memory, a).await,
        4 => p1::fd_fdstat_get(task, memory, a, b).await,
        5 => p1::fd_fdstat_set_flags(task, memory, a, b),
        6 => p1::fd_fdstat_set_rights(task, memory, a, x, y),
        7 => p1::fd_filestat_get(task, memory, a, b).await,
        8 => p1::fd_filestat_set_size(task, memory, a, x).await,
        9 => p1::fd_filestat_set_times(task, memory, a, x, y, b).await,
        10 => p1::fd_pread(task, memory, a, b, c, x, d).await,
        11 => p1::fd_prestat_get(task, memory, a, b),
        12 => p1::fd_prestat_dir_name(task, memory, a, b, c),
        13 => p1::fd_pwrite(task, memory, a, b, c, x, d).await,
        14 => p1::fd_read(task, memory, a, b, c, d).await,
        15 => p1::fd_readdir(task, memory, a, b, c, x, d).await,
        16 => p1::fd_renumber(task, memory, a, b).await,
        17 => p1::fd_seek(task, memory, a, x, b, c).await,
        18 => p1::fd_sync(task, memory, a).await,
        19 => p1::fd_tell(task, memory, a, b),
        20 => p1::fd_write(task, memory, a, b, c, d).await,
        21 => p1::path_create_directory(task, memory, a, path, length).await,
        22 => p1::path_filestat_get(task, memory, a, b, path, length, c).await,
        23 => p1::path_filestat_set_times(task, memory, a, b, path, length, x, y, c).await,
        24 => p1::path_link(task, memory, a, b, path, length, c, d, e).await,
        25 | 26 => p1::path_open(task, memory, a, b, path, length, f & 15, x, y, g & 31, d).await,
        27 => p1::path_readlink(task, memory, a, path, length, c, d, e).await,
        28 => p1::path_remove_directory(task, memory, a, path, length).await,
        29 => p1::path_rename(task, memory, a, path, length, d, (e & 7) * 16, f).await,
        30 => p1::path_unlink_file(task, memory, a, b, c).await,
        _ => p1::poll_oneoff(task, memory, a, b, c, d).await,
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_call_breaks_the_host_or_the_quota(
        calls in proptest::collection::vec(call(), 1..80),
        read_only in any::<bool>(),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let state = EphemeralState::new(QUOTA);
        let second = EphemeralState::new(QUOTA);
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let bound = |name: &str, state: &EphemeralState, access| {
            BoundState { name: name.into(), state: state.clone(), access }
        };
        let control = Arc::new(Control::new(Limits::default(), CancelHandle::new()));
        let states = vec![bound("a", &state, Access::ReadWrite), bound("b", &second, access)];
        let mut task = TaskState::of_files(Files::new(states, control));
        runtime.block_on(async {
            for call in calls {
                let mut bytes = memory();
                let mut memory = GuestMemory::Unshared(&mut bytes);
                // A wait for stdin or a clock is given up at once.
                let call = make(&mut task, &mut memory, call);
                let _ = tokio::time::timeout(Duration::ZERO, call).await;
                assert!(state.used_bytes() <= QUOTA && second.used_bytes() <= QUOTA);
            }
        });
        if read_only {
            prop_assert_eq!(second.used_bytes(), 0);
        }
        let weak = state.downgrade();
        drop(task);
        drop(state);
        prop_assert!(weak.upgrade().is_none());
    }
}

/// The seeds above do reach the calls: some of what is asked for is done.
#[test]
fn calls_that_make_sense_are_carried_out() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let state = EphemeralState::new(QUOTA);
    let states =
        vec![BoundState { name: "a".into(), state: state.clone(), access: Access::ReadWrite }];
    let control = Arc::new(Control::new(Limits::default(), CancelHandle::new()));
    let mut task = TaskState::of_files(Files::new(states, control));
    let mut bytes = memory();
    let mut memory = GuestMemory::Unshared(&mut bytes);
    runtime.block_on(async {
        let (all, create) = (0x1FFF_FFFF, 1);
        let opened = p1::path_open(&mut task, &mut memory, 3, 0, 0, 1, create, all, all, 0, 512);
        assert_eq!(opened.await.expect("no trap"), 0);
        let written = p1::fd_write(&mut task, &mut memory, 4, VECTORS, 3, 512);
        assert_eq!(written.await.expect("no trap"), 0);
        let polled = p1::poll_oneoff(&mut task, &mut memory, SUBSCRIPTIONS + 48, 4096, 3, 512);
        assert_eq!(polled.await.expect("no trap"), 0);
        // Over stdout, and read from there.
        assert_eq!(p1::fd_renumber(&mut task, &mut memory, 4, 1).await.expect("no trap"), 0);
        let read = p1::fd_pread(&mut task, &mut memory, 1, VECTORS, 3, 0, 520);
        assert_eq!(read.await.expect("no trap"), 0);
        let closed = p1::fd_close(&mut task, &mut memory, 4);
        assert_eq!(closed.await.expect("no trap"), 8, "it is at 1 now");
    });
    assert_eq!(state.used_bytes(), EphemeralState::NODE_BYTES + 1 + 700);
    let GuestMemory::Unshared(bytes) = memory else { unreachable!("made above") };
    assert_eq!(bytes[512..516], 1_u32.to_le_bytes(), "one event, of descriptor 4");
    assert_eq!(bytes[520..524], 700_u32.to_le_bytes());
}

/// What one call may ask for: a step less is answered, or is the guest's own fault.
#[test]
fn what_one_call_asks_for_is_bounded() {
    const INVAL: i32 = 28;
    const NAMETOOLONG: i32 = 37;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let state = EphemeralState::new(QUOTA);
    let states = vec![BoundState { name: "a".into(), state, access: Access::ReadWrite }];
    let control = Arc::new(Control::new(Limits::default(), CancelHandle::new()));
    let mut task = TaskState::of_files(Files::new(states, control));
    let mut bytes = vec![0; 2 << 20];
    bytes[0] = b'f';
    let mut memory = GuestMemory::Unshared(&mut bytes);
    runtime.block_on(async {
        let (task, memory) = (&mut task, &mut memory);
        let opened = p1::path_open(task, memory, 3, 0, 0, 1, 1, 0x1FFF_FFFF, 0, 0, 512);
        assert_eq!(opened.await.expect("no trap"), 0);
        for (count, wanted) in [(1024, 0), (1025, INVAL)] {
            let written = p1::fd_write(task, memory, 4, 4096, count, 512).await;
            assert_eq!(written.expect("no trap"), wanted, "{count} vectors to write");
            let read = p1::fd_read(task, memory, 4, 4096, count, 512).await;
            assert_eq!(read.expect("no trap"), wanted, "{count} vectors to read");
        }
        for (length, wanted) in [(1 << 20, 0), ((1 << 20) + 1, INVAL)] {
            let listed = p1::fd_readdir(task, memory, 3, 4096, length, 0, 512).await;
            assert_eq!(listed.expect("no trap"), wanted, "a listing of {length}");
        }
        let polled = p1::poll_oneoff(task, memory, 65_536, 4096, 1025, 512).await;
        assert_eq!(polled.expect("no trap"), INVAL);
        // As many bytes as a path may have, of slashes and one name; and one more.
        if let GuestMemory::Unshared(bytes) = memory {
            bytes[8192..8192 + 4096].fill(b'/');
            bytes[8192] = b'd';
        }
        let made = p1::path_create_directory(task, memory, 3, 8192, 4097).await;
        assert_eq!(made.expect("no trap"), NAMETOOLONG);
        let made = p1::path_create_directory(task, memory, 3, 8192, 4096).await;
        assert_eq!(made.expect("no trap"), 0);
    });
}

#[test]
fn a_stopped_task_makes_no_call() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let state = EphemeralState::new(QUOTA);
    let states = vec![BoundState { name: "a".into(), state, access: Access::ReadWrite }];
    let cancel = CancelHandle::new();
    let control = Arc::new(Control::new(Limits::default(), cancel.clone()));
    let mut task = TaskState::of_files(Files::new(states, control));
    let mut bytes = memory();
    let mut memory = GuestMemory::Unshared(&mut bytes);
    runtime.block_on(async {
        assert!(p1::path_create_directory(&mut task, &mut memory, 3, 16, 1).await.is_ok());
        cancel.cancel();
        assert!(p1::path_create_directory(&mut task, &mut memory, 3, 16, 1).await.is_err());
        assert!(p1::fd_tell(&mut task, &mut memory, 3, 512).is_err());
        assert!(p1::fd_write(&mut task, &mut memory, 1, VECTORS, 1, 512).await.is_err());
    });
}
