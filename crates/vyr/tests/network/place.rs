//! Network namespaces, and a machine of a plan among its neighbours.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vyr_base::Source;
use vyr_plan::plan::Machine;
use vyr_plan::{Files, Lock, Plan, allocate, compile, prove};

/// Says that `test` was not run, and why: to a reader, and to `cargo xtask ci`, which compares it
/// with `xtask/not-run.txt`.
pub(crate) fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        // One write, so that lines of tests at once do not mix.
        log.and_then(|mut log| log.write_all(format!("{test}: {reason}\n").as_bytes()))
            .expect("the log can be written");
    }
}

/// Whether what these tests need is there; says so if not.
pub(crate) fn is_able(test: &str) -> bool {
    let mut missing = Vec::new();
    for (program, question) in [("nft", "--version"), ("ip", "-V"), ("unshare", "--version")] {
        let asked = Command::new(program).arg(question).stdout(Stdio::null()).status();
        if !asked.is_ok_and(|status| status.success()) {
            missing.push(format!("{program} is not installed"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        missing.push("needs root".into());
    }
    if missing.is_empty() {
        // Root in a container may have no right to make one, and a kernel no nftables.
        match Namespace::make() {
            None => missing.push("may not make network namespaces".into()),
            Some(space) if space.try_nft("add table inet vyr\n").is_err() => {
                missing.push("nftables does not work here".into());
            }
            Some(_) => (),
        }
    }
    missing.iter().for_each(|reason| not_run(test, reason));
    missing.is_empty()
}

/// The transaction without the commands that `gone` says.
pub(crate) fn without(firewall: &str, gone: impl Fn(usize, &str) -> bool) -> String {
    let mut lines: Vec<&str> = firewall.lines().collect();
    let (head, tail) = (lines.remove(0), lines.pop().expect("it ends"));
    let left = lines.iter().enumerate().filter(|(at, line)| !gone(*at, line));
    let left: Vec<&str> = left.map(|(_, line)| line.trim_end_matches(',')).collect();
    format!("{head}\n{}\n{tail}\n", left.join(",\n"))
}

/// Changes to the worked site, each a text that must be there and what replaces it.
pub(crate) type Changes<'a> = &'a [(&'a str, &'a str)];

/// The plan of the worked site with some changes.
pub(crate) fn office(changes: Changes<'_>) -> Plan {
    let mut site = include_str!("../../../../examples/office/site.toml").to_owned();
    let mut clients = include_str!("../../../../examples/office/clients.toml").to_owned();
    for (old, new) in changes {
        assert!(site.contains(old) || clients.contains(old), "{old}");
        site = site.replace(old, new);
        clients = clients.replace(old, new);
    }
    let files = Files {
        site: Source::new("site.toml", site),
        clients: Some(Source::new("clients.toml", clients)),
        signers: None,
        contracts: Vec::new(),
        lock: None,
    };
    let intent = files.read().expect("it is read");
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    let plan = compile(&intent, &lock).expect("it compiles");
    assert_eq!(prove(&plan, None), []);
    plan
}

/// A network namespace. It is there as long as its keeper, which ends when nobody holds the other
/// end of its stdin any more.
pub(crate) struct Namespace {
    keeper: Child,
    file: File,
}

impl Namespace {
    pub(crate) fn make() -> Option<Self> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo here; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let said = BufReader::new(keeper.stdout.take()?).read_line(&mut line);
        let file = File::open(format!("/proc/{}/ns/net", keeper.id()));
        match (said, line.as_str(), file) {
            (Ok(_), "here\n", Ok(file)) => Some(Self { keeper, file }),
            _ => {
                let _ = keeper.kill();
                let _ = keeper.wait();
                None
            }
        }
    }

    /// Does something inside: sockets made there and programs started there stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.file.as_fd(), network).expect("it can be entered");
            work()
        };
        // A thread's namespace is its own, and ends with it.
        std::thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| {
            std::panic::resume_unwind(panic);
        })
    }

    /// The process whose namespace it is.
    pub(crate) fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// Runs a program inside; what it printed, or what it said.
    pub(crate) fn run(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        self.inside(|| {
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it starts");
            let mut stdin = child.stdin.take().expect("it is piped");
            stdin.write_all(input.as_bytes()).expect("it reads");
            drop(stdin);
            let output = child.wait_with_output().expect("it ends");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            match output.status.success() {
                true => Ok(text(&output.stdout)),
                false => Err(text(&output.stderr)),
            }
        })
    }

    /// One transaction, in nftables' own language or in JSON. From a file: what `nft -j` cannot
    /// parse it reads again as its own language, and a pipe is empty by then, which is no error.
    pub(crate) fn try_nft(&self, commands: &str) -> Result<String, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(commands.as_bytes()).expect("it is written");
        let path = file.path().to_str().expect("UTF-8");
        let json = commands.starts_with('{');
        let arguments: &[&str] = if json { &["-j", "-f", path] } else { &["-f", path] };
        self.run("nft", arguments, "")
    }

    /// The same, of what is good.
    pub(crate) fn nft(&self, commands: &str) {
        self.try_nft(commands).unwrap_or_else(|e| panic!("nft: {e}"));
    }

    /// What a set of numbers or texts has in it.
    pub(crate) fn elements(&self, table: &str, set: &str) -> Vec<serde_json::Value> {
        let asked = self.run("nft", &["-j", "list", "set", "inet", table, set], "");
        let text = asked.unwrap_or_else(|e| panic!("nft: {e}"));
        let listed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let found = listed["nftables"].as_array().expect("a list").iter();
        let found = found.filter_map(|object| object["set"]["elem"].as_array());
        found.flatten().cloned().collect()
    }

    pub(crate) fn ip(&self, commands: &str) {
        let done = self.run("ip", &["-batch", "-"], commands);
        done.unwrap_or_else(|e| panic!("ip: {e}\n{commands}"));
    }

    /// As its settings below `/proc/sys/net` say.
    fn set(&self, settings: &[(&str, &str)]) {
        self.inside(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/net/{name}");
                fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
            }
        });
    }

    fn raw(&self, family: AddressFamily) -> OwnedFd {
        self.inside(|| socket(family, SocketType::RAW, Some(ipproto::RAW)).expect("root may"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// What is behind one interface of a machine: it sends any packet, and answers as who it is told.
pub(crate) struct Side {
    /// The machine's interface.
    pub(crate) name: String,
    pub(crate) space: Namespace,
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Side {
    /// Sends a whole packet, header and all.
    pub(crate) fn send(&self, to: IpAddr, packet: &[u8]) {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let sent = sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0));
        // What it refuses to send is missed where it should arrive.
        let _ = sent;
    }
}

/// A machine: its links are interfaces of that name, its local networks are behind `lan0`, and the
/// rest of the world is behind `wan0`.
pub(crate) struct Site {
    pub(crate) machine: Namespace,
    pub(crate) sides: Vec<Side>,
}

/// The machine's own addresses outside: documentation has them (RFC 5737, RFC 3849).
pub(crate) const OUTSIDE: [&str; 2] = ["198.51.100.2", "2001:db8:ffff::2"];

/// The hardware address of an end: the machine's or the other one.
fn mac(at: usize, far: bool) -> String {
    format!("02:00:00:00:{at:02x}:{:02x}", u8::from(far))
}

impl Site {
    pub(crate) fn new(plan: &Plan, of: &Machine) -> Self {
        let machine = Namespace::make().expect("it was made before");
        let loose = [
            // Sources are WireGuard's to check, and strangers' packets must arrive to be judged.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
        ];
        machine.set(&loose);
        let names = of.links.iter().map(|link| link.name.clone());
        let names: Vec<String> = names.chain(["lan0".into(), "wan0".into()]).collect();
        let mut commands = String::from("link set lo up\n");
        for (at, name) in names.iter().enumerate() {
            let (near, far) = (mac(at, false), mac(at, true));
            let _ = writeln!(
                commands,
                "link add {name} address {near} type veth peer name far{at} address {far}"
            );
            let _ = writeln!(commands, "link set {name} up");
        }
        for link in &of.links {
            for address in &link.addresses {
                let nodad = if address.addr().is_ipv6() { "nodad" } else { "" };
                let _ = writeln!(commands, "address add {address} dev {} {nodad}", link.name);
            }
        }
        for own in &of.management {
            let lans = plan.interfaces.iter().flat_map(|interface| &interface.lan);
            let lan = lans.into_iter().find(|lan| lan.contains(own));
            let whole = if own.is_ipv4() { 32 } else { 128 };
            let bits = lan.map_or(whole, |lan| lan.prefix_len());
            let nodad = if own.is_ipv6() { "nodad" } else { "" };
            let _ = writeln!(commands, "address add {own}/{bits} dev lan0 {nodad}");
        }
        let outer = mac(names.len() - 1, true);
        for (own, bits, gateway) in
            [(OUTSIDE[0], 24, "198.51.100.1"), (OUTSIDE[1], 64, "2001:db8:ffff::1")]
        {
            let nodad = if bits == 64 { "nodad" } else { "" };
            let _ = writeln!(commands, "address add {own}/{bits} dev wan0 {nodad}");
            let _ =
                writeln!(commands, "neighbour add {gateway} lladdr {outer} dev wan0 nud permanent");
            let _ = writeln!(commands, "route add default via {gateway} dev wan0");
        }
        machine.ip(&commands);
        let sides = names.into_iter().enumerate();
        let sides = sides.map(|(at, name)| Self::beside(&machine, at, name)).collect();
        Self { machine, sides }
    }

    fn beside(machine: &Namespace, at: usize, name: String) -> Side {
        let space = Namespace::make().expect("it was made before");
        machine.ip(&format!("link set far{at} netns {} name far\n", space.keeper.id()));
        let gateway = mac(at, false);
        // Everything goes to the machine, whose answer to a question for its address is not
        // waited for.
        space.ip(&format!(
            "link set lo up\n\
             address add 169.254.1.2/32 dev far\n\
             link set far up\n\
             neighbour add 169.254.1.1 lladdr {gateway} dev far nud permanent\n\
             neighbour add fe80::1 lladdr {gateway} dev far nud permanent\n\
             route add default via 169.254.1.1 dev far onlink\n\
             route add default via fe80::1 dev far onlink\n"
        ));
        let (v4, v6) = (space.raw(AddressFamily::INET), space.raw(AddressFamily::INET6));
        Side { name, space, v4, v6 }
    }

    /// Gives a side addresses: then it answers to them. The machine is told who has them, since
    /// nobody asks a link's neighbours for theirs, and a firewall for links lets nobody answer.
    pub(crate) fn is_at(&self, name: &str, addresses: &[IpAddr]) {
        let at = self.sides.iter().position(|side| side.name == name).expect("it is there");
        for ip in addresses {
            let (bits, nodad) = if ip.is_ipv4() { (32, "") } else { (128, "nodad") };
            self.sides[at].space.ip(&format!("address add {ip}/{bits} dev far {nodad}\n"));
            let far = mac(at, true);
            self.machine.ip(&format!("neighbour add {ip} lladdr {far} dev {name} nud permanent\n"));
        }
    }

    /// What is behind an interface.
    pub(crate) fn side(&self, name: &str) -> &Side {
        self.sides.iter().find(|side| side.name == name).expect("it is there")
    }
}
