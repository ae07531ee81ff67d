//! An apply and a move of keys that are stopped in the middle: what passes while they stand there.
//!
//! ```text
//! client ==tunnel== server (router) ---- behind: one host with an address in each of four networks
//!        --lan0----                        both plans | the old one | the new one | neither
//! ```
//!
//! `strace` stops the process after each call with which it changes something or asks about it: for
//! files, for `nft`, over netlink and to the data plane. Then packets are sent, each the beginning of
//! a connection; then the process is killed, and the host read back.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use vyr_net::{Backend, NoKeys, Op, State, Userspace, ops, wanted};
use vyr_plan::Plan;
use vyr_space::{Namespace, not_run};

use crate::apply::{HANG, Office, PEER, SERVER, can, until};
use crate::rotate::{HOST, NEW, OLD, STAGED};

/// The hosts behind the router, in the order of [`Passes`].
const BEHIND: [&str; 4] = ["172.16.4.9", "172.16.2.9", "172.16.3.9", "172.16.1.9"];
/// The local networks of both plans: the last host's, and one other's each.
const OLD_LAN: &str = r#"lan = ["192.168.77.0/24", "172.16.1.0/24", "172.16.2.0/24"]"#;
const NEW_LAN: &str = r#"lan = ["192.168.77.0/24", "172.16.1.0/24", "172.16.3.0/24"]"#;

/// The calls after which a process is stopped: with these it writes records, starts `nft`, and
/// speaks with the kernel and the data plane.
const CALLS: &str = "rename,renameat,renameat2,pidfd_open,connect,write,sendto,sendmsg";

/// What begins a connection from the client to each host behind the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passes {
    neither: bool,
    old: bool,
    new: bool,
    both: bool,
}

const BY_OLD: Passes = Passes { neither: false, old: true, new: false, both: true };
const BY_NEW: Passes = Passes { neither: false, old: false, new: true, both: true };
const BY_BOTH: Passes = Passes { neither: false, old: false, new: false, both: true };

/// What is wrong with what was seen while a change from the old plan to the new one is stopped.
fn wrong(seen: Passes) -> Option<String> {
    let is_good = [BY_OLD, BY_NEW, BY_BOTH].contains(&seen);
    (!is_good).then(|| format!("neither plan alone, nor both, would let pass {seen:?}"))
}

/// Whether this can run here; says so if not, with every reason.
fn can_stop(test: &str) -> bool {
    let mut tried = Command::new("strace");
    tried.args(["-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    let why = match tried.status() {
        Err(_) => Some("strace is not installed"),
        // A container may keep it from its work.
        Ok(status) => (!status.success()).then_some("strace may not attach"),
    };
    why.iter().for_each(|why| not_run(test, why));
    can(test) && why.is_none()
}

/// A call to the kernel, as `strace` counts them: each kind by itself.
#[derive(Debug, Clone)]
struct Call {
    name: String,
    nth: usize,
}

/// A process that `strace` follows, and stops after some of its calls. Its children are not.
struct Traced {
    strace: Child,
    log: PathBuf,
}

impl Traced {
    /// Starts a command of the server; `at`: it is stopped after this call.
    fn start(office: &Office, arguments: &[&str], at: Option<&Call>) -> Self {
        let log = office.path("strace");
        // Whoever read the last one is gone; there may be none yet.
        let _ = fs::remove_file(&log);
        let plain = office.command(arguments);
        let strace = office.server.inside(|| {
            let mut command = Command::new("strace");
            command.arg("-qq").arg("-o").arg(&log).args(["-e", &format!("trace={CALLS}")]);
            if let Some(Call { name, nth }) = at {
                command.args(["-e", &format!("inject={name}:signal=STOP:when={nth}")]);
            }
            command.arg("--").arg(plain.get_program()).args(plain.get_args());
            for (name, value) in plain.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("strace is there")
        });
        Self { strace, log }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it stands still: what it did last. None: it ended before.
    fn stands(&mut self) -> Option<String> {
        let mut ended = false;
        until("a stop", || {
            ended = matches!(self.strace.try_wait(), Ok(Some(_)));
            ended || self.said().contains("--- stopped by SIGSTOP ---")
        });
        let said = self.said();
        let mut calls = said.lines().filter(|line| !line.starts_with("---"));
        (!ended).then(|| calls.next_back().unwrap_or_default().to_owned())
    }

    /// The calls that it made, from its start to its end.
    fn calls(mut self) -> Vec<Call> {
        until("the end of a command", || matches!(self.strace.try_wait(), Ok(Some(_))));
        let said = self.said();
        let names = said.lines().filter_map(|line| Some(line.split_once('(')?.0));
        let mut calls: Vec<Call> = Vec::new();
        for name in names.filter(|name| CALLS.split(',').any(|call| call == *name)) {
            let nth = 1 + calls.iter().filter(|call| call.name == name).count();
            calls.push(Call { name: name.to_owned(), nth });
        }
        calls
    }

    /// The process that is followed.
    fn process(&self) -> Option<Pid> {
        let pid = self.strace.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok().and_then(Pid::from_raw)
    }

    /// Kills the process; `strace` ends with it.
    fn kill(mut self) {
        if let Some(pid) = self.process() {
            kill_process(pid, Signal::KILL).expect("ours");
        }
        until("the end of strace", || matches!(self.strace.try_wait(), Ok(Some(_))));
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if let (Some(pid), Ok(None)) = (self.process(), self.strace.try_wait()) {
            // A test that failed leaves nobody standing.
            let _ = kill_process(pid, Signal::KILL);
            let _ = self.strace.wait();
        }
    }
}

/// The office with a network behind its server.
struct Crossing {
    office: Office,
    _behind: Namespace,
    hosts: [UdpSocket; 4],
    /// The way of management: a service of the server, at its own address.
    management: TcpListener,
}

impl Crossing {
    fn new(tag: &str) -> Self {
        let office = Office::new(tag);
        let behind = Namespace::make().expect("it was made before");
        office.server.ip(&format!(
            "link add lan1 type veth peer name far1\nlink set far1 netns {} name lan0\n\
             address add 172.16.0.1/16 dev lan1\nlink set lan1 up\n",
            behind.id()
        ));
        behind.ip("link set lo up\nlink set lan0 up\n");
        for host in BEHIND {
            behind.ip(&format!("address add {host}/16 dev lan0\n"));
        }
        behind.ip("route add default via 172.16.0.1\n");
        office.server.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may"));
        let hosts = BEHIND
            .map(|host| behind.inside(|| UdpSocket::bind((host, 7)).expect("its own address")));
        let management = office.server.inside(|| TcpListener::bind((SERVER, 22)).expect("free"));
        Self { office, _behind: behind, hosts, management }
    }

    /// A signed plan with these local networks.
    fn plan(&self, lan: &str, keys: &[(&str, usize, &str)]) -> String {
        let path = self.office.path("site/site.toml");
        let text = fs::read_to_string(&path).expect("a site");
        let with =
            |line: &str| if line.starts_with("lan = [") { lan.into() } else { line.to_owned() };
        let lines: Vec<String> = text.lines().map(with).collect();
        fs::write(&path, lines.join("\n") + "\n").expect("written");
        self.office.plan_of(keys)
    }

    /// Gives the client its tunnel, with all that is behind the router in it.
    fn connect(&self, plan: &str) {
        let office = &self.office;
        office.connect(plan);
        let server = office.vyr(&["server", "key", &office.link]);
        let allowed = "10.21.0.0/24,172.16.0.0/16";
        let set = ["set", &office.client_link, "peer", &server, "allowed-ips", allowed];
        office.client.run("wg", &set, "").expect("set");
        office.client.ip(&format!("route add 172.16.0.0/16 dev {}\n", office.client_link));
        until("the tunnel", || office.answers());
    }

    /// Sends the beginning of a connection to each host behind the router, the one that must pass
    /// last: on one way what was sent before it has arrived when it does.
    fn passes(&self) -> Passes {
        for host in &self.hosts {
            host.set_nonblocking(true).expect("a mode");
            while host.recv_from(&mut [0; 64]).is_ok() {}
        }
        let begun = Instant::now();
        let mut seen = [false; 4];
        while !seen[3] {
            assert!(begun.elapsed() < HANG, "what both plans let pass does not arrive");
            // Another port: another connection, of which the kernel remembers nothing.
            let client =
                self.office.client.inside(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
            for host in BEHIND {
                let to: SocketAddr = format!("{host}:7").parse().expect("an address");
                client.send_to(b"begin", to).expect("it is sent");
            }
            self.hosts[3].set_nonblocking(false).expect("a mode");
            self.hosts[3].set_read_timeout(Some(Duration::from_millis(500))).expect("a time");
            for (host, seen) in self.hosts.iter().zip(&mut seen).rev() {
                *seen |= match host.recv_from(&mut [0; 64]) {
                    Ok(_) => true,
                    Err(e) => {
                        let kind = e.kind();
                        assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{e}");
                        false
                    }
                };
            }
        }
        let [neither, old, new, both] = seen;
        Passes { neither, old, new, both }
    }

    /// Whether an operator can begin a connection to the server now, beside the tunnel.
    fn is_managed(&self) -> bool {
        let to: SocketAddr = format!("{SERVER}:22").parse().expect("an address");
        let open = || TcpStream::connect_timeout(&to, Duration::from_secs(10));
        let opened = self.office.client.inside(open);
        let from = opened.is_ok().then(|| self.management.accept().expect("it came").1.ip());
        from.is_some_and(|from| from.to_string() == PEER)
    }

    /// Waits until who died in the middle of a change is no matter any more: the host is as it was, or
    /// as it is to be. Then it is made as it was.
    fn recovers(&self, old: &str, new: &str, why: &str) {
        let office = &self.office;
        let pending = office.path("data/network/pending.json");
        let waits = || fs::read_to_string(&pending).is_ok_and(|text| text.contains("\"waiting\""));
        // By the timer, which hears that its maker died; before it was armed nothing was changed.
        until("recovery", || waits() || office.seen() == old);
        if waits() {
            // Its maker may have died before it told the timer, which takes it back just now.
            until("one of both", || [old, new].contains(&office.seen().as_str()));
            let output = office.output(&["rollback"]);
            assert!([Some(0), Some(4)].contains(&output.status.code()), "{why}: {output:?}");
        }
        assert_eq!(office.seen(), old, "{why}");
    }

    /// The host as one of its plans wants it.
    fn wanted(&self, plan: &str) -> State {
        let hex = plan.trim_start_matches("sha256:");
        let bytes = fs::read(self.office.path(&format!("site/plans/{hex}.json"))).expect("a plan");
        let plan = Plan::parse(&bytes).expect("a plan");
        wanted(&plan, "nas", &|_| None).expect("it has this machine")
    }
}

/// Which of these stops are tried: all of them at full size.
fn some(calls: &[Call], at_least: usize) -> impl Iterator<Item = &Call> {
    let step = match std::env::var_os("VYR_FULL") {
        Some(_) => 1,
        None => (calls.len() / at_least).max(1),
    };
    calls.iter().step_by(step)
}

#[test]
fn nothing_passes_a_stopped_apply_that_no_plan_allows() {
    let test = "stopped::nothing_passes_a_stopped_apply_that_no_plan_allows";
    if !can_stop(test) {
        return;
    }
    let crossing = Crossing::new("y");
    let office = &crossing.office;
    let site = office.site();
    let first = crossing.plan(OLD_LAN, &[("ana", 0, "active"), ("ben", 1, "active")]);
    office.vyr(&office.apply(&site, &first, &["--no-confirm"]));
    crossing.connect(&first);
    let old = office.seen();
    let second = crossing
        .plan(NEW_LAN, &[("ana", 0, "active"), ("ben", 1, "revoked"), ("cat", 2, "active")]);
    let arguments = office.apply(&site, &second, &["--confirm-within", "600s"]);
    assert_eq!(crossing.passes(), BY_OLD, "the judge sees what passes");
    let calls = Traced::start(office, &arguments, None).calls();
    let new = office.seen();
    assert_ne!(old, new);
    assert_eq!(crossing.passes(), BY_NEW, "and what does not");
    office.vyr(&["rollback"]);
    assert_eq!(office.seen(), old);

    let (mut between, mut stops) = (0, 0);
    for at in some(&calls, 24) {
        let mut traced = Traced::start(office, &arguments, Some(at));
        let Some(call) = traced.stands() else { break };
        stops += 1;
        let (there, seen) = (office.seen(), crossing.passes());
        between += u32::from(![&old, &new].contains(&&there));
        let why = format!("stopped after {}, {call}", at.name);
        assert_eq!(wrong(seen), None, "{why}");
        assert!(crossing.is_managed(), "{why}");
        traced.kill();
        crossing.recovers(&old, &new, &why);
    }
    println!("{} calls, stopped after {stops}, {between} times between both plans", calls.len());
    assert!(between > 0, "no stop was in the middle");

    // Its twin: the same steps, but with the firewall away while links change.
    let (from, to) = (crossing.wanted(&first), crossing.wanted(&second));
    let open = |op: Op| match op {
        Op::Firewall { .. } => Op::Firewall { to: None },
        op => op,
    };
    let steps: Vec<Op> = ops(&from, &to).into_iter().map(open).collect();
    assert!(matches!(steps.first(), Some(Op::Firewall { to: None })), "{steps:?}");
    let half = &steps[..steps.len() / 2];
    office.server.inside(|| Userspace::default().apply(half, &NoKeys)).expect("they can be taken");
    let caught = wrong(crossing.passes());
    assert!(caught.is_some_and(|what| what.contains("neither: true")), "an open firewall is seen");
}

#[test]
fn nobody_gets_anothers_packets_from_a_stopped_move() {
    let test = "stopped::nobody_gets_anothers_packets_from_a_stopped_move";
    if !can_stop(test) {
        return;
    }
    let crossing = Crossing::new("z");
    let office = &crossing.office;
    let plan = crossing.plan(OLD_LAN, &STAGED);
    office.vyr(&office.apply(&office.site(), &plan, &["--no-confirm"]));
    crossing.connect(&plan);
    office.shakes(NEW);
    let addresses = office.holders()[OLD].clone().expect("a peer").join(",");
    let ben = office.holders()[1].clone();
    let moved = office.path("data/network/moved.json");
    let arguments = [&["client", "move"], HOST.as_slice()].concat();
    let back = || {
        fs::remove_file(&moved)
            .or_else(|e| match e.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(e),
            })
            .expect("ours");
        let back = ["set", &office.link, "peer", &office.keys[OLD].1, "allowed-ips", &addresses];
        office.server.run("wg", &back, "").expect("set");
    };
    let calls = Traced::start(office, &arguments, None).calls();
    assert!(office.has(NEW), "the judge sees a move");
    // The device has its new key: what passes now passes because that has the addresses.
    assert_eq!(crossing.passes(), BY_OLD);
    back();

    let (mut before, mut after) = (0, 0);
    for at in some(&calls, 12) {
        let mut traced = Traced::start(office, &arguments, Some(at));
        let Some(call) = traced.stands() else { break };
        let why = format!("stopped after {}, {call}", at.name);
        let (has_old, has_new) = office.old_and_new();
        assert!(has_old != has_new, "{why}: {:?}", office.holders());
        assert_eq!(office.holders()[1], ben, "{why}");
        assert!(crossing.is_managed(), "{why}");
        match has_new {
            true => {
                assert!(moved.exists(), "{why}: it was set before it was written down");
                assert_eq!(crossing.passes(), BY_OLD, "{why}");
                after += 1;
            }
            false => {
                // The key that is in use has no address: nothing of it is answered.
                // Unless the data plane has done meanwhile what it was told last.
                assert!(!office.answers() || office.has(NEW), "{why}");
                before += 1;
            }
        }
        traced.kill();
        office.vyr(&arguments);
        assert!(office.has(NEW) && !office.has(OLD), "{why}");
        assert_eq!(office.drift(), "", "{why}");
        back();
    }
    println!("{} calls, stopped {before} times before the set and {after} after it", calls.len());
    assert!(before > 0 && after > 0, "they all stood on one side");

    // Its twin: addresses that nobody has are seen.
    let nobody = ["set", &office.link, "peer", &office.keys[OLD].1, "allowed-ips", ""];
    office.server.run("wg", &nobody, "").expect("set");
    assert_eq!(office.old_and_new(), (false, false), "both lack them");
}
