//! What a process gives up before it touches a stranger's bytes.
//!
//! In order: core dumps and open-file count; the root directory, user id, groups and capabilities
//! (when it has them); new privileges; every path and TCP port (Landlock); every system call but
//! those a running guest or a compiler makes (seccomp). After that it can compute, wait, and use the
//! descriptors it holds or is sent. It dies with the process that started it.
//!
//! Landlock and seccomp overlap on purpose: seccomp already forbids `open` and `socket`, and a
//! kernel without Landlock loses one of two locks (`doctor` says so). Without seccomp a process
//! refuses to go on.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getuid, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Role;

/// Descriptors a confined process may hold: three a task and a few of its own.
const OPEN_FILES_MAX: u64 = 4096;

/// `PAGEMAP_SCAN` on x86-64 and aarch64: `_IOWR('f', 16, struct pm_scan_arg)`, 96 bytes.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// Why a process cannot be confined. It must not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine this process ({step}): {cause}")]
pub struct ConfineError {
    step: &'static str,
    cause: String,
}

fn step<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |cause| ConfineError { step, cause: cause.to_string() }
}

/// Limits of the process as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessLimits {
    /// Address space in bytes; `None` for a process that reserves pools.
    pub address_space_bytes: Option<u64>,
    /// Processor time in seconds.
    pub cpu_s: Option<u64>,
    /// Size of any file it writes, in bytes.
    pub file_bytes: Option<u64>,
}

/// Confines this process to `role`. There must be no other thread yet: user ids and capabilities
/// belong to a thread, and those started later inherit them.
pub fn confine(role: Role, limits: ProcessLimits) -> Result<(), ConfineError> {
    set_limits(limits)?;
    drop_identity(role)?;
    // After the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("parent-death signal"))?;
    set_no_new_privs(true).map_err(step("no new privileges"))?;
    forbid_paths()?;
    // glibc starts threads with clone3, whose arguments a filter cannot read; told that the call
    // does not exist it uses clone, whose flags can be checked. First, because the second filter
    // forbids to install another.
    install_clone3()?;
    install(&allowed_calls())
}

fn set_limits(limits: ProcessLimits) -> Result<(), ConfineError> {
    let set = |resource, most: u64| {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    set(Resource::Core, 0).map_err(step("core size"))?;
    set(Resource::Nofile, OPEN_FILES_MAX).or_else(|_| {
        // The present hard limit is lower: keep it.
        let present = rustix::process::getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: present, maximum: present })
            .map_err(step("open files"))
    })?;
    if let Some(bytes) = limits.address_space_bytes {
        set(Resource::As, bytes).map_err(step("address space"))?;
    }
    if let Some(seconds) = limits.cpu_s {
        set(Resource::Cpu, seconds).map_err(step("processor time"))?;
    }
    if let Some(bytes) = limits.file_bytes {
        set(Resource::Fsize, bytes).map_err(step("file size"))?;
    }
    Ok(())
}

/// Moves the root to a directory in which, for the user this process becomes, nothing can be
/// looked up: the list of its own descriptors, which stays root's. Landlock forbids to open paths
/// but not to ask for their metadata; without root that much remains, and `doctor` says so.
fn hide_paths() -> Result<(), ConfineError> {
    rustix::process::chroot("/proc/self/fdinfo").map_err(step("root directory"))?;
    rustix::process::chdir("/").map_err(step("working directory"))
}

fn drop_identity(role: Role) -> Result<(), ConfineError> {
    if getuid().is_root() {
        hide_paths()?;
        let number = role.uid().ok_or("a role of its own").map_err(step("user id"))?;
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_thread_groups(&[]).map_err(step("groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(step("group id"))?;
        set_thread_res_uid(uid, uid, uid).map_err(step("user id"))?;
    }
    drop_capabilities()
}

fn drop_capabilities() -> Result<(), ConfineError> {
    clear_ambient_capability_set().map_err(step("ambient capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(step("capabilities"))
}

/// The directories of the process `api`.
#[derive(Debug)]
pub(super) struct ApiPaths {
    /// Those it may change.
    pub(super) writable: Vec<std::path::PathBuf>,
    /// Files it may read besides the system's.
    pub(super) readable: Vec<std::path::PathBuf>,
}

/// What a name lookup and certificates need to be read.
const READABLE: [&str; 4] = ["/etc", "/usr", "/lib", "/proc"];

/// Confines the process `api`: no capability, no new program, no path but its own. It keeps its user,
/// whose files the data directory holds, and its network. There must be no other thread yet.
pub(super) fn confine_api(paths: &ApiPaths) -> Result<(), ConfineError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(step("core size"))?;
    // As many connections as the system lets it have.
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
        .map_err(step("open files"))?;
    drop_capabilities()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("parent-death signal"))?;
    set_no_new_privs(true).map_err(step("no new privileges"))?;
    let read = AccessFs::from_read(LANDLOCK) & !AccessFs::Execute;
    let write = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(|rules| {
            rules
                .add_rules(path_beneath_rules(READABLE, read))?
                .add_rules(path_beneath_rules(paths.readable.iter(), read))?
                .add_rules(path_beneath_rules(paths.writable.iter(), write))
        });
    rules.and_then(landlock::RulesetCreated::restrict_self).map_err(step("landlock"))?;
    let refused = SeccompAction::Errno(errno(libc::EPERM));
    let forbidden: Rules = FORBIDDEN_FOR_API.iter().map(|call| (*call, Vec::new())).collect();
    apply(SeccompFilter::new(forbidden, SeccompAction::Allow, refused, architecture()?))
}

/// Confines the process `guide`: the two capabilities its programs need, if it has any, and paths
/// below /proc, where threads are described. There must be no other thread yet.
pub(super) fn confine_guide(has_programs: bool) -> Result<(), ConfineError> {
    set_limits(ProcessLimits::default())?;
    let kept = match has_programs {
        true => CapabilitySet::BPF | CapabilitySet::PERFMON,
        false => CapabilitySet::empty(),
    };
    let held = rustix::thread::capabilities(None).map_err(step("capabilities"))?.permitted & kept;
    if getuid().is_root() {
        let number = Role::Guide.uid().ok_or("a role of its own").map_err(step("user id"))?;
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_thread_groups(&[]).map_err(step("groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(step("group id"))?;
        set_keep_capabilities(true).map_err(step("keep capabilities"))?;
        set_thread_res_uid(uid, uid, uid).map_err(step("user id"))?;
    }
    // The change of user closed /proc/self to this process, where it looks its descriptors up.
    // Nobody else has its user id, and core files are off.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(step("dumpable"))?;
    clear_ambient_capability_set().map_err(step("ambient capabilities"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: none };
    set_capabilities(None, sets).map_err(step("capabilities"))?;
    // After the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("parent-death signal"))?;
    set_no_new_privs(true).map_err(step("no new privileges"))?;
    let read = AccessFs::from_read(LANDLOCK) & !AccessFs::Execute;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules(["/proc"], read)))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(step("landlock"))?;
    install_clone3()?;
    let mut calls = allowed_calls();
    for call in [libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_openat] {
        calls.insert(call, Vec::new());
    }
    // Perf events are started and stopped by it.
    calls.insert(libc::SYS_ioctl, Vec::new());
    install(&calls)
}

/// Confines the process that takes a change of the network back: one capability, for it and for the
/// `nft` that it starts.
pub(crate) fn confine_timer() -> Result<(), ConfineError> {
    let kept = CapabilitySet::NET_ADMIN;
    keep_in_bounding_set(kept)?;
    keep_capabilities(kept)?;
    set_no_new_privs(true).map_err(step("no new privileges"))
}

/// Takes all others away for good, from this process and from whatever it starts.
fn keep_in_bounding_set(kept: CapabilitySet) -> Result<(), ConfineError> {
    for one in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
        // Who made the change may have given it up before: then nobody may take it away again.
        match rustix::thread::capability_is_in_bounding_set(one) {
            Ok(true) => {}
            // A kernel that does not know it does not give it either.
            Ok(false) | Err(rustix::io::Errno::INVAL) => continue,
            Err(e) => return Err(step("bounding set")(e)),
        }
        rustix::thread::remove_capability_from_bounding_set(one).map_err(step("bounding set"))?;
    }
    Ok(())
}

/// Keeps those of these that it has, for itself.
fn keep_capabilities(kept: CapabilitySet) -> Result<(), ConfineError> {
    clear_ambient_capability_set().map_err(step("ambient capabilities"))?;
    let held = rustix::thread::capabilities(None).map_err(step("capabilities"))?.permitted & kept;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: none };
    set_capabilities(None, sets).map_err(step("capabilities"))
}

/// Confines the process `net`: one capability, for it, the `nft` and the confirm timer that it starts;
/// of the node's files only `network`. There must be no other thread yet.
pub(super) fn confine_net(network: &std::path::Path) -> Result<(), ConfineError> {
    set_limits(ProcessLimits::default())?;
    confine_timer()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("parent-death signal"))?;
    let all = AccessFs::from_all(LANDLOCK);
    let read = AccessFs::from_read(LANDLOCK);
    let null = AccessFs::ReadFile | AccessFs::WriteFile;
    // Whoever may open it makes links only with the capability.
    let tun = null | (all & AccessFs::IoctlDev);
    let file = AccessFs::ReadFile | AccessFs::Execute;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(Ruleset::create)
        .and_then(|rules| {
            rules
                .add_rules(path_beneath_rules(PROGRAMS, read))?
                .add_rules(path_beneath_rules(
                    ["/etc", "/proc", "/run"],
                    read & !AccessFs::Execute,
                ))?
                // Sockets of WireGuard lie where somebody says; their names are no secret.
                .add_rules(path_beneath_rules(["/"], AccessFs::ReadDir))?
                .add_rules(path_beneath_rules(["/dev/null"], null))?
                .add_rules(path_beneath_rules(["/dev/net/tun"], tun))?
                .add_rules(path_beneath_rules(LINK_SETTINGS, null | AccessFs::ReadDir))?
                // The timer is this program, wherever it is by now.
                .add_rules(path_beneath_rules(["/proc/self/exe"], file))?
                .add_rules(path_beneath_rules([network], all & !AccessFs::Execute))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map(|_| ())
        .map_err(step("landlock"))
}

/// What the process `machines` keeps.
#[derive(Debug)]
pub(super) struct Machines {
    /// Of VMMs, if they have users of their own.
    pub(super) users: Option<std::ops::RangeInclusive<u32>>,
    /// A group of VMMs besides those of their users' numbers.
    pub(super) kvm_group: Option<u32>,
    /// Directories that it may change, besides the one it works in.
    pub(super) writable: Vec<std::path::PathBuf>,
    /// Directories that it may read, besides those of programs.
    pub(super) readable: Vec<std::path::PathBuf>,
}

/// Confines the process `machines`, and with it every VMM that it starts: no network but sockets that
/// have a name on disk, no path but its own and what programs need; three capabilities under root, of
/// which two are good for the users of VMMs alone. VMMs go on without it. There must be no other
/// thread yet.
pub(super) fn confine_machines(machines: &Machines) -> Result<(), ConfineError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(step("core size"))?;
    // A few for each machine, as many as the system lets it have.
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
        .map_err(step("open files"))?;
    let kept = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    if getuid().is_root() {
        keep_in_bounding_set(kept)?;
        let number = Role::Machines.uid().ok_or("a role of its own").map_err(step("user id"))?;
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_thread_groups(&[]).map_err(step("groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(step("group id"))?;
        set_keep_capabilities(true).map_err(step("keep capabilities"))?;
        set_thread_res_uid(uid, uid, uid).map_err(step("user id"))?;
        keep_capabilities(kept)?;
    } else {
        drop_capabilities()?;
    }
    // Secrets pass through its memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("dumpable"))?;
    // After the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("parent-death signal"))?;
    set_no_new_privs(true).map_err(step("no new privileges"))?;
    let all = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
    let read = AccessFs::from_read(LANDLOCK);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let plain = read & !AccessFs::Execute;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        // Not signals: VMMs of an earlier life are outside of this one's domain.
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
        .and_then(Ruleset::create)
        .and_then(|rules| {
            rules
                .add_rules(path_beneath_rules(PROGRAMS, read))?
                .add_rules(path_beneath_rules(["/etc", "/proc", "/sys"], plain))?
                .add_rules(path_beneath_rules(machines.readable.iter(), plain))?
                .add_rules(path_beneath_rules(["/dev/null", "/dev/urandom", "/dev/kvm"], device))?
                .add_rules(path_beneath_rules(["."], all))?
                .add_rules(path_beneath_rules(machines.writable.iter(), all))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(step("landlock"))?;
    // Told that clone3 does not exist, libraries use clone, whose flags can be read.
    install_clone3()?;
    let refused = SeccompAction::Errno(errno(libc::EPERM));
    let forbidden = forbidden_for_machines(machines);
    apply(SeccompFilter::new(forbidden, SeccompAction::Allow, refused, architecture()?))
}

/// What starting VMMs never needs. VMMs have the same filter, and one more of their own.
fn forbidden_for_machines(machines: &Machines) -> Rules {
    let mut rules: Rules = FORBIDDEN_FOR_API
        .iter()
        .filter(|call| ![libc::SYS_execve, libc::SYS_fork, libc::SYS_vfork].contains(call))
        .map(|call| (*call, Vec::new()))
        .collect();
    let change = [
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
    ];
    rules.extend(change.map(|call| (call, Vec::new())));
    // None at all, as a VMM has them.
    rules.insert(libc::SYS_setgroups, one_of([vec![condition(0, SeccompCmpOp::Ne, 0)]]));
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, one_of([vec![condition(0, SeccompCmpOp::Ne, unix)]]));
    }
    let new = |flag: i32| {
        let flag = u64::from(flag.unsigned_abs());
        vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)]
    };
    let one = [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET].map(new);
    rules.insert(libc::SYS_clone, one_of(one));
    match &machines.users {
        // Nobody but a VMM's user, in either call.
        Some(users) => {
            let outside = || {
                let (first, last) = (u64::from(*users.start()), u64::from(*users.end()));
                [
                    vec![condition(0, SeccompCmpOp::Lt, first)],
                    vec![condition(0, SeccompCmpOp::Gt, last)],
                ]
            };
            rules.insert(libc::SYS_setuid, one_of(outside()));
            let but = machines.kvm_group.map(u64::from);
            let outside = outside().map(|mut all| {
                all.extend(but.map(|group| condition(0, SeccompCmpOp::Ne, group)));
                all
            });
            rules.insert(libc::SYS_setgid, one_of(outside));
        }
        None => {
            rules.insert(libc::SYS_setuid, Vec::new());
            rules.insert(libc::SYS_setgid, Vec::new());
        }
    }
    rules
}

/// Settings of links. The capability is for them, too, and they are written only for TAPs.
pub(super) const LINK_SETTINGS: [&str; 2] = ["/proc/sys/net/ipv6/conf", "/proc/sys/net/ipv4/conf"];

/// Where programs and their libraries are.
const PROGRAMS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt"];

/// Confines an ingress: it keeps its sockets, may connect over IPv4 and IPv6, and can listen at no
/// other address, open no path and start nothing. It goes on without whoever started it. There must be
/// no other thread yet.
///
/// # Errors
/// A step failed; it must not go on.
pub fn confine_ingress() -> Result<(), ConfineError> {
    // Its open files are bounded by its configuration, and it raises that limit itself.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(step("core size"))?;
    if getuid().is_root() {
        hide_paths()?;
        let number = Role::Ingress.uid().ok_or("a role of its own").map_err(step("user id"))?;
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_thread_groups(&[]).map_err(step("groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(step("group id"))?;
        set_thread_res_uid(uid, uid, uid).map_err(step("user id"))?;
    }
    drop_capabilities()?;
    set_no_new_privs(true).map_err(step("no new privileges"))?;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(step("landlock"))?;
    install_clone3()?;
    let mut calls = allowed_calls();
    for call in [
        libc::SYS_accept4,
        libc::SYS_connect,
        libc::SYS_shutdown,
        libc::SYS_splice,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_getsockopt,
        libc::SYS_setsockopt,
    ] {
        calls.insert(call, Vec::new());
    }
    let is = |argument, value| condition(argument, SeccompCmpOp::Eq, value);
    let family = |family: i32| vec![is(0, u64::from(family.unsigned_abs()))];
    calls.insert(libc::SYS_socket, one_of([family(libc::AF_INET), family(libc::AF_INET6)]));
    // Its limits, to read.
    calls.insert(libc::SYS_prlimit64, one_of([vec![is(2, 0)]]));
    install(&calls)
}

/// Confines the process `listen`: the capability to take any port, if it has it, and sockets that
/// listen. There must be no other thread yet.
pub(super) fn confine_listen() -> Result<(), ConfineError> {
    set_limits(ProcessLimits::default())?;
    let kept = CapabilitySet::NET_BIND_SERVICE;
    let held = rustix::thread::capabilities(None).map_err(step("capabilities"))?.permitted & kept;
    if getuid().is_root() {
        hide_paths()?;
        let number = Role::Listen.uid().ok_or("a role of its own").map_err(step("user id"))?;
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_thread_groups(&[]).map_err(step("groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(step("group id"))?;
        set_keep_capabilities(true).map_err(step("keep capabilities"))?;
        set_thread_res_uid(uid, uid, uid).map_err(step("user id"))?;
    }
    clear_ambient_capability_set().map_err(step("ambient capabilities"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: none };
    set_capabilities(None, sets).map_err(step("capabilities"))?;
    // After the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("parent-death signal"))?;
    set_no_new_privs(true).map_err(step("no new privileges"))?;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::ConnectTcp))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(step("landlock"))?;
    let mut calls = allowed_calls();
    for call in [libc::SYS_bind, libc::SYS_listen, libc::SYS_setsockopt] {
        calls.insert(call, Vec::new());
    }
    let family =
        |family: i32| vec![condition(0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()))];
    calls.insert(libc::SYS_socket, one_of([family(libc::AF_INET), family(libc::AF_INET6)]));
    install(&calls)
}

/// The most that one file of `images` may have, in bytes: more than the largest disk, which is no
/// larger than what an image may have unpacked (50 GiB).
const IMAGE_FILE_BYTES_MAX: u64 = 64 << 30;

/// Address space of `images`, and of the tar2sqfs that it starts: names of an image take up to 256 MiB.
const IMAGES_MEMORY_BYTES: u64 = 4 << 30;

/// Confines the process `images`: no capability, under root its own user; of the machine's files what
/// name lookups, TLS and tar2sqfs read, of the node's only `root`. It connects to registries and
/// listens nowhere. There must be no other thread yet.
pub(super) fn confine_images(root: &std::path::Path) -> Result<(), ConfineError> {
    set_limits(ProcessLimits {
        address_space_bytes: Some(IMAGES_MEMORY_BYTES),
        cpu_s: None,
        file_bytes: Some(IMAGE_FILE_BYTES_MAX),
    })?;
    let all = AccessFs::from_all(LANDLOCK);
    let read = AccessFs::from_read(LANDLOCK);
    let write = all & !AccessFs::Execute & !AccessFs::MakeSym & !AccessFs::MakeSock;
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
    // As root, who may open what is above `root`.
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(|rules| {
            rules
                .add_rules(path_beneath_rules(PROGRAMS, read))?
                .add_rules(path_beneath_rules(RESOLVING, read & !AccessFs::Execute))?
                .add_rules(path_beneath_rules(named, read & !AccessFs::Execute))?
                .add_rules(path_beneath_rules(
                    ["/dev/null"],
                    AccessFs::ReadFile | AccessFs::WriteFile,
                ))?
                .add_rules(path_beneath_rules([root], write))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(step("landlock"))?;
    if getuid().is_root() {
        let number = Role::Images.uid().ok_or("a role of its own").map_err(step("user id"))?;
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_thread_groups(&[]).map_err(step("groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(step("group id"))?;
        set_thread_res_uid(uid, uid, uid).map_err(step("user id"))?;
    }
    drop_capabilities()?;
    // After the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("parent-death signal"))?;
    set_no_new_privs(true).map_err(step("no new privileges"))?;
    let refused = SeccompAction::Errno(errno(libc::EPERM));
    let starting = [libc::SYS_execve, libc::SYS_fork, libc::SYS_vfork];
    let forbidden = FORBIDDEN_FOR_API.iter().filter(|call| !starting.contains(call));
    let forbidden: Rules = forbidden.map(|call| (*call, Vec::new())).collect();
    apply(SeccompFilter::new(forbidden, SeccompAction::Allow, refused, architecture()?))
}

/// Besides programs, what a name lookup reads. systemd's own stub file lies in `/run`.
const RESOLVING: [&str; 2] = ["/etc", "/run/systemd/resolve"];

/// What serving never needs: other programs, other processes, the kernel's own settings.
const FORBIDDEN_FOR_API: [i64; 25] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
];

/// The newest Landlock whose rights this code names; an older kernel enforces what it knows.
const LANDLOCK: ABI = ABI::V6;

fn forbid_paths() -> Result<(), ConfineError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map(|_| ())
        .map_err(step("landlock"))
}

/// Whether this kernel has Landlock: for `doctor`. Asked in a thread that then ends, since asking
/// means to restrict oneself.
pub fn landlock_is_there() -> bool {
    let ask = || {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::Execute)
            .and_then(Ruleset::create)
            .and_then(landlock::RulesetCreated::restrict_self);
        rules.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
    };
    std::thread::spawn(ask).join().unwrap_or(false)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The system calls of a running guest, of a compiler, and of the runtime under both.
fn allowed_calls() -> Rules {
    let always = [
        // Descriptors it holds.
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_lseek,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_fstatfs,
        libc::SYS_fcntl,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        // A pipe for large output, whose other end it gives away.
        libc::SYS_pipe2,
        libc::SYS_sendto,
        // Memory. (A component's initial memory is a memory file of Wasmtime's own.)
        libc::SYS_memfd_create,
        libc::SYS_ftruncate,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        // Threads and time. (Of two filters the stricter answer counts: clone3 does not exist.)
        libc::SYS_clone3,
        libc::SYS_futex,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_getrandom,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Traps are signals.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_tgkill,
        // Waiting.
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_eventfd2,
    ];
    let mut rules: Rules = always.into_iter().map(|call| (call, Vec::new())).collect();
    let is = |argument, value| condition(argument, SeccompCmpOp::Eq, value);
    // The size of a descriptor's file, as std and Wasmtime ask for it. A filter cannot see that
    // the path is empty, so metadata of paths could be asked for as well: see `hide_paths`.
    let of_descriptor = u64::from(libc::AT_EMPTY_PATH.unsigned_abs());
    rules.insert(libc::SYS_statx, one_of([vec![is(2, of_descriptor)]]));
    rules.insert(libc::SYS_newfstatat, one_of([vec![is(3, of_descriptor)]]));
    // A thread, never a process.
    let thread = condition(
        0,
        SeccompCmpOp::MaskedEq(u64::from(libc::CLONE_THREAD.unsigned_abs())),
        u64::from(libc::CLONE_THREAD.unsigned_abs()),
    );
    rules.insert(libc::SYS_clone, one_of([vec![thread]]));
    // A descriptor of a thread, to show to `guide`; nothing here may do more with one.
    let of_thread = u64::from(libc::O_EXCL.unsigned_abs());
    rules.insert(libc::SYS_pidfd_open, one_of([vec![is(1, of_thread)]]));
    // Only its own name.
    rules.insert(
        libc::SYS_prctl,
        one_of([vec![is(0, u64::from(libc::PR_SET_NAME.unsigned_abs()))]]),
    );
    rules.insert(libc::SYS_ioctl, one_of([vec![is(1, PAGEMAP_SCAN)], vec![is(1, libc::FIONBIO)]]));
    rules
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .expect("system calls have six arguments")
}

fn one_of<const N: usize>(alternatives: [Vec<SeccompCondition>; N]) -> Vec<SeccompRule> {
    alternatives
        .into_iter()
        .map(|all| SeccompRule::new(all).expect("a rule has a condition"))
        .collect()
}

fn install(rules: &Rules) -> Result<(), ConfineError> {
    let forbidden = SeccompAction::Errno(errno(libc::EPERM));
    apply(SeccompFilter::new(rules.clone(), forbidden, SeccompAction::Allow, architecture()?))
}

fn install_clone3() -> Result<(), ConfineError> {
    let rules = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompAction::Errno(errno(libc::ENOSYS));
    apply(SeccompFilter::new(rules, SeccompAction::Allow, absent, architecture()?))
}

fn apply(filter: Result<SeccompFilter, seccompiler::BackendError>) -> Result<(), ConfineError> {
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(step("seccomp filter"))?;
    seccompiler::apply_filter(&program).map_err(step("seccomp"))
}

fn architecture() -> Result<TargetArch, ConfineError> {
    std::env::consts::ARCH.try_into().map_err(step("seccomp architecture"))
}

/// Error numbers are small and positive.
fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}
